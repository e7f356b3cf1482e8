//! SCReAM, in the manner of its second version: a self-clocked window that answers L4S marks in
//! proportion, and delay and loss where the path does not mark.
//!
//! RFC 8298 gives the frame (window, delay target, competing flows); the marks are answered as
//! RFC 9331 section 4.3 asks of scalable controllers.

use std::time::{Duration, Instant};

use visavis_datagram::Ecn;

use crate::controller::{Controller, Limits, Stats, Target};
use crate::packet::{Feedback, ProbeCluster, SentPacket};
use crate::queue_delay::QueueDelay;
use crate::throughput::Throughput;
use crate::trendline::BandwidthUsage;

/// Settings of [`Scream`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScreamConfig {
    /// Bounds of the target.
    pub limits: Limits,
    /// Queuing delay that is aimed at. Default 60 ms (RFC 8298: QDELAY_TARGET_LO 100 ms).
    pub delay_target: Duration,
    /// The most that the delay target is raised to against flows that fill queues. Default 600 ms.
    pub delay_target_max: Duration,
    /// The pacer's rate as a multiple of the target. Default 1.15: bursts are marked.
    pub pacing_factor: f64,
    /// Factor of the window at a loss. Default 0.7.
    pub loss_factor: f64,
    /// The ECN codepoint to send with. Default ECT(1): L4S.
    pub ecn: Ecn,
}

impl Default for ScreamConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            delay_target: Duration::from_millis(60),
            delay_target_max: Duration::from_millis(600),
            pacing_factor: 1.15,
            loss_factor: 0.7,
            ecn: Ecn::Ect1,
        }
    }
}

/// Bytes of a full packet.
const MSS: f64 = 1200.0;
/// The least window in bytes.
const MIN_WINDOW: f64 = 3.0 * MSS;
/// Weight of a round trip's marks in the mean (DCTCP's g).
const MARK_WEIGHT: f64 = 1.0 / 16.0;
/// The shortest round trip that growth and answers reckon with: RFC 9331 section 4.3 asks for
/// fairness at short round trips.
const VIRTUAL_RTT: Duration = Duration::from_millis(25);
/// Share of the window that it grows by per round trip, far from congestion.
const MULTIPLICATIVE: f64 = 0.05;
/// Round trips after a congestion event in which growth is held down.
const POST_CONGESTION: f64 = 50.0;
/// Weight of a packet in the mean loss.
const LOSS_WEIGHT: f64 = 1.0 / 128.0;
/// Factor of the window at a loss where something else fills the queue.
const COMPETING_LOSS: f64 = 0.9;
/// Packets per round trip that the window then grows by.
const COMPETING_GROWTH: f64 = 2.0;
/// Loss without delay is borne up to this share.
const TOLERATED_LOSS: f64 = 0.2;
/// The target leaves room for the variation of frames' sizes.
const TARGET_SHARE: f64 = 0.95;
/// Silence of the feedback after which the window comes down, and by which factor.
const SILENCE: Duration = Duration::from_millis(1500);
const SILENCE_FACTOR: f64 = 0.5;

/// A self-clocked rate adaptation for multimedia.
#[derive(Debug)]
pub struct Scream {
    config: ScreamConfig,
    limits: Limits,
    start: Instant,
    /// Bytes that may be in flight.
    window: f64,
    /// The window at the last congestion event.
    inflection: f64,
    slow_start: bool,
    rtt: f64,
    queue: QueueDelay,
    delay_target: f64,
    mark_share: f64,
    marks: u32,
    delivered: u32,
    round: Option<Duration>,
    last_congestion: Option<Duration>,
    last_sent: Option<Duration>,
    silent_from: Option<Duration>,
    in_flight: usize,
    remb: Option<f64>,
    demand: f64,
    loss: f64,
    throughput: Throughput,
    stats: Stats,
}

impl Scream {
    /// A controller; `now` is the beginning of its time.
    pub fn new(now: Instant, config: ScreamConfig) -> Self {
        let rtt = 0.1;
        Self {
            limits: config.limits,
            start: now,
            window: (config.limits.start as f64 * rtt / 8.0).max(MIN_WINDOW),
            inflection: MIN_WINDOW,
            slow_start: true,
            rtt,
            queue: QueueDelay::new(),
            delay_target: config.delay_target.as_secs_f64() * 1e3,
            mark_share: 0.0,
            marks: 0,
            delivered: 0,
            round: None,
            last_congestion: None,
            last_sent: None,
            silent_from: None,
            in_flight: 0,
            remb: None,
            demand: config.limits.max as f64,
            loss: 0.0,
            throughput: Throughput::new(),
            config,
            stats: Stats::default(),
        }
    }

    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    fn virtual_rtt(&self) -> f64 {
        self.rtt.max(VIRTUAL_RTT.as_secs_f64())
    }

