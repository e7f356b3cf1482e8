//! Round-trip time and the retransmission time-out (RFC 9260 section 6.3.1).

use std::time::Duration;

use crate::Rto;
use crate::clock::Time;

/// How long the least round trip stays valid.
const MIN_WINDOW: Duration = Duration::from_secs(10);

/// The estimator.
#[derive(Debug)]
pub(crate) struct RttEstimator {
    bounds: Rto,
    smoothed: Option<Duration>,
    variation: Duration,
    min: Duration,
    min_at: Time,
    rto: Duration,
    backoff: u32,
}

impl RttEstimator {
    pub(crate) fn new(bounds: Rto) -> Self {
        Self {
            bounds,
            smoothed: None,
            variation: Duration::ZERO,
            min: Duration::MAX,
            min_at: Time::ZERO,
            rto: bounds.initial,
            backoff: 0,
        }
    }

    /// A measurement; those of retransmitted chunks do not count (Karn).
    pub(crate) fn sample(&mut self, now: Time, rtt: Duration) {
        if rtt <= self.min || now.since(self.min_at) > MIN_WINDOW {
            self.min = rtt;
            self.min_at = now;
        }
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
        self.backoff = 0;
        let smoothed = self.smoothed.unwrap_or(rtt);
        // The least value stands for the variation: a round trip that never varies would else leave
        // no time for the round trip of a retransmission.
        self.rto = (smoothed + (self.variation * 4).max(self.bounds.min)).min(self.bounds.max);
    }

    /// A time-out: the next one comes later.
    pub(crate) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// Whether the time-out has grown since the last progress.
    pub(crate) fn is_backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// Progress: back to the measured time-out.
    pub(crate) fn forget_backoff(&mut self) {
        self.backoff = 0;
    }

    /// The time-out now.
    pub(crate) fn rto(&self) -> Duration {
        self.rto
            .saturating_mul(1 << self.backoff)
            .min(self.bounds.max)
    }

    /// The smoothed round trip.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The least measurement of late; zero before the first.
    pub(crate) fn min(&self) -> Duration {
        if self.smoothed.is_some() {
            self.min
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RttEstimator;
    use crate::Rto;
    use crate::clock::Time;

    #[test]
    fn rto_follows_rfc_9260_section_6_3_1() {
        let mut rtt = RttEstimator::new(Rto {
            initial: Duration::from_secs(1),
            min: Duration::from_millis(100),
            max: Duration::from_secs(10),
        });
        assert_eq!(rtt.rto(), Duration::from_secs(1));
        rtt.sample(Time::ZERO, Duration::from_millis(200));
        assert_eq!(rtt.rto(), Duration::from_millis(600), "SRTT + 4 * SRTT/2");
        rtt.sample(Time::ZERO, Duration::from_millis(280));
        // RTTVAR = 3/4 * 100 + 1/4 * 80 = 95, SRTT = 210.
        assert_eq!(rtt.rto(), Duration::from_millis(590));
        rtt.back_off();
        assert_eq!(rtt.rto(), Duration::from_millis(1180));
        for _ in 0..10 {
            rtt.back_off();
        }
        assert_eq!(rtt.rto(), Duration::from_secs(10));
        rtt.sample(Time::ZERO, Duration::from_millis(1));
        assert!(
            rtt.rto() < Duration::from_secs(1),
            "a sample ends the back-off"
        );
    }
}
