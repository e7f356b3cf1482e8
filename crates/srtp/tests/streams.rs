//! Streams: roll-over, replay, bounds, and what a forged packet can and cannot do.

use proptest::prelude::*;
use visavis_datagram::Random;
use visavis_srtp::{Context, Error, Options, Profile, Slot, protect_many};

const PROFILES: [Profile; 6] = [
    Profile::Aes128CmHmacSha1_80,
    Profile::Aes128CmHmacSha1_32,
    Profile::Aes256CmHmacSha1_80,
    Profile::Aes256CmHmacSha1_32,
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
];

fn context(profile: Profile, options: Options) -> Context {
    let mut random = Random::from_u64(7);
    let mut bytes = [0; 46];
    random.fill(&mut bytes);
    let (key, salt) = bytes.split_at(profile.key_len());
    Context::new(profile, key, &salt[..profile.salt_len()], options).unwrap()
}

fn pair(profile: Profile) -> (Context, Context) {
    (
        context(profile, Options::default()),
        context(profile, Options::default()),
    )
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A receiver report without blocks, and what else the test wants behind it.
fn rtcp(ssrc: u32, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(rest);
    packet
}

fn protect_rtp(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, Error> {
    let mut buf = [packet, &[0xee; 20]].concat();
    let len = context.protect_rtp(&mut buf, packet.len())?;
    buf.truncate(len);
    Ok(buf)
}

fn unprotect_rtp(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, Error> {
    let mut buf = packet.to_vec();
    let len = context.unprotect_rtp(&mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

fn protect_rtcp(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, Error> {
    let mut buf = [packet, &[0xee; 20]].concat();
    let len = context.protect_rtcp(&mut buf, packet.len())?;
    buf.truncate(len);
    Ok(buf)
}

fn unprotect_rtcp(context: &mut Context, packet: &[u8]) -> Result<Vec<u8>, Error> {
    let mut buf = packet.to_vec();
    let len = context.unprotect_rtcp(&mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

#[test]
fn a_stream_survives_rollovers_loss_and_reordering() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let mut random = Random::from_u64(1);
        let mut index = 65_000u64;
        for _ in 0..4000 {
            // A burst of eight in any order, some of them lost, then a gap.
            let mut burst: Vec<_> = (index..index + 8)
                .map(|index| {
                    let plain = rtp(5, index as u16, &index.to_be_bytes());
                    (protect_rtp(&mut sender, &plain).unwrap(), plain)
                })
                .collect();
            while !burst.is_empty() {
                let at = random.below(burst.len() as u64) as usize;
                let (sealed, plain) = burst.swap_remove(at);
                if random.chance(0.2) {
                    continue;
                }
                assert_eq!(unprotect_rtp(&mut receiver, &sealed).unwrap(), plain);
                assert_eq!(unprotect_rtp(&mut receiver, &sealed), Err(Error::Replayed));
            }
            index += 8 + random.below(100);
        }
        assert!(sender.sent_rollover(5).unwrap() >= 3);
        assert_eq!(sender.sent_rollover(5), receiver.received_rollover(5));
    }
}

#[test]
fn the_replay_window_is_as_long_as_asked() {
    for size in [64, 128, 1000, 4096] {
        let options = Options {
            rtp_replay_window: size,
            ..Options::default()
        };
        let mut sender = context(Profile::AeadAes128Gcm, options.clone());
        let mut receiver = context(Profile::AeadAes128Gcm, options);
        let reach = size.next_power_of_two() as usize;
        let packets: Vec<_> = (0..=reach as u16)
            .map(|sequence| protect_rtp(&mut sender, &rtp(1, sequence, b"x")).unwrap())
            .collect();
        unprotect_rtp(&mut receiver, &packets[reach]).unwrap();
        assert_eq!(
            unprotect_rtp(&mut receiver, &packets[0]),
            Err(Error::Replayed)
        );
        for packet in &packets[1..reach] {
            unprotect_rtp(&mut receiver, packet).unwrap();
        }
        for packet in &packets {
            assert_eq!(unprotect_rtp(&mut receiver, packet), Err(Error::Replayed));
        }
        assert_eq!(receiver.stats().replayed, 1 + reach as u64 + 1);
        assert_eq!(receiver.stats().rtp_unprotected, reach as u64);
    }
}

#[test]
fn every_forged_bit_and_every_cut_is_noticed_and_leaves_no_trace() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let sealed = protect_rtp(&mut sender, &rtp(9, 100, b"some payload")).unwrap();
        let sealed_rtcp = protect_rtcp(&mut sender, &rtcp(9, &[7; 24])).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect_rtp(&mut receiver, &forged).is_err(), "bit {bit}");
        }
        for bit in 0..sealed_rtcp.len() * 8 {
            let mut forged = sealed_rtcp.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect_rtcp(&mut receiver, &forged).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(unprotect_rtp(&mut receiver, &sealed[..len]).is_err());
        }
        for len in 0..sealed_rtcp.len() {
            assert!(unprotect_rtcp(&mut receiver, &sealed_rtcp[..len]).is_err());
        }
        assert_eq!(receiver.received_streams(), (0, 0));
        assert_eq!(
            unprotect_rtp(&mut receiver, &sealed).unwrap(),
            rtp(9, 100, b"some payload")
        );
        assert_eq!(
            unprotect_rtcp(&mut receiver, &sealed_rtcp).unwrap(),
            rtcp(9, &[7; 24])
        );
        let stats = receiver.stats();
        assert_eq!((stats.rtp_unprotected, stats.rtcp_unprotected), (1, 1));
        assert!(stats.authentication_failures > 0 && stats.malformed > 0);
    }
}

#[test]
fn a_forged_sequence_number_does_not_move_the_rollover_counter() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let sealed = protect_rtp(&mut sender, &rtp(9, 0xfff0, b"one")).unwrap();
        unprotect_rtp(&mut receiver, &sealed).unwrap();
        let next = protect_rtp(&mut sender, &rtp(9, 0xfff1, b"two")).unwrap();
        for sequence in (0..=u16::MAX).step_by(97) {
            let mut forged = next.clone();
            forged[2..4].copy_from_slice(&sequence.to_be_bytes());
            if sequence != 0xfff1 {
                assert!(unprotect_rtp(&mut receiver, &forged).is_err());
            }
        }
        assert_eq!(receiver.received_rollover(9), Some(0));
        unprotect_rtp(&mut receiver, &next).unwrap();
    }
}

