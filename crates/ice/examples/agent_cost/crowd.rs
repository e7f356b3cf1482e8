//! Many idle agents in one process, over a virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_ice::{Agent, Config, Event, LocalAddress, RemoteParameters, Role};

/// Agents in pairs that hear each other at once, over a virtual clock.
pub(crate) struct Crowd {
    pub(crate) now: Instant,
    pub(crate) agents: Vec<Agent>,
    /// Due times, and which one of an agent's is the latest.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    armed: Vec<Option<Instant>>,
    out: TransmitBuf,
    /// Datagrams that the agents sent.
    pub(crate) datagrams: u64,
}

/// The address of one of them.
pub(crate) fn address(index: usize) -> SocketAddr {
    let [_, a, b, c] = (index as u32).to_be_bytes();
    SocketAddr::from(([10, a, b, c], 5000))
}

impl Crowd {
    /// So many, connecting.
    pub(crate) fn new(count: usize) -> Self {
        let now = Instant::now();
        let config = |role| {
            Arc::new(Config {
                role,
                ..Config::default()
            })
        };
        let configs = [config(Role::Controlling), config(Role::Controlled)];
        let mut agents: Vec<Agent> = (0..count)
            .map(|index| {
                let random = Random::from_u64(index as u64);
                let mut agent = Agent::new(configs[index % 2].clone(), random, now);
                let local = LocalAddress::udp(address(index));
                agent.add_local_address(now, local).expect("a good address");
                agent.gather(now);
                agent
            })
            .collect();
        for index in 0..count {
            let other = &mut agents[index ^ 1];
            let parameters = RemoteParameters::new(other.local_credentials().clone());
            let mut candidates = Vec::new();
            while let Some(event) = other.poll_event() {
                if let Event::Candidate(candidate) = event {
                    candidates.push(candidate);
                }
            }
            let agent = &mut agents[index];
            agent.set_remote(now, parameters).expect("good credentials");
            for candidate in candidates {
                agent.add_remote_candidate(now, candidate);
            }
            agent.end_of_remote_candidates(now);
        }
        let mut crowd = Self {
            now,
            armed: vec![None; count],
            timers: BinaryHeap::with_capacity(2 * count),
            agents,
            out: TransmitBuf::new(1, 1400),
            datagrams: 0,
        };
        for index in 0..count {
            crowd.settle(index);
        }
        crowd
    }

    /// Sends what an agent has, and what follows from it.
    fn settle(&mut self, index: usize) {
        let mut next = Some(index);
        while let Some(index) = next.take() {
            while let Some(transmit) = self.agents[index].poll_transmit(self.now, &mut self.out) {
                self.datagrams += 1;
                let mut bytes = [0; 1400];
                let len = self.out.as_slice().len();
                bytes[..len].copy_from_slice(self.out.as_slice());
                let from = Path::udp(transmit.destination, transmit.source);
                self.agents[index ^ 1].handle_datagram(self.now, from, &mut bytes[..len]);
                next = Some(index ^ 1);
            }
            while self.agents[index].poll_event().is_some() {}
            self.arm(index);
        }
    }

    fn arm(&mut self, index: usize) {
        let due = self.agents[index].poll_timeout();
        if due != self.armed[index] {
            self.armed[index] = due;
            if let Some(due) = due {
                self.timers.push(Reverse((due, index)));
            }
        }
    }

    /// Lets virtual time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(&Reverse((due, index))) = self.timers.peek() {
            if due > end {
                break;
            }
            self.timers.pop();
            if self.armed[index] != Some(due) {
                continue;
            }
            self.armed[index] = None;
            self.now = self.now.max(due);
            self.agents[index].handle_timeout(self.now);
            self.settle(index);
            self.settle(index ^ 1);
        }
        self.now = end;
    }
}
