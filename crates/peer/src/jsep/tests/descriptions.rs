//! What offers and answers say (RFC 9429 sections 5.2 and 5.3), and what is refused.

use visavis_sdp::{Attribute, Direction, MediaKind, Setup};

use super::*;
use crate::codecs::codecs_of;

#[test]
fn an_offer_says_what_browsers_expect() {
    let mut a = End::new(1);
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    a.jsep.data.requested = true;
    let offer = parse(&a.offer());
    assert_eq!(offer.bundle_groups().next().unwrap(), ["0", "1", "2"]);
    assert!(offer.attributes.has_extmap_allow_mixed());
    for media in &offer.media {
        let attributes = &media.attributes;
        assert_eq!(attributes.setup(), Some(Setup::ActPass));
        assert_eq!(attributes.ice_ufrag(), Some("uf01"));
        assert!(attributes.ice_pwd().is_some());
        assert!(attributes.has_ice_option("trickle"));
        assert_eq!(attributes.fingerprints().count(), 1);
        assert_eq!(media.port, 9);
        if media.is_rtp() {
            assert!(attributes.has_rtcp_mux() && attributes.has_rtcp_rsize());
            assert_eq!(attributes.direction(), Some(Direction::SendRecv));
            let msid = attributes.msids().next().unwrap();
            assert_eq!(msid.stream_id(), Some("stream"));
            assert!(msid.track.is_some());
            assert!(attributes.ssrcs().any(|ssrc| ssrc.attribute == "cname"));
            let mid = attributes
                .extmaps()
                .find(|map| map.uri == crate::extensions::uri::MID);
            assert!(mid.is_some());
        }
    }
    let data = &offer.media[2];
    assert_eq!(data.kind, MediaKind::Application);
    assert_eq!(data.protocol, "UDP/DTLS/SCTP");
    assert_eq!(data.formats, ["webrtc-datachannel"]);
    assert_eq!(data.sctp_port(), Some(5000));
    assert_eq!(data.attributes.max_message_size(), Some(262_144));
    // The numbers of header extensions mean the same in all sections.
    let mut numbers: Vec<_> = offer
        .media
        .iter()
        .flat_map(|media| media.attributes.extmaps())
        .map(|map| (map.id, map.uri.clone()))
        .collect();
    numbers.sort();
    numbers.dedup();
    let mut ids: Vec<_> = numbers.iter().map(|(id, _)| id).collect();
    ids.dedup();
    assert_eq!(ids.len(), numbers.len());
}

#[test]
fn max_bundle_offers_all_but_the_first_section_as_bundle_only() {
    let mut settings = settings();
    settings.bundle_policy = BundlePolicy::MaxBundle;
    let (mut a, mut b) = (End::with(settings, 1), End::new(2));
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    let (offer, answer) = negotiate(&mut a, &mut b);
    assert_eq!((offer.media[0].port, offer.media[1].port), (9, 0));
    assert!(offer.media[1].attributes.has_bundle_only());
    assert!(answer.media.iter().all(|media| !media.is_rejected()));
    // Once bundled, ports are as usual.
    let (again, _) = negotiate(&mut a, &mut b);
    assert!(again.media.iter().all(|media| media.port == 9));
}

#[test]
fn versions_grow_and_the_session_stays() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    let (first, _) = negotiate(&mut a, &mut b);
    let (second, _) = negotiate(&mut a, &mut b);
    assert_eq!(first.origin.session_id, second.origin.session_id);
    assert!(second.origin.session_version > first.origin.session_version);
    assert_eq!(mids(&first), mids(&second));
}

#[test]
fn a_later_offer_keeps_the_agreed_payload_types() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Video);
    let offer = a.offer();
    // The peer calls VP8 what is H.264 here.
    let renumbered = offer
        .sdp
        .replace(" 96 97 ", " 105 106 ")
        .replace(":96 ", ":105 ")
        .replace(":97 ", ":106 ")
        .replace("apt=96\r", "apt=105\r");
    b.set_remote(&Description::offer(renumbered));
    let answer = b.answer();
    b.set_local(&answer);
    let again = parse(&b.offer());
    let codecs = codecs_of(Kind::Video, &again.media[0]);
    let vp8 = codecs.iter().find(|codec| codec.is("VP8")).unwrap();
    assert_eq!((vp8.payload_type, vp8.rtx), (105, Some(106)));
    // A number means one codec in all sections.
    b.add_track(Kind::Video);
    let both = parse(&b.offer());
    for codec in codecs_of(Kind::Video, &both.media[1]) {
        let same = codecs.iter().find(|c| c.payload_type == codec.payload_type);
        assert!(same.is_none_or(|same| same.matches(&codec)), "{codec:?}");
    }
}

