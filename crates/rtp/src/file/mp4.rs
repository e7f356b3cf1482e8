//! MP4 files with one video track of H.264, H.265 or AV1 (ISO/IEC 14496-12, 14496-15, AV1 in ISOBMFF
//! 1.2), written as fragments, so that a file that was not finished can be played up to its last second.

use std::io::Write;
use std::num::NonZeroU32;

use shiguredo_mp4::boxes::{
    Av01Box, Av1cBox, Avc1Box, AvccBox, Hev1Box, HvccBox, HvccNalUintArray, SampleEntry,
    VisualSampleEntryFields,
};
use shiguredo_mp4::mux::{Fmp4SegmentMuxer, MuxError, Sample};
use shiguredo_mp4::{TrackKind, Uint};

use super::{FileError, MAX_FRAME, Result};
use crate::payload::av1_sequence::Av1Sequence;
use crate::payload::h264_parameters::Sps;
use crate::payload::h265_parameters::H265Sps;
use crate::payload::nal::NalUnits;

/// What the track holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mp4Codec {
    /// H.264; frames come as byte streams (Annex B).
    H264,
    /// H.265; frames come as byte streams (Annex B).
    H265,
    /// AV1; frames come as temporal units whose OBUs have sizes, without temporal delimiter.
    Av1,
}

/// Ticks per second, as in RTP.
const TIMESCALE: NonZeroU32 = NonZeroU32::new(90_000).unwrap();

/// A fragment is closed by a keyframe, or after so many ticks or bytes.
const FRAGMENT_TICKS: u64 = 90_000;
const FRAGMENT_BYTES: usize = 4 << 20;

/// How long the last frame is shown when there was no other.
const DEFAULT_DURATION: u32 = 3000;

/// Writes an MP4 file.
///
/// Parameter sets stay where they are in the stream, too: a picture may change its size. Frames are shown in the
/// order in which they come, as calls have them: there is no place for pictures that refer to later ones.
#[derive(Debug)]
pub struct Mp4Writer<W> {
    stream: W,
    codec: Mp4Codec,
    muxer: Fmp4SegmentMuxer,
    begun: bool,
    /// The track's description; there once a frame had its parameter sets.
    entry: Option<SampleEntry>,
    /// The fragment that is being filled.
    samples: Vec<Sample>,
    data: Vec<u8>,
    /// Ticks of the fragment's first and of its newest frame.
    first: u64,
    newest: u64,
}

impl<W: Write> Mp4Writer<W> {
    /// A writer; nothing is written before the first fragment is full.
    ///
    /// # Errors
    /// None today.
    pub fn new(stream: W, codec: Mp4Codec) -> Result<Self> {
        Ok(Self {
            stream,
            codec,
            muxer: Fmp4SegmentMuxer::new().map_err(failed)?,
            begun: false,
            entry: None,
            samples: Vec::new(),
            data: Vec::new(),
            first: 0,
            newest: 0,
        })
    }

    /// Appends a frame, `nanos` after the first. Frames before the first one with parameter sets are left
    /// out: nothing could decode them. A time that does not grow is moved to the next tick.
    ///
    /// # Errors
    /// [`FileError::Malformed`] for parameter sets that cannot be read, [`FileError::Limit`], [`FileError::Io`].
    pub fn write_frame(&mut self, nanos: u64, keyframe: bool, frame: &[u8]) -> Result<()> {
        if frame.len() > MAX_FRAME {
            return Err(FileError::Limit("frame size"));
        }
        if self.entry.is_none() {
            self.entry = describe(self.codec, frame)?;
            if self.entry.is_none() {
                return Ok(());
            }
        }
        let ticks = u64::try_from(u128::from(nanos) * 90_000 / 1_000_000_000).unwrap_or(u64::MAX);
        let ticks = self.follow(ticks);
        if keyframe
            || self.data.len() > FRAGMENT_BYTES
            || ticks.saturating_sub(self.first) >= FRAGMENT_TICKS
        {
            self.close_fragment()?;
        }
        if self.samples.is_empty() {
            self.first = ticks;
        }
        self.newest = ticks;
        let start = self.data.len();
        self.append(frame);
        self.samples.push(Sample {
            track_kind: TrackKind::Video,
            sample_entry: if self.begun || !self.samples.is_empty() {
                None
            } else {
                self.entry.clone()
            },
            keyframe,
            timescale: TIMESCALE,
            duration: DEFAULT_DURATION,
            composition_time_offset: None,
            data_offset: start as u64,
            data_size: self.data.len() - start,
        });
        Ok(())
    }

