//! What an agent offers beyond the plain case: TCP, lite agents, older peers, hidden and rewritten
//! addresses, policies, pools, patience, statistics, and what rides along in checks.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::script::{Check, answer, drain, give, is_request, pass};
use common::server::{PASSWORD, Server, USER};
use common::{Call, Peer, address, agent, ip};
use visavis_datagram::{Ecn, Framing, Path, Protocol, Random, TransmitBuf};
use visavis_ice::{
    AddressMode, AddressRewrite, Agent, AttributeWriter, Candidate, CandidateKind, Config,
    ConnectionState, Credentials, Error, Event, GatheringState, Host, LocalAddress, PairState,
    Piggyback, Received, RemoteParameters, RewriteMode, Role, TcpType, TransportPolicy,
};
use visavis_netsim::{LinkConfig, Simulation};
use visavis_stun::attributes::{Nomination, UseCandidate};
use visavis_stun::{AttributeType, Message};

const LEFT: &str = "192.0.2.1";
const RIGHT: &str = "192.0.2.2";
const PEER_PWD: &str = "peerpasswordpeerpassword";

/// Two hosts side by side.
fn pair_of(configs: [Config; 2], addresses: fn(usize) -> Vec<LocalAddress>) -> Call {
    let now = Instant::now();
    let mut simulation = Simulation::new(now, 1);
    let mut peers = Vec::new();
    for (index, config) in configs.into_iter().enumerate() {
        let (name, at) = [("left", LEFT), ("right", RIGHT)][index];
        let host = simulation.add_host_in(
            Simulation::INTERNET,
            name,
            &[ip(at)],
            LinkConfig::new().delay(Duration::from_millis(10)),
        );
        let mut peer = Peer::new(name, agent(config, index as u64, now));
        for local in addresses(index) {
            peer.add_address(now, local);
        }
        peers.push((host, peer));
    }
    let right = peers.pop().unwrap();
    let left = peers.pop().unwrap();
    Call::new(simulation, left, right)
}

fn udp(index: usize) -> Vec<LocalAddress> {
    vec![LocalAddress::udp(SocketAddr::new(
        ip([LEFT, RIGHT][index]),
        5000,
    ))]
}

