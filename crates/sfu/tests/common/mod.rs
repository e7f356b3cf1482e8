//! A server of several workers and its clients on a simulated network; signalling takes no time.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod stage;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Arrival, Ecn, Path, Random, Transmit, TransmitBuf};
use visavis_ice::LocalAddress;
use visavis_netsim::{Driver, Endpoint, HostId, LinkConfig, LinkId, Simulation};
use visavis_peer::{
    Codec as PeerCodec, Configuration, ConnectionState, Encoding, Event as PeerEvent, Kind,
    MediaSettings, OutgoingRtp, PeerConnection, Received, TransceiverId, TransceiverInit,
};
use visavis_rtp::extension::ExtensionKind;
use visavis_rtp::payload::vp8::Vp8Descriptor;
use visavis_rtp::payload::{Codec, FrameParams, Packetizer};
use visavis_sdp::Direction;
use visavis_sfu::worker::{Message, Settings, Worker};
use visavis_sfu::{
    CodecTable, ConnectionConfig, ConnectionId, Event, Forwarding, LayerSize, Limits,
    ParticipantId, PublishOptions, RoomId, SubscribeOptions, SubscriptionId, TrackId,
};

const SERVER: &str = "203.0.113.250:7000";

/// All workers, which share an address as they do on a host.
pub(crate) struct Server {
    pub(crate) workers: Vec<Worker>,
    pub(crate) events: Vec<Event>,
    /// The worker that a path's datagrams reach: none in particular, as by the kernel's hash.
    pub(crate) spread: bool,
    /// The workers are kept from reading their sockets, and the kernel tells when datagrams came (or does not).
    pub(crate) late: Option<(Busy, bool)>,
    /// What one worker tells another takes some time, if that is so.
    pub(crate) queues: Option<Queues>,
}

/// Messages on their way, in order from each worker to each other one, and in none beyond that.
pub(crate) struct Queues {
    random: Random,
    waiting: BTreeMap<(usize, usize), VecDeque<(Instant, Message)>>,
}

impl Queues {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::from_u64(seed),
            waiting: BTreeMap::new(),
        }
    }

    fn push(&mut self, now: Instant, from: usize, to: usize, message: Message) {
        let queue = self.waiting.entry((from, to)).or_default();
        // Up to 4 ms, and now and then 40.
        let most = if self.random.chance(0.02) {
            0.04
        } else {
            0.004
        };
        let due = now + Duration::from_secs_f64(self.random.unit() * most);
        let due = queue.back().map_or(due, |&(last, _)| last.max(due));
        queue.push_back((due, message));
    }

    fn pop(&mut self, now: Instant) -> Option<(usize, Message)> {
        let mut due = self.waiting.iter_mut();
        let (&(_, to), queue) =
            due.find(|(_, queue)| queue.front().is_some_and(|&(due, _)| due <= now))?;
        Some((to, queue.pop_front()?.1))
    }

    fn next(&self) -> Option<Instant> {
        let due = self.waiting.values().filter_map(|queue| queue.front());
        due.map(|&(due, _)| due).min()
    }
}

impl Server {
    fn worker_of(&self, path: Path) -> usize {
        if self.spread {
            usize::from(path.remote.port()) % self.workers.len()
        } else {
            0
        }
    }

    pub(crate) fn drain(&mut self, now: Instant) {
        for index in 0..self.workers.len() {
            while let Some((to, message)) = self.workers[index].poll_message() {
                let to = usize::from(to);
                match &mut self.queues {
                    Some(queues) => queues.push(now, index, to, message),
                    None => self.workers[to].handle_message(now, message),
                }
            }
            while let Some(event) = self.workers[index].poll_event() {
                self.events.push(event);
            }
        }
    }

    fn deliver(&mut self, now: Instant) {
        while let Some((to, message)) = self.queues.as_mut().and_then(|queues| queues.pop(now)) {
            self.workers[to].handle_message(now, message);
            self.drain(now);
        }
    }
}

