//! What arrives: the checks of RFC 9260 section 8.5, the chunks in order, and data (section 6.2).

use bytes::Bytes;
use visavis_datagram::Ecn;

use super::{Association, Timer};
use crate::clock::Time;
use crate::receive::{Arrival, Fragment};
use crate::serial::{after, at_or_after};
use crate::wire::{
    self, Causes, Chunk, DataChunk, ForwardTsn, Parameters, cause_code, data_flags, init_parameter,
};
use crate::{CloseReason, State};

/// Room for a chunk beyond the advertised window, as a share of it: what was under way when the
/// window closed.
const WINDOW_SLACK: usize = 2;
/// The longest HEARTBEAT information that is echoed, in bytes.
const MAX_HEARTBEAT: usize = 1100;

impl Association {
    pub(super) fn receive_packet(&mut self, now: Time, packet: &[u8], ecn: Ecn) {
        let Ok((header, chunks)) = wire::parse(packet) else {
            self.stats.dropped_malformed += 1;
            return;
        };
        if header.destination_port != self.config.local_port
            || header.source_port != self.config.remote_port
        {
            self.stats.dropped_malformed += 1;
            return;
        }
        let first = chunks.clone().next();
        // RFC 9653 section 5.2: none where this end said that it needs none, save for the set-up.
        let unchecked = header.checksum == 0
            && self.config.zero_checksum
            && !matches!(first, Some(Ok(Chunk::Init(_) | Chunk::CookieEcho(_))));
        if !unchecked && wire::checksum(packet) != header.checksum {
            self.stats.dropped_checksum += 1;
            return;
        }
        let Some(Ok(first)) = first else {
            self.stats.dropped_malformed += 1;
            return;
        };
        if !self.is_tag_valid(header.tag, &first) {
            if self.over.is_some() {
                self.answer_after_the_end(&first, header.tag);
            }
            self.stats.dropped_tag += 1;
            return;
        }
        if self.over.is_some() {
            self.answer_after_the_end(&first, header.tag);
            return;
        }
        self.stats.packets_received += 1;
        if ecn == Ecn::Ce {
            self.stats.ecn_marks += 1;
        }
        let mut data = false;
        for (index, chunk) in chunks.enumerate() {
            let Ok(chunk) = chunk else {
                self.stats.dropped_chunks += 1;
                continue;
            };
            // Section 4.3 of RFC 9260: these three stand alone.
            if index > 0 && matches!(chunk, Chunk::Init(_) | Chunk::InitAck(_)) {
                self.stats.dropped_chunks += 1;
                continue;
            }
            data |= matches!(chunk, Chunk::Data(_));
            if !self.handle_chunk(now, &chunk, header.tag, ecn) || self.over.is_some() {
                break;
            }
        }
        if data {
            self.after_data(now);
        }
        self.advance_shutdown(now);
    }

    /// Section 8.5.1.
    fn is_tag_valid(&self, tag: u32, first: &Chunk<'_>) -> bool {
        match first {
            Chunk::Init(_) => tag == 0,
            // The cookie brings its own tag, which is checked with it.
            Chunk::CookieEcho(_) => true,
            Chunk::Abort(_, reflected) | Chunk::ShutdownComplete(reflected) => {
                if *reflected {
                    self.remote_tag != 0 && tag == self.remote_tag
                } else {
                    tag == self.local_tag
                }
            }
            _ => tag == self.local_tag,
        }
    }

    /// "Out of the blue" (section 8.4), said to a peer that has not noticed the end.
    fn answer_after_the_end(&mut self, first: &Chunk<'_>, tag: u32) {
        match first {
            Chunk::Abort(..) | Chunk::ShutdownComplete(_) | Chunk::CookieAck | Chunk::Error(_) => {}
            Chunk::ShutdownAck => self.control.shutdown_complete = Some((tag, true)),
            Chunk::Init(init) => {
                self.control.abort = Some((init.tag, false, cause_code::USER_ABORT));
            }
            _ => self.control.abort = Some((tag, true, cause_code::USER_ABORT)),
        }
    }

