//! Our own flow: a [`Sender`] with any controller, and a receiver that gives feedback.

use std::time::{Duration, Instant};

use visavis_congestion::{
    Arrival, Controller, GoogCc, GoogCcConfig, Limits, PacerConfig, PacketKind, Queued, Release,
    Scream, ScreamConfig, Sender, SentPacket,
};
use visavis_datagram::{Ecn, Random};

use super::scenario::Stalls;
use super::source::Source;
use super::{Flow, FlowContext};

/// Bytes around a payload: RTP header, extension, SRTP tag.
const RTP: usize = 12 + 8 + 10;
/// Bytes of IPv4 and UDP headers, which the sender counts too.
const IP_UDP: usize = 28;
/// How often the receiver sends feedback.
const FEEDBACK: Duration = Duration::from_millis(50);
/// The longest between two packets of a reader that takes turns.
const DRIP: Duration = Duration::from_millis(8);
/// Arrival times are told in these steps, as transport-wide feedback does.
const TICK_MICROS: u64 = 250;

pub struct OwnFlow<C> {
    sender: Sender<C, (usize, bool)>,
    source: Source,
    sequence: u64,
    // The receiver.
    epoch: Instant,
    got: Vec<(u64, u64, Ecn)>,
    /// The number that the next feedback begins with.
    base: Option<u64>,
    next_feedback: Option<Instant>,
    feedback_due: bool,
    arrivals: Vec<Arrival>,
    /// What waits in the receiver's socket, and when it looks there next.
    unread: Vec<(u64, Ecn)>,
    stalls: Option<Stalls>,
    reads_at: Instant,
    random: Random,
    held_below: Option<u64>,
    active: bool,
}

/// Google congestion control with these settings.
pub fn goog_cc(context: FlowContext, change: impl Fn(&mut GoogCcConfig)) -> Box<dyn Flow> {
    let mut config = GoogCcConfig {
        limits: limits(context),
        ecn: if context.l4s { Ecn::Ect1 } else { Ecn::NotEct },
        ..GoogCcConfig::default()
    };
    change(&mut config);
    Box::new(OwnFlow::new(context, GoogCc::new(context.now, config)))
}

/// SCReAM.
pub fn scream(context: FlowContext) -> Box<dyn Flow> {
    let config = ScreamConfig {
        limits: limits(context),
        ecn: if context.l4s { Ecn::Ect1 } else { Ecn::NotEct },
        ..ScreamConfig::default()
    };
    Box::new(OwnFlow::new(context, Scream::new(context.now, config)))
}

fn limits(context: FlowContext) -> Limits {
    Limits {
        min: 100_000,
        start: context.start,
        max: 100_000_000,
    }
}

impl<C: Controller> OwnFlow<C> {
    fn new(context: FlowContext, controller: C) -> Self {
        let mut sender = Sender::new(controller, PacerConfig::default());
        // With its headers, what the application sends at most is a little more than its payload.
        sender
            .controller
            .set_demand(context.now, context.max * 107 / 100 + 40_000);
        Self {
            sender,
            source: Source::new(context.seed, context.max),
            sequence: 0,
            epoch: context.now,
            got: Vec::new(),
            base: None,
            next_feedback: None,
            feedback_due: false,
            arrivals: Vec::new(),
            unread: Vec::new(),
            stalls: context.stalls,
            reads_at: context.now,
            random: Random::from_u64(context.seed ^ 0x57a1),
            held_below: context.held_below,
            active: false,
        }
    }

    /// The receiver reads its socket.
    fn read(&mut self, now: Instant) {
        let mut between = |least: Duration, most: Duration| {
            now + least + (most - least).mul_f64(self.random.unit())
        };
        let mut count = self.unread.len();
        match self.stalls {
            Some(Stalls::Lumps(least, most)) => self.reads_at = between(least, most),
            Some(Stalls::Drips(least, most)) => {
                let is_kept = count < 2 && between(Duration::ZERO, DRIP) < now + DRIP / 120;
                count = count.min(1);
                self.reads_at = match is_kept {
                    true => between(least, most),
                    false => between(Duration::ZERO, DRIP),
                };
            }
            None => {}
        }
        // The receiver's clock has an epoch of its own. Reading a packet takes a little time, too.
        let clock = (now - self.epoch).as_micros() as u64 + 77_000_000;
        for (index, (sequence, ecn)) in self.unread.drain(..count).enumerate() {
            let clock = clock + 20 * index as u64;
            self.got.push((sequence, clock / TICK_MICROS, ecn));
            self.next_feedback.get_or_insert(now + FEEDBACK);
        }
        if self.next_feedback.is_some_and(|due| due <= now) {
            self.next_feedback = None;
            self.feedback_due = true;
        }
    }

