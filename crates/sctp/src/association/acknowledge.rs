//! What SACKs tell (RFC 9260 section 6.2.1), and what is lost: by time, not by counting
//! (RFC 8985), which suits reordering and finds lost retransmissions too.

use std::time::Duration;

use super::{Association, Timer};
use crate::clock::Time;
use crate::controller::{Ack, Loss};
use crate::send::Acked;
use crate::serial::{after, at_or_after, before};
use crate::wire::SackChunk;

/// Chunks beyond a missing one after which it counts as lost at once, as long as the path has not
/// been seen to reorder (RFC 8985 section 6.2 step 4).
const REORDER_THRESHOLD: u32 = 3;
/// A SACK with that many gap blocks may have had no room for more: what it does not name beyond
/// its last block is unknown rather than missing.
const TRUNCATED: usize = 200;
/// Added to the tail loss probe's two round trips: the peer's own delay. The last chunk of a burst
/// asks for a SACK at once (RFC 9260 section 3.3.1, I bit), so that this can be short.
const TAIL_SLACK: Duration = Duration::from_millis(2);
/// The reordering window grows by quarters of the round trip, to this many.
const MAX_REORDER_STEPS: u32 = 16;

/// The state of loss detection, and of rate samples.
#[derive(Debug, Default)]
pub(super) struct LossDetection {
    /// The newest transmission that was acknowledged (RACK.xmit_ts), and its TSN.
    newest: Option<(Time, u32)>,
    /// The round trip of that one (RACK.rtt).
    rtt: Duration,
    reordering_seen: bool,
    /// Quarters of the least round trip to wait.
    reorder_steps: u32,
    truncated: bool,
    /// Bytes that may be sent again whatever the window says: for each that arrived, while SACKs
    /// cannot tell all that did, and the first packet of each loss (RFC 9260 section 7.2.4 step 3).
    pub(super) credit: usize,
    pub(super) tail_probed: bool,
    /// Bytes acknowledged in all, and when that was so.
    pub(super) delivered: u64,
    pub(super) delivered_at: Time,
    /// When the first chunk of the latest rate sample left.
    pub(super) first_sent_at: Time,
    /// Samples of chunks sent before this many bytes are delivered are limited by the application.
    pub(super) app_limited_until: u64,
    pub(super) forward_sent_at: Time,
}

/// What a SACK newly acknowledges, gathered over its chunks.
#[derive(Debug, Default)]
struct Gathered {
    bytes: usize,
    /// The newest transmission among them.
    newest: Option<Acked>,
    /// The newest one that was sent only once.
    newest_fresh: Option<Time>,
    reordered: bool,
    /// Its times say nothing about the round trip.
    untimely: bool,
}

impl Gathered {
    fn add(&mut self, acked: Acked, highest: Option<u32>) {
        self.bytes += acked.size;
        if self
            .newest
            .is_none_or(|n| (acked.sent_at, acked.delivered) >= (n.sent_at, n.delivered))
        {
            self.newest = Some(acked);
        }
        if !acked.retransmitted {
            self.newest_fresh = self.newest_fresh.max(Some(acked.sent_at));
            self.reordered |= highest.is_some_and(|highest| before(acked.tsn, highest));
        }
    }
}

impl Association {
    pub(super) fn handle_sack(&mut self, now: Time, sack: &SackChunk<'_>) {
        if !self.state.is_connected() {
            self.stats.dropped_chunks += 1;
            return;
        }
        self.stats.sacks_received += 1;
        if !self.is_sack_plausible(sack) {
            self.stats.sacks_ignored += 1;
            return;
        }
        let prior_in_flight = self.outstanding.in_flight();
        let advances = at_or_after(sack.cumulative, self.outstanding.base());
        let highest = self.outstanding.highest_acked();
        let mut gathered = Gathered::default();
        if advances {
            self.outstanding
                .ack_cumulative(sack.cumulative, |acked| gathered.add(acked, highest));
        }
        if sack.gap_count() != 0 {
            let blocks = sack.gaps().map(|(start, end)| {
                (
                    sack.cumulative.wrapping_add(u32::from(start)),
                    sack.cumulative.wrapping_add(u32::from(end)),
                )
            });
            self.outstanding
                .ack_gaps(blocks, |acked| gathered.add(acked, highest));
        }
        // What a truncated SACK left out looks as if it had arrived late.
        gathered.untimely = self.loss.truncated;
        self.loss.truncated = sack.gap_count() >= TRUNCATED;
        gathered.untimely |= self.loss.truncated;
        self.peer_window = sack.window as usize;
        self.errors = 0;
        if sack.duplicate_count() != 0 && self.loss.reordering_seen {
            // Something was sent again that had not been lost: wait longer.
            self.loss.reorder_steps = (self.loss.reorder_steps + 1).min(MAX_REORDER_STEPS);
        }
        self.finish_sack(now, &gathered, prior_in_flight, advances);
    }

