//! Every packet that libsrtp2 protects comes out of ours, and the other way round; what we protect
//! is what libsrtp2 would have sent, byte for byte.

use interop_srtp::{Operation, Oracle};
use visavis_datagram::Random;
use visavis_srtp::{Context, Options, Profile};

const PROFILES: [Profile; 6] = [
    Profile::Aes128CmHmacSha1_80,
    Profile::Aes128CmHmacSha1_32,
    Profile::Aes256CmHmacSha1_80,
    Profile::Aes256CmHmacSha1_32,
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
];

/// Packets per profile, with and without RFC 6904: 12,000 in all, RTP and RTCP each.
const PACKETS: u64 = 1000;

/// The header extensions that are encrypted where any are.
const IDS: [u8; 3] = [1, 3, 14];

fn rtp(random: &mut Random, sequence: u16) -> Vec<u8> {
    let csrcs = random.below(4) as u8;
    let mut packet = vec![0x80 | csrcs, 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&random.bytes::<4>());
    packet.extend_from_slice(&(1 + random.below(3) as u32).to_be_bytes());
    for _ in 0..csrcs {
        packet.extend_from_slice(&random.bytes::<4>());
    }
    let mut elements = Vec::new();
    let profile: u16 = match random.below(3) {
        0 => 0,
        1 => {
            for _ in 0..random.below(5) {
                let len = 1 + random.below(16) as u8;
                elements.push((1 + random.below(14) as u8) << 4 | (len - 1));
                (0..len).for_each(|_| elements.push(random.u32() as u8));
            }
            0xbede
        }
        _ => {
            for _ in 0..random.below(5) {
                let len = random.below(40) as u8;
                elements.extend([1 + random.below(20) as u8, len]);
                (0..len).for_each(|_| elements.push(random.u32() as u8));
            }
            0x1000
        }
    };
    if profile != 0 {
        elements.resize(elements.len().next_multiple_of(4), 0);
        packet[0] |= 0x10;
        packet.extend_from_slice(&profile.to_be_bytes());
        packet.extend_from_slice(&(elements.len() as u16 / 4).to_be_bytes());
        packet.extend_from_slice(&elements);
    }
    let len = match random.below(4) {
        0 => random.below(4),
        1 => random.below(200),
        _ => random.below(1300),
    };
    (0..len).for_each(|_| packet.push(random.u32() as u8));
    packet
}

fn rtcp(random: &mut Random) -> Vec<u8> {
    let words = 1 + random.below(60) as u8;
    let mut packet = vec![0x80, 200, 0, words];
    packet.extend_from_slice(&(1 + random.below(3) as u32).to_be_bytes());
    (1..words).for_each(|_| packet.extend_from_slice(&random.bytes::<4>()));
    packet
}

#[test]
fn ten_thousand_random_packets_both_ways() {
    let mut oracle = Oracle::start();
    let seed = 20_261_122;
    let mut random = Random::from_u64(seed);
    let mut packets = 0;
    for profile in PROFILES {
        for ids in [&[][..], &IDS] {
            let mut key = vec![0; profile.key_len()];
            let mut salt = vec![0; profile.salt_len()];
            random.fill(&mut key);
            random.fill(&mut salt);
            oracle.set_keys(profile, &key, &salt, ids);
            let options = Options {
                encrypted_extensions: ids.iter().copied().collect(),
                ..Options::default()
            };
            let mut sender = Context::new(profile, &key, &salt, options.clone()).unwrap();
            let mut receiver = Context::new(profile, &key, &salt, options).unwrap();
            let mut buf = [0; 4000];
            let mut sequence = 65_000u16;
            for _ in 0..PACKETS {
                // The index rolls over several times.
                sequence = sequence.wrapping_add(1 + random.below(500) as u16);
                let plain = rtp(&mut random, sequence);
                let place = || format!("seed {seed}, {profile:?}, {ids:?}, packet {packets}");

                buf[..plain.len()].copy_from_slice(&plain);
                let len = sender.protect_rtp(&mut buf, plain.len()).unwrap();
                let theirs = oracle.ask(Operation::ProtectRtp, &plain);
                assert_eq!(theirs.as_deref(), Ok(&buf[..len]), "{}", place());
                let opened = oracle.ask(Operation::UnprotectRtp, &buf[..len]);
                assert_eq!(opened.as_ref(), Ok(&plain), "{}", place());
                let opened = receiver.unprotect_rtp(&mut buf[..len]).unwrap();
                assert_eq!(&buf[..opened], plain, "{}", place());

                let plain = rtcp(&mut random);
                let mut theirs = oracle.ask(Operation::ProtectRtcp, &plain).unwrap();
                let opened = receiver.unprotect_rtcp(&mut theirs).unwrap();
                assert_eq!(&theirs[..opened], plain, "{}", place());
                buf[..plain.len()].copy_from_slice(&plain);
                let len = sender.protect_rtcp(&mut buf, plain.len()).unwrap();
                let opened = oracle.ask(Operation::UnprotectRtcp, &buf[..len]);
                assert_eq!(opened.as_ref(), Ok(&plain), "{}", place());
                packets += 1;
            }
            assert!(sender.sent_rollover(1).unwrap() > 1);
        }
    }
    assert!(packets >= 10_000);
}

#[test]
fn what_was_tampered_with_is_refused_by_both() {
    const AUTHENTICATION_FAILURE: u8 = 7;
    let mut oracle = Oracle::start();
    let mut random = Random::from_u64(1);
    for profile in PROFILES {
        let (key, salt) = (vec![1; profile.key_len()], vec![2; profile.salt_len()]);
        oracle.set_keys(profile, &key, &salt, &[]);
        let mut sender = Context::new(profile, &key, &salt, Options::default()).unwrap();
        let mut receiver = Context::new(profile, &key, &salt, Options::default()).unwrap();
        for sequence in 0..200 {
            let plain = rtp(&mut random, sequence);
            let mut buf = [&plain[..], &[0; 20]].concat();
            let len = sender.protect_rtp(&mut buf, plain.len()).unwrap();
            // Behind the header, so that both get as far as the tag.
            let at = len - 1 - random.below(profile.rtp_overhead() as u64) as usize;
            buf[at] ^= 1 << random.below(8);
            let theirs = oracle.ask(Operation::UnprotectRtp, &buf[..len]);
            assert_eq!(theirs, Err(AUTHENTICATION_FAILURE));
            assert!(receiver.unprotect_rtp(&mut buf[..len]).is_err());
        }
    }
}
