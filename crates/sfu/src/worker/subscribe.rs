//! Subscriptions begin, find their sections, and end.

use std::time::Instant;

use visavis_peer::{
    Codec, Kind, Transceiver, TransceiverDirection, TransceiverId, TransceiverInit,
};
use visavis_rtp::{ExtensionKind, SequenceNumber};
use visavis_sdp::Direction;

use super::Worker;
use super::connection::Connection;
use super::subscription::{LOWEST, Subscription};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::ids::{ConnectionId, SubscriptionId, TrackId};
use crate::options::{SubscribeOptions, Wish};

impl Worker {
    /// Forwards a track to a connection, from when a description has told the peer.
    ///
    /// # Errors
    /// [`Error::NoConnection`], [`Error::NoTrack`], [`Error::Limit`], [`Error::Peer`] for names that SDP cannot carry.
    pub fn subscribe(
        &mut self,
        now: Instant,
        track: TrackId,
        id: ConnectionId,
        options: SubscribeOptions,
    ) -> Result<SubscriptionId> {
        let limit = self.settings.limits.subscriptions_per_connection;
        let (slot, connection) = self.connection(id)?;
        if connection.subscriptions.len() >= limit {
            return Err(Error::Limit {
                what: "subscriptions_per_connection",
                limit,
            });
        }
        let (room, participant) = (connection.room, connection.participant);
        let track_slot = self
            .track_or_image(track, room, participant)
            .ok_or(Error::NoTrack)?;
        self.finish_fanout();
        self.numbers += 1;
        let subscription_id = SubscriptionId::new(self.settings.index, self.numbers);
        let Some(connection) = self.connections.get_mut(slot) else {
            return Err(Error::NoConnection);
        };
        let mut subscription = Subscription::new(
            subscription_id,
            track_slot,
            track,
            (options.stream, options.track),
            options.wish,
        );
        subscription.cname = connection.peer.cname().into();
        let key = connection.subscriptions.insert(subscription);
        if let Some(found) = self.tracks.get_mut(track_slot) {
            found.subscribers.push((slot, key));
        }
        self.subscriptions.insert(subscription_id, (slot, key));
        if let Err(error) = self.place(now, slot, key) {
            self.drop_subscription(now, slot, key);
            return Err(error);
        }
        self.judge_wants(now, track_slot);
        self.touch(slot);
        Ok(subscription_id)
    }

    /// What the subscriber wants from now on.
    pub fn set_subscription(&mut self, now: Instant, subscription: SubscriptionId, wish: Wish) {
        let Some(&(slot, key)) = self.subscriptions.get(&subscription) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(found) = connection.subscriptions.get_mut(key) else {
            return;
        };
        found.wish = wish;
        let track = found.track;
        if found.kind == Kind::Audio
            && let Some(forwarder) = &mut found.forwarder
        {
            forwarder.set_target(Some(LOWEST).filter(|_| wish.enabled));
        }
        connection.allocate_at = Some(now);
        self.judge_wants(now, track);
        self.touch(slot);
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, now: Instant, subscription: SubscriptionId) {
        if let Some(&(slot, key)) = self.subscriptions.get(&subscription) {
            self.drop_subscription(now, slot, key);
        }
    }

    /// Ends a subscription, whatever the reason.
    pub(super) fn drop_subscription(&mut self, now: Instant, slot: usize, key: usize) {
        self.finish_fanout();
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(subscription) = connection.subscriptions.try_remove(key) else {
            return;
        };
        self.subscriptions.remove(&subscription.id);
        connection.sources.retain(|_, found| *found != key);
        if let Some(transceiver) = subscription.transceiver
            && !connection.peer.is_closed()
        {
            // It fails only for a transceiver that is over.
            let _ = connection.peer.remove_track(transceiver);
        }
        connection.allocate_at = Some(now);
        if let Some(track) = self.tracks.get_mut(subscription.track) {
            track.subscribers.retain(|&found| found != (slot, key));
            self.judge_wants(now, subscription.track);
            self.unfollow_if_idle(subscription.track);
        }
        self.touch(slot);
    }

