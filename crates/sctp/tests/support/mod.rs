//! Two associations joined back to back, with time that the test moves.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use visavis_datagram::{Random, TransmitBuf};
use visavis_sctp::{Association, Config, Event, Message};

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    A,
    B,
}

/// Decides whether a packet arrives.
pub type Pass = Box<dyn FnMut(End, &[u8]) -> bool>;

/// Two ends, and packets under way with the time of their arrival.
pub struct Pair {
    pub now: Instant,
    pub a: Association,
    pub b: Association,
    pub delay: Duration,
    /// Asked for each packet: whether it arrives.
    pub pass: Pass,
    to_a: VecDeque<(Instant, Vec<u8>)>,
    to_b: VecDeque<(Instant, Vec<u8>)>,
    pub events_a: Vec<Event>,
    pub events_b: Vec<Event>,
    pub received_a: Vec<Message>,
    pub received_b: Vec<Message>,
    pub reading: bool,
    out: TransmitBuf,
}

impl Pair {
    pub fn new(a: Config, b: Config) -> Self {
        Self {
            now: Instant::now(),
            a: Association::new(a, Random::from_u64(1)),
            b: Association::new(b, Random::from_u64(2)),
            delay: Duration::from_millis(10),
            pass: Box::new(|_, _| true),
            to_a: VecDeque::new(),
            to_b: VecDeque::new(),
            events_a: Vec::new(),
            events_b: Vec::new(),
            received_a: Vec::new(),
            received_b: Vec::new(),
            reading: true,
            out: TransmitBuf::new(32, 1500),
        }
    }

    /// What carries the packets has room for `mtu` bytes from now on.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.out = TransmitBuf::new(32, mtu);
    }

    /// A pair that is connected.
    pub fn connected(a: Config, b: Config) -> Self {
        let mut pair = Self::new(a, b);
        pair.a.connect(pair.now).unwrap();
        pair.b.connect(pair.now).unwrap();
        pair.run_for(Duration::from_millis(200));
        assert!(matches!(pair.events_a[0], Event::Established(_)));
        assert!(matches!(pair.events_b[0], Event::Established(_)));
        pair
    }

    pub fn flush(&mut self) {
        for from in [End::A, End::B] {
            loop {
                self.out.clear();
                let machine = match from {
                    End::A => &mut self.a,
                    End::B => &mut self.b,
                };
                if machine.poll_transmit(self.now, &mut self.out).is_none() {
                    break;
                }
                for (datagram, payload) in self.out.datagrams_mut() {
                    let packet = &datagram[payload];
                    if (self.pass)(from, packet) {
                        let entry = (self.now + self.delay, packet.to_vec());
                        match from {
                            End::A => self.to_b.push_back(entry),
                            End::B => self.to_a.push_back(entry),
                        }
                    }
                }
            }
        }
        while let Some(event) = self.a.poll_event() {
            self.events_a.push(event);
        }
        while let Some(event) = self.b.poll_event() {
            self.events_b.push(event);
        }
        if self.reading {
            while let Some(message) = self.a.recv() {
                self.received_a.push(message);
            }
            while let Some(message) = self.b.recv() {
                self.received_b.push(message);
            }
        }
    }

    /// Lets `span` pass.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0u64;
        loop {
            self.flush();
            self.flush();
            let next = [
                self.to_a.front().map(|e| e.0),
                self.to_b.front().map(|e| e.0),
                self.a.poll_timeout(),
                self.b.poll_timeout(),
            ]
            .into_iter()
            .flatten()
            .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while self.to_a.front().is_some_and(|e| e.0 <= self.now) {
                let (_, packet) = self.to_a.pop_front().unwrap();
                self.a.handle_packet(self.now, &packet);
            }
            while self.to_b.front().is_some_and(|e| e.0 <= self.now) {
                let (_, packet) = self.to_b.pop_front().unwrap();
                self.b.handle_packet(self.now, &packet);
            }
            self.a.handle_timeout(self.now);
            self.b.handle_timeout(self.now);
            steps += 1;
            assert!(steps < 3_000_000, "the machines spin");
        }
        self.now = end;
    }
}
