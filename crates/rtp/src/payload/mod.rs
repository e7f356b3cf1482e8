//! Payload formats: how an encoded frame becomes RTP payloads, and back. One file per format.
//!
//! A [`Packetizer`] cuts one frame at a time; a [`Depacketizer`] takes packets in the order of their
//! sequence numbers and gives whole frames or nothing. [`Codec::inspect`] reads from a payload what
//! forwarding needs, without depacketizing.

mod assembly;
mod split;

pub mod av1;
pub mod av1_sequence;
pub mod comfort_noise;
pub mod fec;
pub mod flexfec;
pub mod g711;
pub mod g722;
pub mod h264;
pub mod h264_parameters;
pub mod h265;
pub mod h265_parameters;
pub mod nal;
mod nal_payload;
pub mod opus;
pub mod red;
pub mod rtx;
pub mod telephone_event;
pub mod ulpfec;
pub mod vp8;
pub mod vp9;

pub use assembly::DEFAULT_MAX_FRAME;

use crate::{Error, Result};

/// Bits of a sample, from a bit_depth_luma_minus8 or bit_depth_chroma_minus8 of H.264 or H.265.
fn bit_depth(minus8: u32) -> Result<u8> {
    match minus8 {
        0..=8 => Ok(minus8 as u8 + 8),
        _ => Err(Error::Malformed("bit depth")),
    }
}

/// What an encoder says about a frame that is to be packetized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameParams {
    /// Whether the frame needs no other.
    pub keyframe: bool,
    /// Spatial layer; 0 without layers.
    pub spatial_id: u8,
    /// Temporal layer; `None` if the stream has none.
    pub temporal_id: Option<u8>,
    /// Whether the frame lets a receiver move up to its temporal layer: it depends on lower layers alone.
    pub switching_point: bool,
    /// Whether no other frame depends on this one.
    pub discardable: bool,
    /// Whether this is the last frame (spatial layer) of its picture: it gets the marker.
    pub end_of_picture: bool,
}

impl FrameParams {
    /// A frame of a stream without layers.
    pub const fn plain(keyframe: bool) -> Self {
        Self {
            keyframe,
            spatial_id: 0,
            temporal_id: None,
            switching_point: false,
            discardable: false,
            end_of_picture: true,
        }
    }
}

/// One payload that a packetizer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Its length in bytes.
    pub len: usize,
    /// Whether it is the first of its frame.
    pub start_of_frame: bool,
    /// Whether it is the last of its frame.
    pub end_of_frame: bool,
    /// The marker bit of its packet.
    pub marker: bool,
}

/// Cuts frames into payloads.
///
/// ```
/// use visavis_rtp::payload::{Codec, FrameParams};
///
/// let mut packetizer = Codec::Vp8.packetizer().unwrap();
/// let frame = vec![0x10; 3000];
/// packetizer.start(&frame, &FrameParams::plain(true), 1200).unwrap();
/// let mut payload = [0; 1200];
/// let mut count = 0;
/// while let Some(fragment) = packetizer.next_payload(&frame, &mut payload).unwrap() {
///     count += 1;
///     assert_eq!(fragment.marker, count == 3);
/// }
/// assert_eq!(count, 3);
/// ```
pub trait Packetizer {
    /// Begins a frame, whose payloads shall have up to `max_payload` bytes. What is left of the frame
    /// before is forgotten.
    ///
    /// # Errors
    /// A typed error for a frame that the format cannot carry: nothing is to be sent of it.
    fn start(&mut self, frame: &[u8], params: &FrameParams, max_payload: usize) -> Result<()>;

    /// Writes the next payload of the frame that [`start`](Self::start) saw; `None` after the last.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] if `out` is shorter than the payload: the call can be repeated.
    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>>;
}

/// A packet as a depacketizer takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received<'a> {
    /// The sequence number, extended so that it does not wrap ([`crate::SequenceExtender`]).
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// Whether the packet is known to be the first of its picture, e.g. from a dependency descriptor.
    /// `false` if nothing is known: formats that do not say it themselves then lose a frame after a
    /// loss that could have been kept.
    pub begins_picture: bool,
    /// The payload.
    pub payload: &'a [u8],
}

/// A whole frame; for a layered stream, all layers of a picture that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The encoded frame as a decoder wants it (H.264 and H.265: Annex B; AV1: OBUs with sizes).
    pub data: &'a [u8],
    /// The RTP timestamp.
    pub timestamp: u32,
    /// Whether it needs no other frame.
    pub keyframe: bool,
    /// Its temporal layer.
    pub temporal_id: u8,
    /// Its highest spatial layer.
    pub spatial_id: u8,
    /// Extended sequence number of its first packet.
    pub first: u64,
    /// Extended sequence number of its last packet.
    pub last: u64,
}

/// Puts frames together again.
pub trait Depacketizer {
    /// Takes the next packet, and gives the frame that it completes. Packets come in the order of
    /// their sequence numbers; one that is late or double is ignored, and a gap drops the frame that
    /// it falls into. What is given is never torn.
    ///
    /// # Errors
    /// A typed error for a payload that its format forbids, or a frame beyond the limit: the frame is
    /// dropped.
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>>;

    /// Forgets the frame that is being put together, and what came before.
    fn reset(&mut self);
}

