//! The relay path and the answers to strangers allocate nothing, once everything has its size.

mod common;

use allocation_counter::measure;
use common::{Raw, World, address};
use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_stun::attributes::{Data, RequestedTransport, XorPeerAddress};
use visavis_stun::{Class, Message, MessageBuilder, Method, TransactionId};
use visavis_turn::client::{Client, ClientConfig, Received};
use visavis_turn::server::{CLIENT_HEADROOM, CLIENT_TAILROOM, Forward};

const PEER: &str = "8.8.8.8:1000";

#[test]
fn the_server_relays_without_allocating() {
    let mut world = World::new();
    let mut raw = Raw::new("7.7.7.7:1000");
    let relay = raw.allocate(&mut world);
    assert_eq!(raw.bind(&mut world, 0x4000, PEER), 0);
    assert_eq!(raw.permit(&mut world, "9.9.9.9:1"), 0);
    let (now, from) = (world.now, raw.path);
    let mut channel_data = vec![0x40, 0, 4, 176];
    channel_data.resize(1204, 7);
    let mut send = vec![0; 1400];
    let id = TransactionId([1; 12]);
    let len = MessageBuilder::new(&mut send, Class::Indication, Method::SEND, id)
        .add(&XorPeerAddress(address("9.9.9.9:5000")))
        .add(&Data(&[7; 1200]))
        .finish()
        .unwrap();
    send.truncate(len);
    let mut buffer = vec![0; CLIENT_HEADROOM + 1200 + CLIENT_TAILROOM];
    let payload = CLIENT_HEADROOM..CLIENT_HEADROOM + 1200;
    let server = &mut world.server;
    let mut relayed = 0;
    let mut round = || {
        for (bytes, peer) in [(&mut channel_data, PEER), (&mut send, "9.9.9.9:5000")] {
            let to_peer = server.handle_client(now, from, bytes);
            relayed += u32::from(matches!(to_peer, Some(Forward::ToPeer { .. })));
            let peer = peer.parse().unwrap();
            let to_client = server.handle_peer(now, relay, peer, &mut buffer, payload.clone());
            relayed += u32::from(matches!(to_client, Some(Forward::ToClient { .. })));
        }
    };
    round();
    let counted = measure(|| (0..1000).for_each(|_| round()));
    assert_eq!(counted.count_total, 0);
    assert_eq!(relayed, 4004);
}

#[test]
fn strangers_are_answered_without_allocating_per_datagram() {
    let mut world = World::new();
    let raw = Raw::new("7.7.7.7:1000");
    let mut out = TransmitBuf::new(1, 1500);
    let mut binding = raw.build(Method::BINDING, TransactionId([1; 12]), |_| ());
    let (now, server) = (world.now, &mut world.server);
    let mut answered = 0;
    let mut round = |n: u32| {
        let ip: std::net::IpAddr = std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into();
        let from = Path::udp(raw.path.local, std::net::SocketAddr::new(ip, 1000));
        server.handle_client(now, from, &mut binding);
        while server.poll_transmit(now, &mut out).is_some() {
            answered += 1;
            out.clear();
        }
    };
    round(0);
    let counted = measure(|| (1..=1000).for_each(&mut round));
    assert_eq!(counted.count_total, 0);
    assert_eq!(answered, 1001);
}

#[test]
fn the_client_wraps_and_unwraps_without_allocating() {
    let mut world = World::new();
    let mut client = Client::new(
        world.now,
        Path::udp(address("7.7.7.7:1000"), address("5.5.5.5:3478")),
        ClientConfig::new(common::USER, common::PASSWORD),
        Random::from_u64(1),
    );
    let mut out = TransmitBuf::new(10, 1500);
    let settle = |world: &mut World, client: &mut Client, out: &mut TransmitBuf| {
        while let Some(transmit) = client.poll_transmit(world.now, out) {
            let path = transmit.path();
            let server_side = Path::udp(path.remote, path.local);
            let bytes = out.as_slice().to_vec();
            out.clear();
            world.client_sends(server_side, &bytes);
            for (_, bytes) in std::mem::take(&mut world.to_clients) {
                client.unwrap(world.now, path, &bytes);
            }
        }
    };
    settle(&mut world, &mut client, &mut out);
    let (bound, permitted) = (address(PEER), address("9.9.9.9:1"));
    client.bind(world.now, bound).unwrap();
    client.permit(world.now, permitted).unwrap();
    settle(&mut world, &mut client, &mut out);
    assert!(client.is_bound(bound));
    let path = client.path();
    let mut incoming = vec![0x40, 0, 4, 176];
    incoming.resize(1204, 7);
    let now = world.now;
    let mut data = 0;
    let mut round = || {
        for peer in [bound, permitted] {
            out.clear();
            client.wrap(now, peer, &[7; 1200], &mut out).unwrap();
        }
        let received = client.unwrap(now, path, &incoming);
        data += u32::from(matches!(received, Received::Data { .. }));
        assert_eq!(client.poll_timeout(), client.poll_timeout());
    };
    round();
    let counted = measure(|| (0..1000).for_each(|_| round()));
    assert_eq!(counted.count_total, 0);
    assert_eq!(data, 1001);
}

#[test]
fn an_allocation_costs_less_than_four_kilobytes() {
    let mut world = World::new();
    let mut raws = Vec::new();
    for n in 0..600u16 {
        let mut raw = Raw::new(&format!("7.7.{}.7:{}", n / 100, 1000 + n));
        raw.set_user("1900000000:guest", "");
        raws.push(raw);
    }
    // Time-limited names, one per allocation, as in service.
    use base64::Engine as _;
    let key = visavis_crypto::hmac::Key::new(visavis_crypto::HashAlgorithm::Sha1, b"shared secret");
    for (n, raw) in raws.iter_mut().enumerate() {
        let user = format!("1900000000:guest{n}");
        let password =
            base64::engine::general_purpose::STANDARD.encode(key.sign(&[user.as_bytes()]));
        raw.set_user(&user, &password);
        raw.challenge(&mut world);
    }
    let requests: Vec<_> = raws
        .iter()
        .map(|raw| {
            raw.build(Method::ALLOCATE, TransactionId([9; 12]), |b| {
                b.add(&RequestedTransport::UDP);
            })
        })
        .collect();
    let mut serve = |range: std::ops::Range<usize>| {
        for (raw, request) in raws[range.clone()].iter().zip(&requests[range]) {
            let mut bytes = request.clone();
            world.server.handle_client(world.now, raw.path, &mut bytes);
            while let Some(command) = world.server.poll_command() {
                if let visavis_turn::server::Command::OpenRelay { relay, .. } = command {
                    world.server.relay_opened(world.now, relay, true);
                }
            }
            let mut out = TransmitBuf::new(1, 1500);
            assert!(world.server.poll_transmit(world.now, &mut out).is_some());
            let answer = Message::parse(out.as_slice()).unwrap();
            assert_eq!(answer.class(), Class::Success);
            while world.server.poll_event().is_some() {}
        }
    };
    serve(0..100);
    let counted = measure(|| serve(100..600));
    let each = counted.bytes_current / 500;
    assert!((500..4096).contains(&each), "{each} bytes");
}
