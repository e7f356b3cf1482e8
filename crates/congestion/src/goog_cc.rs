//! Google congestion control: the parts joined, as browsers join them.

use std::time::{Duration, Instant};

use visavis_datagram::Ecn;

use crate::aimd::Aimd;
use crate::alr::AlrDetector;
use crate::controller::{Controller, Limits, Stats, Target};
use crate::inter_arrival::InterArrival;
use crate::loss_based::{LossBased, LossConfig, LossState};
use crate::packet::{Feedback, PacketResult, ProbeCluster, SentPacket};
use crate::probe::{ProbeConfig, ProbeController, ProbeEstimator, Shown, Situation};
use crate::queue_delay::QueueDelay;
use crate::stall::Stalls;
use crate::throughput::Throughput;
use crate::trendline::{BandwidthUsage, Trendline};

/// Settings of [`GoogCc`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoogCcConfig {
    /// Bounds of the target.
    pub limits: Limits,
    /// The pacer's rate as a multiple of the target. Browsers: 2.5; less makes smaller queues.
    pub pacing_factor: f64,
    /// How much more time than the round trip's least the packets in flight may take before the
    /// pacer holds; `None`: no such bound. Browsers: 350 ms.
    pub window_queue: Option<Duration>,
    /// How long feedback may stay away, while packets are in flight, before the target comes down.
    pub silence: Duration,
    /// Settings of the loss-based estimator.
    pub loss: LossConfig,
    /// Settings of probing.
    pub probe: ProbeConfig,
    /// The ECN codepoint to send with. Marks are answered as loss-free over-use.
    pub ecn: Ecn,
}

impl Default for GoogCcConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            pacing_factor: 1.3,
            window_queue: Some(Duration::from_millis(350)),
            silence: Duration::from_millis(1500),
            loss: LossConfig::default(),
            probe: ProbeConfig::default(),
            ecn: Ecn::NotEct,
        }
    }
}

/// Feedback that stays away for so long makes the delay's history worthless.
const STREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Factor of the target while feedback stays away, and how often it is applied.
const SILENCE_FACTOR: f64 = 0.7;
const SILENCE_INTERVAL: Duration = Duration::from_millis(500);
/// How long the least round-trip time is remembered.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(30);
/// Probes wait while packets wait longer than this (milliseconds).
const SHORT_QUEUE: f64 = 30.0;
/// The factor of a decrease at a short queue (milliseconds), and the least one.
const BETA_SHORT: f64 = 0.96;
const BETA_LEAST: f64 = 0.7;
const QUEUE_SHORT: f64 = 35.0;
/// A decrease goes so far below the capacity that a longer queue drains in this time (milliseconds).
const DRAIN: f64 = 1800.0;
/// The factor of a decrease that marks ask for.
const BETA_MARKED: f64 = 0.94;
/// How long after a raise the window's mean throughput lags behind.
const STALE_MEAN: Duration = Duration::from_millis(1500);
/// Over-use below it is not answered yet (milliseconds).
const QUEUE_CUT: f64 = 25.0;
/// Growth is quick below it (milliseconds).
const QUEUE_GROW: f64 = 20.0;
/// A queue that stands so long is over-use, whatever its trend (milliseconds).
const QUEUE_FULL: f64 = 100.0;
/// How often it is answered.
const FULL_INTERVAL: Duration = Duration::from_millis(1500);
/// Loss beyond which a standing queue is our own, and for how long it is taken for that.
const COMPETING_LOSS: f64 = 0.025;
const COMPETING_BAN: Duration = Duration::from_secs(20);
/// What fills faster than this is a capacity that has come down (milliseconds).
const QUEUE_FILLED: f64 = 60.0;
/// Loss below which a path is taken for one that loses nothing.
const NO_LOSS: f64 = 0.025;
/// A queue that stands and is longer than this (milliseconds) shows that the path does not bear what is sent, be it next
/// to nothing.
const QUEUE_EVIDENT: f64 = 400.0;
/// How long the floor is not believed in after that, unless a probe shows otherwise.
const FLOOR_BAN: Duration = Duration::from_secs(30);
/// Windows never get smaller than this, in bytes.
const MIN_WINDOW: usize = 6_000;
/// Round-trip times beyond this are clocks gone wrong.
const MAX_RTT: Duration = Duration::from_secs(60);