fn role(role: Role) -> Config {
    Config {
        role,
        ..Config::default()
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn roles() -> [Config; 2] {
    [role(Role::Controlling), role(Role::Controlled)]
}

/// A lone agent whose peer is a script.
fn lone(config: Config, now: Instant) -> Agent {
    let mut agent = Agent::new(config, Random::from_u64(3), now);
    agent
        .add_local_address(now, LocalAddress::udp(address("192.0.2.1:5000")))
        .unwrap();
    agent.gather(now);
    agent
        .set_remote(
            now,
            RemoteParameters::new(Credentials::new("peer", PEER_PWD)),
        )
        .unwrap();
    agent
}

fn line(text: &str) -> Candidate {
    text.parse().unwrap()
}

fn candidates(agent: &mut Agent) -> Vec<Candidate> {
    let mut found = Vec::new();
    while let Some(event) = agent.poll_event() {
        if let Event::Candidate(candidate) = event {
            found.push(candidate);
        }
    }
    found
}

#[test]
fn tcp_alone_connects_active_to_passive() {
    let mut call = pair_of(roles(), |index| {
        let at = ip([LEFT, RIGHT][index]);
        let mut locals = vec![LocalAddress::tcp_active(at)];
        if index == 1 {
            locals.push(LocalAddress::tcp_passive(SocketAddr::new(at, 7000)));
        }
        locals
    });
    call.start();
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    let selected = call.left().agent.selected_pair().unwrap();
    assert_eq!(selected.path.protocol, Protocol::Tcp);
    assert_eq!(selected.path.remote, address("192.0.2.2:7000"));
    assert_eq!(selected.local.tcp_type, Some(TcpType::Active));
    // The connection is lost: there is no other.
    let now = call.now();
    let path = selected.path;
    call.left().agent.disconnected(now, path);
    assert!(call.left().agent.selected_pair().is_none());
}

#[test]
fn tcp_connects_when_both_open_at_once() {
    let mut call = pair_of(roles(), |index| {
        let mut local = LocalAddress::tcp_passive(SocketAddr::new(ip([LEFT, RIGHT][index]), 7000));
        local.tcp_type = Some(TcpType::SimultaneousOpen);
        vec![local]
    });
    call.signal_delay = Duration::from_millis(20);
    call.start();
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
}

#[test]
fn udp_is_preferred_to_tcp() {
    let mut call = pair_of(roles(), |index| {
        let at = ip([LEFT, RIGHT][index]);
        vec![
            LocalAddress::tcp_active(at),
            LocalAddress::tcp_passive(SocketAddr::new(at, 7000)),
            LocalAddress::udp(SocketAddr::new(at, 5000)),
        ]
    });
    call.start();
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    call.run_for(Duration::from_secs(2));
    let selected = call.left().agent.selected_pair().unwrap();
    assert_eq!(selected.path.protocol, Protocol::Udp, "{}", call.report());
}

#[test]
fn a_lite_agent_is_found_by_a_full_one() {
    let lite = Config {
        lite: true,
        ..Config::default()
    };
    let mut call = pair_of([role(Role::Controlled), lite], udp);
    let now = call.now();
    call.left().agent.gather(now);
    call.right().agent.gather(now);
    let (left, mut right) = (call.left().parameters(), call.right().parameters());
    right.lite = true;
    call.left().agent.set_remote(now, right).unwrap();
    call.right().agent.set_remote(now, left).unwrap();
    assert_eq!(call.left().agent.role(), Role::Controlling);
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    call.run_for(Duration::from_secs(120));
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    // It never asked anything.
    assert!(call.right().transactions.is_empty());
}

#[test]
fn two_lite_agents_take_the_best_pair_without_checks() {
    let lite = |role| Config {
        lite: true,
        role,
        ..Config::default()
    };
    let mut call = pair_of([lite(Role::Controlling), lite(Role::Controlled)], udp);
    let now = call.now();
    call.left().agent.gather(now);
    call.right().agent.gather(now);
    let (mut left, mut right) = (call.left().parameters(), call.right().parameters());
    left.lite = true;
    right.lite = true;
    call.left().agent.set_remote(now, right).unwrap();
    call.right().agent.set_remote(now, left).unwrap();
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    assert!(call.left().transactions.is_empty() && call.right().transactions.is_empty());
}

#[test]
fn mdns_names_are_offered_and_resolved() {
    let mut call = pair_of(roles(), |index| {
        let mut locals = udp(index);
        locals[0].mdns_name = Some(["left.local", "right.local"][index].into());
        locals
    });
    call.right().names.insert("left.local".into(), ip(LEFT));
    call.left().names.insert("right.local".into(), ip(RIGHT));
    call.start();
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    let told = call
        .left()
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Candidate(candidate) => Some(candidate.host.clone()),
            _ => None,
        });
    assert_eq!(told.collect::<Vec<_>>(), [Host::Name("left.local".into())]);
}

#[test]
fn a_name_that_never_resolves_holds_nothing_up() {
    let mut call = pair_of(roles(), udp);
    let now = call.now();
    call.start();
    call.left().agent.add_remote_candidate(
        now,
        line("candidate:9 1 udp 2130706431 ghost.local 5000 typ host"),
    );
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    call.run_for(Duration::from_secs(3));
    assert_eq!(
        call.left().agent.connection_state(),
        ConnectionState::Completed,
        "{}",
        call.report()
    );
}

#[test]
fn peers_of_rfc_5245_that_nominate_every_pair_are_followed_to_the_best() {
    let now = Instant::now();
    let mut agent = lone(role(Role::Controlled), now);
    let low = Path::udp(address("192.0.2.1:5000"), address("198.51.100.1:1000"));
    let high = Path::udp(address("192.0.2.1:5000"), address("198.51.100.1:2000"));
    agent.add_remote_candidate(
        now,
        line("candidate:1 1 udp 100 198.51.100.1 1000 typ relay"),
    );
    agent.add_remote_candidate(
        now,
        line("candidate:2 1 udp 2000000000 198.51.100.1 2000 typ host"),
    );
    let local = agent.local_credentials().clone();
    let mut check = Check::to(&local, "peer");
    check.use_candidate = true;
    let mut at = now;
    for (index, path) in [low, high, low, high].into_iter().enumerate() {
        at += Duration::from_millis(60);
        check.id = 10 + index as u8;
        give(&mut agent, at, path, &check.bytes());
        agent.handle_timeout(at);
        for (path, bytes) in drain(&mut agent, at) {
            if is_request(&bytes) {
                give(&mut agent, at, path, &answer(&bytes, PEER_PWD, path.local));
            }
        }
        let expected = if index == 0 { low } else { high };
        assert_eq!(
            agent.selected_pair().unwrap().path,
            expected,
            "after check {index}"
        );
    }
    // A regular nominator that means the lower one repeats itself.
    for id in 20..22 {
        check.id = id;
        give(&mut agent, at, low, &check.bytes());
    }
    assert_eq!(agent.selected_pair().unwrap().path, low);
}

