//! What happens to a call when the network under it changes.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use common::server::{PASSWORD, Server, USER};
use common::{Call, Peer, address, agent, ip, is_relayed};
use visavis_datagram::Protocol;
use visavis_ice::{CandidateKind, Config, ConnectionState, Event, LocalAddress, Network, Role};
use visavis_netsim::{Gateway, InterfaceId, LinkConfig, NatConfig, NetworkId, Simulation};

const SERVERS: [&str; 2] = ["203.0.113.10:3478", "203.0.113.11:3478"];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn link() -> LinkConfig {
    LinkConfig::new().delay(ms(10))
}

/// A laptop with Wi-Fi and a mobile modem on the left, a desktop behind a NAT on the right.
struct World {
    call: Call,
    wifi: InterfaceId,
    homes: [NetworkId; 2],
    servers: [usize; 2],
}

struct Setup {
    seed: u64,
    nat: NatConfig,
    mobile: bool,
    /// How many of the servers relay.
    turn: usize,
    roles: [Role; 2],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            nat: NatConfig::port_restricted_cone(),
            mobile: false,
            turn: 0,
            roles: [Role::Controlling, Role::Controlled],
        }
    }
}

fn interface(ip: IpAddr, name: &str, id: u16, cost: u16) -> LocalAddress {
    LocalAddress {
        network: Network {
            name: name.into(),
            id,
            cost,
        },
        ..LocalAddress::udp(SocketAddr::new(ip, 5000))
    }
}

fn wifi() -> LocalAddress {
    interface(ip("192.168.1.10"), "wlan0", 1, 10)
}

fn mobile() -> LocalAddress {
    interface(ip("10.1.1.10"), "wwan0", 2, 900)
}

fn world(setup: Setup) -> World {
    let now = Instant::now();
    let mut simulation = Simulation::new(now, setup.seed);
    let home = |simulation: &mut Simulation, external: &str| {
        let gateway = Gateway::nat(setup.nat.clone(), &[ip(external)]);
        simulation.add_network(Simulation::INTERNET, gateway, link(), link())
    };
    let homes = [
        home(&mut simulation, "198.51.100.1"),
        home(&mut simulation, "198.51.100.2"),
    ];
    let carrier = home(&mut simulation, "198.51.100.3");
    let left = simulation.add_host("left");
    let wifi_interface = simulation.attach(
        left,
        homes[0],
        &[ip("192.168.1.10")],
        LinkConfig::new(),
        LinkConfig::new(),
    );
    simulation.attach(left, carrier, &[ip("10.1.1.10")], link(), link());
    let right = simulation.add_host_in(homes[1], "right", &[ip("192.168.2.10")], LinkConfig::new());
    let mut config = Config::default();
    for (index, server) in SERVERS.into_iter().enumerate() {
        config
            .servers
            .push(visavis_ice::Server::stun(address(server)));
        if index < setup.turn {
            let turn = visavis_ice::Server::turn(address(server), Protocol::Udp, USER, PASSWORD);
            config.servers.push(turn);
        }
    }
    let configs = setup.roles.map(|role| Config {
        role,
        ..config.clone()
    });
    let [left_config, right_config] = configs;
    let mut left_peer = Peer::new("left", agent(left_config, setup.seed * 2, now));
    left_peer.add_address(now, wifi());
    if setup.mobile {
        left_peer.add_address(now, mobile());
    }
    let mut right_peer = Peer::new("right", agent(right_config, setup.seed * 2 + 1, now));
    right_peer.add_address(now, interface(ip("192.168.2.10"), "eth0", 1, 0));
    let hosts = SERVERS.map(|server| {
        simulation.add_host_in(
            Simulation::INTERNET,
            server,
            &[address(server).ip()],
            link(),
        )
    });
    let mut call = Call::new(simulation, (left, left_peer), (right, right_peer));
    let servers = [0, 1]
        .map(|index| call.add_server(hosts[index], Server::new(vec![address(SERVERS[index])])));
    World {
        call,
        wifi: wifi_interface,
        homes,
        servers,
    }
}

impl World {
    fn connected(&mut self) {
        self.call.start();
        assert!(
            self.call.connect(Duration::from_secs(10)),
            "{}",
            self.call.report()
        );
        self.call.run_for(Duration::from_secs(12));
        self.talk(ms(500));
    }

    /// The NAT of one side has another address from now on.
    fn gets_another_address(&mut self, side: usize) {
        let (simulation, home) = (&mut self.call.driver.simulation, self.homes[side]);
        simulation.set_external_addresses(home, &[ip("198.51.100.77")]);
    }

