//! What arrives: whose datagram it is, and checks of the peer (RFC 8445 section 7.3). Responses to ours are in
//! `response`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::{Path, Protocol, Transmit, TransmitBuf};
use visavis_stun::attributes::{
    ErrorCode, GoogNetworkInfo, IceControlled, IceControlling, Nomination, Priority,
    UnknownAttributes, UseCandidate, Username, XorMappedAddress,
};
use visavis_stun::{
    AttributeType, Class, Message, MessageBuilder, Method, PacketKind, TransactionId, Verdict,
    classify,
};

use super::Agent;
use super::check::{LARGEST_MESSAGE, ride, write_direct};
use super::local::{CandidateId, ConnectionUser, Source};
use super::remote::RemoteId;
use crate::candidate::{Candidate, CandidateKind, Host, TcpType};
use crate::config::Role;
use crate::event::{PairId, Received};
use crate::piggyback::Piggyback;
use crate::stats::PairState;

/// Peer-reflexive candidates with one IP address at a time.
const MAX_REFLEXIVE_PER_IP: usize = 16;

/// Peer-reflexive candidates that an agent takes as fast as they come; later ones at an interval. Without the
/// latter, two NATs that map by port and filter nothing let each answer make a new address for ever.
const FREE_REFLEXIVE: u32 = 32;
const REFLEXIVE_INTERVAL: Duration = Duration::from_millis(250);

/// A response that waits to be sent.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) source: Source,
    pub(super) path: Path,
    pub(super) transaction: TransactionId,
    pub(super) kind: ResponseKind,
    pub(super) generation: u32,
    pub(super) pair: Option<PairId>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum ResponseKind {
    Success,
    RoleConflict,
    Unknown(UnknownAttributes),
}

/// What a valid check of the peer says.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerCheck {
    pub(super) source: Source,
    pub(super) path: Path,
    priority: u32,
    /// Its nomination; 0 is a plain USE-CANDIDATE.
    use_candidate: Option<u32>,
    cost: Option<u16>,
}

/// A check of the peer that came before its credentials.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) check: PeerCheck,
    pub(super) remote_ufrag: Box<str>,
}

/// Where a path of the owner leads to within the agent.
enum Entry {
    Source(Source),
    Unknown,
}

impl Agent {
    pub(super) fn receive(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &mut [u8],
        piggyback: &mut dyn Piggyback,
    ) -> Received {
        if self.closed {
            return Received::Consumed;
        }
        // The way of application data on the selected pair: no more than this.
        if classify(datagram) != PacketKind::Stun
            && let Some(pair) = self.data_pair(&from)
        {
            pair.counters.packets_received += 1;
            pair.counters.bytes_received += datagram.len() as u64;
            pair.counters.last_packet_received = Some(now);
            pair.last_heard = Some(now);
            let (id, unanswered) = (pair.id, pair.state == PairState::InProgress);
            self.heard_data(now);
            if unanswered {
                self.hasten(now, id);
            }
            return Received::Data {
                pair: id,
                payload: 0..datagram.len(),
            };
        }
        let received = match self.relay_receive(now, from, datagram) {
            super::relay::Relayed::NotMine => {
                let Entry::Source(source) = self.entry(&from) else {
                    self.stats.unknown_local += 1;
                    return Received::Consumed;
                };
                self.receive_from(now, source, from, datagram, 0, piggyback)
            }
            super::relay::Relayed::Consumed => Received::Consumed,
            super::relay::Relayed::Data {
                source,
                path,
                payload,
            } => {
                let start = payload.start;
                self.receive_from(now, source, path, &mut datagram[payload], start, piggyback)
            }
        };
        match received {
            Received::Data { .. } => {}
            Received::Consumed => self.settle(now),
        }
        received
    }

    /// The usable pair of a direct path that data arrives on, the selected one first.
    fn data_pair(&mut self, from: &Path) -> Option<&mut super::pair::Pair> {
        let direct = |pair: &super::pair::Pair| {
            pair.path == *from && pair.authenticated && matches!(pair.source, Source::Local(_))
        };
        let selected = self.selected;
        let index = self
            .pairs
            .iter()
            .position(|pair| Some(pair.id) == selected && direct(pair))
            .or_else(|| self.pairs.iter().position(direct))?;
        Some(&mut self.pairs[index])
    }

