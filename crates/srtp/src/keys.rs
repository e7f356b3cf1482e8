//! From exported keying material to session keys (RFC 5764 section 4.2, RFC 3711 section 4.3).

use std::fmt;

use visavis_crypto::Zeroizing;
use visavis_crypto::cipher::AesCtr;

use crate::{Error, Profile};

/// What DTLS exports under `EXTRACTOR-dtls_srtp`: a master key and salt for each direction.
pub struct KeyingMaterial {
    profile: Profile,
    /// The longest is that of AES_256_CM: twice 32 + 14.
    bytes: Zeroizing<[u8; 92]>,
}

impl KeyingMaterial {
    /// Takes [`Profile::exporter_len`] exported bytes apart.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for another length.
    pub fn new(profile: Profile, exported: &[u8]) -> Result<Self, Error> {
        if exported.len() != profile.exporter_len() {
            return Err(Error::InvalidKey);
        }
        let mut bytes = Zeroizing::new([0; 92]);
        bytes[..exported.len()].copy_from_slice(exported);
        Ok(Self { profile, bytes })
    }

    /// The master key of what the DTLS client sends.
    pub fn client_key(&self) -> &[u8] {
        &self.bytes[..self.profile.key_len()]
    }

    /// The master key of what the DTLS server sends.
    pub fn server_key(&self) -> &[u8] {
        &self.bytes[self.profile.key_len()..][..self.profile.key_len()]
    }

    /// The master salt of what the DTLS client sends.
    pub fn client_salt(&self) -> &[u8] {
        &self.bytes[2 * self.profile.key_len()..][..self.profile.salt_len()]
    }

    /// The master salt of what the DTLS server sends.
    pub fn server_salt(&self) -> &[u8] {
        let start = 2 * self.profile.key_len() + self.profile.salt_len();
        &self.bytes[start..][..self.profile.salt_len()]
    }
}

impl fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyingMaterial")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// What a session key is for (RFC 3711 section 4.3.1 and 4.3.2, RFC 6904 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
    HeaderEncryption = 6,
    HeaderSalt = 7,
}

/// The key derivation function AES_CM_PRF with a key derivation rate of 0.
pub(crate) struct Derivation {
    cipher: AesCtr,
    /// The master salt, on the left.
    salt: Zeroizing<[u8; 16]>,
}

impl Derivation {
    pub(crate) fn new(key: &[u8], salt: &[u8]) -> Result<Self, Error> {
        let mut block = Zeroizing::new([0; 16]);
        block[..salt.len()].copy_from_slice(salt);
        Ok(Self {
            cipher: AesCtr::new(key).map_err(|_| Error::InvalidKey)?,
            salt: block,
        })
    }

    /// The session key of `label`.
    pub(crate) fn derive<const N: usize>(&self, label: Label) -> Zeroizing<[u8; N]> {
        // key_id is the label and 48 zero bits; it and the salt, of 112 bits, end together. A salt
        // of 96 bits counts as if 16 zero bits stood behind it (RFC 7714 section 11).
        let mut input = *self.salt;
        input[7] ^= label as u8;
        let mut key = Zeroizing::new([0; N]);
        self.cipher.apply(&input, &mut *key);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::hex;

    #[test]
    fn rfc3711_appendix_b_3() {
        let derivation = Derivation::new(
            &hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            &hex("0EC675AD498AFEEBB6960B3AABE6"),
        )
        .unwrap();
        assert_eq!(
            derivation.derive::<16>(Label::RtpEncryption)[..],
            hex("C61E7A93744F39EE10734AFE3FF7A087")
        );
        assert_eq!(
            derivation.derive::<14>(Label::RtpSalt)[..],
            hex("30CBBC08863D8C85D49DB34A9AE1")
        );
        assert_eq!(
            derivation.derive::<94>(Label::RtpAuthentication)[..],
            hex(
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE
                 049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC256D6
                 E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2"
            )
        );
    }

    #[test]
    fn rfc6188_section_7_2() {
        let derivation = Derivation::new(
            &hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6"),
            &hex("3b04803de51ee7c96423ab5b78d2"),
        )
        .unwrap();
        assert_eq!(
            derivation.derive::<32>(Label::RtpEncryption)[..],
            hex("5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4")
        );
        assert_eq!(
            derivation.derive::<14>(Label::RtpSalt)[..],
            hex("fa31791685ca444a9e07c6c64e93")
        );
        assert_eq!(
            derivation.derive::<20>(Label::RtpAuthentication)[..],
            hex("fd9c32d39ed5fbb5a9dc96b30818454d1313dc05")
        );
    }

    #[test]
    fn rfc6904_appendix_a_1() {
        let derivation = Derivation::new(
            &hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            &hex("0EC675AD498AFEEBB6960B3AABE6"),
        )
        .unwrap();
        assert_eq!(
            derivation.derive::<16>(Label::HeaderEncryption)[..],
            hex("549752054D6FB708622C4A2E596A1B93")
        );
        assert_eq!(
            derivation.derive::<14>(Label::HeaderSalt)[..],
            hex("AB01818174C40D39A3781F7C2D27")
        );
    }

    #[test]
    fn rfc5764_section_4_2_order_of_exported_keys() {
        let exported: Vec<u8> = (0..60).collect();
        let keys = KeyingMaterial::new(Profile::Aes128CmHmacSha1_80, &exported).unwrap();
        assert_eq!(keys.client_key(), &exported[..16]);
        assert_eq!(keys.server_key(), &exported[16..32]);
        assert_eq!(keys.client_salt(), &exported[32..46]);
        assert_eq!(keys.server_salt(), &exported[46..]);
        assert!(KeyingMaterial::new(Profile::AeadAes128Gcm, &exported).is_err());
    }
}
