//! Chunks (RFC 9260 section 3.3, RFC 3758, RFC 6525, RFC 8260) as views.

use super::packet::Malformed;
use super::{u16_at, u32_at};

/// Chunk types.
pub(crate) mod chunk_type {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const INIT: u8 = 1;
    pub(crate) const INIT_ACK: u8 = 2;
    pub(crate) const SACK: u8 = 3;
    pub(crate) const HEARTBEAT: u8 = 4;
    pub(crate) const HEARTBEAT_ACK: u8 = 5;
    pub(crate) const ABORT: u8 = 6;
    pub(crate) const SHUTDOWN: u8 = 7;
    pub(crate) const SHUTDOWN_ACK: u8 = 8;
    pub(crate) const ERROR: u8 = 9;
    pub(crate) const COOKIE_ECHO: u8 = 10;
    pub(crate) const COOKIE_ACK: u8 = 11;
    pub(crate) const ECNE: u8 = 12;
    pub(crate) const CWR: u8 = 13;
    pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;
    pub(crate) const I_DATA: u8 = 64;
    pub(crate) const RE_CONFIG: u8 = 130;
    pub(crate) const PAD: u8 = 132;
    pub(crate) const FORWARD_TSN: u8 = 192;
    pub(crate) const I_FORWARD_TSN: u8 = 194;
}

/// Flags of DATA and I-DATA.
pub(crate) mod data_flags {
    pub(crate) const END: u8 = 1;
    pub(crate) const BEGIN: u8 = 2;
    pub(crate) const UNORDERED: u8 = 4;
    pub(crate) const IMMEDIATE: u8 = 8;
}

/// DATA or I-DATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataChunk<'a> {
    pub(crate) tsn: u32,
    pub(crate) stream: u16,
    /// SSN of DATA (16 bits), MID of I-DATA.
    pub(crate) message: u32,
    /// FSN of I-DATA; the TSN of DATA.
    pub(crate) fragment: u32,
    /// Of I-DATA only in the first fragment.
    pub(crate) ppid: u32,
    pub(crate) flags: u8,
    pub(crate) interleaved: bool,
    pub(crate) payload: &'a [u8],
}

/// INIT or INIT ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitChunk<'a> {
    pub(crate) tag: u32,
    pub(crate) window: u32,
    pub(crate) outbound_streams: u16,
    pub(crate) inbound_streams: u16,
    pub(crate) initial_tsn: u32,
    pub(crate) parameters: &'a [u8],
}

/// SACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SackChunk<'a> {
    pub(crate) cumulative: u32,
    pub(crate) window: u32,
    gaps: &'a [u8],
    duplicates: &'a [u8],
}

impl SackChunk<'_> {
    /// How many gap blocks there are.
    pub(crate) fn gap_count(&self) -> usize {
        self.gaps.len() / 4
    }

    /// Start and end of each gap block, both inclusive, relative to the cumulative TSN.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (u16, u16)> {
        self.gaps
            .chunks_exact(4)
            .map(|block| (u16_at(block, 0), u16_at(block, 2)))
    }

    /// How many TSNs arrived more than once.
    pub(crate) fn duplicate_count(&self) -> usize {
        self.duplicates.len() / 4
    }
}

/// One stream of a FORWARD-TSN or I-FORWARD-TSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skip {
    pub(crate) stream: u16,
    pub(crate) unordered: bool,
    /// SSN or MID.
    pub(crate) message: u32,
}

/// FORWARD-TSN or I-FORWARD-TSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForwardTsn<'a> {
    pub(crate) cumulative: u32,
    pub(crate) interleaved: bool,
    skips: &'a [u8],
}

impl ForwardTsn<'_> {
    /// The streams on which messages are skipped.
    pub(crate) fn skips(&self) -> impl Iterator<Item = Skip> {
        let interleaved = self.interleaved;
        let size = if interleaved { 8 } else { 4 };
        self.skips.chunks_exact(size).map(move |entry| Skip {
            stream: u16_at(entry, 0),
            unordered: interleaved && entry[3] & 1 != 0,
            message: if interleaved {
                u32_at(entry, 4)
            } else {
                u32::from(u16_at(entry, 2))
            },
        })
    }
}

