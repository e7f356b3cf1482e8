//! Relay abuse: each test is named for the attack, and fails where the attack succeeds.

mod common;

use std::time::Duration;

use common::{Raw, World, address, code, config};
use visavis_datagram::Protocol;
use visavis_stun::Method;
use visavis_stun::attributes::{
    AdditionalAddressFamily, AddressFamily, ConnectionId, Lifetime, RequestedTransport,
    XorPeerAddress,
};
use visavis_turn::server::Command;

/// Tries a peer by every way there is: all have to be refused, and nothing may be relayed.
fn refused(peers: &[&str]) {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let allocated = raw.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP)
            .add(&AdditionalAddressFamily::new(AddressFamily::V6));
    });
    assert_eq!(allocated, 0);
    for peer in peers {
        assert_eq!(raw.permit(&mut world, peer), 403, "permission for {peer}");
        assert_eq!(raw.bind(&mut world, 0x4001, peer), 403, "channel to {peer}");
        raw.send(&mut world, peer, b"GET /latest/meta-data");
    }
    assert_eq!(world.to_peers, []);
    assert_eq!(world.server.stats().forbidden_peers, 2 * peers.len() as u64);
}

#[test]
fn attack_01_loopback_and_unspecified_peers_cve_2018_4058_cve_2020_26262() {
    refused(&[
        "127.0.0.1:80",
        "127.255.255.254:80",
        "0.0.0.0:80",
        "0.1.2.3:80",
        "[::1]:80",
        "[::]:80",
    ]);
}

#[test]
fn attack_02_private_and_link_local_peers() {
    refused(&[
        "10.0.0.1:80",
        "172.16.0.1:80",
        "172.31.255.255:80",
        "192.168.1.1:80",
        "100.64.0.1:80",
        "169.254.169.254:80",
        "[fc00::1]:80",
        "[fd12:3456::1]:80",
        "[fe80::1]:80",
        "[fec0::1]:80",
        "[fd00:ec2::254]:80",
    ]);
}

#[test]
fn attack_03_multicast_broadcast_and_reserved_peers() {
    refused(&[
        "224.0.0.1:80",
        "239.255.255.250:1900",
        "240.0.0.1:80",
        "255.255.255.255:80",
        "192.0.2.1:80",
        "198.18.0.1:80",
        "203.0.113.9:80",
        "[ff02::1]:80",
        "[2001:db8::1]:80",
    ]);
}

#[test]
fn attack_04_ipv4_hidden_in_ipv6_cve_2026_27624() {
    refused(&[
        "[::ffff:127.0.0.1]:80",
        "[::ffff:8.8.8.8]:80",
        "[::127.0.0.1]:80",
        "[::ffff:0:127.0.0.1]:80",
        "[64:ff9b::127.0.0.1]:80",
        "[64:ff9b::169.254.169.254]:80",
        "[64:ff9b::a00:1]:80",
        "[64:ff9b:1::127.0.0.1]:80",
        "[2002:7f00:1::1]:80",
        "[2002:808:808::1]:80",
        "[2001:0:7f00:1::]:80",
        "[2600::5efe:127.0.0.1]:80",
        "[2600::200:5efe:10.0.0.1]:80",
    ]);
    // NAT64 of a public address leads where the IPv4 address leads, and is no way around anything.
    let mut world = World::new();
    let mut raw = Raw::new("[2600::7]:1000");
    raw.challenge(&mut world);
    let allocated = raw.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP)
            .add(&AdditionalAddressFamily::new(AddressFamily::V6));
    });
    assert_eq!(allocated, 0);
    assert_eq!(raw.permit(&mut world, "[64:ff9b::8.8.8.8]:80"), 0);
}

