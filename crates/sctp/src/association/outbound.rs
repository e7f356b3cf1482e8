//! What leaves: control chunks, SACK, and data bundled behind them (RFC 9260 section 6.10), written
//! straight into the transmit buffer.

use std::collections::VecDeque;

use bytes::Bytes;
use visavis_datagram::{Segments, TransmitBuf};

use super::handshake::InitAck;
use super::{Association, Timer};
use crate::clock::Time;
use crate::send::{Cut, NO_LIMIT, Sent, Status};
use crate::wire::{HEADER, Writer, chunk_type, data_flags, init_parameter, padded};
use crate::{Negotiated, State};

/// Smaller slots are not worth a packet.
const SMALLEST_SLOT: usize = 256;
/// A fragment in the rest of a packet is at least so long, unless it ends its message.
const SMALLEST_FRAGMENT: usize = 256;
/// Below so many packets in the window the last one asks for a SACK at once: there are too few for
/// "every second packet" to keep the flow going.
const ASK_BELOW_PACKETS: usize = 4;
/// Chunks that a peer's gap blocks can tell apart (16 bits).
const MAX_OUTSTANDING: usize = 65_000;
/// Answers to the peer that may wait: more of the same are dropped.
const MAX_ANSWERS: usize = 8;

/// Chunks to be sent beside data.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) init: bool,
    init_acks: VecDeque<InitAck>,
    pub(super) cookie_echo: bool,
    pub(super) cookie_ack: bool,
    pub(super) heartbeat: bool,
    pub(super) heartbeat_nonce: u64,
    pub(super) heartbeat_unanswered: bool,
    heartbeat_acks: VecDeque<Bytes>,
    /// Cause and its value.
    errors: VecDeque<(u16, Bytes)>,
    /// An error in a packet of its own, for a tag that is not the association's.
    error_to: Option<(u32, u16, Bytes)>,
    pub(super) shutdown: bool,
    pub(super) shutdown_ack: bool,
    /// Tag, and whether it is reflected.
    pub(super) shutdown_complete: Option<(u32, bool)>,
    /// Tag, whether it is reflected, and cause.
    pub(super) abort: Option<(u32, bool, u16)>,
    pub(super) cwr: Option<u32>,
    pub(super) forward_tsn: bool,
    /// Size of the path MTU probe to send.
    pub(super) probe: Option<usize>,
    /// RE-CONFIG chunks, ready to be written.
    pub(super) reconfig: VecDeque<Bytes>,
}

impl Control {
    /// Gives memory back.
    pub(super) fn trim(&mut self) {
        self.init_acks.shrink_to_fit();
        self.heartbeat_acks.shrink_to_fit();
        self.errors.shrink_to_fit();
        self.reconfig.shrink_to_fit();
    }

    pub(super) fn push_init_ack(&mut self, ack: InitAck) {
        if self.init_acks.len() < MAX_ANSWERS {
            self.init_acks.push_back(ack);
        }
    }

    pub(super) fn push_heartbeat_ack(&mut self, information: Bytes) {
        if self.heartbeat_acks.len() < MAX_ANSWERS {
            self.heartbeat_acks.push_back(information);
        }
    }

    pub(super) fn push_error(&mut self, cause: u16, value: Bytes) {
        if self.errors.len() < MAX_ANSWERS {
            self.errors.push_back((cause, value));
        }
    }

    pub(super) fn push_error_to(&mut self, error: (u32, u16, Bytes)) {
        self.error_to = Some(error);
    }

    pub(super) fn push_reconfig(&mut self, chunk: Bytes) {
        if self.reconfig.len() < MAX_ANSWERS {
            self.reconfig.push_back(chunk);
        }
    }

    /// Keeps only what is said after the end.
    pub(super) fn forget_requests(&mut self) {
        *self = Self {
            abort: self.abort,
            shutdown_complete: self.shutdown_complete,
            ..Self::default()
        };
    }

    /// Whether a chunk waits that goes into a common packet.
    fn is_pending(&self) -> bool {
        self.cookie_echo
            || self.cookie_ack
            || self.heartbeat
            || self.shutdown
            || self.shutdown_ack
            || self.forward_tsn
            || self.cwr.is_some()
            || !self.heartbeat_acks.is_empty()
            || !self.errors.is_empty()
            || !self.reconfig.is_empty()
    }
}

