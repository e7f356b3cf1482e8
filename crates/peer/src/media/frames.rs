//! Encoded frames, as they are handed out.

use std::time::Instant;

use visavis_rtp::extension::{AbsCaptureTime, VideoOrientation};

/// What is made of the packets of a received track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReceiveMode {
    /// They are handed out as they come, for forwarding or for a jitter buffer of the application's:
    /// retransmissions as the original, redundant video (RFC 2198) as what it holds.
    #[default]
    Packets,
    /// Whole frames, in order and at the time at which they are to be decoded.
    Frames,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A picture that needs no other.
    Key,
    /// A picture that needs earlier ones, which were given.
    Delta,
    /// Sound.
    Audio,
    /// The next packet of sound, in place of a lost one: its in-band redundancy (Opus FEC) is to be
    /// decoded. It is given again as itself.
    Redundant,
    /// Comfort noise (RFC 3389).
    Noise,
    /// Sound is missing, or a picture did not decrypt: the decoder conceals. Without data.
    Lost,
}

/// A received frame (webrtc-encoded-transform `RTCEncodedVideoFrame`, `RTCEncodedAudioFrame`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodedFrame<'a> {
    /// What it is.
    pub kind: FrameKind,
    /// The frame as a decoder wants it (H.264 and H.265: Annex B; AV1: OBUs with sizes).
    pub data: &'a [u8],
    /// The RTP timestamp; 0 for what stands in for lost sound.
    pub timestamp: u32,
    /// How long sound lasts, in ticks of the RTP clock; 0 for pictures.
    pub duration: u32,
    /// The codec's payload type ([`Receiver::codecs`](crate::Receiver)).
    pub payload_type: u8,
    /// Index into [`Receiver::rids`](crate::Receiver), with simulcast.
    pub encoding: Option<usize>,
    /// The source.
    pub ssrc: u32,
    /// The temporal layer.
    pub temporal_id: u8,
    /// The highest spatial layer.
    pub spatial_id: u8,
    /// When to show or play it.
    pub render_at: Instant,
    /// How the picture was held.
    pub orientation: Option<VideoOrientation>,
    /// When it was captured.
    pub captured: Option<AbsCaptureTime>,
}
