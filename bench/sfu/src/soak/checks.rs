//! What has to hold all the time, and how long after something happened.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::churn::{Churn, Departed, Gone, Room};
use crate::server::Server;

/// How long a subscriber may be without packets of a track that is published and not muted: since its last packet, or since both
/// were there, which includes the subscriber's own coming up.
pub(crate) const STUCK: Duration = Duration::from_secs(10);

/// How long the server may take to let somebody in or back in, and the others to hear of it or of a leave.
const GRACE: Duration = Duration::from_secs(5);

/// After how long somebody is forgotten whose signalling connection closed without a word: the server waits 15 s for its return.
const BROKEN: Duration = Duration::from_secs(25);

/// The same for one that stays open in silence: the server closes it after 20 s.
const SILENT: Duration = Duration::from_secs(45);

/// After how long a room that all have left is forgotten, at the latest: the last one may have gone in silence.
const ROOM: Duration = Duration::from_secs(60);

/// Stretches of time in which this machine ran nothing of this program: the clients and most likely the server had none either, and no
/// wait before the end of one counts.
#[derive(Debug, Default)]
struct Pauses {
    count: u64,
    last: Option<Instant>,
}

impl Pauses {
    const EVERY: Duration = Duration::from_millis(200);

    /// How much too late this has to be called for a pause.
    const LATE: Duration = Duration::from_secs(1);

    fn watch() -> Arc<Mutex<Self>> {
        let pauses = Arc::new(Mutex::new(Self::default()));
        let shared = Arc::clone(&pauses);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(Self::EVERY);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let at = interval.tick().await;
                if at.elapsed() > Self::LATE {
                    let mut pauses = shared.lock().expect("nobody panics with it");
                    pauses.count += 1;
                    pauses.last = Some(Instant::now());
                }
            }
        });
        pauses
    }
}

/// Something that must not be.
#[derive(Debug)]
pub(crate) struct Violation(pub(crate) String);

impl From<io::Error> for Violation {
    fn from(error: io::Error) -> Self {
        Self(format!("the server does not answer: {error}"))
    }
}

