//! The dependency descriptor: which frames a frame needs, whatever the codec
//! (AV1 RTP specification 1.0, appendix A).

use smallvec::SmallVec;

use super::ExtensionKind;
use crate::bytes::{BitReader, BitWriter};
use crate::{Error, Result};

/// The most decode targets of a structure (five bits on the wire).
pub const MAX_DECODE_TARGETS: usize = 32;
/// The most chains of a structure: one per decode target.
pub const MAX_CHAINS: usize = 32;
/// The most templates of a structure (six bits on the wire).
pub const MAX_TEMPLATES: usize = 64;
/// The most frames that one frame can depend on; a descriptor that lists more is refused.
pub const MAX_FRAME_DIFFS: usize = 16;
/// The most spatial layers of a structure; one with more is refused.
pub const MAX_SPATIAL_LAYERS: u8 = 8;
/// The most temporal layers of a structure; one with more is refused.
pub const MAX_TEMPORAL_LAYERS: u8 = 8;

/// What a frame means for one decode target (section A.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DecodeTargetIndication {
    /// The frame is no part of it.
    #[default]
    NotPresent,
    /// Part of it, and no later frame of the target depends on this one.
    Discardable,
    /// Part of it, and every later frame of the target can be decoded from here on.
    Switch,
    /// Part of it, and later frames depend on this one.
    Required,
}

impl DecodeTargetIndication {
    const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::NotPresent,
            1 => Self::Discardable,
            2 => Self::Switch,
            _ => Self::Required,
        }
    }
}

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Resolution {
    /// Width, 1 to 65536.
    pub width: u32,
    /// Height, 1 to 65536.
    pub height: u32,
}

/// What a frame depends on, and what depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FrameDependencies {
    /// Spatial layer.
    pub spatial_id: u8,
    /// Temporal layer.
    pub temporal_id: u8,
    /// One indication per decode target.
    pub targets: SmallVec<[DecodeTargetIndication; MAX_DECODE_TARGETS]>,
    /// Frame number minus that of each frame this one needs; 1 to 4096 (templates: 1 to 16).
    pub frame_diffs: SmallVec<[u16; MAX_FRAME_DIFFS]>,
    /// Frame number minus that of the frame before it in each chain; 0 none (templates: 0 to 15).
    pub chain_diffs: SmallVec<[u8; MAX_CHAINS]>,
}

/// A frame's dependencies as the structure foresees them.
pub type FrameTemplate = FrameDependencies;

/// The templates of a stream, as a key frame's descriptor announces them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DependencyStructure {
    /// The id of the first template, 0 to 63.
    pub id_offset: u8,
    /// Decode targets, 1 to 32.
    pub decode_targets: u8,
    /// The chain that protects each decode target; empty without chains.
    pub protected_by: SmallVec<[u8; MAX_DECODE_TARGETS]>,
    /// How many chains there are, 0 to 32.
    pub chains: u8,
    /// The templates by spatial, then by temporal layer; 1 to 64.
    pub templates: Vec<FrameTemplate>,
    /// The resolution of each spatial layer; empty if not said.
    pub resolutions: SmallVec<[Resolution; 4]>,
}

impl DependencyStructure {
    /// The template with this id.
    pub fn template(&self, id: u8) -> Option<&FrameTemplate> {
        let index = (id + 64).wrapping_sub(self.id_offset) % 64;
        self.templates.get(usize::from(index))
    }

    /// The highest spatial and temporal layer of a decode target (section A.8.3.6).
    pub fn decode_target_layers(&self, target: u8) -> (u8, u8) {
        let mut layers = (0, 0);
        for template in &self.templates {
            let indication = template.targets.get(usize::from(target));
            if indication.is_some_and(|&it| it != DecodeTargetIndication::NotPresent) {
                layers.0 = layers.0.max(template.spatial_id);
                layers.1 = layers.1.max(template.temporal_id);
            }
        }
        layers
    }

    /// The highest spatial layer.
    pub fn max_spatial_id(&self) -> u8 {
        self.templates
            .iter()
            .map(|template| template.spatial_id)
            .max()
            .unwrap_or(0)
    }

    /// The highest temporal layer.
    pub fn max_temporal_id(&self) -> u8 {
        self.templates
            .iter()
            .map(|template| template.temporal_id)
            .max()
            .unwrap_or(0)
    }

    /// All decode targets active, as a bit mask.
    pub const fn all_targets(&self) -> u32 {
        if self.decode_targets >= 32 {
            u32::MAX
        } else {
            (1 << self.decode_targets) - 1
        }
    }

