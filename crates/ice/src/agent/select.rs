//! Which pair carries the data: nomination (RFC 8445 section 8), liveness and consent (RFC 7675),
//! moving to another pair, and the session's state.

use std::time::{Duration, Instant};

use super::Agent;
use super::pair::Pair;
use crate::config::Role;
use crate::event::{ConnectionState, Event, GatheringState, PairId, SelectedPair};
use crate::stats::PairState;

/// Least time between two probes of the selected pair that doubts ask for.
const DOUBT_INTERVAL: Duration = Duration::from_millis(500);

/// USE-CANDIDATE checks in a row on another pair that move a controlled agent to a pair of lower
/// priority: a regular nominator repeats itself, an aggressive one moves on.
const REPEATED_NOMINATIONS: u32 = 2;

impl Agent {
    /// Brings selection, states, keep-alives and timers up to date. Called at the end of every door
    /// that may have changed something.
    pub(super) fn settle(&mut self, now: Instant) {
        self.select(now);
        self.nominate(now);
        self.maintain(now);
        self.advance_races(now);
        self.update_gathering();
        self.update_state(now);
        if self.slot.is_none() && self.wants_slot() {
            let process = self.config.process_pace.as_ref();
            self.slot = Some(self.pacer.reserve_within(now, process));
        }
        self.timer = self.next_timer(now);
    }

    /// Deadlines that have come.
    pub(super) fn do_timeout(&mut self, now: Instant) {
        self.gather_timeouts(now);
        self.relay_timeouts(now);
        self.check_timeouts(now);
        self.consent_timeouts(now);
        self.silence_timeout(now);
        if self.old.is_some()
            && self.old_until.is_none_or(|until| until <= now)
            && self.on_current_session()
        {
            self.end_old_session();
        }
        if self
            .pairs
            .iter()
            .any(|p| Some(p.id) == self.selected && p.is_suspect())
            && !self.probing
        {
            self.try_elsewhere(now);
            self.doubt_relay();
        }
        self.settle(now);
    }

    /// The selected path is in doubt or lost: others are tried, and what a NAT's change of address would have ended is asked for.
    fn try_elsewhere(&mut self, now: Instant) {
        self.probing = true;
        self.probe_others();
        self.confirm_mappings();
        self.confirm_relays(now);
    }

    fn on_current_session(&self) -> bool {
        self.selected
            .and_then(|id| self.pair(id))
            .is_none_or(|pair| pair.generation == self.session.generation)
    }

    // ---- selection

    /// The pair that data should take now.
    fn choose(&self) -> Option<PairId> {
        let generation = self.session.generation;
        let usable = |pair: &&Pair| pair.generation == generation && pair.is_usable();
        let best = |fits: &dyn Fn(&Pair) -> bool| {
            self.pairs
                .iter()
                .filter(usable)
                .filter(|pair| fits(pair))
                .min_by_key(|pair| (!pair.authenticated, pair.rank()))
        };
        let nominated = self
            .session
            .nominated
            .and_then(|id| self.pair(id))
            .filter(|pair| pair.is_usable());
        if self.config.lite && nominated.is_none() && !self.both_lite() {
            // A lite agent waits for the nomination (RFC 8445 section 8.2).
            return self.old_choice();
        }
        let chosen = match nominated {
            Some(nominated) if nominated.is_alive() => {
                let switches = self.role == Role::Controlling && self.config.switch_pairs;
                // What was tried before the present one may be gone as well.
                let is_fresh = |pair: &Pair| {
                    self.selected == Some(pair.id) || pair.last_response >= self.selected_at
                };
                let better = |pair: &Pair| {
                    pair.rank() < nominated.rank() && pair.misses == 0 && is_fresh(pair)
                };
                let better = switches.then(|| best(&better)).flatten();
                better.or(Some(nominated))
            }
            // Others that seem to be alive may not have been asked since.
            Some(nominated) => {
                best(&|pair| pair.is_alive() && pair.answers_since(nominated)).or(Some(nominated))
            }
            None => best(&Pair::is_alive).or_else(|| best(&|_| true)),
        };
        chosen.map(|pair| pair.id).or_else(|| self.old_choice())
    }

    /// The old session's pair carries on until the new session has one.
    fn old_choice(&self) -> Option<PairId> {
        self.selected
            .and_then(|id| self.pair(id))
            .filter(|pair| pair.generation != self.session.generation && pair.is_usable())
            .map(|pair| pair.id)
    }

