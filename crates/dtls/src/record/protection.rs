//! Sealing and opening single records with the keys of one epoch and direction.

use std::ops::Range;

use visavis_crypto::cipher::MaskKey;
use visavis_crypto::{HashAlgorithm, Secret, aead, prf};
use visavis_datagram::Framing;
use zeroize::Zeroizing;

use super::header::{self, ContentType, LEGACY_HEADER_LEN};
use crate::key_schedule::Deriver;
use crate::{CipherSuite, Version};

/// The longest additional data: that of 1.2 with a connection ID of 255 bytes.
const MAX_AAD: usize = 23 + 255;

/// What protects the records of one epoch in one direction.
#[derive(Debug)]
pub(crate) struct RecordKeys {
    aead: aead::Key,
    /// 1.3 and ChaCha20: 12 bytes that the sequence number is added to. GCM of 1.2: 4 bytes.
    iv: [u8; aead::NONCE_LEN],
    form: Form,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "keys are few, and a pointer would stand in the packet path"
)]
enum Form {
    Dtls13(MaskKey),
    /// GCM: eight bytes of nonce stand in the record (RFC 5288 section 3).
    Dtls12Explicit,
    /// ChaCha20-Poly1305 (RFC 7905 section 2).
    Dtls12Implicit,
}

/// Why a record did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It is too short or has no content type.
    Malformed,
    /// Its tag is wrong.
    Forged,
}

