//! The agent and its doors.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use visavis_datagram::{Ecn, Framing, Path, Random, Transmit, TransmitBuf};

use crate::candidate::Candidate;
use crate::config::{Config, Credentials, LocalAddress, RemoteParameters, Role, Server};
use crate::event::{ConnectionId, ConnectionState, Event, GatheringState, Received, SelectedPair};
use crate::piggyback::Piggyback;
use crate::stats::{AgentStats, LocalCandidateStats, PairStats};

/// Misuse of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Credentials do not follow RFC 8839 section 5.4.
    #[error("credentials are not valid ICE credentials")]
    BadCredentials,
    /// The peer restarted: restart this agent before its new credentials are set.
    #[error("the peer restarted, restart this agent first")]
    RestartFirst,
    /// An unspecified or multicast address was given as local address.
    #[error("not an address of an interface")]
    BadAddress,
    /// A bound of [`Limits`](crate::Limits) is reached.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// The agent is closed.
    #[error("the agent is closed")]
    Closed,
}

/// An ICE agent for one component of one stream.
#[derive(Debug)]
pub struct Agent {
    config: Arc<Config>,
    #[expect(dead_code, reason = "the working agent draws from it")]
    random: Random,
}

#[allow(
    unused_variables,
    missing_docs,
    reason = "replaced by the working agent next"
)]
impl Agent {
    /// A new agent. Nothing is gathered before [`gather`](Self::gather), unless it is pooled.
    pub fn new(config: impl Into<Arc<Config>>, random: Random, now: Instant) -> Self {
        Self {
            config: config.into(),
            random,
        }
    }

    // ---- what signalling needs and gives

    /// This agent's credentials of the current session.
    pub fn local_credentials(&self) -> &Credentials {
        unimplemented_yet()
    }
    /// Begins to gather, or releases what a pooled agent gathered.
    pub fn gather(&mut self, now: Instant) {}
    /// Sets the peer's credentials and options. Again with the same credentials: no change.
    pub fn set_remote(&mut self, now: Instant, parameters: RemoteParameters) -> Result<(), Error> {
        Ok(())
    }
    /// Adds a remote candidate. One whose `ufrag` names another session is dropped.
    pub fn add_remote_candidate(&mut self, now: Instant, candidate: Candidate) {}
    /// The peer has no more candidates in this session.
    pub fn end_of_remote_candidates(&mut self, now: Instant) {}
    /// Starts a new session; the old one carries data until the new one has a pair.
    pub fn restart(&mut self, now: Instant) -> &Credentials {
        unimplemented_yet()
    }
    /// Sets the role, as signalling decides it. Only before checks begin.
    pub fn set_role(&mut self, now: Instant, role: Role) {}
    /// Ends everything: relays are released as far as [`poll_transmit`](Self::poll_transmit) is still called.
    pub fn close(&mut self, now: Instant) {}

    // ---- what the owner's network gives

    /// A socket, or an interface that TCP can be opened from, is there. Any time.
    pub fn add_local_address(&mut self, now: Instant, local: LocalAddress) -> Result<(), Error> {
        Ok(())
    }
    /// It is gone, with all candidates, relays and pairs based on it.
    pub fn remove_local_address(&mut self, now: Instant, address: SocketAddr) {}
    /// One more STUN or TURN server. Any time.
    pub fn add_server(&mut self, now: Instant, server: Server) -> Result<(), Error> {
        Ok(())
    }
    /// Multicast DNS answered (or did not) for a name of [`Event::ResolveName`].
    pub fn resolved(&mut self, now: Instant, name: &str, ip: Option<IpAddr>) {}
    /// A connection of [`Event::Connect`] is up, from `local`.
    pub fn connected(&mut self, now: Instant, id: ConnectionId, local: SocketAddr) {}
    /// A connection of [`Event::Connect`] could not be opened.
    pub fn connect_failed(&mut self, now: Instant, id: ConnectionId) {}
    /// A listening socket accepted a connection. False: close it.
    pub fn accepted(&mut self, now: Instant, path: Path) -> bool {
        false
    }
    /// A connection ended.
    pub fn disconnected(&mut self, now: Instant, path: Path) {}

    // ---- application data

    /// The selected pair, or the best one so far.
    pub fn selected_pair(&self) -> Option<SelectedPair> {
        None
    }
    /// Room that [`send`](Self::send) needs around each datagram on the selected pair.
    pub fn framing(&self) -> Framing {
        Framing::default()
    }
    /// Addresses a run of application datagrams. `out` holds datagrams with this agent's
    /// [`framing`](Self::framing) outermost. `None`: there is no usable pair, or the agent took the
    /// datagrams and will send them by [`poll_transmit`](Self::poll_transmit).
    pub fn send(&mut self, now: Instant, ecn: Ecn, out: &mut TransmitBuf) -> Option<Transmit> {
        None
    }

    // ---- doors

    /// A datagram, or a message of a stream, arrived.
    pub fn handle_datagram(&mut self, now: Instant, from: Path, datagram: &mut [u8]) -> Received {
        Received::Consumed
    }
    /// The same, with something that rides in Binding messages.
    pub fn handle_datagram_with(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &mut [u8],
        piggyback: &mut dyn Piggyback,
    ) -> Received {
        Received::Consumed
    }
    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {}
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// The next message to send.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        None
    }
    /// The same, with something that rides in Binding messages.
    pub fn poll_transmit_with(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        None
    }
    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
    /// Asks for one more check on the selected (or best) pair as soon as the pace allows: for
    /// something that rides along.
    pub fn request_check(&mut self, now: Instant) {}

    // ---- what can be seen

    /// The role.
    pub fn role(&self) -> Role {
        self.config.role
    }
    /// State of the session.
    pub fn connection_state(&self) -> ConnectionState {
        ConnectionState::New
    }
    /// State of gathering.
    pub fn gathering_state(&self) -> GatheringState {
        GatheringState::New
    }
    /// Counters.
    pub fn stats(&self) -> AgentStats {
        AgentStats::default()
    }
    /// Every pair of the current session.
    pub fn pair_stats(&self) -> impl Iterator<Item = PairStats> + '_ {
        std::iter::empty()
    }
    /// Every local candidate.
    pub fn local_candidates(&self) -> impl Iterator<Item = LocalCandidateStats> + '_ {
        std::iter::empty()
    }
    /// Every remote candidate of the current session.
    pub fn remote_candidates(&self) -> impl Iterator<Item = &Candidate> + '_ {
        std::iter::empty()
    }
}

fn unimplemented_yet() -> &'static Credentials {
    use std::sync::OnceLock;
    static EMPTY: OnceLock<Credentials> = OnceLock::new();
    EMPTY.get_or_init(|| Credentials::new("", ""))
}