    /// A forwarder's part: what does not fit is paused, and waited for.
    fn hold(&mut self, now: Instant) {
        if let Some(needed) = self.held_below {
            let flows = self.sender.target().bitrate >= needed;
            self.source.set_video(now, flows && self.active);
            let wanted = (!flows).then_some(needed);
            self.sender.controller.set_wanted(now, wanted);
        }
    }

    fn follow(&mut self, now: Instant) {
        // Payload of what the target allows with its headers.
        let target = self.sender.target().bitrate as f64;
        let share = 1160.0 / (1160.0 + (RTP + IP_UDP) as f64);
        self.source.set_target(now, (target * share) as u64);
    }

    fn write_feedback(&mut self, out: &mut Vec<u8>) -> bool {
        if self.got.is_empty() {
            return false;
        }
        self.got.sort_unstable_by_key(|got| got.0);
        let last = self.got[self.got.len() - 1].0;
        let base = self.base.unwrap_or(self.got[0].0).min(self.got[0].0);
        out.clear();
        out.extend_from_slice(&base.to_be_bytes());
        // As transport-wide feedback: a status and a delta of two bytes per packet.
        out.extend_from_slice(&[0; 28]);
        let mut got = self.got.iter().peekable();
        for sequence in base..=last {
            let mut entry = [0xff_u8; 4];
            while let Some(&&(number, tick, ecn)) = got.peek() {
                if number != sequence {
                    break;
                }
                entry = ((tick as u32) << 2 | u32::from(ecn.bits())).to_be_bytes();
                got.next();
            }
            out.extend_from_slice(&entry);
        }
        self.base = Some(last + 1);
        self.got.clear();
        true
    }

    fn read_feedback(&mut self, now: Instant, datagram: &[u8]) {
        let Some((base, rest)) = datagram.split_first_chunk::<8>() else {
            return;
        };
        let base = u64::from_be_bytes(*base);
        self.arrivals.clear();
        for (index, entry) in rest[28..].chunks_exact(4).enumerate() {
            let word = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]);
            let sequence = base + index as u64;
            self.arrivals.push(if word == u32::MAX {
                Arrival::missing(sequence)
            } else {
                let at = Duration::from_micros(u64::from(word >> 2) * TICK_MICROS);
                Arrival::received(sequence, at, Ecn::from_bits(word as u8))
            });
        }
        self.sender.feedback(now, &self.arrivals);
        self.follow(now);
    }
}

impl<C: Controller> Flow for OwnFlow<C> {
    fn handle_datagram(&mut self, now: Instant, at_receiver: bool, ecn: Ecn, datagram: &mut [u8]) {
        if !at_receiver {
            self.read_feedback(now, datagram);
            return;
        }
        if let Some((sequence, _)) = datagram.split_first_chunk::<8>() {
            self.unread.push((u64::from_be_bytes(*sequence), ecn));
            if self.stalls.is_none() {
                self.read(now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.source.poll_timeout().is_some_and(|due| due <= now) {
            self.source.handle_timeout(now);
            while let Some(media) = self.source.poll() {
                let kind = if media.audio {
                    PacketKind::Audio
                } else {
                    PacketKind::Video
                };
                let _ = self.sender.push(
                    now,
                    Queued {
                        token: (media.payload, media.audio),
                        size: media.payload + RTP + IP_UDP,
                        kind,
                    },
                );
            }
        }
        if self.stalls.is_none() || self.reads_at <= now {
            self.read(now);
        }
        self.hold(now);
        self.sender.handle_timeout(now);
        self.follow(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [
            self.source.poll_timeout(),
            match self.stalls {
                Some(_) => Some(self.reads_at),
                None => self.next_feedback,
            },
            self.sender.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<(bool, Ecn)> {
        if std::mem::take(&mut self.feedback_due) && self.write_feedback(out) {
            return Some((true, Ecn::NotEct));
        }
        let release = self.sender.poll(now)?;
        let (size, kind, probe) = match release {
            Release::Packet { packet, probe, .. } => (packet.size, packet.kind, probe),
            Release::Padding { size, probe } => (size, PacketKind::Padding, probe),
        };
        let sequence = self.sequence;
        self.sequence += 1;
        let ecn = self.sender.target().ecn;
        self.sender.sent(
            now,
            &SentPacket {
                sequence,
                size,
                kind,
                probe,
            },
        );
        out.clear();
        out.extend_from_slice(&sequence.to_be_bytes());
        out.resize(size.saturating_sub(IP_UDP).max(8), 0);
        Some((false, ecn))
    }

    fn estimate(&self) -> u64 {
        self.sender.target().bitrate
    }

    fn set_active(&mut self, now: Instant, active: bool) {
        self.active = active;
        self.source.set_active(now, active);
        self.follow(now);
    }
}
