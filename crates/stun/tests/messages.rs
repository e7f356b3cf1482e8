//! Messages of real peers, and messages that no honest peer sends.

use visavis_stun::attributes::{
    DtlsInStun, DtlsInStunAck, ErrorCode, GoogNetworkInfo, IceControlling, Lifetime, MappedAddress,
    OtherAddress, PasswordAlgorithms, Priority, ResponseOrigin, Software, UnknownAttributes,
    UseCandidate, Username, XorMappedAddress, XorPeerAddress,
};
use visavis_stun::{
    AttributeType, BuildError, Class, IntegrityKey, MalformedAttribute, Message, MessageBuilder,
    Method, ParseError, TransactionId, Verdict,
};

const ID: TransactionId = TransactionId([9; 12]);

fn request(buffer: &mut [u8]) -> MessageBuilder<'_> {
    MessageBuilder::new(buffer, Class::Request, Method::BINDING, ID)
}

/// Corrects the length field after bytes were appended.
fn mend_length(bytes: &mut [u8]) {
    let length = (bytes.len() - 20) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

#[test]
fn a_check_of_chromium_carries_dtls() {
    let bytes = include_bytes!("fixtures/chromium156_request_with_dtls.bin");
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    assert!(message.get::<Username>().unwrap().0.contains(':'));
    assert!(message.get::<GoogNetworkInfo>().is_some());
    assert!(message.get::<Priority>().is_some());
    assert_eq!(message.get::<DtlsInStunAck>().unwrap().hashes(), []);
    let DtlsInStun(packet) = message.get().unwrap();
    assert_eq!((packet.len(), packet[0]), (900, 22));
    assert_eq!(message.unknown_required(AttributeType::is_known).count(), 0);

    let bytes = include_bytes!("fixtures/chromium156_response_with_ack.bin");
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.class(), Class::Success);
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    assert_eq!(message.get::<DtlsInStunAck>().unwrap().hashes().len(), 1);
    assert!(message.get::<XorMappedAddress>().is_some());
}

#[test]
fn a_check_of_firefox() {
    let bytes = include_bytes!("fixtures/firefox153_request_controlling.bin");
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    assert!(message.get::<UseCandidate>().is_some());
    assert!(message.get::<IceControlling>().is_some());
    let bytes = include_bytes!("fixtures/firefox153_response.bin");
    assert!(
        Message::parse(bytes)
            .unwrap()
            .get::<XorMappedAddress>()
            .is_some()
    );
}

#[test]
fn messages_of_freeswitch_and_citrix() {
    let bytes = include_bytes!("fixtures/binding_request_ice_controlled.bin");
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    assert_eq!(message.get(), Some(Username("AYeZ:sw7YvCSbcVex3bhi")));
    let bytes = include_bytes!("fixtures/binding_request_ice_controlling.bin");
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    let info = GoogNetworkInfo {
        network_id: 1,
        network_cost: 10,
    };
    assert_eq!(message.get(), Some(info));
    let bytes = include_bytes!("fixtures/binding_response.bin");
    let message = Message::parse(bytes).unwrap();
    let mapped = "80.200.136.90:53054".parse().unwrap();
    assert_eq!(message.get(), Some(XorMappedAddress(mapped)));
    assert_eq!(message.get(), Some(MappedAddress(mapped)));
    let origin = "52.17.36.97:3478".parse().unwrap();
    assert_eq!(message.get(), Some(ResponseOrigin(origin)));
    let other = "52.17.36.97:3479".parse().unwrap();
    assert_eq!(message.get(), Some(OtherAddress(other)));
    // The NUL-padded text of that server is kept as it came.
    assert!(message.get::<Software>().unwrap().0.starts_with("Citrix-3"));
    let bytes = include_bytes!("fixtures/binding_request.bin");
    assert_eq!(Message::parse(bytes).unwrap().attributes().count(), 0);
}

#[test]
fn an_rfc_3489_message_is_taken_where_asked_for() {
    let mut bytes = [0; 20];
    bytes[1] = 1;
    bytes[4..].copy_from_slice(b"0123456789abcdef");
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::NoCookie);
    let message = Message::parse_classic(&bytes).unwrap();
    assert!(message.is_classic());
    let mut buffer = [0; 100];
    let len = MessageBuilder::response(&mut buffer, Class::Success, &message)
        .add(&MappedAddress("192.0.2.1:7".parse().unwrap()))
        .finish()
        .unwrap();
    assert_eq!(buffer[4..20], bytes[4..]);
    let response = Message::parse_classic(&buffer[..len]).unwrap();
    assert!(response.get::<MappedAddress>().is_some());
}

