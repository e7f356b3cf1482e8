//! What measurements of forwarding share: clients that load a server, LiveKit's signalling, processes.
#![allow(
    clippy::print_stderr,
    reason = "what went wrong is said beside the tables"
)]

pub mod client;
pub mod livekit;
pub mod process;
