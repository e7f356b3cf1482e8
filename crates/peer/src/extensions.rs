//! RTP header extensions: which ones are offered, and under which numbers.

use std::sync::{Arc, LazyLock};

use visavis_sdp::{Attribute, Direction, ExtMap, Media};

use crate::codecs::Kind;
use crate::transceiver::TransceiverDirection;

/// Names of header extensions.
pub mod uri {
    /// RFC 6464.
    pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    /// RFC 6465.
    pub const MIXER_LEVELS: &str = "urn:ietf:params:rtp-hdrext:csrc-audio-level";
    /// RFC 5450.
    pub const TRANSMISSION_OFFSET: &str = "urn:ietf:params:rtp-hdrext:toffset";
    /// draft-alvestrand-rmcat-remb-03.
    pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    /// Capture time.
    pub const ABS_CAPTURE_TIME: &str =
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    pub const TRANSPORT_WIDE_CC: &str =
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    /// 3GPP TS 26.114.
    pub const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
    /// Playout delay.
    pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
    /// Video content type.
    pub const VIDEO_CONTENT_TYPE: &str =
        "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type";
    /// Video timing.
    pub const VIDEO_TIMING: &str = "http://www.webrtc.org/experiments/rtp-hdrext/video-timing";
    /// Colour space.
    pub const COLOR_SPACE: &str = "http://www.webrtc.org/experiments/rtp-hdrext/color-space";
    /// RFC 9143 section 15.2.
    pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    /// RFC 8852 section 4.3.
    pub const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    /// RFC 8852 section 4.3.
    pub const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
    /// AV1 RTP payload format, appendix A.
    pub const DEPENDENCY_DESCRIPTOR: &str =
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
    /// Video layers allocation.
    pub const VIDEO_LAYERS_ALLOCATION: &str =
        "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00";
}

/// A header extension that can be negotiated (W3C `RTCRtpHeaderExtensionCapability`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderExtension {
    /// What it is.
    pub uri: String,
    /// How it is offered; `Stopped` for not at all.
    pub direction: TransceiverDirection,
    /// Whether it is accepted when the peer offers it and it is stopped here.
    pub accepted: bool,
}

/// What is negotiated unless the application says otherwise, shared by all connections.
pub(crate) fn shared_extensions(kind: Kind) -> Arc<Vec<HeaderExtension>> {
    static AUDIO: LazyLock<Arc<Vec<HeaderExtension>>> =
        LazyLock::new(|| Arc::new(default_extensions(Kind::Audio)));
    static VIDEO: LazyLock<Arc<Vec<HeaderExtension>>> =
        LazyLock::new(|| Arc::new(default_extensions(Kind::Video)));
    Arc::clone(match kind {
        Kind::Audio => &AUDIO,
        Kind::Video => &VIDEO,
    })
}

/// What is negotiated unless the application says otherwise: what browsers offer, and what they
/// accept when it is offered.
pub fn default_extensions(kind: Kind) -> Vec<HeaderExtension> {
    let (offered, accepted): (&[&str], &[&str]) = match kind {
        Kind::Audio => (
            &[
                uri::AUDIO_LEVEL,
                uri::ABS_SEND_TIME,
                uri::TRANSPORT_WIDE_CC,
                uri::MID,
            ],
            &[uri::MIXER_LEVELS, uri::ABS_CAPTURE_TIME],
        ),
        Kind::Video => (
            &[
                uri::TRANSMISSION_OFFSET,
                uri::ABS_SEND_TIME,
                uri::VIDEO_ORIENTATION,
                uri::TRANSPORT_WIDE_CC,
                uri::PLAYOUT_DELAY,
                uri::VIDEO_CONTENT_TYPE,
                uri::VIDEO_TIMING,
                uri::COLOR_SPACE,
                uri::MID,
                uri::RID,
                uri::REPAIRED_RID,
                uri::DEPENDENCY_DESCRIPTOR,
            ],
            &[uri::ABS_CAPTURE_TIME, uri::VIDEO_LAYERS_ALLOCATION],
        ),
    };
    let extension = |direction, accepted| {
        move |&uri: &&str| HeaderExtension {
            uri: uri.into(),
            direction,
            accepted,
        }
    };
    offered
        .iter()
        .map(extension(TransceiverDirection::SendRecv, true))
        .chain(
            accepted
                .iter()
                .map(extension(TransceiverDirection::Stopped, true)),
        )
        .collect()
}

