//! Header extensions: forms, values, the dependency descriptor, rewriting in place.

use proptest::prelude::*;
use visavis_rtp::extension::*;
use visavis_rtp::{
    Error, ExtensionEdit, ExtensionKind, ExtensionMap, Form, Header, Mid, NtpTime, Packet,
    PacketMut, PacketWriter, Rid, SequenceNumber,
};

fn round_trip<'a, E: Extension<'a> + PartialEq + std::fmt::Debug>(
    value: &E,
    slot: &'a mut [u8; 64],
) {
    let len = value.encoded_len();
    value.write(&mut slot[..len]);
    assert_eq!(&E::parse(&slot[..len]).unwrap(), value);
    assert!(len == 0 || E::parse(&slot[..0]).is_err());
}

#[test]
fn every_value_round_trips() {
    round_trip(&MidExtension(Mid::new("audio0").unwrap()), &mut [0; 64]);
    round_trip(&RidExtension(Rid::new("h").unwrap()), &mut [0; 64]);
    round_trip(&RepairedRidExtension(Rid::new("q").unwrap()), &mut [0; 64]);
    round_trip(
        &AudioLevel {
            voice: true,
            level: 127,
        },
        &mut [0; 64],
    );
    round_trip(&MixerAudioLevels::new(&[0, 55, 127]).unwrap(), &mut [0; 64]);
    round_trip(&AbsSendTime(0x00ab_cdef), &mut [0; 64]);
    round_trip(&TransportSequence(SequenceNumber(0xfedc)), &mut [0; 64]);
    for request in [
        None,
        Some(FeedbackRequest {
            timing: true,
            count: 7,
        }),
    ] {
        let sequence = SequenceNumber(9);
        round_trip(
            &TransportSequenceRequest { sequence, request },
            &mut [0; 64],
        );
    }
    round_trip(&TimeOffset(-8_388_608), &mut [0; 64]);
    round_trip(&PlayoutDelay { min: 10, max: 4095 }, &mut [0; 64]);
    round_trip(
        &VideoOrientation {
            back_camera: true,
            flipped: false,
            rotation: VideoRotation::ThreeQuarters,
        },
        &mut [0; 64],
    );
    for kind in [
        ContentType::Unspecified,
        ContentType::ScreenShare,
        ContentType::Other(9),
    ] {
        round_trip(&kind, &mut [0; 64]);
    }
    round_trip(
        &VideoTiming {
            flags: 1,
            encode_start: 2,
            network2: 65_535,
            ..Default::default()
        },
        &mut [0; 64],
    );
    for hdr in [
        None,
        Some(HdrMetadata {
            luminance_max: 1000,
            chromaticity: [(1, 2); 4],
            ..Default::default()
        }),
    ] {
        let color = ColorSpace {
            primaries: 1,
            transfer: 13,
            matrix: 6,
            range: 2,
            chroma_horizontal: ChromaSiting::Collocated,
            chroma_vertical: ChromaSiting::Half,
            hdr,
        };
        round_trip(&color, &mut [0; 64]);
    }
    for clock_offset in [None, Some(-5)] {
        round_trip(
            &AbsCaptureTime {
                captured: NtpTime(77 << 32),
                clock_offset,
            },
            &mut [0; 64],
        );
    }
    round_trip(&FrameTrackingId(65_000), &mut [0; 64]);
    for level in [None, Some(0), Some(127)] {
        round_trip(&InbandComfortNoise(level), &mut [0; 64]);
    }
    let samples = CorruptionSamples {
        standard_deviation: 10,
        luma_threshold: 15,
        chroma_threshold: 3,
        values: &[1; 13],
    };
    for samples in [None, Some(samples)] {
        round_trip(
            &CorruptionDetection {
                upper_bits: true,
                sequence: 127,
                samples,
            },
            &mut [0; 64],
        );
    }
}

#[test]
fn abs_send_time_counts_in_fractions_of_a_second() {
    assert_eq!(AbsSendTime::from_micros(1_000_000).0, 1 << 18);
    assert_eq!(AbsSendTime::from_micros(64_500_000).0, 1 << 17);
    assert_eq!(AbsSendTime(1 << 17).to_micros(), 500_000);
}

