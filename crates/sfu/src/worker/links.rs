//! What workers tell each other: packets of tracks with subscribers elsewhere, datagrams that reached
//! the wrong one, and what goes back to the publishers' side.
//!
//! Packets and datagrams travel in batches, whose memory goes back and forth.
//!
//! A track is at one worker, its home; the others that have subscribers for it have an image, and follow it. When it moves
//! (`relocate.rs`), followers are told the new home and talk to that one from then on. The worker that it was born on, which its name
//! says, knows its home until it ends, so that a new follower finds it there; nobody else remembers where it was. What
//! reaches a former home is dropped, for the sender says it again at the new one; only requests for key frames are handed on.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use smallvec::SmallVec;
use visavis_datagram::{Arrival, Path};
use visavis_media::forward::MAX_ENCODINGS;
use visavis_rtp::rtcp::SenderInfo;
use visavis_rtp::{ExtensionMap, Packet};

use super::Worker;
use super::strays::Home;
use super::track::{Follower, Track, Variant, VariantCodec};
use crate::ids::{ConnectionId, ParticipantId, RoomId, TrackId, WorkerIndex};
use crate::options::PublishOptions;

/// Batches that are kept for the next packets.
const SPARE: usize = 16;
/// Packets of one batch.
const MOST: usize = 512;

/// What one worker tells another.
#[derive(Debug)]
pub struct Message(Inner);

#[derive(Debug)]
enum Inner {
    /// Packets of tracks that the receiver follows, with their extended sequence numbers.
    Packets(WorkerIndex, Batch<(Place, u64)>),
    /// Datagrams of connections that the receiver has, or may have; and the workers whose sockets they reached.
    Datagrams(WorkerIndex, Batch<(Arrival, WorkerIndex)>),
    /// Memory that comes back.
    Spare(Vec<u8>),
    /// The sender has subscribers for a track of the receiver's.
    Follow(TrackId, WorkerIndex),
    /// It has none any more.
    Unfollow(TrackId, WorkerIndex),
    /// Where a track is, after so many moves.
    Home(TrackId, WorkerIndex, u32),
    /// The sender does not know the track: the worker that it was born on does.
    Unknown(TrackId, WorkerIndex),
    /// What a track is.
    Describe(Box<Description>),
    /// A track is over.
    Ended(TrackId),
    /// A subscriber needs a key frame.
    Keyframe(Place),
    /// So many layers are wanted.
    Wants(TrackId, WorkerIndex, u8),
    /// A publisher's sender report.
    Report(Place, SenderInfo),
    /// Who speaks at the sender, and how loud.
    Levels(RoomId, WorkerIndex, Vec<(ParticipantId, f32)>),
    /// Datagrams on this path, which come to the receiver, belong to a connection of this worker's.
    Claimed(ConnectionId, Path, Home),
    /// A connection that was born at the receiver, and is at this worker, is checked under this name.
    Named(ConnectionId, Box<str>, Home),
    /// A connection has moved to this worker.
    Elsewhere(ConnectionId, Home),
    /// A connection is no more.
    Forgotten(ConnectionId),
}

impl Message {
    /// Whether it may be lost: media is lost on networks too, what things are is not.
    pub fn may_be_lost(&self) -> bool {
        matches!(
            self.0,
            Inner::Packets(..) | Inner::Datagrams(..) | Inner::Spare(_)
        )
    }
}

/// Where a packet belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    track: TrackId,
    variant: u8,
    encoding: u8,
}

/// Pieces of memory back to back.
#[derive(Debug, Default)]
struct Batch<T> {
    bytes: Vec<u8>,
    pieces: Vec<(T, usize)>,
}

#[derive(Debug)]
struct Description {
    track: TrackId,
    /// The worker that tells it, and how often the track had moved.
    home: WorkerIndex,
    moves: u32,
    room: RoomId,
    participant: ParticipantId,
    options: PublishOptions,
    muted: bool,
    variant: usize,
    codec: Option<VariantCodec>,
    generation: u32,
    extensions: ExtensionMap,
    rids: Vec<String>,
    order: SmallVec<[u8; MAX_ENCODINGS]>,
}

