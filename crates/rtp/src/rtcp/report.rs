//! Sender and receiver reports (RFC 3550 section 6.4).

use crate::bytes::{Reader, Writer, u32_at};
use crate::{NtpTime, Result, Ssrc};

/// What one receiver says about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: Ssrc,
    /// Fraction of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, signed 24 bits: duplicates make it negative.
    pub cumulative_lost: i32,
    /// The highest sequence number, with the count of its cycles in the upper half.
    pub highest_sequence: u32,
    /// Inter-arrival jitter in ticks of the RTP clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0 for none.
    pub last_sr: u32,
    /// Time since that report arrived, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    /// Bytes of a block.
    pub const LEN: usize = 24;

    fn parse(bytes: &[u8]) -> Self {
        let lost = u32_at(bytes, 4);
        Self {
            ssrc: Ssrc(u32_at(bytes, 0)),
            fraction_lost: (lost >> 24) as u8,
            cumulative_lost: (lost << 8) as i32 >> 8,
            highest_sequence: u32_at(bytes, 8),
            jitter: u32_at(bytes, 12),
            last_sr: u32_at(bytes, 16),
            delay_since_last_sr: u32_at(bytes, 20),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<()> {
        writer.u32(self.ssrc.0)?;
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        writer.u32(u32::from(self.fraction_lost) << 24 | lost)?;
        writer.u32(self.highest_sequence)?;
        writer.u32(self.jitter)?;
        writer.u32(self.last_sr)?;
        writer.u32(self.delay_since_last_sr)
    }

    /// The round-trip time in 1/65536 s, if the block answers a sender report: `now` is the middle
    /// 32 bits of the NTP time at which it arrived.
    pub fn round_trip(&self, now: u32) -> Option<u32> {
        if self.last_sr == 0 {
            return None;
        }
        let trip = now
            .wrapping_sub(self.last_sr)
            .wrapping_sub(self.delay_since_last_sr);
        // A clock that is a little off gives a negative time: take it as none at all.
        Some(if trip > 0x8000_0000 { 0 } else { trip })
    }
}

fn blocks(bytes: &[u8]) -> impl ExactSizeIterator<Item = ReportBlock> + '_ {
    bytes.chunks_exact(ReportBlock::LEN).map(ReportBlock::parse)
}

/// What a sender says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// The sender.
    pub ssrc: Ssrc,
    /// When the report was made, on the sender's clock.
    pub ntp: NtpTime,
    /// The same instant on the RTP clock.
    pub rtp_timestamp: u32,
    /// Packets sent since the beginning.
    pub packets: u32,
    /// Payload bytes sent since the beginning.
    pub octets: u32,
}

/// A sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport<'a> {
    /// What the sender says about itself.
    pub info: SenderInfo,
    blocks: &'a [u8],
    /// Profile-specific extension, behind the blocks.
    pub extension: &'a [u8],
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "sender report");
        let info = SenderInfo {
            ssrc: Ssrc(reader.u32()?),
            ntp: NtpTime(reader.u64()?),
            rtp_timestamp: reader.u32()?,
            packets: reader.u32()?,
            octets: reader.u32()?,
        };
        let blocks = reader.take(usize::from(count) * ReportBlock::LEN)?;
        Ok(Self {
            info,
            blocks,
            extension: reader.rest(),
        })
    }

    /// What the sender says about the sources that it receives, up to 31.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = ReportBlock> + use<'a> {
        blocks(self.blocks)
    }
}

/// A receiver report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub ssrc: Ssrc,
    blocks: &'a [u8],
    /// Profile-specific extension, behind the blocks.
    pub extension: &'a [u8],
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "receiver report");
        let ssrc = Ssrc(reader.u32()?);
        let blocks = reader.take(usize::from(count) * ReportBlock::LEN)?;
        Ok(Self {
            ssrc,
            blocks,
            extension: reader.rest(),
        })
    }

    /// What it says about each source, up to 31.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = ReportBlock> + use<'a> {
        blocks(self.blocks)
    }
}