#[test]
fn streams_are_bounded_and_the_bound_can_be_relieved() {
    let options = Options {
        max_streams: 3,
        ..Options::default()
    };
    let mut sender = context(Profile::AeadAes128Gcm, Options::default());
    let mut receiver = context(Profile::AeadAes128Gcm, options.clone());
    for ssrc in [30, 10, 20] {
        let sealed = protect_rtp(&mut sender, &rtp(ssrc, 1, b"x")).unwrap();
        unprotect_rtp(&mut receiver, &sealed).unwrap();
        let sealed = protect_rtcp(&mut sender, &rtcp(ssrc, b"")).unwrap();
        unprotect_rtcp(&mut receiver, &sealed).unwrap();
    }
    let sealed = protect_rtp(&mut sender, &rtp(40, 1, b"x")).unwrap();
    assert_eq!(
        unprotect_rtp(&mut receiver, &sealed),
        Err(Error::TooManyStreams)
    );
    let sealed_rtcp = protect_rtcp(&mut sender, &rtcp(40, b"")).unwrap();
    assert_eq!(
        unprotect_rtcp(&mut receiver, &sealed_rtcp),
        Err(Error::TooManyStreams)
    );
    assert_eq!(receiver.stats().streams_refused, 2);
    // The ones that are there go on.
    let next = protect_rtp(&mut sender, &rtp(10, 2, b"x")).unwrap();
    unprotect_rtp(&mut receiver, &next).unwrap();
    assert!(receiver.remove_stream(20) && !receiver.remove_stream(20));
    unprotect_rtp(&mut receiver, &sealed).unwrap();
    unprotect_rtcp(&mut receiver, &sealed_rtcp).unwrap();

    let mut sender = context(Profile::AeadAes128Gcm, options);
    for ssrc in 0..3 {
        protect_rtp(&mut sender, &rtp(ssrc, 1, b"x")).unwrap();
        protect_rtcp(&mut sender, &rtcp(ssrc, b"")).unwrap();
    }
    assert_eq!(
        protect_rtp(&mut sender, &rtp(3, 1, b"x")),
        Err(Error::TooManyStreams)
    );
    assert_eq!(
        protect_rtcp(&mut sender, &rtcp(3, b"")),
        Err(Error::TooManyStreams)
    );
}

