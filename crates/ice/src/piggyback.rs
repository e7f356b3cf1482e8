//! A hook for attributes that ride in Binding requests and responses: DTLS in STUN (SPED) uses it.

use std::time::Instant;

/// What rides along. Both functions are called for authenticated messages of the current session
/// only.
pub trait Piggyback {
    /// A Binding request or success response is being written: add attributes.
    fn outgoing(&mut self, now: Instant, response: bool, attributes: &mut AttributeWriter<'_>);

    /// A Binding request or success response arrived: one call per attribute that ICE does not know,
    /// in order.
    fn incoming(&mut self, now: Instant, response: bool, kind: u16, value: &[u8]);

    /// A Binding request or success response arrived and all its attributes were shown.
    fn arrived(&mut self, _now: Instant, _response: bool) {}
}

/// Nothing rides along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoPiggyback;

impl Piggyback for NoPiggyback {
    fn outgoing(&mut self, _: Instant, _: bool, _: &mut AttributeWriter<'_>) {}
    fn incoming(&mut self, _: Instant, _: bool, _: u16, _: &[u8]) {}
}

/// Adds attributes to a message that is being written.
pub struct AttributeWriter<'a> {
    pub(crate) add: &'a mut dyn FnMut(u16, &[u8]) -> bool,
    pub(crate) room: usize,
}

impl std::fmt::Debug for AttributeWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttributeWriter")
            .field("room", &self.room)
            .finish()
    }
}

impl AttributeWriter<'_> {
    /// Bytes that the value of one more attribute may have.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Adds an attribute. False if it does not fit.
    pub fn add(&mut self, kind: u16, value: &[u8]) -> bool {
        if value.len() > self.room || !(self.add)(kind, value) {
            return false;
        }
        let used = 4 + value.len().next_multiple_of(4);
        self.room = self.room.saturating_sub(used);
        true
    }
}
