//! The SFrame header (RFC 9605 section 4.3).

use super::SFrameError;

/// Which key sealed a frame, and the frame's number under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SFrameHeader {
    /// The key's number.
    pub kid: u64,
    /// The counter.
    pub counter: u64,
}

impl SFrameHeader {
    /// The longest header in bytes.
    pub const MAX_LEN: usize = 17;

    /// Reads a header: it and its length in bytes.
    ///
    /// # Errors
    /// [`SFrameError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), SFrameError> {
        let (&config, rest) = bytes.split_first().ok_or(SFrameError::Malformed)?;
        let (kid, kid_len) = field(config >> 4, rest)?;
        let (counter, counter_len) = field(config & 0x0f, &rest[kid_len..])?;
        Ok((Self { kid, counter }, 1 + kid_len + counter_len))
    }

    /// Writes the header; its length in bytes.
    pub fn write(&self, out: &mut [u8; Self::MAX_LEN]) -> usize {
        let mut len = 1;
        let kid = put(self.kid, out, &mut len);
        let counter = put(self.counter, out, &mut len);
        out[0] = kid << 4 | counter;
        len
    }
}

/// Reads a value: three bits of it, or of the number of its bytes less one.
fn field(bits: u8, rest: &[u8]) -> Result<(u64, usize), SFrameError> {
    if bits & 0b1000 == 0 {
        return Ok((u64::from(bits), 0));
    }
    let len = usize::from(bits & 0b111) + 1;
    let bytes = rest.get(..len).ok_or(SFrameError::Malformed)?;
    let value = bytes
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte));
    Ok((value, len))
}

fn put(value: u64, out: &mut [u8; SFrameHeader::MAX_LEN], at: &mut usize) -> u8 {
    if value < 8 {
        return value as u8;
    }
    let bytes = value.to_be_bytes();
    let skip = (value.leading_zeros() / 8) as usize;
    let len = 8 - skip;
    out[*at..*at + len].copy_from_slice(&bytes[skip..]);
    *at += len;
    0b1000 | (len - 1) as u8
}
