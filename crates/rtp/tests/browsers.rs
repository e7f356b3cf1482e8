//! What Chromium and Firefox sent is read, becomes the same bytes again, and comes out of the
//! depacketizers as files that ffmpeg decodes.
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

mod recordings;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::BufWriter;

use recordings::{Encoded, Folder, Recording, all, decode, decoded_pictures, has_ffmpeg};
use visavis_rtp::extension::{
    AbsSendTime, AudioLevel, DependencyDescriptor, DependencyStructure, Extension, Form,
    LayersAllocation, MidExtension, RidExtension, TransportSequence, VideoTiming,
};
use visavis_rtp::file::ogg::{OggWriter, OpusHead};
use visavis_rtp::payload::opus::OpusPacket;
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::payload::{Codec, Received, flexfec, ulpfec};
use visavis_rtp::rtcp::{Compound, Rtcp, RtcpWriter, XrBlock};
use visavis_rtp::{Error, ExtensionKind, Packet, PacketWriter, Ssrc};

#[test]
fn rtp_becomes_the_same_bytes_again() {
    let mut two_byte = 0;
    for recording in all() {
        for (_, bytes) in recording.rtp() {
            let packet = Packet::parse(bytes).unwrap();
            let mut out = vec![0xee; bytes.len()];
            let mut writer = PacketWriter::new(&mut out, packet.header()).unwrap();
            let csrcs: Vec<Ssrc> = packet.csrcs().collect();
            writer.csrcs(&csrcs).unwrap();
            if packet
                .raw_extension()
                .is_some_and(|(profile, _)| profile == 0x1000)
            {
                two_byte += 1;
                writer.set_form(Form::TwoByte);
            }
            for (id, data) in packet.extensions() {
                writer.extension(id, data).unwrap();
            }
            let padding = u8::try_from(packet.padding_len()).unwrap();
            let len = writer.finish_padded(packet.payload(), padding).unwrap();
            assert_eq!(out[..len], *bytes, "{}", recording.name);
        }
    }
    assert!(two_byte > 10);
}

#[test]
fn rtcp_becomes_the_same_bytes_again() {
    let mut kinds = BTreeSet::new();
    for recording in all() {
        let rtcp = recording.packets.iter().map(|(_, bytes)| bytes);
        for bytes in rtcp.filter(|bytes| visavis_rtp::is_rtcp(bytes)) {
            let mut out = vec![0xee; bytes.len()];
            let mut writer = RtcpWriter::new(&mut out);
            for packet in Compound::new(bytes) {
                match packet.unwrap() {
                    Rtcp::SenderReport(report) => {
                        kinds.insert("SR");
                        let blocks: Vec<_> = report.blocks().collect();
                        writer.sender_report(&report.info, &blocks).unwrap();
                    }
                    Rtcp::ReceiverReport(report) => {
                        kinds.insert("RR");
                        let blocks: Vec<_> = report.blocks().collect();
                        writer.receiver_report(report.ssrc, &blocks).unwrap();
                    }
                    Rtcp::Sdes(sdes) => {
                        kinds.insert("SDES");
                        let chunks: Vec<_> = sdes
                            .chunks()
                            .map(|chunk| (chunk.ssrc, chunk.items().collect::<Vec<_>>()))
                            .collect();
                        writer.sdes(&chunks).unwrap();
                    }
                    Rtcp::Xr(xr) => {
                        kinds.insert("XR");
                        let blocks: Vec<XrBlock<'_>> = xr.blocks().collect();
                        writer.xr(xr.ssrc, blocks).unwrap();
                    }
                    other => panic!("{}: {other:?}", recording.name),
                }
            }
            assert_eq!(writer.as_slice(), &bytes[..], "{}", recording.name);
        }
    }
    assert!(kinds.contains("SR") && kinds.contains("SDES"), "{kinds:?}");
}

