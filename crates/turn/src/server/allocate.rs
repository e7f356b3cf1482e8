//! Allocate (RFC 8656 section 7.2): the checks in their order, the ports, the sockets.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::Path;
use visavis_stun::attributes::{
    AdditionalAddressFamily, AddressErrorCode, AddressFamily, AlternateServer, ErrorCode, EvenPort,
    Lifetime, MobilityTicket, RequestedAddressFamily, RequestedTransport, ReservationToken,
    XorMappedAddress, XorRelayedAddress,
};
use visavis_stun::{AttributeType, Class, Message, MessageBuilder, Method};

use super::allocation::{Allocation, AllocationId, Relay};
use super::auth::User;
use super::event::{Command, EndReason, Event, RelayKind};
use super::limiter::Bucket;
use super::mobility::Mobility;
use super::quota::Meter;
use super::tcp::TcpRelay;
use super::worker::{Server, source_of};

/// How long a reserved port is held (RFC 8656 section 7.2: at least 30 seconds).
const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);
/// How many ports are tried when the driver cannot bind one: where half of them are taken by others, one Allocate in 65,536 fails.
const MAX_ATTEMPTS: u32 = 16;

/// A port that waits for whoever brings the token.
#[derive(Debug)]
pub(super) struct Reservation {
    token: [u8; 8],
    /// Whose: a token is no use to others.
    username: Box<str>,
    realm: usize,
    address: usize,
    port: u16,
    pub(super) expires: Instant,
}

/// What an Allocate request asks for.
struct Wanted {
    v4: bool,
    v6: bool,
    /// The second family may be missing.
    dual: bool,
    even: bool,
    pair: bool,
}

