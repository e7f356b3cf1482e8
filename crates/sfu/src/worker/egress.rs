//! What one connection has to send to its peer: packets that wait for the pacer, and that are written
//! out of the tracks' histories when they leave.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;
use visavis_congestion::{
    Arrival, Controller as _, GoogCc, GoogCcConfig, PacerConfig, PacketKind, PacketResult, ProbeId,
    Queued, Release, Sender, SentPacket,
};
use visavis_datagram::Ecn;
use visavis_media::forward::Rewrite;
use visavis_peer::{PacketSource, SourcePoll};
use visavis_rtp::rtcp::TransportFeedback;
use visavis_rtp::{ExtensionKind, Packet, PacketMut};

use super::subscription::Subscription;
use super::track::Track;
use crate::config::{Bitrates, Limits};
use crate::stats::WorkerStats;

/// Bytes of UDP and IP around a packet, for rates.
pub(super) const OVERHEAD: usize = 28;
/// Sent packets that are remembered until feedback tells of them: 2 s at 5 Mbit/s.
const SENT_HISTORY: usize = 1024;

/// How much of a frame may leave at once, as time at the pacing rate: what libwebrtc allows. A frame in
/// one run is one system call, a frame in drops is many.
const BURST: Duration = Duration::from_millis(40);

/// Bytes of padding that a packet has at most (RFC 3550 section 5.1).
const MOST_PADDING: usize = 255;

/// Where a one-byte header extension (RFC 8285) has its first two elements of two and three bytes, behind a
/// fixed header.
const STAMPS: std::ops::Range<usize> = 16..23;

/// A packet on its way to one subscriber: where it is kept, and under which numbers it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) subscription: u32,
    /// The subscription's generation: what was queued before a change of codec is dropped.
    pub(super) generation: u32,
    pub(super) variant: u8,
    pub(super) encoding: u8,
    pub(super) what: What,
    /// The extended sequence number within the encoding.
    pub(super) source: u64,
    pub(super) rewrite: Rewrite,
}

/// How a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// For the first time.
    Media,
    /// Empty, in the place of one that was left out.
    Fill,
    /// Again, as a retransmission (RFC 4588).
    Again,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Egress {
    /// There once the peer gives transport-wide feedback.
    control: Option<Box<Sender<GoogCc, Token>>>,
    /// Packets that leave without pacing, where it gives none.
    unpaced: VecDeque<Token>,
    /// A release that did not fit the run.
    held: Option<Release<Token>>,
    transport_sequence: u64,
    max_packets: usize,
    pub(super) sent_bytes: u64,
}