/// What a payload says about the frame that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadInfo {
    /// Whether the payload is known to be the first of its frame (of one layer). For H.264, H.265 and
    /// AV1 a payload that does not say so may still be the first.
    pub start_of_frame: bool,
    /// Whether the payload is known to be the last of its frame (of one layer); the marker bit says
    /// so for the last of a picture.
    pub end_of_frame: bool,
    /// Whether the payload is known to be of a key frame. VP8 says so in the first payload of a frame
    /// alone, the others in each that begins a unit.
    pub keyframe: bool,
    /// Spatial layer.
    pub spatial_id: u8,
    /// Temporal layer.
    pub temporal_id: u8,
    /// Whether a receiver of lower temporal layers can begin with this layer here.
    pub switching_point: bool,
    /// Whether a receiver that gets this frame's temporal layer can begin with all higher ones behind it.
    pub up_switch: bool,
    /// Whether no other frame depends on it.
    pub discardable: bool,
    /// The picture's number, if the format has one.
    pub picture_id: Option<u16>,
    /// How many bits that number has before it wraps around: 7, 15 or 16; 0 without number.
    pub picture_id_bits: u8,
    /// The number of the temporal base layer's picture, if the format has one.
    pub tl0_picture_index: Option<u8>,
    /// The number of the frame in the packet's dependency descriptor. No payload says it: who reads
    /// the descriptor adds it.
    pub frame_number: Option<u16>,
}

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Opus (RFC 7587).
    Opus,
    /// G.711 µ-law (RFC 3551 section 4.5.14).
    Pcmu,
    /// G.711 A-law (RFC 3551 section 4.5.14).
    Pcma,
    /// G.722 (RFC 3551 section 4.5.2).
    G722,
    /// Comfort noise (RFC 3389).
    ComfortNoise,
    /// Telephone events (RFC 4733).
    TelephoneEvent,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628).
    Vp9,
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
    /// AV1 (AV1 RTP specification 1.0).
    Av1,
    /// Redundant data (RFC 2198).
    Red,
    /// Retransmissions (RFC 4588).
    Rtx,
    /// Uneven level protection (RFC 5109).
    UlpFec,
    /// Flexible FEC (draft-ietf-payload-flexible-fec-scheme-03).
    FlexFec,
}

impl Codec {
    /// The codec with this encoding name, upper or lower case, as `a=rtpmap` gives it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    const ALL: [Self; 15] = [
        Self::Opus,
        Self::Pcmu,
        Self::Pcma,
        Self::G722,
        Self::ComfortNoise,
        Self::TelephoneEvent,
        Self::Vp8,
        Self::Vp9,
        Self::H264,
        Self::H265,
        Self::Av1,
        Self::Red,
        Self::Rtx,
        Self::UlpFec,
        Self::FlexFec,
    ];

    /// The encoding name, as `a=rtpmap` gives it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::ComfortNoise => "CN",
            Self::TelephoneEvent => "telephone-event",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
            Self::H265 => "H265",
            Self::Av1 => "AV1",
            Self::Red => "red",
            Self::Rtx => "rtx",
            Self::UlpFec => "ulpfec",
            Self::FlexFec => "flexfec-03",
        }
    }

    /// Whether it encodes video.
    pub const fn is_video(self) -> bool {
        matches!(
            self,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::H265 | Self::Av1
        )
    }

    /// A packetizer with default settings; `None` for RED, RTX and FEC, which carry packets.
    pub fn packetizer(self) -> Option<Box<dyn Packetizer + Send>> {
        Some(match self {
            Self::Opus
            | Self::Pcmu
            | Self::Pcma
            | Self::G722
            | Self::ComfortNoise
            | Self::TelephoneEvent => Box::new(assembly::WholePacketizer::default()),
            Self::Vp8 => Box::new(vp8::Vp8Packetizer::default()),
            Self::Vp9 => Box::new(vp9::Vp9Packetizer::default()),
            Self::H264 => Box::new(h264::H264Packetizer::default()),
            Self::H265 => Box::new(h265::H265Packetizer::default()),
            Self::Av1 => Box::new(av1::Av1Packetizer::default()),
            _ => return None,
        })
    }

    /// A depacketizer with default limits; `None` for RED, RTX and FEC, which carry packets.
    pub fn depacketizer(self) -> Option<Box<dyn Depacketizer + Send>> {
        Some(match self {
            Self::Opus
            | Self::Pcmu
            | Self::Pcma
            | Self::G722
            | Self::ComfortNoise
            | Self::TelephoneEvent => Box::new(assembly::WholeDepacketizer::default()),
            Self::Vp8 => Box::new(vp8::Vp8Depacketizer::default()),
            Self::Vp9 => Box::new(vp9::Vp9Depacketizer::default()),
            Self::H264 => Box::new(h264::H264Depacketizer::default()),
            Self::H265 => Box::new(h265::H265Depacketizer::default()),
            Self::Av1 => Box::new(av1::Av1Depacketizer::default()),
            _ => return None,
        })
    }

    /// Reads what forwarding needs from a payload.
    ///
    /// # Errors
    /// A typed error for a payload that the format forbids.
    pub fn inspect(self, payload: &[u8]) -> Result<PayloadInfo> {
        match self {
            Self::Vp8 => vp8::inspect(payload),
            Self::Vp9 => vp9::inspect(payload),
            Self::H264 => h264::inspect(payload),
            Self::H265 => h265::inspect(payload),
            Self::Av1 => av1::inspect(payload),
            _ if payload.is_empty() => Err(Error::Truncated("payload")),
            _ => Ok(PayloadInfo {
                start_of_frame: true,
                end_of_frame: true,
                keyframe: true,
                ..PayloadInfo::default()
            }),
        }
    }
}
