//! Codecs: the tables that a connection offers, and what two tables have in common.

use std::sync::{Arc, LazyLock};

use visavis_sdp::{Attribute, Fmtp, Media, RtcpFb, RtpMap};

/// What a transceiver carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

impl Kind {
    /// `audio` or `video`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

/// A codec with its payload types (W3C `RTCRtpCodecParameters`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    /// Sound or pictures.
    pub kind: Kind,
    /// The encoding name: `opus`, `VP8` … Names compare without case.
    pub name: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels, where there are more than one.
    pub channels: Option<u16>,
    /// Format parameters as in `a=fmtp`; empty for none.
    pub fmtp: String,
    /// Feedback as in `a=rtcp-fb`: `nack`, `nack pli`, `ccm fir`, `transport-cc` …
    pub feedback: Vec<String>,
    /// The payload type: the preferred one in a table, the agreed one after negotiation.
    pub payload_type: u8,
    /// The payload type of the retransmissions (RFC 4588), if there are any.
    pub rtx: Option<u8>,
}

impl Codec {
    /// A codec without parameters, feedback and retransmissions.
    pub fn new(kind: Kind, name: &str, clock_rate: u32, payload_type: u8) -> Self {
        Self {
            kind,
            name: name.into(),
            clock_rate,
            channels: None,
            fmtp: String::new(),
            feedback: Vec::new(),
            payload_type,
            rtx: None,
        }
    }

    fn with(mut self, fmtp: &str, feedback: &[&str], rtx: Option<u8>) -> Self {
        self.fmtp = fmtp.into();
        self.feedback = feedback.iter().map(|&text| text.into()).collect();
        self.rtx = rtx;
        self
    }

    /// Kind and name, such as `video/VP8`.
    pub fn mime_type(&self) -> String {
        format!("{}/{}", self.kind.name(), self.name)
    }

    /// Whether the name is `name`, without regard to case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether the codec carries no media of its own: redundancy, comfort noise, key presses.
    pub fn is_auxiliary(&self) -> bool {
        ["red", "ulpfec", FLEXFEC, "flexfec", "CN", "telephone-event"]
            .iter()
            .any(|name| self.is(name))
    }

    /// Whether the peer asks for or gives this feedback.
    pub fn has_feedback(&self, feedback: &str) -> bool {
        self.feedback.iter().any(|found| found == feedback)
    }

    /// The value of one format parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(found, _)| found.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// Whether both mean the same format, whatever their payload types: name, clock rate, channels,
    /// and the parameters that make formats differ (profile, packetization mode).
    pub fn matches(&self, other: &Self) -> bool {
        let parameter = |name: &str, default: &'static str| {
            let value = |codec: &Self| codec.parameter(name).unwrap_or(default).to_owned();
            value(self).eq_ignore_ascii_case(&value(other))
        };
        self.kind == other.kind
            && self.is(&other.name)
            && self.clock_rate == other.clock_rate
            && self.channels.unwrap_or(1) == other.channels.unwrap_or(1)
            && match self.name.to_ascii_lowercase().as_str() {
                // RFC 6184 section 8.2.2.
                "h264" => {
                    parameter("packetization-mode", "0")
                        && h264_profile(self).is_some()
                        && h264_profile(self) == h264_profile(other)
                }
                // RFC 9628 section 7.
                "vp9" => parameter("profile-id", "0"),
                // AV1 RTP payload format section 7.2.3.
                "av1" => parameter("profile", "0"),
                // RFC 7798 section 7.2.2.
                "h265" => parameter("profile-id", "1") && parameter("tx-mode", "SRST"),
                _ => true,
            }
    }

    /// The codec that both ends use, where `self` is ours and `offered` the peer's: its payload
    /// types, what feedback both have, our parameters.
    fn agreed(&self, offered: &Self) -> Self {
        let mut agreed = self.clone();
        agreed.name.clone_from(&offered.name);
        agreed.payload_type = offered.payload_type;
        agreed.rtx = self.rtx.and(offered.rtx);
        agreed.feedback.retain(|text| offered.has_feedback(text));
        if self.is("h264") {
            agreed.fmtp = h264_answer(self, offered);
        }
        agreed
    }
}

