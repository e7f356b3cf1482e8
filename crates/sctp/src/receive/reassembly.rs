//! Messages from fragments, for DATA and I-DATA alike.
//!
//! A fragment has a place `(message, index)`: of I-DATA that is MID and FSN, of DATA the unwrapped
//! SSN (0 if unordered) and the TSN. Either way the fragments of a message have consecutive
//! indices, which is all that this module builds on. What arrives in order is appended to the
//! message in the making; what does not waits in a queue sorted by place, whose common ends are cheap.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::slab::Slab;
use crate::serial::{at_or_after, before, unwrap16};
use crate::stream_table::StreamTable;
use crate::wire::{DataChunk, Skip, data_flags};
use crate::{Message, Ppid, StreamId};

/// What a chunk that waits costs beside its bytes; charged to the receive window, so that one-byte
/// chunks cannot take more memory than the window says.
const OVERHEAD: usize = 64;

/// What the application gets, in order.
#[derive(Debug)]
pub(crate) enum Delivery {
    Message(Message),
    /// The peer reset these streams; all of them if empty.
    Reset(Vec<StreamId>),
}

/// Why a fragment was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It contradicts fragments before it: RFC 9260 section 6.9 asks for an ABORT.
    Violation,
}

/// One fragment that has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fragment<'a> {
    stream: u16,
    unordered: bool,
    place: Place,
    begin: bool,
    end: bool,
    ppid: u32,
    payload: &'a [u8],
    interleaved: bool,
}