    /// The cumulative TSN that SHUTDOWN carries.
    pub(super) fn ack_cumulatively(&mut self, now: Time, cumulative: u32) {
        let sent = self.outstanding.next_tsn().wrapping_sub(1);
        if before(cumulative, self.outstanding.base()) || after(cumulative, sent) {
            return;
        }
        let prior_in_flight = self.outstanding.in_flight();
        let mut gathered = Gathered::default();
        self.outstanding
            .ack_cumulative(cumulative, |acked| gathered.add(acked, None));
        self.finish_sack(now, &gathered, prior_in_flight, true);
    }

    /// Old SACKs say nothing new; those about what was never sent are wrong.
    fn is_sack_plausible(&self, sack: &SackChunk<'_>) -> bool {
        let last_acked = self.outstanding.base().wrapping_sub(1);
        let last_sent = self.outstanding.next_tsn().wrapping_sub(1);
        if before(sack.cumulative, last_acked) || after(sack.cumulative, last_sent) {
            return false;
        }
        let mut previous = 0;
        sack.gaps().all(|(start, end)| {
            let ascends = start > previous && end >= start;
            previous = end;
            ascends && !after(sack.cumulative.wrapping_add(u32::from(end)), last_sent)
        })
    }

    fn finish_sack(
        &mut self,
        now: Time,
        gathered: &Gathered,
        prior_in_flight: usize,
        advances: bool,
    ) {
        if gathered.bytes != 0 {
            self.loss.delivered += gathered.bytes as u64;
            self.loss.delivered_at = now;
            if self.loss.app_limited_until != 0 && self.loss.delivered > self.loss.app_limited_until
            {
                self.loss.app_limited_until = 0;
            }
            self.loss.tail_probed = false;
            self.loss.reordering_seen |= gathered.reordered;
        }
        let sample = gathered
            .newest_fresh
            .filter(|_| !gathered.untimely)
            .map(|sent_at| now.since(sent_at));
        if let Some(rtt) = sample {
            self.rtt.sample(now, rtt);
        } else if advances {
            self.rtt.forget_backoff();
        }
        if let Some(newest) = gathered.newest {
            let rtt = now.since(newest.sent_at);
            // A retransmission acknowledged sooner than a round trip: the original had arrived.
            let spurious = newest.retransmitted && rtt < self.rtt.min();
            let is_newer = self
                .loss
                .newest
                .is_none_or(|known| (newest.sent_at, newest.tsn) > known);
            if !spurious && is_newer {
                self.loss.newest = Some((newest.sent_at, newest.tsn));
                self.loss.rtt = rtt;
            }
        }
        let lost = self.detect_losses(now);
        self.loss.credit = match (self.outstanding.has_lost(), self.loss.truncated) {
            (false, _) => 0,
            (true, true) => self.loss.credit + gathered.bytes + self.mtu.current(),
            (true, false) if lost != 0 => self.mtu.current(),
            (true, false) => self.loss.credit,
        };
        if gathered.bytes != 0 {
            let rate = gathered.newest.and_then(|newest| self.rate_sample(&newest));
            let ack = Ack {
                now,
                bytes: gathered.bytes,
                prior_in_flight,
                in_flight: self.outstanding.in_flight(),
                lost,
                rtt: sample,
                smoothed_rtt: self.rtt.smoothed().unwrap_or_default(),
                rate,
                delivered: self.loss.delivered,
                prior_delivered: gathered.newest.map_or(0, |newest| newest.delivered),
                window_limited: self.limited.by_network(),
            };
            self.controller.on_ack(&ack);
            self.update_pacing(now);
        }
        if let Some(point) = self.outstanding.advanced_ack_point()
            && at_or_after(point, self.outstanding.base())
            && now.since(self.loss.forward_sent_at) >= self.rtt.smoothed().unwrap_or_default()
        {
            self.control.forward_tsn = true;
        }
        if self.outstanding.is_empty() {
            self.timers.stop(Timer::Retransmit);
            self.timers.stop(Timer::Tail);
            self.timers.stop(Timer::Reorder);
        } else if advances || gathered.bytes != 0 {
            // Section 6.3.2 R3; and as long as anything arrives, losses are found by time.
            self.timers.set(Timer::Retransmit, now + self.rtt.rto());
            self.set_tail_timer(now);
        }
        if gathered.bytes != 0 {
            self.reset_when_drained(now);
        }
    }

