//! Two agents and their servers on a simulated network, with signalling between the agents.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(clippy::print_stdout, reason = "seeds are printed")]

pub mod script;
pub mod server;
pub mod stream;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_ice::{
    Agent, Candidate, CandidateKind, Config, ConnectionId, ConnectionState, Event, GatheringState,
    Host, LocalAddress, PairId, Received, RemoteParameters, SelectedPair, StreamFraming,
};
use visavis_netsim::{Driver, Endpoint, HostId, Simulation, TcpCommand, TcpEvent};

use server::Server;
use stream::{Deframer, frame};

/// A connection of an agent.
struct Stream {
    /// TLS where the agent asked for it: what it protects is the same bytes here.
    protocol: Protocol,
    rfc4571: bool,
    deframer: Deframer,
}

impl Stream {
    /// The path as the agent knows it.
    fn path(&self, wire: Path) -> Path {
        Path {
            protocol: self.protocol,
            ..wire
        }
    }
}

/// A host with an agent on it.
pub struct Peer {
    pub name: &'static str,
    pub agent: Agent,
    /// Everything that the agent said, and when.
    pub events: Vec<(Instant, Event)>,
    /// Candidates and the end of them, not yet signalled.
    pub signals: VecDeque<Option<Candidate>>,
    /// Application datagrams received: when, over which pair, and what.
    pub received: Vec<(Instant, PairId, Vec<u8>)>,
    /// What `.local` names mean in this network.
    pub names: HashMap<String, IpAddr>,
    connecting: HashMap<Path, ConnectionId>,
    /// By the path on the wire: TLS is TCP there.
    streams: HashMap<Path, Stream>,
    next_port: u16,
    udp: VecDeque<(Transmit, Vec<u8>)>,
    tcp: VecDeque<TcpCommand>,
    out: TransmitBuf,
    /// STUN transactions that left, each once: when and where to.
    pub transactions: Vec<(Instant, SocketAddr)>,
    seen: std::collections::HashSet<[u8; 12]>,
}

impl Peer {
    pub fn new(name: &'static str, agent: Agent) -> Self {
        Self {
            name,
            agent,
            events: Vec::new(),
            signals: VecDeque::new(),
            received: Vec::new(),
            names: HashMap::new(),
            connecting: HashMap::new(),
            streams: HashMap::new(),
            next_port: 20000,
            udp: VecDeque::new(),
            tcp: VecDeque::new(),
            out: TransmitBuf::new(16, 1400),
            transactions: Vec::new(),
            seen: std::collections::HashSet::new(),
        }
    }

    pub fn add_address(&mut self, now: Instant, local: LocalAddress) {
        if local.protocol == Protocol::Tcp && local.address.port() != 0 {
            self.tcp.push_back(TcpCommand::Listen(local.address));
        }
        self.agent.add_local_address(now, local).unwrap();
    }

    /// Sends one application datagram on the selected pair. False if there is none.
    pub fn send(&mut self, now: Instant, payload: &[u8]) -> bool {
        self.out.clear();
        self.out.set_framing(self.agent.framing());
        assert!(self.out.push(payload));
        match self.agent.send(now, Ecn::NotEct, &mut self.out) {
            Some(transmit) => {
                let bytes = self.out.as_slice().to_vec();
                self.queue(now, transmit, bytes);
                true
            }
            None => false,
        }
    }

    fn queue(&mut self, now: Instant, transmit: Transmit, bytes: Vec<u8>) {
        if bytes.len() >= 20 && bytes[0] < 2 && bytes[0] == 0 && bytes[1] == 1 {
            let id: [u8; 12] = bytes[8..20].try_into().unwrap();
            if self.seen.insert(id) {
                self.transactions.push((now, transmit.destination));
            }
        }
        if transmit.protocol == Protocol::Udp {
            self.udp.push_back((transmit, bytes));
            return;
        }
        let path = Path::tcp(transmit.source, transmit.destination);
        let Some(stream) = self.streams.get(&path) else {
            return;
        };
        let rfc4571 = stream.rfc4571;
        assert_eq!(stream.protocol, transmit.protocol);
        for message in bytes.chunks(transmit.segment_size) {
            self.tcp
                .push_back(TcpCommand::Write(path, frame(rfc4571, message)));
        }
    }

