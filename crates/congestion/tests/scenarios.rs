//! The essential scenarios of the congestion table.

mod lab;

use lab::{FlowContext, describe, run, scenario};

#[test]
#[ignore = "prints all scenarios"]
fn table() {
    for scenario in scenario::all() {
        let ours = run(&scenario, 1, &|context: FlowContext| {
            lab::flow::goog_cc(context, |_| {})
        });
        eprintln!("{:24} goog {}", scenario.name, describe(&ours));
        let scream = run(&scenario, 1, &lab::flow::scream);
        eprintln!("{:24} scrm {}", "", describe(&scream));
    }
}