    fn parse(reader: &mut BitReader<'_>) -> Result<Self> {
        let mut structure = Self {
            id_offset: reader.bits(6)? as u8,
            decode_targets: reader.bits(5)? as u8 + 1,
            ..Self::default()
        };
        structure.parse_layers(reader)?;
        for template in &mut structure.templates {
            for _ in 0..structure.decode_targets {
                let bits = reader.bits(2)?;
                template
                    .targets
                    .push(DecodeTargetIndication::from_bits(bits));
            }
        }
        for template in &mut structure.templates {
            while reader.bit()? {
                if template.frame_diffs.len() == MAX_FRAME_DIFFS {
                    return Err(Error::Limit("frame diffs of a template"));
                }
                template.frame_diffs.push(reader.bits(4)? as u16 + 1);
            }
        }
        let targets = u32::from(structure.decode_targets);
        structure.chains = reader.non_symmetric(targets + 1)? as u8;
        if structure.chains != 0 {
            for _ in 0..targets {
                let chain = reader.non_symmetric(structure.chains.into())?;
                structure.protected_by.push(chain as u8);
            }
            for template in &mut structure.templates {
                for _ in 0..structure.chains {
                    template.chain_diffs.push(reader.bits(4)? as u8);
                }
            }
        }
        if reader.bit()? {
            for _ in 0..=structure.max_spatial_id() {
                structure.resolutions.push(Resolution {
                    width: reader.bits(16)? + 1,
                    height: reader.bits(16)? + 1,
                });
            }
        }
        Ok(structure)
    }

    fn parse_layers(&mut self, reader: &mut BitReader<'_>) -> Result<()> {
        let (mut spatial_id, mut temporal_id) = (0, 0);
        loop {
            if self.templates.len() == MAX_TEMPLATES {
                return Err(Error::Malformed("more than 64 dependency templates"));
            }
            self.templates.push(FrameTemplate {
                spatial_id,
                temporal_id,
                ..FrameTemplate::default()
            });
            match reader.bits(2)? {
                0 => {}
                1 => temporal_id += 1,
                2 => {
                    temporal_id = 0;
                    spatial_id += 1;
                }
                _ => return Ok(()),
            }
            if spatial_id >= MAX_SPATIAL_LAYERS || temporal_id >= MAX_TEMPORAL_LAYERS {
                return Err(Error::Limit("layers of a dependency structure"));
            }
        }
    }

    fn write(&self, writer: &mut BitWriter<'_>) -> Result<()> {
        self.check()?;
        writer.bits(self.id_offset.into(), 6)?;
        writer.bits(u32::from(self.decode_targets) - 1, 5)?;
        for (index, template) in self.templates.iter().enumerate() {
            let next = match self.templates.get(index + 1) {
                None => 3,
                Some(next) if next.spatial_id > template.spatial_id => 2,
                Some(next) if next.temporal_id > template.temporal_id => 1,
                Some(_) => 0,
            };
            writer.bits(next, 2)?;
        }
        for &target in self.templates.iter().flat_map(|template| &template.targets) {
            writer.bits(target as u32, 2)?;
        }
        for template in &self.templates {
            for &diff in &template.frame_diffs {
                writer.bit(true)?;
                writer.bits(u32::from(diff) - 1, 4)?;
            }
            writer.bit(false)?;
        }
        writer.non_symmetric(self.chains.into(), u32::from(self.decode_targets) + 1)?;
        for &chain in &self.protected_by {
            writer.non_symmetric(chain.into(), self.chains.into())?;
        }
        for &diff in self
            .templates
            .iter()
            .flat_map(|template| &template.chain_diffs)
        {
            writer.bits(diff.into(), 4)?;
        }
        writer.bit(!self.resolutions.is_empty())?;
        for resolution in &self.resolutions {
            writer.bits(resolution.width.saturating_sub(1), 16)?;
            writer.bits(resolution.height.saturating_sub(1), 16)?;
        }
        Ok(())
    }

