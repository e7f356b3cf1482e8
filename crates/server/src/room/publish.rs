//! Publishing: what a client announces, what arrives for it, mute and unpublish.

use livekit_protocol as proto;
use proto::{TrackSource, TrackType, request_response, signal_response::Message, video_layer};

use super::{Effect, MediaCommand, Now, Participant, ParticipantKey, Room};
use crate::ids::{IdKind, new_id};

/// A track of a participant: announced, then published when its media section is negotiated.
#[derive(Debug, Clone)]
pub struct Track {
    /// The track as clients see it.
    pub info: proto::TrackInfo,
    /// Whether its media was negotiated, so that others see it.
    pub published: bool,
    /// Whether the publisher was told of its first subscriber.
    subscribed_once: bool,
}

impl Track {
    /// Whether the media section with these ids of a remote track carries this track: a client matches
    /// them by the id that it announced, for the track or for one of its codecs.
    fn has_cid(&self, cid: &str) -> bool {
        !cid.is_empty()
            && self
                .info
                .codecs
                .iter()
                .any(|codec| codec.cid == cid || codec.sdp_cid == cid)
    }

    /// What the track is.
    pub fn track_type(&self) -> TrackType {
        TrackType::try_from(self.info.r#type).unwrap_or(TrackType::Audio)
    }
}

/// A media section of a client that carries one of its announced tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The track.
    pub track_sid: String,
    /// Which of the track's codecs the section carries.
    pub codec_index: usize,
    /// Whether the track was published already, with another codec.
    pub additional: bool,
}

/// The names by which clients call a codec, as a MIME type.
fn mime_type(kind: TrackType, codec: &str) -> String {
    match codec.to_ascii_lowercase().as_str() {
        "" if kind == TrackType::Audio => "audio/opus".into(),
        "" => String::new(),
        "opus" => "audio/opus".into(),
        "red" => "audio/red".into(),
        "vp8" | "vp9" | "h264" | "av1" | "h265" => format!("video/{}", codec.to_ascii_uppercase()),
        other if other.contains('/') => codec.into(),
        other if kind == TrackType::Audio => format!("audio/{other}"),
        other => format!("video/{other}"),
    }
}

impl Room {
    pub(super) fn add_track(
        &mut self,
        key: ParticipantKey,
        request: proto::AddTrackRequest,
        now: Now,
    ) {
        let limit = self.limits.tracks_per_participant;
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
        let refused = if !participant.grants.may_publish_source(source) {
            Some((
                request_response::Reason::NotAllowed,
                "does not have permission to publish",
            ))
        } else if participant.tracks.len() >= limit && request.sid.is_empty() {
            Some((request_response::Reason::LimitExceeded, "too many tracks"))
        } else {
            None
        };
        if let Some((reason, text)) = refused {
            let identity = participant.identity.clone();
            self.note(Some(&identity), &format!("was refused a track: {text}"));
            let request = Some(request_response::Request::AddTrack(request));
            self.respond(key, 0, reason, text, request);
            return;
        }

        // A codec is added to a track that exists.
        if !request.sid.is_empty() {
            let Some(track) = participant.track_mut(&request.sid) else {
                return;
            };
            for codec in &request.simulcast_codecs {
                let mime = mime_type(track.track_type(), &codec.codec);
                match track
                    .info
                    .codecs
                    .iter_mut()
                    .find(|known| known.mime_type == mime)
                {
                    Some(known) => known.cid.clone_from(&codec.cid),
                    None => {
                        let added = codec_info(TrackType::Video, codec, &request.layers);
                        track.info.codecs.push(added);
                    }
                }
            }
            let response = proto::TrackPublishedResponse {
                cid: request.cid,
                track: Some(track.info.clone()),
            };
            participant.version += 1;
            self.send(key, Message::TrackPublished(response));
            self.mark(key, false, now);
            return;
        }

        // A client that resumed announces again what it has announced.
        if let Some(known) = participant
            .tracks
            .iter()
            .find(|track| track.has_cid(&request.cid))
        {
            let response = proto::TrackPublishedResponse {
                cid: request.cid,
                track: Some(known.info.clone()),
            };
            self.send(key, Message::TrackPublished(response));
            return;
        }

        let info = track_info(&request, now);
        let response = proto::TrackPublishedResponse {
            cid: request.cid,
            track: Some(info.clone()),
        };
        participant.tracks.push(Track {
            info,
            published: false,
            subscribed_once: false,
        });
        self.send(key, Message::TrackPublished(response));
    }

