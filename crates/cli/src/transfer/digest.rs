//! The digest of a file: SHA-256 over the SHA-256 of each piece of 1 MiB.
//!
//! A browser can compute it with WebCrypto, which hashes whole buffers only, and a transfer can be
//! resumed and checked at every piece.

use visavis_crypto::HashAlgorithm;
use visavis_crypto::hash::Hash;

/// Bytes per piece; the last one of a file may be shorter.
pub(crate) const PIECE: u64 = 1 << 20;

/// A digest under way.
pub(crate) struct Digest {
    piece: Hash,
    /// Bytes in `piece`.
    filled: u64,
    /// Over the digests of whole pieces.
    whole: Hash,
    /// Bytes in all.
    len: u64,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self {
            piece: Hash::new(HashAlgorithm::Sha256),
            filled: 0,
            whole: Hash::new(HashAlgorithm::Sha256),
            len: 0,
        }
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(PIECE - self.filled).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            self.piece.update(now);
            self.filled += now.len() as u64;
            self.len += now.len() as u64;
            if self.filled == PIECE {
                let piece = std::mem::replace(&mut self.piece, Hash::new(HashAlgorithm::Sha256));
                self.whole.update(&piece.finish());
                self.filled = 0;
            }
            bytes = rest;
        }
    }

    /// The digest of what came so far, in hexadecimal.
    pub(crate) fn current(&self) -> String {
        let root = if self.filled == 0 {
            self.whole.current()
        } else {
            let mut whole = self.whole.clone();
            whole.update(&self.piece.current());
            whole.finish()
        };
        format!("{root:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_pieces_digests() {
        let data: Vec<u8> = (0..PIECE as usize * 2 + 5).map(|i| (i / 7) as u8).collect();
        let pieces: Vec<u8> = data
            .chunks(PIECE as usize)
            .flat_map(|piece| HashAlgorithm::Sha256.hash(piece).to_vec())
            .collect();
        let expected = format!("{:?}", HashAlgorithm::Sha256.hash(&pieces));
        let mut digest = Digest::new();
        for part in data.chunks(77_777) {
            digest.update(part);
        }
        assert_eq!(digest.current(), expected);
        assert_eq!(digest.len(), data.len() as u64);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::new().current(), empty);
    }
}
