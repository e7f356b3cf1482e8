//! Media that the connection's owner keeps: packets are written when they leave.

use std::time::Instant;

/// What a [`PacketSource`] has for the next datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourcePoll {
    /// Nothing is to be sent now.
    Nothing,
    /// The next packet does not fit what is left of the run; it is asked for again.
    NoRoom,
    /// A plain RTP packet of so many bytes was written.
    Packet(usize),
}

/// Who writes RTP packets straight into the datagrams of
/// [`poll_transmit_with`](crate::PeerConnection::poll_transmit_with).
pub trait PacketSource {
    /// Writes the next plain RTP packet at the beginning of `slot`, and leaves `overhead` bytes free behind
    /// it for its protection.
    fn poll_packet(&mut self, now: Instant, slot: &mut [u8], overhead: usize) -> SourcePoll;

    /// The packet that just found no room in an empty run fits nowhere: it is dropped.
    fn drop_packet(&mut self);
}
