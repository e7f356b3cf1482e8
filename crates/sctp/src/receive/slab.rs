//! Memory for received payload: large blocks, handed out in slices that keep their block alive,
//! and taken again once all slices of a block are gone. No allocation per packet.

use bytes::{Bytes, BytesMut};

/// Bytes of the first block: a connection that says little stays small.
const FIRST: usize = 2 << 10;
/// Bytes of the largest block; each is twice the one before. Whoever keeps a small message keeps its
/// block: see the README.
const LARGEST: usize = 64 << 10;
/// Blocks that wait for their slices to go.
const RETIRED: usize = 8;

/// The blocks.
#[derive(Debug)]
pub(crate) struct Slab {
    /// Bytes of the current block.
    block: usize,
    current: Option<BytesMut>,
    retired: Vec<BytesMut>,
}

impl Default for Slab {
    fn default() -> Self {
        Self {
            block: FIRST / 2,
            current: None,
            retired: Vec::new(),
        }
    }
}

impl Slab {
    /// A copy of `data`.
    pub(crate) fn copy(&mut self, data: &[u8]) -> Bytes {
        if data.len() > LARGEST / 2 {
            return Bytes::copy_from_slice(data);
        }
        let block = self.with_room(data.len());
        block.extend_from_slice(data);
        block.split().freeze()
    }

    /// An empty buffer of at least `capacity` bytes.
    pub(crate) fn buffer(&mut self, capacity: usize) -> BytesMut {
        if capacity > LARGEST / 2 {
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
        let block = self.block;
        let fits = self
            .current
            .as_mut()
            .is_some_and(|current| current.capacity() >= length || current.try_reclaim(block));
        if !fits || block < length {
            self.next_block(length);
        }
        self.current.get_or_insert_with(BytesMut::new)
    }

    /// Takes a block with room for `length` bytes, at most half of the largest.
    fn next_block(&mut self, length: usize) {
        let before = self.block;
        self.block = (before.max(length.next_power_of_two()) * 2).min(LARGEST);
        let block = self.block;
        let reusable = self
            .retired
            .iter_mut()
            .position(|retired| retired.try_reclaim(block));
        let next = match reusable {
            Some(at) => self.retired.swap_remove(at),
            None => BytesMut::with_capacity(block),
        };
        let old = self.current.replace(next);
        // Smaller ones are not wanted again.
        if let Some(old) = old.filter(|_| before == LARGEST) {
            if self.retired.len() == RETIRED {
                self.retired.remove(0);
            }
            self.retired.push(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST, LARGEST, Slab};

    #[test]
    fn a_block_is_used_again_once_its_slices_are_gone() {
        let mut slab = Slab::default();
        while slab.block < LARGEST {
            std::mem::forget(slab.copy(&[0; 1000]));
        }
        slab.next_block(1);
        let first = slab.copy(&[1; 1000]);
        let address = first.as_ptr();
        drop(first);
        for _ in 0..LARGEST / 1000 - 1 {
            slab.copy(&[2; 1000]);
        }
        assert_eq!(slab.copy(&[3; 1000]).as_ptr(), address);
    }

    #[test]
    fn blocks_grow_with_what_is_kept() {
        let mut slab = Slab::default();
        for _ in 0..100 {
            slab.copy(&[1; 800]);
        }
        assert_eq!(slab.block, FIRST, "what is gone at once needs no more");
        let kept: Vec<_> = (0..100).map(|_| slab.copy(&[1; 800])).collect();
        assert_eq!(slab.block, LARGEST);
        slab.trim();
        assert_eq!(slab.copy(&[1; 30_000]).len(), 30_000);
        assert!(kept.iter().all(|slice| slice[..] == [1; 800]));
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
