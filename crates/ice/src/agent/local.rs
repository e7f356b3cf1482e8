//! The local side: sockets, candidates found from them, and connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use visavis_datagram::{Path, Protocol};

use super::{Agent, Error};
use crate::candidate::{Candidate, CandidateKind, Host, TcpType, priority};
use crate::config::{AddressMode, LocalAddress, RewriteMode, TransportPolicy};
use crate::event::{Connect, ConnectionId, Event, PairId, StreamFraming};

/// Number of a local address, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalId(pub(super) u32);

/// Number of a relay, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RelayId(pub(super) u32);

/// Number of a local candidate, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CandidateId(pub(super) u32);

/// Where a pair's datagrams leave from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Local(LocalId),
    Relay(RelayId),
}

#[derive(Debug)]
pub(super) struct Local {
    pub(super) id: LocalId,
    pub(super) address: LocalAddress,
    /// How many addresses of its family were there before it (RFC 8421 section 4 interleaves).
    pub(super) index: u32,
    /// What a router was asked to map to it.
    pub(super) mapped: Option<SocketAddr>,
}

impl Local {
    pub(super) fn ip(&self) -> IpAddr {
        self.address.address.ip()
    }
}

#[derive(Debug)]
pub(super) struct LocalCandidate {
    pub(super) id: CandidateId,
    /// As signalled: hidden where it has to be.
    pub(super) candidate: Candidate,
    pub(super) source: Source,
    /// The transport address itself.
    pub(super) address: SocketAddr,
    /// What it sends from, and what the owner's path names.
    pub(super) base: SocketAddr,
    pub(super) foundation: u16,
    /// Pairs are formed from it: it is its own base and policy allows it.
    pub(super) pairs: bool,
    /// It is told to the peer.
    pub(super) signalled: bool,
    pub(super) cost: u16,
    pub(super) server: Option<u16>,
}

/// A connection for a pair between agents, or towards a relay.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) user: ConnectionUser,
    pub(super) protocol: Protocol,
    pub(super) remote: SocketAddr,
    /// Known once it is up.
    pub(super) path: Option<Path>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionUser {
    /// Opened for a pair.
    Pair(PairId),
    /// Opened to a server.
    Relay(RelayId),
    /// Accepted on a passive local address.
    Accepted(LocalId),
    /// Opened to a STUN server, from a local address that peers connect to.
    Gatherer(LocalId, u16),
    /// Wanted no more before it was up: closed as soon as it is.
    Nobody,
}

/// What makes candidates share a foundation (RFC 8445 section 5.1.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundationKey {
    pub(super) kind: CandidateKind,
    pub(super) base: IpAddr,
    pub(super) server: Option<IpAddr>,
    pub(super) protocol: Protocol,
    pub(super) tcp_type: Option<TcpType>,
    pub(super) relay_protocol: Option<Protocol>,
}

impl Agent {
    pub(super) fn do_add_local(&mut self, now: Instant, local: LocalAddress) -> Result<(), Error> {
        let ip = local.address.ip();
        let active = local.tcp_type == Some(TcpType::Active);
        if ip.is_unspecified()
            || ip.is_multicast()
            || (local.address.port() == 0) != active
            || (local.protocol == Protocol::Tcp) != local.tcp_type.is_some()
            || !matches!(local.protocol, Protocol::Udp | Protocol::Tcp)
        {
            return Err(Error::BadAddress);
        }
        let known = |known: &Local| {
            known.address.address == local.address && known.address.protocol == local.protocol
        };
        if self.locals.iter().any(known) || !self.config.filter.accepts(&local) {
            return Ok(());
        }
        if self.config.address_mode != AddressMode::All && !local.default_route {
            return Ok(());
        }
        if self.locals.len() >= self.config.limits.local_addresses {
            return Err(Error::TooMany("local addresses"));
        }
        let id = LocalId(self.next_id());
        let index = self
            .locals
            .iter()
            .filter(|other| {
                other.ip().is_ipv4() == ip.is_ipv4() && other.address.protocol == local.protocol
            })
            .count() as u32;
        self.locals.push(Local {
            id,
            address: local,
            index,
            mapped: None,
        });
        self.roam(now);
        if self.gathering_begun() {
            self.gather_from(now, id);
        }
        Ok(())
    }

