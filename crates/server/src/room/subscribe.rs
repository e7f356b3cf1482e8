//! Subscriptions: what a participant wants to receive, may receive, and receives.

use livekit_protocol as proto;
use proto::{TrackType, signal_response::Message};

use super::{Effect, MediaCommand, Now, ParticipantKey, Room};

/// A participant's relation to one track.
#[derive(Debug, Clone, Default)]
pub(super) struct Subscription {
    /// Whether the participant wants it.
    pub(super) wanted: bool,
    /// Whether it is being forwarded.
    pub(super) active: bool,
    /// How the participant wants it, if it said so.
    pub(super) settings: Option<proto::UpdateTrackSettings>,
}

impl Room {
    /// A track appeared: whoever is subscribed to everything gets it.
    pub(super) fn subscribe_everyone(&mut self, publisher: ParticipantKey, track_sid: &str) {
        let receivers: Vec<ParticipantKey> = self
            .participants
            .keys()
            .copied()
            .filter(|key| *key != publisher)
            .collect();
        for receiver in receivers {
            self.reconcile(receiver, track_sid);
        }
    }

    /// A participant's connections can take subscriptions from now on: it gets what is there.
    pub fn media_ready(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut participant.media_ready, true) {
            return;
        }
        let tracks: Vec<String> = self
            .participants
            .values()
            .filter(|participant| participant.key != key)
            .flat_map(|participant| participant.tracks.iter())
            .filter(|track| track.published)
            .map(|track| track.info.sid.clone())
            .collect();
        for sid in tracks {
            self.reconcile(key, &sid);
        }
    }

    /// Makes what is forwarded agree with what is wanted and allowed.
    fn reconcile(&mut self, subscriber: ParticipantKey, track_sid: &str) {
        let Some(publisher) = self.publishers.get(track_sid).copied() else {
            return;
        };
        let Some(participant) = self.participants.get(&subscriber) else {
            return;
        };
        let wanted = participant
            .subscriptions
            .get(track_sid)
            .map_or(participant.auto_subscribe, |known| known.wanted);
        let allowed = participant.grants.may_subscribe()
            && participant.media_ready
            && self
                .participants
                .get(&publisher)
                .is_some_and(|publisher| publisher.permits(participant, track_sid));
        let limit = self.limits.subscriptions_per_participant;
        let room_left = participant.subscriptions.len() < limit
            || participant.subscriptions.contains_key(track_sid);
        let active = wanted && allowed && room_left && publisher != subscriber;
        let Some(participant) = self.participants.get_mut(&subscriber) else {
            return;
        };
        if active == participant.is_subscribed(track_sid) {
            return;
        }
        let subscription = participant
            .subscriptions
            .entry(track_sid.to_owned())
            .or_insert_with(|| Subscription {
                wanted,
                ..Subscription::default()
            });
        subscription.active = active;
        let settings = subscription.settings.clone();
        let track_sid = track_sid.to_owned();
        if active {
            let command = MediaCommand::Subscribe {
                subscriber,
                track_sid: track_sid.clone(),
            };
            self.effects.push_back(Effect::Media(command));
            if let Some(settings) = settings {
                self.effects
                    .push_back(Effect::Media(MediaCommand::Settings {
                        subscriber,
                        settings,
                    }));
            }
            self.tell_first_subscriber(publisher, &track_sid);
        } else {
            self.effects
                .push_back(Effect::Media(MediaCommand::Unsubscribe {
                    subscriber,
                    track_sid,
                }));
        }
    }

    /// What `UpdateSubscription` asks, for the participant itself or by its application's server.
    pub(super) fn update_subscription(
        &mut self,
        key: ParticipantKey,
        sids: impl IntoIterator<Item = String>,
        subscribe: bool,
    ) {
        let limit = self.limits.subscriptions_per_participant;
        for sid in sids {
            let Some(participant) = self.participants.get_mut(&key) else {
                return;
            };
            let known = participant.subscriptions.len();
            match participant.subscriptions.get_mut(&sid) {
                Some(subscription) => subscription.wanted = subscribe,
                // A wish for a track that is not there yet is kept: it may be on its way.
                None if known < limit => {
                    let subscription = Subscription {
                        wanted: subscribe,
                        ..Subscription::default()
                    };
                    participant.subscriptions.insert(sid.clone(), subscription);
                }
                None => {}
            }
            let refused = subscribe && !participant.grants.may_subscribe();
            if subscribe && (refused || !self.publishers.contains_key(&sid)) {
                let err = proto::SubscriptionError::SeTrackNotfound.into();
                let response = proto::SubscriptionResponse {
                    track_sid: sid.clone(),
                    err,
                };
                self.send(key, Message::SubscriptionResponse(response));
            }
            self.reconcile(key, &sid);
        }
    }

    /// How a participant said that it wants a track, if it did.
    pub fn settings_of(
        &self,
        subscriber: ParticipantKey,
        track_sid: &str,
    ) -> Option<&proto::UpdateTrackSettings> {
        let participant = self.participants.get(&subscriber)?;
        participant.subscriptions.get(track_sid)?.settings.as_ref()
    }

    pub(super) fn update_track_settings(
        &mut self,
        key: ParticipantKey,
        settings: &proto::UpdateTrackSettings,
    ) {
        let limit = self.limits.subscriptions_per_participant;
        for sid in settings.track_sids.iter().take(limit) {
            let Some(participant) = self.participants.get_mut(&key) else {
                return;
            };
            let auto_subscribe = participant.auto_subscribe;
            let known = participant.subscriptions.len();
            let one = proto::UpdateTrackSettings {
                track_sids: vec![sid.clone()],
                ..settings.clone()
            };
            match participant.subscriptions.get_mut(sid) {
                Some(subscription) => {
                    subscription.settings = Some(one.clone());
                    if subscription.active {
                        let command = MediaCommand::Settings {
                            subscriber: key,
                            settings: one,
                        };
                        self.effects.push_back(Effect::Media(command));
                    }
                }
                None if known < limit => {
                    let subscription = Subscription {
                        wanted: auto_subscribe,
                        active: false,
                        settings: Some(one),
                    };
                    participant.subscriptions.insert(sid.clone(), subscription);
                }
                None => {}
            }
        }
    }

    /// A publisher says who may subscribe to its tracks.
    pub(super) fn set_subscription_permission(
        &mut self,
        key: ParticipantKey,
        permission: proto::SubscriptionPermission,
    ) {
        let Some(publisher) = self.participants.get_mut(&key) else {
            return;
        };
        let limit = self.limits.subscriptions_per_participant;
        let mut permissions = permission.track_permissions;
        permissions.truncate(limit);
        publisher.permissions = (!permission.all_participants).then_some(permissions);
        let publisher_sid = publisher.sid.clone();
        let tracks: Vec<String> = publisher
            .tracks
            .iter()
            .filter(|track| track.published)
            .map(|track| track.info.sid.clone())
            .collect();
        let receivers: Vec<ParticipantKey> = self
            .participants
            .keys()
            .copied()
            .filter(|other| *other != key)
            .collect();
        for receiver in receivers {
            for sid in &tracks {
                let before = self.participants[&receiver].is_subscribed(sid);
                self.reconcile(receiver, sid);
                let allowed = self.participants[&key].permits(&self.participants[&receiver], sid);
                if before != self.participants[&receiver].is_subscribed(sid) || (before && !allowed)
                {
                    let update = proto::SubscriptionPermissionUpdate {
                        participant_sid: publisher_sid.clone(),
                        track_sid: sid.clone(),
                        allowed,
                    };
                    self.send(receiver, Message::SubscriptionPermissionUpdate(update));
                }
            }
        }
    }

    /// A participant's permission to subscribe changed.
    pub(super) fn reconcile_all(&mut self, key: ParticipantKey) {
        let sids: Vec<String> = self.publishers.keys().cloned().collect();
        for sid in sids {
            self.reconcile(key, &sid);
        }
    }

    /// The media plane says that a subscription was paused for lack of bandwidth, or goes on.
    pub fn stream_state(&mut self, subscriber: ParticipantKey, track_sid: &str, paused: bool) {
        let Some((publisher, _)) = self.track(track_sid) else {
            return;
        };
        let state = if paused {
            proto::StreamState::Paused
        } else {
            proto::StreamState::Active
        };
        let info = proto::StreamStateInfo {
            participant_sid: publisher.sid.clone(),
            track_sid: track_sid.to_owned(),
            state: state.into(),
        };
        let update = proto::StreamStateUpdate {
            stream_states: vec![info],
        };
        self.send(subscriber, Message::StreamStateUpdate(update));
    }

    /// The media plane says which layers of a track somebody wants: the publisher stops sending the others.
    pub fn wanted_layers(&mut self, track_sid: &str, codecs: Vec<(String, [bool; 3])>) {
        let Some((publisher, track)) = self.track(track_sid) else {
            return;
        };
        if track.track_type() != TrackType::Video {
            return;
        }
        let publisher = publisher.key;
        let qualities = |wanted: [bool; 3]| {
            let each = [
                proto::VideoQuality::Low,
                proto::VideoQuality::Medium,
                proto::VideoQuality::High,
            ];
            let quality =
                |(quality, enabled): (proto::VideoQuality, bool)| proto::SubscribedQuality {
                    quality: quality.into(),
                    enabled,
                };
            each.into_iter()
                .zip(wanted)
                .map(quality)
                .collect::<Vec<_>>()
        };
        let subscribed_codecs: Vec<_> = codecs
            .into_iter()
            .map(|(codec, wanted)| proto::SubscribedCodec {
                codec,
                qualities: qualities(wanted),
            })
            .collect();
        #[allow(deprecated)]
        let update = proto::SubscribedQualityUpdate {
            track_sid: track_sid.to_owned(),
            subscribed_qualities: subscribed_codecs
                .first()
                .map(|codec| codec.qualities.clone())
                .unwrap_or_default(),
            subscribed_codecs,
        };
        self.send(publisher, Message::SubscribedQualityUpdate(update));
    }

    /// Who speaks, as the media plane hears it: those whose state changed.
    pub fn speakers(&mut self, speakers: &[(ParticipantKey, f32, bool)]) {
        let speakers: Vec<_> = speakers
            .iter()
            .filter_map(|(key, level, active)| {
                let participant = self
                    .participants
                    .get(key)
                    .filter(|participant| !participant.grants.hidden)?;
                Some(proto::SpeakerInfo {
                    sid: participant.sid.clone(),
                    level: *level,
                    active: *active,
                })
            })
            .collect();
        if !speakers.is_empty() {
            self.send_to_all(Message::SpeakersChanged(proto::SpeakersChanged {
                speakers,
            }));
        }
    }

    /// How well participants are connected: those whose quality changed.
    pub fn connection_quality(
        &mut self,
        qualities: &[(ParticipantKey, proto::ConnectionQuality, f32)],
    ) {
        let updates: Vec<_> = qualities
            .iter()
            .filter_map(|(key, quality, score)| {
                let participant = self.participants.get(key)?;
                Some(proto::ConnectionQualityInfo {
                    participant_sid: participant.sid.clone(),
                    quality: (*quality).into(),
                    score: *score,
                })
            })
            .collect();
        if !updates.is_empty() {
            self.send_to_all(Message::ConnectionQuality(proto::ConnectionQualityUpdate {
                updates,
            }));
        }
    }

    /// A client that resumes says what it had.
    pub(super) fn sync_state(&mut self, key: ParticipantKey, state: proto::SyncState, now: Now) {
        let disabled = state.track_sids_disabled;
        if !disabled.is_empty() {
            let settings = proto::UpdateTrackSettings {
                track_sids: disabled,
                disabled: true,
                ..Default::default()
            };
            self.update_track_settings(key, &settings);
        }
        if let Some(subscription) = state.subscription {
            // With automatic subscription these are the exceptions, without it the rule; `subscribe` says which.
            let sids = subscription.track_sids.into_iter().chain(
                subscription
                    .participant_tracks
                    .into_iter()
                    .flat_map(|tracks| tracks.track_sids),
            );
            self.update_subscription(key, sids, subscription.subscribe);
        }
        self.replay_to(key, &state.datachannel_receive_states, now);
    }
}
