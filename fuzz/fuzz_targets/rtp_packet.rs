//! RTP packets and header extensions: any bytes are a packet or an error, and rewriting keeps them one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_rtp::extension::*;
use visavis_rtp::payload::rtx;
use visavis_rtp::{
    ExtensionEdit, ExtensionKind, ExtensionMap, Packet, PacketMut, PayloadType, SequenceNumber,
    Ssrc,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Packet::parse(bytes) else {
        return;
    };
    let map: ExtensionMap = ExtensionKind::known()
        .zip(1..=14)
        .map(|(kind, id)| (id, kind))
        .collect();
    let other: ExtensionMap = ExtensionKind::known()
        .skip(14)
        .zip(1..=14)
        .map(|(kind, id)| (id, kind))
        .collect();
    for map in [&map, &other] {
        let _ = packet.extension::<MidExtension>(map);
        let _ = packet.extension::<RidExtension>(map);
        let _ = packet.extension::<RepairedRidExtension>(map);
        let _ = packet.extension::<AudioLevel>(map);
        let _ = packet.extension::<MixerAudioLevels<'_>>(map);
        let _ = packet.extension::<AbsSendTime>(map);
        let _ = packet.extension::<TransportSequence>(map);
        let _ = packet.extension::<TransportSequenceRequest>(map);
        let _ = packet.extension::<TimeOffset>(map);
        let _ = packet.extension::<VideoOrientation>(map);
        let _ = packet.extension::<PlayoutDelay>(map);
        let _ = packet.extension::<ContentType>(map);
        let _ = packet.extension::<VideoTiming>(map);
        let _ = packet.extension::<ColorSpace>(map);
        let _ = packet.extension::<AbsCaptureTime>(map);
        let _ = packet.extension::<FrameTrackingId>(map);
        let _ = packet.extension::<CorruptionDetection<'_>>(map);
        let _ = packet.extension::<InbandComfortNoise>(map);
        if let Some(allocation) = packet.extension::<LayersAllocation>(map) {
            let mut out = vec![0; allocation.encoded_len()];
            allocation.write(&mut out);
            assert_eq!(LayersAllocation::parse(&out).unwrap(), allocation);
        }
    }
    // A retransmission of it becomes it again.
    let mut out = vec![0; bytes.len() + 10];
    let payload_type = PayloadType::new(97).unwrap();
    let none = ExtensionMap::new();
    if !packet.payload().is_empty()
        && let Ok(len) = rtx::write(
            &packet,
            Ssrc(9),
            payload_type,
            SequenceNumber(1),
            &none,
            &mut out,
        )
    {
        let restored =
            rtx::restore(&mut out[..len], packet.ssrc(), packet.payload_type(), &none).unwrap();
        let restored = Packet::parse(restored).unwrap();
        assert_eq!(restored.header(), packet.header());
        assert_eq!(restored.payload(), packet.payload());
    }
    let mut copy = bytes.to_vec();
    let mut packet = PacketMut::parse(&mut copy).unwrap();
    packet.extensions_mut().rewrite(|id, data| {
        data.reverse();
        match id % 3 {
            0 => ExtensionEdit::Remove,
            1 => ExtensionEdit::Keep(id.wrapping_add(1)),
            _ => ExtensionEdit::Keep(id),
        }
    });
    let _ = packet.as_packet().extensions().iter().count();
});
