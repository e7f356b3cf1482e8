//! Hello extensions: the block, and the bodies of those that this crate speaks.

use crate::alert::AlertDescription;
use crate::codec::{Decode, Reader, Write, check_u16s};
use crate::{SrtpProfile, Version};

pub(crate) const SUPPORTED_GROUPS: u16 = 10;
pub(crate) const EC_POINT_FORMATS: u16 = 11;
pub(crate) const SIGNATURE_ALGORITHMS: u16 = 13;
pub(crate) const USE_SRTP: u16 = 14;
pub(crate) const ALPN: u16 = 16;
pub(crate) const EXTENDED_MASTER_SECRET: u16 = 23;
pub(crate) const RECORD_SIZE_LIMIT: u16 = 28;
pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
pub(crate) const COOKIE: u16 = 44;
pub(crate) const KEY_SHARE: u16 = 51;
pub(crate) const CONNECTION_ID: u16 = 54;
pub(crate) const RENEGOTIATION_INFO: u16 = 0xff01;

/// How many extensions a message may carry. More than any known peer sends; keeps the check for
/// duplicates cheap.
const MAX_EXTENSIONS: usize = 64;

/// A block of extensions, known to be well formed and free of duplicates.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// Checks a block, its length field removed.
    pub(crate) fn parse(block: &'a [u8]) -> Decode<Self> {
        let mut seen = [0u16; MAX_EXTENSIONS];
        let mut count = 0;
        let mut reader = Reader::new(block);
        while !reader.is_empty() {
            let kind = reader.u16()?;
            reader.vec16()?;
            if count == MAX_EXTENSIONS {
                return Err(AlertDescription::DECODE_ERROR);
            }
            if seen[..count].contains(&kind) {
                return Err(AlertDescription::ILLEGAL_PARAMETER);
            }
            seen[count] = kind;
            count += 1;
        }
        Ok(Self(block))
    }

    /// Every extension's type and body, in the order of the wire.
    pub(crate) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || Some((reader.u16().ok()?, reader.vec16().ok()?)))
    }

    /// The body of an extension.
    pub(crate) fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find_map(|(found, body)| (found == kind).then_some(body))
    }

    /// Whether an extension is there; its body must then be empty.
    pub(crate) fn flag(self, kind: u16) -> Decode<bool> {
        match self.find(kind) {
            None => Ok(false),
            Some([]) => Ok(true),
            Some(_) => Err(AlertDescription::DECODE_ERROR),
        }
    }

    /// Every extension must be one of `allowed`: whoever answers may not bring new ones
    /// (RFC 8446 section 4.2).
    pub(crate) fn only(self, allowed: &[u16]) -> Decode<()> {
        if self.iter().all(|(kind, _)| allowed.contains(&kind)) {
            Ok(())
        } else {
            Err(AlertDescription::UNSUPPORTED_EXTENSION)
        }
    }

    /// The versions that a client offers, as numbers.
    pub(crate) fn offered_versions(self) -> Decode<Option<&'a [u8]>> {
        self.find(SUPPORTED_VERSIONS)
            .map(|body| {
                let mut reader = Reader::new(body);
                let versions = reader.vec8()?;
                reader.end()?;
                check_u16s(versions)?;
                Ok(versions)
            })
            .transpose()
    }

    /// The version that a server chose.
    pub(crate) fn selected_version(self) -> Decode<Option<u16>> {
        self.number(SUPPORTED_VERSIONS)
    }

    /// An extension whose body is one 16-bit number.
    fn number(self, kind: u16) -> Decode<Option<u16>> {
        self.find(kind)
            .map(|body| {
                let mut reader = Reader::new(body);
                let number = reader.u16()?;
                reader.end().map(|()| number)
            })
            .transpose()
    }

    /// A list of 16-bit numbers with a two-byte length: groups, signature schemes.
    pub(crate) fn numbers(self, kind: u16) -> Decode<Option<&'a [u8]>> {
        self.find(kind)
            .map(|body| {
                let mut reader = Reader::new(body);
                let list = reader.vec16()?;
                reader.end()?;
                check_u16s(list)?;
                Ok(list)
            })
            .transpose()
    }

    /// The key shares of a client, as group number and share.
    pub(crate) fn client_key_shares(
        self,
    ) -> Decode<Option<impl Iterator<Item = (u16, &'a [u8])> + use<'a>>> {
        let Some(body) = self.find(KEY_SHARE) else {
            return Ok(None);
        };
        let mut reader = Reader::new(body);
        let shares = reader.vec16()?;
        reader.end()?;
        let mut check = Reader::new(shares);
        while !check.is_empty() {
            check.u16()?;
            check.vec16()?;
        }
        let mut reader = Reader::new(shares);
        Ok(Some(std::iter::from_fn(move || {
            Some((reader.u16().ok()?, reader.vec16().ok()?))
        })))
    }

    /// The key share of a ServerHello.
    pub(crate) fn server_key_share(self) -> Decode<Option<(u16, &'a [u8])>> {
        self.find(KEY_SHARE)
            .map(|body| {
                let mut reader = Reader::new(body);
                let share = (reader.u16()?, reader.vec16()?);
                reader.end().map(|()| share)
            })
            .transpose()
    }

    /// The group that a HelloRetryRequest asks for.
    pub(crate) fn requested_group(self) -> Decode<Option<u16>> {
        self.number(KEY_SHARE)
    }

    /// The cookie of a HelloRetryRequest or of the second ClientHello.
    pub(crate) fn cookie(self) -> Decode<Option<&'a [u8]>> {
        self.find(COOKIE)
            .map(|body| {
                let mut reader = Reader::new(body);
                let cookie = reader.vec16()?;
                reader.end()?;
                if cookie.is_empty() {
                    return Err(AlertDescription::DECODE_ERROR);
                }
                Ok(cookie)
            })
            .transpose()
    }

    /// The SRTP profiles and the master key identifier (RFC 5764 section 4.1.1).
    pub(crate) fn use_srtp(self) -> Decode<Option<(&'a [u8], &'a [u8])>> {
        self.find(USE_SRTP)
            .map(|body| {
                let mut reader = Reader::new(body);
                let profiles = reader.vec16()?;
                let mki = reader.vec8()?;
                reader.end()?;
                check_u16s(profiles)?;
                Ok((profiles, mki))
            })
            .transpose()
    }

    /// The application protocols (RFC 7301 section 3.1), none of them empty.
    pub(crate) fn alpn(self) -> Decode<Option<impl Iterator<Item = &'a [u8]> + Clone + use<'a>>> {
        let Some(body) = self.find(ALPN) else {
            return Ok(None);
        };
        let mut reader = Reader::new(body);
        let list = reader.vec16()?;
        reader.end()?;
        let mut check = Reader::new(list);
        if check.is_empty() {
            return Err(AlertDescription::DECODE_ERROR);
        }
        while !check.is_empty() {
            if check.vec8()?.is_empty() {
                return Err(AlertDescription::DECODE_ERROR);
            }
        }
        let reader = Reader::new(list);
        Ok(Some(
            std::iter::successors(Some((reader, &[][..])), |(reader, _)| {
                let mut reader = *reader;
                let protocol = reader.vec8().ok()?;
                Some((reader, protocol))
            })
            .skip(1)
            .map(|(_, protocol)| protocol),
        ))
    }

    /// The largest plaintext that the peer accepts (RFC 8449 section 4).
    pub(crate) fn record_size_limit(self) -> Decode<Option<u16>> {
        match self.number(RECORD_SIZE_LIMIT)? {
            Some(limit) if limit < 64 => Err(AlertDescription::ILLEGAL_PARAMETER),
            limit => Ok(limit),
        }
    }

    /// The connection ID that the peer wants to receive (RFC 9146 section 3).
    pub(crate) fn connection_id(self) -> Decode<Option<&'a [u8]>> {
        self.find(CONNECTION_ID)
            .map(|body| {
                let mut reader = Reader::new(body);
                let id = reader.vec8()?;
                reader.end().map(|()| id)
            })
            .transpose()
    }

    /// The renegotiation_info of a first handshake must be empty (RFC 5746 section 3.4).
    pub(crate) fn renegotiation_info(self) -> Decode<bool> {
        match self.find(RENEGOTIATION_INFO) {
            None => Ok(false),
            Some([0]) => Ok(true),
            Some(_) => Err(AlertDescription::HANDSHAKE_FAILURE),
        }
    }
}