/// Google congestion control: delay and loss, the lower of the two rates.
#[derive(Debug)]
pub struct GoogCc {
    config: GoogCcConfig,
    limits: Limits,
    start: Instant,
    groups: InterArrival,
    trendline: Trendline,
    aimd: Aimd,
    throughput: Throughput,
    queue: QueueDelay,
    stalls: Stalls,
    loss: LossBased,
    probes: ProbeController,
    probe_estimator: ProbeEstimator,
    remb: Option<f64>,
    report_bound: Option<f64>,
    demand: f64,
    floor: f64,
    /// Until when the path is known not to bear the floor.
    no_floor_until: Duration,
    target: f64,
    rtt: Option<Duration>,
    min_rtt: Option<(Duration, Duration)>,
    last_feedback: Option<Duration>,
    /// When a full queue was answered last.
    cut_full: Duration,
    /// Until when a standing queue is taken for our own.
    ours_until: Duration,
    /// When a probe raised the estimate last.
    raised: Option<Duration>,
    sending: Sending,
    stats: Stats,
}

/// All that a packet which leaves reads and writes: with thousands of transports what is touched costs more than what is
/// computed.
#[derive(Debug, Default)]
struct Sending {
    alr: AlrDetector,
    last: Option<Duration>,
    /// Until when feedback may stay away.
    silent_from: Option<Duration>,
    /// Whether something has left, and the first probes were made.
    started: bool,
    /// When probing has something to do, and whether that is for something that waits for more; as of the last look.
    probe_due: Option<Duration>,
    is_wanted: bool,
}

impl GoogCc {
    /// A controller; `now` is the beginning of its time.
    pub fn new(now: Instant, config: GoogCcConfig) -> Self {
        let limits = config.limits;
        let (min, max) = (limits.min as f64, limits.max.max(limits.min) as f64);
        let start = (limits.start as f64).clamp(min, max);
        let mut alr = AlrDetector::default();
        alr.set_estimate(start);
        Self {
            config,
            limits,
            start: now,
            groups: InterArrival::default(),
            trendline: Trendline::new(),
            aimd: Aimd::new(start, min, max),
            throughput: Throughput::new(),
            queue: QueueDelay::new(),
            stalls: Stalls::default(),
            loss: LossBased::new(config.loss, min, max),
            probes: ProbeController::new(config.probe),
            probe_estimator: ProbeEstimator::new(),
            remb: None,
            report_bound: None,
            demand: max,
            floor: 0.0,
            no_floor_until: Duration::ZERO,
            target: start,
            rtt: None,
            min_rtt: None,
            last_feedback: None,
            cut_full: Duration::ZERO,
            ours_until: Duration::ZERO,
            raised: None,
            sending: Sending {
                alr,
                ..Sending::default()
            },
            stats: Stats::default(),
        }
    }

    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    fn situation(&self, now: Duration) -> Situation {
        Situation {
            now,
            estimate: self.target,
            demand: self.demand,
            max: self.limits.max as f64,
            alr_since: self.sending.alr.since(),
            idle_from: match self.last_feedback {
                Some(last) if !self.is_idle() => last + STREAM_TIMEOUT,
                _ => Duration::ZERO,
            },
            calm: self.trendline.usage() == BandwidthUsage::Normal
                && self.loss.state() == LossState::DelayBased
                && self.is_queue_short(),
        }
    }

    /// Whether no queue stands, and loss does not limit the rate.
    fn is_idle(&self) -> bool {
        let is_lossless = self.loss.latest_loss() < NO_LOSS;
        (self.loss.state() == LossState::DelayBased || is_lossless)
            && self.queue.least_recent() < SHORT_QUEUE
    }

    /// Whether a probe that the path does not bear would add little to what waits.
    fn is_queue_short(&self) -> bool {
        self.queue.current() < SHORT_QUEUE
    }

