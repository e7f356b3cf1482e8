//! What the server answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_stun::attributes::{
    AlternateDomain, AlternateServer, ErrorCode, Lifetime, MobilityTicket, XorMappedAddress,
    XorRelayedAddress,
};
use visavis_stun::{Class, Message, Verdict};

use super::agent::{Client, Pending, Request, State, refresh_after};
use super::auth::{self, Challenge};
use super::config::Families;
use super::event::{Event, Failure, NewPathReason, Relayed};
use super::peers::Standing;
use visavis_datagram::Path;

/// How often a request is signed anew before its refusal is believed. One for the first challenge, one for a
/// nonce bound to another address, one for a nonce that ages on the way.
const MAX_RETRIES: u32 = 4;

/// A ticket longer than this does not fit into a request beside the credentials.
const MAX_TICKET: usize = 512;

impl Client {
    pub(super) fn handle_response(&mut self, now: Instant, from: Path, message: &Message<'_>) {
        let id = message.transaction();
        let index = self
            .pending
            .iter()
            .position(|pending| pending.transaction.id() == id && pending.path == from);
        let Some(index) = index else {
            self.stats.unknown_responses += 1;
            return;
        };
        let code = match message.class() {
            Class::Error => match message.get::<ErrorCode<'_>>() {
                Some(error) => Some(error.code),
                None => {
                    self.stats.malformed += 1;
                    return;
                }
            },
            _ => None,
        };
        if let Some(code @ (401 | 438)) = code {
            let pending = self.pending.swap_remove(index);
            self.challenged(now, code, &pending, message);
        } else if self.believes(index, code, message) {
            let pending = self.pending.swap_remove(index);
            match code {
                None => self.succeeded(now, &pending, message),
                Some(code) => self.refused(now, code, &pending, message),
            }
        } else {
            self.stats.integrity_failures += 1;
            let pending = &mut self.pending[index];
            pending.violated = true;
            if pending.path.protocol.is_stream() {
                // "... MUST immediately end the transaction and signal that the integrity protection was
                // violated" (RFC 8489 section 9.2.5).
                self.fail(Failure::IntegrityViolated);
            }
        }
        self.reschedule();
    }

    /// The checks of RFC 8489 section 9.2.5. An error without integrity is believed, but for 400 and 300: many servers
    /// do not sign errors, and whoever forges one could as well drop the request. A
    /// redirection would lead the credentials elsewhere.
    fn believes(&self, index: usize, code: Option<u16>, message: &Message<'_>) -> bool {
        if self.pending[index].generation == 0 {
            return true;
        }
        let Some(challenge) = &self.challenge else {
            return true;
        };
        if auth::is_bid_down(message) {
            return false;
        }
        match challenge.check(message) {
            Verdict::Valid => true,
            Verdict::Invalid => false,
            Verdict::Absent => {
                code.is_some_and(|code| code != 400 && code != 300) && !message.has_integrity()
            }
        }
    }

    /// 401 and 438.
    fn challenged(&mut self, now: Instant, code: u16, pending: &Pending, message: &Message<'_>) {
        if code == 438 {
            self.stats.stale_nonces += 1;
        }
        if pending.retries >= MAX_RETRIES {
            return self.fail(Failure::Unauthorized);
        }
        // An answer to a request that was signed for an older challenge: only sign it anew.
        if pending.generation == self.generation {
            // An unsigned request that another was challenged for meanwhile has no previous challenge.
            let previous = self.challenge.as_ref().filter(|_| pending.generation != 0);
            match Challenge::new(message, previous, &self.config) {
                Ok(challenge) => {
                    let hopeless = code == 401
                        && previous.is_some_and(|previous| !challenge.differs(previous));
                    if hopeless {
                        return self.fail(Failure::Unauthorized);
                    }
                    self.challenge = Some(challenge);
                    self.generation += 1;
                }
                Err(failure) => return self.fail(failure),
            }
        }
        let retry = self.make(now, pending.request, pending.path, pending.retries + 1);
        self.pending.push(retry);
    }

    fn succeeded(&mut self, now: Instant, pending: &Pending, message: &Message<'_>) {
        let lifetime = message
            .get::<Lifetime>()
            .map(|lifetime| Duration::from_secs(lifetime.0.into()));
        match pending.request {
            Request::Allocate { .. } => self.allocated(now, lifetime, message),
            Request::Refresh { lifetime: 0 } => self.end(Event::Closed),
            Request::Refresh { .. } => {
                self.lives_for(now, lifetime);
                // An allocation that lives on may ask for new paths again when it is lost.
                self.new_paths = 0;
                self.servers = vec![self.path.remote];
            }
            Request::Move => {
                self.ticket = ticket(message);
                self.lives_for(now, lifetime);
                self.old_path = Some(self.path);
                self.path = pending.path;
                // What was asked on the old path is asked again on the new one.
                let requests: Vec<_> = self.pending.drain(..).map(|p| p.request).collect();
                for request in requests {
                    self.request(now, request);
                }
                self.events.push_back(Event::Moved(self.path));
            }
            Request::Permission(peer) => self.permission_granted(now, peer),
            Request::Bind(peer) => {
                self.permission_granted(now, peer);
                if let Some(binding) = self.peers.binding_mut(&peer) {
                    let is_new = !binding.standing.is_granted();
                    binding.standing = Standing::granted(now);
                    if is_new {
                        self.events.push_back(Event::ChannelBound(peer));
                    }
                }
            }
        }
    }

    fn allocated(&mut self, now: Instant, lifetime: Option<Duration>, message: &Message<'_>) {
        let mut relayed = Relayed::default();
        for address in message.all::<XorRelayedAddress>().flatten() {
            match address.0 {
                SocketAddr::V4(v4) => relayed.v4 = relayed.v4.or(Some(v4)),
                SocketAddr::V6(v6) => relayed.v6 = relayed.v6.or(Some(v6)),
            }
        }
        let mapped = message.get::<XorMappedAddress>();
        let (Some(_), Some(mapped)) = (relayed.iter().next(), mapped) else {
            return self.fail(Failure::Malformed);
        };
        self.relayed = relayed;
        self.mapped = Some(mapped.0);
        self.ticket = ticket(message);
        self.lives_for(now, lifetime);
        if self.state == State::Closing {
            return self.request(now, Request::Refresh { lifetime: 0 });
        }
        self.state = State::Allocated;
        self.events.push_back(Event::Allocated {
            relayed,
            mapped: mapped.0,
            lifetime: self.expires - now,
        });
        self.ask_for_all(now);
    }

    /// Asks for the permissions and channels that were wanted before there was an allocation.
    fn ask_for_all(&mut self, now: Instant) {
        let binds: Vec<_> = self.peers.bindings.iter().map(|b| b.peer).collect();
        let permissions: Vec<_> = self
            .peers
            .permissions
            .values()
            .map(|permission| permission.peer)
            .filter(|peer| binds.iter().all(|bound| bound.ip() != peer.ip()))
            .collect();
        for peer in binds {
            if self.relayed.for_peer(&peer.ip()).is_some() {
                self.request(now, Request::Bind(peer));
            }
        }
        for peer in permissions {
            if self.relayed.for_peer(&peer.ip()).is_some() {
                self.request(now, Request::Permission(peer));
            } else {
                self.permission_refused(now, peer, 443);
            }
        }
    }

    /// LIFETIME of a response; a server that leaves it out means the default.
    fn lives_for(&mut self, now: Instant, lifetime: Option<Duration>) {
        let lifetime = lifetime
            .unwrap_or(Duration::from_secs(600))
            .clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600));
        self.refresh = now + refresh_after(lifetime);
        self.expires = now + lifetime;
    }

    fn refused(&mut self, now: Instant, code: u16, pending: &Pending, message: &Message<'_>) {
        if self.state == State::Closing {
            return self.end(Event::Closed);
        }
        match (pending.request, code) {
            (Request::Allocate { .. }, 300) => self.redirected(message),
            (Request::Allocate { families, .. }, 405) if pending.retries < MAX_RETRIES => {
                self.retry_allocate(now, pending, families, false);
            }
            (
                Request::Allocate {
                    families: Families::Dual,
                    mobility,
                },
                440,
            ) => self.retry_allocate(now, pending, Families::V4, mobility),
            (Request::Allocate { .. }, 437) => {
                self.need_path(self.path.remote, None, NewPathReason::PortInUse);
            }
            (Request::Refresh { .. }, 437) => {
                self.need_path(self.path.remote, None, NewPathReason::AllocationLost);
            }
            (Request::Allocate { .. } | Request::Refresh { .. }, 441) => {
                self.fail(Failure::Unauthorized);
            }
            (Request::Allocate { .. } | Request::Refresh { .. }, _) => {
                let reason = message.get::<ErrorCode<'_>>().map_or("", |e| e.reason);
                self.fail(Failure::Refused {
                    code,
                    reason: reason.to_owned(),
                });
            }
            (Request::Move, _) => self.events.push_back(Event::MoveFailed { code }),
            // The server has no allocation: the next Refresh would say the same.
            (Request::Permission(_) | Request::Bind(_), 437) => {
                self.need_path(self.path.remote, None, NewPathReason::AllocationLost);
            }
            (Request::Permission(peer), _) => self.permission_refused(now, peer, code),
            (Request::Bind(peer), _) => self.bind_refused(now, peer, code),
        }
    }

    fn retry_allocate(
        &mut self,
        now: Instant,
        pending: &Pending,
        families: Families,
        mobility: bool,
    ) {
        let request = Request::Allocate { families, mobility };
        let retry = self.make(now, request, pending.path, pending.retries + 1);
        self.pending.push(retry);
    }

    /// 300 (RFC 8489 section 10).
    fn redirected(&mut self, message: &Message<'_>) {
        let Some(AlternateServer(server)) = message.get() else {
            return self.fail(Failure::Malformed);
        };
        if self.servers.contains(&server) {
            return self.fail(Failure::TooManyPaths);
        }
        self.servers.push(server);
        let domain = message
            .get::<AlternateDomain<'_>>()
            .map(|domain| domain.0.to_owned());
        self.need_path(server, domain, NewPathReason::Redirected);
    }

    fn permission_granted(&mut self, now: Instant, peer: SocketAddr) {
        if let Some(permission) = self.peers.permissions.get_mut(&peer.ip()) {
            let is_new = !permission.standing.is_granted();
            permission.standing = Standing::granted(now);
            if is_new {
                self.events.push_back(Event::PermissionGranted(peer.ip()));
            }
        }
    }

    pub(super) fn permission_refused(&mut self, now: Instant, peer: SocketAddr, code: u16) {
        let Some(permission) = self.peers.permissions.get_mut(&peer.ip()) else {
            return;
        };
        match permission.standing {
            // Nobody answered the refresh: there is time for another.
            Standing::Granted { expires, .. } if code == 0 && now < expires => {
                self.request(now, Request::Permission(peer));
            }
            _ => {
                permission.standing = Standing::Denied;
                self.events.push_back(Event::PermissionDenied {
                    peer: peer.ip(),
                    code,
                });
            }
        }
    }

    /// No channel: data goes on in Send indications, for which a permission is enough.
    pub(super) fn bind_refused(&mut self, now: Instant, peer: SocketAddr, code: u16) {
        let Some(binding) = self.peers.binding_mut(&peer) else {
            return;
        };
        binding.standing = Standing::Denied;
        if code == 403 || code == 443 || code == 0 {
            self.permission_refused(now, peer, code);
        } else {
            self.request(now, Request::Permission(peer));
        }
    }
}

fn ticket(message: &Message<'_>) -> Option<Vec<u8>> {
    message
        .get::<MobilityTicket<'_>>()
        .filter(|ticket| (1..=MAX_TICKET).contains(&ticket.0.len()))
        .map(|ticket| ticket.0.to_vec())
}
