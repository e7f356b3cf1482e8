//! One direction of a link: queue, service at the capacity, then the way to the far end.

use visavis_datagram::Random;

use crate::config::{Jitter, LinkConfig, Loss, Rate};
use crate::packet::PacketId;
use crate::queue::{QueueState, Waiting};
use crate::rate_trace::finish_constant;
use crate::stats::LinkStats;

/// The packet that uses the capacity now.
#[derive(Debug, Clone, Copy)]
struct Service {
    packet: Waiting,
    started: u64,
    bits: f64,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    /// Which node it leads away from.
    pub(crate) from: usize,
    /// Which node it leads to, and which of the node's ports it comes in at.
    pub(crate) to: usize,
    pub(crate) to_port: usize,
    pub(crate) up: bool,
    pub(crate) stats: LinkStats,
    queue: QueueState,
    service: Option<Service>,
    /// Tells a finish event that was overtaken by a change of configuration from the valid one.
    generation: u32,
    last_arrival: u64,
    /// State of the Gilbert-Elliott chain.
    bad: bool,
    random: Random,
}

/// What becomes of packets; the simulation carries it out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// Call [`Link::finish`] then.
    Finish { at: u64, generation: u32 },
    /// The packet arrives at the far end then.
    Arrive {
        at: u64,
        id: PacketId,
        mark: bool,
        duplicate: bool,
        corrupt: Option<u64>,
    },
    /// The packet is gone.
    Drop(PacketId),
}

impl Link {
    pub(crate) fn new(
        config: LinkConfig,
        from: usize,
        to: usize,
        to_port: usize,
        random: Random,
    ) -> Self {
        Self {
            queue: QueueState::new(&config.queue),
            config,
            from,
            to,
            to_port,
            up: true,
            stats: LinkStats::default(),
            service: None,
            generation: 0,
            last_arrival: 0,
            bad: false,
            random,
        }
    }

    /// Takes a packet of at most the MTU.
    pub(crate) fn offer(&mut self, now: u64, packet: Waiting, out: &mut Vec<Outcome>) {
        if matches!(self.config.rate, Rate::Unlimited) && self.service.is_none() {
            self.propagate(now, packet, false, out);
            return;
        }
        let rate = self.rate_around(now);
        if !self.queue.push(packet, rate) {
            self.stats.overflowed += 1;
            out.push(Outcome::Drop(packet.id));
            return;
        }
        if self.service.is_none() {
            self.serve(now, out);
        }
    }

    /// The packet in service has used its share of the capacity.
    pub(crate) fn finish(&mut self, now: u64, generation: u32, out: &mut Vec<Outcome>) {
        if generation != self.generation {
            return;
        }
        if let Some(service) = self.service.take() {
            let mark = service.packet.ecn == visavis_datagram::Ecn::Ce;
            self.propagate(now, service.packet, mark, out);
        }
        self.serve(now, out);
    }

    /// Goes on with another configuration; what waits and what is in service stays.
    pub(crate) fn reconfigure(&mut self, now: u64, config: LinkConfig, out: &mut Vec<Outcome>) {
        if let Some(service) = &mut self.service {
            let done = bits(&self.config.rate, service.started, now);
            service.bits = (service.bits - done).max(0.0);
            service.started = now;
        }
        if config.queue != self.config.queue {
            self.queue.reconfigure(&config.queue);
        }
        self.config = config;
        self.generation = self.generation.wrapping_add(1);
        self.schedule(out);
    }

    /// Bytes that wait or are in service.
    pub(crate) fn backlog(&self) -> usize {
        self.queue.bytes()
            + self
                .service
                .map_or(0, |service| service.packet.size as usize)
    }

    /// Packets that wait or are in service.
    pub(crate) fn backlog_packets(&self) -> usize {
        self.queue.len() + usize::from(self.service.is_some())
    }

