//! What was measured, before anybody says what it means.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Facts {
    /// Addresses of this machine, loopback left out.
    pub(crate) addresses: Vec<Address>,
    /// The servers that were named, or that the server named.
    pub(crate) server: Option<Server>,
    /// STUN over UDP, one per address of each server.
    pub(crate) stun: Vec<Stun>,
    /// How the NAT behaves, as far as the servers could tell.
    pub(crate) nat: Option<Nat>,
    /// TURN, one per URL.
    pub(crate) turn: Vec<Turn>,
    /// Whether a name published by multicast DNS can be resolved on this machine.
    pub(crate) mdns: Option<Result<(), String>>,
    /// The router's address for a port, or why there is none.
    pub(crate) port_mapping: Option<Result<SocketAddr, String>>,
    /// The largest UDP payload that came through unfragmented, of those tried.
    pub(crate) path_mtu: Option<PathMtu>,
    /// Which versions of DTLS pass.
    pub(crate) dtls: Option<Dtls>,
    /// What passed through a relay and back.
    pub(crate) quality: Option<Quality>,
    /// Why nothing was sent through a relay, though there is one.
    pub(crate) quality_refused: Option<String>,
}

/// Whether handshakes with a server came to their end, by version (RFC 9147, RFC 6347). A server that does not speak DTLS at its
/// STUN port lets neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Dtls {
    pub(crate) server: SocketAddr,
    pub(crate) dtls13: bool,
    pub(crate) dtls12: bool,
}

/// An address of an interface.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Address {
    pub(crate) interface: String,
    pub(crate) ip: IpAddr,
    /// The system routes to the world from it.
    pub(crate) default_route: bool,
}

/// What an HTTP request to the server gave.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Server {
    pub(crate) url: String,
    /// Why it could not be reached.
    pub(crate) error: Option<ServerError>,
    /// By how many seconds this machine's clock is ahead of the server's.
    pub(crate) clock_ahead: Option<i64>,
    /// Milliseconds from connecting to the answer.
    pub(crate) milliseconds: Option<u64>,
}

/// Why a server could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServerError {
    /// Its name has no address.
    Name(String),
    /// No TCP connection.
    Connect(String),
    /// The certificate is not trusted, or TLS failed.
    Tls(String),
    /// It is there but is no server of ours.
    Http(String),
}

/// A STUN server over UDP.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stun {
    pub(crate) server: SocketAddr,
    /// `None` if nothing came back.
    pub(crate) answer: Option<StunAnswer>,
    /// The name could not be resolved, the socket refused, ...
    pub(crate) error: Option<String>,
}

/// What a STUN server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct StunAnswer {
    /// How the server sees us.
    pub(crate) mapped: SocketAddr,
    /// The local address that was asked from.
    pub(crate) local: SocketAddr,
    /// The server's other address (RFC 5780).
    pub(crate) other: Option<SocketAddr>,
    /// Milliseconds.
    pub(crate) rtt: u64,
    /// Requests that were sent before one was answered.
    pub(crate) tries: u32,
}

/// How mappings or filters depend on the far side (RFC 4787 sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dependence {
    /// Not at all.
    EndpointIndependent,
    /// On its address.
    AddressDependent,
    /// On its address and port.
    AddressAndPortDependent,
}

/// A NAT, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Nat {
    /// The address that the world sees is our own.
    pub(crate) none: bool,
    pub(crate) mapping: Option<Dependence>,
    pub(crate) filtering: Option<Dependence>,
    /// Whether a datagram to our own outside address comes back.
    pub(crate) hairpin: Option<bool>,
}

/// How a TURN server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// A TURN server over one transport.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Turn {
    pub(crate) url: String,
    pub(crate) transport: Transport,
    pub(crate) result: TurnResult,
}

/// What came of asking for a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TurnResult {
    /// A relay was made.
    Relayed(SocketAddr),
    /// The name, the connection, or TLS failed.
    Unreachable(String),
    /// No answer to what was sent.
    Silent,
    /// User name or password are wrong.
    Credentials,
    /// The server refused.
    Refused(String),
}

/// Sizes of UDP payloads, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct PathMtu {
    /// The largest that came through.
    pub(crate) passed: Option<usize>,
    /// The smallest that did not.
    pub(crate) lost: Option<usize>,
}

/// What a stream of datagrams through a relay and back looked like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quality {
    /// Of the datagrams, from 0 to 1.
    pub(crate) loss: f64,
    /// Mean deviation of the transit time, milliseconds (RFC 3550 section 6.4.1).
    pub(crate) jitter: f64,
    /// Median transit time there and back, milliseconds.
    pub(crate) rtt: f64,
    /// What a short burst arrived at, bits per second. Where almost nothing of it arrived, what did in the time that was waited.
    pub(crate) bandwidth: Option<f64>,
}