#[test]
fn attack_05_the_server_itself_as_peer() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    // Permissions are for addresses, and other clients' relayed addresses are on this one.
    assert_eq!(raw.permit(&mut world, "5.5.5.5:0"), 0);
    for port in [1, 22, 80, 443, 3478, 5349, 9090, 49_151] {
        let peer = format!("5.5.5.5:{port}");
        assert_eq!(raw.bind(&mut world, 0x4001, &peer), 403, "{peer}");
        raw.send(&mut world, &peer, b"TURN in TURN");
    }
    assert_eq!(world.to_peers, []);
    assert_eq!(world.to_clients, []);

    // Where the relay has an address of its own, the listening address is no peer at all.
    let mut config = config();
    config.listening.push(address("6.6.6.6:3478"));
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    assert_eq!(raw.permit(&mut world, "6.6.6.6:0"), 403);
}

#[test]
fn a_named_service_of_the_host_is_reached_and_nothing_beside_it() {
    let mut config = config();
    config.own_services.push(address("5.5.5.5:7880"));
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    assert_eq!(raw.permit(&mut world, "5.5.5.5:7880"), 0);
    for port in [22, 3478, 7879, 7881] {
        let peer = format!("5.5.5.5:{port}");
        assert_eq!(raw.bind(&mut world, 0x4001, &peer), 403, "{peer}");
        raw.send(&mut world, &peer, b"not for you");
    }
    assert_eq!(world.to_peers, []);
    raw.send(&mut world, "5.5.5.5:7880", b"media");
    assert_eq!(world.to_peers.len(), 1);
    assert_eq!(raw.bind(&mut world, 0x4001, "5.5.5.5:7880"), 0);
}

#[test]
fn attack_06_one_bad_peer_among_good_ones_fails_the_whole_request() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    let relay = raw.allocate(&mut world);
    let refused = raw.code(&mut world, Method::CREATE_PERMISSION, |b| {
        b.add(&XorPeerAddress(address("8.8.8.8:1")))
            .add(&XorPeerAddress(address("127.0.0.1:1")))
            .add(&XorPeerAddress(address("9.9.9.9:1")));
    });
    assert_eq!(refused, 403);
    for peer in ["8.8.8.8:1", "9.9.9.9:1"] {
        world.peer_sends(address(peer), relay, b"was it permitted?");
    }
    assert_eq!(world.to_clients, []);
    let malformed = raw.code(&mut world, Method::CREATE_PERMISSION, |b| {
        b.add(&XorPeerAddress(address("8.8.8.8:1")))
            .add_raw(visavis_stun::AttributeType::XOR_PEER_ADDRESS, &[0, 1, 2]);
    });
    assert_eq!(malformed, 400);
    assert_eq!(raw.code(&mut world, Method::CREATE_PERMISSION, |_| ()), 400);
}

fn tcp_world() -> (World, Raw) {
    let mut config = config();
    config.tcp_relay = true;
    let mut world = World::with(config);
    let mut raw = Raw::on(Protocol::Tcp, "7.7.7.7:1000");
    raw.challenge(&mut world);
    let allocated = raw.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::TCP);
    });
    assert_eq!(allocated, 0);
    (world, raw)
}

fn connect(world: &mut World, raw: &Raw, peer: &str) -> Vec<u8> {
    let id = visavis_stun::TransactionId::random(&mut world.random);
    let request = raw.build(Method::CONNECT, id, |b| {
        b.add(&XorPeerAddress(address(peer)));
    });
    world.client_sends(raw.path, &request);
    world
        .to_clients
        .pop()
        .map(|(_, bytes)| bytes)
        .unwrap_or_default()
}

