//! Refresh, CreatePermission, ChannelBind (RFC 8656 sections 8.2, 10.2, 12.2).

use std::cmp::Reverse;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use visavis_datagram::Path;
use visavis_stun::Message;
use visavis_stun::attributes::{
    AddressFamily, Channel as ChannelAttribute, ErrorCode, Lifetime, MobilityTicket,
    RequestedAddressFamily, XorPeerAddress,
};

use super::allocate::{optional, required};
use super::allocation::{CHANNEL_LIFETIME, Channel, PERMISSION_LIFETIME};
use super::auth::User;
use super::event::{EndReason, RelayKind};
use super::worker::Server;

/// How many peers one CreatePermission may name.
const MAX_PEERS: usize = 64;

impl Server {
    pub(super) fn handle_refresh(
        &mut self,
        now: Instant,
        from: Path,
        message: &Message<'_>,
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        if let Some(ticket) = optional(message.try_get::<MobilityTicket<'_>>())? {
            self.move_allocation(now, from, ticket.0, user)?;
        }
        let asked = optional(message.try_get::<Lifetime>())?;
        let lifetime = match asked {
            Some(Lifetime(0)) => Duration::ZERO,
            _ => self.lifetime(asked, user),
        };
        let requested = optional(message.try_get::<RequestedAddressFamily>())?;
        let allocation = self.own_allocation(from, user)?;
        if let Some(requested) = requested {
            let has = |family: AddressFamily| match family {
                AddressFamily::V4 => allocation.relays[0].is_some(),
                AddressFamily::V6 => allocation.relays[1].is_some(),
            };
            if !requested.family().is_some_and(has) {
                return Err(ErrorCode::PEER_FAMILY_MISMATCH);
            }
            // Of a dual allocation one address alone may be given back.
            if lifetime.is_zero() && allocation.relays().count() == 2 {
                let index = usize::from(requested.family() == Some(AddressFamily::V6));
                self.release_family(from, user, index)?;
                self.succeed(from, message, &user.signer, |builder| {
                    builder.add(&Lifetime(0));
                });
                return Ok(());
            }
        }
        let id = allocation.id;
        if lifetime.is_zero() {
            self.remove(now, id, EndReason::Released);
        } else {
            // The entry in `expiries` moves on when it comes up; where the end comes nearer, it needs another.
            let sooner = now + lifetime < allocation.expires;
            allocation.expires = now + lifetime;
            if user.longest.is_some() {
                // A new token has a new key (RFC 7635 section 9).
                allocation.signer = user.signer.clone();
            }
            if sooner {
                self.expiries.push(Reverse((now + lifetime, id)));
            }
        }
        let ticket = self
            .table
            .get(id)
            .and_then(|allocation| allocation.mobility.as_deref())
            .and_then(|mobility| mobility.ticket_for(from))
            .filter(|_| message.has(visavis_stun::AttributeType::MOBILITY_TICKET))
            .copied();
        self.succeed(from, message, &user.signer, |builder| {
            builder.add(&Lifetime(lifetime.as_secs() as u32));
            if let Some(ticket) = &ticket {
                builder.add(&MobilityTicket(ticket));
            }
        });
        Ok(())
    }

    pub(super) fn handle_permission(
        &mut self,
        now: Instant,
        from: Path,
        message: &Message<'_>,
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        self.own_allocation(from, user)?;
        let mut ips = [IpAddr::from([0, 0, 0, 0]); MAX_PEERS];
        let mut count = 0;
        for peer in message.all::<XorPeerAddress>() {
            let peer = peer.ok_or(ErrorCode::BAD_REQUEST)?;
            *ips.get_mut(count).ok_or(ErrorCode::INSUFFICIENT_CAPACITY)? = peer.0.ip();
            count += 1;
        }
        let ips = &ips[..count];
        if ips.is_empty() {
            return Err(ErrorCode::BAD_REQUEST);
        }
        // One bad peer fails the whole request; nothing is given by halves.
        for ip in ips {
            if self.own_allocation(from, user)?.relay_for(*ip).is_none() {
                return Err(ErrorCode::PEER_FAMILY_MISMATCH);
            }
            if !self.config.allows_ip(*ip) {
                self.stats.forbidden_peers += 1;
                return Err(ErrorCode::FORBIDDEN);
            }
        }
        let limits = self.config.limits.clone();
        let allocation = self.own_allocation(from, user)?;
        if !allocation.has_room(now, ips, &limits) {
            self.stats.over_quota += 1;
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        for ip in ips {
            allocation.permit(now, *ip);
        }
        self.succeed(from, message, &user.signer, |_| ());
        Ok(())
    }

    pub(super) fn handle_channel_bind(
        &mut self,
        now: Instant,
        from: Path,
        message: &Message<'_>,
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        let number = required(message.try_get::<ChannelAttribute>())?;
        let number = if self.config.rfc5766_channels {
            number.channel_rfc5766()
        } else {
            number.channel()
        };
        let allocation = self.own_allocation(from, user)?;
        let number = number.ok_or(ErrorCode::BAD_REQUEST)?;
        let XorPeerAddress(peer) = required(message.try_get())?;
        if allocation.tcp.is_some() {
            return Err(ErrorCode::FORBIDDEN);
        }
        if allocation.relay_for(peer.ip()).is_none() {
            return Err(ErrorCode::PEER_FAMILY_MISMATCH);
        }
        if !self.config.allows_peer(peer, RelayKind::Udp) {
            self.stats.forbidden_peers += 1;
            return Err(ErrorCode::FORBIDDEN);
        }
        let limits = self.config.limits.clone();
        let allocation = self.own_allocation(from, user)?;
        let conflict = allocation.channels.iter().any(|channel| {
            channel.expires > now && (channel.number == number) != (channel.peer == peer)
        });
        if conflict {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let known = allocation
            .channels
            .iter()
            .any(|channel| channel.number == number && channel.expires > now);
        if !known {
            // Lapsed ones go: the number, the peer, or a place may be needed.
            allocation.channels.retain(|channel| channel.expires > now);
        }
        let full = !known && allocation.channels.len() >= limits.channels;
        if full || !allocation.has_room(now, &[peer.ip()], &limits) {
            self.stats.over_quota += 1;
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        let channel = Channel {
            number,
            peer,
            expires: now + CHANNEL_LIFETIME,
            permitted: now + PERMISSION_LIFETIME,
        };
        match allocation
            .channels
            .binary_search_by_key(&number, |channel| channel.number)
        {
            Ok(at) => allocation.channels[at] = channel,
            Err(at) => allocation.channels.insert(at, channel),
        }
        allocation.permit(now, peer.ip());
        self.succeed(from, message, &user.signer, |_| ());
        Ok(())
    }

    /// Gives one address of a dual allocation back (RFC 8656 section 8).
    fn release_family(
        &mut self,
        from: Path,
        user: &User,
        index: usize,
    ) -> Result<(), ErrorCode<'static>> {
        let allocation = self.own_allocation(from, user)?;
        let is_v6 = index == 1;
        let relay = allocation.relays[index].take();
        allocation
            .channels
            .retain(|channel| channel.peer.is_ipv6() != is_v6);
        allocation
            .permissions
            .retain(|permission| permission.ip.is_ipv6() != is_v6);
        if let Some(relay) = relay {
            if let Some(pool) = &self.config.pool {
                pool.set(relay.external, None);
            }
            self.ports[relay.address].release(relay.bind.port());
            let relay = relay.bind;
            self.commands
                .push_back(super::event::Command::CloseRelay { relay });
        }
        Ok(())
    }
}
