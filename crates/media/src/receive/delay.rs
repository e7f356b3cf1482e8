//! How late packets come: the delay of each against the least delay of the last seconds, and how much
//! of it a jitter buffer has to absorb.

use std::time::{Duration, Instant};

use visavis_rtp::TimestampExtender;

/// Width of a histogram's bucket in microseconds.
const BUCKET: i64 = 5_000;
/// Buckets: delays up to 1.28 s.
const BUCKETS: usize = 256;
/// The least delay is that of this window and the one before: long enough to meet an empty queue,
/// short enough to follow the drift of clocks.
const WINDOW: Duration = Duration::from_secs(10);

/// Tracks the delay of one stream's packets or frames.
#[derive(Debug)]
pub struct DelayTracker {
    clock_rate: u32,
    extender: TimestampExtender,
    epoch: Option<(Instant, u64)>,
    /// Least delay in microseconds of this window and of the one before.
    least: (i64, i64),
    window_end: Option<Instant>,
    histogram: [f32; BUCKETS],
    /// What is left of the weight of each sample when the next one comes.
    forgetting: f32,
    samples: u32,
}

impl DelayTracker {
    /// For a clock of `clock_rate` ticks per second, with samples at about `rate` per second: the
    /// histogram remembers some six seconds.
    pub fn new(clock_rate: u32, rate: f32) -> Self {
        Self {
            clock_rate,
            extender: TimestampExtender::new(),
            epoch: None,
            least: (i64::MAX, i64::MAX),
            window_end: None,
            histogram: [0.0; BUCKETS],
            forgetting: 1.0 - 1.0 / (6.0 * rate.max(1.0)),
            samples: 0,
        }
    }

    /// Microseconds of an extended timestamp since the first one.
    fn media_micros(&self, timestamp: u64) -> Option<i64> {
        let (_, first) = self.epoch?;
        let ticks = timestamp as i128 - i128::from(first);
        Some((ticks * 1_000_000 / i128::from(self.clock_rate.max(1))) as i64)
    }

    /// Takes what came at `now`, and gives how much later it came than the fastest.
    pub fn sample(&mut self, now: Instant, timestamp: u32) -> Duration {
        let extended = self.extender.extend(timestamp);
        let (epoch, _) = *self.epoch.get_or_insert((now, extended));
        let media = self.media_micros(extended).unwrap_or(0);
        let arrival = now.saturating_duration_since(epoch).as_micros() as i64;
        let delay = arrival - media;
        // A jump of the timestamp by more than ten seconds begins anew.
        if self.samples > 0 && (delay - self.least()).abs() > 10_000_000 {
            self.reset();
            return self.sample(now, timestamp);
        }
        if self.window_end.is_none_or(|end| now >= end) {
            self.window_end = Some(now + WINDOW);
            self.least = (delay, self.least.0);
        }
        self.least.0 = self.least.0.min(delay);
        let relative = (delay - self.least()).max(0);
        let bucket = ((relative / BUCKET) as usize).min(BUCKETS - 1);
        self.samples = self.samples.saturating_add(1);
        // The first samples weigh what an average of so few gives them.
        let keep = self.forgetting.min(1.0 - 1.0 / self.samples as f32);
        for weight in &mut self.histogram {
            *weight *= keep;
        }
        self.histogram[bucket] += 1.0 - keep;
        Duration::from_micros(relative as u64)
    }

    fn least(&self) -> i64 {
        self.least.0.min(self.least.1)
    }

    /// The delay that the share `quantile` (0.0 to 1.0) of samples stays below.
    pub fn quantile(&self, quantile: f32) -> Duration {
        let mut sum = 0.0;
        for (bucket, weight) in self.histogram.iter().enumerate() {
            sum += weight;
            if sum >= quantile - 1e-4 {
                return Duration::from_micros((bucket as u64 + 1) * BUCKET as u64);
            }
        }
        Duration::from_micros(BUCKET as u64)
    }

    /// When something with this timestamp would come if it came as fast as the fastest.
    pub fn earliest(&self, timestamp: u32) -> Option<Instant> {
        let (epoch, _) = self.epoch?;
        let micros = self.media_micros(self.extender.peek(timestamp))? + self.least();
        if micros >= 0 {
            Some(epoch + Duration::from_micros(micros as u64))
        } else {
            epoch.checked_sub(Duration::from_micros(micros.unsigned_abs()))
        }
    }

    /// How many samples were taken since the beginning or a jump.
    pub const fn samples(&self) -> u32 {
        self.samples
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        let (clock_rate, forgetting) = (self.clock_rate, self.forgetting);
        *self = Self::new(clock_rate, 1.0);
        self.forgetting = forgetting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_delays() {
        let start = Instant::now();
        let mut tracker = DelayTracker::new(90_000, 30.0);
        for frame in 0..300u64 {
            // One in ten 80 ms late.
            let late = if frame % 10 == 9 { 80 } else { 0 };
            let now = start + Duration::from_millis(frame * 40 + late);
            let delay = tracker.sample(now, frame as u32 * 3600);
            assert_eq!(delay.as_millis(), u128::from(late));
        }
        assert_eq!(tracker.quantile(0.5).as_millis(), 5);
        assert_eq!(tracker.quantile(0.97).as_millis(), 85);
        let earliest = tracker.earliest(300 * 3600).unwrap();
        assert_eq!((earliest - start).as_millis(), 12_000);
    }

    #[test]
    fn a_slow_clock_is_followed() {
        let start = Instant::now();
        let mut tracker = DelayTracker::new(90_000, 30.0);
        let mut last = Duration::ZERO;
        for frame in 0..30_000u64 {
            // The sender's clock is 200 ppm slow.
            let now = start + Duration::from_micros(frame * 33_333 + frame * 7);
            last = tracker.sample(now, (frame * 3_000) as u32);
        }
        assert!(last.as_millis() < 6, "{last:?}");
    }

    #[test]
    fn a_jump_of_the_timestamp_begins_anew() {
        let start = Instant::now();
        let mut tracker = DelayTracker::new(90_000, 30.0);
        for frame in 0..50u32 {
            tracker.sample(start + Duration::from_millis(40) * frame, frame * 3600);
        }
        let delay = tracker.sample(start + Duration::from_secs(2), 4_000_000_000);
        assert_eq!(delay, Duration::ZERO);
        assert_eq!(tracker.samples(), 1);
    }
}
