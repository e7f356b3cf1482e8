//! The client itself: its doors, and what it has under way.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_stun::attributes::{
    AdditionalAddressFamily, AddressFamily, Channel, Lifetime, MobilityTicket,
    RequestedAddressFamily, RequestedTransport, Software, XorPeerAddress,
};
use visavis_stun::{
    Class, MessageBuilder, Method, Transaction, TransactionId, TransactionStep, TransactionTimers,
};

use super::auth::Challenge;
use super::config::{ClientConfig, Families};
use super::event::{Error, Event, Failure, NewPathReason, Relayed};
use super::peers::{Peers, Permission, Standing};

/// How many events wait for the owner; beyond that ICMP events are dropped. All others are bounded by
/// what the owner asked for.
pub(super) const MAX_WAITING_EVENTS: usize = 256;

/// What a client counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ClientStats {
    /// Datagrams from the server that are neither a STUN message nor ChannelData of ours.
    pub malformed: u64,
    /// Responses to no request of ours.
    pub unknown_responses: u64,
    /// Responses that failed the integrity check, or should have had one.
    pub integrity_failures: u64,
    /// Data from peers without permission, or on channels that nobody bound.
    pub unexpected_data: u64,
    /// Requests sent, repetitions included.
    pub requests_sent: u64,
    /// Responses with 438.
    pub stale_nonces: u64,
    /// Payload bytes sent to peers.
    pub bytes_sent: u64,
    /// Payload bytes received from peers.
    pub bytes_received: u64,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Allocate {
        families: Families,
        mobility: bool,
    },
    /// Lifetime in seconds; 0 gives the allocation back.
    Refresh {
        lifetime: u32,
    },
    Move,
    Permission(SocketAddr),
    Bind(SocketAddr),
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) transaction: Transaction,
    pub(super) path: Path,
    /// Which challenge it is signed for: see [`Client::generation`]. 0 is unsigned.
    pub(super) generation: u32,
    /// How often 401 or 438 made it anew.
    pub(super) retries: u32,
    /// An answer came that failed the integrity check.
    pub(super) violated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Allocating,
    Allocated,
    /// Waits for [`Client::reconnect`].
    NeedsPath,
    /// Waits for the answer to the last Refresh.
    Closing,
    Over,
}

/// One allocation on one server. See the [module](crate::client).
#[derive(Debug)]
pub struct Client {
    pub(super) config: ClientConfig,
    pub(super) random: Random,
    pub(super) path: Path,
    /// The path before the allocation moved, until the server uses the new one.
    pub(super) old_path: Option<Path>,
    pub(super) state: State,
    pub(super) challenge: Option<Challenge>,
    /// Counts challenges: 1 is the first.
    pub(super) generation: u32,
    pub(super) pending: Vec<Pending>,
    pub(super) peers: Peers,
    pub(super) relayed: Relayed,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) ticket: Option<Vec<u8>>,
    /// When to refresh the allocation, and when the server lets it go.
    pub(super) refresh: Instant,
    pub(super) expires: Instant,
    /// Servers that were asked before (loop guard).
    pub(super) servers: Vec<SocketAddr>,
    pub(super) new_paths: u32,
    pub(super) events: VecDeque<Event>,
    pub(super) deadline: Option<Instant>,
    pub(super) stats: ClientStats,
}

impl Client {
    /// A client that asks the server at `path.remote` for an allocation at once.
    pub fn new(now: Instant, path: Path, config: ClientConfig, random: Random) -> Self {
        let mut client = Self {
            random,
            path,
            old_path: None,
            state: State::Allocating,
            challenge: None,
            generation: 0,
            pending: Vec::new(),
            peers: Peers::default(),
            relayed: Relayed::default(),
            mapped: None,
            ticket: None,
            refresh: now,
            expires: now,
            servers: vec![path.remote],
            new_paths: 0,
            events: VecDeque::new(),
            deadline: None,
            stats: ClientStats::default(),
            config,
        };
        client.allocate(now, client.config.families, client.config.mobility);
        client.reschedule();
        client
    }

    /// The path to the server.
    pub fn path(&self) -> Path {
        self.path
    }

    /// The relayed addresses; none before [`Event::Allocated`].
    pub fn relayed(&self) -> Relayed {
        self.relayed
    }

    /// The client as the server sees it.
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// Whether there is an allocation to send through.
    pub fn is_allocated(&self) -> bool {
        self.state == State::Allocated
    }

    /// Whether nothing happens any more: after [`Event::Failed`] or [`Event::Closed`].
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether data to the peer travels as ChannelData.
    pub fn is_bound(&self, peer: SocketAddr) -> bool {
        self.peers
            .binding(&peer)
            .is_some_and(|binding| binding.standing.is_granted())
    }

