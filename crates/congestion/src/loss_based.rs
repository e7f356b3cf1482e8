//! The loss-based rate, second version: the bandwidth and the path's inherent loss that explain best
//! which packets were lost. What browsers run; there is no RFC of it.
//!
//! Each observation is a quarter of a second of feedback. A packet is lost with the inherent loss,
//! and beyond that where more is sent than the bandwidth bears. Among a few candidates for the
//! bandwidth, each with its inherent loss fitted by a Newton step, the one wins that makes the
//! observations likeliest, with a small preference for high bandwidth.

use std::time::Instant;

use crate::packet::PacketResult;

/// Settings of the loss-based estimator. The defaults are those of browsers, but for what the
/// README names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossConfig {
    /// Loss that a path may have of itself, however high the bandwidth. Browsers: 0.05.
    pub inherent_loss_offset: f64,
    /// Inherent loss allowed on top, in bits per second over the bandwidth. Browsers: 75,000.
    pub inherent_loss_balance: f64,
    /// Loss from which on the rate is bounded at once. Browsers: 0.05.
    pub instant_loss_offset: f64,
    /// That bound: bits per second over the loss beyond the offset. Browsers: 75,000.
    pub instant_loss_balance: f64,
    /// Loss above which low bandwidth is preferred instead of high. Browsers: 0.15.
    pub high_bandwidth_loss_limit: f64,
    /// The most that the rate grows per window while loss limits it.
    pub max_increase_factor: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            inherent_loss_offset: 0.10,
            inherent_loss_balance: 100_000.0,
            instant_loss_offset: 0.12,
            instant_loss_balance: 100_000.0,
            high_bandwidth_loss_limit: 0.20,
            max_increase_factor: 1.3,
        }
    }
}

/// Observations that are kept.
const WINDOW: usize = 20;
/// The least duration of an observation in seconds.
const OBSERVATION: f64 = 0.25;
/// Weight of each observation against the one after it.
const TEMPORAL_WEIGHT: f64 = 0.9;
const CANDIDATES: [f64; 3] = [1.02, 1.0, 0.95];
const HIGH_BANDWIDTH_BIAS: f64 = 0.0002;
const HIGH_LOG_BANDWIDTH_BIAS: f64 = 0.02;
/// Smooths the change from preferring high bandwidth to preferring low.
const PREFERENCE_SMOOTHING: f64 = 0.002;
const INHERENT_LOSS_MIN: f64 = 1e-3;
const INITIAL_INHERENT_LOSS: f64 = 0.01;
const NEWTON_STEP: f64 = 0.75;
/// Browsers take one step; three follow a change at once.
const NEWTON_STEPS: usize = 3;
/// Observations that are the latest, and the loss of theirs below which that of before is over.
const LATEST: usize = 4;
const OVER: f64 = 0.025;
/// By how many standard errors loss has to stand out.
const STANDARD_ERRORS: f64 = 2.0;
/// How long the bound on the growth holds, in seconds.
const INCREASE_WINDOW: f64 = 0.3;
/// Growth over what is acknowledged while loss limits the rate.
const RAMP_UP: f64 = 1.5;
/// What a probability is kept away from 0 and 1 by.
const EPSILON: f64 = 1e-6;

/// What limits the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LossState {
    /// Not loss.
    #[default]
    DelayBased,
    /// Loss, and the rate grows again.
    Increasing,
    /// Loss.
    Decreasing,
}

#[derive(Debug, Clone, Copy, Default)]
struct Observation {
    packets: f64,
    lost: f64,
    /// Bits per second.
    rate: f64,
}

/// Observations in one, each by its weight: all of them lose with the inherent loss.
#[derive(Debug, Clone, Copy, Default)]
struct Borne {
    sum: Observation,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    inherent_loss: f64,
    bandwidth: f64,
}

#[derive(Debug)]
pub(crate) struct LossBased {
    config: LossConfig,
    observations: [Observation; WINDOW],
    count: usize,
    /// What is gathered for the next observation.
    packets: u32,
    lost: u32,
    bytes: usize,
    first_sent: Option<Instant>,
    last_sent: Option<Instant>,
    best: Option<Channel>,
    state: LossState,
    estimate: f64,
    limit: f64,
    limit_set: Option<Instant>,
    min: f64,
    max: f64,
}

