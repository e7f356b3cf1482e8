//! Connections go to another worker when this one has too much to do: the whole connection, with its keys, its congestion
//! control and the numbers of what is forwarded to it. Its peer notices nothing but a key frame.
//!
//! Its datagrams go on reaching whichever worker's socket the kernel chose; they are handed over, as all strays are
//! (`links.rs`). Connections that publish stay: a track's name says where it lives. So do those over TCP, whose streams
//! belong to the thread that reads them.

use std::time::Instant;

use super::Worker;
use super::connection::Connection;
use crate::error::{Error, Result};
use crate::ids::{ConnectionId, RoomId, SubscriptionId, WorkerIndex};

/// A connection between two workers.
#[derive(Debug)]
pub struct Relocation(Box<Connection>);

impl Relocation {
    /// Whose it is.
    pub fn connection(&self) -> ConnectionId {
        self.0.id
    }

    /// Its room.
    pub fn room(&self) -> RoomId {
        self.0.room
    }

    /// The subscriptions that go with it.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        self.0.subscriptions.iter().map(|(_, found)| found.id)
    }
}

impl Connection {
    /// Whether it may go to another worker.
    fn is_movable(&self) -> bool {
        self.ends.is_none() && self.streams.is_empty() && self.inputs.iter().all(Option::is_none)
    }
}

impl Worker {
    /// Up to `most` connections that [`depart`](Self::depart) would let go, and that have something sent to them.
    pub fn movable(&self, most: usize) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .filter(|(_, connection)| {
                !connection.subscriptions.is_empty() && connection.is_movable()
            })
            .map(|(_, connection)| connection.id)
            .take(most)
            .collect()
    }

    /// Lets a connection go to worker `to`, which has it [`arrive`](Self::arrive). What waits in its pacer is lost, as on a
    /// network.
    ///
    /// # Errors
    /// [`Error::NoConnection`]; [`Error::Tied`] if it publishes, or goes over TCP.
    pub fn depart(
        &mut self,
        now: Instant,
        id: ConnectionId,
        to: WorkerIndex,
    ) -> Result<Relocation> {
        let (slot, connection) = self.connection(id)?;
        if !connection.is_movable() {
            return Err(Error::Tied);
        }
        self.finish_fanout();
        // What it has to tell is told here.
        self.follow_events(now, slot);
        self.tell_lack(slot);
        let Some(mut connection) = self.forget(slot) else {
            return Err(Error::NoConnection);
        };
        self.by_id.remove(&id);
        self.part(connection.participant, slot);
        let mut tracks = Vec::new();
        for (key, subscription) in &mut connection.subscriptions {
            self.subscriptions.remove(&subscription.id);
            if let Some(track) = self.tracks.get_mut(subscription.track) {
                track.subscribers.retain(|&found| found != (slot, key));
                tracks.push(subscription.track);
            }
            subscription.begin_anew();
        }
        for track in tracks {
            self.judge_wants(now, track);
            self.unfollow_if_idle(track);
        }
        self.links.moved(&connection.paths(), to);
        Ok(Relocation(Box::new(connection)))
    }

    /// Takes a connection that another worker let go. It is not refused for want of room: it exists already.
    pub fn arrive(&mut self, now: Instant, relocation: Relocation) {
        let mut connection = *relocation.0;
        let paths = connection.settle_in();
        let (id, room, participant) = (connection.id, connection.room, connection.participant);
        let ufrags = connection.ufrags.clone();
        let followed: Vec<_> = connection
            .subscriptions
            .iter()
            .map(|(key, found)| (key, found.id, found.track_id))
            .collect();
        let slot = self.connections.insert(connection);
        self.by_id.insert(id, slot);
        self.join(participant, slot);
        for ufrag in ufrags {
            self.mux.add_ufrag(&ufrag, slot);
        }
        for path in paths {
            self.mux.inherit(path, slot);
        }
        for (key, subscription, track) in followed {
            let track_slot = match self.track_slots.get(&track) {
                Some(&found) => Some(found),
                None if track.worker() != self.settings.index => {
                    Some(self.follow_remote(track, room, participant))
                }
                // It ended meanwhile.
                None => None,
            };
            self.subscriptions.insert(subscription, (slot, key));
            let Some(track_slot) = track_slot else {
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
}
