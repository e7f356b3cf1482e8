//! Connections go from one worker to another while media flows: their peers see a key frame, and numbers without a break.

mod common;

use common::stage::{EVERYTHING, Stage, arrived, come_up, gaps, stage, watch};
use common::{Lab, Member, PUBLISHER, Queues, VIEWER, Wants, wide};
use visavis_datagram::Random;
use visavis_peer::Kind;
use visavis_sfu::{Event, SubscriptionId, Tap, Wish};

/// A publisher on the first of three workers, and viewers there whose datagrams reach each of the three.
fn meeting(seed: u64) -> (Lab, Vec<(Member, SubscriptionId)>) {
    let mut lab = Lab::new(seed, 3);
    let alice = lab.join(0, 1, wide(10), PUBLISHER);
    let viewers: Vec<Member> = (0..3).map(|_| lab.join(0, 1, wide(10), VIEWER)).collect();
    come_up(&mut lab, &viewers);
    let tracks = lab.publish(alice);
    let viewers = watch(&mut lab, &viewers, &tracks);
    lab.run(3.0);
    (lab, viewers)
}

#[test]
fn viewers_go_to_another_worker_and_their_media_goes_on() {
    for seed in 60..63 {
        let (mut lab, viewers) = meeting(seed);
        // Away, on to a third, and back to where the track is.
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            for &(viewer, _) in &viewers {
                let before = [Kind::Audio, Kind::Video].map(|kind| arrived(&mut lab, viewer, kind));
                assert_eq!(lab.home(viewer.connection), from);
                lab.relocate(viewer, to);
                lab.run(2.0);
                let [sound, pictures] =
                    [Kind::Audio, Kind::Video].map(|kind| arrived(&mut lab, viewer, kind));
                assert!(sound.0 > before[0].0 + 90, "{from} to {to}: {sound:?}");
                assert!(
                    pictures.0 > before[1].0 + 80,
                    "{from} to {to}: {pictures:?}"
                );
                assert!(pictures.1 > before[1].1, "it began with a key frame");
            }
        }
        // Consent (RFC 7675) is still given when the last one is long out of date.
        lab.run(40.0);
        for &(viewer, _) in &viewers {
            assert!(lab.client(viewer).connected());
            let before = arrived(&mut lab, viewer, Kind::Video).0;
            lab.run(1.0);
            assert!(arrived(&mut lab, viewer, Kind::Video).0 > before + 40);
            // What stood in the pacer when it left.
            let lost = gaps(&mut lab, viewer, Kind::Video);
            assert!(lost < 60, "{lost} packets of pictures");
            let lost = gaps(&mut lab, viewer, Kind::Audio);
            assert!(lost < 6, "{lost} packets of sound");
        }
    }
}

#[test]
fn who_was_moved_is_served_as_before() {
    let (mut lab, viewers) = meeting(64);
    let (viewer, pictures) = viewers[1];
    lab.relocate(viewer, 2);
    lab.run(1.0);
    let now = lab.now();
    let workers = &mut lab.server().workers;
    assert!(workers[0].connection_stats(now, viewer.connection).is_err());
    let low = Wish {
        max_width: 320,
        max_height: 180,
        ..Wish::default()
    };
    workers[2].set_subscription(now, pictures, low);
    let current = |lab: &mut Lab| {
        let now = lab.now();
        let stats = lab.server().workers[2].connection_stats(now, viewer.connection);
        let stats = stats.unwrap().subscriptions;
        let found = stats.iter().find(|found| found.subscription == pictures);
        found.unwrap().current
    };
    assert!(lab.until(3.0, |lab| current(lab) == Some((0, 0, 2))));
    let now = lab.now();
    lab.server().workers[2].unsubscribe(now, pictures);
    lab.run(1.0);
    let before = arrived(&mut lab, viewer, Kind::Video).0;
    lab.run(1.0);
    assert_eq!(arrived(&mut lab, viewer, Kind::Video).0, before);
    let now = lab.now();
    lab.server().workers[2].close(now, viewer.connection);
    lab.run(3.0);
    let stats: Vec<_> = lab.server().workers.iter().map(|w| w.stats()).collect();
    assert_eq!(
        stats[2].connections + stats[2].subscriptions + stats[2].tracks,
        0
    );
    assert_eq!(stats[0].connections, 3, "the others are where they were");
}

