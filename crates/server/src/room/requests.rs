//! What clients ask over their signalling connection.

use livekit_protocol as proto;
use proto::{
    DisconnectReason, request_response, signal_request, signal_response::Message, simulate_scenario,
};

use super::{Effect, MediaCommand, Now, ParticipantKey, Room};

/// Changes of one's own name, metadata and attributes, and why they are refused.
pub(super) struct Refusal {
    pub(super) reason: request_response::Reason,
    pub(super) text: &'static str,
}

impl Room {
    /// Handles a request of `key`. A request that is not allowed or makes no sense is answered where
    /// the protocol has an answer, and ignored where it has none.
    pub fn request(&mut self, key: ParticipantKey, request: signal_request::Message, now: Now) {
        use signal_request::Message as Request;
        if !self.participants.contains_key(&key) {
            return;
        }
        #[allow(deprecated)]
        match request {
            Request::Offer(description) | Request::Answer(description) => {
                self.effects
                    .push_back(Effect::Media(MediaCommand::Description {
                        from: key,
                        description,
                    }));
            }
            Request::Trickle(trickle) => {
                self.effects
                    .push_back(Effect::Media(MediaCommand::Candidate {
                        from: key,
                        trickle,
                    }));
            }
            Request::AddTrack(request) => self.add_track(key, request, now),
            Request::Mute(mute) => {
                self.mute(key, &mute.sid, mute.muted, false, now);
            }
            Request::Subscription(update) => {
                let sids = update.track_sids.into_iter().chain(
                    update
                        .participant_tracks
                        .into_iter()
                        .flat_map(|tracks| tracks.track_sids),
                );
                self.update_subscription(key, sids, update.subscribe);
            }
            Request::TrackSetting(settings) => self.update_track_settings(key, &settings),
            Request::Leave(_) => self.remove(key, DisconnectReason::ClientInitiated, now),
            Request::SubscriptionPermission(permission) => {
                self.set_subscription_permission(key, permission)
            }
            Request::SyncState(state) => self.sync_state(key, state, now),
            Request::Simulate(scenario) => self.simulate(key, scenario, now),
            Request::Ping(_) => self.send(key, Message::Pong(now.unix_millis)),
            Request::PingReq(ping) => {
                let pong = proto::Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: now.unix_millis,
                };
                self.send(key, Message::PongResp(pong));
            }
            Request::UpdateMetadata(update) => self.update_own_metadata(key, update, now),
            Request::UpdateAudioTrack(update) => self.update_audio_track(key, update, now),
            Request::UpdateVideoTrack(update) => self.update_video_track(key, &update, now),
            Request::PublishDataTrackRequest(request) => self.publish_data_track(key, request, now),
            Request::UnpublishDataTrackRequest(request) => {
                self.unpublish_data_track(key, request.pub_handle, now)
            }
            Request::UpdateDataSubscription(update) => self.update_data_subscription(key, update),
            Request::StoreDataBlobRequest(request) => self.store_blob(key, request),
            Request::GetDataBlobRequest(request) => self.get_blob(key, &request),
            // Superseded by `UpdateVideoTrack`; the media plane measures layers itself.
            Request::UpdateLayers(_) => {}
        }
    }

    pub(super) fn respond(
        &mut self,
        key: ParticipantKey,
        request_id: u32,
        reason: request_response::Reason,
        text: &str,
        request: Option<request_response::Request>,
    ) {
        let response = proto::RequestResponse {
            request_id,
            reason: reason.into(),
            message: text.to_owned(),
            request,
        };
        self.send(key, Message::RequestResponse(response));
    }

    fn update_own_metadata(
        &mut self,
        key: ParticipantKey,
        update: proto::UpdateParticipantMetadata,
        now: Now,
    ) {
        let Some(participant) = self.participants.get(&key) else {
            return;
        };
        let outcome = if participant.grants.may_update_metadata() {
            self.set_metadata(key, &update.name, &update.metadata, &update.attributes, now)
        } else {
            Err(Refusal {
                reason: request_response::Reason::NotAllowed,
                text: "does not have permission to update own metadata",
            })
        };
        // The change first, so that a client that waits for both sees it done.
        self.flush();
        let request_id = update.request_id;
        match outcome {
            Ok(()) => self.respond(key, request_id, request_response::Reason::Ok, "", None),
            Err(refusal) => {
                let request = Some(request_response::Request::UpdateMetadata(update));
                self.respond(key, request_id, refusal.reason, refusal.text, request);
            }
        }
    }

    /// Changes a participant's name, metadata and attributes: what is empty stays as it is, an empty
    /// attribute is removed.
    pub(super) fn set_metadata(
        &mut self,
        key: ParticipantKey,
        name: &str,
        metadata: &str,
        attributes: &std::collections::HashMap<String, String>,
        now: Now,
    ) -> Result<(), Refusal> {
        let limit = |text| Refusal {
            reason: request_response::Reason::LimitExceeded,
            text,
        };
        if name.len() > self.limits.name_bytes {
            return Err(limit("name length exceeds limits"));
        }
        if metadata.len() > self.limits.metadata_bytes {
            return Err(limit("metadata size exceeds limits"));
        }
        let Some(participant) = self.participants.get_mut(&key) else {
            return Err(Refusal {
                reason: request_response::Reason::NotFound,
                text: "participant does not exist",
            });
        };
        let mut merged = participant.claims.attributes.clone();
        for (name, value) in attributes {
            match value.as_str() {
                "" => merged.remove(name),
                value => merged.insert(name.clone(), value.to_owned()),
            };
        }
        let bytes: usize = merged
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > self.limits.attributes_bytes {
            return Err(limit("attribute size exceeds limits"));
        }
        let claims = &mut participant.claims;
        let before = (claims.name.clone(), claims.metadata.clone());
        if !name.is_empty() {
            name.clone_into(&mut claims.name);
        }
        if !metadata.is_empty() {
            metadata.clone_into(&mut claims.metadata);
        }
        let changed =
            before != (claims.name.clone(), claims.metadata.clone()) || merged != claims.attributes;
        claims.attributes = merged;
        if changed {
            participant.version += 1;
            self.mark(key, true, now);
            // A reconnect is to bring the change along.
            self.effects.push_back(Effect::RefreshToken(key));
        }
        Ok(())
    }

    fn simulate(&mut self, key: ParticipantKey, scenario: proto::SimulateScenario, now: Now) {
        use simulate_scenario::Scenario;
        let Some(scenario) = scenario.scenario else {
            return;
        };
        let identity = self.participants[&key].identity.clone();
        self.note(Some(&identity), &format!("simulates {scenario:?}"));
        match scenario {
            Scenario::SpeakerUpdate(_) => {
                let sid = self.participants[&key].sid.clone();
                let speaker = proto::SpeakerInfo {
                    sid,
                    level: 0.9,
                    active: true,
                };
                let message = Message::SpeakersChanged(proto::SpeakersChanged {
                    speakers: vec![speaker],
                });
                self.send_to_all(message);
            }
            Scenario::ServerLeave(_) => {
                self.remove_with(
                    key,
                    DisconnectReason::ServerShutdown,
                    proto::leave_request::Action::Disconnect,
                    now,
                );
            }
            Scenario::NodeFailure(_) | Scenario::LeaveRequestFullReconnect(_) => {
                let action = proto::leave_request::Action::Reconnect;
                self.remove_with(key, DisconnectReason::StateMismatch, action, now);
            }
            // A migration is a resume: the client comes back to the session that it has.
            Scenario::Migration(_) => {
                let leave = proto::LeaveRequest {
                    can_reconnect: true,
                    reason: DisconnectReason::Migration.into(),
                    action: proto::leave_request::Action::Resume.into(),
                    regions: None,
                };
                self.send(key, Message::Leave(leave));
                self.effects.push_back(Effect::CloseSignal(key));
            }
            // The client comes back by itself, and is then reached that way.
            Scenario::SwitchCandidateProtocol(protocol) => {
                let protocol = proto::CandidateProtocol::try_from(protocol)
                    .unwrap_or(proto::CandidateProtocol::Udp);
                if self.ways.len() >= super::MAX_WAYS {
                    self.ways.clear();
                }
                self.ways.insert(identity, protocol);
            }
            Scenario::DisconnectSignalOnResume(_)
            | Scenario::DisconnectSignalOnResumeNoMessages(_) => {
                self.effects.push_back(Effect::CloseSignal(key));
            }
            Scenario::SubscriberBandwidth(bits_per_second) => {
                let bits_per_second = u64::try_from(bits_per_second)
                    .ok()
                    .filter(|limit| *limit > 0);
                let command = MediaCommand::LimitBandwidth {
                    participant: key,
                    bits_per_second,
                };
                self.effects.push_back(Effect::Media(command));
            }
        }
    }
}