/// libwebrtc's rtp_video_layers_allocation_extension_unittest: three simulcast streams of one and two
/// temporal layers, with resolutions.
#[test]
fn layers_allocation_round_trips_in_every_shape() {
    let layer = |stream, spatial_id, targets: &[u32], picture| SpatialLayerAllocation {
        stream,
        spatial_id,
        target_kbps: targets.iter().copied().collect(),
        picture,
    };
    let hd = Some((
        Resolution {
            width: 1280,
            height: 720,
        },
        30,
    ));
    let shapes = [
        LayersAllocation::default(),
        LayersAllocation {
            stream: 1,
            streams: 3,
            layers: [
                layer(0, 0, &[25, 50], hd),
                layer(1, 0, &[100, 200, 65_536], hd),
                layer(2, 0, &[300_000_000], hd),
            ]
            .into_iter()
            .collect(),
        },
        LayersAllocation {
            stream: 0,
            streams: 2,
            layers: [
                layer(0, 0, &[1], None),
                layer(0, 1, &[2], None),
                layer(1, 2, &[128], None),
            ]
            .into_iter()
            .collect(),
        },
        LayersAllocation {
            stream: 3,
            streams: 4,
            layers: (0..4)
                .flat_map(|stream| (0..4).map(move |spatial| (stream, spatial)))
                .map(|(stream, spatial)| layer(stream, spatial, &[1, 2, 3, 4], None))
                .collect(),
        },
    ];
    for shape in shapes {
        let mut slot = [0; 256];
        let len = shape.encoded_len();
        shape.write(&mut slot[..len]);
        assert_eq!(LayersAllocation::parse(&slot[..len]).unwrap(), shape);
        for end in 0..len {
            let _ = LayersAllocation::parse(&slot[..end]);
        }
    }
    // One stream, one layer, 0x01: shared mask; one temporal layer; 50 kbit/s.
    let parsed = LayersAllocation::parse(&[0x01, 0x00, 50]).unwrap();
    assert_eq!(parsed.layers[0].target_kbps[..], [50]);
}

/// The structure of the AV1 RTP specification's example L2T2 (section A.10.?): as libwebrtc writes it.
fn l1t3() -> DependencyStructure {
    use DecodeTargetIndication::{Discardable as D, NotPresent as N, Required as R, Switch as S};
    let template =
        |temporal_id, targets: [DecodeTargetIndication; 3], diffs: &[u16], chain| FrameTemplate {
            spatial_id: 0,
            temporal_id,
            targets: targets.into_iter().collect(),
            frame_diffs: diffs.iter().copied().collect(),
            chain_diffs: [chain].into_iter().collect(),
        };
    DependencyStructure {
        id_offset: 61,
        decode_targets: 3,
        protected_by: [0, 0, 0].into_iter().collect(),
        chains: 1,
        templates: vec![
            template(0, [S, S, S], &[], 0),
            template(0, [S, S, S], &[4], 4),
            template(1, [N, D, R], &[2], 2),
            template(2, [N, N, D], &[1], 1),
            template(2, [N, N, D], &[1], 3),
        ],
        resolutions: [Resolution {
            width: 640,
            height: 360,
        }]
        .into_iter()
        .collect(),
    }
}

fn key_frame() -> DependencyDescriptor {
    let structure = l1t3();
    DependencyDescriptor {
        head: DescriptorHead {
            start_of_frame: true,
            end_of_frame: false,
            template_id: 61,
            frame_number: 1,
        },
        dependencies: structure.templates[0].clone(),
        active_targets: Some(0b111),
        structure: Some(Box::new(structure)),
    }
}

