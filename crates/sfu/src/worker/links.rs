//! What workers tell each other: packets of tracks with subscribers elsewhere, datagrams that reached
//! the wrong one, and what goes back to the publishers' side.
//!
//! Packets and datagrams travel in batches, whose memory goes back and forth.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use smallvec::SmallVec;
use visavis_datagram::{Arrival, Path};
use visavis_media::forward::MAX_ENCODINGS;
use visavis_rtp::rtcp::SenderInfo;
use visavis_rtp::{ExtensionMap, Packet};
use visavis_stun::PacketKind;

use super::Worker;
use super::track::{Track, Variant, VariantCodec};
use crate::ids::{ParticipantId, RoomId, TrackId, WorkerIndex};
use crate::options::PublishOptions;

/// Batches that are kept for the next packets.
const SPARE: usize = 16;
/// Packets of one batch.
const MOST: usize = 512;
/// Paths of other workers' connections that are remembered.
const MAX_STRAYS: usize = 65_536;

/// What one worker tells another.
#[derive(Debug)]
pub struct Message(Inner);

#[derive(Debug)]
enum Inner {
    /// Packets of tracks that the receiver follows.
    Packets(Batch<Place>),
    /// Datagrams of connections that the receiver has, or may have.
    Datagrams(WorkerIndex, Batch<Arrival>),
    /// Memory that comes back.
    Spare(Vec<u8>),
    /// The sender has subscribers for a track of the receiver's.
    Follow(TrackId, WorkerIndex),
    /// It has none any more.
    Unfollow(TrackId, WorkerIndex),
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
    /// Datagrams on this path belong to the sender.
    Claimed(Path, WorkerIndex),
}

