//! Recordings of hostile video: the first byte chooses the codec, then frames behind a byte of flags, two of length and one of
//! time. Whatever the frames are, what is written is a row of boxes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_rtp::file::mp4::{Mp4Codec, Mp4Writer};

const CODECS: [Mp4Codec; 3] = [Mp4Codec::H264, Mp4Codec::H265, Mp4Codec::Av1];

/// ISO/IEC 14496-12 section 4.2.
fn boxes(mut file: &[u8]) {
    while !file.is_empty() {
        let size = u32::from_be_bytes(file[..4].try_into().unwrap()) as usize;
        assert!(size >= 8, "a box without a head");
        file = &file[size..];
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, mut rest)) = bytes.split_first() else {
        return;
    };
    let codec = CODECS[usize::from(first) % CODECS.len()];
    let mut writer = Mp4Writer::new(Vec::new(), codec).unwrap();
    let mut nanos = 0u64;
    while let [flags, high, low, time, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (frame, tail) = tail.split_at(len);
        rest = tail;
        // From the same moment again to years ahead.
        nanos = nanos.saturating_add(u64::from(*time) << (flags >> 1 & 0x3f));
        if writer.write_frame(nanos, flags & 1 == 1, frame).is_err() {
            return;
        }
    }
    if let Ok(file) = writer.finish() {
        boxes(&file);
    }
});
