//! Handshake messages: their types, the 12-byte header of their fragments, and one file per family
//! of bodies.

pub(crate) mod authentication;
pub(crate) mod extension;
pub(crate) mod hello;
pub(crate) mod key_exchange;
pub(crate) mod post_handshake;

use crate::codec::{Decode, Reader, Write};

/// The type of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct MessageType(pub(crate) u8);

impl MessageType {
    pub(crate) const HELLO_REQUEST: Self = Self(0);
    pub(crate) const CLIENT_HELLO: Self = Self(1);
    pub(crate) const SERVER_HELLO: Self = Self(2);
    pub(crate) const HELLO_VERIFY_REQUEST: Self = Self(3);
    pub(crate) const NEW_SESSION_TICKET: Self = Self(4);
    pub(crate) const ENCRYPTED_EXTENSIONS: Self = Self(8);
    pub(crate) const REQUEST_CONNECTION_ID: Self = Self(9);
    pub(crate) const NEW_CONNECTION_ID: Self = Self(10);
    pub(crate) const CERTIFICATE: Self = Self(11);
    pub(crate) const SERVER_KEY_EXCHANGE: Self = Self(12);
    pub(crate) const CERTIFICATE_REQUEST: Self = Self(13);
    pub(crate) const SERVER_HELLO_DONE: Self = Self(14);
    pub(crate) const CERTIFICATE_VERIFY: Self = Self(15);
    pub(crate) const CLIENT_KEY_EXCHANGE: Self = Self(16);
    pub(crate) const FINISHED: Self = Self(20);
    pub(crate) const KEY_UPDATE: Self = Self(24);
    pub(crate) const MESSAGE_HASH: Self = Self(254);
}

/// The header of a handshake message fragment (RFC 9147 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FragmentHeader {
    pub(crate) message_type: MessageType,
    /// Bytes of the whole message.
    pub(crate) length: u32,
    pub(crate) sequence: u16,
    pub(crate) offset: u32,
    pub(crate) fragment_length: u32,
}

impl FragmentHeader {
    pub(crate) const LEN: usize = 12;

    /// The header of a whole message.
    pub(crate) fn whole(message_type: MessageType, sequence: u16, length: usize) -> Self {
        Self {
            message_type,
            length: length as u32,
            sequence,
            offset: 0,
            fragment_length: length as u32,
        }
    }

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let [_, l1, l2, l3] = self.length.to_be_bytes();
        let [s1, s2] = self.sequence.to_be_bytes();
        let [_, o1, o2, o3] = self.offset.to_be_bytes();
        let [_, f1, f2, f3] = self.fragment_length.to_be_bytes();
        [
            self.message_type.0,
            l1,
            l2,
            l3,
            s1,
            s2,
            o1,
            o2,
            o3,
            f1,
            f2,
            f3,
        ]
    }
}

/// One fragment of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) header: FragmentHeader,
    pub(crate) body: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Reads one fragment; a record may hold several.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Decode<Self> {
        let header = FragmentHeader {
            message_type: MessageType(reader.u8()?),
            length: reader.u24()?,
            sequence: reader.u16()?,
            offset: reader.u24()?,
            fragment_length: reader.u24()?,
        };
        let body = reader.take(header.fragment_length as usize)?;
        if header.offset + header.fragment_length > header.length {
            return Err(crate::AlertDescription::DECODE_ERROR);
        }
        Ok(Self { header, body })
    }
}

/// The header that stands before a message in a transcript of DTLS 1.3 (RFC 9147 section 5.2).
pub(crate) fn tls_header(message_type: MessageType, length: usize) -> [u8; 4] {
    let mut header = Vec::with_capacity(4);
    header.u8(message_type.0);
    header.u24(length as u32);
    [header[0], header[1], header[2], header[3]]
}

#[cfg(test)]
mod tests {
    use super::{Fragment, FragmentHeader, MessageType};
    use crate::codec::Reader;

    #[test]
    fn fragments_survive_the_wire_and_impossible_ones_do_not_parse() {
        let header = FragmentHeader {
            message_type: MessageType::CERTIFICATE,
            length: 0x01_02_03,
            sequence: 0x0405,
            offset: 0x06,
            fragment_length: 3,
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(b"abc");
        let fragment = Fragment::read(&mut Reader::new(&bytes)).unwrap();
        assert_eq!((fragment.header, fragment.body), (header, &b"abc"[..]));
        // Longer than the record, and beyond the message's end.
        bytes.pop();
        assert!(Fragment::read(&mut Reader::new(&bytes)).is_err());
        let beyond = FragmentHeader {
            length: 5,
            offset: 4,
            fragment_length: 2,
            ..header
        };
        let mut bytes = beyond.encode().to_vec();
        bytes.extend_from_slice(b"ab");
        assert!(Fragment::read(&mut Reader::new(&bytes)).is_err());
    }
}
