//! What a stranger, or a peer that does not play fair, can do to an agent: nothing that matters.
//! Numbers in the names are those of the attack list that the design keeps for ICE and DTLS agents.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::address;
use common::script::{
    Check, answer, bare_answer, class, code, drain, give, is_request, pass, refuse,
};
use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_ice::{
    Agent, Candidate, Config, ConnectionState, Credentials, Event, Limits, LocalAddress, Pacer,
    Received, RemoteParameters, Role,
};
use visavis_stun::Class;
use visavis_stun::attributes::ErrorCode;

const LOCAL: &str = "192.0.2.1:5000";
const PEER: &str = "198.51.100.1:6000";
const STRANGER: &str = "203.0.113.66:666";
const PEER_PWD: &str = "peerpasswordpeerpassword";

fn peer() -> Credentials {
    Credentials::new("peer", PEER_PWD)
}

fn candidate(at: &str) -> Candidate {
    let at = address(at);
    format!(
        "candidate:1 1 udp 2130706431 {} {} typ host",
        at.ip(),
        at.port()
    )
    .parse()
    .unwrap()
}

/// An agent that knows its peer's credentials and one candidate.
fn agent(role: Role, now: Instant) -> Agent {
    agent_with(
        Config {
            role,
            ..Config::default()
        },
        now,
    )
}

fn agent_with(config: Config, now: Instant) -> Agent {
    let mut agent = Agent::new(config, Random::from_u64(1), now);
    agent
        .add_local_address(now, LocalAddress::udp(address(LOCAL)))
        .unwrap();
    agent.gather(now);
    agent
        .set_remote(now, RemoteParameters::new(peer()))
        .unwrap();
    agent.add_remote_candidate(now, candidate(PEER));
    agent
}

/// The same, connected to its peer.
fn connected(role: Role, now: Instant) -> Agent {
    let mut agent = agent(role, now);
    let sent = drain(&mut agent, now);
    let (path, request) = sent
        .into_iter()
        .find(|(_, bytes)| is_request(bytes))
        .unwrap();
    assert_eq!(path, Path::udp(address(LOCAL), address(PEER)));
    give(
        &mut agent,
        now,
        path,
        &answer(&request, PEER_PWD, address(LOCAL)),
    );
    assert_eq!(agent.connection_state(), ConnectionState::Connected);
    while agent.poll_event().is_some() {}
    agent
}

fn from(remote: &str) -> Path {
    Path::udp(address(LOCAL), address(remote))
}

#[test]
fn attack_40_to_42_data_of_strangers_is_no_data() {
    let now = Instant::now();
    let client_hello = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40];
    let alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40];
    let rtp = [0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    for mut agent in [
        agent(Role::Controlled, now),
        connected(Role::Controlled, now),
    ] {
        let before = agent.selected_pair();
        // From anywhere, and from the peer's own IP address with another port.
        for stranger in [STRANGER, "198.51.100.1:6001"] {
            for bytes in [&client_hello[..], &alert, &rtp, &[], &[0], &[0; 1400]] {
                assert_eq!(
                    give(&mut agent, now, from(stranger), bytes),
                    Received::Consumed
                );
            }
        }
        assert!(agent.stats().unvalidated_data >= 6);
        assert_eq!(agent.selected_pair(), before);
        assert!(
            drain(&mut agent, now)
                .iter()
                .all(|(path, _)| path.remote == address(PEER))
        );
    }
    let mut agent = connected(Role::Controlled, now);
    let data = give(&mut agent, now, from(PEER), &rtp);
    assert!(matches!(data, Received::Data { payload, .. } if payload == (0..12)));
}

#[test]
fn attack_43_checks_without_the_password_get_silence() {
    let now = Instant::now();
    let mut agent = connected(Role::Controlled, now);
    let local = agent.local_credentials().clone();
    let good = Check::to(&local, "peer");
    let bad = [
        Check {
            password: "guessguessguessguessguess".into(),
            ..good.clone()
        },
        Check {
            username: "abcd:peer".into(),
            ..good.clone()
        },
        Check {
            username: String::new(),
            ..good.clone()
        },
        Check {
            username: format!(":{}", local.ufrag),
            ..good.clone()
        },
        Check {
            integrity: false,
            ..good.clone()
        },
        Check {
            fingerprint: false,
            ..good.clone()
        },
    ];
    for check in &bad {
        give(&mut agent, now, from(STRANGER), &check.bytes());
        assert!(drain(&mut agent, now).is_empty(), "{}", check.username);
    }
    assert_eq!(agent.stats().unauthenticated, 5);
    assert_eq!(agent.stats().malformed, 1);
    assert_eq!(agent.remote_candidates().count(), 1);
    // The good one is answered, so the silence was not deafness.
    give(&mut agent, now, from(PEER), &good.bytes());
    assert_eq!(class(&drain(&mut agent, now)[0].1), Some(Class::Success));
}

