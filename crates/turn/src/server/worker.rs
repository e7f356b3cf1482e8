//! The server itself: its doors.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use visavis_datagram::{Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_stun::attributes::{
    ConnectionId, ErrorCode, MobilityTicket, Nonce, PasswordAlgorithms, Realm, ReservationToken,
    Software, ThirdPartyAuthorization, UnknownAttributes,
};
use visavis_stun::{
    AttributeType, Class, Message, MessageBuilder, Method, SecurityFeatures, Verdict,
};

use super::allocate::Reservation;
use super::allocation::{Allocation, AllocationId};
use super::auth::{Known, OFFERED, Parked, Refusal, Signer, User};
use super::config::{BURST, ServerConfig};
use super::event::{AllocationInfo, Command, EndReason, Event, ServerStats};
use super::limiter::SourceLimiter;
use super::mobility::{Ticket, worker_of_ticket};
use super::nonce::Nonces;
use super::ports::Ports;
use super::quota::{Meter, Owners};
use super::relay::Forward;
use super::reply::Replies;
use super::table::Table;
use super::tcp::{Connections, worker_of_connection};
use crate::hash::Seed;

/// The shortest request without credentials that is answered over UDP, in bytes.
const SHORTEST_CHALLENGED: usize = 28;

/// How many events wait for the driver; beyond that the oldest is dropped.
const MAX_WAITING_EVENTS: usize = 4096;

/// One worker of a STUN and TURN server. See the [module](crate::server).
#[derive(Debug)]
pub struct Server {
    pub(super) config: ServerConfig,
    pub(super) random: Random,
    pub(super) nonces: Nonces,
    /// A moment, and its time in seconds since 1970.
    clock: (Instant, u64),
    pub(super) table: Table,
    pub(super) by_path: HashMap<Path, AllocationId, Seed>,
    /// The client that sent last: bursts come from one.
    pub(super) last: Option<(Path, AllocationId)>,
    /// By configured relay address.
    pub(super) ports: Vec<Ports>,
    pub(super) relay_ips: Vec<(IpAddr, IpAddr)>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) tickets: HashMap<Ticket, AllocationId, Seed>,
    pub(super) connections: Connections,
    pub(super) users: Owners<(usize, Box<str>)>,
    pub(super) sources: Owners<IpAddr>,
    pub(super) total: Meter,
    pub(super) challenge_limiter: SourceLimiter,
    pub(super) binding_limiter: SourceLimiter,
    /// Names by USERHASH, per realm; none where it is switched off.
    pub(super) user_hashes: Vec<BTreeMap<[u8; 32], Box<str>>>,
    pub(super) known: Vec<Known>,
    pub(super) parked: Vec<Parked>,
    /// When each allocation expires, or did before it was refreshed.
    pub(super) expiries: BinaryHeap<Reverse<(Instant, AllocationId)>>,
    pub(super) replies: Replies,
    pub(super) commands: VecDeque<Command>,
    events: VecDeque<Event>,
    pub(super) draining: bool,
    /// The realm of the host that the client at hand came to.
    pub(super) realm_of_host: usize,
    pub(super) stats: ServerStats,
}

