//! The TURN server's core: relaying and allocating.

use std::net::SocketAddr;
use std::time::Instant;

use bench_crypto::Contestant;
use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_stun::attributes::{
    Channel, Lifetime, Nonce, Realm as RealmName, RequestedTransport, Username, XorPeerAddress,
};
use visavis_stun::{
    Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId, TransactionId,
};
use visavis_turn::server::{
    CLIENT_HEADROOM, CLIENT_TAILROOM, Command, Credentials, Forward, Realm, RelayAddress, Server,
    ServerConfig,
};

/// Payload bytes of a relayed datagram.
const PAYLOAD: usize = 1200;

struct World {
    server: Server,
    now: Instant,
    key: IntegrityKey,
    out: TransmitBuf,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut config = ServerConfig::default();
        let users = Credentials::new().user("alice", "password");
        config.realms = vec![Realm::new("visavis", users)];
        config.relays = vec![RelayAddress::new([5, 5, 5, 5].into())];
        config.limits.allocations_per_user = usize::MAX;
        config.limits.challenges_per_second = 1e9;
        let md5 = PasswordAlgorithmId::MD5;
        Self {
            server: Server::new(now, 0, config, Random::from_u64(1)),
            now,
            key: IntegrityKey::long_term("alice", "visavis", "password", md5).expect("MD5"),
            out: TransmitBuf::new(1, 1500),
        }
    }

    fn client(n: u32) -> Path {
        let remote = SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 1000);
        Path::udp(SocketAddr::new([5, 5, 5, 5].into(), 3478), remote)
    }

    /// Sends a request; the relayed address's socket opens at once.
    fn ask(&mut self, from: Path, request: &mut [u8]) {
        self.server.handle_client(self.now, from, request);
        while let Some(command) = self.server.poll_command() {
            if let Command::OpenRelay { relay, .. } = command {
                self.server.relay_opened(self.now, relay, true);
            }
        }
        self.out.clear();
        let answered = self.server.poll_transmit(self.now, &mut self.out);
        assert!(answered.is_some());
    }

    fn request(
        &self,
        method: Method,
        nonce: &[u8],
        add: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let mut buffer = vec![0; 400];
        let id = TransactionId([method.number() as u8; 12]);
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
        add(&mut builder);
        if !nonce.is_empty() {
            builder
                .add(&Username("alice"))
                .add(&RealmName("visavis"))
                .add(&Nonce(nonce))
                .integrity(&self.key);
        }
        let len = builder.finish().expect("it fits");
        buffer.truncate(len);
        buffer
    }

    fn nonce(&mut self, from: Path) -> Vec<u8> {
        let mut request = self.request(Method::ALLOCATE, &[], |b| {
            b.add(&RequestedTransport::UDP);
        });
        self.ask(from, &mut request);
        let answer = Message::parse(self.out.as_slice()).expect("an answer");
        answer.get::<Nonce<'_>>().expect("a nonce").0.to_vec()
    }

    /// Allocates and binds a channel to a peer; the relay address.
    fn allocate(&mut self, from: Path, peer: Option<SocketAddr>) -> SocketAddr {
        let nonce = self.nonce(from);
        let mut request = self.request(Method::ALLOCATE, &nonce, |b| {
            b.add(&RequestedTransport::UDP);
        });
        self.ask(from, &mut request);
        let info = self
            .server
            .allocations(self.now)
            .find(|info| info.client == from);
        let relay = info.expect("an allocation").relayed[0];
        if let Some(peer) = peer {
            self.bind(from, peer);
        }
        relay
    }

    fn bind(&mut self, from: Path, peer: SocketAddr) {
        let nonce = self.nonce(from);
        let mut request = self.request(Method::CHANNEL_BIND, &nonce, |b| {
            b.add(&Channel { number: 0x4000 })
                .add(&XorPeerAddress(peer));
        });
        self.ask(from, &mut request);
    }
}

fn channel_data() -> Vec<u8> {
    let mut bytes = vec![0x40, 0, (PAYLOAD >> 8) as u8, PAYLOAD as u8];
    bytes.resize(4 + PAYLOAD, 7);
    bytes
}

