//! One `a=` line.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::cursor::Cursor;
use crate::{
    Connection, ExtMap, Fingerprint, Fmtp, Msid, MsidSemantic, ParseError, Rid, RtcpFb, RtpMap,
    Setup, Simulcast, Ssrc, SsrcGroup,
};

/// One attribute of a session or of a media section.
///
/// Text fields must hold no line end: they are printed as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// `group` (RFC 5888 section 5).
    Group(Group),
    /// `extmap-allow-mixed` (RFC 8285 section 6).
    ExtmapAllowMixed,
    /// `msid-semantic`, a leftover of old drafts.
    MsidSemantic(MsidSemantic),
    /// `ice-lite` (RFC 8839 section 5.3).
    IceLite,
    /// `ice-options` (RFC 8839 section 5.6).
    IceOptions(Vec<String>),
    /// `ice-ufrag` (RFC 8839 section 5.4), 4 to 256 characters.
    IceUfrag(String),
    /// `ice-pwd` (RFC 8839 section 5.4), 22 to 256 characters.
    IcePwd(String),
    /// `ice-pacing` in milliseconds (RFC 8839 section 5.5).
    IcePacing(u32),
    /// `candidate` (RFC 8839 section 5.1): the text behind `a=candidate:`. `visavis-ice` has the
    /// typed form.
    Candidate(String),
    /// `remote-candidates` (RFC 8839 section 5.2) as text.
    RemoteCandidates(String),
    /// `end-of-candidates` (RFC 8840 section 8.2).
    EndOfCandidates,
    /// `fingerprint` (RFC 8122 section 5).
    Fingerprint(Fingerprint),
    /// `setup` (RFC 4145 section 4).
    Setup(Setup),
    /// `connection` (RFC 4145 section 5).
    Connection(ConnectionReuse),
    /// `tls-id` (RFC 8842 section 4).
    TlsId(String),
    /// `identity` (RFC 8827 section 5) as text.
    Identity(String),
    /// `mid` (RFC 5888 section 4).
    Mid(String),
    /// `bundle-only` (RFC 9143 section 6).
    BundleOnly,
    /// `sendrecv`, `sendonly`, `recvonly`, `inactive` (RFC 8866 section 6.7).
    Direction(Direction),
    /// `msid` (RFC 8830 section 2).
    Msid(Msid),
    /// `rtcp-mux` (RFC 5761 section 5.1.1).
    RtcpMux,
    /// `rtcp-mux-only` (RFC 8858 section 3).
    RtcpMuxOnly,
    /// `rtcp-rsize` (RFC 5506 section 5).
    RtcpRsize,
    /// `rtcp` (RFC 3605 section 2.1).
    Rtcp(RtcpAddress),
    /// `rtcp-xr` (RFC 3611 section 5) as text.
    RtcpXr(String),
    /// `rtpmap` (RFC 8866 section 6.6).
    RtpMap(RtpMap),
    /// `fmtp` (RFC 8866 section 6.15).
    Fmtp(Fmtp),
    /// `rtcp-fb` (RFC 4585 section 4.2).
    RtcpFb(RtcpFb),
    /// `extmap` (RFC 8285 section 5).
    ExtMap(ExtMap),
    /// `ptime` in milliseconds (RFC 8866 section 6.4).
    PTime(u32),
    /// `maxptime` in milliseconds (RFC 8866 section 6.5).
    MaxPTime(u32),
    /// `ssrc` (RFC 5576 section 4.1).
    Ssrc(Ssrc),
    /// `ssrc-group` (RFC 5576 section 4.2).
    SsrcGroup(SsrcGroup),
    /// `rid` (RFC 8851 section 4).
    Rid(Rid),
    /// `simulcast` (RFC 8853 section 5.1).
    Simulcast(Simulcast),
    /// `sctp-port` (RFC 8841 section 5).
    SctpPort(u16),
    /// `max-message-size` in bytes, 0 for no limit (RFC 8841 section 6).
    MaxMessageSize(u64),
    /// `sctpmap`, from drafts before RFC 8841.
    SctpMap(SctpMap),
    /// `sctp-init`: an INIT chunk, in base64 in the text (draft-hancke-tsvwg-snap).
    SctpInit(Vec<u8>),
    /// `cryptex` (RFC 9335 section 4).
    Cryptex,
    /// `sframe` (draft-ietf-avtcore-rtp-sframe section 6), with the text behind it.
    SFrame(Option<String>),
    /// Anything else: kept for inspection, never echoed in an answer.
    Other {
        /// The name before the colon.
        name: String,
        /// The text behind the colon; `None` where there is no colon.
        value: Option<String>,
    },
}

