//! VP9 (RFC 9628), flexible and non-flexible mode.

use smallvec::SmallVec;

use super::assembly::{Assembly, Place};
use super::split::Split;
use super::vp8::PictureId;
use super::{Depacketizer, Fragment, Frame, FrameParams, Packetizer, PayloadInfo, Received};
use crate::bytes::{Reader, Writer};
use crate::extension::Resolution;
use crate::{Error, Result};

/// Layer indices (RFC 9628 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LayerIndices {
    /// TID, 0 to 7.
    pub temporal_id: u8,
    /// U: a receiver of lower temporal layers can begin with this layer here.
    pub switching_up: bool,
    /// SID, 0 to 7.
    pub spatial_id: u8,
    /// D: the frame depends on the spatial layer below, of the same picture.
    pub inter_layer: bool,
    /// TL0PICIDX, in non-flexible mode.
    pub tl0_picture_index: Option<u8>,
}

/// One picture of a group (RFC 9628 section 4.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupPicture {
    /// Temporal layer, 0 to 7.
    pub temporal_id: u8,
    /// Whether a receiver can switch up here.
    pub switching_up: bool,
    /// How many pictures back each reference lies; up to 3.
    pub diffs: SmallVec<[u8; 3]>,
}

/// The scalability structure (RFC 9628 section 4.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScalabilityStructure {
    /// Spatial layers, 1 to 8.
    pub spatial_layers: u8,
    /// Resolution of each spatial layer; empty if not said.
    pub resolutions: SmallVec<[Resolution; 8]>,
    /// The pictures of a group; `None` if not said.
    pub group: Option<SmallVec<[GroupPicture; 8]>>,
}

/// The payload descriptor (RFC 9628 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vp9Descriptor {
    /// The picture's number.
    pub picture_id: Option<PictureId>,
    /// P: the frame depends on another picture.
    pub inter_picture: bool,
    /// The layer indices.
    pub layers: Option<LayerIndices>,
    /// F: flexible mode.
    pub flexible: bool,
    /// B: the payload begins a frame (of one layer).
    pub start_of_frame: bool,
    /// E: the payload ends a frame (of one layer).
    pub end_of_frame: bool,
    /// Z: upper spatial layers do not depend on this frame.
    pub not_spatial_reference: bool,
    /// Flexible mode: how many pictures back each reference lies, 1 to 127; up to 3.
    pub diffs: SmallVec<[u8; 3]>,
    /// The scalability structure.
    pub structure: Option<ScalabilityStructure>,
}

impl Vp9Descriptor {
    /// Reads a descriptor; what is left is the VP9 payload.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Malformed`].
    pub fn parse(payload: &[u8]) -> Result<(Self, &[u8])> {
        let mut reader = Reader::new(payload, "VP9 payload descriptor");
        let flags = reader.u8()?;
        let mut descriptor = Self {
            inter_picture: flags & 0x40 != 0,
            flexible: flags & 0x10 != 0,
            start_of_frame: flags & 0x08 != 0,
            end_of_frame: flags & 0x04 != 0,
            not_spatial_reference: flags & 0x01 != 0,
            ..Self::default()
        };
        if flags & 0x80 != 0 {
            let first = reader.u8()?;
            let wide = first & 0x80 != 0;
            let mut value = u16::from(first & 0x7f);
            if wide {
                value = value << 8 | u16::from(reader.u8()?);
            }
            descriptor.picture_id = Some(PictureId { value, wide });
        }
        if flags & 0x20 != 0 {
            let bits = reader.u8()?;
            descriptor.layers = Some(LayerIndices {
                temporal_id: bits >> 5,
                switching_up: bits & 0x10 != 0,
                spatial_id: bits >> 1 & 0x07,
                inter_layer: bits & 0x01 != 0,
                tl0_picture_index: match descriptor.flexible {
                    true => None,
                    false => Some(reader.u8()?),
                },
            });
        }
        if descriptor.flexible && descriptor.inter_picture {
            loop {
                let bits = reader.u8()?;
                if descriptor.diffs.len() == 3 {
                    return Err(Error::Malformed("more than three VP9 references"));
                }
                descriptor.diffs.push(bits >> 1);
                if bits & 1 == 0 {
                    break;
                }
            }
        }
        if flags & 0x02 != 0 {
            descriptor.structure = Some(ScalabilityStructure::parse(&mut reader)?);
        }
        if reader.is_empty() {
            return Err(Error::Truncated("VP9 payload"));
        }
        Ok((descriptor, reader.rest()))
    }

