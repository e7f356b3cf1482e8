//! Stream re-configuration (RFC 6525): resetting streams, and adding some.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Association, Timer};
use crate::clock::Time;
use crate::serial::after;
use crate::wire::{Parameters, reconfig_parameter, reconfig_result};
use crate::{Error, Event, State, StreamId};

/// Streams that one request names at most: they must fit one packet.
const MAX_STREAMS: usize = 400;

/// What this end has asked for.
#[derive(Debug, Clone)]
enum Request {
    Reset(Vec<StreamId>),
    Add(u16),
}

/// The state of re-configuration.
#[derive(Debug)]
pub(super) struct Reconfig {
    /// Of our next request.
    sequence: u32,
    /// Streams to be reset once nothing waits on them.
    waiting: Vec<StreamId>,
    add_waiting: u16,
    request: Option<Request>,
    /// The request as it was sent, and the last TSN assigned then.
    sent: Bytes,
    sent_last_tsn: u32,
    /// Of the peer's next request.
    peer_sequence: u32,
    /// The result of the peer's last request.
    last_result: u32,
    /// A reset of the peer's that waits for its data: the last TSN, and the streams.
    deferred: Option<(u32, Vec<StreamId>)>,
    /// The last reset that was done, so that the same one asked for again does nothing.
    done: Option<(u32, Vec<StreamId>)>,
}

impl Reconfig {
    pub(super) fn new(local_tsn: u32) -> Self {
        Self {
            sequence: local_tsn,
            waiting: Vec::new(),
            add_waiting: 0,
            request: None,
            sent: Bytes::new(),
            sent_last_tsn: 0,
            peer_sequence: 0,
            last_result: reconfig_result::NOTHING_TO_DO,
            deferred: None,
            done: None,
        }
    }

    pub(super) fn set_peer_sequence(&mut self, initial_tsn: u32) {
        self.peer_sequence = initial_tsn;
        self.deferred = None;
        self.done = None;
    }

    pub(super) fn restart(&mut self, local_tsn: u32) {
        *self = Self::new(local_tsn);
    }
}

impl Association {
    pub(super) fn ask_for_reset(&mut self, now: Time, streams: &[StreamId]) -> Result<(), Error> {
        if self.over.is_some()
            || !self.state.is_connected()
            || self.is_shutting_down()
            || !self.agreed().reconfiguration
        {
            return Err(Error::NotOpen);
        }
        for stream in streams {
            if self.queue.is_open(stream.0) {
                return Err(Error::PartialMessage);
            }
        }
        for stream in streams {
            if !self.queue.is_resetting(stream.0) {
                self.queue.set_resetting(stream.0, true);
                self.reconfig.waiting.push(*stream);
            }
        }
        self.reset_when_drained(now);
        Ok(())
    }

    pub(super) fn ask_for_streams(&mut self, now: Time, count: u16) -> Result<(), Error> {
        let agreed = self.agreed();
        if self.over.is_some() || !self.state.is_connected() || !agreed.reconfiguration {
            return Err(Error::NotOpen);
        }
        if agreed.outbound_streams.checked_add(count).is_none() {
            return Err(Error::NoFreeStream);
        }
        self.reconfig.add_waiting = self.reconfig.add_waiting.max(count);
        self.reset_when_drained(now);
        Ok(())
    }

    /// Sends the next request, if none is under way (RFC 6525 section 5.1.1).
    pub(super) fn reset_when_drained(&mut self, now: Time) {
        if self.reconfig.request.is_some() || self.state != State::Established {
            return;
        }
        if !self.reconfig.waiting.is_empty() {
            let queue = &self.queue;
            let (mut drained, waiting) = std::mem::take(&mut self.reconfig.waiting)
                .into_iter()
                .partition::<Vec<_>, _>(|stream| queue.is_drained(stream.0));
            self.reconfig.waiting = waiting;
            if drained.len() > MAX_STREAMS {
                self.reconfig.waiting.extend(drained.drain(MAX_STREAMS..));
            }
            if !drained.is_empty() {
                self.send_request(now, Request::Reset(drained));
                return;
            }
        }
        let count = std::mem::take(&mut self.reconfig.add_waiting);
        if count != 0 {
            self.send_request(now, Request::Add(count));
        }
    }

