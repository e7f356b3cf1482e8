//! An association from its start to its end.

mod support;

use std::time::Duration;

use bytes::Bytes;
use support::{End, Pair};
use visavis_sctp::{
    CloseReason, Config, ControllerKind, Event, PacketSizes, Ppid, Reliability, SendOptions, State,
    StreamId,
};

fn send(pair: &mut Pair, stream: u16, bytes: Vec<u8>) {
    pair.a
        .send(
            pair.now,
            StreamId(stream),
            Ppid::BINARY,
            Bytes::from(bytes),
            SendOptions::default(),
        )
        .unwrap();
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

#[test]
fn both_ends_connect_at_once_and_agree() {
    let pair = Pair::connected(Config::default(), Config::default());
    let negotiated = pair.a.negotiated().unwrap();
    assert!(negotiated.interleaving && negotiated.zero_checksum && negotiated.partial_reliability);
    assert_eq!(pair.a.negotiated(), pair.b.negotiated());
    assert_eq!(pair.events_a.len(), 1);
    assert_eq!(pair.events_b.len(), 1);
}

#[test]
fn one_end_connects_and_the_other_answers() {
    let mut pair = Pair::new(Config::default(), Config::default());
    pair.a.connect(pair.now).unwrap();
    send(&mut pair, 1, vec![7; 100]);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.a.state(), State::Established);
    assert_eq!(pair.b.state(), State::Established);
    assert_eq!(pair.received_b.len(), 1, "data rode on the COOKIE ECHO");
    assert!(pair.a.stats().srtt < Duration::from_millis(50));
}

#[test]
fn messages_of_all_sizes_arrive_in_order_whatever_is_in_use() {
    for interleaving in [true, false] {
        for zero_checksum in [true, false] {
            for controller in [
                ControllerKind::NewReno,
                ControllerKind::Cubic,
                ControllerKind::Model,
            ] {
                let config = Config {
                    interleaving,
                    zero_checksum,
                    controller,
                    ..Config::default()
                };
                let mut pair = Pair::connected(config.clone(), config);
                let sizes = [
                    1, 2, 3, 4, 1000, 1140, 1156, 1200, 5000, 100_000, 262_144, 7,
                ];
                for (index, size) in sizes.iter().enumerate() {
                    send(&mut pair, (index % 3) as u16, pattern(*size, index as u8));
                }
                pair.run_for(Duration::from_secs(5));
                assert_eq!(pair.received_b.len(), sizes.len());
                for message in &pair.received_b {
                    assert!(message.first && message.last);
                    let index = sizes.iter().position(|s| *s == message.data.len()).unwrap();
                    assert_eq!(message.data, pattern(sizes[index], index as u8));
                    assert_eq!(message.stream, StreamId((index % 3) as u16));
                }
                assert_eq!(pair.a.send_buffered(), 0);
                assert_eq!(pair.a.stats().chunks_retransmitted, 0);
            }
        }
    }
}

#[test]
fn lost_packets_are_sent_again_soon() {
    let mut pair = Pair::connected(Config::default(), Config::default());
    let mut count = 0;
    pair.pass = Box::new(move |end, _| {
        count += 1;
        end == End::B || count % 10 != 3
    });
    for index in 0..200 {
        send(&mut pair, 1, pattern(3000, index));
    }
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.received_b.len(), 200);
    for (index, message) in pair.received_b.iter().enumerate() {
        assert_eq!(message.data, pattern(3000, index as u8));
    }
    assert!(pair.a.stats().chunks_retransmitted > 20);
    assert!(pair.a.stats().timeouts < 5, "{:?}", pair.a.stats());
}

#[test]
fn the_last_packet_lost_is_probed_for_before_the_timeout() {
    let mut pair = Pair::connected(Config::default(), Config::default());
    send(&mut pair, 1, vec![1; 100]);
    pair.run_for(Duration::from_millis(500));
    for _ in 0..4 {
        send(&mut pair, 1, vec![1; 900]);
    }
    let mut seen = 0;
    pair.pass = Box::new(move |end, packet| {
        if end == End::A && packet.len() > 600 {
            seen += 1;
            seen != 4
        } else {
            true
        }
    });
    pair.run_for(Duration::from_millis(120));
    assert_eq!(pair.received_b.len(), 5);
    assert_eq!(pair.a.stats().timeouts, 0);
    assert_eq!(pair.a.stats().tail_probes, 1);
}

