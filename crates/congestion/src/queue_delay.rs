//! How long packets wait in queues: one-way delay over the least that was seen lately.

use std::time::Duration;

/// How long the least one-way delay is remembered: so many pieces of this length.
const BASE_PIECE: Duration = Duration::from_secs(3);
const BASE_PIECES: usize = 10;
/// Weight of a packet that waited longer than those before.
const RISE: f64 = 0.25;
/// The latest moments, whose least queue is what really stands: so many pieces of this length.
const RECENT_PIECE: Duration = Duration::from_millis(100);
const RECENT_PIECES: usize = 6;
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
    /// When the latest packets' feedback came.
    now: Duration,
    base: Least<BASE_PIECES>,
    recent: Least<RECENT_PIECES>,
    current: f64,
    short_at: Duration,
    /// The longest queue since it was short.
    peak: f64,
}

impl QueueDelay {
    pub(crate) fn new() -> Self {
        Self {
            now: Duration::ZERO,
            base: Least::new(),
            recent: Least::new(),
            current: 0.0,
            short_at: Duration::ZERO,
            peak: 0.0,
        }
    }

    /// Takes the one-way delay of a packet.
    pub(crate) fn packet(&mut self, now: Duration, delay: f64) {
        if now != self.now {
            self.now = now;
            self.base.go_on(now, BASE_PIECE);
            self.recent.go_on(now, RECENT_PIECE);
        }
        self.base.note(delay);
        self.recent.note(delay);
        let queued = delay - self.base.least;
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

    /// The least that packets have waited lately (0.6 s). A queue makes all packets wait; a receiver that is kept
    /// from reading makes those wait that come too early, and one just before it reads does not.
    pub(crate) fn least_recent(&self) -> f64 {
        let queued = self.recent.least - self.base.least;
        if queued.is_finite() { queued } else { 0.0 }
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

/// The least of the latest pieces of time.
#[derive(Debug)]
struct Least<const PIECES: usize> {
    pieces: [f64; PIECES],
    /// The latest piece's number.
    piece: u64,
    least: f64,
}

impl<const PIECES: usize> Least<PIECES> {
    fn new() -> Self {
        Self {
            pieces: [f64::INFINITY; PIECES],
            piece: 0,
            least: f64::INFINITY,
        }
    }

    /// It is now later: what is in pieces of this length from too long ago is forgotten.
    fn go_on(&mut self, now: Duration, length: Duration) {
        let piece = now.as_millis() as u64 / length.as_millis() as u64;
        if piece == self.piece {
            return;
        }
        let steps = piece.saturating_sub(self.piece).min(PIECES as u64);
        for step in 1..=steps {
            self.pieces[(self.piece.wrapping_add(step) % PIECES as u64) as usize] = f64::INFINITY;
        }
        self.piece = piece;
        self.least = self.pieces.iter().copied().fold(f64::INFINITY, f64::min);
    }

    fn note(&mut self, delay: f64) {
        let latest = &mut self.pieces[(self.piece % PIECES as u64) as usize];
        *latest = latest.min(delay);
        self.least = self.least.min(delay);
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
