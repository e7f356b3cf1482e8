//! Counters of an agent, its pairs and its candidates, with the names of W3C's webrtc-stats where
//! it has them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::candidate::Candidate;
use crate::event::PairId;

/// State of a candidate pair (RFC 8445 section 6.1.2.6, W3C `RTCStatsIceCandidatePairState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PairState {
    /// Held back until a pair of the same foundation succeeds.
    #[default]
    Frozen,
    /// Its check is due.
    Waiting,
    /// Its check is under way.
    InProgress,
    /// Its check succeeded.
    Succeeded,
    /// Its check failed.
    Failed,
}

/// Counters of one pair (W3C `RTCIceCandidatePairStats`).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PairCounters {
    /// Application datagrams sent.
    pub packets_sent: u64,
    /// Application datagrams received.
    pub packets_received: u64,
    /// Application bytes sent.
    pub bytes_sent: u64,
    /// Application bytes received.
    pub bytes_received: u64,
    /// Checks sent, retransmissions not counted.
    pub requests_sent: u64,
    /// Checks sent again.
    pub retransmissions_sent: u64,
    /// Authenticated checks received.
    pub requests_received: u64,
    /// Responses sent.
    pub responses_sent: u64,
    /// Authenticated responses received.
    pub responses_received: u64,
    /// Consent checks sent.
    pub consent_requests_sent: u64,
    /// Application datagrams that could not be sent.
    pub packets_discarded_on_send: u64,
    /// Application bytes that could not be sent.
    pub bytes_discarded_on_send: u64,
    /// Sum of all round-trip times measured.
    pub total_round_trip_time: Duration,
    /// The latest round-trip time.
    pub current_round_trip_time: Option<Duration>,
    /// When an application datagram was last sent.
    pub last_packet_sent: Option<Instant>,
    /// When an application datagram was last received.
    pub last_packet_received: Option<Instant>,
}

/// One pair at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct PairStats {
    /// The pair.
    pub id: PairId,
    /// State of its check.
    pub state: PairState,
    /// Whether it was nominated.
    pub nominated: bool,
    /// Whether it is the selected one.
    pub selected: bool,
    /// Priority (RFC 8445 section 6.1.2.3).
    pub priority: u64,
    /// The local candidate.
    pub local: Candidate,
    /// The remote candidate.
    pub remote: Candidate,
    /// Counters.
    pub counters: PairCounters,
}

/// One local candidate with what only its owner may know.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalCandidateStats {
    /// The candidate, as signalled.
    pub candidate: Candidate,
    /// The address that it sends from.
    pub base: SocketAddr,
    /// URL of the server that it came from.
    pub url: Option<Box<str>>,
    /// Protocol towards the relay.
    pub relay_protocol: Option<visavis_datagram::Protocol>,
}

/// Counters of a whole agent: mostly of what it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AgentStats {
    /// Datagrams that were no STUN message, from addresses without an authenticated check.
    pub unvalidated_data: u64,
    /// STUN messages that did not parse or lacked FINGERPRINT where ICE demands it.
    pub malformed: u64,
    /// Checks whose username or integrity was wrong.
    pub unauthenticated: u64,
    /// Checks of a session that a restart ended.
    pub stale_session: u64,
    /// Responses that matched no transaction.
    pub unmatched_responses: u64,
    /// Responses whose integrity was wrong.
    pub forged_responses: u64,
    /// Responses from another address than the request went to.
    pub asymmetric_responses: u64,
    /// Role conflicts.
    pub role_conflicts: u64,
    /// Remote candidates that were refused: bad address, unresolvable kind, or duplicates.
    pub refused_candidates: u64,
    /// Remote candidates and peer-reflexive addresses beyond the bound.
    pub candidates_over_limit: u64,
    /// Pairs beyond the bound.
    pub pairs_over_limit: u64,
    /// Checks before the peer's credentials that were beyond the bound.
    pub early_checks_over_limit: u64,
    /// Responses that were beyond the bound and not sent.
    pub responses_over_limit: u64,
    /// Names that were beyond the bound.
    pub names_over_limit: u64,
    /// Connections that were beyond the bound.
    pub connections_over_limit: u64,
    /// Gathering transactions that were beyond the bound.
    pub gatherers_over_limit: u64,
    /// Events that were dropped because nobody polled.
    pub events_dropped: u64,
    /// Datagrams for or from an address that the agent does not have.
    pub unknown_local: u64,
    /// Checks sent, retransmissions included.
    pub checks_sent: u64,
    /// Changes of the selected pair.
    pub selected_pair_changes: u64,
    /// Times that consent expired.
    pub consent_expired: u64,
    /// Allocations that moved to another local address (RFC 8016).
    pub relays_moved: u64,
}
