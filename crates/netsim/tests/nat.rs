//! NAT behaviour, named for the requirements of RFC 4787 and RFC 5382.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{LINK, World, at, ip, ms};
use visavis_datagram::{Ecn, Path, Protocol};
use visavis_netsim::{
    Arrival, Dependence, Gateway, Hairpinning, LinkConfig, NatConfig, Pooling, PortAllocation,
    Simulation, TcpCommand, TcpEvent, UnsolicitedSyn,
};

const A: &str = "192.168.0.1:5000";

#[test]
fn req_1_mapping_depends_on_the_remote_endpoint_as_configured() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for (mapping, other_port, other_address) in [
        (EndpointIndependent, true, true),
        (AddressDependent, true, false),
        (AddressAndPortDependent, false, false),
    ] {
        let mut world = World::new(NatConfig::new(mapping, EndpointIndependent));
        let first = world.seen(0, A, "203.0.113.1:1").unwrap();
        let second = world.seen(0, A, "203.0.113.1:2").unwrap();
        let third = world.seen(0, A, "203.0.113.2:1").unwrap();
        assert_eq!(first.ip(), ip("198.51.100.1"));
        assert_eq!(first == second, other_port, "{mapping:?}");
        assert_eq!(first == third, other_address, "{mapping:?}");
        assert_eq!(
            world.seen(0, A, "203.0.113.1:1"),
            Some(first),
            "{mapping:?}"
        );
    }
}

#[test]
fn req_2_pooling_is_paired_or_arbitrary() {
    let pool: Vec<_> = (1..=8)
        .map(|last| ip(&format!("198.51.100.{last}")))
        .collect();
    for (pooling, distinct) in [(Pooling::Paired, 1), (Pooling::Arbitrary, 8)] {
        let config = NatConfig {
            pooling,
            ..NatConfig::default()
        };
        let mut world = World::behind(Gateway::nat(config, &pool), 3);
        let seen: BTreeSet<_> = (0..100)
            .map(|port| {
                let from = format!("192.168.0.1:{}", 5000 + port);
                world.seen(0, &from, "203.0.113.1:1").unwrap().ip()
            })
            .collect();
        assert_eq!(seen.len(), distinct, "{pooling:?}");
    }
}

#[test]
fn req_3_ports_are_preserved_until_they_collide() {
    let config = NatConfig {
        ports: PortAllocation::Preserve,
        ..NatConfig::default()
    };
    let mut world = World::new(config);
    assert_eq!(world.seen(0, A, "203.0.113.1:1").unwrap().port(), 5000);
    let second = world.seen(1, "192.168.0.2:5000", "203.0.113.1:1").unwrap();
    assert_ne!(second.port(), 5000);
}

#[test]
fn req_3_port_overloading_takes_the_port_from_the_former_mapping() {
    let config = NatConfig {
        ports: PortAllocation::Overload,
        ..NatConfig::default()
    };
    let mut world = World::new(config);
    let first = world.seen(0, A, "203.0.113.1:1").unwrap();
    assert!(world.answered(0, "203.0.113.1:1", first));
    let second = world.seen(1, "192.168.0.2:5000", "203.0.113.1:1").unwrap();
    assert_eq!(first, second);
    let host = world.outside[0];
    let path = Path::udp(at("203.0.113.1:1"), first);
    world.sim.send(host, path, Ecn::NotEct, b"whose?");
    assert_eq!(world.datagram().unwrap().0, world.inside[1]);
}

#[test]
fn ports_are_given_in_sequence_or_at_random() {
    let ports = |ports| {
        let config = NatConfig {
            ports,
            ..NatConfig::default()
        };
        let mut world = World::new(config);
        (0..20u16)
            .map(|port| {
                let from = format!("192.168.0.1:{}", 5000 + port * 7);
                world.seen(0, &from, "203.0.113.1:1").unwrap().port()
            })
            .collect::<Vec<_>>()
    };
    let steps = |ports: Vec<u16>| {
        let next = |pair: &&[u16]| pair[1] == if pair[0] == 65535 { 1024 } else { pair[0] + 1 };
        ports.windows(2).filter(next).count()
    };
    assert_eq!(steps(ports(PortAllocation::Sequential)), 19);
    assert!(steps(ports(PortAllocation::Random)) < 2);
}

