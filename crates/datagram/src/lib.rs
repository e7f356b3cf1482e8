//! The words that every sans-IO state machine of Visavis shares.
//!
//! Protocol crates own no socket, thread, clock, global or source of randomness. Time is an
//! argument, randomness is a [`Random`] passed at construction, and each state machine has the
//! same five doors:
//!
//! ```text
//! fn handle_datagram(&mut self, now: Instant, from: Path, datagram: &mut [u8]);
//! fn handle_timeout(&mut self, now: Instant);
//! fn poll_timeout(&self) -> Option<Instant>;
//! fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit>;
//! fn poll_event(&mut self) -> Option<Event>;
//! ```
//!
//! Calls may come in any order; forgetting to drain costs latency, never correctness. Machines
//! that live above an encrypted transport have no addresses: theirs take no [`Path`] and answer
//! [`Segments`] instead of a [`Transmit`].
//!
//! What lives here: the types in those signatures. What does not: anything that knows a protocol.

mod path;
mod random;
mod transmit;

pub use path::{Arrival, Ecn, Path, Protocol};
pub use random::Random;
pub use transmit::{Framing, Segments, Transmit, TransmitBuf};
