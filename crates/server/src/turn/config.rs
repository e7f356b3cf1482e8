//! What an operator decides, resolved: addresses are addresses, and secrets are known.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use visavis_net::interface::{InterfaceFilter, addresses};
use visavis_turn::server::{RelayAddress, ServerConfig};

use super::certificates::Certificates;

/// Why the service does not start, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// A socket could not be had.
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    /// A file cannot be read.
    #[error("{0}")]
    File(String),
    /// A certificate or key is unusable.
    #[error("{0}")]
    Certificate(String),
    /// A setting is wrong.
    #[error("{0}")]
    Setting(String),
}

/// How the service is set up. [`TurnConfig::new`] gives what suits most; fields may be changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TurnConfig {
    /// Where clients come to over UDP, TCP and DTLS. Default port 3478 of every address. Port 0 picks one.
    pub listen: Vec<SocketAddr>,
    /// Where clients come to over TLS and DTLS. Default port 5349 of every address.
    pub tls_listen: Vec<SocketAddr>,
    /// Realms, relay addresses, limits, filters: what the protocol's core needs. `listening` and the workers' shares of `ports`
    /// are filled in by the service.
    pub core: ServerConfig,
    /// Threads, each with sockets of its own. Default: one per core, at most 64.
    pub workers: usize,
    /// How long packets may gather at moderate load, to be relayed with fewer wake-ups. Default 300 µs; zero
    /// never waits.
    pub gather: Duration,
    /// Whether the kernel may segment and coalesce (GSO, GRO). Default on.
    pub offload: bool,
    /// How long a packet may wait in a socket's receive buffer: the buffer is sized for it. Default 20 ms.
    pub queue: Duration,
    /// TCP, TLS and DTLS clients of one worker. Default 16,384.
    pub connections: usize,
    /// TCP, TLS and DTLS clients of one address (IPv6: one /64) and worker. Default 512.
    pub connections_per_address: usize,
    /// Bytes that wait for a slow TCP client; data beyond is dropped. Default 256 KiB.
    pub stream_queue: usize,
    /// Where the certificate for TLS and DTLS comes from.
    pub certificates: Certificates,
    /// The shared secret that [`TurnService::mint`](super::TurnService::mint) signs with; it belongs to the first realm too.
    pub secret: Option<String>,
    /// How long minted credentials are good. Default 24 hours.
    pub credential_lifetime: Duration,
    /// What the server is called in the addresses that clients are given; the relay addresses if it has no name.
    pub names: Vec<String>,
    /// An HTTP service that knows users' passwords: realms with `lookup` ask it.
    pub webhook: Option<url::Url>,
    /// Whether logs leave out clients' addresses. Default off.
    pub redact: bool,
    /// How long allocations may live on after a drain began. Default 10 minutes.
    pub drain: Duration,
    /// The token of the operator's interface; without one it tells health and metrics only.
    pub admin_token: Option<String>,
}