#[test]
fn a_key_frames_structure_is_read_and_used() {
    let key = key_frame();
    let mut out = [0; 255];
    let len = key.write(None, &mut out).unwrap();
    let parsed = DependencyDescriptor::parse(&out[..len], None).unwrap();
    assert_eq!(parsed, key);
    assert!(parsed.is_key_frame());
    let structure = parsed.structure.as_deref().unwrap();
    assert_eq!(structure.decode_target_layers(0), (0, 0));
    assert_eq!(structure.decode_target_layers(1), (0, 1));
    assert_eq!(structure.decode_target_layers(2), (0, 2));
    assert_eq!(structure.max_temporal_id(), 2);

    // Ids wrap around: 61, 62, 63, 0, 1.
    let delta = [0xc0, 0x12, 0x34];
    let parsed = DependencyDescriptor::parse(&delta, Some(structure)).unwrap();
    assert_eq!(parsed.dependencies, structure.templates[3]);
    assert_eq!(parsed.head.frame_number, 0x1234);
    assert_eq!(parsed.target(2), DecodeTargetIndication::Discardable);
    assert_eq!(
        DependencyDescriptor::parse(&delta, None),
        Err(Error::NoStructure)
    );
    assert_eq!(
        DependencyDescriptor::parse(&[0x82, 0, 1], Some(structure)),
        Err(Error::NoStructure)
    );
}

#[test]
fn what_differs_from_the_template_is_written() {
    let structure = l1t3();
    let mut out = [0; 255];
    for (diffs, chain, active) in [
        (&[1u16, 17, 4096][..], 255u8, None),
        (&[], 3, Some(0b011)),
        (&[16, 256], 0, Some(0)),
    ] {
        let mut frame = structure.templates[4].clone();
        frame.frame_diffs = diffs.iter().copied().collect();
        frame.chain_diffs[0] = chain;
        frame.targets[1] = DecodeTargetIndication::Required;
        let descriptor = DependencyDescriptor {
            head: DescriptorHead {
                start_of_frame: false,
                end_of_frame: true,
                template_id: 1,
                frame_number: 65_535,
            },
            structure: None,
            active_targets: active,
            dependencies: frame,
        };
        let len = descriptor.write(Some(&structure), &mut out).unwrap();
        let parsed = DependencyDescriptor::parse(&out[..len], Some(&structure)).unwrap();
        assert_eq!(parsed, descriptor);
    }
}

#[test]
fn the_head_changes_in_place() {
    let mut out = [0; 255];
    let len = key_frame().write(None, &mut out).unwrap();
    let mut head = DescriptorHead::parse(&out[..len]).unwrap();
    head.frame_number = 999;
    head.end_of_frame = true;
    head.overwrite(&mut out[..len]);
    let parsed = DependencyDescriptor::parse(&out[..len], None).unwrap();
    assert_eq!(parsed.head, head);
}

#[test]
fn large_structures_are_refused() {
    // Layers without end.
    let mut bytes = vec![0x80, 0, 1, 0x80, 0x00];
    bytes.extend([0b10_10_10_10; 60]);
    let error = DependencyDescriptor::parse(&bytes, None).unwrap_err();
    assert!(
        matches!(error, Error::Limit(_) | Error::Malformed(_)),
        "{error}"
    );
    let mut bytes = vec![0x80, 0, 1, 0x80, 0x00];
    bytes.extend([0; 60]);
    assert!(DependencyDescriptor::parse(&bytes, None).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_descriptor_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..120), known in any::<bool>()) {
        let structure = l1t3();
        let known = known.then_some(&structure);
        if let Ok(descriptor) = DependencyDescriptor::parse(&bytes, known) {
            // What was read can be written, and is read as the same.
            let mut out = [0; 2000];
            let len = descriptor.write(known, &mut out).unwrap();
            let again = DependencyDescriptor::parse(&out[..len], known).unwrap();
            prop_assert_eq!(again, descriptor);
        }
    }

    #[test]
    fn any_extension_bytes_are_elements(profile in prop_oneof![Just(0xbedeu16), 0x1000u16..0x1010, any::<u16>()],
                                        data in prop::collection::vec(any::<u8>(), 0..80)) {
        for (id, data) in Extensions::new(profile, &data) {
            prop_assert!(id != 0 && data.len() <= 255);
        }
    }

    #[test]
    fn elements_of_mixed_forms_come_back(
        elements in prop::collection::vec((1u8..=20, prop::collection::vec(any::<u8>(), 0..24)), 0..8),
    ) {
        let mut buffer = [0xee; 600];
        let mut writer = PacketWriter::new(&mut buffer, Header::default()).unwrap();
        for (id, data) in &elements {
            writer.extension(*id, data).unwrap();
        }
        let len = writer.finish_with(b"payload").unwrap();
        let packet = Packet::parse(&buffer[..len]).unwrap();
        prop_assert_eq!(packet.payload(), b"payload");
        let back: Vec<(u8, Vec<u8>)> = packet.extensions().iter().map(|(id, data)| (id, data.to_vec())).collect();
        prop_assert_eq!(&back, &elements);
        let two_byte = elements.iter().any(|(id, data)| *id > 14 || data.is_empty() || data.len() > 16);
        if let Some((profile, _)) = packet.raw_extension() {
            prop_assert_eq!(profile, if two_byte { 0x1000 } else { 0xbede });
        }
    }
}

