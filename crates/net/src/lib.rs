//! The outside world: sockets, interfaces, routes and names.
//!
//! What lives here: UDP sockets that move runs of datagrams with segmentation offload and ECN
//! ([`udp`] on tokio; `direct`, on Linux, for workers with a loop of their own), framed TCP ([`tcp`]), the table that lets many agents share one port ([`mux`]),
//! interfaces and routes ([`interface`]), and mDNS names ([`mdns`]). What does not: protocols; they are
//! sans-IO crates that this one carries datagrams for. Feature `port-mapping` adds the protocols by
//! which home routers open ports.

#[cfg(target_os = "linux")]
pub mod direct;
pub mod interface;
pub mod mdns;
pub mod memory;
pub mod mux;
#[cfg(all(test, target_os = "linux"))]
mod namespace;
#[cfg(feature = "port-mapping")]
pub mod portmap;
pub mod tcp;
pub mod udp;
