//! HMAC (RFC 2104) with keys that are set up once.
//!
//! Two libraries do it. RustCrypto's state is a tenth as large as AWS-LC's, which copies it for
//! each message: where the processor has SHA instructions, that decides for SHA-1 and SHA-256
//! (README.md has the figures). Everything else is AWS-LC's.

use std::fmt;

use aws_lc_rs::hmac as aws;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;

use crate::hash::Output;
use crate::{Error, HashAlgorithm};

/// An HMAC key, set up for use.
#[derive(Clone)]
pub struct Key {
    algorithm: HashAlgorithm,
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Aws(Box<aws::Key>),
}

impl Key {
    /// A key of any length.
    pub fn new(algorithm: HashAlgorithm, key: &[u8]) -> Self {
        let backend = match algorithm {
            HashAlgorithm::Sha1 if has_sha_instructions() => {
                Hmac::new_from_slice(key).ok().map(Backend::Sha1)
            }
            HashAlgorithm::Sha256 if has_sha_instructions() => {
                Hmac::new_from_slice(key).ok().map(Backend::Sha256)
            }
            _ => None,
        };
        Self {
            algorithm,
            backend: backend.unwrap_or_else(|| Backend::aws(algorithm, key)),
        }
    }

    /// The hash underneath.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The whole MAC of `parts` in a row.
    #[inline]
    pub fn sign(&self, parts: &[&[u8]]) -> Output {
        match &self.backend {
            Backend::Sha1(key) => {
                let mut context = key.clone();
                parts.iter().for_each(|part| context.update(part));
                Output::new(&context.finalize().into_bytes())
            }
            Backend::Sha256(key) => {
                let mut context = key.clone();
                parts.iter().for_each(|part| context.update(part));
                Output::new(&context.finalize().into_bytes())
            }
            Backend::Aws(key) => {
                let mut context = aws::Context::with_key(key);
                parts.iter().for_each(|part| context.update(part));
                Output::new(context.sign().as_ref())
            }
        }
    }

    /// Checks a MAC of `parts` in a row in constant time. `tag` may be cut short as the protocol
    /// says; the caller has checked its length. An empty one fails.
    #[inline]
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

impl Backend {
    fn aws(algorithm: HashAlgorithm, key: &[u8]) -> Self {
        let algorithm = match algorithm {
            HashAlgorithm::Sha1 => aws::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            HashAlgorithm::Sha256 => aws::HMAC_SHA256,
            HashAlgorithm::Sha384 => aws::HMAC_SHA384,
            HashAlgorithm::Sha512 => aws::HMAC_SHA512,
        };
        Self::Aws(Box::new(aws::Key::new(algorithm, key)))
    }
}

/// Whether RustCrypto's SHA-1 and SHA-256 run on instructions made for them here.
fn has_sha_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sha")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_libraries_give_the_same() {
        for algorithm in [HashAlgorithm::Sha1, HashAlgorithm::Sha256] {
            for key_len in [0, 1, 20, 63, 64, 65, 200] {
                let secret = vec![7; key_len];
                let chosen = Key::new(algorithm, &secret);
                let aws = Key {
                    algorithm,
                    backend: Backend::aws(algorithm, &secret),
                };
                for len in 0..300 {
                    let text = vec![len as u8; len];
                    let (head, tail) = text.split_at(len / 3);
                    assert_eq!(chosen.sign(&[head, tail]), aws.sign(&[&text]));
                }
            }
        }
    }
}
