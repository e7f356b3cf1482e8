//! Transfers between ours and each foreign stack, both directions, over a network that loses,
//! reorders and duplicates. `LONG=1` sends a gigabyte each: give it a release build.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use interop_sctp::{Dcsctp, Delivery, Digest, End, Ours, SctpProto, Stack, browser_options};
use visavis_datagram::Random;
use visavis_netsim::{LinkConfig, Pipe};
use visavis_sctp::{Config, Event};

/// A message that tells its stream and its number.
fn message(random: &mut Random, stream: u16, number: u32) -> Bytes {
    let len = match random.below(10) {
        0..=3 => 9 + random.below(200),
        4..=7 => 9 + random.below(5_000),
        _ => 9 + random.below(100_000),
    } as usize;
    let mut bytes = vec![0; len];
    random.fill(&mut bytes[8..]);
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[4..6].copy_from_slice(&stream.to_be_bytes());
    bytes.into()
}

fn number(stream: u16, data: &[u8]) -> u32 {
    assert_eq!(u16::from_be_bytes([data[4], data[5]]), stream);
    u32::from_be_bytes([data[0], data[1], data[2], data[3]])
}

fn bytes_to_send() -> u64 {
    if std::env::var_os("LONG").is_some() {
        1 << 30
    } else {
        20 << 20
    }
}

fn lossy() -> LinkConfig {
    LinkConfig::new()
        .delay(Duration::from_millis(5))
        .rate(200_000_000)
        .random_loss(0.05)
        .duplicate(0.01)
        .reorder(0.02, Duration::from_millis(3))
}

/// Streams 0 and 1 reliable and ordered, 2 unordered, 3 with one retransmission.
const KINDS: [Delivery; 4] = [
    Delivery::Reliable,
    Delivery::Reliable,
    Delivery::Unordered,
    Delivery::MaxRetransmits(1),
];

fn transfer<A: Stack + 'static, B: Stack + 'static>(
    start: Instant,
    seed: u64,
    from: A,
    to: B,
    total: u64,
) -> (End<A>, End<B>) {
    let mut pipe = Pipe::new(start, seed, lossy());
    let (mut a, mut b) = (End(Box::new(from)), End(Box::new(to)));
    a.0.connect(start);
    let mut random = Random::from_u64(seed);
    let mut sent = [0u32; 4];
    let mut waiting: Option<(u16, Bytes)> = None;
    let mut bytes = 0u64;
    let mut next = [0u32; 4];
    let mut unordered = HashSet::new();
    // What was sent and what arrived on the reliable streams, and what may arrive on the other.
    let (mut sent_digest, mut digest) = (Digest::default(), Digest::default());
    let mut unreliable = HashMap::new();
    // Of simulated time: a slow controller under such loss needs some.
    let deadline = start + Duration::from_secs(24 * 3600);
    let done = pipe.run(&mut a, &mut b, deadline, |now, a, b| {
        if !a.0.is_connected() {
            return false;
        }
        while bytes < total {
            let (stream, data) = waiting.take().unwrap_or_else(|| {
                let stream = random.below(4) as u16;
                let data = message(&mut random, stream, sent[usize::from(stream)]);
                sent[usize::from(stream)] += 1;
                (stream, data)
            });
            if !a
                .0
                .send(now, stream, data.clone(), KINDS[usize::from(stream)])
            {
                waiting = Some((stream, data));
                break;
            }
            bytes += data.len() as u64;
            if let Delivery::MaxRetransmits(_) = KINDS[usize::from(stream)] {
                let mut digest = Digest::default();
                digest.add(stream, &data);
                unreliable.insert(number(stream, &data), digest);
            } else {
                sent_digest.add(stream, &data);
            }
        }
        while let Some((stream, data)) = b.0.receive() {
            let number = number(stream, &data);
            let expected = &mut next[usize::from(stream)];
            match KINDS[usize::from(stream)] {
                Delivery::Reliable => {
                    assert_eq!(number, *expected, "stream {stream}, seed {seed}");
                    *expected += 1;
                    digest.add(stream, &data);
                }
                Delivery::Unordered => {
                    assert!(unordered.insert(number), "twice, seed {seed}");
                    *expected += 1;
                    digest.add(stream, &data);
                }
                Delivery::MaxRetransmits(_) => {
                    assert!(number >= *expected, "order or twice, seed {seed}");
                    *expected = number + 1;
                    let mut whole = Digest::default();
                    whole.add(stream, &data);
                    assert_eq!(unreliable.remove(&number), Some(whole), "torn, seed {seed}");
                }
            }
        }
        bytes >= total && waiting.is_none() && next[..3] == sent[..3]
    });
    assert!(
        done,
        "seed {seed}: {bytes} bytes sent, {next:?} of {sent:?} arrived by {:?}",
        pipe.now() - start
    );
    assert!(next[3] > 0, "some of the unreliable arrive");
    assert_eq!(digest, sent_digest, "seed {seed}");
    println!(
        "{} -> {}: {} MB in {:?} of network time",
        a.0.name(),
        b.0.name(),
        bytes >> 20,
        pipe.now() - start
    );
    (a, b)
}

