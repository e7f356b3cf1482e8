//! A STUN and TURN server for simulated networks, small and written against RFC 8489 and RFC 8656
//! alone: one long-term user, UDP and TCP towards clients, UDP towards peers.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Protocol, Segments, Transmit, TransmitBuf};
use visavis_netsim::{Endpoint, TcpCommand, TcpEvent};
use visavis_stun::attributes::{
    AddressFamily, AlternateServer, Channel, Data, ErrorCode, Lifetime, MobilityTicket, Nonce,
    Realm, RequestedAddressFamily, XorMappedAddress, XorPeerAddress, XorRelayedAddress,
};
use visavis_stun::{
    AttributeType, Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId,
    TransactionId, Verdict,
};

use super::stream::Deframer;

pub const USER: &str = "user";
pub const PASSWORD: &str = "password";
const REALM: &str = "example.org";
const NONCE: &str = "0123456789abcdef";

struct Allocation {
    /// One, or one of each family.
    relayed: Vec<SocketAddr>,
    /// The request that made it: repeated, it gets the same answer (RFC 8656 section 7.2).
    transaction: TransactionId,
    ticket: Vec<u8>,
    permissions: HashMap<IpAddr, Instant>,
    channels: HashMap<u16, SocketAddr>,
}

impl Allocation {
    fn towards(&self, peer: SocketAddr) -> SocketAddr {
        let fits = |relayed: &&SocketAddr| relayed.is_ipv4() == peer.is_ipv4();
        *self.relayed.iter().find(fits).unwrap()
    }
}

/// One server at every address of its host.
pub struct Server {
    /// Towards clients.
    pub addresses: Vec<SocketAddr>,
    next_port: u16,
    key: IntegrityKey,
    allocations: HashMap<Path, Allocation>,
    relays: HashMap<SocketAddr, Path>,
    streams: HashMap<Path, Deframer>,
    udp: VecDeque<(Path, Vec<u8>)>,
    tcp: VecDeque<TcpCommand>,
    ids: u64,
    /// Datagrams relayed, both ways.
    pub relayed: u64,
    /// Set: drops everything.
    pub dead: bool,
    /// Set: sends who asks for an allocation to another server (RFC 8489 section 10).
    pub alternate: Option<SocketAddr>,
    /// Whether allocations can move (RFC 8016).
    pub mobility: bool,
    /// Allocations that moved.
    pub moved: u64,
}

