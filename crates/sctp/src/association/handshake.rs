//! Set-up (RFC 9260 section 5): INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, their collisions,
//! restart, and the INIT that came by signalling.
//!
//! A state cookie is a random handle to what this end keeps, not the state itself under a MAC: the
//! peer is authenticated by DTLS and there is one per association, so there is no flood to stay
//! stateless against, and a handle cannot be forged (see README, deviations).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::{Association, Timer};
use crate::clock::Time;
use crate::receive::TsnTracker;
use crate::send::{MtuSearch, Outstanding, RttEstimator};
use crate::wire::{
    Chunk, InitChunk, Parameters, Writer, cause_code, chunk_type, init_parameter, padded,
};
use crate::{CloseReason, Error, Event, Negotiated, State, controller};

/// State cookies that may be in the peer's hands at a time.
const MAX_COOKIES: usize = 8;
/// Bytes of a cookie.
const COOKIE: usize = 16;
/// The largest cookie of a peer that is taken, in bytes: it must fit one packet.
const MAX_PEER_COOKIE: usize = 1100;
/// RFC 9653 section 4: the packets are carried by DTLS.
const DTLS_AS_ERROR_DETECTION: u32 = 1;
/// INIT and COOKIE ECHO wait no longer than this between retransmissions.
const MAX_INIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Unrecognized parameters that are reported, in bytes.
const MAX_REPORT: usize = 256;

/// What an INIT or INIT ACK says about the peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerInit {
    tag: u32,
    initial_tsn: u32,
    window: u32,
    outbound_streams: u16,
    inbound_streams: u16,
    partial_reliability: bool,
    interleaving: bool,
    reconfiguration: bool,
    zero_checksum: bool,
    ecn: bool,
}

/// A cookie that was handed out.
#[derive(Debug, Clone)]
struct Issued {
    handle: [u8; COOKIE],
    at: Time,
    local_tag: u32,
    local_tsn: u32,
    peer: PeerInit,
    /// The tags of the association that existed then.
    tie: Option<(u32, u32)>,
}

/// The answer to an INIT, to be sent.
#[derive(Debug)]
pub(super) struct InitAck {
    pub(super) remote_tag: u32,
    pub(super) local_tag: u32,
    pub(super) local_tsn: u32,
    pub(super) handle: [u8; COOKIE],
    pub(super) unrecognized: Vec<u8>,
}

/// Where the set-up stands.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    issued: VecDeque<Issued>,
    /// The cookie that opened the association: it may come again.
    accepted: Option<[u8; COOKIE]>,
    /// The peer's cookie, to be echoed.
    pub(super) echo: Bytes,
    retries: u32,
    started: bool,
    sent_at: Time,
    own_init: Option<Bytes>,
}

impl Association {
    pub(super) fn start_handshake(&mut self, now: Time) -> Result<(), Error> {
        if self.over.is_some() || self.handshake.started {
            return Err(Error::WrongState);
        }
        self.handshake.started = true;
        if self.state != State::Closed {
            return Ok(());
        }
        self.state = State::CookieWait;
        self.handshake.sent_at = now;
        self.control.init = true;
        self.timers.set(Timer::Init, now + self.rtt.rto());
        Ok(())
    }

    pub(super) fn start_with_remote_init(&mut self, now: Time, init: &[u8]) -> Result<(), Error> {
        if self.over.is_some() || !matches!(self.state, State::Closed | State::CookieWait) {
            return Err(Error::WrongState);
        }
        let length_fits = init.len() >= 4
            && usize::from(u16::from_be_bytes([init[2], init[3]])) <= init.len()
            && usize::from(u16::from_be_bytes([init[2], init[3]])) >= 4;
        if !length_fits {
            return Err(Error::MalformedInit);
        }
        let length = usize::from(u16::from_be_bytes([init[2], init[3]]));
        let Ok(Chunk::Init(chunk)) = Chunk::parse(&init[..length]) else {
            return Err(Error::MalformedInit);
        };
        let peer = PeerInit::read(&chunk).map_err(|_| Error::MalformedInit)?.0;
        self.handshake.started = true;
        self.control.init = false;
        self.adopt_peer(now, &peer);
        self.establish(now);
        Ok(())
    }