    fn entry(&self, from: &Path) -> Entry {
        if from.protocol == Protocol::Tcp {
            let connection = self.connections.iter().find(|c| c.path == Some(*from));
            return match connection.map(|connection| connection.user) {
                Some(ConnectionUser::Accepted(local) | ConnectionUser::Gatherer(local, _)) => {
                    Entry::Source(Source::Local(local))
                }
                Some(ConnectionUser::Pair(id)) => self
                    .pair(id)
                    .map_or(Entry::Unknown, |pair| Entry::Source(pair.source)),
                _ => Entry::Unknown,
            };
        }
        self.locals
            .iter()
            .find(|l| l.address.address == from.local && l.address.protocol == from.protocol)
            .map_or(Entry::Unknown, |local| {
                Entry::Source(Source::Local(local.id))
            })
    }

    /// A datagram as the peer sent it, relays taken off.
    fn receive_from(
        &mut self,
        now: Instant,
        source: Source,
        path: Path,
        datagram: &mut [u8],
        start: usize,
        piggyback: &mut dyn Piggyback,
    ) -> Received {
        if classify(datagram) != PacketKind::Stun {
            return self.receive_data(now, source, path, datagram.len(), start);
        }
        let Ok(message) = Message::parse(datagram) else {
            self.stats.malformed += 1;
            return Received::Consumed;
        };
        if message.method() != Method::BINDING {
            self.stats.malformed += 1;
            return Received::Consumed;
        }
        if let Source::Local(local) = source
            && message.class().is_response()
            && self.gather_response(now, local, path.remote, &message)
        {
            return Received::Consumed;
        }
        if matches!(source, Source::Local(_)) && !self.direct_allowed() {
            self.stats.unknown_local += 1;
            return Received::Consumed;
        }
        // RFC 8445 section 7.1: FINGERPRINT is in every ICE message.
        if message.check_fingerprint() != Verdict::Valid {
            self.stats.malformed += 1;
            return Received::Consumed;
        }
        match message.class() {
            Class::Request => self.receive_request(now, source, path, &message, piggyback),
            Class::Success | Class::Error => {
                self.receive_response(now, source, path, &message, piggyback)
            }
            Class::Indication => {
                // A keep-alive (RFC 8445 section 11): nothing to do, nothing proven.
            }
        }
        Received::Consumed
    }

    fn receive_data(
        &mut self,
        now: Instant,
        source: Source,
        path: Path,
        len: usize,
        start: usize,
    ) -> Received {
        let pair = self
            .pairs
            .iter_mut()
            .find(|pair| pair.source == source && pair.path == path && pair.authenticated);
        let Some(pair) = pair else {
            self.stats.unvalidated_data += 1;
            return Received::Consumed;
        };
        pair.counters.packets_received += 1;
        pair.counters.bytes_received += len as u64;
        pair.counters.last_packet_received = Some(now);
        pair.last_heard = Some(now);
        let (id, unanswered) = (pair.id, pair.state == PairState::InProgress);
        self.heard_data(now);
        if unanswered {
            self.hasten(now, id);
        }
        Received::Data {
            pair: id,
            payload: start..start + len,
        }
    }

    // ---- requests

