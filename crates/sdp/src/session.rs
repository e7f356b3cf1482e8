//! A whole description: the session part and its media sections.

use std::fmt;
use std::str::FromStr;

use crate::cursor::Cursor;
use crate::{Attribute, Attributes, Limits, Media, ParseError, Reason};

/// A session description (RFC 8866).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDescription {
    /// `o=`.
    pub origin: Origin,
    /// `s=`.
    pub name: String,
    /// `i=`.
    pub information: Option<String>,
    /// `u=`.
    pub uri: Option<String>,
    /// `e=`.
    pub emails: Vec<String>,
    /// `p=`.
    pub phones: Vec<String>,
    /// `c=`.
    pub connection: Option<Connection>,
    /// `b=`.
    pub bandwidths: Vec<Bandwidth>,
    /// `t=`, each with its `r=` and `z=`.
    pub timings: Vec<Timing>,
    /// `k=`, obsolete.
    pub key: Option<String>,
    /// `a=` before the first media section.
    pub attributes: Attributes,
    /// The media sections.
    pub media: Vec<Media>,
}

impl SessionDescription {
    /// Gives back the room that its lists do not use, for a description that is kept.
    pub fn shrink_to_fit(&mut self) {
        self.attributes.shrink_to_fit();
        self.media.shrink_to_fit();
        for media in &mut self.media {
            media.attributes.shrink_to_fit();
            media.formats.shrink_to_fit();
        }
    }

    /// A description without attributes and media, as RFC 9429 section 5.2.1 begins one.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            name: "-".into(),
            information: None,
            uri: None,
            emails: Vec::new(),
            phones: Vec::new(),
            connection: None,
            bandwidths: Vec::new(),
            timings: vec![Timing::default()],
            key: None,
            attributes: Attributes::default(),
            media: Vec::new(),
        }
    }

    /// Parses a description within the default [`Limits`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_within(text, &Limits::default())
    }

    /// Parses a description. Lines may end in CRLF or LF.
    pub fn parse_within(text: &str, limits: &Limits) -> Result<Self, ParseError> {
        let mut lines = Lines::new(text, limits)?;
        lines.expect_version()?;
        let origin = Origin::parse(&mut lines.expect('o', "`o`")?)?;
        let mut description = Self::new(origin);
        description.name = lines.expect('s', "`s`")?.rest().into();
        description.timings.clear();

        // RFC 8866 section 5 fixes the order; `stage` is the place of the latest line in it.
        let mut stage = 0;
        while let Some(line) = lines.next()? {
            let mut cursor = line.value.clone();
            match ORDER.find(line.kind) {
                Some(place) if place >= stage || line.kind == 'm' => stage = place,
                _ => return Err(cursor.unexpected(line.kind, ORDER_TEXT)),
            }
            match line.kind {
                'i' => description.information = Some(cursor.rest().into()),
                'u' => description.uri = Some(cursor.rest().into()),
                'e' => description.emails.push(cursor.rest().into()),
                'p' => description.phones.push(cursor.rest().into()),
                'c' => description.connection = Some(Connection::parse(&mut cursor)?),
                'b' => description.bandwidths.push(Bandwidth::parse(&mut cursor)?),
                't' => description.timings.push(Timing::parse(&mut cursor)?),
                'r' | 'z' => match description.timings.last_mut() {
                    Some(timing) if line.kind == 'r' => timing.repeats.push(cursor.rest().into()),
                    Some(timing) => timing.zones = Some(cursor.rest().into()),
                    None => return Err(cursor.unexpected(line.kind, "`t`")),
                },
                'k' => description.key = Some(cursor.rest().into()),
                'a' => description.attributes.push(Attribute::parse(&mut cursor)?),
                _ => {
                    description.media = lines.media(line)?;
                    break;
                }
            }
            if matches!(line.kind, 'r' | 'z') {
                // A further `t=` may follow the `r=` and `z=` of this one.
                stage = ORDER.find('t').unwrap_or(stage);
            }
        }
        if description.timings.is_empty() {
            return Err(lines.missing("the `t=` line"));
        }
        Ok(description)
    }

    /// Whether a section holds the sources of several tracks ([`Media::is_plan_b`]).
    pub fn is_plan_b(&self) -> bool {
        self.media.iter().any(Media::is_plan_b)
    }

    /// The section with this mid.
    pub fn media_by_mid(&self, mid: &str) -> Option<&Media> {
        self.media
            .iter()
            .find(|media| media.attributes.mid() == Some(mid))
    }

    /// The BUNDLE groups: the mids of each (RFC 9143).
    pub fn bundle_groups(&self) -> impl Iterator<Item = &[String]> {
        self.attributes
            .groups()
            .filter(|group| group.semantics == "BUNDLE")
            .map(|group| group.mids.as_slice())
    }
}

