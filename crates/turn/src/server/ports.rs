//! The pool of relay ports of one address: random, so that nobody guesses the next (RFC 6056).

use std::ops::RangeInclusive;

use visavis_datagram::Random;

/// Nobody's.
const FREE: u32 = u32::MAX;
/// Held for a RESERVATION-TOKEN, or between one driver call and the next.
const HELD: u32 = u32::MAX - 1;
/// How many random ports are tried before the pool is searched from a random place on.
const PROBES: u32 = 16;

/// The ports of one address, and whose they are.
#[derive(Debug)]
pub(super) struct Ports {
    first: u16,
    owners: Box<[u32]>,
    free: usize,
}

impl Ports {
    pub(super) fn new(range: &RangeInclusive<u16>) -> Self {
        let len = if range.is_empty() {
            0
        } else {
            usize::from(range.end() - range.start()) + 1
        };
        Self {
            first: *range.start(),
            owners: vec![FREE; len].into_boxed_slice(),
            free: len,
        }
    }

    /// How many ports are free.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// The allocation that has a port.
    pub(super) fn owner(&self, port: u16) -> Option<u32> {
        let index = usize::from(port.checked_sub(self.first)?);
        self.owners
            .get(index)
            .copied()
            .filter(|&owner| owner < HELD)
    }

    /// Takes a random port that suits: any, an even one, or an even one whose next is free too (which is held then).
    pub(super) fn take(&mut self, random: &mut Random, even: bool, pair: bool) -> Option<u16> {
        let len = self.owners.len();
        if self.free <= usize::from(pair) {
            return None;
        }
        let suits = |index: usize| {
            let port = usize::from(self.first) + index;
            self.owners[index] == FREE
                && (!even || port.is_multiple_of(2))
                && (!pair || self.owners.get(index + 1) == Some(&FREE))
        };
        let index = (0..PROBES)
            .map(|_| random.below(len as u64) as usize)
            .find(|&index| suits(index))
            .or_else(|| {
                let start = random.below(len as u64) as usize;
                (start..len).chain(0..start).find(|&index| suits(index))
            })?;
        self.owners[index] = HELD;
        self.free -= 1;
        if pair {
            self.owners[index + 1] = HELD;
            self.free -= 1;
        }
        Some(self.first + index as u16)
    }

    /// Gives a taken port to an allocation.
    pub(super) fn assign(&mut self, port: u16, owner: u32) {
        if let Some(slot) = self.slot(port) {
            *slot = owner;
        }
    }

    /// Gives a port back.
    pub(super) fn release(&mut self, port: u16) {
        if let Some(slot) = self.slot(port)
            && *slot != FREE
        {
            *slot = FREE;
            self.free += 1;
        }
    }

    fn slot(&mut self, port: u16) -> Option<&mut u32> {
        let index = usize::from(port.checked_sub(self.first)?);
        self.owners.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use visavis_datagram::Random;

    use super::Ports;

    #[test]
    fn every_port_is_given_once_and_comes_back() {
        let mut random = Random::from_u64(1);
        let mut ports = Ports::new(&(65_000..=65_535));
        let mut taken: Vec<_> =
            std::iter::from_fn(|| ports.take(&mut random, false, false)).collect();
        assert_eq!(ports.free(), 0);
        taken.sort_unstable();
        assert!(taken.iter().copied().eq(65_000..=65_535));
        for port in taken {
            ports.release(port);
            ports.release(port);
        }
        assert_eq!(ports.free(), 536);
    }

    #[test]
    fn pairs_begin_with_an_even_port() {
        let mut random = Random::from_u64(1);
        let mut ports = Ports::new(&(50_001..=50_100));
        let mut pairs = 0;
        while let Some(port) = ports.take(&mut random, true, true) {
            assert_eq!(port % 2, 0);
            assert_ne!(port, 50_100, "its next is out of range");
            pairs += 1;
        }
        assert_eq!(pairs, 49);
        assert_eq!(ports.take(&mut random, true, false), Some(50_100));
        assert_eq!(ports.take(&mut random, false, false), Some(50_001));
        assert_eq!(ports.take(&mut random, false, false), None);
    }

    #[test]
    fn ports_are_not_predictable() {
        // CVE-2025-69217. Chi-square over 16 classes, 15 degrees of freedom: beyond 37.7 once in a thousand runs.
        let mut random = Random::from_u64(7);
        let mut ports = Ports::new(&(49_152..=65_535));
        let mut classes = [0f64; 16];
        let mut last = 0;
        let mut neighbours = 0;
        for _ in 0..10_000 {
            let port = ports.take(&mut random, false, false).unwrap();
            classes[usize::from(port - 49_152) / 1024] += 1.0;
            neighbours += u32::from(port.abs_diff(last) < 3);
            last = port;
            ports.release(port);
        }
        let chi: f64 = classes.iter().map(|n| (n - 625.0).powi(2) / 625.0).sum();
        assert!(chi < 37.7, "{chi}");
        assert!(neighbours < 20, "{neighbours}");
    }
}
