//! The transport of a BUNDLE group: ICE, DTLS over it, SRTP and SCTP over that.
//!
//! Layers are nested in one buffer: a packet of SCTP is written with room around it for the DTLS
//! record and for what ICE puts outside (a TURN channel), and sealed where it stands.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use visavis_datagram::{Ecn, Framing, Path, Random, Transmit, TransmitBuf};
use visavis_dtls as dtls;
use visavis_ice as ice;
use visavis_sctp::datachannel::{DataChannels, DtlsRole};
use visavis_srtp as srtp;

use crate::config::Limits;
use crate::events::DtlsState;
use crate::media::{Media, PacketSource, Polled, SourcePoll};
use crate::sped::{self, Sped};

/// What a datagram was, for the media above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Nothing for the media.
    Nothing,
    /// An unprotected RTP packet.
    Rtp(Range<usize>),
    /// An unprotected RTCP compound packet.
    Rtcp(Range<usize>),
}

/// Counters of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// Datagrams received from the peer, STUN left out.
    pub packets_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Datagrams sent to the peer, STUN left out.
    pub packets_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Datagrams of no known kind.
    pub unknown: u64,
    /// RTP or RTCP before there were keys, or that did not authenticate.
    pub srtp_failures: u64,
    /// DTLS datagrams that came before the answer and found no room.
    pub early_dropped: u64,
    /// Outgoing media packets that found no room.
    pub outgoing_dropped: u64,
    /// DTLS packets of the peer that came inside STUN messages (draft-hancke-webrtc-sped).
    pub dtls_in_stun_received: u64,
    /// DTLS packets of ours of which the peer said that they came inside STUN messages.
    pub dtls_in_stun_acknowledged: u64,
}

/// What protects media, both ways. A connection for data alone has the keys and never the contexts,
/// which take some kilobytes.
#[derive(Debug)]
struct Srtp {
    profile: srtp::Profile,
    keys: dtls::SrtpKeys,
    contexts: Option<Box<Contexts>>,
}

#[derive(Debug)]
struct Contexts {
    send: srtp::Context,
    receive: srtp::Context,
}

impl Srtp {
    fn new(keys: dtls::SrtpKeys) -> Option<Self> {
        let profile = srtp::Profile::from_codepoint(keys.profile.number())?;
        Some(Self {
            profile,
            keys,
            contexts: None,
        })
    }

    /// The contexts, made for the first packet. `None` for keys of the wrong length, which DTLS does
    /// not give.
    fn contexts(&mut self) -> Option<&mut Contexts> {
        if self.contexts.is_none() {
            let context = |master: &dtls::SrtpMaster| {
                let options = srtp::Options::default();
                srtp::Context::new(self.profile, &master.key, &master.salt, options).ok()
            };
            self.contexts = Some(Box::new(Contexts {
                send: context(&self.keys.local)?,
                receive: context(&self.keys.remote)?,
            }));
        }
        self.contexts.as_deref_mut()
    }
}

/// What DTLS and SCTP do at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) role: dtls::Role,
    pub(crate) fingerprints: Vec<visavis_crypto::Fingerprint>,
    /// The peer's name for the association, if it gives one.
    pub(crate) tls_id: Option<String>,
}

impl Remote {
    /// Whether two descriptions speak of two associations by name (RFC 8842 section 4).
    fn is_renamed(&self, tls_id: Option<&str>) -> bool {
        matches!((self.tls_id.as_deref(), tls_id), (Some(old), Some(new)) if old != new)
    }
}

/// ICE, DTLS, SRTP and SCTP.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) ice: ice::Agent,
    dtls_config: Arc<dtls::Config>,
    pub(crate) dtls: Option<dtls::Connection>,
    pub(crate) dtls_state: DtlsState,
    remote: Option<Remote>,
    /// The association gives way to one that the peer begins.
    yields: bool,
    srtp: Option<Srtp>,
    pub(crate) data: Data,
    early: VecDeque<Vec<u8>>,
    random: Random,
    limits: Limits,
    pub(crate) stats: TransportStats,
    closing: Closing,
    /// DTLS in STUN, if it is wanted.
    sped: Option<Box<Sped>>,
    pub(crate) key_log: VecDeque<String>,
}

