//! Whether what arrived is what was sent, over gigabytes of it.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A digest of a set of messages: the same whatever their order was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    sum: u64,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Digest {
    /// Adds one message of a stream.
    pub fn add(&mut self, stream: u16, data: &[u8]) {
        let mut hasher = DefaultHasher::new();
        stream.hash(&mut hasher);
        data.hash(&mut hasher);
        self.sum = self.sum.wrapping_add(hasher.finish());
        self.messages += 1;
        self.bytes += data.len() as u64;
    }
}