#[test]
fn attack_43_equal_tie_breakers_and_487_loops_end() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlling, now);
    let sent = drain(&mut agent, now);
    let request = &sent[0].1;
    // A 487 without the peer's password changes nothing.
    give(
        &mut agent,
        now,
        from(PEER),
        &refuse(
            request,
            "wrongwrongwrongwrongwrong",
            ErrorCode::ROLE_CONFLICT,
        ),
    );
    assert_eq!(agent.role(), Role::Controlling);
    // The true one does, once; a second copy matches no transaction.
    let refusal = refuse(request, PEER_PWD, ErrorCode::ROLE_CONFLICT);
    give(&mut agent, now, from(PEER), &refusal);
    give(&mut agent, now, from(PEER), &refusal);
    assert_eq!(agent.role(), Role::Controlled);
    assert_eq!(agent.stats().unmatched_responses, 1);
    // A peer that answers every check with 487 makes the agent change its role once per check, at the
    // pace of the checks, and never connected.
    let mut at = now;
    let mut refused = 0;
    for _ in 0..200 {
        let next = agent.poll_timeout().unwrap_or(at + Duration::from_secs(1));
        at = next.max(at);
        agent.handle_timeout(at);
        for (path, bytes) in drain(&mut agent, at) {
            if is_request(&bytes) {
                refused += 1;
                give(
                    &mut agent,
                    at,
                    path,
                    &refuse(&bytes, PEER_PWD, ErrorCode::ROLE_CONFLICT),
                );
            }
        }
    }
    let pace = (at - now).as_secs_f64() / 0.05 + 2.0;
    assert!(
        f64::from(refused) <= pace,
        "{refused} checks in {:?}",
        at - now
    );
}

#[test]
fn attack_43_a_conflict_is_decided_by_the_tie_breaker() {
    // RFC 8445 section 7.3.1.1, all four cases. The agent's own tie-breaker lies between 0 and the maximum.
    let now = Instant::now();
    for (role, theirs, expected, refused) in [
        (Role::Controlling, 0, Role::Controlling, true),
        (Role::Controlling, u64::MAX, Role::Controlled, false),
        (Role::Controlled, 0, Role::Controlling, false),
        (Role::Controlled, u64::MAX, Role::Controlled, true),
    ] {
        let mut agent = agent(role, now);
        drain(&mut agent, now);
        let mut check = Check::to(agent.local_credentials(), "peer");
        check.controlling = (role == Role::Controlling).then_some(theirs);
        check.controlled = (role == Role::Controlled).then_some(theirs);
        give(&mut agent, now, from(PEER), &check.bytes());
        assert_eq!(agent.role(), expected, "{role:?} {theirs}");
        let response = &drain(&mut agent, now)[0].1;
        assert_eq!(code(response) == Some(487), refused, "{role:?} {theirs}");
    }
}

#[test]
fn attack_44_candidates_that_lead_nowhere_are_refused() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlling, now);
    let before = agent.remote_candidates().count();
    for bad in [
        "candidate:1 1 udp 1 198.51.100.1 0 typ host",
        "candidate:1 1 udp 1 224.0.0.1 5000 typ host",
        "candidate:1 1 udp 1 255.255.255.255 5000 typ host",
        "candidate:1 1 udp 1 0.0.0.0 5000 typ host",
        "candidate:1 1 udp 1 ff02::1 5000 typ host",
        "candidate:1 1 udp 1 :: 5000 typ host",
        "candidate:1 1 udp 1 example.com 5000 typ host",
        "candidate:1 1 tcp 1 198.51.100.1 0 typ host tcptype passive",
        "candidate:1 2 udp 1 198.51.100.1 5000 typ host",
    ] {
        agent.add_remote_candidate(now, bad.parse().unwrap());
    }
    assert_eq!(agent.stats().refused_candidates, 9);
    assert_eq!(agent.remote_candidates().count(), before);
    // A zone identifier is not even a candidate line.
    assert!(
        "candidate:1 1 udp 1 fe80::1%eth0 5000 typ host"
            .parse::<Candidate>()
            .is_err()
    );
    // No check leaves for a loopback address of ours.
    agent.add_remote_candidate(now, candidate("127.0.0.1:22"));
    assert!(
        agent
            .pair_stats()
            .all(|pair| pair.remote.address() != Some(address("127.0.0.1:22")))
    );
}