impl<'a> Fragment<'a> {
    pub(crate) fn new(chunk: &DataChunk<'a>) -> Self {
        let unordered = chunk.flags & data_flags::UNORDERED != 0;
        Self {
            stream: chunk.stream,
            unordered,
            place: Place {
                message: if unordered && !chunk.interleaved {
                    0
                } else {
                    chunk.message
                },
                index: chunk.fragment,
            },
            begin: chunk.flags & data_flags::BEGIN != 0,
            end: chunk.flags & data_flags::END != 0,
            ppid: chunk.ppid,
            payload: chunk.payload,
            interleaved: chunk.interleaved,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    message: u32,
    index: u32,
}

impl Place {
    fn before(self, other: Self) -> bool {
        before(self.message, other.message)
            || (self.message == other.message && before(self.index, other.index))
    }

    fn next(self) -> Self {
        Self {
            message: self.message,
            index: self.index.wrapping_add(1),
        }
    }
}

/// A fragment that waits for those before it.
#[derive(Debug)]
struct Waiting {
    place: Place,
    begin: bool,
    end: bool,
    ppid: u32,
    data: Bytes,
}

/// A message whose beginning is here.
#[derive(Debug)]
struct Assembling {
    next: Place,
    ppid: u32,
    bytes: BytesMut,
    /// Some of it has been handed out.
    partly_out: bool,
}

/// The ordered or the unordered messages of a stream.
#[derive(Debug, Default)]
struct Lane {
    /// The ordered message to hand out next.
    next_message: u32,
    assembling: Option<Assembling>,
    waiting: VecDeque<Waiting>,
    /// Bytes of the latest message of several fragments: a good guess for the next one.
    size_hint: usize,
    /// The stream's other lane has handed out a part: this one hands out whole messages only, so
    /// that parts of one message follow each other.
    whole_only: bool,
}

#[derive(Debug)]
struct Inbound {
    stream: u16,
    ordered: Lane,
    unordered: Option<Box<Lane>>,
}

/// What all lanes share.
#[derive(Debug)]
struct Shared {
    ready: VecDeque<Delivery>,
    slab: Slab,
    /// Bytes and overhead of all that waits, assembled or not.
    charged: usize,
    waiting_chunks: usize,
    whole_message: usize,
    messages: u64,
}

/// The reassembly of all streams.
#[derive(Debug)]
pub(crate) struct Reassembly {
    streams: StreamTable<Inbound>,
    shared: Shared,
}

impl Reassembly {
    /// Messages larger than `whole_message` bytes come in parts.
    pub(crate) fn new(whole_message: usize) -> Self {
        Self {
            streams: StreamTable::default(),
            shared: Shared {
                ready: VecDeque::new(),
                slab: Slab::default(),
                charged: 0,
                waiting_chunks: 0,
                whole_message,
                messages: 0,
            },
        }
    }

    /// Bytes, with overhead, that the application has not taken.
    pub(crate) fn charged(&self) -> usize {
        self.shared.charged
    }

    /// Chunks that wait for others.
    pub(crate) fn waiting_chunks(&self) -> usize {
        self.shared.waiting_chunks
    }

    /// Whole messages so far.
    pub(crate) fn messages(&self) -> u64 {
        self.shared.messages
    }

    /// Whether something waits for the application.
    pub(crate) fn is_ready(&self) -> bool {
        !self.shared.ready.is_empty()
    }

    /// Takes a fragment that the tracker called new.
    pub(crate) fn insert(&mut self, mut fragment: Fragment<'_>) -> Result<(), Refusal> {
        let slot = self
            .streams
            .index_or_insert(fragment.stream, || Inbound::new(fragment.stream));
        let Some(inbound) = self.streams.slot_mut(slot) else {
            return Ok(());
        };
        if fragment.unordered {
            if fragment.begin && fragment.end {
                self.shared.whole(&fragment);
                return Ok(());
            }
            let whole_only = inbound.ordered.is_partly_out();
            let lane = inbound.unordered.get_or_insert_default();
            lane.whole_only = whole_only;
            lane.insert_unordered(&mut self.shared, &fragment)
        } else {
            let whole_only = inbound
                .unordered
                .as_deref()
                .is_some_and(Lane::is_partly_out);
            let lane = &mut inbound.ordered;
            lane.whole_only = whole_only;
            if !fragment.interleaved {
                fragment.place.message = unwrap16(fragment.place.message as u16, lane.next_message);
            }
            lane.insert_ordered(&mut self.shared, &fragment)
        }
    }

    /// The next message or part.
    pub(crate) fn take(&mut self) -> Option<Delivery> {
        let delivery = self.shared.ready.pop_front()?;
        if let Delivery::Message(message) = &delivery {
            self.shared.refund(message.data.len() + OVERHEAD);
        }
        Some(delivery)
    }

    /// Hands out the beginnings of unfinished messages, so that the window opens.
    pub(crate) fn hand_out_partial(&mut self) {
        for inbound in self.streams.values_mut() {
            let stream = inbound.stream;
            inbound.ordered.whole_only = inbound
                .unordered
                .as_deref()
                .is_some_and(Lane::is_partly_out);
            inbound.ordered.hand_out(&mut self.shared, stream, false);
            let whole_only = inbound.ordered.is_partly_out();
            if let Some(lane) = inbound.unordered.as_deref_mut() {
                lane.whole_only = whole_only;
                lane.hand_out(&mut self.shared, stream, true);
            }
        }
    }

    /// Abandons what a FORWARD-TSN skips on one stream (RFC 3758 section 3.6, RFC 8260 section 2.3.1).
    pub(crate) fn skip(&mut self, skip: Skip, interleaved: bool) -> Result<(), Refusal> {
        let slot = self
            .streams
            .index_or_insert(skip.stream, || Inbound::new(skip.stream));
        let Some(inbound) = self.streams.slot_mut(slot) else {
            return Ok(());
        };
        if skip.unordered {
            if let Some(lane) = inbound.unordered.as_deref_mut() {
                lane.discard(&mut self.shared, |place| {
                    at_or_after(skip.message, place.message)
                });
                lane.drain_unordered(&mut self.shared, skip.stream);
            }
            return Ok(());
        }
        let lane = &mut inbound.ordered;
        let message = if interleaved {
            skip.message
        } else {
            unwrap16(skip.message as u16, lane.next_message)
        };
        if before(message, lane.next_message) {
            return Ok(());
        }
        lane.discard(&mut self.shared, |place| {
            at_or_after(message, place.message)
        });
        lane.next_message = message.wrapping_add(1);
        lane.drain_ordered(&mut self.shared, skip.stream)
    }

    /// Abandons unordered DATA fragments up to a TSN (RFC 3758 section 3.6).
    pub(crate) fn skip_unordered(&mut self, cumulative: u32) {
        for inbound in self.streams.values_mut() {
            if let Some(lane) = inbound.unordered.as_deref_mut() {
                lane.discard_dead(&mut self.shared, cumulative);
                lane.drain_unordered(&mut self.shared, inbound.stream);
            }
        }
    }

    /// The peer reset its side of these streams, or of all (RFC 6525 section 5.2.2).
    pub(crate) fn reset(&mut self, streams: Vec<StreamId>) {
        if streams.is_empty() {
            for inbound in self.streams.values_mut() {
                inbound.discard(&mut self.shared);
            }
            self.streams = StreamTable::default();
        }
        for stream in &streams {
            if let Some(mut inbound) = self.streams.remove(stream.0) {
                inbound.discard(&mut self.shared);
            }
        }
        self.shared.ready.push_back(Delivery::Reset(streams));
    }

    /// Forgets unfinished messages of all streams; what is ready stays (restart).
    pub(crate) fn clear(&mut self) {
        for inbound in self.streams.values_mut() {
            inbound.discard(&mut self.shared);
        }
        self.streams = StreamTable::default();
    }

    /// Gives memory back.
    pub(crate) fn trim(&mut self) {
        self.shared.slab.trim();
        if self.shared.ready.is_empty() {
            self.shared.ready = VecDeque::new();
        }
        for inbound in self.streams.values_mut() {
            inbound.ordered.trim();
            if let Some(lane) = inbound.unordered.as_deref_mut() {
                lane.trim();
            }
        }
    }
}

impl Inbound {
    fn new(stream: u16) -> Self {
        Self {
            stream,
            ordered: Lane::default(),
            unordered: None,
        }
    }

    fn discard(&mut self, shared: &mut Shared) {
        self.ordered.discard(shared, |_| true);
        if let Some(lane) = self.unordered.as_deref_mut() {
            lane.discard(shared, |_| true);
        }
    }
}

impl Shared {
    fn refund(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.charged, "refund beyond the charge");
        self.charged = self.charged.saturating_sub(bytes);
    }

    /// An unfragmented message.
    fn whole(&mut self, fragment: &Fragment<'_>) {
        let data = self.slab.copy(fragment.payload);
        self.charged += data.len() + OVERHEAD;
        self.messages += 1;
        self.ready.push_back(Delivery::Message(Message {
            stream: StreamId(fragment.stream),
            ppid: Ppid(fragment.ppid),
            unordered: fragment.unordered,
            first: true,
            last: true,
            data,
        }));
    }
}

impl Lane {
    fn is_partly_out(&self) -> bool {
        self.assembling.as_ref().is_some_and(|a| a.partly_out)
    }

