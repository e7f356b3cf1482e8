//! Congestion control of what is sent: numbers of packets, what the peer tells of their arrival, and
//! who gets which share of the target.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use visavis_congestion::{
    Allocation, Arrival, Controller, GoogCc, GoogCcConfig, Limits, PacerConfig, PacketKind,
    ProbeId, Queued, Release, Request, Scream, ScreamConfig, Sender, SentPacket, Target, allocate,
};
use visavis_datagram::Ecn;
use visavis_rtp::rtcp::{CongestionFeedback, MetricBlock, TransportFeedback};

use super::Token;
use super::stream::Stream;
use crate::codecs::Kind;
use crate::config::CongestionControl;

/// Packets of one source whose numbers are kept until RFC 8888 feedback tells of them.
const NUMBERED: usize = 2048;
/// What audio needs and uses, in bits per second, where nothing else is set.
const AUDIO: (u64, u64) = (16_000, 64_000);
/// Below this a picture is not worth sending, in bits per second.
const VIDEO_LEAST: u64 = 50_000;
/// What the largest of several simulcast encodings uses where nothing is set; each one below a
/// quarter of the one above.
const LARGEST_ENCODING: u64 = 2_500_000;
/// A change of the target by less than one part in so many is not told.
const TOLD_STEP: u64 = 20;

#[derive(Debug)]
pub(in crate::media) struct Control {
    choice: CongestionControl,
    limits: Limits,
    max_packets: usize,
    /// There once something is sent: pacer and history take memory.
    sender: Option<Box<Sender<Box<dyn Controller + Send>, Token>>>,
    /// The next transport-wide number.
    number: u64,
    /// Whether arrivals are told by source and sequence number (RFC 8888).
    by_ccfb: bool,
    /// The numbers of sent packets by source and sequence number, for RFC 8888.
    numbers: HashMap<u32, Box<[(u16, u64)]>>,
    /// The latest time of RFC 8888 feedback in units of 2^-16 s, without wrapping.
    feedback_time: Option<u64>,
    arrivals: Vec<Arrival>,
    requests: Vec<Request>,
    allocations: Vec<Allocation>,
    /// The target that the application was told.
    told: u64,
}

impl Control {
    pub(super) fn new(choice: CongestionControl, limits: Limits, max_packets: usize) -> Self {
        Self {
            choice,
            limits,
            max_packets,
            sender: None,
            number: 0,
            by_ccfb: false,
            numbers: HashMap::new(),
            feedback_time: None,
            arrivals: Vec::new(),
            requests: Vec::new(),
            allocations: Vec::new(),
            told: limits.start,
        }
    }

    /// The same choice and bounds for another path.
    pub(super) fn sibling(&self) -> Self {
        Self::new(self.choice.clone(), self.limits, self.max_packets)
    }

    /// Something will be sent.
    pub(super) fn start(&mut self, now: Instant) {
        if self.sender.is_some() {
            return;
        }
        let limits = self.limits;
        let controller: Box<dyn Controller + Send> = match &self.choice {
            CongestionControl::GoogCc => {
                let config = GoogCcConfig {
                    limits,
                    ..GoogCcConfig::default()
                };
                Box::new(GoogCc::new(now, config))
            }
            CongestionControl::Scream => {
                let config = ScreamConfig {
                    limits,
                    ..ScreamConfig::default()
                };
                Box::new(Scream::new(now, config))
            }
            CongestionControl::Custom(factory) => factory.controller(now, limits),
        };
        let pacer = PacerConfig {
            max_packets: self.max_packets,
            ..PacerConfig::default()
        };
        self.sender = Some(Box::new(Sender::new(controller, pacer)));
    }

    pub(super) fn is_started(&self) -> bool {
        self.sender.is_some()
    }

    pub(super) fn set_by_ccfb(&mut self, by_ccfb: bool) {
        self.by_ccfb = by_ccfb;
    }

    pub(super) fn is_by_ccfb(&self) -> bool {
        self.by_ccfb
    }

