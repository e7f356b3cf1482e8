//! Responses of the peer to our checks (RFC 8445 section 7.2.5).

use std::net::SocketAddr;
use std::time::Instant;

use visavis_datagram::Path;
use visavis_stun::attributes::{ErrorCode, XorMappedAddress};
use visavis_stun::{Class, Message, Verdict};

use super::Agent;
use super::local::{CandidateId, Source};
use super::receive::show;
use crate::candidate::CandidateKind;
use crate::config::Role;
use crate::event::PairId;
use crate::piggyback::Piggyback;
use crate::stats::PairState;

impl Agent {
    pub(super) fn receive_response(
        &mut self,
        now: Instant,
        source: Source,
        path: Path,
        message: &Message<'_>,
        piggyback: &mut dyn Piggyback,
    ) {
        let transaction = message.transaction();
        let found = self.pairs.iter().enumerate().find_map(|(index, pair)| {
            let sent = pair
                .sent
                .iter()
                .position(|sent| sent.transaction == transaction)?;
            Some((index, sent))
        });
        let Some((index, position)) = found else {
            self.stats.unmatched_responses += 1;
            return;
        };
        let pair = &self.pairs[index];
        let generation = pair.generation;
        let current = generation == self.session.generation;
        let session = if current {
            Some(&self.session)
        } else {
            self.old.as_deref()
        };
        let Some(remote) = session
            .filter(|session| session.generation == generation)
            .and_then(|session| session.remote.as_ref())
        else {
            return;
        };
        if message.check_integrity(&remote.key) != Verdict::Valid {
            self.stats.forged_responses += 1;
            return;
        }
        if pair.source != source || pair.path != path {
            // Not symmetric (RFC 8445 section 7.2.5.2.1). The pair fails when its time is over, not at
            // once: a replayed response from elsewhere must not decide.
            self.stats.asymmetric_responses += 1;
            return;
        }
        let id = pair.id;
        let sent = self.pairs[index].sent.remove(position);
        let pair = &mut self.pairs[index];
        if pair
            .check
            .is_some_and(|check| check.transaction == transaction)
        {
            pair.check = None;
        }
        pair.counters.responses_received += 1;
        if message.class() == Class::Error {
            let code = message
                .get::<ErrorCode<'_>>()
                .map_or(400, |error| error.code);
            self.error_response(id, code, sent.controlling);
            return;
        }
        // FFmpeg leaves it out. The response is authentic, and the check has come through all the same.
        let mapped = message.get::<XorMappedAddress>().map(|mapped| mapped.0);
        pair.answered(now);
        if !sent.repeated {
            let rtt = now.saturating_duration_since(sent.at);
            pair.rtt.sample(rtt);
            pair.counters.total_round_trip_time += rtt;
            pair.counters.current_round_trip_time = Some(rtt);
        }
        if current {
            show(now, true, message, piggyback);
            self.check_succeeded(now, id, mapped, sent.use_candidate);
        } else if self.pairs[index].probe.is_some() {
            let probe = self.next_probe(now, id);
            self.pairs[index].probe = Some(probe);
        }
    }

    fn error_response(&mut self, id: PairId, code: u16, was_controlling: bool) {
        match code {
            487 => {
                // Switch only from the role that the refused request claimed: a second 487 to an
                // earlier request must not switch back (RFC 8445 section 7.2.5.1).
                self.stats.role_conflicts += 1;
                let claimed = if was_controlling {
                    Role::Controlling
                } else {
                    Role::Controlled
                };
                if self.role == claimed {
                    self.switch_role(match claimed {
                        Role::Controlling => Role::Controlled,
                        Role::Controlled => Role::Controlling,
                    });
                    self.tie_breaker = self.random.u64();
                }
                if let Some(pair) = self.pair_mut(id) {
                    if pair.state != PairState::Succeeded {
                        pair.state = PairState::Waiting;
                    }
                    self.trigger(id);
                }
            }
            // The peer revokes consent.
            403 => self.fail_pair(id),
            _ => {
                if self
                    .pair(id)
                    .is_some_and(|pair| pair.state != PairState::Succeeded)
                {
                    self.fail_pair(id);
                }
            }
        }
    }

    /// RFC 8445 section 7.2.5.3.
    fn check_succeeded(
        &mut self,
        now: Instant,
        id: PairId,
        mapped: Option<SocketAddr>,
        use_candidate: bool,
    ) {
        let mapped = mapped.and_then(|mapped| self.mapped_candidate(id, mapped));
        let Some(pair) = self.pair_mut(id) else {
            return;
        };
        pair.mapped = mapped.or(pair.mapped);
        let first = pair.state != PairState::Succeeded;
        pair.state = PairState::Succeeded;
        let foundation = pair.foundation;
        let kept = pair.probe.is_some();
        let nomination = pair.peer_nomination;
        if first {
            self.thaw_foundation(foundation);
            self.session.first_valid.get_or_insert(now);
        }
        if kept {
            let probe = self.next_probe(now, id);
            if let Some(pair) = self.pair_mut(id) {
                pair.probe = Some(probe);
            }
        }
        if use_candidate && self.role == Role::Controlling && self.session.nominating == Some(id) {
            self.session.nominating = None;
            self.session.nominated = Some(id);
        }
        if first
            && self.role == Role::Controlled
            && let Some(nomination) = nomination
        {
            self.consider_nomination(id, nomination);
        }
    }

    /// The local candidate with the address that the peer saw; a new peer-reflexive one if there is none
    /// (RFC 8445 section 7.2.5.3.1).
    fn mapped_candidate(&mut self, id: PairId, mapped: SocketAddr) -> Option<CandidateId> {
        let pair = self.pair(id)?;
        let source = pair.source;
        let base = self.candidate(pair.local)?;
        let mapped = SocketAddr::new(mapped.ip().to_canonical(), mapped.port());
        if pair.is_stream() || base.address == mapped {
            return Some(base.id);
        }
        let known = self
            .candidates
            .iter()
            .find(|c| c.source == source && c.address == mapped);
        if let Some(known) = known {
            return Some(known.id);
        }
        let Source::Local(local) = source else {
            // A relay's address is what it is; a peer that sees another one stands behind some
            // translation of its own.
            return Some(base.id);
        };
        let reflexive = CandidateKind::PeerReflexive;
        if self
            .candidates
            .iter()
            .filter(|c| c.candidate.kind == reflexive)
            .count()
            >= self.config.limits.pairs
        {
            return Some(base.id);
        }
        let base_address = base.base;
        let mut candidate = self.describe(local, reflexive, mapped, None, None);
        candidate.signalled = false;
        candidate.candidate.related = Some(self.hide(local, base_address));
        let id = candidate.id;
        self.candidates.push(candidate);
        Some(id)
    }
}
