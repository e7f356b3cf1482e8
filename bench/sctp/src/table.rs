//! Goodput over simulated links: round trip by loss by rate by congestion controller, and
//! sctp-proto beside them. Then who gets what where two flows share a link.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use interop_sctp::{Delivery, End, Ours, SctpProto, Stack};
use serde_json::json;
use visavis_datagram::{Ecn, Segments, TransmitBuf};
use visavis_netsim::{Limit, LinkConfig, Pipe, PipeEnd, Queue};
use visavis_report::{Options, Table};
use visavis_sctp::{Config, ControllerKind};

/// Bytes of one message.
const MESSAGE: usize = 16_384;

/// A link.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Path {
    rtt: u64,
    loss: f64,
    megabits: u64,
}

impl Path {
    fn link(self) -> LinkConfig {
        // One round trip of queue, as common routers have; of short paths, what a burst needs.
        let queue = Duration::from_millis(self.rtt.max(10));
        LinkConfig::new()
            .delay(Duration::from_micros(self.rtt * 500))
            .rate(self.megabits * 1_000_000)
            .queue(Queue::DropTail(Limit::Time(queue)))
            .random_loss(self.loss)
    }

    fn back(self) -> LinkConfig {
        LinkConfig::new()
            .delay(Duration::from_micros(self.rtt * 500))
            .random_loss(self.loss)
    }

    /// How long to run: the start takes round trips, and a share of the time at most.
    fn span(self) -> Duration {
        Duration::from_millis((self.rtt * 60).clamp(4_000, 14_000))
    }
}

fn config(controller: ControllerKind) -> Config {
    let mut config = Config {
        controller,
        receive_window: 192 << 20,
        ..Config::default()
    };
    config.limits.send_buffer = 192 << 20;
    config
}

/// Bits per second of payload that arrived in the last two thirds of the span.
fn goodput<S: Stack + 'static>(path: Path, seed: u64, from: S, to: S) -> f64 {
    let start = Instant::now();
    let mut pipe = Pipe::asymmetric(start, seed, path.link(), path.back());
    let (mut a, mut b) = (End(Box::new(from)), End(Box::new(to)));
    a.0.connect(start);
    let data = Bytes::from(vec![7; MESSAGE]);
    let end = start + path.span();
    let begin = start + path.span() / 3;
    let mut bytes = 0usize;
    let mut received = 0usize;
    let mut sent = 0usize;
    // Enough to be limited by the network alone.
    let ahead = (path.megabits * 125 * path.rtt.max(20) * 4) as usize + (1 << 20);
    pipe.run(&mut a, &mut b, end, |now, a, b| {
        while a.0.is_connected() && sent < received + ahead {
            if !a.0.send(now, 1, data.clone(), Delivery::Reliable) {
                break;
            }
            sent += MESSAGE;
        }
        while let Some(got) = b.0.discard() {
            received += got;
            if now >= begin {
                bytes += got;
            }
        }
        false
    });
    bytes as f64 * 8.0 / (end - begin).as_secs_f64()
}

/// Two associations between the same hosts, told apart by port.
struct Two {
    flows: [Ours; 2],
    turn: usize,
}

impl Two {
    fn new(kinds: [ControllerKind; 2], seed: u64) -> Self {
        let flow = |index: usize| {
            let port = 5000 + index as u16;
            let config = Config {
                local_port: port,
                remote_port: port,
                ..config(kinds[index])
            };
            Ours::new(config, seed * 2 + index as u64)
        };
        Self {
            flows: [flow(0), flow(1)],
            turn: 0,
        }
    }
}

impl PipeEnd for Two {
    fn handle_datagram(&mut self, now: Instant, _ecn: Ecn, datagram: &mut [u8]) {
        let port = u16::from_be_bytes([datagram[2], datagram[3]]);
        self.flows[usize::from(port - 5000)].handle(now, datagram);
    }