#[test]
fn the_highest_nomination_number_wins() {
    let now = Instant::now();
    let mut agent = lone(role(Role::Controlled), now);
    let paths = [1000, 2000].map(|port| {
        Path::udp(
            address("192.0.2.1:5000"),
            SocketAddr::new(ip("198.51.100.1"), port),
        )
    });
    agent.add_remote_candidate(
        now,
        line("candidate:1 1 udp 2000000000 198.51.100.1 1000 typ host"),
    );
    agent.add_remote_candidate(
        now,
        line("candidate:2 1 udp 100 198.51.100.1 2000 typ relay"),
    );
    let local = agent.local_credentials().clone();
    let mut at = now;
    for (id, (nomination, path, expected)) in [(1, 0, 0), (2, 1, 1), (1, 0, 1), (3, 0, 0)]
        .into_iter()
        .enumerate()
    {
        at += Duration::from_millis(60);
        let mut check = Check::to(&local, "peer");
        check.id = id as u8 + 1;
        check.use_candidate = true;
        check.nomination = Some(nomination);
        give(&mut agent, at, paths[path], &check.bytes());
        agent.handle_timeout(at);
        for (path, bytes) in drain(&mut agent, at) {
            if is_request(&bytes) {
                give(&mut agent, at, path, &answer(&bytes, PEER_PWD, path.local));
            }
        }
        assert_eq!(
            agent.selected_pair().unwrap().path,
            paths[expected],
            "nomination {nomination}"
        );
    }
}

/// From a path that fell silent an agent goes to where answers come from now, not to what answered long ago and ranks higher, and stays
/// there; a controlled one also goes at once to where its peer nominates.
#[test]
fn a_silent_path_is_left_for_the_one_that_answers_now() {
    for (own, is_nominated) in [
        (Role::Controlled, true),
        (Role::Controlled, false),
        (Role::Controlling, false),
    ] {
        let now = Instant::now();
        let mut agent = lone(role(own), now);
        let [silent, idle, answering] = [1000, 2000, 3000].map(|port| {
            Path::udp(
                address("192.0.2.1:5000"),
                SocketAddr::new(ip("198.51.100.1"), port),
            )
        });
        for candidate in [
            "candidate:1 1 udp 2000000000 198.51.100.1 1000 typ host",
            "candidate:2 1 udp 1000000000 198.51.100.1 2000 typ srflx raddr 0.0.0.0 rport 9",
            "candidate:3 1 udp 100 198.51.100.1 3000 typ relay raddr 0.0.0.0 rport 9",
        ] {
            agent.add_remote_candidate(now, line(candidate));
        }
        let local = agent.local_credentials().clone();
        let mut check = Check::to(&local, "peer");
        if own == Role::Controlling {
            (check.controlling, check.controlled) = (None, Some(1));
        }
        check.use_candidate = own == Role::Controlled;
        give(&mut agent, now, silent, &check.bytes());
        let mut at = now;
        let run = |agent: &mut Agent, from: Instant, time, answers: &[Path]| {
            let mut at = from;
            while at < from + time {
                at += ms(10);
                agent.handle_timeout(at);
                for (path, bytes) in drain(agent, at) {
                    if is_request(&bytes) && answers.contains(&path) {
                        give(agent, at, path, &answer(&bytes, PEER_PWD, path.local));
                    }
                }
            }
            at
        };
        at = run(&mut agent, at, ms(500), &[silent, idle, answering]);
        give(&mut agent, at, silent, b"\x80 voice");
        assert_eq!(agent.selected_pair().unwrap().path, silent);
        let fell_silent = at;
        at = run(&mut agent, at, ms(1800), &[answering]);
        assert_eq!(
            agent.selected_pair().unwrap().path,
            silent,
            "not given up yet"
        );
        if is_nominated {
            check.id += 1;
            give(&mut agent, at, answering, &check.bytes());
            assert_eq!(agent.selected_pair().unwrap().path, answering);
        }
        while agent.selected_pair().unwrap().path != answering {
            assert!(at < fell_silent + ms(3000));
            at = run(&mut agent, at, ms(20), &[answering]);
        }
        run(&mut agent, at, ms(5000), &[answering]);
        let mut selected = Vec::new();
        while let Some(event) = agent.poll_event() {
            if let Event::SelectedPair(pair) = event {
                selected.push(pair.path);
            }
        }
        assert_eq!(selected, [silent, answering], "{own:?}");
    }
}

