//! GStreamer, FFmpeg and Eyevinn's packages publish into rooms and play from them.

use std::path::Path;

use interop_livekit::{has_element, has_python_module, run};
use interop_meeting::Server;

fn scenario(name: &str) {
    if let Some(server) = Server::start() {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("driver/whip.mjs");
        run("node", &driver, name, &server);
    }
}

/// GStreamer's webrtcbin publishes and plays: VP8 and H.264, Opus.
#[test]
fn gstreamer_publishes_and_plays() {
    if has_python_module(
        "gi",
        "apt-get install python3-gst-1.0 gstreamer1.0-nice gstreamer1.0-libav gstreamer1.0-plugins-{bad,good,ugly}",
    ) {
        scenario("gstreamer");
    }
}

/// GStreamer's element for WHIP publishes VP8 and H.264, Opus; `webrtcbin` plays them.
#[test]
fn whipclientsink_publishes() {
    if has_element(
        "whipclientsink",
        "interop/livekit/README.md says how it is built",
    ) {
        scenario("whipclientsink");
    }
}

/// FFmpeg's WHIP muxer publishes H.264 and Opus; GStreamer plays them.
#[test]
fn ffmpeg_publishes() {
    if has_python_module("av", "pip install av numpy") {
        scenario("ffmpeg");
    }
}

/// npm `@eyevinn/whip-web-client` publishes, `@eyevinn/webrtc-player` plays.
#[test]
fn eyevinn_publishes_and_plays() {
    scenario("eyevinn");
}
