//! A packet under the numbers of the stream that it goes on in.

use visavis_rtp::extension::{
    AbsSendTime, DescriptorHead, MidExtension, RidExtension, TransportSequence,
};
use visavis_rtp::payload::Codec;
use visavis_rtp::payload::vp8::Vp8Descriptor;
use visavis_rtp::payload::vp9::Vp9Descriptor;
use visavis_rtp::{
    Error, ExtensionKind, ExtensionMap, Header, Mid, Packet, PacketWriter, PayloadType, Result,
    Rid, SequenceNumber, Ssrc,
};

/// Numbers that a payload descriptor carries (VP8, VP9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PictureNumbers {
    /// The picture id.
    pub picture_id: u16,
    /// Number of the temporal base layer's picture.
    pub tl0_picture_index: u8,
}

/// The numbers under which a packet goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// The sequence number, extended.
    pub sequence: u64,
    /// The timestamp.
    pub timestamp: u32,
    /// The marker.
    pub marker: bool,
    /// The payload descriptor's numbers, if it has any.
    pub picture: Option<PictureNumbers>,
    /// The frame's number in the dependency descriptor; a descriptor goes on with it alone.
    pub frame_number: Option<u16>,
}

/// The stream that a packet goes on in.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) codec: Codec,
    pub(super) ssrc: Ssrc,
    pub(super) payload_type: PayloadType,
    pub(super) mid: Option<Mid>,
    pub(super) rid: Option<Rid>,
    pub(super) extensions: ExtensionMap,
}

impl Outgoing {
    /// Writes `packet` under new numbers and returns its length. `source`: the ids of its header
    /// extensions, which are translated; what the receiver did not negotiate is left out.
    pub(super) fn write(
        &self,
        packet: &Packet<'_>,
        source: &ExtensionMap,
        rewrite: &Rewrite,
        named: bool,
        out: &mut [u8],
    ) -> Result<usize> {
        let header = Header {
            marker: rewrite.marker,
            payload_type: self.payload_type,
            sequence: SequenceNumber(rewrite.sequence as u16),
            timestamp: rewrite.timestamp,
            ssrc: self.ssrc,
        };
        let map = &self.extensions;
        let mut writer = PacketWriter::new(out, header)?;
        // These two are filled in when the packet leaves.
        writer.typed(map, &TransportSequence(SequenceNumber(0)))?;
        writer.typed(map, &AbsSendTime(0))?;
        if named {
            if let Some(mid) = self.mid {
                writer.typed(map, &MidExtension(mid))?;
            }
            if let Some(rid) = self.rid {
                writer.typed(map, &RidExtension(rid))?;
            }
        }
        for (id, data) in packet.extensions() {
            let Some(kind) = source.kind(id) else {
                continue;
            };
            let ours = matches!(
                kind,
                ExtensionKind::Mid
                    | ExtensionKind::Rid
                    | ExtensionKind::RepairedRid
                    | ExtensionKind::TransportSequence
                    | ExtensionKind::TransportSequenceRequest
                    | ExtensionKind::AbsSendTime
                    | ExtensionKind::TimeOffset
            );
            let Some(id) = map.id(kind).filter(|_| !ours) else {
                continue;
            };
            if kind != DESCRIPTOR {
                writer.extension(id, data)?;
            } else if let Some(frame_number) = rewrite.frame_number
                && let Ok(head) = DescriptorHead::parse(data)
            {
                let slot = writer.extension_slot(id, data.len())?;
                slot.copy_from_slice(data);
                let head = DescriptorHead {
                    frame_number,
                    ..head
                };
                head.overwrite(slot);
            }
        }
        let payload = packet.payload();
        let slot = writer
            .payload_slot()
            .get_mut(..payload.len())
            .ok_or(Error::BufferTooSmall)?;
        slot.copy_from_slice(payload);
        if let Some(picture) = rewrite.picture {
            let renumbered = match self.codec {
                Codec::Vp8 => {
                    Vp8Descriptor::renumber(slot, picture.picture_id, picture.tl0_picture_index)
                }
                Codec::Vp9 => {
                    Vp9Descriptor::renumber(slot, picture.picture_id, picture.tl0_picture_index)
                }
                _ => Ok(()),
            };
            renumbered?;
        }
        writer.finish(payload.len())
    }

    /// Writes a packet without payload, which takes the place of one that was left out late.
    pub(super) fn write_empty(&self, rewrite: &Rewrite, out: &mut [u8]) -> Result<usize> {
        let header = Header {
            marker: false,
            payload_type: self.payload_type,
            sequence: SequenceNumber(rewrite.sequence as u16),
            timestamp: rewrite.timestamp,
            ssrc: self.ssrc,
        };
        let mut writer = PacketWriter::new(out, header)?;
        writer.typed(&self.extensions, &TransportSequence(SequenceNumber(0)))?;
        writer.typed(&self.extensions, &AbsSendTime(0))?;
        writer.finish_padded(&[], 1)
    }
}

const DESCRIPTOR: ExtensionKind = visavis_rtp::extension::DependencyDescriptor::KIND;
