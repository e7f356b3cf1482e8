//! What a room wants done outside of itself, as words that its task carries out.

use std::sync::Arc;

use livekit_protocol as proto;

use super::ParticipantKey;
use crate::wire::Outgoing;

/// What has to happen outside the room.
#[derive(Debug)]
pub enum Effect {
    /// Send a signalling message.
    Send {
        /// To whom.
        to: ParticipantKey,
        /// What; shared by all receivers of one message.
        message: Arc<Outgoing>,
    },
    /// Give the participant a fresh token.
    RefreshToken(ParticipantKey),
    /// Close the signalling connection after what was sent.
    CloseSignal(ParticipantKey),
    /// Tell the application's server.
    Webhook(Box<proto::WebhookEvent>),
    /// Command the media plane.
    Media(MediaCommand),
    /// Something worth remembering happened (the event log).
    Note {
        /// Whom it concerns, if it is not the room.
        identity: Option<String>,
        /// What happened, in words.
        text: String,
    },
}

/// What the media plane is to do.
#[derive(Debug)]
pub enum MediaCommand {
    /// Make the participant's connections.
    Open(ParticipantKey),
    /// A description came from the client.
    Description {
        /// From whom.
        from: ParticipantKey,
        /// It.
        description: proto::SessionDescription,
    },
    /// A candidate came from the client.
    Candidate {
        /// From whom.
        from: ParticipantKey,
        /// It, with the connection it belongs to.
        trickle: proto::TrickleRequest,
    },
    /// The participant resumed: its connections want an ICE restart.
    Restart(ParticipantKey),
    /// Close the participant's connections.
    Close(ParticipantKey),
    /// Stop taking a track in.
    Unpublish(String),
    /// Forward nothing of a track, or again.
    Mute {
        /// The track.
        track_sid: String,
        /// Whether it is silent.
        muted: bool,
    },
    /// Forward a track to a participant.
    Subscribe {
        /// To whom.
        subscriber: ParticipantKey,
        /// What.
        track_sid: String,
    },
    /// Stop forwarding a track to a participant.
    Unsubscribe {
        /// To whom no more.
        subscriber: ParticipantKey,
        /// What.
        track_sid: String,
    },
    /// How a participant wants a track.
    Settings {
        /// Who.
        subscriber: ParticipantKey,
        /// How; its `track_sids` are one track.
        settings: proto::UpdateTrackSettings,
    },
    /// Send a data packet.
    Data {
        /// To whom.
        to: ParticipantKey,
        /// On which channel.
        kind: DataKind,
        /// The packet, encoded once for all receivers.
        packet: bytes::Bytes,
    },
    /// Limit what the participant is sent, in bits per second (`None`: no limit).
    LimitBandwidth {
        /// Whom.
        participant: ParticipantKey,
        /// To how much.
        bits_per_second: Option<u64>,
    },
}

/// The three channels of data that a participant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// `_reliable`: ordered, retransmitted.
    Reliable,
    /// `_lossy`: unordered, sent once.
    Lossy,
    /// `_data_track`: frames of data tracks, unordered, sent once.
    DataTrack,
}

impl DataKind {
    /// The channel's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
            Self::DataTrack => "_data_track",
        }
    }

    /// The channel with that label.
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Reliable, Self::Lossy, Self::DataTrack]
            .into_iter()
            .find(|kind| kind.label() == label)
    }
}