/// Any chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk<'a> {
    Data(DataChunk<'a>),
    Init(InitChunk<'a>),
    InitAck(InitChunk<'a>),
    Sack(SackChunk<'a>),
    /// The parameters.
    Heartbeat(&'a [u8]),
    HeartbeatAck(&'a [u8]),
    /// The causes, and whether the tag is reflected.
    Abort(&'a [u8], bool),
    Shutdown(u32),
    ShutdownAck,
    Error(&'a [u8]),
    CookieEcho(&'a [u8]),
    CookieAck,
    Ecne(u32),
    Cwr(u32),
    /// Whether the tag is reflected.
    ShutdownComplete(bool),
    ReConfig(&'a [u8]),
    Pad,
    ForwardTsn(ForwardTsn<'a>),
    /// The whole chunk; its first byte is the type.
    Unknown(&'a [u8]),
}

impl<'a> Chunk<'a> {
    /// Reads one chunk; `bytes` is exactly as long as its length field says, at least 4.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, flags, body) = (bytes[0], bytes[1], &bytes[4..]);
        let need = |length: usize| {
            if body.len() < length {
                Err(Malformed)
            } else {
                Ok(())
            }
        };
        Ok(match kind {
            chunk_type::DATA => {
                need(12)?;
                let tsn = u32_at(body, 0);
                Self::Data(DataChunk {
                    tsn,
                    stream: u16_at(body, 4),
                    message: u32::from(u16_at(body, 6)),
                    fragment: tsn,
                    ppid: u32_at(body, 8),
                    flags,
                    interleaved: false,
                    payload: &body[12..],
                })
            }
            chunk_type::I_DATA => {
                need(16)?;
                let begin = flags & data_flags::BEGIN != 0;
                let last_word = u32_at(body, 12);
                Self::Data(DataChunk {
                    tsn: u32_at(body, 0),
                    stream: u16_at(body, 4),
                    message: u32_at(body, 8),
                    fragment: if begin { 0 } else { last_word },
                    ppid: if begin { last_word } else { 0 },
                    flags,
                    interleaved: true,
                    payload: &body[16..],
                })
            }
            chunk_type::INIT | chunk_type::INIT_ACK => {
                need(16)?;
                let init = InitChunk {
                    tag: u32_at(body, 0),
                    window: u32_at(body, 4),
                    outbound_streams: u16_at(body, 8),
                    inbound_streams: u16_at(body, 10),
                    initial_tsn: u32_at(body, 12),
                    parameters: &body[16..],
                };
                if kind == chunk_type::INIT {
                    Self::Init(init)
                } else {
                    Self::InitAck(init)
                }
            }
            chunk_type::SACK => {
                need(12)?;
                let gaps = usize::from(u16_at(body, 8)) * 4;
                let duplicates = usize::from(u16_at(body, 10)) * 4;
                need(12 + gaps + duplicates)?;
                Self::Sack(SackChunk {
                    cumulative: u32_at(body, 0),
                    window: u32_at(body, 4),
                    gaps: &body[12..12 + gaps],
                    duplicates: &body[12 + gaps..12 + gaps + duplicates],
                })
            }
            chunk_type::HEARTBEAT => Self::Heartbeat(body),
            chunk_type::HEARTBEAT_ACK => Self::HeartbeatAck(body),
            chunk_type::ABORT => Self::Abort(body, flags & 1 != 0),
            chunk_type::SHUTDOWN => {
                need(4)?;
                Self::Shutdown(u32_at(body, 0))
            }
            chunk_type::SHUTDOWN_ACK => Self::ShutdownAck,
            chunk_type::ERROR => Self::Error(body),
            chunk_type::COOKIE_ECHO => Self::CookieEcho(body),
            chunk_type::COOKIE_ACK => Self::CookieAck,
            chunk_type::ECNE => {
                need(4)?;
                Self::Ecne(u32_at(body, 0))
            }
            chunk_type::CWR => {
                need(4)?;
                Self::Cwr(u32_at(body, 0))
            }
            chunk_type::SHUTDOWN_COMPLETE => Self::ShutdownComplete(flags & 1 != 0),
            chunk_type::RE_CONFIG => Self::ReConfig(body),
            chunk_type::PAD => Self::Pad,
            chunk_type::FORWARD_TSN | chunk_type::I_FORWARD_TSN => {
                need(4)?;
                Self::ForwardTsn(ForwardTsn {
                    cumulative: u32_at(body, 0),
                    interleaved: kind == chunk_type::I_FORWARD_TSN,
                    skips: &body[4..],
                })
            }
            _ => Self::Unknown(bytes),
        })
    }
}