#[test]
fn attack_44_ten_thousand_candidates_are_bounded() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlling, now);
    for index in 0..10_000u32 {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + index);
        agent.add_remote_candidate(now, candidate(&format!("{ip}:5000")));
        // Duplicates take no room.
        agent.add_remote_candidate(now, candidate(&format!("{ip}:5000")));
    }
    assert_eq!(agent.remote_candidates().count(), 100);
    assert!(agent.pair_stats().count() <= 100);
    assert!(agent.stats().candidates_over_limit >= 9_900);
    for index in 0..10_000 {
        let line = format!("candidate:1 1 udp 1 {index}.local 5000 typ host");
        agent.add_remote_candidate(now, line.parse().unwrap());
    }
    let mut asked = 0;
    while let Some(event) = agent.poll_event() {
        asked += usize::from(matches!(event, Event::ResolveName(_)));
    }
    assert!(asked <= Limits::default().names, "{asked}");
    // Before the credentials are known, too.
    let mut agent = Agent::new(Config::default(), Random::from_u64(1), now);
    for index in 0..10_000u32 {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + index);
        agent.add_remote_candidate(now, candidate(&format!("{ip}:5000")));
    }
    assert_eq!(agent.remote_candidates().count(), 100);
}

#[test]
fn attack_45_stale_forged_and_misplaced_responses_do_not_extend_consent() {
    let now = Instant::now();
    let mut agent = connected(Role::Controlled, now);
    let mut at = now;
    let mut old: Option<Vec<u8>> = None;
    let end = now + Duration::from_secs(60);
    let mut last_usable = now;
    let mut out = TransmitBuf::new(1, 1400);
    while at < end {
        at = agent.poll_timeout().map_or(end, |next| next.clamp(at, end));
        agent.handle_timeout(at);
        for (path, bytes) in drain(&mut agent, at) {
            if !is_request(&bytes) {
                continue;
            }
            // Wrong password; right one from elsewhere; right one for an older transaction, again.
            give(
                &mut agent,
                at,
                path,
                &answer(&bytes, "wrongwrongwrongwrongwrong", address(LOCAL)),
            );
            let good = answer(&bytes, PEER_PWD, address(LOCAL));
            give(&mut agent, at, from(STRANGER), &good);
            if let Some(old) = &old {
                give(&mut agent, at, path, old);
            }
            old.get_or_insert_with(|| {
                answer(
                    &[&bytes[..8], &[9; 12], &bytes[20..]].concat(),
                    PEER_PWD,
                    address(LOCAL),
                )
            });
        }
        out.clear();
        out.push(b"\x80 voice");
        if agent
            .send(at, visavis_datagram::Ecn::NotEct, &mut out)
            .is_some()
        {
            last_usable = at;
        }
    }
    assert!(
        last_usable - now <= Duration::from_secs(30),
        "{:?}",
        last_usable - now
    );
    assert_eq!(agent.connection_state(), ConnectionState::Failed);
    let stats = agent.stats();
    assert!(
        stats.forged_responses > 0
            && stats.asymmetric_responses > 0
            && stats.unmatched_responses > 0
    );
}

#[test]
fn attack_45_an_authenticated_403_revokes_consent_at_once() {
    let now = Instant::now();
    let mut agent = connected(Role::Controlled, now);
    let soon = now + Duration::from_secs(7);
    let sent = pass(&mut agent, now, soon);
    let (at, path, request) = sent
        .iter()
        .rfind(|(_, _, bytes)| is_request(bytes))
        .unwrap();
    give(
        &mut agent,
        *at,
        *path,
        &refuse(request, PEER_PWD, ErrorCode::FORBIDDEN),
    );
    assert!(agent.selected_pair().is_none());
}

