//! ULPFEC (RFC 5109) with one level of protection, as browsers send it inside RED.

use super::fec::{FecPacket, Recovery, protect};
use crate::bytes::Reader;
use crate::{Error, Result};

/// Bytes of the FEC header (section 7.3).
const HEADER: usize = 10;
/// The most bytes of headers: FEC header, and level header with a long mask.
pub const MAX_OVERHEAD: usize = HEADER + 8;
/// Parity packets protect packets within so many numbers of each other.
pub const MAX_SPAN: u32 = 48;

/// Reads a payload. Levels beyond the first are not looked at.
///
/// # Errors
/// [`Error::Truncated`] or [`Error::Malformed`].
pub fn parse(payload: &[u8]) -> Result<FecPacket<'_>> {
    let mut reader = Reader::new(payload, "ULPFEC header");
    let head: [u8; 2] = reader.array()?;
    let base = reader.u16()?.into();
    let timestamp = reader.u32()?;
    let length = reader.u16()?;
    let protection = reader.u16()?;
    let mut mask = u128::from(reader.u16()?.reverse_bits());
    if head[0] & 0x40 != 0 {
        mask |= u128::from(reader.u32()?.reverse_bits()) << 16;
    }
    if mask == 0 {
        return Err(Error::Malformed("parity of no packet"));
    }
    Ok(FecPacket {
        ssrc: None,
        base,
        mask,
        recovery: Recovery {
            head: [head[0] & 0x3f, head[1]],
            length,
            timestamp,
        },
        payload: reader.take(protection.into())?,
    })
}

/// Writes the payload that protects `packets` of one source, within [`MAX_SPAN`] numbers of each
/// other, and returns its length.
///
/// # Errors
/// [`Error::NotRepresentable`] or [`Error::BufferTooSmall`].
pub fn write<'p>(
    packets: impl IntoIterator<Item = &'p [u8], IntoIter: Clone>,
    out: &mut [u8],
) -> Result<usize> {
    // The parity is written behind the longest header, and moved if the mask is short.
    let body = out.get_mut(MAX_OVERHEAD..).ok_or(Error::BufferTooSmall)?;
    let protected = protect(packets.into_iter(), body)?;
    if protected.mask >> MAX_SPAN != 0 {
        return Err(Error::NotRepresentable("ULPFEC over more than 48 packets"));
    }
    let recovery = protected.recovery;
    let long = protected.mask >> 16 != 0;
    out[0] = u8::from(long) << 6 | recovery.head[0] & 0x3f;
    out[1] = recovery.head[1];
    out[2..4].copy_from_slice(&protected.base.0.to_be_bytes());
    out[4..8].copy_from_slice(&recovery.timestamp.to_be_bytes());
    out[8..10].copy_from_slice(&recovery.length.to_be_bytes());
    out[10..12].copy_from_slice(&(protected.len as u16).to_be_bytes());
    out[12..14].copy_from_slice(&(protected.mask as u16).reverse_bits().to_be_bytes());
    if long {
        let rest = (protected.mask >> 16) as u32;
        out[14..18].copy_from_slice(&rest.reverse_bits().to_be_bytes());
        return Ok(MAX_OVERHEAD + protected.len);
    }
    out.copy_within(MAX_OVERHEAD..MAX_OVERHEAD + protected.len, MAX_OVERHEAD - 4);
    Ok(MAX_OVERHEAD - 4 + protected.len)
}
