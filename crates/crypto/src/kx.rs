//! Key exchange, shaped like a KEM: one side starts, the other completes with its share in one
//! step, the first completes with that share.

use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::kem;
use visavis_datagram::Random;
use zeroize::Zeroizing;

use crate::{Error, Secret};

/// The named groups (RFC 8446 section 4.2.7, RFC 8422 section 5.1.1, draft-ietf-tls-ecdhe-mlkem).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Group {
    /// secp256r1 (P-256).
    Secp256r1 = 0x0017,
    /// secp384r1 (P-384).
    Secp384r1 = 0x0018,
    /// X25519 (RFC 7748).
    X25519 = 0x001d,
    /// X25519MLKEM768: ML-KEM-768 and X25519 together; TLS 1.3 only.
    X25519MlKem768 = 0x11ec,
}

const X25519_LEN: usize = 32;
const ENCAPSULATION_KEY_LEN: usize = 1184;
const CIPHERTEXT_LEN: usize = 1088;

impl Group {
    /// All groups, the preferred first.
    pub const ALL: [Self; 4] = [
        Self::X25519MlKem768,
        Self::X25519,
        Self::Secp256r1,
        Self::Secp384r1,
    ];

    /// The group of a codepoint; `None` if it is not known here.
    pub const fn from_codepoint(codepoint: u16) -> Option<Self> {
        match codepoint {
            0x0017 => Some(Self::Secp256r1),
            0x0018 => Some(Self::Secp384r1),
            0x001d => Some(Self::X25519),
            0x11ec => Some(Self::X25519MlKem768),
            _ => None,
        }
    }

    /// The codepoint on the wire.
    pub const fn codepoint(self) -> u16 {
        self as u16
    }

    /// Whether DTLS 1.2 may use the group.
    pub const fn is_for_tls12(self) -> bool {
        !matches!(self, Self::X25519MlKem768)
    }

    /// Length in bytes of the share of the side that starts.
    pub const fn start_share_len(self) -> usize {
        match self {
            Self::X25519MlKem768 => ENCAPSULATION_KEY_LEN + X25519_LEN,
            _ => self.complete_share_len(),
        }
    }

    /// Length in bytes of the share of the side that completes.
    pub const fn complete_share_len(self) -> usize {
        match self {
            Self::Secp256r1 => 65,
            Self::Secp384r1 => 97,
            Self::X25519 => X25519_LEN,
            Self::X25519MlKem768 => CIPHERTEXT_LEN + X25519_LEN,
        }
    }
}

/// A key exchange that was started and waits for the peer's share.
pub struct KeyExchange {
    group: Group,
    share: Vec<u8>,
    private: PrivateKey,
    decapsulation: Option<kem::DecapsulationKey>,
}

impl KeyExchange {
    /// The group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// The share to send to the peer.
    pub fn share(&self) -> &[u8] {
        &self.share
    }

    /// The shared secret with a peer that answered with `peer_share`. A failure leaves the exchange
    /// as it was, so that a forged share costs nothing.
    ///
    /// # Errors
    /// [`Error::InvalidShare`].
    pub fn complete(&self, peer_share: &[u8]) -> Result<Secret, Error> {
        if peer_share.len() != self.group.complete_share_len() {
            return Err(Error::InvalidShare);
        }
        match &self.decapsulation {
            None => agree(self.group, &self.private, peer_share),
            Some(decapsulation) => {
                let (ciphertext, x25519) = peer_share.split_at(CIPHERTEXT_LEN);
                let ml_kem = decapsulation
                    .decapsulate(ciphertext.into())
                    .map_err(|_| Error::InvalidShare)?;
                let x25519 = agree(Group::X25519, &self.private, x25519)?;
                Ok(hybrid(ml_kem.as_ref(), x25519.as_ref()))
            }
        }
    }
}

impl fmt::Debug for KeyExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyExchange")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// Starts a key exchange: a new key pair.
///
/// # Errors
/// [`Error::Library`] if the system gives no randomness for ML-KEM.
pub fn start(group: Group, random: &mut Random) -> Result<KeyExchange, Error> {
    let (private, public) = generate(group, random)?;
    let (share, decapsulation) = if group == Group::X25519MlKem768 {
        // sans-io: the library draws ML-KEM's seed itself and takes none from its caller.
        let decapsulation = kem::DecapsulationKey::generate(&kem::ML_KEM_768).map_err(library)?;
        let encapsulation = decapsulation.encapsulation_key().map_err(library)?;
        let mut share = Vec::with_capacity(group.start_share_len());
        share.extend_from_slice(encapsulation.key_bytes().map_err(library)?.as_ref());
        share.extend_from_slice(&public);
        (share, Some(decapsulation))
    } else {
        (public, None)
    };
    Ok(KeyExchange {
        group,
        share,
        private,
        decapsulation,
    })
}

