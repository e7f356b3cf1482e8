//! Our client and our server, with packets lost, repeated and reordered between them.

mod common;

use std::time::Duration;

use common::{PASSWORD, USER, World, address, config};
use visavis_datagram::{Framing, Path, Protocol, Random, TransmitBuf};
use visavis_stun::attributes::{AlternateServer, ErrorCode};
use visavis_stun::{Class, Message, MessageBuilder};
use visavis_turn::client::{
    Client, ClientConfig, Error, Event, Failure, Families, NewPathReason, Received,
};

const PEER: &str = "8.8.4.4:9000";

struct Pair {
    world: World,
    client: Client,
    out: TransmitBuf,
    random: Random,
    /// The probability that a packet gets lost, each way.
    loss: f64,
    events: Vec<Event>,
    received: Vec<(std::net::SocketAddr, Vec<u8>)>,
}

fn path(protocol: Protocol, port: u16) -> Path {
    Path {
        protocol,
        local: format!("7.7.7.7:{port}").parse().unwrap(),
        remote: address("5.5.5.5:3478"),
    }
}

fn flip(path: Path) -> Path {
    Path {
        protocol: path.protocol,
        local: path.remote,
        remote: path.local,
    }
}

impl Pair {
    fn new(config: ClientConfig, world: World, protocol: Protocol, seed: u64) -> Self {
        let random = Random::from_u64(seed);
        let client = Client::new(world.now, path(protocol, 6000), config, random.clone());
        Self {
            world,
            client,
            out: TransmitBuf::new(10, 1500),
            random,
            loss: 0.0,
            events: Vec::new(),
            received: Vec::new(),
        }
    }

    fn start(config: ClientConfig) -> Self {
        let mut pair = Self::new(config, World::new(), Protocol::Udp, 1);
        pair.settle();
        pair
    }

    fn lost(&mut self) -> bool {
        self.random.chance(self.loss)
    }

    /// Exchanges packets until there are none.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(transmit) = self.client.poll_transmit(self.world.now, &mut self.out) {
                quiet = false;
                if !self.lost() {
                    let bytes = self.out.as_slice().to_vec();
                    self.world.client_sends(flip(transmit.path()), &bytes);
                }
                self.out.clear();
            }
            for (to, bytes) in std::mem::take(&mut self.world.to_clients) {
                quiet = false;
                if !self.lost() {
                    let received = self.client.unwrap(self.world.now, flip(to), &bytes);
                    if let Received::Data { peer, range } = received {
                        self.received.push((peer, bytes[range].to_vec()));
                    }
                }
            }
            while let Some(event) = self.client.poll_event() {
                self.events.push(event);
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass, by deadlines.
    fn run(&mut self, time: Duration) {
        let end = self.world.now + time;
        loop {
            self.settle();
            let next = [self.client.poll_timeout(), self.world.server.poll_timeout()];
            let next = next.into_iter().flatten().min().unwrap_or(end).min(end);
            let step = next.saturating_duration_since(self.world.now);
            self.world.advance(step);
            self.client.handle_timeout(self.world.now);
            if self.world.now >= end {
                return self.settle();
            }
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.out.clear();
        self.client
            .wrap(self.world.now, address(PEER), payload, &mut self.out)?;
        let bytes = self.out.as_slice().to_vec();
        self.out.clear();
        self.world.client_sends(flip(self.client.path()), &bytes);
        self.settle();
        Ok(())
    }

    fn relayed(&self) -> std::net::SocketAddr {
        self.client.relayed().iter().next().unwrap()
    }
}

#[test]
fn a_peer_is_reached_first_by_indications_and_then_by_a_channel() {
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls, Protocol::Dtls] {
        let config = ClientConfig::new(USER, PASSWORD);
        let mut pair = Pair::new(config, World::new(), protocol, 1);
        pair.settle();
        assert!(matches!(pair.events[0], Event::Allocated { .. }));
        assert_eq!(pair.client.mapped(), Some(address("7.7.7.7:6000")));
        let (peer, relay) = (address(PEER), pair.relayed());
        assert_eq!(pair.send(b"x"), Err(Error::NoPermission));
        pair.client.permit(pair.world.now, peer).unwrap();
        pair.settle();
        pair.send(b"hello").unwrap();
        assert_eq!(pair.world.to_peers[0].payload, b"hello");
        assert_eq!(
            (pair.world.to_peers[0].relay, pair.world.to_peers[0].peer),
            (relay, peer)
        );
        pair.world.peer_sends(peer, relay, b"answer");
        pair.settle();
        assert_eq!(pair.received, [(peer, b"answer".to_vec())]);

        pair.client.bind(pair.world.now, peer).unwrap();
        pair.settle();
        assert!(pair.client.is_bound(peer));
        for len in [0, 1, 2, 3, 4, 1200] {
            pair.world.to_peers.clear();
            pair.received.clear();
            pair.send(&vec![7; len]).unwrap();
            assert_eq!(pair.world.to_peers[0].payload, vec![7; len]);
            pair.world.peer_sends(peer, relay, &vec![8; len]);
            pair.settle();
            assert_eq!(pair.received, [(peer, vec![8; len])]);
        }
        assert_eq!(pair.client.stats().malformed, 0);
        pair.client.close(pair.world.now);
        pair.settle();
        assert_eq!(pair.events.last(), Some(&Event::Closed));
        assert!(pair.world.server.is_empty() && pair.world.open.is_empty());
        assert_eq!(pair.send(b"x"), Err(Error::NotAllocated));
    }
}

