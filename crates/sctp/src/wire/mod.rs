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

/// Reads everything in a packet; how many chunks it had.
pub(crate) fn walk(packet: &[u8]) -> usize {
    let Ok((_, chunks)) = parse(packet) else {
        return 0;
    };
    let mut count = 0;
    for chunk in chunks.flatten() {
        count += 1;
        count += match chunk {
            Chunk::Init(init) | Chunk::InitAck(init) => Parameters::new(init.parameters).count(),
            Chunk::Heartbeat(bytes)
            | Chunk::HeartbeatAck(bytes)
            | Chunk::Abort(bytes, _)
            | Chunk::Error(bytes)
            | Chunk::ReConfig(bytes) => Parameters::new(bytes).count(),
            Chunk::Sack(sack) => sack.gaps().count() + sack.duplicate_count(),
            Chunk::ForwardTsn(forward) => forward.skips().count(),
            _ => 0,
        };
    }
    count
}