#[test]
fn a_check_replayed_from_another_address_moves_nothing() {
    let now = Instant::now();
    let mut agent = connected(Role::Controlled, now);
    let before = agent.selected_pair();
    let mut check = Check::to(agent.local_credentials(), "peer");
    check.use_candidate = true;
    // Captured on the way, it is genuine; its source is not.
    give(&mut agent, now, from(STRANGER), &check.bytes());
    let end = now + Duration::from_secs(20);
    let mut to_stranger = 0;
    for (at, path, bytes) in pass(&mut agent, now, end) {
        to_stranger += usize::from(path.remote == address(STRANGER));
        if path.remote == address(PEER) && is_request(&bytes) {
            let good = answer(&bytes, PEER_PWD, address(LOCAL));
            give(&mut agent, at, path, &good);
        }
    }
    assert_eq!(agent.selected_pair(), before);
    // One answer, and the requests of one check (RFC 8489 section 6.2.1): no reflector to speak of.
    assert!(to_stranger <= 8, "{to_stranger}");
}

#[test]
fn an_attribute_longer_than_the_message_is_dropped_and_counted() {
    let now = Instant::now();
    let mut agent = connected(Role::Controlled, now);
    let good = Check::to(agent.local_credentials(), "peer").bytes();
    for length in [good.len() as u16, 1000, u16::MAX] {
        let mut bad = good.clone();
        bad[22..24].copy_from_slice(&length.to_be_bytes());
        let malformed = agent.stats().malformed;
        give(&mut agent, now, from(PEER), &bad);
        assert_eq!(agent.stats().malformed, malformed + 1, "{length}");
    }
    // And a message that ends before its own length.
    for cut in 1..good.len() {
        give(&mut agent, now, from(PEER), &good[..cut]);
    }
    assert!(drain(&mut agent, now).is_empty());
    give(&mut agent, now, from(PEER), &good);
    assert_eq!(drain(&mut agent, now).len(), 1);
}

#[test]
fn attack_46_peer_reflexive_churn_stays_bounded() {
    let now = Instant::now();
    let mut agent = connected(Role::Controlled, now);
    let local = agent.local_credentials().clone();
    for index in 0..5_000u32 {
        let mut check = Check::to(&local, "peer");
        check.id = index as u8;
        let source = SocketAddr::new([10, 0, (index >> 8) as u8, index as u8].into(), 1000);
        let at = now + Duration::from_millis(u64::from(index));
        give(
            &mut agent,
            at,
            Path::udp(address(LOCAL), source),
            &check.bytes(),
        );
    }
    assert!(agent.remote_candidates().count() <= 100);
    assert!(agent.pair_stats().count() <= 100);
    // The selected pair is untouched.
    assert_eq!(agent.selected_pair().unwrap().path, from(PEER));
}

#[test]
fn attack_46_checks_of_a_former_session_are_ignored() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlled, now);
    let former = agent.local_credentials().clone();
    agent.restart(now);
    drain(&mut agent, now);
    give(
        &mut agent,
        now,
        from(PEER),
        &Check::to(&former, "peer").bytes(),
    );
    assert!(drain(&mut agent, now).is_empty());
    assert_eq!(agent.stats().stale_session, 1);
}

#[test]
fn checks_of_a_restarted_peer_that_has_not_our_answer_yet_make_a_path() {
    let now = Instant::now();
    let mut agent = connected(Role::Controlled, now);
    let former = agent.local_credentials().clone();
    // The peer restarts, and checks from a new port before our answer has come: with our old password.
    let next = "nextpasswordnextpassword";
    agent.restart(now);
    agent
        .set_remote(now, RemoteParameters::new(Credentials::new("next", next)))
        .unwrap();
    drain(&mut agent, now);
    let elsewhere = "198.51.100.1:6001";
    let check = Check {
        use_candidate: true,
        ..Check::to(&former, "next")
    };
    give(&mut agent, now, from(elsewhere), &check.bytes());
    let sent = pass(&mut agent, now, now + Duration::from_millis(100));
    let to_it = |wanted: Class| {
        let found = sent.iter().find(|(_, path, bytes)| {
            path.remote == address(elsewhere) && class(bytes) == Some(wanted)
        });
        found.unwrap_or_else(|| panic!("no {wanted:?}")).2.clone()
    };
    // It is answered, and checked in return by the new session.
    to_it(Class::Success);
    let request = to_it(Class::Request);
    give(
        &mut agent,
        now,
        from(elsewhere),
        &answer(&request, next, address(LOCAL)),
    );
    assert_eq!(
        agent.selected_pair().unwrap().remote.port,
        address(elsewhere).port()
    );
    let media = give(&mut agent, now, from(elsewhere), &[0x80; 20]);
    assert!(matches!(media, Received::Data { .. }));
    // It goes on so beyond the time for which an old session is kept.
    let mut at = now;
    for _ in 0..20 {
        at += Duration::from_secs(4);
        for (_, path, bytes) in pass(&mut agent, at - Duration::from_secs(4), at) {
            if is_request(&bytes) {
                give(&mut agent, at, path, &answer(&bytes, next, address(LOCAL)));
            }
        }
        give(&mut agent, at, from(elsewhere), &check.bytes());
        let answered = drain(&mut agent, at)
            .iter()
            .any(|(_, bytes)| class(bytes) == Some(Class::Success));
        assert!(answered, "{:?}", at - now);
    }
}

