//! Encryption of header extension elements one by one (RFC 6904).

use std::fmt;

use visavis_crypto::cipher::AesCtr;

use crate::ExtensionIds;
use crate::transform::CounterSalt;

/// The keys of RFC 6904 and the elements that they encrypt.
pub(crate) struct HeaderTransform {
    cipher: AesCtr,
    salt: CounterSalt,
    ids: ExtensionIds,
}

impl HeaderTransform {
    pub(crate) fn new(cipher: AesCtr, salt: CounterSalt, ids: ExtensionIds) -> Self {
        Self { cipher, salt, ids }
    }

    /// Encrypts or decrypts the bodies of the elements that the set names. `elements` is the
    /// extension without its four-byte header, `profile` the "defined by profile" of that. An
    /// element that claims more bytes than there are ends the walk.
    pub(crate) fn apply(&self, ssrc: u32, index: u64, profile: u16, elements: &mut [u8]) {
        let two_byte = match profile {
            0xbede => false,
            0x1000..=0x100f => true,
            _ => return,
        };
        let counter = u128::from_be_bytes(self.salt.block(ssrc, index));
        let mut at = 0;
        while at < elements.len() {
            let id;
            let len;
            if two_byte {
                id = elements[at];
                if id == 0 {
                    at += 1;
                    continue;
                }
                let Some(&byte) = elements.get(at + 1) else {
                    return;
                };
                len = usize::from(byte);
                at += 2;
            } else {
                if elements[at] == 0 {
                    at += 1;
                    continue;
                }
                id = elements[at] >> 4;
                len = usize::from(elements[at] & 0x0f) + 1;
                at += 1;
                // RFC 8285 section 4.2: 15 ends the extension; what follows is nobody's.
                if id == 15 {
                    return;
                }
            }
            let end = at + len;
            if end > elements.len() {
                return;
            }
            if self.ids.contains(id) {
                // The keystream runs along the whole extension; these are its blocks from the one
                // that the body starts in.
                let mut keystream = [0; 16 + 255];
                let start = at % 16;
                let iv = counter.wrapping_add((at / 16) as u128).to_be_bytes();
                self.cipher.apply(&iv, &mut keystream[..start + len]);
                for (byte, key) in elements[at..end].iter_mut().zip(&keystream[start..]) {
                    *byte ^= key;
                }
            }
            at = end;
        }
    }
}

impl fmt::Debug for HeaderTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderTransform")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::hex;

    fn transform(ids: &[u8]) -> HeaderTransform {
        let salt: [u8; 14] = hex("AB01818174C40D39A3781F7C2D27").try_into().unwrap();
        HeaderTransform::new(
            AesCtr::new(&hex("549752054D6FB708622C4A2E596A1B93")).unwrap(),
            CounterSalt::new(&salt),
            ids.iter().copied().collect(),
        )
    }

    #[test]
    fn rfc6904_appendix_a_2() {
        let plain = hex("17414273A475262748220000C8308E4655996386B395FB00");
        let mut elements = plain.clone();
        let transform = transform(&[1, 3, 4]);
        transform.apply(0xcafe_babe, 0x1234, 0xbede, &mut elements);
        assert_eq!(
            elements,
            hex("17588A9270F4E15E1C220000C8309546A994F0BC54789700")
        );
        transform.apply(0xcafe_babe, 0x1234, 0xbede, &mut elements);
        assert_eq!(elements, plain);
    }

    #[test]
    fn two_byte_elements_share_the_keystream_of_one_byte_elements() {
        let body = [0x5a; 200];
        let mut elements = [&[0, 7, 200][..], &body, &[8, 0, 0]].concat();
        let transform = transform(&[7, 8]);
        transform.apply(1, 2, 0x1000, &mut elements);
        assert_eq!(elements[..3], [0, 7, 200]);
        assert_eq!(elements[203..], [8, 0, 0]);
        let mut keystream = [0; 203];
        let iv = transform.salt.block(1, 2);
        transform.cipher.apply(&iv, &mut keystream);
        let expected: Vec<u8> = keystream[3..].iter().map(|byte| byte ^ 0x5a).collect();
        assert_eq!(elements[3..203], expected);
    }

    #[test]
    fn elements_that_claim_too_much_are_left_alone() {
        for (profile, text) in [
            (0xbede, "17 4142"),
            (0xbede, "1f"),
            (0x1000, "01"),
            (0x1000, "01ff00"),
            (0x1234, "10aa"),
            (0xbede, "f0aa10aa"),
        ] {
            let mut elements = hex(text);
            transform(&[1]).apply(1, 2, profile, &mut elements);
            assert_eq!(elements, hex(text));
        }
    }
}
