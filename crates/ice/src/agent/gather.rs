//! Gathering (RFC 8445 section 5.1): host candidates at once, server-reflexive ones by Binding
//! requests from each UDP socket, and from each port that takes TCP connections (RFC 6544 section 5.2);
//! relayed ones by a TURN client per server and local address.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Protocol, Transmit, TransmitBuf};
use visavis_stun::attributes::{ErrorCode, MappedAddress, XorMappedAddress};
use visavis_stun::{Class, Message, MessageBuilder, Method, TransactionId};

use super::Agent;
use super::local::{ConnectionUser, LocalId, Source};
use crate::candidate::{CandidateKind, TcpType};
use crate::config::{AddressMode, ServerKind};
use crate::event::{Event, GatheringState};

/// Binding requests from one socket to one server.
#[derive(Debug)]
pub(super) struct Gatherer {
    pub(super) local: LocalId,
    pub(super) server: u16,
    pub(super) step: GatherStep,
    pub(super) mapped: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum GatherStep {
    /// Waits for the owner's connection to the server (TCP).
    Connecting,
    /// Waits for a slot of the pace.
    Queued,
    /// A request is out.
    Asking {
        transaction: TransactionId,
        began: Instant,
        next: Instant,
        rto: Duration,
        sends: u32,
    },
    /// Answered; asks again at this time while the mapping has to be kept open.
    Answered { again: Instant },
    /// No answer.
    Failed,
}

impl Agent {
    pub(super) fn gathering_begun(&self) -> bool {
        self.gathering != GatheringState::New
    }

    /// Gathers from every local address.
    pub(super) fn begin_gathering(&mut self, now: Instant) {
        if self.gathering_begun() {
            return;
        }
        self.set_gathering(GatheringState::Gathering);
        let ids: Vec<LocalId> = self.locals.iter().map(|local| local.id).collect();
        for id in ids {
            self.gather_from(now, id);
        }
    }

    /// Host candidates of one address, and requests to every server.
    pub(super) fn gather_from(&mut self, now: Instant, id: LocalId) {
        self.set_gathering(GatheringState::Gathering);
        self.host_candidates(now, id);
        if self.config.lite {
            return;
        }
        for server in 0..self.servers.len() as u16 {
            if !self.retired.contains(&server) {
                self.gather_between(id, server);
            }
        }
    }

    /// Requests from one address to one server.
    pub(super) fn gather_between(&mut self, id: LocalId, server: u16) {
        let Some(local) = self.local(id) else { return };
        let Some(target) = self.servers.get(usize::from(server)) else {
            return;
        };
        if local.ip().is_ipv4() != target.address.is_ipv4()
            || (local.ip().is_loopback() && !target.address.ip().is_loopback())
        {
            return;
        }
        let udp = local.address.protocol == Protocol::Udp;
        match (&target.kind, target.protocol) {
            (ServerKind::Stun, Protocol::Udp) if udp && self.direct_allowed() => {
                if self.gatherers.len() >= self.config.limits.gatherers {
                    self.stats.gatherers_over_limit += 1;
                    return;
                }
                self.gatherers.push(Gatherer {
                    local: id,
                    server,
                    step: GatherStep::Queued,
                    mapped: None,
                });
            }
            // From the very port that peers will connect to: one mapping for all (RFC 6544 appendix B).
            (ServerKind::Stun, Protocol::Tcp) if self.takes_connections(id) => {
                if self.gatherers.len() >= self.config.limits.gatherers {
                    self.stats.gatherers_over_limit += 1;
                    return;
                }
                self.gatherers.push(Gatherer {
                    local: id,
                    server,
                    step: GatherStep::Failed,
                    mapped: None,
                });
                self.ask_again(self.gatherers.len() - 1);
            }
            (ServerKind::Turn { .. }, protocol) => {
                if self.config.address_mode == AddressMode::ProxyOnly && !protocol.is_stream() {
                    return;
                }
                let ip = local.ip();
                // One per address is enough, however many sockets it has.
                let doubled = self
                    .relays
                    .iter()
                    .any(|relay| relay.server == server && relay.ip == ip);
                if doubled || (!udp && !protocol.is_stream()) {
                    return;
                }
                self.enter_relay(id, server);
            }
            _ => {}
        }
    }