impl Server {
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        let tcp = addresses
            .iter()
            .map(|&address| TcpCommand::Listen(address))
            .collect();
        Self {
            addresses,
            next_port: 49152,
            key: IntegrityKey::long_term(USER, REALM, PASSWORD, PasswordAlgorithmId::MD5).unwrap(),
            allocations: HashMap::new(),
            relays: HashMap::new(),
            streams: HashMap::new(),
            udp: VecDeque::new(),
            tcp,
            ids: 0,
            relayed: 0,
            dead: false,
            alternate: None,
            mobility: false,
            moved: 0,
        }
    }

    /// Forgets every allocation, as a restarted server does.
    pub fn forget(&mut self) {
        self.allocations.clear();
        self.relays.clear();
    }

    /// Every address that peers send to.
    pub fn relay_addresses(&self) -> Vec<SocketAddr> {
        self.relays.keys().copied().collect()
    }

    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }

    fn send(&mut self, path: Path, bytes: Vec<u8>) {
        if path.protocol == Protocol::Udp {
            self.udp.push_back((path, bytes));
        } else {
            let mut bytes = bytes;
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            self.tcp.push_back(TcpCommand::Write(path, bytes));
        }
    }

    fn receive(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        if self.dead {
            return;
        }
        if let Some(&client) = self.relays.get(&path.local) {
            return self.receive_from_peer(now, client, path.remote, bytes);
        }
        if !self.addresses.contains(&path.local) {
            return;
        }
        if let [0x40..=0x4f, _, l0, l1, rest @ ..] = bytes {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            let len = usize::from(u16::from_be_bytes([*l0, *l1]));
            if let Some(allocation) = self.allocations.get(&path)
                && let Some(&peer) = allocation.channels.get(&number)
                && len <= rest.len()
            {
                let relayed = allocation.towards(peer);
                self.relayed += 1;
                self.send(Path::udp(relayed, peer), rest[..len].to_vec());
            }
            return;
        }
        if let Ok(message) = Message::parse(bytes) {
            match message.class() {
                Class::Request => self.request(now, path, &message),
                Class::Indication if message.method() == Method::SEND => {
                    let (Some(XorPeerAddress(peer)), Some(Data(data))) =
                        (message.get(), message.get::<Data<'_>>())
                    else {
                        return;
                    };
                    let data = data.to_vec();
                    if let Some(allocation) = self.allocations.get(&path)
                        && allocation
                            .permissions
                            .get(&peer.ip())
                            .is_some_and(|&until| until > now)
                    {
                        let relayed = allocation.towards(peer);
                        self.relayed += 1;
                        self.send(Path::udp(relayed, peer), data);
                    }
                }
                _ => {}
            }
        }
    }

    fn receive_from_peer(&mut self, now: Instant, client: Path, peer: SocketAddr, bytes: &[u8]) {
        let Some(allocation) = self.allocations.get(&client) else {
            return;
        };
        if allocation
            .permissions
            .get(&peer.ip())
            .is_none_or(|&until| until <= now)
        {
            return;
        }
        self.relayed += 1;
        let channel = allocation
            .channels
            .iter()
            .find(|(_, bound)| **bound == peer)
            .map(|(&number, _)| number);
        let mut out = vec![0; bytes.len() + 64];
        let len = match channel {
            Some(number) => {
                out[..2].copy_from_slice(&number.to_be_bytes());
                out[2..4].copy_from_slice(&(bytes.len() as u16).to_be_bytes());
                out[4..4 + bytes.len()].copy_from_slice(bytes);
                4 + bytes.len()
            }
            None => {
                self.ids += 1;
                let mut id = [0; 12];
                id[..8].copy_from_slice(&self.ids.to_be_bytes());
                MessageBuilder::new(&mut out, Class::Indication, Method::DATA, TransactionId(id))
                    .add(&XorPeerAddress(peer))
                    .add(&Data(bytes))
                    .finish()
                    .unwrap()
            }
        };
        out.truncate(len);
        self.send(client, out);
    }

    fn request(&mut self, now: Instant, path: Path, message: &Message<'_>) {
        let mut out = vec![0; 512];
        let mut finish = |class, build: &dyn Fn(&mut MessageBuilder<'_>)| {
            let mut builder = MessageBuilder::response(&mut out, class, message);
            build(&mut builder);
            builder.finish().unwrap()
        };
        let ok = Class::Success;
        if message.method() == Method::BINDING {
            let len = finish(ok, &|b| {
                b.add(&XorMappedAddress(path.remote)).fingerprint();
            });
            out.truncate(len);
            return self.send(path, out);
        }
        if message.check_integrity(&self.key) != Verdict::Valid {
            let len = finish(Class::Error, &|b| {
                b.add(&ErrorCode::UNAUTHENTICATED)
                    .add(&Realm(REALM))
                    .add(&Nonce(NONCE.as_bytes()));
            });
            out.truncate(len);
            return self.send(path, out);
        }
        if let Some(alternate) = self
            .alternate
            .filter(|_| message.method() == Method::ALLOCATE)
        {
            let key = self.key.clone();
            let len = finish(Class::Error, &|b| {
                b.add(&ErrorCode::TRY_ALTERNATE)
                    .add(&AlternateServer(alternate))
                    .integrity(&key);
            });
            out.truncate(len);
            return self.send(path, out);
        }
        let ticket = message.get::<MobilityTicket<'_>>().map(|t| t.0.to_vec());
        if let Some(ticket) = ticket
            .as_ref()
            .filter(|_| message.method() == Method::REFRESH)
            && let Some(old) = self
                .allocations
                .iter()
                .find(|(_, allocation)| allocation.ticket == *ticket)
                .map(|(old, _)| *old)
            && let Some(allocation) = self.allocations.remove(&old)
        {
            for relay in &allocation.relayed {
                self.relays.insert(*relay, path);
            }
            self.allocations.insert(path, allocation);
            self.moved += 1;
        }
        let key = self.key.clone();
        let error = |code: &'static ErrorCode<'static>| {
            let key = key.clone();
            move |b: &mut MessageBuilder<'_>| {
                b.add(code).integrity(&key);
            }
        };
        let peers: Vec<SocketAddr> = message
            .all::<XorPeerAddress>()
            .flatten()
            .map(|peer| peer.0)
            .collect();
        let len = match message.method() {
            Method::ALLOCATE => {
                let repeated = self
                    .allocations
                    .get(&path)
                    .filter(|allocation| allocation.transaction == message.transaction())
                    .map(|allocation| allocation.relayed.clone());
                let tickets = self.mobility && ticket.is_some();
                if ticket.is_some() && !self.mobility {
                    finish(Class::Error, &error(&ErrorCode::MOBILITY_FORBIDDEN))
                } else if let Some(relayed) = repeated {
                    finish(ok, &|b| {
                        for &address in &relayed {
                            b.add(&XorRelayedAddress(address));
                        }
                        b.add(&XorMappedAddress(path.remote)).add(&Lifetime(600));
                        if tickets {
                            b.add(&MobilityTicket(&message.transaction().0));
                        }
                        b.integrity(&key);
                    })
                } else if self.allocations.contains_key(&path) {
                    finish(Class::Error, &error(&ErrorCode::ALLOCATION_MISMATCH))
                } else {
                    let port = self.next_port;
                    self.next_port += 1;
                    let own = |v4: bool| {
                        let ip = self
                            .addresses
                            .iter()
                            .map(SocketAddr::ip)
                            .find(|ip| ip.is_ipv4() == v4);
                        ip.map(|ip| SocketAddr::new(ip, port))
                    };
                    // RFC 8656 section 7.2: one family, or both by ADDITIONAL-ADDRESS-FAMILY.
                    let wanted = message
                        .get::<RequestedAddressFamily>()
                        .and_then(|family| family.family());
                    let both = message.has(AttributeType::ADDITIONAL_ADDRESS_FAMILY);
                    let v4 = own(true).filter(|_| wanted != Some(AddressFamily::V6));
                    let v6 = own(false).filter(|_| both || wanted == Some(AddressFamily::V6));
                    let relayed: Vec<SocketAddr> = [v4, v6].into_iter().flatten().collect();
                    for &address in &relayed {
                        self.relays.insert(address, path);
                    }
                    self.allocations.insert(
                        path,
                        Allocation {
                            relayed: relayed.clone(),
                            transaction: message.transaction(),
                            ticket: if tickets {
                                message.transaction().0.to_vec()
                            } else {
                                vec![0]
                            },
                            permissions: HashMap::new(),
                            channels: HashMap::new(),
                        },
                    );
                    finish(ok, &|b| {
                        for &address in &relayed {
                            b.add(&XorRelayedAddress(address));
                        }
                        b.add(&XorMappedAddress(path.remote)).add(&Lifetime(600));
                        if tickets {
                            b.add(&MobilityTicket(&message.transaction().0));
                        }
                        b.integrity(&key);
                    })
                }
            }
            _ if !self.allocations.contains_key(&path) => {
                finish(Class::Error, &error(&ErrorCode::ALLOCATION_MISMATCH))
            }
            Method::REFRESH => {
                let lifetime = message.get::<Lifetime>().map_or(600, |lifetime| lifetime.0);
                if lifetime == 0
                    && let Some(allocation) = self.allocations.remove(&path)
                {
                    allocation.relayed.iter().for_each(|address| {
                        self.relays.remove(address);
                    });
                }
                finish(ok, &|b| {
                    b.add(&Lifetime(lifetime));
                    if let Some(ticket) = &ticket {
                        b.add(&MobilityTicket(ticket));
                    }
                    b.integrity(&key);
                })
            }
            Method::CREATE_PERMISSION => {
                let allocation = self.allocations.get_mut(&path).unwrap();
                for peer in peers {
                    allocation
                        .permissions
                        .insert(peer.ip(), now + Duration::from_secs(300));
                }
                finish(ok, &|b| {
                    b.integrity(&key);
                })
            }
            Method::CHANNEL_BIND => {
                let allocation = self.allocations.get_mut(&path).unwrap();
                if let (Some(&peer), Some(channel)) = (peers.first(), message.get::<Channel>()) {
                    allocation
                        .permissions
                        .insert(peer.ip(), now + Duration::from_secs(300));
                    allocation.channels.insert(channel.number, peer);
                }
                finish(ok, &|b| {
                    b.integrity(&key);
                })
            }
            _ => finish(Class::Error, &error(&ErrorCode::BAD_REQUEST)),
        };
        out.truncate(len);
        self.send(path, out);
    }
}

