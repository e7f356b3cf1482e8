//! Attributes of several encodings in one media section: `rid` (RFC 8851), `simulcast` (RFC 8853).

use std::fmt;

use crate::cursor::Cursor;
use crate::{ParseError, Reason};

/// Which way the encoding of a rid flows, seen from the sender of the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RidDirection {
    /// From the sender of the description.
    Send,
    /// To the sender of the description.
    Recv,
}

impl RidDirection {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let place = cursor.clone();
        match cursor.token("`send` or `recv`")? {
            "send" => Ok(Self::Send),
            "recv" => Ok(Self::Recv),
            _ => Err(place.bad("`send` or `recv`")),
        }
    }

    /// The same encoding seen from the other end.
    pub const fn reversed(self) -> Self {
        match self {
            Self::Send => Self::Recv,
            Self::Recv => Self::Send,
        }
    }
}

impl fmt::Display for RidDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send => "send",
            Self::Recv => "recv",
        })
    }
}

/// `a=rid`: one encoding and its restrictions (RFC 8851 section 4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rid {
    /// 1 to 255 of `A-Z a-z 0-9 - _`.
    pub id: String,
    /// Which way it flows.
    pub direction: RidDirection,
    /// `pt=`: the payload types that may carry it; empty for all.
    pub payload_types: Vec<u8>,
    /// The other restrictions in order: `max-width`, `max-fps`, `depend` …
    pub restrictions: Vec<(String, Option<String>)>,
}

impl Rid {
    /// An encoding without restrictions.
    pub fn new(id: impl Into<String>, direction: RidDirection) -> Self {
        Self {
            id: id.into(),
            direction,
            payload_types: Vec::new(),
            restrictions: Vec::new(),
        }
    }

    /// The value of one restriction.
    pub fn restriction(&self, name: &str) -> Option<&str> {
        self.restrictions
            .iter()
            .find(|(found, _)| found == name)
            .and_then(|(_, value)| value.as_deref())
    }

    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mut rid = Self::new(rid_id(cursor)?, RidDirection::Send);
        cursor.space("`send` or `recv`")?;
        rid.direction = RidDirection::parse(cursor)?;
        cursor.skip_spaces();
        while !cursor.is_at_end() {
            let name = cursor.until(|c| c == '=' || c == ';').trim();
            if name.is_empty() {
                return Err(cursor.bad("the restriction's name"));
            }
            if name == "pt" {
                cursor.expect('=', "the payload types")?;
                loop {
                    rid.payload_types.push(cursor.number("the payload type")?);
                    if !cursor.take(',') {
                        break;
                    }
                }
            } else {
                let value = cursor
                    .take('=')
                    .then(|| cursor.until(|c| c == ';').trim().to_owned());
                rid.restrictions.push((name.into(), value));
            }
            if !cursor.is_at_end() {
                cursor.expect(';', "`;` between restrictions")?;
                cursor.skip_spaces();
            }
        }
        Ok(rid)
    }
}

/// RFC 8851 section 10 allows `A-Z a-z 0-9 - _`.
fn rid_id<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, ParseError> {
    let place = cursor.clone();
    let id = cursor.until(|c| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    if id.is_empty() || id.len() > 255 {
        return Err(place.error(Reason::Invalid { what: "the rid" }));
    }
    Ok(id)
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.direction)?;
        let mut separator = ' ';
        if !self.payload_types.is_empty() {
            f.write_str(" pt=")?;
            for (i, payload_type) in self.payload_types.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                write!(f, "{comma}{payload_type}")?;
            }
            separator = ';';
        }
        for (name, value) in &self.restrictions {
            write!(f, "{separator}{name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
            separator = ';';
        }
        Ok(())
    }
}

/// One rid in a simulcast list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SimulcastRid {
    /// The rid.
    pub id: String,
    /// Written `~rid`: the stream starts paused.
    pub paused: bool,
}

/// `a=simulcast` (RFC 8853 section 5.1): streams, and for each the alternative rids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Simulcast {
    /// What the sender of the description sends; each inner list holds alternatives, best first.
    pub send: Vec<Vec<SimulcastRid>>,
    /// What the sender of the description receives.
    pub recv: Vec<Vec<SimulcastRid>>,
}

impl Simulcast {
    /// The streams that flow in `direction`.
    pub fn streams(&self, direction: RidDirection) -> &[Vec<SimulcastRid>] {
        match direction {
            RidDirection::Send => &self.send,
            RidDirection::Recv => &self.recv,
        }
    }

    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, ParseError> {
        let mut simulcast = Self::default();
        cursor.skip_spaces();
        loop {
            let place = cursor.clone();
            let direction = RidDirection::parse(cursor)?;
            cursor.space("the list of rids")?;
            let list = match direction {
                RidDirection::Send => &mut simulcast.send,
                RidDirection::Recv => &mut simulcast.recv,
            };
            if !list.is_empty() {
                return Err(place.error(Reason::Invalid {
                    what: "a second list of one direction",
                }));
            }
            *list = streams(cursor)?;
            cursor.skip_spaces();
            if cursor.is_at_end() {
                return Ok(simulcast);
            }
        }
    }
}

fn streams(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<SimulcastRid>>, ParseError> {
    let mut streams = Vec::new();
    loop {
        let mut alternatives = Vec::new();
        loop {
            let paused = cursor.take('~');
            let id = rid_id(cursor)?.into();
            alternatives.push(SimulcastRid { id, paused });
            if !cursor.take(',') {
                break;
            }
        }
        streams.push(alternatives);
        if !cursor.take(';') {
            return Ok(streams);
        }
    }
}

impl fmt::Display for Simulcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (name, streams) in [("send", &self.send), ("recv", &self.recv)] {
            if streams.is_empty() {
                continue;
            }
            if !std::mem::take(&mut first) {
                f.write_str(" ")?;
            }
            write!(f, "{name} ")?;
            for (i, alternatives) in streams.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { ";" })?;
                for (j, rid) in alternatives.iter().enumerate() {
                    let comma = if j == 0 { "" } else { "," };
                    let pause = if rid.paused { "~" } else { "" };
                    write!(f, "{comma}{pause}{}", rid.id)?;
                }
            }
        }
        Ok(())
    }
}
