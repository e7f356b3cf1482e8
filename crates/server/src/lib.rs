//! Signalling, rooms, WHIP and WHEP, the TURN service, the web page and metrics.
//!
//! [`Server::start`] runs all of it. A room is a machine without I/O ([`room::Room`]), owned by one task;
//! media is forwarded by `visavis-sfu`, whose workers that task commands.

mod acme;
mod bucket;
pub mod config;
mod embedded_turn;
mod engine;
pub mod events;
pub mod ice;
pub mod ids;
mod inspect;
mod listener;
mod media;
mod p2p;
mod page;
mod record;
pub mod rendezvous;
pub mod room;
pub mod rooms;
mod routes;
mod server;
mod signal;
mod tls;
pub mod token;
pub mod turn;
mod twirp;
pub mod webhook;
mod websocket;
mod whip;
pub mod wire;

pub use config::Config;
pub use record::{Recorded, RecordedFrame, TrackFile};
pub use server::{Server, Shared, StartError};
pub use visavis_sfu::Balance;

/// The version of LiveKit's server whose protocol is spoken: its clients choose features by it.
pub const LIVEKIT_VERSION: &str = "1.13.5";

/// The number of that protocol.
pub const LIVEKIT_PROTOCOL: i32 = 17;
