//! One room: who is in it, what they publish, who hears whom.
//!
//! The room does no I/O and owns no clock. Requests, timeouts and what the media plane reports go in by
//! method calls with the time; what has to happen comes out as [`Effect`]s, in the order in which it has
//! to happen. `crate::engine` carries them out.

mod admin;
mod data;
mod participant;
mod publish;
mod requests;
mod subscribe;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use livekit_protocol as proto;
use proto::{
    DisconnectReason, leave_request::Action, participant_info::State, signal_response::Message,
};

pub use admin::AdminError;
pub use participant::{Joiner, Mode, Participant};
pub use publish::Track;

use crate::{
    ids::{IdKind, new_id},
    wire::Outgoing,
};

/// Beyond this many participants, updates about participants are sent in batches.
const BATCH_ABOVE: usize = 25;

/// How long updates are gathered in a large room.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);

/// At most how often the room's numbers (participants, publishers) are sent.
const ROOM_UPDATE_INTERVAL: Duration = Duration::from_millis(500);

/// How often a participant is given a fresh token.
const TOKEN_REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// Identities whose choice of a candidate protocol is remembered.
const MAX_WAYS: usize = 256;

/// The time, twice: for timers, and for people.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// Milliseconds since 1970.
    pub unix_millis: i64,
}

