//! Misuse that the caller hears of.

/// Why a call failed. Input from the peer never gives an error: it is counted in
/// [`Stats`](crate::Stats), or closes the connection with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The handshake is not complete.
    #[error("the handshake is not complete")]
    NotConnected,
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
    /// A datagram to seal has not the room that `framing` asks for around its payload.
    #[error("the datagram has not the room that the framing asks for")]
    Framing,
    /// The payload is longer than a record, or than the peer's record size limit.
    #[error("the payload is too long for one record")]
    PayloadTooLong,
    /// The operation exists in DTLS 1.3 only.
    #[error("the negotiated version has no such operation")]
    Version,
    /// More keying material was asked for than the exporter can give.
    #[error("more keying material was asked for than the exporter can give")]
    ExportLength,
    /// The configuration cannot work: it says what is missing.
    #[error("unusable configuration: {0}")]
    Config(&'static str),
}
