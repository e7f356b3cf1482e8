//! Counters and gauges of an association.

use std::time::Duration;

/// What an association has done and how it sees the path. Counts are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received and taken.
    pub packets_received: u64,
    /// Data chunks sent, retransmissions included.
    pub chunks_sent: u64,
    /// Data chunks received, duplicates included.
    pub chunks_received: u64,
    /// Data chunks sent again.
    pub chunks_retransmitted: u64,
    /// Data chunks that arrived again.
    pub chunks_duplicate: u64,
    /// Messages given up by partial reliability, here.
    pub messages_abandoned: u64,
    /// Whole messages handed to `send`.
    pub messages_sent: u64,
    /// Whole messages received.
    pub messages_received: u64,
    /// Payload bytes taken by `send`.
    pub bytes_sent: u64,
    /// Payload bytes received, duplicates excluded.
    pub bytes_received: u64,
    /// SACKs sent.
    pub sacks_sent: u64,
    /// SACKs received.
    pub sacks_received: u64,
    /// Retransmission time-outs (T3).
    pub timeouts: u64,
    /// Tail loss probes.
    pub tail_probes: u64,
    /// Loss episodes noticed by time or SACK.
    pub loss_episodes: u64,
    /// Congestion experienced marks seen by this end.
    pub ecn_marks: u64,
    /// Packets dropped: shorter than a header, wrong ports or lengths that do not add up.
    pub dropped_malformed: u64,
    /// Packets dropped: wrong checksum.
    pub dropped_checksum: u64,
    /// Packets dropped: wrong verification tag.
    pub dropped_tag: u64,
    /// Chunks dropped: malformed, or not expected in this state.
    pub dropped_chunks: u64,
    /// Chunks and parameters of types unknown here.
    pub unknown: u64,
    /// State cookies refused: forged or stale.
    pub cookies_refused: u64,
    /// SACKs ignored: old, or about what was never sent.
    pub sacks_ignored: u64,
    /// Data chunks refused because the receive window was full or a limit was reached.
    pub refused_by_limit: u64,
    /// Data chunks for streams beyond the negotiated number.
    pub invalid_stream: u64,
    /// Events dropped because nobody polled.
    pub events_dropped: u64,
    /// Congestion window in bytes.
    pub congestion_window: usize,
    /// Bytes in flight.
    pub in_flight: usize,
    /// What the peer's window leaves, in bytes.
    pub peer_window: usize,
    /// Pacing rate in bytes per second; 0 means unpaced.
    pub pacing_rate: u64,
    /// Smoothed round-trip time; zero before the first measurement.
    pub srtt: Duration,
    /// Least round-trip time seen.
    pub min_rtt: Duration,
    /// Current retransmission time-out.
    pub rto: Duration,
    /// Largest packet in use, in bytes.
    pub packet_size: usize,
}
