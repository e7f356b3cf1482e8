//! Other WebRTC implementations, each in a folder of its own as a small program that speaks one
//! signalling: a JSON object per line, requests in on stdin, answers out on stdout.
//!
//! | request | answer |
//! |---|---|
//! | (at the start) | `{"ready":true,"name":…,"version":…,"features":["data","audio","video"]}` |
//! | `{"id":1,"do":"offer","data":true,"media":true}` | an offer with a channel `chat`, or with Opus and VP8, and all candidates |
//! | `{"id":2,"do":"answer","sdp":…,"data":…,"media":…}` | the answer to an offer |
//! | either with `"bundles":false` | the same, where nothing is said of BUNDLE |
//! | `{"id":3,"do":"accept","sdp":…}` | once the answer to its own offer is set |
//! | `{"id":4,"do":"send","text":…}`, or `"size"` | once the message is sent: a text, or bytes that count up to 250 again and again |
//! | `{"id":5,"do":"receive"}` | the next message: `{"text":…}`, or `{"size":…,"good":true}` |
//! | `{"id":6,"do":"media"}` | once 20 packets or frames of each kind have come: their counts |
//! | `{"id":7,"do":"over"}` | once the channel is closed |
//! | `{"id":8,"do":"close"}` | once its connection is closed |
//!
//! An answer is `{"id":…,"value":…}` or `{"id":…,"error":…}`. Who has encoders sends what they make;
//! who has none sends back the packets that come.

mod clip;
mod peer;

pub use clip::Clip;
pub use peer::{Peer, Program};