    /// Answers whether the rest of the packet may be read.
    fn handle_chunk(&mut self, now: Time, chunk: &Chunk<'_>, tag: u32, ecn: Ecn) -> bool {
        match chunk {
            Chunk::Data(data) => self.handle_data(now, data, ecn),
            Chunk::Sack(sack) => self.handle_sack(now, sack),
            Chunk::Init(init) => self.handle_init(now, init),
            Chunk::InitAck(init) => self.handle_init_ack(now, init),
            Chunk::CookieEcho(cookie) => return self.handle_cookie_echo(now, cookie, tag),
            Chunk::CookieAck => self.handle_cookie_ack(now),
            Chunk::Heartbeat(information) => {
                // Section 8.3; not before the association stands.
                if self.state.is_connected() && information.len() <= MAX_HEARTBEAT {
                    let copy = Bytes::copy_from_slice(information);
                    self.control.push_heartbeat_ack(copy);
                }
            }
            Chunk::HeartbeatAck(information) => self.handle_heartbeat_ack(now, information),
            Chunk::Abort(causes, _) => {
                let cause = Causes::new(causes).flatten().next();
                self.close(CloseReason::RemoteAbort(cause.map_or(0, |(code, _)| code)));
            }
            Chunk::Shutdown(cumulative) => self.handle_shutdown(now, *cumulative),
            Chunk::ShutdownAck => self.handle_shutdown_ack(tag),
            Chunk::ShutdownComplete(_) => {
                if self.state == State::ShutdownAckSent {
                    self.close(CloseReason::Shutdown);
                }
            }
            Chunk::Error(causes) => {
                for (code, _) in Causes::new(causes).flatten() {
                    if code == cause_code::STALE_COOKIE {
                        self.handle_stale_cookie(now);
                    }
                }
            }
            Chunk::Ecne(lowest) => self.handle_ecne(now, *lowest),
            Chunk::Cwr(lowest) => {
                if self
                    .debt
                    .ecn_echo
                    .is_some_and(|tsn| at_or_after(*lowest, tsn))
                {
                    self.debt.ecn_echo = None;
                }
            }
            Chunk::ReConfig(parameters) => self.handle_reconfig(now, parameters),
            Chunk::ForwardTsn(forward) => self.handle_forward_tsn(now, forward),
            Chunk::Pad => {}
            Chunk::Unknown(bytes) => {
                self.stats.unknown += 1;
                // Section 3.2: the two high bits of the type say what to do.
                if bytes[0] & 0x40 != 0 && self.state.is_connected() {
                    let report = Bytes::copy_from_slice(&bytes[..bytes.len().min(64)]);
                    self.control
                        .push_error(cause_code::UNRECOGNIZED_CHUNK, report);
                }
                return bytes[0] & 0x80 != 0;
            }
        }
        true
    }

