//! CUBIC (RFC 9438).

use std::time::Duration;

use super::{Ack, Controller, DelayRise, Loss, rate_of_window};
use crate::clock::Time;

/// Multiplicative decrease (section 4.6).
const BETA: f64 = 0.7;
/// Aggressiveness in packets per second cubed (section 4.2).
const C: f64 = 0.4;
/// Additive increase of the Reno-friendly region (section 4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The controller.
#[derive(Debug)]
pub(crate) struct Cubic {
    packet: usize,
    /// In packets, as the RFC's formulas are.
    window: f64,
    threshold: f64,
    w_max: f64,
    k: f64,
    w_estimate: f64,
    /// Start of the congestion avoidance epoch; not set before the first SACK in it.
    epoch: Time,
    recovery_since: Time,
    rtt: Duration,
    /// The start of a period in which the application limited: it does not count as epoch.
    idle_since: Time,
    rise: DelayRise,
}

impl Cubic {
    pub(crate) fn new(packet: usize, window: usize) -> Self {
        Self {
            packet,
            window: window as f64 / packet as f64,
            threshold: f64::INFINITY,
            w_max: 0.0,
            k: 0.0,
            w_estimate: 0.0,
            epoch: Time::NEVER,
            recovery_since: Time::ZERO,
            rtt: Duration::ZERO,
            idle_since: Time::NEVER,
            rise: DelayRise::new(),
        }
    }

    fn reduce(&mut self, now: Time) {
        self.recovery_since = now;
        self.epoch = Time::NEVER;
        // Fast convergence (section 4.7).
        self.w_max = if self.window < self.w_max {
            self.window * (1.0 + BETA) / 2.0
        } else {
            self.window
        };
        self.threshold = (self.window * BETA).max(2.0);
        self.window = self.threshold;
    }
}

impl Controller for Cubic {
    fn on_ack(&mut self, ack: &Ack) {
        self.rtt = ack.smoothed_rtt;
        if !ack.window_limited || ack.lost != 0 {
            if !ack.window_limited && !self.idle_since.is_set() {
                self.idle_since = ack.now;
            }
            return;
        }
        if self.idle_since.is_set() {
            if self.epoch.is_set() {
                self.epoch = self.epoch + ack.now.since(self.idle_since);
            }
            self.idle_since = Time::NEVER;
        }
        let acked = ack.bytes as f64 / self.packet as f64;
        if self.window < self.threshold {
            self.window += acked;
            if self.rise.is_over(ack) {
                self.threshold = self.window;
                self.w_max = self.window;
            }
            return;
        }
        if !self.epoch.is_set() {
            self.epoch = ack.now;
            self.w_estimate = self.window;
            self.w_max = self.w_max.max(self.window);
            self.k = ((self.w_max - self.window) / C).cbrt();
        }
        let t = ack.now.since(self.epoch).as_secs_f64();
        let cubic = |t: f64| C * (t - self.k).powi(3) + self.w_max;
        // Section 4.4: towards the window that the curve has one round trip on.
        let target = cubic(t + self.rtt.as_secs_f64()).clamp(self.window, self.window * 1.5);
        let alpha = if self.w_estimate >= self.w_max {
            1.0
        } else {
            ALPHA
        };
        self.w_estimate += alpha * acked / self.window;
        if cubic(t) < self.w_estimate {
            self.window = self.window.max(self.w_estimate);
        } else {
            self.window += (target - self.window) / self.window * acked;
        }
    }

    fn on_loss(&mut self, loss: &Loss) -> bool {
        if loss.newest_sent_at <= self.recovery_since {
            return false;
        }
        self.reduce(loss.now);
        true
    }

    fn on_timeout(&mut self, now: Time) {
        self.reduce(now);
        self.window = 1.0;
    }

    fn on_congestion_mark(&mut self, now: Time, newest_sent_at: Time) {
        if newest_sent_at > self.recovery_since {
            self.reduce(now);
        }
    }

    fn set_packet_size(&mut self, bytes: usize) {
        let scale = self.packet as f64 / bytes as f64;
        self.window *= scale;
        self.w_max *= scale;
        self.w_estimate *= scale;
        self.threshold *= scale;
        self.packet = bytes;
    }

    fn window(&self) -> usize {
        (self.window * self.packet as f64) as usize
    }

    fn pacing_rate(&self) -> u64 {
        let percent = if self.window < self.threshold {
            200
        } else {
            125
        };
        rate_of_window(self.window(), self.rtt, percent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ack, loss};
    use super::{Controller, Cubic};

    #[test]
    fn window_returns_to_its_maximum_after_k_seconds() {
        let mut controller = Cubic::new(1000, 100_000);
        controller.on_loss(&loss(1_000_000_000, 900_000_000));
        assert_eq!(controller.window(), 70_000);
        // K = cbrt(100 * 0.3 / 0.4) = 4.217 s; 100 ms round trips.
        let mut plateau = 0;
        for step in 0..60u64 {
            let now = 1_000_000_000 + step * 100_000_000;
            let window = controller.window();
            controller.on_ack(&ack(now, window));
            if now < 5_200_000_000 {
                plateau = controller.window();
            }
        }
        assert!((97_000..=104_000).contains(&plateau), "{plateau}");
        assert!(controller.window() > 101_000, "convex beyond");
    }
}