    pub(super) fn own_init_chunk(&mut self) -> Bytes {
        if let Some(init) = &self.handshake.own_init {
            return init.clone();
        }
        let mut buffer = [0; 256];
        let mut writer = Writer::new(&mut buffer, 0, 0, 0);
        self.write_init(&mut writer);
        let end = writer.finish(false);
        let init = Bytes::copy_from_slice(&buffer[crate::wire::HEADER..end]);
        self.handshake.own_init = Some(init.clone());
        init
    }

    pub(super) fn write_init(&self, writer: &mut Writer<'_>) {
        writer.begin(chunk_type::INIT, 0);
        self.write_init_body(writer, self.local_tag, self.local_tsn);
        writer.end();
    }

    pub(super) fn write_init_ack(&self, writer: &mut Writer<'_>, ack: &InitAck) {
        writer.set_tag(ack.remote_tag);
        writer.begin(chunk_type::INIT_ACK, 0);
        self.write_init_body(writer, ack.local_tag, ack.local_tsn);
        writer.put_parameter(init_parameter::STATE_COOKIE, &ack.handle);
        for parameter in Parameters::new(&ack.unrecognized).flatten() {
            writer.put_parameter(parameter.0, parameter.1);
        }
        writer.end();
    }

    fn write_init_body(&self, writer: &mut Writer<'_>, tag: u32, tsn: u32) {
        let window = u32::try_from(self.config.receive_window).unwrap_or(u32::MAX);
        writer.put_u32(tag);
        writer.put_u32(window.max(1500));
        writer.put_u16(self.config.outbound_streams.max(1));
        writer.put_u16(self.config.inbound_streams.max(1));
        writer.put_u32(tsn);
        writer.put_parameter(init_parameter::FORWARD_TSN_SUPPORTED, &[]);
        let extensions = [
            chunk_type::RE_CONFIG,
            chunk_type::FORWARD_TSN,
            chunk_type::I_DATA,
            chunk_type::I_FORWARD_TSN,
        ];
        let count = if self.config.interleaving { 4 } else { 2 };
        writer.put_parameter(init_parameter::SUPPORTED_EXTENSIONS, &extensions[..count]);
        if self.config.ecn {
            writer.put_parameter(init_parameter::ECN_CAPABLE, &[]);
        }
        if self.config.zero_checksum {
            let method = DTLS_AS_ERROR_DETECTION.to_be_bytes();
            writer.put_parameter(init_parameter::ZERO_CHECKSUM, &method);
        }
    }

    /// INIT (RFC 9260 sections 5.1 B, 5.2.1 and 5.2.2).
    pub(super) fn handle_init(&mut self, now: Time, chunk: &InitChunk<'_>) {
        let (peer, unrecognized) = match PeerInit::read(chunk) {
            Ok(read) => read,
            Err(cause) => {
                self.stats.dropped_chunks += 1;
                if chunk.tag != 0 && self.control.abort.is_none() {
                    self.control.abort = Some((chunk.tag, false, cause));
                }
                return;
            }
        };
        let (local_tag, local_tsn, tie) = match self.state {
            State::ShutdownAckSent => {
                // Section 9.2: the peer has lost the SHUTDOWN ACK.
                self.control.shutdown_ack = true;
                return;
            }
            State::Closed | State::CookieWait => (self.local_tag, self.local_tsn, None),
            State::CookieEchoed => (
                self.local_tag,
                self.local_tsn,
                Some((self.local_tag, self.remote_tag)),
            ),
            _ => {
                let tag = super::nonzero(&mut self.random);
                let tie = Some((self.local_tag, self.remote_tag));
                (tag, self.random.u32(), tie)
            }
        };
        let issued = Issued {
            handle: self.random.bytes(),
            at: now,
            local_tag,
            local_tsn,
            peer,
            tie,
        };
        self.control.push_init_ack(InitAck {
            remote_tag: peer.tag,
            local_tag,
            local_tsn,
            handle: issued.handle,
            unrecognized,
        });
        if self.handshake.issued.len() == MAX_COOKIES {
            self.handshake.issued.pop_front();
        }
        self.handshake.issued.push_back(issued);
    }

