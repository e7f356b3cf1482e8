//! VP8 (RFC 7741).

use super::assembly::{Assembly, Place};
use super::split::Split;
use super::{Depacketizer, Fragment, Frame, FrameParams, Packetizer, PayloadInfo, Received};
use crate::bytes::{Reader, Writer};
use crate::{Error, Result};

/// A picture id of 7 or 15 bits (RFC 7741 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PictureId {
    /// The number: 0 to 127, or 0 to 32767 if wide.
    pub value: u16,
    /// Whether it has 15 bits.
    pub wide: bool,
}

/// The payload descriptor (RFC 7741 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vp8Descriptor {
    /// N: no other frame depends on this one.
    pub non_reference: bool,
    /// S: the payload begins a partition.
    pub start_of_partition: bool,
    /// PID: the partition, 0 to 7.
    pub partition: u8,
    /// The picture's number.
    pub picture_id: Option<PictureId>,
    /// Number of the temporal base layer's picture.
    pub tl0_picture_index: Option<u8>,
    /// TID and Y: temporal layer 0 to 3, and whether it depends on the base layer alone.
    pub temporal: Option<(u8, bool)>,
    /// KEYIDX: number of the key frame that it depends on, 0 to 31.
    pub key_index: Option<u8>,
}

impl Vp8Descriptor {
    /// The most bytes that a descriptor takes.
    pub const MAX_LEN: usize = 6;

    /// Reads a descriptor; what is left is the VP8 payload.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8])> {
        let mut reader = Reader::new(payload, "VP8 payload descriptor");
        let head = reader.u8()?;
        let mut descriptor = Self {
            non_reference: head & 0x20 != 0,
            start_of_partition: head & 0x10 != 0,
            partition: head & 0x07,
            ..Self::default()
        };
        if head & 0x80 != 0 {
            let flags = reader.u8()?;
            if flags & 0x80 != 0 {
                let first = reader.u8()?;
                descriptor.picture_id = Some(if first & 0x80 != 0 {
                    PictureId {
                        value: u16::from(first & 0x7f) << 8 | u16::from(reader.u8()?),
                        wide: true,
                    }
                } else {
                    PictureId {
                        value: first.into(),
                        wide: false,
                    }
                });
            }
            if flags & 0x40 != 0 {
                descriptor.tl0_picture_index = Some(reader.u8()?);
            }
            if flags & 0x30 != 0 {
                let bits = reader.u8()?;
                if flags & 0x20 != 0 {
                    descriptor.temporal = Some((bits >> 6, bits & 0x20 != 0));
                }
                if flags & 0x10 != 0 {
                    descriptor.key_index = Some(bits & 0x1f);
                }
            }
        }
        if reader.is_empty() {
            return Err(Error::Truncated("VP8 payload"));
        }
        Ok((descriptor, reader.rest()))
    }

    /// Writes the descriptor and returns its length, 1 to 6 bytes.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn write(&self, out: &mut [u8]) -> Result<usize> {
        let mut writer = Writer::new(out);
        let flags = u8::from(self.picture_id.is_some()) << 7
            | u8::from(self.tl0_picture_index.is_some()) << 6
            | u8::from(self.temporal.is_some()) << 5
            | u8::from(self.key_index.is_some()) << 4;
        writer.u8(u8::from(flags != 0) << 7
            | u8::from(self.non_reference) << 5
            | u8::from(self.start_of_partition) << 4
            | self.partition & 0x07)?;
        if flags != 0 {
            writer.u8(flags)?;
        }
        match self.picture_id {
            Some(PictureId { value, wide: true }) => writer.u16(0x8000 | value)?,
            Some(PictureId { value, wide: false }) => writer.u8(value as u8 & 0x7f)?,
            None => {}
        }
        if let Some(index) = self.tl0_picture_index {
            writer.u8(index)?;
        }
        if self.temporal.is_some() || self.key_index.is_some() {
            let (layer, sync) = self.temporal.unwrap_or_default();
            let key = self.key_index.unwrap_or_default() & 0x1f;
            writer.u8(layer << 6 | u8::from(sync) << 5 | key)?;
        }
        Ok(writer.len())
    }

    /// Writes new numbers over those of a payload, for forwarding; the lengths of the fields stay.
    /// A number that the payload does not have is not written.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn renumber(payload: &mut [u8], picture_id: u16, tl0_picture_index: u8) -> Result<()> {
        let (mut descriptor, _) = Self::parse(payload)?;
        if let Some(id) = &mut descriptor.picture_id {
            let mask = if id.wide { 0x7fff } else { 0x7f };
            id.value = picture_id & mask;
        }
        if let Some(index) = &mut descriptor.tl0_picture_index {
            *index = tl0_picture_index;
        }
        // Reserved bits of the first two bytes go; nobody reads them.
        descriptor.write(payload).map(|_| ())
    }

    /// Whether the payload is the first of its frame.
    pub const fn start_of_frame(&self) -> bool {
        self.start_of_partition && self.partition == 0
    }
}

/// Whether a VP8 frame is a key frame: the inverse of its first bit (RFC 6386 section 9.1).
pub fn is_keyframe(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 1 == 0)
}

