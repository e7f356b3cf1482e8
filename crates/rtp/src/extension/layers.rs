//! What a video sender spends on each of its layers (libwebrtc `rtp-hdrext/video-layers-allocation00`).

use smallvec::SmallVec;

use super::{Extension, ExtensionKind, Resolution};
use crate::bytes::{Reader, Writer};
use crate::{Error, Result};

/// The most RTP streams, and the most spatial layers in each, that an allocation can describe.
pub const MAX_ALLOCATED_STREAMS: usize = 4;

/// One spatial layer of a [`LayersAllocation`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpatialLayerAllocation {
    /// Index of the RTP stream (simulcast encoding), 0 to 3.
    pub stream: u8,
    /// Spatial layer in the stream, 0 to 3.
    pub spatial_id: u8,
    /// Target bit rate in kbit/s up to and including each temporal layer, 1 to 4 of them.
    pub target_kbps: SmallVec<[u32; 4]>,
    /// Width and height in pixels (1 to 65536) and frames per second.
    pub picture: Option<(Resolution, u8)>,
}

/// What a video sender spends on each of its layers. No layers: the stream is off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayersAllocation {
    /// The RTP stream that carries this allocation, 0 to 3.
    pub stream: u8,
    /// How many RTP streams there are, 1 to 4; 0 in an allocation without layers.
    pub streams: u8,
    /// The active layers by stream, then by spatial layer.
    pub layers: SmallVec<[SpatialLayerAllocation; 4]>,
}

fn leb128(reader: &mut Reader<'_>) -> Result<u32> {
    let mut value = 0u64;
    for index in 0..5 {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| Error::Malformed("LEB128 value"));
        }
    }
    Err(Error::Malformed("LEB128 value"))
}

const fn leb128_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

impl LayersAllocation {
    fn bitmasks(&self) -> [u8; MAX_ALLOCATED_STREAMS] {
        let mut masks = [0; MAX_ALLOCATED_STREAMS];
        for layer in &self.layers {
            masks[usize::from(layer.stream & 3)] |= 1 << (layer.spatial_id & 3);
        }
        masks
    }

    /// The one bitmask of all streams, if they agree and it is not empty.
    fn shared_bitmask(&self) -> Option<u8> {
        let streams = usize::from(self.streams.clamp(1, 4));
        let masks = self.bitmasks();
        (masks[0] != 0 && masks[..streams].iter().all(|&mask| mask == masks[0])).then_some(masks[0])
    }

    fn write_to(&self, writer: &mut Writer<'_>) -> Result<()> {
        if self.layers.is_empty() {
            return writer.u8(0);
        }
        let streams = self.streams.clamp(1, 4);
        let shared = self.shared_bitmask();
        writer.u8((self.stream & 3) << 6 | (streams - 1) << 4 | shared.unwrap_or(0))?;
        if shared.is_none() {
            let masks = self.bitmasks();
            for pair in masks.chunks_exact(2).take(usize::from(streams).div_ceil(2)) {
                writer.u8(pair[0] << 4 | pair[1])?;
            }
        }
        for four in self.layers.chunks(4) {
            let mut bits = 0;
            for (index, layer) in four.iter().enumerate() {
                let count = layer.target_kbps.len().clamp(1, 4) as u8 - 1;
                bits |= count << (6 - 2 * index);
            }
            writer.u8(bits)?;
        }
        for &target in self.layers.iter().flat_map(|layer| &layer.target_kbps) {
            let mut rest = target;
            while rest >= 0x80 {
                writer.u8(rest as u8 | 0x80)?;
                rest >>= 7;
            }
            writer.u8(rest as u8)?;
        }
        // All or nothing: the receiver tells by what is left.
        if self.layers.iter().all(|layer| layer.picture.is_some()) {
            for (resolution, rate) in self.layers.iter().filter_map(|layer| layer.picture) {
                writer.u16((resolution.width.saturating_sub(1)) as u16)?;
                writer.u16((resolution.height.saturating_sub(1)) as u16)?;
                writer.u8(rate)?;
            }
        }
        Ok(())
    }
}

impl Extension<'_> for LayersAllocation {
    const KIND: ExtensionKind = ExtensionKind::LayersAllocation;

    fn parse(data: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(data, "video-layers-allocation");
        let head = reader.u8()?;
        if head == 0 && reader.is_empty() {
            return Ok(Self::default());
        }
        let mut allocation = Self {
            stream: head >> 6,
            streams: (head >> 4 & 3) + 1,
            layers: SmallVec::new(),
        };
        let mut masks = [head & 0x0f; MAX_ALLOCATED_STREAMS];
        if head & 0x0f == 0 {
            masks = [0; MAX_ALLOCATED_STREAMS];
            for pair in 0..usize::from(allocation.streams).div_ceil(2) {
                let bits = reader.u8()?;
                masks[pair * 2] = bits >> 4;
                masks[pair * 2 + 1] = bits & 0x0f;
            }
        }
        for stream in 0..allocation.streams {
            for spatial_id in 0..4 {
                if masks[usize::from(stream)] >> spatial_id & 1 != 0 {
                    allocation.layers.push(SpatialLayerAllocation {
                        stream,
                        spatial_id,
                        ..Default::default()
                    });
                }
            }
        }
        if allocation.layers.is_empty() {
            return Err(Error::Malformed("layers allocation without layers"));
        }
        let mut counts = 0;
        for index in 0..allocation.layers.len() {
            if index.is_multiple_of(4) {
                counts = reader.u8()?;
            }
            let count = usize::from(counts >> (6 - 2 * (index % 4)) & 3) + 1;
            allocation.layers[index].target_kbps.resize(count, 0);
        }
        for target in allocation
            .layers
            .iter_mut()
            .flat_map(|layer| &mut layer.target_kbps)
        {
            *target = leb128(&mut reader)?;
        }
        if !reader.is_empty() {
            for layer in &mut allocation.layers {
                let resolution = Resolution {
                    width: u32::from(reader.u16()?) + 1,
                    height: u32::from(reader.u16()?) + 1,
                };
                layer.picture = Some((resolution, reader.u8()?));
            }
        }
        Ok(allocation)
    }

    fn encoded_len(&self) -> usize {
        if self.layers.is_empty() {
            return 1;
        }
        let masks = match self.shared_bitmask() {
            Some(_) => 0,
            None => usize::from(self.streams.clamp(1, 4)).div_ceil(2),
        };
        let targets: usize = self
            .layers
            .iter()
            .flat_map(|layer| &layer.target_kbps)
            .map(|&target| leb128_len(target))
            .sum();
        let pictures = match self.layers.iter().all(|layer| layer.picture.is_some()) {
            true => self.layers.len() * 5,
            false => 0,
        };
        1 + masks + self.layers.len().div_ceil(4) + targets + pictures
    }

    fn write(&self, slot: &mut [u8]) {
        // The slot has the length that `encoded_len` says.
        let _ = self.write_to(&mut Writer::new(slot));
    }
}
