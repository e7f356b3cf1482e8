//! Reading and writing the presentation language of RFC 8446 section 3: big-endian numbers and
//! vectors with a length in front.

use crate::alert::AlertDescription;

/// What reading gives: a value, or the alert that the peer deserves.
pub(crate) type Decode<T> = Result<T, AlertDescription>;

/// Reads from a slice, front to back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn take(&mut self, len: usize) -> Decode<&'a [u8]> {
        let (head, tail) = self
            .0
            .split_at_checked(len)
            .ok_or(AlertDescription::DECODE_ERROR)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Decode<[u8; N]> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(AlertDescription::DECODE_ERROR)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Decode<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Decode<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u24(&mut self) -> Decode<u32> {
        self.array()
            .map(|[a, b, c]: [u8; 3]| u32::from_be_bytes([0, a, b, c]))
    }

    pub(crate) fn u64(&mut self) -> Decode<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A vector with a one-byte length.
    pub(crate) fn vec8(&mut self) -> Decode<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// A vector with a two-byte length.
    pub(crate) fn vec16(&mut self) -> Decode<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// A vector with a three-byte length.
    pub(crate) fn vec24(&mut self) -> Decode<&'a [u8]> {
        let len = self.u24()?;
        self.take(len as usize)
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Decode<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(AlertDescription::DECODE_ERROR)
        }
    }
}

/// The 16-bit numbers of a vector whose length must be even.
pub(crate) fn u16s(bytes: &[u8]) -> Decode<impl Iterator<Item = u16> + Clone + '_> {
    if !bytes.len().is_multiple_of(2) {
        return Err(AlertDescription::DECODE_ERROR);
    }
    Ok(bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]])))
}

/// A list of 16-bit numbers has an even length.
pub(crate) fn check_u16s(bytes: &[u8]) -> Decode<()> {
    u16s(bytes).map(|_| ())
}

/// Writes to the end of a vector.
pub(crate) trait Write {
    fn bytes(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn u24(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes()[1..]);
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// A vector with a one-byte length that `content` writes. The content must be short enough.
    fn vec8(&mut self, content: impl FnOnce(&mut Self));

    /// A vector with a two-byte length that `content` writes. The content must be short enough.
    fn vec16(&mut self, content: impl FnOnce(&mut Self));

    /// A vector with a three-byte length that `content` writes. The content must be short enough.
    fn vec24(&mut self, content: impl FnOnce(&mut Self));
}

impl Write for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn vec8(&mut self, content: impl FnOnce(&mut Self)) {
        vector::<1>(self, content);
    }

    fn vec16(&mut self, content: impl FnOnce(&mut Self)) {
        vector::<2>(self, content);
    }

    fn vec24(&mut self, content: impl FnOnce(&mut Self)) {
        vector::<3>(self, content);
    }
}

fn vector<const N: usize>(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; N]);
    content(out);
    let len = out.len() - start - N;
    debug_assert!(len < 1 << (8 * N), "a vector longer than its length field");
    out[start..start + N].copy_from_slice(&(len as u64).to_be_bytes()[8 - N..]);
}

#[cfg(test)]
mod tests {
    use super::{Reader, Write, u16s};

    #[test]
    fn vectors_survive_the_wire() {
        let mut out = Vec::new();
        out.vec8(|out| out.u16(0x0102));
        out.vec16(|out| out.vec24(|out| out.bytes(b"abc")));
        assert_eq!(out, [2, 1, 2, 0, 6, 0, 0, 3, b'a', b'b', b'c']);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.vec8().unwrap(), [1, 2]);
        let mut inner = Reader::new(reader.vec16().unwrap());
        assert_eq!(inner.vec24().unwrap(), b"abc");
        inner.end().unwrap();
        reader.end().unwrap();
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        assert!(Reader::new(&[0, 0, 4, 1, 2, 3]).vec24().is_err());
        assert!(Reader::new(&[1]).u16().is_err());
        assert!(Reader::new(&[1]).end().is_err());
        assert!(u16s(&[1, 2, 3]).is_err());
    }
}
