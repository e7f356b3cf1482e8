//! The agent and its doors. What stands behind each is in the modules, in the order in which a
//! session lives: local, gather, remote, check, receive, response, select, send; relay, race and roam beside
//! them.

mod check;
mod gather;
mod lite;
mod local;
mod pair;
mod race;
mod receive;
mod relay;
mod remote;
mod response;
mod roam;
mod select;
mod send;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Framing, Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_stun::IntegrityKey;

use crate::candidate::Candidate;
use crate::config::{
    Config, Credentials, LocalAddress, RemoteParameters, Role, Server, TransportPolicy,
};
use crate::event::{
    ConnectionId, ConnectionState, Event, GatheringState, PairId, Received, SelectedPair,
};
use crate::pacer::Pacer;
use crate::piggyback::{NoPiggyback, Piggyback};
use crate::stats::{AgentStats, LocalCandidateStats, PairStats};

use gather::Gatherer;
use local::{Connection, FoundationKey, Local, LocalCandidate, Source};
use pair::Pair;
use receive::{Early, Response};
use relay::Relay;
use remote::Remote;

/// Username fragments of former sessions that are remembered, to tell late checks from strangers.
const MAX_FORMER: usize = 4;

/// Misuse of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Credentials do not follow RFC 8839 section 5.4.
    #[error("credentials are not valid ICE credentials")]
    BadCredentials,
    /// The peer restarted: restart this agent before its new credentials are set.
    #[error("the peer restarted, restart this agent first")]
    RestartFirst,
    /// Not the address of a socket or an interface: unspecified, multicast, or with a port that does not
    /// go with its TCP type.
    #[error("not an address of an interface")]
    BadAddress,
    /// A bound of [`Limits`](crate::Limits) is reached.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// The agent is closed.
    #[error("the agent is closed")]
    Closed,
}

/// An ICE agent for one component of one stream.
///
/// ```
/// use std::time::Instant;
/// use visavis_datagram::{Random, TransmitBuf};
/// use visavis_ice::{Agent, Config, Event, LocalAddress};
///
/// let now = Instant::now();
/// let mut agent = Agent::new(Config::default(), Random::from_u64(1), now);
/// agent.add_local_address(now, LocalAddress::udp("192.0.2.1:5000".parse().unwrap())).unwrap();
/// agent.gather(now);
/// while let Some(event) = agent.poll_event() {
///     if let Event::Candidate(candidate) = event {
///         println!("a={candidate}");
///     }
/// }
/// let mut out = TransmitBuf::new(1, 1280);
/// assert!(agent.poll_transmit(now, &mut out).is_none());
/// ```
#[derive(Debug)]
pub struct Agent {
    config: Arc<Config>,
    random: Random,
    pacer: Pacer,
    role: Role,
    tie_breaker: u64,
    state: ConnectionState,
    gathering: GatheringState,
    closed: bool,
    /// Events are held back until `gather`.
    pooled: bool,
    ids: u32,

    servers: Vec<Server>,
    /// Servers that are no longer asked, by their place.
    retired: Vec<u16>,
    locals: Vec<Local>,
    gatherers: Vec<Gatherer>,
    relays: Vec<Relay>,
    candidates: Vec<LocalCandidate>,
    foundations: Vec<FoundationKey>,
    connections: Vec<Connection>,

    session: Session,
    old: Option<Box<Session>>,
    /// When the old session is forgotten, once the new one carries the data.
    old_until: Option<Instant>,
    former_ufrags: VecDeque<Box<str>>,
    remotes: Vec<Remote>,
    /// Remote candidates of a session whose credentials are not known yet.
    future: Vec<Candidate>,
    pairs: Vec<Pair>,
    triggered: VecDeque<PairId>,
    early: Vec<Early>,
    responses: VecDeque<Response>,

    selected: Option<PairId>,
    /// When it was selected.
    selected_at: Option<Instant>,
    /// When the last usable pair was lost.
    lost_at: Option<Instant>,
    checks_began: Option<Instant>,
    /// Other pairs are being tried because the selected one is in doubt.
    probing: bool,
    silence: Option<Instant>,
    /// The slot of the pace that this agent holds.
    slot: Option<Instant>,
    gather_turn: bool,
    /// Peer-reflexive remote candidates so far, and when the last one came.
    reflexive_made: u32,
    reflexive_at: Option<Instant>,
    /// Counts slots.
    turn: u8,
    timer: Option<Instant>,

