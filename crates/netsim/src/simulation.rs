//! The network as a whole: nodes, links, virtual time.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Protocol, Random, Transmit};

use crate::config::LinkConfig;
use crate::connection::Emit;
use crate::link::{Link, Outcome};
use crate::node::{Forward, Interface, InterfaceId, Node};
use crate::packet::{Kind, PacketId, Payload, Slab};
use crate::queue::Waiting;
use crate::tcp::{ACK, RST, Segment, TimerId};
use crate::topology::internet;
use crate::trace::{Trace, TraceEntry, TraceKind};
use crate::{LinkStats, TcpCommand, TcpEvent};

/// A host of a [`Simulation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub(crate) usize);

impl HostId {
    /// Its index among all nodes.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// One direction of a link of a [`Simulation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(crate) usize);

/// Something that has reached a host.
#[derive(Debug)]
pub struct Delivery {
    /// When.
    pub now: Instant,
    /// Which host.
    pub host: HostId,
    /// From where to where, as the host sees it: `local` is the host's address.
    pub path: Path,
    /// The ECN codepoint as it arrived.
    pub ecn: Ecn,
    /// When its sender sent it: the truth about the one-way delay. For TCP events: now.
    pub sent: Instant,
    /// What it is.
    pub what: Arrival,
}

/// What has reached a host.
#[derive(Debug)]
pub enum Arrival {
    /// A UDP datagram. [`Simulation::recycle`] takes it back.
    Datagram(Payload),
    /// Something happened to a TCP connection.
    Tcp(TcpEvent),
    /// A datagram that the host sent on this path was beyond an MTU (ICMP "too big").
    PacketTooBig {
        /// The largest IP packet that passes, in bytes.
        mtu: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum What {
    Finish {
        link: usize,
        generation: u32,
    },
    Arrive {
        link: usize,
        id: PacketId,
    },
    /// To an address of the sending host itself.
    Loop {
        host: usize,
        id: PacketId,
    },
    Timer {
        host: usize,
        timer: TimerId,
    },
}

#[derive(Debug, Clone, Copy)]
struct Scheduled {
    at: u64,
    sequence: u64,
    what: What,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// Reversed: the heap's greatest is what comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// A simulated network.
#[derive(Debug)]
pub struct Simulation {
    start: Instant,
    pub(crate) now: u64,
    sequence: u64,
    events: BinaryHeap<Scheduled>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    packets: Slab,
    ready: VecDeque<Delivery>,
    outcomes: Vec<Outcome>,
    emits: Vec<Emit>,
    pub(crate) random: Random,
    trace: Trace,
}

impl Simulation {
    /// An empty network at time `start`. The same seed gives the same run.
    pub fn new(start: Instant, seed: u64) -> Self {
        Self {
            start,
            now: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            nodes: vec![internet()],
            links: Vec::new(),
            packets: Slab::default(),
            ready: VecDeque::new(),
            outcomes: Vec::new(),
            emits: Vec::new(),
            random: Random::from_u64(seed),
            trace: Trace::default(),
        }
    }

    /// The present virtual time.
    pub fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.now)
    }

    /// Sends one datagram from a host, on the interface that has the path's local address.
    pub fn send(&mut self, host: HostId, path: Path, ecn: Ecn, datagram: &[u8]) {
        let id = self
            .packets
            .insert(path.local, path.remote, Kind::Udp, ecn, datagram);
        self.route_from_host(host, id);
    }

    /// Sends what a machine's `poll_transmit` answered; `bytes` is what it wrote. On a stream
    /// protocol the bytes go to the connection of that path.
    pub fn transmit(&mut self, host: HostId, transmit: &Transmit, bytes: &[u8]) {
        let bytes = &bytes[..transmit.len.min(bytes.len())];
        if transmit.protocol.is_stream() {
            let path = Path {
                protocol: Protocol::Tcp,
                ..transmit.path()
            };
            self.tcp(host, TcpCommand::Write(path, bytes.to_vec()));
            return;
        }
        for datagram in bytes.chunks(transmit.segment_size.max(1)) {
            self.send(host, transmit.path(), transmit.ecn, datagram);
        }
    }

    /// Does something with TCP on a host.
    pub fn tcp(&mut self, host: HostId, command: TcpCommand) {
        let mut emits = std::mem::take(&mut self.emits);
        let now = self.now;
        self.host_mut(host).tcp.command(now, command, &mut emits);
        self.emit(host.0, emits);
    }

    /// Bytes that were written to a TCP connection and are not acknowledged yet; `None` if there is no such connection.
    pub fn tcp_unacknowledged(&self, host: HostId, path: Path) -> Option<usize> {
        self.host(host).tcp.unacknowledged(path)
    }

    /// Sends a datagram out of an interface as it is, whatever its source address: for tests of spoofing.
    pub fn send_spoofed(&mut self, interface: InterfaceId, path: Path, ecn: Ecn, datagram: &[u8]) {
        let id = self
            .packets
            .insert(path.local, path.remote, Kind::Udp, ecn, datagram);
        self.packets.get_mut(id).sent = self.now;
        self.note(TraceKind::Sent, id);
        let interface = &self.host(interface.host).interfaces[interface.index];
        let (link, up) = (interface.link, interface.up);
        if up {
            self.offer(link, id);
        } else {
            self.discard(id);
        }
    }

    /// When something happens next; `None`: nothing is under way.
    pub fn next_event_time(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(self.now());
        }
        self.events
            .peek()
            .map(|event| self.start + Duration::from_nanos(event.at))
    }

