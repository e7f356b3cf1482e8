//! When to let packets gather before the next pass.
//!
//! At moderate load each packet wakes the worker, and waking costs more than relaying. A worker that was woken again and
//! again for few packets lets them gather for a fraction of a millisecond: fewer wake-ups, more packets in each. A
//! worker that finds many packets anyway, or hardly any, does not wait.

use std::time::{Duration, Instant};

/// Passes further apart than this are not worth a wait.
const SPARSE: Duration = Duration::from_micros(1500);
/// The longest interval that counts, in seconds.
const SILENCE: f64 = 0.006;
/// So many packets in one pass are a batch already.
const PLENTY: f64 = 32.0;
/// Weight of the newest pass in the averages.
const WEIGHT: f64 = 1.0 / 16.0;

#[derive(Debug)]
pub(super) struct Gather {
    longest: Duration,
    last: Instant,
    /// Seconds from one pass to the next, and packets in each, on average.
    interval: f64,
    packets: f64,
}

impl Gather {
    /// Waits of at most `longest`; zero never waits.
    pub(super) fn new(now: Instant, longest: Duration) -> Self {
        Self {
            longest,
            last: now,
            interval: SILENCE,
            packets: 0.0,
        }
    }

    pub(super) fn set_longest(&mut self, longest: Duration) {
        self.longest = longest;
    }

    /// A pass began at `now` that found `packets`. How long to wait before the next; `None` not at all.
    pub(super) fn passed(&mut self, now: Instant, packets: usize) -> Option<Duration> {
        let interval = now.saturating_duration_since(self.last).as_secs_f64();
        self.last = now;
        // One long silence does not outweigh what follows.
        self.interval += (interval.min(SILENCE) - self.interval) * WEIGHT;
        self.packets += (packets as f64 - self.packets) * WEIGHT;
        let worth = !self.longest.is_zero()
            && self.interval < SPARSE.as_secs_f64()
            && self.packets < PLENTY
            && packets > 0;
        worth.then_some(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Gather;

    fn run(interval: Duration, packets: usize) -> Option<Duration> {
        let mut now = Instant::now();
        let mut gather = Gather::new(now, Duration::from_micros(300));
        let mut wait = None;
        for _ in 0..200 {
            now += interval;
            wait = gather.passed(now, packets);
        }
        wait
    }

    #[test]
    fn moderate_load_gathers_and_others_do_not() {
        let us = Duration::from_micros;
        assert!(run(us(60), 1).is_some(), "15,000 packets a second");
        assert!(run(us(400), 5).is_some(), "the same, once it gathers");
        assert!(run(us(20_000), 1).is_none(), "one call");
        assert!(run(us(200), 64).is_none(), "a full batch");
    }

    #[test]
    fn it_can_be_switched_off() {
        let mut now = Instant::now();
        let mut gather = Gather::new(now, Duration::ZERO);
        for _ in 0..100 {
            now += Duration::from_micros(60);
            assert_eq!(gather.passed(now, 1), None);
        }
    }
}