    /// Everything based on the address goes.
    pub(super) fn do_remove_local(
        &mut self,
        now: Instant,
        address: SocketAddr,
        protocol: Protocol,
    ) {
        let gone: Vec<LocalId> = self
            .locals
            .iter()
            .filter(|l| l.address.address == address && l.address.protocol == protocol)
            .map(|l| l.id)
            .collect();
        for id in gone {
            self.locals.retain(|local| local.id != id);
            for server in 0..self.servers.len() {
                self.release_connection(ConnectionUser::Gatherer(id, server as u16));
            }
            self.gatherers.retain(|gatherer| gatherer.local != id);
            self.relays_lose_local(now, id);
            self.drop_source(Source::Local(id));
            self.connections
                .retain(|c| c.user != ConnectionUser::Accepted(id));
        }
    }

    /// Candidates and pairs of a source that is gone.
    pub(super) fn drop_source(&mut self, source: Source) {
        self.candidates.retain(|c| c.source != source);
        let gone: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|pair| pair.source == source)
            .map(|pair| pair.id)
            .collect();
        for id in gone {
            self.drop_pair(id);
        }
        self.responses.retain(|response| response.source != source);
        self.early.retain(|early| early.check.source != source);
    }

    pub(super) fn local(&self, id: LocalId) -> Option<&Local> {
        self.locals.iter().find(|local| local.id == id)
    }

    pub(super) fn candidate(&self, id: CandidateId) -> Option<&LocalCandidate> {
        self.candidates.iter().find(|candidate| candidate.id == id)
    }

    /// Whether datagrams may go straight from a local address to the peer.
    pub(super) fn direct_allowed(&self) -> bool {
        self.config.transport_policy == TransportPolicy::All
            && self.config.address_mode != AddressMode::ProxyOnly
    }

    /// The candidate that is the socket itself, and those that rewriting rules make of it.
    pub(super) fn host_candidates(&mut self, now: Instant, id: LocalId) {
        let direct = self.direct_allowed();
        let Some(local) = self.local(id) else { return };
        let address = local.address.address;
        let tcp_type = local.address.tcp_type;
        let mdns = local.address.mdns_name.clone();
        let private = self.config.address_mode == AddressMode::DefaultRoutePublic;
        let rewrites: Vec<_> = self
            .config
            .rewrites
            .iter()
            .filter(|rule| {
                rule.external.is_ipv4() == address.is_ipv4()
                    && rule.local.is_none_or(|ip| ip == address.ip())
                    && rule
                        .interface
                        .as_ref()
                        .is_none_or(|name| *name == local.address.network.name)
            })
            .map(|rule| (rule.external, rule.mode, rule.kind))
            .collect();
        let replaced = rewrites
            .iter()
            .any(|&(_, mode, kind)| mode == RewriteMode::Replace && kind == CandidateKind::Host);
        let mut candidate = self.describe(id, CandidateKind::Host, address, None, None);
        if let Some(name) = mdns {
            candidate.candidate.host = Host::Name(name);
        }
        if tcp_type == Some(TcpType::Active) {
            candidate.candidate.port = 9;
        }
        candidate.pairs = direct && tcp_type != Some(TcpType::Passive);
        candidate.signalled = direct && !replaced && !private;
        self.add_candidate(now, candidate);
        if !direct || tcp_type == Some(TcpType::Active) {
            return;
        }
        for (external, _, kind) in rewrites {
            let outer = SocketAddr::new(external, address.port());
            let mut candidate = self.describe(id, kind, outer, None, None);
            if kind != CandidateKind::Host {
                candidate.candidate.related = Some(self.hide(id, address));
            }
            self.add_candidate(now, candidate);
        }
        self.router_candidate(now, id);
    }

    /// The candidate that a router's mapping makes of a local address (RFC 8445 section 5.1.1.2 takes
    /// such mappings as server-reflexive).
    pub(super) fn router_candidate(&mut self, now: Instant, id: LocalId) {
        let Some(local) = self.local(id) else { return };
        let (base, mapped) = (local.address.address, local.mapped);
        let Some(mapped) = mapped.filter(|_| self.direct_allowed()) else {
            return;
        };
        let kind = CandidateKind::ServerReflexive;
        let mut candidate = self.describe(id, kind, mapped, None, None);
        candidate.candidate.related = Some(self.hide(id, base));
        self.add_candidate(now, candidate);
    }

    /// The base of a candidate as its line may show it.
    pub(super) fn hide(&self, id: LocalId, address: SocketAddr) -> SocketAddr {
        let hidden = self.config.transport_policy == TransportPolicy::Relay
            || matches!(
                self.config.address_mode,
                AddressMode::DefaultRoutePublic | AddressMode::ProxyOnly
            )
            || self
                .local(id)
                .is_none_or(|local| local.address.mdns_name.is_some());
        if hidden {
            unspecified(address)
        } else {
            address
        }
    }

    /// A candidate of a local address, not yet added.
    pub(super) fn describe(
        &mut self,
        id: LocalId,
        kind: CandidateKind,
        address: SocketAddr,
        server: Option<u16>,
        relay: Option<(RelayId, Protocol)>,
    ) -> LocalCandidate {
        let (base, network, tcp_type, own_protocol, index) = match self.local(id) {
            Some(local) => (
                local.address.address,
                local.address.network.clone(),
                local.address.tcp_type,
                local.address.protocol,
                local.index,
            ),
            // Only ever called for locals that are there; a total answer costs nothing.
            None => (
                address,
                LocalAddress::udp(address).network,
                None,
                Protocol::Udp,
                0,
            ),
        };
        let (protocol, tcp_type) = match relay {
            Some(_) => (Protocol::Udp, None),
            None => (own_protocol, tcp_type),
        };
        let key = FoundationKey {
            kind,
            base: match relay {
                Some(_) => address.ip(),
                None => base.ip(),
            },
            server: server
                .and_then(|index| self.servers.get(usize::from(index)))
                .map(|s| s.address.ip()),
            protocol,
            tcp_type,
            relay_protocol: relay.map(|(_, protocol)| protocol),
        };
        let foundation = self.foundation(key);
        // A relay's address of the other family is for peers that have no other.
        let index = if base.is_ipv4() == address.is_ipv4() {
            index
        } else {
            3
        };
        let preference = local_preference(
            kind,
            network.cost,
            index,
            address.ip(),
            tcp_type,
            relay.map(|(_, protocol)| protocol),
        );
        let hidden_id = network.id != 0;
        LocalCandidate {
            id: CandidateId(self.next_id()),
            candidate: Candidate {
                foundation: (u32::from(foundation) + 1).to_string().into(),
                component: 1,
                protocol,
                priority: priority(kind.type_preference(protocol), preference, 1),
                host: Host::Ip(address.ip()),
                port: address.port(),
                kind,
                related: None,
                tcp_type,
                generation: None,
                ufrag: None,
                network_id: hidden_id.then_some(network.id),
                network_cost: hidden_id.then_some(network.cost),
                extensions: Vec::new(),
            },
            source: match relay {
                Some((relay, _)) => Source::Relay(relay),
                None => Source::Local(id),
            },
            address,
            base: if relay.is_some() { address } else { base },
            foundation,
            pairs: false,
            signalled: true,
            cost: network.cost,
            server,
        }
    }

    /// Adds a candidate unless an equal one is there (RFC 8445 section 5.1.3), tells it, and pairs it.
    pub(super) fn add_candidate(&mut self, now: Instant, candidate: LocalCandidate) {
        let redundant = self.candidates.iter().any(|known| {
            known.address == candidate.address
                && known.base == candidate.base
                && known.source == candidate.source
                && known.candidate.protocol == candidate.candidate.protocol
                && known.candidate.tcp_type == candidate.candidate.tcp_type
                && (known.signalled || !candidate.signalled)
                && known.candidate.kind != CandidateKind::PeerReflexive
        });
        if redundant {
            return;
        }
        let (id, signalled, pairs) = (candidate.id, candidate.signalled, candidate.pairs);
        self.candidates.push(candidate);
        if signalled {
            self.tell_candidate(id);
        }
        if pairs {
            self.pair_local(now, id);
        }
    }

    /// Emits the event of one candidate, with the present session's fragment.
    pub(super) fn tell_candidate(&mut self, id: CandidateId) {
        let ufrag = self.session.local.ufrag.clone();
        let generation = self.session.generation;
        let Some(local) = self.candidates.iter().find(|c| c.id == id) else {
            return;
        };
        let mut candidate = local.candidate.clone();
        candidate.ufrag = Some(ufrag);
        candidate.generation = Some(generation);
        self.emit(Event::Candidate(candidate));
    }

    fn foundation(&mut self, key: FoundationKey) -> u16 {
        let known = self.foundations.iter().position(|known| *known == key);
        let index = known.unwrap_or_else(|| {
            self.foundations.push(key);
            self.foundations.len() - 1
        });
        index as u16
    }

    // ---- connections

    /// Asks the owner for a connection. `None` beyond the bound.
    pub(super) fn connect(
        &mut self,
        user: ConnectionUser,
        protocol: Protocol,
        local: SocketAddr,
        remote: SocketAddr,
        server_name: Option<Box<str>>,
    ) -> Option<ConnectionId> {
        if self.connections.len() >= self.config.limits.connections {
            self.stats.connections_over_limit += 1;
            return None;
        }
        let id = ConnectionId(self.next_id());
        self.connections.push(Connection {
            id,
            user,
            protocol,
            remote,
            path: None,
        });
        let framing = match user {
            ConnectionUser::Relay(_) | ConnectionUser::Gatherer(..) => StreamFraming::Turn,
            _ => StreamFraming::Rfc4571,
        };
        self.emit(Event::Connect(Connect {
            id,
            protocol,
            local,
            remote,
            framing,
            server_name,
        }));
        Some(id)
    }

    pub(super) fn do_connected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        local: SocketAddr,
    ) -> Option<Path> {
        let index = self.connections.iter().position(|c| c.id == id)?;
        let connection = &mut self.connections[index];
        let path = Path {
            protocol: connection.protocol,
            local,
            remote: connection.remote,
        };
        match connection.user {
            ConnectionUser::Pair(pair_id) => {
                if let Some(pair) = self.pairs.iter_mut().find(|p| p.id == pair_id) {
                    connection.path = Some(path);
                    pair.path = path;
                    pair.connecting = None;
                    self.trigger(pair_id);
                }
            }
            ConnectionUser::Relay(relay) => {
                connection.path = Some(path);
                self.relay_connected(now, relay, path);
            }
            ConnectionUser::Gatherer(local, server) => {
                connection.path = Some(path);
                self.gatherer_connected(local, server, true);
            }
            ConnectionUser::Nobody => {
                self.connections.swap_remove(index);
                self.emit(Event::Disconnect(path));
                return None;
            }
            ConnectionUser::Accepted(_) => {}
        }
        Some(path)
    }

    pub(super) fn do_connect_failed(&mut self, now: Instant, id: ConnectionId) {
        let Some(index) = self.connections.iter().position(|c| c.id == id) else {
            return;
        };
        let connection = self.connections.swap_remove(index);
        self.connection_lost(now, connection.user);
    }

    pub(super) fn do_accepted(&mut self, path: Path) -> bool {
        let passive = |local: &&Local| {
            local.address.address == path.local
                && matches!(
                    local.address.tcp_type,
                    Some(TcpType::Passive | TcpType::SimultaneousOpen)
                )
        };
        let Some(local) = self.locals.iter().find(passive).map(|local| local.id) else {
            self.stats.unknown_local += 1;
            return false;
        };
        if !self.direct_allowed() || self.closed {
            return false;
        }
        if self.connections.len() >= self.config.limits.connections {
            self.stats.connections_over_limit += 1;
            return false;
        }
        let id = ConnectionId(self.next_id());
        self.connections.push(Connection {
            id,
            user: ConnectionUser::Accepted(local),
            protocol: path.protocol,
            remote: path.remote,
            path: Some(path),
        });
        true
    }

    pub(super) fn do_disconnected(&mut self, now: Instant, path: Path) {
        let Some(index) = self.connections.iter().position(|c| c.path == Some(path)) else {
            return;
        };
        let connection = self.connections.swap_remove(index);
        self.connection_lost(now, connection.user);
        // Pairs that a peer's connection carried.
        let carried: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|pair| pair.is_stream() && pair.path == path)
            .map(|pair| pair.id)
            .collect();
        for id in carried {
            self.fail_pair(id);
        }
    }

    fn connection_lost(&mut self, now: Instant, user: ConnectionUser) {
        match user {
            ConnectionUser::Pair(id) => {
                if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.id == id) {
                    pair.connecting = None;
                    pair.path.local.set_port(0);
                }
                self.fail_pair(id);
            }
            ConnectionUser::Relay(id) => {
                if self.begin_roaming(now, id) {
                    self.roam(now);
                } else {
                    self.relay_failed(now, id, 701, "connection failed");
                }
            }
            ConnectionUser::Gatherer(local, server) => {
                self.gatherer_connected(local, server, false);
            }
            ConnectionUser::Accepted(_) | ConnectionUser::Nobody => {}
        }
    }

    /// Closes a connection that is no longer wanted, at once or as soon as it is up.
    pub(super) fn release_connection(&mut self, user: ConnectionUser) {
        let Some(index) = self.connections.iter().position(|c| c.user == user) else {
            return;
        };
        let connection = &mut self.connections[index];
        match connection.path {
            Some(path) => {
                self.connections.swap_remove(index);
                self.emit(Event::Disconnect(path));
            }
            None => connection.user = ConnectionUser::Nobody,
        }
    }
}

