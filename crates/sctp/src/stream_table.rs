//! State per stream identifier: two array look-ups, and memory only for streams in use.

const PAGE: usize = 32;
const NONE: u32 = u32::MAX;

/// A table from stream identifier to `T`.
#[derive(Debug)]
pub(crate) struct StreamTable<T> {
    pages: Vec<Option<Box<[u32; PAGE]>>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for StreamTable<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> StreamTable<T> {
    /// The slot of a stream.
    pub(crate) fn index(&self, stream: u16) -> Option<u32> {
        let (page, entry) = (usize::from(stream) / PAGE, usize::from(stream) % PAGE);
        let slot = self.pages.get(page)?.as_ref()?[entry];
        (slot != NONE).then_some(slot)
    }

    /// What stands in a slot.
    pub(crate) fn slot(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// What stands in a slot.
    pub(crate) fn slot_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The state of a stream.
    pub(crate) fn get(&self, stream: u16) -> Option<&T> {
        self.slot(self.index(stream)?)
    }

    /// The state of a stream.
    pub(crate) fn get_mut(&mut self, stream: u16) -> Option<&mut T> {
        self.slot_mut(self.index(stream)?)
    }

    /// The slot of a stream, made if there is none.
    pub(crate) fn index_or_insert(&mut self, stream: u16, make: impl FnOnce() -> T) -> u32 {
        if let Some(slot) = self.index(stream) {
            return slot;
        }
        let (page, entry) = (usize::from(stream) / PAGE, usize::from(stream) % PAGE);
        if self.pages.len() <= page {
            self.pages.reserve_exact(page + 1 - self.pages.len());
            self.pages.resize_with(page + 1, || None);
        }
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(make());
            slot
        } else {
            if self.slots.is_empty() {
                // Most associations have one stream.
                self.slots.reserve_exact(1);
            }
            self.slots.push(Some(make()));
            (self.slots.len() - 1) as u32
        };
        self.pages[page].get_or_insert_with(|| Box::new([NONE; PAGE]))[entry] = slot;
        slot
    }

    /// Forgets a stream.
    pub(crate) fn remove(&mut self, stream: u16) -> Option<T> {
        let slot = self.index(stream)?;
        let (page, entry) = (usize::from(stream) / PAGE, usize::from(stream) % PAGE);
        if let Some(Some(page)) = self.pages.get_mut(page) {
            page[entry] = NONE;
        }
        let value = self.slots[slot as usize].take();
        self.free.push(slot);
        if self.free.len() == self.slots.len() {
            // Nothing is left: give everything back.
            *self = Self::default();
        }
        value
    }

    /// All states.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::StreamTable;

    #[test]
    fn streams_come_and_go() {
        let mut table = StreamTable::default();
        let first = table.index_or_insert(65_535, || 1);
        table.index_or_insert(0, || 2);
        assert_eq!(table.index_or_insert(65_535, || 3), first);
        assert_eq!((table.get(65_535), table.get(0)), (Some(&1), Some(&2)));
        assert_eq!(table.remove(65_535), Some(1));
        assert_eq!(table.get(65_535), None);
        assert_eq!(table.index_or_insert(70, || 4), first, "slots are reused");
        table.remove(70);
        table.remove(0);
        assert!(table.pages.is_empty() && table.slots.is_empty());
    }
}
