//! H.264 (RFC 6184), packetization modes 0 (single NAL unit) and 1 (non-interleaved).

pub use super::nal_payload::MAX_NAL_UNITS;
use super::nal_payload::{Aggregated, Cutter, FragmentByte, Header, Joiner, Structure, Syntax};
use super::{Depacketizer, Fragment, Frame, FrameParams, Packetizer, PayloadInfo, Received};
use crate::bytes::Reader;
use crate::{Error, Result};

/// NAL unit types (H.264 table 7-1, RFC 6184 section 5.2).
pub(super) mod nal_type {
    pub(crate) const IDR: u8 = 5;
    pub(crate) const SPS: u8 = 7;
    pub(crate) const AUD: u8 = 9;
    pub(crate) const PREFIX: u8 = 14;
    pub(crate) const SLICE_EXTENSION: u8 = 20;
    pub(crate) const STAP_A: u8 = 24;
    pub(crate) const FU_A: u8 = 28;
}

/// The packetization mode (RFC 6184 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PacketizationMode {
    /// 0: each NAL unit in a packet of its own; one that does not fit is an error.
    SingleNal,
    /// 1: small NAL units share a packet (STAP-A), large ones are cut (FU-A).
    #[default]
    NonInterleaved,
}

/// Notes what a NAL unit with this header byte says about its frame.
fn note(info: &mut PayloadInfo, nal: &[u8], header: u8) {
    let kind = header & 0x1f;
    match kind {
        nal_type::SPS => {
            info.keyframe = true;
            info.start_of_frame = true;
        }
        nal_type::AUD => info.start_of_frame = true,
        nal_type::IDR => info.keyframe = true,
        // The SVC extension header's third byte begins with the temporal layer (H.264 G.7.3.1.1).
        nal_type::PREFIX | nal_type::SLICE_EXTENSION if nal.len() >= 4 && nal[1] & 0x80 != 0 => {
            info.temporal_id = nal[3] >> 5;
            info.spatial_id = nal[2] >> 4 & 0x07;
        }
        _ => {}
    }
    // Slices that no other frame refers to have nal_ref_idc 0.
    if (1..=5).contains(&kind) {
        info.discardable = header & 0x60 == 0;
    }
}

pub(super) fn inspect(payload: &[u8]) -> Result<PayloadInfo> {
    let mut info = PayloadInfo {
        switching_point: true,
        ..PayloadInfo::default()
    };
    let mut reader = Reader::new(payload, H264::NAME);
    let head = reader.u8()?;
    match H264::structure([head, 0])? {
        Structure::Single => note(&mut info, payload, head),
        Structure::Aggregation => {
            let mut units = Aggregated(reader);
            let mut starts = None;
            while let Some(nal) = units.next_unit()? {
                note(&mut info, nal, nal[0]);
                // Only the first unit of a packet can be the first of a frame.
                starts.get_or_insert(info.start_of_frame);
            }
            info.start_of_frame = starts.unwrap_or(false);
        }
        Structure::Fragmentation => {
            let byte = FragmentByte(reader.u8()?);
            note(&mut info, &[], H264::fragmented([head, 0], byte.kind())[0]);
            info.start_of_frame &= byte.is_first();
        }
    }
    Ok(info)
}

#[derive(Debug, Clone)]
struct H264;

impl Syntax for H264 {
    const HEADER: usize = 1;
    const NAME: &'static str = "H.264 payload";

    fn structure(head: Header) -> Result<Structure> {
        match head[0] & 0x1f {
            1..=23 => Ok(Structure::Single),
            nal_type::STAP_A => Ok(Structure::Aggregation),
            nal_type::FU_A => Ok(Structure::Fragmentation),
            _ => Err(Error::Malformed("H.264 payload type of interleaved mode")),
        }
    }

    fn inspect(payload: &[u8]) -> Result<PayloadInfo> {
        inspect(payload)
    }

    /// F is set if any has it, NRI is the highest (RFC 6184 section 5.7.1).
    fn aggregation(headers: &mut dyn Iterator<Item = Header>) -> Header {
        let (forbidden, reference) = headers.fold((0, 0), |(forbidden, reference), header| {
            (
                forbidden | header[0] & 0x80,
                u8::max(reference, header[0] & 0x60),
            )
        });
        [forbidden | reference | nal_type::STAP_A, 0]
    }

    fn fragmentation(unit: Header) -> (Header, u8) {
        ([unit[0] & 0xe0 | nal_type::FU_A, 0], unit[0] & 0x1f)
    }

    fn fragmented(head: Header, kind: u8) -> Header {
        [head[0] & 0xe0 | kind & 0x1f, 0]
    }
}

/// Cuts H.264 frames in Annex B form into payloads.
#[derive(Debug, Clone)]
pub struct H264Packetizer(Cutter<H264>);

impl H264Packetizer {
    /// A packetizer of a mode.
    pub fn new(mode: PacketizationMode) -> Self {
        Self(Cutter::new(mode == PacketizationMode::SingleNal))
    }
}

impl Default for H264Packetizer {
    fn default() -> Self {
        Self::new(PacketizationMode::default())
    }
}

impl Packetizer for H264Packetizer {
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()> {
        self.0.start(frame, params, max_payload)
    }

    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>> {
        self.0.next_payload(frame, out)
    }
}

/// Puts H.264 frames together in Annex B form.
#[derive(Debug, Default)]
pub struct H264Depacketizer(Joiner<H264>);

impl H264Depacketizer {
    /// A depacketizer that refuses frames of more than `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self(Joiner::new(max_frame))
    }
}

impl Depacketizer for H264Depacketizer {
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        self.0.push(packet)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}
