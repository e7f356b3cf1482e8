//! Our agent beside another, with coturn between them.

use interop_ice::us::host_address;
use interop_ice::{Peer, Us};
use interop_turn::coturn::Coturn;
use visavis_datagram::Protocol;
use visavis_ice::{CandidateKind, Config, Role, Server, TransportPolicy};

const USER: &str = "alice";
const PASSWORD: &str = "correct horse";

fn coturn() -> Option<Coturn> {
    Coturn::start(host_address().ip(), &[])
}

fn relay_only(coturn: &Coturn, protocol: Protocol) -> Config {
    let server = match protocol {
        Protocol::Tls => coturn.tls,
        _ => coturn.plain,
    };
    Config {
        role: Role::Controlling,
        transport_policy: TransportPolicy::Relay,
        servers: vec![Server::turn(server, protocol, USER, PASSWORD)],
        ..Config::default()
    }
}

#[test]
fn our_relay_over_udp_tcp_and_tls_reaches_aioice_and_libnice() {
    let Some(coturn) = coturn() else { return };
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
        let peers: [fn() -> Option<Peer>; 2] = [
            || Peer::aioice(&["controlled"]),
            || Peer::libnice(&["controlled", "udp"]),
        ];
        for start in peers {
            let Some(mut peer) = start() else { continue };
            let mut us = Us::new(relay_only(&coturn, protocol), false, false);
            let pair = us.call(&mut peer, |_| true);
            assert_eq!(pair.local.kind, CandidateKind::Relayed);
            assert_eq!(pair.path.protocol, protocol);
        }
    }
}

#[test]
fn two_relays_meet() {
    let Some(coturn) = coturn() else { return };
    let (ip, port) = (
        coturn.plain.ip().to_string(),
        coturn.plain.port().to_string(),
    );
    let peers: [&dyn Fn() -> Option<Peer>; 3] = [
        &|| Peer::aioice(&["controlled", "udp", &ip, &port, USER, PASSWORD]),
        &|| Peer::libnice(&["controlled", "udp", "turn-udp", &ip, &port, USER, PASSWORD]),
        &|| Peer::libnice(&["controlled", "udp", "turn-tcp", &ip, &port, USER, PASSWORD]),
    ];
    for start in peers {
        let Some(mut peer) = start() else { continue };
        let mut us = Us::new(relay_only(&coturn, Protocol::Udp), false, false);
        us.call(&mut peer, |pair| pair.local.kind == CandidateKind::Relayed);
        let relays = us
            .agent
            .remote_candidates()
            .filter(|candidate| candidate.kind == CandidateKind::Relayed)
            .count();
        assert!(relays >= 1, "the peer offered its relay");
    }
}

/// RFC 8016: the host's address changes under the relay, and libnice sees nothing of it.
#[test]
fn our_relay_moves_to_another_socket_in_mid_call() {
    let Some(coturn) = Coturn::start(host_address().ip(), &["--mobility"]) else {
        return;
    };
    let Some(mut peer) = Peer::libnice(&["controlled", "udp"]) else {
        return;
    };
    let mut config = relay_only(&coturn, Protocol::Udp);
    config.relay_mobility = true;
    let mut us = Us::new(config, false, false);
    let before = us.call(&mut peer, |_| true);
    us.change_socket();
    let after = us.call(&mut peer, |pair| pair.path.local != before.path.local);
    assert_eq!(after.id, before.id);
    assert_eq!(us.agent.stats().relays_moved, 1);
}
