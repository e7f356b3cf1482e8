//! Streams on their way through: which layers a receiver gets, and the numbers under which it gets them.

mod clock;
mod forwarder;
mod numbers;
mod rewrite;
mod select;

pub use forwarder::{Decision, ForwardStats, Forwarder, ForwarderConfig, SourcePacket};
pub use rewrite::{PictureNumbers, Rewrite};
pub use select::{LayerTarget, MAX_ENCODINGS, describe, inspect};
