//! Attributes that say what an RTP stream carries: `rtpmap`, `fmtp`, `rtcp-fb`, `extmap`.

use std::fmt;

use crate::cursor::Cursor;
use crate::{Direction, ParseError};

/// `a=rtpmap`: what a payload type means (RFC 8866 section 6.6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RtpMap {
    /// 0 to 127.
    pub payload_type: u8,
    /// The encoding name as written. Names compare without case.
    pub encoding: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels, where they are written.
    pub channels: Option<u16>,
}

impl RtpMap {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let payload_type = payload_type(cursor)?;
        cursor.space("the encoding name")?;
        let encoding = cursor.until(|c| c == '/' || c == ' ');
        if encoding.is_empty() {
            return Err(cursor.bad("the encoding name"));
        }
        cursor.expect('/', "the clock rate")?;
        let clock_rate = cursor.number("the clock rate")?;
        let channels = match cursor.take('/') {
            true => Some(cursor.number("the number of channels")?),
            false => None,
        };
        cursor.end("the payload type's mapping")?;
        Ok(Self {
            payload_type,
            encoding: encoding.into(),
            clock_rate,
            channels,
        })
    }
}

impl fmt::Display for RtpMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}/{}",
            self.payload_type, self.encoding, self.clock_rate
        )?;
        match self.channels {
            Some(channels) => write!(f, "/{channels}"),
            None => Ok(()),
        }
    }
}

/// `a=fmtp`: parameters of a format (RFC 8866 section 6.15).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fmtp {
    /// The format; for RTP a payload type in decimal.
    pub format: String,
    /// The parameters as written: `a=1;b=2` for most formats, `0-15` for telephone-event,
    /// `111/111` for red.
    pub parameters: String,
}

impl Fmtp {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let format = cursor.word("the format")?;
        cursor.space("the format's parameters")?;
        Ok(Self {
            format: format.into(),
            parameters: cursor.text("the format's parameters")?.into(),
        })
    }

    /// The format as an RTP payload type.
    pub fn payload_type(&self) -> Option<u8> {
        self.format.parse().ok().filter(|&pt| pt < 128)
    }

    /// The `name=value` pairs in the parameters, in order, spaces around them removed. A
    /// parameter without `=` has an empty value.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.parameters)
    }

    /// The value of one parameter; names compare without case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// The `name=value` pairs of a semicolon-separated list.
pub(crate) fn pairs(parameters: &str) -> impl Iterator<Item = (&str, &str)> {
    parameters
        .split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => (pair, ""),
        })
}

impl fmt::Display for Fmtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.format, self.parameters)
    }
}

/// `a=rtcp-fb`: feedback that a payload type may use (RFC 4585 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RtcpFb {
    /// The payload type; `None` for `*`, all of the section.
    pub payload_type: Option<u8>,
    /// `nack`, `ccm`, `transport-cc`, `goog-remb`, `ack`, `trr-int` …
    pub kind: String,
    /// What follows the kind: `pli` after `nack`, `fir` after `ccm`, `ccfb` after `ack`.
    pub parameter: Option<String>,
}

impl RtcpFb {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let payload_type = match cursor.take('*') {
            true => None,
            false => Some(payload_type(cursor)?),
        };
        cursor.space("the kind of feedback")?;
        let kind = cursor.word("the kind of feedback")?;
        cursor.skip_spaces();
        let rest = cursor.rest().trim_end_matches(' ');
        Ok(Self {
            payload_type,
            kind: kind.into(),
            parameter: (!rest.is_empty()).then(|| rest.into()),
        })
    }

    /// Kind and parameter as one text, such as `nack pli`.
    pub fn feedback(&self) -> String {
        match &self.parameter {
            Some(parameter) => format!("{} {parameter}", self.kind),
            None => self.kind.clone(),
        }
    }
}

impl fmt::Display for RtcpFb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.payload_type {
            Some(payload_type) => write!(f, "{payload_type} {}", self.kind)?,
            None => write!(f, "* {}", self.kind)?,
        }
        match &self.parameter {
            Some(parameter) => write!(f, " {parameter}"),
            None => Ok(()),
        }
    }
}

/// `a=extmap`: the number of an RTP header extension (RFC 8285 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExtMap {
    /// 1 to 14 in one-byte headers, up to 255 in two-byte headers, 4096 to 4351 where the offerer
    /// leaves the choice to the answerer.
    pub id: u16,
    /// The direction, where it is written.
    pub direction: Option<Direction>,
    /// What the extension is.
    pub uri: String,
    /// Attributes that the extension defines, as written.
    pub attributes: Option<String>,
}

impl ExtMap {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let id = cursor.number("the extension's number")?;
        if id == 0 {
            return Err(cursor.error(crate::Reason::Invalid {
                what: "the extension's number",
            }));
        }
        let direction = match cursor.take('/') {
            true => Some(Direction::parse(cursor)?),
            false => None,
        };
        cursor.space("the extension's URI")?;
        let uri = cursor.word("the extension's URI")?;
        cursor.skip_spaces();
        let rest = cursor.rest().trim_end_matches(' ');
        Ok(Self {
            id,
            direction,
            uri: uri.into(),
            attributes: (!rest.is_empty()).then(|| rest.into()),
        })
    }
}

impl fmt::Display for ExtMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if let Some(direction) = self.direction {
            write!(f, "/{direction}")?;
        }
        write!(f, " {}", self.uri)?;
        match &self.attributes {
            Some(attributes) => write!(f, " {attributes}"),
            None => Ok(()),
        }
    }
}

fn payload_type(cursor: &mut Cursor<'_>) -> Result<u8, ParseError> {
    let place = cursor.clone();
    match cursor.number("the payload type")? {
        payload_type @ 0..=127 => Ok(payload_type),
        _ => Err(place.bad("the payload type")),
    }
}
