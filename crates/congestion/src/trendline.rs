//! Whether the delay grows: a line through the latest group delays, and a threshold that adapts.
//!
//! draft-ietf-rmcat-gcc-02 section 5.4 (over-use detector), with the trendline filter that browsers
//! use in place of its Kalman filter.

/// Groups that the line goes through.
const WINDOW: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// Scales the slope to the threshold's unit.
const GAIN: f64 = 4.0;
/// The slope counts in full from so many groups on.
const FULL_WEIGHT: f64 = 60.0;
/// Over-use must last so long to be believed (milliseconds).
const OVERUSE_TIME: f64 = 10.0;
/// The threshold's start, bounds, and speeds (draft section 5.4).
const THRESHOLD: f64 = 12.5;
const THRESHOLD_MIN: f64 = 6.0;
const THRESHOLD_MAX: f64 = 600.0;
const THRESHOLD_UP: f64 = 0.0087;
const THRESHOLD_DOWN: f64 = 0.039;
/// Spikes so far above the threshold do not move it.
const SPIKE: f64 = 15.0;

/// What the delay says of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BandwidthUsage {
    /// The queue is steady.
    #[default]
    Normal,
    /// The queue drains.
    Underusing,
    /// The queue grows.
    Overusing,
}

#[derive(Debug)]
pub(crate) struct Trendline {
    /// Arrival time since the first, and smoothed delay (milliseconds both), of the latest groups in a ring: the line does
    /// not ask for their order.
    arrivals: [f64; WINDOW],
    delays: [f64; WINDOW],
    /// How many groups there were, and the place of the next one.
    count: usize,
    first_arrival: Option<f64>,
    accumulated: f64,
    smoothed: f64,
    groups: f64,
    threshold: f64,
    threshold_updated: Option<f64>,
    previous_trend: f64,
    overusing_for: Option<f64>,
    overuses: u32,
    usage: BandwidthUsage,
}

impl Trendline {
    pub(crate) fn new() -> Self {
        Self {
            arrivals: [0.0; WINDOW],
            delays: [0.0; WINDOW],
            count: 0,
            first_arrival: None,
            accumulated: 0.0,
            smoothed: 0.0,
            groups: 0.0,
            threshold: THRESHOLD,
            threshold_updated: None,
            previous_trend: 0.0,
            overusing_for: None,
            overuses: 0,
            usage: BandwidthUsage::Normal,
        }
    }

    pub(crate) fn usage(&self) -> BandwidthUsage {
        self.usage
    }

    /// Takes how two groups differ, and when the later one arrived (milliseconds all).
    pub(crate) fn update(&mut self, sent_delta: f64, arrival_delta: f64, arrival: f64) {
        self.groups = (self.groups + 1.0).min(1000.0);
        let first = *self.first_arrival.get_or_insert(arrival);
        self.accumulated += arrival_delta - sent_delta;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        let place = self.count % WINDOW;
        self.arrivals[place] = arrival - first;
        self.delays[place] = self.smoothed;
        self.count += 1;
        let trend = if self.count >= WINDOW {
            self.slope().unwrap_or(self.previous_trend)
        } else {
            self.previous_trend
        };
        self.detect(trend, sent_delta, arrival);
    }

    fn detect(&mut self, trend: f64, sent_delta: f64, now: f64) {
        if self.groups < 2.0 {
            self.usage = BandwidthUsage::Normal;
            return;
        }
        let modified = self.groups.min(FULL_WEIGHT) * trend * GAIN;
        if modified > self.threshold {
            let time = match self.overusing_for {
                None => sent_delta / 2.0,
                Some(time) => time + sent_delta,
            };
            self.overusing_for = Some(time);
            self.overuses += 1;
            if time > OVERUSE_TIME && self.overuses > 1 && trend >= self.previous_trend {
                self.overusing_for = Some(0.0);
                self.overuses = 0;
                self.usage = BandwidthUsage::Overusing;
            }
        } else {
            self.overusing_for = None;
            self.overuses = 0;
            self.usage = if modified < -self.threshold {
                BandwidthUsage::Underusing
            } else {
                BandwidthUsage::Normal
            };
        }
        self.previous_trend = trend;
        self.adapt(modified, now);
    }

    fn adapt(&mut self, modified: f64, now: f64) {
        let last = self.threshold_updated.replace(now).unwrap_or(now);
        let size = modified.abs();
        if size > self.threshold + SPIKE {
            return;
        }
        let speed = if size < self.threshold {
            THRESHOLD_DOWN
        } else {
            THRESHOLD_UP
        };
        let elapsed = (now - last).clamp(0.0, 100.0);
        self.threshold += speed * (size - self.threshold) * elapsed;
        self.threshold = self.threshold.clamp(THRESHOLD_MIN, THRESHOLD_MAX);
    }

    /// Least squares.
    fn slope(&self) -> Option<f64> {
        let mean_x = sum(&self.arrivals, |x| x) / WINDOW as f64;
        let mean_y = sum(&self.delays, |y| y) / WINDOW as f64;
        let mut products = self.delays;
        for (product, x) in products.iter_mut().zip(&self.arrivals) {
            *product = (x - mean_x) * (*product - mean_y);
        }
        let above = sum(&products, |product| product);
        let below = sum(&self.arrivals, |x| (x - mean_x) * (x - mean_x));
        (below > 0.0).then(|| above / below)
    }
}

/// Numbers that are added up side by side.
const LANES: usize = 4;

/// The sum of what `of` makes of them, in several sums at a time: one after the other, each would wait for the one before.
fn sum(numbers: &[f64; WINDOW], of: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    for lanes in numbers.chunks_exact(LANES) {
        for (sum, &number) in sums.iter_mut().zip(lanes) {
            *sum += of(number);
        }
    }
    sums.iter().sum()
}

const _: () = assert!(WINDOW.is_multiple_of(LANES));

#[cfg(test)]
mod tests {
    use super::{BandwidthUsage, Trendline};

    fn run(line: &mut Trendline, from: u32, groups: u32, growth: f64) {
        for group in from..from + groups {
            let arrival = f64::from(group) * (33.0 + growth);
            line.update(33.0, 33.0 + growth, arrival);
        }
    }

    #[test]
    fn steady_delay_is_normal_growing_is_overuse_draining_is_underuse() {
        let mut line = Trendline::new();
        run(&mut line, 0, 60, 0.0);
        assert_eq!(line.usage(), BandwidthUsage::Normal);
        run(&mut line, 60, 30, 5.0);
        assert_eq!(line.usage(), BandwidthUsage::Overusing);
        run(&mut line, 90, 30, -5.0);
        assert_eq!(line.usage(), BandwidthUsage::Underusing);
    }

    #[test]
    fn absurd_times_leave_it_sane() {
        let mut line = Trendline::new();
        for (delta, at) in [(1e300, 0.0), (-1e300, 1.0), (0.0, 0.0), (1.0, 2.0)] {
            line.update(delta, -delta, at);
        }
        run(&mut line, 0, 100, 0.0);
        assert!((6.0..=600.0).contains(&line.threshold));
    }
}