#[test]
fn nomination_is_one_regular_check_with_use_candidate() {
    let now = Instant::now();
    let mut agent = lone(role(Role::Controlling), now);
    agent.add_remote_candidate(
        now,
        line("candidate:1 1 udp 2130706431 198.51.100.1 1000 typ host"),
    );
    let mut nominating = Vec::new();
    let mut at = now;
    let mut answered = 0;
    while at < now + Duration::from_secs(2) {
        agent.handle_timeout(at);
        for (path, bytes) in drain(&mut agent, at) {
            let message = Message::parse(&bytes).unwrap();
            nominating.push(message.has(AttributeType::USE_CANDIDATE));
            assert_eq!(
                message.get::<Nomination>(),
                None,
                "the peer did not offer renomination"
            );
            let _ = message.get::<UseCandidate>();
            give(&mut agent, at, path, &answer(&bytes, PEER_PWD, path.local));
            answered += 1;
        }
        at = agent
            .poll_timeout()
            .map_or(now + Duration::from_secs(2), |next| next.max(at));
    }
    assert_eq!(nominating, [false, true], "{answered}");
}

#[test]
fn failure_is_not_declared_before_the_patience_is_over() {
    // RFC 8863 section 4: every check failed early, and the peer's own checks may still come.
    let now = Instant::now();
    let mut agent = lone(role(Role::Controlling), now);
    agent.end_of_remote_candidates(now);
    let almost = now + Duration::from_millis(39_400);
    pass(&mut agent, now, almost);
    assert_eq!(agent.connection_state(), ConnectionState::Checking);
    // A check from the peer still connects.
    let path = Path::udp(address("192.0.2.1:5000"), address("198.51.100.1:1000"));
    let mut check = Check::to(agent.local_credentials(), "peer");
    check.controlling = None;
    check.controlled = Some(1);
    give(&mut agent, almost, path, &check.bytes());
    for (path, bytes) in drain(&mut agent, almost) {
        if is_request(&bytes) {
            give(
                &mut agent,
                almost,
                path,
                &answer(&bytes, PEER_PWD, path.local),
            );
        }
    }
    assert_eq!(agent.selected_pair().unwrap().path, path);

    let mut silent = lone(role(Role::Controlling), now);
    silent.add_remote_candidate(
        now,
        line("candidate:1 1 udp 2130706431 198.51.100.1 1000 typ host"),
    );
    silent.end_of_remote_candidates(now);
    let sent = pass(&mut silent, now, now + Duration::from_secs(60));
    assert_eq!(silent.connection_state(), ConnectionState::Failed);
    // RFC 8489 section 6.2.1: seven requests, at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 seconds.
    let times: Vec<u128> = sent
        .iter()
        .map(|(at, ..)| (*at - now).as_millis())
        .collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
}

#[test]
fn consent_checks_are_spread_over_4_to_6_seconds() {
    let now = Instant::now();
    let mut agent = lone(role(Role::Controlled), now);
    agent.add_remote_candidate(
        now,
        line("candidate:1 1 udp 2130706431 198.51.100.1 1000 typ host"),
    );
    let mut times = Vec::new();
    let mut at = now;
    let end = now + Duration::from_secs(300);
    while at < end {
        agent.handle_timeout(at);
        for (path, bytes) in drain(&mut agent, at) {
            times.push(at);
            give(&mut agent, at, path, &answer(&bytes, PEER_PWD, path.local));
        }
        at = agent.poll_timeout().map_or(end, |next| next.max(at));
    }
    let gaps: Vec<f64> = times[1..]
        .windows(2)
        .map(|two| (two[1] - two[0]).as_secs_f64())
        .collect();
    assert!(gaps.len() > 45, "{gaps:?}");
    assert!(gaps.iter().all(|gap| (4.0..=6.0).contains(gap)), "{gaps:?}");
    let (least, most) = gaps
        .iter()
        .fold((9.0f64, 0.0f64), |(a, b), &gap| (a.min(gap), b.max(gap)));
    assert!(least < 4.4 && most > 5.6, "{least} {most}");
    assert_eq!(agent.connection_state(), ConnectionState::Connected);
}

