//! What is due when.

use std::time::Duration;

use super::Association;
use crate::clock::Time;
use crate::wire::{HEADER, cause_code, padded};
use crate::{CloseReason, Event, State};

/// The timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// T1-init and T1-cookie (RFC 9260 section 5.1).
    Init,
    /// T2-shutdown (section 9.2).
    Shutdown,
    /// T3-rtx (section 6.3).
    Retransmit,
    /// Tail loss probe (RFC 8985 section 7).
    Tail,
    /// A chunk that is late enough to be lost (RFC 8985 section 6).
    Reorder,
    /// The delayed SACK (section 6.2).
    Sack,
    Heartbeat,
    /// An unanswered RE-CONFIG (RFC 6525).
    Reconfig,
    /// The next burst.
    Pace,
}

const COUNT: usize = 9;

/// When each timer expires.
#[derive(Debug)]
pub(super) struct Timers([Time; COUNT]);

impl Default for Timers {
    fn default() -> Self {
        Self([Time::NEVER; COUNT])
    }
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.0[timer as usize] = at;
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = Time::NEVER;
    }

    pub(super) fn get(&self, timer: Timer) -> Time {
        self.0[timer as usize]
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.get(timer).is_set()
    }

    /// Whether a timer is due; then it is stopped.
    fn take_due(&mut self, timer: Timer, now: Time) -> bool {
        let due = self.0[timer as usize] <= now;
        if due {
            self.stop(timer);
        }
        due
    }

    fn next(&self) -> Time {
        self.0.iter().copied().min().unwrap_or(Time::NEVER)
    }
}

impl Association {
    pub(super) fn next_timeout(&self) -> Time {
        let next = self.timers.next();
        if self.state.is_connected() {
            next.min(self.mtu.timer())
        } else {
            next
        }
    }

    pub(super) fn run_timers(&mut self, now: Time) {
        if self.next_timeout() > now {
            return;
        }
        if self.timers.take_due(Timer::Init, now) {
            self.init_timeout(now);
        }
        if self.timers.take_due(Timer::Shutdown, now) {
            self.shutdown_timeout(now);
        }
        if self.timers.take_due(Timer::Reorder, now) {
            self.detect_losses(now);
        }
        if self.timers.take_due(Timer::Tail, now) {
            self.tail_timeout(now);
        }
        if self.timers.take_due(Timer::Retransmit, now) {
            self.retransmit_timeout(now);
        }
        if self.timers.take_due(Timer::Sack, now) {
            self.debt.due();
        }
        if self.timers.take_due(Timer::Heartbeat, now) {
            self.heartbeat_timeout(now);
        }
        if self.timers.take_due(Timer::Reconfig, now) {
            self.reconfig_timeout(now);
        }
        self.timers.take_due(Timer::Pace, now);
        if self.state.is_connected()
            && let Some(size) = self.mtu.due(now, self.rtt.rto())
        {
            self.control.probe = Some(size);
        }
    }

    pub(super) fn renew_path(&mut self, now: Time) {
        // How long the other path was silent tells nothing of this one: what waits leaves now, and what is lost at the very beginning,
        // as while the peer still answers by the old one, soon. That the peer was heard by now does not mean that it has everything.
        let waits = self.errors > 0 || self.rtt.is_backed_off();
        if waits && self.timers.is_set(Timer::Retransmit) {
            self.timers.set(Timer::Retransmit, now);
        }
        self.rtt.forget_backoff();
        // A SACK may have gone the old way.
        self.debt.immediate |= self.stats.chunks_received != 0;
        if self.state.is_connected() && self.mtu.path_changed(now) {
            self.apply_packet_size();
        }
    }

    /// A time-out without an answer from the peer. False if that was one too many.
    pub(super) fn count_error(&mut self, now: Time) -> bool {
        self.errors += 1;
        if let Some(max) = self.config.max_retransmissions {
            if self.errors > max {
                self.abort_with(now, cause_code::USER_ABORT, CloseReason::TimedOut);
                return false;
            }
            if self.errors == max.div_ceil(2).max(1) {
                self.tell(Event::PathSuspect);
            }
        }
        true
    }

