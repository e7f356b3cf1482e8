//! Which packets of which layers a receiver gets.

use visavis_rtp::Result;
use visavis_rtp::extension::{
    DecodeTargetIndication, DependencyDescriptor, DependencyStructure, DescriptorHead,
};
use visavis_rtp::payload::{Codec, PayloadInfo};

/// The most simulcast encodings that one forwarder chooses among.
pub const MAX_ENCODINGS: usize = 4;

/// What a receiver is to get: everything up to these layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerTarget {
    /// The simulcast encoding, below [`MAX_ENCODINGS`].
    pub encoding: u8,
    /// The highest spatial layer within it.
    pub spatial_id: u8,
    /// The highest temporal layer.
    pub temporal_id: u8,
}

/// What a dependency descriptor says about its packet, in the words that payloads of other formats use.
pub fn describe(
    descriptor: &DependencyDescriptor,
    structure: Option<&DependencyStructure>,
) -> PayloadInfo {
    let frame = &descriptor.dependencies;
    let own = descriptor.structure.as_deref().or(structure);
    // What the frame means for the decode targets of its own spatial layer, by temporal layer.
    let switches = |temporal: &dyn Fn(u8) -> bool| {
        own.is_some_and(|structure| {
            (0..structure.decode_targets).any(|target| {
                let (spatial_id, temporal_id) = structure.decode_target_layers(target);
                spatial_id == frame.spatial_id
                    && temporal(temporal_id)
                    && descriptor.target(target) == DecodeTargetIndication::Switch
            })
        })
    };
    let top = own.map_or(0, DependencyStructure::max_temporal_id);
    let switching_point = frame.temporal_id == 0 || switches(&|layer| layer == frame.temporal_id);
    let up_switch = switches(&|layer| layer == top);
    PayloadInfo {
        start_of_frame: descriptor.head.start_of_frame,
        end_of_frame: descriptor.head.end_of_frame,
        keyframe: frame.frame_diffs.is_empty(),
        spatial_id: frame.spatial_id,
        temporal_id: frame.temporal_id,
        switching_point,
        up_switch,
        discardable: frame.targets.iter().all(|target| {
            matches!(
                target,
                DecodeTargetIndication::NotPresent | DecodeTargetIndication::Discardable
            )
        }),
        frame_number: Some(descriptor.head.frame_number),
        ..PayloadInfo::default()
    }
}

/// What forwarding needs to know of a packet: its layers from its dependency descriptor, if it has one,
/// and from its payload what the payload alone says, if that can be read (it may be encrypted end to
/// end). `structure` is the stream's latest, and is replaced where the packet brings another.
///
/// # Errors
/// Without a descriptor, that of a malformed payload.
pub fn inspect(
    codec: Codec,
    payload: &[u8],
    descriptor: Option<&[u8]>,
    structure: &mut Option<Box<DependencyStructure>>,
) -> Result<PayloadInfo> {
    let payload = codec.inspect(payload);
    let Some(data) = descriptor else {
        return payload;
    };
    let Ok(descriptor) = DependencyDescriptor::parse(data, structure.as_deref()) else {
        // The structure that it counts on has not come.
        let head = DescriptorHead::parse(data).ok();
        return Ok(PayloadInfo {
            frame_number: head.map(|head| head.frame_number),
            ..payload?
        });
    };
    let mut info = describe(&descriptor, structure.as_deref());
    if let Ok(payload) = payload {
        info.picture_id = payload.picture_id;
        info.picture_id_bits = payload.picture_id_bits;
        info.tl0_picture_index = payload.tl0_picture_index;
    }
    if descriptor.structure.is_some() {
        *structure = descriptor.structure;
    }
    Ok(info)
}

/// What the selector does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// It is not of the current encoding, or nothing is wanted: as if it had never come.
    Ignore,
    /// It is of the current encoding, and left out.
    LeaveOut,
    /// It goes on; `marker` replaces its marker.
    Take { marker: bool },
    /// It begins the new encoding, and goes on.
    Switch { marker: bool },
}

/// The layers that go through, and those that are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Selector {
    target: Option<LayerTarget>,
    current: Option<LayerTarget>,
    /// Timestamp of the picture whose packets are passing.
    picture: Option<u32>,
    /// Highest sequence number of the current encoding, to tell a new picture from a late packet.
    highest: u64,
}

impl Selector {
    pub(super) fn set_target(&mut self, target: Option<LayerTarget>) {
        self.target = target;
        if target.is_none() {
            self.current = None;
        }
    }

    /// What goes through next begins with a key frame, as after a pause.
    pub(super) const fn begin_anew(&mut self) {
        self.current = None;
    }

    /// Reads what [`select`](Self::select) will touch.
    pub(super) fn warm(&self) {
        std::hint::black_box((self.target, self.current, self.highest));
    }

    pub(super) const fn target(&self) -> Option<LayerTarget> {
        self.target
    }

    pub(super) const fn current(&self) -> Option<LayerTarget> {
        self.current
    }

    /// The encoding that has to send a key frame before the target can be reached.
    pub(super) fn wants_keyframe(&self) -> Option<u8> {
        let target = self.target?;
        match self.current {
            Some(current)
                if current.encoding == target.encoding
                    && current.spatial_id >= target.spatial_id =>
            {
                None
            }
            _ => Some(target.encoding),
        }
    }