    /// Writes the descriptor and returns its length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`]; [`Error::NotRepresentable`] for references outside of flexible mode,
    /// or none in it.
    pub fn write(&self, out: &mut [u8]) -> Result<usize> {
        let wants_diffs = self.flexible && self.inter_picture;
        if wants_diffs == self.diffs.is_empty() || self.diffs.len() > 3 {
            return Err(Error::NotRepresentable("VP9 references"));
        }
        let mut writer = Writer::new(out);
        writer.u8(u8::from(self.picture_id.is_some()) << 7
            | u8::from(self.inter_picture) << 6
            | u8::from(self.layers.is_some()) << 5
            | u8::from(self.flexible) << 4
            | u8::from(self.start_of_frame) << 3
            | u8::from(self.end_of_frame) << 2
            | u8::from(self.structure.is_some()) << 1
            | u8::from(self.not_spatial_reference))?;
        match self.picture_id {
            Some(PictureId { value, wide: true }) => writer.u16(0x8000 | value)?,
            Some(PictureId { value, wide: false }) => writer.u8(value as u8 & 0x7f)?,
            None => {}
        }
        if let Some(layers) = self.layers {
            writer.u8(layers.temporal_id << 5
                | u8::from(layers.switching_up) << 4
                | (layers.spatial_id & 0x07) << 1
                | u8::from(layers.inter_layer))?;
            if !self.flexible {
                writer.u8(layers.tl0_picture_index.unwrap_or_default())?;
            }
        }
        for (index, diff) in self.diffs.iter().enumerate() {
            writer.u8(diff << 1 | u8::from(index + 1 < self.diffs.len()))?;
        }
        if let Some(structure) = &self.structure {
            structure.write(&mut writer)?;
        }
        Ok(writer.len())
    }

    /// Writes new numbers over those of a payload, for forwarding; the lengths of the fields stay.
    /// A number that the payload does not have is not written.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn renumber(payload: &mut [u8], picture_id: u16, tl0_picture_index: u8) -> Result<()> {
        let truncated = Error::Truncated("VP9 payload descriptor");
        let flags = *payload.first().ok_or(truncated)?;
        let mut at = 1;
        if flags & 0x80 != 0 {
            let wide = payload.get(at).ok_or(truncated)? & 0x80 != 0;
            if wide {
                payload
                    .get_mut(at..at + 2)
                    .ok_or(truncated)?
                    .copy_from_slice(&(0x8000 | picture_id).to_be_bytes());
                at += 2;
            } else {
                payload[at] = picture_id as u8 & 0x7f;
                at += 1;
            }
        }
        if flags & 0x30 == 0x20 {
            *payload.get_mut(at + 1).ok_or(truncated)? = tl0_picture_index;
        }
        Ok(())
    }

    /// Spatial and temporal layer; 0 without layers.
    pub fn layer_ids(&self) -> (u8, u8) {
        self.layers
            .map_or((0, 0), |layers| (layers.spatial_id, layers.temporal_id))
    }

    /// Whether the frame needs no other picture, nor a lower layer of its own.
    pub fn is_keyframe(&self) -> bool {
        !self.inter_picture && self.layers.is_none_or(|layers| layers.spatial_id == 0)
    }
}

