//! What users and addresses hold and send.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use super::config::Rate;
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

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Owner<K>> {
        self.owners.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}
