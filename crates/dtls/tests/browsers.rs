//! The ClientHellos of Chromium 156 and Firefox 153, captured, and our answers to them.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{End, config};
use visavis_crypto::Group;
use visavis_datagram::Random;
use visavis_dtls::{Config, Connection, Version};

const HELLOS: [(&str, &[u8], &[u8]); 2] = [
    (
        "Chromium 156",
        include_bytes!("fixtures/chromium156_client_hello_0.bin"),
        include_bytes!("fixtures/chromium156_client_hello_1.bin"),
    ),
    (
        "Firefox 153",
        include_bytes!("fixtures/firefox153_client_hello_0.bin"),
        include_bytes!("fixtures/firefox153_client_hello_1.bin"),
    ),
];

fn server(config: Config, now: Instant) -> End {
    End::new(Connection::server(Arc::new(config), Random::from_u64(1), now).unwrap())
}

fn has(datagrams: &[Vec<u8>], bytes: &[u8]) -> bool {
    datagrams
        .iter()
        .any(|datagram| datagram.windows(bytes.len()).any(|window| window == bytes))
}

#[test]
fn two_fragments_in_any_order_and_number_get_one_server_hello() {
    for (name, first, second) in HELLOS {
        for order in [
            &[first, second][..],
            &[second, first],
            &[first, first, second],
            &[second, second, first, first],
        ] {
            let now = Instant::now();
            let mut server = server(config(2), now);
            for datagram in order {
                server.receive(now, datagram.to_vec());
            }
            let datagrams = server.transmit(now);
            assert!(!server.dtls.is_closed(), "{name}: {:?}", server.events);
            assert_eq!(server.dtls.version(), Some(Version::Dtls13), "{name}");
            // ServerHello in plaintext, then a flight under handshake keys.
            assert_eq!((datagrams[0][0], datagrams[0][13]), (22, 2), "{name}");
            assert_eq!(datagrams.len(), 2, "{name}");
            assert!(datagrams.iter().all(|datagram| datagram.len() <= 1200));
            assert!(
                has(&datagrams, &[0, 51, 4, 100, 0x11, 0xec]),
                "{name}: hybrid"
            );
            assert_eq!(
                datagrams[1][0] & 0b1110_0011,
                0b0010_0010,
                "{name}: epoch 2"
            );
            // The path is silent: the flight goes again, and the same hello prompts no more than that.
            assert!(server.dtls.poll_timeout().is_some());
        }
    }
}

#[test]
fn every_cut_of_a_browsers_hello_is_put_together() {
    for (name, first, second) in HELLOS {
        // The handshake message without its two fragment headers.
        let body = [&first[25..], &second[25..]].concat();
        for size in [100, 333, 700, 1400] {
            let now = Instant::now();
            let mut server = server(config(2), now);
            let mut random = Random::from_u64(size as u64);
            let mut pieces: Vec<Vec<u8>> = body
                .chunks(size)
                .enumerate()
                .map(|(index, piece)| {
                    let mut record = first[..25].to_vec();
                    record[10] = index as u8;
                    record[11..13].copy_from_slice(&(piece.len() as u16 + 12).to_be_bytes());
                    let offset = (index * size) as u32;
                    record[19..22].copy_from_slice(&offset.to_be_bytes()[1..]);
                    record[22..25].copy_from_slice(&(piece.len() as u32).to_be_bytes()[1..]);
                    record.extend_from_slice(piece);
                    record
                })
                .collect();
            while !pieces.is_empty() {
                let at = random.below(pieces.len() as u64) as usize;
                server.receive(now, pieces.swap_remove(at));
            }
            let datagrams = server.transmit(now);
            // Who cuts small has a narrow path: the answer is cut smaller as well.
            let most = if size < 1175 { 4 } else { 2 };
            assert!(
                (2..=most).contains(&datagrams.len()),
                "{name} in pieces of {size}: {}",
                datagrams.len()
            );
        }
    }
}

#[test]
fn a_server_of_1_2_answers_the_browsers_as_well() {
    for (name, first, second) in HELLOS {
        let now = Instant::now();
        let mut settings = config(2);
        settings.max_version = Version::Dtls12;
        let mut server = server(settings, now);
        server.receive(now, first.to_vec());
        server.receive(now, second.to_vec());
        let datagrams = server.transmit(now);
        assert_eq!(server.dtls.version(), Some(Version::Dtls12), "{name}");
        assert_eq!((datagrams[0][0], datagrams[0][13]), (22, 2), "{name}");
        // ECDHE_ECDSA_AES128_GCM, and use_srtp with AES-128-GCM, which both browsers offer.
        assert!(has(&datagrams, &[0xc0, 0x2b, 0]), "{name}: suite");
        assert!(
            has(&datagrams, &[0, 14, 0, 5, 0, 2, 0, 7, 0]),
            "{name}: SRTP"
        );
    }
}

#[test]
fn a_server_without_ml_kem_takes_the_x25519_share() {
    for (name, first, second) in HELLOS {
        let now = Instant::now();
        let mut settings = config(2);
        settings.groups = vec![Group::Secp256r1, Group::X25519];
        let mut server = server(settings, now);
        server.receive(now, first.to_vec());
        server.receive(now, second.to_vec());
        let datagrams = server.transmit(now);
        assert!(has(&datagrams, &[0, 51, 0, 36, 0, 29, 0, 32]), "{name}");
    }
}

#[test]
fn a_hello_again_prompts_the_flight_again_but_not_at_once() {
    for (name, first, second) in HELLOS {
        let mut now = Instant::now();
        let mut server = server(config(2), now);
        server.receive(now, first.to_vec());
        server.receive(now, second.to_vec());
        assert_eq!(server.transmit(now).len(), 2, "{name}");
        for _ in 0..1000 {
            server.receive(now, first.to_vec());
            server.receive(now, second.to_vec());
        }
        assert_eq!(server.transmit(now).len(), 0, "{name}: no amplifier");
        now += Duration::from_millis(300);
        server.receive(now, first.to_vec());
        assert_eq!(server.transmit(now).len(), 2, "{name}");
    }
}
