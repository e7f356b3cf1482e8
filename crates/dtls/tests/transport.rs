//! Timers, retransmissions, acknowledgements, flights in other hands: what a lossy path makes of a
//! handshake, one datagram at a time.

mod common;

use std::time::{Duration, Instant};

use common::{End, Pair, config};
use visavis_dtls::{CloseReason, Event, PieceId, Version};

fn pair(version: Version) -> Pair {
    let mut server = config(2);
    server.max_version = version;
    Pair::new(config(1), server, 3)
}

#[test]
fn the_first_timeout_is_one_and_a_half_round_trips_and_doubles() {
    let mut pair = pair(Version::Dtls13);
    let start = pair.now;
    pair.client
        .dtls
        .set_round_trip_time(Duration::from_millis(80));
    let mut at = Vec::new();
    for round in 0..5 {
        let datagrams = pair.client.transmit(pair.now).len();
        // From the fourth round on they are smaller.
        assert_eq!(datagrams, if round < 3 { 2 } else { 3 });
        let next = pair.client.dtls.poll_timeout().unwrap();
        at.push((next - pair.now).as_millis());
        pair.now = next;
        pair.client.dtls.handle_timeout(next);
        // The deadline is later than that.
        assert!(pair.now - start < Duration::from_secs(60));
    }
    // A second is the most.
    assert_eq!(at, [120, 240, 480, 960, 1000]);
}

#[test]
fn only_what_was_lost_of_a_flight_goes_again() {
    let mut pair = pair(Version::Dtls13);
    for datagram in pair.client.transmit(pair.now) {
        pair.server.receive(pair.now, datagram);
    }
    let flight = pair.server.transmit(pair.now);
    assert_eq!(flight.len(), 2);
    // The second half comes first, and the first half never.
    pair.client.receive(pair.now, flight[1].clone());
    assert_eq!(pair.client.dtls.stats().unknown_epoch, 0);
    assert!(pair.client.dtls.stats().deferred > 0, "kept for its keys");
    // The client says soon that something is missing, and the server does not wait for its timer.
    let mut prompted = false;
    for _ in 0..4 {
        pair.elapse(Duration::from_millis(399));
        for datagram in pair.client.transmit(pair.now) {
            // Its ACK, not its hello.
            if datagram[0] == 26 {
                prompted = true;
                pair.now += Duration::from_millis(250);
                pair.server.receive(pair.now, datagram);
            }
        }
        if prompted {
            break;
        }
    }
    assert!(prompted, "an empty ACK");
    let again = pair.server.transmit(pair.now);
    pair.client.receive(pair.now, again[0].clone());
    pair.exchange();
    pair.assert_connected("prompted");
}

#[test]
fn a_part_that_was_acknowledged_does_not_go_again() {
    let (mut client, mut server) = (config(1), config(2));
    // A chain that fills several datagrams under the handshake's keys.
    let leaf = server.certificates[0].clone();
    client.groups = vec![visavis_crypto::Group::X25519];
    client.certificates = vec![leaf];
    server.mtu = 300;
    let mut pair = Pair::new(client, server, 3);
    for datagram in pair.client.transmit(pair.now) {
        pair.server.receive(pair.now, datagram);
    }
    let flight = pair.server.transmit(pair.now);
    assert!(flight.len() >= 3, "{}", flight.len());
    // All but one in the middle.
    let lost = flight.len() - 2;
    for (index, datagram) in flight.iter().enumerate() {
        if index != lost {
            pair.client.receive(pair.now, datagram.clone());
        }
    }
    let acks = pair.client.transmit(pair.now);
    assert_eq!(acks.len(), 1, "an ACK because of the gap");
    pair.server.receive(pair.now, acks[0].clone());
    let again = pair.server.transmit(pair.now);
    assert_eq!(again.len(), 1, "the one that was lost");
    assert!(again[0].len() <= flight[lost].len());
    pair.client.receive(pair.now, again[0].clone());
    pair.exchange();
    pair.assert_connected("the rest");
}

#[test]
fn the_last_flight_goes_until_it_is_acknowledged() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut pair = pair(version);
        // Up to the client's last flight, whose answer is lost three times.
        while !pair.server.dtls.is_connected() {
            for datagram in pair.client.transmit(pair.now) {
                pair.server.receive(pair.now, datagram);
            }
            if pair.server.dtls.is_connected() {
                break;
            }
            for datagram in pair.server.transmit(pair.now) {
                pair.client.receive(pair.now, datagram);
            }
        }
        for _ in 0..3 {
            assert!(!pair.server.transmit(pair.now).is_empty(), "{version}");
            let timeouts = pair.client.dtls.stats().timeouts;
            while pair.client.dtls.stats().timeouts == timeouts {
                assert!(pair.elapse(Duration::from_secs(5)), "{version}");
            }
            for datagram in pair.client.transmit(pair.now) {
                pair.server.receive(pair.now, datagram);
            }
        }
        pair.exchange();
        pair.assert_connected(&format!("{version}"));
        // And then there is silence.
        let timeouts = pair.client.dtls.stats().timeouts;
        pair.elapse(Duration::from_secs(10));
        assert_eq!(pair.client.dtls.stats().timeouts, timeouts, "{version}");
        pair.assert_data_flows(&format!("{version}"));
    }
}

