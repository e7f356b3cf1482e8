//! Lite agents on both sides (RFC 8445 section 6.2): nobody checks, each takes the best pair.

use std::time::Instant;

use super::Agent;
use super::local::Source;
use crate::candidate::CandidateKind;
use crate::config::Role;
use crate::event::PairId;
use crate::stats::PairState;
use visavis_datagram::Path;

impl Agent {
    /// Forms the pair of two lite agents: the first remote candidate of each family with our own.
    pub(super) fn pair_lite(&mut self, now: Instant) {
        if !self.both_lite() {
            return;
        }
        let generation = self.session.generation;
        let mut pairs = Vec::new();
        for local in &self.candidates {
            if local.candidate.kind != CandidateKind::Host || !local.pairs {
                continue;
            }
            for remote in &self.remotes {
                let Some(address) = remote.address else {
                    continue;
                };
                if remote.generation == generation
                    && address.is_ipv4() == local.address.is_ipv4()
                    && remote.candidate.protocol == local.candidate.protocol
                    && local.candidate.tcp_type.is_none()
                {
                    let path = Path {
                        protocol: local.candidate.protocol,
                        local: local.base,
                        remote: address,
                    };
                    pairs.push((local.id, remote.id, local.source, path));
                }
            }
        }
        for (local, remote, source, path) in pairs {
            if let Some(id) = self.insert_pair(now, local, remote, source, path) {
                self.trust(now, id, source);
            }
        }
        let best: Option<PairId> = self
            .pairs
            .iter()
            .filter(|pair| pair.generation == generation && pair.is_usable())
            .max_by_key(|pair| pair.priority)
            .map(|pair| pair.id);
        self.session.nominated = best;
        if self.role == Role::Controlling {
            self.session.nominating = None;
        }
    }

    fn trust(&mut self, now: Instant, id: PairId, _source: Source) {
        if let Some(pair) = self.pair_mut(id) {
            pair.authenticated = true;
            pair.state = PairState::Succeeded;
            pair.last_response = Some(now);
        }
    }
}
