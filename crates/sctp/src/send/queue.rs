//! Messages that wait to be sent, and which stream is next (RFC 8260 section 3).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;

use crate::SchedulerKind;
use crate::clock::Time;
use crate::stream_table::StreamTable;
use crate::wire::data_flags;

/// The weight of a stream that was given none: RFC 8831's "normal" priority.
const NORMAL_WEIGHT: u16 = 256;
/// `max_retransmits` of a reliable message.
pub(crate) const NO_LIMIT: u16 = u16::MAX;

/// A message, or a part of one, as the application gave it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) data: Bytes,
    pub(crate) ppid: u32,
    pub(crate) ordered: bool,
    pub(crate) max_retransmits: u16,
    pub(crate) deadline: Time,
    /// Ends it.
    pub(crate) end: bool,
    /// Part of the buffered amount that the application sees.
    pub(crate) counted: bool,
}

impl Draft {
    fn counted_len(&self) -> usize {
        if self.counted { self.data.len() } else { 0 }
    }
}

/// A draft in its stream's queue.
#[derive(Debug)]
struct Queued {
    draft: Draft,
    /// Its place in the order of `send`.
    order: u64,
}

/// The next bytes to send, as a chunk.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) stream: u16,
    pub(crate) payload: Bytes,
    pub(crate) flags: u8,
    pub(crate) message: u32,
    pub(crate) fragment: u32,
    pub(crate) ppid: u32,
    pub(crate) max_retransmits: u16,
    pub(crate) deadline: Time,
}

/// What stands at the head of the chosen stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    slot: u32,
    /// Bytes of the part that stands there.
    pub(crate) len: usize,
    /// Whether a fragment of the message has been sent.
    pub(crate) begun: bool,
}

/// The message being sent.
#[derive(Debug, Clone, Copy)]
struct Begun {
    message: u32,
    /// The next one.
    fragment: u32,
    ordered: bool,
}

/// One stream outwards.
#[derive(Debug)]
struct Outbound {
    stream: u16,
    queue: VecDeque<Queued>,
    buffered: usize,
    low_threshold: usize,
    /// Tell when the buffered amount falls to the threshold.
    armed: bool,
    weight: u16,
    /// The stream's place in the schedule: what the heap sorts by.
    key: u64,
    /// Bytes over weight that the stream has had.
    virtual_time: u64,
    next_ordered: u32,
    next_unordered: u32,
    begun: Option<Begun>,
    /// A message in parts is open.
    open: bool,
    /// The open message was given up: its further parts are dropped.
    discarding: bool,
    /// In the heap, or the current one.
    scheduled: bool,
    resetting: bool,
}

impl Outbound {
    fn new(stream: u16) -> Self {
        Self {
            stream,
            queue: VecDeque::new(),
            buffered: 0,
            low_threshold: 0,
            armed: false,
            weight: NORMAL_WEIGHT,
            key: 0,
            virtual_time: 0,
            next_ordered: 0,
            next_unordered: 0,
            begun: None,
            open: false,
            discarding: false,
            scheduled: false,
            resetting: false,
        }
    }