#[test]
fn an_index_is_used_once_unless_the_application_insists() {
    for profile in PROFILES {
        let mut sender = context(profile, Options::default());
        protect_rtp(&mut sender, &rtp(1, 5, b"x")).unwrap();
        protect_rtp(&mut sender, &rtp(1, 6, b"x")).unwrap();
        assert_eq!(
            protect_rtp(&mut sender, &rtp(1, 5, b"y")),
            Err(Error::IndexUsed)
        );
        // Late, but not yet used.
        protect_rtp(&mut sender, &rtp(1, 4, b"x")).unwrap();
        let mut sender = context(
            profile,
            Options {
                allow_index_reuse: true,
                ..Options::default()
            },
        );
        let first = protect_rtp(&mut sender, &rtp(1, 5, b"x")).unwrap();
        assert_eq!(protect_rtp(&mut sender, &rtp(1, 5, b"x")).unwrap(), first);
    }
}

#[test]
fn rtcp_indexes_count_up_from_zero_for_each_sender() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        for index in 0..300u32 {
            for ssrc in [1, 2] {
                let sealed = protect_rtcp(&mut sender, &rtcp(ssrc, &[3; 8])).unwrap();
                let end = sealed.len()
                    - match profile {
                        Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => 0,
                        _ => 10,
                    };
                let trailer = u32::from_be_bytes(sealed[end - 4..end].try_into().unwrap());
                assert_eq!(trailer, 1 << 31 | index);
                unprotect_rtcp(&mut receiver, &sealed).unwrap();
                assert_eq!(unprotect_rtcp(&mut receiver, &sealed), Err(Error::Replayed));
            }
        }
    }
}

#[test]
fn rtcp_in_the_clear_passes_only_where_the_options_say_so() {
    for profile in PROFILES {
        let mut sender = context(
            profile,
            Options {
                encrypt_rtcp: false,
                ..Options::default()
            },
        );
        let plain = rtcp(1, b"to be read by all.......");
        let sealed = protect_rtcp(&mut sender, &plain).unwrap();
        assert_eq!(&sealed[..plain.len()], plain);
        let mut strict = context(profile, Options::default());
        assert_eq!(
            unprotect_rtcp(&mut strict, &sealed),
            Err(Error::Unencrypted)
        );
        let mut lenient = context(
            profile,
            Options {
                accept_unencrypted_rtcp: true,
                ..Options::default()
            },
        );
        assert_eq!(unprotect_rtcp(&mut lenient, &sealed).unwrap(), plain);
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(unprotect_rtcp(&mut lenient, &forged).is_err());
        }
    }
}

#[test]
fn a_buffer_without_room_is_refused_and_unchanged() {
    for profile in PROFILES {
        let mut sender = context(profile, Options::default());
        let packet = rtp(1, 1, b"payload");
        for room in 0..profile.rtp_overhead() {
            let mut buf = [&packet[..], &[0; 20]].concat();
            let result = sender.protect_rtp(&mut buf[..packet.len() + room], packet.len());
            assert_eq!(result, Err(Error::NoRoom));
            assert_eq!(buf[..packet.len()], packet);
        }
        assert_eq!(
            sender.protect_rtp(&mut packet.clone(), packet.len() + 1),
            Err(Error::NoRoom)
        );
        let packet = rtcp(1, b"");
        for room in 0..profile.rtcp_overhead() {
            let mut buf = [&packet[..], &[0; 20]].concat();
            let result = sender.protect_rtcp(&mut buf[..packet.len() + room], packet.len());
            assert_eq!(result, Err(Error::NoRoom));
        }
        // Nothing was used up.
        assert_eq!(sender.stats().rtp_protected, 0);
        protect_rtp(&mut sender, &rtp(1, 1, b"payload")).unwrap();
    }
}

#[test]
fn one_payload_goes_to_many_receivers_with_their_own_headers() {
    let mut senders: Vec<_> = PROFILES.iter().map(|&profile| pair(profile)).collect();
    let payload = [0xab; 500];
    let headers: Vec<_> = (0..PROFILES.len() as u32)
        .map(|index| rtp(index, 10 + index as u16, b""))
        .collect();
    let mut outs = vec![[0; 600]; PROFILES.len()];
    let slots =
        senders
            .iter_mut()
            .zip(&headers)
            .zip(&mut outs)
            .map(|(((sender, _), header), out)| Slot {
                context: sender,
                header,
                out,
            });
    let mut lens = Vec::new();
    protect_many(&payload, slots, |len| lens.push(len.unwrap()));
    for (((_, receiver), header), (out, len)) in
        senders.iter_mut().zip(&headers).zip(outs.iter().zip(lens))
    {
        let plain = unprotect_rtp(receiver, &out[..len]).unwrap();
        assert_eq!(plain, [&header[..], &payload].concat());
    }
}

