//! A context: the keys of one direction, and what is remembered about its streams.

use std::fmt;

use visavis_crypto::cipher::AesCtr;

use crate::header_extension::HeaderTransform;
use crate::index;
use crate::keys::{Derivation, Label};
use crate::options::{Cryptex, Options};
use crate::packet::{self, EXTENSION_HEADER, RTCP_HEADER, RtpHeader};
use crate::replay::ReplayWindow;
use crate::streams::Streams;
use crate::transform::{CounterSalt, Cover, ENCRYPTED, RTCP_TRAILER, Transform};
use crate::{Error, Profile};

/// "Defined by profile" of one-byte header extensions (RFC 8285 section 4.2).
const ONE_BYTE: u16 = 0xbede;
/// "Defined by profile" of two-byte header extensions with no application bits (section 4.3).
const TWO_BYTE: u16 = 0x1000;
/// What Cryptex writes in place of [`ONE_BYTE`] (RFC 9335 section 4).
const CRYPTEX_ONE_BYTE: u16 = 0xc0de;
/// What Cryptex writes in place of [`TWO_BYTE`].
const CRYPTEX_TWO_BYTE: u16 = 0xc2de;

/// The first index that SRTCP does not have.
const RTCP_INDEX_END: u32 = 1 << 31;

/// Protects the packets that one side of a transport sends, or unprotects them at the other side.
///
/// A context is for one direction: its master key is the sender's. One that both protects and
/// unprotects under the same key would use nonces twice.
pub struct Context {
    profile: Profile,
    options: Options,
    rtp: Transform,
    rtcp: Transform,
    header: Option<Box<HeaderTransform>>,
    sent_rtp: Streams<ReplayWindow>,
    sent_rtcp: Streams<u32>,
    received_rtp: Streams<ReplayWindow>,
    received_rtcp: Streams<ReplayWindow>,
    stats: Stats,
}

/// What a context counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// RTP packets protected.
    pub rtp_protected: u64,
    /// RTCP packets protected.
    pub rtcp_protected: u64,
    /// RTP packets unprotected.
    pub rtp_unprotected: u64,
    /// RTCP packets unprotected.
    pub rtcp_unprotected: u64,
    /// Received packets that are no SRTP or SRTCP.
    pub malformed: u64,
    /// Received packets whose tag was wrong.
    pub authentication_failures: u64,
    /// Received packets that came twice or too late.
    pub replayed: u64,
    /// Received packets that were not encrypted though the options demand it.
    pub unencrypted: u64,
    /// Received packets of one stream too many.
    pub streams_refused: u64,
}

