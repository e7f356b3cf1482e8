//! Cipher suites and their keys (RFC 9605 sections 4.4 and 4.5).

use visavis_crypto::{HashAlgorithm, Secret, aead, cipher, constant_time_eq, hkdf, hmac};

use super::SFrameError;

/// A cipher suite (RFC 9605 section 8.1, and the AES-256-CTR suites of its registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SFrameSuite {
    /// AES-128-CTR, HMAC-SHA-256 cut to 80 bits.
    Aes128CtrHmacSha256_80,
    /// AES-128-CTR, HMAC-SHA-256 cut to 64 bits.
    Aes128CtrHmacSha256_64,
    /// AES-128-CTR, HMAC-SHA-256 cut to 32 bits.
    Aes128CtrHmacSha256_32,
    /// AES-128-GCM.
    Aes128GcmSha256_128,
    /// AES-256-GCM.
    Aes256GcmSha512_128,
    /// AES-256-CTR, HMAC-SHA-512 cut to 80 bits.
    Aes256CtrHmacSha512_80,
    /// AES-256-CTR, HMAC-SHA-512 cut to 64 bits.
    Aes256CtrHmacSha512_64,
    /// AES-256-CTR, HMAC-SHA-512 cut to 32 bits.
    Aes256CtrHmacSha512_32,
}

/// Nn: the length of a nonce in bytes, of all suites.
const NONCE: usize = 12;

impl SFrameSuite {
    /// All suites.
    pub const ALL: [Self; 8] = [
        Self::Aes128CtrHmacSha256_80,
        Self::Aes128CtrHmacSha256_64,
        Self::Aes128CtrHmacSha256_32,
        Self::Aes128GcmSha256_128,
        Self::Aes256GcmSha512_128,
        Self::Aes256CtrHmacSha512_80,
        Self::Aes256CtrHmacSha512_64,
        Self::Aes256CtrHmacSha512_32,
    ];

    /// The number in the registry.
    pub const fn number(self) -> u16 {
        match self {
            Self::Aes128CtrHmacSha256_80 => 1,
            Self::Aes128CtrHmacSha256_64 => 2,
            Self::Aes128CtrHmacSha256_32 => 3,
            Self::Aes128GcmSha256_128 => 4,
            Self::Aes256GcmSha512_128 => 5,
            Self::Aes256CtrHmacSha512_80 => 6,
            Self::Aes256CtrHmacSha512_64 => 7,
            Self::Aes256CtrHmacSha512_32 => 8,
        }
    }

    /// The suite with a number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// Nt: how many bytes a frame grows by beside the header.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::Aes128CtrHmacSha256_80 | Self::Aes256CtrHmacSha512_80 => 10,
            Self::Aes128CtrHmacSha256_64 | Self::Aes256CtrHmacSha512_64 => 8,
            Self::Aes128CtrHmacSha256_32 | Self::Aes256CtrHmacSha512_32 => 4,
            Self::Aes128GcmSha256_128 | Self::Aes256GcmSha512_128 => 16,
        }
    }

    const fn hash(self) -> HashAlgorithm {
        match self {
            Self::Aes128CtrHmacSha256_80
            | Self::Aes128CtrHmacSha256_64
            | Self::Aes128CtrHmacSha256_32
            | Self::Aes128GcmSha256_128 => HashAlgorithm::Sha256,
            _ => HashAlgorithm::Sha512,
        }
    }

    /// Length of the encryption key in bytes, and of the authentication key that follows it.
    const fn key_lens(self) -> (usize, usize) {
        match self {
            Self::Aes128CtrHmacSha256_80
            | Self::Aes128CtrHmacSha256_64
            | Self::Aes128CtrHmacSha256_32 => (16, 32),
            Self::Aes128GcmSha256_128 => (16, 0),
            Self::Aes256GcmSha512_128 => (32, 0),
            _ => (32, 64),
        }
    }

    pub(super) fn ratchet(self, base_key: &[u8]) -> Result<Secret, SFrameError> {
        // RFC 9605 section 5.1: Expand(base_key, "SFrame 1.0 Ratchet", Nh).
        let mut next = Secret::zeros(self.hash().output_len());
        hkdf::Expander::new(self.hash(), base_key)
            .expand(&[b"SFrame 1.0 Ratchet"], next.as_mut())
            .map_err(|_| SFrameError::BadKey)?;
        Ok(next)
    }
}

/// A tag: the first bytes count.
pub(super) struct Tag {
    bytes: [u8; 64],
    len: usize,
}

