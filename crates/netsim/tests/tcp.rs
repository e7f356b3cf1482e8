//! Streams: connect, refuse, order, loss, close, reset; and firewalls, which look at them.

mod common;

use std::time::{Duration, Instant};

use common::{World, at, ip, ms};
use visavis_datagram::Path;
use visavis_netsim::{
    Arrival, FirewallConfig, Gateway, LinkConfig, NatConfig, Simulation, TcpCommand, TcpEvent,
};

fn path() -> Path {
    Path::tcp(at("192.168.0.1:5000"), at("203.0.113.1:443"))
}

fn listen(world: &mut World) {
    let listen = TcpCommand::Listen(at("203.0.113.1:443"));
    world.sim.tcp(world.outside[0], listen);
}

fn received(events: &[(visavis_netsim::HostId, Path, TcpEvent)]) -> Vec<u8> {
    let data = events.iter().filter_map(|event| match &event.2 {
        TcpEvent::Data(data) => Some(data.to_vec()),
        _ => None,
    });
    data.flatten().collect()
}

#[test]
fn a_connection_opens_carries_bytes_both_ways_and_closes() {
    let mut world = World::new(NatConfig::port_restricted_cone());
    listen(&mut world);
    let (inside, outside) = (world.inside[0], world.outside[0]);
    world.sim.tcp(inside, TcpCommand::Connect(path()));
    world.sim.tcp(inside, TcpCommand::Write(path(), vec![1, 2]));
    let events = world.tcp_events(1);
    let kinds: Vec<_> = events.iter().map(|event| event.2.clone()).collect();
    assert_eq!(kinds[0], TcpEvent::Connected);
    assert_eq!(kinds[1], TcpEvent::Accepted);
    assert_eq!(received(&events), [1, 2]);
    let back = events[1].1;
    world.sim.tcp(outside, TcpCommand::Write(back, vec![3]));
    world.sim.tcp(outside, TcpCommand::Close(back));
    let events = world.tcp_events(1);
    assert_eq!(received(&events), [3]);
    assert_eq!(events.last().unwrap().2, TcpEvent::Finished);
    // The other direction stays open until it is closed too.
    world.sim.tcp(inside, TcpCommand::Write(path(), vec![4]));
    world.sim.tcp(inside, TcpCommand::Close(path()));
    let events = world.tcp_events(1);
    assert_eq!(received(&events), [4]);
    assert_eq!(events.last().unwrap().2, TcpEvent::Finished);
    assert_eq!(world.sim.tcp_unacknowledged(inside, path()), None);
}

#[test]
fn nobody_listening_refuses_and_nobody_there_times_out() {
    let mut world = World::new(NatConfig::default());
    world.sim.tcp(world.inside[0], TcpCommand::Connect(path()));
    let events = world.tcp_events(5);
    assert_eq!(events[0].2, TcpEvent::Refused);
    let nowhere = Path::tcp(at("192.168.0.1:5000"), at("203.0.113.99:1"));
    let start = world.sim.now();
    world.sim.tcp(world.inside[0], TcpCommand::Connect(nowhere));
    let until = start + Duration::from_secs(300);
    let event = world.sim.step_until(until).unwrap();
    assert!(matches!(event.what, Arrival::Tcp(TcpEvent::TimedOut)));
    assert!(event.now - start > Duration::from_secs(60));
}

#[test]
fn a_reset_tells_the_peer() {
    let mut world = World::new(NatConfig::default());
    listen(&mut world);
    world.sim.tcp(world.inside[0], TcpCommand::Connect(path()));
    world.tcp_events(1);
    world.sim.tcp(world.inside[0], TcpCommand::Reset(path()));
    let events = world.tcp_events(1);
    assert_eq!(events[0].0, world.outside[0]);
    assert_eq!(events[0].2, TcpEvent::Reset);
}

/// Sends 300 KB over 5 Mbit/s and 40 ms of round trip; answers how long it took.
fn transfer(loss: f64, seed: u64) -> Duration {
    let mut sim = Simulation::new(Instant::now(), seed);
    let (a, b) = (sim.add_host("a"), sim.add_host("b"));
    let link = LinkConfig::new()
        .delay(ms(20))
        .rate(5_000_000)
        .random_loss(loss);
    sim.connect_hosts((a, ip("10.0.0.1"), link.clone()), (b, ip("10.0.0.2"), link));
    let path = Path::tcp(at("10.0.0.1:1"), at("10.0.0.2:2"));
    sim.tcp(b, TcpCommand::Listen(path.remote));
    sim.tcp(a, TcpCommand::Connect(path));
    let sent: Vec<u8> = (0..300_000u32).map(|byte| (byte % 251) as u8).collect();
    sim.tcp(a, TcpCommand::Write(path, sent.clone()));
    sim.tcp(a, TcpCommand::Close(path));
    let start = sim.now();
    let mut got = Vec::new();
    while let Some(delivery) = sim.step_until(start + Duration::from_secs(600)) {
        match delivery.what {
            Arrival::Tcp(TcpEvent::Data(data)) => got.extend_from_slice(&data),
            Arrival::Tcp(TcpEvent::Finished) => {
                assert!(got == sent, "bytes in order, seed {seed}");
                return delivery.now - start;
            }
            _ => {}
        }
    }
    panic!("not finished after 600 s, seed {seed}");
}

