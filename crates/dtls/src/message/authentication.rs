//! Certificate, CertificateRequest and CertificateVerify in the forms of both versions.

use super::extension::{self, Extensions, SIGNATURE_ALGORITHMS};
use crate::alert::AlertDescription;
use crate::codec::{Decode, Reader, Write, check_u16s};
use crate::{Role, Version};

/// ClientCertificateType of RFC 5246 section 7.4.4 and RFC 8422 section 5.5.
const RSA_SIGN: u8 = 1;
const ECDSA_SIGN: u8 = 64;

/// The end-entity certificate of a Certificate message, in DER; `None` if the list is empty. The
/// rest of a chain is checked for form only: WebRTC trusts fingerprints (RFC 8827 section 5.6.4).
pub(crate) fn parse_certificate(version: Version, body: &[u8]) -> Decode<Option<&[u8]>> {
    let mut reader = Reader::new(body);
    if version == Version::Dtls13 {
        // certificate_request_context: always empty in the handshake (RFC 8446 section 4.4.2).
        if !reader.vec8()?.is_empty() {
            return Err(AlertDescription::ILLEGAL_PARAMETER);
        }
    }
    let mut list = Reader::new(reader.vec24()?);
    reader.end()?;
    let mut first = None;
    while !list.is_empty() {
        let certificate = list.vec24()?;
        if certificate.is_empty() {
            return Err(AlertDescription::DECODE_ERROR);
        }
        if version == Version::Dtls13 {
            Extensions::parse(list.vec16()?)?;
        }
        first = first.or(Some(certificate));
    }
    Ok(first)
}

/// Writes a Certificate message.
pub(crate) fn encode_certificate<'a>(
    version: Version,
    chain: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    if version == Version::Dtls13 {
        out.vec8(|_| {});
    }
    out.vec24(|out| {
        for certificate in chain {
            out.vec24(|out| out.bytes(certificate));
            if version == Version::Dtls13 {
                out.vec16(|_| {});
            }
        }
    });
    out
}

/// What a CertificateRequest asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CertificateRequest<'a> {
    /// Signature schemes, an even number of bytes.
    pub(crate) schemes: &'a [u8],
}

impl<'a> CertificateRequest<'a> {
    pub(crate) fn parse(version: Version, body: &'a [u8]) -> Decode<Self> {
        let mut reader = Reader::new(body);
        let schemes = if version == Version::Dtls13 {
            if !reader.vec8()?.is_empty() {
                return Err(AlertDescription::ILLEGAL_PARAMETER);
            }
            let extensions = Extensions::parse(reader.vec16()?)?;
            extensions
                .numbers(SIGNATURE_ALGORITHMS)?
                .ok_or(AlertDescription::MISSING_EXTENSION)?
        } else {
            reader.vec8()?;
            let schemes = reader.vec16()?;
            check_u16s(schemes)?;
            reader.vec16()?;
            schemes
        };
        reader.end()?;
        Ok(Self { schemes })
    }

    /// Writes a request that names no authorities.
    pub(crate) fn encode(version: Version, schemes: &[u16]) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let list = |out: &mut Vec<u8>| {
            out.vec16(|out| schemes.iter().for_each(|&scheme| out.u16(scheme)));
        };
        if version == Version::Dtls13 {
            out.vec8(|_| {});
            out.vec16(|out| extension::write(out, SIGNATURE_ALGORITHMS, list));
        } else {
            out.vec8(|out| out.bytes(&[ECDSA_SIGN, RSA_SIGN]));
            list(&mut out);
            out.vec16(|_| {});
        }
        out
    }
}

/// The scheme and the signature of a CertificateVerify, the same in both versions.
pub(crate) fn parse_certificate_verify(body: &[u8]) -> Decode<(u16, &[u8])> {
    let mut reader = Reader::new(body);
    let scheme = reader.u16()?;
    let signature = reader.vec16()?;
    reader.end()?;
    Ok((scheme, signature))
}

/// Writes a CertificateVerify.
pub(crate) fn encode_certificate_verify(scheme: u16, signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + signature.len());
    out.u16(scheme);
    out.vec16(|out| out.bytes(signature));
    out
}

/// What a CertificateVerify of 1.3 signs (RFC 8446 section 4.4.3).
pub(crate) fn signed_content(signer: Role, transcript_hash: &[u8]) -> Vec<u8> {
    let context: &[u8] = match signer {
        Role::Server => b"TLS 1.3, server CertificateVerify",
        Role::Client => b"TLS 1.3, client CertificateVerify",
    };
    let mut out = Vec::with_capacity(64 + context.len() + 1 + transcript_hash.len());
    out.bytes(&[0x20; 64]);
    out.bytes(context);
    out.u8(0);
    out.bytes(transcript_hash);
    out
}

#[cfg(test)]
mod tests {
    use super::{
        CertificateRequest, encode_certificate, encode_certificate_verify, parse_certificate,
        parse_certificate_verify,
    };
    use crate::Version;

    #[test]
    fn messages_survive_the_wire_in_both_versions() {
        for version in [Version::Dtls12, Version::Dtls13] {
            let body = encode_certificate(version, [&b"leaf"[..], &b"issuer"[..]].into_iter());
            assert_eq!(
                parse_certificate(version, &body).unwrap(),
                Some(&b"leaf"[..])
            );
            for len in 0..body.len() {
                assert!(parse_certificate(version, &body[..len]).is_err());
            }
            let none = encode_certificate(version, std::iter::empty());
            assert_eq!(parse_certificate(version, &none).unwrap(), None);

            let body = CertificateRequest::encode(version, &[0x0403, 0x0804]);
            let request = CertificateRequest::parse(version, &body).unwrap();
            assert_eq!(request.schemes, [4, 3, 8, 4]);
        }
        let body = encode_certificate_verify(0x0403, b"signature");
        assert_eq!(
            parse_certificate_verify(&body).unwrap(),
            (0x0403, &b"signature"[..])
        );
    }
}
