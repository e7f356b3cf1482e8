//! What waits for a link's capacity: drop-tail, CoDel (RFC 8289), DualPI2 (RFC 9332).

use std::collections::VecDeque;

use visavis_datagram::Ecn;

use crate::config::{CoDelConfig, DualQConfig, Limit, Queue};
use crate::packet::PacketId;

/// A packet that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) id: PacketId,
    pub(crate) size: u32,
    pub(crate) ecn: Ecn,
    /// When it came, in nanoseconds.
    pub(crate) since: u64,
}

/// A packet on its way out of the queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) packet: Waiting,
    pub(crate) mark: bool,
}

#[derive(Debug)]
pub(crate) struct QueueState {
    kind: KindState,
    /// The only queue, or the classic one of two.
    main: VecDeque<Waiting>,
    /// The low-latency queue of a dual queue.
    low: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
enum KindState {
    DropTail(Limit),
    CoDel(CoDel),
    DualQ(Box<DualQ>),
}

#[derive(Debug)]
struct CoDel {
    config: CoDelConfig,
    first_above: u64,
    drop_next: u64,
    count: u32,
    last_count: u32,
    dropping: bool,
}

#[derive(Debug)]
struct DualQ {
    config: DualQConfig,
    /// The base probability p' of the PI controller.
    base: f64,
    previous_delay: f64,
    next_update: u64,
    /// Bytes that the scheduler owes the classic queue.
    credit: f64,
    /// Fractions of a signal that are due to each queue: the `recur()` of figure 4, which spaces
    /// signals evenly instead of at random.
    due: [f64; 2],
}

const LOW: usize = 0;
const CLASSIC: usize = 1;
/// Below two MTU of backlog neither the classic nor the coupled signal is given (appendix A.1).
const SPARED_BACKLOG: usize = 2 * 1500;

/// The classic queue's share when both queues wait (RFC 9332 appendix A.1 suggests 1/16).
const CLASSIC_SHARE: f64 = 1.0 / 16.0;

impl QueueState {
    pub(crate) fn new(config: &Queue) -> Self {
        Self {
            kind: KindState::new(config),
            main: VecDeque::new(),
            low: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Another discipline for the packets that wait.
    pub(crate) fn reconfigure(&mut self, config: &Queue) {
        self.kind = KindState::new(config);
        if !matches!(self.kind, KindState::DualQ(_)) && !self.low.is_empty() {
            self.main.extend(self.low.drain(..));
            self.main
                .make_contiguous()
                .sort_by_key(|packet| packet.since);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.main.len() + self.low.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a packet in, or not: false where the queue is full. `rate` in bits per second.
    pub(crate) fn push(&mut self, packet: Waiting, rate: f64) -> bool {
        let limit = match &self.kind {
            KindState::DropTail(limit) => *limit,
            KindState::CoDel(codel) => codel.config.limit,
            KindState::DualQ(dual) => dual.config.limit,
        };
        let fits = match limit {
            Limit::Bytes(bytes) => self.bytes + packet.size as usize <= bytes,
            Limit::Packets(packets) => self.len() < packets,
            Limit::Time(time) => {
                let bytes = (rate * time.as_secs_f64() / 8.0).max(3000.0);
                (self.bytes + packet.size as usize) as f64 <= bytes
            }
        };
        if !fits {
            return false;
        }
        self.bytes += packet.size as usize;
        let low =
            matches!(self.kind, KindState::DualQ(_)) && matches!(packet.ecn, Ecn::Ect1 | Ecn::Ce);
        if low {
            self.low.push_back(packet);
        } else {
            self.main.push_back(packet);
        }
        true
    }

    /// The next packet to serve. `dropped` gets those that the discipline drops on the way.
    pub(crate) fn pop(&mut self, now: u64, mut dropped: impl FnMut(Waiting)) -> Option<Served> {
        match &mut self.kind {
            KindState::DropTail(_) => {
                let packet = self.main.pop_front()?;
                self.bytes -= packet.size as usize;
                Some(Served {
                    packet,
                    mark: false,
                })
            }
            KindState::CoDel(codel) => codel.pop(now, &mut self.main, &mut self.bytes, dropped),
            KindState::DualQ(dual) => loop {
                dual.update(now, &self.main);
                let low = match (self.low.front(), self.main.front()) {
                    (None, None) => return None,
                    (Some(_), None) => true,
                    (None, Some(_)) => false,
                    (Some(low), Some(classic)) => dual.schedule(low.size, classic.size),
                };
                let queue = if low { &mut self.low } else { &mut self.main };
                let packet = queue.pop_front()?;
                self.bytes -= packet.size as usize;
                let spared = self.bytes + (packet.size as usize) < SPARED_BACKLOG;
                let base = if spared { 0.0 } else { dual.base };
                let coupled = dual.config.coupling * base;
                let classic = base * base;
                if !low {
                    let signal = dual.recur(CLASSIC, classic);
                    if signal && packet.ecn == Ecn::NotEct {
                        dropped(packet);
                        continue;
                    }
                    let mark = signal;
                    return Some(Served { packet, mark });
                }
                if coupled >= 1.0 && dual.recur(CLASSIC, classic) {
                    // Overload: marking is saturated, so the classic drop holds here too (section 4.2.2).
                    dropped(packet);
                    continue;
                }
                let native = if self.low.is_empty() {
                    // Th_len: a lone packet waits for its own serialisation only.
                    0.0
                } else {
                    dual.native(now.saturating_sub(packet.since))
                };
                let mark = dual.recur(LOW, native.max(coupled.min(1.0)));
                return Some(Served { packet, mark });
            },
        }
    }
}

impl KindState {
    fn new(config: &Queue) -> Self {
        match *config {
            Queue::DropTail(limit) => Self::DropTail(limit),
            Queue::CoDel(config) => Self::CoDel(CoDel {
                config,
                first_above: 0,
                drop_next: 0,
                count: 0,
                last_count: 0,
                dropping: false,
            }),
            Queue::DualQ(config) => Self::DualQ(Box::new(DualQ {
                config,
                base: 0.0,
                previous_delay: 0.0,
                next_update: 0,
                credit: 0.0,
                due: [0.0; 2],
            })),
        }
    }
}

impl CoDel {
    /// RFC 8289 section 5.5.
    fn pop(
        &mut self,
        now: u64,
        queue: &mut VecDeque<Waiting>,
        bytes: &mut usize,
        mut dropped: impl FnMut(Waiting),
    ) -> Option<Served> {
        let serve = |packet, mark| Some(Served { packet, mark });
        let Some((mut packet, mut late)) = self.take(now, queue, bytes) else {
            self.dropping = false;
            return None;
        };
        if self.dropping {
            if !late {
                self.dropping = false;
            }
            while self.dropping && now >= self.drop_next {
                self.count += 1;
                if self.config.ecn && packet.ecn != Ecn::NotEct {
                    self.drop_next = self.control_law(self.drop_next);
                    return serve(packet, true);
                }
                dropped(packet);
                let Some(next) = self.take(now, queue, bytes) else {
                    self.dropping = false;
                    return None;
                };
                (packet, late) = next;
                if late {
                    self.drop_next = self.control_law(self.drop_next);
                } else {
                    self.dropping = false;
                }
            }
        } else if late {
            let interval = self.config.interval.as_nanos() as u64;
            self.dropping = true;
            let delta = self.count.saturating_sub(self.last_count);
            let recent = now.saturating_sub(self.drop_next) < 16 * interval;
            self.count = if delta > 1 && recent { delta } else { 1 };
            self.drop_next = self.control_law(now);
            self.last_count = self.count;
            if self.config.ecn && packet.ecn != Ecn::NotEct {
                return serve(packet, true);
            }
            dropped(packet);
            (packet, _) = self.take(now, queue, bytes)?;
        }
        serve(packet, false)
    }

    /// The next packet, and whether packets have been late for long enough to drop it.
    fn take(
        &mut self,
        now: u64,
        queue: &mut VecDeque<Waiting>,
        bytes: &mut usize,
    ) -> Option<(Waiting, bool)> {
        let Some(packet) = queue.pop_front() else {
            self.first_above = 0;
            return None;
        };
        *bytes -= packet.size as usize;
        let sojourn = now.saturating_sub(packet.since);
        if sojourn < self.config.target.as_nanos() as u64 || *bytes <= 1500 {
            self.first_above = 0;
            return Some((packet, false));
        }
        if self.first_above == 0 {
            self.first_above = now + self.config.interval.as_nanos() as u64;
            return Some((packet, false));
        }
        Some((packet, now >= self.first_above))
    }

    fn control_law(&self, from: u64) -> u64 {
        let interval = self.config.interval.as_nanos() as f64;
        from + (interval / f64::from(self.count.max(1)).sqrt()) as u64
    }
}

impl DualQ {
    /// The PI controller, RFC 9332 appendix A.1, run for every interval that has gone by.
    fn update(&mut self, now: u64, classic: &VecDeque<Waiting>) {
        let step = (self.config.t_update.as_nanos() as u64).max(1);
        if now < self.next_update {
            return;
        }
        let since = classic.front().map_or(now, |packet| packet.since);
        let delay = now.saturating_sub(since) as f64 / 1e9;
        let target = self.config.target.as_secs_f64();
        // After a long silence the base probability has decayed to nothing.
        let rounds = ((now - self.next_update) / step + 1).min(1000);
        for _ in 0..rounds {
            let change = self.config.alpha * (delay - target)
                + self.config.beta * (delay - self.previous_delay);
            self.base = (self.base + change).clamp(0.0, 1.0);
            self.previous_delay = delay;
        }
        self.next_update = now + step;
    }

    /// The native AQM of the low-latency queue: figure 5.
    fn native(&self, sojourn: u64) -> f64 {
        let floor = self.config.min_threshold.as_nanos() as f64;
        let width = (self.config.ramp.as_nanos() as f64).max(1.0);
        ((sojourn as f64 - floor) / width).clamp(0.0, 1.0)
    }

    fn recur(&mut self, queue: usize, likelihood: f64) -> bool {
        self.due[queue] += likelihood;
        let signal = self.due[queue] >= 1.0;
        if signal {
            self.due[queue] -= 1.0;
        }
        signal
    }

    /// Whether the low-latency queue is served next, when both wait.
    fn schedule(&mut self, low: u32, classic: u32) -> bool {
        if self.credit < f64::from(classic) {
            self.credit += f64::from(low) * CLASSIC_SHARE / (1.0 - CLASSIC_SHARE);
            true
        } else {
            self.credit -= f64::from(classic);
            false
        }
    }
}