impl Attribute {
    /// Parses what stands behind `a=`.
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let name = cursor.until(|c| c == ':');
        if name.is_empty() {
            return Err(cursor.bad("the attribute's name"));
        }
        if !cursor.take(':') {
            return Ok(Self::flag(name));
        }
        Ok(match name {
            "group" => Self::Group(Group::parse(cursor)?),
            "msid-semantic" => Self::MsidSemantic(MsidSemantic(cursor.rest().into())),
            "ice-options" => Self::IceOptions(words(cursor)),
            "ice-ufrag" => Self::IceUfrag(credential(cursor, 4, "the ICE user fragment")?),
            "ice-pwd" => Self::IcePwd(credential(cursor, 22, "the ICE password")?),
            "ice-pacing" => Self::IcePacing(whole_number(cursor, "the ICE pacing")?),
            "candidate" => Self::Candidate(cursor.text("the candidate")?.into()),
            "remote-candidates" => Self::RemoteCandidates(cursor.text("the candidates")?.into()),
            "fingerprint" => Self::Fingerprint(Fingerprint::parse(cursor)?),
            "setup" => Self::Setup(Setup::parse(cursor)?),
            "connection" => Self::Connection(ConnectionReuse::parse(cursor)?),
            "tls-id" => Self::TlsId(cursor.text("the TLS id")?.into()),
            "identity" => Self::Identity(cursor.text("the identity")?.into()),
            "mid" => {
                let mid = cursor.word("the mid")?.into();
                cursor.end("the mid")?;
                Self::Mid(mid)
            }
            "msid" => Self::Msid(Msid::parse(cursor)?),
            "rtcp" => Self::Rtcp(RtcpAddress::parse(cursor)?),
            "rtcp-xr" => Self::RtcpXr(cursor.rest().into()),
            "rtpmap" => Self::RtpMap(RtpMap::parse(cursor)?),
            "fmtp" => Self::Fmtp(Fmtp::parse(cursor)?),
            "rtcp-fb" => Self::RtcpFb(RtcpFb::parse(cursor)?),
            "extmap" => Self::ExtMap(ExtMap::parse(cursor)?),
            "ptime" => Self::PTime(milliseconds(cursor, "the packet time")?),
            "maxptime" => Self::MaxPTime(milliseconds(cursor, "the packet time")?),
            "ssrc" => Self::Ssrc(Ssrc::parse(cursor)?),
            "ssrc-group" => Self::SsrcGroup(SsrcGroup::parse(cursor)?),
            "rid" => Self::Rid(Rid::parse(cursor)?),
            "simulcast" => Self::Simulcast(Simulcast::parse(cursor)?),
            "sctp-port" => Self::SctpPort(whole_number(cursor, "the SCTP port")?),
            "max-message-size" => {
                Self::MaxMessageSize(whole_number(cursor, "the largest message")?)
            }
            "sctpmap" => Self::SctpMap(SctpMap::parse(cursor)?),
            "sctp-init" => {
                let place = cursor.clone();
                let text = cursor.word("the INIT chunk")?;
                let chunk = BASE64
                    .decode(text)
                    .map_err(|_| place.bad("the INIT chunk"))?;
                cursor.end("the INIT chunk")?;
                Self::SctpInit(chunk)
            }
            "sframe" => Self::SFrame(Some(cursor.rest().into())),
            _ => Self::Other {
                name: name.into(),
                value: Some(cursor.rest().into()),
            },
        })
    }

    fn flag(name: &str) -> Self {
        match name {
            "extmap-allow-mixed" => Self::ExtmapAllowMixed,
            "ice-lite" => Self::IceLite,
            "end-of-candidates" => Self::EndOfCandidates,
            "bundle-only" => Self::BundleOnly,
            "sendrecv" => Self::Direction(Direction::SendRecv),
            "sendonly" => Self::Direction(Direction::SendOnly),
            "recvonly" => Self::Direction(Direction::RecvOnly),
            "inactive" => Self::Direction(Direction::Inactive),
            "rtcp-mux" => Self::RtcpMux,
            "rtcp-mux-only" => Self::RtcpMuxOnly,
            "rtcp-rsize" => Self::RtcpRsize,
            "cryptex" => Self::Cryptex,
            "sframe" => Self::SFrame(None),
            _ => Self::Other {
                name: name.into(),
                value: None,
            },
        }
    }
}

