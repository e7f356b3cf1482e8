//! Authenticated encryption in place, with keys that are set up once.
//!
//! AES-GCM is ring's and ChaCha20-Poly1305 AWS-LC's: README.md has the figures that decided.

use std::fmt;

use aws_lc_rs::aead as aws;
use ring::aead as ring;

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
    backend: Backend,
}

#[expect(
    clippy::large_enum_variant,
    reason = "a boxed key costs a server with many of them a cache miss for each packet"
)]
enum Backend {
    Ring(ring::LessSafeKey),
    Aws(aws::LessSafeKey),
}

impl Key {
    /// Sets `key` up.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it has not [`Algorithm::key_len`] bytes.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        let backend = match algorithm {
            Algorithm::Aes128Gcm => Backend::ring(&ring::AES_128_GCM, key)?,
            Algorithm::Aes256Gcm => Backend::ring(&ring::AES_256_GCM, key)?,
            Algorithm::ChaCha20Poly1305 => {
                let key = aws::UnboundKey::new(&aws::CHACHA20_POLY1305, key)
                    .map_err(|_| Error::InvalidKey)?;
                Backend::Aws(aws::LessSafeKey::new(key))
            }
        };
        Ok(Self { algorithm, backend })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Encrypts `text` in place and gives the tag. A nonce is used once per key.
    ///
    /// # Panics
    /// If `text` or `aad` is longer than the algorithm allows, which is beyond 2^36 bytes.
    #[inline]
    pub fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let mut bytes = [0; TAG_LEN];
        match &self.backend {
            Backend::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(*nonce);
                let tag = key
                    .seal_in_place_separate_tag(nonce, ring::Aad::from(aad), text)
                    .expect("a text within the algorithm's limit");
                bytes.copy_from_slice(tag.as_ref());
            }
            Backend::Aws(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(*nonce);
                let tag = key
                    .seal_in_place_separate_tag(nonce, aws::Aad::from(aad), text)
                    .expect("a text within the algorithm's limit");
                bytes.copy_from_slice(tag.as_ref());
            }
        }
        bytes
    }

    /// Checks the tag at the end of `sealed` and decrypts what stands before it in place; gives the
    /// length of the plaintext. After a failure the content of `sealed` is unspecified.
    ///
    /// # Errors
    /// [`Error::Authentication`] if `sealed` was not made with this key, nonce and `aad`.
    #[inline]
    pub fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, Error> {
        let plain = match &self.backend {
            Backend::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(*nonce);
                key.open_in_place(nonce, ring::Aad::from(aad), sealed)
                    .map_err(|_| Error::Authentication)?
            }
            Backend::Aws(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(*nonce);
                key.open_in_place(nonce, aws::Aad::from(aad), sealed)
                    .map_err(|_| Error::Authentication)?
            }
        };
        Ok(plain.len())
    }
}

impl Backend {
    fn ring(algorithm: &'static ring::Algorithm, key: &[u8]) -> Result<Self, Error> {
        let key = ring::UnboundKey::new(algorithm, key).map_err(|_| Error::InvalidKey)?;
        Ok(Self::Ring(ring::LessSafeKey::new(key)))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("aead::Key")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
