//! Connectivity checks on their way out (RFC 8445 sections 6.1.4 and 7.2): which pair is next, the
//! message, retransmission, and the probes that keep a pair and its consent alive.

use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Transmit, TransmitBuf};
use visavis_stun::attributes::{
    GoogNetworkInfo, IceControlled, IceControlling, Nomination, Priority, UseCandidate, Username,
};
use visavis_stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};

use super::Agent;
use super::local::{ConnectionUser, Source};
use super::pair::{Check, Pair, Sent};
use crate::candidate::{CandidateKind, TcpType};
use crate::config::Role;
use crate::event::PairId;
use crate::piggyback::{AttributeWriter, Piggyback};
use crate::stats::PairState;

/// Requests of one check once a pair is nominated: the rest only looks for something better.
const REQUESTS_AFTER_NOMINATION: u32 = 4;

/// One slot of so many goes to ordinary checks and servers even while triggered checks wait.
const TRIGGERED_SHARE: u8 = 4;

/// Multiple of the timeout to wait for after the last request, Rm (RFC 8489 section 6.2.1).
const LAST_WAIT: u32 = 16;

/// The largest Binding message that goes through a relay, in bytes.
pub(super) const LARGEST_MESSAGE: usize = 1280;

/// Room that integrity and fingerprint take behind the other attributes.
const TAIL: usize = 24 + 8;

/// First wait for the answer to a probe of a pair without measured round trips.
const PROBE_WAIT: Duration = Duration::from_millis(500);

/// Longest wait between probes that go unanswered.
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(2);

impl Agent {
    /// Whether some transaction waits for a slot of the pace.
    pub(super) fn wants_slot(&self) -> bool {
        if self.closed {
            return false;
        }
        !self.triggered.is_empty() && self.can_check()
            || self.gatherer_waits()
            || self.relay_waits()
            || (self.can_check() && self.ordinary_waits())
    }

    /// Whether some pair is due, or would be once it is thawed.
    fn ordinary_waits(&self) -> bool {
        let generation = self.session.generation;
        let of_session = |pair: &&Pair| pair.generation == generation;
        self.pairs
            .iter()
            .filter(of_session)
            .any(|pair| match pair.state {
                PairState::Waiting => !pair.queued,
                PairState::Frozen => !self.pairs.iter().filter(of_session).any(|other| {
                    other.foundation == pair.foundation && other.state == PairState::InProgress
                }),
                _ => false,
            })
    }

    fn can_check(&self) -> bool {
        self.session.remote.is_some() && !self.config.lite
    }

    /// Starts one new transaction (RFC 8445 section 6.1.4.2).
    pub(super) fn start_transaction(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        // A peer behind a NAT that gives each destination another port can trigger checks without
        // end: the others get their turn all the same.
        self.turn = self.turn.wrapping_add(1);
        if !self.turn.is_multiple_of(TRIGGERED_SHARE)
            && let Some(transmit) = self.start_triggered(now, out, piggyback)
        {
            return Some(transmit);
        }
        // Servers and checks take turns.
        self.gather_turn = !self.gather_turn;
        let server_first = self.gather_turn;
        if server_first && let Some(transmit) = self.start_server_transaction(now, out) {
            return Some(transmit);
        }
        if let Some(transmit) = self.start_ordinary(now, out, piggyback) {
            return Some(transmit);
        }
        if !server_first && let Some(transmit) = self.start_server_transaction(now, out) {
            return Some(transmit);
        }
        self.start_triggered(now, out, piggyback)
    }

    fn start_triggered(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        if !self.can_check() {
            return None;
        }
        while let Some(id) = self.triggered.pop_front() {
            if let Some(pair) = self.pair_mut(id) {
                pair.queued = false;
            }
            if let Some(transmit) = self.start_check(now, id, out, piggyback) {
                return Some(transmit);
            }
        }
        None
    }

    fn start_server_transaction(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        match self.start_gatherer(now, out) {
            Some(transmit) => Some(transmit),
            None => self.start_relay_transaction(now, out),
        }
    }