#[test]
fn payloads_are_sealed_where_they_stand() {
    let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    let peer = address(PEER);
    assert_eq!(pair.client.framing(peer), None);
    pair.client.bind(pair.world.now, peer).unwrap();
    pair.settle();
    let framing = pair.client.framing(peer).unwrap();
    assert_eq!(
        framing,
        Framing {
            header: 4,
            trailer: 0
        }
    );
    pair.out.set_framing(framing);
    for payload in [&b"one"[..], b"two", b"33"] {
        assert!(pair.out.push(payload));
    }
    assert!(pair.client.seal(peer, &mut pair.out));
    let datagrams: Vec<_> = pair.out.datagrams_mut().map(|(d, _)| d.to_vec()).collect();
    let from = flip(pair.client.path());
    for datagram in datagrams {
        pair.world.client_sends(from, &datagram);
    }
    let payloads: Vec<_> = pair.world.to_peers.iter().map(|p| &p.payload[..]).collect();
    assert_eq!(payloads, [&b"one"[..], b"two", b"33"]);
}

#[test]
fn an_allocation_lives_for_hours_with_nonces_that_age() {
    let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    let peer = address(PEER);
    pair.client.bind(pair.world.now, peer).unwrap();
    pair.client
        .permit(pair.world.now, address("9.9.9.9:1"))
        .unwrap();
    for _ in 0..60 {
        pair.run(Duration::from_secs(119));
        pair.world.to_peers.clear();
        pair.send(b"still there").unwrap();
        assert_eq!(pair.world.to_peers.len(), 1);
        pair.received.clear();
        pair.world
            .peer_sends(address("9.9.9.9:77"), pair.relayed(), b"permitted");
        pair.settle();
        assert_eq!(pair.received.len(), 1);
    }
    assert!(pair.client.stats().stale_nonces > 5);
    assert!(!pair.events.iter().any(|e| matches!(e, Event::Failed(_))));
    // A request per peer and four minutes, not more.
    assert!(
        pair.client.stats().requests_sent < 200,
        "{:?}",
        pair.client.stats()
    );
}

#[test]
fn refreshes_that_nobody_answers_do_not_spin() {
    // Found by fuzzing: while a ChannelBind was under way the permission's own time stood in the past.
    let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    for port in 1..4 {
        let peer = address(&format!("8.8.4.{port}:9000"));
        pair.client.bind(pair.world.now, peer).unwrap();
        pair.client.permit(pair.world.now, peer).unwrap();
    }
    pair.client
        .permit(pair.world.now, address("9.9.9.9:1"))
        .unwrap();
    pair.run(Duration::from_secs(239));
    let end = pair.world.now + Duration::from_secs(1000);
    let mut wakes = 0;
    while let Some(at) = pair.client.poll_timeout().filter(|&at| at < end) {
        pair.world.now = pair.world.now.max(at);
        pair.client.handle_timeout(pair.world.now);
        while pair
            .client
            .poll_transmit(pair.world.now, &mut pair.out)
            .is_some()
        {
            pair.out.clear();
        }
        wakes += 1;
        assert!(wakes < 1000, "it spins");
    }
    assert!(pair.client.is_over());
}