/// Writes one extension.
pub(crate) fn write(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    out.u16(kind);
    out.vec16(body);
}

/// Writes a use_srtp extension without master key identifier.
pub(crate) fn write_use_srtp(out: &mut Vec<u8>, profiles: &[SrtpProfile]) {
    write(out, USE_SRTP, |out| {
        out.vec16(|out| {
            for profile in profiles {
                out.u16(profile.number());
            }
        });
        out.vec8(|_| {});
    });
}

/// Writes an ALPN extension.
pub(crate) fn write_alpn<'a>(out: &mut Vec<u8>, protocols: impl Iterator<Item = &'a [u8]>) {
    write(out, ALPN, |out| {
        out.vec16(|out| {
            for protocol in protocols {
                out.vec8(|out| out.bytes(protocol));
            }
        });
    });
}

/// Writes a connection_id extension.
pub(crate) fn write_connection_id(out: &mut Vec<u8>, id: &[u8]) {
    write(out, CONNECTION_ID, |out| out.vec8(|out| out.bytes(id)));
}

/// Writes the supported_versions extension of a server.
pub(crate) fn write_selected_version(out: &mut Vec<u8>, version: Version) {
    write(out, SUPPORTED_VERSIONS, |out| out.u16(version.number()));
}

#[cfg(test)]
mod tests {
    use super::{ALPN, EXTENDED_MASTER_SECRET, Extensions, write, write_alpn, write_use_srtp};
    use crate::SrtpProfile;