/// Answers a peer that started with `peer_share`: the share to send back, and the shared secret.
///
/// # Errors
/// [`Error::InvalidShare`]; [`Error::Library`] if the system gives no randomness for ML-KEM.
pub fn start_and_complete(
    group: Group,
    peer_share: &[u8],
    random: &mut Random,
) -> Result<(Vec<u8>, Secret), Error> {
    if peer_share.len() != group.start_share_len() {
        return Err(Error::InvalidShare);
    }
    let (private, public) = generate(group, random)?;
    if group != Group::X25519MlKem768 {
        return Ok((public, agree(group, &private, peer_share)?));
    }
    let (encapsulation, x25519) = peer_share.split_at(ENCAPSULATION_KEY_LEN);
    let x25519 = agree(Group::X25519, &private, x25519)?;
    let encapsulation = kem::EncapsulationKey::new(&kem::ML_KEM_768, encapsulation)
        .map_err(|_| Error::InvalidShare)?;
    // sans-io: the library draws ML-KEM's message itself and takes none from its caller.
    let (ciphertext, ml_kem) = encapsulation
        .encapsulate()
        .map_err(|_| Error::InvalidShare)?;
    let mut share = Vec::with_capacity(group.complete_share_len());
    share.extend_from_slice(ciphertext.as_ref());
    share.extend_from_slice(&public);
    Ok((share, hybrid(ml_kem.as_ref(), x25519.as_ref())))
}

/// A key pair of a group's elliptic curve, from the caller's randomness.
fn generate(group: Group, random: &mut Random) -> Result<(PrivateKey, Vec<u8>), Error> {
    let len = match group {
        Group::Secp384r1 => 48,
        _ => 32,
    };
    // A NIST curve refuses a number that is 0 or not below its order: 2^-32 of them for P-256.
    for _ in 0..64 {
        let mut scalar = Zeroizing::new([0; 48]);
        random.fill(&mut scalar[..len]);
        let Ok(private) = PrivateKey::from_private_key(curve(group), &scalar[..len]) else {
            continue;
        };
        let public = private.compute_public_key().map_err(library)?;
        return Ok((private, public.as_ref().to_vec()));
    }
    Err(Error::Library)
}

fn agree(group: Group, private: &PrivateKey, peer_share: &[u8]) -> Result<Secret, Error> {
    // Compressed points are no shares of TLS (RFC 8446 section 4.2.8.2).
    if matches!(group, Group::Secp256r1 | Group::Secp384r1) && peer_share.first() != Some(&4) {
        return Err(Error::InvalidShare);
    }
    let peer = UnparsedPublicKey::new(curve(group), peer_share);
    // The library refuses X25519's all-zero result (RFC 7748 section 6.1) and points off the curve.
    agreement::agree(private, peer, Error::InvalidShare, |secret| {
        Ok(Secret::new(secret))
    })
}

/// ML-KEM's secret first: draft-ietf-tls-ecdhe-mlkem section 4.3.
fn hybrid(ml_kem: &[u8], x25519: &[u8]) -> Secret {
    let mut secret = Secret::zeros(64);
    secret.as_mut()[..32].copy_from_slice(ml_kem);
    secret.as_mut()[32..].copy_from_slice(x25519);
    secret
}

fn curve(group: Group) -> &'static agreement::Algorithm {
    match group {
        Group::Secp256r1 => &agreement::ECDH_P256,
        Group::Secp384r1 => &agreement::ECDH_P384,
        Group::X25519 | Group::X25519MlKem768 => &agreement::X25519,
    }
}

fn library<E>(_: E) -> Error {
    Error::Library
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2)
            .map(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn rfc7748_section_6_1() {
        let alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let bob = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        let alice = PrivateKey::from_private_key(curve(Group::X25519), &alice).unwrap();
        assert_eq!(
            alice.compute_public_key().unwrap().as_ref(),
            hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        );
        let secret = agree(Group::X25519, &alice, &bob).unwrap();
        assert_eq!(secret.as_ref(), shared);
    }

    /// Go's crypto/mlkem encapsulated the first; the others are Wycheproof's: a valid one, and two
    /// ciphertexts that are no encapsulation and give the secret of FIPS 203's implicit rejection.
    #[test]
    fn ciphertexts_of_other_ml_kem_implementations_decapsulate() {
        let text = concat!(
            include_str!("../tests/fixtures/ml-kem-768.txt"),
            "\n",
            include_str!("../tests/fixtures/ml-kem-768-wycheproof.txt")
        );
        let values = |name: &str| -> Vec<_> {
            text.lines()
                .filter_map(|line| line.split_once(" = ").filter(|field| field.0 == name))
                .map(|field| hex(field.1))
                .collect()
        };
        let (keys, ciphertexts) = (values("key"), values("ciphertext"));
        let shared = values("shared");
        assert_eq!(
            (keys.len(), ciphertexts.len(), shared.len()),
            (4, 4, 4),
            "known answers"
        );
        for ((key, ciphertext), shared) in keys.iter().zip(&ciphertexts).zip(&shared) {
            let key = kem::DecapsulationKey::new(&kem::ML_KEM_768, key).unwrap();
            let secret = key.decapsulate(ciphertext[..].into()).unwrap();
            assert_eq!(secret.as_ref(), shared);
        }
    }
}
