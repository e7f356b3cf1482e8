//! What an operator decides.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::Realm;
use super::event::RelayKind;
use super::filter::PeerFilter;
use super::pool::RelayPool;
use super::quota::SharedQuota;

/// An address that relayed addresses are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayAddress {
    /// What relay sockets are bound to.
    pub bind: IpAddr,
    /// What clients are told, where a 1:1 NAT stands in between; otherwise the same.
    pub external: IpAddr,
}

impl RelayAddress {
    /// An address without a NAT in front.
    pub const fn new(ip: IpAddr) -> Self {
        Self {
            bind: ip,
            external: ip,
        }
    }
}

/// Bytes and packets per second, both directions together; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Payload bytes per second.
    pub bytes: Option<u64>,
    /// Datagrams per second.
    pub packets: Option<u64>,
}

/// Bounds on everything that clients can make the server hold or do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Allocations in all. Default 50,000.
    pub allocations: usize,
    /// Allocations of one user. Default 64: a browser makes one per network interface and transport.
    pub allocations_per_user: usize,
    /// Allocations of one client address (IPv6: one /64). Default 1024: offices stand behind one address.
    pub allocations_per_address: usize,
    /// Permissions of one allocation. Default 128.
    pub permissions: usize,
    /// Channels of one allocation. Default 128.
    pub channels: usize,
    /// New permissions of one allocation per second, after the first `permissions`. Default 10.
    pub new_permissions_per_second: f64,
    /// Ports that are reserved by EVEN-PORT at once. Default 256.
    pub reservations: usize,
    /// Traffic of one allocation. Default without limit; so are the following.
    pub allocation_rate: Rate,
    /// Traffic of one user.
    pub user_rate: Rate,
    /// Traffic of one client address.
    pub address_rate: Rate,
    /// Traffic in all.
    pub total_rate: Rate,
    /// 401 and 438 answers per second to one source over UDP. Default 50, and 250 at once.
    pub challenges_per_second: f32,
    /// Answers to Binding per second to one source over UDP. Default 100, and 500 at once.
    pub bindings_per_second: f32,
    /// Bytes of answers that wait for the driver. Default 1 MiB.
    pub waiting_reply_bytes: usize,
    /// Requests that wait for an external credential check. Default 256.
    pub waiting_lookups: usize,
    /// TCP connections of one RFC 6062 allocation. Default 16.
    pub tcp_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations: 50_000,
            allocations_per_user: 64,
            allocations_per_address: 1024,
            permissions: 128,
            channels: 128,
            new_permissions_per_second: 10.0,
            reservations: 256,
            allocation_rate: Rate::default(),
            user_rate: Rate::default(),
            address_rate: Rate::default(),
            total_rate: Rate::default(),
            challenges_per_second: 50.0,
            bindings_per_second: 100.0,
            waiting_reply_bytes: 1 << 20,
            waiting_lookups: 256,
            tcp_connections: 16,
        }
    }
}

/// How many times a per-second limit a source may use up at once.
pub(super) const BURST: f32 = 5.0;

