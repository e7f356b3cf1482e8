//! Who comes, goes, and publishes what, by a seed.

use std::time::{Duration, Instant};

use bench_sfu::client::{self, Publishes, Setup, Source};
use visavis_datagram::Random;
use visavis_rtp::payload::Codec;

use crate::member::{Member, Order, Published};

/// Members that a room has: as many as it will ever have in the beginning, so that memory has its peak then.
const MEMBERS: std::ops::RangeInclusive<usize> = 3..=6;

/// Members of the first room that stay to the end.
const RESIDENTS: usize = 2;

/// One thing in so many closes a room: all go, and it begins anew when the server has forgotten it. The first room is never closed.
const CLOSING: u64 = 60;

/// How long a connection is up here until it is up at the server too, at the latest.
const SETTLED: Duration = Duration::from_secs(3);

/// The last things done that are remembered.
const STORY: usize = 300;

/// What frames and sound are sent of the usual 30 and 50 a second.
const RATE: f64 = 0.5;

/// How somebody went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    Left,
    Broke,
    Silent,
}

/// Somebody who is not there any more.
#[derive(Debug)]
pub(crate) struct Departed {
    pub(crate) identity: String,
    /// The session, if there was one.
    pub(crate) sid: Option<String>,
    pub(crate) at: Instant,
    pub(crate) how: Gone,
}

pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) members: Vec<Member>,
    pub(crate) departed: Vec<Departed>,
    /// Since when all have gone, until the server has forgotten it.
    pub(crate) closing: Option<Instant>,
}

/// How often what was done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) joins: u64,
    pub(crate) leaves: u64,
    pub(crate) vanished: u64,
    pub(crate) publishes: u64,
    pub(crate) unpublishes: u64,
    pub(crate) mutes: u64,
    pub(crate) resumes: u64,
    pub(crate) closings: u64,
}

pub(crate) struct Churn {
    pub(crate) rooms: Vec<Room>,
    pub(crate) tally: Tally,
    random: Random,
    port: u16,
    setup: Setup,
    people: u64,
    tracks: u32,
    /// The last things done, for who looks for a cause.
    pub(crate) story: Vec<String>,
    begun: Instant,
}

impl Churn {
    pub(crate) fn new(port: u16, seed: u64, rooms: usize, loss: f64) -> Self {
        let mut random = Random::from_u64(seed);
        let setup = Setup {
            number: random.u64() >> 16,
            certificate: client::certificate(),
            publishes: Publishes {
                share: RATE,
                ..Publishes::default()
            },
            light: false,
            epoch: Instant::now(),
            loss,
        };
        let room = |index| Room {
            name: format!("room-{index}"),
            members: Vec::new(),
            departed: Vec::new(),
            closing: None,
        };
        let mut churn = Self {
            rooms: (0..rooms).map(room).collect(),
            tally: Tally::default(),
            random,
            port,
            setup,
            people: 0,
            tracks: 0,
            story: Vec::new(),
            begun: Instant::now(),
        };
        for room in 0..rooms {
            for _ in 0..*MEMBERS.end() {
                churn.join(room, None);
            }
        }
        churn
    }

    /// When the next thing happens.
    pub(crate) fn pause(&mut self) -> Duration {
        Duration::from_millis(300 + self.random.below(1400))
    }

    /// Does one thing in one room.
    pub(crate) fn act(&mut self) {
        let room = self.random.below(self.rooms.len() as u64) as usize;
        let members = self.rooms[room].members.len();
        if self.rooms[room].closing.is_some() {
            return;
        }
        if members < *MEMBERS.start() {
            return self.join(room, None);
        }
        if self.random.below(CLOSING) == 0 && room > 0 {
            return self.close(room);
        }
        let who = self.random.below(members as u64) as usize;
        let stays = room == 0 && who < RESIDENTS;
        if self.rooms[room].members[who].view().signal.is_none() {
            // It is on its way in, or back; what it is told now it would do later.
            return;
        }
        match self.random.below(100) {
            0..25 if members < *MEMBERS.end() => self.join(room, None),
            0..25 => self.publish(room, who),
            25..45 if stays => self.publish(room, who),
            25..33 => self.go(room, who, Gone::Left),
            33..37 => self.go(room, who, Gone::Broke),
            37..41 => self.go(room, who, Gone::Silent),
            41..45 => {
                // The same person comes back before the server has noticed.
                let identity = self.rooms[room].members[who].identity.clone();
                let silent = self.random.chance(0.5);
                self.go(room, who, if silent { Gone::Silent } else { Gone::Broke });
                self.join(room, Some(identity));
            }
            45..59 => self.publish(room, who),
            59..70 => self.unpublish(room, who),
            70..88 => self.mute(room, who),
            _ => {
                // The server gives no place to come back to before media has flowed.
                let connected = self.rooms[room].members[who].view().connected;
                if connected.is_none_or(|at| at.elapsed() < SETTLED) {
                    return;
                }
                let pause = Duration::from_millis(self.random.below(4000));
                self.tally.resumes += 1;
                self.tell(
                    room,
                    who,
                    &format!("loses its signalling connection for {pause:?}"),
                );
                self.rooms[room].members[who].order(Order::LoseSignal(pause));
            }
        }
    }

