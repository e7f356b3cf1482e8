//! The transforms: what the keys of a profile do to a packet whose index is known.

use std::fmt;

use visavis_crypto::cipher::AesCtr;
use visavis_crypto::{HashAlgorithm, Zeroizing, aead, hmac};

use crate::keys::{Derivation, Label};
use crate::packet::{EXTENSION_HEADER, FIXED_HEADER, RTCP_HEADER};
use crate::{Error, Profile};

/// The session keys of SRTP or of SRTCP. They stand in the context itself: a server that goes
/// through many contexts would wait for a pointer first.
pub(crate) enum Transform {
    /// AES in counter mode and HMAC-SHA1 (RFC 3711 section 4, RFC 6188).
    Counter {
        cipher: AesCtr,
        salt: CounterSalt,
        mac: hmac::Key,
        tag_len: usize,
    },
    /// AES-GCM (RFC 7714).
    Gcm { key: aead::Key, salt: GcmSalt },
}

/// The E-flag of SRTCP: the packet is encrypted.
pub(crate) const ENCRYPTED: u32 = 1 << 31;
/// Length of the E-flag and the SRTCP index.
pub(crate) const RTCP_TRAILER: usize = 4;

/// What of an RTP packet is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cover {
    /// What stands behind the header, which ends here.
    Payload(usize),
    /// Contributing sources, header extension and payload (RFC 9335); the sources end here.
    Cryptex(usize),
}

impl Transform {
    pub(crate) fn rtp(profile: Profile, derivation: &Derivation) -> Result<Self, Error> {
        Self::new(
            profile,
            profile.rtp_overhead(),
            derivation,
            [
                Label::RtpEncryption,
                Label::RtpAuthentication,
                Label::RtpSalt,
            ],
        )
    }

    pub(crate) fn rtcp(profile: Profile, derivation: &Derivation) -> Result<Self, Error> {
        Self::new(
            profile,
            profile.rtcp_tag_len(),
            derivation,
            [
                Label::RtcpEncryption,
                Label::RtcpAuthentication,
                Label::RtcpSalt,
            ],
        )
    }

    fn new(
        profile: Profile,
        tag_len: usize,
        derivation: &Derivation,
        [encryption, authentication, salt]: [Label; 3],
    ) -> Result<Self, Error> {
        let key = derivation.derive::<32>(encryption);
        let key = &key[..profile.key_len()];
        if profile.is_aead() {
            let algorithm = match profile {
                Profile::AeadAes128Gcm => aead::Algorithm::Aes128Gcm,
                _ => aead::Algorithm::Aes256Gcm,
            };
            Ok(Self::Gcm {
                key: aead::Key::new(algorithm, key).map_err(|_| Error::InvalidKey)?,
                salt: GcmSalt::new(&derivation.derive(salt)),
            })
        } else {
            let mac = derivation.derive::<20>(authentication);
            Ok(Self::Counter {
                cipher: AesCtr::new(key).map_err(|_| Error::InvalidKey)?,
                salt: CounterSalt::new(&derivation.derive(salt)),
                mac: hmac::Key::new(HashAlgorithm::Sha1, &*mac),
                tag_len,
            })
        }
    }

    /// Protects the first `len` bytes of `buf`, behind which there is room for the tag; gives the
    /// length of the SRTP packet.
    #[inline]
    pub(crate) fn protect_rtp(
        &self,
        buf: &mut [u8],
        len: usize,
        ssrc: u32,
        index: u64,
        cover: Cover,
    ) -> usize {
        match self {
            Self::Counter {
                cipher,
                salt,
                mac,
                tag_len,
            } => {
                let (packet, tail) = buf.split_at_mut(len);
                let iv = salt.block(ssrc, index);
                covered(packet, cover, |_, text| cipher.apply(&iv, text));
                let rollover = ((index >> 16) as u32).to_be_bytes();
                write_tag(tail, &mac.sign(&[packet, &rollover]), *tag_len);
                len + tag_len
            }
            Self::Gcm { key, salt } => {
                let (packet, tail) = buf.split_at_mut(len);
                let nonce = salt.rtp_nonce(ssrc, index);
                let tag = covered(packet, cover, |aad, text| {
                    key.seal_in_place(&nonce, aad, text)
                });
                tail[..aead::TAG_LEN].copy_from_slice(&tag);
                len + aead::TAG_LEN
            }
        }
    }