    /// Ends the newest frame where the next begins; that place.
    fn follow(&mut self, ticks: u64) -> u64 {
        let Some(last) = self.samples.last_mut() else {
            return ticks;
        };
        let ticks = ticks.max(self.newest + 1);
        last.duration = u32::try_from(ticks - self.newest).unwrap_or(u32::MAX);
        self.newest + u64::from(last.duration)
    }

    /// Adds a frame's bytes as the format wants them.
    fn append(&mut self, frame: &[u8]) {
        if self.codec == Mp4Codec::Av1 {
            self.data.extend_from_slice(frame);
            return;
        }
        for nal in NalUnits::new(frame) {
            // At most MAX_FRAME.
            self.data
                .extend_from_slice(&(nal.len() as u32).to_be_bytes());
            self.data.extend_from_slice(nal);
        }
    }

    fn close_fragment(&mut self) -> Result<()> {
        if self.samples.is_empty() {
            return Ok(());
        }
        let head = self
            .muxer
            .create_media_segment_metadata(&self.samples)
            .map_err(failed)?;
        if !self.begun {
            let init = self.muxer.init_segment_bytes().map_err(failed)?;
            self.stream.write_all(&init)?;
            self.begun = true;
        }
        self.stream.write_all(&head)?;
        self.stream.write_all(&self.data)?;
        self.samples.clear();
        self.data.clear();
        Ok(())
    }

    /// Writes the last fragment and the index of keyframes, and gives the stream back.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<W> {
        self.close_fragment()?;
        if self.begun {
            let index = self.muxer.mfra_bytes().map_err(failed)?;
            self.stream.write_all(&index)?;
        }
        self.stream.flush()?;
        Ok(self.stream)
    }
}

fn failed(error: MuxError) -> FileError {
    std::io::Error::other(error.to_string()).into()
}

/// The description of a track, from a frame that has its parameter sets.
fn describe(codec: Mp4Codec, frame: &[u8]) -> Result<Option<SampleEntry>> {
    match codec {
        Mp4Codec::H264 => describe_h264(frame),
        Mp4Codec::H265 => describe_h265(frame),
        Mp4Codec::Av1 => describe_av1(frame),
    }
}

fn visual(width: u32, height: u32) -> VisualSampleEntryFields {
    let pixels = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
    VisualSampleEntryFields {
        data_reference_index: VisualSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
        width: pixels(width),
        height: pixels(height),
        horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
        vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
        frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
        compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
        depth: VisualSampleEntryFields::DEFAULT_DEPTH,
    }
}

/// The NAL units of a type.
fn units(frame: &[u8], kind: impl Fn(u8) -> bool) -> Vec<Vec<u8>> {
    NalUnits::new(frame)
        .filter(|nal| kind(nal[0]))
        .map(<[u8]>::to_vec)
        .collect()
}