/// What this end owes the peer: a SACK, and the window that it announced.
#[derive(Debug)]
pub(super) struct AckDebt {
    /// Packets with data since the last SACK.
    pub(super) packets: u32,
    pub(super) immediate: bool,
    advertised: usize,
    /// The payload that the peer may send in all, by the most generous window that it was told: it
    /// does not know what a chunk costs here beside its payload.
    promised: u64,
    /// The lowest TSN that came with a congestion mark, until the peer has reacted.
    pub(super) ecn_echo: Option<u32>,
}

impl AckDebt {
    pub(super) fn new(window: usize) -> Self {
        Self {
            packets: 0,
            immediate: false,
            advertised: window,
            promised: window as u64,
            ecn_echo: None,
        }
    }

    /// Whether the peer may have sent so much payload without breaking its word.
    pub(super) fn covers(&self, payload: u64) -> bool {
        payload <= self.promised
    }

    /// The delayed SACK is due.
    pub(super) fn due(&mut self) {
        self.immediate |= self.packets != 0;
    }

    pub(super) fn forget(&mut self) {
        self.packets = 0;
        self.immediate = false;
        self.ecn_echo = None;
    }
}

/// What stopped the sender last.
#[derive(Debug, Default)]
pub(super) struct Limited {
    by: Limit,
    /// One packet may leave whatever the congestion window says: a tail loss probe.
    pub(super) probe: bool,
    /// One chunk may leave whatever the peer's window says: a zero window probe.
    pub(super) window_probe: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Limit {
    #[default]
    Application,
    Window,
    Pacing,
    Peer,
}

impl Limited {
    pub(super) fn by_network(&self) -> bool {
        matches!(self.by, Limit::Window | Limit::Pacing)
    }
}

impl Association {
    pub(super) fn write_run(&mut self, now: Time, out: &mut TransmitBuf) -> Option<Segments> {
        let before = out.datagrams();
        while self.write_packet(now, out) {
            self.stats.packets_sent += 1;
        }
        let wrote = out.datagrams() != before;
        if wrote {
            self.after_run(now);
        }
        wrote.then(|| out.segments()).flatten()
    }

    /// The largest packet that goes into an empty run.
    fn packet_limit(&self, out: &TransmitBuf) -> usize {
        let framing = out.framing();
        let room = out.mtu().saturating_sub(framing.header + framing.trailer);
        room.min(self.mtu.current()) & !3
    }

    /// Writes one packet, if there is something to say and it fits the run.
    fn write_packet(&mut self, now: Time, out: &mut TransmitBuf) -> bool {
        let full = self.packet_limit(out);
        let is_first = out.is_empty();
        let available = out.available() & !3;
        let smallest = if is_first { SMALLEST_SLOT } else { HEADER + 16 };
        if available < smallest {
            return false;
        }
        if let Some(done) = self.write_lone_packet(out) {
            return done;
        }
        if self.over.is_some() || !(self.state.is_connected()) {
            return false;
        }
        if let Some(size) = self.control.probe {
            return self.write_probe(now, out, size);
        }
        let owes_sack = self.debt.immediate;
        if !owes_sack && !self.control.is_pending() && !self.has_sendable_data(now) {
            return false;
        }
        // A chunk from before the packets became smaller goes as it is.
        let oversized = self.outstanding.next_lost().and_then(|tsn| {
            let length = self.outstanding.get(tsn)?.payload.len();
            let need = HEADER + self.chunk_header() + padded(length);
            (need > full && need <= available).then_some(need)
        });
        let limit = oversized.unwrap_or(available.min(full));
        let (source, destination) = (self.config.local_port, self.config.remote_port);
        let tag = self.remote_tag;
        let Some(slot) = out.slot() else {
            return false;
        };
        let mut writer = Writer::new(&mut slot[..limit], source, destination, tag);
        let cookie_echo = self.control.cookie_echo;
        self.write_control(now, &mut writer);
        let may_send_data = match self.state {
            // Section 5.1 C: only together with the COOKIE ECHO.
            State::CookieEchoed => cookie_echo && !self.control.cookie_echo,
            State::Established | State::ShutdownPending | State::ShutdownReceived => true,
            _ => false,
        };
        let data_follows = may_send_data && self.has_sendable_data(now);
        if owes_sack || (self.debt.packets != 0 && data_follows) {
            self.write_sack(&mut writer);
        }
        if data_follows {
            self.write_data(now, &mut writer, limit < full, full);
        }
        if writer.is_empty() {
            return false;
        }
        let checksum = cookie_echo || !self.negotiated.is_some_and(|n| n.zero_checksum);
        let length = writer.finish(checksum);
        out.commit(length);
        true
    }