impl Endpoint for Server {
    fn handle_datagram(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]) {
        if let Some((busy, _)) = &mut self.late {
            let arrival = Arrival { path, ecn, at: now };
            busy.unread.push_back((arrival, datagram.to_vec()));
            return;
        }
        let index = self.worker_of(path);
        self.workers[index].handle_datagram(now, path, ecn, datagram);
        self.drain(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some((busy, is_told)) = &mut self.late
            && let Some((mut arrival, mut datagram)) = busy.read(now)
        {
            if !*is_told {
                arrival.at = now;
            }
            let index = self.worker_of(arrival.path);
            self.workers[index].handle_arrival(now, arrival, &mut datagram);
        }
        self.deliver(now);
        for worker in &mut self.workers {
            worker.handle_timeout(now);
        }
        self.drain(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let workers = self.workers.iter().filter_map(Worker::poll_timeout);
        let busy = self.late.as_ref().map(|(busy, _)| busy.reads_at);
        let queues = self.queues.as_ref().and_then(Queues::next);
        workers.chain(busy).chain(queues).min()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        for index in 0..self.workers.len() {
            if let Some(transmit) = self.workers[index].poll_transmit(now, out) {
                return Some(transmit);
            }
            self.drain(now);
        }
        None
    }
}

/// What arrived of one source.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) recovered: u64,
    /// Extended numbers that came, of the latest while.
    pub(crate) numbers: BTreeMap<u64, (u32, Option<u16>, usize)>,
    highest: Option<u64>,
    pub(crate) last: Option<Instant>,
    pub(crate) keyframes: u64,
}

impl Arrived {
    /// Numbers between the first and the last that never came.
    pub(crate) fn gaps(&self) -> u64 {
        let (Some((first, _)), Some((last, _))) = (
            self.numbers.first_key_value(),
            self.numbers.last_key_value(),
        ) else {
            return 0;
        };
        last - first + 1 - self.numbers.len() as u64
    }
}

/// One encoding that a client sends.
pub(crate) struct Sending {
    transceiver: TransceiverId,
    encoding: usize,
    codec: Codec,
    packetizer: Box<dyn Packetizer + Send>,
    pub(crate) frame: usize,
    interval: Duration,
    next: Instant,
    sequence: u16,
    timestamp: u32,
    wants_key: bool,
    frames: u32,
    pub(crate) active: bool,
    pub(crate) sent: u64,
    pub(crate) keyframes: u64,
}

/// A participant.
pub(crate) struct Client {
    pub(crate) pc: PeerConnection,
    pub(crate) events: Vec<PeerEvent>,
    pub(crate) sending: Vec<Sending>,
    pub(crate) arrived: HashMap<TransceiverId, Arrived>,
    pub(crate) keep: bool,
    /// Encodings that do not send by themselves.
    pub(crate) resting: Vec<Sending>,
    /// Whether its machine is busy.
    pub(crate) busy: Option<Busy>,
    /// What it sends besides, packet by packet.
    pub(crate) replay: VecDeque<Replayed>,
    /// What came, whole, where that is kept.
    pub(crate) packets: Option<Vec<(Instant, Vec<u8>)>>,
}

/// A packet of a recording, and when it leaves.
pub(crate) struct Replayed {
    pub(crate) at: Instant,
    pub(crate) transceiver: TransceiverId,
    /// The codec's name.
    pub(crate) codec: &'static str,
    pub(crate) marker: bool,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) descriptor: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
}

impl Client {
    /// Sends what of the recording is due.
    fn send_replay(&mut self, now: Instant) {
        while self.replay.front().is_some_and(|packet| packet.at <= now)
            && let Some(packet) = self.replay.pop_front()
        {
            let transceiver = self.pc.transceiver(packet.transceiver).unwrap();
            let codecs = &transceiver.sender.codecs;
            let found = codecs.iter().find(|codec| codec.is(packet.codec));
            let descriptor = packet.descriptor.as_deref();
            let extensions = descriptor.map(|data| (ExtensionKind::DependencyDescriptor, data));
            let outgoing = OutgoingRtp {
                payload_type: found.unwrap().payload_type,
                marker: packet.marker,
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                extensions: extensions.as_slice(),
                payload: &packet.payload,
                ..OutgoingRtp::default()
            };
            self.pc
                .send_rtp(now, packet.transceiver, 0, &outgoing)
                .unwrap();
        }
    }
}

