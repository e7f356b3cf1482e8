//! What an agent is told at construction and what its owner adds later: roles, timers, servers,
//! local addresses, policies and bounds.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use visavis_datagram::Protocol;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::candidate::{CandidateKind, TcpType};
use crate::pacer::{Pacer, ProcessPace};

/// The role of an agent (RFC 8445 section 6.1.1): the controlling one nominates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Chooses the pair. The offerer, if both agents are full or both are lite.
    Controlling,
    /// Follows the choice.
    Controlled,
}

/// Which candidates may be used (W3C `iceTransportPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TransportPolicy {
    /// All.
    #[default]
    All,
    /// Only relayed ones: the peer never learns an address of this host.
    Relay,
}

/// How much of the host's addresses may be shown (RFC 8828 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AddressMode {
    /// Mode 1: all interfaces.
    #[default]
    All,
    /// Mode 2: the default route's interface and its own address.
    DefaultRoute,
    /// Mode 3: the default route's interface; its private address is not offered.
    DefaultRoutePublic,
    /// Mode 4: only what goes through a proxy: relayed candidates over TCP or TLS.
    ProxyOnly,
}

/// The short-term credentials of one ICE session of one agent (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Credentials {
    /// Username fragment, 4 to 256 ice-chars.
    pub ufrag: Box<str>,
    /// Password, 22 to 256 ice-chars.
    pub pwd: Box<str>,
}

impl Credentials {
    /// Shortest and longest username fragment (RFC 8839 section 5.4).
    pub const UFRAG_LEN: RangeInclusive<usize> = 4..=256;
    /// Shortest and longest password (RFC 8839 section 5.4).
    pub const PWD_LEN: RangeInclusive<usize> = 22..=256;

    /// Credentials from what signalling gave.
    pub fn new(ufrag: impl Into<Box<str>>, pwd: impl Into<Box<str>>) -> Self {
        Self {
            ufrag: ufrag.into(),
            pwd: pwd.into(),
        }
    }

    /// Whether both follow the grammar of RFC 8839 section 5.4.
    pub fn is_valid(&self) -> bool {
        let ice_char = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
        // `-`, `_` and `=` are no ice-chars, but some servers in the field send them.
        let lenient = |b: u8| ice_char(b) || matches!(b, b'-' | b'_' | b'=' | b'#');
        Self::UFRAG_LEN.contains(&self.ufrag.len())
            && Self::PWD_LEN.contains(&self.pwd.len())
            && self.ufrag.bytes().all(lenient)
            && self.pwd.bytes().all(lenient)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// What signalling says of the peer's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteParameters {
    /// `ice-ufrag` and `ice-pwd`.
    pub credentials: Credentials,
    /// `ice-lite`.
    pub lite: bool,
    /// `ice-options` holds `renomination`.
    pub renomination: bool,
    /// `ice-pacing`: the Ta that the peer asks for (RFC 8839 section 5.5).
    pub pacing: Option<Duration>,
}

impl RemoteParameters {
    /// A full agent without options.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            lite: false,
            renomination: false,
            pacing: None,
        }
    }
}

/// A network that a local address belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Network {
    /// Name of the interface, e.g. `eth0`.
    pub name: Box<str>,
    /// A number that is equal for addresses of one interface (`network-id`).
    pub id: u16,
    /// Cost, 0 to 999, as libwebrtc counts: 0 Ethernet, 10 Wi-Fi, 50 unknown, 900 mobile.
    pub cost: u16,
}

/// A socket that the owner of the agent holds, as the agent must know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The bound address, never the unspecified one: what [`Path::local`](visavis_datagram::Path)
    /// says for datagrams that arrive. An active TCP address has port 0.
    pub address: SocketAddr,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Which end connects; only with TCP.
    pub tcp_type: Option<TcpType>,
    /// The network behind it.
    pub network: Network,
    /// Whether the system's default route leaves from here (RFC 8828).
    pub default_route: bool,
    /// A `.local` name that the owner answers for by multicast DNS: offered instead of the address.
    pub mdns_name: Option<Box<str>>,
}

impl LocalAddress {
    /// A UDP socket on an interface of unknown kind, on the default route.
    pub fn udp(address: SocketAddr) -> Self {
        Self {
            address,
            protocol: Protocol::Udp,
            tcp_type: None,
            network: Network {
                name: "".into(),
                id: 0,
                cost: 50,
            },
            default_route: true,
            mdns_name: None,
        }
    }

    /// The ability to open TCP connections from `ip`.
    pub fn tcp_active(ip: IpAddr) -> Self {
        Self {
            protocol: Protocol::Tcp,
            tcp_type: Some(TcpType::Active),
            ..Self::udp(SocketAddr::new(ip, 0))
        }
    }

