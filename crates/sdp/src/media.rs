//! One media section: an `m=` line and what follows it.

use std::fmt;

use crate::cursor::Cursor;
use crate::session::{Line, line};
use crate::{Attribute, Attributes, Bandwidth, Connection, Direction, ParseError};

/// What a media section carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MediaKind {
    /// `audio`.
    Audio,
    /// `video`.
    Video,
    /// `application`: data channels.
    Application,
    /// Anything else (`text`, `message`, `image` …).
    Other(String),
}

impl MediaKind {
    /// The name as it stands in SDP.
    pub fn name(&self) -> &str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Application => "application",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for MediaKind {
    fn from(name: &str) -> Self {
        match name {
            "audio" => Self::Audio,
            "video" => Self::Video,
            "application" => Self::Application,
            other => Self::Other(other.into()),
        }
    }
}

/// A media section (RFC 8866 section 5.14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// What it carries.
    pub kind: MediaKind,
    /// The transport port: 0 where the section is rejected or bundle-only, 9 where ICE decides.
    pub port: u16,
    /// Number of ports, where it is written.
    pub port_count: Option<u16>,
    /// `UDP/TLS/RTP/SAVPF`, `UDP/DTLS/SCTP` …
    pub protocol: String,
    /// The formats in order of preference; for RTP payload types in decimal.
    pub formats: Vec<String>,
    /// `i=`.
    pub information: Option<String>,
    /// `c=`.
    pub connections: Vec<Connection>,
    /// `b=`.
    pub bandwidths: Vec<Bandwidth>,
    /// `k=`, obsolete.
    pub key: Option<String>,
    /// `a=`.
    pub attributes: Attributes,
}

impl Media {
    /// A section without formats and attributes, at port 9 of no address (RFC 9429 section 5.2.1).
    pub fn new(kind: MediaKind, protocol: impl Into<String>) -> Self {
        Self {
            kind,
            port: 9,
            port_count: None,
            protocol: protocol.into(),
            formats: Vec::new(),
            information: None,
            connections: vec![Connection::unspecified()],
            bandwidths: Vec::new(),
            key: None,
            attributes: Attributes::default(),
        }
    }

    /// Whether the section is rejected or stopped: port 0 and not bundle-only.
    pub fn is_rejected(&self) -> bool {
        self.port == 0 && !self.attributes.has_bundle_only()
    }

    /// Whether the section carries RTP.
    pub fn is_rtp(&self) -> bool {
        self.protocol.contains("RTP/")
    }

    /// Whether the section carries data channels, in any of the forms that were ever in use.
    pub fn is_data_channel(&self) -> bool {
        self.kind == MediaKind::Application
            && self.protocol.contains("SCTP")
            && (self
                .formats
                .iter()
                .any(|format| format == "webrtc-datachannel")
                || self.sctp_map_port().is_some())
    }

    /// The SCTP port: of `sctp-port`, or of an old `sctpmap`, or the format of an old
    /// `DTLS/SCTP 5000` line.
    pub fn sctp_port(&self) -> Option<u16> {
        self.attributes.sctp_port().or_else(|| self.sctp_map_port())
    }

    fn sctp_map_port(&self) -> Option<u16> {
        let mapped = self
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                Attribute::SctpMap(map) => Some(map.port),
                _ => None,
            });
        mapped.or_else(|| match &*self.protocol {
            "DTLS/SCTP" => self.formats.first()?.parse().ok(),
            _ => None,
        })
    }

    /// The section's direction; `sendrecv` where none is written.
    pub fn direction(&self) -> Direction {
        self.attributes.direction().unwrap_or_default()
    }

    /// The formats that are payload types, in order of preference.
    pub fn payload_types(&self) -> impl Iterator<Item = u8> {
        self.formats
            .iter()
            .filter_map(|format| format.parse().ok())
            .filter(|&pt| pt < 128)
    }

    /// Whether sources of several tracks stand in this one section, as in Plan B, the form of
    /// descriptions that browsers removed in 2022.
    pub fn is_plan_b(&self) -> bool {
        let mut tracks = self
            .attributes
            .ssrcs()
            .filter(|ssrc| ssrc.attribute == "msid")
            .filter_map(|ssrc| ssrc.value.as_deref()?.split_whitespace().nth(1));
        match tracks.next() {
            Some(first) => tracks.any(|track| track != first),
            None => false,
        }
    }

    /// Parses what stands behind `m=`.
    pub(crate) fn parse_line(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let kind = MediaKind::from(cursor.token("the kind of media")?);
        cursor.space("the port")?;
        let port = cursor.number("the port")?;
        let port_count = match cursor.take('/') {
            true => Some(cursor.number("the number of ports")?),
            false => None,
        };
        cursor.space("the protocol")?;
        let protocol = cursor.word("the protocol")?;
        let mut media = Self::new(kind, protocol);
        media.connections.clear();
        media.port = port;
        media.port_count = port_count;
        cursor.space("the format")?;
        while !cursor.is_at_end() {
            media.formats.push(cursor.word("the format")?.into());
            cursor.skip_spaces();
        }
        if media.formats.is_empty() {
            return Err(cursor.bad("the format"));
        }
        Ok(media)
    }

    /// Takes in a line that belongs to the section. The lines may stand in any order, as browsers
    /// allow.
    pub(crate) fn take(&mut self, line: Line<'_>) -> Result<(), ParseError> {
        let mut cursor = line.value;
        match line.kind {
            'i' => self.information = Some(cursor.rest().into()),
            'c' => self.connections.push(Connection::parse(&mut cursor)?),
            'b' => self.bandwidths.push(Bandwidth::parse(&mut cursor)?),
            'k' => self.key = Some(cursor.rest().into()),
            'a' => self.attributes.push(Attribute::parse(&mut cursor)?),
            found => return Err(cursor.unexpected(found, "`i`, `c`, `b`, `k`, `a` or `m`")),
        }
        Ok(())
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {}", self.kind.name(), self.port)?;
        if let Some(count) = self.port_count {
            write!(f, "/{count}")?;
        }
        write!(f, " {}", self.protocol)?;
        for format in &self.formats {
            write!(f, " {format}")?;
        }
        f.write_str("\r\n")?;
        line(f, 'i', &self.information)?;
        line(f, 'c', &self.connections)?;
        line(f, 'b', &self.bandwidths)?;
        line(f, 'k', &self.key)?;
        line(f, 'a', &self.attributes.0)
    }
}
