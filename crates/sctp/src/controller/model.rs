//! A model of the path instead of a reaction to loss: the highest rate at which data arrived
//! lately, and the least round trip. It paces at the one and keeps about their product in flight,
//! so that random loss does not slow it down (after draft-ietf-ccwg-bbr, simplified).
//!
//! Loss is taken as congestion in two cases only: when round trips have grown by a quarter (a queue
//! is full, and others may share it), or when very much is lost (a short queue or a policer). Then
//! the bytes in flight get an upper bound not far below the product, which rises again slowly.

use std::time::Duration;

use super::{Ack, Controller, Loss};
use crate::clock::Time;

/// Doubles the rate each round trip (2/ln 2).
const STARTUP_GAIN: f64 = 2.885;
/// Window while starting: with a queue of one round trip, just enough not to lose.
const STARTUP_WINDOW_GAIN: f64 = 2.0;
/// Undoes the queue that the start built.
const DRAIN_GAIN: f64 = 0.5;
/// One phase per least round trip: probe, drain, cruise. How many of the last a cycle has is drawn: flows that probe in step, as their
/// common queue would have them, gain nothing on each other and stay as unequal as they began.
const CYCLE: [f64; 10] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// Window over the product of rate and round trip, so that delayed SACKs do not stop the flow. Not
/// the 2 of BBR: with a queue of one round trip, that would leave a CUBIC flow beside it a sixth of
/// the link (`cargo xtask sctp-table`).
const WINDOW_GAIN: f64 = 1.5;
/// Rounds for which a rate stays valid.
const RATE_ROUNDS: u64 = 8;
/// How long the least round trip stays valid, and how long the flow is kept short to measure it.
const MIN_RTT_VALID: Duration = Duration::from_secs(5);
const PROBE_RTT: Duration = Duration::from_millis(200);
/// A round trip that is longer by less than this part of the least one confirms it: the flow, which has the link to itself, need not
/// be kept short to see that. Real hosts never repeat the least one exactly, and an estimate of the rate that is some per cent
/// too high, as the highest of many is, leaves as much of a queue.
const CONFIRMS: u32 = 8;
/// Loss in one round that ends the start.
const LOSS_IN_STARTUP: f64 = 0.02;
/// Loss in one round that means congestion whatever round trips say.
const LOSS_ALWAYS: f64 = 0.15;
/// What remains of the bytes in flight after congestion.
const CUT: f64 = 0.7;
/// The least bound, as a share of the product.
const FLOOR: f64 = 0.9;
/// The bound rises by so many packets in the first round without congestion, and by one more in
/// each further one: the same for a small flow and a large one, which is what makes them equal.
const RISE_PACKETS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup,
    Drain,
    /// Index into `CYCLE`.
    Cruise(usize),
    ProbeRtt {
        until: Time,
    },
}

/// The controller.
#[derive(Debug)]
pub(crate) struct Model {
    packet: usize,
    initial: usize,
    window: usize,
    phase: Phase,
    phase_since: Time,
    /// Best rates of late: (round, bytes per second), falling.
    rates: [(u64, u64); 3],
    round: u64,
    round_end: u64,
    round_lost: u64,
    round_start_delivered: u64,
    /// Least round trip of this round.
    round_min_rtt: Duration,
    full_rate: u64,
    full_rounds: u8,
    filled: bool,
    /// The network, not the application, limited what some of the rates tell.
    measured: bool,
    min_rtt: Duration,
    min_rtt_at: Time,
    smoothed_rtt: Duration,
    /// Upper bound of the bytes in flight.
    bound: usize,
    /// Rounds without congestion in a row.
    calm_rounds: usize,
    cycles: u64,
}

impl Model {
    pub(crate) fn new(packet: usize, window: usize) -> Self {
        Self {
            packet,
            initial: window,
            window,
            phase: Phase::Startup,
            phase_since: Time::ZERO,
            rates: [(0, 0); 3],
            round: 0,
            round_end: 0,
            round_lost: 0,
            round_start_delivered: 0,
            round_min_rtt: Duration::MAX,
            full_rate: 0,
            full_rounds: 0,
            filled: false,
            measured: false,
            min_rtt: Duration::MAX,
            min_rtt_at: Time::ZERO,
            smoothed_rtt: Duration::ZERO,
            bound: usize::MAX,
            calm_rounds: 0,
            cycles: 0,
        }
    }

    fn rate(&self) -> u64 {
        self.rates[0].1
    }

    /// Rate times least round trip, in bytes. Round trips below a millisecond count as one: hosts
    /// answer in batches, and a queue of a millisecond harms nobody.
    fn product(&self) -> usize {
        if self.min_rtt == Duration::MAX {
            return self.initial;
        }
        let rtt = self.min_rtt.max(super::PACE_ABOVE);
        (u128::from(self.rate()) * rtt.as_nanos() / 1_000_000_000) as usize
    }

    fn target(&self, gain: f64) -> usize {
        let floor = 4 * self.packet;
        let slack = 3 * self.packet;
        ((self.product() as f64 * gain) as usize + slack).max(floor)
    }

