//! Data channels between two connections on a simulated network.

mod common;

use bytes::Bytes;
use common::{ALICE, BOB, Call, End};
use visavis_peer::{
    ChannelId, ChannelOptions, ChannelState, ConnectionState, DtlsState, Event, MessageKind,
    SctpState,
};

fn channel(call: &mut Call, end: usize, label: &str) -> ChannelId {
    let now = call.now();
    let options = ChannelOptions {
        label: label.into(),
        ..ChannelOptions::default()
    };
    call.pc(end).create_data_channel(now, options).unwrap()
}

fn message(end: &End) -> Option<Bytes> {
    end.events.iter().find_map(|event| match event {
        Event::Message { data, .. } => Some(data.clone()),
        _ => None,
    })
}

#[test]
fn a_message_goes_both_ways() {
    for (seed, loss) in [(1, 0.0), (2, 0.0), (3, 0.1), (4, 0.25), (5, 0.25)] {
        let mut call = Call::plain(seed, loss);
        let id = channel(&mut call, ALICE, "chat");
        call.negotiate(ALICE);
        let opened = call.run(60.0, |alice, bob| {
            alice.saw(|event| matches!(event, Event::DataChannelOpen(_)))
                && bob.saw(|event| matches!(event, Event::DataChannelOpen(_)))
        });
        assert!(
            opened,
            "seed {seed} loss {loss}: {:?}",
            call.end(ALICE).events
        );
        let now = call.now();
        let hello = Bytes::from_static(b"hello");
        call.pc(ALICE)
            .send(now, id, MessageKind::Text, hello.clone())
            .unwrap();
        assert!(
            call.run(60.0, |_, bob| message(bob).is_some()),
            "seed {seed}"
        );
        assert_eq!(message(call.end(BOB)), Some(hello), "seed {seed}");
        let there = call.end(BOB).events.iter().find_map(|event| match event {
            Event::DataChannel(id) => Some(*id),
            _ => None,
        });
        let there = there.unwrap();
        assert_eq!(
            call.pc(BOB).data_channel_options(there).unwrap().label,
            "chat"
        );
        let now = call.now();
        let large = Bytes::from(vec![7; 200_000]);
        call.pc(BOB)
            .send(now, there, MessageKind::Binary, large.clone())
            .unwrap();
        assert!(
            call.run(60.0, |alice, _| message(alice).is_some()),
            "seed {seed}"
        );
        assert_eq!(message(call.end(ALICE)), Some(large), "seed {seed}");
    }
}

/// webrtc-pc: states come in their order, `datachannel` before `open`.
#[test]
fn events_come_in_their_order() {
    let mut call = Call::plain(7, 0.0);
    channel(&mut call, ALICE, "chat");
    call.negotiate(ALICE);
    assert!(call.run(10.0, |_, bob| {
        bob.saw(|e| matches!(e, Event::DataChannelOpen(_)))
    }));
    let position = |end: &End, what: &dyn Fn(&Event) -> bool| {
        let found = end.events.iter().position(what);
        found.unwrap_or_else(|| panic!("not told: {:#?}", end.events))
    };
    let bob = call.end(BOB);
    let order = [
        position(bob, &|e| {
            matches!(
                e,
                Event::IceConnectionState(visavis_peer::IceConnectionState::Checking)
            )
        }),
        position(bob, &|e| {
            *e == Event::ConnectionState(ConnectionState::Connecting)
        }),
        position(bob, &|e| *e == Event::DtlsState(DtlsState::Connected)),
        position(bob, &|e| {
            *e == Event::ConnectionState(ConnectionState::Connected)
        }),
        position(bob, &|e| *e == Event::SctpState(SctpState::Connected)),
        position(bob, &|e| matches!(e, Event::DataChannel(_))),
        position(bob, &|e| matches!(e, Event::DataChannelOpen(_))),
    ];
    assert!(order.is_sorted(), "{order:?} in {:#?}", bob.events);
    let alice = call.end(ALICE);
    assert_eq!(
        alice.events[0],
        Event::SignalingState(visavis_peer::SignalingState::HaveLocalOffer)
    );
}

