//! What can be wrong with bytes.

use crate::AttributeType;

/// Why bytes are not a STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer than the 20 bytes of a header.
    #[error("shorter than a STUN header")]
    TooShort,
    /// The two most significant bits of the first byte are not zero (RFC 8489 section 5).
    #[error("the first two bits are not zero")]
    NotStun,
    /// The magic cookie is missing: an RFC 3489 message, or none at all.
    #[error("no magic cookie")]
    NoCookie,
    /// The length field is not a multiple of 4, or is not what follows the header.
    #[error("the length field does not match")]
    Length,
    /// An attribute claims more bytes than the message has.
    #[error("an attribute overruns the message")]
    Attribute,
}

/// The value of a present attribute breaks its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed attribute {0}")]
pub struct MalformedAttribute(pub AttributeType);

/// Why a message could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The caller's buffer is too small for the message.
    #[error("the buffer is too small")]
    BufferTooSmall,
    /// An attribute's value cannot be written: longer than 65535 bytes, or out of its range.
    #[error("attribute {0} cannot be written")]
    Attribute(AttributeType),
}

/// Why a byte stream cannot be followed any further. The connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Neither a STUN message nor ChannelData begins here.
    #[error("neither a STUN message nor ChannelData")]
    Desynchronised,
    /// A frame is announced that is longer than the limit.
    #[error("a frame of {0} bytes is longer than the limit")]
    FrameTooLong(usize),
}