#[test]
fn relay_policy_shows_and_uses_no_address_of_the_host() {
    let config = |role| {
        let mut config = Config {
            role,
            transport_policy: TransportPolicy::Relay,
            ..Config::default()
        };
        config
            .servers
            .push(visavis_ice::Server::stun(address("192.0.2.10:3478")));
        let turn =
            visavis_ice::Server::turn(address("192.0.2.10:3478"), Protocol::Udp, USER, PASSWORD);
        config.servers.push(turn);
        config
    };
    let mut call = pair_of([config(Role::Controlling), config(Role::Controlled)], udp);
    let host = call.driver.simulation.add_host_in(
        Simulation::INTERNET,
        "server",
        &[ip("192.0.2.10")],
        LinkConfig::new(),
    );
    let server = call.add_server(host, Server::new(vec![address("192.0.2.10:3478")]));
    call.start();
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    for side in [call.left, call.right] {
        for (_, event) in &call.peer(side).events {
            if let Event::Candidate(candidate) = event {
                assert_eq!(candidate.kind, CandidateKind::Relayed);
                let text = candidate.to_string();
                assert!(
                    !text.contains("192.0.2.1 ") && !text.contains("192.0.2.2 "),
                    "{text}"
                );
            }
        }
    }
    // A channel is bound by now: data is wrapped in place, with four bytes in front.
    call.run_for(Duration::from_secs(1));
    assert_eq!(
        call.left().agent.framing(),
        Framing {
            header: 4,
            trailer: 0
        }
    );
    let relayed = call.server(server).relayed;
    assert!(
        call.exchange_data(Duration::from_secs(1)),
        "{}",
        call.report()
    );
    assert!(call.server(server).relayed > relayed);
    // Closing gives the allocations back.
    assert_eq!(call.server(server).allocations(), 2);
    let now = call.now();
    call.left().agent.close(now);
    call.right().agent.close(now);
    call.run_for(Duration::from_secs(1));
    assert_eq!(call.server(server).allocations(), 0);
}

#[test]
fn address_modes_of_rfc_8828() {
    let now = Instant::now();
    let offer = |mode, default_route: bool| {
        let mut agent = Agent::new(
            Config {
                address_mode: mode,
                ..Config::default()
            },
            Random::from_u64(1),
            now,
        );
        for (index, at) in ["192.168.1.10:5000", "10.0.0.10:5000"].iter().enumerate() {
            let mut local = LocalAddress::udp(address(at));
            local.default_route = index == 0 || !default_route;
            agent.add_local_address(now, local).unwrap();
        }
        agent.gather(now);
        candidates(&mut agent).len()
    };
    assert_eq!(offer(AddressMode::All, true), 2);
    assert_eq!(offer(AddressMode::DefaultRoute, true), 1);
    assert_eq!(offer(AddressMode::DefaultRoutePublic, true), 0);
    assert_eq!(offer(AddressMode::ProxyOnly, true), 0);
}

#[test]
fn known_1_to_1_nats_rewrite_the_offer() {
    let now = Instant::now();
    let offer = |mode, kind| {
        let mut agent = Agent::new(
            Config {
                rewrites: vec![AddressRewrite {
                    external: ip("198.51.100.7"),
                    local: None,
                    interface: None,
                    mode,
                    kind,
                }],
                ..Config::default()
            },
            Random::from_u64(1),
            now,
        );
        agent
            .add_local_address(now, LocalAddress::udp(address("10.0.0.5:5000")))
            .unwrap();
        agent
            .add_local_address(now, LocalAddress::udp(address("[2001:db8::5]:5000")))
            .unwrap();
        agent.gather(now);
        candidates(&mut agent)
            .iter()
            .filter(|c| matches!(c.host, Host::Ip(ip) if ip.is_ipv4()))
            .map(|c| (c.kind, c.address().unwrap()))
            .collect::<Vec<_>>()
    };
    let host = CandidateKind::Host;
    let inner = address("10.0.0.5:5000");
    let outer = address("198.51.100.7:5000");
    assert_eq!(offer(RewriteMode::Replace, host), [(host, outer)]);
    assert_eq!(
        offer(RewriteMode::Append, host),
        [(host, inner), (host, outer)]
    );
    let reflexive = CandidateKind::ServerReflexive;
    assert_eq!(
        offer(RewriteMode::Append, reflexive),
        [(host, inner), (reflexive, outer)]
    );
}

