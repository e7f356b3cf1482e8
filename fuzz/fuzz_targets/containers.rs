//! Readers of files: the first byte chooses the format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use visavis_rtp::file::annexb::{AnnexBCodec, AnnexBReader};
use visavis_rtp::file::ivf::IvfReader;
use visavis_rtp::file::ogg::OggReader;
use visavis_rtp::file::rtpdump::RtpDumpReader;
use visavis_rtp::file::wav::WavReader;
use visavis_rtp::file::y4m::Y4mReader;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, stream)) = bytes.split_first() else {
        return;
    };
    let mut frame = Vec::new();
    match first % 7 {
        0 => {
            if let Ok(mut reader) = IvfReader::new(stream) {
                while let Ok(Some(_)) = reader.read_frame(&mut frame) {}
            }
        }
        1 => {
            if let Ok(mut reader) = OggReader::new(stream) {
                while let Ok(true) = reader.read_packet(&mut frame) {}
            }
        }
        2 => {
            if let Ok(mut reader) = RtpDumpReader::new(stream) {
                while let Ok(Some(_)) = reader.read_packet(&mut frame) {}
            }
        }
        3 => {
            if let Ok(mut reader) = WavReader::new(stream) {
                while reader.read(160, &mut frame).is_ok() && !frame.is_empty() {}
            }
        }
        4 => {
            if let Ok(mut reader) = Y4mReader::new(stream) {
                while let Ok(true) = reader.read_frame(&mut frame) {}
            }
        }
        other => {
            let codec = if other == 5 {
                AnnexBCodec::H264
            } else {
                AnnexBCodec::H265
            };
            let mut reader = AnnexBReader::new(stream, codec);
            let mut total = 0;
            while let Ok(true) = reader.read_frame(&mut frame) {
                total += frame.len();
            }
            // No byte is lost.
            assert_eq!(total, stream.len());
        }
    }
});
