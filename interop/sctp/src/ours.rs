//! visavis-sctp.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use visavis_datagram::{Random, TransmitBuf};
use visavis_sctp::{Association, Config, Event, Ppid, Reliability, SendOptions, State, StreamId};

use crate::{Delivery, Stack};

/// Ours.
pub struct Ours {
    /// The association.
    pub association: Association,
    /// What it told.
    pub events: Vec<Event>,
    parts: Vec<(u16, BytesMut)>,
    out: TransmitBuf,
}

impl Ours {
    /// An association with that configuration.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            association: Association::new(config, Random::from_u64(seed)),
            events: Vec::new(),
            parts: Vec::new(),
            out: TransmitBuf::new(48, 1500),
        }
    }

    fn poll(&mut self) {
        while let Some(event) = self.association.poll_event() {
            if event != Event::Readable {
                self.events.push(event);
            }
        }
    }
}

impl Stack for Ours {
    fn name(&self) -> String {
        "visavis-sctp".to_owned()
    }

    fn connect(&mut self, now: Instant) {
        let _ = self.association.connect(now);
    }

    fn handle(&mut self, now: Instant, packet: &[u8]) {
        self.association.handle_packet(now, packet);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    fn transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> bool {
        self.association.poll_transmit(now, out).is_some()
    }

    fn is_connected(&self) -> bool {
        self.association.state() == State::Established
    }

    fn send(&mut self, now: Instant, stream: u16, data: Bytes, how: Delivery) -> bool {
        let options = match how {
            Delivery::Reliable => SendOptions::default(),
            Delivery::Unordered => SendOptions {
                ordered: false,
                ..SendOptions::default()
            },
            Delivery::MaxRetransmits(limit) => SendOptions {
                reliability: Reliability::MaxRetransmits(limit),
                ..SendOptions::default()
            },
        };
        self.association
            .send(now, StreamId(stream), Ppid::BINARY, data, options)
            .is_ok()
    }

    fn receive(&mut self) -> Option<(u16, Bytes)> {
        loop {
            let Some(message) = self.association.recv() else {
                self.poll();
                return None;
            };
            let stream = message.stream.0;
            if message.first && message.last {
                return Some((stream, message.data));
            }
            let at = self.parts.iter().position(|(s, _)| *s == stream);
            let at = at.unwrap_or_else(|| {
                self.parts.push((stream, BytesMut::new()));
                self.parts.len() - 1
            });
            if message.first {
                self.parts[at].1.clear();
            }
            self.parts[at].1.extend_from_slice(&message.data);
            if message.last {
                return Some((stream, self.parts.swap_remove(at).1.freeze()));
            }
        }
    }

    fn reset(&mut self, now: Instant, stream: u16) {
        self.association
            .reset_streams(now, &[StreamId(stream)])
            .expect("the association is open");
    }

    fn take_resets(&mut self) -> Vec<u16> {
        self.poll();
        let mut resets = Vec::new();
        self.events.retain(|event| match event {
            Event::IncomingReset(streams) => {
                resets.extend(streams.iter().map(|stream| stream.0));
                false
            }
            _ => true,
        });
        resets
    }

    fn hand_over(&mut self, now: Instant, to: &mut Self) -> usize {
        let mut count = 0;
        loop {
            self.out.clear();
            if self.association.poll_transmit(now, &mut self.out).is_none() {
                return count;
            }
            for (datagram, payload) in self.out.datagrams_mut() {
                to.association.handle_packet(now, &datagram[payload]);
                count += 1;
            }
        }
    }

    fn discard(&mut self) -> Option<usize> {
        self.association.recv().map(|message| message.data.len())
    }
}
