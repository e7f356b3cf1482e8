//! The Data Channel Establishment Protocol (RFC 8832 section 5).

use bytes::{BufMut, Bytes, BytesMut};

use super::ChannelOptions;

const ACK: u8 = 2;
const OPEN: u8 = 3;
const UNORDERED: u8 = 0x80;
const RELIABLE: u8 = 0;
const REXMIT: u8 = 1;
const TIMED: u8 = 2;
/// Bytes of OPEN before label and protocol.
const OPEN_HEADER: usize = 12;

/// A DCEP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dcep {
    /// DATA_CHANNEL_ACK.
    Ack,
    /// DATA_CHANNEL_OPEN.
    Open(ChannelOptions),
}

impl Dcep {
    /// Reads a message. `None` for types and channel types unknown to RFC 8832, for lengths that do
    /// not add up, and for strings that are not UTF-8. A reliability parameter beyond 65535 is cut
    /// to that.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match *bytes.first()? {
            ACK => Some(Self::Ack),
            OPEN => {
                let header = bytes.get(..OPEN_HEADER)?;
                let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
                let parameter = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                let parameter = u16::try_from(parameter).unwrap_or(u16::MAX);
                let (label, protocol) = (usize::from(u16_at(8)), usize::from(u16_at(10)));
                let text = bytes.get(OPEN_HEADER..OPEN_HEADER + label + protocol)?;
                let (max_retransmits, max_packet_lifetime) = match header[1] & !UNORDERED {
                    RELIABLE => (None, None),
                    REXMIT => (Some(parameter), None),
                    TIMED => (None, Some(parameter)),
                    _ => return None,
                };
                Some(Self::Open(ChannelOptions {
                    label: String::from_utf8(text[..label].to_vec()).ok()?,
                    protocol: String::from_utf8(text[label..].to_vec()).ok()?,
                    ordered: header[1] & UNORDERED == 0,
                    max_retransmits,
                    max_packet_lifetime,
                    priority: u16_at(2),
                    negotiated: None,
                }))
            }
            _ => None,
        }
    }

    /// The message's bytes. Label and protocol of more than 65535 bytes are cut; `open` refuses them
    /// before.
    pub fn to_bytes(&self) -> Bytes {
        let options = match self {
            Self::Ack => return Bytes::from_static(&[ACK]),
            Self::Open(options) => options,
        };
        let label = &options.label.as_bytes()[..options.label.len().min(65_535)];
        let protocol = &options.protocol.as_bytes()[..options.protocol.len().min(65_535)];
        let (kind, parameter) = match (options.max_retransmits, options.max_packet_lifetime) {
            (Some(limit), _) => (REXMIT, limit),
            (None, Some(lifetime)) => (TIMED, lifetime),
            (None, None) => (RELIABLE, 0),
        };
        let unordered = if options.ordered { 0 } else { UNORDERED };
        let mut bytes = BytesMut::with_capacity(OPEN_HEADER + label.len() + protocol.len());
        bytes.put_u8(OPEN);
        bytes.put_u8(kind | unordered);
        bytes.put_u16(options.priority);
        bytes.put_u32(u32::from(parameter));
        bytes.put_u16(label.len() as u16);
        bytes.put_u16(protocol.len() as u16);
        bytes.put_slice(label);
        bytes.put_slice(protocol);
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::{ChannelOptions, Dcep};

    #[test]
    fn open_has_the_shape_of_rfc_8832_section_5_1() {
        let open = Dcep::Open(ChannelOptions {
            label: "chat".to_owned(),
            protocol: "x".to_owned(),
            ordered: false,
            max_retransmits: Some(3),
            priority: 512,
            ..ChannelOptions::default()
        });
        let bytes = open.to_bytes();
        assert_eq!(
            &bytes[..],
            b"\x03\x81\x02\x00\x00\x00\x00\x03\x00\x04\x00\x01chatx"
        );
        assert_eq!(Dcep::parse(&bytes), Some(open));
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        assert_eq!(Dcep::parse(b""), None);
        assert_eq!(Dcep::parse(b"\x07"), None);
        assert_eq!(Dcep::parse(b"\x02"), Some(Dcep::Ack));
        assert_eq!(
            Dcep::parse(b"\x03\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00cha"),
            None
        );
        assert_eq!(
            Dcep::parse(b"\x03\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
            None
        );
        assert_eq!(
            Dcep::parse(b"\x03\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\xff"),
            None
        );
    }
}
