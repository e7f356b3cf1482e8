//! Any bytes, at any door of an agent, in any order and at any time: no panic, and its tables stay bounded. Run by the fuzz
//! target `ice_agent`, and with random scripts by a test.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Protocol, Random, TransmitBuf};
use visavis_ice::{
    Agent, Config, Credentials, Event, LocalAddress, RemoteParameters, Role, Server,
};
use visavis_stun::attributes::{
    AlternateServer, ErrorCode, IceControlled, IceControlling, Lifetime, MobilityTicket, Nonce,
    Priority, Realm, UseCandidate, Username, XorMappedAddress, XorRelayedAddress,
};
use visavis_stun::{
    Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId, TransactionId,
};

const PEER_PWD: &str = "peerpasswordpeerpassword";

/// Takes the input apart.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

fn remote(byte: u8) -> SocketAddr {
    match byte % 4 {
        0 => SocketAddr::from(([198, 51, 100, 1], 1000 + u16::from(byte))),
        1 => SocketAddr::from(([203, 0, 113, 10], 3478)),
        2 => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], u16::from(byte))),
        _ => SocketAddr::from(([10, 0, 0, byte], 5000)),
    }
}

/// An answer to a request of TURN's: the challenge, an allocation, a redirection, a refusal, as `shape` says.
fn turn_answer(request: &[u8], shape: u8, bytes: &mut [u8]) -> Option<usize> {
    let message = Message::parse(request).ok()?;
    if message.method() == Method::BINDING {
        return None;
    }
    let class = if shape & 7 < 4 {
        Class::Success
    } else {
        Class::Error
    };
    let mut builder = MessageBuilder::response(bytes, class, &message);
    match shape & 7 {
        0..=3 => {
            builder
                .add(&XorRelayedAddress(remote(shape >> 3)))
                .add(&XorMappedAddress(remote(shape >> 4)))
                .add(&Lifetime(u32::from(shape >> 3) * 30));
            if shape & 1 == 0 {
                builder.add(&MobilityTicket(b"ticket"));
            }
        }
        4 => {
            builder
                .add(&ErrorCode::UNAUTHENTICATED)
                .add(&Realm("r"))
                .add(&Nonce(&[b'0' + (shape >> 3)]));
            return builder.finish().ok();
        }
        5 => {
            builder
                .add(&ErrorCode::TRY_ALTERNATE)
                .add(&AlternateServer(remote(shape >> 3)));
        }
        6 => {
            builder.add(&ErrorCode::ALLOCATION_MISMATCH);
        }
        _ => {
            builder.add(&ErrorCode::MOBILITY_FORBIDDEN);
        }
    }
    let md5 = PasswordAlgorithmId::MD5;
    let key = IntegrityKey::long_term("user", "r", "password", md5)?;
    builder.integrity(&key).finish().ok()
}

