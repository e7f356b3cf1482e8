//! Where application data stands in a datagram that was opened in place.

use std::ops::Range;

/// The application data of one datagram: ranges of the caller's buffer, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    ranges: [(u16, u16); Self::MAX],
    len: usize,
}

impl Received {
    /// The most records of application data that one datagram may hold. Real peers send one.
    pub const MAX: usize = 16;

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ranges[..self.len]
            .iter()
            .map(|&(start, end)| start.into()..end.into())
    }

    /// Whether the datagram held no application data.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many records of application data the datagram held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a range; false if there is no room.
    pub(crate) fn push(&mut self, range: Range<usize>) -> bool {
        let (Ok(start), Ok(end)) = (u16::try_from(range.start), u16::try_from(range.end)) else {
            return false;
        };
        match self.ranges.get_mut(self.len) {
            Some(slot) => {
                *slot = (start, end);
                self.len += 1;
                true
            }
            None => false,
        }
    }
}

impl IntoIterator for Received {
    type Item = Range<usize>;
    type IntoIter = std::iter::Take<std::array::IntoIter<Range<usize>, { Self::MAX }>>;

    fn into_iter(self) -> Self::IntoIter {
        self.ranges
            .map(|(start, end)| start.into()..end.into())
            .into_iter()
            .take(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Received;

    #[test]
    fn a_datagram_has_room_for_so_many_ranges() {
        let mut received = Received::default();
        for start in 0..Received::MAX {
            assert!(received.push(start..start + 1));
        }
        assert!(!received.push(0..1));
        assert_eq!(received.len(), Received::MAX);
        assert_eq!(received.into_iter().count(), Received::MAX);
        assert_eq!(received.iter().nth(3), Some(3..4));
        assert!(!Received::default().push(70_000..70_001));
    }
}
