//! A sender with several layers, a forwarder whose target changes, and a receiver that sees one
//! unbroken stream.

use std::time::{Duration, Instant};

use visavis_datagram::Random;
use visavis_media::forward::{
    Decision, Forwarder, ForwarderConfig, LayerTarget, SourcePacket, describe,
};
use visavis_media::receive::{VideoReceiver, VideoReceiverConfig};
use visavis_media::send::{
    FrameMeta, ScalabilityMode, SendStream, SendStreamConfig, SvcDescriptor,
};
use visavis_rtp::extension::{DependencyDescriptor, DependencyStructure};
use visavis_rtp::payload::vp8::Vp8Descriptor;
use visavis_rtp::payload::{Codec, FrameParams};
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Mid, NtpTime, Packet, PayloadType, Rid, SequenceNumber, Ssrc,
};

fn pt(value: u8) -> PayloadType {
    PayloadType::new(value).unwrap()
}

/// The ids of the sender and of the receiver differ.
fn maps() -> (ExtensionMap, ExtensionMap) {
    let sender = [
        (1, ExtensionKind::TransportSequence),
        (2, ExtensionKind::Mid),
        (3, ExtensionKind::Rid),
        (4, ExtensionKind::DependencyDescriptor),
        (5, ExtensionKind::AbsCaptureTime),
    ];
    let receiver = [
        (9, ExtensionKind::TransportSequence),
        (8, ExtensionKind::Mid),
        (12, ExtensionKind::DependencyDescriptor),
    ];
    (sender.into_iter().collect(), receiver.into_iter().collect())
}

fn forwarder(codec: Codec) -> Forwarder {
    let config = ForwarderConfig {
        codec,
        clock_rate: 90_000,
        ssrc: Ssrc(77),
        payload_type: pt(100),
        mid: Mid::new("v"),
        rid: None,
        extensions: maps().1,
        history: 512,
    };
    Forwarder::new(config, SequenceNumber(65_000))
}

fn receiver(codec: Codec) -> VideoReceiver {
    VideoReceiver::new(VideoReceiverConfig {
        extensions: maps().1,
        ..VideoReceiverConfig::new(Ssrc(77), codec, pt(100))
    })
    .unwrap()
}

const NO_ZEROS: u32 = 0x4040_4040;

/// Bytes that tell what they are: a frame of an encoding.
fn body(codec: Codec, encoding: u8, number: u32, keyframe: bool, len: usize) -> Vec<u8> {
    let mut frame = match codec {
        Codec::Av1 => {
            let mut frame = if keyframe { vec![0x0a, 1, 9] } else { vec![] };
            let len = len + 5;
            frame.extend([0x32, (len & 0x7f | 0x80) as u8, (len >> 7) as u8]);
            frame
        }
        Codec::H264 if keyframe => vec![0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65],
        Codec::H264 => vec![0, 0, 0, 1, 0x41],
        _ => vec![u8::from(!keyframe)],
    };
    frame.push(encoding);
    // No start code, whatever the number.
    frame.extend((number ^ NO_ZEROS).to_be_bytes());
    frame.extend((0..len).map(|index| (number as usize + index) as u8 | 1));
    frame
}

