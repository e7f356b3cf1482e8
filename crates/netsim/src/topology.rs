//! Building a network: a tree of routers with the internet at its root, and hosts at any of them.

use std::net::{IpAddr, SocketAddr};

use visavis_datagram::Protocol;

use crate::firewall::{Firewall, FirewallConfig};
use crate::hash::Table;
use crate::nat::{Nat, NatConfig, NatStats};
use crate::node::{Host, Interface, InterfaceId, NetworkId, Node, Router, UPLINK};
use crate::simulation::{HostId, LinkId, Simulation};
use crate::tcp::Stack;
use crate::{LinkConfig, TraceEntry};

/// What a network's router does to packets between the network and its parent.
///
/// ```
/// use visavis_netsim::{FirewallConfig, Gateway, NatConfig};
///
/// // A home router: NAT for IPv4, a stateful firewall for IPv6.
/// let home = Gateway::nat(NatConfig::port_restricted_cone(), &["198.51.100.7".parse().unwrap()])
///     .firewall(FirewallConfig::stateful_ipv6());
/// # let _ = home;
/// ```
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    nat: Option<(NatConfig, Vec<IpAddr>)>,
    firewall: Option<FirewallConfig>,
}

impl Gateway {
    /// A plain router.
    pub fn router() -> Self {
        Self::default()
    }

    /// A NAT with these external addresses. It translates the address families that it has an
    /// external address of; the other passes.
    pub fn nat(config: NatConfig, external: &[IpAddr]) -> Self {
        Self {
            nat: Some((config, external.to_vec())),
            firewall: None,
        }
    }

    /// Adds a firewall, which looks at packets as they are inside.
    #[must_use]
    pub fn firewall(mut self, config: FirewallConfig) -> Self {
        self.firewall = Some(config);
        self
    }
}

impl From<FirewallConfig> for Gateway {
    fn from(config: FirewallConfig) -> Self {
        Self::router().firewall(config)
    }
}

impl Simulation {
    /// The network at the root, which is there from the start: every address that is not behind a
    /// NAT is known to it.
    pub const INTERNET: NetworkId = NetworkId(0);

    /// Adds a network below `parent`, joined by a link in each direction.
    pub fn add_network(
        &mut self,
        parent: NetworkId,
        gateway: Gateway,
        up: LinkConfig,
        down: LinkConfig,
    ) -> NetworkId {
        let node = self.nodes.len();
        let parent_port = self.router(parent).ports.len();
        let nat = gateway
            .nat
            .map(|(config, external)| Box::new(Nat::new(config, external, self.random.fork())));
        let external = nat
            .as_ref()
            .map_or_else(Vec::new, |nat| nat.external().to_vec());
        self.nodes.push(Node::Router(Router {
            parent: Some((parent.0, parent_port)),
            ports: vec![None],
            routes: Table::default(),
            nat,
            firewall: gateway
                .firewall
                .map(|config| Box::new(Firewall::new(config))),
        }));
        let up = self.add_link(up, node, parent.0, parent_port);
        let down = self.add_link(down, parent.0, node, UPLINK);
        self.router_mut(parent).ports.push(Some(down.0));
        self.router_mut(NetworkId(node)).ports[UPLINK] = Some(up.0);
        for address in external {
            self.announce(parent.0, parent_port, address);
        }
        NetworkId(node)
    }

    /// Adds a host without interfaces.
    pub fn add_host(&mut self, name: &str) -> HostId {
        self.nodes.push(Node::Host(Host {
            name: name.to_owned(),
            interfaces: Vec::new(),
            tcp: Stack::default(),
        }));
        HostId(self.nodes.len() - 1)
    }

    /// Gives a host an interface with these addresses in a network, with a link in each direction.
    pub fn attach(
        &mut self,
        host: HostId,
        network: NetworkId,
        addresses: &[IpAddr],
        up: LinkConfig,
        down: LinkConfig,
    ) -> InterfaceId {
        let port = self.router(network).ports.len();
        let index = self.host(host).interfaces.len();
        let up = self.add_link(up, host.0, network.0, port);
        let down = self.add_link(down, network.0, host.0, index);
        self.router_mut(network).ports.push(Some(down.0));
        self.host_mut(host).interfaces.push(Interface {
            addresses: addresses.to_vec(),
            link: up.0,
            network: Some((network.0, port)),
            up: true,
        });
        for &address in addresses {
            self.announce(network.0, port, address);
        }
        InterfaceId { host, index }
    }

