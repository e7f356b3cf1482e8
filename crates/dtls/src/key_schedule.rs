//! From a shared secret to keys: the key schedule of 1.3 (RFC 8446 section 7, with the label prefix
//! of RFC 9147 section 5.9) and the master secret of 1.2 (RFC 5246 section 8, RFC 7627).

use visavis_crypto::hkdf::{self, Expander};
use visavis_crypto::{HashAlgorithm, Secret, hmac, prf};

/// What stands before every label of DTLS 1.3. There is no space behind it.
const PREFIX: &[u8] = b"dtls13";

/// HKDF-Expand-Label (RFC 8446 section 7.1): fills `out`.
pub(crate) fn expand_label(
    hash: HashAlgorithm,
    secret: &Secret,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) {
    expand_label_with(PREFIX, hash, secret, label, context, out);
}

fn expand_label_with(
    prefix: &[u8],
    hash: HashAlgorithm,
    secret: &Secret,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) {
    Expander::new(hash, secret.as_ref())
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
fn expand_secret(hash: HashAlgorithm, secret: &Secret, label: &[u8], context: &[u8]) -> Secret {
    let mut out = Secret::zeros(hash.output_len());
    expand_label(hash, secret, label, context, out.as_mut());
    out
}

/// The stages of 1.3's key schedule behind the ServerHello. There are no pre-shared keys.
#[derive(Debug)]
pub(crate) struct KeySchedule {
    hash: HashAlgorithm,
    handshake: Secret,
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
        let zeros = Secret::zeros(hash.output_len());
        let early = hkdf::extract(hash, &[], zeros.as_ref());
        let salt = expand_secret(hash, &early, b"derived", &hash.hash(&[]));
        Self {
            hash,
            handshake: hkdf::extract(hash, salt.as_ref(), shared.as_ref()),
        }
    }

    /// The handshake traffic secrets; `transcript` reaches to the ServerHello.
    pub(crate) fn handshake_traffic(&self, transcript: &[u8]) -> TrafficSecrets {
        TrafficSecrets {
            client: expand_secret(self.hash, &self.handshake, b"c hs traffic", transcript),
            server: expand_secret(self.hash, &self.handshake, b"s hs traffic", transcript),
        }
    }

    /// The application traffic secrets and the exporter's; `transcript` reaches to the server's
    /// Finished.
    pub(crate) fn application_traffic(&self, transcript: &[u8]) -> (TrafficSecrets, Secret) {
        let hash = self.hash;
        let salt = expand_secret(hash, &self.handshake, b"derived", &hash.hash(&[]));
        let zeros = Secret::zeros(hash.output_len());
        let master = hkdf::extract(hash, salt.as_ref(), zeros.as_ref());
        let traffic = TrafficSecrets {
            client: expand_secret(hash, &master, b"c ap traffic", transcript),
            server: expand_secret(hash, &master, b"s ap traffic", transcript),
        };
        (
            traffic,
            expand_secret(hash, &master, b"exp master", transcript),
        )
    }
}

/// The MAC of a Finished message of 1.3 (RFC 8446 section 4.4.4).
pub(crate) fn finished13(
    hash: HashAlgorithm,
    traffic: &Secret,
    transcript: &[u8],
) -> visavis_crypto::hash::Output {
    let key = expand_secret(hash, traffic, b"finished", &[]);
    hmac::Key::new(hash, key.as_ref()).sign(&[transcript])
}

/// The secret behind a KeyUpdate (RFC 8446 section 7.2).
pub(crate) fn next_traffic(hash: HashAlgorithm, traffic: &Secret) -> Secret {
    expand_secret(hash, traffic, b"traffic upd", &[])
}

/// The exporter of 1.3 (RFC 8446 section 7.5). An absent context is an empty one.
pub(crate) fn export13(
    hash: HashAlgorithm,
    exporter: &Secret,
    label: &[u8],
    context: &[u8],
    out: &mut [u8],
) {
    let secret = expand_secret(hash, exporter, label, &hash.hash(&[]));
    expand_label(hash, &secret, b"exporter", &hash.hash(context), out);
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

    use super::{KeySchedule, expand_label, expand_label_with};

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// The key schedule of TLS 1.3, with this file's functions and TLS's prefix.
    fn tls13(secret: &Secret, label: &[u8], context: &[u8], len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let hash = HashAlgorithm::Sha256;
        expand_label_with(b"tls13 ", hash, secret, label, context, &mut out);
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
        assert_eq!(schedule.handshake, handshake);
        let traffic = schedule.handshake_traffic(&hex(HELLOS));
        assert_eq!(
            traffic.client.as_ref(),
            &*by_hand(&handshake, b"dtls13c hs traffic", &hex(HELLOS))
        );
        let mut sn = [0; 32];
        expand_label(hash, &traffic.server, b"sn", &[], &mut sn);
        assert_eq!(sn, *by_hand(&traffic.server, b"dtls13sn", &[]));
    }
}