impl Egress {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            max_packets: limits.pacer_packets,
            ..Self::default()
        }
    }

    /// The peer gives transport-wide feedback from now on.
    pub(super) fn start_control(&mut self, now: Instant, bitrate: Bitrates) {
        if self.control.is_some() {
            return;
        }
        let config = GoogCcConfig {
            limits: visavis_congestion::Limits {
                min: bitrate.min,
                start: bitrate.start,
                max: bitrate.max,
            },
            ..GoogCcConfig::default()
        };
        let pacer = PacerConfig {
            max_packets: self.max_packets,
            reserve: 8,
            burst: BURST,
            ..PacerConfig::default()
        };
        let controller = GoogCc::new(now, config);
        self.control = Some(Box::new(Sender::with_history(
            controller,
            pacer,
            SENT_HISTORY,
        )));
    }

    /// Queues a packet; false if there is no room.
    pub(super) fn push(
        &mut self,
        now: Instant,
        token: Token,
        size: usize,
        kind: PacketKind,
    ) -> bool {
        match &mut self.control {
            Some(control) => control
                .push(
                    now,
                    Queued {
                        token,
                        size: size + OVERHEAD,
                        kind,
                    },
                )
                .is_ok(),
            None if self.unpaced.len() < self.max_packets => {
                self.unpaced.push_back(token);
                true
            }
            None => false,
        }
    }

    /// Reads what a packet will touch.
    pub(super) fn warm(&self) {
        std::hint::black_box((
            self.transport_sequence,
            self.held.is_some(),
            self.sent_bytes,
        ));
        std::hint::black_box((self.unpaced.len(), self.max_packets));
        if let Some(control) = &self.control {
            control.warm();
        }
    }

    /// What may be sent, in bits per second; `None` where nobody tells.
    pub(super) fn estimate(&self) -> Option<u64> {
        let control = self.control.as_ref()?;
        Some(control.target().bitrate)
    }

    /// What the controller sees.
    pub(super) fn control_stats(&self) -> Option<visavis_congestion::Stats> {
        let control = self.control.as_ref()?;
        Some(control.controller.stats())
    }

    /// How much would be sent if it might, in bits per second: probes go so far.
    pub(super) fn set_demand(&mut self, now: Instant, bitrate: u64) {
        if let Some(control) = &mut self.control {
            control.controller.set_demand(now, bitrate);
        }
    }

    /// What the next step up needs, which is probed for, and what stays as long as nothing speaks against it; in bits
    /// per second.
    pub(super) fn set_wanted(&mut self, now: Instant, wanted: Option<u64>, floor: u64) {
        if let Some(control) = &mut self.control {
            let with_headers = |bitrate: u64| bitrate * 21 / 20;
            control.controller.set_wanted(now, wanted.map(with_headers));
            control.controller.set_floor(now, with_headers(floor));
        }
    }

    /// Takes feedback; `results` is memory for it.
    pub(super) fn feedback(
        &mut self,
        now: Instant,
        feedback: &TransportFeedback<'_>,
        results: &mut Vec<PacketResult>,
    ) {
        let Some(control) = &mut self.control else {
            return;
        };
        let extend = control.history().extender();
        let reference = feedback.reference_micros();
        let arrivals = feedback.packets().map(|status| Arrival {
            sequence: extend(status.sequence.0),
            received_at: status.arrival.map(|quarters| {
                let after = quarters.saturating_mul(250);
                Duration::from_micros(reference.saturating_add_signed(after))
            }),
            ecn: Ecn::NotEct,
        });
        control.feedback_by(now, arrivals, results);
    }

    pub(super) fn remb(&mut self, now: Instant, bitrate: u64) {
        if let Some(control) = &mut self.control {
            control.controller.remb(now, bitrate);
        }
    }

    pub(super) fn receiver_report(&mut self, now: Instant, loss: f64, rtt: Option<Duration>) {
        if let Some(control) = &mut self.control {
            control.controller.receiver_report(now, loss, rtt);
        }
    }

    pub(super) fn path_changed(&mut self, now: Instant) {
        if let Some(control) = &mut self.control {
            control.controller.path_changed(now);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(control) = &mut self.control {
            control.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let control = self.control.as_ref()?;
        control.poll_timeout()
    }

    /// Whether something may leave now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.held.is_some()
            || !self.unpaced.is_empty()
            || self.poll_timeout().is_some_and(|due| due <= now)
    }

    /// Whether no packet waits.
    pub(super) fn is_empty(&self) -> bool {
        let paced = self.control.as_ref();
        self.held.is_none()
            && self.unpaced.is_empty()
            && paced.is_none_or(|control| control.pacer().queued_packets() == 0)
    }

    /// The next packet to leave.
    fn next(&mut self, now: Instant) -> Option<Release<Token>> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        match &mut self.control {
            Some(control) => {
                // What was queued before there was a controller.
                if let Some(token) = self.unpaced.pop_front() {
                    return Some(unpaced(token));
                }
                control.poll(now)
            }
            None => self.unpaced.pop_front().map(unpaced),
        }
    }

    fn sent(
        &mut self,
        now: Instant,
        sequence: u64,
        len: usize,
        kind: PacketKind,
        probe: Option<ProbeId>,
    ) {
        if let Some(control) = &mut self.control {
            let packet = SentPacket {
                sequence,
                size: len + OVERHEAD,
                kind,
                probe,
            };
            control.sent(now, &packet);
        }
    }
}

fn unpaced(token: Token) -> Release<Token> {
    Release::Packet {
        packet: Queued {
            token,
            size: 0,
            kind: PacketKind::Video,
        },
        waited: Duration::ZERO,
        probe: None,
    }
}

/// What became of a packet that was to be written.
pub(super) enum Written {
    /// It stands in the slot, so many bytes long.
    Packet(usize),
    /// It is longer than the slot.
    NoRoom,
    /// It is not kept any more, or its subscription is over.
    Gone,
}

/// Writes a connection's packets into the datagrams of its peer connection.
pub(super) struct Source<'a> {
    pub(super) egress: &'a mut Egress,
    pub(super) subscriptions: &'a mut Slab<Subscription>,
    pub(super) tracks: &'a Slab<Track>,
    pub(super) since_birth: Duration,
    pub(super) stats: &'a mut WorkerStats,
}

impl PacketSource for Source<'_> {
    fn poll_packet(&mut self, now: Instant, slot: &mut [u8], overhead: usize) -> SourcePoll {
        let Some(room) = slot.len().checked_sub(overhead) else {
            return SourcePoll::NoRoom;
        };
        let slot = &mut slot[..room];
        while let Some(release) = self.egress.next(now) {
            let (written, subscription, kind, probe) = match release {
                Release::Packet { packet, probe, .. } => {
                    let token = packet.token;
                    let written = self.write(&token, slot);
                    (written, token.subscription as usize, packet.kind, probe)
                }
                Release::Padding { size, probe } => {
                    let (written, subscription) = self.write_padding(size, slot);
                    (written, subscription, PacketKind::Padding, probe)
                }
            };
            match written {
                Written::Packet(len) => {
                    self.egress.sent_bytes += len as u64;
                    if let Some(sequence) = self.stamp(subscription, &mut slot[..len]) {
                        self.egress.sent(now, sequence, len, kind, probe);
                    }
                    return SourcePoll::Packet(len);
                }
                Written::NoRoom => {
                    self.egress.held = Some(release);
                    return SourcePoll::NoRoom;
                }
                Written::Gone => {}
            }
        }
        SourcePoll::Nothing
    }

    fn drop_packet(&mut self) {
        self.egress.held = None;
    }
}

