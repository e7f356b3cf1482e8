//! Random transfers over random networks: every reliable message arrives once, intact and in order
//! per stream; unreliable ones never twice or torn; nothing is left behind. `SEEDS=1000` for the
//! long run, `SEED=7` for one; a failure prints its seed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use visavis_datagram::{Ecn, Random, Segments, TransmitBuf};
use visavis_netsim::{CoDelConfig, Limit, LinkConfig, Pipe, PipeEnd, Queue, Side};
use visavis_sctp::{
    Association, CloseReason, Config, ControllerKind, Error, Event, PacketSizes, Ppid, Reliability,
    SchedulerKind, SendOptions, State, StreamId,
};

/// One end, what it has to send, and what it has got.
struct End {
    association: Association,
    random: Random,
    /// Messages still to be sent.
    left: u32,
    sent: [u32; STREAMS],
    next: [u32; STREAMS],
    seen: [HashSet<u32>; STREAMS],
    waiting: Option<(usize, Bytes)>,
    parts: [Vec<u8>; STREAMS],
    resets: u32,
    events: Vec<Event>,
    seed: u64,
}

/// Stream 0 and 1 ordered, 2 unordered, 3 ordered with limited retransmissions, 4 unordered with a
/// lifetime, 5 ordered without retransmissions.
const STREAMS: usize = 6;

fn options(stream: usize) -> SendOptions {
    let (ordered, reliability) = match stream {
        0 | 1 => (true, Reliability::Reliable),
        2 => (false, Reliability::Reliable),
        3 => (true, Reliability::MaxRetransmits(1)),
        4 => (false, Reliability::MaxLifetime(Duration::from_millis(60))),
        _ => (true, Reliability::MaxRetransmits(0)),
    };
    SendOptions {
        ordered,
        reliability,
    }
}

impl PipeEnd for End {
    fn handle_datagram(&mut self, now: Instant, ecn: Ecn, datagram: &mut [u8]) {
        self.association.handle_packet_with_ecn(now, datagram, ecn);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<(Segments, Ecn)> {
        let segments = self.association.poll_transmit(now, out)?;
        Some((segments, self.association.ecn()))
    }
}

impl End {
    fn new(config: Config, seed: u64, left: u32) -> Self {
        Self {
            association: Association::new(config, Random::from_u64(seed)),
            random: Random::from_u64(seed ^ 0xfeed),
            left,
            sent: [0; STREAMS],
            next: [0; STREAMS],
            seen: Default::default(),
            waiting: None,
            parts: Default::default(),
            resets: 0,
            events: Vec::new(),
            seed,
        }
    }

    fn message(&mut self, stream: usize) -> Bytes {
        let len = match self.random.below(8) {
            0..=3 => 8 + self.random.below(300),
            4..=6 => 8 + self.random.below(4_000),
            _ => 8 + self.random.below(60_000),
        };
        let mut bytes = vec![0; len as usize];
        self.random.fill(&mut bytes[8..]);
        bytes[..4].copy_from_slice(&self.sent[stream].to_be_bytes());
        self.sent[stream] += 1;
        let sum = sum(&bytes[8..]);
        bytes[4..8].copy_from_slice(&sum.to_be_bytes());
        bytes.into()
    }

