//! Relayed candidates: one TURN client per server and local address, and what it wraps and unwraps.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use visavis_datagram::{Ecn, Framing, Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_turn::client::{self, Client, ClientConfig, Failure, Families};

use super::Agent;
use super::local::{ConnectionUser, LocalId, RelayId, Source};
use crate::candidate::CandidateKind;
use crate::config::ServerKind;
use crate::event::PairId;

/// Checks and data that wait for a permission, per relay.
const MAX_WAITING: usize = 16;

#[derive(Debug)]
pub(super) struct Relay {
    pub(super) id: RelayId,
    pub(super) local: LocalId,
    pub(super) server: u16,
    protocol: Protocol,
    step: RelayStep,
    /// The relayed addresses; none yet while the allocation is being made.
    relayed: client::Relayed,
    /// Given back only to be asked for anew.
    again: bool,
    /// Messages for peers whose permission is not there yet.
    waiting: Vec<(SocketAddr, Box<[u8]>)>,
}

#[derive(Debug)]
enum RelayStep {
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

impl Relay {
    /// Whether gathering still waits for it.
    pub(super) fn is_pending(&self) -> bool {
        match &self.step {
            RelayStep::Queued | RelayStep::Connecting => true,
            RelayStep::Running { .. } => !self.is_allocated(),
            RelayStep::Failed => false,
        }
    }

    fn is_allocated(&self) -> bool {
        self.relayed.iter().next().is_some()
    }

    fn client(&self) -> Option<&Client> {
        match &self.step {
            RelayStep::Running { client, .. } => Some(client),
            _ => None,
        }
    }

    fn client_mut(&mut self) -> Option<&mut Client> {
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
    fn relay(&self, id: RelayId) -> Option<&Relay> {
        self.relays.iter().find(|relay| relay.id == id)
    }

    fn relay_mut(&mut self, id: RelayId) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.id == id)
    }

    // ---- allocation

    pub(super) fn start_relay(&mut self, local: LocalId, server: u16) {
        if self.relays.len() + self.gatherers.len() >= self.config.limits.gatherers {
            self.stats.gatherers_over_limit += 1;
            return;
        }
        let Some(target) = self.servers.get(usize::from(server)) else {
            return;
        };
        let (protocol, address) = (target.protocol, target.address);
        let server_name = target.server_name.clone();
        let id = RelayId(self.next_id());
        let from = self.local(local).map(|local| local.ip());
        let step = match (protocol.is_stream() || protocol == Protocol::Dtls, from) {
            (true, Some(ip)) => {
                let from = SocketAddr::new(ip, 0);
                let user = ConnectionUser::Relay(id);
                match self.connect(user, protocol, from, address, server_name) {
                    Some(_) => RelayStep::Connecting,
                    None => RelayStep::Failed,
                }
            }
            _ => RelayStep::Queued,
        };
        self.relays.push(Relay {
            id,
            local,
            server,
            protocol,
            step,
            relayed: client::Relayed::default(),
            again: false,
            waiting: Vec::new(),
        });
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
        let remote = self.servers.get(usize::from(relay.server))?.address;
        let path = Path {
            protocol: relay.protocol,
            local,
            remote,
        };
        self.run_client(now, id, path);
        self.relay_transmit(now, out)
    }

    /// A connection to the server stands: its path, which the connection is known by from now on.
    pub(super) fn relay_connected(
        &mut self,
        now: Instant,
        id: RelayId,
        local: SocketAddr,
    ) -> Option<Path> {
        let relay = self.relay(id)?;
        let remote = self.servers.get(usize::from(relay.server))?.address;
        let path = Path {
            protocol: relay.protocol,
            local,
            remote,
        };
        self.run_client(now, id, path);
        Some(path)
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
                relay.again = true;
                if let RelayStep::Running { client, began } = &mut relay.step {
                    *began = now;
                    client.close(now);
                }
            }
        }
    }

    /// A new allocation in place of one that is over.
    fn replace_relay(&mut self, id: RelayId) {
        let Some(relay) = self.relay(id) else { return };
        let (local, server) = (relay.local, relay.server);
        self.release_connection(ConnectionUser::Relay(id));
        self.relays.retain(|relay| relay.id != id);
        self.start_relay(local, server);
    }

    /// Gives every allocation back.
    pub(super) fn close_relays(&mut self, now: Instant) {
        for relay in &mut self.relays {
            relay.waiting.clear();
            if let Some(client) = relay.client_mut() {
                client.close(now);
            }
        }
    }

    // ---- timers and events

    pub(super) fn relay_timeouts(&mut self, now: Instant) {
        let limit = self.config.timing.gathering;
        let mut late = Vec::new();
        for relay in &mut self.relays {
            let pending = !relay.is_allocated();
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
            self.relay_failed(now, id, 701, "the server did not answer");
        }
        self.relay_events(now);
    }

    pub(super) fn relay_timer(&self) -> Option<Instant> {
        let limit = self.config.timing.gathering;
        self.relays
            .iter()
            .filter_map(|relay| match &relay.step {
                RelayStep::Running { client, began } => {
                    let gathered = (!relay.is_allocated()).then_some(*began + limit);
                    match (client.poll_timeout(), gathered.filter(|_| !self.closed)) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    }
                }
                _ => None,
            })
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
            client::Event::NewPathNeeded { server, .. } => {
                // Redirected, or the allocation was lost: a new one, from the same address.
                self.drop_source(Source::Relay(id));
                let Some(relay) = self.relay_mut(id) else {
                    return;
                };
                relay.relayed = client::Relayed::default();
                if relay.protocol == Protocol::Udp
                    && let Some(client) = relay.client_mut()
                {
                    let path = Path {
                        remote: server,
                        ..client.path()
                    };
                    client.reconnect(now, path);
                    if let RelayStep::Running { began, .. } = &mut relay.step {
                        *began = now;
                    }
                } else {
                    self.relay_failed(now, id, 300, "the server sent the client elsewhere");
                }
            }
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
                self.relay_failed(now, id, code, &failure.to_string());
            }
            client::Event::Closed if self.relay(id).is_some_and(|relay| relay.again) => {
                self.replace_relay(id);
            }
            client::Event::Closed => {
                if let Some(relay) = self.relay_mut(id) {
                    relay.step = RelayStep::Failed;
                }
                self.release_connection(ConnectionUser::Relay(id));
            }
            _ => {}
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
            if client.path() != from {
                continue;
            }
            match client.unwrap(now, from, datagram) {
                client::Received::Data { peer, range } => {
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