/// Profiles of H.264 that do not decode each other (RFC 6184 section 8.1, table 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    PredictiveHigh444,
}

/// `None` where `profile-level-id` is not valid.
fn h264_profile(codec: &Codec) -> Option<H264Profile> {
    // Without the parameter, baseline profile level 1 holds (RFC 6184 section 8.1); browsers take
    // constrained baseline.
    let id = codec.parameter("profile-level-id").unwrap_or("42e01f");
    let id = (id.len() == 6).then(|| u32::from_str_radix(id, 16).ok())??;
    let (idc, iop) = ((id >> 16) as u8, (id >> 8) as u8);
    Some(match idc {
        0x42 if iop & 0x4f == 0x40 => H264Profile::ConstrainedBaseline,
        0x42 if iop & 0x4f == 0 => H264Profile::Baseline,
        0x4d if iop & 0x8f == 0x80 => H264Profile::ConstrainedBaseline,
        0x4d if iop & 0xaf == 0 => H264Profile::Main,
        0x58 if iop & 0xcf == 0xc0 => H264Profile::ConstrainedBaseline,
        0x58 if iop & 0xcf == 0x80 => H264Profile::Baseline,
        0x64 if iop == 0 => H264Profile::High,
        0x64 if iop == 0x0c => H264Profile::ConstrainedHigh,
        0xf4 if iop == 0 => H264Profile::PredictiveHigh444,
        _ => return None,
    })
}

/// The answer's parameters: our level if both allow different ones, else the lower one (RFC 6184
/// section 8.2.2).
fn h264_answer(ours: &Codec, theirs: &Codec) -> String {
    let asymmetric = |codec: &Codec| {
        codec
            .parameter("level-asymmetry-allowed")
            .is_some_and(|v| v == "1")
    };
    let id = |codec: &Codec| codec.parameter("profile-level-id").map(str::to_owned);
    let (Some(our_id), Some(their_id)) = (id(ours), id(theirs)) else {
        return ours.fmtp.clone();
    };
    if (asymmetric(ours) && asymmetric(theirs)) || our_id.len() != 6 || their_id.len() != 6 {
        return ours.fmtp.clone();
    }
    let level = |id: &str| u8::from_str_radix(&id[4..], 16).unwrap_or(0);
    let lower = if level(&their_id) < level(&our_id) {
        their_id
    } else {
        our_id.clone()
    };
    ours.fmtp.replace(&our_id, &lower)
}

/// What this end can send and receive, in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecTable {
    /// Audio codecs.
    pub audio: Vec<Codec>,
    /// Video codecs.
    pub video: Vec<Codec>,
}

impl CodecTable {
    /// The default table, which all connections share.
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<CodecTable>> = LazyLock::new(Arc::default);
        Arc::clone(&SHARED)
    }

    /// The same with RFC 8888 feedback (`ack ccfb`), which tells ECN marks too. Where the peer has it,
    /// it takes the place of transport-wide feedback.
    pub fn with_congestion_feedback(mut self) -> Self {
        for codec in self.audio.iter_mut().chain(&mut self.video) {
            if !codec.has_feedback(CCFB) {
                codec.feedback.push(CCFB.into());
            }
        }
        self
    }

    /// The same with FlexFEC (draft-ietf-payload-flexible-fec-scheme-03, `flexfec-03`): parity for video on
    /// a source of its own, as much as losses ask for. Of browsers Chromium has it, behind field trials.
    pub fn with_flexfec(mut self) -> Self {
        if !self.video.iter().any(|codec| codec.is(FLEXFEC)) {
            let codec = Codec::new(Kind::Video, FLEXFEC, 90_000, 49);
            let feedback = ["goog-remb", "transport-cc"];
            self.video
                .push(codec.with("repair-window=10000000", &feedback, None));
        }
        self
    }

    /// The codecs of one kind.
    pub fn of(&self, kind: Kind) -> &[Codec] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }
}

/// The parity format that has a source of its own.
pub(crate) const FLEXFEC: &str = "flexfec-03";

/// Feedback that browsers offer for video.
const VIDEO_FEEDBACK: [&str; 5] = ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"];

