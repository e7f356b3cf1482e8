//! What recordings read of a video's parameter sets: H.265 SPS and AV1 sequence headers. The first byte chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_rtp::payload::av1_sequence::Av1Sequence;
use visavis_rtp::payload::h265_parameters::H265Sps;

fn av1(sequence: Av1Sequence) {
    assert!(sequence.profile <= 2 && sequence.level <= 31 && sequence.chroma_position <= 3);
    assert!(matches!(sequence.bit_depth, 8 | 10 | 12));
    assert!((1..=1 << 16).contains(&sequence.width) && (1..=1 << 16).contains(&sequence.height));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    match first % 3 {
        0 => {
            if let Ok(sps) = H265Sps::parse(rest) {
                assert!((1..=7).contains(&sps.temporal_layers) && sps.chroma_format <= 3);
                assert!((8..=16).contains(&sps.bit_depth.0) && (8..=16).contains(&sps.bit_depth.1));
                assert!(sps.constraints < 1 << 48);
            }
        }
        1 => {
            if let Ok(Some((sequence, obu))) = Av1Sequence::find(rest) {
                av1(sequence);
                // It is a part of what was looked through.
                assert!(!obu.is_empty() && rest.windows(obu.len()).any(|part| part == obu));
            }
        }
        _ => {
            if let Ok(sequence) = Av1Sequence::parse(rest) {
                av1(sequence);
            }
        }
    }
});
