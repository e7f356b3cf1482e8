//! Rooms: who speaks, and how well everybody is connected.

use std::collections::HashMap;
use std::time::Instant;

use visavis_peer::{ConnectionState, Kind};

use super::Worker;
use super::timers::{Alarm, Due};
use crate::events::{Event, Speaker};
use crate::ids::{ParticipantId, RoomId, WorkerIndex};

/// A room, as far as this worker has a part in it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Slots of the sound that is published here.
    sounds: Vec<usize>,
    /// Who spoke, and how loud, as was told last.
    speaking: Vec<(ParticipantId, f32)>,
    /// Who speaks at other workers; only where this one tells for all.
    elsewhere: Vec<(WorkerIndex, Vec<(ParticipantId, f32)>)>,
    alarm: Alarm,
}

impl Worker {
    /// A track joins its room, in which is looked at `at` the latest who speaks.
    pub(super) fn enter_room(&mut self, at: Instant, id: RoomId, track: usize) {
        let is_sound = self
            .tracks
            .get(track)
            .is_some_and(|track| track.id.kind() == Kind::Audio);
        if !is_sound {
            return;
        }
        let room = self.rooms.entry(id).or_default();
        room.sounds.push(track);
        self.timers.set(&mut room.alarm, at, Due::Room(id));
    }

    /// A track leaves its room.
    pub(super) fn leave_room(&mut self, id: RoomId, track: usize) {
        if let Some(room) = self.rooms.get_mut(&id) {
            room.sounds.retain(|&found| found != track);
        }
    }

    /// Judges who speaks.
    pub(super) fn room_timeout(&mut self, now: Instant, id: RoomId) {
        let forwarding = self.settings.forwarding;
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        if !room.alarm.take(now) {
            return;
        }
        let mut speaking: Vec<(ParticipantId, f32)> = Vec::new();
        for &slot in &room.sounds {
            let Some(track) = self.tracks.get_mut(slot) else {
                continue;
            };
            let level = track
                .level
                .end_interval(now, forwarding.speaker_interval, &forwarding);
            if level == 0.0 || track.muted {
                continue;
            }
            match speaking
                .iter_mut()
                .find(|(who, _)| *who == track.participant)
            {
                Some((_, loudest)) => *loudest = loudest.max(level),
                None => speaking.push((track.participant, level)),
            }
        }
        let is_home = self.links.home_of(id) == self.settings.index;
        if is_home {
            for &(who, level) in room.elsewhere.iter().flat_map(|(_, levels)| levels) {
                match speaking.iter_mut().find(|(known, _)| *known == who) {
                    Some((_, loudest)) => *loudest = loudest.max(level),
                    None => speaking.push((who, level)),
                }
            }
        }
        speaking.sort_by(|(a, la), (b, lb)| lb.total_cmp(la).then(a.cmp(b)));
        let changed = speaking != room.speaking;
        let former = std::mem::replace(&mut room.speaking, speaking);
        let is_idle = room.sounds.is_empty() && room.elsewhere.is_empty();
        if changed && !is_home {
            self.links.levels(id, room.speaking.clone());
        }
        if is_idle {
            self.rooms.remove(&id);
        } else {
            let at = now + forwarding.speaker_interval;
            self.timers.set(&mut room.alarm, at, Due::Room(id));
        }
        if !changed || !is_home {
            return;
        }
        let now_speaking = self.rooms.get(&id).map(|room| &room.speaking[..]);
        let now_speaking = now_speaking.unwrap_or_default();
        let active = now_speaking.iter().map(|&(participant, level)| Speaker {
            participant,
            level,
            active: true,
        });
        let silent = |who: &ParticipantId| now_speaking.iter().all(|(other, _)| other != who);
        let stopped = former
            .iter()
            .filter(|(who, _)| silent(who))
            .map(|&(participant, _)| Speaker {
                participant,
                level: 0.0,
                active: false,
            });
        let speakers = active.chain(stopped).collect();
        self.tell(Event::Speakers { room: id, speakers });
    }