#[test]
fn stopped_sections_are_recycled_for_any_kind() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let video = a.add_track(Kind::Video);
    a.add_track(Kind::Audio);
    negotiate(&mut a, &mut b);
    a.jsep.stop(video).unwrap();
    assert!(a.needs());
    let (offer, answer) = negotiate(&mut a, &mut b);
    assert!(offer.media[0].is_rejected() && answer.media[0].is_rejected());
    assert_eq!(offer.bundle_groups().next().unwrap(), ["1"]);
    assert!(a.jsep.transceiver(video).is_none());
    assert_eq!(b.jsep.transceivers.len(), 1);
    assert!(!a.needs());
    // A rejected section stays, until a new one takes its place under a new mid.
    let (still, _) = negotiate(&mut a, &mut b);
    assert_eq!(still.media.len(), 2);
    a.add_track(Kind::Audio);
    let (offer, answer) = negotiate(&mut a, &mut b);
    assert_eq!(offer.media.len(), 2);
    assert_eq!(mids(&offer), ["2", "1"]);
    assert_eq!(offer.media[0].kind, MediaKind::Audio);
    assert!(!answer.media[0].is_rejected());
    assert_eq!(b.jsep.transceivers.len(), 2);
}

#[test]
fn the_answerer_may_refuse_and_the_section_is_over_at_both_ends() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    let offer = a.offer();
    a.set_local(&offer);
    b.set_remote(&offer);
    let refused = b.jsep.transceivers[1].id;
    b.jsep.stop(refused).unwrap();
    let answer = b.answer();
    b.set_local(&answer);
    a.set_remote(&answer);
    let answer = parse(&answer);
    assert!(answer.media[1].is_rejected());
    assert_eq!(answer.bundle_groups().next().unwrap(), ["0"]);
    assert_eq!(a.jsep.transceivers.len(), 1);
    assert_eq!(b.jsep.transceivers.len(), 1);
}

/// What the bundle policies keep of two sections of sound, one of pictures and the data channels with a peer that knows no
/// BUNDLE (RFC 9429 section 4.1.1).
const KEPT: [(BundlePolicy, [bool; 4]); 3] = [
    (BundlePolicy::Balanced, [true, false, true, true]),
    (BundlePolicy::MaxCompat, [true, true, true, true]),
    (BundlePolicy::MaxBundle, [true, false, false, false]),
];

fn with_policy(bundle_policy: BundlePolicy, seed: u64) -> End {
    let settings = Settings {
        bundle_policy,
        ..settings()
    };
    End::with(settings, seed)
}

fn add_four_sections(end: &mut End) {
    end.add_track(Kind::Audio);
    end.add_track(Kind::Audio);
    end.add_track(Kind::Video);
    end.jsep.data.requested = true;
}

#[test]
fn an_offer_without_bundle_is_accepted_as_the_policy_says() {
    for (policy, kept) in KEPT {
        let (mut a, mut b) = (
            with_policy(BundlePolicy::MaxCompat, 1),
            with_policy(policy, 2),
        );
        add_four_sections(&mut a);
        let unbundled = a.offer().sdp.replace("a=group:BUNDLE 0 1 2 3\r\n", "");
        b.set_remote(&Description::offer(unbundled));
        let answer = parse(&b.answer());
        assert!(answer.bundle_groups().next().is_none());
        let accepted: Vec<_> = answer.media.iter().map(|m| !m.is_rejected()).collect();
        assert_eq!(accepted, kept, "{policy:?}");
    }
}

#[test]
fn of_several_bundle_groups_each_has_its_answer() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    add_four_sections(&mut a);
    let offer = a.offer().sdp;
    let offer = offer.replace("BUNDLE 0 1 2 3", "BUNDLE 0 1\r\na=group:BUNDLE 3 2");
    b.set_remote(&Description::offer(offer));
    let answer = parse(&b.answer());
    let groups: Vec<_> = answer.bundle_groups().collect();
    assert_eq!(groups, [["0", "1"], ["3", "2"]]);
    assert!(answer.media.iter().all(|media| !media.is_rejected()));
}

#[test]
fn sections_of_no_use_without_bundle_are_offered_as_bundle_only() {
    for (policy, kept) in KEPT {
        let mut a = with_policy(policy, 1);
        add_four_sections(&mut a);
        let offer = parse(&a.offer());
        let usable: Vec<_> = offer.media.iter().map(|media| media.port != 0).collect();
        assert_eq!(usable, kept, "{policy:?}");
        for media in &offer.media {
            assert_eq!(media.attributes.has_bundle_only(), media.port == 0);
        }
    }
}

