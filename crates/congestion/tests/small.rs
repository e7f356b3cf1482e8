//! A small video over a path that loses packets of itself: what is acknowledged is next to nothing, and nothing that is
//! sent can show how much the path bears. The estimate must not fall for the loss alone.

mod lab;

use lab::scenario;
use lab::{estimates, histories};

/// How many histories each test sees.
const SEEDS: u64 = 8;

#[test]
fn a_small_video_over_a_lossy_path_keeps_its_estimate() {
    for loss in [0.02, 0.05, 0.10, 0.15] {
        for stalls in [None, Some(scenario::LUMPS), Some(scenario::DRIPS)] {
            for (words, outcome) in histories(&scenario::small_lossy(loss, stalls), SEEDS) {
                // Sound and video take 100 kbit/s with their headers. Where every tenth packet is lost to a receiver that
                // takes turns, there is a dip now and then, and it is over soon.
                let later = estimates(&outcome, 15.0);
                let low = later.iter().filter(|rate| **rate < 130_000).count();
                assert!(low * 10 <= later.len(), "{low}: {words}");
                assert!(loss > 0.05 || low == 0, "{low}: {words}");
                // While little has been sent, chance weighs more, but it does not pause the video.
                let least = estimates(&outcome, 0.0).iter().min().unwrap();
                assert!(*least > 50_000, "{least}: {words}");
            }
        }
    }
}

#[test]
fn a_path_that_no_longer_bears_the_small_video_is_noticed() {
    for (words, outcome) in histories(&scenario::small_choked(), SEEDS) {
        let last = *estimates(&outcome, 50.0).last().unwrap();
        assert!(last < 100_000, "{last}: {words}");
    }
}