    fn send_request(&mut self, now: Time, request: Request) {
        let sequence = self.reconfig.sequence;
        self.reconfig.sequence = sequence.wrapping_add(1);
        let last_tsn = self.outstanding.next_tsn().wrapping_sub(1);
        self.reconfig.sent_last_tsn = last_tsn;
        let mut chunk = BytesMut::with_capacity(32);
        match &request {
            Request::Reset(streams) => {
                chunk.put_u16(reconfig_parameter::OUTGOING_RESET);
                chunk.put_u16(16 + 2 * streams.len() as u16);
                chunk.put_u32(sequence);
                chunk.put_u32(self.reconfig.peer_sequence.wrapping_sub(1));
                chunk.put_u32(last_tsn);
                for stream in streams {
                    chunk.put_u16(stream.0);
                }
            }
            Request::Add(count) => {
                chunk.put_u16(reconfig_parameter::ADD_OUTGOING);
                chunk.put_u16(12);
                chunk.put_u32(sequence);
                chunk.put_u16(*count);
                chunk.put_u16(0);
            }
        }
        self.reconfig.sent = chunk.freeze();
        self.reconfig.request = Some(request);
        self.control.push_reconfig(self.reconfig.sent.clone());
        self.timers.set(Timer::Reconfig, now + self.rtt.rto());
    }

    pub(super) fn reconfig_timeout(&mut self, now: Time) {
        if self.reconfig.request.is_none() || !self.count_error(now) {
            return;
        }
        self.rtt.back_off();
        self.control.push_reconfig(self.reconfig.sent.clone());
        self.timers.set(Timer::Reconfig, now + self.rtt.rto());
    }

    pub(super) fn handle_reconfig(&mut self, now: Time, parameters: &[u8]) {
        if !self.state.is_connected() || !self.agreed().reconfiguration {
            self.stats.dropped_chunks += 1;
            return;
        }
        // At most two parameters stand in a chunk (RFC 6525 section 3.1).
        for parameter in Parameters::new(parameters).take(2) {
            let Ok((kind, value)) = parameter else {
                self.stats.dropped_chunks += 1;
                return;
            };
            let word = |at: usize| {
                value
                    .get(at..at + 4)
                    .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
            };
            let Some(sequence) = word(0) else {
                self.stats.dropped_chunks += 1;
                return;
            };
            match kind {
                reconfig_parameter::RESPONSE => {
                    if let Some(result) = word(4) {
                        self.handle_response(now, sequence, result);
                    }
                }
                reconfig_parameter::OUTGOING_RESET => {
                    let (Some(_), Some(last_tsn)) = (word(4), word(8)) else {
                        self.stats.dropped_chunks += 1;
                        return;
                    };
                    self.answer(sequence, |association| {
                        association.peer_resets(last_tsn, stream_list(&value[12..]))
                    });
                }
                reconfig_parameter::INCOMING_RESET => {
                    self.answer(sequence, |association| {
                        association.tell(Event::ResetRequested(stream_list(&value[4..])));
                        reconfig_result::PERFORMED
                    });
                }
                reconfig_parameter::ADD_OUTGOING => {
                    let count = word(4).map_or(0, |word| (word >> 16) as u16);
                    self.answer(sequence, |association| association.peer_adds(count));
                }
                // Resetting TSNs is of no use to data channels, and what this end sends on it asks
                // for itself.
                reconfig_parameter::TSN_RESET | reconfig_parameter::ADD_INCOMING => {
                    self.answer(sequence, |_| reconfig_result::DENIED);
                }
                _ => self.stats.unknown += 1,
            }
        }
    }

    /// Handles a request of the peer's if it is new, and answers it (section 5.2.1).
    fn answer(&mut self, sequence: u32, handle: impl FnOnce(&mut Self) -> u32) {
        let expected = self.reconfig.peer_sequence;
        let result = if sequence == expected {
            self.reconfig.peer_sequence = expected.wrapping_add(1);
            let result = handle(self);
            self.reconfig.last_result = result;
            result
        } else if sequence == expected.wrapping_sub(1) {
            self.reconfig.last_result
        } else {
            reconfig_result::BAD_SEQUENCE
        };
        self.push_response(sequence, result);
    }

