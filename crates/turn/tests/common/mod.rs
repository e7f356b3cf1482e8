//! A server, its driver and the network around it, without a socket: what everybody sent stands in lists.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Path, Protocol, Random, TransmitBuf};
use visavis_stun::attributes::{
    Channel, ErrorCode, Lifetime, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm as RealmName,
    RequestedTransport, Username, XorPeerAddress, XorRelayedAddress,
};
use visavis_stun::{
    ChannelNumber, Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId,
    TransactionId, Verdict, channel_data_header,
};
use visavis_turn::server::{
    CLIENT_HEADROOM, CLIENT_TAILROOM, Command, Credentials, Forward, Realm, RelayAddress, Server,
    ServerConfig,
};

pub const USER: &str = "alice";
pub const PASSWORD: &str = "correct horse";
pub const REALM: &str = "visavis";

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A datagram on its way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToPeer {
    pub relay: SocketAddr,
    pub peer: SocketAddr,
    pub payload: Vec<u8>,
}

pub struct World {
    pub now: Instant,
    pub server: Server,
    pub random: Random,
    pub open: BTreeSet<SocketAddr>,
    pub to_peers: Vec<ToPeer>,
    pub to_clients: Vec<(Path, Vec<u8>)>,
    pub commands: Vec<Command>,
    /// The driver fails to bind so many sockets.
    pub refuse_sockets: u32,
    out: TransmitBuf,
}

pub fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.realms = vec![Realm::new(
        REALM,
        Credentials::new()
            .user(USER, PASSWORD)
            .user("bob", "bob's password")
            .secret(b"shared secret"),
    )];
    config.relays = vec![
        RelayAddress::new("5.5.5.5".parse().unwrap()),
        RelayAddress::new("2a00:5::5".parse().unwrap()),
    ];
    config.listening = vec![address("5.5.5.5:3478"), address("[2a00:5::5]:3478")];
    config
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: ServerConfig) -> Self {
        let now = Instant::now();
        Self {
            now,
            server: Server::new(now, 1_800_000_000, config, Random::from_u64(1)),
            random: Random::from_u64(2),
            open: BTreeSet::new(),
            to_peers: Vec::new(),
            to_clients: Vec::new(),
            commands: Vec::new(),
            refuse_sockets: 0,
            out: TransmitBuf::new(1, 2000),
        }
    }

    /// A client's bytes arrive at the server.
    pub fn client_sends(&mut self, from: Path, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let forward = self.server.handle_client(self.now, from, &mut bytes);
        self.forward(forward, &bytes);
        self.pump();
    }

    /// A peer's bytes arrive at a relay socket.
    pub fn peer_sends(&mut self, peer: SocketAddr, relay: SocketAddr, payload: &[u8]) {
        if !self.open.contains(&relay) {
            return;
        }
        // Dirt all around, which must not show.
        let mut buffer = vec![0xdd; CLIENT_HEADROOM + payload.len() + CLIENT_TAILROOM];
        let range = CLIENT_HEADROOM..CLIENT_HEADROOM + payload.len();
        buffer[range.clone()].copy_from_slice(payload);
        let forward = self
            .server
            .handle_peer(self.now, relay, peer, &mut buffer, range);
        self.forward(forward, &buffer);
        self.pump();
    }

    fn forward(&mut self, forward: Option<Forward>, bytes: &[u8]) {
        match forward {
            Some(Forward::ToPeer {
                relay,
                peer,
                payload,
                ..
            }) => {
                assert!(self.open.contains(&relay), "from a socket that is not open");
                let payload = bytes[payload].to_vec();
                if self.open.contains(&peer) {
                    return self.peer_sends(relay, peer, &payload);
                }
                self.to_peers.push(ToPeer {
                    relay,
                    peer,
                    payload,
                });
            }
            Some(Forward::ToClient { path, datagram }) => {
                self.to_clients.push((path, bytes[datagram].to_vec()));
            }
            None => {}
        }
    }

    /// Does what the server wants done.
    pub fn pump(&mut self) {
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::OpenRelay { relay, .. } => {
                    let opened = self.refuse_sockets == 0;
                    self.refuse_sockets = self.refuse_sockets.saturating_sub(1);
                    if opened {
                        assert!(self.open.insert(relay), "bound twice: {relay}");
                    }
                    self.server.relay_opened(self.now, relay, opened);
                }
                Command::CloseRelay { relay } => {
                    self.open.remove(&relay);
                }
                command => self.commands.push(command),
            }
        }
        while let Some(transmit) = self.server.poll_transmit(self.now, &mut self.out) {
            let bytes = self.out.as_slice().to_vec();
            self.to_clients.push((transmit.path(), bytes));
            self.out.clear();
        }
    }

    pub fn advance(&mut self, time: Duration) {
        self.now += time;
        while self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
        }
        self.pump();
    }

    /// The answer that was sent to a client last, and only one was.
    pub fn answer(&mut self, path: Path) -> Vec<u8> {
        let mut answers: Vec<_> = self.to_clients.drain(..).collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let (to, bytes) = answers.remove(0);
        assert_eq!(to, path);
        bytes
    }
}

