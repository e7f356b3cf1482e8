//! RTP header extensions: elements with one- and two-byte headers (RFC 8285), which id means what,
//! and the values of each extension that browsers speak.

mod dependency;
mod elements;
mod layers;
mod map;
mod media;
mod timing;

pub use dependency::{
    DecodeTargetIndication, DependencyDescriptor, DependencyStructure, DescriptorHead,
    FrameDependencies, FrameTemplate, MAX_CHAINS, MAX_DECODE_TARGETS, MAX_FRAME_DIFFS,
    MAX_SPATIAL_LAYERS, MAX_TEMPLATES, MAX_TEMPORAL_LAYERS, Resolution,
};
pub(crate) use elements::write_element;
pub use elements::{ExtensionEdit, Extensions, ExtensionsIter, ExtensionsMut, Form};
pub use layers::{LayersAllocation, MAX_ALLOCATED_STREAMS, SpatialLayerAllocation};
pub use map::{ExtensionKind, ExtensionMap, ExtensionRegistry};
pub use media::{
    AudioLevel, ChromaSiting, ColorSpace, ContentType, CorruptionDetection, CorruptionSamples,
    FrameTrackingId, HdrMetadata, InbandComfortNoise, MixerAudioLevels, VideoOrientation,
    VideoRotation,
};
pub use timing::{
    AbsCaptureTime, AbsSendTime, FeedbackRequest, PlayoutDelay, TimeOffset, TransportSequence,
    TransportSequenceRequest, VideoTiming,
};

use crate::{Mid, Result, Rid};

/// A value that a header extension element carries.
pub trait Extension<'a>: Sized {
    /// Which extension it is.
    const KIND: ExtensionKind;

    /// Reads the element's data.
    ///
    /// # Errors
    /// A typed error for bytes that are no such value.
    fn parse(data: &'a [u8]) -> Result<Self>;

    /// Bytes that [`write`](Self::write) fills.
    fn encoded_len(&self) -> usize;

    /// Writes the data into `slot`, which has [`encoded_len`](Self::encoded_len) bytes.
    fn write(&self, slot: &mut [u8]);
}

macro_rules! text_extension {
    ($type:ident, $inner:ident, $kind:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $type(pub $inner);

        impl<'a> Extension<'a> for $type {
            const KIND: ExtensionKind = ExtensionKind::$kind;

            fn parse(data: &'a [u8]) -> Result<Self> {
                // Senders may pad SDES text with zeros (RFC 7941 section 4.1.1 speaks of none,
                // libwebrtc strips them).
                let end = data
                    .iter()
                    .position(|&byte| byte == 0)
                    .unwrap_or(data.len());
                $inner::new(&data[..end])
                    .map(Self)
                    .ok_or(crate::Error::Malformed(concat!(
                        stringify!($type),
                        " extension"
                    )))
            }

            fn encoded_len(&self) -> usize {
                self.0.as_bytes().len()
            }

            fn write(&self, slot: &mut [u8]) {
                slot.copy_from_slice(self.0.as_bytes());
            }
        }
    };
}

text_extension!(
    MidExtension,
    Mid,
    Mid,
    "The media section that a packet belongs to (RFC 9143 section 15.2)."
);
text_extension!(
    RidExtension,
    Rid,
    Rid,
    "The RTP stream that a packet belongs to (RFC 8852 section 3.1)."
);
text_extension!(
    RepairedRidExtension,
    Rid,
    RepairedRid,
    "The RTP stream that a packet of redundancy repairs (RFC 8852 section 3.2)."
);