    /// Whether something else fills the queue. Where it overflows by more than a TCP flow's
    /// search for the limit explains, it is ours, and for a while it is not believed in.
    fn is_competing(&mut self, now: Duration) -> bool {
        if !self.queue.is_standing(now) {
            return false;
        }
        if self.loss.average_loss() > COMPETING_LOSS {
            self.ours_until = now + COMPETING_BAN;
        }
        now >= self.ours_until
    }

    /// The factor of the decrease: the longer the queue, the deeper, so that it drains, and no deeper:
    /// what is given up beyond that stays unused, all the more where several flows give way at once. A
    /// queue that something else fills is not ours to drain.
    fn beta(&self, now: Duration) -> f64 {
        let queue = match self.stalls.is_recent(now) {
            true => self.queue.least_recent(),
            false => self.queue.current(),
        };
        if self.aimd.competing {
            return BETA_SHORT;
        }
        let excess = (queue - QUEUE_SHORT).max(0.0);
        (BETA_SHORT - excess / DRAIN).max(BETA_LEAST)
    }

    fn take_rtt(&mut self, now: Duration, sample: Duration) {
        if sample > MAX_RTT {
            return;
        }
        let smoothed = self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8);
        self.rtt = Some(smoothed);
        let lapsed = |at: Duration| now.saturating_sub(at) > MIN_RTT_WINDOW;
        if self
            .min_rtt
            .is_none_or(|(least, at)| sample <= least || lapsed(at))
        {
            self.min_rtt = Some((sample, now));
        }
        self.aimd.set_rtt(smoothed);
    }

    /// The delay-based part: answers whether a probe has given a result.
    fn delay_based(&mut self, now: Duration, packets: &[PacketResult]) {
        if self
            .last_feedback
            .is_none_or(|last| now.saturating_sub(last) > STREAM_TIMEOUT)
        {
            self.groups.reset();
            self.trendline = Trendline::new();
            // Nor does the loss of then hold. What was allowed last is where it begins again.
            let (min, max) = (self.limits.min as f64, self.limits.max as f64);
            self.loss = LossBased::new(self.config.loss, min, max.max(min));
            if self.last_feedback.is_some() && self.target < self.aimd.estimate() {
                self.aimd.set_estimate(now, self.target);
            }
        }
        let seen = micros(now);
        let mut probed = None;
        // What was lost has used the bottleneck too, as browsers reckon; unless its queue overflows.
        let mut lost = 0;
        for packet in packets {
            let Some(received) = packet.received_at else {
                lost += packet.size;
                continue;
            };
            let sent = micros(self.at(packet.sent_at));
            let arrival = micros(received);
            let delay = (arrival - sent) as f64 / 1e3;
            self.queue.packet(now, delay);
            self.stalls.packet(now, sent, arrival);
            let mut size = packet.size;
            if self.queue.current() < QUEUE_FILLED {
                size += lost;
            }
            lost = 0;
            self.throughput.packet(sent, arrival, size);
            if let Some(id) = packet.probe {
                let shown = self.probe_estimator.packet(id, sent, arrival, packet.size);
                probed = shown.map(|shown| (id, shown)).or(probed);
            }
            if let Some(deltas) = self.groups.packet(sent, arrival, seen) {
                let milliseconds = |micros: i64| micros as f64 / 1e3;
                self.trendline.update(
                    milliseconds(deltas.sent),
                    milliseconds(deltas.arrival),
                    milliseconds(arrival),
                );
            }
        }
        let arrived = probed.map(|(id, _)| id);
        let probed = probed.and_then(|(_, shown)| self.judge(now, shown));
        let throughput = self.throughput.bitrate();
        let in_alr = self.sending.alr.since().is_some();
        let before = self.aimd.estimate();
        let competing = self.is_competing(now);
        let usage = match self.trendline.usage() {
            // A full queue grows no more: the trend is flat, and yet it is too long.
            BandwidthUsage::Normal if self.queue.current() > QUEUE_FULL && !competing => {
                if now.saturating_sub(self.cut_full) >= FULL_INTERVAL {
                    self.cut_full = now;
                    BandwidthUsage::Overusing
                } else {
                    BandwidthUsage::Underusing
                }
            }
            usage => usage,
        };
        self.aimd.competing = competing;
        self.aimd.queue_is_short = self.queue.current() < QUEUE_GROW;
        // Who sends a small part of what was borne has not filled the path, nor has who sends to a receiver that is kept
        // from reading: what looks like a queue has to stand.
        // Loss that the path has of itself says nothing about that.
        let explained =
            self.loss.state() == LossState::DelayBased || self.loss.average_loss() < NO_LOSS;
        let unproven = in_alr && explained;
        let uneven = (unproven || (explained && self.stalls.is_recent(now)))
            && self.queue.least_recent() < QUEUE_CUT;
        if usage == BandwidthUsage::Overusing && (self.queue.current() < QUEUE_CUT || uneven) {
            // Growing, and hardly there yet: wait and see. Noise is no reason to give way.
            self.aimd
                .update(now, BandwidthUsage::Underusing, throughput, in_alr);
        } else if usage == BandwidthUsage::Overusing {
            if self.aimd.may_reduce(now, throughput) {
                self.aimd.beta = self.beta(now);
                // After a capacity has come down, the window's mean is of better times.
                // After a probe has raised the estimate, it is of worse ones.
                let recent = self.throughput.recent();
                let raised = self
                    .raised
                    .is_some_and(|raised| now.saturating_sub(raised) < STALE_MEAN);
                let filled = self.queue.current() > QUEUE_FILLED && !competing;
                let least = throughput.map(|mean| match recent {
                    // From where the estimate is, not to the little that was sent.
                    _ if unproven => mean.max(before),
                    Some(recent) if raised => recent,
                    Some(recent) if filled => mean.min(recent),
                    _ => mean,
                });
                match least {
                    Some(_) => self.aimd.update(now, usage, least, in_alr),
                    None => self.aimd.set_estimate(now, before / 2.0),
                }
                self.stats.overuses += 1;
            }
        } else if let Some(found) = probed {
            self.stats.probe_results += 1;
            if found > before {
                self.aimd.probed(found);
                self.aimd.set_estimate(now, found);
                self.raised = Some(now);
            }
            if found > self.floor {
                self.no_floor_until = now;
            }
            // Loss may have held the target far below what the delay allows.
            self.loss.probed(found);
        } else {
            self.aimd.update(now, usage, throughput, in_alr);
        }
        self.probes.dropped(now, before, self.aimd.estimate());
        let situation = self.situation(now);
        match (arrived, probed) {
            (Some(id), Some(found)) => self.probes.result(situation, id, found),
            (Some(id), None) => self.probes.spoiled(situation, id),
            _ => {}
        }
    }

    fn loss_based(&mut self, packets: &[PacketResult]) {
        let (delay, limited) = (self.aimd.estimate(), self.sending.alr.since().is_some());
        let acknowledged = || self.throughput.bitrate();
        self.loss.update(packets, delay, acknowledged, limited);
    }

    /// Lets probing do what is due, and notes when it has something to do next.
    fn look_at_probes(&mut self, now: Duration) {
        let situation = self.situation(now);
        self.probes.process(situation);
        self.sending.probe_due = self.probes.due(&situation);
        self.sending.is_wanted = self.probes.is_wanted(&situation);
    }

    /// What a probe has shown.
    fn judge(&mut self, now: Duration, shown: Shown) -> Option<f64> {
        self.probes.arrived(shown.uneven);
        if !self.probes.is_wanted(&self.situation(now)) {
            return shown.borne;
        }
        let by_queue = shown.borne_by_queue(self.queue.current());
        Some(shown.borne.map_or(by_queue, |borne| borne.max(by_queue)))
    }

    /// Takes the lowest of all bounds as the target.
    fn settle(&mut self, now: Duration) {
        let mut target = self.aimd.estimate();
        if let Some(loss) = self.loss.estimate() {
            target = target.min(loss);
        }
        for bound in [self.remb, self.report_bound].into_iter().flatten() {
            target = target.min(bound);
        }
        let (min, max) = (self.limits.min as f64, self.limits.max as f64);
        if target < self.floor {
            let silent = self
                .last_feedback
                .is_some_and(|last| now.saturating_sub(last) >= self.config.silence);
            let is_full =
                self.loss.average_loss() >= NO_LOSS || self.queue.least_recent() >= QUEUE_EVIDENT;
            if is_full || silent {
                self.no_floor_until = now + FLOOR_BAN;
            } else if now >= self.no_floor_until {
                target = self.floor;
                if self.aimd.estimate() < target {
                    self.aimd.set_estimate(now, target);
                }
            }
        }
        self.target = target.clamp(min, max.max(min));
        self.sending.alr.set_estimate(self.target);
        self.look_at_probes(now);
    }

    fn marked(&mut self, now: Duration, packets: &[PacketResult]) {
        let marks = packets
            .iter()
            .filter(|packet| packet.ecn == Ecn::Ce)
            .count();
        if marks == 0 {
            return;
        }
        self.stats.marked += marks as u64;
        // RFC 8298 section 4.1.1 in spirit: a mark counts like the over-use that it foretells.
        let throughput = self.throughput.bitrate();
        if self.aimd.may_reduce(now, None) {
            self.aimd.beta = BETA_MARKED;
            self.aimd
                .update(now, BandwidthUsage::Overusing, throughput, false);
        }
    }
}

