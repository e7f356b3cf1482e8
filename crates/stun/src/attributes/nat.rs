//! What a STUN server says of addresses and errors (RFC 8489 section 14, RFC 5780, RFC 3489).

use super::simple::{bytes, number, plain_address, text, xor_address};
use crate::{Attribute, AttributeType, TransactionId};

plain_address!(
    /// MAPPED-ADDRESS: the sender as the server saw it, for RFC 3489 clients (RFC 8489 section 14.1).
    MappedAddress, MAPPED_ADDRESS
);
xor_address!(
    /// XOR-MAPPED-ADDRESS: the sender as the server saw it (RFC 8489 section 14.2).
    XorMappedAddress, XOR_MAPPED_ADDRESS
);
plain_address!(
    /// ALTERNATE-SERVER: whom to ask instead (RFC 8489 section 14.15).
    AlternateServer, ALTERNATE_SERVER
);
plain_address!(
    /// RESPONSE-ORIGIN: where the response was sent from (RFC 5780 section 7.3).
    ResponseOrigin, RESPONSE_ORIGIN
);
plain_address!(
    /// OTHER-ADDRESS: where a response comes from when CHANGE-REQUEST asks (RFC 5780 section 7.4).
    OtherAddress, OTHER_ADDRESS
);
plain_address!(
    /// SOURCE-ADDRESS: RFC 3489's RESPONSE-ORIGIN.
    SourceAddress, SOURCE_ADDRESS
);
plain_address!(
    /// CHANGED-ADDRESS: RFC 3489's OTHER-ADDRESS.
    ChangedAddress, CHANGED_ADDRESS
);
text!(
    /// SOFTWARE: at most 763 bytes (RFC 8489 section 14.14).
    Software, SOFTWARE, 763
);
text!(
    /// ALTERNATE-DOMAIN: the name that the alternate server's certificate has to bear (RFC 8489 section 14.16).
    AlternateDomain, ALTERNATE_DOMAIN, 255
);
text!(
    /// ORIGIN: the web origin on whose behalf the client asks (draft-ietf-tram-stun-origin).
    Origin, ORIGIN, 267
);
number!(
    /// CACHE-TIMEOUT: seconds for which the server remembers a RESPONSE-PORT (RFC 5780 section 7.1).
    CacheTimeout, CACHE_TIMEOUT, u32
);
bytes!(
    /// PADDING: makes a message long enough to be fragmented (RFC 5780 section 7.6).
    Padding, PADDING
);

/// RESPONSE-PORT: where to send the response (RFC 5780 section 7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResponsePort(pub u16);

impl Attribute<'_> for ResponsePort {
    const TYPE: AttributeType = AttributeType::RESPONSE_PORT;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        // The port and two bytes of padding, which some count in the length and some do not.
        match value {
            [p0, p1] | [p0, p1, _, _] => Some(Self(u16::from_be_bytes([*p0, *p1]))),
            _ => None,
        }
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out.copy_from_slice(&self.0.to_be_bytes());
    }
}

/// CHANGE-REQUEST: from which address the answer shall come (RFC 5780 section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ChangeRequest {
    /// From another IP address.
    pub change_ip: bool,
    /// From another port.
    pub change_port: bool,
}

impl Attribute<'_> for ChangeRequest {
    const TYPE: AttributeType = AttributeType::CHANGE_REQUEST;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let &[_, _, _, flags] = value else {
            return None;
        };
        Some(Self {
            change_ip: flags & 0x04 != 0,
            change_port: flags & 0x02 != 0,
        })
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[3] = u8::from(self.change_ip) << 2 | u8::from(self.change_port) << 1;
    }
}

/// ERROR-CODE: a number of 300 to 699 and a phrase for people (RFC 8489 section 14.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode<'a> {
    /// 300 to 699.
    pub code: u16,
    /// For people; at most 763 bytes. Empty where it is not UTF-8.
    pub reason: &'a str,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        impl ErrorCode<'static> {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, reason: $reason };)*
        }
    };
}

