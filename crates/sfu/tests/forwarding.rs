//! Rooms on a simulated network: what a publisher sends reaches who subscribed, whole and in order.

mod common;

use common::{Lab, Member, PUBLISHER, VIEWER, wide};
use visavis_peer::Kind;
use visavis_sfu::{Event, Wish};

fn viewer_transceiver(lab: &mut Lab, viewer: Member, kind: Kind) -> visavis_peer::TransceiverId {
    let pc = &lab.client(viewer).pc;
    let mut found = pc.transceivers().iter().filter(|t| t.kind == kind);
    found.next().unwrap().id
}

/// What arrived on a viewer's section: packets, gaps, key frames.
fn arrived(lab: &mut Lab, viewer: Member, kind: Kind) -> (u64, u64, u64) {
    let id = viewer_transceiver(lab, viewer, kind);
    match lab.client(viewer).arrived.get(&id) {
        Some(arrived) => (arrived.packets, arrived.gaps(), arrived.keyframes),
        None => (0, 0, 0),
    }
}

/// A publisher and a viewer in one room, both connected; the tracks.
fn call(lab: &mut Lab, workers: [u16; 2], delay: u64) -> (Member, Member) {
    let alice = lab.join(workers[0], 1, wide(delay), PUBLISHER);
    let bob = lab.join(workers[1], 1, wide(delay), VIEWER);
    let up = |lab: &mut Lab| lab.client(alice).connected() && lab.client(bob).connected();
    assert!(lab.until(10.0, up), "both come up");
    (alice, bob)
}

#[test]
fn a_track_is_forwarded_one_to_one() {
    for workers in [[0, 0], [0, 1]] {
        let mut lab = Lab::new(1, 2);
        let (alice, bob) = call(&mut lab, workers, 10);
        // As the server of DTLS it chooses the cheaper protection of media.
        let answer = lab.client(bob).pc.remote_description().unwrap();
        assert!(answer.sdp.contains("a=setup:passive"), "{}", answer.sdp);
        let tracks = lab.publish(alice);
        assert_eq!(tracks.len(), 2);
        for &track in &tracks {
            lab.subscribe(bob, track);
        }
        lab.client(bob).add_sections((0, 0));
        lab.negotiate(bob);
        lab.run(3.0);
        let (sound, gaps, _) = arrived(&mut lab, bob, Kind::Audio);
        assert!(sound > 120, "{workers:?}: {sound} packets of sound");
        assert_eq!(gaps, 0);
        let (pictures, gaps, keyframes) = arrived(&mut lab, bob, Kind::Video);
        assert!(
            pictures > 100,
            "{workers:?}: {pictures} packets of pictures"
        );
        assert_eq!(gaps, 0, "{workers:?}");
        assert!(keyframes >= 1);
        let events = lab.events();
        let flowing = events
            .iter()
            .filter(|event| matches!(event, Event::MediaFlowing { .. }));
        assert_eq!(flowing.count(), 4, "three encodings and sound");
    }
}

#[test]
fn layers_follow_the_wish_without_a_break() {
    let mut lab = Lab::new(2, 1);
    let (alice, bob) = call(&mut lab, [0, 0], 10);
    let tracks = lab.publish(alice);
    let subscription = lab.subscribe(bob, tracks[1]);
    lab.negotiate(bob);
    lab.run(4.0);
    let current = |lab: &mut Lab| {
        let now = lab.now();
        let stats = lab
            .worker(bob.connection)
            .connection_stats(now, bob.connection);
        stats.unwrap().subscriptions[0].current
    };
    assert_eq!(
        current(&mut lab),
        Some((2, 0, 2)),
        "the highest of a wide path"
    );
    for (height, encoding) in [(180, 0), (360, 1), (720, 2), (180, 0)] {
        let now = lab.now();
        let wish = Wish {
            max_width: height * 16 / 9,
            max_height: height,
            ..Wish::default()
        };
        lab.worker(bob.connection)
            .set_subscription(now, subscription, wish);
        assert!(
            lab.until(3.0, |lab| current(lab) == Some((encoding, 0, 2))),
            "{height} lines are encoding {encoding}, not {:?}",
            current(&mut lab)
        );
        lab.run(0.5);
    }
    let (packets, gaps, keyframes) = arrived(&mut lab, bob, Kind::Video);
    assert_eq!(gaps, 0, "of {packets}");
    assert!(keyframes >= 5);
    let id = viewer_transceiver(&mut lab, bob, Kind::Video);
    let arrived = &lab.client(bob).arrived[&id];
    let mut last: Option<(u32, u16)> = None;
    for (number, &(timestamp, picture, _)) in &arrived.numbers {
        let picture = picture.unwrap();
        if let Some((before, picture_before)) = last {
            let step = timestamp.wrapping_sub(before) as i32;
            assert!((0..90_000).contains(&step), "timestamp at {number}: {step}");
            let step = picture.wrapping_sub(picture_before) & 0x7fff;
            assert!(step <= 1, "picture at {number}: {step}");
        }
        last = Some((timestamp, picture));
    }
}