impl Controller for GoogCc {
    fn packet_sent(&mut self, now: Instant, packet: &SentPacket) {
        let at = self.at(now);
        let limited_since = self.sending.alr.since();
        self.sending.alr.sent(at, packet.size);
        self.sending.last = Some(at);
        if self.sending.silent_from.is_none() {
            self.sending.silent_from = Some(at + self.config.silence);
        }
        if !std::mem::replace(&mut self.sending.started, true) {
            self.probes.start(self.situation(at));
            self.look_at_probes(at);
        }
        // Nothing else that probing rests on changes by what leaves.
        let is_due = self.sending.probe_due.is_some_and(|due| due <= at);
        if is_due || self.sending.alr.since() != limited_since {
            self.look_at_probes(at);
        }
    }

    fn warm(&self) {
        let sending = &self.sending;
        std::hint::black_box((sending.alr.since(), sending.last, sending.silent_from));
        std::hint::black_box((sending.probe_due, self.start, self.config.silence));
    }

    fn feedback(&mut self, now: Instant, feedback: &Feedback<'_>) {
        let at = self.at(now);
        let newest = feedback.packets.iter().rev();
        let Some(newest) = newest.clone().find(|packet| packet.received_at.is_some()) else {
            if !feedback.packets.is_empty() {
                self.loss_based(feedback.packets);
                self.settle(at);
            }
            return;
        };
        let rtt = now.saturating_duration_since(newest.sent_at);
        self.take_rtt(at, rtt);
        self.delay_based(at, feedback.packets);
        self.marked(at, feedback.packets);
        self.loss_based(feedback.packets);
        self.last_feedback = Some(at);
        self.sending.silent_from = (feedback.in_flight > 0).then(|| at + self.config.silence);
        self.settle(at);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let at = self.at(now);
        if let Some(from) = self.sending.silent_from
            && at >= from
        {
            // Nothing comes back: the path may be dead, or full beyond measure.
            self.sending.silent_from = self
                .sending
                .last
                .filter(|sent| at.saturating_sub(*sent) < STREAM_TIMEOUT)
                .map(|_| at + SILENCE_INTERVAL);
            if self.last_feedback.is_some() {
                self.stats.silences += 1;
                let lowered = self.aimd.estimate() * SILENCE_FACTOR;
                self.aimd.set_estimate(at, lowered);
            }
            self.settle(at);
        }
        self.look_at_probes(at);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // An idle sender is not probed, unless it waits for nothing else.
        let last = self.sending.last?;
        let probe = self
            .sending
            .probe_due
            .filter(|due| self.sending.is_wanted || due.saturating_sub(last) < STREAM_TIMEOUT);
        let due = [self.sending.silent_from, probe]
            .into_iter()
            .flatten()
            .min()?;
        Some(self.start + due)
    }

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        let cluster = self.probes.poll()?;
        self.probe_estimator.expect(&cluster);
        self.stats.probes += 1;
        Some(cluster)
    }

    fn target(&self) -> Target {
        let window = self.config.window_queue.zip(self.min_rtt);
        let window = window.map(|(queue, (rtt, _))| {
            let time = (rtt + queue).as_secs_f64();
            ((self.target * time / 8.0) as usize).max(MIN_WINDOW)
        });
        Target {
            bitrate: self.target as u64,
            pacing: (self.target * self.config.pacing_factor) as u64,
            window,
            ecn: self.config.ecn,
        }
    }

    fn set_limits(&mut self, now: Instant, limits: Limits) {
        let (min, max) = (limits.min as f64, limits.max.max(limits.min) as f64);
        self.limits = limits;
        self.aimd.set_bounds(min, max);
        self.loss.set_bounds(min, max);
        if !self.aimd.is_initialized() && self.last_feedback.is_none() {
            self.aimd = Aimd::new((limits.start as f64).clamp(min, max), min, max);
        }
        let at = self.at(now);
        self.settle(at);
    }

    fn set_demand(&mut self, now: Instant, bitrate: u64) {
        self.demand = bitrate as f64;
        let at = self.at(now);
        self.look_at_probes(at);
    }

    fn set_wanted(&mut self, now: Instant, bitrate: Option<u64>) {
        self.probes.set_wanted(bitrate.map(|rate| rate as f64));
        let at = self.at(now);
        self.look_at_probes(at);
    }

    fn set_floor(&mut self, now: Instant, bitrate: u64) {
        self.floor = bitrate as f64;
        let at = self.at(now);
        self.settle(at);
    }

    fn remb(&mut self, now: Instant, bitrate: u64) {
        self.remb = Some(bitrate as f64);
        let at = self.at(now);
        self.settle(at);
    }

    fn receiver_report(&mut self, now: Instant, loss: f64, rtt: Option<Duration>) {
        let at = self.at(now);
        if let Some(rtt) = rtt {
            self.take_rtt(at, rtt);
        }
        let without_feedback = self
            .last_feedback
            .is_none_or(|last| at.saturating_sub(last) > STREAM_TIMEOUT);
        if without_feedback && loss.is_finite() {
            // draft-ietf-rmcat-gcc-02 section 6: below 2 % up, above 10 % down.
            let bound = self.report_bound.unwrap_or(self.target);
            let bound = match loss.clamp(0.0, 1.0) {
                loss if loss < 0.02 => bound * 1.05,
                loss if loss > 0.1 => bound * (1.0 - 0.5 * loss),
                _ => bound,
            };
            self.report_bound = Some(bound.max(self.limits.min as f64));
            let grown = self.aimd.estimate().max(bound);
            self.aimd.set_estimate(at, grown);
            self.settle(at);
        } else if !without_feedback {
            self.report_bound = None;
        }
    }

    fn path_changed(&mut self, now: Instant) {
        let mut config = self.config;
        config.limits = self.limits;
        let (demand, floor, stats) = (self.demand, self.floor, self.stats);
        *self = Self::new(now, config);
        (self.demand, self.floor) = (demand, floor);
        self.stats = stats;
    }

    fn stats(&self) -> Stats {
        Stats {
            target: self.target as u64,
            delay_based: self.aimd.estimate() as u64,
            loss_based: match self.loss.state() {
                LossState::DelayBased => 0,
                _ => self.loss.estimate().unwrap_or(0.0) as u64,
            },
            acknowledged: self.throughput.bitrate().unwrap_or(0.0) as u64,
            rtt: self.rtt,
            loss: self.loss.average_loss(),
            inherent_loss: self.loss.inherent_loss(),
            usage: self.trendline.usage(),
            application_limited: self.sending.alr.since().is_some(),
            ..self.stats
        }
    }
}

fn micros(time: Duration) -> i64 {
    // Any number that a peer makes up stays far from overflow, differences included.
    i64::try_from(time.as_micros())
        .unwrap_or(i64::MAX)
        .min(1 << 60)
}
