//! The essential scenarios of `cargo xtask congestion-table`, with bounds that a regression would
//! cross. The seed is in every message.

mod lab;

use lab::scenario::{self, Scenario};
use lab::{FlowContext, Outcome, describe, flow, run};

/// Seeds of every test; `CONGESTION_SEEDS` asks for more.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let count = std::env::var("CONGESTION_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    1..=count.unwrap_or(2)
}

struct Bounds {
    utilisation: f64,
    p95_delay: f64,
    /// Seconds to 90 % of the step.
    ramp: f64,
    fairness: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            utilisation: 0.0,
            p95_delay: f64::INFINITY,
            ramp: f64::INFINITY,
            fairness: 0.0,
        }
    }
}

fn goog_cc(context: FlowContext) -> Box<dyn lab::Flow> {
    flow::goog_cc(context, |_| {})
}

fn check(scenario: &Scenario, build: lab::Build<'_>, bounds: &Bounds) -> Vec<Outcome> {
    seeds()
        .map(|seed| {
            let outcome = run(scenario, seed, build);
            let words = format!("{}, seed {seed}: {}", scenario.name, describe(&outcome));
            assert!(outcome.utilisation >= bounds.utilisation, "{words}");
            assert!(outcome.p95_delay <= bounds.p95_delay, "{words}");
            assert!(outcome.fairness >= bounds.fairness, "{words}");
            if bounds.ramp.is_finite() {
                assert!(
                    outcome.ramp.is_some_and(|ramp| ramp <= bounds.ramp),
                    "{words}"
                );
            }
            outcome
        })
        .collect()
}

#[test]
fn from_a_tenth_of_the_capacity_the_rate_is_there_within_five_seconds() {
    let bounds = Bounds {
        utilisation: 0.9,
        p95_delay: 120.0,
        ramp: 5.0,
        ..Bounds::default()
    };
    check(&scenario::ramp(), &goog_cc, &bounds);
    check(&scenario::ramp(), &flow::scream, &bounds);
}

#[test]
fn rfc_8867_5_1_a_capacity_that_changes_is_followed_both_ways() {
    let bounds = Bounds {
        utilisation: 0.92,
        p95_delay: 130.0,
        ramp: 6.0,
        ..Bounds::default()
    };
    check(&scenario::case_5_1(), &goog_cc, &bounds);
    check(&scenario::case_5_1(), &flow::scream, &bounds);
}

#[test]
fn rfc_8867_5_3_a_congested_way_back_does_not_starve_the_way_there() {
    let bounds = Bounds {
        utilisation: 0.9,
        p95_delay: 220.0,
        ..Bounds::default()
    };
    check(&scenario::case_5_3(), &goog_cc, &bounds);
    check(&scenario::case_5_3(), &flow::scream, &bounds);
}

#[test]
fn rfc_8867_5_4_three_flows_share_fairly() {
    let bounds = Bounds {
        utilisation: 0.93,
        p95_delay: 230.0,
        fairness: 0.85,
        ..Bounds::default()
    };
    check(&scenario::case_5_4(), &goog_cc, &bounds);
    check(&scenario::case_5_4(), &flow::scream, &bounds);
}

#[test]
fn rfc_8867_5_6_a_long_tcp_flow_does_not_starve_media() {
    let bounds = Bounds {
        utilisation: 0.6,
        ..Bounds::default()
    };
    for outcome in check(&scenario::case_5_6(), &goog_cc, &bounds) {
        // Nor is it starved: the fair share is 1 Mbit/s.
        assert!(outcome.cross > 500_000.0, "{}", describe(&outcome));
    }
}

#[test]
fn rfc_8867_5_8_a_flow_that_pauses_gets_its_share_back() {
    let bounds = Bounds {
        utilisation: 0.93,
        p95_delay: 160.0,
        fairness: 0.85,
        ..Bounds::default()
    };
    check(&scenario::case_5_8(), &goog_cc, &bounds);
    // Flows that give way together leave no part of the link idle for it.
    let bounds = Bounds {
        utilisation: 0.99,
        p95_delay: 150.0,
        fairness: 0.95,
        ..Bounds::default()
    };
    check(&scenario::case_5_4(), &goog_cc, &bounds);
    check(&scenario::case_5_8(), &goog_cc, &bounds);
}

#[test]
fn rfc_8867_5_7_a_queue_that_short_flows_leave_behind_is_not_ours_to_pay_for() {
    let bounds = Bounds {
        utilisation: 0.67,
        p95_delay: 250.0,
        fairness: 0.9,
        ..Bounds::default()
    };
    check(&scenario::case_5_7(), &goog_cc, &bounds);
}

#[test]
fn random_loss_of_five_percent_leaves_the_capacity_in_use() {
    let bounds = Bounds {
        utilisation: 0.85,
        p95_delay: 130.0,
        ..Bounds::default()
    };
    check(&scenario::random_loss(0.05), &goog_cc, &bounds);
    check(&scenario::random_loss(0.05), &flow::scream, &bounds);
    check(&scenario::bursty_loss(0.05), &goog_cc, &bounds);
    check(&scenario::bursty_loss(0.10), &goog_cc, &bounds);
}

#[test]
fn wireless_links_are_used_without_filling_their_queues() {
    let bounds = Bounds {
        utilisation: 0.75,
        p95_delay: 300.0,
        ..Bounds::default()
    };
    check(&scenario::cell(), &goog_cc, &bounds);
    check(&scenario::cell(), &flow::scream, &bounds);
    let bounds = Bounds {
        utilisation: 0.85,
        p95_delay: 160.0,
        ..Bounds::default()
    };
    check(&scenario::wifi(), &goog_cc, &bounds);
}

#[test]
fn marks_keep_the_delay_of_scream_below_ten_milliseconds() {
    let bounds = Bounds {
        utilisation: 0.4,
        p95_delay: 12.0,
        ..Bounds::default()
    };
    for outcome in check(&scenario::l4s(), &flow::scream, &bounds) {
        assert!(outcome.loss < 0.02, "{}", describe(&outcome));
    }
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let once = || run(&scenario::ramp(), 3, &goog_cc);
    let (first, second) = (once(), once());
    assert_eq!(first.flows[0].estimates, second.flows[0].estimates);
    assert_eq!(first.flows[0].delays, second.flows[0].delays);
    let other = run(&scenario::ramp(), 4, &goog_cc);
    assert_ne!(first.flows[0].estimates, other.flows[0].estimates);
}