    #[test]
    fn duplicates_and_broken_lengths_are_refused() {
        let mut block = Vec::new();
        write(&mut block, EXTENDED_MASTER_SECRET, |_| {});
        assert!(
            Extensions::parse(&block)
                .unwrap()
                .flag(EXTENDED_MASTER_SECRET)
                .unwrap()
        );
        write(&mut block, EXTENDED_MASTER_SECRET, |_| {});
        assert!(Extensions::parse(&block).is_err());
        assert!(Extensions::parse(&[0, 23, 0, 1]).is_err());
        let many: Vec<u8> = (0..200u8).flat_map(|i| [1, i, 0, 0]).collect();
        assert!(Extensions::parse(&many).is_err());
    }

    #[test]
    fn lists_survive_the_wire() {
        let mut block = Vec::new();
        write_alpn(&mut block, [&b"webrtc"[..], &b"c-webrtc"[..]].into_iter());
        write_use_srtp(
            &mut block,
            &[SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80],
        );
        let extensions = Extensions::parse(&block).unwrap();
        let protocols: Vec<_> = extensions.alpn().unwrap().unwrap().collect();
        assert_eq!(protocols, [&b"webrtc"[..], &b"c-webrtc"[..]]);
        let (profiles, mki) = extensions.use_srtp().unwrap().unwrap();
        assert_eq!((profiles, mki), (&[0, 7, 0, 1][..], &[][..]));
        assert!(extensions.only(&[ALPN]).is_err());
    }

    #[test]
    fn an_empty_protocol_name_is_refused() {
        let mut block = Vec::new();
        write_alpn(&mut block, [&b""[..]].into_iter());
        assert!(Extensions::parse(&block).unwrap().alpn().is_err());
    }
}
