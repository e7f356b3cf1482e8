//! Nothing is allocated per packet: application data, straight and through a relay's channel, and the
//! checks that keep a quiet session alive.

mod common;

use std::time::{Duration, Instant};

use allocation_counter::measure;
use common::script::{Check, answer, drain, give, is_request};
use common::server::{PASSWORD, Server, USER};
use common::{address, agent};
use visavis_datagram::{Ecn, Path, Protocol, TransmitBuf};
use visavis_ice::{
    Agent, Config, Credentials, LocalAddress, Received, RemoteParameters, Role, TransportPolicy,
};
use visavis_netsim::Endpoint;

const LOCAL: &str = "192.0.2.1:5000";
const PEER: &str = "198.51.100.1:6000";
const SERVER: &str = "203.0.113.10:3478";
const PEER_PWD: &str = "peerpasswordpeerpassword";

fn started(config: Config, now: Instant) -> Agent {
    let mut agent = agent(config, 1, now);
    agent
        .add_local_address(now, LocalAddress::udp(address(LOCAL)))
        .unwrap();
    agent.gather(now);
    let peer = Credentials::new("peer", PEER_PWD);
    agent.set_remote(now, RemoteParameters::new(peer)).unwrap();
    let line = "candidate:1 1 udp 2130706431 198.51.100.1 6000 typ host";
    agent.add_remote_candidate(now, line.parse().unwrap());
    agent
}

fn controlled() -> Config {
    Config {
        role: Role::Controlled,
        ..Config::default()
    }
}

#[test]
fn data_on_a_direct_pair_allocates_nothing() {
    let now = Instant::now();
    let mut agent = started(controlled(), now);
    let path = Path::udp(address(LOCAL), address(PEER));
    for (path, request) in drain(&mut agent, now) {
        give(
            &mut agent,
            now,
            path,
            &answer(&request, PEER_PWD, address(LOCAL)),
        );
    }
    let mut out = TransmitBuf::new(8, 1200);
    let mut datagram = [0x80; 1200];
    let counted = measure(|| {
        for step in 0..1000 {
            let now = now + Duration::from_millis(step);
            let received = agent.handle_datagram(now, path, &mut datagram);
            assert!(matches!(received, Received::Data { .. }));
            out.clear();
            while out.push(&datagram) {}
            assert_eq!(
                agent.send(now, Ecn::NotEct, &mut out).unwrap().len,
                8 * 1200
            );
        }
    });
    assert_eq!(counted.count_total, 0);
}

/// Whatever strangers send, nothing is kept of it.
#[test]
fn datagrams_of_strangers_allocate_nothing() {
    let now = Instant::now();
    let mut agent = started(controlled(), now);
    let sent = drain(&mut agent, now);
    for (path, request) in &sent {
        let good = answer(request, PEER_PWD, address(LOCAL));
        give(&mut agent, now, *path, &good);
    }
    let mut good = Check::to(agent.local_credentials(), "peer");
    // The first check that is verified sets the key up.
    let path = Path::udp(address(LOCAL), address(PEER));
    give(&mut agent, now, path, &good.bytes());
    drain(&mut agent, now);
    good.password = "guessguessguessguessguess".into();
    let wrong_password = good.bytes();
    good.username = "nobody:peer".into();
    let wrong_name = good.bytes();
    let mut overrun = wrong_password.clone();
    overrun[22..24].copy_from_slice(&1000u16.to_be_bytes());
    let stale = answer(&sent[0].1, PEER_PWD, address(LOCAL));
    let forged = answer(&sent[0].1, "wrongwrongwrongwrongwrong", address(LOCAL));
    let mut datagrams = vec![wrong_password, wrong_name, overrun, stale, forged];
    for first in 0..=255 {
        datagrams.push(vec![first; 1400]);
    }
    let counted = measure(|| {
        for (number, datagram) in datagrams.iter_mut().enumerate() {
            let from = ([203, 0, 113, number as u8], 1000 + number as u16).into();
            agent.handle_datagram(now, Path::udp(address(LOCAL), from), datagram);
        }
    });
    assert_eq!(counted.count_total, 0);
    let stats = agent.stats();
    let counters = stats.unauthenticated
        + stats.malformed
        + stats.unmatched_responses
        + stats.forged_responses
        + stats.unvalidated_data;
    assert_eq!(
        counters,
        datagrams.len() as u64,
        "each is counted: {stats:?}"
    );
}

