//! A day of service in virtual time: clients come, move, talk, vanish and give back; at the end nothing is left.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Raw, World, code, config};
use visavis_datagram::{Protocol, Random};
use visavis_stun::attributes::{EvenPort, Lifetime, MobilityTicket, Nonce, RequestedTransport};
use visavis_stun::{Message, Method};
use visavis_turn::server::RelayAddress;

/// 24 hours; `CHURN_HOURS` for another number.
fn hours() -> u64 {
    std::env::var("CHURN_HOURS")
        .ok()
        .and_then(|hours| hours.parse().ok())
        .unwrap_or(24)
}

#[test]
fn a_day_of_churn_leaks_no_port_and_no_permission() {
    let seed = 20_261_122;
    let mut random = Random::from_u64(seed);
    let mut config = config();
    config.ports = 50_000..=50_999;
    config.relays = vec![RelayAddress::new("5.5.5.5".parse().unwrap())];
    config.limits.allocations_per_user = 2000;
    config.tcp_relay = true;
    let mut world = World::with(config);
    let free = world.server.free_ports();
    let mut clients: BTreeMap<u32, Raw> = BTreeMap::new();
    let mut next = 0;
    let (mut most, mut refusals, mut allocated) = (0, 0, 0);
    let end = world.now + Duration::from_secs(hours() * 3600);
    while world.now < end {
        world.advance(Duration::from_millis(500 + random.below(20_000)));
        world.to_clients.clear();
        world.to_peers.clear();
        world.commands.clear();
        while world.server.poll_event().is_some() {}
        // An evening's rush in the middle: three comers for every goer.
        let comers = if random.chance(0.3) { 3 } else { 1 };
        for _ in 0..comers {
            next += 1;
            let protocol = if random.chance(0.2) {
                Protocol::Tcp
            } else {
                Protocol::Udp
            };
            let remote = format!("7.{}.7.7:{}", random.below(200), 1024 + next % 60_000);
            let mut raw = Raw::on(protocol, &remote);
            raw.challenge(&mut world);
            let (kind, mobile) = (random.below(4), random.chance(0.3));
            let code = raw.code(&mut world, Method::ALLOCATE, |b| {
                if kind == 0 && protocol == Protocol::Tcp {
                    b.add(&RequestedTransport::TCP);
                    return;
                }
                b.add(&RequestedTransport::UDP);
                if kind == 1 {
                    b.add(&EvenPort { reserve_next: true });
                }
                if mobile {
                    b.add(&MobilityTicket(&[]));
                }
            });
            match code {
                0 => drop(clients.insert(next, raw)),
                486 | 508 => refusals += 1,
                code => panic!("seed {seed}: Allocate refused with {code}"),
            }
            allocated += u32::from(code == 0);
        }
        most = most.max(world.server.len());
        let keys: Vec<u32> = clients.keys().copied().collect();
        for _ in 0..4 {
            let Some(&key) = keys.get(random.below(keys.len() as u64) as usize) else {
                continue;
            };
            let Some(raw) = clients.get_mut(&key) else {
                continue;
            };
            let peer = format!("8.8.{}.8:{}", random.below(20), 2000 + random.below(50));
            match random.below(8) {
                0 => drop(clients.remove(&key)), // It crashed.
                1 => {
                    world.server.client_gone(world.now, raw.path);
                    world.pump();
                    clients.remove(&key);
                }
                2 => {
                    let answer = raw.ask(&mut world, Method::REFRESH, |b| {
                        b.add(&Lifetime(0));
                    });
                    renew(raw, &answer);
                    if code(&answer) != 438 {
                        clients.remove(&key);
                    }
                }
                3 | 4 => {
                    let answer = raw.ask(&mut world, Method::REFRESH, |_| ());
                    renew(raw, &answer);
                    if code(&answer) == 437 {
                        clients.remove(&key);
                    }
                }
                5 => drop(raw.permit(&mut world, &peer)),
                6 => drop(raw.bind(&mut world, 0x4000 + random.below(30) as u16, &peer)),
                _ => {
                    raw.send(&mut world, &peer, b"data");
                    raw.send_channel(&mut world, 0x4000, b"data");
                }
            }
        }
        assert!(
            world.open.len() == world.server.len(),
            "seed {seed}: a socket each"
        );
    }
    assert!(
        allocated > 1000 && most > 50,
        "seed {seed}: {allocated} allocations, {most} at once"
    );
    eprintln!("{allocated} allocations, {most} at once, {refusals} refused");
    world.advance(Duration::from_secs(3600));
    assert!(
        world.server.is_empty() && world.open.is_empty(),
        "seed {seed}"
    );
    assert_eq!(world.server.users(), 0, "seed {seed}");
    assert_eq!(world.server.free_ports(), free, "seed {seed}");
    assert_eq!(world.server.poll_timeout(), None, "seed {seed}");
}

/// Takes the nonce of a 438.
fn renew(raw: &mut Raw, answer: &[u8]) {
    let message = Message::parse(answer).unwrap();
    if let Some(nonce) = message.get::<Nonce<'_>>() {
        raw.nonce = nonce.0.to_vec();
    }
}
