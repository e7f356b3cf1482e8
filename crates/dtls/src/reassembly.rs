//! Handshake messages from fragments in any order, duplicated and overlapping
//! (RFC 9147 section 5.5).

use std::collections::VecDeque;

use crate::Limits;
use crate::message::{Fragment, MessageType};
use crate::range_set::RangeSet;

/// A message that is complete and next in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) message_type: MessageType,
    pub(crate) sequence: u16,
    /// The epoch of the record that completed it.
    pub(crate) epoch: u64,
    pub(crate) body: Vec<u8>,
}

/// What became of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It brought something new. `in_order` if it is the next piece of the next message.
    New { in_order: bool },
    /// It is a piece of a message that is not processed yet, and was there already.
    Known,
    /// It is a piece of a message that was processed before.
    Old,
    /// There is no room for it.
    Refused,
    /// It contradicts an earlier one of the same epoch.
    Conflict,
}

/// The messages that wait for pieces.
#[derive(Debug)]
pub(crate) struct Reassembler {
    /// The sequence number of the next message; 65536 when all are used up.
    next: u32,
    /// The entry at index 0 is the next message.
    entries: VecDeque<Option<Entry>>,
    bytes: usize,
    protected: bool,
}

#[derive(Debug)]
struct Entry {
    message_type: MessageType,
    length: u32,
    epoch: u64,
    body: Vec<u8>,
    have: RangeSet,
}

impl Reassembler {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            entries: VecDeque::new(),
            bytes: 0,
            protected: false,
        }
    }

    /// The sequence number of the next message.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.next
    }

    /// Starts at another message than 0: a stateless answer took those before.
    pub(crate) fn start_at(&mut self, next: u16) {
        self.next = next.into();
    }

    /// The type and the epoch of the next message, once it is complete.
    pub(crate) fn peek(&self) -> Option<(MessageType, u64)> {
        let entry = self.entries.front()?.as_ref()?;
        entry
            .is_complete()
            .then_some((entry.message_type, entry.epoch))
    }

    /// Throws the next message away and goes on waiting for it.
    pub(crate) fn discard(&mut self) {
        if let Some(slot) = self.entries.front_mut() {
            self.bytes -= slot.take().map_or(0, |entry| entry.body.len());
        }
    }

    /// Whether a protected record has brought something.
    pub(crate) fn has_protected(&self) -> bool {
        self.protected
    }

    /// Takes the next message, once it is complete.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.peek()?;
        let entry = self.entries.pop_front()??;
        self.bytes -= entry.body.len();
        let sequence = self.next as u16;
        self.next += 1;
        Some(Message {
            message_type: entry.message_type,
            sequence,
            epoch: entry.epoch,
            body: entry.body,
        })
    }

    /// Gives memory back.
    pub(crate) fn trim(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Forgets pieces that came in epochs below `epoch`: nobody vouched for them.
    pub(crate) fn forget_below(&mut self, epoch: u64) {
        for slot in &mut self.entries {
            if slot.as_ref().is_some_and(|entry| entry.epoch < epoch) {
                self.bytes -= slot.take().map_or(0, |entry| entry.body.len());
            }
        }
    }

    /// Takes a fragment that came in a record of `epoch`.
    pub(crate) fn insert(
        &mut self,
        epoch: u64,
        fragment: &Fragment<'_>,
        limits: &Limits,
    ) -> Inserted {
        let header = &fragment.header;
        let sequence = u32::from(header.sequence);
        let Some(ahead) = sequence.checked_sub(self.next) else {
            return Inserted::Old;
        };
        if ahead > u32::from(limits.messages_ahead) || header.length as usize > limits.message_len {
            return Inserted::Refused;
        }
        let index = ahead as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        let slot = &mut self.entries[index];
        if let Some(entry) = slot {
            if entry.epoch > epoch {
                // What was authenticated stands.
                return Inserted::Refused;
            }
            let differs =
                entry.message_type != header.message_type || entry.length != header.length;
            if entry.epoch == epoch && epoch != 0 && differs {
                return Inserted::Conflict;
            }
            // Nobody vouches for plaintext, so the newest wins; and a higher epoch always does.
            if entry.epoch < epoch || differs {
                self.bytes -= entry.body.len();
                *slot = None;
            }
        }
        let end = header.offset + header.fragment_length;
        let grow = (end as usize).saturating_sub(slot.as_ref().map_or(0, |entry| entry.body.len()));
        if self.bytes + grow > limits.reassembly_bytes {
            return Inserted::Refused;
        }
        let is_new_message = slot.is_none();
        let entry = slot.get_or_insert_with(|| Entry {
            message_type: header.message_type,
            length: header.length,
            epoch,
            body: Vec::new(),
            have: RangeSet::default(),
        });
        let (start, end) = (header.offset, end);
        let conflict = entry.have.overlaps(start, end).any(|(from, to)| {
            entry.body[from as usize..to as usize]
                != fragment.body[(from - start) as usize..(to - start) as usize]
        });
        if conflict && epoch != 0 {
            return Inserted::Conflict;
        }
        if !conflict && !is_new_message && entry.have.contains(start, end) {
            return Inserted::Known;
        }
        let in_order = index == 0
            && entry
                .have
                .gap(0, entry.length)
                .is_none_or(|(s, _)| s >= start);
        if conflict {
            entry.have = RangeSet::default();
        }
        if !entry.have.insert(start, end) {
            return Inserted::Refused;
        }
        if entry.body.len() < end as usize {
            entry.body.resize(end as usize, 0);
        }
        self.bytes += grow;
        self.protected |= epoch != 0;
        entry.body[start as usize..end as usize].copy_from_slice(fragment.body);
        Inserted::New { in_order }
    }
}