#[test]
fn ours_sends_to_chromiums() {
    let start = Instant::now();
    let peer = Dcsctp::new(start, &browser_options(false));
    let (_, peer) = transfer(
        start,
        1,
        Ours::new(Config::default(), 1),
        peer,
        bytes_to_send(),
    );
    assert_eq!(peer.0.uses(), (false, false));
    assert!(peer.0.errors.is_empty(), "{:?}", peer.0.errors);
}

#[test]
fn ours_sends_to_firefoxs_with_interleaving() {
    let start = Instant::now();
    let peer = Dcsctp::new(start, &browser_options(true));
    let (_, peer) = transfer(
        start,
        2,
        Ours::new(Config::default(), 1),
        peer,
        bytes_to_send(),
    );
    assert!(peer.0.uses().0);
    assert!(peer.0.errors.is_empty(), "{:?}", peer.0.errors);
}

#[test]
fn chromiums_sends_to_ours() {
    let start = Instant::now();
    let peer = Dcsctp::new(start, &browser_options(false));
    let total = bytes_to_send();
    transfer(start, 3, peer, Ours::new(Config::default(), 1), total);
}

#[test]
fn firefoxs_sends_to_ours() {
    let start = Instant::now();
    let peer = Dcsctp::new(start, &browser_options(true));
    let total = bytes_to_send();
    transfer(start, 4, peer, Ours::new(Config::default(), 1), total);
}

#[test]
fn zero_checksum_is_agreed_with_dcsctp() {
    let start = Instant::now();
    let mut options = browser_options(true);
    options.zero_checksum_alternate_error_detection_method =
        dcsctp::api::ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS;
    let peer = Dcsctp::new(start, &options);
    let (ours, peer) = transfer(start, 5, Ours::new(Config::default(), 1), peer, 5 << 20);
    assert_eq!(peer.0.uses(), (true, true));
    assert!(ours.0.association.negotiated().unwrap().zero_checksum);
    transfer(
        start,
        6,
        Dcsctp::new(start, &options),
        Ours::new(Config::default(), 1),
        5 << 20,
    );
}

#[test]
fn ours_sends_to_sctp_proto() {
    let start = Instant::now();
    let peer = SctpProto::new(1160, 4 << 20);
    transfer(
        start,
        7,
        Ours::new(Config::default(), 1),
        peer,
        bytes_to_send(),
    );
}

#[test]
fn sctp_proto_sends_to_ours() {
    let start = Instant::now();
    let peer = SctpProto::new(1160, 4 << 20);
    let total = bytes_to_send();
    transfer(start, 8, peer, Ours::new(Config::default(), 1), total);
}

#[test]
fn both_ends_connect_at_once_with_dcsctp() {
    let start = Instant::now();
    let mut pipe = Pipe::new(start, 9, LinkConfig::new().delay(Duration::from_millis(20)));
    let mut a = End(Box::new(Ours::new(Config::default(), 1)));
    let mut b = End(Box::new(Dcsctp::new(start, &browser_options(false))));
    a.0.connect(start);
    b.0.connect(start);
    let deadline = start + Duration::from_secs(5);
    assert!(
        pipe.run(&mut a, &mut b, deadline, |_, a, b| a.0.is_connected()
            && b.0.is_connected())
    );
    assert!(b.0.errors.is_empty(), "{:?}", b.0.errors);
}

#[test]
fn streams_are_reset_both_ways_with_dcsctp() {
    for firefox in [false, true] {
        let start = Instant::now();
        let mut pipe = Pipe::new(start, 10, lossy());
        let mut a = End(Box::new(Ours::new(Config::default(), 1)));
        let mut b = End(Box::new(Dcsctp::new(start, &browser_options(firefox))));
        a.0.connect(start);
        let deadline = start + Duration::from_secs(20);
        assert!(
            pipe.run(&mut a, &mut b, deadline, |_, a, b| a.0.is_connected()
                && b.0.is_connected())
        );
        for round in 0..5u32 {
            let now = pipe.now();
            let data = Bytes::from(vec![round as u8; 20_000]);
            assert!(a.0.send(now, 1, data.clone(), Delivery::Reliable));
            assert!(b.0.send(now, 1, data.clone(), Delivery::Reliable));
            a.0.reset(now, 1);
            b.0.reset(now, 1);
            let mut got = [false; 4];
            let mut outgoing = false;
            let deadline = now + Duration::from_secs(30);
            let done = pipe.run(&mut a, &mut b, deadline, |_, a, b| {
                while let Some((_, received)) = a.0.receive() {
                    assert_eq!(received, data);
                    got[0] = true;
                }
                while let Some((_, received)) = b.0.receive() {
                    assert_eq!(received, data);
                    got[1] = true;
                }
                got[2] |= a.0.take_resets() == [1];
                got[3] |= b.0.take_resets() == [1];
                outgoing |=
                    a.0.events
                        .iter()
                        .any(|event| matches!(event, Event::OutgoingReset(_)));
                got == [true; 4] && outgoing
            });
            assert!(done, "round {round}: {got:?}, outgoing {outgoing}");
            a.0.events.clear();
            // Let the last response arrive at dcsctp before its stream is used again.
            let settle = pipe.now() + Duration::from_secs(3);
            pipe.run(&mut a, &mut b, settle, |_, _, _| false);
            assert!(b.0.errors.is_empty(), "{:?}", b.0.errors);
        }
    }
}

