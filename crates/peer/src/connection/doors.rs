//! The five doors.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use visavis_datagram::{Arrival, Ecn, Path, Protocol, Transmit, TransmitBuf};
use visavis_ice as ice;

use super::PeerConnection;
use super::bundle::{Bundle, Stage, TransportId};
use crate::error::Error;
use crate::events::Event;
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
        let added = self
            .bundles
            .main
            .transport
            .ice
            .add_local_address(now, local);
        self.drain(now);
        added.map_err(|error| Error::Operation(error.to_string().into()))
    }

    /// The addresses that [`Event::AddressesWanted`] asked for: none of them may be given to another transport.
    pub fn set_transport_addresses(
        &mut self,
        now: Instant,
        id: TransportId,
        addresses: impl IntoIterator<Item = ice::LocalAddress>,
    ) {
        self.now = now;
        if let Some(bundle) = self.bundles.get_mut(id) {
            bundle.set_addresses(now, addresses);
        }
        self.drain(now);
    }

    /// A router leads what comes to `external` to a local address over UDP: another candidate.
    pub fn ice_mapped(&mut self, now: Instant, local: SocketAddr, external: SocketAddr) {
        self.now = now;
        for bundle in self.bundles.iter_mut() {
            let ice = &mut bundle.transport.ice;
            ice.set_mapped_address(now, local, Protocol::Udp, external);
        }
        self.drain(now);
    }

    /// It is gone.
    pub fn remove_local_address(&mut self, now: Instant, address: SocketAddr, protocol: Protocol) {
        self.now = now;
        for bundle in self.bundles.iter_mut() {
            let ice = &mut bundle.transport.ice;
            ice.remove_local_address(now, address, protocol);
        }
        self.drain(now);
    }

    /// One more STUN or TURN server, its name resolved.
    ///
    /// # Errors
    /// `OperationError` if there are too many.
    pub fn add_ice_server(&mut self, now: Instant, server: ice::Server) -> Result<(), Error> {
        self.now = now;
        let mut added = Ok(());
        for bundle in self.bundles.iter_mut() {
            added = added.and(bundle.transport.ice.add_server(now, server.clone()));
        }
        self.drain(now);
        added.map_err(|error| Error::Operation(error.to_string().into()))
    }

    /// Multicast DNS answered (or did not) for a name of [`Event::ResolveName`].
    pub fn ice_resolved(&mut self, now: Instant, name: &str, ip: Option<IpAddr>) {
        self.now = now;
        for bundle in self.bundles.iter_mut() {
            bundle.transport.ice.resolved(now, name, ip);
        }
        self.drain(now);
    }

    /// A connection of [`Event::IceConnect`] is up, from `local`.
    pub fn ice_connected(&mut self, now: Instant, id: ice::ConnectionId, local: SocketAddr) {
        self.now = now;
        for bundle in self.bundles.iter_mut() {
            if let Some(path) = bundle.transport.ice.connected(now, id, local) {
                bundle.add_local(path.local, path.protocol);
            }
        }
        self.drain(now);
    }

    /// A connection of [`Event::IceConnect`] could not be opened.
    pub fn ice_connect_failed(&mut self, now: Instant, id: ice::ConnectionId) {
        self.now = now;
        for bundle in self.bundles.iter_mut() {
            bundle.transport.ice.connect_failed(now, id);
        }
        self.drain(now);
    }

    /// A listening socket accepted a connection. False: close it.
    pub fn ice_accepted(&mut self, now: Instant, path: Path) -> bool {
        self.now = now;
        self.bundles.at(path).transport.ice.accepted(path)
    }

    /// A stream ended.
    pub fn ice_disconnected(&mut self, now: Instant, path: Path) {
        self.now = now;
        let bundle = self.bundles.at(path);
        bundle.transport.ice.disconnected(now, path);
        bundle.remove_local(path.local, path.protocol);
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
        let bundle = self.bundles.at(path);
        let id = bundle.id;
        let incoming = bundle.transport.handle_datagram(now, path, ecn, datagram);
        self.drain(now);
        match incoming {
            Incoming::Nothing => Received::Consumed,
            Incoming::Rtp(range) => {
                let arrival = (at.min(now), ecn);
                match self.receive_rtp(now, id, arrival, &mut datagram[range.clone()], range) {
                    Some(rtp) => Received::Rtp(rtp),
                    None => Received::Consumed,
                }
            }
            Incoming::Rtcp(range) => {
                self.receive_rtcp(now, id, &datagram[range.clone()]);
                Received::Rtcp(range)
            }
        }
    }

    /// Time passed. To be called when [`poll_timeout`](Self::poll_timeout) says so; harmless earlier.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let events = &mut self.events;
        for bundle in self.bundles.iter_mut() {
            bundle.handle_timeout(now, &mut |event| events.push_back(event));
        }
        self.drain(now);
        self.trim_when_idle();
    }

    /// Gives back what bursts and set-up took, once there has been nothing but STUN for a while. That is
    /// looked at when a timer runs out, which consent checks see to.
    fn trim_when_idle(&mut self) {
        let packets = self
            .bundles
            .iter()
            .map(|bundle| &bundle.transport.stats)
            .map(|stats| stats.packets_received + stats.packets_sent)
            .sum();
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
        for bundle in self.bundles.iter_mut() {
            bundle.transport.trim();
            bundle.media.trim();
        }
        self.jsep.trim();
        self.candidates.trim();
        self.log.trim();
        self.events.shrink_to_fit();
    }

    /// When [`handle_timeout`](Self::handle_timeout), and then `poll_transmit`, is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.bundles.iter().filter_map(Bundle::poll_timeout).min()
    }

    /// Writes the next run of datagrams for one destination. `out` is cleared first.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        self.poll_bundles(now, None, out)
    }

    fn poll_bundles(
        &mut self,
        now: Instant,
        source: Option<&mut dyn PacketSource>,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        self.now = now;
        let mut transmit = self.bundles.main.poll_transmit(now, source, out);
        let mut place = 0;
        while transmit.is_none()
            && let Some(bundle) = self.bundles.apart.get_mut(place)
        {
            transmit = bundle.poll_transmit(now, None, out);
            place += 1;
        }
        self.drain(now);
        if transmit.is_none() {
            self.drop_those_over();
        }
        transmit
    }

    /// Those that are over have said their goodbyes.
    fn drop_those_over(&mut self) {
        if self.closed {
            return;
        }
        let over = self
            .bundles
            .apart
            .extract_if(.., |bundle| bundle.stage == Stage::Over);
        for bundle in over {
            self.candidates.forget_local(bundle.id);
            self.events.push_back(Event::TransportClosed(bundle.id));
        }
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
        self.poll_bundles(now, Some(source), out)
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
        self.bundles.main.transport.poll_source(now, source, out)
    }

    /// Reads what [`poll_source`](Self::poll_source) will touch, and does nothing else: who goes through many connections
    /// asks the next one, so that caches fetch all of it at once, and meanwhile, rather than one thing after another.
    pub fn warm(&self) {
        std::hint::black_box(self.now);
        self.bundles.main.transport.warm();
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(match event {
                Event::TargetBitrate(_) if self.bundles.apart.is_empty() => event,
                // Each transport has a target; the application shares their sum among its encoders.
                Event::TargetBitrate(_) => Event::TargetBitrate(self.target().bitrate),
                event => event,
            });
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
}
