//! Any bytes as a DCEP message; what is understood survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_sctp::datachannel::Dcep;

fuzz_target!(|data: &[u8]| {
    if let Some(message) = Dcep::parse(data) {
        let bytes = message.to_bytes();
        assert_eq!(Dcep::parse(&bytes), Some(message));
    }
});
