//! Header extensions that describe the sound or the picture.

use super::{Extension, ExtensionKind};
use crate::bytes::{Reader, Writer};
use crate::{Error, Result};

fn single(data: &[u8], what: &'static str) -> Result<u8> {
    Reader::new(data, what).u8()
}

/// The sender's audio level (RFC 6464 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AudioLevel {
    /// Whether the sender believes that the packet has voice.
    pub voice: bool,
    /// Level below overload in dB: 0 loudest, 127 silence.
    pub level: u8,
}

impl Extension<'_> for AudioLevel {
    const KIND: ExtensionKind = ExtensionKind::AudioLevel;

    fn parse(data: &[u8]) -> Result<Self> {
        let bits = single(data, "audio level")?;
        Ok(Self {
            voice: bits & 0x80 != 0,
            level: bits & 0x7f,
        })
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn write(&self, slot: &mut [u8]) {
        slot[0] = u8::from(self.voice) << 7 | self.level & 0x7f;
    }
}

/// The audio level of each contributing source of a mixed stream, in the order of the CSRC list
/// (RFC 6465 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MixerAudioLevels<'a> {
    bytes: &'a [u8],
}

impl<'a> MixerAudioLevels<'a> {
    /// From levels in dB below overload, one byte per source, 0 to 127, 1 to 15 of them.
    pub const fn new(levels: &'a [u8]) -> Option<Self> {
        if levels.is_empty() || levels.len() > 15 {
            return None;
        }
        Some(Self { bytes: levels })
    }

    /// Level below overload in dB of each source: 0 loudest, 127 silence.
    pub fn levels(&self) -> impl ExactSizeIterator<Item = u8> + use<'a> {
        self.bytes.iter().map(|level| level & 0x7f)
    }
}

impl<'a> Extension<'a> for MixerAudioLevels<'a> {
    const KIND: ExtensionKind = ExtensionKind::MixerAudioLevels;

    fn parse(data: &'a [u8]) -> Result<Self> {
        Self::new(data).ok_or(Error::Malformed("mixer audio levels"))
    }

    fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    fn write(&self, slot: &mut [u8]) {
        for (slot, level) in slot.iter_mut().zip(self.levels()) {
            *slot = level;
        }
    }
}

/// By how much the receiver has to turn the picture clockwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VideoRotation {
    /// Not at all.
    #[default]
    None,
    /// 90 degrees.
    Quarter,
    /// 180 degrees.
    Half,
    /// 270 degrees.
    ThreeQuarters,
}

/// How the picture was held at capture (3GPP TS 26.114 section 7.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VideoOrientation {
    /// Whether the camera looks at its user's back side, rather than at the user.
    pub back_camera: bool,
    /// Whether the picture is mirrored.
    pub flipped: bool,
    /// The rotation to apply.
    pub rotation: VideoRotation,
}

impl Extension<'_> for VideoOrientation {
    const KIND: ExtensionKind = ExtensionKind::VideoOrientation;

    fn parse(data: &[u8]) -> Result<Self> {
        let bits = single(data, "video orientation")?;
        Ok(Self {
            back_camera: bits & 0x08 != 0,
            flipped: bits & 0x04 != 0,
            rotation: match bits & 0x03 {
                0 => VideoRotation::None,
                1 => VideoRotation::Quarter,
                2 => VideoRotation::Half,
                _ => VideoRotation::ThreeQuarters,
            },
        })
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn write(&self, slot: &mut [u8]) {
        slot[0] =
            u8::from(self.back_camera) << 3 | u8::from(self.flipped) << 2 | self.rotation as u8;
    }
}

/// What the picture shows (libwebrtc `rtp-hdrext/video-content-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// Camera, or not said.
    Unspecified,
    /// A screen: sharpness before smoothness.
    ScreenShare,
    /// A value of later date.
    Other(u8),
}

