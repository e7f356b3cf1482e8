//! The receiver of video: packets behind their lengths, each with a byte that says by which way it came
//! and how much time has passed. The first byte chooses the codec.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use visavis_media::forward::{Forwarder, ForwarderConfig, LayerTarget, SourcePacket};
use visavis_media::receive::{VideoReceiver, VideoReceiverConfig};
use visavis_rtp::payload::Codec;
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Packet, PayloadType, SequenceExtender, SequenceNumber, Ssrc,
};

const CODECS: [Codec; 5] = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265, Codec::Av1];

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, mut rest)) = bytes.split_first() else {
        return;
    };
    let codec = CODECS[usize::from(first) % CODECS.len()];
    let pt = |value| PayloadType::new(value).unwrap();
    let map: ExtensionMap = [
        (1, ExtensionKind::DependencyDescriptor),
        (2, ExtensionKind::PlayoutDelay),
    ]
    .into_iter()
    .collect();
    let mut receiver = VideoReceiver::new(VideoReceiverConfig {
        extensions: map.clone(),
        ulpfec: Some(pt(98)),
        flexfec: true,
        max_packets: 64,
        ..VideoReceiverConfig::new(Ssrc(1), codec, pt(96))
    })
    .unwrap();
    let mut forwarder = Forwarder::new(
        ForwarderConfig {
            codec,
            clock_rate: 90_000,
            ssrc: Ssrc(9),
            payload_type: pt(100),
            mid: None,
            rid: None,
            extensions: map.clone(),
            history: 16,
        },
        SequenceNumber(7),
    );
    let mut extender = SequenceExtender::new();
    let mut now = Instant::now();
    while let [flags, len, tail @ ..] = rest {
        let len = usize::from(*len).min(tail.len());
        let (head, tail) = tail.split_at(len);
        rest = tail;
        now += Duration::from_millis(u64::from(flags >> 4) * 20);
        // A sequence number near the last one finds more than a random one.
        let mut bytes = head.to_vec();
        if bytes.len() >= 12 && flags & 8 == 0 {
            bytes[0] = bytes[0] & 0x3f | 0x80;
            bytes[2] = 0;
            bytes[8..12].copy_from_slice(&[0, 0, 0, 1]);
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            if let Ok(info) = codec.inspect(packet.payload()) {
                forwarder.set_target(Some(LayerTarget {
                    encoding: flags & 1,
                    spatial_id: flags >> 1 & 1,
                    temporal_id: flags >> 2 & 1,
                }));
                let _ = forwarder.handle_packet(
                    now,
                    &SourcePacket {
                        encoding: flags >> 1 & 1,
                        sequence: extender.extend(packet.sequence()),
                        header: packet.header(),
                        info: &info,
                    },
                );
            }
            match flags & 7 {
                5 => receiver.handle_red(now, &packet),
                6 => receiver.handle_flexfec(now, &packet),
                7 => receiver.handle_retransmission(now, &mut bytes, pt(96)),
                _ => receiver.handle_packet(now, &packet),
            }
        }
        receiver.handle_timeout(now);
        let _ = receiver.poll_feedback(now);
        while receiver.poll_frame(now).is_some() {}
        let _ = receiver.poll_timeout();
    }
});
