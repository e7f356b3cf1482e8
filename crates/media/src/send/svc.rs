//! Scalability modes (W3C webrtc-svc) as dependency descriptors: which frame of which layer depends on
//! which.

use visavis_rtp::extension::{
    DecodeTargetIndication, DependencyDescriptor, DependencyStructure, DescriptorHead,
    FrameDependencies, FrameTemplate, Resolution,
};

/// How a stream is layered: spatial layers, temporal layers, and whether spatial layers depend on each
/// other in key pictures alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScalabilityMode {
    /// Spatial layers, 1 to 3.
    pub spatial_layers: u8,
    /// Temporal layers, 1 to 3.
    pub temporal_layers: u8,
    /// Spatial layers depend on each other in key pictures alone (`_KEY`).
    pub key_only: bool,
}

impl ScalabilityMode {
    /// The mode of a W3C name such as `L1T3` or `L3T3_KEY`; `None` for one that is not known here.
    pub fn from_name(name: &str) -> Option<Self> {
        let (name, key_only) = match name.strip_suffix("_KEY") {
            Some(name) => (name, true),
            None => (name, false),
        };
        let &[b'L', spatial @ b'1'..=b'3', b'T', temporal @ b'1'..=b'3'] = name.as_bytes() else {
            return None;
        };
        Some(Self {
            spatial_layers: spatial - b'0',
            temporal_layers: temporal - b'0',
            key_only,
        })
        .filter(|mode| !mode.key_only || mode.spatial_layers > 1)
    }

    /// The temporal layer of each picture of a period: 0; 0, 1; or 0, 2, 1, 2.
    fn period(self) -> &'static [u8] {
        match self.temporal_layers {
            1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        }
    }

    fn decode_target(self, spatial: u8, temporal: u8) -> u8 {
        spatial * self.temporal_layers + temporal
    }
}

/// Describes the frames of a stream that an encoder makes in a [`ScalabilityMode`]: pictures in the
/// usual order (0; 0 1; 0 2 1 2), each with all its spatial layers, lowest first.
#[derive(Debug, Clone)]
pub struct SvcDescriptor {
    mode: ScalabilityMode,
    structure: DependencyStructure,
    resolutions: Vec<Resolution>,
    /// Number of the frame that comes next.
    next: u16,
    /// Pictures since the last key picture.
    picture: u64,
    /// Latest frame of each spatial and temporal layer, since the key picture.
    latest: [[Option<u16>; 3]; 3],
    /// The latest frame of each chain.
    chains: [Option<u16>; 3],
}

impl SvcDescriptor {
    /// For a stream with these resolutions per spatial layer; none to leave them out.
    pub fn new(mode: ScalabilityMode, resolutions: &[Resolution]) -> Self {
        let mut descriptor = Self {
            mode,
            structure: DependencyStructure::default(),
            resolutions: resolutions.to_vec(),
            next: 0,
            picture: 0,
            latest: [[None; 3]; 3],
            chains: [None; 3],
        };
        descriptor.structure = descriptor.build();
        descriptor
    }

    /// The structure, which key frames announce.
    pub const fn structure(&self) -> &DependencyStructure {
        &self.structure
    }

    /// The temporal layer of the picture that comes next, unless it is a key picture (then 0).
    pub fn next_temporal_id(&self) -> u8 {
        let period = self.mode.period();
        period[(self.picture % period.len() as u64) as usize]
    }