    /// Whether peers can open TCP connections to a local address.
    fn takes_connections(&self, id: LocalId) -> bool {
        let tcp_type = self.local(id).and_then(|local| local.address.tcp_type);
        matches!(tcp_type, Some(TcpType::Passive | TcpType::SimultaneousOpen))
            && self.direct_allowed()
    }

    /// Another request of one gatherer, over TCP on the connection that is there or on a new one.
    fn ask_again(&mut self, index: usize) {
        let (id, server) = (self.gatherers[index].local, self.gatherers[index].server);
        let user = ConnectionUser::Gatherer(id, server);
        let Some(local) = self.local(id).map(|local| &local.address) else {
            return;
        };
        let connected = self
            .connections
            .iter()
            .find(|connection| connection.user == user)
            .map(|connection| connection.path.is_some());
        let step = match (local.protocol, connected) {
            (Protocol::Udp, _) | (_, Some(true)) => GatherStep::Queued,
            (_, Some(false)) => GatherStep::Connecting,
            (_, None) => {
                let from = local.address;
                let Some(target) = self.servers.get(usize::from(server)) else {
                    return;
                };
                let (to, name) = (target.address, target.server_name.clone());
                match self.connect(user, Protocol::Tcp, from, to, name) {
                    Some(_) => GatherStep::Connecting,
                    None => GatherStep::Failed,
                }
            }
        };
        self.gatherers[index].step = step;
    }

    /// The connection of a gatherer is up, or is not to be had.
    pub(super) fn gatherer_connected(&mut self, id: LocalId, server: u16, connected: bool) {
        let of_it = |gatherer: &&mut Gatherer| gatherer.local == id && gatherer.server == server;
        let Some(gatherer) = self.gatherers.iter_mut().find(of_it) else {
            return;
        };
        match gatherer.step {
            GatherStep::Connecting if connected => gatherer.step = GatherStep::Queued,
            // The mapping stands for a while, without the connection that it was made for.
            GatherStep::Answered { .. } => {}
            _ if connected => {}
            _ => {
                gatherer.step = GatherStep::Failed;
                if gatherer.mapped.is_none()
                    && let Some(url) = self.servers.get(usize::from(server)).map(|s| s.url.clone())
                {
                    self.gather_error(id, url, 701, "connection failed".into());
                }
            }
        }
    }

    /// No peer connects to mappings any more: their connections have served.
    pub(super) fn release_gatherers(&mut self) {
        for index in 0..self.gatherers.len() {
            let gatherer = &self.gatherers[index];
            let user = ConnectionUser::Gatherer(gatherer.local, gatherer.server);
            self.release_connection(user);
        }
    }

    /// The selected path is in doubt: a NAT may have given us another address, which the peer has to
    /// learn.
    pub(super) fn confirm_mappings(&mut self) {
        for index in 0..self.gatherers.len() {
            if matches!(self.gatherers[index].step, GatherStep::Answered { .. }) {
                self.ask_again(index);
            }
        }
    }

    /// After a restart: servers that failed are asked again, mappings are confirmed.
    pub(super) fn gather_again(&mut self, now: Instant) {
        for index in 0..self.gatherers.len() {
            if matches!(
                self.gatherers[index].step,
                GatherStep::Failed | GatherStep::Answered { .. }
            ) {
                self.ask_again(index);
            }
        }
        self.restart_relays(now);
    }

    /// Whether a gathering transaction waits for a slot.
    pub(super) fn gatherer_waits(&self) -> bool {
        self.gatherers
            .iter()
            .any(|gatherer| matches!(gatherer.step, GatherStep::Queued))
    }

