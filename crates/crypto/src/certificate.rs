//! Certificates: our own (self-signed or imported) and the peer's.
//!
//! WebRTC trusts no authority: a certificate is known by its fingerprint, and all that counts
//! inside it is the public key. Validity dates of a peer are not checked (RFC 8122 section 6.2
//! asks for the fingerprint only).

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, PublicKeyData, SerialNumber};
use time::OffsetDateTime;
use visavis_datagram::Random;
use x509_parser::oid_registry as oid;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::{
    Error, Fingerprint, FingerprintSet, HashAlgorithm, KeyAlgorithm, PublicKey, SignatureScheme,
    SigningKey,
};

/// The curve P-224 (RFC 5480 section 2.1.1.1).
const SECP224R1: oid::Oid<'static> = oid::asn1_rs::oid!(1.3.132.0.33);

/// What goes into a self-signed certificate.
#[derive(Debug, Clone)]
pub struct SelfSigned {
    /// The key: ECDSA on P-256 unless the application asked for RSA (webrtc-pc section 4.9).
    pub algorithm: KeyAlgorithm,
    /// The common name of subject and issuer.
    pub common_name: String,
    /// First second of validity, since 1970-01-01T00:00:00Z.
    pub not_before: i64,
    /// Last second of validity, since 1970-01-01T00:00:00Z.
    pub not_after: i64,
}

impl SelfSigned {
    /// How long a certificate is valid unless the application says otherwise: 30 days, in seconds
    /// (webrtc-pc section 4.9.1).
    pub const DEFAULT_LIFETIME: i64 = 30 * 24 * 3600;

    /// An ECDSA P-256 certificate that is valid from a day before `now` (clocks differ) until
    /// [`SelfSigned::DEFAULT_LIFETIME`] after it. `now` is in seconds since 1970-01-01T00:00:00Z.
    pub fn at(now: i64) -> Self {
        Self {
            algorithm: KeyAlgorithm::EcdsaP256,
            common_name: "WebRTC".to_owned(),
            not_before: now - 24 * 3600,
            not_after: now + Self::DEFAULT_LIFETIME,
        }
    }
}

/// Our own certificate with its private key. Clones share both.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    chain: Vec<Vec<u8>>,
    key: SigningKey,
    not_after: i64,
}

impl Certificate {
    /// A new key and a certificate that it signs.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a date has no form in X.509, [`Error::Library`].
    pub fn self_signed(options: &SelfSigned, random: &mut Random) -> Result<Self, Error> {
        let key = SigningKey::generate(options.algorithm, random)?;
        let time =
            |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Error::Malformed);
        let mut params = CertificateParams::default();
        params.not_before = time(options.not_before)?;
        params.not_after = time(options.not_after)?;
        // Positive, and without a leading zero byte.
        let mut serial = random.bytes::<16>();
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, options.common_name.as_str());
        let certificate = params
            .self_signed(&Signer(&key))
            .map_err(|_| Error::Library)?;
        Ok(Self(Arc::new(Inner {
            chain: vec![certificate.der().to_vec()],
            key,
            not_after: options.not_after,
        })))
    }

    /// From certificates in DER, the key's own first, and its private key in DER (PKCS #8, SEC 1
    /// or PKCS #1).
    ///
    /// # Errors
    /// [`Error::Malformed`] without a certificate, those of [`PeerCertificate::parse`], and
    /// [`Error::InvalidKey`] if the private key is none or not the certificate's.
    pub fn from_der(chain: Vec<Vec<u8>>, key: &[u8]) -> Result<Self, Error> {
        let first = PeerCertificate::parse(chain.first().ok_or(Error::Malformed)?)?;
        let key = SigningKey::from_der(key)?;
        if first.public_key() != key.public_key() {
            return Err(Error::InvalidKey);
        }
        Ok(Self(Arc::new(Inner {
            chain,
            key,
            not_after: first.not_after,
        })))
    }

    /// From PEM: one or more certificates, the key's own first, and the private key, in one text.
    ///
    /// # Errors
    /// Those of [`Certificate::from_der`].
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let mut chain = Vec::new();
        let mut key = None;
        for pem in Pem::iter_from_buffer(text.as_bytes()) {
            let pem = pem.map_err(|_| Error::Malformed)?;
            match pem.label.as_str() {
                "CERTIFICATE" => chain.push(pem.contents),
                "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
                    key = Some(Zeroizing::new(pem.contents));
                }
                // "EC PARAMETERS" and other company.
                _ => {}
            }
        }
        Self::from_der(chain, &key.ok_or(Error::Malformed)?)
    }

    /// As PEM: the certificates, then the private key as PKCS #8.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Error> {
        let mut text = Zeroizing::new(String::new());
        for der in &self.0.chain {
            push_pem(&mut text, "CERTIFICATE", der);
        }
        push_pem(&mut text, "PRIVATE KEY", &self.0.key.to_pkcs8()?);
        Ok(text)
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.0.chain[0]
    }

    /// The certificate and those that stand behind it, in DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.0.chain.iter().map(Vec::as_slice)
    }

    /// The private key.
    pub fn signing_key(&self) -> &SigningKey {
        &self.0.key
    }

    /// The last second of validity, since 1970-01-01T00:00:00Z.
    pub fn not_after(&self) -> i64 {
        self.0.not_after
    }

    /// The fingerprint for SDP.
    pub fn fingerprint(&self, algorithm: HashAlgorithm) -> Fingerprint {
        Fingerprint::of(algorithm, self.der())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("algorithm", &self.0.key.algorithm())
            .field("fingerprint", &self.fingerprint(HashAlgorithm::Sha256))
            .finish_non_exhaustive()
    }
}