#[test]
fn header_extension_elements_are_hidden_one_by_one() {
    for profile in PROFILES {
        let options = Options {
            encrypted_extensions: [1, 3].into_iter().collect(),
            ..Options::default()
        };
        let mut packet = rtp(1, 1, b"");
        packet[0] |= 0x10;
        packet.extend_from_slice(&[0xbe, 0xde, 0, 2, 0x10, 0xaa, 0x20, 0xbb, 0x30, 0xcc, 0, 0]);
        packet.extend_from_slice(b"payload");
        let sealed = protect_rtp(&mut context(profile, options.clone()), &packet).unwrap();
        // Only what stands in elements 1 and 3 differs; one byte each may be the same by chance.
        assert_eq!(sealed[..17], packet[..17]);
        assert_eq!(sealed[18..21], packet[18..21]);
        assert_eq!(sealed[22..24], packet[22..24]);
        assert!(sealed[17] != packet[17] || sealed[21] != packet[21]);
        let mut receiver = context(profile, options);
        assert_eq!(unprotect_rtp(&mut receiver, &sealed).unwrap(), packet);
    }
}

#[test]
fn keys_of_another_length_are_refused() {
    for profile in PROFILES {
        for len in 0..40 {
            let key = vec![1; len];
            let with_key = Context::new(
                profile,
                &key,
                &vec![1; profile.salt_len()],
                Options::default(),
            );
            assert_eq!(with_key.is_ok(), len == profile.key_len());
            let with_salt = Context::new(
                profile,
                &vec![1; profile.key_len()],
                &key,
                Options::default(),
            );
            assert_eq!(with_salt.is_ok(), len == profile.salt_len());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120), choice in 0..6usize) {
        let mut receiver = context(PROFILES[choice], Options::default());
        let mut packet = bytes.clone();
        prop_assert!(receiver.unprotect_rtp(&mut packet).is_err());
        let mut packet = bytes.clone();
        prop_assert!(receiver.unprotect_rtcp(&mut packet).is_err());
        prop_assert_eq!(receiver.received_streams(), (0, 0));
        let mut sender = context(PROFILES[choice], Options::default());
        let mut buf = bytes.clone();
        let _ = sender.protect_rtp(&mut buf, bytes.len() / 2);
        let _ = sender.protect_rtcp(&mut buf, bytes.len() / 2);
    }

    #[test]
    fn what_is_protected_comes_out_again(
        fixed in proptest::array::uniform12(any::<u8>()),
        csrcs in 0u8..4,
        extension in proptest::option::of((
            prop_oneof![Just(0xbede), Just(0x1000), Just(0xc0de), any::<u16>()],
            0u8..8,
        )),
        rest in proptest::collection::vec(any::<u8>(), 60..300),
        choice in 0..6usize,
        cryptex in any::<bool>(),
        ids in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let options = Options {
            cryptex: if cryptex { visavis_srtp::Cryptex::Send } else { visavis_srtp::Cryptex::Accept },
            encrypted_extensions: ids.into_iter().collect(),
            ..Options::default()
        };
        let mut packet = [&fixed[..], &rest].concat();
        packet[0] = packet[0] & 0x20 | 0x80 | csrcs;
        if let Some((profile, words)) = extension {
            packet[0] |= 0x10;
            let at = 12 + 4 * usize::from(csrcs);
            packet[at..at + 2].copy_from_slice(&profile.to_be_bytes());
            packet[at + 2..at + 4].copy_from_slice(&[0, words]);
        }
        let mut sender = context(PROFILES[choice], options.clone());
        let mut receiver = context(PROFILES[choice], options);
        if let Ok(sealed) = protect_rtp(&mut sender, &packet) {
            let mut plain = unprotect_rtp(&mut receiver, &sealed).unwrap();
            if plain.len() != packet.len() {
                // Contributing sources got an empty extension (RFC 9335 section 5.2).
                let end = 12 + 4 * usize::from(packet[0] & 0x0f);
                prop_assert!(cryptex && packet[0] & 0x10 == 0);
                prop_assert_eq!(plain.drain(end..end + 4).collect::<Vec<_>>(), [0xbe, 0xde, 0, 0]);
                plain[0] &= !0x10;
            }
            prop_assert_eq!(plain, packet);
        }
    }
}
