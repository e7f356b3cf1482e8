//! Key exchange, signatures and certificates: what a handshake is made of.

use std::cell::RefCell;
use std::hint::black_box;

use bench_crypto::Contestant;
use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::{Signer, Verifier};
use ring::signature::KeyPair as _;
use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{
    Certificate, Group, HashAlgorithm, KeyAlgorithm, SignatureScheme, SigningKey, hkdf, kx,
};
use visavis_datagram::Random;

pub(crate) fn rows(add: &mut impl FnMut(&str, Vec<Contestant<'_>>)) {
    for group in [
        Group::X25519,
        Group::Secp256r1,
        Group::Secp384r1,
        Group::X25519MlKem768,
    ] {
        exchange(add, group);
    }
    signatures(add);
    let mut random = Random::from_u64(1);
    let options = SelfSigned::at(1_800_000_000);
    add(
        "self-signed certificate, ECDSA P-256",
        vec![Contestant::new("visavis", || {
            black_box(Certificate::self_signed(&options, &mut random).unwrap());
        })],
    );
    let own = Certificate::self_signed(&options, &mut Random::from_u64(1)).unwrap();
    add(
        "parse a certificate",
        vec![Contestant::new("visavis", || {
            black_box(visavis_crypto::PeerCertificate::parse(own.der()).unwrap());
        })],
    );
    add(
        "HKDF-Expand-Label, SHA-256, 32 bytes",
        vec![Contestant::new("visavis", || {
            let mut out = [0; 32];
            hkdf::expand(HashAlgorithm::Sha256, &[1; 32], &[&[2; 50]], &mut out).unwrap();
            black_box(out);
        })],
    );
}

/// Both sides of an exchange: two key pairs, two agreements.
fn exchange(add: &mut impl FnMut(&str, Vec<Contestant<'_>>), group: Group) {
    let mut random = Random::from_u64(1);
    let mut contestants = vec![Contestant::new("visavis", move || {
        let started = kx::start(group, &mut random).unwrap();
        let (share, secret) = kx::start_and_complete(group, started.share(), &mut random).unwrap();
        black_box((secret, started.complete(&share).unwrap()));
    })];
    let (aws, ring) = match group {
        Group::X25519 => (
            Some(&aws_lc_rs::agreement::X25519),
            Some(&ring::agreement::X25519),
        ),
        Group::Secp256r1 => (
            Some(&aws_lc_rs::agreement::ECDH_P256),
            Some(&ring::agreement::ECDH_P256),
        ),
        Group::Secp384r1 => (
            Some(&aws_lc_rs::agreement::ECDH_P384),
            Some(&ring::agreement::ECDH_P384),
        ),
        _ => (None, None),
    };
    if let Some(algorithm) = aws {
        use aws_lc_rs::agreement::*;
        contestants.push(Contestant::new("aws-lc-rs", move || {
            let keys: [_; 2] = std::array::from_fn(|_| PrivateKey::generate(algorithm).unwrap());
            let publics: [_; 2] = std::array::from_fn(|at| keys[at].compute_public_key().unwrap());
            for at in 0..2 {
                let peer = UnparsedPublicKey::new(algorithm, publics[1 - at].as_ref());
                agree(&keys[at], peer, (), |secret| {
                    black_box(secret);
                    Ok(())
                })
                .unwrap();
            }
        }));
    }
    if let Some(algorithm) = ring {
        use ring::agreement::*;
        let system = ring::rand::SystemRandom::new();
        contestants.push(Contestant::new("ring", move || {
            let keys: [_; 2] =
                std::array::from_fn(|_| EphemeralPrivateKey::generate(algorithm, &system).unwrap());
            let publics: [_; 2] = std::array::from_fn(|at| keys[at].compute_public_key().unwrap());
            for (at, key) in keys.into_iter().enumerate() {
                let peer = UnparsedPublicKey::new(algorithm, publics[1 - at].as_ref());
                agree_ephemeral(key, &peer, |secret| {
                    black_box(secret);
                })
                .unwrap();
            }
        }));
    }
    let nid = match group {
        Group::Secp256r1 => Some(Nid::X9_62_PRIME256V1),
        Group::Secp384r1 => Some(Nid::SECP384R1),
        _ => None,
    };
    if group == Group::X25519 || nid.is_some() {
        let curve = nid.map(|nid| EcGroup::from_curve_name(nid).unwrap());
        let generate = move || -> PKey<Private> {
            match &curve {
                Some(curve) => PKey::from_ec_key(EcKey::generate(curve).unwrap()).unwrap(),
                None => PKey::generate_x25519().unwrap(),
            }
        };
        contestants.push(Contestant::new("openssl", move || {
            let keys = [generate(), generate()];
            for at in 0..2 {
                let peer = keys[1 - at].public_key_to_der().unwrap();
                let peer = PKey::public_key_from_der(&peer).unwrap();
                let mut deriver = Deriver::new(&keys[at]).unwrap();
                deriver.set_peer(&peer).unwrap();
                black_box(deriver.derive_to_vec().unwrap());
            }
        }));
    }
    add(&format!("{group:?}: key exchange, both sides"), contestants);
}

fn signatures(add: &mut impl FnMut(&str, Vec<Contestant<'_>>)) {
    let scheme = SignatureScheme::EcdsaSecp256r1Sha256;
    let message = [5; 130];
    let key = SigningKey::generate(KeyAlgorithm::EcdsaP256, &mut Random::from_u64(1)).unwrap();
    let pkcs8 = key.to_pkcs8().unwrap();
    let signature = key.sign(scheme, &message).unwrap();
    let aws = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &pkcs8,
    )
    .unwrap();
    let aws_random = aws_lc_rs::rand::SystemRandom::new();
    let system = ring::rand::SystemRandom::new();
    let ring = ring::signature::EcdsaKeyPair::from_pkcs8(
        &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &pkcs8,
        &system,
    )
    .unwrap();
    let openssl = PKey::private_key_from_der(&pkcs8).unwrap();
    let scratch = RefCell::new(Vec::new());
    add(
        "ECDSA P-256 sign",
        vec![
            Contestant::new("visavis", || {
                black_box(key.sign(scheme, &message).unwrap());
            }),
            Contestant::new("aws-lc-rs", || {
                black_box(aws.sign(&aws_random, &message).unwrap());
            }),
            Contestant::new("ring", || {
                black_box(ring.sign(&system, &message).unwrap());
            }),
            Contestant::new("openssl", || {
                let mut signer = Signer::new(MessageDigest::sha256(), &openssl).unwrap();
                *scratch.borrow_mut() = signer.sign_oneshot_to_vec(&message).unwrap();
            }),
        ],
    );
    let public = ring.public_key().as_ref().to_vec();
    add(
        "ECDSA P-256 verify",
        vec![
            Contestant::new("visavis", || {
                key.public_key()
                    .verify(scheme, &message, &signature)
                    .unwrap();
            }),
            Contestant::new("aws-lc-rs", || {
                use aws_lc_rs::signature::*;
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &public)
                    .verify(&message, &signature)
                    .unwrap();
            }),
            Contestant::new("ring", || {
                use ring::signature::*;
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &public)
                    .verify(&message, &signature)
                    .unwrap();
            }),
            Contestant::new("openssl", || {
                let mut verifier = Verifier::new(MessageDigest::sha256(), &openssl).unwrap();
                assert!(verifier.verify_oneshot(&signature, &message).unwrap());
            }),
        ],
    );
}
