//! Feedback messages other than those of congestion control: NACK, PLI, FIR, TMMBR, TMMBN, REMB, LNTF
//! (RFC 4585 section 6, RFC 5104 section 4).

use crate::bytes::{Reader, u16_at, u32_at};
use crate::{Error, Result, SequenceNumber, Ssrc};

/// A feedback message whose information was not read (RFC 4585 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFeedback<'a> {
    /// The feedback message type, 0 to 31.
    pub format: u8,
    /// Who sends it.
    pub sender: Ssrc,
    /// The media source that it is about; 0 where the information says so.
    pub media: Ssrc,
    /// Feedback control information, whole words.
    pub information: &'a [u8],
}

impl<'a> RawFeedback<'a> {
    pub(super) fn parse(format: u8, body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "feedback message");
        Ok(Self {
            format,
            sender: Ssrc(reader.u32()?),
            media: Ssrc(reader.u32()?),
            information: reader.rest(),
        })
    }
}

/// One entry of a NACK: a lost packet, and which of the 16 that follow are lost too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NackPair {
    /// The lost packet.
    pub first: SequenceNumber,
    /// Bit `i` is set if packet `first + i + 1` is lost too.
    pub following: u16,
}

impl NackPair {
    /// The lost packets.
    pub fn sequences(self) -> impl Iterator<Item = SequenceNumber> {
        let following = (0..16)
            .filter(move |bit| self.following >> bit & 1 != 0)
            .map(|bit| bit + 1);
        std::iter::once(0)
            .chain(following)
            .map(move |step| self.first.add(step))
    }

    /// Folds lost packets, in serial order, into pairs.
    pub fn fold(lost: impl IntoIterator<Item = SequenceNumber>) -> impl Iterator<Item = NackPair> {
        let mut lost = lost.into_iter().peekable();
        std::iter::from_fn(move || {
            let mut pair = NackPair {
                first: lost.next()?,
                following: 0,
            };
            while let Some(next) =
                lost.next_if(|next| (0..=16).contains(&next.distance(pair.first)))
            {
                let step = next.distance(pair.first);
                if step > 0 {
                    pair.following |= 1 << (step - 1);
                }
            }
            Some(pair)
        })
    }
}

/// A generic NACK (RFC 4585 section 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack<'a> {
    /// Who sends it.
    pub sender: Ssrc,
    /// The source whose packets are lost.
    pub media: Ssrc,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(feedback: RawFeedback<'a>) -> Result<Self> {
        if feedback.information.is_empty() {
            return Err(Error::Truncated("NACK"));
        }
        Ok(Self {
            sender: feedback.sender,
            media: feedback.media,
            pairs: feedback.information,
        })
    }

    /// The entries.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = NackPair> + use<'a> {
        self.pairs.chunks_exact(4).map(|pair| NackPair {
            first: SequenceNumber(u16_at(pair, 0)),
            following: u16_at(pair, 2),
        })
    }

    /// Every lost packet.
    pub fn sequences(&self) -> impl Iterator<Item = SequenceNumber> + use<'a> {
        self.pairs().flat_map(NackPair::sequences)
    }
}

/// A picture loss indication (RFC 4585 section 6.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pli {
    /// Who sends it.
    pub sender: Ssrc,
    /// The source whose picture is lost.
    pub media: Ssrc,
}

impl From<RawFeedback<'_>> for Pli {
    fn from(feedback: RawFeedback<'_>) -> Self {
        Self {
            sender: feedback.sender,
            media: feedback.media,
        }
    }
}

/// One entry of a full intra request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirEntry {
    /// The source that is to send a key frame.
    pub ssrc: Ssrc,
    /// Counts commands; a repetition carries the number again.
    pub sequence: u8,
}

/// A full intra request (RFC 5104 section 4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fir<'a> {
    /// Who sends it.
    pub sender: Ssrc,
    /// Unused; 0.
    pub media: Ssrc,
    entries: &'a [u8],
}

impl<'a> Fir<'a> {
    pub(super) fn parse(feedback: RawFeedback<'a>) -> Result<Self> {
        if feedback.information.is_empty() || !feedback.information.len().is_multiple_of(8) {
            return Err(Error::Malformed("FIR length"));
        }
        Ok(Self {
            sender: feedback.sender,
            media: feedback.media,
            entries: feedback.information,
        })
    }

