//! Every pair of NAT kinds, and networks without IPv4, UDP or free TCP: do two agents connect, by the
//! cheapest path that exists, and in how many round trips? `cargo xtask nat-matrix`.
#![allow(clippy::print_stdout, reason = "failures are printed with their seeds")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::server::{PASSWORD, Server, USER};
use common::{Call, Peer, agent, ip, is_relayed};
use serde_json::json;
use visavis_datagram::Protocol;
use visavis_ice::{Config, LocalAddress, Role, SelectedPair};
use visavis_netsim::{
    Dependence, FirewallConfig, Gateway, HostId, LinkConfig, NatConfig, Simulation,
};
use visavis_report::{Options, Table};

/// One way from home to the middle of the network. Peer to peer is twice that one way.
const LEG: Duration = Duration::from_millis(10);
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// Time to connect; the RFC's own patience.
const PATIENCE: Duration = Duration::from_secs(39);
/// Time to settle on the best pair after that: under loss, retransmissions find it late.
const SETTLE: Duration = Duration::from_secs(20);
/// The same where TCP has to open a connection under loss: its own timeouts double.
const SETTLE_TCP: Duration = Duration::from_secs(60);

/// How a host reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Behind an IPv4 NAT of this mapping and filtering.
    Nat(Dependence, Dependence),
    /// A public IPv4 address.
    Open,
    /// IPv4 behind a NAT that filters by port, IPv6 behind a stateful firewall.
    DualStack,
    /// IPv6 alone, behind a stateful firewall.
    V6Only,
    /// Behind a NAT, and no UDP passes.
    NoUdp,
    /// Behind a NAT, and nothing but TCP to port 443 passes.
    Only443,
}

impl Access {
    fn name(self) -> String {
        let short = |dependence| match dependence {
            Dependence::EndpointIndependent => "EI",
            Dependence::AddressDependent => "AD",
            Dependence::AddressAndPortDependent => "APD",
        };
        match self {
            Self::Nat(mapping, filtering) => {
                format!("map {}, filter {}", short(mapping), short(filtering))
            }
            Self::Open => "open".into(),
            Self::DualStack => "dual stack".into(),
            Self::V6Only => "IPv6 only".into(),
            Self::NoUdp => "no UDP".into(),
            Self::Only443 => "TCP 443 only".into(),
        }
    }

    fn has_v4(self) -> bool {
        self != Self::V6Only
    }

    fn has_v6(self) -> bool {
        matches!(self, Self::DualStack | Self::V6Only)
    }

    fn has_udp(self) -> bool {
        !matches!(self, Self::NoUdp | Self::Only443)
    }

    /// Mapping and filtering of its IPv4.
    fn behaviour(self) -> (Dependence, Dependence) {
        match self {
            Self::Nat(mapping, filtering) => (mapping, filtering),
            Self::Open => (
                Dependence::EndpointIndependent,
                Dependence::EndpointIndependent,
            ),
            _ => (
                Dependence::EndpointIndependent,
                Dependence::AddressAndPortDependent,
            ),
        }
    }
}

/// Whether a direct path exists: over IPv6 between stateful firewalls always; over IPv4 where holes can be
/// punched; over TCP where one side can be connected to.
fn direct_path(a: Access, b: Access) -> bool {
    if a.has_v6() && b.has_v6() {
        return true;
    }
    if !(a.has_v4() && b.has_v4()) {
        return false;
    }
    if a.has_udp() && b.has_udp() {
        return punches([a.behaviour(), b.behaviour()]);
    }
    // The open host listens, on a port that not every firewall lets through.
    (a == Access::Open && b == Access::NoUdp) || (b == Access::Open && a == Access::NoUdp)
}