    fn serve(&mut self, now: u64, out: &mut Vec<Outcome>) {
        debug_assert!(self.service.is_none(), "one packet in service");
        let stats = &mut self.stats;
        let served = self.queue.pop(now, |packet| {
            stats.aqm_dropped += 1;
            out.push(Outcome::Drop(packet.id));
        });
        let Some(served) = served else { return };
        let mut packet = served.packet;
        if served.mark {
            self.stats.marked += 1;
            packet.ecn = visavis_datagram::Ecn::Ce;
        }
        let waited = std::time::Duration::from_nanos(now.saturating_sub(packet.since));
        self.stats.queued += waited;
        self.stats.longest_queued = self.stats.longest_queued.max(waited);
        self.service = Some(Service {
            packet,
            started: now,
            bits: f64::from(packet.size) * 8.0,
        });
        self.generation = self.generation.wrapping_add(1);
        self.schedule(out);
    }

    fn schedule(&mut self, out: &mut Vec<Outcome>) {
        let Some(service) = self.service else { return };
        let at = match &self.config.rate {
            Rate::Unlimited => Some(service.started),
            Rate::Constant(rate) => finish_constant(service.started, service.bits, *rate),
            Rate::Trace(trace) => trace.finish(service.started, service.bits),
        };
        if let Some(at) = at {
            let generation = self.generation;
            out.push(Outcome::Finish { at, generation });
        }
    }

    fn propagate(&mut self, now: u64, packet: Waiting, mark: bool, out: &mut Vec<Outcome>) {
        if self.is_lost() {
            self.stats.lost += 1;
            out.push(Outcome::Drop(packet.id));
            return;
        }
        let mut at = now + self.config.delay.as_nanos() as u64;
        let mut keeps_order = true;
        match self.config.jitter {
            Jitter::None => {}
            Jitter::Uniform(most) => {
                at += self.random.below(most.as_nanos() as u64 + 1);
            }
            Jitter::Normal(deviation) => {
                at += (half_normal(&mut self.random) * deviation.as_nanos() as f64) as u64;
            }
            Jitter::Reordering(most) => {
                at += self.random.below(most.as_nanos() as u64 + 1);
                keeps_order = false;
            }
        }
        if self.config.reorder > 0.0 && self.random.chance(self.config.reorder) {
            self.stats.reordered += 1;
            at += self.config.reorder_by.as_nanos() as u64;
        } else if keeps_order {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let duplicate = self.config.duplicate > 0.0 && self.random.chance(self.config.duplicate);
        let corrupt = (self.config.corrupt > 0.0 && self.random.chance(self.config.corrupt))
            .then(|| self.random.u64());
        self.stats.duplicated += u64::from(duplicate);
        self.stats.corrupted += u64::from(corrupt.is_some());
        let copies = 1 + u64::from(duplicate);
        self.stats.delivered += copies;
        self.stats.delivered_bytes += copies * u64::from(packet.size);
        out.push(Outcome::Arrive {
            at,
            id: packet.id,
            mark,
            duplicate,
            corrupt,
        });
    }

    fn is_lost(&mut self) -> bool {
        match self.config.loss {
            Loss::None => false,
            Loss::Random(probability) => self.random.chance(probability),
            Loss::GilbertElliott {
                enter_bad,
                leave_bad,
                loss_good,
                loss_bad,
            } => {
                let change = if self.bad { leave_bad } else { enter_bad };
                self.bad ^= self.random.chance(change);
                let loss = if self.bad { loss_bad } else { loss_good };
                self.random.chance(loss)
            }
        }
    }

    /// The rate for queue limits in time: of a trace, the mean of the last 500 ms.
    fn rate_around(&self, now: u64) -> f64 {
        match &self.config.rate {
            Rate::Unlimited => f64::INFINITY,
            Rate::Constant(rate) => *rate as f64,
            Rate::Trace(trace) => {
                let from = now.saturating_sub(500_000_000);
                trace.bits(from, now.max(from + 1)) * 1e9 / (now.max(from + 1) - from) as f64
            }
        }
    }
}

fn bits(rate: &Rate, from: u64, to: u64) -> f64 {
    match rate {
        Rate::Unlimited => f64::INFINITY,
        Rate::Constant(rate) => *rate as f64 * to.saturating_sub(from) as f64 / 1e9,
        Rate::Trace(trace) => trace.bits(from, to),
    }
}

/// The absolute value of a normal variable with deviation 1, cut at 3 (Box-Muller).
fn half_normal(random: &mut Random) -> f64 {
    let u = 1.0 - random.unit();
    let v = random.unit();
    let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    normal.abs().min(3.0)
}
