//! What the payload formats of H.264 (RFC 6184) and H.265 (RFC 7798) have in common: NAL units alone in a packet,
//! several in one (aggregation), and cut over several (fragmentation).

use std::marker::PhantomData;
use std::ops::Range;

use super::assembly::{Assembly, Place};
use super::nal::{NalUnits, START_CODE};
use super::split::Split;
use super::{Fragment, Frame, FrameParams, PayloadInfo, Received};
use crate::bytes::Reader;
use crate::{Error, Result};

/// The most NAL units that a frame may have.
pub const MAX_NAL_UNITS: usize = 1024;

/// How a payload holds NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Structure {
    /// It is one.
    Single,
    /// Each behind its length in 16 bits.
    Aggregation,
    /// A piece of one, behind a byte that says which.
    Fragmentation,
}

/// The header of a NAL unit; of H.264 the first byte counts.
pub(super) type Header = [u8; 2];

/// What the two formats differ in.
pub(super) trait Syntax {
    /// Bytes of a NAL unit's header.
    const HEADER: usize;
    /// For errors.
    const NAME: &'static str;

    fn structure(head: Header) -> Result<Structure>;
    /// What a payload says of its frame.
    fn inspect(payload: &[u8]) -> Result<PayloadInfo>;
    /// The header of an aggregation packet of units with these headers.
    fn aggregation(headers: &mut dyn Iterator<Item = Header>) -> Header;
    /// The header of a fragment of a unit, and the unit's type.
    fn fragmentation(unit: Header) -> (Header, u8);
    /// The header of the unit that a fragment is of.
    fn fragmented(head: Header, kind: u8) -> Header;

    /// The header at the beginning of a unit or payload.
    fn header(bytes: &[u8]) -> Result<Header> {
        let mut header = Header::default();
        let found = bytes
            .get(..Self::HEADER)
            .ok_or(Error::Truncated(Self::NAME))?;
        header[..Self::HEADER].copy_from_slice(found);
        Ok(header)
    }
}

/// The byte of a fragment behind its header: first, last, type of the unit (RFC 6184 section 5.8, RFC 7798 section
/// 4.4.3).
#[derive(Debug, Clone, Copy)]
pub(super) struct FragmentByte(pub(super) u8);

impl FragmentByte {
    pub(super) const fn is_first(self) -> bool {
        self.0 & 0x80 != 0
    }

    const fn is_last(self) -> bool {
        self.0 & 0x40 != 0
    }

    pub(super) const fn kind(self) -> u8 {
        self.0 & 0x3f
    }
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

/// Cuts frames in Annex B form into payloads.
#[derive(Debug, Clone)]
pub(super) struct Cutter<S> {
    /// Whether each unit goes in a packet of its own, whole.
    single: bool,
    units: Vec<Range<usize>>,
    /// The unit that comes next.
    next: usize,
    /// What is left of that unit, if it is being cut.
    fragments: Option<Split>,
    max_payload: usize,
    end_of_picture: bool,
    syntax: PhantomData<S>,
}

impl<S: Syntax> Cutter<S> {
    pub(super) fn new(single: bool) -> Self {
        Self {
            single,
            units: Vec::new(),
            next: 0,
            fragments: None,
            max_payload: 0,
            end_of_picture: false,
            syntax: PhantomData,
        }
    }

    pub(super) fn start(
        &mut self,
        frame: &[u8],
        params: &FrameParams,
        max_payload: usize,
    ) -> Result<()> {
        self.units.clear();
        self.next = 0;
        self.fragments = None;
        self.max_payload = max_payload;
        self.end_of_picture = params.end_of_picture;
        let found = self.find_units(frame);
        if found.is_err() {
            self.units.clear();
        }
        found
    }

    fn find_units(&mut self, frame: &[u8]) -> Result<()> {
        let mut units = NalUnits::new(frame);
        while let Some(unit) = units.next_range() {
            if self.units.len() == MAX_NAL_UNITS || unit.len() < S::HEADER {
                return Err(Error::Limit("NAL units of a frame"));
            }
            if self.single && unit.len() > self.max_payload {
                return Err(Error::NotRepresentable("NAL unit above the payload size"));
            }
            self.units.push(unit);
        }
        if self.units.is_empty() || self.max_payload < S::HEADER + 2 {
            return Err(Error::NotRepresentable("frame without NAL units"));
        }
        Ok(())
    }