/// A client that says what it is told to: honest messages, and all the others.
pub struct Raw {
    /// The server's view.
    pub path: Path,
    pub user: String,
    pub realm: String,
    pub nonce: Vec<u8>,
    pub key: IntegrityKey,
    /// PASSWORD-ALGORITHMS as offered, and SHA-256 taken.
    pub algorithms: Option<Vec<u8>>,
}

impl Raw {
    pub fn new(remote: &str) -> Self {
        Self::on(Protocol::Udp, remote)
    }

    pub fn on(protocol: Protocol, remote: &str) -> Self {
        let remote = address(remote);
        let local = if remote.is_ipv4() {
            address("5.5.5.5:3478")
        } else {
            address("[2a00:5::5]:3478")
        };
        let mut raw = Self {
            path: Path {
                protocol,
                local,
                remote,
            },
            user: USER.to_owned(),
            realm: REALM.to_owned(),
            nonce: Vec::new(),
            key: IntegrityKey::short_term(""),
            algorithms: None,
        };
        raw.set_password(PASSWORD);
        raw
    }

    pub fn set_user(&mut self, user: &str, password: &str) {
        self.user = user.to_owned();
        self.set_password(password);
    }

    pub fn set_password(&mut self, password: &str) {
        let md5 = PasswordAlgorithmId::MD5;
        self.key = IntegrityKey::long_term(&self.user, &self.realm, password, md5).unwrap();
    }

    /// A request as `add` says, with credentials and integrity behind.
    pub fn build(
        &self,
        method: Method,
        id: TransactionId,
        add: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let mut buffer = vec![0; 3000];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
        add(&mut builder);
        if !self.nonce.is_empty() {
            builder
                .add(&Username(&self.user))
                .add(&RealmName(&self.realm))
                .add(&Nonce(&self.nonce));
            match &self.algorithms {
                Some(algorithms) => {
                    builder
                        .add(&PasswordAlgorithms(algorithms))
                        .add(&PasswordAlgorithm::new(PasswordAlgorithmId::SHA256))
                        .integrity_sha256(&self.key);
                }
                None => {
                    builder.integrity(&self.key);
                }
            }
        }
        let len = builder.finish().unwrap();
        buffer.truncate(len);
        buffer
    }

    /// Sends a request and gives the answer's bytes; checks that a success is signed.
    pub fn ask(
        &self,
        world: &mut World,
        method: Method,
        add: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let id = TransactionId::random(&mut world.random);
        let request = self.build(method, id, add);
        world.client_sends(self.path, &request);
        let answer = world.answer(self.path);
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.transaction(), id);
        assert_eq!(message.method(), method);
        if message.class() == Class::Success && method != Method::BINDING {
            assert_eq!(message.authenticate(&self.key), Verdict::Valid);
        }
        answer
    }

    /// As [`ask`](Self::ask): the error code, or 0 for success.
    pub fn code(
        &self,
        world: &mut World,
        method: Method,
        add: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> u16 {
        let answer = self.ask(world, method, add);
        code(&answer)
    }

    /// Fetches a nonce.
    pub fn challenge(&mut self, world: &mut World) {
        self.nonce.clear();
        let answer = self.ask(world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP).add(&Lifetime(600));
        });
        let message = Message::parse(&answer).unwrap();
        assert_eq!(code(&answer), 401);
        self.nonce = message.get::<Nonce<'_>>().unwrap().0.to_vec();
    }

    /// Fetches a nonce and allocates; the relayed address.
    pub fn allocate(&mut self, world: &mut World) -> SocketAddr {
        self.challenge(world);
        let answer = self.ask(world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP);
        });
        assert_eq!(code(&answer), 0);
        let message = Message::parse(&answer).unwrap();
        message.get::<XorRelayedAddress>().unwrap().0
    }

    pub fn permit(&self, world: &mut World, peer: &str) -> u16 {
        self.code(world, Method::CREATE_PERMISSION, |b| {
            b.add(&XorPeerAddress(address(peer)));
        })
    }

    pub fn bind(&self, world: &mut World, number: u16, peer: &str) -> u16 {
        self.code(world, Method::CHANNEL_BIND, |b| {
            b.add(&Channel { number })
                .add(&XorPeerAddress(address(peer)));
        })
    }

    pub fn refresh(&self, world: &mut World, lifetime: u32) -> u16 {
        self.code(world, Method::REFRESH, |b| {
            b.add(&Lifetime(lifetime));
        })
    }

    pub fn send(&self, world: &mut World, peer: &str, payload: &[u8]) {
        let id = TransactionId::random(&mut world.random);
        let mut buffer = vec![0; 2000];
        let len = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, id)
            .add(&XorPeerAddress(address(peer)))
            .add(&visavis_stun::attributes::Data(payload))
            .finish()
            .unwrap();
        world.client_sends(self.path, &buffer[..len]);
    }

    pub fn send_channel(&self, world: &mut World, number: u16, payload: &[u8]) {
        let channel = ChannelNumber::new(number).unwrap();
        let mut bytes = channel_data_header(channel, payload.len() as u16).to_vec();
        bytes.extend_from_slice(payload);
        world.client_sends(self.path, &bytes);
    }
}

/// The error code of an answer, or 0.
pub fn code(answer: &[u8]) -> u16 {
    let message = Message::parse(answer).unwrap();
    match message.class() {
        Class::Success => 0,
        _ => message.get::<ErrorCode<'_>>().unwrap().code,
    }
}