    /// The descriptor of the next frame: of the lowest spatial layer with `keyframe`, a key picture
    /// begins. `spatial_id` goes from 0 up within a picture.
    pub fn next_frame(&mut self, keyframe: bool, spatial_id: u8) -> DependencyDescriptor {
        let top = self.mode.spatial_layers - 1;
        let spatial_id = spatial_id.min(top);
        if keyframe && spatial_id == 0 {
            self.picture = 0;
            self.latest = [[None; 3]; 3];
            self.chains = [None; 3];
        }
        let key_picture = self.picture == 0;
        let temporal_id = self.next_temporal_id();
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let back = |to: u16| number.wrapping_sub(to);

        let mut frame = FrameDependencies {
            spatial_id,
            temporal_id,
            targets: self.targets(spatial_id, temporal_id, key_picture),
            ..FrameDependencies::default()
        };
        // The latest frame of the layers up to this one, of the same spatial layer; for the second
        // picture of the top layer that is the middle one (0 2 1 2).
        let spatial = usize::from(spatial_id);
        if !key_picture {
            let reference = (0..=temporal_id)
                .filter(|&layer| layer < temporal_id || layer == 0)
                .filter_map(|layer| self.latest[spatial][usize::from(layer)])
                .min_by_key(|&earlier| back(earlier));
            frame.frame_diffs.extend(reference.map(back));
        }
        if spatial_id > 0 && (key_picture || !self.mode.key_only) {
            // The layer below was the frame before.
            frame.frame_diffs.push(1);
        }
        for chain in 0..usize::from(self.mode.spatial_layers) {
            let diff = self.chains[chain].map_or(0, back);
            frame.chain_diffs.push(diff.min(255) as u8);
        }
        // A chain holds what its decode targets cannot do without: the base temporal layer, and of
        // lower spatial layers what the higher ones need.
        if temporal_id == 0 {
            for chain in spatial..usize::from(self.mode.spatial_layers) {
                let needed = chain == spatial || key_picture || !self.mode.key_only;
                if needed {
                    self.chains[chain] = Some(number);
                }
            }
        }
        self.latest[spatial][usize::from(temporal_id)] = Some(number);
        if spatial_id == top {
            self.picture += 1;
        }
        let template = self.nearest_template(&frame);
        DependencyDescriptor {
            head: DescriptorHead {
                start_of_frame: true,
                end_of_frame: true,
                template_id: template,
                frame_number: number,
            },
            structure: (key_picture && spatial_id == 0).then(|| Box::new(self.structure.clone())),
            active_targets: (key_picture && spatial_id == 0).then(|| self.structure.all_targets()),
            dependencies: frame,
        }
    }

    /// What a frame means for each decode target.
    fn targets(
        &self,
        spatial_id: u8,
        temporal_id: u8,
        key_picture: bool,
    ) -> smallvec::SmallVec<[DecodeTargetIndication; 32]> {
        use DecodeTargetIndication::{Discardable, NotPresent, Required, Switch};
        let mode = self.mode;
        let mut targets = smallvec::SmallVec::new();
        for spatial in 0..mode.spatial_layers {
            for temporal in 0..mode.temporal_layers {
                let above =
                    spatial < spatial_id || spatial > spatial_id && mode.key_only && !key_picture;
                targets.push(if temporal < temporal_id || above {
                    NotPresent
                } else if spatial == spatial_id && temporal == temporal_id && temporal > 0 {
                    Discardable
                } else if spatial == spatial_id || temporal_id == 0 && key_picture {
                    Switch
                } else {
                    Required
                });
            }
        }
        targets
    }

    /// The template of the same layers that is most like the frame.
    fn nearest_template(&self, frame: &FrameDependencies) -> u8 {
        let score = |template: &&FrameTemplate| {
            u8::from(template.targets != frame.targets) * 4
                + u8::from(template.frame_diffs != frame.frame_diffs) * 2
                + u8::from(template.chain_diffs != frame.chain_diffs)
        };
        let best = self
            .structure
            .templates
            .iter()
            .enumerate()
            .filter(|(_, template)| {
                (template.spatial_id, template.temporal_id) == (frame.spatial_id, frame.temporal_id)
            })
            .min_by_key(|(_, template)| score(template));
        best.map_or(0, |(index, _)| index as u8)
    }

    /// Runs the first pictures through the mode, and collects what occurs as templates.
    fn build(&self) -> DependencyStructure {
        let mode = self.mode;
        let mut run = self.clone();
        let targets = mode.spatial_layers * mode.temporal_layers;
        let mut templates: Vec<FrameTemplate> = Vec::new();
        // A key picture and two periods show everything that recurs.
        for picture in 0..=2 * mode.period().len() {
            for spatial_id in 0..mode.spatial_layers {
                // Without templates yet, the id is 0: only the dependencies count here.
                let mut frame = run.next_frame(picture == 0, spatial_id).dependencies;
                let fits = frame.frame_diffs.iter().all(|&diff| diff <= 16)
                    && frame.chain_diffs.iter().all(|&diff| diff <= 15);
                if !fits {
                    frame
                        .chain_diffs
                        .iter_mut()
                        .for_each(|diff| *diff = (*diff).min(15));
                    frame
                        .frame_diffs
                        .iter_mut()
                        .for_each(|diff| *diff = (*diff).min(16));
                }
                if !templates.contains(&frame) {
                    templates.push(frame);
                }
            }
        }
        templates.sort_by_key(|template| (template.spatial_id, template.temporal_id));
        let protected_by = (0..mode.spatial_layers)
            .flat_map(|spatial| std::iter::repeat_n(spatial, mode.temporal_layers.into()))
            .collect();
        let resolutions = match self.resolutions.len() == usize::from(mode.spatial_layers) {
            true => self.resolutions.iter().copied().collect(),
            false => Default::default(),
        };
        DependencyStructure {
            id_offset: 0,
            decode_targets: targets,
            protected_by,
            chains: mode.spatial_layers,
            templates,
            resolutions,
        }
    }

