//! RTP between two connections on a simulated network.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{ALICE, BOB, Call, End};
use visavis_netsim::LinkConfig;
use visavis_peer::{
    CodecTable, Configuration, ConnectionState, Encoding, Event, Kind, LocalAddress, OutgoingRtp,
    Received, TransceiverId, TransceiverInit,
};
use visavis_rtp::extension::ExtensionKind;

fn connected(end: &End) -> bool {
    end.saw(|event| *event == Event::ConnectionState(ConnectionState::Connected))
}

fn call(seed: u64, loss: f64) -> Call {
    let link = LinkConfig::new()
        .delay(Duration::from_millis(20))
        .random_loss(loss);
    Call::new(seed, link, Default::default())
}

/// Sends `count` packets of an encoding, one each 20 ms, of growing content.
fn send(call: &mut Call, id: TransceiverId, encoding: usize, first: u16, count: u16) {
    for i in 0..count {
        let now = call.now();
        let sequence = first.wrapping_add(i);
        let pc = call.pc(ALICE);
        let payload_type = pc.transceiver(id).unwrap().sender.codecs[0].payload_type;
        let payload = sequence.to_be_bytes().repeat(100);
        let packet = OutgoingRtp {
            payload_type,
            marker: true,
            sequence,
            timestamp: u32::from(sequence) * 1800,
            payload: &payload,
            extensions: &[(ExtensionKind::VideoOrientation, &[1])],
            ..OutgoingRtp::default()
        };
        pc.send_rtp(now, id, encoding, &packet).unwrap();
        call.run(0.02, |_, _| false);
    }
    // What is on its way arrives.
    call.run(0.1, |_, _| false);
}

fn received(end: &End) -> Vec<u16> {
    let parse = |(_, bytes): &(Received, Vec<u8>)| {
        let packet = visavis_rtp::Packet::parse(bytes).unwrap();
        let sequence = packet.sequence().0;
        assert_eq!(packet.payload(), sequence.to_be_bytes().repeat(100));
        sequence
    };
    end.rtp.iter().map(parse).collect()
}

#[test]
fn packets_arrive_at_the_right_receiver() {
    let mut call = call(1, 0.0);
    let audio = call
        .pc(ALICE)
        .add_track(Kind::Audio, "a", &["s".into()])
        .unwrap();
    let video = call
        .pc(ALICE)
        .add_track(Kind::Video, "v", &["s".into()])
        .unwrap();
    let refused =
        call.pc(ALICE)
            .send_rtp(std::time::Instant::now(), video, 0, &OutgoingRtp::default());
    assert_eq!(refused.unwrap_err().name(), "InvalidStateError");
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    send(&mut call, video, 0, 65_530, 20);
    send(&mut call, audio, 0, 7, 5);
    let bob = call.end(BOB);
    let there: Vec<_> = bob
        .pc
        .transceivers()
        .iter()
        .map(|t| (t.id, t.kind))
        .collect();
    let (video, audio) = (there[1].0, there[0].0);
    let expected: Vec<u16> = (0..20)
        .map(|i| 65_530u16.wrapping_add(i))
        .chain(7..12)
        .collect();
    assert_eq!(received(bob), expected);
    for (i, (packet, bytes)) in bob.rtp.iter().enumerate() {
        let Received::Rtp(packet) = packet else {
            panic!()
        };
        assert_eq!(packet.transceiver, if i < 20 { video } else { audio });
        assert!(!packet.recovered);
        let parsed = visavis_rtp::Packet::parse(bytes).unwrap();
        let rotation =
            parsed.extension_bytes(bob.pc.receive_extensions(), ExtensionKind::VideoOrientation);
        assert_eq!(rotation, (i < 20).then_some(&[1][..]));
    }
    assert_eq!(
        bob.events
            .iter()
            .filter(|e| matches!(e, Event::TrackUnmuted(_)))
            .count(),
        2
    );
}

