//! Peers that do not bundle, on a simulated network: each section that the bundle policy keeps has a transport of its own
//! (RFC 9429 section 4.1.1).

mod common;

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{ALICE, BOB, Call, End};
use visavis_netsim::LinkConfig;
use visavis_peer::{
    BundlePolicy, ChannelId, ChannelOptions, Configuration, ConnectionState, DtlsState, Event,
    IceConnectionState, Kind, MessageKind, OutgoingRtp, ReceiveMode, Received, StatsKind,
    TransceiverId,
};

static NUMBERS: AtomicU16 = AtomicU16::new(0);

fn call(seed: u64, policies: [BundlePolicy; 2]) -> Call {
    let link = LinkConfig::new().delay(Duration::from_millis(20));
    Call::new(
        seed,
        link,
        policies.map(|bundle_policy| Configuration {
            bundle_policy,
            ..Configuration::default()
        }),
    )
}

/// What a signalling path does that knows nothing of BUNDLE.
fn without_bundle(sdp: String) -> String {
    let known = |line: &&str| !line.starts_with("a=group:BUNDLE") && *line != "a=bundle-only\r\n";
    sdp.split_inclusive("\r\n").filter(known).collect()
}

/// Sound twice and pictures both ways, and a channel of Alice's.
fn add_sections(call: &mut Call) -> (Vec<TransceiverId>, ChannelId) {
    let now = call.now();
    let mut add_tracks = |end: usize| -> Vec<TransceiverId> {
        let pc = call.pc(end);
        [(Kind::Audio, "a"), (Kind::Audio, "b"), (Kind::Video, "v")]
            .map(|(kind, track)| pc.add_track(kind, track, &[]).unwrap())
            .to_vec()
    };
    add_tracks(BOB);
    let ids = add_tracks(ALICE);
    let channel = call
        .pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    (ids, channel)
}

fn is_up(end: &End) -> bool {
    end.pc.connection_state() == ConnectionState::Connected
}

fn transports(call: &mut Call, end: usize) -> usize {
    let now = call.now();
    let stats = call.pc(end).stats(now);
    let transports = stats.entries.iter();
    let is_transport = |kind| kind == StatsKind::Transport;
    transports.filter(|entry| is_transport(entry.kind)).count()
}

/// Sends three packets of each transceiver, and counts those that come to a receiver of the same mid.
fn media_flows(call: &mut Call, from: usize) -> Vec<(String, usize)> {
    let to = 1 - from;
    let transceivers = call.pc(from).transceivers().iter();
    let negotiated = transceivers.filter(|transceiver| transceiver.mid.is_some());
    let ids: Vec<TransceiverId> = negotiated.map(|transceiver| transceiver.id).collect();
    let first = call.end(to).rtp.len();
    // Numbers that none of the earlier packets had.
    let fresh = NUMBERS.fetch_add(3, Ordering::Relaxed);
    for sequence in fresh..fresh + 3 {
        for &id in &ids {
            let now = call.now();
            let payload_type = call.pc(from).transceiver(id).unwrap().sender.codecs[0].payload_type;
            let packet = OutgoingRtp {
                payload_type,
                sequence,
                payload: &[0; 50],
                ..OutgoingRtp::default()
            };
            call.pc(from).send_rtp(now, id, 0, &packet).unwrap();
        }
        call.run(0.02, |_, _| false);
    }
    call.run(0.2, |_, _| false);
    let end = call.end(to);
    let received: Vec<TransceiverId> = end.rtp[first..]
        .iter()
        .map(|(received, _)| match received {
            Received::Rtp(rtp) => rtp.transceiver,
            other => panic!("{other:?}"),
        })
        .collect();
    let there = end.pc.transceivers().iter();
    there
        .filter_map(|transceiver| {
            let of_it = received.iter().filter(|&&id| id == transceiver.id);
            Some((transceiver.mid.clone()?, of_it.count()))
        })
        .collect()
}

/// A message from the one who opened the channel, and one back.
fn messages_flow(call: &mut Call, channel: ChannelId) {
    let text = |end: &End| {
        let messages = end.events.iter();
        messages
            .filter(|e| matches!(e, Event::Message { .. }))
            .count()
    };
    let there = |end: &End| {
        let mut events = end.events.iter();
        events.find_map(|event| match event {
            Event::DataChannel(id) => Some(*id),
            _ => None,
        })
    };
    assert!(call.run(10.0, |_, bob| there(bob).is_some()));
    let back = there(call.end(BOB)).unwrap();
    let before = [text(call.end(ALICE)), text(call.end(BOB))];
    for (end, channel) in [(ALICE, channel), (BOB, back)] {
        let now = call.now();
        let data = Bytes::from_static(b"hello");
        let pc = call.pc(end);
        pc.send(now, channel, MessageKind::Text, data).unwrap();
    }
    assert!(call.run(10.0, |alice, bob| {
        [text(alice), text(bob)] == before.map(|count| count + 1)
    }));
}