    fn insert_ordered(
        &mut self,
        shared: &mut Shared,
        fragment: &Fragment<'_>,
    ) -> Result<(), Refusal> {
        if before(fragment.place.message, self.next_message) {
            // Skipped by a FORWARD-TSN that overtook it.
            return Ok(());
        }
        if self.is_next_ordered(fragment.place, fragment.begin)? {
            self.append(shared, fragment);
            if !self.waiting.is_empty() {
                return self.drain_ordered(shared, fragment.stream);
            }
            return Ok(());
        }
        self.wait(shared, fragment);
        Ok(())
    }

    /// Whether a fragment is the one that the lane waits for.
    fn is_next_ordered(&self, place: Place, begin: bool) -> Result<bool, Refusal> {
        match &self.assembling {
            Some(assembling) if place == assembling.next => {
                if begin {
                    Err(Refusal::Violation)
                } else {
                    Ok(true)
                }
            }
            Some(_) => Ok(false),
            None => Ok(begin && place.message == self.next_message),
        }
    }

    fn drain_ordered(&mut self, shared: &mut Shared, stream: u16) -> Result<(), Refusal> {
        while let Some(front) = self.waiting.front() {
            if !self.is_next_ordered(front.place, front.begin)? {
                break;
            }
            self.append_waiting(shared, stream, false);
        }
        Ok(())
    }

    fn insert_unordered(
        &mut self,
        shared: &mut Shared,
        fragment: &Fragment<'_>,
    ) -> Result<(), Refusal> {
        let is_next = match &self.assembling {
            Some(assembling) if fragment.place == assembling.next => {
                if fragment.begin {
                    return Err(Refusal::Violation);
                }
                true
            }
            Some(_) => false,
            None => fragment.begin && self.waiting.is_empty(),
        };
        if is_next {
            self.append(shared, fragment);
            self.drain_unordered(shared, fragment.stream);
            return Ok(());
        }
        let at = self.wait(shared, fragment);
        if let Some((start, end)) = self.complete_run(at) {
            self.assemble_run(shared, fragment.stream, start, end);
        } else {
            self.drain_unordered(shared, fragment.stream);
        }
        Ok(())
    }