#[test]
fn unreliable_messages_are_given_up_and_later_ones_arrive() {
    for interleaving in [true, false] {
        for ordered in [true, false] {
            let config = Config {
                interleaving,
                ..Config::default()
            };
            let mut pair = Pair::connected(config.clone(), config);
            let mut count = 0;
            pair.pass = Box::new(move |end, packet| {
                if end == End::A && packet.len() > 600 {
                    count += 1;
                    return !(5..=9).contains(&count);
                }
                true
            });
            let options = SendOptions {
                ordered,
                reliability: Reliability::MaxRetransmits(0),
            };
            for index in 0..20u8 {
                let payload = Bytes::from(pattern(2500, index));
                pair.a
                    .send(pair.now, StreamId(2), Ppid::BINARY, payload, options)
                    .unwrap();
            }
            pair.run_for(Duration::from_secs(3));
            let got = pair.received_b.len();
            assert!((15..20).contains(&got), "{got} {interleaving} {ordered}");
            for message in &pair.received_b {
                assert_eq!(message.data.len(), 2500, "no torn message");
            }
            assert_eq!(pair.a.send_buffered(), 0);
            assert_eq!(pair.a.stats().in_flight, 0);
            // The stream still works.
            pair.pass = Box::new(|_, _| true);
            send(&mut pair, 2, vec![9; 10]);
            pair.run_for(Duration::from_secs(1));
            assert_eq!(pair.received_b.len(), got + 1);
        }
    }
}

#[test]
fn a_slow_reader_closes_the_window_and_opens_it_again() {
    let small = Config {
        receive_window: 100_000,
        ..Config::default()
    };
    let mut pair = Pair::connected(Config::default(), small);
    pair.reading = false;
    for index in 0..100 {
        send(&mut pair, 1, pattern(10_000, index));
    }
    pair.run_for(Duration::from_secs(5));
    assert!(
        pair.a.send_buffered() > 800_000,
        "{}",
        pair.a.send_buffered()
    );
    assert_eq!(pair.a.state(), State::Established);
    pair.reading = true;
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.received_b.len(), 100);
}

#[test]
fn a_reader_may_sleep_for_an_hour_and_is_asked_now_and_then() {
    let small = Config {
        receive_window: 100_000,
        ..Config::default()
    };
    let mut pair = Pair::connected(Config::default(), small);
    pair.reading = false;
    for index in 0..100 {
        send(&mut pair, 1, pattern(10_000, index));
    }
    pair.run_for(Duration::from_secs(20));
    assert_eq!(pair.a.stats().peer_window, 0);
    let waiting = pair.b.received_waiting();
    assert!(waiting < 110_000, "{waiting} bytes in a window of 100,000");
    let packets = pair.a.stats().packets_sent;
    pair.run_for(Duration::from_secs(3600));
    // One zero window probe (RFC 9260 section 6.1 A) in the longest retransmission timeout, which is
    // 3 s, and heartbeats, which measure the round trip and start the backing off again.
    let packets = pair.a.stats().packets_sent - packets;
    assert!((1000..2000).contains(&packets), "{packets} packets");
    assert_eq!(pair.b.received_waiting(), waiting);
    assert_eq!(pair.a.state(), State::Established);
    // The news that there is room again is lost, and found out nevertheless.
    pair.pass = Box::new(|from, _| from == End::A);
    pair.reading = true;
    pair.flush();
    pair.pass = Box::new(|_, _| true);
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.received_b.len(), 100);
}

#[test]
fn shutdown_delivers_everything_first() {
    let mut pair = Pair::connected(Config::default(), Config::default());
    for index in 0..50 {
        send(&mut pair, 1, pattern(10_000, index));
    }
    pair.a.shutdown(pair.now);
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.received_b.len(), 50);
    assert!(
        pair.events_a
            .contains(&Event::Closed(CloseReason::Shutdown))
    );
    assert!(
        pair.events_b
            .contains(&Event::Closed(CloseReason::Shutdown))
    );
}

#[test]
fn abort_is_heard() {
    let mut pair = Pair::connected(Config::default(), Config::default());
    pair.a.abort(pair.now);
    pair.run_for(Duration::from_secs(1));
    assert!(
        pair.events_a
            .contains(&Event::Closed(CloseReason::LocalAbort))
    );
    assert!(
        pair.events_b
            .contains(&Event::Closed(CloseReason::RemoteAbort(12)))
    );
}

#[test]
fn a_silent_peer_is_given_up() {
    let mut pair = Pair::connected(Config::default(), Config::default());
    pair.pass = Box::new(|_, _| false);
    send(&mut pair, 1, vec![1; 1000]);
    pair.run_for(Duration::from_secs(120));
    assert!(pair.events_a.contains(&Event::PathSuspect));
    assert!(
        pair.events_a
            .contains(&Event::Closed(CloseReason::TimedOut))
    );
}

