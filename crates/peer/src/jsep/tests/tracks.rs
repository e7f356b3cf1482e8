//! Directions, remote tracks, and when negotiation is needed.

use visavis_sdp::Direction;

use super::*;
use crate::jsep::SignalingState;
use crate::transceiver::TransceiverDirection;

#[test]
fn a_track_is_told_after_the_state_and_the_streams() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    let offer = a.offer();
    b.set_remote(&offer);
    let id = b.jsep.transceivers[0].id;
    assert_eq!(
        b.told(),
        [
            Event::SignalingState(SignalingState::HaveRemoteOffer),
            Event::StreamAddedTrack {
                transceiver: id,
                stream: "stream".into()
            },
            Event::Track {
                transceiver: id,
                streams: vec!["stream".into()]
            },
        ]
    );
    let offered = parse(&offer);
    let track = offered.media[0]
        .attributes
        .msids()
        .next()
        .unwrap()
        .track
        .clone();
    assert_eq!(Some(&b.jsep.transceivers[0].receiver.track), track.as_ref());
    assert_eq!(
        b.jsep.transceivers[0].direction,
        TransceiverDirection::RecvOnly
    );
}

/// Every wanted direction against every other: both ends end with what both want.
#[test]
fn agreed_directions_are_what_both_ends_want() {
    let all = [
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];
    for ours in all {
        for theirs in all {
            let (mut a, mut b) = (End::new(1), End::new(2));
            let here = a.add_track(Kind::Audio);
            a.jsep.transceiver_mut(here).unwrap().direction = ours.into();
            let offer = a.offer();
            a.set_local(&offer);
            b.set_remote(&offer);
            let there = b.jsep.transceivers[0].id;
            b.jsep.transceiver_mut(there).unwrap().direction = theirs.into();
            let answer = b.answer();
            b.set_local(&answer);
            a.set_remote(&answer);
            let agreed = ours.intersection(theirs.reversed());
            let current = |end: &End, id| end.jsep.transceiver(id).unwrap().current_direction;
            assert_eq!(current(&a, here), Some(agreed.into()), "{ours} {theirs}");
            assert_eq!(current(&b, there), Some(agreed.reversed().into()));
            let track = |event: &Event| matches!(event, Event::Track { .. });
            assert_eq!(a.told().iter().any(track), agreed.receives());
            // The answerer was told of what the offer would send, and hears if it is refused.
            let told = b.told();
            assert_eq!(told.iter().any(track), ours.sends());
            let muted = told.contains(&Event::TrackMuted(there));
            assert_eq!(muted, ours.sends() && !theirs.receives());
        }
    }
}

#[test]
fn a_track_that_stops_is_muted_and_may_come_back() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let id = a.add_track(Kind::Audio);
    negotiate(&mut a, &mut b);
    b.told();
    let there = b.jsep.transceivers[0].id;
    a.jsep.transceiver_mut(id).unwrap().direction = TransceiverDirection::Inactive;
    assert!(a.needs());
    negotiate(&mut a, &mut b);
    let told = b.told();
    assert_eq!(
        told[1..3],
        [
            Event::TrackMuted(there),
            Event::StreamRemovedTrack {
                transceiver: there,
                stream: "stream".into()
            }
        ]
    );
    a.jsep.transceiver_mut(id).unwrap().direction = TransceiverDirection::SendRecv;
    negotiate(&mut a, &mut b);
    assert!(
        b.told()
            .iter()
            .any(|event| matches!(event, Event::Track { .. }))
    );
}

#[test]
fn negotiation_is_needed_for_what_the_peer_does_not_know() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    assert!(!a.needs());
    let id = a.add_track(Kind::Audio);
    assert!(a.needs());
    negotiate(&mut a, &mut b);
    assert!(!a.needs() && !b.needs());
    // A new stream.
    a.jsep.transceiver_mut(id).unwrap().sender.streams = vec!["other".into()];
    assert!(a.needs());
    negotiate(&mut a, &mut b);
    assert!(!a.needs());
    // Sending from the end that only received.
    let there = b.jsep.transceivers[0].id;
    b.jsep.transceiver_mut(there).unwrap().direction = TransceiverDirection::SendRecv;
    assert!(b.needs());
    negotiate(&mut b, &mut a);
    assert!(!a.needs() && !b.needs());
    // Data channels.
    a.jsep.data.requested = true;
    assert!(a.needs());
    negotiate(&mut a, &mut b);
    assert!(!a.needs() && !b.needs());
    // A restart.
    a.jsep.restart_needed = true;
    assert!(a.needs());
}

#[test]
fn a_direction_that_the_peer_did_not_take_up_needs_no_negotiation() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    negotiate(&mut a, &mut b);
    // We offered sendrecv and got recvonly: asking again would change nothing.
    assert!(!a.needs());
}

#[test]
fn an_offered_section_takes_an_added_track_of_its_kind() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    let video = b.add_track(Kind::Video);
    // One of addTransceiver is not taken.
    let audio = b.add(Kind::Audio);
    let offer = a.offer();
    b.set_remote(&offer);
    let mid = |id| b.jsep.transceiver(id).unwrap().mid.clone();
    assert_eq!(mid(video).as_deref(), Some("1"));
    assert_eq!(mid(audio), None);
    assert_eq!(b.jsep.transceivers.len(), 3);
}

#[test]
fn offers_made_while_an_offer_is_pending_hold_what_was_added_since() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    let offer = a.offer();
    a.set_local(&offer);
    a.add_track(Kind::Video);
    let second = a.offer();
    a.set_local(&second);
    b.set_remote(&second);
    let answer = b.answer();
    b.set_local(&answer);
    a.set_remote(&answer);
    assert_eq!(mids(&parse(&second)), ["0", "1"]);
    assert!(!a.needs());
}
