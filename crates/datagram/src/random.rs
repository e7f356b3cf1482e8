//! Seedable randomness: the same seed gives the same run.

use std::fmt;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

/// A cryptographically strong generator that its owner seeds.
///
/// Floor 3 seeds it from the operating system; tests and simulations seed it with
/// [`Random::from_u64`] and print the number when they fail.
///
/// A connection has several, most of which are used while it is set up alone: one that has not been
/// used yet, or that [rests](Random::rest), takes 48 bytes.
#[derive(Clone)]
pub struct Random {
    seed: [u8; 32],
    /// Where a resting generator goes on, in words of 32 bits.
    position: u64,
    /// The key stream; it is wanted in portions of 256 bytes.
    stream: Option<Box<ChaCha12Rng>>,
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What it will give must not stand in logs.
        f.debug_struct("Random").finish_non_exhaustive()
    }
}

impl Random {
    /// A generator from 32 bytes of entropy.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self {
            seed,
            position: 0,
            stream: None,
        }
    }

    /// A generator for tests and simulations. Never for keys that must stay secret.
    pub fn from_u64(seed: u64) -> Self {
        Self::from_seed(ChaCha12Rng::seed_from_u64(seed).get_seed())
    }

    /// Gives back the memory that only use needs. The numbers go on where they were; the next one
    /// costs an allocation.
    pub fn rest(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.position = stream.get_word_pos() as u64;
        }
    }

    fn stream(&mut self) -> &mut ChaCha12Rng {
        self.stream.get_or_insert_with(|| {
            let mut stream = ChaCha12Rng::from_seed(self.seed);
            if self.position != 0 {
                stream.set_word_pos(self.position.into());
            }
            Box::new(stream)
        })
    }

    /// A new generator, seeded by this one: give each part of a system its own.
    pub fn fork(&mut self) -> Self {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        Self::from_seed(seed)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.stream().fill_bytes(bytes);
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A number in 0..=u32::MAX.
    pub fn u32(&mut self) -> u32 {
        self.stream().next_u32()
    }

    /// A number in 0..=u64::MAX.
    pub fn u64(&mut self) -> u64 {
        self.stream().next_u64()
    }

    /// A number in `0..bound`, without modulo bias. `bound` 0 gives 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Lemire's method: the high half of a 128-bit product is uniform once the few low halves
        // that would favour some results are rejected.
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// True with probability `p` (0.0 never, 1.0 always).
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn same_seed_gives_the_same_numbers() {
        let (mut a, mut b) = (Random::from_u64(7), Random::from_u64(7));
        assert_eq!(a.bytes::<64>(), b.bytes::<64>());
        assert_ne!(a.fork().u64(), b.u64());
    }

    #[test]
    fn a_rest_changes_no_number() {
        let (mut steady, mut resting) = (Random::from_u64(3), Random::from_u64(3));
        for step in 0..400 {
            match step % 3 {
                0 => assert_eq!(steady.u64(), resting.u64()),
                1 => assert_eq!(steady.u32(), resting.u32()),
                _ => assert_eq!(steady.bytes::<13>(), resting.bytes::<13>()),
            }
            resting.rest();
        }
        assert_eq!(steady.fork().u64(), resting.fork().u64());
    }

    #[test]
    fn below_stays_below_and_reaches_every_number() {
        let mut random = Random::from_u64(1);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[random.below(7) as usize] += 1;
        }
        assert!(
            seen.iter().all(|&count| (800..1200).contains(&count)),
            "{seen:?}"
        );
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }
}