    pub(super) fn next_payload(
        &mut self,
        frame: &[u8],
        out: &mut [u8],
    ) -> Result<Option<Fragment>> {
        let Some(range) = self.units.get(self.next).cloned() else {
            return Ok(None);
        };
        let first = self.next == 0 && self.fragments.is_none_or(|split| split.is_first());
        let unit = frame.get(range).ok_or(Error::Truncated("frame"))?;
        let len = if unit.len() > self.max_payload {
            self.cut(unit, out)?
        } else {
            let (count, len) = if self.single { (1, 0) } else { self.fitting() };
            if count > 1 {
                self.aggregate(
                    frame,
                    count,
                    out.get_mut(..len).ok_or(Error::BufferTooSmall)?,
                )?;
                len
            } else {
                let slot = out.get_mut(..unit.len()).ok_or(Error::BufferTooSmall)?;
                slot.copy_from_slice(unit);
                self.next += 1;
                unit.len()
            }
        };
        let last = self.next == self.units.len();
        Ok(Some(Fragment {
            len,
            start_of_frame: first,
            end_of_frame: last,
            marker: last && self.end_of_picture,
        }))
    }

    /// Writes the next piece of a unit that is too long; answers its length.
    fn cut(&mut self, unit: &[u8], out: &mut [u8]) -> Result<usize> {
        let mut split = match self.fragments {
            Some(split) => split,
            None => Split::new(unit.len() - S::HEADER, self.max_payload - S::HEADER - 1)?,
        };
        let piece = split.peek().unwrap_or_default();
        let (begin, end) = (split.is_first(), split.is_last());
        let data = &unit[S::HEADER + piece.start..S::HEADER + piece.end];
        let len = S::HEADER + 1 + data.len();
        let slot = out.get_mut(..len).ok_or(Error::BufferTooSmall)?;
        let (header, kind) = S::fragmentation(S::header(unit)?);
        slot[..S::HEADER].copy_from_slice(&header[..S::HEADER]);
        slot[S::HEADER] = u8::from(begin) << 7 | u8::from(end) << 6 | kind;
        slot[S::HEADER + 1..].copy_from_slice(data);
        split.advance();
        self.fragments = (!end).then_some(split);
        self.next += usize::from(end);
        Ok(len)
    }

    /// How many units from the next one on fit into one aggregation packet, and its length.
    fn fitting(&self) -> (usize, usize) {
        let mut len = S::HEADER;
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

    fn aggregate(&mut self, frame: &[u8], count: usize, slot: &mut [u8]) -> Result<()> {
        let ranges = &self.units[self.next..self.next + count];
        let mut at = S::HEADER;
        for range in ranges {
            let unit = frame.get(range.clone()).ok_or(Error::Truncated("frame"))?;
            slot[at..at + 2].copy_from_slice(&(unit.len() as u16).to_be_bytes());
            slot[at + 2..at + 2 + unit.len()].copy_from_slice(unit);
            at += 2 + unit.len();
        }
        let units = ranges.iter().filter_map(|range| frame.get(range.clone()));
        let header = S::aggregation(&mut units.filter_map(|unit| S::header(unit).ok()));
        slot[..S::HEADER].copy_from_slice(&header[..S::HEADER]);
        self.next += count;
        Ok(())
    }
}

/// Puts frames together in Annex B form.
#[derive(Debug)]
pub(super) struct Joiner<S> {
    assembly: Assembly,
    /// The header of the unit whose fragments are coming.
    fragmented: Option<Header>,
    syntax: PhantomData<S>,
}

impl<S: Syntax> Joiner<S> {
    pub(super) fn new(max_frame: usize) -> Self {
        Self::with(Assembly::new(max_frame))
    }

    fn with(assembly: Assembly) -> Self {
        Self {
            assembly,
            fragmented: None,
            syntax: PhantomData,
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
        let mut reader = Reader::new(packet.payload, S::NAME);
        let head = S::header(packet.payload)?;
        reader.take(S::HEADER)?;
        match S::structure(head)? {
            Structure::Single => self.unit(packet.payload)?,
            Structure::Aggregation => {
                let mut units = Aggregated(reader);
                while let Some(nal) = units.next_unit()? {
                    self.unit(nal)?;
                }
            }
            Structure::Fragmentation => {
                let byte = FragmentByte(reader.u8()?);
                let header = S::fragmented(head, byte.kind());
                if byte.is_first() {
                    self.unit(&header[..S::HEADER])?;
                } else if self.fragmented != Some(header) {
                    return Err(Error::Malformed("fragment of another NAL unit"));
                }
                self.assembly.extend(reader.rest())?;
                self.fragmented = (!byte.is_last()).then_some(header);
            }
        }
        if packet.marker && self.fragmented.is_some() {
            return Err(Error::Malformed("frame ends within a NAL unit"));
        }
        Ok(())
    }

    pub(super) fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        let place = self.assembly.place(&packet);
        if place == Place::Stale {
            return Ok(None);
        }
        let info = S::inspect(packet.payload).inspect_err(|_| self.assembly.abandon(&packet))?;
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

    pub(super) fn reset(&mut self) {
        self.assembly.reset();
    }
}

impl<S: Syntax> Default for Joiner<S> {
    fn default() -> Self {
        Self::with(Assembly::default())
    }
}
