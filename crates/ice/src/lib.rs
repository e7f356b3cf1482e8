//! The ICE agent of RFC 8445, sans-IO.
//!
//! An [`Agent`] finds the cheapest path on which two hosts can exchange datagrams: it gathers
//! candidates from the [`LocalAddress`]es that its owner gives it, from STUN servers and from TURN
//! servers, checks them against the peer's, selects a pair, keeps consent fresh on it, and moves to
//! another one when the path dies or a better one appears.
//!
//! One agent is one component of one stream: RTCP is multiplexed (RFC 5761) and media is bundled
//! (RFC 9143). A session that does neither has one agent per component; they share a [`Pacer`].
//!
//! What lives here: gathering, checks, nomination, consent, restart, relaying through
//! [`visavis_turn`]'s client, and the typed [`Candidate`] line of SDP. What does not: sockets, interface
//! enumeration, DNS and multicast DNS, TLS, stream framing. The owner does those when an [`Event`]
//! asks.

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod agent;
mod candidate;
mod config;
mod event;
mod pacer;
mod piggyback;
mod stats;

pub use agent::{Agent, Error};
pub use candidate::{
    Candidate, CandidateKind, Host, MAX_EXTENSIONS, MAX_FOUNDATION_LEN, MAX_NAME_LEN,
    ParseCandidateError, TcpType, pair_priority, priority,
};
pub use config::{
    AddressMode, AddressRewrite, Config, Credentials, Filter, Limits, LocalAddress, Network,
    RemoteParameters, RewriteMode, Role, Secret, Server, ServerKind, Timing, TransportPolicy,
};
pub use event::{
    Connect, ConnectionId, ConnectionState, Event, GatheringState, PairId, Received, Resolution,
    SelectedPair, StreamFraming,
};
pub use pacer::{DEFAULT_TA, MIN_TA, Pacer, ProcessPace};
pub use piggyback::{AttributeWriter, NoPiggyback, Piggyback};
pub use stats::{AgentStats, LocalCandidateStats, PairCounters, PairState, PairStats};
pub use visavis_turn::client::MAX_OVERHEAD as MAX_RELAY_OVERHEAD;
