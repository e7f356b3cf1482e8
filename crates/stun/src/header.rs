//! The 20-byte header: class, method, transaction.

use std::fmt;

use visavis_datagram::Random;

/// Bytes of a STUN header (RFC 8489 section 5).
pub const HEADER_LEN: usize = 20;

/// Bytes of the largest message: the length field counts up to 65532 after the header.
pub const MAX_MESSAGE_LEN: usize = HEADER_LEN + 0xfffc;

/// Bytes 4 to 7 of every message since RFC 5389.
pub const MAGIC_COOKIE: u32 = 0x2112_a442;

/// What a message is for (RFC 8489 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Expects a response.
    Request = 0b00,
    /// Expects none.
    Indication = 0b01,
    /// A request succeeded.
    Success = 0b10,
    /// A request failed: ERROR-CODE says why.
    Error = 0b11,
}

impl Class {
    /// Whether the message answers a request.
    pub const fn is_response(self) -> bool {
        matches!(self, Self::Success | Self::Error)
    }
}

/// What a message is about: 12 bits (IANA "STUN Methods").
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(u16);

impl Method {
    /// Binding (RFC 8489).
    pub const BINDING: Self = Self(0x001);
    /// Allocate (RFC 8656 section 7).
    pub const ALLOCATE: Self = Self(0x003);
    /// Refresh (RFC 8656 section 8).
    pub const REFRESH: Self = Self(0x004);
    /// Send indication (RFC 8656 section 11).
    pub const SEND: Self = Self(0x006);
    /// Data indication (RFC 8656 section 11).
    pub const DATA: Self = Self(0x007);
    /// CreatePermission (RFC 8656 section 10).
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// ChannelBind (RFC 8656 section 12).
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// Connect (RFC 6062 section 4.3).
    pub const CONNECT: Self = Self(0x00a);
    /// ConnectionBind (RFC 6062 section 4.4).
    pub const CONNECTION_BIND: Self = Self(0x00b);
    /// ConnectionAttempt indication (RFC 6062 section 4.4).
    pub const CONNECTION_ATTEMPT: Self = Self(0x00c);
    /// GOOG-PING: a check without attributes, after the peer announced support (IANA, libwebrtc).
    pub const GOOG_PING: Self = Self(0x080);

    /// A method by its number.
    ///
    /// # Panics
    /// If `number` has more than 12 bits.
    pub const fn new(number: u16) -> Self {
        assert!(number < 0x1000, "STUN methods have 12 bits");
        Self(number)
    }

    /// The method's number, 12 bits.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::BINDING => "Binding",
            Self::ALLOCATE => "Allocate",
            Self::REFRESH => "Refresh",
            Self::SEND => "Send",
            Self::DATA => "Data",
            Self::CREATE_PERMISSION => "CreatePermission",
            Self::CHANNEL_BIND => "ChannelBind",
            Self::CONNECT => "Connect",
            Self::CONNECTION_BIND => "ConnectionBind",
            Self::CONNECTION_ATTEMPT => "ConnectionAttempt",
            Self::GOOG_PING => "GoogPing",
            Self(number) => return write!(f, "Method({number:#05x})"),
        })
    }
}

/// 96 random bits that tie a response to its request. RFC 3489 peers have 128: the other 32 are
/// where the magic cookie stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub [u8; 12]);

impl TransactionId {
    /// A fresh identifier, uniformly random as RFC 8489 section 5 asks.
    pub fn random(random: &mut Random) -> Self {
        Self(random.bytes())
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The 14 bits of the message type (RFC 8489 figure 3): M11-M7, C1, M6-M4, C0, M3-M0.
pub(crate) const fn message_type(class: Class, method: Method) -> u16 {
    let (class, method) = (class as u16, method.0);
    (method & 0x000f)
        | ((method & 0x0070) << 1)
        | ((method & 0x0f80) << 2)
        | ((class & 0b01) << 4)
        | ((class & 0b10) << 7)
}

/// The reverse of [`message_type`].
pub(crate) const fn split_type(message_type: u16) -> (Class, Method) {
    let class = match ((message_type >> 7) & 0b10) | ((message_type >> 4) & 0b01) {
        0b00 => Class::Request,
        0b01 => Class::Indication,
        0b10 => Class::Success,
        _ => Class::Error,
    };
    let method =
        (message_type & 0x000f) | ((message_type >> 1) & 0x0070) | ((message_type >> 2) & 0x0f80);
    (class, Method(method))
}

#[cfg(test)]
mod tests {
    use super::{Class, Method, message_type, split_type};

    #[test]
    fn rfc_8489_section_5_message_types() {
        assert_eq!(message_type(Class::Request, Method::BINDING), 0x0001);
        assert_eq!(message_type(Class::Indication, Method::BINDING), 0x0011);
        assert_eq!(message_type(Class::Success, Method::BINDING), 0x0101);
        assert_eq!(message_type(Class::Error, Method::BINDING), 0x0111);
        assert_eq!(message_type(Class::Request, Method::ALLOCATE), 0x0003);
        assert_eq!(message_type(Class::Indication, Method::DATA), 0x0017);
        assert_eq!(message_type(Class::Request, Method::GOOG_PING), 0x0200);
        assert_eq!(message_type(Class::Success, Method::GOOG_PING), 0x0300);
    }

    #[test]
    fn every_14_bit_type_splits_and_joins() {
        for bits in 0..0x4000 {
            let (class, method) = split_type(bits);
            assert_eq!(message_type(class, method), bits);
        }
    }
}