    /// Both send every 20 ms; the time until both have heard something new that was sent after now.
    fn gap(&mut self, most: Duration) -> Duration {
        let began = self.call.now();
        let text = format!("\u{80}{:?}", began);
        loop {
            let now = self.call.now();
            assert!(
                now - began < most,
                "no data within {most:?}\n{}",
                self.call.report()
            );
            self.call.left().send(now, text.as_bytes());
            self.call.right().send(now, text.as_bytes());
            self.call.run_for(ms(20));
            let heard = |peer: &Peer| {
                peer.received
                    .iter()
                    .any(|(_, _, data)| data == text.as_bytes())
            };
            if self.call.both(heard) {
                return self.call.now() - began;
            }
        }
    }

    /// Both send every 20 ms for a while.
    fn talk(&mut self, time: Duration) {
        let end = self.call.now() + time;
        while self.call.now() < end {
            let now = self.call.now();
            self.call.left().send(now, b"\x80 voice");
            self.call.right().send(now, b"\x80 voice");
            self.call.run_for(ms(20));
        }
    }

    /// No pair is announced twice in a row, and both ends agree on the path in the end.
    fn agree(&mut self) {
        for side in [self.call.left, self.call.right] {
            let selections = self.call.peer(side).selections();
            let twice = selections.windows(2).any(|two| two[0].1.id == two[1].1.id);
            assert!(!twice, "announced twice\n{}", self.call.report());
        }
        let left = self.call.left().agent.selected_pair().unwrap();
        let right = self.call.right().agent.selected_pair().unwrap();
        assert_eq!(
            (left.local.address(), left.remote.address()),
            (right.remote.address(), right.local.address()),
            "{}",
            self.call.report()
        );
    }
}

#[test]
fn an_interface_that_goes_is_replaced_without_waiting() {
    let mut world = world(Setup {
        mobile: true,
        ..Setup::default()
    });
    world.connected();
    let now = world.call.now();
    let interface = world.wifi;
    world
        .call
        .driver
        .simulation
        .set_interface_up(interface, false);
    world
        .call
        .left()
        .agent
        .remove_local_address(now, wifi().address, Protocol::Udp);
    let gap = world.gap(Duration::from_secs(3));
    assert!(
        gap < Duration::from_millis(1500),
        "{gap:?}\n{}",
        world.call.report()
    );
    world.talk(Duration::from_secs(5));
    world.agree();
}

#[test]
fn an_interface_that_dies_silently_is_replaced_in_bounded_time() {
    let mut world = world(Setup {
        mobile: true,
        ..Setup::default()
    });
    world.connected();
    let interface = world.wifi;
    world
        .call
        .driver
        .simulation
        .set_interface_up(interface, false);
    let gap = world.gap(Duration::from_secs(10));
    assert!(
        gap < Duration::from_secs(4),
        "{gap:?}\n{}",
        world.call.report()
    );
    world.talk(Duration::from_secs(5));
    world.agree();
}

#[test]
fn an_idle_call_survives_the_death_of_its_path() {
    let mut world = world(Setup {
        mobile: true,
        ..Setup::default()
    });
    world.connected();
    world.call.run_for(Duration::from_secs(20));
    let interface = world.wifi;
    world
        .call
        .driver
        .simulation
        .set_interface_up(interface, false);
    // Nobody sends: the consent check, at most 6 s away, finds it.
    world.call.run_for(Duration::from_secs(12));
    let gap = world.gap(Duration::from_secs(3));
    assert!(gap < ms(200), "{gap:?}\n{}", world.call.report());
    world.talk(Duration::from_secs(5));
    world.agree();
}

#[test]
fn a_cheaper_interface_is_moved_to() {
    let mut world = world(Setup::default());
    let now = world.call.now();
    let left = &mut world.call.left().agent;
    left.remove_local_address(now, wifi().address, Protocol::Udp);
    left.add_local_address(now, mobile()).unwrap();
    world.connected();
    let before = world.call.left().agent.selected_pair().unwrap();
    assert_eq!(before.path.local, mobile().address);
    let now = world.call.now();
    world.call.left().add_address(now, wifi());
    world.talk(Duration::from_secs(3));
    let after = world.call.left().agent.selected_pair().unwrap();
    assert_eq!(after.path.local, wifi().address, "{}", world.call.report());
    world.agree();
    // Not a datagram was lost on the way: the old path works on.
    let sent = world
        .call
        .left()
        .agent
        .pair_stats()
        .map(|pair| pair.counters.packets_sent)
        .sum::<u64>();
    world.call.run_for(ms(200));
    let received = world.call.right().received.len() as u64;
    assert_eq!(received, sent, "{}", world.call.report());
}