/// Padding is written, and read whether it is there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn words(cursor: &mut Cursor<'_>) -> Vec<String> {
    cursor.rest().split_whitespace().map(Into::into).collect()
}

fn whole_number<T: std::str::FromStr>(
    cursor: &mut Cursor<'_>,
    what: &'static str,
) -> Result<T, ParseError> {
    cursor.skip_spaces();
    let number = cursor.number(what)?;
    cursor.end(what)?;
    Ok(number)
}

/// RFC 8866 allows fractions in `ptime`; nobody uses them, and browsers cut them off.
fn milliseconds(cursor: &mut Cursor<'_>, what: &'static str) -> Result<u32, ParseError> {
    cursor.skip_spaces();
    let number = cursor.number(what)?;
    if cursor.take('.') {
        cursor.digits(what)?;
    }
    cursor.end(what)?;
    Ok(number)
}

/// RFC 8839 section 5.4 allows letters, digits, `+` and `/`; peers have sent more than that.
fn credential(
    cursor: &mut Cursor<'_>,
    least: usize,
    what: &'static str,
) -> Result<String, ParseError> {
    let place = cursor.clone();
    let text = cursor.word(what)?;
    if !(least..=256).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(place.bad(what));
    }
    cursor.end(what)?;
    Ok(text.into())
}

impl fmt::Display for Attribute {
    /// What stands behind `a=`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => write!(f, "group:{group}"),
            Self::ExtmapAllowMixed => f.write_str("extmap-allow-mixed"),
            Self::MsidSemantic(semantic) => write!(f, "msid-semantic:{}", semantic.0),
            Self::IceLite => f.write_str("ice-lite"),
            Self::IceOptions(options) => write!(f, "ice-options:{}", options.join(" ")),
            Self::IceUfrag(ufrag) => write!(f, "ice-ufrag:{ufrag}"),
            Self::IcePwd(pwd) => write!(f, "ice-pwd:{pwd}"),
            Self::IcePacing(pacing) => write!(f, "ice-pacing:{pacing}"),
            Self::Candidate(candidate) => write!(f, "candidate:{candidate}"),
            Self::RemoteCandidates(candidates) => write!(f, "remote-candidates:{candidates}"),
            Self::EndOfCandidates => f.write_str("end-of-candidates"),
            Self::Fingerprint(fingerprint) => write!(f, "fingerprint:{fingerprint}"),
            Self::Setup(setup) => write!(f, "setup:{setup}"),
            Self::Connection(reuse) => write!(f, "connection:{reuse}"),
            Self::TlsId(id) => write!(f, "tls-id:{id}"),
            Self::Identity(identity) => write!(f, "identity:{identity}"),
            Self::Mid(mid) => write!(f, "mid:{mid}"),
            Self::BundleOnly => f.write_str("bundle-only"),
            Self::Direction(direction) => write!(f, "{direction}"),
            Self::Msid(msid) => write!(f, "msid:{msid}"),
            Self::RtcpMux => f.write_str("rtcp-mux"),
            Self::RtcpMuxOnly => f.write_str("rtcp-mux-only"),
            Self::RtcpRsize => f.write_str("rtcp-rsize"),
            Self::Rtcp(rtcp) => write!(f, "rtcp:{rtcp}"),
            Self::RtcpXr(xr) => write!(f, "rtcp-xr:{xr}"),
            Self::RtpMap(map) => write!(f, "rtpmap:{map}"),
            Self::Fmtp(fmtp) => write!(f, "fmtp:{fmtp}"),
            Self::RtcpFb(feedback) => write!(f, "rtcp-fb:{feedback}"),
            Self::ExtMap(map) => write!(f, "extmap:{map}"),
            Self::PTime(ptime) => write!(f, "ptime:{ptime}"),
            Self::MaxPTime(ptime) => write!(f, "maxptime:{ptime}"),
            Self::Ssrc(ssrc) => write!(f, "ssrc:{ssrc}"),
            Self::SsrcGroup(group) => write!(f, "ssrc-group:{group}"),
            Self::Rid(rid) => write!(f, "rid:{rid}"),
            Self::Simulcast(simulcast) => write!(f, "simulcast:{simulcast}"),
            Self::SctpPort(port) => write!(f, "sctp-port:{port}"),
            Self::MaxMessageSize(size) => write!(f, "max-message-size:{size}"),
            Self::SctpMap(map) => write!(f, "sctpmap:{map}"),
            Self::SctpInit(chunk) => write!(f, "sctp-init:{}", BASE64.encode(chunk)),
            Self::Cryptex => f.write_str("cryptex"),
            Self::SFrame(None) => f.write_str("sframe"),
            Self::SFrame(Some(value)) => write!(f, "sframe:{value}"),
            Self::Other { name, value: None } => f.write_str(name),
            Self::Other {
                name,
                value: Some(value),
            } => write!(f, "{name}:{value}"),
        }
    }
}

