//! Tracks begin and end.

use std::time::Instant;

use visavis_peer::{TransceiverDirection, TransceiverId};

use super::Worker;
use super::timers::Due;
use super::track::{MAX_VARIANTS, Track, Variant};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::ids::{ConnectionId, TrackId};
use crate::options::{LayerSize, PublishOptions};
use crate::tap::Tap;

impl Worker {
    /// What arrives on a section becomes a track.
    ///
    /// # Errors
    /// [`Error::NoConnection`], [`Error::NoSection`], [`Error::SectionTaken`], [`Error::Limit`].
    pub fn publish(
        &mut self,
        now: Instant,
        id: ConnectionId,
        mid: &str,
        options: PublishOptions,
    ) -> Result<TrackId> {
        let (slot, transceiver) = self.publishable(id, mid)?;
        let Some(connection) = self.connections.get_mut(slot) else {
            return Err(Error::NoConnection);
        };
        let limit = self.settings.limits.tracks_per_connection;
        if connection.inputs.iter().flatten().count() >= limit {
            return Err(Error::Limit {
                what: "tracks_per_connection",
                limit,
            });
        }
        let Some(found) = connection.peer.transceiver(transceiver) else {
            return Err(Error::NoSection(mid.into()));
        };
        self.numbers += 1;
        let track_id = TrackId::of_kind(self.settings.index, self.numbers, found.kind);
        let variant = Variant::new(
            Some((slot, transceiver)),
            found.receiver.rids.clone(),
            &options,
            connection.peer.receive_extensions().clone(),
        );
        let (room, participant) = (connection.room, connection.participant);
        let home = self.settings.index;
        let mut track = Track::new(track_id, home, room, participant, options);
        track.variants.push(variant);
        let track_slot = self.tracks.insert(track);
        self.track_slots.insert(track_id, track_slot);
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.feed(transceiver, track_slot, 0);
        }
        let interval = self.settings.forwarding.speaker_interval;
        self.enter_room(now + interval, room, track_slot);
        Ok(track_id)
    }

    /// What arrives on a section is the same track in another codec.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and [`Error::NoTrack`].
    pub fn publish_codec(
        &mut self,
        _now: Instant,
        track: TrackId,
        id: ConnectionId,
        mid: &str,
        options: PublishOptions,
    ) -> Result<()> {
        let (slot, transceiver) = self.publishable(id, mid)?;
        let (track_slot, _) = self.own_track(track).ok_or(Error::NoTrack)?;
        let Some(connection) = self.connections.get_mut(slot) else {
            return Err(Error::NoConnection);
        };
        let found = self.tracks.get_mut(track_slot).ok_or(Error::NoTrack)?;
        if found.variants.len() >= MAX_VARIANTS {
            return Err(Error::Limit {
                what: "codecs of one track",
                limit: MAX_VARIANTS,
            });
        }
        let rids = connection
            .peer
            .transceiver(transceiver)
            .map(|transceiver| transceiver.receiver.rids.clone())
            .unwrap_or_default();
        let extensions = connection.peer.receive_extensions().clone();
        found.variants.push(Variant::new(
            Some((slot, transceiver)),
            rids,
            &options,
            extensions,
        ));
        let index = found.variants.len() - 1;
        connection.feed(transceiver, track_slot, index);
        Ok(())
    }

    /// The section that a track can be published on.
    fn publishable(&mut self, id: ConnectionId, mid: &str) -> Result<(usize, TransceiverId)> {
        let (slot, connection) = self.connection(id)?;
        let section = connection
            .sections()
            .into_iter()
            .find(|section| section.mid == mid && section.receives);
        let transceiver = connection
            .peer
            .transceivers()
            .iter()
            .find(|transceiver| transceiver.mid.as_deref() == Some(mid));
        let (Some(_), Some(transceiver)) = (section, transceiver) else {
            return Err(Error::NoSection(mid.into()));
        };
        let transceiver = transceiver.id;
        if connection.input(transceiver).is_some() {
            return Err(Error::SectionTaken(mid.into()));
        }
        Ok((slot, transceiver))
    }

    /// Ends a track and its subscriptions.
    pub fn unpublish(&mut self, now: Instant, track: TrackId) {
        if let Some((slot, _)) = self.own_track(track) {
            self.end_track(now, slot);
        }
    }

    /// Nothing of a muted track is forwarded.
    pub fn set_muted(&mut self, now: Instant, track: TrackId, muted: bool) {
        let Some((slot, track)) = self.own_track(track) else {
            return;
        };
        if track.muted == muted {
            return;
        }
        track.muted = muted;
        track.level.reset();
        self.allocate_subscribers(now, slot);
        self.describe_to_followers(slot, 0);
    }

    /// The publisher says anew what its layers are.
    pub fn set_layers(&mut self, now: Instant, track: TrackId, layers: Vec<LayerSize>) {
        let Some((slot, track)) = self.own_track(track) else {
            return;
        };
        track.options.layers = layers;
        self.allocate_subscribers(now, slot);
        self.judge_wants(now, slot);
        self.describe_to_followers(slot, 0);
    }

    /// Gives a copy of what comes to a tap.
    ///
    /// # Errors
    /// [`Error::NoTrack`].
    pub fn tap(&mut self, now: Instant, track: TrackId, tap: Tap) -> Result<()> {
        let (slot, found) = self.own_track(track).ok_or(Error::NoTrack)?;
        found.taps.push(tap);
        let variants = found.variants.len();
        // A recording begins with a key frame.
        for variant in 0..variants {
            for encoding in 0..visavis_media::forward::MAX_ENCODINGS {
                self.want_keyframe(now, slot, variant, encoding as u8);
            }
        }
        self.judge_wants(now, slot);
        Ok(())
    }

    /// Ends a track, whatever the reason.
    pub(super) fn end_track(&mut self, now: Instant, slot: usize) {
        self.finish_fanout();
        let Some(track) = self.tracks.get_mut(slot) else {
            return;
        };
        let id = track.id;
        let is_own = track.home == self.settings.index;
        let feeds: Vec<_> = track.variants.iter().filter_map(|v| v.feed).collect();
        for (connection, transceiver) in feeds {
            if let Some(connection) = self.connections.get_mut(connection) {
                connection.unfeed(transceiver);
            }
        }
        let subscribers = std::mem::take(&mut track.subscribers);
        for (connection, key) in subscribers {
            self.drop_subscription(now, connection, key);
        }
        if let Some(track) = self.tracks.try_remove(slot) {
            self.track_slots.remove(&id);
            self.leave_room(track.room, slot);
            if is_own {
                self.links.ended(&track);
            }
        }
        if is_own {
            self.tell(Event::TrackEnded { track: id });
        }
    }

    /// Follows what a negotiation says of what arrives: numbers of extensions, names of encodings, and
    /// sections that the peer does not send on any more.
    pub(super) fn follow_inputs(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let is_stable = connection.peer.signaling_state() == visavis_peer::SignalingState::Stable;
        let extensions = connection.peer.receive_extensions();
        let mut ended = Vec::new();
        let mut changed = Vec::new();
        for (number, input) in connection.inputs.iter().enumerate() {
            let Some((track_slot, index)) = *input else {
                continue;
            };
            let transceivers = connection.peer.transceivers().iter();
            let found = transceivers
                .filter(|transceiver| transceiver.id.get() as usize == number)
                .find(|transceiver| !transceiver.is_stopped());
            let direction = found.and_then(|transceiver| transceiver.current_direction);
            let receives = direction
                .and_then(TransceiverDirection::to_sdp)
                .is_some_and(|direction| direction.receives());
            let Some(transceiver) = found.filter(|_| receives || !is_stable) else {
                ended.push((track_slot, index));
                continue;
            };
            let Some(track) = self.tracks.get_mut(track_slot) else {
                continue;
            };
            let told = track.options.clone();
            let Some(variant) = track.variants.get_mut(index) else {
                continue;
            };
            variant.extensions = extensions.clone();
            if variant.rids != transceiver.receiver.rids {
                let fresh = Variant::new(
                    variant.feed,
                    transceiver.receiver.rids.clone(),
                    &told,
                    extensions.clone(),
                );
                variant.rids = fresh.rids;
                variant.order = fresh.order;
            }
            changed.push((track_slot, index));
        }
        for (track_slot, index) in changed {
            self.describe_to_followers(track_slot, index);
        }
        for (track_slot, index) in ended {
            self.end_variant(now, track_slot, index);
        }
    }

    /// Ends one codec of a track, and with the first one the track.
    pub(super) fn end_variant(&mut self, now: Instant, track_slot: usize, index: usize) {
        if index == 0 {
            return self.end_track(now, track_slot);
        }
        let Some(variant) = self
            .tracks
            .get_mut(track_slot)
            .and_then(|track| track.variants.get_mut(index))
        else {
            return;
        };
        // Its place stays, for indices are names.
        variant.codec = None;
        variant.generation = variant.generation.wrapping_add(1);
        if let Some((connection, transceiver)) = variant.feed.take()
            && let Some(connection) = self.connections.get_mut(connection)
        {
            connection.unfeed(transceiver);
        }
        self.follow_variant(now, track_slot);
    }

    /// A track's time has come.
    pub(super) fn track_timeout(&mut self, now: Instant, slot: usize) {
        let Some(track) = self.tracks.get_mut(slot) else {
            return;
        };
        if !track.alarm.take(now) {
            return;
        }
        self.chase_keyframes(now, slot);
        self.judge_wants(now, slot);
    }

    /// Wakes a track.
    pub(super) fn wake_track(&mut self, slot: usize, at: Instant) {
        if let Some(track) = self.tracks.get_mut(slot) {
            self.timers.set(&mut track.alarm, at, Due::Track(slot));
        }
    }
}
