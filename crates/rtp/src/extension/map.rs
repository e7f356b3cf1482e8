//! Which header extension stands under which id, as SDP's `a=extmap` negotiated it.

use crate::{Error, Result};

/// A header extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExtensionKind {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    RepairedRid,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464)
    AudioLevel,
    /// `urn:ietf:params:rtp-hdrext:csrc-audio-level` (RFC 6465)
    MixerAudioLevels,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    AbsSendTime,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    TransportSequence,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/transport-wide-cc-02`
    TransportSequenceRequest,
    /// `urn:ietf:params:rtp-hdrext:toffset` (RFC 5450)
    TimeOffset,
    /// `urn:3gpp:video-orientation` (3GPP TS 26.114 section 7.4.5)
    VideoOrientation,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    PlayoutDelay,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-content-type`
    ContentType,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-timing`
    VideoTiming,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/color-space`
    ColorSpace,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    AbsCaptureTime,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`
    DependencyDescriptor,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/generic-frame-descriptor-00`: passed on, never read
    GenericFrameDescriptor,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00`
    LayersAllocation,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-frame-tracking-id`
    FrameTrackingId,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/corruption-detection`
    CorruptionDetection,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/inband-cn`
    InbandComfortNoise,
    /// `urn:ietf:params:rtp-hdrext:framemarking` (RFC 9626): passed on, never read
    FrameMarking,
    /// One of the application's own, as [`ExtensionRegistry::register`] numbered it.
    Custom(u8),
}

