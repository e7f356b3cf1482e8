//! The streams (SSRCs) of one direction: a bounded table.

use crate::Error;

/// Streams in the order of their SSRC. The one that was found last is found again at once.
#[derive(Debug)]
pub(crate) struct Streams<S> {
    list: Vec<(u32, S)>,
    last: usize,
    max: usize,
}

impl<S> Streams<S> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            list: Vec::new(),
            last: 0,
            max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The place of a stream.
    pub(crate) fn find(&mut self, ssrc: u32) -> Option<usize> {
        match self.list.get(self.last) {
            Some(&(last, _)) if last == ssrc => Some(self.last),
            _ => {
                let place = self
                    .list
                    .binary_search_by_key(&ssrc, |entry| entry.0)
                    .ok()?;
                self.last = place;
                Some(place)
            }
        }
    }

    /// The stream at a place that was found or inserted; any change of the table ends the place.
    pub(crate) fn at(&mut self, place: usize) -> &mut S {
        &mut self.list[place].1
    }

    pub(crate) fn get(&self, ssrc: u32) -> Option<&S> {
        let place = self
            .list
            .binary_search_by_key(&ssrc, |entry| entry.0)
            .ok()?;
        Some(&self.list[place].1)
    }

    /// Whether one more stream fits.
    pub(crate) fn has_room(&self) -> Result<(), Error> {
        if self.list.len() < self.max {
            Ok(())
        } else {
            Err(Error::TooManyStreams)
        }
    }

    /// Adds a stream that is not there.
    pub(crate) fn insert(&mut self, ssrc: u32, stream: S) {
        if let Err(place) = self.list.binary_search_by_key(&ssrc, |entry| entry.0) {
            self.list.insert(place, (ssrc, stream));
            self.last = place;
        }
    }

    /// Forgets a stream; false if it was not there.
    pub(crate) fn remove(&mut self, ssrc: u32) -> bool {
        match self.list.binary_search_by_key(&ssrc, |entry| entry.0) {
            Ok(place) => {
                self.list.remove(place);
                true
            }
            Err(_) => false,
        }
    }
}