/// Data channels over a transport.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) channels: Option<DataChannels>,
    /// Whether SCTP may start: the section was negotiated.
    pub(crate) negotiated: bool,
    /// The peer's INIT chunk, where both ends signalled theirs.
    pub(crate) remote_init: Option<Vec<u8>>,
    /// Whether SCTP was started, with whatever was known then.
    pub(crate) sctp_started: bool,
}

/// Where a close stands: each layer says goodbye before the one below it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    Sctp,
    Dtls,
    Done,
}

impl Transport {
    pub(crate) fn new(
        ice_config: ice::Config,
        dtls_config: dtls::Config,
        limits: Limits,
        mut random: Random,
        now: Instant,
    ) -> Self {
        let ice = ice::Agent::new(ice_config, random.fork(), now);
        Self::over(ice, Arc::new(dtls_config), limits, random)
    }

    fn over(
        ice: ice::Agent,
        dtls_config: Arc<dtls::Config>,
        limits: Limits,
        random: Random,
    ) -> Self {
        Self {
            ice,
            dtls_config,
            dtls: None,
            dtls_state: DtlsState::New,
            remote: None,
            yields: false,
            srtp: None,
            data: Data::default(),
            early: VecDeque::new(),
            random,
            limits,
            stats: TransportStats::default(),
            closing: Closing::No,
            sped: None,
            key_log: VecDeque::new(),
        }
    }

    /// Another transport of the same connection, of which nothing is known yet. See [`ice::Agent::sibling`].
    pub(crate) fn sibling(
        &mut self,
        number: u8,
        credentials: Option<ice::Credentials>,
        now: Instant,
    ) -> Self {
        let mut random = self.random.fork();
        let ice = self.ice.sibling(number, credentials, random.fork(), now);
        Self::over(ice, Arc::clone(&self.dtls_config), self.limits, random)
    }

    /// Goes back to where nothing is known of a peer, ready for another association.
    pub(crate) fn forget_peer(&mut self, now: Instant) {
        self.ice.restart(now);
        self.end_association();
        self.remote = None;
        self.early.clear();
    }