    /// Appends what continues the message in the making, or starts with the first that waits.
    fn drain_unordered(&mut self, shared: &mut Shared, stream: u16) {
        while let Some(front) = self.waiting.front() {
            let is_next = match &self.assembling {
                Some(assembling) => front.place == assembling.next && !front.begin,
                None => front.begin,
            };
            if !is_next {
                break;
            }
            self.append_waiting(shared, stream, true);
        }
    }

    /// The whole message around a waiting fragment, if it is complete. Looks forward first, where
    /// a gap is the usual case, so that a run is not walked once per fragment.
    fn complete_run(&self, at: usize) -> Option<(usize, usize)> {
        let mut end = at;
        while !self.waiting[end].end {
            let next = self.waiting.get(end + 1)?;
            if next.place != self.waiting[end].place.next() || next.begin {
                return None;
            }
            end += 1;
        }
        let mut start = at;
        while !self.waiting[start].begin {
            let previous = self.waiting.get(start.checked_sub(1)?)?;
            if previous.place.next() != self.waiting[start].place || previous.end {
                return None;
            }
            start -= 1;
        }
        Some((start, end))
    }

    /// Hands out the waiting fragments `start..=end` as one message.
    fn assemble_run(&mut self, shared: &mut Shared, stream: u16, start: usize, end: usize) {
        let total = self.waiting.range(start..=end).map(|w| w.data.len()).sum();
        let ppid = self.waiting[start].ppid;
        let mut bytes = shared.slab.buffer(total);
        let count = end - start + 1;
        for waiting in self.waiting.drain(start..=end) {
            bytes.extend_from_slice(&waiting.data);
        }
        shared.waiting_chunks -= count;
        shared.refund(total + count * OVERHEAD);
        shared.charged += total + OVERHEAD;
        shared.messages += 1;
        shared.ready.push_back(Delivery::Message(Message {
            stream: StreamId(stream),
            ppid: Ppid(ppid),
            unordered: true,
            first: true,
            last: true,
            data: bytes.freeze(),
        }));
    }

    /// Puts a fragment among those that wait, and answers where.
    fn wait(&mut self, shared: &mut Shared, fragment: &Fragment<'_>) -> usize {
        let place = fragment.place;
        let at = match self.waiting.back() {
            Some(back) if place.before(back.place) => self
                .waiting
                .partition_point(|waiting| waiting.place.before(place)),
            _ => self.waiting.len(),
        };
        let waiting = Waiting {
            place,
            begin: fragment.begin,
            end: fragment.end,
            ppid: fragment.ppid,
            data: shared.slab.copy(fragment.payload),
        };
        shared.charged += waiting.data.len() + OVERHEAD;
        shared.waiting_chunks += 1;
        self.waiting.insert(at, waiting);
        at
    }

    /// Appends an arrived fragment that is next.
    fn append(&mut self, shared: &mut Shared, fragment: &Fragment<'_>) {
        if fragment.begin && fragment.end {
            shared.whole(fragment);
            self.next_message = fragment.place.message.wrapping_add(1);
            return;
        }
        self.extend(
            shared,
            (fragment.place, fragment.ppid, fragment.end),
            fragment.payload,
            fragment.stream,
            fragment.unordered,
        );
    }

    /// Appends the first waiting fragment, which is next.
    fn append_waiting(&mut self, shared: &mut Shared, stream: u16, unordered: bool) {
        let Some(waiting) = self.waiting.pop_front() else {
            return;
        };
        shared.waiting_chunks -= 1;
        if waiting.begin && waiting.end {
            // Its charge moves with it.
            self.next_message = waiting.place.message.wrapping_add(1);
            shared.messages += 1;
            shared.ready.push_back(Delivery::Message(Message {
                stream: StreamId(stream),
                ppid: Ppid(waiting.ppid),
                unordered,
                first: true,
                last: true,
                data: waiting.data,
            }));
            return;
        }
        shared.refund(waiting.data.len() + OVERHEAD);
        self.extend(
            shared,
            (waiting.place, waiting.ppid, waiting.end),
            &waiting.data,
            stream,
            unordered,
        );
    }