/// A machine that keeps a program from reading its socket about once a second, for 100 to 300 ms, and then lets it
/// read one datagram every few milliseconds.
pub(crate) struct Busy {
    unread: VecDeque<(Arrival, Vec<u8>)>,
    reads_at: Instant,
    random: Random,
}

impl Busy {
    pub(crate) fn new(now: Instant, seed: u64) -> Self {
        Self {
            unread: VecDeque::new(),
            reads_at: now,
            random: Random::from_u64(seed),
        }
    }

    /// What is read now.
    fn read(&mut self, now: Instant) -> Option<(Arrival, Vec<u8>)> {
        if now < self.reads_at {
            return None;
        }
        let mut millis = self.random.unit() * 4.0;
        if self.unread.len() < 2 && self.random.chance(0.005) {
            millis = 100.0 + 200.0 * self.random.unit();
        }
        self.reads_at = now + Duration::from_secs_f64(millis / 1e3);
        self.unread.pop_front()
    }
}

impl Client {
    fn drain(&mut self) {
        while let Some(event) = self.pc.poll_event() {
            if let PeerEvent::KeyFrameRequested {
                transceiver,
                encoding,
            } = event
            {
                for sending in &mut self.sending {
                    sending.wants_key |=
                        sending.transceiver == transceiver && sending.encoding == encoding;
                }
            }
            if self.events.len() < 1000 {
                self.events.push(event);
            }
        }
    }

    pub(crate) fn connected(&self) -> bool {
        self.pc.connection_state() == ConnectionState::Connected
    }

    pub(crate) fn send_frames(&mut self, now: Instant) {
        for sending in &mut self.sending {
            while sending.next <= now {
                sending.next += sending.interval;
                if sending.active {
                    sending.send_frame(&mut self.pc, now);
                }
            }
        }
    }
}

impl Sending {
    fn send_frame(&mut self, pc: &mut PeerConnection, now: Instant) {
        let is_key = std::mem::take(&mut self.wants_key) || self.frames == 0;
        self.keyframes += u64::from(is_key);
        let mut frame = vec![0x55; if is_key { self.frame * 2 } else { self.frame }];
        // VP8's first byte: bit 0 is 0 for key frames.
        frame[0] = if is_key { 0x10 } else { 0x11 };
        let temporal = match self.frames % 4 {
            0 => 0,
            2 => 1,
            _ => 2,
        };
        let params = FrameParams {
            temporal_id: (self.codec == Codec::Vp8).then_some(if is_key { 0 } else { temporal }),
            switching_point: true,
            ..FrameParams::plain(is_key)
        };
        self.frames += 1;
        let Some(transceiver) = pc.transceiver(self.transceiver) else {
            return;
        };
        let codec = transceiver
            .sender
            .codecs
            .iter()
            .find(|codec| codec.is(self.codec.name()));
        let Some(payload_type) = codec.map(|codec| codec.payload_type) else {
            return;
        };
        let ticks = self.interval.as_micros() as u64
            * if self.codec == Codec::Opus { 48 } else { 90 }
            / 1000;
        self.timestamp = self.timestamp.wrapping_add(ticks as u32);
        self.packetizer.start(&frame, &params, 1100).unwrap();
        let mut payload = [0; 1200];
        while let Some(fragment) = self.packetizer.next_payload(&frame, &mut payload).unwrap() {
            let level: &[u8] = &[20];
            let extensions = [(ExtensionKind::AudioLevel, level)];
            let packet = OutgoingRtp {
                payload_type,
                marker: fragment.marker,
                sequence: self.sequence,
                timestamp: self.timestamp,
                extensions: if self.codec == Codec::Opus {
                    &extensions
                } else {
                    &[]
                },
                payload: &payload[..fragment.len],
                ..OutgoingRtp::default()
            };
            if pc
                .send_rtp(now, self.transceiver, self.encoding, &packet)
                .is_ok()
            {
                self.sent += 1;
            }
            self.sequence = self.sequence.wrapping_add(1);
        }
    }
}

