//! Numbers without gaps, although packets or pictures between them are left out.

use std::collections::VecDeque;

/// The most runs that are remembered; packets from before the oldest are too late.
const MAX_RUNS: usize = 128;

/// Numbers from `start` up to the next run, or to `end` if some behind them were left out.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u64,
    end: u64,
    /// What is added to a number of this run.
    delta: i64,
}

/// Where a number goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapped {
    /// It goes out as this.
    To(u64),
    /// It was left out, or comes from before all runs.
    Gone,
}

/// Maps incoming numbers, extended so that they do not wrap, to outgoing ones without gaps.
#[derive(Debug, Default)]
pub(super) struct NumberMap {
    runs: VecDeque<Run>,
    highest: Option<u64>,
}

impl NumberMap {
    /// From `number` on, numbers go out as `out`, `out + 1`, ...; earlier ones are gone.
    pub(super) fn begin(&mut self, number: u64, out: u64) {
        self.runs.clear();
        self.runs.push_back(Run {
            start: number,
            end: u64::MAX,
            delta: out.wrapping_sub(number) as i64,
        });
        self.highest = None;
    }

    /// Reads what [`map`](Self::map) will touch.
    pub(super) fn warm(&self) {
        std::hint::black_box((self.highest, self.runs.back().map(|run| run.delta)));
    }

    /// Where a number goes.
    pub(super) fn map(&mut self, number: u64) -> Mapped {
        // The newest run is nearly always the one.
        let run = self.runs.iter().rev().find(|run| run.start <= number);
        match run {
            Some(run) if number < run.end => {
                self.highest = self.highest.max(Some(number));
                Mapped::To(number.wrapping_add_signed(run.delta))
            }
            _ => Mapped::Gone,
        }
    }

    /// Leaves a number out, so that the next one follows the one before. A number below the highest
    /// already has its place: that is returned, to be filled with nothing.
    pub(super) fn leave_out(&mut self, number: u64) -> Option<u64> {
        if self.highest.is_some_and(|highest| number <= highest) {
            return match self.map(number) {
                Mapped::To(out) => Some(out),
                Mapped::Gone => None,
            };
        }
        let last = self.runs.back_mut()?;
        if number < last.start {
            return None;
        }
        self.highest = Some(number);
        if last.start == number {
            // Nothing of this run has gone out yet.
            last.start += 1;
            last.delta -= 1;
            return None;
        }
        last.end = number;
        let run = Run {
            start: number + 1,
            end: u64::MAX,
            delta: last.delta - 1,
        };
        self.runs.push_back(run);
        if self.runs.len() > MAX_RUNS {
            self.runs.pop_front();
        }
        None
    }
}

/// Extends numbers of some bits so that they do not wrap.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extender {
    last: Option<u64>,
}

impl Extender {
    /// Extends a number of `bits` bits, 1 to 32: the nearest to the highest so far.
    pub(super) fn extend(&mut self, number: u64, bits: u8) -> u64 {
        let cycle = 1u64 << bits.clamp(1, 32);
        let number = number & (cycle - 1);
        let extended = match self.last {
            None => number + cycle,
            Some(last) => {
                let step = number.wrapping_sub(last) & (cycle - 1);
                if step < cycle / 2 {
                    last + step
                } else {
                    (last + step).saturating_sub(cycle)
                }
            }
        };
        self.last = self.last.max(Some(extended));
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_leaves_no_gap() {
        let mut map = NumberMap::default();
        map.begin(100, 7);
        assert_eq!(map.map(100), Mapped::To(7));
        assert_eq!(map.leave_out(101), None);
        assert_eq!(map.leave_out(102), None);
        assert_eq!(map.map(103), Mapped::To(8));
        // Late ones keep their place.
        assert_eq!(map.map(100), Mapped::To(7));
        assert_eq!(map.map(101), Mapped::Gone);
        assert_eq!(map.map(99), Mapped::Gone);
        // A gap in what comes in stays a gap: it may still come.
        assert_eq!(map.map(105), Mapped::To(10));
        assert_eq!(map.map(104), Mapped::To(9));
    }

    #[test]
    fn what_is_left_out_too_late_has_a_place_to_be_filled() {
        let mut map = NumberMap::default();
        map.begin(10, 0);
        assert_eq!(map.map(10), Mapped::To(0));
        assert_eq!(map.map(12), Mapped::To(2));
        assert_eq!(map.leave_out(11), Some(1));
        assert_eq!(map.map(13), Mapped::To(3));
    }

    #[test]
    fn old_runs_are_forgotten() {
        let mut map = NumberMap::default();
        map.begin(0, 0);
        for number in 0..1000 {
            if number % 2 == 0 {
                assert_eq!(map.map(number), Mapped::To(number / 2));
            } else {
                map.leave_out(number);
            }
        }
        assert_eq!(map.map(10), Mapped::Gone);
        assert_eq!(map.map(990), Mapped::To(495));
    }

    #[test]
    fn short_numbers_extend_both_ways() {
        let mut extender = Extender::default();
        let first = extender.extend(126, 7);
        assert_eq!(extender.extend(1, 7), first + 3);
        assert_eq!(extender.extend(127, 7), first + 1);
        assert_eq!(extender.extend(2, 7), first + 4);
    }
}
