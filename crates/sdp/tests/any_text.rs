//! Any text gives a description or an error, and what was read once reads again the same.

use proptest::prelude::*;
use visavis_sdp::{Fragment, SessionDescription};

const OFFER: &str = include_str!("fixtures/firefox153-offer-av-data.sdp");

/// Lines made of the words that the parser looks for, so that some are valid.
fn line() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec![
        "a=", "a=", "a=", "a=", "m=", "c=", "b=", "t=", "k=", "i=",
    ]);
    let name = prop::sample::select(vec![
        "",
        "rtpmap:",
        "fmtp:",
        "rtcp-fb:",
        "extmap:",
        "ssrc:",
        "ssrc-group:",
        "rid:",
        "simulcast:",
        "msid:",
        "mid:",
        "group:",
        "candidate:",
        "setup:",
        "fingerprint:",
        "sctpmap:",
        "sctp-init:",
        "rtcp:",
        "ptime:",
        "ice-pwd:",
        "sframe:",
        "audio ",
        "IN IP4 ",
    ]);
    let rest = prop::collection::vec(
        prop::sample::select(vec![
            "96",
            " ",
            "/",
            "send",
            "recv",
            ";",
            ",",
            "~",
            "=",
            "pt",
            "sha-256",
            "AB",
            ":",
            "*",
            "nack",
            "VP8",
            "90000",
            "a",
            "IN",
            "é",
            "\t",
            "9",
            "UDP/TLS/RTP/SAVPF",
            "AAAA",
            "actpass",
            "4294967295",
            "0123456789012345678901",
        ]),
        0..12,
    );
    (kind, name, rest).prop_map(|(kind, name, rest)| format!("{kind}{name}{}", rest.concat()))
}

fn check(text: &str) {
    if let Ok(description) = SessionDescription::parse(text) {
        let printed = description.to_string();
        let again = SessionDescription::parse(&printed)
            .unwrap_or_else(|error| panic!("{error} in {printed:?}"));
        assert_eq!(again, description);
    }
    if let Ok(fragment) = Fragment::parse(text) {
        assert_eq!(Fragment::parse(&fragment.to_string()).unwrap(), fragment);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn plausible_text_reads_again_the_same(lines in prop::collection::vec(line(), 0..4)) {
        let lines = lines.join("\r\n");
        check(&format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{lines}"));
        check(&lines);
    }

    #[test]
    fn a_damaged_offer_is_read_or_refused(
        at in 0..OFFER.len(), cut in 0..40usize, with in "[ -~\r\n]{0,6}",
    ) {
        // The fixture is ASCII, so that every index is a character's.
        let end = (at + cut).min(OFFER.len());
        check(&format!("{}{with}{}", &OFFER[..at], &OFFER[end..]));
    }
}