#[test]
fn a_pooled_agent_gathers_early_and_speaks_late() {
    let now = Instant::now();
    let mut agent = Agent::new(
        Config {
            pooled: true,
            ..Config::default()
        },
        Random::from_u64(1),
        now,
    );
    agent
        .add_server(now, visavis_ice::Server::stun(address("203.0.113.10:3478")))
        .unwrap();
    agent
        .add_local_address(now, LocalAddress::udp(address("192.0.2.1:5000")))
        .unwrap();
    assert_eq!(drain(&mut agent, now).len(), 1, "asks the server at once");
    assert_eq!(agent.poll_event(), None);
    agent.gather(now);
    assert_eq!(
        agent.poll_event(),
        Some(Event::GatheringState(GatheringState::Gathering))
    );
    assert_eq!(candidates(&mut agent).len(), 1);
}

#[test]
fn gathering_without_servers_or_addresses_completes() {
    let now = Instant::now();
    let mut agent = Agent::new(Config::default(), Random::from_u64(1), now);
    agent.gather(now);
    assert_eq!(agent.gathering_state(), GatheringState::Complete);
    // An address that comes later is gathered from.
    agent
        .add_local_address(now, LocalAddress::udp(address("192.0.2.1:5000")))
        .unwrap();
    assert_eq!(candidates(&mut agent).len(), 1);
    assert_eq!(agent.gathering_state(), GatheringState::Complete);
}

#[test]
fn a_dead_server_is_an_error_event() {
    let now = Instant::now();
    let mut agent = Agent::new(Config::default(), Random::from_u64(1), now);
    agent
        .add_local_address(now, LocalAddress::udp(address("192.0.2.1:5000")))
        .unwrap();
    agent
        .add_server(now, visavis_ice::Server::stun(address("203.0.113.10:3478")))
        .unwrap();
    agent.gather(now);
    pass(&mut agent, now, now + Duration::from_secs(11));
    let mut errors = 0;
    while let Some(event) = agent.poll_event() {
        if let Event::CandidateError { code, url, .. } = event {
            assert_eq!((code, &*url), (701, "stun:203.0.113.10:3478"));
            errors += 1;
        }
    }
    assert_eq!(errors, 1);
    assert_eq!(agent.gathering_state(), GatheringState::Complete);
}

/// Carries numbered notes both ways.
#[derive(Default)]
struct Notes {
    name: u8,
    heard: Vec<(bool, u16, Vec<u8>)>,
    rooms: Vec<usize>,
}

impl Piggyback for Notes {
    fn outgoing(&mut self, _: Instant, _: bool, attributes: &mut AttributeWriter<'_>) {
        self.rooms.push(attributes.room());
        assert!(attributes.add(0xc070, &[self.name; 900]));
        assert!(attributes.add(0xc071, &[self.name; 8]));
        assert!(!attributes.add(0xc072, &[0; 1400]), "no room for that");
    }

    fn incoming(&mut self, _: Instant, response: bool, kind: u16, value: &[u8]) {
        self.heard.push((response, kind, value.to_vec()));
    }
}