#[test]
fn a_binding_response_on_the_same_socket_is_left_to_its_asker() {
    let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    let mut buffer = [0; 100];
    let id = visavis_stun::TransactionId([3; 12]);
    let method = visavis_stun::Method::BINDING;
    let len = MessageBuilder::new(&mut buffer, Class::Request, method, id)
        .finish()
        .unwrap();
    let path = pair.client.path();
    pair.world.client_sends(flip(path), &buffer[..len]);
    let (_, response) = pair.world.to_clients.pop().unwrap();
    let received = pair.client.unwrap(pair.world.now, path, &response);
    assert_eq!(received, Received::NotOurs);
    assert_eq!(pair.client.stats().unknown_responses, 0);
}

#[test]
fn forgotten_peers_lapse() {
    let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    let peer = address(PEER);
    pair.client.bind(pair.world.now, peer).unwrap();
    pair.settle();
    pair.client.forget(pair.world.now, peer.ip());
    pair.run(Duration::from_secs(301));
    pair.world.peer_sends(peer, pair.relayed(), b"too late");
    pair.settle();
    assert_eq!(pair.received, []);
    assert_eq!(pair.send(b"x"), Err(Error::NoPermission));
    // Its number rests: another peer gets another.
    pair.client
        .bind(pair.world.now, address("9.9.9.9:1"))
        .unwrap();
    pair.settle();
    assert!(pair.client.is_bound(address("9.9.9.9:1")));
}

#[test]
fn half_of_the_packets_lost_is_only_slow() {
    let mut slowest = Duration::ZERO;
    for seed in 0..50 {
        let config = ClientConfig::new(USER, PASSWORD);
        let mut pair = Pair::new(config, World::new(), Protocol::Udp, seed);
        pair.loss = 0.5;
        let start = pair.world.now;
        while !pair.client.is_allocated() && !pair.client.is_over() {
            pair.run(Duration::from_millis(100));
        }
        if pair.client.is_over() {
            // Seven requests lost in a row: 0.75^7 is one in eight, as RFC 8489's timers have it.
            assert!(matches!(
                pair.events.last(),
                Some(Event::Failed(Failure::Timeout))
            ));
            continue;
        }
        slowest = slowest.max(pair.world.now - start);
        pair.client.bind(pair.world.now, address(PEER)).unwrap();
        pair.run(Duration::from_secs(40));
        assert_eq!(pair.world.server.len(), 1, "seed {seed}");
    }
    assert!(slowest < Duration::from_secs(80), "{slowest:?}");
}

#[test]
fn a_dual_allocation_has_both_families_and_falls_back_to_one() {
    let mut wanted = ClientConfig::new(USER, PASSWORD);
    wanted.families = Families::Dual;
    let mut pair = Pair::start(wanted.clone());
    let relayed = pair.client.relayed();
    assert!(relayed.v4.is_some() && relayed.v6.is_some());
    pair.client
        .permit(pair.world.now, address("[2600::1]:5"))
        .unwrap();
    pair.client.permit(pair.world.now, address(PEER)).unwrap();
    pair.settle();
    pair.world
        .peer_sends(address("[2600::1]:5"), relayed.v6.unwrap().into(), b"six");
    pair.settle();
    assert_eq!(pair.received, [(address("[2600::1]:5"), b"six".to_vec())]);

    let mut only_v4 = config();
    only_v4.relays.truncate(1);
    let mut pair = Pair::new(wanted, World::with(only_v4), Protocol::Udp, 1);
    pair.settle();
    let relayed = pair.client.relayed();
    assert!(relayed.v4.is_some() && relayed.v6.is_none());
    assert_eq!(
        pair.client.permit(pair.world.now, address("[2600::1]:5")),
        Err(Error::WrongFamily)
    );

    let mut wanted = ClientConfig::new(USER, PASSWORD);
    wanted.families = Families::V6;
    let pair = Pair::start(wanted);
    assert!(pair.client.relayed().v6.is_some() && pair.client.relayed().v4.is_none());
}

