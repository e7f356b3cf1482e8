//! The whole: the same seed is the same run, interfaces go and come, the driver drives, it is fast.

mod common;

use std::time::{Duration, Instant};

use common::{World, at, ip, ms};
use visavis_datagram::{Ecn, Path, Segments, Transmit, TransmitBuf};
use visavis_netsim::{
    Driver, Endpoint, Gateway, Jitter, LinkConfig, Loss, NatConfig, Pipe, Simulation, TcpCommand,
    TcpEvent, TraceKind,
};

/// A run with all that is random in it.
fn run(seed: u64) -> (u64, String) {
    let mut sim = Simulation::new(Instant::now(), seed);
    sim.record_trace();
    let rough = || {
        LinkConfig::new()
            .delay(ms(10))
            .rate(2_000_000)
            .jitter(Jitter::Reordering(ms(5)))
            .loss(Loss::bursts(0.05, 3.0))
            .duplicate(0.02)
            .corrupt(0.02)
    };
    let gateway = Gateway::nat(NatConfig::symmetric(), &[ip("198.51.100.1")]);
    let home = sim.add_network(Simulation::INTERNET, gateway, rough(), rough());
    let a = sim.add_host_in(home, "a", &[ip("10.0.0.1")], rough());
    let b = sim.add_host_in(Simulation::INTERNET, "b", &[ip("203.0.113.1")], rough());
    let stream = Path::tcp(at("10.0.0.1:80"), at("203.0.113.1:80"));
    sim.tcp(b, TcpCommand::Listen(stream.remote));
    sim.tcp(a, TcpCommand::Connect(stream));
    sim.tcp(a, TcpCommand::Write(stream, vec![7; 20_000]));
    let start = sim.now();
    for step in 0..500u16 {
        let remote = std::net::SocketAddr::new(ip("203.0.113.1"), 1000 + step % 10);
        let path = Path::udp(at("10.0.0.1:5000"), remote);
        sim.send(a, path, Ecn::Ect1, &[step as u8; 300]);
        sim.advance_to(start + ms(5) * u32::from(step));
        while sim.step_until(sim.now()).is_some() {}
    }
    (sim.trace_hash(), sim.trace_text())
}

#[test]
fn the_same_seed_gives_the_identical_packet_trace_and_another_does_not() {
    let (first, second, other) = (run(42), run(42), run(43));
    assert!(first.1.lines().count() > 1000);
    assert_eq!(first, second);
    assert_ne!(first.0, other.0);
    assert_ne!(first.1, other.1);
}

#[test]
fn the_hash_tells_a_single_bit() {
    let hash = |byte| {
        let mut pipe = Pipe::new(Instant::now(), 1, LinkConfig::new());
        pipe.send(visavis_netsim::Side::A, Ecn::NotEct, &[1, 2, byte]);
        pipe.step(pipe.now());
        pipe.simulation().trace_hash()
    };
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(2));
}

#[test]
fn a_host_sends_from_the_interface_that_has_the_address() {
    let mut sim = Simulation::new(Instant::now(), 1);
    let internet = Simulation::INTERNET;
    let host = sim.add_host("two interfaces");
    let (fast, slow) = (
        LinkConfig::new().delay(ms(1)),
        LinkConfig::new().delay(ms(50)),
    );
    let wifi = sim.attach(host, internet, &[ip("192.0.2.1")], fast.clone(), fast);
    let mobile = sim.attach(host, internet, &[ip("192.0.2.2")], slow.clone(), slow);
    let peer = sim.add_host_in(internet, "peer", &[ip("192.0.2.9")], LinkConfig::new());
    let start = sim.now();
    let send = |sim: &mut Simulation, from: &str| {
        let path = Path::udp(at(from), at("192.0.2.9:1"));
        sim.send(host, path, Ecn::NotEct, b"x");
        sim.step()
            .map(|delivery| (delivery.host, delivery.path.remote))
    };
    assert_eq!(
        send(&mut sim, "192.0.2.2:7"),
        Some((peer, at("192.0.2.2:7")))
    );
    assert_eq!(sim.now() - start, ms(50));
    assert_eq!(
        send(&mut sim, "192.0.2.1:7"),
        Some((peer, at("192.0.2.1:7")))
    );
    assert_eq!(sim.now() - start, ms(51));
    sim.set_interface_up(wifi, false);
    assert_eq!(send(&mut sim, "192.0.2.1:7"), None);
    assert!(send(&mut sim, "192.0.2.2:7").is_some());
    sim.set_interface_up(wifi, true);
    assert!(send(&mut sim, "192.0.2.1:7").is_some());
    // Roaming: the same wire, another address.
    sim.set_addresses(mobile, &[ip("192.0.2.3")]);
    assert_eq!(send(&mut sim, "192.0.2.2:7"), None);
    assert!(send(&mut sim, "192.0.2.3:7").is_some());
    let back = Path::udp(at("192.0.2.9:1"), at("192.0.2.2:7"));
    sim.send(peer, back, Ecn::NotEct, b"x");
    assert!(sim.step().is_none());
}

