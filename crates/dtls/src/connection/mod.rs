//! One DTLS connection: its state and its doors.

mod application;
mod client;
mod handshake;
mod outer;
mod post_handshake;
mod receive;
mod received;
pub(crate) mod server;
mod transmit;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::{Fingerprint, FingerprintSet, Group, PeerCertificate};
use visavis_datagram::{Random, Segments, TransmitBuf};

use self::handshake::{Failure, Handshake, Session, State};
use self::outer::OuterCarrier;
pub use self::outer::{FlightPiece, PieceId};
pub use self::received::Received;
use crate::acks::Acks;
use crate::alert::{Alert, AlertDescription};
use crate::event::CloseReason;
use crate::flight::Flight;
use crate::message::MessageType;
use crate::reassembly::Reassembler;
use crate::record::{MAX_PLAINTEXT, RecordLayer, ReplayWindow};
use crate::{CipherSuite, Config, Error, Event, PeerVerification, Role, Stats, Version};

/// How long the last flight is answered again: twice the maximum segment lifetime of TCP
/// (RFC 9147 section 5.8.1).
const LINGER: Duration = Duration::from_secs(240);

/// The least that a measured round trip time sets the retransmission timeout to: a peer needs time
/// to compute as well.
const MIN_TIMEOUT: Duration = Duration::from_millis(50);

/// After how many rounds of a flight without an answer the datagrams shrink (RFC 9147 section 4.4).
const ROUNDS_BEFORE_FALLBACK: u32 = 3;

/// The longest connection ID that this end asks for, in bytes.
const MAX_CONNECTION_ID: usize = 20;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Handshaking,
    Connected,
    Closed,
}

/// What waits for a time.
#[derive(Debug, Default)]
struct Timers {
    /// The current flight goes again.
    retransmit: Option<Instant>,
    /// A partly received flight is acknowledged.
    ack: Option<Instant>,
    /// The handshake fails.
    deadline: Option<Instant>,
    /// What only serves late retransmissions goes.
    linger: Option<Instant>,
}

/// One end of a DTLS connection.
///
/// Machines above give it plaintext with room around it ([`framing`](Self::framing),
/// [`seal`](Self::seal)); it gives them plaintext as ranges of the datagrams that came
/// ([`handle_datagram`](Self::handle_datagram)). No packet is copied or allocated for.
pub struct Connection {
    config: Arc<Config>,
    role: Role,
    random: Random,
    phase: Phase,
    records: RecordLayer,
    /// New handshake fragments below this epoch are refused.
    min_epoch: u64,
    reassembler: Reassembler,
    acks: Acks,
    /// Copies of records whose keys are not known yet.
    deferred: Vec<Box<[u8]>>,
    deferred_bytes: usize,
    flight: Flight,
    /// The sequence number of our next handshake message; 65536 when all are used up.
    next_sequence: u32,
    /// Messages that wait until the current flight is acknowledged (1.3).
    post_handshake: VecDeque<(MessageType, Vec<u8>)>,
    /// The current flight is a KeyUpdate: its acknowledgement moves our keys.
    updating: bool,
    key_updates: u64,
    /// The highest epoch that the peer has used.
    peer_epoch: u64,
    handshake: Option<Box<Handshake>>,
    session: Option<Session>,
    peer_certificate: Option<PeerCertificate>,
    fingerprints: FingerprintSet,
    alert: Option<Alert>,
    /// A datagram that is written and did not fit the caller's run.
    outgoing: Vec<u8>,
    outer: OuterCarrier,
    events: VecDeque<Event>,
    timers: Timers,
    /// The retransmission timeout, before and with its doubling.
    base_timeout: Duration,
    timeout: Duration,
    mtu: usize,
    /// Length of the datagram that is being handled.
    incoming_len: usize,
    /// The largest datagram at whose end the peer cut a message; 0 if it cut none.
    peer_cut: usize,
    stats: Stats,
}

