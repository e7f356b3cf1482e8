//! Packetize, lose, reorder, repeat, depacketize: what comes out is what went in, whole or not at all.

use proptest::prelude::*;
use visavis_rtp::payload::vp9::{ScalabilityStructure, Vp9Mode, Vp9Packetizer};
use visavis_rtp::payload::{Codec, FrameParams, Packetizer, Received, flexfec, ulpfec};
use visavis_rtp::{Header, PacketWriter, PayloadType, SequenceNumber, Ssrc};

struct Sent {
    sequence: u64,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// Bytes that hold no start code and do not end in zero.
fn body(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed) | 1)
        .collect()
}

fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        bytes.push(byte | if value > 0 { 0x80 } else { 0 });
        if value == 0 {
            return bytes;
        }
    }
}

/// A frame as the codec's depacketizer would give it.
fn frame(codec: Codec, keyframe: bool, sizes: &[usize], seed: u8) -> Vec<u8> {
    let mut frame = Vec::new();
    match codec {
        Codec::H264 => {
            if keyframe {
                frame.extend_from_slice(&[0, 0, 0, 1, 0x67, seed | 1, 0, 0, 0, 1, 0x68, 1]);
            }
            for &size in sizes {
                let header = if keyframe { 0x65 } else { 0x41 };
                frame.extend_from_slice(&[0, 0, 0, 1, header]);
                frame.extend(body(size, seed));
            }
        }
        Codec::H265 => {
            if keyframe {
                frame.extend_from_slice(&[0, 0, 0, 1, 32 << 1, 1, seed | 1]);
                frame.extend_from_slice(&[0, 0, 0, 1, 33 << 1, 1, 5, 0, 0, 0, 1, 34 << 1, 1, 9]);
            }
            for &size in sizes {
                let kind = if keyframe { 19 } else { 1 };
                frame.extend_from_slice(&[0, 0, 0, 1, kind << 1, 1]);
                frame.extend(body(size, seed));
            }
        }
        Codec::Av1 => {
            if keyframe {
                frame.extend_from_slice(&[1 << 3 | 2, 2, seed, 1]);
            }
            for &size in sizes {
                frame.push(6 << 3 | 2);
                frame.extend(leb128(size));
                frame.extend(body(size, seed));
            }
        }
        _ => {
            // VP8 tells a key frame by its first bit.
            frame.push(u8::from(!keyframe));
            frame.extend(body(sizes.iter().sum(), seed));
        }
    }
    frame
}

fn packetize(
    packetizer: &mut dyn Packetizer,
    frames: &[(Vec<u8>, FrameParams)],
    max_payload: usize,
) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut sequence = 65_536;
    let mut timestamp = 0u32;
    for (frame, params) in frames {
        packetizer.start(frame, params, max_payload).unwrap();
        let mut out = vec![0; max_payload];
        let mut count = 0;
        while let Some(fragment) = packetizer.next_payload(frame, &mut out).unwrap() {
            assert!(fragment.len <= max_payload && fragment.len > 0);
            assert_eq!(fragment.start_of_frame, count == 0);
            count += 1;
            sent.push(Sent {
                sequence,
                timestamp,
                marker: fragment.marker,
                payload: out[..fragment.len].to_vec(),
            });
            sequence += 1;
        }
        assert!(count > 0);
        if params.end_of_picture {
            assert!(sent.last().unwrap().marker);
            timestamp = timestamp.wrapping_add(3000);
        }
    }
    sent
}

