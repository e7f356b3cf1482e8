//! Any bytes as an SCTP packet.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    visavis_sctp::fuzzing::parse_packet(data);
});
