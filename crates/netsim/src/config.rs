//! What a link is like: the models of delay, capacity, queue, loss and damage.

use std::sync::Arc;
use std::time::Duration;

use crate::RateTrace;

/// One direction of a link. Everything may be changed in mid-run.
///
/// ```
/// use std::time::Duration;
/// use visavis_netsim::{LinkConfig, Limit, Queue};
///
/// let dsl = LinkConfig::new()
///     .delay(Duration::from_millis(20))
///     .rate(2_000_000)
///     .queue(Queue::DropTail(Limit::Time(Duration::from_millis(300))))
///     .random_loss(0.01);
/// assert_eq!(dsl.delay, Duration::from_millis(20));
/// ```
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Propagation delay.
    pub delay: Duration,
    /// Variation that is added to the propagation delay.
    pub jitter: Jitter,
    /// Capacity.
    pub rate: Rate,
    /// What waits for capacity, and what is dropped or marked. Unused at [`Rate::Unlimited`].
    pub queue: Queue,
    /// Loss on the way, behind the queue (lost packets have used capacity, as on radio links).
    pub loss: Loss,
    /// Probability that a packet arrives twice, 0.0 to 1.0.
    pub duplicate: f64,
    /// Probability that one bit of the payload arrives flipped, 0.0 to 1.0.
    pub corrupt: f64,
    /// Probability that a packet is held back by [`reorder_by`](Self::reorder_by), so that later ones overtake it.
    pub reorder: f64,
    /// How long reordered packets are held back.
    pub reorder_by: Duration,
    /// The largest IP packet in bytes, headers included (UDP adds 28 bytes on IPv4, 48 on IPv6).
    /// Larger ones are dropped, and the sender is told (ICMP "too big").
    pub mtu: usize,
    /// Whether the sender of a packet beyond the MTU is told. False makes a black hole.
    pub icmp: bool,
}

impl Default for LinkConfig {
    /// A perfect link: no delay, unlimited capacity, MTU 1500. The queue for those who set a rate
    /// holds 300 ms (RFC 8867 section 4.3).
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Jitter::None,
            rate: Rate::Unlimited,
            queue: Queue::default(),
            loss: Loss::None,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(10),
            mtu: 1500,
            icmp: true,
        }
    }
}

impl LinkConfig {
    /// A perfect link; see [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the propagation delay.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets the jitter.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets a constant capacity in bits per second. 0 stalls the link.
    #[must_use]
    pub fn rate(mut self, bits_per_second: u64) -> Self {
        self.rate = Rate::Constant(bits_per_second);
        self
    }

    /// Sets a capacity that varies with time, from the simulation's start.
    #[must_use]
    pub fn rate_trace(mut self, trace: RateTrace) -> Self {
        self.rate = Rate::Trace(Arc::new(trace));
        self
    }

    /// Sets the queue.
    #[must_use]
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queue = queue;
        self
    }

    /// Sets the loss model.
    #[must_use]
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Sets independent loss with a probability of 0.0 to 1.0.
    #[must_use]
    pub fn random_loss(self, probability: f64) -> Self {
        self.loss(Loss::Random(probability))
    }

    /// Sets the probability of duplicates, 0.0 to 1.0.
    #[must_use]
    pub fn duplicate(mut self, probability: f64) -> Self {
        self.duplicate = probability;
        self
    }

    /// Sets the probability of a flipped bit, 0.0 to 1.0.
    #[must_use]
    pub fn corrupt(mut self, probability: f64) -> Self {
        self.corrupt = probability;
        self
    }

    /// Holds packets back by `by` with a probability of 0.0 to 1.0.
    #[must_use]
    pub fn reorder(mut self, probability: f64, by: Duration) -> Self {
        self.reorder = probability;
        self.reorder_by = by;
        self
    }

    /// Sets the MTU in bytes of a whole IP packet.
    #[must_use]
    pub fn mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu;
        self
    }

    /// Makes packets beyond the MTU vanish without a word.
    #[must_use]
    pub fn black_hole(mut self) -> Self {
        self.icmp = false;
        self
    }
}

/// Variation of the propagation delay.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Jitter {
    /// None.
    #[default]
    None,
    /// Uniform between zero and this, order kept: a packet never overtakes the one before.
    Uniform(Duration),
    /// Half-normal with this standard deviation, cut at three of them, order kept: the random
    /// jitter of RFC 8867 section 4.1 (its recommended values are 5 ms and 15 ms).
    Normal(Duration),
    /// Uniform between zero and this, order not kept.
    Reordering(Duration),
}

