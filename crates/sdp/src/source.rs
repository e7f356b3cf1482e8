//! Attributes that name sources and the streams they belong to: `ssrc`, `ssrc-group`, `msid`,
//! `msid-semantic`.

use std::fmt;

use crate::ParseError;
use crate::cursor::Cursor;

/// `a=ssrc`: one attribute of one source (RFC 5576 section 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ssrc {
    /// The source.
    pub ssrc: u32,
    /// `cname`, `msid`, or another attribute.
    pub attribute: String,
    /// The attribute's value, where it has one.
    pub value: Option<String>,
}

impl Ssrc {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let ssrc = cursor.number("the SSRC")?;
        cursor.space("the source's attribute")?;
        let attribute = cursor.token("the source's attribute")?;
        let value = match cursor.take(':') {
            true => Some(cursor.rest().into()),
            false => None,
        };
        cursor.end("the source's attribute")?;
        Ok(Self {
            ssrc,
            attribute: attribute.into(),
            value,
        })
    }
}

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.ssrc, self.attribute)?;
        match &self.value {
            Some(value) => write!(f, ":{value}"),
            None => Ok(()),
        }
    }
}

/// `a=ssrc-group`: sources that belong together (RFC 5576 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SsrcGroup {
    /// `FID` (stream and its retransmission), `FEC-FR`, `SIM` (legacy simulcast) …
    pub semantics: String,
    /// The sources, in order.
    pub ssrcs: Vec<u32>,
}

impl SsrcGroup {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let semantics = cursor.token("the group's semantics")?.into();
        let mut ssrcs = Vec::new();
        loop {
            cursor.skip_spaces();
            if cursor.is_at_end() {
                break;
            }
            ssrcs.push(cursor.number("the SSRC")?);
            if !cursor.is_at_end() {
                cursor.space("the SSRC")?;
            }
        }
        Ok(Self { semantics, ssrcs })
    }
}

impl fmt::Display for SsrcGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.semantics)?;
        self.ssrcs.iter().try_for_each(|ssrc| write!(f, " {ssrc}"))
    }
}

/// `a=msid`: the MediaStream and the track of a media section (RFC 8830 section 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Msid {
    /// The stream's id; `-` where the track belongs to none.
    pub stream: String,
    /// The track's id ("appdata"), where it is written.
    pub track: Option<String>,
}

impl Msid {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let stream = cursor.word("the stream's id")?.into();
        cursor.skip_spaces();
        let track = match cursor.is_at_end() {
            true => None,
            false => Some(cursor.word("the track's id")?.into()),
        };
        cursor.end("the track's id")?;
        Ok(Self { stream, track })
    }

    /// The stream's id; `None` where the track belongs to no stream.
    pub fn stream_id(&self) -> Option<&str> {
        (self.stream != "-").then_some(&self.stream)
    }
}

impl fmt::Display for Msid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stream)?;
        match &self.track {
            Some(track) => write!(f, " {track}"),
            None => Ok(()),
        }
    }
}

/// `a=msid-semantic`: a leftover of drafts before RFC 8830, which browsers still send.
///
/// Kept as written, since one browser writes a space behind the colon and the other none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MsidSemantic(pub String);

impl MsidSemantic {
    /// The semantic, `WMS` for WebRTC.
    pub fn semantic(&self) -> &str {
        self.0.split_whitespace().next().unwrap_or_default()
    }

    /// The streams that follow; `*` for all.
    pub fn streams(&self) -> impl Iterator<Item = &str> {
        self.0.split_whitespace().skip(1)
    }
}