impl ScalabilityStructure {
    fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let head = reader.u8()?;
        let mut structure = Self {
            spatial_layers: (head >> 5) + 1,
            ..Self::default()
        };
        if head & 0x10 != 0 {
            for _ in 0..structure.spatial_layers {
                structure.resolutions.push(Resolution {
                    width: reader.u16()?.into(),
                    height: reader.u16()?.into(),
                });
            }
        }
        if head & 0x08 != 0 {
            let mut group = SmallVec::new();
            for _ in 0..reader.u8()? {
                let bits = reader.u8()?;
                let mut picture = GroupPicture {
                    temporal_id: bits >> 5,
                    switching_up: bits & 0x10 != 0,
                    diffs: SmallVec::new(),
                };
                for _ in 0..bits >> 2 & 3 {
                    picture.diffs.push(reader.u8()?);
                }
                group.push(picture);
            }
            structure.group = Some(group);
        }
        Ok(structure)
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<()> {
        let layers = usize::from(self.spatial_layers);
        if !(1..=8).contains(&layers) || ![0, layers].contains(&self.resolutions.len()) {
            return Err(Error::NotRepresentable("VP9 scalability structure"));
        }
        writer.u8((self.spatial_layers - 1) << 5
            | u8::from(!self.resolutions.is_empty()) << 4
            | u8::from(self.group.is_some()) << 3)?;
        for resolution in &self.resolutions {
            writer.u16(resolution.width as u16)?;
            writer.u16(resolution.height as u16)?;
        }
        let Some(group) = &self.group else {
            return Ok(());
        };
        let count = u8::try_from(group.len())
            .map_err(|_| Error::NotRepresentable("VP9 picture group above 255"))?;
        writer.u8(count)?;
        for picture in group {
            if picture.diffs.len() > 3 {
                return Err(Error::NotRepresentable("VP9 references"));
            }
            writer.u8(picture.temporal_id << 5
                | u8::from(picture.switching_up) << 4
                | (picture.diffs.len() as u8) << 2)?;
            writer.put(&picture.diffs)?;
        }
        Ok(())
    }
}

pub(super) fn inspect(payload: &[u8]) -> Result<PayloadInfo> {
    // The fields that matter come first: no structure is read.
    let mut reader = Reader::new(payload, "VP9 payload descriptor");
    let flags = reader.u8()?;
    let mut info = PayloadInfo {
        start_of_frame: flags & 0x08 != 0,
        end_of_frame: flags & 0x04 != 0,
        keyframe: flags & 0x40 == 0,
        switching_point: true,
        ..PayloadInfo::default()
    };
    if flags & 0x80 != 0 {
        let first = reader.u8()?;
        let mut id = u16::from(first & 0x7f);
        info.picture_id_bits = 7;
        if first & 0x80 != 0 {
            id = id << 8 | u16::from(reader.u8()?);
            info.picture_id_bits = 15;
        }
        info.picture_id = Some(id);
    }
    if flags & 0x20 != 0 {
        let bits = reader.u8()?;
        info.temporal_id = bits >> 5;
        info.spatial_id = bits >> 1 & 0x07;
        info.up_switch = bits & 0x10 != 0;
        info.switching_point = info.up_switch || info.temporal_id == 0;
        info.keyframe &= info.spatial_id == 0;
        if flags & 0x10 == 0 {
            info.tl0_picture_index = Some(reader.u8()?);
        }
    }
    if reader.is_empty() {
        return Err(Error::Truncated("VP9 payload"));
    }
    Ok(info)
}

/// How a [`Vp9Packetizer`] describes references.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vp9Mode {
    /// Non-flexible: references follow from the picture group that key frames announce.
    #[default]
    Fixed,
    /// Flexible: each frame names its references by [`Vp9Packetizer::set_references`]; one that is
    /// not told refers to the picture before.
    Flexible,
}

/// Cuts VP9 frames into payloads. Each spatial layer of a picture is a frame of its own.
#[derive(Debug, Clone, Default)]
pub struct Vp9Packetizer {
    mode: Vp9Mode,
    picture_id: u16,
    tl0_picture_index: u8,
    structure: Option<ScalabilityStructure>,
    references: SmallVec<[u8; 3]>,
    /// Whether the next frame begins a picture.
    within_picture: bool,
    descriptor: Vp9Descriptor,
    split: Split,
    end_of_picture: bool,
}

impl Vp9Packetizer {
    /// A packetizer whose numbers begin with these.
    pub fn new(mode: Vp9Mode, picture_id: u16, tl0_picture_index: u8) -> Self {
        Self {
            mode,
            picture_id: picture_id & 0x7fff,
            tl0_picture_index,
            ..Self::default()
        }
    }

    /// What key frames announce. Without it none is sent.
    pub fn set_structure(&mut self, structure: Option<ScalabilityStructure>) {
        self.structure = structure;
    }