    /// The announced track that a media section of a client carries: `track_id` is the id of its remote
    /// track (`a=msid`, second word), `codec` the MIME type that was negotiated, if that is known.
    pub fn match_section(
        &self,
        key: ParticipantKey,
        kind: TrackType,
        track_id: &str,
        mid: &str,
    ) -> Option<Publication> {
        let participant = self.participants.get(&key)?;
        // Some clients send no id (GStreamer): an empty one is nobody's.
        let named = |codec: &proto::SimulcastCodecInfo| {
            !track_id.is_empty() && (codec.cid == track_id || codec.sdp_cid == track_id)
        };
        let mut of_kind = participant
            .tracks
            .iter()
            .filter(|track| track.track_type() == kind);
        let by_id =
            of_kind.find_map(|track| Some((track, track.info.codecs.iter().position(named)?)));
        // Some clients change the id when they clone a track: then the first of its kind that waits for media is meant.
        let waits = |track: &&Track| !track.published && track.track_type() == kind;
        let (track, codec_index) =
            by_id.or_else(|| Some((participant.tracks.iter().find(waits)?, 0)))?;
        let known = track
            .info
            .codecs
            .get(codec_index)
            .is_some_and(|codec| codec.mid == mid);
        (!known).then(|| Publication {
            track_sid: track.info.sid.clone(),
            codec_index,
            additional: track.published,
        })
    }

