//! H.265 (RFC 7798) in single-stream mode, without decoding order numbers (sprop-max-don-diff 0).

use super::nal_payload::{Aggregated, Cutter, FragmentByte, Header, Joiner, Structure, Syntax};
use super::{Depacketizer, Fragment, Frame, FrameParams, Packetizer, PayloadInfo, Received};
use crate::bytes::Reader;
use crate::{Error, Result};

/// NAL unit types (H.265 table 7-1, RFC 7798 section 4.4).
mod nal_type {
    pub(super) const VPS: u8 = 32;
    pub(super) const SPS: u8 = 33;
    pub(super) const PPS: u8 = 34;
    pub(super) const AUD: u8 = 35;
    pub(super) const AGGREGATION: u8 = 48;
    pub(super) const FRAGMENTATION: u8 = 49;
}

const fn kind_of(header: u8) -> u8 {
    header >> 1 & 0x3f
}

fn note(info: &mut PayloadInfo, kind: u8, header: [u8; 2]) {
    match kind {
        // Intra random access points: BLA, IDR, CRA.
        16..=23 => info.keyframe = true,
        nal_type::VPS => {
            info.keyframe = true;
            info.start_of_frame = true;
        }
        nal_type::SPS | nal_type::PPS => info.keyframe = true,
        nal_type::AUD => info.start_of_frame = true,
        _ => {}
    }
    if kind < 32 {
        info.temporal_id = (header[1] & 0x07).saturating_sub(1);
        info.spatial_id = (header[0] & 1) << 5 | header[1] >> 3;
        // TSA and STSA pictures (types 2 to 5) are where a receiver can switch up.
        info.switching_point = info.temporal_id == 0 || (2..=5).contains(&kind) || info.keyframe;
        // Sub-layer non-reference pictures have even types below 16.
        info.discardable = kind < 16 && kind.is_multiple_of(2);
    }
}

pub(super) fn inspect(payload: &[u8]) -> Result<PayloadInfo> {
    let mut info = PayloadInfo::default();
    let mut reader = Reader::new(payload, H265::NAME);
    let header: Header = reader.array()?;
    match H265::structure(header)? {
        Structure::Single => note(&mut info, kind_of(header[0]), header),
        Structure::Aggregation => {
            let mut units = Aggregated(reader);
            let mut starts = None;
            while let Some(nal) = units.next_unit()? {
                let header = H265::header(nal)?;
                note(&mut info, kind_of(header[0]), header);
                starts.get_or_insert(info.start_of_frame);
            }
            info.start_of_frame = starts.unwrap_or(false);
        }
        Structure::Fragmentation => {
            let byte = FragmentByte(reader.u8()?);
            note(&mut info, byte.kind(), header);
            info.start_of_frame &= byte.is_first();
        }
    }
    Ok(info)
}

#[derive(Debug, Clone)]
struct H265;

impl Syntax for H265 {
    const HEADER: usize = 2;
    const NAME: &'static str = "H.265 payload";

    fn structure(head: Header) -> Result<Structure> {
        match kind_of(head[0]) {
            nal_type::AGGREGATION => Ok(Structure::Aggregation),
            nal_type::FRAGMENTATION => Ok(Structure::Fragmentation),
            50.. => Err(Error::Malformed("H.265 payload structure")),
            _ => Ok(Structure::Single),
        }
    }

    fn inspect(payload: &[u8]) -> Result<PayloadInfo> {
        inspect(payload)
    }

    /// The lowest layer and temporal id of the units (RFC 7798 section 4.4.2).
    fn aggregation(headers: &mut dyn Iterator<Item = Header>) -> Header {
        let (mut forbidden, mut layer, mut temporal) = (0, 0x3f, 7);
        for header in headers {
            forbidden |= header[0] & 0x80;
            layer = layer.min((header[0] & 1) << 5 | header[1] >> 3);
            temporal = temporal.min(header[1] & 7);
        }
        [
            forbidden | nal_type::AGGREGATION << 1 | layer >> 5,
            layer << 3 | temporal,
        ]
    }

    fn fragmentation(unit: Header) -> (Header, u8) {
        let header = [unit[0] & 0x81 | nal_type::FRAGMENTATION << 1, unit[1]];
        (header, kind_of(unit[0]))
    }

    fn fragmented(head: Header, kind: u8) -> Header {
        [head[0] & 0x81 | kind << 1, head[1]]
    }
}

/// Cuts H.265 frames in Annex B form into payloads.
#[derive(Debug, Clone)]
pub struct H265Packetizer(Cutter<H265>);

impl Default for H265Packetizer {
    fn default() -> Self {
        Self(Cutter::new(false))
    }
}

impl Packetizer for H265Packetizer {
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()> {
        self.0.start(frame, params, max_payload)
    }

    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>> {
        self.0.next_payload(frame, out)
    }
}

/// Puts H.265 frames together in Annex B form.
#[derive(Debug, Default)]
pub struct H265Depacketizer(Joiner<H265>);

impl H265Depacketizer {
    /// A depacketizer that refuses frames of more than `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self(Joiner::new(max_frame))
    }
}

impl Depacketizer for H265Depacketizer {
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        self.0.push(packet)
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}