impl Tag {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[derive(Debug)]
enum Backend {
    Aead(aead::Key),
    CtrHmac(cipher::AesCtr, hmac::Key),
}

/// A key that is set up.
#[derive(Debug)]
pub(super) struct Key {
    suite: SFrameSuite,
    kid: u64,
    backend: Backend,
    salt: [u8; NONCE],
}

impl Key {
    /// RFC 9605 section 4.4.2.
    pub(super) fn derive(
        suite: SFrameSuite,
        kid: u64,
        base_key: &[u8],
    ) -> Result<Self, SFrameError> {
        if base_key.is_empty() {
            return Err(SFrameError::BadKey);
        }
        let secret = hkdf::extract(suite.hash(), &[], base_key);
        let expander = hkdf::Expander::new(suite.hash(), secret.as_ref());
        let (kid_bytes, number) = (kid.to_be_bytes(), suite.number().to_be_bytes());
        let (encryption, authentication) = suite.key_lens();
        let mut key = visavis_crypto::Zeroizing::new(vec![0; encryption + authentication]);
        let mut salt = [0; NONCE];
        let bad = |_| SFrameError::BadKey;
        expander
            .expand(&[b"SFrame 1.0 Secret key ", &kid_bytes, &number], &mut key)
            .map_err(bad)?;
        expander
            .expand(
                &[b"SFrame 1.0 Secret salt ", &kid_bytes, &number],
                &mut salt,
            )
            .map_err(bad)?;
        Ok(Self {
            suite,
            kid,
            backend: Self::set_up(suite, &key)?,
            salt,
        })
    }

    fn set_up(suite: SFrameSuite, key: &[u8]) -> Result<Backend, SFrameError> {
        let bad = |_| SFrameError::BadKey;
        let (encryption, authentication) = key.split_at(suite.key_lens().0);
        Ok(match suite {
            SFrameSuite::Aes128GcmSha256_128 => {
                Backend::Aead(aead::Key::new(aead::Algorithm::Aes128Gcm, encryption).map_err(bad)?)
            }
            SFrameSuite::Aes256GcmSha512_128 => {
                Backend::Aead(aead::Key::new(aead::Algorithm::Aes256Gcm, encryption).map_err(bad)?)
            }
            _ => Backend::CtrHmac(
                cipher::AesCtr::new(encryption).map_err(bad)?,
                hmac::Key::new(suite.hash(), authentication),
            ),
        })
    }

    pub(super) fn kid(&self) -> u64 {
        self.kid
    }

    fn nonce(&self, counter: u64) -> [u8; NONCE] {
        let mut nonce = self.salt;
        for (byte, counter) in nonce[4..].iter_mut().zip(counter.to_be_bytes()) {
            *byte ^= counter;
        }
        nonce
    }

    /// Encrypts `text` in place and gives the tag.
    pub(super) fn seal(
        &self,
        counter: u64,
        header: &[u8],
        metadata: &[u8],
        text: &mut [u8],
    ) -> Tag {
        let nonce = self.nonce(counter);
        let mut bytes = [0; 64];
        match &self.backend {
            Backend::Aead(key) => {
                let aad = [header, metadata].concat();
                let tag = key.seal_in_place(&nonce, &aad, text);
                bytes[..tag.len()].copy_from_slice(&tag);
            }
            Backend::CtrHmac(cipher, mac) => {
                cipher.apply(&first_block(&nonce), text);
                bytes = self.mac(mac, &nonce, header, metadata, text);
            }
        }
        Tag {
            bytes,
            len: self.suite.tag_len(),
        }
    }

    /// Checks the tag at the end of `sealed` and decrypts what stands before it; its length.
    pub(super) fn open(
        &self,
        counter: u64,
        header: &[u8],
        metadata: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, SFrameError> {
        let nonce = self.nonce(counter);
        let plain = sealed
            .len()
            .checked_sub(self.suite.tag_len())
            .ok_or(SFrameError::Malformed)?;
        match &self.backend {
            Backend::Aead(key) => {
                let aad = [header, metadata].concat();
                key.open_in_place(&nonce, &aad, sealed)
                    .map_err(|_| SFrameError::Authentication)
            }
            Backend::CtrHmac(cipher, mac) => {
                let (text, tag) = sealed.split_at_mut(plain);
                let expected = self.mac(mac, &nonce, header, metadata, text);
                if !constant_time_eq(&expected[..tag.len()], tag) {
                    return Err(SFrameError::Authentication);
                }
                cipher.apply(&first_block(&nonce), text);
                Ok(plain)
            }
        }
    }

    /// RFC 9605 section 4.5.1: lengths, nonce, associated data, ciphertext.
    fn mac(
        &self,
        key: &hmac::Key,
        nonce: &[u8; NONCE],
        header: &[u8],
        metadata: &[u8],
        text: &[u8],
    ) -> [u8; 64] {
        let aad_len = ((header.len() + metadata.len()) as u64).to_be_bytes();
        let text_len = (text.len() as u64).to_be_bytes();
        let tag_len = (self.suite.tag_len() as u64).to_be_bytes();
        let output = key.sign(&[&aad_len, &text_len, &tag_len, nonce, header, metadata, text]);
        let mut bytes = [0; 64];
        bytes[..output.len()].copy_from_slice(&output);
        bytes
    }
}

/// The counter block of the first 16 bytes: the nonce and 32 zero bits.
fn first_block(nonce: &[u8; NONCE]) -> [u8; 16] {
    let mut block = [0; 16];
    block[..NONCE].copy_from_slice(nonce);
    block
}

#[cfg(test)]
mod tests {
    use super::super::{SFrameHeader, SFrameReceiver, SFrameSender};
    use super::*;