pub(super) fn inspect(payload: &[u8]) -> Result<PayloadInfo> {
    let (descriptor, data) = Vp8Descriptor::parse(payload)?;
    let start_of_frame = descriptor.start_of_frame();
    let (temporal_id, sync) = descriptor.temporal.unwrap_or_default();
    Ok(PayloadInfo {
        start_of_frame,
        end_of_frame: false,
        keyframe: start_of_frame && is_keyframe(data),
        spatial_id: 0,
        temporal_id,
        switching_point: sync || temporal_id == 0,
        up_switch: false,
        discardable: descriptor.non_reference,
        picture_id: descriptor.picture_id.map(|id| id.value),
        picture_id_bits: descriptor
            .picture_id
            .map_or(0, |id| if id.wide { 15 } else { 7 }),
        tl0_picture_index: descriptor.tl0_picture_index,
        frame_number: None,
    })
}

/// Cuts VP8 frames into payloads: picture ids of 15 bits, and the numbers of the temporal layers.
#[derive(Debug, Clone, Default)]
pub struct Vp8Packetizer {
    picture_id: u16,
    tl0_picture_index: u8,
    key_index: u8,
    descriptor: Vp8Descriptor,
    split: Split,
    end_of_picture: bool,
}

impl Vp8Packetizer {
    /// A packetizer whose numbers begin with these.
    pub fn new(picture_id: u16, tl0_picture_index: u8) -> Self {
        Self {
            picture_id: picture_id & 0x7fff,
            tl0_picture_index,
            ..Self::default()
        }
    }
}

impl Packetizer for Vp8Packetizer {
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()> {
        if frame.is_empty() {
            return Err(Error::NotRepresentable("empty frame"));
        }
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        if params.keyframe {
            self.key_index = self.key_index.wrapping_add(1) & 0x1f;
        }
        self.descriptor = Vp8Descriptor {
            non_reference: params.discardable,
            start_of_partition: true,
            partition: 0,
            picture_id: Some(PictureId {
                value: self.picture_id,
                wide: true,
            }),
            ..Vp8Descriptor::default()
        };
        if let Some(layer) = params.temporal_id {
            if layer == 0 {
                self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
            }
            self.descriptor.tl0_picture_index = Some(self.tl0_picture_index);
            self.descriptor.temporal = Some((layer & 3, params.switching_point && layer > 0));
            self.descriptor.key_index = Some(self.key_index);
        }
        let header = self.descriptor.write(&mut [0; Vp8Descriptor::MAX_LEN])?;
        self.split = Split::new(frame.len(), max_payload.saturating_sub(header))?;
        self.end_of_picture = params.end_of_picture;
        Ok(())
    }

    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>> {
        let descriptor = &mut self.descriptor;
        self.split
            .next_payload(frame, out, self.end_of_picture, |first, _, out| {
                descriptor.start_of_partition = first;
                descriptor.write(out)
            })
    }
}

/// Puts VP8 frames together.
#[derive(Debug, Default)]
pub struct Vp8Depacketizer {
    assembly: Assembly,
}

impl Vp8Depacketizer {
    /// A depacketizer that refuses frames of more than `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self {
            assembly: Assembly::new(max_frame),
        }
    }
}

impl Depacketizer for Vp8Depacketizer {
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        let place = self.assembly.place(&packet);
        if place == Place::Stale {
            return Ok(None);
        }
        let (descriptor, data) =
            Vp8Descriptor::parse(packet.payload).inspect_err(|_| self.assembly.abandon(&packet))?;
        if place == Place::Continues && descriptor.start_of_frame() {
            self.assembly.abandon(&packet);
            return Err(Error::Malformed("two VP8 frames with one timestamp"));
        }
        if place != Place::Continues {
            if !descriptor.start_of_frame() {
                self.assembly.abandon(&packet);
                return Ok(None);
            }
            self.assembly.open(&packet);
            self.assembly.keyframe = is_keyframe(data);
            self.assembly.temporal_id = descriptor.temporal.unwrap_or_default().0;
        }
        self.assembly.extend(data)?;
        Ok(self.assembly.close(&packet))
    }

    fn reset(&mut self) {
        self.assembly.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7741 section 4.6.3: an interframe with extended picture id.
    #[test]
    fn descriptor_with_15_bit_picture_id() {
        let payload = [0x80, 0x80, 0x81, 0x23, 0xaa];
        let (descriptor, data) = Vp8Descriptor::parse(&payload).unwrap();
        let id = PictureId {
            value: 0x123,
            wide: true,
        };
        assert_eq!(descriptor.picture_id, Some(id));
        assert_eq!(data, [0xaa]);
        let mut out = [0; 6];
        let len = descriptor.write(&mut out).unwrap();
        assert_eq!(out[..len], payload[..4]);
    }

    #[test]
    fn renumbering_keeps_lengths_and_everything_else() {
        let mut payload = [0x90, 0xf0, 0x05, 0x07, 0x65, 0x11, 0x22];
        Vp8Descriptor::renumber(&mut payload, 0x1ff, 9).unwrap();
        assert_eq!(payload, [0x90, 0xf0, 0x7f, 0x09, 0x65, 0x11, 0x22]);
    }

    #[test]
    fn truncated_descriptors_are_errors() {
        for payload in [
            &[][..],
            &[0x80],
            &[0x80, 0x80],
            &[0x80, 0x80, 0x80],
            &[0x10],
        ] {
            assert!(Vp8Descriptor::parse(payload).is_err(), "{payload:?}");
        }
    }
}
