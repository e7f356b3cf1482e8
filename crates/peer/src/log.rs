//! What the connection decided, and when: a bounded list for whoever asks why.

use std::collections::VecDeque;
use std::time::Instant;

use visavis_ice as ice;

use crate::events::{ConnectionState, DtlsState, SctpState};
use crate::jsep::{SdpType, SignalingState};
use crate::transceiver::TransceiverId;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// A description was put in force or taken back.
    Description {
        /// Ours.
        local: bool,
        /// What it was.
        kind: SdpType,
        /// The state that it led to.
        state: SignalingState,
    },
    /// A description or candidate of the peer was refused.
    Refused {
        /// The W3C's name of the error.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// Negotiation became needed.
    NegotiationNeeded,
    /// ICE takes another pair.
    SelectedPair {
        /// Our candidate.
        local: String,
        /// The peer's.
        remote: String,
    },
    /// ICE's state.
    Ice(ice::ConnectionState),
    /// ICE begins anew.
    IceRestart,
    /// The DTLS transport's state.
    Dtls(DtlsState),
    /// The SCTP transport's state.
    Sctp(SctpState),
    /// The connection's state.
    Connection(ConnectionState),
    /// The peer asked for a key frame.
    KeyFrameRequested(TransceiverId),
    /// Congestion control's target changed by more than a tenth, in bits per second.
    Target(u64),
}

/// A decision with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When.
    pub at: Instant,
    /// What.
    pub what: Decision,
}

/// The latest decisions.
#[derive(Debug)]
pub(crate) struct Log {
    entries: VecDeque<LogEntry>,
    most: usize,
    dropped: u64,
}

impl Log {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            most,
            dropped: 0,
        }
    }

    pub(crate) fn note(&mut self, at: Instant, what: Decision) {
        if self.most == 0 {
            return;
        }
        if self.entries.len() >= self.most {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(LogEntry { at, what });
    }

    /// Gives back the room that is not used.
    pub(crate) fn trim(&mut self) {
        self.entries.shrink_to_fit();
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &LogEntry> {
        self.entries.iter()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
