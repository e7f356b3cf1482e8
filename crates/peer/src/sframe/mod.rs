//! SFrame: end-to-end encryption of whole frames (RFC 9605), above SRTP, whose keys a forwarder
//! never has.
//!
//! [`SFrameSender`] seals frames under one key, [`SFrameReceiver`] opens frames of many keys. Both
//! are [`FrameTransform`]s; an application may bring transforms of its own.

mod header;
mod suite;

use std::collections::HashMap;
use std::fmt;

pub use self::header::SFrameHeader;
use self::suite::Key;
pub use self::suite::SFrameSuite;

/// What happens to encoded frames between codec and packets (W3C webrtc-encoded-transform).
pub trait FrameTransform: fmt::Debug + Send {
    /// Changes a frame on its way out. `metadata` is authenticated and not sent.
    ///
    /// # Errors
    /// The frame must not be sent.
    fn outgoing(&mut self, metadata: &[u8], frame: &mut Vec<u8>) -> Result<(), SFrameError>;

    /// Changes a frame on its way in.
    ///
    /// # Errors
    /// The frame must not be used.
    fn incoming(&mut self, metadata: &[u8], frame: &mut Vec<u8>) -> Result<(), SFrameError>;
}

/// Why a frame could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SFrameError {
    /// The frame is shorter than a header and a tag.
    #[error("the frame is no SFrame ciphertext")]
    Malformed,
    /// No key has this number.
    #[error("no key has the number {0}")]
    UnknownKey(u64),
    /// The frame was not sealed with the key, or was changed.
    #[error("the frame does not authenticate")]
    Authentication,
    /// The frame was opened before, or is too old to tell.
    #[error("the frame was opened before")]
    Replayed,
    /// The counter has no next value: another key is needed.
    #[error("the key is used up")]
    CounterExhausted,
    /// The key has no bytes, or more keys are there than allowed.
    #[error("the key cannot be used")]
    BadKey,
    /// A sender was asked to open, or a receiver to seal.
    #[error("the transform works the other way only")]
    WrongWay,
}

/// Seals frames under one key.
#[derive(Debug)]
pub struct SFrameSender {
    key: Key,
    counter: Option<u64>,
}

impl SFrameSender {
    /// A sender whose key, under the number `kid`, is derived from `base_key` (RFC 9605
    /// section 4.4.2). A base key must not serve two senders under one number.
    ///
    /// # Errors
    /// [`SFrameError::BadKey`] for an empty key.
    pub fn new(suite: SFrameSuite, kid: u64, base_key: &[u8]) -> Result<Self, SFrameError> {
        Ok(Self {
            key: Key::derive(suite, kid, base_key)?,
            counter: Some(0),
        })
    }

    /// Goes on from a counter value, e.g. after a restart: no value may be used twice.
    pub fn set_counter(&mut self, counter: u64) {
        self.counter = Some(counter);
    }

    /// Seals a frame in place: header, ciphertext, tag.
    ///
    /// # Errors
    /// [`SFrameError::CounterExhausted`].
    pub fn seal(&mut self, metadata: &[u8], frame: &mut Vec<u8>) -> Result<(), SFrameError> {
        let counter = self.counter.ok_or(SFrameError::CounterExhausted)?;
        self.counter = counter.checked_add(1);
        let header = SFrameHeader {
            kid: self.key.kid(),
            counter,
        };
        let mut bytes = [0; SFrameHeader::MAX_LEN];
        let header_len = header.write(&mut bytes);
        let plain = frame.len();
        frame.resize(header_len + plain, 0);
        frame.copy_within(0..plain, header_len);
        frame[..header_len].copy_from_slice(&bytes[..header_len]);
        let (head, text) = frame.split_at_mut(header_len);
        let tag = self.key.seal(counter, head, metadata, text);
        frame.extend_from_slice(tag.as_slice());
        Ok(())
    }
}

/// Opens frames of many keys.
#[derive(Debug)]
pub struct SFrameReceiver {
    suite: SFrameSuite,
    keys: HashMap<u64, Known>,
    max_keys: usize,
}

#[derive(Debug)]
struct Known {
    key: Key,
    replay: Replay,
}

impl SFrameReceiver {
    /// Keys that a receiver holds unless told otherwise.
    pub const DEFAULT_MAX_KEYS: usize = 1024;

    /// A receiver without keys.
    pub fn new(suite: SFrameSuite) -> Self {
        Self {
            suite,
            keys: HashMap::new(),
            max_keys: Self::DEFAULT_MAX_KEYS,
        }
    }

    /// Adds the key with the number `kid`, or replaces it.
    ///
    /// # Errors
    /// [`SFrameError::BadKey`] for an empty key, or where there are too many.
    pub fn add_key(&mut self, kid: u64, base_key: &[u8]) -> Result<(), SFrameError> {
        if self.keys.len() >= self.max_keys && !self.keys.contains_key(&kid) {
            return Err(SFrameError::BadKey);
        }
        let known = Known {
            key: Key::derive(self.suite, kid, base_key)?,
            replay: Replay::default(),
        };
        self.keys.insert(kid, known);
        Ok(())
    }