impl Client {
    fn receive(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]) {
        if let Received::Rtp(rtp) = self.pc.handle_datagram_with_ecn(now, path, ecn, datagram) {
            let packet = visavis_rtp::Packet::parse(&datagram[rtp.packet.clone()]).unwrap();
            if let Some(packets) = &mut self.packets {
                packets.push((now, packet.as_bytes().to_vec()));
            }
            let arrived = self.arrived.entry(rtp.transceiver).or_default();
            arrived.packets += 1;
            arrived.bytes += packet.as_bytes().len() as u64;
            arrived.recovered += u64::from(rtp.recovered);
            arrived.last = Some(now);
            let highest = arrived
                .highest
                .unwrap_or(u64::from(packet.sequence().0) + 65_536);
            let step = packet.sequence().0.wrapping_sub(highest as u16) as i16;
            let number = highest.wrapping_add_signed(i64::from(step));
            arrived.highest = Some(highest.max(number));
            let picture = Vp8Descriptor::parse(packet.payload())
                .ok()
                .and_then(|(d, rest)| {
                    let begins = d.start_of_partition && d.partition == 0;
                    if begins && rest.first().is_some_and(|byte| byte & 1 == 0) {
                        arrived.keyframes += 1;
                    }
                    d.picture_id.map(|id| id.value)
                });
            if self.keep {
                let what = (packet.timestamp(), picture, packet.payload().len());
                arrived.numbers.insert(number, what);
            }
        }
        self.drain();
    }
}

impl Endpoint for Client {
    fn handle_datagram(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]) {
        match &mut self.busy {
            Some(busy) => {
                let arrival = Arrival { path, ecn, at: now };
                busy.unread.push_back((arrival, datagram.to_vec()));
            }
            None => self.receive(now, path, ecn, datagram),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let read = self.busy.as_mut().and_then(|busy| busy.read(now));
        if let Some((arrival, mut datagram)) = read {
            self.receive(now, arrival.path, arrival.ecn, &mut datagram);
        }
        self.send_frames(now);
        self.send_replay(now);
        self.pc.handle_timeout(now);
        self.drain();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let frames = self.sending.iter().map(|sending| sending.next).min();
        let busy = self.busy.as_ref().map(|busy| busy.reads_at);
        let replay = self.replay.front().map(|packet| packet.at);
        let all = [self.pc.poll_timeout(), frames, busy, replay];
        all.into_iter().flatten().min()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        let transmit = self.pc.poll_transmit(now, out);
        self.drain();
        transmit
    }
}

/// What stands on the network.
pub(crate) enum Node {
    Server(Box<Server>),
    Client(Box<Client>),
    /// A client that has left for good.
    Gone,
}

impl Endpoint for Node {
    fn handle_datagram(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]) {
        match self {
            Self::Server(node) => node.handle_datagram(now, path, ecn, datagram),
            Self::Client(node) => node.handle_datagram(now, path, ecn, datagram),
            Self::Gone => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Server(node) => node.handle_timeout(now),
            Self::Client(node) => node.handle_timeout(now),
            Self::Gone => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Server(node) => node.poll_timeout(),
            Self::Client(node) => node.poll_timeout(),
            Self::Gone => None,
        }
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        match self {
            Self::Server(node) => node.poll_transmit(now, out),
            Self::Client(node) => node.poll_transmit(now, out),
            Self::Gone => None,
        }
    }
}

/// A server and its clients.
pub(crate) struct Lab {
    pub(crate) driver: Driver<Node>,
    pub(crate) server: usize,
    pub(crate) hosts: Vec<HostId>,
    next: u64,
    seed: u64,
    certificates: Random,
    /// Where connections are that moved.
    homes: HashMap<ConnectionId, usize>,
    /// A certificate that all share: drawing one for each takes longer than the rest of a test.
    certificate: visavis_peer::Certificate,
}

/// A client and its connection at the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) node: usize,
    pub(crate) connection: ConnectionId,
    pub(crate) participant: ParticipantId,
    pub(crate) room: RoomId,
    pub(crate) uplink: LinkId,
    pub(crate) downlink: LinkId,
}

