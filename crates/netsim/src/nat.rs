//! Network address translation with every behaviour of RFC 4787 (UDP) and RFC 5382 (TCP).

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use visavis_datagram::{Protocol, Random};

use crate::hash::Table;
use crate::packet::{Kind, Packet};
use crate::tcp::{FIN, RST, SYN};

/// How much of the remote endpoint a behaviour depends on (RFC 4787 sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dependence {
    /// Endpoint-independent.
    EndpointIndependent,
    /// Address-dependent.
    AddressDependent,
    /// Address- and port-dependent.
    AddressAndPortDependent,
}

impl Dependence {
    /// All three.
    pub const ALL: [Self; 3] = [
        Self::EndpointIndependent,
        Self::AddressDependent,
        Self::AddressAndPortDependent,
    ];
}

/// Which external port a mapping gets (RFC 4787 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PortAllocation {
    /// The internal port where it is free, else a random one.
    Preserve,
    /// The internal port even where it is taken: the later mapping takes the port over
    /// ("port overloading", which REQ-3 forbids and some do).
    Overload,
    /// One after the other, from a random start.
    Sequential,
    /// At random.
    Random,
    /// The port behind the one that the same host's previous mapping got, where that is free
    /// (section 4.2.3, "port contiguity"), else a random one.
    Contiguous,
}

/// Which of several external addresses a mapping gets (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The same for all mappings of an internal address (REQ-2 recommends it).
    Paired,
    /// Any.
    Arbitrary,
}

/// What happens to packets from inside to an external address of the NAT (RFC 4787 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hairpinning {
    /// Dropped.
    None,
    /// Delivered, with the external source (REQ-9).
    ExternalSource,
    /// Delivered, with the internal source (REQ-9a forbids it).
    InternalSource,
}

/// What a NAT answers to a TCP SYN that no mapping or filter lets in (RFC 5382 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnsolicitedSyn {
    /// Nothing (REQ-4).
    Drop,
    /// RST, which spoils simultaneous open.
    Reset,
}

/// Behaviour of a NAT. The default is what RFC 4787 and RFC 5382 ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatConfig {
    /// When the same internal endpoint keeps its external one.
    pub mapping: Dependence,
    /// From whom packets are let in.
    pub filtering: Dependence,
    /// How external ports are chosen.
    pub ports: PortAllocation,
    /// Whether even ports get even ones and odd ports odd ones (REQ-4).
    pub parity: bool,
    /// How external addresses are chosen.
    pub pooling: Pooling,
    /// Whether internal hosts reach each other by external addresses.
    pub hairpinning: Hairpinning,
    /// How long a UDP mapping lasts without traffic. Default 5 minutes (REQ-5c).
    pub udp_timeout: Duration,
    /// Whether packets from inside keep a mapping alive (REQ-6). Default true.
    pub outbound_refresh: bool,
    /// Whether packets from outside keep a mapping alive (REQ-6a). Default true.
    pub inbound_refresh: bool,
    /// How long an established TCP connection lasts without traffic. Default 124 minutes (RFC 5382 REQ-5).
    pub tcp_timeout: Duration,
    /// How long a TCP connection lasts that is opening or closing. Default 4 minutes (RFC 5382 REQ-5).
    pub tcp_transitory_timeout: Duration,
    /// The external ports to choose from. Default 1024 to 65535.
    pub port_range: RangeInclusive<u16>,
    /// The most mappings at a time. Default 65,536.
    pub max_mappings: usize,
    /// The most mappings of one internal address, as carrier-grade NATs have (RFC 6888). Default: no such limit.
    pub max_mappings_per_host: Option<usize>,
    /// What a SYN that is not let in gets.
    pub unsolicited_syn: UnsolicitedSyn,
}

