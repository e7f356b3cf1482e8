//! What publishers send besides plain media goes on when they move to another worker: retransmissions, redundant sound,
//! layers that a frame of long ago described, and a second codec.

#[path = "common/call.rs"]
mod call;
mod common;

use call::{Call, Recording, highest, lines};
use common::stage::{come_up, section, stage};
use common::{Lab, Member, VIEWER, Wants, wide};
use visavis_peer::{Encoding, Kind, TransceiverInit};
use visavis_rtp::Packet;
use visavis_rtp::payload::Codec;
use visavis_sdp::Direction;
use visavis_sfu::PublishOptions;

const CAMERA: Wants = Wants {
    microphone: false,
    camera: 1,
    sections: (0, 0),
};

const MICROPHONE: Wants = Wants {
    microphone: true,
    camera: 0,
    sections: (0, 0),
};

/// Takes a link down for a while.
fn interrupt(lab: &mut Lab, links: &[visavis_netsim::LinkId], seconds: f64) {
    for &link in links {
        lab.driver.simulation.set_link_up(link, false);
    }
    lab.run(seconds);
    for &link in links {
        lab.driver.simulation.set_link_up(link, true);
    }
}

/// How many key frames the publisher has made.
fn keyframes(lab: &mut Lab, publisher: Member) -> u64 {
    let sending = lab.client(publisher).sending.iter();
    sending.map(|sending| sending.keyframes).sum()
}

/// The worker that it left asked for them, or the one where it is does: what comes again (RFC 4588) has its old place.
#[test]
fn what_a_publisher_lost_before_it_moved_comes_again_after() {
    for (seed, slow) in [(100, false), (101, true)] {
        let mut stage = stage(seed, slow);
        let alice = stage.alice;
        let before = keyframes(&mut stage.lab, alice);
        // It moves before the loss shows, when packets are asked for again, and when they are on their way.
        for (to, after) in [(1, 0.0), (0, 0.012), (2, 0.02), (1, 0.03), (0, 0.0)] {
            let what = format!("seed {seed}: to {to} after {after} s");
            let dropped = |stage: &mut common::stage::Stage| {
                stage.lab.driver.simulation.link_stats(alice.uplink).down
            };
            let lost = dropped(&mut stage);
            interrupt(&mut stage.lab, &[alice.uplink], 0.04);
            assert!(dropped(&mut stage) >= lost + 6, "{what}");
            stage.lab.run(after);
            stage.lab.relocate(alice, to);
            stage.lab.run(1.0);
            assert_eq!(stage.gaps(Kind::Video), [0; 3], "{what}");
        }
        assert_eq!(keyframes(&mut stage.lab, alice), before, "seed {seed}");
    }
}

/// Whoever gets a track at the worker that it leaves, at the one to which it goes, or at a third.
#[test]
fn what_viewers_lost_before_the_publisher_moved_is_sent_again_after() {
    for (seed, slow) in [(102, false), (103, true)] {
        let mut stage = stage(seed, slow);
        let alice = stage.alice;
        let before = keyframes(&mut stage.lab, alice);
        let links: Vec<_> = stage.viewers.iter().map(|(v, _)| v.downlink).collect();
        for (to, after) in [(1, 0.0), (0, 0.015), (2, 0.0), (1, 0.02), (0, 0.0)] {
            let what = format!("seed {seed}: to {to} after {after} s");
            let recovered = |stage: &mut common::stage::Stage| -> Vec<u64> {
                let viewers = stage.viewers.clone();
                let recovered = |&(viewer, _): &(Member, _)| {
                    let id = section(&mut stage.lab, viewer, Kind::Video);
                    stage.lab.client(viewer).arrived[&id].recovered
                };
                viewers.iter().map(recovered).collect()
            };
            let came = recovered(&mut stage);
            interrupt(&mut stage.lab, &links, 0.08);
            stage.lab.run(after);
            stage.lab.relocate(alice, to);
            stage.lab.run(1.0);
            assert_eq!(stage.gaps(Kind::Video), [0; 3], "{what}");
            let more = recovered(&mut stage);
            let mut each = more.iter().zip(&came);
            assert!(
                each.all(|(now, before)| *now >= before + 3),
                "{what}: {came:?}, {more:?}"
            );
        }
        assert_eq!(keyframes(&mut stage.lab, alice), before, "seed {seed}");
    }
}

