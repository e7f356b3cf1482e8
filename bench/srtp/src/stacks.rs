//! The contestants behind one face: keys in, packets in, packets out.

use visavis_crypto::aead::{self, Algorithm};
use visavis_crypto::cipher::AesCtr;
use visavis_crypto::{HashAlgorithm, hmac};
use visavis_srtp::{Context, Options, Profile};

/// Room for a packet and what protection adds.
pub(crate) type Buf = [u8; 1536];

pub(crate) const KEY: [u8; 32] = [0x31; 32];
pub(crate) const SALT: [u8; 14] = [0x73; 14];

/// One direction of one implementation. Both calls give the new length of what stands in `buf`.
pub(crate) trait Stack {
    fn protect(&mut self, buf: &mut Buf, len: usize) -> usize;
    fn unprotect(&mut self, buf: &mut Buf, len: usize) -> usize;
}

pub(crate) fn visavis(profile: Profile) -> Context {
    Context::new(
        profile,
        &KEY[..profile.key_len()],
        &SALT[..profile.salt_len()],
        Options::default(),
    )
    .unwrap()
}

impl Stack for Context {
    fn protect(&mut self, buf: &mut Buf, len: usize) -> usize {
        self.protect_rtp(buf, len).unwrap()
    }

    fn unprotect(&mut self, buf: &mut Buf, len: usize) -> usize {
        self.unprotect_rtp(&mut buf[..len]).unwrap()
    }
}

/// The primitives alone: a fixed header length, nonces that only the sequence number changes.
pub(crate) enum Bare {
    Counter(Box<(AesCtr, hmac::Key)>),
    Gcm(Box<aead::Key>),
}

impl Bare {
    pub(crate) fn new(profile: Profile) -> Self {
        let key = &KEY[..profile.key_len()];
        match profile {
            Profile::AeadAes128Gcm => {
                Self::Gcm(Box::new(aead::Key::new(Algorithm::Aes128Gcm, key).unwrap()))
            }
            Profile::AeadAes256Gcm => {
                Self::Gcm(Box::new(aead::Key::new(Algorithm::Aes256Gcm, key).unwrap()))
            }
            _ => Self::Counter(Box::new((
                AesCtr::new(key).unwrap(),
                hmac::Key::new(HashAlgorithm::Sha1, &KEY[..20]),
            ))),
        }
    }
}

impl Stack for Bare {
    fn protect(&mut self, buf: &mut Buf, len: usize) -> usize {
        let sequence = [buf[2], buf[3]];
        match self {
            Self::Counter(keys) => {
                let mut iv = [0; 16];
                iv[12..14].copy_from_slice(&sequence);
                keys.0.apply(&iv, &mut buf[12..len]);
                let tag = keys.1.sign(&[&buf[..len], &[0; 4]]);
                buf[len..len + 10].copy_from_slice(&tag[..10]);
                len + 10
            }
            Self::Gcm(key) => {
                let mut nonce = [0; 12];
                nonce[10..].copy_from_slice(&sequence);
                let (header, text) = buf[..len].split_at_mut(12);
                let tag = key.seal_in_place(&nonce, header, text);
                buf[len..len + 16].copy_from_slice(&tag);
                len + 16
            }
        }
    }

    fn unprotect(&mut self, buf: &mut Buf, len: usize) -> usize {
        let sequence = [buf[2], buf[3]];
        match self {
            Self::Counter(keys) => {
                let len = len - 10;
                keys.1
                    .verify(&[&buf[..len], &[0; 4]], &buf[len..len + 10])
                    .unwrap();
                let mut iv = [0; 16];
                iv[12..14].copy_from_slice(&sequence);
                keys.0.apply(&iv, &mut buf[12..len]);
                len
            }
            Self::Gcm(key) => {
                let mut nonce = [0; 12];
                nonce[10..].copy_from_slice(&sequence);
                let (header, text) = buf[..len].split_at_mut(12);
                12 + key.open_in_place(&nonce, header, text).unwrap()
            }
        }
    }
}

pub(crate) struct RtcSrtp(rtc_srtp::context::Context);

