//! Counters.

/// What came, what went and what was dropped since the connection began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Datagrams given to `handle_datagram`.
    pub datagrams_received: u64,
    /// Datagrams written by `poll_transmit`.
    pub datagrams_sent: u64,
    /// Application data records opened.
    pub data_records_received: u64,
    /// Application data records sealed.
    pub data_records_sent: u64,
    /// Records or datagrams whose form was wrong.
    pub malformed: u64,
    /// Records that failed authentication.
    pub forged: u64,
    /// Records seen before, or too old for the replay window.
    pub replayed: u64,
    /// Records of an epoch without keys, dropped.
    pub unknown_epoch: u64,
    /// Records kept until their keys are known.
    pub deferred: u64,
    /// Records dropped because [`Limits::deferred_records`](crate::Limits) were kept already.
    pub deferred_overflow: u64,
    /// Handshake fragments dropped: message too long, too far ahead, or no room.
    pub fragments_refused: u64,
    /// Handshake fragments that contradicted an earlier one.
    pub fragments_conflicting: u64,
    /// Handshake fragments that brought nothing new.
    pub fragments_duplicate: u64,
    /// Handshake messages complete and in order.
    pub messages_received: u64,
    /// Handshake messages that the state does not allow and that were ignored.
    pub messages_ignored: u64,
    /// Application data that came before the handshake was complete, dropped.
    pub early_data: u64,
    /// Application data records of a datagram beyond [`Received::MAX`](crate::Received::MAX).
    pub data_overflow: u64,
    /// Flights sent again because a timeout passed.
    pub timeouts: u64,
    /// Flights sent again because the peer repeated its own, or acknowledged a part.
    pub prompted_retransmissions: u64,
    /// ACK messages sent (1.3).
    pub acks_sent: u64,
    /// ACK messages received (1.3).
    pub acks_received: u64,
    /// Alerts sent.
    pub alerts_sent: u64,
    /// Alerts received.
    pub alerts_received: u64,
    /// Alerts ignored because anybody could have sent them.
    pub alerts_ignored: u64,
    /// Events lost because nobody polled them.
    pub events_lost: u64,
}
