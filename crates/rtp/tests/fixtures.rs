//! Packets of a foreign stack parse, and become the same bytes again; malformed ones give typed errors.

use visavis_rtp::payload::{Codec, Received, h264_parameters};
use visavis_rtp::rtcp::{Compound, Rtcp, RtcpWriter, XrBlock};
use visavis_rtp::{Error, Packet, PacketWriter, Ssrc, is_rtcp};

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Writes a packet anew from what was read of it.
fn rewrite_rtp(bytes: &[u8]) -> Vec<u8> {
    let packet = Packet::parse(bytes).unwrap();
    let mut out = vec![0xee; bytes.len()];
    let mut writer = PacketWriter::new(&mut out, packet.header()).unwrap();
    let csrcs: Vec<Ssrc> = packet.csrcs().collect();
    writer.csrcs(&csrcs).unwrap();
    for (id, data) in packet.extensions() {
        writer.extension(id, data).unwrap();
    }
    let padding = u8::try_from(packet.padding_len()).unwrap();
    let len = writer.finish_padded(packet.payload(), padding).unwrap();
    assert_eq!(len, bytes.len());
    out
}

/// Writes compound packets anew from what was read of them.
fn rewrite_rtcp(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0xee; bytes.len()];
    let mut writer = RtcpWriter::new(&mut out);
    let mut compound = Compound::new(bytes);
    while let Some(raw) = compound.next_raw() {
        let raw = raw.unwrap();
        match Rtcp::parse(raw).unwrap() {
            Rtcp::SenderReport(report) => {
                let blocks: Vec<_> = report.blocks().collect();
                writer.sender_report(&report.info, &blocks).unwrap();
            }
            Rtcp::ReceiverReport(report) => {
                let blocks: Vec<_> = report.blocks().collect();
                writer.receiver_report(report.ssrc, &blocks).unwrap();
            }
            Rtcp::Sdes(sdes) => {
                let chunks: Vec<_> = sdes
                    .chunks()
                    .map(|chunk| (chunk.ssrc, chunk.items().collect::<Vec<_>>()))
                    .collect();
                writer.sdes(&chunks).unwrap();
            }
            Rtcp::Bye(bye) => {
                let sources: Vec<_> = bye.sources().collect();
                writer.bye(&sources, bye.reason).unwrap();
            }
            Rtcp::Nack(nack) => {
                writer.nack(nack.sender, nack.media, nack.pairs()).unwrap();
            }
            Rtcp::Pli(pli) => writer.pli(pli).unwrap(),
            Rtcp::Xr(xr) => {
                let blocks: Vec<XrBlock<'_>> = xr.blocks().collect();
                writer.xr(xr.ssrc, blocks).unwrap();
            }
            other => panic!("no fixture has {other:?}"),
        }
        if raw.padding > 0 {
            writer.pad_last(raw.padding).unwrap();
        }
    }
    assert_eq!(writer.len(), bytes.len());
    out
}

#[test]
fn rtp_fixtures_become_the_same_bytes_again() {
    for name in [
        "rtp",
        "rtp_dtmf",
        "rtp_with_csrc",
        "rtp_with_sdes_mid",
        "rtp_only_padding_with_header_extensions",
    ] {
        let bytes = fixture(name);
        assert_eq!(rewrite_rtp(&bytes), bytes, "{name}");
        assert!(!is_rtcp(&bytes), "{name}");
    }
}

#[test]
fn padding_without_payload_is_read() {
    let bytes = fixture("rtp_only_padding");
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.payload().len(), 0);
    assert_eq!(packet.padding_len(), bytes.len() - 12);
    // This sender's padding is random, ours is zeros.
    assert_eq!(rewrite_rtp(&bytes)[..12], bytes[..12]);
}

