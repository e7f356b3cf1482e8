//! Relays: which servers are asked, over which transports, and what becomes of an allocation when a
//! server or an address of the host goes.

#![allow(clippy::print_stdout, reason = "seeds are printed")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::server::{PASSWORD, Server, USER};
use common::{Call, Peer, address, agent, ip, is_relayed};
use visavis_datagram::Protocol;
use visavis_ice::{
    CandidateKind, Config, Event, GatheringState, LocalAddress, Network, Role, TcpType,
};
use visavis_netsim::{FirewallConfig, Gateway, InterfaceId, LinkConfig, NatConfig, Simulation};

const SERVERS: [&str; 3] = [
    "203.0.113.10:3478",
    "203.0.113.11:3478",
    "203.0.113.12:3478",
];
const LEFT: &str = "192.168.1.10";
const MODEM: &str = "10.1.1.10";
const RIGHT: &str = "192.168.2.10";

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn interface(ip_address: &str, name: &str, id: u16, cost: u16) -> LocalAddress {
    LocalAddress {
        network: Network {
            name: name.into(),
            id,
            cost,
        },
        ..LocalAddress::udp(SocketAddr::new(ip(ip_address), 5000))
    }
}

fn wifi() -> LocalAddress {
    interface(LEFT, "wlan0", 1, 10)
}

fn modem() -> LocalAddress {
    interface(MODEM, "wwan0", 2, 900)
}

/// Two homes whose NATs let nobody through but relays, and servers at these distances.
struct World {
    call: Call,
    wifi: InterfaceId,
    servers: Vec<usize>,
}

struct Setup {
    seed: u64,
    /// One way, from the middle of the network.
    distances: [u64; 3],
    protocols: [Protocol; 3],
    firewall: Option<FirewallConfig>,
    /// Whether the right one has servers too.
    right: bool,
    change: fn(&mut Config),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            distances: [10; 3],
            protocols: [Protocol::Udp; 3],
            firewall: None,
            right: true,
            change: |_| {},
        }
    }
}

fn world(setup: Setup) -> World {
    let now = std::time::Instant::now();
    let mut simulation = Simulation::new(now, setup.seed);
    println!("seed {}", setup.seed);
    let link = || LinkConfig::new().delay(ms(10));
    let mut home = |external: &str| {
        let mut gateway = Gateway::nat(NatConfig::symmetric(), &[ip(external)]);
        if let Some(firewall) = &setup.firewall {
            gateway = gateway.firewall(firewall.clone());
        }
        simulation.add_network(Simulation::INTERNET, gateway, link(), link())
    };
    let [left_home, right_home, carrier] =
        ["198.51.100.1", "198.51.100.2", "198.51.100.3"].map(&mut home);
    let left = simulation.add_host("left");
    let none = LinkConfig::new;
    let wifi_interface = simulation.attach(left, left_home, &[ip(LEFT)], none(), none());
    simulation.attach(left, carrier, &[ip(MODEM)], link(), link());
    let right = simulation.add_host_in(right_home, "right", &[ip(RIGHT)], none());
    let hosts: Vec<_> = SERVERS
        .iter()
        .zip(setup.distances)
        .map(|(server, distance)| {
            let link = LinkConfig::new().delay(ms(distance));
            simulation.add_host_in(Simulation::INTERNET, server, &[address(server).ip()], link)
        })
        .collect();
    let config = |role| {
        let mut config = Config {
            role,
            ..Config::default()
        };
        let servers = SERVERS.iter().zip(setup.protocols);
        for (server, protocol) in servers.filter(|_| setup.right || role == Role::Controlling) {
            let server = visavis_ice::Server::turn(address(server), protocol, USER, PASSWORD);
            config.servers.push(server);
        }
        if !setup.right && role == Role::Controlled {
            let stun = visavis_ice::Server::stun(address(SERVERS[2]));
            config.servers.push(stun);
        }
        (setup.change)(&mut config);
        config
    };
    let seed = setup.seed;
    let mut left_peer = Peer::new("left", agent(config(Role::Controlling), seed * 2, now));
    left_peer.add_address(now, wifi());
    let mut right_peer = Peer::new("right", agent(config(Role::Controlled), seed * 2 + 1, now));
    right_peer.add_address(now, interface(RIGHT, "eth0", 1, 0));
    let mut call = Call::new(simulation, (left, left_peer), (right, right_peer));
    let servers = hosts
        .into_iter()
        .zip(SERVERS)
        .map(|(host, server)| call.add_server(host, Server::new(vec![address(server)])))
        .collect();
    World {
        call,
        wifi: wifi_interface,
        servers,
    }
}