#[test]
fn a_publisher_goes_to_another_worker_and_nobody_notices() {
    for (seed, slow) in [(70, false), (71, true), (72, true)] {
        let mut stage = stage(seed, slow);
        assert!(stage.everybody_gets(2), "seed {seed}");
        // Away, back, away, on to a third, and back.
        for to in [1, 0, 2, 1, 0] {
            let what = format!(
                "seed {seed}: from {} to {to}",
                stage.lab.home(stage.alice.connection)
            );
            let viewers: Vec<Member> = stage.viewers.iter().map(|&(viewer, _)| viewer).collect();
            let kinds = [Kind::Audio, Kind::Video];
            let count = |lab: &mut Lab, viewer| kinds.map(|kind| arrived(lab, viewer, kind));
            let before: Vec<_> = viewers
                .iter()
                .map(|&viewer| count(&mut stage.lab, viewer))
                .collect();
            let own = arrived(&mut stage.lab, stage.alice, Kind::Video);
            stage.lab.relocate(stage.alice, to);
            stage.lab.run(3.0);
            for (&viewer, before) in viewers.iter().zip(before) {
                let after = count(&mut stage.lab, viewer);
                assert!(after[0].0 > before[0].0 + 140, "{what}: {after:?}");
                assert!(after[1].0 > before[1].0 + 500, "{what}: {after:?}");
                assert_eq!(after[1].1, before[1].1, "{what}: nobody needs a key frame");
                for kind in kinds {
                    assert_eq!(gaps(&mut stage.lab, viewer, kind), 0, "{what}: {kind:?}");
                }
            }
            let after = arrived(&mut stage.lab, stage.alice, Kind::Video);
            assert!(after.0 > own.0 + 100, "{what}: what is sent to it goes on");
            assert!(stage.everybody_gets(2), "{what}");
            for event in stage.lab.events() {
                match event {
                    Event::Speakers { speakers, .. } => {
                        let silent = speakers.iter().find(|speaker| !speaker.active);
                        assert!(silent.is_none(), "{what}: {speakers:?}");
                    }
                    Event::WantedLayers { .. } | Event::TrackEnded { .. } => {
                        panic!("{what}: {event:?}")
                    }
                    Event::MediaFlowing { .. } | Event::StreamState { .. } => {
                        panic!("{what}: {event:?}")
                    }
                    _ => {}
                }
            }
        }
        // Consent (RFC 7675) and reports go their ways.
        stage.lab.run(40.0);
        assert!(stage.everybody_gets(2), "seed {seed}");
        let held = stage.lab.held();
        // Alice's two tracks with two images each; Bob's two.
        assert_eq!(held[..4], [5, 2 * 3 + 2 + 2, 8, 0], "seed {seed}");
        let now = stage.lab.now();
        for worker in &mut stage.lab.server().workers {
            worker.close_room(now, visavis_sfu::RoomId(1));
        }
        stage.lab.run(3.0);
        assert_eq!(stage.lab.held(), [0; 5], "seed {seed}");
    }
}