impl Departed {
    /// After how long nobody may know it any more.
    fn forgotten_after(&self) -> Duration {
        match self.how {
            Gone::Left => GRACE,
            Gone::Broke => BROKEN,
            Gone::Silent => SILENT,
        }
    }
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Waits count from here.
    fresh: Instant,
    pauses: Arc<Mutex<Pauses>>,
    pub(crate) packets: u64,
    /// The longest that a subscriber waited for packets of a track, and which.
    pub(crate) worst: Duration,
    pub(crate) worst_of: String,
    /// The longest for packets of a track that the server had not said it holds back.
    pub(crate) worst_unheld: Duration,
    /// Rooms that ended and began anew.
    pub(crate) ended: u64,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self {
            fresh: Instant::now(),
            pauses: Pauses::watch(),
            packets: 0,
            worst: Duration::ZERO,
            worst_of: String::new(),
            worst_unheld: Duration::ZERO,
            ended: 0,
        }
    }

    fn pauses(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().expect("nobody panics with it")
    }

    /// How often this machine paused.
    pub(crate) fn paused(&self) -> u64 {
        self.pauses().count
    }

    /// How long something has been so, of the time that counts.
    fn age(&self, at: Instant) -> Duration {
        at.max(self.fresh).elapsed()
    }

    fn is_overdue(&self, departed: &Departed) -> bool {
        self.age(departed.at) > departed.forgotten_after()
    }

    /// Looks at all members: their troubles, and what they hear of each other.
    pub(crate) async fn media(&mut self, churn: &Churn) -> Result<(), Violation> {
        let last = self.pauses().last;
        self.fresh = last.unwrap_or(self.fresh);
        for room in &churn.rooms {
            for member in &room.members {
                let who = format!("{} in {}", member.identity, room.name);
                {
                    let view = member.view();
                    if let Some(trouble) = &view.trouble {
                        return Err(Violation(format!("{who}: {trouble}")));
                    }
                    if view.joined.is_none() && self.age(member.begun) > GRACE {
                        return Err(Violation(format!("{who} was not let in within {GRACE:?}")));
                    }
                }
                let counts = member.counts().await.unwrap_or_default();
                if let Some(error) = counts.iter().find_map(|counts| counts.refused.as_ref()) {
                    return Err(Violation(format!("{who} refused a description: {error}")));
                }
                let Some(heard) = counts.first() else {
                    return Err(Violation(format!("{who}: a connection of it ended")));
                };
                self.packets += heard.packets;
                if heard.connected {
                    member.view().connected.get_or_insert_with(Instant::now);
                }
                let now = Instant::now();
                for other in room
                    .members
                    .iter()
                    .filter(|other| other.identity != member.identity)
                {
                    let tracks = other.view().tracks.clone();
                    for track in tracks.iter().filter(|track| !track.muted) {
                        let since = track.since.max(member.begun).max(self.fresh);
                        let last = heard.heard.get(&track.mark);
                        let from = last.map_or(since, |last| since.max(last.last));
                        let gap = now.saturating_duration_since(from);
                        let kind = if track.video { "video" } else { "audio" };
                        let sid = track.sid.as_deref();
                        let held = sid.and_then(|sid| member.view().held.get(sid).copied());
                        let what = format!(
                            "{who} and the {kind} track {} ({}) of {}, {}{}",
                            track.mark,
                            sid.unwrap_or("not answered yet"),
                            other.identity,
                            if last.is_some() {
                                "which it had before"
                            } else {
                                "which it never had"
                            },
                            if held == Some(None) {
                                ", held back for want of bandwidth"
                            } else {
                                ""
                            },
                        );
                        if gap > STUCK {
                            let text = format!(
                                "stuck for {:.1} s: {what}; its connection is {}",
                                gap.as_secs_f64(),
                                if heard.connected { "up" } else { "not up" },
                            );
                            return Err(Violation(text));
                        }
                        if gap > self.worst {
                            (self.worst, self.worst_of) = (gap, what);
                        }
                        let unheld = match held {
                            None => gap,
                            Some(None) => Duration::ZERO,
                            Some(Some(released)) => {
                                gap.min(now.saturating_duration_since(released))
                            }
                        };
                        self.worst_unheld = self.worst_unheld.max(unheld);
                        let view = member.view();
                        let Some(last) = last else { continue };
                        let told = view.mids.get(&last.mid);
                        if let (Some((sid, at)), Some(track_sid)) = (told, &track.sid)
                            && sid != track_sid
                            && last.last > *at + GRACE
                        {
                            let text = format!(
                                "{who} gets the track {track_sid} of {} on section {}, which is to bring {sid}",
                                other.identity, last.mid
                            );
                            return Err(Violation(text));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares what the server's API says, and what members were told of each other, with who is there.
    pub(crate) async fn lists(
        &mut self,
        churn: &mut Churn,
        server: &Server,
    ) -> Result<(), Violation> {
        let is_used = |room: &Room| {
            let mut members = room.members.iter();
            members.any(|member| member.view().joined.is_some())
        };
        // Whoever is in before the list is made does not go until it has come.
        let used: Vec<bool> = churn.rooms.iter().map(is_used).collect();
        let rooms = server.rooms().await?;
        for (room, is_used) in churn.rooms.iter_mut().zip(used) {
            let is_listed = rooms.contains(&room.name);
            if is_used && !is_listed {
                return Err(Violation(format!(
                    "{} is lost while somebody is in it",
                    room.name
                )));
            }
            if let Some(since) = room.closing {
                if !is_listed {
                    room.closing = None;
                    room.departed.clear();
                    self.ended += 1;
                } else if self.age(since) > ROOM {
                    let text = format!("{} is there {ROOM:?} after all have gone", room.name);
                    return Err(Violation(text));
                }
            }
            if is_listed {
                self.check_listed(room, server).await?;
            }
            self.check_rosters(room)?;
            room.departed
                .retain(|departed| departed.at.elapsed() < 3 * SILENT);
        }
        Ok(())
    }

    async fn check_listed(&self, room: &Room, server: &Server) -> Result<(), Violation> {
        let inside: Vec<(String, String)> = room
            .members
            .iter()
            .filter_map(|member| Some((member.identity.clone(), member.view().sid.clone()?)))
            .collect();
        let listed = match server.participants(&room.name).await {
            // It ended between the two questions, as it should.
            Err(error) if inside.is_empty() && error.to_string().contains(" 404 ") => return Ok(()),
            other => other?,
        };
        for (identity, sid) in inside {
            if !listed.iter().any(|participant| participant.sid == sid) {
                let text = format!(
                    "{identity} ({sid}) is in {} and not in the server's list",
                    room.name
                );
                return Err(Violation(text));
            }
        }
        for departed in room
            .departed
            .iter()
            .filter(|departed| self.is_overdue(departed))
        {
            let is_listed = listed
                .iter()
                .any(|participant| Some(&participant.sid) == departed.sid.as_ref());
            if is_listed {
                return Err(Violation(format!(
                    "{} is in the server's list of {} {:.0} s after it went ({:?})",
                    departed.identity,
                    room.name,
                    departed.at.elapsed().as_secs_f64(),
                    departed.how
                )));
            }
        }
        Ok(())
    }

    fn check_rosters(&self, room: &Room) -> Result<(), Violation> {
        let settled = |at: Option<Instant>| at.is_some_and(|at| self.age(at) > GRACE);
        for member in &room.members {
            let view = member.view();
            if !settled(view.signal) {
                continue;
            }
            for other in room
                .members
                .iter()
                .filter(|other| other.identity != member.identity)
            {
                let (sid, joined) = {
                    let view = other.view();
                    (view.sid.clone(), view.joined)
                };
                if settled(joined) && view.roster.get(&other.identity) != sid.as_ref() {
                    return Err(Violation(format!(
                        "{} in {} was not told that {} is there",
                        member.identity, room.name, other.identity
                    )));
                }
            }
            for departed in room
                .departed
                .iter()
                .filter(|departed| self.is_overdue(departed))
            {
                if departed.sid.is_some()
                    && view.roster.get(&departed.identity) == departed.sid.as_ref()
                {
                    return Err(Violation(format!(
                        "{} in {} was not told that {} went",
                        member.identity, room.name, departed.identity
                    )));
                }
            }
        }
        Ok(())
    }
}
