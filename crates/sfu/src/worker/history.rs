//! The latest packets of one encoding, kept once for all who may ask for them again.

use std::time::{Duration, Instant};

/// Slots and bytes of a history that has seen nothing.
const FIRST_SLOTS: usize = 64;
const FIRST_BYTES: usize = 16 << 10;

/// Packets by their extended sequence number, in one ring of bytes. It grows until it holds what its
/// span of time brings, so that memory follows the rate.
#[derive(Debug)]
pub(super) struct History {
    slots: Box<[Slot]>,
    bytes: Box<[u8]>,
    /// Bytes that were written or skipped since the beginning; the place is this modulo the size.
    written: u64,
    /// When the ring's beginning was written last.
    lap: Option<Instant>,
    span: Duration,
    max_bytes: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    sequence: u64,
    /// Where it begins, counted as `written`; one more than that, and 0 for none.
    at: u64,
    len: u32,
}

impl History {
    /// A history that holds `span` of packets, and `max_bytes` at most.
    pub(super) fn new(span: Duration, max_bytes: usize) -> Self {
        Self {
            slots: vec![Slot::default(); FIRST_SLOTS].into(),
            bytes: vec![0; FIRST_BYTES.min(max_bytes.max(2048))].into(),
            written: 0,
            lap: None,
            span,
            max_bytes: max_bytes.max(2048),
        }
    }

    /// Keeps a copy of a packet.
    pub(super) fn insert(&mut self, now: Instant, sequence: u64, packet: &[u8]) {
        if packet.len() > self.bytes.len() {
            return;
        }
        let place = self.place();
        if place + packet.len() > self.bytes.len() || self.lap.is_none() {
            let young = self
                .lap
                .is_some_and(|lap| now.saturating_duration_since(lap) < self.span);
            if young && self.bytes.len() < self.max_bytes {
                self.grow_bytes();
            } else if place != 0 {
                self.written += (self.bytes.len() - place) as u64;
            }
            self.lap = Some(now);
        }
        let index = self.index(sequence);
        let former = self.slots[index];
        // Two numbers of one slot that are both alive: there are more packets than slots.
        if self.is_alive(&former) && former.sequence < sequence && self.slots.len() < MAX_SLOTS {
            self.grow_slots();
        }
        let place = self.place();
        let index = self.index(sequence);
        self.bytes[place..place + packet.len()].copy_from_slice(packet);
        self.slots[index] = Slot {
            sequence,
            at: self.written + 1,
            len: packet.len() as u32,
        };
        self.written += packet.len() as u64;
    }

    /// The packet with this number, if it is still there.
    pub(super) fn get(&self, sequence: u64) -> Option<&[u8]> {
        let slot = &self.slots[self.index(sequence)];
        if slot.sequence != sequence || !self.is_alive(slot) {
            return None;
        }
        let place = ((slot.at - 1) % self.bytes.len() as u64) as usize;
        self.bytes.get(place..place + slot.len as usize)
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.slots)
    }

    fn place(&self) -> usize {
        (self.written % self.bytes.len() as u64) as usize
    }

    fn index(&self, sequence: u64) -> usize {
        (sequence % self.slots.len() as u64) as usize
    }

    fn is_alive(&self, slot: &Slot) -> bool {
        slot.at != 0 && self.written - (slot.at - 1) <= self.bytes.len() as u64
    }

    /// Twice the bytes; what is there moves to the front in the order in which it came.
    fn grow_bytes(&mut self) {
        let size = (self.bytes.len() * 2).min(self.max_bytes);
        let mut bytes = vec![0; size].into_boxed_slice();
        let mut alive = Vec::new();
        for index in 0..self.slots.len() {
            if self.is_alive(&self.slots[index]) {
                alive.push(index);
            } else {
                self.slots[index].at = 0;
            }
        }
        alive.sort_by_key(|&index| self.slots[index].at);
        let mut written = 0;
        for index in alive {
            let slot = self.slots[index];
            let from = ((slot.at - 1) % self.bytes.len() as u64) as usize;
            let len = slot.len as usize;
            bytes[written..written + len].copy_from_slice(&self.bytes[from..from + len]);
            self.slots[index].at = written as u64 + 1;
            written += len;
        }
        self.bytes = bytes;
        self.written = written as u64;
    }

    fn grow_slots(&mut self) {
        let mut slots = vec![Slot::default(); self.slots.len() * 2].into_boxed_slice();
        for slot in self.slots.iter().filter(|slot| self.is_alive(slot)) {
            slots[(slot.sequence % slots.len() as u64) as usize] = *slot;
        }
        self.slots = slots;
    }
}

/// Packets that a history finds at most.
const MAX_SLOTS: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u64, len: usize) -> Vec<u8> {
        (0..len).map(|i| (sequence as usize + i) as u8).collect()
    }

    /// Feeds `rate` packets per second of `len` bytes for three seconds; how many of the last second's
    /// are found, and the memory.
    fn run(rate: u64, len: usize, max_bytes: usize) -> (u64, usize) {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(1), max_bytes);
        for sequence in 0..3 * rate {
            let now = start + Duration::from_micros(sequence * 1_000_000 / rate);
            history.insert(now, sequence, &packet(sequence, len));
        }
        let found = (2 * rate..3 * rate).filter(|&sequence| {
            let Some(found) = history.get(sequence) else {
                return false;
            };
            assert_eq!(found, packet(sequence, len));
            true
        });
        (found.count() as u64, history.memory())
    }

    #[test]
    fn memory_follows_the_rate() {
        let (found, small) = run(50, 100, 1 << 20);
        assert_eq!(found, 50);
        assert!(small < 40_000, "{small}");
        let (found, large) = run(400, 1_200, 4 << 20);
        assert_eq!(found, 400);
        assert!(large < 2 << 20, "{large}");
    }

    #[test]
    fn the_bound_holds_and_the_newest_stay() {
        let (found, memory) = run(1000, 1_200, 100_000);
        assert!((60..=84).contains(&found), "{found}");
        assert!(memory < 200_000, "{memory}");
    }

    #[test]
    fn packets_out_of_order_are_found() {
        let now = Instant::now();
        let mut history = History::new(Duration::from_secs(1), 1 << 20);
        for sequence in [10, 12, 11, 9, 500] {
            history.insert(now, sequence, &packet(sequence, 50));
        }
        for sequence in [9, 10, 11, 12, 500] {
            assert_eq!(history.get(sequence), Some(&packet(sequence, 50)[..]));
        }
        assert_eq!(history.get(13), None);
    }
}
