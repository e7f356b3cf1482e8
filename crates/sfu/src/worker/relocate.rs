//! Connections go to another worker when this one has too much to do: the whole connection, with its keys, its congestion
//! control, the numbers of what is forwarded to it, and the tracks that it publishes. Its peer notices nothing but a key frame,
//! and those who get its tracks not even that.
//!
//! Its datagrams go on reaching whichever worker's socket the kernel chose; they are handed over, as all strays are
//! (`strays.rs`). Of its tracks an image stays for those who get them here, and where there was an image before is the track
//! then (`links.rs`): packets have one number at all workers, so that nobody's place in a history changes. Connections over
//! TCP stay, for their streams belong to the thread that reads them (those that are not in use are closed); so do those that
//! share a track with another connection.

use std::collections::VecDeque;
use std::time::Instant;

use smallvec::SmallVec;

use super::Worker;
use super::connection::Connection;
use super::track::{Follower, Track};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::ids::{ConnectionId, RoomId, SubscriptionId, TrackId, WorkerIndex};

/// A connection between two workers.
#[derive(Debug)]
pub struct Relocation {
    connection: Box<Connection>,
    /// What it publishes; the slots of the feeds mean nothing here.
    tracks: Vec<Track>,
    /// What it told and nobody has taken yet: what it tells at its next worker comes behind.
    untold: VecDeque<Event>,
}

impl Relocation {
    /// Whose it is.
    pub fn connection(&self) -> ConnectionId {
        self.connection.id
    }

    /// Its room.
    pub fn room(&self) -> RoomId {
        self.connection.room
    }

    /// The subscriptions that go with it.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        let all = self.connection.subscriptions.iter();
        all.map(|(_, found)| found.id)
    }

    /// The tracks that go with it.
    pub fn tracks(&self) -> impl Iterator<Item = TrackId> + '_ {
        self.tracks.iter().map(|track| track.id)
    }
}

impl Worker {
    /// Whether a connection may go to another worker.
    fn is_movable(&self, slot: usize, connection: &Connection) -> bool {
        let feeds_alone = |&(track, _): &(usize, usize)| {
            let track = self.tracks.get(track);
            let mut variants = track.iter().flat_map(|track| &track.variants);
            variants.all(|variant| variant.feed.is_none_or(|(feed, _)| feed == slot))
        };
        let by_stream = match connection.peer.ice().selected_pair() {
            Some(pair) => pair.path.protocol.is_stream(),
            None => !connection.streams.is_empty(),
        };
        connection.ends.is_none()
            && !by_stream
            && connection.inputs.iter().flatten().all(feeds_alone)
    }

    /// Up to `most` connections that [`depart`](Self::depart) would let go, and that have something sent to them or publish
    /// something.
    pub fn movable(&self, most: usize) -> Vec<ConnectionId> {
        let is_used = |connection: &Connection| {
            !connection.subscriptions.is_empty() || connection.inputs.iter().any(Option::is_some)
        };
        self.connections
            .iter()
            .filter(|&(slot, connection)| is_used(connection) && self.is_movable(slot, connection))
            .map(|(_, connection)| connection.id)
            .take(most)
            .collect()
    }

