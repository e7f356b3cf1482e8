//! The stateless front: cookies survive fragments in any order, and nothing is kept for strangers.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{End, certificate, config, introduce};
use visavis_crypto::{Group, KeyAlgorithm};
use visavis_datagram::Random;
use visavis_dtls::{
    AlertDescription, CloseReason, Config, Connection, Event, Front, FrontAnswer, FrontLimits,
    Version,
};

fn source() -> SocketAddr {
    "192.0.2.7:5000".parse().unwrap()
}

struct Server {
    front: Front,
    connection: Option<End>,
    replies: usize,
}

impl Server {
    fn new(config: Config, now: Instant) -> Self {
        let config = Arc::new(config);
        let limits = FrontLimits::default();
        Self {
            front: Front::new(config, limits, Random::from_u64(5), now).unwrap(),
            connection: None,
            replies: 0,
        }
    }

    /// Hands datagrams over; gives what goes back.
    fn receive(&mut self, now: Instant, datagrams: Vec<Vec<u8>>, client: &mut End) -> Vec<Vec<u8>> {
        let mut back = Vec::new();
        for mut datagram in datagrams {
            if let Some(connection) = &mut self.connection {
                connection.receive(now, datagram);
                continue;
            }
            let mut reply = Vec::new();
            match self
                .front
                .handle_datagram(now, source(), &mut datagram, &mut reply)
            {
                FrontAnswer::Reply => {
                    self.replies += 1;
                    back.push(reply);
                }
                FrontAnswer::Accepted(connection) => {
                    let mut end = End::new(*connection);
                    introduce(now, &mut end, client);
                    end.poll();
                    self.connection = Some(end);
                }
                _ => {}
            }
        }
        if let Some(connection) = &mut self.connection {
            back.extend(connection.transmit(now));
        }
        back
    }
}

fn client(config: Config, server: &Config, now: Instant) -> End {
    let mut end = End::new(Connection::client(Arc::new(config), Random::from_u64(9), now).unwrap());
    let fingerprint = server.certificates[0].fingerprint(visavis_crypto::HashAlgorithm::Sha256);
    end.dtls.set_remote_fingerprints(now, [fingerprint]);
    end
}

/// Runs a handshake through a front; `order` rearranges each flight of the client.
fn handshake(
    client_config: Config,
    server_config: Config,
    order: impl Fn(usize, &mut Vec<Vec<u8>>),
) -> (End, Server, usize) {
    let mut now = Instant::now();
    let mut client = client(client_config, &server_config, now);
    let mut server = Server::new(server_config, now);
    let mut flights = 0;
    for _ in 0..60 {
        let mut datagrams = client.transmit(now);
        if !datagrams.is_empty() {
            order(flights, &mut datagrams);
            flights += 1;
        }
        for datagram in server.receive(now, datagrams, &mut client) {
            client.receive(now, datagram);
        }
        let connected = |end: &End| end.dtls.is_connected();
        if connected(&client) && server.connection.as_ref().is_some_and(connected) {
            return (client, server, flights);
        }
        if client.dtls.is_closed() {
            break;
        }
        // Time moves only when nobody has anything to say.
        if server.connection.as_mut().is_none_or(|end| {
            let waiting = end.dtls.poll_timeout();
            waiting.is_none_or(|at| at > now)
        }) {
            now += Duration::from_millis(50);
        }
        client.dtls.handle_timeout(now);
        if let Some(end) = &mut server.connection {
            end.dtls.handle_timeout(now);
        }
    }
    panic!(
        "no connection: {:?} {:?} {:?}",
        client.events,
        server.front.stats(),
        server.connection.map(|end| end.events)
    );
}

#[test]
fn both_versions_connect_through_a_cookie() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for groups in [vec![Group::X25519], Group::ALL.to_vec()] {
            let mut ours = config(1);
            ours.groups = groups;
            let mut theirs = config(2);
            theirs.max_version = version;
            let (mut client, server, flights) = handshake(ours, theirs, |_, _| {});
            let mut end = server.connection.unwrap();
            assert_eq!(client.connected().unwrap().version, version);
            assert_eq!(server.front.parked(), 0);
            // Hello, hello with cookie, and the rest: no more.
            assert_eq!(flights, 3, "{version}");
            let datagram = client.seal(b"hello");
            end.receive(Instant::now(), datagram);
            assert_eq!(end.data, [b"hello"]);
        }
    }
}

#[test]
fn a_cookie_survives_fragments_of_any_size_in_any_order() {
    // Every MTU puts the cuts elsewhere, some of them into the cookie.
    for mtu in (260..1460).step_by(40) {
        for reversed in [false, true] {
            let mut ours = config(1);
            ours.mtu = mtu;
            ours.fallback_mtu = mtu.min(548);
            let (client, server, _) = handshake(ours, config(2), |_, datagrams| {
                if reversed {
                    datagrams.reverse();
                }
            });
            assert_eq!(client.connected().unwrap().version, Version::Dtls13);
            assert_eq!(client.connected().unwrap().group, Group::X25519MlKem768);
            assert_eq!(server.front.stats().accepted, 1, "mtu {mtu}");
        }
    }
}

#[test]
fn a_cookie_can_ask_for_another_group() {
    let mut ours = config(1);
    ours.groups = vec![Group::X25519, Group::Secp384r1];
    ours.key_shares = 1;
    let mut theirs = config(2);
    theirs.groups = vec![Group::Secp384r1];
    let (client, _, flights) = handshake(ours, theirs, |_, _| {});
    assert_eq!(client.connected().unwrap().group, Group::Secp384r1);
    assert_eq!(flights, 3);
}

