//! Certificates and keys from anybody: parsed or refused; a key that parses verifies nothing that
//! its owner did not sign.

#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_crypto::{
    Certificate, Fingerprint, HashAlgorithm, PeerCertificate, SignatureScheme, SigningKey,
};

fuzz_target!(|data: &[u8]| {
    if let Ok(peer) = PeerCertificate::parse(data) {
        assert_eq!(peer.der(), data);
        assert!(peer.fingerprint(HashAlgorithm::Sha256).matches(data));
        for scheme in SignatureScheme::ALL {
            // Not a signature of this message, whatever the key is; half of the certificate serves
            // as a long and malformed one.
            let _ = peer.verify(scheme, b"message", &data[data.len() / 2..]);
            assert!(peer.verify(scheme, b"message", &[]).is_err());
        }
    }
    if let Ok(key) = SigningKey::from_der(data) {
        let scheme = key.schemes()[0];
        if let Ok(signature) = key.sign(scheme, b"message") {
            key.public_key()
                .verify(scheme, b"message", &signature)
                .unwrap();
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Certificate::from_pem(text);
        if let Ok(fingerprint) = text.parse::<Fingerprint>() {
            assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        }
    }
});