impl Entry {
    fn is_complete(&self) -> bool {
        self.have.contains(0, self.length)
    }
}

#[cfg(test)]
mod tests {
    use visavis_datagram::Random;

    use super::{Inserted, Reassembler};
    use crate::Limits;
    use crate::message::{Fragment, FragmentHeader, MessageType};

    fn fragment(sequence: u16, message: &[u8], start: usize, end: usize) -> Fragment<'_> {
        Fragment {
            header: FragmentHeader {
                message_type: MessageType::CERTIFICATE,
                length: message.len() as u32,
                sequence,
                offset: start as u32,
                fragment_length: (end - start) as u32,
            },
            body: &message[start..end],
        }
    }

    #[test]
    fn any_order_duplication_and_overlap_give_the_messages_in_order() {
        for seed in 0..200 {
            let mut random = Random::from_u64(seed);
            let messages: Vec<Vec<u8>> = (0..4)
                .map(|_| {
                    let mut message = vec![0; random.below(3000) as usize];
                    random.fill(&mut message);
                    message
                })
                .collect();
            let mut reassembler = Reassembler::new();
            let mut out = Vec::new();
            let mut steps = 0;
            while out.len() < messages.len() {
                steps += 1;
                assert!(steps < 100_000, "seed {seed}");
                let index = random.below(4) as usize;
                let message = &messages[index];
                let start = random.below(message.len() as u64 + 1) as usize;
                let len = random.below(1200).min((message.len() - start) as u64) as usize;
                let inserted = reassembler.insert(
                    0,
                    &fragment(index as u16, message, start, start + len),
                    &Limits::default(),
                );
                assert_ne!(inserted, Inserted::Conflict, "seed {seed}");
                while let Some(message) = reassembler.pop() {
                    assert_eq!(usize::from(message.sequence), out.len());
                    out.push(message.body);
                }
            }
            assert_eq!(out, messages, "seed {seed}");
            assert_eq!(reassembler.bytes, 0);
        }
    }

    #[test]
    fn fragments_that_claim_16_megabytes_get_no_room() {
        let mut reassembler = Reassembler::new();
        let huge = Fragment {
            header: FragmentHeader {
                message_type: MessageType::CERTIFICATE,
                length: 0xff_ffff,
                sequence: 0,
                offset: 0xff_fff0,
                fragment_length: 4,
            },
            body: &[1, 2, 3, 4],
        };
        assert_eq!(
            reassembler.insert(0, &huge, &Limits::default()),
            Inserted::Refused
        );
        assert_eq!(reassembler.bytes, 0);
    }

    #[test]
    fn all_messages_together_are_bounded() {
        let limits = Limits::default();
        let mut reassembler = Reassembler::new();
        let message = vec![0; limits.message_len];
        for sequence in 0..100 {
            reassembler.insert(
                0,
                &fragment(sequence, &message, message.len() - 1, message.len()),
                &limits,
            );
        }
        assert!(reassembler.bytes <= limits.reassembly_bytes);
        assert!(reassembler.entries.len() <= usize::from(limits.messages_ahead) + 1);
    }

    #[test]
    fn authenticated_pieces_beat_plaintext_and_contradictions_show() {
        let limits = Limits::default();
        let mut reassembler = Reassembler::new();
        let (forged, real) = (vec![1; 100], vec![2; 100]);
        reassembler.insert(0, &fragment(0, &forged, 0, 50), &limits);
        assert_eq!(
            reassembler.insert(2, &fragment(0, &real, 50, 100), &limits),
            Inserted::New { in_order: false }
        );
        assert_eq!(
            reassembler.insert(0, &fragment(0, &forged, 0, 50), &limits),
            Inserted::Refused
        );
        assert_eq!(
            reassembler.insert(2, &fragment(0, &forged, 40, 60), &limits),
            Inserted::Conflict
        );
        assert_eq!(
            reassembler.insert(2, &fragment(0, &real, 0, 50), &limits),
            Inserted::New { in_order: true }
        );
        assert_eq!(reassembler.pop().unwrap().body, real);
        assert_eq!(
            reassembler.insert(2, &fragment(0, &real, 0, 50), &limits),
            Inserted::Old
        );
    }
}