impl Server {
    pub(super) fn handle_allocate(
        &mut self,
        now: Instant,
        from: Path,
        message: &Message<'_>,
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        if let Some(allocation) = self.allocation_of(from) {
            let is_repetition = allocation.transaction == message.transaction()
                && allocation.username == user.name
                && allocation.realm == user.realm;
            if !is_repetition {
                return Err(ErrorCode::ALLOCATION_MISMATCH);
            }
            // While the sockets are being opened the answer is on its way already.
            if !allocation.opening {
                let id = allocation.id;
                self.announce(now, id);
            }
            return Ok(());
        }
        let transport = required(message.try_get::<RequestedTransport>())?;
        let is_tcp = transport == RequestedTransport::TCP && self.config.tcp_relay;
        if transport != RequestedTransport::UDP && !is_tcp {
            return Err(ErrorCode::UNSUPPORTED_TRANSPORT);
        }
        // RFC 6062 section 5.1: no TCP allocation over UDP, and none of what has no meaning for TCP.
        let udp_only = [
            AttributeType::EVEN_PORT,
            AttributeType::RESERVATION_TOKEN,
            AttributeType::DONT_FRAGMENT,
        ];
        if is_tcp && (!from.protocol.is_stream() || udp_only.iter().any(|&kind| message.has(kind)))
        {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let wanted = wanted(message)?;
        let reservation = self.reservation(message, user)?;
        let ticket = optional(message.try_get::<MobilityTicket<'_>>())?;
        if let Some(ticket) = ticket {
            if !ticket.0.is_empty() {
                return Err(ErrorCode::BAD_REQUEST);
            }
            if !self.config.mobility {
                return Err(ErrorCode::MOBILITY_FORBIDDEN);
            }
        }
        // Read before anything is taken that an error would have to give back.
        let lifetime = self.lifetime(optional(message.try_get())?, user);
        if self.draining {
            return self.send_away(from, message, user);
        }
        self.check_quota(from, user)?;
        let source = source_of(from.remote.ip());
        let owner = (user.realm, user.owner());

        let (relays, missing_v6, token) = match reservation {
            Some(index) => {
                let reservation = self.reservations.swap_remove(index);
                let relay = self.relay(reservation.address, reservation.port);
                let mut relays = [None; 2];
                relays[usize::from(relay.bind.is_ipv6())] = Some(relay);
                (relays, None, None)
            }
            None => match self.choose(now, &wanted, user) {
                Ok(chosen) => chosen,
                Err(code) => {
                    if let Some(quota) = &self.config.quota {
                        quota.release(&owner, source);
                    }
                    return Err(code);
                }
            },
        };
        let limits = &self.config.limits;
        let expires = now + lifetime;
        let user_index = self.users.add(now, owner, &limits.user_rate);
        let source_index = self.sources.add(now, source, &limits.address_rate);
        let meter = Meter::new(now, &limits.allocation_rate);
        let new_permissions = Bucket::new(now, limits.permissions as f64);
        let worker = self.config.worker;
        let mobility = ticket.map(|_| Box::new(Mobility::new(worker, &mut self.random)));
        let id = self.table.insert(|id| Allocation {
            id,
            path: from,
            username: user.name.clone(),
            realm: user.realm,
            signer: user.signer.clone(),
            transaction: message.transaction(),
            fingerprint: message.has_fingerprint(),
            relays,
            missing_v6,
            opening: true,
            expires,
            permissions: Vec::new(),
            channels: Vec::new(),
            last_peer: 0,
            new_permissions,
            reservation: token,
            mobility,
            tcp: is_tcp.then(|| Box::new(TcpRelay::default())),
            user: user_index,
            source: source_index,
            meter,
            bytes_to_peers: 0,
            bytes_to_client: 0,
        });
        self.by_path.insert(from, id);
        self.expiries.push(Reverse((expires, id)));
        if let Some(mobility) = self.table.get(id).and_then(|a| a.mobility.as_deref()) {
            self.tickets.insert(*mobility.ticket(), id);
        }
        let kind = if is_tcp {
            RelayKind::Tcp
        } else {
            RelayKind::Udp
        };
        for relay in relays.into_iter().flatten() {
            self.ports[relay.address].assign(relay.bind.port(), id.index());
            let relay = relay.bind;
            self.commands.push_back(Command::OpenRelay { relay, kind });
        }
        Ok(())
    }

    /// The driver bound a relay socket, or could not: then another port is tried.
    pub fn relay_opened(&mut self, now: Instant, relay: SocketAddr, opened: bool) {
        let Some(id) = self.allocation_at(relay) else {
            return;
        };
        let Some(allocation) = self.table.get_mut(id) else {
            return;
        };
        let kind = if allocation.tcp.is_some() {
            RelayKind::Tcp
        } else {
            RelayKind::Udp
        };
        let Some(slot) = allocation.relays[usize::from(relay.is_ipv6())].as_mut() else {
            return;
        };
        if slot.bind != relay || slot.open {
            return;
        }
        if opened {
            slot.open = true;
            if let Some(pool) = &self.config.pool {
                pool.set(slot.external, Some(kind));
            }
            if allocation.opening && allocation.relays().all(|relay| relay.open) {
                allocation.opening = false;
                self.stats.allocations += 1;
                self.announce(now, id);
                if let Some(allocation) = self.table.get(id) {
                    let info = self.info(now, allocation);
                    self.event(Event::Allocated(info));
                }
            }
            return;
        }
        // Somebody else on this host has the port: it stays out of the pool until this allocation has another.
        let (address, attempts) = (slot.address, slot.attempts + 1);
        let even = allocation.reservation.is_some();
        let another = (attempts < MAX_ATTEMPTS && !even)
            .then(|| {
                self.ports[address].take(&mut self.random, relay.port().is_multiple_of(2), false)
            })
            .flatten();
        self.ports[address].release(relay.port());
        let Some(port) = another else {
            return self.give_up(now, id);
        };
        let mut fresh = self.relay(address, port);
        fresh.attempts = attempts;
        self.ports[address].assign(port, id.index());
        if let Some(allocation) = self.table.get_mut(id) {
            allocation.relays[usize::from(relay.is_ipv6())] = Some(fresh);
        }
        let relay = fresh.bind;
        self.commands.push_back(Command::OpenRelay { relay, kind });
    }

    /// Which allocation has a relay socket.
    pub(super) fn allocation_at(&self, relay: SocketAddr) -> Option<AllocationId> {
        let address = self.relay_index(relay, false)?;
        let index = self.ports[address].owner(relay.port())?;
        self.table.at(index).map(|allocation| allocation.id)
    }

    /// Reserved ports whose time is over.
    pub(super) fn expire_reservations(&mut self, now: Instant) {
        let ports = &mut self.ports;
        self.reservations.retain(|reservation| {
            let lives = reservation.expires > now;
            if !lives {
                ports[reservation.address].release(reservation.port);
            }
            lives
        });
    }

    /// How long an allocation lives (RFC 8656 sections 7.2 and 8.2); zero stays zero.
    pub(super) fn lifetime(&self, asked: Option<Lifetime>, user: &User) -> Duration {
        let asked = asked.map_or(Duration::ZERO, |asked| Duration::from_secs(asked.0.into()));
        asked
            .min(self.config.max_lifetime)
            .max(self.config.default_lifetime)
            .min(user.longest.unwrap_or(Duration::MAX))
    }

    fn check_quota(&mut self, from: Path, user: &User) -> Result<(), ErrorCode<'static>> {
        let limits = &self.config.limits;
        let owner = (user.realm, user.owner());
        let source = source_of(from.remote.ip());
        let refusal = if self.users.allocations(&owner) >= limits.allocations_per_user
            || self.sources.allocations(&source) >= limits.allocations_per_address
        {
            ErrorCode::ALLOCATION_QUOTA_REACHED
        } else if self.table.len() >= limits.allocations {
            ErrorCode::INSUFFICIENT_CAPACITY
        } else {
            let shared = self.config.quota.as_ref();
            match shared.map(|quota| quota.reserve(&owner, source, limits)) {
                Some(Err(refusal)) => refusal,
                _ => return Ok(()),
            }
        };
        self.stats.over_quota += 1;
        Err(refusal)
    }

    fn send_away(
        &mut self,
        from: Path,
        message: &Message<'_>,
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        let same_family = |server: &&SocketAddr| server.is_ipv4() == from.remote.is_ipv4();
        let servers: Vec<_> = self
            .config
            .alternate_servers
            .iter()
            .filter(same_family)
            .copied()
            .collect();
        let choice = self.random.below(servers.len() as u64) as usize;
        let Some(&server) = servers.get(choice) else {
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        };
        self.stats.errors += 1;
        self.answer(from, message, Class::Error, Some(&user.signer), |builder| {
            builder
                .add(&ErrorCode::TRY_ALTERNATE)
                .add(&AlternateServer(server));
        });
        Ok(())
    }

    /// The reservation that a request's token names.
    fn reservation(
        &self,
        message: &Message<'_>,
        user: &User,
    ) -> Result<Option<usize>, ErrorCode<'static>> {
        let Some(ReservationToken(token)) = optional(message.try_get())? else {
            return Ok(None);
        };
        self.reservations
            .iter()
            .position(|reservation| {
                reservation.token == token
                    && reservation.username == user.name
                    && reservation.realm == user.realm
            })
            .map(Some)
            .ok_or(ErrorCode::INSUFFICIENT_CAPACITY)
    }