    // ---- the pacer

    pub(super) fn queued(&self) -> usize {
        let sender = self.sender.as_ref();
        sender.map_or(0, |sender| sender.pacer().queued_packets())
    }

    pub(super) fn push(&mut self, now: Instant, packet: Queued<Token>) -> bool {
        let sender = self.sender.as_mut();
        sender.is_some_and(|sender| sender.push(now, packet).is_ok())
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Release<Token>> {
        self.sender.as_mut()?.poll(now)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Token) -> bool) {
        if let Some(sender) = &mut self.sender {
            sender.pacer_mut().retain(|queued| keep(&queued.token));
        }
    }

    /// The transport-wide number of the packet that leaves next.
    pub(super) fn next_number(&self) -> u64 {
        self.number
    }

    /// A packet leaves under [`next_number`](Self::next_number).
    pub(super) fn sent(
        &mut self,
        now: Instant,
        packet: &[u8],
        size: usize,
        kind: PacketKind,
        probe: Option<ProbeId>,
    ) {
        let number = self.number;
        self.number += 1;
        if self.by_ccfb
            && let Ok(packet) = visavis_rtp::Packet::parse(packet)
        {
            let sequence = packet.sequence().0;
            let unused = || vec![(0, u64::MAX); NUMBERED].into_boxed_slice();
            let ring = self.numbers.entry(packet.ssrc().0).or_insert_with(unused);
            ring[usize::from(sequence) % NUMBERED] = (sequence, number);
        }
        if let Some(sender) = &mut self.sender {
            let packet = SentPacket {
                sequence: number,
                size,
                kind,
                probe,
            };
            sender.sent(now, &packet);
        }
    }

    // ---- what the peer says

    pub(in crate::media) fn transport_feedback(
        &mut self,
        now: Instant,
        feedback: &TransportFeedback<'_>,
    ) {
        let Some(sender) = &mut self.sender else {
            return;
        };
        let reference = Duration::from_micros(feedback.reference_micros());
        self.arrivals.clear();
        self.arrivals
            .extend(feedback.packets().map(|status| Arrival {
                sequence: sender.history().extend(status.sequence.0),
                received_at: status.arrival.map(|quarters| {
                    let micros = quarters.saturating_mul(250);
                    let ahead = Duration::from_micros(micros.unsigned_abs());
                    match micros < 0 {
                        true => reference.saturating_sub(ahead),
                        false => reference + ahead,
                    }
                }),
                ecn: Ecn::NotEct,
            }));
        sender.feedback(now, &self.arrivals);
    }

    /// RFC 8888 section 3.1: arrivals by source and sequence number, with the ECN marks.
    pub(in crate::media) fn congestion_feedback(
        &mut self,
        now: Instant,
        feedback: &CongestionFeedback<'_>,
    ) {
        let Some(sender) = &mut self.sender else {
            return;
        };
        let time = match self.feedback_time {
            None => (1 << 32) + u64::from(feedback.timestamp),
            Some(last) => {
                let step = feedback.timestamp.wrapping_sub(last as u32) as i32;
                last.saturating_add_signed(i64::from(step))
            }
        };
        self.feedback_time = Some(time);
        self.arrivals.clear();
        for report in feedback.reports() {
            let Some(ring) = self.numbers.get(&report.ssrc.0) else {
                continue;
            };
            for (sequence, block) in report.packets() {
                let (known, number) = ring[usize::from(sequence.0) % NUMBERED];
                if known != sequence.0 || number == u64::MAX {
                    continue;
                }
                let (received_at, ecn) = match block {
                    Some(block) => (arrival(time, block), block.ecn),
                    None => (None, Ecn::NotEct),
                };
                self.arrivals.push(Arrival {
                    sequence: number,
                    received_at,
                    ecn,
                });
            }
        }
        self.arrivals
            .sort_unstable_by_key(|arrival| arrival.sequence);
        sender.feedback(now, &self.arrivals);
    }

