//! H.265 (RFC 7798) in single-stream mode, without decoding order numbers (sprop-max-don-diff 0).

use std::ops::Range;

use super::assembly::{Assembly, Place};
use super::h264::{Aggregated, MAX_NAL_UNITS};
use super::nal::{NalUnits, START_CODE};
use super::split::Split;
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

const HEADER: usize = 2;

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
    let mut reader = Reader::new(payload, "H.265 payload");
    let header: [u8; 2] = reader.array()?;
    match kind_of(header[0]) {
        nal_type::AGGREGATION => {
            let mut units = Aggregated(reader);
            let mut starts = None;
            while let Some(nal) = units.next_unit()? {
                let header = *nal
                    .first_chunk()
                    .ok_or(Error::Truncated("H.265 NAL unit header"))?;
                note(&mut info, kind_of(header[0]), header);
                starts.get_or_insert(info.start_of_frame);
            }
            info.start_of_frame = starts.unwrap_or(false);
        }
        nal_type::FRAGMENTATION => {
            let fu = reader.u8()?;
            note(&mut info, fu & 0x3f, header);
            info.start_of_frame &= fu & 0x80 != 0;
        }
        50.. => return Err(Error::Malformed("H.265 payload structure")),
        kind => note(&mut info, kind, header),
    }
    Ok(info)
}

/// Cuts H.265 frames in Annex B form into payloads.
#[derive(Debug, Clone, Default)]
pub struct H265Packetizer {
    units: Vec<Range<usize>>,
    next: usize,
    fragments: Option<Split>,
    max_payload: usize,
    end_of_picture: bool,
}

impl H265Packetizer {
    fn aggregate(&self) -> (usize, usize) {
        let mut len = HEADER;
        let mut count = 0;
        for unit in &self.units[self.next..] {
            if unit.len() > 0xffff || len + 2 + unit.len() > self.max_payload {
                break;
            }
            len += 2 + unit.len();
            count += 1;
        }
        (count, len)
    }

    fn fragment(&self, len: usize, first: bool) -> Fragment {
        let last = self.next == self.units.len();
        Fragment {
            len,
            start_of_frame: first,
            end_of_frame: last,
            marker: last && self.end_of_picture,
        }
    }
}

impl Packetizer for H265Packetizer {
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()> {
        self.units.clear();
        self.next = 0;
        self.fragments = None;
        self.max_payload = max_payload;
        self.end_of_picture = params.end_of_picture;
        let mut units = NalUnits::new(frame);
        while let Some(unit) = units.next_range() {
            if self.units.len() == MAX_NAL_UNITS || unit.len() < HEADER {
                self.units.clear();
                return Err(Error::Limit("NAL units of a frame"));
            }
            self.units.push(unit);
        }
        if self.units.is_empty() || max_payload < HEADER + 2 {
            self.units.clear();
            return Err(Error::NotRepresentable("frame without NAL units"));
        }
        Ok(())
    }

    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>> {
        let Some(range) = self.units.get(self.next).cloned() else {
            return Ok(None);
        };
        let first = self.next == 0 && self.fragments.is_none_or(|split| split.is_first());
        let unit = frame.get(range).ok_or(Error::Truncated("frame"))?;
        if unit.len() > self.max_payload {
            let mut split = match self.fragments {
                Some(split) => split,
                None => Split::new(unit.len() - HEADER, self.max_payload - HEADER - 1)?,
            };
            let piece = split.peek().unwrap_or_default();
            let (begin, end) = (split.is_first(), split.is_last());
            let data = &unit[HEADER + piece.start..HEADER + piece.end];
            let len = HEADER + 1 + data.len();
            let slot = out.get_mut(..len).ok_or(Error::BufferTooSmall)?;
            slot[0] = unit[0] & 0x81 | nal_type::FRAGMENTATION << 1;
            slot[1] = unit[1];
            slot[2] = u8::from(begin) << 7 | u8::from(end) << 6 | kind_of(unit[0]);
            slot[3..].copy_from_slice(data);
            split.advance();
            self.fragments = (!end).then_some(split);
            self.next += usize::from(end);
            return Ok(Some(self.fragment(len, first)));
        }
        let (count, len) = self.aggregate();
        if count > 1 {
            let slot = out.get_mut(..len).ok_or(Error::BufferTooSmall)?;
            // The lowest layer and temporal id of the units (RFC 7798 section 4.4.2).
            let (mut forbidden, mut layer, mut temporal) = (0, 0x3f, 7);
            let mut at = HEADER;
            for range in &self.units[self.next..self.next + count] {
                let unit = frame.get(range.clone()).ok_or(Error::Truncated("frame"))?;
                forbidden |= unit[0] & 0x80;
                layer = layer.min((unit[0] & 1) << 5 | unit[1] >> 3);
                temporal = temporal.min(unit[1] & 7);
                slot[at..at + 2].copy_from_slice(&(unit.len() as u16).to_be_bytes());
                slot[at + 2..at + 2 + unit.len()].copy_from_slice(unit);
                at += 2 + unit.len();
            }
            slot[0] = forbidden | nal_type::AGGREGATION << 1 | layer >> 5;
            slot[1] = layer << 3 | temporal;
            self.next += count;
            return Ok(Some(self.fragment(len, first)));
        }
        out.get_mut(..unit.len())
            .ok_or(Error::BufferTooSmall)?
            .copy_from_slice(unit);
        self.next += 1;
        Ok(Some(self.fragment(unit.len(), first)))
    }
}