impl LossBased {
    pub(crate) fn new(config: LossConfig, min: f64, max: f64) -> Self {
        Self {
            config,
            observations: [Observation::default(); WINDOW],
            count: 0,
            packets: 0,
            lost: 0,
            bytes: 0,
            first_sent: None,
            last_sent: None,
            best: None,
            state: LossState::DelayBased,
            estimate: max,
            limit: f64::INFINITY,
            limit_set: None,
            min,
            max,
        }
    }

    pub(crate) fn set_bounds(&mut self, min: f64, max: f64) {
        self.min = min;
        self.max = max;
    }

    pub(crate) fn state(&self) -> LossState {
        self.state
    }

    /// The rate in bits per second, at most the delay-based one.
    pub(crate) fn estimate(&self) -> Option<f64> {
        self.best.map(|_| self.estimate)
    }

    /// The weighted mean loss, 0.0 to 1.0.
    pub(crate) fn average_loss(&self) -> f64 {
        let (mut lost, mut packets) = (0.0, 0.0);
        for (weight, observation) in self.weighted() {
            lost += weight * observation.lost;
            packets += weight * observation.packets;
        }
        if packets > 0.0 { lost / packets } else { 0.0 }
    }

    /// The least loss that the observations prove: their mean, less two standard errors of it. A few packets prove
    /// little, and who sends a few must not be taken down by chance.
    fn proven_loss(&self) -> f64 {
        let (mut lost, mut packets, mut squares) = (0.0, 0.0, 0.0);
        for (weight, observation) in self.weighted() {
            lost += weight * observation.lost;
            packets += weight * observation.packets;
            squares += weight * weight * observation.packets;
        }
        if packets <= 0.0 {
            return 0.0;
        }
        let mean = lost / packets;
        let variance = mean * (1.0 - mean) * squares / (packets * packets);
        (mean - STANDARD_ERRORS * variance.max(0.0).sqrt()).max(0.0)
    }

    /// The loss of the last second or so, 0.0 to 1.0: what was before is over.
    pub(crate) fn latest_loss(&self) -> f64 {
        let latest = self.weighted().take(LATEST);
        let (lost, packets) = latest.fold((0.0, 0.0), |sum, (_, observation)| {
            (sum.0 + observation.lost, sum.1 + observation.packets)
        });
        if packets > 0.0 { lost / packets } else { 0.0 }
    }

    /// The inherent loss that explains the observations, 0.0 to 1.0.
    pub(crate) fn inherent_loss(&self) -> f64 {
        self.best.map_or(0.0, |best| best.inherent_loss)
    }

    /// A probe has found this much: loss has nothing to say below it any more.
    pub(crate) fn probed(&mut self, bitrate: f64) {
        // Where next to nothing is sent, no rate but a probe's can show that the loss is over.
        let is_over = self.latest_loss() < OVER;
        if let Some(best) = &mut self.best
            && (self.state != LossState::Decreasing || is_over)
            && best.bandwidth < bitrate
        {
            best.bandwidth = bitrate;
        }
    }

    /// Takes results. `acknowledged` is what arrives, what was lost on the way included; `limited` says that the sender
    /// has less to send than it may.
    pub(crate) fn update(
        &mut self,
        results: &[PacketResult],
        delay_based: f64,
        acknowledged: impl FnOnce() -> Option<f64>,
        limited: bool,
    ) {
        if !self.observe(results) {
            return;
        }
        let acknowledged = acknowledged();
        let mut best = *self.best.get_or_insert(Channel {
            inherent_loss: INITIAL_INHERENT_LOSS,
            bandwidth: delay_based,
        });
        let former = best;
        let (loss, proven) = (self.average_loss(), self.proven_loss());
        let upper = if self.state == LossState::DelayBased {
            self.max
        } else {
            self.limit
        };
        let factors = CANDIDATES.map(|factor| Some(former.bandwidth * factor));
        let more = [
            // What an application sends says nothing of the bandwidth where it could send more.
            acknowledged.filter(|_| !limited),
            (delay_based > former.bandwidth).then_some(delay_based),
        ];
        let mut most = f64::NEG_INFINITY;
        for bandwidth in factors.into_iter().chain(more).flatten() {
            let candidate = self.fit(Channel {
                inherent_loss: former.inherent_loss,
                bandwidth: bandwidth.min(upper.max(former.bandwidth)).max(self.min),
            });
            let objective = self.objective(candidate, proven);
            if objective > most {
                most = objective;
                best = candidate;
            }
        }
        // Loss that the path cannot have of itself is no reason to grow.
        if loss > self.most_inherent(best.bandwidth) && best.bandwidth > former.bandwidth {
            best.bandwidth = former.bandwidth;
        }
        if self.state != LossState::DelayBased
            && best.bandwidth > former.bandwidth
            && let Some(acknowledged) = acknowledged
        {
            best.bandwidth = best
                .bandwidth
                .min(RAMP_UP * acknowledged)
                .max(former.bandwidth);
        }
        self.best = Some(best);
        // What arrives is borne.
        let borne = acknowledged.map_or(0.0, |acknowledged| acknowledged * (1.0 - loss));
        self.settle(best, delay_based, proven, borne);
    }

