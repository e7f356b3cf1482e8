//! Authenticated encryption in place, with keys that are set up once.

use std::fmt;

use aws_lc_rs::aead;

use crate::Error;

/// Length of every nonce in bytes.
pub const NONCE_LEN: usize = 12;
/// Length of every tag in bytes.
pub const TAG_LEN: usize = 16;

/// The AEAD algorithms (RFC 5116, RFC 8439).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// AEAD_AES_128_GCM.
    Aes128Gcm,
    /// AEAD_AES_256_GCM.
    Aes256Gcm,
    /// AEAD_CHACHA20_POLY1305.
    ChaCha20Poly1305,
}

impl Algorithm {
    /// Length of the key in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }
}

/// An AEAD key, set up for use.
pub struct Key {
    algorithm: Algorithm,
    key: aead::LessSafeKey,
}

impl Key {
    /// Sets `key` up.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it has not [`Algorithm::key_len`] bytes.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        let backend = match algorithm {
            Algorithm::Aes128Gcm => &aead::AES_128_GCM,
            Algorithm::Aes256Gcm => &aead::AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let unbound = aead::UnboundKey::new(backend, key).map_err(|_| Error::InvalidKey)?;
        Ok(Self {
            algorithm,
            key: aead::LessSafeKey::new(unbound),
        })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Encrypts `text` in place and gives the tag. A nonce is used once per key.
    ///
    /// # Panics
    /// If `text` or `aad` is longer than the algorithm allows, which is beyond 2^36 bytes.
    pub fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(
                aead::Nonce::assume_unique_for_key(*nonce),
                aead::Aad::from(aad),
                text,
            )
            .expect("a text within the algorithm's limit");
        let mut bytes = [0; TAG_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// Checks the tag at the end of `sealed` and decrypts what stands before it in place; gives the
    /// length of the plaintext. After a failure the content of `sealed` is unspecified.
    ///
    /// # Errors
    /// [`Error::Authentication`] if `sealed` was not made with this key, nonce and `aad`.
    pub fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Error> {
        self.key
            .open_in_place(
                aead::Nonce::assume_unique_for_key(*nonce),
                aead::Aad::from(aad),
                sealed,
            )
            .map(|plain| plain.len())
            .map_err(|_| Error::Authentication)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("aead::Key")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
