//! Relays that outlive the address they were made from: the allocation moves to another address of the host
//! (RFC 8016), and the peer, who knows the relayed address alone, notices nothing.

use std::net::SocketAddr;
use std::time::Instant;

use visavis_datagram::{Path, Protocol};

use super::Agent;
use super::local::{ConnectionUser, LocalId, RelayId, Source};

/// A relay on its way to another local address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roaming {
    /// When its address was lost.
    pub(super) since: Instant,
    /// Where it moves to, once there is somewhere.
    pub(super) to: Option<LocalId>,
}

impl Agent {
    /// A local address is gone. What stood on it moves, or ends.
    pub(super) fn relays_lose_local(&mut self, now: Instant, gone: LocalId) {
        for relay in &mut self.relays {
            if let Some(roaming) = &mut relay.roaming
                && roaming.to == Some(gone)
            {
                roaming.to = None;
            }
        }
        let stood: Vec<RelayId> = self
            .relays
            .iter()
            .filter(|relay| relay.local == gone && relay.roaming.is_none())
            .map(|relay| relay.id)
            .collect();
        for id in stood {
            let Some(relay) = self.relay(id) else {
                continue;
            };
            // A stream leaves from the IP address, and another socket may have the same.
            let ip = relay.ip;
            let other = self.locals.iter().find(|local| local.ip() == ip);
            let other = other.filter(|_| relay.protocol != Protocol::Udp);
            if let Some(other) = other.map(|local| local.id) {
                if let Some(relay) = self.relay_mut(id) {
                    relay.local = other;
                }
            } else if !self.begin_roaming(now, id) {
                self.drop_relay(now, id);
            }
        }
        self.roam(now);
    }

    /// The path under a relay is lost. False if the relay cannot move.
    pub(super) fn begin_roaming(&mut self, now: Instant, id: RelayId) -> bool {
        if !self.config.relay_mobility || self.closed {
            return false;
        }
        let Some(relay) = self.relay_mut(id) else {
            return false;
        };
        if relay.roaming.is_some() || !relay.can_move() {
            return false;
        }
        relay.roaming = Some(Roaming {
            since: now,
            to: None,
        });
        self.release_connection(ConnectionUser::Relay(id));
        true
    }

    /// Gives relays that lost their address one that is there.
    pub(super) fn roam(&mut self, now: Instant) {
        let homeless =
            |relay: &super::relay::Relay| relay.roaming.is_some_and(|roaming| roaming.to.is_none());
        let ids: Vec<RelayId> = self
            .relays
            .iter()
            .filter(|relay| homeless(relay))
            .map(|relay| relay.id)
            .collect();
        for id in ids {
            let Some(relay) = self.relay(id) else {
                continue;
            };
            let (protocol, target) = (relay.protocol, relay.target);
            let name = relay.server_name.clone();
            let fits = |local: &&super::local::Local| {
                local.ip().is_ipv4() == target.is_ipv4()
                    && local.ip().is_loopback() == target.ip().is_loopback()
                    && (protocol != Protocol::Udp || local.address.protocol == Protocol::Udp)
            };
            let best = self.locals.iter().filter(fits).min_by_key(|local| {
                let address = &local.address;
                (address.network.cost, !address.default_route, local.index)
            });
            let Some((to, address)) = best.map(|local| (local.id, local.address.address)) else {
                continue;
            };
            let begun = if protocol == Protocol::Udp {
                let path = Path {
                    protocol,
                    local: address,
                    remote: target,
                };
                self.move_relay(now, id, path)
            } else {
                let from = SocketAddr::new(address.ip(), 0);
                let user = ConnectionUser::Relay(id);
                self.connect(user, protocol, from, target, name).is_some()
            };
            match self.relay_mut(id) {
                Some(relay) if begun => {
                    // From now on it runs for that address.
                    relay.ip = address.ip();
                    if let Some(roaming) = &mut relay.roaming {
                        roaming.to = Some(to);
                    }
                }
                _ => self.drop_relay(now, id),
            }
        }
    }

    /// Asks the server to move the allocation to a path that stands. False if it cannot be asked.
    pub(super) fn move_relay(&mut self, now: Instant, id: RelayId, path: Path) -> bool {
        self.relay_mut(id)
            .and_then(super::relay::Relay::client_mut)
            .is_some_and(|client| client.move_to(now, path).is_ok())
    }

    /// The allocation stands on the new path.
    pub(super) fn relay_moved(&mut self, now: Instant, id: RelayId) {
        let Some(relay) = self.relay_mut(id) else {
            return;
        };
        let to = relay.roaming.take().and_then(|roaming| roaming.to);
        relay.doubted = false;
        let Some((to, network)) = to
            .and_then(|to| self.local(to))
            .map(|local| (local.id, local.address.network.clone()))
        else {
            // The new address went in the meantime.
            return self.drop_relay(now, id);
        };
        if let Some(relay) = self.relay_mut(id) {
            relay.local = to;
        }
        self.stats.relays_moved += 1;
        for candidate in &mut self.candidates {
            if candidate.source == Source::Relay(id) {
                candidate.cost = network.cost;
                let shown = network.id != 0;
                candidate.candidate.network_id = shown.then_some(network.id);
                candidate.candidate.network_cost = shown.then_some(network.cost);
            }
        }
        self.reprioritise();
        // The server sends to the new path once it has heard something from there.
        for pair in &mut self.pairs {
            if pair.source == Source::Relay(id) && pair.is_usable() {
                pair.probe = Some(now);
            }
        }
    }

    /// Relays for which no address came in time.
    pub(super) fn roaming_timeouts(&mut self, now: Instant) {
        let limit = self.config.timing.gathering;
        while let Some(relay) = self
            .relays
            .iter()
            .find(|relay| relay.roaming.is_some_and(|r| r.since + limit <= now))
        {
            self.drop_relay(now, relay.id);
        }
    }

    pub(super) fn roaming_timer(&self) -> Option<Instant> {
        let limit = self.config.timing.gathering;
        self.relays
            .iter()
            .filter_map(|relay| relay.roaming.map(|roaming| roaming.since + limit))
            .min()
    }
}