/// Puts H.265 frames together in Annex B form.
#[derive(Debug, Default)]
pub struct H265Depacketizer {
    assembly: Assembly,
    /// The header of the unit whose fragments are coming.
    fragmented: Option<[u8; 2]>,
}

impl H265Depacketizer {
    /// A depacketizer that refuses frames of more than `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self {
            assembly: Assembly::new(max_frame),
            fragmented: None,
        }
    }

    fn unit(&mut self, nal: &[u8]) -> Result<()> {
        if self.fragmented.is_some() {
            return Err(Error::Malformed("NAL unit within a fragmented one"));
        }
        self.assembly.extend(&START_CODE)?;
        self.assembly.extend(nal)
    }

    fn append(&mut self, packet: &Received<'_>) -> Result<()> {
        let mut reader = Reader::new(packet.payload, "H.265 payload");
        let head: [u8; 2] = reader.array()?;
        match kind_of(head[0]) {
            nal_type::AGGREGATION => {
                let mut units = Aggregated(reader);
                while let Some(nal) = units.next_unit()? {
                    self.unit(nal)?;
                }
            }
            nal_type::FRAGMENTATION => {
                let fu = reader.u8()?;
                let (begin, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
                let header = [head[0] & 0x81 | (fu & 0x3f) << 1, head[1]];
                if begin {
                    self.unit(&header)?;
                } else if self.fragmented != Some(header) {
                    return Err(Error::Malformed("fragment of another NAL unit"));
                }
                self.assembly.extend(reader.rest())?;
                self.fragmented = (!end).then_some(header);
            }
            50.. => return Err(Error::Malformed("H.265 payload structure")),
            _ => self.unit(packet.payload)?,
        }
        if packet.marker && self.fragmented.is_some() {
            return Err(Error::Malformed("frame ends within a NAL unit"));
        }
        Ok(())
    }
}

impl Depacketizer for H265Depacketizer {
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        let place = self.assembly.place(&packet);
        if place == Place::Stale {
            return Ok(None);
        }
        let info = inspect(packet.payload).inspect_err(|_| self.assembly.abandon(&packet))?;
        if place != Place::Continues {
            self.fragmented = None;
            if place == Place::AfterLoss && !info.start_of_frame {
                self.assembly.abandon(&packet);
                return Ok(None);
            }
            self.assembly.open(&packet);
        }
        self.append(&packet)
            .inspect_err(|_| self.assembly.abandon(&packet))?;
        self.assembly.keyframe |= info.keyframe;
        self.assembly.temporal_id = self.assembly.temporal_id.max(info.temporal_id);
        self.assembly.spatial_id = self.assembly.spatial_id.max(info.spatial_id);
        Ok(self.assembly.close(&packet))
    }

    fn reset(&mut self) {
        self.assembly.reset();
    }
}
