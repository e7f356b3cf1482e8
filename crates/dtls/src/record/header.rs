//! Record headers: the legacy one of plaintext and of 1.2, and the unified one of 1.3.

/// The type of a record's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentType(pub(crate) u8);

impl ContentType {
    pub(crate) const CHANGE_CIPHER_SPEC: Self = Self(20);
    pub(crate) const ALERT: Self = Self(21);
    pub(crate) const HANDSHAKE: Self = Self(22);
    pub(crate) const APPLICATION_DATA: Self = Self(23);
    pub(crate) const TLS12_CID: Self = Self(25);
    pub(crate) const ACK: Self = Self(26);
}

/// Length of the header of a plaintext record or one of 1.2, without connection ID.
pub(crate) const LEGACY_HEADER_LEN: usize = 13;

/// Where things stand in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordHeader {
    /// Plaintext, or a record of 1.2 (RFC 6347 section 4.1, RFC 9146 section 4).
    Legacy {
        content_type: ContentType,
        epoch: u16,
        sequence: u64,
        header_len: usize,
        body_len: usize,
    },
    /// A record of 1.3 (RFC 9147 section 4).
    Unified {
        /// The low two bits of the epoch.
        epoch_bits: u8,
        /// Where the sequence number stands.
        sequence_at: usize,
        /// One or two bytes.
        sequence_len: usize,
        header_len: usize,
        body_len: usize,
    },
}

impl RecordHeader {
    /// The header at the start of `bytes`; its whole record stands in `bytes`. `connection_id` is
    /// the one that this end asked for, empty if none. `None` if there is no such record.
    pub(crate) fn parse(bytes: &[u8], connection_id: &[u8]) -> Option<Self> {
        let &first = bytes.first()?;
        if first & 0b1110_0000 == 0b0010_0000 {
            return Self::parse_unified(bytes, first, connection_id);
        }
        let content_type = ContentType(first);
        if !(20..=26).contains(&first) {
            return None;
        }
        let id = if content_type == ContentType::TLS12_CID {
            if connection_id.is_empty() {
                return None;
            }
            connection_id
        } else {
            &[]
        };
        let header_len = LEGACY_HEADER_LEN + id.len();
        let header = bytes.get(..header_len)?;
        // The major version of every DTLS; the minor one says nothing (RFC 9147 section 4).
        if header[1] != 0xfe || header[11..11 + id.len()] != *id {
            return None;
        }
        let body_len = usize::from(u16::from_be_bytes([
            header[header_len - 2],
            header[header_len - 1],
        ]));
        bytes.get(header_len..header_len + body_len)?;
        let mut sequence = [0; 8];
        sequence[2..].copy_from_slice(&header[5..11]);
        Some(Self::Legacy {
            content_type,
            epoch: u16::from_be_bytes([header[3], header[4]]),
            sequence: u64::from_be_bytes(sequence),
            header_len,
            body_len,
        })
    }

    fn parse_unified(bytes: &[u8], first: u8, connection_id: &[u8]) -> Option<Self> {
        let has_id = first & 0x10 != 0;
        // RFC 9147 section 9.1: without negotiation no record may carry one, and with it all must.
        if has_id == connection_id.is_empty() {
            return None;
        }
        let sequence_at = 1 + connection_id.len();
        if bytes.get(1..sequence_at)? != connection_id {
            return None;
        }
        let sequence_len = if first & 0x08 != 0 { 2 } else { 1 };
        let mut header_len = sequence_at + sequence_len;
        let body_len = if first & 0x04 != 0 {
            let length = bytes.get(header_len..header_len + 2)?;
            header_len += 2;
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        } else {
            bytes.len().checked_sub(header_len)?
        };
        bytes.get(header_len..header_len + body_len)?;
        Some(Self::Unified {
            epoch_bits: first & 0b11,
            sequence_at,
            sequence_len,
            header_len,
            body_len,
        })
    }

    /// Bytes of the whole record.
    pub(crate) fn record_len(&self) -> usize {
        match self {
            Self::Legacy {
                header_len,
                body_len,
                ..
            }
            | Self::Unified {
                header_len,
                body_len,
                ..
            } => header_len + body_len,
        }
    }
}