    fn handle_data(&mut self, now: Time, chunk: &DataChunk<'_>, ecn: Ecn) {
        if !matches!(
            self.state,
            State::Established | State::ShutdownPending | State::ShutdownSent
        ) {
            self.stats.dropped_chunks += 1;
            return;
        }
        self.stats.chunks_received += 1;
        if chunk.payload.is_empty() {
            // Section 6.2: an ABORT with "No User Data".
            self.abort_with(
                now,
                cause_code::NO_USER_DATA,
                CloseReason::ProtocolViolation,
            );
            return;
        }
        let negotiated = self.negotiated.unwrap_or_default();
        if chunk.interleaved != negotiated.interleaving {
            // RFC 8260 section 2.2.1.
            self.abort_with(
                now,
                cause_code::PROTOCOL_VIOLATION,
                CloseReason::ProtocolViolation,
            );
            return;
        }
        let in_order = match self.tracker.classify(chunk.tsn) {
            Arrival::New { in_order } => in_order,
            Arrival::Duplicate => {
                self.stats.chunks_duplicate += 1;
                self.debt.immediate = true;
                return;
            }
            Arrival::TooFar => {
                self.stats.refused_by_limit += 1;
                self.debt.immediate = true;
                return;
            }
        };
        if ecn == Ecn::Ce && negotiated.ecn && self.debt.ecn_echo.is_none() {
            self.debt.ecn_echo = Some(chunk.tsn);
        }
        if chunk.stream >= negotiated.inbound_streams {
            // Section 6.5: acknowledged, not delivered.
            self.stats.invalid_stream += 1;
            self.tracker.insert(chunk.tsn);
            let [high, low] = chunk.stream.to_be_bytes();
            let detail = Bytes::copy_from_slice(&[high, low, 0, 0]);
            self.control.push_error(cause_code::INVALID_STREAM, detail);
            return;
        }
        if !self.has_room(now, chunk, in_order) {
            return;
        }
        let gap_before = self.tracker.has_gaps();
        self.tracker.insert(chunk.tsn);
        if gap_before || !in_order || chunk.flags & data_flags::IMMEDIATE != 0 {
            // Sections 6.7 and 3.3.1.
            self.debt.immediate = true;
        }
        self.stats.bytes_received += chunk.payload.len() as u64;
        if self.reassembly.insert(Fragment::new(chunk)).is_err() {
            self.abort_with(
                now,
                cause_code::PROTOCOL_VIOLATION,
                CloseReason::ProtocolViolation,
            );
        }
    }

    /// Whether the receive window and the limits leave room for a chunk. What fills a gap is taken
    /// longer than the rest, because it lets others go; and so is what the peer was promised room for.
    fn has_room(&mut self, now: Time, chunk: &DataChunk<'_>, in_order: bool) -> bool {
        let window = self.config.receive_window;
        let charged = self.reassembly.charged() + chunk.payload.len();
        let fits = charged <= window
            && (in_order || self.reassembly.waiting_chunks() < self.config.limits.pending_chunks);
        if fits {
            return true;
        }
        if !self.reassembly.is_ready() {
            self.reassembly.hand_out_partial();
        }
        let payload = self.stats.bytes_received + chunk.payload.len() as u64;
        let fills =
            !after(chunk.tsn, self.tracker.highest()) || (in_order && self.debt.covers(payload));
        if fills && charged <= window * WINDOW_SLACK {
            return true;
        }
        if in_order && self.tracker.has_gaps() && !self.reassembly.is_ready() {
            // The application has nothing that it could read to make room, and the peer goes on:
            // fragments whose messages never complete.
            self.abort_with(
                now,
                cause_code::OUT_OF_RESOURCE,
                CloseReason::OutOfResources,
            );
            return false;
        }
        self.stats.refused_by_limit += 1;
        self.debt.immediate = true;
        false
    }

    /// Once per packet with data: when to acknowledge (section 6.2).
    fn after_data(&mut self, now: Time) {
        self.debt.packets = self.debt.packets.saturating_add(1);
        self.reconfig_progress(now);
        if self.debt.packets >= 2 || self.state == State::ShutdownSent {
            self.debt.immediate = true;
        }
        if self.state == State::ShutdownSent {
            // Section 9.2: data after SHUTDOWN is answered with SHUTDOWN and SACK.
            self.control.shutdown = true;
        }
        if self.debt.immediate {
            self.timers.stop(Timer::Sack);
        } else if !self.timers.is_set(Timer::Sack) {
            self.timers.set(Timer::Sack, now + self.config.sack_delay);
        }
    }

