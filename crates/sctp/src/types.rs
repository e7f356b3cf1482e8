//! The words of the public API.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// A stream identifier (RFC 9260 section 3.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u16);

/// A payload protocol identifier (RFC 9260 section 3.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ppid(pub u32);

impl Ppid {
    /// WebRTC DCEP (RFC 8832).
    pub const DCEP: Self = Self(50);
    /// WebRTC String (RFC 8831 section 8).
    pub const STRING: Self = Self(51);
    /// WebRTC Binary Partial, deprecated.
    pub const BINARY_PARTIAL: Self = Self(52);
    /// WebRTC Binary.
    pub const BINARY: Self = Self(53);
    /// WebRTC String Partial, deprecated.
    pub const STRING_PARTIAL: Self = Self(54);
    /// WebRTC String Empty.
    pub const STRING_EMPTY: Self = Self(56);
    /// WebRTC Binary Empty.
    pub const BINARY_EMPTY: Self = Self(57);
}

/// How long SCTP tries to deliver a message (RFC 3758, RFC 7496).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reliability {
    /// Until it arrives.
    #[default]
    Reliable,
    /// At most so many retransmissions of each of its chunks.
    MaxRetransmits(u16),
    /// For so long after `send`.
    MaxLifetime(Duration),
}

/// How a message is to be delivered. The default is ordered and reliable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendOptions {
    /// In the order of `send` among the ordered messages of its stream.
    pub ordered: bool,
    /// How long to try.
    pub reliability: Reliability,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            ordered: true,
            reliability: Reliability::Reliable,
        }
    }
}

/// A received message, or a part of one that is too large to be handed out whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The stream it came on.
    pub stream: StreamId,
    /// What it carries.
    pub ppid: Ppid,
    /// Whether it was sent unordered.
    pub unordered: bool,
    /// Whether this is the beginning. A whole message is both first and last.
    pub first: bool,
    /// Whether this is the end. Parts of one message come in order; messages on other streams, and
    /// whole unordered ones on the same stream, may stand between them. A part with `first` (and
    /// not `last`) before the `last` of the parts before it on the same stream means that the
    /// sender abandoned that message.
    pub last: bool,
    /// The bytes.
    pub data: Bytes,
}

/// Where an association stands (RFC 9260 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not started, or over.
    Closed,
    /// INIT sent.
    CookieWait,
    /// COOKIE ECHO sent.
    CookieEchoed,
    /// Open.
    Established,
    /// Shutting down as soon as everything is acknowledged.
    ShutdownPending,
    /// SHUTDOWN sent.
    ShutdownSent,
    /// SHUTDOWN received.
    ShutdownReceived,
    /// SHUTDOWN ACK sent.
    ShutdownAckSent,
}

impl State {
    /// Whether data may arrive.
    pub const fn is_connected(self) -> bool {
        !matches!(self, Self::Closed | Self::CookieWait)
    }
}

/// Why an association ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both ends shut down, all data delivered.
    Shutdown,
    /// `abort` was called here.
    LocalAbort,
    /// The peer aborted; the first error cause code it gave (RFC 9260 section 3.3.10), or 0.
    RemoteAbort(u16),
    /// The peer no longer answers.
    TimedOut,
    /// The peer broke the protocol in a way that RFC 9260 answers with ABORT.
    ProtocolViolation,
    /// The peer made this end hold more than its limits allow.
    OutOfResources,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("shut down"),
            Self::LocalAbort => f.write_str("aborted here"),
            Self::RemoteAbort(cause) => write!(f, "aborted by the peer (cause {cause})"),
            Self::TimedOut => f.write_str("the peer does not answer"),
            Self::ProtocolViolation => f.write_str("the peer broke the protocol"),
            Self::OutOfResources => f.write_str("the peer exceeded this end's limits"),
        }
    }
}

/// What both ends agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Negotiated {
    /// Streams that this end may send on: 0 to this, exclusively.
    pub outbound_streams: u16,
    /// Streams that the peer may send on.
    pub inbound_streams: u16,
    /// I-DATA and I-FORWARD-TSN are in use (RFC 8260).
    pub interleaving: bool,
    /// FORWARD-TSN is in use (RFC 3758).
    pub partial_reliability: bool,
    /// Streams can be reset (RFC 6525).
    pub reconfiguration: bool,
    /// The peer takes packets without checksum (RFC 9653).
    pub zero_checksum: bool,
    /// ECN is in use.
    pub ecn: bool,
}

/// What an association has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Data may flow.
    Established(Negotiated),
    /// The peer lost its state and began anew (RFC 9260 section 5.2.4 action A): streams start
    /// from zero, unacknowledged messages are gone.
    Restarted(Negotiated),
    /// Over. Nothing follows, but what was received can still be read.
    Closed(CloseReason),
    /// At least one message waits for `recv`. Told once until `recv` answers `None`.
    Readable,
    /// The send buffer has room again, after `send` answered `WouldBlock`.
    Writable,
    /// The bytes that wait on a stream fell to its threshold.
    BufferedAmountLow(StreamId),
    /// The peer reset its sending side of these streams; empty means all of them. Told in order
    /// with the messages: those sent before the reset can be read before.
    IncomingReset(Vec<StreamId>),
    /// Streams that `reset_streams` named have been reset.
    OutgoingReset(Vec<StreamId>),
    /// The peer refused to reset these streams.
    ResetRefused(Vec<StreamId>),
    /// The peer asks this end to reset its sending side of these streams; empty means all of them.
    ResetRequested(Vec<StreamId>),
    /// The number of streams grew (RFC 6525 section 5.2.5 and 5.2.6).
    StreamsAdded(Negotiated),
    /// The path does not answer, but the association has not given up yet.
    PathSuspect,
}
