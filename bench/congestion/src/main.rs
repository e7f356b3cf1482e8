//! `cargo xtask congestion-table`: the scenarios of RFC 8867 and more, with our controllers and
//! with str0m's estimator, on the same simulated links.

#[path = "../../../crates/congestion/tests/lab/mod.rs"]
mod lab;
mod str0m_flow;

use std::process::ExitCode;
use std::time::Duration;

use lab::scenario::{self, Scenario};
use lab::{Build, FlowContext, Outcome, run};
use serde_json::{Value, json};
use visavis_report::{Options, Table};

/// Seeds of a full run. A quick one has one, and leaves the scenarios of five minutes out.
const SEEDS: u64 = 3;
/// Runs of str0m for each seed of a full run: its own randomness is not seeded, and one run is a toss.
const RUNS: u64 = 3;
const QUICK_LIMIT: Duration = Duration::from_secs(150);

fn main() -> ExitCode {
    let (options, filters) = Options::from_arguments();
    let seeds = if options.quick { 1 } else { SEEDS };
    let mut table = Table::new(
        "Congestion control over simulated bottlenecks",
        &[
            "scenario",
            "controller",
            "utilisation",
            "mean delay ms",
            "p95 delay ms",
            "loss %",
            "ramp s",
            "fairness",
            "cross Mbit/s",
        ],
    );
    let goog: Build<'_> = &|context: FlowContext| lab::flow::goog_cc(context, |_| {});
    let contenders: [(&str, Build<'_>); 3] = [
        ("visavis GCC", goog),
        ("visavis SCReAM", &lab::flow::scream),
        ("str0m", &str0m_flow::build),
    ];
    for scenario in scenario::all() {
        let named = |filter: &String| scenario.name.contains(filter.as_str());
        if options.quick && scenario.duration > QUICK_LIMIT {
            continue;
        }
        if !filters.is_empty() && !filters.iter().any(named) {
            continue;
        }
        let means: Vec<Mean> = contenders
            .iter()
            .map(|(name, build)| {
                let runs = match *name {
                    "str0m" if !options.quick => RUNS,
                    _ => 1,
                };
                let mean = Mean::of(&scenario, seeds, runs, *build);
                table.row(mean.row(scenario.name, name));
                mean
            })
            .collect();
        goals(&mut table, &scenario, &means[0], &means[2]);
    }
    table.note(format!(
        "Mean of {seeds} seeds from 1 on. Delay is what packets waited beyond the propagation delay, jitter included. \
         Ramp: from the scenario's step to 90 % of what is possible then. Utilisation counts every byte that arrived, \
         against what the source would send and the link bears (less what it loses on its own); beside a long TCP flow, against a fair share. \
         With two bottlenecks the flows may share unevenly and use more than the fair division that 1.00 stands for."
    ));
    table.note("str0m 0.25: its whole stack, since its estimator has no public interface; its ends connect before the clock starts. Its retransmissions and padding count as use. Its own randomness is not seeded: in a full run each seed is run three times.");
    table.finish(options)
}

/// The mean of several runs.
struct Mean {
    utilisation: f64,
    mean_delay: f64,
    p95_delay: f64,
    loss: f64,
    ramp: Option<f64>,
    fairness: f64,
    cross: f64,
}

impl Mean {
    fn of(scenario: &Scenario, seeds: u64, runs: u64, build: Build<'_>) -> Self {
        let outcomes: Vec<Outcome> = (1..=seeds)
            .flat_map(|seed| (0..runs).map(move |_| seed))
            .map(|seed| run(scenario, seed, build))
            .collect();
        let mean = |value: &dyn Fn(&Outcome) -> f64| {
            outcomes.iter().map(value).sum::<f64>() / outcomes.len() as f64
        };
        let never = scenario.duration.as_secs_f64();
        Self {
            utilisation: mean(&|outcome| outcome.utilisation),
            mean_delay: mean(&|outcome| outcome.mean_delay),
            p95_delay: mean(&|outcome| outcome.p95_delay),
            loss: mean(&|outcome| outcome.loss),
            ramp: scenario
                .step
                .map(|_| mean(&|outcome| outcome.ramp.unwrap_or(never))),
            fairness: mean(&|outcome| outcome.fairness),
            cross: mean(&|outcome| outcome.cross),
        }
    }

    fn row(&self, scenario: &str, contender: &str) -> Vec<Value> {
        let round = |value: f64, digits: i32| {
            let scale = 10f64.powi(digits);
            json!((value * scale).round() / scale)
        };
        vec![
            json!(scenario),
            json!(contender),
            round(self.utilisation, 3),
            round(self.mean_delay, 1),
            round(self.p95_delay, 1),
            round(self.loss * 100.0, 2),
            self.ramp.map_or(json!("-"), |ramp| round(ramp, 1)),
            round(self.fairness, 3),
            round(self.cross / 1e6, 2),
        ]
    }
}

fn goals(table: &mut Table, scenario: &Scenario, ours: &Mean, theirs: &Mean) {
    let name = scenario.name;
    if name.starts_with("ramp") {
        let seconds = ours.ramp.unwrap_or(f64::INFINITY);
        table.at_most("seconds from 0.3 to 90 % of 3 Mbit/s", seconds, 5.0);
    }
    if name.contains("loss 5 %") {
        let what = format!("utilisation under {name}");
        table.at_least(&what, ours.utilisation, 0.85);
    }
    let what = format!("{name}: utilisation against str0m's");
    table.at_least(&what, ours.utilisation, theirs.utilisation);
    let what = format!("{name}: p95 delay (ms) against str0m's");
    table.at_most(&what, ours.p95_delay, theirs.p95_delay);
}
