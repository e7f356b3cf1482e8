//! A limit on bytes per second.

use std::time::{Duration, Instant};

/// A bucket that fills at a rate and holds a twentieth of a second's worth.
#[derive(Debug)]
pub(crate) struct RateLimit {
    bytes_per_second: f64,
    /// When the bytes sent so far are paid for.
    paid: Option<Instant>,
}

impl RateLimit {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1) as f64,
            paid: None,
        }
    }

    /// How long to wait before the next bytes, after `bytes` more were sent.
    pub(crate) fn spend(&mut self, now: Instant, bytes: usize) -> Duration {
        let credit = Duration::from_millis(50);
        let since = now.checked_sub(credit).unwrap_or(now);
        let paid = self.paid.map_or(since, |paid| paid.max(since));
        let paid = paid + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        self.paid = Some(paid);
        paid.saturating_duration_since(now)
    }
}

/// Reads `10M`, `1.5 MB/s`, `800k`: bytes per second, by powers of 1000.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let fault = || format!("{text:?} is no rate: use e.g. 800k, 10M or 1G (bytes per second)");
    let bare = text.trim().to_ascii_lowercase().replace(' ', "");
    let bare = bare.strip_suffix("/s").unwrap_or(&bare);
    let bare = bare.strip_suffix('b').unwrap_or(bare);
    let (number, factor) = match bare.chars().last() {
        Some('k') => (&bare[..bare.len() - 1], 1e3),
        Some('m') => (&bare[..bare.len() - 1], 1e6),
        Some('g') => (&bare[..bare.len() - 1], 1e9),
        _ => (bare, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| fault())?;
    let rate = number * factor;
    if (1.0..1e15).contains(&rate) {
        Ok(rate as u64)
    } else {
        Err(fault())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        assert_eq!(parse("10M"), Ok(10_000_000));
        assert_eq!(parse("1.5 MB/s"), Ok(1_500_000));
        assert_eq!(parse("800k"), Ok(800_000));
        for wrong in ["", "fast", "-1", "0", "M", "1e99"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_rate_is_kept_over_time() {
        let mut limit = RateLimit::new(1_000_000);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            now += limit.spend(now, 50_000);
        }
        let took = (now - start).as_secs_f64();
        assert!((4.9..=5.0).contains(&took), "{took}");
    }
}
