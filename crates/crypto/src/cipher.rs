//! Raw AES and the masks that hide record numbers. Nothing here authenticates.

use std::fmt;

use aws_lc_rs::aead::quic;
use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use crate::{Error, aead};

/// AES in counter mode: a key that is set up once.
pub struct AesCtr(EncryptingKey);

impl AesCtr {
    /// Sets an AES-128 (16 bytes), AES-192 (24) or AES-256 (32) key up.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for any other length.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        EncryptingKey::ctr(unbound(key)?)
            .map(Self)
            .map_err(|_| Error::InvalidKey)
    }

    /// Adds the keystream that starts at the counter block `iv` to `data`: encrypts or decrypts it.
    #[inline]
    pub fn apply(&self, iv: &[u8; 16], data: &mut [u8]) {
        let context = EncryptionContext::Iv128(FixedLength::from(*iv));
        self.0
            .less_safe_encrypt(data, context)
            .expect("counter mode takes any length");
    }
}

impl fmt::Debug for AesCtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesCtr")
    }
}

/// AES on single blocks: a key that is set up once.
pub struct AesBlock(EncryptingKey);

impl AesBlock {
    /// Sets an AES-128 (16 bytes), AES-192 (24) or AES-256 (32) key up.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for any other length.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        EncryptingKey::ecb(unbound(key)?)
            .map(Self)
            .map_err(|_| Error::InvalidKey)
    }

    /// Encrypts one block.
    pub fn encrypt(&self, mut block: [u8; 16]) -> [u8; 16] {
        self.0
            .less_safe_encrypt(&mut block, EncryptionContext::None)
            .expect("a whole block");
        block
    }
}

impl fmt::Debug for AesBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesBlock")
    }
}

/// The key that hides record numbers (RFC 9147 section 4.2.3; QUIC's header protection, RFC 9001
/// section 5.4, is the same function).
pub struct MaskKey(quic::HeaderProtectionKey);

impl MaskKey {
    /// Sets the `sn_key` that goes with an AEAD up.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if it has not the AEAD's key length.
    pub fn new(algorithm: aead::Algorithm, key: &[u8]) -> Result<Self, Error> {
        let backend = match algorithm {
            aead::Algorithm::Aes128Gcm => &quic::AES_128,
            aead::Algorithm::Aes256Gcm => &quic::AES_256,
            aead::Algorithm::ChaCha20Poly1305 => &quic::CHACHA20,
        };
        quic::HeaderProtectionKey::new(backend, key)
            .map(Self)
            .map_err(|_| Error::InvalidKey)
    }

    /// The first five bytes of the mask that the first 16 bytes of a ciphertext give.
    pub fn mask(&self, sample: &[u8; 16]) -> [u8; 5] {
        self.0.new_mask(sample).expect("a sample of 16 bytes")
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey")
    }
}

fn unbound(key: &[u8]) -> Result<UnboundCipherKey, Error> {
    let algorithm = match key.len() {
        16 => &cipher::AES_128,
        24 => &cipher::AES_192,
        32 => &cipher::AES_256,
        _ => return Err(Error::InvalidKey),
    };
    UnboundCipherKey::new(algorithm, key).map_err(|_| Error::InvalidKey)
}