#[test]
fn attributes_after_integrity_are_ignored() {
    let key = IntegrityKey::short_term("secret");
    let mut buffer = [0; 200];
    let len = request(&mut buffer)
        .add(&Username("a"))
        .integrity(&key)
        .finish()
        .unwrap();
    // Somebody on the way appends attributes.
    let mut bytes = buffer[..len].to_vec();
    bytes.extend_from_slice(&[0x00, 0x0d, 0, 4, 0xff, 0xff, 0xff, 0xff]);
    bytes.extend_from_slice(&[0x7f, 0xff, 0, 0]);
    mend_length(&mut bytes);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.authenticate(&key), Verdict::Valid);
    assert_eq!(message.get::<Lifetime>(), None);
    assert_eq!(message.unknown_required(AttributeType::is_known).count(), 0);
    assert_eq!(message.attributes().count(), 1);

    // The same behind MESSAGE-INTEGRITY-SHA256, and behind FINGERPRINT.
    let len = request(&mut buffer)
        .integrity_sha256(&key)
        .add(&Lifetime(1))
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.authenticate(&key), Verdict::Valid);
    assert_eq!(message.get::<Lifetime>(), None);
    let len = request(&mut buffer)
        .fingerprint()
        .add(&Lifetime(1))
        .integrity(&key)
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.get::<Lifetime>(), None);
    assert_eq!(message.check_fingerprint(), Verdict::Invalid);
    assert_eq!(message.authenticate(&key), Verdict::Absent);
}

#[test]
fn both_integrity_attributes_and_the_fingerprint() {
    let key = IntegrityKey::short_term("secret");
    let mut buffer = [0; 200];
    let len = request(&mut buffer)
        .add(&Username("a"))
        .integrity(&key)
        .integrity_sha256(&key)
        .fingerprint()
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.check_integrity(&key), Verdict::Valid);
    assert_eq!(message.check_integrity_sha256(&key), Verdict::Valid);
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    // MESSAGE-INTEGRITY behind MESSAGE-INTEGRITY-SHA256 is among the ignored (section 14.6).
    let len = request(&mut buffer)
        .integrity_sha256(&key)
        .integrity(&key)
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.check_integrity(&key), Verdict::Absent);
    assert_eq!(message.authenticate(&key), Verdict::Valid);
    // A wrong SHA-256 is not saved by a right SHA-1.
    let len = request(&mut buffer)
        .integrity(&key)
        .integrity_sha256(&IntegrityKey::short_term("other"))
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.authenticate(&key), Verdict::Invalid);
}

#[test]
fn truncated_sha256_of_16_bytes_is_the_shortest() {
    let key = IntegrityKey::short_term("secret");
    for length in (0..=36).step_by(4) {
        // The HMAC covers a header whose length ends with the (truncated) attribute.
        let mut buffer = [0; 200];
        let len = request(&mut buffer)
            .add(&Username("abcd"))
            .finish()
            .unwrap();
        let mut bytes = buffer[..len].to_vec();
        let counted = (len - 20 + 4 + length) as u16;
        bytes[2..4].copy_from_slice(&counted.to_be_bytes());
        let hmac = visavis_crypto::hmac::Key::new(visavis_crypto::HashAlgorithm::Sha256, b"secret");
        let mut digest = hmac.sign(&[&bytes]).to_vec();
        digest.resize(length, 0);
        bytes.extend_from_slice(&[0, 0x1c, 0, length as u8]);
        bytes.extend_from_slice(&digest);
        let message = Message::parse(&bytes).unwrap();
        let expected = if (16..=32).contains(&length) {
            Verdict::Valid
        } else {
            Verdict::Invalid
        };
        assert_eq!(message.check_integrity_sha256(&key), expected, "{length}");
    }
}

#[test]
fn integrity_of_a_wrong_length_is_invalid() {
    let key = IntegrityKey::short_term("secret");
    for length in [0, 1, 4, 19, 21, 24, 32] {
        let mut buffer = [0; 200];
        let len = request(&mut buffer)
            .add_raw(AttributeType::MESSAGE_INTEGRITY, &vec![0; length])
            .finish()
            .unwrap();
        let message = Message::parse(&buffer[..len]).unwrap();
        assert_eq!(message.check_integrity(&key), Verdict::Invalid);
    }
}

#[test]
fn of_a_duplicate_the_first_counts() {
    let mut buffer = [0; 200];
    let peers = ["192.0.2.1:1", "192.0.2.2:2"].map(|a| XorPeerAddress(a.parse().unwrap()));
    let len = request(&mut buffer)
        .add(&Lifetime(1))
        .add(&Lifetime(2))
        .add(&peers[0])
        .add(&peers[1])
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.get(), Some(Lifetime(1)));
    let all: Vec<_> = message
        .all::<XorPeerAddress>()
        .map(Option::unwrap)
        .collect();
    assert_eq!(all, peers);
}