/// The extensions that this crate knows, and their URIs.
const KNOWN: &[(ExtensionKind, &str)] = &[
    (ExtensionKind::Mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (
        ExtensionKind::Rid,
        "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    ),
    (
        ExtensionKind::RepairedRid,
        "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    ),
    (
        ExtensionKind::AudioLevel,
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    ),
    (
        ExtensionKind::MixerAudioLevels,
        "urn:ietf:params:rtp-hdrext:csrc-audio-level",
    ),
    (
        ExtensionKind::AbsSendTime,
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    ),
    (
        ExtensionKind::TransportSequence,
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    ),
    (
        ExtensionKind::TransportSequenceRequest,
        "http://www.webrtc.org/experiments/rtp-hdrext/transport-wide-cc-02",
    ),
    (
        ExtensionKind::TimeOffset,
        "urn:ietf:params:rtp-hdrext:toffset",
    ),
    (
        ExtensionKind::VideoOrientation,
        "urn:3gpp:video-orientation",
    ),
    (
        ExtensionKind::PlayoutDelay,
        "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    ),
    (
        ExtensionKind::ContentType,
        "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type",
    ),
    (
        ExtensionKind::VideoTiming,
        "http://www.webrtc.org/experiments/rtp-hdrext/video-timing",
    ),
    (
        ExtensionKind::ColorSpace,
        "http://www.webrtc.org/experiments/rtp-hdrext/color-space",
    ),
    (
        ExtensionKind::AbsCaptureTime,
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    ),
    (
        ExtensionKind::DependencyDescriptor,
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ),
    (
        ExtensionKind::GenericFrameDescriptor,
        "http://www.webrtc.org/experiments/rtp-hdrext/generic-frame-descriptor-00",
    ),
    (
        ExtensionKind::LayersAllocation,
        "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
    ),
    (
        ExtensionKind::FrameTrackingId,
        "http://www.webrtc.org/experiments/rtp-hdrext/video-frame-tracking-id",
    ),
    (
        ExtensionKind::CorruptionDetection,
        "http://www.webrtc.org/experiments/rtp-hdrext/corruption-detection",
    ),
    (
        ExtensionKind::InbandComfortNoise,
        "http://www.webrtc.org/experiments/rtp-hdrext/inband-cn",
    ),
    (
        ExtensionKind::FrameMarking,
        "urn:ietf:params:rtp-hdrext:framemarking",
    ),
];

impl ExtensionKind {
    /// The extensions that this crate knows.
    pub fn known() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|&(kind, _)| kind)
    }

    /// The extension's URI; `None` for one of the application's own (ask the [`ExtensionRegistry`]).
    pub fn uri(self) -> Option<&'static str> {
        KNOWN
            .iter()
            .find(|&&(kind, _)| kind == self)
            .map(|&(_, uri)| uri)
    }

    /// The extension with this URI, if this crate knows it.
    pub fn from_uri(uri: &str) -> Option<Self> {
        KNOWN
            .iter()
            .find(|&&(_, known)| known == uri)
            .map(|&(kind, _)| kind)
    }

    /// Its place in [`KNOWN`], or behind it. Written out because it is asked for with every packet.
    const fn index(self) -> usize {
        match self {
            Self::Mid => 0,
            Self::Rid => 1,
            Self::RepairedRid => 2,
            Self::AudioLevel => 3,
            Self::MixerAudioLevels => 4,
            Self::AbsSendTime => 5,
            Self::TransportSequence => 6,
            Self::TransportSequenceRequest => 7,
            Self::TimeOffset => 8,
            Self::VideoOrientation => 9,
            Self::PlayoutDelay => 10,
            Self::ContentType => 11,
            Self::VideoTiming => 12,
            Self::ColorSpace => 13,
            Self::AbsCaptureTime => 14,
            Self::DependencyDescriptor => 15,
            Self::GenericFrameDescriptor => 16,
            Self::LayersAllocation => 17,
            Self::FrameTrackingId => 18,
            Self::CorruptionDetection => 19,
            Self::InbandComfortNoise => 20,
            Self::FrameMarking => 21,
            Self::Custom(number) => KNOWN.len() + number as usize,
        }
    }

    fn from_index(index: usize) -> Self {
        match KNOWN.get(index) {
            Some(&(kind, _)) => kind,
            None => Self::Custom((index - KNOWN.len()) as u8),
        }
    }
}

/// The application's own header extensions.
///
/// ```
/// use visavis_rtp::{ExtensionMap, ExtensionRegistry};
///
/// let mut registry = ExtensionRegistry::default();
/// let battery = registry.register("https://example.org/battery-level").unwrap();
/// let mut map = ExtensionMap::new();
/// map.insert(5, registry.kind("https://example.org/battery-level").unwrap()).unwrap();
/// assert_eq!(map.id(battery), Some(5));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionRegistry {
    own: Vec<String>,
}

impl ExtensionRegistry {
    /// The most extensions that an application can register.
    pub const MAX: usize = 64;

    /// Gives an extension a kind. A URI that is known already keeps its kind.
    ///
    /// # Errors
    /// [`Error::Limit`] beyond [`Self::MAX`].
    pub fn register(&mut self, uri: &str) -> Result<ExtensionKind> {
        if let Some(kind) = self.kind(uri) {
            return Ok(kind);
        }
        if self.own.len() == Self::MAX {
            return Err(Error::Limit("registered header extensions"));
        }
        self.own.push(uri.to_owned());
        Ok(ExtensionKind::Custom((self.own.len() - 1) as u8))
    }

    /// The extension with this URI, this crate's or the application's.
    pub fn kind(&self, uri: &str) -> Option<ExtensionKind> {
        ExtensionKind::from_uri(uri).or_else(|| {
            self.own
                .iter()
                .position(|own| own == uri)
                .map(|number| ExtensionKind::Custom(number as u8))
        })
    }

    /// The URI of an extension.
    pub fn uri(&self, kind: ExtensionKind) -> Option<&str> {
        match kind {
            ExtensionKind::Custom(number) => self.own.get(usize::from(number)).map(String::as_str),
            known => known.uri(),
        }
    }
}

const KINDS: usize = KNOWN.len() + ExtensionRegistry::MAX;
/// Stands for "none" in both tables.
const NONE: u8 = 0;

