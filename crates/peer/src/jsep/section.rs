//! Writing media sections.

use visavis_sdp::{
    Attribute, Direction, Media, MediaKind, Msid, Rid, RidDirection, Setup, Simulcast,
    SimulcastRid, Ssrc, SsrcGroup,
};

use super::LocalParameters;
use crate::codecs::{Codec, FLEXFEC, Kind, write_codecs};
use crate::transceiver::Transceiver;

/// What RTP sections of browsers say (RFC 9429 section 5.1.2).
const RTP_PROTOCOL: &str = "UDP/TLS/RTP/SAVPF";
/// RFC 8841 section 4.
const DATA_PROTOCOL: &str = "UDP/DTLS/SCTP";

impl From<Kind> for MediaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Audio => Self::Audio,
            Kind::Video => Self::Video,
        }
    }
}

/// ICE and DTLS attributes: in every section, as browsers do.
fn write_transport(media: &mut Media, mid: &str, local: &LocalParameters, setup: Setup) {
    let transport = local.of(mid);
    let attributes = &mut media.attributes;
    attributes.push(Attribute::IceUfrag(transport.ufrag.clone()));
    attributes.push(Attribute::IcePwd(transport.pwd.clone()));
    attributes.push(Attribute::IceOptions(local.ice_options.clone()));
    attributes.extend(
        local
            .fingerprints
            .iter()
            .cloned()
            .map(Attribute::Fingerprint),
    );
    attributes.push(Attribute::Setup(setup));
    attributes.push(Attribute::TlsId(local.tls_id.clone()));
}

/// What a section with RTP is made of.
pub(super) struct RtpSection<'a> {
    pub(super) transceiver: &'a Transceiver,
    pub(super) mid: &'a str,
    pub(super) direction: Direction,
    pub(super) codecs: &'a [Codec],
    pub(super) extensions: Vec<Attribute>,
    /// Rids to receive in an answer.
    pub(super) receive_rids: &'a [String],
    /// Whether simulcast may be sent: always in an offer, where it was offered in an answer.
    pub(super) send_simulcast: bool,
    pub(super) setup: Setup,
    pub(super) cname: &'a str,
}

impl RtpSection<'_> {
    pub(super) fn write(self, local: &LocalParameters) -> Media {
        let mut media = Media::new(self.transceiver.kind.into(), RTP_PROTOCOL);
        write_transport(&mut media, self.mid, local, self.setup);
        media.attributes.push(Attribute::Mid(self.mid.into()));
        media.attributes.extend(self.extensions.iter().cloned());
        media.attributes.push(Attribute::Direction(self.direction));
        if self.direction.sends() {
            media.attributes.extend(msids(self.transceiver));
        }
        media.attributes.push(Attribute::RtcpMux);
        media.attributes.push(Attribute::RtcpMuxOnly);
        media.attributes.push(Attribute::RtcpRsize);
        write_codecs(self.codecs, &mut media);
        let simulcast = self.write_rids(&mut media);
        if self.direction.sends() && !simulcast {
            self.write_sources(&mut media);
        }
        media
    }

    /// `ssrc` and `ssrc-group` (RFC 5576). Sources of simulcast are told apart by their rids.
    fn write_sources(&self, media: &mut Media) {
        let sender = &self.transceiver.sender;
        let has_rtx = self.codecs.iter().any(|codec| codec.rtx.is_some());
        let has_fec = self.codecs.iter().any(|codec| codec.is(FLEXFEC));
        for sources in &sender.sources {
            let rtx = has_rtx.then_some(sources.rtx);
            let fec = has_fec.then_some(sources.fec);
            // RFC 4588 section 8.3, RFC 5956 section 4.3.
            for (semantics, repair) in [("FID", rtx), ("FEC-FR", fec)] {
                if let Some(repair) = repair {
                    media.attributes.push(Attribute::SsrcGroup(SsrcGroup {
                        semantics: semantics.into(),
                        ssrcs: vec![sources.ssrc, repair],
                    }));
                }
            }
            for ssrc in [Some(sources.ssrc), rtx, fec].into_iter().flatten() {
                media.attributes.push(Attribute::Ssrc(Ssrc {
                    ssrc,
                    attribute: "cname".into(),
                    value: Some(self.cname.into()),
                }));
                let stream = sender.streams.first().map_or("-", String::as_str);
                media.attributes.push(Attribute::Ssrc(Ssrc {
                    ssrc,
                    attribute: "msid".into(),
                    value: Some(format!("{stream} {}", sender.msid_track)),
                }));
            }
        }
    }

    /// `rid` and `simulcast` (RFC 8851, RFC 8853). Whether there is anything to send by rids.
    fn write_rids(&self, media: &mut Media) -> bool {
        let list = |rids: Vec<&str>| -> Vec<Vec<SimulcastRid>> {
            rids.into_iter()
                .map(|rid| {
                    vec![SimulcastRid {
                        id: rid.into(),
                        paused: false,
                    }]
                })
                .collect()
        };
        let encodings = &self.transceiver.sender.encodings;
        let send: Vec<&str> = encodings
            .iter()
            .map(|encoding| encoding.rid.as_str())
            .filter(|rid| !rid.is_empty() && self.send_simulcast && self.direction.sends())
            .collect();
        let receive: Vec<&str> = self
            .receive_rids
            .iter()
            .map(String::as_str)
            .filter(|_| self.direction.receives())
            .collect();
        let rids = |rids: &[&str], direction| -> Vec<Attribute> {
            rids.iter()
                .map(|&rid| Attribute::Rid(Rid::new(rid, direction)))
                .collect()
        };
        media.attributes.extend(rids(&send, RidDirection::Send));
        media.attributes.extend(rids(&receive, RidDirection::Recv));
        let by_rid = !send.is_empty();
        // One rid alone is no simulcast (RFC 8853 section 5.1), but browsers name it so when
        // it is the only layer left; a single one is written as `rid` only.
        let simulcast = Simulcast {
            send: if send.len() > 1 {
                list(send)
            } else {
                Vec::new()
            },
            recv: list(receive),
        };
        if simulcast != Simulcast::default() {
            media.attributes.push(Attribute::Simulcast(simulcast));
        }
        by_rid
    }
}

