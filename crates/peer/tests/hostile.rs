//! Bad input: refused by name, and nothing has changed.

mod common;

use std::time::Instant;

use common::{ALICE, BOB, Call};
use proptest::prelude::*;
use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_peer::{
    ChannelOptions, Configuration, Description, Event, IceCandidate, Kind, PeerConnection, SdpType,
};

const OFFERS: [&str; 3] = [
    include_str!("fixtures/chromium156-offer-av-simulcast-data.sdp"),
    include_str!("fixtures/firefox153-offer-av-data.sdp"),
    include_str!("fixtures/rfc8829/offer-B2.sdp"),
];

fn connection(now: Instant) -> PeerConnection {
    let mut pc = PeerConnection::new(Configuration::default(), Random::from_u64(1), now).unwrap();
    pc.add_track(Kind::Audio, "a", &["s".into()]).unwrap();
    pc.add_track(Kind::Video, "v", &["s".into()]).unwrap();
    pc.create_data_channel(now, ChannelOptions::default())
        .unwrap();
    pc
}

/// What an application can see of the negotiation.
fn visible(pc: &PeerConnection) -> String {
    format!(
        "{:?} {:?} {:?} {:?}",
        pc.signaling_state(),
        pc.transceivers(),
        pc.local_description(),
        pc.remote_description()
    )
}

/// An offer with a run of bytes replaced. The fixtures are ASCII.
fn damaged() -> impl Strategy<Value = String> {
    (
        0..OFFERS.len(),
        any::<prop::sample::Index>(),
        0..60usize,
        "[ -~\r\n]{0,12}",
    )
        .prop_map(|(which, at, cut, with)| {
            let offer = OFFERS[which];
            let at = at.index(offer.len());
            let end = (at + cut).min(offer.len());
            format!("{}{with}{}", &offer[..at], &offer[end..])
        })
}

/// An offer without some lines, and with others twice or swapped.
fn shuffled() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3u8), 0..6);
    (0..OFFERS.len(), edits).prop_map(|(which, edits)| {
        let mut lines: Vec<&str> = OFFERS[which].lines().collect();
        for (index, what) in edits {
            let at = index.index(lines.len());
            match what {
                0 => drop(lines.remove(at)),
                1 => {
                    let line = lines[at];
                    lines.insert(at, line);
                }
                _ => {
                    let other = lines.len() - 1 - at;
                    lines.swap(at, other);
                }
            }
        }
        lines.join("\r\n") + "\r\n"
    })
}