#[test]
fn transports_apart_are_bounded_and_must_be_described() {
    let settings = Settings {
        bundle_policy: BundlePolicy::MaxCompat,
        max_transports: 3,
        ..settings()
    };
    let (mut a, mut b) = (
        with_policy(BundlePolicy::MaxCompat, 1),
        End::with(settings, 2),
    );
    add_four_sections(&mut a);
    let offer = a.offer().sdp.replace("a=group:BUNDLE 0 1 2 3\r\n", "");
    // The second section says nothing of ICE, and the third has no fingerprint that can be checked.
    let sections: Vec<_> = offer.split("m=").collect();
    let without = |section: &str, prefix: &str| -> String {
        let lines = section.split_inclusive("\r\n");
        lines.filter(|line| !line.starts_with(prefix)).collect()
    };
    for (second, third, accepted) in [
        (
            sections[2].to_owned(),
            sections[3].to_owned(),
            [true, true, true, false],
        ),
        (
            without(sections[2], "a=ice-pwd"),
            sections[3].to_owned(),
            [true, false, true, true],
        ),
        (
            sections[2].to_owned(),
            sections[3].replace("a=fingerprint:sha-256", "a=fingerprint:md5"),
            [true, true, false, true],
        ),
        (
            without(sections[2], "a=rtcp-mux"),
            sections[3].to_owned(),
            [true, false, true, true],
        ),
    ] {
        let (first, last) = (sections[1], sections[4]);
        let offer = [sections[0], first, &second, &third, last].join("m=");
        b.set_remote(&Description::offer(offer));
        let answer = parse(&b.answer());
        let found: Vec<_> = answer.media.iter().map(|m| !m.is_rejected()).collect();
        assert_eq!(found, accepted);
        b.set_remote(&Description::rollback());
    }
}

#[test]
fn setup_roles_follow_the_offer_and_then_stay() {
    for (offered, answered) in [
        ("actpass", Setup::Active),
        ("active", Setup::Passive),
        ("passive", Setup::Active),
    ] {
        let (mut a, mut b) = (End::new(1), End::new(2));
        a.add_track(Kind::Audio);
        let offer = a
            .offer()
            .sdp
            .replace("setup:actpass", &format!("setup:{offered}"));
        b.set_remote(&Description::offer(offer));
        let answer = parse(&b.answer());
        assert_eq!(answer.media[0].attributes.setup(), Some(answered));
    }
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    b.local.main.setup = Some(Setup::Passive);
    let offer = a.offer();
    b.set_remote(&offer);
    let answer = parse(&b.answer());
    assert_eq!(answer.media[0].attributes.setup(), Some(Setup::Passive));
}

#[test]
fn unknown_attributes_are_kept_and_never_echoed() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    let offer = a.offer().sdp.replace(
        "a=mid:0\r\n",
        "a=mid:0\r\na=x-unknown:1\r\na=sctp-init:AQAA\r\na=cryptex\r\n",
    );
    b.set_remote(&Description::offer(offer));
    let kept = b.jsep.remote().unwrap().sdp.media[0]
        .attributes
        .other("x-unknown");
    assert_eq!(kept, Some("1"));
    let answer = b.answer().sdp;
    for name in ["x-unknown", "sctp-init", "cryptex"] {
        assert!(!answer.contains(name), "{answer}");
    }
}

#[test]
fn the_old_form_of_data_channels_is_answered_in_kind() {
    let mut a = End::new(1);
    a.jsep.data.requested = true;
    let offer = a
        .offer()
        .sdp
        .replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000")
        .replace("a=sctp-port:5000", "a=sctpmap:5000 webrtc-datachannel 1024");
    let mut b = End::new(2);
    b.set_remote(&Description::offer(offer));
    let answer = b.answer().sdp;
    assert!(
        answer.contains("m=application 9 DTLS/SCTP 5000\r\n"),
        "{answer}"
    );
}

