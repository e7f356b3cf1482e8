//! The peer's side: its candidates, names to resolve, and the pairs that they form with ours.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use visavis_datagram::Path;
use visavis_stun::RttEstimator;

use super::Agent;
use super::local::{CandidateId, Source};
use super::pair::Pair;
use crate::candidate::{Candidate, CandidateKind, Host, TcpType, pair_priority};
use crate::config::{Role, is_link_local};
use crate::event::{ConnectionState, Event, PairId};
use crate::stats::{PairCounters, PairState};

/// Number of a remote candidate, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemoteId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) id: RemoteId,
    pub(super) generation: u32,
    pub(super) candidate: Candidate,
    /// `None` while its name is being resolved.
    pub(super) address: Option<SocketAddr>,
    pub(super) foundation: u16,
    pub(super) cost: u16,
}

impl Agent {
    pub(super) fn do_add_remote(&mut self, now: Instant, mut candidate: Candidate) {
        if candidate.component != 1 || self.closed {
            // One agent is one component.
            self.stats.refused_candidates += 1;
            return;
        }
        if let (Some(ufrag), Some(remote)) = (&candidate.ufrag, &self.session.remote)
            && **ufrag != *remote.parameters.credentials.ufrag
        {
            // Of the session before (RFC 8838 section 11), or of the next one, whose credentials are still
            // being answered: kept until they are known.
            if self.future.len() < self.config.limits.remote_candidates {
                self.future.push(candidate);
            } else {
                self.stats.candidates_over_limit += 1;
            }
            return;
        }
        let mut address = None;
        let mut ask = None;
        match &candidate.host {
            Host::Ip(ip) => {
                let ip = ip.to_canonical();
                candidate.host = Host::Ip(ip);
                let active = candidate.tcp_type == Some(TcpType::Active);
                if !is_reachable(ip) || (candidate.port == 0 && !active) {
                    self.stats.refused_candidates += 1;
                    return;
                }
                address = Some(SocketAddr::new(ip, candidate.port));
            }
            Host::Name(name) => {
                if !candidate.host.is_mdns() || candidate.port == 0 {
                    // Names other than .local would let a page make us ask the DNS (RFC 8839
                    // section 5.1 has them ignored unless the agent supports them).
                    self.stats.refused_candidates += 1;
                    return;
                }
                let pending = self.remotes.iter().filter(|r| r.address.is_none());
                if pending.clone().count() >= self.config.limits.names {
                    self.stats.names_over_limit += 1;
                    return;
                }
                let asked = pending
                    .clone()
                    .any(|r| matches!(&r.candidate.host, Host::Name(known) if known == name));
                ask = (!asked).then(|| name.clone());
            }
        }
        let known = self.remotes.len();
        self.insert_remote(now, candidate, address);
        if let Some(name) = ask
            && self.remotes.len() > known
        {
            self.emit(Event::ResolveName(name));
        }
    }

    /// Adds a remote candidate of the present session, or refines a peer-reflexive one that was
    /// learnt from a check before it was signalled (RFC 8838 section 11.4).
    pub(super) fn insert_remote(
        &mut self,
        now: Instant,
        candidate: Candidate,
        address: Option<SocketAddr>,
    ) -> Option<RemoteId> {
        let generation = self.session.generation;
        let same = |remote: &Remote| {
            remote.generation == generation
                && remote.candidate.protocol == candidate.protocol
                && remote.candidate.tcp_type == candidate.tcp_type
                && match address {
                    Some(_) => remote.address == address,
                    None => {
                        remote.candidate.host == candidate.host
                            && remote.candidate.port == candidate.port
                    }
                }
        };
        if let Some(index) = self.remotes.iter().position(same) {
            let known = &self.remotes[index];
            if known.candidate.kind == CandidateKind::PeerReflexive
                && candidate.kind != CandidateKind::PeerReflexive
            {
                let (id, foundation) = (known.id, self.remote_foundation(&candidate.foundation));
                let known = &mut self.remotes[index];
                known.cost = candidate.network_cost.unwrap_or(known.cost);
                known.candidate = candidate;
                known.foundation = foundation;
                self.reprioritise();
                return Some(id);
            }
            self.stats.refused_candidates += 1;
            return Some(known.id);
        }
        if self
            .remotes
            .iter()
            .filter(|r| r.generation == generation)
            .count()
            >= self.config.limits.remote_candidates
        {
            self.stats.candidates_over_limit += 1;
            return None;
        }
        let id = RemoteId(self.next_id());
        let foundation = self.remote_foundation(&candidate.foundation);
        self.remotes.push(Remote {
            id,
            generation,
            cost: candidate.network_cost.unwrap_or(0).min(999),
            candidate,
            address,
            foundation,
        });
        if address.is_some() {
            self.pair_remote(now, id);
        }
        Some(id)
    }

