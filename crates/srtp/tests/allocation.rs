//! No allocation per packet, once a stream exists, by Rust's allocator; what C code asks of malloc
//! is not counted.

use allocation_counter::measure;
use visavis_srtp::{Context, Cryptex, Options, Profile, Slot, protect_many};

const PROFILES: [Profile; 6] = [
    Profile::Aes128CmHmacSha1_80,
    Profile::Aes128CmHmacSha1_32,
    Profile::Aes256CmHmacSha1_80,
    Profile::Aes256CmHmacSha1_32,
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
];

fn context(profile: Profile, cryptex: Cryptex) -> Context {
    let options = Options {
        cryptex,
        encrypted_extensions: [1].into_iter().collect(),
        ..Options::default()
    };
    Context::new(
        profile,
        &[1; 32][..profile.key_len()],
        &[2; 14][..profile.salt_len()],
        options,
    )
    .unwrap()
}

/// An RTP packet of 1200 bytes with a header extension.
fn packet(ssrc: u8, sequence: u16) -> [u8; 1200] {
    let mut packet = [0x55; 1200];
    packet[..20].copy_from_slice(&[
        0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, ssrc, 0xbe, 0xde, 0, 1, 0x10, 9, 0x20, 9,
    ]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}

#[test]
fn rtp_and_rtcp_allocate_nothing_per_packet() {
    for profile in PROFILES {
        for cryptex in [Cryptex::Accept, Cryptex::Send] {
            let mut sender = context(profile, cryptex);
            let mut receiver = context(profile, cryptex);
            let mut buf = [0; 1300];
            let mut round = |sequence: u16| {
                for ssrc in 0..4 {
                    buf[..1200].copy_from_slice(&packet(ssrc, sequence));
                    let len = sender.protect_rtp(&mut buf, 1200).unwrap();
                    receiver.unprotect_rtp(&mut buf[..len]).unwrap();
                    buf[..8].copy_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, ssrc]);
                    let len = sender.protect_rtcp(&mut buf, 100).unwrap();
                    receiver.unprotect_rtcp(&mut buf[..len]).unwrap();
                    // Refusals too.
                    assert!(receiver.unprotect_rtcp(&mut buf[..len]).is_err());
                    buf[..1200].copy_from_slice(&packet(9, sequence));
                    assert!(receiver.unprotect_rtp(&mut buf[..1200]).is_err());
                }
            };
            // The streams are made here.
            assert!(measure(|| round(0)).count_total > 0);
            let info = measure(|| (1..1000).for_each(&mut round));
            assert_eq!(info.count_total, 0, "{profile:?} {cryptex:?}");
        }
    }
}

#[test]
fn one_to_many_allocates_nothing_per_packet() {
    let mut contexts: Vec<_> = (0..10)
        .map(|_| context(Profile::AeadAes128Gcm, Cryptex::Accept))
        .collect();
    let mut outs = vec![[0; 1300]; contexts.len()];
    let mut header = packet(1, 0);
    let mut send = |sequence: u16| {
        header[2..4].copy_from_slice(&sequence.to_be_bytes());
        let (header, payload) = header.split_at(20);
        let slots = contexts
            .iter_mut()
            .zip(&mut outs)
            .map(|(context, out)| Slot {
                context,
                header,
                out,
            });
        let mut count = 0;
        protect_many(payload, slots, |length| {
            assert_eq!(length, Ok(1216));
            count += 1;
        });
        assert_eq!(count, 10);
    };
    send(0);
    assert_eq!(measure(|| (1..1000).for_each(&mut send)).count_total, 0);
}