    /// What the client counted.
    pub fn stats(&self) -> ClientStats {
        self.stats
    }

    /// Lets a peer's IP address send to the relayed address (RFC 8656 section 10), now or as soon as there is an
    /// allocation, and for as long as nobody [forgets](Self::forget) it.
    ///
    /// # Errors
    /// If the client is over, the peer's family has no relayed address, or there are too many peers.
    pub fn permit(&mut self, now: Instant, peer: SocketAddr) -> Result<(), Error> {
        self.may_add(peer)?;
        if let Some(permission) = self.peers.permissions.get(&peer.ip()) {
            if permission.standing != Standing::Denied {
                return Ok(());
            }
        } else if self.peers.len() >= self.config.max_peers {
            return Err(Error::TooManyPeers);
        }
        let permission = Permission {
            peer,
            standing: Standing::Wanted,
        };
        self.peers.permissions.insert(peer.ip(), permission);
        if self.state == State::Allocated {
            self.request(now, Request::Permission(peer));
            self.reschedule();
        }
        Ok(())
    }

    /// Gives a peer a channel (RFC 8656 section 12), which is a permission too. Data travels in Send
    /// indications until it is up.
    ///
    /// # Errors
    /// As [`permit`](Self::permit).
    pub fn bind(&mut self, now: Instant, peer: SocketAddr) -> Result<(), Error> {
        self.may_add(peer)?;
        if let Some(binding) = self.peers.binding_mut(&peer) {
            if binding.standing != Standing::Denied {
                return Ok(());
            }
            binding.standing = Standing::Wanted;
        } else if self.peers.len() >= self.config.max_peers || !self.peers.add_binding(now, peer) {
            return Err(Error::TooManyPeers);
        }
        self.peers
            .permissions
            .entry(peer.ip())
            .or_insert(Permission {
                peer,
                standing: Standing::Wanted,
            });
        if self.state == State::Allocated {
            self.request(now, Request::Bind(peer));
            self.reschedule();
        }
        Ok(())
    }

    /// Lets the permission and the channels of an IP address lapse.
    pub fn forget(&mut self, now: Instant, peer: IpAddr) {
        self.peers.forget(now, &peer);
        self.pending.retain(|pending| match pending.request {
            Request::Permission(address) | Request::Bind(address) => address.ip() != peer,
            _ => true,
        });
        self.reschedule();
    }

    /// Answers [`Event::NewPathNeeded`]: asks for an allocation over another path.
    pub fn reconnect(&mut self, now: Instant, path: Path) {
        if matches!(self.state, State::Over | State::Closing) {
            return;
        }
        if path.remote != self.path.remote {
            // Another server, another realm and nonce.
            self.challenge = None;
            self.generation = 0;
        }
        self.path = path;
        self.old_path = None;
        self.relayed = Relayed::default();
        self.ticket = None;
        self.pending.clear();
        self.peers.reset();
        self.state = State::Allocating;
        self.allocate(now, self.config.families, self.config.mobility);
        self.reschedule();
    }

    /// Whether [`move_to`](Self::move_to) is possible: there is an allocation, and the server gave a ticket.
    pub fn can_move(&self) -> bool {
        self.state == State::Allocated && self.ticket.is_some()
    }

    /// Moves the allocation to another path to the same server (RFC 8016), for when the client's address
    /// changes. Data travels on the old path until [`Event::Moved`].
    ///
    /// # Errors
    /// If there is no allocation, or the server gave no ticket: make a new client instead.
    pub fn move_to(&mut self, now: Instant, path: Path) -> Result<(), Error> {
        if self.state != State::Allocated {
            return Err(Error::NotAllocated);
        }
        if self.ticket.is_none() {
            return Err(Error::NoTicket);
        }
        self.pending
            .retain(|pending| pending.request != Request::Move);
        self.request_on(now, Request::Move, path);
        self.reschedule();
        Ok(())
    }

    /// Asks the server whether the allocation stands, by a Refresh at once: for when a NAT may have given the client another
    /// address, as which the server does not know it (437, [`Event::NewPathNeeded`]). Without an allocation nothing happens.
    pub fn confirm(&mut self, now: Instant) {
        if self.state == State::Allocated {
            let lifetime = self.lifetime();
            self.request(now, Request::Refresh { lifetime });
            self.reschedule();
        }
    }

    /// The stream to the server broke, or its socket is gone.
    pub fn path_lost(&mut self, path: Path) {
        match self.state {
            _ if path != self.path => {}
            State::Over | State::NeedsPath => {}
            State::Closing => self.end(Event::Closed),
            State::Allocating | State::Allocated => self.fail(Failure::PathLost),
        }
    }