#[test]
fn closing_a_channel_is_told_at_both_ends() {
    let mut call = Call::plain(8, 0.0);
    let id = channel(&mut call, ALICE, "chat");
    call.negotiate(ALICE);
    assert!(call.run(10.0, |_, bob| {
        bob.saw(|e| matches!(e, Event::DataChannelOpen(_)))
    }));
    let now = call.now();
    call.pc(ALICE).close_data_channel(now, id);
    let closed = |end: &End| end.saw(|e| matches!(e, Event::DataChannelClosed(_)));
    assert!(call.run(10.0, |alice, bob| closed(alice) && closed(bob)));
    assert_eq!(call.pc(ALICE).data_channel_state(id), ChannelState::Closed);
}

#[test]
fn a_connection_that_closes_is_noticed_by_the_peer() {
    let mut call = Call::plain(9, 0.0);
    channel(&mut call, ALICE, "chat");
    call.negotiate(ALICE);
    assert!(call.run(10.0, |_, bob| {
        bob.saw(|e| matches!(e, Event::DataChannelOpen(_)))
    }));
    let now = call.now();
    call.pc(ALICE).close(now);
    assert_eq!(call.pc(ALICE).connection_state(), ConnectionState::Closed);
    assert!(
        call.run(2.0, |_, bob| {
            bob.saw(|e| matches!(e, Event::DataChannelClosed(_)))
                && bob.saw(|e| *e == Event::DtlsState(DtlsState::Closed))
        }),
        "{:#?}",
        call.end(BOB).events
    );
}

#[test]
fn a_peer_that_lies_about_its_certificate_is_refused() {
    let mut call = Call::plain(10, 0.0);
    channel(&mut call, ALICE, "chat");
    let now = call.now();
    call.pc(ALICE).set_local_description(now, None).unwrap();
    let mut offer = call.pc(ALICE).local_description().unwrap();
    let at = offer.sdp.find("sha-256 ").unwrap() + 8;
    let other = if &offer.sdp[at..at + 2] == "00" {
        "01"
    } else {
        "00"
    };
    offer.sdp.replace_range(at..at + 2, other);
    call.pc(BOB).set_remote_description(now, &offer).unwrap();
    call.pc(BOB).set_local_description(now, None).unwrap();
    let answer = call.pc(BOB).local_description().unwrap();
    call.pc(ALICE).set_remote_description(now, &answer).unwrap();
    assert!(
        call.run(10.0, |_, bob| {
            bob.saw(|e| *e == Event::ConnectionState(ConnectionState::Failed))
        }),
        "{:#?}",
        call.end(BOB).events
    );
    assert!(
        !call
            .end(BOB)
            .saw(|e| *e == Event::DtlsState(DtlsState::Connected))
    );
}

#[test]
fn a_peer_that_vanishes_is_noticed_in_bounded_time() {
    let mut call = Call::plain(11, 0.0);
    channel(&mut call, ALICE, "chat");
    call.negotiate(ALICE);
    assert!(call.run(10.0, |_, bob| {
        bob.saw(|e| matches!(e, Event::DataChannelOpen(_)))
    }));
    // Bob's process is gone: nothing answers any more.
    let now = call.now();
    call.pc(BOB).remove_local_address(
        now,
        "203.0.113.2:5000".parse().unwrap(),
        visavis_datagram::Protocol::Udp,
    );
    assert!(call.run(60.0, |alice, _| {
        alice.saw(|e| *e == Event::ConnectionState(ConnectionState::Disconnected))
    }));
    assert!(call.run(60.0, |alice, _| {
        alice.saw(|e| *e == Event::ConnectionState(ConnectionState::Failed))
    }));
}