/// What a client offers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) microphone: bool,
    /// Simulcast encodings of the camera; 0 for none.
    pub(crate) camera: usize,
    /// Sections for receiving sound and pictures.
    pub(crate) sections: (usize, usize),
}

/// Sound, and pictures in three layers.
pub(crate) const PUBLISHER: Wants = Wants {
    microphone: true,
    camera: 3,
    sections: (0, 0),
};

/// Takes sound and pictures of others.
pub(crate) const VIEWER: Wants = Wants {
    microphone: false,
    camera: 0,
    sections: (1, 1),
};

pub(crate) fn wide(delay: u64) -> LinkConfig {
    LinkConfig::new().delay(Duration::from_millis(delay))
}

impl Lab {
    pub(crate) fn new(seed: u64, workers: u16) -> Self {
        Self::with(seed, workers, Limits::default(), Forwarding::default())
    }

    pub(crate) fn with(seed: u64, workers: u16, limits: Limits, forwarding: Forwarding) -> Self {
        eprintln!("seed {seed}");
        let mut simulation = Simulation::new(Instant::now(), seed);
        let address: SocketAddr = SERVER.parse().unwrap();
        let host = simulation.add_host_in(Simulation::INTERNET, "server", &[address.ip()], wide(0));
        let now = simulation.now();
        let mut random = Random::from_u64(seed);
        let certificate = visavis_peer::generate_certificate(
            visavis_peer::CertificateKind::EcdsaP256,
            Duration::from_secs(1_700_000_000),
            &mut random,
        )
        .unwrap();
        let workers = (0..workers)
            .map(|index| {
                let settings = Settings {
                    index,
                    workers,
                    addresses: vec![LocalAddress::udp(address)],
                    rewrites: Vec::new(),
                    certificate: certificate.clone(),
                    codecs: CodecTable::shared(),
                    limits,
                    forwarding,
                    wall_clock: Duration::from_secs(1_700_000_000),
                };
                Worker::new(settings, random.fork(), now)
            })
            .collect();
        let server = Server {
            workers,
            events: Vec::new(),
            spread: true,
            late: None,
            queues: None,
        };
        let mut driver = Driver::new(simulation);
        let server = driver.add(host, Node::Server(Box::new(server)));
        Self {
            driver,
            server,
            hosts: vec![host],
            next: 1,
            seed,
            certificates: random,
            homes: HashMap::new(),
            certificate,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.driver.now()
    }

    pub(crate) fn server(&mut self) -> &mut Server {
        match self.driver.endpoint_mut(self.server) {
            Node::Server(server) => server,
            Node::Client(_) | Node::Gone => unreachable!(),
        }
    }

    pub(crate) fn client(&mut self, member: Member) -> &mut Client {
        match self.driver.endpoint_mut(member.node) {
            Node::Client(client) => client,
            Node::Server(_) | Node::Gone => unreachable!(),
        }
    }

    /// Forgets a client that has said goodbye: long runs have many.
    pub(crate) fn forget(&mut self, member: Member) {
        *self.driver.endpoint_mut(member.node) = Node::Gone;
    }

    /// Which worker has a connection.
    pub(crate) fn home(&self, connection: ConnectionId) -> usize {
        let born = (connection.get() >> 48) as usize;
        self.homes.get(&connection).copied().unwrap_or(born)
    }

    pub(crate) fn worker(&mut self, connection: ConnectionId) -> &mut Worker {
        let index = self.home(connection);
        &mut self.server().workers[index]
    }

    /// Moves a connection to another worker.
    pub(crate) fn relocate(&mut self, member: Member, to: usize) {
        let (now, from) = (self.now(), self.home(member.connection));
        let server = self.server();
        let departs = server.workers[from].depart(now, member.connection, to as u16);
        server.workers[to].arrive(now, departs.unwrap());
        server.drain(now);
        self.homes.insert(member.connection, to);
    }

    /// What all workers hold: connections, tracks and images, subscriptions, and what they know of things elsewhere.
    pub(crate) fn held(&mut self) -> [u64; 5] {
        let stats = self.server().workers.iter().map(|worker| worker.stats());
        stats.fold([0; 5], |sum, stats| {
            [
                sum[0] + stats.connections,
                sum[1] + stats.tracks,
                sum[2] + stats.subscriptions,
                sum[3] + stats.tracks_elsewhere,
                sum[4] + stats.connections_elsewhere,
            ]
        })
    }

    /// A client comes, and both descriptions are exchanged.
    pub(crate) fn join(
        &mut self,
        worker: u16,
        room: u64,
        link: LinkConfig,
        wants: Wants,
    ) -> Member {
        let now = self.now();
        let number = self.next;
        self.next += 1;
        let ip = format!("203.0.{}.{}", 114 + number / 250, 1 + number % 250);
        let address: SocketAddr = format!("{ip}:{}", 5000 + number % 1000).parse().unwrap();
        let simulation = &mut self.driver.simulation;
        let host = simulation.add_host(&format!("client {number}"));
        let addresses = [address.ip()];
        let interface =
            simulation.attach(host, Simulation::INTERNET, &addresses, link.clone(), link);
        let [uplink, downlink] = simulation.interface_links(interface);
        let configuration = Configuration {
            certificates: vec![self.certificate.clone()],
            wall_clock: Duration::from_secs(1_700_000_000),
            media: MediaSettings {
                pacing: false,
                ..MediaSettings::default()
            },
            ..Configuration::default()
        };
        let random = Random::from_u64(self.seed * 1000 + number);
        let mut pc = PeerConnection::new(configuration, random, now).unwrap();
        pc.add_local_address(now, LocalAddress::udp(address))
            .unwrap();
        let mut client = Client {
            pc,
            events: Vec::new(),
            sending: Vec::new(),
            arrived: HashMap::new(),
            keep: true,
            resting: Vec::new(),
            busy: None,
            replay: VecDeque::new(),
            packets: None,
        };
        client.offer_media(now, wants);
        let node = self.driver.add(host, Node::Client(Box::new(client)));
        let (room, participant) = (RoomId(room), ParticipantId(number));
        let connection = connection_id(worker, number);
        let server = self.server();
        server.workers[usize::from(worker)]
            .create_connection(
                now,
                connection,
                room,
                participant,
                ConnectionConfig::default(),
            )
            .unwrap();
        let member = Member {
            node,
            connection,
            participant,
            room,
            uplink,
            downlink,
        };
        self.negotiate(member);
        member
    }

    /// The client offers, the server answers, and candidates cross.
    pub(crate) fn negotiate(&mut self, member: Member) {
        let now = self.now();
        let client = self.client(member);
        client.pc.set_local_description(now, None).unwrap();
        let offer = client.pc.local_description().unwrap();
        let worker = self.worker(member.connection);
        worker
            .set_remote_description(now, member.connection, &offer)
            .unwrap();
        let answer = worker.create_answer(now, member.connection).unwrap();
        let client = self.client(member);
        client.pc.set_remote_description(now, &answer).unwrap();
        client.drain();
        self.server().drain(now);
    }

    /// Publishes what a client sends: its tracks, sound first.
    pub(crate) fn publish(&mut self, member: Member) -> Vec<TrackId> {
        let now = self.now();
        let worker = self.worker(member.connection);
        let sections = worker.sections(member.connection).unwrap();
        let mut tracks = Vec::new();
        for section in sections.iter().filter(|section| section.receives) {
            let mut options = PublishOptions::default();
            if section.rids.len() > 1 {
                options.layers = [(320, 180), (640, 360), (1280, 720)]
                    .map(|(width, height)| LayerSize {
                        width,
                        height,
                        bitrate: 0,
                    })
                    .to_vec();
            }
            let track = worker.publish(now, member.connection, &section.mid, options);
            tracks.push(track.unwrap());
        }
        tracks
    }

    pub(crate) fn subscribe(&mut self, member: Member, track: TrackId) -> SubscriptionId {
        let now = self.now();
        let options = SubscribeOptions {
            stream: format!("s{}", track.get()),
            track: format!("t{}", track.get()),
            ..SubscribeOptions::default()
        };
        let worker = self.worker(member.connection);
        let made = worker
            .subscribe(now, track, member.connection, options)
            .unwrap();
        self.server().drain(now);
        made
    }

    /// Runs for so long.
    pub(crate) fn run(&mut self, seconds: f64) {
        let deadline = self.now() + Duration::from_secs_f64(seconds);
        self.driver.run_to(deadline);
    }

    /// Runs until `done`; whether that came within `seconds`.
    pub(crate) fn until(&mut self, seconds: f64, done: impl Fn(&mut Self) -> bool) -> bool {
        let deadline = self.now() + Duration::from_secs_f64(seconds);
        while self.now() < deadline {
            if done(self) {
                return true;
            }
            self.run(0.01);
        }
        done(self)
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.server().events)
    }
}

