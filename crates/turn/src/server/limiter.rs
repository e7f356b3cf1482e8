//! How many answers strangers get: token buckets in fixed memory.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use visavis_datagram::Random;

use crate::hash::Seed;

/// A bucket that fills at a rate and holds a burst.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(now: Instant, burst: f64) -> Self {
        Self {
            tokens: burst,
            filled: now,
        }
    }

    /// Takes `amount` if it is there.
    pub(super) fn take(&mut self, now: Instant, amount: f64, rate: f64, burst: f64) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + elapsed * rate).min(burst);
        let enough = self.tokens >= amount;
        if enough {
            self.tokens -= amount;
        }
        enough
    }
}

/// Buckets per source network (an IPv4 address, an IPv6 /64), found by hash. A source has two buckets and is refused
/// only when both are empty: a flood from elsewhere that shares one of them silences nobody.
#[derive(Debug)]
pub(super) struct SourceLimiter {
    seeds: [Seed; 2],
    buckets: Vec<(f32, u32)>,
    start: Instant,
    mask: u64,
}

/// Buckets in each of the two halves.
const BUCKETS: usize = 1 << 14;

impl SourceLimiter {
    pub(super) fn new(now: Instant, random: &mut Random) -> Self {
        Self {
            seeds: [Seed::new(random), Seed::new(random)],
            // Full, whatever the burst is: see `fill`.
            buckets: vec![(f32::MAX, 0); 2 * BUCKETS],
            start: now,
            mask: BUCKETS as u64 - 1,
        }
    }

    /// Whether a source gets one more answer.
    pub(super) fn allows(&mut self, now: Instant, source: IpAddr, rate: f32, burst: f32) -> bool {
        let network = match source {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            // Tagged, so that no /64 is an IPv4 address.
            IpAddr::V6(ip) => ((ip.to_bits() >> 64) as u64) ^ (1 << 63),
        };
        let elapsed = now.saturating_duration_since(self.start);
        let millis = elapsed
            .min(Duration::from_millis(u32::MAX.into()))
            .as_millis() as u32;
        let mut allowed = false;
        for (half, seed) in self.seeds.iter().enumerate() {
            let index = half * BUCKETS + (seed.hash_one(network) & self.mask) as usize;
            let (tokens, filled) = &mut self.buckets[index];
            let since = millis.saturating_sub(*filled) as f32 / 1000.0;
            *filled = millis.max(*filled);
            *tokens = (*tokens + since * rate).min(burst);
            if *tokens >= 1.0 {
                *tokens -= 1.0;
                allowed = true;
            }
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use visavis_datagram::Random;

    use super::SourceLimiter;

    #[test]
    fn a_flood_from_many_sources_silences_no_other() {
        let now = Instant::now();
        let mut limiter = SourceLimiter::new(now, &mut Random::from_u64(3));
        let flood: IpAddr = "198.51.100.1".parse().unwrap();
        let answered = (0..10_000)
            .filter(|_| limiter.allows(now, flood, 10.0, 50.0))
            .count();
        assert_eq!(answered, 50);
        let later = now + Duration::from_secs(1);
        let answered = (0..100)
            .filter(|_| limiter.allows(later, flood, 10.0, 50.0))
            .count();
        assert_eq!(answered, 10);
        // 500 flooding sources empty 3 % of the buckets of each half.
        for source in 0..500u32 {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + source));
            for _ in 0..100 {
                limiter.allows(later, ip, 10.0, 50.0);
            }
        }
        let silenced = (0..2000u32)
            .map(|source| IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + source)))
            .filter(|&ip| !limiter.allows(later, ip, 10.0, 50.0))
            .count();
        assert!(silenced < 20, "{silenced} of 2000");
    }

    #[test]
    fn ipv6_sources_are_networks_of_64_bits() {
        let now = Instant::now();
        let mut limiter = SourceLimiter::new(now, &mut Random::from_u64(3));
        let answered = (0..1000u128)
            .map(|host| IpAddr::V6((0x2001_0db8_u128 << 96 | host).into()))
            .filter(|&ip| limiter.allows(now, ip, 10.0, 50.0))
            .count();
        assert_eq!(answered, 50);
    }
}