fn video() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![
        Codec::Vp8,
        Codec::Vp9,
        Codec::H264,
        Codec::H265,
        Codec::Av1,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn never_a_torn_frame(
        codec in video(),
        shapes in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(1usize..4000, 1..5)), 1..12),
        max_payload in 40usize..1300,
        // What becomes of each packet: lost, twice, or late by so many places.
        fates in prop::collection::vec(0u8..20, 400),
    ) {
        let frames: Vec<(Vec<u8>, FrameParams)> = shapes
            .iter()
            .enumerate()
            .map(|(index, (key, sizes))| {
                let key = *key || index == 0;
                (frame(codec, key, sizes, index as u8), FrameParams::plain(key))
            })
            .collect();
        let mut packetizer = codec.packetizer().unwrap();
        let sent = packetize(&mut *packetizer, &frames, max_payload);

        // Without loss every frame comes back.
        let mut depacketizer = codec.depacketizer().unwrap();
        let mut whole = Vec::new();
        for packet in &sent {
            let frame = depacketizer.push(received(packet)).unwrap();
            if let Some(frame) = frame {
                whole.push((frame.data.to_vec(), frame.keyframe));
            }
        }
        let expected: Vec<_> = frames
            .iter()
            .map(|(frame, params)| (frame.clone(), params.keyframe))
            .collect();
        prop_assert_eq!(&whole, &expected);

        // With loss, only whole frames come, in order.
        let mut order: Vec<(usize, usize)> = Vec::new();
        for index in 0..sent.len() {
            match fates[index % fates.len()] {
                0 | 1 => {}
                2 => order.extend([(index, index), (index + 3, index)]),
                3 => order.push((index + 2, index)),
                _ => order.push((index, index)),
            }
        }
        order.sort();
        depacketizer.reset();
        let mut last = None;
        for (_, index) in order {
            if let Some(frame) = depacketizer.push(received(&sent[index])).unwrap() {
                let number = (frame.timestamp / 3000) as usize;
                prop_assert_eq!(frame.data, &expected[number].0[..], "frame {} is torn", number);
                prop_assert!(last.is_none_or(|last| number > last));
                last = Some(number);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(
        codec in video(),
        payloads in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..60), any::<bool>(), 0u64..3, 0u32..2), 0..40),
    ) {
        let mut depacketizer = codec.depacketizer().unwrap();
        let mut sequence = 0;
        let mut timestamp = 0;
        for (payload, marker, step, tick) in &payloads {
            sequence += step;
            timestamp += tick;
            let _ = codec.inspect(payload);
            let _ = depacketizer.push(Received {
                sequence,
                timestamp,
                marker: *marker,
                begins_picture: false,
                payload,
            });
        }
    }

    #[test]
    fn one_lost_packet_comes_back_from_its_parity(
        flexible in any::<bool>(),
        lengths in prop::collection::vec((0usize..1200, 1u16..4), 1..24),
        lost in any::<prop::sample::Index>(),
        begin in any::<u16>(),
    ) {
        let mut sequence = SequenceNumber(begin);
        let mut packets: Vec<Vec<u8>> = Vec::new();
        for (index, &(len, step)) in lengths.iter().enumerate() {
            let mut packet = vec![0; 1300];
            let header = Header {
                marker: index % 3 == 0,
                payload_type: PayloadType::new(96 + index as u8 % 4).unwrap(),
                sequence,
                timestamp: 90_000 + index as u32 * 7,
                ssrc: Ssrc(5),
            };
            let mut writer = PacketWriter::new(&mut packet, header).unwrap();
            if index % 2 == 0 {
                writer.extension(3, &[index as u8; 2]).unwrap();
            }
            let len = writer.finish_padded(&body(len, index as u8), (index % 5) as u8).unwrap();
            packet.truncate(len);
            packets.push(packet);
            // ULPFEC reaches 48 numbers.
            sequence = sequence.add(if flexible { step } else { step.min(2) });
        }
        let slices = packets.iter().map(Vec::as_slice);
        let mut payload = vec![0; 1500];
        let len = if flexible {
            flexfec::write(Ssrc(5), slices, &mut payload).unwrap()
        } else {
            ulpfec::write(slices, &mut payload).unwrap()
        };
        let fec = if flexible {
            flexfec::parse(&payload[..len]).unwrap()
        } else {
            ulpfec::parse(&payload[..len]).unwrap()
        };
        prop_assert_eq!(fec.protected().count(), packets.len());
        let lost = lost.index(packets.len());
        let missing = SequenceNumber(u16::from_be_bytes([packets[lost][2], packets[lost][3]]));
        prop_assert!(fec.protects(missing));
        let others = packets.iter().enumerate().filter(|&(index, _)| index != lost);
        let mut out = vec![0; 1500];
        let len = fec
            .recover(missing, Ssrc(5), others.map(|(_, packet)| packet.as_slice()), &mut out)
            .unwrap();
        prop_assert_eq!(&out[..len], &packets[lost][..]);
    }

    #[test]
    fn any_bytes_are_parity_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut out = [0; 200];
        for fec in [ulpfec::parse(&bytes), flexfec::parse(&bytes)].into_iter().flatten() {
            let _ = fec.recover(fec.base, Ssrc(1), [&bytes[..]], &mut out);
        }
    }
}

fn received(packet: &Sent) -> Received<'_> {
    Received {
        sequence: packet.sequence,
        timestamp: packet.timestamp,
        marker: packet.marker,
        begins_picture: false,
        payload: &packet.payload,
    }
}