    /// Whether something can be sent. The last part of a message that is still open is kept back,
    /// because the final fragment must not be empty.
    fn sendable(&self) -> bool {
        match self.queue.front() {
            None => false,
            Some(front) => front.draft.end || self.queue.len() > 1,
        }
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct SendQueue {
    streams: StreamTable<Outbound>,
    kind: SchedulerKind,
    interleaving: bool,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    current: Option<u32>,
    order: u64,
    turn: u64,
    virtual_time: u64,
    /// Payload bytes in all queues.
    buffered: usize,
    low: VecDeque<u16>,
    abandoned: u64,
}

impl SendQueue {
    pub(crate) fn new(kind: SchedulerKind) -> Self {
        Self {
            streams: StreamTable::default(),
            kind,
            interleaving: false,
            heap: BinaryHeap::new(),
            current: None,
            order: 0,
            turn: 0,
            virtual_time: 0,
            buffered: 0,
            low: VecDeque::new(),
            abandoned: 0,
        }
    }

    /// Whether messages of several streams may alternate.
    pub(crate) fn set_interleaving(&mut self, interleaving: bool) {
        self.interleaving = interleaving;
    }

    /// Payload bytes that wait.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Payload bytes that wait on a stream.
    pub(crate) fn buffered_on(&self, stream: u16) -> usize {
        self.streams.get(stream).map_or(0, |s| s.buffered)
    }

    /// Messages whose lifetime ended before they left.
    pub(crate) fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// The next stream whose buffered amount fell to its threshold.
    pub(crate) fn poll_low(&mut self) -> Option<u16> {
        self.low.pop_front()
    }

    pub(crate) fn set_low_threshold(&mut self, stream: u16, threshold: usize) {
        let outbound = self.stream(stream);
        outbound.low_threshold = threshold;
        outbound.armed = outbound.buffered > threshold;
    }

    pub(crate) fn set_weight(&mut self, stream: u16, weight: u16) {
        self.stream(stream).weight = weight.max(1);
    }

    /// Whether a message in parts is open on a stream.
    pub(crate) fn is_open(&self, stream: u16) -> bool {
        self.streams.get(stream).is_some_and(|s| s.open)
    }

    pub(crate) fn is_resetting(&self, stream: u16) -> bool {
        self.streams.get(stream).is_some_and(|s| s.resetting)
    }

    /// Whether nothing of a stream waits.
    pub(crate) fn is_drained(&self, stream: u16) -> bool {
        self.streams
            .get(stream)
            .is_none_or(|s| s.queue.is_empty() && s.begun.is_none())
    }

    /// From now on the stream takes nothing.
    pub(crate) fn set_resetting(&mut self, stream: u16, resetting: bool) {
        self.stream(stream).resetting = resetting;
    }

    /// The stream has been reset: it starts anew (RFC 6525 section 5.2.2).
    pub(crate) fn reset_stream(&mut self, stream: u16) {
        if let Some(outbound) = self.streams.get_mut(stream) {
            outbound.resetting = false;
            outbound.next_ordered = 0;
            outbound.next_unordered = 0;
            if outbound.queue.is_empty() && !outbound.scheduled {
                self.streams.remove(stream);
            }
        }
    }

    /// All streams start anew (restart); messages that were begun are gone.
    pub(crate) fn restart(&mut self) {
        for outbound in self.streams.values_mut() {
            outbound.next_ordered = 0;
            outbound.next_unordered = 0;
            outbound.resetting = false;
            if outbound.begun.take().is_some() {
                let mut ended = false;
                while !ended && let Some(gone) = outbound.queue.pop_front() {
                    outbound.buffered -= gone.draft.counted_len();
                    self.buffered -= gone.draft.data.len();
                    ended = gone.draft.end;
                }
                outbound.discarding = !ended;
            }
        }
    }

    /// Adds a message or part.
    pub(crate) fn push(&mut self, stream: u16, draft: Draft) {
        self.order += 1;
        let order = self.order;
        let slot = self
            .streams
            .index_or_insert(stream, || Outbound::new(stream));
        let Some(outbound) = self.streams.slot_mut(slot) else {
            return;
        };
        outbound.open = !draft.end;
        if outbound.discarding {
            outbound.discarding = outbound.open;
            return;
        }
        self.buffered += draft.data.len();
        outbound.buffered += draft.counted_len();
        outbound.armed |= outbound.buffered > outbound.low_threshold;
        if draft.end
            && draft.data.is_empty()
            && let Some(held) = outbound.queue.back_mut()
        {
            held.draft.end = true;
        } else {
            outbound.queue.push_back(Queued { draft, order });
        }
        self.schedule(slot);
    }

    /// The head of the stream whose turn it is. Messages whose lifetime is over are dropped on the
    /// way, unless they were begun.
    pub(crate) fn head(&mut self, now: Time) -> Option<Head> {
        loop {
            let slot = match self.current {
                Some(slot) => slot,
                None => {
                    let Reverse((key, slot)) = self.heap.pop()?;
                    if self.kind == SchedulerKind::WeightedFair {
                        self.virtual_time = self.virtual_time.max(key);
                    }
                    self.current = Some(slot);
                    slot
                }
            };
            let outbound = self.streams.slot_mut(slot)?;
            while let Some(front) = outbound.queue.front() {
                let expired = front.draft.deadline <= now && outbound.begun.is_none();
                if !expired || !front.draft.end {
                    break;
                }
                outbound.buffered -= front.draft.counted_len();
                self.buffered -= front.draft.data.len();
                outbound.queue.pop_front();
                self.abandoned += 1;
                note_low(outbound, &mut self.low);
            }
            if outbound.sendable()
                && let Some(front) = outbound.queue.front()
            {
                return Some(Head {
                    slot,
                    len: front.draft.data.len(),
                    begun: outbound.begun.is_some(),
                });
            }
            if !self.interleaving && outbound.begun.is_some() {
                // Without I-DATA nothing may stand between the fragments of a message.
                return None;
            }
            outbound.scheduled = false;
            self.current = None;
        }
    }

    /// Whether the message at the head has outlived its lifetime; then it is dropped, and its
    /// identity is told so that what was sent of it can be abandoned.
    pub(crate) fn expire_begun(&mut self, head: Head, now: Time) -> Option<(u16, bool, u32)> {
        let outbound = self.streams.slot(head.slot)?;
        let front = outbound.queue.front()?;
        let begun = outbound.begun?;
        (front.draft.deadline <= now).then_some((outbound.stream, begun.ordered, begun.message))
    }

    /// Takes up to `limit` bytes from the head.
    pub(crate) fn cut(&mut self, head: Head, limit: usize) -> Option<Cut> {
        let outbound = self.streams.slot_mut(head.slot)?;
        let front = outbound.queue.front_mut()?;
        let take = front.draft.data.len().min(limit);
        let counted = if front.draft.counted { take } else { 0 };
        let whole = take == front.draft.data.len();
        let payload = if whole {
            std::mem::take(&mut front.draft.data)
        } else {
            front.draft.data.split_to(take)
        };
        let mut flags = 0;
        if !front.draft.ordered {
            flags |= data_flags::UNORDERED;
        }
        let ordered = front.draft.ordered;
        let begun = outbound.begun.unwrap_or_else(|| {
            flags |= data_flags::BEGIN;
            let counter = if ordered {
                &mut outbound.next_ordered
            } else {
                &mut outbound.next_unordered
            };
            let message = *counter;
            *counter = counter.wrapping_add(1);
            Begun {
                message,
                fragment: 0,
                ordered,
            }
        });
        let ended = whole && front.draft.end;
        if ended {
            flags |= data_flags::END;
        }
        outbound.begun = (!ended).then_some(Begun {
            fragment: begun.fragment.wrapping_add(1),
            ..begun
        });
        let cut = Cut {
            stream: outbound.stream,
            flags,
            message: begun.message,
            fragment: begun.fragment,
            ppid: front.draft.ppid,
            max_retransmits: front.draft.max_retransmits,
            deadline: front.draft.deadline,
            payload,
        };
        if whole {
            outbound.queue.pop_front();
        }
        outbound.buffered -= counted;
        self.buffered -= take;
        note_low(outbound, &mut self.low);
        outbound.virtual_time += (take as u64 + 32) * 65_536 / u64::from(outbound.weight);
        if ended || self.interleaving {
            self.rotate(head.slot);
        }
        Some(cut)
    }

    /// Drops what is left of a begun message. `None` if that is nothing; its identity else, so that
    /// a last fragment can be abandoned in its name.
    pub(crate) fn drop_rest(&mut self, stream: u16, ordered: bool, message: u32) -> Option<Cut> {
        let slot = self.streams.index(stream)?;
        let outbound = self.streams.slot_mut(slot)?;
        let begun = outbound.begun?;
        if begun.message != message || begun.ordered != ordered {
            return None;
        }
        outbound.begun = None;
        let mut ended = false;
        let mut ppid = 0;
        while !ended && let Some(gone) = outbound.queue.pop_front() {
            ppid = gone.draft.ppid;
            outbound.buffered -= gone.draft.counted_len();
            self.buffered -= gone.draft.data.len();
            ended = gone.draft.end;
        }
        outbound.discarding = !ended;
        note_low(outbound, &mut self.low);
        if self.current == Some(slot) {
            self.rotate(slot);
        }
        let mut flags = data_flags::END;
        if !ordered {
            flags |= data_flags::UNORDERED;
        }
        Some(Cut {
            stream,
            payload: Bytes::new(),
            flags,
            message,
            fragment: begun.fragment,
            ppid,
            max_retransmits: 0,
            deadline: Time::NEVER,
        })
    }

    /// Gives up the open message of a stream: what was not begun is removed, what was is named so
    /// that it can be abandoned; without `abandons` it ends where it is.
    pub(crate) fn cancel_open(&mut self, stream: u16, abandons: bool) -> Option<(bool, u32)> {
        let outbound = self.streams.get_mut(stream).filter(|s| s.open)?;
        outbound.open = false;
        if std::mem::take(&mut outbound.discarding) {
            return None;
        }
        // The parts of the open message are the last ones in the queue, behind the end of the one
        // before.
        let only = outbound.queue.iter().all(|queued| !queued.draft.end);
        match outbound.begun {
            Some(begun) if only && abandons => return Some((begun.ordered, begun.message)),
            Some(_) if only => {
                if let Some(last) = outbound.queue.back_mut() {
                    last.draft.end = true;
                }
            }
            _ => {
                while outbound.queue.back().is_some_and(|q| !q.draft.end) {
                    if let Some(gone) = outbound.queue.pop_back() {
                        outbound.buffered -= gone.draft.counted_len();
                        self.buffered -= gone.draft.data.len();
                    }
                }
            }
        }
        let slot = self.streams.index(stream)?;
        self.schedule(slot);
        None
    }

    /// The open message has been given up, and no more parts of it will come.
    pub(crate) fn forget_open(&mut self, stream: u16) {
        if let Some(outbound) = self.streams.get_mut(stream) {
            outbound.open = false;
            outbound.discarding = false;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        let kind = self.kind;
        *self = Self::new(kind);
    }

    /// Gives memory back.
    pub(crate) fn trim(&mut self) {
        for outbound in self.streams.values_mut() {
            if outbound.queue.is_empty() {
                outbound.queue = VecDeque::new();
            }
        }
        if self.heap.is_empty() {
            self.heap = BinaryHeap::new();
        }
        if self.low.is_empty() {
            self.low = VecDeque::new();
        }
    }

    fn stream(&mut self, stream: u16) -> &mut Outbound {
        let slot = self
            .streams
            .index_or_insert(stream, || Outbound::new(stream));
        self.streams
            .slot_mut(slot)
            .expect("the slot was made just now")
    }

    /// Puts a stream that has something to send into the schedule.
    fn schedule(&mut self, slot: u32) {
        let Some(outbound) = self.streams.slot_mut(slot) else {
            return;
        };
        if outbound.scheduled || !outbound.sendable() {
            return;
        }
        outbound.scheduled = true;
        if self.current == Some(slot) {
            return;
        }
        outbound.key = match self.kind {
            SchedulerKind::FirstCome => outbound.queue.front().map_or(0, |f| f.order),
            SchedulerKind::RoundRobin => {
                self.turn += 1;
                self.turn
            }
            SchedulerKind::WeightedFair => {
                outbound.virtual_time = outbound.virtual_time.max(self.virtual_time);
                outbound.virtual_time
            }
        };
        self.heap.push(Reverse((outbound.key, slot)));
    }

    /// The current stream has had its turn.
    fn rotate(&mut self, slot: u32) {
        let Some(outbound) = self.streams.slot_mut(slot) else {
            return;
        };
        if !outbound.sendable() {
            outbound.scheduled = false;
            self.current = None;
            return;
        }
        if self.heap.is_empty() {
            // Alone: it stays.
            if self.kind == SchedulerKind::WeightedFair {
                self.virtual_time = self.virtual_time.max(outbound.virtual_time);
            }
            return;
        }
        outbound.scheduled = false;
        self.current = None;
        self.schedule(slot);
    }
}

fn note_low(outbound: &mut Outbound, low: &mut VecDeque<u16>) {
    if outbound.armed && outbound.buffered <= outbound.low_threshold {
        outbound.armed = false;
        low.push_back(outbound.stream);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Draft, NO_LIMIT, SendQueue};
    use crate::SchedulerKind;
    use crate::clock::Time;

    fn draft(len: usize) -> Draft {
        Draft {
            data: Bytes::from(vec![0; len]),
            ppid: 53,
            ordered: true,
            max_retransmits: NO_LIMIT,
            deadline: Time::NEVER,
            end: true,
            counted: true,
        }
    }

    fn streams(queue: &mut SendQueue, limit: usize) -> Vec<u16> {
        let mut order = Vec::new();
        while let Some(head) = queue.head(Time::ZERO) {
            order.push(queue.cut(head, limit).unwrap().stream);
        }
        order
    }

    #[test]
    fn first_come_keeps_the_order_of_send() {
        let mut queue = SendQueue::new(SchedulerKind::FirstCome);
        for stream in [3, 1, 3, 2, 1] {
            queue.push(stream, draft(10));
        }
        assert_eq!(streams(&mut queue, 100), [3, 1, 3, 2, 1]);
    }

    #[test]
    fn round_robin_takes_turns_between_messages_or_with_interleaving_between_fragments() {
        let mut queue = SendQueue::new(SchedulerKind::RoundRobin);
        for stream in [1, 1, 2, 2] {
            queue.push(stream, draft(20));
        }
        assert_eq!(streams(&mut queue, 10), [1, 1, 2, 2, 1, 1, 2, 2]);
        queue.set_interleaving(true);
        for stream in [1, 2] {
            queue.push(stream, draft(30));
        }
        assert_eq!(streams(&mut queue, 10), [1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn weighted_fair_shares_by_weight() {
        let mut queue = SendQueue::new(SchedulerKind::WeightedFair);
        queue.set_interleaving(true);
        queue.set_weight(1, 128);
        queue.set_weight(2, 512);
        queue.push(1, draft(1_000_000));
        queue.push(2, draft(1_000_000));
        let order = &streams(&mut queue, 1000)[..1000];
        let first = order.iter().filter(|&&stream| stream == 1).count();
        assert!((190..=210).contains(&first), "{first} of 1000");
    }

    #[test]
    fn an_open_message_keeps_its_last_part_back() {
        let mut queue = SendQueue::new(SchedulerKind::FirstCome);
        let part = |end, len| Draft { end, ..draft(len) };
        queue.push(1, part(false, 10));
        assert!(queue.head(Time::ZERO).is_none());
        queue.push(1, part(false, 10));
        let head = queue.head(Time::ZERO).unwrap();
        let first = queue.cut(head, 100).unwrap();
        assert_eq!((first.flags, first.fragment), (2, 0));
        assert!(queue.head(Time::ZERO).is_none());
        queue.push(1, part(true, 0));
        let head = queue.head(Time::ZERO).unwrap();
        let last = queue.cut(head, 100).unwrap();
        assert_eq!((last.flags, last.fragment, last.payload.len()), (1, 1, 10));
        assert_eq!(queue.buffered(), 0);
    }
}