/// Takes an agent through the steps that the bytes spell.
pub fn run(data: &[u8]) {
    // One start for all runs: the same input takes the same way.
    static START: OnceLock<Instant> = OnceLock::new();
    let mut now = *START.get_or_init(Instant::now);
    let mut input = Input(data);
    let Some(flags) = input.byte() else { return };
    let mut config = Config {
        role: if flags & 1 == 0 {
            Role::Controlling
        } else {
            Role::Controlled
        },
        lite: flags & 2 != 0,
        pooled: flags & 4 != 0,
        credentials: Some(Credentials::new("fuzz", "fuzzfuzzfuzzfuzzfuzzfuzz")),
        ..Config::default()
    };
    config.servers.push(Server::stun(remote(1)));
    config
        .servers
        .push(Server::turn(remote(1), Protocol::Udp, "user", "password"));
    if flags & 8 != 0 {
        // Servers that race over all protocols, relays that move, ports that are seen over TCP.
        config.relay_mobility = true;
        config.relays_per_address = if flags & 16 != 0 { 2 } else { usize::MAX };
        config.servers.push(Server::stun_tcp(remote(1)));
        for protocol in [Protocol::Tcp, Protocol::Tls] {
            let server = Server::turn(remote(1), protocol, "user", "password");
            config.servers.push(server);
        }
    }
    let mut agent = Agent::new(config, Random::from_u64(u64::from(flags)), now);
    let local = SocketAddr::from(([192, 0, 2, 1], 5000));
    let mut out = TransmitBuf::new(4, 1400);
    let mut requests: Vec<(Path, Vec<u8>)> = Vec::new();
    let mut connects = Vec::new();

    while let Some(step) = input.byte() {
        if step >= 240 {
            match step & 3 {
                // What a TURN server says to something that was asked.
                0 | 1 => {
                    let pick = usize::from(input.byte().unwrap_or(0));
                    let shape = input.byte().unwrap_or(0);
                    if let Some((path, request)) = requests.get(pick % requests.len().max(1)) {
                        let mut bytes = [0; 400];
                        if let Some(len) = turn_answer(request, shape, &mut bytes) {
                            agent.handle_datagram(now, *path, &mut bytes[..len]);
                        }
                    }
                }
                2 => {
                    let at = SocketAddr::from(([192, 0, 2, 2], 5000 + u16::from(step & 4)));
                    let _ = agent.add_local_address(now, LocalAddress::udp(at));
                }
                _ => {
                    let at = SocketAddr::from(([192, 0, 2, 2], 5000 + u16::from(step & 4)));
                    agent.remove_local_address(now, at, Protocol::Udp);
                    let path = requests.last().map(|(path, _)| *path);
                    if let Some(path) = path.filter(|_| step & 8 != 0) {
                        agent.disconnected(now, path);
                    }
                }
            }
            continue;
        }
        match step % 20 {
            0 => {
                let _ = agent.add_local_address(now, LocalAddress::udp(local));
                let _ = agent.add_local_address(now, LocalAddress::tcp_active(local.ip()));
                let _ = agent.add_local_address(
                    now,
                    LocalAddress::tcp_passive(SocketAddr::new(local.ip(), 7000)),
                );
            }
            1 => agent.gather(now),
            2 => {
                let _ = agent.set_remote(
                    now,
                    RemoteParameters::new(Credentials::new("peer", PEER_PWD)),
                );
            }
            3 => {
                if let Ok(candidate) = String::from_utf8_lossy(input.bytes()).parse() {
                    agent.add_remote_candidate(now, candidate);
                }
            }
            4 => {
                let at = remote(input.byte().unwrap_or(0));
                let tcp = step & 0x80 != 0;
                let line = format!(
                    "candidate:{} 1 {} {} {} {} typ host{}",
                    step,
                    if tcp { "tcp" } else { "udp" },
                    1000 + u32::from(step),
                    at.ip(),
                    at.port(),
                    if tcp { " tcptype passive" } else { "" }
                );
                agent.add_remote_candidate(now, line.parse().expect("a good line"));
            }
            5 => agent.end_of_remote_candidates(now),
            6 => {
                agent.restart(now);
            }
            7 => agent.remove_local_address(now, local, Protocol::Udp),
            8 => {
                let from = Path::udp(local, remote(input.byte().unwrap_or(0)));
                agent.handle_datagram(now, from, &mut input.bytes().to_vec());
            }
            // A check that is good but for what the input says.
            9 | 10 => {
                let from = Path::udp(local, remote(input.byte().unwrap_or(0)));
                let shape = input.byte().unwrap_or(0);
                let mut bytes = [0; 300];
                let key = IntegrityKey::short_term(&agent.local_credentials().pwd);
                let username = format!("{}:peer", agent.local_credentials().ufrag);
                let mut builder = MessageBuilder::new(
                    &mut bytes,
                    Class::Request,
                    Method::BINDING,
                    TransactionId([shape; 12]),
                );
                builder
                    .add(&Username(&username))
                    .add(&Priority(u32::from(shape)));
                if shape & 1 == 0 {
                    builder.add(&IceControlling(u64::from(shape) << 56));
                } else {
                    builder.add(&IceControlled(u64::from(shape) << 56));
                }
                if shape & 2 != 0 {
                    builder.add(&UseCandidate);
                }
                let len = builder
                    .integrity(&key)
                    .fingerprint()
                    .finish()
                    .expect("fits");
                if shape & 4 != 0 {
                    bytes[usize::from(input.byte().unwrap_or(0)) % len] ^= shape;
                }
                agent.handle_datagram(now, from, &mut bytes[..len]);
            }
            // A good response to something that was asked.
            11 | 12 => {
                let pick = usize::from(input.byte().unwrap_or(0));
                if let Some((path, request)) = requests.get(pick % requests.len().max(1))
                    && let Ok(message) = Message::parse(request)
                {
                    let mut bytes = [0; 200];
                    let len = MessageBuilder::response(&mut bytes, Class::Success, &message)
                        .add(&XorMappedAddress(remote(step)))
                        .integrity(&IntegrityKey::short_term(PEER_PWD))
                        .fingerprint()
                        .finish()
                        .expect("fits");
                    agent.handle_datagram(now, *path, &mut bytes[..len]);
                }
            }
            13 => {
                now += Duration::from_millis(u64::from(input.byte().unwrap_or(0)).pow(2));
                agent.handle_timeout(now);
            }
            14 => {
                for _ in 0..64 {
                    let Some(transmit) = agent.poll_transmit(now, &mut out) else {
                        break;
                    };
                    if requests.len() < 64 {
                        requests.push((transmit.path(), out.as_slice().to_vec()));
                    }
                }
            }
            15 => {
                while let Some(event) = agent.poll_event() {
                    match event {
                        Event::Connect(connect) => connects.push(connect),
                        Event::ResolveName(name) => {
                            agent.resolved(now, &name, Some(remote(step).ip()))
                        }
                        _ => {}
                    }
                }
            }
            16 => {
                if let Some(connect) = connects.pop() {
                    if step & 0x80 == 0 {
                        agent.connected(now, connect.id, SocketAddr::new(local.ip(), 40000));
                    } else {
                        agent.connect_failed(now, connect.id);
                    }
                }
            }
            17 => {
                let path = Path::tcp(SocketAddr::new(local.ip(), 7000), remote(step));
                agent.accepted(path);
                agent.handle_datagram(now, path, &mut input.bytes().to_vec());
                if step & 0x80 != 0 {
                    agent.disconnected(now, path);
                }
            }
            18 => {
                out.clear();
                out.set_framing(agent.framing());
                out.push(&[0x80; 100]);
                agent.send(now, Ecn::NotEct, &mut out);
                agent.request_check(now);
            }
            _ => {
                if step == 19 {
                    agent.close(now);
                }
                let _ = agent.selected_pair();
            }
        }
        assert!(agent.pair_stats().count() <= 100);
        assert!(agent.remote_candidates().count() <= 100);
    }
}