fn simulcast(codec: Codec, seed: u64, swaps: bool) {
    let mut random = Random::from_u64(seed);
    let start = Instant::now();
    let descriptors = matches!(codec, Codec::Av1 | Codec::H264);
    let (source_map, _) = maps();
    let mode = ScalabilityMode::from_name("L1T3").unwrap();
    let mut streams: Vec<SendStream> = (0..3u8)
        .map(|encoding| {
            let config = SendStreamConfig {
                extensions: source_map.clone(),
                mid: Mid::new("0"),
                rid: Rid::new([b'a' + encoding]),
                ..SendStreamConfig::new(Ssrc(10 + u32::from(encoding)), codec, pt(96), 90_000)
            };
            let first = SequenceNumber(random.u32() as u16);
            SendStream::new(config, first, SequenceNumber(0))
        })
        .collect();
    let timestamps: Vec<u32> = (0..3).map(|_| random.u32()).collect();
    let mut layers: Vec<SvcDescriptor> = (0..3).map(|_| SvcDescriptor::new(mode, &[])).collect();
    let mut sender_structures: Vec<Option<DependencyStructure>> = vec![None; 3];
    let mut read_structures: Vec<Option<DependencyStructure>> = vec![None; 3];
    let mut forwarder = forwarder(codec);
    let mut receiver = receiver(codec);
    let mut reports = 0;
    let mut expected_next = None::<u16>;
    let mut last_picture = None::<u16>;
    let mut received = Vec::new();
    let mut swapped = 0;
    for number in 0..900u32 {
        let now = start + Duration::from_micros(u64::from(number) * 33_333);
        if number % 60 == 0 {
            forwarder.set_target(Some(LayerTarget {
                encoding: random.below(3) as u8,
                spatial_id: 0,
                temporal_id: random.below(3) as u8,
            }));
        }
        if number % 30 == 0 {
            for (encoding, stream) in streams.iter().enumerate() {
                let ntp = NtpTime::from_unix(Duration::from_micros(u64::from(number) * 33_333 + 5));
                if let Some(info) = stream.sender_info(now, ntp) {
                    reports += u32::from(
                        forwarder
                            .handle_sender_report(encoding as u8, &info)
                            .is_some(),
                    );
                }
            }
        }
        for encoding in 0..3u8 {
            let index = usize::from(encoding);
            let keyframe = number == 0 || forwarder.wants_keyframe() == Some(encoding);
            let descriptor = layers[index].next_frame(keyframe, 0);
            let layer = descriptor.dependencies.temporal_id;
            // The first picture of each upper layer in a period needs the base layer alone.
            let base_only = descriptor.dependencies.frame_diffs.iter().all(|&diff| {
                layer > 0 && (layer == 1 || diff == 1 && layers[index].next_temporal_id() == 1)
            });
            let params = FrameParams {
                temporal_id: Some(layer),
                switching_point: base_only,
                discardable: layer == 2,
                ..FrameParams::plain(keyframe)
            };
            let len = 300 + 900 * index + random.below(900) as usize;
            let frame = body(codec, encoding, number, keyframe, len);
            let meta = FrameMeta {
                timestamp: timestamps[index].wrapping_add(number * 3000),
                dependency: descriptors.then_some((&descriptor, sender_structures[index].as_ref())),
                ..FrameMeta::default()
            };
            let span = streams[index]
                .send_frame(now, &frame, &params, &meta)
                .unwrap();
            if let Some(structure) = &descriptor.structure {
                sender_structures[index] = Some((**structure).clone());
            }
            let mut order: Vec<u64> = span.sequences().collect();
            if swaps && !keyframe && order.len() > 1 && random.chance(0.3) {
                order.swap(0, 1);
                swapped += 1;
            }
            for sequence in order {
                let bytes = streams[index].packet(sequence).unwrap().to_vec();
                let packet = Packet::parse(&bytes).unwrap();
                let info = if descriptors {
                    let data = packet.extensions().get(4).unwrap();
                    let known = read_structures[index].as_ref();
                    let descriptor = DependencyDescriptor::parse(data, known).unwrap();
                    let info = describe(&descriptor, known);
                    if let Some(structure) = descriptor.structure {
                        read_structures[index] = Some(*structure);
                    }
                    info
                } else {
                    codec.inspect(packet.payload()).unwrap()
                };
                let source = SourcePacket {
                    encoding,
                    sequence,
                    header: packet.header(),
                    info: &info,
                };
                let mut out = [0; 1500];
                let decision = forwarder.handle_packet(now, &source);
                let filled = matches!(decision, Decision::Fill(_));
                let len = match decision {
                    Decision::Forward(rewrite) => {
                        let asked = SequenceNumber(rewrite.sequence as u16);
                        let answer = forwarder.handle_nack(asked).unwrap();
                        assert_eq!(answer, (encoding, sequence, rewrite));
                        forwarder
                            .write(&packet, &source_map, &rewrite, &mut out)
                            .unwrap()
                    }
                    Decision::Fill(rewrite) => forwarder.write_empty(&rewrite, &mut out).unwrap(),
                    Decision::Drop => continue,
                };
                let packet = Packet::parse(&out[..len]).unwrap();
                assert_eq!((packet.ssrc(), packet.payload_type()), (Ssrc(77), pt(100)));
                assert!(filled || packet.extensions().get(8) == Some(&b"v"[..]));
                assert_eq!(packet.extensions().get(3), None);
                if !swaps {
                    let sequence = packet.sequence().0;
                    assert!(
                        expected_next.is_none_or(|next| next == sequence),
                        "seed {seed}: gap"
                    );
                    expected_next = Some(sequence.wrapping_add(1));
                    if codec == Codec::Vp8 {
                        let (descriptor, _) = Vp8Descriptor::parse(packet.payload()).unwrap();
                        let id = descriptor.picture_id.unwrap().value;
                        let step = last_picture.map_or(1, |last| id.wrapping_sub(last) & 0x7fff);
                        assert!(step <= 1, "seed {seed}: picture ids jump by {step}");
                        last_picture = Some(id);
                    }
                }
                receiver.handle_packet(now, &packet);
                receiver.handle_timeout(now);
            }
        }
        // Beyond the jitter buffer.
        while let Some(frame) = receiver.take_frame(now) {
            let head = match codec {
                Codec::Av1 if frame.keyframe => 6,
                Codec::Av1 => 3,
                Codec::H264 if frame.keyframe => 11,
                Codec::H264 => 5,
                _ => 1,
            };
            let encoding = frame.data[head];
            let id = u32::from_be_bytes(frame.data[head + 1..head + 5].try_into().unwrap());
            received.push((id ^ NO_ZEROS, encoding, frame.timestamp));
        }
    }
    let stats = receiver.stats();
    assert_eq!(stats.undecodable, 0, "seed {seed}: {stats:?}");
    assert_eq!(stats.skips, 0, "seed {seed}: {stats:?}");
    assert_eq!(stats.corrupt, 0, "seed {seed}: {stats:?}");
    assert_eq!(receiver.keyframe_requests(), 0, "seed {seed}");
    assert!(received.len() > 220, "seed {seed}: {}", received.len());
    assert!(forwarder.stats().switches >= 3, "seed {seed}");
    assert!(!swaps || swapped > 50);
    assert!(reports > 10);
    let encodings: std::collections::BTreeSet<u8> = received.iter().map(|it| it.1).collect();
    assert!(encodings.len() > 1);
    for pair in received.windows(2) {
        let ((before, from, earlier), (after, to, later)) = (pair[0], pair[1]);
        // A switch may show a picture once more, out of the other encoding.
        let again = after == before && from != to;
        assert!(
            after > before || again,
            "seed {seed}: {before} of {from}, then {after} of {to}"
        );
        // Timestamps go on as time does, over every switch.
        let ticks = i64::from(later.wrapping_sub(earlier) as i32);
        let wanted = i64::from(after - before) * 3000;
        assert!(
            (ticks - wanted).abs() < 300,
            "seed {seed}: {ticks} ticks, not {wanted}"
        );
    }
}