#[test]
fn a_rebound_nat_is_followed() {
    for (side, roles) in [
        (0, [Role::Controlling, Role::Controlled]),
        (0, [Role::Controlled, Role::Controlling]),
        (1, [Role::Controlling, Role::Controlled]),
    ] {
        let mut world = world(Setup {
            roles,
            ..Setup::default()
        });
        world.connected();
        let home = world.homes[side];
        world.call.driver.simulation.reboot_nat(home);
        let gap = world.gap(Duration::from_secs(10));
        assert!(
            gap < Duration::from_secs(4),
            "{side} {roles:?} {gap:?}\n{}",
            world.call.report()
        );
        world.talk(Duration::from_secs(8));
        world.agree();
    }
}

#[test]
fn a_nat_that_gets_another_address_is_followed() {
    let mut world = world(Setup::default());
    world.connected();
    world.gets_another_address(1);
    let gap = world.gap(Duration::from_secs(10));
    assert!(
        gap < Duration::from_secs(4),
        "{gap:?}\n{}",
        world.call.report()
    );
    world.talk(Duration::from_secs(8));
    world.agree();
}

/// Where the peer cannot be told of the new address, its path through a relay is found, which does not know this side any more either.
#[test]
fn a_nat_that_gets_another_address_is_left_for_a_new_relay() {
    for roles in [
        [Role::Controlling, Role::Controlled],
        [Role::Controlled, Role::Controlling],
    ] {
        let mut world = world(Setup {
            turn: 1,
            roles,
            ..Setup::default()
        });
        world.connected();
        world.call.dropped = |_| true;
        world.gets_another_address(0);
        let gap = world.gap(Duration::from_secs(10));
        assert!(
            gap < Duration::from_secs(4),
            "{roles:?} {gap:?}\n{}",
            world.call.report()
        );
        let selected = world.call.left().agent.selected_pair().unwrap();
        assert!(is_relayed(&selected), "{}", world.call.report());
        world.talk(Duration::from_secs(8));
        world.agree();
    }
}

#[test]
fn a_dead_relay_is_replaced_by_another() {
    let mut world = world(Setup {
        nat: NatConfig::symmetric(),
        turn: 2,
        ..Setup::default()
    });
    world.connected();
    let selected = world.call.left().agent.selected_pair().unwrap();
    assert!(is_relayed(&selected), "{}", world.call.report());
    let relay = [&selected.local, &selected.remote]
        .into_iter()
        .find(|candidate| candidate.kind == CandidateKind::Relayed)
        .and_then(|candidate| candidate.address())
        .unwrap();
    let dead = SERVERS
        .iter()
        .position(|server| address(server).ip() == relay.ip())
        .unwrap();
    let dead = world.servers[dead];
    world.call.server(dead).dead = true;
    let gap = world.gap(Duration::from_secs(15));
    assert!(
        gap < Duration::from_secs(5),
        "{gap:?}\n{}",
        world.call.report()
    );
    world.talk(Duration::from_secs(5));
    let now = world.call.left().agent.selected_pair().unwrap();
    assert!(is_relayed(&now));
}

#[test]
fn a_relay_that_forgot_its_allocations_gives_new_ones() {
    let mut world = world(Setup {
        nat: NatConfig::symmetric(),
        turn: 1,
        ..Setup::default()
    });
    world.connected();
    for server in world.servers {
        world.call.server(server).forget();
    }
    let gap = world.gap(Duration::from_secs(10));
    assert!(
        gap < Duration::from_secs(4),
        "{gap:?}\n{}",
        world.call.report()
    );
    world.talk(Duration::from_secs(8));
    world.agree();
}

#[test]
fn a_relay_that_forgot_its_allocations_is_replaced_from_the_reserve() {
    let mut world = world(Setup {
        nat: NatConfig::symmetric(),
        turn: 2,
        ..Setup::default()
    });
    world.connected();
    for server in world.servers {
        world.call.server(server).forget();
    }
    let gap = world.gap(Duration::from_secs(10));
    assert!(
        gap < Duration::from_secs(5),
        "{gap:?}\n{}",
        world.call.report()
    );
}

#[test]
fn equal_roles_are_told_apart() {
    for seed in 0..10 {
        for role in [Role::Controlling, Role::Controlled] {
            let mut world = world(Setup {
                seed,
                roles: [role, role],
                ..Setup::default()
            });
            world.call.start();
            assert!(
                world.call.connect(Duration::from_secs(10)),
                "seed {seed}\n{}",
                world.call.report()
            );
            world.call.run_for(Duration::from_secs(5));
            let roles = (
                world.call.left().agent.role(),
                world.call.right().agent.role(),
            );
            assert_ne!(roles.0, roles.1, "seed {seed}\n{}", world.call.report());
            world.talk(ms(200));
            world.agree();
            let changes = |peer: &Peer| {
                peer.events
                    .iter()
                    .filter(|(_, e)| matches!(e, Event::Role(_)))
                    .count()
            };
            let total = changes(world.call.left()) + changes(world.call.right());
            assert_eq!(total, 1, "seed {seed}\n{}", world.call.report());
        }
    }
}

