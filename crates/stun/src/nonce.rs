//! The nonce cookie: how a server says inside NONCE which security features it has, so that nobody
//! on the way can take them from the offer unnoticed (RFC 8489 sections 9.2 and 18.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a nonce begins with since RFC 8489.
const MAGIC: &[u8; 9] = b"obMatJos2";

/// The STUN Security Features (RFC 8489 section 18.1): 24 bits, bit 0 is the most significant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SecurityFeatures {
    /// Bit 0: the server sends PASSWORD-ALGORITHMS.
    pub password_algorithms: bool,
    /// Bit 1: the server wants USERHASH in place of USERNAME.
    pub username_anonymity: bool,
}

/// The first 13 characters of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NonceCookie(pub [u8; NonceCookie::LEN]);

impl NonceCookie {
    /// Characters of the cookie.
    pub const LEN: usize = 13;

    /// The cookie that stands for `features`.
    pub fn new(features: SecurityFeatures) -> Self {
        let first = u8::from(features.password_algorithms) << 7
            | u8::from(features.username_anonymity) << 6;
        let mut cookie = [0; Self::LEN];
        cookie[..MAGIC.len()].copy_from_slice(MAGIC);
        // Three bytes are always four characters, for which there is room.
        let _ = STANDARD.encode_slice([first, 0, 0], &mut cookie[MAGIC.len()..]);
        Self(cookie)
    }
}

impl SecurityFeatures {
    /// The features that a nonce announces; `None` if it has no cookie (a server before RFC 8489).
    pub fn of_nonce(nonce: &[u8]) -> Option<Self> {
        let (cookie, _) = nonce.split_first_chunk::<{ NonceCookie::LEN }>()?;
        let encoded = cookie.strip_prefix(MAGIC)?;
        let mut bits = [0; 3];
        // `encoded` has four characters; padding would make it shorter than three bytes.
        if STANDARD.decode_slice(encoded, &mut bits) != Ok(bits.len()) {
            return None;
        }
        Some(Self {
            password_algorithms: bits[0] & 0x80 != 0,
            username_anonymity: bits[0] & 0x40 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{NonceCookie, SecurityFeatures};

    #[test]
    fn rfc_8489_section_18_1_bits() {
        for bits in 0..4 {
            let features = SecurityFeatures {
                password_algorithms: bits & 1 != 0,
                username_anonymity: bits & 2 != 0,
            };
            let cookie = NonceCookie::new(features);
            assert_eq!(SecurityFeatures::of_nonce(&cookie.0), Some(features));
        }
        let none = NonceCookie::new(SecurityFeatures::default());
        assert_eq!(&none.0, b"obMatJos2AAAA");
        let both = NonceCookie::new(SecurityFeatures {
            password_algorithms: true,
            username_anonymity: true,
        });
        assert_eq!(&both.0, b"obMatJos2wAAA");
    }

    #[test]
    fn nonces_without_a_cookie() {
        for nonce in [
            &b""[..],
            b"obMatJos2",
            b"obMatJos2AAA",
            b"obMatJos2AA==",
            b"obMatJos2A!AA",
            b"f//499k954d6OL34oL9FSTvy64sA",
        ] {
            assert_eq!(SecurityFeatures::of_nonce(nonce), None);
        }
    }
}
