//! Transport-wide feedback about packets that arrive
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::{Duration, Instant};

use visavis_rtp::rtcp::Arrival;
use visavis_rtp::{SequenceNumber, Ssrc};

/// How long arrivals are collected: what libwebrtc does at medium rates.
const INTERVAL: Duration = Duration::from_millis(50);
/// So many are told at once, at the latest.
const MOST: usize = 400;

/// Arrivals that were not told yet.
#[derive(Debug, Default)]
pub(super) struct ArrivalLog {
    /// In serial order, none twice.
    arrivals: Vec<Arrival>,
    since: Option<Instant>,
    media: Ssrc,
    count: u8,
    /// The number behind the last one that was told.
    base: Option<SequenceNumber>,
    full: bool,
}

/// One feedback to be written.
#[derive(Debug)]
pub(super) struct Pending<'a> {
    pub(super) media: Ssrc,
    pub(super) base: SequenceNumber,
    pub(super) count: u8,
    pub(super) arrivals: &'a [Arrival],
}

impl ArrivalLog {
    pub(super) fn received(
        &mut self,
        now: Instant,
        sequence: u16,
        since_birth: Duration,
        media: Ssrc,
    ) {
        let sequence = SequenceNumber(sequence);
        let arrival = Arrival {
            sequence,
            micros: since_birth.as_micros() as u64,
        };
        self.media = media;
        if let Some(base) = self.base
            && base.is_after(sequence)
        {
            // Told as lost already; telling it late helps the sender's loss estimate no more.
            return;
        }
        let at = self
            .arrivals
            .iter()
            .rposition(|found| sequence.is_after(found.sequence))
            .map_or(0, |at| at + 1);
        if self
            .arrivals
            .get(at)
            .is_some_and(|found| found.sequence == sequence)
        {
            return;
        }
        self.arrivals.insert(at, arrival);
        self.since.get_or_insert(now);
        self.full = self.arrivals.len() >= MOST;
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.full { since } else { since + INTERVAL })
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// What is to be told next.
    pub(super) fn next_feedback(&self) -> Option<Pending<'_>> {
        let first = self.arrivals.first()?;
        Some(Pending {
            media: self.media,
            base: self.base.unwrap_or(first.sequence),
            count: self.count,
            arrivals: &self.arrivals,
        })
    }

    /// The first `written` arrivals were told.
    pub(super) fn sent(&mut self, written: usize) {
        let written = written.min(self.arrivals.len());
        if let Some(last) = self.arrivals[..written].last() {
            self.base = Some(last.sequence.next());
        }
        self.arrivals.drain(..written);
        self.count = self.count.wrapping_add(1);
        self.since = None;
        self.full = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_told_in_order_and_once() {
        let now = Instant::now();
        let mut log = ArrivalLog::default();
        for sequence in [65_534, 1, 0, 65_535, 1] {
            log.received(now, sequence, Duration::ZERO, Ssrc(7));
        }
        assert!(!log.is_due(now) && log.is_due(now + INTERVAL));
        let pending = log.next_feedback().unwrap();
        assert_eq!(pending.base.0, 65_534);
        let numbers: Vec<_> = pending.arrivals.iter().map(|a| a.sequence.0).collect();
        assert_eq!(numbers, [65_534, 65_535, 0, 1]);
        log.sent(4);
        assert!(log.due().is_none());
        log.received(now, 0, Duration::ZERO, Ssrc(7));
        assert!(log.next_feedback().is_none());
        log.received(now, 4, Duration::ZERO, Ssrc(7));
        assert_eq!(log.next_feedback().unwrap().base.0, 2);
    }
}