    pub(super) fn receiver_report(&mut self, now: Instant, loss: f64, trip: Option<Duration>) {
        if let Some(sender) = &mut self.sender {
            sender.controller.receiver_report(now, loss, trip);
        }
    }

    pub(in crate::media) fn remb(&mut self, now: Instant, bitrate: u64) {
        if let Some(sender) = &mut self.sender {
            sender.controller.remb(now, bitrate);
        }
    }

    pub(in crate::media) fn path_changed(&mut self, now: Instant) {
        if let Some(sender) = &mut self.sender {
            sender.controller.path_changed(now);
        }
    }

    pub(in crate::media) fn set_demand(&mut self, now: Instant, bitrate: u64) {
        if let Some(sender) = &mut self.sender {
            sender.controller.set_demand(now, bitrate);
        }
    }

    pub(in crate::media) fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.limits = limits;
        if let Some(sender) = &mut self.sender {
            sender.controller.set_limits(now, limits);
        }
    }

    // ---- time and sight

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(sender) = &mut self.sender {
            sender.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.sender.as_ref()?.poll_timeout()
    }

    pub(super) fn target(&self) -> Target {
        match &self.sender {
            Some(sender) => sender.target(),
            None => Target {
                bitrate: self.limits.start,
                pacing: self.limits.start,
                window: None,
                ecn: Ecn::NotEct,
            },
        }
    }

    pub(in crate::media) fn stats(&self) -> Option<visavis_congestion::Stats> {
        Some(self.sender.as_ref()?.controller.stats())
    }

    /// The target, where it has changed by enough to be told.
    pub(in crate::media) fn poll_target(&mut self) -> Option<u64> {
        let target = self.sender.as_ref()?.target().bitrate;
        if target.abs_diff(self.told) * TOLD_STEP < self.told.max(1) {
            return None;
        }
        self.told = target;
        Some(target)
    }

    /// Divides the target: audio first, then video by weight, simulcast encodings from the lowest up.
    pub(super) fn share<'a>(&mut self, target: u64, streams: impl Iterator<Item = &'a mut Stream>) {
        let mut streams: smallvec::SmallVec<[&mut Stream; 16]> =
            streams.filter(|stream| stream.active).collect();
        self.requests.clear();
        for (index, stream) in streams.iter().enumerate() {
            let same = |other: &&&mut Stream| other.transceiver == stream.transceiver;
            let below = streams[..index].iter().rposition(|other| same(&other));
            let above = streams[index + 1..].iter().filter(same).count();
            let simulcast = below.is_some() || above > 0;
            let (min, default) = match stream.kind {
                Kind::Audio => AUDIO,
                Kind::Video if simulcast => {
                    let most = LARGEST_ENCODING >> (2 * above.min(8));
                    (VIDEO_LEAST.max(most / 4), most)
                }
                Kind::Video => (VIDEO_LEAST, self.limits.max),
            };
            let max = stream.max_bitrate.unwrap_or(default);
            self.requests.push(Request {
                min: min.min(max),
                max,
                priority: stream.weight,
                essential: stream.kind == Kind::Audio,
                depends_on: below,
            });
        }
        // What runs stays on at its minimum: the shares of before say what runs.
        self.allocations.clear();
        let before = streams.iter().map(|stream| Allocation {
            bitrate: stream.share,
        });
        self.allocations.extend(before);
        allocate(target, &self.requests, 1.1, &mut self.allocations);
        for (stream, allocation) in streams.iter_mut().zip(&self.allocations) {
            stream.share = allocation.bitrate;
        }
    }
}

/// When a packet arrived by the receiver's clock: so many 1024ths of a second before the feedback.
fn arrival(time: u64, block: MetricBlock) -> Option<Duration> {
    if block.arrival_offset >= MetricBlock::TOO_LONG {
        return None;
    }
    let ticks = time.checked_sub(u64::from(block.arrival_offset) * 64)?;
    // The shift keeps the precision of a nanosecond.
    let nanos = (u128::from(ticks) * 1_000_000_000) >> 16;
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}