    /// Reused where relayed data has to be copied.
    scratch: Vec<u8>,
    events: VecDeque<Event>,
    stats: AgentStats,
}

/// What one set of credentials is about (RFC 8445 section 9: a restart begins another).
#[derive(Debug)]
struct Session {
    generation: u32,
    local: Credentials,
    local_key: IntegrityKey,
    remote: Option<RemoteSide>,
    end_of_remote: bool,
    nominated: Option<PairId>,
    /// Our nomination that is not answered yet.
    nominating: Option<PairId>,
    /// Counts our nominations.
    nomination: u32,
    first_valid: Option<Instant>,
    connected: bool,
}

#[derive(Debug)]
struct RemoteSide {
    parameters: RemoteParameters,
    key: IntegrityKey,
    /// `remote:local`, the USERNAME of our checks.
    username: Box<str>,
}

impl Session {
    fn new(generation: u32, local: Credentials) -> Self {
        Self {
            generation,
            local_key: IntegrityKey::short_term(&local.pwd),
            local,
            remote: None,
            end_of_remote: false,
            nominated: None,
            nominating: None,
            nomination: 0,
            first_valid: None,
            connected: false,
        }
    }
}

impl Agent {
    /// A new agent. Nothing is gathered before [`gather`](Self::gather), unless it is pooled.
    pub fn new(config: impl Into<Arc<Config>>, mut random: Random, _now: Instant) -> Self {
        let config = config.into();
        let credentials = match &config.credentials {
            Some(credentials) if credentials.is_valid() => credentials.clone(),
            _ => draw_credentials(&config.ufrag_prefix, &mut random),
        };
        let servers = config
            .servers
            .iter()
            .take(config.limits.servers)
            .cloned()
            .collect();
        let mut agent = Self {
            tie_breaker: random.u64(),
            pacer: config.pacer.clone().unwrap_or_default(),
            role: if config.lite {
                Role::Controlled
            } else {
                config.role
            },
            state: ConnectionState::New,
            gathering: GatheringState::New,
            closed: false,
            pooled: config.pooled,
            ids: 0,
            servers,
            retired: Vec::new(),
            locals: Vec::new(),
            gatherers: Vec::new(),
            relays: Vec::new(),
            candidates: Vec::new(),
            foundations: Vec::new(),
            connections: Vec::new(),
            session: Session::new(0, credentials),
            old: None,
            old_until: None,
            former_ufrags: VecDeque::new(),
            remotes: Vec::new(),
            future: Vec::new(),
            pairs: Vec::new(),
            triggered: VecDeque::new(),
            early: Vec::new(),
            responses: VecDeque::new(),
            selected: None,
            selected_at: None,
            lost_at: None,
            checks_began: None,
            probing: false,
            silence: None,
            slot: None,
            gather_turn: false,
            turn: 0,
            reflexive_made: 0,
            reflexive_at: None,
            timer: None,
            scratch: Vec::new(),
            events: VecDeque::new(),
            stats: AgentStats::default(),
            random,
            config,
        };
        if agent.pooled {
            agent.gathering = GatheringState::Gathering;
        }
        agent
    }

    /// An agent for another data stream of the same session (RFC 8445 section 4): its configuration, servers, pace,
    /// role and tie-breaker are this one's. It has no addresses yet, and credentials of its own unless `credentials` are given.
    /// `number` tells the agents of a session apart, this one being 0: no two of them give out the same [`PairId`] or
    /// [`ConnectionId`].
    pub fn sibling(
        &self,
        number: u8,
        credentials: Option<Credentials>,
        random: Random,
        now: Instant,
    ) -> Self {
        let mut agent = Self::new(Arc::clone(&self.config), random, now);
        let credentials = credentials
            .filter(Credentials::is_valid)
            .unwrap_or_else(|| draw_credentials(&self.config.ufrag_prefix, &mut agent.random));
        agent.session = Session::new(0, credentials);
        agent.pacer = self.pacer.clone();
        agent.role = self.role;
        agent.tie_breaker = self.tie_breaker;
        agent.servers.clone_from(&self.servers);
        agent.retired.clone_from(&self.retired);
        agent.pooled = false;
        agent.gathering = GatheringState::New;
        agent.ids = u32::from(number) << 24;
        agent
    }

    // ---- what signalling needs and gives