/// What waits to be told to other workers, and where tracks went that were born here.
#[derive(Debug, Default)]
pub(super) struct Links {
    index: WorkerIndex,
    workers: WorkerIndex,
    queue: VecDeque<(WorkerIndex, Message)>,
    packets: Vec<(WorkerIndex, Batch<(Place, u64)>)>,
    datagrams: Vec<(WorkerIndex, Batch<(Arrival, WorkerIndex)>)>,
    spare: Vec<Vec<u8>>,
    /// The home of each track that was born here and is elsewhere, and how often it has moved: one entry for each such track
    /// until it ends.
    gone: HashMap<TrackId, (WorkerIndex, u32)>,
}

impl Links {
    pub(super) fn new(index: WorkerIndex, workers: WorkerIndex) -> Self {
        Self {
            index,
            workers,
            ..Self::default()
        }
    }

    fn tell(&mut self, to: WorkerIndex, inner: Inner) {
        self.queue.push_back((to, Message(inner)));
    }

    fn poll(&mut self) -> Option<(WorkerIndex, Message)> {
        if let Some(message) = self.queue.pop_front() {
            return Some(message);
        }
        if let Some((to, batch)) = self.packets.pop() {
            return Some((to, Message(Inner::Packets(self.index, batch))));
        }
        let (to, batch) = self.datagrams.pop()?;
        Some((to, Message(Inner::Datagrams(self.index, batch))))
    }

    /// A packet goes to workers that follow its track.
    pub(super) fn forward(
        &mut self,
        followers: &[Follower],
        track: TrackId,
        (variant, encoding): (u8, u8),
        sequence: u64,
        packet: &[u8],
    ) {
        let place = Place {
            track,
            variant,
            encoding,
        };
        for follower in followers {
            let (to, what) = (follower.worker, (place, sequence));
            append(&mut self.packets, &mut self.spare, to, what, packet);
        }
    }

    /// A datagram that reached the socket of worker `reached` goes to the one that has its connection, or may have.
    pub(super) fn hand_over(
        &mut self,
        to: WorkerIndex,
        arrival: Arrival,
        reached: WorkerIndex,
        datagram: &[u8],
    ) {
        let what = (arrival, reached);
        append(&mut self.datagrams, &mut self.spare, to, what, datagram);
    }

    pub(super) fn report(
        &mut self,
        followers: &[Follower],
        track: TrackId,
        variant: u8,
        encoding: u8,
        info: &SenderInfo,
    ) {
        let place = Place {
            track,
            variant,
            encoding,
        };
        for follower in followers {
            self.tell(follower.worker, Inner::Report(place, *info));
        }
    }

    pub(super) fn want_keyframe(
        &mut self,
        home: WorkerIndex,
        track: TrackId,
        variant: u8,
        encoding: u8,
    ) {
        let place = Place {
            track,
            variant,
            encoding,
        };
        self.tell(home, Inner::Keyframe(place));
    }

    pub(super) fn wants(&mut self, home: WorkerIndex, track: TrackId, layers: u8) {
        self.tell(home, Inner::Wants(track, self.index, layers));
    }

    /// A track of this worker's is over: its followers hear of it, and the worker that it was born on.
    pub(super) fn ended(&mut self, track: &Track) {
        for to in track.interested().filter(|&to| to != self.index) {
            self.queue.push_back((to, Message(Inner::Ended(track.id))));
        }
    }

    /// A track goes to worker `to`: its followers hear of it, and the worker that it was born on.
    pub(super) fn track_moves(&mut self, track: &Track, to: WorkerIndex) {
        let (id, moves) = (track.id, track.moves);
        if id.worker() == self.index {
            self.gone.insert(id, (to, moves));
        }
        for other in track.interested() {
            if other != to && other != self.index {
                let home = Inner::Home(id, to, moves);
                self.queue.push_back((other, Message(home)));
            }
        }
    }

    /// A track is here.
    pub(super) fn track_came(&mut self, track: TrackId) {
        self.gone.remove(&track);
    }

    /// Whether a track may be found at another worker, and at which, after so many moves: the one that it was born on unless
    /// that is this one.
    fn elsewhere(&self, track: TrackId) -> Option<(WorkerIndex, u32)> {
        let born = Some(track.worker()).filter(|&born| born != self.index);
        let known = self.gone.get(&track).copied();
        known.or_else(|| born.map(|born| (born, 0)))
    }

    /// How many tracks that were born here are known to be elsewhere.
    pub(super) fn gone(&self) -> usize {
        self.gone.len()
    }