    fn act(&mut self, now: Instant) {
        if self.association.state() != State::Established {
            return;
        }
        while self.left > 0 || self.waiting.is_some() {
            let (stream, data) = self.waiting.take().unwrap_or_else(|| {
                self.left -= 1;
                let stream = self.random.below(STREAMS as u64) as usize;
                (stream, self.message(stream))
            });
            let sent = self.association.send(
                now,
                StreamId(stream as u16),
                Ppid::BINARY,
                data.clone(),
                options(stream),
            );
            match sent {
                Ok(()) => {
                    // Now and then a stream is reset in the midst of it.
                    if self.random.chance(0.01) {
                        self.resets += 1;
                        let streams = [StreamId(stream as u16)];
                        self.association.reset_streams(now, &streams).unwrap();
                    }
                }
                Err(Error::WouldBlock | Error::StreamResetting(_)) => {
                    self.waiting = Some((stream, data));
                    break;
                }
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        }
        loop {
            while let Some(message) = self.association.recv() {
                let stream = usize::from(message.stream.0);
                if message.first && message.last {
                    self.take(stream, &message.data);
                    continue;
                }
                if message.first {
                    self.parts[stream].clear();
                }
                self.parts[stream].extend_from_slice(&message.data);
                if message.last {
                    let whole = std::mem::take(&mut self.parts[stream]);
                    self.take(stream, &whole);
                }
            }
            let Some(event) = self.association.poll_event() else {
                break;
            };
            if event != Event::Readable {
                self.events.push(event);
            }
        }
    }

    fn take(&mut self, stream: usize, bytes: &[u8]) {
        let seed = self.seed;
        let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let expected = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        assert_eq!(sum(&bytes[8..]), expected, "torn, seed {seed}");
        assert!(self.seen[stream].insert(number), "twice, seed {seed}");
        match stream {
            0 | 1 => assert_eq!(number, self.next[stream], "order, seed {seed}"),
            3 | 5 => assert!(number >= self.next[stream], "order, seed {seed}"),
            _ => {}
        }
        self.next[stream] = number + 1;
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, byte| {
        sum.rotate_left(5).wrapping_add(u32::from(*byte))
    })
}

fn link(random: &mut Random) -> LinkConfig {
    let delay = [0, 1, 10, 40, 120][random.below(5) as usize];
    let rate = [1, 5, 20, 100][random.below(4) as usize] * 1_000_000;
    let loss = [0.0, 0.0, 0.01, 0.05, 0.2][random.below(5) as usize];
    let queue = if random.chance(0.3) {
        Queue::CoDel(CoDelConfig::default())
    } else {
        Queue::DropTail(Limit::Time(Duration::from_millis(20 + random.below(200))))
    };
    LinkConfig::new()
        .delay(Duration::from_millis(delay))
        .rate(rate)
        .queue(queue)
        .random_loss(loss)
        .duplicate(if random.chance(0.3) { 0.02 } else { 0.0 })
        .reorder(
            if random.chance(0.4) { 0.05 } else { 0.0 },
            Duration::from_millis(1 + random.below(30)),
        )
}

fn config(random: &mut Random) -> Config {
    let mut config = Config {
        interleaving: random.chance(0.7),
        zero_checksum: random.chance(0.5),
        controller: [
            ControllerKind::Model,
            ControllerKind::Cubic,
            ControllerKind::NewReno,
        ][random.below(3) as usize],
        scheduler: [
            SchedulerKind::FirstCome,
            SchedulerKind::RoundRobin,
            SchedulerKind::WeightedFair,
        ][random.below(3) as usize],
        receive_window: [100_000, 1 << 20, 16 << 20][random.below(3) as usize],
        max_retransmissions: None,
        ..Config::default()
    };
    config.limits.send_buffer = [150_000, 1 << 20][random.below(2) as usize];
    config
}

fn run(seed: u64) {
    let mut random = Random::from_u64(seed);
    let start = Instant::now();
    let (there, back) = (link(&mut random), link(&mut random));
    let mut pipe = Pipe::asymmetric(start, seed, there.clone(), back.clone());
    let count = 40 + random.below(60) as u32;
    let mut a = End::new(config(&mut random), seed * 2, count);
    let mut b = End::new(config(&mut random), seed * 2 + 1, count / 2);
    a.association.connect(start).unwrap();
    if random.chance(0.7) {
        b.association.connect(start).unwrap();
    }
    let deadline = start + Duration::from_secs(1200);
    let done = pipe.run(&mut a, &mut b, deadline, |now, a, b| {
        a.act(now);
        b.act(now);
        let idle = |end: &End| {
            end.left == 0
                && end.waiting.is_none()
                && end.association.send_buffered() == 0
                && end.association.stats().in_flight == 0
        };
        let resets = |end: &End| {
            end.events
                .iter()
                .filter(|e| matches!(e, Event::OutgoingReset(_)))
                .map(|e| match e {
                    Event::OutgoingReset(streams) => streams.len() as u32,
                    _ => 0,
                })
                .sum::<u32>()
                >= end.resets
        };
        let state = |end: &End| end.association.state() == State::Established;
        state(a) && state(b) && idle(a) && idle(b) && resets(a) && resets(b)
    });
    // The last FORWARD-TSN may still be under way.
    let settle = pipe.now() + Duration::from_secs(120);
    pipe.run(&mut a, &mut b, settle, |now, a, b| {
        a.act(now);
        b.act(now);
        a.association.received_waiting() + b.association.received_waiting() == 0
    });
    let explain = || {
        format!(
            "seed {seed}: {there:?}\nback {back:?}\na {:?}\nb {:?}\n{:?}\n{:?}",
            a.association.stats(),
            b.association.stats(),
            a.events,
            b.events
        )
    };
    assert!(done, "not done, {}", explain());
    for (from, to) in [(&a, &b), (&b, &a)] {
        for stream in 0..3 {
            let got = to.seen[stream].len() as u32;
            assert_eq!(got, from.sent[stream], "stream {stream}, {}", explain());
        }
        assert_eq!(to.association.received_waiting(), 0, "{}", explain());
    }
}

#[test]
fn transfers_over_any_network_are_correct() {
    if let Ok(seed) = std::env::var("SEED") {
        return run(seed.parse().unwrap());
    }
    let seeds = std::env::var("SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(60);
    // The last ones failed once.
    for seed in (0..seeds).chain([136, 224, 547]) {
        run(seed);
    }
}

#[test]
fn path_mtu_is_found_and_used() {
    let start = Instant::now();
    let link = LinkConfig::new().delay(Duration::from_millis(10));
    let mut pipe = Pipe::new(start, 1, link);
    let probing = Config {
        packet_sizes: PacketSizes {
            base: 1188,
            max: 1412,
        },
        ..Config::default()
    };
    let mut a = End::new(probing.clone(), 1, 0);
    let mut b = End::new(Config::default(), 2, 0);
    a.association.connect(start).unwrap();
    let deadline = start + Duration::from_secs(2);
    pipe.run(&mut a, &mut b, deadline, |_, _, _| false);
    assert_eq!(a.association.stats().packet_size, 1412);
    let mut narrow = LinkConfig::new().delay(Duration::from_millis(10));
    narrow.mtu = 1300;
    narrow.icmp = false;
    let mut pipe = Pipe::new(start, 1, narrow);
    let mut a = End::new(probing, 1, 50);
    let mut b = End::new(Config::default(), 2, 0);
    a.association.connect(start).unwrap();
    let deadline = start + Duration::from_secs(30);
    pipe.run(&mut a, &mut b, deadline, |now, a, b| {
        a.act(now);
        b.act(now);
        false
    });
    let size = a.association.stats().packet_size;
    assert!((1248..=1272).contains(&size), "{size}");
}

/// Sends over an Ethernet path that becomes a tunnel's under way and does not say so. Answers the
/// sender when everything has arrived or the association is over.
fn over_a_narrowing_path(packet_sizes: PacketSizes) -> End {
    let start = Instant::now();
    let wide = LinkConfig::new()
        .delay(Duration::from_millis(10))
        .rate(20_000_000);
    let mut pipe = Pipe::new(start, 1, wide.clone());
    let config = Config {
        packet_sizes,
        ..Config::default()
    };
    let (mut a, mut b) = (End::new(config, 1, 0), End::new(Config::default(), 2, 0));
    a.association.connect(start).unwrap();
    let probed = start + Duration::from_secs(1);
    pipe.run(&mut a, &mut b, probed, |_, _, _| false);
    a.left = 400;
    let deadline = start + Duration::from_secs(120);
    let is_amid = pipe.run(&mut a, &mut b, deadline, |now, a, b| {
        a.act(now);
        b.act(now);
        a.left < 200 && a.association.stats().in_flight > 20_000
    });
    assert!(is_amid);
    let mut narrow = wide;
    narrow.mtu = 1280;
    narrow.icmp = false;
    pipe.set_link(Side::A, narrow);
    let is_over = pipe.run(&mut a, &mut b, deadline, |now, a, b| {
        a.act(now);
        b.act(now);
        let stats = a.association.stats();
        a.association.state() == State::Closed
            || (a.left == 0
                && a.waiting.is_none()
                && a.association.send_buffered() == 0
                && stats.in_flight == 0)
    });
    assert!(is_over);
    a.events
        .extend(std::iter::from_fn(|| a.association.poll_event()));
    a
}

/// Why the default does not probe: what was sent in large packets can never be sent in smaller
/// ones, because a chunk has one TSN.
#[test]
fn a_path_that_narrows_under_way_is_survived_by_the_default_size_alone() {
    let a = over_a_narrowing_path(PacketSizes::default());
    assert_eq!(a.association.state(), State::Established);
    assert_eq!(a.association.stats().packet_size, 1188);

    let a = over_a_narrowing_path(PacketSizes {
        max: 1412,
        ..PacketSizes::default()
    });
    assert_eq!(a.association.state(), State::Closed);
    assert!(a.events.contains(&Event::Closed(CloseReason::TimedOut)));
    // New data would have gone in small packets again.
    assert_eq!(a.association.stats().packet_size, 1188);
}

/// Two ends with a message under way, and a path that has been silent for 4 seconds: the next time-out is three away.
fn after_a_silence(start: Instant, way: &LinkConfig) -> (Pipe, End, End) {
    let mut pipe = Pipe::new(start, 1, way.clone());
    let (mut a, mut b) = (
        End::new(Config::default(), 1, 0),
        End::new(Config::default(), 2, 0),
    );
    a.association.connect(start).unwrap();
    let connected = start + Duration::from_secs(1);
    pipe.run(&mut a, &mut b, connected, |_, _, _| false);
    let send = |pipe: &Pipe, a: &mut End, bytes| {
        let (now, data) = (pipe.now(), Bytes::from(vec![0; bytes]));
        let options = SendOptions::default();
        a.association
            .send(now, StreamId(0), Ppid::BINARY, data, options)
            .unwrap();
    };
    send(&pipe, &mut a, 10);
    let deadline = connected + Duration::from_secs(1);
    let came = pipe.run(&mut a, &mut b, deadline, |_, _, b| {
        b.association.recv().is_some()
    });
    assert!(came);
    set_both(&mut pipe, &way.clone().random_loss(1.0));
    send(&pipe, &mut a, 5000);
    let now = pipe.now();
    pipe.run(&mut a, &mut b, now + Duration::from_secs(4), |_, _, _| {
        false
    });
    (pipe, a, b)
}

fn set_both(pipe: &mut Pipe, way: &LinkConfig) {
    for side in [Side::A, Side::B] {
        pipe.set_link(side, way.clone());
    }
}

/// Who is told that the path is back does not wait for the time-out that has grown meanwhile.
#[test]
fn a_path_that_is_back_is_used_at_once() {
    for told in [true, false] {
        let way = LinkConfig::new().delay(Duration::from_millis(20));
        let (mut pipe, mut a, mut b) = after_a_silence(Instant::now(), &way);
        set_both(&mut pipe, &way);
        let back = pipe.now();
        if told {
            a.association.path_changed(back);
        }
        let deadline = back + Duration::from_secs(5);
        let came = pipe.run(&mut a, &mut b, deadline, |_, _, b| {
            b.association.recv().is_some()
        });
        assert!(came);
        let took = pipe.now() - back;
        assert_eq!(told, took < Duration::from_millis(400), "{took:?}");
    }
}

/// What is sent at the very beginning of another path may be lost, as while the peer still answers by the old one.
#[test]
fn a_path_that_loses_at_first_is_used_soon() {
    let way = LinkConfig::new().delay(Duration::from_millis(20));
    let (mut pipe, mut a, mut b) = after_a_silence(Instant::now(), &way);
    let told = pipe.now();
    a.association.path_changed(told);
    pipe.run(
        &mut a,
        &mut b,
        told + Duration::from_millis(100),
        |_, _, _| false,
    );
    set_both(&mut pipe, &way);
    let deadline = told + Duration::from_secs(5);
    let came = pipe.run(&mut a, &mut b, deadline, |_, _, b| {
        b.association.recv().is_some()
    });
    assert!(came);
    let took = pipe.now() - told;
    assert!(took < Duration::from_millis(1200), "{took:?}");
}

/// The answer to what came by the old path is given by the new one.
#[test]
fn a_path_begins_with_what_has_arrived() {
    let start = Instant::now();
    let way = LinkConfig::new().delay(Duration::from_millis(20));
    let (mut pipe, mut a, mut b) = after_a_silence(start, &way);
    // Only there.
    pipe.set_link(Side::A, way.clone());
    a.association.path_changed(pipe.now());
    let arrived = pipe.now() + Duration::from_millis(200);
    pipe.run(&mut a, &mut b, arrived, |_, _, _| false);
    let before = a.association.stats().sacks_received;
    set_both(&mut pipe, &way);
    b.association.path_changed(pipe.now());
    let deadline = pipe.now() + Duration::from_millis(60);
    let answered = pipe.run(&mut a, &mut b, deadline, |_, a, _| {
        a.association.stats().sacks_received > before
    });
    assert!(answered);
}

/// The peer may be told of another path first, and be heard by it: that is no reason to wait for the rest.
#[test]
fn a_path_that_the_peer_was_told_of_first_is_used_at_once() {
    let way = LinkConfig::new().delay(Duration::from_millis(20));
    let (mut pipe, mut a, mut b) = after_a_silence(Instant::now(), &way);
    set_both(&mut pipe, &way);
    let now = pipe.now();
    b.association.path_changed(now);
    pipe.run(
        &mut a,
        &mut b,
        now + Duration::from_millis(50),
        |_, _, _| false,
    );
    let told = pipe.now();
    a.association.path_changed(told);
    let deadline = told + Duration::from_secs(5);
    let came = pipe.run(&mut a, &mut b, deadline, |_, _, b| {
        b.association.recv().is_some()
    });
    assert!(came);
    let took = pipe.now() - told;
    assert!(took < Duration::from_millis(400), "{took:?}");
}

#[test]
fn a_large_message_does_not_block_another_stream_with_interleaving() {
    let start = Instant::now();
    let slow = LinkConfig::new()
        .delay(Duration::from_millis(10))
        .rate(4_000_000);
    let mut pipe = Pipe::new(start, 1, slow);
    let mut a = End::new(Config::default(), 1, 0);
    let mut b = End::new(Config::default(), 2, 0);
    a.association.connect(start).unwrap();
    let connected = start + Duration::from_secs(1);
    pipe.run(&mut a, &mut b, connected, |_, _, _| false);
    let now = pipe.now();
    let send = |end: &mut End, stream, len| {
        end.association
            .send(
                now,
                StreamId(stream),
                Ppid::BINARY,
                Bytes::from(vec![0; len]),
                SendOptions::default(),
            )
            .unwrap();
    };
    send(&mut a, 0, 4 << 20);
    send(&mut a, 1, 100);
    let mut at = None;
    pipe.run(
        &mut a,
        &mut b,
        now + Duration::from_secs(20),
        |now, _, b| {
            while let Some(message) = b.association.recv() {
                if message.stream == StreamId(1) {
                    at = Some(now);
                }
            }
            at.is_some()
        },
    );
    let took = at.expect("it arrives") - now;
    assert!(took < Duration::from_millis(200), "{took:?}");
}