#[test]
fn data_that_overtakes_the_end_of_the_handshake_is_kept() {
    let mut pair = pair(Version::Dtls13);
    for datagram in pair.client.transmit(pair.now) {
        pair.server.receive(pair.now, datagram);
    }
    for datagram in pair.server.transmit(pair.now) {
        pair.client.receive(pair.now, datagram);
    }
    assert!(pair.client.dtls.is_connected());
    let last_flight = pair.client.transmit(pair.now);
    let data = pair.client.seal(b"an early INIT");
    pair.server.receive(pair.now, data);
    assert!(pair.server.data.is_empty(), "not before the peer is known");
    for datagram in last_flight {
        pair.server.receive(pair.now, datagram);
    }
    assert_eq!(pair.server.data, [b"an early INIT"]);
    let events = &pair.server.events;
    let place = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    assert!(
        place(|event| matches!(event, Event::Connected(_)))
            < place(|event| matches!(event, Event::ApplicationData(_)))
    );
}

#[test]
fn no_datagram_is_larger_than_the_mtu() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for mtu in [200, 300, 548, 900, 1191] {
            let (mut client, mut server) = (config(1), config(2));
            for config in [&mut client, &mut server] {
                config.mtu = mtu;
                config.fallback_mtu = mtu;
                config.max_version = version;
            }
            let mut pair = Pair::new(client, server, 3);
            for _ in 0..10 {
                for datagram in pair.client.transmit(pair.now) {
                    assert!(datagram.len() <= mtu, "{version} {mtu}");
                    pair.server.receive(pair.now, datagram);
                }
                for datagram in pair.server.transmit(pair.now) {
                    assert!(datagram.len() <= mtu, "{version} {mtu}");
                    pair.client.receive(pair.now, datagram);
                }
            }
            pair.assert_connected(&format!("{version} {mtu}"));
        }
    }
}

/// Carries a flight as STUN would: the same pieces again and again until they are known to be there.
fn carry_outside(now: Instant, from: &mut End, to: &mut End) {
    let pieces = |end: &mut End| -> Vec<(PieceId, Vec<u8>)> {
        end.dtls
            .flight(now)
            .map(|piece| (piece.id, piece.bytes.to_vec()))
            .collect()
    };
    let first = pieces(from);
    assert_eq!(first, pieces(from), "the same bytes each time");
    for (id, bytes) in first {
        assert!(bytes.len() <= 900);
        to.receive(now, bytes.clone());
        // A carrier repeats itself: that is no harm.
        to.receive(now, bytes);
        from.dtls.flight_acknowledged(now, id);
    }
    // ACKs do not ride along, and no flight leaves by itself.
    for datagram in from.transmit(now) {
        assert!(datagram.len() < 120);
        to.receive(now, datagram);
    }
}

#[test]
fn flights_can_ride_in_something_else() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut pair = pair(version);
        for end in [&mut pair.client, &mut pair.server] {
            end.dtls.set_outer_carrier(true);
            end.dtls.set_mtu(900);
        }
        for _ in 0..8 {
            let now = pair.now;
            carry_outside(now, &mut pair.client, &mut pair.server);
            carry_outside(now, &mut pair.server, &mut pair.client);
        }
        pair.assert_connected(&format!("{version} carried"));
        pair.client.dtls.set_outer_carrier(false);
        pair.server.dtls.set_outer_carrier(false);
        pair.exchange();
        pair.assert_data_flows(&format!("{version} carried"));
    }
}

#[test]
fn a_carrier_that_gives_up_leaves_the_flight_to_the_path() {
    let mut pair = pair(Version::Dtls13);
    pair.client.dtls.set_outer_carrier(true);
    assert!(pair.client.transmit(pair.now).is_empty());
    assert_eq!(pair.client.dtls.flight(pair.now).count(), 2);
    pair.client.dtls.set_outer_carrier(false);
    pair.exchange();
    pair.assert_connected("given up");
}

#[test]
fn keys_stay_until_the_peer_uses_the_new_ones() {
    let mut pair = pair(Version::Dtls13);
    pair.exchange();
    // Sealed under the old keys, and overtaken by the update.
    let late = pair.client.seal(b"late");
    pair.client.dtls.update_keys(pair.now, false).unwrap();
    pair.exchange();
    let new = pair.client.seal(b"new");
    pair.server.receive(pair.now, new);
    pair.server.receive(pair.now, late);
    assert_eq!(pair.server.data, [&b"new"[..], b"late"]);
}

#[test]
fn a_lost_key_update_and_a_lost_acknowledgement_are_made_good() {
    let mut pair = pair(Version::Dtls13);
    pair.exchange();
    pair.client.dtls.update_keys(pair.now, false).unwrap();
    assert_eq!(pair.client.transmit(pair.now).len(), 1, "lost");
    pair.assert_data_flows("with the old keys");
    assert!(pair.elapse(Duration::from_secs(5)));
    for datagram in pair.client.transmit(pair.now) {
        pair.server.receive(pair.now, datagram);
    }
    assert_eq!(pair.server.transmit(pair.now).len(), 1, "its ACK, lost");
    pair.assert_data_flows("with the old keys still");
    assert!(pair.elapse(Duration::from_secs(5)));
    pair.exchange();
    assert!(pair.client.events.contains(&Event::LocalKeysUpdated));
    pair.assert_data_flows("with the new keys");
}

#[test]
fn nothing_behind_a_close_counts() {
    let mut pair = pair(Version::Dtls13);
    pair.exchange();
    let late = pair.client.seal(b"late");
    pair.client.dtls.close(pair.now);
    pair.exchange();
    pair.server.receive(pair.now, late);
    assert!(pair.server.data.is_empty());
    assert_eq!(
        pair.server.events.last(),
        Some(&Event::Closed(CloseReason::Remote))
    );
}
