//! Who is in the room: joining, coming back, being lost, leaving.

use livekit_protocol as proto;
use proto::{
    DisconnectReason, leave_request::Action, participant_info::State, signal_response::Message,
};

use super::{
    Effect, Joiner, MediaCommand, Now, Participant, ParticipantKey, Room, TOKEN_REFRESH_INTERVAL,
    participant,
};
use crate::ids::{IdKind, new_id};

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

impl Room {
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

    pub(super) fn others(&self, key: ParticipantKey) -> Vec<proto::ParticipantInfo> {
        let visible =
            |participant: &&Participant| participant.key != key && !participant.grants.hidden;
        self.participants
            .values()
            .filter(visible)
            .map(Participant::info)
            .collect()
    }

    pub(super) fn join_response(&self, key: ParticipantKey) -> proto::JoinResponse {
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
}

/// What clients may send.
pub(super) fn enabled_codecs() -> Vec<proto::Codec> {
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
