//! What the core tells its driver.

use std::net::SocketAddr;
use std::time::Duration;

use visavis_datagram::Path;

use super::allocation::AllocationId;

/// What a relay address carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelayKind {
    /// UDP datagrams.
    Udp,
    /// TCP connections (RFC 6062): the driver listens.
    Tcp,
}

/// What the driver has to do. Each is told once, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Bind a relay socket and answer with [`Server::relay_opened`](super::Server::relay_opened).
    OpenRelay {
        /// What to bind to.
        relay: SocketAddr,
        /// What it carries.
        kind: RelayKind,
    },
    /// Close a relay socket.
    CloseRelay {
        /// What it was bound to.
        relay: SocketAddr,
    },
    /// Connect to a peer over TCP from the relay address; answer with
    /// [`Server::peer_connected`](super::Server::peer_connected) or [`Server::peer_connect_failed`](super::Server::peer_connect_failed).
    Connect {
        /// The source.
        relay: SocketAddr,
        /// The destination.
        peer: SocketAddr,
        /// What to call the connection.
        connection: u32,
    },
    /// From now on copy bytes between a client's TCP connection and a peer's, both ways, as they are.
    Splice {
        /// The client's connection.
        client: Path,
        /// The peer's.
        connection: u32,
    },
    /// Close a peer's TCP connection, and the client's that is spliced to it.
    CloseConnection {
        /// The peer's.
        connection: u32,
    },
}

/// What happened: for logs, metrics and credential services. Losing one harms nobody, but a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An allocation was made.
    Allocated(AllocationInfo),
    /// An allocation ended.
    Ended(AllocationInfo, EndReason),
    /// An allocation moved to another client address (RFC 8016).
    Moved(AllocationInfo),
    /// A user who is not listed: answer with [`Server::lookup_done`](super::Server::lookup_done).
    Lookup {
        /// The realm.
        realm: String,
        /// The name, as a stranger wrote it: escape it before it is logged.
        username: String,
    },
}

/// Why an allocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The client gave it back.
    Released,
    /// The client did not refresh it.
    Expired,
    /// The client's stream ended.
    ClientGone,
    /// The operator ended it.
    Ended,
    /// No relay socket could be bound.
    NoSocket,
}

/// An allocation, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllocationInfo {
    /// Its identifier.
    pub id: AllocationId,
    /// The user's name, as a stranger wrote it: escape it before it is logged, and do not make it a metric's label.
    pub username: String,
    /// The realm.
    pub realm: String,
    /// The client.
    pub client: Path,
    /// The relayed addresses.
    pub relayed: Vec<SocketAddr>,
    /// How much longer it lives without a refresh.
    pub expires_in: Duration,
    /// Permissions that were given and may have lapsed.
    pub permissions: usize,
    /// Channels that were bound and may have lapsed.
    pub channels: usize,
    /// Payload bytes from the client to peers.
    pub bytes_to_peers: u64,
    /// Payload bytes from peers to the client.
    pub bytes_to_client: u64,
}

/// What a worker counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Datagrams that are neither a STUN message nor ChannelData.
    pub malformed: u64,
    /// STUN messages whose FINGERPRINT is wrong.
    pub bad_fingerprints: u64,
    /// Requests of any kind.
    pub requests: u64,
    /// Success responses.
    pub successes: u64,
    /// Error responses.
    pub errors: u64,
    /// 401 and 438 responses.
    pub challenges: u64,
    /// Answers that were not given because the source has had too many.
    pub rate_limited: u64,
    /// Requests without credentials that are too short for an answer: it would be too long for them.
    pub too_short: u64,
    /// Answers that were not given because too many wait for the driver.
    pub replies_dropped: u64,
    /// Requests with a wrong integrity attribute or an unknown name.
    pub unauthenticated: u64,
    /// Requests for peers that the filter refuses.
    pub forbidden_peers: u64,
    /// Requests refused by a quota or for want of ports.
    pub over_quota: u64,
    /// Allocations made.
    pub allocations: u64,
    /// Datagrams to peers.
    pub packets_to_peers: u64,
    /// Their payload bytes.
    pub bytes_to_peers: u64,
    /// Datagrams to clients.
    pub packets_to_clients: u64,
    /// Their payload bytes.
    pub bytes_to_clients: u64,
    /// Datagrams from one client to another that never left the process.
    pub short_circuits: u64,
    /// Data without an allocation, a channel or a permission.
    pub unexpected_data: u64,
    /// Data beyond a rate.
    pub over_rate: u64,
}