impl RecordKeys {
    /// The keys of a traffic secret (RFC 8446 section 7.3, RFC 9147 section 4.2.3).
    pub(crate) fn dtls13(suite: CipherSuite, secret: &Secret) -> Self {
        let deriver = Deriver::new(suite.hash(), secret);
        let algorithm = suite.aead();
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..algorithm.key_len()];
        deriver.fill(b"key", &[], key);
        let aead = aead::Key::new(algorithm, key).expect("a key of its algorithm's length");
        deriver.fill(b"sn", &[], key);
        let mask = MaskKey::new(algorithm, key).expect("a key of its algorithm's length");
        let mut iv = [0; aead::NONCE_LEN];
        deriver.fill(b"iv", &[], &mut iv);
        Self {
            aead,
            iv,
            form: Form::Dtls13(mask),
        }
    }

    /// The keys of both ends, the client's first (RFC 5246 section 6.3).
    pub(crate) fn dtls12(
        suite: CipherSuite,
        master: &Secret,
        client_random: &[u8; 32],
        server_random: &[u8; 32],
    ) -> (Self, Self) {
        let algorithm = suite.aead();
        let (key_len, iv_len) = match algorithm {
            aead::Algorithm::ChaCha20Poly1305 => (algorithm.key_len(), 12),
            _ => (algorithm.key_len(), 4),
        };
        let mut block = Zeroizing::new([0; 2 * (32 + 12)]);
        let block = &mut block[..2 * (key_len + iv_len)];
        let hash: HashAlgorithm = suite.hash();
        prf::tls12(
            hash,
            master.as_ref(),
            b"key expansion",
            [server_random, client_random],
            block,
        );
        let (keys, ivs) = block.split_at(2 * key_len);
        let make = |key: &[u8], fixed: &[u8]| {
            let mut iv = [0; aead::NONCE_LEN];
            iv[..iv_len].copy_from_slice(fixed);
            Self {
                aead: aead::Key::new(algorithm, key).expect("a key of its algorithm's length"),
                iv,
                form: if iv_len == 4 {
                    Form::Dtls12Explicit
                } else {
                    Form::Dtls12Implicit
                },
            }
        };
        (
            make(&keys[..key_len], &ivs[..iv_len]),
            make(&keys[key_len..], &ivs[iv_len..]),
        )
    }

    pub(crate) fn version(&self) -> Version {
        match self.form {
            Form::Dtls13(_) => Version::Dtls13,
            _ => Version::Dtls12,
        }
    }

    /// The room that a record needs around its content. Records of 1.3 carry a 16-bit sequence
    /// number and a length: two bytes more than the least, and every peer reads them.
    pub(crate) fn framing(&self, connection_id_len: usize) -> Framing {
        match self.form {
            Form::Dtls13(_) => Framing {
                header: 5 + connection_id_len,
                trailer: 1 + aead::TAG_LEN,
            },
            Form::Dtls12Explicit | Form::Dtls12Implicit => Framing {
                header: LEGACY_HEADER_LEN
                    + connection_id_len
                    + if matches!(self.form, Form::Dtls12Explicit) {
                        8
                    } else {
                        0
                    },
                trailer: usize::from(connection_id_len != 0) + aead::TAG_LEN,
            },
        }
    }

    /// Makes a record of `record`, in which `content_len` bytes stand with
    /// [`framing`](Self::framing)'s room around them.
    pub(crate) fn seal(
        &self,
        epoch: u64,
        sequence: u64,
        connection_id: &[u8],
        content_type: ContentType,
        record: &mut [u8],
        content_len: usize,
    ) {
        let framing = self.framing(connection_id.len());
        debug_assert_eq!(record.len(), framing.header + content_len + framing.trailer);
        let (head, body) = record.split_at_mut(framing.header);
        let text_len = body.len() - aead::TAG_LEN;
        let (text, tag) = body.split_at_mut(text_len);
        match &self.form {
            Form::Dtls13(mask) => {
                let id_len = connection_id.len();
                let has_id = if id_len == 0 { 0 } else { 0x10 };
                head[0] = 0b0010_1100 | has_id | (epoch & 0b11) as u8;
                head[1..1 + id_len].copy_from_slice(connection_id);
                head[1 + id_len..3 + id_len].copy_from_slice(&(sequence as u16).to_be_bytes());
                let length = (text_len + aead::TAG_LEN) as u16;
                head[3 + id_len..].copy_from_slice(&length.to_be_bytes());
                text[content_len] = content_type.0;
                let nonce = self.nonce(sequence);
                tag.copy_from_slice(&self.aead.seal_in_place(&nonce, head, text));
                // The sample may reach into the tag: a record of no content has 17 bytes.
                let mask = mask.mask(body.first_chunk().expect("a tag of 16 bytes"));
                head[1 + id_len] ^= mask[0];
                head[2 + id_len] ^= mask[1];
            }
            Form::Dtls12Explicit | Form::Dtls12Implicit => {
                let number = epoch << 48 | sequence;
                let outer = if connection_id.is_empty() {
                    content_type
                } else {
                    text[content_len] = content_type.0;
                    ContentType::TLS12_CID
                };
                let legacy_len = LEGACY_HEADER_LEN + connection_id.len();
                let explicit = head.len() - legacy_len;
                header::write_legacy(
                    &mut head[..legacy_len],
                    outer,
                    epoch as u16,
                    sequence,
                    connection_id,
                    explicit + text_len + aead::TAG_LEN,
                );
                if explicit != 0 {
                    head[legacy_len..].copy_from_slice(&number.to_be_bytes());
                }
                let nonce = self.nonce(number);
                let mut aad = [0; MAX_AAD];
                let aad = aad12(&mut aad, &head[..legacy_len], connection_id, text_len);
                tag.copy_from_slice(&self.aead.seal_in_place(&nonce, aad, text));
            }
        }
    }

    /// Uncovers and rebuilds the sequence number of a record of 1.3 (RFC 9147 section 4.2.2). The
    /// header changes to what was authenticated.
    pub(crate) fn uncover(
        &self,
        record: &mut [u8],
        sequence_at: usize,
        sequence_len: usize,
        header_len: usize,
        expected: u64,
    ) -> Result<u64, OpenError> {
        let Form::Dtls13(mask) = &self.form else {
            return Err(OpenError::Malformed);
        };
        let (head, body) = record.split_at_mut(header_len);
        // RFC 9147 section 4.2.3: shorter records cannot be sampled.
        let sample = body.first_chunk().ok_or(OpenError::Malformed)?;
        let mask = mask.mask(sample);
        let bytes = &mut head[sequence_at..sequence_at + sequence_len];
        let mut low = 0;
        for (byte, mask) in bytes.iter_mut().zip(mask) {
            *byte ^= mask;
            low = low << 8 | u64::from(*byte);
        }
        Ok(header::reconstruct(low, 8 * sequence_len as u32, expected))
    }

    /// Opens the body of an uncovered record of 1.3: its content type, and where in the record its
    /// content stands.
    pub(crate) fn open13(
        &self,
        sequence: u64,
        record: &mut [u8],
        header_len: usize,
    ) -> Result<(ContentType, Range<usize>), OpenError> {
        let (head, body) = record.split_at_mut(header_len);
        let len = self
            .aead
            .open_in_place(&self.nonce(sequence), head, body)
            .map_err(|_| OpenError::Forged)?;
        inner(&body[..len], header_len)
    }

    /// Opens a record of 1.2, whose header is a legacy one.
    pub(crate) fn open12(
        &self,
        content_type: ContentType,
        epoch: u16,
        sequence: u64,
        connection_id: &[u8],
        record: &mut [u8],
        header_len: usize,
    ) -> Result<(ContentType, Range<usize>), OpenError> {
        let explicit = match self.form {
            Form::Dtls12Explicit => 8,
            Form::Dtls12Implicit => 0,
            Form::Dtls13(_) => return Err(OpenError::Malformed),
        };
        let (head, body) = record.split_at_mut(header_len);
        let number = match body.split_at_checked(explicit) {
            // The sender may choose it freely (RFC 5288 section 3).
            Some((nonce, _)) if explicit != 0 => {
                u64::from_be_bytes(nonce.try_into().map_err(|_| OpenError::Malformed)?)
            }
            Some(_) => u64::from(epoch) << 48 | sequence,
            None => return Err(OpenError::Malformed),
        };
        let body = &mut body[explicit..];
        let text_len = body
            .len()
            .checked_sub(aead::TAG_LEN)
            .ok_or(OpenError::Malformed)?;
        let with_id = content_type == ContentType::TLS12_CID;
        let mut aad = [0; MAX_AAD];
        let id = if with_id { connection_id } else { &[] };
        let aad = aad12(&mut aad, head, id, text_len);
        let len = self
            .aead
            .open_in_place(&self.nonce(number), aad, body)
            .map_err(|_| OpenError::Forged)?;
        let start = header_len + explicit;
        if with_id {
            inner(&body[..len], start)
        } else {
            Ok((content_type, start..start + len))
        }
    }

    fn nonce(&self, number: u64) -> [u8; aead::NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

/// The additional data of 1.2 (RFC 5246 section 6.2.3.3), and its form with a connection ID
/// (RFC 9146 section 5.3). `header` is the legacy one.
fn aad12<'a>(
    aad: &'a mut [u8; MAX_AAD],
    header: &[u8],
    connection_id: &[u8],
    text_len: usize,
) -> &'a [u8] {
    let length = (text_len as u16).to_be_bytes();
    if connection_id.is_empty() {
        aad[..8].copy_from_slice(&header[3..11]);
        aad[8..11].copy_from_slice(&header[..3]);
        aad[11..13].copy_from_slice(&length);
        return &aad[..13];
    }
    let id_len = connection_id.len();
    aad[..8].copy_from_slice(&[0xff; 8]);
    aad[8] = ContentType::TLS12_CID.0;
    aad[9] = id_len as u8;
    aad[10..21 + id_len].copy_from_slice(&header[..11 + id_len]);
    aad[21 + id_len..23 + id_len].copy_from_slice(&length);
    &aad[..23 + id_len]
}

/// The content of an inner plaintext: zeros off its end, then the type (RFC 9147 section 4).
fn inner(plaintext: &[u8], start: usize) -> Result<(ContentType, Range<usize>), OpenError> {
    let end = plaintext
        .iter()
        .rposition(|&byte| byte != 0)
        .ok_or(OpenError::Malformed)?;
    Ok((ContentType(plaintext[end]), start..start + end))
}