/// Who takes redundancy and who does not, at each of three workers.
const LISTENERS: [(u16, &[&str]); 6] = [
    (0, &["red", "opus"]),
    (1, &["red", "opus"]),
    (2, &["red", "opus"]),
    (0, &["opus"]),
    (1, &["opus"]),
    (2, &["opus"]),
];

/// Takes what a listener got: the numbers of the sounds, each of which is as it was sent and as it can be taken.
fn sounds(call: &mut Call, listener: usize, is_red: bool) -> Vec<u8> {
    let opus = call.payload_type(listener, Kind::Audio, "opus").unwrap();
    let red = call.payload_type(listener, Kind::Audio, "red");
    let numbers = call.packets(listener).into_iter().map(|bytes| {
        let packet = Packet::parse(&bytes).unwrap();
        let payload = packet.payload();
        let payload_type = packet.payload_type().value();
        match red.filter(|_| is_red) {
            Some(red) => {
                assert_eq!(payload_type, red);
                assert_eq!((payload[0] & 0x7f, payload[4]), (opus, opus));
                let number = payload[8];
                assert_eq!(
                    payload[5..],
                    [[number.wrapping_sub(1); 3].as_slice(), &[number; 5]].concat()
                );
                number
            }
            None => {
                assert_eq!((payload_type, payload), (opus, &[payload[0]; 5][..]));
                payload[0]
            }
        }
    });
    numbers.collect()
}

#[test]
fn redundant_sound_goes_on_for_who_takes_it_and_who_does_not() {
    let mut call = Call::new(104, 3, MICROPHONE, (Kind::Audio, 1), &LISTENERS);
    call.sound(0..200, true);
    for to in [1, 2, 0, 1] {
        call.lab.run(0.8);
        let alice = call.alice;
        call.lab.relocate(alice, to);
    }
    call.lab.run(2.0);
    for listener in 0..6 {
        let numbers = sounds(&mut call, listener, true);
        let last = *numbers.last().unwrap();
        let expected: Vec<u8> = (numbers[0]..=last).collect();
        assert_eq!((numbers, last), (expected, 199), "listener {listener}");
    }
}

/// Redundancy is negotiated in the middle of a call, when its track is known everywhere.
#[test]
fn sound_that_becomes_redundant_is_understood_at_all_workers() {
    for moves in [false, true] {
        let mut call = Call::new(105, 3, MICROPHONE, (Kind::Audio, 1), &LISTENERS);
        let alice = call.alice;
        let id = call::section(&mut call.lab, alice, Kind::Audio);
        call.lab.client(alice).prefer(id, &["opus"]);
        call.lab.negotiate(alice);
        call.sound(0..50, false);
        call.lab.run(1.5);
        for listener in 0..6 {
            let numbers = sounds(&mut call, listener, false);
            assert_eq!(numbers.last(), Some(&49), "listener {listener}");
        }
        call.lab.client(alice).prefer(id, &["red", "opus"]);
        call.lab.negotiate(alice);
        if moves {
            call.lab.relocate(alice, 1);
        }
        call.sound(50..100, true);
        call.lab.run(1.5);
        for listener in 0..6 {
            let numbers = sounds(&mut call, listener, true);
            let expected: Vec<u8> = (50..100).collect();
            assert_eq!(numbers, expected, "moves: {moves}, listener {listener}");
        }
    }
}

/// Two viewers at each of three workers, one of whom will want the lowest layer.
const VIEWERS: [(u16, &[&str]); 6] = [(0, &[]), (1, &[]), (2, &[]), (0, &[]), (1, &[]), (2, &[])];