/// A description with the change must be refused by name, and nothing may have changed.
#[test]
fn offers_that_cannot_work_are_refused() {
    let mut a = End::new(1);
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    let offer = a.offer().sdp;
    let refused = |change: &dyn Fn(&str) -> String| {
        let mut b = End::new(2);
        let changed = change(&offer);
        assert_ne!(changed, offer);
        let error = b.try_remote(&Description::offer(changed)).unwrap_err();
        assert!(b.jsep.transceivers.is_empty() && b.jsep.remote().is_none());
        (error.name(), error.to_string())
    };
    let without = |name: &'static str| {
        move |text: &str| -> String {
            text.split_inclusive("\r\n")
                .filter(|line| !line.starts_with(&format!("a={name}")))
                .collect()
        }
    };
    for (name, what) in [
        ("ice-ufrag", "ICE credentials"),
        ("ice-pwd", "ICE credentials"),
        ("fingerprint", "fingerprint"),
    ] {
        let (kind, text) = refused(&without(name));
        assert_eq!(kind, "InvalidAccessError");
        assert!(text.contains(what), "{text}");
    }
    let (kind, text) =
        refused(&|text| text.replace("a=mid:1", "a=mid:0").replace(" 0 1\r", " 0\r"));
    assert!(
        kind == "InvalidAccessError" && text.contains("two media sections"),
        "{text}"
    );
    let (kind, text) = refused(&|text| text.replace("BUNDLE 0 1", "BUNDLE 0 7"));
    assert!(
        kind == "InvalidAccessError" && text.contains("mid 7"),
        "{text}"
    );
    let (kind, text) = refused(&|text| text.replace("UDP/TLS/RTP/SAVPF", "RTP/AVPF"));
    assert!(
        kind == "InvalidAccessError" && text.contains("encrypt"),
        "{text}"
    );
    let plan_b = "a=mid:1\r\na=ssrc:1 msid:s a\r\na=ssrc:2 msid:s b\r\n";
    let (kind, text) = refused(&|text| text.replace("a=mid:1\r\n", plan_b));
    assert!(
        kind == "InvalidAccessError" && text.contains("Plan B"),
        "{text}"
    );
    let (kind, _) = refused(&|text| text.replace("a=rtpmap:111 opus", "a=rtpmap:511 opus"));
    assert_eq!(kind, "OperationError");
}

#[test]
fn answers_that_do_not_fit_the_offer_are_refused() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    let offer = a.offer();
    a.set_local(&offer);
    b.set_remote(&offer);
    let answer = b.answer().sdp;
    let cut = answer.find("m=video").unwrap();
    for (changed, what) in [
        (answer[..cut].replace(" 0 1", " 0"), "1 media sections"),
        (answer.replace("m=video", "m=audio"), "another kind"),
        (
            answer
                .replace("a=mid:1", "a=mid:9")
                .replace(" 0 1\r", " 0 9\r"),
            "another mid",
        ),
        (
            answer.replace("setup:active", "setup:actpass"),
            "active or passive",
        ),
        (answer.replace("a=rtcp-mux\r\n", ""), "multiplex"),
    ] {
        let error = a.try_remote(&Description::answer(changed)).unwrap_err();
        assert_eq!(error.name(), "InvalidAccessError");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(a.jsep.state, crate::jsep::SignalingState::HaveLocalOffer);
    }
    a.set_remote(&Description::answer(answer));
}

#[test]
fn of_an_answer_without_bundle_the_policy_keeps_its_part() {
    for (policy, kept) in KEPT {
        let (mut a, mut b) = (
            with_policy(policy, 1),
            with_policy(BundlePolicy::MaxCompat, 2),
        );
        add_four_sections(&mut a);
        let offer = a.offer();
        a.set_local(&offer);
        // An answer that accepts too much; a peer that does not know BUNDLE would have rejected what is bundle-only.
        b.set_remote(&offer);
        let answer = b.answer().sdp.replace("a=group:BUNDLE 0 1 2 3\r\n", "");
        a.set_remote(&Description::answer(answer));
        assert_eq!(a.jsep.state, crate::jsep::SignalingState::Stable);
        let applied = a.jsep.current_remote.as_ref().unwrap();
        let found: Vec<_> = applied.sdp.media.iter().map(|m| !m.is_rejected()).collect();
        assert_eq!(found, kept, "{policy:?}");
        assert_eq!(
            a.jsep.transceivers.len(),
            found[..3].iter().filter(|&&live| live).count()
        );
        assert_eq!(a.jsep.data.section.is_some(), kept[3]);
    }
}

#[test]
fn a_later_offer_may_not_move_sections() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    a.add_track(Kind::Video);
    negotiate(&mut a, &mut b);
    let offer = a.offer().sdp;
    let cut = offer.find("m=video").unwrap();
    for changed in [
        offer[..cut].replace(" 0 1", " 0"),
        offer
            .replace("a=mid:0", "a=mid:x")
            .replace("a=mid:1", "a=mid:0")
            .replace("a=mid:x", "a=mid:1"),
        offer.replace("m=video", "m=audio"),
    ] {
        let error = b.try_remote(&Description::offer(changed)).unwrap_err();
        assert_eq!(error.name(), "InvalidAccessError", "{error}");
    }
}