/// Writes a legacy header. `bytes` is as long as it is: 13 bytes and the connection ID.
pub(crate) fn write_legacy(
    bytes: &mut [u8],
    content_type: ContentType,
    epoch: u16,
    sequence: u64,
    connection_id: &[u8],
    body_len: usize,
) {
    bytes[0] = content_type.0;
    bytes[1..3].copy_from_slice(&[0xfe, 0xfd]);
    bytes[3..5].copy_from_slice(&epoch.to_be_bytes());
    bytes[5..11].copy_from_slice(&sequence.to_be_bytes()[2..]);
    let end = 11 + connection_id.len();
    bytes[11..end].copy_from_slice(connection_id);
    bytes[end..end + 2].copy_from_slice(&(body_len as u16).to_be_bytes());
}

/// The whole number whose low `bits` bits are `low` and that is closest to `expected`
/// (RFC 9147 section 4.2.2).
pub(crate) fn reconstruct(low: u64, bits: u32, expected: u64) -> u64 {
    let span = 1u64 << bits;
    let candidate = expected & !(span - 1) | low;
    if candidate > expected && candidate - expected > span / 2 && candidate >= span {
        candidate - span
    } else if candidate < expected && expected - candidate > span / 2 {
        candidate.saturating_add(span)
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::{ContentType, RecordHeader, reconstruct, write_legacy};

    #[test]
    fn sequence_numbers_are_rebuilt_around_the_expected_one() {
        for expected in [0u64, 1, 100, 127, 128, 255, 256, 300, 65_535, 1 << 40] {
            for actual in expected.saturating_sub(127)..expected + 128 {
                assert_eq!(reconstruct(actual & 0xff, 8, expected), actual);
                assert_eq!(reconstruct(actual & 0xffff, 16, expected), actual);
            }
        }
    }

    #[test]
    fn the_headers_of_rfc_9147_figure_4_parse() {
        let plain = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2, 9, 9];
        assert_eq!(
            RecordHeader::parse(&plain, &[]),
            Some(RecordHeader::Legacy {
                content_type: ContentType::HANDSHAKE,
                epoch: 0,
                sequence: 7,
                header_len: 13,
                body_len: 2,
            })
        );
        let full = [0b0011_1110, 0xaa, 0xbb, 0, 5, 0, 3, 1, 2, 3, 99];
        let parsed = RecordHeader::parse(&full, &[0xaa, 0xbb]).unwrap();
        assert_eq!(
            parsed,
            RecordHeader::Unified {
                epoch_bits: 2,
                sequence_at: 3,
                sequence_len: 2,
                header_len: 7,
                body_len: 3,
            }
        );
        assert_eq!(parsed.record_len(), 10);
        let minimal = [0b0010_0011, 5, 1, 2, 3];
        assert_eq!(
            RecordHeader::parse(&minimal, &[]),
            Some(RecordHeader::Unified {
                epoch_bits: 3,
                sequence_at: 1,
                sequence_len: 1,
                header_len: 2,
                body_len: 3,
            })
        );
    }

    #[test]
    fn records_that_are_none_are_refused() {
        assert_eq!(RecordHeader::parse(&[], &[]), None);
        // Cut short, a foreign first byte, a foreign version.
        assert_eq!(
            RecordHeader::parse(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2, 9], &[]),
            None
        );
        assert_eq!(RecordHeader::parse(&[0x80; 40], &[]), None);
        assert_eq!(
            RecordHeader::parse(&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0], &[]),
            None
        );
        // A connection ID that nobody asked for, and a missing one.
        assert_eq!(RecordHeader::parse(&[0b0011_0011, 5, 1, 2, 3], &[]), None);
        assert_eq!(RecordHeader::parse(&[0b0010_0011, 5, 1, 2, 3], &[5]), None);
        assert_eq!(RecordHeader::parse(&[0b0011_0011, 6, 1, 2, 3], &[5]), None);
        let mut with_id = [0; 14];
        write_legacy(&mut with_id, ContentType::TLS12_CID, 1, 2, &[5], 0);
        assert!(RecordHeader::parse(&with_id, &[5]).is_some());
        assert_eq!(RecordHeader::parse(&with_id, &[6]), None);
        assert_eq!(RecordHeader::parse(&with_id, &[]), None);
    }
}