/// What the server does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Who may allocate. The first is the default realm; without any, nobody may.
    pub realms: Vec<Realm>,
    /// What relayed addresses are made of. Without any of a family, the family is refused with 440.
    pub relays: Vec<RelayAddress>,
    /// The ports of relayed addresses. Default 49152 to 65535. Workers of one process get ranges of their own.
    pub ports: RangeInclusive<u16>,
    /// The ports of all workers of the process: two clients meet at their relayed addresses, whoever serves them.
    /// Default: as `ports`.
    pub all_ports: Option<RangeInclusive<u16>>,
    /// What the workers of the process have open. With it, of this host's own addresses only relayed ones that are in use can be
    /// peers; without, those in `ports`.
    pub pool: Option<Arc<RelayPool>>,
    /// What the workers of the process count together: without it `limits` are a worker's own.
    pub quota: Option<Arc<SharedQuota>>,
    /// Which worker of the process this is, 0 to 63. Tickets, reservations and connection numbers tell it
    /// ([`Server::home_of`](super::Server::home_of)).
    pub worker: u8,
    /// The key of the nonces, which the workers of a process share; random if it is not given.
    pub nonce_key: Option<[u8; 32]>,
    /// Where the server itself listens: never a peer.
    pub listening: Vec<SocketAddr>,
    /// Other UDP services of this host that clients may reach over a relay, as they are named to clients: a meeting
    /// server's media ports. Default none; nothing else of this host is ever a peer.
    pub own_services: Vec<SocketAddr>,
    /// Who may be a peer.
    pub filter: PeerFilter,
    /// Bounds.
    pub limits: Limits,
    /// How long an allocation lives that asks for less, or for nothing. Default 600 s (RFC 8656 section 3.2).
    pub default_lifetime: Duration,
    /// How long an allocation may ask to live. Default 3600 s (RFC 8656 section 7.2).
    pub max_lifetime: Duration,
    /// How long a nonce is good for. Default 600 s.
    pub nonce_lifetime: Duration,
    /// Whether to offer PASSWORD-ALGORITHMS with SHA-256 (RFC 8489). Default on.
    pub password_algorithms: bool,
    /// Whether users shall hide their names in USERHASH (RFC 8489). Only for users that are listed. Default off.
    pub user_hash: bool,
    /// Whether a refresh needs time-limited credentials that are still good. Default off: a call outlives the
    /// credentials that it began with.
    pub strict_expiry: bool,
    /// Whether allocations may move to another client address (RFC 8016). Default on.
    pub mobility: bool,
    /// Whether clients may have TCP connections to peers (RFC 6062). Default off.
    pub tcp_relay: bool,
    /// Whether the driver can set the DF bit; otherwise DONT-FRAGMENT is an unknown attribute. Default on.
    pub dont_fragment: bool,
    /// Whether channels may have the numbers 0x5000 to 0x7FFE, which RFC 5766 allowed and RFC 8656 reserves: coturn's own
    /// client chooses from them. Default on.
    pub rfc5766_channels: bool,
    /// Whether to answer RFC 3489 clients, which send no magic cookie. Default off.
    pub classic: bool,
    /// Behaviour discovery (RFC 5780): the other address and port that the driver can send from. Default off: a
    /// reflector.
    pub other_address: Option<SocketAddr>,
    /// SOFTWARE to tell verified clients. Default none.
    pub software: Option<String>,
    /// This server's name, as an OAuth authorization server knows it (RFC 7635): clients are told it, and access tokens are
    /// bound to it. Default none.
    pub oauth_server: Option<String>,
    /// Where to send clients while draining (300); otherwise they get 508.
    pub alternate_servers: Vec<SocketAddr>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            realms: Vec::new(),
            relays: Vec::new(),
            ports: 49152..=65535,
            all_ports: None,
            pool: None,
            quota: None,
            worker: 0,
            nonce_key: None,
            listening: Vec::new(),
            own_services: Vec::new(),
            filter: PeerFilter::default(),
            limits: Limits::default(),
            default_lifetime: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(3600),
            nonce_lifetime: Duration::from_secs(600),
            password_algorithms: true,
            user_hash: false,
            strict_expiry: false,
            mobility: true,
            tcp_relay: false,
            dont_fragment: true,
            rfc5766_channels: true,
            classic: false,
            other_address: None,
            software: None,
            oauth_server: None,
            alternate_servers: Vec::new(),
        }
    }
}

impl ServerConfig {
    /// Whether a peer may be sent to.
    pub(super) fn allows_peer(&self, peer: SocketAddr, kind: RelayKind) -> bool {
        if self.listening.contains(&peer) {
            return false;
        }
        if kind == RelayKind::Udp && self.own_services.contains(&peer) {
            return true;
        }
        if self.is_own(peer.ip()) {
            // Two clients of one server meet at their relayed addresses, and at nothing else of this host.
            return match &self.pool {
                Some(pool) => pool.kind(peer) == Some(kind),
                None => self.is_relay(peer.ip()) && self.pool_ports().contains(&peer.port()),
            };
        }
        self.filter.allows_ip(peer.ip()) && self.filter.allows_port(peer.port())
    }

    /// Whether a permission may be given for an address.
    pub(super) fn allows_ip(&self, ip: IpAddr) -> bool {
        if self.is_own(ip) {
            self.is_relay(ip) || self.own_services.iter().any(|service| service.ip() == ip)
        } else {
            self.filter.allows_ip(ip)
        }
    }

    /// The ports that relayed addresses of this process have.
    pub(super) fn pool_ports(&self) -> &RangeInclusive<u16> {
        self.all_ports.as_ref().unwrap_or(&self.ports)
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.is_relay(ip) || self.listening.iter().any(|address| address.ip() == ip)
    }

    fn is_relay(&self, ip: IpAddr) -> bool {
        self.relays
            .iter()
            .any(|relay| relay.bind == ip || relay.external == ip)
    }
}