    fn retransmit_timeout(&mut self, now: Time) {
        if self.outstanding.is_empty() {
            if self.peer_window == 0 && self.queue.buffered() != 0 {
                self.rtt.back_off();
                self.limited.window_probe = true;
            }
            return;
        }
        self.stats.timeouts += 1;
        if !self.count_error(now) {
            return;
        }
        let probing_window = self.peer_window == 0;
        self.rtt.back_off();
        self.outstanding.mark_all_lost();
        if self.errors >= 2 {
            self.outstanding.forget_gap_acks();
        }
        if self.errors == 3 && self.mtu.black_hole(now) {
            self.apply_packet_size();
        }
        if self.is_stuck() {
            self.abort_with(now, cause_code::USER_ABORT, CloseReason::TimedOut);
            return;
        }
        if !probing_window {
            self.controller.on_timeout(now);
        }
        self.loss.tail_probed = false;
        self.timers.stop(Timer::Reorder);
        self.timers.stop(Timer::Tail);
        self.update_pacing(now);
        if self.outstanding.advanced_ack_point().is_some() {
            self.control.forward_tsn = true;
        }
        // Sending starts it again; but nothing may be sendable.
        self.timers.set(Timer::Retransmit, now + self.rtt.rto());
    }

    /// Whether what comes next went out in a packet that the path no longer carries, again and again.
    /// Heartbeats, which are small, may be answered all the while.
    fn is_stuck(&self) -> bool {
        let (Some(max), Some(sent)) = (
            self.config.max_retransmissions,
            self.outstanding.get(self.outstanding.base()),
        ) else {
            return false;
        };
        let packet = HEADER + self.chunk_header() + padded(sent.payload.len());
        packet > self.mtu.current() && u32::from(sent.retransmits) > max
    }

    fn tail_timeout(&mut self, now: Time) {
        if self.outstanding.in_flight() == 0 || self.loss.tail_probed {
            return;
        }
        self.loss.tail_probed = true;
        self.stats.tail_probes += 1;
        self.limited.probe = true;
        let new_data = self.queue.head(now).is_some() && self.peer_has_room();
        if !new_data && !self.outstanding.probe_last(now) {
            self.limited.probe = false;
        }
    }

    fn heartbeat_timeout(&mut self, now: Time) {
        if !self.state.is_connected() || self.config.heartbeat_interval.is_zero() {
            return;
        }
        if self.control.heartbeat_unanswered && !self.count_error(now) {
            return;
        }
        self.trim();
        self.control.heartbeat = true;
        self.set_heartbeat_timer(now);
    }

    pub(super) fn set_heartbeat_timer(&mut self, now: Time) {
        let interval = self.config.heartbeat_interval;
        if interval.is_zero() {
            return;
        }
        // RFC 9260 section 8.3: with a jitter of half the RTO either way.
        let rto = self.rtt.rto();
        let jitter = Duration::from_nanos(self.random.below(rto.as_nanos() as u64));
        let after = interval + rto / 2 + jitter - rto / 2;
        self.timers.set(Timer::Heartbeat, now + after);
    }

    fn shutdown_timeout(&mut self, now: Time) {
        match self.state {
            State::ShutdownSent => self.control.shutdown = true,
            State::ShutdownAckSent => self.control.shutdown_ack = true,
            _ => return,
        }
        self.rtt.back_off();
        if self.count_error(now) {
            self.timers.set(Timer::Shutdown, now + self.rtt.rto());
        }
    }

    /// Gives back the memory of a burst that is over. Nothing happens while there is something under way.
    pub fn trim(&mut self) {
        if !self.outstanding.is_empty() {
            return;
        }
        self.outstanding.trim();
        self.queue.trim();
        self.reassembly.trim();
        self.tracker.trim();
        self.control.trim();
        self.random.rest();
        if self.events.is_empty() {
            self.events = std::collections::VecDeque::new();
        }
    }
}
