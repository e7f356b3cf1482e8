//! What every congestion controller of media does, whatever signal it lives on.

use std::time::{Duration, Instant};

use visavis_datagram::Ecn;

use crate::packet::{Feedback, ProbeCluster, SentPacket};
use crate::trendline::BandwidthUsage;

/// What a controller lets the sender do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Bits per second for everything that is sent: what encoders share.
    pub bitrate: u64,
    /// Bits per second that the pacer sends at while it has a queue.
    pub pacing: u64,
    /// Bytes that may be in flight before the pacer holds all but audio; `None`: no such bound.
    pub window: Option<usize>,
    /// The ECN codepoint to send with.
    pub ecn: Ecn,
}

/// Bounds of the target in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Never less.
    pub min: u64,
    /// The first target.
    pub start: u64,
    /// Never more.
    pub max: u64,
}

impl Default for Limits {
    /// 30 kbit/s to 100 Mbit/s, from 300 kbit/s on, as browsers start.
    fn default() -> Self {
        Self {
            min: 30_000,
            start: 300_000,
            max: 100_000_000,
        }
    }
}

/// What a controller sees and does, for statistics and live inspection.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// The target in bits per second.
    pub target: u64,
    /// What delay alone allows, in bits per second.
    pub delay_based: u64,
    /// What loss alone allows, in bits per second; 0 while it does not limit.
    pub loss_based: u64,
    /// What arrives, in bits per second; 0 while unknown.
    pub acknowledged: u64,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Recent loss, 0.0 to 1.0.
    pub loss: f64,
    /// The loss that the path has of itself, as far as it is known, 0.0 to 1.0.
    pub inherent_loss: f64,
    /// What the delay says.
    pub usage: BandwidthUsage,
    /// Whether the sender has less to send than it may.
    pub application_limited: bool,
    /// Probes that were sent, and those that gave a result.
    pub probes: u64,
    /// Results of probes.
    pub probe_results: u64,
    /// How often the delay showed over-use and the target came down.
    pub overuses: u64,
    /// How often feedback stayed away for so long that the target came down.
    pub silences: u64,
    /// Packets marked "congestion experienced".
    pub marked: u64,
}

/// A congestion controller of media. Calls may come in any order; time may stand still.
pub trait Controller: std::fmt::Debug {
    /// A packet leaves now.
    fn packet_sent(&mut self, now: Instant, packet: &SentPacket);
    /// Reads what [`packet_sent`](Self::packet_sent) will touch, and does nothing else.
    fn warm(&self) {}
    /// Feedback has come.
    fn feedback(&mut self, now: Instant, feedback: &Feedback<'_>);
    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    fn handle_timeout(&mut self, now: Instant);
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called; `None` while there is nothing to wait for.
    fn poll_timeout(&self) -> Option<Instant>;
    /// A cluster of packets to send as a probe; asked again until `None`.
    fn poll_probe(&mut self) -> Option<ProbeCluster>;
    /// What may be sent.
    fn target(&self) -> Target;
    /// Sets other bounds. The start rate counts while nothing has been measured.
    fn set_limits(&mut self, now: Instant, limits: Limits);
    /// Sets how much the application would send if it might, in bits per second. Probes do not go
    /// far beyond it.
    fn set_demand(&mut self, now: Instant, bitrate: u64);
    /// Sets the rate in bits per second that the next thing needs which waits for more bandwidth: a paused track, a
    /// higher layer; `None` when nothing waits. As long as the target is below it the path is probed towards it every
    /// few seconds, also where next to nothing or nothing at all is sent.
    fn set_wanted(&mut self, _now: Instant, _bitrate: Option<u64>) {}
    /// Sets the rate in bits per second that the target does not fall below for want of evidence: as long as no loss
    /// and no long queue shows that the path does not bear it. 0: none.
    fn set_floor(&mut self, _now: Instant, _bitrate: u64) {}
    /// The receiver's own estimate (REMB) in bits per second: an upper bound.
    fn remb(&mut self, now: Instant, bitrate: u64);
    /// What a receiver report says: the share of packets lost (0.0 to 1.0) and the round-trip time.
    /// Loss counts only for peers that give no feedback per packet.
    fn receiver_report(&mut self, now: Instant, loss: f64, rtt: Option<Duration>);
    /// The path has changed (another candidate pair): what was measured holds no more.
    fn path_changed(&mut self, now: Instant);
    /// What it sees and does.
    fn stats(&self) -> Stats;
}

impl<C: Controller + ?Sized> Controller for Box<C> {
    fn packet_sent(&mut self, now: Instant, packet: &SentPacket) {
        (**self).packet_sent(now, packet);
    }

    fn warm(&self) {
        (**self).warm();
    }

    fn feedback(&mut self, now: Instant, feedback: &Feedback<'_>) {
        (**self).feedback(now, feedback);
    }

    fn handle_timeout(&mut self, now: Instant) {
        (**self).handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }

    fn poll_probe(&mut self) -> Option<ProbeCluster> {
        (**self).poll_probe()
    }

    fn target(&self) -> Target {
        (**self).target()
    }

    fn set_limits(&mut self, now: Instant, limits: Limits) {
        (**self).set_limits(now, limits);
    }

    fn set_demand(&mut self, now: Instant, bitrate: u64) {
        (**self).set_demand(now, bitrate);
    }

    fn set_wanted(&mut self, now: Instant, bitrate: Option<u64>) {
        (**self).set_wanted(now, bitrate);
    }

    fn set_floor(&mut self, now: Instant, bitrate: u64) {
        (**self).set_floor(now, bitrate);
    }

    fn remb(&mut self, now: Instant, bitrate: u64) {
        (**self).remb(now, bitrate);
    }

    fn receiver_report(&mut self, now: Instant, loss: f64, rtt: Option<Duration>) {
        (**self).receiver_report(now, loss, rtt);
    }

    fn path_changed(&mut self, now: Instant) {
        (**self).path_changed(now);
    }

    fn stats(&self) -> Stats {
        (**self).stats()
    }
}