    /// The decode target of a spatial and temporal layer.
    pub fn decode_target(&self, spatial_id: u8, temporal_id: u8) -> u8 {
        self.mode.decode_target(spatial_id, temporal_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every mode: descriptors can be written and read, references exist and lie in layers that each
    /// decode target has, and chains lead back without a gap.
    #[test]
    fn every_mode_describes_frames_that_can_be_decoded() {
        for name in [
            "L1T1", "L1T2", "L1T3", "L2T1", "L2T2", "L2T3", "L3T1", "L3T2", "L3T3", "L2T1_KEY",
            "L2T2_KEY", "L2T3_KEY", "L3T1_KEY", "L3T2_KEY", "L3T3_KEY",
        ] {
            let mode = ScalabilityMode::from_name(name).unwrap();
            let mut svc = SvcDescriptor::new(mode, &[]);
            let mut known = None;
            let mut frames: Vec<FrameDependencies> = Vec::new();
            for picture in 0..20 {
                for spatial_id in 0..mode.spatial_layers {
                    let descriptor = svc.next_frame(picture == 0, spatial_id);
                    let mut bytes = [0; 500];
                    let len = descriptor
                        .write(known.as_ref(), &mut bytes)
                        .unwrap_or_else(|error| panic!("{name}: {error}: {descriptor:?}"));
                    let parsed =
                        DependencyDescriptor::parse(&bytes[..len], known.as_ref()).unwrap();
                    assert_eq!(parsed, descriptor, "{name}");
                    if let Some(structure) = parsed.structure {
                        known = Some(*structure);
                    }
                    frames.push(descriptor.dependencies);
                }
            }
            let structure = known.unwrap();
            for target in 0..usize::from(structure.decode_targets) {
                let layers = structure.decode_target_layers(target as u8);
                let temporal = usize::from(mode.temporal_layers);
                assert_eq!(
                    (usize::from(layers.0), usize::from(layers.1)),
                    (target / temporal, target % temporal),
                    "{name}"
                );
                for (number, frame) in frames.iter().enumerate() {
                    if frame.targets[target] == DecodeTargetIndication::NotPresent {
                        continue;
                    }
                    for &diff in &frame.frame_diffs {
                        let reference = &frames[number - usize::from(diff)];
                        assert_ne!(
                            reference.targets[target],
                            DecodeTargetIndication::NotPresent,
                            "{name}: frame {number} needs one that target {target} lacks"
                        );
                        assert_ne!(
                            reference.targets[target],
                            DecodeTargetIndication::Discardable,
                            "{name}: frame {number} needs a discardable one in target {target}"
                        );
                    }
                }
            }
        }
        assert_eq!(ScalabilityMode::from_name("L4T1"), None);
        assert_eq!(ScalabilityMode::from_name("L1T3_KEY"), None);
        assert_eq!(ScalabilityMode::from_name("S3T3"), None);
    }

    #[test]
    fn temporal_layers_refer_as_the_usual_pattern_does() {
        let mode = ScalabilityMode::from_name("L1T3").unwrap();
        let mut svc = SvcDescriptor::new(mode, &[]);
        let diffs: Vec<(u8, Vec<u16>)> = (0..9)
            .map(|picture| {
                let frame = svc.next_frame(picture == 0, 0).dependencies;
                (frame.temporal_id, frame.frame_diffs.to_vec())
            })
            .collect();
        let expected: [(u8, &[u16]); 9] = [
            (0, &[]),
            (2, &[1]),
            (1, &[2]),
            (2, &[1]),
            (0, &[4]),
            (2, &[1]),
            (1, &[2]),
            (2, &[1]),
            (0, &[4]),
        ];
        for ((temporal, diffs), expected) in diffs.iter().zip(expected) {
            assert_eq!((*temporal, &diffs[..]), expected);
        }
    }
}