    /// Whether the wire format can carry this structure.
    fn check(&self) -> Result<()> {
        let targets = usize::from(self.decode_targets);
        let chains = usize::from(self.chains);
        let ordered = self.templates.windows(2).all(|pair| {
            let (a, b) = (&pair[0], &pair[1]);
            if a.spatial_id == b.spatial_id {
                b.temporal_id == a.temporal_id || b.temporal_id == a.temporal_id + 1
            } else {
                b.spatial_id == a.spatial_id + 1 && b.temporal_id == 0
            }
        });
        let begins = self
            .templates
            .first()
            .is_some_and(|first| (first.spatial_id, first.temporal_id) == (0, 0));
        let sound = |template: &FrameTemplate| {
            template.targets.len() == targets
                && template.chain_diffs.len() == chains
                && template
                    .frame_diffs
                    .iter()
                    .all(|diff| (1..=16).contains(diff))
                && template.chain_diffs.iter().all(|&diff| diff < 16)
        };
        let protected = match chains {
            0 => self.protected_by.is_empty(),
            _ => {
                self.protected_by.len() == targets
                    && self.protected_by.iter().all(|&chain| chain < self.chains)
            }
        };
        let resolutions =
            [0, usize::from(self.max_spatial_id()) + 1].contains(&self.resolutions.len());
        if self.id_offset < 64
            && (1..=MAX_DECODE_TARGETS).contains(&targets)
            && chains <= targets
            && self.templates.len() <= MAX_TEMPLATES
            && begins
            && ordered
            && protected
            && resolutions
            && self.templates.iter().all(sound)
        {
            Ok(())
        } else {
            Err(Error::NotRepresentable("dependency structure"))
        }
    }
}

/// The part of a dependency descriptor that every packet has: three bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DescriptorHead {
    /// Whether the packet is the first of its frame.
    pub start_of_frame: bool,
    /// Whether the packet is the last of its frame.
    pub end_of_frame: bool,
    /// The template of the frame, 0 to 63.
    pub template_id: u8,
    /// The frame's number, which wraps around.
    pub frame_number: u16,
}

impl DescriptorHead {
    /// Bytes of the head.
    pub const LEN: usize = 3;

    /// Reads the head alone; no structure is needed.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn parse(data: &[u8]) -> Result<Self> {
        match *data {
            [flags, high, low, ..] => Ok(Self {
                start_of_frame: flags & 0x80 != 0,
                end_of_frame: flags & 0x40 != 0,
                template_id: flags & 0x3f,
                frame_number: u16::from_be_bytes([high, low]),
            }),
            _ => Err(Error::Truncated("dependency descriptor")),
        }
    }

    /// Writes the head over the first three bytes of `data`, for forwarding.
    pub fn overwrite(&self, data: &mut [u8]) {
        if let Some(head) = data.first_chunk_mut::<{ Self::LEN }>() {
            let [high, low] = self.frame_number.to_be_bytes();
            let flags = u8::from(self.start_of_frame) << 7 | u8::from(self.end_of_frame) << 6;
            *head = [flags | self.template_id & 0x3f, high, low];
        }
    }
}

/// A packet's dependency descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DependencyDescriptor {
    /// The fields that every packet has.
    pub head: DescriptorHead,
    /// A new structure, with a key frame.
    pub structure: Option<Box<DependencyStructure>>,
    /// The decode targets that are still sent, as a bit mask, if the packet says so.
    pub active_targets: Option<u32>,
    /// What the frame depends on: its template, with what the packet says differently.
    pub dependencies: FrameDependencies,
}

impl DependencyDescriptor {
    /// Which extension it is.
    pub const KIND: ExtensionKind = ExtensionKind::DependencyDescriptor;

    /// Reads a descriptor. `known` is the latest structure of the stream, which a descriptor that
    /// brings its own does not need.
    ///
    /// # Errors
    /// [`Error::NoStructure`] if it needs one that is not known or lacks the template; a typed error
    /// for malformed bytes.
    pub fn parse(data: &[u8], known: Option<&DependencyStructure>) -> Result<Self> {
        let head = DescriptorHead::parse(data)?;
        let mut reader = BitReader::new(&data[DescriptorHead::LEN..], "dependency descriptor");
        let mut flags = 0;
        let mut own = None;
        let mut active_targets = None;
        if reader.left() > 0 {
            flags = reader.bits(5)?;
            if flags & 0x10 != 0 {
                let structure = DependencyStructure::parse(&mut reader)?;
                active_targets = Some(structure.all_targets());
                own = Some(Box::new(structure));
            }
        }
        let structure = own.as_deref().or(known).ok_or(Error::NoStructure)?;
        if flags & 0x08 != 0 {
            active_targets = Some(reader.bits(structure.decode_targets.into())?);
        }
        let template = structure
            .template(head.template_id)
            .ok_or(Error::NoStructure)?;
        let mut dependencies = FrameDependencies {
            spatial_id: template.spatial_id,
            temporal_id: template.temporal_id,
            ..FrameDependencies::default()
        };
        if flags & 0x04 != 0 {
            for _ in 0..structure.decode_targets {
                let bits = reader.bits(2)?;
                dependencies
                    .targets
                    .push(DecodeTargetIndication::from_bits(bits));
            }
        } else {
            dependencies.targets.extend_from_slice(&template.targets);
        }
        if flags & 0x02 != 0 {
            loop {
                let size = reader.bits(2)?;
                if size == 0 {
                    break;
                }
                if dependencies.frame_diffs.len() == MAX_FRAME_DIFFS {
                    return Err(Error::Limit("frame diffs of a frame"));
                }
                let diff = reader.bits(4 * size)? as u16 + 1;
                dependencies.frame_diffs.push(diff);
            }
        } else {
            dependencies
                .frame_diffs
                .extend_from_slice(&template.frame_diffs);
        }
        if flags & 0x01 != 0 {
            for _ in 0..structure.chains {
                dependencies.chain_diffs.push(reader.bits(8)? as u8);
            }
        } else {
            dependencies
                .chain_diffs
                .extend_from_slice(&template.chain_diffs);
        }
        Ok(Self {
            head,
            structure: own,
            active_targets,
            dependencies,
        })
    }

