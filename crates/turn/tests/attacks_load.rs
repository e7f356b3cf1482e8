//! Floods, amplification, leaks: what strangers and users can make the server do and hold.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::{Raw, World, address, code, config};
use visavis_datagram::{Path, Protocol, Random};
use visavis_stun::attributes::{
    ErrorCode, EvenPort, Lifetime, RequestedTransport, ReservationToken, Software, XorMappedAddress,
};
use visavis_stun::{
    AttributeType, Class, Message, MessageBuilder, Method, SecurityFeatures, TransactionId, Verdict,
};

fn binding(id: [u8; 12]) -> Vec<u8> {
    let mut buffer = [0; 20];
    MessageBuilder::new(
        &mut buffer,
        Class::Request,
        Method::BINDING,
        TransactionId(id),
    )
    .finish()
    .unwrap();
    buffer.to_vec()
}

fn source(n: u32) -> Path {
    let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n));
    Path::udp(
        address("5.5.5.5:3478"),
        SocketAddr::new(ip, 1 + (n % 60_000) as u16),
    )
}

#[test]
fn attack_11_binding_flood() {
    let mut world = World::new();
    for n in 0..10_000u32 {
        let mut id = [0; 12];
        id[..4].copy_from_slice(&n.to_be_bytes());
        world.client_sends(Raw::new("7.7.7.7:1000").path, &binding(id));
    }
    assert_eq!(world.to_clients.len(), 500, "a burst, and then silence");
    assert_eq!(world.server.stats().rate_limited, 9_500);
    world.to_clients.clear();
    world.client_sends(Raw::new("7.7.8.7:1000").path, &binding([1; 12]));
    assert_eq!(world.to_clients.len(), 1, "another source is answered");
    world.advance(Duration::from_secs(1));
    world.client_sends(Raw::new("7.7.7.7:1000").path, &binding([1; 12]));
    assert_eq!(world.to_clients.len(), 2, "and the same one a second later");
}

#[test]
fn attacks_12_and_24_spoofed_requests_leave_nothing() {
    // coturn 4.6 kept 20 kB per spoofed source. 100,000 here.
    let mut world = World::new();
    let raw = Raw::new("7.7.7.7:1000");
    let mut requests = Vec::new();
    requests.push(raw.build(Method::ALLOCATE, TransactionId([1; 12]), |b| {
        b.add(&RequestedTransport::UDP);
    }));
    requests.push(raw.build(Method::REFRESH, TransactionId([2; 12]), |_| ()));
    requests.push(binding([3; 12]));
    requests.push(vec![0x40, 0, 0, 4, 1, 2, 3, 4]);
    requests.push(vec![22, 254, 253, 0, 0, 0, 0, 0]);
    requests.push(vec![0x80, 96, 1, 2, 3]);
    for n in 0..100_000u32 {
        let request = &requests[n as usize % requests.len()];
        world.client_sends(source(n), request);
        world.to_clients.clear();
    }
    assert!(world.server.is_empty());
    assert_eq!(world.server.users(), 0);
    assert_eq!(
        world.server.poll_timeout(),
        None,
        "nothing to remember, nothing to forget"
    );
    assert_eq!(world.server.poll_event(), None);
    assert!(world.commands.is_empty() && world.open.is_empty());
}

#[test]
fn attack_13_forged_integrity_costs_no_hmac_over_the_message() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.nonce = b"obMatJos2gAAAAAAAAAAAAAAAAA".to_vec();
    for n in 0..1000u16 {
        raw.path.remote.set_port(n + 1);
        let request = raw.build(Method::ALLOCATE, TransactionId([1; 12]), |b| {
            b.add(&RequestedTransport::UDP);
        });
        world.client_sends(raw.path, &request);
    }
    assert_eq!(
        world.server.stats().unauthenticated,
        0,
        "the nonce is looked at first"
    );
    assert_eq!(
        world.to_clients.len(),
        250,
        "438, within the limit for one address"
    );
}

#[test]
fn attack_14_junk() {
    let mut world = World::new();
    let mut random = Random::from_u64(5);
    for n in 0..20_000 {
        let mut bytes = vec![0; random.below(200) as usize];
        random.fill(&mut bytes);
        if n % 2 == 0 && bytes.len() >= 20 {
            bytes.truncate(bytes.len() / 4 * 4);
            let length = (bytes.len() - 20) as u16;
            bytes[0] &= 0x01;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&visavis_stun::MAGIC_COOKIE.to_be_bytes());
        }
        world.client_sends(source(n), &bytes);
        world.peer_sends(address("8.8.8.8:1"), address("5.5.5.5:50000"), &bytes);
    }
    assert!(world.server.is_empty());
    let unanswered = 20_000 - world.to_clients.len();
    assert!(unanswered > 19_000, "junk is not answered");
}

