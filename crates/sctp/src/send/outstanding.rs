//! Chunks that have been sent and are not acknowledged for good: a ring indexed by TSN.
//!
//! Beside the ring stand the ranges that gap blocks have acknowledged, so that a SACK costs what it
//! newly acknowledges plus its number of blocks, and a log of transmissions in the order of time,
//! so that finding what is lost costs only what is lost (RFC 8985 section 6.2).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::clock::Time;
use crate::serial::{after, at_or_after};
use crate::wire::{data_flags, padded};

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    InFlight,
    /// Lost; waits to be sent again.
    Lost,
    /// A gap block acknowledged it.
    Acked,
    /// Given up by partial reliability.
    Abandoned,
}

/// A sent chunk.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) payload: Bytes,
    pub(crate) stream: u16,
    /// `data_flags`.
    pub(crate) flags: u8,
    pub(crate) status: Status,
    /// MID; its low half is the SSN.
    pub(crate) message: u32,
    /// FSN.
    pub(crate) fragment: u32,
    pub(crate) ppid: u32,
    pub(crate) retransmits: u16,
    pub(crate) max_retransmits: u16,
    /// When the message's lifetime ends.
    pub(crate) deadline: Time,
    pub(crate) sent_at: Time,
    /// The connection's delivered bytes, and when they were so many, when this chunk left: for
    /// rate samples (draft-ietf-ccwg-bbr section 4.5).
    pub(crate) delivered: u64,
    pub(crate) delivered_at: Time,
    pub(crate) first_sent_at: Time,
    pub(crate) app_limited: bool,
}

impl Sent {
    /// Bytes that the chunk counts for in flight: with its header, padded.
    pub(crate) fn size(&self) -> usize {
        padded(self.payload.len()) + 16
    }

    fn same_message(&self, other: &Self) -> bool {
        self.stream == other.stream
            && self.message == other.message
            && (self.flags ^ other.flags) & data_flags::UNORDERED == 0
    }
}

/// What one acknowledged chunk means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acked {
    pub(crate) tsn: u32,
    pub(crate) size: usize,
    pub(crate) sent_at: Time,
    pub(crate) retransmitted: bool,
    pub(crate) delivered: u64,
    pub(crate) delivered_at: Time,
    pub(crate) first_sent_at: Time,
    pub(crate) app_limited: bool,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Outstanding {
    ring: VecDeque<Sent>,
    /// The TSN of the ring's first chunk.
    base: u32,
    /// Acknowledged by gap blocks: inclusive ranges, ascending.
    acked: VecDeque<(u32, u32)>,
    /// Scratch for the next generation of `acked`.
    scratch: VecDeque<(u32, u32)>,
    /// Transmissions by time: TSN and time. Stale where the chunk was sent again, acknowledged or
    /// lost.
    log: VecDeque<(u32, Time)>,
    /// TSNs of lost chunks, in the order in which they were found. Stale as above.
    lost: VecDeque<u32>,
    lost_count: usize,
    /// Bytes in flight, with chunk headers.
    in_flight: usize,
    /// Payload bytes in flight.
    payload_in_flight: usize,
    /// Payload bytes in the ring that are not acknowledged.
    unacked_payload: usize,
}

impl Outstanding {
    pub(crate) fn new(first_tsn: u32) -> Self {
        Self {
            ring: VecDeque::new(),
            base: first_tsn,
            acked: VecDeque::new(),
            scratch: VecDeque::new(),
            log: VecDeque::new(),
            lost: VecDeque::new(),
            lost_count: 0,
            in_flight: 0,
            payload_in_flight: 0,
            unacked_payload: 0,
        }
    }

    /// Chunks not cumulatively acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The TSN of the next new chunk.
    pub(crate) fn next_tsn(&self) -> u32 {
        self.base.wrapping_add(self.ring.len() as u32)
    }

    /// The first TSN not cumulatively acknowledged.
    pub(crate) fn base(&self) -> u32 {
        self.base
    }

    /// Bytes in flight, with chunk headers.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Payload bytes in flight.
    pub(crate) fn payload_in_flight(&self) -> usize {
        self.payload_in_flight
    }

