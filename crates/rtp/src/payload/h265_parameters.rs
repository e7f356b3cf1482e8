//! H.265 parameter sets: what of a sequence parameter set a stack wants to know (H.265 sections 7.3.2.2
//! and 7.3.3).

use super::nal::unescape;
use crate::bytes::BitReader;
use crate::{Error, Result};

/// Bytes of a parameter set that are looked at.
const LOOKED_AT: usize = 256;

/// A sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H265Sps {
    /// general_profile_space, general_tier_flag and general_profile_idc, as they stand in a byte.
    pub profile: u8,
    /// general_profile_compatibility_flag 0 to 31, the first in the highest bit.
    pub compatibility: u32,
    /// The 48 bits of constraint flags behind them.
    pub constraints: u64,
    /// general_level_idc: thirty times the level.
    pub level: u8,
    /// Temporal layers, 1 to 7.
    pub temporal_layers: u8,
    /// Whether a decoder may step up to a higher temporal layer anywhere (sps_temporal_id_nesting_flag).
    pub temporal_nesting: bool,
    /// chroma_format_idc: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma and of a chroma sample, 8 to 16.
    pub bit_depth: (u8, u8),
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
}

impl H265Sps {
    /// Reads a NAL unit of type 33.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Malformed`].
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let mut buffer = [0; LOOKED_AT];
        let mut bits = BitReader::new(unescape(nal, &mut buffer), "H.265 SPS");
        if bits.bits(16)? >> 9 & 0x3f != 33 {
            return Err(Error::Malformed("not a sequence parameter set"));
        }
        bits.skip(4)?;
        let sub_layers = bits.bits(3)?;
        if sub_layers > 6 {
            return Err(Error::Malformed("H.265 temporal layers"));
        }
        let temporal_nesting = bits.bit()?;
        let profile = bits.bits(8)? as u8;
        let compatibility = bits.bits(32)?;
        let constraints = u64::from(bits.bits(32)?) << 16 | u64::from(bits.bits(16)?);
        let level = bits.bits(8)? as u8;
        skip_sub_layers(&mut bits, sub_layers)?;
        bits.exp_golomb()?;
        let chroma_format = bits.exp_golomb()?;
        let separate_planes = chroma_format == 3 && bits.bit()?;
        let width = bits.exp_golomb()?;
        let height = bits.exp_golomb()?;
        let mut crop = [0u64; 4];
        if bits.bit()? {
            for side in &mut crop {
                *side = bits.exp_golomb()?.into();
            }
        }
        let bit_depth = (
            super::bit_depth(bits.exp_golomb()?)?,
            super::bit_depth(bits.exp_golomb()?)?,
        );
        // Cropping counts chroma samples (table 6-1).
        let (unit_x, unit_y) = match (separate_planes, chroma_format) {
            (false, 1) => (2, 2),
            (false, 2) => (2, 1),
            _ => (1, 1),
        };
        let size = |pixels: u32, unit: u64, crop: u64| {
            u64::from(pixels)
                .checked_sub(unit * crop)
                .and_then(|size| u32::try_from(size).ok())
                .filter(|&size| size > 0)
                .ok_or(Error::Malformed("H.265 picture size"))
        };
        Ok(Self {
            profile,
            compatibility,
            constraints,
            level,
            temporal_layers: sub_layers as u8 + 1,
            temporal_nesting,
            chroma_format: u8::try_from(chroma_format)
                .ok()
                .filter(|&format| format < 4)
                .ok_or(Error::Malformed("H.265 chroma format"))?,
            bit_depth,
            width: size(width, unit_x, crop[0] + crop[1])?,
            height: size(height, unit_y, crop[2] + crop[3])?,
        })
    }
}

/// Profiles and levels of the temporal layers below the highest.
fn skip_sub_layers(bits: &mut BitReader<'_>, count: u32) -> Result<()> {
    let mut present = [(false, false); 6];
    for layer in present.iter_mut().take(count as usize) {
        *layer = (bits.bit()?, bits.bit()?);
    }
    if count > 0 {
        // Up to the eighth layer, two reserved bits each.
        bits.skip(2 * (8 - count as usize))?;
    }
    for (profile, level) in present {
        bits.skip(88 * usize::from(profile) + 8 * usize::from(level))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sequence parameter set that x265 3.5 writes for 480x272 pixels, 4:2:0, 8 bits.
    const X265: [u8; 41] = [
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00,
        0x03, 0x00, 0x3f, 0xa0, 0x0f, 0x08, 0x04, 0x45, 0x96, 0x56, 0x54, 0xa4, 0xc2, 0xf0, 0x16,
        0x80, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00, 0x0f, 0x04,
    ];

    #[test]
    fn a_set_of_x265_is_read() {
        let sps = H265Sps::parse(&X265).unwrap();
        assert_eq!((sps.width, sps.height), (480, 272));
        assert_eq!((sps.profile, sps.level), (1, 63));
        assert_eq!((sps.chroma_format, sps.bit_depth), (1, (8, 8)));
        assert_eq!((sps.temporal_layers, sps.temporal_nesting), (1, true));
        assert_eq!(sps.compatibility, 0x6000_0000);
        assert_eq!(sps.constraints >> 40, 0x90);
    }

    #[test]
    fn what_ends_early_or_is_no_such_set_is_refused() {
        for len in 0..20 {
            H265Sps::parse(&X265[..len]).unwrap_err();
        }
        H265Sps::parse(&[0x40; 40]).unwrap_err();
        H265Sps::parse(&[0x42; 40]).unwrap_err();
    }
}
