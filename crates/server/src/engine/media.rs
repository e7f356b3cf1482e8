//! The room's commands carried out on the media plane, and the media plane's reports told to the room.

use livekit_protocol as proto;
use proto::DisconnectReason;
use visavis_sfu::{ConnectionId, ConnectionState, Event};

use super::{Actor, of_participant_id, subscribe::wish};
use crate::room::{DataKind, MediaCommand, Now};

impl Actor {
    pub(super) async fn command(&mut self, command: MediaCommand, now: Now) {
        match command {
            MediaCommand::Open(key) => self.open(key, now).await,
            MediaCommand::Description { from, description } => {
                self.description(from, description, now).await
            }
            MediaCommand::Candidate { from, trickle } => self.candidate(from, &trickle),
            MediaCommand::Restart(key) => self.restart(key, now).await,
            MediaCommand::Close(key) => self.close(key),
            MediaCommand::Unpublish(sid) => {
                self.wanted_layers.remove(&sid);
                if let Some(track) = self.tracks.remove(&sid) {
                    self.track_sids.remove(&track);
                    self.shared.rooms.remove_track(track);
                    self.subscriptions
                        .retain(|(_, subscribed), _| *subscribed != sid);
                    let _ = self.shared.media.sfu().unpublish(track);
                }
            }
            MediaCommand::Mute { track_sid, muted } => {
                if let Some(track) = self.tracks.get(&track_sid) {
                    let _ = self.shared.media.sfu().set_muted(*track, muted);
                }
            }
            MediaCommand::Subscribe {
                subscriber,
                track_sid,
            } => self.subscribe(subscriber, track_sid).await,
            MediaCommand::Unsubscribe {
                subscriber,
                track_sid,
            } => {
                if let Some(subscription) = self.subscriptions.remove(&(subscriber, track_sid)) {
                    let _ = self.shared.media.sfu().unsubscribe(subscription);
                }
            }
            MediaCommand::Settings {
                subscriber,
                settings,
            } => {
                for sid in &settings.track_sids {
                    if let Some(subscription) = self.subscriptions.get(&(subscriber, sid.clone())) {
                        let _ = self
                            .shared
                            .media
                            .sfu()
                            .set_subscription(*subscription, wish(&settings));
                    }
                }
            }
            MediaCommand::Data { to, kind, packet } => self.send_data(to, kind, packet),
            MediaCommand::LimitBandwidth {
                participant,
                bits_per_second,
            } => {
                let text = match bits_per_second {
                    Some(limit) => format!("asks for a limit of {limit} bit/s"),
                    None => "asks for no bandwidth limit".to_owned(),
                };
                self.note_of(participant, text);
            }
        }
    }

