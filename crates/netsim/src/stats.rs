//! What a link counts.

use std::time::Duration;

/// Counters of one direction of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets that were handed to the link.
    pub offered: u64,
    /// Packets that went out at the far end (duplicates counted).
    pub delivered: u64,
    /// Bytes of IP packets that went out at the far end.
    pub delivered_bytes: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
    /// Dropped by active queue management.
    pub aqm_dropped: u64,
    /// Marked "congestion experienced".
    pub marked: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Dropped because larger than the MTU.
    pub too_big: u64,
    /// Dropped because the link was down.
    pub down: u64,
    /// Extra copies that were delivered.
    pub duplicated: u64,
    /// Packets with a flipped bit.
    pub corrupted: u64,
    /// Packets that were held back for others to overtake.
    pub reordered: u64,
    /// Sum of the times that packets waited in the queue.
    pub queued: Duration,
    /// The longest that a packet waited in the queue.
    pub longest_queued: Duration,
}

impl LinkStats {
    /// Mean time that a packet waited in the queue.
    pub fn mean_queued(&self) -> Duration {
        let served = self.delivered + self.lost - self.duplicated.min(self.delivered);
        Duration::from_nanos((self.queued.as_nanos() / u128::from(served.max(1))) as u64)
    }
}