/// An id as the handle makes them.
pub(crate) fn connection_id(worker: u16, number: u64) -> ConnectionId {
    ConnectionId::from_parts(worker, number)
}

impl Client {
    fn offer_media(&mut self, now: Instant, wants: Wants) {
        if wants.microphone {
            let init = TransceiverInit {
                direction: Direction::SendOnly,
                streams: vec!["mine".into()],
                track: Some("mic".into()),
                ..TransceiverInit::default()
            };
            let id = self.pc.add_transceiver(Kind::Audio, init).unwrap();
            self.add_sending(now, id, 0, Codec::Opus, 100, 20_000);
        }
        if wants.camera > 0 {
            let rids = ["q", "h", "f"];
            let encodings = match wants.camera {
                1 => Vec::new(),
                count => rids[..count]
                    .iter()
                    .map(|&rid| Encoding::with_rid(rid))
                    .collect(),
            };
            let init = TransceiverInit {
                direction: Direction::SendOnly,
                streams: vec!["mine".into()],
                track: Some("cam".into()),
                send_encodings: encodings,
            };
            let id = self.pc.add_transceiver(Kind::Video, init).unwrap();
            for encoding in 0..wants.camera {
                let frame = [600, 2_000, 6_000][encoding];
                self.add_sending(now, id, encoding, Codec::Vp8, frame, 33_333);
            }
        }
        self.add_sections(wants.sections);
    }

