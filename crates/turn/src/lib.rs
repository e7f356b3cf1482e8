//! TURN (RFC 8656): the client that gets a relayed address and sends through it, and the core of the
//! server that gives it. Both sans-IO.
//!
//! What lives here: the two state machines. What does not: sockets, TLS, DNS, the message codec
//! (`visavis-stun`).

pub mod client;
mod hash;
pub mod server;
