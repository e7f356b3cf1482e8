//! RFC 9260 section 7.2: slow start, congestion avoidance, half the window per loss episode.

use std::time::Duration;

use super::{Ack, Controller, DelayRise, Loss, rate_of_window};
use crate::clock::Time;

/// The controller.
#[derive(Debug)]
pub(crate) struct NewReno {
    packet: usize,
    window: usize,
    threshold: usize,
    /// Acknowledged bytes that count towards the next packet (partial_bytes_acked).
    partial: usize,
    recovery_since: Time,
    rtt: Duration,
    rise: DelayRise,
}

impl NewReno {
    pub(crate) fn new(packet: usize, window: usize) -> Self {
        Self {
            packet,
            window,
            threshold: usize::MAX,
            partial: 0,
            recovery_since: Time::ZERO,
            rtt: Duration::ZERO,
            rise: DelayRise::new(),
        }
    }

    fn reduce(&mut self, now: Time) {
        self.recovery_since = now;
        // RFC 9260 section 7.2.3.
        self.threshold = (self.window / 2).max(4 * self.packet);
        self.window = self.threshold;
        self.partial = 0;
    }
}

impl Controller for NewReno {
    fn on_ack(&mut self, ack: &Ack) {
        self.rtt = ack.smoothed_rtt;
        if !ack.window_limited || ack.lost != 0 {
            return;
        }
        if self.window < self.threshold {
            // One SACK may stand for a whole batch of packets, so the growth is not held to one
            // packet per SACK; pacing does what that limit was for.
            self.window += ack.bytes;
            if self.rise.is_over(ack) {
                self.threshold = self.window;
            }
            return;
        }
        self.partial += ack.bytes;
        while self.partial >= self.window {
            self.partial -= self.window;
            self.window += self.packet;
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
        self.window = self.packet;
    }

    fn on_congestion_mark(&mut self, now: Time, newest_sent_at: Time) {
        if newest_sent_at > self.recovery_since {
            self.reduce(now);
        }
    }

    fn set_packet_size(&mut self, bytes: usize) {
        self.packet = bytes;
    }

    fn window(&self) -> usize {
        self.window
    }

    fn pacing_rate(&self) -> u64 {
        let percent = if self.window < self.threshold {
            200
        } else {
            125
        };
        rate_of_window(self.window, self.rtt, percent)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ack, loss};
    use super::{Controller, NewReno};
    use crate::clock::Time;

    #[test]
    fn window_doubles_then_grows_by_a_packet_and_halves() {
        let mut controller = NewReno::new(1000, 10_000);
        controller.on_ack(&ack(1, 10_000));
        assert_eq!(controller.window(), 20_000);
        assert!(controller.on_loss(&loss(10, 5)));
        assert_eq!(controller.window(), 10_000);
        assert!(
            !controller.on_loss(&loss(11, 9)),
            "sent before the reduction: the same episode"
        );
        for _ in 0..10 {
            controller.on_ack(&ack(12, 1000));
        }
        assert_eq!(controller.window(), 11_000);
        controller.on_timeout(Time::from_nanos(20));
        assert_eq!(controller.window(), 1000);
    }
}
