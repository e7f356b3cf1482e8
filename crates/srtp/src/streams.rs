//! The streams (SSRCs) of one direction: a bounded table.

use crate::Error;

/// Streams in the order of their SSRC. The one that was found last is found again at once: its SSRC
/// stands here and not in the list, so that a server that goes through many contexts misses the
/// cache once less for each.
#[derive(Debug)]
pub(crate) struct Streams<S> {
    last_ssrc: u32,
    last: usize,
    streams: Vec<S>,
    ssrcs: Vec<u32>,
    max: usize,
}

impl<S> Streams<S> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            last_ssrc: 0,
            last: usize::MAX,
            streams: Vec::new(),
            ssrcs: Vec::new(),
            max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The place of a stream.
    #[inline]
    pub(crate) fn find(&mut self, ssrc: u32) -> Option<usize> {
        if self.last_ssrc != ssrc || self.last == usize::MAX {
            self.last = self.ssrcs.binary_search(&ssrc).ok()?;
            self.last_ssrc = ssrc;
        }
        Some(self.last)
    }

    /// The stream at a place that was found; any change of the table ends the place.
    #[inline]
    pub(crate) fn at(&mut self, place: usize) -> &mut S {
        &mut self.streams[place]
    }

    /// The stream that was found last.
    pub(crate) fn latest(&self) -> Option<&S> {
        self.streams.get(self.last)
    }

    pub(crate) fn get(&self, ssrc: u32) -> Option<&S> {
        let place = self.ssrcs.binary_search(&ssrc).ok()?;
        self.streams.get(place)
    }

    /// Whether one more stream fits.
    pub(crate) fn has_room(&self) -> Result<(), Error> {
        if self.streams.len() < self.max {
            Ok(())
        } else {
            Err(Error::TooManyStreams)
        }
    }

    /// Adds a stream that is not there.
    pub(crate) fn insert(&mut self, ssrc: u32, stream: S) {
        if let Err(place) = self.ssrcs.binary_search(&ssrc) {
            self.ssrcs.insert(place, ssrc);
            self.streams.insert(place, stream);
            (self.last_ssrc, self.last) = (ssrc, place);
        }
    }

    /// Forgets a stream; false if it was not there.
    pub(crate) fn remove(&mut self, ssrc: u32) -> bool {
        match self.ssrcs.binary_search(&ssrc) {
            Ok(place) => {
                self.ssrcs.remove(place);
                self.streams.remove(place);
                self.last = usize::MAX;
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn like_a_map(steps in proptest::collection::vec((0u32..12, 0u8..3), 1..200)) {
            let mut streams = Streams::new(8);
            let mut map = BTreeMap::new();
            for (step, (ssrc, what)) in steps.into_iter().enumerate() {
                match what {
                    0 => prop_assert_eq!(streams.remove(ssrc), map.remove(&ssrc).is_some()),
                    1 if streams.has_room().is_ok() => {
                        streams.insert(ssrc, step);
                        map.entry(ssrc).or_insert(step);
                    }
                    _ => {
                        let found = streams.find(ssrc).map(|place| *streams.at(place));
                        prop_assert_eq!(found, map.get(&ssrc).copied());
                        prop_assert_eq!(streams.get(ssrc), map.get(&ssrc));
                    }
                }
                prop_assert_eq!(streams.len(), map.len());
                prop_assert!(streams.len() <= 8);
            }
        }
    }
}
