//! Congestion control feedback: arrival time and ECN mark of each packet (RFC 8888 section 3.1).

use visavis_datagram::Ecn;

use crate::bytes::{Reader, Writer, u16_at, u32_at};
use crate::{Error, Result, SequenceNumber, Ssrc};

/// The most packets that one report of a source may span (section 3.1).
pub const MAX_REPORT_SPAN: u16 = 16_384;

/// What a feedback says about one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MetricBlock {
    /// The ECN codepoint with which it arrived.
    pub ecn: Ecn,
    /// How long before the report timestamp, in 1/1024 s: 0 to 8189; [`Self::TOO_LONG`] for longer,
    /// [`Self::UNAVAILABLE`] for unknown.
    pub arrival_offset: u16,
}

impl MetricBlock {
    /// Arrived longer ago than the field can say.
    pub const TOO_LONG: u16 = 0x1ffe;
    /// The arrival time is not known.
    pub const UNAVAILABLE: u16 = 0x1fff;

    fn to_bits(self) -> u16 {
        0x8000 | (self.ecn.bits() as u16) << 13 | self.arrival_offset.min(0x1fff)
    }

    fn from_bits(bits: u16) -> Option<Self> {
        (bits & 0x8000 != 0).then(|| Self {
            ecn: Ecn::from_bits((bits >> 13) as u8),
            arrival_offset: bits & 0x1fff,
        })
    }
}

/// A congestion control feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CongestionFeedback<'a> {
    /// Who sends it.
    pub sender: Ssrc,
    /// When it was made: the middle 32 bits of an NTP time, in 1/65536 s.
    pub timestamp: u32,
    reports: &'a [u8],
}

impl<'a> CongestionFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "congestion control feedback");
        let sender = Ssrc(reader.u32()?);
        let len = reader
            .len()
            .checked_sub(4)
            .ok_or(Error::Truncated("congestion control feedback"))?;
        let reports = reader.take(len)?;
        let timestamp = reader.u32()?;
        let mut rest = reports;
        while !rest.is_empty() {
            rest = CongestionReport::split(rest)?.1;
        }
        Ok(Self {
            sender,
            timestamp,
            reports,
        })
    }

    /// What it says about each source.
    pub const fn reports(&self) -> CongestionReports<'a> {
        CongestionReports { rest: self.reports }
    }
}

/// Iterates over the reports of a [`CongestionFeedback`].
#[derive(Debug, Clone)]
pub struct CongestionReports<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for CongestionReports<'a> {
    type Item = CongestionReport<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (report, rest) = CongestionReport::split(self.rest).ok()?;
        self.rest = rest;
        Some(report)
    }
}

/// What a feedback says about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CongestionReport<'a> {
    /// The source.
    pub ssrc: Ssrc,
    /// The first packet that it is about.
    pub begin: SequenceNumber,
    blocks: &'a [u8],
}

impl<'a> CongestionReport<'a> {
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8])> {
        let mut reader = Reader::new(bytes, "congestion control report");
        let ssrc = Ssrc(reader.u32()?);
        let begin = SequenceNumber(reader.u16()?);
        let count = reader.u16()?;
        if count > MAX_REPORT_SPAN {
            return Err(Error::Limit("packets of a congestion control report"));
        }
        let blocks = reader.take(usize::from(count) * 2)?;
        reader.take(usize::from(count % 2) * 2)?;
        let report = Self {
            ssrc,
            begin,
            blocks,
        };
        Ok((report, reader.rest()))
    }

    /// Each packet, in order; `None` for one that did not arrive.
    pub fn packets(
        &self,
    ) -> impl ExactSizeIterator<Item = (SequenceNumber, Option<MetricBlock>)> + use<'a> {
        let begin = self.begin;
        let blocks = self.blocks;
        (0..blocks.len() / 2).map(move |index| {
            let block = MetricBlock::from_bits(u16_at(blocks, index * 2));
            (begin.add(index as u16), block)
        })
    }
}

/// Writes one report. `timestamp` and padding are the caller's.
pub(super) fn write_report(
    writer: &mut Writer<'_>,
    ssrc: Ssrc,
    begin: SequenceNumber,
    packets: impl IntoIterator<Item = Option<MetricBlock>>,
) -> Result<()> {
    let head = writer.len();
    writer.u32(ssrc.0)?;
    writer.u16(begin.0)?;
    writer.u16(0)?;
    let mut count = 0u16;
    for packet in packets {
        if count == MAX_REPORT_SPAN {
            return Err(Error::Limit("packets of a congestion control report"));
        }
        writer.u16(packet.map_or(0, MetricBlock::to_bits))?;
        count += 1;
    }
    if !count.is_multiple_of(2) {
        writer.u16(0)?;
    }
    writer.written()[head + 6..head + 8].copy_from_slice(&count.to_be_bytes());
    debug_assert_eq!(u32_at(writer.written(), head), ssrc.0);
    Ok(())
}
