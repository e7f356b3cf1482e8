//! The STUN and TURN service: workers that share nothing, one per core, and a control side that never stands in a packet's
//! way.
//!
//! What lives here: sockets, threads, certificates, configuration, metrics and the operator's HTTP interface. What the bytes
//! mean is `visavis_turn::server`'s business. [`TurnService`] is the door for `visavis turn` and for whoever embeds the
//! service.

mod admin;
mod certificates;
mod config;
mod control;
mod deadlines;
mod dtls;
mod gather;
mod inbox;
mod metrics;
mod quiet;
mod relays;
mod service;
mod settings;
mod streams;
mod webhook;
mod worker;

pub use admin::router;
pub use certificates::Certificates;
pub use config::{TurnConfig, TurnError};
pub use metrics::Metrics;
pub use service::{Credential, TurnService};
pub use settings::{Generated, Settings};

/// The address that a client's connections are counted for: IPv6 clients have a /64.
fn network_of(ip: std::net::IpAddr) -> std::net::IpAddr {
    match ip {
        std::net::IpAddr::V4(_) => ip,
        std::net::IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}