#[test]
fn attack_07_tcp_connections_to_forbidden_peers_slack_2020() {
    // Off unless asked for.
    let mut world = World::new();
    let mut raw = Raw::on(Protocol::Tcp, "7.7.7.7:1000");
    raw.challenge(&mut world);
    let refused = raw.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::TCP);
    });
    assert_eq!(refused, 442);

    let (mut world, raw) = tcp_world();
    for peer in [
        "127.0.0.1:80",
        "169.254.169.254:80",
        "10.0.0.1:22",
        "224.0.0.1:80",
        "5.5.5.5:80",
        "5.5.5.5:50000",
    ] {
        assert_eq!(code(&connect(&mut world, &raw, peer)), 403, "{peer}");
    }
    assert_eq!(
        code(&connect(&mut world, &raw, "[::ffff:127.0.0.1]:80")),
        443
    );
    assert_eq!(world.commands, []);
    // Peers that connect in need a permission.
    let Some(relay) = world.open.first().copied() else {
        panic!("no relay socket");
    };
    let stranger = address("8.8.8.8:1234");
    assert_eq!(world.server.peer_accepted(world.now, relay, stranger), None);
    assert_eq!(raw.permit(&mut world, "8.8.8.8:0"), 0);
    assert!(
        world
            .server
            .peer_accepted(world.now, relay, stranger)
            .is_some()
    );
    world.pump();
    let (_, attempt) = world.to_clients.pop().unwrap();
    let attempt = visavis_stun::Message::parse(&attempt).unwrap();
    assert_eq!(attempt.method(), Method::CONNECTION_ATTEMPT);
    assert_eq!(attempt.get(), Some(XorPeerAddress(stranger)));
    // UDP allocations connect nowhere.
    let mut udp = Raw::new("7.7.7.7:2000");
    udp.allocate(&mut world);
    assert_eq!(code(&connect(&mut world, &udp, "8.8.8.8:80")), 400);
}

#[test]
fn attack_08_ports_of_services_that_amplify() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    assert_eq!(raw.permit(&mut world, "8.8.8.8:0"), 0);
    for port in [0, 19, 53, 123, 161, 389, 1900, 11211] {
        let peer = format!("8.8.8.8:{port}");
        assert_eq!(raw.bind(&mut world, 0x4001, &peer), 403, "{peer}");
        raw.send(&mut world, &peer, b"any");
    }
    assert_eq!(world.to_peers, []);
    raw.send(&mut world, "8.8.8.8:443", b"media");
    assert_eq!(world.to_peers.len(), 1);
}

/// How many of so many neighbours get a permission.
fn sweep(world: &mut World, raw: &Raw, network: u32, hosts: u32) -> usize {
    (0..hosts)
        .filter(|host| raw.permit(world, &format!("8.{network}.8.{host}:1")) == 0)
        .count()
}

#[test]
fn attack_09_permission_sweep() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    assert_eq!(
        sweep(&mut world, &raw, 0, 256),
        128,
        "as many as an allocation may have"
    );
    // When they have lapsed there is room again, but only so many a second.
    world.advance(Duration::from_secs(301));
    raw.nonce.clear();
    raw.challenge(&mut world);
    assert_eq!(raw.refresh(&mut world, 600), 0);
    let mut per_second = Vec::new();
    for second in 1..20 {
        per_second.push(sweep(&mut world, &raw, second, 256));
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(per_second.iter().sum::<usize>(), 128, "{per_second:?}");
    world.advance(Duration::from_secs(301));
    raw.nonce.clear();
    raw.challenge(&mut world);
    let info = world.server.allocations(world.now).next().unwrap();
    assert!(info.permissions <= 128);
}

#[test]
fn attack_09_new_peers_per_second_after_the_first() {
    let mut config = config();
    config.limits.permissions = 20;
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    assert_eq!(sweep(&mut world, &raw, 0, 60), 20);
    world.advance(Duration::from_secs(300));
    // Room for 20, and the bucket has filled up again to 20; then 10 a second, if there were room.
    assert_eq!(sweep(&mut world, &raw, 1, 60), 20);
    assert_eq!(sweep(&mut world, &raw, 2, 60), 0);
}

