//! Redundant data (RFC 2198): earlier payloads beside the primary one.

use crate::bytes::{Reader, Writer};
use crate::{Error, PayloadType, Result};

/// The most redundant blocks that are read or written in one packet.
pub const MAX_BLOCKS: usize = 16;
/// The largest timestamp offset of a block, in ticks of the RTP clock (14 bits).
pub const MAX_OFFSET: u32 = 0x3fff;
/// The longest redundant block in bytes (10 bits).
pub const MAX_BLOCK: usize = 0x3ff;

/// One block of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedBlock<'a> {
    /// Its payload type.
    pub payload_type: PayloadType,
    /// How many ticks before the packet's timestamp its own lies; 0 for the primary block.
    pub timestamp_offset: u32,
    /// Its payload.
    pub payload: &'a [u8],
}

/// The blocks of a packet, redundant ones first, the primary one last.
#[derive(Debug, Clone)]
pub struct RedBlocks<'a> {
    headers: &'a [u8],
    data: &'a [u8],
}

impl<'a> RedBlocks<'a> {
    /// Reads a payload's block headers.
    ///
    /// # Errors
    /// [`Error::Truncated`], or [`Error::Limit`] for more than [`MAX_BLOCKS`] redundant blocks.
    pub fn parse(payload: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(payload, "RED payload");
        let mut total = 0;
        let mut count = 0;
        while reader.u8()? & 0x80 != 0 {
            let bits = reader.u24()?;
            total += (bits & 0x3ff) as usize;
            count += 1;
            if count > MAX_BLOCKS {
                return Err(Error::Limit("RED blocks"));
            }
        }
        if reader.len() < total {
            return Err(Error::Truncated("RED payload"));
        }
        Ok(Self {
            headers: &payload[..payload.len() - reader.len()],
            data: reader.rest(),
        })
    }

    /// The primary block, whatever was iterated over.
    pub fn primary(self) -> Option<RedBlock<'a>> {
        self.last()
    }
}

impl<'a> Iterator for RedBlocks<'a> {
    type Item = RedBlock<'a>;

    fn next(&mut self) -> Option<RedBlock<'a>> {
        let (&first, rest) = self.headers.split_first()?;
        let payload_type = PayloadType::from_bits(first);
        if first & 0x80 == 0 {
            self.headers = &[];
            return Some(RedBlock {
                payload_type,
                timestamp_offset: 0,
                payload: self.data,
            });
        }
        let (&[high, middle, low], rest) = rest.split_first_chunk::<3>()?;
        let bits = u32::from_be_bytes([0, high, middle, low]);
        let (payload, data) = self.data.split_at_checked((bits & 0x3ff) as usize)?;
        self.headers = rest;
        self.data = data;
        Some(RedBlock {
            payload_type,
            timestamp_offset: bits >> 10,
            payload,
        })
    }
}

/// Writes a payload from redundant blocks, oldest first, and the primary one; returns its length.
///
/// # Errors
/// [`Error::NotRepresentable`] for an offset above [`MAX_OFFSET`], a redundant block above
/// [`MAX_BLOCK`] or more than [`MAX_BLOCKS`]; [`Error::BufferTooSmall`].
pub fn write(
    redundant: &[RedBlock<'_>],
    payload_type: PayloadType,
    primary: &[u8],
    out: &mut [u8],
) -> Result<usize> {
    if redundant.len() > MAX_BLOCKS {
        return Err(Error::NotRepresentable("RED blocks"));
    }
    let mut writer = Writer::new(out);
    for block in redundant {
        if block.timestamp_offset > MAX_OFFSET || block.payload.len() > MAX_BLOCK {
            return Err(Error::NotRepresentable("RED block"));
        }
        writer.u8(0x80 | block.payload_type.value())?;
        writer.u24(block.timestamp_offset << 10 | block.payload.len() as u32)?;
    }
    writer.u8(payload_type.value())?;
    for block in redundant {
        writer.put(block.payload)?;
    }
    writer.put(primary)?;
    Ok(writer.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_trip() {
        let opus = PayloadType::new(111).unwrap();
        let redundant = [
            RedBlock {
                payload_type: opus,
                timestamp_offset: 1920,
                payload: b"older",
            },
            RedBlock {
                payload_type: opus,
                timestamp_offset: 960,
                payload: b"old",
            },
        ];
        let mut out = [0; 100];
        let len = write(&redundant, opus, b"new", &mut out).unwrap();
        let blocks = RedBlocks::parse(&out[..len]).unwrap();
        assert_eq!(blocks.clone().primary().unwrap().payload, b"new");
        let blocks: Vec<_> = blocks.collect();
        assert_eq!(blocks[..2], redundant);
        assert_eq!(blocks[2].payload, b"new");
    }

    #[test]
    fn overrunning_blocks_are_errors() {
        assert!(RedBlocks::parse(&[]).is_err());
        assert!(RedBlocks::parse(&[0x80 | 111, 0, 0]).is_err());
        assert!(RedBlocks::parse(&[0x80 | 111, 0, 0, 2, 111, 1]).is_err());
        assert!(RedBlocks::parse(&[0xff; 200]).is_err());
    }
}
