//! What we send: pictures that FFmpeg has made with libvpx, and silence.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::task::AbortHandle;
use visavis::{OutgoingFrame, RtpSender};
use visavis_rtp::file::ivf::IvfReader;

/// Frames a second.
const RATE: u32 = 15;
/// 20 ms of Opus in which nothing is heard (RFC 6716: one frame of CELT).
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// Sends sound and pictures for as long as it lives.
pub struct Clip(Vec<AbortHandle>);

impl Drop for Clip {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Clip {
    /// Begins.
    pub fn play(audio: RtpSender, video: RtpSender) -> Self {
        let sound = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            for number in 0u32.. {
                ticks.tick().await;
                // Not yet connected, or no more.
                let frame = OutgoingFrame::new(number.wrapping_mul(960), false, &SILENCE);
                let _ = audio.send_frame(&frame);
            }
        });
        let pictures = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
            for number in 0u32.. {
                ticks.tick().await;
                let frames = frames();
                let data = &frames[number as usize % frames.len()];
                let timestamp = number.wrapping_mul(90_000 / RATE);
                let _ = video.send_frame(&OutgoingFrame::new(timestamp, true, data));
            }
        });
        Self(vec![sound.abort_handle(), pictures.abort_handle()])
    }
}

/// Key frames all: whoever comes late sees the next one.
fn frames() -> &'static [Vec<u8>] {
    static FRAMES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FRAMES.get_or_init(|| {
        let source = format!("testsrc=size=160x120:rate={RATE}:duration=2");
        let output = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-f", "lavfi", "-i", &source])
            .args(["-c:v", "libvpx", "-g", "1", "-b:v", "400k"])
            .args(["-f", "ivf", "pipe:1"])
            .output()
            .expect("ffmpeg (Debian package ffmpeg)");
        let mut reader = IvfReader::new(&output.stdout[..]).expect("an IVF file");
        let (mut frames, mut frame) = (Vec::new(), Vec::new());
        while let Ok(Some(_)) = reader.read_frame(&mut frame) {
            frames.push(frame.clone());
        }
        assert!(!frames.is_empty(), "ffmpeg made no frame");
        frames
    })
}
