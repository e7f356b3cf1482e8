//! What users and addresses hold and send.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use visavis_stun::attributes::ErrorCode;

use super::config::{Limits, Rate};
use super::limiter::Bucket;
use crate::hash::Seed;

/// Traffic against a [`Rate`].
#[derive(Debug, Clone)]
pub(super) struct Meter {
    bytes: Bucket,
    packets: Bucket,
}

impl Meter {
    pub(super) fn new(now: Instant, rate: &Rate) -> Self {
        let burst = |limit: Option<u64>| limit.unwrap_or(0) as f64;
        Self {
            bytes: Bucket::new(now, burst(rate.bytes)),
            packets: Bucket::new(now, burst(rate.packets)),
        }
    }

    /// Whether one datagram more is within the rate: one second's worth may come at once.
    pub(super) fn allows(&mut self, now: Instant, rate: &Rate, bytes: usize) -> bool {
        let take = |bucket: &mut Bucket, limit: Option<u64>, amount: f64| match limit {
            None => true,
            Some(limit) => bucket.take(now, amount, limit as f64, limit as f64),
        };
        take(&mut self.bytes, rate.bytes, bytes as f64)
            && take(&mut self.packets, rate.packets, 1.0)
    }
}

/// How many allocations users, addresses and all have, over the workers of a process: what makes a quota one quota. It is asked when an
/// allocation is made or ends, and never for a packet.
#[derive(Debug, Default)]
pub struct SharedQuota(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    users: HashMap<(usize, Box<str>), usize>,
    sources: HashMap<IpAddr, usize>,
    total: usize,
}

impl SharedQuota {
    /// Counts one allocation more, if every limit allows it.
    pub(super) fn reserve(
        &self,
        user: &(usize, Box<str>),
        source: IpAddr,
        limits: &Limits,
    ) -> Result<(), ErrorCode<'static>> {
        let mut counts = self.lock();
        let of_user = counts.users.get(user).copied().unwrap_or(0);
        let of_source = counts.sources.get(&source).copied().unwrap_or(0);
        if of_user >= limits.allocations_per_user || of_source >= limits.allocations_per_address {
            return Err(ErrorCode::ALLOCATION_QUOTA_REACHED);
        }
        if counts.total >= limits.allocations {
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        counts.users.insert(user.clone(), of_user + 1);
        counts.sources.insert(source, of_source + 1);
        counts.total += 1;
        Ok(())
    }

    /// Counts one less; nobody is remembered who has none.
    pub(super) fn release(&self, user: &(usize, Box<str>), source: IpAddr) {
        fn less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        let mut counts = self.lock();
        less(&mut counts.users, user);
        less(&mut counts.sources, &source);
        counts.total = counts.total.saturating_sub(1);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who has allocations.
#[derive(Debug)]
pub(super) struct Owner<K> {
    key: K,
    pub(super) allocations: usize,
    pub(super) meter: Meter,
}

/// Everybody who has allocations, by key and by index; nobody else is remembered.
#[derive(Debug)]
pub(super) struct Owners<K> {
    by_key: HashMap<K, u32, Seed>,
    owners: Vec<Option<Owner<K>>>,
    free: Vec<u32>,
}

impl<K: Hash + Eq + Clone> Owners<K> {
    pub(super) fn new(seed: Seed) -> Self {
        Self {
            by_key: HashMap::with_hasher(seed),
            owners: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many allocations somebody has.
    pub(super) fn allocations(&self, key: &K) -> usize {
        self.by_key
            .get(key)
            .and_then(|&index| self.owners[index as usize].as_ref())
            .map_or(0, |owner| owner.allocations)
    }

    /// Counts one allocation more; gives the owner's index.
    pub(super) fn add(&mut self, now: Instant, key: K, rate: &Rate) -> u32 {
        let index = match self.by_key.get(&key) {
            Some(&index) => index,
            None => {
                let owner = Some(Owner {
                    key: key.clone(),
                    allocations: 0,
                    meter: Meter::new(now, rate),
                });
                let index = match self.free.pop() {
                    Some(index) => {
                        self.owners[index as usize] = owner;
                        index
                    }
                    None => {
                        self.owners.push(owner);
                        self.owners.len() as u32 - 1
                    }
                };
                self.by_key.insert(key, index);
                index
            }
        };
        if let Some(owner) = &mut self.owners[index as usize] {
            owner.allocations += 1;
        }
        index
    }

    /// Counts one allocation less; forgets who has none.
    pub(super) fn remove(&mut self, index: u32) {
        let Some(slot) = self.owners.get_mut(index as usize) else {
            return;
        };
        if let Some(owner) = slot {
            owner.allocations -= 1;
            if owner.allocations == 0 {
                self.by_key.remove(&owner.key);
                *slot = None;
                self.free.push(index);
            }
        }
    }

    /// Who has an index.
    pub(super) fn key(&self, index: u32) -> Option<&K> {
        Some(&self.owners.get(index as usize)?.as_ref()?.key)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Owner<K>> {
        self.owners.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Limits, SharedQuota};

    /// Attack 18: workers that ask at once must not let one user have more than the quota.
    #[test]
    fn attack_18_a_quota_holds_over_threads() {
        let quota = Arc::new(SharedQuota::default());
        let limits = Limits {
            allocations_per_user: 10,
            ..Limits::default()
        };
        let user = (0, "alice".into());
        let source = [192, 0, 2, 1].into();
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..1000)
                            .filter(|_| quota.reserve(&user, source, &limits).is_ok())
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(granted, 10);
        for _ in 0..10 {
            quota.release(&user, source);
        }
        let counts = quota.lock();
        assert!(counts.users.is_empty() && counts.sources.is_empty() && counts.total == 0);
    }
}
