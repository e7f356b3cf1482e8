//! Certificates, keys and signatures: our own, and those that OpenSSL made.

use proptest::prelude::*;
use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{
    Certificate, Error, Fingerprint, FingerprintSet, HashAlgorithm, KeyAlgorithm, PeerCertificate,
    SignatureScheme, SigningKey,
};
use visavis_datagram::Random;

const MESSAGE: &[u8] = include_bytes!("fixtures/message.txt");

const ALGORITHMS: [KeyAlgorithm; 4] = [
    KeyAlgorithm::EcdsaP256,
    KeyAlgorithm::EcdsaP384,
    KeyAlgorithm::Ed25519,
    KeyAlgorithm::Rsa,
];

fn self_signed(algorithm: KeyAlgorithm, seed: u64) -> Certificate {
    let options = SelfSigned {
        algorithm,
        ..SelfSigned::at(1_800_000_000)
    };
    Certificate::self_signed(&options, &mut Random::from_u64(seed)).unwrap()
}

#[test]
fn our_certificate_parses_and_its_key_verifies() {
    for algorithm in ALGORITHMS {
        let own = self_signed(algorithm, 1);
        assert_eq!(own.not_after(), 1_800_000_000 + 30 * 24 * 3600);
        let peer = PeerCertificate::parse(own.der()).unwrap();
        assert_eq!(peer.public_key(), own.signing_key().public_key());
        for &scheme in own.signing_key().schemes() {
            let signature = own.signing_key().sign(scheme, b"hello").unwrap();
            peer.verify(scheme, b"hello", &signature).unwrap();
            assert_eq!(
                peer.verify(scheme, b"hallo", &signature),
                Err(Error::Authentication)
            );
            assert!(scheme.is_for_tls12(algorithm));
        }
        assert_eq!(
            own.signing_key()
                .sign(
                    if algorithm == KeyAlgorithm::Ed25519 {
                        SignatureScheme::RsaPkcs1Sha256
                    } else {
                        SignatureScheme::Ed25519
                    },
                    b""
                )
                .unwrap_err(),
            Error::UnsuitableScheme
        );
    }
}

#[test]
fn our_certificate_signs_itself() {
    use x509::*;
    for algorithm in ALGORITHMS {
        let own = self_signed(algorithm, 2);
        let (tbs, signature) = split(own.der());
        let peer = PeerCertificate::parse(own.der()).unwrap();
        let scheme = match algorithm {
            KeyAlgorithm::Rsa => SignatureScheme::RsaPkcs1Sha256,
            _ => own.signing_key().schemes()[0],
        };
        peer.verify(scheme, tbs, signature).unwrap();
    }
}

/// Just enough DER to take a certificate apart.
mod x509 {
    fn element(der: &[u8]) -> (usize, usize) {
        match der[1] {
            len if len < 0x80 => (2, usize::from(len)),
            0x81 => (3, usize::from(der[2])),
            _ => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        }
    }

    pub(super) fn split(der: &[u8]) -> (&[u8], &[u8]) {
        let (header, _) = element(der);
        let inner = &der[header..];
        let (header, len) = element(inner);
        let (tbs, rest) = inner.split_at(header + len);
        let (header, len) = element(rest);
        let rest = &rest[header + len..];
        let (header, len) = element(rest);
        assert_eq!((rest[0], rest[header]), (3, 0));
        (tbs, &rest[header + 1..header + len])
    }
}

#[test]
fn keys_from_the_same_seed_are_the_same() {
    for algorithm in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Ed25519,
    ] {
        let key = |seed| SigningKey::generate(algorithm, &mut Random::from_u64(seed)).unwrap();
        assert_eq!(key(5).public_key(), key(5).public_key());
        assert_ne!(key(5).public_key(), key(6).public_key());
    }
}

#[test]
fn a_certificate_survives_pem() {
    for algorithm in ALGORITHMS {
        let own = self_signed(algorithm, 3);
        let again = Certificate::from_pem(&own.to_pem().unwrap()).unwrap();
        assert_eq!(again.der(), own.der());
        assert_eq!(again.not_after(), own.not_after());
        let scheme = own.signing_key().schemes()[0];
        let signature = again.signing_key().sign(scheme, b"x").unwrap();
        let peer = PeerCertificate::parse(own.der()).unwrap();
        peer.verify(scheme, b"x", &signature).unwrap();
    }
}