    fn handle_timeout(&mut self, now: Instant) {
        for flow in &mut self.flows {
            flow.handle_timeout(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.flows.iter().filter_map(Stack::poll_timeout).min()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<(Segments, Ecn)> {
        for _ in 0..2 {
            self.turn ^= 1;
            if self.flows[self.turn].transmit(now, out) {
                return Some((out.segments()?, Ecn::NotEct));
            }
        }
        None
    }
}

/// Bits per second of each of two flows; the second starts a while after the first.
fn share(path: Path, kinds: [ControllerKind; 2], seed: u64, span: Duration) -> [f64; 2] {
    let start = Instant::now();
    let mut pipe = Pipe::asymmetric(start, seed, path.link(), path.back());
    let mut a = Two::new(kinds, seed);
    let mut b = Two::new(kinds, seed + 1000);
    a.flows[0].connect(start);
    let second = start + Duration::from_millis(1500 + seed * 137);
    let mut started = false;
    let data = Bytes::from(vec![7; MESSAGE]);
    let end = start + span;
    let begin = start + span / 4;
    let mut bytes = [0usize; 2];
    pipe.run(&mut a, &mut b, end, |now, a, b| {
        if now >= second && !started {
            started = true;
            a.flows[1].connect(now);
        }
        for flow in &mut a.flows {
            while flow.is_connected() && flow.association.send_buffered() < 4 << 20 {
                if !flow.send(now, 1, data.clone(), Delivery::Reliable) {
                    break;
                }
            }
        }
        for (index, flow) in b.flows.iter_mut().enumerate() {
            while let Some(got) = flow.discard() {
                if now >= begin {
                    bytes[index] += got;
                }
            }
        }
        false
    });
    bytes.map(|bytes| bytes as f64 * 8.0 / (end - begin).as_secs_f64())
}

const CONTROLLERS: [(&str, ControllerKind); 3] = [
    ("model", ControllerKind::Model),
    ("cubic", ControllerKind::Cubic),
    ("newreno", ControllerKind::NewReno),
];

fn paths(quick: bool) -> Vec<Path> {
    let (rtts, losses, rates): (&[u64], &[f64], &[u64]) = if quick {
        (&[20, 100], &[0.0, 0.01], &[10, 100])
    } else {
        (
            &[1, 20, 100, 300],
            &[0.0, 0.001, 0.01, 0.05],
            &[10, 100, 1000],
        )
    };
    let mut paths = Vec::new();
    for &rtt in rtts {
        for &loss in losses {
            for &megabits in rates {
                paths.push(Path {
                    rtt,
                    loss,
                    megabits,
                });
            }
        }
    }
    paths
}

fn main() -> ExitCode {
    let (options, filter) = Options::from_arguments();
    let wanted = |name: &str| filter.is_empty() || filter.iter().any(|f| f == name);
    let mut table = Table::new(
        "SCTP goodput over simulated links, per cent of the link's rate",
        &[
            "RTT ms",
            "loss %",
            "Mbit/s",
            "model",
            "cubic",
            "newreno",
            "sctp-proto",
        ],
    );
    let seed = 1;
    let mut worst_clean: f64 = 100.0;
    let mut worst_lossy: f64 = 100.0;
    let only_shares = filter.iter().any(|f| f == "shares");
    for path in paths(options.quick) {
        if only_shares {
            break;
        }
        let link = path.megabits as f64 * 1e6;
        let per_cent = |rate: f64| (rate / link * 1000.0).round() / 10.0;
        let mut row = vec![
            json!(path.rtt),
            json!(path.loss * 100.0),
            json!(path.megabits),
        ];
        for (name, kind) in CONTROLLERS {
            if !wanted(name) {
                row.push(json!(null));
                continue;
            }
            let from = Ours::new(config(kind), seed);
            let to = Ours::new(config(kind), seed + 1);
            let got = per_cent(goodput(path, seed, from, to));
            row.push(json!(got));
            if kind == ControllerKind::Model {
                if path.loss == 0.0 {
                    worst_clean = worst_clean.min(got);
                }
                if path.loss == 0.01 && path.rtt == 100 {
                    worst_lossy = worst_lossy.min(got);
                }
            }
        }
        if wanted("sctp-proto") {
            let window = 64 << 20;
            let from = SctpProto::new(1160, window);
            let to = SctpProto::new(1160, window);
            row.push(json!(per_cent(goodput(path, seed, from, to))));
        } else {
            row.push(json!(null));
        }
        table.row(row);
    }
    table.at_least(
        "per cent of the link without loss, worst",
        worst_clean,
        90.0,
    );
    table.at_least("per cent at 100 ms and 1 % loss, worst", worst_lossy, 70.0);
    let model = ControllerKind::Model;
    let seeds = if options.quick { 2 } else { 20 };
    let span = Duration::from_secs(if options.quick { 30 } else { 60 });
    for (rtt, megabits) in [(20, 20), (100, 50)] {
        let path = Path {
            rtt,
            loss: 0.0,
            megabits,
        };
        let mut larger: f64 = 0.0;
        let mut cubic: f64 = 100.0;
        let mut cubic_of_model: Vec<String> = Vec::new();
        for seed in 1..=seeds {
            let [first, second] = share(path, [model, model], seed, span);
            larger = larger.max(first.max(second) / (first + second) * 100.0);
            for kinds in [
                [model, ControllerKind::Cubic],
                [ControllerKind::Cubic, model],
            ] {
                let rates = share(path, kinds, seed, span);
                let at = usize::from(kinds[1] == ControllerKind::Cubic);
                let share = rates[at] / (rates[0] + rates[1]) * 100.0;
                cubic = cubic.min(share);
                cubic_of_model.push(format!("{share:.0}"));
            }
        }
        let place = format!("{megabits} Mbit/s, {rtt} ms");
        table.note(format!(
            "two flows of ours on {place}: the larger has {larger:.0} %; beside ours, CUBIC has {} %",
            cubic_of_model.join(", ")
        ));
        table.at_most(
            &format!("share of the larger of two on {place}"),
            larger,
            60.0,
        );
        table.at_least(
            &format!("share of CUBIC beside ours on {place}"),
            cubic,
            30.0,
        );
    }
    table.note("drop-tail queue of one round trip (10 ms at least); loss both ways; seed 1; the first third of each run does not count");
    table.finish(options)
}
