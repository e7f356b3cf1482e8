//! The delay-based rate: additive or multiplicative increase, multiplicative decrease, and what is
//! known of the link's capacity. draft-ietf-rmcat-gcc-02 section 5.5, as browsers run it.

use std::time::Duration;

use crate::trendline::BandwidthUsage;

/// Growth per second while the capacity is unknown.
const GROWTH: f64 = 1.08;
/// The same while the queue is short. Browsers grow no faster then.
const QUICK_GROWTH: f64 = 1.3;
/// The same on the way back to a known capacity, once the queue has drained that a decrease was for.
const RETURN_GROWTH: f64 = 3.0;
/// The share of the known capacity that it goes back to.
const KNOWN_SHARE: f64 = 0.98;
/// Against what fills the queue: additive growth is so much faster, decreases so far apart.
const COMPETING_GROWTH: f64 = 4.0;
const COMPETING_INTERVAL: Duration = Duration::from_secs(1);
/// The least additive growth in bits per second per second.
const LEAST_GROWTH: f64 = 4_000.0;
/// Throughput is believed without over-use after this time.
const INITIALIZATION: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Hold,
    Increase,
    Decrease,
}

/// What the throughput was at over-use: near it, growth is careful. Kilobits per second.
#[derive(Debug, Default)]
struct LinkCapacity {
    estimate: Option<f64>,
    deviation: f64,
}

impl LinkCapacity {
    fn update(&mut self, sample: f64, weight: f64) {
        let sample = sample / 1e3;
        let former = self.estimate.unwrap_or(sample);
        let estimate = (1.0 - weight) * former + weight * sample;
        let error = estimate - sample;
        let normalised = error * error / estimate.max(1.0);
        let deviation = (1.0 - weight) * self.deviation + weight * normalised;
        self.deviation = deviation.clamp(0.4, 2.5);
        self.estimate = Some(estimate);
    }

    /// The bounds within which the estimate is believed, in bits per second.
    fn bounds(&self) -> Option<(f64, f64)> {
        let estimate = self.estimate?;
        let width = 3.0 * (self.deviation * estimate).sqrt();
        Some(((estimate - width).max(0.0) * 1e3, (estimate + width) * 1e3))
    }
}

#[derive(Debug)]
pub(crate) struct Aimd {
    mode: Mode,
    capacity: LinkCapacity,
    current: f64,
    min: f64,
    max: f64,
    initialized: bool,
    first_throughput: Option<Duration>,
    changed: Option<Duration>,
    rtt: Duration,
    /// Factor of the decrease. Browsers: 0.85.
    pub(crate) beta: f64,
    /// Whether the queue is short: then growth is quick, and quicker still to what is known to be there.
    pub(crate) queue_is_short: bool,
    /// Whether something else fills the queue: then the share is held, not given up.
    pub(crate) competing: bool,
    /// Whether the estimate stands still while the sender has less to send than it may.
    pub(crate) hold_in_alr: bool,
}

/// Times are since the controller's start, rates in bits per second.
impl Aimd {
    pub(crate) fn new(start: f64, min: f64, max: f64) -> Self {
        Self {
            mode: Mode::Hold,
            capacity: LinkCapacity::default(),
            current: start,
            min,
            max,
            initialized: false,
            first_throughput: None,
            changed: None,
            rtt: Duration::from_millis(200),
            beta: 0.85,
            queue_is_short: false,
            competing: false,
            hold_in_alr: true,
        }
    }

    pub(crate) fn estimate(&self) -> f64 {
        self.current
    }

    pub(crate) fn is_initialized(&self) -> bool {
        self.initialized
    }

    pub(crate) fn set_bounds(&mut self, min: f64, max: f64) {
        self.min = min;
        self.max = max;
        self.current = self.current.clamp(min, max);
    }

    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    pub(crate) fn set_estimate(&mut self, now: Duration, estimate: f64) {
        self.initialized = true;
        self.current = estimate.clamp(self.min, self.max);
        self.changed = Some(now);
    }

    /// Notes what a probe has found.
    pub(crate) fn probed(&mut self, bitrate: f64) {
        self.capacity.update(bitrate, 0.5);
    }

    /// Whether a further decrease may follow the last one.
    pub(crate) fn may_reduce(&self, now: Duration, throughput: Option<f64>) -> bool {
        let least = if self.competing {
            COMPETING_INTERVAL
        } else {
            Duration::from_millis(10)
        };
        let interval = self.rtt.clamp(least, least.max(Duration::from_millis(200)));
        let waited = self
            .changed
            .is_none_or(|changed| now.saturating_sub(changed) >= interval);
        waited || throughput.is_some_and(|throughput| throughput < 0.5 * self.current)
    }