    /// The values of one kind of vector, in order.
    fn vectors(json: &serde_json::Value, kind: &str) -> Vec<serde_json::Value> {
        json[kind].as_array().unwrap().clone()
    }

    fn hex(value: &serde_json::Value) -> Vec<u8> {
        let text = value.as_str().unwrap();
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    fn main_vectors() -> serde_json::Value {
        let text = include_str!("../../tests/fixtures/sframe/test-vectors.json");
        serde_json::from_str(text).unwrap()
    }

    /// RFC 9605 appendix C.1.
    #[test]
    fn rfc9605_appendix_c_1_headers() {
        let all = vectors(&main_vectors(), "header");
        assert!(all.len() > 200);
        for vector in all {
            let header = SFrameHeader {
                kid: vector["kid"].as_u64().unwrap(),
                counter: vector["ctr"].as_u64().unwrap(),
            };
            let mut bytes = [0; SFrameHeader::MAX_LEN];
            let len = header.write(&mut bytes);
            let encoded = hex(&vector["encoded"]);
            assert_eq!(bytes[..len], encoded);
            assert_eq!(SFrameHeader::parse(&encoded), Ok((header, len)));
            assert!(SFrameHeader::parse(&encoded[..len - 1]).is_err());
        }
    }

    /// RFC 9605 appendix C.2.
    #[test]
    fn rfc9605_appendix_c_2_aes_ctr_hmac() {
        let json = main_vectors();
        for kind in ["aes_ctr_hmac", "aes_256_ctr_hmac"] {
            for vector in vectors(&json, kind) {
                let number = vector["cipher_suite"].as_u64().unwrap() as u16;
                let suite = SFrameSuite::from_number(number).unwrap();
                let nonce = hex(&vector["nonce"]);
                let key = Key {
                    suite,
                    kid: 0,
                    backend: Key::set_up(suite, &hex(&vector["key"])).unwrap(),
                    salt: nonce.try_into().unwrap(),
                };
                let mut text = hex(&vector["pt"]);
                let tag = key.seal(0, &[], &hex(&vector["aad"]), &mut text);
                text.extend_from_slice(tag.as_slice());
                assert_eq!(text, hex(&vector["ct"]), "suite {number}");
            }
        }
    }

    /// RFC 9605 appendix C.3.
    #[test]
    fn rfc9605_appendix_c_3_sframe() {
        let more = include_str!("../../tests/fixtures/sframe/test-vectors-aes256.json");
        let more: serde_json::Value = serde_json::from_str(more).unwrap();
        let mut all = vectors(&main_vectors(), "sframe");
        all.extend(vectors(&more, "sframe_aes_256_ctr_hmac"));
        assert_eq!(all.len(), 8);
        for vector in all {
            let number = vector["cipher_suite"].as_u64().unwrap() as u16;
            let suite = SFrameSuite::from_number(number).unwrap();
            let kid = vector["kid"].as_u64().unwrap();
            let (base_key, metadata) = (hex(&vector["base_key"]), hex(&vector["metadata"]));
            let key = Key::derive(suite, kid, &base_key).unwrap();
            assert_eq!(key.salt.to_vec(), hex(&vector["sframe_salt"]));
            let mut sender = SFrameSender::new(suite, kid, &base_key).unwrap();
            sender.set_counter(vector["ctr"].as_u64().unwrap());
            let mut frame = hex(&vector["pt"]);
            sender.seal(&metadata, &mut frame).unwrap();
            assert_eq!(frame, hex(&vector["ct"]), "suite {number}");
            let mut receiver = SFrameReceiver::new(suite);
            receiver.add_key(kid, &base_key).unwrap();
            receiver.open(&metadata, &mut frame).unwrap();
            assert_eq!(frame, hex(&vector["pt"]), "suite {number}");
        }
    }
}