#[test]
fn lost_packets_are_sent_again_out_of_the_shared_history() {
    for seed in 3..6 {
        let mut lab = Lab::new(seed, 1);
        let alice = lab.join(0, 1, wide(10), PUBLISHER);
        let bob = lab.join(0, 1, wide(10).random_loss(0.05), VIEWER);
        let up = |lab: &mut Lab| lab.client(alice).connected() && lab.client(bob).connected();
        assert!(lab.until(20.0, up));
        let tracks = lab.publish(alice);
        lab.subscribe(bob, tracks[1]);
        lab.negotiate(bob);
        lab.run(10.0);
        // What is on its way arrives.
        lab.client(alice)
            .sending
            .iter_mut()
            .for_each(|sending| sending.active = false);
        lab.run(1.0);
        let id = viewer_transceiver(&mut lab, bob, Kind::Video);
        let arrived = &lab.client(bob).arrived[&id];
        assert!(arrived.recovered > 10, "{}", arrived.recovered);
        assert!(
            arrived.gaps() <= 2,
            "{} gaps of {}",
            arrived.gaps(),
            arrived.packets
        );
    }
}

#[test]
fn a_narrow_path_gets_less_and_a_wide_one_more() {
    let mut lab = Lab::new(7, 1);
    let alice = lab.join(0, 1, wide(10), PUBLISHER);
    let bob = lab.join(0, 1, wide(10).rate(600_000), VIEWER);
    let up = |lab: &mut Lab| lab.client(alice).connected() && lab.client(bob).connected();
    assert!(lab.until(10.0, up));
    let tracks = lab.publish(alice);
    lab.subscribe(bob, tracks[1]);
    lab.negotiate(bob);
    lab.run(15.0);
    let stats = |lab: &mut Lab| {
        let now = lab.now();
        let stats = lab
            .worker(bob.connection)
            .connection_stats(now, bob.connection);
        stats.unwrap()
    };
    let narrow = stats(&mut lab);
    let layer = narrow.subscriptions[0].current.map(|layer| layer.0);
    assert!(layer <= Some(1), "{layer:?} at {} bit/s", narrow.estimate);
    assert!(narrow.estimate < 900_000, "{}", narrow.estimate);
    lab.driver.simulation.set_link(bob.downlink, wide(10));
    lab.run(20.0);
    let after = stats(&mut lab);
    let layer = after.subscriptions[0].current.map(|layer| layer.0);
    assert_eq!(layer, Some(2), "at {} bit/s", after.estimate);
}

/// A section that an ended subscription left behind brings nothing of the next one until an answer has told the peer, which would take
/// it for what it had before.
#[test]
fn a_section_brings_another_track_only_once_the_peer_is_told() {
    let mut lab = Lab::new(9, 1);
    let (alice, bob) = call(&mut lab, [0, 0], 10);
    let carol = lab.join(0, 1, wide(10), PUBLISHER);
    assert!(lab.until(10.0, |lab| lab.client(carol).connected()));
    let [former, latter] = [alice, carol].map(|member| lab.publish(member)[0]);
    let subscription = lab.subscribe(bob, former);
    lab.negotiate(bob);
    let heard_in = |lab: &mut Lab, seconds| {
        let (before, ..) = arrived(lab, bob, Kind::Audio);
        lab.run(seconds);
        arrived(lab, bob, Kind::Audio).0 - before
    };
    assert!(heard_in(&mut lab, 1.0) > 40);
    let now = lab.now();
    lab.worker(bob.connection).unsubscribe(now, subscription);
    lab.subscribe(bob, latter);
    lab.events();
    lab.run(0.1);
    assert_eq!(heard_in(&mut lab, 1.0), 0, "nobody told it");
    let events = lab.events();
    let asks = |event: &Event| matches!(event, Event::NeedSections { connection, audio: 0, video: 0 } if *connection == bob.connection);
    assert!(events.iter().any(asks), "{events:?}");
    lab.negotiate(bob);
    assert!(heard_in(&mut lab, 1.0) > 40);
}
