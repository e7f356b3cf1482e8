//! The five doors, and the states that follow from what comes through them.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use visavis_datagram::{Arrival, Ecn, Path, Protocol, Transmit, TransmitBuf};
use visavis_ice as ice;

use super::PeerConnection;
use crate::error::Error;
use crate::events::{ConnectionState, DtlsState, Event, IceCandidate};
use crate::log::Decision;
use crate::media::PacketSource;
use crate::transceiver::TransceiverId;
use crate::transport::Incoming;

/// What a datagram was: media stands in it, unprotected, for who forwards or decodes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// It concerned the connection alone, or it was dropped and counted.
    Consumed,
    /// An RTP packet.
    Rtp(ReceivedRtp),
    /// An RTCP compound packet, which the connection has read too.
    Rtcp(Range<usize>),
}

/// An RTP packet that stands unprotected in its datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedRtp {
    /// Where it stands in the datagram. A retransmission (RFC 4588) has been unwrapped: this is the
    /// original packet.
    pub packet: Range<usize>,
    /// Whose receiver it is for.
    pub transceiver: TransceiverId,
    /// The media source.
    pub ssrc: u32,
    /// Index into [`Receiver::rids`](crate::Receiver), with simulcast.
    pub encoding: Option<usize>,
    /// Whether a retransmission brought it.
    pub recovered: bool,
}

/// How long nothing but STUN passes before memory is given back.
const IDLE: Duration = Duration::from_secs(1);

/// Since when nothing but STUN has passed.
#[derive(Debug)]
pub(super) struct Idle {
    packets: u64,
    since: Instant,
}

impl Idle {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            packets: 0,
            since: now,
        }
    }
}

impl PeerConnection {
    // ---- what the owner's network gives

    /// A socket, or an interface that TCP can be opened from, is there.
    ///
    /// # Errors
    /// `OperationError` for an address that ICE cannot use.
    pub fn add_local_address(
        &mut self,
        now: Instant,
        local: ice::LocalAddress,
    ) -> Result<(), Error> {
        self.now = now;
        let added = self.transport.ice.add_local_address(now, local);
        self.drain(now);
        added.map_err(|error| Error::Operation(error.to_string().into()))
    }

    /// A router leads what comes to `external` to a local address over UDP: another candidate.
    pub fn ice_mapped(&mut self, now: Instant, local: SocketAddr, external: SocketAddr) {
        self.now = now;
        let ice = &mut self.transport.ice;
        ice.set_mapped_address(now, local, Protocol::Udp, external);
        self.drain(now);
    }

    /// It is gone.
    pub fn remove_local_address(&mut self, now: Instant, address: SocketAddr, protocol: Protocol) {
        self.now = now;
        self.transport
            .ice
            .remove_local_address(now, address, protocol);
        self.drain(now);
    }

    /// One more STUN or TURN server, its name resolved.
    ///
    /// # Errors
    /// `OperationError` if there are too many.
    pub fn add_ice_server(&mut self, now: Instant, server: ice::Server) -> Result<(), Error> {
        self.now = now;
        let added = self.transport.ice.add_server(now, server);
        self.drain(now);
        added.map_err(|error| Error::Operation(error.to_string().into()))
    }

    /// Multicast DNS answered (or did not) for a name of [`Event::ResolveName`].
    pub fn ice_resolved(&mut self, now: Instant, name: &str, ip: Option<IpAddr>) {
        self.now = now;
        self.transport.ice.resolved(now, name, ip);
        self.drain(now);
    }

    /// A connection of [`Event::IceConnect`] is up, from `local`.
    pub fn ice_connected(&mut self, now: Instant, id: ice::ConnectionId, local: SocketAddr) {
        self.now = now;
        self.transport.ice.connected(now, id, local);
        self.drain(now);
    }

    /// A connection of [`Event::IceConnect`] could not be opened.
    pub fn ice_connect_failed(&mut self, now: Instant, id: ice::ConnectionId) {
        self.now = now;
        self.transport.ice.connect_failed(now, id);
        self.drain(now);
    }

    /// A listening socket accepted a connection. False: close it.
    pub fn ice_accepted(&mut self, now: Instant, path: Path) -> bool {
        self.now = now;
        self.transport.ice.accepted(path)
    }

