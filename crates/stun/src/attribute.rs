//! Attribute types, raw attributes, and the trait of typed ones.

use std::fmt;

use crate::header::TransactionId;

/// The 16-bit type of an attribute (IANA "STUN Attributes").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeType(pub u16);

macro_rules! attribute_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl AttributeType {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The registered name, for the types that this crate knows.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

attribute_types! {
    /// RFC 8489 section 14.1.
    MAPPED_ADDRESS = 0x0001, "MAPPED-ADDRESS";
    /// RFC 3489 section 11.2.2; only read.
    RESPONSE_ADDRESS = 0x0002, "RESPONSE-ADDRESS";
    /// RFC 5780 section 7.2.
    CHANGE_REQUEST = 0x0003, "CHANGE-REQUEST";
    /// RFC 3489 section 11.2.5; only read.
    SOURCE_ADDRESS = 0x0004, "SOURCE-ADDRESS";
    /// RFC 3489 section 11.2.3; only read.
    CHANGED_ADDRESS = 0x0005, "CHANGED-ADDRESS";
    /// RFC 8489 section 14.3.
    USERNAME = 0x0006, "USERNAME";
    /// RFC 8489 section 14.5.
    MESSAGE_INTEGRITY = 0x0008, "MESSAGE-INTEGRITY";
    /// RFC 8489 section 14.8.
    ERROR_CODE = 0x0009, "ERROR-CODE";
    /// RFC 8489 section 14.13.
    UNKNOWN_ATTRIBUTES = 0x000a, "UNKNOWN-ATTRIBUTES";
    /// RFC 8656 section 18.1.
    CHANNEL_NUMBER = 0x000c, "CHANNEL-NUMBER";
    /// RFC 8656 section 18.2.
    LIFETIME = 0x000d, "LIFETIME";
    /// RFC 8656 section 18.3.
    XOR_PEER_ADDRESS = 0x0012, "XOR-PEER-ADDRESS";
    /// RFC 8656 section 18.4.
    DATA = 0x0013, "DATA";
    /// RFC 8489 section 14.9.
    REALM = 0x0014, "REALM";
    /// RFC 8489 section 14.10.
    NONCE = 0x0015, "NONCE";
    /// RFC 8656 section 18.5.
    XOR_RELAYED_ADDRESS = 0x0016, "XOR-RELAYED-ADDRESS";
    /// RFC 8656 section 18.6.
    REQUESTED_ADDRESS_FAMILY = 0x0017, "REQUESTED-ADDRESS-FAMILY";
    /// RFC 8656 section 18.7.
    EVEN_PORT = 0x0018, "EVEN-PORT";
    /// RFC 8656 section 18.8.
    REQUESTED_TRANSPORT = 0x0019, "REQUESTED-TRANSPORT";
    /// RFC 8656 section 18.9.
    DONT_FRAGMENT = 0x001a, "DONT-FRAGMENT";
    /// RFC 7635 section 6.2.
    ACCESS_TOKEN = 0x001b, "ACCESS-TOKEN";
    /// RFC 8489 section 14.6.
    MESSAGE_INTEGRITY_SHA256 = 0x001c, "MESSAGE-INTEGRITY-SHA256";
    /// RFC 8489 section 14.12.
    PASSWORD_ALGORITHM = 0x001d, "PASSWORD-ALGORITHM";
    /// RFC 8489 section 14.4.
    USERHASH = 0x001e, "USERHASH";
    /// RFC 8489 section 14.2.
    XOR_MAPPED_ADDRESS = 0x0020, "XOR-MAPPED-ADDRESS";
    /// RFC 8656 section 18.10.
    RESERVATION_TOKEN = 0x0022, "RESERVATION-TOKEN";
    /// RFC 8445 section 7.1.1.
    PRIORITY = 0x0024, "PRIORITY";
    /// RFC 8445 section 7.1.2.
    USE_CANDIDATE = 0x0025, "USE-CANDIDATE";
    /// RFC 5780 section 7.6.
    PADDING = 0x0026, "PADDING";
    /// RFC 5780 section 7.5.
    RESPONSE_PORT = 0x0027, "RESPONSE-PORT";
    /// RFC 6062 section 6.2.1.
    CONNECTION_ID = 0x002a, "CONNECTION-ID";
    /// RFC 8656 section 18.11.
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY";
    /// RFC 8656 section 18.12.
    ADDRESS_ERROR_CODE = 0x8001, "ADDRESS-ERROR-CODE";
    /// RFC 8489 section 14.11.
    PASSWORD_ALGORITHMS = 0x8002, "PASSWORD-ALGORITHMS";
    /// RFC 8489 section 14.16.
    ALTERNATE_DOMAIN = 0x8003, "ALTERNATE-DOMAIN";
    /// RFC 8656 section 18.13.
    ICMP = 0x8004, "ICMP";
    /// RFC 8489 section 14.14.
    SOFTWARE = 0x8022, "SOFTWARE";
    /// RFC 8489 section 14.15.
    ALTERNATE_SERVER = 0x8023, "ALTERNATE-SERVER";
    /// RFC 7982 section 3.1.
    TRANSACTION_TRANSMIT_COUNTER = 0x8025, "TRANSACTION-TRANSMIT-COUNTER";
    /// RFC 5780 section 7.1.
    CACHE_TIMEOUT = 0x8027, "CACHE-TIMEOUT";
    /// RFC 8489 section 14.7.
    FINGERPRINT = 0x8028, "FINGERPRINT";
    /// RFC 8445 section 7.1.3.
    ICE_CONTROLLED = 0x8029, "ICE-CONTROLLED";
    /// RFC 8445 section 7.1.3.
    ICE_CONTROLLING = 0x802a, "ICE-CONTROLLING";
    /// RFC 5780 section 7.3.
    RESPONSE_ORIGIN = 0x802b, "RESPONSE-ORIGIN";
    /// RFC 5780 section 7.4.
    OTHER_ADDRESS = 0x802c, "OTHER-ADDRESS";
    /// RFC 7635 section 6.1.
    THIRD_PARTY_AUTHORIZATION = 0x802e, "THIRD-PARTY-AUTHORIZATION";
    /// draft-ietf-tram-stun-origin.
    ORIGIN = 0x802f, "ORIGIN";
    /// RFC 8016 section 3.4.
    MOBILITY_TICKET = 0x8030, "MOBILITY-TICKET";
    /// draft-thatcher-ice-renomination; the number libwebrtc uses.
    NOMINATION = 0xc001, "NOMINATION";
    /// libwebrtc: network identifier and cost of the sender's interface.
    GOOG_NETWORK_INFO = 0xc057, "GOOG-NETWORK-INFO";
    /// libwebrtc: when the last check was received.
    GOOG_LAST_ICE_CHECK_RECEIVED = 0xc058, "GOOG-LAST-ICE-CHECK-RECEIVED";
    /// libwebrtc: a list of 16-bit values, the first says which GOOG-PING version is spoken.
    GOOG_MISC_INFO = 0xc059, "GOOG-MISC-INFO";
    /// libwebrtc: the first 4 bytes of the HMAC-SHA1, for GOOG-PING.
    GOOG_MESSAGE_INTEGRITY_32 = 0xc060, "GOOG-MESSAGE-INTEGRITY-32";
    /// draft-hancke-webrtc-sped: one DTLS packet in a Binding request or response.
    DTLS_IN_STUN = 0xc070, "META-DTLS-IN-STUN";
    /// draft-hancke-webrtc-sped: hashes of the DTLS packets that arrived.
    DTLS_IN_STUN_ACK = 0xc071, "META-DTLS-IN-STUN-ACKNOWLEDGEMENT";
}

impl AttributeType {
    /// Whether a request must be refused with 420 by whoever does not know the type
    /// (RFC 8489 section 14: 0x0000-0x7FFF).
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }

    /// Whether this crate knows the type.
    pub const fn is_known(self) -> bool {
        self.name().is_some()
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

/// An attribute as it stands in a message: type and value without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// The type.
    pub kind: AttributeType,
    /// The value, without padding.
    pub value: &'a [u8],
}

impl<'a> RawAttribute<'a> {
    /// The typed value; `None` if this is another attribute, or malformed.
    pub fn decode<A: Attribute<'a>>(&self, transaction: &TransactionId) -> Option<A> {
        (self.kind == A::TYPE)
            .then(|| A::decode(self.value, transaction))
            .flatten()
    }
}

/// An attribute that this crate can read and write: see [`attributes`](crate::attributes).
///
/// Others may implement it for attributes of their own.
pub trait Attribute<'a>: Sized {
    /// The type on the wire.
    const TYPE: AttributeType;

    /// The value from its bytes (without padding); `None` if they break the format.
    fn decode(value: &'a [u8], transaction: &TransactionId) -> Option<Self>;

    /// How many bytes [`encode`](Self::encode) writes, without padding.
    fn encoded_len(&self) -> usize;

    /// Writes the value. `out` has exactly [`encoded_len`](Self::encoded_len) bytes, zeroed.
    fn encode(&self, out: &mut [u8], transaction: &TransactionId);
}