    /// The worker that tells who speaks in a room.
    pub(super) const fn home_of(&self, room: RoomId) -> WorkerIndex {
        if self.workers == 0 {
            return self.index;
        }
        (room.0 % self.workers as u64) as WorkerIndex
    }

    pub(super) fn levels(&mut self, room: RoomId, levels: Vec<(ParticipantId, f32)>) {
        let home = self.home_of(room);
        self.tell(home, Inner::Levels(room, self.index, levels));
    }

    /// A connection uses a path whose datagrams come to worker `by`.
    pub(super) fn claim(&mut self, by: WorkerIndex, id: ConnectionId, path: Path, home: Home) {
        self.tell(by, Inner::Claimed(id, path, home));
    }

    /// A connection was born at worker `born`, and has another name there.
    pub(super) fn name(
        &mut self,
        born: WorkerIndex,
        id: ConnectionId,
        ufrag: Box<str>,
        home: Home,
    ) {
        self.tell(born, Inner::Named(id, ufrag, home));
    }

    /// A connection that worker `to` knows has moved.
    pub(super) fn connection_moves(&mut self, to: WorkerIndex, id: ConnectionId, home: Home) {
        self.tell(to, Inner::Elsewhere(id, home));
    }

    /// A connection that worker `to` knows is no more.
    pub(super) fn forgotten(&mut self, to: WorkerIndex, id: ConnectionId) {
        self.tell(to, Inner::Forgotten(id));
    }

    fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

/// Adds a piece to the batch that waits for a worker.
fn append<T>(
    batches: &mut Vec<(WorkerIndex, Batch<T>)>,
    spare: &mut Vec<Vec<u8>>,
    to: WorkerIndex,
    what: T,
    bytes: &[u8],
) {
    let open = batches
        .iter()
        .rposition(|(found, batch)| *found == to && batch.pieces.len() < MOST);
    let at = open.unwrap_or_else(|| {
        let batch = Batch {
            bytes: spare.pop().unwrap_or_default(),
            pieces: Vec::with_capacity(32),
        };
        batches.push((to, batch));
        batches.len() - 1
    });
    let batch = &mut batches[at].1;
    batch.bytes.extend_from_slice(bytes);
    batch.pieces.push((what, bytes.len()));
}

impl Worker {
    /// What is to be told to another worker next, and to which.
    pub fn poll_message(&mut self) -> Option<(u16, Message)> {
        self.links.poll()
    }

    /// Another worker has no room for a message: media of that turn is lost, as on a full network.
    pub fn message_refused(&mut self) {
        self.stats.handover_dropped += 1;
    }

    /// Takes what another worker told.
    pub fn handle_message(&mut self, now: Instant, message: Message) {
        match message.0 {
            Inner::Packets(from, batch) => self.take_packets(now, from, batch),
            Inner::Datagrams(from, mut batch) => {
                let mut at = 0;
                for &((arrival, reached), len) in &batch.pieces {
                    let datagram = &mut batch.bytes[at..at + len];
                    at += len;
                    self.handed_over(now, arrival, reached, datagram);
                }
                self.links.tell(from, Inner::Spare(batch.bytes));
            }
            Inner::Spare(bytes) => self.links.keep(bytes),
            Inner::Follow(track, from) => self.add_follower(now, track, from),
            Inner::Unfollow(track, from) => {
                if let Some((slot, track)) = self.own_track(track) {
                    track.followers.retain(|found| found.worker != from);
                    self.judge_wants(now, slot);
                }
            }
            Inner::Home(track, home, moves) => self.track_moved(now, track, home, moves),
            Inner::Unknown(track, from) => {
                if let Some(&slot) = self.track_slots.get(&track)
                    && let Some(image) = self.tracks.get_mut(slot)
                    && image.home == from
                {
                    let (home, moves) = (track.worker(), image.moves);
                    self.follow_home(now, slot, home, moves);
                }
            }
            Inner::Describe(description) => self.follow_description(now, *description),
            Inner::Ended(track) => {
                self.links.gone.remove(&track);
                if let Some(&slot) = self.track_slots.get(&track)
                    && !self.is_home(slot)
                {
                    self.end_track(now, slot);
                }
            }
            Inner::Keyframe(place) => {
                let slot = self.track_slots.get(&place.track).copied();
                match slot.filter(|&slot| self.is_home(slot)) {
                    Some(slot) => {
                        self.want_keyframe(now, slot, place.variant.into(), place.encoding);
                    }
                    // The track has moved meanwhile.
                    None => {
                        let image = slot.and_then(|slot| self.tracks.get(slot));
                        let home = image.map(|image| image.home);
                        let known = self.links.elsewhere(place.track).map(|(home, _)| home);
                        if let Some(home) = home.or(known) {
                            self.links.tell(home, Inner::Keyframe(place));
                        }
                    }
                }
            }
            Inner::Wants(track, from, layers) => {
                if let Some((slot, track)) = self.own_track(track) {
                    let mut followers = track.followers.iter_mut();
                    if let Some(found) = followers.find(|found| found.worker == from) {
                        found.wants = layers;
                    }
                    self.judge_wants(now, slot);
                }
            }
            Inner::Report(place, info) => {
                if let Some(&slot) = self.track_slots.get(&place.track) {
                    self.source_report(now, slot, place.variant.into(), place.encoding, &info);
                }
            }
            Inner::Levels(room, from, levels) => self.take_levels(now, room, from, levels),
            Inner::Claimed(id, path, home) => {
                if !self.by_id.contains_key(&id) {
                    self.strays.learn_path(id, home, path);
                }
            }
            Inner::Named(id, ufrag, home) => {
                if !self.by_id.contains_key(&id) {
                    self.strays.learn_ufrag(id, home, ufrag);
                }
            }
            Inner::Elsewhere(id, home) => self.strays.moved(id, home),
            Inner::Forgotten(id) => {
                self.strays.forget(id);
            }
        }
    }

