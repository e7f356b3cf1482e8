//! The transports of a connection, each with what flows over it: one for all sections of a BUNDLE group (RFC 9143), and
//! others where the peer does not bundle.

use std::net::SocketAddr;
use std::time::Instant;

use visavis_datagram::{Path, Protocol, Transmit, TransmitBuf};
use visavis_ice as ice;
use visavis_sdp::SessionDescription;

use crate::events::{DtlsState, Event};
use crate::jsep::transport_section;
use crate::media::{Media, PacketSource};
use crate::transceiver::{Transceiver, TransceiverId};
use crate::transport::{Transport, TransportStats};

/// A transport of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransportId(u8);

impl TransportId {
    /// The transport that there is from the beginning.
    pub const MAIN: Self = Self(0);

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A transport of a connection, to look at.
#[derive(Debug, Clone, Copy)]
pub struct TransportRef<'a> {
    /// Which one.
    pub id: TransportId,
    /// The mids of the sections that it carries.
    pub mids: &'a [String],
    /// Its ICE agent.
    pub ice: &'a ice::Agent,
    /// Its DTLS association, once there is one.
    pub dtls: Option<&'a visavis_dtls::Connection>,
    /// W3C `RTCDtlsTransport.state`.
    pub dtls_state: DtlsState,
    /// Its counters.
    pub stats: TransportStats,
}

/// What a transport is to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No exchange of descriptions has an answer that uses it.
    Proposed,
    /// It carries sections.
    InForce,
    /// It says its goodbyes.
    Over,
}

/// A transport, the sections that share it, and their media.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) id: TransportId,
    pub(super) stage: Stage,
    /// The mids of its sections.
    pub(super) mids: Vec<String>,
    pub(super) transport: Transport,
    pub(super) media: Media,
    pub(super) ice_state: ice::ConnectionState,
    pub(super) gathering_state: ice::GatheringState,
    /// The credentials of the peer that ICE has been given.
    pub(super) remote_credentials: Option<(String, String)>,
    /// The local username fragment that a restart replaces.
    pub(super) replaced_ufrag: Option<String>,
    /// The username fragment that the last description in force with a section had.
    pub(super) described_ufrag: Option<String>,
    /// The addresses that are this transport's alone. The main one has all others.
    locals: Vec<(SocketAddr, Protocol)>,
    /// Where it stands with addresses of its own.
    addresses: Addresses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addresses {
    /// The owner was asked for some; whether candidates are wanted as soon as they are there.
    Asked { gather: bool },
    /// They are there.
    Known,
}

impl Bundle {
    fn new(id: TransportId, transport: Transport, media: Media) -> Self {
        Self {
            id,
            stage: Stage::Proposed,
            mids: Vec::new(),
            transport,
            media,
            ice_state: ice::ConnectionState::New,
            gathering_state: ice::GatheringState::New,
            remote_credentials: None,
            replaced_ufrag: None,
            described_ufrag: None,
            locals: Vec::new(),
            addresses: match id {
                TransportId::MAIN => Addresses::Known,
                _ => Addresses::Asked { gather: false },
            },
        }
    }

    /// Whether it carries a section.
    pub(super) fn carries(&self, mid: &str) -> bool {
        self.mids.iter().any(|of| of == mid)
    }

    pub(super) fn local_ufrag(&self) -> &str {
        &self.transport.ice.local_credentials().ufrag
    }