    /// The entries.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = FirEntry> + use<'a> {
        self.entries.chunks_exact(8).map(|entry| FirEntry {
            ssrc: Ssrc(u32_at(entry, 0)),
            sequence: entry[4],
        })
    }
}

/// One entry of a temporary maximum bit rate message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TmmbEntry {
    /// The source that is asked, or that owns the limit.
    pub ssrc: Ssrc,
    /// The limit in bits per second; 17 significant bits.
    pub bitrate: u64,
    /// Measured overhead in bytes per packet, 0 to 511.
    pub overhead: u16,
}

/// A temporary maximum bit rate request or notification (RFC 5104 sections 4.2.1 and 4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tmmb<'a> {
    /// Who sends it.
    pub sender: Ssrc,
    /// Unused; 0.
    pub media: Ssrc,
    entries: &'a [u8],
}

impl<'a> Tmmb<'a> {
    pub(super) fn parse(feedback: RawFeedback<'a>) -> Result<Self> {
        if !feedback.information.len().is_multiple_of(8) {
            return Err(Error::Malformed("TMMBR length"));
        }
        Ok(Self {
            sender: feedback.sender,
            media: feedback.media,
            entries: feedback.information,
        })
    }

    /// The entries; none in a notification that lifts the limit.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = TmmbEntry> + use<'a> {
        self.entries.chunks_exact(8).map(|entry| {
            let bits = u32_at(entry, 4);
            TmmbEntry {
                ssrc: Ssrc(u32_at(entry, 0)),
                bitrate: shifted(bits >> 9 & 0x1_ffff, bits >> 26),
                overhead: (bits & 0x1ff) as u16,
            }
        })
    }
}

/// A mantissa with an exponent of two; the largest value where that overflows.
fn shifted(mantissa: u32, exponent: u32) -> u64 {
    let value = u128::from(mantissa) << exponent;
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// The exponent that makes `value` fit into `bits` bits, rounding down.
pub(super) fn exponent(value: u64, bits: u32) -> (u32, u32) {
    let exponent = (64 - value.leading_zeros()).saturating_sub(bits);
    ((value >> exponent) as u32, exponent)
}

/// The bit rate that a receiver estimates (draft-alvestrand-rmcat-remb-03 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remb<'a> {
    /// Who sends it.
    pub sender: Ssrc,
    /// Unused; 0.
    pub media: Ssrc,
    /// Bits per second for all sources together; 18 significant bits.
    pub bitrate: u64,
    sources: &'a [u8],
}

impl<'a> Remb<'a> {
    pub(super) fn parse(feedback: RawFeedback<'a>) -> Result<Self> {
        let mut reader = Reader::new(feedback.information, "REMB");
        reader.take(4)?;
        let count = reader.u8()?;
        let bits = reader.u24()?;
        let sources = reader.take(usize::from(count) * 4)?;
        Ok(Self {
            sender: feedback.sender,
            media: feedback.media,
            bitrate: shifted(bits & 0x3_ffff, bits >> 18),
            sources,
        })
    }

    /// The sources that share the bit rate, up to 255.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Ssrc> + use<'a> {
        self.sources
            .chunks_exact(4)
            .map(|ssrc| Ssrc(u32_at(ssrc, 0)))
    }
}

/// What a receiver could decode when it noticed a loss (libwebrtc's LNTF).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossNotification {
    /// Who sends it.
    pub sender: Ssrc,
    /// The source that it is about.
    pub media: Ssrc,
    /// First packet of the last frame that was decoded.
    pub last_decoded: SequenceNumber,
    /// The last packet that was received; at most 32767 after `last_decoded`.
    pub last_received: SequenceNumber,
    /// Whether the frame of the last received packet can be decoded, as far as is known.
    pub decodable: bool,
}

impl LossNotification {
    pub(super) fn parse(feedback: RawFeedback<'_>) -> Result<Self> {
        let mut reader = Reader::new(feedback.information, "LNTF");
        reader.take(4)?;
        let last_decoded = SequenceNumber(reader.u16()?);
        let bits = reader.u16()?;
        Ok(Self {
            sender: feedback.sender,
            media: feedback.media,
            last_decoded,
            last_received: last_decoded.add(bits >> 1),
            decodable: bits & 1 != 0,
        })
    }
}
