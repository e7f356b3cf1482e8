//! The laboratory: media flows over simulated bottlenecks, and what is measured of them
//! (RFC 8867 section 4, RFC 8868). Shared by the tests of this crate and by the table in
//! `bench/congestion`.
#![allow(dead_code, unreachable_pub, reason = "each user has its own part")]

pub mod flow;
pub mod scenario;
pub mod source;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Random};
use visavis_netsim::{
    Arrival, Gateway, HostId, LinkConfig, NetworkId, Simulation, TcpCommand, TcpEvent,
};

use scenario::{Cross, FlowPlan, Scenario, Shape, Stalls};

/// One media flow: a sender, a receiver, and all that lies between them but the network.
pub trait Flow {
    /// A datagram has come to the receiver (or back to the sender).
    fn handle_datagram(&mut self, now: Instant, at_receiver: bool, ecn: Ecn, datagram: &mut [u8]);
    /// The time has come.
    fn handle_timeout(&mut self, now: Instant);
    /// When.
    fn poll_timeout(&self) -> Option<Instant>;
    /// A datagram to send: whether the receiver sends it, its ECN codepoint, its bytes.
    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<(bool, Ecn)>;
    /// What the sender's estimate is, in bits per second.
    fn estimate(&self) -> u64;
    /// Starts and stops the media.
    fn set_active(&mut self, now: Instant, active: bool);
}

/// Where a flow's ends are.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub sender: SocketAddr,
    pub receiver: SocketAddr,
}

/// What a contender is given to build a flow.
#[derive(Debug, Clone, Copy)]
pub struct FlowContext {
    pub now: Instant,
    pub seed: u64,
    pub ends: Ends,
    /// The most that the application sends, in bits per second.
    pub max: u64,
    /// The first estimate, in bits per second.
    pub start: u64,
    /// What the plan says of the receiver and of the source.
    pub stalls: Option<Stalls>,
    pub held_below: Option<u64>,
    pub l4s: bool,
}

/// Builds a flow of one contender.
pub type Build<'a> = &'a dyn Fn(FlowContext) -> Box<dyn Flow>;

/// What was measured of one flow.
#[derive(Debug, Clone, Default)]
pub struct FlowResult {
    /// Bytes of IP packets that arrived, per 100 ms.
    pub bins: Vec<u64>,
    /// Queuing delay of each packet in milliseconds, in order of arrival.
    pub delays: Vec<f32>,
    pub sent: u64,
    pub arrived: u64,
    /// The estimate each 100 ms.
    pub estimates: Vec<u64>,
}

/// What was measured of a scenario.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Media that arrived, as a share of what could have.
    pub utilisation: f64,
    /// Milliseconds that packets waited in queues: mean and 95th percentile.
    pub mean_delay: f64,
    pub p95_delay: f64,
    /// Share of the media packets that did not arrive.
    pub loss: f64,
    /// Seconds from the scenario's step to 90 % of what is possible then; `None`: never, or no step.
    pub ramp: Option<f64>,
    /// Jain's index of the flows' rates over the last third.
    pub fairness: f64,
    /// Bits per second that cross traffic got.
    pub cross: f64,
    pub flows: Vec<FlowResult>,
}

const BIN: Duration = Duration::from_millis(100);
/// How long after its stop a flow's packets still count.
const IP_UDP: u64 = 28;

struct Placed {
    hosts: [HostId; 2],
    ends: Ends,
    base_delay: Duration,
    flow: Box<dyn Flow>,
    plan: FlowPlan,
    active: bool,
    result: FlowResult,
}

struct CrossTraffic {
    sender: HostId,
    receiver: HostId,
    next: Vec<Option<Instant>>,
    port: u16,
    open: Vec<Option<Path>>,
    bytes: u64,
    random: Random,
}

fn address(group: u8, index: usize) -> IpAddr {
    IpAddr::from([10, group, (index / 200) as u8, (index % 200 + 1) as u8])
}