impl World {
    fn connected(&mut self) {
        self.call.start();
        assert!(
            self.call.connect(Duration::from_secs(10)) && self.call.exchange_data(ms(500)),
            "{}",
            self.call.report()
        );
        self.call.run_for(Duration::from_secs(4));
    }

    fn server(&mut self, index: usize) -> &mut Server {
        let server = self.servers[index];
        self.call.server(server)
    }

    fn allocations(&mut self) -> Vec<usize> {
        (0..3).map(|i| self.server(i).allocations()).collect()
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

    /// Both send every 20 ms until something sent now arrives; how long that takes.
    fn gap(&mut self, most: Duration) -> Duration {
        let began = self.call.now();
        let text = format!("\u{80}{began:?}");
        loop {
            let now = self.call.now();
            assert!(now - began < most, "no data\n{}", self.call.report());
            self.call.left().send(now, text.as_bytes());
            self.call.right().send(now, text.as_bytes());
            self.call.run_for(ms(20));
            let heard = |peer: &Peer| peer.received.iter().any(|r| r.2 == text.as_bytes());
            if self.call.both(heard) {
                return self.call.now() - began;
            }
        }
    }
}

fn completed_at(peer: &Peer) -> Duration {
    let first = peer.events.first().unwrap().0;
    let complete = Event::GatheringState(GatheringState::Complete);
    peer.events.iter().find(|e| e.1 == complete).unwrap().0 - first
}

fn relayed(peer: &Peer) -> usize {
    peer.agent
        .local_candidates()
        .filter(|c| c.candidate.kind == CandidateKind::Relayed)
        .count()
}

#[test]
fn the_first_server_is_enough_while_it_answers() {
    let mut world = world(Setup::default());
    world.connected();
    assert_eq!(world.allocations(), [2, 0, 0]);
    assert!(world.call.both(|peer| relayed(peer) == 1));
}

#[test]
fn a_far_server_loses_the_race_and_gives_back_what_it_got() {
    let mut world = world(Setup {
        distances: [400, 10, 10],
        ..Setup::default()
    });
    world.connected();
    assert_eq!(world.allocations(), [0, 2, 0], "{}", world.call.report());
    assert!(world.call.both(|peer| relayed(peer) == 1));
    assert!(world.call.both(|peer| completed_at(peer) < ms(500)));
}

#[test]
fn a_server_that_refuses_makes_the_next_one_start_at_once() {
    let mut world = world(Setup {
        change: |config| {
            config.timing.relay_stagger = Duration::from_secs(60);
            if let visavis_ice::ServerKind::Turn { password, .. } = &mut config.servers[0].kind {
                *password = visavis_ice::Secret::new("not the password");
            }
        },
        ..Setup::default()
    });
    world.connected();
    assert_eq!(world.allocations(), [0, 2, 0], "{}", world.call.report());
    let told = |peer: &Peer| {
        peer.events
            .iter()
            .any(|e| matches!(e.1, Event::CandidateError { code: 401, .. }))
    };
    assert!(world.call.both(told));
}

#[test]
fn as_many_allocations_are_held_as_wanted() {
    for (wanted, expected) in [(2, [2, 2, 0]), (usize::MAX, [2, 2, 2])] {
        let mut world = world(Setup {
            change: match wanted {
                2 => |config| config.relays_per_address = 2,
                _ => |config| config.relays_per_address = usize::MAX,
            },
            ..Setup::default()
        });
        world.connected();
        assert_eq!(world.allocations(), expected);
    }
}

#[test]
fn without_udp_tls_is_up_within_a_second_and_gathering_does_not_wait_for_udp() {
    let mut world = world(Setup {
        protocols: [Protocol::Tls, Protocol::Udp, Protocol::Udp],
        firewall: Some(FirewallConfig::no_udp()),
        ..Setup::default()
    });
    world.call.start();
    assert!(world.call.connect(ms(1000)), "{}", world.call.report());
    assert!(world.call.exchange_data(ms(500)));
    world.call.run_for(Duration::from_secs(4));
    assert_eq!(world.allocations(), [2, 0, 0]);
    assert!(world.call.both(|peer| completed_at(peer) < ms(2500)));
    let selected = world.call.left().agent.selected_pair().unwrap();
    assert!(is_relayed(&selected));
    assert_eq!(selected.path.protocol, Protocol::Tls);
    let protocol = world
        .call
        .left()
        .agent
        .local_candidates()
        .find_map(|candidate| candidate.relay_protocol);
    assert_eq!(protocol, Some(Protocol::Tls));
}

#[test]
fn a_reserve_stands_in_for_a_relay_that_dies() {
    for seed in 0..5 {
        let mut world = world(Setup {
            seed,
            ..Setup::default()
        });
        world.connected();
        assert_eq!(world.allocations(), [2, 0, 0]);
        world.talk(ms(500));
        world.server(0).dead = true;
        let gap = world.gap(Duration::from_secs(10));
        assert!(
            gap < Duration::from_secs(5),
            "seed {seed} {gap:?}\n{}",
            world.call.report()
        );
        assert!(world.server(1).allocations() >= 1);
    }
}

#[test]
fn an_alternate_server_is_followed_over_udp_tcp_and_tls() {
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
        let mut world = world(Setup {
            protocols: [protocol; 3],
            change: |config| config.servers.truncate(1),
            ..Setup::default()
        });
        world.server(0).alternate = Some(address(SERVERS[2]));
        world.connected();
        assert_eq!(world.allocations(), [0, 0, 2], "{protocol:?}");
        let selected = world.call.left().agent.selected_pair().unwrap();
        assert_eq!(selected.path.protocol, protocol);
    }
}