    fn pacing_gain(&self) -> f64 {
        match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => DRAIN_GAIN,
            Phase::Cruise(index) => CYCLE[index],
            Phase::ProbeRtt { .. } => 1.0,
        }
    }

    /// Windowed maximum over rounds, in three estimates (Nichols' filter).
    fn note_rate(&mut self, rate: u64) {
        let sample = (self.round, rate);
        if rate >= self.rates[0].1 || self.round - self.rates[2].0 > RATE_ROUNDS {
            self.rates = [sample; 3];
            return;
        }
        if rate >= self.rates[1].1 {
            self.rates[1] = sample;
            self.rates[2] = sample;
        } else if rate >= self.rates[2].1 {
            self.rates[2] = sample;
        }
        let age = self.round - self.rates[0].0;
        if age > RATE_ROUNDS {
            self.rates = [self.rates[1], self.rates[2], sample];
        } else if self.rates[1].0 == self.rates[0].0 && age > RATE_ROUNDS / 4 {
            self.rates[1] = sample;
            self.rates[2] = sample;
        } else if self.rates[2].0 == self.rates[1].0 && age > RATE_ROUNDS / 2 {
            self.rates[2] = sample;
        }
    }

    fn enter(&mut self, now: Time, phase: Phase) {
        self.phase = phase;
        self.phase_since = now;
    }

    fn end_round(&mut self, ack: &Ack) {
        self.round += 1;
        self.round_end = ack.delivered;
        let delivered = ack.delivered - self.round_start_delivered;
        let total = delivered + self.round_lost;
        let lost_share = if total == 0 {
            0.0
        } else {
            self.round_lost as f64 / total as f64
        };
        let quarter = (self.min_rtt / 4).max(Duration::from_millis(1));
        let queue = self.round_min_rtt != Duration::MAX
            && self.round_min_rtt > self.min_rtt.saturating_add(quarter);
        let some = self.round_lost > 0;
        let much = self.round_lost > 4 * self.packet as u64 && lost_share > LOSS_ALWAYS;
        if (queue && some) || much {
            self.calm_rounds = 0;
            let flight = ack.prior_in_flight.max(self.target(1.0));
            let cut = (flight as f64 * CUT) as usize;
            self.bound = self.bound.min(cut.max(self.target(FLOOR)));
            if self.phase == Phase::Startup && lost_share > LOSS_IN_STARTUP {
                self.filled = true;
            }
        } else if self.bound != usize::MAX && ack.window_limited {
            // Probing did no harm.
            self.bound = self
                .bound
                .saturating_add((RISE_PACKETS + self.calm_rounds) * self.packet);
            self.calm_rounds += 1;
            if self.bound > self.target(WINDOW_GAIN) * 2 {
                self.bound = usize::MAX;
            }
        }
        self.round_lost = 0;
        self.round_start_delivered = ack.delivered;
        self.round_min_rtt = Duration::MAX;
        if !self.filled && !ack.rate.is_some_and(|(_, app_limited)| app_limited) {
            if self.rate() as f64 >= self.full_rate as f64 * 1.25 {
                self.full_rate = self.rate();
                self.full_rounds = 0;
            } else {
                self.full_rounds += 1;
                self.filled = self.full_rounds >= 3;
            }
        }
    }

    fn advance_phase(&mut self, ack: &Ack) {
        let now = ack.now;
        match self.phase {
            Phase::Startup => {
                if self.filled {
                    self.enter(now, Phase::Drain);
                }
            }
            Phase::Drain => {
                if ack.in_flight <= self.target(1.0) {
                    self.start_cruise(now);
                }
            }
            Phase::Cruise(index) => {
                let elapsed = now.since(self.phase_since) > self.min_rtt;
                let over = match index {
                    0 => elapsed && (ack.lost != 0 || ack.prior_in_flight >= self.target(1.25)),
                    // All of the queue that the probe built, and what grew since the last one.
                    1 => ack.in_flight <= self.target(1.0),
                    _ => elapsed,
                };
                // A flow that its window or the application holds back cannot fill the probe.
                let stuck = now.since(self.phase_since) > self.min_rtt.saturating_mul(3);
                if over || stuck {
                    match index {
                        1 => self.start_cruise(now),
                        _ => self.enter(now, Phase::Cruise((index + 1) % CYCLE.len())),
                    }
                }
            }
            Phase::ProbeRtt { until } => {
                if until.is_set() {
                    if now >= until {
                        self.min_rtt_at = now;
                        if self.filled {
                            self.start_cruise(now);
                        } else {
                            self.enter(now, Phase::Startup);
                        }
                    }
                } else if ack.in_flight <= self.probe_rtt_window() {
                    // Others, who have seen no queue either, need not be waited for.
                    let hold = match self.bound {
                        usize::MAX => self.min_rtt,
                        _ => PROBE_RTT.max(self.min_rtt),
                    };
                    self.phase = Phase::ProbeRtt { until: now + hold };
                }
            }
        }
    }

    /// Three to eight phases of cruising, by a number that differs between flows.
    fn start_cruise(&mut self, now: Time) {
        self.cycles = self.cycles.wrapping_add(now.nanos() >> 10).wrapping_mul(31) + 1;
        let index = 2 + (self.cycles % 6) as usize;
        self.enter(now, Phase::Cruise(index));
    }

    fn probe_rtt_window(&self) -> usize {
        (self.product() / 2).max(4 * self.packet)
    }

    fn note_min_rtt(&mut self, ack: &Ack) {
        let Some(rtt) = ack.rtt else { return };
        self.round_min_rtt = self.round_min_rtt.min(rtt);
        let expired = ack.now.since(self.min_rtt_at) > MIN_RTT_VALID;
        if rtt <= self.min_rtt || (expired && matches!(self.phase, Phase::ProbeRtt { .. })) {
            self.min_rtt = rtt;
            self.min_rtt_at = ack.now;
        } else if self.bound == usize::MAX && rtt <= self.min_rtt + self.min_rtt / CONFIRMS {
            self.min_rtt_at = ack.now;
        } else if expired && self.filled && !matches!(self.phase, Phase::ProbeRtt { .. }) {
            self.enter(ack.now, Phase::ProbeRtt { until: Time::NEVER });
        }
    }
}

