//! The signaling state machine (webrtc-pc section 4.3.1, RFC 9429 section 3.2).

use super::*;
use crate::jsep::SignalingState;

fn pair() -> (End, End) {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    b.add_track(Kind::Audio);
    (a, b)
}

#[test]
fn an_exchange_walks_through_the_states_of_both_ends() {
    let (mut a, mut b) = pair();
    negotiate(&mut a, &mut b);
    let states = |end: &mut End| -> Vec<SignalingState> {
        end.told()
            .into_iter()
            .filter_map(|event| match event {
                Event::SignalingState(state) => Some(state),
                _ => None,
            })
            .collect()
    };
    assert_eq!(
        states(&mut a),
        [SignalingState::HaveLocalOffer, SignalingState::Stable]
    );
    assert_eq!(
        states(&mut b),
        [SignalingState::HaveRemoteOffer, SignalingState::Stable]
    );
}

/// Every description in every state: allowed, or InvalidStateError and nothing changed.
#[test]
fn descriptions_that_do_not_fit_the_state_are_refused() {
    use SdpType::{Answer, Offer, PrAnswer};
    // Reaches a state, with what the other end said on the way there.
    let reach = |state: SignalingState| -> (End, Description, Description) {
        let (mut a, mut b) = pair();
        let offer = a.offer();
        b.set_remote(&offer);
        let answer = b.answer();
        let pranswer = with_kind(PrAnswer, &answer);
        match state {
            SignalingState::Stable => {}
            SignalingState::HaveLocalOffer => a.set_local(&offer),
            SignalingState::HaveRemotePrAnswer => {
                a.set_local(&offer);
                a.set_remote(&pranswer);
            }
            SignalingState::HaveRemoteOffer => return (b, offer, answer),
            SignalingState::HaveLocalPrAnswer => {
                b.set_local(&pranswer);
                return (b, offer, answer);
            }
            SignalingState::Closed => a.jsep.close(),
        }
        (a, offer, answer)
    };
    for (state, local_allowed, remote_allowed) in [
        (SignalingState::Stable, vec![Offer], vec![Offer]),
        (
            SignalingState::HaveLocalOffer,
            vec![Offer],
            // An offer here is glare, and takes the local one back.
            vec![Offer, Answer, PrAnswer],
        ),
        (
            SignalingState::HaveRemoteOffer,
            vec![Answer, PrAnswer],
            vec![Offer],
        ),
        (
            SignalingState::HaveLocalPrAnswer,
            vec![Answer, PrAnswer],
            vec![],
        ),
        (
            SignalingState::HaveRemotePrAnswer,
            vec![],
            vec![Answer, PrAnswer],
        ),
        (SignalingState::Closed, vec![], vec![]),
    ] {
        for kind in [Offer, Answer, PrAnswer] {
            let (mut end, offer, answer) = reach(state);
            assert_eq!(end.jsep.state, state);
            let made = if kind == Offer { &offer } else { &answer };
            let local = end.try_local(&Description {
                kind,
                sdp: String::new(),
            });
            assert_eq!(
                local.is_ok(),
                local_allowed.contains(&kind),
                "local {kind:?} in {state:?}: {local:?}"
            );
            if let Err(error) = local {
                assert_eq!(error.name(), "InvalidStateError", "{kind:?} in {state:?}");
                assert_eq!(end.jsep.state, state);
            }
            let (mut end, ..) = reach(state);
            let remote = end.try_remote(&with_kind(kind, made));
            assert_eq!(
                remote.is_ok(),
                remote_allowed.contains(&kind),
                "remote {kind:?} in {state:?}: {remote:?}"
            );
            if let Err(error) = remote {
                assert_eq!(error.name(), "InvalidStateError", "{kind:?} in {state:?}");
                assert_eq!(end.jsep.state, state);
            }
        }
    }
}

#[test]
fn offers_and_answers_are_made_in_their_states_only() {
    let (mut a, mut b) = pair();
    let local = a.local.clone();
    assert_eq!(
        a.jsep.create_answer(&local).unwrap_err().name(),
        "InvalidStateError"
    );
    let offer = a.offer();
    b.set_remote(&offer);
    assert_eq!(
        b.jsep.create_offer(&local).unwrap_err().name(),
        "InvalidStateError"
    );
    a.jsep.close();
    assert_eq!(
        a.jsep.create_offer(&local).unwrap_err().name(),
        "InvalidStateError"
    );
}

#[test]
fn a_local_description_must_be_the_latest_one_made() {
    let (mut a, _) = pair();
    let first = a.offer();
    let munged = Description::offer(first.sdp.replace("a=setup:actpass", "a=setup:active"));
    assert_eq!(
        a.try_local(&munged).unwrap_err().name(),
        "InvalidModificationError"
    );
    let second = a.offer();
    assert_eq!(
        a.try_local(&first).unwrap_err().name(),
        "InvalidModificationError"
    );
    a.set_local(&second);
}