    /// Writes the descriptor and returns its length. `known` is the structure that the receiver has;
    /// a descriptor with a structure of its own does not need it. What equals the template is left to it.
    ///
    /// # Errors
    /// [`Error::NoStructure`], [`Error::NotRepresentable`] or [`Error::BufferTooSmall`].
    pub fn write(&self, known: Option<&DependencyStructure>, out: &mut [u8]) -> Result<usize> {
        let structure = self
            .structure
            .as_deref()
            .or(known)
            .ok_or(Error::NoStructure)?;
        let template = structure
            .template(self.head.template_id)
            .ok_or(Error::NoStructure)?;
        let frame = &self.dependencies;
        if frame.targets.len() != usize::from(structure.decode_targets)
            || frame.chain_diffs.len() != usize::from(structure.chains)
            || frame
                .frame_diffs
                .iter()
                .any(|diff| !(1..=4096).contains(diff))
            || (frame.spatial_id, frame.temporal_id) != (template.spatial_id, template.temporal_id)
        {
            return Err(Error::NotRepresentable("frame dependencies"));
        }
        if out.len() < DescriptorHead::LEN {
            return Err(Error::BufferTooSmall);
        }
        self.head.overwrite(out);
        // A new structure says by itself that all targets are active.
        let active = self
            .active_targets
            .filter(|&active| self.structure.is_none() || active != structure.all_targets());
        let custom_targets = frame.targets != template.targets;
        let custom_diffs = frame.frame_diffs != template.frame_diffs;
        let custom_chains = frame.chain_diffs != template.chain_diffs;
        let flags = u32::from(self.structure.is_some()) << 4
            | u32::from(active.is_some()) << 3
            | u32::from(custom_targets) << 2
            | u32::from(custom_diffs) << 1
            | u32::from(custom_chains);
        if flags == 0 {
            return Ok(DescriptorHead::LEN);
        }
        let mut writer = BitWriter::new(&mut out[DescriptorHead::LEN..]);
        writer.bits(flags, 5)?;
        if let Some(structure) = &self.structure {
            structure.write(&mut writer)?;
        }
        if let Some(active) = active {
            writer.bits(active, structure.decode_targets.into())?;
        }
        if custom_targets {
            for &target in &frame.targets {
                writer.bits(target as u32, 2)?;
            }
        }
        if custom_diffs {
            for &diff in &frame.frame_diffs {
                let size = match diff {
                    0..17 => 1,
                    17..257 => 2,
                    _ => 3,
                };
                writer.bits(size, 2)?;
                writer.bits(u32::from(diff) - 1, 4 * size)?;
            }
            writer.bits(0, 2)?;
        }
        if custom_chains {
            for &diff in &frame.chain_diffs {
                writer.bits(diff.into(), 8)?;
            }
        }
        Ok(DescriptorHead::LEN + writer.len())
    }

    /// Whether the frame begins something that can be decoded without what was before: it brings a
    /// structure and needs no other frame.
    pub fn is_key_frame(&self) -> bool {
        self.structure.is_some() && self.dependencies.frame_diffs.is_empty()
    }

    /// What the frame means for a decode target.
    pub fn target(&self, target: u8) -> DecodeTargetIndication {
        self.dependencies
            .targets
            .get(usize::from(target))
            .copied()
            .unwrap_or_default()
    }
}