    /// A stream ended.
    pub fn ice_disconnected(&mut self, now: Instant, path: Path) {
        self.now = now;
        self.transport.ice.disconnected(now, path);
        self.drain(now);
    }

    // ---- doors

    /// A datagram arrived, or a message of a stream. Media is unprotected in place, and the answer
    /// says where it stands.
    pub fn handle_datagram(&mut self, now: Instant, from: Path, datagram: &mut [u8]) -> Received {
        self.handle_datagram_with_ecn(now, from, Ecn::NotEct, datagram)
    }

    /// The same, with the ECN bits of the datagram.
    pub fn handle_datagram_with_ecn(
        &mut self,
        now: Instant,
        from: Path,
        ecn: Ecn,
        datagram: &mut [u8],
    ) -> Received {
        let path = from;
        self.handle_arrival(now, Arrival { path, ecn, at: now }, datagram)
    }

    /// The same, with all that the network tells of the datagram. Its time of arrival is what the peer's
    /// congestion control and the jitter of reports go by: taken when the socket is read, it would hold this
    /// program's delays against the path.
    pub fn handle_arrival(
        &mut self,
        now: Instant,
        arrival: Arrival,
        datagram: &mut [u8],
    ) -> Received {
        self.now = now;
        let Arrival { path, ecn, at } = arrival;
        let incoming = self.transport.handle_datagram(now, path, ecn, datagram);
        self.drain(now);
        match incoming {
            Incoming::Nothing => Received::Consumed,
            Incoming::Rtp(range) => {
                let at = at.min(now);
                match self.receive_rtp(now, (at, ecn), &mut datagram[range.clone()], range) {
                    Some(rtp) => Received::Rtp(rtp),
                    None => Received::Consumed,
                }
            }
            Incoming::Rtcp(range) => {
                self.receive_rtcp(now, &datagram[range.clone()]);
                Received::Rtcp(range)
            }
        }
    }