#[test]
fn a_restart_keeps_the_data_flowing() {
    let mut world = world(Setup::default());
    world.connected();
    let before = world.call.right().received.len();
    let sent_before = world.call.now();
    let now = world.call.now();
    world.call.left().agent.restart(now);
    // Signalling takes its time; media does not wait for it.
    world.talk(ms(300));
    let now = world.call.now();
    let right = world.call.right().agent.local_credentials().clone();
    world.call.right().agent.restart(now);
    assert_ne!(*world.call.right().agent.local_credentials(), right);
    world.call.exchange();
    // The candidates of the new session came before its credentials and were kept; their end is told
    // again, as the offer does.
    world.call.right().agent.end_of_remote_candidates(now);
    world.talk(Duration::from_secs(3));
    let sent = (world.call.now() - sent_before).as_millis() as usize / 20;
    let received = world.call.right().received.len() - before;
    assert!(
        received + 2 >= sent,
        "{received} of {sent}\n{}",
        world.call.report()
    );
    // The new session carries it now, and the old one is forgotten.
    world.talk(Duration::from_secs(40));
    assert!(
        world
            .call
            .both(|peer| peer.agent.connection_state() == ConnectionState::Completed),
        "{}",
        world.call.report()
    );
    world.agree();
}

#[test]
fn a_restart_during_checks_begins_again() {
    let mut world = world(Setup::default());
    world.call.start();
    world.call.run_for(ms(60));
    assert!(world.call.left().agent.selected_pair().is_none());
    let now = world.call.now();
    world.call.left().agent.restart(now);
    world.call.right().agent.restart(now);
    world.call.exchange();
    assert!(
        world.call.connect(Duration::from_secs(10)),
        "{}",
        world.call.report()
    );
    world.call.run_for(Duration::from_secs(2));
    world.talk(ms(200));
    world.agree();
    // Checks of the first session may still have been under way: known as such, and ignored.
    let strangers = world
        .call
        .both(|peer| peer.agent.stats().unauthenticated == 0);
    assert!(strangers, "{}", world.call.report());
}

#[test]
fn a_storm_of_restarts_leaves_one_session() {
    let mut world = world(Setup::default());
    world.call.start();
    for _ in 0..50 {
        let now = world.call.now();
        world.call.left().agent.restart(now);
        world.call.right().agent.restart(now);
        world.call.exchange();
        world.call.run_for(ms(30));
    }
    assert!(
        world.call.connect(Duration::from_secs(10)),
        "{}",
        world.call.report()
    );
    world.call.run_for(Duration::from_secs(2));
    world.agree();
    assert!(
        world
            .call
            .both(|peer| peer.agent.pair_stats().count() <= 10)
    );
}

#[test]
fn consent_ends_30_s_after_the_last_answer() {
    let mut world = world(Setup::default());
    world.connected();
    let interface = world.wifi;
    world
        .call
        .driver
        .simulation
        .set_interface_up(interface, false);
    let died = world.call.now();
    let mut last_sent = died;
    let mut state_at = None;
    for _ in 0..3000 {
        let now = world.call.now();
        if world.call.right().send(now, b"\x80 voice") {
            last_sent = now;
        }
        world.call.run_for(ms(20));
        let state = world.call.right().agent.connection_state();
        if state == ConnectionState::Disconnected && state_at.is_none() {
            state_at = Some(world.call.now());
        }
    }
    let stopped = last_sent - died;
    assert!(stopped < Duration::from_secs(30), "{stopped:?}");
    assert!(stopped > Duration::from_secs(20), "{stopped:?}");
    let noticed = state_at.unwrap() - died;
    assert!(noticed < Duration::from_secs(5), "{noticed:?}");
    assert_eq!(
        world.call.right().agent.connection_state(),
        ConnectionState::Failed,
        "{}",
        world.call.report()
    );
}

#[test]
fn a_short_outage_heals() {
    let mut world = world(Setup::default());
    world.connected();
    let interface = world.wifi;
    world
        .call
        .driver
        .simulation
        .set_interface_up(interface, false);
    world.talk(Duration::from_secs(10));
    assert_eq!(
        world.call.right().agent.connection_state(),
        ConnectionState::Disconnected
    );
    world
        .call
        .driver
        .simulation
        .set_interface_up(interface, true);
    let gap = world.gap(Duration::from_secs(5));
    assert!(gap < ms(200), "{gap:?}\n{}", world.call.report());
    world.talk(Duration::from_secs(3));
    assert!(
        world.call.both(
            |peer| peer.agent.connection_state() >= ConnectionState::Connected
                && peer.agent.connection_state() <= ConnectionState::Completed
        ),
        "{}",
        world.call.report()
    );
    world.agree();
}
