//! Capacity that varies with time.

use std::time::Duration;

/// A piecewise constant capacity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateTrace {
    /// Start of each piece in nanoseconds, ascending, and its rate in bits per second.
    pieces: Vec<(u64, u64)>,
    /// Nanoseconds after which the trace begins anew; `None`: the last piece lasts for ever.
    period: Option<u64>,
}

const SECOND: u128 = 1_000_000_000;

impl RateTrace {
    /// A trace from pieces: from when (since the simulation's start) which rate in bits per second.
    /// The pieces are sorted; before the first one the rate is that of the first. The last lasts for ever.
    pub fn new(pieces: impl IntoIterator<Item = (Duration, u64)>) -> Self {
        let mut pieces: Vec<(u64, u64)> = pieces
            .into_iter()
            .map(|(from, rate)| (from.as_nanos() as u64, rate))
            .collect();
        pieces.sort_by_key(|piece| piece.0);
        match pieces.first_mut() {
            Some(first) => first.0 = 0,
            None => pieces.push((0, 0)),
        }
        Self {
            pieces,
            period: None,
        }
    }

    /// Makes the trace begin anew after `period`. Pieces beyond it are never reached.
    #[must_use]
    pub fn repeated_after(mut self, period: Duration) -> Self {
        self.period = Some(period.as_nanos() as u64).filter(|&period| period > 0);
        self
    }

    /// A trace in the format of mahimahi, by which cellular traces are published: each line is the
    /// millisecond of one opportunity to deliver 1500 bytes. The rate is averaged over `bin`; the
    /// trace repeats. Lines that are no number are skipped; an empty text is a stalled link.
    pub fn from_mahimahi(text: &str, bin: Duration) -> Self {
        let bin = (bin.as_millis() as u64).max(1);
        let times = || {
            text.lines()
                .filter_map(|line| line.trim().parse::<u64>().ok())
        };
        // A day is more than any published trace.
        let last = times().max().unwrap_or(0).min(86_400_000);
        let mut counts = vec![0u64; (last / bin + 1) as usize];
        for time in times() {
            if let Some(count) = counts.get_mut((time / bin) as usize) {
                *count += 1;
            }
        }
        let pieces = counts.iter().enumerate().map(|(index, count)| {
            let from = Duration::from_millis(index as u64 * bin);
            (from, count * 1500 * 8 * 1000 / bin)
        });
        Self::new(pieces).repeated_after(Duration::from_millis(counts.len() as u64 * bin))
    }

    /// The rate at a time since the simulation's start, in bits per second.
    pub fn at(&self, time: Duration) -> u64 {
        self.piece(time.as_nanos() as u64).0
    }

    /// The mean rate between two times since the simulation's start, in bits per second.
    pub fn mean(&self, from: Duration, to: Duration) -> f64 {
        let (from, to) = (from.as_nanos() as u64, to.as_nanos() as u64);
        if to <= from {
            return self.piece(from).0 as f64;
        }
        self.bits(from, to) * 1e9 / (to - from) as f64
    }

    /// The rate at `now` and how long it stays (nanoseconds).
    fn piece(&self, now: u64) -> (u64, u64) {
        let at = self.period.map_or(now, |period| now % period);
        let index = self.pieces.partition_point(|piece| piece.0 <= at).max(1) - 1;
        let next = self.pieces.get(index + 1).map_or(u64::MAX, |piece| piece.0);
        let end = self.period.map_or(next, |period| next.min(period));
        (self.pieces[index].1, end.saturating_sub(at).max(1))
    }

    /// Bits that pass between two times (nanoseconds).
    pub(crate) fn bits(&self, from: u64, to: u64) -> f64 {
        let (mut at, mut bits) = (from, 0.0);
        while at < to {
            let (rate, stays) = self.piece(at);
            let span = stays.min(to - at);
            bits += rate as f64 * span as f64 / 1e9;
            at += span;
        }
        bits
    }

    /// When so many bits have passed that start at `now`; `None`: never.
    pub(crate) fn finish(&self, now: u64, bits: f64) -> Option<u64> {
        let (mut at, mut left) = (now, bits);
        // Whole empty periods are given up on; no trace of use has a million pieces per packet.
        for _ in 0..1_000_000 {
            let (rate, stays) = self.piece(at);
            let capacity = rate as f64 * stays as f64 / 1e9;
            if capacity >= left {
                return Some(at + (left * 1e9 / rate as f64).ceil() as u64);
            }
            if stays == u64::MAX || at.checked_add(stays).is_none() || (rate == 0 && self.is_dead())
            {
                return None;
            }
            left -= capacity;
            at += stays;
        }
        None
    }

    fn is_dead(&self) -> bool {
        let reached = |from: u64| self.period.is_none_or(|period| from < period);
        !self
            .pieces
            .iter()
            .any(|&(from, rate)| rate > 0 && reached(from))
    }
}

/// When `bits` have passed at a constant rate; `None`: never.
pub(crate) fn finish_constant(now: u64, bits: f64, rate: u64) -> Option<u64> {
    (rate > 0).then(|| now + ((bits.ceil() as u128 * SECOND).div_ceil(u128::from(rate))) as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RateTrace;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_packet_that_spans_pieces_takes_from_each() {
        let trace = RateTrace::new([
            (Duration::ZERO, 1_000_000),
            (Duration::from_millis(10), 0),
            (Duration::from_millis(20), 2_000_000),
        ]);
        // 10 ms at 1 Mbit/s are 10,000 bits; the other 2,000 take 1 ms from 20 ms on.
        assert_eq!(trace.finish(0, 12_000.0), Some(21 * MS));
        assert_eq!(trace.finish(12 * MS, 2_000.0), Some(21 * MS));
        assert_eq!(trace.at(Duration::from_secs(9)), 2_000_000);
    }

    #[test]
    fn a_repeated_trace_begins_anew_and_a_dead_one_never_ends() {
        let trace = RateTrace::new([(Duration::ZERO, 1_000), (Duration::from_millis(1), 0)])
            .repeated_after(Duration::from_millis(2));
        assert_eq!(trace.finish(0, 2.0), Some(3 * MS));
        assert_eq!(RateTrace::new([]).finish(0, 1.0), None);
        let dead = RateTrace::new([(Duration::ZERO, 0)]).repeated_after(Duration::from_millis(1));
        assert_eq!(dead.finish(0, 1.0), None);
    }

    #[test]
    fn mahimahi_lines_are_opportunities_of_1500_bytes() {
        let trace = RateTrace::from_mahimahi("0\n1\n2\nnoise\n9\n", Duration::from_millis(10));
        assert_eq!(trace.at(Duration::from_millis(5)), 4 * 1500 * 8 * 100);
    }
}
