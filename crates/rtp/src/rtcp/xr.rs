//! Extended reports (RFC 3611): receiver reference time and its answer, which give a receiver the
//! round-trip time.

use crate::bytes::{Reader, u16_at, u32_at};
use crate::{Error, NtpTime, Result, Ssrc};

/// An extended report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xr<'a> {
    /// Who reports.
    pub ssrc: Ssrc,
    body: &'a [u8],
}

/// One block of an extended report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum XrBlock<'a> {
    /// The reporter's time (section 4.4).
    ReceiverReferenceTime(NtpTime),
    /// Answers to others' reference times (section 4.5): twelve bytes per [`DlrrBlock`].
    Dlrr(DlrrBlocks<'a>),
    /// A block of another type.
    Other {
        /// The block type.
        block_type: u8,
        /// Eight bits whose meaning is the type's.
        specific: u8,
        /// Whole words of content.
        data: &'a [u8],
    },
}

/// The answers in one DLRR block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DlrrBlocks<'a>(&'a [u8]);

impl<'a> DlrrBlocks<'a> {
    /// Each answer.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = DlrrBlock> + use<'a> {
        self.0.chunks_exact(12).map(|block| DlrrBlock {
            ssrc: Ssrc(u32_at(block, 0)),
            last_rr: u32_at(block, 4),
            delay_since_last_rr: u32_at(block, 8),
        })
    }
}

/// The answer to one receiver's reference time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DlrrBlock {
    /// The receiver whose time is answered.
    pub ssrc: Ssrc,
    /// Middle 32 bits of its reference time; 0 for none.
    pub last_rr: u32,
    /// Time since it arrived, in 1/65536 s.
    pub delay_since_last_rr: u32,
}

impl<'a> Xr<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "XR");
        let ssrc = Ssrc(reader.u32()?);
        let body = reader.rest();
        let mut rest = body;
        while !rest.is_empty() {
            rest = Self::split(rest)?.1;
        }
        Ok(Self { ssrc, body })
    }

    fn split(bytes: &'a [u8]) -> Result<(XrBlock<'a>, &'a [u8])> {
        let mut reader = Reader::new(bytes, "XR block");
        let head: [u8; 4] = reader.array()?;
        let data = reader.take(usize::from(u16_at(&head, 2)) * 4)?;
        let block = match (head[0], data.len()) {
            (4, 8) => XrBlock::ReceiverReferenceTime(NtpTime(
                u64::from(u32_at(data, 0)) << 32 | u64::from(u32_at(data, 4)),
            )),
            (5, len) if len.is_multiple_of(12) => XrBlock::Dlrr(DlrrBlocks(data)),
            (4 | 5, _) => return Err(Error::Malformed("XR block length")),
            (block_type, _) => XrBlock::Other {
                block_type,
                specific: head[1],
                data,
            },
        };
        Ok((block, reader.rest()))
    }

    /// The blocks.
    pub fn blocks(&self) -> impl Iterator<Item = XrBlock<'a>> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let (block, tail) = Self::split(rest).ok()?;
            rest = tail;
            Some(block)
        })
    }
}