    /// INIT ACK (section 5.1 C).
    pub(super) fn handle_init_ack(&mut self, now: Time, chunk: &InitChunk<'_>) {
        if self.state != State::CookieWait {
            // Section 5.2.3.
            self.stats.dropped_chunks += 1;
            return;
        }
        let cookie = Parameters::new(chunk.parameters)
            .flatten()
            .find(|(kind, _)| *kind == init_parameter::STATE_COOKIE)
            .map(|(_, value)| value);
        let (peer, cookie) = match (PeerInit::read(chunk), cookie) {
            (Ok((peer, _)), Some(cookie)) if cookie.len() <= MAX_PEER_COOKIE => (peer, cookie),
            (Err(cause), _) => {
                self.stats.dropped_chunks += 1;
                self.control.abort = (chunk.tag != 0).then_some((chunk.tag, false, cause));
                self.close(CloseReason::ProtocolViolation);
                return;
            }
            _ => {
                self.stats.dropped_chunks += 1;
                self.control.abort = Some((chunk.tag, false, cause_code::MISSING_PARAMETER));
                self.close(CloseReason::ProtocolViolation);
                return;
            }
        };
        if self.handshake.retries == 0 {
            self.rtt.sample(now, now.since(self.handshake.sent_at));
        }
        self.handshake.echo = Bytes::copy_from_slice(cookie);
        self.handshake.retries = 0;
        self.adopt_peer(now, &peer);
        self.state = State::CookieEchoed;
        self.control.init = false;
        self.control.cookie_echo = true;
        self.timers.set(Timer::Init, now + self.rtt.rto());
    }

    /// COOKIE ECHO (sections 5.1 D, 5.1.5 and 5.2.4). `tag` is the packet's verification tag.
    /// Answers whether the rest of the packet may be read.
    pub(super) fn handle_cookie_echo(&mut self, now: Time, cookie: &[u8], tag: u32) -> bool {
        if self.handshake.accepted.is_some_and(|a| a == cookie)
            && tag == self.local_tag
            && self.state.is_connected()
        {
            // Action D: our COOKIE ACK got lost.
            self.control.cookie_ack = true;
            return true;
        }
        let found = self
            .handshake
            .issued
            .iter()
            .position(|issued| issued.handle == cookie && issued.local_tag == tag);
        let Some(issued) = found.and_then(|at| self.handshake.issued.get(at)).cloned() else {
            self.stats.cookies_refused += 1;
            return false;
        };
        let same_local = issued.local_tag == self.local_tag;
        let same_remote = issued.peer.tag == self.remote_tag;
        let exists = self.state != State::Closed;
        let age = now.since(issued.at);
        if age > self.config.cookie_lifetime && !(exists && same_local && same_remote) {
            self.stats.cookies_refused += 1;
            let excess = age - self.config.cookie_lifetime;
            let micros = u32::try_from(excess.as_micros()).unwrap_or(u32::MAX);
            let measure = Bytes::copy_from_slice(&micros.to_be_bytes());
            let error = (issued.peer.tag, cause_code::STALE_COOKIE, measure);
            self.control.push_error_to(error);
            return false;
        }
        if !exists {
            if self.over.is_some() {
                self.stats.cookies_refused += 1;
                return false;
            }
            self.adopt_peer(now, &issued.peer);
            self.handshake.accepted = Some(issued.handle);
            self.control.cookie_ack = true;
            self.establish(now);
            return true;
        }
        match (same_local, same_remote) {
            // Action A: the peer began anew.
            (false, false) if issued.tie == Some((self.local_tag, self.remote_tag)) => {
                if self.state == State::ShutdownAckSent {
                    self.control.shutdown_ack = true;
                    self.control
                        .push_error(cause_code::COOKIE_WHILE_SHUTTING_DOWN, Bytes::new());
                    return false;
                }
                self.restart(now, &issued);
                true
            }
            // Action B, and the peer's first word in COOKIE-WAIT.
            (true, false) => {
                if !matches!(self.state, State::CookieWait | State::CookieEchoed) {
                    self.remote_tag = issued.peer.tag;
                    self.control.cookie_ack = true;
                    return true;
                }
                self.adopt_peer(now, &issued.peer);
                self.handshake.accepted = Some(issued.handle);
                self.control.cookie_ack = true;
                self.establish(now);
                true
            }
            // Action D.
            (true, true) => {
                self.handshake.accepted = Some(issued.handle);
                self.control.cookie_ack = true;
                if self.state == State::CookieEchoed {
                    self.establish(now);
                }
                true
            }
            // Action C, and whatever the table does not name.
            _ => {
                self.stats.cookies_refused += 1;
                false
            }
        }
    }