#[test]
fn attack_15_amplification() {
    // Bytes of UDP payload, out over in, for what strangers can send.
    let mut world = World::new();
    let raw = Raw::new("7.7.7.7:1000");
    let id = TransactionId([7; 12]);
    let methods = [
        Method::ALLOCATE,
        Method::REFRESH,
        Method::CREATE_PERMISSION,
        Method::CHANNEL_BIND,
        Method::CONNECT,
        Method::CONNECTION_BIND,
    ];
    let ratio = |world: &mut World, request: &[u8]| {
        world.client_sends(raw.path, request);
        let out: usize = world
            .to_clients
            .drain(..)
            .map(|(_, bytes)| bytes.len())
            .sum();
        out as f64 / request.len() as f64
    };
    let binding = ratio(&mut world, &binding([1; 12]));
    assert!(binding <= 1.6, "Binding: {binding}");
    for method in methods {
        for size in 0..10 {
            let request = raw.build(method, id, |b| {
                b.add(&RequestedTransport::UDP);
                for _ in 0..size {
                    b.add(&Lifetime(600));
                }
            });
            let ratio = ratio(&mut world, &request);
            assert!(
                ratio > 0.0 && ratio <= 2.4,
                "{method:?} of {} bytes: {ratio}",
                request.len()
            );
        }
        // Less than any client sends.
        let request = raw.build(method, id, |_| ());
        assert_eq!(ratio(&mut world, &request), 0.0, "{method:?}");
    }
    // Unknown methods and attributes, bad requests with credentials of somebody's making.
    for method in [0x002, 0x005, 0x00f, 0xfff] {
        let request = raw.build(Method::new(method), id, |_| ());
        assert!(ratio(&mut world, &request) <= 1.5);
    }
    for count in 1..100 {
        let request = raw.build(Method::BINDING, id, |b| {
            for kind in 0..count {
                b.add_raw(AttributeType(0x7000 + kind), &[]);
            }
        });
        let ratio = ratio(&mut world, &request);
        assert!(ratio <= 1.7, "{count} unknown attributes: {ratio}");
    }
    // Indications and responses are never answered.
    for class in [Class::Indication, Class::Success, Class::Error] {
        for method in methods
            .into_iter()
            .chain([Method::BINDING, Method::SEND, Method::DATA])
        {
            let mut buffer = [0; 100];
            let len = MessageBuilder::new(&mut buffer, class, method, id)
                .add(&ErrorCode::UNAUTHENTICATED)
                .finish()
                .unwrap();
            assert_eq!(ratio(&mut world, &buffer[..len]), 0.0);
        }
    }
    assert_eq!(
        world.server.stats().rate_limited,
        0,
        "the limiter hid nothing"
    );
}

#[test]
fn attack_15_the_smallest_challenge_leaves_the_offer_out() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    for (extra, offered) in [(0, false), (1, true), (4, true)] {
        raw.nonce.clear();
        let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP);
            for _ in 0..extra {
                b.add(&Lifetime(600));
            }
        });
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.has(AttributeType::PASSWORD_ALGORITHMS), offered);
        let nonce = message.raw(AttributeType::NONCE).unwrap();
        let features = SecurityFeatures::of_nonce(nonce).unwrap_or_default();
        assert_eq!(
            features.password_algorithms, offered,
            "the nonce says the same"
        );
        assert!(!message.has(AttributeType::SOFTWARE));
    }
}

