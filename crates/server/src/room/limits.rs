//! What bounds a room.

use std::time::Duration;

/// What bounds a room. Every field is a setting of the server.
#[derive(Debug, Clone)]
pub struct RoomLimits {
    /// Participants at a time; 0 means no limit. A room's own setting goes first.
    pub max_participants: u32,
    /// Tracks that one participant may publish, pending ones included.
    pub tracks_per_participant: usize,
    /// Subscriptions of one participant, wishes for unknown tracks included.
    pub subscriptions_per_participant: usize,
    /// Bytes of a name.
    pub name_bytes: usize,
    /// Bytes of an identity or a room's name.
    pub identity_bytes: usize,
    /// Bytes of metadata.
    pub metadata_bytes: usize,
    /// Bytes of all attributes, keys included.
    pub attributes_bytes: usize,
    /// Bytes of one data message.
    pub data_bytes: usize,
    /// Bytes of reliable data messages kept for participants that resume.
    pub replay_bytes: usize,
    /// How long those are kept.
    pub replay_age: Duration,
    /// How long a participant without a signalling connection keeps its place.
    pub reconnect_timeout: Duration,
    /// How long a room without a participant lives before the first one joins.
    pub empty_timeout: Duration,
    /// How long it lives after the last one left.
    pub departure_timeout: Duration,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            max_participants: 0,
            tracks_per_participant: 64,
            subscriptions_per_participant: 4096,
            name_bytes: 256,
            identity_bytes: 256,
            metadata_bytes: 64 * 1024,
            attributes_bytes: 64 * 1024,
            data_bytes: 64 * 1024,
            replay_bytes: 4 * 1024 * 1024,
            replay_age: Duration::from_secs(30),
            reconnect_timeout: Duration::from_secs(15),
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
        }
    }
}