    /// The codec of a track whose publisher had not named it.
    pub fn codec_known(&mut self, key: ParticipantKey, mid: &str, codec: &str, now: Now) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let mut tracks = participant.tracks.iter_mut();
        let Some(track) =
            tracks.find(|track| track.info.mid == mid && track.info.mime_type.is_empty())
        else {
            return;
        };
        let mime = mime_type(track.track_type(), codec);
        for known in &mut track.info.codecs {
            known.mime_type.clone_from(&mime);
        }
        track.info.mime_type = mime;
        participant.version += 1;
        self.mark(key, false, now);
    }

    /// The media of an announced track was negotiated: others see it from now on.
    pub fn track_negotiated(
        &mut self,
        key: ParticipantKey,
        publication: &Publication,
        mid: &str,
        sdp_cid: &str,
        mime: &str,
        now: Now,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(track) = participant.track_mut(&publication.track_sid) else {
            return;
        };
        if let Some(codec) = track.info.codecs.get_mut(publication.codec_index) {
            mid.clone_into(&mut codec.mid);
            if codec.cid != sdp_cid {
                sdp_cid.clone_into(&mut codec.sdp_cid);
            }
            if !mime.is_empty() {
                mime.clone_into(&mut codec.mime_type);
            }
        }
        if !publication.additional {
            mid.clone_into(&mut track.info.mid);
            if !mime.is_empty() {
                mime.clone_into(&mut track.info.mime_type);
            }
        }
        let first = !std::mem::replace(&mut track.published, true);
        let info = track.info.clone();
        participant.version += 1;
        if !first {
            self.mark(key, false, now);
            return;
        }
        let publisher = publisher_of_event(participant);
        let identity = participant.identity.clone();
        self.publishers.insert(info.sid.clone(), key);
        self.note(
            Some(&identity),
            &format!("publishes {} ({})", info.sid, info.mime_type),
        );
        let mut event = self.webhook("track_published", now);
        event.participant = Some(publisher);
        event.track = Some(info.clone());
        self.effects.push_back(Effect::Webhook(event));
        if info.muted {
            self.effects.push_back(Effect::Media(MediaCommand::Mute {
                track_sid: info.sid.clone(),
                muted: true,
            }));
        }
        self.room_changed = true;
        self.mark(key, false, now);
        // Receivers learn of the track before its media.
        self.flush();
        self.subscribe_everyone(key, &info.sid);
    }

    /// A media section of a client ended (the track was removed, or its transceiver stopped).
    pub fn track_ended(&mut self, track_sid: &str, now: Now) {
        let Some(key) = self.publishers.get(track_sid).copied() else {
            return;
        };
        self.unpublish(key, track_sid, false, now);
    }

    /// Takes a track of a participant away; `tell`: the publisher has to be told.
    pub(super) fn unpublish(&mut self, key: ParticipantKey, track_sid: &str, tell: bool, now: Now) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(index) = participant
            .tracks
            .iter()
            .position(|track| track.info.sid == track_sid)
        else {
            return;
        };
        let track = participant.tracks.remove(index);
        participant.version += 1;
        let publisher = publisher_of_event(participant);
        if tell {
            let response = proto::TrackUnpublishedResponse {
                track_sid: track_sid.to_owned(),
            };
            self.send(key, Message::TrackUnpublished(response));
        }
        self.forget_track_of(&track, publisher, now);
        self.room_changed = true;
        self.mark(key, tell, now);
    }

    pub(super) fn forget_track(&mut self, track: &Track, participant: &Participant, now: Now) {
        self.forget_track_of(track, publisher_of_event(participant), now);
    }

    fn forget_track_of(&mut self, track: &Track, publisher: proto::ParticipantInfo, now: Now) {
        let sid = &track.info.sid;
        self.publishers.remove(sid);
        for participant in self.participants.values_mut() {
            participant.subscriptions.remove(sid);
        }
        if !track.published {
            return;
        }
        self.effects
            .push_back(Effect::Media(MediaCommand::Unpublish(sid.clone())));
        let mut event = self.webhook("track_unpublished", now);
        event.participant = Some(publisher);
        event.track = Some(track.info.clone());
        self.effects.push_back(Effect::Webhook(event));
    }

    /// Silences a track, or lets it be heard again; `by_server`: the client has to follow.
    pub(super) fn mute(
        &mut self,
        key: ParticipantKey,
        track_sid: &str,
        muted: bool,
        by_server: bool,
        now: Now,
    ) -> bool {
        let Some(participant) = self.participants.get_mut(&key) else {
            return false;
        };
        let Some(track) = participant.track_mut(track_sid) else {
            return false;
        };
        if track.info.muted != muted {
            track.info.muted = muted;
            let published = track.published;
            participant.version += 1;
            if published {
                let track_sid = track_sid.to_owned();
                self.effects
                    .push_back(Effect::Media(MediaCommand::Mute { track_sid, muted }));
            }
            self.mark(key, by_server, now);
        }
        if by_server {
            let message = Message::Mute(proto::MuteTrackRequest {
                sid: track_sid.to_owned(),
                muted,
            });
            self.send(key, message);
        }
        true
    }

    pub(super) fn update_audio_track(
        &mut self,
        key: ParticipantKey,
        update: proto::UpdateLocalAudioTrack,
        now: Now,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(track) = participant.track_mut(&update.track_sid) else {
            return;
        };
        set_audio_features(&mut track.info, update.features);
        participant.version += 1;
        self.mark(key, false, now);
    }

    pub(super) fn update_video_track(
        &mut self,
        key: ParticipantKey,
        update: &proto::UpdateLocalVideoTrack,
        now: Now,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(track) = participant.track_mut(&update.track_sid) else {
            return;
        };
        track.info.width = update.width;
        track.info.height = update.height;
        participant.version += 1;
        self.mark(key, false, now);
    }

    /// A track has a subscriber: its publisher is told once, clients wait for it.
    pub(super) fn tell_first_subscriber(&mut self, publisher: ParticipantKey, track_sid: &str) {
        let Some(participant) = self.participants.get_mut(&publisher) else {
            return;
        };
        let Some(track) = participant.track_mut(track_sid) else {
            return;
        };
        if !std::mem::replace(&mut track.subscribed_once, true) {
            let message = Message::TrackSubscribed(proto::TrackSubscribed {
                track_sid: track_sid.to_owned(),
            });
            self.send(publisher, message);
        }
    }
}

/// The participant as it appears in track events: who, without what.
fn publisher_of_event(participant: &Participant) -> proto::ParticipantInfo {
    proto::ParticipantInfo {
        sid: participant.sid.clone(),
        identity: participant.identity.clone(),
        ..proto::ParticipantInfo::default()
    }
}

