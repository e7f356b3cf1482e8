//! The key that only those have who know the code, and what is sealed with it.
//!
//! By code: SPAKE2 (RFC 9382's predecessor as the crate `spake2` has it, over Ed25519), the host as A
//! and the guest as B, with the slot as part of both identities. By link: the secret is long enough to
//! be a key itself, mixed with a fresh value of each side. Either way HKDF-SHA-256 gives one AES-256-GCM
//! key per direction. A sealed message is ciphertext and tag in base64; its nonce is its number, four zero
//! bytes and a 64-bit big-endian count from 0 in each direction.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use spake2::{Ed25519Group, Identity, Password, Spake2};
use visavis_crypto::aead::{Algorithm, Key, NONCE_LEN, TAG_LEN};
use visavis_crypto::{HashAlgorithm, hkdf};

/// Which end of the pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Took the slot.
    Host,
    /// Joined it.
    Guest,
}

/// The secret, as one of the two ends holds it.
#[derive(Clone, Copy)]
pub(crate) enum Secret<'a> {
    /// Words of a code.
    Words(&'a str),
    /// A link's secret.
    Link(&'a [u8]),
}

/// A message was not sealed by somebody who knows the secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the code is wrong")]
pub(crate) struct WrongCode;

/// An exchange under way: our share is out, the peer's is awaited.
pub(crate) struct Exchange {
    side: Side,
    slot: String,
    ours: Vec<u8>,
    state: State,
}

enum State {
    Words(Box<Spake2<Ed25519Group>>),
    Link(Vec<u8>),
}

impl Exchange {
    /// Begins; the share is to be sent to the peer.
    pub(crate) fn start(
        side: Side,
        slot: &str,
        secret: Secret<'_>,
    ) -> Result<Self, getrandom::Error> {
        let (state, ours) = match secret {
            Secret::Words(words) => {
                let password = Password::new(words);
                let host = Identity::new(format!("visavis host {slot}").as_bytes());
                let guest = Identity::new(format!("visavis guest {slot}").as_bytes());
                let (state, share) = match side {
                    Side::Host => Spake2::start_a(&password, &host, &guest),
                    Side::Guest => Spake2::start_b(&password, &host, &guest),
                };
                (State::Words(Box::new(state)), share)
            }
            Secret::Link(secret) => {
                let mut fresh = vec![0; 32];
                getrandom::fill(&mut fresh)?;
                (State::Link(secret.to_vec()), fresh)
            }
        };
        Ok(Self {
            side,
            slot: slot.to_owned(),
            ours,
            state,
        })
    }

    /// Our share, in base64.
    pub(crate) fn share(&self) -> String {
        BASE64.encode(&self.ours)
    }

    /// Takes the peer's share.
    pub(crate) fn finish(self, share: &str) -> Result<Seal, WrongCode> {
        let theirs = BASE64.decode(share).map_err(|_| WrongCode)?;
        let (host, guest) = match self.side {
            Side::Host => (&self.ours, &theirs),
            Side::Guest => (&theirs, &self.ours),
        };
        let (input, salt) = match self.state {
            State::Words(state) => (state.finish(&theirs).map_err(|_| WrongCode)?, Vec::new()),
            State::Link(secret) => (secret, [&host[..], &guest[..]].concat()),
        };
        let extracted = hkdf::extract(HashAlgorithm::Sha256, &salt, &input);
        let key = |direction: &str| {
            let mut key = [0; 32];
            let info = [
                b"visavis pairing 1 ",
                direction.as_bytes(),
                b" ",
                self.slot.as_bytes(),
            ];
            hkdf::expand(HashAlgorithm::Sha256, extracted.as_ref(), &info, &mut key)
                .and_then(|()| Key::new(Algorithm::Aes256Gcm, &key))
                .map_err(|_| WrongCode)
        };
        let (to_guest, to_host) = (key("host to guest")?, key("guest to host")?);
        let (send, receive) = match self.side {
            Side::Host => (to_guest, to_host),
            Side::Guest => (to_host, to_guest),
        };
        Ok(Seal {
            send,
            receive,
            sent: 0,
            received: 0,
        })
    }
}

/// The two keys of a pairing.
pub(crate) struct Seal {
    send: Key,
    receive: Key,
    sent: u64,
    received: u64,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

impl Seal {
    /// Seals the next message.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> String {
        let nonce = nonce(self.sent);
        self.sent += 1;
        let mut sealed = plain.to_vec();
        let tag = self.send.seal_in_place(&nonce, b"", &mut sealed);
        sealed.extend_from_slice(&tag);
        BASE64.encode(sealed)
    }

    /// Opens the next message: each is taken once and in its order.
    pub(crate) fn open(&mut self, sealed: &str) -> Result<Vec<u8>, WrongCode> {
        let mut bytes = BASE64.decode(sealed).map_err(|_| WrongCode)?;
        if bytes.len() < TAG_LEN {
            return Err(WrongCode);
        }
        let nonce = nonce(self.received);
        let length = self
            .receive
            .open_in_place(&nonce, b"", &mut bytes)
            .map_err(|_| WrongCode)?;
        self.received += 1;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// The number of the message, so that none can be played twice or in another order.
fn nonce(number: u64) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(host: Secret<'_>, guest: Secret<'_>) -> (Seal, Seal) {
        let host = Exchange::start(Side::Host, "4821", host).unwrap();
        let guest = Exchange::start(Side::Guest, "4821", guest).unwrap();
        let (a, b) = (host.share(), guest.share());
        (host.finish(&b).unwrap(), guest.finish(&a).unwrap())
    }

    #[test]
    fn who_knows_the_code_reads_the_other() {
        for secret in [Secret::Words("copper-tulip"), Secret::Link(&[3; 16])] {
            let (mut host, mut guest) = pair(secret, secret);
            let (first, second) = (host.seal(b"offer"), host.seal(b"candidate"));
            assert_eq!(guest.open(&second), Err(WrongCode), "out of order");
            assert_eq!(guest.open(&first).unwrap(), b"offer");
            assert_eq!(guest.open(&first), Err(WrongCode), "twice");
            assert_eq!(guest.open(&second).unwrap(), b"candidate");
            let answer = guest.seal(b"answer");
            assert_eq!(host.open(&answer).unwrap(), b"answer");
        }
    }

    #[test]
    fn who_does_not_know_it_reads_nothing() {
        let cases = [
            (Secret::Words("copper-tulip"), Secret::Words("copper-raven")),
            (Secret::Link(&[3; 16]), Secret::Link(&[4; 16])),
        ];
        for (host, guest) in cases {
            let (mut host, mut guest) = pair(host, guest);
            assert_eq!(guest.open(&host.seal(b"offer")), Err(WrongCode));
        }
    }

    #[test]
    fn garbage_is_refused() {
        let host = Exchange::start(Side::Host, "4821", Secret::Words("copper")).unwrap();
        assert!(host.finish("!").is_err());
        let (mut host, _) = pair(Secret::Link(&[3; 16]), Secret::Link(&[3; 16]));
        for text in ["", "AAAA", "not base64"] {
            assert_eq!(host.open(text), Err(WrongCode));
        }
    }
}