error_codes! {
    /// RFC 8489 section 14.8: ask ALTERNATE-SERVER.
    TRY_ALTERNATE = 300, "Try Alternate";
    /// RFC 8489 section 14.8.
    BAD_REQUEST = 400, "Bad Request";
    /// RFC 8489 section 14.8: credentials are missing or wrong.
    UNAUTHENTICATED = 401, "Unauthenticated";
    /// RFC 8656 section 19: valid, and not allowed.
    FORBIDDEN = 403, "Forbidden";
    /// RFC 8016 section 5.
    MOBILITY_FORBIDDEN = 405, "Mobility Forbidden";
    /// RFC 8489 section 14.8: UNKNOWN-ATTRIBUTES lists them.
    UNKNOWN_ATTRIBUTE = 420, "Unknown Attribute";
    /// RFC 8656 section 19: no allocation, or one where there shall be none.
    ALLOCATION_MISMATCH = 437, "Allocation Mismatch";
    /// RFC 8489 section 14.8: try again with the new NONCE.
    STALE_NONCE = 438, "Stale Nonce";
    /// RFC 8656 section 19.
    ADDRESS_FAMILY_NOT_SUPPORTED = 440, "Address Family not Supported";
    /// RFC 8656 section 19: not the credentials that made the allocation.
    WRONG_CREDENTIALS = 441, "Wrong Credentials";
    /// RFC 8656 section 19.
    UNSUPPORTED_TRANSPORT = 442, "Unsupported Transport Protocol";
    /// RFC 8656 section 19: the peer's address family is not the allocation's.
    PEER_FAMILY_MISMATCH = 443, "Peer Address Family Mismatch";
    /// RFC 6062 section 6.3.
    CONNECTION_ALREADY_EXISTS = 446, "Connection Already Exists";
    /// RFC 6062 section 6.3.
    CONNECTION_TIMEOUT_OR_FAILURE = 447, "Connection Timeout or Failure";
    /// RFC 8656 section 19.
    ALLOCATION_QUOTA_REACHED = 486, "Allocation Quota Reached";
    /// RFC 8445 section 7.3.1.1.
    ROLE_CONFLICT = 487, "Role Conflict";
    /// RFC 8489 section 14.8.
    SERVER_ERROR = 500, "Server Error";
    /// RFC 8656 section 19.
    INSUFFICIENT_CAPACITY = 508, "Insufficient Capacity";
}

impl<'a> Attribute<'a> for ErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ERROR_CODE;

    fn decode(value: &'a [u8], _: &TransactionId) -> Option<Self> {
        let (&[_, _, class, number], reason) = value.split_first_chunk()?;
        let class = class & 0b111;
        if !(3..=6).contains(&class) || number > 99 {
            return None;
        }
        Some(Self {
            code: u16::from(class) * 100 + u16::from(number),
            reason: std::str::from_utf8(reason).unwrap_or_default(),
        })
    }

    fn encoded_len(&self) -> usize {
        4 + self.reason.len()
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[2] = (self.code / 100) as u8 & 0b111;
        out[3] = (self.code % 100) as u8;
        out[4..].copy_from_slice(self.reason.as_bytes());
    }
}

/// UNKNOWN-ATTRIBUTES: the types that 420 is about (RFC 8489 section 14.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnknownAttributes {
    types: [u16; Self::MAX],
    len: u8,
}

impl UnknownAttributes {
    /// How many types are listed at most; a request with more is refused all the same.
    pub const MAX: usize = 16;

    /// The types in their order.
    pub fn types(&self) -> impl Iterator<Item = AttributeType> {
        self.types[..usize::from(self.len)]
            .iter()
            .copied()
            .map(AttributeType)
    }
}

impl FromIterator<AttributeType> for UnknownAttributes {
    /// The first [`MAX`](Self::MAX) different types.
    fn from_iter<I: IntoIterator<Item = AttributeType>>(types: I) -> Self {
        let mut list = Self::default();
        for kind in types {
            let len = usize::from(list.len);
            if len == Self::MAX {
                break;
            }
            if !list.types[..len].contains(&kind.0) {
                list.types[len] = kind.0;
                list.len += 1;
            }
        }
        list
    }
}

impl Attribute<'_> for UnknownAttributes {
    const TYPE: AttributeType = AttributeType::UNKNOWN_ATTRIBUTES;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let (types, rest) = value.as_chunks();
        rest.is_empty().then(|| {
            types
                .iter()
                .map(|&bytes| AttributeType(u16::from_be_bytes(bytes)))
                .collect()
        })
    }

    fn encoded_len(&self) -> usize {
        2 * usize::from(self.len)
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        for (word, kind) in out.chunks_exact_mut(2).zip(self.types()) {
            word.copy_from_slice(&kind.0.to_be_bytes());
        }
    }
}

/// TRANSACTION-TRANSMIT-COUNTER: which transmission this is, and which one is answered
/// (RFC 7982 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionTransmitCounter {
    /// In a request: the number of this transmission, from 1.
    pub request: u8,
    /// In a response: the number of responses sent so far to this request, from 1.
    pub response: u8,
}

impl Attribute<'_> for TransactionTransmitCounter {
    const TYPE: AttributeType = AttributeType::TRANSACTION_TRANSMIT_COUNTER;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let &[_, _, request, response] = value else {
            return None;
        };
        Some(Self { request, response })
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[2] = self.request;
        out[3] = self.response;
    }
}