    /// All go.
    pub(crate) fn end(&mut self) {
        for room in 0..self.rooms.len() {
            if !self.rooms[room].members.is_empty() {
                self.close(room);
            }
        }
    }

    fn tell(&mut self, room: usize, who: usize, what: &str) {
        let room = &self.rooms[room];
        let at = self.begun.elapsed().as_secs_f64();
        let line = format!(
            "{at:.1} s: {} {} {what}",
            room.name, room.members[who].identity
        );
        if self.story.len() == STORY {
            self.story.remove(0);
        }
        self.story.push(line);
    }

    fn join(&mut self, room: usize, identity: Option<String>) {
        self.people += 1;
        self.tally.joins += 1;
        let identity = identity.unwrap_or_else(|| format!("p{}", self.people));
        let mut sources = Vec::new();
        if self.random.chance(0.9) {
            sources.push(self.source(false));
        }
        if self.random.chance(0.6) {
            sources.push(self.source(true));
        }
        let what: Vec<u32> = sources.iter().map(|source| source.mark).collect();
        let number = self.setup.number.wrapping_add(self.people);
        let name = self.rooms[room].name.clone();
        let single = self.random.chance(0.5);
        let setup = &self.setup;
        let member = Member::join(self.port, &name, identity, number, setup, single, sources);
        self.rooms[room].members.push(member);
        let who = self.rooms[room].members.len() - 1;
        self.tell(
            room,
            who,
            &format!("joins, single connection {single}, with tracks {what:?}"),
        );
    }

    fn source(&mut self, video: bool) -> Source {
        self.tracks += 1;
        let (codec, sizes) = match video {
            false => (Codec::Opus, vec![100]),
            true if self.random.chance(0.4) => (Codec::Vp8, vec![200, 500, 1000]),
            true => (Codec::Vp8, vec![800]),
        };
        Source {
            mark: self.tracks,
            codec,
            sizes,
        }
    }

    fn go(&mut self, room: usize, who: usize, how: Gone) {
        self.tell(room, who, &format!("goes: {how:?}"));
        let member = self.rooms[room].members.remove(who);
        let sid = member.view().sid.clone();
        if how == Gone::Left {
            self.tally.leaves += 1;
        } else {
            self.tally.vanished += 1;
        }
        member.order(match how {
            Gone::Left => Order::Leave,
            Gone::Broke => Order::Vanish { silent: false },
            Gone::Silent => Order::Vanish { silent: true },
        });
        self.rooms[room].departed.push(Departed {
            identity: member.identity.clone(),
            sid,
            at: Instant::now(),
            how,
        });
    }

    fn close(&mut self, room: usize) {
        self.tally.closings += 1;
        while !self.rooms[room].members.is_empty() {
            let how = match self.random.below(4) {
                0 => Gone::Broke,
                1 => Gone::Silent,
                _ => Gone::Left,
            };
            self.go(room, 0, how);
        }
        self.rooms[room].closing = Some(Instant::now());
    }

    fn publish(&mut self, room: usize, who: usize) {
        let tracks = self.rooms[room].members[who].view().tracks.clone();
        let has = |video| tracks.iter().any(|track| track.video == video);
        let video = match (has(false), has(true)) {
            (true, true) => return self.unpublish(room, who),
            (true, false) => true,
            (false, true) => false,
            (false, false) => self.random.chance(0.5),
        };
        self.tally.publishes += 1;
        let source = self.source(video);
        self.tell(room, who, &format!("publishes {source:?}"));
        self.rooms[room].members[who].order(Order::Publish(source));
    }

    fn one_track(&mut self, room: usize, who: usize) -> Option<Published> {
        let tracks = self.rooms[room].members[who].view().tracks.clone();
        let settled: Vec<&Published> = tracks.iter().filter(|track| track.sid.is_some()).collect();
        let index = self.random.below(settled.len().max(1) as u64) as usize;
        settled.get(index).copied().cloned()
    }

    fn unpublish(&mut self, room: usize, who: usize) {
        let Some(track) = self.one_track(room, who) else {
            return;
        };
        let (mark, stop) = (track.mark, self.random.chance(0.5));
        self.tally.unpublishes += 1;
        self.tell(room, who, &format!("unpublishes {mark}, stop {stop}"));
        self.rooms[room].members[who].order(Order::Unpublish { mark, stop });
    }

    fn mute(&mut self, room: usize, who: usize) {
        let Some(track) = self.one_track(room, who) else {
            return;
        };
        let (mark, muted) = (track.mark, !track.muted);
        self.tally.mutes += 1;
        self.tell(room, who, &format!("mutes {mark}: {muted}"));
        self.rooms[room].members[who].order(Order::Mute { mark, muted });
    }
}