#[test]
fn sha256_is_used_where_the_server_offers_it() {
    let mut hidden = config();
    hidden.user_hash = true;
    for config in [config(), hidden] {
        let client = ClientConfig::new(USER, PASSWORD);
        let mut pair = Pair::new(client, World::with(config), Protocol::Udp, 1);
        let mut sha256 = 0;
        for _ in 0..4 {
            while let Some(transmit) = pair.client.poll_transmit(pair.world.now, &mut pair.out) {
                let bytes = pair.out.as_slice().to_vec();
                sha256 += u32::from(Message::parse(&bytes).unwrap().has_integrity_sha256());
                pair.world.client_sends(flip(transmit.path()), &bytes);
                pair.out.clear();
            }
            for (to, bytes) in std::mem::take(&mut pair.world.to_clients) {
                pair.client.unwrap(pair.world.now, flip(to), &bytes);
            }
        }
        assert!(pair.client.is_allocated());
        assert_eq!(sha256, 1);
    }
}

#[test]
fn wrong_credentials_end_it_and_the_server_is_asked_twice_only() {
    let mut pair = Pair::start(ClientConfig::new(USER, "wrong"));
    assert_eq!(pair.events, [Event::Failed(Failure::Unauthorized)]);
    assert_eq!(pair.client.stats().requests_sent, 2);
    assert!(pair.client.is_over());
    assert_eq!(pair.client.poll_timeout(), None);
    pair.run(Duration::from_secs(100));
}

#[test]
fn a_silent_server_ends_it_after_39_5_seconds() {
    let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    pair = Pair::new(
        ClientConfig::new(USER, PASSWORD),
        pair.world,
        Protocol::Udp,
        5,
    );
    pair.loss = 1.0;
    pair.run(Duration::from_millis(39_400));
    assert_eq!(pair.events, []);
    pair.run(Duration::from_millis(200));
    assert_eq!(pair.events, [Event::Failed(Failure::Timeout)]);
    assert_eq!(pair.client.stats().requests_sent, 7);
}

#[test]
fn a_forbidden_peer_is_told() {
    let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    let local = address("127.0.0.1:5");
    pair.client.permit(pair.world.now, local).unwrap();
    pair.client
        .bind(pair.world.now, address("10.0.0.1:5"))
        .unwrap();
    pair.settle();
    for peer in [local, address("10.0.0.1:5")] {
        assert!(pair.events.contains(&Event::PermissionDenied {
            peer: peer.ip(),
            code: 403
        }));
    }
    pair.out.clear();
    let refused = pair.client.wrap(pair.world.now, local, b"x", &mut pair.out);
    assert_eq!(refused, Err(Error::NoPermission));
}

#[test]
fn a_port_that_has_an_allocation_already_asks_for_another() {
    let pair = Pair::start(ClientConfig::new(USER, PASSWORD));
    // The same 5-tuple again, as after a crash.
    let mut pair = Pair::new(
        ClientConfig::new(USER, PASSWORD),
        pair.world,
        Protocol::Udp,
        9,
    );
    pair.settle();
    let Event::NewPathNeeded { server, reason, .. } = &pair.events[0] else {
        panic!("{:?}", pair.events);
    };
    assert_eq!(
        (*server, *reason),
        (address("5.5.5.5:3478"), NewPathReason::PortInUse)
    );
    pair.client.permit(pair.world.now, address(PEER)).unwrap();
    pair.client
        .reconnect(pair.world.now, path(Protocol::Udp, 6001));
    pair.settle();
    assert!(pair.client.is_allocated());
    assert!(
        pair.events
            .contains(&Event::PermissionGranted(address(PEER).ip()))
    );
}