#[test]
fn a_provisional_answer_is_followed_by_the_final_one() {
    let (mut a, mut b) = pair();
    let offer = a.offer();
    a.set_local(&offer);
    b.set_remote(&offer);
    let answer = b.answer();
    let provisional = with_kind(SdpType::PrAnswer, &answer);
    b.set_local(&provisional);
    a.set_remote(&provisional);
    assert_eq!(a.jsep.state, SignalingState::HaveRemotePrAnswer);
    assert!(a.jsep.current_local.is_none() && a.jsep.exchange().is_some());
    b.set_local(&answer);
    a.set_remote(&answer);
    assert_eq!(a.jsep.state, SignalingState::Stable);
    assert!(a.jsep.pending_local.is_none() && a.jsep.pending_remote.is_none());
}

#[test]
fn rollback_of_a_local_offer_forgets_its_sections() {
    let (mut a, mut b) = pair();
    let id = a.jsep.transceivers[0].id;
    let offer = a.offer();
    a.set_local(&offer);
    assert!(a.jsep.transceiver(id).unwrap().mid.is_some());
    a.set_local(&Description::rollback());
    let transceiver = a.jsep.transceiver(id).unwrap();
    assert_eq!((&transceiver.mid, transceiver.section), (&None, None));
    assert!(a.jsep.local().is_none());
    assert!(a.needs());
    // And all works afterwards.
    negotiate(&mut a, &mut b);
    assert!(!a.needs() && !b.needs());
}

#[test]
fn rollback_of_a_remote_offer_removes_the_transceivers_it_made() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    let kept = b.add_track(Kind::Audio);
    let offer = a.offer();
    b.set_remote(&offer);
    assert_eq!(b.jsep.transceivers.len(), 2);
    b.told();
    b.set_remote(&Description::rollback());
    let left: Vec<_> = b.jsep.transceivers.iter().map(|t| t.id).collect();
    assert_eq!(left, [kept]);
    assert_eq!(b.jsep.transceivers[0].mid, None);
    let told = b.told();
    assert_eq!(told[0], Event::SignalingState(SignalingState::Stable));
    assert!(
        told.iter()
            .any(|event| matches!(event, Event::TrackEnded(_)))
    );
    assert!(told.contains(&Event::TrackMuted(kept)));
    // A second rollback has nothing to take back.
    assert_eq!(
        b.try_remote(&Description::rollback()).unwrap_err().name(),
        "InvalidStateError"
    );
}

#[test]
fn a_transceiver_that_got_a_track_meanwhile_survives_rollback() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    let offer = a.offer();
    b.set_remote(&offer);
    let id = b.jsep.transceivers[0].id;
    let transceiver = b.jsep.transceiver_mut(id).unwrap();
    transceiver.sender.track = Some("mine".into());
    transceiver.created_by_add_track = true;
    b.set_remote(&Description::rollback());
    let transceiver = b.jsep.transceiver(id).unwrap();
    assert_eq!(transceiver.mid, None);
    assert!(!transceiver.is_stopped());
}

/// Perfect negotiation: both offer at once, the polite end takes the other's offer.
#[test]
fn glare_is_resolved_by_an_implicit_rollback() {
    let (mut polite, mut impolite) = pair();
    let offer = polite.offer();
    polite.set_local(&offer);
    let other = impolite.offer();
    impolite.set_local(&other);
    polite.told();
    polite.set_remote(&other);
    let states: Vec<_> = polite
        .told()
        .into_iter()
        .filter(|event| matches!(event, Event::SignalingState(_)))
        .collect();
    assert_eq!(
        states,
        [
            Event::SignalingState(SignalingState::Stable),
            Event::SignalingState(SignalingState::HaveRemoteOffer)
        ]
    );
    let answer = polite.answer();
    polite.set_local(&answer);
    impolite.set_remote(&answer);
    assert_eq!(polite.jsep.transceivers.len(), 1);
    assert!(!polite.needs() && !impolite.needs());
}

#[test]
fn a_bad_offer_in_glare_leaves_the_own_offer_in_place() {
    let (mut a, _) = pair();
    let offer = a.offer();
    a.set_local(&offer);
    let error = a
        .try_remote(&Description::offer(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nhello\r\n",
        ))
        .unwrap_err();
    assert_eq!(error.sdp_line_number(), Some(3));
    assert_eq!(a.jsep.state, SignalingState::HaveLocalOffer);
    assert!(a.jsep.pending_local.is_some());
}
