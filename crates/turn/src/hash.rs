//! A hasher for keys that strangers choose (addresses and ports): keyed, and three multiplications where
//! SipHash takes its rounds. The key comes from the owner's randomness, so that a seed repeats a run.

use std::hash::{BuildHasher, Hasher};

use visavis_datagram::Random;

/// The secret key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seed {
    multiplier: u64,
    start: u64,
}

impl Seed {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            multiplier: random.u64() | 1,
            start: random.u64(),
        }
    }
}

/// For tables whose keys the owner chooses.
impl Default for Seed {
    fn default() -> Self {
        Self {
            multiplier: 0x9e37_79b9_7f4a_7c15,
            start: 0x2545_f491_4f6c_dd1d,
        }
    }
}

impl BuildHasher for Seed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded {
            multiplier: self.multiplier,
            state: self.start,
        }
    }
}

pub(crate) struct Folded {
    multiplier: u64,
    state: u64,
}

impl Folded {
    /// Both halves of the product: every bit of the input reaches every bit of the state.
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.multiplier);
        // Without the addition a state of zero would swallow the word that made it.
        self.state = ((product >> 64) as u64 ^ product as u64).wrapping_add(self.multiplier);
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.fold(u64::from_le_bytes(last));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.fold(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.fold(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }

    fn finish(&self) -> u64 {
        let mut last = Folded {
            multiplier: self.multiplier.rotate_left(32) | 1,
            state: self.state,
        };
        last.fold(0);
        last.state
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use visavis_datagram::{Path, Random};

    use super::Seed;

    #[test]
    fn neighbouring_paths_spread_over_a_table() {
        let seed = Seed::new(&mut Random::from_u64(1));
        let local: SocketAddr = "192.0.2.1:3478".parse().unwrap();
        let mut buckets = vec![0u32; 4096];
        let mut hashes = HashSet::new();
        for host in 0..64u32 {
            for port in 0..1024u16 {
                let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + host));
                let path = Path::udp(local, SocketAddr::new(ip, 1024 + port));
                let hash = seed.hash_one(path);
                hashes.insert(hash);
                buckets[(hash & 4095) as usize] += 1;
            }
        }
        assert_eq!(hashes.len(), 64 * 1024);
        // 16 per bucket on average; a Poisson tail ends near 40.
        assert!(buckets.iter().all(|&count| count < 48));
    }
}
