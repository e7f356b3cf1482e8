//! Packets by their extended sequence number, in a ring of buffers that are used again.

use std::time::Instant;

/// One packet of a [`PacketRing`].
#[derive(Debug, Default)]
pub struct Stored<M> {
    sequence: u64,
    time: Option<Instant>,
    bytes: Vec<u8>,
    /// What its owner notes about the packet.
    pub meta: M,
}

impl<M> Stored<M> {
    /// The extended sequence number.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it was stored.
    pub const fn time(&self) -> Option<Instant> {
        self.time
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the packet another buffer, e.g. the one that was taken to be filled.
    pub(crate) fn replace_bytes(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// The packet, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// A bounded store of packets: a newer packet takes the place of the one `capacity` numbers before it.
/// Buffers are allocated when they are first used, and then stay.
#[derive(Debug)]
pub struct PacketRing<M> {
    /// Empty until the first packet: a stream that never flows takes no memory.
    slots: Vec<Stored<M>>,
    capacity: usize,
    highest: Option<u64>,
}

impl<M: Default> PacketRing<M> {
    /// A ring for the packets of the last `capacity` sequence numbers, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            capacity: capacity.max(1),
            highest: None,
        }
    }

    /// How many sequence numbers the ring spans.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    fn index(&self, sequence: u64) -> usize {
        (sequence % self.capacity as u64) as usize
    }

    /// The highest sequence number that was stored.
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The lowest sequence number that can still be stored or found.
    pub fn lowest(&self) -> u64 {
        self.highest.map_or(0, |highest| {
            highest.saturating_sub(self.capacity as u64 - 1)
        })
    }

    /// The buffer of a packet that is being stored, to be filled; it holds what was there before.
    /// `None` if the number is too old.
    pub fn store(&mut self, now: Instant, sequence: u64) -> Option<(&mut Vec<u8>, &mut M)> {
        if self.highest.is_some() && sequence < self.lowest() {
            return None;
        }
        self.highest = self.highest.max(Some(sequence));
        if self.slots.is_empty() {
            self.slots.resize_with(self.capacity, Stored::default);
        }
        let index = self.index(sequence);
        let slot = &mut self.slots[index];
        slot.sequence = sequence;
        slot.time = Some(now);
        slot.meta = M::default();
        Some((&mut slot.bytes, &mut slot.meta))
    }

    /// Stores a copy of a packet; false if its number is too old.
    pub fn insert(&mut self, now: Instant, sequence: u64, packet: &[u8], meta: M) -> bool {
        match self.store(now, sequence) {
            Some((bytes, slot)) => {
                bytes.clear();
                bytes.extend_from_slice(packet);
                *slot = meta;
                true
            }
            None => false,
        }
    }

    /// The packet with this number.
    pub fn get(&self, sequence: u64) -> Option<&Stored<M>> {
        let slot = self.slots.get(self.index(sequence))?;
        (slot.time.is_some() && slot.sequence == sequence).then_some(slot)
    }

    /// The packet with this number.
    pub fn get_mut(&mut self, sequence: u64) -> Option<&mut Stored<M>> {
        let index = self.index(sequence);
        let slot = self.slots.get_mut(index)?;
        (slot.time.is_some() && slot.sequence == sequence).then_some(slot)
    }

    /// Whether a packet is stored.
    pub fn contains(&self, sequence: u64) -> bool {
        self.get(sequence).is_some()
    }

    /// Forgets a packet; its buffer stays.
    pub fn remove(&mut self, sequence: u64) {
        if let Some(slot) = self.get_mut(sequence) {
            slot.time = None;
        }
    }

    /// Forgets all packets; their buffers stay.
    pub fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.time = None;
        }
        self.highest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_packets_take_the_place_of_old_ones() {
        let now = Instant::now();
        let mut ring = PacketRing::<()>::new(4);
        for sequence in 100..106 {
            assert!(ring.insert(now, sequence, &[sequence as u8], ()));
        }
        assert!(!ring.contains(101));
        assert_eq!(ring.get(102).unwrap().bytes(), [102]);
        assert_eq!(ring.lowest(), 102);
        assert!(!ring.insert(now, 101, &[1], ()));
        ring.remove(103);
        assert!(!ring.contains(103));
        assert!(ring.insert(now, 103, &[7], ()));
        ring.clear();
        assert!(!ring.contains(105));
    }
}