impl Default for NatConfig {
    fn default() -> Self {
        Self {
            mapping: Dependence::EndpointIndependent,
            filtering: Dependence::EndpointIndependent,
            ports: PortAllocation::Random,
            parity: false,
            pooling: Pooling::Paired,
            hairpinning: Hairpinning::ExternalSource,
            udp_timeout: Duration::from_secs(300),
            outbound_refresh: true,
            inbound_refresh: true,
            tcp_timeout: Duration::from_secs(124 * 60),
            tcp_transitory_timeout: Duration::from_secs(240),
            port_range: 1024..=65535,
            max_mappings: 65_536,
            max_mappings_per_host: None,
            unsolicited_syn: UnsolicitedSyn::Drop,
        }
    }
}

impl NatConfig {
    /// A NAT with this mapping and filtering, otherwise as the RFCs ask.
    pub fn new(mapping: Dependence, filtering: Dependence) -> Self {
        Self {
            mapping,
            filtering,
            ..Self::default()
        }
    }

    /// Endpoint-independent mapping and filtering ("full cone").
    pub fn full_cone() -> Self {
        Self::default()
    }

    /// Endpoint-independent mapping, address-dependent filtering ("restricted cone").
    pub fn restricted_cone() -> Self {
        Self::new(
            Dependence::EndpointIndependent,
            Dependence::AddressDependent,
        )
    }

    /// Endpoint-independent mapping, address- and port-dependent filtering ("port-restricted cone").
    pub fn port_restricted_cone() -> Self {
        Self::new(
            Dependence::EndpointIndependent,
            Dependence::AddressAndPortDependent,
        )
    }

    /// Address- and port-dependent mapping and filtering ("symmetric").
    pub fn symmetric() -> Self {
        Self::new(
            Dependence::AddressAndPortDependent,
            Dependence::AddressAndPortDependent,
        )
    }
}

/// What a NAT has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NatStats {
    /// Mappings made.
    pub created: u64,
    /// Packets from inside dropped because no port or no mapping was left.
    pub exhausted: u64,
    /// Packets from outside dropped for want of a mapping.
    pub unmapped: u64,
    /// Packets from outside dropped by the filter.
    pub filtered: u64,
    /// Packets that were turned back inside.
    pub hairpinned: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct InsideKey {
    tcp: bool,
    internal: SocketAddr,
    /// The remote endpoint as far as the mapping depends on it.
    remote: Option<(IpAddr, u16)>,
}

#[derive(Debug)]
struct Mapping {
    key: InsideKey,
    external: SocketAddr,
    expires: u64,
    /// Whom packets went to.
    permits: Table<(IpAddr, u16), Session>,
}

/// What a mapping knows of one remote endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Session {
    /// When it is forgotten.
    expires: u64,
    /// Whether a TCP connection is past its SYNs, and whether a FIN or RST has been seen since.
    established: bool,
    closing: bool,
}

impl Session {
    /// Sees a packet; returns how long the session lasts from now on.
    fn lifetime(&mut self, config: &NatConfig, flags: Option<u8>) -> u64 {
        let lifetime = match flags {
            None => config.udp_timeout,
            Some(flags) => {
                if flags & SYN != 0 {
                    *self = Self::default();
                } else if flags & (FIN | RST) != 0 {
                    self.closing = true;
                } else {
                    self.established = true;
                }
                if self.established && !self.closing {
                    config.tcp_timeout
                } else {
                    config.tcp_transitory_timeout
                }
            }
        };
        lifetime.as_nanos() as u64
    }
}

impl Mapping {
    /// A TCP mapping lasts as long as the longest of its connections.
    fn expires_with_sessions(&mut self) {
        let ends = self.permits.values().map(|session| session.expires);
        self.expires = ends.max().unwrap_or(0);
    }
}

/// What becomes of a packet that a NAT has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    /// Drop, and answer with a TCP reset.
    Reset,
}

#[derive(Debug)]
pub(crate) struct Nat {
    pub(crate) config: NatConfig,
    pub(crate) stats: NatStats,
    external: Vec<IpAddr>,
    mappings: Vec<Option<Mapping>>,
    free: Vec<usize>,
    by_inside: Table<InsideKey, usize>,
    by_outside: Table<(bool, SocketAddr), usize>,
    /// Which external address a paired internal one has.
    pairs: Table<IpAddr, IpAddr>,
    /// Mappings of each internal address.
    counts: Table<IpAddr, usize>,
    /// The port that each internal address's latest mapping got.
    latest: Table<IpAddr, u16>,
    next_port: u16,
    random: Random,
}

