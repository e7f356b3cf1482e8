//! Layers of each codec, as browsers sent them (`crates/rtp/tests/fixtures/browser`), and redundant sound, through a worker.
#![allow(clippy::print_stdout, reason = "the recordings' skipped tests say why")]

mod common;
#[path = "../../rtp/tests/recordings/mod.rs"]
mod recordings;

use std::time::Duration;

use common::{Lab, Member, Replayed, VIEWER, Wants, wide};
use recordings::Recording;
use visavis_media::forward::inspect;
use visavis_peer::{Kind, TransceiverId};
use visavis_rtp::payload::{Codec, PayloadInfo};
use visavis_rtp::{ExtensionKind, ExtensionMap, Packet};
use visavis_sfu::{
    Bitrates, CodecTable, ConnectionConfig, Event, Forwarding, LayerSize, Limits, OfferOptions,
    ParticipantId, PublishOptions, RoomId, SubscribeOptions, SubscriptionId, Wish,
};

const PUBLISHER: Wants = Wants {
    microphone: false,
    camera: 1,
    sections: (0, 0),
};

/// A call in which the publisher's camera rests, for a recording to be sent in its place.
struct Call {
    lab: Lab,
    alice: Member,
    bob: Member,
    subscription: SubscriptionId,
}

fn section(lab: &mut Lab, member: Member, kind: Kind) -> TransceiverId {
    let transceivers = lab.client(member).pc.transceivers();
    transceivers.iter().find(|t| t.kind == kind).unwrap().id
}

fn call(seed: u64, publisher: Wants, kind: Kind, layers: usize) -> Call {
    // Layers are the matter here, not the estimate.
    let forwarding = Forwarding {
        bitrate: Bitrates {
            start: 8_000_000,
            ..Forwarding::default().bitrate
        },
        ..Forwarding::default()
    };
    let mut lab = Lab::with(seed, 1, Limits::default(), forwarding);
    let alice = lab.join(0, 1, wide(5), publisher);
    let bob = lab.join(0, 1, wide(5), VIEWER);
    let up = |lab: &mut Lab| lab.client(alice).connected() && lab.client(bob).connected();
    assert!(lab.until(10.0, up), "seed {seed}: both come up");
    lab.client(alice).sending.clear();
    lab.client(bob).packets = Some(Vec::new());
    let id = section(&mut lab, alice, kind);
    let mid = lab
        .client(alice)
        .pc
        .transceiver(id)
        .unwrap()
        .mid
        .clone()
        .unwrap();
    let sizes = [(320, 180), (640, 360), (1280, 720)].map(|(width, height)| LayerSize {
        width,
        height,
        bitrate: 0,
    });
    let options = PublishOptions {
        layers: sizes[3 - layers..].to_vec(),
        ..PublishOptions::default()
    };
    let now = lab.now();
    let worker = lab.worker(alice.connection);
    let track = worker
        .publish(now, alice.connection, &mid, options)
        .unwrap();
    let subscription = lab.subscribe(bob, track);
    lab.negotiate(bob);
    Call {
        lab,
        alice,
        bob,
        subscription,
    }
}

impl Call {
    /// Lets the publisher send one source of a recording from its first key frame on.
    fn replay(&mut self, recording: &Recording, codec: Codec, name: &'static str) {
        let transceiver = section(&mut self.lab, self.alice, Kind::Video);
        let start = self.lab.now() + Duration::from_millis(10);
        let sources = recording.sources();
        let longest = sources
            .values()
            .max_by_key(|packets| packets.len())
            .unwrap();
        let mut structure = None;
        let mut first = None;
        for (at, bytes) in longest.values() {
            let packet = Packet::parse(bytes).unwrap();
            let kind = ExtensionKind::DependencyDescriptor;
            let descriptor = packet.extension_bytes(&recording.extensions, kind);
            let info = inspect(codec, packet.payload(), descriptor, &mut structure);
            if first.is_none() && !info.is_ok_and(|info| info.keyframe && info.start_of_frame) {
                continue;
            }
            let first = *first.get_or_insert(*at);
            let client = self.lab.client(self.alice);
            client.replay.push_back(Replayed {
                at: start + Duration::from_millis((at - first).into()),
                transceiver,
                codec: name,
                marker: packet.marker(),
                sequence: packet.sequence().0,
                timestamp: packet.timestamp(),
                descriptor: descriptor.map(<[u8]>::to_vec),
                payload: packet.payload().to_vec(),
            });
        }
    }

    fn wish(&mut self, wish: Wish) {
        let now = self.lab.now();
        let subscription = self.subscription;
        let worker = self.lab.worker(self.bob.connection);
        worker.set_subscription(now, subscription, wish);
    }

