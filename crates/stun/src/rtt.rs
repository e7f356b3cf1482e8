//! A retransmission timeout that follows measured round trips (RFC 6298, as RFC 8489 section 6.2.1 asks).

use std::time::Duration;

/// Smoothed round-trip time and the timeout that follows from it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RttEstimator {
    /// Smoothed round-trip time and its variance; `None` before the first sample.
    state: Option<(Duration, Duration)>,
}

impl RttEstimator {
    /// Takes one measured round trip. Only of requests that were sent once (Karn's algorithm).
    pub fn sample(&mut self, rtt: Duration) {
        // A sample of an hour says nothing more than one of a minute, and keeps the sums small.
        let rtt = rtt.min(Duration::from_secs(60));
        self.state = Some(match self.state {
            None => (rtt, rtt / 2),
            Some((smoothed, variance)) => (
                (smoothed * 7 + rtt) / 8,
                (variance * 3 + smoothed.abs_diff(rtt)) / 4,
            ),
        });
    }

    /// The smoothed round-trip time; `None` before the first sample.
    pub fn smoothed(&self) -> Option<Duration> {
        self.state.map(|(smoothed, _)| smoothed)
    }

    /// The timeout, at least `minimum` (500 ms towards servers, RFC 8489 section 6.2.1), which is also the
    /// timeout before the first sample.
    pub fn timeout(&self, minimum: Duration) -> Duration {
        self.state
            .map_or(minimum, |(smoothed, variance)| smoothed + variance * 4)
            .max(minimum)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RttEstimator;

    #[test]
    fn rfc_6298_section_2() {
        let ms = Duration::from_millis;
        let mut rtt = RttEstimator::default();
        assert_eq!(rtt.timeout(ms(500)), ms(500));
        rtt.sample(ms(200));
        assert_eq!(rtt.timeout(ms(0)), ms(200 + 4 * 100));
        rtt.sample(ms(200));
        assert_eq!(rtt.timeout(ms(0)), ms(200 + 4 * 75));
        for _ in 0..100 {
            rtt.sample(ms(200));
        }
        assert_eq!(rtt.smoothed(), Some(ms(200)));
        assert_eq!(rtt.timeout(ms(500)), ms(500));
    }
}
