//! DTLS 1.3 and 1.2, sans-IO.
//!
//! One record layer and one handshake machinery serve both versions and both roles. A
//! [`Connection`] owns no socket and no clock: whoever drives it passes datagrams and the time in
//! and polls datagrams, timeouts and events out, in any order.
//!
//! What lives here: RFC 9147, RFC 6347, and what WebRTC adds to them (use_srtp, fingerprints,
//! flights that an outer carrier can take). What does not: cryptography (`visavis-crypto`), and
//! addresses; ICE decides where datagrams come from and go. `README.md` maps RFC sections to code
//! and names the deliberate deviations.

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod acks;
mod alert;
mod codec;
mod config;
mod connection;
mod error;
mod event;
mod flight;
mod front;
#[doc(hidden)]
pub mod fuzzing;
mod key_schedule;
mod message;
mod range_set;
mod reassembly;
mod record;
mod srtp_profile;
mod stats;
mod suite;
mod transcript;
mod version;

pub use alert::AlertDescription;
pub use config::{Config, Limits, PeerVerification};
pub use connection::{Connection, FlightPiece, PieceId, Received};
pub use error::Error;
pub use event::{CloseReason, Connected, Event};
pub use front::{Front, FrontAnswer, FrontLimits, FrontStats};
pub use srtp_profile::{SrtpKeys, SrtpMaster, SrtpProfile};
pub use stats::Stats;
pub use suite::CipherSuite;
pub use version::{Role, Version};
