//! Bandwidth estimation, pacing, probing and allocation, sans-IO.
//!
//! - [`SentPackets`] remembers what was sent and joins it with what feedback says ([`Arrival`]s:
//!   transport-wide feedback and RFC 8888 both map to them).
//! - A [`Controller`] turns the results into a [`Target`]: [`GoogCc`], Google congestion control as
//!   browsers run it, or [`Scream`], which answers L4S marks.
//! - The [`Pacer`] decides when each packet leaves, by priority, and sends probes.
//! - The [`allocate`]r shares the target among tracks, simulcast layers and data channels.
//! - [`Sender`] is the first three in one.
//!
//! What lives here: rates and times. What does not: RTP, RTCP, and packets' bytes.

mod aimd;
mod allocator;
mod alr;
mod controller;
mod goog_cc;
mod history;
mod inter_arrival;
mod loss_based;
mod pacer;
mod packet;
mod probe;
mod queue_delay;
mod scream;
mod sender;
mod stall;
mod throughput;
mod trendline;

pub use allocator::{Allocation, Request, allocate};
pub use controller::{Controller, Limits, Stats, Target};
pub use goog_cc::{GoogCc, GoogCcConfig};
pub use history::{DEFAULT_HISTORY, HistoryStats, SentPackets};
pub use loss_based::{LossConfig, LossState};
pub use pacer::{Pacer, PacerConfig, PacerStats, Queued, Release};
pub use packet::{
    Arrival, Feedback, MAX_PACKET, PacketKind, PacketResult, ProbeCluster, ProbeId, SentPacket,
};
pub use probe::ProbeConfig;
pub use scream::{Scream, ScreamConfig};
pub use sender::Sender;
pub use trendline::BandwidthUsage;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
