//! Feedback about packets that arrive: by transport-wide numbers
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), or by source and sequence number (RFC 8888).

use std::time::{Duration, Instant};

use visavis_datagram::Ecn;
use visavis_rtp::rtcp::{Arrival, MetricBlock};
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

/// Arrivals by source, for RFC 8888.
#[derive(Debug, Default)]
pub(super) struct SourceLog {
    /// Those of each source that is heard; kept for their memory.
    sources: Vec<SourceArrivals>,
    since: Option<Instant>,
    count: usize,
}

#[derive(Debug)]
struct SourceArrivals {
    ssrc: Ssrc,
    /// In serial order, none twice.
    arrivals: Vec<(SequenceNumber, Instant, Ecn)>,
    /// The number behind the last one that was told.
    base: Option<SequenceNumber>,
}

/// Sources that are told apart in feedback; packets of more are not told.
const SOURCES: usize = 32;
/// Numbers that are so far apart are of different streams.
const JUMP: i16 = 1600;

impl SourceLog {
    pub(super) fn received(
        &mut self,
        now: Instant,
        ssrc: Ssrc,
        sequence: SequenceNumber,
        (at, ecn): (Instant, Ecn),
    ) {
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let index = match known {
            Some(index) => index,
            None if self.sources.len() < SOURCES => {
                self.sources.push(SourceArrivals {
                    ssrc,
                    arrivals: Vec::new(),
                    base: None,
                });
                self.sources.len() - 1
            }
            None => return,
        };
        let source = &mut self.sources[index];
        let ahead = source.base.map(|base| sequence.distance(base));
        match ahead {
            // Told as lost already; telling it late helps the sender's loss estimate no more.
            Some(ahead) if (-JUMP..0).contains(&ahead) => return,
            // A new beginning: the gap is not told packet by packet.
            Some(ahead) if ahead.abs() >= JUMP => source.base = None,
            _ => {}
        }
        if self.count >= MOST {
            return;
        }
        let place = source
            .arrivals
            .iter()
            .rposition(|&(found, ..)| sequence.is_after(found))
            .map_or(0, |last| last + 1);
        if source
            .arrivals
            .get(place)
            .is_some_and(|&(found, ..)| found == sequence)
        {
            return;
        }
        source.arrivals.insert(place, (sequence, at, ecn));
        self.count += 1;
        self.since.get_or_insert(now);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.count >= MOST {
            since
        } else {
            since + INTERVAL
        })
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// What is to be told of each source: the first number, and a block for each from there on.
    pub(super) fn reports(
        &self,
        now: Instant,
    ) -> impl Iterator<
        Item = (
            Ssrc,
            SequenceNumber,
            impl Iterator<Item = Option<MetricBlock>> + '_,
        ),
    > + '_ {
        self.sources.iter().filter_map(move |source| {
            let &(first, ..) = source.arrivals.first()?;
            let &(last, ..) = source.arrivals.last()?;
            let begin = source.base.unwrap_or(first);
            let span = last.0.wrapping_sub(begin.0);
            let mut told = source.arrivals.iter().peekable();
            let blocks = (0..=span).map(move |step| {
                let sequence = begin.add(step);
                let &(_, at, ecn) = told.next_if(|&&(found, ..)| found == sequence)?;
                let before = now.saturating_duration_since(at).as_micros() * 1024 / 1_000_000;
                let arrival_offset = u16::try_from(before)
                    .map_or(MetricBlock::TOO_LONG, |offset| {
                        offset.min(MetricBlock::TOO_LONG)
                    });
                Some(MetricBlock {
                    ecn,
                    arrival_offset,
                })
            });
            Some((source.ssrc, begin, blocks))
        })
    }

    /// All of it was told.
    pub(super) fn sent(&mut self) {
        for source in &mut self.sources {
            if let Some(&(last, ..)) = source.arrivals.last() {
                source.base = Some(last.next());
            }
            source.arrivals.clear();
        }
        self.count = 0;
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_with_their_gaps_and_marks() {
        let now = Instant::now();
        let mut log = SourceLog::default();
        for (ssrc, sequence, ecn) in [
            (7, 65_535, Ecn::Ect1),
            (7, 1, Ecn::Ce),
            (8, 5, Ecn::NotEct),
            (7, 1, Ecn::Ce),
        ] {
            log.received(now, Ssrc(ssrc), SequenceNumber(sequence), (now, ecn));
        }
        let later = now + Duration::from_secs(1);
        assert!(log.is_due(later));
        let told: Vec<_> = log
            .reports(later)
            .map(|(ssrc, begin, blocks)| (ssrc.0, begin.0, blocks.collect::<Vec<_>>()))
            .collect();
        let block = |ecn| {
            Some(MetricBlock {
                ecn,
                arrival_offset: 1024,
            })
        };
        assert_eq!(
            told,
            [
                (7, 65_535, vec![block(Ecn::Ect1), None, block(Ecn::Ce)]),
                (8, 5, vec![block(Ecn::NotEct)])
            ]
        );
        log.sent();
        log.received(now, Ssrc(7), SequenceNumber(0), (now, Ecn::NotEct));
        assert_eq!(log.due(), None);
        log.received(now, Ssrc(7), SequenceNumber(4), (now, Ecn::NotEct));
        let (_, begin, blocks) = log.reports(later).next().unwrap();
        assert_eq!((begin.0, blocks.count()), (2, 3));
    }

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
