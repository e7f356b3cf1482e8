//! How fast the simulator is: packets of 1200 bytes over a link of 1 Gbit/s, and through two NATs.
#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path};
use visavis_netsim::{Gateway, LinkConfig, NatConfig, Pipe, Side, Simulation};

fn main() {
    let start = Instant::now();
    let link = LinkConfig::new()
        .delay(Duration::from_millis(10))
        .rate(1_000_000_000);
    let mut pipe = Pipe::new(start, 1, link.clone());
    let bytes = [7; 1200];
    let (mut sent, mut arrived) = (0u32, 0u32);
    let wall = Instant::now();
    for millisecond in 0..1000 {
        let until = start + Duration::from_millis(millisecond);
        while let Some(delivery) = pipe.step(until) {
            arrived += 1;
            pipe.recycle(delivery.payload);
        }
        for _ in 0..100 {
            pipe.send(Side::A, Ecn::NotEct, &bytes);
            sent += 1;
        }
    }
    report("one link of 1 Gbit/s", sent, arrived, wall.elapsed());

    let mut sim = Simulation::new(start, 1);
    let mut behind = |external: &str, inside: &str| {
        let gateway = Gateway::nat(
            NatConfig::symmetric(),
            &[external.parse().expect("address")],
        );
        let network = sim.add_network(Simulation::INTERNET, gateway, link.clone(), link.clone());
        let address = inside.parse().expect("address");
        sim.add_host_in(network, inside, &[address], link.clone())
    };
    let a = behind("198.51.100.1", "10.0.0.1");
    let address = "203.0.113.1".parse().expect("address");
    sim.add_host_in(Simulation::INTERNET, "b", &[address], link.clone());
    let path = Path::udp(
        "10.0.0.1:1".parse().expect("address"),
        "203.0.113.1:1".parse().expect("address"),
    );
    let (mut sent, mut arrived) = (0u32, 0u32);
    let wall = Instant::now();
    for millisecond in 0..1000 {
        let until = start + Duration::from_millis(millisecond);
        while let Some(delivery) = sim.step_until(until) {
            arrived += 1;
            if let visavis_netsim::Arrival::Datagram(payload) = delivery.what {
                sim.recycle(payload);
            }
        }
        for _ in 0..50 {
            sim.send(a, path, Ecn::NotEct, &bytes);
            sent += 1;
        }
    }
    report("three links and a NAT", sent, arrived, wall.elapsed());
}

fn report(what: &str, sent: u32, arrived: u32, took: Duration) {
    let each = took.as_nanos() / u128::from(sent);
    println!("{what}: {sent} sent, {arrived} arrived, {took:?}, {each} ns per packet");
}
