//! Several servers asked, the first that answers taken.

use std::time::{Duration, Instant};

use visavis_datagram::{Path, Random, Transmit, TransmitBuf};

use super::agent::Client;
use super::config::ClientConfig;
use super::data::Received;
use super::event::{Event, Failure};

/// How many servers race at most; more are not asked.
const MAX_RUNNERS: usize = 16;

/// What a race tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RaceEvent {
    /// The runner with this index (in the order of [`Race::new`]) has an allocation; the others give
    /// theirs back. From now on its events come as [`RaceEvent::Runner`].
    Won(usize),
    /// An event of a runner. Before the race is won only [`Event::NewPathNeeded`] and
    /// [`Event::Failed`], then the winner's.
    Runner(usize, Event),
    /// Every runner failed; the failure of the last.
    Lost(Failure),
}

/// Asks servers one after the other, without waiting for an answer, until one gives an allocation.
#[derive(Debug)]
pub struct Race {
    waiting: std::vec::IntoIter<(Path, ClientConfig)>,
    stagger: Duration,
    next: Instant,
    random: Random,
    runners: Vec<Client>,
    winner: Option<usize>,
    lost: bool,
}

impl Race {
    /// A race of the servers (16 at most) in their order: the first is asked at once, each other `stagger` later than
    /// the one before, or as soon as all before have failed.
    pub fn new(
        now: Instant,
        servers: Vec<(Path, ClientConfig)>,
        stagger: Duration,
        random: Random,
    ) -> Self {
        let mut servers = servers;
        servers.truncate(MAX_RUNNERS);
        let mut race = Self {
            waiting: servers.into_iter(),
            stagger,
            next: now,
            random,
            runners: Vec::new(),
            winner: None,
            lost: false,
        };
        race.start_due(now);
        race
    }

    /// The winner.
    pub fn winner(&mut self) -> Option<&mut Client> {
        self.runners.get_mut(self.winner?)
    }

    /// A runner: to [reconnect](Client::reconnect) it, or to hand it what its path brings.
    pub fn runner(&mut self, index: usize) -> Option<&mut Client> {
        self.runners.get_mut(index)
    }

    /// Whether every loser has given back what it had.
    pub fn is_settled(&self) -> bool {
        self.waiting.as_slice().is_empty()
            && (0..)
                .zip(&self.runners)
                .all(|(index, runner)| Some(index) == self.winner || runner.is_over())
    }

    /// Takes a datagram for whichever runner has its path: see [`Client::unwrap`].
    pub fn unwrap(&mut self, now: Instant, from: Path, datagram: &[u8]) -> Received {
        for runner in &mut self.runners {
            match runner.unwrap(now, from, datagram) {
                Received::NotOurs => {}
                received => return received,
            }
        }
        Received::NotOurs
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        for runner in &mut self.runners {
            runner.handle_timeout(now);
        }
        self.start_due(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let start = (!self.waiting.as_slice().is_empty()).then_some(self.next);
        let runners = self.runners.iter().filter_map(Client::poll_timeout);
        runners.chain(start).min()
    }

    /// The next request of any runner.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        self.runners
            .iter_mut()
            .find_map(|runner| runner.poll_transmit(now, out))
    }

    /// What happened since the last call. `now` is for what follows from it: the winner's rivals are closed.
    pub fn poll_event(&mut self, now: Instant) -> Option<RaceEvent> {
        for index in 0..self.runners.len() {
            while let Some(event) = self.runners[index].poll_event() {
                if let Some(event) = self.judge(now, index, event) {
                    return Some(event);
                }
            }
        }
        None
    }

    fn judge(&mut self, now: Instant, index: usize, event: Event) -> Option<RaceEvent> {
        match (self.winner, event) {
            (Some(winner), event) if winner == index => Some(RaceEvent::Runner(index, event)),
            (Some(_), _) => None,
            (None, Event::Allocated { .. }) => {
                self.winner = Some(index);
                self.waiting = Vec::new().into_iter();
                for (other, runner) in self.runners.iter_mut().enumerate() {
                    if other != index {
                        runner.close(now);
                    }
                }
                Some(RaceEvent::Won(index))
            }
            (None, Event::Failed(failure)) => {
                if self.runners.iter().all(Client::is_over) {
                    if self.waiting.as_slice().is_empty() {
                        return (!std::mem::replace(&mut self.lost, true))
                            .then_some(RaceEvent::Lost(failure));
                    }
                    self.next = now;
                    self.start_due(now);
                }
                Some(RaceEvent::Runner(index, Event::Failed(failure)))
            }
            (None, event) => Some(RaceEvent::Runner(index, event)),
        }
    }

    fn start_due(&mut self, now: Instant) {
        while self.winner.is_none() && now >= self.next {
            let Some((path, config)) = self.waiting.next() else {
                return;
            };
            let random = self.random.fork();
            self.runners.push(Client::new(now, path, config, random));
            self.next = now + self.stagger;
        }
    }
}
