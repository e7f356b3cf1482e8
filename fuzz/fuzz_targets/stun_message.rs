//! Any bytes at the message parser; what parses is checked, read by every type, and written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_stun::attributes::*;
use visavis_stun::{
    AttributeType, ChannelData, IntegrityKey, Message, MessageBuilder, SecurityFeatures, classify,
};

fuzz_target!(|bytes: &[u8]| {
    classify(bytes);
    let _ = ChannelData::parse(bytes);
    let Ok(message) = Message::parse_classic(bytes) else {
        return;
    };
    let key = IntegrityKey::short_term("VOkJxbRl1RmTxUk/WvJxBt");
    message.authenticate(&key);
    message.check_integrity(&key);
    message.check_integrity_32(&key);
    message.check_fingerprint();
    let _ = message.get::<XorMappedAddress>();
    let _ = message.get::<MappedAddress>();
    let _ = message.get::<Username>();
    let _ = message.get::<ErrorCode>();
    let _ = message.get::<AddressErrorCode>();
    let _ = message.get::<UnknownAttributes>();
    let _ = message.get::<DtlsInStunAck>();
    let _ = message.get::<PasswordAlgorithm>();
    if let Some(nonce) = message.get::<Nonce>() {
        SecurityFeatures::of_nonce(nonce.0);
    }
    if let Some(algorithms) = message.get::<PasswordAlgorithms>() {
        algorithms.iter().count();
    }
    let _: UnknownAttributes = message.unknown_required(AttributeType::is_known).collect();

    // What was read can be written, and reads the same.
    let mut buffer = vec![0xaa; bytes.len() + 64];
    let mut builder = MessageBuilder::response(&mut buffer, message.class(), &message);
    for attribute in message.attributes() {
        builder.add_raw(attribute.kind, attribute.value);
    }
    let len = builder.finish().expect("no longer than what was read");
    let again = Message::parse_classic(&buffer[..len]).expect("what was built parses");
    assert!(message.attributes().eq(again.attributes()));
    assert_eq!(message.method(), again.method());
});