#[test]
#[allow(clippy::needless_range_loop, reason = "both ends by index")]
fn attributes_ride_in_checks_and_responses_both_ways() {
    let now = Instant::now();
    let [left, right] = roles();
    let mut agents = [left, right].map(|config| Agent::new(config, Random::from_u64(8), now));
    let mut notes = [1, 2].map(|name| Notes {
        name,
        ..Notes::default()
    });
    let at = [address("192.0.2.1:5000"), address("192.0.2.2:5000")];
    for index in 0..2 {
        agents[index]
            .add_local_address(now, LocalAddress::udp(at[index]))
            .unwrap();
        agents[index].gather(now);
    }
    let credentials = [0, 1].map(|index: usize| agents[index].local_credentials().clone());
    for index in 0..2 {
        let other = 1 - index;
        let parameters = RemoteParameters::new(credentials[other].clone());
        agents[index].set_remote(now, parameters).unwrap();
        let text = format!(
            "candidate:1 1 udp 2130706431 {} 5000 typ host",
            at[other].ip()
        );
        agents[index].add_remote_candidate(now, line(&text));
    }
    let mut out = TransmitBuf::new(1, 1400);
    for step in 0..10 {
        let now = now + Duration::from_millis(50 * step);
        for index in 0..2 {
            let other = 1 - index;
            agents[index].handle_timeout(now);
            while let Some(transmit) =
                agents[index].poll_transmit_with(now, &mut out, &mut notes[index])
            {
                let mut bytes = out.as_slice().to_vec();
                let from = Path::udp(transmit.destination, transmit.source);
                let got =
                    agents[other].handle_datagram_with(now, from, &mut bytes, &mut notes[other]);
                assert_eq!(got, Received::Consumed);
            }
        }
    }
    for (index, note) in notes.iter().enumerate() {
        let theirs = 2 - index as u8;
        for response in [false, true] {
            let heard = |kind, value: &[u8]| {
                note.heard
                    .iter()
                    .any(|h| h.0 == response && h.1 == kind && h.2 == value)
            };
            assert!(heard(0xc070, &[theirs; 900]), "{index} {response}");
            assert!(heard(0xc071, &[theirs; 8]), "{index} {response}");
        }
        assert!(
            note.rooms.iter().all(|&room| room > 900),
            "{:?}",
            note.rooms
        );
    }
}

#[test]
fn a_check_can_be_asked_for() {
    let now = Instant::now();
    let mut agent = lone(role(Role::Controlled), now);
    agent.add_remote_candidate(
        now,
        line("candidate:1 1 udp 2130706431 198.51.100.1 1000 typ host"),
    );
    for (path, bytes) in drain(&mut agent, now) {
        give(&mut agent, now, path, &answer(&bytes, PEER_PWD, path.local));
    }
    let later = now + Duration::from_secs(1);
    assert!(drain(&mut agent, later).is_empty());
    agent.request_check(later);
    assert_eq!(drain(&mut agent, later).len(), 1);
}

#[test]
fn statistics_count_what_happened() {
    let mut call = pair_of(roles(), udp);
    call.start();
    assert!(call.connect(Duration::from_secs(5)), "{}", call.report());
    for _ in 0..10 {
        assert!(call.exchange_data(Duration::from_secs(1)));
    }
    let pairs: Vec<_> = call.left().agent.pair_stats().collect();
    assert_eq!(pairs.len(), 1);
    let pair = &pairs[0];
    assert!(pair.selected && pair.nominated);
    assert_eq!(pair.state, PairState::Succeeded);
    let counters = pair.counters;
    assert_eq!((counters.packets_sent, counters.packets_received), (10, 10));
    assert_eq!((counters.bytes_sent, counters.bytes_received), (150, 160));
    assert_eq!(counters.requests_sent, counters.responses_received);
    assert!(
        counters.requests_received >= 1 && counters.requests_received == counters.responses_sent
    );
    assert_eq!(
        counters.current_round_trip_time,
        Some(Duration::from_millis(40))
    );
    assert!(counters.last_packet_sent.is_some() && counters.last_packet_received.is_some());
}

#[test]
fn misuse_is_an_error() {
    let now = Instant::now();
    let mut agent = Agent::new(Config::default(), Random::from_u64(1), now);
    let short = RemoteParameters::new(Credentials::new("abc", PEER_PWD));
    assert_eq!(agent.set_remote(now, short), Err(Error::BadCredentials));
    let first = RemoteParameters::new(Credentials::new("abcd", PEER_PWD));
    agent.set_remote(now, first.clone()).unwrap();
    agent.set_remote(now, first).unwrap();
    let second = RemoteParameters::new(Credentials::new("efgh", PEER_PWD));
    assert_eq!(
        agent.set_remote(now, second.clone()),
        Err(Error::RestartFirst)
    );
    agent.restart(now);
    agent.set_remote(now, second).unwrap();
    for bad in ["0.0.0.0:5000", "224.0.0.1:5000", "192.0.2.1:0"] {
        let local = LocalAddress::udp(address(bad));
        assert_eq!(
            agent.add_local_address(now, local),
            Err(Error::BadAddress),
            "{bad}"
        );
    }
    agent.close(now);
    agent.close(now);
    assert_eq!(agent.connection_state(), ConnectionState::Closed);
    let local = LocalAddress::udp(address("192.0.2.1:5000"));
    assert_eq!(agent.add_local_address(now, local), Err(Error::Closed));
    let mut out = TransmitBuf::new(1, 1400);
    assert!(out.push(b"\x80"));
    assert_eq!(agent.send(now, Ecn::NotEct, &mut out), None);
    assert_eq!(agent.poll_timeout(), None);
}

