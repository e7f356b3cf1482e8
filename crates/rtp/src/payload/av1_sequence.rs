//! AV1 sequence headers: what of one a file format wants to know (AV1 specification sections 5.5 and 6.4).

use super::av1::sequence_header;
use crate::bytes::BitReader;
use crate::{Error, Result};

/// A sequence header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Av1Sequence {
    /// seq_profile, 0 to 2.
    pub profile: u8,
    /// seq_level_idx of the first operating point, 0 to 31.
    pub level: u8,
    /// seq_tier of the first operating point.
    pub high_tier: bool,
    /// Bits of a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// Whether there is luma alone.
    pub monochrome: bool,
    /// Whether chroma is halved in width and in height.
    pub subsampling: (bool, bool),
    /// chroma_sample_position, 0 to 3.
    pub chroma_position: u8,
    /// The largest width in pixels.
    pub width: u32,
    /// The largest height in pixels.
    pub height: u32,
}

impl Av1Sequence {
    /// Finds the sequence header of a temporal unit, whose OBUs have sizes, and reads it: the header, and the
    /// whole OBU. `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Malformed`].
    pub fn find(temporal_unit: &[u8]) -> Result<Option<(Self, &[u8])>> {
        let Some((obu, content)) = sequence_header(temporal_unit)? else {
            return Ok(None);
        };
        Ok(Some((Self::parse(content)?, obu)))
    }

    /// Reads the content of an OBU of type 1.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Malformed`].
    pub fn parse(content: &[u8]) -> Result<Self> {
        let mut bits = BitReader::new(content, "AV1 sequence header");
        let profile = bits.bits(3)? as u8;
        if profile > 2 {
            return Err(Error::Malformed("AV1 profile"));
        }
        bits.skip(1)?;
        let reduced = bits.bit()?;
        let (level, high_tier) = if reduced {
            (bits.bits(5)? as u8, false)
        } else {
            operating_points(&mut bits)?
        };
        let (width_bits, height_bits) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
        let (width, height) = (bits.bits(width_bits)? + 1, bits.bits(height_bits)? + 1);
        skip_tools(&mut bits, reduced)?;
        let color = Color::read(&mut bits, profile)?;
        Ok(Self {
            profile,
            level,
            high_tier,
            bit_depth: color.bit_depth,
            monochrome: color.monochrome,
            subsampling: color.subsampling,
            chroma_position: color.position,
            width,
            height,
        })
    }
}

/// Timing and operating points; level and tier of the first.
fn operating_points(bits: &mut BitReader<'_>) -> Result<(u8, bool)> {
    let mut delay_bits = None;
    if bits.bit()? {
        bits.skip(64)?;
        if bits.bit()? {
            bits.exp_golomb()?;
        }
        if bits.bit()? {
            delay_bits = Some(bits.bits(5)? as usize + 1);
            bits.skip(42)?;
        }
    }
    let display_delay = bits.bit()?;
    let mut first = (0, false);
    for index in 0..=bits.bits(5)? {
        bits.skip(12)?;
        let level = bits.bits(5)? as u8;
        let high_tier = level > 7 && bits.bit()?;
        if index == 0 {
            first = (level, high_tier);
        }
        if let Some(delay_bits) = delay_bits
            && bits.bit()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if display_delay && bits.bit()? {
            bits.skip(4)?;
        }
    }
    Ok(first)
}

/// The coding tools, between the picture's size and its colours.
fn skip_tools(bits: &mut BitReader<'_>, reduced: bool) -> Result<()> {
    if !reduced && bits.bit()? {
        bits.skip(7)?;
    }
    bits.skip(3)?;
    if !reduced {
        bits.skip(4)?;
        let order_hint = bits.bit()?;
        if order_hint {
            bits.skip(2)?;
        }
        let screen_content = bits.bit()? || bits.bit()?;
        if screen_content && !bits.bit()? {
            bits.skip(1)?;
        }
        if order_hint {
            bits.skip(3)?;
        }
    }
    bits.skip(3)
}

/// Section 5.5.2.
struct Color {
    bit_depth: u8,
    monochrome: bool,
    subsampling: (bool, bool),
    position: u8,
}

impl Color {
    fn read(bits: &mut BitReader<'_>, profile: u8) -> Result<Self> {
        /// BT.709 primaries, sRGB transfer, identity matrix.
        const SRGB: u32 = 0x01_0d_00;
        let high = bits.bit()?;
        let bit_depth = match (high, profile) {
            (false, _) => 8,
            (true, 2) if bits.bit()? => 12,
            (true, _) => 10,
        };
        let monochrome = profile != 1 && bits.bit()?;
        let described = bits.bit()?;
        let description = if described {
            bits.bits(24)?
        } else {
            0x02_02_02
        };
        let mut position = 0;
        let subsampling = if monochrome {
            bits.skip(1)?;
            (true, true)
        } else if description == SRGB {
            (false, false)
        } else {
            bits.skip(1)?;
            let subsampling = match (profile, bit_depth) {
                (0, _) => (true, true),
                (1, _) => (false, false),
                (_, 12) => {
                    let x = bits.bit()?;
                    (x, x && bits.bit()?)
                }
                _ => (true, false),
            };
            if subsampling == (true, true) {
                position = bits.bits(2)? as u8;
            }
            subsampling
        };
        Ok(Self {
            bit_depth,
            monochrome,
            subsampling,
            position,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sequence header that libaom 3.6 writes for 480x272 pixels, 4:2:0, 8 bits, in a temporal unit.
    const LIBAOM: [u8; 15] = [
        0x12, 0x00, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x04, 0x47, 0x7e, 0x1e, 0x6d, 0x7c, 0x80, 0x20,
    ];

    #[test]
    fn a_header_of_libaom_is_read() {
        let (header, obu) = Av1Sequence::find(&LIBAOM).unwrap().unwrap();
        assert_eq!(obu, &LIBAOM[2..]);
        assert_eq!((header.width, header.height), (480, 272));
        assert_eq!((header.profile, header.bit_depth), (0, 8));
        assert_eq!(header.subsampling, (true, true));
        assert!(!header.monochrome && !header.high_tier);
    }

    #[test]
    fn what_ends_early_is_refused() {
        assert_eq!(Av1Sequence::find(&[0x12, 0x00]).unwrap(), None);
        for len in 3..LIBAOM.len() {
            Av1Sequence::find(&LIBAOM[..len]).unwrap_err();
        }
        for len in 0..8 {
            Av1Sequence::parse(&LIBAOM[4..4 + len]).unwrap_err();
        }
    }
}