    pub(super) fn select(
        &mut self,
        encoding: u8,
        sequence: u64,
        timestamp: u32,
        marker: bool,
        info: &PayloadInfo,
    ) -> Selection {
        let Some(target) = self.target else {
            return Selection::Ignore;
        };
        let mut switched = false;
        let current = match &mut self.current {
            Some(current) if current.encoding == encoding => current,
            current => {
                let begins = info.keyframe && info.start_of_frame && info.spatial_id == 0;
                if target.encoding != encoding || !begins {
                    return Selection::Ignore;
                }
                switched = true;
                self.highest = sequence;
                self.picture = None;
                current.insert(target)
            }
        };
        let newest = sequence >= self.highest;
        self.highest = self.highest.max(sequence);
        let new_picture = newest && self.picture != Some(timestamp);
        if new_picture {
            self.picture = Some(timestamp);
            // Down at once, at the border of pictures; up where the stream allows it.
            current.temporal_id = current.temporal_id.min(target.temporal_id);
            current.spatial_id = current.spatial_id.min(target.spatial_id);
            if info.keyframe && info.start_of_frame && target.encoding == encoding {
                *current = target;
            }
        }
        if info.temporal_id > current.temporal_id
            && info.temporal_id <= target.temporal_id
            && newest
            && info.start_of_frame
            && info.switching_point
        {
            current.temporal_id = info.temporal_id;
        }
        if info.up_switch
            && newest
            && info.start_of_frame
            && info.temporal_id <= current.temporal_id
            && info.spatial_id <= current.spatial_id
        {
            current.temporal_id = target.temporal_id;
        }
        if info.temporal_id > current.temporal_id || info.spatial_id > current.spatial_id {
            return Selection::LeaveOut;
        }
        // The last packet of the highest layer that goes on ends the picture.
        let marker = marker || info.end_of_frame && info.spatial_id == current.spatial_id;
        if switched {
            Selection::Switch { marker }
        } else {
            Selection::Take { marker }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(temporal_id: u8, keyframe: bool, switching_point: bool) -> PayloadInfo {
        PayloadInfo {
            start_of_frame: true,
            keyframe,
            temporal_id,
            switching_point,
            ..PayloadInfo::default()
        }
    }

    fn target(encoding: u8, temporal_id: u8) -> LayerTarget {
        LayerTarget {
            encoding,
            spatial_id: 0,
            temporal_id,
        }
    }

    #[test]
    fn an_encoding_begins_with_its_key_frame() {
        let mut selector = Selector::default();
        let key = info(0, true, true);
        let delta = info(0, false, true);
        assert_eq!(selector.select(0, 1, 1, true, &key), Selection::Ignore);
        selector.set_target(Some(target(1, 0)));
        assert_eq!(selector.wants_keyframe(), Some(1));
        assert_eq!(selector.select(1, 1, 1, true, &delta), Selection::Ignore);
        assert_eq!(selector.select(0, 1, 1, true, &key), Selection::Ignore);
        let marker = true;
        assert_eq!(
            selector.select(1, 2, 2, true, &key),
            Selection::Switch { marker }
        );
        assert_eq!(selector.wants_keyframe(), None);
        // The old encoding goes on until the new one begins.
        selector.set_target(Some(target(0, 0)));
        assert_eq!(selector.wants_keyframe(), Some(0));
        assert_eq!(
            selector.select(1, 3, 3, true, &delta),
            Selection::Take { marker }
        );
        assert_eq!(
            selector.select(0, 9, 3, true, &key),
            Selection::Switch { marker }
        );
        assert_eq!(selector.select(1, 4, 4, true, &delta), Selection::Ignore);
    }

    #[test]
    fn temporal_layers_go_down_at_once_and_up_where_the_stream_allows() {
        let mut selector = Selector::default();
        selector.set_target(Some(target(0, 0)));
        selector.select(0, 1, 1, true, &info(0, true, true));
        let upper = info(1, false, false);
        assert_eq!(selector.select(0, 2, 2, true, &upper), Selection::LeaveOut);
        selector.set_target(Some(target(0, 1)));
        assert_eq!(selector.select(0, 3, 3, true, &upper), Selection::LeaveOut);
        let marker = true;
        let sync = info(1, false, true);
        assert_eq!(
            selector.select(0, 4, 4, true, &sync),
            Selection::Take { marker }
        );
        assert_eq!(
            selector.select(0, 5, 5, true, &upper),
            Selection::Take { marker }
        );
        selector.set_target(Some(target(0, 0)));
        // The picture that is passing ends whole.
        assert_eq!(
            selector.select(0, 6, 5, true, &upper),
            Selection::Take { marker }
        );
        assert_eq!(selector.select(0, 7, 6, true, &upper), Selection::LeaveOut);
    }

    #[test]
    fn the_highest_layer_that_goes_on_ends_the_picture() {
        let mut selector = Selector::default();
        selector.set_target(Some(target(0, 0)));
        let layer = |spatial_id, keyframe| PayloadInfo {
            end_of_frame: true,
            spatial_id,
            ..info(0, keyframe, true)
        };
        let marker = true;
        assert_eq!(
            selector.select(0, 1, 1, false, &layer(0, true)),
            Selection::Switch { marker }
        );
        assert_eq!(
            selector.select(0, 2, 1, true, &layer(1, false)),
            Selection::LeaveOut
        );
        // Up with a key picture alone.
        selector.set_target(Some(LayerTarget {
            spatial_id: 1,
            ..target(0, 0)
        }));
        assert_eq!(selector.wants_keyframe(), Some(0));
        selector.select(0, 3, 2, false, &layer(0, false));
        assert_eq!(
            selector.select(0, 4, 2, true, &layer(1, false)),
            Selection::LeaveOut
        );
        let marker = false;
        assert_eq!(
            selector.select(0, 5, 3, false, &layer(0, true)),
            Selection::Take { marker }
        );
        let marker = true;
        assert_eq!(
            selector.select(0, 6, 3, true, &layer(1, false)),
            Selection::Take { marker }
        );
    }
}