    /// Goes on to the rate that follows from the delay and from what arrives.
    pub(crate) fn update(
        &mut self,
        now: Duration,
        usage: BandwidthUsage,
        throughput: Option<f64>,
        in_alr: bool,
    ) {
        if !self.initialized
            && let Some(throughput) = throughput
        {
            let first = *self.first_throughput.get_or_insert(now);
            if now.saturating_sub(first) > INITIALIZATION {
                self.current = throughput.max(self.current);
                self.initialized = true;
            }
        }
        if !self.initialized && usage != BandwidthUsage::Overusing {
            return;
        }
        match usage {
            BandwidthUsage::Normal if self.mode == Mode::Hold => {
                self.changed = Some(now);
                self.mode = Mode::Increase;
            }
            BandwidthUsage::Normal => {}
            BandwidthUsage::Overusing => self.mode = Mode::Decrease,
            BandwidthUsage::Underusing => self.mode = Mode::Hold,
        }
        match self.mode {
            Mode::Hold => {}
            Mode::Increase => self.increase(now, throughput.unwrap_or(self.current), in_alr),
            Mode::Decrease => self.decrease(now, throughput.unwrap_or(self.current)),
        }
        self.current = self.current.clamp(self.min, self.max);
    }

    fn increase(&mut self, now: Duration, throughput: f64, in_alr: bool) {
        if self
            .capacity
            .bounds()
            .is_some_and(|(_, upper)| throughput > upper)
        {
            self.capacity = LinkCapacity::default();
        }
        let elapsed = self
            .changed
            .map_or(Duration::ZERO, |changed| now.saturating_sub(changed))
            .min(Duration::from_secs(1))
            .as_secs_f64();
        self.changed = Some(now);
        // Without traffic to prove it, a higher estimate is a guess.
        let limit = 1.5 * throughput + 10_000.0;
        if self.current >= limit || (in_alr && self.hold_in_alr) {
            return;
        }
        let multiplicative = |growth: f64| {
            let growth = self.current * (growth.powf(elapsed) - 1.0);
            self.current + growth.max(1_000.0 * elapsed)
        };
        let increased = match self.capacity.estimate {
            None if self.queue_is_short => multiplicative(QUICK_GROWTH),
            None => multiplicative(GROWTH),
            Some(known) => {
                let known = known * 1e3 * KNOWN_SHARE;
                if self.queue_is_short && self.current < known {
                    multiplicative(RETURN_GROWTH).min(known)
                } else {
                    let factor = if self.competing {
                        COMPETING_GROWTH
                    } else {
                        1.0
                    };
                    self.current + self.additive() * factor * elapsed
                }
            }
        };
        self.current = increased.min(limit);
    }

    fn decrease(&mut self, now: Duration, throughput: f64) {
        let mut decreased = throughput * self.beta;
        if decreased > self.current
            && let Some(estimate) = self.capacity.estimate
        {
            decreased = self.beta * estimate * 1e3;
        }
        if decreased < self.current {
            self.current = decreased;
        }
        if self
            .capacity
            .bounds()
            .is_some_and(|(lower, _)| throughput < lower)
        {
            self.capacity = LinkCapacity::default();
        }
        self.initialized = true;
        self.capacity.update(throughput, 0.05);
        self.mode = Mode::Hold;
        self.changed = Some(now);
    }

    /// About one packet per response time, in bits per second per second.
    fn additive(&self) -> f64 {
        let frame = self.current / 30.0;
        let packets = (frame / (1200.0 * 8.0)).ceil().max(1.0);
        let response = self.rtt.as_secs_f64() + 0.1;
        (frame / packets / response).max(LEAST_GROWTH)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Aimd;
    use crate::trendline::BandwidthUsage::{Normal, Overusing, Underusing};

    #[test]
    fn overuse_goes_below_the_throughput_and_growth_is_careful_from_there() {
        let mut aimd = Aimd::new(1e6, 1e4, 1e8);
        let at = Duration::from_millis;
        aimd.set_estimate(at(0), 1e6);
        aimd.update(at(100), Normal, Some(1e6), false);
        aimd.update(at(1100), Normal, Some(1e6), false);
        assert!((1.07e6..1.09e6).contains(&aimd.estimate()));
        aimd.update(at(1200), Overusing, Some(1e6), false);
        assert_eq!(aimd.estimate(), 0.85e6);
        aimd.update(at(1300), Underusing, Some(1e6), false);
        assert_eq!(aimd.estimate(), 0.85e6);
        aimd.update(at(1400), Normal, Some(0.85e6), false);
        aimd.update(at(2400), Normal, Some(0.85e6), false);
        let grown = aimd.estimate() - 0.85e6;
        assert!((4_000.0..40_000.0).contains(&grown), "{grown}");
    }
}
