//! Who the users are: listed ones, and those who carry a time-limited name that a shared secret signed.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use visavis_crypto::{HashAlgorithm, Zeroizing, hmac};
use visavis_stun::user_hash;

use super::oauth::OAuthKey;

/// How many shared secrets are tried.
const MAX_SECRETS: usize = 8;

/// A realm: a name, and the users who belong to it.
#[derive(Debug, Clone)]
pub struct Realm {
    /// What REALM says; at most 127 bytes. Short names keep 401 short.
    pub name: String,
    /// The web origins that are shown this realm (ORIGIN); the first realm is for all others.
    pub origins: Vec<String>,
    /// The hosts by which clients come to this realm over TLS (its server name), in lower case.
    pub hosts: Vec<String>,
    /// Its users.
    pub credentials: Credentials,
}

impl Realm {
    /// A realm for every origin.
    pub fn new(name: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            name: name.into(),
            origins: Vec::new(),
            hosts: Vec::new(),
            credentials,
        }
    }
}

/// The users of a realm.
#[derive(Clone, Default)]
pub struct Credentials {
    users: BTreeMap<String, Zeroizing<String>>,
    secrets: Vec<hmac::Key>,
    oauth: Vec<OAuthKey>,
    lookup: bool,
}

impl Credentials {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a listed user; replaces the password of one that is there.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.users
            .insert(name.into(), Zeroizing::new(password.into()));
        self
    }

    /// Adds a shared secret for time-limited names (`unix-time:anything`, password the base64 of HMAC-SHA1 over the
    /// name). Up to 8, the newest first: during a rotation two are good.
    pub fn secret(mut self, secret: &[u8]) -> Self {
        if self.secrets.len() < MAX_SECRETS {
            self.secrets
                .push(hmac::Key::new(HashAlgorithm::Sha1, secret));
        }
        self
    }

    /// Adds a key that an OAuth authorization server shares with this one (RFC 7635): its access tokens are taken. The key has 16
    /// bytes (AES-128-GCM) or 32 (AES-256-GCM), or this is `None`. `kid` is what clients bring as USERNAME.
    pub fn oauth_key(mut self, kid: &str, key: &[u8]) -> Option<Self> {
        self.oauth.push(OAuthKey::new(kid, key)?);
        Some(self)
    }

    pub(super) fn oauth(&self, kid: &str) -> impl Iterator<Item = &OAuthKey> {
        self.oauth.iter().filter(move |key| key.kid() == kid)
    }

    pub(super) fn takes_tokens(&self) -> bool {
        !self.oauth.is_empty()
    }

    /// Asks the driver for users that are not listed: [`Event::Lookup`](super::Event::Lookup).
    pub fn lookup(mut self) -> Self {
        self.lookup = true;
        self
    }

    pub(super) fn wants_lookup(&self) -> bool {
        self.lookup
    }

    /// The passwords that a name may have: none for strangers.
    pub(super) fn passwords(&self, name: &str, unix_now: u64) -> Vec<Zeroizing<String>> {
        if let Some(password) = self.users.get(name) {
            return vec![password.clone()];
        }
        if self.secrets.is_empty() || !is_good_at(name, unix_now) {
            return Vec::new();
        }
        self.secrets
            .iter()
            .map(|secret| {
                let mac = secret.sign(&[name.as_bytes()]);
                Zeroizing::new(STANDARD.encode(mac))
            })
            .collect()
    }

    /// Whether a name has an expiry that has passed.
    pub(super) fn is_expired(&self, name: &str, unix_now: u64) -> bool {
        !self.users.contains_key(name) && !self.secrets.is_empty() && !is_good_at(name, unix_now)
    }

    /// The listed users by USERHASH, in a realm.
    pub(super) fn by_hash(&self, realm: &str) -> BTreeMap<[u8; 32], Box<str>> {
        self.users
            .keys()
            .map(|name| (user_hash(name, realm), name.as_str().into()))
            .collect()
    }
}

/// Whether a time-limited name has not expired. The time stands before the first colon; what has none is no such
/// name.
fn is_good_at(name: &str, unix_now: u64) -> bool {
    let time = name.split(':').next().unwrap_or_default();
    // No sign and no space, which `parse` would take in part.
    time.bytes().all(|byte| byte.is_ascii_digit())
        && time.parse::<u64>().is_ok_and(|expiry| expiry > unix_now)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("users", &self.users.len())
            .field("secrets", &self.secrets.len())
            .field("oauth", &self.oauth)
            .field("lookup", &self.lookup)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Credentials;

    #[test]
    fn time_limited_names() {
        let credentials = Credentials::new().secret(b"north").secret(b"old");
        let count = |name: &str| credentials.passwords(name, 1_000).len();
        assert_eq!(count("1001:alice"), 2, "both secrets during a rotation");
        assert_eq!(count("1001"), 2);
        assert_eq!(count("1001:a:b:c"), 2);
        assert_eq!(count("1001:ünïcode"), 2);
        for bad in [
            "1000:alice",
            "0:alice",
            "alice",
            "alice:1001",
            "",
            ":",
            "+1001:alice",
            "-1:alice",
            " 1001:alice",
            "99999999999999999999999999:alice",
            "0x7fff:alice",
        ] {
            assert_eq!(count(bad), 0, "{bad}");
        }
        // The value that coturn's and every WebRTC service's formula gives (checked with Python's hmac).
        let credentials = Credentials::new().secret(b"north");
        let password = &credentials.passwords("1700000000:alice", 0)[0];
        assert_eq!(password.as_str(), "Cd/49soE35ICqcJF/bCTn8Z4OyE=");
    }
}
