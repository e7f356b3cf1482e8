//! Parity: any bytes as ULPFEC and FlexFEC payloads, among media packets of which some are missing.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use visavis_media::PacketRing;
use visavis_media::receive::FecReceiver;
use visavis_rtp::payload::{flexfec, ulpfec};
use visavis_rtp::{SequenceNumber, Ssrc};

fuzz_target!(|bytes: &[u8]| {
    let [flexible, missing, rest @ ..] = bytes else {
        return;
    };
    let parsed = match flexible & 1 {
        0 => ulpfec::parse(rest),
        _ => flexfec::parse(rest),
    };
    if let Ok(fec) = parsed {
        let mut out = [0; 3000];
        let _ = fec.recover(SequenceNumber(1), Ssrc(1), [rest], &mut out);
    }
    let now = Instant::now();
    let mut ring = PacketRing::<()>::new(64);
    for sequence in 65_536..65_536 + 40u64 {
        if sequence % 8 != u64::from(missing % 8) {
            let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
            packet.extend_from_slice(&rest[..rest.len().min(sequence as usize % 30)]);
            ring.insert(now, sequence, &packet, ());
        }
    }
    let mut receiver = FecReceiver::new(Ssrc(1));
    for chunk in rest.chunks(60) {
        match flexible & 1 {
            0 => receiver.push_ulpfec(65_560, chunk),
            _ => receiver.push_flexfec(65_560, chunk),
        }
    }
    let mut out = [0; 2048];
    while let Some((sequence, len)) = receiver.recover(&ring, &mut out) {
        ring.insert(now, sequence, &out[..len], ());
    }
});
