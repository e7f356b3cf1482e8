//! Connections go from one worker to another while media flows: their peers see a key frame, and numbers without a break.

mod common;

use common::{Lab, Member, PUBLISHER, VIEWER, wide};
use visavis_peer::Kind;
use visavis_sfu::{Error, SubscriptionId, Wish};

/// Moves a connection from one worker to another.
fn relocate(lab: &mut Lab, member: Member, from: usize, to: usize) {
    let now = lab.now();
    let server = lab.server();
    let departs = server.workers[from].depart(now, member.connection, to as u16);
    server.workers[to].arrive(now, departs.unwrap());
    server.drain(now);
}

/// Packets and key frames that came on a viewer's section.
fn arrived(lab: &mut Lab, viewer: Member, kind: Kind) -> (u64, u64) {
    let client = lab.client(viewer);
    let mut found = client.pc.transceivers().iter().filter(|t| t.kind == kind);
    let id = found.next().unwrap().id;
    let arrived = client.arrived.get(&id);
    arrived.map_or((0, 0), |arrived| (arrived.packets, arrived.keyframes))
}

/// Packets that never came, after which timestamps and numbers of pictures were looked at.
fn gaps(lab: &mut Lab, viewer: Member, kind: Kind) -> u64 {
    let client = lab.client(viewer);
    let mut found = client.pc.transceivers().iter().filter(|t| t.kind == kind);
    let id = found.next().unwrap().id;
    let arrived = &client.arrived[&id];
    let mut last: Option<(u32, Option<u16>)> = None;
    for (number, &(timestamp, picture, _)) in &arrived.numbers {
        if let Some((before, picture_before)) = last {
            let step = timestamp.wrapping_sub(before) as i32;
            assert!((0..90_000).contains(&step), "timestamp at {number}: {step}");
            if let (Some(picture), Some(before)) = (picture, picture_before) {
                let step = picture.wrapping_sub(before) & 0x7fff;
                assert!(step <= 2, "picture at {number}: {step}");
            }
        }
        last = Some((timestamp, picture));
    }
    arrived.gaps()
}

/// A publisher on the first of three workers, and viewers there whose datagrams reach each of the three.
fn meeting(seed: u64) -> (Lab, Vec<(Member, SubscriptionId)>) {
    let mut lab = Lab::new(seed, 3);
    let alice = lab.join(0, 1, wide(10), PUBLISHER);
    let viewers: Vec<Member> = (0..3).map(|_| lab.join(0, 1, wide(10), VIEWER)).collect();
    let all = viewers.clone();
    let up = move |lab: &mut Lab| all.iter().all(|&viewer| lab.client(viewer).connected());
    assert!(lab.until(10.0, up), "all come up");
    let tracks = lab.publish(alice);
    let viewers = viewers
        .into_iter()
        .map(|viewer| {
            lab.subscribe(viewer, tracks[0]);
            let pictures = lab.subscribe(viewer, tracks[1]);
            lab.negotiate(viewer);
            (viewer, pictures)
        })
        .collect();
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
                relocate(&mut lab, viewer, from, to);
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
    relocate(&mut lab, viewer, 0, 2);
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
fn who_publishes_stays() {
    let mut lab = Lab::new(65, 2);
    let alice = lab.join(0, 1, wide(10), PUBLISHER);
    assert!(lab.until(10.0, |lab| lab.client(alice).connected()));
    lab.publish(alice);
    let now = lab.now();
    let worker = &mut lab.server().workers[0];
    assert!(matches!(
        worker.depart(now, alice.connection, 1),
        Err(Error::Tied)
    ));
    assert!(worker.movable(10).is_empty());
    lab.run(1.0);
    assert!(lab.client(alice).connected());
}