    /// The credentials of a new session are known: candidates that came before them count now, or never.
    pub(super) fn take_future_candidates(&mut self, now: Instant) {
        let future = std::mem::take(&mut self.future);
        let ufrag = self
            .session
            .remote
            .as_ref()
            .map(|remote| remote.parameters.credentials.ufrag.clone());
        for candidate in future {
            if candidate.ufrag == ufrag {
                self.do_add_remote(now, candidate);
            } else {
                self.stats.stale_session += 1;
            }
        }
    }

    pub(super) fn do_resolved(&mut self, now: Instant, name: &str, ip: Option<IpAddr>) {
        let waiting = |remote: &Remote| {
            remote.address.is_none()
                && matches!(&remote.candidate.host, Host::Name(known) if known.eq_ignore_ascii_case(name))
        };
        let ids: Vec<RemoteId> = self
            .remotes
            .iter()
            .filter(|remote| waiting(remote))
            .map(|remote| remote.id)
            .collect();
        let ip = ip
            .map(|ip| ip.to_canonical())
            .filter(|&ip| is_reachable(ip));
        for id in ids {
            let Some(index) = self.remotes.iter().position(|remote| remote.id == id) else {
                continue;
            };
            let Some(ip) = ip else {
                self.remotes.remove(index);
                self.stats.refused_candidates += 1;
                continue;
            };
            let remote = self.remotes.remove(index);
            let address = SocketAddr::new(ip, remote.candidate.port);
            if remote.generation == self.session.generation {
                self.insert_remote(now, remote.candidate, Some(address));
            }
        }
    }

    /// A number that equal foundations share.
    fn remote_foundation(&self, foundation: &str) -> u16 {
        let known = self
            .remotes
            .iter()
            .find(|remote| *remote.candidate.foundation == *foundation);
        match known {
            Some(remote) => remote.foundation,
            None => self
                .remotes
                .iter()
                .map(|r| r.foundation + 1)
                .max()
                .unwrap_or(0),
        }
    }

    pub(super) fn remote(&self, id: RemoteId) -> Option<&Remote> {
        self.remotes.iter().find(|remote| remote.id == id)
    }

    // ---- pairs (RFC 8445 section 6.1.2)

    /// Pairs a new remote candidate with every local one.
    fn pair_remote(&mut self, now: Instant, remote: RemoteId) {
        if self.session.remote.is_none() || self.config.lite {
            return;
        }
        let locals: Vec<CandidateId> = self
            .candidates
            .iter()
            .filter(|c| c.pairs)
            .map(|c| c.id)
            .collect();
        for local in locals {
            self.form_pair(now, local, remote);
        }
    }

    /// Pairs a new local candidate with every remote one of the session.
    pub(super) fn pair_local(&mut self, now: Instant, local: CandidateId) {
        if self.session.remote.is_none() || self.config.lite {
            return;
        }
        let generation = self.session.generation;
        let remotes: Vec<RemoteId> = self
            .remotes
            .iter()
            .filter(|remote| remote.generation == generation)
            .map(|remote| remote.id)
            .collect();
        for remote in remotes {
            self.form_pair(now, local, remote);
        }
    }

