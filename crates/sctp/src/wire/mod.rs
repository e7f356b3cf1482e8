//! The wire: packets, chunks and parameters as views over bytes, and their writer. Every byte
//! string gives a value or a typed refusal; nothing here allocates.

mod chunk;
mod packet;
mod parameter;
mod writer;

pub(crate) use chunk::{
    Chunk, DataChunk, ForwardTsn, InitChunk, SackChunk, Skip, chunk_type, data_flags,
};
pub(crate) use packet::{HEADER, checksum, parse};
pub(crate) use parameter::{
    Causes, Parameters, cause_code, init_parameter, reconfig_parameter, reconfig_result,
};
pub(crate) use writer::Writer;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Rounds up to the 4-byte boundary that chunks and parameters end on.
pub(crate) const fn padded(length: usize) -> usize {
    (length + 3) & !3
}