#[test]
fn codec_preferences_order_offers_and_answers() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let id = a.add_track(Kind::Video);
    let table = CodecTable::default().video;
    let vp9 = table.iter().find(|codec| codec.is("VP9")).unwrap().clone();
    let vp8 = table.iter().find(|codec| codec.is("VP8")).unwrap().clone();
    let rtx = crate::codecs::Codec::new(Kind::Video, "rtx", 90_000, 0);
    let transceiver = a.jsep.transceiver_mut(id).unwrap();
    transceiver
        .set_codec_preferences(&[vp9.clone(), rtx, vp8.clone()], &table)
        .unwrap();
    let (offer, answer) = negotiate(&mut a, &mut b);
    for sdp in [&offer, &answer] {
        let names: Vec<_> = codecs_of(Kind::Video, &sdp.media[0])
            .into_iter()
            .map(|codec| (codec.name.clone(), codec.rtx.is_some()))
            .collect();
        assert_eq!(names, [("VP9".into(), true), ("VP8".into(), true)]);
    }
    let transceiver = a.jsep.transceiver_mut(id).unwrap();
    let unknown = crate::codecs::Codec::new(Kind::Video, "Theora", 90_000, 96);
    let error = transceiver
        .set_codec_preferences(&[unknown], &table)
        .unwrap_err();
    assert_eq!(error.name(), "InvalidModificationError");
    transceiver.set_codec_preferences(&[vp8], &table).unwrap();
    let offer = parse(&a.offer());
    assert!(codecs_of(Kind::Video, &offer.media[0])[0].rtx.is_none());
}

/// Seen with Chromium and Firefox: after an answer of VP8 alone they send what the offer takes, VP8
/// within red.
#[test]
fn what_was_offered_is_received_even_if_the_answer_does_not_list_it() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Video);
    let id = b.add_track(Kind::Video);
    let table = CodecTable::default().video;
    let vp8 = table.iter().find(|codec| codec.is("VP8")).unwrap().clone();
    let there = b.jsep.transceiver_mut(id).unwrap();
    there.set_codec_preferences(&[vp8], &table).unwrap();
    negotiate(&mut a, &mut b);
    let here = &a.jsep.transceivers[0];
    assert_eq!(here.sender.codecs.len(), 1);
    assert!(here.receiver.codecs[0].is("VP8"));
    assert!(here.receiver.codecs.iter().any(|codec| codec.is("red")));
    assert_eq!(b.jsep.transceivers[0].receiver.codecs.len(), 1);
}

#[test]
fn header_extensions_are_answered_as_offered_and_wanted() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let id = b.add_track(Kind::Video);
    a.add_track(Kind::Video);
    let stopped = crate::extensions::uri::VIDEO_TIMING;
    for extension in &mut b.jsep.transceiver_mut(id).unwrap().extensions {
        if extension.uri == stopped {
            extension.direction = crate::transceiver::TransceiverDirection::Stopped;
            extension.accepted = false;
        }
    }
    let (offer, answer) = negotiate(&mut a, &mut b);
    let numbers = |sdp: &SessionDescription| -> Vec<(u16, String)> {
        let maps = sdp.media[0].attributes.extmaps();
        maps.map(|map| (map.id, map.uri.clone())).collect()
    };
    let expected: Vec<_> = numbers(&offer)
        .into_iter()
        .filter(|(_, uri)| uri != stopped)
        .collect();
    assert_eq!(numbers(&answer), expected);
    let agreed = &a.jsep.transceivers[0].sender.extensions;
    assert_eq!(agreed.len(), expected.len());
}

#[test]
fn answers_hold_at_most_what_was_offered() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Audio);
    let offer = a
        .offer()
        .sdp
        .replace("a=rtcp-rsize\r\n", "")
        .replace("a=extmap-allow-mixed\r\n", "");
    b.set_remote(&Description::offer(offer));
    let answer = parse(&b.answer());
    let attributes = &answer.media[0].attributes;
    assert!(!attributes.has_rtcp_rsize());
    assert!(!attributes.has_rtcp_mux_only());
    assert!(!answer.attributes.has_extmap_allow_mixed());
    let groups = attributes
        .iter()
        .filter(|attribute| matches!(attribute, Attribute::Group(_)));
    assert_eq!(groups.count(), 0);
}