#[test]
fn a_quiet_session_allocates_nothing() {
    let now = Instant::now();
    let mut agent = started(controlled(), now);
    let path = Path::udp(address(LOCAL), address(PEER));
    for (path, request) in drain(&mut agent, now) {
        give(
            &mut agent,
            now,
            path,
            &answer(&request, PEER_PWD, address(LOCAL)),
        );
    }
    let check = Check::to(agent.local_credentials(), "peer").bytes();
    let mut out = TransmitBuf::new(1, 1400);
    let mut round = |agent: &mut Agent, at: Instant| {
        let mut bytes = [0; 300];
        agent.handle_timeout(at);
        bytes[..check.len()].copy_from_slice(&check);
        agent.handle_datagram(at, path, &mut bytes[..check.len()]);
        let mut sent = 0;
        let mut pending = None;
        while let Some(_transmit) = agent.poll_transmit(at, &mut out) {
            sent += 1;
            if is_request(out.as_slice()) {
                bytes[..out.as_slice().len()].copy_from_slice(out.as_slice());
                pending = Some((bytes, out.as_slice().len()));
            }
        }
        (sent, pending)
    };
    let mut at = now;
    let mut allocated = 0;
    let mut answered = 0;
    for step in 0..20 {
        at = agent.poll_timeout().unwrap().max(at);
        let mut result = (0, None);
        let counted = measure(|| result = round(&mut agent, at));
        // The first rounds grow the queues to their size.
        allocated += if step < 3 { 0 } else { counted.count_total };
        if let (_, Some((bytes, len))) = result {
            // The peer's work, not the agent's.
            let mut response = answer(&bytes[..len], PEER_PWD, address(LOCAL));
            let counted = measure(|| {
                agent.handle_datagram(at, path, &mut response);
            });
            allocated += if step < 3 { 0 } else { counted.count_total };
            answered += 1;
        }
    }
    assert!(answered > 5);
    assert_eq!(allocated, 0);
}

#[test]
fn data_through_a_channel_allocates_nothing() {
    let now = Instant::now();
    let mut config = Config {
        transport_policy: TransportPolicy::Relay,
        ..controlled()
    };
    config.servers.push(visavis_ice::Server::turn(
        address(SERVER),
        Protocol::Udp,
        USER,
        PASSWORD,
    ));
    let mut agent = started(config, now);
    let mut server = Server::new(vec![address(SERVER)]);
    let mut out = TransmitBuf::new(1, 1400);
    let mut at = now;
    // The server and the peer in one: what is relayed to the peer's address is answered.
    for _ in 0..50 {
        at += Duration::from_millis(20);
        agent.handle_timeout(at);
        for (path, mut bytes) in drain(&mut agent, at) {
            server.handle_datagram(
                at,
                Path::udp(path.remote, path.local),
                Ecn::NotEct,
                &mut bytes,
            );
        }
        loop {
            out.clear();
            let Some(transmit) = server.poll_transmit(at, &mut out) else {
                break;
            };
            let mut bytes = out.as_slice().to_vec();
            if transmit.destination == address(PEER) {
                if is_request(&bytes) {
                    let mut response = answer(&bytes, PEER_PWD, transmit.source);
                    let path = Path::udp(transmit.source, address(PEER));
                    server.handle_datagram(at, path, Ecn::NotEct, &mut response);
                }
            } else {
                agent.handle_datagram(
                    at,
                    Path::udp(transmit.destination, transmit.source),
                    &mut bytes,
                );
            }
        }
    }
    assert_eq!(agent.framing().header, 4, "a channel is bound");
    let mut run = TransmitBuf::new(8, 1200);
    let payload = [0x80; 1196];
    let wire = Path::udp(address(LOCAL), address(SERVER));
    let mut seen = 0;
    let counted = measure(|| {
        for step in 0..1000 {
            let now = at + Duration::from_millis(step);
            run.clear();
            run.set_framing(agent.framing());
            while run.push(&payload) {}
            let transmit = agent.send(now, Ecn::NotEct, &mut run).unwrap();
            assert_eq!((transmit.path(), transmit.len), (wire, 8 * 1200));
            // What comes back looks the same.
            let mut datagram = [0; 1200];
            datagram.copy_from_slice(&run.as_slice()[..1200]);
            let received = agent.handle_datagram(now, wire, &mut datagram);
            assert!(matches!(received, Received::Data { payload, .. } if payload == (4..1200)));
            seen += 1;
        }
    });
    assert_eq!(seen, 1000);
    assert_eq!(counted.count_total, 0);
}
