//! Which lost packets to ask for, and when: once noticed, then once per round trip, with a limit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use visavis_rtp::SequenceNumber;

/// Packets to ask for in one message.
pub type NackList = SmallVec<[SequenceNumber; 64]>;

/// The limits of a [`NackScheduler`].
#[derive(Debug, Clone, Copy)]
pub struct NackConfig {
    /// The most lost packets that are tracked; beyond that only a key frame helps. Default 1000.
    pub max_tracked: usize,
    /// How often one packet is asked for. Default 10.
    pub max_requests: u8,
    /// The longest that a gap is waited for as mere reordering. Default 20 ms.
    pub max_reorder_wait: Duration,
}

impl Default for NackConfig {
    fn default() -> Self {
        Self {
            max_tracked: 1000,
            max_requests: 10,
            max_reorder_wait: Duration::from_millis(20),
        }
    }
}

/// What a scheduler counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NackStats {
    /// Packets that were noticed to be lost.
    pub lost: u64,
    /// Requests, one per packet and time.
    pub requests: u64,
    /// Lost packets that came after all.
    pub recovered: u64,
    /// Lost packets that were given up after too many requests.
    pub given_up: u64,
    /// Times that there were too many to track.
    pub overflows: u64,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u64,
    noticed: Instant,
    due: Instant,
    requests: u8,
}

/// Schedules requests for lost packets of one stream.
#[derive(Debug)]
pub struct NackScheduler {
    config: NackConfig,
    /// By sequence number.
    missing: VecDeque<Missing>,
    highest: Option<u64>,
    round_trip: Duration,
    reorder_wait: Duration,
    next_due: Option<Instant>,
    stats: NackStats,
}

impl NackScheduler {
    /// A scheduler that has seen nothing.
    pub fn new(config: NackConfig) -> Self {
        Self {
            missing: VecDeque::new(),
            config,
            highest: None,
            round_trip: Duration::from_millis(100),
            reorder_wait: Duration::ZERO,
            next_due: None,
            stats: NackStats::default(),
        }
    }

    /// The smoothed round-trip time.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// What it counted.
    pub const fn stats(&self) -> &NackStats {
        &self.stats
    }

