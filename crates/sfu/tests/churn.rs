//! Rooms whose members come and go, and members who misbehave: everything is bounded, nothing is left
//! behind, and the others notice nothing.

mod common;

use common::{Lab, Member, Wants, connection_id, wide};
use visavis_datagram::{Ecn, Path, Random};
use visavis_peer::{Description, Kind};
use visavis_sfu::{
    ConnectionConfig, Error, Forwarding, Limits, ParticipantId, PublishOptions, RoomId,
    SubscribeOptions, TrackId,
};

const BOTH: Wants = Wants {
    microphone: true,
    camera: 2,
    sections: (4, 4),
};

/// One member, the tracks it publishes, and those that it gets.
struct Joined {
    member: Member,
    tracks: Vec<TrackId>,
}

/// Joins, publishes, gets all tracks of the room, and is got by all.
fn join(lab: &mut Lab, members: &mut Vec<Joined>, worker: u16, loss: f64) {
    let member = lab.join(worker, 1, wide(15).random_loss(loss), BOTH);
    lab.client(member).keep = false;
    let tracks = lab.publish(member);
    for other in members.iter() {
        for &track in &other.tracks {
            lab.subscribe(member, track);
        }
        for &track in &tracks {
            lab.subscribe(other.member, track);
        }
    }
    let all: Vec<Member> = members.iter().map(|joined| joined.member).collect();
    for other in all {
        lab.negotiate(other);
    }
    lab.negotiate(member);
    members.push(Joined { member, tracks });
}

fn leave(lab: &mut Lab, members: &mut Vec<Joined>, index: usize) -> Member {
    let left = members.remove(index);
    let now = lab.now();
    lab.worker(left.member.connection)
        .close(now, left.member.connection);
    let client = lab.client(left.member);
    client.pc.close(now);
    client.sending.clear();
    left.member
}

/// What all workers hold: connections, tracks, subscriptions.
fn held(lab: &mut Lab) -> (u64, u64, u64) {
    let stats = lab.server().workers.iter().map(|worker| worker.stats());
    stats.fold((0, 0, 0), |sum, stats| {
        (
            sum.0 + stats.connections,
            sum.1 + stats.tracks,
            sum.2 + stats.subscriptions,
        )
    })
}

/// Five members at a time over two workers, with 5 % loss: somebody leaves and somebody comes, again and
/// again. Nobody who stays is without sound or pictures for long, and in the end nothing is left.
///
/// `VISAVIS_CHURN_MINUTES` makes it longer than the two minutes that it takes otherwise.
#[test]
fn members_come_and_go_and_nobody_is_stuck() {
    let minutes = std::env::var("VISAVIS_CHURN_MINUTES");
    let minutes: f64 = minutes.ok().and_then(|m| m.parse().ok()).unwrap_or(2.0);
    let mut lab = Lab::new(11, 2);
    let mut random = Random::from_u64(11);
    let mut members = Vec::new();
    for number in 0..4 {
        join(&mut lab, &mut members, number % 2, 0.05);
    }
    let rounds = (minutes * 60.0 / 8.0) as usize;
    let mut left = None;
    for round in 0..rounds {
        if round % 50 == 49 {
            eprintln!("round {round} of {rounds}");
        }
        join(&mut lab, &mut members, random.below(2) as u16, 0.05);
        lab.run(8.0);
        let now = lab.now();
        for joined in &members {
            let member = joined.member;
            let client = lab.client(member);
            assert!(
                client.connected(),
                "round {round}: {member:?} is not connected"
            );
            for kind in [Kind::Audio, Kind::Video] {
                let heard: Vec<_> = client
                    .pc
                    .transceivers()
                    .iter()
                    .filter(|t| t.kind == kind)
                    .filter_map(|t| client.arrived.get(&t.id)?.last)
                    .filter(|&last| now.saturating_duration_since(last).as_secs_f64() < 2.0)
                    .collect();
                assert!(
                    heard.len() >= 4,
                    "round {round}: {member:?} gets {} of 4 {kind:?}",
                    heard.len()
                );
            }
        }
        if let Some(left) = left {
            lab.forget(left);
        }
        let index = random.below(members.len() as u64) as usize;
        left = Some(leave(&mut lab, &mut members, index));
        lab.events();
        let (connections, tracks, subscriptions) = held(&mut lab);
        // Those who have just left say goodbye; images of tracks count at the other worker too.
        assert!(connections <= 6, "round {round}: {connections} connections");
        assert!(tracks <= 2 * 2 * 5, "round {round}: {tracks} tracks");
        assert!(
            subscriptions <= 2 * 4 * 5,
            "round {round}: {subscriptions} subscriptions"
        );
    }
    while !members.is_empty() {
        leave(&mut lab, &mut members, 0);
    }
    lab.run(10.0);
    assert_eq!(held(&mut lab), (0, 0, 0));
    assert_eq!(
        lab.server()
            .workers
            .iter()
            .filter_map(|w| w.poll_timeout())
            .count(),
        0
    );
}