/// Frames name layers by templates that stood in the key frame alone, and nothing else tells them: payloads are encrypted end to
/// end.
#[test]
fn layers_that_were_described_before_a_move_are_told_apart_after() {
    for (recording, codec, name) in [
        ("chromium_vp9_l3t3_key", Codec::Vp9, "VP9"),
        ("chromium_av1_l3t3", Codec::Av1, "AV1"),
    ] {
        let recording = Recording::read(recording);
        let mut call = Call::new(106, 3, CAMERA, (Kind::Video, 3), &VIEWERS);
        let alice = call.alice;
        call.replay(&recording, codec, name);
        if codec == Codec::Av1 {
            for packet in &mut call.lab.client(alice).replay {
                packet.payload.fill(0);
            }
        }
        call.lab.run(0.9);
        for viewer in 0..6 {
            assert_eq!(highest(&call.got(viewer, codec)).0, 2, "{name}: {viewer}");
        }
        for (viewer, to) in [(3, 1), (4, 2), (5, 0)] {
            call.lab.relocate(alice, to);
            // Some want less after the move.
            call.wish(viewer, lines(180));
            call.lab.run(0.15);
            for viewer in 0..6 {
                call.got(viewer, codec);
            }
            call.lab.run(0.1);
            for other in 0..6 {
                let what = format!("{name} at {to}: viewer {other}");
                let got = call.got(other, codec);
                assert!(!got.is_empty(), "{what}");
                let layer = if (3..=viewer).contains(&other) { 0 } else { 2 };
                assert_eq!(highest(&got).0, layer, "{what}");
                assert_eq!(call.gaps(other, Kind::Video), 0, "{what}");
            }
        }
    }
}

/// A camera in two codecs, each on its own section, and viewers who take one of them or the other.
#[test]
fn a_track_in_two_codecs_moves_with_both() {
    for (seed, slow) in [(107, false), (108, true)] {
        let mut lab = Lab::new(seed, 3);
        if slow {
            lab.server().queues = Some(common::Queues::new(seed));
        }
        let alice = lab.join(0, 1, wide(10), CAMERA);
        let takes = ["VP8", "VP9", "VP8", "VP9", "VP8", "VP9"];
        let viewers: Vec<Member> = (0..6)
            .map(|at| lab.join(at / 2, 1, wide(10), VIEWER))
            .collect();
        come_up(&mut lab, &[&viewers[..], &[alice]].concat());
        let now = lab.now();
        let client = lab.client(alice);
        let first = client.pc.transceivers()[0].id;
        client.prefer(first, &["VP8"]);
        let init = TransceiverInit {
            direction: Direction::SendOnly,
            send_encodings: vec![Encoding::default()],
            ..TransceiverInit::default()
        };
        let second = client.pc.add_transceiver(Kind::Video, init).unwrap();
        client.prefer(second, &["VP9"]);
        client.add_sending(now, second, 0, Codec::Vp9, 1_500, 33_333);
        lab.negotiate(alice);
        let mids = [first, second].map(|id| {
            let transceiver = lab.client(alice).pc.transceiver(id);
            transceiver.unwrap().mid.clone().unwrap()
        });
        let (now, worker) = (lab.now(), lab.worker(alice.connection));
        let options = PublishOptions::default;
        let track = worker
            .publish(now, alice.connection, &mids[0], options())
            .unwrap();
        worker
            .publish_codec(now, track, alice.connection, &mids[1], options())
            .unwrap();
        for (&viewer, takes) in viewers.iter().zip(takes) {
            let id = section(&mut lab, viewer, Kind::Video);
            lab.client(viewer).prefer(id, &[takes]);
            lab.subscribe(viewer, track);
            lab.negotiate(viewer);
        }
        lab.run(3.0);
        let made = keyframes(&mut lab, alice);
        for to in [1, 0, 2, 1] {
            let count = |lab: &mut Lab| -> Vec<u64> {
                let count = |&viewer: &_| common::stage::arrived(lab, viewer, Kind::Video).0;
                viewers.iter().map(count).collect()
            };
            let before = count(&mut lab);
            lab.relocate(alice, to);
            lab.run(2.0);
            let after = count(&mut lab);
            for (at, (&viewer, takes)) in viewers.iter().zip(takes).enumerate() {
                let what = format!("seed {seed}, to {to}: {takes} at {}", at / 2);
                assert!(
                    after[at] >= before[at] + 55,
                    "{what}: {before:?}, {after:?}"
                );
                let id = section(&mut lab, viewer, Kind::Video);
                assert_eq!(lab.client(viewer).arrived[&id].gaps(), 0, "{what}");
            }
        }
        assert_eq!(
            keyframes(&mut lab, alice),
            made,
            "seed {seed}: nobody needs a key frame"
        );
        // One codec ends; the others see nothing of it.
        lab.client(alice).sending[1].active = false;
        let (now, worker) = (lab.now(), lab.worker(alice.connection));
        worker.unpublish(now, track);
        lab.run(1.0);
        assert_eq!(lab.held()[1..4], [0; 3], "seed {seed}");
    }
}
