//! One room: who is in it, what they publish, who hears whom.
//!
//! The room does no I/O and owns no clock. Requests, timeouts and what the media plane reports go in by
//! method calls with the time; what has to happen comes out as [`Effect`]s, in the order in which it has
//! to happen. `crate::engine` carries them out.

mod admin;
mod data;
mod effect;
mod limits;
mod participant;
mod presence;
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
use proto::{DisconnectReason, signal_response::Message};

pub use admin::AdminError;
pub use effect::{DataKind, Effect, MediaCommand};
pub use limits::RoomLimits;
pub use participant::{Joiner, Mode, Participant};
use presence::enabled_codecs;
pub use presence::{JoinError, server_info};
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

    fn send(&mut self, to: ParticipantKey, message: Message) {
        let found = self.participants.get(&to);
        if found.is_some_and(|participant| !participant.can_read(&message)) {
            return;
        }
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