#[test]
fn req_4_port_parity_is_kept() {
    let config = NatConfig {
        parity: true,
        ..NatConfig::default()
    };
    let mut world = World::new(config);
    for port in 5000..5040 {
        let from = format!("192.168.0.1:{port}");
        let seen = world.seen(0, &from, "203.0.113.1:1").unwrap();
        assert_eq!(seen.port() % 2, port % 2);
    }
}

#[test]
fn section_4_2_3_port_contiguity_gives_rtcp_the_port_behind_rtp() {
    let config = NatConfig {
        ports: PortAllocation::Contiguous,
        ..NatConfig::default()
    };
    let mut world = World::new(config);
    let rtp = world.seen(0, A, "203.0.113.1:1").unwrap();
    let other = world.seen(1, "192.168.0.2:7000", "203.0.113.1:1").unwrap();
    let rtcp = world.seen(0, "192.168.0.1:5001", "203.0.113.1:2").unwrap();
    assert_eq!(rtcp.port(), rtp.port() + 1);
    assert_ne!(other.port(), rtp.port());
}

#[test]
fn req_5_a_mapping_lapses_after_its_timeout_and_not_before() {
    let mut world = World::new(NatConfig::default());
    let seen = world.seen(0, A, "203.0.113.1:1").unwrap();
    world.wait(Duration::from_secs(299));
    assert!(world.answered(0, "203.0.113.1:1", seen));
    world.wait(Duration::from_secs(301));
    assert!(!world.answered(0, "203.0.113.1:1", seen));
    assert_eq!(world.sim.nat_stats(world.home).unwrap().unmapped, 1);
    assert_ne!(world.seen(0, A, "203.0.113.1:1"), Some(seen));
}

#[test]
fn req_6_outbound_packets_keep_a_mapping_and_inbound_ones_where_configured() {
    for inbound_refresh in [true, false] {
        let config = NatConfig {
            inbound_refresh,
            udp_timeout: Duration::from_secs(120),
            ..NatConfig::default()
        };
        let mut world = World::new(config);
        let seen = world.seen(0, A, "203.0.113.1:1").unwrap();
        for _ in 0..3 {
            world.wait(Duration::from_secs(100));
            assert_eq!(world.seen(0, A, "203.0.113.1:1"), Some(seen));
        }
        world.wait(Duration::from_secs(100));
        assert!(world.answered(0, "203.0.113.1:1", seen));
        world.wait(Duration::from_secs(100));
        assert_eq!(world.answered(0, "203.0.113.1:1", seen), inbound_refresh);
    }
}

#[test]
fn req_8_filtering_depends_on_the_remote_endpoint_as_configured() {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
    for mapping in Dependence::ALL {
        for (filtering, other_port, other_address) in [
            (EndpointIndependent, true, true),
            (AddressDependent, true, false),
            (AddressAndPortDependent, false, false),
        ] {
            let mut world = World::new(NatConfig::new(mapping, filtering));
            let seen = world.seen(0, A, "203.0.113.1:1").unwrap();
            assert!(world.answered(0, "203.0.113.1:1", seen));
            assert_eq!(world.answered(0, "203.0.113.1:2", seen), other_port);
            assert_eq!(world.answered(1, "203.0.113.2:1", seen), other_address);
            // A port without a mapping lets nobody in.
            let unmapped = at("198.51.100.1:1023");
            assert!(!world.answered(0, "203.0.113.1:1", unmapped));
        }
    }
}

#[test]
fn req_9_hairpinning_shows_the_external_source_the_internal_one_or_nothing() {
    for (hairpinning, shows) in [
        (Hairpinning::None, None),
        (Hairpinning::ExternalSource, Some(true)),
        (Hairpinning::InternalSource, Some(false)),
    ] {
        let config = NatConfig {
            hairpinning,
            ..NatConfig::default()
        };
        let mut world = World::new(config);
        let a = world.seen(0, A, "203.0.113.1:1").unwrap();
        let b = world.seen(1, "192.168.0.2:6000", "203.0.113.1:1").unwrap();
        let seen = world.seen(0, A, &b.to_string());
        let expected = shows.map(|external| if external { a } else { at(A) });
        assert_eq!(seen, expected);
    }
}

