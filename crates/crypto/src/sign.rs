//! Signatures by TLS SignatureScheme.

use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, ECDH_P384, PrivateKey};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom; // sans-io: signing draws its nonce inside the library
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding,
    UnparsedPublicKey, VerificationAlgorithm,
};
use p224::ecdsa::VerifyingKey;
use p224::ecdsa::signature::hazmat::PrehashVerifier as _;
use visavis_datagram::Random;
use zeroize::Zeroizing;

use crate::{Error, HashAlgorithm};

/// How a signature is made (RFC 8446 section 4.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum SignatureScheme {
    /// rsa_pkcs1_sha256: TLS 1.2 and certificates only.
    RsaPkcs1Sha256 = 0x0401,
    /// rsa_pkcs1_sha384: TLS 1.2 and certificates only.
    RsaPkcs1Sha384 = 0x0501,
    /// rsa_pkcs1_sha512: TLS 1.2 and certificates only.
    RsaPkcs1Sha512 = 0x0601,
    /// ecdsa_secp256r1_sha256; under TLS 1.2 any curve with SHA-256.
    EcdsaSecp256r1Sha256 = 0x0403,
    /// ecdsa_secp384r1_sha384; under TLS 1.2 any curve with SHA-384.
    EcdsaSecp384r1Sha384 = 0x0503,
    /// rsa_pss_rsae_sha256.
    RsaPssRsaeSha256 = 0x0804,
    /// rsa_pss_rsae_sha384.
    RsaPssRsaeSha384 = 0x0805,
    /// rsa_pss_rsae_sha512.
    RsaPssRsaeSha512 = 0x0806,
    /// ed25519.
    Ed25519 = 0x0807,
}

impl SignatureScheme {
    /// All schemes, the preferred first.
    pub const ALL: [Self; 9] = [
        Self::EcdsaSecp256r1Sha256,
        Self::Ed25519,
        Self::EcdsaSecp384r1Sha384,
        Self::RsaPssRsaeSha256,
        Self::RsaPssRsaeSha384,
        Self::RsaPssRsaeSha512,
        Self::RsaPkcs1Sha256,
        Self::RsaPkcs1Sha384,
        Self::RsaPkcs1Sha512,
    ];

    /// The scheme of a codepoint; `None` if it is not known here.
    pub fn from_codepoint(codepoint: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|scheme| scheme.codepoint() == codepoint)
    }

    /// The codepoint on the wire.
    pub const fn codepoint(self) -> u16 {
        self as u16
    }

    /// Whether TLS 1.3 lets a peer with a key of `algorithm` sign a handshake so: the curve goes
    /// with the hash, and PKCS #1 v1.5 is out.
    pub const fn is_for_tls13(self, algorithm: KeyAlgorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::EcdsaSecp256r1Sha256, KeyAlgorithm::EcdsaP256)
                | (Self::EcdsaSecp384r1Sha384, KeyAlgorithm::EcdsaP384)
                | (Self::Ed25519, KeyAlgorithm::Ed25519)
                | (
                    Self::RsaPssRsaeSha256 | Self::RsaPssRsaeSha384 | Self::RsaPssRsaeSha512,
                    KeyAlgorithm::Rsa
                )
        )
    }

    /// Whether TLS 1.2 lets a peer with a key of `algorithm` sign a handshake so: hash and curve
    /// are independent, so that a key on P-224 can sign too.
    pub const fn is_for_tls12(self, algorithm: KeyAlgorithm) -> bool {
        match self {
            Self::EcdsaSecp256r1Sha256 | Self::EcdsaSecp384r1Sha384 => {
                matches!(
                    algorithm,
                    KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP224
                )
            }
            Self::Ed25519 => matches!(algorithm, KeyAlgorithm::Ed25519),
            _ => matches!(algorithm, KeyAlgorithm::Rsa),
        }
    }
}

/// The kinds of signature keys. P-521 is refused: nobody in WebRTC makes a certificate with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-224, of peers only: FFmpeg makes such a certificate where it is built with GnuTLS.
    EcdsaP224,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 to 8192 bits.
    Rsa,
}

/// A private key that signs.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair),
}

