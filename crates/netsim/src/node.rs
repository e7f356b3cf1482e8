//! What stands at the ends of links: hosts, and routers with what they do to packets.

use std::net::IpAddr;

use crate::firewall::Firewall;
use crate::hash::Table;
use crate::nat::{Nat, Verdict};
use crate::packet::Packet;
use crate::simulation::HostId;
use crate::tcp::Stack;

/// An interface of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId {
    pub(crate) host: HostId,
    pub(crate) index: usize,
}

impl InterfaceId {
    /// The host.
    pub const fn host(self) -> HostId {
        self.host
    }

    /// Its index among the host's interfaces, from 0.
    pub const fn index(self) -> usize {
        self.index
    }
}

/// A network: a router and all that is joined to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkId(pub(crate) usize);

#[derive(Debug)]
pub(crate) enum Node {
    Host(Host),
    Router(Router),
}

#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) link: usize,
    /// The router that it is joined to, and the router's port; `None` for a link between two hosts.
    pub(crate) network: Option<(usize, usize)>,
    pub(crate) up: bool,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) tcp: Stack,
}

impl Host {
    /// Whether packets to an address are for it.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.interfaces
            .iter()
            .any(|interface| interface.up && interface.addresses.contains(&address))
    }
}

/// Routers drop packets that have passed so many of them.
const MAX_HOPS: u8 = 64;
/// The port of a router that leads to its parent.
pub(crate) const UPLINK: usize = 0;

/// What a router does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    To(usize),
    Drop,
    /// Answer with a TCP reset by this link, and drop.
    Reset {
        back_to: usize,
    },
}

#[derive(Debug)]
pub(crate) struct Router {
    /// The router above it, and that one's port to here.
    pub(crate) parent: Option<(usize, usize)>,
    /// The link that leads away from each port; port 0 is the uplink. The root has none there.
    pub(crate) ports: Vec<Option<usize>>,
    pub(crate) routes: Table<IpAddr, usize>,
    pub(crate) nat: Option<Box<Nat>>,
    pub(crate) firewall: Option<Box<Firewall>>,
}

impl Router {
    /// Whether an address below is hidden from the networks above.
    pub(crate) fn hides(&self, address: IpAddr) -> bool {
        self.nat.as_ref().is_some_and(|nat| nat.translates(address))
    }

    /// Decides about a packet that came in at a port, and translates it.
    pub(crate) fn forward(&mut self, now: u64, port: usize, packet: &mut Packet) -> Forward {
        packet.hops += 1;
        if packet.hops > MAX_HOPS {
            return Forward::Drop;
        }
        if port == UPLINK && self.parent.is_some() {
            self.inwards(now, packet)
        } else {
            self.outwards(now, port, packet)
        }
    }

    /// Where a packet goes that the router itself made.
    pub(crate) fn send(&mut self, now: u64, packet: &mut Packet) -> Option<usize> {
        let destination = packet.destination.ip();
        if let Some(&port) = self.routes.get(&destination) {
            return self.ports[port];
        }
        if self.nat.as_ref().is_some_and(|nat| nat.owns(destination)) {
            // About a packet that this very NAT has translated already.
            let nat = self.nat.as_mut()?;
            if nat.inbound(now, packet) != Verdict::Pass {
                return None;
            }
            let port = *self.routes.get(&packet.destination.ip())?;
            return self.ports[port];
        }
        if let Some(nat) = &mut self.nat
            && nat.translates(packet.source.ip())
            && nat.outbound(now, packet) != Verdict::Pass
        {
            return None;
        }
        self.ports[UPLINK]
    }

    fn inwards(&mut self, now: u64, packet: &mut Packet) -> Forward {
        let back_to = self.ports[UPLINK];
        if let Some(nat) = &mut self.nat
            && nat.translates(packet.destination.ip())
        {
            if !nat.owns(packet.destination.ip()) {
                return Forward::Drop;
            }
            let verdict = nat.inbound(now, packet);
            if verdict != Verdict::Pass {
                return refuse(verdict, back_to);
            }
        }
        if let Some(firewall) = &mut self.firewall {
            let verdict = firewall.inbound(now, packet);
            if verdict != Verdict::Pass {
                return refuse(verdict, back_to);
            }
        }
        self.below(packet).map_or(Forward::Drop, Forward::To)
    }

    fn outwards(&mut self, now: u64, port: usize, packet: &mut Packet) -> Forward {
        let destination = packet.destination.ip();
        if let Some(link) = self.below(packet) {
            return Forward::To(link);
        }
        let back_to = self.ports.get(port).copied().flatten();
        if let Some(nat) = &mut self.nat
            && nat.owns(destination)
        {
            let verdict = nat.hairpin(now, packet);
            if verdict != Verdict::Pass {
                return refuse(verdict, back_to);
            }
            return self.below(packet).map_or(Forward::Drop, Forward::To);
        }
        let Some(uplink) = self.ports[UPLINK] else {
            return Forward::Drop;
        };
        if let Some(firewall) = &mut self.firewall {
            let verdict = firewall.outbound(now, packet);
            if verdict != Verdict::Pass {
                return refuse(verdict, back_to);
            }
        }
        if let Some(nat) = &mut self.nat
            && nat.translates(packet.source.ip())
        {
            let verdict = nat.outbound(now, packet);
            if verdict != Verdict::Pass {
                return refuse(verdict, back_to);
            }
        }
        Forward::To(uplink)
    }

    fn below(&self, packet: &Packet) -> Option<usize> {
        self.routes
            .get(&packet.destination.ip())
            .and_then(|&port| self.ports[port])
    }
}

fn refuse(verdict: Verdict, back_to: Option<usize>) -> Forward {
    match (verdict, back_to) {
        (Verdict::Reset, Some(back_to)) => Forward::Reset { back_to },
        _ => Forward::Drop,
    }
}
