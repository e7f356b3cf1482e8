//! What the application's server may do to a room (LiveKit's RoomService).

use livekit_protocol as proto;
use proto::{DisconnectReason, data_packet, signal_response::Message};

use super::{DataKind, Effect, Now, ParticipantKey, Room};

/// Where a participant's answer to a call of the application's server goes.
pub(crate) type RpcAnswer = tokio::sync::oneshot::Sender<Result<String, String>>;

/// Calls of the application's server that may wait for an answer.
const MAX_RPCS: usize = 256;

/// Why a request of the application's server fails. The texts are LiveKit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No participant of that identity.
    #[error("participant does not exist")]
    NoParticipant,
    /// No such track.
    #[error("track is not found")]
    NoTrack,
    /// Nobody may open another's microphone.
    #[error("remote unmute not enabled")]
    RemoteUnmute,
    /// A name, metadata or attributes beyond the limit.
    #[error("{0}")]
    Limit(&'static str),
}

impl Room {
    fn key_of(&self, identity: &str) -> Result<ParticipantKey, AdminError> {
        self.identities
            .get(identity)
            .copied()
            .ok_or(AdminError::NoParticipant)
    }

    /// Sends a participant away.
    ///
    /// # Errors
    /// [`AdminError::NoParticipant`].
    pub fn remove_identity(&mut self, identity: &str, now: Now) -> Result<(), AdminError> {
        let key = self.key_of(identity)?;
        self.remove(key, DisconnectReason::ParticipantRemoved, now);
        Ok(())
    }

    /// Silences a participant's track; `unmute_allowed` says whether the opposite may be asked.
    ///
    /// # Errors
    /// Any [`AdminError`] but [`AdminError::Limit`].
    pub fn mute_track(
        &mut self,
        identity: &str,
        track_sid: &str,
        muted: bool,
        unmute_allowed: bool,
        now: Now,
    ) -> Result<proto::TrackInfo, AdminError> {
        let key = self.key_of(identity)?;
        if self.participants[&key].track(track_sid).is_none() {
            return Err(AdminError::NoTrack);
        }
        if !muted && !unmute_allowed {
            return Err(AdminError::RemoteUnmute);
        }
        self.mute(key, track_sid, muted, true, now);
        self.participants[&key]
            .track(track_sid)
            .map(|track| track.info.clone())
            .ok_or(AdminError::NoTrack)
    }

    /// Changes a participant's name, metadata, attributes and permission.
    ///
    /// # Errors
    /// [`AdminError::NoParticipant`], [`AdminError::Limit`].
    pub fn update_participant(
        &mut self,
        update: &proto::UpdateParticipantRequest,
        now: Now,
    ) -> Result<proto::ParticipantInfo, AdminError> {
        let key = self.key_of(&update.identity)?;
        self.set_metadata(key, &update.name, &update.metadata, &update.attributes, now)
            .map_err(|refusal| AdminError::Limit(refusal.text))?;
        if let Some(permission) = &update.permission {
            self.set_permission(key, permission, now);
        }
        self.participants
            .get(&key)
            .map(super::Participant::info)
            .ok_or(AdminError::NoParticipant)
    }

    fn set_permission(
        &mut self,
        key: ParticipantKey,
        permission: &proto::ParticipantPermission,
        now: Now,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let was_hidden = participant.grants.hidden;
        participant.grants.set_permission(permission);
        participant.claims.video = Some(participant.grants.clone());
        participant.version += 1;
        let grants = participant.grants.clone();
        let forbidden: Vec<String> = participant
            .tracks
            .iter()
            .filter(|track| {
                let source = proto::TrackSource::try_from(track.info.source).unwrap_or_default();
                !grants.may_publish_source(source)
            })
            .map(|track| track.info.sid.clone())
            .collect();
        for sid in forbidden {
            self.unpublish(key, &sid, true, now);
        }
        if !was_hidden && grants.hidden {
            // To others it is as if the participant had left.
            let mut info = self.participants[&key].info();
            info.state = proto::participant_info::State::Disconnected.into();
            self.departed.push(info);
        }
        self.reconcile_all(key);
        self.mark(key, true, now);
        self.effects.push_back(Effect::RefreshToken(key));
    }

