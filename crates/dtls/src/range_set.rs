//! Which bytes of a message are there, or acknowledged.

/// Disjoint, sorted, non-touching ranges of a message's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<(u32, u32)>);

impl RangeSet {
    /// The most pieces that are kept apart. Messages are at most some ten datagrams long, so a peer
    /// that needs more is playing.
    const MAX_PIECES: usize = 128;

    /// Adds `start..end`. False, and nothing changes, if that would leave too many pieces.
    pub(crate) fn insert(&mut self, start: u32, end: u32) -> bool {
        if start >= end {
            return true;
        }
        let first = self.0.partition_point(|&(_, e)| e < start);
        let last = self.0.partition_point(|&(s, _)| s <= end);
        if first == last {
            if self.0.len() == Self::MAX_PIECES {
                return false;
            }
            self.0.insert(first, (start, end));
        } else {
            self.0[first] = (start.min(self.0[first].0), end.max(self.0[last - 1].1));
            self.0.drain(first + 1..last);
        }
        true
    }

    /// Whether all of `start..end` is there.
    pub(crate) fn contains(&self, start: u32, end: u32) -> bool {
        start >= end || self.0.iter().any(|&(s, e)| s <= start && end <= e)
    }

    /// The first range at or behind `from` and before `end` that is not there.
    pub(crate) fn gap(&self, from: u32, end: u32) -> Option<(u32, u32)> {
        let mut start = from;
        for &(s, e) in &self.0 {
            if s > start {
                let stop = s.min(end);
                return (start < stop).then_some((start, stop));
            }
            start = start.max(e);
        }
        (start < end).then_some((start, end))
    }

    /// The pieces of `start..end` that are there.
    pub(crate) fn overlaps(&self, start: u32, end: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0
            .iter()
            .map(move |&(s, e)| (s.max(start), e.min(end)))
            .filter(|(s, e)| s < e)
    }
}

#[cfg(test)]
mod tests {
    use super::RangeSet;

    #[test]
    fn pieces_in_any_order_become_one() {
        let mut set = RangeSet::default();
        assert!(set.insert(10, 20));
        assert!(set.insert(30, 40));
        assert_eq!(set.gap(0, 50), Some((0, 10)));
        assert_eq!(set.gap(10, 50), Some((20, 30)));
        assert_eq!(set.gap(35, 40), None);
        assert_eq!(set.gap(35, 50), Some((40, 50)));
        assert_eq!(
            set.overlaps(15, 35).collect::<Vec<_>>(),
            [(15, 20), (30, 35)]
        );
        assert!(set.insert(15, 35));
        assert!(set.contains(10, 40));
        assert!(!set.contains(9, 11));
        assert!(set.insert(0, 10));
        assert!(set.contains(0, 40));
        assert_eq!(set, RangeSet(vec![(0, 40)]));
    }

    #[test]
    fn too_many_pieces_are_refused() {
        let mut set = RangeSet::default();
        for piece in 0..RangeSet::MAX_PIECES as u32 {
            assert!(set.insert(piece * 4, piece * 4 + 1));
        }
        assert!(!set.insert(100_000, 100_001));
        // What joins others is still welcome.
        assert!(set.insert(0, 50_000));
        assert!(set.contains(0, 50_000));
    }
}
