//! AV1 (AV1 RTP specification 1.0, section 4).

use std::ops::Range;

use super::assembly::{Assembly, Place};
use super::{Depacketizer, Fragment, Frame, FrameParams, Packetizer, PayloadInfo, Received};
use crate::bytes::Reader;
use crate::{Error, Result};

/// The most OBUs that a temporal unit may have.
pub const MAX_OBUS: usize = 512;

/// OBU types (AV1 specification section 6.2.2).
mod obu_type {
    pub(super) const SEQUENCE_HEADER: u8 = 1;
    pub(super) const TEMPORAL_DELIMITER: u8 = 2;
    pub(super) const TILE_LIST: u8 = 8;
}

const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

const fn type_of(header: u8) -> u8 {
    header >> 3 & 0x0f
}

fn leb128(reader: &mut Reader<'_>) -> Result<usize> {
    let mut value = 0u64;
    for index in 0..8 {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return usize::try_from(value)
                .ok()
                .filter(|&value| value <= u32::MAX as usize)
                .ok_or(Error::Malformed("LEB128 value"));
        }
    }
    Err(Error::Malformed("LEB128 value"))
}

/// The first sequence header of a temporal unit whose OBUs have sizes: the whole OBU, and its content.
pub(super) fn sequence_header(unit: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let mut reader = Reader::new(unit, "OBU");
    while !reader.is_empty() {
        let whole = reader.rest();
        let header = reader.u8()?;
        if header & HAS_EXTENSION != 0 {
            reader.u8()?;
        }
        if header & HAS_SIZE == 0 {
            return Err(Error::Malformed("OBU without size"));
        }
        let size = leb128(&mut reader)?;
        let content = reader.take(size)?;
        if type_of(header) == obu_type::SEQUENCE_HEADER {
            let len = whole.len() - reader.len();
            return Ok(Some((&whole[..len], content)));
        }
    }
    Ok(None)
}

/// Writes LEB128 and returns its length, up to 5.
fn write_leb128(mut value: usize, out: &mut [u8; 5]) -> usize {
    let mut len = 0;
    loop {
        out[len] = value as u8 & 0x7f;
        value >>= 7;
        if value == 0 || len == 4 {
            return len + 1;
        }
        out[len] |= 0x80;
        len += 1;
    }
}

/// An OBU in a frame: its header without size, and where its content stands.
#[derive(Debug, Clone)]
struct Obu {
    header: [u8; 2],
    header_len: u8,
    content: Range<usize>,
}

impl Obu {
    fn len(&self) -> usize {
        usize::from(self.header_len) + self.content.len()
    }

    /// Reads the OBU at `at`; also where the next one begins.
    fn parse(frame: &[u8], at: usize) -> Result<(Self, usize)> {
        let mut reader = Reader::new(&frame[at..], "OBU");
        let first = reader.u8()?;
        if first & 0x80 != 0 {
            return Err(Error::Malformed("OBU forbidden bit"));
        }
        let mut header = [first & !HAS_SIZE, 0];
        let mut header_len = 1;
        if first & HAS_EXTENSION != 0 {
            header[1] = reader.u8()?;
            header_len = 2;
        }
        let len = match first & HAS_SIZE {
            0 => reader.len(),
            _ => leb128(&mut reader)?,
        };
        let start = frame.len() - reader.len();
        reader.take(len)?;
        let obu = Self {
            header,
            header_len,
            content: start..start + len,
        };
        Ok((obu, start + len))
    }

    /// Copies bytes `from..from + out.len()` of header and content.
    fn copy(&self, frame: &[u8], from: usize, out: &mut [u8]) -> Result<()> {
        let header_len = usize::from(self.header_len);
        let header = &self.header[from.min(header_len)..header_len];
        let head = header.len().min(out.len());
        out[..head].copy_from_slice(&header[..head]);
        let start = self.content.start + (from + head).saturating_sub(header_len);
        let rest = &mut out[head..];
        let content = frame
            .get(start..start + rest.len())
            .ok_or(Error::Truncated("frame"))?;
        rest.copy_from_slice(content);
        Ok(())
    }
}

pub(super) fn inspect(payload: &[u8]) -> Result<PayloadInfo> {
    let mut elements = Elements::new(payload)?;
    let mut info = PayloadInfo {
        start_of_frame: elements.new_sequence && !elements.continues,
        keyframe: elements.new_sequence,
        switching_point: true,
        ..PayloadInfo::default()
    };
    let mut first = !elements.continues;
    while let Some(element) = elements.next_element()? {
        if std::mem::replace(&mut first, true)
            && let [header, extension, ..] = *element
            && header & HAS_EXTENSION != 0
        {
            info.temporal_id = extension >> 5;
            info.spatial_id = extension >> 3 & 0x03;
        }
    }
    info.switching_point = info.temporal_id == 0;
    Ok(info)
}