/// A header extension that was agreed on (W3C `RTCRtpHeaderExtensionParameters`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedExtension {
    /// What it is.
    pub uri: String,
    /// Its number, 1 to 255.
    pub id: u8,
    /// Seen from this end.
    pub direction: Direction,
}

/// Which number means which extension in a BUNDLE group (RFC 8285 section 5, RFC 9143 section 9.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct ExtensionIds {
    known: Vec<(u8, String)>,
}

impl ExtensionIds {
    pub(crate) fn learn(&mut self, maps: &[NegotiatedExtension]) {
        for map in maps {
            self.known.retain(|(id, _)| *id != map.id);
            self.known.push((map.id, map.uri.clone()));
        }
    }

    /// The number of an extension: the known one or a free one, which is then known.
    fn id(&mut self, uri: &str) -> Option<u8> {
        if let Some((id, _)) = self.known.iter().find(|(_, known)| known == uri) {
            return Some(*id);
        }
        // One-byte headers have 1 to 14, two-byte headers more; 15 is reserved.
        let free = (1..=14)
            .chain(16..=255)
            .find(|id| self.known.iter().all(|(known, _)| known != id))?;
        self.known.push((free, uri.into()));
        Some(free)
    }

    /// The lines of an offer.
    pub(crate) fn offer(&mut self, extensions: &[HeaderExtension]) -> Vec<Attribute> {
        extensions
            .iter()
            .filter_map(|extension| {
                let direction = extension.direction.to_sdp()?;
                Some(Attribute::ExtMap(ExtMap {
                    id: self.id(&extension.uri)?.into(),
                    direction: (direction != Direction::SendRecv).then_some(direction),
                    uri: extension.uri.clone(),
                    attributes: None,
                }))
            })
            .collect()
    }
}

/// The lines of an answer: what was offered and is wanted here, under the offer's numbers.
pub(crate) fn answer_extensions(ours: &[HeaderExtension], offer: &Media) -> Vec<Attribute> {
    offer
        .attributes
        .extmaps()
        .filter_map(|offered| {
            let ours = ours.iter().find(|ours| ours.uri == offered.uri)?;
            let wanted = match ours.direction.to_sdp() {
                Some(direction) => direction,
                None if ours.accepted => Direction::SendRecv,
                None => return None,
            };
            let direction = wanted.intersection(offered.direction.unwrap_or_default().reversed());
            let usable =
                matches!(offered.id, 1..=14 | 16..=255) && direction != Direction::Inactive;
            usable.then(|| {
                Attribute::ExtMap(ExtMap {
                    id: offered.id,
                    direction: (direction != Direction::SendRecv).then_some(direction),
                    uri: offered.uri.clone(),
                    attributes: None,
                })
            })
        })
        .collect()
}

/// What an offer and its answer agreed on. `local` and `remote` are the same section in both
/// descriptions; numbers and directions are the answer's.
pub(crate) fn negotiated_extensions(
    local: &Media,
    remote: &Media,
    answer_is_local: bool,
) -> Vec<NegotiatedExtension> {
    let (answer, offer) = if answer_is_local {
        (local, remote)
    } else {
        (remote, local)
    };
    answer
        .attributes
        .extmaps()
        .filter(|map| offer.attributes.extmaps().any(|found| found.uri == map.uri))
        .filter_map(|map| {
            let direction = map.direction.unwrap_or_default();
            Some(NegotiatedExtension {
                uri: map.uri.clone(),
                id: u8::try_from(map.id).ok()?,
                direction: if answer_is_local {
                    direction
                } else {
                    direction.reversed()
                },
            })
        })
        .collect()
}
