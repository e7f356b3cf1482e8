//! Memory for received payload: large blocks, handed out in slices that keep their block alive,
//! and taken again once all slices of a block are gone. No allocation per packet.

use bytes::{Bytes, BytesMut};

/// Bytes of a block. Whoever keeps a small message keeps its block: see the README.
const BLOCK: usize = 64 << 10;
/// Blocks that wait for their slices to go.
const RETIRED: usize = 8;

/// The blocks.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    current: Option<BytesMut>,
    retired: Vec<BytesMut>,
}

impl Slab {
    /// A copy of `data`.
    pub(crate) fn copy(&mut self, data: &[u8]) -> Bytes {
        if data.len() > BLOCK / 2 {
            return Bytes::copy_from_slice(data);
        }
        let block = self.with_room(data.len());
        block.extend_from_slice(data);
        block.split().freeze()
    }

    /// An empty buffer of at least `capacity` bytes.
    pub(crate) fn buffer(&mut self, capacity: usize) -> BytesMut {
        if capacity > BLOCK / 2 {
            return BytesMut::with_capacity(capacity);
        }
        let block = self.with_room(capacity);
        let rest = block.split_off(capacity);
        std::mem::replace(block, rest)
    }

    /// Gives memory back.
    pub(crate) fn trim(&mut self) {
        *self = Self::default();
    }

    fn with_room(&mut self, length: usize) -> &mut BytesMut {
        let fits = self
            .current
            .as_mut()
            .is_some_and(|block| block.capacity() >= length || block.try_reclaim(BLOCK));
        if !fits {
            let reusable = self
                .retired
                .iter_mut()
                .position(|block| block.try_reclaim(BLOCK));
            let next = match reusable {
                Some(at) => self.retired.swap_remove(at),
                None => BytesMut::with_capacity(BLOCK),
            };
            if let Some(old) = self.current.replace(next) {
                if self.retired.len() == RETIRED {
                    self.retired.remove(0);
                }
                self.retired.push(old);
            }
        }
        self.current.get_or_insert_with(BytesMut::new)
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Slab};

    #[test]
    fn a_block_is_used_again_once_its_slices_are_gone() {
        let mut slab = Slab::default();
        let first = slab.copy(&[1; 1000]);
        let address = first.as_ptr();
        drop(first);
        for _ in 0..BLOCK / 1000 - 1 {
            slab.copy(&[2; 1000]);
        }
        assert_eq!(slab.copy(&[3; 1000]).as_ptr(), address);
        assert!(slab.retired.is_empty());
    }

    #[test]
    fn slices_and_buffers_do_not_overlap() {
        let mut slab = Slab::default();
        let mut buffer = slab.buffer(2000);
        let slice = slab.copy(&[7; 500]);
        buffer.extend_from_slice(&[9; 2000]);
        assert_eq!(&slice[..], &[7; 500]);
        buffer.extend_from_slice(&[9; 60_000]);
        assert_eq!(&slab.copy(&[5; 500])[..], &[5; 500]);
        assert_eq!(&slice[..], &[7; 500]);
        assert!(buffer.iter().all(|&byte| byte == 9));
    }
}
