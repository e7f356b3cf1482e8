//! One participant's session: identity, permissions, what it publishes and what it wants to see.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use livekit_protocol as proto;
use proto::{
    DisconnectReason,
    client_info::Sdk,
    participant_info::{Kind, State},
    signal_response::Message,
};

use super::{Now, ParticipantKey, TOKEN_REFRESH_INTERVAL, Track, subscribe::Subscription};
use crate::{
    ids::{IdKind, new_id},
    token::{Claims, VideoGrant},
};

/// How many peer connections a client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One, which the client offers: what it subscribes to comes in the answers.
    Single,
    /// Two: one that the client offers and publishes on, one that the server offers.
    Dual,
}

/// Who asks to join, and how.
#[derive(Debug, Clone)]
pub struct Joiner {
    /// What its token says.
    pub claims: Claims,
    /// The software at the other end.
    pub client: proto::ClientInfo,
    /// Its peer connections.
    pub mode: Mode,
    /// Whether it is subscribed to every track.
    pub auto_subscribe: bool,
    /// Whether it tells the sizes at which it shows tracks; until it does, it is sent nothing large.
    pub adaptive_stream: bool,
    /// Whether it wants the server's ICE agent to be a full one.
    pub disable_ice_lite: bool,
    /// What it may reach the server through.
    pub ice_servers: Vec<proto::IceServer>,
}

/// A participant.
#[derive(Debug)]
pub struct Participant {
    /// Its key.
    pub key: ParticipantKey,
    /// Its session's sid.
    pub sid: String,
    /// Its identity, unique in the room.
    pub identity: String,
    /// Its token's claims, with later changes of name, metadata and attributes.
    pub claims: Claims,
    /// What it may do; changes during the session.
    pub grants: VideoGrant,
    /// Its kind.
    pub kind: Kind,
    /// Its software.
    pub client: proto::ClientInfo,
    /// Its peer connections.
    pub mode: Mode,
    /// Whether it is subscribed to every track.
    pub auto_subscribe: bool,
    /// Whether it tells the sizes at which it shows tracks.
    pub adaptive_stream: bool,
    /// Whether it wants the server's ICE agent to be a full one.
    pub disable_ice_lite: bool,
    /// Whether its connections can take subscriptions.
    pub(super) media_ready: bool,
    pub(super) state: State,
    pub(super) joined_millis: i64,
    pub(super) version: u32,
    pub(super) disconnect_reason: DisconnectReason,
    pub(super) signal_lost: Option<Instant>,
    pub(super) refresh_at: Instant,
    pub(super) tracks: Vec<Track>,
    pub(super) subscriptions: HashMap<String, Subscription>,
    /// Who may subscribe to this participant's tracks; `None`: everyone to all.
    pub(super) permissions: Option<Vec<proto::TrackPermission>>,
    /// Of its reliable data messages, the last sequence number seen.
    pub(super) last_sequence: u32,
    pub(super) data_tracks: Vec<proto::DataTrackInfo>,
    /// Data tracks that it receives, by sid.
    pub(super) data_subscriptions: HashSet<String>,
    pub(super) blobs: Vec<proto::DataBlob>,
}

/// Whether participants of that kind exist only for others: they do not keep a room open or fill it.
pub(super) fn is_dependent(kind: Kind) -> bool {
    matches!(kind, Kind::Agent | Kind::Egress)
}

impl Participant {
    pub(super) fn new(key: ParticipantKey, joiner: Joiner, now: Now) -> Self {
        let kind = joiner.claims.participant_kind();
        Self {
            key,
            sid: new_id(IdKind::Participant),
            identity: joiner.claims.identity.clone(),
            grants: joiner.claims.video.clone().unwrap_or_default(),
            claims: joiner.claims,
            kind,
            client: joiner.client,
            mode: joiner.mode,
            auto_subscribe: joiner.auto_subscribe,
            adaptive_stream: joiner.adaptive_stream,
            disable_ice_lite: joiner.disable_ice_lite,
            media_ready: false,
            state: State::Joined,
            joined_millis: now.unix_millis,
            version: 1,
            disconnect_reason: DisconnectReason::UnknownReason,
            signal_lost: None,
            refresh_at: now.instant + TOKEN_REFRESH_INTERVAL,
            tracks: Vec::new(),
            subscriptions: HashMap::new(),
            permissions: None,
            last_sequence: 0,
            data_tracks: Vec::new(),
            data_subscriptions: HashSet::new(),
            blobs: Vec::new(),
        }
    }

