//! Attributes of the DTLS association: `fingerprint`, `setup`.

use std::fmt;

use crate::cursor::Cursor;
use crate::{ParseError, Reason};

/// A hash function for certificates (RFC 8122 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// SHA-1, 20 bytes. Old; peers should refuse it.
    Sha1,
    /// SHA-224, 28 bytes.
    Sha224,
    /// SHA-256, 32 bytes: what everybody sends.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
    /// Anything else, in lower case.
    Other(String),
}

impl HashAlgorithm {
    fn from_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "sha-1" => Self::Sha1,
            "sha-224" => Self::Sha224,
            "sha-256" => Self::Sha256,
            "sha-384" => Self::Sha384,
            "sha-512" => Self::Sha512,
            other => Self::Other(other.into()),
        }
    }

    /// The name as it stands in SDP.
    pub fn name(&self) -> &str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha224 => "sha-224",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
            Self::Other(name) => name,
        }
    }

    /// Bytes of a digest; `None` for functions that this crate does not know.
    pub const fn digest_len(&self) -> Option<usize> {
        match self {
            Self::Sha1 => Some(20),
            Self::Sha224 => Some(28),
            Self::Sha256 => Some(32),
            Self::Sha384 => Some(48),
            Self::Sha512 => Some(64),
            Self::Other(_) => None,
        }
    }
}

/// `a=fingerprint`: the hash of a certificate (RFC 8122 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The hash function.
    pub algorithm: HashAlgorithm,
    /// The digest.
    pub digest: Vec<u8>,
}

impl Fingerprint {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        const WHAT: &str = "the certificate's digest";
        let algorithm = HashAlgorithm::from_name(cursor.token("the hash function")?);
        cursor.space(WHAT)?;
        let place = cursor.clone();
        let invalid = || place.error(Reason::Invalid { what: WHAT });
        let digest = cursor
            .word(WHAT)?
            .split(':')
            .map(|byte| match byte.as_bytes() {
                [a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                    u8::from_str_radix(byte, 16).map_err(|_| invalid())
                }
                _ => Err(invalid()),
            })
            .collect::<Result<Vec<u8>, _>>()?;
        if algorithm
            .digest_len()
            .is_some_and(|len| len != digest.len())
        {
            return Err(invalid());
        }
        cursor.end(WHAT)?;
        Ok(Self { algorithm, digest })
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = ParseError;

    /// From the text behind `a=fingerprint:`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(&mut Cursor::new(text, 1, 1))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        for (i, byte) in self.digest.iter().enumerate() {
            let separator = if i == 0 { ' ' } else { ':' };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

/// `a=setup`: who opens the DTLS association (RFC 4145 section 4, RFC 8842 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setup {
    /// The sender of this description is the DTLS client.
    Active,
    /// The sender of this description is the DTLS server.
    Passive,
    /// The answerer chooses.
    ActPass,
    /// Not now.
    HoldConn,
}

impl Setup {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let place = cursor.clone();
        let setup = match cursor
            .token("the setup role")?
            .to_ascii_lowercase()
            .as_str()
        {
            "active" => Self::Active,
            "passive" => Self::Passive,
            "actpass" => Self::ActPass,
            "holdconn" => Self::HoldConn,
            _ => return Err(place.bad("the setup role")),
        };
        cursor.end("the setup role")?;
        Ok(setup)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
            Self::HoldConn => "holdconn",
        })
    }
}