impl Message {
    /// Whether it may be lost: media is lost on networks too, what things are is not.
    pub fn may_be_lost(&self) -> bool {
        matches!(
            self.0,
            Inner::Packets(_) | Inner::Datagrams(..) | Inner::Spare(_)
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

/// What waits to be told to other workers.
#[derive(Debug, Default)]
pub(super) struct Links {
    index: WorkerIndex,
    workers: WorkerIndex,
    queue: VecDeque<(WorkerIndex, Message)>,
    packets: Vec<(WorkerIndex, Batch<Place>)>,
    datagrams: Vec<(WorkerIndex, Batch<Arrival>)>,
    spare: Vec<Vec<u8>>,
    strays: HashMap<Path, WorkerIndex>,
    stray_order: VecDeque<Path>,
    /// Connections were born here that are elsewhere now: checks name this worker, and are for another.
    has_moved: bool,
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
            return Some((to, Message(Inner::Packets(batch))));
        }
        let (to, batch) = self.datagrams.pop()?;
        Some((to, Message(Inner::Datagrams(self.index, batch))))
    }

    /// A packet goes to workers that follow its track.
    pub(super) fn forward(
        &mut self,
        followers: &[WorkerIndex],
        track: TrackId,
        variant: u8,
        encoding: u8,
        packet: &[u8],
    ) {
        let place = Place {
            track,
            variant,
            encoding,
        };
        for &to in followers {
            append(&mut self.packets, &mut self.spare, to, place, packet);
        }
    }

    /// A datagram goes to the worker that has its connection; `None`: to whoever may have it.
    fn hand_over(&mut self, to: Option<WorkerIndex>, arrival: Arrival, datagram: &[u8]) {
        let all = match to {
            Some(to) => to..to + 1,
            None => 0..self.workers,
        };
        for to in all.filter(|&to| to != self.index) {
            append(&mut self.datagrams, &mut self.spare, to, arrival, datagram);
        }
    }

    pub(super) fn report(
        &mut self,
        followers: &[WorkerIndex],
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
        for &to in followers {
            self.tell(to, Inner::Report(place, *info));
        }
    }

    pub(super) fn want_keyframe(&mut self, track: TrackId, variant: u8, encoding: u8) {
        let place = Place {
            track,
            variant,
            encoding,
        };
        self.tell(track.worker(), Inner::Keyframe(place));
    }

    pub(super) fn wants(&mut self, track: TrackId, layers: u8) {
        self.tell(track.worker(), Inner::Wants(track, self.index, layers));
    }

    pub(super) fn ended(&mut self, to: WorkerIndex, track: TrackId) {
        self.tell(to, Inner::Ended(track));
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

    /// This worker's connection uses a path whose datagrams another worker gets.
    pub(super) fn claim(&mut self, to: WorkerIndex, path: Path) {
        self.tell(to, Inner::Claimed(path, self.index));
    }

    fn learn_stray(&mut self, path: Path, owner: WorkerIndex) {
        if self.strays.insert(path, owner).is_none() {
            self.stray_order.push_back(path);
        }
        while self.stray_order.len() > MAX_STRAYS {
            if let Some(oldest) = self.stray_order.pop_front() {
                self.strays.remove(&oldest);
            }
        }
    }

    /// A connection goes to another worker: whoever gets the datagrams of its paths, or asks here for them, sends them there.
    pub(super) fn moved(&mut self, paths: &[(Path, Option<WorkerIndex>)], to: WorkerIndex) {
        self.has_moved = true;
        for &(path, by) in paths {
            self.learn_stray(path, to);
            if let Some(by) = by.filter(|&by| by != to) {
                self.tell(by, Inner::Claimed(path, to));
            }
        }
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
            Inner::Packets(batch) => self.take_packets(now, batch),
            Inner::Datagrams(from, mut batch) => {
                let mut at = 0;
                for &(arrival, len) in &batch.pieces {
                    let datagram = &mut batch.bytes[at..at + len];
                    at += len;
                    if let Some(slot) = self.route(arrival.path, datagram) {
                        if let Some(connection) = self.connections.get_mut(slot) {
                            connection.came_by(arrival.path, from);
                        }
                        self.receive(now, slot, arrival, datagram);
                    } else if self.is_of_moved(datagram) {
                        self.stray(arrival, datagram);
                    }
                }
                self.links.tell(from, Inner::Spare(batch.bytes));
            }
            Inner::Spare(bytes) => self.links.keep(bytes),
            Inner::Follow(track, from) => self.add_follower(now, track, from),
            Inner::Unfollow(track, from) => {
                if let Some(&slot) = self.track_slots.get(&track)
                    && let Some(track) = self.tracks.get_mut(slot)
                {
                    track.followers.retain(|found| *found != from);
                    forget_wants(track, from);
                    self.judge_wants(now, slot);
                }
            }
            Inner::Describe(description) => self.follow_description(now, *description),
            Inner::Ended(track) => {
                if let Some(&slot) = self.track_slots.get(&track) {
                    self.end_track(now, slot);
                }
            }
            Inner::Keyframe(place) => {
                if let Some(&slot) = self.track_slots.get(&place.track) {
                    self.want_keyframe(now, slot, place.variant.into(), place.encoding);
                }
            }
            Inner::Wants(track, from, layers) => {
                if let Some(&slot) = self.track_slots.get(&track)
                    && let Some(track) = self.tracks.get_mut(slot)
                {
                    forget_wants(track, from);
                    let free = track.wanted.remote.iter_mut().find(|slot| slot.is_none());
                    if let Some(free) = free {
                        *free = Some((from, layers));
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
            Inner::Claimed(path, owner) => self.links.learn_stray(path, owner),
        }
    }

    /// A datagram that belongs to no connection here: to the worker that has it, if one does.
    pub(super) fn stray(&mut self, arrival: Arrival, datagram: &[u8]) -> bool {
        if self.links.workers < 2 {
            return false;
        }
        let is_of_moved = self.is_of_moved(datagram);
        let named = super::owner_of_check(datagram).filter(|_| !is_of_moved);
        let known = named.or_else(|| self.links.strays.get(&arrival.path).copied());
        let is_response = visavis_stun::classify(datagram) == PacketKind::Stun
            && matches!(datagram.first(), Some(0x01));
        match known {
            Some(to) if to < self.links.workers && to != self.settings.index => {
                self.links.hand_over(Some(to), arrival, datagram);
            }
            // The answer to a check of somebody's: its transaction is known there alone. Or a check on a new path of a connection
            // that has moved.
            _ if is_response || is_of_moved => self.links.hand_over(None, arrival, datagram),
            _ => return false,
        }
        self.stats.handed_over += 1;
        true
    }

    /// Whether a datagram is a check of a connection that was born here, and may be elsewhere now.
    fn is_of_moved(&self, datagram: &[u8]) -> bool {
        self.links.has_moved && super::owner_of_check(datagram) == Some(self.settings.index)
    }

    fn take_packets(&mut self, now: Instant, batch: Batch<Place>) {
        let mut at = 0;
        let mut owner = None;
        for (place, len) in batch.pieces {
            let bytes = &batch.bytes[at..at + len];
            at += len;
            owner = Some(place.track.worker());
            let Some(&slot) = self.track_slots.get(&place.track) else {
                continue;
            };
            if let Ok(packet) = Packet::parse(bytes)
                && usize::from(place.encoding) < MAX_ENCODINGS
            {
                self.ingest(now, slot, place.variant.into(), place.encoding, &packet);
            }
        }
        if let Some(owner) = owner {
            self.links.tell(owner, Inner::Spare(batch.bytes));
        }
    }

    // ---- images of other workers' tracks

    /// Makes the image of a track that another worker has.
    pub(super) fn follow_remote(
        &mut self,
        track: TrackId,
        room: RoomId,
        participant: ParticipantId,
    ) -> usize {
        let options = PublishOptions::default();
        let slot = self
            .tracks
            .insert(Track::new(track, room, participant, options));
        self.track_slots.insert(track, slot);
        let index = self.settings.index;
        self.links.tell(track.worker(), Inner::Follow(track, index));
        slot
    }

    /// An image without subscribers is dropped.
    pub(super) fn unfollow_if_idle(&mut self, slot: usize) {
        let Some(track) = self.tracks.get(slot) else {
            return;
        };
        let (id, index) = (track.id, self.settings.index);
        if id.worker() == index || !track.subscribers.is_empty() {
            return;
        }
        self.tracks.remove(slot);
        self.track_slots.remove(&id);
        self.links.tell(id.worker(), Inner::Unfollow(id, index));
    }

    fn add_follower(&mut self, now: Instant, track: TrackId, from: WorkerIndex) {
        let Some(&slot) = self.track_slots.get(&track) else {
            return self.links.tell(from, Inner::Ended(track));
        };
        let Some(track) = self.tracks.get_mut(slot) else {
            return;
        };
        if !track.followers.contains(&from) {
            track.followers.push(from);
        }
        for variant in 0..track.variants.len() {
            self.describe_to_followers(slot, variant);
        }
        self.judge_wants(now, slot);
    }

    /// Tells all followers what a track is.
    pub(super) fn describe_to_followers(&mut self, slot: usize, variant: usize) {
        let Some(track) = self.tracks.get(slot) else {
            return;
        };
        let Some(found) = track.variants.get(variant) else {
            return;
        };
        for &to in &track.followers {
            let description = Description {
                track: track.id,
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
        let Some(track) = self.tracks.get_mut(slot) else {
            return;
        };
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

fn forget_wants(track: &mut Track, from: WorkerIndex) {
    for slot in &mut track.wanted.remote {
        if slot.is_some_and(|(found, _)| found == from) {
            *slot = None;
        }
    }
}