#[test]
fn servers_that_send_each_other_their_clients_are_left() {
    for protocol in [Protocol::Udp, Protocol::Tls] {
        let mut world = world(Setup {
            protocols: [protocol, protocol, Protocol::Udp],
            ..Setup::default()
        });
        world.server(0).alternate = Some(address(SERVERS[1]));
        world.server(1).alternate = Some(address(SERVERS[0]));
        world.connected();
        assert_eq!(world.allocations(), [0, 0, 2], "{protocol:?}");
    }
}

/// RFC 8016: the allocation goes from Wi-Fi to the modem, and the peer sees the same relayed address.
#[test]
fn a_relay_moves_to_another_interface_without_a_new_pair() {
    for protocol in [Protocol::Udp, Protocol::Tcp, Protocol::Tls] {
        for comes_first in [true, false] {
            let mut world = world(Setup {
                protocols: [protocol; 3],
                right: false,
                change: |config| config.relay_mobility = true,
                ..Setup::default()
            });
            for index in 0..3 {
                world.server(index).mobility = true;
            }
            world.connected();
            let right = world.call.right().agent.selected_pair().unwrap();
            let changes = world.call.right().selections().len();
            assert!(is_relayed(&right));
            let now = world.call.now();
            if comes_first {
                world.call.left().add_address(now, modem());
                world.call.run_for(Duration::from_secs(1));
            }
            let interface = world.wifi;
            world
                .call
                .driver
                .simulation
                .set_interface_up(interface, false);
            let now = world.call.now();
            let wifi = wifi().address;
            world
                .call
                .left()
                .agent
                .remove_local_address(now, wifi, Protocol::Udp);
            if !comes_first {
                world.call.run_for(ms(200));
                let now = world.call.now();
                world.call.left().add_address(now, modem());
            }
            // A round trip to the server, with TCP's own before it, and the way to the peer.
            let gap = world.gap(ms(500));
            let report = world.call.report();
            assert!(gap <= ms(300), "{protocol:?} {gap:?}\n{report}");
            assert_eq!(world.call.left().agent.stats().relays_moved, 1, "{report}");
            let moved: u64 = (0..3).map(|i| world.server(i).moved).sum();
            assert_eq!(moved, 1);
            let after = world.call.right().agent.selected_pair().unwrap();
            assert_eq!(after.id, right.id, "{report}");
            assert_eq!(world.call.right().selections().len(), changes, "{report}");
        }
    }
}

#[test]
fn a_server_without_mobility_costs_one_round_trip_and_no_more() {
    let mut world = world(Setup {
        change: |config| config.relay_mobility = true,
        ..Setup::default()
    });
    world.connected();
    assert_eq!(world.allocations(), [2, 0, 0]);
    // What cannot move is made anew.
    let now = world.call.now();
    world.call.left().add_address(now, modem());
    let wifi = wifi().address;
    world
        .call
        .left()
        .agent
        .remove_local_address(now, wifi, Protocol::Udp);
    let gap = world.gap(Duration::from_secs(3));
    assert!(gap < ms(1500), "{gap:?}\n{}", world.call.report());
    assert_eq!(world.call.left().agent.stats().relays_moved, 0);
}