    /// The next delivery, whenever it is. Time moves to it.
    pub fn step(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Some(delivery);
            }
            let event = self.events.pop()?;
            self.happen(event);
        }
    }

    /// The next delivery at or before `until`. Time moves to it, or to `until`.
    pub fn step_until(&mut self, until: Instant) -> Option<Delivery> {
        let until = self.nanos(until);
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Some(delivery);
            }
            match self.events.peek() {
                Some(event) if event.at <= until => {}
                _ => {
                    self.now = self.now.max(until);
                    return None;
                }
            }
            let event = self.events.pop()?;
            self.happen(event);
        }
    }

    /// Moves time to `to`; what arrives until then is given out by the next steps.
    pub fn advance_to(&mut self, to: Instant) {
        let to = self.nanos(to);
        while self.events.peek().is_some_and(|event| event.at <= to) {
            if let Some(event) = self.events.pop() {
                self.happen(event);
            }
        }
        self.now = self.now.max(to);
    }

    /// Gives a payload's memory back, so that steady traffic allocates nothing.
    pub fn recycle(&mut self, payload: Payload) {
        self.packets.recycle(payload);
    }

    /// Changes a link in mid-run. What waits in its queue stays.
    pub fn set_link(&mut self, link: LinkId, config: LinkConfig) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.links[link.0].reconfigure(self.now, config, &mut outcomes);
        self.carry_out(link.0, outcomes);
    }

    /// A link's configuration.
    pub fn link_config(&self, link: LinkId) -> &LinkConfig {
        &self.links[link.0].config
    }

    /// What a link has done.
    pub fn link_stats(&self, link: LinkId) -> &LinkStats {
        &self.links[link.0].stats
    }

    /// Bytes that wait for a link's capacity.
    pub fn link_backlog(&self, link: LinkId) -> usize {
        self.links[link.0].backlog()
    }

    /// Packets that wait for a link's capacity.
    pub fn link_backlog_packets(&self, link: LinkId) -> usize {
        self.links[link.0].backlog_packets()
    }

    /// Keeps the packet trace from now on.
    pub fn record_trace(&mut self) {
        self.trace.record();
    }

    /// The packet trace since [`record_trace`](Self::record_trace).
    pub fn trace(&self) -> &[TraceEntry] {
        self.trace.entries()
    }

    /// A hash of the whole packet trace since the start, kept whether or not it is recorded.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_nanos() as u64
    }

    pub(crate) fn add_link(
        &mut self,
        config: LinkConfig,
        from: usize,
        to: usize,
        to_port: usize,
    ) -> LinkId {
        let random = self.random.fork();
        self.links
            .push(Link::new(config, from, to, to_port, random));
        LinkId(self.links.len() - 1)
    }

    fn schedule(&mut self, at: u64, what: What) {
        self.sequence += 1;
        self.events.push(Scheduled {
            at,
            sequence: self.sequence,
            what,
        });
    }

    fn happen(&mut self, event: Scheduled) {
        self.now = self.now.max(event.at);
        match event.what {
            What::Finish { link, generation } => {
                let mut outcomes = std::mem::take(&mut self.outcomes);
                self.links[link].finish(self.now, generation, &mut outcomes);
                self.carry_out(link, outcomes);
            }
            What::Arrive { link, id } => {
                let (node, port) = (self.links[link].to, self.links[link].to_port);
                self.arrive(node, port, id);
            }
            What::Loop { host, id } => self.arrive(host, 0, id),
            What::Timer { host, timer } => {
                let mut emits = std::mem::take(&mut self.emits);
                let now = self.now;
                if let Node::Host(host) = &mut self.nodes[host] {
                    host.tcp.timeout(now, timer, &mut emits);
                }
                self.emit(host, emits);
            }
        }
    }

    fn carry_out(&mut self, link: usize, mut outcomes: Vec<Outcome>) {
        for outcome in outcomes.drain(..) {
            match outcome {
                Outcome::Finish { at, generation } => {
                    self.schedule(at, What::Finish { link, generation });
                }
                Outcome::Drop(id) => self.discard(id),
                Outcome::Arrive {
                    at,
                    id,
                    mark,
                    duplicate,
                    corrupt,
                } => {
                    let packet = self.packets.get_mut(id);
                    if mark {
                        packet.ecn = Ecn::Ce;
                    }
                    if let Some(bit) = corrupt {
                        let bits = packet.payload.len() as u64 * 8;
                        if bits > 0 {
                            let bit = bit % bits;
                            packet.payload[(bit / 8) as usize] ^= 1 << (bit % 8);
                        }
                    }
                    if duplicate {
                        let copy = self.packets.duplicate(id);
                        self.schedule(at, What::Arrive { link, id: copy });
                    }
                    self.schedule(at, What::Arrive { link, id });
                }
            }
        }
        self.outcomes = outcomes;
    }

    fn route_from_host(&mut self, host: HostId, id: PacketId) {
        self.packets.get_mut(id).sent = self.now;
        self.note(TraceKind::Sent, id);
        let packet = self.packets.get(id);
        let (source, destination) = (packet.source.ip(), packet.destination.ip());
        let interfaces = &self.host(host).interfaces;
        let has = |address| move |interface: &&Interface| interface.addresses.contains(address);
        let interface = interfaces.iter().find(has(&source));
        match interface {
            Some(interface) if interface.up => {
                if interfaces.iter().any(|other| has(&destination)(&other)) {
                    let (now, host) = (self.now, host.0);
                    self.schedule(now, What::Loop { host, id });
                } else {
                    let link = interface.link;
                    self.offer(link, id);
                }
            }
            _ => self.discard(id),
        }
    }

    fn offer(&mut self, link: usize, id: PacketId) {
        let (size, ecn) = {
            let packet = self.packets.get(id);
            (packet.size(), packet.ecn)
        };
        self.links[link].stats.offered += 1;
        if !self.links[link].up {
            self.links[link].stats.down += 1;
            self.discard(id);
            return;
        }
        if size > self.links[link].config.mtu {
            self.links[link].stats.too_big += 1;
            if self.links[link].config.icmp {
                self.answer_too_big(link, id);
            }
            self.discard(id);
            return;
        }
        let waiting = Waiting {
            id,
            size: size as u32,
            ecn,
            since: self.now,
        };
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.links[link].offer(self.now, waiting, &mut outcomes);
        self.carry_out(link, outcomes);
    }

    fn arrive(&mut self, node: usize, port: usize, id: PacketId) {
        match &mut self.nodes[node] {
            Node::Host(host) => {
                let to = self.packets.get(id).destination.ip();
                if host.has(to) {
                    self.deliver(node, id);
                } else {
                    self.discard(id);
                }
            }
            Node::Router(router) => {
                let packet = self.packets.get_mut(id);
                match router.forward(self.now, port, packet) {
                    Forward::To(link) => self.offer(link, id),
                    Forward::Drop => self.discard(id),
                    Forward::Reset { back_to } => {
                        self.answer_reset(back_to, id);
                        self.discard(id);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, node: usize, id: PacketId) {
        self.note(TraceKind::Delivered, id);
        let packet = self.packets.get(id);
        let (local, remote) = (packet.destination, packet.source);
        let protocol = packet.protocol();
        let (ecn, kind, sent) = (packet.ecn, packet.kind, packet.sent);
        let payload = self.packets.take(id);
        let (remote, what) = match kind {
            Kind::Udp => (remote, Arrival::Datagram(payload)),
            Kind::TooBig { towards, mtu, .. } => (towards, Arrival::PacketTooBig { mtu }),
            Kind::Tcp(segment) => {
                let mut emits = std::mem::take(&mut self.emits);
                let now = self.now;
                if let Node::Host(host) = &mut self.nodes[node] {
                    host.tcp
                        .segment(now, local, remote, segment, &payload, &mut emits);
                }
                self.packets.recycle(payload);
                self.emit(node, emits);
                return;
            }
        };
        let path = Path {
            protocol,
            local,
            remote,
        };
        self.ready(node, path, ecn, sent, what);
    }

    fn ready(&mut self, node: usize, path: Path, ecn: Ecn, sent: u64, what: Arrival) {
        self.ready.push_back(Delivery {
            now: self.now(),
            host: HostId(node),
            path,
            ecn,
            sent: self.start + Duration::from_nanos(sent),
            what,
        });
    }

    /// Carries out what a host's TCP wants.
    fn emit(&mut self, host: usize, mut emits: Vec<Emit>) {
        for emit in emits.drain(..) {
            match emit {
                Emit::Segment {
                    local,
                    remote,
                    segment,
                    range,
                } => {
                    let Node::Host(stack) = &self.nodes[host] else {
                        continue;
                    };
                    let bytes =
                        range.map_or(&[][..], |range| stack.tcp.bytes(local, remote, range));
                    let kind = Kind::Tcp(segment);
                    let id = self.packets.insert(local, remote, kind, Ecn::NotEct, bytes);
                    self.route_from_host(HostId(host), id);
                }
                Emit::Event {
                    local,
                    remote,
                    event,
                } => {
                    let path = Path::tcp(local, remote);
                    let now = self.now;
                    self.ready(host, path, Ecn::NotEct, now, Arrival::Tcp(event));
                }
                Emit::Timer { at, timer } => self.schedule(at, What::Timer { host, timer }),
            }
        }
        // Loops back to the own host may have put a new buffer in its place.
        if self.emits.capacity() < emits.capacity() {
            self.emits = emits;
        }
    }

    /// Tells the sender of a packet that it is beyond a link's MTU.
    fn answer_too_big(&mut self, link: usize, id: PacketId) {
        let packet = self.packets.get(id);
        if matches!(packet.kind, Kind::TooBig { .. }) {
            return;
        }
        let kind = Kind::TooBig {
            protocol: packet.protocol(),
            towards: packet.destination,
            mtu: self.links[link].config.mtu,
        };
        // As from the destination, so that NATs on the way back know the flow.
        let (source, destination) = (packet.destination, packet.source);
        let answer = self
            .packets
            .insert(source, destination, kind, Ecn::NotEct, &[]);
        self.answer(self.links[link].from, answer);
    }

    /// Refuses a TCP segment in the name of its destination.
    fn answer_reset(&mut self, back_to: usize, id: PacketId) {
        let packet = self.packets.get(id);
        let Kind::Tcp(segment) = packet.kind else {
            return;
        };
        if segment.flags & RST != 0 {
            return;
        }
        let kind = Kind::Tcp(Segment {
            flags: RST | ACK,
            sequence: segment.acknowledgement,
            acknowledgement: segment.sequence + 1,
            ..Segment::default()
        });
        let (source, destination) = (packet.destination, packet.source);
        let answer = self
            .packets
            .insert(source, destination, kind, Ecn::NotEct, &[]);
        self.offer(back_to, answer);
    }

    /// Sends a packet that a node itself made on its way.
    fn answer(&mut self, node: usize, id: PacketId) {
        match &mut self.nodes[node] {
            Node::Host(_) => self.arrive(node, 0, id),
            Node::Router(router) => {
                let packet = self.packets.get_mut(id);
                match router.send(self.now, packet) {
                    Some(link) => self.offer(link, id),
                    None => self.discard(id),
                }
            }
        }
    }

    fn discard(&mut self, id: PacketId) {
        self.note(TraceKind::Dropped, id);
        self.packets.drop(id);
    }

    fn note(&mut self, kind: TraceKind, id: PacketId) {
        let packet = self.packets.get(id);
        self.trace.add(
            self.now,
            kind,
            (packet.source, packet.destination),
            packet.ecn,
            &packet.payload,
        );
    }
}