impl Now {
    /// The current time.
    pub fn read() -> Self {
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            instant: Instant::now(),
            unix_millis: i64::try_from(unix.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// A participant's session within its room. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParticipantKey(pub u32);

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

/// Why a participant cannot join. The texts are LiveKit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The room is full.
    #[error("room has exceeded its max participants")]
    Full,
    /// The session to resume is not known.
    #[error("participant session is already closed")]
    UnknownSession,
    /// The room is being closed.
    #[error("room has already closed")]
    Closed,
}

/// A room.
#[derive(Debug)]
pub struct Room {
    sid: String,
    name: String,
    metadata: String,
    created_millis: i64,
    empty_timeout: Duration,
    departure_timeout: Duration,
    max_participants: u32,
    limits: RoomLimits,

    participants: BTreeMap<ParticipantKey, Participant>,
    identities: HashMap<String, ParticipantKey>,
    sids: HashMap<String, ParticipantKey>,
    /// Who publishes the track of that sid.
    publishers: HashMap<String, ParticipantKey>,
    /// Data tracks by the handle that their packets carry within the room.
    data_routes: BTreeMap<u16, data::DataRoute>,
    next_key: u32,
    /// Who is recording, so that clients can show it.
    recording: bool,
    version: i32,

    /// Participants that others have to be told about, with whether they are told themselves.
    changed: BTreeMap<ParticipantKey, bool>,
    departed: Vec<proto::ParticipantInfo>,
    flush_at: Option<Instant>,
    room_changed: bool,
    room_update_at: Option<Instant>,
    room_updated: Option<Instant>,
    /// When the room began to be empty.
    empty_since: Option<Instant>,
    ever_joined: bool,
    closed: bool,
    /// Who asked to be reached over TCP or a relay alone, for their next connections.
    ways: HashMap<String, proto::CandidateProtocol>,
    replay: data::Replay,
    rpcs: HashMap<String, admin::RpcAnswer>,
    effects: VecDeque<Effect>,
}

impl Room {
    /// An empty room. `request` carries its settings; those that are 0 come from `limits`.
    pub fn new(request: &proto::CreateRoomRequest, limits: RoomLimits, now: Now) -> Self {
        let seconds = |value: u32, fallback: Duration| match value {
            0 => fallback,
            value => Duration::from_secs(value.into()),
        };
        let mut room = Self {
            sid: new_id(IdKind::Room),
            name: request.name.clone(),
            metadata: request.metadata.clone(),
            created_millis: now.unix_millis,
            empty_timeout: seconds(request.empty_timeout, limits.empty_timeout),
            departure_timeout: seconds(request.departure_timeout, limits.departure_timeout),
            max_participants: if request.max_participants == 0 {
                limits.max_participants
            } else {
                request.max_participants
            },
            replay: data::Replay::new(limits.replay_bytes, limits.replay_age),
            limits,
            participants: BTreeMap::new(),
            identities: HashMap::new(),
            sids: HashMap::new(),
            publishers: HashMap::new(),
            data_routes: BTreeMap::new(),
            next_key: 1,
            recording: false,
            version: 0,
            changed: BTreeMap::new(),
            departed: Vec::new(),
            flush_at: None,
            room_changed: false,
            room_update_at: None,
            room_updated: None,
            empty_since: Some(now.instant),
            ever_joined: false,
            closed: false,
            ways: HashMap::new(),
            rpcs: HashMap::new(),
            effects: VecDeque::new(),
        };
        room.note(None, "room started");
        let started = room.webhook("room_started", now);
        room.effects.push_back(Effect::Webhook(started));
        room
    }

    /// The room's sid.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the room is over.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The room as a message.
    pub fn info(&self) -> proto::Room {
        let counted = self
            .participants
            .values()
            .filter(|participant| !participant.is_dependent());
        let publishers = counted
            .clone()
            .filter(|participant| participant.is_publisher())
            .count();
        proto::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            empty_timeout: u32::try_from(self.empty_timeout.as_secs()).unwrap_or(u32::MAX),
            departure_timeout: u32::try_from(self.departure_timeout.as_secs()).unwrap_or(u32::MAX),
            max_participants: self.max_participants,
            creation_time: self.created_millis / 1000,
            creation_time_ms: self.created_millis,
            metadata: self.metadata.clone(),
            num_participants: u32::try_from(counted.count()).unwrap_or(u32::MAX),
            num_publishers: u32::try_from(publishers).unwrap_or(u32::MAX),
            active_recording: self.recording
                || self.participants.values().any(|p| p.grants.recorder),
            enabled_codecs: enabled_codecs(),
            version: Some(proto::TimedVersion {
                unix_micro: self.created_millis * 1000,
                ticks: self.version,
            }),
            ..proto::Room::default()
        }
    }

    /// A participant.
    pub fn participant(&self, key: ParticipantKey) -> Option<&Participant> {
        self.participants.get(&key)
    }

    /// All participants, in the order in which they joined.
    pub fn participants(&self) -> impl Iterator<Item = &Participant> {
        self.participants.values()
    }

    /// By which way a participant asked to be reached: UDP unless it said otherwise.
    pub fn way_of(&self, key: ParticipantKey) -> proto::CandidateProtocol {
        let participant = self.participants.get(&key);
        let way = participant.and_then(|participant| self.ways.get(&participant.identity));
        way.copied().unwrap_or(proto::CandidateProtocol::Udp)
    }

    /// The participant of that identity.
    pub fn by_identity(&self, identity: &str) -> Option<&Participant> {
        self.participants.get(self.identities.get(identity)?)
    }

    /// Whether somebody inside may mute and remove others.
    pub fn has_host(&self) -> bool {
        self.participants
            .values()
            .any(|participant| participant.grants.room_admin)
    }

    /// The published track of that sid, with its publisher.
    pub fn track(&self, sid: &str) -> Option<(&Participant, &Track)> {
        let publisher = self.participants.get(self.publishers.get(sid)?)?;
        Some((publisher, publisher.track(sid)?))
    }

    /// What has to happen next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Lets a participant in. An earlier session of the same identity is told so and ends.
    ///
    /// # Errors
    /// [`JoinError::Full`], [`JoinError::Closed`].
    pub fn join(&mut self, joiner: Joiner, now: Now) -> Result<ParticipantKey, JoinError> {
        if self.closed {
            return Err(JoinError::Closed);
        }
        let earlier = self.identities.get(&joiner.claims.identity).copied();
        let dependent = participant::is_dependent(joiner.claims.participant_kind());
        if !dependent && self.is_full_for(&joiner.claims.identity) {
            return Err(JoinError::Full);
        }
        if let Some(earlier) = earlier {
            self.remove(earlier, DisconnectReason::DuplicateIdentity, now);
        }

        let key = ParticipantKey(self.next_key);
        self.next_key += 1;
        let ice_servers = joiner.ice_servers.clone();
        let participant = Participant::new(key, joiner, now);
        self.identities.insert(participant.identity.clone(), key);
        self.sids.insert(participant.sid.clone(), key);
        self.note(
            Some(&participant.identity),
            &format!("joins as {}", participant.sid),
        );
        self.participants.insert(key, participant);
        self.empty_since = None;
        self.ever_joined = true;
        self.room_changed = true;

        let join = proto::JoinResponse {
            ice_servers,
            ..self.join_response(key)
        };
        // Join is the first message that a client takes; an offer comes after it.
        self.send(key, Message::Join(join));
        self.effects
            .push_back(Effect::Media(MediaCommand::Open(key)));
        self.mark(key, false, now);
        Ok(key)
    }

    /// Whether there is no place for `identity`; an earlier session of it would make room.
    pub fn is_full_for(&self, identity: &str) -> bool {
        let counts = |p: &&Participant| !p.is_dependent() && p.identity != identity;
        let others = self.participants.values().filter(counts).count();
        self.max_participants > 0
            && others >= usize::try_from(self.max_participants).unwrap_or(usize::MAX)
    }

    /// Takes a participant's new signalling connection for the old session.
    ///
    /// # Errors
    /// [`JoinError::UnknownSession`] if there is none of that sid and identity.
    pub fn resume(
        &mut self,
        sid: &str,
        identity: &str,
        ice_servers: Vec<proto::IceServer>,
        now: Now,
    ) -> Result<ParticipantKey, JoinError> {
        let key = match sid {
            "" => self.identities.get(identity),
            sid => self.sids.get(sid),
        };
        let key = *key.ok_or(JoinError::UnknownSession)?;
        let participant = self
            .participants
            .get_mut(&key)
            .ok_or(JoinError::UnknownSession)?;
        if participant.identity != identity {
            return Err(JoinError::UnknownSession);
        }
        participant.signal_lost = None;
        participant.refresh_at = now.instant + TOKEN_REFRESH_INTERVAL;
        let last_message_seq = participant.last_sequence;
        let resumed = format!("resumes as {sid}");
        self.note(Some(identity), &resumed);
        self.send(
            key,
            Message::Reconnect(proto::ReconnectResponse {
                ice_servers,
                server_info: Some(server_info()),
                last_message_seq,
                ..proto::ReconnectResponse::default()
            }),
        );
        // What it missed: everyone as they are now, the room as it is now.
        let others = self.others(key);
        if !others.is_empty() {
            self.send(
                key,
                Message::Update(proto::ParticipantUpdate {
                    participants: others,
                }),
            );
        }
        let info = self.info();
        self.send(
            key,
            Message::RoomUpdate(proto::RoomUpdate { room: Some(info) }),
        );
        self.effects
            .push_back(Effect::Media(MediaCommand::Restart(key)));
        Ok(key)
    }

    /// The signalling connection broke. The participant keeps its place for a while.
    pub fn signal_lost(&mut self, key: ParticipantKey, now: Now) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        participant.signal_lost = Some(now.instant);
        let identity = participant.identity.clone();
        // Without media there is nothing to come back to: whoever leaves before having been here is gone.
        if participant.state != State::Active {
            self.remove(key, DisconnectReason::SignalClose, now);
        } else {
            self.note(Some(&identity), "lost its signalling connection");
        }
    }