    /// Takes out of the agent what it has.
    fn pump(&mut self, now: Instant) {
        let mut out = std::mem::replace(&mut self.out, TransmitBuf::new(1, 1400));
        let mut rounds = 0;
        while let Some(transmit) = self.agent.poll_transmit(now, &mut out) {
            let bytes = out.as_slice().to_vec();
            self.queue(now, transmit, bytes);
            rounds += 1;
            assert!(rounds < 10_000, "{} never stops sending", self.name);
        }
        self.out = out;
        while let Some(event) = self.agent.poll_event() {
            self.event(now, &event);
            self.events.push((now, event));
        }
    }

    fn event(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Candidate(candidate) => self.signals.push_back(Some(candidate.clone())),
            Event::GatheringState(GatheringState::Complete) => self.signals.push_back(None),
            Event::Connect(connect) => {
                let port = match connect.local.port() {
                    0 => {
                        self.next_port += 1;
                        self.next_port
                    }
                    port => port,
                };
                let path = Path::tcp(SocketAddr::new(connect.local.ip(), port), connect.remote);
                let rfc4571 = connect.framing == StreamFraming::Rfc4571;
                let deframer = if rfc4571 {
                    Deframer::rfc4571()
                } else {
                    Deframer::turn()
                };
                self.connecting.insert(path, connect.id);
                let stream = Stream {
                    protocol: connect.protocol,
                    rfc4571,
                    deframer,
                };
                self.streams.insert(path, stream);
                self.tcp.push_back(TcpCommand::Connect(path));
            }
            Event::Disconnect(path) => {
                let wire = Path::tcp(path.local, path.remote);
                assert!(
                    self.streams.remove(&wire).is_some(),
                    "no connection {path:?}"
                );
                self.tcp.push_back(TcpCommand::Close(wire));
            }
            Event::ResolveName(name) => {
                let ip = self.names.get(&**name).copied();
                self.agent.resolved(now, name, ip);
            }
            _ => {}
        }
    }

    fn take(&mut self, now: Instant, path: Path, datagram: &mut [u8]) {
        if let Received::Data { pair, payload } = self.agent.handle_datagram(now, path, datagram) {
            self.received.push((now, pair, datagram[payload].to_vec()));
        }
    }

    pub fn states(&self) -> Vec<ConnectionState> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::ConnectionState(state) => Some(*state),
                _ => None,
            })
            .collect()
    }

    pub fn selections(&self) -> Vec<(Instant, SelectedPair)> {
        self.events
            .iter()
            .filter_map(|(at, event)| match event {
                Event::SelectedPair(pair) => Some((*at, (**pair).clone())),
                _ => None,
            })
            .collect()
    }

    pub fn parameters(&self) -> RemoteParameters {
        let mut parameters = RemoteParameters::new(self.agent.local_credentials().clone());
        parameters.renomination = true;
        parameters
    }
}

impl Endpoint for Peer {
    fn handle_datagram(&mut self, now: Instant, path: Path, _: Ecn, datagram: &mut [u8]) {
        self.take(now, path, datagram);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        self.pump(now);
        let (transmit, bytes) = self.udp.pop_front()?;
        for datagram in bytes.chunks(transmit.segment_size) {
            assert!(out.push(datagram));
        }
        Some(transmit)
    }

    fn handle_tcp(&mut self, now: Instant, path: Path, event: TcpEvent) {
        match event {
            TcpEvent::Connected => {
                if let Some(id) = self.connecting.remove(&path) {
                    self.agent.connected(now, id, path.local);
                }
            }
            TcpEvent::Accepted => {
                if self.agent.accepted(path) {
                    let stream = Stream {
                        protocol: Protocol::Tcp,
                        rfc4571: true,
                        deframer: Deframer::rfc4571(),
                    };
                    self.streams.insert(path, stream);
                } else {
                    self.tcp.push_back(TcpCommand::Reset(path));
                }
            }
            TcpEvent::Data(bytes) => {
                let mut frames = Vec::new();
                let Some(stream) = self.streams.get_mut(&path) else {
                    return;
                };
                stream.deframer.push(&bytes);
                while let Some(frame) = stream.deframer.next_frame() {
                    frames.push(frame);
                }
                let path = stream.path(path);
                for mut frame in frames {
                    self.take(now, path, &mut frame);
                }
            }
            _ => {
                let stream = self.streams.remove(&path);
                match (self.connecting.remove(&path), stream) {
                    (Some(id), _) => self.agent.connect_failed(now, id),
                    (None, Some(stream)) => self.agent.disconnected(now, stream.path(path)),
                    // Closed by us.
                    (None, None) => {}
                }
            }
        }
    }