    /// Lets a connection go to worker `to`, which has it [`arrive`](Self::arrive) before it is told anything that this one has
    /// to tell from now on ([`poll_message`](Self::poll_message)), by whatever way that takes. What waits in its pacer is lost, as
    /// on a network.
    ///
    /// # Errors
    /// [`Error::NoConnection`]; [`Error::Tied`] if it goes over TCP, or shares a track with another connection
    /// ([`publish_codec`](Self::publish_codec)).
    pub fn depart(
        &mut self,
        now: Instant,
        id: ConnectionId,
        to: WorkerIndex,
    ) -> Result<Relocation> {
        let slot = self.slot(id)?;
        let connection = self.connections.get(slot).ok_or(Error::NoConnection)?;
        if !self.is_movable(slot, connection) {
            return Err(Error::Tied);
        }
        self.finish_fanout();
        // Peers try TCP beside UDP, and keep it for bad times.
        if let Some(connection) = self.connections.get_mut(slot) {
            for path in std::mem::take(&mut connection.streams) {
                connection.peer.ice_disconnected(now, path);
                self.closed_streams.push(path);
            }
        }
        self.follow_events(now, slot);
        self.tell_lack(slot);
        let (untold, others) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|event| event.connection() == Some(id));
        self.events = others;
        let Some(mut connection) = self.forget(slot) else {
            return Err(Error::NoConnection);
        };
        self.by_id.remove(&id);
        self.part(connection.participant, slot);
        let mut followed = Vec::new();
        for (key, subscription) in &mut connection.subscriptions {
            self.subscriptions.remove(&subscription.id);
            if let Some(track) = self.tracks.get_mut(subscription.track) {
                track.subscribers.retain(|&found| found != (slot, key));
                followed.push(subscription.track);
            }
            subscription.begin_anew();
        }
        let mut published: SmallVec<[usize; 4]> = SmallVec::new();
        for (track, _) in std::mem::take(&mut connection.inputs).into_iter().flatten() {
            if !published.contains(&track) {
                published.push(track);
            }
        }
        let tracks = published
            .into_iter()
            .filter_map(|track| self.let_track_go(now, track, to))
            .collect();
        for track in followed {
            self.judge_wants(now, track);
            self.unfollow_if_idle(track);
        }
        self.redirect(&mut connection, to);
        Ok(Relocation {
            connection: Box::new(connection),
            tracks,
            untold,
        })
    }

    /// A track goes with its connection. An image stays if somebody gets it here.
    fn let_track_go(&mut self, now: Instant, slot: usize, to: WorkerIndex) -> Option<Track> {
        let index = self.settings.index;
        let track = self.tracks.get_mut(slot)?;
        let mut departing = track.depart(to, &self.settings.limits);
        let (id, room) = (track.id, track.room);
        let stays = !track.subscribers.is_empty();
        self.links.track_moves(&departing, to);
        departing.followers.retain(|found| found.worker != to);
        self.leave_room(room, slot);
        if stays {
            departing.followers.push(Follower {
                worker: index,
                // Until it says otherwise, which it does at once.
                wants: departing.wanted.told.unwrap_or(u8::MAX),
            });
            self.judge_wants(now, slot);
        } else {
            self.tracks.remove(slot);
            self.track_slots.remove(&id);
        }
        Some(departing)
    }

    /// Whoever gets the datagrams of a connection that goes, or is named by its checks, sends them to worker `to`.
    fn redirect(&mut self, connection: &mut Connection, to: WorkerIndex) {
        let (id, index) = (connection.id, self.settings.index);
        connection.moves += 1;
        let home = connection.home(to);
        for &other in connection.known_at.iter().filter(|&&other| other != to) {
            self.links.connection_moves(other, id, home);
        }
        for (path, by) in connection.paths() {
            self.strays.learn_path(id, home, path);
            if let Some(by) = by.filter(|&by| by != to) {
                self.links.claim(by, id, path, home);
                connection.is_known_at(by);
            }
        }
        if id.worker() == index {
            for ufrag in &connection.ufrags {
                self.strays.learn_ufrag(id, home, ufrag.clone());
            }
        }
        connection.is_known_at(index);
        connection.known_at.retain(|other| *other != to);
    }

    /// Takes a connection that another worker let go. It is not refused for want of room: it exists already.
    pub fn arrive(&mut self, now: Instant, relocation: Relocation) {
        let Relocation {
            mut connection,
            tracks,
            untold,
        } = relocation;
        self.events.extend(untold);
        let paths = connection.settle_in();
        let (id, room, participant) = (connection.id, connection.room, connection.participant);
        let ufrags = connection.ufrags.clone();
        let followed: Vec<_> = connection
            .subscriptions
            .iter()
            .map(|(key, found)| (key, found.id, found.track_id))
            .collect();
        self.strays.forget(id);
        let slot = self.connections.insert(*connection);
        self.by_id.insert(id, slot);
        self.join(participant, slot);
        for ufrag in ufrags {
            self.mux.add_ufrag(&ufrag, slot);
        }
        for path in paths {
            self.mux.inherit(path, slot);
        }
        for track in tracks {
            self.take_track(now, slot, track);
        }
        for (key, subscription, track) in followed {
            let track_slot = self.track_or_image(track, room, participant);
            self.subscriptions.insert(subscription, (slot, key));
            let Some(track_slot) = track_slot else {
                // It ended meanwhile.
                self.drop_subscription(now, slot, key);
                continue;
            };
            let generation = self.next_generation();
            if let Some(connection) = self.connections.get_mut(slot)
                && let Some(found) = connection.subscriptions.get_mut(key)
            {
                found.track = track_slot;
                found.generation = generation;
            }
            if let Some(found) = self.tracks.get_mut(track_slot) {
                found.subscribers.push((slot, key));
            }
            self.judge_wants(now, track_slot);
        }
        self.touch(slot);
    }

    /// A track came with its connection. It takes the place of its image, if there is one.
    fn take_track(&mut self, now: Instant, connection: usize, mut track: Track) {
        let (id, room) = (track.id, track.room);
        let mut feeds: SmallVec<[_; 2]> = SmallVec::new();
        for (index, variant) in track.variants.iter_mut().enumerate() {
            if let Some((feed, transceiver)) = &mut variant.feed {
                *feed = connection;
                feeds.push((*transceiver, index));
            }
        }
        self.links.track_came(id);
        self.finish_fanout();
        let image = self.track_slots.get(&id).copied();
        let slot = match image.and_then(|slot| Some((slot, self.tracks.get_mut(slot)?))) {
            Some((slot, image)) => {
                image.arrive(track);
                slot
            }
            None => self.tracks.insert(track),
        };
        self.track_slots.insert(id, slot);
        if let Some(connection) = self.connections.get_mut(connection) {
            for (transceiver, index) in feeds {
                connection.feed(transceiver, slot, index);
            }
        }
        // Who speaks goes on speaking.
        self.enter_room(now, room, slot);
        self.follow_variant(now, slot);
        self.allocate_subscribers(now, slot);
        self.judge_wants(now, slot);
        self.chase_keyframes(now, slot);
    }
}
