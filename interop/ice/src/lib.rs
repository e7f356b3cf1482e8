//! Our ICE agent on real sockets beside agents that nobody here wrote: aioice (Debian package
//! `python3-aioice`) and libnice (`libnice-dev`), directly and through coturn (`coturn`).
//!
//! The others are processes that talk by lines: `credentials UFRAG PWD`, `candidate LINE`, `complete`,
//! `state WORD`; they echo what they receive.

pub mod peer;
pub mod us;

pub use peer::Peer;
pub use us::Us;