#[test]
fn attack_16_challenges_are_limited_per_source_and_an_office_is_not_silenced() {
    let mut world = World::new();
    let raw = Raw::new("7.7.7.7:1000");
    let request = raw.build(Method::ALLOCATE, TransactionId([1; 12]), |b| {
        b.add(&RequestedTransport::UDP);
    });
    // 200 people behind one address come back from lunch.
    for n in 0..200u16 {
        let mut path = raw.path;
        path.remote.set_port(1000 + n);
        world.client_sends(path, &request);
    }
    assert_eq!(world.to_clients.len(), 200);
    for n in 0..5000u16 {
        let mut path = raw.path;
        path.remote.set_port(2000 + n);
        world.client_sends(path, &request);
    }
    assert_eq!(world.to_clients.len(), 250);
    // Over TCP nobody is somebody else.
    let tcp = Raw::on(Protocol::Tcp, "7.7.7.7:1000");
    world.client_sends(tcp.path, &request);
    assert_eq!(world.to_clients.len(), 251);
    // An IPv6 attacker has 2^64 addresses, and one bucket.
    world.to_clients.clear();
    for n in 0..5000 {
        let v6 = Raw::new(&format!("[2600::{n:x}]:1000"));
        world.client_sends(v6.path, &request);
    }
    assert_eq!(world.to_clients.len(), 250);
}

#[test]
fn attack_18_even_port_cycles_leak_no_port() {
    let mut config = config();
    config.ports = 50_000..=50_199;
    config.relays.truncate(1);
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let free = world.server.free_ports();
    for cycle in 0..20_000u32 {
        if cycle % 500 == 0 {
            world.advance(Duration::from_secs(31));
            raw.challenge(&mut world);
        }
        let reserve_next = cycle % 40 == 0;
        let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP)
                .add(&EvenPort { reserve_next });
        });
        assert_eq!(code(&answer), 0, "cycle {cycle}");
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.get::<ReservationToken>().is_some(), reserve_next);
        assert_eq!(raw.refresh(&mut world, 0), 0);
    }
    world.advance(Duration::from_secs(31));
    assert_eq!(world.server.free_ports(), free);
    assert!(world.open.is_empty());
}

#[test]
fn attack_18_allocations_that_fail_late_leak_no_port() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let free = world.server.free_ports();
    for _ in 0..1000 {
        let code = raw.code(&mut world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP)
                .add_raw(AttributeType::LIFETIME, &[1, 2, 3]);
        });
        assert_eq!(code, 400);
    }
    assert_eq!(world.server.free_ports(), free);
    assert_eq!(world.server.len(), 0);
}

#[test]
fn reservations_are_held_for_their_user() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP)
            .add(&EvenPort { reserve_next: true });
    });
    let message = Message::parse(&answer).unwrap();
    let token = message.get::<ReservationToken>().unwrap();
    let first = message
        .get::<visavis_stun::attributes::XorRelayedAddress>()
        .unwrap()
        .0;
    assert!(first.port().is_multiple_of(2));
    let take = |world: &mut World, raw: &Raw| {
        raw.ask(world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP).add(&token);
        })
    };
    let mut thief = Raw::new("7.7.7.8:1000");
    thief.set_user("bob", "bob's password");
    thief.challenge(&mut world);
    assert_eq!(code(&take(&mut world, &thief)), 508);
    let mut second = Raw::new("7.7.7.7:1001");
    second.challenge(&mut world);
    let answer = take(&mut world, &second);
    let message = Message::parse(&answer).unwrap();
    let next = message
        .get::<visavis_stun::attributes::XorRelayedAddress>()
        .unwrap()
        .0;
    assert_eq!(next.port(), first.port() + 1);
    let mut third = Raw::new("7.7.7.7:1002");
    third.challenge(&mut world);
    assert_eq!(code(&take(&mut world, &third)), 508, "spent");
    let both = third.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP).add(&token).add(&EvenPort {
            reserve_next: false,
        });
    });
    assert_eq!(both, 400);
}

#[test]
fn attack_18_quotas_per_user_address_and_total() {
    let mut config = config();
    config.limits.allocations_per_user = 3;
    config.limits.allocations_per_address = 4;
    config.limits.allocations = 5;
    let mut world = World::with(config);
    let mut attempt = |user: &str, password: &str, remote: &str| {
        let mut raw = Raw::new(remote);
        raw.set_user(user, password);
        raw.challenge(&mut world);
        raw.code(&mut world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP);
        })
    };
    for port in 1..=3 {
        assert_eq!(
            attempt("alice", common::PASSWORD, &format!("7.7.7.7:{port}")),
            0
        );
    }
    assert_eq!(attempt("alice", common::PASSWORD, "7.7.7.7:4"), 486, "user");
    assert_eq!(
        attempt("alice", common::PASSWORD, "7.7.7.8:4"),
        486,
        "user, elsewhere"
    );
    assert_eq!(attempt("bob", "bob's password", "7.7.7.7:5"), 0);
    assert_eq!(
        attempt("bob", "bob's password", "7.7.7.7:6"),
        486,
        "address"
    );
    assert_eq!(attempt("bob", "bob's password", "7.7.7.8:6"), 0);
    assert_eq!(attempt("bob", "bob's password", "7.7.7.8:7"), 508, "total");
    assert_eq!(world.server.users(), 2);
    world.advance(Duration::from_secs(600));
    assert_eq!((world.server.len(), world.server.users()), (0, 0));
}