#[test]
fn header_extensions_mean_what_was_negotiated() {
    let mut found = HashSet::new();
    for recording in all() {
        let name = &recording.name;
        let map = &recording.extensions;
        let mut structures: std::collections::BTreeMap<Ssrc, DependencyStructure> =
            Default::default();
        for (ssrc, packets) in recording.sources() {
            for (_, bytes) in packets.values() {
                let packet = Packet::parse(bytes).unwrap();
                for (id, _) in packet.extensions() {
                    let kind = map.kind(id);
                    assert!(kind.is_some(), "{name}: extension {id} was not negotiated");
                    found.insert(kind);
                }
                if let Some(mid) = packet.extension::<MidExtension>(map) {
                    assert_eq!(mid.0.as_str(), "0", "{name}");
                }
                if let Some(rid) = packet.extension::<RidExtension>(map) {
                    assert_eq!(rid.0.as_str(), recording.rids[&ssrc.0], "{name}");
                }
                let bytes = |kind| packet.extension_bytes(map, kind);
                if let Some(data) = bytes(ExtensionKind::DependencyDescriptor) {
                    let known = structures.get(&ssrc);
                    let descriptor = DependencyDescriptor::parse(data, known);
                    // A recording may begin in the middle of a frame.
                    if known.is_none() && descriptor == Err(Error::NoStructure) {
                        continue;
                    }
                    let descriptor = descriptor.unwrap();
                    let mut out = [0; 300];
                    let len = descriptor.write(known, &mut out).unwrap();
                    assert_eq!(out[..len], *data, "{name}");
                    if let Some(structure) = descriptor.structure {
                        structures.insert(ssrc, *structure);
                    }
                }
                if let Some(data) = bytes(ExtensionKind::LayersAllocation) {
                    let allocation = LayersAllocation::parse(data).unwrap();
                    let mut out = vec![0; allocation.encoded_len()];
                    allocation.write(&mut out);
                    assert_eq!(out, data, "{name}");
                }
                if bytes(ExtensionKind::AudioLevel).is_some() {
                    assert!(packet.extension::<AudioLevel>(map).is_some(), "{name}");
                }
                if bytes(ExtensionKind::TransportSequence).is_some() {
                    assert!(
                        packet.extension::<TransportSequence>(map).is_some(),
                        "{name}"
                    );
                }
                if bytes(ExtensionKind::AbsSendTime).is_some() {
                    assert!(packet.extension::<AbsSendTime>(map).is_some(), "{name}");
                }
            }
        }
        if ["l3t3", "l2t2", "s2t1"]
            .iter()
            .any(|part| name.contains(part))
        {
            assert!(!structures.is_empty(), "{name}: no dependency structure");
        }
    }
    assert!(found.len() >= 8, "{found:?}");
}

/// The frames of each source that is media.
fn frames(recording: &Recording) -> Vec<(Codec, Vec<Encoded>)> {
    let mut all = Vec::new();
    for packets in recording.sources().values() {
        let mut frames = Vec::new();
        let mut codec = None;
        let mut depacketizer = None;
        for (&sequence, (_, bytes)) in packets {
            let packet = Packet::parse(bytes).unwrap();
            if packet.payload().is_empty() {
                continue;
            }
            let mut payload_type = packet.payload_type();
            let mut payload = packet.payload();
            if recording.codecs[&payload_type.value()].0 == "red" {
                let block = RedBlocks::parse(payload).unwrap().primary();
                let block = block.unwrap_or_else(|| panic!("{}: {payload:02x?}", recording.name));
                (payload_type, payload) = (block.payload_type, block.payload);
            }
            let Some(this) = recording.codec(payload_type) else {
                continue;
            };
            if matches!(this, Codec::UlpFec | Codec::FlexFec) {
                continue;
            }
            assert_eq!(*codec.get_or_insert(this), this);
            let depacketizer = depacketizer.get_or_insert_with(|| this.depacketizer().unwrap());
            let frame = depacketizer
                .push(Received {
                    sequence,
                    timestamp: packet.timestamp(),
                    marker: packet.marker(),
                    begins_picture: false,
                    payload,
                })
                .unwrap_or_else(|error| panic!("{}: {error}", recording.name));
            // Key frames were asked for when the recording began: what came before is left out.
            if let Some(frame) = frame
                && (frame.keyframe || !frames.is_empty())
            {
                frames.push((frame.timestamp, frame.data.to_vec()));
            }
        }
        if let Some(codec) = codec {
            all.push((codec, frames));
        }
    }
    all
}