    /// How many packets are being asked for.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// A packet came. `original`: by the stream itself, neither retransmitted nor recovered. False if
    /// so many are lost before it that only a key frame helps; what was missing is then forgotten.
    pub fn handle_packet(&mut self, now: Instant, sequence: u64, original: bool) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return true;
        };
        if sequence <= highest {
            self.remove(now, sequence, original);
            return true;
        }
        self.highest = Some(sequence);
        let gap = sequence - highest - 1;
        self.stats.lost += gap;
        if gap + self.missing.len() as u64 > self.config.max_tracked as u64 {
            self.stats.overflows += 1;
            self.missing.clear();
            self.next_due = None;
            return false;
        }
        let due = now + self.reorder_wait;
        for sequence in highest + 1..sequence {
            self.missing.push_back(Missing {
                sequence,
                noticed: now,
                due,
                requests: 0,
            });
        }
        if gap > 0 {
            self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        }
        true
    }

    fn remove(&mut self, now: Instant, sequence: u64, original: bool) {
        let found = self
            .missing
            .binary_search_by_key(&sequence, |missing| missing.sequence);
        let Ok(index) = found else { return };
        let Some(missing) = self.missing.remove(index) else {
            return;
        };
        self.stats.recovered += 1;
        let late = now.saturating_duration_since(missing.noticed);
        // The packet itself, sooner than a retransmission could come: it was not lost but late.
        if original && late < self.round_trip {
            let wanted = late.mul_f64(1.25).min(self.config.max_reorder_wait);
            self.reorder_wait = self.reorder_wait.max(wanted);
        } else {
            self.reorder_wait = self.reorder_wait.mul_f64(0.95);
        }
    }

    /// Forgets what is missing before `sequence`: nobody waits for it any more.
    pub fn forget_before(&mut self, sequence: u64) {
        while self
            .missing
            .front()
            .is_some_and(|missing| missing.sequence < sequence)
        {
            self.missing.pop_front();
        }
        if self.missing.is_empty() {
            self.next_due = None;
        }
    }

    /// When [`poll`](Self::poll) has something to ask for.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next_due
    }

    /// Packets to ask for now, up to 64; none if nothing is due.
    pub fn poll(&mut self, now: Instant) -> NackList {
        let mut list = NackList::new();
        if self.next_due.is_none_or(|due| now < due) {
            return list;
        }
        let (limit, trip) = (self.config.max_requests, self.round_trip);
        let before = self.missing.len();
        self.missing
            .retain(|missing| missing.requests < limit || now < missing.due);
        self.stats.given_up += (before - self.missing.len()) as u64;
        // What is due a little later goes into the same message.
        let soon = now + Duration::from_millis(5);
        let mut next: Option<Instant> = None;
        for missing in &mut self.missing {
            if missing.due <= soon && missing.requests < limit && list.len() < list.inline_size() {
                list.push(SequenceNumber(missing.sequence as u16));
                missing.requests += 1;
                // Each time a little later: the answer may itself be lost, or the path be full.
                let backoff = 1.0 + 0.25 * f64::from(missing.requests - 1);
                let wait = trip.max(Duration::from_millis(10)).mul_f64(1.1 * backoff);
                missing.due = now + wait;
            }
            next = Some(next.map_or(missing.due, |next| next.min(missing.due)));
        }
        self.next_due = next;
        self.stats.requests += list.len() as u64;
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_lost_packet_is_asked_for_at_once_and_once_per_round_trip() {
        let start = Instant::now();
        let mut nack = NackScheduler::new(NackConfig::default());
        nack.set_round_trip(Duration::from_millis(50));
        nack.handle_packet(start, 100, true);
        nack.handle_packet(start, 103, true);
        assert_eq!(
            nack.poll(start)[..],
            [SequenceNumber(101), SequenceNumber(102)]
        );
        assert!(nack.poll(at(start, 40)).is_empty());
        nack.handle_packet(at(start, 50), 102, false);
        assert_eq!(nack.poll(at(start, 60))[..], [SequenceNumber(101)]);
        nack.handle_packet(at(start, 90), 101, false);
        assert_eq!(nack.missing(), 0);
        assert!(nack.poll(at(start, 500)).is_empty());
        assert_eq!(nack.stats().recovered, 2);
    }

    #[test]
    fn requests_end() {
        let start = Instant::now();
        let mut nack = NackScheduler::new(NackConfig::default());
        nack.handle_packet(start, 1, true);
        nack.handle_packet(start, 3, true);
        let mut count = 0;
        for ms in 0..20_000 {
            count += nack.poll(at(start, ms)).len();
        }
        assert_eq!(count, 10);
        assert_eq!(nack.stats().given_up, 1);
        assert_eq!(nack.poll_timeout(), None);
    }

    #[test]
    fn a_jump_is_not_asked_for() {
        let start = Instant::now();
        let mut nack = NackScheduler::new(NackConfig::default());
        nack.handle_packet(start, 1, true);
        assert!(!nack.handle_packet(start, 30_000, true));
        assert!(nack.poll(start).is_empty());
        assert_eq!(nack.stats().overflows, 1);
    }

    #[test]
    fn a_path_that_reorders_is_waited_for() {
        let start = Instant::now();
        let mut nack = NackScheduler::new(NackConfig::default());
        nack.handle_packet(start, 1, true);
        nack.handle_packet(start, 3, true);
        nack.handle_packet(at(start, 8), 2, true);
        nack.handle_packet(at(start, 10), 5, true);
        assert!(nack.poll(at(start, 10)).is_empty());
        assert_eq!(nack.poll(at(start, 20)).len(), 1);
    }
}