    fn take_packets(&mut self, now: Instant, from: WorkerIndex, batch: Batch<(Place, u64)>) {
        let mut at = 0;
        for ((place, sequence), len) in batch.pieces {
            let bytes = &batch.bytes[at..at + len];
            at += len;
            let Some(&slot) = self.track_slots.get(&place.track) else {
                continue;
            };
            if let Ok(packet) = Packet::parse(bytes)
                && usize::from(place.encoding) < MAX_ENCODINGS
            {
                let (variant, encoding) = (place.variant.into(), place.encoding);
                self.ingest(now, slot, variant, encoding, &packet, Some(sequence));
            }
        }
        self.links.tell(from, Inner::Spare(batch.bytes));
    }

    // ---- images of other workers' tracks

    /// Whether a track is here, and not only its image.
    pub(super) fn is_home(&self, slot: usize) -> bool {
        let track = self.tracks.get(slot);
        track.is_some_and(|track| track.home == self.settings.index)
    }

    /// A track that is here, and not only its image.
    pub(super) fn own_track(&mut self, id: TrackId) -> Option<(usize, &mut Track)> {
        let &slot = self.track_slots.get(&id)?;
        let index = self.settings.index;
        let track = self.tracks.get_mut(slot)?;
        (track.home == index).then_some((slot, track))
    }

    /// The slot of a track, or of its image, which is made if the track may be found elsewhere. `None`: the track is over.
    pub(super) fn track_or_image(
        &mut self,
        track: TrackId,
        room: RoomId,
        participant: ParticipantId,
    ) -> Option<usize> {
        if let Some(&found) = self.track_slots.get(&track) {
            return Some(found);
        }
        let (home, moves) = self.links.elsewhere(track)?;
        let mut image = Track::new(track, home, room, participant, PublishOptions::default());
        image.moves = moves;
        let slot = self.tracks.insert(image);
        self.track_slots.insert(track, slot);
        let index = self.settings.index;
        self.links.tell(home, Inner::Follow(track, index));
        Some(slot)
    }

    /// An image without subscribers is dropped.
    pub(super) fn unfollow_if_idle(&mut self, slot: usize) {
        let Some(track) = self.tracks.get(slot) else {
            return;
        };
        let (id, home, index) = (track.id, track.home, self.settings.index);
        if home == index || !track.subscribers.is_empty() {
            return;
        }
        self.tracks.remove(slot);
        self.track_slots.remove(&id);
        self.links.tell(home, Inner::Unfollow(id, index));
    }

