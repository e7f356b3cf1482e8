//! Cipher suites of both versions, all of them authenticated encryption (RFC 8446 appendix B.4,
//! RFC 5289, RFC 7905).

use visavis_crypto::{HashAlgorithm, KeyAlgorithm, aead};

use crate::Version;

/// A cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum CipherSuite {
    /// TLS_AES_128_GCM_SHA256 (1.3).
    Aes128GcmSha256 = 0x1301,
    /// TLS_AES_256_GCM_SHA384 (1.3).
    Aes256GcmSha384 = 0x1302,
    /// TLS_CHACHA20_POLY1305_SHA256 (1.3).
    ChaCha20Poly1305Sha256 = 0x1303,
    /// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 (1.2).
    EcdheEcdsaAes128GcmSha256 = 0xc02b,
    /// TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 (1.2).
    EcdheEcdsaAes256GcmSha384 = 0xc02c,
    /// TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 (1.2).
    EcdheRsaAes128GcmSha256 = 0xc02f,
    /// TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 (1.2).
    EcdheRsaAes256GcmSha384 = 0xc030,
    /// TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 (1.2).
    EcdheRsaChaCha20Poly1305Sha256 = 0xcca8,
    /// TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 (1.2).
    EcdheEcdsaChaCha20Poly1305Sha256 = 0xcca9,
}

impl CipherSuite {
    /// All suites, the preferred first: AES-128-GCM is the cheapest where AES has instructions, and
    /// it is what WebRTC has to have (RFC 8827 section 6.5).
    pub const ALL: [Self; 9] = [
        Self::Aes128GcmSha256,
        Self::ChaCha20Poly1305Sha256,
        Self::Aes256GcmSha384,
        Self::EcdheEcdsaAes128GcmSha256,
        Self::EcdheRsaAes128GcmSha256,
        Self::EcdheEcdsaChaCha20Poly1305Sha256,
        Self::EcdheRsaChaCha20Poly1305Sha256,
        Self::EcdheEcdsaAes256GcmSha384,
        Self::EcdheRsaAes256GcmSha384,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The suite of a number on the wire; `None` if it is not spoken here.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// The version that the suite belongs to.
    pub const fn version(self) -> Version {
        match self {
            Self::Aes128GcmSha256 | Self::Aes256GcmSha384 | Self::ChaCha20Poly1305Sha256 => {
                Version::Dtls13
            }
            _ => Version::Dtls12,
        }
    }

    /// The registry's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Self::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
            Self::EcdheEcdsaAes128GcmSha256 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            Self::EcdheEcdsaAes256GcmSha384 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
            Self::EcdheRsaAes128GcmSha256 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            Self::EcdheRsaAes256GcmSha384 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            Self::EcdheRsaChaCha20Poly1305Sha256 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            Self::EcdheEcdsaChaCha20Poly1305Sha256 => {
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
            }
        }
    }

    /// The AEAD of the records.
    pub(crate) const fn aead(self) -> aead::Algorithm {
        match self {
            Self::Aes128GcmSha256
            | Self::EcdheEcdsaAes128GcmSha256
            | Self::EcdheRsaAes128GcmSha256 => aead::Algorithm::Aes128Gcm,
            Self::Aes256GcmSha384
            | Self::EcdheEcdsaAes256GcmSha384
            | Self::EcdheRsaAes256GcmSha384 => aead::Algorithm::Aes256Gcm,
            Self::ChaCha20Poly1305Sha256
            | Self::EcdheRsaChaCha20Poly1305Sha256
            | Self::EcdheEcdsaChaCha20Poly1305Sha256 => aead::Algorithm::ChaCha20Poly1305,
        }
    }

    /// The hash of the key schedule (1.3) or of the PRF (1.2).
    pub(crate) const fn hash(self) -> HashAlgorithm {
        match self {
            Self::Aes256GcmSha384
            | Self::EcdheEcdsaAes256GcmSha384
            | Self::EcdheRsaAes256GcmSha384 => HashAlgorithm::Sha384,
            _ => HashAlgorithm::Sha256,
        }
    }

    /// Whether a server with a key of `algorithm` can use the suite.
    pub(crate) const fn suits(self, algorithm: KeyAlgorithm) -> bool {
        match self {
            Self::Aes128GcmSha256 | Self::Aes256GcmSha384 | Self::ChaCha20Poly1305Sha256 => true,
            Self::EcdheRsaAes128GcmSha256
            | Self::EcdheRsaAes256GcmSha384
            | Self::EcdheRsaChaCha20Poly1305Sha256 => matches!(algorithm, KeyAlgorithm::Rsa),
            // RFC 8422 section 5.10: Ed25519 goes under the ECDSA suites.
            _ => !matches!(algorithm, KeyAlgorithm::Rsa),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CipherSuite;

    #[test]
    fn numbers_and_names_are_one_to_one() {
        for suite in CipherSuite::ALL {
            assert_eq!(CipherSuite::from_number(suite.number()), Some(suite));
            assert!(suite.name().starts_with("TLS_"));
        }
        assert_eq!(CipherSuite::from_number(0xc009), None);
    }
}