    /// Adds a fragment to the message in the making, and hands out what is due.
    fn extend(
        &mut self,
        shared: &mut Shared,
        (place, ppid, end): (Place, u32, bool),
        payload: &[u8],
        stream: u16,
        unordered: bool,
    ) {
        let hint = self.size_hint.max(payload.len() * 4);
        let assembling = self.assembling.get_or_insert_with(|| {
            shared.charged += OVERHEAD;
            Assembling {
                next: place,
                ppid,
                bytes: shared.slab.buffer(hint.min(shared.whole_message)),
                partly_out: false,
            }
        });
        assembling.bytes.extend_from_slice(payload);
        assembling.next = place.next();
        shared.charged += payload.len();
        if end {
            if let Some(done) = self.assembling.take() {
                self.next_message = place.message.wrapping_add(1);
                if !done.partly_out {
                    self.size_hint = done.bytes.len();
                }
                shared.messages += 1;
                shared.ready.push_back(Delivery::Message(Message {
                    stream: StreamId(stream),
                    ppid: Ppid(done.ppid),
                    unordered,
                    first: !done.partly_out,
                    last: true,
                    data: done.bytes.freeze(),
                }));
            }
        } else if assembling.bytes.len() >= shared.whole_message {
            self.hand_out(shared, stream, unordered);
        }
    }

    /// Hands out what is there of the message in the making.
    fn hand_out(&mut self, shared: &mut Shared, stream: u16, unordered: bool) {
        let Some(assembling) = &mut self.assembling else {
            return;
        };
        if assembling.bytes.is_empty() || self.whole_only {
            return;
        }
        let data = assembling.bytes.split().freeze();
        assembling.bytes = BytesMut::with_capacity(data.len().min(shared.whole_message));
        let first = !std::mem::replace(&mut assembling.partly_out, true);
        shared.charged += OVERHEAD;
        shared.ready.push_back(Delivery::Message(Message {
            stream: StreamId(stream),
            ppid: Ppid(assembling.ppid),
            unordered,
            first,
            last: false,
            data,
        }));
    }

    /// Forgets the fragments whose place is meant.
    fn discard(&mut self, shared: &mut Shared, mut meant: impl FnMut(Place) -> bool) {
        if let Some(assembling) = &self.assembling
            && meant(assembling.next)
        {
            shared.refund(assembling.bytes.len() + OVERHEAD);
            self.assembling = None;
        }
        self.waiting.retain(|waiting| {
            let gone = meant(waiting.place);
            if gone {
                shared.waiting_chunks -= 1;
                shared.refund(waiting.data.len() + OVERHEAD);
            }
            !gone
        });
    }

    /// Forgets unordered DATA fragments whose message misses one up to `cumulative`, which will not
    /// come any more.
    fn discard_dead(&mut self, shared: &mut Shared, cumulative: u32) {
        let is_gone = |index: u32| at_or_after(cumulative, index);
        if self.assembling.is_some() {
            let waiting = std::mem::take(&mut self.waiting);
            self.discard(shared, |place| is_gone(place.index));
            self.waiting = waiting;
        }
        let mut at = 0;
        while at < self.waiting.len() {
            let mut end = at;
            while let Some(next) = self.waiting.get(end + 1)
                && !self.waiting[end].end
                && !next.begin
                && next.place == self.waiting[end].place.next()
            {
                end += 1;
            }
            let (first, last) = (&self.waiting[at], &self.waiting[end]);
            let misses_first = !first.begin && is_gone(first.place.index.wrapping_sub(1));
            let misses_last = !last.end && is_gone(last.place.next().index);
            // The beginning may be in the making already.
            let continues = self
                .assembling
                .as_ref()
                .is_some_and(|assembling| assembling.next == first.place);
            if (misses_first && !continues) || misses_last {
                for waiting in self.waiting.drain(at..=end) {
                    shared.waiting_chunks -= 1;
                    shared.refund(waiting.data.len() + OVERHEAD);
                }
            } else {
                at = end + 1;
            }
        }
    }

    fn trim(&mut self) {
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        self.size_hint = 0;
    }
}
