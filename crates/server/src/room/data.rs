//! Data: packets between participants, their replay to whoever resumes, data tracks, and blobs.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use livekit_protocol as proto;
use prost::Message as _;
use proto::{data_packet, participant_info::State, request_response, signal_response::Message};

use super::{DataKind, Effect, MediaCommand, Now, Participant, ParticipantKey, Room};
use crate::ids::{IdKind, new_id};

/// Where the handle stands in the header of a data track's packet, which has 12 bytes.
const HANDLE: std::ops::Range<usize> = 2..4;
const DATA_TRACK_HEADER: usize = 12;

/// Blobs that one participant may store, and the bytes of one.
const MAX_BLOBS: usize = 32;
const MAX_BLOB_BYTES: usize = 50 * 1024;

/// The longest name of a data track, in bytes.
const MAX_DATA_TRACK_NAME: usize = 256;

/// Reliable messages of the recent past, for participants that resume: their data channel may have
/// lost what was on its way.
#[derive(Debug)]
pub(super) struct Replay {
    messages: VecDeque<Replayed>,
    bytes: usize,
    max_bytes: usize,
    max_age: Duration,
}

#[derive(Debug)]
struct Replayed {
    at: Instant,
    sender_sid: String,
    sequence: u32,
    receivers: BTreeSet<ParticipantKey>,
    packet: Bytes,
}

impl Replay {
    pub(super) fn new(max_bytes: usize, max_age: Duration) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            max_bytes,
            max_age,
        }
    }

    fn push(&mut self, message: Replayed) {
        self.bytes += message.packet.len();
        let now = message.at;
        self.messages.push_back(message);
        self.expire(now);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.messages.front() {
            if self.bytes <= self.max_bytes && oldest.at + self.max_age > now {
                break;
            }
            self.bytes -= oldest.packet.len();
            self.messages.pop_front();
        }
    }
}

/// A data track within the room.
#[derive(Debug)]
pub(super) struct DataRoute {
    publisher: ParticipantKey,
    pub_handle: u32,
    sid: String,
}

impl Room {
    /// A message came on one of a participant's data channels.
    pub fn data(&mut self, key: ParticipantKey, kind: DataKind, bytes: &[u8], now: Now) {
        let Some(sender) = self.participants.get_mut(&key) else {
            return;
        };
        if !sender.grants.may_publish_data() || bytes.len() > self.limits.data_bytes {
            return;
        }
        if kind == DataKind::DataTrack {
            self.forward_data_track(key, bytes);
            return;
        }
        let Ok(mut packet) = proto::DataPacket::decode(bytes) else {
            return;
        };
        // Only the server says who speaks.
        #[allow(deprecated)]
        if matches!(packet.value, None | Some(data_packet::Value::Speaker(_))) {
            return;
        }
        if kind == DataKind::Reliable && packet.sequence > 0 {
            // A client that resumed sends again what may have been lost.
            if packet.sequence <= sender.last_sequence {
                return;
            }
            sender.last_sequence = packet.sequence;
        }
        let (sid, identity) = (sender.sid.clone(), sender.identity.clone());
        if packet
            .value
            .as_ref()
            .is_some_and(|value| self.take_rpc(value))
        {
            return;
        }
        packet.participant_sid.clone_from(&sid);
        packet.participant_identity.clone_from(&identity);
        let mut sids = Vec::new();
        #[allow(deprecated)]
        if let Some(data_packet::Value::User(user)) = &mut packet.value {
            user.participant_sid.clone_from(&sid);
            user.participant_identity.clone_from(&identity);
            if packet.destination_identities.is_empty() {
                packet
                    .destination_identities
                    .clone_from(&user.destination_identities);
            }
            user.destination_identities
                .clone_from(&packet.destination_identities);
            sids.clone_from(&user.destination_sids);
        }
        self.route(Some(key), kind, packet, &sids, now);
    }