#[test]
fn what_moved_is_muted_tapped_measured_and_ended_as_before() {
    for (seed, slow) in [(73, false), (74, true)] {
        let mut stage = stage(seed, slow);
        let (now, track) = (stage.lab.now(), stage.tracks[1]);
        let (tap, mut tapped) = Tap::new(100_000);
        stage.home().tap(now, track, tap).unwrap();
        stage.lab.run(1.0);
        stage.lab.relocate(stage.alice, 1);
        stage.lab.run(1.0);
        stage.lab.relocate(stage.alice, 2);
        stage.lab.run(1.0);

        // The tap came along, and missed nothing.
        let mut numbers: Vec<u64> = Vec::new();
        while let Some(packet) = tapped.try_next() {
            if packet.encoding == 2 {
                numbers.push(packet.sequence);
            }
        }
        let first = numbers[0];
        let expected: Vec<u64> = (first..first + numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "seed {seed}");
        assert!(numbers.len() > 400, "seed {seed}: {}", numbers.len());
        drop(tapped);

        // Muted for all, and heard of by all again.
        let now = stage.lab.now();
        stage.home().set_muted(now, track, true);
        stage.lab.relocate(stage.alice, 1);
        stage.lab.run(0.5);
        let count = |stage: &mut Stage| -> Vec<u64> {
            let viewers = stage.viewers.clone();
            let count = |&(viewer, _): &_| arrived(&mut stage.lab, viewer, Kind::Video).0;
            viewers.iter().map(count).collect()
        };
        let muted = count(&mut stage);
        stage.lab.run(1.0);
        assert_eq!(count(&mut stage), muted, "seed {seed}");
        let now = stage.lab.now();
        stage.home().set_muted(now, track, false);
        let heard = stage.lab.until(5.0, |_| false) || stage.everybody_gets(2);
        assert!(heard, "seed {seed}");

        // Everybody wants less, at three workers; then one wants more.
        stage.lab.events();
        let low = Wish {
            max_width: 320,
            max_height: 180,
            ..Wish::default()
        };
        let now = stage.lab.now();
        for (viewer, pictures) in stage.viewers.clone() {
            let worker = stage.lab.worker(viewer.connection);
            worker.set_subscription(now, pictures, low);
        }
        stage.lab.run(1.0);
        stage.lab.relocate(stage.alice, 0);
        stage.lab.run(3.0);
        assert_eq!(
            stage.wanted(),
            Some(vec![true, false, false]),
            "seed {seed}"
        );
        let (viewer, pictures) = stage.viewers[2];
        let now = stage.lab.now();
        let worker = stage.lab.worker(viewer.connection);
        worker.set_subscription(now, pictures, Wish::default());
        stage.lab.relocate(stage.alice, 1);
        stage.lab.run(1.0);
        assert_eq!(stage.wanted(), Some(vec![true; 3]), "seed {seed}");

        // Somebody comes late, and finds it by its name.
        let late = stage.lab.join(2, 1, wide(10), VIEWER);
        assert!(stage.lab.until(10.0, |lab| lab.client(late).connected()));
        stage.lab.subscribe(late, track);
        stage.lab.negotiate(late);
        stage.lab.relocate(stage.alice, 0);
        stage.lab.run(1.0);
        stage.lab.relocate(stage.alice, 1);
        stage.lab.run(2.0);
        assert!(
            arrived(&mut stage.lab, late, Kind::Video).0 > 40,
            "seed {seed}"
        );

        // It ends for all, wherever they are, while it moves.
        stage.lab.relocate(stage.alice, 2);
        let now = stage.lab.now();
        stage.home().unpublish(now, track);
        stage.lab.relocate(stage.alice, 1);
        stage.lab.run(1.0);
        let events = stage.lab.events();
        let ends = |event: &&Event| **event == Event::TrackEnded { track };
        assert_eq!(events.iter().filter(ends).count(), 1, "seed {seed}");
        // Bob's two tracks, of which alice's worker has no images; and her sound with two images.
        let held = stage.lab.held();
        assert_eq!(held[1..4], [2 + 3, 5, 1], "seed {seed}");

        // She goes as she moves, and so do all of the room.
        stage.lab.relocate(stage.alice, 2);
        let now = stage.lab.now();
        for worker in &mut stage.lab.server().workers {
            worker.close_room(now, visavis_sfu::RoomId(1));
        }
        stage.lab.run(3.0);
        assert_eq!(stage.lab.held(), [0; 5], "seed {seed}");
    }
}