#[test]
fn each_policy_keeps_its_sections_and_they_work() {
    use BundlePolicy::{Balanced, MaxBundle, MaxCompat};
    for (seed, policies, mids) in [
        (1, [Balanced, Balanced], &["0", "2", "3"][..]),
        (2, [MaxCompat, MaxCompat], &["0", "1", "2", "3"]),
        (3, [MaxBundle, MaxCompat], &["0"]),
        (4, [MaxCompat, MaxBundle], &["0"]),
        (5, [MaxCompat, Balanced], &["0", "2", "3"]),
    ] {
        let mut call = call(seed, policies);
        let (_, channel) = add_sections(&mut call);
        let (_, answer) = call.negotiate_with(ALICE, without_bundle);
        assert!(!answer.sdp.contains("BUNDLE"));
        let up = call.run(10.0, |alice, bob| is_up(alice) && is_up(bob));
        assert!(up, "{policies:?}: {:?}", call.end(ALICE).events);
        for end in [ALICE, BOB] {
            assert_eq!(transports(&mut call, end), mids.len(), "{policies:?}");
            let counted = media_flows(&mut call, end);
            let expected = mids.iter().filter(|&&mid| mid != "3");
            let expected: Vec<_> = expected.map(|mid| (mid.to_string(), 3)).collect();
            assert_eq!(counted, expected, "{policies:?}");
        }
        if mids.contains(&"3") {
            messages_flow(&mut call, channel);
        }
        // Each section of a description in force has its own candidates.
        for end in [ALICE, BOB] {
            let local = call.pc(end).current_local_description().unwrap();
            let with = local.sdp.split("m=").skip(1);
            let with = with.filter(|section| section.contains("a=candidate:"));
            assert_eq!(with.count(), mids.len(), "{}", local.sdp);
        }
    }
}

#[test]
fn a_group_of_some_sections_shares_a_transport() {
    let mut call = call(11, [BundlePolicy::MaxCompat; 2]);
    let (_, channel) = add_sections(&mut call);
    call.negotiate_with(ALICE, |sdp| {
        sdp.replace("BUNDLE 0 1 2 3", "BUNDLE 0 1\r\na=group:BUNDLE 2 3")
    });
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    assert_eq!(transports(&mut call, ALICE), 2);
    assert_eq!(transports(&mut call, BOB), 2);
    let counted = media_flows(&mut call, ALICE);
    assert!(counted.iter().all(|(_, count)| *count == 3), "{counted:?}");
    messages_flow(&mut call, channel);
}

#[test]
fn what_was_chosen_before_goes_with_the_section() {
    let mut call = call(12, [BundlePolicy::MaxCompat; 2]);
    add_sections(&mut call);
    let video = call.pc(BOB).transceivers()[2].id;
    call.pc(BOB).set_receive_mode(video, ReceiveMode::Frames);
    call.negotiate_with(ALICE, without_bundle);
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    // Packets of pictures become frames, those of sound do not.
    let counted = media_flows(&mut call, ALICE);
    let by_mid: Vec<_> = counted
        .iter()
        .map(|(mid, count)| (&**mid, *count))
        .collect();
    assert_eq!(by_mid, [("0", 3), ("1", 3), ("2", 0)]);
}

#[test]
fn ice_restarts_on_every_transport() {
    let mut call = call(13, [BundlePolicy::MaxCompat; 2]);
    let (_, channel) = add_sections(&mut call);
    call.negotiate_with(ALICE, without_bundle);
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    let ufrags = |call: &mut Call, end: usize| -> Vec<String> {
        let transports = call.pc(end).transports();
        let credentials = transports.map(|transport| transport.ice.local_credentials());
        credentials.map(|it| it.ufrag.to_string()).collect()
    };
    let before = [ufrags(&mut call, ALICE), ufrags(&mut call, BOB)];
    call.pc(ALICE).restart_ice();
    call.negotiate_with(ALICE, without_bundle);
    let completed = |end: &End| end.pc.ice_connection_state() == IceConnectionState::Completed;
    assert!(call.run(10.0, |alice, bob| completed(alice) && completed(bob)));
    for (end, before) in [ALICE, BOB].into_iter().zip(before) {
        let after = ufrags(&mut call, end);
        assert_eq!(after.len(), 4);
        assert!(before.iter().all(|ufrag| !after.contains(ufrag)));
    }
    let counted = media_flows(&mut call, BOB);
    assert!(counted.iter().all(|(_, count)| *count == 3), "{counted:?}");
    messages_flow(&mut call, channel);
    assert_eq!(call.pc(ALICE).dtls_state(), DtlsState::Connected);
}

