//! Busy machines and forwarders: receivers that are kept from reading their sockets, senders that send a small part of
//! what they might, and layers that wait for bandwidth. The estimate must not fall for any of that.

mod lab;

use std::time::Duration;

use lab::scenario;
use lab::{estimates, histories};

/// How many histories each test sees.
const SEEDS: u64 = 16;

const BUSY: [scenario::Stalls; 2] = [scenario::LUMPS, scenario::DRIPS];

#[test]
fn a_receiver_that_is_kept_from_reading_does_not_starve_the_sender() {
    let all = BUSY.map(scenario::stalls);
    for (words, outcome) in all.iter().flat_map(|one| histories(one, SEEDS)) {
        assert!(outcome.utilisation > 0.8, "{words}");
        let least = estimates(&outcome, 10.0).iter().min().unwrap();
        assert!(*least > 220_000, "{least}: {words}");
    }
}

#[test]
fn sound_alone_to_a_receiver_that_is_kept_from_reading_keeps_the_estimate() {
    let all = BUSY.map(scenario::stalls_sound);
    for (words, outcome) in all.iter().flat_map(|one| histories(one, SEEDS)) {
        let least = estimates(&outcome, 5.0).iter().min().unwrap();
        assert!(*least > 500_000, "{least}: {words}");
    }
}

#[test]
fn a_path_that_does_not_even_bear_the_sound_is_noticed() {
    for (words, outcome) in histories(&scenario::sound_choked(), SEEDS) {
        let last = *estimates(&outcome, 50.0).last().unwrap();
        assert!(last < 100_000, "{last}: {words}");
    }
}

#[test]
fn a_layer_that_was_paused_goes_on_within_five_seconds_of_a_path_that_bears_it() {
    for stalls in [None, Some(scenario::LUMPS), Some(scenario::DRIPS)] {
        let mut slow = 0;
        for (words, outcome) in histories(&scenario::stalls_layer(stalls), SEEDS) {
            let first = estimates(&outcome, 10.0)
                .iter()
                .position(|&estimate| estimate >= 400_000);
            let after = first.map(|bins| Duration::from_millis(100) * bins as u32);
            let after = after.unwrap_or(Duration::MAX);
            // What a lump has swallowed is tried again.
            assert!(after < Duration::from_secs(15), "{after:?}: {words}");
            slow += u64::from(after > Duration::from_secs(5));
            // And it stays.
            let later = estimates(&outcome, 25.0);
            let held = later.iter().filter(|estimate| **estimate < 400_000).count();
            // A reader that takes turns is a bottleneck itself now and then.
            let share = if stalls == Some(scenario::DRIPS) {
                2
            } else {
                20
            };
            assert!(
                held * share < later.len(),
                "{held} of {}: {words}",
                later.len()
            );
        }
        assert!(slow * 8 <= SEEDS, "{slow} of {SEEDS}, {stalls:?}");
    }
}