#[test]
fn certificates_and_keys_of_openssl_are_imported() {
    for (pem, algorithm) in [
        (include_str!("fixtures/p256.pem"), KeyAlgorithm::EcdsaP256),
        (include_str!("fixtures/sec1.pem"), KeyAlgorithm::EcdsaP256),
        (include_str!("fixtures/p384.pem"), KeyAlgorithm::EcdsaP384),
        (include_str!("fixtures/ed25519.pem"), KeyAlgorithm::Ed25519),
        (include_str!("fixtures/rsa2048.pem"), KeyAlgorithm::Rsa),
    ] {
        let own = Certificate::from_pem(pem).unwrap();
        assert_eq!(own.signing_key().algorithm(), algorithm);
        assert_eq!(own.chain().count(), 1);
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (a, b) = (
        self_signed(KeyAlgorithm::EcdsaP256, 1),
        self_signed(KeyAlgorithm::EcdsaP256, 2),
    );
    let key = b.signing_key().to_pkcs8().unwrap();
    assert_eq!(
        Certificate::from_der(vec![a.der().to_vec()], &key).unwrap_err(),
        Error::InvalidKey
    );
    assert_eq!(
        Certificate::from_der(vec![], &key).unwrap_err(),
        Error::Malformed
    );
    assert_eq!(
        Certificate::from_pem("no PEM at all").unwrap_err(),
        Error::Malformed
    );
}

#[test]
fn signatures_of_openssl_verify() {
    macro_rules! check {
        ($pem:literal, $($codepoint:literal $file:literal),+) => {
            let own = Certificate::from_pem(include_str!(concat!("fixtures/", $pem, ".pem"))).unwrap();
            let peer = PeerCertificate::parse(own.der()).unwrap();
            $({
                let signature = include_bytes!(concat!("fixtures/", $pem, ".", $file, ".sig"));
                let scheme = SignatureScheme::from_codepoint($codepoint).unwrap();
                peer.verify(scheme, MESSAGE, signature).unwrap();
                for byte in 0..signature.len() {
                    let mut forged = signature.to_vec();
                    forged[byte] ^= 1;
                    assert!(peer.verify(scheme, MESSAGE, &forged).is_err());
                }
                assert!(peer.verify(scheme, MESSAGE, &[]).is_err());
            })+
        };
    }
    check!("p256", 0x0403 "0403", 0x0503 "0503");
    check!("p384", 0x0403 "0403", 0x0503 "0503");
    check!("ed25519", 0x0807 "0807");
    check!("rsa2048", 0x0401 "0401", 0x0501 "0501", 0x0601 "0601", 0x0804 "0804", 0x0805 "0805", 0x0806 "0806");
}

/// FFmpeg that is built with GnuTLS makes such certificates, and speaks DTLS 1.2 with them.
#[test]
fn a_peer_may_have_a_key_on_p_224_under_tls_1_2() {
    let pem = include_str!("fixtures/p224.pem");
    let der = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1;
    let peer = PeerCertificate::parse(&der.contents).unwrap();
    assert_eq!(peer.public_key().algorithm(), KeyAlgorithm::EcdsaP224);
    for (scheme, signature) in [
        (
            SignatureScheme::EcdsaSecp256r1Sha256,
            &include_bytes!("fixtures/p224.0403.sig")[..],
        ),
        (
            SignatureScheme::EcdsaSecp384r1Sha384,
            &include_bytes!("fixtures/p224.0503.sig")[..],
        ),
    ] {
        assert!(scheme.is_for_tls12(KeyAlgorithm::EcdsaP224));
        assert!(!scheme.is_for_tls13(KeyAlgorithm::EcdsaP224));
        peer.verify(scheme, MESSAGE, signature).unwrap();
        for byte in 0..signature.len() {
            let mut forged = signature.to_vec();
            forged[byte] ^= 1;
            assert!(peer.verify(scheme, MESSAGE, &forged).is_err());
        }
        assert!(peer.verify(scheme, MESSAGE, &[]).is_err());
    }
    assert_eq!(
        peer.verify(SignatureScheme::Ed25519, MESSAGE, &[]),
        Err(Error::UnsuitableScheme)
    );
    // Ours may not.
    let generated = SigningKey::generate(KeyAlgorithm::EcdsaP224, &mut Random::from_u64(1));
    assert_eq!(generated.err(), Some(Error::Unsupported));
}

#[test]
fn weak_and_unknown_keys_are_refused() {
    // Not our own.
    assert_eq!(
        Certificate::from_pem(include_str!("fixtures/p224.pem")).unwrap_err(),
        Error::InvalidKey
    );
    // RSA below 2048 bits.
    let text = include_str!("fixtures/rsa1024.pem");
    assert_eq!(Certificate::from_pem(text).unwrap_err(), Error::InvalidKey);
}

#[test]
fn tls_1_3_binds_the_curve_to_the_hash() {
    let scheme = SignatureScheme::EcdsaSecp384r1Sha384;
    assert!(scheme.is_for_tls13(KeyAlgorithm::EcdsaP384));
    assert!(!scheme.is_for_tls13(KeyAlgorithm::EcdsaP256));
    assert!(scheme.is_for_tls12(KeyAlgorithm::EcdsaP256));
    assert!(!SignatureScheme::RsaPkcs1Sha256.is_for_tls13(KeyAlgorithm::Rsa));
    assert!(SignatureScheme::RsaPssRsaeSha256.is_for_tls13(KeyAlgorithm::Rsa));
    assert_eq!(SignatureScheme::from_codepoint(0x0201), None);
}

#[test]
fn fingerprints_are_those_of_openssl() {
    let text = include_str!("fixtures/fingerprints.txt");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    for (index, line) in lines.iter().enumerate() {
        let pem = if index < 4 {
            include_str!("fixtures/p256.pem")
        } else {
            include_str!("fixtures/rsa2048.pem")
        };
        let own = Certificate::from_pem(pem).unwrap();
        let (name, value) = line.split_once(' ').unwrap();
        // OpenSSL says `sha256`, SDP `sha-256`.
        let name = name.to_lowercase().replace("sha", "sha-");
        let fingerprint: Fingerprint = format!("{name} {value}").parse().unwrap();
        assert!(fingerprint.matches(own.der()));
        assert_eq!(own.fingerprint(fingerprint.algorithm()), fingerprint);
        assert_eq!(fingerprint.to_string(), format!("{name} {value}"));
        assert_eq!(
            Fingerprint::parse(&name.to_uppercase(), &value.to_lowercase()).unwrap(),
            fingerprint
        );
    }
}

#[test]
fn what_is_no_fingerprint_is_refused() {
    let good = "AB:".repeat(31) + "CD";
    assert!(Fingerprint::parse("sha-256", &good).is_ok());
    for bad in [
        "",
        "AB",
        &good[1..],
        &good[..good.len() - 1],
        &format!("{good}:"),
        &format!("{good}:AB"),
        &good.replace(':', "-"),
        &good.replacen("AB", "+B", 1),
        &good.replacen("AB", "ÄB", 1),
        &"AB:".repeat(1000),
    ] {
        assert_eq!(Fingerprint::parse("sha-256", bad), Err(Error::Malformed));
    }
    assert_eq!(Fingerprint::parse("md5", &good), Err(Error::Unsupported));
    assert!("sha-256".parse::<Fingerprint>().is_err());
}

#[test]
fn only_the_strongest_hash_function_of_a_set_counts() {
    let (mine, other) = (
        self_signed(KeyAlgorithm::EcdsaP256, 1),
        self_signed(KeyAlgorithm::EcdsaP256, 2),
    );
    let set = |list: &[(&Certificate, HashAlgorithm)]| -> FingerprintSet {
        list.iter()
            .map(|(certificate, algorithm)| certificate.fingerprint(*algorithm))
            .collect()
    };
    let (sha1, sha256) = (HashAlgorithm::Sha1, HashAlgorithm::Sha256);
    assert!(!FingerprintSet::new().matches(mine.der()));
    assert!(set(&[(&mine, sha1)]).matches(mine.der()));
    assert!(set(&[(&other, sha256), (&mine, sha256)]).matches(mine.der()));
    assert!(set(&[(&mine, sha256), (&other, sha1)]).matches(mine.der()));
    assert!(!set(&[(&other, sha256), (&mine, sha1)]).matches(mine.der()));
    assert!(!set(&[(&other, sha256)]).matches(mine.der()));
    let mut full = FingerprintSet::new();
    for index in 0..FingerprintSet::MAX as u8 {
        assert!(full.insert(Fingerprint::new(sha1, &[index; 20]).unwrap()));
    }
    assert!(!full.insert(mine.fingerprint(sha1)));
    assert!(full.insert(Fingerprint::new(sha1, &[0; 20]).unwrap()));
    assert_eq!(full.iter().count(), FingerprintSet::MAX);
}

proptest! {
    #[test]
    fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = PeerCertificate::parse(&bytes);
        let _ = SigningKey::from_der(&bytes);
        let _ = Certificate::from_pem(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_mutated_certificate_parses_or_fails(
        at in any::<proptest::sample::Index>(),
        value in any::<u8>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut der = self_signed(KeyAlgorithm::EcdsaP256, 9).der().to_vec();
        let at = at.index(der.len());
        der[at] = value;
        if let Ok(peer) = PeerCertificate::parse(&der) {
            let _ = peer.verify(SignatureScheme::EcdsaSecp256r1Sha256, b"x", &der);
        }
        let cut = cut.index(der.len());
        prop_assert!(PeerCertificate::parse(&der[..cut]).is_err());
    }
}
