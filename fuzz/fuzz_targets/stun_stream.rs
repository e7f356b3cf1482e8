//! Any byte stream, split anywhere: the same frames however it was split, and never stuck.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_stun::{StreamDecoder, StreamFraming};

fn frames(framing: StreamFraming, bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = StreamDecoder::new(framing, 2000);
    let mut frames = Vec::new();
    for mut rest in bytes.chunks(piece) {
        while !rest.is_empty() {
            let taken = decoder.push(rest);
            rest = &rest[taken..];
            let before = frames.len();
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(_) => return (frames, true),
                }
            }
            // Empty RFC 4571 frames make room without a frame.
            assert!(taken != 0 || frames.len() != before || decoder.buffered() < 2000);
        }
    }
    (frames, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    let framing = if first & 1 == 0 {
        StreamFraming::Turn
    } else {
        StreamFraming::Rfc4571
    };
    let whole = frames(framing, bytes, bytes.len().max(1));
    let split = frames(framing, bytes, usize::from(first >> 1) + 1);
    assert_eq!(whole, split);
});