#[test]
fn loss_delays_a_stream_and_never_breaks_it() {
    let clean = transfer(0.0, 1);
    // 300 KB with headers take 494 ms; slow start takes some round trips more.
    assert!(clean > ms(500) && clean < ms(900), "{clean:?}");
    for seed in 0..20 {
        assert!(transfer(0.1, seed) > clean);
    }
    let worst = transfer(0.2, 5);
    assert!(worst > 2 * clean, "{worst:?}");
}

#[test]
fn a_long_stream_fills_the_link() {
    let mut sim = Simulation::new(Instant::now(), 1);
    let (a, b) = (sim.add_host("a"), sim.add_host("b"));
    let link = LinkConfig::new().delay(ms(25)).rate(10_000_000);
    let [forth, _] =
        sim.connect_hosts((a, ip("10.0.0.1"), link.clone()), (b, ip("10.0.0.2"), link));
    let path = Path::tcp(at("10.0.0.1:1"), at("10.0.0.2:2"));
    sim.tcp(b, TcpCommand::Listen(path.remote));
    sim.tcp(a, TcpCommand::Connect(path));
    sim.tcp(a, TcpCommand::Write(path, vec![0; 60_000_000]));
    sim.advance_to(sim.now() + Duration::from_secs(30));
    let used = sim.link_stats(forth).delivered_bytes as f64 * 8.0 / 30.0 / 10e6;
    assert!(used > 0.9, "{used}");
    assert!(sim.link_stats(forth).overflowed > 0, "loss is its signal");
}

#[test]
fn a_firewall_without_udp_passes_tcp() {
    let mut world = World::behind(FirewallConfig::no_udp().into(), 1);
    // Without a NAT the private address is known on the simulated internet.
    assert_eq!(world.seen(0, "192.168.0.1:1", "203.0.113.1:1"), None);
    listen(&mut world);
    world.sim.tcp(world.inside[0], TcpCommand::Connect(path()));
    assert_eq!(world.tcp_events(1)[0].2, TcpEvent::Connected);
    assert_eq!(world.sim.firewall_blocked(world.home), 1);
}

#[test]
fn only_tcp_443_passes_the_strictest_firewall() {
    for refuse in [false, true] {
        let config = FirewallConfig {
            refuse,
            ..FirewallConfig::only_tcp_443()
        };
        let gateway = Gateway::nat(NatConfig::default(), &[ip("198.51.100.1")]).firewall(config);
        let mut world = World::behind(gateway, 1);
        assert_eq!(world.seen(0, "192.168.0.1:1", "203.0.113.1:443"), None);
        let other = Path::tcp(at("192.168.0.1:5001"), at("203.0.113.1:80"));
        let listen_80 = TcpCommand::Listen(other.remote);
        world.sim.tcp(world.outside[0], listen_80);
        listen(&mut world);
        world.sim.tcp(world.inside[0], TcpCommand::Connect(other));
        let events = world.tcp_events(5);
        let refused = events.iter().any(|event| event.2 == TcpEvent::Refused);
        assert_eq!(refused, refuse);
        assert_eq!(events.len(), usize::from(refuse));
        world.sim.tcp(world.inside[0], TcpCommand::Connect(path()));
        let events = world.tcp_events(1);
        assert!(events.iter().any(|event| event.2 == TcpEvent::Connected));
    }
}

#[test]
fn a_stateful_ipv6_firewall_lets_answers_in_for_two_minutes() {
    let mut world = World::behind(FirewallConfig::stateful_ipv6().into(), 1);
    let (six, peer) = ("2001:db8::1", "2001:db8:1::1");
    let home = world.home;
    world.inside[0] = world
        .sim
        .add_host_in(home, "six", &[ip(six)], LinkConfig::new());
    let internet = Simulation::INTERNET;
    world.outside[0] = world
        .sim
        .add_host_in(internet, "peer", &[ip(peer)], LinkConfig::new());
    let (here, there) = ("[2001:db8::1]:5", "[2001:db8:1::1]:6");
    assert!(!world.answered(0, there, at(here)));
    assert_eq!(world.seen(0, here, there), Some(at(here)));
    assert!(world.answered(0, there, at(here)));
    assert!(!world.answered(0, "[2001:db8:1::1]:7", at(here)));
    world.wait(Duration::from_secs(121));
    assert!(!world.answered(0, there, at(here)));
    // IPv4 is none of its business.
    assert!(world.answered(1, "203.0.113.2:1", at("192.168.0.2:1")));
}
