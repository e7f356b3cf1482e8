//! Which TURN servers are asked: those of one local address race, and the rest is a reserve.
//!
//! An allocation costs its server memory and a port, and its client round trips and refreshes for as long as
//! the call lasts, while one relay is enough. So servers are asked in the order of preference, each a little
//! later than the one before, until as many answered as [`Config::relays_per_address`] wants. Those that were
//! asked in vain give back what they got; they and those never asked stand in when a relay fails.
//!
//! [`Config::relays_per_address`]: crate::Config::relays_per_address

use std::net::IpAddr;
use std::time::Instant;

use super::Agent;
use super::local::RelayId;
use super::relay::Relay;

impl Agent {
    /// Begins and ends allocations as the races stand.
    pub(super) fn advance_races(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        for index in 0..self.relays.len() {
            let ip = self.relays[index].ip;
            if !self.relays[..index].iter().any(|relay| relay.ip == ip) {
                self.advance_race(now, ip);
            }
        }
    }

    fn advance_race(&mut self, now: Instant, ip: IpAddr) {
        let wanted = self.config.relays_per_address.max(1);
        while self.held(ip) < wanted {
            let next = self.runners(ip).find(|relay| relay.is_reserve());
            let Some(next) = next.map(|relay| relay.id) else {
                return;
            };
            let running = self.runners(ip).filter(|relay| relay.is_running()).count();
            if self.held(ip) + running >= wanted
                && self.next_start(ip).is_some_and(|start| now < start)
            {
                return;
            }
            self.begin_relay(now, next);
        }
        while let Some(loser) = self.loser(now, ip) {
            self.withdraw_relay(now, loser);
        }
    }

    /// A server that need not answer any more: enough others of its protocol or a better one have, or enough
    /// of any and it had its time.
    fn loser(&self, now: Instant, ip: IpAddr) -> Option<RelayId> {
        let wanted = self.config.relays_per_address.max(1);
        let enough = self.held(ip) >= wanted;
        self.runners(ip)
            .filter(|relay| relay.is_running())
            .find(|relay| {
                let before = |held: &&Relay| held.serves() && held.rank() <= relay.rank();
                let late = self.patience_ends(relay).is_none_or(|end| end <= now);
                self.runners(ip).filter(before).count() >= wanted || (enough && late)
            })
            .map(|relay| relay.id)
    }

    /// The relays of one local address, the preferred ones first.
    fn runners(&self, ip: IpAddr) -> impl Iterator<Item = &Relay> {
        self.relays.iter().filter(move |relay| relay.ip == ip)
    }

    fn held(&self, ip: IpAddr) -> usize {
        self.runners(ip).filter(|relay| relay.serves()).count()
    }

    /// When the next server is asked, if those before have neither answered nor failed.
    fn next_start(&self, ip: IpAddr) -> Option<Instant> {
        let last = self.runners(ip).filter_map(|relay| relay.begun).max()?;
        Some(last + self.config.timing.relay_stagger)
    }

    /// How long a server of a better protocol is waited for once a worse one has answered.
    fn patience_ends(&self, relay: &Relay) -> Option<Instant> {
        Some(relay.begun? + self.config.timing.relay_nomination_delay)
    }

    /// Whether gathering still waits for some server.
    pub(super) fn relays_pending(&self) -> bool {
        let wanted = self.config.relays_per_address.max(1);
        self.relays
            .iter()
            .any(|relay| relay.is_running() || (relay.is_reserve() && self.held(relay.ip) < wanted))
    }

    /// When a race moves on by itself.
    pub(super) fn race_timer(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let wanted = self.config.relays_per_address.max(1);
        self.relays
            .iter()
            .filter_map(|relay| {
                let won = self.held(relay.ip) >= wanted;
                if relay.is_reserve() && !won {
                    self.next_start(relay.ip)
                } else if relay.is_running() && won {
                    self.patience_ends(relay)
                } else {
                    None
                }
            })
            .min()
    }

    /// The selected path leads through a relay and is in doubt: the relay counts as none until something
    /// comes through it again, so that the reserve is asked.
    pub(super) fn doubt_relay(&mut self) {
        let source = self
            .selected
            .and_then(|id| self.pair(id))
            .map(|pair| pair.source);
        if let Some(super::local::Source::Relay(id)) = source
            && let Some(relay) = self.relay_mut(id)
        {
            relay.doubted = true;
        }
    }
}