    fn select(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        let chosen = self.choose();
        if chosen == self.selected {
            return;
        }
        let had = self.selected.is_some();
        self.selected = chosen;
        self.probing = false;
        let Some(id) = chosen else {
            if had {
                self.lost_at = Some(now);
                self.try_elsewhere(now);
            }
            return;
        };
        (self.selected_at, self.lost_at) = (Some(now), None);
        self.stats.selected_pair_changes += 1;
        let current = self.on_current_session();
        if current {
            self.session.connected = true;
            if self.old.is_some() {
                self.old_until = Some(now + self.config.timing.old_session);
            }
        }
        // Consent runs from the check that made the pair valid.
        let probe = self.next_probe(now, id);
        if let Some(pair) = self.pair_mut(id) {
            pair.probe = Some(pair.probe.map_or(probe, |kept| kept.min(probe)));
        }
        self.relay_selected(now, id);
        self.arm_silence(now);
        if let Some(selected) = self.describe_pair(id) {
            self.emit(Event::SelectedPair(Box::new(selected)));
        }
    }

    pub(super) fn describe_pair(&self, id: PairId) -> Option<SelectedPair> {
        let pair = self.pair(id)?;
        let local = pair
            .mapped
            .and_then(|id| self.candidate(id))
            .or_else(|| self.candidate(pair.local))?;
        let remote = self.remote(pair.remote)?;
        Some(SelectedPair {
            id,
            local: local.candidate.clone(),
            remote: remote.candidate.clone(),
            path: self.wire_path(pair),
        })
    }

    // ---- nomination by us (RFC 8445 section 8.1.1)

    fn nominate(&mut self, now: Instant) {
        if self.role != Role::Controlling || self.closed || self.session.remote.is_none() {
            return;
        }
        let Some(target) = self.selected.filter(|_| self.on_current_session()) else {
            return;
        };
        if self.session.nominated == Some(target) || self.session.nominating == Some(target) {
            return;
        }
        if self.config.lite {
            // Both are lite: nothing is sent, each takes the same best pair (RFC 8445 section 8.2).
            self.session.nominated = Some(target);
            return;
        }
        if self.session.nominated.is_none() && self.nomination_time().is_some_and(|time| now < time)
        {
            return;
        }
        self.session.nominating = Some(target);
        self.session.nomination += 1;
        self.trigger(target);
    }

    /// When to stop waiting for a better pair; `None` if there is nothing to wait for.
    fn nomination_time(&self) -> Option<Instant> {
        let selected = self.pair(self.selected?)?;
        let first = self.session.first_valid?;
        let better = self.pairs.iter().any(|pair| {
            pair.generation == self.session.generation
                && pair.is_unresolved()
                && pair.rank() < selected.rank()
        });
        let more_to_come = (self.gathering != GatheringState::Complete
            || !self.session.end_of_remote)
            && !self.is_direct_host(selected);
        if !better && !more_to_come {
            return None;
        }
        let relayed = selected.relays > 0;
        let timing = &self.config.timing;
        Some(
            first
                + if relayed {
                    timing.relay_nomination_delay
                } else {
                    timing.nomination_delay
                },
        )
    }

    fn is_direct_host(&self, pair: &Pair) -> bool {
        use crate::candidate::CandidateKind::Host;
        let local = self.candidate(pair.local).map(|c| c.candidate.kind);
        let remote = self.remote(pair.remote).map(|r| r.candidate.kind);
        local == Some(Host) && remote == Some(Host)
    }

    // ---- nomination by the peer (RFC 8445 section 7.3.1.5)

    pub(super) fn peer_nominated(&mut self, id: PairId, nomination: u32) {
        for pair in &mut self.pairs {
            if pair.id == id {
                pair.use_candidates += 1;
                pair.peer_nomination = Some(
                    pair.peer_nomination
                        .map_or(nomination, |n| n.max(nomination)),
                );
            } else {
                pair.use_candidates = 0;
            }
        }
        self.consider_nomination(id, nomination);
    }

    /// Takes a nomination over, if it is newer or better than the present one. Peers of RFC 5245 nominate
    /// every pair and mean the best; peers of RFC 8445 nominate one, some later another.
    pub(super) fn consider_nomination(&mut self, id: PairId, nomination: u32) {
        let Some(pair) = self.pair(id).filter(|pair| pair.is_usable()) else {
            return;
        };
        let current = self.session.nominated.and_then(|id| self.pair(id));
        let take = match current {
            None => true,
            Some(current) if current.id == id => return,
            Some(current) => {
                let before = current.peer_nomination.unwrap_or(0);
                if nomination != before {
                    nomination > before
                } else {
                    pair.rank() < current.rank()
                        || !current.is_usable()
                        || current.is_suspect()
                        || pair.counters.last_packet_received
                            > current.counters.last_packet_received
                        || pair.use_candidates >= REPEATED_NOMINATIONS
                }
            }
        };
        if take {
            self.session.nominated = Some(id);
        }
    }