/// Whether two hosts behind NATs of these mappings and filterings (RFC 4787 sections 4 and 5) can come to a
/// path that works both ways, each knowing at first only what a server saw of the other, and later whatever
/// source it saw packets come from. By exhausting what each can send; no agent takes part.
fn punches(behaviours: [(Dependence, Dependence); 2]) -> bool {
    use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

    /// An IP address (0 and 1 are the sides', 2 the server's) and a port, which is an external endpoint's index.
    type Destination = (usize, usize);
    const SERVER: Destination = (2, usize::MAX);

    #[derive(Default)]
    struct World {
        /// Side, and the destination as far as the mapping depends on it.
        endpoints: Vec<(usize, Option<Destination>)>,
        contacted: Vec<Vec<Destination>>,
    }
    impl World {
        fn send(&mut self, side: usize, mapping: Dependence, to: Destination) -> usize {
            let key = match mapping {
                EndpointIndependent => None,
                AddressDependent => Some((to.0, 0)),
                AddressAndPortDependent => Some(to),
            };
            let known = self
                .endpoints
                .iter()
                .position(|endpoint| *endpoint == (side, key));
            let from = known.unwrap_or_else(|| {
                self.endpoints.push((side, key));
                self.contacted.push(Vec::new());
                self.endpoints.len() - 1
            });
            if !self.contacted[from].contains(&to) {
                self.contacted[from].push(to);
            }
            from
        }
    }

    let mut world = World::default();
    let reflexive = [0, 1].map(|side| world.send(side, behaviours[side].0, SERVER));
    let mut known = [vec![reflexive[1]], vec![reflexive[0]]];
    let mut delivered: Vec<(usize, usize)> = Vec::new();
    for _ in 0..8 {
        for side in [0, 1] {
            let other = 1 - side;
            for target in known[side].clone() {
                let from = world.send(side, behaviours[side].0, (other, target));
                let open = match behaviours[other].1 {
                    EndpointIndependent => true,
                    AddressDependent => world.contacted[target].iter().any(|to| to.0 == side),
                    AddressAndPortDependent => world.contacted[target].contains(&(side, from)),
                };
                if open {
                    delivered.push((from, target));
                    if !known[other].contains(&from) {
                        known[other].push(from);
                    }
                }
            }
        }
    }
    delivered
        .iter()
        .any(|&(from, to)| delivered.contains(&(to, from)))
}

struct Outcome {
    connected: Option<Duration>,
    cheapest: bool,
    data: bool,
}

fn host(
    simulation: &mut Simulation,
    index: usize,
    access: Access,
    link: &LinkConfig,
) -> (HostId, Vec<IpAddr>) {
    let external = ip(&format!("198.51.100.{}", index + 1));
    let private = ip(&format!("192.168.{}.10", index + 1));
    let v6 = ip(&format!("2001:db8:{}::10", index + 1));
    let nat = |mapping, filtering| Gateway::nat(NatConfig::new(mapping, filtering), &[external]);
    let (mapping, filtering) = access.behaviour();
    let (gateway, addresses) = match access {
        Access::Open => (Gateway::router(), vec![external]),
        Access::Nat(..) => (nat(mapping, filtering), vec![private]),
        Access::DualStack => (
            nat(mapping, filtering).firewall(FirewallConfig::stateful_ipv6()),
            vec![v6, private],
        ),
        Access::V6Only => (FirewallConfig::stateful().into(), vec![v6]),
        Access::NoUdp => (
            nat(mapping, filtering).firewall(FirewallConfig::no_udp()),
            vec![private],
        ),
        Access::Only443 => (
            nat(mapping, filtering).firewall(FirewallConfig::only_tcp_443()),
            vec![private],
        ),
    };
    let network = simulation.add_network(Simulation::INTERNET, gateway, link.clone(), link.clone());
    let host = simulation.add_host_in(network, "host", &addresses, LinkConfig::new());
    (host, addresses)
}

