//! When reports are due, and what they tell about the round-trip time.

use std::time::{Duration, Instant};

use visavis_datagram::Random;
use visavis_rtp::rtcp::ReportBlock;

/// When the next compound report is due: an interval, spread by half of it either way so that the
/// reports of many do not come together (RFC 3550 section 6.3.1).
#[derive(Debug, Clone)]
pub struct ReportSchedule {
    interval: Duration,
    next: Option<Instant>,
}

impl ReportSchedule {
    /// Browsers use 1 s for video and 5 s for audio.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: None,
        }
    }

    /// Another interval, from the next report on.
    pub const fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Begins: the first report is due half an interval from now, spread likewise.
    pub fn start(&mut self, now: Instant, random: &mut Random) {
        self.next = Some(now + self.spread(random) / 2);
    }

    /// When the next report is due.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether a report is due; the one after it is scheduled.
    pub fn poll(&mut self, now: Instant, random: &mut Random) -> bool {
        if self.next.is_none_or(|next| now < next) {
            return false;
        }
        self.next = Some(now + self.spread(random));
        true
    }

    fn spread(&self, random: &mut Random) -> Duration {
        self.interval.mul_f64(0.5 + random.unit())
    }
}

/// The round-trip time, from report blocks or extended reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundTrip {
    latest: Option<Duration>,
    smoothed: Option<Duration>,
}

impl RoundTrip {
    /// Takes a report block that arrived when the middle 32 bits of our NTP time were `now`.
    pub fn handle_block(&mut self, now: u32, block: &ReportBlock) -> Option<Duration> {
        let ticks = block.round_trip(now)?;
        // 1/65536 s; the shift keeps the precision of a nanosecond.
        let trip = Duration::from_nanos((u64::from(ticks) * 1_000_000_000) >> 16);
        self.update(trip);
        Some(trip)
    }

    /// Takes a measurement, e.g. of an extended report (RFC 3611) or of STUN.
    pub fn update(&mut self, trip: Duration) {
        self.latest = Some(trip);
        self.smoothed = Some(match self.smoothed {
            Some(smoothed) => (smoothed * 7 + trip) / 8,
            None => trip,
        });
    }

    /// The latest measurement.
    pub const fn latest(&self) -> Option<Duration> {
        self.latest
    }

    /// The moving average, an eighth of each new measurement.
    pub const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_within_half_and_one_and_a_half_intervals() {
        let start = Instant::now();
        let mut random = Random::from_u64(3);
        let mut schedule = ReportSchedule::new(Duration::from_secs(1));
        assert!(!schedule.poll(start, &mut random));
        schedule.start(start, &mut random);
        let mut now = schedule.poll_timeout().unwrap();
        for _ in 0..100 {
            assert!(schedule.poll(now, &mut random));
            let next = schedule.poll_timeout().unwrap();
            let gap = (next - now).as_millis();
            assert!((500..=1500).contains(&gap), "{gap}");
            now = next;
        }
    }

    #[test]
    fn round_trip_of_a_report_block() {
        let mut trip = RoundTrip::default();
        let block = ReportBlock {
            last_sr: 0x0010_0000,
            delay_since_last_sr: 0x0001_0000,
            ..ReportBlock::default()
        };
        let measured = trip.handle_block(0x0011_8000, &block).unwrap();
        assert_eq!(measured, Duration::from_millis(500));
        assert_eq!(trip.smoothed(), Some(measured));
        assert_eq!(trip.handle_block(5, &ReportBlock::default()), None);
    }
}
