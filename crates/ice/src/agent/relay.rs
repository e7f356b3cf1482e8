//! Relayed candidates: one TURN client per server and local address, and what it wraps and unwraps. Which
//! of them are asked is `race`'s, moving them to another address is `roam`'s.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Instant;

use visavis_datagram::{Ecn, Framing, Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_turn::client::{self, Client, ClientConfig, Failure, Families};

use super::Agent;
use super::local::{ConnectionUser, LocalId, RelayId, Source};
use super::roam::Roaming;
use crate::candidate::CandidateKind;
use crate::config::ServerKind;
use crate::event::{GatheringState, PairId};

/// Checks and data that wait for a permission, per relay.
const MAX_WAITING: usize = 16;

#[derive(Debug)]
pub(super) struct Relay {
    pub(super) id: RelayId,
    pub(super) local: LocalId,
    /// The address that it races for: that of `local`, or of the one that it moves to.
    pub(super) ip: IpAddr,
    pub(super) server: u16,
    /// Where the server is: as configured, or where that one sent us.
    pub(super) target: SocketAddr,
    pub(super) server_name: Option<Box<str>>,
    pub(super) protocol: Protocol,
    step: RelayStep,
    /// When the server was asked.
    pub(super) begun: Option<Instant>,
    /// The relayed addresses; none yet while the allocation is being made.
    relayed: client::Relayed,
    /// Nothing has come through it for too long.
    pub(super) doubted: bool,
    /// What follows once the allocation is given back.
    parting: Option<Parting>,
    pub(super) roaming: Option<Roaming>,
    /// Messages for peers whose permission is not there yet.
    waiting: Vec<(SocketAddr, Box<[u8]>)>,
}

#[derive(Debug)]
enum RelayStep {
    /// Not asked (any more): others are enough.
    Reserve,
    /// Waits for a slot of the pace.
    Queued,
    /// Waits for the owner's connection.
    Connecting,
    Running {
        client: Box<Client>,
        began: Instant,
    },
    Failed,
}

/// What follows once an allocation is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    /// Another one from the same server.
    Again,
    /// Nothing, unless others fail.
    Reserve,
}

impl Relay {
    /// Whether its server is being asked.
    pub(super) fn is_running(&self) -> bool {
        self.parting.is_none()
            && match &self.step {
                RelayStep::Queued | RelayStep::Connecting => true,
                RelayStep::Running { .. } => !self.is_allocated(),
                RelayStep::Reserve | RelayStep::Failed => false,
            }
    }

    /// Whether it could be asked.
    pub(super) fn is_reserve(&self) -> bool {
        matches!(self.step, RelayStep::Reserve)
    }

    /// Whether it relays, as far as is known.
    pub(super) fn serves(&self) -> bool {
        self.is_allocated() && self.parting.is_none() && !self.doubted
    }

    /// Whether its allocation can move to another path.
    pub(super) fn can_move(&self) -> bool {
        self.is_allocated() && self.client().is_some_and(Client::can_move)
    }

    fn is_allocated(&self) -> bool {
        self.relayed.iter().next().is_some()
    }

    /// How good its protocol is: smaller is better.
    pub(super) fn rank(&self) -> u8 {
        match self.protocol {
            Protocol::Udp => 0,
            Protocol::Dtls => 1,
            Protocol::Tcp => 2,
            Protocol::Tls => 3,
        }
    }

    /// How early it is asked: smaller is earlier.
    fn order(&self) -> (u8, u16) {
        (self.rank(), self.server)
    }

    fn client(&self) -> Option<&Client> {
        match &self.step {
            RelayStep::Running { client, .. } => Some(client),
            _ => None,
        }
    }

    pub(super) fn client_mut(&mut self) -> Option<&mut Client> {
        match &mut self.step {
            RelayStep::Running { client, .. } => Some(client),
            _ => None,
        }
    }
}

