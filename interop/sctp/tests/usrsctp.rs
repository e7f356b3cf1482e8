//! Transfers between ours and usrsctp, both directions, over a path that loses and reorders, in
//! real time. `LONG=1` sends a gigabyte each, under 5 % loss: give it a release build.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use interop_sctp::usrsctp::{Output, Usrsctp, build};
use interop_sctp::{Delivery, Digest, Ours, Stack};
use visavis_datagram::{Random, TransmitBuf};
use visavis_sctp::{Config, Event};

/// Ours and usrsctp, with packets lost and swapped between.
struct Pair {
    ours: Ours,
    peer: Usrsctp,
    random: Random,
    loss: f64,
    /// Packets that will be overtaken by the next, to ours and to the peer.
    held: [Option<Vec<u8>>; 2],
    out: TransmitBuf,
    up: bool,
    resets: Vec<u16>,
    messages: Vec<(u16, Vec<u8>)>,
}

impl Pair {
    fn new(program: &Path, interleaving: bool, loss: f64) -> Self {
        let config = Config {
            interleaving,
            ..Config::default()
        };
        Self {
            ours: Ours::new(config, 1),
            peer: Usrsctp::start(program, interleaving, rto_min()),
            random: Random::from_u64(1),
            loss,
            held: [None, None],
            out: TransmitBuf::new(16, 1500),
            up: false,
            resets: Vec::new(),
            messages: Vec::new(),
        }
    }

    fn take(&mut self, now: Instant, output: Output) {
        match output {
            Output::Packet(packet) => {
                if self.random.chance(self.loss) {
                    return;
                }
                if self.random.chance(self.loss) && self.held[0].is_none() {
                    self.held[0] = Some(packet);
                    return;
                }
                self.ours.handle(now, &packet);
                if let Some(held) = self.held[0].take() {
                    self.ours.handle(now, &held);
                }
            }
            Output::Message(stream, data) => self.messages.push((stream, data)),
            Output::Up => self.up = true,
            Output::Reset(stream) => self.resets.push(stream),
        }
    }

    /// Everything that is due; waits a moment for the peer.
    fn step(&mut self) {
        let now = Instant::now();
        loop {
            self.out.clear();
            if !self.ours.transmit(now, &mut self.out) {
                break;
            }
            for (datagram, payload) in self.out.datagrams_mut() {
                if self.random.chance(self.loss) {
                    continue;
                }
                if self.random.chance(self.loss) && self.held[1].is_none() {
                    self.held[1] = Some(datagram[payload].to_vec());
                    continue;
                }
                self.peer.packet(&datagram[payload]);
                if let Some(held) = self.held[1].take() {
                    self.peer.packet(&held);
                }
            }
        }
        let wait = self
            .ours
            .poll_timeout()
            .map_or(Duration::from_millis(20), |at| {
                at.saturating_duration_since(now)
                    .min(Duration::from_millis(20))
            });
        let mut next = self.peer.next(wait);
        let now = Instant::now();
        while let Some(output) = next {
            self.take(now, output);
            next = self.peer.next(Duration::ZERO);
        }
        self.ours.handle_timeout(now);
    }

    fn connect(&mut self, by_peer: bool) {
        if by_peer {
            self.peer.connect();
        } else {
            self.ours.connect(Instant::now());
        }
        let end = Instant::now() + Duration::from_secs(20);
        while !(self.up && self.ours.is_connected()) {
            assert!(Instant::now() < end, "no association");
            self.step();
            let _ = self.ours.receive();
        }
    }
}

fn program() -> Option<PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| build(Path::new(env!("CARGO_TARGET_TMPDIR"))))
        .clone()
}

fn is_long() -> bool {
    std::env::var_os("LONG").is_some()
}

fn total() -> usize {
    if is_long() { 1 << 30 } else { 8 << 20 }
}

/// usrsctp waits a whole timeout for each retransmission that is lost again: of a gigabyte in real
/// time it cannot be long.
fn rto_min() -> Duration {
    Duration::from_millis(if is_long() { 30 } else { 300 })
}

/// 5 % in a long run; the short one has to end soon.
fn loss(short: f64) -> f64 {
    if is_long() { 0.05 } else { short }
}

fn message(random: &mut Random, number: u32) -> Vec<u8> {
    let mut data = vec![0; 8 + random.below(40_000) as usize];
    random.fill(&mut data[4..]);
    data[..4].copy_from_slice(&number.to_be_bytes());
    data
}

fn number(data: &[u8]) -> u32 {
    u32::from_be_bytes(data[..4].try_into().unwrap())
}

fn check(data: &[u8], seen: &mut Vec<bool>, next: &mut u32, how: Delivery) {
    let number = number(data);
    if seen.len() <= number as usize {
        seen.resize(number as usize + 1, false);
    }
    assert!(
        !std::mem::replace(&mut seen[number as usize], true),
        "twice"
    );
    match how {
        Delivery::Reliable => assert_eq!(number, *next, "order"),
        Delivery::MaxRetransmits(_) => assert!(number >= *next, "order"),
        Delivery::Unordered => {}
    }
    *next = number + 1;
}