    /// The channels, which come to be with the first use.
    pub(crate) fn channels(&mut self, config: &Arc<visavis_sctp::Config>) -> &mut DataChannels {
        let random = &mut self.random;
        self.data
            .channels
            .get_or_insert_with(|| DataChannels::new(Arc::clone(config), random.fork()))
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// The DTLS role of this end, once it is known.
    pub(crate) fn role(&self) -> Option<dtls::Role> {
        self.remote.as_ref().map(|remote| remote.role)
    }

    /// Whether a description of the peer with this name wants another association than there is.
    pub(crate) fn is_renamed(&self, tls_id: Option<&str>) -> bool {
        let remote = self.remote.as_ref();
        remote.is_some_and(|remote| remote.is_renamed(tls_id))
    }

    /// What an answer says of the peer's DTLS. Another name, certificate or role than before starts a new
    /// association (RFC 8842 section 4); where the peer is to begin it, once it does.
    pub(crate) fn set_remote(&mut self, now: Instant, remote: Remote) {
        if self.remote.as_ref() == Some(&remote) {
            return;
        }
        let renamed = self.is_renamed(remote.tls_id.as_deref());
        let restart = self.remote.as_ref().is_some_and(|old| {
            renamed || old.role != remote.role || old.fingerprints != remote.fingerprints
        });
        if restart && self.dtls.is_some() {
            let known = self
                .dtls
                .as_ref()
                .and_then(dtls::Connection::remote_certificate_der)
                .is_some_and(|der| remote.fingerprints.iter().any(|print| print.matches(der)));
            let role_kept = self.role() == Some(remote.role);
            // Firefox 153 answers `active` to each offer, also where it was passive, and goes on with the association that there is.
            self.yields = known && !renamed && !role_kept && remote.role == dtls::Role::Server;
            if renamed || !known || !(role_kept || self.yields) {
                self.end_association();
            }
        }
        if let Some(dtls) = &mut self.dtls {
            dtls.set_remote_fingerprints(now, remote.fingerprints.iter().cloned());
        }
        self.remote = Some(remote);
        self.try_start(now);
    }

    /// Makes room for another association.
    fn end_association(&mut self) {
        self.dtls = None;
        self.srtp = None;
        self.dtls_state = DtlsState::New;
        self.yields = false;
    }

    /// Whether datagrams have a way to the peer, as far as ICE knows.
    pub(crate) fn has_path(&self) -> bool {
        self.ice.has_path()
    }

    /// Starts what can be started: DTLS when there is a path and a role, SCTP over it.
    pub(crate) fn try_start(&mut self, now: Instant) {
        if self.closing != Closing::No {
            return;
        }
        self.start_dtls(now);
        self.start_sctp(now);
    }

    fn start_dtls(&mut self, now: Instant) {
        // This is asked with each datagram.
        if self.dtls.is_some() || self.dtls_state != DtlsState::New {
            return;
        }
        let Some(remote) = self.remote.clone() else {
            return;
        };
        let carried = self.sped.as_ref().is_some_and(|sped| sped.is_on());
        let has_path = self.has_path() || carried || !self.early.is_empty();
        if !has_path {
            return;
        }
        let config = Arc::clone(&self.dtls_config);
        let random = self.random.fork();
        let made = match remote.role {
            dtls::Role::Client => dtls::Connection::client(config, random, now),
            dtls::Role::Server => dtls::Connection::server(config, random, now),
        };
        let Ok(mut connection) = made else {
            self.dtls_state = DtlsState::Failed;
            return;
        };
        connection.set_remote_fingerprints(now, remote.fingerprints);
        if carried && !self.has_path() {
            connection.set_mtu(sped::MTU);
            connection.set_outer_carrier(true);
        }
        self.dtls = Some(connection);
        self.dtls_state = DtlsState::Connecting;
        for mut datagram in std::mem::take(&mut self.early) {
            self.receive_dtls(now, Ecn::NotEct, &mut datagram);
        }
    }

    fn start_sctp(&mut self, now: Instant) {
        let connected = self.dtls_state == DtlsState::Connected;
        let ready = connected && self.data.negotiated && !self.data.sctp_started;
        let (true, Some(channels), Some(role)) = (
            ready,
            &mut self.data.channels,
            self.remote.as_ref().map(|remote| remote.role),
        ) else {
            return;
        };
        self.data.sctp_started = true;
        let role = match role {
            dtls::Role::Client => DtlsRole::Client,
            dtls::Role::Server => DtlsRole::Server,
        };
        channels.set_role(now, role);
        let by_signalling = self
            .data
            .remote_init
            .take()
            .is_some_and(|init| channels.connect_with_remote_init(now, &init).is_ok());
        if !by_signalling {
            // Both ends may start; it fails only if it has been started.
            let _ = channels.connect(now);
        }
    }

    // ---- doors

    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        from: Path,
        ecn: Ecn,
        datagram: &mut [u8],
    ) -> Incoming {
        let received = match &mut self.sped {
            Some(sped) => self
                .ice
                .handle_datagram_with(now, from, datagram, &mut **sped),
            None => self.ice.handle_datagram(now, from, datagram),
        };
        self.follow_sped(now);
        let payload = match received {
            ice::Received::Consumed => {
                self.try_start(now);
                return Incoming::Nothing;
            }
            ice::Received::Data { payload, .. } => payload,
        };
        let Some(data) = datagram.get_mut(payload.clone()) else {
            return Incoming::Nothing;
        };
        self.stats.packets_received += 1;
        self.stats.bytes_received += data.len() as u64;
        // RFC 7983 section 7.
        match data.first() {
            Some(20..=63) => {
                self.receive_dtls(now, ecn, data);
                Incoming::Nothing
            }
            Some(128..=191) => self.receive_media(payload.start, data),
            _ => {
                self.stats.unknown += 1;
                Incoming::Nothing
            }
        }
    }

    fn receive_dtls(&mut self, now: Instant, ecn: Ecn, datagram: &mut [u8]) {
        if self.yields && is_client_hello(datagram) {
            self.end_association();
        }
        let Some(dtls) = &mut self.dtls else {
            if self.early.len() < self.limits.early_datagrams && self.dtls_state == DtlsState::New {
                self.early.push_back(datagram.to_vec());
                self.try_start(now);
            } else {
                self.stats.early_dropped += 1;
            }
            return;
        };
        let received = dtls.handle_datagram(now, datagram);
        // Keys may have come with this very datagram, and data behind them.
        self.follow_dtls(now);
        if let Some(channels) = &mut self.data.channels
            && self.data.sctp_started
        {
            for range in received {
                channels.handle_packet_with_ecn(now, &datagram[range], ecn);
            }
        }
    }

