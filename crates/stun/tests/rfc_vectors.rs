//! The test vectors of RFC 5769 and RFC 8489 appendix B: read, verified, and written again byte by byte.

use std::net::SocketAddr;

use visavis_stun::attributes::{
    IceControlled, Nonce, Priority, Realm, Software, UserHash, Username, XorMappedAddress,
};
use visavis_stun::{
    Class, IntegrityKey, Message, MessageBuilder, Method, ParseError, PasswordAlgorithmId,
    SecurityFeatures, TransactionId, Verdict, user_hash,
};

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const USER: &str = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
const TRANSACTION: TransactionId = TransactionId([
    0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
]);
const LONG_TERM_TRANSACTION: TransactionId = TransactionId([
    0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29, 0xda, 0x41, 0x2e,
]);

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn verify(bytes: &[u8], key: &IntegrityKey) {
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.check_integrity(key), Verdict::Valid);
    assert_eq!(message.authenticate(key), Verdict::Valid);
    assert_eq!(message.check_integrity_sha256(key), Verdict::Absent);
    let other = IntegrityKey::short_term("another password");
    assert_eq!(message.check_integrity(&other), Verdict::Invalid);
    // Every bit before and in the HMAC counts; what stands behind it does not.
    let end = bytes.len() - if message.has_fingerprint() { 8 } else { 0 };
    for bit in 0..end * 8 {
        let mut broken = bytes.to_vec();
        broken[bit / 8] ^= 1 << (bit % 8);
        if let Ok(message) = Message::parse_classic(&broken) {
            assert_ne!(message.check_integrity(key), Verdict::Valid, "bit {bit}");
            assert_ne!(message.check_fingerprint(), Verdict::Valid, "bit {bit}");
        }
    }
}

#[test]
fn rfc_5769_section_2_1_sample_request() {
    let sample = bytes(
        "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e\
         0001ff80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781e\
         f2b5b2d3f249c1b571a280280004e57a3bcf",
    );
    let key = IntegrityKey::short_term(PASSWORD);
    verify(&sample, &key);
    let message = Message::parse(&sample).unwrap();
    assert_eq!(message.class(), Class::Request);
    assert_eq!(message.method(), Method::BINDING);
    assert_eq!(message.transaction(), TRANSACTION);
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    assert_eq!(message.get(), Some(Software("STUN test client")));
    assert_eq!(message.get(), Some(Username("evtj:h6vY")));
    assert_eq!(message.get(), Some(Priority(0x6e00_01ff)));
    assert_eq!(message.get(), Some(IceControlled(0x932f_f9b1_5126_3b36)));

    // The sample pads with spaces, which is allowed; ours pads with zeros, so the rest differs.
    let mut buffer = [0xee; 200];
    let len = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, TRANSACTION)
        .add(&Software("STUN test client"))
        .add(&Priority(0x6e00_01ff))
        .add(&IceControlled(0x932f_f9b1_5126_3b36))
        .add(&Username("evtj:h6vY"))
        .integrity(&key)
        .fingerprint()
        .finish()
        .unwrap();
    let padding = sample.windows(3).position(|w| w == b"   ").unwrap();
    assert_eq!(buffer[..padding], sample[..padding]);
    assert_eq!(buffer[padding..padding + 3], [0; 3]);
    verify(&buffer[..len], &key);
}

fn sample_response(sample: &str, mapped: &str) {
    let sample = bytes(sample);
    let mapped: SocketAddr = mapped.parse().unwrap();
    let key = IntegrityKey::short_term(PASSWORD);
    verify(&sample, &key);
    let message = Message::parse(&sample).unwrap();
    assert_eq!(message.class(), Class::Success);
    assert_eq!(message.check_fingerprint(), Verdict::Valid);
    assert_eq!(message.get(), Some(Software("test vector")));
    assert_eq!(message.get(), Some(XorMappedAddress(mapped)));

    let mut buffer = [0xee; 200];
    let len = MessageBuilder::new(&mut buffer, Class::Success, Method::BINDING, TRANSACTION)
        .add(&Software("test vector"))
        .add(&XorMappedAddress(mapped))
        .integrity(&key)
        .fingerprint()
        .finish()
        .unwrap();
    assert_eq!(len, sample.len());
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(
        message.get::<XorMappedAddress>(),
        Some(XorMappedAddress(mapped))
    );
    // The attribute itself is the sample's to the byte (its padding of SOFTWARE is a space).
    assert_eq!(buffer[36..len - 32], sample[36..len - 32]);
}

