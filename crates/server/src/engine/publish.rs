//! What clients send becomes tracks of the media plane.

use livekit_protocol as proto;
use proto::TrackType;
use visavis_sfu::{ConnectionId, Kind, LayerSize, PublishOptions, Section};

use super::Actor;
use crate::room::{Now, ParticipantKey};

impl Actor {
    /// Makes tracks of the sections that a client sends on, and ends those that it sends on no more.
    pub(super) async fn sections_changed(
        &mut self,
        key: ParticipantKey,
        sections: &[Section],
        now: Now,
    ) {
        let Some(peer) = self
            .links
            .get(&key)
            .and_then(|link| link.publisher.as_ref())
        else {
            return;
        };
        let connection = peer.connection;
        let published = peer.published.clone();
        for (mid, (track_sid, client_id)) in &published {
            let still = sections.iter().any(|section| {
                section.mid == *mid && section.receives && section.track == *client_id
            });
            if !still {
                self.forget_section(key, mid);
                // Another codec of the track may go on.
                if !self.is_published(key, track_sid) {
                    self.room.track_ended(track_sid, now);
                    Box::pin(self.carry_out(now)).await;
                }
            }
        }
        for section in sections.iter().filter(|section| section.receives) {
            if published
                .get(&section.mid)
                .is_some_and(|(_, client_id)| section.track == *client_id)
            {
                continue;
            }
            self.publish(key, connection, section, now).await;
        }
    }

    fn forget_section(&mut self, key: ParticipantKey, mid: &str) {
        if let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.publisher.as_mut())
        {
            peer.published.remove(mid);
        }
    }

    fn is_published(&self, key: ParticipantKey, track_sid: &str) -> bool {
        let peer = self
            .links
            .get(&key)
            .and_then(|link| link.publisher.as_ref());
        peer.is_some_and(|peer| peer.published.values().any(|(sid, _)| sid == track_sid))
    }

    async fn publish(
        &mut self,
        key: ParticipantKey,
        connection: ConnectionId,
        section: &Section,
        now: Now,
    ) {
        let kind = match section.kind {
            Kind::Audio => TrackType::Audio,
            Kind::Video => TrackType::Video,
        };
        let Some(publication) = self
            .room
            .match_section(key, kind, &section.track, &section.mid)
        else {
            self.note_of(
                key,
                format!("sends on section {} what it has not announced", section.mid),
            );
            return;
        };
        let Some((info, codec)) = self.room.participant(key).and_then(|participant| {
            let info = participant.track(&publication.track_sid)?.info.clone();
            let codec = info.codecs.get(publication.codec_index)?.clone();
            Some((info, codec))
        }) else {
            return;
        };
        let options = PublishOptions {
            source: source(info.source),
            layers: layers(&codec.layers, info.width, info.height),
            rids: section.rids.clone(),
            muted: info.muted,
        };
        let sfu = self.shared.media.sfu().clone();
        let mid = section.mid.clone();
        let outcome = match self.tracks.get(&publication.track_sid) {
            Some(track) if publication.additional => sfu
                .publish_codec(*track, connection, mid, options)
                .await
                .map(|()| *track),
            _ => sfu.publish(connection, mid, options).await,
        };
        match outcome {
            Ok(track) => {
                self.tracks.insert(publication.track_sid.clone(), track);
                self.track_sids.insert(track, publication.track_sid.clone());
                self.shared.rooms.add_track(track, self.id);
                if let Some(peer) = self
                    .links
                    .get_mut(&key)
                    .and_then(|link| link.publisher.as_mut())
                {
                    let known = (publication.track_sid.clone(), section.track.clone());
                    peer.published.insert(section.mid.clone(), known);
                }
                let mime = match (codec.mime_type.as_str(), section.codecs.first()) {
                    ("", Some(name)) => format!("video/{}", name.to_ascii_uppercase()),
                    _ => String::new(),
                };
                self.room.track_negotiated(
                    key,
                    &publication,
                    &section.mid,
                    &section.track,
                    &mime,
                    now,
                );
                if !publication.additional {
                    self.record_track(&publication.track_sid).await;
                }
            }
            Err(error) => self.note_of(
                key,
                format!("cannot publish on section {}: {error}", section.mid),
            ),
        }
    }
}

fn source(source: i32) -> visavis_sfu::Source {
    use proto::TrackSource;
    use visavis_sfu::Source;
    match TrackSource::try_from(source) {
        Ok(TrackSource::Camera) => Source::Camera,
        Ok(TrackSource::Microphone) => Source::Microphone,
        Ok(TrackSource::ScreenShare) => Source::ScreenShare,
        Ok(TrackSource::ScreenShareAudio) => Source::ScreenShareAudio,
        Ok(TrackSource::Unknown) | Err(_) => Source::Unknown,
    }
}

fn layers(layers: &[proto::VideoLayer], width: u32, height: u32) -> Vec<LayerSize> {
    if layers.is_empty() && width > 0 {
        return vec![LayerSize {
            width,
            height,
            bitrate: 0,
        }];
    }
    let size = |layer: &proto::VideoLayer| LayerSize {
        width: layer.width,
        height: layer.height,
        bitrate: layer.bitrate.into(),
    };
    layers.iter().map(size).collect()
}