impl Default for CodecTable {
    /// What browsers offer, with Chromium's payload types.
    fn default() -> Self {
        let audio = |name, clock_rate, pt| Codec::new(Kind::Audio, name, clock_rate, pt);
        let video = |name, pt, rtx, fmtp: &str| {
            Codec::new(Kind::Video, name, 90_000, pt).with(fmtp, &VIDEO_FEEDBACK, Some(rtx))
        };
        let h264 = |pt, rtx, mode, profile| {
            let fmtp = format!(
                "level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}"
            );
            video("H264", pt, rtx, &fmtp)
        };
        let stereo = |mut codec: Codec| {
            codec.channels = Some(2);
            codec
        };
        Self {
            audio: vec![
                stereo(audio("opus", 48_000, 111)).with(
                    "minptime=10;useinbandfec=1",
                    &["transport-cc"],
                    None,
                ),
                stereo(audio("red", 48_000, 63)).with("111/111", &[], None),
                audio("G722", 8000, 9),
                audio("PCMU", 8000, 0),
                audio("PCMA", 8000, 8),
                audio("CN", 8000, 13),
                audio("telephone-event", 48_000, 110).with("0-15", &[], None),
                audio("telephone-event", 8000, 126).with("0-15", &[], None),
            ],
            video: vec![
                video("VP8", 96, 97, ""),
                h264(102, 103, 1, "42001f"),
                h264(104, 107, 0, "42001f"),
                h264(108, 109, 1, "42e01f"),
                h264(114, 115, 0, "42e01f"),
                h264(116, 117, 1, "4d001f"),
                h264(39, 40, 0, "4d001f"),
                h264(123, 124, 1, "64001f"),
                video("AV1", 45, 46, "level-idx=5;profile=0;tier=0"),
                video("VP9", 98, 99, "profile-id=0"),
                video("VP9", 100, 101, "profile-id=2"),
                Codec::new(Kind::Video, "red", 90_000, 118).with("", &[], Some(119)),
                Codec::new(Kind::Video, "ulpfec", 90_000, 120),
            ],
        }
    }
}

/// The codecs of a media section, in its order. Payload types that it does not explain are left out.
pub fn codecs_of(kind: Kind, media: &Media) -> Vec<Codec> {
    let attributes = &media.attributes;
    let mut codecs: Vec<Codec> = Vec::new();
    let mut retransmissions = Vec::new();
    for pt in media.payload_types() {
        let map = attributes.rtpmaps().find(|map| map.payload_type == pt);
        let fmtp = attributes
            .fmtps()
            .find(|fmtp| fmtp.payload_type() == Some(pt));
        let mut codec = match map {
            Some(map) => Codec {
                channels: map.channels.filter(|&channels| channels > 1),
                ..Codec::new(kind, &map.encoding, map.clock_rate, pt)
            },
            None => match static_payload_type(pt) {
                Some(name) => Codec::new(kind, name, 8000, pt),
                None => continue,
            },
        };
        if codec.is("rtx") {
            let apt = fmtp.and_then(|fmtp| fmtp.get("apt")?.parse().ok());
            retransmissions.extend(apt.map(|apt: u8| (apt, pt)));
            continue;
        }
        codec.fmtp = fmtp.map(|fmtp| fmtp.parameters.clone()).unwrap_or_default();
        codec.feedback = attributes
            .rtcp_fbs()
            .filter(|feedback| feedback.payload_type.is_none_or(|found| found == pt))
            .map(RtcpFb::feedback)
            .collect();
        codecs.push(codec);
    }
    for (apt, pt) in retransmissions {
        if let Some(codec) = codecs.iter_mut().find(|codec| codec.payload_type == apt) {
            codec.rtx.get_or_insert(pt);
        }
    }
    codecs
}

/// Payload types that mean something without `rtpmap` (RFC 3551 section 6), of those in use.
const fn static_payload_type(payload_type: u8) -> Option<&'static str> {
    match payload_type {
        0 => Some("PCMU"),
        8 => Some("PCMA"),
        9 => Some("G722"),
        13 => Some("CN"),
        _ => None,
    }
}

