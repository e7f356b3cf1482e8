//! ServerKeyExchange and ClientKeyExchange of DTLS 1.2 with ECDHE (RFC 8422 section 5.4 and 5.7).

use crate::alert::AlertDescription;
use crate::codec::{Decode, Reader, Write};

/// ECCurveType.named_curve.
const NAMED_CURVE: u8 = 3;

/// A ServerKeyExchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerKeyExchange<'a> {
    pub(crate) group: u16,
    pub(crate) share: &'a [u8],
    /// The bytes that are signed, behind both randoms.
    pub(crate) parameters: &'a [u8],
    pub(crate) scheme: u16,
    pub(crate) signature: &'a [u8],
}

impl<'a> ServerKeyExchange<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Decode<Self> {
        let mut reader = Reader::new(body);
        if reader.u8()? != NAMED_CURVE {
            return Err(AlertDescription::ILLEGAL_PARAMETER);
        }
        let group = reader.u16()?;
        let share = reader.vec8()?;
        let parameters = &body[..body.len() - reader.rest().len()];
        let scheme = reader.u16()?;
        let signature = reader.vec16()?;
        reader.end()?;
        Ok(Self {
            group,
            share,
            parameters,
            scheme,
            signature,
        })
    }

    /// The bytes that are signed, behind both randoms.
    pub(crate) fn encode_parameters(group: u16, share: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + share.len());
        out.u8(NAMED_CURVE);
        out.u16(group);
        out.vec8(|out| out.bytes(share));
        out
    }

    /// The content of the signature (RFC 8422 section 5.4).
    pub(crate) fn signed_content(
        client_random: &[u8; 32],
        server_random: &[u8; 32],
        parameters: &[u8],
    ) -> Vec<u8> {
        [client_random, server_random, parameters].concat()
    }

    pub(crate) fn encode(mut parameters: Vec<u8>, scheme: u16, signature: &[u8]) -> Vec<u8> {
        parameters.u16(scheme);
        parameters.vec16(|out| out.bytes(signature));
        parameters
    }
}

/// The share of a ClientKeyExchange.
pub(crate) fn parse_client_key_exchange(body: &[u8]) -> Decode<&[u8]> {
    let mut reader = Reader::new(body);
    let share = reader.vec8()?;
    reader.end()?;
    Ok(share)
}

/// Writes a ClientKeyExchange.
pub(crate) fn encode_client_key_exchange(share: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + share.len());
    out.vec8(|out| out.bytes(share));
    out
}

#[cfg(test)]
mod tests {
    use super::{ServerKeyExchange, encode_client_key_exchange, parse_client_key_exchange};

    #[test]
    fn messages_survive_the_wire() {
        let parameters = ServerKeyExchange::encode_parameters(29, &[5; 32]);
        let body = ServerKeyExchange::encode(parameters.clone(), 0x0403, b"signature");
        let parsed = ServerKeyExchange::parse(&body).unwrap();
        assert_eq!(parsed.group, 29);
        assert_eq!(parsed.share, [5; 32]);
        assert_eq!(parsed.parameters, parameters);
        assert_eq!(
            (parsed.scheme, parsed.signature),
            (0x0403, &b"signature"[..])
        );
        for len in 0..body.len() {
            assert!(ServerKeyExchange::parse(&body[..len]).is_err());
        }
        let body = encode_client_key_exchange(&[6; 65]);
        assert_eq!(parse_client_key_exchange(&body).unwrap(), [6; 65]);
    }
}