#[test]
fn attack_18_the_port_pool_runs_dry_and_recovers() {
    let mut config = config();
    config.ports = 50_000..=50_009;
    config.relays.truncate(1);
    let mut world = World::with(config);
    let mut codes = Vec::new();
    for port in 1..=12 {
        let mut raw = Raw::new(&format!("7.7.7.7:{port}"));
        raw.challenge(&mut world);
        codes.push(raw.code(&mut world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP);
        }));
    }
    assert_eq!(codes[..10], [0; 10]);
    assert_eq!(codes[10..], [508, 508]);
    world.advance(Duration::from_secs(601));
    assert_eq!(world.server.free_ports(), 10);
}

#[test]
fn a_port_that_somebody_else_has_is_replaced() {
    let mut world = World::new();
    world.refuse_sockets = 15;
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    assert_eq!(world.open.len(), 1);
    world.refuse_sockets = 16;
    let mut raw = Raw::new("7.7.7.7:1001");
    raw.challenge(&mut world);
    let refused = raw.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP);
    });
    assert_eq!(refused, 508);
    assert_eq!(world.server.len(), 1);
    assert_eq!(world.server.free_ports(), 2 * 16_384 - 1);
}

#[test]
fn attack_19_lifetimes_out_of_range() {
    let mut world = World::new();
    for (asked, given) in [
        (0, 600),
        (1, 600),
        (700, 700),
        (3601, 3600),
        (u32::MAX, 3600),
    ] {
        let mut raw = Raw::new("7.7.7.7:1000");
        raw.challenge(&mut world);
        let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP).add(&Lifetime(asked));
        });
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.get(), Some(Lifetime(given)), "asked for {asked}");
        let answer = raw.ask(&mut world, Method::REFRESH, |b| {
            b.add(&Lifetime(asked));
        });
        let message = Message::parse(&answer).unwrap();
        let refreshed = if asked == 0 { 0 } else { given };
        assert_eq!(message.get(), Some(Lifetime(refreshed)));
        raw.refresh(&mut world, 0);
        assert!(world.server.is_empty());
    }
}

#[test]
fn attack_20_channels_are_bounded_and_their_numbers_keep_their_peers() {
    let mut config = config();
    config.limits.channels = 10;
    config.rfc5766_channels = false;
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    let codes: Vec<_> = (0..12)
        .map(|n| raw.bind(&mut world, 0x4000 + n, &format!("8.8.8.8:{}", 1000 + n)))
        .collect();
    assert_eq!(codes[..10], [0; 10]);
    assert_eq!(codes[10..], [508, 508]);
    assert_eq!(raw.bind(&mut world, 0x4000, "8.8.8.8:1000"), 0, "renewed");
    assert_eq!(
        raw.bind(&mut world, 0x4000, "8.8.8.8:1001"),
        400,
        "the number is taken"
    );
    assert_eq!(
        raw.bind(&mut world, 0x4fff, "8.8.8.8:1001"),
        400,
        "the peer has another"
    );
    for number in [0, 0x3fff, 0x5000, 0x7fff, 0xffff] {
        assert_eq!(
            raw.bind(&mut world, number, "8.8.8.8:5000"),
            400,
            "{number:#x}"
        );
    }
    assert_eq!(raw.bind(&mut world, 0x4fff, "[2600::1]:5000"), 443);
    // Lapsed, numbers and peers are free again. (The allocation has to live on meanwhile.)
    for _ in 0..2 {
        world.advance(Duration::from_secs(400));
        raw.challenge(&mut world);
        assert_eq!(raw.refresh(&mut world, 600), 0);
    }
    for n in 0..10 {
        let peer = format!("8.8.8.8:{}", 1001 + n);
        assert_eq!(raw.bind(&mut world, 0x4100 - n, &peer), 0);
    }
    for n in 0..10 {
        raw.send_channel(&mut world, 0x4100 - n, b"x");
        assert_eq!(world.to_peers.pop().unwrap().peer.port(), 1001 + n);
    }
}

