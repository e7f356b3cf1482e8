//! Messages behind the handshake of DTLS 1.3: KeyUpdate, NewConnectionId, RequestConnectionId.

use crate::alert::AlertDescription;
use crate::codec::{Decode, Reader, Write};

/// Whether a KeyUpdate asks the other end to update as well (RFC 8446 section 4.6.3).
pub(crate) fn parse_key_update(body: &[u8]) -> Decode<bool> {
    match body {
        [0] => Ok(false),
        [1] => Ok(true),
        [_] => Err(AlertDescription::ILLEGAL_PARAMETER),
        _ => Err(AlertDescription::DECODE_ERROR),
    }
}

/// New connection IDs from the peer (RFC 9147 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewConnectionId<'a> {
    /// The first of them, if any.
    pub(crate) first: Option<&'a [u8]>,
    /// Whether it must be used at once.
    pub(crate) immediate: bool,
}

impl<'a> NewConnectionId<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Decode<Self> {
        let mut reader = Reader::new(body);
        let mut ids = Reader::new(reader.vec16()?);
        let usage = reader.u8()?;
        reader.end()?;
        let mut first = None;
        while !ids.is_empty() {
            let id = ids.vec8()?;
            first = first.or(Some(id));
        }
        match usage {
            0 if first.is_none() => Err(AlertDescription::ILLEGAL_PARAMETER),
            0 | 1 => Ok(Self {
                first,
                immediate: usage == 0,
            }),
            _ => Err(AlertDescription::ILLEGAL_PARAMETER),
        }
    }

    /// The answer to a RequestConnectionId of an end that keeps to the one that it has: no new ones.
    pub(crate) fn encode_none() -> Vec<u8> {
        let mut out = Vec::with_capacity(3);
        out.vec16(|_| {});
        out.u8(1);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{NewConnectionId, parse_key_update};

    #[test]
    fn key_update_is_one_byte_of_two_values() {
        assert_eq!(parse_key_update(&[0]), Ok(false));
        assert_eq!(parse_key_update(&[1]), Ok(true));
        assert!(parse_key_update(&[2]).is_err());
        assert!(parse_key_update(&[0, 0]).is_err());
    }

    #[test]
    fn new_connection_ids_parse() {
        let none = NewConnectionId::encode_none();
        let parsed = NewConnectionId::parse(&none).unwrap();
        assert_eq!((parsed.first, parsed.immediate), (None, false));
        let parsed = NewConnectionId::parse(&[0, 5, 2, 7, 8, 1, 9, 0]).unwrap();
        assert_eq!((parsed.first, parsed.immediate), (Some(&[7, 8][..]), true));
        assert!(NewConnectionId::parse(&[0, 0, 0]).is_err());
        assert!(NewConnectionId::parse(&[0, 5, 2, 7, 8, 1, 0]).is_err());
    }
}
