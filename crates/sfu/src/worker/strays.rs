//! Datagrams that reached another worker than the one that has their connection, and where that is.
//!
//! The kernel chooses whose socket a path's datagrams reach. A worker whose socket gets those of another's connection is told
//! so by that one; so is the worker that a connection was born on and that its checks name, once the connection has moved.
//! Both are told when the connection goes on, and when it is no more.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;
use visavis_datagram::{Arrival, Path};
use visavis_stun::PacketKind;

use super::{Worker, checked_ufrag, owner_of_check};
use crate::ids::{ConnectionId, WorkerIndex};

/// Connections of other workers that are remembered; the oldest is forgotten beyond.
const MAX_ABSENT: usize = 65_536;
/// Paths that are remembered of each; the oldest is forgotten beyond.
const MAX_PATHS: usize = 8;
/// Username fragments that are remembered of each: those of two descriptions, and one to come.
const MAX_UFRAGS: usize = 3;

/// What is known of connections that other workers have.
#[derive(Debug, Default)]
pub(super) struct Strays {
    absent: HashMap<ConnectionId, Absent>,
    by_path: HashMap<Path, ConnectionId>,
    by_ufrag: HashMap<Box<str>, ConnectionId>,
    /// In the order in which they were heard of, those that are forgotten among them.
    order: VecDeque<ConnectionId>,
}

/// Where a connection is, after so many moves: of two that are told, that of more moves is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Home {
    pub(super) moves: u32,
    pub(super) worker: WorkerIndex,
}

/// A connection that another worker has.
#[derive(Debug)]
struct Absent {
    home: Home,
    paths: SmallVec<[Path; 2]>,
    ufrags: SmallVec<[Box<str>; 2]>,
}

impl Strays {
    /// A connection is at another worker.
    fn learn(&mut self, id: ConnectionId, home: Home) -> &mut Absent {
        if !self.absent.contains_key(&id) {
            self.order.push_back(id);
            if self.absent.len() >= MAX_ABSENT {
                while let Some(oldest) = self.order.pop_front() {
                    if self.forget(oldest) {
                        break;
                    }
                }
            }
            if self.order.len() > 2 * MAX_ABSENT.min(self.absent.len() + 32) {
                let absent = &self.absent;
                self.order
                    .retain(|known| absent.contains_key(known) || *known == id);
            }
        }
        let found = self.absent.entry(id).or_insert_with(|| Absent {
            home,
            paths: SmallVec::new(),
            ufrags: SmallVec::new(),
        });
        found.home = found.home.max(home);
        found
    }

    /// A connection at another worker uses a path whose datagrams come here.
    pub(super) fn learn_path(&mut self, id: ConnectionId, home: Home, path: Path) {
        let known = self.learn(id, home);
        if known.paths.contains(&path) {
            return;
        }
        known.paths.push(path);
        let oldest = (known.paths.len() > MAX_PATHS).then(|| known.paths.remove(0));
        if let Some(oldest) = oldest {
            self.by_path.remove(&oldest);
        }
        let before = self.by_path.insert(path, id);
        if let Some(before) = before.and_then(|before| self.absent.get_mut(&before)) {
            before.paths.retain(|known| *known != path);
        }
    }

    /// A connection that was born here, and is at another worker, is checked under this name.
    pub(super) fn learn_ufrag(&mut self, id: ConnectionId, home: Home, ufrag: Box<str>) {
        let known = self.learn(id, home);
        if known.ufrags.contains(&ufrag) {
            return;
        }
        known.ufrags.push(ufrag.clone());
        let oldest = (known.ufrags.len() > MAX_UFRAGS).then(|| known.ufrags.remove(0));
        if let Some(oldest) = oldest {
            self.by_ufrag.remove(&oldest);
        }
        self.by_ufrag.insert(ufrag, id);
    }

    /// A connection has gone on; nothing changes if it is not known here.
    pub(super) fn moved(&mut self, id: ConnectionId, home: Home) {
        if let Some(known) = self.absent.get_mut(&id) {
            known.home = known.home.max(home);
        }
    }

    /// A connection is here, or is no more. False if it was not known.
    pub(super) fn forget(&mut self, id: ConnectionId) -> bool {
        let Some(known) = self.absent.remove(&id) else {
            return false;
        };
        for path in known.paths {
            if self.by_path.get(&path) == Some(&id) {
                self.by_path.remove(&path);
            }
        }
        for ufrag in known.ufrags {
            self.by_ufrag.remove(&ufrag);
        }
        true
    }

    /// The worker that has the connection of a datagram, if it is known here: by the name in a check, or else by the path.
    fn home_of(&self, path: Path, datagram: &[u8]) -> Option<WorkerIndex> {
        if checked_ufrag(datagram).is_some() {
            return self.home_of_check(datagram);
        }
        let id = self.by_path.get(&path)?;
        Some(self.absent.get(id)?.home.worker)
    }

