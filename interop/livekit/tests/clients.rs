//! Clients that others wrote, in headless Chromium and in Node.

use interop_livekit::{
    Server, go_client, has_element, has_python_module, python, run, run_go, run_with, scenario,
    scenario_with,
};

macro_rules! scenarios {
    ($($(#[$doc:meta])* $test:ident => $file:literal $name:literal;)*) => {
        $($(#[$doc])* #[test] fn $test() {
            if let Some(server) = Server::start() {
                scenario(&server, $file, $name);
            }
        })*
    };
}

scenarios! {
    /// npm `livekit-client` over one peer connection (`/rtc/v1`): two pages see and hear each other.
    livekit_client_meets_over_one_connection => "browser.mjs" "meet";
    /// The same over two peer connections (`/rtc`).
    livekit_client_meets_over_two_connections => "browser.mjs" "meet-dual";
    /// Data packets, text and byte streams, calls between participants, attributes.
    livekit_client_exchanges_data => "browser.mjs" "data";
    /// Mute, unpublish, subscription by hand, permission of the publisher.
    livekit_client_controls_tracks => "browser.mjs" "tracks";
    /// Adaptive stream and dynacast: layers that nobody sees are not sent.
    livekit_client_sends_only_layers_that_are_seen => "browser.mjs" "dynacast";
    /// Each scenario that the client can simulate, and media afterwards.
    livekit_client_survives_what_it_simulates => "browser.mjs" "simulate";
    /// End-to-end encryption: who has the key sees and hears, who has another one does not.
    livekit_client_encrypts_end_to_end => "browser.mjs" "encrypted";
    /// VP9 with spatial layers in one stream, and a backup codec.
    livekit_client_sends_vp9 => "browser.mjs" "vp9";
    /// npm `livekit-server-sdk`: RoomService and webhooks.
    livekit_server_sdk_rules_rooms => "server-sdk.mjs" "rule";
    /// `UpdateSubscriptions`: the application's server takes a track from a participant, and gives it back.
    livekit_server_sdk_subscribes_for_others => "server-sdk.mjs" "subscriptions";
    /// PeerJS 1.5.5 and 0.3.14: a call between two pages.
    peerjs_calls => "pages.mjs" "peerjs";
    /// Pages that signal over a relay, with and without an envelope, and the shim for old pages.
    relay_pages_meet => "pages.mjs" "relay";
    /// A browser publishes by WHIP into a room and another plays it by WHEP.
    whip_and_whep => "pages.mjs" "whip";
}

/// What happens in a room comes in order to a receiver, which verifies each event with `livekit-server-sdk`.
#[test]
fn livekit_server_sdk_verifies_webhooks() {
    let port = interop_meeting::free_port().to_string();
    let url = format!("http://127.0.0.1:{port}/hook");
    if let Some(server) = Server::start_with(&["--webhook-urls", &url]) {
        scenario_with(&server, "server-sdk.mjs", "webhooks", &port);
    }
}

/// The files of a room that is recorded while people speak are read and decoded by FFmpeg.
#[test]
fn a_recorded_room_is_decoded_by_ffmpeg() {
    let directory = interop_meeting::target().join("recorded");
    let directory = directory.to_str().expect("a path in Unicode");
    if let Some(server) = Server::start_with(&["--record-dir", directory]) {
        scenario(&server, "browser.mjs", "record");
    }
}

/// How PyPI's clients are had.
const PYPI: &str = "pip install livekit livekit-api, and set VISAVIS_PYTHON";

/// PyPI `livekit`, which has Google's libwebrtc inside.
fn libwebrtc(name: &str) {
    if !has_python_module("livekit.rtc", PYPI) {
        return;
    }
    if let Some(server) = Server::start() {
        let driver = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("driver/libwebrtc.py");
        run(&python(), &driver, name, &server);
    }
}

/// Two participants see and hear each other over one and over two connections, with VP8, VP9 and AV1.
#[test]
fn libwebrtc_meets() {
    for name in ["meet", "meet-dual", "codecs"] {
        libwebrtc(name);
    }
}

/// Data packets, streams, calls between participants, attributes.
#[test]
fn libwebrtc_exchanges_data() {
    libwebrtc("data");
}

/// End-to-end encryption: with the key all is seen and heard, with another one nothing.
#[test]
fn libwebrtc_encrypts_end_to_end() {
    libwebrtc("encrypted");
}

/// Each scenario that the client can simulate, and media afterwards.
#[test]
fn libwebrtc_survives_what_it_simulates() {
    libwebrtc("simulate");
}

/// LiveKit's Go SDK on Pion: sound, data, a lost signalling connection, and 40 subscribers of 4 tracks.
#[test]
fn pion_meets_and_loads() {
    let Some(program) = go_client() else {
        return;
    };
    if let Some(server) = Server::start() {
        for name in ["meet", "load"] {
            run_go(&program, name, &server);
        }
    }
}

/// The backend of La Suite Meet: its tokens, and its calls with PyPI `livekit-api`.
#[test]
fn meet_backend_rules_rooms() {
    if !has_python_module("livekit.rtc", PYPI) {
        return;
    }
    let port = interop_meeting::free_port().to_string();
    let url = format!("http://127.0.0.1:{port}/hook");
    if let Some(server) = Server::start_with(&["--webhook-urls", &url]) {
        let driver = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("driver/meet.py");
        run_with(&python(), &driver, "backend", &server, &port);
    }
}

/// La Suite Meet's front-end, built: two people meet on it, and its test of the connection is all green.
#[test]
fn meet_front_end_meets() {
    let Ok(built) = std::env::var("VISAVIS_MEET") else {
        eprintln!(
            "skipped: VISAVIS_MEET names no built front-end: interop/livekit/README.md says how it is built"
        );
        return;
    };
    if let Some(server) = Server::start() {
        for name in ["meet", "diagnose"] {
            scenario_with(&server, "meet.mjs", name, &built);
        }
    }
}

/// GStreamer's clients of this protocol: what `livekitwebrtcsink` publishes is recorded by `visavis join` and played by
/// `livekitwebrtcsrc`.
#[test]
fn gstreamer_publishes_and_plays() {
    if !has_python_module("gi", "apt-get install python3-gst-1.0")
        || !has_element(
            "livekitwebrtcsink",
            "interop/livekit/README.md says how it is built",
        )
    {
        return;
    }
    if let Some(server) = Server::start() {
        let driver = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("driver/gstreamer.py");
        let binary = interop_meeting::binary();
        let binary = binary.to_str().expect("a path in Unicode");
        for codec in ["vp8", "h264"] {
            run_with("/usr/bin/python3", &driver, codec, &server, binary);
        }
    }
}
