//! One allocation: whose it is, whom it may talk to, and until when.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::Path;
use visavis_stun::{ChannelNumber, TransactionId};

use super::auth::Signer;
use super::config::Limits;
use super::limiter::Bucket;
use super::mobility::Mobility;
use super::quota::Meter;
use super::tcp::TcpRelay;

/// RFC 8656 section 9: "A permission has an expiry of 300 seconds".
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 section 12: "channel bindings last for 10 minutes".
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

/// An allocation's identifier, never used twice by a worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocationId {
    index: u32,
    generation: u32,
}

impl AllocationId {
    pub(super) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(super) const fn index(self) -> u32 {
        self.index
    }
}

impl fmt::Display for AllocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Debug for AllocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One relayed address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relay {
    /// Which of the configured addresses.
    pub(super) address: usize,
    /// What the socket is bound to.
    pub(super) bind: SocketAddr,
    /// What peers see.
    pub(super) external: SocketAddr,
    /// The driver has bound it.
    pub(super) open: bool,
    /// How many ports were tried.
    pub(super) attempts: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Permission {
    pub(super) ip: IpAddr,
    pub(super) expires: Instant,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: ChannelNumber,
    pub(super) peer: SocketAddr,
    pub(super) expires: Instant,
    /// Until when the peer's address has a permission: spares the relay path the search.
    pub(super) permitted: Instant,
}

#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) id: AllocationId,
    pub(super) path: Path,
    pub(super) username: Box<str>,
    pub(super) realm: usize,
    pub(super) signer: Signer,
    /// Of the Allocate request, to know its repetitions.
    pub(super) transaction: TransactionId,
    /// The Allocate request had a FINGERPRINT.
    pub(super) fingerprint: bool,
    /// IPv4 and IPv6.
    pub(super) relays: [Option<Relay>; 2],
    /// Why the second address of a dual allocation is missing: 440 or 508.
    pub(super) missing_v6: Option<u16>,
    /// The answer to Allocate waits for the sockets.
    pub(super) opening: bool,
    pub(super) expires: Instant,
    pub(super) permissions: Vec<Permission>,
    /// By number.
    pub(super) channels: Vec<Channel>,
    /// The channel whose peer sent last.
    pub(super) last_peer: usize,
    pub(super) new_permissions: Bucket,
    pub(super) reservation: Option<[u8; 8]>,
    pub(super) mobility: Option<Box<Mobility>>,
    pub(super) tcp: Option<Box<TcpRelay>>,
    /// Indices of whom it is counted for.
    pub(super) user: u32,
    pub(super) source: u32,
    pub(super) meter: Meter,
    pub(super) bytes_to_peers: u64,
    pub(super) bytes_to_client: u64,
}

impl Allocation {
    /// The relayed address that reaches a peer.
    pub(super) fn relay_for(&self, peer: IpAddr) -> Option<&Relay> {
        self.relays[usize::from(peer.is_ipv6())].as_ref()
    }

    pub(super) fn relays(&self) -> impl Iterator<Item = &Relay> {
        self.relays.iter().flatten()
    }

    pub(super) fn is_permitted(&self, now: Instant, ip: IpAddr) -> bool {
        self.permissions
            .iter()
            .any(|permission| permission.ip == ip && permission.expires > now)
    }

    /// How many of `ips` would be new, and whether there is room for them.
    pub(super) fn has_room(&mut self, now: Instant, ips: &[IpAddr], limits: &Limits) -> bool {
        let mut new = 0;
        for (at, ip) in ips.iter().enumerate() {
            let known = self.is_permitted(now, *ip) || ips[..at].contains(ip);
            new += usize::from(!known);
        }
        if new == 0 {
            return true;
        }
        if self.permissions.len() + new > limits.permissions {
            self.permissions
                .retain(|permission| permission.expires > now);
        }
        self.permissions.len() + new <= limits.permissions
            && self.new_permissions.take(
                now,
                new as f64,
                limits.new_permissions_per_second,
                limits.permissions as f64,
            )
    }

    /// Gives or renews a permission; [`has_room`](Self::has_room) was asked.
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr) {
        let expires = now + PERMISSION_LIFETIME;
        match self.permissions.iter_mut().find(|known| known.ip == ip) {
            Some(permission) => permission.expires = expires,
            None => self.permissions.push(Permission { ip, expires }),
        }
        for channel in &mut self.channels {
            if channel.peer.ip() == ip {
                channel.permitted = expires;
            }
        }
    }

    /// The channel of a number, while it is bound.
    pub(super) fn channel(&self, now: Instant, number: ChannelNumber) -> Option<&Channel> {
        // Clients count up from 0x4000, so the number is nearly always the index.
        let guess = usize::from(number.number() - ChannelNumber::MIN.number());
        let channel = match self.channels.get(guess) {
            Some(channel) if channel.number == number => channel,
            _ => {
                let at = self
                    .channels
                    .binary_search_by_key(&number, |channel| channel.number);
                self.channels.get(at.ok()?)?
            }
        };
        (channel.expires > now).then_some(channel)
    }

    /// The channel of a peer, while it is bound.
    pub(super) fn channel_to(&mut self, now: Instant, peer: SocketAddr) -> Option<&Channel> {
        let is_it = |channel: &Channel| channel.peer == peer && channel.expires > now;
        if !self.channels.get(self.last_peer).is_some_and(is_it) {
            self.last_peer = self.channels.iter().position(is_it)?;
        }
        self.channels.get(self.last_peer)
    }
}
