//! The order of events, as the tasks of the specification give it: webrtc-pc sections 4.4.1.5
//! (descriptions), 4.4.1.6 and 5.6 (gathering, states of ICE), 5.5 (states of DTLS), 6.1 and 6.2 (channels).

mod common;

use common::{ALICE, BOB, Call};
use visavis_peer::{ChannelOptions, Description, Direction, Event, Kind};

/// An event in one word or two.
fn name(event: &Event) -> String {
    match event {
        Event::SignalingState(state) => format!("signalingstatechange {state:?}"),
        Event::NegotiationNeeded => "negotiationneeded".into(),
        Event::IceCandidate(Some(candidate)) if candidate.candidate.is_empty() => {
            "icecandidate end".into()
        }
        Event::IceCandidate(Some(_)) => "icecandidate".into(),
        Event::IceCandidate(None) => "icecandidate null".into(),
        Event::IceGatheringState(state) => format!("icegatheringstatechange {state:?}"),
        Event::IceConnectionState(state) => format!("iceconnectionstatechange {state:?}"),
        Event::SelectedPair(_) => "selectedcandidatepairchange".into(),
        Event::DtlsState(state) => format!("dtls statechange {state:?}"),
        Event::SctpState(state) => format!("sctp statechange {state:?}"),
        Event::ConnectionState(state) => format!("connectionstatechange {state:?}"),
        Event::StreamAddedTrack { .. } => "addtrack".into(),
        Event::StreamRemovedTrack { .. } => "removetrack".into(),
        Event::Track { .. } => "track".into(),
        Event::TrackMuted(_) => "mute".into(),
        Event::TrackEnded(_) => "ended".into(),
        Event::DataChannel(_) => "datachannel".into(),
        Event::DataChannelOpen(_) => "open".into(),
        Event::DataChannelClosing(_) => "closing".into(),
        Event::DataChannelClosed(_) => "close".into(),
        Event::Message { .. } => "message".into(),
        other => format!("{other:?}"),
    }
}

/// What one end was told since it was last asked; targets of congestion control left out.
fn told(call: &mut Call, end: usize) -> Vec<String> {
    call.carry();
    let events = std::mem::take(&mut call.end(end).events);
    let is_target = |event: &&Event| matches!(event, Event::TargetBitrate(_));
    events
        .iter()
        .filter(|event| !is_target(event))
        .map(name)
        .collect()
}

fn up(call: &mut Call) {
    let open = |event: &Event| matches!(event, Event::DataChannelOpen(_));
    assert!(call.run(10.0, |alice, bob| alice.saw(open) && bob.saw(open)));
    call.run(1.0, |_, _| false);
}

#[test]
fn a_connection_comes_up_in_the_order_of_the_specification() {
    let mut call = Call::plain(3, 0.0);
    let now = call.now();
    call.pc(ALICE)
        .add_track(Kind::Audio, "a", &["s".into()])
        .unwrap();
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    // Once, however much was added.
    assert_eq!(told(&mut call, ALICE), ["negotiationneeded"]);
    call.pc(ALICE).set_local_description(now, None).unwrap();
    let gathered = [
        "icegatheringstatechange Gathering",
        "icecandidate",
        "icecandidate end",
        "icegatheringstatechange Complete",
        "icecandidate null",
    ];
    let offered: Vec<&str> = ["signalingstatechange HaveLocalOffer"]
        .into_iter()
        .chain(gathered)
        .collect();
    assert_eq!(told(&mut call, ALICE), offered);
    let offer = call.pc(ALICE).local_description().unwrap();
    call.pc(BOB).set_remote_description(now, &offer).unwrap();
    assert_eq!(
        told(&mut call, BOB),
        ["signalingstatechange HaveRemoteOffer", "addtrack", "track"]
    );
    call.pc(BOB).set_local_description(now, None).unwrap();
    let bob = told(&mut call, BOB);
    assert_eq!(bob[0], "signalingstatechange Stable");
    // Gathering and checking begin together; nothing says which task is queued first.
    let (gathering, rest): (Vec<_>, Vec<_>) = bob[1..]
        .iter()
        .partition(|event| event.starts_with("icegath") || event.starts_with("icecand"));
    assert_eq!(gathering, gathered);
    assert_eq!(
        rest,
        [
            "iceconnectionstatechange Checking",
            "connectionstatechange Connecting"
        ]
    );
    let answer = call.pc(BOB).local_description().unwrap();
    call.pc(ALICE).set_remote_description(now, &answer).unwrap();
    up(&mut call);
    let transports = [
        "selectedcandidatepairchange",
        "iceconnectionstatechange Connected",
        "dtls statechange Connecting",
        "dtls statechange Connected",
        "connectionstatechange Connected",
        "sctp statechange Connected",
    ];
    let alice = told(&mut call, ALICE);
    assert_eq!(
        alice[..3],
        [
            "signalingstatechange Stable",
            "iceconnectionstatechange Checking",
            "connectionstatechange Connecting"
        ]
    );
    let is_completed = |event: &&String| *event != "iceconnectionstatechange Completed";
    let rest: Vec<_> = alice[3..].iter().filter(is_completed).collect();
    assert_eq!(rest, [&transports[..], &["open"]].concat());
    let bob = told(&mut call, BOB);
    let rest: Vec<_> = bob.iter().filter(is_completed).collect();
    assert_eq!(rest, [&transports[..], &["datachannel", "open"]].concat());
}