#[test]
fn inits_by_signalling_open_both_ends_without_a_packet() {
    let mut pair = Pair::new(Config::default(), Config::default());
    let (a, b) = (pair.a.init_chunk(), pair.b.init_chunk());
    assert_eq!(a, pair.a.init_chunk(), "the token does not change");
    pair.a.connect_with_remote_init(pair.now, &b).unwrap();
    pair.b.connect_with_remote_init(pair.now, &a).unwrap();
    assert_eq!(pair.a.state(), State::Established);
    send(&mut pair, 1, vec![5; 100]);
    pair.run_for(Duration::from_millis(15));
    assert_eq!(pair.received_b.len(), 1, "half a round trip");
}

#[test]
fn streams_are_reset_and_used_again() {
    for interleaving in [true, false] {
        let config = Config {
            interleaving,
            ..Config::default()
        };
        let mut pair = Pair::connected(config.clone(), config);
        for round in 0..3u8 {
            for index in 0..30 {
                send(&mut pair, 4, pattern(5000, index));
                send(&mut pair, 5, pattern(500, index));
            }
            pair.a.reset_streams(pair.now, &[StreamId(4)]).unwrap();
            assert!(
                pair.a
                    .send(
                        pair.now,
                        StreamId(4),
                        Ppid::BINARY,
                        Bytes::from_static(b"x"),
                        SendOptions::default()
                    )
                    .is_err()
            );
            pair.run_for(Duration::from_secs(3));
            assert!(
                pair.events_a
                    .contains(&Event::OutgoingReset(vec![StreamId(4)]))
            );
            assert_eq!(pair.received_b.len(), 60 * (usize::from(round) + 1));
            pair.run_for(Duration::from_secs(1));
            let resets = pair
                .events_b
                .iter()
                .filter(|e| **e == Event::IncomingReset(vec![StreamId(4)]))
                .count();
            assert_eq!(resets, usize::from(round) + 1);
        }
    }
}

#[test]
fn a_message_of_any_size_goes_in_parts_through_bounded_memory() {
    let config = Config {
        receive_window: 1 << 20,
        ..Config::default()
    };
    let mut pair = Pair::connected(config.clone(), config);
    pair.delay = Duration::from_micros(500);
    let part = Bytes::from(pattern(100_000, 3));
    let mut sent = 0usize;
    let mut got = 0usize;
    let mut ended = false;
    for _ in 0..4000 {
        while sent < 20_000_000 && pair.a.send_buffered() < 500_000 {
            sent += part.len();
            pair.a
                .send_part(
                    pair.now,
                    StreamId(1),
                    Ppid::BINARY,
                    part.clone(),
                    SendOptions::default(),
                    sent >= 20_000_000,
                )
                .unwrap();
        }
        pair.run_for(Duration::from_millis(2));
        for message in pair.received_b.drain(..) {
            assert_eq!(message.first, got == 0);
            for (offset, byte) in message.data.iter().enumerate() {
                let at = (got + offset) % 100_000;
                assert_eq!(*byte, (at as u8).wrapping_mul(31).wrapping_add(3));
            }
            got += message.data.len();
            ended = message.last;
        }
        if ended {
            break;
        }
    }
    assert_eq!((got, ended), (20_000_000, true));
}

/// A chunk cannot be cut again: one that filled its packet leaves in as large a one when the path is back, though packets became
/// smaller during the silence.
#[test]
fn chunks_from_before_a_silence_leave_as_they_are() {
    const FULL: usize = 1376;
    for interleaving in [true, false] {
        let config = Config {
            packet_sizes: PacketSizes {
                max: FULL,
                ..PacketSizes::default()
            },
            interleaving,
            ..Config::default()
        };
        let mut pair = Pair::connected(config.clone(), config);
        pair.set_mtu(FULL);
        pair.run_for(Duration::from_secs(1));
        assert_eq!(pair.a.stats().packet_size, FULL);
        pair.pass = Box::new(|_, _| false);
        let data = pattern(20_000, 0);
        send(&mut pair, 1, data.clone());
        while pair.a.stats().packet_size == FULL {
            pair.run_for(Duration::from_millis(100));
        }
        pair.pass = Box::new(|_, _| true);
        pair.run_for(Duration::from_secs(10));
        assert_eq!(pair.received_b.len(), 1, "interleaving: {interleaving}");
        assert!(pair.received_b[0].data == data);
    }
}