/// Retransmission by NACK and RTX: under 10 % loss every packet comes, in one form or the other.
#[test]
fn lost_packets_are_sent_again() {
    for seed in 1..=3 {
        let mut call = call(seed, 0.1);
        let video = call.pc(ALICE).add_track(Kind::Video, "v", &[]).unwrap();
        call.negotiate(ALICE);
        assert!(
            call.run(30.0, |a, b| connected(a) && connected(b)),
            "seed {seed}"
        );
        send(&mut call, video, 0, 100, 300);
        call.run(2.0, |_, _| false);
        let bob = call.end(BOB);
        let mut numbers = received(bob);
        numbers.sort_unstable();
        numbers.dedup();
        let recovered = bob
            .rtp
            .iter()
            .filter(|(packet, _)| matches!(packet, Received::Rtp(rtp) if rtp.recovered))
            .count();
        // The tail cannot be noticed, and nor can what was lost before the first packet came.
        let last = *numbers.last().unwrap();
        let first = numbers[0];
        assert_eq!(numbers.len() as u16, last - first + 1, "seed {seed}");
        assert!(recovered > 5, "seed {seed}: {recovered}");
        let stats = bob.pc.inbound_stats().next().unwrap();
        assert!(
            stats.nack_count > 0 && stats.packets_lost > 0,
            "seed {seed}: {stats:?}"
        );
        let sent = call.pc(ALICE).outbound_stats().next().unwrap();
        assert!(
            sent.retransmitted_packets_sent >= recovered as u64,
            "seed {seed}"
        );
        assert!(sent.nacks_received > 0, "seed {seed}");
    }
}

#[test]
fn reports_tell_loss_and_round_trip_time() {
    let mut call = call(4, 0.0);
    let video = call.pc(ALICE).add_track(Kind::Video, "v", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    send(&mut call, video, 0, 1, 300);
    let sent = call.pc(ALICE).outbound_stats().next().unwrap();
    let (_, report) = sent.report.unwrap();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 0));
    let trip = sent.round_trip_time.unwrap();
    assert!(
        trip > Duration::from_millis(70) && trip < Duration::from_millis(95),
        "{trip:?}"
    );
    let heard = call.pc(BOB).inbound_stats().next().unwrap();
    assert!(heard.sender_report.is_some());
    assert!(heard.jitter < 0.005, "{}", heard.jitter);
}