impl RtcSrtp {
    pub(crate) fn new(profile: Profile) -> Self {
        use rtc_srtp::protection_profile::ProtectionProfile as P;
        let provider = crypto::default_provider().unwrap();
        let other = match profile {
            Profile::AeadAes128Gcm => P::AeadAes128Gcm,
            Profile::AeadAes256Gcm => P::AeadAes256Gcm,
            _ => P::Aes128CmHmacSha1_80,
        };
        Self(
            rtc_srtp::context::Context::new(
                &KEY[..profile.key_len()],
                &SALT[..profile.salt_len()],
                other,
                Some(rtc_srtp::option::srtp_replay_protection(1024)),
                None,
                provider.crypto(),
            )
            .unwrap(),
        )
    }
}

impl Stack for RtcSrtp {
    fn protect(&mut self, buf: &mut Buf, len: usize) -> usize {
        let out = self.0.encrypt_rtp(&buf[..len]).unwrap();
        std::hint::black_box(out).len()
    }

    fn unprotect(&mut self, buf: &mut Buf, len: usize) -> usize {
        let out = self.0.decrypt_rtp(&buf[..len]).unwrap();
        std::hint::black_box(out).len()
    }
}

pub(crate) struct WebrtcSrtp(webrtc_srtp::context::Context);

impl WebrtcSrtp {
    pub(crate) fn new(profile: Profile) -> Self {
        use webrtc_srtp::protection_profile::ProtectionProfile as P;
        let other = match profile {
            Profile::AeadAes128Gcm => P::AeadAes128Gcm,
            Profile::AeadAes256Gcm => P::AeadAes256Gcm,
            _ => P::Aes128CmHmacSha1_80,
        };
        Self(
            webrtc_srtp::context::Context::new(
                &KEY[..profile.key_len()],
                &SALT[..profile.salt_len()],
                other,
                Some(webrtc_srtp::option::srtp_replay_protection(1024)),
                None,
            )
            .unwrap(),
        )
    }
}

impl Stack for WebrtcSrtp {
    fn protect(&mut self, buf: &mut Buf, len: usize) -> usize {
        let out = self.0.encrypt_rtp(&buf[..len]).unwrap();
        std::hint::black_box(out).len()
    }

    fn unprotect(&mut self, buf: &mut Buf, len: usize) -> usize {
        let out = self.0.decrypt_rtp(&buf[..len]).unwrap();
        std::hint::black_box(out).len()
    }
}

#[cfg(libsrtp)]
pub(crate) use libsrtp::Libsrtp;

#[cfg(libsrtp)]
mod libsrtp {
    use std::ffi::{c_int, c_void};

    use visavis_srtp::Profile;

    use super::{Buf, KEY, SALT, Stack};

    unsafe extern "C" {
        fn bench_srtp_new(profile: c_int, key: *mut u8, inbound: c_int) -> *mut c_void;
        fn bench_srtp_protect(session: *mut c_void, packet: *mut u8, len: c_int) -> c_int;
        fn bench_srtp_unprotect(session: *mut c_void, packet: *mut u8, len: c_int) -> c_int;
    }

    pub(crate) struct Libsrtp(*mut c_void);

    impl Libsrtp {
        pub(crate) fn new(profile: Profile, inbound: bool) -> Self {
            let mut key = KEY[..profile.key_len()].to_vec();
            key.extend_from_slice(&SALT[..profile.salt_len()]);
            let number = profile.codepoint().unwrap().into();
            // SAFETY: the key is as long as the profile says and is only read.
            let session = unsafe { bench_srtp_new(number, key.as_mut_ptr(), inbound.into()) };
            assert!(!session.is_null());
            Self(session)
        }
    }

    impl Stack for Libsrtp {
        fn protect(&mut self, buf: &mut Buf, len: usize) -> usize {
            // SAFETY: the session lives, and the buffer has room for the longest tag.
            let len = unsafe { bench_srtp_protect(self.0, buf.as_mut_ptr(), len as c_int) };
            assert!(len > 0);
            len as usize
        }

        fn unprotect(&mut self, buf: &mut Buf, len: usize) -> usize {
            // SAFETY: the session lives, and the packet stands in the buffer.
            let len = unsafe { bench_srtp_unprotect(self.0, buf.as_mut_ptr(), len as c_int) };
            assert!(len > 0);
            len as usize
        }
    }
}
