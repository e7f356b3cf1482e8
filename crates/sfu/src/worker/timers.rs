//! Who is due next: a heap of times, of which stale ones are skipped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::ids::RoomId;

/// Whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A connection's.
    Connection(usize),
    /// A track's.
    Track(usize),
    /// A room's.
    Room(RoomId),
}

/// The times. Whoever waits remembers the earliest time under which he stands here
/// ([`Alarm`]), so that each has a few entries at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Due)>>,
}

/// The time at which its owner is to be woken; what stands in the heap beside it is stale.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Alarm(Option<Instant>);

impl Alarm {
    /// Whether the wake-up that comes now is this one. It is over then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let rings = self.0.is_some_and(|at| at <= now);
        if rings {
            self.0 = None;
        }
        rings
    }
}

impl Timers {
    /// Wakes `who` at `at`, unless an earlier time is set.
    pub(super) fn set(&mut self, alarm: &mut Alarm, at: Instant, who: Due) {
        if alarm.0.is_none_or(|set| at < set) {
            alarm.0 = Some(at);
            self.heap.push(Reverse((at, who)));
        }
    }

    /// The next one whose time has come; perhaps one that was woken before.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        let &Reverse((at, who)) = self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some(who)
    }

    /// The next time; perhaps a stale one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_earlier_time_replaces_a_later_one_and_not_the_reverse() {
        let now = Instant::now();
        let mut timers = Timers::default();
        let mut alarm = Alarm::default();
        let at = |ms| now + Duration::from_millis(ms);
        timers.set(&mut alarm, at(20), Due::Connection(1));
        timers.set(&mut alarm, at(10), Due::Connection(1));
        timers.set(&mut alarm, at(30), Due::Connection(1));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop(at(10)), Some(Due::Connection(1)));
        assert!(alarm.take(at(10)));
        assert_eq!(timers.pop(at(15)), None);
        // The stale entry comes, and is known as such.
        assert_eq!(timers.pop(at(20)), Some(Due::Connection(1)));
        assert!(!alarm.take(at(20)));
    }
}
