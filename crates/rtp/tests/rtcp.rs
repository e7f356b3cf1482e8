//! RTCP: what is written is read again; values of other implementations are read as they meant them.

use proptest::prelude::*;
use visavis_datagram::Ecn;
use visavis_rtp::rtcp::{
    Arrival, Compound, DlrrBlock, FirEntry, LossNotification, MetricBlock, NackPair, RawFeedback,
    ReportBlock, Rtcp, RtcpWriter, SenderInfo, TmmbEntry, XrBlock,
};
use visavis_rtp::{NtpTime, SequenceNumber, Ssrc};

const US: Ssrc = Ssrc(1);
const THEM: Ssrc = Ssrc(2);

fn single(bytes: &[u8]) -> Rtcp<'_> {
    let mut compound = Compound::new(bytes);
    let packet = compound.next().unwrap().unwrap();
    assert_eq!(compound.next(), None);
    packet
}

/// draft-alvestrand-rmcat-remb-03, as libwebrtc's remb_unittest has it.
#[test]
fn remb_of_libwebrtc_is_read_and_written() {
    let bytes = [
        0x8f, 206, 0, 7, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 3, 0x07, 0xfb,
        0x93, 0x23, 0x45, 0x67, 0x89, 0x23, 0x45, 0x67, 0x8a, 0x23, 0x45, 0x67, 0x8b,
    ];
    let Rtcp::Remb(remb) = single(&bytes) else {
        panic!("not a REMB");
    };
    assert_eq!(remb.bitrate, 0x3fb93 * 2);
    let sources: Vec<_> = remb.sources().collect();
    assert_eq!(
        sources,
        [Ssrc(0x2345_6789), Ssrc(0x2345_678a), Ssrc(0x2345_678b)]
    );
    let mut out = [0; 32];
    let mut writer = RtcpWriter::new(&mut out);
    writer.remb(remb.sender, remb.bitrate, &sources).unwrap();
    assert_eq!(out, bytes);
}

/// libwebrtc's loss_notification_unittest.
#[test]
fn loss_notification_of_libwebrtc_is_read_and_written() {
    let bytes = [
        0x8f, 206, 0, 4, 0x12, 0x34, 0x56, 0x78, 0xab, 0xcd, 0xef, 0x01, b'L', b'N', b'T', b'F',
        0x38, 0xab, 0x26, 0x93,
    ];
    let Rtcp::LossNotification(loss) = single(&bytes) else {
        panic!("not a loss notification");
    };
    assert_eq!(loss.last_decoded, SequenceNumber(0x38ab));
    assert_eq!(loss.last_received, SequenceNumber(0x38ab + (0x2693 >> 1)));
    assert!(loss.decodable);
    let mut out = [0; 20];
    RtcpWriter::new(&mut out).loss_notification(&loss).unwrap();
    assert_eq!(out, bytes);
    let wrong = LossNotification {
        last_received: SequenceNumber(1),
        last_decoded: SequenceNumber(2),
        ..loss
    };
    assert!(RtcpWriter::new(&mut out).loss_notification(&wrong).is_err());
}

/// What Chromium 156 and Firefox 153 sent: padding of one to three bytes, which RFC 3550 section 6.4.1 does not allow.
#[test]
fn transport_feedback_of_browsers_is_padded_by_less_than_a_word() {
    let seen = [
        (
            "afcd000630c741c8253c5e9e000200050f7ecd01200509003c151c01",
            5,
        ),
        (
            "afcd000730c741c8253c5e9e000700080f7ecd0220089117001931481f150002",
            8,
        ),
        (
            "afcd000699ce1c573e9faf9900000003001065002003d14b1e000003",
            3,
        ),
    ];
    for (hex, arrived) in seen {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let Rtcp::TransportFeedback(feedback) = single(&bytes) else {
            panic!("not a transport feedback");
        };
        let arrivals = feedback.packets().map(|packet| packet.arrival);
        assert_eq!(arrivals.flatten().count(), arrived, "{hex}");
    }
}