    /// The media connection of a participant is up.
    pub fn media_connected(&mut self, key: ParticipantKey, now: Now) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        if participant.state == State::Active {
            return;
        }
        participant.state = State::Active;
        participant.version += 1;
        let identity = participant.identity.clone();
        let info = participant.info();
        self.note(Some(&identity), "is connected");
        let mut event = self.webhook("participant_joined", now);
        event.participant = Some(info);
        self.effects.push_back(Effect::Webhook(event));
        self.mark(key, false, now);
    }

    /// The media connection of a participant is beyond repair.
    pub fn media_failed(&mut self, key: ParticipantKey, now: Now) {
        let Some(participant) = self.participants.get(&key) else {
            return;
        };
        let identity = participant.identity.clone();
        self.note(Some(&identity), "its media connection failed");
        if self.participants[&key].signal_lost.is_some() {
            self.remove(key, DisconnectReason::MediaFailure, now);
        }
        // With its signalling alive the client notices by itself and resumes with an ICE restart.
    }

    /// Ends a participant's session and tells it why.
    pub fn remove(&mut self, key: ParticipantKey, reason: DisconnectReason, now: Now) {
        let action = match reason {
            DisconnectReason::ServerShutdown
            | DisconnectReason::StateMismatch
            | DisconnectReason::Migration => Action::Reconnect,
            _ => Action::Disconnect,
        };
        self.remove_with(key, reason, action, now);
    }

    pub(crate) fn remove_with(
        &mut self,
        key: ParticipantKey,
        reason: DisconnectReason,
        action: Action,
        now: Now,
    ) {
        let Some(mut participant) = self.participants.remove(&key) else {
            return;
        };
        self.identities.remove(&participant.identity);
        self.sids.remove(&participant.sid);
        self.changed.remove(&key);

        if reason != DisconnectReason::ClientInitiated && participant.signal_lost.is_none() {
            let leave = proto::LeaveRequest {
                can_reconnect: action != Action::Disconnect,
                reason: reason.into(),
                action: action.into(),
                regions: None,
            };
            self.send(key, Message::Leave(leave));
        }
        self.effects.push_back(Effect::CloseSignal(key));

        for track in std::mem::take(&mut participant.tracks) {
            self.forget_track(&track, &participant, now);
        }
        self.forget_data_tracks(key);
        self.effects
            .push_back(Effect::Media(MediaCommand::Close(key)));

        let was_active = participant.state == State::Active;
        participant.state = State::Disconnected;
        participant.disconnect_reason = reason;
        participant.version += 1;
        let info = participant.info();
        self.note(
            Some(&participant.identity),
            &format!("leaves ({})", reason.as_str_name()),
        );
        let event = if was_active {
            "participant_left"
        } else {
            "participant_connection_aborted"
        };
        let mut event = self.webhook(event, now);
        event.participant = Some(info.clone());
        self.effects.push_back(Effect::Webhook(event));
        if !participant.grants.hidden {
            self.departed.push(info);
            self.schedule_flush(now);
        }
        self.room_changed = true;
        if !self
            .participants
            .values()
            .any(|participant| !participant.is_dependent())
        {
            self.empty_since = Some(now.instant);
        }
    }

    /// Ends the room for everyone.
    pub fn close(&mut self, reason: DisconnectReason, end: proto::RoomEndReason, now: Now) {
        if self.closed {
            return;
        }
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for key in keys {
            self.remove(key, reason, now);
        }
        self.departed.clear();
        self.closed = true;
        self.note(None, "room finished");
        let mut event = self.webhook("room_finished", now);
        event.room_end_reason = end.into();
        self.effects.push_back(Effect::Webhook(event));
    }

    /// When [`Room::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let lost = |participant: &Participant| {
            Some(participant.signal_lost? + self.limits.reconnect_timeout)
        };
        let refresh = |participant: &Participant| {
            participant
                .signal_lost
                .is_none()
                .then_some(participant.refresh_at)
        };
        let participants = self
            .participants
            .values()
            .flat_map(|p| [lost(p), refresh(p)])
            .flatten();
        let empty = self
            .empty_since
            .filter(|_| !self.closed)
            .map(|since| since + self.timeout_when_empty());
        participants
            .chain(empty)
            .chain(self.flush_at)
            .chain(self.room_update_at)
            .min()
    }

    fn timeout_when_empty(&self) -> Duration {
        if self.ever_joined {
            self.departure_timeout
        } else {
            self.empty_timeout
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = |since: Option<Instant>, after: Duration| {
            since.is_some_and(|since| since + after <= now.instant)
        };
        let lost: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|participant| due(participant.signal_lost, self.limits.reconnect_timeout))
            .map(|participant| participant.key)
            .collect();
        for key in lost {
            self.remove(key, DisconnectReason::SignalClose, now);
        }
        for participant in self.participants.values_mut() {
            if participant.signal_lost.is_none() && participant.refresh_at <= now.instant {
                participant.refresh_at = now.instant + TOKEN_REFRESH_INTERVAL;
                self.effects
                    .push_back(Effect::RefreshToken(participant.key));
            }
        }
        if due(self.empty_since, self.timeout_when_empty()) {
            self.close(
                DisconnectReason::RoomClosed,
                proto::RoomEndReason::RoomEndIdleTimeout,
                now,
            );
        }
        if due(self.flush_at, Duration::ZERO) {
            self.flush();
        }
        if self.room_changed && due(self.room_update_at, Duration::ZERO) {
            self.send_room_update(now);
        }
        self.replay.expire(now.instant);
    }

    /// To be called when a request was handled: tells everyone what changed, or plans to.
    pub fn settle(&mut self, now: Now) {
        if self.participants.len() <= BATCH_ABOVE {
            self.flush();
        }
        if self.room_changed && self.room_update_at.is_none() {
            match self.room_updated {
                Some(last) if last + ROOM_UPDATE_INTERVAL > now.instant => {
                    self.room_update_at = Some(last + ROOM_UPDATE_INTERVAL);
                }
                _ => self.send_room_update(now),
            }
        }
    }

    fn send_room_update(&mut self, now: Now) {
        self.room_changed = false;
        self.room_update_at = None;
        self.room_updated = Some(now.instant);
        self.version += 1;
        let message = Message::RoomUpdate(proto::RoomUpdate {
            room: Some(self.info()),
        });
        self.send_to_all(message);
    }

    /// Others have to be told about `key`; `also_itself`: it has to be told too.
    fn mark(&mut self, key: ParticipantKey, also_itself: bool, now: Now) {
        *self.changed.entry(key).or_default() |= also_itself;
        self.schedule_flush(now);
    }

    fn schedule_flush(&mut self, now: Now) {
        self.flush_at.get_or_insert(now.instant + BATCH_INTERVAL);
    }

    fn flush(&mut self) {
        self.flush_at = None;
        let changed = std::mem::take(&mut self.changed);
        let departed = std::mem::take(&mut self.departed);
        if changed.is_empty() && departed.is_empty() {
            return;
        }
        let infos: Vec<(ParticipantKey, bool, bool, proto::ParticipantInfo)> = changed
            .iter()
            .filter_map(|(key, itself)| {
                let participant = self.participants.get(key)?;
                Some((*key, *itself, participant.grants.hidden, participant.info()))
            })
            .collect();
        let visible = infos
            .iter()
            .filter(|(_, _, hidden, _)| !hidden)
            .map(|(_, _, _, info)| info.clone());
        let participants: Vec<_> = departed.into_iter().chain(visible).collect();
        // Nearly everyone gets the same message: it is encoded once.
        let common = (!participants.is_empty()).then(|| {
            Outgoing::new(Message::Update(proto::ParticipantUpdate {
                participants: participants.clone(),
            }))
        });
        let mut excepted = BTreeSet::new();
        for (key, itself, hidden, info) in &infos {
            if *itself == *hidden {
                excepted.insert(*key);
                let mut own: Vec<_> = participants
                    .iter()
                    .filter(|participant| participant.sid != info.sid)
                    .cloned()
                    .collect();
                if *itself {
                    own.push(info.clone());
                }
                if !own.is_empty() {
                    self.send(
                        *key,
                        Message::Update(proto::ParticipantUpdate { participants: own }),
                    );
                }
            }
        }
        let Some(common) = common else { return };
        for participant in self
            .participants
            .values()
            .filter(|participant| !excepted.contains(&participant.key))
        {
            self.effects.push_back(Effect::Send {
                to: participant.key,
                message: Arc::clone(&common),
            });
        }
    }

    fn others(&self, key: ParticipantKey) -> Vec<proto::ParticipantInfo> {
        let visible =
            |participant: &&Participant| participant.key != key && !participant.grants.hidden;
        self.participants
            .values()
            .filter(visible)
            .map(Participant::info)
            .collect()
    }

    fn join_response(&self, key: ParticipantKey) -> proto::JoinResponse {
        let participant = &self.participants[&key];
        let server_info = server_info();
        let force_relay = match self.way_of(key) {
            proto::CandidateProtocol::Tls => proto::ClientConfigSetting::Enabled,
            _ => proto::ClientConfigSetting::Unset,
        };
        proto::JoinResponse {
            room: Some(self.info()),
            participant: Some(participant.info()),
            other_participants: self.others(key),
            server_version: server_info.version.clone(),
            server_info: Some(server_info),
            subscriber_primary: participant.subscriber_is_primary(),
            client_configuration: Some(proto::ClientConfiguration {
                force_relay: force_relay.into(),
                ..Default::default()
            }),
            ping_timeout: crate::signal::PING_TIMEOUT_SECONDS,
            ping_interval: crate::signal::PING_INTERVAL_SECONDS,
            enabled_publish_codecs: enabled_codecs(),
            fast_publish: participant.grants.may_publish(),
            ..proto::JoinResponse::default()
        }
    }

    fn send(&mut self, to: ParticipantKey, message: Message) {
        self.effects.push_back(Effect::Send {
            to,
            message: Outgoing::new(message),
        });
    }

    fn send_to_all(&mut self, message: Message) {
        let message = Outgoing::new(message);
        for key in self.participants.keys() {
            self.effects.push_back(Effect::Send {
                to: *key,
                message: Arc::clone(&message),
            });
        }
    }

    fn note(&mut self, identity: Option<&str>, text: &str) {
        self.effects.push_back(Effect::Note {
            identity: identity.map(str::to_owned),
            text: text.to_owned(),
        });
    }

    fn webhook(&self, event: &str, now: Now) -> Box<proto::WebhookEvent> {
        Box::new(proto::WebhookEvent {
            event: event.to_owned(),
            room: Some(self.info()),
            id: new_id(IdKind::Event),
            created_at: now.unix_millis / 1000,
            ..proto::WebhookEvent::default()
        })
    }
}

/// What clients may send.
fn enabled_codecs() -> Vec<proto::Codec> {
    [
        "audio/opus",
        "audio/red",
        "video/VP8",
        "video/H264",
        "video/VP9",
        "video/AV1",
        "video/rtx",
    ]
    .into_iter()
    .map(|mime| proto::Codec {
        mime: mime.to_owned(),
        fmtp_line: String::new(),
    })
    .collect()
}

/// How the server presents itself. Clients choose features by the version of LiveKit whose protocol is
/// spoken; `node_id` tells one process from the next.
pub fn server_info() -> proto::ServerInfo {
    static NODE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| new_id(IdKind::Node));
    proto::ServerInfo {
        edition: proto::server_info::Edition::Standard.into(),
        version: crate::LIVEKIT_VERSION.to_owned(),
        protocol: crate::LIVEKIT_PROTOCOL,
        node_id: NODE.clone(),
        ..proto::ServerInfo::default()
    }
}