impl Source<'_> {
    fn write(&mut self, token: &Token, out: &mut [u8]) -> Written {
        let Some(subscription) = self.subscriptions.get_mut(token.subscription as usize) else {
            return Written::Gone;
        };
        if subscription.generation != token.generation {
            return Written::Gone;
        }
        let Some(variant) = self
            .tracks
            .get(subscription.track)
            .and_then(|track| track.variants.get(usize::from(token.variant)))
        else {
            return Written::Gone;
        };
        if token.what == What::Fill {
            return subscription.write_fill(&token.rewrite, out);
        }
        let Some(bytes) = variant
            .encoding(token.encoding)
            .and_then(|encoding| encoding.history.get(token.source))
        else {
            return Written::Gone;
        };
        let Ok(packet) = Packet::parse(bytes) else {
            return Written::Gone;
        };
        match token.what {
            What::Again => {
                let written = subscription.write_again(&packet, variant, &token.rewrite, out);
                self.stats.retransmitted += u64::from(matches!(written, Written::Packet(_)));
                written
            }
            _ => {
                let written = subscription.write(&packet, variant, token, out);
                self.stats.forwarded += u64::from(matches!(written, Written::Packet(_)));
                written
            }
        }
    }

    /// Padding for a probe: the latest packet of some video once more, or nothing but padding.
    fn write_padding(&mut self, size: usize, out: &mut [u8]) -> (Written, usize) {
        let mut able = None;
        for (index, subscription) in self.subscriptions.iter_mut() {
            if !subscription.can_pad() {
                continue;
            }
            able.get_or_insert(index);
            if let Some(token) = subscription.latest
                && let Some(variant) = self
                    .tracks
                    .get(subscription.track)
                    .and_then(|track| track.variants.get(usize::from(token.variant)))
                && let Some(bytes) = variant
                    .encoding(token.encoding)
                    .and_then(|encoding| encoding.history.get(token.source))
                && bytes.len() > MOST_PADDING
                && let Ok(packet) = Packet::parse(bytes)
                && let Written::Packet(len) =
                    subscription.write_again(&packet, variant, &token.rewrite, out)
            {
                return (Written::Packet(len), index);
            }
        }
        let subscription = able.and_then(|index| self.subscriptions.get_mut(index));
        match (able, subscription) {
            (Some(index), Some(subscription)) => (subscription.write_padding(size, out), index),
            _ => (Written::Gone, 0),
        }
    }

    /// The time of sending: 24 bits of seconds, 18 of them behind the point.
    fn send_time(&self) -> [u8; 3] {
        let time = (self.since_birth.as_micros() << 18) / 1_000_000;
        let [_, high, middle, low] = (time as u32 & 0xff_ffff).to_be_bytes();
        [high, middle, low]
    }

    /// Writes what is known only when the packet leaves: its transport-wide number and the time.
    fn stamp(&mut self, subscription: usize, packet: &mut [u8]) -> Option<u64> {
        let extensions = &self.subscriptions.get(subscription)?.extensions;
        let sequence = extensions.id(ExtensionKind::TransportSequence);
        let time = extensions.id(ExtensionKind::AbsSendTime);
        if sequence.is_none() && time.is_none() {
            return None;
        }
        if let (Some(sequence), Some(time)) = (sequence, time)
            && let Some(place) = packet.get_mut(STAMPS)
            && place[0] == sequence << 4 | 1
            && place[3] == time << 4 | 2
        {
            // Where they are written: the first two elements of a packet without contributing sources.
            let number = self.egress.transport_sequence;
            place[1..3].copy_from_slice(&(number as u16).to_be_bytes());
            place[4..7].copy_from_slice(&self.send_time());
            self.egress.transport_sequence += 1;
            return Some(number);
        }
        let send_time = self.send_time();
        let mut packet = PacketMut::parse(packet).ok()?;
        let mut elements = packet.extensions_mut();
        if let Some(place) = time.and_then(|id| elements.get_mut(id))
            && place.len() == 3
        {
            place.copy_from_slice(&send_time);
        }
        let place = elements
            .get_mut(sequence?)
            .filter(|place| place.len() == 2)?;
        let number = self.egress.transport_sequence;
        place.copy_from_slice(&(number as u16).to_be_bytes());
        self.egress.transport_sequence += 1;
        Some(number)
    }
}
