//! UDP without a runtime, for workers that poll their own sockets: an [`Exchange`] receives from many
//! sockets into one piece of memory and sends pieces of it on, in runs (GSO) and batches (sendmmsg),
//! without copying a payload.
//!
//! A pass of a worker: receive from the sockets that are ready, queue what goes out, flush, clear.

mod exchange;
mod socket;
pub(crate) mod system;

pub use exchange::{Exchange, ExchangeStats, Full, Incoming, Outgoing};
pub use socket::{DirectOptions, DirectSocket, IcmpError};
pub use system::raise_descriptor_limit;