    /// A listening TCP socket.
    pub fn tcp_passive(address: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Tcp,
            tcp_type: Some(TcpType::Passive),
            ..Self::udp(address)
        }
    }
}

/// What a server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerKind {
    /// STUN: tells the reflexive address.
    Stun,
    /// TURN: relays. Also tells the reflexive address.
    Turn {
        /// Username of the long-term credential.
        username: Box<str>,
        /// Password of the long-term credential.
        password: Secret,
    },
}

/// A string that is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<Box<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A STUN or TURN server, its name resolved by the agent's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The address that its name resolved to. One server with two families is two of these.
    pub address: SocketAddr,
    /// How to reach it.
    pub protocol: Protocol,
    /// What it does.
    pub kind: ServerKind,
    /// The URL it was configured by, for events and statistics.
    pub url: Box<str>,
    /// The name that its TLS certificate must show.
    pub server_name: Option<Box<str>>,
}

impl Server {
    /// A STUN server over TCP: tells how a port that takes TCP connections is seen (RFC 6544 section 5.2).
    pub fn stun_tcp(address: SocketAddr) -> Self {
        Self {
            protocol: Protocol::Tcp,
            url: format!("stun:{address}?transport=tcp").into(),
            ..Self::stun(address)
        }
    }

    /// A STUN server over UDP.
    pub fn stun(address: SocketAddr) -> Self {
        Self {
            address,
            protocol: Protocol::Udp,
            kind: ServerKind::Stun,
            url: format!("stun:{address}").into(),
            server_name: None,
        }
    }

    /// A TURN server.
    pub fn turn(
        address: SocketAddr,
        protocol: Protocol,
        username: impl Into<Box<str>>,
        password: impl Into<Box<str>>,
    ) -> Self {
        let (scheme, transport) = match protocol {
            Protocol::Udp => ("turn", "udp"),
            Protocol::Tcp => ("turn", "tcp"),
            Protocol::Tls => ("turns", "tcp"),
            Protocol::Dtls => ("turns", "udp"),
        };
        Self {
            address,
            protocol,
            kind: ServerKind::Turn {
                username: username.into(),
                password: Secret::new(password),
            },
            url: format!("{scheme}:{address}?transport={transport}").into(),
            server_name: None,
        }
    }
}

/// How an address rewriting rule changes the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RewriteMode {
    /// The external address stands in place of the local one.
    Replace,
    /// The external address is offered as well.
    Append,
}

/// Knowledge of a 1:1 NAT: `external` leads to the local addresses that the rule matches, port for
/// port. Offered as host or server-reflexive candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRewrite {
    /// The address to offer. Matches local addresses of its own family only.
    pub external: IpAddr,
    /// Only for this local address.
    pub local: Option<IpAddr>,
    /// Only for this interface.
    pub interface: Option<Box<str>>,
    /// In place of the local address or beside it.
    pub mode: RewriteMode,
    /// [`CandidateKind::Host`] or [`CandidateKind::ServerReflexive`].
    pub kind: CandidateKind,
}

/// Which local addresses are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only these interfaces, if any is named.
    pub interfaces: Vec<Box<str>>,
    /// Never these interfaces.
    pub excluded_interfaces: Vec<Box<str>>,
    /// Only these networks (address and prefix length), if any is named.
    pub networks: Vec<(IpAddr, u8)>,
    /// Never these networks.
    pub excluded_networks: Vec<(IpAddr, u8)>,
    /// Only ports in this range. Active TCP addresses pass.
    pub ports: Option<RangeInclusive<u16>>,
    /// Whether loopback addresses are taken.
    pub loopback: bool,
    /// Whether IPv6 link-local addresses are taken (RFC 8445 section 5.1.1.1).
    pub link_local: bool,
    /// Whether IPv4 is left out.
    pub no_ipv4: bool,
    /// Whether IPv6 is left out.
    pub no_ipv6: bool,
    /// Whether UDP is left out.
    pub no_udp: bool,
    /// Whether TCP between agents is left out.
    pub no_tcp: bool,
}