#[test]
fn req_12_an_icmp_message_comes_through_and_leaves_the_mapping() {
    let mut world = World::new(NatConfig::symmetric());
    let narrow = world.sim.add_network(
        Simulation::INTERNET,
        Gateway::router(),
        LinkConfig::new(),
        LinkConfig::new().mtu(1000),
    );
    let address = [ip("203.0.113.9")];
    let host = world
        .sim
        .add_host_in(narrow, "narrow", &address, LinkConfig::new());
    let path = Path::udp(at(A), at("203.0.113.9:1"));
    world
        .sim
        .send(world.inside[0], path, Ecn::NotEct, &[0; 1200]);
    let delivery = world.sim.step().unwrap();
    assert_eq!((delivery.host, delivery.path), (world.inside[0], path));
    assert!(matches!(delivery.what, Arrival::PacketTooBig { mtu: 1000 }));
    let before = world
        .sim
        .nat_mapping(world.home, Protocol::Udp, path.local, path.remote);
    let seen = world.seen(0, A, "203.0.113.9:1");
    assert!(before.is_some());
    assert_eq!(seen, before);
    assert_eq!(world.sim.host_name(host), "narrow");
}

#[test]
fn req_13_the_nat_itself_reports_packets_beyond_its_uplinks_mtu() {
    let mut world = World::new(NatConfig::default());
    let [up, _] = world.sim.network_links(world.home).unwrap();
    world.sim.set_link(up, LinkConfig::new().mtu(1280));
    let path = Path::udp(at(A), at("203.0.113.1:1"));
    world
        .sim
        .send(world.inside[0], path, Ecn::NotEct, &[0; 1400]);
    let delivery = world.sim.step().unwrap();
    assert_eq!((delivery.host, delivery.path), (world.inside[0], path));
    assert!(matches!(delivery.what, Arrival::PacketTooBig { mtu: 1280 }));
}

#[test]
fn exhausted_ports_drop_new_flows_until_old_ones_lapse() {
    let config = NatConfig {
        port_range: 40000..=40003,
        udp_timeout: Duration::from_secs(120),
        ..NatConfig::default()
    };
    let mut world = World::new(config);
    for port in 1..=4 {
        let from = format!("192.168.0.1:{port}");
        assert!(world.seen(0, &from, "203.0.113.1:1").is_some());
    }
    assert_eq!(world.seen(1, "192.168.0.2:9", "203.0.113.1:1"), None);
    assert_eq!(world.sim.nat_stats(world.home).unwrap().exhausted, 1);
    world.wait(Duration::from_secs(121));
    assert!(world.seen(1, "192.168.0.2:9", "203.0.113.1:1").is_some());
}

#[test]
fn a_quota_per_host_leaves_ports_to_the_others() {
    let config = NatConfig {
        max_mappings_per_host: Some(2),
        ..NatConfig::default()
    };
    let mut world = World::new(config);
    for (port, allowed) in [(1, true), (2, true), (3, false)] {
        let from = format!("192.168.0.1:{port}");
        assert_eq!(world.seen(0, &from, "203.0.113.1:1").is_some(), allowed);
    }
    assert!(world.seen(1, "192.168.0.2:1", "203.0.113.1:1").is_some());
}

#[test]
fn a_reboot_forgets_mappings_and_a_new_address_is_seen() {
    let mut world = World::new(NatConfig::default());
    let before = world.seen(0, A, "203.0.113.1:1").unwrap();
    world.sim.reboot_nat(world.home);
    assert!(!world.answered(0, "203.0.113.1:1", before));
    let rebound = world.seen(0, A, "203.0.113.1:1").unwrap();
    assert_ne!(rebound, before);
    world
        .sim
        .set_external_addresses(world.home, &[ip("198.51.100.77")]);
    let moved = world.seen(0, A, "203.0.113.1:1").unwrap();
    assert_eq!(moved.ip(), ip("198.51.100.77"));
    assert!(world.answered(0, "203.0.113.1:1", moved));
    assert!(!world.answered(0, "203.0.113.1:1", rebound));
}

