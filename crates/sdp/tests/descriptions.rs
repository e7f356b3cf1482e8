//! What browsers and servers send, and what must be refused with the line and the reason.

use visavis_sdp::{
    Attribute, Direction, Limits, MediaKind, ParseError, Reason, RidDirection, SessionDescription,
    Setup,
};

const FIXTURES: [(&str, &str); 12] = [
    (
        "chromium156-answer-av-data",
        include_str!("fixtures/chromium156-answer-av-data.sdp"),
    ),
    (
        "chromium156-offer-av-simulcast-data",
        include_str!("fixtures/chromium156-offer-av-simulcast-data.sdp"),
    ),
    (
        "chromium156-offer-mdnsless-dataonly",
        include_str!("fixtures/chromium156-offer-mdnsless-dataonly.sdp"),
    ),
    (
        "chromium156-offer-snap-ccfb-flexfec",
        include_str!("fixtures/chromium156-offer-snap-ccfb-flexfec.sdp"),
    ),
    (
        "firefox153-answer-av-data",
        include_str!("fixtures/firefox153-answer-av-data.sdp"),
    ),
    (
        "firefox153-offer-av-data",
        include_str!("fixtures/firefox153-offer-av-data.sdp"),
    ),
    (
        "firefox153-offer-dataonly-mdns",
        include_str!("fixtures/firefox153-offer-dataonly-mdns.sdp"),
    ),
    (
        "offer-ffmpeg-8.1.2-whip",
        include_str!("fixtures/offer-ffmpeg-8.1.2-whip.sdp"),
    ),
    (
        "offer-gst-whipclientsink-0.13",
        include_str!("fixtures/offer-gst-whipclientsink-0.13.sdp"),
    ),
    (
        "offer-gst-whipsink-0.13",
        include_str!("fixtures/offer-gst-whipsink-0.13.sdp"),
    ),
    (
        "offer-livekit-client-2.23.0-chromium156",
        include_str!("fixtures/offer-livekit-client-2.23.0-chromium156.sdp"),
    ),
    (
        "offer-python-livekit-1.2.1",
        include_str!("fixtures/offer-python-livekit-1.2.1.sdp"),
    ),
];

fn fixture(name: &str) -> SessionDescription {
    let (_, text) = FIXTURES.iter().find(|(found, _)| *found == name).unwrap();
    SessionDescription::parse(text).unwrap()
}

/// A description with `lines` behind a valid beginning of 4 lines.
fn with(lines: &str) -> Result<SessionDescription, ParseError> {
    SessionDescription::parse(&format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{lines}"
    ))
}

fn normalised(text: &str) -> String {
    text.lines().map(|line| format!("{line}\r\n")).collect()
}

#[test]
fn every_recorded_description_prints_as_it_was() {
    for (name, text) in FIXTURES {
        let description =
            SessionDescription::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(description.to_string(), normalised(text), "{name}");
        assert!(!description.is_plan_b(), "{name}");
    }
}

#[test]
fn line_feeds_alone_are_line_ends() {
    for (name, text) in FIXTURES {
        let description = SessionDescription::parse(&text.replace("\r\n", "\n")).unwrap();
        assert_eq!(description.to_string(), normalised(text), "{name}");
    }
}

#[test]
fn recorded_descriptions_hold_only_known_attributes() {
    let mut unknown = Vec::new();
    for (_, text) in FIXTURES {
        let description = SessionDescription::parse(text).unwrap();
        let sections = description.media.iter().map(|media| &media.attributes);
        for attribute in sections
            .chain([&description.attributes])
            .flat_map(|a| a.iter())
        {
            if let Attribute::Other { name, .. } = attribute {
                unknown.push(name.clone());
            }
        }
    }
    assert_eq!(unknown, ["framerate"]);
}

#[test]
fn a_simulcast_offer_of_chromium_is_typed() {
    let offer = fixture("chromium156-offer-av-simulcast-data");
    assert_eq!(offer.bundle_groups().next().unwrap(), ["0", "1", "2"]);
    let video = offer.media_by_mid("1").unwrap();
    assert_eq!(video.kind, MediaKind::Video);
    assert_eq!(video.direction(), Direction::SendRecv);
    assert_eq!(video.attributes.setup(), Some(Setup::ActPass));
    let rids: Vec<_> = video.attributes.rids().map(|rid| rid.id.as_str()).collect();
    assert_eq!(rids, ["q", "h", "f"]);
    let simulcast = video.attributes.simulcast().unwrap();
    assert_eq!(simulcast.streams(RidDirection::Send).len(), 3);
    assert!(simulcast.streams(RidDirection::Recv).is_empty());
    let rtx = video.attributes.fmtps().find(|fmtp| fmtp.format == "97");
    assert_eq!(rtx.unwrap().get("apt"), Some("96"));
    assert_eq!(video.payload_types().count(), 23);
    let data = offer.media_by_mid("2").unwrap();
    assert!(data.is_data_channel());
    assert_eq!(data.sctp_port(), Some(5000));
    assert_eq!(data.attributes.max_message_size(), Some(262_144));
    assert!(data.attributes.has_ice_option("trickle"));
}

#[test]
fn the_init_chunk_of_chromium_is_bytes() {
    let offer = fixture("chromium156-offer-snap-ccfb-flexfec");
    let chunk = offer
        .media
        .iter()
        .find_map(|media| media.attributes.sctp_init());
    // An SCTP INIT chunk has type 1 (RFC 9260 section 3.3.2).
    assert_eq!(chunk.unwrap()[0], 1);
}