#[test]
fn rfc_5769_section_2_2_sample_ipv4_response() {
    sample_response(
        "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e1\
         12a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96",
        "192.0.2.1:32853",
    );
}

#[test]
fn rfc_5769_section_2_3_sample_ipv6_response() {
    sample_response(
        "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a14701\
         13a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb\
         0b4c",
        "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
    );
}

#[test]
fn rfc_5769_section_2_4_sample_request_with_long_term_authentication() {
    let sample = bytes(
        "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b9000000\
         15001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f72\
         670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666",
    );
    let md5 = PasswordAlgorithmId::MD5;
    let key = IntegrityKey::long_term(USER, "example.org", "TheMatrIX", md5).unwrap();
    verify(&sample, &key);

    let nonce = b"f//499k954d6OL34oL9FSTvy64sA";
    let mut buffer = [0xee; 200];
    let len = MessageBuilder::new(
        &mut buffer,
        Class::Request,
        Method::BINDING,
        LONG_TERM_TRANSACTION,
    )
    .add(&Username(USER))
    .add(&Nonce(nonce))
    .add(&Realm("example.org"))
    .integrity(&key)
    .finish()
    .unwrap();
    assert_eq!(buffer[..len], sample);
}

/// The message of appendix B.1 as printed. Its length field says 156, which counts the header too
/// (a known erratum); the HMAC was computed with that same number in place.
const APPENDIX_B_1: &str = "0001009c2112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415569e60\
     b205c46e41407f1704001500296f624d61744a6f73324141414366 2f2f3439396b39353464364f4c33346f4c39465354\
     76793634734100000000 14000b6578616d706c652e6f726700001c0020e4686c8f0edeb59013e07090010a93efccbccc\
     544c0a45d9f830aa6d6f735a01";

#[test]
fn rfc_8489_appendix_b_1_sample_request_with_sha256_and_userhash() {
    let printed = bytes(&APPENDIX_B_1.replace(' ', ""));
    assert_eq!(printed.len(), 156);
    assert_eq!(Message::parse(&printed).unwrap_err(), ParseError::Length);

    // Key and HMAC, over the bytes as printed.
    let sha256 = PasswordAlgorithmId::SHA256;
    let key = visavis_crypto::HashAlgorithm::Sha256
        .hash(format!("{USER}:example.org:TheMatrIX").as_bytes());
    let hmac = visavis_crypto::hmac::Key::new(visavis_crypto::HashAlgorithm::Sha256, &key);
    assert_eq!(*hmac.sign(&[&printed[..120]]), printed[124..]);
    let integrity = IntegrityKey::long_term(USER, "example.org", "TheMatrIX", sha256).unwrap();
    assert_eq!(integrity, IntegrityKey::from_bytes(&key));

    // With the length mended, everything but the HMAC is ours to the byte.
    let nonce = b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA";
    let mut mended = printed;
    mended[2..4].copy_from_slice(&136u16.to_be_bytes());
    let message = Message::parse(&mended).unwrap();
    let hash = UserHash(user_hash(USER, "example.org"));
    assert_eq!(message.get(), Some(hash));
    assert_eq!(message.get(), Some(Nonce(nonce)));
    assert_eq!(message.get(), Some(Realm("example.org")));
    assert!(message.has_integrity_sha256());
    // "AAAC" sets bit 22, which means nothing: the sample's other quirk.
    assert_eq!(
        SecurityFeatures::of_nonce(nonce),
        Some(SecurityFeatures::default())
    );
    let mut buffer = [0xee; 200];
    let len = MessageBuilder::new(
        &mut buffer,
        Class::Request,
        Method::BINDING,
        LONG_TERM_TRANSACTION,
    )
    .add(&hash)
    .add(&Nonce(nonce))
    .add(&Realm("example.org"))
    .integrity_sha256(&integrity)
    .finish()
    .unwrap();
    assert_eq!(buffer[..124], mended[..124]);
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.authenticate(&integrity), Verdict::Valid);
}

#[test]
fn rfc_8489_section_9_2_2_key_of_user_realm_pass() {
    let md5 = PasswordAlgorithmId::MD5;
    let key = IntegrityKey::long_term("user", "realm", "pass", md5).unwrap();
    let expected = bytes("8493fbc53ba582fb4c044c456bdc40eb");
    assert_eq!(key, IntegrityKey::from_bytes(&expected));
    let unknown = PasswordAlgorithmId(3);
    assert!(IntegrityKey::long_term("user", "realm", "pass", unknown).is_none());
}