const KINDS: [Delivery; 3] = [
    Delivery::Reliable,
    Delivery::Unordered,
    Delivery::MaxRetransmits(1),
];

/// Sends from one end, both kinds of chunks.
fn transfer(from_peer: bool, by_peer: bool, interleaving: bool, loss: f64) {
    let Some(program) = program() else { return };
    let mut pair = Pair::new(&program, interleaving, loss);
    pair.connect(by_peer);
    let negotiated = pair.ours.association.negotiated().unwrap();
    assert_eq!(negotiated.interleaving, interleaving);
    assert!(negotiated.partial_reliability && negotiated.reconfiguration);
    let mut random = Random::from_u64(9);
    let (mut sent, mut bytes) = ([0u32; 3], 0usize);
    let mut waiting: Option<(usize, Vec<u8>)> = None;
    let mut seen: [Vec<bool>; 3] = Default::default();
    let mut next = [0u32; 3];
    let mut received = 0usize;
    // Of the two reliable streams.
    let (mut sent_digest, mut digest) = (Digest::default(), Digest::default());
    let mut unreliable = HashMap::new();
    let start = Instant::now();
    let end = start + Duration::from_secs(if is_long() { 3600 } else { 120 });
    loop {
        while bytes < total() && bytes < received + (4 << 20) {
            let (kind, data) = waiting.take().unwrap_or_else(|| {
                let kind = random.below(3) as usize;
                let data = message(&mut random, sent[kind]);
                sent[kind] += 1;
                (kind, data)
            });
            if from_peer {
                pair.peer.send(kind as u16, &data, KINDS[kind]);
            } else {
                let payload = Bytes::from(data.clone());
                let now = Instant::now();
                if !pair.ours.send(now, kind as u16, payload, KINDS[kind]) {
                    waiting = Some((kind, data));
                    break;
                }
            }
            bytes += data.len();
            let mut whole = Digest::default();
            whole.add(kind as u16, &data);
            match kind {
                2 => drop(unreliable.insert(number(&data), whole)),
                _ => sent_digest.add(kind as u16, &data),
            }
        }
        pair.step();
        let mut arrived = std::mem::take(&mut pair.messages);
        while let Some((stream, data)) = pair.ours.receive() {
            arrived.push((stream, data.to_vec()));
        }
        for (stream, data) in arrived {
            let kind = usize::from(stream);
            received += data.len();
            check(&data, &mut seen[kind], &mut next[kind], KINDS[kind]);
            if kind == 2 {
                let mut whole = Digest::default();
                whole.add(stream, &data);
                assert_eq!(unreliable.remove(&number(&data)), Some(whole), "torn");
            } else {
                digest.add(stream, &data);
            }
        }
        let got = |kind: usize| seen[kind].iter().filter(|seen| **seen).count() as u32;
        if bytes >= total() && waiting.is_none() && got(0) == sent[0] && got(1) == sent[1] {
            assert!(got(2) > 0);
            assert_eq!(digest, sent_digest);
            println!("{digest:?} in {:?}", start.elapsed());
            return;
        }
        // What the unreliable stream lost frees room too.
        if received + (4 << 20) <= bytes {
            received += 4096;
        }
        assert!(
            Instant::now() < end,
            "{bytes} bytes sent, {sent:?}, arrived {:?}, {:?}",
            [got(0), got(1), got(2)],
            pair.ours.association.stats()
        );
    }
}

#[test]
fn ours_sends_to_usrsctp() {
    transfer(false, false, false, loss(0.02));
}

#[test]
fn ours_sends_to_usrsctp_with_interleaving() {
    transfer(false, true, true, loss(0.02));
}

#[test]
fn usrsctp_sends_to_ours() {
    transfer(true, true, false, loss(0.005));
}

#[test]
fn usrsctp_sends_to_ours_with_interleaving() {
    transfer(true, false, true, loss(0.005));
}

#[test]
fn streams_are_reset_both_ways_with_usrsctp() {
    let Some(program) = program() else { return };
    let mut pair = Pair::new(&program, false, 0.0);
    pair.connect(false);
    for round in 0..3u8 {
        let data = vec![round; 5000];
        let now = Instant::now();
        assert!(
            pair.ours
                .send(now, 1, data.clone().into(), Delivery::Reliable)
        );
        pair.peer.send(1, &data, Delivery::Reliable);
        pair.ours.reset(now, 1);
        pair.peer.reset(1);
        let (mut theirs, mut mine, mut outgoing) = (false, false, false);
        let mut message = false;
        let end = Instant::now() + Duration::from_secs(10);
        while !(theirs && mine && outgoing && message) {
            pair.step();
            while let Some((_, got)) = pair.ours.receive() {
                assert_eq!(got, data);
                message = true;
            }
            mine |= pair.ours.take_resets() == [1];
            theirs |= std::mem::take(&mut pair.resets).contains(&1);
            outgoing |= pair
                .ours
                .events
                .iter()
                .any(|event| matches!(event, Event::OutgoingReset(_)));
            assert!(
                Instant::now() < end,
                "round {round}: {theirs} {mine} {outgoing} {message}"
            );
        }
        pair.ours.events.clear();
    }
    assert_eq!(pair.messages.len(), 3);
}