#[test]
fn attack_47_new_checks_keep_the_pace_over_all_agents() {
    let start = Instant::now();
    let pacer = Pacer::new(Duration::from_millis(50));
    let mut agents: Vec<Agent> = (0..4)
        .map(|index| {
            let config = Config {
                pacer: Some(pacer.clone()),
                ..Config::default()
            };
            let mut agent = Agent::new(config, Random::from_u64(index), start);
            agent
                .add_local_address(start, LocalAddress::udp(address(LOCAL)))
                .unwrap();
            agent.gather(start);
            agent
                .set_remote(start, RemoteParameters::new(peer()))
                .unwrap();
            for index in 0..200u8 {
                // Each of its own foundation, so that nothing is held back.
                let line = format!("candidate:{index} 1 udp 1 10.0.0.{index} 5000 typ host");
                agent.add_remote_candidate(start, line.parse().unwrap());
            }
            agent
        })
        .collect();
    let mut firsts = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut now = start;
    let end = start + Duration::from_secs(60);
    while let Some(next) = agents.iter().filter_map(Agent::poll_timeout).min()
        && next <= end
    {
        now = next.max(now);
        for agent in &mut agents {
            agent.handle_timeout(now);
            for (_, bytes) in drain(agent, now) {
                if seen.insert(bytes[8..20].to_vec()) {
                    firsts.push(now);
                }
            }
        }
    }
    assert!(firsts.len() >= 400, "{}", firsts.len());
    let fast = firsts
        .windows(2)
        .filter(|two| two[1] - two[0] < Duration::from_millis(50))
        .count();
    assert_eq!(fast, 0, "{} transactions", firsts.len());
    assert!(agents.iter().all(|agent| agent.pair_stats().count() <= 100));
}

#[test]
fn attack_48_a_hidden_address_is_in_no_line() {
    let now = Instant::now();
    let mut agent = Agent::new(Config::default(), Random::from_u64(1), now);
    let mut local = LocalAddress::udp(address("192.168.1.10:5000"));
    local.mdns_name = Some("1f4712db-ea17-4bcf-a596-105139dfd8bf.local".into());
    agent.add_local_address(now, local).unwrap();
    agent
        .add_server(now, visavis_ice::Server::stun(address("203.0.113.10:3478")))
        .unwrap();
    agent.gather(now);
    let sent = drain(&mut agent, now);
    let request = visavis_stun::Message::parse(&sent[0].1).unwrap();
    let mut out = [0; 100];
    let len = visavis_stun::MessageBuilder::response(&mut out, Class::Success, &request)
        .add(&visavis_stun::attributes::XorMappedAddress(address(
            "198.51.100.9:7777",
        )))
        .finish()
        .unwrap();
    give(&mut agent, now, sent[0].0, &out[..len]);
    let mut lines = Vec::new();
    while let Some(event) = agent.poll_event() {
        if let Event::Candidate(candidate) = event {
            lines.push(candidate.to_string());
        }
    }
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains(".local 5000 typ host"), "{lines:?}");
    assert!(
        lines[1].contains("198.51.100.9 7777 typ srflx raddr 0.0.0.0 rport 0"),
        "{lines:?}"
    );
    assert!(
        lines.iter().all(|line| !line.contains("192.168")),
        "{lines:?}"
    );
}

#[test]
fn unknown_required_attributes_are_answered_with_420() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlled, now);
    drain(&mut agent, now);
    let mut check = Check::to(agent.local_credentials(), "peer");
    check.extra.push((0x7777, vec![1, 2, 3, 4]));
    give(&mut agent, now, from(PEER), &check.bytes());
    let sent = drain(&mut agent, now);
    assert_eq!(code(&sent[0].1), Some(420));
    // Comprehension-optional ones are not.
    check.extra = vec![(0xc0ff, vec![1, 2, 3])];
    check.id = 2;
    give(&mut agent, now, from(PEER), &check.bytes());
    assert_eq!(class(&drain(&mut agent, now)[0].1), Some(Class::Success));
}