    /// COOKIE ACK (section 5.1 E).
    pub(super) fn handle_cookie_ack(&mut self, now: Time) {
        if self.state == State::CookieEchoed {
            self.establish(now);
        }
    }

    /// ERROR with "stale cookie" (section 5.2.6): begin again.
    pub(super) fn handle_stale_cookie(&mut self, now: Time) {
        if self.state != State::CookieEchoed {
            return;
        }
        self.state = State::CookieWait;
        self.outstanding.mark_all_lost();
        self.handshake.echo = Bytes::new();
        self.control.cookie_echo = false;
        self.control.init = true;
        self.handshake.retries += 1;
        self.timers.set(Timer::Init, now + self.rtt.rto());
    }

    pub(super) fn init_timeout(&mut self, now: Time) {
        self.handshake.retries += 1;
        if let Some(max) = self.config.max_init_retransmissions
            && self.handshake.retries > max
        {
            self.close(CloseReason::TimedOut);
            return;
        }
        match self.state {
            State::CookieWait => self.control.init = true,
            State::CookieEchoed => {
                self.control.cookie_echo = true;
                // What rode on it goes along again.
                self.outstanding.mark_all_lost();
            }
            _ => return,
        }
        self.rtt.back_off();
        let after = self.rtt.rto().min(MAX_INIT_TIMEOUT);
        self.timers.set(Timer::Init, now + after);
    }

    /// Takes over what the peer said of itself.
    fn adopt_peer(&mut self, now: Time, peer: &PeerInit) {
        self.remote_tag = peer.tag;
        self.peer_window = peer.window as usize;
        self.tracker = TsnTracker::new(peer.initial_tsn, self.config.limits.pending_chunks);
        self.reconfig.set_peer_sequence(peer.initial_tsn);
        self.negotiated = Some(Negotiated {
            outbound_streams: peer
                .inbound_streams
                .min(self.config.outbound_streams)
                .max(1),
            inbound_streams: peer
                .outbound_streams
                .min(self.config.inbound_streams)
                .max(1),
            interleaving: peer.interleaving && self.config.interleaving,
            partial_reliability: peer.partial_reliability,
            reconfiguration: peer.reconfiguration,
            zero_checksum: peer.zero_checksum && self.config.zero_checksum,
            ecn: peer.ecn && self.config.ecn,
        });
        self.queue.set_interleaving(self.interleaving());
        self.update_pacing(now);
    }

    /// Enters ESTABLISHED.
    fn establish(&mut self, now: Time) {
        self.state = State::Established;
        self.timers.stop(Timer::Init);
        self.control.init = false;
        self.control.cookie_echo = false;
        self.handshake.echo = Bytes::new();
        self.handshake.issued = VecDeque::new();
        self.handshake.retries = 0;
        self.rtt.forget_backoff();
        self.errors = 0;
        self.mtu.start(now);
        self.set_heartbeat_timer(now);
        if !self.outstanding.is_empty() {
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
        }
        if let Some(negotiated) = self.negotiated {
            self.tell(Event::Established(negotiated));
        }
    }