    /// Starts the first gathering transaction that waits.
    pub(super) fn start_gatherer(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let index = self
            .gatherers
            .iter()
            .position(|gatherer| matches!(gatherer.step, GatherStep::Queued))?;
        let timing = &self.config.timing;
        // A stream repeats what is lost (RFC 8489 section 6.2.2).
        let is_stream = self
            .local(self.gatherers[index].local)
            .is_some_and(|local| local.address.protocol == Protocol::Tcp);
        let (rto, sends) = if is_stream {
            (timing.gathering, timing.request_count)
        } else {
            (timing.initial_rto, 1)
        };
        let step = GatherStep::Asking {
            transaction: TransactionId::random(&mut self.random),
            began: now,
            next: now + rto,
            rto,
            sends,
        };
        self.gatherers[index].step = step;
        self.write_gatherer(index, out)
    }

    /// Repeats the first request whose time has come.
    pub(super) fn repeat_gatherer(
        &mut self,
        now: Instant,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let most = self.config.timing.request_count;
        let index = self.gatherers.iter().position(|gatherer| {
            matches!(gatherer.step, GatherStep::Asking { next, sends, .. } if next <= now && sends < most)
        })?;
        if let GatherStep::Asking {
            next, rto, sends, ..
        } = &mut self.gatherers[index].step
        {
            *sends += 1;
            *rto *= 2;
            *next = now + *rto;
        }
        self.write_gatherer(index, out)
    }

    fn write_gatherer(&mut self, index: usize, out: &mut TransmitBuf) -> Option<Transmit> {
        let gatherer = &self.gatherers[index];
        let GatherStep::Asking { transaction, .. } = gatherer.step else {
            return None;
        };
        let local = &self.local(gatherer.local)?.address;
        let (protocol, local) = (local.protocol, local.address);
        let remote = self.servers.get(usize::from(gatherer.server))?.address;
        let slot = out.slot()?;
        let len = MessageBuilder::new(slot, Class::Request, Method::BINDING, transaction)
            .fingerprint()
            .finish()
            .ok()?;
        out.commit(len);
        let path = Path {
            protocol,
            local,
            remote,
        };
        Some(Transmit::new(path, Ecn::NotEct, out.segments()?))
    }

    /// A response that may answer a gathering request. True if it did.
    pub(super) fn gather_response(
        &mut self,
        now: Instant,
        local: LocalId,
        from: SocketAddr,
        message: &Message<'_>,
    ) -> bool {
        let asked = |gatherer: &Gatherer| {
            matches!(gatherer.step, GatherStep::Asking { transaction, .. } if transaction == message.transaction())
                && gatherer.local == local
        };
        let Some(index) = self.gatherers.iter().position(asked) else {
            return false;
        };
        let server = self.gatherers[index].server;
        let Some(url) = self
            .servers
            .get(usize::from(server))
            .map(|s| (s.address, s.url.clone()))
        else {
            return false;
        };
        let (address, url) = url;
        if address != from {
            self.stats.asymmetric_responses += 1;
            return true;
        }
        if message.class() == Class::Error {
            let error = message.get::<ErrorCode<'_>>();
            let (code, reason) = error.map_or((400, ""), |error| (error.code, error.reason));
            self.gatherers[index].step = GatherStep::Failed;
            let text = reason.into();
            self.gather_error(local, url, code, text);
            return true;
        }
        let mapped = message
            .get::<XorMappedAddress>()
            .map(|mapped| mapped.0)
            .or_else(|| message.get::<MappedAddress>().map(|mapped| mapped.0));
        let Some(mapped) = mapped else {
            self.stats.malformed += 1;
            return true;
        };
        let gatherer = &mut self.gatherers[index];
        gatherer.step = GatherStep::Answered {
            again: now + self.config.timing.keepalive_interval,
        };
        if gatherer.mapped != Some(mapped) {
            gatherer.mapped = Some(mapped);
            // What the server saw before leads nowhere any more.
            self.candidates.retain(|known| {
                known.source != Source::Local(local)
                    || known.server != Some(server)
                    || known.candidate.kind != CandidateKind::ServerReflexive
            });
            self.set_gathering(GatheringState::Gathering);
            self.reflexive_candidate(now, local, server, mapped);
        }
        true
    }