    /// Milliseconds that packets wait.
    fn delay(&self) -> f64 {
        self.queue.current()
    }

    /// Whether an answer to congestion is due: once per round trip.
    fn may_answer(&mut self, now: Duration) -> bool {
        let rtt = Duration::from_secs_f64(self.virtual_rtt());
        let due = self
            .last_congestion
            .is_none_or(|last| now.saturating_sub(last) >= rtt);
        if due {
            self.last_congestion = Some(now);
            self.inflection = self.window;
            self.slow_start = false;
        }
        due
    }

    fn answer(&mut self, now: Duration, lost: u32, marked: u32) {
        // Loss that comes without delay is the path's own, as long as there is little of it.
        let share = self.delay() / self.delay_target;
        let weight = if self.loss > TOLERATED_LOSS {
            1.0
        } else {
            ((share - 0.25) / 0.75).clamp(0.0, 1.0)
        };
        if lost > 0 && weight > 0.0 {
            if self.may_answer(now) {
                let factor = if self.queue.is_standing(now) {
                    COMPETING_LOSS
                } else {
                    self.config.loss_factor
                };
                self.window *= 1.0 - (1.0 - factor) * weight;
                self.stats.overuses += 1;
            }
        } else if marked > 0 {
            if self.may_answer(now) {
                self.window *= 1.0 - self.mark_share / 2.0;
                self.stats.overuses += 1;
            }
        } else {
            let half = self.delay_target / 2.0;
            if self.delay() > half && self.may_answer(now) {
                let share = ((self.delay() - half) / half).min(1.0);
                self.window *= 1.0 - share / 4.0;
                self.stats.overuses += 1;
            }
        }
        self.window = self.window.max(MIN_WINDOW);
    }

    fn grow(&mut self, now: Duration, acknowledged: f64) {
        // A window that is not used proves nothing.
        if (self.in_flight as f64 + acknowledged) * 1.5 < self.window {
            return;
        }
        if self.slow_start && self.delay() < self.delay_target / 4.0 {
            self.window += acknowledged;
            return;
        }
        // Near the last inflection point growth is careful, far from it less so.
        let distance = (self.window - self.inflection) / self.inflection.max(1.0);
        // Where the path marks, the marks keep the balance: one packet per round trip, as DCTCP.
        // Against what fills the queue, growth keeps up with its.
        let competing = self.queue.is_standing(now);
        let least = match (competing, self.mark_share > 0.01) {
            (true, _) => COMPETING_GROWTH,
            (false, true) => 1.0,
            (false, false) => 0.1,
        };
        let near = (distance * 4.0).powi(2).clamp(least, least.max(1.0));
        let since = self
            .last_congestion
            .map_or(f64::INFINITY, |last| now.saturating_sub(last).as_secs_f64());
        let calm = (since / (POST_CONGESTION * self.virtual_rtt())).clamp(0.0, 1.0);
        let per_round = (MSS * near).max(self.window * MULTIPLICATIVE * calm.max(near * 0.2));
        let room = (1.0 - self.delay() / self.delay_target).clamp(0.0, 1.0);
        let round = self.window * (self.virtual_rtt() / self.rtt.max(0.001)).powi(2);
        self.window += acknowledged * per_round * room / round;
    }

    fn bound(&mut self) {
        let most = self.limits.max as f64 * self.rtt / 8.0 * 1.25;
        self.window = self.window.clamp(MIN_WINDOW, most.max(MIN_WINDOW));
    }
}

impl Controller for Scream {
    fn packet_sent(&mut self, now: Instant, packet: &SentPacket) {
        let at = self.at(now);
        self.in_flight = self.in_flight.saturating_add(packet.size);
        self.last_sent = Some(at);
        self.silent_from.get_or_insert(at + SILENCE);
    }

