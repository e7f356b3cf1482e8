//! For pages that connect peer to peer and need no forwarding: a relay of messages between those on the
//! same path, PeerJS's server, ICE servers with short-lived credentials, and a shim for pages from before
//! 2017.

pub(crate) mod peerjs;
pub(crate) mod relay;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

use crate::bucket::Rate;

/// The largest message, in bytes. A description of a browser has some 10 kB; the room is for pages that
/// send small files this way.
pub(crate) const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// Messages that wait for one receiver; one that is slower is disconnected.
pub(crate) const QUEUE: usize = 256;

/// How fast one sender may send.
pub(crate) const RATE: Rate = Rate {
    burst: 500,
    per_second: 50,
};

/// A script that lets old pages run unchanged: `URL.createObjectURL(stream)` went away, and with it
/// `video.src = URL.createObjectURL(stream)`.
const SHIM: &str = include_str!("legacy-shim.js");

/// `GET /legacy-shim.js`.
pub(crate) async fn shim() -> Response {
    (
        [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
        SHIM,
    )
        .into_response()
}
