//! Access tokens of a third party (RFC 7635): an authorization server that shares a key with this one seals a session key
//! into a token, and the client signs with that key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use visavis_crypto::{Zeroizing, aead};

/// How far clocks may be apart (section 7).
const DELTA: u64 = 5;
/// The longest session key that a token may carry: HMAC's block.
const MAX_KEY_LEN: usize = 64;
/// The longest token that is looked at.
const MAX_TOKEN_LEN: usize = 512;

/// A key that an authorization server shares with this one.
#[derive(Clone)]
pub(super) struct OAuthKey {
    kid: Box<str>,
    key: Arc<aead::Key>,
}

/// What a token says.
pub(super) struct AccessToken {
    pub(super) mac_key: Zeroizing<Vec<u8>>,
    /// How long it is still good, the clocks' difference included.
    pub(super) rest: Duration,
}

impl OAuthKey {
    /// A key of 16 bytes is for AEAD_AES_128_GCM, one of 32 for AEAD_AES_256_GCM.
    pub(super) fn new(kid: &str, key: &[u8]) -> Option<Self> {
        let algorithm = match key.len() {
            16 => aead::Algorithm::Aes128Gcm,
            32 => aead::Algorithm::Aes256Gcm,
            _ => return None,
        };
        Some(Self {
            kid: kid.into(),
            key: Arc::new(aead::Key::new(algorithm, key).ok()?),
        })
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// Opens a token that was made for the server called `server` (section 6.2). Lengths come before cryptography: a token
    /// is a stranger's bytes (CVE-2026-43994).
    pub(super) fn open(&self, token: &[u8], server: &str, unix_now: u64) -> Option<AccessToken> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let (len, rest) = token.split_first_chunk::<2>()?;
        let nonce_len = usize::from(u16::from_be_bytes(*len));
        let (nonce, sealed) = rest.split_at_checked(nonce_len)?;
        let nonce: &[u8; aead::NONCE_LEN] = nonce.try_into().ok()?;
        if sealed.len() < aead::TAG_LEN {
            return None;
        }
        let mut block = Zeroizing::new(sealed.to_vec());
        let len = self
            .key
            .open_in_place(nonce, server.as_bytes(), &mut block)
            .ok()?;
        let (len, rest) = block[..len].split_first_chunk::<2>()?;
        let key_len = usize::from(u16::from_be_bytes(*len));
        let (mac_key, rest) = rest.split_at_checked(key_len)?;
        if !(16..=MAX_KEY_LEN).contains(&key_len) {
            return None;
        }
        let (timestamp, rest) = rest.split_first_chunk::<8>()?;
        let lifetime = u32::from_be_bytes(rest.try_into().ok()?);
        // 48 bits of seconds, 16 of fractions.
        let made = u64::from_be_bytes(*timestamp) >> 16;
        let good = u64::from(lifetime) + DELTA;
        let rest = good
            .checked_sub(unix_now.abs_diff(made))
            .filter(|rest| *rest > 0)?;
        Some(AccessToken {
            mac_key: Zeroizing::new(mac_key.to_vec()),
            rest: Duration::from_secs(rest),
        })
    }
}

impl fmt::Debug for OAuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::OAuthKey;

    const KEY: &[u8] = b"HGkj32KJGiuy098sdfaqbNjOiaz71923";
    const SERVER: &str = "blackdow.carleon.gov";
    /// 92470300704768 / 65536.
    const MADE: u64 = 1_410_984_813;

    /// RFC 7635, appendix A.
    const SAMPLES: [(&[u8], &str); 2] = [
        (
            KEY,
            "000c68346a336b326c326e346235617ef134a3d5e44e9a19cc7dc104b0c03d03b2a551d8fdf5cd3b6dca6f10cfb77e5b2ddec84d293a5c50499359f0c2e26f76",
        ),
        (
            // The first half of the key.
            b"HGkj32KJGiuy098s",
            "000c68346a336b326c326e3462357fb9e99f0827be3df1e1bd651493d3031d36df57079784aee5eacb65fad4f27fab1a3f97974b69f851b24bf5af09eda357e0",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    fn sample(at: usize) -> (OAuthKey, Vec<u8>) {
        let (key, token) = SAMPLES[at];
        (OAuthKey::new("kid", key).unwrap(), bytes(token))
    }

    #[test]
    fn the_rfcs_samples_open() {
        for at in 0..2 {
            let (key, token) = sample(at);
            assert_eq!(token.len(), 64);
            let opened = key.open(&token, SERVER, MADE).unwrap();
            assert_eq!(&**opened.mac_key, b"ZksjpweoixXmvn67534m");
            assert_eq!(opened.rest.as_secs(), 3605);
        }
    }

    #[test]
    fn a_token_is_for_one_server_and_for_a_while() {
        let (key, token) = sample(0);
        assert!(key.open(&token, "other.carleon.gov", MADE).is_none());
        assert!(key.open(&token, SERVER, MADE + 3604).is_some());
        assert!(key.open(&token, SERVER, MADE + 3605).is_none());
        assert!(key.open(&token, SERVER, MADE - 3605).is_none());
        assert!(key.open(&token, SERVER, u64::MAX).is_none());
        let other = OAuthKey::new("kid", &[7; 32]).unwrap();
        assert!(other.open(&token, SERVER, MADE).is_none());
    }

    proptest! {
        /// coturn's token parser overflowed its stack before authentication.
        #[test]
        fn any_token_is_refused_and_none_panics(token in prop::collection::vec(any::<u8>(), 0..700), nonce_len in any::<u16>()) {
            let (key, _) = sample(0);
            prop_assert!(key.open(&token, SERVER, MADE).is_none());
            let mut token = token;
            if let Some(len) = token.first_chunk_mut::<2>() {
                *len = nonce_len.to_be_bytes();
            }
            prop_assert!(key.open(&token, SERVER, MADE).is_none());
        }
    }
}