    /// INIT, INIT ACK, ABORT and SHUTDOWN COMPLETE, which stand alone (section 4.3). `Some` if one
    /// waits: whether it was written.
    fn write_lone_packet(&mut self, out: &mut TransmitBuf) -> Option<bool> {
        let control = &self.control;
        let any = control.init
            || control.abort.is_some()
            || control.shutdown_complete.is_some()
            || control.error_to.is_some()
            || !control.init_acks.is_empty();
        if !any {
            return None;
        }
        let room = out.available();
        if room < 600 {
            // A run of smaller packets is under way, or the buffer is too small for anything.
            if out.is_empty() {
                self.control.init = false;
                self.control.init_acks.clear();
            }
            return Some(false);
        }
        let (source, destination) = (self.config.local_port, self.config.remote_port);
        let slot = out.slot()?;
        let mut writer = Writer::new(slot, source, destination, 0);
        if let Some((tag, reflected, cause)) = self.control.abort.take() {
            writer.set_tag(tag);
            writer.begin(chunk_type::ABORT, u8::from(reflected));
            writer.put_parameter(cause, &[]);
            writer.end();
        } else if let Some((tag, reflected)) = self.control.shutdown_complete.take() {
            writer.set_tag(tag);
            writer.chunk(chunk_type::SHUTDOWN_COMPLETE, u8::from(reflected), &[]);
        } else if let Some((tag, cause, value)) = self.control.error_to.take() {
            writer.set_tag(tag);
            writer.begin(chunk_type::ERROR, 0);
            writer.put_parameter(cause, &value);
            writer.end();
        } else if self.control.init {
            self.control.init = false;
            self.write_init(&mut writer);
        } else if let Some(ack) = self.control.init_acks.pop_front() {
            self.write_init_ack(&mut writer, &ack);
        }
        let length = writer.finish(true);
        out.commit(length);
        Some(true)
    }

    /// HEARTBEAT and PAD of exactly `size` bytes (RFC 8899 section 6.2.1), in a run of its own.
    fn write_probe(&mut self, now: Time, out: &mut TransmitBuf, size: usize) -> bool {
        if !out.is_empty() {
            return false;
        }
        self.control.probe = None;
        if out.available() < size {
            self.mtu.too_large_here(now, size);
            return false;
        }
        let (source, destination) = (self.config.local_port, self.config.remote_port);
        let tag = self.remote_tag;
        let Some(slot) = out.slot() else {
            return false;
        };
        let mut writer = Writer::new(&mut slot[..size], source, destination, tag);
        self.write_heartbeat(now, &mut writer, size as u32);
        let padding = writer.room().saturating_sub(4);
        writer.begin(chunk_type::PAD, 0);
        writer.put_zeros(padding);
        writer.end();
        let checksum = !self.negotiated.is_some_and(|n| n.zero_checksum);
        let length = writer.finish(checksum);
        out.commit(length);
        true
    }

    fn write_heartbeat(&mut self, now: Time, writer: &mut Writer<'_>, probe: u32) {
        if self.control.heartbeat_nonce == 0 {
            self.control.heartbeat_nonce = self.random.u64() | 1;
        }
        let mut information = [0; 20];
        information[..8].copy_from_slice(&self.control.heartbeat_nonce.to_be_bytes());
        information[8..16].copy_from_slice(&now.nanos().to_be_bytes());
        information[16..].copy_from_slice(&probe.to_be_bytes());
        writer.begin(chunk_type::HEARTBEAT, 0);
        writer.put_parameter(init_parameter::HEARTBEAT_INFO, &information);
        writer.end();
    }

