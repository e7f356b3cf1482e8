//! The words between the transport and a controller: what was sent, and what became of it.

use std::time::{Duration, Instant};

use visavis_datagram::Ecn;

/// Bytes that a packet has at most; what claims more is taken for this.
pub const MAX_PACKET: usize = 65_535;

/// What a packet carries; the order is that in which the pacer lets them go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PacketKind {
    /// Audio: never waits.
    Audio,
    /// A retransmission.
    Retransmission,
    /// Video, or anything else that was sent for the first time.
    Video,
    /// Forward error correction.
    Fec,
    /// Padding, for probing.
    Padding,
}

impl PacketKind {
    /// All of them, by priority.
    pub const ALL: [Self; 5] = [
        Self::Audio,
        Self::Retransmission,
        Self::Video,
        Self::Fec,
        Self::Padding,
    ];
}

/// A packet that leaves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentPacket {
    /// Its number, counted up by one per packet that feedback tells of. 16-bit counters on the wire
    /// are extended by [`SentPackets::extend`](crate::SentPackets::extend).
    pub sequence: u64,
    /// Bytes on the wire, as far as the caller counts headers; the same for all packets.
    pub size: usize,
    /// What it carries.
    pub kind: PacketKind,
    /// The probe cluster that it belongs to, as the pacer said.
    pub probe: Option<ProbeId>,
}

/// Names a cluster of packets that probes for capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(pub u32);

/// What feedback says of one packet: transport-wide feedback and RFC 8888 both map to this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The packet's extended number.
    pub sequence: u64,
    /// When it arrived by the receiver's clock, since any epoch that stays the same; `None`: not arrived.
    pub received_at: Option<Duration>,
    /// The ECN codepoint that it arrived with; [`Ecn::NotEct`] where feedback does not tell.
    pub ecn: Ecn,
}

/// What became of one packet that was sent: [`Arrival`], joined with what the sender knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketResult {
    /// The packet's extended number.
    pub sequence: u64,
    /// Bytes on the wire.
    pub size: usize,
    /// When it left.
    pub sent_at: Instant,
    /// When it arrived by the receiver's clock; `None`: not arrived.
    pub received_at: Option<Duration>,
    /// The ECN codepoint that it arrived with.
    pub ecn: Ecn,
    /// The probe cluster that it belonged to.
    pub probe: Option<ProbeId>,
}

/// The result of one feedback message, in the order of the packets' numbers.
#[derive(Debug, Clone, Copy)]
pub struct Feedback<'a> {
    /// What became of the packets.
    pub packets: &'a [PacketResult],
    /// Bytes that are still on their way: sent after the newest packet that feedback has told of.
    pub in_flight: usize,
}

/// A cluster of packets to send at a rate, to learn whether the path bears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeCluster {
    /// Its name.
    pub id: ProbeId,
    /// Bits per second to send at.
    pub bitrate: u64,
    /// The least number of packets.
    pub packets: u32,
    /// The least number of bytes.
    pub bytes: usize,
}