#[test]
fn rfc_5766_clients_may_have_higher_channel_numbers() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.allocate(&mut world);
    for number in [0x3fff, 0x7fff, 0x8000] {
        assert_eq!(
            raw.bind(&mut world, number, "8.8.8.8:1000"),
            400,
            "{number:#x}"
        );
    }
    assert_eq!(raw.bind(&mut world, 0x7ffe, "8.8.8.8:1000"), 0);
    world.client_sends(raw.path, &[0x7f, 0xfe, 0, 2, 1, 2]);
    assert_eq!(world.to_peers.pop().unwrap().payload, [1, 2]);
}

#[test]
fn attack_20_traffic_over_a_rate_is_dropped() {
    let cases: [fn(&mut visavis_turn::server::ServerConfig); 5] = [
        |config| config.limits.allocation_rate.bytes = Some(10_000),
        |config| config.limits.allocation_rate.packets = Some(100),
        |config| config.limits.user_rate.bytes = Some(10_000),
        |config| config.limits.address_rate.packets = Some(100),
        |config| config.limits.total_rate.bytes = Some(10_000),
    ];
    for (case, limit) in cases.into_iter().enumerate() {
        let mut config = config();
        limit(&mut config);
        let mut world = World::with(config);
        let mut raw = Raw::new("7.7.7.7:1000");
        let relay = raw.allocate(&mut world);
        raw.bind(&mut world, 0x4000, "8.8.8.8:1000");
        for _ in 0..200 {
            raw.send_channel(&mut world, 0x4000, &[0; 100]);
            world.peer_sends(address("8.8.8.8:1000"), relay, &[0; 100]);
        }
        let relayed = world.to_peers.len() + world.to_clients.len();
        assert_eq!(relayed, 100, "case {case}");
        world.advance(Duration::from_millis(500));
        for _ in 0..200 {
            raw.send_channel(&mut world, 0x4000, &[0; 100]);
        }
        let relayed = world.to_peers.len() + world.to_clients.len();
        assert_eq!(relayed, 150, "case {case}");
        assert_eq!(world.server.stats().over_rate, 450);
    }
}

#[test]
fn attack_21_answers_that_nobody_fetches_are_bounded() {
    let mut config = config();
    config.limits.waiting_reply_bytes = 1000;
    config.limits.bindings_per_second = 1e6;
    let mut world = World::with(config);
    let path = Raw::new("7.7.7.7:1000").path;
    for _ in 0..100 {
        world
            .server
            .handle_client(world.now, path, &mut binding([1; 12]));
    }
    assert_eq!(world.server.stats().replies_dropped, 100 - 1000 / 32);
    world.pump();
    assert_eq!(world.to_clients.len(), 1000 / 32);
}

#[test]
fn attack_22_events_are_bounded() {
    let mut config = config();
    config.limits.allocations_per_user = usize::MAX;
    let mut world = World::with(config);
    let mut raw = Raw::new("7.7.7.7:1000");
    raw.challenge(&mut world);
    for _ in 0..3000 {
        assert_eq!(
            raw.code(&mut world, Method::ALLOCATE, |b| {
                b.add(&RequestedTransport::UDP);
            }),
            0
        );
        raw.refresh(&mut world, 0);
    }
    let mut events = 0;
    while world.server.poll_event().is_some() {
        events += 1;
    }
    assert_eq!(events, 4096);
}

#[test]
fn cve_2020_4067_answers_show_nobody_elses_bytes() {
    // Dirt is all around what the harness hands in; two servers with the same seed answer the same.
    let answers = |dirt: &[u8]| {
        let mut world = World::new();
        let mut raw = Raw::new("7.7.7.7:1000");
        let relay = raw.allocate(&mut world);
        raw.permit(&mut world, "8.8.8.8:1");
        // Odd lengths, so that there is padding.
        raw.send(&mut world, "8.8.8.8:1", dirt);
        world.peer_sends(address("8.8.8.8:1"), relay, b"12345");
        let (_, indication) = world.to_clients.pop().unwrap();
        let answer = raw.ask(&mut world, Method::ALLOCATE, |b| {
            b.add(&RequestedTransport::UDP);
        });
        (indication, answer)
    };
    let (first, second) = (answers(&[0xaa; 333]), answers(&[0x55; 333]));
    assert_eq!(first, second);
    assert_eq!(
        first.0[first.0.len() - 3..],
        [0; 3],
        "the indication's padding"
    );
}

