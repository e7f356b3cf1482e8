//! The only crate of Visavis that names a crypto library.
//!
//! Everything above speaks of algorithms and keys in the words of this crate, so that a primitive
//! can change its library in one place, and only where a benchmark shows why (README.md).
//!
//! What lives here: AEADs, raw AES and header masks, HMAC, hashes, HKDF and the TLS 1.2 PRF, key
//! exchange, signatures, certificates, fingerprints, secrets that are wiped when dropped. What does
//! not: a protocol. Keys are set up once and then used many times; no packet path sets up a key.
//!
//! Randomness comes from the caller's [`visavis_datagram::Random`] wherever the library takes it;
//! the exceptions are named in README.md.

pub mod aead;
pub mod certificate;
pub mod cipher;
mod error;
pub mod fingerprint;
pub mod hash;
pub mod hkdf;
pub mod hmac;
pub mod kx;
pub mod prf;
pub mod secret;
pub mod sign;

pub use certificate::{Certificate, PeerCertificate};
pub use error::Error;
pub use fingerprint::{Fingerprint, FingerprintSet};
pub use hash::HashAlgorithm;
pub use kx::{Group, KeyExchange};
pub use secret::Secret;
pub use sign::{KeyAlgorithm, PublicKey, SignatureScheme, SigningKey};
pub use zeroize::{Zeroize, Zeroizing};

/// Whether two byte strings are equal, in time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    use subtle::ConstantTimeEq as _;
    a.ct_eq(b).into()
}

/// Has the library gather its entropy now instead of when it first draws randomness of its own (to sign, to make key
/// shares): as it is built by default, that takes tens of milliseconds in each process. To be called beside other work.
pub fn warm_up() {
    use aws_lc_rs::rand::{SecureRandom as _, SystemRandom}; // sans-io: the library's own randomness
    // Who needs it meets the failure and says so.
    let _ = SystemRandom::new().fill(&mut [0]); // sans-io: nothing comes of the byte
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