impl Filter {
    /// Whether `local` is taken.
    pub fn accepts(&self, local: &LocalAddress) -> bool {
        let ip = local.address.ip();
        let name = &local.network.name;
        let within =
            |networks: &[(IpAddr, u8)]| networks.iter().any(|&(net, len)| contains(net, len, ip));
        (self.interfaces.is_empty() || self.interfaces.contains(name))
            && !self.excluded_interfaces.contains(name)
            && (self.networks.is_empty() || within(&self.networks))
            && !within(&self.excluded_networks)
            && self.ports.as_ref().is_none_or(|ports| {
                local.address.port() == 0 || ports.contains(&local.address.port())
            })
            && (self.loopback || !ip.is_loopback())
            && (self.link_local || !is_link_local(ip))
            && !(self.no_ipv4 && ip.is_ipv4())
            && !(self.no_ipv6 && ip.is_ipv6())
            && !(self.no_udp && local.protocol == Protocol::Udp)
            && !(self.no_tcp && local.protocol == Protocol::Tcp)
    }
}

pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether `ip` stands in the network `net` of prefix length `len`.
fn contains(net: IpAddr, len: u8, ip: IpAddr) -> bool {
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(len.min(32)))
                .unwrap_or(0);
            net.to_bits() & mask == ip.to_bits() & mask
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(len.min(128)))
                .unwrap_or(0);
            net.to_bits() & mask == ip.to_bits() & mask
        }
        _ => false,
    }
}

/// Bounds on what a peer or a network can make an agent hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Candidate pairs (RFC 8445 section 6.1.2.5). Default 100.
    pub pairs: usize,
    /// Remote candidates, signalled and peer-reflexive. Default 100.
    pub remote_candidates: usize,
    /// Local addresses. Default 64.
    pub local_addresses: usize,
    /// Servers. Default 16.
    pub servers: usize,
    /// Gathering transactions and allocations at one time (servers times addresses). Default 64.
    pub gatherers: usize,
    /// Checks of the peer that are kept until its credentials are known. Default 16.
    pub early_checks: usize,
    /// Responses that wait to be sent. Default 64.
    pub responses: usize,
    /// Names that wait for multicast DNS. Default 16.
    pub names: usize,
    /// TCP connections, opened and accepted, of one agent. Default 32.
    pub connections: usize,
    /// Events that wait to be polled. Default 1024; the oldest of the rest is dropped and counted.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pairs: 100,
            remote_candidates: 100,
            local_addresses: 64,
            servers: 16,
            gatherers: 64,
            early_checks: 16,
            responses: 64,
            names: 16,
            connections: 32,
            events: 1024,
        }
    }
}

/// Timers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Retransmission timeout while nothing was measured (RFC 8489 section 6.2.1). Default 500 ms.
    pub initial_rto: Duration,
    /// Smallest retransmission timeout after a measurement. Default 100 ms.
    pub min_rto: Duration,
    /// Requests of one transaction over UDP, Rc (RFC 8489 section 6.2.1). Default 7.
    pub request_count: u32,
    /// How long to wait for a transaction over a stream, Ti (RFC 8489 section 6.2.2). Default 39.5 s.
    pub stream_timeout: Duration,
    /// Mean interval of consent checks, spread by a fifth both ways (RFC 7675 section 5.1).
    /// Default 5 s.
    pub consent_interval: Duration,
    /// Time without a response after which consent is lost (RFC 7675 section 5.1). Default 30 s.
    pub consent_timeout: Duration,
    /// Keep-alive interval Tr of pairs and mappings that are not selected (RFC 8445 section 11).
    /// Default 15 s.
    pub keepalive_interval: Duration,
    /// Least time before the state is failed (RFC 8863 section 4). Default 39.5 s.
    pub patience: Duration,
    /// How long a controlling agent waits for a better pair before it nominates. Default 500 ms.
    pub nomination_delay: Duration,
    /// The same while only relayed pairs are valid. Default 2 s.
    pub relay_nomination_delay: Duration,
    /// Silence of a path that carries data, after which it is probed. Default 1 s.
    pub silence: Duration,
    /// How long a STUN or TURN server may take. Default 10 s. As long is a relay kept that has lost its
    /// network and waits for another (RFC 8016).
    pub gathering: Duration,
    /// How long one TURN server is waited for before the next one is asked as well (as RFC 8305 section 5
    /// does with connections). Default 100 ms.
    pub relay_stagger: Duration,
    /// How long a session that was restarted away keeps answering. Default 30 s.
    pub old_session: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            initial_rto: Duration::from_millis(500),
            min_rto: Duration::from_millis(100),
            request_count: 7,
            stream_timeout: Duration::from_millis(39_500),
            consent_interval: Duration::from_secs(5),
            consent_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(15),
            patience: Duration::from_millis(39_500),
            nomination_delay: Duration::from_millis(500),
            relay_nomination_delay: Duration::from_secs(2),
            silence: Duration::from_secs(1),
            gathering: Duration::from_secs(10),
            relay_stagger: Duration::from_millis(100),
            old_session: Duration::from_secs(30),
        }
    }
}

