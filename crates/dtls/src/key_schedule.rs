//! From a shared secret to keys: the key schedule of 1.3 (RFC 8446 section 7, with the label prefix
//! of RFC 9147 section 5.9) and the master secret of 1.2 (RFC 5246 section 8, RFC 7627).

use std::fmt;

use visavis_crypto::hkdf::{self, Expander};
use visavis_crypto::{HashAlgorithm, Secret, hmac, prf};

/// What stands before every label of DTLS 1.3. There is no space behind it.
const PREFIX: &[u8] = b"dtls13";

/// What the early secret, which no pre-shared key goes into, is salted with for the handshake secret:
/// always the same (RFC 8446 section 7.1).
const SALT_SHA256: [u8; 32] = [
    0xb1, 0x7b, 0xce, 0x94, 0x51, 0xee, 0x8b, 0xc6, 0xe8, 0xae, 0xbc, 0x0a, 0xa9, 0xe9, 0x82, 0x95,
    0x67, 0x7a, 0x4a, 0x6a, 0x91, 0xf7, 0x84, 0x40, 0x83, 0x31, 0x46, 0xe4, 0x65, 0xf2, 0xff, 0x95,
];
const SALT_SHA384: [u8; 48] = [
    0x27, 0x00, 0x86, 0x05, 0xd3, 0x39, 0x6f, 0x88, 0x44, 0x19, 0x75, 0x65, 0xca, 0xec, 0xc5, 0x92,
    0xb3, 0xe5, 0x8f, 0x2e, 0xae, 0x55, 0xf8, 0x41, 0xb5, 0x77, 0xcf, 0xbc, 0xab, 0xb4, 0x7e, 0x22,
    0x1f, 0x67, 0x4e, 0xd3, 0xa6, 0x8a, 0xa8, 0x93, 0x43, 0x9c, 0xf5, 0x57, 0xf1, 0x11, 0xc0, 0xfc,
];

/// HKDF-Expand-Label (RFC 8446 section 7.1) of one secret, which is set up once.
pub(crate) struct Deriver {
    hash: HashAlgorithm,
    expander: Expander,
}

impl Deriver {
    pub(crate) fn new(hash: HashAlgorithm, secret: &Secret) -> Self {
        Self {
            hash,
            expander: Expander::new(hash, secret.as_ref()),
        }
    }

    /// Fills `out`.
    pub(crate) fn fill(&self, label: &[u8], context: &[u8], out: &mut [u8]) {
        self.fill_with(PREFIX, label, context, out);
    }

    fn fill_with(&self, prefix: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
        self.expander
            .expand(
                &[
                    &(out.len() as u16).to_be_bytes(),
                    &[(prefix.len() + label.len()) as u8],
                    prefix,
                    label,
                    &[context.len() as u8],
                    context,
                ],
                out,
            )
            .expect("an output of less than 255 hashes");
    }

    /// A secret of the hash's length.
    fn secret(&self, label: &[u8], context: &[u8]) -> Secret {
        let mut out = Secret::zeros(self.hash.output_len());
        self.fill(label, context, out.as_mut());
        out
    }
}

/// The stages of 1.3's key schedule behind the ServerHello. There are no pre-shared keys.
pub(crate) struct KeySchedule {
    hash: HashAlgorithm,
    handshake: Deriver,
}

/// The secrets of both directions.
#[derive(Debug, Clone)]
pub(crate) struct TrafficSecrets {
    pub(crate) client: Secret,
    pub(crate) server: Secret,
}

impl KeySchedule {
    /// From the secret that the key exchange gave.
    pub(crate) fn new(hash: HashAlgorithm, shared: &Secret) -> Self {
        let salt: &[u8] = match hash {
            HashAlgorithm::Sha384 => &SALT_SHA384,
            _ => &SALT_SHA256,
        };
        let secret = hkdf::extract(hash, salt, shared.as_ref());
        Self {
            hash,
            handshake: Deriver::new(hash, &secret),
        }
    }

