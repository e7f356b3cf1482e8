//! What the media plane tells the control plane.

use bytes::Bytes;
use visavis_peer::{ChannelId, ConnectionState, IceCandidate, Kind, MessageKind};

use crate::ids::{ConnectionId, ParticipantId, RoomId, SubscriptionId, TrackId};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The connection's state changed (W3C `connectionState`).
    ConnectionState {
        /// Which one.
        connection: ConnectionId,
        /// Its participant.
        participant: ParticipantId,
        /// The new state.
        state: ConnectionState,
    },
    /// ICE uses another candidate pair.
    SelectedPair {
        /// Of which connection.
        connection: ConnectionId,
        /// The local candidate, as in SDP.
        local: String,
        /// The remote candidate, as in SDP.
        remote: String,
    },
    /// A local candidate that the description did not hold yet; `None` when all are known.
    LocalCandidate {
        /// Of which connection.
        connection: ConnectionId,
        /// The candidate.
        candidate: Option<IceCandidate>,
    },
    /// Something changed that descriptions have to tell the peer (W3C `negotiationneeded`).
    NegotiationNeeded {
        /// Of which connection.
        connection: ConnectionId,
    },
    /// Subscriptions wait that found no free section, on a connection whose peer makes the offers: so
    /// many more sections for receiving are needed in its next one.
    NeedSections {
        /// Of which connection.
        connection: ConnectionId,
        /// For sound.
        audio: usize,
        /// For pictures.
        video: usize,
    },
    /// A description says that the peer sends on a section.
    SectionArrived {
        /// Of which connection.
        connection: ConnectionId,
        /// The section.
        mid: String,
        /// Sound or pictures.
        kind: Kind,
        /// The stream of the peer's `a=msid`; empty if none.
        stream: String,
        /// The track of the peer's `a=msid`; empty if none.
        track: String,
    },
    /// The first packet of a track's encoding came.
    MediaFlowing {
        /// The track.
        track: TrackId,
        /// The codec's name (`opus`, `VP8` …).
        codec: String,
        /// Index of the encoding, 0 the lowest.
        encoding: u8,
        /// The encoding's name; empty without simulcast.
        rid: String,
    },
    /// The track is over: its section stopped, or its connection closed. Subscriptions have ended with it.
    TrackEnded {
        /// The track.
        track: TrackId,
    },
    /// A subscription has its section: it is sent there once the next description is agreed on.
    SubscriptionPlaced {
        /// The subscription.
        subscription: SubscriptionId,
        /// Of which connection.
        connection: ConnectionId,
        /// The section; `None` while this end has to offer it first.
        mid: Option<String>,
    },
    /// A data channel is open.
    DataChannelOpen {
        /// Of which connection.
        connection: ConnectionId,
        /// The channel.
        channel: ChannelId,
        /// Its label.
        label: String,
    },
    /// A data channel is closed.
    DataChannelClosed {
        /// Of which connection.
        connection: ConnectionId,
        /// The channel.
        channel: ChannelId,
    },
    /// A message of a data channel.
    Data {
        /// Of which connection.
        connection: ConnectionId,
        /// Its participant.
        participant: ParticipantId,
        /// Its room.
        room: RoomId,
        /// The channel.
        channel: ChannelId,
        /// Its label.
        label: std::sync::Arc<str>,
        /// Text or bytes.
        kind: MessageKind,
        /// The message.
        bytes: Bytes,
    },
    /// Who speaks in a room, the loudest first. Told when it changes.
    Speakers {
        /// The room.
        room: RoomId,
        /// All who speak, and those who have just stopped (not active).
        speakers: Vec<Speaker>,
    },
    /// How well a participant is connected. Told when it changes.
    Quality {
        /// Whose.
        participant: ParticipantId,
        /// 5 excellent, 4 good, 3 fair, 2 poor, 1 lost.
        score: u8,
        /// The measured reason, for operators.
        why: String,
    },
    /// A subscription was paused for want of bandwidth, or goes on.
    StreamState {
        /// The subscription.
        subscription: SubscriptionId,
        /// Of which connection.
        connection: ConnectionId,
        /// What it forwards.
        track: TrackId,
        /// Whether it is paused.
        paused: bool,
    },
    /// Which layers of a track somebody wants (dynacast): its publisher may stop the others.
    WantedLayers {
        /// The track.
        track: TrackId,
        /// The codec's name.
        codec: String,
        /// For each layer, 0 the lowest, whether it is wanted.
        layers: Vec<bool>,
    },
    /// A decision of the connection or of forwarding, for the event log.
    Decision {
        /// Of which connection.
        connection: ConnectionId,
        /// What was decided and why, in one line.
        text: String,
    },
    /// The connection's worker has a processor for most of the time, and another has not:
    /// [`Sfu::relocate`](crate::Sfu::relocate) would move it there, with what it publishes and what it gets. Told each second for
    /// as many connections as should go, until enough have.
    Crowded {
        /// Which connection.
        connection: ConnectionId,
        /// The worker with the least to do.
        to: usize,
    },
    /// A worker cannot keep up: this much was dropped since it was told last.
    Overload {
        /// Which worker.
        worker: usize,
        /// Packets for other workers that found no room.
        handover_dropped: u64,
        /// Events that found no room.
        events_dropped: u64,
    },
}

impl Event {
    /// The connection that it is about, where it names one.
    pub const fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::ConnectionState { connection, .. }
            | Self::SelectedPair { connection, .. }
            | Self::LocalCandidate { connection, .. }
            | Self::NegotiationNeeded { connection }
            | Self::NeedSections { connection, .. }
            | Self::SectionArrived { connection, .. }
            | Self::SubscriptionPlaced { connection, .. }
            | Self::DataChannelOpen { connection, .. }
            | Self::DataChannelClosed { connection, .. }
            | Self::Data { connection, .. }
            | Self::StreamState { connection, .. }
            | Self::Decision { connection, .. }
            | Self::Crowded { connection, .. } => Some(*connection),
            Self::MediaFlowing { .. }
            | Self::TrackEnded { .. }
            | Self::Speakers { .. }
            | Self::Quality { .. }
            | Self::WantedLayers { .. }
            | Self::Overload { .. } => None,
        }
    }

    /// Whether a later event says the same anew, so that it may be dropped when the reader is slow.
    pub(crate) const fn may_be_dropped(&self) -> bool {
        matches!(
            self,
            Self::Speakers { .. }
                | Self::Quality { .. }
                | Self::Decision { .. }
                | Self::Crowded { .. }
        )
    }
}

/// Someone who speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speaker {
    /// Who.
    pub participant: ParticipantId,
    /// How loud, 0.0 to 1.0.
    pub level: f32,
    /// Whether they speak now; false once, when they have stopped.
    pub active: bool,
}