    pub(super) fn as_ref(&self) -> TransportRef<'_> {
        let transport = &self.transport;
        TransportRef {
            id: self.id,
            mids: &self.mids,
            ice: &transport.ice,
            dtls: transport.dtls.as_ref(),
            dtls_state: transport.dtls_state,
            stats: transport.stats,
        }
    }

    /// Candidates are wanted.
    pub(super) fn gather(&mut self, now: Instant) {
        match &mut self.addresses {
            Addresses::Asked { gather } => *gather = true,
            Addresses::Known => self.transport.ice.gather(now),
        }
    }

    /// Takes the addresses that were asked for. Beyond the agent's bound there is nothing to gain.
    pub(super) fn set_addresses(
        &mut self,
        now: Instant,
        addresses: impl IntoIterator<Item = ice::LocalAddress>,
    ) {
        for local in addresses {
            // Those of active TCP have no port, and are told apart by their connections.
            self.add_local(local.address, local.protocol);
            let _ = self.transport.ice.add_local_address(now, local);
        }
        let asked = std::mem::replace(&mut self.addresses, Addresses::Known);
        if asked == (Addresses::Asked { gather: true }) {
            self.transport.ice.gather(now);
        }
    }

    /// What comes to this address is for this transport.
    pub(super) fn add_local(&mut self, address: SocketAddr, protocol: Protocol) {
        if self.id != TransportId::MAIN {
            self.locals.push((address, protocol));
        }
    }

    /// A connection ended.
    pub(super) fn remove_local(&mut self, address: SocketAddr, protocol: Protocol) {
        if let Some(at) = self
            .locals
            .iter()
            .position(|&local| local == (address, protocol))
        {
            self.locals.swap_remove(at);
        }
    }

    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        source: Option<&mut dyn PacketSource>,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        self.transport
            .poll_transmit(now, &mut self.media, source, out)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, tell: &mut impl FnMut(Event)) {
        self.transport.handle_timeout(now);
        let trip = self.transport.ice.round_trip_time();
        self.media.handle_timeout(now, trip, tell);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let flows = self.transport.has_media_keys() && self.transport.has_path();
        let media = self.media.poll_timeout().filter(|_| flows);
        [self.transport.poll_timeout(), media]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The transports of a connection.
#[derive(Debug)]
pub(super) struct Bundles {
    pub(super) main: Bundle,
    pub(super) apart: Vec<Bundle>,
    /// The number of the one that was made last.
    latest: u8,
}

impl Bundles {
    pub(super) fn new(transport: Transport, media: Media) -> Self {
        Self {
            main: Bundle::new(TransportId::MAIN, transport, media),
            apart: Vec::new(),
            latest: 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bundle> {
        std::iter::once(&self.main).chain(&self.apart)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Bundle> {
        std::iter::once(&mut self.main).chain(&mut self.apart)
    }

    /// One by its place, as they are iterated.
    pub(super) fn nth_mut(&mut self, place: usize) -> Option<&mut Bundle> {
        match place.checked_sub(1) {
            None => Some(&mut self.main),
            Some(place) => self.apart.get_mut(place),
        }
    }

    /// Those that carry sections; the main one while there is none.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Bundle> {
        let in_force = |bundle: &&Bundle| bundle.stage == Stage::InForce;
        let none = !self.iter().any(|bundle| in_force(&bundle));
        std::iter::once(&self.main)
            .filter(move |main| none || in_force(main))
            .chain(self.apart.iter().filter(in_force))
    }

    /// The transport that is asked first, where one stands for all: the main one unless it carries nothing and others do.
    pub(super) fn first(&self) -> &Bundle {
        self.in_force().next().unwrap_or(&self.main)
    }

    pub(super) fn get_mut(&mut self, id: TransportId) -> Option<&mut Bundle> {
        self.iter_mut().find(|bundle| bundle.id == id)
    }

    /// The section that carries a transport in one of our descriptions.
    pub(super) fn carrier_of(&self, bundle: &Bundle, sdp: &SessionDescription) -> Option<usize> {
        if self.apart.is_empty() {
            return transport_section(sdp);
        }
        sdp.media.iter().position(|media| {
            let mid = media.attributes.mid();
            !media.is_rejected() && mid.is_some_and(|mid| self.of_mid(mid).id == bundle.id)
        })
    }

    /// The transport that a section has.
    pub(super) fn carrying(&self, mid: &str) -> Option<&Bundle> {
        let mut apart = self.apart.iter().chain(std::iter::once(&self.main));
        apart.find(|bundle| bundle.carries(mid))
    }

    /// The transport of a section.
    pub(super) fn of_mid(&self, mid: &str) -> &Bundle {
        let apart = self.apart.iter().find(|bundle| bundle.carries(mid));
        apart.unwrap_or(&self.main)
    }

    pub(super) fn of_mid_mut(&mut self, mid: &str) -> &mut Bundle {
        let apart = self.apart.iter_mut().find(|bundle| bundle.carries(mid));
        apart.unwrap_or(&mut self.main)
    }

    /// The transport of a transceiver, which is one of these. With one transport, as is usual, none is looked for.
    pub(super) fn of(&self, transceivers: &[Transceiver], id: TransceiverId) -> &Bundle {
        match mid_of(&self.apart, transceivers, id) {
            Some(mid) => self.of_mid(mid),
            None => &self.main,
        }
    }

    pub(super) fn of_mut(
        &mut self,
        transceivers: &[Transceiver],
        id: TransceiverId,
    ) -> &mut Bundle {
        match mid_of(&self.apart, transceivers, id) {
            Some(mid) => self.of_mid_mut(mid),
            None => &mut self.main,
        }
    }

    /// The transport that a path leads to.
    pub(super) fn at(&mut self, path: Path) -> &mut Bundle {
        let local = (path.local, path.protocol);
        let apart = self
            .apart
            .iter_mut()
            .find(|bundle| bundle.locals.contains(&local));
        apart.unwrap_or(&mut self.main)
    }

    /// The transport whose channels the application has.
    pub(super) fn with_channels(&self) -> &Bundle {
        let has = |bundle: &&Bundle| bundle.transport.data.channels.is_some();
        self.apart.iter().find(has).unwrap_or(&self.main)
    }

    pub(super) fn with_channels_mut(&mut self) -> &mut Bundle {
        let has = |bundle: &&mut Bundle| bundle.transport.data.channels.is_some();
        self.apart.iter_mut().find(has).unwrap_or(&mut self.main)
    }

    /// Lets the transport of a section carry the data channels.
    pub(super) fn move_channels(&mut self, mid: &str) {
        let to = self.of_mid(mid).id;
        let from = self.with_channels_mut();
        if from.id != to {
            let data = std::mem::take(&mut from.transport.data);
            self.of_mid_mut(mid).transport.data = data;
        }
    }

    /// Whether the transport at `place`, as they are iterated, is that of a section.
    pub(super) fn is_at(&self, place: usize, mid: &str) -> bool {
        let id = self.of_mid(mid).id;
        self.iter().nth(place).is_some_and(|bundle| bundle.id == id)
    }

    /// What the application chose for a transceiver goes to the transport at `place`, if it was elsewhere.
    pub(super) fn hand_over(&mut self, place: usize, transceiver: TransceiverId) {
        let (main, apart) = (&mut self.main, &mut self.apart);
        for from in 0..apart.len() {
            if place == 0 {
                apart[from].media.hand_over(transceiver, &mut main.media);
            } else if from + 1 != place
                && let Ok([from, to]) = apart.get_disjoint_mut([from, place - 1])
            {
                from.media.hand_over(transceiver, &mut to.media);
            }
        }
        if let Some(to) = place.checked_sub(1).and_then(|place| apart.get_mut(place)) {
            main.media.hand_over(transceiver, &mut to.media);
        }
    }

    /// Makes one more, for these sections. `None` if there is no number left.
    pub(super) fn add(
        &mut self,
        now: Instant,
        mids: Vec<String>,
        credentials: Option<ice::Credentials>,
    ) -> Option<TransportId> {
        let free = |number: &u8| self.iter().all(|bundle| bundle.id.0 != *number);
        let after = self.latest.wrapping_add(1);
        let number = (after..=u8::MAX).chain(1..after).find(free)?;
        self.latest = number;
        let transport = self.main.transport.sibling(number, credentials, now);
        let media = self.main.media.sibling();
        let mut bundle = Bundle::new(TransportId(number), transport, media);
        bundle.mids = mids;
        self.apart.push(bundle);
        Some(TransportId(number))
    }

    /// Takes the sections of those that are not to be kept, which are over then. The main one stays, and waits for another
    /// section.
    pub(super) fn retire(&mut self, now: Instant, keep: impl Fn(&Bundle) -> bool) {
        for bundle in &mut self.apart {
            if bundle.stage != Stage::Over && !keep(bundle) {
                bundle.stage = Stage::Over;
                bundle.mids.clear();
            }
        }
        let main = &mut self.main;
        if main.stage == Stage::InForce && !keep(main) {
            main.stage = Stage::Proposed;
            main.mids.clear();
            main.remote_credentials = None;
            main.replaced_ufrag = None;
            main.described_ufrag = None;
            main.transport.forget_peer(now);
        }
    }

    /// Ends those that are over, as far as [`Bundle::poll_transmit`] is still called.
    pub(super) fn close_those_over(&mut self, now: Instant) {
        for bundle in &mut self.apart {
            if bundle.stage == Stage::Over {
                bundle.transport.close(now);
            }
        }
    }

    /// The ICE state of the connection (webrtc-pc section 4.3.2).
    pub(super) fn ice_state(&self) -> ice::ConnectionState {
        use ice::ConnectionState as State;
        let states = || self.in_force().map(|bundle| bundle.ice_state);
        let any = |wanted: State| states().any(|state| state == wanted);
        if any(State::Failed) {
            State::Failed
        } else if any(State::Disconnected) {
            State::Disconnected
        } else if states().all(|state| state == State::Closed) {
            State::Closed
        } else if states().all(|state| matches!(state, State::New | State::Closed)) {
            State::New
        } else if any(State::New) || any(State::Checking) {
            State::Checking
        } else if any(State::Connected) {
            State::Connected
        } else {
            State::Completed
        }
    }

    /// The gathering state of the connection (webrtc-pc section 4.3.2).
    pub(super) fn gathering_state(&self) -> ice::GatheringState {
        use ice::GatheringState as State;
        let states = || self.in_force().map(|bundle| bundle.gathering_state);
        if states().any(|state| state == State::Gathering) {
            State::Gathering
        } else if states().any(|state| state == State::New) {
            State::New
        } else {
            State::Complete
        }
    }

    /// The state of DTLS, where one stands for all: the worst, and `Connected` once all are.
    pub(super) fn dtls_state(&self) -> DtlsState {
        // This is asked with each datagram.
        if self.apart.is_empty() {
            return self.main.transport.dtls_state;
        }
        let states = || self.in_force().map(|bundle| bundle.transport.dtls_state);
        let any = |wanted: DtlsState| states().any(|state| state == wanted);
        let mut first = states();
        match first.next() {
            Some(one) if first.all(|other| other == one) => one,
            _ if any(DtlsState::Failed) => DtlsState::Failed,
            _ if any(DtlsState::Connecting) || any(DtlsState::New) => DtlsState::Connecting,
            _ => DtlsState::Connected,
        }
    }
}

/// The mid of a transceiver, where there are transports to tell apart.
fn mid_of<'a>(
    apart: &[Bundle],
    transceivers: &'a [Transceiver],
    id: TransceiverId,
) -> Option<&'a str> {
    if apart.is_empty() {
        return None;
    }
    let transceiver = transceivers
        .iter()
        .find(|transceiver| transceiver.id == id)?;
    transceiver.mid.as_deref()
}