#[test]
fn a_later_exchange_tells_what_goes_before_what_comes() {
    let mut call = Call::plain(4, 0.0);
    let now = call.now();
    let sound = call
        .pc(ALICE)
        .add_track(Kind::Audio, "a", &["s".into()])
        .unwrap();
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    call.negotiate(ALICE);
    up(&mut call);
    told(&mut call, ALICE);
    told(&mut call, BOB);
    // The sound goes, pictures come.
    call.pc(ALICE)
        .set_direction(sound, Direction::Inactive)
        .unwrap();
    call.pc(ALICE)
        .add_track(Kind::Video, "v", &["s".into()])
        .unwrap();
    assert_eq!(told(&mut call, ALICE), ["negotiationneeded"]);
    let now = call.now();
    call.pc(ALICE).set_local_description(now, None).unwrap();
    assert_eq!(
        told(&mut call, ALICE),
        ["signalingstatechange HaveLocalOffer"]
    );
    let offer = call.pc(ALICE).local_description().unwrap();
    call.pc(BOB).set_remote_description(now, &offer).unwrap();
    assert_eq!(
        told(&mut call, BOB),
        [
            "signalingstatechange HaveRemoteOffer",
            "mute",
            "removetrack",
            "addtrack",
            "track"
        ]
    );
    call.pc(BOB).set_local_description(now, None).unwrap();
    assert_eq!(told(&mut call, BOB), ["signalingstatechange Stable"]);
    let answer = call.pc(BOB).local_description().unwrap();
    call.pc(ALICE).set_remote_description(now, &answer).unwrap();
    assert_eq!(told(&mut call, ALICE), ["signalingstatechange Stable"]);
}

#[test]
fn what_was_added_meanwhile_needs_another_negotiation_once_all_is_told() {
    let mut call = Call::plain(5, 0.0);
    let now = call.now();
    call.pc(ALICE).add_track(Kind::Audio, "a", &[]).unwrap();
    assert_eq!(told(&mut call, ALICE), ["negotiationneeded"]);
    call.pc(ALICE).set_local_description(now, None).unwrap();
    let offer = call.pc(ALICE).local_description().unwrap();
    // Not told while an offer is pending (section 4.7.3).
    call.pc(ALICE).add_track(Kind::Video, "v", &[]).unwrap();
    assert!(!told(&mut call, ALICE).contains(&"negotiationneeded".into()));
    call.pc(BOB).set_remote_description(now, &offer).unwrap();
    call.pc(BOB).set_local_description(now, None).unwrap();
    let answer = call.pc(BOB).local_description().unwrap();
    call.pc(ALICE).set_remote_description(now, &answer).unwrap();
    let events = told(&mut call, ALICE);
    assert_eq!(events[0], "signalingstatechange Stable");
    let needed: Vec<_> = events
        .iter()
        .filter(|e| *e == "negotiationneeded")
        .collect();
    assert_eq!(needed.len(), 1, "{events:?}");
}

#[test]
fn rollback_and_glare_tell_the_states_in_between() {
    let mut call = Call::plain(6, 0.0);
    let now = call.now();
    for end in [ALICE, BOB] {
        call.pc(end).add_track(Kind::Audio, "a", &[]).unwrap();
        told(&mut call, end);
        call.pc(end).set_local_description(now, None).unwrap();
    }
    told(&mut call, BOB);
    let offer = call.pc(ALICE).local_description().unwrap();
    // The polite end: its own offer is taken back first (section 4.4.1.5 step 4.1).
    call.pc(BOB).set_remote_description(now, &offer).unwrap();
    let events = told(&mut call, BOB);
    assert_eq!(
        events[..2],
        [
            "signalingstatechange Stable",
            "signalingstatechange HaveRemoteOffer"
        ],
        "{events:?}"
    );
    assert!(events.contains(&"track".into()), "{events:?}");
    call.pc(BOB)
        .set_remote_description(now, &Description::rollback())
        .unwrap();
    let events = told(&mut call, BOB);
    assert_eq!(events[0], "signalingstatechange Stable", "{events:?}");
    assert_eq!(events.last().unwrap(), "negotiationneeded", "{events:?}");
}

#[test]
fn a_closed_connection_tells_nothing() {
    let mut call = Call::plain(7, 0.0);
    let now = call.now();
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    call.negotiate(ALICE);
    up(&mut call);
    told(&mut call, ALICE);
    told(&mut call, BOB);
    let now = call.now();
    call.pc(ALICE).close(now);
    call.run(2.0, |_, _| false);
    // Section 4.4.2, close: no event fires at the end that closes.
    assert_eq!(told(&mut call, ALICE), [""; 0]);
    // The other end learns it from SCTP and DTLS: channels close, then the transports.
    let bob = told(&mut call, BOB);
    let position = |what: &str| bob.iter().position(|event| event == what);
    assert!(position("close").is_some(), "{bob:?}");
    assert!(position("dtls statechange Closed").is_some(), "{bob:?}");
}