/// Runs one contender through a scenario.
pub fn run(scenario: &Scenario, seed: u64, build: Build<'_>) -> Outcome {
    let start = Instant::now();
    let mut sim = Simulation::new(start, seed);
    let mut random = Random::from_u64(seed ^ 0x5eed);
    let far = Simulation::INTERNET;
    let add = |sim: &mut Simulation, parent, up: &LinkConfig, down: &LinkConfig| {
        sim.add_network(parent, Gateway::router(), up.clone(), down.clone())
    };
    // The senders' side is below: forward is the uplink.
    let second = scenario
        .second
        .as_ref()
        .map(|link| add(&mut sim, far, link, &LinkConfig::new()));
    let near = add(
        &mut sim,
        second.unwrap_or(far),
        &scenario.forward,
        &scenario.backward,
    );
    let propagation = scenario.forward.delay;
    let mut placed: Vec<Placed> = Vec::new();
    for (index, plan) in scenario.flows.iter().enumerate() {
        let (from, to) = places(plan, near, second, far);
        let mut ends = [0, 1].map(|side| {
            let ip = address(side as u8, index);
            let access = LinkConfig::new().delay(plan.access);
            let network = if side == 0 { from } else { to };
            (
                sim.add_host_in(network, "media", &[ip], access),
                SocketAddr::new(ip, 5000),
            )
        });
        if plan.backward {
            ends.reverse();
        }
        let context = FlowContext {
            now: start,
            seed: random.u64(),
            ends: Ends {
                sender: ends[0].1,
                receiver: ends[1].1,
            },
            max: plan.max,
            start: plan.start_rate,
            stalls: plan.stalls,
            held_below: plan.held_below,
            l4s: scenario.l4s,
        };
        let crosses_first = !matches!(plan.shape, Shape::SecondOnly);
        let crosses_second = scenario.second.is_some() && !matches!(plan.shape, Shape::FirstOnly);
        let base_delay = plan.access * 2
            + if crosses_first {
                if plan.backward {
                    scenario.backward.delay
                } else {
                    propagation
                }
            } else {
                Duration::ZERO
            }
            + if crosses_second {
                scenario
                    .second
                    .as_ref()
                    .map_or(Duration::ZERO, |link| link.delay)
            } else {
                Duration::ZERO
            };
        placed.push(Placed {
            hosts: [ends[0].0, ends[1].0],
            ends: context.ends,
            base_delay,
            flow: build(context),
            plan: plan.clone(),
            active: false,
            result: FlowResult::default(),
        });
    }
    let mut cross = cross_traffic(scenario, &mut sim, near, far, random.fork());
    let end = start + scenario.duration;
    let mut next_bin = start + BIN;
    let mut out = Vec::new();
    let (mut rounds, mut last) = (0, start);
    loop {
        let now = sim.now();
        rounds = if now == last { rounds + 1 } else { 0 };
        last = now;
        assert!(rounds < 10_000, "time stands still in {}", scenario.name);
        for placed in &mut placed {
            let active = placed.plan.is_active(now - start);
            if active != placed.active {
                placed.active = active;
                placed.flow.set_active(now, active);
            }
            while let Some((by_receiver, ecn)) = placed.flow.poll_transmit(now, &mut out) {
                let (from, to) = (placed.ends.sender, placed.ends.receiver);
                if by_receiver {
                    sim.send(placed.hosts[1], Path::udp(to, from), ecn, &out);
                } else {
                    placed.result.sent += 1;
                    sim.send(placed.hosts[0], Path::udp(from, to), ecn, &out);
                }
            }
        }
        if now >= end {
            break;
        }
        if now >= next_bin {
            next_bin += BIN;
            for placed in &mut placed {
                let estimate = placed.flow.estimate();
                placed.result.estimates.push(estimate);
            }
        }
        if let Some(cross) = &mut cross {
            cross.start_due(&mut sim, scenario);
        }
        let timeouts = placed
            .iter()
            .filter_map(|placed| placed.flow.poll_timeout());
        let changes = placed
            .iter()
            .filter_map(|placed| placed.plan.next_change(now - start))
            .map(|change| start + change);
        let crosses = cross.iter().filter_map(CrossTraffic::due);
        let until = timeouts
            .chain(changes)
            .chain(crosses)
            .chain([end, next_bin])
            .min()
            .unwrap_or(end)
            .max(now);
        if let Some(delivery) = sim.step_until(until) {
            let now = delivery.now;
            match delivery.what {
                Arrival::Datagram(mut payload) => {
                    let at = |placed: &Placed| {
                        placed.hosts.iter().position(|host| *host == delivery.host)
                    };
                    if let Some((placed, side)) = placed
                        .iter_mut()
                        .find_map(|placed| at(placed).map(|side| (placed, side)))
                    {
                        if side == 1 {
                            let bin = ((now - start).as_millis() / BIN.as_millis()) as usize;
                            let result = &mut placed.result;
                            if result.bins.len() <= bin {
                                result.bins.resize(bin + 1, 0);
                            }
                            result.bins[bin] += payload.len() as u64 + IP_UDP;
                            let delay = (now - delivery.sent).saturating_sub(placed.base_delay);
                            result.delays.push(delay.as_secs_f32() * 1e3);
                            result.arrived += 1;
                        }
                        placed
                            .flow
                            .handle_datagram(now, side == 1, delivery.ecn, &mut payload);
                    }
                    sim.recycle(payload);
                }
                Arrival::Tcp(event) => {
                    if let Some(cross) = &mut cross {
                        cross.handle(&mut sim, delivery.host, delivery.path, event);
                    }
                }
                Arrival::PacketTooBig { .. } => {}
            }
        }
        let now = sim.now();
        for placed in &mut placed {
            if placed.flow.poll_timeout().is_some_and(|due| due <= now) {
                placed.flow.handle_timeout(now);
            }
        }
    }
    let flows: Vec<FlowResult> = placed.into_iter().map(|placed| placed.result).collect();
    let cross_bits = cross.map_or(0.0, |cross| cross.bytes as f64 * 8.0);
    measure(scenario, flows, cross_bits)
}