    fn poll_tcp(&mut self, now: Instant) -> Option<TcpCommand> {
        self.pump(now);
        self.tcp.pop_front()
    }
}

/// What stands on a host.
pub enum Node {
    Peer(Box<Peer>),
    Server(Box<Server>),
}

macro_rules! both {
    ($self:ident, $node:ident => $what:expr) => {
        match $self {
            Node::Peer($node) => $what,
            Node::Server($node) => $what,
        }
    };
}

impl Endpoint for Node {
    fn handle_datagram(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]) {
        both!(self, node => node.handle_datagram(now, path, ecn, datagram));
    }
    fn handle_timeout(&mut self, now: Instant) {
        both!(self, node => node.handle_timeout(now));
    }
    fn poll_timeout(&self) -> Option<Instant> {
        both!(self, node => node.poll_timeout())
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        both!(self, node => node.poll_transmit(now, out))
    }
    fn handle_tcp(&mut self, now: Instant, path: Path, event: TcpEvent) {
        both!(self, node => node.handle_tcp(now, path, event));
    }
    fn poll_tcp(&mut self, now: Instant) -> Option<TcpCommand> {
        both!(self, node => node.poll_tcp(now))
    }
}

/// How candidates are signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalling {
    /// Each as it comes.
    Trickle,
    /// All at once when gathering is complete.
    AllAtOnce,
}

/// Two peers, left and right, and servers.
pub struct Call {
    pub driver: Driver<Node>,
    pub left: usize,
    pub right: usize,
    /// One way, from peer to peer.
    pub signal_delay: Duration,
    pub signalling: Signalling,
    wires: VecDeque<(Instant, usize, Option<Candidate>)>,
    held: [Vec<Option<Candidate>>; 2],
    /// Candidates that signalling loses.
    pub dropped: fn(&Candidate) -> bool,
}

impl Call {
    pub fn new(simulation: Simulation, left: (HostId, Peer), right: (HostId, Peer)) -> Self {
        let mut driver = Driver::new(simulation);
        let left = driver.add(left.0, Node::Peer(Box::new(left.1)));
        let right = driver.add(right.0, Node::Peer(Box::new(right.1)));
        Self {
            driver,
            left,
            right,
            signal_delay: Duration::from_millis(50),
            signalling: Signalling::Trickle,
            wires: VecDeque::new(),
            held: [Vec::new(), Vec::new()],
            dropped: |_| false,
        }
    }

    pub fn add_server(&mut self, host: HostId, server: Server) -> usize {
        self.driver.add(host, Node::Server(Box::new(server)))
    }

    pub fn now(&self) -> Instant {
        self.driver.now()
    }

    pub fn peer(&mut self, index: usize) -> &mut Peer {
        match self.driver.endpoint_mut(index) {
            Node::Peer(peer) => peer,
            Node::Server(_) => panic!("a server"),
        }
    }

    pub fn server(&mut self, index: usize) -> &mut Server {
        match self.driver.endpoint_mut(index) {
            Node::Server(server) => server,
            Node::Peer(_) => panic!("a peer"),
        }
    }

    pub fn left(&mut self) -> &mut Peer {
        let left = self.left;
        self.peer(left)
    }

    pub fn right(&mut self) -> &mut Peer {
        let right = self.right;
        self.peer(right)
    }

    /// Both gather and know each other's credentials.
    pub fn start(&mut self) {
        let now = self.now();
        self.left().agent.gather(now);
        self.right().agent.gather(now);
        self.exchange();
    }

    /// Each learns the other's credentials, at once.
    pub fn exchange(&mut self) {
        let now = self.now();
        let (left, right) = (self.left().parameters(), self.right().parameters());
        self.left().agent.set_remote(now, right).unwrap();
        self.right().agent.set_remote(now, left).unwrap();
    }