    /// FORWARD-TSN (RFC 3758 section 3.6) and I-FORWARD-TSN (RFC 8260 section 2.3.1).
    fn handle_forward_tsn(&mut self, now: Time, forward: &ForwardTsn<'_>) {
        let negotiated = self.negotiated.unwrap_or_default();
        if !self.state.is_connected()
            || !negotiated.partial_reliability
            || forward.interleaved != negotiated.interleaving
        {
            self.stats.dropped_chunks += 1;
            return;
        }
        // Beyond any window: not from a peer that knows what it sent.
        if forward.cumulative.wrapping_sub(self.tracker.cumulative()) as i32 > 1 << 20 {
            self.stats.dropped_chunks += 1;
            return;
        }
        self.debt.immediate = true;
        if !self.tracker.advance(forward.cumulative) {
            return;
        }
        let mut result = Ok(());
        for skip in forward.skips() {
            if skip.stream < negotiated.inbound_streams {
                result = result.and(self.reassembly.skip(skip, forward.interleaved));
            }
        }
        if !forward.interleaved {
            self.reassembly.skip_unordered(forward.cumulative);
        }
        if result.is_err() {
            self.abort_with(
                now,
                cause_code::PROTOCOL_VIOLATION,
                CloseReason::ProtocolViolation,
            );
        }
        self.reconfig_progress(now);
    }

    fn handle_heartbeat_ack(&mut self, now: Time, information: &[u8]) {
        let ours = Parameters::new(information)
            .flatten()
            .find(|(kind, value)| *kind == init_parameter::HEARTBEAT_INFO && value.len() == 20);
        let Some((_, value)) = ours else {
            self.stats.dropped_chunks += 1;
            return;
        };
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&value[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        if word(0) != self.control.heartbeat_nonce || self.control.heartbeat_nonce == 0 {
            self.stats.dropped_chunks += 1;
            return;
        }
        self.errors = 0;
        self.control.heartbeat_unanswered = false;
        let sent_at = Time::from_nanos(word(8));
        if sent_at <= now {
            self.rtt.sample(now, now.since(sent_at));
        }
        let size = u32::from_be_bytes([value[16], value[17], value[18], value[19]]) as usize;
        if size != 0 && self.mtu.confirmed(now, size) {
            self.apply_packet_size();
        }
    }

    /// SHUTDOWN (section 9.2).
    fn handle_shutdown(&mut self, now: Time, cumulative: u32) {
        self.ack_cumulatively(now, cumulative);
        match self.state {
            State::Established | State::ShutdownPending => self.state = State::ShutdownReceived,
            State::ShutdownSent => {
                // Both ends began.
                self.state = State::ShutdownAckSent;
                self.control.shutdown = false;
                self.control.shutdown_ack = true;
                self.timers.set(Timer::Shutdown, now + self.rtt.rto());
            }
            State::ShutdownAckSent => self.control.shutdown_ack = true,
            _ => self.stats.dropped_chunks += 1,
        }
    }

    fn handle_shutdown_ack(&mut self, tag: u32) {
        match self.state {
            State::ShutdownSent | State::ShutdownAckSent => {
                self.control.shutdown_complete = Some((self.remote_tag, false));
                self.close(CloseReason::Shutdown);
            }
            // Section 8.5.1 E.
            State::CookieWait | State::CookieEchoed => {
                self.control.shutdown_complete = Some((tag, true));
            }
            _ => self.stats.dropped_chunks += 1,
        }
    }

    /// The steps that need everything to be acknowledged (section 9.2).
    pub(super) fn advance_shutdown(&mut self, now: Time) {
        if !matches!(self.state, State::ShutdownPending | State::ShutdownReceived)
            || !self.outstanding.is_empty()
            || self.queue.buffered() != 0
        {
            return;
        }
        if self.state == State::ShutdownPending {
            self.state = State::ShutdownSent;
            self.control.shutdown = true;
        } else {
            self.state = State::ShutdownAckSent;
            self.control.shutdown_ack = true;
        }
        self.timers.set(Timer::Shutdown, now + self.rtt.rto());
    }
}