    fn add_follower(&mut self, now: Instant, id: TrackId, from: WorkerIndex) {
        if let Some((slot, track)) = self.own_track(id) {
            if track.followers.iter().all(|found| found.worker != from) {
                track.followers.push(Follower {
                    worker: from,
                    wants: 0,
                });
            }
            for variant in 0..track.variants.len() {
                self.describe_to(slot, variant, &[from]);
            }
            return self.judge_wants(now, slot);
        }
        let image = self.track_slots.get(&id).copied();
        let image = image.and_then(|slot| self.tracks.get(slot));
        let image = image.map(|image| (image.home, image.moves));
        let answer = match image.or_else(|| self.links.gone.get(&id).copied()) {
            Some((home, moves)) => Inner::Home(id, home, moves),
            None if id.worker() == self.settings.index => Inner::Ended(id),
            None => Inner::Unknown(id, self.settings.index),
        };
        self.links.tell(from, answer);
    }

    /// A track is at another home than before.
    fn track_moved(&mut self, now: Instant, id: TrackId, home: WorkerIndex, moves: u32) {
        if let Some(known) = self.links.gone.get_mut(&id)
            && moves >= known.1
        {
            *known = (home, moves);
        }
        match self.track_slots.get(&id) {
            Some(&slot) => self.follow_home(now, slot, home, moves),
            // The image was dropped meanwhile.
            None if home != self.settings.index => {
                let index = self.settings.index;
                self.links.tell(home, Inner::Unfollow(id, index));
            }
            None => {}
        }
    }

    /// The image of a track follows it to another home, unless that is older news than what is known.
    fn follow_home(&mut self, now: Instant, slot: usize, home: WorkerIndex, moves: u32) {
        let index = self.settings.index;
        let Some(image) = self.tracks.get_mut(slot) else {
            return;
        };
        let is_news = moves > image.moves || moves == image.moves && home != image.home;
        if image.home == index || home == index || !is_news {
            return;
        }
        (image.home, image.moves) = (home, moves);
        // All that the former home was told is told there anew.
        image.wanted = Default::default();
        self.links.tell(home, Inner::Follow(image.id, index));
        self.judge_wants(now, slot);
    }

    /// Tells all followers what a track is.
    pub(super) fn describe_to_followers(&mut self, slot: usize, variant: usize) {
        let Some(track) = self.tracks.get(slot) else {
            return;
        };
        let followers: SmallVec<[WorkerIndex; 4]> =
            track.followers.iter().map(|found| found.worker).collect();
        self.describe_to(slot, variant, &followers);
    }

    fn describe_to(&mut self, slot: usize, variant: usize, followers: &[WorkerIndex]) {
        let Some(track) = self.tracks.get(slot) else {
            return;
        };
        let Some(found) = track.variants.get(variant) else {
            return;
        };
        for &to in followers {
            let description = Description {
                track: track.id,
                home: self.settings.index,
                moves: track.moves,
                room: track.room,
                participant: track.participant,
                options: track.options.clone(),
                muted: track.muted,
                variant,
                codec: found.codec.clone(),
                generation: found.generation,
                extensions: found.extensions.clone(),
                rids: found.rids.clone(),
                order: found.order.clone(),
            };
            self.links.tell(to, Inner::Describe(Box::new(description)));
        }
    }

    fn follow_description(&mut self, now: Instant, description: Description) {
        let Some(&slot) = self.track_slots.get(&description.track) else {
            return;
        };
        let index = self.settings.index;
        self.follow_home(now, slot, description.home, description.moves);
        let Some(track) = self.tracks.get_mut(slot) else {
            return;
        };
        // What a former home said of it has been overtaken.
        if track.home == index || description.moves < track.moves {
            return;
        }
        track.room = description.room;
        track.participant = description.participant;
        track.options = description.options;
        track.muted = description.muted;
        while track.variants.len() <= description.variant {
            let options = track.options.clone();
            track.variants.push(Variant::new(
                None,
                Vec::new(),
                &options,
                ExtensionMap::new(),
            ));
        }
        let variant = &mut track.variants[description.variant];
        variant.codec = description.codec;
        variant.extensions = description.extensions;
        variant.rids = description.rids;
        variant.order = description.order;
        if variant.generation != description.generation {
            variant.generation = description.generation;
            variant.encodings = Default::default();
        }
        self.follow_variant(now, slot);
        self.allocate_subscribers(now, slot);
        self.judge_wants(now, slot);
    }
}
