//! Random scripts over all doors of an agent; `ICE_SCRIPTS` says how many.

#[path = "common/doors.rs"]
#[allow(unreachable_pub, reason = "shared with the fuzz target")]
mod doors;

use visavis_datagram::Random;

#[test]
fn any_order_of_calls_is_survived() {
    let scripts = std::env::var("ICE_SCRIPTS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(300u64);
    for seed in 0..scripts {
        let mut random = Random::from_u64(seed);
        let mut script = vec![0; random.below(600) as usize];
        random.fill(&mut script);
        // Begin with what gets an agent going, or the rest falls on a dead one.
        let begin = [
            random.u32() as u8 & 31,
            0,
            1,
            2,
            4,
            random.u32() as u8,
            14,
            11,
            0,
        ];
        let script: Vec<u8> = begin.into_iter().chain(script).collect();
        let outcome = std::panic::catch_unwind(|| doors::run(&script));
        assert!(outcome.is_ok(), "script of seed {seed}: {script:02x?}");
    }
}