#[test]
fn early_checks_are_bounded_and_count_later() {
    let now = Instant::now();
    let mut agent = Agent::new(
        Config {
            role: Role::Controlled,
            ..Config::default()
        },
        Random::from_u64(1),
        now,
    );
    agent
        .add_local_address(now, LocalAddress::udp(address(LOCAL)))
        .unwrap();
    agent.gather(now);
    let local = agent.local_credentials().clone();
    for port in 1..=100u16 {
        let mut check = Check::to(&local, "peer");
        check.id = port as u8;
        give(
            &mut agent,
            now,
            from(&format!("10.0.0.1:{port}")),
            &check.bytes(),
        );
        // Each is answered: the peer's check may succeed before its answer arrives.
        assert_eq!(class(&drain(&mut agent, now)[0].1), Some(Class::Success));
    }
    assert_eq!(agent.stats().early_checks_over_limit, 84);
    agent
        .set_remote(now, RemoteParameters::new(peer()))
        .unwrap();
    assert_eq!(agent.remote_candidates().count(), 16);
    let sent = drain(&mut agent, now);
    assert_eq!(sent[0].0.remote, address("10.0.0.1:1"));
}

#[test]
fn responses_nobody_collects_are_bounded() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlled, now);
    let check = Check::to(agent.local_credentials(), "peer").bytes();
    for _ in 0..1000 {
        give(&mut agent, now, from(PEER), &check);
    }
    assert_eq!(agent.stats().responses_over_limit, 1000 - 64);
    let responses = drain(&mut agent, now)
        .iter()
        .filter(|(_, bytes)| !is_request(bytes))
        .count();
    assert_eq!(responses, 64);
}

#[test]
fn any_bytes_at_the_door_are_survived() {
    let now = Instant::now();
    let mut random = Random::from_u64(5);
    let mut agent = connected(Role::Controlling, now);
    let good = Check::to(agent.local_credentials(), "peer").bytes();
    for _ in 0..20_000 {
        let mut bytes = if random.chance(0.5) {
            good.clone()
        } else {
            vec![0; random.below(200) as usize]
        };
        for _ in 0..1 + random.below(8) {
            let at = random.below(bytes.len().max(1) as u64) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.u32() as u8;
            }
        }
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        agent.handle_datagram(now, from(PEER), &mut bytes);
    }
    assert_eq!(agent.selected_pair().unwrap().path, from(PEER));
}

/// FFmpeg's WHIP client answers so.
#[test]
fn an_authentic_answer_without_a_mapped_address_counts() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlled, now);
    let sent = drain(&mut agent, now);
    let (path, request) = sent
        .into_iter()
        .find(|(_, bytes)| is_request(bytes))
        .unwrap();
    give(
        &mut agent,
        now,
        path,
        &bare_answer(&request, "wrongwrongwrongwrongwrong"),
    );
    assert_ne!(agent.connection_state(), ConnectionState::Connected);
    give(&mut agent, now, path, &bare_answer(&request, PEER_PWD));
    assert_eq!(agent.connection_state(), ConnectionState::Connected);
}

/// Whoever spoofs the peer's address can send data that looks like its own: no request per packet.
#[test]
fn data_before_the_answer_hastens_the_check_once_per_timeout() {
    let now = Instant::now();
    let mut agent = agent(Role::Controlled, now);
    // The peer's check is heard, ours is not answered.
    let check = Check::to(agent.local_credentials(), "peer");
    give(&mut agent, now, from(PEER), &check.bytes());
    let second = Duration::from_secs(1);
    let requests = |sent: Vec<(Instant, Path, Vec<u8>)>| {
        let times = sent.into_iter().filter(|(_, _, bytes)| is_request(bytes));
        times.map(|(at, ..)| at).collect::<Vec<_>>()
    };
    let quiet = pass(&mut agent, now, now + 4 * second);
    assert!(requests(quiet).len() <= 5);
    // Then ClientHellos come, a hundred a second.
    let mut at = now + 4 * second;
    let mut sent = Vec::new();
    for _ in 0..400 {
        give(&mut agent, at, from(PEER), &[22, 254, 253, 0]);
        let next = at + second / 100;
        sent.extend(requests(pass(&mut agent, at, next)));
        at = next;
    }
    assert!((8..=9).contains(&sent.len()), "{}", sent.len());
    let soon = sent[0] - (now + 4 * second);
    assert!(soon < second / 2, "{soon:?}");
    let gaps = sent.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(
        gaps.clone().min().unwrap() >= second / 2,
        "{:?}",
        gaps.min()
    );
}