/// The example of draft-holmer-rmcat-transport-wide-cc-extensions-01 sections 3.1.3 and 3.1.4: a run
/// of small deltas, a vector, and a run of losses.
#[test]
fn status_chunks_of_the_draft_are_read() {
    let bytes = [
        0x8f, 205, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2, // header, sender, media
        0, 10, 0, 12, 0, 0, 3, 9, // base 10, 12 packets, reference 3, feedback 9
        0x20, 4, // run: 4 small deltas
        0xd2, 0x01, // two-bit vector: 0 1 2 0 ... 01 00 10 00 00 00 01
        0x00, 1, // run: one loss
        1, 2, 3, 4, 5, 0xff, 0xfe, 6, // deltas: small 1-5, large -2, small 6
        0, 0,
    ];
    let Rtcp::TransportFeedback(feedback) = single(&bytes) else {
        panic!("not a transport feedback");
    };
    assert_eq!(feedback.reference_micros(), 192_000);
    assert_eq!(feedback.feedback_count, 9);
    let arrivals: Vec<_> = feedback.packets().map(|packet| packet.arrival).collect();
    let expected = [
        Some(1),
        Some(3),
        Some(6),
        Some(10),
        Some(15),
        None,
        Some(13),
        None,
        None,
        None,
        Some(19),
        None,
    ];
    assert_eq!(arrivals, expected);
    let numbers: Vec<_> = feedback.packets().map(|packet| packet.sequence.0).collect();
    assert_eq!(numbers, (10..22).collect::<Vec<_>>());
}

#[test]
fn feedback_that_claims_more_than_it_has_is_an_error() {
    let head = [0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 10];
    for (count, chunk) in [
        (0u16, 0x2001u16),
        (8, 0x2008),
        (65_535, 0x3fff),
        (1, 0x6001),
    ] {
        let mut bytes = head.to_vec();
        bytes.extend(count.to_be_bytes());
        bytes.extend([0, 0, 3, 9]);
        bytes.extend(chunk.to_be_bytes());
        bytes.extend([1, 0]);
        assert!(
            Compound::new(&bytes).next().unwrap().is_err(),
            "{count} {chunk:x}"
        );
    }
}

#[test]
fn reports_and_small_messages_round_trip_in_one_compound() {
    let info = SenderInfo {
        ssrc: US,
        ntp: NtpTime(0x0123_4567_89ab_cdef),
        rtp_timestamp: 77,
        packets: 5,
        octets: 600,
    };
    let block = ReportBlock {
        ssrc: THEM,
        fraction_lost: 255,
        cumulative_lost: -3,
        highest_sequence: 0x0001_fffe,
        jitter: 12,
        last_sr: info.ntp.middle(),
        delay_since_last_sr: 65_536,
    };
    let dlrr = DlrrBlock {
        ssrc: THEM,
        last_rr: 5,
        delay_since_last_rr: 6,
    };
    let fir = FirEntry {
        ssrc: THEM,
        sequence: 255,
    };
    let limit = TmmbEntry {
        ssrc: THEM,
        bitrate: 1_234_000,
        overhead: 40,
    };
    let raw = RawFeedback {
        format: 10,
        sender: US,
        media: THEM,
        information: &[1, 2, 3, 4],
    };
    let mut buffer = [0; 800];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.sender_report(&info, &[block; 31]).unwrap();
    assert_eq!(writer.len(), 28 + 31 * 24);
    assert!(writer.sender_report(&info, &[block; 32]).is_err());
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.sender_report(&info, &[block]).unwrap();
    writer.cname(US, b"abc").unwrap();
    writer
        .xr(US, [XrBlock::ReceiverReferenceTime(info.ntp)])
        .unwrap();
    writer.xr_dlrr(US, &[dlrr, dlrr]).unwrap();
    writer.fir(US, &[fir]).unwrap();
    writer.tmmbr(US, &[limit]).unwrap();
    writer.tmmbn(US, &[]).unwrap();
    writer.app(3, US, *b"visa", &[9; 8]).unwrap();
    writer.raw_feedback(&raw, true).unwrap();
    writer.bye(&[US], Some(b"done")).unwrap();
    let len = writer.len();
    let packets: Vec<_> = Compound::new(&buffer[..len]).map(Result::unwrap).collect();
    assert_eq!(packets.len(), 10);
    let Rtcp::SenderReport(report) = packets[0] else {
        panic!()
    };
    assert_eq!(report.info, info);
    assert_eq!(report.blocks().next(), Some(block));
    assert_eq!(block.round_trip(block.last_sr + 65_536 + 100), Some(100));
    assert_eq!(block.round_trip(block.last_sr), Some(0));
    let Rtcp::Sdes(sdes) = packets[1] else {
        panic!()
    };
    assert_eq!(sdes.cname(US), Some(&b"abc"[..]));
    let Rtcp::Xr(xr) = packets[3] else { panic!() };
    let Some(XrBlock::Dlrr(answers)) = xr.blocks().next() else {
        panic!()
    };
    assert_eq!(answers.iter().collect::<Vec<_>>(), [dlrr, dlrr]);
    let Rtcp::Fir(request) = packets[4] else {
        panic!()
    };
    assert_eq!(request.entries().next(), Some(fir));
    let Rtcp::Tmmbr(request) = packets[5] else {
        panic!()
    };
    let entry = request.entries().next().unwrap();
    // 17 bits of mantissa.
    assert_eq!(
        (entry.bitrate >> 4, entry.overhead),
        (limit.bitrate >> 4, 40)
    );
    assert!(matches!(packets[8], Rtcp::OtherPayloadFeedback(feedback) if feedback == raw));
    let Rtcp::Bye(bye) = packets[9] else { panic!() };
    assert_eq!(bye.reason, Some(&b"done"[..]));
}

