//! A DTLS client: what a server sends, changed, and any bytes, in any state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_dtls::Role;

fuzz_target!(|bytes: &[u8]| visavis_fuzz::dtls::run(Role::Client, bytes));
