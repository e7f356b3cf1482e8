//! HMAC (RFC 2104) with keys that are set up once.

use std::fmt;

use aws_lc_rs::hmac;

use crate::hash::Output;
use crate::{Error, HashAlgorithm};

/// An HMAC key, set up for use.
#[derive(Clone)]
pub struct Key {
    algorithm: HashAlgorithm,
    key: hmac::Key,
}

impl Key {
    /// A key of any length.
    pub fn new(algorithm: HashAlgorithm, key: &[u8]) -> Self {
        let backend = match algorithm {
            HashAlgorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            HashAlgorithm::Sha256 => hmac::HMAC_SHA256,
            HashAlgorithm::Sha384 => hmac::HMAC_SHA384,
            HashAlgorithm::Sha512 => hmac::HMAC_SHA512,
        };
        Self {
            algorithm,
            key: hmac::Key::new(backend, key),
        }
    }

    /// The hash underneath.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The whole MAC of `parts` in a row.
    pub fn sign(&self, parts: &[&[u8]]) -> Output {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        Output::new(context.sign().as_ref())
    }

    /// Checks a MAC of `parts` in a row in constant time. `tag` may be cut short as the protocol
    /// says; the caller has checked its length. An empty one fails.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> Result<(), Error> {
        let whole = self.sign(parts);
        let expected = whole.get(..tag.len()).ok_or(Error::Authentication)?;
        if !tag.is_empty() && crate::constant_time_eq(expected, tag) {
            Ok(())
        } else {
            Err(Error::Authentication)
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("hmac::Key")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
