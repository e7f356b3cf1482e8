//! `cargo xtask bench dtls`: whole handshakes with certificates on both ends, and records of 1200
//! bytes, beside dimpl and OpenSSL, and handshakes beside the sum of their primitives.

mod foreign;
mod ours;

use std::cell::RefCell;
use std::hint::black_box;
use std::process::ExitCode;

use bench_crypto::{Contestant, compare, machine};
use serde_json::json;
use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::hash::Hash;
use visavis_crypto::hkdf::{self, Expander};
use visavis_crypto::{Certificate, Group, HashAlgorithm, PeerCertificate, Secret, hmac, kx, prf};
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
    table.note(
        "the primitives: key exchange, signatures made and checked, and the hashes of fingerprints, \
         key schedule, Finished and transcript, at both ends; no certificate is parsed, no record key \
         set up, no record sealed. Public key: key exchange and signatures alone",
    );
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
                "primitives 1.3 X25519MLKEM768",
                primitives(Version::Dtls13, Group::X25519MlKem768),
            ),
            Contestant::new(
                "primitives 1.3 X25519",
                primitives(Version::Dtls13, Group::X25519),
            ),
            Contestant::new(
                "primitives 1.2 X25519",
                primitives(Version::Dtls12, Group::X25519),
            ),
            Contestant::new(
                "public key X25519MLKEM768",
                public_key(Group::X25519MlKem768),
            ),
            Contestant::new("public key X25519", public_key(Group::X25519)),
        ],
    );
    report(table, "handshake", &results);
    let time = |stack| of(&results, stack);
    for (stack, bare) in [
        (
            "visavis 1.3 X25519MLKEM768",
            "primitives 1.3 X25519MLKEM768",
        ),
        ("visavis 1.3 X25519", "primitives 1.3 X25519"),
        ("visavis 1.2 X25519", "primitives 1.2 X25519"),
    ] {
        let name = format!("{stack} handshake over its primitives");
        table.at_most(&name, time(stack) / time(bare), 1.3);
    }
    let over_public_key = [
        ("visavis 1.3 X25519MLKEM768", "public key X25519MLKEM768"),
        ("visavis 1.3 X25519", "public key X25519"),
        ("visavis 1.2 X25519", "public key X25519"),
    ]
    .map(|(stack, bare)| format!("{stack}: {:.2}", time(stack) / time(bare)));
    table.note(format!(
        "over the public-key operations alone, {}",
        over_public_key.join(", ")
    ));
    for (ours, theirs) in [
        ("visavis 1.3 X25519", "dimpl 1.3 X25519"),
        ("visavis 1.2 X25519", "dimpl 1.2 X25519"),
        ("visavis 1.2 X25519", "OpenSSL 1.2 X25519"),
    ] {
        let name = format!("{ours} handshake: times as fast as {theirs}");
        table.at_least(&name, time(theirs) / time(ours), 1.0);
    }
}

/// The public-key operations of both ends of a handshake; answers the shared secret.
fn public_key_operations(
    group: Group,
    certificate: &Certificate,
    peer: &PeerCertificate,
    random: &mut Random,
) -> Secret {
    let exchange = kx::start(group, random).expect("a share");
    let (share, theirs) =
        kx::start_and_complete(group, exchange.share(), random).expect("a secret");
    let shared = exchange.complete(&share).expect("a secret");
    assert!(shared == theirs);
    let key = certificate.signing_key();
    let scheme = key.schemes()[0];
    for _ in 0..2 {
        let signature = key.sign(scheme, &[7; 130]).expect("a signature");
        peer.verify(scheme, &[7; 130], &signature)
            .expect("a good signature");
    }
    shared
}

fn certificate(random: &mut Random) -> (Certificate, PeerCertificate) {
    let own =
        Certificate::self_signed(&SelfSigned::at(1_800_000_000), random).expect("a certificate");
    let peer = PeerCertificate::parse(own.der()).expect("a certificate");
    (own, peer)
}

fn public_key(group: Group) -> impl FnMut() {
    let mut random = Random::from_u64(1);
    let (own, peer) = certificate(&mut random);
    move || {
        black_box(public_key_operations(group, &own, &peer, &mut random));
    }
}

/// The cryptography that both ends of a handshake cannot do without, and nothing else.
fn primitives(version: Version, group: Group) -> impl FnMut() {
    let mut random = Random::from_u64(1);
    let (own, peer) = certificate(&mut random);
    move || {
        let shared = public_key_operations(group, &own, &peer, &mut random);
        for _ in 0..2 {
            black_box(own.fingerprint(HashAlgorithm::Sha256));
            match version {
                Version::Dtls13 => key_schedule_13(&shared),
                Version::Dtls12 => key_schedule_12(&shared),
            }
        }
    }
}

const HASH: HashAlgorithm = HashAlgorithm::Sha256;

/// The key schedule of 1.3 at one end, to the keys of two epochs in both directions.
fn key_schedule_13(shared: &Secret) {
    let expand = |expander: &Expander, count: usize| {
        for _ in 0..count {
            let mut out = [0; 32];
            expander
                .expand(
                    &[&[0, 32, 18], b"dtls13c hs traffic", &[32], &[1; 32]],
                    &mut out,
                )
                .expect("an output");
            black_box(out);
        }
    };
    let stage = |secret: &Secret| {
        let extracted = hkdf::extract(HASH, &[1; 32], secret.as_ref());
        let expander = Expander::new(HASH, extracted.as_ref());
        expand(&expander, 3);
        extracted
    };
    let secret = stage(&stage(shared));
    for _ in 0..4 {
        expand(&Expander::new(HASH, secret.as_ref()), 3);
    }
    for _ in 0..2 {
        // Both Finished messages, and SRTP's exporter.
        expand(&Expander::new(HASH, secret.as_ref()), 1);
        black_box(hmac::Key::new(HASH, secret.as_ref()).sign(&[&[1; 32]]));
        expand(&Expander::new(HASH, secret.as_ref()), 1);
    }
    transcript();
}

/// The secrets of 1.2 at one end, to the keys in both directions.
fn key_schedule_12(shared: &Secret) {
    // Master secret, keys, both Finished messages, SRTP's exporter.
    for len in [48, 40, 12, 12, 56] {
        let mut out = [0; 56];
        let seed = [&[1; 32][..], &[2; 32]];
        prf::tls12(
            HASH,
            shared.as_ref(),
            b"extended master secret",
            seed,
            &mut out[..len],
        );
        black_box(out);
    }
    transcript();
}

/// Two kilobytes of messages, and the hashes on the way.
fn transcript() {
    let mut hash = Hash::new(HASH);
    for _ in 0..8 {
        hash.update(&[3; 256]);
    }
    for _ in 0..5 {
        black_box(hash.current());
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
