//! How long packets wait in queues: one-way delay over the least that was seen lately.

use std::time::Duration;

/// How long the least one-way delay is remembered: so many pieces of this length.
const BASE_PIECE: Duration = Duration::from_secs(3);
const BASE_PIECES: usize = 10;
/// Weight of a packet that waited longer than those before.
const RISE: f64 = 0.25;
/// How long the queue must not have been short for something else to be filling it, and how short
/// that is (milliseconds).
const STANDING: Duration = Duration::from_secs(3);
const SHORT: f64 = 40.0;
/// What the queue must have reached meanwhile: flows that mind the delay do not get there.
const PEAK: f64 = 140.0;
/// How long a standing queue is believed in, and how long it is then put to the test.
const HOLD: Duration = Duration::from_secs(11);
const TEST: Duration = Duration::from_millis(1500);

/// Delays are milliseconds; those taken in are between clocks that differ by a constant.
#[derive(Debug)]
pub(crate) struct QueueDelay {
    base: [f64; BASE_PIECES],
    piece: u64,
    current: f64,
    short_at: Duration,
    /// The longest queue since it was short.
    peak: f64,
}

impl QueueDelay {
    pub(crate) fn new() -> Self {
        Self {
            base: [f64::INFINITY; BASE_PIECES],
            piece: 0,
            current: 0.0,
            short_at: Duration::ZERO,
            peak: 0.0,
        }
    }

    /// Takes the one-way delay of a packet.
    pub(crate) fn packet(&mut self, now: Duration, delay: f64) {
        let piece = now.as_millis() as u64 / BASE_PIECE.as_millis() as u64;
        if piece != self.piece {
            let steps = piece.saturating_sub(self.piece).min(BASE_PIECES as u64);
            for step in 1..=steps {
                let index = (self.piece.wrapping_add(step) % BASE_PIECES as u64) as usize;
                self.base[index] = f64::INFINITY;
            }
            self.piece = piece;
        }
        let slot = &mut self.base[(piece % BASE_PIECES as u64) as usize];
        *slot = slot.min(delay);
        let base = self.base.iter().copied().fold(f64::INFINITY, f64::min);
        let queued = delay - base;
        // Falls at once, rises smoothly: a lone late packet is no queue.
        self.current = if queued < self.current {
            queued
        } else {
            self.current + (queued - self.current) * RISE
        };
        self.peak = self.peak.max(self.current);
        if self.current < SHORT {
            self.short_at = now;
            self.peak = 0.0;
        }
    }

    /// How long packets wait now.
    pub(crate) fn current(&self) -> f64 {
        self.current
    }

    /// Whether the queue has been long for so long that something else fills it.
    ///
    /// Now and then the answer is no for a while, so that a queue that nobody but us fills drains.
    pub(crate) fn is_standing(&self, now: Duration) -> bool {
        let long = now.saturating_sub(self.short_at);
        let standing = long.saturating_sub(STANDING).as_millis();
        self.peak > PEAK && standing > 0 && standing % (HOLD + TEST).as_millis() < HOLD.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::QueueDelay;

    #[test]
    fn the_queue_is_what_is_above_the_least_and_the_least_is_forgotten() {
        let mut queue = QueueDelay::new();
        let mut feed = |from: u64, seconds: u64, delay: f64| {
            for step in from * 50..(from + seconds) * 50 {
                queue.packet(Duration::from_millis(step * 20), delay);
            }
            (
                queue.current(),
                queue.is_standing(Duration::from_secs(from + seconds)),
            )
        };
        assert_eq!(feed(0, 5, -1e6), (0.0, false));
        let (queued, standing) = feed(5, 10, -1e6 + 200.0);
        assert!((queued - 200.0).abs() < 0.1 && standing, "{queued}");
        // A longer way, not a queue.
        assert_eq!(feed(15, 40, -1e6 + 200.0), (0.0, false));
    }
}
