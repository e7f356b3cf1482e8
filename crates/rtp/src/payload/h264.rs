//! H.264 (RFC 6184), packetization modes 0 (single NAL unit) and 1 (non-interleaved).

use std::ops::Range;

use super::assembly::{Assembly, Place};
use super::nal::{NalUnits, START_CODE};
use super::split::Split;
use super::{Depacketizer, Fragment, Frame, FrameParams, Packetizer, PayloadInfo, Received};
use crate::bytes::Reader;
use crate::{Error, Result};

/// The most NAL units that a frame may have.
pub const MAX_NAL_UNITS: usize = 1024;

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

/// The units of an aggregation packet, each behind its length in 16 bits.
pub(super) struct Aggregated<'a>(pub(super) Reader<'a>);

impl<'a> Aggregated<'a> {
    /// The next unit; `None` after the last.
    pub(super) fn next_unit(&mut self) -> Result<Option<&'a [u8]>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let len = self.0.u16()?;
        if len == 0 {
            return Err(Error::Malformed("empty NAL unit"));
        }
        self.0.take(len.into()).map(Some)
    }
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
    let mut reader = Reader::new(payload, "H.264 payload");
    let head = reader.u8()?;
    match head & 0x1f {
        1..=23 => note(&mut info, payload, head),
        nal_type::STAP_A => {
            let mut units = Aggregated(reader);
            let mut starts = None;
            while let Some(nal) = units.next_unit()? {
                note(&mut info, nal, nal[0]);
                // Only the first unit of a packet can be the first of a frame.
                starts.get_or_insert(info.start_of_frame);
            }
            info.start_of_frame = starts.unwrap_or(false);
        }
        nal_type::FU_A => {
            let fu = reader.u8()?;
            note(&mut info, &[], head & 0xe0 | fu & 0x1f);
            info.start_of_frame &= fu & 0x80 != 0;
        }
        _ => return Err(Error::Malformed("H.264 payload type of interleaved mode")),
    }
    Ok(info)
}

/// Cuts H.264 frames in Annex B form into payloads.
#[derive(Debug, Clone, Default)]
pub struct H264Packetizer {
    mode: PacketizationMode,
    units: Vec<Range<usize>>,
    /// The unit that comes next.
    next: usize,
    /// What is left of that unit, if it is being cut.
    fragments: Option<Split>,
    max_payload: usize,
    end_of_picture: bool,
}

impl H264Packetizer {
    /// A packetizer of a mode.
    pub fn new(mode: PacketizationMode) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    /// How many units from the next one on fit into one aggregation packet, and its length.
    fn aggregate(&self) -> (usize, usize) {
        let mut len = 1;
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

impl Packetizer for H264Packetizer {
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()> {
        self.units.clear();
        self.next = 0;
        self.fragments = None;
        self.max_payload = max_payload;
        self.end_of_picture = params.end_of_picture;
        let mut units = NalUnits::new(frame);
        let single = self.mode == PacketizationMode::SingleNal;
        while let Some(unit) = units.next_range() {
            let fault = if self.units.len() == MAX_NAL_UNITS {
                Some(Error::Limit("NAL units of a frame"))
            } else if single && unit.len() > max_payload {
                Some(Error::NotRepresentable("NAL unit above the payload size"))
            } else {
                None
            };
            if let Some(fault) = fault {
                self.units.clear();
                return Err(fault);
            }
            self.units.push(unit);
        }
        if self.units.is_empty() || max_payload < 3 {
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
                None => Split::new(unit.len() - 1, self.max_payload - 2)?,
            };
            let piece = split.peek().unwrap_or_default();
            let (begin, end) = (split.is_first(), split.is_last());
            let data = &unit[1 + piece.start..1 + piece.end];
            let len = 2 + data.len();
            let slot = out.get_mut(..len).ok_or(Error::BufferTooSmall)?;
            slot[0] = unit[0] & 0xe0 | nal_type::FU_A;
            slot[1] = u8::from(begin) << 7 | u8::from(end) << 6 | unit[0] & 0x1f;
            slot[2..].copy_from_slice(data);
            split.advance();
            self.fragments = (!end).then_some(split);
            self.next += usize::from(end);
            return Ok(Some(self.fragment(len, first)));
        }
        if self.mode == PacketizationMode::NonInterleaved {
            let (count, len) = self.aggregate();
            if count > 1 {
                let slot = out.get_mut(..len).ok_or(Error::BufferTooSmall)?;
                // F is set if any has it, NRI is the highest (RFC 6184 section 5.7.1).
                let (mut forbidden, mut reference) = (0, 0);
                let mut at = 1;
                for range in &self.units[self.next..self.next + count] {
                    let unit = frame.get(range.clone()).ok_or(Error::Truncated("frame"))?;
                    forbidden |= unit[0] & 0x80;
                    reference = reference.max(unit[0] & 0x60);
                    slot[at..at + 2].copy_from_slice(&(unit.len() as u16).to_be_bytes());
                    slot[at + 2..at + 2 + unit.len()].copy_from_slice(unit);
                    at += 2 + unit.len();
                }
                slot[0] = forbidden | reference | nal_type::STAP_A;
                self.next += count;
                return Ok(Some(self.fragment(len, first)));
            }
        }
        out.get_mut(..unit.len())
            .ok_or(Error::BufferTooSmall)?
            .copy_from_slice(unit);
        self.next += 1;
        Ok(Some(self.fragment(unit.len(), first)))
    }
}

/// Puts H.264 frames together in Annex B form.
#[derive(Debug, Default)]
pub struct H264Depacketizer {
    assembly: Assembly,
    /// The header byte of the unit whose fragments are coming.
    fragmented: Option<u8>,
}

impl H264Depacketizer {
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
        let mut reader = Reader::new(packet.payload, "H.264 payload");
        let head = reader.u8()?;
        match head & 0x1f {
            1..=23 => self.unit(packet.payload)?,
            nal_type::STAP_A => {
                let mut units = Aggregated(reader);
                while let Some(nal) = units.next_unit()? {
                    self.unit(nal)?;
                }
            }
            nal_type::FU_A => {
                let fu = reader.u8()?;
                let (begin, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
                let header = head & 0xe0 | fu & 0x1f;
                if begin {
                    self.unit(&[header])?;
                } else if self.fragmented != Some(header) {
                    return Err(Error::Malformed("fragment of another NAL unit"));
                }
                self.assembly.extend(reader.rest())?;
                self.fragmented = (!end).then_some(header);
            }
            _ => return Err(Error::Malformed("H.264 payload type of interleaved mode")),
        }
        if packet.marker && self.fragmented.is_some() {
            return Err(Error::Malformed("frame ends within a NAL unit"));
        }
        Ok(())
    }
}

impl Depacketizer for H264Depacketizer {
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