#[test]
fn attack_10_connection_bind_theft() {
    let (mut world, raw) = tcp_world();
    assert!(connect(&mut world, &raw, "8.8.8.8:80").is_empty());
    let Some(&Command::Connect { connection, .. }) = world.commands.last() else {
        panic!("{:?}", world.commands);
    };
    world.server.peer_connected(world.now, connection);
    world.pump();
    let answer = world.answer(raw.path);
    let connection = visavis_stun::Message::parse(&answer)
        .unwrap()
        .get::<ConnectionId>()
        .unwrap();
    // Another user, with good credentials of his own, and then guessed numbers.
    let mut thief = Raw::on(Protocol::Tcp, "7.7.7.8:1000");
    thief.set_user("bob", "bob's password");
    thief.challenge(&mut world);
    let stolen = thief.code(&mut world, Method::CONNECTION_BIND, |b| {
        b.add(&connection);
    });
    assert_eq!(stolen, 400);
    for guess in 0..100 {
        let code = thief.code(&mut world, Method::CONNECTION_BIND, |b| {
            b.add(&ConnectionId(guess));
        });
        assert_eq!(code, 400);
    }
    // The owner's second connection gets it, once.
    let mut second = Raw::on(Protocol::Tcp, "7.7.7.7:1001");
    second.challenge(&mut world);
    let bind = |world: &mut World| {
        second.code(world, Method::CONNECTION_BIND, |b| {
            b.add(&connection);
        })
    };
    assert_eq!(bind(&mut world), 0);
    assert!(matches!(
        world.commands.last(),
        Some(Command::Splice { .. })
    ));
    assert_eq!(bind(&mut world), 400);
}

#[test]
fn attack_10_tcp_connections_are_bounded_and_time_out() {
    let (mut world, raw) = tcp_world();
    for port in 1..=40 {
        connect(&mut world, &raw, &format!("8.8.8.8:{}", 1000 + port));
    }
    let connects = |world: &World| {
        let commands = world.commands.iter();
        commands
            .filter(|c| matches!(c, Command::Connect { .. }))
            .count()
    };
    assert_eq!(connects(&world), 16);
    assert_eq!(code(&connect(&mut world, &raw, "8.8.8.8:1001")), 446);
    world.to_clients.clear();
    world.advance(Duration::from_secs(30));
    assert_eq!(
        world.to_clients.len(),
        16,
        "447 for each that did not answer"
    );
    assert!(world.to_clients.iter().all(|(_, bytes)| code(bytes) == 447));
    world.to_clients.clear();
    connect(&mut world, &raw, "8.8.8.8:80");
    assert_eq!(connects(&world), 17);
    world.server.client_gone(world.now, raw.path);
    world.pump();
    assert!(world.server.is_empty() && world.open.is_empty());
    assert!(matches!(
        world.commands.last(),
        Some(Command::CloseConnection { .. })
    ));
}

#[test]
fn attack_23_two_allocations_that_talk_to_each_other_do_not_loop() {
    let mut world = World::new();
    let (mut a, mut b) = (Raw::new("7.7.7.7:1000"), Raw::new("7.7.7.8:1000"));
    let (relay_a, relay_b) = (a.allocate(&mut world), b.allocate(&mut world));
    assert_eq!(a.bind(&mut world, 0x4000, &relay_b.to_string()), 0);
    assert_eq!(b.bind(&mut world, 0x4005, &relay_a.to_string()), 0);
    a.send_channel(&mut world, 0x4000, b"ping");
    assert_eq!(world.to_peers, []);
    assert_eq!(world.to_clients.len(), 1);
    let (path, bytes) = world.to_clients.pop().unwrap();
    assert_eq!(path, b.path);
    assert_eq!(bytes, [0x40, 5, 0, 4, b'p', b'i', b'n', b'g']);
    assert_eq!(world.server.stats().short_circuits, 1);
    // Without a channel on the other side the datagram takes the way through the kernel.
    b.send(&mut world, &relay_a.to_string(), b"pong");
    let (path, bytes) = world.to_clients.pop().unwrap();
    assert_eq!(path, a.path);
    assert_eq!(&bytes[4..], b"pong");
    // An allocation that is its own peer hears itself once.
    assert_eq!(a.bind(&mut world, 0x4001, &relay_a.to_string()), 0);
    a.send_channel(&mut world, 0x4001, b"echo");
    assert_eq!(world.to_clients.len(), 1);
    assert_eq!(world.to_clients.pop().unwrap().0, a.path);
}