    /// Takes the ports that are wanted.
    #[allow(
        clippy::type_complexity,
        reason = "three parts of one decision, taken apart at once"
    )]
    fn choose(
        &mut self,
        now: Instant,
        wanted: &Wanted,
        user: &User,
    ) -> Result<([Option<Relay>; 2], Option<u16>, Option<[u8; 8]>), ErrorCode<'static>> {
        if wanted.pair && self.reservations.len() >= self.config.limits.reservations {
            self.stats.over_quota += 1;
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        let v4 = wanted
            .v4
            .then(|| self.take(false, wanted.even, wanted.pair));
        let v6 = wanted.v6.then(|| self.take(true, wanted.even, wanted.pair));
        let (v4, v6, missing) = match (v4, v6) {
            (Some(Ok(v4)), Some(Err(code))) if wanted.dual => (Some(v4), None, Some(code.code)),
            (Some(Ok(v4)), Some(Ok(v6))) => (Some(v4), Some(v6), None),
            (Some(Ok(v4)), None) => (Some(v4), None, None),
            (None, Some(Ok(v6))) => (None, Some(v6), None),
            (Some(Err(code)), v6) => {
                if let Some(Ok(v6)) = v6 {
                    self.ports[v6.address].release(v6.bind.port());
                }
                self.stats.over_quota += u64::from(code.code == 508);
                return Err(code);
            }
            (_, Some(Err(code))) => {
                self.stats.over_quota += u64::from(code.code == 508);
                return Err(code);
            }
            (None, None) => return Err(ErrorCode::BAD_REQUEST),
        };
        let token = wanted.pair.then(|| {
            let mut token = self.random.bytes::<8>();
            token[0] = self.config.worker;
            token
        });
        if let (Some(token), Some(relay)) = (token, v4.or(v6)) {
            self.reservations.push(Reservation {
                token,
                username: user.name.clone(),
                realm: user.realm,
                address: relay.address,
                port: relay.bind.port() + 1,
                expires: now + RESERVATION_LIFETIME,
            });
        }
        Ok(([v4, v6], missing, token))
    }

    /// Takes a port on the address of a family that has the most to give.
    fn take(&mut self, v6: bool, even: bool, pair: bool) -> Result<Relay, ErrorCode<'static>> {
        let of_family = |(ip, _): &(IpAddr, IpAddr)| ip.is_ipv6() == v6;
        let best = (0..self.relay_ips.len())
            .filter(|&index| of_family(&self.relay_ips[index]))
            .max_by_key(|&index| self.ports[index].free());
        let index = best.ok_or(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED)?;
        let port = self.ports[index]
            .take(&mut self.random, even, pair)
            .ok_or(ErrorCode::INSUFFICIENT_CAPACITY)?;
        Ok(self.relay(index, port))
    }

    fn relay(&self, address: usize, port: u16) -> Relay {
        let (bind, external) = self.relay_ips[address];
        Relay {
            address,
            bind: SocketAddr::new(bind, port),
            external: SocketAddr::new(external, port),
            open: false,
            attempts: 0,
        }
    }

    /// Tells the client of its allocation: at first, and again where it repeats the request.
    fn announce(&mut self, now: Instant, id: AllocationId) {
        let Some(allocation) = self.table.get(id) else {
            return;
        };
        self.stats.successes += 1;
        let software = self.config.software.as_deref();
        let limit = self.config.limits.waiting_reply_bytes;
        let pushed = self.replies.push(limit, allocation.path, |buffer| {
            let mut builder = MessageBuilder::new(
                buffer,
                Class::Success,
                Method::ALLOCATE,
                allocation.transaction,
            );
            for relay in allocation.relays() {
                builder.add(&XorRelayedAddress(relay.external));
            }
            let lifetime = allocation.expires.saturating_duration_since(now).as_secs();
            builder
                .add(&XorMappedAddress(allocation.path.remote))
                .add(&Lifetime(lifetime as u32));
            if let Some(code) = allocation.missing_v6 {
                builder.add(&AddressErrorCode {
                    family: AddressFamily::V6,
                    code,
                    reason: "",
                });
            }
            if let Some(token) = allocation.reservation {
                builder.add(&ReservationToken(token));
            }
            if let Some(mobility) = &allocation.mobility {
                builder.add(&MobilityTicket(mobility.ticket()));
            }
            if let Some(software) = software {
                builder.add(&visavis_stun::attributes::Software(software));
            }
            allocation.signer.sign(&mut builder);
            if allocation.fingerprint {
                builder.fingerprint();
            }
            builder.finish()
        });
        self.stats.replies_dropped += u64::from(!pushed);
    }

    /// No socket to be had: 508 in place of the success that the client waits for.
    fn give_up(&mut self, now: Instant, id: AllocationId) {
        if let Some(allocation) = self.table.get(id) {
            self.stats.errors += 1;
            let limit = self.config.limits.waiting_reply_bytes;
            let pushed = self.replies.push(limit, allocation.path, |buffer| {
                let mut builder = MessageBuilder::new(
                    buffer,
                    Class::Error,
                    Method::ALLOCATE,
                    allocation.transaction,
                );
                builder.add(&ErrorCode::INSUFFICIENT_CAPACITY);
                allocation.signer.sign(&mut builder);
                builder.finish()
            });
            self.stats.replies_dropped += u64::from(!pushed);
        }
        self.remove(now, id, EndReason::NoSocket);
    }
}

