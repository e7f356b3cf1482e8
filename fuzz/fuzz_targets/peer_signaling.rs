//! Descriptions and candidates in any order: refused with nothing changed, or taken and answered.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use visavis_datagram::Random;
use visavis_peer::{
    ChannelOptions, Configuration, Description, IceCandidate, Kind, PeerConnection, SdpType,
};

fuzz_target!(|input: (u8, &str)| {
    let (choices, text) = input;
    let now = Instant::now();
    let Ok(mut pc) = PeerConnection::new(Configuration::default(), Random::from_u64(1), now) else {
        return;
    };
    if choices & 1 != 0 {
        let _ = pc.add_track(Kind::Video, "v", &["s".into()]);
    }
    if choices & 2 != 0 {
        let _ = pc.create_data_channel(now, ChannelOptions::default());
    }
    if choices & 4 != 0 {
        pc.set_local_description(now, None).unwrap();
    }
    for part in text.split('\u{1}') {
        let kind = match choices >> 3 & 3 {
            0 | 1 => SdpType::Offer,
            2 => SdpType::Answer,
            _ => SdpType::PrAnswer,
        };
        let state = pc.signaling_state();
        let sdp = part.into();
        if pc
            .set_remote_description(now, &Description { kind, sdp })
            .is_err()
        {
            assert_eq!(pc.signaling_state(), state);
        } else if kind == SdpType::Offer {
            pc.set_local_description(now, None).unwrap();
            pc.set_local_description(now, None).unwrap();
            pc.set_local_description(now, Some(&Description::rollback()))
                .unwrap();
        }
        let candidate = IceCandidate {
            candidate: part.into(),
            sdp_mline_index: Some(0),
            ..IceCandidate::default()
        };
        let _ = pc.add_ice_candidate(now, &candidate);
    }
    while pc.poll_event().is_some() {}
});