/// Everything that an agent is told at construction. [`Default`] is a full, controlling agent with
/// the RFCs' values.
#[derive(Debug, Clone)]
pub struct Config {
    /// The role to begin with; a conflict may change it.
    pub role: Role,
    /// A lite agent: host candidates only, answers checks and sends none (RFC 8445 section 2.5).
    pub lite: bool,
    /// Credentials to use; drawn at random if `None`. A restart always draws.
    pub credentials: Option<Credentials>,
    /// What drawn username fragments begin with, up to 16 ice-chars: who has many agents can tell by it
    /// which of them a check is for.
    pub ufrag_prefix: Box<str>,
    /// A pace to share with other agents; `None` gives the agent one of its own, of
    /// [`DEFAULT_TA`](crate::DEFAULT_TA).
    pub pacer: Option<Pacer>,
    /// The pace that all agents of the process keep together, whatever the pace of each (RFC 8445 section
    /// 14.2); `None` leaves the agent to its own.
    pub process_pace: Option<ProcessPace>,
    /// Timers.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
    /// Relay only, or all.
    pub transport_policy: TransportPolicy,
    /// How much of the host is shown.
    pub address_mode: AddressMode,
    /// Which local addresses are taken.
    pub filter: Filter,
    /// Known 1:1 NATs.
    pub rewrites: Vec<AddressRewrite>,
    /// Servers that are known from the start. More by `add_server`.
    pub servers: Vec<Server>,
    /// Gather as soon as addresses come, and hold the events back until `gather`: an agent of a
    /// candidate pool (W3C `iceCandidatePoolSize`).
    pub pooled: bool,
    /// Offer and use the nomination attribute (draft-thatcher-ice-renomination).
    pub renomination: bool,
    /// Move a connected session to a better pair, or from a dying one, by nominating again.
    pub switch_pairs: bool,
    /// Valid pairs that are kept alive beside the selected one. Default 2.
    pub backup_pairs: usize,
    /// Allocations that each local address holds. TURN servers race for them: the first is asked at once
    /// (UDP before DTLS before TCP before TLS, else in the order of `servers`), the others one by one while
    /// there are too few answers; the rest is a reserve that is asked when a relay fails. Default 1;
    /// `usize::MAX` asks every server, as browsers do.
    pub relays_per_address: usize,
    /// Whether relays move along when the host's address changes (RFC 8016), where their servers can. Costs
    /// one round trip per allocation with a server that cannot. Default off.
    pub relay_mobility: bool,
    /// Whether consent is checked (RFC 7675). Off only for peers that never answer checks twice.
    pub consent: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            role: Role::Controlling,
            lite: false,
            credentials: None,
            ufrag_prefix: "".into(),
            pacer: None,
            process_pace: None,
            timing: Timing::default(),
            limits: Limits::default(),
            transport_policy: TransportPolicy::All,
            address_mode: AddressMode::All,
            filter: Filter::default(),
            rewrites: Vec::new(),
            servers: Vec::new(),
            pooled: false,
            renomination: true,
            switch_pairs: true,
            backup_pairs: 2,
            relays_per_address: 1,
            relay_mobility: false,
            consent: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_judge_interface_network_port_and_family() {
        let mut local = LocalAddress::udp("192.168.1.10:5000".parse().unwrap());
        local.network.name = "eth0".into();
        let accepts = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter.accepts(&local)
        };
        assert!(accepts(|_| {}));
        assert!(!accepts(|f| f.interfaces.push("wlan0".into())));
        assert!(!accepts(|f| f.excluded_interfaces.push("eth0".into())));
        assert!(accepts(|f| f
            .networks
            .push(("192.168.0.0".parse().unwrap(), 16))));
        assert!(!accepts(|f| f
            .networks
            .push(("10.0.0.0".parse().unwrap(), 8))));
        assert!(!accepts(|f| f
            .excluded_networks
            .push(("0.0.0.0".parse().unwrap(), 0))));
        assert!(!accepts(|f| f.ports = Some(6000..=7000)));
        assert!(!accepts(|f| f.no_ipv4 = true));
        assert!(accepts(|f| f.no_ipv6 = true));
        assert!(!accepts(|f| f.no_udp = true));
        assert!(!Filter::default().accepts(&LocalAddress::udp("127.0.0.1:1".parse().unwrap())));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!(
            "{:?} {:?}",
            Secret::new("hunter2"),
            Credentials::new("user", "passwordpasswordpass22")
        );
        assert!(
            !text.contains("hunter2") && !text.contains("password"),
            "{text}"
        );
    }
}