impl Controller for Model {
    fn on_ack(&mut self, ack: &Ack) {
        self.smoothed_rtt = ack.smoothed_rtt;
        self.measured |= ack.rate.is_some_and(|(_, app_limited)| !app_limited);
        if let Some((rate, app_limited)) = ack.rate
            && (!app_limited || rate >= self.rate())
        {
            self.note_rate(rate);
        }
        self.note_min_rtt(ack);
        if ack.prior_delivered >= self.round_end {
            self.end_round(ack);
        }
        self.advance_phase(ack);
        let target = if self.filled {
            self.target(WINDOW_GAIN)
        } else {
            self.target(STARTUP_WINDOW_GAIN)
        };
        if self.filled {
            self.window = (self.window + ack.bytes).min(target);
        } else if self.window < target || ack.delivered < self.initial as u64 {
            self.window += ack.bytes;
        }
        self.window = self.window.max(4 * self.packet);
    }

    fn on_loss(&mut self, loss: &Loss) -> bool {
        // The round's end decides what that means.
        let first = self.round_lost == 0;
        self.round_lost += loss.bytes as u64;
        first
    }

    fn on_timeout(&mut self, _now: Time) {
        self.window = 2 * self.packet;
    }

    fn on_congestion_mark(&mut self, _now: Time, _newest_sent_at: Time) {
        self.bound = self
            .bound
            .min(((self.window as f64) * CUT) as usize)
            .max(self.target(1.0));
    }

    fn set_packet_size(&mut self, bytes: usize) {
        self.packet = bytes;
    }

    fn window(&self) -> usize {
        let window = match self.phase {
            Phase::ProbeRtt { .. } => self.window.min(self.probe_rtt_window()),
            _ => self.window,
        };
        window.min(self.bound).max(2 * self.packet)
    }

    fn pacing_rate(&self) -> u64 {
        if self.min_rtt < super::PACE_ABOVE && self.smoothed_rtt < super::PACE_ABOVE {
            return 0;
        }
        // Not less, as BBR's margin of 1 %: each cycle drains what too high an estimate has queued.
        let rate = (self.rate() as f64 * self.pacing_gain()) as u64;
        let percent = match (self.measured, self.filled) {
            (_, true) => return rate,
            // The initial window is sent in each round trip in any case.
            (true, false) => 100,
            // The small messages that a flow often begins with say nothing of what the path carries.
            (false, false) => 288,
        };
        rate.max(super::rate_of_window(
            self.initial,
            self.smoothed_rtt,
            percent,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::ack;
    use super::*;

    /// A greeting and its answer are no measure of the path: what follows them is paced as the initial window is.
    #[test]
    fn small_messages_at_the_start_do_not_slow_it_down() {
        let mut model = Model::new(1200, 12_000);
        let before = {
            model.smoothed_rtt = Duration::from_millis(100);
            model.pacing_rate()
        };
        for round in 1..=5_u64 {
            model.on_ack(&Ack {
                rtt: Some(Duration::from_millis(100)),
                rate: Some((700, true)),
                delivered: 70 * round,
                prior_delivered: 70 * (round - 1),
                window_limited: false,
                ..ack(round * 100_000_000, 70)
            });
        }
        assert!(model.window() >= 12_000);
        assert_eq!(model.pacing_rate(), before);
        // What the network limited is a measure.
        model.on_ack(&Ack {
            rtt: Some(Duration::from_millis(100)),
            rate: Some((10_000, false)),
            delivered: 1_350,
            prior_delivered: 350,
            ..ack(600_000_000, 1_000)
        });
        assert_eq!(model.pacing_rate(), 120_000, "its window per round trip");
    }
}
