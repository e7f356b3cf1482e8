//! Data in steady state allocates nothing, and what is under way does not grow with what is sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use visavis_datagram::{Random, TransmitBuf};
use visavis_sctp::{Association, Config, Ppid, SendOptions, State, StreamId};

/// Two associations on a path of a tenth of a millisecond, without anything between that allocates.
struct Pair {
    now: Instant,
    a: Association,
    b: Association,
    out: TransmitBuf,
}

impl Pair {
    fn connected(config: Config) -> Self {
        let now = Instant::now();
        let mut pair = Self {
            now,
            a: Association::new(config.clone(), Random::from_u64(1)),
            b: Association::new(config, Random::from_u64(2)),
            out: TransmitBuf::new(48, 1300),
        };
        pair.a.connect(now).unwrap();
        while pair.a.state() != State::Established || pair.b.state() != State::Established {
            pair.carry();
        }
        pair
    }

    /// Everything that waits, both ways.
    fn carry(&mut self) {
        self.now += Duration::from_micros(100);
        let Self { now, a, b, out } = self;
        for forth in [true, false] {
            let (from, to) = if forth {
                (&mut *a, &mut *b)
            } else {
                (&mut *b, &mut *a)
            };
            if from.poll_timeout().is_some_and(|at| at <= *now) {
                from.handle_timeout(*now);
            }
            out.clear();
            while from.poll_transmit(*now, out).is_some() {
                for (datagram, payload) in out.datagrams_mut() {
                    to.handle_packet(*now, &datagram[payload]);
                }
                out.clear();
            }
            while from.poll_event().is_some() {}
        }
    }
}

fn config() -> Config {
    let mut config = Config {
        receive_window: 1 << 20,
        ..Config::default()
    };
    config.limits.send_buffer = 1 << 20;
    config
}

/// Sends so many messages of that size; answers the allocations.
fn transfer(pair: &mut Pair, message: &Bytes, count: usize) -> u64 {
    let (mut sent, mut got) = (0, 0);
    let allocations = allocation_counter::measure(|| {
        while got < count * message.len() {
            while sent < count
                && pair
                    .a
                    .send(
                        pair.now,
                        StreamId(1),
                        Ppid::BINARY,
                        message.clone(),
                        SendOptions::default(),
                    )
                    .is_ok()
            {
                sent += 1;
            }
            pair.carry();
            while let Some(message) = pair.b.recv() {
                got += message.data.len();
            }
        }
    });
    allocations.count_total
}

#[test]
fn messages_in_steady_state_allocate_nothing() {
    for interleaving in [false, true] {
        for size in [100, 1100, 16_384] {
            let mut pair = Pair::connected(Config {
                interleaving,
                ..config()
            });
            let message = Bytes::from(vec![7; size]);
            // Tables and blocks reach their size.
            let count = 20_000_000 / size.max(1000);
            transfer(&mut pair, &message, count);
            let packets = pair.a.stats().packets_sent;
            let allocations = transfer(&mut pair, &message, count);
            let packets = pair.a.stats().packets_sent - packets;
            assert!(packets > 1000);
            assert_eq!(allocations, 0, "{size} bytes, I-DATA {interleaving}");
        }
    }
}

#[test]
fn a_message_of_a_gibibyte_goes_through_a_few_megabytes() {
    const TOTAL: usize = 1 << 30;
    let mut pair = Pair::connected(config());
    let pattern: Vec<u8> = (0..65_536u32).map(|at| (at % 251) as u8).collect();
    let part = Bytes::from(pattern.clone());
    let (mut sent, mut got, mut ended) = (0, 0, false);
    let allocated = allocation_counter::measure(|| {
        while !ended {
            while sent < TOTAL {
                let is_last = sent + part.len() == TOTAL;
                let (stream, options) = (StreamId(1), SendOptions::default());
                let taken = pair.a.send_part(
                    pair.now,
                    stream,
                    Ppid::BINARY,
                    part.clone(),
                    options,
                    is_last,
                );
                if taken.is_err() {
                    break;
                }
                sent += part.len();
            }
            pair.carry();
            while let Some(message) = pair.b.recv() {
                assert_eq!(message.first, got == 0);
                let mut rest = &message.data[..];
                while !rest.is_empty() {
                    let at = got % pattern.len();
                    let length = rest.len().min(pattern.len() - at);
                    assert!(rest[..length] == pattern[at..at + length], "at {got}");
                    got += length;
                    rest = &rest[length..];
                }
                ended = message.last;
            }
        }
    });
    assert_eq!((sent, got), (TOTAL, TOTAL));
    // Windows of one megabyte at both ends.
    assert!(allocated.bytes_max < 6 << 20, "{allocated:?}");
}

#[test]
fn a_reader_that_stops_holds_the_sender_up_in_bounded_memory() {
    let mut pair = Pair::connected(config());
    let message = Bytes::from(vec![7; 1000]);
    let mut sent = 0;
    let allocated = allocation_counter::measure(|| {
        for _ in 0..20_000 {
            while pair
                .a
                .send(
                    pair.now,
                    StreamId(1),
                    Ppid::BINARY,
                    message.clone(),
                    SendOptions::default(),
                )
                .is_ok()
            {
                sent += 1;
            }
            pair.carry();
        }
    });
    // What the window of one end and the buffer of the other take, and nothing more.
    assert!((1500..2300).contains(&sent), "{sent} messages");
    assert!(allocated.bytes_max < 6 << 20, "{allocated:?}");
    let mut got = 0;
    for _ in 0..200_000 {
        while pair.b.recv().is_some() {
            got += 1;
        }
        if got == sent {
            break;
        }
        pair.carry();
    }
    assert_eq!(got, sent);
}