/// The address family and port attributes, and which of them exclude each other (steps 5 to 9).
fn wanted(message: &Message<'_>) -> Result<Wanted, ErrorCode<'static>> {
    let requested = optional(message.try_get::<RequestedAddressFamily>())?;
    let additional = optional(message.try_get::<AdditionalAddressFamily>())?;
    let even = optional(message.try_get::<EvenPort>())?;
    let pair = even.is_some_and(|even| even.reserve_next);
    let has_token = message.has(AttributeType::RESERVATION_TOKEN);
    let conflict = has_token && (requested.is_some() || additional.is_some() || even.is_some())
        || requested.is_some() && additional.is_some()
        || pair && additional.is_some()
        || additional.is_some_and(|additional| additional.family() == Some(AddressFamily::V4));
    if conflict {
        return Err(ErrorCode::BAD_REQUEST);
    }
    let unknown = requested.is_some_and(|family| family.family().is_none())
        || additional.is_some_and(|family| family.family().is_none());
    if unknown {
        return Err(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
    }
    let v6 = requested.and_then(RequestedAddressFamily::family) == Some(AddressFamily::V6);
    Ok(Wanted {
        v4: !v6,
        v6: v6 || additional.is_some(),
        dual: additional.is_some(),
        even: even.is_some(),
        pair,
    })
}

/// An attribute that may be absent, but not malformed.
pub(super) fn optional<A>(
    attribute: Result<Option<A>, visavis_stun::MalformedAttribute>,
) -> Result<Option<A>, ErrorCode<'static>> {
    attribute.map_err(|_| ErrorCode::BAD_REQUEST)
}

/// An attribute that has to be there.
pub(super) fn required<A>(
    attribute: Result<Option<A>, visavis_stun::MalformedAttribute>,
) -> Result<A, ErrorCode<'static>> {
    optional(attribute)?.ok_or(ErrorCode::BAD_REQUEST)
}
