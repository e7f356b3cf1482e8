//! ChannelData: four bytes before each payload instead of a whole message (RFC 8656 section 12.4).

use std::fmt;

/// Bytes of a ChannelData header.
pub const CHANNEL_HEADER_LEN: usize = 4;

/// A channel: 0x4000 to 0x4FFF (RFC 8656 section 12); up to 0x7FFE from clients of RFC 5766.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// The lowest.
    pub const MIN: Self = Self(0x4000);
    /// The highest.
    pub const MAX: Self = Self(0x4fff);

    /// A channel by its number; `None` outside 0x4000..=0x4FFF.
    pub const fn new(number: u16) -> Option<Self> {
        match number {
            0x4000..=0x4fff => Some(Self(number)),
            _ => None,
        }
    }

    /// As [`new`](Self::new), but up to 0x7FFE, which RFC 5766 section 11 allowed. Not where QUIC shares the port
    /// (RFC 9443).
    pub const fn new_rfc5766(number: u16) -> Option<Self> {
        match number {
            0x4000..=0x7ffe => Some(Self(number)),
            _ => None,
        }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// The header for a payload of up to 65535 bytes.
pub const fn channel_data_header(channel: ChannelNumber, payload_len: u16) -> [u8; 4] {
    let [n0, n1] = channel.0.to_be_bytes();
    let [l0, l1] = payload_len.to_be_bytes();
    [n0, n1, l0, l1]
}

/// A parsed ChannelData message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelData<'a> {
    /// The channel.
    pub channel: ChannelNumber,
    /// The payload, without padding. It begins at byte [`CHANNEL_HEADER_LEN`].
    pub payload: &'a [u8],
}

impl<'a> ChannelData<'a> {
    /// Parses a datagram, or one frame of a stream. Bytes behind the payload are padding and ignored
    /// (RFC 8656 section 12.5). `None` if the number is no channel's, not even RFC 5766's, or the payload is cut short.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[n0, n1, l0, l1], rest) = bytes.split_first_chunk()?;
        let channel = ChannelNumber::new_rfc5766(u16::from_be_bytes([n0, n1]))?;
        let payload = rest.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
        Some(Self { channel, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::{ChannelData, ChannelNumber, channel_data_header};

    #[test]
    fn rfc_8656_section_12_5_lengths() {
        let channel = ChannelNumber::new(0x4001).unwrap();
        let mut bytes = channel_data_header(channel, 3).to_vec();
        bytes.extend_from_slice(b"abc");
        let expected = ChannelData {
            channel,
            payload: b"abc",
        };
        assert_eq!(ChannelData::parse(&bytes), Some(expected));
        bytes.push(0);
        assert_eq!(ChannelData::parse(&bytes), Some(expected));
        assert_eq!(ChannelData::parse(&bytes[..6]), None);
        assert_eq!(ChannelData::parse(&bytes[..3]), None);
        for number in [0x3fff, 0x5000, 0x7fff, 0xffff] {
            assert_eq!(ChannelNumber::new(number), None);
        }
    }
}
