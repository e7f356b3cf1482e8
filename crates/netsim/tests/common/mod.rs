//! What the tests share: a clock's start, and a small world of NATs.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path};
use visavis_netsim::{
    Arrival, Gateway, HostId, LinkConfig, NatConfig, NetworkId, Simulation, TcpEvent,
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Two hosts behind a NAT (192.168.0.1 and .2), two servers on the internet (203.0.113.1 and .2).
pub(crate) struct World {
    pub(crate) sim: Simulation,
    pub(crate) home: NetworkId,
    pub(crate) inside: [HostId; 2],
    pub(crate) outside: [HostId; 2],
}

pub(crate) const LINK: Duration = Duration::from_millis(5);

impl World {
    pub(crate) fn new(config: NatConfig) -> Self {
        Self::behind(Gateway::nat(config, &[ip("198.51.100.1")]), 1)
    }

    pub(crate) fn behind(gateway: Gateway, seed: u64) -> Self {
        let mut sim = Simulation::new(Instant::now(), seed);
        let link = || LinkConfig::new().delay(LINK);
        let home = sim.add_network(Simulation::INTERNET, gateway, link(), link());
        let inside = ["192.168.0.1", "192.168.0.2"]
            .map(|address| sim.add_host_in(home, address, &[ip(address)], link()));
        let outside = ["203.0.113.1", "203.0.113.2"]
            .map(|address| sim.add_host_in(Simulation::INTERNET, address, &[ip(address)], link()));
        Self {
            sim,
            home,
            inside,
            outside,
        }
    }

    /// Sends from an inside host; answers the source that the destination sees, or `None` if
    /// nothing arrives.
    pub(crate) fn seen(&mut self, host: usize, from: &str, to: &str) -> Option<SocketAddr> {
        let host = self.inside[host];
        self.sim
            .send(host, Path::udp(at(from), at(to)), Ecn::NotEct, b"out");
        self.datagram().map(|(_, path)| path.remote)
    }

    /// Sends from an outside host; whether anything arrives.
    pub(crate) fn answered(&mut self, host: usize, from: &str, to: SocketAddr) -> bool {
        let host = self.outside[host];
        self.sim
            .send(host, Path::udp(at(from), to), Ecn::NotEct, b"in");
        self.datagram().is_some()
    }

    /// The next datagram within a second.
    pub(crate) fn datagram(&mut self) -> Option<(HostId, Path)> {
        let until = self.sim.now() + ms(1000);
        while let Some(delivery) = self.sim.step_until(until) {
            if let Arrival::Datagram(_) = delivery.what {
                return Some((delivery.host, delivery.path));
            }
        }
        None
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        let to = self.sim.now() + time;
        self.sim.advance_to(to);
    }

    /// The TCP events until nothing happens any more, at most a minute.
    pub(crate) fn tcp_events(&mut self, seconds: u64) -> Vec<(HostId, Path, TcpEvent)> {
        let until = self.sim.now() + Duration::from_secs(seconds);
        let mut events = Vec::new();
        while let Some(delivery) = self.sim.step_until(until) {
            if let Arrival::Tcp(event) = delivery.what {
                events.push((delivery.host, delivery.path, event));
            }
        }
        events
    }
}