/// The OBU elements of a payload (section 4.4).
#[derive(Debug, Clone)]
struct Elements<'a> {
    reader: Reader<'a>,
    /// Z: the first element continues one of the packet before.
    continues: bool,
    /// Y: the last element is continued in the next packet.
    continued: bool,
    /// N: a coded video sequence begins.
    new_sequence: bool,
    /// W, if it is not zero: how many elements are left.
    left: Option<u8>,
}

impl<'a> Elements<'a> {
    fn new(payload: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(payload, "AV1 payload");
        let head = reader.u8()?;
        let count = head >> 4 & 3;
        if reader.is_empty() {
            return Err(Error::Truncated("AV1 payload"));
        }
        if head & 0x88 == 0x88 {
            return Err(Error::Malformed("AV1 sequence begins within an OBU"));
        }
        Ok(Self {
            reader,
            continues: head & 0x80 != 0,
            continued: head & 0x40 != 0,
            new_sequence: head & 0x08 != 0,
            left: (count != 0).then_some(count),
        })
    }

    fn next_element(&mut self) -> Result<Option<&'a [u8]>> {
        if self.reader.is_empty() {
            return match self.left {
                None | Some(0) => Ok(None),
                Some(_) => Err(Error::Truncated("AV1 OBU elements")),
            };
        }
        let len = match &mut self.left {
            Some(0) => return Err(Error::Malformed("AV1 OBU element count")),
            // The last of a counted list has no length.
            Some(left @ 1) => {
                *left = 0;
                self.reader.len()
            }
            Some(left) => {
                *left -= 1;
                leb128(&mut self.reader)?
            }
            None => leb128(&mut self.reader)?,
        };
        self.reader.take(len).map(Some)
    }

    /// Whether the element that was just given is the last.
    fn at_end(&self) -> bool {
        self.reader.is_empty()
    }
}

/// Cuts AV1 temporal units, or the frames of their layers, into payloads.
#[derive(Debug, Clone, Default)]
pub struct Av1Packetizer {
    obus: Vec<Obu>,
    /// The OBU that comes next, and how much of it is sent.
    next: usize,
    sent: usize,
    max_payload: usize,
    begins_sequence: bool,
    end_of_picture: bool,
}

impl Packetizer for Av1Packetizer {
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()> {
        self.obus.clear();
        self.next = 0;
        self.sent = 0;
        self.max_payload = max_payload;
        self.begins_sequence = params.keyframe && params.spatial_id == 0;
        self.end_of_picture = params.end_of_picture;
        let mut at = 0;
        while at < frame.len() {
            let parsed = match self.obus.len() {
                MAX_OBUS => Err(Error::Limit("OBUs of a frame")),
                _ => Obu::parse(frame, at),
            };
            let (obu, end) = parsed.inspect_err(|_| self.obus.clear())?;
            at = end;
            // Section 5: temporal delimiters and tile lists are not sent.
            let kind = type_of(obu.header[0]);
            if kind != obu_type::TEMPORAL_DELIMITER && kind != obu_type::TILE_LIST {
                self.obus.push(obu);
            }
        }
        if self.obus.is_empty() || max_payload < 8 {
            self.obus.clear();
            return Err(Error::NotRepresentable("frame without OBUs"));
        }
        Ok(())
    }

    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>> {
        if self.next == self.obus.len() {
            return Ok(None);
        }
        let first = self.next == 0 && self.sent == 0;
        let limit = self.max_payload.min(out.len());
        if limit < 8 {
            return Err(Error::BufferTooSmall);
        }
        let continues = self.sent > 0;
        let mut at = 1;
        let mut count = 0u8;
        let (mut next, mut sent) = (self.next, self.sent);
        // Up to three elements, so that W counts them and the last needs no length.
        while count < 3
            && let Some(obu) = self.obus.get(next)
        {
            let left = obu.len() - sent;
            let room = limit - at;
            let mut size = [0; 5];
            let size_len = write_leb128(left, &mut size);
            let closes = count == 2 || next + 1 == self.obus.len() || size_len + left + 2 > room;
            if closes {
                let len = left.min(room);
                if len == 0 {
                    break;
                }
                obu.copy(frame, sent, &mut out[at..at + len])?;
                at += len;
                count += 1;
                sent += len;
                if sent == obu.len() {
                    next += 1;
                    sent = 0;
                }
                break;
            }
            out[at..at + size_len].copy_from_slice(&size[..size_len]);
            at += size_len;
            obu.copy(frame, sent, &mut out[at..at + left])?;
            at += left;
            count += 1;
            next += 1;
            sent = 0;
        }
        let last = next == self.obus.len();
        out[0] = u8::from(continues) << 7
            | u8::from(sent > 0) << 6
            | count << 4
            | u8::from(first && self.begins_sequence) << 3;
        self.next = next;
        self.sent = sent;
        Ok(Some(Fragment {
            len: at,
            start_of_frame: first,
            end_of_frame: last,
            marker: last && self.end_of_picture,
        }))
    }
}

