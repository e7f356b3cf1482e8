//! The sending side: messages that wait, chunks in flight, and when to send what.

mod mtu;
mod outstanding;
mod pacer;
mod queue;
mod rtt;

pub(crate) use mtu::MtuSearch;
pub(crate) use outstanding::{Acked, Outstanding, Sent, Status};
pub(crate) use pacer::Pacer;
pub(crate) use queue::{Cut, Draft, NO_LIMIT, SendQueue};
pub(crate) use rtt::RttEstimator;