#[test]
fn carrier_grade_nats_stack() {
    let mut world = World::new(NatConfig::default());
    let link = || LinkConfig::new().delay(LINK);
    let carrier = world.sim.add_network(
        Simulation::INTERNET,
        Gateway::nat(NatConfig::symmetric(), &[ip("198.51.100.200")]),
        link(),
        link(),
    );
    let home = world.sim.add_network(
        carrier,
        Gateway::nat(NatConfig::full_cone(), &[ip("100.64.0.2")]),
        link(),
        link(),
    );
    // The same private address as another home's: they do not meet.
    world.inside[0] = world
        .sim
        .add_host_in(home, "twice", &[ip("192.168.0.1")], link());
    let seen = world.seen(0, A, "203.0.113.1:1").unwrap();
    assert_eq!(seen.ip(), ip("198.51.100.200"));
    assert!(world.answered(0, "203.0.113.1:1", seen));
    assert!(!world.answered(0, "203.0.113.1:2", seen));
    let middle = world
        .sim
        .nat_mapping(home, Protocol::Udp, at(A), at("203.0.113.1:1"));
    assert_eq!(middle.unwrap().ip(), ip("100.64.0.2"));
}

#[test]
fn hosts_of_one_network_meet_without_the_nat() {
    let mut world = World::new(NatConfig::symmetric());
    assert_eq!(world.seen(0, A, "192.168.0.2:1"), Some(at(A)));
    assert_eq!(world.sim.nat_mappings(world.home), 0);
    // A private address that is not of this network leads nowhere.
    assert_eq!(world.seen(0, A, "192.168.0.3:1"), None);
}

#[test]
fn ipv6_passes_an_ipv4_nat_untranslated() {
    let mut world = World::new(NatConfig::symmetric());
    let link = || LinkConfig::new().delay(ms(1));
    let home = world.home;
    let six = world
        .sim
        .add_host_in(home, "six", &[ip("2001:db8::1")], link());
    world.outside[0] =
        world
            .sim
            .add_host_in(Simulation::INTERNET, "peer", &[ip("2001:db8:1::1")], link());
    world.inside[0] = six;
    let seen = world.seen(0, "[2001:db8::1]:5", "[2001:db8:1::1]:6");
    assert_eq!(seen, Some(at("[2001:db8::1]:5")));
    assert!(world.answered(0, "[2001:db8:1::1]:7", at("[2001:db8::1]:5")));
}