#[test]
fn shutdown_is_orderly_with_dcsctp() {
    for ours_first in [true, false] {
        let start = Instant::now();
        let mut pipe = Pipe::new(start, 11, LinkConfig::new().delay(Duration::from_millis(5)));
        let mut a = End(Box::new(Ours::new(Config::default(), 1)));
        let mut b = End(Box::new(Dcsctp::new(start, &browser_options(false))));
        a.0.connect(start);
        let deadline = start + Duration::from_secs(5);
        pipe.run(&mut a, &mut b, deadline, |_, a, b| {
            a.0.is_connected() && b.0.is_connected()
        });
        let data = Bytes::from(vec![1; 100_000]);
        assert!(a.0.send(pipe.now(), 1, data, Delivery::Reliable));
        if ours_first {
            a.0.association.shutdown(pipe.now());
        } else {
            b.0.shutdown();
        }
        let deadline = pipe.now() + Duration::from_secs(5);
        let done = pipe.run(&mut a, &mut b, deadline, |_, a, b| {
            let _ = a.0.receive();
            while b.0.receive().is_some() {}
            b.0.is_closed()
                && a.0
                    .events
                    .contains(&Event::Closed(visavis_sctp::CloseReason::Shutdown))
        });
        assert!(done, "{ours_first} {:?} {:?}", a.0.events, b.0.errors);
    }
}

#[test]
fn a_peer_that_restarts_is_heard_again() {
    let start = Instant::now();
    let mut pipe = Pipe::new(start, 12, LinkConfig::new().delay(Duration::from_millis(5)));
    let mut a = End(Box::new(Ours::new(Config::default(), 1)));
    let mut b = End(Box::new(Dcsctp::new(start, &browser_options(false))));
    b.0.connect(start);
    let deadline = start + Duration::from_secs(5);
    assert!(
        pipe.run(&mut a, &mut b, deadline, |_, a, b| a.0.is_connected()
            && b.0.is_connected())
    );
    let mut b = End(Box::new(Dcsctp::new(start, &browser_options(false))));
    b.0.connect(pipe.now());
    let mut got = false;
    let deadline = pipe.now() + Duration::from_secs(5);
    let mut sent = false;
    let done = pipe.run(&mut a, &mut b, deadline, |now, a, b| {
        if b.0.is_connected() && !sent {
            sent =
                b.0.send(now, 1, Bytes::from_static(b"again"), Delivery::Reliable);
        }
        got |= a.0.receive().is_some();
        got && a.0.events.iter().any(|e| matches!(e, Event::Restarted(_)))
    });
    assert!(done, "{:?}", a.0.events);
}

#[test]
fn inits_by_signalling_open_the_association_with_sctp_proto() {
    let start = Instant::now();
    let mut pipe = Pipe::new(
        start,
        13,
        LinkConfig::new().delay(Duration::from_millis(50)),
    );
    let mut a = End(Box::new(Ours::new(Config::default(), 1)));
    let mut b = End(Box::new(SctpProto::new(1160, 4 << 20)));
    let (own, peer) = (a.0.association.init_chunk(), b.0.init_chunk());
    a.0.association
        .connect_with_remote_init(start, &peer)
        .unwrap();
    b.0.connect_with_inits(peer, own);
    let data = Bytes::from_static(b"no round trip before me");
    assert!(a.0.send(start, 1, data.clone(), Delivery::Reliable));
    assert!(b.0.send(start, 1, data.clone(), Delivery::Reliable));
    let (mut at_a, mut at_b) = (None, None);
    let deadline = start + Duration::from_secs(5);
    pipe.run(&mut a, &mut b, deadline, |now, a, b| {
        if a.0.receive() == Some((1, data.clone())) {
            at_a = Some(now - start);
        }
        if b.0.receive() == Some((1, data.clone())) {
            at_b = Some(now - start);
        }
        at_a.is_some() && at_b.is_some()
    });
    let half = Duration::from_millis(50);
    assert_eq!(
        (at_a, at_b),
        (Some(half), Some(half)),
        "half a round trip each"
    );
}