    /// Time passed. To be called when [`poll_timeout`](Self::poll_timeout) says so; harmless earlier.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.transport.handle_timeout(now);
        self.media_timeout(now);
        self.drain(now);
        self.trim_when_idle();
    }

    /// Gives back what bursts and set-up took, once there has been nothing but STUN for a while. That is
    /// looked at when a timer runs out, which consent checks see to.
    fn trim_when_idle(&mut self) {
        let stats = &self.transport.stats;
        let packets = stats.packets_received + stats.packets_sent;
        let idle = &mut self.idle;
        if packets != idle.packets {
            *idle = Idle {
                packets,
                since: self.now,
            };
        }
        if self.now.saturating_duration_since(idle.since) < IDLE {
            return;
        }
        self.transport.trim();
        self.jsep.trim();
        self.media.trim();
        self.candidates.trim();
        self.log.trim();
        self.events.shrink_to_fit();
    }

    /// When [`handle_timeout`](Self::handle_timeout), and then `poll_transmit`, is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.transport.poll_timeout(), self.media_next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes the next run of datagrams for one destination. `out` is cleared first.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        self.now = now;
        let transmit = self
            .transport
            .poll_transmit(now, &mut self.media, None, out);
        self.drain(now);
        transmit
    }

    /// The same, with media of the caller's own: `source` writes plain RTP packets straight into the
    /// datagrams, where they are protected in place. What the connection has to send itself (checks,
    /// handshakes, RTCP, packets of [`send_rtp`](Self::send_rtp)) goes first. For forwarders, who keep
    /// packets, histories and pacing for many connections at once.
    pub fn poll_transmit_with(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        source: &mut dyn PacketSource,
    ) -> Option<Transmit> {
        self.now = now;
        let transmit = self
            .transport
            .poll_transmit(now, &mut self.media, Some(source), out);
        self.drain(now);
        transmit
    }

    /// The next run of `source`'s packets alone, as [`poll_transmit_with`](Self::poll_transmit_with) gives it when the
    /// connection has nothing to send itself. For who knows that, because that answered `None` and nothing but media was
    /// asked of the connection since: none of the layers that are at rest is looked at.
    pub fn poll_source(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        source: &mut dyn PacketSource,
    ) -> Option<Transmit> {
        self.now = now;
        self.transport.poll_source(now, source, out)
    }

    /// Reads what [`poll_source`](Self::poll_source) will touch, and does nothing else: who goes through many connections
    /// asks the next one, so that caches fetch all of it at once, and meanwhile, rather than one thing after another.
    pub fn warm(&self) {
        std::hint::black_box(self.now);
        self.transport.warm();
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.closed {
            return None;
        }
        if std::mem::take(&mut self.update_negotiation_needed)
            && self.jsep.update_negotiation_needed()
        {
            self.log.note(self.now, Decision::NegotiationNeeded);
            return Some(Event::NegotiationNeeded);
        }
        self.poll_channels()
    }

    /// Turns what the layers below have to tell into events.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        while let Some(event) = self.transport.ice.poll_event() {
            self.follow_ice(event);
        }
        self.transport.try_start(now);
        self.follow_dtls_state();
        while let Some(line) = self.transport.key_log.pop_front() {
            self.events.push_back(Event::KeyLog(line));
        }
    }

    fn follow_ice(&mut self, event: ice::Event) {
        match event {
            ice::Event::Candidate(candidate) => {
                let ufrag = self.transport.ice.local_credentials().ufrag.to_string();
                let line = candidate.to_string();
                let text = line.strip_prefix("candidate:").unwrap_or(&line).to_owned();
                self.candidates.add_local(&ufrag, text);
                self.tell_candidate(line, ufrag);
            }
            ice::Event::GatheringState(state) => {
                // webrtc-pc section 5.6: the end of this session's candidates, the state, and the
                // end of all.
                let complete = state == ice::GatheringState::Complete;
                if complete {
                    let ufrag = self.transport.ice.local_credentials().ufrag.to_string();
                    self.tell_candidate(String::new(), ufrag);
                }
                self.gathering_state = state;
                self.events.push_back(Event::IceGatheringState(state));
                if complete {
                    self.events.push_back(Event::IceCandidate(None));
                }
            }
            ice::Event::CandidateError {
                local,
                url,
                code,
                text,
            } => self.events.push_back(Event::IceCandidateError {
                local,
                url: url.into(),
                code,
                text: text.into(),
            }),
            ice::Event::ConnectionState(state) => {
                self.ice_state = state;
                self.log.note(self.now, Decision::Ice(state));
                self.events.push_back(Event::IceConnectionState(state));
                self.update_connection_state();
            }
            ice::Event::SelectedPair(pair) => {
                self.media.path_changed(self.now);
                self.transport.path_changed(self.now);
                let (local, remote) = (pair.local.to_string(), pair.remote.to_string());
                let what = Decision::SelectedPair { local, remote };
                self.log.note(self.now, what);
                self.events.push_back(Event::SelectedPair(pair));
            }
            ice::Event::Connect(connect) => self.events.push_back(Event::IceConnect(connect)),
            ice::Event::Disconnect(path) => self.events.push_back(Event::IceDisconnect(path)),
            ice::Event::ResolveName(name) => self.events.push_back(Event::ResolveName(name)),
            _ => {}
        }
    }

    fn tell_candidate(&mut self, candidate: String, ufrag: String) {
        let (sdp_mid, sdp_mline_index) = self.candidate_section();
        self.events
            .push_back(Event::IceCandidate(Some(IceCandidate {
                candidate,
                sdp_mid,
                sdp_mline_index,
                username_fragment: Some(ufrag),
            })));
    }

    fn follow_dtls_state(&mut self) {
        let state = self.transport.dtls_state;
        if state == self.dtls_state {
            return;
        }
        self.dtls_state = state;
        self.log.note(self.now, Decision::Dtls(state));
        self.events.push_back(Event::DtlsState(state));
        self.update_connection_state();
    }

    /// webrtc-pc section 4.3.3.
    fn update_connection_state(&mut self) {
        use ice::ConnectionState as Ice;
        let state = match (self.ice_state, self.dtls_state) {
            (Ice::Failed, _) | (_, DtlsState::Failed) => ConnectionState::Failed,
            (Ice::Disconnected, _) => ConnectionState::Disconnected,
            (Ice::New | Ice::Closed, DtlsState::New | DtlsState::Closed) => ConnectionState::New,
            (
                Ice::Connected | Ice::Completed | Ice::Closed,
                DtlsState::Connected | DtlsState::Closed,
            ) => ConnectionState::Connected,
            _ => ConnectionState::Connecting,
        };
        if state != self.connection_state {
            self.connection_state = state;
            self.log.note(self.now, Decision::Connection(state));
            self.events.push_back(Event::ConnectionState(state));
        }
    }
}