impl SigningKey {
    /// A new key from the caller's randomness; RSA keys have 2048 bits and their primes come from
    /// the system, because the library takes no other source.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for P-224, which only peers have; [`Error::Library`].
    pub fn generate(algorithm: KeyAlgorithm, random: &mut Random) -> Result<Self, Error> {
        let pair = match algorithm {
            KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 => {
                Pair::Ecdsa(generate_ecdsa(algorithm, random)?)
            }
            KeyAlgorithm::EcdsaP224 => return Err(Error::Unsupported),
            KeyAlgorithm::Ed25519 => {
                let seed = Zeroizing::new(random.bytes::<32>());
                Pair::Ed25519(Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(library)?)
            }
            KeyAlgorithm::Rsa => {
                // sans-io: the library draws RSA's primes itself and takes none from its caller.
                Pair::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).map_err(library)?)
            }
        };
        Ok(Self::with_pair(pair, algorithm))
    }

    /// From PKCS #8 in DER (ECDSA, Ed25519 and RSA), SEC 1 (ECDSA) or PKCS #1 (RSA).
    ///
    /// # Errors
    /// [`Error::InvalidKey`].
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        for (algorithm, backend) in [
            (
                KeyAlgorithm::EcdsaP256,
                &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            ),
            (
                KeyAlgorithm::EcdsaP384,
                &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            ),
        ] {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(backend, der)
                .or_else(|_| EcdsaKeyPair::from_private_key_der(backend, der))
            {
                return Ok(Self::with_pair(Pair::Ecdsa(pair), algorithm));
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self::with_pair(Pair::Ed25519(pair), KeyAlgorithm::Ed25519));
        }
        let pair = rsa::KeyPair::from_pkcs8(der)
            .or_else(|_| rsa::KeyPair::from_der(der))
            .map_err(|_| Error::InvalidKey)?;
        Ok(Self::with_pair(Pair::Rsa(pair), KeyAlgorithm::Rsa))
    }

    fn with_pair(pair: Pair, algorithm: KeyAlgorithm) -> Self {
        let bytes = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        };
        Self {
            pair,
            public: PublicKey { algorithm, bytes },
        }
    }

    /// The key as PKCS #8 in DER.
    ///
    /// # Errors
    /// [`Error::Library`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let der = match &self.pair {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().map_err(library)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map_err(library)?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().map_err(library)?;
                der.as_ref().to_vec()
            }
        };
        Ok(Zeroizing::new(der))
    }

    /// The kind of key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.public.algorithm
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The schemes that the key can sign with, the preferred first. An ECDSA key signs with the
    /// hash of its own curve, which both versions of TLS allow.
    pub fn schemes(&self) -> &'static [SignatureScheme] {
        match self.public.algorithm {
            KeyAlgorithm::EcdsaP256 => &[SignatureScheme::EcdsaSecp256r1Sha256],
            KeyAlgorithm::EcdsaP384 => &[SignatureScheme::EcdsaSecp384r1Sha384],
            KeyAlgorithm::EcdsaP224 => &[],
            KeyAlgorithm::Ed25519 => &[SignatureScheme::Ed25519],
            KeyAlgorithm::Rsa => &[
                SignatureScheme::RsaPssRsaeSha256,
                SignatureScheme::RsaPssRsaeSha384,
                SignatureScheme::RsaPssRsaeSha512,
                SignatureScheme::RsaPkcs1Sha256,
                SignatureScheme::RsaPkcs1Sha384,
                SignatureScheme::RsaPkcs1Sha512,
            ],
        }
    }

    /// The signature of `message`.
    ///
    /// # Errors
    /// [`Error::UnsuitableScheme`] if `scheme` is none of [`SigningKey::schemes`];
    /// [`Error::Library`].
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error> {
        if !self.schemes().contains(&scheme) {
            return Err(Error::UnsuitableScheme);
        }
        let rng = SystemRandom::new(); // sans-io: signing draws its nonce inside the library
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&rng, message).map_err(library)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match scheme {
                    SignatureScheme::RsaPssRsaeSha256 => &signature::RSA_PSS_SHA256,
                    SignatureScheme::RsaPssRsaeSha384 => &signature::RSA_PSS_SHA384,
                    SignatureScheme::RsaPssRsaeSha512 => &signature::RSA_PSS_SHA512,
                    SignatureScheme::RsaPkcs1Sha256 => &signature::RSA_PKCS1_SHA256,
                    SignatureScheme::RsaPkcs1Sha384 => &signature::RSA_PKCS1_SHA384,
                    _ => &signature::RSA_PKCS1_SHA512,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &rng, message, &mut out)
                    .map_err(library)?;
                Ok(out)
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.public.algorithm)
            .finish_non_exhaustive()
    }
}

