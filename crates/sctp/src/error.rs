//! What callers may be told.

/// A call that cannot be obeyed. Nothing that a peer sends leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The association is not (or no longer) open.
    #[error("the association is not open")]
    NotOpen,
    /// The send buffer is full; [`Event::Writable`](crate::Event::Writable) tells when to go on.
    #[error("the send buffer is full")]
    WouldBlock,
    /// The message is empty. SCTP carries none; data channels have payload identifiers for that.
    #[error("the message is empty")]
    EmptyMessage,
    /// The message is larger than allowed: by the limit of this end or of the remote one.
    #[error("the message has {size} bytes, {limit} are allowed")]
    MessageTooLarge {
        /// Bytes of the message.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The stream does not exist: beyond the negotiated number.
    #[error("stream {0} is beyond the negotiated number")]
    NoSuchStream(u16),
    /// The stream is being reset.
    #[error("stream {0} is being reset")]
    StreamResetting(u16),
    /// A message that is sent in parts is still open on the stream, or none is.
    #[error("a message in parts is open on the stream, or none is")]
    PartialMessage,
    /// The INIT chunk that signalling brought is none, or breaks RFC 9260.
    #[error("the INIT chunk is malformed")]
    MalformedInit,
    /// The call does not fit the state: e.g. a second `connect`.
    #[error("the call does not fit the state of the association")]
    WrongState,
    /// The channel is unknown or closed.
    #[error("the channel is closed")]
    ChannelClosed,
    /// The channel is not open yet.
    #[error("the channel is not open yet")]
    ChannelConnecting,
    /// No stream identifier is free, or the one asked for is taken or out of range.
    #[error("no stream identifier is free")]
    NoFreeStream,
    /// Label or protocol is longer than 65535 bytes, or both reliability limits are given.
    #[error("the channel's options are invalid")]
    InvalidOptions,
}