    fn write_control(&mut self, now: Time, writer: &mut Writer<'_>) {
        if self.control.cookie_echo {
            let cookie = self.handshake.echo.clone();
            if writer.room() < 4 + padded(cookie.len()) {
                return;
            }
            writer.chunk(chunk_type::COOKIE_ECHO, 0, &cookie);
            self.control.cookie_echo = false;
        }
        if std::mem::take(&mut self.control.cookie_ack) {
            writer.chunk(chunk_type::COOKIE_ACK, 0, &[]);
        }
        if self.state == State::CookieEchoed {
            return;
        }
        while let Some(information) = self.control.heartbeat_acks.front() {
            if writer.room() < 4 + padded(information.len()) {
                break;
            }
            writer.chunk(chunk_type::HEARTBEAT_ACK, 0, information);
            self.control.heartbeat_acks.pop_front();
        }
        if self.control.heartbeat && writer.room() >= 28 {
            self.control.heartbeat = false;
            self.control.heartbeat_unanswered = true;
            self.write_heartbeat(now, writer, 0);
        }
        while let Some((cause, value)) = self.control.errors.front() {
            if writer.room() < 8 + padded(value.len()) {
                break;
            }
            writer.begin(chunk_type::ERROR, 0);
            writer.put_parameter(*cause, value);
            writer.end();
            self.control.errors.pop_front();
        }
        while let Some(chunk) = self.control.reconfig.front() {
            if writer.room() < 4 + padded(chunk.len()) {
                break;
            }
            writer.chunk(chunk_type::RE_CONFIG, 0, chunk);
            self.control.reconfig.pop_front();
        }
        if let Some(tsn) = self.control.cwr
            && writer.room() >= 8
        {
            self.control.cwr = None;
            writer.chunk(chunk_type::CWR, 0, &tsn.to_be_bytes());
        }
        if self.control.forward_tsn {
            self.write_forward_tsn(now, writer);
        }
        if self.control.shutdown && writer.room() >= 8 {
            self.control.shutdown = false;
            let cumulative = self.tracker.cumulative().to_be_bytes();
            writer.chunk(chunk_type::SHUTDOWN, 0, &cumulative);
        }
        if self.control.shutdown_ack && writer.room() >= 4 {
            self.control.shutdown_ack = false;
            writer.chunk(chunk_type::SHUTDOWN_ACK, 0, &[]);
        }
    }

    /// SACK (sections 3.3.4 and 6.2), and ECNE where a mark was seen.
    fn write_sack(&mut self, writer: &mut Writer<'_>) {
        let echo = self.debt.ecn_echo.filter(|_| writer.room() >= 24);
        if let Some(tsn) = echo {
            writer.chunk(chunk_type::ECNE, 0, &tsn.to_be_bytes());
        }
        let Some(words) = writer.room().checked_sub(16).map(|room| room / 4) else {
            return;
        };
        let duplicates = self.tracker.duplicates().len().min(words / 2);
        let cumulative = self.tracker.cumulative();
        let gaps = self
            .tracker
            .runs()
            .len()
            .min(words - duplicates)
            .min(usize::from(u16::MAX));
        let window = self.window();
        writer.begin(chunk_type::SACK, 0);
        writer.put_u32(cumulative);
        writer.put_u32(u32::try_from(window).unwrap_or(u32::MAX));
        writer.put_u16(gaps as u16);
        writer.put_u16(duplicates as u16);
        for (start, end) in self.tracker.runs().take(gaps) {
            writer.put_u16(start.wrapping_sub(cumulative) as u16);
            writer.put_u16(end.wrapping_sub(cumulative) as u16);
        }
        for tsn in &self.tracker.duplicates()[..duplicates] {
            writer.put_u32(*tsn);
        }
        writer.end();
        self.tracker.clear_duplicates();
        self.debt.packets = 0;
        self.debt.immediate = false;
        self.debt.advertised = window;
        let promised = self.stats.bytes_received + window as u64;
        self.debt.promised = self.debt.promised.max(promised);
        self.timers.stop(Timer::Sack);
        self.stats.sacks_sent += 1;
    }