    fn receive_media(&mut self, start: usize, data: &mut [u8]) -> Incoming {
        let Some(srtp) = self.srtp.as_mut().and_then(Srtp::contexts) else {
            self.stats.srtp_failures += 1;
            return Incoming::Nothing;
        };
        let is_rtcp = visavis_rtp::is_rtcp(data);
        let opened = if is_rtcp {
            srtp.receive.unprotect_rtcp(data)
        } else {
            srtp.receive.unprotect_rtp(data)
        };
        match opened {
            Ok(len) if is_rtcp => Incoming::Rtcp(start..start + len),
            Ok(len) => Incoming::Rtp(start..start + len),
            Err(_) => {
                self.stats.srtp_failures += 1;
                Incoming::Nothing
            }
        }
    }

    /// Follows the events of DTLS.
    fn follow_dtls(&mut self, now: Instant) {
        while let Some(event) = self.dtls.as_mut().and_then(dtls::Connection::poll_event) {
            match event {
                dtls::Event::Connected(connected) => {
                    self.dtls_state = DtlsState::Connected;
                    self.srtp = connected.srtp.and_then(Srtp::new);
                    self.start_sctp(now);
                }
                dtls::Event::Closed(reason) => {
                    let failed =
                        !matches!(reason, dtls::CloseReason::Local | dtls::CloseReason::Remote);
                    self.dtls_state = if failed {
                        DtlsState::Failed
                    } else {
                        DtlsState::Closed
                    };
                    if let Some(channels) = &mut self.data.channels {
                        channels.abort(now);
                    }
                }
                dtls::Event::KeyLog(line) => self.key_log.push_back(line),
                _ => {}
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.ice.handle_timeout(now);
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        self.follow_dtls(now);
        if self.data.sctp_started
            && let Some(channels) = &mut self.data.channels
        {
            channels.handle_timeout(now);
        }
        self.try_start(now);
    }

    /// ICE has selected a pair.
    pub(crate) fn path_changed(&mut self, now: Instant) {
        if self.data.sctp_started
            && let Some(channels) = &mut self.data.channels
        {
            channels.path_changed(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let dtls = self.dtls.as_ref().and_then(dtls::Connection::poll_timeout);
        let channels = self
            .data
            .channels
            .as_ref()
            .filter(|_| self.data.sctp_started)
            .and_then(DataChannels::poll_timeout);
        [self.ice.poll_timeout(), dtls, channels]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        media: &mut Media,
        mut source: Option<&mut dyn PacketSource>,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let mtu = out.mtu();
        let transmit = loop {
            out.clear();
            out.set_mtu(mtu);
            out.set_framing(Framing::default());
            if let Some(transmit) = self.poll_ice(now, out) {
                break Some(transmit);
            }
            self.try_start(now);
            self.follow_sped(now);
            if !self.has_path() {
                self.finish_closing(now);
                break None;
            }
            let Some(ecn) = self.fill(now, media, reborrow(&mut source), out) else {
                break None;
            };
            self.count_sent(out);
            if let Some(transmit) = self.ice.send(now, ecn, out) {
                break Some(transmit);
            }
            // ICE took the run, and gives it by its own poll, or dropped it.
        };
        out.set_mtu(mtu);
        transmit
    }

    /// Reads what [`poll_source`](Self::poll_source) will touch.
    pub(crate) fn warm(&self) {
        self.ice.warm();
        std::hint::black_box((self.stats.packets_sent, self.stats.bytes_sent));
        let contexts = self.srtp.as_ref().and_then(|srtp| srtp.contexts.as_deref());
        if let Some(contexts) = contexts {
            contexts.send.warm();
        }
    }

    /// A run of the owner's packets, and nothing of the connection's own.
    pub(crate) fn poll_source(
        &mut self,
        now: Instant,
        source: &mut dyn PacketSource,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        if !self.has_path() {
            return None;
        }
        out.clear();
        out.set_framing(self.ice.framing());
        if !self.fill_from(now, source, out) {
            return None;
        }
        self.count_sent(out);
        let transmit = self.ice.send(now, Ecn::NotEct, out);
        // ICE took the run, and gives it by its own poll, or dropped it.
        transmit.or_else(|| self.ice.poll_transmit(now, out))
    }

    fn count_sent(&mut self, out: &TransmitBuf) {
        if let Some(segments) = out.segments() {
            self.stats.packets_sent += out.datagrams() as u64;
            self.stats.bytes_sent += segments.len as u64;
        }
    }

    fn poll_ice(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        let Some(sped) = &mut self.sped else {
            return self.ice.poll_transmit(now, out);
        };
        if let Some(dtls) = self.dtls.as_mut().filter(|_| sped.is_on()) {
            sped.follow(now, dtls);
        }
        let transmit = self.ice.poll_transmit_with(now, out, &mut **sped);
        if transmit.is_some() && sped.wants_message() {
            self.ice.request_check(now);
        }
        transmit
    }

    /// Lets the handshake ride in STUN, if the peer does so too.
    pub(crate) fn carry_handshake(&mut self) {
        self.sped = Some(Box::new(Sped::new()));
    }

    /// Follows what came in STUN. With a path, DTLS takes that.
    fn follow_sped(&mut self, now: Instant) {
        let Some(sped) = &mut self.sped else {
            return;
        };
        let acknowledged = sped.take_acknowledged();
        self.stats.dtls_in_stun_acknowledged += acknowledged.len() as u64;
        if let Some(dtls) = &mut self.dtls {
            for piece in acknowledged {
                dtls.flight_acknowledged(now, piece);
            }
        }
        while let Some(mut packet) = self.sped.as_mut().and_then(|sped| sped.take_packet()) {
            self.stats.dtls_in_stun_received += 1;
            self.receive_dtls(now, Ecn::NotEct, &mut packet);
        }
        let over = self.has_path() || self.sped.as_ref().is_some_and(|sped| !sped.is_on());
        if over && let Some(mut sped) = self.sped.take() {
            sped.turn_off();
            if let Some(dtls) = &mut self.dtls {
                dtls.set_outer_carrier(false);
            }
        }
    }

    /// Writes a run of one kind: handshake, media or messages.
    fn fill(
        &mut self,
        now: Instant,
        media: &mut Media,
        source: Option<&mut dyn PacketSource>,
        out: &mut TransmitBuf,
    ) -> Option<Ecn> {
        let outer = self.ice.framing();
        out.clear();
        out.set_framing(outer);
        if let Some(dtls) = &mut self.dtls
            && dtls.poll_transmit(now, out).is_some()
        {
            self.follow_dtls(now);
            return Some(Ecn::NotEct);
        }
        out.clear();
        if self.fill_media(now, media, out) {
            return Some(media.target().ecn);
        }
        if let Some(source) = source
            && self.fill_from(now, source, out)
        {
            return Some(Ecn::NotEct);
        }
        if self.fill_messages(now, outer, out) {
            let ecn = self
                .data
                .channels
                .as_ref()
                .map(|channels| channels.association().ecn());
            return Some(ecn.unwrap_or_default());
        }
        self.finish_closing(now);
        // A closed layer below may have a last word.
        out.clear();
        out.set_framing(outer);
        let dtls = self.dtls.as_mut()?;
        dtls.poll_transmit(now, out).map(|_| Ecn::NotEct)
    }

    fn fill_media(&mut self, now: Instant, media: &mut Media, out: &mut TransmitBuf) -> bool {
        let Some(srtp) = &mut self.srtp else {
            return false;
        };
        let overheads = (srtp.profile.rtp_overhead(), srtp.profile.rtcp_overhead());
        loop {
            match media.poll_packet(now, out.slot(), overheads.0, overheads.1) {
                Polled::Packet { len, is_rtcp } => {
                    let Some(slot) = out.slot() else {
                        return !out.is_empty();
                    };
                    let Some(Contexts { send, .. }) = srtp.contexts() else {
                        return false;
                    };
                    let sealed = if is_rtcp {
                        send.protect_rtcp(slot, len)
                    } else {
                        send.protect_rtp(slot, len)
                    };
                    match sealed {
                        Ok(sealed) => out.commit(sealed),
                        Err(_) => self.stats.outgoing_dropped += 1,
                    }
                }
                Polled::NoRoom if out.is_empty() => {
                    media.drop_held();
                    self.stats.outgoing_dropped += 1;
                }
                Polled::Nothing | Polled::NoRoom => return !out.is_empty(),
            }
        }
    }

    /// Writes a run of the owner's packets.
    fn fill_from(
        &mut self,
        now: Instant,
        source: &mut dyn PacketSource,
        out: &mut TransmitBuf,
    ) -> bool {
        let Some(Contexts { send, .. }) = self.srtp.as_mut().and_then(Srtp::contexts) else {
            return false;
        };
        let overhead = send.rtp_overhead();
        while let Some(slot) = out.slot() {
            match source.poll_packet(now, slot, overhead) {
                SourcePoll::Packet(len) => match send.protect_rtp(slot, len) {
                    Ok(sealed) => out.commit(sealed),
                    Err(_) => self.stats.outgoing_dropped += 1,
                },
                SourcePoll::NoRoom if out.is_empty() => {
                    source.drop_packet();
                    self.stats.outgoing_dropped += 1;
                }
                SourcePoll::Nothing | SourcePoll::NoRoom => break,
            }
        }
        !out.is_empty()
    }

    fn fill_messages(&mut self, now: Instant, outer: Framing, out: &mut TransmitBuf) -> bool {
        let (Some(channels), Some(dtls)) = (&mut self.data.channels, &mut self.dtls) else {
            return false;
        };
        if !self.data.sctp_started || !dtls.is_connected() {
            return false;
        }
        let record = dtls.framing();
        out.clear();
        // What a relay adds comes on top: a chunk that was cut for a path without one cannot be cut again for a path that has one
        // (RFC 9260 section 6.9), and would never arrive.
        out.set_mtu(out.mtu() + outer.header + outer.trailer);
        out.set_framing(Framing {
            header: outer.header + record.header,
            trailer: outer.trailer + record.trailer,
        });
        if channels.poll_transmit(now, out).is_none() {
            return false;
        }
        for (datagram, payload) in out.datagrams_mut() {
            let end = datagram.len() - outer.trailer;
            let inner = &mut datagram[outer.header..end];
            let payload = payload.start - outer.header..payload.end - outer.header;
            if dtls.seal(inner, payload).is_err() {
                return false;
            }
        }
        true
    }

    /// Whether media can flow.
    pub(crate) fn has_media_keys(&self) -> bool {
        self.srtp.is_some()
    }

    /// The profile that protects media.
    pub(crate) fn srtp_profile(&self) -> Option<srtp::Profile> {
        self.srtp.as_ref().map(|srtp| srtp.profile)
    }

    /// Gives back the memory that only setting up and bursts need.
    pub(crate) fn trim(&mut self) {
        self.ice.trim();
        if let Some(dtls) = &mut self.dtls {
            dtls.trim();
        }
        if let Some(channels) = &mut self.data.channels {
            channels.trim();
        }
        if let Some(remote) = &mut self.remote {
            remote.fingerprints.shrink_to_fit();
        }
        self.random.rest();
        if self.early.is_empty() {
            self.early = VecDeque::new();
        }
    }

    // ---- the end

    /// Begins to close: SCTP aborts, DTLS says goodbye, ICE goes.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.closing != Closing::No {
            return;
        }
        self.closing = Closing::Sctp;
        if let Some(channels) = &mut self.data.channels {
            channels.abort(now);
        }
        if !self.has_path() || self.dtls.is_none() {
            self.ice.close(now);
            self.closing = Closing::Done;
        }
    }

    /// Goes one step down: called when the layer that says goodbye has nothing more to send.
    fn finish_closing(&mut self, now: Instant) {
        match self.closing {
            Closing::Sctp => {
                if let Some(dtls) = &mut self.dtls {
                    dtls.close(now);
                }
                self.closing = Closing::Dtls;
            }
            Closing::Dtls => {
                self.ice.close(now);
                self.closing = Closing::Done;
            }
            Closing::No | Closing::Done => {}
        }
    }
}

/// Whether a datagram begins a handshake: a plain record of epoch 0 with a ClientHello (RFC 6347 sections 4.1 and 4.2.2;
/// RFC 9147 section 4 keeps the form).
fn is_client_hello(datagram: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    datagram.first() == Some(&HANDSHAKE)
        && datagram.get(3..5) == Some(&[0, 0])
        && datagram.get(13) == Some(&CLIENT_HELLO)
}

/// Lends what an `Option` lends, for one call.
fn reborrow<'a>(source: &'a mut Option<&mut dyn PacketSource>) -> Option<&'a mut dyn PacketSource> {
    match source {
        Some(source) => Some(&mut **source),
        None => None,
    }
}
