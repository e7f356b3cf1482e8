//! MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256, and the keys they use (RFC 8489 sections 9 and 14.4 to 14.6).

use std::fmt;
use std::sync::OnceLock;

use visavis_crypto::hash::{Hash, md5};
use visavis_crypto::{HashAlgorithm, Zeroizing, hmac};

use crate::header::HEADER_LEN;

pub(crate) const SHA1_LEN: usize = 20;
pub(crate) const SHA256_LEN: usize = 32;

/// How a long-term key is made of user, realm and password (IANA "STUN Password Algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PasswordAlgorithmId(pub u16);

impl PasswordAlgorithmId {
    /// MD5, the only one before RFC 8489 (section 18.5.1.1).
    pub const MD5: Self = Self(0x0001);
    /// SHA-256 (RFC 8489 section 18.5.1.2).
    pub const SHA256: Self = Self(0x0002);

    /// Whether this crate can make a key with it.
    pub const fn is_supported(self) -> bool {
        matches!(self, Self::MD5 | Self::SHA256)
    }
}

/// A key for the integrity attributes. Each HMAC is set up at its first use and kept.
///
/// Names and passwords are taken as they are: whoever takes them from a person applies OpaqueString
/// (RFC 8265) before.
pub struct IntegrityKey {
    key: Zeroizing<Vec<u8>>,
    sha1: OnceLock<Box<hmac::Key>>,
    sha256: OnceLock<Box<hmac::Key>>,
}

impl IntegrityKey {
    /// The key of short-term credentials: the password (RFC 8489 section 9.1.1).
    pub fn short_term(password: &str) -> Self {
        Self::from_bytes(password.as_bytes())
    }

    /// The key of long-term credentials (RFC 8489 section 9.2.2). `None` for an algorithm that is not
    /// [supported](PasswordAlgorithmId::is_supported).
    pub fn long_term(
        username: &str,
        realm: &str,
        password: &str,
        algorithm: PasswordAlgorithmId,
    ) -> Option<Self> {
        let parts = [username, ":", realm, ":", password];
        match algorithm {
            PasswordAlgorithmId::MD5 => Some(Self::from_bytes(&md5(&parts.map(str::as_bytes)))),
            PasswordAlgorithmId::SHA256 => {
                let mut hash = Hash::new(HashAlgorithm::Sha256);
                for part in parts {
                    hash.update(part.as_bytes());
                }
                Some(Self::from_bytes(&hash.finish()))
            }
            _ => None,
        }
    }

    /// A key by its bytes: a stored H(A1), or the `mac_key` of an access token (RFC 7635).
    pub fn from_bytes(key: &[u8]) -> Self {
        Self {
            key: Zeroizing::new(key.to_vec()),
            sha1: OnceLock::new(),
            sha256: OnceLock::new(),
        }
    }

    fn sha1(&self) -> &hmac::Key {
        self.sha1
            .get_or_init(|| Box::new(hmac::Key::new(HashAlgorithm::Sha1, &self.key)))
    }

    fn sha256(&self) -> &hmac::Key {
        self.sha256
            .get_or_init(|| Box::new(hmac::Key::new(HashAlgorithm::Sha256, &self.key)))
    }
}

impl Clone for IntegrityKey {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            sha1: self.sha1.clone(),
            sha256: self.sha256.clone(),
        }
    }
}

impl PartialEq for IntegrityKey {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        visavis_crypto::constant_time_eq(&self.key, &other.key)
    }
}

impl Eq for IntegrityKey {}

impl fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntegrityKey").finish_non_exhaustive()
    }
}

/// USERHASH: SHA-256 of `username:realm` (RFC 8489 section 14.4).
pub fn user_hash(username: &str, realm: &str) -> [u8; 32] {
    let mut hash = Hash::new(HashAlgorithm::Sha256);
    for part in [username, ":", realm] {
        hash.update(part.as_bytes());
    }
    let mut output = [0; 32];
    output.copy_from_slice(&hash.finish());
    output
}

/// The HMAC-SHA1 of a message whose attribute of `length` bytes stands at `at`: over all before it, with a
/// header that ends with that attribute.
fn mac(key: &hmac::Key, bytes: &[u8], at: usize, length: usize) -> visavis_crypto::hash::Output {
    let counted = ((at + 4 + length - HEADER_LEN) as u16).to_be_bytes();
    key.sign(&[&bytes[..2], &counted, &bytes[4..at]])
}

pub(crate) fn sha1(bytes: &[u8], at: usize, key: &IntegrityKey) -> [u8; SHA1_LEN] {
    // The attribute's own length field stands behind its type: 20, or 4 for the short form.
    let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    let mut digest = [0; SHA1_LEN];
    digest.copy_from_slice(&mac(key.sha1(), bytes, at, length));
    digest
}

pub(crate) fn sha256(bytes: &[u8], at: usize, key: &IntegrityKey) -> [u8; SHA256_LEN] {
    let mut digest = [0; SHA256_LEN];
    digest.copy_from_slice(&mac(key.sha256(), bytes, at, SHA256_LEN));
    digest
}

/// The value of the attribute at `at`; the parser has seen that it is there.
fn value(bytes: &[u8], at: usize) -> &[u8] {
    let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    &bytes[at + 4..at + 4 + length]
}

fn matches(key: &hmac::Key, bytes: &[u8], at: usize) -> bool {
    let expected = value(bytes, at);
    let digest = mac(key, bytes, at, expected.len());
    visavis_crypto::constant_time_eq(&digest[..expected.len()], expected)
}

pub(crate) fn check_sha1(bytes: &[u8], at: usize, key: &IntegrityKey) -> bool {
    value(bytes, at).len() == SHA1_LEN && matches(key.sha1(), bytes, at)
}

pub(crate) fn check_sha1_32(bytes: &[u8], at: usize, key: &IntegrityKey) -> bool {
    value(bytes, at).len() == 4 && matches(key.sha1(), bytes, at)
}

pub(crate) fn check_sha256(bytes: &[u8], at: usize, key: &IntegrityKey) -> bool {
    // "The value ... MUST be at least 16 bytes ... a positive multiple of 4" (section 14.6).
    let length = value(bytes, at).len();
    (16..=SHA256_LEN).contains(&length)
        && length.is_multiple_of(4)
        && matches(key.sha256(), bytes, at)
}
