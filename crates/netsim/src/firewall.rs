//! Firewalls: what may go out, and what may come in.

use std::net::SocketAddr;
use std::time::Duration;

use visavis_datagram::Protocol;

use crate::hash::Table;
use crate::nat::Verdict;
use crate::packet::{Kind, Packet};
use crate::tcp::{RST, SYN};

/// What a firewall lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallConfig {
    /// Whether it looks at IPv4; what it does not look at passes.
    pub ipv4: bool,
    /// Whether it looks at IPv6.
    pub ipv6: bool,
    /// Whether UDP may go out.
    pub udp: bool,
    /// The remote ports that TCP may go out to; `None`: all.
    pub tcp_ports: Option<Vec<u16>>,
    /// Whether only answers may come in: packets of flows that began inside.
    pub stateful: bool,
    /// How long a UDP flow lasts without traffic. Default 2 minutes (RFC 6092 REC-14).
    pub udp_timeout: Duration,
    /// Whether TCP that may not go out is refused at once, by RST, instead of dropped.
    pub refuse: bool,
}

impl Default for FirewallConfig {
    /// Only answers come in; everything goes out.
    fn default() -> Self {
        Self {
            ipv4: true,
            ipv6: true,
            udp: true,
            tcp_ports: None,
            stateful: true,
            udp_timeout: Duration::from_secs(120),
            refuse: false,
        }
    }
}

impl FirewallConfig {
    /// Only answers come in; everything goes out.
    pub fn stateful() -> Self {
        Self::default()
    }

    /// As [`stateful`](Self::stateful), for IPv6 alone: what stands beside an IPv4 NAT in a home router.
    pub fn stateful_ipv6() -> Self {
        Self {
            ipv4: false,
            ..Self::default()
        }
    }

    /// No UDP at all; TCP goes out.
    pub fn no_udp() -> Self {
        Self {
            udp: false,
            ..Self::default()
        }
    }

    /// Nothing but TCP to port 443.
    pub fn only_tcp_443() -> Self {
        Self {
            udp: false,
            tcp_ports: Some(vec![443]),
            ..Self::default()
        }
    }
}

/// The most flows that a firewall remembers; the oldest entries are swept out when it is full.
const MAX_FLOWS: usize = 65_536;
/// How long TCP flows last without traffic (RFC 6092 REC-35: two hours and four minutes).
const TCP_TIMEOUT: Duration = Duration::from_secs(124 * 60);

#[derive(Debug)]
pub(crate) struct Firewall {
    config: FirewallConfig,
    /// (TCP?, inside, outside) to when it lapses.
    flows: Table<(bool, SocketAddr, SocketAddr), u64>,
    pub(crate) blocked: u64,
}

impl Firewall {
    pub(crate) fn new(config: FirewallConfig) -> Self {
        Self {
            config,
            flows: Table::default(),
            blocked: 0,
        }
    }

    /// Looks at a packet on its way out, before address translation.
    pub(crate) fn outbound(&mut self, now: u64, packet: &Packet) -> Verdict {
        if !self.looks_at(packet) || matches!(packet.kind, Kind::TooBig { .. }) {
            return Verdict::Pass;
        }
        let tcp = packet.protocol() == Protocol::Tcp;
        let flow = (tcp, packet.source, packet.destination);
        // Answers to what came in through an open firewall pass too.
        let known = self.flows.get(&flow).is_some_and(|&expires| expires > now);
        let allowed = known
            || match &packet.kind {
                Kind::Tcp(_) => self
                    .config
                    .tcp_ports
                    .as_ref()
                    .is_none_or(|ports| ports.contains(&packet.destination.port())),
                _ => self.config.udp,
            };
        if !allowed {
            self.blocked += 1;
            let reset = matches!(packet.kind, Kind::Tcp(segment) if segment.flags & RST == 0);
            return if reset && self.config.refuse {
                Verdict::Reset
            } else {
                Verdict::Drop
            };
        }
        self.remember(now, flow);
        Verdict::Pass
    }

    /// Looks at a packet on its way in, behind address translation.
    pub(crate) fn inbound(&mut self, now: u64, packet: &Packet) -> Verdict {
        if !self.looks_at(packet) || matches!(packet.kind, Kind::TooBig { .. }) {
            return Verdict::Pass;
        }
        let tcp = packet.protocol() == Protocol::Tcp;
        let flow = (tcp, packet.destination, packet.source);
        let known = self.flows.get(&flow).is_some_and(|&expires| expires > now);
        let begins = match packet.kind {
            Kind::Tcp(segment) => segment.flags & SYN != 0,
            _ => self.config.udp,
        };
        if !known && (self.config.stateful || !begins) {
            self.blocked += 1;
            return Verdict::Drop;
        }
        self.remember(now, flow);
        Verdict::Pass
    }

    fn looks_at(&self, packet: &Packet) -> bool {
        if packet.source.is_ipv4() {
            self.config.ipv4
        } else {
            self.config.ipv6
        }
    }

    fn remember(&mut self, now: u64, flow: (bool, SocketAddr, SocketAddr)) {
        let timeout = if flow.0 {
            TCP_TIMEOUT
        } else {
            self.config.udp_timeout
        };
        if self.flows.len() >= MAX_FLOWS && !self.flows.contains_key(&flow) {
            self.flows.retain(|_, &mut expires| expires > now);
            if self.flows.len() >= MAX_FLOWS {
                return;
            }
        }
        self.flows.insert(flow, now + timeout.as_nanos() as u64);
    }
}