    fn settle(&mut self, best: Channel, delay_based: f64, loss: f64, borne: f64) {
        let mut bound = best.bandwidth;
        let beyond = loss - self.config.instant_loss_offset;
        if beyond > 0.0 {
            bound = bound.min(self.config.instant_loss_balance / beyond);
        }
        let bounded = bound
            .max(borne)
            .max(self.min)
            .min(delay_based)
            .min(self.max);
        self.state = if bounded >= delay_based.min(self.max) {
            LossState::DelayBased
        } else if (bounded > self.estimate && self.state != LossState::DelayBased)
            || (bounded == self.estimate && self.state == LossState::Increasing)
        {
            LossState::Increasing
        } else {
            LossState::Decreasing
        };
        self.estimate = bounded;
        let now = self.last_sent;
        if self.state == LossState::DelayBased {
            self.limit_set = None;
        } else if let Some(now) = now {
            let lapsed =
                |set: Instant| now.saturating_duration_since(set).as_secs_f64() > INCREASE_WINDOW;
            if self.limit_set.is_none_or(lapsed) {
                self.limit = best.bandwidth * self.config.max_increase_factor;
                self.limit_set = Some(now);
            }
        }
    }

    /// Gathers results; true when an observation is complete.
    fn observe(&mut self, results: &[PacketResult]) -> bool {
        let (Some(newest), Some(oldest)) = (results.last(), results.first()) else {
            return false;
        };
        let (mut first, mut last) = (oldest.sent_at, newest.sent_at);
        for result in results {
            self.lost += u32::from(result.received_at.is_none());
            self.bytes += result.size;
            first = first.min(result.sent_at);
            last = last.max(result.sent_at);
        }
        self.packets += results.len() as u32;
        self.first_sent = Some(self.first_sent.map_or(first, |former| former.min(first)));
        self.last_sent = self.last_sent.max(Some(last));
        let (Some(first), Some(last)) = (self.first_sent, self.last_sent) else {
            return false;
        };
        let duration = last.saturating_duration_since(first).as_secs_f64();
        if duration < OBSERVATION || self.packets == 0 {
            return false;
        }
        self.observations[self.count % WINDOW] = Observation {
            packets: f64::from(self.packets),
            lost: f64::from(self.lost),
            rate: self.bytes as f64 * 8.0 / duration,
        };
        self.count += 1;
        self.packets = 0;
        self.lost = 0;
        self.bytes = 0;
        self.first_sent = None;
        true
    }

    /// The observations, the latest first, each with its weight.
    fn weighted(&self) -> impl Iterator<Item = (f64, Observation)> {
        let kept = self.count.min(WINDOW);
        let mut weight = 1.0;
        (1..=kept).map(move |age| {
            let observation = self.observations[(self.count - age) % WINDOW];
            let this = weight;
            weight *= TEMPORAL_WEIGHT;
            (this, observation)
        })
    }

    /// The inherent loss that fits best, by Newton's method.
    fn fit(&self, channel: Channel) -> Channel {
        let borne = self.borne(channel.bandwidth);
        let mut inherent = self.feasible(channel.inherent_loss, channel.bandwidth);
        for _ in 0..NEWTON_STEPS {
            let (mut first, mut second) = (0.0, 0.0);
            let mut add = |weight: f64, observation: &Observation, loss: f64| {
                let received = observation.packets - observation.lost;
                first += weight * (observation.lost / loss - received / (1.0 - loss));
                second -= weight
                    * (observation.lost / (loss * loss) + received / ((1.0 - loss) * (1.0 - loss)));
            };
            add(1.0, &borne.sum, loss_probability(inherent, 1.0, 0.0));
            for (weight, observation) in self.beyond(channel.bandwidth, &borne) {
                let loss = loss_probability(inherent, channel.bandwidth, observation.rate);
                add(weight, &observation, loss);
            }
            if second < 0.0 {
                inherent -= NEWTON_STEP * first / second;
            }
            inherent = self.feasible(inherent, channel.bandwidth);
        }
        Channel {
            inherent_loss: inherent,
            ..channel
        }
    }