#[test]
fn a_longer_pacing_of_the_peer_is_kept() {
    let now = Instant::now();
    let mut agent = Agent::new(Config::default(), Random::from_u64(1), now);
    agent
        .add_local_address(now, LocalAddress::udp(address("192.0.2.1:5000")))
        .unwrap();
    agent.gather(now);
    let mut parameters = RemoteParameters::new(Credentials::new("peer", PEER_PWD));
    parameters.pacing = Some(Duration::from_millis(200));
    agent.set_remote(now, parameters).unwrap();
    for index in 1..5 {
        let text = format!("candidate:{index} 1 udp 2130706431 198.51.100.{index} 1000 typ host");
        agent.add_remote_candidate(now, line(&text));
    }
    let sent = pass(&mut agent, now, now + Duration::from_millis(700));
    let mut seen = std::collections::HashSet::new();
    let firsts: Vec<u128> = sent
        .iter()
        .filter(|(_, _, bytes)| seen.insert(bytes[8..20].to_vec()))
        .map(|(at, ..)| (*at - now).as_millis())
        .collect();
    assert_eq!(firsts, [0, 200, 400, 600]);
}

/// Agents of one session, for streams that do not share a transport (RFC 8445 section 4): what decides is shared, what names them is
/// not.
#[test]
fn siblings_share_what_decides_and_nothing_that_names_them() {
    let now = Instant::now();
    let config = Config {
        role: Role::Controlling,
        ..Config::default()
    };
    let first = Agent::new(config, Random::from_u64(1), now);
    let given = first.local_credentials().clone();
    let invalid = Credentials::new("x", "short");
    let sibling = |number, credentials| {
        let random = Random::from_u64(u64::from(number) + 2);
        first.sibling(number, credentials, random, now)
    };
    let mut siblings = [
        sibling(1, Some(given.clone())),
        sibling(2, None),
        sibling(255, Some(invalid)),
    ];
    assert_eq!(*siblings[0].local_credentials(), given);
    let mut connections = Vec::new();
    for (index, agent) in siblings.iter_mut().enumerate() {
        assert_eq!(agent.role(), Role::Controlling);
        assert!(agent.local_credentials().is_valid());
        assert_eq!(*agent.local_credentials() == given, index == 0);
        agent
            .add_local_address(now, LocalAddress::tcp_active(ip(LEFT)))
            .unwrap();
        agent.gather(now);
        let credentials = Credentials::new("peer", PEER_PWD);
        agent
            .set_remote(now, RemoteParameters::new(credentials))
            .unwrap();
        let passive = "candidate:1 1 tcp 2105458943 192.0.2.2 9000 typ host tcptype passive";
        agent.add_remote_candidate(now, passive.parse().unwrap());
        let mut at = now;
        let connect = loop {
            match agent.poll_event() {
                Some(Event::Connect(connect)) => break connect,
                Some(_) => {}
                None => {
                    at = agent.poll_timeout().expect("a check is due");
                    agent.handle_timeout(at);
                    let mut out = TransmitBuf::new(1, 1280);
                    while agent.poll_transmit(at, &mut out).is_some() {}
                }
            }
        };
        assert!(!connections.contains(&connect.id));
        connections.push(connect.id);
        let local = SocketAddr::new(ip(LEFT), 40_000 + index as u16);
        let path = agent.connected(at, connect.id, local).expect("its own");
        assert_eq!(path.local, local);
        // Another one's is none of its business.
        if let [first, .., last] = connections[..]
            && first != last
        {
            assert_eq!(agent.connected(at, first, local), None);
        }
    }
}