    /// Flexible mode: how many pictures back the references of the next frame lie, 1 to 127, up to 3.
    pub fn set_references(&mut self, diffs: &[u8]) {
        self.references = diffs.iter().copied().take(3).collect();
    }
}

impl Packetizer for Vp9Packetizer {
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()> {
        if frame.is_empty() {
            return Err(Error::NotRepresentable("empty frame"));
        }
        let layered = params.temporal_id.is_some()
            || params.spatial_id > 0
            || !params.end_of_picture
            || self.within_picture;
        if !self.within_picture {
            self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
            if layered && params.temporal_id.unwrap_or(0) == 0 {
                self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
            }
        }
        let flexible = self.mode == Vp9Mode::Flexible;
        let mut references = std::mem::take(&mut self.references);
        if flexible && !params.keyframe && references.is_empty() {
            references.push(1);
        }
        self.descriptor = Vp9Descriptor {
            picture_id: Some(PictureId {
                value: self.picture_id,
                wide: true,
            }),
            inter_picture: !params.keyframe,
            layers: layered.then(|| LayerIndices {
                temporal_id: params.temporal_id.unwrap_or(0) & 7,
                switching_up: params.switching_point,
                spatial_id: params.spatial_id & 7,
                inter_layer: self.within_picture && params.spatial_id > 0,
                tl0_picture_index: (!flexible).then_some(self.tl0_picture_index),
            }),
            flexible,
            start_of_frame: true,
            end_of_frame: false,
            not_spatial_reference: params.discardable,
            diffs: if flexible && !params.keyframe {
                references
            } else {
                SmallVec::new()
            },
            structure: self
                .structure
                .clone()
                .filter(|_| params.keyframe && params.spatial_id == 0),
        };
        // The structure goes with the first payload alone, but all leave room for it: frames that
        // have one are few.
        let header = self.descriptor.write(&mut [0; 1024])?;
        self.split = Split::new(frame.len(), max_payload.saturating_sub(header))?;
        self.end_of_picture = params.end_of_picture;
        self.within_picture = !params.end_of_picture;
        Ok(())
    }

    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>> {
        let descriptor = &mut self.descriptor;
        self.split
            .next_payload(frame, out, self.end_of_picture, |first, last, out| {
                descriptor.start_of_frame = first;
                descriptor.end_of_frame = last;
                if !first {
                    descriptor.structure = None;
                }
                descriptor.write(out)
            })
    }
}

/// Puts VP9 pictures together: all spatial layers that were sent, one behind the other, with an index behind several (a
/// superframe), without which not every decoder looks behind the first.
#[derive(Debug, Default)]
pub struct Vp9Depacketizer {
    assembly: Assembly,
    /// Whether a frame (of one layer) is begun and not ended.
    within_frame: bool,
    /// Where the frames of this picture end.
    ends: SmallVec<[usize; MAX_SUPERFRAME]>,
}

/// The most frames that a superframe's index has (VP9 bitstream specification, annex B).
const MAX_SUPERFRAME: usize = 8;

/// The index of a superframe whose frames end at these offsets (annex B.2): a marker, the sizes, the marker again.
fn superframe_index(ends: &[usize]) -> SmallVec<[u8; 64]> {
    let starts = std::iter::once(&0).chain(ends);
    let sizes = || {
        ends.iter()
            .zip(starts.clone())
            .map(|(end, start)| end - start)
    };
    let largest = sizes().max().unwrap_or(0);
    let width = (usize::BITS - largest.leading_zeros())
        .div_ceil(8)
        .clamp(1, 4) as usize;
    let marker = 0b1100_0000 | ((width - 1) << 3 | (ends.len() - 1)) as u8;
    let mut index = SmallVec::new();
    index.push(marker);
    for size in sizes() {
        index.extend_from_slice(&(size as u32).to_le_bytes()[..width]);
    }
    index.push(marker);
    index
}

impl Vp9Depacketizer {
    /// A depacketizer that refuses pictures of more than `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self {
            assembly: Assembly::new(max_frame),
            within_frame: false,
            ends: SmallVec::new(),
        }
    }
}