    /// The handshake traffic secrets; `transcript` reaches to the ServerHello.
    pub(crate) fn handshake_traffic(&self, transcript: &[u8]) -> TrafficSecrets {
        TrafficSecrets {
            client: self.handshake.secret(b"c hs traffic", transcript),
            server: self.handshake.secret(b"s hs traffic", transcript),
        }
    }

    /// The application traffic secrets and the exporter's; `transcript` reaches to the server's
    /// Finished.
    pub(crate) fn application_traffic(&self, transcript: &[u8]) -> (TrafficSecrets, Secret) {
        let hash = self.hash;
        let salt = self.handshake.secret(b"derived", &hash.hash(&[]));
        let zeros = Secret::zeros(hash.output_len());
        let master = Deriver::new(hash, &hkdf::extract(hash, salt.as_ref(), zeros.as_ref()));
        let traffic = TrafficSecrets {
            client: master.secret(b"c ap traffic", transcript),
            server: master.secret(b"s ap traffic", transcript),
        };
        (traffic, master.secret(b"exp master", transcript))
    }
}

impl fmt::Debug for KeySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySchedule(..)")
    }
}

/// The MAC of a Finished message of 1.3 (RFC 8446 section 4.4.4).
pub(crate) fn finished13(
    hash: HashAlgorithm,
    traffic: &Secret,
    transcript: &[u8],
) -> visavis_crypto::hash::Output {
    let key = Deriver::new(hash, traffic).secret(b"finished", &[]);
    hmac::Key::new(hash, key.as_ref()).sign(&[transcript])
}

/// The secret behind a KeyUpdate (RFC 8446 section 7.2).
pub(crate) fn next_traffic(hash: HashAlgorithm, traffic: &Secret) -> Secret {
    Deriver::new(hash, traffic).secret(b"traffic upd", &[])
}

/// The exporter of 1.3 (RFC 8446 section 7.5). An absent context is an empty one.
pub(crate) fn export13(
    hash: HashAlgorithm,
    exporter: &Secret,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) {
    let secret = Deriver::new(hash, exporter).secret(label, &hash.hash(&[]));
    Deriver::new(hash, &secret).fill(b"exporter", &hash.hash(context), out);
}

/// The extended master secret of 1.2 (RFC 7627 section 4).
pub(crate) fn extended_master(
    hash: HashAlgorithm,
    premaster: &Secret,
    session_hash: &[u8],
) -> Secret {
    let mut master = Secret::zeros(48);
    prf::tls12(
        hash,
        premaster.as_ref(),
        b"extended master secret",
        [session_hash, &[]],
        master.as_mut(),
    );
    master
}

/// The content of a Finished message of 1.2 (RFC 5246 section 7.4.9).
pub(crate) fn finished12(
    hash: HashAlgorithm,
    master: &Secret,
    of_client: bool,
    transcript: &[u8],
) -> [u8; 12] {
    let label: &[u8] = if of_client {
        b"client finished"
    } else {
        b"server finished"
    };
    let mut out = [0; 12];
    prf::tls12(hash, master.as_ref(), label, [transcript, &[]], &mut out);
    out
}

/// The exporter of 1.2 (RFC 5705 section 4).
pub(crate) fn export12(
    hash: HashAlgorithm,
    master: &Secret,
    randoms: &[u8; 64],
    label: &[u8],
    context: Option<&[u8]>,
    out: &mut [u8],
) {
    match context {
        None => prf::tls12(hash, master.as_ref(), label, [randoms, &[]], out),
        Some(context) => {
            let mut tail = Vec::with_capacity(2 + context.len());
            tail.extend_from_slice(&(context.len() as u16).to_be_bytes());
            tail.extend_from_slice(context);
            prf::tls12(hash, master.as_ref(), label, [randoms, &tail], out);
        }
    }
}

#[cfg(test)]
mod tests {
    use visavis_crypto::{HashAlgorithm, Secret, hkdf};