impl Nat {
    pub(crate) fn new(config: NatConfig, external: Vec<IpAddr>, random: Random) -> Self {
        let mut nat = Self {
            config,
            stats: NatStats::default(),
            external,
            mappings: Vec::new(),
            free: Vec::new(),
            by_inside: Table::default(),
            by_outside: Table::default(),
            pairs: Table::default(),
            counts: Table::default(),
            latest: Table::default(),
            next_port: 0,
            random,
        };
        nat.reboot();
        nat
    }

    /// Forgets every mapping.
    pub(crate) fn reboot(&mut self) {
        self.mappings.clear();
        self.free.clear();
        self.by_inside.clear();
        self.by_outside.clear();
        self.pairs.clear();
        self.counts.clear();
        self.latest.clear();
        self.next_port = self.random_port();
    }

    pub(crate) fn set_external(&mut self, external: Vec<IpAddr>) {
        self.external = external;
        self.reboot();
    }

    pub(crate) fn external(&self) -> &[IpAddr] {
        &self.external
    }

    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        self.external.contains(&address)
    }

    /// Whether packets from this internal address are translated: IPv6 only where the NAT has an
    /// external IPv6 address.
    pub(crate) fn translates(&self, address: IpAddr) -> bool {
        self.external
            .iter()
            .any(|external| external.is_ipv4() == address.is_ipv4())
    }

    /// How many mappings stand at `now`.
    pub(crate) fn len(&self, now: u64) -> usize {
        let alive = |mapping: &&Mapping| mapping.expires > now;
        self.mappings.iter().flatten().filter(alive).count()
    }

    /// The external endpoint of an internal one towards a remote one, if there is a mapping.
    pub(crate) fn lookup(
        &self,
        now: u64,
        protocol: Protocol,
        internal: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        let key = self.key(protocol == Protocol::Tcp, internal, remote);
        let mapping = self.mappings[*self.by_inside.get(&key)?].as_ref()?;
        (mapping.expires > now).then_some(mapping.external)
    }

    /// Translates a packet on its way out.
    pub(crate) fn outbound(&mut self, now: u64, packet: &mut Packet) -> Verdict {
        let tcp = packet.protocol() == Protocol::Tcp;
        if let Kind::TooBig { towards, .. } = &mut packet.kind {
            // From a router inside, about a packet that came in: the sender knows the mapping only.
            let key = self.key(tcp, *towards, packet.destination);
            let Some(mapping) = self.find(now, key) else {
                return Verdict::Drop;
            };
            *towards = self.mapping(mapping).external;
            packet.source = *towards;
            return Verdict::Pass;
        }
        let key = self.key(tcp, packet.source, packet.destination);
        let index = match self.find(now, key) {
            Some(index) => index,
            None => match self.create(now, key) {
                Some(index) => index,
                None => {
                    self.stats.exhausted += 1;
                    return Verdict::Drop;
                }
            },
        };
        let flags = tcp_flags(packet);
        let remote = (packet.destination.ip(), packet.destination.port());
        let Self {
            config, mappings, ..
        } = self;
        let mapping = mappings[index].as_mut().expect("an indexed mapping");
        let fresh = !mapping.permits.contains_key(&remote);
        let session = mapping.permits.entry(remote).or_default();
        let lifetime = session.lifetime(config, flags);
        session.expires = now + lifetime;
        if tcp {
            mapping.expires_with_sessions();
        } else if config.outbound_refresh || fresh {
            mapping.expires = now + lifetime;
        }
        packet.source = mapping.external;
        Verdict::Pass
    }

    /// Translates a packet that came to an external address.
    pub(crate) fn inbound(&mut self, now: u64, packet: &mut Packet) -> Verdict {
        let tcp = packet.protocol() == Protocol::Tcp;
        let syn = matches!(packet.kind, Kind::Tcp(segment) if segment.flags & SYN != 0);
        let refuse = if syn && self.config.unsolicited_syn == UnsolicitedSyn::Reset {
            Verdict::Reset
        } else {
            Verdict::Drop
        };
        let index = self.by_outside.get(&(tcp, packet.destination)).copied();
        let Some(index) = index.filter(|&index| self.mapping(index).expires > now) else {
            self.stats.unmapped += 1;
            return refuse;
        };
        if let Kind::TooBig { .. } = packet.kind {
            // REQ-12: passes whoever sent it, and leaves the mapping as it is.
            packet.destination = self.mapping(index).key.internal;
            return Verdict::Pass;
        }
        let flags = tcp_flags(packet);
        let from = (packet.source.ip(), packet.source.port());
        let Self {
            config,
            mappings,
            stats,
            ..
        } = self;
        let mapping = mappings[index].as_mut().expect("an indexed mapping");
        let sessions = &mapping.permits;
        let allowed = match config.filtering {
            Dependence::EndpointIndependent => true,
            Dependence::AddressDependent => sessions
                .iter()
                .any(|(remote, session)| remote.0 == from.0 && session.expires > now),
            Dependence::AddressAndPortDependent => sessions
                .get(&from)
                .is_some_and(|session| session.expires > now),
        };
        if !allowed {
            stats.filtered += 1;
            return refuse;
        }
        if tcp {
            let session = mapping.permits.entry(from).or_default();
            session.expires = now + session.lifetime(config, flags);
            mapping.expires_with_sessions();
        } else if config.inbound_refresh {
            let lifetime = config.udp_timeout.as_nanos() as u64;
            mapping.expires = now + lifetime;
            if let Some(session) = mapping.permits.get_mut(&from) {
                session.expires = now + lifetime;
            }
        }
        packet.destination = mapping.key.internal;
        Verdict::Pass
    }

    /// Turns a packet from inside to an external address back inside.
    pub(crate) fn hairpin(&mut self, now: u64, packet: &mut Packet) -> Verdict {
        if self.config.hairpinning == Hairpinning::None {
            return Verdict::Drop;
        }
        let internal = packet.source;
        let verdict = self.outbound(now, packet);
        if verdict != Verdict::Pass {
            return verdict;
        }
        let verdict = self.inbound(now, packet);
        if verdict == Verdict::Pass {
            self.stats.hairpinned += 1;
            if self.config.hairpinning == Hairpinning::InternalSource {
                packet.source = internal;
            }
        }
        verdict
    }

    fn key(&self, tcp: bool, internal: SocketAddr, remote: SocketAddr) -> InsideKey {
        let remote = match self.config.mapping {
            Dependence::EndpointIndependent => None,
            Dependence::AddressDependent => Some((remote.ip(), 0)),
            Dependence::AddressAndPortDependent => Some((remote.ip(), remote.port())),
        };
        InsideKey {
            tcp,
            internal,
            remote,
        }
    }

    fn mapping(&self, index: usize) -> &Mapping {
        self.mappings[index].as_ref().expect("an indexed mapping")
    }

    fn find(&mut self, now: u64, key: InsideKey) -> Option<usize> {
        let index = *self.by_inside.get(&key)?;
        if self.mapping(index).expires > now {
            return Some(index);
        }
        self.remove(index);
        None
    }

    fn remove(&mut self, index: usize) {
        if let Some(mapping) = self.mappings[index].take() {
            self.by_inside.remove(&mapping.key);
            // An overloaded port belongs to the latest mapping.
            let outside = (mapping.key.tcp, mapping.external);
            if self.by_outside.get(&outside) == Some(&index) {
                self.by_outside.remove(&outside);
            }
            if let Some(count) = self.counts.get_mut(&mapping.key.internal.ip()) {
                *count -= 1;
            }
            self.free.push(index);
        }
    }

    fn expire(&mut self, now: u64) {
        for index in 0..self.mappings.len() {
            if matches!(&self.mappings[index], Some(mapping) if mapping.expires <= now) {
                self.remove(index);
            }
        }
    }

    fn create(&mut self, now: u64, key: InsideKey) -> Option<usize> {
        let host = key.internal.ip();
        let over = |nat: &Self| {
            let quota = nat.config.max_mappings_per_host.unwrap_or(usize::MAX);
            nat.by_inside.len() >= nat.config.max_mappings
                || nat.counts.get(&host).copied().unwrap_or(0) >= quota
        };
        if over(self) {
            self.expire(now);
            if over(self) {
                return None;
            }
        }
        let external = match self.choose(key) {
            Some(external) => external,
            None => {
                self.expire(now);
                self.choose(key)?
            }
        };
        let mapping = Mapping {
            key,
            external,
            expires: now,
            permits: Table::default(),
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.mappings[index] = Some(mapping);
                index
            }
            None => {
                self.mappings.push(Some(mapping));
                self.mappings.len() - 1
            }
        };
        self.by_inside.insert(key, index);
        self.by_outside.insert((key.tcp, external), index);
        *self.counts.entry(host).or_default() += 1;
        self.latest.insert(host, external.port());
        self.stats.created += 1;
        Some(index)
    }

    fn choose(&mut self, key: InsideKey) -> Option<SocketAddr> {
        let host = key.internal.ip();
        let family: Vec<IpAddr> = self
            .external
            .iter()
            .copied()
            .filter(|external| external.is_ipv4() == host.is_ipv4())
            .collect();
        if family.is_empty() {
            return None;
        }
        let any = family[self.random.below(family.len() as u64) as usize];
        let address = match self.config.pooling {
            Pooling::Arbitrary => any,
            Pooling::Paired => *self.pairs.entry(host).or_insert(any),
        };
        let wanted = match self.config.ports {
            PortAllocation::Overload => {
                return Some(SocketAddr::new(address, key.internal.port()));
            }
            PortAllocation::Preserve => Some(key.internal.port()),
            PortAllocation::Contiguous => {
                self.latest.get(&host).and_then(|port| port.checked_add(1))
            }
            PortAllocation::Sequential => Some(self.next_port),
            PortAllocation::Random => None,
        };
        let sequential = self.config.ports == PortAllocation::Sequential;
        let mut port = match wanted {
            Some(port) if self.suits(key, address, port) => Some(port),
            // Sequential allocation goes on from where it was.
            Some(port) if sequential => self.search(key, address, port),
            _ => {
                let from = self.random_port();
                self.search(key, address, from)
            }
        };
        if port.is_none() && self.config.parity {
            // Better the wrong parity than no mapping.
            let from = self.random_port();
            self.config.parity = false;
            port = self.search(key, address, from);
            self.config.parity = true;
        }
        let port = port?;
        if sequential {
            self.next_port = self.after(port);
        }
        Some(SocketAddr::new(address, port))
    }

    fn search(&self, key: InsideKey, address: IpAddr, from: u16) -> Option<u16> {
        let mut port = from;
        loop {
            if self.suits(key, address, port) {
                return Some(port);
            }
            port = self.after(port);
            if port == from {
                return None;
            }
        }
    }

    fn suits(&self, key: InsideKey, address: IpAddr, port: u16) -> bool {
        let parity = !self.config.parity || (port ^ key.internal.port()) & 1 == 0;
        parity
            && self.config.port_range.contains(&port)
            && !self
                .by_outside
                .contains_key(&(key.tcp, SocketAddr::new(address, port)))
    }

    fn after(&self, port: u16) -> u16 {
        if port >= *self.config.port_range.end() {
            *self.config.port_range.start()
        } else {
            port + 1
        }
    }

    fn random_port(&mut self) -> u16 {
        let (first, last) = (
            *self.config.port_range.start(),
            *self.config.port_range.end(),
        );
        let count = u64::from(last.saturating_sub(first)) + 1;
        first + self.random.below(count) as u16
    }
}

fn tcp_flags(packet: &Packet) -> Option<u8> {
    match packet.kind {
        Kind::Tcp(segment) => Some(segment.flags),
        _ => None,
    }
}