    pub(super) async fn media_event(&mut self, event: Event, now: Now) {
        match event {
            Event::ConnectionState {
                connection, state, ..
            } => self.connection_state(connection, state, now),
            Event::SelectedPair {
                connection,
                local,
                remote,
            } => {
                if let Some(key) = self.connections.get(&connection) {
                    self.note_of(*key, format!("uses the pair {local} / {remote}"));
                }
            }
            Event::Crowded { connection, to } => {
                let Some(key) = self.connections.get(&connection).copied() else {
                    return;
                };
                // One that has ended meanwhile, or goes over TCP, stays.
                if let Ok(()) = self.shared.media.sfu().relocate(connection, to).await {
                    metrics::counter!("visavis_media_relocations_total").increment(1);
                    self.note_of(key, "moved to a worker that has less to do");
                }
            }
            Event::NegotiationNeeded { connection } => {
                let Some(key) = self.connections.get(&connection).copied() else {
                    return;
                };
                let Some(link) = self.links.get_mut(&key) else {
                    return;
                };
                match &link.subscriber {
                    Some(peer) if peer.connection == connection => {
                        let primary = self
                            .room
                            .participant(key)
                            .is_some_and(|p| p.subscriber_is_primary());
                        if primary || !self.subscriptions.is_empty() {
                            self.offer(key, false, now).await;
                        }
                    }
                    Some(_) => {}
                    None => {
                        link.wants_offer =
                            link.publisher.as_ref().is_some_and(|peer| peer.described)
                    }
                }
            }
            Event::NeedSections {
                connection,
                audio,
                video,
            } => {
                let Some(key) = self.connections.get(&connection) else {
                    return;
                };
                let Some(link) = self.links.get_mut(key) else {
                    return;
                };
                if link.publisher.as_ref().is_some_and(|peer| peer.described) {
                    link.needed = (audio, video);
                    link.wants_offer = true;
                }
            }
            Event::TrackEnded { track } => {
                self.shared.rooms.remove_track(track);
                if let Some(sid) = self.track_sids.remove(&track) {
                    self.tracks.remove(&sid);
                    self.room.track_ended(&sid, now);
                }
            }
            Event::DataChannelOpen {
                connection,
                channel,
                label,
            } => {
                let Some(key) = self.connections.get(&connection).copied() else {
                    return;
                };
                let Some(kind) = DataKind::from_label(&label) else {
                    return;
                };
                let Some(link) = self.links.get_mut(&key) else {
                    return;
                };
                let sends = link.subscriber.as_ref().or(link.publisher.as_ref());
                if sends.is_some_and(|peer| peer.connection == connection) {
                    link.channels.insert(kind, (connection, channel));
                    if kind == DataKind::Reliable {
                        for packet in std::mem::take(&mut link.early_messages) {
                            self.send_data(key, kind, packet);
                        }
                    }
                }
            }
            Event::DataChannelClosed {
                connection,
                channel,
            } => {
                let Some(key) = self.connections.get(&connection) else {
                    return;
                };
                if let Some(link) = self.links.get_mut(key) {
                    link.channels
                        .retain(|_, known| *known != (connection, channel));
                }
            }
            Event::Data {
                connection,
                label,
                bytes,
                ..
            } => {
                let key = self.connections.get(&connection).copied();
                if let (Some(key), Some(kind)) = (key, DataKind::from_label(&label)) {
                    self.room.data(key, kind, &bytes, now);
                }
            }
            Event::Speakers { speakers, .. } => {
                let speakers: Vec<_> = speakers
                    .iter()
                    .map(|speaker| {
                        (
                            of_participant_id(speaker.participant).1,
                            speaker.level,
                            speaker.active,
                        )
                    })
                    .collect();
                self.room.speakers(&speakers);
            }
            Event::Quality {
                participant,
                score,
                why,
            } => {
                let key = of_participant_id(participant).1;
                let quality = match score {
                    5.. => proto::ConnectionQuality::Excellent,
                    3 | 4 => proto::ConnectionQuality::Good,
                    2 => proto::ConnectionQuality::Poor,
                    _ => proto::ConnectionQuality::Lost,
                };
                if let Some(link) = self.links.get(&key)
                    && link.publisher.is_some()
                {
                    self.note_of(key, format!("connection quality {score} of 5: {why}"));
                }
                self.room
                    .connection_quality(&[(key, quality, f32::from(score))]);
            }
            Event::StreamState {
                connection,
                track,
                paused,
                ..
            } => {
                let key = self.connections.get(&connection).copied();
                if let (Some(key), Some(sid)) = (key, self.track_sids.get(&track)) {
                    self.room.stream_state(key, sid, paused);
                }
            }
            Event::WantedLayers {
                track,
                codec,
                layers,
            } => {
                let Some(sid) = self.track_sids.get(&track) else {
                    return;
                };
                let wanted = self.wanted_layers.entry(sid.clone()).or_default();
                let qualities = qualities(&layers);
                let codec = codec.to_ascii_lowercase();
                match wanted.iter_mut().find(|(known, _)| *known == codec) {
                    Some((_, known)) => *known = qualities,
                    None => wanted.push((codec, qualities)),
                }
                let wanted = wanted.clone();
                self.room.wanted_layers(&sid.clone(), wanted);
            }
            Event::Decision { connection, text } => {
                if let Some(key) = self.connections.get(&connection) {
                    self.note_of(*key, text);
                }
            }
            _ => {}
        }
    }

    fn connection_state(&mut self, connection: ConnectionId, state: ConnectionState, now: Now) {
        let Some(key) = self.connections.get(&connection).copied() else {
            return;
        };
        let primary = self
            .room
            .participant(key)
            .is_some_and(|participant| participant.subscriber_is_primary());
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        let mut is_primary = false;
        let peers = [
            (&mut link.publisher, !primary),
            (&mut link.subscriber, primary),
        ];
        for (peer, first) in peers {
            if let Some(peer) = peer.as_mut().filter(|peer| peer.connection == connection) {
                peer.state = Some(state);
                is_primary = first;
            }
        }
        let identity_less = !self.signals.contains_key(&key)
            && self
                .room
                .participant(key)
                .is_some_and(|participant| !participant.is_signal_lost());
        match state {
            ConnectionState::Connected if is_primary => self.room.media_connected(key, now),
            // Nobody is there to restart a WHIP client's ICE but itself, and its session is its connection.
            ConnectionState::Failed if identity_less => {
                self.room.remove(key, DisconnectReason::MediaFailure, now)
            }
            ConnectionState::Closed if identity_less => {
                self.room
                    .remove(key, DisconnectReason::ClientInitiated, now)
            }
            ConnectionState::Failed => self.room.media_failed(key, now),
            _ => {}
        }
    }
}

/// Layers as clients name them: low, medium, high. A track with fewer layers uses the lower names.
fn qualities(layers: &[bool]) -> [bool; 3] {
    let last = layers.last().copied().unwrap_or(false);
    std::array::from_fn(|index| layers.get(index).copied().unwrap_or(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_layer_has_every_name() {
        assert_eq!(qualities(&[true]), [true; 3]);
        assert_eq!(qualities(&[true, false]), [true, false, false]);
        assert_eq!(qualities(&[]), [false; 3]);
    }
}
