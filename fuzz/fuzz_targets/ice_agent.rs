//! Any bytes, at any door of an agent, in any order and at any time.
#![no_main]

#[path = "../../crates/ice/tests/common/doors.rs"]
mod doors;

libfuzzer_sys::fuzz_target!(|data: &[u8]| doors::run(data));