impl TurnConfig {
    /// The default ports of every address, relaying from the addresses of the default routes. Nobody may allocate before a
    /// realm is added to `core`.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let any = |port| {
            vec![
                SocketAddr::from(([0, 0, 0, 0], port)),
                SocketAddr::from(([0u16; 8], port)),
            ]
        };
        let mut core = ServerConfig::default();
        core.relays = visavis_net::interface::default_route_addresses()
            .into_iter()
            .map(RelayAddress::new)
            .collect();
        Self {
            listen: any(3478),
            tls_listen: any(5349),
            core,
            workers: cores.min(64),
            gather: Duration::from_micros(300),
            offload: true,
            queue: Duration::from_millis(20),
            connections: 16_384,
            connections_per_address: 512,
            stream_queue: 256 << 10,
            certificates: Certificates::default(),
            secret: None,
            credential_lifetime: Duration::from_secs(24 * 3600),
            names: Vec::new(),
            webhook: None,
            redact: false,
            drain: Duration::from_secs(600),
            admin_token: None,
        }
    }

    /// Every address that the service answers on: with RFC 5780's other address, each pair of both.
    pub(super) fn udp_addresses(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self
            .listen
            .iter()
            .chain(&self.tls_listen)
            .copied()
            .collect();
        if let Some(other) = self.core.other_address {
            let first = self
                .listen
                .iter()
                .find(|first| first.is_ipv4() == other.is_ipv4());
            if let Some(first) = first {
                all.push(SocketAddr::new(first.ip(), other.port()));
                all.push(SocketAddr::new(other.ip(), first.port()));
                all.push(other);
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The same, with every address of this host in place of "all": never peers.
    pub(super) fn own_addresses(&self, bound: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut filter = InterfaceFilter::default();
        filter.loopback = true;
        filter.link_local = true;
        let ips: Vec<IpAddr> = addresses(&filter)
            .map(|found| found.iter().map(|address| address.ip).collect())
            .unwrap_or_default();
        let mut own = Vec::new();
        // The first of a family is what RFC 5780 answers from.
        for address in self.listen.iter().chain(bound) {
            if address.ip().is_unspecified() {
                let same = ips.iter().filter(|ip| ip.is_ipv4() == address.is_ipv4());
                own.extend(same.map(|ip| SocketAddr::new(*ip, address.port())));
            } else {
                own.push(*address);
            }
        }
        let mut seen = std::collections::HashSet::new();
        own.retain(|address| seen.insert(*address));
        own
    }

    /// The part of the relay ports that belongs to one worker.
    pub(super) fn share(&self, worker: usize) -> std::ops::RangeInclusive<u16> {
        let (first, last) = (*self.core.ports.start(), *self.core.ports.end());
        let count = u32::from(last - first) + 1;
        let at = |worker: usize| {
            // Even, so that no pair of EVEN-PORT is cut.
            let offset = (u64::from(count) * worker as u64 / self.workers as u64) as u32;
            u32::from(first) + offset / 2 * 2
        };
        let end = if worker + 1 == self.workers {
            u32::from(last)
        } else {
            at(worker + 1) - 1
        };
        at(worker) as u16..=end as u16
    }

    /// What cannot work.
    pub(super) fn check(&self) -> Result<(), TurnError> {
        let wrong = |what: String| Err(TurnError::Setting(what));
        if self.listen.is_empty() && self.tls_listen.is_empty() {
            return wrong("no address to listen on: give `listen` or `tls-listen`".into());
        }
        if self.core.relays.is_empty() {
            return wrong(
                "no address to relay from: this host has no default route; give `relay-ip`".into(),
            );
        }
        if self.workers == 0 || self.workers > 64 {
            return wrong("`workers` has to be 1 to 64".into());
        }
        if self.core.ports.clone().count() < 2 * self.workers {
            return wrong("`ports` has fewer than two ports for each worker".into());
        }
        if let Some(other) = self.core.other_address {
            let first = self
                .listen
                .iter()
                .find(|first| first.is_ipv4() == other.is_ipv4());
            let usable = first.is_some_and(|first| {
                !first.ip().is_unspecified()
                    && first.ip() != other.ip()
                    && first.port() != other.port()
            });
            if !usable {
                return wrong(
                    "`other-address` (RFC 5780) needs a `listen` address of its family that is not 0.0.0.0 or ::, with another IP and another port"
                        .into(),
                );
            }
        }
        Ok(())
    }
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::TurnConfig;

    #[test]
    fn workers_share_the_ports_without_a_gap() {
        for workers in 1..=64 {
            let mut config = TurnConfig::new();
            config.workers = workers;
            config.core.ports = 50_001..=50_333;
            let mut next = 50_001;
            for worker in 0..workers {
                let share = config.share(worker);
                assert_eq!(*share.start(), next);
                assert!(share.end() > share.start());
                next = share.end() + 1;
            }
            assert_eq!(next, 50_334);
        }
    }
}