impl Extension<'_> for ContentType {
    const KIND: ExtensionKind = ExtensionKind::ContentType;

    fn parse(data: &[u8]) -> Result<Self> {
        Ok(match single(data, "video content type")? {
            0 => Self::Unspecified,
            1 => Self::ScreenShare,
            other => Self::Other(other),
        })
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn write(&self, slot: &mut [u8]) {
        slot[0] = match self {
            Self::Unspecified => 0,
            Self::ScreenShare => 1,
            Self::Other(other) => *other,
        };
    }
}

/// Where chroma samples lie between luma samples (ITU-T H.273 as libwebrtc folds it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChromaSiting {
    /// Not said.
    #[default]
    Unspecified,
    /// Collocated with a luma sample.
    Collocated,
    /// Half way between two.
    Half,
    /// A value of later date.
    Reserved,
}

impl ChromaSiting {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Unspecified,
            1 => Self::Collocated,
            2 => Self::Half,
            _ => Self::Reserved,
        }
    }
}

/// Mastering display and light level of a high dynamic range picture (SMPTE ST 2086, CTA-861.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HdrMetadata {
    /// Largest luminance of the mastering display in cd/m².
    pub luminance_max: u16,
    /// Least luminance in 1/10000 cd/m².
    pub luminance_min: u16,
    /// Chromaticity of red, green, blue and white, each x and y in 1/50000.
    pub chromaticity: [(u16, u16); 4],
    /// Largest content light level in cd/m².
    pub max_content_light: u16,
    /// Largest frame-average light level in cd/m².
    pub max_frame_average_light: u16,
}

/// The picture's colour space; values of primaries, transfer and matrix are those of ITU-T H.273
/// (libwebrtc `rtp-hdrext/color-space`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColorSpace {
    /// Colour primaries.
    pub primaries: u8,
    /// Transfer characteristics.
    pub transfer: u8,
    /// Matrix coefficients.
    pub matrix: u8,
    /// 0 invalid, 1 limited, 2 full, 3 derived from the others.
    pub range: u8,
    /// Horizontal chroma siting.
    pub chroma_horizontal: ChromaSiting,
    /// Vertical chroma siting.
    pub chroma_vertical: ChromaSiting,
    /// High dynamic range metadata.
    pub hdr: Option<HdrMetadata>,
}

impl ColorSpace {
    const PLAIN: usize = 4;
    const HDR: usize = 28;

    fn write_to(&self, writer: &mut Writer<'_>) -> Result<()> {
        writer.put(&[
            self.primaries,
            self.transfer,
            self.matrix,
            (self.range & 3) << 4
                | (self.chroma_horizontal as u8) << 2
                | self.chroma_vertical as u8,
        ])?;
        let Some(hdr) = self.hdr else { return Ok(()) };
        writer.u16(hdr.luminance_max)?;
        writer.u16(hdr.luminance_min)?;
        for (x, y) in hdr.chromaticity {
            writer.u16(x)?;
            writer.u16(y)?;
        }
        writer.u16(hdr.max_content_light)?;
        writer.u16(hdr.max_frame_average_light)
    }
}

impl Extension<'_> for ColorSpace {
    const KIND: ExtensionKind = ExtensionKind::ColorSpace;

    fn parse(data: &[u8]) -> Result<Self> {
        if data.len() != Self::PLAIN && data.len() != Self::HDR {
            return Err(Error::Malformed("color-space length"));
        }
        let mut reader = Reader::new(data, "color-space");
        let [primaries, transfer, matrix, bits] = reader.array()?;
        let hdr = if reader.is_empty() {
            None
        } else {
            let (luminance_max, luminance_min) = (reader.u16()?, reader.u16()?);
            let mut chromaticity = [(0, 0); 4];
            for point in &mut chromaticity {
                *point = (reader.u16()?, reader.u16()?);
            }
            Some(HdrMetadata {
                luminance_max,
                luminance_min,
                chromaticity,
                max_content_light: reader.u16()?,
                max_frame_average_light: reader.u16()?,
            })
        };
        Ok(Self {
            primaries,
            transfer,
            matrix,
            range: bits >> 4 & 3,
            chroma_horizontal: ChromaSiting::from_bits(bits >> 2),
            chroma_vertical: ChromaSiting::from_bits(bits),
            hdr,
        })
    }

    fn encoded_len(&self) -> usize {
        if self.hdr.is_some() {
            Self::HDR
        } else {
            Self::PLAIN
        }
    }

    fn write(&self, slot: &mut [u8]) {
        // The slot has the length that `encoded_len` says.
        let _ = self.write_to(&mut Writer::new(slot));
    }
}