#[test]
fn frames_come_out_that_ffmpeg_decodes() {
    if !has_ffmpeg() {
        return;
    }
    let folder = Folder::new("browsers");
    for recording in all() {
        let name = &recording.name;
        let sources = frames(&recording);
        assert!(!sources.is_empty(), "{name}");
        for (index, (codec, frames)) in sources.iter().enumerate() {
            // Recorded for its parity: it has no key frame.
            if name == "chromium_vp8_flexfec" {
                continue;
            }
            let least = if codec.is_video() { 10 } else { 60 };
            assert!(frames.len() >= least, "{name}: {} frames", frames.len());
            let file = format!("{name}-{index}");
            if *codec == Codec::Opus {
                let path = folder.join(&format!("{file}.ogg"));
                let head = OpusHead {
                    channels: 2,
                    pre_skip: 312,
                    input_rate: 48_000,
                    gain: 0,
                };
                let out = BufWriter::new(File::create(&path).unwrap());
                let mut writer = OggWriter::new(out, 1, head).unwrap();
                for (_, data) in frames {
                    let samples = OpusPacket::parse(data).unwrap().duration();
                    writer.write_packet(data, samples).unwrap();
                }
                writer.finish().unwrap();
                decoded_pictures(&path);
                continue;
            }
            let pictures = decode(&folder, &file, *codec, frames);
            println!(
                "{file}: {} frames, {} pictures of {:?}",
                frames.len(),
                pictures.len(),
                pictures.first()
            );
            assert!(pictures.len() >= frames.len(), "{file}: {}", pictures.len());
        }
    }
}

/// Each packet that Chromium protects by parity is made from the parity and its neighbours.
#[test]
fn chromium_s_parity_recovers_what_it_protects() {
    for (name, is_flexfec) in [
        ("chromium_vp8_ulpfec", false),
        ("chromium_vp8_flexfec", true),
    ] {
        let recording = Recording::read(name);
        let red = recording.payload_type("red");
        let parity = recording
            .payload_type(if is_flexfec { "flexfec-03" } else { "ulpfec" })
            .unwrap();
        // The media as parity was made of it: out of RED, and with the fields empty that are written
        // when packets leave.
        let mut media: Vec<Vec<u8>> = Vec::new();
        let mut parities: Vec<(Ssrc, Vec<u8>)> = Vec::new();
        for (_, bytes) in recording.rtp() {
            let packet = Packet::parse(bytes).unwrap();
            let mut payload_type = packet.payload_type();
            let mut payload = packet.payload();
            if Some(payload_type) == red {
                let block = RedBlocks::parse(payload).unwrap().primary().unwrap();
                (payload_type, payload) = (block.payload_type, block.payload);
            }
            if payload_type == parity {
                parities.push((packet.ssrc(), payload.to_vec()));
                continue;
            }
            let mut header = packet.header();
            header.payload_type = payload_type;
            let mut out = vec![0; bytes.len()];
            let mut writer = PacketWriter::new(&mut out, header).unwrap();
            for (id, data) in packet.extensions() {
                let slot = writer.extension_slot(id, data.len()).unwrap();
                let written_late = matches!(
                    recording.extensions.kind(id),
                    Some(
                        ExtensionKind::AbsSendTime
                            | ExtensionKind::TransportSequence
                            | ExtensionKind::TimeOffset
                    )
                );
                if !written_late {
                    slot.copy_from_slice(data);
                }
                if recording.extensions.kind(id) == Some(ExtensionKind::VideoTiming) {
                    slot[VideoTiming::PACER_OFFSET..].fill(0);
                }
            }
            let len = writer.finish_with(payload).unwrap();
            out.truncate(len);
            media.push(out);
        }
        assert!(parities.len() >= 5, "{name}: {}", parities.len());
        let mut recovered = 0;
        for (ssrc, payload) in &parities {
            let fec = match is_flexfec {
                true => flexfec::parse(payload),
                false => ulpfec::parse(payload),
            }
            .unwrap();
            let protected: Vec<&[u8]> = media
                .iter()
                .map(|bytes| &bytes[..])
                .filter(|bytes| fec.protects(Packet::parse(bytes).unwrap().sequence()))
                .collect();
            // The first parity may protect what came before the recording.
            if protected.len() < fec.protected().count() {
                continue;
            }
            for missing in &protected {
                let packet = Packet::parse(missing).unwrap();
                let source = fec.ssrc.unwrap_or(*ssrc);
                assert_eq!(source, packet.ssrc());
                let others = protected.iter().filter(|other| *other != missing).copied();
                let mut out = [0; 2000];
                let len = fec
                    .recover(packet.sequence(), source, others, &mut out)
                    .unwrap();
                assert!(out[..len] == **missing, "{name}: {:?}", packet.header());
                recovered += 1;
            }
        }
        assert!(recovered >= 8, "{name}: {recovered}");
    }
}
