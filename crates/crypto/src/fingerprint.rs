//! Certificate fingerprints as SDP carries them (RFC 8122 section 5).

use std::fmt;
use std::str::FromStr;

use crate::{Error, HashAlgorithm};

/// A hash of a certificate.
#[derive(Clone, Copy)]
pub struct Fingerprint {
    algorithm: HashAlgorithm,
    value: [u8; 64],
}

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(algorithm: HashAlgorithm, certificate_der: &[u8]) -> Self {
        let hash = algorithm.hash(certificate_der);
        let mut value = [0; 64];
        value[..hash.len()].copy_from_slice(&hash);
        Self { algorithm, value }
    }

    /// A fingerprint with a value from elsewhere.
    ///
    /// # Errors
    /// [`Error::Malformed`] if `value` has not the hash's length.
    pub fn new(algorithm: HashAlgorithm, value: &[u8]) -> Result<Self, Error> {
        if value.len() != algorithm.output_len() {
            return Err(Error::Malformed);
        }
        let mut bytes = [0; 64];
        bytes[..value.len()].copy_from_slice(value);
        Ok(Self {
            algorithm,
            value: bytes,
        })
    }

    /// From SDP's two words: the hash function in any case, and hexadecimal bytes with colons.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for an unknown hash function (MD2, MD5 and SHA-224 among them),
    /// [`Error::Malformed`] for a value that is not that hash's.
    pub fn parse(function: &str, value: &str) -> Result<Self, Error> {
        let algorithm = [
            HashAlgorithm::Sha1,
            HashAlgorithm::Sha256,
            HashAlgorithm::Sha384,
            HashAlgorithm::Sha512,
        ]
        .into_iter()
        .find(|&algorithm| name(algorithm).eq_ignore_ascii_case(function))
        .ok_or(Error::Unsupported)?;
        let mut bytes = [0; 64];
        let mut len = 0;
        for pair in value.split(':') {
            // Digits only: from_str_radix would also take a sign.
            if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(Error::Malformed);
            }
            let slot = bytes.get_mut(len).ok_or(Error::Malformed)?;
            *slot = u8::from_str_radix(pair, 16).map_err(|_| Error::Malformed)?;
            len += 1;
        }
        Self::new(algorithm, &bytes[..len])
    }

    /// The hash function.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The hash.
    pub fn value(&self) -> &[u8] {
        &self.value[..self.algorithm.output_len()]
    }

    /// Whether it is that of a certificate in DER, in constant time.
    pub fn matches(&self, certificate_der: &[u8]) -> bool {
        crate::constant_time_eq(self.value(), &self.algorithm.hash(certificate_der))
    }

    /// SDP's name of the hash function, e.g. `sha-256`.
    pub fn algorithm_name(&self) -> &'static str {
        name(self.algorithm)
    }

    /// The hash as SDP writes it: capital hexadecimal bytes with colons.
    pub fn value_string(&self) -> String {
        let mut text = String::with_capacity(3 * self.value().len());
        for (index, byte) in self.value().iter().enumerate() {
            if index != 0 {
                text.push(':');
            }
            text.push_str(&format!("{byte:02X}"));
        }
        text
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    /// From `sha-256 AB:CD:...`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (function, value) = text.trim().split_once(' ').ok_or(Error::Malformed)?;
        Self::parse(function, value.trim_start())
    }
}

impl fmt::Display for Fingerprint {
    /// As `sha-256 AB:CD:...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm_name(), self.value_string())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Fingerprint {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && crate::constant_time_eq(self.value(), other.value())
    }
}

impl Eq for Fingerprint {}

/// The fingerprints that a peer's description lists, one of which its certificate must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FingerprintSet(Vec<Fingerprint>);

impl FingerprintSet {
    /// The most fingerprints that a set holds: enough for 8 certificates under each function.
    pub const MAX: usize = 32;

    /// An empty set, which no certificate matches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. False, and nothing changes, if [`FingerprintSet::MAX`] are there.
    pub fn insert(&mut self, fingerprint: Fingerprint) -> bool {
        if self.0.contains(&fingerprint) {
            return true;
        }
        if self.0.len() == Self::MAX {
            return false;
        }
        // Most sets hold one.
        self.0.reserve_exact(1);
        self.0.push(fingerprint);
        true
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fingerprints in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Fingerprint> {
        self.0.iter()
    }

    /// Whether a certificate in DER has one of the fingerprints of the strongest hash function in
    /// the set (RFC 8122 section 5.1: weaker ones do not count when a stronger one is given).
    pub fn matches(&self, certificate_der: &[u8]) -> bool {
        let Some(strongest) = self.0.iter().map(Fingerprint::algorithm).max() else {
            return false;
        };
        let hash = strongest.hash(certificate_der);
        self.0
            .iter()
            .filter(|fingerprint| fingerprint.algorithm == strongest)
            .fold(false, |found, fingerprint| {
                found | crate::constant_time_eq(fingerprint.value(), &hash)
            })
    }
}

impl FromIterator<Fingerprint> for FingerprintSet {
    /// The first [`FingerprintSet::MAX`] of them.
    fn from_iter<I: IntoIterator<Item = Fingerprint>>(fingerprints: I) -> Self {
        let mut set = Self::new();
        for fingerprint in fingerprints {
            set.insert(fingerprint);
        }
        set
    }
}

const fn name(algorithm: HashAlgorithm) -> &'static str {
    match algorithm {
        HashAlgorithm::Sha1 => "sha-1",
        HashAlgorithm::Sha256 => "sha-256",
        HashAlgorithm::Sha384 => "sha-384",
        HashAlgorithm::Sha512 => "sha-512",
    }
}
