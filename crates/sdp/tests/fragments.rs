//! Fragments of trickle ICE (RFC 8840 section 9, RFC 9725 section 4.3).

use visavis_sdp::Fragment;

/// RFC 9725 section 4.3.2, the first PATCH.
const TRICKLE: &str = "a=group:BUNDLE 0 1\r\na=ice-ufrag:EsAw\r\n\
    a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=ice-options:trickle\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
    a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
    a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0 ufrag EsAw network-id 2\r\n\
    a=end-of-candidates\r\n";

#[test]
fn rfc9725_section_4_3_2_trickle() {
    let fragment = Fragment::parse(TRICKLE).unwrap();
    assert_eq!(fragment.to_string(), TRICKLE);
    assert_eq!(fragment.ice_ufrag(), Some("EsAw"));
    assert_eq!(fragment.ice_pwd(), Some("P2uYro0UCOQ4zxjKXaWCBui1"));
    let candidates: Vec<_> = fragment.candidates().collect();
    assert_eq!(candidates.len(), 2);
    assert_eq!(candidates[0].0, Some("0"));
    assert!(candidates[1].1.contains("198.51.100.2"));
    assert!(fragment.media[0].attributes.has_end_of_candidates());
}

#[test]
fn credentials_may_stand_in_the_section() {
    let fragment = Fragment::parse(
        "m=audio 9 RTP/AVP 0\r\na=mid:a\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n",
    )
    .unwrap();
    assert_eq!(fragment.ice_ufrag(), Some("abcd"));
    assert_eq!(fragment.ice_pwd(), Some("0123456789012345678901"));
}

#[test]
fn a_whole_description_is_not_a_fragment() {
    let error = Fragment::parse("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n").unwrap_err();
    assert_eq!((error.line, error.column), (1, 1));
    assert!(Fragment::parse("").unwrap().media.is_empty());
}
