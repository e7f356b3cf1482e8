//! Congestion control behind one trait. Windows and rates count chunks with their headers, in bytes.

mod cubic;
mod model;
mod new_reno;

use std::fmt::Debug;
use std::time::Duration;

use crate::ControllerKind;
use crate::clock::Time;

/// What a SACK tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) now: Time,
    /// Newly acknowledged bytes.
    pub(crate) bytes: usize,
    /// In flight before the SACK, and after it and the losses that it showed.
    pub(crate) prior_in_flight: usize,
    pub(crate) in_flight: usize,
    /// Newly lost bytes.
    pub(crate) lost: usize,
    /// A round-trip measurement, if the SACK gave one.
    pub(crate) rtt: Option<Duration>,
    pub(crate) smoothed_rtt: Duration,
    /// Bytes per second at which data arrived lately, and whether the application, not the network,
    /// limited that.
    pub(crate) rate: Option<(u64, bool)>,
    /// Delivered bytes in all, and how many those were when the newest of the acknowledged chunks
    /// left.
    pub(crate) delivered: u64,
    pub(crate) prior_delivered: u64,
    /// Whether the window, rather than the application, limited what was sent.
    pub(crate) window_limited: bool,
}

/// What was lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    pub(crate) now: Time,
    pub(crate) bytes: usize,
    /// When the newest lost chunk was sent: losses of what was sent before the last reduction are
    /// one event with it.
    pub(crate) newest_sent_at: Time,
}

/// A congestion controller.
pub(crate) trait Controller: Debug + Send + Sync {
    /// Chunks were acknowledged. Called after `on_loss` for the same SACK.
    fn on_ack(&mut self, ack: &Ack);
    /// Chunks were lost. Answers whether this begins a new loss episode.
    fn on_loss(&mut self, loss: &Loss) -> bool;
    /// T3 expired; everything in flight counts as lost.
    fn on_timeout(&mut self, now: Time);
    /// The network marked packets (RFC 3168).
    fn on_congestion_mark(&mut self, now: Time, newest_sent_at: Time);
    /// Full packets have that many bytes from now on.
    fn set_packet_size(&mut self, bytes: usize);
    /// The congestion window in bytes.
    fn window(&self) -> usize;
    /// Bytes per second to pace at; 0 for none.
    fn pacing_rate(&self) -> u64;
}

/// A new controller.
pub(crate) fn new(
    kind: ControllerKind,
    packet: usize,
    initial_packets: usize,
) -> Box<dyn Controller> {
    let window = packet * initial_packets.max(2);
    match kind {
        ControllerKind::NewReno => Box::new(new_reno::NewReno::new(packet, window)),
        ControllerKind::Cubic => Box::new(cubic::Cubic::new(packet, window)),
        ControllerKind::Model => Box::new(model::Model::new(packet, window)),
    }
}

/// Ends slow start when a round's least delay has grown: a queue builds, and going on would lose
/// half a window (HyStart++, RFC 9406 section 4.2, in its simplest form).
#[derive(Debug)]
struct DelayRise {
    round_end: u64,
    least: Duration,
    last_least: Duration,
    samples: u32,
}

impl DelayRise {
    /// Samples of a round before it counts.
    const SAMPLES: u32 = 8;

    fn new() -> Self {
        Self {
            round_end: 0,
            least: Duration::MAX,
            last_least: Duration::MAX,
            samples: 0,
        }
    }

    /// Takes a SACK; true if slow start is to end.
    fn is_over(&mut self, ack: &Ack) -> bool {
        if let Some(rtt) = ack.rtt {
            self.least = self.least.min(rtt);
            self.samples += 1;
        }
        let mut over = false;
        if self.samples >= Self::SAMPLES && self.last_least != Duration::MAX {
            let (least, most) = (Duration::from_millis(4), Duration::from_millis(16));
            over = self.least >= self.last_least + (self.last_least / 8).clamp(least, most);
        }
        if ack.prior_delivered >= self.round_end {
            self.round_end = ack.delivered;
            self.last_least = self.least;
            self.least = Duration::MAX;
            self.samples = 0;
        }
        over
    }
}

/// Below this round trip, timers are too coarse to pace by and queues too short to need it.
const PACE_ABOVE: Duration = Duration::from_millis(1);

/// Bytes per second that spread a window over a round trip, times `percent`.
fn rate_of_window(window: usize, rtt: Duration, percent: u64) -> u64 {
    if rtt < PACE_ABOVE {
        return 0;
    }
    let rate = window as u128 * u128::from(percent) * 10_000_000 / rtt.as_nanos();
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ack, Loss};
    use crate::clock::Time;

    pub(super) fn ack(nanos: u64, bytes: usize) -> Ack {
        Ack {
            now: Time::from_nanos(nanos),
            bytes,
            prior_in_flight: bytes,
            in_flight: 0,
            lost: 0,
            rtt: None,
            smoothed_rtt: Duration::from_millis(100),
            rate: None,
            delivered: 0,
            prior_delivered: 0,
            window_limited: true,
        }
    }

    pub(super) fn loss(nanos: u64, newest_sent_at: u64) -> Loss {
        Loss {
            now: Time::from_nanos(nanos),
            bytes: 1000,
            newest_sent_at: Time::from_nanos(newest_sent_at),
        }
    }
}