    fn receive_request(
        &mut self,
        now: Instant,
        source: Source,
        path: Path,
        message: &Message<'_>,
        piggyback: &mut dyn Piggyback,
    ) {
        let Some(Username(username)) = message.get::<Username<'_>>() else {
            self.stats.unauthenticated += 1;
            return;
        };
        // The fragment before the colon is ours (RFC 8445 section 7.2.2).
        let (local_ufrag, remote_ufrag) = username.split_once(':').unwrap_or((username, ""));
        let current = *self.session.local.ufrag == *local_ufrag;
        let session = if current {
            &self.session
        } else {
            match self.old.as_deref() {
                Some(old) if *old.local.ufrag == *local_ufrag => old,
                _ => {
                    if self
                        .former_ufrags
                        .iter()
                        .any(|former| **former == *local_ufrag)
                    {
                        self.stats.stale_session += 1;
                    } else {
                        self.stats.unauthenticated += 1;
                    }
                    return;
                }
            }
        };
        let generation = session.generation;
        // Silence towards whoever lacks the password: an error response would only tell a stranger
        // that an agent is here.
        if message.check_integrity(&session.local_key) != Verdict::Valid {
            self.stats.unauthenticated += 1;
            return;
        }
        if message
            .unknown_required(AttributeType::is_known)
            .next()
            .is_some()
        {
            let unknown = message.unknown_required(AttributeType::is_known).collect();
            self.respond(
                source,
                path,
                message.transaction(),
                ResponseKind::Unknown(unknown),
                generation,
                None,
            );
            return;
        }
        if self.role_conflict(message) {
            self.respond(
                source,
                path,
                message.transaction(),
                ResponseKind::RoleConflict,
                generation,
                None,
            );
            return;
        }
        let network = message.get::<GoogNetworkInfo>();
        let check = PeerCheck {
            source,
            path,
            priority: message
                .get::<Priority>()
                .map_or(1, |priority| priority.0.max(1)),
            use_candidate: message
                .get::<UseCandidate>()
                .map(|_| {
                    message
                        .get::<Nomination>()
                        .map_or(0, |nomination| nomination.0)
                })
                .or_else(|| message.get::<Nomination>().map(|nomination| nomination.0)),
            cost: network.map(|network| network.network_cost.min(999)),
        };
        if !current {
            // A session that was restarted away still answers, so that its data flows until the new
            // one is ready; it is not checked any more.
            let pair = if self.is_of_peer(remote_ufrag) {
                // The peer has begun its new session and had not our answer when it sent this. Chromium goes on so, and
                // sends its media there, for as long as the path lives.
                let until = now + self.config.timing.old_session;
                self.old_until = self.old_until.map(|_| until);
                self.take_check(now, &check)
            } else {
                self.old_pair(generation, source, &path)
            };
            self.count_request(now, pair);
            self.respond(
                source,
                path,
                message.transaction(),
                ResponseKind::Success,
                generation,
                pair,
            );
            return;
        }
        show(now, false, message, piggyback);
        if self.session.remote.is_none() {
            self.respond(
                source,
                path,
                message.transaction(),
                ResponseKind::Success,
                generation,
                None,
            );
            let known = self
                .early
                .iter_mut()
                .find(|known| known.check.source == source && known.check.path == path);
            if let Some(known) = known {
                let use_candidate = known.check.use_candidate.max(check.use_candidate);
                known.check = PeerCheck {
                    use_candidate,
                    ..check
                };
            } else if self.early.len() < self.config.limits.early_checks {
                self.early.push(Early {
                    check,
                    remote_ufrag: remote_ufrag.into(),
                });
            } else {
                self.stats.early_checks_over_limit += 1;
            }
            return;
        }
        let pair = self.take_check(now, &check);
        self.count_request(now, pair);
        self.respond(
            source,
            path,
            message.transaction(),
            ResponseKind::Success,
            generation,
            pair,
        );
    }

    /// Whether a user fragment is that of the peer's present session.
    fn is_of_peer(&self, ufrag: &str) -> bool {
        let remote = self.session.remote.as_ref();
        remote.is_some_and(|remote| *remote.parameters.credentials.ufrag == *ufrag)
    }

    fn old_pair(&self, generation: u32, source: Source, path: &Path) -> Option<PairId> {
        self.pairs
            .iter()
            .find(|pair| {
                pair.generation == generation && pair.source == source && pair.path == *path
            })
            .map(|pair| pair.id)
    }

    fn count_request(&mut self, now: Instant, pair: Option<PairId>) {
        if let Some(pair) = pair.and_then(|id| self.pair_mut(id)) {
            pair.counters.requests_received += 1;
            pair.last_heard = Some(now);
        }
    }

    /// What a valid check of the peer means (RFC 8445 section 7.3.1.3 to 7.3.1.5).
    pub(super) fn take_check(&mut self, now: Instant, check: &PeerCheck) -> Option<PairId> {
        let remote = self.remote_of_check(now, check)?;
        let local = self.base_candidate(check.source, check.path.remote)?;
        let id = match self.find_pair(check.source, &check.path) {
            Some(id) => id,
            None => self.insert_pair(now, local, remote, check.source, check.path)?,
        };
        let lite = self.config.lite;
        let pair = self.pair_mut(id)?;
        pair.authenticated = true;
        pair.last_heard = Some(now);
        if lite {
            // A lite agent has no check of its own: the peer's is proof enough (section 7.3.2).
            pair.state = PairState::Succeeded;
            pair.last_response = Some(now);
        }
        let new_path = pair.state != PairState::Succeeded;
        match pair.state {
            PairState::Succeeded => {
                if pair.is_suspect() && !lite {
                    self.trigger(id);
                }
            }
            PairState::InProgress => {
                // The check in progress may have met a closed filter: once more, at once. Its
                // response still counts if it comes.
                if pair.connecting.is_none() {
                    self.trigger(id);
                }
            }
            PairState::Waiting | PairState::Frozen | PairState::Failed => {
                pair.state = PairState::Waiting;
                self.trigger(id);
            }
        }
        if let Some(nomination) = check.use_candidate
            && self.role == Role::Controlled
        {
            self.peer_nominated(id, nomination);
        }
        if new_path && self.selected.is_some() {
            // The peer tries another path: perhaps the present one is gone.
            self.doubt_selected(now);
        }
        Some(id)
    }

    /// The remote candidate that a check came from; a new peer-reflexive one if need be.
    fn remote_of_check(&mut self, now: Instant, check: &PeerCheck) -> Option<RemoteId> {
        let generation = self.session.generation;
        let address = check.path.remote;
        let protocol = check.path.protocol;
        let known = self.remotes.iter_mut().find(|remote| {
            remote.generation == generation
                && remote.address == Some(address)
                && remote.candidate.protocol == protocol
        });
        if let Some(remote) = known {
            let id = remote.id;
            if let Some(cost) = check.cost
                && remote.cost != cost
            {
                remote.cost = cost;
                self.reprioritise();
            }
            return Some(id);
        }
        let candidate = Candidate {
            // Different from any other (RFC 8445 section 7.3.1.3).
            foundation: format!("p{}", self.next_id()).into(),
            component: 1,
            protocol,
            priority: check.priority,
            host: Host::Ip(address.ip()),
            port: address.port(),
            kind: CandidateKind::PeerReflexive,
            related: None,
            tcp_type: (protocol == Protocol::Tcp).then_some(TcpType::Active),
            generation: None,
            ufrag: None,
            network_id: None,
            network_cost: check.cost,
            extensions: Vec::new(),
        };
        // A NAT that gives each destination another port makes a new address of every answer to a new
        // address; nobody needs the early ones.
        let of_ip = |remote: &super::remote::Remote| {
            remote.generation == generation
                && remote.candidate.kind == CandidateKind::PeerReflexive
                && remote
                    .address
                    .is_some_and(|known| known.ip() == address.ip())
        };
        if self.remotes.iter().filter(|remote| of_ip(remote)).count() >= MAX_REFLEXIVE_PER_IP
            && !self.forget_reflexive(generation, Some(address.ip()))
        {
            self.stats.candidates_over_limit += 1;
            return None;
        }
        // No pairs with other local candidates: only the one that it was seen on is known to work.
        if self
            .remotes
            .iter()
            .filter(|r| r.generation == generation)
            .count()
            >= self.config.limits.remote_candidates
            && !self.forget_reflexive(generation, None)
        {
            self.stats.candidates_over_limit += 1;
            return None;
        }
        if self.reflexive_made >= FREE_REFLEXIVE
            && self
                .reflexive_at
                .is_some_and(|last| now.saturating_duration_since(last) < REFLEXIVE_INTERVAL)
        {
            self.stats.candidates_over_limit += 1;
            return None;
        }
        self.reflexive_made = self.reflexive_made.saturating_add(1);
        self.reflexive_at = Some(now);
        let id = RemoteId(self.next_id());
        let foundation = self
            .remotes
            .iter()
            .map(|r| r.foundation + 1)
            .max()
            .unwrap_or(0);
        self.remotes.push(super::remote::Remote {
            id,
            generation,
            cost: check.cost.unwrap_or(0),
            candidate,
            address: Some(address),
            foundation,
        });
        Some(id)
    }

    /// Makes room: the oldest peer-reflexive candidate without a usable pair goes. An authenticated
    /// peer whose NAT gives it ever new ports does not fill the table for good.
    fn forget_reflexive(&mut self, generation: u32, ip: Option<IpAddr>) -> bool {
        let useless = self.remotes.iter().position(|remote| {
            remote.generation == generation
                && remote.candidate.kind == CandidateKind::PeerReflexive
                && (ip.is_none() || remote.address.map(|address| address.ip()) == ip)
                && !self
                    .pairs
                    .iter()
                    .any(|pair| pair.remote == remote.id && pair.is_usable())
        });
        let Some(index) = useless else { return false };
        let id = self.remotes.remove(index).id;
        let pairs: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|p| p.remote == id)
            .map(|p| p.id)
            .collect();
        for pair in pairs {
            self.drop_pair(pair);
        }
        true
    }

    /// The candidate that is the base of a source.
    fn base_candidate(&self, source: Source, peer: SocketAddr) -> Option<CandidateId> {
        self.candidates
            .iter()
            .find(|candidate| {
                candidate.source == source
                    && candidate.address == candidate.base
                    && candidate.address.is_ipv4() == peer.is_ipv4()
                    && matches!(
                        candidate.candidate.kind,
                        CandidateKind::Host | CandidateKind::Relayed
                    )
            })
            .map(|candidate| candidate.id)
    }

    /// Compares roles (RFC 8445 section 7.3.1.1). True if the request is to be refused with 487.
    fn role_conflict(&mut self, message: &Message<'_>) -> bool {
        let (theirs, ours_is_larger) = match self.role {
            Role::Controlling => match message.get::<IceControlling>() {
                Some(theirs) => (theirs.0, self.tie_breaker >= theirs.0),
                None => return false,
            },
            Role::Controlled => match message.get::<IceControlled>() {
                Some(theirs) => (theirs.0, self.tie_breaker >= theirs.0),
                None => return false,
            },
        };
        let _ = theirs;
        self.stats.role_conflicts += 1;
        match (self.role, ours_is_larger) {
            (Role::Controlling, true) | (Role::Controlled, false) => true,
            (Role::Controlling, false) => {
                self.switch_role(Role::Controlled);
                false
            }
            (Role::Controlled, true) => {
                self.switch_role(Role::Controlling);
                false
            }
        }
    }

    // ---- responses to the peer

    fn respond(
        &mut self,
        source: Source,
        path: Path,
        transaction: TransactionId,
        kind: ResponseKind,
        generation: u32,
        pair: Option<PairId>,
    ) {
        if self.responses.len() >= self.config.limits.responses {
            self.stats.responses_over_limit += 1;
            return;
        }
        self.responses.push_back(Response {
            source,
            path,
            transaction,
            kind,
            generation,
            pair,
        });
    }

    /// Writes the first response that waits.
    pub(super) fn write_response(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        while let Some(response) = self.responses.pop_front() {
            let current = response.generation == self.session.generation;
            let session = if current {
                Some(&self.session)
            } else {
                self.old
                    .as_deref()
                    .filter(|old| old.generation == response.generation)
            };
            let Some(key) = session.map(|session| &session.local_key) else {
                continue;
            };
            let mapped = response.path.remote;
            let mut build = |slot: &mut [u8]| {
                let room = slot.len();
                let class = match response.kind {
                    ResponseKind::Success => Class::Success,
                    _ => Class::Error,
                };
                let mut builder =
                    MessageBuilder::new(slot, class, Method::BINDING, response.transaction);
                match response.kind {
                    ResponseKind::Success => {
                        builder.add(&XorMappedAddress(mapped));
                        if current {
                            ride(&mut builder, room, |attributes| {
                                piggyback.outgoing(now, true, attributes);
                            });
                        }
                    }
                    ResponseKind::RoleConflict => {
                        builder.add(&ErrorCode::ROLE_CONFLICT);
                    }
                    ResponseKind::Unknown(kinds) => {
                        builder.add(&ErrorCode::UNKNOWN_ATTRIBUTE).add(&kinds);
                    }
                }
                builder.integrity(key).fingerprint().finish().ok()
            };
            let sent = match response.source {
                Source::Local(_) => write_direct(response.path, out, build),
                Source::Relay(relay) => {
                    let mut message = [0; LARGEST_MESSAGE];
                    build(&mut message).and_then(|len| {
                        self.relay_send(now, relay, response.path.remote, &message[..len], out)
                    })
                }
            };
            if sent.is_some() {
                if let Some(pair) = response.pair.and_then(|id| self.pair_mut(id)) {
                    pair.counters.responses_sent += 1;
                }
                return sent;
            }
        }
        None
    }
}

/// Shows the attributes that ICE does not know to what rides along.
pub(super) fn show(
    now: Instant,
    response: bool,
    message: &Message<'_>,
    piggyback: &mut dyn Piggyback,
) {
    for attribute in message.attributes() {
        let mine = matches!(
            attribute.kind,
            AttributeType::USERNAME
                | AttributeType::PRIORITY
                | AttributeType::USE_CANDIDATE
                | AttributeType::ICE_CONTROLLED
                | AttributeType::ICE_CONTROLLING
                | AttributeType::NOMINATION
                | AttributeType::GOOG_NETWORK_INFO
                | AttributeType::XOR_MAPPED_ADDRESS
        );
        if !mine {
            piggyback.incoming(now, response, attribute.kind.0, attribute.value);
        }
    }
    piggyback.arrived(now, response);
}