/// A peer's certificate. Parsing says that it is well-formed, and no more: the caller checks the
/// fingerprint and a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    der: Vec<u8>,
    public_key: PublicKey,
    not_after: i64,
}

impl PeerCertificate {
    /// The largest certificate that is parsed, in bytes. An RSA-8192 one has about 2,500.
    pub const MAX_LEN: usize = 16 * 1024;

    /// Parses a certificate in DER.
    ///
    /// # Errors
    /// [`Error::Malformed`], or [`Error::Unsupported`] for a key of another kind than
    /// [`KeyAlgorithm`] names.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        if der.len() > Self::MAX_LEN {
            return Err(Error::Malformed);
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Malformed)?;
        if !rest.is_empty() {
            return Err(Error::Malformed);
        }
        let info = certificate.public_key();
        let kind = &info.algorithm.algorithm;
        let parameters = info.algorithm.parameters.as_ref();
        let algorithm = if *kind == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
            let curve = parameters
                .and_then(|parameters| parameters.as_oid().ok())
                .ok_or(Error::Unsupported)?;
            if curve == oid::OID_EC_P256 {
                KeyAlgorithm::EcdsaP256
            } else if curve == oid::OID_NIST_EC_P384 {
                KeyAlgorithm::EcdsaP384
            } else if curve == SECP224R1 {
                KeyAlgorithm::EcdsaP224
            } else {
                return Err(Error::Unsupported);
            }
        } else if *kind == oid::OID_SIG_ED25519 {
            KeyAlgorithm::Ed25519
        } else if *kind == oid::OID_PKCS1_RSAENCRYPTION {
            KeyAlgorithm::Rsa
        } else {
            return Err(Error::Unsupported);
        };
        Ok(Self {
            public_key: PublicKey::new(algorithm, &info.subject_public_key.data),
            not_after: certificate.validity().not_after.timestamp(),
            der: der.to_vec(),
        })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Its fingerprint.
    pub fn fingerprint(&self, algorithm: HashAlgorithm) -> Fingerprint {
        Fingerprint::of(algorithm, &self.der)
    }

    /// Whether the peer's description lists its fingerprint.
    pub fn is_in(&self, fingerprints: &FingerprintSet) -> bool {
        fingerprints.matches(&self.der)
    }

    /// Checks the peer's signature of a handshake: see [`PublicKey::verify`].
    ///
    /// # Errors
    /// [`Error::UnsuitableScheme`] or [`Error::Authentication`].
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        self.public_key.verify(scheme, message, signature)
    }
}

/// Lets the certificate writer sign with our key.
struct Signer<'a>(&'a SigningKey);

impl PublicKeyData for Signer<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.0.algorithm() {
            KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
            // P-224 is never our own key's.
            KeyAlgorithm::Rsa | KeyAlgorithm::EcdsaP224 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl rcgen::SigningKey for Signer<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let scheme = match self.0.algorithm() {
            KeyAlgorithm::EcdsaP256 => SignatureScheme::EcdsaSecp256r1Sha256,
            KeyAlgorithm::EcdsaP384 => SignatureScheme::EcdsaSecp384r1Sha384,
            KeyAlgorithm::Ed25519 => SignatureScheme::Ed25519,
            KeyAlgorithm::Rsa | KeyAlgorithm::EcdsaP224 => SignatureScheme::RsaPkcs1Sha256,
        };
        self.0
            .sign(scheme, message)
            .map_err(|_| rcgen::Error::RingUnspecified)
    }
}

fn push_pem(text: &mut String, label: &str, der: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    // 48 bytes make a line of 64 characters (RFC 7468 section 2).
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let mut bits = 0;
            for index in 0..3 {
                bits = bits << 8 | u32::from(group.get(index).copied().unwrap_or(0));
            }
            for index in 0..4 {
                if index <= group.len() {
                    let digit = bits >> (18 - 6 * index) & 63;
                    text.push(char::from(ALPHABET[digit as usize]));
                } else {
                    text.push('=');
                }
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
}
