//! What a client tells its owner.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use visavis_datagram::Path;
use visavis_stun::attributes::Icmp;

/// The relayed addresses of an allocation: at least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Relayed {
    /// The IPv4 address.
    pub v4: Option<SocketAddrV4>,
    /// The IPv6 address.
    pub v6: Option<SocketAddrV6>,
}

impl Relayed {
    /// The address of a peer's family: peers are reached from the same family only.
    pub fn for_peer(&self, peer: &IpAddr) -> Option<SocketAddr> {
        match peer {
            IpAddr::V4(_) => self.v4.map(SocketAddr::V4),
            IpAddr::V6(_) => self.v6.map(SocketAddr::V6),
        }
    }

    /// Both addresses, as far as there are.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        [self.v4.map(SocketAddr::V4), self.v6.map(SocketAddr::V6)]
            .into_iter()
            .flatten()
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The server made the allocation.
    Allocated {
        /// Where peers send to.
        relayed: Relayed,
        /// The client as the server sees it: a server-reflexive candidate.
        mapped: SocketAddr,
        /// How long the server keeps the allocation without a refresh.
        lifetime: Duration,
    },
    /// The client needs another socket: open it and call [`Client::reconnect`](crate::client::Client::reconnect). Any
    /// earlier allocation is gone; permissions and channels come back by themselves.
    NewPathNeeded {
        /// The server to ask.
        server: SocketAddr,
        /// The name that the server's certificate has to bear, where it is another (RFC 8489 section 10).
        domain: Option<String>,
        /// Why.
        reason: NewPathReason,
    },
    /// The server lets this peer's datagrams through.
    PermissionGranted(IpAddr),
    /// The server refuses the peer; the code is 403, 443, 508, ...
    PermissionDenied {
        /// The peer.
        peer: IpAddr,
        /// The error code; 0 if no answer came.
        code: u16,
    },
    /// From now on data to the peer travels as ChannelData.
    ChannelBound(SocketAddr),
    /// A router dropped a datagram on the way to the peer (RFC 8656 section 11.5).
    Icmp {
        /// The peer.
        peer: SocketAddr,
        /// What the router said.
        icmp: Icmp,
    },
    /// The allocation moved to this path (RFC 8016).
    Moved(Path),
    /// The server would not move the allocation; it stays on its path.
    MoveFailed {
        /// The error code; 0 if no answer came.
        code: u16,
    },
    /// It is over, and nothing more happens.
    Failed(Failure),
    /// The allocation was given back.
    Closed,
}

/// Why another socket is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NewPathReason {
    /// The server sent the client elsewhere: 300 with ALTERNATE-SERVER.
    Redirected,
    /// 437 to Allocate: the server has an allocation for this 5-tuple already.
    PortInUse,
    /// 437 to Refresh: the server knows nothing of the allocation.
    AllocationLost,
}

/// Why it is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server does not answer.
    #[error("the TURN server does not answer")]
    Timeout,
    /// 401 to the right realm, or 441: user name or password are wrong.
    #[error("the TURN server refuses the credentials")]
    Unauthorized,
    /// All answers failed the integrity check (RFC 8489 section 9.2.5).
    #[error("the TURN server's answers fail the integrity check")]
    IntegrityViolated,
    /// Somebody took PASSWORD-ALGORITHMS from the server's answer, or it offers none that is known.
    #[error("the TURN server's password algorithms are missing or unknown")]
    PasswordAlgorithms,
    /// The server refuses with this code.
    #[error("the TURN server refuses with {code} {reason}")]
    Refused {
        /// The error code.
        code: u16,
        /// The server's words.
        reason: String,
    },
    /// Servers send the client in a circle, or too far.
    #[error("too many alternate servers")]
    TooManyPaths,
    /// The server's answer makes no sense.
    #[error("the TURN server's answer makes no sense")]
    Malformed,
    /// The path broke: [`Client::path_lost`](crate::client::Client::path_lost).
    #[error("the connection to the TURN server broke")]
    PathLost,
}

/// Misuse of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no allocation (yet, or any more).
    #[error("there is no allocation")]
    NotAllocated,
    /// The allocation has no address of the peer's family.
    #[error("the allocation has no address of the peer's family")]
    WrongFamily,
    /// Nobody called `permit` or `bind` for the peer, or the server refused it.
    #[error("the peer has no permission")]
    NoPermission,
    /// `max_peers` peers are known already.
    #[error("too many peers")]
    TooManyPeers,
    /// The datagram does not fit the buffer, or the run that stands in it.
    #[error("the datagram does not fit")]
    DoesNotFit,
    /// The server gave no ticket (RFC 8016).
    #[error("the server gave no mobility ticket")]
    NoTicket,
}
