//! ClientHello, ServerHello, HelloRetryRequest and HelloVerifyRequest.

use super::extension::Extensions;
use crate::alert::AlertDescription;
use crate::codec::{Decode, Reader, Write, check_u16s};

/// The random that marks a ServerHello as a HelloRetryRequest (RFC 8446 section 4.1.3).
pub(crate) const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// The end of the server's random when a server that speaks 1.3 negotiates 1.2
/// (RFC 8446 section 4.1.3, RFC 9147 section 5.3).
pub(crate) const DOWNGRADE_SENTINEL: [u8; 8] = *b"DOWNGRD\x01";

/// The version field of every hello (RFC 9147 section 5.3).
const LEGACY_VERSION: u16 = 0xfefd;

/// A ClientHello (RFC 9147 section 5.3, RFC 6347 section 4.2.1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientHello<'a> {
    pub(crate) legacy_version: u16,
    pub(crate) random: [u8; 32],
    pub(crate) cookie: &'a [u8],
    /// An even number of bytes.
    pub(crate) cipher_suites: &'a [u8],
    pub(crate) compression: &'a [u8],
    pub(crate) extensions: Extensions<'a>,
}

impl<'a> ClientHello<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Decode<Self> {
        let mut reader = Reader::new(body);
        let legacy_version = reader.u16()?;
        let random = reader.array()?;
        if reader.vec8()?.len() > 32 {
            return Err(AlertDescription::DECODE_ERROR);
        }
        let cookie = reader.vec8()?;
        let cipher_suites = reader.vec16()?;
        check_u16s(cipher_suites)?;
        let compression = reader.vec8()?;
        if cipher_suites.is_empty() || compression.is_empty() {
            return Err(AlertDescription::DECODE_ERROR);
        }
        let extensions = if reader.is_empty() {
            Extensions::default()
        } else {
            let block = reader.vec16()?;
            reader.end()?;
            Extensions::parse(block)?
        };
        Ok(Self {
            legacy_version,
            random,
            cookie,
            cipher_suites,
            compression,
            extensions,
        })
    }

    /// The offered suites, as numbers.
    pub(crate) fn suites(&self) -> impl Iterator<Item = u16> + Clone + 'a {
        self.cipher_suites
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }
}

/// What a client writes into each of its hellos.
#[derive(Debug, Clone)]
pub(crate) struct ClientHelloParts<'a> {
    pub(crate) random: &'a [u8; 32],
    pub(crate) cookie: &'a [u8],
    pub(crate) cipher_suites: &'a [u16],
    /// The extension block without its length.
    pub(crate) extensions: &'a [u8],
}

impl ClientHelloParts<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.extensions.len());
        out.u16(LEGACY_VERSION);
        out.bytes(self.random);
        out.vec8(|_| {});
        out.vec8(|out| out.bytes(self.cookie));
        out.vec16(|out| self.cipher_suites.iter().for_each(|&suite| out.u16(suite)));
        out.vec8(|out| out.u8(0));
        out.vec16(|out| out.bytes(self.extensions));
        out
    }
}

/// A ServerHello or HelloRetryRequest (RFC 8446 section 4.1.3).
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerHello<'a> {
    pub(crate) random: [u8; 32],
    pub(crate) session_id: &'a [u8],
    pub(crate) cipher_suite: u16,
    pub(crate) extensions: Extensions<'a>,
}

impl<'a> ServerHello<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Decode<Self> {
        let mut reader = Reader::new(body);
        let legacy_version = reader.u16()?;
        let random = reader.array()?;
        let session_id = reader.vec8()?;
        if session_id.len() > 32 {
            return Err(AlertDescription::DECODE_ERROR);
        }
        let cipher_suite = reader.u16()?;
        let compression = reader.u8()?;
        let extensions = if reader.is_empty() {
            Extensions::default()
        } else {
            let block = reader.vec16()?;
            reader.end()?;
            Extensions::parse(block)?
        };
        if legacy_version != LEGACY_VERSION {
            return Err(AlertDescription::PROTOCOL_VERSION);
        }
        if compression != 0 {
            return Err(AlertDescription::ILLEGAL_PARAMETER);
        }
        Ok(Self {
            random,
            session_id,
            cipher_suite,
            extensions,
        })
    }

    pub(crate) fn is_retry(&self) -> bool {
        self.random == RETRY_RANDOM
    }
}

/// Writes a ServerHello or HelloRetryRequest. The session id is never echoed (RFC 9147 section 5).
pub(crate) fn encode_server_hello(random: &[u8; 32], suite: u16, extensions: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + extensions.len());
    out.u16(LEGACY_VERSION);
    out.bytes(random);
    out.vec8(|_| {});
    out.u16(suite);
    out.u8(0);
    out.vec16(|out| out.bytes(extensions));
    out
}

/// The cookie of a HelloVerifyRequest (RFC 6347 section 4.2.1).
pub(crate) fn parse_hello_verify_request(body: &[u8]) -> Decode<&[u8]> {
    let mut reader = Reader::new(body);
    reader.u16()?;
    let cookie = reader.vec8()?;
    reader.end()?;
    Ok(cookie)
}

/// Writes a HelloVerifyRequest. Its version is DTLS 1.0 whatever is negotiated (RFC 6347 section
/// 4.2.1).
pub(crate) fn encode_hello_verify_request(cookie: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + cookie.len());
    out.u16(0xfeff);
    out.vec8(|out| out.bytes(cookie));
    out
}

#[cfg(test)]
mod tests {
    use super::{
        ClientHello, ClientHelloParts, ServerHello, encode_hello_verify_request,
        encode_server_hello, parse_hello_verify_request,
    };

    #[test]
    fn hellos_survive_the_wire() {
        let body = ClientHelloParts {
            random: &[7; 32],
            cookie: b"cookie",
            cipher_suites: &[0x1301, 0xc02b],
            extensions: &[0, 23, 0, 0],
        }
        .encode();
        let hello = ClientHello::parse(&body).unwrap();
        assert_eq!(hello.random, [7; 32]);
        assert_eq!(hello.cookie, b"cookie");
        assert_eq!(hello.suites().collect::<Vec<_>>(), [0x1301, 0xc02b]);
        assert!(hello.extensions.flag(23).unwrap());
        for len in 0..body.len() {
            // Every cut but the one before the extension block is an error.
            let cut = ClientHello::parse(&body[..len]);
            assert_eq!(cut.is_ok(), len == body.len() - 6, "{len}");
        }

        let body = encode_server_hello(&[9; 32], 0x1301, &[0, 43, 0, 2, 0xfe, 0xfc]);
        let hello = ServerHello::parse(&body).unwrap();
        assert_eq!(hello.cipher_suite, 0x1301);
        assert_eq!(hello.extensions.selected_version().unwrap(), Some(0xfefc));
        assert!(!hello.is_retry());

        let body = encode_hello_verify_request(b"abc");
        assert_eq!(parse_hello_verify_request(&body).unwrap(), b"abc");
        assert!(parse_hello_verify_request(&body[..4]).is_err());
    }
}