/// The order of the lines behind `s=` (RFC 8866 section 5).
const ORDER: &str = "iuepcbtrzkam";
const ORDER_TEXT: &str = "the order i, u, e, p, c, b, t, r, z, k, a, m";

impl FromStr for SessionDescription {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=0\r\no={}\r\ns={}\r\n", self.origin, self.name)?;
        line(f, 'i', &self.information)?;
        line(f, 'u', &self.uri)?;
        line(f, 'e', &self.emails)?;
        line(f, 'p', &self.phones)?;
        line(f, 'c', &self.connection)?;
        line(f, 'b', &self.bandwidths)?;
        for timing in &self.timings {
            write!(f, "t={} {}\r\n", timing.start, timing.stop)?;
            line(f, 'r', &timing.repeats)?;
            line(f, 'z', &timing.zones)?;
        }
        line(f, 'k', &self.key)?;
        line(f, 'a', &self.attributes.0)?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}

/// Writes a line for each value.
pub(crate) fn line<'a, T: fmt::Display + 'a>(
    f: &mut fmt::Formatter<'_>,
    kind: char,
    values: impl IntoIterator<Item = &'a T>,
) -> fmt::Result {
    values
        .into_iter()
        .try_for_each(|value| write!(f, "{kind}={value}\r\n"))
}

/// `o=`: who made the description, and which version of it this is (RFC 8866 section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The user's name; browsers write `-`.
    pub username: String,
    /// The session's id: decimal digits, of any length.
    pub session_id: String,
    /// The version; each new description of a session has a larger one.
    pub session_version: u64,
    /// The address of the maker; nobody uses it.
    pub address: Connection,
}

impl Origin {
    /// As RFC 9429 section 5.2.1 asks: no user name, and an address that says nothing.
    pub fn new(session_id: u64, session_version: u64) -> Self {
        Self {
            username: "-".into(),
            session_id: session_id.to_string(),
            session_version,
            address: Connection {
                network_type: "IN".into(),
                address_type: "IP4".into(),
                address: "127.0.0.1".into(),
            },
        }
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let username = cursor.word("the user name")?.into();
        cursor.space("the session's id")?;
        let session_id = cursor.digits("the session's id")?.into();
        cursor.space("the session's version")?;
        let session_version = cursor.number("the session's version")?;
        cursor.space("the network type")?;
        Ok(Self {
            username,
            session_id,
            session_version,
            address: Connection::parse(cursor)?,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {}",
            self.username, self.session_id, self.session_version, self.address
        )
    }
}

/// `c=`: an address (RFC 8866 section 5.7).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Connection {
    /// `IN`.
    pub network_type: String,
    /// `IP4` or `IP6`.
    pub address_type: String,
    /// An IP address, perhaps with `/ttl`, or a name.
    pub address: String,
}

impl Connection {
    /// `IN IP4 0.0.0.0`: ICE decides.
    pub fn unspecified() -> Self {
        Self {
            network_type: "IN".into(),
            address_type: "IP4".into(),
            address: "0.0.0.0".into(),
        }
    }

    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let network_type = cursor.token("the network type")?.into();
        cursor.space("the address type")?;
        let address_type = cursor.token("the address type")?.into();
        cursor.space("the address")?;
        let address = cursor.word("the address")?.into();
        cursor.end("the address")?;
        Ok(Self {
            network_type,
            address_type,
            address,
        })
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.network_type, self.address_type, self.address
        )
    }
}

/// `b=`: a bandwidth (RFC 8866 section 5.8).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bandwidth {
    /// `AS` (kilobits per second), `TIAS` (bits per second, RFC 3890), `RS`, `RR` (RFC 3556) …
    pub kind: String,
    /// The value, in the unit of its kind.
    pub value: u64,
}