    /// Pairs all there is: the peer's credentials have come.
    pub(super) fn pair_everything(&mut self, now: Instant) {
        let locals: Vec<CandidateId> = self
            .candidates
            .iter()
            .filter(|c| c.pairs)
            .map(|c| c.id)
            .collect();
        for local in locals {
            self.pair_local(now, local);
        }
    }

    fn form_pair(&mut self, now: Instant, local: CandidateId, remote: RemoteId) -> Option<PairId> {
        let (l, r) = (self.candidate(local)?, self.remote(remote)?);
        let address = r.address?;
        let compatible = l.candidate.protocol == r.candidate.protocol
            && l.address.is_ipv4() == address.is_ipv4()
            && match (l.candidate.tcp_type, r.candidate.tcp_type) {
                // A passive candidate waits for the peer's connection (RFC 6544 section 6.2).
                (Some(TcpType::Passive), _) => false,
                (Some(l), Some(r)) => l.pairs_with(r) && address.port() != 0,
                (None, None) => true,
                _ => false,
            }
            // Link-local and loopback addresses reach their like alone.
            && is_link_local(l.address.ip()) == is_link_local(address.ip())
            && (l.address.ip().is_loopback() || !address.ip().is_loopback());
        if !compatible {
            return None;
        }
        let mut path = Path {
            protocol: l.candidate.protocol,
            local: l.base,
            remote: address,
        };
        if l.candidate.tcp_type.is_some() {
            // Until a connection stands.
            path.local.set_port(0);
        }
        self.insert_pair(now, local, remote, l.source, path)
    }

    /// Adds a pair that no equal one stands for. Beyond the bound the least one makes room.
    pub(super) fn insert_pair(
        &mut self,
        now: Instant,
        local: CandidateId,
        remote: RemoteId,
        source: Source,
        path: Path,
    ) -> Option<PairId> {
        let generation = self.session.generation;
        if let Some(known) = self.find_pair(source, &path) {
            return Some(known);
        }
        let (l, r) = (self.candidate(local)?, self.remote(remote)?);
        let priority = self.priority_of(l.candidate.priority, r.candidate.priority);
        let cost = u32::from(l.cost) + u32::from(r.cost);
        let foundation = (l.foundation, r.foundation);
        let relays = relays(&l.candidate, &r.candidate);
        if self.pairs.len() >= self.config.limits.pairs {
            // RFC 8445 section 6.1.2.5: the lowest priorities go.
            let least = self
                .pairs
                .iter()
                .filter(|pair| !pair.authenticated && Some(pair.id) != self.selected)
                .min_by_key(|pair| pair.priority)
                .filter(|pair| pair.priority < priority)
                .map(|pair| pair.id);
            self.stats.pairs_over_limit += 1;
            self.drop_pair(least?);
        }
        let id = PairId(self.next_id());
        self.pairs.push(Pair {
            id,
            generation,
            local,
            remote,
            source,
            path,
            foundation,
            priority,
            cost,
            relays,
            state: PairState::Frozen,
            queued: false,
            connecting: None,
            check: None,
            sent: Vec::new(),
            rtt: RttEstimator::default(),
            authenticated: false,
            peer_nomination: None,
            use_candidates: 0,
            misses: 0,
            unanswered_since: None,
            last_response: None,
            last_heard: None,
            probe: None,
            mapped: None,
            counters: PairCounters::default(),
        });
        if matches!(self.state, ConnectionState::New | ConnectionState::Failed) {
            self.checks_began = Some(now);
        }
        Some(id)
    }

    fn priority_of(&self, local: u32, remote: u32) -> u64 {
        match self.role {
            Role::Controlling => pair_priority(local, remote),
            Role::Controlled => pair_priority(remote, local),
        }
    }

