//! Comfort noise (RFC 3389 section 3): the level of the noise, and its spectrum.

use crate::{Error, Result};

/// The static payload type at 8000 Hz (section 4).
pub const STATIC_PAYLOAD_TYPE: u8 = 13;

/// A comfort noise payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComfortNoise<'a> {
    /// Noise level below overload in dB, 0 to 127.
    pub level: u8,
    /// Quantised reflection coefficients, lowest order first: (byte - 127) / 128.
    pub coefficients: &'a [u8],
}

impl<'a> ComfortNoise<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Truncated`] for an empty one.
    pub fn parse(payload: &'a [u8]) -> Result<Self> {
        let (level, coefficients) = payload
            .split_first()
            .ok_or(Error::Truncated("comfort noise"))?;
        Ok(Self {
            level: level & 0x7f,
            coefficients,
        })
    }

    /// Writes the payload and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn write(&self, out: &mut [u8]) -> Result<usize> {
        let len = 1 + self.coefficients.len();
        let slot = out.get_mut(..len).ok_or(Error::BufferTooSmall)?;
        slot[0] = self.level & 0x7f;
        slot[1..].copy_from_slice(self.coefficients);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::ComfortNoise;

    #[test]
    fn payloads_round_trip() {
        let noise = ComfortNoise::parse(&[78, 127, 3]).unwrap();
        assert_eq!((noise.level, noise.coefficients), (78, &[127, 3][..]));
        let mut out = [0; 3];
        assert_eq!(noise.write(&mut out), Ok(3));
        assert_eq!(out, [78, 127, 3]);
        assert!(ComfortNoise::parse(&[]).is_err());
    }
}