impl Connection {
    /// The end that speaks first. Its ClientHello is ready to be polled at once.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn client(config: Arc<Config>, random: Random, now: Instant) -> Result<Self, Error> {
        let mut connection = Self::new(config, Role::Client, random, now)?;
        connection.start_client(now)?;
        Ok(connection)
    }

    /// The end that answers. There is no cookie exchange: its datagrams must come from a path that
    /// ICE has verified (RFC 9147 section 5.1), or through a [`Front`](crate::Front).
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn server(config: Arc<Config>, random: Random, now: Instant) -> Result<Self, Error> {
        let mut connection = Self::new(config, Role::Server, random, now)?;
        connection.handshake = Some(Box::new(Handshake::new(State::ClientHello)));
        Ok(connection)
    }

    fn new(config: Arc<Config>, role: Role, random: Random, now: Instant) -> Result<Self, Error> {
        check(&config)?;
        let base_timeout = config.initial_retransmission_timeout;
        let mut connection = Self {
            role,
            random,
            phase: Phase::Handshaking,
            records: RecordLayer::new(config.replay_window),
            min_epoch: 0,
            reassembler: Reassembler::new(),
            acks: Acks::default(),
            deferred: Vec::new(),
            deferred_bytes: 0,
            flight: Flight::default(),
            next_sequence: 0,
            post_handshake: VecDeque::new(),
            updating: false,
            key_updates: 0,
            peer_epoch: handshake::APPLICATION_EPOCH,
            handshake: None,
            session: None,
            peer_certificate: None,
            fingerprints: FingerprintSet::new(),
            alert: None,
            outgoing: Vec::new(),
            outer: OuterCarrier::default(),
            events: VecDeque::new(),
            timers: Timers::default(),
            base_timeout,
            timeout: base_timeout,
            mtu: config.mtu,
            incoming_len: 0,
            peer_cut: 0,
            stats: Stats::default(),
            config,
        };
        if connection.config.verification == PeerVerification::Caller {
            connection.timers.deadline = Some(now + connection.config.handshake_timeout);
        }
        Ok(connection)
    }

    /// Takes one datagram of the peer and opens its records in place. Application data stands in
    /// `datagram` where the answer says.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) -> Received {
        self.receive(now, datagram)
    }

    /// To be called when [`poll_timeout`](Self::poll_timeout)'s time has come; harmless earlier.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        if due(&mut self.timers.deadline, now) && self.phase == Phase::Handshaking {
            self.close_with(CloseReason::Timeout);
            return;
        }
        if due(&mut self.timers.ack, now) {
            self.acks.request();
        }
        if due(&mut self.timers.linger, now) {
            self.forget_handshake();
        }
        if due(&mut self.timers.retransmit, now)
            && self.flight.expects_answer()
            && !self.flight.is_acknowledged()
        {
            self.stats.timeouts += 1;
            self.timeout = (self.timeout * 2).min(self.config.max_retransmission_timeout);
            if self.flight.rounds() >= ROUNDS_BEFORE_FALLBACK {
                self.mtu = self.mtu.min(self.config.fallback_mtu);
            }
            self.flight.resend(false);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Closed {
            return None;
        }
        let Timers {
            retransmit,
            ack,
            deadline,
            linger,
        } = self.timers;
        [retransmit, ack, deadline, linger]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes what the connection itself has to say: handshake flights, ACKs, alerts. The answer
    /// describes the whole buffer, with what stood there before; `None` if nothing was added.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Segments> {
        self.transmit(now, out)
    }

    /// Gives back memory that the handshake took. It is done when all that belongs to the handshake is
    /// over; this is for an owner who sees earlier that the connection is idle.
    pub fn trim(&mut self) {
        if self.phase == Phase::Handshaking {
            return;
        }
        if self.outgoing.is_empty() {
            self.outgoing = Vec::new();
        }
        self.events.shrink_to_fit();
        self.post_handshake.shrink_to_fit();
        self.reassembler.trim();
        self.acks.trim();
        self.random.rest();
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Says which certificates the peer announced. May come late, and again before the peer's
    /// certificate has been judged.
    pub fn set_remote_fingerprints(
        &mut self,
        now: Instant,
        fingerprints: impl IntoIterator<Item = Fingerprint>,
    ) {
        self.fingerprints = fingerprints.into_iter().collect();
        if self.phase == Phase::Handshaking && !self.fingerprints.is_empty() {
            if self.timers.deadline.is_none() {
                self.timers.deadline = Some(now + self.config.handshake_timeout);
            }
            self.process(now);
        }
    }

    /// Sets the retransmission timeout from ICE's measured round trip time: 1.5 times it, and at
    /// least 50 ms.
    pub fn set_round_trip_time(&mut self, rtt: Duration) {
        self.set_timeout(rtt);
    }

    /// Changes the largest datagram of a handshake, in bytes, for what is sent from now on.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    /// Ends the connection: close_notify, then nothing more.
    pub fn close(&mut self, now: Instant) {
        let _ = now;
        if self.phase != Phase::Closed {
            self.alert = Some(Alert {
                fatal: false,
                description: AlertDescription::CLOSE_NOTIFY,
            });
            self.close_with(CloseReason::Local);
        }
    }

    /// Whether the handshake is complete and the connection not over.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The negotiated version.
    pub fn version(&self) -> Option<Version> {
        match (&self.session, &self.handshake) {
            (Some(session), _) => Some(session.version),
            (None, Some(handshake)) => handshake.version,
            (None, None) => None,
        }
    }

    /// The negotiated cipher suite, once the handshake is done.
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        self.session.as_ref().map(|session| session.suite)
    }

    /// The peer's certificate in DER, once it has come.
    pub fn remote_certificate_der(&self) -> Option<&[u8]> {
        self.peer_certificate.as_ref().map(PeerCertificate::der)
    }

    /// The connection ID that the peer's records carry, for demultiplexing; empty if none.
    pub fn local_connection_id(&self) -> &[u8] {
        &self.records.local_id
    }

    /// The settings.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Starts a flight, which answers the peer's last one.
    fn start_flight(&mut self, now: Instant, expects_answer: bool) {
        self.answered(now);
        if self.peer_cut != 0 {
            // A peer that cuts its messages smaller knows a narrower path than we do.
            let narrower = self.peer_cut.max(self.config.fallback_mtu);
            self.mtu = self.mtu.min(narrower);
        }
        self.acks.clear();
        self.timers.ack = None;
        self.flight.start(expects_answer);
        self.outer.flight_changed();
    }

    /// The peer answered our flight: its time measures the path, if it went once only
    /// (RFC 9147 section 5.8.2).
    fn answered(&mut self, now: Instant) {
        self.timers.retransmit = None;
        if self.flight.rounds() == 1
            && let Some(sent) = self.flight.first_sent()
        {
            self.set_timeout(now.saturating_duration_since(sent));
        }
        self.flight.answered();
    }

    fn set_timeout(&mut self, rtt: Duration) {
        let most = self.config.max_retransmission_timeout;
        self.base_timeout = (rtt + rtt / 2).max(MIN_TIMEOUT).min(most);
        self.timeout = self.base_timeout;
    }

    /// The sequence number of a new message of ours.
    fn take_sequence(&mut self) -> u16 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence as u16
    }

    fn new_connection_id(&mut self) -> Vec<u8> {
        let len = self.config.connection_id.unwrap_or(0);
        let mut id = vec![0; len];
        self.random.fill(&mut id);
        id
    }

    /// The peer's limit on plaintext; 1.3 counts the content type (RFC 8449 section 4).
    fn set_content_limit(&mut self, handshake: &Handshake, limit: u16) {
        let type_len = usize::from(handshake.version == Some(Version::Dtls13));
        self.records.content_limit = (usize::from(limit) - type_len).min(MAX_PLAINTEXT);
    }

    fn push_event(&mut self, event: Event) {
        if self.events.len() >= self.config.limits.events.max(1) {
            self.events.pop_front();
            self.stats.events_lost += 1;
        }
        self.events.push_back(event);
    }

    /// Gives up and says why.
    fn fail(&mut self, failure: Failure) {
        self.alert = Some(Alert {
            fatal: true,
            description: failure.alert,
        });
        self.close_with(failure.reason);
    }

    /// Ends the connection; a pending alert still leaves.
    fn close_with(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.timers = Timers::default();
        self.flight.clear();
        self.outer.flight_changed();
        self.acks.clear();
        self.deferred.clear();
        self.handshake = None;
        self.post_handshake.clear();
        self.push_event(Event::Closed(reason));
    }

    /// What only serves late retransmissions goes.
    fn forget_handshake(&mut self) {
        if self.version() == Some(Version::Dtls13) {
            self.records
                .retain_read(|epoch| epoch != handshake::HANDSHAKE_EPOCH);
            self.records
                .retain_write(|epoch| epoch != handshake::HANDSHAKE_EPOCH);
            if self.flight.epoch() == Some(handshake::HANDSHAKE_EPOCH) {
                self.flight.clear();
                self.timers.retransmit = None;
            }
        } else {
            self.flight.clear();
        }
        self.trim();
    }
}

