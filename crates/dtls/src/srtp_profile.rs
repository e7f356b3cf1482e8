//! SRTP protection profiles and the keys that a handshake yields for them (RFC 5764, RFC 7714).

use std::fmt;

use zeroize::Zeroizing;

/// An SRTP protection profile (the registry "DTLS-SRTP Protection Profiles").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// AES-128 counter mode, HMAC-SHA1 cut to 80 bits (RFC 5764 section 4.1.2).
    Aes128CmHmacSha1_80,
    /// The same, with the tag of RTP packets cut to 32 bits.
    Aes128CmHmacSha1_32,
    /// AES-128-GCM (RFC 7714 section 14.2).
    AeadAes128Gcm,
    /// AES-256-GCM.
    AeadAes256Gcm,
}

impl SrtpProfile {
    /// The number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::Aes128CmHmacSha1_80 => 0x0001,
            Self::Aes128CmHmacSha1_32 => 0x0002,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    /// The profile of a number on the wire.
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0x0001 => Self::Aes128CmHmacSha1_80,
            0x0002 => Self::Aes128CmHmacSha1_32,
            0x0007 => Self::AeadAes128Gcm,
            0x0008 => Self::AeadAes256Gcm,
            _ => return None,
        })
    }

    /// Length of a master key in bytes.
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            _ => 16,
        }
    }

    /// Length of a master salt in bytes.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Aes128CmHmacSha1_80 | Self::Aes128CmHmacSha1_32 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }
}

/// The master key and master salt of one direction.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpMaster {
    /// The master key, [`SrtpProfile::key_len`] bytes.
    pub key: Zeroizing<Vec<u8>>,
    /// The master salt, [`SrtpProfile::salt_len`] bytes.
    pub salt: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SrtpMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SrtpMaster(..)")
    }
}

/// What SRTP needs from a handshake (RFC 5764 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    /// The negotiated profile.
    pub profile: SrtpProfile,
    /// What this end protects with.
    pub local: SrtpMaster,
    /// What the other end protects with.
    pub remote: SrtpMaster,
}

impl SrtpKeys {
    /// The label of the exporter (RFC 5764 section 4.2).
    pub(crate) const LABEL: &'static [u8] = b"EXTRACTOR-dtls_srtp";

    /// Splits exported keying material: both keys, then both salts, the client's first.
    pub(crate) fn split(profile: SrtpProfile, material: &[u8], client: bool) -> Self {
        let (keys, salts) = material.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let master = |key: &[u8], salt: &[u8]| SrtpMaster {
            key: Zeroizing::new(key.to_vec()),
            salt: Zeroizing::new(salt.to_vec()),
        };
        let of_client = master(client_key, client_salt);
        let of_server = master(server_key, server_salt);
        let (local, remote) = if client {
            (of_client, of_server)
        } else {
            (of_server, of_client)
        };
        Self {
            profile,
            local,
            remote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SrtpKeys, SrtpProfile};

    #[test]
    fn both_ends_split_the_same_material_crosswise() {
        for number in [1, 2, 7, 8] {
            let profile = SrtpProfile::from_number(number).unwrap();
            assert_eq!(profile.number(), number);
            let len = 2 * (profile.key_len() + profile.salt_len());
            let material: Vec<u8> = (0..len as u8).collect();
            let client = SrtpKeys::split(profile, &material, true);
            let server = SrtpKeys::split(profile, &material, false);
            assert_eq!(client.local, server.remote);
            assert_eq!(client.remote, server.local);
            assert_eq!(client.local.key[0], 0);
            assert_eq!(client.remote.key[0] as usize, profile.key_len());
            assert_eq!(client.local.salt[0] as usize, 2 * profile.key_len());
        }
        assert_eq!(SrtpProfile::from_number(5), None);
    }
}
