//! What browsers, servers and RFC 8829 section 7 say, as offers to answer and as answers.

use visavis_sdp::{Attribute, Direction, MediaKind, Setup};

use super::*;
use crate::codecs::codecs_of;

macro_rules! recorded {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../tests/fixtures/", $name, ".sdp")),
        )
    };
}

const OFFERS: [(&str, &str); 15] = [
    recorded!("chromium156-offer-av-simulcast-data"),
    recorded!("chromium156-offer-mdnsless-dataonly"),
    recorded!("chromium156-offer-snap-ccfb-flexfec"),
    recorded!("firefox153-offer-av-data"),
    recorded!("firefox153-offer-dataonly-mdns"),
    recorded!("offer-ffmpeg-8.1.2-whip"),
    recorded!("offer-gst-whipclientsink-0.13"),
    recorded!("offer-gst-whipsink-0.13"),
    recorded!("offer-livekit-client-2.23.0-chromium156"),
    recorded!("offer-python-livekit-1.2.1"),
    recorded!("rfc8829/offer-A1"),
    recorded!("rfc8829/offer-B1"),
    recorded!("rfc8829/offer-B2"),
    recorded!("rfc8829/offer-C1"),
    recorded!("rfc8829/offer-C2"),
];

/// Every recorded offer is accepted in full, with an answer that holds nothing that was not
/// offered.
#[test]
fn recorded_offers_are_answered() {
    for (name, text) in OFFERS {
        let mut end = End::new(1);
        end.try_remote(&Description::offer(text))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let answer = end.answer();
        end.try_local(&answer)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (offer, answer) = (SessionDescription::parse(text).unwrap(), parse(&answer));
        assert_eq!(offer.media.len(), answer.media.len(), "{name}");
        assert_eq!(mids(&offer), mids(&answer), "{name}");
        let group = offer.bundle_groups().next().unwrap();
        assert_eq!(answer.bundle_groups().next().unwrap(), group, "{name}");
        for (offered, answered) in offer.media.iter().zip(&answer.media) {
            assert_eq!(offered.kind, answered.kind, "{name}");
            assert_eq!(offered.protocol, answered.protocol, "{name}");
            assert!(!answered.is_rejected(), "{name}");
            let setup = answered.attributes.setup();
            let expected = match offered.attributes.setup() {
                Some(Setup::Active) => Setup::Passive,
                _ => Setup::Active,
            };
            assert_eq!(setup, Some(expected), "{name}");
            for format in &answered.formats {
                assert!(offered.formats.contains(format), "{name}: {format}");
            }
            for map in answered.attributes.extmaps() {
                let same = |m: &visavis_sdp::ExtMap| m.id == map.id && m.uri == map.uri;
                assert!(offered.attributes.extmaps().any(same), "{name}: {map}");
            }
            for feedback in answered.attributes.rtcp_fbs() {
                assert!(
                    offered.attributes.rtcp_fbs().any(|f| f == feedback),
                    "{name}: {feedback}"
                );
            }
            let unknown = |a: &&Attribute| matches!(a, Attribute::Other { .. });
            assert_eq!(answered.attributes.iter().find(unknown), None, "{name}");
        }
        assert_eq!(end.jsep.state, crate::jsep::SignalingState::Stable);
        // And a later offer of ours follows it.
        let later = parse(&end.offer());
        assert_eq!(mids(&later), mids(&offer), "{name}");
        assert!(!end.needs(), "{name}");
    }
}

#[test]
fn codecs_of_chromium_and_firefox_are_all_known() {
    for (name, text) in [OFFERS[0], OFFERS[3]] {
        let mut end = End::new(1);
        end.set_remote(&Description::offer(text));
        let answer = parse(&end.answer());
        let offer = SessionDescription::parse(text).unwrap();
        for (offered, answered) in offer.media.iter().zip(&answer.media) {
            assert_eq!(offered.formats, answered.formats, "{name}");
        }
    }
}

/// Puts a recorded answer's sections under our mids, and applies it to our own offer.
fn take_answer(name: &str, text: &str, end: &mut End) {
    let offer = end.offer();
    end.set_local(&offer);
    end.try_remote(&Description::answer(text))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn answers_of_browsers_are_taken() {
    for (name, text) in [
        recorded!("chromium156-answer-av-data"),
        recorded!("firefox153-answer-av-data"),
    ] {
        let mut end = End::new(1);
        end.add_track(Kind::Audio);
        end.add_track(Kind::Video);
        end.jsep.data.requested = true;
        take_answer(name, text, &mut end);
        let video = &end.jsep.transceivers[1];
        assert_eq!(video.mid.as_deref(), Some("1"));
        assert!(
            video.sender.codecs.iter().any(|codec| codec.is("VP8")),
            "{name}"
        );
        assert!(!video.sender.extensions.is_empty(), "{name}");
        let remote = &end.jsep.current_remote.as_ref().unwrap().sdp;
        let expected = remote.media[1].direction().reversed();
        assert_eq!(video.current_direction, Some(expected.into()), "{name}");
        assert_eq!(end.jsep.data.section, Some(2));
        assert_eq!(end.jsep.exchange().unwrap().1.kind, SdpType::Answer);
    }
}

/// RFC 8829 section 7: our offers with the mids of the examples, and the examples' answers.
#[test]
fn rfc8829_section_7_answers_are_taken() {
    for (name, text, with_data) in [
        (
            "answer-A1",
            include_str!("../../../tests/fixtures/rfc8829/answer-A1.sdp"),
            false,
        ),
        (
            "answer-B1",
            include_str!("../../../tests/fixtures/rfc8829/answer-B1.sdp"),
            true,
        ),
        (
            "answer-C1",
            include_str!("../../../tests/fixtures/rfc8829/answer-C1.sdp"),
            false,
        ),
    ] {
        let mut end = End::new(1);
        end.add_track(Kind::Audio);
        match with_data {
            true => end.jsep.data.requested = true,
            false => {
                end.add_track(Kind::Video);
            }
        }
        let offer = end.offer();
        end.set_local(&offer);
        let mut answer = SessionDescription::parse(text).unwrap();
        let names = mids(&answer)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let renamed = names.iter().zip(mids(&parse(&offer))).fold(
            answer.to_string(),
            |text, (theirs, ours)| {
                text.replace(&format!("a=mid:{theirs}\r"), &format!("a=mid:{ours}\r"))
                    .replace(&format!(" {theirs}"), &format!(" {ours}"))
            },
        );
        end.try_remote(&Description::answer(renamed))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        answer.media.retain(|media| media.kind == MediaKind::Audio);
        let audio = &end.jsep.transceivers[0];
        let theirs = codecs_of(Kind::Audio, &answer.media[0]);
        assert_eq!(
            audio.sender.codecs[0].payload_type, theirs[0].payload_type,
            "{name}"
        );
        assert_eq!(audio.sender.codecs[0].name, "opus", "{name}");
    }
}

/// RFC 8829 section 7.2: Bob adds two video sections, one with simulcast, and Alice answers recvonly.
#[test]
fn rfc8829_section_7_2_adds_sections() {
    let mut alice = End::new(1);
    alice.set_remote(&Description::offer(include_str!(
        "../../../tests/fixtures/rfc8829/offer-B2.sdp"
    )));
    let answer = alice.answer();
    alice.set_local(&answer);
    let answer = parse(&answer);
    let directions: Vec<_> = answer.media.iter().map(|media| media.direction()).collect();
    assert_eq!(directions[2..], [Direction::RecvOnly, Direction::RecvOnly]);
    assert_eq!(alice.jsep.transceivers[1].receiver.rids.len(), 3);
}