    /// The participant as others see it.
    pub fn info(&self) -> proto::ParticipantInfo {
        let published = self.tracks.iter().filter(|track| track.published);
        proto::ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.identity.clone(),
            state: self.state.into(),
            tracks: published.clone().map(|track| track.info.clone()).collect(),
            metadata: self.claims.metadata.clone(),
            joined_at: self.joined_millis / 1000,
            joined_at_ms: self.joined_millis,
            name: self.claims.name.clone(),
            version: self.version,
            permission: Some(self.grants.permission()),
            is_publisher: self.is_publisher(),
            kind: self.kind.into(),
            kind_details: self
                .claims
                .kind_details()
                .into_iter()
                .map(i32::from)
                .collect(),
            attributes: self.claims.attributes.clone(),
            disconnect_reason: self.disconnect_reason.into(),
            data_tracks: self.data_tracks.clone(),
            client_protocol: self.client.client_protocol,
            capabilities: self.client.capabilities.clone(),
            ..proto::ParticipantInfo::default()
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether its signalling connection is gone.
    pub fn is_signal_lost(&self) -> bool {
        self.signal_lost.is_some()
    }

    /// Whether others see tracks of it.
    pub fn is_publisher(&self) -> bool {
        self.tracks.iter().any(|track| track.published)
    }

    /// Whether it exists only for others.
    pub fn is_dependent(&self) -> bool {
        is_dependent(self.kind)
    }

    /// Whether its software reads a message. LiveKit's early SDK in Rust, which GStreamer's elements have inside, ends at a
    /// message that it does not know.
    pub(super) fn can_read(&self, message: &Message) -> bool {
        let is_later = matches!(
            message,
            Message::TrackSubscribed(_) | Message::RequestResponse(_)
        );
        !is_later || self.client.sdk() != Sdk::Rust || self.client.protocol >= 10
    }

    /// Whether the connection that the server offers is the first that is made.
    pub fn subscriber_is_primary(&self) -> bool {
        // Clients of protocol 3 and later know the field.
        self.mode == Mode::Dual && self.client.protocol > 2 && self.grants.may_subscribe()
    }

    /// Its tracks, pending ones included.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Its track of that sid.
    pub fn track(&self, sid: &str) -> Option<&Track> {
        self.tracks.iter().find(|track| track.info.sid == sid)
    }

    pub(super) fn track_mut(&mut self, sid: &str) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.info.sid == sid)
    }

    /// Whether it is subscribed to the track of that sid.
    pub fn is_subscribed(&self, track_sid: &str) -> bool {
        self.subscriptions
            .get(track_sid)
            .is_some_and(|subscription| subscription.active)
    }

    /// What it is subscribed to.
    pub fn subscribed(&self) -> impl Iterator<Item = &str> {
        self.subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.active)
            .map(|(sid, _)| sid.as_str())
    }

    /// Whether `other` may subscribe to the track of that sid.
    pub(super) fn permits(&self, other: &Participant, track_sid: &str) -> bool {
        let Some(permissions) = &self.permissions else {
            return true;
        };
        permissions.iter().any(|permission| {
            let meant = if permission.participant_identity.is_empty() {
                permission.participant_sid == other.sid
            } else {
                permission.participant_identity == other.identity
            };
            meant
                && (permission.all_tracks
                    || permission.track_sids.iter().any(|sid| sid == track_sid))
        })
    }
}