/// At any worker, just before it goes, just after, or between two moves.
#[test]
fn who_subscribes_while_the_publisher_moves_gets_its_tracks() {
    for (seed, slow) in [(85, false), (86, true), (87, true)] {
        let mut stage = stage(seed, slow);
        let alice = stage.alice;
        let late = (0..9).map(|number| stage.lab.join(number % 3, 1, wide(10), VIEWER));
        let late: Vec<Member> = late.collect();
        come_up(&mut stage.lab, &late);
        for (number, &viewer) in late.iter().enumerate() {
            let order = number / 3;
            let home = stage.lab.home(alice.connection);
            let what = format!("seed {seed}: {viewer:?}, from {home}, order {order}");
            let next = |lab: &mut Lab| {
                let to = (lab.home(alice.connection) + 1 + number % 2) % 3;
                lab.relocate(alice, to);
            };
            if order != 0 {
                next(&mut stage.lab);
            }
            let tracks = stage.tracks.clone();
            watch(&mut stage.lab, &[viewer], &tracks);
            if order != 1 {
                next(&mut stage.lab);
            }
            stage.lab.run(1.5);
            let [sound, pictures] =
                [Kind::Audio, Kind::Video].map(|kind| arrived(&mut stage.lab, viewer, kind).0);
            assert!(sound > 60 && pictures > 40, "{what}: {sound}, {pictures}");
        }
        for kind in [Kind::Audio, Kind::Video] {
            assert_eq!(stage.gaps(kind), [0; 3], "seed {seed}: {kind:?}");
        }
        let now = stage.lab.now();
        for worker in &mut stage.lab.server().workers {
            worker.close_room(now, visavis_sfu::RoomId(1));
        }
        stage.lab.run(3.0);
        assert_eq!(stage.lab.held(), [0; 5], "seed {seed}");
    }
}

/// Everybody moves all the time, while tracks come and go: in the end nobody is without, and nothing is left.
#[test]
fn everybody_moves_all_the_time() {
    for seed in 80..84 {
        let mut lab = Lab::new(seed, 3);
        lab.server().queues = Some(Queues::new(seed));
        let mut random = Random::from_u64(seed);
        let members: Vec<Member> = (0..4)
            .map(|number| {
                lab.join(
                    number % 3,
                    1,
                    wide(10),
                    Wants {
                        sections: (3, 3),
                        ..EVERYTHING
                    },
                )
            })
            .collect();
        come_up(&mut lab, &members);
        let tracks: Vec<_> = members.iter().map(|&member| lab.publish(member)).collect();
        let mut pictures = Vec::new();
        for (at, &member) in members.iter().enumerate() {
            for other in (0..4).filter(|&other| other != at) {
                lab.subscribe(member, tracks[other][0]);
                pictures.push((
                    member,
                    tracks[other][1],
                    lab.subscribe(member, tracks[other][1]),
                ));
            }
            lab.negotiate(member);
        }
        lab.run(2.0);
        for _ in 0..150 {
            match random.below(4) {
                0 => {
                    let at = random.below(pictures.len() as u64) as usize;
                    let (member, track, subscription) = pictures[at];
                    let now = lab.now();
                    let worker = lab.worker(member.connection);
                    worker.unsubscribe(now, subscription);
                    pictures[at].2 = lab.subscribe(member, track);
                    lab.negotiate(member);
                }
                _ => {
                    let member = members[random.below(4) as usize];
                    let to = random.below(3) as usize;
                    if lab.home(member.connection) != to {
                        lab.relocate(member, to);
                    }
                }
            }
            lab.run(random.unit() * 0.05);
        }
        lab.run(4.0);
        let now = lab.now();
        for &member in &members {
            let client = lab.client(member);
            assert!(client.connected(), "seed {seed}");
            for kind in [Kind::Audio, Kind::Video] {
                let sections = client.pc.transceivers().iter();
                let heard = sections
                    .filter(|section| section.kind == kind)
                    .filter_map(|section| client.arrived.get(&section.id)?.last)
                    .filter(|&last| now.saturating_duration_since(last).as_secs_f64() < 0.5);
                assert_eq!(heard.count(), 3, "seed {seed}: {member:?} {kind:?}");
            }
        }
        let held = lab.held();
        assert_eq!((held[0], held[2]), (4, 24), "seed {seed}");
        for worker in &mut lab.server().workers {
            worker.close_room(now, visavis_sfu::RoomId(1));
        }
        lab.run(3.0);
        assert_eq!(lab.held(), [0; 5], "seed {seed}");
    }
}