/// What a relay made of a datagram.
pub(super) enum Relayed {
    NotMine,
    Consumed,
    Data {
        source: Source,
        path: Path,
        payload: Range<usize>,
    },
}

impl Agent {
    pub(super) fn relay(&self, id: RelayId) -> Option<&Relay> {
        self.relays.iter().find(|relay| relay.id == id)
    }

    pub(super) fn relay_mut(&mut self, id: RelayId) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.id == id)
    }

    // ---- allocation

    /// One more server in the race of a local address.
    pub(super) fn enter_relay(&mut self, local: LocalId, server: u16) {
        if self.relays.len() + self.gatherers.len() >= self.config.limits.gatherers {
            self.stats.gatherers_over_limit += 1;
            return;
        }
        let Some(ip) = self.local(local).map(|local| local.ip()) else {
            return;
        };
        let Some(target) = self.servers.get(usize::from(server)) else {
            return;
        };
        let relay = Relay {
            local,
            ip,
            server,
            target: target.address,
            server_name: target.server_name.clone(),
            protocol: target.protocol,
            step: RelayStep::Reserve,
            begun: None,
            relayed: client::Relayed::default(),
            doubted: false,
            parting: None,
            roaming: None,
            waiting: Vec::new(),
            id: RelayId(self.next_id()),
        };
        let place = self
            .relays
            .partition_point(|known| known.order() <= relay.order());
        self.relays.insert(place, relay);
    }

    /// Asks a server of the reserve.
    pub(super) fn begin_relay(&mut self, now: Instant, id: RelayId) {
        let Some(relay) = self.relay_mut(id) else {
            return;
        };
        relay.begun = Some(now);
        relay.step = RelayStep::Queued;
        if relay.protocol != Protocol::Udp {
            self.connect_relay(id);
        }
        self.set_gathering(GatheringState::Gathering);
    }

    /// Asks the owner for a connection to a relay's server.
    fn connect_relay(&mut self, id: RelayId) -> bool {
        let Some(relay) = self.relay(id) else {
            return false;
        };
        let (protocol, target) = (relay.protocol, relay.target);
        let from = SocketAddr::new(relay.ip, 0);
        let name = relay.server_name.clone();
        let connecting = self
            .connect(ConnectionUser::Relay(id), protocol, from, target, name)
            .is_some();
        if let Some(relay) = self.relay_mut(id)
            && relay.client().is_none()
        {
            relay.step = if connecting {
                RelayStep::Connecting
            } else {
                RelayStep::Failed
            };
        }
        connecting
    }

    /// Others were faster, or are preferred: gives back what there is, and joins the reserve.
    pub(super) fn withdraw_relay(&mut self, now: Instant, id: RelayId) {
        let Some(relay) = self.relay_mut(id) else {
            return;
        };
        if let Some(client) = relay.client_mut() {
            client.close(now);
            relay.parting = Some(Parting::Reserve);
            self.relay_events(now);
        } else {
            relay.step = RelayStep::Reserve;
            self.release_connection(ConnectionUser::Relay(id));
        }
    }

    /// Whether an allocation waits for a slot of the pace.
    pub(super) fn relay_waits(&self) -> bool {
        self.relays
            .iter()
            .any(|relay| matches!(relay.step, RelayStep::Queued))
    }

    /// Begins the first allocation that waits.
    pub(super) fn start_relay_transaction(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let waits = |relay: &Relay| matches!(relay.step, RelayStep::Queued);
        let id = self.relays.iter().find(|relay| waits(relay))?.id;
        let relay = self.relay(id)?;
        let local = self.local(relay.local)?.address.address;
        let path = Path {
            protocol: relay.protocol,
            local,
            remote: relay.target,
        };
        self.run_client(now, id, path);
        self.relay_transmit(now, out)
    }

    /// A connection to the server stands.
    pub(super) fn relay_connected(&mut self, now: Instant, id: RelayId, path: Path) {
        let Some(relay) = self.relay_mut(id) else {
            return;
        };
        let roaming = relay.roaming.is_some();
        match relay.client_mut() {
            None => self.run_client(now, id, path),
            Some(_) if roaming => {
                if !self.move_relay(now, id, path) {
                    self.drop_relay(now, id);
                }
            }
            // Sent here by another server.
            Some(client) => client.reconnect(now, path),
        }
    }

    fn run_client(&mut self, now: Instant, id: RelayId, path: Path) {
        let Some(relay) = self.relay(id) else { return };
        let Some(server) = self.servers.get(usize::from(relay.server)) else {
            return;
        };
        let ServerKind::Turn { username, password } = &server.kind else {
            return;
        };
        let mut config = ClientConfig::new(&**username, password.expose());
        // A host of one family asks the relay for the other as well: it may be the peer's only one.
        let both = [true, false]
            .iter()
            .all(|&v4| self.locals.iter().any(|l| l.ip().is_ipv4() == v4));
        config.families = match (both, path.remote.is_ipv4()) {
            (false, _) => Families::Dual,
            (true, true) => Families::V4,
            (true, false) => Families::V6,
        };
        config.mobility = self.config.relay_mobility;
        config.max_peers = self.config.limits.remote_candidates.clamp(1, 4096);
        let random: Random = self.random.fork();
        let client = Client::new(now, path, config, random);
        if let Some(relay) = self.relay_mut(id) {
            relay.relayed = client::Relayed::default();
            relay.step = RelayStep::Running {
                client: Box::new(client),
                began: now,
            };
        }
    }

    /// The allocation came to nothing, or ended.
    pub(super) fn relay_failed(&mut self, _now: Instant, id: RelayId, code: u16, text: &str) {
        let Some(relay) = self.relay_mut(id) else {
            return;
        };
        relay.step = RelayStep::Failed;
        relay.relayed = client::Relayed::default();
        relay.parting = None;
        relay.roaming = None;
        relay.waiting.clear();
        let (local, server) = (relay.local, relay.server);
        self.release_connection(ConnectionUser::Relay(id));
        self.drop_source(Source::Relay(id));
        if let Some(url) = self.servers.get(usize::from(server)).map(|s| s.url.clone()) {
            self.gather_error(local, url, code, text.into());
        }
    }

    /// The local address under it is gone: nothing can be said to the server any more.
    pub(super) fn drop_relay(&mut self, _now: Instant, id: RelayId) {
        self.release_connection(ConnectionUser::Relay(id));
        self.drop_source(Source::Relay(id));
        self.relays.retain(|relay| relay.id != id);
    }

    /// After a restart: servers that failed are asked again, and a relay whose path fell silent is given
    /// back and asked for anew; its server may have forgotten it.
    pub(super) fn restart_relays(&mut self, now: Instant) {
        let silent = self
            .selected
            .and_then(|id| self.pair(id))
            .filter(|pair| !pair.is_alive())
            .map(|pair| pair.source);
        let failed: Vec<RelayId> = self
            .relays
            .iter()
            .filter(|relay| matches!(relay.step, RelayStep::Failed))
            .map(|relay| relay.id)
            .collect();
        for id in failed {
            self.replace_relay(id);
        }
        if let Some(Source::Relay(id)) = silent {
            self.drop_source(Source::Relay(id));
            if let Some(relay) = self.relay_mut(id) {
                relay.relayed = client::Relayed::default();
                relay.parting = Some(Parting::Again);
                if let RelayStep::Running { client, began } = &mut relay.step {
                    *began = now;
                    client.close(now);
                }
            }
        }
    }

    /// The servers are asked whether they know this agent by the address that they see now; one that does not gives a new allocation. A
    /// stream tells by itself.
    pub(super) fn confirm_relays(&mut self, now: Instant) {
        for relay in &mut self.relays {
            if relay.protocol == Protocol::Udp
                && relay.parting.is_none()
                && relay.roaming.is_none()
                && let Some(client) = relay.client_mut()
            {
                client.confirm(now);
            }
        }
    }

    /// A new allocation in place of one that is over.
    fn replace_relay(&mut self, id: RelayId) {
        let Some(relay) = self.relay(id) else { return };
        let (local, server) = (relay.local, relay.server);
        self.release_connection(ConnectionUser::Relay(id));
        self.relays.retain(|relay| relay.id != id);
        self.enter_relay(local, server);
    }

    /// Gives every allocation back.
    pub(super) fn close_relays(&mut self, now: Instant) {
        for index in 0..self.relays.len() {
            let relay = &mut self.relays[index];
            relay.waiting.clear();
            relay.parting = None;
            relay.roaming = None;
            if let Some(client) = relay.client_mut() {
                client.close(now);
            } else {
                relay.step = RelayStep::Failed;
                let user = ConnectionUser::Relay(relay.id);
                self.release_connection(user);
            }
        }
    }

    // ---- timers and events

    pub(super) fn relay_timeouts(&mut self, now: Instant) {
        let limit = self.config.timing.gathering;
        let mut late = Vec::new();
        for relay in &mut self.relays {
            let pending = !relay.is_allocated() || relay.parting.is_some();
            if let RelayStep::Running { client, began } = &mut relay.step {
                if client.poll_timeout().is_some_and(|at| at <= now) {
                    client.handle_timeout(now);
                }
                if pending && now >= *began + limit {
                    late.push(relay.id);
                }
            }
        }
        for id in late {
            self.relay_timed_out(now, id);
        }
        self.roaming_timeouts(now);
        self.relay_events(now);
    }

    fn relay_timed_out(&mut self, now: Instant, id: RelayId) {
        // Who is given back need not confirm it.
        if self.relay(id).is_some_and(|relay| relay.parting.is_some()) {
            self.relay_given_back(id);
        } else {
            self.relay_failed(now, id, 701, "the server did not answer");
        }
    }

    pub(super) fn relay_timer(&self) -> Option<Instant> {
        let limit = self.config.timing.gathering;
        self.relays
            .iter()
            .filter_map(|relay| match &relay.step {
                RelayStep::Running { client, began } => {
                    let pending = !relay.is_allocated() || relay.parting.is_some();
                    let gathered = pending.then_some(*began + limit);
                    match (client.poll_timeout(), gathered.filter(|_| !self.closed)) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    }
                }
                _ => None,
            })
            .chain(self.race_timer())
            .chain(self.roaming_timer())
            .min()
    }

    fn relay_events(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(relay) = self.relays.get_mut(index) {
            let id = relay.id;
            match relay.client_mut().and_then(Client::poll_event) {
                Some(event) => self.relay_event(now, id, event),
                None => index += 1,
            }
        }
    }

    fn relay_event(&mut self, now: Instant, id: RelayId, event: client::Event) {
        match event {
            client::Event::Allocated {
                relayed, mapped, ..
            } => self.allocated(now, id, relayed, mapped),
            client::Event::NewPathNeeded { server, domain, .. } => {
                self.relay_redirected(now, id, server, domain);
            }
            client::Event::Moved(_) => self.relay_moved(now, id),
            client::Event::MoveFailed { .. } => self.drop_relay(now, id),
            client::Event::PermissionGranted(_) | client::Event::ChannelBound(_) => {}
            client::Event::PermissionDenied { peer, .. } => {
                let refused: Vec<PairId> = self
                    .pairs
                    .iter()
                    .filter(|pair| {
                        pair.source == Source::Relay(id) && pair.path.remote.ip() == peer
                    })
                    .map(|pair| pair.id)
                    .collect();
                for pair in refused {
                    self.fail_pair(pair);
                }
            }
            client::Event::Failed(failure) => {
                let code = match failure {
                    Failure::Refused { code, .. } => code,
                    Failure::Unauthorized => 401,
                    _ => 701,
                };
                if self.relay(id).is_some_and(|relay| relay.parting.is_some()) {
                    self.relay_given_back(id);
                } else {
                    self.relay_failed(now, id, code, &failure.to_string());
                }
            }
            client::Event::Closed => self.relay_given_back(id),
            _ => {}
        }
    }

    /// The allocation is given back.
    fn relay_given_back(&mut self, id: RelayId) {
        let parting = self.relay_mut(id).and_then(|relay| relay.parting.take());
        match parting {
            Some(Parting::Again) => self.replace_relay(id),
            Some(Parting::Reserve) | None => {
                if let Some(relay) = self.relay_mut(id) {
                    relay.relayed = client::Relayed::default();
                    relay.step = match parting {
                        Some(_) => RelayStep::Reserve,
                        None => RelayStep::Failed,
                    };
                }
                self.release_connection(ConnectionUser::Relay(id));
            }
        }
    }

    /// The server sent the client elsewhere (RFC 8489 section 10), or lost the allocation: a new one.
    fn relay_redirected(
        &mut self,
        now: Instant,
        id: RelayId,
        server: SocketAddr,
        domain: Option<String>,
    ) {
        self.drop_source(Source::Relay(id));
        let Some(relay) = self.relay_mut(id) else {
            return;
        };
        relay.relayed = client::Relayed::default();
        if server.is_ipv4() != relay.ip.is_ipv4() {
            let text = "the server sent the client to another address family";
            return self.relay_failed(now, id, 300, text);
        }
        relay.target = server;
        if let Some(domain) = domain {
            relay.server_name = Some(domain.into());
        }
        let is_udp = relay.protocol == Protocol::Udp;
        if let RelayStep::Running { client, began } = &mut relay.step {
            *began = now;
            if is_udp {
                let path = Path {
                    remote: server,
                    ..client.path()
                };
                return client.reconnect(now, path);
            }
        }
        self.release_connection(ConnectionUser::Relay(id));
        if !self.connect_relay(id) {
            self.relay_failed(now, id, 300, "no connection to the server's alternate");
        }
    }

    fn allocated(
        &mut self,
        now: Instant,
        id: RelayId,
        relayed: client::Relayed,
        mapped: SocketAddr,
    ) {
        let Some(relay) = self.relay_mut(id) else {
            return;
        };
        relay.relayed = relayed;
        let (local, server, protocol) = (relay.local, relay.server, relay.protocol);
        // Over UDP the server has told our reflexive address as well.
        if protocol == Protocol::Udp {
            self.reflexive_candidate(now, local, server, mapped);
        }
        for address in relayed.iter() {
            let kind = CandidateKind::Relayed;
            let mut candidate =
                self.describe(local, kind, address, Some(server), Some((id, protocol)));
            candidate.candidate.related = Some(self.hide(local, mapped));
            candidate.pairs = true;
            self.add_candidate(now, candidate);
        }
    }

    // ---- messages

    pub(super) fn relay_transmit(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        for relay in &mut self.relays {
            let RelayStep::Running { client, .. } = &mut relay.step else {
                continue;
            };
            if client.poll_timeout().is_some_and(|at| at <= now)
                && let Some(transmit) = client.poll_transmit(now, out)
            {
                return Some(transmit);
            }
            while let Some((peer, message)) = relay.waiting.pop() {
                if client.wrap(now, peer, &message, out).is_ok()
                    && let Some(segments) = out.segments()
                {
                    return Some(Transmit::new(client.path(), Ecn::NotEct, segments));
                }
            }
        }
        None
    }

    /// Takes a datagram that came from a server.
    pub(super) fn relay_receive(&mut self, now: Instant, from: Path, datagram: &[u8]) -> Relayed {
        let mut received = Relayed::NotMine;
        for relay in &mut self.relays {
            let (id, relayed) = (relay.id, relay.relayed);
            let Some(client) = relay.client_mut() else {
                continue;
            };
            match client.unwrap(now, from, datagram) {
                client::Received::Data { peer, range } => {
                    relay.doubted = false;
                    let Some(relayed) = relayed.for_peer(&peer.ip()) else {
                        return Relayed::Consumed;
                    };
                    return Relayed::Data {
                        source: Source::Relay(id),
                        path: Path::udp(relayed, peer),
                        payload: range,
                    };
                }
                client::Received::Consumed => {
                    received = Relayed::Consumed;
                    break;
                }
                client::Received::NotOurs => {}
            }
        }
        if matches!(received, Relayed::Consumed) {
            self.relay_events(now);
        }
        received
    }

    /// Sends one message to a peer through a relay, asking for the permission first if need be.
    pub(super) fn relay_send(
        &mut self,
        now: Instant,
        id: RelayId,
        peer: SocketAddr,
        payload: &[u8],
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let relay = self.relay_mut(id)?;
        let RelayStep::Running { client, .. } = &mut relay.step else {
            return None;
        };
        // Idempotent: a permission that is there stays.
        client.permit(now, peer).ok()?;
        // The permission's request leaves first; the message follows it, in order on most paths. One
        // that overtakes it is lost, and repeated.
        let first = client.poll_transmit(now, out);
        if let Some(first) = first {
            if relay.waiting.len() < MAX_WAITING {
                relay.waiting.push((peer, payload.into()));
            }
            return Some(first);
        }
        client.wrap(now, peer, payload, out).ok()?;
        Some(Transmit::new(client.path(), Ecn::NotEct, out.segments()?))
    }

    /// The path to the relay's server.
    pub(super) fn relay_path(&self, id: RelayId) -> Option<Path> {
        self.relay(id)?.client().map(Client::path)
    }

    /// Room around each datagram towards a peer: that of a channel, or enough to copy it into an
    /// indication.
    pub(super) fn relay_framing(&self, id: RelayId, peer: SocketAddr) -> Framing {
        let Some(client) = self.relay(id).and_then(Relay::client) else {
            return Framing::default();
        };
        client.framing(peer).unwrap_or(Framing {
            header: client.overhead(peer),
            trailer: 0,
        })
    }

    /// The pair that data takes goes through a relay: a channel makes its datagrams shorter.
    pub(super) fn relay_selected(&mut self, now: Instant, id: PairId) {
        let Some(pair) = self.pair(id) else { return };
        let (source, peer) = (pair.source, pair.path.remote);
        if let Source::Relay(relay) = source
            && let Some(client) = self.relay_mut(relay).and_then(Relay::client_mut)
        {
            // A refusal leaves indications.
            let _ = client.bind(now, peer);
        }
    }

    /// Wraps a run of application datagrams in place, or by way of a scratch buffer where in place is not
    /// possible.
    pub(super) fn relay_seal(
        &mut self,
        now: Instant,
        id: RelayId,
        peer: SocketAddr,
        ecn: Ecn,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let client = self.relay_mut(id).and_then(Relay::client_mut)?;
        if client.framing(peer).is_some() && client.seal(peer, out) {
            let transmit = Transmit::new(client.path(), ecn, out.segments()?);
            self.scratch = scratch;
            return Some(transmit);
        }
        let header = client.overhead(peer);
        let segments = out.segments()?;
        scratch.clear();
        scratch.extend_from_slice(out.as_slice());
        out.clear();
        out.set_framing(Framing::default());
        for datagram in scratch.chunks(segments.segment_size) {
            if let Some(payload) = datagram.get(header..) {
                // What does not fit the run is lost, as a datagram may be.
                let _ = client.wrap(now, peer, payload, out);
            }
        }
        let transmit = out
            .segments()
            .map(|segments| Transmit::new(client.path(), ecn, segments));
        self.scratch = scratch;
        transmit
    }
}
