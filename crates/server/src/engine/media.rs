//! The room's commands carried out on the media plane, and the media plane's reports told to the room.
//! Offers, answers and media sections live here: the room knows tracks, the media plane knows sections.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use livekit_protocol as proto;
use proto::{
    DisconnectReason, SignalTarget, TrackType, leave_request::Action, signal_response::Message,
};
use visavis_sfu::{
    ChannelId, ChannelOptions, ConnectionConfig, ConnectionId, ConnectionState, Description, Event,
    IceCandidate, Kind, LayerSize, MessageKind, OfferOptions, ParticipantId, PublishOptions,
    RoomId, Section, SubscribeOptions, Wish,
};

use super::{Actor, CHANNELS};
use crate::room::{DataKind, MediaCommand, Mode, Now, ParticipantKey};

/// Candidates of a client that are kept until its description comes.
const EARLY_CANDIDATES: usize = 64;

/// Reliable messages that are kept until the client's channel is open.
const EARLY_MESSAGES: usize = 64;

/// A participant's connections.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The one that the client offers: the only one, or the one that it publishes on.
    pub(super) publisher: Option<Peer>,
    /// The one that the server offers.
    pub(super) subscriber: Option<Peer>,
    channels: HashMap<DataKind, (ConnectionId, ChannelId)>,
    early_messages: VecDeque<Bytes>,
    /// Sections for receiving that the client still has to offer, and those that it was asked for.
    needed: (usize, usize),
    asked: (usize, usize),
    wants_offer: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connection: ConnectionId,
    /// The last offer's number: clients match answers by it.
    offer_id: u32,
    /// An offer of the server waits for its answer.
    offered: bool,
    /// Something changed meanwhile.
    offer_again: bool,
    restart_again: bool,
    pub(super) described: bool,
    /// A WHIP client's offer, from which a restart is made.
    pub(super) last_offer: String,
    early: Vec<IceCandidate>,
    /// What the client sends, by section: the track and the client's own id of it.
    published: HashMap<String, (String, String)>,
    pub(super) state: Option<ConnectionState>,
}

impl Peer {
    fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            offer_id: 0,
            offered: false,
            offer_again: false,
            restart_again: false,
            described: false,
            last_offer: String::new(),
            early: Vec::new(),
            published: HashMap::new(),
            state: None,
        }
    }
}

/// The number by which the media plane knows a participant: unique over all rooms.
pub(crate) fn participant_id(room: u32, key: ParticipantKey) -> ParticipantId {
    ParticipantId(u64::from(room) << 32 | u64::from(key.0))
}

