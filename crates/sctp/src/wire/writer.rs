//! Writes one packet into a slot of the transmit buffer.

use super::{HEADER, checksum, padded};

/// A packet being written. Whoever writes a chunk has asked for [`room`](Self::room) before.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    len: usize,
    /// Where the chunk being written starts.
    chunk: usize,
}

impl<'a> Writer<'a> {
    /// A packet of at most `bytes.len()` bytes, which is a multiple of 4 and at least a header.
    pub(crate) fn new(
        bytes: &'a mut [u8],
        source_port: u16,
        destination_port: u16,
        tag: u32,
    ) -> Self {
        bytes[0..2].copy_from_slice(&source_port.to_be_bytes());
        bytes[2..4].copy_from_slice(&destination_port.to_be_bytes());
        bytes[4..8].copy_from_slice(&tag.to_be_bytes());
        bytes[8..12].fill(0);
        Self {
            bytes,
            len: HEADER,
            chunk: HEADER,
        }
    }

    /// Bytes left.
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Whether no chunk stands in the packet.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == HEADER
    }

    /// Replaces the verification tag.
    pub(crate) fn set_tag(&mut self, tag: u32) {
        self.bytes[4..8].copy_from_slice(&tag.to_be_bytes());
    }

    /// Begins a chunk.
    pub(crate) fn begin(&mut self, kind: u8, flags: u8) {
        self.chunk = self.len;
        self.put(&[kind, flags, 0, 0]);
    }

    /// Adds bytes to the chunk.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Adds a 16-bit number.
    pub(crate) fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Adds a 32-bit number.
    pub(crate) fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Adds zeros.
    pub(crate) fn put_zeros(&mut self, count: usize) {
        self.bytes[self.len..self.len + count].fill(0);
        self.len += count;
    }

    /// Adds a parameter or cause, padded.
    pub(crate) fn put_parameter(&mut self, kind: u16, value: &[u8]) {
        self.put_u16(kind);
        self.put_u16(4 + value.len() as u16);
        self.put(value);
        self.put_zeros(padded(value.len()) - value.len());
    }

    /// Ends the chunk: its length, and padding that the length does not count.
    pub(crate) fn end(&mut self) {
        let length = self.len - self.chunk;
        self.bytes[self.chunk + 2..self.chunk + 4].copy_from_slice(&(length as u16).to_be_bytes());
        self.put_zeros(padded(length) - length);
    }

    /// A whole chunk.
    pub(crate) fn chunk(&mut self, kind: u8, flags: u8, body: &[u8]) {
        self.begin(kind, flags);
        self.put(body);
        self.end();
    }

    /// Ends the packet and answers its length.
    pub(crate) fn finish(self, with_checksum: bool) -> usize {
        if with_checksum {
            let sum = checksum(&self.bytes[..self.len]);
            self.bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        }
        self.len
    }
}