#[test]
fn rfc_5780_is_off_by_default_and_sends_from_the_other_address_where_it_is_on() {
    use visavis_stun::attributes::{ChangeRequest, OtherAddress, ResponseOrigin, ResponsePort};
    let ask = |world: &mut World, change_ip, change_port| {
        let raw = Raw::new("7.7.7.7:1000");
        let request = raw.build(Method::BINDING, TransactionId([1; 12]), |b| {
            b.add(&ChangeRequest {
                change_ip,
                change_port,
            });
        });
        world.client_sends(raw.path, &request);
        world.to_clients.pop().unwrap()
    };
    let mut world = World::new();
    let (_, answer) = ask(&mut world, true, true);
    assert_eq!(code(&answer), 420);
    let mut config = config();
    config.other_address = Some(address("5.5.5.6:3479"));
    let mut world = World::with(config);
    for (ip, port, from) in [
        (false, false, "5.5.5.5:3478"),
        (false, true, "5.5.5.5:3479"),
        (true, false, "5.5.5.6:3478"),
        (true, true, "5.5.5.6:3479"),
    ] {
        let (path, answer) = ask(&mut world, ip, port);
        assert_eq!(path.local, address(from));
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.get(), Some(ResponseOrigin(address(from))));
        assert_eq!(message.get(), Some(OtherAddress(address("5.5.5.6:3479"))));
        assert_eq!(
            message.get(),
            Some(XorMappedAddress(address("7.7.7.7:1000")))
        );
    }
    let raw = Raw::new("7.7.7.7:1000");
    let request = raw.build(Method::BINDING, TransactionId([1; 12]), |b| {
        b.add(&ResponsePort(4444));
    });
    world.client_sends(raw.path, &request);
    assert_eq!(
        world.to_clients.pop().unwrap().0.remote,
        address("7.7.7.7:4444")
    );
}

#[test]
fn rfc_3489_clients_are_answered_only_where_asked_for() {
    let mut request = binding([1; 12]);
    request[4..8].fill(0x55);
    let raw = Raw::new("7.7.7.7:1000");
    let mut world = World::new();
    world.client_sends(raw.path, &request);
    assert_eq!(world.to_clients, []);
    let mut config = config();
    config.classic = true;
    let mut world = World::with(config);
    world.client_sends(raw.path, &request);
    let (_, answer) = world.to_clients.pop().unwrap();
    assert_eq!(answer[4..20], request[4..20], "its 128 bits come back");
    let message = Message::parse_classic(&answer).unwrap();
    let mapped = message.get::<visavis_stun::attributes::MappedAddress>();
    assert_eq!(mapped.unwrap().0, raw.path.remote);
    // No TURN for them.
    let mut allocate = raw.build(Method::ALLOCATE, TransactionId([1; 12]), |_| ());
    allocate[4..8].fill(0x55);
    world.client_sends(raw.path, &allocate);
    assert_eq!(world.to_clients, []);
}

#[test]
fn attack_36_broken_messages() {
    let mut world = World::new();
    let raw = Raw::new("7.7.7.7:1000");
    let good = {
        let mut buffer = [0; 100];
        let len = MessageBuilder::new(
            &mut buffer,
            Class::Request,
            Method::BINDING,
            TransactionId([1; 12]),
        )
        .add(&Software("x"))
        .fingerprint()
        .finish()
        .unwrap();
        buffer[..len].to_vec()
    };
    for len in 0..good.len() {
        world.client_sends(raw.path, &good[..len]);
    }
    // Every bit, but those that turn the FINGERPRINT into another attribute or into SOFTWARE's value.
    let fingerprint = (good.len() - 8) * 8;
    let bits = (0..22 * 8).chain(24 * 8..fingerprint);
    for bit in bits.chain(fingerprint + 16..good.len() * 8) {
        let mut broken = good.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        world.client_sends(raw.path, &broken);
    }
    assert_eq!(
        world.to_clients,
        [],
        "a wrong FINGERPRINT, length or cookie is silence"
    );
    world.client_sends(raw.path, &[&good[..], &[0; 4]].concat());
    assert_eq!(world.to_clients, []);
    world.client_sends(raw.path, &good);
    let (_, answer) = world.to_clients.pop().unwrap();
    let message = Message::parse(&answer).unwrap();
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    // Unknown required attributes are listed.
    let request = raw.build(Method::BINDING, TransactionId([1; 12]), |b| {
        b.add_raw(AttributeType(0x7abc), &[1])
            .add_raw(AttributeType(0xfabc), &[1]);
    });
    world.client_sends(raw.path, &request);
    let (_, answer) = world.to_clients.pop().unwrap();
    let message = Message::parse(&answer).unwrap();
    let unknown = message
        .get::<visavis_stun::attributes::UnknownAttributes>()
        .unwrap();
    assert_eq!(code(&answer), 420);
    assert!(unknown.types().eq([AttributeType(0x7abc)]));
}