/// A public key that verifies signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    /// What stands in the BIT STRING of a SubjectPublicKeyInfo: a point, or an RSAPublicKey.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// From the content of the BIT STRING of a SubjectPublicKeyInfo.
    pub(crate) fn new(algorithm: KeyAlgorithm, bytes: &[u8]) -> Self {
        Self {
            algorithm,
            bytes: bytes.to_vec(),
        }
    }

    /// The kind of key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// What stands in the BIT STRING of a SubjectPublicKeyInfo.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks a signature of `message`. Which schemes a version of TLS allows is the caller's to
    /// ask: [`SignatureScheme::is_for_tls13`], [`SignatureScheme::is_for_tls12`].
    ///
    /// # Errors
    /// [`Error::UnsuitableScheme`], or [`Error::Authentication`] if the signature does not hold.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        use KeyAlgorithm as K;
        use SignatureScheme as S;
        let backend: &'static dyn VerificationAlgorithm = match (self.algorithm, scheme) {
            (K::EcdsaP256, S::EcdsaSecp256r1Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (K::EcdsaP256, S::EcdsaSecp384r1Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (K::EcdsaP384, S::EcdsaSecp256r1Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (K::EcdsaP384, S::EcdsaSecp384r1Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (K::EcdsaP224, S::EcdsaSecp256r1Sha256) => {
                return verify_p224(&self.bytes, HashAlgorithm::Sha256, message, signature);
            }
            (K::EcdsaP224, S::EcdsaSecp384r1Sha384) => {
                return verify_p224(&self.bytes, HashAlgorithm::Sha384, message, signature);
            }
            (K::Ed25519, S::Ed25519) => &signature::ED25519,
            (K::Rsa, S::RsaPkcs1Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (K::Rsa, S::RsaPkcs1Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (K::Rsa, S::RsaPkcs1Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (K::Rsa, S::RsaPssRsaeSha256) => &signature::RSA_PSS_2048_8192_SHA256,
            (K::Rsa, S::RsaPssRsaeSha384) => &signature::RSA_PSS_2048_8192_SHA384,
            (K::Rsa, S::RsaPssRsaeSha512) => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return Err(Error::UnsuitableScheme),
        };
        UnparsedPublicKey::new(backend, &self.bytes)
            .verify(message, signature)
            .map_err(|_| Error::Authentication)
    }
}

/// P-224 is RustCrypto's: AWS-LC's interface for Rust has none.
fn verify_p224(
    public: &[u8],
    hash: HashAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let key = VerifyingKey::from_sec1_bytes(public).map_err(|_| Error::Authentication)?;
    let signature =
        p224::ecdsa::Signature::from_der(signature).map_err(|_| Error::Authentication)?;
    key.verify_prehash(&hash.hash(message), &signature)
        .map_err(|_| Error::Authentication)
}

fn generate_ecdsa(algorithm: KeyAlgorithm, random: &mut Random) -> Result<EcdsaKeyPair, Error> {
    let (curve, signing, len): (_, &'static EcdsaSigningAlgorithm, _) =
        if algorithm == KeyAlgorithm::EcdsaP384 {
            (&ECDH_P384, &signature::ECDSA_P384_SHA384_ASN1_SIGNING, 48)
        } else {
            (&ECDH_P256, &signature::ECDSA_P256_SHA256_ASN1_SIGNING, 32)
        };
    // A curve refuses a number that is 0 or not below its order: 2^-32 of them for P-256.
    for _ in 0..64 {
        let mut scalar = Zeroizing::new([0; 48]);
        random.fill(&mut scalar[..len]);
        let Ok(private) = PrivateKey::from_private_key(curve, &scalar[..len]) else {
            continue;
        };
        let public = private.compute_public_key().map_err(library)?;
        return EcdsaKeyPair::from_private_key_and_public_key(
            signing,
            &scalar[..len],
            public.as_ref(),
        )
        .map_err(library);
    }
    Err(Error::Library)
}

fn library<E>(_: E) -> Error {
    Error::Library
}