impl Bandwidth {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let kind = cursor.token("the kind of bandwidth")?.into();
        cursor.expect(':', "the bandwidth")?;
        let value = cursor.number("the bandwidth")?;
        cursor.end("the bandwidth")?;
        Ok(Self { kind, value })
    }

    /// The value in bits per second, for the kinds `AS` and `TIAS`.
    pub fn bits_per_second(&self) -> Option<u64> {
        match &*self.kind {
            "AS" => Some(self.value.saturating_mul(1000)),
            "TIAS" => Some(self.value),
            _ => None,
        }
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// `t=` with its `r=` and `z=` (RFC 8866 sections 5.9 to 5.11).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Timing {
    /// Seconds since 1900; 0 for no bound.
    pub start: u64,
    /// Seconds since 1900; 0 for no bound.
    pub stop: u64,
    /// `r=` as text.
    pub repeats: Vec<String>,
    /// `z=` as text.
    pub zones: Option<String>,
}

impl Timing {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let start = cursor.number("the start time")?;
        cursor.space("the stop time")?;
        let stop = cursor.number("the stop time")?;
        cursor.end("the stop time")?;
        Ok(Self {
            start,
            stop,
            ..Self::default()
        })
    }
}

/// One line: its letter, and the text behind `=`.
#[derive(Debug, Clone)]
pub(crate) struct Line<'a> {
    pub(crate) kind: char,
    pub(crate) value: Cursor<'a>,
}

impl Cursor<'_> {
    pub(crate) fn unexpected(&self, found: char, expected: &'static str) -> ParseError {
        self.error(Reason::Unexpected { found, expected })
            .at_column(1)
    }
}

impl ParseError {
    fn at_column(mut self, column: usize) -> Self {
        self.column = column;
        self
    }
}

/// The lines of a text, within limits.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a str,
    number: usize,
    limits: &'a Limits,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str, limits: &'a Limits) -> Result<Self, ParseError> {
        let lines = Self {
            rest: text.trim_end_matches(['\r', '\n']),
            number: 0,
            limits,
        };
        if text.len() > limits.bytes {
            let limit = limits.bytes;
            return Err(lines.error(Reason::TooLong { limit }));
        }
        Ok(lines)
    }

    fn error(&self, reason: Reason) -> ParseError {
        ParseError {
            line: self.number.max(1),
            column: 1,
            reason,
        }
    }

    fn missing(&self, what: &'static str) -> ParseError {
        self.error(Reason::Missing { what })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Line<'a>>, ParseError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if self.number > self.limits.lines {
            let limit = self.limits.lines;
            return Err(self.error(Reason::TooManyLines { limit }));
        }
        let (text, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        let text = text.strip_suffix('\r').unwrap_or(text);
        if let Some(at) = text.find(['\0', '\r']) {
            return Err(self.error(Reason::ForbiddenByte).at_column(at + 1));
        }
        match text.as_bytes() {
            [kind, b'=', ..] if kind.is_ascii_lowercase() => Ok(Some(Line {
                kind: char::from(*kind),
                value: Cursor::new(&text[2..], self.number, 3),
            })),
            _ => Err(self.error(Reason::NotALine)),
        }
    }

    fn expect(&mut self, kind: char, expected: &'static str) -> Result<Cursor<'a>, ParseError> {
        match self.next()? {
            Some(line) if line.kind == kind => Ok(line.value),
            Some(line) => Err(line.value.unexpected(line.kind, expected)),
            None => Err(self.missing(match kind {
                'v' => "the `v=` line",
                'o' => "the `o=` line",
                _ => "the `s=` line",
            })),
        }
    }

    fn expect_version(&mut self) -> Result<(), ParseError> {
        let mut cursor = self.expect('v', "`v`")?;
        let place = cursor.clone();
        match cursor.number::<u32>("the version")? {
            0 => cursor.end("the version"),
            _ => Err(place.bad("the version")),
        }
    }

    /// The media sections; `line` is the first `m=` line.
    pub(crate) fn media(&mut self, mut line: Line<'a>) -> Result<Vec<Media>, ParseError> {
        let mut sections: Vec<Media> = Vec::new();
        loop {
            match (line.kind, sections.last_mut()) {
                ('m', _) | (_, None) => {
                    if sections.len() == self.limits.media {
                        let limit = self.limits.media;
                        return Err(self.error(Reason::TooManyMedia { limit }));
                    }
                    sections.push(Media::parse_line(&mut line.value)?);
                }
                (_, Some(section)) => section.take(line)?,
            }
            match self.next()? {
                Some(next) => line = next,
                None => return Ok(sections),
            }
        }
    }
}