impl Endpoint for Server {
    fn handle_datagram(&mut self, now: Instant, path: Path, _: Ecn, datagram: &mut [u8]) {
        self.receive(now, path, datagram);
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        let (path, bytes) = self.udp.pop_front()?;
        assert!(out.push(&bytes));
        let segments = Segments {
            segment_size: bytes.len(),
            len: bytes.len(),
        };
        Some(Transmit::new(path, Ecn::NotEct, segments))
    }

    fn handle_tcp(&mut self, now: Instant, path: Path, event: TcpEvent) {
        match event {
            TcpEvent::Accepted => {
                self.streams.insert(path, Deframer::turn());
            }
            TcpEvent::Data(bytes) => {
                let Some(stream) = self.streams.get_mut(&path) else {
                    return;
                };
                stream.push(&bytes);
                let mut frames = Vec::new();
                while let Some(frame) = stream.next_frame() {
                    frames.push(frame);
                }
                for frame in frames {
                    self.receive(now, path, &frame);
                }
            }
            TcpEvent::Finished | TcpEvent::Reset | TcpEvent::TimedOut | TcpEvent::Refused => {
                self.streams.remove(&path);
                if let Some(allocation) = self.allocations.remove(&path) {
                    allocation.relayed.iter().for_each(|address| {
                        self.relays.remove(address);
                    });
                }
            }
            _ => {}
        }
    }

    fn poll_tcp(&mut self, _: Instant) -> Option<TcpCommand> {
        self.tcp.pop_front()
    }
}
