//! Whom the allocation may talk to: permissions by IP address, channels by address and port
//! (RFC 8656 sections 9 and 12).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_stun::ChannelNumber;

use crate::hash::Seed;

/// A permission lives 300 s (RFC 8656 section 9). It is refreshed this long after it was given, and a
/// channel with it, for ChannelBind renews both.
pub(super) const REFRESH_AFTER: Duration = Duration::from_secs(240);

/// How long a permission lives.
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// A channel lives 600 s (section 12), and its number rests for 300 s before it means another peer.
const CHANNEL_REST: Duration = Duration::from_secs(600 + 300);

/// How far the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Asked for, or to be asked for once there is an allocation.
    Wanted,
    /// Given; ask again at this time.
    Granted { refresh: Instant, expires: Instant },
    /// Refused.
    Denied,
}

impl Standing {
    pub(super) fn granted(now: Instant) -> Self {
        Self::Granted {
            refresh: now + REFRESH_AFTER,
            expires: now + PERMISSION_LIFETIME,
        }
    }

    pub(super) fn refresh_at(&self) -> Option<Instant> {
        match self {
            Self::Granted { refresh, .. } => Some(*refresh),
            _ => None,
        }
    }

    pub(super) fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }
}

#[derive(Debug)]
pub(super) struct Permission {
    /// An address with the IP; the server ignores the port.
    pub(super) peer: SocketAddr,
    pub(super) standing: Standing,
}

#[derive(Debug)]
pub(super) struct Binding {
    pub(super) peer: SocketAddr,
    pub(super) channel: ChannelNumber,
    pub(super) standing: Standing,
    /// Set: nobody wants the channel any more, and its number is free from then on.
    pub(super) retired: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    /// In an order that a seed repeats.
    pub(super) permissions: BTreeMap<IpAddr, Permission>,
    /// By channel number, counted from 0x4000.
    pub(super) bindings: Vec<Binding>,
    by_peer: HashMap<SocketAddr, usize, Seed>,
}

impl Peers {
    /// How many permissions and channels there are.
    pub(super) fn len(&self) -> usize {
        self.permissions.len().max(self.by_peer.len())
    }

    pub(super) fn binding(&self, peer: &SocketAddr) -> Option<&Binding> {
        self.bindings.get(*self.by_peer.get(peer)?)
    }

    pub(super) fn binding_mut(&mut self, peer: &SocketAddr) -> Option<&mut Binding> {
        self.bindings.get_mut(*self.by_peer.get(peer)?)
    }

    pub(super) fn by_channel(&self, channel: ChannelNumber) -> Option<&Binding> {
        let index = channel.number() - ChannelNumber::MIN.number();
        self.bindings.get(usize::from(index))
    }

    /// Gives a peer a channel number: one that rested, or the next. False if all are taken.
    pub(super) fn add_binding(&mut self, now: Instant, peer: SocketAddr) -> bool {
        let free = self
            .bindings
            .iter()
            .position(|binding| binding.retired.is_some_and(|until| until <= now));
        let index = free.unwrap_or(self.bindings.len());
        let number = u16::try_from(index)
            .ok()
            .and_then(|index| ChannelNumber::new(ChannelNumber::MIN.number().checked_add(index)?));
        let Some(channel) = number else {
            return false;
        };
        let binding = Binding {
            peer,
            channel,
            standing: Standing::Wanted,
            retired: None,
        };
        match self.bindings.get_mut(index) {
            Some(slot) => *slot = binding,
            None => self.bindings.push(binding),
        }
        self.by_peer.insert(peer, index);
        true
    }

    /// Stops refreshing whatever an IP address has.
    pub(super) fn forget(&mut self, now: Instant, ip: &IpAddr) {
        self.permissions.remove(ip);
        for binding in &mut self.bindings {
            if binding.peer.ip() == *ip && binding.retired.is_none() {
                binding.retired = Some(now + CHANNEL_REST);
                self.by_peer.remove(&binding.peer);
            }
        }
    }

    /// A new allocation knows nobody: all is to be asked for again, and no number has to rest.
    pub(super) fn reset(&mut self) {
        for permission in self.permissions.values_mut() {
            permission.standing = Standing::Wanted;
        }
        let peers: Vec<_> = self
            .bindings
            .drain(..)
            .filter(|binding| binding.retired.is_none())
            .map(|binding| binding.peer)
            .collect();
        self.by_peer.clear();
        for (index, peer) in peers.into_iter().enumerate() {
            // No more than there were.
            let number = ChannelNumber::MIN.number() + index as u16;
            if let Some(channel) = ChannelNumber::new(number) {
                self.bindings.push(Binding {
                    peer,
                    channel,
                    standing: Standing::Wanted,
                    retired: None,
                });
                self.by_peer.insert(peer, index);
            }
        }
    }
}