#[test]
fn vp9_spatial_layers_become_one_picture() {
    for mode in [Vp9Mode::Fixed, Vp9Mode::Flexible] {
        let mut packetizer = Vp9Packetizer::new(mode, 32_766, 255);
        packetizer.set_structure(Some(ScalabilityStructure {
            spatial_layers: 3,
            ..ScalabilityStructure::default()
        }));
        let mut frames = Vec::new();
        for picture in 0..4u8 {
            for spatial_id in 0..3u8 {
                let params = FrameParams {
                    keyframe: picture == 0,
                    spatial_id,
                    temporal_id: Some(picture % 2),
                    switching_point: picture % 2 == 1,
                    discardable: false,
                    end_of_picture: spatial_id == 2,
                };
                frames.push((body(700 * (1 + usize::from(spatial_id)), picture), params));
            }
        }
        let sent = packetize(&mut packetizer, &frames, 500);
        let first = Codec::Vp9.inspect(&sent[0].payload).unwrap();
        assert!(first.keyframe && first.start_of_frame);
        assert_eq!(first.picture_id, Some(32_767));
        let mut depacketizer = Codec::Vp9.depacketizer().unwrap();
        let mut pictures = 0;
        for packet in &sent {
            if let Some(frame) = depacketizer.push(received(packet)).unwrap() {
                let expected: Vec<u8> = frames[pictures * 3..pictures * 3 + 3]
                    .iter()
                    .flat_map(|(frame, _)| frame.clone())
                    .collect();
                let (layers, index) = frame.data.split_at(expected.len());
                assert_eq!(layers, expected);
                // Three sizes of two bytes between two markers (VP9 bitstream specification, annex B).
                let sizes = [0xca, 0xbc, 0x02, 0x78, 0x05, 0x34, 0x08, 0xca];
                assert_eq!(index, sizes);
                assert_eq!(frame.keyframe, pictures == 0);
                assert_eq!(frame.spatial_id, 2);
                assert_eq!(usize::from(frame.temporal_id), pictures % 2);
                pictures += 1;
            }
        }
        assert_eq!(pictures, 4);
    }
}

#[test]
fn a_picture_whose_lower_layer_is_lost_is_not_given() {
    let mut packetizer = Vp9Packetizer::new(Vp9Mode::Fixed, 0, 0);
    let mut frames = Vec::new();
    for _ in 0..2 {
        for spatial_id in 0..2 {
            let params = FrameParams {
                spatial_id,
                temporal_id: Some(0),
                end_of_picture: spatial_id == 1,
                ..FrameParams::plain(false)
            };
            frames.push((body(100, spatial_id), params));
        }
    }
    let sent = packetize(&mut packetizer, &frames, 500);
    assert_eq!(sent.len(), 4);
    let mut depacketizer = Codec::Vp9.depacketizer().unwrap();
    // The base layer of the second picture is lost.
    let given: Vec<bool> = [0, 1, 3]
        .iter()
        .map(|&index| depacketizer.push(received(&sent[index])).unwrap().is_some())
        .collect();
    assert_eq!(given, [false, true, false]);
}

#[test]
fn single_nal_mode_refuses_what_does_not_fit() {
    use visavis_rtp::payload::h264::{H264Packetizer, PacketizationMode};
    let mut packetizer = H264Packetizer::new(PacketizationMode::SingleNal);
    let large = frame(Codec::H264, true, &[2000], 1);
    assert!(
        packetizer
            .start(&large, &FrameParams::plain(true), 1200)
            .is_err()
    );
    let mut out = [0; 1200];
    assert_eq!(packetizer.next_payload(&large, &mut out), Ok(None));
    let small = frame(Codec::H264, true, &[500], 1);
    packetizer
        .start(&small, &FrameParams::plain(true), 1200)
        .unwrap();
    let mut kinds = Vec::new();
    while let Some(fragment) = packetizer.next_payload(&small, &mut out).unwrap() {
        kinds.push((out[0] & 0x1f, fragment.marker));
    }
    assert_eq!(kinds, [(7, false), (8, false), (5, true)]);
}

#[test]
fn frames_beyond_the_limit_are_dropped() {
    use visavis_rtp::payload::{Depacketizer, vp8::Vp8Depacketizer};
    let frames = [
        (
            frame(Codec::Vp8, true, &[5000], 1),
            FrameParams::plain(true),
        ),
        (frame(Codec::Vp8, true, &[500], 2), FrameParams::plain(true)),
    ];
    let mut packetizer = Codec::Vp8.packetizer().unwrap();
    let sent = packetize(&mut *packetizer, &frames, 1000);
    let mut depacketizer = Vp8Depacketizer::new(3000);
    let mut results = Vec::new();
    for packet in &sent {
        results.push(
            depacketizer
                .push(received(packet))
                .map(|frame| frame.is_some()),
        );
    }
    assert!(results.iter().any(Result::is_err));
    assert_eq!(results.last(), Some(&Ok(true)));
    assert_eq!(
        results.iter().filter(|result| **result == Ok(true)).count(),
        1
    );
}
