//! A candidate pair: the state of its checks, of its liveness, and its counters.

use std::time::{Duration, Instant};

use visavis_datagram::{Path, Protocol};
use visavis_stun::{RttEstimator, TransactionId};

use super::local::{CandidateId, Source};
use super::remote::RemoteId;
use crate::event::{ConnectionId, PairId};
use crate::stats::{PairCounters, PairState};

/// Requests of one pair that a response may still answer. Consent checks of one timeout fit.
pub(super) const MAX_OUTSTANDING: usize = 8;

/// Unanswered probes after which other pairs are tried.
pub(super) const SUSPECT_MISSES: u32 = 2;

/// Unanswered probes after which a pair that the peer is not heard on counts as dead.
pub(super) const DEAD_MISSES: u32 = 3;

/// The same while the peer's packets still arrive on it.
pub(super) const DEAF_MISSES: u32 = 6;

/// A request that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) transaction: TransactionId,
    pub(super) at: Instant,
    /// Sent more than once: it measures no round trip (Karn).
    pub(super) repeated: bool,
    pub(super) controlling: bool,
    pub(super) use_candidate: bool,
}

/// A check that is retransmitted until it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) transaction: TransactionId,
    /// When it was last sent.
    pub(super) at: Instant,
    /// When it is sent again, or given up.
    pub(super) next: Instant,
    pub(super) sends: u32,
    pub(super) rto: Duration,
    pub(super) use_candidate: bool,
}

/// See [`Pair::rank`].
pub(super) type Rank = (bool, u32, u8, std::cmp::Reverse<u64>);

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) id: PairId,
    pub(super) generation: u32,
    pub(super) local: CandidateId,
    pub(super) remote: RemoteId,
    pub(super) source: Source,
    /// As the peer's address is seen: the local end is a base or a relayed address.
    pub(super) path: Path,
    pub(super) foundation: (u16, u16),
    pub(super) priority: u64,
    /// Sum of both networks' costs.
    pub(super) cost: u32,
    /// How many of its candidates are relayed.
    pub(super) relays: u8,
    pub(super) state: PairState,
    /// Stands in the triggered-check queue.
    pub(super) queued: bool,
    /// The connection that was asked for and is not up yet.
    pub(super) connecting: Option<ConnectionId>,
    pub(super) check: Option<Check>,
    pub(super) sent: Vec<Sent>,
    pub(super) rtt: RttEstimator,
    /// The peer has proven that it is there, by a request or a response.
    pub(super) authenticated: bool,
    /// The highest nomination that the peer gave it; 0 is a plain USE-CANDIDATE.
    pub(super) peer_nomination: Option<u32>,
    /// USE-CANDIDATE checks since another pair had one.
    pub(super) use_candidates: u32,
    /// Probes in a row without a response.
    pub(super) misses: u32,
    /// When the first of those was sent.
    pub(super) unanswered_since: Option<Instant>,
    pub(super) last_response: Option<Instant>,
    /// When the peer was last heard on it, in whatever way.
    pub(super) last_heard: Option<Instant>,
    /// When the next probe is due, if the pair is kept alive.
    pub(super) probe: Option<Instant>,
    /// The local candidate that the peer sees, once a response told.
    pub(super) mapped: Option<CandidateId>,
    pub(super) counters: PairCounters,
}

impl Pair {
    /// Whether application data may be sent on it: checked, and consent is fresh.
    pub(super) fn is_usable(&self) -> bool {
        self.state == PairState::Succeeded
    }

    /// Whether its check is still to come or under way.
    pub(super) fn is_unresolved(&self) -> bool {
        matches!(
            self.state,
            PairState::Frozen | PairState::Waiting | PairState::InProgress
        )
    }

    /// Whether the peer answers on it, as far as is known.
    pub(super) fn is_alive(&self) -> bool {
        let heard = match (self.last_heard, self.unanswered_since) {
            (Some(heard), Some(since)) => heard > since,
            _ => false,
        };
        self.misses < if heard { DEAF_MISSES } else { DEAD_MISSES }
    }

    /// Whether it has answered since `other` fell silent.
    pub(super) fn answers_since(&self, other: &Self) -> bool {
        match (self.last_response, other.unanswered_since) {
            (Some(answer), Some(silence)) => answer > silence,
            _ => false,
        }
    }

    /// Whether enough probes went unanswered to try other pairs.
    pub(super) fn is_suspect(&self) -> bool {
        self.misses >= SUSPECT_MISSES
    }

    /// Cheaper networks first, then fewer relays, then priority: smaller is better. Last comes what mixes loopback
    /// with another address: a browser answers checks on such a pair and never uses it.
    pub(super) fn rank(&self) -> Rank {
        let mixes = mixes_loopback(&self.path);
        (
            mixes,
            self.cost,
            self.relays,
            std::cmp::Reverse(self.priority),
        )
    }

    /// The retransmission timeout: measured, or `initial` while nothing was measured.
    pub(super) fn rto(&self, initial: Duration, minimum: Duration) -> Duration {
        if self.rtt.smoothed().is_some() {
            self.rtt.timeout(minimum)
        } else {
            initial
        }
    }

    /// Remembers a request. The oldest one is forgotten beyond the bound.
    pub(super) fn remember(&mut self, sent: Sent) {
        if let Some(known) = self
            .sent
            .iter_mut()
            .find(|known| known.transaction == sent.transaction)
        {
            known.repeated = true;
            return;
        }
        if self.sent.len() == MAX_OUTSTANDING {
            self.sent.remove(0);
        }
        self.sent.push(sent);
    }

    /// Whether the pair's bytes run over a connection of its own.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.source, Source::Local(_)) && self.path.protocol == Protocol::Tcp
    }

    /// A response came: the path works both ways.
    pub(super) fn answered(&mut self, now: Instant) {
        self.authenticated = true;
        self.misses = 0;
        self.unanswered_since = None;
        self.last_response = Some(now);
        self.last_heard = Some(now);
    }
}

/// Whether one end alone is a loopback address.
fn mixes_loopback(path: &Path) -> bool {
    path.local.ip().is_loopback() != path.remote.ip().is_loopback()
}
