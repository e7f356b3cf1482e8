//! `application/trickle-ice-sdpfrag` (RFC 8840 section 9): candidates and credentials outside a
//! description, as WHIP and WHEP send them in HTTP PATCH (RFC 9725 section 4.3).

use std::fmt;
use std::str::FromStr;

use crate::session::{Lines, line};
use crate::{Attribute, Attributes, Limits, Media, ParseError};

/// A fragment of a description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fragment {
    /// The attributes before the first section: `ice-ufrag`, `ice-pwd`, `group`, `ice-options` …
    pub attributes: Attributes,
    /// The sections, each with its `mid`. Their `m=` lines stand for structure only.
    pub media: Vec<Media>,
}

impl Fragment {
    /// Parses a fragment within the default [`Limits`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_within(text, &Limits::default())
    }

    /// Parses a fragment.
    pub fn parse_within(text: &str, limits: &Limits) -> Result<Self, ParseError> {
        let mut lines = Lines::new(text, limits)?;
        let mut fragment = Self::default();
        while let Some(line) = lines.next()? {
            let mut cursor = line.value.clone();
            match line.kind {
                'a' => fragment.attributes.push(Attribute::parse(&mut cursor)?),
                'm' => {
                    fragment.media = lines.media(line)?;
                    break;
                }
                found => return Err(cursor.unexpected(found, "`a` or `m`")),
            }
        }
        Ok(fragment)
    }

    /// Each candidate's text with the mid of its section, in order.
    pub fn candidates(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        let session = self.attributes.candidates().map(|text| (None, text));
        session.chain(self.media.iter().flat_map(|media| {
            let mid = media.attributes.mid();
            media.attributes.candidates().map(move |text| (mid, text))
        }))
    }

    /// The ICE user fragment: of the session part, or of the first section that has one.
    pub fn ice_ufrag(&self) -> Option<&str> {
        self.attributes.ice_ufrag().or_else(|| {
            self.media
                .iter()
                .find_map(|media| media.attributes.ice_ufrag())
        })
    }

    /// The ICE password: of the session part, or of the first section that has one.
    pub fn ice_pwd(&self) -> Option<&str> {
        self.attributes.ice_pwd().or_else(|| {
            self.media
                .iter()
                .find_map(|media| media.attributes.ice_pwd())
        })
    }
}

impl FromStr for Fragment {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, 'a', &self.attributes.0)?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}
