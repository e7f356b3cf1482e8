//! Compound packets that wait to be sent, in buffers that are used again.

use std::collections::VecDeque;

/// Compound packets that wait; beyond, new ones are refused.
const MOST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct RtcpQueue {
    waiting: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl RtcpQueue {
    /// Takes a compound packet; false if it is empty or too many wait.
    pub(super) fn push(&mut self, compound: &[u8]) -> bool {
        if compound.is_empty() || self.waiting.len() >= MOST {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(compound);
        self.waiting.push_back(buffer);
        true
    }

    pub(super) fn front(&self) -> Option<&[u8]> {
        self.waiting.front().map(Vec::as_slice)
    }

    pub(super) fn pop_front(&mut self) {
        self.spare.extend(self.waiting.pop_front());
    }
}