impl Context {
    /// A context from a master key and salt of the profile's lengths.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for other lengths.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8], options: Options) -> Result<Self, Error> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(Error::InvalidKey);
        }
        let derivation = Derivation::new(key, salt)?;
        let header = if options.encrypted_extensions.is_empty() {
            None
        } else {
            let key = derivation.derive::<32>(Label::HeaderEncryption);
            // A salt of the profile's length (RFC 6904 section 3); AES-CM sees zeros behind a
            // shorter one.
            let mut salt = derivation.derive::<14>(Label::HeaderSalt);
            salt[profile.salt_len()..].fill(0);
            Some(Box::new(HeaderTransform::new(
                AesCtr::new(&key[..profile.key_len()]).map_err(|_| Error::InvalidKey)?,
                CounterSalt::new(&salt),
                options.encrypted_extensions,
            )))
        };
        let max = options.max_streams;
        Ok(Self {
            profile,
            rtp: Transform::rtp(profile, &derivation)?,
            rtcp: Transform::rtcp(profile, &derivation)?,
            header,
            sent_rtp: Streams::new(max),
            sent_rtcp: Streams::new(max),
            received_rtp: Streams::new(max),
            received_rtcp: Streams::new(max),
            stats: Stats::default(),
            options,
        })
    }

    /// The profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What was counted since the context was made.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How many bytes an RTP packet may grow by under this context's options.
    pub fn rtp_overhead(&self) -> usize {
        match self.options.cryptex {
            Cryptex::Accept => self.profile.rtp_overhead(),
            Cryptex::Send | Cryptex::Require => self.profile.rtp_overhead() + EXTENSION_HEADER,
        }
    }

    /// How many bytes an RTCP packet grows by.
    pub fn rtcp_overhead(&self) -> usize {
        self.profile.rtcp_overhead()
    }

    /// Reads what [`protect_rtp`](Self::protect_rtp) will touch of the stream that was sent last, and does nothing else:
    /// who goes through many contexts asks the next one, so that caches fetch it meanwhile.
    pub fn warm(&self) {
        std::hint::black_box((self.stats.rtp_protected, self.options.cryptex, &self.header));
        if let Some(window) = self.sent_rtp.latest() {
            std::hint::black_box((window.highest(), window.is_fresh(window.highest())));
        }
    }

    /// Protects the RTP packet in the first `len` bytes of `buf`, behind which there is room for
    /// [`Context::rtp_overhead`] more; gives the length of the SRTP packet.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::NoRoom`], [`Error::IndexUsed`], [`Error::TooManyStreams`],
    /// [`Error::KeyExhausted`], [`Error::UnsupportedExtension`]. The packet is unchanged then.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, Error> {
        let mut header = RtpHeader::parse(buf.get(..len).ok_or(Error::NoRoom)?)?;
        let cryptex = self.options.cryptex != Cryptex::Accept
            && (header.extension.is_some() || header.has_csrcs());
        // Cryptex needs a header extension to say that the contributing sources are encrypted.
        let added = if cryptex && header.extension.is_none() {
            EXTENSION_HEADER
        } else {
            0
        };
        if buf.len() < len + added + self.profile.rtp_overhead() {
            return Err(Error::NoRoom);
        }
        let hidden = match (cryptex, header.extension) {
            // The receiver would take it for Cryptex.
            (false, Some(CRYPTEX_ONE_BYTE | CRYPTEX_TWO_BYTE)) => {
                return Err(Error::UnsupportedExtension);
            }
            (false, _) => None,
            (true, None | Some(ONE_BYTE)) => Some(CRYPTEX_ONE_BYTE),
            (true, Some(TWO_BYTE)) => Some(CRYPTEX_TWO_BYTE),
            (true, Some(_)) => return Err(Error::UnsupportedExtension),
        };
        let index = self.next_index(&header)?;

        let mut len = len;
        let cover = if let Some(hidden) = hidden {
            if added != 0 {
                buf.copy_within(header.len..len, header.len + added);
                buf[0] |= 0x10;
                buf[header.csrc_end + 2..header.csrc_end + 4].fill(0);
                header.len += added;
                len += added;
            }
            buf[header.csrc_end..header.csrc_end + 2].copy_from_slice(&hidden.to_be_bytes());
            Cover::Cryptex(header.csrc_end)
        } else {
            if let (Some(transform), Some(extension)) = (&self.header, header.extension) {
                transform.apply(header.ssrc, index, extension, &mut buf[header.elements()]);
            }
            Cover::Payload(header.len)
        };
        self.stats.rtp_protected += 1;
        Ok(self.rtp.protect_rtp(buf, len, header.ssrc, index, cover))
    }

    /// Writes the SRTP packet of an RTP header (with contributing sources and extension) and a
    /// payload to `out`; gives its length. Nothing of `out` beyond it counts.
    ///
    /// # Errors
    /// As [`Context::protect_rtp`]; `out` has then unspecified content.
    pub fn protect_into(
        &mut self,
        header: &[u8],
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let len = header.len() + payload.len();
        if out.len() < len {
            return Err(Error::NoRoom);
        }
        out[..header.len()].copy_from_slice(header);
        out[header.len()..len].copy_from_slice(payload);
        self.protect_rtp(out, len)
    }

    /// Checks and decrypts an SRTP packet in place; gives the length of the RTP packet, which
    /// starts where the SRTP packet did. After a failure the content is unspecified.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Replayed`], [`Error::Authentication`],
    /// [`Error::Unencrypted`], [`Error::TooManyStreams`]. Each is counted in [`Stats`].
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, Error> {
        let result = self.try_unprotect_rtp(packet);
        match result {
            Ok(_) => self.stats.rtp_unprotected += 1,
            Err(error) => self.count(error),
        }
        result
    }

    fn try_unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, Error> {
        let header = RtpHeader::parse(packet)?;
        if packet.len() < header.len + self.profile.rtp_overhead() {
            return Err(Error::Malformed);
        }
        let shown = match header.extension {
            Some(CRYPTEX_ONE_BYTE) => Some(ONE_BYTE),
            Some(CRYPTEX_TWO_BYTE) => Some(TWO_BYTE),
            _ => None,
        };
        if self.options.cryptex == Cryptex::Require
            && shown.is_none()
            && (header.extension.is_some() || header.has_csrcs())
        {
            return Err(Error::Unencrypted);
        }
        let place = self.received_rtp.find(header.ssrc);
        let index = match place {
            Some(place) => {
                let window = self.received_rtp.at(place);
                let index = index::guess(window.highest(), header.sequence);
                if index >= index::END || !window.is_fresh(index) {
                    return Err(Error::Replayed);
                }
                index
            }
            None => {
                self.received_rtp.has_room()?;
                u64::from(header.sequence)
            }
        };
        let cover = match shown {
            Some(_) => Cover::Cryptex(header.csrc_end),
            None => Cover::Payload(header.len),
        };
        let len = self.rtp.unprotect_rtp(packet, header.ssrc, index, cover)?;

        // Authentic from here on.
        match place {
            Some(place) => self.received_rtp.at(place).insert(index),
            None => {
                let mut window = ReplayWindow::new(self.options.rtp_replay_window, index);
                window.insert(index);
                self.received_rtp.insert(header.ssrc, window);
            }
        }
        if let Some(shown) = shown {
            packet[header.csrc_end..header.csrc_end + 2].copy_from_slice(&shown.to_be_bytes());
        } else if let (Some(transform), Some(extension)) = (&self.header, header.extension) {
            transform.apply(
                header.ssrc,
                index,
                extension,
                &mut packet[header.elements()],
            );
        }
        Ok(len)
    }

    /// Protects the (compound) RTCP packet in the first `len` bytes of `buf`, behind which there is
    /// room for [`Context::rtcp_overhead`] more; gives the length of the SRTCP packet.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::NoRoom`], [`Error::TooManyStreams`],
    /// [`Error::KeyExhausted`]. The packet is unchanged then.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, Error> {
        let ssrc = packet::rtcp_ssrc(buf.get(..len).ok_or(Error::NoRoom)?)?;
        if buf.len() < len + self.profile.rtcp_overhead() {
            return Err(Error::NoRoom);
        }
        let index = match self.sent_rtcp.find(ssrc) {
            Some(place) => {
                let next = self.sent_rtcp.at(place);
                let index = *next;
                if index == RTCP_INDEX_END {
                    return Err(Error::KeyExhausted);
                }
                *next += 1;
                index
            }
            None => {
                self.sent_rtcp.has_room()?;
                self.sent_rtcp.insert(ssrc, 1);
                0
            }
        };
        self.stats.rtcp_protected += 1;
        let encrypt = self.options.encrypt_rtcp;
        Ok(self.rtcp.protect_rtcp(buf, len, ssrc, index, encrypt))
    }

    /// Checks and decrypts an SRTCP packet in place; gives the length of the RTCP packet, which
    /// starts where the SRTCP packet did. After a failure the content is unspecified.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Replayed`], [`Error::Authentication`],
    /// [`Error::Unencrypted`], [`Error::TooManyStreams`]. Each is counted in [`Stats`].
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Error> {
        let result = self.try_unprotect_rtcp(packet);
        match result {
            Ok(_) => self.stats.rtcp_unprotected += 1,
            Err(error) => self.count(error),
        }
        result
    }

    fn try_unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Error> {
        let ssrc = packet::rtcp_ssrc(packet)?;
        if packet.len() < RTCP_HEADER + self.profile.rtcp_tag_len() + RTCP_TRAILER {
            return Err(Error::Malformed);
        }
        let trailer = self.rtcp.rtcp_trailer(packet);
        if trailer & ENCRYPTED == 0 && !self.options.accept_unencrypted_rtcp {
            return Err(Error::Unencrypted);
        }
        let index = u64::from(trailer & !ENCRYPTED);
        let place = self.received_rtcp.find(ssrc);
        match place {
            Some(place) if !self.received_rtcp.at(place).is_fresh(index) => {
                return Err(Error::Replayed);
            }
            Some(_) => {}
            None => self.received_rtcp.has_room()?,
        }
        let len = self.rtcp.unprotect_rtcp(packet, ssrc, trailer)?;

        // Authentic from here on.
        match place {
            Some(place) => self.received_rtcp.at(place).insert(index),
            None => {
                let mut window = ReplayWindow::new(self.options.rtcp_replay_window, index);
                window.insert(index);
                self.received_rtcp.insert(ssrc, window);
            }
        }
        Ok(len)
    }

    /// Forgets what was received of a stream that is over; false if there was none. What was sent
    /// is never forgotten, because the stream would then start again at an index that was used. A
    /// packet of it that is replayed later passes as the first of a new stream.
    pub fn remove_stream(&mut self, ssrc: u32) -> bool {
        let rtp = self.received_rtp.remove(ssrc);
        self.received_rtcp.remove(ssrc) | rtp
    }

    /// How many streams were received: RTP and RTCP counted apart.
    pub fn received_streams(&self) -> (usize, usize) {
        (self.received_rtp.len(), self.received_rtcp.len())
    }

    /// The roll-over counter of a stream that was sent.
    pub fn sent_rollover(&self, ssrc: u32) -> Option<u32> {
        Some((self.sent_rtp.get(ssrc)?.highest() >> 16) as u32)
    }

    /// The roll-over counter of a stream that was received.
    pub fn received_rollover(&self, ssrc: u32) -> Option<u32> {
        Some((self.received_rtp.get(ssrc)?.highest() >> 16) as u32)
    }

    /// The index of a packet that is to be sent, which is used by this.
    fn next_index(&mut self, header: &RtpHeader) -> Result<u64, Error> {
        let Some(place) = self.sent_rtp.find(header.ssrc) else {
            self.sent_rtp.has_room()?;
            let index = u64::from(header.sequence);
            let mut window = ReplayWindow::new(self.options.rtp_replay_window, index);
            window.insert(index);
            self.sent_rtp.insert(header.ssrc, window);
            return Ok(index);
        };
        let window = self.sent_rtp.at(place);
        let index = index::guess(window.highest(), header.sequence);
        if index >= index::END {
            return Err(Error::KeyExhausted);
        }
        if window.is_fresh(index) {
            window.insert(index);
        } else if !self.options.allow_index_reuse {
            return Err(Error::IndexUsed);
        }
        Ok(index)
    }

    fn count(&mut self, error: Error) {
        let stats = &mut self.stats;
        let counter = match error {
            Error::Authentication => &mut stats.authentication_failures,
            Error::Replayed => &mut stats.replayed,
            Error::Unencrypted => &mut stats.unencrypted,
            Error::TooManyStreams => &mut stats.streams_refused,
            _ => &mut stats.malformed,
        };
        *counter += 1;
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("profile", &self.profile)
            .field("options", &self.options)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// One receiver of a packet that goes to many.
#[derive(Debug)]
pub struct Slot<'a> {
    /// What is sent to the receiver is protected with.
    pub context: &'a mut Context,
    /// The RTP header that the receiver gets, with contributing sources and extension.
    pub header: &'a [u8],
    /// Where its SRTP packet is written.
    pub out: &'a mut [u8],
}