    /// This agent's credentials of the current session.
    pub fn local_credentials(&self) -> &Credentials {
        &self.session.local
    }

    /// The peer's credentials of the current session, once told.
    pub fn remote_credentials(&self) -> Option<&Credentials> {
        let remote = self.session.remote.as_ref()?;
        Some(&remote.parameters.credentials)
    }

    /// A router leads what comes to `external` to the local address `local` (PCP, NAT-PMP or UPnP): it is
    /// offered as server-reflexive, now and after each restart.
    pub fn set_mapped_address(
        &mut self,
        now: Instant,
        local: SocketAddr,
        protocol: Protocol,
        external: SocketAddr,
    ) {
        let known = self
            .locals
            .iter_mut()
            .find(|known| known.address.address == local && known.address.protocol == protocol);
        if let Some(known) = known.filter(|_| local.is_ipv4() == external.is_ipv4()) {
            known.mapped = Some(external);
            let id = known.id;
            if self.gathering_begun() {
                self.router_candidate(now, id);
            }
        }
    }

    /// Begins to gather, or releases what a pooled agent gathered.
    pub fn gather(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if self.pooled {
            self.pooled = false;
            self.events
                .push_front(Event::GatheringState(GatheringState::Gathering));
        }
        self.begin_gathering(now);
        self.settle(now);
    }