#[test]
fn unknown_required_attributes_are_listed_once() {
    let mut buffer = [0; 200];
    let len = request(&mut buffer)
        .add_raw(AttributeType(0x7ffe), &[1, 2, 3])
        .add_raw(AttributeType(0xfffe), &[1])
        .add_raw(AttributeType(0x7ffd), &[])
        .add_raw(AttributeType(0x7ffe), &[])
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    let unknown: UnknownAttributes = message.unknown_required(AttributeType::is_known).collect();
    let mut answer = [0; 200];
    let len = MessageBuilder::response(&mut answer, Class::Error, &message)
        .add(&ErrorCode::UNKNOWN_ATTRIBUTE)
        .add(&unknown)
        .finish()
        .unwrap();
    let answer = Message::parse(&answer[..len]).unwrap();
    assert_eq!(answer.get::<ErrorCode<'_>>().unwrap().code, 420);
    let types: Vec<_> = answer.get::<UnknownAttributes>().unwrap().types().collect();
    assert_eq!(types, [AttributeType(0x7ffe), AttributeType(0x7ffd)]);
}

#[test]
fn malformed_is_not_absent() {
    let mut buffer = [0; 200];
    let len = request(&mut buffer)
        .add_raw(AttributeType::LIFETIME, &[1, 2, 3])
        .finish()
        .unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    let malformed = MalformedAttribute(AttributeType::LIFETIME);
    assert_eq!(message.try_get::<Lifetime>(), Err(malformed));
    assert_eq!(message.get::<Lifetime>(), None);
    assert_eq!(message.try_get::<Priority>(), Ok(None));
}

#[test]
fn broken_headers_are_told_apart() {
    let mut buffer = [0; 200];
    let len = request(&mut buffer).add(&Lifetime(1)).finish().unwrap();
    let good = buffer[..len].to_vec();
    for short in 0..20 {
        let error = Message::parse(&good[..short]).unwrap_err();
        assert_eq!(error, ParseError::TooShort);
    }
    for short in 20..len {
        let error = Message::parse(&good[..short]).unwrap_err();
        assert_eq!(error, ParseError::Length);
    }
    let mut trailing = good.clone();
    trailing.push(0);
    assert_eq!(Message::parse(&trailing).unwrap_err(), ParseError::Length);
    for first in [0x40, 0x80, 0xc0] {
        let mut rtp = good.clone();
        rtp[0] |= first;
        assert_eq!(Message::parse(&rtp).unwrap_err(), ParseError::NotStun);
    }
    let mut odd = good.clone();
    odd[3] = 7;
    odd.pop();
    assert_eq!(Message::parse(&odd).unwrap_err(), ParseError::Length);
    for claimed in [5, 8, 0xffff_u16] {
        let mut overrun = good.clone();
        overrun[22..24].copy_from_slice(&claimed.to_be_bytes());
        assert_eq!(Message::parse(&overrun).unwrap_err(), ParseError::Attribute);
    }
}

#[test]
fn padding_never_shows_what_stood_in_the_buffer() {
    // CVE-2020-4067: answers leaked other clients' bytes in their padding.
    let mut answers = Vec::new();
    for dirt in [0x00, 0xff] {
        let mut buffer = [dirt; 200];
        let len = request(&mut buffer)
            .add(&Username("a"))
            .add(&Software("12345"))
            .add(&UnknownAttributes::from_iter([AttributeType(1)]))
            .add(&XorPeerAddress("192.0.2.1:1".parse().unwrap()))
            .add(&ErrorCode::FORBIDDEN)
            .finish()
            .unwrap();
        answers.push(buffer[..len].to_vec());
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_buffer_that_is_too_small_is_an_error_and_no_panic() {
    let key = IntegrityKey::short_term("secret");
    let mut buffer = [0; 200];
    let mut build = |size: usize| {
        request(&mut buffer[..size])
            .add(&Username("abc"))
            .add_some(Some(&Priority(1)))
            .add_some(None::<&Lifetime>)
            .integrity(&key)
            .integrity_sha256(&key)
            .fingerprint()
            .finish()
    };
    let needed = build(200).unwrap();
    for size in 0..needed {
        assert_eq!(build(size), Err(BuildError::BufferTooSmall));
    }
    assert_eq!(build(needed), Ok(needed));
    let long = vec![0; 70_000];
    let mut buffer = vec![0; 80_000];
    let error = request(&mut buffer)
        .add_raw(AttributeType::DATA, &long)
        .add(&Lifetime(1))
        .finish();
    assert_eq!(error, Err(BuildError::Attribute(AttributeType::DATA)));
    let error = request(&mut buffer)
        .add_raw(AttributeType::DATA, &long[..40_000])
        .add_raw(AttributeType::DATA, &long[..40_000])
        .finish();
    assert_eq!(error, Err(BuildError::BufferTooSmall));
}

#[test]
fn password_algorithms_are_read_in_order() {
    use visavis_stun::PasswordAlgorithmId as Id;
    let list: Vec<_> = PasswordAlgorithms::SHA256_MD5
        .iter()
        .map(|entry| entry.algorithm)
        .collect();
    assert_eq!(list, [Id::SHA256, Id::MD5]);
    // An unknown algorithm with parameters and their padding comes first.
    let list = PasswordAlgorithms(&[0, 9, 0, 3, 1, 2, 3, 0, 0, 1, 0, 0]);
    assert_eq!(list.first_supported(), Some(Id::MD5));
    assert_eq!(list.iter().next().unwrap().parameters, [1, 2, 3]);
    assert_eq!(PasswordAlgorithms(&[0, 9, 0, 0]).first_supported(), None);
    assert_eq!(PasswordAlgorithms(&[0, 2, 0, 9]).first_supported(), None);
    assert_eq!(PasswordAlgorithms(&[]).first_supported(), None);
}