#[test]
fn a_restarted_server_is_noticed_and_everything_comes_back() {
    for is_asked in [false, true] {
        let mut pair = Pair::start(ClientConfig::new(USER, PASSWORD));
        let peer = address(PEER);
        pair.client.bind(pair.world.now, peer).unwrap();
        pair.settle();
        let now = pair.world.now;
        pair.world = World::new();
        pair.world.now = now;
        pair.world.server =
            visavis_turn::server::Server::new(now, 0, config(), Random::from_u64(77));
        if is_asked {
            pair.client.confirm(now);
            pair.settle();
        } else {
            pair.run(Duration::from_secs(241));
        }
        assert!(pair.events.iter().any(|event| matches!(
            event,
            Event::NewPathNeeded {
                reason: NewPathReason::AllocationLost,
                ..
            }
        )));
        pair.client
            .reconnect(pair.world.now, path(Protocol::Udp, 6002));
        pair.settle();
        assert!(pair.client.is_bound(peer));
        pair.send(b"back").unwrap();
        assert_eq!(pair.world.to_peers.len(), 1);
        // An allocation that stands is refreshed, and stays.
        pair.events.clear();
        pair.client.confirm(pair.world.now);
        pair.settle();
        assert_eq!(pair.events, []);
        pair.send(b"still there").unwrap();
        assert_eq!(pair.world.to_peers.len(), 2);
    }
}

#[test]
fn alternate_servers_are_followed_but_not_in_circles() {
    let mut config = config();
    config.alternate_servers = vec![address("5.5.5.6:3478")];
    let mut world = World::with(config);
    world.server.drain(true);
    let mut pair = Pair::new(ClientConfig::new(USER, PASSWORD), world, Protocol::Udp, 1);
    pair.settle();
    assert_eq!(
        pair.events,
        [Event::NewPathNeeded {
            server: address("5.5.5.6:3478"),
            domain: None,
            reason: NewPathReason::Redirected,
        }]
    );
    // The other server sends it back where it came from.
    let mut to_other = path(Protocol::Udp, 6000);
    to_other.remote = address("5.5.5.6:3478");
    pair.client.reconnect(pair.world.now, to_other);
    let transmit = pair
        .client
        .poll_transmit(pair.world.now, &mut pair.out)
        .unwrap();
    assert_eq!(transmit.destination, address("5.5.5.6:3478"));
    let request = pair.out.as_slice().to_vec();
    pair.out.clear();
    let mut buffer = [0; 200];
    let request = Message::parse(&request).unwrap();
    assert!(
        !request.has_integrity(),
        "another server gets no credentials unasked"
    );
    let len = MessageBuilder::response(&mut buffer, Class::Error, &request)
        .add(&ErrorCode::TRY_ALTERNATE)
        .add(&AlternateServer(address("5.5.5.5:3478")))
        .finish()
        .unwrap();
    pair.client.unwrap(pair.world.now, to_other, &buffer[..len]);
    pair.settle();
    assert_eq!(
        pair.events.last(),
        Some(&Event::Failed(Failure::TooManyPaths))
    );
}

#[test]
fn an_allocation_moves_to_another_address_without_a_gap() {
    let mut config = ClientConfig::new(USER, PASSWORD);
    config.mobility = true;
    let mut pair = Pair::start(config);
    let peer = address(PEER);
    pair.client.bind(pair.world.now, peer).unwrap();
    pair.settle();
    let relay = pair.relayed();
    for port in 7000..7010 {
        let wifi = path(Protocol::Udp, port);
        pair.client.move_to(pair.world.now, wifi).unwrap();
        // Until the client sends from there, both ways keep to the old path.
        pair.send(b"old").unwrap();
        pair.settle();
        assert_eq!(pair.client.path(), wifi);
        assert_eq!(pair.relayed(), relay);
        pair.received.clear();
        pair.world.peer_sends(peer, relay, b"on the old path");
        pair.settle();
        assert_eq!(pair.received.len(), 1);
        pair.send(b"new").unwrap();
        pair.world.peer_sends(peer, relay, b"on the new path");
        assert_eq!(pair.world.to_clients[0].0, flip(wifi));
        pair.settle();
        assert_eq!(pair.received.len(), 2);
        assert_eq!(pair.world.server.len(), 1);
    }
    pair.run(Duration::from_secs(3000));
    assert!(pair.client.is_allocated());
    pair.client.close(pair.world.now);
    pair.settle();
    assert!(pair.world.server.is_empty());
}
