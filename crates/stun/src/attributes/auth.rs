//! Who asks: credentials and what guards them (RFC 8489 section 9, RFC 7635).

use super::simple::{array, bytes, text};
use crate::integrity::PasswordAlgorithmId;
use crate::{Attribute, AttributeType, TransactionId};

text!(
    /// USERNAME: at most 508 bytes of UTF-8 (RFC 8489 section 14.3).
    Username, USERNAME, 508
);
text!(
    /// REALM: at most 763 bytes (RFC 8489 section 14.9).
    Realm, REALM, 763
);
text!(
    /// THIRD-PARTY-AUTHORIZATION: the name by which the authorization server knows this one (RFC 7635
    /// section 6.1).
    ThirdPartyAuthorization, THIRD_PARTY_AUTHORIZATION, 763
);
bytes!(
    /// NONCE: the server's bytes, which the client gives back unchanged (RFC 8489 section 14.10). At most
    /// 763, which the reader checks.
    Nonce, NONCE
);
bytes!(
    /// ACCESS-TOKEN: nonce length, nonce, encrypted block (RFC 7635 section 6.2).
    AccessToken, ACCESS_TOKEN
);
array!(
    /// USERHASH: SHA-256 of user and realm, in place of USERNAME (RFC 8489 section 14.4).
    UserHash, USERHASH, 32
);

/// PASSWORD-ALGORITHM: one algorithm and its parameters (RFC 8489 section 14.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PasswordAlgorithm<'a> {
    /// Which algorithm.
    pub algorithm: PasswordAlgorithmId,
    /// Its parameters; empty for both that are registered.
    pub parameters: &'a [u8],
}

impl PasswordAlgorithm<'_> {
    /// An algorithm without parameters.
    pub const fn new(algorithm: PasswordAlgorithmId) -> Self {
        Self {
            algorithm,
            parameters: &[],
        }
    }
}

impl<'a> PasswordAlgorithm<'a> {
    /// The first algorithm of a list, and what follows it.
    fn split(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[a0, a1, l0, l1], rest) = value.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let parameters = rest.get(..length)?;
        // The last entry's padding is the attribute's own, which the length may leave out.
        let rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let algorithm = PasswordAlgorithmId(u16::from_be_bytes([a0, a1]));
        Some((
            Self {
                algorithm,
                parameters,
            },
            rest,
        ))
    }
}

impl<'a> Attribute<'a> for PasswordAlgorithm<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHM;

    fn decode(value: &'a [u8], _: &TransactionId) -> Option<Self> {
        let (algorithm, rest) = Self::split(value)?;
        rest.is_empty().then_some(algorithm)
    }

    fn encoded_len(&self) -> usize {
        4 + self.parameters.len()
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[..2].copy_from_slice(&self.algorithm.0.to_be_bytes());
        out[2..4].copy_from_slice(&(self.parameters.len() as u16).to_be_bytes());
        out[4..].copy_from_slice(self.parameters);
    }
}

/// PASSWORD-ALGORITHMS: what the server offers, the best first (RFC 8489 section 14.11). The client
/// gives the same bytes back, so that nobody on the way can shorten the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PasswordAlgorithms<'a>(pub &'a [u8]);

impl PasswordAlgorithms<'static> {
    /// SHA-256 first, then MD5: both that are registered.
    pub const SHA256_MD5: Self = Self(&[0, 2, 0, 0, 0, 1, 0, 0]);
    /// SHA-256 alone.
    pub const SHA256: Self = Self(&[0, 2, 0, 0]);
}

impl<'a> PasswordAlgorithms<'a> {
    /// The entries in their order, up to the first malformed one.
    pub fn iter(&self) -> impl Iterator<Item = PasswordAlgorithm<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (algorithm, behind) = PasswordAlgorithm::split(rest)?;
            rest = behind;
            Some(algorithm)
        })
    }

    /// The first algorithm that this crate can use.
    pub fn first_supported(&self) -> Option<PasswordAlgorithmId> {
        self.iter()
            .find(|entry| entry.algorithm.is_supported() && entry.parameters.is_empty())
            .map(|entry| entry.algorithm)
    }
}

impl<'a> Attribute<'a> for PasswordAlgorithms<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHMS;

    fn decode(value: &'a [u8], _: &TransactionId) -> Option<Self> {
        Some(Self(value))
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out.copy_from_slice(self.0);
    }
}