#[test]
fn a_host_reaches_itself_and_can_be_made_to_spoof() {
    let mut sim = Simulation::new(Instant::now(), 1);
    let host = sim.add_host("self");
    let internet = Simulation::INTERNET;
    let link = LinkConfig::new;
    let one = sim.attach(host, internet, &[ip("192.0.2.1")], link(), link());
    sim.attach(host, internet, &[ip("192.0.2.2")], link(), link());
    let path = Path::udp(at("192.0.2.1:1"), at("192.0.2.2:2"));
    sim.send(host, path, Ecn::NotEct, b"x");
    assert_eq!(sim.step().unwrap().path.local, at("192.0.2.2:2"));
    let spoofed = Path::udp(at("198.51.100.66:1"), at("192.0.2.2:2"));
    sim.send(host, spoofed, Ecn::NotEct, b"x");
    assert!(sim.step().is_none());
    sim.send_spoofed(one, spoofed, Ecn::NotEct, b"x");
    assert_eq!(sim.step().unwrap().path.remote, at("198.51.100.66:1"));
}

/// Asks every second and counts answers; or answers.
struct Echo {
    here: std::net::SocketAddr,
    asks: Option<std::net::SocketAddr>,
    next: Option<Instant>,
    answers: Vec<Path>,
    count: u32,
    stream: Vec<u8>,
    commands: Vec<TcpCommand>,
}

impl Echo {
    fn new(here: &str) -> Self {
        Self {
            here: at(here),
            asks: None,
            next: None,
            answers: Vec::new(),
            count: 0,
            stream: Vec::new(),
            commands: Vec::new(),
        }
    }
}

impl Endpoint for Echo {
    fn handle_datagram(&mut self, _now: Instant, path: Path, _ecn: Ecn, _datagram: &mut [u8]) {
        self.count += 1;
        if self.asks.is_none() {
            self.answers.push(path);
        }
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.next = Some(now + ms(1000));
        let there = self.asks.unwrap();
        self.answers.push(Path::udp(self.here, there));
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
    fn poll_transmit(&mut self, _now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        let path = self.answers.pop()?;
        out.push(b"echo");
        let segments: Segments = out.segments()?;
        Some(Transmit::new(path, Ecn::NotEct, segments))
    }
    fn handle_tcp(&mut self, _now: Instant, path: Path, event: TcpEvent) {
        match event {
            TcpEvent::Data(data) if self.asks.is_none() => {
                self.commands.push(TcpCommand::Write(path, data.into_vec()));
            }
            TcpEvent::Data(data) => self.stream.extend_from_slice(&data),
            _ => {}
        }
    }
    fn poll_tcp(&mut self, _now: Instant) -> Option<TcpCommand> {
        self.commands.pop()
    }
}

#[test]
fn the_driver_runs_endpoints_until_a_condition_or_a_deadline() {
    let world = World::new(NatConfig::symmetric());
    let (inside, outside) = (world.inside[0], world.outside[0]);
    let mut driver = Driver::new(world.sim);
    let mut asker = Echo::new("192.168.0.1:5000");
    let server = at("203.0.113.1:80");
    asker.asks = Some(server);
    asker.next = Some(driver.now());
    let stream = Path::tcp(asker.here, server);
    let write = TcpCommand::Write(stream, b"bytes".to_vec());
    asker.commands = vec![write, TcpCommand::Connect(stream)];
    let mut answerer = Echo::new("203.0.113.1:80");
    answerer.commands = vec![TcpCommand::Listen(server)];
    let asker = driver.add(inside, asker);
    driver.add(outside, answerer);
    let start = driver.now();
    let deadline = start + Duration::from_secs(60);
    assert!(driver.run(deadline, |driver| driver.endpoint(asker).count == 3));
    // Two links to the NAT and on, one to the server, and back: 30 ms.
    assert_eq!(driver.now() - start, ms(2030));
    assert_eq!(driver.endpoint(asker).stream, b"bytes");
    driver.run_to(deadline);
    assert_eq!(driver.endpoint(asker).count, 60);
}

#[test]
fn an_hour_of_network_takes_seconds() {
    // 50 packets a second each way, as a voice call.
    let link = LinkConfig::new()
        .delay(ms(40))
        .rate(1_000_000)
        .random_loss(0.01);
    let mut pipe = Pipe::new(Instant::now(), 1, link);
    let (start, wall) = (pipe.now(), Instant::now());
    let mut arrived = 0;
    for tick in 0..3600 * 50 {
        let until = start + ms(20) * tick;
        while let Some(delivery) = pipe.step(until) {
            arrived += 1;
            pipe.recycle(delivery.payload);
        }
        pipe.send(visavis_netsim::Side::A, Ecn::NotEct, &[0; 160]);
        pipe.send(visavis_netsim::Side::B, Ecn::NotEct, &[0; 160]);
    }
    assert!(arrived > 350_000);
    let took = wall.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn the_trace_says_what_became_of_each_packet() {
    let mut world = World::new(NatConfig::default());
    world.sim.record_trace();
    assert!(!world.answered(0, "203.0.113.1:1", at("198.51.100.1:9")));
    let kinds: Vec<_> = world.sim.trace().iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [TraceKind::Sent, TraceKind::Dropped]);
}