    use super::{Deriver, KeySchedule, SALT_SHA256, SALT_SHA384};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// The key schedule of TLS 1.3, with this file's functions and TLS's prefix.
    fn tls13(secret: &Secret, label: &[u8], context: &[u8], len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        Deriver::new(HashAlgorithm::Sha256, secret).fill_with(b"tls13 ", label, context, &mut out);
        out
    }

    const SHARED: &str = "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d";
    const HELLOS: &str = "860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8";

    #[test]
    fn rfc_8448_section_3_with_the_prefix_of_tls() {
        let hash = HashAlgorithm::Sha256;
        let early = hkdf::extract(hash, &[], &[0; 32]);
        assert_eq!(
            early.as_ref(),
            hex("33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a")
        );
        let salt = tls13(&early, b"derived", &hash.hash(&[]), 32);
        assert_eq!(
            salt,
            hex("6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba")
        );
        let handshake = hkdf::extract(hash, &salt, &hex(SHARED));
        assert_eq!(
            handshake.as_ref(),
            hex("1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac")
        );
        assert_eq!(
            tls13(&handshake, b"c hs traffic", &hex(HELLOS), 32),
            hex("b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21")
        );
        let server = tls13(&handshake, b"s hs traffic", &hex(HELLOS), 32);
        assert_eq!(
            server,
            hex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
        );
        let server = Secret::new(&server);
        assert_eq!(
            tls13(&server, b"key", &[], 16),
            hex("3fce516009c21727d0f2e4e86ee403bc")
        );
        assert_eq!(
            tls13(&server, b"iv", &[], 12),
            hex("5d313eb2671276ee13000b30")
        );
        let salt = tls13(&handshake, b"derived", &hash.hash(&[]), 32);
        let master = hkdf::extract(hash, &salt, &[0; 32]);
        assert_eq!(
            master.as_ref(),
            hex("18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919")
        );
    }

    #[test]
    fn the_prefix_of_dtls_changes_labels_and_nothing_else() {
        // The inputs of RFC 8448 section 3, expanded by hand with HMAC and the label of RFC 9147
        // section 5.9.
        let hash = HashAlgorithm::Sha256;
        let early = hkdf::extract(hash, &[], &[0; 32]);
        let by_hand = |secret: &Secret, label: &[u8], context: &[u8]| {
            let mut info = vec![0, 32, label.len() as u8];
            info.extend_from_slice(label);
            info.push(context.len() as u8);
            info.extend_from_slice(context);
            info.push(1);
            visavis_crypto::hmac::Key::new(hash, secret.as_ref()).sign(&[&info])
        };
        let salt = by_hand(&early, b"dtls13derived", &hash.hash(&[]));
        let handshake = hkdf::extract(hash, &salt, &hex(SHARED));
        let schedule = KeySchedule::new(hash, &Secret::new(&hex(SHARED)));
        assert_eq!(*salt, SALT_SHA256);
        let traffic = schedule.handshake_traffic(&hex(HELLOS));
        assert_eq!(
            traffic.client.as_ref(),
            &*by_hand(&handshake, b"dtls13c hs traffic", &hex(HELLOS))
        );
        let mut sn = [0; 32];
        Deriver::new(hash, &traffic.server).fill(b"sn", &[], &mut sn);
        assert_eq!(sn, *by_hand(&traffic.server, b"dtls13sn", &[]));
    }

    #[test]
    fn the_salts_are_what_the_schedule_gives() {
        for (hash, salt) in [
            (HashAlgorithm::Sha256, &SALT_SHA256[..]),
            (HashAlgorithm::Sha384, &SALT_SHA384[..]),
        ] {
            let zeros = vec![0; hash.output_len()];
            let early = Deriver::new(hash, &hkdf::extract(hash, &[], &zeros));
            assert_eq!(early.secret(b"derived", &hash.hash(&[])).as_ref(), salt);
        }
    }
}
