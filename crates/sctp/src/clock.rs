//! Time inside the crate: nanoseconds since the first `now` that the owner passed. Half the size
//! of an `Instant`, and it never runs backwards.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time(u64);

impl Time {
    /// Later than anything: a timer that does not run.
    pub(crate) const NEVER: Self = Self(u64::MAX);
    /// The start.
    pub(crate) const ZERO: Self = Self(0);

    /// The time since `earlier`, zero if that is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds since the start.
    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// The point that many nanoseconds after the start.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Whether a timer set to this runs.
    pub(crate) fn is_set(self) -> bool {
        self != Self::NEVER
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Translates between the owner's time and the crate's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    epoch: Option<Instant>,
    latest: Time,
}

impl Clock {
    /// The owner's `now`.
    pub(crate) fn at(&mut self, now: Instant) -> Time {
        let epoch = *self.epoch.get_or_insert(now);
        let nanos = now.saturating_duration_since(epoch).as_nanos();
        // One microsecond on, so that no real event happens at zero.
        let time = Time(u64::try_from(nanos).unwrap_or(u64::MAX - 1_000_001) + 1000);
        self.latest = self.latest.max(time);
        self.latest
    }

    /// The owner's time of a timer; `None` if it does not run.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        if !time.is_set() {
            return None;
        }
        let epoch = self.epoch?;
        epoch.checked_add(Duration::from_nanos(time.0.saturating_sub(1000)))
    }
}
