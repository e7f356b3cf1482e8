//! Which TSNs have arrived (RFC 9260 section 6.2): the cumulative point, and the runs beyond it.

use std::collections::VecDeque;

use crate::serial::{after, at_or_after, before};

/// How far beyond the cumulative TSN a gap block can reach (16 bits, RFC 9260 section 3.3.4).
const REACH: u32 = 65_535;
/// Duplicates that one SACK reports at most.
const MAX_DUPLICATES: usize = 16;

/// What a TSN is to the tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// New; `in_order` if it is the next one.
    New { in_order: bool },
    /// Seen before.
    Duplicate,
    /// Beyond what a SACK can tell, or too many gaps.
    TooFar,
}

/// The tracker.
#[derive(Debug)]
pub(crate) struct TsnTracker {
    cumulative: u32,
    /// Runs beyond the cumulative TSN, both ends inclusive, ascending, never touching.
    runs: VecDeque<(u32, u32)>,
    duplicates: Vec<u32>,
    max_runs: usize,
}

impl TsnTracker {
    pub(crate) fn new(initial_tsn: u32, max_runs: usize) -> Self {
        Self {
            cumulative: initial_tsn.wrapping_sub(1),
            runs: VecDeque::new(),
            duplicates: Vec::new(),
            max_runs,
        }
    }

    /// Everything up to this has arrived.
    pub(crate) fn cumulative(&self) -> u32 {
        self.cumulative
    }

    /// Whether something is missing.
    pub(crate) fn has_gaps(&self) -> bool {
        !self.runs.is_empty()
    }

    /// The highest TSN that arrived.
    pub(crate) fn highest(&self) -> u32 {
        self.runs.back().map_or(self.cumulative, |run| run.1)
    }

    /// The runs beyond the cumulative TSN.
    pub(crate) fn runs(&self) -> impl ExactSizeIterator<Item = (u32, u32)> {
        self.runs.iter().copied()
    }

    /// Duplicates since the last call to [`clear_duplicates`](Self::clear_duplicates).
    pub(crate) fn duplicates(&self) -> &[u32] {
        &self.duplicates
    }

    /// They have been reported.
    pub(crate) fn clear_duplicates(&mut self) {
        self.duplicates.clear();
    }

    /// What `tsn` would be; nothing changes, except that a duplicate is noted for the next SACK.
    pub(crate) fn classify(&mut self, tsn: u32) -> Arrival {
        let next = self.cumulative.wrapping_add(1);
        if tsn == next {
            return Arrival::New { in_order: true };
        }
        if at_or_after(self.cumulative, tsn) || self.find(tsn).is_ok() {
            if self.duplicates.len() < MAX_DUPLICATES {
                self.duplicates.push(tsn);
            }
            return Arrival::Duplicate;
        }
        if tsn.wrapping_sub(self.cumulative) > REACH || self.runs.len() >= self.max_runs {
            return Arrival::TooFar;
        }
        Arrival::New { in_order: false }
    }

    /// Notes the arrival of a TSN that [`classify`](Self::classify) called new.
    pub(crate) fn insert(&mut self, tsn: u32) {
        if tsn == self.cumulative.wrapping_add(1) {
            self.cumulative = tsn;
            self.absorb();
            return;
        }
        let Err(at) = self.find(tsn) else { return };
        let touches_previous = at > 0 && self.runs[at - 1].1.wrapping_add(1) == tsn;
        let touches_next = at < self.runs.len() && self.runs[at].0 == tsn.wrapping_add(1);
        match (touches_previous, touches_next) {
            (true, true) => {
                self.runs[at - 1].1 = self.runs[at].1;
                self.runs.remove(at);
            }
            (true, false) => self.runs[at - 1].1 = tsn,
            (false, true) => self.runs[at].0 = tsn,
            (false, false) => self.runs.insert(at, (tsn, tsn)),
        }
    }

    /// Takes everything up to `tsn` as arrived (FORWARD-TSN). False if it was already.
    pub(crate) fn advance(&mut self, tsn: u32) -> bool {
        if !after(tsn, self.cumulative) {
            return false;
        }
        self.cumulative = tsn;
        while let Some(&(start, end)) = self.runs.front() {
            if after(start, tsn) {
                break;
            }
            self.runs.pop_front();
            if after(end, tsn) {
                self.cumulative = end;
                break;
            }
        }
        self.absorb();
        true
    }

    /// Gives memory back.
    pub(crate) fn trim(&mut self) {
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
        if self.duplicates.is_empty() {
            self.duplicates = Vec::new();
        }
    }

    fn absorb(&mut self) {
        if let Some(&(start, end)) = self.runs.front()
            && start == self.cumulative.wrapping_add(1)
        {
            self.cumulative = end;
            self.runs.pop_front();
        }
    }

    /// The run that holds `tsn`, or where one would stand. The common place is the end.
    fn find(&self, tsn: u32) -> Result<usize, usize> {
        match self.runs.back() {
            None => return Err(0),
            Some(&(_, end)) if after(tsn, end) => return Err(self.runs.len()),
            Some(_) => {}
        }
        let at = self.runs.partition_point(|&(_, end)| before(end, tsn));
        if at_or_after(tsn, self.runs[at].0) {
            Ok(at)
        } else {
            Err(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, TsnTracker};

    fn receive(tracker: &mut TsnTracker, tsn: u32) -> Arrival {
        let arrival = tracker.classify(tsn);
        if matches!(arrival, Arrival::New { .. }) {
            tracker.insert(tsn);
        }
        arrival
    }

    #[test]
    fn runs_merge_and_are_absorbed_across_the_wrap() {
        let mut tracker = TsnTracker::new(u32::MAX - 1, 100);
        for tsn in [u32::MAX, 1, 3, 2] {
            assert_eq!(receive(&mut tracker, tsn), Arrival::New { in_order: false });
        }
        assert_eq!(
            tracker.runs().collect::<Vec<_>>(),
            [(u32::MAX, u32::MAX), (1, 3)]
        );
        assert_eq!(receive(&mut tracker, 2), Arrival::Duplicate);
        assert_eq!(
            receive(&mut tracker, u32::MAX - 1),
            Arrival::New { in_order: true }
        );
        assert_eq!(tracker.cumulative(), u32::MAX);
        receive(&mut tracker, 0);
        assert_eq!((tracker.cumulative(), tracker.has_gaps()), (3, false));
        assert_eq!(tracker.duplicates(), [2]);
    }

    #[test]
    fn what_a_sack_cannot_tell_is_refused() {
        let mut tracker = TsnTracker::new(1, 2);
        assert_eq!(tracker.classify(65_536), Arrival::TooFar);
        assert_eq!(tracker.classify(65_535), Arrival::New { in_order: false });
        receive(&mut tracker, 3);
        receive(&mut tracker, 5);
        assert_eq!(tracker.classify(7), Arrival::TooFar, "too many gaps");
        assert_eq!(tracker.classify(1), Arrival::New { in_order: true });
    }

    #[test]
    fn forward_tsn_swallows_runs() {
        let mut tracker = TsnTracker::new(1, 100);
        for tsn in [3, 4, 7, 9] {
            receive(&mut tracker, tsn);
        }
        assert!(tracker.advance(3));
        assert_eq!(tracker.cumulative(), 4);
        assert!(tracker.advance(6));
        assert_eq!(tracker.cumulative(), 7);
        assert!(!tracker.advance(7));
        assert!(tracker.advance(20));
        assert_eq!((tracker.cumulative(), tracker.has_gaps()), (20, false));
    }
}
