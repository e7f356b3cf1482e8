//! Depacketizers: the first byte chooses the codec, then payloads behind their lengths, each with a
//! byte that says how it stands to the one before.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_rtp::PayloadType;
use visavis_rtp::payload::h264_parameters::{Pps, Sps};
use visavis_rtp::payload::opus::OpusPacket;
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::payload::telephone_event::TelephoneEvent;
use visavis_rtp::payload::vp8::Vp8Descriptor;
use visavis_rtp::payload::vp9::Vp9Descriptor;
use visavis_rtp::payload::{Codec, FrameParams, Received};

const CODECS: [Codec; 8] = [
    Codec::Vp8,
    Codec::Vp9,
    Codec::H264,
    Codec::H265,
    Codec::Av1,
    Codec::Opus,
    Codec::Pcmu,
    Codec::ComfortNoise,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, mut rest)) = bytes.split_first() else {
        return;
    };
    let codec = CODECS[usize::from(first) % CODECS.len()];
    let mut depacketizer = codec.depacketizer().unwrap();
    let (mut sequence, mut timestamp) = (1u64, 0u32);
    while let [flags, len, tail @ ..] = rest {
        let len = usize::from(*len).min(tail.len());
        let (payload, tail) = tail.split_at(len);
        rest = tail;
        sequence += u64::from(flags >> 4 & 3);
        timestamp += u32::from(flags >> 6);
        let _ = codec.inspect(payload);
        let _ = depacketizer.push(Received {
            sequence,
            timestamp,
            marker: flags & 1 != 0,
            begins_picture: flags & 2 != 0,
            payload,
        });
        let mut copy = payload.to_vec();
        let _ = Vp8Descriptor::renumber(&mut copy, 0x1234, 5);
        let _ = Vp9Descriptor::renumber(&mut copy, 0x1234, 5);
        let _ = Vp9Descriptor::parse(payload);
        let _ = OpusPacket::parse(payload);
        let _ = TelephoneEvent::parse(payload);
        let _ = RedBlocks::parse(payload).map(|blocks| blocks.count());
        let _ = Sps::parse(payload);
        let _ = Pps::parse(payload);
    }
    // The same bytes as a frame: whatever is accepted comes back whole or not at all.
    let mut packetizer = codec.packetizer().unwrap();
    let max_payload = 20 + usize::from(first);
    if packetizer
        .start(bytes, &FrameParams::plain(true), max_payload)
        .is_ok()
    {
        let mut out = vec![0; max_payload];
        while let Ok(Some(fragment)) = packetizer.next_payload(bytes, &mut out) {
            assert!(fragment.len > 0 && fragment.len <= max_payload);
        }
    }
    let _ = PayloadType::new(first);
});