    /// Adds a host with one interface in a network, the same link in both directions.
    pub fn add_host_in(
        &mut self,
        network: NetworkId,
        name: &str,
        addresses: &[IpAddr],
        link: LinkConfig,
    ) -> HostId {
        let host = self.add_host(name);
        self.attach(host, network, addresses, link.clone(), link);
        host
    }

    /// Joins two hosts by a link of their own; each end with the address of its new interface and
    /// the link that leads away from it.
    pub fn connect_hosts(
        &mut self,
        a: (HostId, IpAddr, LinkConfig),
        b: (HostId, IpAddr, LinkConfig),
    ) -> [LinkId; 2] {
        let ports = [
            self.host(a.0).interfaces.len(),
            self.host(b.0).interfaces.len(),
        ];
        let a_to_b = self.add_link(a.2, a.0.0, b.0.0, ports[1]);
        let b_to_a = self.add_link(b.2, b.0.0, a.0.0, ports[0]);
        for (host, address, link) in [(a.0, a.1, a_to_b), (b.0, b.1, b_to_a)] {
            self.host_mut(host).interfaces.push(Interface {
                addresses: vec![address],
                link: link.0,
                network: None,
                up: true,
            });
        }
        [a_to_b, b_to_a]
    }

    /// The name that a host was given.
    pub fn host_name(&self, host: HostId) -> &str {
        &self.host(host).name
    }

    /// The addresses of a host's interface.
    pub fn addresses(&self, interface: InterfaceId) -> &[IpAddr] {
        &self.host(interface.host).interfaces[interface.index].addresses
    }

    /// Replaces the addresses of a host's interface: a new lease, another network behind the same wire.
    pub fn set_addresses(&mut self, interface: InterfaceId, addresses: &[IpAddr]) {
        let slot = &mut self.host_mut(interface.host).interfaces[interface.index];
        let former = std::mem::replace(&mut slot.addresses, addresses.to_vec());
        if let Some((network, port)) = slot.network {
            for address in former {
                self.withdraw(network, port, address);
            }
            for &address in addresses {
                self.announce(network, port, address);
            }
        }
    }

    /// Takes a host's interface up or down. What is on its way to an interface that is down is lost.
    pub fn set_interface_up(&mut self, interface: InterfaceId, up: bool) {
        self.host_mut(interface.host).interfaces[interface.index].up = up;
    }

    /// Whether a host's interface is up.
    pub fn is_interface_up(&self, interface: InterfaceId) -> bool {
        self.host(interface.host).interfaces[interface.index].up
    }

    /// Takes a link up or down: what is offered to it while it is down is lost.
    pub fn set_link_up(&mut self, link: LinkId, up: bool) {
        self.links[link.0].up = up;
    }

    /// The links from and to a host's interface: `[up, down]`.
    pub fn interface_links(&self, interface: InterfaceId) -> [LinkId; 2] {
        let slot = &self.host(interface.host).interfaces[interface.index];
        let up = slot.link;
        let down = match slot.network {
            Some((network, port)) => self.router(NetworkId(network)).ports[port],
            None => self
                .links
                .iter()
                .position(|link| link.to == interface.host.0 && link.from == self.links[up].to),
        };
        [LinkId(up), LinkId(down.unwrap_or(up))]
    }

    /// The links between a network and its parent: `[up, down]`; `None` for the internet.
    pub fn network_links(&self, network: NetworkId) -> Option<[LinkId; 2]> {
        let router = self.router(network);
        let (parent, port) = router.parent?;
        let up = router.ports[UPLINK]?;
        let down = self.router(NetworkId(parent)).ports[port]?;
        Some([LinkId(up), LinkId(down)])
    }

