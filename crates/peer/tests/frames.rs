//! Encoded frames between two connections on a simulated network.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{ALICE, BOB, Call, End};
use visavis_netsim::LinkConfig;
use visavis_peer::sframe::{SFrameReceiver, SFrameSender, SFrameSuite};
use visavis_peer::{
    CodecTable, Configuration, ConnectionState, Encoding, Event, FrameKind, Kind, OutgoingFrame,
    ReceiveMode, TransceiverId, TransceiverInit,
};

fn connected(end: &End) -> bool {
    end.saw(|event| *event == Event::ConnectionState(ConnectionState::Connected))
}

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Came {
    kind: FrameKind,
    data: Vec<u8>,
    encoding: Option<usize>,
}

fn fetch(call: &mut Call, into: &mut Vec<Came>) {
    let now = call.now();
    let ids: Vec<_> = call.pc(BOB).transceivers().iter().map(|t| t.id).collect();
    for id in ids {
        while let Some(frame) = call.pc(BOB).poll_frame(now, id) {
            into.push(Came {
                kind: frame.kind,
                data: frame.data.to_vec(),
                encoding: frame.encoding,
            });
        }
    }
}

fn start(seed: u64, loss: f64, kind: Kind) -> (Call, TransceiverId) {
    start_call(Call::plain(seed, loss), seed, kind)
}