#[test]
fn rtp_fixtures_have_the_values_that_their_sender_gave() {
    let bytes = fixture("rtp");
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.payload_type().value(), 0);
    assert_eq!(packet.sequence().0, 15_743);
    assert_eq!(packet.timestamp(), 3_937_035_252);
    assert_eq!(packet.payload().len(), 160);
    let bytes = fixture("rtp_with_csrc");
    let csrcs: Vec<Ssrc> = Packet::parse(&bytes).unwrap().csrcs().collect();
    assert_eq!(csrcs, [Ssrc(0xabcd_ef01), Ssrc(0xdead_beef)]);
    let bytes = fixture("rtp_with_sdes_mid");
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.extensions().get(9), Some(&b"0"[..]));
}

#[test]
fn rtcp_fixtures_become_the_same_bytes_again() {
    for name in [
        "rtcp_bye",
        "rtcp_bye_no_sources",
        "rtcp_bye_padding",
        "rtcp_psfb_pli",
        "rtcp_rr",
        "rtcp_rtpfb",
        "rtcp_sdes",
        "rtcp_sr",
    ] {
        let mut bytes = fixture(name);
        if name == "rtcp_bye_padding" {
            // What padding holds before its count is free: this sender repeats the count.
            bytes[4..7].fill(0);
        }
        assert_eq!(rewrite_rtcp(&bytes), bytes, "{name}");
        assert!(is_rtcp(&bytes), "{name}");
    }
}

#[test]
fn malformed_rtcp_fixtures_give_typed_errors() {
    for (name, error) in [
        ("rtcp_bye_invalid", Error::Truncated("BYE")),
        ("rtcp_psfb_invalid", Error::Truncated("feedback message")),
        ("rtcp_rr_invalid", Error::Truncated("receiver report")),
        ("rtcp_rtpfb_invalid", Error::Truncated("feedback message")),
        ("rtcp_sdes_item_truncated", Error::Truncated("SDES chunk")),
        ("rtcp_sdes_source_truncated", Error::Truncated("SDES chunk")),
        ("rtcp_sr_invalid", Error::Truncated("sender report")),
    ] {
        let bytes = fixture(name);
        assert_eq!(Compound::new(&bytes).next(), Some(Err(error)), "{name}");
    }
}

#[test]
fn every_cut_of_every_fixture_gives_a_value_or_an_error() {
    let folder = format!("{}/tests/fixtures", env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // A folder has tests of its own.
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(path).unwrap();
        for end in 0..bytes.len() {
            let _ = Packet::parse(&bytes[..end]);
            let _ = Compound::new(&bytes[..end]).count();
        }
    }
}

#[test]
fn foreign_h264_payloads_become_frames() {
    let mut depacketizer = Codec::H264.depacketizer().unwrap();
    let payloads: Vec<_> = (0..4).map(|n| fixture(&format!("h264_000{n}"))).collect();
    // The first three are a key frame: parameter sets in a STAP-A, then two fragments.
    for (index, payload) in payloads.iter().enumerate() {
        let frame = depacketizer
            .push(Received {
                sequence: 100 + index as u64,
                timestamp: if index < 3 { 0 } else { 3000 },
                marker: index >= 2,
                begins_picture: false,
                payload,
            })
            .unwrap();
        match index {
            2 => {
                let frame = frame.expect("a key frame");
                assert!(frame.keyframe);
                let nals: Vec<&[u8]> =
                    visavis_rtp::payload::nal::NalUnits::new(frame.data).collect();
                let kinds: Vec<u8> = nals.iter().map(|nal| nal[0] & 0x1f).collect();
                assert_eq!(kinds, [7, 8, 5]);
                let sps = h264_parameters::Sps::parse(nals[0]).unwrap();
                assert_eq!((sps.width, sps.height), (640, 480));
                assert_eq!(sps.profile_level_id(), [0x42, 0xc0, 0x1f]);
                let pps = h264_parameters::Pps::parse(nals[1]).unwrap();
                assert_eq!((pps.id, pps.sps_id, pps.cabac), (0, 0, false));
            }
            3 => assert!(!frame.expect("a delta frame").keyframe),
            _ => assert!(frame.is_none()),
        }
    }
}
