//! What TURN needs (RFC 8656 section 18, RFC 6062, RFC 8016).

use std::net::{IpAddr, SocketAddr};

use super::simple::{array, bytes, flag, number, xor_address};
use crate::address::{FAMILY_IPV4, FAMILY_IPV6};
use crate::channel_data::ChannelNumber;
use crate::{Attribute, AttributeType, TransactionId};

number!(
    /// LIFETIME: seconds that the server keeps the allocation (RFC 8656 section 18.2).
    Lifetime, LIFETIME, u32
);
number!(
    /// CONNECTION-ID: one TCP connection to a peer (RFC 6062 section 6.2.1).
    ConnectionId, CONNECTION_ID, u32
);
xor_address!(
    /// XOR-PEER-ADDRESS: the peer as the server sees it (RFC 8656 section 18.3).
    XorPeerAddress, XOR_PEER_ADDRESS
);
xor_address!(
    /// XOR-RELAYED-ADDRESS: what the server allocated (RFC 8656 section 18.5).
    XorRelayedAddress, XOR_RELAYED_ADDRESS
);
bytes!(
    /// DATA: application data, of any length (RFC 8656 section 18.4).
    Data, DATA
);
bytes!(
    /// MOBILITY-TICKET: empty to ask for one, the server's bytes to use it (RFC 8016 section 3.4).
    MobilityTicket, MOBILITY_TICKET
);
array!(
    /// RESERVATION-TOKEN: the reserved next-higher port (RFC 8656 section 18.10).
    ReservationToken, RESERVATION_TOKEN, 8
);
flag!(
    /// DONT-FRAGMENT: the server sets the DF bit (RFC 8656 section 18.9).
    DontFragment, DONT_FRAGMENT
);

/// An address family, as attributes number it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressFamily {
    /// IPv4, 0x01.
    V4,
    /// IPv6, 0x02.
    V6,
}

impl AddressFamily {
    /// The family of an IP address.
    pub const fn of(ip: &IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family of a socket address.
    pub const fn of_socket(address: &SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::V4 => FAMILY_IPV4,
            Self::V6 => FAMILY_IPV6,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            FAMILY_IPV4 => Some(Self::V4),
            FAMILY_IPV6 => Some(Self::V6),
            _ => None,
        }
    }
}

macro_rules! family {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name {
            /// The family's number: [`family`](Self::family) names the known ones.
            pub number: u8,
        }

        impl $name {
            /// Asks for a family.
            pub const fn new(family: AddressFamily) -> Self {
                Self { number: family.number() }
            }

            /// The family; `None` for a number that nobody knows (answer 440).
            pub const fn family(self) -> Option<AddressFamily> {
                AddressFamily::from_number(self.number)
            }
        }

        impl Attribute<'_> for $name {
            const TYPE: AttributeType = AttributeType::$kind;

            fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
                let &[number, _, _, _] = value else {
                    return None;
                };
                Some(Self { number })
            }

            fn encoded_len(&self) -> usize {
                4
            }

            fn encode(&self, out: &mut [u8], _: &TransactionId) {
                out[0] = self.number;
            }
        }
    };
}

family!(
    /// REQUESTED-ADDRESS-FAMILY: of the relayed address (RFC 8656 section 18.6).
    RequestedAddressFamily, REQUESTED_ADDRESS_FAMILY
);
family!(
    /// ADDITIONAL-ADDRESS-FAMILY: an IPv6 relayed address too (RFC 8656 section 18.11).
    AdditionalAddressFamily, ADDITIONAL_ADDRESS_FAMILY
);

/// CHANNEL-NUMBER (RFC 8656 section 18.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel {
    /// 16 bits; [`channel`](Self::channel) says whether they are a channel's.
    pub number: u16,
}

impl Channel {
    /// A channel.
    pub const fn new(channel: ChannelNumber) -> Self {
        Self {
            number: channel.number(),
        }
    }

    /// The channel; `None` outside 0x4000..=0x4FFF (answer 400).
    pub const fn channel(self) -> Option<ChannelNumber> {
        ChannelNumber::new(self.number)
    }

    /// As [`channel`](Self::channel), with the range of RFC 5766.
    pub const fn channel_rfc5766(self) -> Option<ChannelNumber> {
        ChannelNumber::new_rfc5766(self.number)
    }
}

impl Attribute<'_> for Channel {
    const TYPE: AttributeType = AttributeType::CHANNEL_NUMBER;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let &[n0, n1, _, _] = value else {
            return None;
        };
        Some(Self {
            number: u16::from_be_bytes([n0, n1]),
        })
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[..2].copy_from_slice(&self.number.to_be_bytes());
    }
}

/// EVEN-PORT: the relayed port shall be even (RFC 8656 section 18.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EvenPort {
    /// The R bit: reserve the next-higher port too.
    pub reserve_next: bool,
}

impl Attribute<'_> for EvenPort {
    const TYPE: AttributeType = AttributeType::EVEN_PORT;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let &[flags] = value else {
            return None;
        };
        Some(Self {
            reserve_next: flags & 0x80 != 0,
        })
    }

    fn encoded_len(&self) -> usize {
        1
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[0] = u8::from(self.reserve_next) << 7;
    }
}

/// REQUESTED-TRANSPORT: an IP protocol number (RFC 8656 section 18.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestedTransport(pub u8);

impl RequestedTransport {
    /// A UDP allocation.
    pub const UDP: Self = Self(17);
    /// A TCP allocation (RFC 6062).
    pub const TCP: Self = Self(6);
}

impl Attribute<'_> for RequestedTransport {
    const TYPE: AttributeType = AttributeType::REQUESTED_TRANSPORT;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let &[protocol, _, _, _] = value else {
            return None;
        };
        Some(Self(protocol))
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[0] = self.0;
    }
}

/// ADDRESS-ERROR-CODE: why one family of a dual allocation was not given (RFC 8656 section 18.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressErrorCode<'a> {
    /// Which family.
    pub family: AddressFamily,
    /// 440 or 508.
    pub code: u16,
    /// For people. Empty where it is not UTF-8.
    pub reason: &'a str,
}

impl<'a> Attribute<'a> for AddressErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ADDRESS_ERROR_CODE;

    fn decode(value: &'a [u8], _: &TransactionId) -> Option<Self> {
        let (&[family, _, class, number], reason) = value.split_first_chunk()?;
        Some(Self {
            family: AddressFamily::from_number(family)?,
            code: u16::from(class & 0b111) * 100 + u16::from(number),
            reason: std::str::from_utf8(reason).unwrap_or_default(),
        })
    }

    fn encoded_len(&self) -> usize {
        4 + self.reason.len()
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[0] = self.family.number();
        out[2] = (self.code / 100) as u8 & 0b111;
        out[3] = (self.code % 100) as u8;
        out[4..].copy_from_slice(self.reason.as_bytes());
    }
}

/// ICMP: what a router answered to a relayed datagram (RFC 8656 section 18.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Icmp {
    /// The ICMP or ICMPv6 type.
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// The next hop's MTU where the message was about that, or 0.
    pub data: u32,
}

impl Attribute<'_> for Icmp {
    const TYPE: AttributeType = AttributeType::ICMP;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let &[_, _, kind, code, d0, d1, d2, d3] = value else {
            return None;
        };
        Some(Self {
            kind,
            code,
            data: u32::from_be_bytes([d0, d1, d2, d3]),
        })
    }

    fn encoded_len(&self) -> usize {
        8
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[2] = self.kind;
        out[3] = self.code;
        out[4..].copy_from_slice(&self.data.to_be_bytes());
    }
}
