//! A simple reliable byte stream.

use std::net::SocketAddr;

use visavis_datagram::Path;

use crate::Payload;

/// What happened to a TCP connection; the [`Path`] beside it says which.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpEvent {
    /// A connection that this host opened stands.
    Connected,
    /// A connection to a listening address of this host stands.
    Accepted,
    /// The peer refused the connection (RST).
    Refused,
    /// The peer does not answer.
    TimedOut,
    /// Bytes, in order.
    Data(Payload),
    /// The peer will send no more (FIN).
    Finished,
    /// The peer reset the connection.
    Reset,
}

/// What an endpoint wants done with TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpCommand {
    /// Accept connections at this address.
    Listen(SocketAddr),
    /// Connect from the path's local address to its remote one.
    Connect(Path),
    /// Send bytes.
    Write(Path, Vec<u8>),
    /// Send no more, once everything written is sent.
    Close(Path),
    /// Forget the connection and reset the peer's end.
    Reset(Path),
}

#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "streams are built next")]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) sequence: u64,
    pub(crate) acknowledgement: u64,
}
