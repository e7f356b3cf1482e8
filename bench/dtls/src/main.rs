//! `cargo xtask bench dtls`: whole handshakes with certificates on both ends, and records of 1200
//! bytes, beside dimpl and OpenSSL, and handshakes beside the sum of their primitives.

mod foreign;
mod ours;

use std::cell::RefCell;
use std::process::ExitCode;

use bench_crypto::{Contestant, compare, machine};
use serde_json::json;
use visavis_crypto::{Group, KeyAlgorithm, SigningKey, kx};
use visavis_datagram::Random;
use visavis_dtls::Version;
use visavis_report::{Options, Table};

/// Bytes of application data in a record.
const PAYLOAD: usize = 1200;
/// Records per batch.
const RECORDS: usize = 512;

fn main() -> ExitCode {
    let (options, _) = Options::from_arguments();
    let rounds = if options.quick { 15 } else { 101 };
    let mut table = Table::new(
        "DTLS: CPU time",
        &["work", "stack", "µs", "per second and core"],
    );
    handshakes(&mut table, rounds);
    records(&mut table, rounds);
    table.note(format!(
        "a handshake is both ends of one, with ECDSA P-256 certificates on both; {}",
        machine()
    ));
    table.note("dimpl 0.9, crypto by aws-lc-rs; openssl 0.10 on the system's OpenSSL");
    table.finish(options)
}

fn report(table: &mut Table, work: &str, results: &[(&'static str, f64)]) {
    for (stack, nanoseconds) in results {
        table.row(vec![
            json!(work),
            json!(stack),
            json!((nanoseconds / 10.0).round() / 100.0),
            json!((1e9 / nanoseconds).round()),
        ]);
    }
}

/// The time of a stack in a row of results.
fn of(results: &[(&'static str, f64)], stack: &str) -> f64 {
    results
        .iter()
        .find_map(|(name, time)| (*name == stack).then_some(*time))
        .expect("a stack of this row")
}

fn handshakes(table: &mut Table, rounds: usize) {
    let settings = ours::Settings::new;
    let hybrid = settings(Version::Dtls13, Group::X25519MlKem768);
    let of_13 = settings(Version::Dtls13, Group::X25519);
    let of_12 = settings(Version::Dtls12, Group::X25519);
    let dimpl = foreign::Dimpl::new();
    let openssl = foreign::Openssl::new();
    let primitives = |group| move || primitives(group);
    let results = compare(
        rounds,
        vec![
            Contestant::new("visavis 1.3 X25519MLKEM768", || drop(hybrid.handshake())),
            Contestant::new("visavis 1.3 X25519", || drop(of_13.handshake())),
            Contestant::new("visavis 1.2 X25519", || drop(of_12.handshake())),
            Contestant::new("dimpl 1.3 X25519", || drop(dimpl.handshake(true))),
            Contestant::new("dimpl 1.2 X25519", || drop(dimpl.handshake(false))),
            Contestant::new("OpenSSL 1.2 X25519", || drop(openssl.handshake())),
            Contestant::new(
                "primitives X25519MLKEM768",
                primitives(Group::X25519MlKem768)(),
            ),
            Contestant::new("primitives X25519", primitives(Group::X25519)()),
        ],
    );
    report(table, "handshake", &results);
    let time = |stack| of(&results, stack);
    for (stack, bare) in [
        ("visavis 1.3 X25519MLKEM768", "primitives X25519MLKEM768"),
        ("visavis 1.3 X25519", "primitives X25519"),
        ("visavis 1.2 X25519", "primitives X25519"),
    ] {
        let name = format!("{stack} handshake over its primitives");
        table.at_most(&name, time(stack) / time(bare), 1.3);
    }
    for (ours, theirs) in [
        ("visavis 1.3 X25519", "dimpl 1.3 X25519"),
        ("visavis 1.2 X25519", "dimpl 1.2 X25519"),
        ("visavis 1.2 X25519", "OpenSSL 1.2 X25519"),
    ] {
        let name = format!("{ours} handshake: times as fast as {theirs}");
        table.at_least(&name, time(theirs) / time(ours), 1.0);
    }
}

/// The asymmetric work of both ends of a handshake.
fn primitives(group: Group) -> impl FnMut() {
    let mut random = Random::from_u64(1);
    let key = SigningKey::generate(KeyAlgorithm::EcdsaP256, &mut random).expect("a key");
    let scheme = key.schemes()[0];
    move || {
        let exchange = kx::start(group, &mut random).expect("a share");
        let (share, theirs) =
            kx::start_and_complete(group, exchange.share(), &mut random).expect("a secret");
        assert!(exchange.complete(&share).expect("a secret") == theirs);
        for _ in 0..2 {
            let signature = key.sign(scheme, &[7; 130]).expect("a signature");
            key.public_key()
                .verify(scheme, &[7; 130], &signature)
                .expect("a good signature");
        }
    }
}

fn records(table: &mut Table, rounds: usize) {
    let pair = |version| RefCell::new(ours::Settings::new(version, Group::X25519).handshake());
    let (of_13, of_12) = (pair(Version::Dtls13), pair(Version::Dtls12));
    let dimpl = foreign::Dimpl::new();
    let dimpl_13 = RefCell::new(dimpl.handshake(true));
    let dimpl_12 = RefCell::new(dimpl.handshake(false));
    let openssl = RefCell::new(foreign::Openssl::new().handshake());

    let results = compare(
        rounds,
        vec![
            Contestant::new("visavis 1.3", || of_13.borrow_mut().seal()),
            Contestant::new("visavis 1.2", || of_12.borrow_mut().seal()),
            Contestant::new("dimpl 1.3", || dimpl_13.borrow_mut().seal()),
            Contestant::new("dimpl 1.2", || dimpl_12.borrow_mut().seal()),
            Contestant::new("OpenSSL 1.2", || openssl.borrow_mut().seal()),
        ],
    );
    report(table, "seal 1200 bytes", &results);
    goals(table, "seal", &results);

    let count = RECORDS as u32;
    let results = compare(
        rounds,
        vec![
            Contestant::batch(
                "visavis 1.3",
                count,
                || of_13.borrow_mut().prepare(),
                || of_13.borrow_mut().open(),
            ),
            Contestant::batch(
                "visavis 1.2",
                count,
                || of_12.borrow_mut().prepare(),
                || of_12.borrow_mut().open(),
            ),
            Contestant::batch(
                "dimpl 1.3",
                count,
                || dimpl_13.borrow_mut().prepare(),
                || dimpl_13.borrow_mut().open(),
            ),
            Contestant::batch(
                "dimpl 1.2",
                count,
                || dimpl_12.borrow_mut().prepare(),
                || dimpl_12.borrow_mut().open(),
            ),
            Contestant::batch(
                "OpenSSL 1.2",
                count,
                || openssl.borrow_mut().prepare(),
                || openssl.borrow_mut().open(),
            ),
        ],
    );
    report(table, "open 1200 bytes", &results);
    goals(table, "open", &results);
}

fn goals(table: &mut Table, work: &str, results: &[(&'static str, f64)]) {
    for (ours, theirs) in [
        ("visavis 1.3", "dimpl 1.3"),
        ("visavis 1.2", "dimpl 1.2"),
        ("visavis 1.2", "OpenSSL 1.2"),
    ] {
        let name = format!("{ours} {work}: times as fast as {theirs}");
        table.at_least(&name, of(results, theirs) / of(results, ours), 1.0);
    }
}