    /// Finds a section for a subscription, or makes one, or lets it wait for the peer's next offer.
    fn place(&mut self, now: Instant, slot: usize, key: usize) -> Result<()> {
        let preferences = self.preferences(slot, key);
        let Some(connection) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        let Some(subscription) = connection.subscriptions.get(key) else {
            return Ok(());
        };
        let kind = subscription.kind;
        let (stream, track) = subscription.names.clone();
        let streams: Vec<String> = Some(stream).filter(|s| !s.is_empty()).into_iter().collect();
        let placed = match connection.free_transceiver(kind) {
            Some(transceiver) => {
                connection.peer.send_on(transceiver, &track, &streams)?;
                Some(transceiver)
            }
            None if connection.offers => Some(connection.peer.add_transceiver(
                kind,
                TransceiverInit {
                    direction: Direction::SendOnly,
                    streams,
                    track: Some(track),
                    ..TransceiverInit::default()
                },
            )?),
            None => None,
        };
        let Some(transceiver) = placed else {
            connection.lacks_sections = true;
            return Ok(());
        };
        if connection.offers && kind == Kind::Video {
            connection
                .peer
                .set_codec_preferences(transceiver, &preferences)?;
        }
        let mid = connection
            .peer
            .transceiver(transceiver)
            .and_then(|transceiver| transceiver.mid.clone());
        // In an offer that waits for the answer it will be told; else the peer has to offer again.
        connection.lacks_sections |= !connection.offers && !connection.must_answer();
        let id = connection.id;
        let Some(subscription) = connection.subscriptions.get_mut(key) else {
            return Ok(());
        };
        subscription.transceiver = Some(transceiver);
        subscription.mid.clone_from(&mid);
        let subscription = subscription.id;
        self.tell(Event::SubscriptionPlaced {
            subscription,
            connection: id,
            mid,
        });
        self.follow_subscription(now, slot, key);
        Ok(())
    }

    /// The codecs in which a subscription's pictures may come go first in what this end offers, as far as they are known: some
    /// peers (GStreamer) take the first one that they know and no other, and nothing is transcoded here. Empty where
    /// nothing is known.
    fn preferences(&self, slot: usize, key: usize) -> Vec<Codec> {
        let track = self
            .connections
            .get(slot)
            .and_then(|connection| connection.subscriptions.get(key))
            .and_then(|subscription| self.tracks.get(subscription.track));
        let variants = track.map(|track| &track.variants[..]).unwrap_or_default();
        let table = &self.settings.codecs.video;
        let mut codecs: Vec<Codec> = Vec::new();
        for variant in variants {
            let comes = match (&variant.codec, variant.feed) {
                (Some(codec), _) => vec![codec.peer.clone()],
                (None, Some((slot, id))) => self
                    .connections
                    .get(slot)
                    .map(|connection| connection.incoming_codecs(id))
                    .unwrap_or_default(),
                (None, None) => Vec::new(),
            };
            let known = |codec: &Codec| table.iter().find(|known| known.matches(codec));
            let known = comes.iter().filter_map(known);
            codecs.extend(known.filter(|known| !known.is_auxiliary()).cloned());
        }
        if !codecs.is_empty() {
            codecs.extend_from_slice(table);
            // Preferences that do not name it are without retransmission (webrtc-pc section 5.4, setCodecPreferences).
            codecs.push(Codec::new(Kind::Video, "rtx", 90_000, 0));
        }
        codecs
    }