/// Ids and extensions of one RTP session, both ways in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct ExtensionMap {
    /// Id of each kind.
    ids: [u8; KINDS],
    /// Kind's index plus one of each id.
    kinds: [u8; 256],
}

impl ExtensionMap {
    /// A map without entries.
    pub const fn new() -> Self {
        Self {
            ids: [NONE; KINDS],
            kinds: [NONE; 256],
        }
    }

    /// Puts an extension under an id, and takes both out of whatever they were in.
    ///
    /// # Errors
    /// [`Error::NotRepresentable`] for id 0 (padding), 15 (reserved), or a kind that no registry gave.
    pub fn insert(&mut self, id: u8, kind: ExtensionKind) -> Result<()> {
        let index = kind.index();
        if id == 0 || id == 15 || index >= KINDS {
            return Err(Error::NotRepresentable("header extension id"));
        }
        self.remove(kind);
        if let Some(before) = self.kind(id) {
            self.remove(before);
        }
        self.ids[index] = id;
        self.kinds[usize::from(id)] = index as u8 + 1;
        Ok(())
    }

    /// Takes an extension out.
    pub fn remove(&mut self, kind: ExtensionKind) {
        let index = kind.index();
        if let Some(id) = self.ids.get_mut(index) {
            self.kinds[usize::from(*id)] = NONE;
            *id = NONE;
        }
    }

    /// The id of an extension, 1 to 255.
    pub fn id(&self, kind: ExtensionKind) -> Option<u8> {
        self.ids.get(kind.index()).copied().filter(|&id| id != NONE)
    }

    /// The extension under an id.
    pub fn kind(&self, id: u8) -> Option<ExtensionKind> {
        match self.kinds[usize::from(id)] {
            NONE => None,
            index => Some(ExtensionKind::from_index(usize::from(index) - 1)),
        }
    }

    /// All entries, by id.
    pub fn iter(&self) -> impl Iterator<Item = (u8, ExtensionKind)> + '_ {
        (1..=255).filter_map(|id| Some((id, self.kind(id)?)))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl Default for ExtensionMap {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for ExtensionMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<(u8, ExtensionKind)> for ExtensionMap {
    /// Entries that [`ExtensionMap::insert`] refuses are left out.
    fn from_iter<I: IntoIterator<Item = (u8, ExtensionKind)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (id, kind) in entries {
            let _ = map.insert(id, kind);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_or_a_kind_stands_in_one_entry_only() {
        let mut map = ExtensionMap::new();
        map.insert(3, ExtensionKind::Mid).unwrap();
        map.insert(3, ExtensionKind::Rid).unwrap();
        assert_eq!(map.id(ExtensionKind::Mid), None);
        map.insert(200, ExtensionKind::Rid).unwrap();
        assert_eq!(map.kind(3), None);
        assert_eq!(map.kind(200), Some(ExtensionKind::Rid));
        assert!(map.insert(15, ExtensionKind::Mid).is_err());
        assert!(map.insert(0, ExtensionKind::Mid).is_err());
    }

    #[test]
    fn every_known_uri_is_found_again() {
        for kind in ExtensionKind::known() {
            assert_eq!(ExtensionKind::from_uri(kind.uri().unwrap()), Some(kind));
            assert_eq!(ExtensionKind::from_index(kind.index()), kind);
        }
    }

    #[test]
    fn the_registry_is_bounded() {
        let mut registry = ExtensionRegistry::default();
        for number in 0..ExtensionRegistry::MAX {
            registry.register(&format!("urn:own:{number}")).unwrap();
        }
        assert!(registry.register("urn:own:more").is_err());
        let last = registry.kind("urn:own:63").unwrap();
        let mut map = ExtensionMap::new();
        map.insert(9, last).unwrap();
        assert_eq!(map.kind(9), Some(last));
        assert!(map.insert(9, ExtensionKind::Custom(64)).is_err());
    }
}