/// Puts AV1 temporal units together: OBUs with sizes, without temporal delimiter.
#[derive(Debug, Default)]
pub struct Av1Depacketizer {
    assembly: Assembly,
    /// Where the OBU begins whose fragments are coming.
    fragmented: Option<usize>,
}

impl Av1Depacketizer {
    /// A depacketizer that refuses temporal units of more than `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self {
            assembly: Assembly::new(max_frame),
            fragmented: None,
        }
    }

    /// Gives the OBU that begins at `start` and ends the data a size, if it has none.
    fn complete(&mut self, start: usize) -> Result<()> {
        let obu = &self.assembly.data[start..];
        let header = *obu.first().ok_or(Error::Malformed("empty OBU"))?;
        let header_len = 1 + usize::from(header & HAS_EXTENSION != 0);
        let kind = type_of(header);
        if header & 0x80 != 0 || obu.len() < header_len {
            return Err(Error::Malformed("OBU header"));
        }
        if kind == obu_type::TEMPORAL_DELIMITER || kind == obu_type::TILE_LIST {
            self.assembly.data.truncate(start);
            return Ok(());
        }
        if header & HAS_EXTENSION != 0 {
            self.assembly.temporal_id = self.assembly.temporal_id.max(obu[1] >> 5);
            self.assembly.spatial_id = self.assembly.spatial_id.max(obu[1] >> 3 & 3);
        }
        self.assembly.keyframe |= kind == obu_type::SEQUENCE_HEADER;
        if header & HAS_SIZE != 0 {
            let mut reader = Reader::new(&obu[header_len..], "OBU");
            if leb128(&mut reader)? != reader.len() {
                return Err(Error::Malformed("OBU size"));
            }
            return Ok(());
        }
        let content = obu.len() - header_len;
        let mut size = [0; 5];
        let size_len = write_leb128(content, &mut size);
        self.assembly.extend(&size[..size_len])?;
        let data = &mut self.assembly.data[start..];
        data[0] |= HAS_SIZE;
        data.copy_within(header_len..header_len + content, header_len + size_len);
        data[header_len..header_len + size_len].copy_from_slice(&size[..size_len]);
        Ok(())
    }

    fn append(&mut self, packet: &Received<'_>, mut elements: Elements<'_>) -> Result<()> {
        if elements.continues != self.fragmented.is_some() {
            return Err(Error::Malformed("AV1 OBU continues from nowhere"));
        }
        if packet.marker && elements.continued {
            return Err(Error::Malformed("AV1 temporal unit ends within an OBU"));
        }
        while let Some(element) = elements.next_element()? {
            let start = self.fragmented.take().unwrap_or(self.assembly.data.len());
            self.assembly.extend(element)?;
            if elements.continued && elements.at_end() {
                self.fragmented = Some(start);
            } else {
                self.complete(start)?;
            }
        }
        Ok(())
    }
}

impl Depacketizer for Av1Depacketizer {
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        let place = self.assembly.place(&packet);
        if place == Place::Stale {
            return Ok(None);
        }
        let elements =
            Elements::new(packet.payload).inspect_err(|_| self.assembly.abandon(&packet))?;
        if place != Place::Continues {
            self.fragmented = None;
            if place == Place::AfterLoss && !elements.new_sequence {
                self.assembly.abandon(&packet);
                return Ok(None);
            }
            self.assembly.open(&packet);
            self.assembly.keyframe = elements.new_sequence;
        }
        self.append(&packet, elements)
            .inspect_err(|_| self.assembly.abandon(&packet))?;
        Ok(self.assembly.close(&packet))
    }

    fn reset(&mut self) {
        self.assembly.reset();
    }
}
