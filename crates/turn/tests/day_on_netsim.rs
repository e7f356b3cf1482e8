//! A day of service on a simulated network: clients behind a NAT and a link that loses, repeats and reorders packets come, talk
//! to a peer, and leave with or without a word. At the end nothing is left.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Random, TransmitBuf};
use visavis_netsim::{Arrival, Delivery, Gateway, HostId, LinkConfig, NatConfig, Simulation};
use visavis_turn::client::{Client, ClientConfig, Event, Received};
use visavis_turn::server::{
    CLIENT_HEADROOM, CLIENT_TAILROOM, Command, Credentials, Forward, Realm, RelayAddress, Server,
    ServerConfig,
};

const SERVER: &str = "203.0.113.1:3478";
const PEER: &str = "198.51.100.9:4000";

/// 24 hours; `CHURN_HOURS` for another number.
fn hours() -> u64 {
    let hours = std::env::var("CHURN_HOURS").ok();
    hours.and_then(|hours| hours.parse().ok()).unwrap_or(24)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Caller {
    client: Client,
    bound: bool,
    leaves: Instant,
    speaks: Instant,
    /// Said goodbye: it waits for the answer.
    leaving: bool,
}

struct Day {
    sim: Simulation,
    random: Random,
    server: Server,
    server_host: HostId,
    open: BTreeSet<SocketAddr>,
    home: HostId,
    peer: HostId,
    callers: Vec<Caller>,
    next_port: u16,
    out: TransmitBuf,
    echoed: u64,
    spoken: u64,
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut sim = Simulation::new(Instant::now(), seed);
        let wire = || LinkConfig::new().delay(Duration::from_millis(10));
        let radio = || {
            wire()
                .random_loss(0.05)
                .duplicate(0.01)
                .reorder(0.02, Duration::from_millis(30))
        };
        let ip = |text: &str| text.parse().unwrap();
        let nat = Gateway::nat(NatConfig::symmetric(), &[ip("198.51.100.1")]);
        let network = sim.add_network(Simulation::INTERNET, nat, radio(), radio());
        let home = sim.add_host_in(network, "home", &[ip("192.168.0.2")], wire());
        let internet = Simulation::INTERNET;
        let server_host = sim.add_host_in(internet, "server", &[ip("203.0.113.1")], wire());
        let peer = sim.add_host_in(internet, "peer", &[ip("198.51.100.9")], wire());
        let mut config = ServerConfig::default();
        let users = Credentials::new().user("alice", "secret");
        config.realms = vec![Realm::new("day", users)];
        config.relays = vec![RelayAddress::new(ip("203.0.113.1"))];
        config.listening = vec![address(SERVER)];
        config.ports = 50_000..=50_999;
        config.limits.allocations_per_user = 1000;
        // The simulated peer lives in a range for documentation, which is nobody's.
        config.filter.allow.push("198.51.100.0/24".parse().unwrap());
        let server = Server::new(sim.now(), 1_800_000_000, config, Random::from_u64(seed));
        Self {
            sim,
            random: Random::from_u64(seed + 1),
            server,
            server_host,
            open: BTreeSet::new(),
            home,
            peer,
            callers: Vec::new(),
            next_port: 1024,
            out: TransmitBuf::new(10, 1500),
            echoed: 0,
            spoken: 0,
        }
    }

    fn comes(&mut self) {
        let now = self.sim.now();
        self.next_port = if self.next_port > 60_000 {
            1024
        } else {
            self.next_port + 1
        };
        let local = SocketAddr::new("192.168.0.2".parse().unwrap(), self.next_port);
        let path = Path::udp(local, address(SERVER));
        let config = ClientConfig::new("alice", "secret");
        let stays = Duration::from_secs(20 + self.random.below(1800));
        self.callers.push(Caller {
            client: Client::new(now, path, config, self.random.fork()),
            bound: false,
            leaves: now + stays,
            speaks: now,
            leaving: false,
        });
    }

    fn take(&mut self, delivery: Delivery) {
        let now = delivery.now;
        let Arrival::Datagram(mut bytes) = delivery.what else {
            return;
        };
        let path = delivery.path;
        if delivery.host == self.peer {
            // It echoes.
            self.sim.send(self.peer, path, Ecn::NotEct, &bytes);
        } else if delivery.host == self.home {
            for caller in &mut self.callers {
                let received = caller.client.unwrap(now, path, &bytes);
                self.echoed += u64::from(matches!(received, Received::Data { .. }));
            }
        } else if path.local == address(SERVER) {
            let forward = self.server.handle_client(now, path, &mut bytes);
            self.forward(forward, &bytes);
        } else if self.open.contains(&path.local) {
            let mut buffer = vec![0; CLIENT_HEADROOM + bytes.len() + CLIENT_TAILROOM];
            let range = CLIENT_HEADROOM..CLIENT_HEADROOM + bytes.len();
            buffer[range.clone()].copy_from_slice(&bytes);
            let forward = self
                .server
                .handle_peer(now, path.local, path.remote, &mut buffer, range);
            self.forward(forward, &buffer);
        }
        self.sim.recycle(bytes);
    }

    fn forward(&mut self, forward: Option<Forward>, bytes: &[u8]) {
        let (path, range) = match forward {
            Some(Forward::ToPeer {
                relay,
                peer,
                payload,
                ..
            }) => (Path::udp(relay, peer), payload),
            Some(Forward::ToClient { path, datagram }) => (path, datagram),
            None => return,
        };
        self.sim
            .send(self.server_host, path, Ecn::NotEct, &bytes[range]);
    }

    fn serve(&mut self) {
        let now = self.sim.now();
        if self.server.poll_timeout().is_some_and(|at| at <= now) {
            self.server.handle_timeout(now);
        }
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::OpenRelay { relay, .. } => {
                    assert!(self.open.insert(relay), "bound twice: {relay}");
                    self.server.relay_opened(now, relay, true);
                }
                Command::CloseRelay { relay } => {
                    assert!(self.open.remove(&relay), "closed twice: {relay}");
                }
                _ => {}
            }
        }
        while let Some(transmit) = self.server.poll_transmit(now, &mut self.out) {
            let host = self.server_host;
            self.sim.transmit(host, &transmit, self.out.as_slice());
            self.out.clear();
        }
        while self.server.poll_event().is_some() {}
    }

    fn talk(&mut self) {
        let (now, peer) = (self.sim.now(), address(PEER));
        let mut at = 0;
        while let Some(caller) = self.callers.get_mut(at) {
            let client = &mut caller.client;
            if client.poll_timeout().is_some_and(|due| due <= now) {
                client.handle_timeout(now);
            }
            while let Some(event) = client.poll_event() {
                if let Event::Failed(failure) = event {
                    // Several answers in a row may be lost.
                    caller.leaves = now;
                    assert_eq!(failure, visavis_turn::client::Failure::Timeout);
                }
            }
            if client.is_allocated() && !caller.bound {
                caller.bound = client.bind(now, peer).is_ok();
            }
            if client.is_bound(peer) && caller.speaks <= now && !caller.leaving {
                caller.speaks = now + Duration::from_secs(20);
                client
                    .wrap(now, peer, b"are you there?", &mut self.out)
                    .unwrap();
                let path = client.path();
                self.sim
                    .send(self.home, path, Ecn::NotEct, self.out.as_slice());
                self.out.clear();
                self.spoken += 1;
            }
            while let Some(transmit) = client.poll_transmit(now, &mut self.out) {
                self.sim.transmit(self.home, &transmit, self.out.as_slice());
                self.out.clear();
            }
            if caller.leaves <= now && !caller.leaving && self.random.chance(0.5) {
                // Politely, for as long as that takes.
                caller.client.close(now);
                caller.leaving = true;
                caller.leaves = now + Duration::from_secs(60);
            } else if caller.leaves <= now || caller.leaving && caller.client.is_over() {
                self.callers.swap_remove(at);
                continue;
            }
            at += 1;
        }
    }

    /// Goes on until `end`; somebody comes every twenty seconds or so.
    fn run(&mut self, end: Instant, guests: bool) {
        let mut comer = self.sim.now();
        while self.sim.now() < end {
            self.serve();
            self.talk();
            let clients = self.callers.iter();
            let timers = clients.filter_map(|caller| {
                let own = caller.client.poll_timeout();
                own.into_iter().chain([caller.leaves]).min()
            });
            let speaking = self.callers.iter().map(|caller| caller.speaks);
            let next = timers
                .chain(speaking.filter(|at| *at > self.sim.now()))
                .chain(self.server.poll_timeout())
                .chain(guests.then_some(comer))
                .chain([end])
                .min()
                .unwrap_or(end)
                .max(self.sim.now());
            if let Some(delivery) = self.sim.step_until(next) {
                self.take(delivery);
            } else {
                self.sim.advance_to(next);
            }
            if guests && comer <= self.sim.now() {
                comer = self.sim.now() + Duration::from_secs(1 + self.random.below(40));
                self.comes();
            }
        }
    }
}

#[test]
fn a_day_on_a_bad_network_leaks_no_port_and_no_permission() {
    let seed = 20_261_127;
    let mut day = Day::new(seed);
    let free = day.server.free_ports();
    let end = day.sim.now() + Duration::from_secs(hours() * 3600);
    day.run(end, true);
    let stats = day.server.stats();
    let (allocations, echoed, spoken) = (stats.allocations, day.echoed, day.spoken);
    let told = format!("seed {seed}: {allocations} allocations, {echoed} of {spoken} echoed");
    assert!(allocations > hours() * 120, "{told}");
    // Two ways over a link that loses one packet in twenty.
    assert!(echoed as f64 > 0.85 * spoken as f64, "{told}");
    assert!(echoed as f64 <= 1.05 * spoken as f64, "{told}");
    // Everybody vanishes; two lifetimes later the server has forgotten them.
    day.callers.clear();
    day.run(end + Duration::from_secs(7200), false);
    assert!(day.server.is_empty(), "{told}");
    assert_eq!(day.server.free_ports(), free, "{told}");
    assert_eq!(day.server.users(), 0, "{told}");
    assert!(day.open.is_empty(), "{told}: {:?}", day.open);
}