    /// Forgets a key.
    pub fn remove_key(&mut self, kid: u64) {
        self.keys.remove(&kid);
    }

    /// Opens a frame in place.
    ///
    /// # Errors
    /// Any but [`SFrameError::CounterExhausted`]; the frame's content is then unspecified.
    pub fn open(&mut self, metadata: &[u8], frame: &mut Vec<u8>) -> Result<(), SFrameError> {
        let (header, header_len) = SFrameHeader::parse(frame)?;
        let known = self
            .keys
            .get_mut(&header.kid)
            .ok_or(SFrameError::UnknownKey(header.kid))?;
        if !known.replay.is_new(header.counter) {
            return Err(SFrameError::Replayed);
        }
        let (head, sealed) = frame.split_at_mut(header_len);
        let plain = known.key.open(header.counter, head, metadata, sealed)?;
        known.replay.mark(header.counter);
        frame.copy_within(header_len..header_len + plain, 0);
        frame.truncate(plain);
        Ok(())
    }
}

impl FrameTransform for SFrameSender {
    fn outgoing(&mut self, metadata: &[u8], frame: &mut Vec<u8>) -> Result<(), SFrameError> {
        self.seal(metadata, frame)
    }

    fn incoming(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), SFrameError> {
        Err(SFrameError::WrongWay)
    }
}

impl FrameTransform for SFrameReceiver {
    fn outgoing(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), SFrameError> {
        Err(SFrameError::WrongWay)
    }

    fn incoming(&mut self, metadata: &[u8], frame: &mut Vec<u8>) -> Result<(), SFrameError> {
        self.open(metadata, frame)
    }
}

/// The next key of a chain: whoever has the old one can make the new one, and not the other way
/// round (RFC 9605 section 5.1).
pub fn ratchet(suite: SFrameSuite, base_key: &[u8]) -> Result<visavis_crypto::Secret, SFrameError> {
    suite.ratchet(base_key)
}

/// Which counters were used, among the newest 128 of a key (RFC 9605 section 9.3).
#[derive(Debug, Default)]
struct Replay {
    newest: Option<u64>,
    /// Bit `i`: the counter `newest - i` was used.
    used: u128,
}

impl Replay {
    fn is_new(&self, counter: u64) -> bool {
        match self.newest {
            None => true,
            Some(newest) if counter > newest => true,
            Some(newest) => newest - counter < 128 && self.used >> (newest - counter) & 1 == 0,
        }
    }

    fn mark(&mut self, counter: u64) {
        match self.newest {
            Some(newest) if counter <= newest => self.used |= 1 << (newest - counter),
            newest => {
                let step = newest.map_or(128, |newest| counter - newest);
                self.used = if step < 128 { self.used << step } else { 0 } | 1;
                self.newest = Some(counter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_opened_once_and_only_by_their_key() {
        for suite in SFrameSuite::ALL {
            let mut sender = SFrameSender::new(suite, 300, b"base key").unwrap();
            let mut receiver = SFrameReceiver::new(suite);
            receiver.add_key(300, b"base key").unwrap();
            let mut frame = b"a frame".to_vec();
            sender.seal(b"meta", &mut frame).unwrap();
            let sealed = frame.clone();
            assert_eq!(
                receiver.open(b"other", &mut frame),
                Err(SFrameError::Authentication)
            );
            let mut frame = sealed.clone();
            receiver.open(b"meta", &mut frame).unwrap();
            assert_eq!(frame, b"a frame");
            let mut frame = sealed.clone();
            assert_eq!(
                receiver.open(b"meta", &mut frame),
                Err(SFrameError::Replayed)
            );
            receiver.remove_key(300);
            let mut frame = sealed;
            assert_eq!(
                receiver.open(b"meta", &mut frame),
                Err(SFrameError::UnknownKey(300))
            );
        }
    }

    #[test]
    fn late_frames_are_taken_while_the_window_holds() {
        let mut replay = Replay::default();
        for counter in [500, 400, 373] {
            assert!(replay.is_new(counter), "{counter}");
            replay.mark(counter);
            assert!(!replay.is_new(counter), "{counter}");
        }
        assert!(!replay.is_new(372));
        replay.mark(10_000);
        assert!(!replay.is_new(500) && replay.is_new(9_999));
    }

    #[test]
    fn a_counter_is_never_used_twice() {
        let mut sender = SFrameSender::new(SFrameSuite::Aes128GcmSha256_128, 0, b"k").unwrap();
        sender.set_counter(u64::MAX);
        sender.seal(&[], &mut vec![1]).unwrap();
        assert_eq!(
            sender.seal(&[], &mut vec![1]),
            Err(SFrameError::CounterExhausted)
        );
    }

    #[test]
    fn any_bytes_are_opened_or_refused() {
        let mut random = visavis_datagram::Random::from_u64(1);
        let mut receiver = SFrameReceiver::new(SFrameSuite::Aes128GcmSha256_128);
        receiver.add_key(0, b"k").unwrap();
        for len in 0..200 {
            let mut frame = vec![0; len % 40];
            random.fill(&mut frame);
            assert!(receiver.open(&[], &mut frame).is_err());
        }
    }
}