#[test]
fn the_first_fragments_of_the_browsers_are_answered_at_once_and_alone() {
    for (name, first, second) in [
        (
            "Chromium 156",
            &include_bytes!("fixtures/chromium156_client_hello_0.bin")[..],
            &include_bytes!("fixtures/chromium156_client_hello_1.bin")[..],
        ),
        (
            "Firefox 153",
            &include_bytes!("fixtures/firefox153_client_hello_0.bin")[..],
            &include_bytes!("fixtures/firefox153_client_hello_1.bin")[..],
        ),
    ] {
        let now = Instant::now();
        let mut server = Server::new(config(2), now);
        let mut reply = Vec::new();
        // In the wrong order: the second says nothing, and nothing of it is kept.
        let answer = server
            .front
            .handle_datagram(now, source(), &mut second.to_vec(), &mut reply);
        assert!(matches!(answer, FrontAnswer::Ignored), "{name}");
        assert_eq!(server.front.parked(), 0);
        let answer = server
            .front
            .handle_datagram(now, source(), &mut first.to_vec(), &mut reply);
        assert!(matches!(answer, FrontAnswer::Reply), "{name}");
        // A ServerHello whose random says HelloRetryRequest, with version and cookie.
        assert_eq!((reply[0], reply[13]), (22, 2), "{name}");
        assert_eq!(reply[27..31], [0xcf, 0x21, 0xad, 0x74], "{name}");
        let has = |bytes: &[u8]| reply.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(&[0, 43, 0, 2, 0xfe, 0xfc]), "{name}: its version");
        assert!(has(&[0, 44]) && has(b"vv13"), "{name}: its cookie");
    }
}

#[test]
fn a_flood_of_spoofed_hellos_keeps_nothing() {
    let now = Instant::now();
    let mut server = Server::new(config(2), now);
    let mut random = Random::from_u64(1);
    let mut reply = Vec::new();
    let first = include_bytes!("fixtures/chromium156_client_hello_0.bin");
    for round in 0..20_000u32 {
        let from = SocketAddr::from((random.bytes::<4>(), 4000));
        let mut datagram = first.to_vec();
        random.fill(&mut datagram[27..59]);
        // Every other one claims to be a second hello.
        datagram[18] = (round % 2) as u8;
        server
            .front
            .handle_datagram(now, from, &mut datagram, &mut reply);
        assert!(reply.len() <= datagram.len());
    }
    let stats = server.front.stats();
    assert!(server.front.parked() <= FrontLimits::default().parked);
    assert_eq!(stats.accepted, 0);
    assert_eq!(stats.cookies_sent, 10_000);
}

#[test]
fn cookies_hold_for_their_source_and_their_time_only() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut now = Instant::now();
        let mut ours = config(1);
        ours.groups = vec![Group::X25519];
        ours.max_version = version;
        let theirs = config(2);
        let mut client = client(ours, &theirs, now);
        let mut server = Server::new(theirs, now);
        let hello = client.transmit(now);
        for reply in server.receive(now, hello, &mut client) {
            client.receive(now, reply);
        }
        let second = client.transmit(now).remove(0);
        let mut reply = Vec::new();
        let thief: SocketAddr = "192.0.2.8:5000".parse().unwrap();
        let answer = server
            .front
            .handle_datagram(now, thief, &mut second.clone(), &mut reply);
        assert!(matches!(answer, FrontAnswer::Reply));
        assert_eq!((reply[0], &reply[13..]), (21, &[2, 47][..]), "an alert");
        // Good for the next period as well, and then no more.
        now += Duration::from_secs(70);
        let answer = server
            .front
            .handle_datagram(now, source(), &mut second.clone(), &mut reply);
        assert!(matches!(answer, FrontAnswer::Accepted(_)), "{version}");
        now += Duration::from_secs(70);
        let answer = server
            .front
            .handle_datagram(now, source(), &mut second.clone(), &mut reply);
        assert!(matches!(answer, FrontAnswer::Reply));
        client.receive(now, reply.clone());
        assert_eq!(
            client.events.last(),
            Some(&Event::Closed(CloseReason::RemoteAlert(
                AlertDescription::ILLEGAL_PARAMETER
            )))
        );
    }
}

#[test]
fn a_second_hello_that_differs_from_the_first_does_not_connect() {
    // The cookie says "rebuild", and the transcripts differ.
    let now = Instant::now();
    let theirs = config(2);
    let mut client = client(config(1), &theirs, now);
    let mut server = Server::new(theirs, now);
    let hello = client.transmit(now);
    let back = server.receive(now, hello, &mut client);
    for reply in back {
        client.receive(now, reply);
    }
    let mut second = client.transmit(now);
    // One byte of the hybrid's share, which is in the last fragment.
    let last = second.last_mut().unwrap();
    let at = last.len() - 20;
    last[at] ^= 1;
    for datagram in server.receive(now, second, &mut client) {
        client.receive(now, datagram);
    }
    assert!(!client.dtls.is_connected());
}

#[test]
fn garbage_is_ignored() {
    let now = Instant::now();
    let mut server = Server::new(Config::new(certificate(KeyAlgorithm::EcdsaP256, 3)), now);
    let mut random = Random::from_u64(2);
    let mut reply = Vec::new();
    let real = include_bytes!("fixtures/firefox153_client_hello_0.bin");
    for _ in 0..20_000 {
        let mut datagram = real.to_vec();
        datagram.truncate(random.below(real.len() as u64 + 1) as usize);
        for _ in 0..random.below(8) {
            let at = random.below(datagram.len().max(1) as u64) as usize;
            if let Some(byte) = datagram.get_mut(at) {
                *byte = random.u32() as u8;
            }
        }
        let answer = server
            .front
            .handle_datagram(now, source(), &mut datagram, &mut reply);
        assert!(!matches!(answer, FrontAnswer::Accepted(_)));
    }
}