#[test]
fn attack_peers_cannot_spoof_their_way_in() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    let relay = raw.allocate(&mut world);
    world.peer_sends(address("8.8.8.8:1"), relay, b"no permission");
    assert_eq!(world.to_clients, []);
    assert_eq!(raw.bind(&mut world, 0x4000, "8.8.8.8:1"), 0);
    // Another port of a permitted address is told with its own address, not by the channel.
    world.peer_sends(address("8.8.8.8:2"), relay, b"other port");
    let (_, bytes) = world.to_clients.pop().unwrap();
    let message = visavis_stun::Message::parse(&bytes).unwrap();
    assert_eq!(
        message.get::<XorPeerAddress>(),
        Some(XorPeerAddress(address("8.8.8.8:2")))
    );
    // A stranger on the client's side cannot use the channel.
    let stranger = Raw::new("7.7.7.7:1001");
    stranger.send_channel(&mut world, 0x4000, b"stolen");
    assert_eq!(world.to_peers, []);
    // Permissions lapse, and the channel with them.
    world.advance(Duration::from_secs(300));
    world.peer_sends(address("8.8.8.8:1"), relay, b"late");
    raw.send_channel(&mut world, 0x4000, b"late");
    assert_eq!((world.to_clients.len(), world.to_peers.len()), (0, 0));
}

#[test]
fn attack_25_mobility_quota_bypass_and_orphan_sessions() {
    use visavis_stun::attributes::MobilityTicket;
    let mut config = config();
    config.limits.allocations_per_user = 1;
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP).add(&MobilityTicket(&[]));
    });
    let message = visavis_stun::Message::parse(&answer).unwrap();
    let first = message.get::<MobilityTicket<'_>>().unwrap().0.to_vec();
    let mut ticket = first.clone();
    // A hundred moves in a row, none of them completed by data: one allocation, one pending move.
    for port in 2000..2100 {
        let mut moved = Raw::new(&format!("7.7.7.7:{port}"));
        moved.challenge(&mut world);
        let answer = moved.ask(&mut world, Method::REFRESH, |b| {
            b.add(&MobilityTicket(&ticket));
        });
        assert_eq!(code(&answer), 0);
        let message = visavis_stun::Message::parse(&answer).unwrap();
        let fresh = message.get::<MobilityTicket<'_>>().unwrap().0.to_vec();
        assert_ne!(fresh, ticket);
        ticket = fresh;
    }
    assert_eq!(world.server.len(), 1);
    // The quota is held; neither the old path nor a second allocation gets around it.
    let mut second = Raw::new("7.7.7.7:3000");
    second.challenge(&mut world);
    let refused = second.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP);
    });
    assert_eq!(refused, 486);
    // A made-up or spent ticket, and another user's.
    for bad in [vec![7; 24], vec![1], first] {
        let code = second.code(&mut world, Method::REFRESH, |b| {
            b.add(&MobilityTicket(&bad));
        });
        assert_eq!(code, 400);
    }
    let mut thief = Raw::new("7.7.7.9:1");
    thief.set_user("bob", "bob's password");
    thief.challenge(&mut world);
    let stolen = thief.code(&mut world, Method::REFRESH, |b| {
        b.add(&MobilityTicket(&ticket));
    });
    assert_eq!(stolen, 441);
    // The stream of a client ends: its allocation waits for it, and still counts, until it expires.
    world.server.client_gone(world.now, raw.path);
    assert_eq!(world.server.len(), 1);
    world.advance(Duration::from_secs(3600));
    assert!(world.server.is_empty() && world.open.is_empty());
    assert_eq!(world.server.users(), 0);
    second.challenge(&mut world);
    let code = second.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP).add(&Lifetime(1));
    });
    assert_eq!(code, 0);
}