    /// Makes a network's NAT forget every mapping, as a reboot does. Ports that are not preserved
    /// come out anew.
    pub fn reboot_nat(&mut self, network: NetworkId) {
        if let Some(nat) = &mut self.router_mut(network).nat {
            nat.reboot();
        }
    }

    /// Gives a network's NAT other external addresses, and makes it forget every mapping.
    pub fn set_external_addresses(&mut self, network: NetworkId, external: &[IpAddr]) {
        let router = self.router_mut(network);
        let parent = router.parent;
        let Some(nat) = &mut router.nat else { return };
        let former = nat.external().to_vec();
        nat.set_external(external.to_vec());
        if let Some((parent, port)) = parent {
            for address in former {
                self.withdraw(parent, port, address);
            }
            for &address in external {
                self.announce(parent, port, address);
            }
        }
    }

    /// What a network's NAT has done; `None` if it has none.
    pub fn nat_stats(&self, network: NetworkId) -> Option<NatStats> {
        self.router(network).nat.as_ref().map(|nat| nat.stats)
    }

    /// How many mappings a network's NAT has now.
    pub fn nat_mappings(&self, network: NetworkId) -> usize {
        let nat = self.router(network).nat.as_ref();
        nat.map_or(0, |nat| nat.len(self.now))
    }

    /// The external endpoint that a network's NAT has for an internal one towards a remote one.
    pub fn nat_mapping(
        &self,
        network: NetworkId,
        protocol: Protocol,
        internal: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        let nat = self.router(network).nat.as_ref()?;
        nat.lookup(self.now, protocol, internal, remote)
    }

    /// How many packets a network's firewall has blocked.
    pub fn firewall_blocked(&self, network: NetworkId) -> u64 {
        let firewall = self.router(network).firewall.as_ref();
        firewall.map_or(0, |firewall| firewall.blocked)
    }

    /// The recorded trace as text, one packet per line: what a failing test prints.
    pub fn trace_text(&self) -> String {
        self.trace().iter().map(TraceEntry::to_string).collect()
    }

    pub(crate) fn host(&self, host: HostId) -> &Host {
        match &self.nodes[host.0] {
            Node::Host(host) => host,
            Node::Router(_) => unreachable!("a HostId names a host"),
        }
    }

    pub(crate) fn host_mut(&mut self, host: HostId) -> &mut Host {
        match &mut self.nodes[host.0] {
            Node::Host(host) => host,
            Node::Router(_) => unreachable!("a HostId names a host"),
        }
    }

    fn router(&self, network: NetworkId) -> &Router {
        match &self.nodes[network.0] {
            Node::Router(router) => router,
            Node::Host(_) => unreachable!("a NetworkId names a router"),
        }
    }

    fn router_mut(&mut self, network: NetworkId) -> &mut Router {
        match &mut self.nodes[network.0] {
            Node::Router(router) => router,
            Node::Host(_) => unreachable!("a NetworkId names a router"),
        }
    }

    /// Makes an address known to a router, and to those above it as far as it is not hidden.
    fn announce(&mut self, router: usize, port: usize, address: IpAddr) {
        let (mut at, mut port) = (router, port);
        loop {
            let router = self.router_mut(NetworkId(at));
            router.routes.insert(address, port);
            match router.parent {
                Some((parent, parent_port)) if !router.hides(address) => {
                    (at, port) = (parent, parent_port);
                }
                _ => return,
            }
        }
    }

    fn withdraw(&mut self, router: usize, port: usize, address: IpAddr) {
        let (mut at, mut port) = (router, port);
        loop {
            let router = self.router_mut(NetworkId(at));
            if router.routes.get(&address) == Some(&port) {
                router.routes.remove(&address);
            }
            match router.parent {
                Some((parent, parent_port)) if !router.hides(address) => {
                    (at, port) = (parent, parent_port);
                }
                _ => return,
            }
        }
    }
}

/// The root router.
pub(crate) fn internet() -> Node {
    Node::Router(Router {
        parent: None,
        ports: vec![None],
        routes: Table::default(),
        nat: None,
        firewall: None,
    })
}