    /// Checks and decrypts an SRTP packet that is longer than its header and its tag; gives the
    /// length of the RTP packet.
    pub(crate) fn unprotect_rtp(
        &self,
        packet: &mut [u8],
        ssrc: u32,
        index: u64,
        cover: Cover,
    ) -> Result<usize, Error> {
        match self {
            Self::Counter {
                cipher,
                salt,
                mac,
                tag_len,
            } => {
                let len = packet.len() - tag_len;
                let (packet, tag) = packet.split_at_mut(len);
                let rollover = ((index >> 16) as u32).to_be_bytes();
                mac.verify(&[packet, &rollover], tag)
                    .map_err(|_| Error::Authentication)?;
                let iv = salt.block(ssrc, index);
                covered(packet, cover, |_, text| cipher.apply(&iv, text));
                Ok(len)
            }
            Self::Gcm { key, salt } => {
                let nonce = salt.rtp_nonce(ssrc, index);
                covered(packet, cover, |aad, text| {
                    key.open_in_place(&nonce, aad, text)
                })
                .map_err(|_| Error::Authentication)?;
                Ok(packet.len() - aead::TAG_LEN)
            }
        }
    }

    /// Protects the first `len` bytes of `buf`, an RTCP packet, with room behind for trailer and
    /// tag; gives the length of the SRTCP packet.
    pub(crate) fn protect_rtcp(
        &self,
        buf: &mut [u8],
        len: usize,
        ssrc: u32,
        index: u32,
        encrypt: bool,
    ) -> usize {
        let trailer = if encrypt { index | ENCRYPTED } else { index }.to_be_bytes();
        match self {
            Self::Counter {
                cipher,
                salt,
                mac,
                tag_len,
            } => {
                if encrypt {
                    let iv = salt.block(ssrc, u64::from(index));
                    cipher.apply(&iv, &mut buf[RTCP_HEADER..len]);
                }
                buf[len..len + RTCP_TRAILER].copy_from_slice(&trailer);
                let (packet, tail) = buf.split_at_mut(len + RTCP_TRAILER);
                write_tag(tail, &mac.sign(&[packet]), *tag_len);
                len + RTCP_TRAILER + tag_len
            }
            Self::Gcm { key, salt } => {
                let nonce = salt.rtcp_nonce(ssrc, index);
                let tag = if encrypt {
                    let (header, text) = buf[..len].split_at_mut(RTCP_HEADER);
                    let mut aad = [0; RTCP_HEADER + RTCP_TRAILER];
                    aad[..RTCP_HEADER].copy_from_slice(header);
                    aad[RTCP_HEADER..].copy_from_slice(&trailer);
                    key.seal_in_place(&nonce, &aad, text)
                } else {
                    // The trailer is part of the associated data, in which it follows the packet.
                    buf[len..len + RTCP_TRAILER].copy_from_slice(&trailer);
                    key.seal_in_place(&nonce, &buf[..len + RTCP_TRAILER], &mut [])
                };
                let end = len + aead::TAG_LEN;
                buf[len..end].copy_from_slice(&tag);
                buf[end..end + RTCP_TRAILER].copy_from_slice(&trailer);
                end + RTCP_TRAILER
            }
        }
    }

    /// The trailer (E-flag and index) of an SRTCP packet that is long enough to have one.
    pub(crate) fn rtcp_trailer(&self, packet: &[u8]) -> u32 {
        let end = match self {
            Self::Counter { tag_len, .. } => packet.len() - tag_len,
            Self::Gcm { .. } => packet.len(),
        };
        crate::packet::u32_at(packet, end - RTCP_TRAILER)
    }