/// Which way media flows, seen from the sender of the description (RFC 8866 section 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways. What holds where nothing is written.
    #[default]
    SendRecv,
    /// Only from the sender of the description.
    SendOnly,
    /// Only to the sender of the description.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// The direction with these two flows.
    pub const fn new(send: bool, receive: bool) -> Self {
        match (send, receive) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    /// Whether the sender of the description sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the sender of the description receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flows seen from the other end.
    pub const fn reversed(self) -> Self {
        Self::new(self.receives(), self.sends())
    }

    /// The flows that both allow.
    pub const fn intersection(self, other: Self) -> Self {
        Self::new(
            self.sends() && other.sends(),
            self.receives() && other.receives(),
        )
    }

    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let place = cursor.clone();
        match cursor.token("the direction")? {
            "sendrecv" => Ok(Self::SendRecv),
            "sendonly" => Ok(Self::SendOnly),
            "recvonly" => Ok(Self::RecvOnly),
            "inactive" => Ok(Self::Inactive),
            _ => Err(place.bad("the direction")),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        })
    }
}

/// `a=group`: media sections that belong together (RFC 5888 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// `BUNDLE`, `LS`, `FID` …
    pub semantics: String,
    /// The sections' mids, in order.
    pub mids: Vec<String>,
}

impl Group {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let semantics = cursor.token("the group's semantics")?.into();
        if !cursor.is_at_end() {
            cursor.space("the mid")?;
        }
        Ok(Self {
            semantics,
            mids: words(cursor),
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.semantics)?;
        self.mids.iter().try_for_each(|mid| write!(f, " {mid}"))
    }
}

/// `a=connection`: whether an answer wants a new connection (RFC 4145 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionReuse {
    /// A new one.
    New,
    /// The one that is there.
    Existing,
}

impl ConnectionReuse {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let place = cursor.clone();
        let reuse = match cursor.token("`new` or `existing`")? {
            "new" => Self::New,
            "existing" => Self::Existing,
            _ => return Err(place.bad("`new` or `existing`")),
        };
        cursor.end("the connection")?;
        Ok(reuse)
    }
}

impl fmt::Display for ConnectionReuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Existing => "existing",
        })
    }
}

/// `a=rtcp`: where RTCP would go without multiplexing (RFC 3605 section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RtcpAddress {
    /// The port.
    pub port: u16,
    /// The address, where it is written.
    pub address: Option<Connection>,
}

impl RtcpAddress {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let port = cursor.number("the RTCP port")?;
        cursor.skip_spaces();
        let address = match cursor.is_at_end() {
            true => None,
            false => Some(Connection::parse(cursor)?),
        };
        Ok(Self { port, address })
    }
}

impl fmt::Display for RtcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.port)?;
        match &self.address {
            Some(address) => write!(f, " {address}"),
            None => Ok(()),
        }
    }
}

/// `a=sctpmap`, from drafts before RFC 8841: `5000 webrtc-datachannel 1024`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SctpMap {
    /// The SCTP port.
    pub port: u16,
    /// `webrtc-datachannel`.
    pub application: String,
    /// Streams, where they are written.
    pub streams: Option<u32>,
}

impl SctpMap {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let port = cursor.number("the SCTP port")?;
        cursor.space("the application")?;
        let application = cursor.word("the application")?.into();
        cursor.skip_spaces();
        let streams = match cursor.is_at_end() {
            true => None,
            false => Some(cursor.number("the number of streams")?),
        };
        cursor.end("the number of streams")?;
        Ok(Self {
            port,
            application,
            streams,
        })
    }
}

