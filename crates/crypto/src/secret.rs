//! Secrets: fixed capacity, wiped when dropped, never printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Up to [`Secret::CAPACITY`] secret bytes, without allocation.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Secret {
    /// The most bytes that a secret can have: the shared secret of X25519MLKEM768 and an HMAC-SHA-512
    /// have 64.
    pub const CAPACITY: usize = 64;

    /// A copy of `bytes`.
    ///
    /// # Panics
    /// If there are more than [`Secret::CAPACITY`].
    pub fn new(bytes: &[u8]) -> Self {
        let mut secret = Self::zeros(bytes.len());
        secret.as_mut().copy_from_slice(bytes);
        secret
    }

    /// `len` zeros.
    ///
    /// # Panics
    /// If `len` is more than [`Secret::CAPACITY`].
    pub fn zeros(len: usize) -> Self {
        assert!(len <= Self::CAPACITY, "a secret of {len} bytes");
        Self {
            bytes: [0; Self::CAPACITY],
            len,
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsMut<[u8]> for Secret {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl PartialEq for Secret {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        crate::constant_time_eq(self.as_ref(), other.as_ref())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.len)
    }
}