    /// Checks and decrypts an SRTCP packet that is long enough for header, trailer and tag; gives
    /// the length of the RTCP packet.
    pub(crate) fn unprotect_rtcp(
        &self,
        packet: &mut [u8],
        ssrc: u32,
        trailer: u32,
    ) -> Result<usize, Error> {
        let index = trailer & !ENCRYPTED;
        let encrypted = trailer & ENCRYPTED != 0;
        match self {
            Self::Counter {
                cipher,
                salt,
                mac,
                tag_len,
            } => {
                let len = packet.len() - tag_len;
                let (packet, tag) = packet.split_at_mut(len);
                mac.verify(&[packet], tag)
                    .map_err(|_| Error::Authentication)?;
                let len = len - RTCP_TRAILER;
                if encrypted {
                    let iv = salt.block(ssrc, u64::from(index));
                    cipher.apply(&iv, &mut packet[RTCP_HEADER..len]);
                }
                Ok(len)
            }
            Self::Gcm { key, salt } => {
                let nonce = salt.rtcp_nonce(ssrc, index);
                let sealed = packet.len() - RTCP_TRAILER;
                let len = sealed - aead::TAG_LEN;
                if encrypted {
                    let (header, text) = packet[..sealed].split_at_mut(RTCP_HEADER);
                    let mut aad = [0; RTCP_HEADER + RTCP_TRAILER];
                    aad[..RTCP_HEADER].copy_from_slice(header);
                    aad[RTCP_HEADER..].copy_from_slice(&trailer.to_be_bytes());
                    key.open_in_place(&nonce, &aad, text)
                } else {
                    // Bring the trailer next to the packet, as the associated data has it.
                    let mut tag = [0; aead::TAG_LEN];
                    tag.copy_from_slice(&packet[len..sealed]);
                    packet[len..len + RTCP_TRAILER].copy_from_slice(&trailer.to_be_bytes());
                    key.open_in_place(&nonce, &packet[..len + RTCP_TRAILER], &mut tag)
                }
                .map_err(|_| Error::Authentication)?;
                Ok(len)
            }
        }
    }
}

impl fmt::Debug for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter { .. } => "Counter",
            Self::Gcm { .. } => "Gcm",
        })
    }
}

/// Writes the first `len` bytes of a MAC.
#[inline]
fn write_tag(out: &mut [u8], mac: &[u8], len: usize) {
    // A copy of known length is an instruction or two, one of unknown length a call.
    if len == 10 {
        out[..10].copy_from_slice(&mac[..10]);
    } else {
        out[..len].copy_from_slice(&mac[..len]);
    }
}

/// Gives `work` what is authenticated only and what is encrypted. For Cryptex the extension's
/// four-byte header stands before the contributing sources meanwhile, so that what is encrypted is
/// in one piece (RFC 9335 section 6.1).
#[inline]
fn covered<R>(packet: &mut [u8], cover: Cover, work: impl FnOnce(&[u8], &mut [u8]) -> R) -> R {
    match cover {
        Cover::Payload(header) => {
            let (aad, text) = packet.split_at_mut(header);
            work(aad, text)
        }
        Cover::Cryptex(csrc_end) => {
            let moved = FIXED_HEADER..csrc_end + EXTENSION_HEADER;
            packet[moved.clone()].rotate_right(EXTENSION_HEADER);
            let (aad, text) = packet.split_at_mut(FIXED_HEADER + EXTENSION_HEADER);
            let result = work(aad, text);
            packet[moved].rotate_left(EXTENSION_HEADER);
            result
        }
    }
}

/// The session salt of AES-CM, where it stands in a counter block.
pub(crate) struct CounterSalt(Zeroizing<u128>);

impl CounterSalt {
    pub(crate) fn new(salt: &[u8; 14]) -> Self {
        let mut block = Zeroizing::new([0; 16]);
        block[..14].copy_from_slice(salt);
        Self(Zeroizing::new(u128::from_be_bytes(*block)))
    }

    /// The first counter block of a packet (RFC 3711 section 4.1.1). An SRTCP index takes the place
    /// of the RTP packet's.
    #[inline]
    pub(crate) fn block(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let packet = u128::from(ssrc) << 64 | u128::from(index) << 16;
        (*self.0 ^ packet).to_be_bytes()
    }
}

/// The session salt of AES-GCM: the low 96 bits.
pub(crate) struct GcmSalt(Zeroizing<u128>);

impl GcmSalt {
    fn new(salt: &[u8; 12]) -> Self {
        let mut block = Zeroizing::new([0; 16]);
        block[4..].copy_from_slice(salt);
        Self(Zeroizing::new(u128::from_be_bytes(*block)))
    }