#[test]
fn a_relay_without_an_address_to_move_to_is_kept_for_ten_seconds() {
    let mut world = world(Setup {
        change: |config| config.relay_mobility = true,
        ..Setup::default()
    });
    world.server(0).mobility = true;
    world.connected();
    let now = world.call.now();
    let wifi = wifi().address;
    let left = &mut world.call.left().agent;
    left.remove_local_address(now, wifi, Protocol::Udp);
    assert_eq!(relayed(world.call.left()), 1);
    world.call.run_for(Duration::from_secs(9));
    assert_eq!(relayed(world.call.left()), 1);
    world.call.run_for(Duration::from_secs(2));
    assert_eq!(relayed(world.call.left()), 0);
}

/// RFC 6544 section 5.2: two NATs that keep a TCP port's mapping, and nobody in the open.
#[test]
fn tcp_reflexive_candidates_open_a_path_through_two_nats() {
    for seed in 0..10 {
        println!("seed {seed}");
        let now = std::time::Instant::now();
        let mut simulation = Simulation::new(now, seed);
        let link = || LinkConfig::new().delay(ms(10));
        let mut peers = Vec::new();
        let places = [
            ("198.51.100.1", LEFT, Role::Controlling),
            ("198.51.100.2", RIGHT, Role::Controlled),
        ];
        for (index, (external, inner, role)) in places.into_iter().enumerate() {
            let gateway = Gateway::nat(NatConfig::port_restricted_cone(), &[ip(external)])
                .firewall(FirewallConfig::no_udp());
            let home = simulation.add_network(Simulation::INTERNET, gateway, link(), link());
            let host = simulation.add_host_in(home, "host", &[ip(inner)], LinkConfig::new());
            let mut config = Config {
                role,
                ..Config::default()
            };
            let server = visavis_ice::Server::stun_tcp(address(SERVERS[0]));
            config.servers.push(server);
            let seed = seed * 2 + index as u64;
            let mut peer = Peer::new(["left", "right"][index], agent(config, seed, now));
            let mut local = LocalAddress::tcp_passive(SocketAddr::new(ip(inner), 7000));
            local.tcp_type = Some(TcpType::SimultaneousOpen);
            peer.add_address(now, local);
            peers.push((host, peer));
        }
        let server = address(SERVERS[0]);
        let host = simulation.add_host_in(Simulation::INTERNET, "server", &[server.ip()], link());
        let right = peers.pop().unwrap();
        let left = peers.pop().unwrap();
        let mut call = Call::new(simulation, left, right);
        call.add_server(host, Server::new(vec![server]));
        call.start();
        assert!(
            call.connect(Duration::from_secs(15)) && call.exchange_data(Duration::from_secs(1)),
            "{}",
            call.report()
        );
        let selected = call.left().agent.selected_pair().unwrap();
        assert_eq!(selected.path.protocol, Protocol::Tcp);
        assert_eq!(selected.path.remote.ip(), ip("198.51.100.2"));
        let reflexive = |peer: &Peer| {
            peer.agent.local_candidates().any(|c| {
                c.candidate.kind == CandidateKind::ServerReflexive
                    && c.candidate.tcp_type == Some(TcpType::SimultaneousOpen)
            })
        };
        assert!(call.both(reflexive), "{}", call.report());
    }
}

/// A connection that nobody wants any more when it comes up is closed, not forgotten.
#[test]
fn a_connection_that_comes_too_late_is_closed() {
    let now = std::time::Instant::now();
    let mut config = Config::default();
    let tls = visavis_ice::Server::turn(address(SERVERS[0]), Protocol::Tls, USER, PASSWORD);
    config.servers.push(tls);
    let mut agent = agent(config, 1, now);
    agent.add_local_address(now, wifi()).unwrap();
    agent.gather(now);
    let connect = std::iter::from_fn(|| agent.poll_event()).find_map(|event| match event {
        Event::Connect(connect) => Some(connect),
        _ => None,
    });
    let connect = connect.unwrap();
    assert_eq!(connect.protocol, Protocol::Tls);
    agent.close(now);
    let local = SocketAddr::new(ip(LEFT), 40000);
    agent.connected(now, connect.id, local);
    let closed = std::iter::from_fn(|| agent.poll_event())
        .any(|event| matches!(event, Event::Disconnect(path) if path.local == local));
    assert!(closed);
    let mut out = visavis_datagram::TransmitBuf::new(1, 1280);
    assert!(agent.poll_transmit(now, &mut out).is_none());
}