    /// The rate at which data arrived between the sending and the acknowledgement of a chunk
    /// (draft-ietf-ccwg-bbr section 4.5.2): the slower of how it was sent and how it arrived.
    fn rate_sample(&mut self, newest: &Acked) -> Option<(u64, bool)> {
        let sending = newest.sent_at.since(newest.first_sent_at);
        let arriving = self.loss.delivered_at.since(newest.delivered_at);
        self.loss.first_sent_at = newest.sent_at;
        let interval = sending.max(arriving);
        if interval.is_zero() || interval < self.rtt.min() {
            return None;
        }
        let bytes = self.loss.delivered - newest.delivered;
        let rate = u128::from(bytes) * 1_000_000_000 / interval.as_nanos();
        Some((rate as u64, newest.app_limited))
    }

    /// Marks what is lost and sets the timer for what may be soon. Answers the lost bytes.
    pub(super) fn detect_losses(&mut self, now: Time) -> usize {
        self.timers.stop(Timer::Reorder);
        let Some((newest, newest_tsn)) = self.loss.newest else {
            return 0;
        };
        let highest = self.outstanding.highest_acked();
        let steps = self.loss.reorder_steps.max(1);
        let window = (self.rtt.min() / 4 * steps).min(self.rtt.smoothed().unwrap_or_default());
        let mut lost = 0;
        let mut newest_lost = Time::ZERO;
        while let Some((tsn, sent_at)) = self.outstanding.oldest_in_flight() {
            if (sent_at, tsn) >= (newest, newest_tsn) {
                break;
            }
            let overtaken = highest.map_or(0, |highest| highest.wrapping_sub(tsn) as i32);
            if self.loss.truncated && overtaken <= 0 {
                break;
            }
            let patient = self.loss.reordering_seen || overtaken < REORDER_THRESHOLD as i32;
            let wait = if patient { window } else { Duration::ZERO };
            let deadline = sent_at + self.loss.rtt + wait;
            if deadline > now {
                self.timers.set(Timer::Reorder, deadline);
                break;
            }
            lost += self.outstanding.mark_lost(tsn);
            newest_lost = newest_lost.max(sent_at);
        }
        if lost != 0 {
            let loss = Loss {
                now,
                bytes: lost,
                newest_sent_at: newest_lost,
            };
            if self.controller.on_loss(&loss) {
                self.stats.loss_episodes += 1;
            }
            self.update_pacing(now);
        }
        lost
    }

    /// The tail loss probe (RFC 8985 section 7.2).
    pub(super) fn set_tail_timer(&mut self, now: Time) {
        let Some(smoothed) = self.rtt.smoothed() else {
            return;
        };
        // A zero window probe waits for the retransmission timeout.
        let probes_window = self.peer_window == 0 && self.outstanding.len() == 1;
        if self.loss.tail_probed || self.outstanding.in_flight() == 0 || probes_window {
            self.timers.stop(Timer::Tail);
            return;
        }
        let at = now + smoothed * 2 + TAIL_SLACK;
        if at < self.timers.get(Timer::Retransmit) {
            self.timers.set(Timer::Tail, at);
        } else {
            self.timers.stop(Timer::Tail);
        }
    }

    /// ECNE: the peer saw a mark (RFC 4960 appendix A).
    pub(super) fn handle_ecne(&mut self, now: Time, lowest: u32) {
        if !self.negotiated.is_some_and(|n| n.ecn)
            || after(lowest, self.outstanding.next_tsn().wrapping_sub(1))
        {
            self.stats.dropped_chunks += 1;
            return;
        }
        let sent_at = self
            .outstanding
            .get(lowest)
            .map_or(self.loss.delivered_at, |sent| sent.sent_at);
        self.controller.on_congestion_mark(now, sent_at);
        self.update_pacing(now);
        self.control.cwr = Some(lowest);
    }

    pub(super) fn update_pacing(&mut self, now: Time) {
        let rate = self.controller.pacing_rate();
        self.pacer.set_rate(now, rate, self.mtu.current());
    }

    pub(super) fn apply_packet_size(&mut self) {
        self.controller.set_packet_size(self.mtu.current());
    }
}
