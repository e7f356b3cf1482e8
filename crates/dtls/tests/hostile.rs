//! Bad input: forged, replayed, reordered, truncated, version-confused, oversized, garbage. Nothing
//! panics, nothing grows, all of it is counted.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{End, Pair, config};
use visavis_datagram::Random;
use visavis_dtls::{CloseReason, Config, Connection, Event, Version};

fn versions() -> [Version; 2] {
    [Version::Dtls12, Version::Dtls13]
}

fn pair(version: Version, seed: u64) -> Pair {
    let mut server = config(2);
    server.max_version = version;
    Pair::new(config(1), server, seed)
}

/// Changes a datagram in one of the ways that attackers know.
fn mutate(random: &mut Random, datagram: &mut Vec<u8>) {
    match random.below(6) {
        0 => datagram.truncate(random.below(datagram.len() as u64 + 1) as usize),
        1 => {
            for _ in 0..=random.below(4) {
                let at = random.below(datagram.len() as u64) as usize;
                datagram[at] ^= 1 << random.below(8);
            }
        }
        2 => {
            let at = random.below(datagram.len().min(40) as u64) as usize;
            datagram[at] = random.u32() as u8;
        }
        3 => {
            let mut tail = vec![0; random.below(60) as usize];
            random.fill(&mut tail);
            datagram.extend_from_slice(&tail);
        }
        4 => {
            let copy = datagram.clone();
            datagram.extend_from_slice(&copy);
        }
        _ => random.fill(datagram),
    }
}

#[test]
fn mutated_copies_of_every_datagram_harm_nobody() {
    for version in versions() {
        for seed in 0..40 {
            let mut random = Random::from_u64(seed);
            let mut pair = pair(version, seed);
            // Mutants of protected records only: plaintext has no defence, and is another test's.
            for _ in 0..400 {
                let mut datagrams: Vec<(bool, Vec<u8>)> = Vec::new();
                for datagram in pair.client.transmit(pair.now) {
                    datagrams.push((true, datagram));
                }
                for datagram in pair.server.transmit(pair.now) {
                    datagrams.push((false, datagram));
                }
                if datagrams.is_empty() {
                    if pair.client.dtls.is_connected() && pair.server.dtls.is_connected() {
                        break;
                    }
                    pair.elapse(Duration::from_secs(60));
                    continue;
                }
                for (to_server, datagram) in datagrams {
                    let protected = datagram[0] & 0xe0 == 0x20 || datagram[4] == 1;
                    let now = pair.now;
                    let to = if to_server {
                        &mut pair.server
                    } else {
                        &mut pair.client
                    };
                    if protected {
                        for _ in 0..3 {
                            let mut mutant = datagram.clone();
                            mutate(&mut random, &mut mutant);
                            // A mutant that turned into plaintext is out of scope here.
                            if mutant.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
                                to.receive(now, mutant);
                            }
                        }
                    }
                    to.receive(now, datagram.clone());
                    to.receive(now, datagram);
                }
            }
            pair.assert_connected(&format!("{version} seed {seed}"));
            pair.assert_data_flows(&format!("{version} seed {seed}"));
        }
    }
}

#[test]
fn any_bytes_in_any_state_neither_panic_nor_grow() {
    for version in versions() {
        for seed in 0..60 {
            let mut random = Random::from_u64(1000 + seed);
            let mut pair = pair(version, seed);
            let stop = random.below(8);
            let mut seen: Vec<Vec<u8>> = Vec::new();
            for _ in 0..stop {
                for datagram in pair.client.transmit(pair.now) {
                    seen.push(datagram.clone());
                    pair.server.receive(pair.now, datagram);
                }
                for datagram in pair.server.transmit(pair.now) {
                    seen.push(datagram.clone());
                    pair.client.receive(pair.now, datagram);
                }
            }
            for _ in 0..200 {
                let mut datagram = match seen.len() {
                    0 => vec![0; 100],
                    len => seen[random.below(len as u64) as usize].clone(),
                };
                mutate(&mut random, &mut datagram);
                let now = pair.now;
                let end = if random.chance(0.5) {
                    &mut pair.client
                } else {
                    &mut pair.server
                };
                end.receive(now, datagram);
                for datagram in end.transmit(now) {
                    assert!(datagram.len() <= 1200);
                }
            }
            pair.elapse(Duration::from_secs(60));
        }
    }
}

#[test]
fn replayed_records_are_dropped_and_counted() {
    for version in versions() {
        let mut pair = pair(version, 1);
        pair.exchange();
        let datagrams: Vec<_> = (0..10u8)
            .map(|byte| pair.client.seal(&[byte; 50]))
            .collect();
        for datagram in datagrams.iter().rev().chain(&datagrams) {
            pair.server.receive(pair.now, datagram.clone());
        }
        assert_eq!(pair.server.data.len(), 10, "{version}");
        assert_eq!(pair.server.dtls.stats().replayed, 10, "{version}");
    }
}