impl Depacketizer for Vp9Depacketizer {
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        let place = self.assembly.place(&packet);
        if place == Place::Stale {
            return Ok(None);
        }
        let (descriptor, data) =
            Vp9Descriptor::parse(packet.payload).inspect_err(|_| self.assembly.abandon(&packet))?;
        let (spatial_id, temporal_id) = descriptor.layer_ids();
        if place != Place::Continues {
            let begins = descriptor.start_of_frame && (place == Place::Begins || spatial_id == 0);
            if !begins {
                self.assembly.abandon(&packet);
                return Ok(None);
            }
            self.assembly.open(&packet);
            self.within_frame = false;
            self.ends.clear();
            self.assembly.keyframe = descriptor.is_keyframe();
            self.assembly.temporal_id = temporal_id;
        }
        if descriptor.start_of_frame == self.within_frame {
            self.assembly.abandon(&packet);
            return Err(Error::Malformed("VP9 frame begins or ends twice"));
        }
        self.within_frame = !descriptor.end_of_frame;
        if packet.marker && self.within_frame {
            self.assembly.abandon(&packet);
            return Err(Error::Malformed("VP9 picture ends within a frame"));
        }
        self.assembly.spatial_id = self.assembly.spatial_id.max(spatial_id);
        self.assembly.extend(data)?;
        if descriptor.end_of_frame && self.ends.len() < MAX_SUPERFRAME {
            self.ends.push(self.assembly.data.len());
        }
        if packet.marker && self.ends.len() > 1 {
            self.assembly.extend(&superframe_index(&self.ends))?;
        }
        Ok(self.assembly.close(&packet))
    }

    fn reset(&mut self) {
        self.assembly.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(descriptor: &Vp9Descriptor) {
        let mut out = [0; 100];
        let len = descriptor.write(&mut out).unwrap();
        out[len] = 0xaa;
        let (parsed, data) = Vp9Descriptor::parse(&out[..=len]).unwrap();
        assert_eq!(&parsed, descriptor);
        assert_eq!(data, [0xaa]);
    }

    #[test]
    fn descriptors_round_trip_in_both_modes() {
        let fixed = Vp9Descriptor {
            picture_id: Some(PictureId {
                value: 77,
                wide: false,
            }),
            layers: Some(LayerIndices {
                temporal_id: 2,
                switching_up: true,
                spatial_id: 1,
                inter_layer: true,
                tl0_picture_index: Some(200),
            }),
            start_of_frame: true,
            structure: Some(ScalabilityStructure {
                spatial_layers: 2,
                resolutions: SmallVec::from_slice(&[
                    Resolution {
                        width: 320,
                        height: 180,
                    },
                    Resolution {
                        width: 640,
                        height: 360,
                    },
                ]),
                group: Some(SmallVec::from_vec(vec![GroupPicture {
                    temporal_id: 1,
                    switching_up: true,
                    diffs: SmallVec::from_slice(&[1, 2]),
                }])),
            }),
            ..Vp9Descriptor::default()
        };
        round_trip(&fixed);
        round_trip(&Vp9Descriptor {
            inter_picture: true,
            flexible: true,
            end_of_frame: true,
            diffs: SmallVec::from_slice(&[1, 127, 3]),
            layers: Some(LayerIndices::default()),
            ..Vp9Descriptor::default()
        });
    }

    #[test]
    fn an_index_names_the_size_of_each_frame() {
        assert_eq!(superframe_index(&[5, 12])[..], [0xc1, 5, 7, 0xc1]);
        let index = superframe_index(&[1, 0x0302, 0x0303]);
        assert_eq!(index[..], [0xca, 1, 0, 1, 3, 1, 0, 0xca]);
    }

    #[test]
    fn a_fourth_reference_is_malformed() {
        let payload = [0x50, 0x03, 0x05, 0x07, 0x09, 0x00];
        assert_eq!(
            Vp9Descriptor::parse(&payload).unwrap_err(),
            Error::Malformed("more than three VP9 references")
        );
    }

    #[test]
    fn renumbering_keeps_lengths_and_everything_else() {
        let mut payload = [0xa0, 0x81, 0x02, 0x42, 0x05, 0xee];
        Vp9Descriptor::renumber(&mut payload, 0x7abc, 0x77).unwrap();
        assert_eq!(payload, [0xa0, 0xfa, 0xbc, 0x42, 0x77, 0xee]);
    }
}