/// A number that follows a frame through the pipeline (libwebrtc `rtp-hdrext/video-frame-tracking-id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameTrackingId(pub u16);

impl Extension<'_> for FrameTrackingId {
    const KIND: ExtensionKind = ExtensionKind::FrameTrackingId;

    fn parse(data: &[u8]) -> Result<Self> {
        Reader::new(data, "frame tracking id").u16().map(Self)
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn write(&self, slot: &mut [u8]) {
        slot.copy_from_slice(&self.0.to_be_bytes());
    }
}

/// Samples of the picture before encoding, for the receiver to compare with what it decoded
/// (libwebrtc `rtp-hdrext/corruption-detection`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CorruptionDetection<'a> {
    /// Whether `sequence` is the upper seven bits of the sample sequence, rather than the lower.
    pub upper_bits: bool,
    /// Seven bits of the place in the Halton sequence, 0 to 127.
    pub sequence: u8,
    /// Standard deviation of the filter in 40/255; `None` in a message that only synchronises.
    pub samples: Option<CorruptionSamples<'a>>,
}

/// The samples of a [`CorruptionDetection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CorruptionSamples<'a> {
    /// Standard deviation of the filter in units of 40/255.
    pub standard_deviation: u8,
    /// Allowed error of luma samples, 0 to 15.
    pub luma_threshold: u8,
    /// Allowed error of chroma samples, 0 to 15.
    pub chroma_threshold: u8,
    /// 1 to 13 filtered samples.
    pub values: &'a [u8],
}

impl<'a> Extension<'a> for CorruptionDetection<'a> {
    const KIND: ExtensionKind = ExtensionKind::CorruptionDetection;

    fn parse(data: &'a [u8]) -> Result<Self> {
        let (upper_bits, sequence, samples) = match data {
            [head] => (head & 0x80 != 0, head & 0x7f, None),
            [head, deviation, thresholds, values @ ..] if (1..=13).contains(&values.len()) => (
                head & 0x80 != 0,
                head & 0x7f,
                Some(CorruptionSamples {
                    standard_deviation: *deviation,
                    luma_threshold: thresholds >> 4,
                    chroma_threshold: thresholds & 0x0f,
                    values,
                }),
            ),
            _ => return Err(Error::Malformed("corruption-detection length")),
        };
        Ok(Self {
            upper_bits,
            sequence,
            samples,
        })
    }

    fn encoded_len(&self) -> usize {
        self.samples.map_or(1, |samples| 3 + samples.values.len())
    }

    fn write(&self, slot: &mut [u8]) {
        slot[0] = u8::from(self.upper_bits) << 7 | self.sequence & 0x7f;
        if let Some(samples) = self.samples {
            slot[1] = samples.standard_deviation;
            slot[2] = samples.luma_threshold << 4 | samples.chroma_threshold & 0x0f;
            slot[3..].copy_from_slice(samples.values);
        }
    }
}

/// The level of comfort noise to play behind the sound, in dB below overload; `None` for no noise
/// (libwebrtc `rtp-hdrext/inband-cn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InbandComfortNoise(pub Option<u8>);

impl Extension<'_> for InbandComfortNoise {
    const KIND: ExtensionKind = ExtensionKind::InbandComfortNoise;

    fn parse(data: &[u8]) -> Result<Self> {
        let bits = single(data, "inband-cn")?;
        Ok(Self((bits & 0x80 == 0).then_some(bits & 0x7f)))
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn write(&self, slot: &mut [u8]) {
        slot[0] = self.0.map_or(0x80, |level| level & 0x7f);
    }
}
