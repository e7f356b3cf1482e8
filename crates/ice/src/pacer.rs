//! Pacing of new STUN and TURN transactions (RFC 8445 section 14.2).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Smallest interval between new transactions (RFC 8445 section 14.2: at least 5 ms).
pub const MIN_TA: Duration = Duration::from_millis(5);

/// The interval that RFC 8445 section 14.2 recommends.
pub const DEFAULT_TA: Duration = Duration::from_millis(50);

/// A pace that any number of agents keep together: one new transaction per Ta.
///
/// Cloning gives another handle on the same pace. An agent reserves one slot at a time, so that a
/// crowd of agents is served in turn, each woken once per slot that it uses.
#[derive(Clone)]
pub struct Pacer(Arc<Mutex<State>>);

struct State {
    ta: Duration,
    /// The first slot that nobody has reserved.
    next: Option<Instant>,
}

impl Pacer {
    /// A pace of one transaction per `ta` (at least [`MIN_TA`]).
    pub fn new(ta: Duration) -> Self {
        Self(Arc::new(Mutex::new(State {
            ta: ta.max(MIN_TA),
            next: None,
        })))
    }

    /// The interval between transactions.
    pub fn ta(&self) -> Duration {
        self.state().ta
    }

    /// Takes a longer interval on, if the peer asks for one (RFC 8839 section 5.5: the larger of both
    /// counts). At most a second: an absurd wish is not granted.
    pub(crate) fn slow_down(&self, ta: Duration) {
        let mut state = self.state();
        state.ta = state.ta.max(ta.min(Duration::from_secs(1)));
    }

    /// Reserves the next free slot, which is not before `now`.
    pub fn reserve(&self, now: Instant) -> Instant {
        self.reserve_within(now, None)
    }

    /// The same, on a slot that the process has free as well.
    pub(crate) fn reserve_within(&self, now: Instant, process: Option<&ProcessPace>) -> Instant {
        let mut state = self.state();
        let mut slot = state.next.map_or(now, |next| next.max(now));
        if let Some(process) = process {
            slot = process.0.reserve(slot);
        }
        state.next = Some(slot + state.ta);
        slot
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is two plain values: it is whole even if a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pace of all agents of a process together: one new transaction per [`MIN_TA`], "as though there
/// were one global Ta value for pacing all agents" (RFC 8445 section 14.2). Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct ProcessPace(Pacer);

impl Default for ProcessPace {
    fn default() -> Self {
        Self(Pacer::new(MIN_TA))
    }
}

impl Default for Pacer {
    fn default() -> Self {
        Self::new(DEFAULT_TA)
    }
}

impl fmt::Debug for Pacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pacer").field("ta", &self.ta()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_share_one_pace() {
        let pacer = Pacer::new(Duration::from_millis(20));
        let other = pacer.clone();
        let now = Instant::now();
        assert_eq!(pacer.reserve(now), now);
        assert_eq!(other.reserve(now), now + Duration::from_millis(20));
        assert_eq!(pacer.reserve(now), now + Duration::from_millis(40));
        let later = now + Duration::from_secs(1);
        assert_eq!(other.reserve(later), later);
    }

    #[test]
    fn a_crowd_with_a_pace_each_keeps_5_ms_together() {
        let process = ProcessPace::default();
        let now = Instant::now();
        let mut slots: Vec<Instant> = (0..20)
            .flat_map(|_| {
                let own = Pacer::default();
                let first = own.reserve_within(now, Some(&process));
                let second = own.reserve_within(now, Some(&process));
                assert!(second - first >= DEFAULT_TA);
                [first, second]
            })
            .collect();
        slots.sort();
        assert!(slots.windows(2).all(|two| two[1] - two[0] >= MIN_TA));
    }

    #[test]
    fn no_pace_is_faster_than_5_ms() {
        assert_eq!(Pacer::new(Duration::ZERO).ta(), MIN_TA);
    }
}