fn run(accesses: [Access; 2], seed: u64, loss: f64) -> (Outcome, String) {
    let now = Instant::now();
    let mut simulation = Simulation::new(now, seed);
    // Loss is per crossing of a home's link, so that of a round trip of two homes is four times that.
    let link = LinkConfig::new().delay(LEG).random_loss(loss);
    let servers = ["203.0.113.10", "2001:db8:ffff::10"].map(ip);
    let mut peers = Vec::new();
    for (index, access) in accesses.into_iter().enumerate() {
        let (host, addresses) = host(&mut simulation, index, access, &link);
        let mut config = Config {
            role: if index == 0 {
                Role::Controlling
            } else {
                Role::Controlled
            },
            ..Config::default()
        };
        for server in servers {
            if (server.is_ipv4() && !access.has_v4()) || (server.is_ipv6() && !access.has_v6()) {
                continue;
            }
            let at = |port| SocketAddr::new(server, port);
            config.servers.push(visavis_ice::Server::stun(at(3478)));
            config.servers.push(visavis_ice::Server::turn(
                at(3478),
                Protocol::Udp,
                USER,
                PASSWORD,
            ));
            if !access.has_udp() {
                config.servers.push(visavis_ice::Server::turn(
                    at(443),
                    Protocol::Tcp,
                    USER,
                    PASSWORD,
                ));
            }
        }
        let name = if index == 0 { "left" } else { "right" };
        let mut peer = Peer::new(name, agent(config, seed * 2 + index as u64, now));
        for address in addresses {
            peer.add_address(now, LocalAddress::udp(SocketAddr::new(address, 5000)));
            if accesses.iter().any(|access| !access.has_udp()) {
                peer.add_address(now, LocalAddress::tcp_active(address));
                if access == Access::Open {
                    peer.add_address(
                        now,
                        LocalAddress::tcp_passive(SocketAddr::new(address, 5001)),
                    );
                }
            }
        }
        peers.push((host, peer));
    }
    let middle = LinkConfig::new().delay(Duration::from_millis(2));
    let server = simulation.add_host_in(Simulation::INTERNET, "server", &servers, middle);
    let right = peers.pop().expect("two peers");
    let left = peers.pop().expect("two peers");
    let mut call = Call::new(simulation, left, right);
    call.signal_delay = LEG * 2;
    let listens = servers
        .iter()
        .flat_map(|&ip| [3478, 443].map(|port| SocketAddr::new(ip, port)))
        .collect();
    call.add_server(server, Server::new(listens));
    call.start();
    let connected = call.connect(PATIENCE).then(|| call.now() - now);
    let direct = direct_path(accesses[0], accesses[1]);
    let wanted = |pair: Option<SelectedPair>| pair.is_some_and(|pair| is_relayed(&pair) != direct);
    let udp = accesses.iter().all(|access| access.has_udp());
    let cheapest = call.run(if udp { SETTLE } else { SETTLE_TCP }, |call| {
        wanted(call.left().agent.selected_pair()) && wanted(call.right().agent.selected_pair())
    });
    // Once there, it stays there.
    call.run_for(Duration::from_secs(1));
    let stays =
        wanted(call.left().agent.selected_pair()) && wanted(call.right().agent.selected_pair());
    let data = (0..40).any(|_| call.exchange_data(Duration::from_secs(1)));
    let outcome = Outcome {
        connected,
        cheapest: cheapest && stays,
        data,
    };
    let good = outcome.connected.is_some() && outcome.cheapest && outcome.data;
    let report = if good { String::new() } else { call.report() };
    (outcome, report)
}

struct Row {
    pair: [Access; 2],
    runs: usize,
    connected: usize,
    cheapest: usize,
    data: usize,
    /// Sorted times, without loss and with it.
    times: [Vec<f64>; 2],
}

fn measure(pair: [Access; 2], seeds: u64, losses: &[f64]) -> Row {
    let mut row = Row {
        pair,
        runs: 0,
        connected: 0,
        cheapest: 0,
        data: 0,
        times: [Vec::new(), Vec::new()],
    };
    for seed in 0..seeds {
        for (index, &loss) in losses.iter().enumerate() {
            let (outcome, report) = run(pair, seed, loss);
            row.runs += 1;
            row.cheapest += usize::from(outcome.cheapest);
            row.data += usize::from(outcome.data);
            if let Some(time) = outcome.connected {
                row.connected += 1;
                row.times[index].push(time.as_secs_f64() / ROUND_TRIP.as_secs_f64());
            }
            if !report.is_empty() {
                println!(
                    "MISS {} / {} seed {seed} loss {loss}: connected {:?}, cheapest {}, data {}\n{report}",
                    pair[0].name(),
                    pair[1].name(),
                    outcome.connected,
                    outcome.cheapest,
                    outcome.data
                );
            }
        }
    }
    row.times
        .iter_mut()
        .for_each(|times| times.sort_by(f64::total_cmp));
    row
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    let index = ((sorted.len() as f64 * part).ceil() as usize).max(1) - 1;
    let value = sorted.get(index).copied().unwrap_or(f64::NAN);
    (value * 10.0).round() / 10.0
}

