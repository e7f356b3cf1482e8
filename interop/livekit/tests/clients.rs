//! Clients that others wrote, in headless Chromium and in Node.

use interop_livekit::{Server, scenario};

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
    /// VP9 with spatial layers in one stream, and a backup codec.
    livekit_client_sends_vp9 => "browser.mjs" "vp9";
    /// npm `livekit-server-sdk`: RoomService and webhooks.
    livekit_server_sdk_rules_rooms => "server-sdk.mjs" "rule";
    /// PeerJS 1.5.5 and 0.3.14: a call between two pages.
    peerjs_calls => "pages.mjs" "peerjs";
    /// Pages that signal over a relay, with and without an envelope, and the shim for old pages.
    relay_pages_meet => "pages.mjs" "relay";
    /// A browser publishes by WHIP into a room and another plays it by WHEP.
    whip_and_whep => "pages.mjs" "whip";
}