/// What `ours` and `theirs` have in common, in their order and with their payload types. Empty if
/// only auxiliary formats are left.
pub fn common_codecs(ours: &[Codec], theirs: &[Codec]) -> Vec<Codec> {
    let mut common: Vec<Codec> = theirs
        .iter()
        .filter_map(|theirs| {
            let ours = ours.iter().find(|ours| ours.matches(theirs))?;
            Some(ours.agreed(theirs))
        })
        .collect();
    repair_red(&mut common);
    if common.iter().all(Codec::is_auxiliary) {
        common.clear();
    }
    common
}

/// Lets the redundant audio format name the payload type that Opus has here (RFC 2198 section 5).
pub(crate) fn repair_red(codecs: &mut Vec<Codec>) {
    let opus = codecs
        .iter()
        .find(|codec| codec.is("opus"))
        .map(|codec| codec.payload_type);
    codecs.retain(|codec| codec.kind == Kind::Video || !codec.is("red") || opus.is_some());
    for codec in codecs {
        if let (Kind::Audio, true, Some(pt)) = (codec.kind, codec.is("red"), opus) {
            codec.fmtp = format!("{pt}/{pt}");
        }
    }
}

/// Feedback that RFC 8888 section 6 has for all payload types of a section at once.
pub(crate) const CCFB: &str = "ack ccfb";

/// Writes codecs into a media section: formats and attributes.
pub fn write_codecs(codecs: &[Codec], media: &mut Media) {
    if codecs.iter().any(|codec| codec.has_feedback(CCFB)) {
        media.attributes.push(Attribute::RtcpFb(RtcpFb {
            payload_type: None,
            kind: "ack".into(),
            parameter: Some("ccfb".into()),
        }));
    }
    for codec in codecs {
        let pt = codec.payload_type;
        media.formats.push(pt.to_string());
        let attributes = &mut media.attributes;
        attributes.push(Attribute::RtpMap(RtpMap {
            payload_type: pt,
            encoding: codec.name.clone(),
            clock_rate: codec.clock_rate,
            channels: codec.channels,
        }));
        let feedback = codec.feedback.iter().filter(|text| *text != CCFB);
        attributes.extend(feedback.map(|text| {
            let (kind, parameter) = match text.split_once(' ') {
                Some((kind, parameter)) => (kind, Some(parameter.into())),
                None => (text.as_str(), None),
            };
            Attribute::RtcpFb(RtcpFb {
                payload_type: Some(pt),
                kind: kind.into(),
                parameter,
            })
        }));
        if !codec.fmtp.is_empty() {
            attributes.push(Attribute::Fmtp(Fmtp {
                format: pt.to_string(),
                parameters: codec.fmtp.clone(),
            }));
        }
        if let Some(rtx) = codec.rtx {
            media.formats.push(rtx.to_string());
            attributes.push(Attribute::RtpMap(RtpMap {
                payload_type: rtx,
                encoding: "rtx".into(),
                clock_rate: codec.clock_rate,
                channels: None,
            }));
            attributes.push(Attribute::Fmtp(Fmtp {
                format: rtx.to_string(),
                parameters: format!("apt={pt}"),
            }));
        }
    }
}

/// Which payload type means which codec in a BUNDLE group, where one number must mean the same in
/// all sections (RFC 9143 section 9.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct PayloadTypes {
    known: Vec<Codec>,
}

impl PayloadTypes {
    /// Remembers what a description used.
    pub(crate) fn learn(&mut self, codecs: &[Codec]) {
        for codec in codecs {
            match self
                .known
                .iter_mut()
                .find(|known| known.payload_type == codec.payload_type)
            {
                Some(known) => *known = codec.clone(),
                None => self.known.push(codec.clone()),
            }
        }
    }

