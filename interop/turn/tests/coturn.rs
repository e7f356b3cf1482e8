//! Our client against coturn's server, over real loopback UDP, TCP and TLS.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use interop_turn::address;
use interop_turn::coturn::Coturn;
use interop_turn::link::Link;
use visavis_datagram::{Protocol, Random, TransmitBuf};
use visavis_turn::client::{Client, ClientConfig, Event, Failure, Families, Received};

fn start(extra: &[&str]) -> Option<Coturn> {
    Coturn::start([127, 0, 0, 1].into(), extra)
}

struct Session {
    client: Client,
    link: Link,
    out: TransmitBuf,
    events: Vec<Event>,
}

impl Session {
    fn new(protocol: Protocol, coturn: &Coturn, config: ClientConfig) -> Self {
        let server = if protocol == Protocol::Tls {
            coturn.tls
        } else {
            coturn.plain
        };
        let link = Link::open(protocol, server);
        let seed = u64::from(link.path().local.port());
        let client = Client::new(Instant::now(), link.path(), config, Random::from_u64(seed));
        Self {
            client,
            link,
            out: TransmitBuf::new(1, 1500),
            events: Vec::new(),
        }
    }

    /// Runs until `done`, or ten seconds have passed. What peers sent in between.
    fn run(&mut self, done: impl Fn(&Client, &[Event], &[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
        let start = Instant::now();
        let mut received = Vec::new();
        loop {
            while let Some(event) = self.client.poll_event() {
                self.events.push(event);
            }
            if done(&self.client, &self.events, &received) {
                return received;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{:?}",
                self.events
            );
            let now = Instant::now();
            self.client.handle_timeout(now);
            while self.client.poll_transmit(now, &mut self.out).is_some() {
                self.link.send(self.out.as_slice());
                self.out.clear();
            }
            if let Some(frame) = self.link.receive(Duration::from_millis(100)) {
                let now = Instant::now();
                if let Received::Data { range, .. } =
                    self.client.unwrap(now, self.link.path(), &frame)
                {
                    received.push(frame[range].to_vec());
                }
            }
        }
    }

    fn send(&mut self, peer: SocketAddr, payload: &[u8]) {
        let now = Instant::now();
        self.client
            .wrap(now, peer, payload, &mut self.out)
            .expect("wrapped");
        self.link.send(self.out.as_slice());
        self.out.clear();
    }
}

fn config() -> ClientConfig {
    ClientConfig::new("alice", "correct horse")
}

#[test]
fn data_travels_both_ways_over_udp_tcp_and_tls() {
    let Some(coturn) = start(&[]) else {
        return;
    };
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
        let mut session = Session::new(protocol, &coturn, config());
        session.run(|client, _, _| client.is_allocated());
        assert_eq!(session.client.mapped(), Some(session.link.path().local));
        let relayed = session.client.relayed().iter().next().expect("an address");
        let peer = UdpSocket::bind("127.0.0.1:0").expect("bind");
        peer.set_read_timeout(Some(Duration::from_secs(5)))
            .expect("timeout");
        let peer_address = peer.local_addr().expect("address");
        session
            .client
            .permit(Instant::now(), peer_address)
            .expect("permit");
        session.run(|_, events, _| events.contains(&Event::PermissionGranted(peer_address.ip())));
        let mut buffer = [0; 2000];
        for bound in [false, true] {
            if bound {
                session
                    .client
                    .bind(Instant::now(), peer_address)
                    .expect("bind");
                session.run(|client, _, _| client.is_bound(peer_address));
            }
            for len in [0, 1, 2, 3, 100, 1201] {
                session.send(peer_address, &vec![7; len]);
                let (got, from) = peer.recv_from(&mut buffer).expect("relayed");
                assert_eq!((got, from), (len, relayed), "{protocol}, bound {bound}");
                peer.send_to(&vec![8; len], relayed).expect("send");
                let received = session.run(|_, _, received| !received.is_empty());
                assert_eq!(received, [vec![8; len]], "{protocol}, bound {bound}");
            }
        }
        session.client.close(Instant::now());
        session.run(|_, events, _| events.last() == Some(&Event::Closed));
        assert_eq!(session.client.stats().integrity_failures, 0);
    }
}

#[test]
fn wrong_passwords_are_told() {
    let Some(coturn) = start(&[]) else {
        return;
    };
    let wrong = ClientConfig::new("alice", "wrong");
    let mut session = Session::new(Protocol::Udp, &coturn, wrong);
    session.run(|client, _, _| client.is_over());
    assert_eq!(session.events, [Event::Failed(Failure::Unauthorized)]);
}

#[test]
fn nonces_that_go_stale_are_replaced() {
    // coturn counts whole seconds, and takes a nonce for stale after this many.
    let Some(coturn) = start(&["--stale-nonce=1"]) else {
        return;
    };
    let mut session = Session::new(Protocol::Udp, &coturn, config());
    session.run(|client, _, _| client.is_allocated());
    for port in 5001.. {
        let peer = SocketAddr::new([127, 0, 0, (port % 200) as u8].into(), port);
        session.client.permit(Instant::now(), peer).expect("permit");
        session.run(|_, events, _| events.contains(&Event::PermissionGranted(peer.ip())));
        if session.client.stats().stale_nonces > 0 {
            return;
        }
        // The pace only: the loop ends when the nonce has gone stale.
        session.link.receive(Duration::from_millis(100));
    }
}

#[test]
fn forbidden_peers_are_told() {
    let Some(coturn) = start(&["--denied-peer-ip=10.0.0.0-10.255.255.255"]) else {
        return;
    };
    let mut session = Session::new(Protocol::Udp, &coturn, config());
    session.run(|client, _, _| client.is_allocated());
    let peer = address("10.1.2.3:5000");
    session.client.permit(Instant::now(), peer).expect("permit");
    let denied = Event::PermissionDenied {
        peer: peer.ip(),
        code: 403,
    };
    session.run(|_, events, _| events.contains(&denied));
}

#[test]
fn a_dual_allocation_gets_what_the_server_has() {
    let Some(coturn) = start(&[]) else {
        return;
    };
    let mut dual = config();
    dual.families = Families::Dual;
    let mut session = Session::new(Protocol::Udp, &coturn, dual);
    session.run(|client, _, _| client.is_allocated());
    assert!(session.client.relayed().v4.is_some());
}

#[test]
fn an_allocation_moves_to_another_port() {
    let Some(coturn) = start(&["--mobility"]) else {
        return;
    };
    let mut mobile = config();
    mobile.mobility = true;
    let mut session = Session::new(Protocol::Udp, &coturn, mobile);
    session.run(|client, _, _| client.is_allocated());
    let relayed = session.client.relayed();
    let peer = UdpSocket::bind("127.0.0.1:0").expect("bind");
    peer.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("timeout");
    let peer_address = peer.local_addr().expect("address");
    session
        .client
        .bind(Instant::now(), peer_address)
        .expect("bind");
    session.run(|client, _, _| client.is_bound(peer_address));
    // Another socket, and so another 5-tuple.
    session.link = Link::open(Protocol::Udp, coturn.plain);
    session
        .client
        .move_to(Instant::now(), session.link.path())
        .expect("a ticket");
    let path = session.link.path();
    session.run(|_, events, _| events.contains(&Event::Moved(path)));
    session.send(peer_address, b"from there");
    let mut buffer = [0; 100];
    let (len, from) = peer.recv_from(&mut buffer).expect("relayed");
    assert_eq!(&buffer[..len], b"from there");
    assert_eq!(Some(from), relayed.iter().next());
}
