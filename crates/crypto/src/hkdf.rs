//! HKDF (RFC 5869) over HMAC.

use crate::{Error, HashAlgorithm, Secret, hmac};

/// HKDF-Extract: a pseudorandom key of the hash's length.
pub fn extract(algorithm: HashAlgorithm, salt: &[u8], input: &[u8]) -> Secret {
    // An absent salt is as many zeros as the hash is long, which HMAC's padding makes of an empty one.
    Secret::new(&hmac::Key::new(algorithm, salt).sign(&[input]))
}

/// HKDF-Expand: fills `out`. `info` is given in parts.
///
/// # Errors
/// [`Error::OutputLength`] if `out` is longer than 255 hashes.
pub fn expand(
    algorithm: HashAlgorithm,
    pseudorandom_key: &[u8],
    info: &[&[u8]],
    out: &mut [u8],
) -> Result<(), Error> {
    Expander::new(algorithm, pseudorandom_key).expand(info, out)
}

/// HKDF-Expand with a pseudorandom key that is set up once.
#[derive(Debug, Clone)]
pub struct Expander(hmac::Key);

impl Expander {
    /// The most parts that an `info` may have.
    pub const MAX_PARTS: usize = 8;

    /// Sets the pseudorandom key up.
    pub fn new(algorithm: HashAlgorithm, pseudorandom_key: &[u8]) -> Self {
        Self(hmac::Key::new(algorithm, pseudorandom_key))
    }

    /// HKDF-Expand: fills `out`. `info` is given in up to [`Expander::MAX_PARTS`] parts.
    ///
    /// # Errors
    /// [`Error::OutputLength`] if `out` is longer than 255 hashes.
    ///
    /// # Panics
    /// If `info` has more parts.
    pub fn expand(&self, info: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
        let hash_len = self.0.algorithm().output_len();
        if out.len() > 255 * hash_len {
            return Err(Error::OutputLength);
        }
        assert!(
            info.len() <= Self::MAX_PARTS,
            "info of {} parts",
            info.len()
        );
        let mut previous = Secret::zeros(0);
        for (index, chunk) in out.chunks_mut(hash_len).enumerate() {
            let counter = [index as u8 + 1];
            let mut parts: [&[u8]; Self::MAX_PARTS + 2] = [&[]; Self::MAX_PARTS + 2];
            parts[0] = previous.as_ref();
            parts[1..=info.len()].copy_from_slice(info);
            parts[info.len() + 1] = &counter;
            let block = Secret::new(&self.0.sign(&parts[..info.len() + 2]));
            chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
            previous = block;
        }
        Ok(())
    }
}
