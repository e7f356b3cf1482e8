//! What the control plane says when it makes things, and what it sees of a negotiation.

use visavis_peer::Kind;

use crate::ids::SubscriptionId;

/// What a new connection is told.
#[derive(Debug, Clone, Default)]
pub struct ConnectionConfig {
    /// An ICE lite agent: it answers checks and sends none (RFC 8445 section 2.5). For peers behind
    /// nothing that a public server could not be reached through.
    pub ice_lite: bool,
    /// This end makes the offers: a subscription adds a section, and asks for an offer by
    /// [`Event::NegotiationNeeded`](crate::Event::NegotiationNeeded). Otherwise subscriptions wait for sections that the peer offers for
    /// receiving ([`Event::NeedSections`](crate::Event::NeedSections)).
    pub offers: bool,
    /// The first offer of this end has a section for data channels, even if none was created.
    pub data_channels: bool,
}

/// What encodings of a published video are of use for: the size of its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSize {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bits per second that the publisher means to send, if known; else 0.
    pub bitrate: u64,
}

/// Where a track's sound or pictures come from; it decides who goes first when bandwidth is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Source {
    /// Not told.
    #[default]
    Unknown,
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A screen, or a window.
    ScreenShare,
    /// What a shared screen sounds like.
    ScreenShareAudio,
}

/// What a published track is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishOptions {
    /// Where it comes from.
    pub source: Source,
    /// Sizes of the layers (simulcast encodings or spatial layers), from low to high; empty if unknown.
    pub layers: Vec<LayerSize>,
    /// Names of the simulcast encodings, from low to high. Empty: `q`, `h`, `f` for rids with these
    /// names, else the order of the description.
    pub rids: Vec<String>,
    /// Whether it begins muted.
    pub muted: bool,
}

/// How a subscription appears in descriptions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscribeOptions {
    /// The id of the stream in `a=msid`.
    pub stream: String,
    /// The id of the track in `a=msid`.
    pub track: String,
    /// What the subscriber wants at first.
    pub wish: Wish,
}

/// What a subscriber wants of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whether it is to be sent at all.
    pub enabled: bool,
    /// The largest width that is of use, in pixels; 0 for any.
    pub max_width: u32,
    /// The largest height that is of use, in pixels; 0 for any.
    pub max_height: u32,
    /// The most pictures per second that are of use; 0 for any.
    pub max_fps: u32,
    /// The highest layer of use, 0 the lowest; see [`Wish::ANY_QUALITY`].
    pub max_quality: u8,
    /// Weight beside other subscriptions of the connection when bandwidth is short; 0 for the usual.
    /// Higher goes first.
    pub priority: u32,
    /// Whether the subscriber looks at it before all others (pinned, or the active speaker).
    pub pinned: bool,
}

impl Wish {
    /// Any layer.
    pub const ANY_QUALITY: u8 = u8::MAX;
}

impl Default for Wish {
    /// Enabled, and without bounds.
    fn default() -> Self {
        Self {
            enabled: true,
            max_width: 0,
            max_height: 0,
            max_fps: 0,
            max_quality: Self::ANY_QUALITY,
            priority: 0,
            pinned: false,
        }
    }
}

/// One media section of a connection, as negotiation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub mid: String,
    /// Sound or pictures.
    pub kind: Kind,
    /// Whether the peer offers or has agreed to send on it.
    pub receives: bool,
    /// Whether the peer offers or has agreed to receive on it.
    pub sends: bool,
    /// The stream that the peer says its track belongs to; empty if it says none.
    pub stream: String,
    /// The track's id in the peer's `a=msid`; empty if it says none.
    pub track: String,
    /// What is sent on it.
    pub subscription: Option<SubscriptionId>,
    /// Whether the peer would receive on it, and nothing is sent: [`Sfu::subscribe`](crate::Sfu::subscribe)
    /// takes such a section first.
    pub free: bool,
    /// The codecs that were agreed on, or that the peer offers, best first (`opus`, `VP8` …).
    pub codecs: Vec<String>,
    /// Names of the simulcast encodings that the peer may send.
    pub rids: Vec<String>,
}