    fn start_ordinary(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        if !self.can_check() {
            return None;
        }
        // Every round moves one pair out of the waiting state, so this ends.
        loop {
            self.thaw();
            let generation = self.session.generation;
            let next = self
                .pairs
                .iter()
                .filter(|pair| {
                    pair.generation == generation
                        && pair.state == PairState::Waiting
                        && !pair.queued
                })
                .max_by_key(|pair| pair.priority)?
                .id;
            if let Some(transmit) = self.start_check(now, next, out, piggyback) {
                return Some(transmit);
            }
            if let Some(pair) = self.pair_mut(next)
                && pair.state == PairState::Waiting
            {
                self.fail_pair(next);
            }
        }
    }

    /// One frozen pair of each foundation that has nothing under way becomes due.
    fn thaw(&mut self) {
        let generation = self.session.generation;
        let mut order: Vec<usize> = (0..self.pairs.len())
            .filter(|&i| {
                self.pairs[i].generation == generation && self.pairs[i].state == PairState::Frozen
            })
            .collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.pairs[i].priority));
        for index in order {
            let foundation = self.pairs[index].foundation;
            let busy = self.pairs.iter().any(|pair| {
                pair.generation == generation
                    && pair.foundation == foundation
                    && matches!(pair.state, PairState::Waiting | PairState::InProgress)
            });
            if !busy {
                self.pairs[index].state = PairState::Waiting;
            }
        }
    }

    /// A pair succeeded: those of its foundation become due (RFC 8445 section 7.2.5.3.3).
    pub(super) fn thaw_foundation(&mut self, foundation: (u16, u16)) {
        let generation = self.session.generation;
        for pair in &mut self.pairs {
            if pair.generation == generation
                && pair.foundation == foundation
                && pair.state == PairState::Frozen
            {
                pair.state = PairState::Waiting;
            }
        }
    }

    /// Data came on a pair whose check is unanswered. The peer sends only on pairs that it has checked, so
    /// the path carries packets both ways: what was lost is asked for anew instead of after a timeout that
    /// has doubled several times. Data is not authenticated here, so there is one request per plain timeout.
    pub(super) fn hasten(&mut self, now: Instant, id: PairId) {
        let minimum = self.config.timing.min_rto;
        let initial = self.config.timing.initial_rto;
        let initial = self.measured_rto(minimum).unwrap_or(initial).min(initial);
        let generation = self.session.generation;
        let Some(pair) = self.pair(id) else { return };
        let overdue = pair
            .check
            .is_some_and(|check| check.at + pair.rto(initial, minimum) <= now);
        if overdue && pair.generation == generation && !pair.is_stream() && !pair.queued {
            self.trigger(id);
            self.settle(now);
        }
    }

    /// Sends a new request on a pair. `None` if nothing is to be sent (yet).
    fn start_check(
        &mut self,
        now: Instant,
        id: PairId,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        let timing = &self.config.timing;
        let (initial, minimum, stream) =
            (timing.initial_rto, timing.min_rto, timing.stream_timeout);
        // RFC 8445 section 14.3: the more checks, the longer the timeout.
        let busy = self
            .pairs
            .iter()
            .filter(|pair| matches!(pair.state, PairState::Waiting | PairState::InProgress))
            .count() as u32;
        let initial = self
            .measured_rto(minimum)
            .unwrap_or(initial)
            .min(initial)
            .max(self.pacer.ta() * busy);
        let nominating = self.session.nominating == Some(id) || self.renews_nomination(id);
        let pair = self.pairs.iter().position(|pair| pair.id == id)?;
        if self.pairs[pair].is_stream() && self.pairs[pair].path.local.port() == 0 {
            self.open_pair_connection(id);
            return None;
        }
        if self.pairs[pair].connecting.is_some() {
            return None;
        }
        let transaction = TransactionId::random(&mut self.random);
        let pair = &mut self.pairs[pair];
        let rto = if pair.is_stream() {
            stream
        } else {
            pair.rto(initial, minimum)
        };
        if pair.state != PairState::Succeeded {
            pair.state = PairState::InProgress;
        }
        pair.check = Some(Check {
            transaction,
            at: now,
            next: now + rto,
            sends: 1,
            rto,
            use_candidate: nominating,
        });
        pair.counters.requests_sent += 1;
        if pair.unanswered_since.is_none() {
            pair.unanswered_since = Some(now);
        }
        self.write_request(now, id, transaction, nominating, out, piggyback)
    }

    /// The timeout that the pairs with measured round trips suggest for the others: the longest.
    fn measured_rto(&self, minimum: Duration) -> Option<Duration> {
        self.pairs
            .iter()
            .filter(|pair| pair.rtt.smoothed().is_some())
            .map(|pair| pair.rtt.timeout(minimum))
            .max()
    }

    fn open_pair_connection(&mut self, id: PairId) {
        let Some(pair) = self.pair(id) else { return };
        if pair.connecting.is_some() {
            return;
        }
        let path = pair.path;
        let local = self
            .candidate(pair.local)
            .filter(|c| c.candidate.tcp_type == Some(TcpType::SimultaneousOpen))
            .map_or(path.local, |candidate| candidate.base);
        let connection = self.connect(
            ConnectionUser::Pair(id),
            path.protocol,
            local,
            path.remote,
            None,
        );
        if let Some(pair) = self.pair_mut(id) {
            pair.connecting = connection;
            pair.state = if connection.is_some() {
                PairState::InProgress
            } else {
                PairState::Failed
            };
        }
    }

    /// Whether a request on the nominated pair says so again: a peer that missed it learns it.
    fn renews_nomination(&self, id: PairId) -> bool {
        self.role == Role::Controlling && self.session.nominated == Some(id)
    }

    /// Retransmits the first check whose time has come.
    pub(super) fn repeat_check(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        loop {
            let most = self.most_requests();
            let last_wait = self.config.timing.initial_rto * LAST_WAIT;
            let pair = self.pairs.iter_mut().find(|pair| {
                !pair.is_stream()
                    && pair
                        .check
                        .is_some_and(|check| check.next <= now && check.sends < most)
            })?;
            let id = pair.id;
            let check = pair.check.as_mut()?;
            check.sends += 1;
            check.rto *= 2;
            check.at = now;
            check.next = now
                + if check.sends < most {
                    check.rto
                } else {
                    last_wait.min(check.rto * 2)
                };
            let (transaction, use_candidate) = (check.transaction, check.use_candidate);
            pair.counters.retransmissions_sent += 1;
            let sent = self.write_request(now, id, transaction, use_candidate, out, piggyback);
            if sent.is_some() {
                return sent;
            }
        }
    }

    fn most_requests(&self) -> u32 {
        let most = self.config.timing.request_count;
        // A relay costs: what might replace it gets every chance.
        let direct = self
            .session
            .nominated
            .and_then(|id| self.pair(id))
            .is_some_and(|pair| pair.relays == 0);
        if direct {
            most.min(REQUESTS_AFTER_NOMINATION)
        } else {
            most
        }
    }

    /// Gives up checks that went unanswered.
    pub(super) fn check_timeouts(&mut self, now: Instant) {
        let most = self.most_requests();
        let over: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|pair| {
                pair.check.is_some_and(|check| {
                    check.next <= now && (check.sends >= most || pair.is_stream())
                })
            })
            .map(|pair| pair.id)
            .collect();
        for id in over {
            let Some(pair) = self.pair_mut(id) else {
                continue;
            };
            if pair.state == PairState::Succeeded {
                pair.check = None;
                pair.misses = pair.misses.max(super::pair::DEAD_MISSES);
                if self.session.nominating == Some(id) {
                    self.session.nominating = None;
                }
            } else {
                self.fail_pair(id);
            }
        }
    }

    /// Sends the first probe that is due: a consent check (RFC 7675) or a keep-alive.
    pub(super) fn send_probe(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        if self.config.lite {
            return self.send_keepalive(now, out);
        }
        loop {
            let selected = self.selected;
            let pair = self
                .pairs
                .iter_mut()
                .find(|pair| pair.probe.is_some_and(|probe| probe <= now))?;
            let id = pair.id;
            if pair.unanswered_since.is_some() {
                pair.misses += 1;
            } else {
                pair.unanswered_since = Some(now);
            }
            let wait = pair
                .rto(PROBE_WAIT, Duration::from_millis(200))
                .min(LONGEST_PROBE_WAIT / 2);
            let wait = (wait * (1 << pair.misses.min(4))).min(LONGEST_PROBE_WAIT);
            let wait = if selected == Some(id) { wait } else { wait * 4 };
            pair.probe = Some(now + wait);
            pair.counters.consent_requests_sent += 1;
            pair.counters.requests_sent += 1;
            let transaction = TransactionId::random(&mut self.random);
            let use_candidate = self.renews_nomination(id);
            let sent = self.write_request(now, id, transaction, use_candidate, out, piggyback);
            if sent.is_some() {
                return sent;
            }
        }
    }

    /// A lite agent asks nothing; it keeps bindings open by indications (RFC 8445 section 11).
    fn send_keepalive(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        let interval = self.config.timing.keepalive_interval;
        let pair = self
            .pairs
            .iter_mut()
            .find(|pair| pair.probe.is_some_and(|probe| probe <= now))?;
        let quiet = pair
            .counters
            .last_packet_sent
            .is_none_or(|last| last + interval <= now);
        pair.probe = Some(now + interval);
        if !quiet {
            return None;
        }
        let (source, path) = (pair.source, pair.path);
        let transaction = TransactionId::random(&mut self.random);
        self.write_from(now, source, path, out, |slot| {
            MessageBuilder::new(slot, Class::Indication, Method::BINDING, transaction)
                .fingerprint()
                .finish()
                .ok()
        })
    }

    /// The time of the next probe after an answer: spread, so that peers do not fall into step
    /// (RFC 7675 section 5.1).
    pub(super) fn next_probe(&mut self, now: Instant, id: PairId) -> Instant {
        let interval = if self.selected == Some(id) && !self.config.lite {
            self.config.timing.consent_interval
        } else {
            self.config.timing.keepalive_interval
        };
        now + interval.mul_f64(0.8 + 0.4 * self.random.unit())
    }

    /// Writes a Binding request on a pair (RFC 8445 section 7.2.2).
    fn write_request(
        &mut self,
        now: Instant,
        id: PairId,
        transaction: TransactionId,
        use_candidate: bool,
        out: &mut TransmitBuf,
        piggyback: &mut dyn Piggyback,
    ) -> Option<Transmit> {
        let controlling = self.role == Role::Controlling;
        let use_candidate = use_candidate && controlling;
        let tie_breaker = self.tie_breaker;
        let pair = self.pairs.iter_mut().find(|pair| pair.id == id)?;
        pair.remember(Sent {
            transaction,
            at: now,
            repeated: false,
            controlling,
            use_candidate,
        });
        self.stats.checks_sent += 1;
        let (source, path) = (pair.source, pair.path);
        let pair = self.pair(id)?;
        let session = if pair.generation == self.session.generation {
            &self.session
        } else {
            self.old
                .as_deref()
                .filter(|old| old.generation == pair.generation)?
        };
        let current = pair.generation == self.session.generation;
        let remote = session.remote.as_ref()?;
        let candidate = self.candidate(pair.local)?;
        let priority = peer_reflexive_priority(candidate.candidate.priority, &candidate.candidate);
        let network = candidate
            .candidate
            .network_id
            .map(|network_id| GoogNetworkInfo {
                network_id,
                network_cost: candidate.cost,
            });
        let nomination =
            (use_candidate && self.config.renomination && remote.parameters.renomination)
                .then_some(Nomination(session.nomination));
        let mut build = |slot: &mut [u8]| {
            let room = slot.len();
            let mut builder =
                MessageBuilder::new(slot, Class::Request, Method::BINDING, transaction);
            builder.add(&Username(&remote.username));
            if controlling {
                builder.add(&IceControlling(tie_breaker));
            } else {
                builder.add(&IceControlled(tie_breaker));
            }
            builder.add(&Priority(priority));
            if use_candidate {
                builder.add(&UseCandidate);
            }
            builder
                .add_some(nomination.as_ref())
                .add_some(network.as_ref());
            if current {
                ride(&mut builder, room, |attributes| {
                    piggyback.outgoing(now, false, attributes)
                });
            }
            builder.integrity(&remote.key).fingerprint().finish().ok()
        };
        match source {
            Source::Local(_) => write_direct(path, out, build),
            Source::Relay(relay) => {
                let mut message = [0; LARGEST_MESSAGE];
                let len = build(&mut message)?;
                self.relay_send(now, relay, path.remote, &message[..len], out)
            }
        }
    }

    /// Sends what was built, straight or through a relay.
    pub(super) fn write_from(
        &mut self,
        now: Instant,
        source: Source,
        path: Path,
        out: &mut TransmitBuf,
        build: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<Transmit> {
        match source {
            Source::Local(_) => write_direct(path, out, build),
            Source::Relay(relay) => {
                let mut message = [0; LARGEST_MESSAGE];
                let len = build(&mut message)?;
                self.relay_send(now, relay, path.remote, &message[..len], out)
            }
        }
    }

    /// Asks for one more check on the pair that data takes.
    pub(super) fn do_request_check(&mut self) {
        let best = self.selected.or_else(|| {
            let generation = self.session.generation;
            self.pairs
                .iter()
                .filter(|pair| pair.generation == generation && pair.authenticated)
                .min_by_key(|pair| pair.rank())
                .map(|pair| pair.id)
        });
        if let Some(id) = best {
            self.trigger(id);
        }
    }

    /// Lets other pairs prove themselves: the selected one is in doubt.
    pub(super) fn probe_others(&mut self) {
        let generation = self.session.generation;
        let selected = self.selected;
        let mut others: Vec<&Pair> = self
            .pairs
            .iter()
            .filter(|pair| {
                pair.generation == generation
                    && Some(pair.id) != selected
                    && !pair.queued
                    && pair.check.is_none()
                    && pair.connecting.is_none()
                    && matches!(pair.state, PairState::Succeeded | PairState::Failed)
            })
            .collect();
        // What worked before comes first.
        others.sort_by_key(|pair| (!pair.authenticated, pair.rank()));
        let ids: Vec<PairId> = others.iter().map(|pair| pair.id).collect();
        for id in ids {
            if let Some(pair) = self.pair_mut(id) {
                if pair.state == PairState::Failed {
                    if pair.is_stream() && !pair.authenticated {
                        continue;
                    }
                    pair.state = PairState::Waiting;
                }
                self.trigger(id);
            }
        }
    }
}