/// Capacity of a link.
#[derive(Debug, Clone, Default)]
pub enum Rate {
    /// No limit: nothing ever waits.
    #[default]
    Unlimited,
    /// Bits per second, IP headers counted. 0 stalls the link.
    Constant(u64),
    /// A capacity that varies with time, from the simulation's start.
    Trace(Arc<RateTrace>),
}

/// How much a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes of IP packets.
    Bytes(usize),
    /// Packets.
    Packets(usize),
    /// Time at the present rate (of a rate trace: its mean over the last 500 ms). Never less than two packets of 1500 bytes.
    Time(Duration),
}

/// What waits for a link's capacity.
#[derive(Debug, Clone, PartialEq)]
pub enum Queue {
    /// First in, first out; what does not fit is dropped.
    DropTail(Limit),
    /// CoDel (RFC 8289): drops, or marks ECN-capable packets, when the sojourn time stays above a target.
    CoDel(CoDelConfig),
    /// The dual-queue coupled AQM of RFC 9332 (DualPI2): ECT(1) and CE in a low-latency queue with
    /// immediate marking, the rest in a classic queue.
    DualQ(DualQConfig),
}

impl Default for Queue {
    fn default() -> Self {
        Self::DropTail(Limit::Time(Duration::from_millis(300)))
    }
}

/// Settings of [`Queue::CoDel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoDelConfig {
    /// Sojourn time that is acceptable for good. Default 5 ms.
    pub target: Duration,
    /// How long it may be exceeded. Default 100 ms.
    pub interval: Duration,
    /// Whether ECN-capable packets are marked instead of dropped. Default true.
    pub ecn: bool,
    /// The hard bound. Default 1000 packets.
    pub limit: Limit,
}

impl Default for CoDelConfig {
    fn default() -> Self {
        Self {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            ecn: true,
            limit: Limit::Packets(1000),
        }
    }
}

/// Settings of [`Queue::DualQ`]; the defaults are those of RFC 9332 appendix A.1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DualQConfig {
    /// Target delay of the classic queue. Default 15 ms.
    pub target: Duration,
    /// Update interval of the PI controller. Default 16 ms.
    pub t_update: Duration,
    /// Integral gain in Hz. Default 0.16.
    pub alpha: f64,
    /// Proportional gain in Hz. Default 3.2.
    pub beta: f64,
    /// Coupling factor. Default 2.
    pub coupling: f64,
    /// Sojourn time where marking of the low-latency queue begins. Default 0.8 ms.
    pub min_threshold: Duration,
    /// Width of the ramp from no marking to marking everything. Default 0.4 ms.
    pub ramp: Duration,
    /// The hard bound of both queues together. Default 1000 packets.
    pub limit: Limit,
}

impl Default for DualQConfig {
    fn default() -> Self {
        Self {
            target: Duration::from_millis(15),
            t_update: Duration::from_millis(16),
            alpha: 0.16,
            beta: 3.2,
            coupling: 2.0,
            min_threshold: Duration::from_micros(800),
            ramp: Duration::from_micros(400),
            limit: Limit::Packets(1000),
        }
    }
}

/// Loss on the way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    /// None.
    #[default]
    None,
    /// Each packet on its own, with a probability of 0.0 to 1.0.
    Random(f64),
    /// Bursts: a chain of two states, stepped once per packet.
    GilbertElliott {
        /// Probability of going from the good to the bad state.
        enter_bad: f64,
        /// Probability of going from the bad to the good state.
        leave_bad: f64,
        /// Loss in the good state.
        loss_good: f64,
        /// Loss in the bad state.
        loss_bad: f64,
    },
}

impl Loss {
    /// A Gilbert model (no loss in the good state, total loss in the bad one) with this mean loss
    /// (0.0 to below 1.0) and mean length of a burst in packets (1.0 or more).
    pub fn bursts(mean_loss: f64, mean_burst: f64) -> Self {
        let leave_bad = 1.0 / mean_burst.max(1.0);
        Self::GilbertElliott {
            enter_bad: (leave_bad * mean_loss / (1.0 - mean_loss)).min(1.0),
            leave_bad,
            loss_good: 0.0,
            loss_bad: 1.0,
        }
    }
}