fn places(
    plan: &FlowPlan,
    near: NetworkId,
    second: Option<NetworkId>,
    far: NetworkId,
) -> (NetworkId, NetworkId) {
    let middle = second.unwrap_or(far);
    match plan.shape {
        Shape::Whole => (near, far),
        Shape::FirstOnly => (near, middle),
        Shape::SecondOnly => (middle, far),
    }
}

fn cross_traffic(
    scenario: &Scenario,
    sim: &mut Simulation,
    near: NetworkId,
    far: NetworkId,
    random: Random,
) -> Option<CrossTraffic> {
    let count = match scenario.cross {
        Cross::None => return None,
        Cross::LongTcp => 1,
        Cross::ShortTcp { connections } => connections,
    };
    let (a, b) = (address(2, 0), address(3, 0));
    let sender = sim.add_host_in(near, "tcp", &[a], LinkConfig::new());
    let receiver = sim.add_host_in(far, "tcp", &[b], LinkConfig::new());
    sim.tcp(receiver, TcpCommand::Listen(SocketAddr::new(b, 80)));
    let mut cross = CrossTraffic {
        sender,
        receiver,
        next: vec![None; count],
        open: vec![None; count],
        port: 10_000,
        bytes: 0,
        random,
    };
    for index in 0..count {
        // Two of the short flows start in the ON state (RFC 8867 section 5.7).
        let wait = if index < 2 { 0.0 } else { cross.idle() };
        cross.next[index] = Some(sim.now() + Duration::from_secs_f64(wait));
    }
    Some(cross)
}

impl CrossTraffic {
    /// Exponential with a mean of 10 s (RFC 8868 section 5.1).
    fn idle(&mut self) -> f64 {
        -10.0 * (1.0 - self.random.unit()).ln()
    }

    fn due(&self) -> Option<Instant> {
        self.next.iter().flatten().min().copied()
    }

    fn start_due(&mut self, sim: &mut Simulation, scenario: &Scenario) {
        let now = sim.now();
        for index in 0..self.next.len() {
            if self.next[index].is_none_or(|next| next > now) {
                continue;
            }
            self.next[index] = None;
            self.port += 1;
            let local = SocketAddr::new(address(2, 0), self.port);
            let path = Path::tcp(local, SocketAddr::new(address(3, 0), 80));
            let bytes = match scenario.cross {
                Cross::LongTcp => 1 << 28,
                _ => 30_000 + self.random.below(20_000) as usize,
            };
            self.open[index] = Some(path);
            sim.tcp(self.sender, TcpCommand::Connect(path));
            sim.tcp(self.sender, TcpCommand::Write(path, vec![0; bytes]));
            sim.tcp(self.sender, TcpCommand::Close(path));
        }
    }