/// `msid` for each stream, or one that says that there is none (RFC 9429 section 5.2.1).
pub(super) fn msids(transceiver: &Transceiver) -> Vec<Attribute> {
    let sender = &transceiver.sender;
    let msid = |stream: &str| {
        Attribute::Msid(Msid {
            stream: stream.into(),
            track: Some(sender.msid_track.clone()),
        })
    };
    if sender.streams.is_empty() {
        return vec![msid("-")];
    }
    sender.streams.iter().map(|stream| msid(stream)).collect()
}

/// The data channels' section.
pub(super) fn data_section(mid: &str, setup: Setup, local: &LocalParameters) -> Media {
    let mut media = Media::new(MediaKind::Application, DATA_PROTOCOL);
    media.formats.push("webrtc-datachannel".into());
    write_transport(&mut media, mid, local, setup);
    let attributes = &mut media.attributes;
    attributes.push(Attribute::Mid(mid.into()));
    attributes.push(Attribute::SctpPort(local.sctp_port));
    attributes.push(Attribute::MaxMessageSize(local.max_message_size));
    if let Some(chunk) = &local.sctp_init {
        attributes.push(Attribute::SctpInit(chunk.clone()));
    }
    media
}

/// A rejected section: port 0, and just enough to be SDP (RFC 9429 section 5.3.1).
pub(super) fn rejected_section(
    kind: MediaKind,
    protocol: &str,
    formats: &[String],
    mid: &str,
) -> Media {
    let mut media = Media::new(kind, protocol);
    media.port = 0;
    media.formats = formats.to_vec();
    if media.formats.is_empty() {
        media.formats.push("0".into());
    }
    media.attributes.push(Attribute::Mid(mid.into()));
    if media.is_rtp() {
        media
            .attributes
            .push(Attribute::Direction(Direction::Inactive));
    }
    media
}

/// A section of a stopped transceiver in an offer.
pub(super) fn stopped_section(kind: Kind, mid: &str, codecs: &[Codec]) -> Media {
    let formats: Vec<String> = codecs
        .iter()
        .take(1)
        .map(|codec| codec.payload_type.to_string())
        .collect();
    rejected_section(kind.into(), RTP_PROTOCOL, &formats, mid)
}

/// A data section that is over, in an offer.
pub(super) fn stopped_data_section(mid: &str) -> Media {
    let formats = ["webrtc-datachannel".to_owned()];
    rejected_section(MediaKind::Application, DATA_PROTOCOL, &formats, mid)
}
