//! Layers of each codec, as browsers sent them (`crates/rtp/tests/fixtures/browser`), and redundant sound, through a worker.

#[path = "common/call.rs"]
mod call;
mod common;

use call::{Call, Recording, highest, lines, section};
use common::{Lab, VIEWER, Wants, wide};
use visavis_peer::Kind;
use visavis_rtp::Packet;
use visavis_rtp::payload::Codec;
use visavis_sfu::{
    CodecTable, ConnectionConfig, Event, OfferOptions, ParticipantId, RoomId, SubscribeOptions,
    Wish,
};

const PUBLISHER: Wants = Wants {
    microphone: false,
    camera: 1,
    sections: (0, 0),
};

/// A call with one viewer, at one worker.
fn call(seed: u64, publisher: Wants, kind: Kind, layers: usize) -> Call {
    Call::new(seed, 1, publisher, (kind, layers), &[(0, &[])])
}

#[test]
fn spatial_layers_of_vp9_and_av1_follow_the_wish() {
    for (recording, codec, name) in [
        ("chromium_vp9_l3t3_key", Codec::Vp9, "VP9"),
        ("chromium_av1_l3t3", Codec::Av1, "AV1"),
    ] {
        let recording = Recording::read(recording);
        let mut call = call(21, PUBLISHER, Kind::Video, 3);
        call.replay(&recording, codec, name);
        call.lab.run(0.9);
        let all = call.got(0, codec);
        assert_eq!(highest(&all).0, 2, "{name}: {} packets", all.len());
        call.wish(0, lines(180));
        call.lab.run(0.35);
        call.got(0, codec);
        call.lab.run(0.5);
        let few = call.got(0, codec);
        assert!(!few.is_empty(), "{name}");
        assert_eq!(highest(&few).0, 0, "{name}: {} packets", few.len());
        assert_eq!(call.gaps(0, Kind::Video), 0, "{name}");
    }
}

#[test]
fn temporal_layers_of_h264_follow_the_wish() {
    let recording = Recording::read("chromium_h264_simulcast");
    let mut call = call(22, PUBLISHER, Kind::Video, 1);
    call.replay(&recording, Codec::H264, "H264");
    // The first key frame came before it was known that there is one to wait for; the next comes after 0.6 s.
    call.lab.run(1.4);
    let all = call.got(0, Codec::H264);
    assert_eq!(highest(&all).1, 1, "{} packets", all.len());
    call.wish(
        0,
        Wish {
            max_fps: 8,
            ..Wish::default()
        },
    );
    call.lab.run(0.35);
    call.got(0, Codec::H264);
    call.lab.run(0.6);
    let few = call.got(0, Codec::H264);
    assert!(!few.is_empty());
    assert_eq!(highest(&few).1, 0, "{} packets", few.len());
    assert_eq!(call.gaps(0, Kind::Video), 0);
}

#[test]
fn redundant_sound_reaches_who_takes_it() {
    let publisher = Wants {
        microphone: true,
        ..PUBLISHER
    };
    let mut call = call(23, publisher, Kind::Audio, 1);
    call.sound(0..50, true);
    call.lab.run(2.0);
    let [red, opus] = ["red", "opus"].map(|name| call.payload_type(0, Kind::Audio, name).unwrap());
    let packets = call.packets(0);
    assert!(packets.len() >= 45, "{}", packets.len());
    for bytes in packets {
        let packet = Packet::parse(&bytes).unwrap();
        let payload = packet.payload();
        assert_eq!(packet.payload_type().value(), red);
        assert_eq!((payload[0] & 0x7f, payload[4]), (opus, opus));
        assert_eq!(
            payload[5].wrapping_add(1),
            payload[8],
            "both blocks, as they were"
        );
    }
}