    /// Gives each codec its known payload types, or its preferred ones if they are free, or others.
    pub(crate) fn assign(&self, codecs: &mut Vec<Codec>) {
        let mut used: Vec<u8> = self.known.iter().flat_map(payload_types).collect();
        for codec in codecs.iter_mut() {
            match self.known.iter().find(|known| known.matches(codec)) {
                Some(known) => {
                    codec.payload_type = known.payload_type;
                    codec.rtx = codec
                        .rtx
                        .and_then(|preferred| known.rtx.or_else(|| take(&mut used, preferred)));
                }
                None => {
                    // Without a free number the codec keeps its own, which the peer will refuse.
                    codec.payload_type =
                        take(&mut used, codec.payload_type).unwrap_or(codec.payload_type);
                    codec.rtx = codec.rtx.and_then(|preferred| take(&mut used, preferred));
                }
            }
        }
        repair_red(codecs);
    }
}

fn payload_types(codec: &Codec) -> impl Iterator<Item = u8> {
    [Some(codec.payload_type), codec.rtx].into_iter().flatten()
}

/// Takes `preferred` or another dynamic payload type: 96 to 127, then 35 to 63, which do not
/// collide with RTCP (RFC 5761 section 4).
fn take(used: &mut Vec<u8>, preferred: u8) -> Option<u8> {
    let free = std::iter::once(preferred)
        .chain(96..=127)
        .chain((35..=63).rev())
        .find(|pt| !used.contains(pt))?;
    used.push(free);
    Some(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(fmtp: &str) -> Codec {
        Codec::new(Kind::Video, "H264", 90_000, 102).with(fmtp, &[], None)
    }

    #[test]
    fn h264_profiles_that_decode_each_other_match() {
        let cbp = h264("packetization-mode=1;profile-level-id=42e01f");
        assert!(cbp.matches(&h264("profile-level-id=42c02a;packetization-mode=1")));
        assert!(cbp.matches(&h264("profile-level-id=4de01f;packetization-mode=1")));
        assert!(!cbp.matches(&h264("profile-level-id=42e01f;packetization-mode=0")));
        assert!(!cbp.matches(&h264("profile-level-id=64001f;packetization-mode=1")));
        assert!(!cbp.matches(&h264("profile-level-id=42zz1f;packetization-mode=1")));
    }

    #[test]
    fn h264_answers_the_lower_level_unless_both_allow_asymmetry() {
        let ours = h264("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
        let theirs = h264("packetization-mode=1;profile-level-id=42e00b");
        assert!(ours.agreed(&theirs).fmtp.ends_with("42e00b"));
        let asymmetric =
            h264("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e00b");
        assert!(ours.agreed(&asymmetric).fmtp.ends_with("42e01f"));
    }

    #[test]
    fn common_codecs_keep_the_order_and_numbers_of_the_peer() {
        let ours = CodecTable::default();
        let mut vp9 = Codec::new(Kind::Video, "vp9", 90_000, 121);
        vp9.feedback = vec!["nack".into(), "ack ccfb".into()];
        vp9.rtx = Some(125);
        let vp8 = Codec::new(Kind::Video, "VP8", 90_000, 120);
        let unknown = Codec::new(Kind::Video, "Theora", 90_000, 96);
        let common = common_codecs(&ours.video, &[unknown, vp9, vp8]);
        let numbers: Vec<_> = common.iter().map(|c| (c.payload_type, c.rtx)).collect();
        assert_eq!(numbers, [(121, Some(125)), (120, None)]);
        assert_eq!(common[0].feedback, ["nack"]);
    }

    #[test]
    fn only_auxiliary_formats_in_common_is_nothing_in_common() {
        let ours = CodecTable::default();
        let theirs = [Codec::new(Kind::Audio, "telephone-event", 8000, 101)];
        assert!(common_codecs(&ours.audio, &theirs).is_empty());
    }

    #[test]
    fn payload_types_that_the_peer_uses_otherwise_are_avoided() {
        let mut known = PayloadTypes::default();
        known.learn(&[Codec::new(Kind::Video, "VP8", 90_000, 111)]);
        let mut audio = CodecTable::default().audio;
        known.assign(&mut audio);
        assert_ne!(audio[0].payload_type, 111);
        let opus = audio[0].payload_type;
        assert_eq!(audio[1].fmtp, format!("{opus}/{opus}"));
        let mut video = CodecTable::default().video;
        known.assign(&mut video);
        assert_eq!(video[0].payload_type, 111);
    }
}