fn codec_info(
    kind: TrackType,
    codec: &proto::SimulcastCodec,
    layers: &[proto::VideoLayer],
) -> proto::SimulcastCodecInfo {
    let mime_type = mime_type(kind, &codec.codec);
    let mut layers = if codec.layers.is_empty() {
        layers.to_vec()
    } else {
        codec.layers.clone()
    };
    let svc = matches!(mime_type.as_str(), "video/VP9" | "video/AV1");
    let mode = match video_layer::Mode::try_from(codec.video_layer_mode) {
        Ok(mode) if mode != video_layer::Mode::Unused => mode,
        _ if kind == TrackType::Audio => video_layer::Mode::Unused,
        _ if svc => video_layer::Mode::MultipleSpatialLayersPerStream,
        _ => video_layer::Mode::OneSpatialLayerPerStream,
    };
    layers.sort_by_key(|layer| (layer.width, layer.quality));
    for (index, layer) in (0..).zip(&mut layers) {
        layer.spatial_layer = index;
        if mode == video_layer::Mode::OneSpatialLayerPerStream && layer.rid.is_empty() {
            layer.rid = ["q", "h", "f"]
                .get(index as usize)
                .copied()
                .unwrap_or_default()
                .to_owned();
        }
    }
    proto::SimulcastCodecInfo {
        mime_type,
        cid: codec.cid.clone(),
        layers,
        video_layer_mode: mode.into(),
        ..proto::SimulcastCodecInfo::default()
    }
}

#[allow(deprecated)]
fn set_audio_features(info: &mut proto::TrackInfo, features: Vec<i32>) {
    info.stereo = features.contains(&proto::AudioTrackFeature::TfStereo.into());
    info.disable_dtx = features.contains(&proto::AudioTrackFeature::TfNoDtx.into());
    info.audio_features = features;
}

#[allow(deprecated)]
fn track_info(request: &proto::AddTrackRequest, now: Now) -> proto::TrackInfo {
    let kind = TrackType::try_from(request.r#type).unwrap_or(TrackType::Audio);
    let id = match kind {
        TrackType::Audio => IdKind::AudioTrack,
        _ => IdKind::VideoTrack,
    };
    let unnamed = proto::SimulcastCodec {
        cid: request.cid.clone(),
        ..proto::SimulcastCodec::default()
    };
    let mut codecs: Vec<_> = request
        .simulcast_codecs
        .iter()
        .filter(|codec| !codec.codec.is_empty() || !codec.cid.is_empty())
        .map(|codec| codec_info(kind, codec, &request.layers))
        .collect();
    if !codecs.iter().any(|codec| codec.cid == request.cid) {
        match codecs.first_mut().filter(|codec| codec.cid.is_empty()) {
            Some(first) => first.cid.clone_from(&request.cid),
            None => codecs.insert(0, codec_info(kind, &unnamed, &request.layers)),
        }
    }
    let mut features = request.audio_features.clone();
    let mut imply = |implied: bool, feature: proto::AudioTrackFeature| {
        if implied && !features.contains(&feature.into()) {
            features.push(feature.into());
        }
    };
    imply(request.stereo, proto::AudioTrackFeature::TfStereo);
    imply(request.disable_dtx, proto::AudioTrackFeature::TfNoDtx);
    let stream = match (
        request.stream.as_str(),
        TrackSource::try_from(request.source),
    ) {
        ("", Ok(TrackSource::Camera | TrackSource::Microphone)) => "camera",
        ("", Ok(TrackSource::ScreenShare | TrackSource::ScreenShareAudio)) => "screen_share",
        (stream, _) => stream,
    };
    let mut info = proto::TrackInfo {
        sid: new_id(id),
        r#type: kind.into(),
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: request.layers.len() > 1,
        source: request.source,
        layers: codecs[0].layers.clone(),
        mime_type: codecs[0].mime_type.clone(),
        codecs,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: stream.to_owned(),
        version: Some(proto::TimedVersion {
            unix_micro: now.unix_millis * 1000,
            ticks: 0,
        }),
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.clone(),
        ..proto::TrackInfo::default()
    };
    set_audio_features(&mut info, features);
    info
}