    /// Follows what a description that was set means.
    pub(super) fn negotiated(&mut self, now: Instant, slot: usize) {
        self.follow_inputs(now, slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let keys: Vec<usize> = connection
            .subscriptions
            .iter()
            .map(|(key, _)| key)
            .collect();
        connection.lacks_sections = false;
        for &key in &keys {
            let waits = self
                .connections
                .get(slot)
                .and_then(|connection| connection.subscriptions.get(key))
                .is_some_and(|subscription| subscription.transceiver.is_none());
            if waits {
                // Names were judged when it began.
                let _ = self.place(now, slot, key);
            }
        }
        for key in keys {
            self.follow_subscription(now, slot, key);
        }
        self.touch(slot);
    }

    /// Says that the peer has to offer sections, or to offer anew.
    pub(super) fn tell_lack(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if !std::mem::take(&mut connection.lacks_sections) {
            return;
        }
        let (audio, video) = connection.waiting();
        let connection = connection.id;
        self.tell(Event::NeedSections {
            connection,
            audio,
            video,
        });
    }

    /// Follows what a track brings on all its subscriptions: another codec, or other numbers.
    pub(super) fn follow_variant(&mut self, now: Instant, track: usize) {
        let Some(track) = self.tracks.get_mut(track) else {
            return;
        };
        for (slot, key) in track.subscribers.clone() {
            self.follow_subscription(now, slot, key);
        }
    }

    /// A name for what is forwarded from now on, which no worker gave before: what was queued under another one is dropped.
    pub(super) fn next_generation(&mut self) -> u32 {
        self.numbers += 1;
        u32::from(self.settings.index) << 24 | self.numbers as u32 & 0x00ff_ffff
    }

    /// Follows what a subscription's section and track say.
    pub(super) fn follow_subscription(&mut self, now: Instant, slot: usize, key: usize) {
        let first = SequenceNumber(self.random.u32() as u16 >> 1);
        let generation = self.next_generation();
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Connection {
            peer,
            subscriptions,
            sources,
            egress,
            ..
        } = connection;
        let Some(subscription) = subscriptions.get_mut(key) else {
            return;
        };
        let Some(transceiver) = subscription
            .transceiver
            .and_then(|transceiver| peer.transceiver(transceiver))
        else {
            return;
        };
        if subscription.mid.is_none() {
            subscription.mid.clone_from(&transceiver.mid);
        }
        let Some(track) = self.tracks.get(subscription.track) else {
            return;
        };
        // An image of which the track's home has yet to say what it is.
        if track.variants.is_empty() {
            return;
        }
        if !subscription.follow(transceiver, &track.variants, first, generation) {
            return;
        }
        sources.retain(|_, found| *found != key);
        sources.insert(subscription.ssrc, key);
        if let Some(ssrc) = subscription.rtx_ssrc() {
            sources.insert(ssrc, key);
        }
        let gives_feedback = subscription
            .extensions
            .id(ExtensionKind::TransportSequence)
            .is_some();
        if gives_feedback {
            egress.start_control(now, self.settings.forwarding.bitrate);
        }
        connection.allocate_at = Some(now);
        connection.needs_schedule = true;
        self.touch(slot);
    }
}

impl Connection {
    /// What may arrive on a section: as the offer that waits for an answer says it, else as it was negotiated.
    fn incoming_codecs(&self, id: TransceiverId) -> Vec<Codec> {
        let Some(transceiver) = self.peer.transceiver(id) else {
            return Vec::new();
        };
        let mid = transceiver.mid.as_deref().filter(|_| self.must_answer());
        let Some(media) = mid.and_then(|mid| self.remote_section(mid)) else {
            return transceiver.receiver.codecs.clone();
        };
        let attributes = &media.attributes;
        let offered = media.payload_types().filter_map(|number| {
            let map = attributes
                .rtpmaps()
                .find(|map| map.payload_type == number)?;
            let mut fmtps = attributes.fmtps();
            let fmtp = fmtps.find(|fmtp| fmtp.payload_type() == Some(number));
            Some(Codec {
                fmtp: fmtp.map(|fmtp| fmtp.parameters.clone()).unwrap_or_default(),
                ..Codec::new(transceiver.kind, &map.encoding, map.clock_rate, number)
            })
        });
        offered.collect()
    }

    /// A transceiver of which nothing is sent and on which the peer would receive.
    fn free_transceiver(&self, kind: Kind) -> Option<TransceiverId> {
        let free = |transceiver: &&Transceiver| {
            transceiver.kind == kind
                && !transceiver.is_stopped()
                && self.subscription_on(transceiver.id).is_none()
        };
        let transceivers = self.peer.transceivers().iter().filter(free);
        if self.offers {
            // One that an ended subscription left behind.
            let idle = |transceiver: &&Transceiver| {
                transceiver.direction == TransceiverDirection::Inactive
                    && transceiver.current_direction == Some(TransceiverDirection::Inactive)
            };
            return transceivers
                .filter(idle)
                .map(|transceiver| transceiver.id)
                .next();
        }
        let mut two_way = None;
        for transceiver in transceivers {
            let mid = transceiver.mid.as_deref();
            let Some(remote) = mid.and_then(|mid| self.remote_section(mid)) else {
                continue;
            };
            if remote.is_rejected() || !remote.direction().receives() {
                continue;
            }
            if !remote.direction().sends() {
                return Some(transceiver.id);
            }
            two_way = two_way.or(Some(transceiver.id));
        }
        two_way
    }

    /// What is sent on a transceiver.
    pub(super) fn subscription_on(&self, transceiver: TransceiverId) -> Option<SubscriptionId> {
        let mut found = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.transceiver == Some(transceiver));
        found.next().map(|(_, subscription)| subscription.id)
    }

    /// How many subscriptions wait for a section: of sound, and of pictures.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let waits = |kind: Kind| {
            let all = self.subscriptions.iter();
            all.filter(|(_, found)| found.kind == kind && found.transceiver.is_none())
                .count()
        };
        (waits(Kind::Audio), waits(Kind::Video))
    }

    /// What a received section is published as: slots of track and variant.
    pub(super) fn input(&self, transceiver: TransceiverId) -> Option<(usize, usize)> {
        *self.inputs.get(transceiver.get() as usize)?
    }

    pub(super) fn feed(&mut self, transceiver: TransceiverId, track: usize, variant: usize) {
        let number = transceiver.get() as usize;
        if self.inputs.len() <= number {
            self.inputs.resize(number + 1, None);
        }
        self.inputs[number] = Some((track, variant));
    }

    pub(super) fn unfeed(&mut self, transceiver: TransceiverId) {
        if let Some(input) = self.inputs.get_mut(transceiver.get() as usize) {
            *input = None;
        }
    }
}