    fn push_response(&mut self, sequence: u32, result: u32) {
        let mut chunk = BytesMut::with_capacity(12);
        chunk.put_u16(reconfig_parameter::RESPONSE);
        chunk.put_u16(12);
        chunk.put_u32(sequence);
        chunk.put_u32(result);
        self.control.push_reconfig(chunk.freeze());
    }

    /// Section 5.2.2.
    fn peer_resets(&mut self, last_tsn: u32, streams: Vec<StreamId>) -> u32 {
        let request = (last_tsn, streams);
        if self.reconfig.done.as_ref() == Some(&request) {
            return reconfig_result::PERFORMED;
        }
        if after(last_tsn, self.tracker.cumulative()) {
            self.reconfig.deferred = Some(request);
            return reconfig_result::IN_PROGRESS;
        }
        self.reconfig.deferred = None;
        self.perform_reset(request);
        reconfig_result::PERFORMED
    }

    fn perform_reset(&mut self, (last_tsn, streams): (u32, Vec<StreamId>)) {
        self.reassembly.reset(streams.clone());
        self.readable_told = false;
        self.reconfig.done = Some((last_tsn, streams));
    }

    /// More data has arrived: a reset that waited for it may be due.
    pub(super) fn reconfig_progress(&mut self, _now: Time) {
        let Some((last_tsn, _)) = &self.reconfig.deferred else {
            return;
        };
        if after(*last_tsn, self.tracker.cumulative()) {
            return;
        }
        if let Some(request) = self.reconfig.deferred.take() {
            self.perform_reset(request);
            self.reconfig.last_result = reconfig_result::PERFORMED;
            let sequence = self.reconfig.peer_sequence.wrapping_sub(1);
            self.push_response(sequence, reconfig_result::PERFORMED);
        }
    }

    /// Section 5.2.5.
    fn peer_adds(&mut self, count: u16) -> u32 {
        let limit = self.config.inbound_streams;
        let Some(negotiated) = &mut self.negotiated else {
            return reconfig_result::DENIED;
        };
        match negotiated.inbound_streams.checked_add(count) {
            Some(total) if total <= limit && count != 0 => {
                negotiated.inbound_streams = total;
                let negotiated = *negotiated;
                self.tell(Event::StreamsAdded(negotiated));
                reconfig_result::PERFORMED
            }
            _ => reconfig_result::DENIED,
        }
    }

    /// Section 5.2.7.
    fn handle_response(&mut self, now: Time, sequence: u32, result: u32) {
        if sequence.wrapping_add(1) != self.reconfig.sequence || self.reconfig.request.is_none() {
            return;
        }
        self.errors = 0;
        if result == reconfig_result::IN_PROGRESS {
            // Asked again later, until it is done.
            self.rtt.forget_backoff();
            self.timers.set(Timer::Reconfig, now + self.rtt.rto());
            return;
        }
        self.timers.stop(Timer::Reconfig);
        let performed = matches!(
            result,
            reconfig_result::PERFORMED | reconfig_result::NOTHING_TO_DO
        );
        match self.reconfig.request.take() {
            Some(Request::Reset(streams)) if performed => {
                // The peer resets only once it has everything up to that TSN (section 5.2.2 E2). A
                // FORWARD-TSN that still named it would skip messages of the stream's new life.
                self.ack_cumulatively(now, self.reconfig.sent_last_tsn);
                for stream in &streams {
                    self.queue.reset_stream(stream.0);
                }
                self.tell(Event::OutgoingReset(streams));
            }
            Some(Request::Reset(streams)) => {
                for stream in &streams {
                    self.queue.set_resetting(stream.0, false);
                }
                self.tell(Event::ResetRefused(streams));
            }
            Some(Request::Add(count)) if performed => {
                if let Some(negotiated) = &mut self.negotiated {
                    negotiated.outbound_streams = negotiated.outbound_streams.saturating_add(count);
                    let negotiated = *negotiated;
                    self.tell(Event::StreamsAdded(negotiated));
                }
            }
            Some(Request::Add(_)) | None => {}
        }
        self.reset_when_drained(now);
    }
}

fn stream_list(bytes: &[u8]) -> Vec<StreamId> {
    bytes
        .chunks_exact(2)
        .map(|pair| StreamId(u16::from_be_bytes([pair[0], pair[1]])))
        .collect()
}
