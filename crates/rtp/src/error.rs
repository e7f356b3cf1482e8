//! What can be wrong with bytes, or with a value that has to become bytes.

/// Why bytes are no valid packet, or a value cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end before what they announce.
    #[error("truncated: {0}")]
    Truncated(&'static str),
    /// The version field is not 2 (RFC 3550 section 5.1).
    #[error("RTP version is not 2")]
    Version,
    /// The padding count is zero, or larger than what it pads.
    #[error("invalid padding")]
    Padding,
    /// A field has a value that its specification forbids.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A dependency descriptor that refers to a structure which the receiver does not have.
    #[error("no dependency structure is known")]
    NoStructure,
    /// The caller's buffer has no room for what was to be written.
    #[error("the buffer is too small")]
    BufferTooSmall,
    /// A value that the wire format cannot carry.
    #[error("not representable: {0}")]
    NotRepresentable(&'static str),
    /// A documented bound was reached.
    #[error("over the limit: {0}")]
    Limit(&'static str),
}

/// The result of this crate's parsers and writers.
pub type Result<T> = std::result::Result<T, Error>;