fn describe_h264(frame: &[u8]) -> Result<Option<SampleEntry>> {
    let sps_list = units(frame, |first| first & 0x1f == 7);
    let pps_list = units(frame, |first| first & 0x1f == 8);
    let (Some(sps), false) = (sps_list.first(), pps_list.is_empty()) else {
        return Ok(None);
    };
    let sps = Sps::parse(sps).map_err(|_| FileError::Malformed("H.264 parameter set"))?;
    // Profiles above Main say more (ISO/IEC 14496-15, section 5.3.3.1.2).
    let high = !matches!(sps.profile, 66 | 77 | 88);
    let (luma, chroma) = sps.bit_depth;
    Ok(Some(SampleEntry::Avc1(Avc1Box {
        visual: visual(sps.width, sps.height),
        avcc_box: AvccBox {
            avc_profile_indication: sps.profile,
            profile_compatibility: sps.constraints,
            avc_level_indication: sps.level,
            length_size_minus_one: Uint::new(3),
            sps_list,
            pps_list,
            chroma_format: high.then(|| Uint::new(sps.chroma_format)),
            bit_depth_luma_minus8: high.then(|| Uint::new(luma - 8)),
            bit_depth_chroma_minus8: high.then(|| Uint::new(chroma - 8)),
            sps_ext_list: Vec::new(),
        },
        unknown_boxes: Vec::new(),
    })))
}

fn describe_h265(frame: &[u8]) -> Result<Option<SampleEntry>> {
    // VPS, SPS, PPS.
    let sets = [32, 33, 34].map(|kind| (kind, units(frame, |first| first >> 1 & 0x3f == kind)));
    let (Some(sps), true) = (
        sets[1].1.first(),
        sets.iter().all(|(_, sets)| !sets.is_empty()),
    ) else {
        return Ok(None);
    };
    let sps = H265Sps::parse(sps).map_err(|_| FileError::Malformed("H.265 parameter set"))?;
    let (luma, chroma) = sps.bit_depth;
    Ok(Some(SampleEntry::Hev1(Hev1Box {
        visual: visual(sps.width, sps.height),
        hvcc_box: HvccBox {
            general_profile_space: Uint::new(sps.profile >> 6),
            general_tier_flag: Uint::new(sps.profile >> 5 & 1),
            general_profile_idc: Uint::new(sps.profile & 0x1f),
            general_profile_compatibility_flags: sps.compatibility,
            general_constraint_indicator_flags: Uint::new(sps.constraints),
            general_level_idc: sps.level,
            min_spatial_segmentation_idc: Uint::new(0),
            parallelism_type: Uint::new(0),
            chroma_format_idc: Uint::new(sps.chroma_format),
            bit_depth_luma_minus8: Uint::new((luma - 8).min(7)),
            bit_depth_chroma_minus8: Uint::new((chroma - 8).min(7)),
            avg_frame_rate: 0,
            constant_frame_rate: Uint::new(0),
            num_temporal_layers: Uint::new(sps.temporal_layers),
            temporal_id_nested: Uint::new(sps.temporal_nesting.into()),
            length_size_minus_one: Uint::new(3),
            nalu_arrays: sets
                .into_iter()
                .map(|(kind, nalus)| HvccNalUintArray {
                    // More may come in the stream (`hev1`).
                    array_completeness: Uint::new(0),
                    nal_unit_type: Uint::new(kind),
                    nalus,
                })
                .collect(),
        },
        unknown_boxes: Vec::new(),
    })))
}

fn describe_av1(frame: &[u8]) -> Result<Option<SampleEntry>> {
    let Some((sequence, obu)) =
        Av1Sequence::find(frame).map_err(|_| FileError::Malformed("AV1 sequence header"))?
    else {
        return Ok(None);
    };
    Ok(Some(SampleEntry::Av01(Av01Box {
        visual: visual(sequence.width, sequence.height),
        av1c_box: Av1cBox {
            seq_profile: Uint::new(sequence.profile),
            seq_level_idx_0: Uint::new(sequence.level),
            seq_tier_0: Uint::new(sequence.high_tier.into()),
            high_bitdepth: Uint::new((sequence.bit_depth > 8).into()),
            twelve_bit: Uint::new((sequence.bit_depth == 12).into()),
            monochrome: Uint::new(sequence.monochrome.into()),
            chroma_subsampling_x: Uint::new(sequence.subsampling.0.into()),
            chroma_subsampling_y: Uint::new(sequence.subsampling.1.into()),
            chroma_sample_position: Uint::new(sequence.chroma_position),
            initial_presentation_delay_minus_one: None,
            config_obus: obu.to_vec(),
        },
        unknown_boxes: Vec::new(),
    })))
}