    pub(crate) fn add_sections(&mut self, (audio, video): (usize, usize)) {
        for (kind, count) in [(Kind::Audio, audio), (Kind::Video, video)] {
            for _ in 0..count {
                let init = TransceiverInit {
                    direction: Direction::RecvOnly,
                    ..TransceiverInit::default()
                };
                self.pc.add_transceiver(kind, init).unwrap();
            }
        }
    }

    /// Of a section's codecs the client will offer those of these names, in this order.
    pub(crate) fn prefer(&mut self, id: TransceiverId, names: &[&str]) {
        let table = CodecTable::shared();
        let kind = self.pc.transceiver(id).unwrap().kind;
        let all = match kind {
            Kind::Audio => &table.audio,
            Kind::Video => &table.video,
        };
        let mut codecs = Vec::new();
        for name in names {
            codecs.extend(all.iter().filter(|codec| codec.is(name)).cloned());
        }
        if kind == Kind::Video {
            codecs.push(PeerCodec::new(kind, "rtx", 90_000, 0));
        }
        self.pc.set_codec_preferences(id, &codecs).unwrap();
    }

    pub(crate) fn add_sending(
        &mut self,
        now: Instant,
        transceiver: TransceiverId,
        encoding: usize,
        codec: Codec,
        frame: usize,
        micros: u64,
    ) {
        self.sending.push(Sending {
            transceiver,
            encoding,
            codec,
            packetizer: codec.packetizer().unwrap(),
            frame,
            interval: Duration::from_micros(micros),
            next: now + Duration::from_millis(100 + encoding as u64),
            sequence: (encoding as u16 + 1) * 20_000,
            timestamp: encoding as u32 * 1_000_000,
            wants_key: false,
            frames: 0,
            active: true,
            sent: 0,
            keyframes: 0,
        });
    }
}