/// The unspecified address of the same family, port 0: what is said where an address is hidden
/// (draft-ietf-mmusic-mdns-ice-candidates section 3.1.2.2).
pub(super) fn unspecified(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// The local preference, 0 to 65535: cheap networks first, then the families in turn with IPv6 ahead
/// (RFC 8421 section 4), TCP by direction (RFC 6544 section 4.2), relays by protocol. Loopback, which RFC 8445
/// section 5.1.1.1 leaves out, is last: each check of it would take a slot of the pace from one that may lead to the peer.
fn local_preference(
    kind: CandidateKind,
    cost: u16,
    index: u32,
    ip: IpAddr,
    tcp_type: Option<TcpType>,
    relay: Option<Protocol>,
) -> u32 {
    let cost = u32::from(cost.min(999));
    let turn = 2 * index + u32::from(ip.is_ipv4());
    if ip.is_loopback() {
        return 7 - turn.min(7);
    }
    match (relay, tcp_type) {
        (Some(protocol), _) => {
            let rank = match protocol {
                Protocol::Udp => 0,
                Protocol::Dtls => 1,
                Protocol::Tcp => 2,
                Protocol::Tls => 3,
            };
            16383 + 16384 * (3 - rank) - cost * 8 - turn.min(7)
        }
        (None, Some(tcp_type)) => {
            (tcp_type.direction_preference(kind) << 13) + 8191 - cost * 8 - turn.min(7)
        }
        (None, None) => 65535 - cost * 32 - turn.min(31),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

    /// RFC 8421 section 4: families take turns, IPv6 first. Loopback comes last.
    #[test]
    fn families_take_turns() {
        let preference =
            |index, ip| local_preference(CandidateKind::Host, 0, index, ip, None, None);
        let order = [
            preference(0, V6),
            preference(0, V4),
            preference(1, V6),
            preference(1, V4),
            preference(0, Ipv6Addr::LOCALHOST.into()),
            preference(0, Ipv4Addr::LOCALHOST.into()),
        ];
        assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
    }

    #[test]
    fn a_dear_network_comes_last() {
        let wifi = local_preference(CandidateKind::Host, 10, 9, V4, None, None);
        let mobile = local_preference(CandidateKind::Host, 900, 0, V6, None, None);
        assert!(wifi > mobile);
    }

    #[test]
    fn preferences_stay_in_16_bits() {
        for cost in [0, 50, 999, 65535] {
            for index in [0, 5, 1000] {
                for relay in [None, Some(Protocol::Udp), Some(Protocol::Tls)] {
                    for tcp in [None, Some(TcpType::Active), Some(TcpType::Passive)] {
                        let value =
                            local_preference(CandidateKind::Host, cost, index, V4, tcp, relay);
                        assert!(value <= 65535);
                    }
                }
            }
        }
    }
}
