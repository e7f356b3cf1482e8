//! Reading and writing big-endian fields and bits, each bounds-checked.

use crate::{Error, Result};

/// Reads fields from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// `what` names the thing that is truncated when the bytes end early.
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Error::Truncated(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Error::Truncated(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u24(&mut self) -> Result<u32> {
        self.array::<3>()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }
}

/// The big-endian 16 bits at `at`, which the caller knows to be there.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The big-endian 32 bits at `at`, which the caller knows to be there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes fields to the front of a slice.
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    bytes: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    pub(crate) const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn available(&self) -> usize {
        self.bytes.len() - self.len
    }

    pub(crate) fn slot(&mut self, len: usize) -> Result<&mut [u8]> {
        let slot = self.bytes[self.len..]
            .get_mut(..len)
            .ok_or(Error::BufferTooSmall)?;
        self.len += len;
        Ok(slot)
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.slot(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn u8(&mut self, value: u8) -> Result<()> {
        self.put(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> Result<()> {
        self.put(&value.to_be_bytes())
    }

    pub(crate) fn u24(&mut self, value: u32) -> Result<()> {
        self.put(&value.to_be_bytes()[1..])
    }

    pub(crate) fn u32(&mut self, value: u32) -> Result<()> {
        self.put(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> Result<()> {
        self.put(&value.to_be_bytes())
    }

    /// What has been written so far.
    pub(crate) fn written(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

/// Reads bits, most significant first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
    what: &'static str,
}

impl<'a> BitReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self {
            bytes,
            position: 0,
            what,
        }
    }

    /// Bits that are left.
    pub(crate) const fn left(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }

    pub(crate) fn skip(&mut self, count: usize) -> Result<()> {
        if count > self.left() {
            return Err(Error::Truncated(self.what));
        }
        self.position += count;
        Ok(())
    }

    /// Up to 32 bits.
    pub(crate) fn bits(&mut self, count: u32) -> Result<u32> {
        if count as usize > self.left() {
            return Err(Error::Truncated(self.what));
        }
        let mut value = 0u64;
        let mut left = count as usize;
        while left > 0 {
            let byte = self.bytes[self.position / 8];
            let offset = self.position % 8;
            let take = left.min(8 - offset);
            let part = (byte >> (8 - offset - take)) & (0xff >> (8 - take)) as u8;
            value = (value << take) | u64::from(part);
            self.position += take;
            left -= take;
        }
        Ok(value as u32)
    }

    pub(crate) fn bit(&mut self) -> Result<bool> {
        Ok(self.bits(1)? == 1)
    }

    /// Non-symmetric unsigned: one of `n` values (AV1 specification section 4.10.7).
    pub(crate) fn non_symmetric(&mut self, n: u32) -> Result<u32> {
        if n <= 1 {
            return Ok(0);
        }
        let width = 32 - n.leading_zeros();
        let threshold = (1u64 << width) - u64::from(n);
        let value = self.bits(width - 1)?;
        if u64::from(value) < threshold {
            return Ok(value);
        }
        let extra = self.bits(1)?;
        Ok(((u64::from(value) << 1) - threshold + u64::from(extra)) as u32)
    }

    /// Exp-Golomb, unsigned (H.264 section 9.1).
    pub(crate) fn exp_golomb(&mut self) -> Result<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Error::Malformed("Exp-Golomb code is too long"));
            }
        }
        let value = (1u64 << zeros) - 1 + u64::from(self.bits(zeros)?);
        u32::try_from(value).map_err(|_| Error::Malformed("Exp-Golomb code is too long"))
    }

    /// Exp-Golomb, signed (H.264 section 9.1.1).
    pub(crate) fn signed_exp_golomb(&mut self) -> Result<i64> {
        let code = i64::from(self.exp_golomb()?);
        Ok(if code % 2 == 0 {
            -(code / 2)
        } else {
            (code + 1) / 2
        })
    }
}

/// Writes bits, most significant first.
#[derive(Debug)]
pub(crate) struct BitWriter<'b> {
    bytes: &'b mut [u8],
    position: usize,
}

impl<'b> BitWriter<'b> {
    pub(crate) const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes that were begun.
    pub(crate) const fn len(&self) -> usize {
        self.position.div_ceil(8)
    }

    /// Up to 32 bits.
    pub(crate) fn bits(&mut self, value: u32, count: u32) -> Result<()> {
        if self.position + count as usize > self.bytes.len() * 8 {
            return Err(Error::BufferTooSmall);
        }
        for bit in (0..count).rev() {
            let byte = &mut self.bytes[self.position / 8];
            if self.position.is_multiple_of(8) {
                *byte = 0;
            }
            *byte |= ((value >> bit & 1) as u8) << (7 - self.position % 8);
            self.position += 1;
        }
        Ok(())
    }

    pub(crate) fn bit(&mut self, value: bool) -> Result<()> {
        self.bits(value.into(), 1)
    }

    /// Non-symmetric unsigned: one of `n` values (AV1 specification section 4.10.7).
    pub(crate) fn non_symmetric(&mut self, value: u32, n: u32) -> Result<()> {
        if n <= 1 {
            return Ok(());
        }
        let width = 32 - n.leading_zeros();
        let threshold = ((1u64 << width) - u64::from(n)) as u32;
        if value < threshold {
            self.bits(value, width - 1)
        } else {
            self.bits(value + threshold, width)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BitReader, BitWriter};

    #[test]
    fn non_symmetric_numbers_round_trip() {
        for n in 1..40 {
            for value in 0..n {
                let mut bytes = [0; 8];
                let mut writer = BitWriter::new(&mut bytes);
                writer.bits(1, 1).unwrap();
                writer.non_symmetric(value, n).unwrap();
                let mut reader = BitReader::new(&bytes, "test");
                reader.bits(1).unwrap();
                assert_eq!(reader.non_symmetric(n).unwrap(), value, "{value} of {n}");
            }
        }
    }

    #[test]
    fn exp_golomb_codes_of_h264_table_9_2() {
        let mut reader = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000], "test");
        let codes: Vec<_> = (0..5).map(|_| reader.exp_golomb().unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4]);
    }
}