    /// Who speaks at another worker.
    pub(super) fn take_levels(
        &mut self,
        now: Instant,
        id: RoomId,
        from: WorkerIndex,
        levels: Vec<(ParticipantId, f32)>,
    ) {
        let room = self.rooms.entry(id).or_default();
        room.elsewhere.retain(|(known, _)| *known != from);
        if !levels.is_empty() {
            room.elsewhere.push((from, levels));
        }
        self.timers.set(&mut room.alarm, now, Due::Room(id));
    }

    /// Judges how well a connection's participant is connected.
    pub(super) fn judge_quality(&mut self, now: Instant, slot: usize) {
        let interval = self.settings.forwarding.quality_interval;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.quality_at = Some(now + interval);
        connection.needs_schedule = true;
        // What they lose of ours, and what we lose of theirs.
        let (mut received, mut lost) = (0, 0);
        for stats in connection.peer.inbound_stats() {
            received += stats.packets_received;
            lost += stats.packets_lost.max(0) as u64;
        }
        let (was_received, was_lost) = std::mem::replace(&mut connection.inbound, (received, lost));
        let (received, lost) = (
            received.saturating_sub(was_received),
            lost.saturating_sub(was_lost),
        );
        let up = lost as f64 / (received + lost).max(1) as f64;
        let down = connection.loss;
        let trip = connection.round_trip.map_or(0, |trip| trip.as_millis());
        let paused = connection
            .subscriptions
            .iter()
            .filter(|(_, s)| s.paused)
            .count();
        let state = connection.peer.connection_state();
        let worst = up.max(down);
        let (score, why) = match state {
            ConnectionState::Disconnected | ConnectionState::Failed => {
                (1, "the path does not answer".to_owned())
            }
            _ => {
                let by_loss = match worst {
                    loss if loss < 0.02 => 5,
                    loss if loss < 0.05 => 4,
                    loss if loss < 0.12 => 3,
                    _ => 2,
                };
                let by_delay = match trip {
                    0..250 => 5,
                    250..400 => 4,
                    400..700 => 3,
                    _ => 2,
                };
                let by_room = if paused > 0 { 3 } else { 5 };
                let why = format!(
                    "{:.1} % lost up, {:.1} % down, {trip} ms round trip, {paused} paused",
                    up * 100.0,
                    down * 100.0,
                );
                (by_loss.min(by_delay).min(by_room), why)
            }
        };
        connection.quality = score;
        let participant = connection.participant;
        let theirs = self.participants.get(&participant);
        let worst = theirs
            .into_iter()
            .flat_map(|theirs| &theirs.connections)
            .filter_map(|&slot| self.connections.get(slot))
            .map(|connection| connection.quality)
            .min()
            .unwrap_or(score);
        if let Some(theirs) = self.participants.get_mut(&participant)
            && theirs.told != worst
        {
            theirs.told = worst;
            self.tell(Event::Quality {
                participant,
                score: worst,
                why,
            });
        }
    }

    /// A connection of a participant comes.
    pub(super) fn join(&mut self, participant: ParticipantId, slot: usize) {
        let theirs = self.participants.entry(participant).or_default();
        theirs.connections.push(slot);
    }

    /// A connection of a participant goes.
    pub(super) fn part(&mut self, participant: ParticipantId, slot: usize) {
        let Some(theirs) = self.participants.get_mut(&participant) else {
            return;
        };
        theirs.connections.retain(|found| *found != slot);
        if theirs.connections.is_empty() {
            self.participants.remove(&participant);
        }
    }
}

/// The connections of one participant, and the quality that was told.
#[derive(Debug, Default)]
pub(super) struct Participant {
    connections: smallvec::SmallVec<[usize; 2]>,
    told: u8,
}

/// All participants of a worker.
pub(super) type Participants = HashMap<ParticipantId, Participant>;