    /// Gives the allocation back (Refresh with lifetime 0). [`Event::Closed`] follows.
    pub fn close(&mut self, now: Instant) {
        match self.state {
            State::Allocated => {
                self.pending.clear();
                self.state = State::Closing;
                self.request(now, Request::Refresh { lifetime: 0 });
            }
            // The answer may be on its way already: then there is something to give back.
            State::Allocating if self.generation != 0 => self.state = State::Closing,
            State::Allocating | State::NeedsPath => self.end(Event::Closed),
            State::Closing | State::Over => {}
        }
        self.reschedule();
    }

    /// Lets time pass: refreshes, repetitions, requests that nobody answered.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(index) = self
            .pending
            .iter()
            .position(|pending| pending.transaction.due(now) == Some(TransactionStep::TimedOut))
        {
            let pending = self.pending.swap_remove(index);
            self.timed_out(now, &pending);
        }
        if self.state == State::Allocated {
            if now >= self.expires {
                self.fail(Failure::Timeout);
            } else {
                self.refresh_due(now);
            }
        }
        self.reschedule();
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) have to be called again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// The next request that is due, written to `out`, which has to be clear. Data to peers is not
    /// sent here: see [`wrap`](Self::wrap).
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        let index = self
            .pending
            .iter()
            .position(|pending| pending.transaction.due(now) == Some(TransactionStep::Transmit))?;
        if self.pending[index].generation != self.generation {
            // Signed anew, and so another transaction; its timers go on.
            let id = TransactionId::random(&mut self.random);
            let timers = self.timers();
            let pending = &mut self.pending[index];
            pending.generation = self.generation;
            pending.transaction =
                Transaction::new(now, id, timers, pending.path.protocol.is_stream());
        }
        let slot = out.slot()?;
        let written = self.write(&self.pending[index], slot);
        let pending = &mut self.pending[index];
        pending.transaction.poll(now);
        self.stats.requests_sent += 1;
        let path = pending.path;
        self.reschedule();
        out.commit(written?);
        Some(Transmit::new(path, Ecn::NotEct, out.segments()?))
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Writes a request; `None` if it does not fit.
    fn write(&self, pending: &Pending, slot: &mut [u8]) -> Option<usize> {
        let method = match pending.request {
            Request::Allocate { .. } => Method::ALLOCATE,
            Request::Refresh { .. } | Request::Move => Method::REFRESH,
            Request::Permission(_) => Method::CREATE_PERMISSION,
            Request::Bind(_) => Method::CHANNEL_BIND,
        };
        let id = pending.transaction.id();
        let mut builder = MessageBuilder::new(slot, Class::Request, method, id);
        if let Some(software) = &self.config.software {
            builder.add(&Software(software));
        }
        match pending.request {
            Request::Allocate { families, mobility } => {
                builder
                    .add(&RequestedTransport::UDP)
                    .add(&Lifetime(self.lifetime()));
                match families {
                    Families::V4 => {}
                    Families::V6 => {
                        builder.add(&RequestedAddressFamily::new(AddressFamily::V6));
                    }
                    Families::Dual => {
                        builder.add(&AdditionalAddressFamily::new(AddressFamily::V6));
                    }
                }
                if mobility {
                    builder.add(&MobilityTicket(&[]));
                }
            }
            Request::Refresh { lifetime } => {
                builder.add(&Lifetime(lifetime));
            }
            Request::Move => {
                let ticket = self.ticket.as_deref()?;
                builder
                    .add(&Lifetime(self.lifetime()))
                    .add(&MobilityTicket(ticket));
            }
            Request::Permission(peer) => {
                builder.add(&XorPeerAddress(peer));
            }
            Request::Bind(peer) => {
                let channel = self.peers.binding(&peer)?.channel;
                builder
                    .add(&Channel::new(channel))
                    .add(&XorPeerAddress(peer));
            }
        }
        if let Some(challenge) = self.challenge.as_ref().filter(|_| pending.generation != 0) {
            challenge.sign(&self.config, &mut builder);
        }
        builder.finish().ok()
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.config.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn timers(&self) -> TransactionTimers {
        self.config.timers
    }

    pub(super) fn allocate(&mut self, now: Instant, families: Families, mobility: bool) {
        self.request(now, Request::Allocate { families, mobility });
    }

    /// Starts a request, unless the very same is under way.
    pub(super) fn request(&mut self, now: Instant, request: Request) {
        self.request_on(now, request, self.path);
    }

    fn request_on(&mut self, now: Instant, request: Request, path: Path) {
        if self.pending.iter().any(|other| other.request == request) {
            return;
        }
        let pending = self.make(now, request, path, 0);
        self.pending.push(pending);
    }

    pub(super) fn make(
        &mut self,
        now: Instant,
        request: Request,
        path: Path,
        retries: u32,
    ) -> Pending {
        let id = TransactionId::random(&mut self.random);
        let reliable = path.protocol.is_stream();
        Pending {
            request,
            transaction: Transaction::new(now, id, self.timers(), reliable),
            path,
            generation: self.generation,
            retries,
            violated: false,
        }
    }

    /// Asks again for what is about to lapse.
    fn refresh_due(&mut self, now: Instant) {
        if now >= self.refresh {
            let lifetime = self.lifetime();
            self.request(now, Request::Refresh { lifetime });
        }
        let is_due = |standing: &Standing| standing.refresh_at().is_some_and(|at| at <= now);
        let binds: Vec<_> = self
            .peers
            .bindings
            .iter()
            .filter(|binding| binding.retired.is_none() && is_due(&binding.standing))
            .map(|binding| binding.peer)
            .collect();
        let permissions: Vec<_> = self
            .peers
            .permissions
            .values()
            .filter(|permission| is_due(&permission.standing))
            .map(|permission| permission.peer)
            // ChannelBind renews the permission too.
            .filter(|peer| binds.iter().all(|bound| bound.ip() != peer.ip()))
            .collect();
        for peer in binds {
            self.request(now, Request::Bind(peer));
        }
        for peer in permissions {
            self.request(now, Request::Permission(peer));
        }
    }

    fn timed_out(&mut self, now: Instant, pending: &Pending) {
        match pending.request {
            _ if self.state == State::Closing => self.end(Event::Closed),
            Request::Allocate { .. } => self.fail(if pending.violated {
                Failure::IntegrityViolated
            } else {
                Failure::Timeout
            }),
            // There may be time for another attempt; `handle_timeout` sees when there is none.
            Request::Refresh { lifetime } => self.request(now, Request::Refresh { lifetime }),
            Request::Move => self.events.push_back(Event::MoveFailed { code: 0 }),
            Request::Permission(peer) => self.permission_refused(now, peer, 0),
            Request::Bind(peer) => self.bind_refused(now, peer, 0),
        }
    }

    /// Whether a peer may be added at all.
    fn may_add(&self, peer: SocketAddr) -> Result<(), Error> {
        match self.state {
            State::Over | State::Closing => Err(Error::NotAllocated),
            State::Allocated if self.relayed.for_peer(&peer.ip()).is_none() => {
                Err(Error::WrongFamily)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn need_path(
        &mut self,
        server: SocketAddr,
        domain: Option<String>,
        reason: NewPathReason,
    ) {
        self.new_paths += 1;
        if self.new_paths > self.config.max_new_paths {
            return self.fail(Failure::TooManyPaths);
        }
        self.state = State::NeedsPath;
        self.pending.clear();
        self.relayed = Relayed::default();
        self.events.push_back(Event::NewPathNeeded {
            server,
            domain,
            reason,
        });
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.end(Event::Failed(failure));
    }

    pub(super) fn end(&mut self, event: Event) {
        self.state = State::Over;
        self.pending.clear();
        self.peers = Peers::default();
        self.relayed = Relayed::default();
        self.deadline = None;
        self.events.push_back(event);
    }

    /// Computes the next deadline. After every change but data, which moves none.
    pub(super) fn reschedule(&mut self) {
        let requests = self.pending.iter().map(|p| p.transaction.poll_timeout());
        let mut deadline = requests.min();
        if self.state == State::Allocated {
            // What is due and under way already wakes nobody.
            let busy = |request: Request| self.pending.iter().any(|p| p.request == request);
            let lifetime = self.lifetime();
            let refresh = if busy(Request::Refresh { lifetime }) {
                self.expires
            } else {
                self.refresh
            };
            // ChannelBind renews the permission too.
            let renewing = |ip: IpAddr| {
                self.pending.iter().any(|p| match p.request {
                    Request::Permission(peer) | Request::Bind(peer) => peer.ip() == ip,
                    _ => false,
                })
            };
            let permissions = self
                .peers
                .permissions
                .values()
                .filter(|p| !renewing(p.peer.ip()))
                .filter_map(|p| p.standing.refresh_at());
            let bindings = self
                .peers
                .bindings
                .iter()
                .filter(|b| b.retired.is_none() && !busy(Request::Bind(b.peer)))
                .filter_map(|b| b.standing.refresh_at());
            let others = permissions.chain(bindings).chain([refresh]).min();
            deadline = deadline.into_iter().chain(others).min();
        }
        self.deadline = deadline;
    }

    /// A protocol that repeats what gets lost.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.path.protocol, Protocol::Tcp | Protocol::Tls)
    }
}

/// When to refresh what lives for `lifetime`: a minute before the end (RFC 8656 section 8), and earlier
/// where that leaves no time.
pub(super) fn refresh_after(lifetime: Duration) -> Duration {
    lifetime - (lifetime / 3).min(Duration::from_secs(60))
}
