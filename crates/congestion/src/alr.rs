//! Whether the sender sends less than it may: the application-limited region.

use std::time::Duration;

/// The share of the estimate that counts as all of it.
const USAGE: f64 = 0.65;
/// The budget's length in seconds.
const WINDOW: f64 = 0.5;
/// Shares of the budget left over at which the region begins and ends.
const START: f64 = 0.80;
const STOP: f64 = 0.50;

/// Times are since the controller's start.
#[derive(Debug, Default)]
pub(crate) struct AlrDetector {
    rate: f64,
    /// Bytes that could have been sent and were not; negative when more was sent.
    budget: f64,
    last: Option<Duration>,
    since: Option<Duration>,
}

impl AlrDetector {
    /// Sets the estimate in bits per second.
    pub(crate) fn set_estimate(&mut self, estimate: f64) {
        self.rate = estimate * USAGE;
        let most = self.most();
        self.budget = self.budget.clamp(-most, most);
    }

    /// Since when the sender has had less to send than it may; `None` where that is not so.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.since
    }

    pub(crate) fn sent(&mut self, now: Duration, size: usize) {
        let most = self.most();
        if let Some(last) = self.last {
            let elapsed = now.saturating_sub(last).as_secs_f64();
            let gained = self.rate / 8.0 * elapsed;
            // Debt is made good, credit is not hoarded beyond the window.
            self.budget = (self.budget + gained).min(most);
        }
        self.last = Some(now);
        self.budget = (self.budget - size as f64).max(-most);
        if most <= 0.0 {
            return;
        }
        let ratio = self.budget / most;
        if ratio > START && self.since.is_none() {
            self.since = Some(now);
        } else if ratio < STOP {
            self.since = None;
        }
    }

    fn most(&self) -> f64 {
        self.rate / 8.0 * WINDOW
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::AlrDetector;

    #[test]
    fn sending_a_tenth_is_limited_by_the_application_and_sending_all_is_not() {
        let mut alr = AlrDetector::default();
        alr.set_estimate(1e6);
        let mut now = Duration::ZERO;
        for _ in 0..200 {
            now += Duration::from_millis(10);
            alr.sent(now, 125);
        }
        assert!(alr.since().is_some());
        for _ in 0..200 {
            now += Duration::from_millis(10);
            alr.sent(now, 1250);
        }
        assert!(alr.since().is_none());
    }
}
