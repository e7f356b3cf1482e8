//! `cargo xtask bench stun`: what a STUN message costs here and in `stun-types`, and what the TURN server's core costs per
//! relayed datagram and per allocation, system calls not counted.

mod turn;

use std::hint::black_box;
use std::process::ExitCode;

use bench_crypto::{Contestant, compare, machine};
use serde_json::{Value, json};
use stun_types::attribute::{Software as TheirSoftware, Username as TheirUsername};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message as TheirMessage, MessageWrite, MessageWriteExt,
    MessageWriteMutSlice, ShortTermCredentials,
};
use visavis_report::{Options, Table};
use visavis_stun::attributes::{IceControlling, Software, Username};
use visavis_stun::{Class, IntegrityKey, Message, MessageBuilder, Method, TransactionId, Verdict};

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const SOFTWARE: &str = "bench";
const NAME: &str = "sw7YvCSbcVex3bhi:AYeZ";

fn main() -> ExitCode {
    let (options, only) = Options::from_arguments();
    let rounds = if options.quick { 60 } else { 600 };
    let mut table = Table::new(
        "STUN and TURN: nanoseconds of CPU time per operation",
        &[
            "work",
            "visavis",
            "stun-types",
            "per second",
            "against stun-types",
        ],
    );
    let key = IntegrityKey::short_term(PASSWORD);
    let their_key = ShortTermCredentials::new(PASSWORD.to_owned()).make_key();
    let check = check(&key, false);
    let check_sha256 = self::check(&key, true);

    let rows: Vec<(&str, Vec<Contestant<'_>>)> = vec![
        (
            "parse a Binding request",
            vec![
                Contestant::new("visavis", || {
                    let message = Message::parse(black_box(&check)).expect("a message");
                    black_box(message.get::<Username<'_>>());
                }),
                Contestant::new("stun-types", || {
                    let message = TheirMessage::from_bytes(black_box(&check)).expect("a message");
                    let _ = black_box(message.attribute::<TheirUsername>());
                }),
            ],
        ),
        (
            "parse, check FINGERPRINT and integrity",
            vec![
                Contestant::new("visavis", || {
                    let message = Message::parse(black_box(&check)).expect("a message");
                    assert_eq!(message.check_fingerprint(), Verdict::Valid);
                    assert_eq!(message.check_integrity(&key), Verdict::Valid);
                }),
                // It checks FINGERPRINT while it parses.
                Contestant::new("stun-types", || {
                    let message = TheirMessage::from_bytes(black_box(&check)).expect("a message");
                    assert!(message.validate_integrity_with_key(&their_key).is_ok());
                }),
            ],
        ),
        (
            "parse, check FINGERPRINT and integrity (SHA-256)",
            vec![
                Contestant::new("visavis", || {
                    let message = Message::parse(black_box(&check_sha256)).expect("a message");
                    assert_eq!(message.check_fingerprint(), Verdict::Valid);
                    assert_eq!(message.check_integrity_sha256(&key), Verdict::Valid);
                }),
                Contestant::new("stun-types", || {
                    let message =
                        TheirMessage::from_bytes(black_box(&check_sha256)).expect("a message");
                    assert!(message.validate_integrity_with_key(&their_key).is_ok());
                }),
            ],
        ),
        (
            "build a Binding request with integrity and FINGERPRINT",
            vec![
                Contestant::new("visavis", || {
                    let mut buffer = [0; 200];
                    black_box(build(&mut buffer, &key, false));
                }),
                Contestant::new("stun-types", || {
                    let mut buffer = [0; 200];
                    let write = MessageWriteMutSlice::new(&mut buffer);
                    let mut message = TheirMessage::builder_request(BINDING, write);
                    let username = TheirUsername::new(NAME).expect("a name");
                    message.add_attribute(&username).expect("added");
                    let software = TheirSoftware::new(SOFTWARE).expect("a name");
                    message.add_attribute(&software).expect("added");
                    message
                        .add_message_integrity_with_key(&their_key, IntegrityAlgorithm::Sha1)
                        .expect("added");
                    message.add_fingerprint().expect("added");
                    black_box(message.finish());
                }),
            ],
        ),
    ];
    let wanted =
        |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    for (name, contestants) in rows {
        if wanted(name) {
            let results = compare(rounds, contestants);
            row(&mut table, name, &results);
            if let [(_, ours), (_, theirs)] = results[..] {
                table.at_most(name, ours, theirs);
            }
        }
    }
    for (name, contestant) in turn::rows() {
        if wanted(name) {
            row(&mut table, name, &compare(rounds, vec![contestant]));
        }
    }
    table.note(format!(
        "{}; median of {rounds} interleaved rounds. stun-types 2.0.4. The TURN rows are the sans-IO core alone: no system \
         call, no copy by a driver.",
        machine()
    ));
    table.finish(options)
}

fn row(table: &mut Table, name: &str, results: &[(&'static str, f64)]) {
    let ours = results[0].1;
    let theirs = results.get(1).map(|(_, nanoseconds)| *nanoseconds);
    let rounded = |number: f64| json!((number * 10.0).round() / 10.0);
    table.row(vec![
        json!(name),
        rounded(ours),
        theirs.map_or(Value::Null, rounded),
        json!((1e9 / ours).round()),
        theirs.map_or(Value::Null, |theirs| json!(ours / theirs)),
    ]);
}

fn check(key: &IntegrityKey, sha256: bool) -> Vec<u8> {
    let mut buffer = [0; 200];
    let len = build(&mut buffer, key, sha256);
    buffer[..len].to_vec()
}

fn build(buffer: &mut [u8], key: &IntegrityKey, sha256: bool) -> usize {
    let id = TransactionId([7; 12]);
    let mut builder = MessageBuilder::new(buffer, Class::Request, Method::BINDING, id);
    builder.add(&Username(NAME)).add(&Software(SOFTWARE));
    if sha256 {
        builder.add(&IceControlling(9)).integrity_sha256(key);
    } else {
        builder.integrity(key);
    }
    builder.fingerprint().finish().expect("it fits")
}
