//! Where a datagram comes from and where it goes.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

/// What carries datagrams (or, for the stream transports, framed messages) between two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP. The caller frames: RFC 4571 between ICE agents, STUN's own lengths towards a TURN server.
    Tcp,
    /// TLS over TCP, terminated by the caller. Only towards TURN servers.
    Tls,
    /// DTLS over UDP, terminated by the caller. Only towards TURN servers (RFC 7350).
    Dtls,
}

impl Protocol {
    /// Whether the protocol is a byte stream, in which messages never get lost or reordered.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dtls => "dtls",
        })
    }
}

/// One direction-less way between this host and another: a 5-tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// What carries the bytes.
    pub protocol: Protocol,
    /// The local address: where a received datagram arrived, where a sent one leaves from.
    pub local: SocketAddr,
    /// The remote address: where a received datagram came from, where a sent one goes.
    pub remote: SocketAddr,
}

impl Path {
    /// A UDP path.
    pub const fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Udp,
            local,
            remote,
        }
    }

    /// A TCP path.
    pub const fn tcp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Tcp,
            local,
            remote,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} <-> {}", self.protocol, self.local, self.remote)
    }
}

/// The two ECN bits of an IP header (RFC 3168 section 5, RFC 9331 for ECT(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable.
    #[default]
    NotEct = 0b00,
    /// ECT(1): ECN-capable, and the sender responds as RFC 9331 (L4S) asks.
    Ect1 = 0b01,
    /// ECT(0): ECN-capable, classic response.
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// The codepoint of the low two bits of a traffic-class or TOS byte.
    pub const fn from_bits(tos: u8) -> Self {
        match tos & 0b11 {
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            0b11 => Self::Ce,
            _ => Self::NotEct,
        }
    }

    /// The two bits.
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// What the network tells of a received datagram beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Where it arrived, and where it came from.
    pub path: Path,
    /// The two ECN bits of its IP header.
    pub ecn: Ecn,
    /// When it reached this host. A program that was kept from reading its sockets learns of it later, and
    /// whoever measures the path must not take that wait for the path's.
    pub at: Instant,
}