    /// Payload bytes not acknowledged, in flight or lost.
    pub(crate) fn unacked_payload(&self) -> usize {
        self.unacked_payload
    }

    /// Whether something waits to be sent again.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost_count != 0
    }

    /// The highest TSN acknowledged by a gap block.
    pub(crate) fn highest_acked(&self) -> Option<u32> {
        self.acked.back().map(|range| range.1)
    }

    pub(crate) fn get(&self, tsn: u32) -> Option<&Sent> {
        self.ring.get(tsn.wrapping_sub(self.base) as usize)
    }

    fn get_mut(&mut self, tsn: u32) -> Option<&mut Sent> {
        self.ring.get_mut(tsn.wrapping_sub(self.base) as usize)
    }

    /// Adds a chunk that leaves now, and answers its TSN.
    pub(crate) fn push(&mut self, sent: Sent) -> u32 {
        let tsn = self.next_tsn();
        self.unacked_payload += sent.payload.len();
        if sent.status == Status::InFlight {
            self.in_flight += sent.size();
            self.payload_in_flight += sent.payload.len();
            self.log.push_back((tsn, sent.sent_at));
        }
        self.ring.push_back(sent);
        tsn
    }

    /// The next chunk to send again.
    pub(crate) fn next_lost(&mut self) -> Option<u32> {
        while let Some(&tsn) = self.lost.front() {
            if self.get(tsn).is_some_and(|s| s.status == Status::Lost) {
                return Some(tsn);
            }
            self.lost.pop_front();
        }
        debug_assert_eq!(self.lost_count, 0);
        None
    }

    /// The chunk that [`next_lost`](Self::next_lost) named leaves again.
    pub(crate) fn resend(&mut self, tsn: u32, stamp: impl FnOnce(&mut Sent)) {
        if self.lost.front() == Some(&tsn) {
            self.lost.pop_front();
        }
        let Some(sent) = self.get_mut(tsn) else {
            return;
        };
        let was_lost = sent.status == Status::Lost;
        let (size, payload) = (sent.size(), sent.payload.len());
        sent.status = Status::InFlight;
        sent.retransmits = sent.retransmits.saturating_add(1);
        stamp(sent);
        let entry = (tsn, sent.sent_at);
        if was_lost {
            self.lost_count -= 1;
            self.in_flight += size;
            self.payload_in_flight += payload;
        }
        self.log.push_back(entry);
    }

    /// Acknowledges everything up to `cumulative`, which is not before `base - 1` nor beyond what
    /// was sent.
    pub(crate) fn ack_cumulative(&mut self, cumulative: u32, mut acked: impl FnMut(Acked)) {
        while !self.ring.is_empty() && at_or_after(cumulative, self.base) {
            let tsn = self.base;
            self.base = tsn.wrapping_add(1);
            let Some(sent) = self.ring.pop_front() else {
                break;
            };
            self.unacked_payload -= match sent.status {
                Status::Acked => 0,
                _ => sent.payload.len(),
            };
            if let Some(ack) = self.leave(tsn, &sent) {
                acked(ack);
            }
        }
        while let Some(range) = self.acked.front_mut() {
            if after(range.0, cumulative) {
                break;
            }
            if after(range.1, cumulative) {
                range.0 = cumulative.wrapping_add(1);
                break;
            }
            self.acked.pop_front();
        }
        if self.ring.is_empty() {
            self.log.clear();
            self.lost.clear();
        }
    }

    /// Acknowledges the gap blocks, which are ascending, disjoint, and within what was sent: only
    /// what earlier ones did not name is looked at.
    pub(crate) fn ack_gaps(
        &mut self,
        blocks: impl Iterator<Item = (u32, u32)>,
        mut acked: impl FnMut(Acked),
    ) {
        let mut merged = std::mem::take(&mut self.scratch);
        merged.clear();
        let mut known = std::mem::take(&mut self.acked);
        let mut append = |range: (u32, u32)| match merged.back_mut() {
            Some(last) if at_or_after(last.1.wrapping_add(1), range.0) => {
                if after(range.1, last.1) {
                    last.1 = range.1;
                }
            }
            _ => merged.push_back(range),
        };
        for (start, end) in blocks {
            let mut from = start;
            while let Some(&(known_start, known_end)) = known.front() {
                if after(known_start, end) {
                    break;
                }
                if after(known_start, from) {
                    self.ack_range(from, known_start.wrapping_sub(1), &mut acked);
                    append((from, known_start.wrapping_sub(1)));
                }
                append((known_start, known_end));
                if at_or_after(known_end.wrapping_add(1), from) {
                    from = known_end.wrapping_add(1);
                }
                known.pop_front();
            }
            if at_or_after(end, from) {
                self.ack_range(from, end, &mut acked);
                append((from, end));
            }
        }
        for range in known.drain(..) {
            append(range);
        }
        self.scratch = known;
        self.acked = merged;
    }

    fn ack_range(&mut self, start: u32, end: u32, acked: &mut impl FnMut(Acked)) {
        let mut tsn = start;
        while at_or_after(end, tsn) {
            if let Some(sent) = self.ring.get_mut(tsn.wrapping_sub(self.base) as usize)
                && matches!(sent.status, Status::InFlight | Status::Lost)
            {
                self.unacked_payload -= sent.payload.len();
                if sent.status == Status::InFlight {
                    self.in_flight -= sent.size();
                    self.payload_in_flight -= sent.payload.len();
                } else {
                    self.lost_count -= 1;
                }
                sent.status = Status::Acked;
                acked(sent.acked(tsn));
            }
            tsn = tsn.wrapping_add(1);
        }
    }

    /// Takes a chunk that left the ring out of the sums; what it tells if it was not acknowledged
    /// before.
    fn leave(&mut self, tsn: u32, sent: &Sent) -> Option<Acked> {
        match sent.status {
            Status::InFlight => {
                self.in_flight -= sent.size();
                self.payload_in_flight -= sent.payload.len();
            }
            Status::Lost => self.lost_count -= 1,
            Status::Acked | Status::Abandoned => return None,
        }
        Some(sent.acked(tsn))
    }

    /// The oldest transmission that is still in flight.
    pub(crate) fn oldest_in_flight(&mut self) -> Option<(u32, Time)> {
        while let Some(&(tsn, at)) = self.log.front() {
            if self
                .get(tsn)
                .is_some_and(|sent| sent.status == Status::InFlight && sent.sent_at == at)
            {
                return Some((tsn, at));
            }
            self.log.pop_front();
        }
        None
    }

    /// Marks a chunk in flight as lost; its bytes leave the flight. Answers its size.
    pub(crate) fn mark_lost(&mut self, tsn: u32) -> usize {
        let Some(sent) = self.get_mut(tsn) else {
            return 0;
        };
        if sent.status != Status::InFlight {
            return 0;
        }
        sent.status = Status::Lost;
        let (size, payload) = (sent.size(), sent.payload.len());
        self.in_flight -= size;
        self.payload_in_flight -= payload;
        self.lost_count += 1;
        self.lost.push_back(tsn);
        size
    }

    /// Marks everything in flight as lost (T3), in the order of TSNs. Answers the bytes.
    pub(crate) fn mark_all_lost(&mut self) -> usize {
        let before = self.in_flight;
        self.lost.clear();
        for (offset, sent) in self.ring.iter_mut().enumerate() {
            if sent.status == Status::InFlight {
                sent.status = Status::Lost;
                self.lost_count += 1;
            }
            if sent.status == Status::Lost {
                self.lost.push_back(self.base.wrapping_add(offset as u32));
            }
        }
        self.in_flight = 0;
        self.payload_in_flight = 0;
        self.log.clear();
        before
    }

    /// Takes back what gap blocks acknowledged: the peer may have dropped it (RFC 9260 section 6.2.1).
    pub(crate) fn forget_gap_acks(&mut self) {
        self.acked.clear();
        for (offset, sent) in self.ring.iter_mut().enumerate() {
            if sent.status == Status::Acked {
                sent.status = Status::Lost;
                self.unacked_payload += sent.payload.len();
                self.lost_count += 1;
                self.lost.push_back(self.base.wrapping_add(offset as u32));
            }
        }
    }

    /// The last chunk that is still in flight and may be sent again, for a tail loss probe: taken
    /// out of the flight, to be sent again at once.
    pub(crate) fn probe_last(&mut self, now: Time) -> bool {
        let found = self.ring.iter().rposition(|sent| {
            sent.status == Status::InFlight
                && sent.retransmits < sent.max_retransmits
                && sent.deadline > now
        });
        let Some(offset) = found else {
            return false;
        };
        let tsn = self.base.wrapping_add(offset as u32);
        self.mark_lost(tsn);
        if let Some(last) = self.lost.pop_back() {
            self.lost.push_front(last);
        }
        true
    }

    /// Gives up the message that a chunk belongs to, as far as it has been sent (RFC 3758 section
    /// 3.5). Answers whether its last fragment has been.
    pub(crate) fn abandon_message(&mut self, tsn: u32) -> bool {
        let at = tsn.wrapping_sub(self.base) as usize;
        let Some(model) = self.ring.get(at).map(|sent| Sent {
            payload: Bytes::new(),
            ..*sent
        }) else {
            return true;
        };
        let mut offset = at;
        // Backwards to the first fragment: the ones before it cannot be of this message.
        loop {
            let sent = &self.ring[offset];
            if sent.same_message(&model) {
                let begin = sent.flags & data_flags::BEGIN != 0;
                self.abandon(offset);
                if begin {
                    break;
                }
            }
            if offset == 0 {
                break;
            }
            offset -= 1;
        }
        if model.flags & data_flags::END != 0 {
            return true;
        }
        for offset in at + 1..self.ring.len() {
            let sent = &self.ring[offset];
            if sent.same_message(&model) {
                let end = sent.flags & data_flags::END != 0;
                self.abandon(offset);
                if end {
                    return true;
                }
            }
        }
        false
    }

    fn abandon(&mut self, offset: usize) {
        let sent = &mut self.ring[offset];
        let (size, payload) = (sent.size(), sent.payload.len());
        match sent.status {
            Status::InFlight => {
                self.in_flight -= size;
                self.payload_in_flight -= payload;
                self.unacked_payload -= payload;
            }
            Status::Lost => {
                self.lost_count -= 1;
                self.unacked_payload -= payload;
            }
            // The peer holds a fragment that will never be whole: the FORWARD-TSN is to reach it too.
            Status::Acked | Status::Abandoned => {}
        }
        sent.status = Status::Abandoned;
        sent.payload = Bytes::new();
    }

    /// "Advanced.Peer.Ack.Point" (RFC 3758 section 3.5 C2), if it is beyond the cumulative
    /// acknowledgement. It does not pass what a gap block acknowledged: a FORWARD-TSN beyond a
    /// fragment of an unordered message that is still wanted would make the peer drop it.
    pub(crate) fn advanced_ack_point(&self) -> Option<u32> {
        let settled = self
            .ring
            .iter()
            .take_while(|sent| sent.status == Status::Abandoned)
            .count();
        (settled != 0).then(|| self.base.wrapping_add(settled as u32).wrapping_sub(1))
    }

    /// The chunks up to `tsn`.
    pub(crate) fn up_to(&self, tsn: u32) -> impl Iterator<Item = &Sent> {
        let count = tsn.wrapping_sub(self.base).wrapping_add(1) as usize;
        self.ring.iter().take(count)
    }

    /// The TSN of the latest chunk of a message.
    pub(crate) fn find(&self, stream: u16, ordered: bool, message: u32) -> Option<u32> {
        let offset = self.ring.iter().rposition(|sent| {
            sent.stream == stream
                && sent.message == message
                && (sent.flags & data_flags::UNORDERED == 0) == ordered
        })?;
        Some(self.base.wrapping_add(offset as u32))
    }

    /// Gives memory back.
    pub(crate) fn trim(&mut self) {
        if self.ring.is_empty() {
            *self = Self::new(self.base);
        }
    }
}

impl Sent {
    fn acked(&self, tsn: u32) -> Acked {
        Acked {
            tsn,
            size: self.size(),
            sent_at: self.sent_at,
            retransmitted: self.retransmits != 0,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited,
        }
    }
}
