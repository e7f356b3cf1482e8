//! Deterministic network simulator: virtual time, links, queues, NATs, firewalls.
//!
//! One seed makes a run: the same calls on a [`Simulation`] with the same seed give the identical
//! packet trace ([`Simulation::trace_hash`]). Nothing here owns a clock or a thread.
//!
//! - [`Pipe`]: two ends and a link; for machines without addresses (DTLS, SCTP, congestion control).
//! - [`Simulation`]: hosts with several interfaces, routers, NATs, firewalls; UDP and a simple TCP.
//! - [`Driver`]: runs sans-IO [`Endpoint`]s on a simulation until a condition or a deadline.
//!
//! What lives here: the network. What does not: anything that knows a protocol above UDP and TCP.

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod config;
mod connection;
mod driver;
mod firewall;
mod hash;
mod link;
mod nat;
mod node;
mod packet;
mod pipe;
mod queue;
mod rate_trace;
mod simulation;
mod stats;
mod tcp;
mod topology;
mod trace;

pub use config::{CoDelConfig, DualQConfig, Jitter, Limit, LinkConfig, Loss, Queue, Rate};
pub use driver::{Driver, Endpoint};
pub use firewall::FirewallConfig;
pub use nat::{
    Dependence, Hairpinning, NatConfig, NatStats, Pooling, PortAllocation, UnsolicitedSyn,
};
pub use node::{InterfaceId, NetworkId};
pub use packet::Payload;
pub use pipe::{Pipe, PipeDelivery, PipeEnd, Side};
pub use rate_trace::RateTrace;
pub use simulation::{Arrival, Delivery, HostId, LinkId, Simulation};
pub use stats::LinkStats;
pub use tcp::{TcpCommand, TcpEvent};
pub use topology::Gateway;
pub use trace::{TraceEntry, TraceKind};