impl fmt::Display for SctpMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.port, self.application)?;
        match self.streams {
            Some(streams) => write!(f, " {streams}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    fn parse(text: &str) -> Result<Attribute, ParseError> {
        Attribute::parse(&mut Cursor::alone(text))
    }

    /// Each of these prints again as it was written.
    #[test]
    fn known_attributes_round_trip() {
        for text in [
            "group:BUNDLE a b",
            "group:BUNDLE",
            "extmap-allow-mixed",
            "msid-semantic: WMS stream",
            "msid-semantic:WMS *",
            "ice-lite",
            "ice-options:trickle renomination goog-sped-v1",
            "ice-pacing:50",
            "candidate:1 1 udp 2122260223 192.0.2.1 5000 typ host",
            "remote-candidates:1 192.0.2.1 5000",
            "fingerprint:sha-1 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13",
            "fingerprint:blake3 AB",
            "setup:actpass",
            "connection:new",
            "tls-id:abc3de65cddef001be82",
            "mid:audio",
            "msid:stream track",
            "msid:- track",
            "msid:stream",
            "rtcp:9",
            "rtcp:52053 IN IP6 ::1",
            "rtcp-xr:rcvr-rtt=all",
            "rtpmap:109 opus/48000/2",
            "rtpmap:9 G722/8000/1",
            "fmtp:101 0-15",
            "fmtp:63 111/111",
            "rtcp-fb:* ack ccfb",
            "rtcp-fb:96 nack pli",
            "rtcp-fb:96 trr-int 100",
            "extmap:2/recvonly urn:ietf:params:rtp-hdrext:csrc-audio-level",
            "extmap:3 urn:ietf:params:rtp-hdrext:encrypt urn:x",
            "ptime:20",
            "ssrc:1 cname:a b",
            "ssrc:1 flag",
            "ssrc-group:FID 1 2",
            "rid:a send",
            "rid:a recv pt=96,97;max-width=1280;depend=b",
            "rid:a send max-fps=30",
            "simulcast:send 1,~4;2 recv 6",
            "simulcast:recv a",
            "sctp-port:5000",
            "max-message-size:0",
            "sctpmap:5000 webrtc-datachannel 1024",
            "sctp-init:AQAAHhdTOkUAUAAA/////564kXXAAAAEgAgABoLA",
            "cryptex",
            "sframe",
            "x-google-flag:conference",
            "unknown",
            "empty:",
        ] {
            let attribute = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(attribute.to_string(), text);
            let is_unknown = matches!(attribute, Attribute::Other { .. });
            let meant_unknown = ["x-google", "unknown", "empty"]
                .iter()
                .any(|name| text.starts_with(name));
            assert_eq!(is_unknown, meant_unknown, "{text}");
        }
    }

    #[test]
    fn errors_name_the_column_and_the_reason() {
        for (text, column, reason) in [
            ("mid:", 5, Reason::Missing { what: "the mid" }),
            (
                "rtpmap:128 x/1",
                8,
                Reason::Invalid {
                    what: "the payload type",
                },
            ),
            (
                "rtpmap:96 VP8",
                14,
                Reason::Missing {
                    what: "the clock rate",
                },
            ),
            (
                "setup:both",
                7,
                Reason::Invalid {
                    what: "the setup role",
                },
            ),
            (
                "fingerprint:sha-256 AA:BB",
                21,
                Reason::Invalid {
                    what: "the certificate's digest",
                },
            ),
            (
                "ice-pwd:short",
                9,
                Reason::Invalid {
                    what: "the ICE password",
                },
            ),
            (
                "extmap:4/sideways urn:x",
                10,
                Reason::Invalid {
                    what: "the direction",
                },
            ),
            (
                "sctp-port:70000",
                11,
                Reason::Invalid {
                    what: "the SCTP port",
                },
            ),
            ("simulcast:send a;", 18, Reason::Invalid { what: "the rid" }),
            (
                "ssrc:4294967296 cname:x",
                6,
                Reason::Invalid { what: "the SSRC" },
            ),
            (
                "sctp-init:!!",
                11,
                Reason::Invalid {
                    what: "the INIT chunk",
                },
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.column, &error.reason), (column, &reason), "{text}");
        }
    }
}