    /// Sends a packet to those it is for: the named identities and sids, or everyone but its sender.
    pub(super) fn route(
        &mut self,
        sender: Option<ParticipantKey>,
        kind: DataKind,
        mut packet: proto::DataPacket,
        sids: &[String],
        now: Now,
    ) {
        #[allow(deprecated)]
        {
            packet.kind = match kind {
                DataKind::Reliable => data_packet::Kind::Reliable.into(),
                _ => data_packet::Kind::Lossy.into(),
            };
        }
        let everyone = packet.destination_identities.is_empty() && sids.is_empty();
        let metrics = matches!(packet.value, Some(data_packet::Value::Metrics(_)));
        let is_meant = |participant: &Participant| {
            Some(participant.key) != sender
                && (everyone
                    || packet
                        .destination_identities
                        .contains(&participant.identity)
                    || sids.contains(&participant.sid))
                && (!metrics || participant.grants.can_subscribe_metrics.unwrap_or(false))
        };
        let receivers: BTreeSet<ParticipantKey> = if everyone {
            self.participants
                .values()
                .filter(|participant| is_meant(participant))
                .map(|p| p.key)
                .collect()
        } else {
            let named = packet
                .destination_identities
                .iter()
                .filter_map(|identity| self.identities.get(identity));
            let named = named.chain(sids.iter().filter_map(|sid| self.sids.get(sid)));
            named
                .copied()
                .filter(|key| is_meant(&self.participants[key]))
                .collect()
        };
        if receivers.is_empty() {
            return;
        }
        let encoded = Bytes::from(packet.encode_to_vec());
        for to in &receivers {
            if self.participants[to].state == State::Active {
                let packet = encoded.clone();
                self.effects.push_back(Effect::Media(MediaCommand::Data {
                    to: *to,
                    kind,
                    packet,
                }));
            }
        }
        if kind == DataKind::Reliable && packet.sequence > 0 {
            self.replay.push(Replayed {
                at: now.instant,
                sender_sid: packet.participant_sid,
                sequence: packet.sequence,
                receivers,
                packet: encoded,
            });
        }
    }

    /// Sends again what a participant may have missed: per sender, everything after the last message
    /// that it received.
    pub(super) fn replay_to(
        &mut self,
        key: ParticipantKey,
        received: &[proto::DataChannelReceiveState],
        now: Now,
    ) {
        self.replay.expire(now.instant);
        let last = |sid: &str| {
            received
                .iter()
                .find(|state| state.publisher_sid == sid)
                .map_or(0, |state| state.last_seq)
        };
        for message in &self.replay.messages {
            if message.receivers.contains(&key) && message.sequence > last(&message.sender_sid) {
                let packet = message.packet.clone();
                let command = MediaCommand::Data {
                    to: key,
                    kind: DataKind::Reliable,
                    packet,
                };
                self.effects.push_back(Effect::Media(command));
            }
        }
    }

    pub(super) fn publish_data_track(
        &mut self,
        key: ParticipantKey,
        request: proto::PublishDataTrackRequest,
        now: Now,
    ) {
        use request_response::Reason;
        let limit = self.limits.tracks_per_participant;
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let known = &participant.data_tracks;
        let refused = if !participant.grants.may_publish_data() {
            Some((
                Reason::NotAllowed,
                "does not have permission to publish data",
            ))
        } else if known.len() >= limit {
            Some((Reason::LimitExceeded, "too many data tracks"))
        } else if u16::try_from(request.pub_handle).map_or(true, |handle| handle == 0) {
            Some((Reason::InvalidHandle, "handle must be between 1 and 65535"))
        } else if request.name.is_empty() || request.name.len() > MAX_DATA_TRACK_NAME {
            Some((
                Reason::InvalidName,
                "name must have between 1 and 256 characters",
            ))
        } else if known
            .iter()
            .any(|track| track.pub_handle == request.pub_handle)
        {
            Some((Reason::DuplicateHandle, "handle is in use"))
        } else if known.iter().any(|track| track.name == request.name) {
            Some((Reason::DuplicateName, "name is in use"))
        } else {
            None
        };
        let free = (1..=u16::MAX).find(|handle| !self.data_routes.contains_key(handle));
        let (None, Some(handle)) = (refused, free) else {
            let (reason, text) = refused.unwrap_or((Reason::LimitExceeded, "too many data tracks"));
            let request = Some(request_response::Request::PublishDataTrack(request));
            self.respond(key, 0, reason, text, request);
            return;
        };
        let info = proto::DataTrackInfo {
            pub_handle: request.pub_handle,
            sid: new_id(IdKind::DataTrack),
            name: request.name,
            encryption: request.encryption,
            frame_encoding: request.frame_encoding,
            schema: request.schema,
        };
        participant.data_tracks.push(info.clone());
        participant.version += 1;
        let route = DataRoute {
            publisher: key,
            pub_handle: info.pub_handle,
            sid: info.sid.clone(),
        };
        self.data_routes.insert(handle, route);
        self.send(
            key,
            Message::PublishDataTrackResponse(proto::PublishDataTrackResponse { info: Some(info) }),
        );
        self.mark(key, false, now);
        self.flush();
    }

