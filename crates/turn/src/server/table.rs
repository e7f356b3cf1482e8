//! Allocations by index. An index is used again; an identifier is not.

use super::allocation::{Allocation, AllocationId};

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    allocation: Option<Box<Allocation>>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, make: impl FnOnce(AllocationId) -> Allocation) -> AllocationId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let id = AllocationId::new(index, slot.generation);
        slot.allocation = Some(Box::new(make(id)));
        id
    }

    pub(super) fn remove(&mut self, id: AllocationId) -> Option<Box<Allocation>> {
        self.get(id)?;
        let allocation = self.slots[id.index() as usize].allocation.take();
        self.free.push(id.index());
        allocation
    }

    pub(super) fn get(&self, id: AllocationId) -> Option<&Allocation> {
        self.at(id.index()).filter(|allocation| allocation.id == id)
    }

    pub(super) fn get_mut(&mut self, id: AllocationId) -> Option<&mut Allocation> {
        self.at_mut(id.index())
            .filter(|allocation| allocation.id == id)
    }

    pub(super) fn at(&self, index: u32) -> Option<&Allocation> {
        self.slots.get(index as usize)?.allocation.as_deref()
    }

    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut Allocation> {
        self.slots
            .get_mut(index as usize)?
            .allocation
            .as_deref_mut()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Allocation> {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.allocation.as_deref_mut())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Allocation> {
        self.slots
            .iter()
            .filter_map(|slot| slot.allocation.as_deref())
    }
}
