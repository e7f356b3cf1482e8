//! Header extensions that carry times and transport-wide sequence numbers.

use super::{Extension, ExtensionKind};
use crate::bytes::{Reader, u16_at};
use crate::{Error, NtpTime, Result, SequenceNumber};

/// When a packet left, in 1/2^18 s modulo 64 s (libwebrtc `rtp-hdrext/abs-send-time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AbsSendTime(pub u32);

impl AbsSendTime {
    /// From a time in microseconds on any clock.
    pub const fn from_micros(micros: u64) -> Self {
        let ticks = ((micros as u128) << 18) / 1_000_000;
        Self(ticks as u32 & 0x00ff_ffff)
    }

    /// Microseconds since the last multiple of 64 s.
    pub const fn to_micros(self) -> u64 {
        (self.0 as u64 * 1_000_000) >> 18
    }
}

impl Extension<'_> for AbsSendTime {
    const KIND: ExtensionKind = ExtensionKind::AbsSendTime;

    fn parse(data: &[u8]) -> Result<Self> {
        Reader::new(data, "abs-send-time").u24().map(Self)
    }

    fn encoded_len(&self) -> usize {
        3
    }

    fn write(&self, slot: &mut [u8]) {
        slot.copy_from_slice(&self.0.to_be_bytes()[1..]);
    }
}

/// A packet's number in its transport (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportSequence(pub SequenceNumber);

impl Extension<'_> for TransportSequence {
    const KIND: ExtensionKind = ExtensionKind::TransportSequence;

    fn parse(data: &[u8]) -> Result<Self> {
        let sequence = Reader::new(data, "transport sequence number").u16()?;
        Ok(Self(SequenceNumber(sequence)))
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn write(&self, slot: &mut [u8]) {
        slot.copy_from_slice(&self.0.0.to_be_bytes());
    }
}

/// Version 02 of [`TransportSequence`]: the sender asks for feedback itself
/// (libwebrtc `rtp-hdrext/transport-wide-cc-02`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransportSequenceRequest {
    /// The packet's number in its transport.
    pub sequence: SequenceNumber,
    /// Asks for feedback about this many packets up to this one (1 to 32767).
    pub request: Option<FeedbackRequest>,
}

/// What feedback a sender asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FeedbackRequest {
    /// Whether arrival times are wanted, or received/lost alone.
    pub timing: bool,
    /// Feedback is about this packet and the `count - 1` before it; 1 to 32767.
    pub count: u16,
}

impl Extension<'_> for TransportSequenceRequest {
    const KIND: ExtensionKind = ExtensionKind::TransportSequenceRequest;

    fn parse(data: &[u8]) -> Result<Self> {
        if data.len() != 2 && data.len() != 4 {
            return Err(Error::Malformed("transport-wide-cc-02 length"));
        }
        let request = (data.len() == 4)
            .then(|| u16_at(data, 2))
            .filter(|bits| bits & 0x7fff != 0)
            .map(|bits| FeedbackRequest {
                timing: bits & 0x8000 != 0,
                count: bits & 0x7fff,
            });
        Ok(Self {
            sequence: SequenceNumber(u16_at(data, 0)),
            request,
        })
    }

    fn encoded_len(&self) -> usize {
        if self.request.is_some() { 4 } else { 2 }
    }

    fn write(&self, slot: &mut [u8]) {
        slot[..2].copy_from_slice(&self.sequence.0.to_be_bytes());
        if let Some(request) = self.request {
            let bits = u16::from(request.timing) << 15 | request.count & 0x7fff;
            slot[2..].copy_from_slice(&bits.to_be_bytes());
        }
    }
}

/// How much later than its timestamp says a packet was sent, in ticks of the RTP clock, signed
/// 24 bits (RFC 5450 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeOffset(pub i32);

impl Extension<'_> for TimeOffset {
    const KIND: ExtensionKind = ExtensionKind::TimeOffset;

    fn parse(data: &[u8]) -> Result<Self> {
        let bits = Reader::new(data, "toffset").u24()?;
        Ok(Self((bits << 8) as i32 >> 8))
    }

    fn encoded_len(&self) -> usize {
        3
    }

    fn write(&self, slot: &mut [u8]) {
        slot.copy_from_slice(&self.0.to_be_bytes()[1..]);
    }
}