    pub(super) fn switch_role(&mut self, role: Role) {
        if self.role == role {
            return;
        }
        self.role = role;
        self.reprioritise();
        self.session.nominating = None;
        self.emit(Event::Role(role));
    }

    pub(super) fn both_lite(&self) -> bool {
        let remote = self.session.remote.as_ref();
        self.config.lite && remote.is_some_and(|remote| remote.parameters.lite)
    }

    // ---- liveness and consent

    /// Decides which pairs are kept alive: the selected one, and a few that could take over.
    fn maintain(&mut self, now: Instant) {
        if self.selected.is_none() || self.config.lite {
            return;
        }
        let generation = self.session.generation;
        let selected = self.selected;
        let key = |pair: &Pair| (!pair.is_alive(), pair.rank(), pair.id);
        let spare = |pair: &&Pair| {
            pair.generation == generation && pair.is_usable() && Some(pair.id) != selected
        };
        for index in 0..self.pairs.len() {
            let pair = &self.pairs[index];
            if !spare(&pair) {
                continue;
            }
            let mine = key(pair);
            let place = self
                .pairs
                .iter()
                .filter(spare)
                .filter(|p| key(p) < mine)
                .count();
            let kept = place < self.config.backup_pairs;
            match (kept, pair.probe) {
                (true, None) => {
                    let probe = self.next_probe(now, self.pairs[index].id);
                    self.pairs[index].probe = Some(probe);
                }
                (false, Some(_)) => self.pairs[index].probe = None,
                _ => {}
            }
        }
    }