    /// What the receive window leaves.
    fn window(&self) -> usize {
        self.config
            .receive_window
            .saturating_sub(self.reassembly.charged())
    }

    /// The application has read: tell the peer if its window was getting small (section 6.2).
    pub(super) fn update_window(&mut self) {
        let total = self.config.receive_window;
        if self.debt.advertised < total / 2
            && self.window() >= self.debt.advertised + total / 4
            && self.state.is_connected()
        {
            self.debt.immediate = true;
        }
    }

    /// FORWARD-TSN or I-FORWARD-TSN (RFC 3758 section 3.5, RFC 8260 section 2.3.1).
    fn write_forward_tsn(&mut self, now: Time, writer: &mut Writer<'_>) {
        let Some(point) = self.outstanding.advanced_ack_point() else {
            self.control.forward_tsn = false;
            return;
        };
        let interleaving = self.interleaving();
        let entry = if interleaving { 8 } else { 4 };
        if writer.room() < 8 + entry {
            return;
        }
        // The latest message of each stream; few streams at a time, and as many as fit.
        let max = (writer.room() - 8) / entry;
        let mut skips: Vec<(u16, bool, u32)> = Vec::new();
        let mut reached = self.outstanding.base().wrapping_sub(1);
        for sent in self.outstanding.up_to(point) {
            let unordered = sent.flags & data_flags::UNORDERED != 0;
            // Without I-DATA, unordered messages need no entry.
            if sent.status == Status::Abandoned && (interleaving || !unordered) {
                let known = skips
                    .iter()
                    .position(|skip| (skip.0, skip.1) == (sent.stream, unordered));
                match known {
                    Some(at) => skips[at].2 = sent.message,
                    None if skips.len() == max => break,
                    None => skips.push((sent.stream, unordered, sent.message)),
                }
            }
            reached = reached.wrapping_add(1);
        }
        let kind = if interleaving {
            chunk_type::I_FORWARD_TSN
        } else {
            chunk_type::FORWARD_TSN
        };
        writer.begin(kind, 0);
        writer.put_u32(reached);
        for (stream, unordered, message) in skips {
            writer.put_u16(stream);
            if interleaving {
                writer.put_u16(u16::from(unordered));
                writer.put_u32(message);
            } else {
                writer.put_u16(message as u16);
            }
        }
        writer.end();
        self.control.forward_tsn = false;
        self.loss.forward_sent_at = now;
    }

    pub(super) fn peer_has_room(&self) -> bool {
        let flying = self.outstanding.payload_in_flight();
        self.outstanding.len() < MAX_OUTSTANDING
            && (flying < self.peer_window || (flying == 0 && self.limited.window_probe))
    }

    /// Whether a data chunk could leave now; notes what stops it otherwise.
    fn has_sendable_data(&mut self, now: Time) -> bool {
        let has_lost = self.outstanding.has_lost();
        if !has_lost && self.queue.buffered() == 0 {
            self.limited.by = Limit::Application;
            self.timers.stop(Timer::Pace);
            return false;
        }
        if !self.limited.probe {
            let credited = has_lost && self.loss.credit != 0;
            if self.outstanding.in_flight() >= self.controller.window() && !credited {
                self.limited.by = Limit::Window;
                self.timers.stop(Timer::Pace);
                return false;
            }
            if !self.pacer.may_send(now) {
                self.limited.by = Limit::Pacing;
                self.timers.set(Timer::Pace, self.pacer.next());
                return false;
            }
        }
        self.timers.stop(Timer::Pace);
        if has_lost {
            return true;
        }
        if !self.peer_has_room() {
            self.limited.by = Limit::Peer;
            if self.outstanding.is_empty() && !self.timers.is_set(Timer::Retransmit) {
                // Section 6.1 A: the first zero window probe waits for one RTO.
                self.timers.set(Timer::Retransmit, now + self.rtt.rto());
            }
            return false;
        }
        if self.queue.head(now).is_none() {
            self.limited.by = Limit::Application;
            return false;
        }
        true
    }

    /// Bytes before the payload of a DATA or I-DATA chunk.
    pub(super) fn chunk_header(&self) -> usize {
        if self.interleaving() { 20 } else { 16 }
    }