#[test]
fn simulcast_switches_without_a_visible_break() {
    for seed in 0..10 {
        simulcast(Codec::Vp8, seed, false);
        simulcast(Codec::Vp9, seed, false);
        simulcast(Codec::Av1, seed, false);
        // Its temporal layers stand in dependency descriptors.
        simulcast(Codec::H264, seed, false);
    }
}

#[test]
fn simulcast_survives_packets_out_of_order() {
    for seed in 0..10 {
        simulcast(Codec::Vp8, seed, true);
        simulcast(Codec::Vp9, seed, true);
    }
}

/// Spatial layers within one stream: what is left out leaves whole pictures, each with its marker.
#[test]
fn spatial_layers_are_left_out_whole() {
    let start = Instant::now();
    let mode = ScalabilityMode::from_name("L3T2_KEY").unwrap();
    let (source_map, _) = maps();
    let mut svc = SvcDescriptor::new(mode, &[]);
    let config = SendStreamConfig {
        extensions: source_map.clone(),
        ..SendStreamConfig::new(Ssrc(1), Codec::Av1, pt(96), 90_000)
    };
    let mut stream = SendStream::new(config, SequenceNumber(5), SequenceNumber(0));
    let mut forwarder = forwarder(Codec::Av1);
    let mut receiver = receiver(Codec::Av1);
    let (mut sent_structure, mut read_structure) = (None, None);
    let mut spatial = Vec::new();
    for number in 0..400u32 {
        let now = start + Duration::from_millis(u64::from(number) * 33);
        if number % 50 == 0 {
            forwarder.set_target(Some(LayerTarget {
                encoding: 0,
                spatial_id: (number / 50 % 3) as u8,
                temporal_id: (number / 100 % 2) as u8,
            }));
        }
        let keyframe = number == 0 || forwarder.wants_keyframe().is_some();
        for spatial_id in 0..3u8 {
            let descriptor = svc.next_frame(keyframe, spatial_id);
            let params = FrameParams {
                spatial_id,
                temporal_id: Some(descriptor.dependencies.temporal_id),
                end_of_picture: spatial_id == 2,
                ..FrameParams::plain(keyframe && spatial_id == 0)
            };
            let data = body(
                Codec::Av1,
                spatial_id,
                number,
                keyframe && spatial_id == 0,
                1500,
            );
            let meta = FrameMeta {
                timestamp: number * 3000,
                dependency: Some((&descriptor, sent_structure.as_ref())),
                ..FrameMeta::default()
            };
            let span = stream.send_frame(now, &data, &params, &meta).unwrap();
            if let Some(structure) = descriptor.structure.clone() {
                sent_structure = Some(*structure);
            }
            for sequence in span.sequences() {
                let bytes = stream.packet(sequence).unwrap().to_vec();
                let packet = Packet::parse(&bytes).unwrap();
                let data = packet.extensions().get(4).unwrap();
                let descriptor =
                    DependencyDescriptor::parse(data, read_structure.as_ref()).unwrap();
                let info = describe(&descriptor, read_structure.as_ref());
                if let Some(structure) = descriptor.structure {
                    read_structure = Some(*structure);
                }
                let source = SourcePacket {
                    encoding: 0,
                    sequence,
                    header: packet.header(),
                    info: &info,
                };
                if let Decision::Forward(rewrite) = forwarder.handle_packet(now, &source) {
                    let mut out = [0; 1500];
                    let len = forwarder
                        .write(&packet, &source_map, &rewrite, &mut out)
                        .unwrap();
                    receiver.handle_packet(now, &Packet::parse(&out[..len]).unwrap());
                }
            }
        }
        while let Some(frame) = receiver.take_frame(now) {
            // One OBU per layer that came, 1500 bytes of content each.
            spatial.push((frame.data.len() / 1500) as u8);
        }
    }
    let stats = receiver.stats();
    assert_eq!(
        (stats.undecodable, stats.skips, stats.corrupt),
        (0, 0, 0),
        "{stats:?}"
    );
    assert_eq!(receiver.keyframe_requests(), 0);
    assert!(spatial.len() >= 290, "{}", spatial.len());
    for layers in 1..=3 {
        assert!(spatial.contains(&layers), "never {layers} layers");
    }
}