#[test]
fn the_one_byte_form_refuses_what_it_cannot_carry() {
    let mut buffer = [0; 100];
    let mut writer = PacketWriter::new(&mut buffer, Header::default()).unwrap();
    writer.set_form(Form::OneByte);
    assert!(writer.extension(15, &[1]).is_err());
    assert!(writer.extension(1, &[]).is_err());
    assert!(writer.extension(1, &[0; 17]).is_err());
    assert!(writer.extension(0, &[1]).is_err());
    writer.extension(14, &[0; 16]).unwrap();
}

/// RFC 8285 section 4.2: id 15 ends the elements; id 0 with a length too.
#[test]
fn reserved_ids_end_the_elements() {
    let data = [0x10, 1, 0xf0, 2, 0x20, 3];
    assert_eq!(Extensions::new(0xbede, &data).iter().count(), 1);
    let data = [0x10, 1, 0x01, 2, 0x20, 3];
    assert_eq!(Extensions::new(0xbede, &data).iter().count(), 1);
    // Padding between elements is passed over.
    let data = [0x10, 1, 0, 0, 0x20, 3];
    assert_eq!(Extensions::new(0xbede, &data).iter().count(), 2);
}

#[test]
fn forwarding_renumbers_and_removes_in_place() {
    for form in [Form::OneByte, Form::TwoByte] {
        let mut buffer = [0; 100];
        let mut writer = PacketWriter::new(&mut buffer, Header::default()).unwrap();
        writer.set_form(form);
        writer.extension(1, b"a").unwrap();
        writer.extension(2, b"bcd").unwrap();
        writer.extension(3, b"ef").unwrap();
        let len = writer.finish_with(b"payload").unwrap();
        let mut packet = PacketMut::parse(&mut buffer[..len]).unwrap();
        packet.extensions_mut().rewrite(|id, data| match id {
            1 => ExtensionEdit::Keep(9),
            2 => ExtensionEdit::Remove,
            _ => {
                data[0] = b'x';
                ExtensionEdit::Keep(id)
            }
        });
        packet.extensions_mut().get_mut(9).unwrap()[0] = b'z';
        packet.set_sequence(SequenceNumber(77));
        let packet = packet.as_packet();
        let elements: Vec<_> = packet.extensions().into_iter().collect();
        assert_eq!(elements, [(9, &b"z"[..]), (3, &b"xf"[..])]);
        assert_eq!(packet.payload(), b"payload");
        assert_eq!(packet.sequence(), SequenceNumber(77));
    }
}

#[test]
fn typed_values_follow_the_map() {
    let mut map = ExtensionMap::new();
    map.insert(4, ExtensionKind::Mid).unwrap();
    map.insert(3, ExtensionKind::TransportSequence).unwrap();
    let mut buffer = [0; 100];
    let mut writer = PacketWriter::new(&mut buffer, Header::default()).unwrap();
    let mid = MidExtension(Mid::new("1").unwrap());
    writer.typed(&map, &mid).unwrap();
    writer
        .typed(&map, &TransportSequence(SequenceNumber(500)))
        .unwrap();
    // Not negotiated: left out.
    writer
        .typed(
            &map,
            &AudioLevel {
                voice: false,
                level: 1,
            },
        )
        .unwrap();
    let len = writer.finish_with(&[]).unwrap();
    let packet = Packet::parse(&buffer[..len]).unwrap();
    assert_eq!(packet.extension::<MidExtension>(&map), Some(mid));
    assert_eq!(packet.extension::<AudioLevel>(&map), None);
    let sequence = packet.extension::<TransportSequence>(&map).unwrap();
    assert_eq!(sequence.0, SequenceNumber(500));
}
