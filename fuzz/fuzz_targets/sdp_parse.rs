//! Any text as a description and as a fragment: read or refused, and what was read reads again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_sdp::{Fragment, SessionDescription};

fuzz_target!(|text: &str| {
    if let Ok(description) = SessionDescription::parse(text) {
        let again = SessionDescription::parse(&description.to_string());
        assert_eq!(again.as_ref(), Ok(&description));
        for media in &description.media {
            let _ = (
                media.is_plan_b(),
                media.is_data_channel(),
                media.sctp_port(),
            );
        }
    }
    if let Ok(fragment) = Fragment::parse(text) {
        assert_eq!(Fragment::parse(&fragment.to_string()), Ok(fragment));
    }
});