/// The priority that a peer-reflexive candidate would have that the check creates: that of its base, with the
/// type preference exchanged (RFC 8445 section 7.1.1).
fn peer_reflexive_priority(priority: u32, candidate: &crate::candidate::Candidate) -> u32 {
    let preference = CandidateKind::PeerReflexive.type_preference(candidate.protocol);
    if candidate.kind == CandidateKind::Relayed {
        return priority;
    }
    (preference << 24) | (priority & 0x00ff_ffff)
}

/// Lets something ride in a message, as far as the room goes.
pub(super) fn ride(
    builder: &mut MessageBuilder<'_>,
    room: usize,
    outgoing: impl FnOnce(&mut AttributeWriter<'_>),
) {
    let room = room.saturating_sub(builder.len() + TAIL + 4);
    let mut add = |kind: u16, value: &[u8]| {
        builder.add_raw(AttributeType(kind), value);
        true
    };
    outgoing(&mut AttributeWriter {
        add: &mut add,
        room,
    });
}

pub(super) fn write_direct(
    path: Path,
    out: &mut TransmitBuf,
    build: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<Transmit> {
    let slot = out.slot()?;
    let len = build(slot)?;
    out.commit(len);
    Some(Transmit::new(path, Ecn::NotEct, out.segments()?))
}