/// The room and the participant of such a number.
pub(crate) fn of_participant_id(id: ParticipantId) -> (u32, ParticipantKey) {
    #[allow(clippy::cast_possible_truncation)] // Halves of 64 bits.
    ((id.0 >> 32) as u32, ParticipantKey(id.0 as u32))
}

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

    async fn open(&mut self, key: ParticipantKey, now: Now) {
        let Some(participant) = self.room.participant(key) else {
            return;
        };
        let (mode, ice_lite) = (
            participant.mode,
            self.shared.config.ice_lite && !participant.disable_ice_lite,
        );
        let subscriber_is_primary = participant.subscriber_is_primary();
        let mut link = Link::default();
        let offering = [(false, true), (true, mode == Mode::Dual)];
        for (offers, _) in offering.into_iter().filter(|(_, wanted)| *wanted) {
            let config = ConnectionConfig {
                ice_lite,
                offers,
                data_channels: offers,
            };
            let id = participant_id(self.id, key);
            match self
                .shared
                .media
                .sfu()
                .create_connection(RoomId(self.id.into()), id, config)
                .await
            {
                Ok(connection) => {
                    self.connections.insert(connection, key);
                    self.shared.rooms.add_connection(connection, self.id);
                    let peer = Some(Peer::new(connection));
                    if offers {
                        link.subscriber = peer
                    } else {
                        link.publisher = peer
                    }
                }
                Err(error) => {
                    self.note_of(key, format!("has no media connection: {error}"));
                    self.room.remove(key, DisconnectReason::JoinFailure, now);
                    return;
                }
            }
        }
        let subscriber = link.subscriber.as_ref().map(|peer| peer.connection);
        self.links.insert(key, link);
        if let Some(connection) = subscriber {
            for kind in CHANNELS {
                let reliable = kind == DataKind::Reliable;
                let options = ChannelOptions {
                    label: kind.label().to_owned(),
                    ordered: reliable,
                    max_retransmits: (!reliable).then_some(0),
                    ..ChannelOptions::default()
                };
                if let Err(error) = self
                    .shared
                    .media
                    .sfu()
                    .create_data_channel(connection, options)
                    .await
                {
                    self.note_of(key, format!("has no channel {}: {error}", kind.label()));
                }
            }
            self.room.media_ready(key);
            // Later offers come when something changed, or when this one was answered.
            if subscriber_is_primary {
                self.offer(key, false, now).await;
            }
        }
    }

    fn close(&mut self, key: ParticipantKey) {
        let Some(link) = self.links.remove(&key) else {
            return;
        };
        for peer in link.publisher.into_iter().chain(link.subscriber) {
            self.connections.remove(&peer.connection);
            self.shared.rooms.remove_connection(peer.connection);
            self.shared.media.sfu().close(peer.connection);
        }
        self.subscriptions
            .retain(|(subscriber, _), _| *subscriber != key);
    }

    async fn description(
        &mut self,
        key: ParticipantKey,
        description: proto::SessionDescription,
        now: Now,
    ) {
        let outcome = match description.r#type.as_str() {
            "offer" => match self.take_offer(key, description.sdp, now).await {
                Ok((answer, mids)) => {
                    let answer = proto::SessionDescription {
                        r#type: "answer".into(),
                        sdp: answer.sdp,
                        id: description.id,
                        mid_to_track_id: mids,
                    };
                    self.send_message(key, Message::Answer(answer), now);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            "answer" => self.take_answer(key, description, now).await,
            other => Err(format!("a description of type {other:?}")),
        };
        if let Err(error) = outcome {
            metrics::counter!("visavis_refused_descriptions_total").increment(1);
            self.note_of(key, format!("sent a description that was refused: {error}"));
            // With another description the client may do better; with this one nothing can be done.
            self.room
                .remove_with(key, DisconnectReason::StateMismatch, Action::Reconnect, now);
        }
    }

    /// Takes a client's offer: what it publishes becomes tracks, what it waits for goes into the answer.
    pub(super) async fn take_offer(
        &mut self,
        key: ParticipantKey,
        sdp: String,
        now: Now,
    ) -> Result<(Description, HashMap<String, String>), String> {
        let sfu = self.shared.media.sfu().clone();
        let Some(link) = self.links.get_mut(&key) else {
            return Err("it has no connection".into());
        };
        let single = link.subscriber.is_none();
        let Some(peer) = &mut link.publisher else {
            return Err("it has no connection".into());
        };
        let connection = peer.connection;
        sfu.set_remote_description(connection, Description::offer(sdp))
            .await
            .map_err(|error| error.to_string())?;
        peer.described = true;
        for candidate in std::mem::take(&mut peer.early) {
            let _ = sfu.add_remote_candidate(connection, candidate);
        }
        (link.needed, link.asked, link.wants_offer) = Default::default();

        let sections = sfu
            .sections(connection)
            .await
            .map_err(|error| error.to_string())?;
        self.sections_changed(key, &sections, now).await;
        if single {
            self.room.media_ready(key);
        }
        // What the offer changed for the others, and what this client gets, before its answer is made.
        Box::pin(self.carry_out(now)).await;
        let answer = sfu
            .create_answer(connection)
            .await
            .map_err(|error| error.to_string())?;
        let sdp = self.with_announced_codecs(key, answer.sdp);
        let mids = self.mids(key, connection).await;
        Ok((Description::answer(sdp), mids))
    }

    /// The answer with the codec first that was announced for each section: browsers send with the first one,
    /// whatever order they offered.
    fn with_announced_codecs(&self, key: ParticipantKey, mut sdp: String) -> String {
        let peer = self
            .links
            .get(&key)
            .and_then(|link| link.publisher.as_ref());
        let participant = self.room.participant(key);
        let (Some(peer), Some(participant)) = (peer, participant) else {
            return sdp;
        };
        for (mid, (track_sid, _)) in &peer.published {
            let codecs = participant.track(track_sid).map(|track| &track.info.codecs);
            let codec = codecs.into_iter().flatten().find(|codec| codec.mid == *mid);
            if let Some((_, name)) = codec.and_then(|codec| codec.mime_type.split_once('/')) {
                sdp = prefer_codec(&sdp, mid, name);
            }
        }
        sdp
    }

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

    /// Which track each section of a connection brings to the client.
    async fn mids(&self, key: ParticipantKey, connection: ConnectionId) -> HashMap<String, String> {
        let Ok(sections) = self.shared.media.sfu().sections(connection).await else {
            return HashMap::new();
        };
        let sid_of = |subscription| {
            let ours = self
                .subscriptions
                .iter()
                .find(|((subscriber, _), id)| *subscriber == key && **id == subscription);
            ours.map(|((_, sid), _)| sid.clone())
        };
        let placed = sections
            .into_iter()
            .filter_map(|section| Some((section.mid, sid_of(section.subscription?)?)));
        placed.collect()
    }

    async fn take_answer(
        &mut self,
        key: ParticipantKey,
        description: proto::SessionDescription,
        now: Now,
    ) -> Result<(), String> {
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.subscriber.as_mut())
        else {
            return Err("an answer without an offer".into());
        };
        // An answer to an offer that was replaced meanwhile.
        if !peer.offered || (description.id != 0 && description.id != peer.offer_id) {
            return Ok(());
        }
        let sfu = self.shared.media.sfu();
        let answer = Description::answer(description.sdp);
        sfu.set_remote_description(peer.connection, answer)
            .await
            .map_err(|error| error.to_string())?;
        peer.offered = false;
        peer.described = true;
        for candidate in std::mem::take(&mut peer.early) {
            let _ = sfu.add_remote_candidate(peer.connection, candidate);
        }
        if std::mem::take(&mut peer.offer_again) {
            let restart = std::mem::take(&mut peer.restart_again);
            self.offer(key, restart, now).await;
        }
        Ok(())
    }

    /// Offers the connection that the server offers, now or when the last offer was answered.
    async fn offer(&mut self, key: ParticipantKey, ice_restart: bool, now: Now) {
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.subscriber.as_mut())
        else {
            return;
        };
        if peer.offered {
            peer.offer_again = true;
            peer.restart_again |= ice_restart;
            return;
        }
        let connection = peer.connection;
        match self
            .shared
            .media
            .sfu()
            .create_offer(connection, OfferOptions { ice_restart })
            .await
        {
            Ok(offer) => {
                peer.offered = true;
                peer.offer_id += 1;
                let id = peer.offer_id;
                let mid_to_track_id = self.mids(key, connection).await;
                let description = proto::SessionDescription {
                    r#type: "offer".into(),
                    sdp: offer.sdp,
                    id,
                    mid_to_track_id,
                };
                self.send_message(key, Message::Offer(description), now);
            }
            Err(error) => self.note_of(key, format!("cannot be offered anything: {error}")),
        }
    }

    async fn restart(&mut self, key: ParticipantKey, now: Now) {
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.subscriber.as_mut())
        else {
            return;
        };
        // The answer to an offer of before may have been lost with the old signalling connection.
        if std::mem::take(&mut peer.offered) {
            let _ = self.shared.media.sfu().rollback(peer.connection).await;
        }
        self.offer(key, true, now).await;
    }

    fn candidate(&mut self, key: ParticipantKey, trickle: &proto::TrickleRequest) {
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        let peer = match SignalTarget::try_from(trickle.target) {
            Ok(SignalTarget::Subscriber) if link.subscriber.is_some() => &mut link.subscriber,
            _ => &mut link.publisher,
        };
        let (Some(peer), Some(candidate)) = (peer, parse_candidate(&trickle.candidate_init)) else {
            metrics::counter!("visavis_refused_candidates_total").increment(1);
            return;
        };
        if peer.described {
            let _ = self
                .shared
                .media
                .sfu()
                .add_remote_candidate(peer.connection, candidate);
        } else if peer.early.len() < EARLY_CANDIDATES {
            peer.early.push(candidate);
        }
    }

    pub(super) async fn subscribe(&mut self, subscriber: ParticipantKey, track_sid: String) {
        let Some(track) = self.tracks.get(&track_sid).copied() else {
            return;
        };
        let Some(link) = self.links.get(&subscriber) else {
            return;
        };
        let Some(peer) = link.subscriber.as_ref().or(link.publisher.as_ref()) else {
            return;
        };
        let Some((publisher, info)) = self.room.track(&track_sid) else {
            return;
        };
        let by_stream = self
            .room
            .participant(subscriber)
            .is_some_and(|participant| !participant.client.browser.eq_ignore_ascii_case("firefox"));
        // Tracks of one stream are played in step. Firefox makes ids of its own for tracks, so that there the
        // stream's id has to carry the track's.
        let second = if by_stream && !info.info.stream.is_empty() {
            &info.info.stream
        } else {
            &track_sid
        };
        let adapts = self
            .room
            .participant(subscriber)
            .is_some_and(|participant| participant.adaptive_stream);
        let options = SubscribeOptions {
            stream: format!("{}|{second}", publisher.sid),
            track: track_sid.clone(),
            // Whoever will tell a size gets the smallest picture until then.
            wish: if adapts {
                Wish {
                    max_quality: 0,
                    ..Wish::default()
                }
            } else {
                Wish::default()
            },
        };
        match self
            .shared
            .media
            .sfu()
            .subscribe(track, peer.connection, options)
            .await
        {
            Ok(subscription) => {
                self.subscriptions
                    .insert((subscriber, track_sid), subscription);
            }
            Err(error) => self.note_of(
                subscriber,
                format!("cannot subscribe to {track_sid}: {error}"),
            ),
        }
    }

    fn send_data(&mut self, to: ParticipantKey, kind: DataKind, packet: Bytes) {
        let Some(link) = self.links.get_mut(&to) else {
            return;
        };
        match link.channels.get(&kind) {
            Some((connection, channel)) => {
                let sfu = self.shared.media.sfu();
                let _ = sfu.send_data(*connection, *channel, MessageKind::Binary, packet);
            }
            None if kind == DataKind::Reliable && link.early_messages.len() < EARLY_MESSAGES => {
                link.early_messages.push_back(packet);
            }
            None => metrics::counter!("visavis_data_dropped_total").increment(1),
        }
    }

    /// Asks clients that make the offers for one: with sections for what waits, or to tell them what changed.
    pub(super) fn ask_for_sections(&mut self) {
        let now = Now::read();
        let mut asking = Vec::new();
        for (key, link) in &mut self.links {
            let audio = link.needed.0.saturating_sub(link.asked.0);
            let video = link.needed.1.saturating_sub(link.asked.1);
            if audio + video > 0 || std::mem::take(&mut link.wants_offer) {
                link.wants_offer = false;
                link.asked = (link.asked.0 + audio, link.asked.1 + video);
                asking.push((*key, audio, video));
            }
        }
        for (key, audio, video) in asking {
            let requirement = proto::MediaSectionsRequirement {
                num_audios: u32::try_from(audio).unwrap_or(0),
                num_videos: u32::try_from(video).unwrap_or(0),
            };
            self.send_message(key, Message::MediaSectionsRequirement(requirement), now);
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

/// A description in which the payload types of `codec` go first in the section of that mid.
fn prefer_codec(sdp: &str, mid: &str, codec: &str) -> String {
    let mut sections: Vec<String> = Vec::new();
    for line in sdp.split_inclusive('\n') {
        match sections.last_mut() {
            Some(section) if !line.starts_with("m=") => section.push_str(line),
            _ => sections.push(line.to_owned()),
        }
    }
    let is_meant = |section: &String| {
        section.lines().any(|line| {
            line.strip_prefix("a=mid:")
                .is_some_and(|found| found.trim_end() == mid)
        })
    };
    if let Some(section) = sections.iter_mut().find(|section| is_meant(section)) {
        let preferred = |payload_type: &str| {
            section.lines().any(|line| {
                let map = line
                    .strip_prefix("a=rtpmap:")
                    .and_then(|map| map.split_once(' '));
                map.is_some_and(|(number, map)| {
                    let name = map.split('/').next().unwrap_or_default();
                    number == payload_type && name.eq_ignore_ascii_case(codec)
                })
            })
        };
        let (head, rest) = section.split_once('\n').unwrap_or((section.as_str(), ""));
        let words: Vec<&str> = head.trim_end().split(' ').collect();
        let (fixed, payload_types) = words.split_at(words.len().min(3));
        let (first, last): (Vec<&str>, Vec<&str>) = payload_types
            .iter()
            .copied()
            .partition(|payload_type| preferred(payload_type));
        let line = [fixed, &first, &last].concat().join(" ");
        *section = format!("{line}\r\n{rest}");
    }
    sections.concat()
}

/// A candidate as clients send it: the JSON of the browser's `RTCIceCandidate`.
fn parse_candidate(json: &str) -> Option<IceCandidate> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Candidate {
        candidate: String,
        sdp_mid: Option<String>,
        sdp_m_line_index: Option<u16>,
        username_fragment: Option<String>,
    }
    let candidate: Candidate = serde_json::from_str(json).ok()?;
    Some(IceCandidate {
        candidate: candidate.candidate,
        sdp_mid: candidate.sdp_mid,
        sdp_mline_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
    })
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

/// What a client's settings mean for forwarding. A size goes before a quality.
fn wish(settings: &proto::UpdateTrackSettings) -> Wish {
    let quality =
        proto::VideoQuality::try_from(settings.quality).unwrap_or(proto::VideoQuality::High);
    let max_quality = match quality {
        _ if settings.width > 0 => Wish::ANY_QUALITY,
        proto::VideoQuality::Low => 0,
        proto::VideoQuality::Medium => 1,
        proto::VideoQuality::High | proto::VideoQuality::Off => Wish::ANY_QUALITY,
    };
    // Clients count from 1, the highest; here higher goes first.
    let priority = match settings.priority {
        0 => 0,
        priority => 1000 - priority.min(999),
    };
    Wish {
        enabled: !settings.disabled && quality != proto::VideoQuality::Off,
        max_width: settings.width,
        max_height: settings.height,
        max_fps: settings.fps,
        max_quality,
        priority,
        pinned: false,
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
    fn candidates_are_read_as_browsers_write_them() {
        let json = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.2 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}"#;
        let candidate = parse_candidate(json).unwrap();
        assert_eq!(candidate.sdp_mline_index, Some(0));
        assert_eq!(candidate.username_fragment.as_deref(), Some("x"));
        assert!(parse_candidate("{").is_none());
        assert!(parse_candidate("[]").is_none_or(|candidate| candidate.candidate.is_empty()));
    }

    #[test]
    fn an_announced_codec_goes_first_in_its_section_alone() {
        let section = |mid: &str, order: &str| {
            format!(
                "m=video 9 UDP/TLS/RTP/SAVPF {order}\r\na=mid:{mid}\r\na=rtpmap:96 VP8/90000\r\n\
                 a=rtpmap:97 rtx/90000\r\na=rtpmap:98 VP9/90000\r\n"
            )
        };
        let sdp = format!(
            "v=0\r\n{}{}",
            section("1", "96 97 98"),
            section("2", "96 97 98")
        );
        let expected = format!(
            "v=0\r\n{}{}",
            section("1", "96 97 98"),
            section("2", "98 96 97")
        );
        assert_eq!(prefer_codec(&sdp, "2", "vp9"), expected);
        assert_eq!(prefer_codec(&sdp, "3", "vp9"), sdp);
    }

    #[test]
    fn a_size_goes_before_a_quality() {
        let sized = proto::UpdateTrackSettings {
            width: 640,
            height: 360,
            ..Default::default()
        };
        assert_eq!(wish(&sized).max_quality, Wish::ANY_QUALITY);
        assert_eq!(wish(&proto::UpdateTrackSettings::default()).max_quality, 0);
        assert!(
            wish(&proto::UpdateTrackSettings {
                priority: 1,
                ..sized.clone()
            })
            .priority
                > wish(&sized).priority
        );
        assert!(
            !wish(&proto::UpdateTrackSettings {
                disabled: true,
                ..sized
            })
            .enabled
        );
    }

    #[test]
    fn a_single_layer_has_every_name() {
        assert_eq!(qualities(&[true]), [true; 3]);
        assert_eq!(qualities(&[true, false]), [true, false, false]);
        assert_eq!(qualities(&[]), [false; 3]);
    }

    #[test]
    fn participants_have_one_number_over_all_rooms() {
        assert_eq!(
            of_participant_id(participant_id(7, ParticipantKey(9))),
            (7, ParticipantKey(9))
        );
    }
}
