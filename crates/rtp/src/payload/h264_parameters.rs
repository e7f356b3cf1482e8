//! H.264 parameter sets: what of a sequence and picture parameter set a stack wants to know
//! (H.264 sections 7.3.2.1 and 7.3.2.2).

use super::nal::unescape;
use crate::bytes::BitReader;
use crate::{Error, Result};

/// Bytes of a parameter set that are looked at.
const LOOKED_AT: usize = 256;

/// A sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sps {
    /// profile_idc; with the next two, the `profile-level-id` of SDP.
    pub profile: u8,
    /// The constraint flags and the reserved bits behind them.
    pub constraints: u8,
    /// level_idc: ten times the level.
    pub level: u8,
    /// The set's id, 0 to 31.
    pub id: u8,
    /// chroma_format_idc: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma and of a chroma sample, 8 to 14.
    pub bit_depth: (u8, u8),
    /// How many reference frames the decoder has to keep.
    pub max_reference_frames: u32,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
}

impl Sps {
    /// Reads a NAL unit of type 7.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Malformed`].
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let mut buffer = [0; LOOKED_AT];
        let mut bits = BitReader::new(unescape(nal, &mut buffer), "H.264 SPS");
        if bits.bits(8)? & 0x1f != 7 {
            return Err(Error::Malformed("not a sequence parameter set"));
        }
        let profile = bits.bits(8)? as u8;
        let constraints = bits.bits(8)? as u8;
        let level = bits.bits(8)? as u8;
        let id = bits.exp_golomb()?;
        let mut chroma_format = 1;
        let mut separate_planes = false;
        let mut bit_depth = (8, 8);
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma_format = bits.exp_golomb()?;
            if chroma_format == 3 {
                separate_planes = bits.bit()?;
            }
            bit_depth = (
                super::bit_depth(bits.exp_golomb()?)?,
                super::bit_depth(bits.exp_golomb()?)?,
            );
            bits.skip(1)?;
            if bits.bit()? {
                for index in 0..if chroma_format == 3 { 12 } else { 8 } {
                    if bits.bit()? {
                        skip_scaling_list(&mut bits, if index < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.exp_golomb()?;
        match bits.exp_golomb()? {
            0 => {
                bits.exp_golomb()?;
            }
            1 => {
                bits.skip(1)?;
                bits.signed_exp_golomb()?;
                bits.signed_exp_golomb()?;
                let cycle = bits.exp_golomb()?;
                for _ in 0..cycle.min(256) {
                    bits.signed_exp_golomb()?;
                }
            }
            _ => {}
        }
        let max_reference_frames = bits.exp_golomb()?;
        bits.skip(1)?;
        let width = u64::from(bits.exp_golomb()?) + 1;
        let map_height = u64::from(bits.exp_golomb()?) + 1;
        let frames_only = bits.bit()?;
        if !frames_only {
            bits.skip(1)?;
        }
        bits.skip(1)?;
        let mut crop = [0u64; 4];
        if bits.bit()? {
            for side in &mut crop {
                *side = bits.exp_golomb()?.into();
            }
        }
        let fields = if frames_only { 1 } else { 2 };
        // Cropping counts chroma samples (table 6-1, equations 7-19 to 7-22).
        let (unit_x, unit_y) = match (separate_planes, chroma_format) {
            (false, 1) => (2, 2 * fields),
            (false, 2) => (2, fields),
            _ => (1, fields),
        };
        let size = |blocks: u64, fields: u64, unit: u64, crop: u64| {
            (blocks * 16 * fields)
                .checked_sub(unit * crop)
                .and_then(|size| u32::try_from(size).ok())
                .filter(|&size| size > 0)
                .ok_or(Error::Malformed("H.264 picture size"))
        };
        Ok(Self {
            profile,
            constraints,
            level,
            id: u8::try_from(id)
                .ok()
                .filter(|&id| id < 32)
                .ok_or(Error::Malformed("H.264 SPS id"))?,
            chroma_format: u8::try_from(chroma_format)
                .ok()
                .filter(|&format| format < 4)
                .ok_or(Error::Malformed("H.264 chroma format"))?,
            bit_depth,
            max_reference_frames,
            width: size(width, 1, unit_x, crop[0] + crop[1])?,
            height: size(map_height, fields, unit_y, crop[2] + crop[3])?,
        })
    }

    /// The three bytes of SDP's `profile-level-id`.
    pub const fn profile_level_id(&self) -> [u8; 3] {
        [self.profile, self.constraints, self.level]
    }
}

fn skip_scaling_list(bits: &mut BitReader<'_>, size: usize) -> Result<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.signed_exp_golomb()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Ok(())
}

/// A picture parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pps {
    /// The set's id, 0 to 255.
    pub id: u8,
    /// The sequence parameter set that it refers to, 0 to 31.
    pub sps_id: u8,
    /// Whether it uses CABAC rather than CAVLC.
    pub cabac: bool,
}

impl Pps {
    /// Reads a NAL unit of type 8.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Malformed`].
    pub fn parse(nal: &[u8]) -> Result<Self> {
        let mut buffer = [0; 32];
        let mut bits = BitReader::new(unescape(nal, &mut buffer), "H.264 PPS");
        if bits.bits(8)? & 0x1f != 8 {
            return Err(Error::Malformed("not a picture parameter set"));
        }
        let id = u8::try_from(bits.exp_golomb()?).map_err(|_| Error::Malformed("H.264 PPS id"))?;
        let sps_id = u8::try_from(bits.exp_golomb()?)
            .ok()
            .filter(|&id| id < 32)
            .ok_or(Error::Malformed("H.264 SPS id"))?;
        Ok(Self {
            id,
            sps_id,
            cabac: bits.bit()?,
        })
    }
}