    /// What was observed at rates that a bandwidth bears.
    fn borne(&self, bandwidth: f64) -> Borne {
        let mut borne = Borne::default();
        for (weight, observation) in self.weighted() {
            if observation.rate <= bandwidth {
                borne.sum.packets += weight * observation.packets;
                borne.sum.lost += weight * observation.lost;
                borne.count += 1;
            }
        }
        borne
    }

    /// What was observed at higher rates, the latest first, each with its weight.
    fn beyond(&self, bandwidth: f64, borne: &Borne) -> impl Iterator<Item = (f64, Observation)> {
        let beyond = self.count.min(WINDOW) - borne.count;
        self.weighted()
            .filter(move |(_, observation)| observation.rate > bandwidth)
            .take(beyond)
    }

    fn feasible(&self, loss: f64, bandwidth: f64) -> f64 {
        loss.clamp(INHERENT_LOSS_MIN, self.most_inherent(bandwidth))
    }

    /// The most loss that the path may have of itself.
    fn most_inherent(&self, bandwidth: f64) -> f64 {
        let most = self.config.inherent_loss_offset
            + self.config.inherent_loss_balance / bandwidth.max(1.0);
        most.clamp(INHERENT_LOSS_MIN, 1.0)
    }

    fn objective(&self, channel: Channel, average_loss: f64) -> f64 {
        let below = self.config.high_bandwidth_loss_limit - average_loss;
        let preference = below / (PREFERENCE_SMOOTHING + below.abs());
        let kilobits = channel.bandwidth / 1e3;
        let bias = preference
            * (HIGH_BANDWIDTH_BIAS * kilobits + HIGH_LOG_BANDWIDTH_BIAS * (1.0 + kilobits).ln());
        let likelihood = |observation: &Observation, loss: f64| {
            let received = observation.packets - observation.lost;
            observation.lost * loss.ln() + received * (1.0 - loss).ln() + bias * observation.packets
        };
        let borne = self.borne(channel.bandwidth);
        let inherent = loss_probability(channel.inherent_loss, 1.0, 0.0);
        let mut objective = likelihood(&borne.sum, inherent);
        for (weight, observation) in self.beyond(channel.bandwidth, &borne) {
            let loss = loss_probability(channel.inherent_loss, channel.bandwidth, observation.rate);
            objective += weight * likelihood(&observation, loss);
        }
        objective
    }
}

fn loss_probability(inherent: f64, bandwidth: f64, rate: f64) -> f64 {
    let mut loss = inherent.clamp(0.0, 1.0);
    if rate > bandwidth && rate > 0.0 {
        loss += (1.0 - loss) * (rate - bandwidth) / rate;
    }
    loss.clamp(EPSILON, 1.0 - EPSILON)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use visavis_datagram::Ecn;

    use super::{LossBased, LossConfig, LossState};
    use crate::packet::PacketResult;

    /// Feeds seconds of 100 packets of 1250 bytes (1 Mbit/s), every `nth` of them lost.
    fn feed(estimator: &mut LossBased, start: Instant, from: u64, seconds: u64, nth: u64) {
        for batch in from * 10..(from + seconds) * 10 {
            let results: Vec<PacketResult> = (batch * 10..batch * 10 + 10)
                .map(|sequence| PacketResult {
                    sequence,
                    size: 1250,
                    sent_at: start + Duration::from_millis(sequence * 10),
                    received_at: (sequence % nth != 0).then_some(Duration::ZERO),
                    ecn: Ecn::NotEct,
                    probe: None,
                })
                .collect();
            estimator.update(&results, 1.2e6, || Some(1e6), false);
        }
    }

    #[test]
    fn loss_that_the_path_has_of_itself_is_learned_and_heavy_loss_backs_off() {
        let start = Instant::now();
        let mut estimator = LossBased::new(LossConfig::default(), 1e4, 1e8);
        feed(&mut estimator, start, 0, 20, 20);
        assert_eq!(estimator.state(), LossState::DelayBased);
        let loss = estimator.inherent_loss();
        assert!((0.03..0.08).contains(&loss), "{loss}");
        feed(&mut estimator, start, 20, 10, 2);
        assert_ne!(estimator.state(), LossState::DelayBased);
        let estimate = estimator.estimate().unwrap();
        assert!(estimate < 0.6e6, "{estimate}");
    }
}
