//! The essential scenarios of the congestion table.

mod lab;

use lab::{FlowContext, describe, run, scenario};

#[test]
#[ignore = "prints all scenarios"]
fn table() {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let seeds: u64 = std::env::var("SEEDS").map_or(1, |s| s.parse().unwrap());
    let who = std::env::var("WHO").unwrap_or("goog".into());
    for scenario in scenario::all() {
        if !scenario.name.contains(&wanted) {
            continue;
        }
        for seed in 1..=seeds {
            let outcome = if who == "goog" {
                run(&scenario, seed, &|context: FlowContext| {
                    lab::flow::goog_cc(context, |_| {})
                })
            } else {
                run(&scenario, seed, &lab::flow::scream)
            };
            eprintln!("{:24} {}", scenario.name, describe(&outcome));
            if std::env::var("VERBOSE").is_ok() {
                for flow in &outcome.flows {
                    let e: Vec<u64> = flow.estimates.iter().step_by(5).map(|e| e / 1000).collect();
                    eprintln!("{e:?}");
                }
            }
        }
    }
}
