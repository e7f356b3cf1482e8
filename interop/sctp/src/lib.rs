//! SCTP stacks behind one trait, so that any two can be joined: by a simulated network, or by
//! nothing at all in a benchmark.

mod digest;
mod foreign;
mod ours;
pub mod usrsctp;

use std::time::Instant;

use bytes::Bytes;
use visavis_datagram::{Ecn, Segments, TransmitBuf};
use visavis_netsim::PipeEnd;

pub use digest::Digest;
pub use foreign::{Dcsctp, SctpProto, browser_options};
pub use ours::Ours;

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// In order, until it arrives.
    Reliable,
    /// Out of order, until it arrives.
    Unordered,
    /// In order, at most so many retransmissions.
    MaxRetransmits(u16),
}

/// One end of an association.
pub trait Stack {
    /// Its name and version.
    fn name(&self) -> String;
    /// Starts the association.
    fn connect(&mut self, now: Instant);
    /// Takes a packet.
    fn handle(&mut self, now: Instant, packet: &[u8]);
    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);
    /// When `handle_timeout` is due.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Writes packets; false if there are none.
    fn transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> bool;
    /// Whether data may flow.
    fn is_connected(&self) -> bool;
    /// Sends a message; false if it has to wait.
    fn send(&mut self, now: Instant, stream: u16, data: Bytes, how: Delivery) -> bool;
    /// The next message, and its stream.
    fn receive(&mut self) -> Option<(u16, Bytes)>;
    /// Resets the sending side of a stream.
    fn reset(&mut self, now: Instant, stream: u16);
    /// Streams that the peer has reset since the last call.
    fn take_resets(&mut self) -> Vec<u16>;
    /// Gives all packets that wait to another end, in the cheapest way that the stack has. Answers
    /// how many.
    fn hand_over(&mut self, now: Instant, to: &mut Self) -> usize
    where
        Self: Sized;
    /// Reads and drops the next message; its size.
    fn discard(&mut self) -> Option<usize> {
        self.receive().map(|(_, data)| data.len())
    }
}

/// A stack at the end of a simulated pipe.
pub struct End<S: ?Sized>(pub Box<S>);

impl<S: Stack + ?Sized> PipeEnd for End<S> {
    fn handle_datagram(&mut self, now: Instant, _ecn: Ecn, datagram: &mut [u8]) {
        self.0.handle(now, datagram);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<(Segments, Ecn)> {
        if !self.0.transmit(now, out) {
            return None;
        }
        Some((out.segments()?, Ecn::NotEct))
    }
}