    fn handle(&mut self, sim: &mut Simulation, host: HostId, path: Path, event: TcpEvent) {
        match event {
            TcpEvent::Data(data) => self.bytes += data.len() as u64,
            TcpEvent::Finished if host == self.receiver => {
                sim.tcp(host, TcpCommand::Close(path));
                let ours = |open: &Option<Path>| open.is_some_and(|open| open.local == path.remote);
                if let Some(index) = self.open.iter().position(ours) {
                    self.open[index] = None;
                    let idle = self.idle();
                    self.next[index] = Some(sim.now() + Duration::from_secs_f64(idle));
                }
            }
            _ => {}
        }
    }
}

fn measure(scenario: &Scenario, flows: Vec<FlowResult>, cross_bits: f64) -> Outcome {
    let seconds = scenario.duration.as_secs_f64();
    let mut delays: Vec<f32> = flows.iter().flat_map(|flow| flow.delays.clone()).collect();
    delays.sort_by(f32::total_cmp);
    let mean =
        delays.iter().map(|&delay| f64::from(delay)).sum::<f64>() / delays.len().max(1) as f64;
    let p95 = delays
        .get((delays.len() as f64 * 0.95) as usize)
        .map_or(0.0, |&delay| f64::from(delay));
    let sent: u64 = flows.iter().map(|flow| flow.sent).sum();
    let arrived: u64 = flows.iter().map(|flow| flow.arrived).sum();
    let bytes: u64 = flows.iter().flat_map(|flow| &flow.bins).sum();
    let possible: f64 = (0..(seconds * 10.0) as usize)
        .map(|bin| scenario.possible(BIN * bin as u32) * BIN.as_secs_f64())
        .sum();
    let third = (seconds * 10.0 * 2.0 / 3.0) as usize;
    let rates: Vec<f64> = flows
        .iter()
        .map(|flow| flow.bins.iter().skip(third).sum::<u64>() as f64)
        .collect();
    let (sum, squares) = rates
        .iter()
        .fold((0.0, 0.0), |sum, rate| (sum.0 + rate, sum.1 + rate * rate));
    Outcome {
        utilisation: bytes as f64 * 8.0 / possible,
        mean_delay: mean,
        p95_delay: p95,
        loss: 1.0 - arrived as f64 / sent.max(1) as f64,
        ramp: scenario.step.and_then(|step| ramp(scenario, &flows, step)),
        fairness: if squares > 0.0 {
            sum * sum / (rates.len() as f64 * squares)
        } else {
            0.0
        },
        cross: cross_bits / seconds,
        flows,
    }
}

/// Seconds from a step to the first half second at 90 % of what is possible.
fn ramp(scenario: &Scenario, flows: &[FlowResult], step: Duration) -> Option<f64> {
    let first = (step.as_millis() / BIN.as_millis()) as usize;
    let last = (scenario.duration.as_millis() / BIN.as_millis()) as usize;
    let wanted = 0.9 * scenario.possible(step + BIN);
    let rate = |bin: usize| -> f64 {
        let bytes: u64 = flows
            .iter()
            .map(|flow| flow.bins.iter().skip(bin).take(5).sum::<u64>())
            .sum();
        bytes as f64 * 8.0 / 0.5
    };
    (first..last)
        .find(|&bin| rate(bin) >= wanted)
        .map(|bin| (bin + 5 - first) as f64 / 10.0)
}

/// For a test's message: what the link did is the simulation's.
pub fn describe(outcome: &Outcome) -> String {
    format!(
        "utilisation {:.3}, delay mean {:.1} p95 {:.1} ms, loss {:.4}, ramp {:?} s, fairness {:.3}, cross {:.0}",
        outcome.utilisation,
        outcome.mean_delay,
        outcome.p95_delay,
        outcome.loss,
        outcome.ramp,
        outcome.fairness,
        outcome.cross
    )
}

/// The estimates of the first flow from a time on (seconds), in bits per second.
pub fn estimates(outcome: &Outcome, from: f64) -> &[u64] {
    &outcome.flows[0].estimates[(from * 10.0) as usize..]
}

/// Our controller in a scenario, under the seeds from 1 to `seeds`; each outcome with the words for its failure.
pub fn histories(scenario: &Scenario, seeds: u64) -> impl Iterator<Item = (String, Outcome)> {
    let ours = |context| flow::goog_cc(context, |config| config.limits.min = 30_000);
    (1..=seeds).map(move |seed| {
        let outcome = run(scenario, seed, &ours);
        let words = format!("{}, seed {seed}: {}", scenario.name, describe(&outcome));
        (words, outcome)
    })
}