    /// What the viewer got since it was asked last: of each packet, what it says of itself.
    fn got(&mut self, codec: Codec) -> Vec<PayloadInfo> {
        let id = section(&mut self.lab, self.bob, Kind::Video);
        let client = self.lab.client(self.bob);
        let packets = std::mem::take(client.packets.as_mut().unwrap());
        let mut extensions = ExtensionMap::new();
        for extension in &client.pc.transceiver(id).unwrap().receiver.extensions {
            if let Some(kind) = ExtensionKind::from_uri(&extension.uri) {
                let _ = extensions.insert(extension.id, kind);
            }
        }
        let mut structure = None;
        let infos = packets.iter().filter_map(|(_, bytes)| {
            let packet = Packet::parse(bytes).ok()?;
            let kind = ExtensionKind::DependencyDescriptor;
            let descriptor = packet.extension_bytes(&extensions, kind);
            assert!(descriptor.is_some(), "descriptors go on");
            inspect(codec, packet.payload(), descriptor, &mut structure).ok()
        });
        infos.collect()
    }

    fn gaps(&mut self) -> u64 {
        let id = section(&mut self.lab, self.bob, Kind::Video);
        self.lab.client(self.bob).arrived[&id].gaps()
    }
}

fn highest(infos: &[PayloadInfo]) -> (u8, u8) {
    let spatial = infos.iter().map(|info| info.spatial_id).max();
    let temporal = infos.iter().map(|info| info.temporal_id).max();
    (spatial.unwrap_or(0), temporal.unwrap_or(0))
}

fn lines(height: u32) -> Wish {
    Wish {
        max_width: height * 16 / 9,
        max_height: height,
        ..Wish::default()
    }
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
        let all = call.got(codec);
        assert_eq!(highest(&all).0, 2, "{name}: {} packets", all.len());
        call.wish(lines(180));
        call.lab.run(0.35);
        call.got(codec);
        call.lab.run(0.5);
        let few = call.got(codec);
        assert!(!few.is_empty(), "{name}");
        assert_eq!(highest(&few).0, 0, "{name}: {} packets", few.len());
        assert_eq!(call.gaps(), 0, "{name}");
    }
}

#[test]
fn temporal_layers_of_h264_follow_the_wish() {
    let recording = Recording::read("chromium_h264_simulcast");
    let mut call = call(22, PUBLISHER, Kind::Video, 1);
    call.replay(&recording, Codec::H264, "H264");
    // The first key frame came before it was known that there is one to wait for; the next comes after 0.6 s.
    call.lab.run(1.4);
    let all = call.got(Codec::H264);
    assert_eq!(highest(&all).1, 1, "{} packets", all.len());
    call.wish(Wish {
        max_fps: 8,
        ..Wish::default()
    });
    call.lab.run(0.35);
    call.got(Codec::H264);
    call.lab.run(0.6);
    let few = call.got(Codec::H264);
    assert!(!few.is_empty());
    assert_eq!(highest(&few).1, 0, "{} packets", few.len());
    assert_eq!(call.gaps(), 0);
}

#[test]
fn redundant_sound_reaches_who_takes_it() {
    let publisher = Wants {
        microphone: true,
        ..PUBLISHER
    };
    let mut call = call(23, publisher, Kind::Audio, 1);
    let transceiver = section(&mut call.lab, call.alice, Kind::Audio);
    let opus = {
        let client = call.lab.client(call.alice);
        let codecs = &client.pc.transceiver(transceiver).unwrap().sender.codecs;
        codecs
            .iter()
            .find(|codec| codec.is("opus"))
            .unwrap()
            .payload_type
    };
    let start = call.lab.now();
    for number in 0..50u16 {
        // RFC 2198 section 3: a block of 20 ms ago with its offset and length, and the primary one.
        let mut payload = vec![
            0x80 | opus,
            (960 >> 6) as u8,
            ((960 & 0x3f) << 2) as u8,
            3,
            opus,
        ];
        payload.extend_from_slice(&[number.wrapping_sub(1) as u8; 3]);
        payload.extend_from_slice(&[number as u8; 5]);
        call.lab.client(call.alice).replay.push_back(Replayed {
            at: start + Duration::from_millis(20) * number.into(),
            transceiver,
            codec: "red",
            marker: false,
            sequence: number,
            timestamp: 960 * u32::from(number),
            descriptor: None,
            payload,
        });
    }
    call.lab.run(2.0);
    let id = section(&mut call.lab, call.bob, Kind::Audio);
    let client = call.lab.client(call.bob);
    let codecs = &client.pc.transceiver(id).unwrap().receiver.codecs;
    let payload_type = |name| {
        codecs
            .iter()
            .find(|codec| codec.is(name))
            .unwrap()
            .payload_type
    };
    let (red, opus) = (payload_type("red"), payload_type("opus"));
    let packets = client.packets.take().unwrap();
    assert!(packets.len() >= 45, "{}", packets.len());
    for (_, bytes) in packets {
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