#[test]
fn forged_records_are_counted_and_their_limit_closes() {
    for version in versions() {
        let mut server = config(2);
        server.max_version = version;
        server.limits.forged_records = 20;
        let mut pair = Pair::new(config(1), server, 1);
        pair.exchange();
        for round in 0..21 {
            assert!(!pair.server.dtls.is_closed(), "{version} {round}");
            let mut datagram = pair.client.seal(&[0; 50]);
            *datagram.last_mut().unwrap() ^= 1;
            pair.server.receive(pair.now, datagram);
        }
        assert_eq!(pair.server.dtls.stats().forged, 21);
        assert_eq!(
            pair.server.events.last(),
            Some(&Event::Closed(CloseReason::TooManyForgeries))
        );
    }
}

/// A plaintext record with one handshake fragment.
fn fragment(kind: u8, length: u32, sequence: u16, offset: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    out.extend_from_slice(&(body.len() as u16 + 12).to_be_bytes());
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes()[1..]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(body);
    out
}

#[test]
fn fragments_that_claim_16_megabytes_are_refused() {
    let now = Instant::now();
    let mut end =
        End::new(Connection::server(Arc::new(config(2)), Random::from_u64(1), now).unwrap());
    for sequence in 0..100 {
        end.receive(now, fragment(1, 0xff_ffff, sequence, 0xff_0000, &[7; 1000]));
        end.receive(now, fragment(1, 0x4001, sequence, 0, &[7; 1000]));
    }
    assert_eq!(end.dtls.stats().fragments_refused, 200);
    assert_eq!(end.transmit(now).len(), 0);
    // And nothing has happened to who comes next.
    let mut pair = pair(Version::Dtls13, 1);
    pair.server
        .receive(now, fragment(1, 0xff_ffff, 0, 0xff_0000, &[7; 1000]));
    pair.exchange();
    pair.assert_connected("after a claim");
}

#[test]
fn forged_plaintext_in_mid_handshake_neither_ends_nor_resets_it() {
    let chromium = [
        include_bytes!("fixtures/chromium156_client_hello_0.bin").to_vec(),
        include_bytes!("fixtures/chromium156_client_hello_1.bin").to_vec(),
    ];
    for version in versions() {
        let mut pair = pair(version, 1);
        for datagram in pair.client.transmit(pair.now) {
            pair.server.receive(pair.now, datagram);
        }
        // The server has answered: another client's hello, messages out of turn, an alert.
        let mut forged = chromium.to_vec();
        for sequence in 0..4 {
            for kind in [0, 1, 4, 14, 24, 99] {
                forged.push(fragment(kind, 4, sequence, 0, &[1, 2, 3, 4]));
            }
        }
        for datagram in &forged {
            pair.server.receive(pair.now, datagram.clone());
        }
        let flight = pair.server.transmit(pair.now);
        for datagram in flight {
            pair.client.receive(pair.now, datagram);
        }
        for datagram in &forged[2..] {
            pair.client.receive(pair.now, datagram.clone());
        }
        for _ in 0..4 {
            pair.exchange();
            pair.elapse(Duration::from_secs(2));
        }
        pair.exchange();
        pair.assert_connected(&format!("{version}"));
        // Behind the handshake plaintext counts for nothing.
        for datagram in &forged {
            pair.server.receive(pair.now, datagram.clone());
            pair.client.receive(pair.now, datagram.clone());
        }
        let alert = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
        pair.server.receive(pair.now, alert.clone());
        pair.client.receive(pair.now, alert);
        pair.exchange();
        pair.assert_connected(&format!("{version} later"));
        assert_eq!(pair.server.dtls.stats().alerts_ignored, 1);
        pair.assert_data_flows(&format!("{version} later"));
    }
}

#[test]
fn certificate_garbage_is_an_alert() {
    // A client of 1.2 sends its certificate in plaintext: the one place to change it on the way.
    for seed in 0..40 {
        let mut random = Random::from_u64(seed);
        let mut pair = pair(Version::Dtls12, 1);
        for _ in 0..2 {
            for datagram in pair.client.transmit(pair.now) {
                let mut datagram = datagram;
                if datagram[13] == 11 {
                    for _ in 0..20 {
                        let at = 31 + random.below(300) as usize;
                        datagram[at] = random.u32() as u8;
                    }
                }
                pair.server.receive(pair.now, datagram);
            }
            for datagram in pair.server.transmit(pair.now) {
                pair.client.receive(pair.now, datagram);
            }
        }
        assert!(pair.server.dtls.is_closed(), "seed {seed}");
        assert!(!pair.client.dtls.is_connected(), "seed {seed}");
    }
}

#[test]
fn without_an_answer_a_handshake_ends_in_time() {
    let now = Instant::now();
    let mut settings: Config = config(1);
    settings.handshake_timeout = Duration::from_secs(30);
    let mut pair = Pair::new(settings, config(2), 1);
    let mut sent = 0;
    while !pair.client.dtls.is_closed() {
        sent += pair.client.transmit(pair.now).len();
        assert!(pair.elapse(Duration::from_secs(60)));
        pair.client.poll();
    }
    assert!(pair.now - now >= Duration::from_secs(30));
    assert_eq!(pair.client.events, [Event::Closed(CloseReason::Timeout)]);
    assert!((30..120).contains(&sent), "{sent}");
}
