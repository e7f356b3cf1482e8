//! What remembers packets: loss recovery, jitter buffers, frame assembly, retransmission, layer
//! selection. Sans-IO: time is an argument, nothing here sends or receives.
//!
//! - [`send`]: a stream on its way out. [`send::SendStream`] packetizes, keeps the history and answers
//!   NACKs; beside it redundancy, FEC and the dependency descriptors of SVC.
//! - [`receive`]: a stream on its way in. [`receive::VideoReceiver`] gives frames when they are due,
//!   [`receive::AudioReceiver`] gives sound when it is asked; both say which feedback to send.
//! - [`forward`]: a stream on its way through. [`forward::Forwarder`] chooses layers and rewrites
//!   numbers so that the receiver sees one unbroken stream.
//!
//! What does not live here: bit rates and pacing (`visavis-congestion`), wire formats (`visavis-rtp`).

mod ring;

pub mod forward;
pub mod receive;
pub mod send;

pub use ring::{PacketRing, Stored};