fn start_call(mut call: Call, seed: u64, kind: Kind) -> (Call, TransceiverId) {
    let id = call.pc(ALICE).add_track(kind, "t", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(
        call.run(30.0, |a, b| connected(a) && connected(b)),
        "seed {seed}"
    );
    let there = call.pc(BOB).transceivers()[0].id;
    call.pc(BOB).set_receive_mode(there, ReceiveMode::Frames);
    (call, id)
}

/// A VP8 frame: its first bit tells whether it is a key frame (RFC 7741 section 4.3).
fn vp8(number: u32, key: bool) -> Vec<u8> {
    let mut frame = vec![u8::from(!key)];
    frame.extend((0..3000 + number % 500).map(|i| (i + number) as u8));
    frame
}

/// Sends a frame; a key frame where one was asked for since the last.
fn send_video(call: &mut Call, id: TransceiverId, number: u32, seen: &mut usize) -> Vec<u8> {
    let now = call.now();
    let asked = |event: &&Event| matches!(event, Event::KeyFrameRequested { .. });
    let requests = call.end(ALICE).events.iter().filter(asked).count();
    let key = number == 0 || requests > *seen;
    *seen = requests;
    let data = vp8(number, key);
    let frame = OutgoingFrame::new(number * 3000, key, &data);
    call.pc(ALICE).send_frame(now, id, 0, &frame).unwrap();
    data
}

#[test]
fn pictures_come_whole_and_in_order_under_loss() {
    for seed in 1..=3 {
        let (mut call, id) = start(seed, 0.05, Kind::Video);
        let (mut sent, mut came, mut seen) = (Vec::new(), Vec::new(), 0);
        for number in 0..300 {
            sent.push(send_video(&mut call, id, number, &mut seen));
            call.run(0.033, |_, _| false);
            fetch(&mut call, &mut came);
        }
        for _ in 0..60 {
            call.run(0.033, |_, _| false);
            fetch(&mut call, &mut came);
        }
        // What came is what was sent, in its order; the first of it needs nothing before it.
        let mut place = 0;
        for frame in &came {
            let at = sent[place..].iter().position(|sent| *sent == frame.data);
            place += at.unwrap_or_else(|| panic!("seed {seed}: a frame that was never sent")) + 1;
        }
        assert_eq!(came[0].kind, FrameKind::Key, "seed {seed}");
        assert!(came.len() > 280, "seed {seed}: {} of 300", came.len());
        let stats = call.pc(BOB).inbound_stats().next().unwrap();
        let video = stats.video.unwrap();
        assert!(video.retransmitted > 20, "seed {seed}: {video:?}");
        assert!(
            call.end(BOB).rtp.is_empty(),
            "frames and packets of one track"
        );
    }
}

/// Nothing is sent again here: what was lost comes back by parity.
#[test]
fn lost_pictures_come_back_by_parity_on_a_source_of_its_own() {
    let mut configuration = Configuration {
        codecs: Arc::new(CodecTable::default().with_flexfec()),
        ..Configuration::default()
    };
    configuration.media.answer_nacks = false;
    for seed in 1..=3 {
        let link = LinkConfig::new()
            .delay(Duration::from_millis(20))
            .random_loss(0.025);
        let both = [configuration.clone(), configuration.clone()];
        let (mut call, id) = start_call(Call::new(seed, link, both), seed, Kind::Video);
        let offer = call.pc(ALICE).local_description().unwrap().sdp;
        assert!(offer.contains("a=ssrc-group:FEC-FR "), "{offer}");
        let (mut came, mut seen) = (Vec::new(), 0);
        for number in 0..300 {
            send_video(&mut call, id, number, &mut seen);
            call.run(0.033, |_, _| false);
            fetch(&mut call, &mut came);
        }
        let stats = call.pc(BOB).inbound_stats().next().unwrap();
        let recovered = stats.video.unwrap().recovered;
        assert!(recovered > 20, "seed {seed}: {stats:?}");
        assert!(stats.fec_packets_received > recovered, "seed {seed}");
        assert_ne!(stats.fec_ssrc, Some(stats.ssrc));
        // What parity cannot bring back stops the pictures until a key frame.
        assert!(came.len() > 90, "seed {seed}: {} of 300", came.len());
    }
}

#[test]
fn a_receiver_that_comes_late_asks_for_a_key_frame() {
    let (mut call, id) = start(4, 0.0, Kind::Video);
    let (mut came, mut seen) = (Vec::new(), 0);
    let there = call.pc(BOB).transceivers()[0].id;
    call.pc(BOB).set_receive_mode(there, ReceiveMode::Packets);
    for number in 0..30 {
        send_video(&mut call, id, number, &mut seen);
        call.run(0.033, |_, _| false);
    }
    call.pc(BOB).set_receive_mode(there, ReceiveMode::Frames);
    for number in 30..60 {
        send_video(&mut call, id, number, &mut seen);
        call.run(0.033, |_, _| false);
        fetch(&mut call, &mut came);
    }
    assert!(seen >= 1, "nobody asked");
    assert_eq!(came[0].kind, FrameKind::Key);
    assert!(came.len() > 10, "{}", came.len());
}

#[test]
fn requests_for_key_frames_do_not_come_in_floods() {
    let (mut call, id) = start(5, 0.0, Kind::Video);
    let mut seen = 0;
    let there = call.pc(BOB).transceivers()[0].id;
    call.pc(BOB).set_receive_mode(there, ReceiveMode::Packets);
    send_video(&mut call, id, 0, &mut seen);
    call.run(0.1, |_, _| false);
    for _ in 0..100 {
        let now = call.now();
        call.pc(BOB).request_key_frame(now, there, None);
        call.run(0.01, |_, _| false);
    }
    let asked = |event: &&Event| matches!(event, Event::KeyFrameRequested { .. });
    let requests = call.end(ALICE).events.iter().filter(asked).count();
    assert!((3..=5).contains(&requests), "{requests}");
}

#[test]
fn sound_comes_at_its_pace_and_gaps_are_told() {
    let (mut call, id) = start(6, 0.05, Kind::Audio);
    let mut came = Vec::new();
    for number in 0u32..500 {
        let now = call.now();
        // One Opus frame of 20 ms (RFC 6716 section 3.1, configuration 31).
        let data = [&[31 << 3], &number.to_be_bytes()[..], &[7; 60]].concat();
        let frame = OutgoingFrame::new(number * 960, false, &data);
        call.pc(ALICE).send_frame(now, id, 0, &frame).unwrap();
        call.run(0.02, |_, _| false);
        fetch(&mut call, &mut came);
    }
    let played = came.iter().filter(|frame| frame.kind == FrameKind::Audio);
    let numbers: Vec<u32> = played
        .map(|frame| u32::from_be_bytes(frame.data[1..5].try_into().unwrap()))
        .collect();
    assert!(numbers.is_sorted());
    assert!((440..=495).contains(&numbers.len()), "{}", numbers.len());
    let lost = came.iter().filter(|frame| frame.kind == FrameKind::Lost);
    assert!((5..60).contains(&lost.count()));
    // In real time: what waits is the buffer's delay, not a growing queue.
    assert!((470..=505).contains(&came.len()), "{}", came.len());
}

#[test]
fn frames_are_sealed_end_to_end() {
    let (mut call, id) = start(7, 0.0, Kind::Audio);
    let there = call.pc(BOB).transceivers()[0].id;
    let suite = SFrameSuite::Aes128GcmSha256_128;
    let sender = SFrameSender::new(suite, 3, b"a key of both ends").unwrap();
    call.pc(ALICE)
        .set_sender_transform(id, Some(Box::new(sender)));
    let mut receiver = SFrameReceiver::new(suite);
    receiver.add_key(3, b"a key of both ends").unwrap();
    let mut came = Vec::new();
    for number in 0u32..50 {
        let now = call.now();
        if number == 10 {
            // Until now it could not open them.
            assert_eq!(came, []);
            let opens = std::mem::replace(&mut receiver, SFrameReceiver::new(suite));
            call.pc(BOB)
                .set_receiver_transform(there, Some(Box::new(opens)));
        } else if number == 0 {
            let empty = SFrameReceiver::new(suite);
            call.pc(BOB)
                .set_receiver_transform(there, Some(Box::new(empty)));
        }
        let data = [&[31 << 3], &number.to_be_bytes()[..]].concat();
        let frame = OutgoingFrame::new(number * 960, false, &data);
        call.pc(ALICE).send_frame(now, id, 0, &frame).unwrap();
        call.run(0.02, |_, _| false);
        fetch(&mut call, &mut came);
    }
    let opened = came.iter().filter(|frame| frame.data.len() == 5).count();
    assert!(opened > 30, "{opened} of {}", came.len());
}

#[test]
fn encoders_are_told_what_they_may_send() {
    let mut call = Call::plain(8, 0.0);
    let init = TransceiverInit {
        send_encodings: ["q", "h", "f"].map(Encoding::with_rid).to_vec(),
        ..TransceiverInit::default()
    };
    let video = call.pc(ALICE).add_transceiver(Kind::Video, init).unwrap();
    let audio = call.pc(ALICE).add_track(Kind::Audio, "a", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    let target = |call: &mut Call, id, encoding| {
        let target = call.pc(ALICE).encoding_target(id, encoding);
        target.unwrap()
    };
    assert!(target(&mut call, audio, 0) >= 16_000);
    assert!(target(&mut call, video, 0) > 50_000);
    assert_eq!(
        target(&mut call, video, 2),
        0,
        "300 kbit/s are not enough for all"
    );
    assert_eq!(call.pc(ALICE).encoding_target(video, 3), None);
    let mut seen = 0;
    for number in 0..200 {
        send_video(&mut call, video, number, &mut seen);
        call.run(0.02, |_, _| false);
    }
    let told: Vec<u64> = call
        .end(ALICE)
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TargetBitrate(bitrate) => Some(*bitrate),
            _ => None,
        })
        .collect();
    let now = call.pc(ALICE).target().bitrate;
    assert!(
        told.last()
            .is_some_and(|&last| last.abs_diff(now) * 20 <= now + 20)
    );
    assert!(now > 600_000, "{now}");
    call.run(1.0, |_, _| false);
    assert!(target(&mut call, video, 1) > 50_000);
    assert!(call.pc(ALICE).congestion_stats().is_some());
    assert!(call.pc(BOB).congestion_stats().is_none());
    call.run(Duration::from_millis(10).as_secs_f64(), |_, _| false);
}
