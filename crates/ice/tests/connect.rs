//! Two agents find each other on simulated networks.

mod common;

use std::time::{Duration, Instant};

use common::server::{PASSWORD, Server, USER};
use common::{Call, Peer, Signalling, address, agent, ip, is_relayed};
use visavis_datagram::Protocol;
use visavis_ice::{CandidateKind, Config, ConnectionState, LocalAddress, Role};
use visavis_netsim::{Gateway, LinkConfig, NatConfig, Simulation};

const SERVER: &str = "203.0.113.10:3478";

/// Two homes behind NATs of these kinds, and a server for STUN and TURN.
fn homes(seed: u64, left: NatConfig, right: NatConfig, turn: bool, link: LinkConfig) -> Call {
    let now = Instant::now();
    let mut simulation = Simulation::new(now, seed);
    let wan = LinkConfig::new().delay(Duration::from_millis(10));
    let mut peers = Vec::new();
    for (index, (name, nat)) in [("left", left), ("right", right)].into_iter().enumerate() {
        let external = ip(&format!("198.51.100.{}", index + 1));
        let home = simulation.add_network(
            Simulation::INTERNET,
            Gateway::nat(nat, &[external]),
            link.clone(),
            link.clone(),
        );
        let local = ip(&format!("192.168.{}.10", index + 1));
        let host = simulation.add_host_in(home, name, &[local], LinkConfig::new());
        let mut config = Config {
            role: if index == 0 {
                Role::Controlling
            } else {
                Role::Controlled
            },
            ..Config::default()
        };
        config
            .servers
            .push(visavis_ice::Server::stun(address(SERVER)));
        if turn {
            config.servers.push(visavis_ice::Server::turn(
                address(SERVER),
                Protocol::Udp,
                USER,
                PASSWORD,
            ));
        }
        let mut peer = Peer::new(name, agent(config, seed * 2 + index as u64, now));
        peer.add_address(
            now,
            LocalAddress::udp(std::net::SocketAddr::new(local, 5000)),
        );
        peers.push((host, peer));
    }
    let host = simulation.add_host_in(Simulation::INTERNET, "server", &[ip("203.0.113.10")], wan);
    let right = peers.pop().unwrap();
    let left = peers.pop().unwrap();
    let mut call = Call::new(simulation, left, right);
    call.add_server(host, Server::new(vec![address(SERVER)]));
    call
}

fn wan() -> LinkConfig {
    LinkConfig::new().delay(Duration::from_millis(10))
}

#[test]
fn host_and_reflexive_candidates_connect_through_cone_nats() {
    for signalling in [Signalling::Trickle, Signalling::AllAtOnce] {
        let mut call = homes(
            1,
            NatConfig::port_restricted_cone(),
            NatConfig::port_restricted_cone(),
            false,
            wan(),
        );
        call.signalling = signalling;
        call.start();
        assert!(call.connect(Duration::from_secs(10)), "{}", call.report());
        assert!(
            call.exchange_data(Duration::from_secs(1)),
            "{}",
            call.report()
        );
        call.run_for(Duration::from_secs(45));
        assert!(
            call.both(|peer| peer.agent.connection_state() == ConnectionState::Completed),
            "{}",
            call.report()
        );
        assert!(call.both(|peer| !is_relayed(&peer.agent.selected_pair().unwrap())));
        assert_eq!(call.left().selections().len(), 1, "{}", call.report());
    }
}

#[test]
fn symmetric_nats_connect_through_a_relay() {
    let mut call = homes(
        2,
        NatConfig::symmetric(),
        NatConfig::symmetric(),
        true,
        wan(),
    );
    call.start();
    assert!(call.connect(Duration::from_secs(10)), "{}", call.report());
    call.run_for(Duration::from_secs(5));
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    assert!(call.both(|peer| is_relayed(&peer.agent.selected_pair().unwrap())));
}

#[test]
fn a_symmetric_and_a_full_cone_nat_connect_directly() {
    let mut call = homes(
        3,
        NatConfig::symmetric(),
        NatConfig::full_cone(),
        true,
        wan(),
    );
    call.start();
    assert!(call.connect(Duration::from_secs(10)), "{}", call.report());
    call.run_for(Duration::from_secs(5));
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    assert!(
        call.both(|peer| !is_relayed(&peer.agent.selected_pair().unwrap())),
        "{}",
        call.report()
    );
    let selected = call.right().agent.selected_pair().unwrap();
    assert_eq!(selected.remote.kind, CandidateKind::PeerReflexive);
}
