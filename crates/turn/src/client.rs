//! The client: one allocation on one server, over one path.
//!
//! The caller owns the sockets. It makes a [`Client`] with the [`Path`](visavis_datagram::Path) to the server, sends
//! what [`Client::poll_transmit`] gives, and hands in what arrives: [`Client::unwrap`] says which
//! bytes of a datagram are a peer's. Over TCP and TLS the caller cuts the stream into frames
//! ([`StreamDecoder`](visavis_stun::StreamDecoder)) and hands in one frame at a time.
//!
//! ```no_run
//! use std::time::Instant;
//! use visavis_datagram::{Path, Random, TransmitBuf};
//! use visavis_turn::client::{Client, ClientConfig, Event, Received};
//!
//! # fn send(_: visavis_datagram::Transmit, _: &[u8]) {}
//! let now = Instant::now();
//! let path = Path::udp("192.0.2.7:5000".parse().unwrap(), "192.0.2.1:3478".parse().unwrap());
//! let mut client = Client::new(now, path, ClientConfig::new("user", "password"), Random::from_u64(1));
//! let mut out = TransmitBuf::new(1, 1500);
//! while let Some(transmit) = client.poll_transmit(now, &mut out) {
//!     send(transmit, out.as_slice());
//!     out.clear();
//! }
//! // ... after Event::Allocated:
//! let peer = "198.51.100.3:7000".parse().unwrap();
//! client.permit(now, peer).unwrap();
//! client.wrap(now, peer, b"hello", &mut out).unwrap();
//! ```

mod agent;
mod auth;
mod config;
mod data;
mod event;
mod peers;
mod response;

pub use agent::{Client, ClientStats};
pub use config::{ClientConfig, Families};
pub use data::{MAX_OVERHEAD, Received};
pub use event::{Error, Event, Failure, NewPathReason, Relayed};
