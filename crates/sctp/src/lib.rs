//! SCTP association, streams and data channels, sans-IO.
//!
//! [`Association`] is one SCTP association over DTLS (RFC 9260, RFC 8261): it takes decrypted
//! packets and writes packets to be encrypted. [`datachannel::DataChannels`] puts the channels of
//! RFC 8831 and RFC 8832 on one, with the semantics of webrtc-pc.
//!
//! What lives here: SCTP and DCEP. What does not: DTLS, addresses (there is one path, which is
//! below), SDP.

mod association;
mod clock;
mod config;
mod controller;
pub mod datachannel;
mod error;
mod receive;
mod send;
mod serial;
mod stats;
mod stream_table;
mod types;
mod wire;

pub use association::Association;
pub use config::{Config, ControllerKind, Limits, PacketSizes, Rto, SchedulerKind};
pub use error::Error;
pub use stats::Stats;
pub use types::{
    CloseReason, Event, Message, Negotiated, Ppid, Reliability, SendOptions, State, StreamId,
};

/// Doors for the fuzz targets. Not part of the API.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads a packet to its last parameter; how many chunks it had.
    pub fn parse_packet(bytes: &[u8]) -> usize {
        crate::wire::walk(bytes)
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
