//! The common header (RFC 9260 section 3.1), its checksum, and the walk over chunks.

use super::chunk::Chunk;
use super::{padded, u16_at, u32_at};

/// Bytes of the common header.
pub(crate) const HEADER: usize = 12;

/// The common header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) tag: u32,
    /// As it stands in the packet: little-endian on the wire.
    pub(crate) checksum: u32,
}

/// What cannot be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The chunks of a packet, in order. A chunk whose length does not add up ends the walk with one
/// `Err`; one whose insides are wrong is an `Err` and the walk goes on.
#[derive(Debug, Clone)]
pub(crate) struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if self.rest.len() < 4 {
            self.rest = &[];
            return Some(Err(Malformed));
        }
        let length = usize::from(u16_at(self.rest, 2));
        if length < 4 || length > self.rest.len() {
            self.rest = &[];
            return Some(Err(Malformed));
        }
        let chunk = &self.rest[..length];
        self.rest = &self.rest[padded(length).min(self.rest.len())..];
        Some(Chunk::parse(chunk))
    }
}

/// Reads the header and prepares the walk over the chunks.
pub(crate) fn parse(packet: &[u8]) -> Result<(Header, Chunks<'_>), Malformed> {
    if packet.len() < HEADER {
        return Err(Malformed);
    }
    let header = Header {
        source_port: u16_at(packet, 0),
        destination_port: u16_at(packet, 2),
        tag: u32_at(packet, 4),
        checksum: u32::from_le_bytes([packet[8], packet[9], packet[10], packet[11]]),
    };
    let rest = &packet[HEADER..];
    Ok((header, Chunks { rest }))
}

/// CRC32c of a packet, its checksum field taken as zero (RFC 9260 appendix A).
pub(crate) fn checksum(packet: &[u8]) -> u32 {
    let (head, body) = packet.split_at(HEADER);
    let mut zeroed = [0; HEADER];
    zeroed[..8].copy_from_slice(&head[..8]);
    crc32c::crc32c_append(crc32c::crc32c(&zeroed), body)
}