#[test]
fn a_peer_that_learns_to_bundle_is_followed() {
    let mut call = call(14, [BundlePolicy::MaxCompat; 2]);
    let (_, channel) = add_sections(&mut call);
    call.negotiate_with(ALICE, without_bundle);
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    messages_flow(&mut call, channel);
    call.negotiate(BOB);
    let closed = |end: &End| {
        let events = end.events.iter();
        events
            .filter(|e| matches!(e, Event::TransportClosed(_)))
            .count()
    };
    assert!(call.run(10.0, |alice, bob| closed(alice) == 3 && closed(bob) == 3));
    for end in [ALICE, BOB] {
        assert_eq!(transports(&mut call, end), 1);
        assert_eq!(call.pc(end).connection_state(), ConnectionState::Connected);
        let counted = media_flows(&mut call, end);
        assert!(counted.iter().all(|(_, count)| *count == 3), "{counted:?}");
    }
    messages_flow(&mut call, channel);
    // And back again.
    call.negotiate_with(ALICE, without_bundle);
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    assert_eq!(transports(&mut call, ALICE), 4);
    let counted = media_flows(&mut call, BOB);
    assert!(counted.iter().all(|(_, count)| *count == 3), "{counted:?}");
    messages_flow(&mut call, channel);
}

#[test]
fn the_first_section_may_end_before_the_others() {
    let mut call = call(15, [BundlePolicy::MaxCompat; 2]);
    let (ids, channel) = add_sections(&mut call);
    call.negotiate_with(ALICE, without_bundle);
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    call.pc(ALICE).stop_transceiver(ids[0]).unwrap();
    call.negotiate_with(ALICE, without_bundle);
    // Longer than consent lasts: the transport that carries nothing any more is nobody's failure.
    call.run(40.0, |_, _| false);
    for end in [ALICE, BOB] {
        assert_eq!(call.pc(end).connection_state(), ConnectionState::Connected);
        assert_eq!(transports(&mut call, end), 3);
        let counted = media_flows(&mut call, end);
        let by_mid: Vec<_> = counted
            .iter()
            .map(|(mid, count)| (&**mid, *count))
            .collect();
        assert_eq!(by_mid, [("1", 3), ("2", 3)]);
    }
    messages_flow(&mut call, channel);
    // Another section takes its place, and the transport that was left.
    for end in [ALICE, BOB] {
        call.pc(end).add_track(Kind::Video, "w", &[]).unwrap();
    }
    call.negotiate_with(ALICE, without_bundle);
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    assert_eq!(transports(&mut call, BOB), 4);
    let counted = media_flows(&mut call, ALICE);
    assert!(counted.iter().all(|(_, count)| *count == 3), "{counted:?}");
}

#[test]
fn an_offer_that_is_taken_back_leaves_no_transport() {
    let mut call = call(16, [BundlePolicy::MaxCompat; 2]);
    add_sections(&mut call);
    let now = call.now();
    let offer = call
        .pc(ALICE)
        .create_offer(now, Default::default())
        .unwrap();
    let mut offer = offer;
    offer.sdp = without_bundle(offer.sdp);
    call.pc(BOB).set_remote_description(now, &offer).unwrap();
    call.pc(BOB).create_answer(now).unwrap();
    call.carry();
    assert_eq!(call.pc(BOB).transports().count(), 4);
    call.pc(BOB)
        .set_remote_description(now, &visavis_peer::Description::rollback())
        .unwrap();
    call.run(1.0, |_, _| false);
    assert_eq!(call.pc(BOB).transports().count(), 1);
    let events = &call.end(BOB).events;
    let count = |what: fn(&Event) -> bool| events.iter().filter(|event| what(event)).count();
    assert_eq!(count(|event| matches!(event, Event::AddressesWanted(_))), 3);
    assert_eq!(count(|event| matches!(event, Event::TransportClosed(_))), 3);
}

#[test]
fn closing_says_goodbye_on_every_transport() {
    let mut call = call(17, [BundlePolicy::MaxCompat; 2]);
    add_sections(&mut call);
    call.negotiate_with(ALICE, without_bundle);
    assert!(call.run(10.0, |alice, bob| is_up(alice) && is_up(bob)));
    let now = call.now();
    call.pc(ALICE).close(now);
    assert!(call.run(5.0, |_, bob| bob.pc.dtls_state() == DtlsState::Closed));
}
