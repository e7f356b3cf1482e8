//! Hashes: one call, or piece by piece with a fork (the transcript of a TLS handshake).

use std::fmt;

use aws_lc_rs::digest;
use md5::Digest as _;

/// The hash functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// SHA-1: STUN, SRTP and old fingerprints only.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512: fingerprints.
    Sha512,
}

impl HashAlgorithm {
    /// Length of the hash in bytes.
    pub const fn output_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The hash of `data`.
    pub fn hash(self, data: &[u8]) -> Output {
        Output::new(digest::digest(self.backend(), data).as_ref())
    }

    fn backend(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A hash that is being computed. A clone goes its own way from here.
#[derive(Clone)]
pub struct Hash {
    algorithm: HashAlgorithm,
    context: digest::Context,
}

impl Hash {
    /// The hash of nothing yet.
    pub fn new(algorithm: HashAlgorithm) -> Self {
        Self {
            algorithm,
            context: digest::Context::new(algorithm.backend()),
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// Appends `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    /// The hash of all that was appended.
    pub fn finish(self) -> Output {
        Output::new(self.context.finish().as_ref())
    }

    /// The hash of what was appended so far; more may follow.
    pub fn current(&self) -> Output {
        self.clone().finish()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hash")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The output of a hash or an HMAC: up to 64 bytes, without allocation.
#[derive(Clone, Copy)]
pub struct Output {
    bytes: [u8; 64],
    len: usize,
}

impl Output {
    #[inline]
    pub(crate) fn new(value: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..value.len()].copy_from_slice(value);
        Self {
            bytes,
            len: value.len(),
        }
    }
}

impl AsRef<[u8]> for Output {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::ops::Deref for Output {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl PartialEq for Output {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        crate::constant_time_eq(self, other)
    }
}

impl Eq for Output {}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// MD5 of `parts` in a row. For the key of STUN's long-term credentials only (RFC 8489 section
/// 9.2.2); it protects nothing.
pub fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut context = md5::Md5::new();
    for part in parts {
        context.update(part);
    }
    context.finalize().into()
}