    /// RFC 7714 section 8.1.
    #[inline]
    fn rtp_nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let packet = u128::from(ssrc) << 48 | u128::from(index);
        let block = (*self.0 ^ packet).to_be_bytes();
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&block[4..]);
        nonce
    }

    /// RFC 7714 section 9.1: two zero bytes stand where an RTP packet has the high half of its
    /// index.
    fn rtcp_nonce(&self, ssrc: u32, index: u32) -> [u8; 12] {
        self.rtp_nonce(ssrc, u64::from(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::hex;

    const PACKET: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973
        20646976 69736120 696e2070 61727465 73207472 6573";
    const RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930
        4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef";

    fn gcm(algorithm: aead::Algorithm) -> Transform {
        let key: Vec<u8> = (0..algorithm.key_len() as u8).collect();
        Transform::Gcm {
            key: aead::Key::new(algorithm, &key).unwrap(),
            salt: GcmSalt::new(b"Quid pro quo"),
        }
    }

    fn check_rtp(transform: &Transform, expected: &str) {
        let plain = hex(PACKET);
        let mut buf = [&plain[..], &[0; 16]].concat();
        let cover = Cover::Payload(12);
        let len = transform.protect_rtp(&mut buf, plain.len(), 0x5501_a0b2, 0xf17b, cover);
        assert_eq!(buf[..len], hex(expected));
        let len = transform.unprotect_rtp(&mut buf, 0x5501_a0b2, 0xf17b, cover);
        assert_eq!(&buf[..len.unwrap()], plain);
    }

    fn check_rtcp(transform: &Transform, encrypt: bool, expected: &str) {
        let plain = hex(RTCP);
        let mut buf = [&plain[..], &[0; 20]].concat();
        let len = transform.protect_rtcp(&mut buf, plain.len(), 0x4d61_7273, 0x5d4, encrypt);
        assert_eq!(buf[..len], hex(expected));
        let trailer = transform.rtcp_trailer(&buf);
        assert_eq!(trailer, 0x5d4 | if encrypt { ENCRYPTED } else { 0 });
        let len = transform.unprotect_rtcp(&mut buf, 0x4d61_7273, trailer);
        assert_eq!(&buf[..len.unwrap()], plain);
    }

    #[test]
    fn rfc7714_section_16_1_1() {
        check_rtp(
            &gcm(aead::Algorithm::Aes128Gcm),
            "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
             0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        );
    }

    #[test]
    fn rfc7714_section_16_2_1() {
        check_rtp(
            &gcm(aead::Algorithm::Aes256Gcm),
            "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
             9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        );
    }

    #[test]
    fn rfc7714_section_17_1() {
        check_rtcp(
            &gcm(aead::Algorithm::Aes128Gcm),
            true,
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
             c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872
             45d9eade 800005d4",
        );
    }

    #[test]
    fn rfc7714_section_17_2() {
        check_rtcp(
            &gcm(aead::Algorithm::Aes256Gcm),
            true,
            "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50
             a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c
             b26ac3be 800005d4",
        );
    }

    #[test]
    fn rfc7714_section_17_3() {
        check_rtcp(
            &gcm(aead::Algorithm::Aes128Gcm),
            false,
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
             deadbeef deadbeef deadbeef deadbeef deadbeef 841dd968 3dd78ec9 2ae58790
             125f62b3 000005d4",
        );
    }

    #[test]
    fn rfc7714_section_17_4() {
        check_rtcp(
            &gcm(aead::Algorithm::Aes256Gcm),
            false,
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
             deadbeef deadbeef deadbeef deadbeef deadbeef 91db4afb feee5a97 8fab4393
             ed2615fe 000005d4",
        );
    }

    fn check_keystream(key: &str, blocks: [(usize, &str); 2]) {
        let mut salt = [0; 14];
        salt.copy_from_slice(&hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd"));
        let mut keystream = vec![0; 1_044_512];
        AesCtr::new(&hex(key))
            .unwrap()
            .apply(&CounterSalt::new(&salt).block(0, 0), &mut keystream);
        for (block, expected) in blocks {
            let expected = hex(expected);
            assert_eq!(keystream[16 * block..][..expected.len()], expected);
        }
    }

    #[test]
    fn rfc3711_appendix_b_2() {
        check_keystream(
            "2B7E151628AED2A6ABF7158809CF4F3C",
            [
                (
                    0,
                    "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB
                     41E95B3BB0A2E8DD477901E4FCA894C0",
                ),
                (
                    0xfeff,
                    "EC8CDF7398607CB0F2D21675EA9EA1E4362B7C3C6773516318A077D7FC5073AE
                     6A2CC3787889374FBEB4C81B17BA6C44",
                ),
            ],
        );
    }

    #[test]
    fn rfc6188_section_7_1() {
        check_keystream(
            "57f82fe3613fd170a85ec93c40b1f0922ec4cb0dc025b58272147cc438944a98",
            [
                (
                    0,
                    "92bdd28a93c3f52511c677d08b5515a49da71b2378a854f67050756ded165bac
                     63c4868b7096d88421b563b8c94c9a31",
                ),
                (
                    0xfeff,
                    "cea518c90fd91ced9cbb18c078a547113dbc4814f4da5f00a08772b63c6a046d
                     6eb246913062a16891433e97dd01a57f",
                ),
            ],
        );
    }
}