#[test]
fn transport_wide_feedback_raises_the_estimate() {
    let mut call = call(5, 0.0);
    let video = call.pc(ALICE).add_track(Kind::Video, "v", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    let before = call.pc(ALICE).target().bitrate;
    send(&mut call, video, 0, 1, 250);
    let after = call.pc(ALICE).target().bitrate;
    assert!(after > before, "{before} -> {after}");
}

/// RFC 8888 in place of transport-wide feedback: no packet carries a number of its own.
#[test]
fn feedback_by_source_raises_the_estimate() {
    let link = LinkConfig::new().delay(Duration::from_millis(20));
    let configuration = || {
        let mut configuration = Configuration {
            codecs: Arc::new(CodecTable::default().with_congestion_feedback()),
            ..Configuration::default()
        };
        Arc::make_mut(&mut configuration.video_extensions)
            .retain(|extension| extension.uri != visavis_peer::extensions::uri::TRANSPORT_WIDE_CC);
        configuration
    };
    let mut call = Call::new(10, link, [configuration(), configuration()]);
    let video = call.pc(ALICE).add_track(Kind::Video, "v", &[]).unwrap();
    let (offer, answer) = call.negotiate(ALICE);
    for description in [offer, answer] {
        assert_eq!(description.sdp.matches("a=rtcp-fb:* ack ccfb").count(), 1);
    }
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    let before = call.pc(ALICE).target().bitrate;
    send(&mut call, video, 0, 1, 250);
    let after = call.pc(ALICE).target().bitrate;
    assert!(after > before, "{before} -> {after}");
    let loss = call.pc(ALICE).congestion_stats().unwrap().loss;
    assert!(loss < 0.01, "{loss}");
}

#[test]
fn simulcast_layers_are_told_apart_by_rid() {
    let mut call = call(6, 0.0);
    let init = TransceiverInit {
        send_encodings: ["q", "h", "f"].map(Encoding::with_rid).to_vec(),
        ..TransceiverInit::default()
    };
    let video = call.pc(ALICE).add_transceiver(Kind::Video, init).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    for encoding in 0..3 {
        send(&mut call, video, encoding, 1000 * encoding as u16, 10);
    }
    let encodings: Vec<_> = call
        .end(BOB)
        .rtp
        .iter()
        .map(|(packet, _)| match packet {
            Received::Rtp(rtp) => rtp.encoding,
            _ => None,
        })
        .collect();
    let expected: Vec<_> = (0..3).flat_map(|layer| [Some(layer); 10]).collect();
    assert_eq!(encodings, expected);
    let now = call.now();
    let there = call.pc(BOB).transceivers()[0].id;
    assert!(call.pc(BOB).request_key_frame(now, there, Some(2)));
    assert!(call.run(1.0, |alice, _| alice.saw(|event| {
        *event
            == Event::KeyFrameRequested {
                transceiver: video,
                encoding: 2,
            }
    })));
}

#[test]
fn a_direction_that_ends_stops_the_packets() {
    let mut call = call(7, 0.0);
    let audio = call.pc(ALICE).add_track(Kind::Audio, "a", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    send(&mut call, audio, 0, 1, 3);
    call.pc(ALICE).remove_track(audio).unwrap();
    call.negotiate(ALICE);
    let now = call.now();
    let refused = call
        .pc(ALICE)
        .send_rtp(now, audio, 0, &OutgoingRtp::default());
    assert_eq!(refused.unwrap_err().name(), "InvalidStateError");
    assert!(
        call.end(BOB)
            .saw(|event| matches!(event, Event::TrackMuted(_)))
    );
}

#[test]
fn engines_can_be_turned_off() {
    let mut configuration = Configuration::default();
    configuration.media.send_feedback = false;
    configuration.media.send_reports = false;
    let link = LinkConfig::new().delay(Duration::from_millis(5));
    let mut call = Call::new(8, link, [Configuration::default(), configuration]);
    let video = call.pc(ALICE).add_track(Kind::Video, "v", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    send(&mut call, video, 0, 1, 100);
    let sent = call.pc(ALICE).outbound_stats().next().unwrap();
    assert_eq!(sent.report, None);
}

/// Firefox answers Opus with `telephone-event/8000` and no other.
#[test]
fn key_presses_are_played_by_the_only_format_that_the_peer_has() {
    let link = LinkConfig::new().delay(Duration::from_millis(20));
    let mut firefox = Configuration::default();
    let codecs = &mut Arc::make_mut(&mut firefox.codecs).audio;
    codecs.retain(|codec| !(codec.is("telephone-event") && codec.clock_rate == 48_000));
    let mut call = Call::new(10, link, [Configuration::default(), firefox]);
    let audio = call.pc(ALICE).add_track(Kind::Audio, "a", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    send(&mut call, audio, 0, 1, 3);
    call.end(BOB).rtp.clear();
    let (now, ms) = (call.now(), Duration::from_millis);
    let pressed = call.pc(ALICE).insert_dtmf(now, audio, "5", ms(100), ms(50));
    pressed.unwrap();
    call.run(1.0, |_, _| false);
    let last = &call.end(BOB).rtp.last().expect("an event").1;
    let packet = visavis_rtp::Packet::parse(last).unwrap();
    assert_eq!(packet.payload_type().value(), 126);
    // 100 ms are 800 ticks of its clock (RFC 4733 section 2.3.5).
    let payload = packet.payload();
    assert_eq!((payload[0], &payload[2..]), (5, &800u16.to_be_bytes()[..]));
}

#[test]
fn key_presses_are_played_between_packets() {
    let mut call = call(9, 0.0);
    let audio = call.pc(ALICE).add_track(Kind::Audio, "a", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    let (now, ms) = (call.now(), Duration::from_millis);
    let refused = call.pc(ALICE).insert_dtmf(now, audio, "1", ms(100), ms(50));
    assert_eq!(refused.unwrap_err().name(), "InvalidStateError");
    send(&mut call, audio, 0, 1, 3);
    let now = call.now();
    call.pc(ALICE)
        .insert_dtmf(now, audio, "5#", ms(100), ms(50))
        .unwrap();
    call.end(BOB).rtp.clear();
    assert!(call.run(3.0, |alice, _| alice.saw(|event| {
        *event
            == Event::ToneChange {
                transceiver: audio,
                tone: String::new(),
            }
    })));
    assert_eq!(call.pc(ALICE).tone_buffer(audio), "");
    let events: Vec<(u16, u32, u8, bool)> = call
        .end(BOB)
        .rtp
        .iter()
        .map(|(_, bytes)| {
            let packet = visavis_rtp::Packet::parse(bytes).unwrap();
            assert_eq!(packet.payload_type().value(), 110);
            let payload = packet.payload();
            (
                packet.sequence().0,
                packet.timestamp(),
                payload[0],
                payload[1] & 0x80 != 0,
            )
        })
        .collect();
    // Sequence numbers go on without a gap, and each event keeps its timestamp.
    assert!(
        events.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1),
        "{events:?}"
    );
    let tones: Vec<_> = [5, 11]
        .map(|tone| events.iter().filter(|e| e.2 == tone).count())
        .into();
    assert_eq!(tones[0] + tones[1], events.len());
    assert_eq!(events.iter().filter(|event| event.3).count(), 6);
    let stamps: std::collections::HashSet<_> = events.iter().map(|event| event.1).collect();
    assert_eq!(stamps.len(), 2);
    // The application's packets follow under the next numbers.
    call.end(BOB).rtp.clear();
    let next = events.last().unwrap().0 + 1;
    let now = call.now();
    let packet = OutgoingRtp {
        payload_type: 111,
        sequence: 4,
        payload: b"x",
        ..OutgoingRtp::default()
    };
    call.pc(ALICE).send_rtp(now, audio, 0, &packet).unwrap();
    call.run(0.2, |_, _| false);
    let (_, bytes) = &call.end(BOB).rtp[0];
    assert_eq!(
        visavis_rtp::Packet::parse(bytes).unwrap().sequence().0,
        next
    );
}

/// The network is gone for eight seconds: whoever sends does not hear of it by errors, and what is sent
/// once it is back is what was said last.
#[test]
fn without_a_path_the_newest_packets_wait() {
    let mut call = call(31, 0.0);
    let audio = call.pc(ALICE).add_track(Kind::Audio, "a", &[]).unwrap();
    call.negotiate(ALICE);
    assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
    let local = LocalAddress::udp("203.0.113.1:5000".parse().unwrap());
    let now = call.now();
    call.pc(ALICE)
        .remove_local_address(now, local.address, local.protocol);
    send(&mut call, audio, 0, 0, 400);
    assert!(call.end(BOB).rtp.is_empty());
    let now = call.now();
    call.pc(ALICE).add_local_address(now, local).unwrap();
    let heard = |end: &End| !end.rtp.is_empty();
    assert!(call.run(10.0, |_, bob| heard(bob)));
    call.run(2.0, |_, _| false);
    let received = received(call.end(BOB));
    assert!(received[0] >= 400 - 128, "{}", received[0]);
    let expected: Vec<u16> = (received[0]..400).collect();
    assert_eq!(received, expected);
}

/// Between two tracks nothing is left to bundle: a restart then restarts nothing, and the next track is heard.
#[test]
fn a_track_is_heard_after_a_restart_without_sections() {
    for restarts in 0..3 {
        let mut call = call(41, 0.0);
        let first = call
            .pc(ALICE)
            .add_track(Kind::Audio, "a", &["s".into()])
            .unwrap();
        call.negotiate(ALICE);
        assert!(call.run(10.0, |a, b| connected(a) && connected(b)));
        send(&mut call, first, 0, 1, 5);
        call.pc(ALICE).stop_transceiver(first).unwrap();
        call.negotiate(ALICE);
        call.run(1.0, |_, _| false);
        for _ in 0..restarts {
            call.pc(ALICE).restart_ice();
            call.negotiate(ALICE);
            call.run(3.0, |_, _| false);
        }
        let ufrags = |call: &mut Call| {
            [ALICE, BOB].map(|end| call.pc(end).ice().local_credentials().ufrag.to_string())
        };
        let before = ufrags(&mut call);
        let second = call
            .pc(ALICE)
            .add_track(Kind::Audio, "b", &["s".into()])
            .unwrap();
        let (offer, answer) = call.negotiate(ALICE);
        call.run(3.0, |_, _| false);
        for end in [ALICE, BOB] {
            let state = call.pc(end).connection_state();
            assert_eq!(
                state,
                ConnectionState::Connected,
                "{restarts} restarts, end {end}\n{}\n{}",
                offer.sdp,
                answer.sdp
            );
        }
        let after = ufrags(&mut call);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before != after, restarts > 0, "{restarts} restarts");
        }
        send(&mut call, second, 0, 100, 5);
        let heard = received(call.end(BOB));
        assert_eq!(heard, [1, 2, 3, 4, 5, 100, 101, 102, 103, 104]);
    }
}