    /// Fills the packet with data. `is_cut` says that the run's packets are shorter than `full`.
    fn write_data(&mut self, now: Time, writer: &mut Writer<'_>, is_cut: bool, full: usize) {
        let header = self.chunk_header();
        while writer.room() > header && self.has_sendable_data(now) {
            if let Some(tsn) = self.outstanding.next_lost() {
                if !self.write_again(now, writer, tsn, header) {
                    return;
                }
                continue;
            }
            let window_full = self.outstanding.in_flight() >= self.controller.window();
            if !self.peer_has_room() || (window_full && !self.limited.probe) {
                return;
            }
            let Some(head) = self.queue.head(now) else {
                return;
            };
            if head.begun
                && let Some((stream, ordered, message)) = self.queue.expire_begun(head, now)
            {
                self.abandon_begun(stream, ordered, message);
                continue;
            }
            let room = writer.room() - header;
            let mut limit = head.len;
            if padded(head.len) > room {
                // What fits a packet of its own is not torn, and a short run does not set the size
                // of fragments.
                let fits_alone = head.len <= full - HEADER - header;
                if is_cut || (fits_alone && !head.begun) || room < SMALLEST_FRAGMENT {
                    return;
                }
                limit = room & !3;
            }
            let Some(cut) = self.queue.cut(head, limit) else {
                return;
            };
            self.write_new(now, writer, cut);
        }
    }

    fn write_new(&mut self, now: Time, writer: &mut Writer<'_>, cut: Cut) {
        if self.outstanding.in_flight() == 0 {
            self.loss.first_sent_at = now;
            self.loss.delivered_at = now;
        }
        let sent = Sent {
            payload: cut.payload,
            stream: cut.stream,
            flags: cut.flags,
            status: Status::InFlight,
            message: cut.message,
            fragment: cut.fragment,
            ppid: cut.ppid,
            retransmits: 0,
            max_retransmits: cut.max_retransmits,
            deadline: cut.deadline,
            sent_at: now,
            delivered: self.loss.delivered,
            delivered_at: self.loss.delivered_at,
            first_sent_at: self.loss.first_sent_at,
            app_limited: self.loss.app_limited_until != 0,
        };
        let tsn = self.outstanding.next_tsn();
        let size = sent.size();
        let immediate = self.asks_for_sack(size);
        write_chunk(writer, tsn, &sent, self.interleaving(), immediate);
        self.outstanding.push(sent);
        self.count_sent(now, size);
    }