#[test]
fn clients_that_vanish_mid_negotiation_leave_nothing() {
    let mut lab = Lab::new(12, 1);
    let alice = lab.join(0, 1, wide(5), BOTH);
    let tracks = lab.publish(alice);
    for number in 1000..1200u64 {
        let now = lab.now();
        let id = connection_id(0, number);
        let (room, who) = (RoomId(1), ParticipantId(number));
        let worker = &mut lab.server().workers[0];
        worker
            .create_connection(now, id, room, who, ConnectionConfig::default())
            .unwrap();
        if number % 2 == 0 {
            let subscribed = worker.subscribe(now, tracks[0], id, SubscribeOptions::default());
            assert!(subscribed.is_ok() || matches!(subscribed, Err(Error::Peer(_))));
        }
        if number % 3 == 0 {
            let broken = Description::offer("v=0\r\nnonsense");
            assert!(worker.set_remote_description(now, id, &broken).is_err());
        }
        worker.close(now, id);
    }
    lab.run(3.0);
    assert!(lab.client(alice).connected(), "who stays notices nothing");
    let (connections, found, subscriptions) = held(&mut lab);
    assert_eq!((connections, found, subscriptions), (1, 2, 0));
}

#[test]
fn limits_are_kept_and_told() {
    let limits = Limits {
        connections: 2,
        tracks_per_connection: 1,
        subscriptions_per_connection: 1,
        ..Limits::default()
    };
    let mut lab = Lab::with(13, 1, limits, Forwarding::default());
    let alice = lab.join(0, 1, wide(5), BOTH);
    let bob = lab.join(0, 1, wide(5), BOTH);
    let now = lab.now();
    let worker = lab.worker(alice.connection);
    let third = worker.create_connection(
        now,
        connection_id(0, 99),
        RoomId(1),
        ParticipantId(99),
        ConnectionConfig::default(),
    );
    assert!(matches!(
        third,
        Err(Error::Limit {
            what: "connections",
            ..
        })
    ));
    let sections = worker.sections(alice.connection).unwrap();
    let publish = |worker: &mut visavis_sfu::worker::Worker, mid: &str| {
        worker.publish(now, alice.connection, mid, PublishOptions::default())
    };
    let track = publish(worker, &sections[0].mid).unwrap();
    let taken = publish(worker, &sections[0].mid);
    assert!(matches!(taken, Err(Error::SectionTaken(_))));
    let many = publish(worker, &sections[1].mid);
    assert!(matches!(
        many,
        Err(Error::Limit {
            what: "tracks_per_connection",
            ..
        })
    ));
    let none = publish(worker, "no such mid");
    assert!(matches!(none, Err(Error::NoSection(_))));
    lab.subscribe(bob, track);
    let worker = lab.worker(bob.connection);
    let options = SubscribeOptions {
        track: "t".into(),
        ..SubscribeOptions::default()
    };
    let second = worker.subscribe(now, track, bob.connection, options);
    assert!(matches!(second, Err(Error::Limit { .. })));
}

#[test]
fn any_datagram_is_survived() {
    let mut lab = Lab::new(14, 2);
    let alice = lab.join(0, 1, wide(5), BOTH);
    let bob = lab.join(1, 1, wide(5), BOTH);
    let tracks = lab.publish(alice);
    lab.subscribe(bob, tracks[1]);
    lab.negotiate(bob);
    lab.run(2.0);
    let mut random = Random::from_u64(14);
    let remotes: Vec<_> = (1..=2u8)
        .map(|n| {
            format!("203.0.114.{}:{}", 1 + n, 5000 + u16::from(n))
                .parse()
                .unwrap()
        })
        .chain(["198.51.100.1:999".parse().unwrap()])
        .collect();
    let local = "203.0.113.250:7000".parse().unwrap();
    let now = lab.now();
    let server = lab.server();
    for _ in 0..20_000 {
        let len = random.below(200) as usize;
        let mut datagram = vec![0; len];
        random.fill(&mut datagram);
        if let Some(first) = datagram.first_mut()
            && random.chance(0.8)
        {
            *first = [0x80, 0x90, 0x00, 0x01, 0x16, 0x81][random.below(6) as usize];
        }
        let remote = remotes[random.below(remotes.len() as u64) as usize];
        let worker = random.below(2) as usize;
        server.workers[worker].handle_datagram(
            now,
            Path::udp(local, remote),
            Ecn::NotEct,
            &mut datagram,
        );
        server.drain(now);
    }
    lab.run(2.0);
    assert!(lab.client(alice).connected() && lab.client(bob).connected());
}

#[test]
fn who_speaks_is_told_and_who_is_silent_too() {
    let mut lab = Lab::new(15, 1);
    let alice = lab.join(0, 1, wide(5), BOTH);
    let up = |lab: &mut Lab| lab.client(alice).connected();
    assert!(lab.until(10.0, up));
    let tracks = lab.publish(alice);
    lab.run(2.0);
    let speaking = |lab: &mut Lab| {
        let events = lab.events();
        let told = events.into_iter().filter_map(|event| match event {
            visavis_sfu::Event::Speakers { speakers, .. } => Some(speakers),
            _ => None,
        });
        told.last()
    };
    let told = speaking(&mut lab).expect("somebody speaks");
    assert_eq!(
        (told[0].participant, told[0].active),
        (alice.participant, true)
    );
    let now = lab.now();
    lab.worker(alice.connection).set_muted(now, tracks[0], true);
    lab.run(2.0);
    let told = speaking(&mut lab).expect("nobody speaks");
    assert_eq!(
        (told[0].participant, told[0].active),
        (alice.participant, false)
    );
}
