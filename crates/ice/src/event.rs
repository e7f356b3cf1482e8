//! What an agent tells its owner.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use visavis_datagram::{Path, Protocol};

use crate::candidate::Candidate;
use crate::config::Role;

/// State of gathering (W3C `RTCIceGatheringState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GatheringState {
    /// Not begun.
    #[default]
    New,
    /// Under way.
    Gathering,
    /// Done: signal end-of-candidates (RFC 8838 section 14).
    Complete,
}

/// State of the session (W3C `RTCIceTransportState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum ConnectionState {
    /// Gathering, or waiting for remote candidates.
    #[default]
    New,
    /// Remote candidates are known and none works yet.
    Checking,
    /// A usable pair was found; others are still being checked.
    Connected,
    /// Checks are over, and a usable pair was found.
    Completed,
    /// The selected pair stopped answering; others are being tried. May heal by itself.
    Disconnected,
    /// No pair works. A restart may help.
    Failed,
    /// Closed by its owner.
    Closed,
}

/// Number of a candidate pair within its agent; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairId(pub(crate) u32);

impl PairId {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Number of a connection that the agent asked for; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) u32);

/// How messages stand in a byte stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamFraming {
    /// A 16-bit length before each message (RFC 4571): between ICE agents.
    Rfc4571,
    /// STUN messages and ChannelData by their own lengths, ChannelData padded to four bytes by whoever
    /// writes the stream (RFC 8656 section 12.5): towards servers.
    Turn,
}

/// A request for a connection, which the owner opens, and answers by
/// [`Agent::connected`](crate::Agent::connected) or
/// [`Agent::connect_failed`](crate::Agent::connect_failed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Quote it in the answer.
    pub id: ConnectionId,
    /// TCP or TLS.
    pub protocol: Protocol,
    /// The address to connect from. Port 0: any. Otherwise (simultaneous-open) exactly this one.
    pub local: SocketAddr,
    /// The address to connect to.
    pub remote: SocketAddr,
    /// How messages stand in the stream.
    pub framing: StreamFraming,
    /// The name that the TLS certificate must show; the address's own if `None`.
    pub server_name: Option<Box<str>>,
}

/// What a pair is made of, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedPair {
    /// The pair.
    pub id: PairId,
    /// The local candidate.
    pub local: Candidate,
    /// The remote candidate.
    pub remote: Candidate,
    /// The addresses as the owner's sockets see them; with a relay, those of the server.
    pub path: Path,
}

/// What an agent tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A local candidate was found: signal it.
    Candidate(Candidate),
    /// Gathering moved on.
    GatheringState(GatheringState),
    /// A server or an interface gave no candidate (W3C `icecandidateerror`).
    CandidateError {
        /// The local address; the unspecified one where addresses are hidden.
        local: SocketAddr,
        /// The server's URL.
        url: Box<str>,
        /// STUN's error code, 701 if the server did not answer.
        code: u16,
        /// The reason.
        text: Box<str>,
    },
    /// The session's state changed.
    ConnectionState(ConnectionState),
    /// Data now goes over this pair.
    SelectedPair(Box<SelectedPair>),
    /// A conflict changed the role.
    Role(Role),
    /// Open a connection.
    Connect(Connect),
    /// Close a connection.
    Disconnect(Path),
    /// Resolve a name under `.local` by multicast DNS, and answer by
    /// [`Agent::resolved`](crate::Agent::resolved).
    ResolveName(Box<str>),
}

/// What a datagram was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// It concerned the agent alone, or it was dropped and counted.
    Consumed,
    /// Application data, from a peer that has proven its address by an authenticated check.
    Data {
        /// The pair that it came over.
        pair: PairId,
        /// Where the payload stands in the datagram: all of it, unless a relay wrapped it.
        payload: Range<usize>,
    },
}

/// The answer of multicast DNS.
pub type Resolution = Option<IpAddr>;