    /// The worker that has the connection that a check names, which was born here and has moved.
    fn home_of_check(&self, datagram: &[u8]) -> Option<WorkerIndex> {
        let id = self.by_ufrag.get(checked_ufrag(datagram)?)?;
        Some(self.absent.get(id)?.home.worker)
    }

    /// How many connections are remembered.
    pub(super) fn len(&self) -> usize {
        self.absent.len()
    }
}

impl Worker {
    /// A datagram that belongs to no connection here: to the worker that has it, if one does.
    pub(super) fn stray(&mut self, arrival: Arrival, datagram: &[u8]) -> bool {
        let (index, workers) = (self.settings.index, self.settings.workers);
        if workers < 2 {
            return false;
        }
        let named = owner_of_check(datagram).filter(|&named| named != index);
        let known = named.or_else(|| self.strays.home_of(arrival.path, datagram));
        let is_response = visavis_stun::classify(datagram) == PacketKind::Stun
            && matches!(datagram.first(), Some(0x01));
        match known {
            Some(to) if to < workers && to != index => {
                self.links.hand_over(to, arrival, index, datagram);
            }
            // The answer to a check of somebody's: its transaction is known there alone.
            _ if is_response => {
                for to in (0..workers).filter(|&to| to != index) {
                    self.links.hand_over(to, arrival, index, datagram);
                }
            }
            _ => return false,
        }
        self.stats.handed_over += 1;
        true
    }

    /// The worker that a stream is for which was accepted for this one, by its first message: a check that names a connection
    /// which was born here, and has moved.
    pub fn home_of_stream(&self, first: &[u8]) -> Option<WorkerIndex> {
        self.strays.home_of_check(first)
    }

    /// A datagram that another worker handed over, whose socket it reached.
    pub(super) fn handed_over(
        &mut self,
        now: std::time::Instant,
        arrival: Arrival,
        reached: WorkerIndex,
        datagram: &mut [u8],
    ) {
        if let Some(slot) = self.route(arrival.path, datagram) {
            if let Some(connection) = self.connections.get_mut(slot)
                && reached != self.settings.index
            {
                connection.came_by(arrival.path, reached);
            }
            return self.receive(now, slot, arrival, datagram);
        }
        // Its connection was here, or was born here, and has moved.
        let home = self.strays.home_of(arrival.path, datagram);
        if let Some(home) = home.filter(|&home| home != self.settings.index) {
            self.links.hand_over(home, arrival, reached, datagram);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn path(port: u16) -> Path {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Path::udp(at(1), at(port))
    }

    const fn home(moves: u32, worker: WorkerIndex) -> Home {
        Home { moves, worker }
    }

    /// Workers that a connection left tell of it on ways of their own.
    #[test]
    fn what_is_told_late_changes_nothing() {
        let mut strays = Strays::default();
        let id = ConnectionId::new(0, 1);
        strays.learn_path(id, home(2, 3), path(1));
        strays.learn_path(id, home(1, 1), path(2));
        strays.learn_ufrag(id, home(1, 1), "w0/a".into());
        strays.moved(id, home(0, 2));
        for port in [1, 2] {
            assert_eq!(strays.home_of(path(port), &[0x80; 12]), Some(3));
        }
        strays.moved(id, home(3, 2));
        assert_eq!(strays.home_of(path(1), &[0x80; 12]), Some(2));
    }

    #[test]
    fn what_is_known_is_bounded_and_is_forgotten() {
        let mut strays = Strays::default();
        let id = |number| ConnectionId::new(0, number);
        for number in 0..3 * MAX_ABSENT as u64 {
            strays.learn_path(id(number), home(0, 1), path(number as u16));
            strays.learn_ufrag(id(number), home(0, 1), format!("w0/{number}").into());
        }
        let bound = MAX_ABSENT;
        assert!(strays.absent.len() <= bound && strays.by_path.len() <= bound);
        assert!(strays.by_ufrag.len() <= bound && strays.order.len() <= 2 * bound);
        // Who comes and goes leaves nothing, however often.
        let last = id(3 * MAX_ABSENT as u64 - 1);
        for number in 0..3 * MAX_ABSENT as u64 {
            let guest = id(1 << 32 | number);
            strays.learn_path(guest, home(0, 2), path(7));
            assert!(strays.forget(guest) && !strays.forget(guest));
        }
        assert!(strays.order.len() <= 2 * bound, "{}", strays.order.len());
        strays.moved(last, home(1, 3));
        assert_eq!(strays.absent[&last].home, home(1, 3));
        for number in 0..20 {
            strays.learn_path(last, home(1, 3), path(100 + number));
            strays.learn_ufrag(last, home(1, 3), format!("w0/x{number}").into());
        }
        let known = &strays.absent[&last];
        assert_eq!(known.paths.len(), MAX_PATHS);
        assert_eq!(known.ufrags.len(), MAX_UFRAGS);
        assert!(!strays.by_path.contains_key(&path(100)));
    }
}
