//! Hostile clients and peers of a server: any bytes from several addresses, and authenticated requests around any attributes.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use visavis_datagram::{Path, Protocol, Random, TransmitBuf};
use visavis_stun::attributes::{
    Channel, Lifetime, Nonce, Realm as RealmName, RequestedTransport, Username, XorPeerAddress,
};
use visavis_stun::{
    AttributeType, Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId,
    TransactionId,
};
use visavis_turn::server::{
    CLIENT_HEADROOM, CLIENT_TAILROOM, Command, Credentials, Forward, Realm, RelayAddress, Server,
    ServerConfig,
};

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

fn check(forward: Option<Forward>, len: usize, open: &[SocketAddr]) {
    match forward {
        Some(Forward::ToPeer {
            relay,
            peer,
            payload,
            ..
        }) => {
            assert!(payload.end <= len && open.contains(&relay));
            assert!(!peer.ip().is_loopback() && !peer.ip().is_unspecified());
        }
        Some(Forward::ToClient { datagram, .. }) => assert!(datagram.end <= len),
        None => {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut now = Instant::now();
    let mut config = ServerConfig::default();
    config.realms = vec![Realm::new("r", Credentials::new().user("user", "password"))];
    config.relays = vec![
        RelayAddress::new("5.5.5.5".parse().unwrap()),
        RelayAddress::new("2a00::5".parse().unwrap()),
    ];
    config.listening = vec!["5.5.5.5:3478".parse().unwrap()];
    config.ports = 50_000..=50_015;
    config.tcp_relay = true;
    config.classic = true;
    config.other_address = Some("5.5.5.6:3479".parse().unwrap());
    let mut server = Server::new(now, 1, config, Random::from_u64(1));
    let mut out = TransmitBuf::new(1, 1500);
    let key = IntegrityKey::long_term("user", "r", "password", PasswordAlgorithmId::MD5).unwrap();
    let client = |which: u8| Path {
        protocol: if which & 1 == 0 {
            Protocol::Udp
        } else {
            Protocol::Tcp
        },
        local: "5.5.5.5:3478".parse().unwrap(),
        remote: SocketAddr::new([7, 7, 7, which >> 1 & 1].into(), 1000),
    };
    let mut nonces: [Vec<u8>; 4] = Default::default();
    let mut open: Vec<SocketAddr> = Vec::new();
    let mut id = [0u8; 12];
    while let Some(step) = input.byte() {
        let which = step >> 4 & 3;
        let path = client(which);
        match step & 15 {
            0 | 1 => {
                let length = input.byte().unwrap_or(0);
                let mut bytes = input.bytes(usize::from(length)).to_vec();
                check(
                    server.handle_client(now, path, &mut bytes),
                    bytes.len(),
                    &open,
                );
            }
            2..=8 => {
                let method = [
                    Method::ALLOCATE,
                    Method::REFRESH,
                    Method::CREATE_PERMISSION,
                    Method::CHANNEL_BIND,
                    Method::CONNECT,
                    Method::CONNECTION_BIND,
                    Method::BINDING,
                ][usize::from(step & 15) - 2];
                id[0] = id[0].wrapping_add(1);
                let mut buffer = [0; 2048];
                let id = TransactionId(id);
                let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
                match input.byte() {
                    Some(0) => drop(builder.add(&RequestedTransport::UDP)),
                    Some(1) => drop(builder.add(&RequestedTransport::TCP)),
                    Some(2) => drop(builder.add(&Lifetime(0))),
                    Some(n @ 3..=20) => {
                        let peer = SocketAddr::new([8, 8, 8, n & 3].into(), 1000);
                        let number = 0x4000 + u16::from(n >> 2);
                        builder.add(&XorPeerAddress(peer)).add(&Channel { number });
                    }
                    Some(n @ 21..=40) => {
                        let peer = SocketAddr::new([5, 5, 5, 5].into(), 50_000 + u16::from(n - 21));
                        builder
                            .add(&XorPeerAddress(peer))
                            .add(&Channel { number: 0x4009 });
                    }
                    _ => {
                        for _ in 0..3 {
                            let (Some(high), Some(low), Some(length)) =
                                (input.byte(), input.byte(), input.byte())
                            else {
                                break;
                            };
                            let kind = AttributeType(u16::from(high & 0x80) << 8 | u16::from(low));
                            builder.add_raw(kind, input.bytes(usize::from(length)));
                        }
                    }
                }
                let nonce = &nonces[usize::from(which)];
                builder
                    .add(&Username("user"))
                    .add(&RealmName("r"))
                    .add(&Nonce(nonce))
                    .integrity(&key);
                if let Ok(len) = builder.finish() {
                    check(
                        server.handle_client(now, path, &mut buffer[..len]),
                        len,
                        &open,
                    );
                }
            }
            9 => {
                now += Duration::from_secs(u64::from(input.byte().unwrap_or(0)) * 4);
                server.handle_timeout(now);
            }
            10 => server.client_gone(now, path),
            11 | 12 => {
                let Some(&relay) = open.get(usize::from(which)) else {
                    continue;
                };
                let last = input.byte().unwrap_or(0);
                let peer = SocketAddr::new([8, 8, 8, last & 3].into(), 1000);
                let payload = input.bytes(usize::from(last));
                let mut buffer = vec![0; CLIENT_HEADROOM];
                buffer.extend_from_slice(payload);
                let range = CLIENT_HEADROOM..buffer.len();
                buffer.resize(buffer.len() + CLIENT_TAILROOM, 0);
                check(
                    server.handle_peer(now, relay, peer, &mut buffer, range),
                    buffer.len(),
                    &open,
                );
            }
            13 => {
                let Some(&relay) = open.get(usize::from(which)) else {
                    continue;
                };
                let peer = SocketAddr::new([8, 8, 8, which].into(), 1000);
                if let Some(connection) = server.peer_accepted(now, relay, peer) {
                    server.peer_gone(connection);
                }
            }
            _ => server.drain(which == 0),
        }
        while let Some(command) = server.poll_command() {
            match command {
                Command::OpenRelay { relay, .. } => {
                    let opened = step & 0x80 == 0;
                    if opened {
                        assert!(!open.contains(&relay));
                        open.push(relay);
                    }
                    server.relay_opened(now, relay, opened);
                }
                Command::CloseRelay { relay } => open.retain(|other| *other != relay),
                Command::Connect { connection, .. } if step & 0x40 == 0 => {
                    server.peer_connected(now, connection);
                }
                Command::Connect { connection, .. } => server.peer_connect_failed(connection),
                _ => {}
            }
        }
        while let Some(transmit) = server.poll_transmit(now, &mut out) {
            let message = Message::parse_classic(out.as_slice()).expect("what we send parses");
            if let Some(nonce) = message.get::<Nonce>() {
                for which in 0..4 {
                    if client(which) == transmit.path() {
                        nonces[usize::from(which)] = nonce.0.to_vec();
                    }
                }
            }
            out.clear();
        }
        while server.poll_event().is_some() {}
        assert!(server.len() <= 5);
    }
    // After an hour and a bit nothing is left of any of it.
    now += Duration::from_secs(4000);
    server.handle_timeout(now);
    while let Some(command) = server.poll_command() {
        if let Command::CloseRelay { relay } = command {
            open.retain(|other| *other != relay);
        }
    }
    assert!(server.is_empty() && open.is_empty() && server.users() == 0);
    assert_eq!(server.free_ports(), 32);
});