    /// Sends a lost chunk again, or gives its message up. False if it does not fit.
    fn write_again(&mut self, now: Time, writer: &mut Writer<'_>, tsn: u32, header: usize) -> bool {
        let Some(sent) = self.outstanding.get(tsn) else {
            return false;
        };
        let can_abandon = self.negotiated.is_some_and(|n| n.partial_reliability);
        if can_abandon
            && ((sent.max_retransmits != NO_LIMIT && sent.retransmits >= sent.max_retransmits)
                || sent.deadline <= now)
        {
            self.abandon(tsn);
            return true;
        }
        if header + padded(sent.payload.len()) > writer.room() {
            return false;
        }
        let size = sent.size();
        let immediate = self.asks_for_sack(size);
        let interleaving = self.interleaving();
        if let Some(sent) = self.outstanding.get(tsn) {
            write_chunk(writer, tsn, sent, interleaving, immediate);
        }
        if self.outstanding.in_flight() == 0 {
            self.loss.first_sent_at = now;
            self.loss.delivered_at = now;
        }
        let loss = &self.loss;
        self.outstanding.resend(tsn, |sent| {
            sent.sent_at = now;
            sent.delivered = loss.delivered;
            sent.delivered_at = loss.delivered_at;
            sent.first_sent_at = loss.first_sent_at;
            sent.app_limited = loss.app_limited_until != 0;
        });
        self.stats.chunks_retransmitted += 1;
        self.loss.credit = self.loss.credit.saturating_sub(size);
        if tsn == self.outstanding.base() {
            // Section 7.2.4 step 4: it gets its full time.
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        self.count_sent(now, size);
        true
    }

    /// Whether the chunk of that size, which is about to leave, is to be acknowledged at once: a
    /// probe, the last of a burst, or one that fills a small window.
    fn asks_for_sack(&self, size: usize) -> bool {
        let window = self.controller.window();
        self.limited.probe
            || (self.queue.buffered() == 0 && !self.outstanding.has_lost())
            || (window < ASK_BELOW_PACKETS * self.mtu.current()
                && self.outstanding.in_flight() + size >= window)
    }

    fn count_sent(&mut self, now: Time, size: usize) {
        self.stats.chunks_sent += 1;
        self.pacer.sent(size);
        self.limited.probe = false;
        self.limited.window_probe = false;
        if !self.timers.is_set(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
    }

    /// Gives up the message of a sent chunk (RFC 3758 section 3.5).
    fn abandon(&mut self, tsn: u32) {
        let Some(sent) = self.outstanding.get(tsn) else {
            return;
        };
        let (stream, message) = (sent.stream, sent.message);
        let ordered = sent.flags & data_flags::UNORDERED == 0;
        if !self.outstanding.abandon_message(tsn) {
            self.drop_unsent(stream, ordered, message);
        }
        self.stats.messages_abandoned += 1;
        self.control.forward_tsn = true;
    }

    /// Gives up the message that is being sent.
    pub(super) fn abandon_begun(&mut self, stream: u16, ordered: bool, message: u32) {
        let tsn = self.outstanding.find(stream, ordered, message);
        if let Some(tsn) = tsn {
            self.outstanding.abandon_message(tsn);
        }
        self.drop_unsent(stream, ordered, message);
        self.stats.messages_abandoned += 1;
        self.control.forward_tsn = true;
    }

    /// The rest of a message will not be sent: one TSN stands for it, so that a FORWARD-TSN can
    /// reach beyond what may have been acknowledged already.
    fn drop_unsent(&mut self, stream: u16, ordered: bool, message: u32) {
        let Some(cut) = self.queue.drop_rest(stream, ordered, message) else {
            return;
        };
        self.outstanding.push(Sent {
            payload: Bytes::new(),
            stream,
            flags: cut.flags,
            status: Status::Abandoned,
            message,
            fragment: cut.fragment,
            ppid: cut.ppid,
            retransmits: 0,
            max_retransmits: NO_LIMIT,
            deadline: Time::NEVER,
            sent_at: Time::ZERO,
            delivered: 0,
            delivered_at: Time::ZERO,
            first_sent_at: Time::ZERO,
            app_limited: false,
        });
    }

    fn after_run(&mut self, now: Time) {
        if self.limited.by == Limit::Application && !self.outstanding.has_lost() {
            let flying = self.outstanding.in_flight() as u64;
            self.loss.app_limited_until = (self.loss.delivered + flying).max(1);
        }
        if self.outstanding.is_empty() {
            return;
        }
        if !self.timers.is_set(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        if self.state != State::CookieEchoed {
            self.set_tail_timer(now);
        } else {
            self.timers.stop(Timer::Retransmit);
        }
        self.reset_when_drained(now);
    }

    /// What both ends agreed on, or nothing yet.
    pub(super) fn agreed(&self) -> Negotiated {
        self.negotiated.unwrap_or_default()
    }
}

fn write_chunk(
    writer: &mut Writer<'_>,
    tsn: u32,
    sent: &Sent,
    interleaving: bool,
    immediate: bool,
) {
    let immediate = if immediate { data_flags::IMMEDIATE } else { 0 };
    let flags = sent.flags | immediate;
    if interleaving {
        writer.begin(chunk_type::I_DATA, flags);
        writer.put_u32(tsn);
        writer.put_u16(sent.stream);
        writer.put_u16(0);
        writer.put_u32(sent.message);
        let begins = sent.flags & data_flags::BEGIN != 0;
        writer.put_u32(if begins { sent.ppid } else { sent.fragment });
    } else {
        writer.begin(chunk_type::DATA, flags);
        writer.put_u32(tsn);
        writer.put_u16(sent.stream);
        let unordered = sent.flags & data_flags::UNORDERED != 0;
        writer.put_u16(if unordered { 0 } else { sent.message as u16 });
        writer.put_u32(sent.ppid);
    }
    writer.put(&sent.payload);
    writer.end();
}
