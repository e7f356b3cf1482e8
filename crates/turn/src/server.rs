//! The server's core: STUN Binding and TURN for one worker, without a socket.
//!
//! The driver owns the sockets. It hands in each datagram of a client ([`Server::handle_client`]; over streams one
//! frame at a time) and of a peer ([`Server::handle_peer`]), and is told where the bytes go: the
//! payload is never copied, headers are rewritten in place. Answers to requests wait in
//! [`Server::poll_transmit`]. Relay sockets are opened and closed as [`Server::poll_command`] says.
//!
//! Before a request is authenticated nothing is stored of it: nonces are HMACs over the client's
//! address and the time.

mod allocate;
mod allocation;
mod auth;
mod binding;
mod config;
mod credentials;
mod embedded;
mod event;
mod filter;
mod limiter;
mod mobility;
mod nonce;
mod oauth;
mod pool;
mod ports;
mod quota;
mod relay;
mod reply;
mod requests;
mod table;
mod tcp;
mod worker;

pub use allocation::AllocationId;
pub use config::{Limits, Rate, RelayAddress, ServerConfig};
pub use credentials::{Credentials, Realm};
pub use embedded::embedded_ipv4;
pub use event::{AllocationInfo, Command, EndReason, Event, RelayKind, ServerStats};
pub use filter::{IpRange, PeerFilter};
pub use pool::RelayPool;
pub use quota::SharedQuota;
pub use relay::{CLIENT_HEADROOM, CLIENT_TAILROOM, Forward, ToClient};
pub use worker::Server;