#[test]
fn what_does_not_fit_leaves_the_compound_as_it_was() {
    let mut buffer = [0; 19];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer.receiver_report(US, &[]).unwrap();
    assert!(
        writer
            .receiver_report(US, &[ReportBlock::default()])
            .is_err()
    );
    assert!(writer.cname(US, b"too long for it").is_err());
    assert_eq!(writer.len(), 8);
    writer.receiver_report(US, &[]).unwrap();
    assert_eq!(Compound::new(writer.as_slice()).count(), 2);
}

#[test]
fn a_bad_body_does_not_hide_the_packets_behind_it() {
    // A BYE that claims two sources and has one, then a PLI.
    let bytes = [
        0x82, 203, 0, 1, 0, 0, 0, 1, 0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2,
    ];
    let results: Vec<_> = Compound::new(&bytes).collect();
    assert_eq!(results.len(), 2);
    assert!(results[0].is_err());
    assert!(matches!(results[1], Ok(Rtcp::Pli(_))));
}

proptest! {
    #[test]
    fn nacks_name_the_lost_packets(start in any::<u16>(), steps in prop::collection::vec(1u16..40, 1..60)) {
        let mut sequence = SequenceNumber(start);
        let lost: Vec<_> = steps.iter().map(|&step| { sequence = sequence.add(step); sequence }).collect();
        let mut buffer = [0; 1200];
        let mut writer = RtcpWriter::new(&mut buffer);
        writer.nack(US, THEM, NackPair::fold(lost.iter().copied())).unwrap();
        let Rtcp::Nack(nack) = single(writer.as_slice()) else { panic!() };
        prop_assert_eq!(nack.sequences().collect::<Vec<_>>(), lost);
    }

    #[test]
    fn transport_feedback_tells_every_arrival(
        base in any::<u16>(),
        start in 0u64..1 << 50,
        // Gap before the packet, and time since the one before (some early), in microseconds.
        packets in prop::collection::vec(
            (prop_oneof![9 => 0u16..2, 2 => 2u16..30, 1 => 30u16..9000],
             prop_oneof![8 => 0i64..60_000, 1 => -20_000i64..0, 1 => 60_000i64..6_000_000]), 1..200),
        room in 60usize..1200,
    ) {
        let mut sequence = SequenceNumber(base);
        let mut micros = start + 30_000_000;
        let mut arrivals = Vec::new();
        for (gap, step) in &packets {
            sequence = sequence.add(*gap);
            micros = micros.saturating_add_signed(*step);
            arrivals.push(Arrival { sequence, micros });
            sequence = sequence.next();
        }
        // Feedback after feedback until all is told.
        let mut rest = &arrivals[..];
        let mut expected_base = SequenceNumber(base);
        let mut told = Vec::new();
        let mut count = 0u8;
        while !rest.is_empty() {
            let mut buffer = vec![0; room];
            let mut writer = RtcpWriter::new(&mut buffer);
            let Ok(taken) = writer.transport_feedback(US, THEM, expected_base, count, rest) else {
                // A first gap beyond what the room can hold: begin at the arrival itself.
                prop_assert!(expected_base != rest[0].sequence);
                expected_base = rest[0].sequence;
                continue;
            };
            prop_assert!(taken > 0);
            let Rtcp::TransportFeedback(feedback) = single(writer.as_slice()) else { panic!() };
            prop_assert_eq!(feedback.feedback_count, count);
            prop_assert_eq!(feedback.base, expected_base);
            let reference = rest[0].micros / 64_000 * 64_000;
            prop_assert_eq!(feedback.reference_micros(), reference % ((1 << 24) * 64_000));
            for packet in feedback.packets() {
                if let Some(ticks) = packet.arrival {
                    let micros = reference.checked_add_signed(ticks * 250).unwrap();
                    told.push(Arrival { sequence: packet.sequence, micros });
                }
            }
            expected_base = rest[taken - 1].sequence.next();
            rest = &rest[taken..];
            count = count.wrapping_add(1);
        }
        prop_assert_eq!(told.len(), arrivals.len());
        for (told, arrival) in told.iter().zip(&arrivals) {
            prop_assert_eq!(told.sequence, arrival.sequence);
            prop_assert_eq!(told.micros, arrival.micros / 250 * 250);
        }
    }

    #[test]
    fn congestion_feedback_round_trips(
        timestamp in any::<u32>(),
        reports in prop::collection::vec(
            (any::<u32>(), any::<u16>(),
             prop::collection::vec(prop::option::of((0u8..4, 0u16..0x2000)), 0..20)), 0..6),
    ) {
        let block = |(ecn, arrival_offset)| MetricBlock { ecn: Ecn::from_bits(ecn), arrival_offset };
        let mut buffer = [0; 1200];
        let mut writer = RtcpWriter::new(&mut buffer);
        let sources = reports.iter().map(|(ssrc, begin, packets)| {
            (Ssrc(*ssrc), SequenceNumber(*begin), packets.iter().map(|packet| packet.map(block)))
        });
        writer.congestion_feedback(US, sources, timestamp).unwrap();
        let Rtcp::CongestionFeedback(feedback) = single(writer.as_slice()) else { panic!() };
        prop_assert_eq!((feedback.sender, feedback.timestamp), (US, timestamp));
        prop_assert_eq!(feedback.reports().count(), reports.len());
        for (report, (ssrc, begin, packets)) in feedback.reports().zip(&reports) {
            prop_assert_eq!((report.ssrc.0, report.begin.0), (*ssrc, *begin));
            let told: Vec<_> = report.packets().map(|(_, packet)| packet).collect();
            let sent: Vec<_> = packets.iter().map(|packet| packet.map(block)).collect();
            prop_assert_eq!(told, sent);
        }
    }

    #[test]
    fn any_bytes_are_packets_or_errors(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 200u8..208, format in 0u8..32) {
        let mut bytes = bytes;
        if bytes.len() >= 4 {
            bytes[0] = 0x80 | format;
            bytes[1] = kind;
            let words = (bytes.len() / 4 - 1) as u16;
            bytes[2..4].copy_from_slice(&words.to_be_bytes());
        }
        for packet in Compound::new(&bytes).flatten() {
            match packet {
                Rtcp::TransportFeedback(feedback) => {
                    prop_assert_eq!(feedback.packets().count(), usize::from(feedback.count));
                }
                Rtcp::CongestionFeedback(feedback) => {
                    for report in feedback.reports() { let _ = report.packets().count(); }
                }
                Rtcp::Sdes(sdes) => for chunk in sdes.chunks() { let _ = chunk.items().count(); },
                Rtcp::Xr(xr) => { let _ = xr.blocks().count(); }
                _ => {}
            }
        }
    }
}