#[test]
fn attack_37_and_38_channel_data_of_wrong_lengths_and_numbers() {
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let mut world = World::new();
        let mut raw = Raw::on(protocol, "7.7.7.7:1000");
        raw.allocate(&mut world);
        raw.bind(&mut world, 0x4000, "8.8.8.8:1000");
        for bytes in [
            &[0x40][..],
            &[0x40, 0, 0],
            &[0x40, 0, 0, 5, 1, 2, 3, 4],
            &[0x40, 0, 0xff, 0xff, 1, 2, 3, 4],
            &[0x40, 1, 0, 4, 1, 2, 3, 4],
            &[0x4f, 0xff, 0, 4, 1, 2, 3, 4],
            &[0x50, 0, 0, 4, 1, 2, 3, 4],
            &[0x7f, 0xff, 0, 4, 1, 2, 3, 4],
        ] {
            world.client_sends(raw.path, bytes);
        }
        assert_eq!(world.to_peers, []);
        // Longer than it says is padding; an empty payload is sent as such.
        world.client_sends(raw.path, &[0x40, 0, 0, 1, 9, 0, 0, 0]);
        assert_eq!(world.to_peers.pop().unwrap().payload, [9]);
        world.client_sends(raw.path, &[0x40, 0, 0, 0]);
        assert_eq!(world.to_peers.pop().unwrap().payload, []);
    }
}

#[test]
fn cve_2020_6061_http_on_the_turn_port_is_junk() {
    let mut world = World::new();
    let tcp = Raw::on(Protocol::Tcp, "7.7.7.7:1000");
    world.client_sends(tcp.path, b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n");
    assert_eq!(world.to_clients, []);
    assert_eq!(world.server.stats().malformed, 1);
}

#[test]
fn icmp_reaches_the_client_that_caused_it() {
    use visavis_stun::attributes::{Icmp, XorPeerAddress};
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    let relay = raw.allocate(&mut world);
    raw.permit(&mut world, "8.8.8.8:1");
    let icmp = |kind| Icmp {
        kind,
        code: 3,
        data: 0,
    };
    let (now, peer) = (world.now, address("8.8.8.8:1"));
    world.server.handle_icmp(now, relay, peer, icmp(3));
    // Not of a kind that is told, and not about a permitted peer.
    world.server.handle_icmp(now, relay, peer, icmp(8));
    world
        .server
        .handle_icmp(now, relay, address("8.8.4.4:1"), icmp(3));
    world.pump();
    let (_, bytes) = world.to_clients.pop().unwrap();
    assert_eq!(world.to_clients, []);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.get(), Some(icmp(3)));
    assert_eq!(message.get(), Some(XorPeerAddress(peer)));
}

#[test]
fn draining_makes_no_allocation_and_harms_none() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    let relay = raw.allocate(&mut world);
    world.server.drain(true);
    raw.bind(&mut world, 0x4000, "8.8.8.8:1000");
    raw.send_channel(&mut world, 0x4000, b"goes on");
    world.peer_sends(address("8.8.8.8:1000"), relay, b"both ways");
    assert_eq!((world.to_peers.len(), world.to_clients.len()), (1, 1));
    world.to_clients.clear();
    let mut late = Raw::new("7.7.7.7:1001");
    late.challenge(&mut world);
    let refused = late.code(&mut world, Method::ALLOCATE, |b| {
        b.add(&RequestedTransport::UDP);
    });
    assert_eq!(refused, 508);
    let id = world.server.allocations(world.now).next().unwrap().id;
    assert!(world.server.end(world.now, id));
    assert!(!world.server.end(world.now, id));
    world.pump();
    assert!(world.open.is_empty());
}