/// Protects one payload for many receivers, each with its own keys, header and output. `written` is
/// told in their order how long each SRTP packet is, or why there is none ([`Context::protect_into`]).
///
/// The slots come one by one from an iterator, so that a forwarding server goes through the
/// receivers where they stand and makes no list of them per packet:
///
/// ```
/// # use visavis_srtp::{Context, Options, Profile, Slot, protect_many};
/// # let context = || Context::new(Profile::AeadAes128Gcm, &[1; 16], &[2; 12], Options::default());
/// struct Receiver {
///     context: Context,
///     header: [u8; 12],
///     out: Vec<u8>,
/// }
/// # let header = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
/// # let receiver = || Ok::<_, visavis_srtp::Error>(Receiver { context: context()?, header, out: vec![0; 1500] });
/// let mut receivers = vec![receiver()?, receiver()?];
/// let mut lengths = Vec::with_capacity(receivers.len()); // used again for each packet
/// let slots = receivers.iter_mut().map(|receiver| Slot {
///     context: &mut receiver.context,
///     header: &receiver.header,
///     out: &mut receiver.out,
/// });
/// protect_many(b"payload", slots, |length| lengths.push(length));
/// assert_eq!(lengths, [Ok(12 + 7 + 16); 2]);
/// # Ok::<(), visavis_srtp::Error>(())
/// ```
pub fn protect_many<'a>(
    payload: &[u8],
    slots: impl IntoIterator<Item = Slot<'a>>,
    mut written: impl FnMut(Result<usize, Error>),
) {
    for slot in slots {
        written(slot.context.protect_into(slot.header, payload, slot.out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_with_their_last_index() {
        let mut context = Context::new(
            Profile::AeadAes128Gcm,
            &[1; 16],
            &[2; 12],
            Options::default(),
        )
        .unwrap();
        let mut rtp = [0; 64];
        rtp[..12].copy_from_slice(&[0x80, 96, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1]);
        context
            .sent_rtp
            .insert(1, ReplayWindow::new(64, index::END - 2));
        assert_eq!(context.protect_rtp(&mut rtp, 12), Ok(28));
        assert_eq!(context.sent_rollover(1), Some(u32::MAX));
        rtp[2..4].fill(0);
        assert_eq!(context.protect_rtp(&mut rtp, 12), Err(Error::KeyExhausted));

        let mut rtcp = [0; 64];
        rtcp[..8].copy_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 1]);
        context.sent_rtcp.insert(1, RTCP_INDEX_END - 1);
        assert_eq!(context.protect_rtcp(&mut rtcp, 8), Ok(28));
        assert_eq!(rtcp[24..28], [0xff; 4]);
        assert_eq!(context.protect_rtcp(&mut rtcp, 8), Err(Error::KeyExhausted));

        // A receiver that saw the last index takes what follows for a replay.
        context
            .received_rtp
            .insert(1, ReplayWindow::new(64, index::END - 1));
        assert_eq!(context.unprotect_rtp(&mut rtp[..28]), Err(Error::Replayed));
    }
}
