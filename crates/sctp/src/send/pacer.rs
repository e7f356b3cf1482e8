//! Spreads packets over time at the controller's rate: a bucket of bytes that fills with time.

use std::time::Duration;

use crate::clock::Time;

/// Sending goes in bursts of about this long, so that they fit one system call.
const BURST: Duration = Duration::from_millis(1);
/// The largest burst in bytes: what one segmented datagram can carry.
const MAX_BURST: u64 = 60_000;
/// How late a timer may be before rate is lost.
const SLACK: u64 = 4;

/// The bucket.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// Bytes that may leave now; negative after a burst.
    tokens: i64,
    refilled_at: Time,
    /// Bytes per second; 0 means without limit.
    rate: u64,
    packet: u64,
}

impl Pacer {
    /// Sets the rate in bytes per second, 0 for none, and the packet size in bytes.
    pub(crate) fn set_rate(&mut self, now: Time, rate: u64, packet: usize) {
        self.refill(now);
        self.rate = rate;
        self.packet = packet as u64;
    }

    /// The rate.
    pub(crate) fn rate(&self) -> u64 {
        self.rate
    }

    /// Whether a packet may leave.
    pub(crate) fn may_send(&mut self, now: Time) -> bool {
        if self.rate == 0 {
            return true;
        }
        self.refill(now);
        self.tokens > 0
    }

    /// A packet left.
    pub(crate) fn sent(&mut self, bytes: usize) {
        if self.rate != 0 {
            self.tokens -= bytes as i64;
        }
    }

    /// When the next burst may leave.
    pub(crate) fn next(&self) -> Time {
        if self.rate == 0 || self.tokens > 0 {
            return Time::ZERO;
        }
        let missing = (self.burst() as i64 - self.tokens).unsigned_abs();
        let nanos = u128::from(missing) * 1_000_000_000 / u128::from(self.rate);
        self.refilled_at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn burst(&self) -> u64 {
        let bytes = u128::from(self.rate) * BURST.as_nanos() / 1_000_000_000;
        (bytes as u64).clamp(self.packet * 2, MAX_BURST.max(self.packet * 2))
    }

    fn refill(&mut self, now: Time) {
        if self.rate == 0 {
            self.refilled_at = now;
            return;
        }
        let elapsed = now.since(self.refilled_at);
        let per_second = 1_000_000_000u128;
        let gained = u128::from(self.rate) * elapsed.as_nanos() / per_second;
        if gained == 0 {
            return;
        }
        // The fraction of a byte stays in the clock.
        let used = gained * per_second / u128::from(self.rate);
        self.refilled_at =
            self.refilled_at + Duration::from_nanos(u64::try_from(used).unwrap_or(u64::MAX));
        let by_time = u128::from(self.rate) * (BURST.as_nanos() * u128::from(SLACK)) / per_second;
        let cap = (self.burst() * 2).max(by_time as u64);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(gained).min(cap as i64);
        if self.tokens == cap as i64 {
            self.refilled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pacer;
    use crate::clock::Time;

    #[test]
    fn bytes_leave_at_the_rate() {
        let mut pacer = Pacer::default();
        let mut now = Time::from_nanos(1);
        pacer.set_rate(now, 1_000_000, 1200);
        let start = now;
        let mut sent = 0u64;
        while now.since(start) < Duration::from_secs(2) {
            while pacer.may_send(now) {
                pacer.sent(1200);
                sent += 1200;
            }
            assert!(pacer.next() > now);
            now = pacer.next();
        }
        assert!((1_990_000..2_010_000).contains(&sent), "{sent}");
    }
}