    /// Changes what a participant is subscribed to.
    ///
    /// # Errors
    /// [`AdminError::NoParticipant`].
    pub fn update_subscriptions(
        &mut self,
        request: proto::UpdateSubscriptionsRequest,
    ) -> Result<(), AdminError> {
        let key = self.key_of(&request.identity)?;
        let sids = request.track_sids.into_iter().chain(
            request
                .participant_tracks
                .into_iter()
                .flat_map(|tracks| tracks.track_sids),
        );
        self.update_subscription(key, sids, request.subscribe);
        Ok(())
    }

    /// Changes the room's metadata.
    ///
    /// # Errors
    /// [`AdminError::Limit`].
    pub fn update_metadata(&mut self, metadata: &str, now: Now) -> Result<proto::Room, AdminError> {
        if metadata.len() > self.limits.metadata_bytes {
            return Err(AdminError::Limit("metadata size exceeds limits"));
        }
        metadata.clone_into(&mut self.metadata);
        self.send_room_update(now);
        Ok(self.info())
    }

    /// Sends data to participants on behalf of the application's server.
    pub fn send_data(&mut self, request: proto::SendDataRequest, now: Now) {
        let kind = match data_packet::Kind::try_from(request.kind) {
            Ok(data_packet::Kind::Lossy) => DataKind::Lossy,
            _ => DataKind::Reliable,
        };
        #[allow(deprecated)]
        let (sids, identities) = (request.destination_sids, request.destination_identities);
        #[allow(deprecated)]
        let user = proto::UserPacket {
            payload: request.data,
            topic: request.topic,
            destination_sids: sids.clone(),
            destination_identities: identities.clone(),
            nonce: request.nonce,
            ..proto::UserPacket::default()
        };
        let packet = proto::DataPacket {
            destination_identities: identities,
            value: Some(data_packet::Value::User(user)),
            ..proto::DataPacket::default()
        };
        self.route(None, kind, packet, &sids, now);
    }

    /// Calls a method of a participant on behalf of the application's server; its answer goes to `answer`.
    ///
    /// # Errors
    /// [`AdminError::NoParticipant`]; [`AdminError::Limit`] if too many calls wait.
    pub(crate) fn perform_rpc(
        &mut self,
        id: &str,
        request: proto::PerformRpcRequest,
        answer: RpcAnswer,
        now: Now,
    ) -> Result<(), AdminError> {
        self.key_of(&request.destination_identity)?;
        self.rpcs.retain(|_, answer| !answer.is_closed());
        if self.rpcs.len() >= MAX_RPCS {
            return Err(AdminError::Limit("too many calls wait for an answer"));
        }
        let call = proto::RpcRequest {
            id: id.to_owned(),
            method: request.method,
            payload: request.payload,
            response_timeout_ms: request.response_timeout_ms,
            version: 1,
            ..proto::RpcRequest::default()
        };
        let packet = proto::DataPacket {
            destination_identities: vec![request.destination_identity],
            value: Some(data_packet::Value::RpcRequest(call)),
            ..proto::DataPacket::default()
        };
        self.rpcs.insert(id.to_owned(), answer);
        self.route(None, DataKind::Reliable, packet, &[], now);
        Ok(())
    }

    /// Whether a packet is about a call of the application's server, and was dealt with.
    pub(super) fn take_rpc(&mut self, value: &data_packet::Value) -> bool {
        match value {
            data_packet::Value::RpcAck(ack) => self.rpcs.contains_key(&ack.request_id),
            data_packet::Value::RpcResponse(response) => {
                let Some(answer) = self.rpcs.remove(&response.request_id) else {
                    return false;
                };
                let outcome = match &response.value {
                    Some(proto::rpc_response::Value::Payload(payload)) => Ok(payload.clone()),
                    Some(proto::rpc_response::Value::Error(error)) => {
                        Err(format!("{}: {}", error.code, error.message))
                    }
                    Some(proto::rpc_response::Value::CompressedPayload(_)) => {
                        Err("the answer is compressed".into())
                    }
                    None => Ok(String::new()),
                };
                let _ = answer.send(outcome);
                true
            }
            _ => false,
        }
    }

    /// Whether the room is being recorded, for clients to show.
    pub fn set_recording(&mut self, recording: bool) {
        if std::mem::replace(&mut self.recording, recording) != recording {
            self.room_changed = true;
        }
    }

    /// A message to everyone, for a drain: come back, elsewhere or later.
    pub fn ask_to_reconnect(&mut self) {
        let leave = proto::LeaveRequest {
            can_reconnect: true,
            reason: DisconnectReason::ServerShutdown.into(),
            action: proto::leave_request::Action::Reconnect.into(),
            regions: None,
        };
        self.send_to_all(Message::Leave(leave));
    }
}