/// The rows: what is done, and who does it.
pub(crate) fn rows() -> Vec<(&'static str, Contestant<'static>)> {
    vec![
        (
            "TURN: ChannelData to a peer, one client in a burst",
            to_peer(1),
        ),
        (
            "TURN: ChannelData to peers, 1000 clients in turn",
            to_peer(1000),
        ),
        (
            "TURN: a peer's datagram to ChannelData, 1000 clients in turn",
            to_client(1000),
        ),
        (
            "TURN: ChannelData from client to client",
            client_to_client(),
        ),
        (
            "TURN: Allocate, and Refresh with lifetime 0",
            allocate_and_release(),
        ),
        ("TURN: 401 to a stranger", challenge()),
    ]
}

fn peer(n: u32) -> SocketAddr {
    SocketAddr::new([8, 8, 8, 8].into(), 2000 + (n % 60_000) as u16)
}

fn to_peer(clients: u32) -> Contestant<'static> {
    let mut world = World::new();
    for n in 0..clients {
        world.allocate(World::client(n), Some(peer(n)));
    }
    let (mut datagram, mut n) = (channel_data(), 0);
    Contestant::new("visavis", move || {
        n = (n + 1) % clients;
        let forward = world
            .server
            .handle_client(world.now, World::client(n), &mut datagram);
        assert!(matches!(forward, Some(Forward::ToPeer { .. })));
    })
}

fn to_client(clients: u32) -> Contestant<'static> {
    let mut world = World::new();
    let relays: Vec<_> = (0..clients)
        .map(|n| world.allocate(World::client(n), Some(peer(n))))
        .collect();
    let mut buffer = vec![7; CLIENT_HEADROOM + PAYLOAD + CLIENT_TAILROOM];
    let payload = CLIENT_HEADROOM..CLIENT_HEADROOM + PAYLOAD;
    let mut n = 0;
    Contestant::new("visavis", move || {
        n = (n + 1) % clients;
        let (relay, peer) = (relays[n as usize], peer(n));
        let forward =
            world
                .server
                .handle_peer(world.now, relay, peer, &mut buffer, payload.clone());
        assert!(matches!(forward, Some(Forward::ToClient { .. })));
    })
}

fn client_to_client() -> Contestant<'static> {
    let mut world = World::new();
    let (a, b) = (World::client(1), World::client(2));
    let (relay_a, relay_b) = (world.allocate(a, None), world.allocate(b, None));
    world.bind(a, relay_b);
    world.bind(b, relay_a);
    let mut datagram = channel_data();
    Contestant::new("visavis", move || {
        let forward = world.server.handle_client(world.now, a, &mut datagram);
        assert!(matches!(forward, Some(Forward::ToClient { .. })));
    })
}

fn allocate_and_release() -> Contestant<'static> {
    let mut world = World::new();
    let clients: Vec<_> = (0..64)
        .map(|n| {
            let from = World::client(n);
            let nonce = world.nonce(from);
            let allocate = world.request(Method::ALLOCATE, &nonce, |b| {
                b.add(&RequestedTransport::UDP);
            });
            let release = world.request(Method::REFRESH, &nonce, |b| {
                b.add(&Lifetime(0));
            });
            (from, allocate, release)
        })
        .collect();
    let mut n = 0;
    Contestant::new("visavis", move || {
        n = (n + 1) % clients.len();
        let (from, allocate, release) = &clients[n];
        let mut buffer = [0; 400];
        for request in [allocate, release] {
            let request = {
                let slot = &mut buffer[..request.len()];
                slot.copy_from_slice(request);
                slot
            };
            world.ask(*from, request);
        }
        while world.server.poll_event().is_some() {}
        assert!(world.server.is_empty());
    })
}

fn challenge() -> Contestant<'static> {
    let mut world = World::new();
    let mut request = world.request(Method::ALLOCATE, &[], |b| {
        b.add(&RequestedTransport::UDP);
    });
    let mut n = 0;
    Contestant::new("visavis", move || {
        n = (n + 1) % 1_000_000;
        world.ask(World::client(n), &mut request);
    })
}