    /// Computes all pair priorities again: the role or a candidate has changed.
    pub(super) fn reprioritise(&mut self) {
        for index in 0..self.pairs.len() {
            let (local, remote) = (self.pairs[index].local, self.pairs[index].remote);
            if let (Some(l), Some(r)) = (self.candidate(local), self.remote(remote)) {
                let priority = self.priority_of(l.candidate.priority, r.candidate.priority);
                let cost = u32::from(l.cost) + u32::from(r.cost);
                let foundation = (l.foundation, r.foundation);
                let relays = relays(&l.candidate, &r.candidate);
                let pair = &mut self.pairs[index];
                pair.relays = relays;
                pair.priority = priority;
                pair.cost = cost;
                pair.foundation = foundation;
            }
        }
    }

    /// The pair of the present session on a path.
    pub(super) fn find_pair(&self, source: Source, path: &Path) -> Option<PairId> {
        let generation = self.session.generation;
        self.pairs
            .iter()
            .find(|pair| {
                pair.generation == generation
                    && pair.source == source
                    && pair.path.remote == path.remote
                    && pair.path.protocol == path.protocol
                    && (pair.path.local == path.local || !pair.is_stream())
            })
            .map(|pair| pair.id)
    }

    pub(super) fn pair(&self, id: PairId) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.id == id)
    }

    pub(super) fn pair_mut(&mut self, id: PairId) -> Option<&mut Pair> {
        self.pairs.iter_mut().find(|pair| pair.id == id)
    }

    /// Takes a pair out, wherever its number stands.
    pub(super) fn drop_pair(&mut self, id: PairId) {
        self.pairs.retain(|pair| pair.id != id);
        self.triggered.retain(|&queued| queued != id);
        if self.session.nominated == Some(id) {
            self.session.nominated = None;
        }
        if self.session.nominating == Some(id) {
            self.session.nominating = None;
        }
        self.release_connection(super::local::ConnectionUser::Pair(id));
    }

    /// The check failed for good.
    pub(super) fn fail_pair(&mut self, id: PairId) {
        if let Some(pair) = self.pair_mut(id) {
            pair.state = PairState::Failed;
            pair.check = None;
            pair.probe = None;
            pair.queued = false;
            self.triggered.retain(|&queued| queued != id);
            if self.session.nominating == Some(id) {
                self.session.nominating = None;
            }
            if self.session.nominated == Some(id) {
                self.session.nominated = None;
            }
        }
    }

    /// Puts a pair into the triggered-check queue (RFC 8445 section 6.1.4.1).
    pub(super) fn trigger(&mut self, id: PairId) {
        if let Some(pair) = self.pair_mut(id)
            && !pair.queued
        {
            pair.queued = true;
            self.triggered.push_back(id);
        }
    }

    /// What the queue held, for a session that ends.
    pub(super) fn clear_triggered(&mut self) {
        let queue = std::mem::take(&mut self.triggered);
        for id in queue {
            if let Some(pair) = self.pair_mut(id) {
                pair.queued = false;
            }
        }
        self.triggered = VecDeque::new();
    }
}

fn relays(local: &Candidate, remote: &Candidate) -> u8 {
    u8::from(local.kind == CandidateKind::Relayed) + u8::from(remote.kind == CandidateKind::Relayed)
}

/// Whether datagrams can be sent to an address at all, and to one host only.
fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && ip.octets()[0] != 0
        }
        // IPv4-compatible addresses are obsolete (RFC 4291 section 2.5.5.1) and lead elsewhere.
        IpAddr::V6(ip) => {
            !ip.is_unspecified()
                && !ip.is_multicast()
                && (ip.is_loopback() || ip.segments()[..6] != [0; 6])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_reachable;

    #[test]
    fn addresses_of_many_or_none_are_refused() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "ff02::fb",
            "::1.2.3.4",
        ] {
            assert!(!is_reachable(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["192.0.2.1", "127.0.0.1", "2001:db8::1", "fe80::1", "::1"] {
            assert!(is_reachable(ip.parse().unwrap()), "{ip}");
        }
    }
}