    /// Runs until `done` or for `time`. True if done.
    pub fn run(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = self.now() + time;
        loop {
            self.signal();
            if done(self) {
                return true;
            }
            let now = self.now();
            if now >= deadline {
                return false;
            }
            let next = self
                .wires
                .front()
                .map_or(deadline, |wire| wire.0.min(deadline));
            // One step of the driver at a time, so that `done` sees every event.
            let mut first = true;
            self.driver
                .run(next.max(now), |_| !std::mem::replace(&mut first, false));
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    pub fn both(&mut self, check: impl Fn(&Peer) -> bool) -> bool {
        check(self.left()) && check(self.right())
    }

    /// Runs until both are connected. True if they are within `time`.
    pub fn connect(&mut self, time: Duration) -> bool {
        self.run(time, |call| {
            call.both(|peer| {
                matches!(
                    peer.agent.connection_state(),
                    ConnectionState::Connected | ConnectionState::Completed
                )
            })
        })
    }

    /// Sends one datagram each way and runs until both arrived. True if they did.
    pub fn exchange_data(&mut self, time: Duration) -> bool {
        let now = self.now();
        let counts = (self.left().received.len(), self.right().received.len());
        self.left().send(now, b"\x80 from the left");
        self.right().send(now, b"\x80 from the right");
        self.run(time, |call| {
            call.left().received.len() > counts.0 && call.right().received.len() > counts.1
        })
    }

    fn signal(&mut self) {
        let now = self.now();
        let (left, right) = (self.left, self.right);
        for (side, from, to) in [(0, left, right), (1, right, left)] {
            self.peer(from).pump(now);
            while let Some(signal) = self.peer(from).signals.pop_front() {
                if signal.as_ref().is_some_and(self.dropped) {
                    continue;
                }
                let complete = signal.is_none();
                self.held[side].push(signal);
                if self.signalling == Signalling::Trickle || complete {
                    for signal in std::mem::take(&mut self.held[side]) {
                        self.wires.push_back((now + self.signal_delay, to, signal));
                    }
                }
            }
        }
        while self.wires.front().is_some_and(|wire| wire.0 <= now) {
            let (_, to, signal) = self.wires.pop_front().unwrap();
            let agent = &mut self.peer(to).agent;
            match signal {
                Some(candidate) => {
                    // What is signalled is text.
                    let candidate = candidate.to_string().parse().unwrap();
                    agent.add_remote_candidate(now, candidate);
                }
                None => agent.end_of_remote_candidates(now),
            }
        }
    }

    /// What both ends made of it, for failures.
    pub fn report(&mut self) -> String {
        let mut text = String::new();
        let start = self.left().events.first().map(|event| event.0);
        for side in [self.left, self.right] {
            let peer = self.peer(side);
            text += &format!(
                "{}: {:?} {:?}\n",
                peer.name,
                peer.agent.connection_state(),
                peer.agent.stats()
            );
            for pair in peer.agent.pair_stats() {
                text += &format!(
                    "  {:?} {:?} nominated={} selected={} {} {} -> {} {} sent={} received={}\n",
                    pair.id,
                    pair.state,
                    pair.nominated,
                    pair.selected,
                    pair.local.kind,
                    shown(&pair.local),
                    pair.remote.kind,
                    shown(&pair.remote),
                    pair.counters.requests_sent,
                    pair.counters.responses_received,
                );
            }
            for (at, event) in &peer.events {
                if !matches!(event, Event::Candidate(_)) {
                    text += &format!("  {:?} {event:?}\n", start.map(|start| *at - start));
                } else if let Event::Candidate(candidate) = event {
                    text += &format!("  {:?} {candidate}\n", start.map(|start| *at - start));
                }
            }
        }
        text
    }
}

fn shown(candidate: &Candidate) -> String {
    match &candidate.host {
        Host::Ip(ip) => SocketAddr::new(*ip, candidate.port).to_string(),
        Host::Name(name) => format!("{name}:{}", candidate.port),
    }
}

/// Whether a selected pair goes through a relay.
pub fn is_relayed(pair: &SelectedPair) -> bool {
    pair.local.kind == CandidateKind::Relayed || pair.remote.kind == CandidateKind::Relayed
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// An agent with the defaults, seeded.
pub fn agent(config: Config, seed: u64, now: Instant) -> Agent {
    Agent::new(config, Random::from_u64(seed), now)
}