    /// Sets the peer's credentials and options. Again with the same credentials: no change.
    ///
    /// # Errors
    /// If the credentials break RFC 8839's grammar, or are new while this agent has not restarted.
    pub fn set_remote(&mut self, now: Instant, parameters: RemoteParameters) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if !parameters.credentials.is_valid() {
            return Err(Error::BadCredentials);
        }
        if let Some(remote) = &mut self.session.remote {
            if remote.parameters.credentials != parameters.credentials {
                return Err(Error::RestartFirst);
            }
            remote.parameters = parameters;
            return Ok(());
        }
        if parameters.lite && !self.config.lite {
            // RFC 8445 section 6.1.1: the full agent controls.
            self.switch_role(Role::Controlling);
        }
        if let Some(ta) = parameters.pacing {
            self.pacer.slow_down(ta);
        }
        let ufrag = parameters.credentials.ufrag.clone();
        let username = format!("{}:{}", ufrag, self.session.local.ufrag);
        self.session.remote = Some(RemoteSide {
            key: IntegrityKey::short_term(&parameters.credentials.pwd),
            username: username.into(),
            parameters,
        });
        // Candidates that came before the credentials, of whichever session.
        let generation = self.session.generation;
        self.remotes.retain(|remote| {
            remote.generation != generation
                || remote
                    .candidate
                    .ufrag
                    .as_ref()
                    .is_none_or(|known| *known == ufrag)
        });
        self.checks_began = Some(now);
        self.take_future_candidates(now);
        self.pair_everything(now);
        for early in std::mem::take(&mut self.early) {
            if *early.remote_ufrag == *ufrag {
                self.take_check(now, &early.check);
            }
        }
        self.pair_lite(now);
        self.settle(now);
        Ok(())
    }

    /// Adds a remote candidate. One whose `ufrag` names another session waits for that session's
    /// credentials; if others come, it is dropped and counted.
    pub fn add_remote_candidate(&mut self, now: Instant, candidate: Candidate) {
        self.do_add_remote(now, candidate);
        self.pair_lite(now);
        self.settle(now);
    }

    /// The peer has no more candidates in this session (RFC 8838 section 14).
    pub fn end_of_remote_candidates(&mut self, now: Instant) {
        self.session.end_of_remote = true;
        self.settle(now);
    }

    /// Starts a new session (RFC 8445 section 9): new credentials, the same sockets, and the candidates
    /// told again. The old session carries data until the new one has a pair.
    pub fn restart(&mut self, now: Instant) -> &Credentials {
        if self.closed {
            return &self.session.local;
        }
        let credentials = draw_credentials(&self.config.ufrag_prefix, &mut self.random);
        let replaced = self.session.local.ufrag.clone();
        self.begin_session(now, credentials);
        if self.former_ufrags.len() == MAX_FORMER {
            self.former_ufrags.pop_front();
        }
        self.former_ufrags.push_back(replaced);
        &self.session.local
    }

    /// Follows a peer that took other credentials although none were offered to it anew: those of this agent, which it was told,
    /// stay. To be followed by [`set_remote`](Self::set_remote).
    pub fn follow_restart(&mut self, now: Instant) {
        if !self.closed {
            let credentials = self.session.local.clone();
            self.begin_session(now, credentials);
        }
    }

    fn begin_session(&mut self, now: Instant, credentials: Credentials) {
        self.clear_triggered();
        self.end_old_session();
        self.retire_pairs();
        self.early.clear();
        let generation = self.session.generation + 1;
        let old = std::mem::replace(&mut self.session, Session::new(generation, credentials));
        if self.selected.is_some() {
            self.old = Some(Box::new(old));
        } else {
            self.remotes.clear();
            self.lost_at = None;
        }
        self.checks_began = None;
        self.probing = false;
        // What was learnt from the old checks goes; the rest is told again.
        let kept = self.pairs.iter().find_map(|pair| pair.mapped);
        self.candidates.retain(|candidate| {
            candidate.candidate.kind != crate::candidate::CandidateKind::PeerReflexive
                || Some(candidate.id) == kept
        });
        if self.gathering != GatheringState::New {
            self.set_gathering(GatheringState::Gathering);
            self.gather_again(now);
            let told: Vec<_> = self
                .candidates
                .iter()
                .filter(|c| c.signalled)
                .map(|c| c.id)
                .collect();
            for id in told {
                self.tell_candidate(id);
            }
        }
        self.settle(now);
    }

    /// Sets the role, as signalling decides it. Without effect once checks have begun.
    pub fn set_role(&mut self, now: Instant, role: Role) {
        if self.session.remote.is_none() && self.role != role {
            self.role = role;
            self.reprioritise();
            self.settle(now);
        }
    }

    /// Ends everything. Relays are released as far as [`poll_transmit`](Self::poll_transmit) is still
    /// called.
    pub fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.close_relays(now);
        let connections: Vec<_> = self
            .connections
            .iter()
            .filter(|connection| !matches!(connection.user, local::ConnectionUser::Relay(_)))
            .map(|connection| connection.user)
            .collect();
        for user in connections {
            self.release_connection(user);
        }
        self.pairs.clear();
        self.remotes.clear();
        self.triggered.clear();
        self.responses.clear();
        self.early.clear();
        self.future.clear();
        self.gatherers.clear();
        self.candidates.clear();
        self.old = None;
        self.selected = None;
        self.slot = None;
        self.silence = None;
        self.settle(now);
    }

    // ---- what the owner's network gives

    /// A socket, or an interface that TCP can be opened from, is there. Any time. One that policy or
    /// filters leave out is accepted and not used.
    ///
    /// # Errors
    /// If it is not the address of an interface, or too many are there.
    pub fn add_local_address(&mut self, now: Instant, local: LocalAddress) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        self.do_add_local(now, local)?;
        self.settle(now);
        Ok(())
    }

    /// It is gone, with all candidates, relays and pairs based on it.
    pub fn remove_local_address(&mut self, now: Instant, address: SocketAddr, protocol: Protocol) {
        self.do_remove_local(now, address, protocol);
        self.settle(now);
    }

    /// One more STUN or TURN server. Any time.
    ///
    /// # Errors
    /// If too many are there.
    pub fn add_server(&mut self, now: Instant, server: Server) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if self.servers.len() >= self.config.limits.servers {
            return Err(Error::TooMany("servers"));
        }
        self.servers.push(server);
        if self.gathering_begun() && !self.config.lite {
            self.set_gathering(GatheringState::Gathering);
            let index = (self.servers.len() - 1) as u16;
            let ids: Vec<_> = self.locals.iter().map(|local| local.id).collect();
            for id in ids {
                self.gather_between(id, index);
            }
        }
        self.settle(now);
        Ok(())
    }

    /// Other servers and another policy for candidates, from the next gathering on: that of a
    /// [`restart`](Self::restart), or the first (W3C `setConfiguration`).
    ///
    /// # Errors
    /// If there are too many, those of before among them.
    pub fn set_servers(
        &mut self,
        servers: Vec<Server>,
        policy: TransportPolicy,
    ) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        let unknown = |server: &Server| !self.servers.contains(server);
        let count = servers.iter().filter(|server| unknown(server)).count();
        if self.servers.len() + count > self.config.limits.servers {
            return Err(Error::TooMany("servers"));
        }
        // Candidates name their server by its place, so those that are no longer asked stay.
        self.retired = (0..self.servers.len())
            .filter(|&index| !servers.contains(&self.servers[index]))
            .map(|index| index as u16)
            .collect();
        for server in servers {
            if !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
        if self.config.transport_policy != policy {
            Arc::make_mut(&mut self.config).transport_policy = policy;
        }
        Ok(())
    }

    /// Multicast DNS answered (or did not) for a name of [`Event::ResolveName`].
    pub fn resolved(&mut self, now: Instant, name: &str, ip: Option<IpAddr>) {
        self.do_resolved(now, name, ip);
        self.settle(now);
    }

    /// A connection of [`Event::Connect`] is up, from `local`. Its path, unless it is not wanted any more or none of this
    /// agent's.
    pub fn connected(&mut self, now: Instant, id: ConnectionId, local: SocketAddr) -> Option<Path> {
        let path = self.do_connected(now, id, local);
        self.settle(now);
        path
    }

    /// A connection of [`Event::Connect`] could not be opened.
    pub fn connect_failed(&mut self, now: Instant, id: ConnectionId) {
        self.do_connect_failed(now, id);
        self.settle(now);
    }

    /// A listening socket accepted a connection. False: close it.
    pub fn accepted(&mut self, path: Path) -> bool {
        self.do_accepted(path)
    }

    /// A connection ended.
    pub fn disconnected(&mut self, now: Instant, path: Path) {
        self.do_disconnected(now, path);
        self.settle(now);
    }

    // ---- application data

    /// The pair that data takes: the nominated one, or the best that works so far.
    pub fn selected_pair(&self) -> Option<SelectedPair> {
        self.describe_pair(self.selected?)
    }

    /// Whether data has a pair to take. While a restart looks for a new one, that is the old session's.
    pub fn has_path(&self) -> bool {
        self.selected.is_some()
    }

    /// The latest round-trip time on the selected pair, once a check or a consent request was answered.
    pub fn round_trip_time(&self) -> Option<Duration> {
        self.pair(self.selected?)?.counters.current_round_trip_time
    }

    /// Room that [`send`](Self::send) needs around each datagram on the selected pair.
    pub fn framing(&self) -> Framing {
        self.do_framing()
    }

    /// Addresses a run of application datagrams, which stand in `out` with this agent's
    /// [`framing`](Self::framing) as the outermost room. `None`: there is no usable pair and they are
    /// lost, or the agent took a copy and sends it by [`poll_transmit`](Self::poll_transmit).
    pub fn send(&mut self, now: Instant, ecn: Ecn, out: &mut TransmitBuf) -> Option<Transmit> {
        self.do_send(now, ecn, out)
    }

    /// Reads what [`send`](Self::send) will touch, and does nothing else: who goes through many agents asks the next one,
    /// so that caches fetch all of it at once, and meanwhile, rather than one thing after another.
    pub fn warm(&self) {
        std::hint::black_box((self.selected, self.pairs.as_slice().as_ptr()));
        if let Some(pair) = self.pairs.first() {
            let at = pair.counters.last_packet_sent;
            std::hint::black_box((pair.id, pair.state, pair.source, pair.path, at));
        }
    }

    // ---- doors

    /// A datagram, or a message of a stream, arrived.
    pub fn handle_datagram(&mut self, now: Instant, from: Path, datagram: &mut [u8]) -> Received {
        self.receive(now, from, datagram, &mut NoPiggyback)
    }

    /// The same, with something that rides in Binding messages.
    pub fn handle_datagram_with(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &mut [u8],
        piggyback: &mut dyn Piggyback,
    ) -> Received {
        self.receive(now, from, datagram, piggyback)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timer.is_some_and(|timer| timer <= now) {
            self.do_timeout(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) want to
    /// be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timer
    }

    /// The next message to send. `out` is cleared first.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        self.poll_transmit_with(now, out, &mut NoPiggyback)
    }

    /// The same, with something that rides in Binding messages.
    pub fn poll_transmit_with(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        out.clear();
        out.set_framing(Framing::default());
        if let Some(transmit) = self.write_response(now, out, piggyback) {
            return Some(transmit);
        }
        if let Some(transmit) = self.relay_transmit(now, out) {
            self.settle(now);
            return Some(transmit);
        }
        if self.timer.is_none_or(|timer| timer > now) || self.closed {
            return None;
        }
        let transmit = self.due_transmit(now, out, piggyback);
        self.settle(now);
        transmit
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.pooled {
            return None;
        }
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // Events are rare and large.
            self.events = VecDeque::new();
        }
        event
    }

    /// Asks for one more check on the selected (or best) pair as soon as the pace allows: for
    /// something that rides along.
    pub fn request_check(&mut self, now: Instant) {
        self.do_request_check();
        self.settle(now);
    }

    // ---- what can be seen

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// State of the session.
    pub fn connection_state(&self) -> ConnectionState {
        self.state
    }

    /// State of gathering.
    pub fn gathering_state(&self) -> GatheringState {
        self.gathering
    }

    /// Counters.
    pub fn stats(&self) -> AgentStats {
        self.stats
    }

    /// Every pair of the current session.
    pub fn pair_stats(&self) -> impl Iterator<Item = PairStats> + '_ {
        self.pairs
            .iter()
            .filter(|pair| pair.generation == self.session.generation)
            .filter_map(|pair| {
                let local = pair
                    .mapped
                    .and_then(|id| self.candidate(id))
                    .or_else(|| self.candidate(pair.local))?;
                Some(PairStats {
                    id: pair.id,
                    state: pair.state,
                    nominated: self.session.nominated == Some(pair.id),
                    selected: self.selected == Some(pair.id),
                    priority: pair.priority,
                    local: local.candidate.clone(),
                    remote: self.remote(pair.remote)?.candidate.clone(),
                    counters: pair.counters,
                })
            })
    }

    /// Every local candidate.
    pub fn local_candidates(&self) -> impl Iterator<Item = LocalCandidateStats> + '_ {
        self.candidates.iter().map(|candidate| {
            let server = candidate
                .server
                .and_then(|index| self.servers.get(usize::from(index)));
            LocalCandidateStats {
                candidate: candidate.candidate.clone(),
                base: candidate.base,
                url: server.map(|server| server.url.clone()),
                relay_protocol: match candidate.source {
                    Source::Relay(_) => server.map(|server| server.protocol),
                    Source::Local(_) => None,
                },
            }
        })
    }

    /// Every remote candidate of the current session.
    pub fn remote_candidates(&self) -> impl Iterator<Item = &Candidate> + '_ {
        self.remotes
            .iter()
            .filter(|remote| remote.generation == self.session.generation)
            .map(|remote| &remote.candidate)
    }

    // ---- internals

    fn next_id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    /// Gives back memory that setting up and bursts took. For an owner who sees that the connection is
    /// idle; the next message costs an allocation.
    pub fn trim(&mut self) {
        self.compact();
        self.responses.shrink_to_fit();
        self.events.shrink_to_fit();
        self.scratch.shrink_to_fit();
        self.random.rest();
    }

    /// Gives back what setting up took: an idle agent is small.
    fn compact(&mut self) {
        self.locals.shrink_to_fit();
        self.gatherers.shrink_to_fit();
        self.candidates.shrink_to_fit();
        self.foundations.shrink_to_fit();
        self.remotes.shrink_to_fit();
        self.pairs.shrink_to_fit();
        self.triggered.shrink_to_fit();
        self.future.shrink_to_fit();
        self.early.shrink_to_fit();
    }

    fn emit(&mut self, event: Event) {
        if self.events.len() >= self.config.limits.events {
            self.stats.events_dropped += 1;
            return;
        }
        self.events.push_back(event);
    }

    /// Whatever is due now, one message at a time.
    fn due_transmit(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        if let Some(transmit) = self.send_probe(now, out, piggyback) {
            return Some(transmit);
        }
        if let Some(transmit) = self.repeat_check(now, out, piggyback) {
            return Some(transmit);
        }
        if let Some(transmit) = self.repeat_gatherer(now, out) {
            return Some(transmit);
        }
        if self.slot.is_some_and(|slot| slot <= now) {
            self.slot = None;
            return self.start_transaction(now, out, piggyback);
        }
        None
    }
}

/// Credentials of 48 and 144 random bits (RFC 8445 section 5.3: at least 24 and 128).
fn draw_credentials(prefix: &str, random: &mut Random) -> Credentials {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = |len: usize| -> Box<str> {
        (0..len)
            .map(|_| char::from(ALPHABET[(random.u32() & 63) as usize]))
            .collect()
    };
    let ufrag = format!("{prefix}{}", text(8));
    Credentials::new(ufrag, text(24))
}