    fn feedback(&mut self, now: Instant, feedback: &Feedback<'_>) {
        let at = self.at(now);
        self.in_flight = feedback.in_flight;
        let (mut acknowledged, mut lost, mut marked) = (0, 0u32, 0);
        let mut newest = None;
        for packet in feedback.packets {
            let Some(received) = packet.received_at else {
                lost += 1;
                self.loss += (1.0 - self.loss) * LOSS_WEIGHT;
                continue;
            };
            self.loss -= self.loss * LOSS_WEIGHT;
            acknowledged += packet.size;
            marked += u32::from(packet.ecn == Ecn::Ce);
            let sent = self.at(packet.sent_at);
            let delay = received.as_secs_f64() * 1e3 - sent.as_secs_f64() * 1e3;
            self.queue.packet(at, delay);
            let micros = |time: Duration| {
                i64::try_from(time.as_micros())
                    .unwrap_or(i64::MAX)
                    .min(1 << 60)
            };
            self.throughput
                .packet(micros(sent), micros(received), packet.size);
            newest = newest.max(Some(packet.sent_at));
        }
        if let Some(newest) = newest {
            let sample = now
                .saturating_duration_since(newest)
                .as_secs_f64()
                .min(60.0);
            self.rtt += (sample - self.rtt) / 8.0;
            self.rtt = self.rtt.max(0.001);
            self.stats.rtt = Some(Duration::from_secs_f64(self.rtt));
        }
        self.stats.marked += u64::from(marked);
        self.marks += marked;
        self.delivered += feedback.packets.len() as u32;
        let round = *self.round.get_or_insert(at);
        if at.saturating_sub(round).as_secs_f64() >= self.virtual_rtt() && self.delivered > 0 {
            let share = f64::from(self.marks) / f64::from(self.delivered);
            self.mark_share += MARK_WEIGHT * (share - self.mark_share);
            // The first marks count in full, so that slow start ends in time.
            if self.slow_start && share > 0.0 {
                self.mark_share = share;
            }
            (self.marks, self.delivered) = (0, 0);
            self.round = Some(at);
        }
        // Where something else fills the queue, more delay is borne (RFC 8298 section 4.1.2.1).
        let target = if self.queue.is_standing(at) {
            self.config.delay_target_max
        } else {
            self.config.delay_target
        };
        self.delay_target = target.as_secs_f64() * 1e3;
        self.answer(at, lost, marked);
        // What arrived unmarked speaks for growth.
        let total = feedback.packets.len().max(1) as f64;
        let clean = 1.0 - f64::from(marked) / total;
        self.grow(at, acknowledged as f64 * clean);
        self.silent_from = (feedback.in_flight > 0).then(|| at + SILENCE);
        self.bound();
    }

    fn handle_timeout(&mut self, now: Instant) {
        let at = self.at(now);
        if self.silent_from.is_some_and(|from| at >= from) {
            self.window = (self.window * SILENCE_FACTOR).max(MIN_WINDOW);
            self.stats.silences += 1;
            self.silent_from = self
                .last_sent
                .filter(|sent| at.saturating_sub(*sent) < 2 * SILENCE)
                .map(|_| at + SILENCE);
            // What was in flight is taken for lost, or nothing would ever leave again.
            self.in_flight = 0;
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.start + self.silent_from?)
    }

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        None
    }

    fn target(&self) -> Target {
        let mut target = self.window * 8.0 / self.rtt.max(0.001) * TARGET_SHARE;
        if let Some(remb) = self.remb {
            target = target.min(remb);
        }
        let (min, max) = (self.limits.min as f64, self.limits.max as f64);
        let target = target.clamp(min, max.max(min));
        Target {
            bitrate: target as u64,
            pacing: (target * self.config.pacing_factor) as u64,
            window: Some((self.window * 1.25 + MSS) as usize),
            ecn: self.config.ecn,
        }
    }

    fn set_limits(&mut self, now: Instant, limits: Limits) {
        self.limits = limits;
        if self.round.is_none() {
            self.window = (limits.start as f64 * self.rtt / 8.0).max(MIN_WINDOW);
        }
        self.bound();
        let _ = now;
    }

    fn set_demand(&mut self, _now: Instant, bitrate: u64) {
        self.demand = bitrate as f64;
    }

    fn remb(&mut self, _now: Instant, bitrate: u64) {
        self.remb = Some(bitrate as f64);
    }

    fn receiver_report(&mut self, _now: Instant, _loss: f64, rtt: Option<Duration>) {
        if let Some(rtt) = rtt
            && self.round.is_none()
        {
            self.rtt = rtt.as_secs_f64().clamp(0.001, 60.0);
        }
    }

    fn path_changed(&mut self, now: Instant) {
        let mut config = self.config;
        config.limits = self.limits;
        let (demand, stats) = (self.demand, self.stats);
        *self = Self::new(now, config);
        self.demand = demand;
        self.stats = stats;
    }

    fn stats(&self) -> Stats {
        Stats {
            target: self.target().bitrate,
            delay_based: (self.window * 8.0 / self.rtt.max(0.001)) as u64,
            acknowledged: self.throughput.bitrate().unwrap_or(0.0) as u64,
            loss: self.loss,
            usage: if self.delay() > self.delay_target / 2.0 {
                BandwidthUsage::Overusing
            } else {
                BandwidthUsage::Normal
            },
            application_limited: (self.in_flight as f64) * 1.5 < self.window,
            ..self.stats
        }
    }
}