#[test]
fn publishers_hear_what_nobody_wants_and_operators_who_is_badly_connected() {
    let mut lab = Lab::new(24, 1);
    let publisher = Wants {
        camera: 3,
        ..PUBLISHER
    };
    let alice = lab.join(0, 1, wide(5), publisher);
    let bob = lab.join(0, 1, wide(5), VIEWER);
    let up = |lab: &mut Lab| lab.client(alice).connected() && lab.client(bob).connected();
    assert!(lab.until(10.0, up));
    let track = lab.publish(alice)[0];
    let subscription = lab.subscribe(bob, track);
    lab.negotiate(bob);
    lab.run(3.0);
    let wanted = |lab: &mut Lab| {
        let events = lab.events().into_iter().filter_map(|event| match event {
            Event::WantedLayers {
                track: of, layers, ..
            } if of == track => Some(layers),
            _ => None,
        });
        events.last()
    };
    assert_eq!(wanted(&mut lab), Some(vec![true, true, true]));
    let now = lab.now();
    lab.worker(bob.connection)
        .set_subscription(now, subscription, lines(180));
    lab.run(1.5);
    assert_eq!(wanted(&mut lab), None, "a short look away changes nothing");
    lab.run(1.5);
    assert_eq!(wanted(&mut lab), Some(vec![true, false, false]));
    let now = lab.now();
    lab.worker(bob.connection)
        .set_subscription(now, subscription, Wish::default());
    lab.run(0.2);
    assert_eq!(
        wanted(&mut lab),
        Some(vec![true, true, true]),
        "more at once"
    );
    // A quarter of what is sent to the viewer is lost.
    lab.driver
        .simulation
        .set_link(bob.downlink, wide(5).random_loss(0.25));
    lab.run(15.0);
    let score = lab.events().into_iter().filter_map(|event| match event {
        Event::Quality {
            participant, score, ..
        } if participant == bob.participant => Some(score),
        _ => None,
    });
    assert!(score.last().is_some_and(|score| score <= 3));
}

/// Some peers take the first codec that they know and no other: it has to be the one that is sent.
#[test]
fn who_is_offered_a_track_finds_its_codec_first() {
    let mut lab = Lab::new(71, 1);
    let alice = lab.join(0, 1, wide(10), PUBLISHER);
    let camera = section(&mut lab, alice, Kind::Video);
    let table = &CodecTable::shared().video;
    let h264: Vec<_> = table.iter().filter(|codec| codec.is("H264")).collect();
    let h264 = h264[0].clone();
    let now = lab.now();
    let client = lab.client(alice);
    client.pc.set_codec_preferences(camera, &[h264]).unwrap();
    client.pc.set_local_description(now, None).unwrap();
    let offer = client.pc.local_description().unwrap();
    // It is published and subscribed to before the answer is made, as servers do who put subscriptions into it.
    lab.worker(alice.connection)
        .set_remote_description(now, alice.connection, &offer)
        .unwrap();
    let tracks = lab.publish(alice);
    let bob = common::connection_id(0, 99);
    let config = ConnectionConfig {
        offers: true,
        ..ConnectionConfig::default()
    };
    let worker = &mut lab.server().workers[0];
    worker
        .create_connection(now, bob, RoomId(1), ParticipantId(99), config)
        .unwrap();
    let names = SubscribeOptions {
        stream: "s".into(),
        track: "t".into(),
        ..SubscribeOptions::default()
    };
    worker.subscribe(now, tracks[0], bob, names).unwrap();
    let offer = worker.create_offer(now, bob, OfferOptions::default());
    let offer = offer.unwrap().sdp;
    let section = offer.lines().find(|line| line.starts_with("m=video"));
    let first = section.unwrap().split(' ').nth(3).unwrap();
    assert!(
        offer.contains(&format!("a=rtpmap:{first} H264/90000")),
        "{offer}"
    );
    assert!(offer.contains("VP8/90000"), "the others stay: {offer}");
    assert!(
        offer.contains(&format!("apt={first}")),
        "and so does retransmission: {offer}"
    );
}
