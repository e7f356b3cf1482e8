//! Parity of video on a source of its own (FlexFEC), as much as losses ask for.

use std::collections::VecDeque;
use std::time::Duration;

use visavis_media::send::{FecKind, FecSender, FecSenderConfig};
use visavis_rtp::{PayloadType, SequenceNumber, Ssrc};

use crate::codecs::FLEXFEC;
use crate::media::demux::Route;

/// Parity packets that wait to leave; the oldest goes first.
const MOST_WAITING: usize = 128;
/// Room for the longest packet, header and all.
const ROOM: usize = 1500;

/// What makes parity of one stream's packets, and those packets until they leave.
#[derive(Debug)]
pub(super) struct Parity {
    sender: FecSender,
    /// Behind the number that tokens know them by.
    waiting: VecDeque<(u64, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    next: u64,
}

impl Parity {
    /// `None` if it was not negotiated, or for simulcast: its descriptions name no sources.
    pub(super) fn of(route: &Route, media: Ssrc, first: SequenceNumber) -> Option<Self> {
        let [encoding] = &route.encodings[..] else {
            return None;
        };
        let codec = route.send_codecs.iter().find(|codec| codec.is(FLEXFEC))?;
        let kind = FecKind::FlexFec {
            ssrc: Ssrc(encoding.sources.fec),
            payload_type: PayloadType::new(codec.payload_type)?,
        };
        let config = FecSenderConfig {
            kind,
            media,
            extensions: route.send_extensions.clone(),
            max_group: 24,
            max_rate: 0.5,
        };
        Some(Self {
            sender: FecSender::new(config, first),
            waiting: VecDeque::new(),
            spare: Vec::new(),
            next: 0,
        })
    }

    /// Follows what the peer reports lost.
    pub(super) fn set_loss(&mut self, loss: f64, trip: Option<Duration>) {
        let trip = trip.map_or(0, |trip| trip.as_millis() as u32);
        self.sender.set_loss(loss, trip);
    }

    /// What part of its rate a stream has for media.
    pub(super) fn media_share(&self) -> f64 {
        1.0 / (1.0 + self.sender.rate())
    }

    /// Takes a packet of the stream; the numbers of the parity packets that are due after it.
    pub(super) fn follow(&mut self, packet: &[u8], end: bool) -> std::ops::Range<u64> {
        let first = self.next;
        self.sender.push(packet, end);
        loop {
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.resize(ROOM, 0);
            // A stream of its own has numbers of its own.
            let written = self.sender.poll_packet(|| SequenceNumber(0), &mut buffer);
            let Some(len) = written else {
                self.spare.push(buffer);
                return first..self.next;
            };
            buffer.truncate(len);
            if self.waiting.len() == MOST_WAITING
                && let Some((_, oldest)) = self.waiting.pop_front()
            {
                self.spare.push(oldest);
            }
            self.waiting.push_back((self.next, buffer));
            self.next += 1;
        }
    }

    /// A packet that waits.
    pub(super) fn packet(&self, number: u64) -> Option<&[u8]> {
        let found = self.waiting.iter().find(|(known, _)| *known == number);
        found.map(|(_, packet)| packet.as_slice())
    }

    /// A packet has left, or never will, and those before it.
    pub(super) fn release(&mut self, number: u64) {
        while let Some((known, _)) = self.waiting.front()
            && *known <= number
            && let Some((_, packet)) = self.waiting.pop_front()
        {
            self.spare.push(packet);
        }
    }
}