    pub(super) fn unpublish_data_track(&mut self, key: ParticipantKey, pub_handle: u32, now: Now) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(index) = participant
            .data_tracks
            .iter()
            .position(|track| track.pub_handle == pub_handle)
        else {
            let request = proto::UnpublishDataTrackRequest { pub_handle };
            let request = Some(request_response::Request::UnpublishDataTrack(request));
            self.respond(
                key,
                0,
                request_response::Reason::NotFound,
                "no such data track",
                request,
            );
            return;
        };
        let info = participant.data_tracks.remove(index);
        participant.version += 1;
        self.data_routes.retain(|_, route| route.sid != info.sid);
        self.send(
            key,
            Message::UnpublishDataTrackResponse(proto::UnpublishDataTrackResponse {
                info: Some(info),
            }),
        );
        self.mark(key, false, now);
    }

    pub(super) fn forget_data_tracks(&mut self, key: ParticipantKey) {
        self.data_routes.retain(|_, route| route.publisher != key);
    }

    /// Who receives which data track: the handles in the packets that a subscriber gets are the room's.
    pub(super) fn update_data_subscription(
        &mut self,
        key: ParticipantKey,
        update: proto::UpdateDataSubscription,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let limit = self.limits.subscriptions_per_participant;
        if !participant.grants.may_subscribe() {
            return;
        }
        for update in update.updates {
            if !update.subscribe {
                participant.data_subscriptions.remove(&update.track_sid);
            } else if participant.data_subscriptions.len() < limit {
                participant.data_subscriptions.insert(update.track_sid);
            }
        }
        let wanted = &self.participants[&key].data_subscriptions;
        let sub_handles = self
            .data_routes
            .iter()
            .filter(|(_, route)| wanted.contains(&route.sid))
            .filter_map(|(handle, route)| {
                let publisher = self.participants.get(&route.publisher)?;
                let track = proto::data_track_subscriber_handles::PublishedDataTrack {
                    publisher_identity: publisher.identity.clone(),
                    publisher_sid: publisher.sid.clone(),
                    track_sid: route.sid.clone(),
                };
                Some((u32::from(*handle), track))
            })
            .collect();
        let handles = proto::DataTrackSubscriberHandles { sub_handles };
        self.send(key, Message::DataTrackSubscriberHandles(handles));
    }

    fn forward_data_track(&mut self, key: ParticipantKey, bytes: &[u8]) {
        if bytes.len() < DATA_TRACK_HEADER {
            return;
        }
        let handle = u32::from(u16::from_be_bytes([
            bytes[HANDLE.start],
            bytes[HANDLE.start + 1],
        ]));
        let route = self
            .data_routes
            .iter()
            .find(|(_, route)| route.publisher == key && route.pub_handle == handle);
        let Some((handle, route)) = route else { return };
        let mut packet = BytesMut::from(bytes);
        packet[HANDLE].copy_from_slice(&handle.to_be_bytes());
        let packet = packet.freeze();
        for participant in self.participants.values() {
            if participant.data_subscriptions.contains(&route.sid)
                && participant.state == State::Active
            {
                let command = MediaCommand::Data {
                    to: participant.key,
                    kind: DataKind::DataTrack,
                    packet: packet.clone(),
                };
                self.effects.push_back(Effect::Media(command));
            }
        }
    }

    pub(super) fn store_blob(&mut self, key: ParticipantKey, request: proto::StoreDataBlobRequest) {
        use request_response::Reason;
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let request_id = request.request_id;
        let blob = request.blob.filter(|blob| blob.key.is_some());
        let refused = match &blob {
            _ if !participant.grants.may_publish_data() => {
                Some((Reason::NotAllowed, "may not publish data"))
            }
            None => Some((Reason::InvalidRequest, "a blob needs a key")),
            Some(blob) if blob.contents.len() > MAX_BLOB_BYTES => {
                Some((Reason::LimitExceeded, "blob is too large"))
            }
            Some(_) if participant.blobs.len() >= MAX_BLOBS => {
                Some((Reason::LimitExceeded, "too many blobs"))
            }
            Some(_) => None,
        };
        if let Some((reason, text)) = refused {
            self.respond(key, request_id, reason, text, None);
            return;
        }
        let Some(blob) = blob else { return };
        let blob_key = blob.key.clone();
        participant.blobs.retain(|known| known.key != blob_key);
        participant.blobs.push(blob);
        self.send(
            key,
            Message::StoreDataBlobResponse(proto::StoreDataBlobResponse {
                request_id,
                key: blob_key,
            }),
        );
    }

    pub(super) fn get_blob(&mut self, key: ParticipantKey, request: &proto::GetDataBlobRequest) {
        let owner = self.by_identity(&request.participant_identity);
        let blob = owner
            .and_then(|owner| owner.blobs.iter().find(|blob| blob.key == request.key))
            .cloned();
        let request_id = request.request_id;
        match blob {
            Some(blob) => self.send(
                key,
                Message::GetDataBlobResponse(proto::GetDataBlobResponse {
                    request_id,
                    blob: Some(blob),
                }),
            ),
            None => self.respond(
                key,
                request_id,
                request_response::Reason::NotFound,
                "no such blob",
                None,
            ),
        }
    }
}
