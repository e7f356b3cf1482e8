//! What an application can set on a sender: encodings and their bounds.

use crate::codecs::{Codec, Kind};
use crate::error::Error;
use crate::extensions::NegotiatedExtension;

/// Importance of an encoding (W3C `RTCPriorityType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Priority {
    /// Below all else.
    VeryLow,
    /// The usual one.
    #[default]
    Low,
    /// Above the usual one.
    Medium,
    /// Above all else.
    High,
}

impl Priority {
    /// Its weight when rates are shared (RFC 8831 section 6.4, webrtc-priority section 4).
    pub(crate) const fn weight(self) -> f64 {
        match self {
            Self::VeryLow => 0.5,
            Self::Low => 1.0,
            Self::Medium => 2.0,
            Self::High => 4.0,
        }
    }
}

/// One encoding of a sent track (W3C `RTCRtpEncodingParameters`).
#[derive(Debug, Clone, PartialEq)]
pub struct Encoding {
    /// The rid; empty for a sender with one plain encoding.
    pub rid: String,
    /// Whether it is sent.
    pub active: bool,
    /// The codec to use; the first negotiated one if `None`.
    pub codec: Option<Codec>,
    /// Bits per second at most.
    pub max_bitrate: Option<u64>,
    /// Pictures per second at most, 0.0 and above.
    pub max_framerate: Option<f64>,
    /// How much smaller than the track the pictures are in both directions, 1.0 and above. Video
    /// only.
    pub scale_resolution_down_by: Option<f64>,
    /// Layers within the encoding, such as `L3T3_KEY` (webrtc-svc section 5.3).
    pub scalability_mode: Option<String>,
    /// Importance for sharing the bit rate.
    pub priority: Priority,
    /// Importance in the network.
    pub network_priority: Priority,
    /// Whether packets of audio may get longer or shorter as the network wants.
    pub adaptive_ptime: bool,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            rid: String::new(),
            active: true,
            codec: None,
            max_bitrate: None,
            max_framerate: None,
            scale_resolution_down_by: None,
            scalability_mode: None,
            priority: Priority::Low,
            network_priority: Priority::Low,
            adaptive_ptime: false,
        }
    }
}

impl Encoding {
    /// An encoding of a simulcast.
    pub fn with_rid(rid: impl Into<String>) -> Self {
        Self {
            rid: rid.into(),
            ..Self::default()
        }
    }

    /// Whether the values are in their ranges.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), Error> {
        if kind == Kind::Video {
            if self
                .scale_resolution_down_by
                .is_some_and(|by| by.is_nan() || by < 1.0)
            {
                return Err(Error::Range("the scale is below 1.0".into()));
            }
            if self
                .max_framerate
                .is_some_and(|rate| rate.is_nan() || rate < 0.0)
            {
                return Err(Error::Range("the frame rate is below 0.0".into()));
            }
        }
        match &self.scalability_mode {
            Some(mode) if !is_scalability_mode(mode) => {
                Err(Error::Operation("the scalability mode is unknown".into()))
            }
            _ => Ok(()),
        }
    }
}

/// Checks the encodings of a new sender (W3C `addTransceiver`, step 8).
pub(crate) fn check_encodings(kind: Kind, encodings: &[Encoding]) -> Result<(), Error> {
    /// Encodings of one sender: what RTP header extensions and receivers in the field manage.
    const MAX_ENCODINGS: usize = 8;
    if encodings.len() > MAX_ENCODINGS {
        return Err(Error::Operation("there are more than 8 encodings".into()));
    }
    if kind == Kind::Audio && encodings.len() > 1 {
        return Err(Error::NotSupported("audio has one encoding".into()));
    }
    let has_rids = encodings.iter().any(|encoding| !encoding.rid.is_empty());
    for (i, encoding) in encodings.iter().enumerate() {
        let rid = &encoding.rid;
        if (encodings.len() > 1 || has_rids) && !is_rid(rid) {
            return Err(Error::Type(
                "a rid must be 1 to 255 letters, digits, `-` or `_`".into(),
            ));
        }
        if encodings[..i].iter().any(|other| other.rid == *rid) {
            return Err(Error::Type("two encodings have the same rid".into()));
        }
        encoding.check(kind)?;
    }
    Ok(())
}

/// RFC 8851 section 10.
fn is_rid(rid: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=255).contains(&rid.len()) && rid.bytes().all(allowed)
}

/// The modes of webrtc-svc section 6: `L1T1` to `L3T3_KEY_SHIFT`, `S2T1` to `S3T3h`.
pub fn is_scalability_mode(mode: &str) -> bool {
    let bytes = mode.as_bytes();
    let (&[kind, spatial, b'T', temporal], rest) = (match bytes.first_chunk::<4>() {
        Some(head) => (head, &mode[4..]),
        None => return false,
    }) else {
        return false;
    };
    let layers = matches!(spatial, b'1'..=b'3') && matches!(temporal, b'1'..=b'3');
    let suffix = match (kind, spatial) {
        (b'L', b'1') => rest.is_empty(),
        (b'L', _) => {
            matches!(rest, "" | "h" | "_KEY") || (rest == "_KEY_SHIFT" && temporal != b'1')
        }
        (b'S', b'2' | b'3') => matches!(rest, "" | "h"),
        _ => false,
    };
    layers && suffix
}

/// What `parameters` of a sender answers (W3C `RTCRtpSendParameters`).
#[derive(Debug, Clone, PartialEq)]
pub struct SendParameters {
    /// Names the call that read these; a later call invalidates them.
    pub(crate) transaction: u64,
    /// The encodings; the only part that may be changed.
    pub encodings: Vec<Encoding>,
    /// The negotiated codecs.
    pub codecs: Vec<Codec>,
    /// The negotiated header extensions.
    pub extensions: Vec<NegotiatedExtension>,
    /// The canonical name in RTCP.
    pub cname: String,
    /// Whether RTCP may be of reduced size (RFC 5506).
    pub reduced_size: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalability_modes() {
        for mode in [
            "L1T1",
            "L1T3",
            "L2T1",
            "L3T3",
            "L2T2h",
            "L3T3_KEY",
            "L2T2_KEY_SHIFT",
            "S3T3h",
        ] {
            assert!(is_scalability_mode(mode), "{mode}");
        }
        for mode in [
            "",
            "L1",
            "L4T1",
            "L1T1_KEY",
            "S1T2",
            "L2T1_KEY_SHIFT",
            "x2T2",
            "L1T1é",
        ] {
            assert!(!is_scalability_mode(mode), "{mode}");
        }
    }

    #[test]
    fn encodings_are_checked_as_add_transceiver_asks() {
        let rids = |rids: &[&str]| {
            rids.iter()
                .map(|&rid| Encoding::with_rid(rid))
                .collect::<Vec<_>>()
        };
        assert!(check_encodings(Kind::Video, &rids(&["a", "b"])).is_ok());
        assert_eq!(
            check_encodings(Kind::Video, &rids(&["a", "a"]))
                .unwrap_err()
                .name(),
            "TypeError"
        );
        assert_eq!(
            check_encodings(Kind::Video, &rids(&["a", ""]))
                .unwrap_err()
                .name(),
            "TypeError"
        );
        assert_eq!(
            check_encodings(Kind::Video, &rids(&["a b"]))
                .unwrap_err()
                .name(),
            "TypeError"
        );
        let scaled = Encoding {
            scale_resolution_down_by: Some(0.5),
            ..Encoding::default()
        };
        assert_eq!(
            check_encodings(Kind::Video, &[scaled]).unwrap_err().name(),
            "RangeError"
        );
    }
}