impl Server {
    /// A worker. `unix_time` is the present in seconds since 1970, for time-limited credentials.
    pub fn new(now: Instant, unix_time: u64, config: ServerConfig, mut random: Random) -> Self {
        let ports = || Ports::new(&config.ports);
        let nonce_key = config.nonce_key.unwrap_or_else(|| random.bytes());
        Self {
            nonces: Nonces::new(now, config.nonce_lifetime, &nonce_key),
            clock: (now, unix_time),
            table: Table::default(),
            by_path: HashMap::with_hasher(Seed::new(&mut random)),
            last: None,
            ports: config.relays.iter().map(|_| ports()).collect(),
            relay_ips: relay_ips(&config),
            reservations: Vec::new(),
            tickets: HashMap::with_hasher(Seed::new(&mut random)),
            connections: Connections::new(config.worker, &mut random),
            users: Owners::new(Seed::new(&mut random)),
            sources: Owners::new(Seed::new(&mut random)),
            total: Meter::new(now, &config.limits.total_rate),
            challenge_limiter: SourceLimiter::new(now, &mut random),
            binding_limiter: SourceLimiter::new(now, &mut random),
            user_hashes: user_hashes(&config),
            known: Vec::new(),
            parked: Vec::new(),
            expiries: BinaryHeap::new(),
            replies: Replies::default(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            draining: false,
            realm_of_host: 0,
            stats: ServerStats::default(),
            random,
            config,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Takes another configuration. Living allocations go on: with the relay addresses that they have, which
    /// therefore may not change, nor may the port range (both stay as they were), and with the realm names that they
    /// were made with.
    pub fn reconfigure(&mut self, config: ServerConfig) {
        let relays = std::mem::take(&mut self.config.relays);
        let old_realms: Vec<_> = self.config.realms.drain(..).map(|r| r.name).collect();
        let (ports, all_ports) = (self.config.ports.clone(), self.config.all_ports.clone());
        let (worker, nonce_key) = (self.config.worker, self.config.nonce_key);
        let (pool, quota) = (self.config.pool.take(), self.config.quota.take());
        self.config = ServerConfig {
            relays,
            ports,
            all_ports,
            worker,
            nonce_key,
            pool,
            quota,
            ..config
        };
        self.nonces.set_lifetime(self.config.nonce_lifetime);
        self.known.clear();
        self.user_hashes = user_hashes(&self.config);
        let position = |name: &str| self.config.realms.iter().position(|r| r.name == name);
        for allocation in self.table.iter_mut() {
            // A realm that is gone matches no request: its allocations end when they expire.
            let name = old_realms.get(allocation.realm).map(String::as_str);
            allocation.realm = name.and_then(position).unwrap_or(usize::MAX);
        }
    }

    /// Sets the wall clock, which may have been corrected.
    pub fn set_clock(&mut self, now: Instant, unix_time: u64) {
        self.clock = (now, unix_time);
    }

    /// Whether to make no new allocations: clients get 300 with an alternate server, or 508.
    pub fn drain(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// Takes a datagram of a client (over streams: one frame). What is to be relayed is told; answers wait in
    /// [`poll_transmit`](Self::poll_transmit).
    pub fn handle_client(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &mut [u8],
    ) -> Option<Forward> {
        match datagram.first() {
            Some(0x40..=0x7f) => self.relay_channel_data(now, from, datagram),
            Some(0..=3) => self.handle_message(now, from, datagram),
            _ => {
                self.stats.malformed += 1;
                None
            }
        }
    }

    /// [`handle_client`](Self::handle_client) for one who came to `host` by its name (the server name of TLS, RFC 6066 section 3):
    /// the realm of that host is shown to it, where ORIGIN names none.
    pub fn handle_client_of(
        &mut self,
        now: Instant,
        from: Path,
        host: &str,
        datagram: &mut [u8],
    ) -> Option<Forward> {
        let realms = &self.config.realms;
        let is_named =
            |realm: &super::credentials::Realm| realm.hosts.iter().any(|name| name == host);
        self.realm_of_host = realms.iter().position(is_named).unwrap_or(0);
        let forward = self.handle_client(now, from, datagram);
        self.realm_of_host = 0;
        forward
    }

    /// The worker that a request belongs to, if it speaks of something that one of them gave: a mobility ticket, a
    /// reserved port, a TCP connection to a peer. A new 5-tuple may have led it to another.
    pub fn home_of(datagram: &[u8]) -> Option<u8> {
        // The types of Allocate, Refresh and ConnectionBind requests: nearly everything is told apart here.
        if !matches!(datagram, [0, 0x03 | 0x04 | 0x0b, ..]) {
            return None;
        }
        let message = Message::parse(datagram).ok()?;
        match message.method() {
            Method::ALLOCATE => message.get::<ReservationToken>().map(|token| token.0[0]),
            Method::REFRESH => worker_of_ticket(message.get::<MobilityTicket<'_>>()?.0),
            _ => message
                .get::<ConnectionId>()
                .map(|id| worker_of_connection(id.0)),
        }
    }

    /// Whether a client has an allocation, or one on its way.
    pub fn has_client(&self, path: Path) -> bool {
        self.by_path.contains_key(&path)
    }

    /// A client's stream ended. Its allocation ends with it, unless it has a ticket to come back with.
    pub fn client_gone(&mut self, now: Instant, path: Path) {
        if let Some(&id) = self.by_path.get(&path)
            && self
                .table
                .get(id)
                .is_some_and(|allocation| allocation.mobility.is_none())
        {
            self.remove(now, id, EndReason::ClientGone);
        }
        self.connections.client_gone(path, &mut self.commands);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&Reverse((at, id))) = self.expiries.peek() {
            if at > now {
                break;
            }
            self.expiries.pop();
            match self.table.get(id).map(|allocation| allocation.expires) {
                Some(expires) if expires > now => self.expiries.push(Reverse((expires, id))),
                Some(_) => self.remove(now, id, EndReason::Expired),
                None => {}
            }
        }
        self.expire_reservations(now);
        self.expire_connections(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let allocations = self.expiries.peek().map(|Reverse((at, _))| *at);
        let reservations = self.reservations.iter().map(|r| r.expires).min();
        let connections = self.connections.deadline();
        [allocations, reservations, connections]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next answer, written to `out`, which has to be clear.
    pub fn poll_transmit(&mut self, _now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        self.replies.pop(out)
    }

    /// Whether answers wait in [`poll_transmit`](Self::poll_transmit).
    pub fn has_transmits(&self) -> bool {
        !self.replies.is_empty()
    }

    /// What the driver has to do next.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What the worker counted.
    pub fn stats(&self) -> ServerStats {
        self.stats
    }

    /// How many allocations there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no allocation.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// How many users have allocations.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// How many relay ports are free, over all relay addresses.
    pub fn free_ports(&self) -> usize {
        self.ports.iter().map(Ports::free).sum()
    }

    /// Every allocation, for an operator.
    pub fn allocations(&self, now: Instant) -> impl Iterator<Item = AllocationInfo> {
        self.table
            .iter()
            .map(move |allocation| self.info(now, allocation))
    }

    /// One allocation.
    pub fn allocation(&self, now: Instant, id: AllocationId) -> Option<AllocationInfo> {
        Some(self.info(now, self.table.get(id)?))
    }

    /// Ends an allocation. False if there is none.
    pub fn end(&mut self, now: Instant, id: AllocationId) -> bool {
        let exists = self.table.get(id).is_some();
        self.remove(now, id, EndReason::Ended);
        exists
    }

    fn handle_message(&mut self, now: Instant, from: Path, datagram: &mut [u8]) -> Option<Forward> {
        let parsed = if self.config.classic {
            Message::parse_classic(datagram)
        } else {
            Message::parse(datagram)
        };
        let Ok(message) = parsed else {
            self.stats.malformed += 1;
            return None;
        };
        if message.check_fingerprint() == Verdict::Invalid {
            self.stats.bad_fingerprints += 1;
            return None;
        }
        match (message.class(), message.method()) {
            (Class::Indication, Method::SEND) if !message.is_classic() => {
                self.relay_send(now, from, &message)
            }
            (Class::Request, Method::BINDING) => {
                self.stats.requests += 1;
                self.handle_binding(now, from, &message);
                None
            }
            (Class::Request, _) if !message.is_classic() => {
                self.stats.requests += 1;
                self.handle_request(now, from, &message);
                None
            }
            // Binding indications keep a NAT's mapping alive; nobody asked for responses.
            _ => None,
        }
    }

    fn handle_request(&mut self, now: Instant, from: Path, message: &Message<'_>) {
        let method = message.method();
        if !matches!(
            method,
            Method::ALLOCATE
                | Method::REFRESH
                | Method::CREATE_PERMISSION
                | Method::CHANNEL_BIND
                | Method::CONNECT
                | Method::CONNECTION_BIND
        ) {
            return self.refuse(from, message, ErrorCode::BAD_REQUEST, None);
        }
        // Nobody was told that tokens are taken (RFC 7635 section 7).
        let takes_tokens = self.config.oauth_server.is_some()
            && self
                .config
                .realms
                .iter()
                .any(|realm| realm.credentials.takes_tokens());
        if message.has(AttributeType::ACCESS_TOKEN) && !takes_tokens {
            if self.may_challenge(now, from) {
                self.stats.errors += 1;
                let unknown: UnknownAttributes =
                    [AttributeType::ACCESS_TOKEN].into_iter().collect();
                let code = ErrorCode {
                    reason: "",
                    ..ErrorCode::UNKNOWN_ATTRIBUTE
                };
                self.answer(from, message, Class::Error, None, |builder| {
                    builder.add(&code).add(&unknown);
                });
            }
            return;
        }
        let user = match self.authenticate(now, from, message) {
            Ok(user) => user,
            Err(Refusal::Challenge(code, realm)) => {
                return self.challenge(now, from, message, code, realm);
            }
            Err(Refusal::Plain(code)) => return self.refuse_plainly(now, from, message, code),
            Err(Refusal::Wait) => return,
        };
        let dont_fragment = self.config.dont_fragment;
        let understood = |kind: AttributeType| {
            kind.is_known() && (dont_fragment || kind != AttributeType::DONT_FRAGMENT)
        };
        let unknown: UnknownAttributes = message.unknown_required(understood).collect();
        if unknown.types().next().is_some() {
            self.stats.errors += 1;
            return self.answer(from, message, Class::Error, Some(&user.signer), |builder| {
                builder.add(&ErrorCode::UNKNOWN_ATTRIBUTE).add(&unknown);
            });
        }
        // Whoever asks for something else from the new address has arrived there. (Section 3.2.2 of RFC 8016 speaks of data
        // alone; coturn's client waits for data before it sends any.)
        let arrived = !message.has(AttributeType::MOBILITY_TICKET)
            && self.allocation_of(from).is_some_and(|allocation| {
                Self::is_move(allocation, from) && allocation.username == user.name
            });
        if arrived {
            self.complete_move(now, from);
        }
        let result = match method {
            Method::ALLOCATE => self.handle_allocate(now, from, message, &user),
            Method::REFRESH => self.handle_refresh(now, from, message, &user),
            Method::CREATE_PERMISSION => self.handle_permission(now, from, message, &user),
            Method::CHANNEL_BIND => self.handle_channel_bind(now, from, message, &user),
            Method::CONNECT => self.handle_connect(now, from, message, &user),
            _ => self.handle_connection_bind(now, from, message, &user),
        };
        if let Err(code) = result {
            self.refuse(from, message, code, Some(&user.signer));
        }
    }

    /// The allocation of a request's 5-tuple, if it is the user's: 437 and 441 otherwise.
    pub(super) fn own_allocation(
        &mut self,
        from: Path,
        user: &User,
    ) -> Result<&mut Allocation, ErrorCode<'static>> {
        let id = self.by_path.get(&from).copied();
        let allocation = id.and_then(|id| self.table.get_mut(id));
        let allocation = allocation.filter(|allocation| !allocation.opening);
        let allocation = allocation.ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        if allocation.username != user.name || allocation.realm != user.realm {
            return Err(ErrorCode::WRONG_CREDENTIALS);
        }
        Ok(allocation)
    }

    pub(super) fn allocation_of(&self, path: Path) -> Option<&Allocation> {
        self.table.get(*self.by_path.get(&path)?)
    }

    /// Writes a response: what `add` adds, then what every response has.
    pub(super) fn answer(
        &mut self,
        to: Path,
        request: &Message<'_>,
        class: Class,
        signer: Option<&Signer>,
        add: impl FnOnce(&mut MessageBuilder<'_>),
    ) {
        let software = self.config.software.as_deref();
        // Only to whom the request really came from: it makes the answer longer.
        let software = software.filter(|_| signer.is_some());
        let pushed = self
            .replies
            .push(self.config.limits.waiting_reply_bytes, to, |buffer| {
                let mut builder = MessageBuilder::response(buffer, class, request);
                add(&mut builder);
                if let Some(software) = software {
                    builder.add(&Software(software));
                }
                if let Some(signer) = signer {
                    signer.sign(&mut builder);
                }
                if request.has_fingerprint() {
                    builder.fingerprint();
                }
                builder.finish()
            });
        if !pushed {
            self.stats.replies_dropped += 1;
        }
    }

    pub(super) fn succeed(
        &mut self,
        to: Path,
        request: &Message<'_>,
        signer: &Signer,
        add: impl FnOnce(&mut MessageBuilder<'_>),
    ) {
        self.stats.successes += 1;
        self.answer(to, request, Class::Success, Some(signer), add);
    }

    pub(super) fn refuse(
        &mut self,
        to: Path,
        request: &Message<'_>,
        code: ErrorCode<'static>,
        signer: Option<&Signer>,
    ) {
        self.stats.errors += 1;
        // Words for people cost bytes that strangers could aim at somebody.
        let reason = if signer.is_some() { code.reason } else { "" };
        self.answer(to, request, Class::Error, signer, |builder| {
            builder.add(&ErrorCode { reason, ..code });
        });
    }

    /// An error to somebody who may not be who the source address says.
    fn refuse_plainly(
        &mut self,
        now: Instant,
        to: Path,
        request: &Message<'_>,
        code: ErrorCode<'static>,
    ) {
        if self.may_challenge(now, to) {
            self.refuse(to, request, code, None);
        }
    }

    /// 401 and 438, with a realm and a nonce. Never more than 2.4 times the request over UDP, if the realm's name is
    /// short: the offer of algorithms is left out where it would make it longer.
    fn challenge(
        &mut self,
        now: Instant,
        to: Path,
        request: &Message<'_>,
        code: ErrorCode<'static>,
        realm: usize,
    ) {
        // The least that a client asks for is an Allocate of 28 bytes. What is shorter can only be meant for somebody else.
        if to.protocol == Protocol::Udp && request.as_bytes().len() < SHORTEST_CHALLENGED {
            self.stats.too_short += 1;
            return;
        }
        if !self.may_challenge(now, to) {
            return;
        }
        self.stats.errors += 1;
        self.stats.challenges += 1;
        let name = self.config.realms[realm].name.clone();
        let third_party = self
            .config
            .oauth_server
            .clone()
            .filter(|_| self.config.realms[realm].credentials.takes_tokens());
        let third_party = third_party.as_deref().map(ThirdPartyAuthorization);
        // Header, ERROR-CODE, NONCE with its cookie, REALM, FINGERPRINT.
        let length = 20 + 8 + 32 + 4 + name.len().next_multiple_of(4);
        let length = length + if request.has_fingerprint() { 8 } else { 0 };
        let budget = request.as_bytes().len() * 24 / 10;
        let fits = |length: usize| to.protocol != Protocol::Udp || length <= budget;
        let features = SecurityFeatures {
            // PASSWORD-ALGORITHMS takes twelve more.
            password_algorithms: self.config.password_algorithms && fits(length + 12),
            username_anonymity: self.config.user_hash,
        };
        // Without features to tell of, the cookie is left out where the answer would be too long.
        let has_features = features != SecurityFeatures::default();
        let features_told = (has_features || fits(length)).then_some(features);
        let nonce = self.nonces.make(now, to, realm, features_told);
        let algorithms: Option<&PasswordAlgorithms<'_>> =
            features.password_algorithms.then_some(&OFFERED);
        self.answer(to, request, Class::Error, None, |builder| {
            builder
                .add(&ErrorCode { reason: "", ..code })
                .add(&Realm(&name))
                .add(&Nonce(&nonce))
                .add_some(algorithms)
                .add_some(third_party.as_ref());
        });
    }

    /// Whether a source that proved nothing gets an answer. Streams and DTLS prove the source.
    fn may_challenge(&mut self, now: Instant, to: Path) -> bool {
        let rate = self.config.limits.challenges_per_second;
        let allowed = to.protocol != Protocol::Udp
            || self
                .challenge_limiter
                .allows(now, to.remote.ip(), rate, rate * BURST);
        if !allowed {
            self.stats.rate_limited += 1;
        }
        allowed
    }

    pub(super) fn unix_time(&self, now: Instant) -> u64 {
        let (then, unix) = self.clock;
        unix + now.saturating_duration_since(then).as_secs()
    }

    pub(super) fn event(&mut self, event: Event) {
        if self.events.len() >= MAX_WAITING_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn info(&self, now: Instant, allocation: &Allocation) -> AllocationInfo {
        AllocationInfo {
            id: allocation.id,
            username: allocation.username.to_string(),
            realm: self
                .config
                .realms
                .get(allocation.realm)
                .map(|realm| realm.name.clone())
                .unwrap_or_default(),
            client: allocation.path,
            relayed: allocation.relays().map(|relay| relay.external).collect(),
            expires_in: allocation.expires.saturating_duration_since(now),
            permissions: allocation.permissions.len(),
            channels: allocation.channels.len(),
            bytes_to_peers: allocation.bytes_to_peers,
            bytes_to_client: allocation.bytes_to_client,
        }
    }

    /// Ends an allocation and gives everything back that it had.
    pub(super) fn remove(&mut self, now: Instant, id: AllocationId, reason: EndReason) {
        let Some(allocation) = self.table.remove(id) else {
            return;
        };
        if self.by_path.get(&allocation.path) == Some(&id) {
            self.by_path.remove(&allocation.path);
        }
        self.last = None;
        for relay in allocation.relays() {
            if let Some(pool) = &self.config.pool {
                pool.set(relay.external, None);
            }
            self.ports[relay.address].release(relay.bind.port());
            self.commands
                .push_back(Command::CloseRelay { relay: relay.bind });
        }
        if let Some(mobility) = &allocation.mobility {
            for (path, ticket) in mobility.held() {
                self.tickets.remove(ticket);
                if let Some(path) = path
                    && self.by_path.get(path) == Some(&id)
                {
                    self.by_path.remove(path);
                }
            }
        }
        self.connections.allocation_gone(id, &mut self.commands);
        if let Some(quota) = &self.config.quota
            && let Some(owner) = self.users.key(allocation.user)
        {
            let source = self.sources.key(allocation.source).copied();
            quota.release(owner, source.unwrap_or(allocation.path.remote.ip()));
        }
        self.users.remove(allocation.user);
        self.sources.remove(allocation.source);
        let info = self.info(now, &allocation);
        self.event(Event::Ended(info, reason));
    }
}

/// The address that a client is counted for: IPv6 clients have a /64.
pub(super) fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

fn user_hashes(config: &ServerConfig) -> Vec<BTreeMap<[u8; 32], Box<str>>> {
    config
        .realms
        .iter()
        .filter(|_| config.user_hash)
        .map(|realm| realm.credentials.by_hash(&realm.name))
        .collect()
}

fn relay_ips(config: &ServerConfig) -> Vec<(IpAddr, IpAddr)> {
    config
        .relays
        .iter()
        .map(|relay| (relay.bind, relay.external))
        .collect()
}

impl Server {
    /// The configured relay address that a socket address belongs to, told by what is bound (`external` false) or by what
    /// peers see.
    pub(super) fn relay_index(&self, address: SocketAddr, external: bool) -> Option<usize> {
        self.relay_ips
            .iter()
            .position(|(bind, seen)| address.ip() == if external { *seen } else { *bind })
    }
}
