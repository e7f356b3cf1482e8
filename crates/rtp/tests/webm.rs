//! WebM: what is written is read again, and ffmpeg reads and writes the same.
#![cfg(feature = "webm")]
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use std::io::Cursor;
use std::process::Command;

use visavis_rtp::file::webm::{WebmFrame, WebmMedia, WebmReader, WebmTrack, WebmWriter};

fn tracks() -> Vec<WebmTrack> {
    vec![
        WebmTrack {
            number: 1,
            codec: "V_VP8".into(),
            private: vec![],
            media: WebmMedia::Video {
                width: 320,
                height: 240,
            },
        },
        WebmTrack {
            number: 2,
            codec: "A_OPUS".into(),
            private: b"OpusHead".to_vec(),
            media: WebmMedia::Audio {
                rate: 48_000.0,
                channels: 2,
            },
        },
    ]
}

#[test]
fn frames_come_back_over_several_clusters() {
    let mut writer = WebmWriter::new(Cursor::new(Vec::new()), &tracks()).unwrap();
    let mut expected = Vec::new();
    for number in 0..300u64 {
        let frame = WebmFrame {
            track: 1 + number % 2,
            nanos: number * 20_000_000,
            keyframe: Some(number % 50 == 0),
        };
        let data = vec![number as u8; 1 + number as usize * 3];
        writer.write_frame(&frame, &data).unwrap();
        expected.push((frame, data));
    }
    let stray = WebmFrame {
        track: 3,
        ..expected[0].0
    };
    assert!(writer.write_frame(&stray, &[]).is_err());
    let bytes = writer.finish().unwrap().into_inner();
    let mut reader = WebmReader::new(Cursor::new(&bytes)).unwrap();
    assert_eq!(reader.tracks(), tracks());
    let mut data = Vec::new();
    for (frame, expected) in &expected {
        assert_eq!(reader.read_frame(&mut data).unwrap().as_ref(), Some(frame));
        assert_eq!(&data, expected);
    }
    assert_eq!(reader.read_frame(&mut data).unwrap(), None);
    // Any cut of it gives frames or an error.
    for end in (0..bytes.len()).step_by(4_999) {
        if let Ok(mut reader) = WebmReader::new(Cursor::new(&bytes[..end])) {
            while let Ok(Some(_)) = reader.read_frame(&mut data) {}
        }
    }
}

#[test]
fn a_clip_of_ffmpeg_is_read_and_written_so_that_ffmpeg_decodes_it() {
    let folder = std::env::temp_dir().join(format!("visavis-webm-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let clip = folder.join("clip.webm");
    let result = folder.join("result.webm");
    let made = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=320x240:rate=30:duration=1",
        ])
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=duration=1",
            "-c:v",
            "libvpx",
            "-c:a",
            "libopus",
            "-y",
        ])
        .arg(&clip)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: ffmpeg cannot make a WebM file");
        return;
    }
    let mut reader = WebmReader::new(std::fs::File::open(&clip).unwrap()).unwrap();
    let file = std::fs::File::create(&result).unwrap();
    let mut writer = WebmWriter::new(file, &reader.tracks()).unwrap();
    let mut data = Vec::new();
    let mut pictures = 0;
    while let Some(frame) = reader.read_frame(&mut data).unwrap() {
        pictures += u32::from(frame.track == 1);
        writer.write_frame(&frame, &data).unwrap();
    }
    writer.finish().unwrap();
    assert_eq!(pictures, 30);
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(&result)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    assert!(
        decoded.status.success(),
        "{}",
        String::from_utf8_lossy(&decoded.stderr)
    );
    assert!(
        decoded.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&decoded.stderr)
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
