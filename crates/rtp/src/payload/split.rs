//! Cuts a run of bytes into pieces of nearly equal size: a short last packet would cost as much as a
//! full one.

use super::Fragment;
use crate::{Error, Result};

/// What is left of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Split {
    offset: usize,
    len: usize,
    pieces: usize,
}

impl Split {
    /// Cuts `len` bytes into the fewest pieces of up to `max` bytes.
    pub(super) fn new(len: usize, max: usize) -> Result<Self> {
        if max == 0 {
            return Err(Error::NotRepresentable("payload size below the header's"));
        }
        Ok(Self {
            offset: 0,
            len,
            pieces: len.div_ceil(max),
        })
    }

    /// The next piece's bytes, without moving on.
    pub(super) fn peek(&self) -> Option<std::ops::Range<usize>> {
        if self.pieces == 0 {
            return None;
        }
        let left = self.len - self.offset;
        Some(self.offset..self.offset + left.div_ceil(self.pieces))
    }

    /// Moves past the next piece.
    pub(super) fn advance(&mut self) {
        if let Some(piece) = self.peek() {
            self.offset = piece.end;
            self.pieces -= 1;
        }
    }

    pub(super) fn is_first(&self) -> bool {
        self.offset == 0
    }

    pub(super) fn is_last(&self) -> bool {
        self.pieces == 1
    }

    /// Writes the next piece of a frame behind the header that `write` writes, which is told whether the piece is the
    /// first and the last, and answers how long it is.
    pub(super) fn next_payload(
        &mut self,
        frame: &[u8],
        out: &mut [u8],
        end_of_picture: bool,
        write: impl FnOnce(bool, bool, &mut [u8]) -> Result<usize>,
    ) -> Result<Option<Fragment>> {
        let Some(piece) = self.peek() else {
            return Ok(None);
        };
        let piece = frame.get(piece).ok_or(Error::Truncated("frame"))?;
        let (first, last) = (self.is_first(), self.is_last());
        let header = write(first, last, out)?;
        out.get_mut(header..header + piece.len())
            .ok_or(Error::BufferTooSmall)?
            .copy_from_slice(piece);
        self.advance();
        Ok(Some(Fragment {
            len: header + piece.len(),
            start_of_frame: first,
            end_of_frame: last,
            marker: last && end_of_picture,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::Split;

    #[test]
    fn pieces_cover_the_run_and_differ_by_one_byte_at_most() {
        for len in 1..200 {
            for max in 1..40 {
                let mut split = Split::new(len, max).unwrap();
                let mut sizes = Vec::new();
                let mut at = 0;
                while let Some(piece) = split.peek() {
                    assert_eq!(piece.start, at);
                    at = piece.end;
                    sizes.push(piece.len());
                    split.advance();
                }
                assert_eq!(at, len);
                let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                assert!(
                    most - least <= 1 && *most <= max,
                    "{len} by {max}: {sizes:?}"
                );
            }
        }
    }
}