/// The least and largest delay between capture and rendering that the sender wants, in units of
/// 10 ms, 0 to 4095 each (libwebrtc `rtp-hdrext/playout-delay`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlayoutDelay {
    /// The least delay, in 10 ms.
    pub min: u16,
    /// The largest delay, in 10 ms.
    pub max: u16,
}

impl Extension<'_> for PlayoutDelay {
    const KIND: ExtensionKind = ExtensionKind::PlayoutDelay;

    fn parse(data: &[u8]) -> Result<Self> {
        let bits = Reader::new(data, "playout-delay").u24()?;
        let delay = Self {
            min: (bits >> 12) as u16,
            max: (bits & 0xfff) as u16,
        };
        if delay.min > delay.max {
            return Err(Error::Malformed("playout delay: min above max"));
        }
        Ok(delay)
    }

    fn encoded_len(&self) -> usize {
        3
    }

    fn write(&self, slot: &mut [u8]) {
        let bits = u32::from(self.min & 0xfff) << 12 | u32::from(self.max & 0xfff);
        slot.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
}

/// Where a frame spent its time, in milliseconds since its capture (libwebrtc `rtp-hdrext/video-timing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VideoTiming {
    /// Bit 0: sent because of a timer; bit 1: sent because the frame is large. 0xff: invalid.
    pub flags: u8,
    /// When encoding began.
    pub encode_start: u16,
    /// When encoding ended.
    pub encode_finish: u16,
    /// When packetization ended.
    pub packetization_finish: u16,
    /// When the last packet left the pacer.
    pub pacer_exit: u16,
    /// When the packet left a forwarder's network layer.
    pub network: u16,
    /// The same of a second forwarder.
    pub network2: u16,
}

impl VideoTiming {
    /// Where a pacer writes [`Self::pacer_exit`], in bytes.
    pub const PACER_OFFSET: usize = 7;
    /// Where a forwarder writes [`Self::network`], in bytes.
    pub const NETWORK_OFFSET: usize = 9;
}

impl Extension<'_> for VideoTiming {
    const KIND: ExtensionKind = ExtensionKind::VideoTiming;

    fn parse(data: &[u8]) -> Result<Self> {
        if data.len() != 12 && data.len() != 13 {
            return Err(Error::Malformed("video-timing length"));
        }
        let mut reader = Reader::new(data, "video-timing");
        Ok(Self {
            // The first version had no flags.
            flags: if data.len() == 13 { reader.u8()? } else { 0 },
            encode_start: reader.u16()?,
            encode_finish: reader.u16()?,
            packetization_finish: reader.u16()?,
            pacer_exit: reader.u16()?,
            network: reader.u16()?,
            network2: reader.u16()?,
        })
    }

    fn encoded_len(&self) -> usize {
        13
    }

    fn write(&self, slot: &mut [u8]) {
        slot[0] = self.flags;
        let times = [
            self.encode_start,
            self.encode_finish,
            self.packetization_finish,
            self.pacer_exit,
            self.network,
            self.network2,
        ];
        for (slot, time) in slot[1..].chunks_exact_mut(2).zip(times) {
            slot.copy_from_slice(&time.to_be_bytes());
        }
    }
}

/// When the frame in a packet was captured (libwebrtc `rtp-hdrext/abs-capture-time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AbsCaptureTime {
    /// The capture time on the capturer's NTP clock.
    pub captured: NtpTime,
    /// The capturer's clock minus the sender's, in 1/2^32 s, as the sender estimates it.
    pub clock_offset: Option<i64>,
}

impl Extension<'_> for AbsCaptureTime {
    const KIND: ExtensionKind = ExtensionKind::AbsCaptureTime;

    fn parse(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(data, "abs-capture-time");
        let captured = NtpTime(reader.u64()?);
        let clock_offset = match reader.len() {
            0 => None,
            _ => Some(reader.u64()? as i64),
        };
        Ok(Self {
            captured,
            clock_offset,
        })
    }

    fn encoded_len(&self) -> usize {
        if self.clock_offset.is_some() { 16 } else { 8 }
    }

    fn write(&self, slot: &mut [u8]) {
        slot[..8].copy_from_slice(&self.captured.0.to_be_bytes());
        if let Some(offset) = self.clock_offset {
            slot[8..].copy_from_slice(&offset.to_be_bytes());
        }
    }
}