/// Whether a timer has run out; it is then off.
fn due(timer: &mut Option<Instant>, now: Instant) -> bool {
    let due = timer.is_some_and(|at| at <= now);
    if due {
        *timer = None;
    }
    due
}

/// Refuses settings that cannot work.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let error = |what| Err(Error::Config(what));
    if config.certificates.is_empty() {
        return error("no certificate");
    }
    if config.min_version > config.max_version {
        return error("the lowest version is above the highest");
    }
    for version in [Version::Dtls12, Version::Dtls13] {
        if config.speaks(version) {
            if config.suites(version).next().is_none() {
                return error("a version without cipher suites");
            }
            if config.groups(version).next().is_none() {
                return error("a version without key exchange groups");
            }
        }
    }
    if config
        .connection_id
        .is_some_and(|len| len > MAX_CONNECTION_ID)
    {
        return error("a connection ID of more than 20 bytes");
    }
    if config
        .record_size_limit
        .is_some_and(|limit| !(64..=(1 << 14) + 1).contains(&limit))
    {
        return error("a record size limit outside of 64 to 16385");
    }
    if !(64..=ReplayWindow::MAX).contains(&config.replay_window) {
        return error("a replay window outside of 64 to 1024");
    }
    if config.mtu.min(config.fallback_mtu) < 128 {
        return error("an MTU below 128");
    }
    if config
        .alpn
        .iter()
        .any(|name| name.is_empty() || name.len() > 255)
    {
        return error("an application protocol that is empty or longer than 255 bytes");
    }
    if config.groups.len() > Group::ALL.len() {
        return error("a group twice");
    }
    Ok(())
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role)
            .field("phase", &self.phase)
            .field("version", &self.version())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