fn main() -> ExitCode {
    let (options, rest) = Options::from_arguments();
    let number = |at: usize, default| {
        rest.get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let seeds = number(0, if options.quick { 1 } else { 20 });
    let losses = [0.0, 0.1];

    let mut kinds = vec![Access::Open];
    for mapping in Dependence::ALL {
        for filtering in Dependence::ALL {
            kinds.push(Access::Nat(mapping, filtering));
        }
    }
    let mut pairs: Vec<[Access; 2]> = Vec::new();
    for &left in &kinds {
        for &right in &kinds {
            pairs.push([left, right]);
        }
    }
    let cone = Access::Nat(
        Dependence::EndpointIndependent,
        Dependence::AddressAndPortDependent,
    );
    let symmetric = Access::Nat(
        Dependence::AddressAndPortDependent,
        Dependence::AddressAndPortDependent,
    );
    let special = [
        Access::DualStack,
        Access::V6Only,
        Access::NoUdp,
        Access::Only443,
    ];
    for &left in &special {
        for right in special
            .iter()
            .copied()
            .chain([Access::Open, cone, symmetric])
        {
            pairs.push([left, right]);
            if !special.contains(&right) {
                pairs.push([right, left]);
            }
        }
    }

    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<(usize, Row)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&pair) = pairs.get(index) else {
                        return;
                    };
                    let row = measure(pair, seeds, &losses);
                    rows.lock().expect("no worker panicked").push((index, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("no worker panicked");
    rows.sort_by_key(|row| row.0);

    let mut table = Table::new(
        "Time to connect over every pair of networks, in round trips between the peers",
        &[
            "left",
            "right",
            "path",
            "runs",
            "connected",
            "cheapest",
            "data",
            "p50",
            "p95",
            "p50 10% loss",
            "p95 10% loss",
        ],
    );
    let (mut runs, mut connected, mut cheapest, mut data) = (0, 0, 0, 0);
    let mut all: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    for (_, row) in &rows {
        let path = if direct_path(row.pair[0], row.pair[1]) {
            "direct"
        } else {
            "relay"
        };
        table.row(vec![
            json!(row.pair[0].name()),
            json!(row.pair[1].name()),
            json!(path),
            json!(row.runs),
            json!(row.connected),
            json!(row.cheapest),
            json!(row.data),
            json!(percentile(&row.times[0], 0.5)),
            json!(percentile(&row.times[0], 0.95)),
            json!(percentile(&row.times[1], 0.5)),
            json!(percentile(&row.times[1], 0.95)),
        ]);
        runs += row.runs;
        connected += row.connected;
        cheapest += row.cheapest;
        data += row.data;
        for (all, times) in all.iter_mut().zip(&row.times) {
            all.extend(times);
        }
    }
    all.iter_mut()
        .for_each(|times| times.sort_by(f64::total_cmp));
    let share = |count: usize| 100.0 * count as f64 / runs as f64;
    table.note(format!(
        "{runs} runs of {} pairs of networks in {:.1} s; a round trip is {} ms; both sides gather when signalling begins, \
         candidates trickle with half a round trip each; loss is on each crossing of each home's link",
        rows.len(),
        began.elapsed().as_secs_f64(),
        ROUND_TRIP.as_millis(),
    ));
    table.note(format!(
        "all pairs: p50 {} and p95 {} round trips without loss, p50 {} and p95 {} with 10 % loss",
        percentile(&all[0], 0.5),
        percentile(&all[0], 0.95),
        percentile(&all[1], 0.5),
        percentile(&all[1], 0.95),
    ));
    table.at_least("connected, percent", share(connected), 100.0);
    table.at_least(
        "by the cheapest path that RFC 4787 allows, percent",
        share(cheapest),
        100.0,
    );
    table.at_least("application data both ways, percent", share(data), 100.0);
    table.finish(options)
}
