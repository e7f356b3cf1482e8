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

/// The time at which its owner is to be woken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Alarm {
    at: Option<Instant>,
    /// A later time that stands in the heap since before: it is used again rather than set anew.
    later: Option<Instant>,
}

impl Alarm {
    /// Whether the wake-up that comes now is this one. It is over then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.later.is_some_and(|later| later <= now) {
            self.later = None;
        }
        let rings = self.at.is_some_and(|at| at <= now);
        if rings {
            self.at = None;
        }
        rings
    }
}

impl Timers {
    /// Wakes `who` at `at` or somewhat earlier.
    pub(super) fn set(&mut self, alarm: &mut Alarm, at: Instant, who: Due) {
        if alarm.at.is_some_and(|set| set <= at) {
            return;
        }
        if alarm.at.is_none() && alarm.later.is_some_and(|later| later <= at) {
            alarm.at = alarm.later.take();
            return;
        }
        if alarm.at.is_some() {
            alarm.later = alarm.at;
        }
        alarm.at = Some(at);
        self.heap.push(Reverse((at, who)));
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
        // The entry that stands there serves again.
        timers.set(&mut alarm, at(25), Due::Connection(1));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.pop(at(20)), Some(Due::Connection(1)));
        assert!(alarm.take(at(20)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn the_heap_stays_small_however_often_a_near_time_is_set() {
        let now = Instant::now();
        let mut timers = Timers::default();
        let mut alarm = Alarm::default();
        let far = now + Duration::from_secs(10);
        for ms in 0..1000 {
            let now = now + Duration::from_millis(ms);
            while timers.pop(now).is_some() {
                alarm.take(now);
            }
            timers.set(&mut alarm, far, Due::Connection(1));
            timers.set(
                &mut alarm,
                now + Duration::from_micros(500),
                Due::Connection(1),
            );
            assert!(timers.heap.len() <= 3, "{}", timers.heap.len());
        }
    }
}
