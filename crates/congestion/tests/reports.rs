//! Peers that tell no arrivals: receiver reports alone (draft-ietf-rmcat-gcc-02 section 6), and the receiver's own estimate.

use std::time::{Duration, Instant};

use visavis_congestion::{Controller, GoogCc, GoogCcConfig};

/// Reports of this loss, one a second; answers the target after them.
fn report(controller: &mut GoogCc, now: &mut Instant, seconds: u32, loss: f64) -> u64 {
    for _ in 0..seconds {
        *now += Duration::from_secs(1);
        controller.receiver_report(*now, loss, Some(Duration::from_millis(50)));
    }
    controller.target().bitrate
}

#[test]
fn without_feedback_the_rate_follows_the_loss_of_reports() {
    let mut now = Instant::now();
    let mut controller = GoogCc::new(now, GoogCcConfig::default());
    let start = controller.target().bitrate;
    // Below 2 % it grows by a twentieth with each report, up to 10 % it stays, beyond it falls by half of the loss.
    let grown = report(&mut controller, &mut now, 20, 0.01);
    let factor = grown as f64 / start as f64;
    assert!((2.6..2.7).contains(&factor), "{factor}");
    assert_eq!(report(&mut controller, &mut now, 5, 0.05), grown);
    let fallen = report(&mut controller, &mut now, 1, 0.2);
    assert!(fallen.abs_diff(grown * 9 / 10) <= 1, "{fallen} of {grown}");
    // And never below the least.
    let least = report(&mut controller, &mut now, 200, 0.9);
    assert_eq!(least, GoogCcConfig::default().limits.min);
}

#[test]
fn the_receivers_estimate_is_an_upper_bound_and_no_more() {
    let mut now = Instant::now();
    let mut controller = GoogCc::new(now, GoogCcConfig::default());
    let grown = report(&mut controller, &mut now, 40, 0.0);
    controller.remb(now, 400_000);
    assert_eq!(controller.target().bitrate, 400_000);
    controller.remb(now, 100_000_000);
    assert_eq!(controller.target().bitrate, grown);
}