fn check_offer(text: &str) {
    let now = Instant::now();
    let mut pc = connection(now);
    let before = visible(&pc);
    let offer = Description::offer(text);
    match pc.set_remote_description(now, &offer) {
        Err(error) => {
            assert_eq!(visible(&pc), before, "{error}");
            pc.set_local_description(now, None).unwrap();
        }
        Ok(()) => {
            let answer = pc.create_answer(now).unwrap();
            pc.set_local_description(now, Some(&answer)).unwrap();
            let parsed = visavis_sdp::SessionDescription::parse(&answer.sdp).unwrap();
            let offered = visavis_sdp::SessionDescription::parse(text).unwrap();
            assert_eq!(parsed.media.len(), offered.media.len());
            // Whatever was agreed on, a next offer can be made and taken back.
            pc.set_local_description(now, None).unwrap();
            pc.set_local_description(now, Some(&Description::rollback()))
                .unwrap();
        }
    }
    while pc.poll_event().is_some() {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn damaged_offers_are_answered_or_refused(text in damaged()) {
        check_offer(&text);
    }

    #[test]
    fn shuffled_offers_are_answered_or_refused(text in shuffled()) {
        check_offer(&text);
    }

    #[test]
    fn any_text_is_a_candidate_or_refused(text in "\\PC{0,80}", mid in 0..4u16) {
        let now = Instant::now();
        let mut pc = connection(now);
        pc.set_remote_description(now, &Description::offer(OFFERS[0])).unwrap();
        let before = visible(&pc);
        let candidate = IceCandidate {
            candidate: text,
            sdp_mline_index: Some(mid),
            ..IceCandidate::default()
        };
        if let Err(error) = pc.add_ice_candidate(now, &candidate) {
            prop_assert_eq!(error.name(), "OperationError");
            prop_assert_eq!(visible(&pc), before);
        }
    }

    #[test]
    fn any_answer_is_taken_or_refused(text in damaged()) {
        let now = Instant::now();
        let mut pc = connection(now);
        pc.set_local_description(now, None).unwrap();
        let before = visible(&pc);
        let kind = if text.len() % 2 == 0 { SdpType::Answer } else { SdpType::PrAnswer };
        if pc.set_remote_description(now, &Description { kind, sdp: text }).is_err() {
            prop_assert_eq!(visible(&pc), before);
        }
    }
}

/// Datagrams of every kind, from the peer's address and from strangers, while a connection is up.
#[test]
fn any_datagram_is_dropped_and_the_connection_goes_on() {
    let mut call = Call::plain(1, 0.0);
    let now = call.now();
    let channel = call
        .pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    call.pc(ALICE).add_track(Kind::Video, "v", &[]).unwrap();
    call.negotiate(ALICE);
    let open = |event: &Event| matches!(event, Event::DataChannelOpen(_));
    assert!(call.run(10.0, |alice, bob| alice.saw(open) && bob.saw(open)));
    let mut random = Random::from_u64(7);
    let (now, local) = (call.now(), "203.0.113.2:5000".parse().unwrap());
    let mut out = TransmitBuf::new(8, 1500);
    for round in 0..20_000u32 {
        let remote = match round % 2 {
            0 => "203.0.113.1:5000".parse().unwrap(),
            _ => "198.51.100.9:4000".parse().unwrap(),
        };
        let mut datagram = vec![0; random.below(300) as usize];
        random.fill(&mut datagram);
        if let Some(first) = datagram.first_mut() {
            // STUN, DTLS in both forms, TURN channels, RTP, RTCP.
            *first = [0, 1, 22, 47, 64, 128, 144, 255][round as usize / 2 % 8];
        }
        let pc = call.pc(BOB);
        pc.handle_datagram(now, Path::udp(local, remote), &mut datagram);
        while pc.poll_transmit(now, &mut out).is_some() {}
        while pc.poll_event().is_some() {}
    }
    let hello = bytes::Bytes::from_static(b"hello");
    call.pc(ALICE)
        .send(now, channel, visavis_peer::MessageKind::Text, hello)
        .unwrap();
    assert!(call.run(10.0, |_, bob| {
        bob.saw(|e| matches!(e, Event::Message { .. }))
    }));
}

#[test]
fn calls_in_the_wrong_state_have_the_names_of_the_specification() {
    let now = Instant::now();
    let mut pc = connection(now);
    let candidate = IceCandidate {
        candidate: "candidate:1 1 udp 1 192.0.2.1 9 typ host".into(),
        sdp_mid: Some("0".into()),
        ..IceCandidate::default()
    };
    let name = |result: Result<(), visavis_peer::Error>| result.unwrap_err().name();
    assert_eq!(
        name(pc.add_ice_candidate(now, &candidate)),
        "InvalidStateError"
    );
    let nowhere = IceCandidate {
        sdp_mid: None,
        ..candidate.clone()
    };
    assert_eq!(name(pc.add_ice_candidate(now, &nowhere)), "TypeError");
    pc.set_remote_description(now, &Description::offer(OFFERS[0]))
        .unwrap();
    let elsewhere = IceCandidate {
        sdp_mid: Some("nowhere".into()),
        ..candidate.clone()
    };
    assert_eq!(
        name(pc.add_ice_candidate(now, &elsewhere)),
        "OperationError"
    );
    let other_session = IceCandidate {
        username_fragment: Some("other".into()),
        ..candidate.clone()
    };
    assert_eq!(
        name(pc.add_ice_candidate(now, &other_session)),
        "OperationError"
    );
    let options = ChannelOptions {
        max_retransmits: Some(1),
        max_packet_lifetime: Some(1),
        ..ChannelOptions::default()
    };
    let refused = pc.create_data_channel(now, options).unwrap_err();
    assert_eq!(refused.name(), "TypeError");
    assert_eq!(
        pc.add_track(Kind::Audio, "a", &[]).unwrap_err().name(),
        "InvalidAccessError"
    );
    assert_eq!(
        pc.add_track(Kind::Audio, "x\r\na=y", &[])
            .unwrap_err()
            .name(),
        "TypeError"
    );
    let id = pc.transceivers()[0].id;
    let mut parameters = pc.parameters(id).unwrap();
    parameters.encodings[0].rid = "new".into();
    assert_eq!(
        name(pc.set_parameters(id, parameters)),
        "InvalidModificationError"
    );
    let parameters = pc.parameters(id).unwrap();
    pc.set_parameters(id, parameters.clone()).unwrap();
    assert_eq!(name(pc.set_parameters(id, parameters)), "InvalidStateError");
    pc.close(now);
    assert_eq!(
        name(pc.set_local_description(now, None)),
        "InvalidStateError"
    );
    assert_eq!(
        name(pc.add_ice_candidate(now, &candidate)),
        "InvalidStateError"
    );
    assert_eq!(
        pc.add_track(Kind::Audio, "b", &[]).unwrap_err().name(),
        "InvalidStateError"
    );
    assert_eq!(pc.poll_event(), None);
}
