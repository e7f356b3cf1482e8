//! What an [`Endpoint`](crate::Endpoint) is set up with: everything that is about this host rather
//! than about one connection.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use visavis_net::interface::InterfaceFilter;
use visavis_net::mdns::MdnsOptions;
use visavis_net::udp::UdpOptions;

/// Settings of an endpoint. The defaults are what a browser does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Where sockets are bound. Default: one per interface address, on any port.
    pub binding: Binding,
    /// Which interfaces and addresses are used, where [`Binding::Interfaces`] asks.
    pub interfaces: InterfaceFilter,
    /// Follow changes of the interfaces while running. Default yes.
    pub watch_interfaces: bool,
    /// Options of the UDP sockets.
    pub udp: UdpOptions,
    /// Offer TCP candidates that connect (RFC 6544 active). Default yes.
    pub tcp_active: bool,
    /// Listen for TCP connections of peers (RFC 6544 passive): one port per address, at the number that
    /// `binding` says. For servers whose clients sit where UDP does not pass; browsers only connect. Default
    /// no.
    pub tcp_passive: bool,
    /// Offer `.local` names instead of host addresses, answered for by multicast DNS. Default no:
    /// native programs have no page to hide from.
    pub mdns_candidates: bool,
    /// Resolve the `.local` names of peers. Default yes.
    pub mdns_resolve: bool,
    /// Which interfaces multicast DNS uses, and its bounds.
    pub mdns: MdnsOptions,
    /// Ask the router for a port that leads to each IPv4 socket, by PCP, NAT-PMP or UPnP, and offer it as
    /// a candidate. Default no: whether a router opens ports on request is its owner's choice. The ports
    /// are given back when the endpoint goes.
    #[cfg(feature = "port-mapping")]
    pub port_mapping: Option<visavis_net::portmap::PortMapOptions>,
    /// How the certificates of TURN servers over TLS are checked. Default: the Mozilla roots.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The largest datagram in bytes, IP and UDP headers not counted. Default 1200. A relay adds 4 bytes to those that carry
    /// messages of data channels, and up to 51 before it has a channel for the peer (RFC 8656 section 12).
    pub mtu: usize,
    /// Bytes of received messages that a connection holds for a slow reader before it slows the peer
    /// down. Default 4 MiB.
    pub receive_buffer: usize,
}

/// Where an endpoint's sockets are bound.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// One UDP socket per interface address, on any free port or on one of a range.
    Interfaces {
        /// The ports to try, lowest first; any free port if `None`.
        ports: Option<RangeInclusive<u16>>,
    },
    /// Just these addresses. All connections of the endpoint share them.
    Addresses(Vec<SocketAddr>),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            binding: Binding::Interfaces { ports: None },
            interfaces: InterfaceFilter::default(),
            watch_interfaces: true,
            udp: UdpOptions::default(),
            tcp_active: true,
            tcp_passive: false,
            mdns_candidates: false,
            mdns_resolve: true,
            mdns: MdnsOptions::default(),
            #[cfg(feature = "port-mapping")]
            port_mapping: None,
            tls: None,
            mtu: 1200,
            receive_buffer: 4 << 20,
        }
    }
}

impl Settings {
    /// For tests and for peers on one host: loopback addresses and nothing else.
    pub fn loopback() -> Self {
        Self {
            binding: Binding::Addresses(vec![SocketAddr::from(([127, 0, 0, 1], 0))]),
            watch_interfaces: false,
            mdns_resolve: false,
            ..Self::default()
        }
    }

    /// The ports to try for `ip`, in order.
    pub(crate) fn candidates(&self, ip: IpAddr) -> Vec<SocketAddr> {
        match &self.binding {
            Binding::Interfaces { ports: Some(ports) } => ports
                .clone()
                .map(|port| SocketAddr::new(ip, port))
                .collect(),
            _ => vec![SocketAddr::new(ip, 0)],
        }
    }
}