    /// The peer began anew (section 5.2.4 action A).
    fn restart(&mut self, now: Time, issued: &Issued) {
        self.local_tag = issued.local_tag;
        self.local_tsn = issued.local_tsn;
        self.outstanding = Outstanding::new(issued.local_tsn);
        self.queue.restart();
        self.rtt = RttEstimator::new(self.config.rto);
        self.mtu = MtuSearch::new(self.config.packet_sizes);
        let packet = self.mtu.current();
        self.controller = controller::new(
            self.config.controller,
            packet,
            self.config.initial_window_packets,
        );
        self.loss = super::LossDetection::default();
        self.reassembly.clear();
        self.debt.forget();
        self.control.forget_requests();
        self.reconfig.restart(issued.local_tsn);
        self.timers = super::Timers::default();
        self.state = State::Established;
        self.adopt_peer(now, &issued.peer);
        self.handshake.accepted = Some(issued.handle);
        self.handshake.issued = VecDeque::new();
        self.control.cookie_ack = true;
        self.errors = 0;
        self.mtu.start(now);
        self.set_heartbeat_timer(now);
        if let Some(negotiated) = self.negotiated {
            self.tell(Event::Restarted(negotiated));
        }
    }
}

impl PeerInit {
    /// Reads INIT or INIT ACK: what it says, and which parameters to report (section 3.2.1); or the
    /// cause to abort for.
    fn read(chunk: &InitChunk<'_>) -> Result<(Self, Vec<u8>), u16> {
        let invalid = cause_code::INVALID_MANDATORY_PARAMETER;
        // Sections 3.3.2 and 5.1.1.
        if chunk.tag == 0 || chunk.outbound_streams == 0 || chunk.inbound_streams == 0 {
            return Err(invalid);
        }
        let mut peer = Self {
            tag: chunk.tag,
            initial_tsn: chunk.initial_tsn,
            window: chunk.window,
            outbound_streams: chunk.outbound_streams,
            inbound_streams: chunk.inbound_streams,
            partial_reliability: false,
            interleaving: false,
            reconfiguration: false,
            zero_checksum: false,
            ecn: false,
        };
        let mut unrecognized = Vec::new();
        for parameter in Parameters::new(chunk.parameters) {
            let (kind, value) = parameter.map_err(|_| cause_code::PROTOCOL_VIOLATION)?;
            match kind {
                init_parameter::FORWARD_TSN_SUPPORTED => peer.partial_reliability = true,
                init_parameter::SUPPORTED_EXTENSIONS => {
                    peer.interleaving |= value.contains(&chunk_type::I_DATA);
                    peer.reconfiguration |= value.contains(&chunk_type::RE_CONFIG);
                    peer.partial_reliability |= value.contains(&chunk_type::FORWARD_TSN);
                }
                init_parameter::ECN_CAPABLE => peer.ecn = true,
                init_parameter::ZERO_CHECKSUM => {
                    peer.zero_checksum = value == DTLS_AS_ERROR_DETECTION.to_be_bytes();
                }
                // There is one path, and it is the one below (RFC 8261 section 5).
                init_parameter::STATE_COOKIE
                | init_parameter::IPV4_ADDRESS
                | init_parameter::IPV6_ADDRESS
                | init_parameter::COOKIE_PRESERVATIVE
                | init_parameter::UNRECOGNIZED
                | init_parameter::HOST_NAME
                | init_parameter::SUPPORTED_ADDRESS_TYPES => {}
                _ => {
                    let length = 4 + value.len();
                    if kind & 0x4000 != 0 && unrecognized.len() + padded(length) + 4 <= MAX_REPORT {
                        unrecognized.extend_from_slice(&init_parameter::UNRECOGNIZED.to_be_bytes());
                        unrecognized.extend_from_slice(&(length as u16 + 4).to_be_bytes());
                        unrecognized.extend_from_slice(&kind.to_be_bytes());
                        unrecognized.extend_from_slice(&(length as u16).to_be_bytes());
                        unrecognized.extend_from_slice(value);
                        unrecognized.resize(padded(unrecognized.len()), 0);
                    }
                    if kind & 0x8000 == 0 {
                        // Stop reading parameters (section 3.2.1).
                        break;
                    }
                }
            }
        }
        Ok((peer, unrecognized))
    }
}
