//! A bound on how often something may happen: a token bucket.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// So many at once, and so many per second in the long run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// At once.
    pub(crate) burst: u32,
    /// Per second.
    pub(crate) per_second: u32,
}

/// What is left of a [`Rate`].
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            tokens: rate.burst.into(),
            filled: now,
        }
    }

    /// Whether it may happen once more now.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.filled).as_secs_f64()
            * f64::from(self.rate.per_second);
        self.filled = now;
        self.tokens = (self.tokens + gained).min(self.rate.burst.into());
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    fn is_full_at(&self, now: Instant) -> bool {
        let missing = f64::from(self.rate.burst) - self.tokens;
        let time =
            Duration::from_secs_f64(missing.max(0.0) / f64::from(self.rate.per_second.max(1)));
        now.saturating_duration_since(self.filled) >= time
    }
}

/// A bucket for each key: addresses, say.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
    capacity: usize,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Buckets for at most `capacity` keys at a time; further keys share the fate of an empty bucket.
    pub(crate) fn new(rate: Rate, capacity: usize) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
            capacity,
        }
    }

    /// Whether `key` may do it once more now.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> bool {
        if !self.buckets.contains_key(&key) && self.buckets.len() >= self.capacity {
            self.buckets.retain(|_, bucket| !bucket.is_full_at(now));
            if self.buckets.len() >= self.capacity {
                return false;
            }
        }
        self.buckets
            .entry(key)
            .or_insert_with(|| Bucket::new(self.rate, now))
            .take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(
            Rate {
                burst: 3,
                per_second: 2,
            },
            start,
        );
        assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 3);
        assert!(bucket.take(start + Duration::from_millis(600)));
        assert!(!bucket.take(start + Duration::from_millis(700)));
    }

    #[test]
    fn full_buckets_make_room_for_new_keys() {
        let start = Instant::now();
        let mut buckets = Buckets::new(
            Rate {
                burst: 1,
                per_second: 1,
            },
            2,
        );
        assert!(buckets.take(1, start) && buckets.take(2, start));
        assert!(!buckets.take(3, start));
        assert!(buckets.take(3, start + Duration::from_secs(2)));
    }
}