#[test]
fn rfc_5382_req_1_tcp_mappings_are_their_own_and_endpoint_independent() {
    let mut world = World::new(NatConfig::default());
    let (inside, outside) = (world.inside[0], world.outside);
    let mut seen = Vec::new();
    for (host, server) in [(0, "203.0.113.1:80"), (1, "203.0.113.2:80")] {
        world.sim.tcp(outside[host], TcpCommand::Listen(at(server)));
        let path = Path::tcp(at(A), at(server));
        world.sim.tcp(inside, TcpCommand::Connect(path));
        let events = world.tcp_events(5);
        let accepted = |event: &&(_, Path, TcpEvent)| event.2 == TcpEvent::Accepted;
        seen.push(events.iter().find(accepted).unwrap().1.remote);
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(world.seen(0, A, "203.0.113.1:1"), Some(seen[0]));
}

#[test]
fn rfc_5382_req_4_an_unsolicited_syn_gets_no_answer_or_a_reset() {
    for (unsolicited_syn, expected) in [
        (UnsolicitedSyn::Drop, None),
        (UnsolicitedSyn::Reset, Some(TcpEvent::Refused)),
    ] {
        let config = NatConfig {
            unsolicited_syn,
            ..NatConfig::port_restricted_cone()
        };
        let mut world = World::new(config);
        let path = Path::tcp(at("203.0.113.1:9"), at("198.51.100.1:4000"));
        world.sim.tcp(world.outside[0], TcpCommand::Connect(path));
        let events = world.tcp_events(5);
        let event = events.first().map(|event| event.2.clone());
        assert_eq!(event, expected);
    }
}

#[test]
fn rfc_5382_req_2_simultaneous_open_connects_through_two_nats() {
    let mut world = World::new(NatConfig {
        ports: PortAllocation::Preserve,
        ..NatConfig::port_restricted_cone()
    });
    let link = || LinkConfig::new().delay(LINK);
    let nat = NatConfig {
        ports: PortAllocation::Preserve,
        ..NatConfig::port_restricted_cone()
    };
    let gateway = Gateway::nat(nat, &[ip("198.51.100.2")]);
    let other = world
        .sim
        .add_network(Simulation::INTERNET, gateway, link(), link());
    let peer = world
        .sim
        .add_host_in(other, "peer", &[ip("10.0.0.1")], link());
    let here = Path::tcp(at(A), at("198.51.100.2:6000"));
    let there = Path::tcp(at("10.0.0.1:6000"), at("198.51.100.1:5000"));
    world.sim.tcp(world.inside[0], TcpCommand::Connect(here));
    world.sim.tcp(peer, TcpCommand::Connect(there));
    world
        .sim
        .tcp(peer, TcpCommand::Write(there, b"hello".to_vec()));
    let events = world.tcp_events(10);
    let connected = |event: &&(_, _, TcpEvent)| event.2 == TcpEvent::Connected;
    assert_eq!(events.iter().filter(connected).count(), 2, "{events:?}");
    assert!(events.iter().any(|(host, path, event)| {
        (*host, *path) == (world.inside[0], here)
            && matches!(event, TcpEvent::Data(data) if data[..] == *b"hello")
    }));
}

#[test]
fn rfc_5382_req_5_tcp_mappings_outlast_udp_ones() {
    let mut world = World::new(NatConfig::default());
    let server = at("203.0.113.1:80");
    world.sim.tcp(world.outside[0], TcpCommand::Listen(server));
    let path = Path::tcp(at(A), server);
    world.sim.tcp(world.inside[0], TcpCommand::Connect(path));
    world.tcp_events(1);
    world.wait(Duration::from_secs(2 * 3600));
    assert_eq!(world.sim.nat_mappings(world.home), 1);
    world
        .sim
        .tcp(world.inside[0], TcpCommand::Write(path, vec![1]));
    assert!(!world.tcp_events(1).is_empty());
    // A closed connection's mapping is transitory.
    world.sim.tcp(world.inside[0], TcpCommand::Reset(path));
    world.tcp_events(1);
    world.wait(Duration::from_secs(241));
    assert_eq!(world.sim.nat_mappings(world.home), 0);
}

#[test]
fn whatever_the_kind_and_the_traffic_no_two_hosts_share_a_port_and_answers_come_home() {
    let allocations = [
        PortAllocation::Preserve,
        PortAllocation::Sequential,
        PortAllocation::Random,
        PortAllocation::Contiguous,
    ];
    for seed in 0..4u64 {
        for (mapping, filtering) in Dependence::ALL
            .into_iter()
            .flat_map(|mapping| Dependence::ALL.map(|filtering| (mapping, filtering)))
        {
            let config = NatConfig {
                ports: allocations[seed as usize],
                parity: seed % 2 == 0,
                ..NatConfig::new(mapping, filtering)
            };
            let gateway = Gateway::nat(config, &[ip("198.51.100.1")]);
            let mut world = World::behind(gateway, seed);
            let mut random = visavis_datagram::Random::from_u64(seed);
            let mut owners = std::collections::BTreeMap::new();
            for _ in 0..60 {
                let host = random.below(2) as usize;
                let inside = at(&format!(
                    "192.168.0.{}:{}",
                    host + 1,
                    5000 + random.below(4)
                ));
                let server = random.below(2) as usize;
                let remote = format!("203.0.113.{}:{}", server + 1, 1 + random.below(3));
                let seen = world.seen(host, &inside.to_string(), &remote).unwrap();
                let owner = *owners.entry(seen).or_insert(inside);
                assert_eq!(owner, inside, "{mapping:?} {filtering:?} seed {seed}");
                let path = Path::udp(at(&remote), seen);
                world
                    .sim
                    .send(world.outside[server], path, Ecn::NotEct, b"back");
                let home = world.datagram().map(|(host, path)| (host, path.local));
                assert_eq!(home, Some((world.inside[host], inside)), "seed {seed}");
            }
        }
    }
}