    /// A server saw a local address as `mapped`.
    pub(super) fn reflexive_candidate(
        &mut self,
        now: Instant,
        id: LocalId,
        server: u16,
        mapped: SocketAddr,
    ) {
        let Some(local) = self.local(id) else { return };
        let base = local.address.address;
        if base.is_ipv4() != mapped.is_ipv4() || !self.direct_allowed() {
            return;
        }
        let hidden = self.hide(id, base);
        if mapped == base && hidden == base {
            // No NAT: redundant with the host candidate (RFC 8445 section 5.1.3).
            return;
        }
        let kind = CandidateKind::ServerReflexive;
        let replaced = self.config.rewrites.iter().any(|rule| {
            rule.kind == kind
                && rule.mode == crate::config::RewriteMode::Replace
                && rule.external.is_ipv4() == mapped.is_ipv4()
                && rule.local.is_none_or(|ip| ip == base.ip())
        });
        if replaced {
            return;
        }
        let mut candidate = self.describe(id, kind, mapped, Some(server), None);
        candidate.candidate.related = Some(hidden);
        self.add_candidate(now, candidate);
    }

    /// Gives up requests that took too long, and asks again where a mapping has to stay open.
    pub(super) fn gather_timeouts(&mut self, now: Instant) {
        let timing = &self.config.timing;
        let (limit, most) = (timing.gathering, timing.request_count);
        let keep_open = self.keeps_mappings_open();
        let mut failed = Vec::new();
        let locals = &self.locals;
        for gatherer in &mut self.gatherers {
            match gatherer.step {
                GatherStep::Asking {
                    began, next, sends, ..
                } if now >= began + limit || (next <= now && sends >= most) => {
                    gatherer.step = GatherStep::Failed;
                    if gatherer.mapped.is_none() {
                        failed.push((gatherer.local, gatherer.server));
                    }
                }
                GatherStep::Answered { again } if again <= now && keep_open => {
                    // TCP mappings last for hours (RFC 5382 REQ-5).
                    let is_udp = locals.iter().any(|local| {
                        local.id == gatherer.local && local.address.protocol == Protocol::Udp
                    });
                    gatherer.step = if is_udp {
                        GatherStep::Queued
                    } else {
                        GatherStep::Answered {
                            again: again + Duration::from_secs(3600),
                        }
                    };
                }
                _ => {}
            }
        }
        for (local, server) in failed {
            if let Some(url) = self.servers.get(usize::from(server)).map(|s| s.url.clone()) {
                self.gather_error(local, url, 701, "the server did not answer".into());
            }
        }
    }

    /// Reflexive candidates that the peer may still use have to be kept open by us as long as no
    /// pair is selected (RFC 8445 section 5.1.1.4).
    fn keeps_mappings_open(&self) -> bool {
        self.selected.is_none() && !self.closed
    }

    pub(super) fn gather_timer(&self) -> Option<Instant> {
        let limit = self.config.timing.gathering;
        let keep_open = self.keeps_mappings_open();
        self.gatherers
            .iter()
            .filter_map(|gatherer| match gatherer.step {
                GatherStep::Asking { began, next, .. } => Some(next.min(began + limit)),
                GatherStep::Answered { again } if keep_open => Some(again),
                _ => None,
            })
            .min()
    }

    pub(super) fn gather_error(
        &mut self,
        local: LocalId,
        url: Box<str>,
        code: u16,
        text: Box<str>,
    ) {
        let Some(address) = self.local(local).map(|local| local.address.address) else {
            return;
        };
        let local = self.hide(local, address);
        self.emit(Event::CandidateError {
            local,
            url,
            code,
            text,
        });
    }

    /// Whether every server has answered or failed.
    pub(super) fn update_gathering(&mut self) {
        if self.gathering != GatheringState::Gathering {
            return;
        }
        let asking = self.gatherers.iter().any(|gatherer| {
            gatherer.mapped.is_none()
                && matches!(
                    gatherer.step,
                    GatherStep::Connecting | GatherStep::Queued | GatherStep::Asking { .. }
                )
        });
        if !asking && !self.relays_pending() {
            self.set_gathering(GatheringState::Complete);
        }
    }

    pub(super) fn set_gathering(&mut self, state: GatheringState) {
        if self.gathering != state {
            self.gathering = state;
            self.emit(Event::GatheringState(state));
        }
    }
}