    fn consent_timeouts(&mut self, now: Instant) {
        let timeout = self.config.timing.consent_timeout;
        if self.config.lite || !self.config.consent {
            return;
        }
        let selected = self.selected;
        let over: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|pair| {
                pair.is_usable() && pair.last_response.is_none_or(|last| last + timeout <= now)
            })
            .map(|pair| pair.id)
            .collect();
        for id in over {
            if selected == Some(id) {
                self.stats.consent_expired += 1;
            }
            self.fail_pair(id);
        }
    }

    /// Asks the selected pair for a sign of life now.
    pub(super) fn doubt_selected(&mut self, now: Instant) {
        let Some(pair) = self.selected.and_then(|id| self.pair_mut(id)) else {
            return;
        };
        let fresh = pair
            .last_response
            .is_some_and(|last| now.saturating_duration_since(last) < DOUBT_INTERVAL);
        if !fresh && pair.unanswered_since.is_none() && pair.probe.is_some_and(|probe| probe > now)
        {
            pair.probe = Some(now);
        }
    }

    /// Data arrives: its absence will be noticed.
    pub(super) fn heard_data(&mut self, now: Instant) {
        if self.silence.is_none() {
            self.arm_silence(now);
        }
    }

    fn arm_silence(&mut self, now: Instant) {
        if self.config.lite {
            return;
        }
        let at = now + self.config.timing.silence;
        self.silence = Some(at);
        self.timer = Some(self.timer.map_or(at, |timer| timer.min(at)));
    }

    fn silence_timeout(&mut self, now: Instant) {
        if self.silence.is_none_or(|at| at > now) {
            return;
        }
        self.silence = None;
        let silence = self.config.timing.silence;
        let Some(pair) = self.selected.and_then(|id| self.pair(id)) else {
            return;
        };
        let Some(last) = pair.counters.last_packet_received else {
            return;
        };
        if last + silence > now {
            self.silence = Some(last + silence);
        } else {
            // One probe per silence; more data arms the timer again.
            self.doubt_selected(now);
        }
    }

    // ---- state

    fn update_state(&mut self, now: Instant) {
        let state = self.compute_state(now);
        if state != self.state {
            self.state = state;
            if state == ConnectionState::Completed {
                self.release_gatherers();
                self.compact();
            }
            self.emit(Event::ConnectionState(state));
        }
    }

    fn compute_state(&self, now: Instant) -> ConnectionState {
        if self.closed {
            return ConnectionState::Closed;
        }
        let generation = self.session.generation;
        let unresolved = self
            .pairs
            .iter()
            .any(|pair| pair.generation == generation && pair.is_unresolved());
        if let Some(pair) = self.selected.and_then(|id| self.pair(id)) {
            if !pair.is_alive() {
                return ConnectionState::Disconnected;
            }
            if pair.generation != generation {
                return if self.session.remote.is_some() {
                    ConnectionState::Checking
                } else {
                    ConnectionState::Connected
                };
            }
            let better = self.pairs.iter().any(|other| {
                other.generation == generation
                    && other.is_unresolved()
                    && other.rank() < pair.rank()
            });
            let done = self.gathering == GatheringState::Complete
                && self.session.end_of_remote
                && self.session.nominated == Some(pair.id)
                && (!better || self.state == ConnectionState::Completed);
            return if done {
                ConnectionState::Completed
            } else {
                ConnectionState::Connected
            };
        }
        if let Some(lost) = self.lost_at {
            let over = now >= lost + self.config.timing.consent_timeout;
            return if !unresolved && (over || self.state == ConnectionState::Failed) {
                ConnectionState::Failed
            } else {
                ConnectionState::Disconnected
            };
        }
        let has_remotes = self
            .remotes
            .iter()
            .any(|remote| remote.generation == generation);
        if self.session.remote.is_none()
            || (!has_remotes && self.pairs.is_empty() && !self.session.end_of_remote)
        {
            return ConnectionState::New;
        }
        let patient = self
            .checks_began
            .is_none_or(|began| now < began + self.config.timing.patience);
        if unresolved || patient || self.relays_pending() {
            if self.state == ConnectionState::Failed && !unresolved {
                return ConnectionState::Failed;
            }
            ConnectionState::Checking
        } else {
            // RFC 8863 section 4: not before the timer, however early every check failed.
            ConnectionState::Failed
        }
    }

    // ---- timer

    fn next_timer(&self, now: Instant) -> Option<Instant> {
        if self.closed {
            return self.relay_timer();
        }
        let timing = &self.config.timing;
        let mut next: Option<Instant> = None;
        let mut at = |time: Option<Instant>| {
            if let Some(time) = time {
                next = Some(next.map_or(time, |next| next.min(time)));
            }
        };
        at(self.slot);
        at(self.silence);
        at(self.gather_timer());
        at(self.relay_timer());
        for pair in &self.pairs {
            at(pair.check.map(|check| check.next));
            at(pair.probe);
            if pair.is_usable() && !self.config.lite && self.config.consent {
                at(pair.last_response.map(|last| last + timing.consent_timeout));
            }
        }
        if self.role == Role::Controlling
            && self.session.nominated.is_none()
            && self.session.nominating.is_none()
            && self.on_current_session()
        {
            at(self.nomination_time().filter(|&time| time > now));
        }
        if self.old.is_some() && self.on_current_session() {
            at(self.old_until.filter(|&time| time > now));
        }
        match self.state {
            ConnectionState::Checking | ConnectionState::New => {
                at(self
                    .checks_began
                    .map(|began| began + timing.patience)
                    .filter(|&time| time > now));
            }
            ConnectionState::Disconnected => {
                at(self
                    .lost_at
                    .map(|lost| lost + timing.consent_timeout)
                    .filter(|&time| time > now));
            }
            _ => {}
        }
        next
    }

    /// Whether any pair of the session is still of use to the state.
    pub(super) fn end_old_session(&mut self) {
        let generation = self.session.generation;
        let gone: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|pair| pair.generation != generation)
            .map(|pair| pair.id)
            .collect();
        for id in gone {
            self.drop_pair(id);
        }
        self.remotes
            .retain(|remote| remote.generation == generation);
        self.old = None;
        self.old_until = None;
    }

    /// Forgets what a session that is being restarted away no longer needs.
    pub(super) fn retire_pairs(&mut self) {
        let selected = self.selected;
        let gone: Vec<PairId> = self
            .pairs
            .iter()
            .filter(|pair| Some(pair.id) != selected)
            .map(|pair| pair.id)
            .collect();
        for id in gone {
            self.drop_pair(id);
        }
        if let Some(pair) = selected.and_then(|id| self.pair_mut(id)) {
            pair.check = None;
            pair.queued = false;
            if pair.state != PairState::Succeeded {
                pair.state = PairState::Failed;
            }
        }
        let kept = selected
            .and_then(|id| self.pair(id))
            .map(|pair| pair.remote);
        self.remotes.retain(|remote| Some(remote.id) == kept);
    }
}
