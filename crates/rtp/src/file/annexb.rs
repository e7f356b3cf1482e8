//! H.264 and H.265 byte streams (Annex B), read one access unit at a time. To write such a file,
//! write the frames one behind the other.

use std::io::{ErrorKind, Read};

use super::{FileError, MAX_FRAME, Result};
use crate::payload::nal::NalUnits;

/// Which of the two the stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnnexBCodec {
    /// H.264.
    H264,
    /// H.265.
    H265,
}

/// What a NAL unit says about the borders of access units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A slice: the first of its picture, or another.
    Slice { first: bool },
    /// Stands before the first slice of a picture.
    Before,
    /// Stands behind slices, or anywhere.
    Other,
}

impl AnnexBCodec {
    fn role(self, nal: &[u8]) -> Role {
        let byte = |at: usize| nal.get(at).copied().unwrap_or(0);
        match self {
            // H.264 section 7.4.1.2.3. first_mb_in_slice 0 is Exp-Golomb "1".
            Self::H264 => match byte(0) & 0x1f {
                1 | 2 | 5 => Role::Slice {
                    first: byte(1) & 0x80 != 0,
                },
                6..=9 | 14..=18 => Role::Before,
                _ => Role::Other,
            },
            // H.265 section 7.4.2.4.4. first_slice_segment_in_pic_flag is the first bit.
            Self::H265 => match byte(0) >> 1 & 0x3f {
                0..=31 => Role::Slice {
                    first: byte(2) & 0x80 != 0,
                },
                32..=35 | 39 | 41..=44 | 48..=55 => Role::Before,
                _ => Role::Other,
            },
        }
    }
}

/// Reads a byte stream access unit by access unit.
#[derive(Debug)]
pub struct AnnexBReader<R> {
    stream: R,
    codec: AnnexBCodec,
    buffer: Vec<u8>,
    /// How far `buffer` was searched: the start of a NAL unit that was not complete.
    searched: usize,
    /// Whether the access unit at the buffer's front has a slice.
    has_slice: bool,
    ended: bool,
}

impl<R: Read> AnnexBReader<R> {
    const CHUNK: usize = 64 << 10;

    /// Begins to read; nothing is read yet.
    pub const fn new(stream: R, codec: AnnexBCodec) -> Self {
        Self {
            stream,
            codec,
            buffer: Vec::new(),
            searched: 0,
            has_slice: false,
            ended: false,
        }
    }

    /// Reads the next access unit, start codes and all, into `frame`; false at the end.
    ///
    /// # Errors
    /// [`FileError::Io`], or [`FileError::Limit`] for one above [`MAX_FRAME`].
    pub fn read_frame(&mut self, frame: &mut Vec<u8>) -> Result<bool> {
        loop {
            if let Some(border) = self.find_border() {
                frame.clear();
                frame.extend_from_slice(&self.buffer[..border]);
                self.buffer.drain(..border);
                self.searched = 0;
                self.has_slice = false;
                return Ok(true);
            }
            if self.ended {
                frame.clear();
                frame.append(&mut self.buffer);
                self.searched = 0;
                return Ok(!frame.is_empty());
            }
            self.fill()?;
        }
    }

    /// Where the second access unit of the buffer begins, if that can be told yet.
    fn find_border(&mut self) -> Option<usize> {
        let base = self.searched;
        let mut units = NalUnits::new(&self.buffer[base..]);
        let mut current = units.next_range()?;
        loop {
            let next = units.next_range();
            // The start code belongs to the unit behind it, with the zero before it.
            let code = base + current.start - 3;
            if next.is_none() && !self.ended {
                // The last unit may not be complete: search on from there.
                self.searched = code;
                return None;
            }
            let nal = &self.buffer[base + current.start..base + current.end];
            let role = self.codec.role(nal);
            if self.has_slice && matches!(role, Role::Slice { first: true } | Role::Before) {
                let long = code > 0 && self.buffer[code - 1] == 0;
                return Some(code - usize::from(long));
            }
            self.has_slice |= matches!(role, Role::Slice { .. });
            current = next?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        if self.buffer.len() > MAX_FRAME {
            return Err(FileError::Limit("frame size"));
        }
        let len = self.buffer.len();
        // Growing by what is there keeps the search for borders linear.
        self.buffer.resize(len + len.max(Self::CHUNK), 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[len..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(())
    }
}
