//! What can be seen.

use visavis_peer::{ConnectionState, LogEntry, StatsReport};

use crate::ids::{ConnectionId, ParticipantId, RoomId, SubscriptionId, TrackId};

/// One connection, as an inspector shows it.
#[derive(Debug, Clone)]
pub struct ConnectionStats {
    /// Which one.
    pub connection: ConnectionId,
    /// Its room.
    pub room: RoomId,
    /// Its participant.
    pub participant: ParticipantId,
    /// W3C `connectionState`.
    pub state: ConnectionState,
    /// The connection in the words of webrtc-stats.
    pub report: StatsReport,
    /// The connection's own log: states, descriptions, candidate pairs.
    pub log: Vec<LogEntry>,
    /// What may be sent towards the peer, in bits per second.
    pub estimate: u64,
    /// What is sent, in bits per second.
    pub sending: u64,
    /// The smoothed round-trip time in milliseconds, once known.
    pub round_trip_ms: Option<u64>,
    /// The share of packets towards the peer that were lost lately, 0.0 to 1.0.
    pub loss: f64,
    /// Its tracks.
    pub tracks: Vec<TrackStats>,
    /// Its subscriptions.
    pub subscriptions: Vec<SubscriptionStats>,
}

/// One published track.
#[derive(Debug, Clone)]
pub struct TrackStats {
    /// Which one.
    pub track: TrackId,
    /// The section.
    pub mid: String,
    /// The codec's name, once packets came.
    pub codec: Option<String>,
    /// Whether it is muted.
    pub muted: bool,
    /// Subscriptions on this worker.
    pub subscribers: usize,
    /// Its encodings, 0 the lowest.
    pub encodings: Vec<EncodingStats>,
}

/// One encoding of a published track.
#[derive(Debug, Clone)]
pub struct EncodingStats {
    /// Its name; empty without simulcast.
    pub rid: String,
    /// Its source.
    pub ssrc: u32,
    /// What arrives, in bits per second.
    pub bitrate: u64,
    /// Packets so far.
    pub packets: u64,
    /// Bytes of packets that are kept for retransmission.
    pub history_bytes: usize,
    /// Key frames that were asked for.
    pub keyframe_requests: u64,
}

/// One subscription.
#[derive(Debug, Clone)]
pub struct SubscriptionStats {
    /// Which one.
    pub subscription: SubscriptionId,
    /// What it forwards.
    pub track: TrackId,
    /// The section, once there is one.
    pub mid: Option<String>,
    /// Packets that were forwarded.
    pub packets: u64,
    /// Bytes that were forwarded, headers included.
    pub bytes: u64,
    /// Packets that were sent again.
    pub retransmitted: u64,
    /// The encoding, spatial and temporal layer that are sent; `None` while nothing is.
    pub current: Option<(u8, u8, u8)>,
    /// Those that are meant to be sent.
    pub target: Option<(u8, u8, u8)>,
    /// Whether it is paused for want of bandwidth.
    pub paused: bool,
    /// The share of packets that the subscriber lost lately, 0.0 to 1.0.
    pub loss: f64,
}

/// What a worker has counted since it began.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WorkerStats {
    /// The share of the last second that its thread had a processor, 0.0 to 1.0. Its owner knows it; the worker alone says 0.
    pub load: f32,
    /// Connections there are.
    pub connections: u64,
    /// Tracks there are, other workers' tracks that are followed here included.
    pub tracks: u64,
    /// Subscriptions there are.
    pub subscriptions: u64,
    /// Tracks of which this worker knows that they moved, because they were born here.
    pub tracks_elsewhere: u64,
    /// Connections of which this worker knows that another one has them, because their datagrams or checks come here.
    pub connections_elsewhere: u64,
    /// RTP packets that came from publishers.
    pub received: u64,
    /// RTP packets that were sent to subscribers.
    pub forwarded: u64,
    /// Packets that were sent again.
    pub retransmitted: u64,
    /// Packets that found no room in a pacer.
    pub pacer_dropped: u64,
    /// Datagrams that belonged to nobody.
    pub unrouted: u64,
    /// Datagrams that came to another worker than their own, and were handed over.
    pub handed_over: u64,
    /// Messages to other workers that found no room.
    pub handover_dropped: u64,
    /// Events that found no room.
    pub events_dropped: u64,
    /// Packets that found no room in a tap.
    pub tap_dropped: u64,
    /// Data messages that a slow reader had no room for.
    pub data_dropped: u64,
    /// Packets that were malformed for their codec, and dropped.
    pub malformed: u64,
    /// RTCP packets that could not be read.
    pub malformed_rtcp: u64,
}