#[test]
fn old_forms_of_the_data_channel_section_are_read() {
    let old = with(
        "m=application 9 DTLS/SCTP 5000\r\nc=IN IP4 0.0.0.0\r\na=mid:data\r\n\
         a=sctpmap:5000 webrtc-datachannel 1024\r\n",
    )
    .unwrap();
    assert!(old.media[0].is_data_channel());
    assert_eq!(old.media[0].sctp_port(), Some(5000));
    let older = with("m=application 9 DTLS/SCTP 5001\r\n").unwrap();
    assert!(older.media[0].is_data_channel());
    assert_eq!(older.media[0].sctp_port(), Some(5001));
}

#[test]
fn plan_b_is_recognised() {
    let two_tracks = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:video\r\na=rtpmap:96 VP8/90000\r\n\
                      a=ssrc:1 cname:x\r\na=ssrc:1 msid:s t1\r\na=ssrc:2 msid:s t2\r\n";
    assert!(with(two_tracks).unwrap().is_plan_b());
    let rtx = two_tracks.replace("t2", "t1");
    assert!(!with(&rtx).unwrap().is_plan_b());
}

#[test]
fn unknown_attributes_keep_their_place() {
    let text = "a=x-session:1\r\na=group:BUNDLE a\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
                a=x-first\r\na=mid:a\r\na=x-last:b:c d\r\n";
    let description = with(text).unwrap();
    assert!(description.to_string().ends_with(text));
    assert_eq!(description.attributes.other("x-session"), Some("1"));
    let media = &description.media[0].attributes;
    assert_eq!(media.other("x-last"), Some("b:c d"));
    assert_eq!(media.other("x-first"), Some(""));
}

#[test]
fn errors_name_line_column_and_reason() {
    for (text, line, column, reason) in [
        (
            "",
            1,
            1,
            Reason::Missing {
                what: "the `v=` line",
            },
        ),
        (
            "v=1\r\n",
            1,
            3,
            Reason::Invalid {
                what: "the version",
            },
        ),
        (
            "v=0\r\ns=-\r\n",
            2,
            1,
            Reason::Unexpected {
                found: 's',
                expected: "`o`",
            },
        ),
        (
            "v=0\r\no=- x 2 IN IP4 0.0.0.0\r\n",
            2,
            5,
            Reason::Invalid {
                what: "the session's id",
            },
        ),
        (
            "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\n",
            3,
            1,
            Reason::Missing {
                what: "the `t=` line",
            },
        ),
        ("v=0\r\nhello\r\n", 2, 1, Reason::NotALine),
        ("v=0\r\n\r\ns=-\r\n", 2, 1, Reason::NotALine),
        ("v=0\ro=-\n", 1, 4, Reason::ForbiddenByte),
    ] {
        let error = SessionDescription::parse(text).expect_err(text);
        assert_eq!(
            (error.line, error.column, &error.reason),
            (line, column, &reason),
            "{text:?}"
        );
    }
    let error = with("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=rtpmap:0 PCMU\r\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 6, column 16: the clock rate is missing"
    );
    let error = with("a=mid:x\r\nt=0 0\r\n").unwrap_err();
    assert_eq!((error.line, error.column), (6, 1));
}

#[test]
fn limits_hold() {
    let limits = Limits {
        bytes: 500,
        lines: 12,
        media: 2,
    };
    let parse = |lines: &str| {
        let text = format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{lines}");
        SessionDescription::parse_within(&text, &limits).map_err(|error| error.reason)
    };
    let section = "m=audio 9 RTP/AVP 0\r\n";
    assert_eq!(parse(&section.repeat(2)).unwrap().media.len(), 2);
    assert_eq!(
        parse(&section.repeat(3)),
        Err(Reason::TooManyMedia { limit: 2 })
    );
    assert_eq!(
        parse(&"a=x\r\n".repeat(9)),
        Err(Reason::TooManyLines { limit: 12 })
    );
    assert_eq!(
        parse(&format!("a={}\r\n", "x".repeat(500))),
        Err(Reason::TooLong { limit: 500 })
    );
}

/// RFC 8866 section 5, the example description.
#[test]
fn rfc8866_section_5_example() {
    let text = "v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\n\
                s=Call to John Smith\r\ni=SDP Offer #1\r\n\
                u=http://www.jdoe.example.com/home.html\r\n\
                e=Jane Doe <jane@jdoe.example.com>\r\np=+1 617 555-6011\r\n\
                c=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\n\
                m=audio 49180 RTP/AVP 0\r\nm=video 51372 RTP/AVP 99\r\n\
                c=IN IP6 2001:db8::2\r\na=rtpmap:99 h263-1998/90000\r\n";
    let description = SessionDescription::parse(text).unwrap();
    assert_eq!(description.to_string(), text);
    assert_eq!(description.media[2].connections[0].address, "2001:db8::2");
}

/// RFC 8866 sections 5.9 to 5.11: repetitions and zones belong to the time before them.
#[test]
fn repeats_and_zones_follow_their_time() {
    let text = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\n\
                t=3724394400 3724398000\r\nr=604800 3600 0 90000\r\nz=3730928400 -1h\r\n\
                t=3724484400 3724488000\r\nr=604800 3600 0\r\n";
    let description = SessionDescription::parse(text).unwrap();
    assert_eq!(description.timings.len(), 2);
    assert_eq!(description.to_string(), text);
}
