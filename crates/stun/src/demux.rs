//! Whose packet it is, by its first bytes (RFC 7983 section 7, RFC 9443 section 3).

/// What a datagram is, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// First byte 0 to 3, and a whole header with the magic cookie: see [`classify`].
    Stun,
    /// First byte 16 to 19 (RFC 6189).
    Zrtp,
    /// First byte 20 to 63: DTLS, of any version.
    Dtls,
    /// First byte 64 to 79: ChannelData on a 5-tuple of a TURN allocation, QUIC on any other.
    TurnChannel,
    /// First byte 80 to 127 or 192 to 255 (RFC 9443).
    Quic,
    /// First byte 128 to 191 and no RTCP packet type behind it.
    Rtp,
    /// First byte 128 to 191, and the second is 192 to 223 (RFC 5761 section 4).
    Rtcp,
    /// Anything else, and the empty datagram.
    Unknown,
}

/// Classifies a datagram by its first bytes.
///
/// What begins with 0 to 3 but has no STUN header with the magic cookie is [`PacketKind::Unknown`]; an RFC 3489
/// peer's message is found by [`Message::parse_classic`](crate::Message::parse_classic).
pub fn classify(datagram: &[u8]) -> PacketKind {
    match datagram {
        [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..] if datagram.len() >= 20 => PacketKind::Stun,
        [16..=19, ..] => PacketKind::Zrtp,
        [20..=63, ..] => PacketKind::Dtls,
        [64..=79, ..] => PacketKind::TurnChannel,
        [80..=127 | 192..=255, ..] => PacketKind::Quic,
        [128..=191, 192..=223, ..] => PacketKind::Rtcp,
        [128..=191, ..] => PacketKind::Rtp,
        _ => PacketKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{PacketKind, classify};

    #[test]
    fn rfc_9443_section_3_ranges() {
        let kind = |first: u8| classify(&[first, 0]);
        for first in 0..=255 {
            let expected = match first {
                16..=19 => PacketKind::Zrtp,
                20..=63 => PacketKind::Dtls,
                64..=79 => PacketKind::TurnChannel,
                80..=127 | 192.. => PacketKind::Quic,
                128..=191 => PacketKind::Rtp,
                _ => PacketKind::Unknown,
            };
            assert_eq!(kind(first), expected, "{first}");
        }
        assert_eq!(classify(&[0x80, 200]), PacketKind::Rtcp);
        assert_eq!(classify(&[0x80, 96 | 0x80]), PacketKind::Rtp);
        assert_eq!(classify(&[0x80, 111 | 0x80]), PacketKind::Rtp);
        assert_eq!(classify(&[]), PacketKind::Unknown);
        let mut binding = [0; 20];
        binding[1] = 1;
        assert_eq!(classify(&binding), PacketKind::Unknown);
        binding[4..8].copy_from_slice(&crate::MAGIC_COOKIE.to_be_bytes());
        assert_eq!(classify(&binding), PacketKind::Stun);
        assert_eq!(classify(&binding[..19]), PacketKind::Unknown);
    }
}
