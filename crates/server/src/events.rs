//! The event log: what happened lately, for operators. Bounded; the oldest goes first.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub struct LogEvent {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// In which room.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// To whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// What.
    pub text: String,
}

/// The log.
#[derive(Debug)]
pub struct EventLog {
    events: Mutex<Ring>,
    capacity: usize,
}

impl EventLog {
    /// A log of at most `capacity` events.
    pub fn new(capacity: usize) -> Self {
        Self {
            events: Mutex::default(),
            capacity: capacity.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event.
    pub fn push(&self, event: &LogEvent) {
        tracing::info!(
            room = event.room,
            identity = event.identity.as_deref().unwrap_or(""),
            "{}",
            event.text
        );
        let mut events = self.lock();
        if events.count == self.capacity {
            events.pop();
        }
        events.push(event);
    }

    /// The last `count` events, the newest last.
    pub fn last(&self, count: usize) -> Vec<LogEvent> {
        self.lock().last(count)
    }
}

/// Events one behind the other in one piece of memory: as strings of their own they would outlive everything that was made and
/// freed around them, and keep its pages.
#[derive(Debug, Default)]
struct Ring {
    bytes: VecDeque<u8>,
    count: usize,
}

/// What stands before the texts of an event: when, and the lengths of room, identity and text.
const HEADER: usize = 8 + 3 * 4;
/// The length of an identity that is not there.
const NOBODY: u32 = u32::MAX;

impl Ring {
    fn push(&mut self, event: &LogEvent) {
        let identity = event.identity.as_deref();
        let texts = [&*event.room, identity.unwrap_or_default(), &*event.text];
        self.bytes.extend(event.at.to_le_bytes());
        for (place, text) in texts.iter().enumerate() {
            let length = match identity {
                None if place == 1 => NOBODY,
                _ => text.len() as u32,
            };
            self.bytes.extend(length.to_le_bytes());
        }
        for text in texts {
            self.bytes.extend(text.as_bytes());
        }
        self.count += 1;
    }

    fn pop(&mut self) {
        let mut header = [0; HEADER];
        for (to, from) in header.iter_mut().zip(&self.bytes) {
            *to = *from;
        }
        let texts: usize = lengths(&header).map(text_length).iter().sum();
        self.bytes.drain(..HEADER + texts);
        self.count -= 1;
    }

    fn last(&mut self, count: usize) -> Vec<LogEvent> {
        let skipped = self.count.saturating_sub(count);
        let mut rest: &[u8] = self.bytes.make_contiguous();
        let mut events = Vec::with_capacity(self.count - skipped);
        for number in 0..self.count {
            let (header, texts) = rest.split_at(HEADER);
            let lengths = lengths(header);
            let [room, identity, text] = lengths.map(text_length);
            let (room, texts) = texts.split_at(room);
            let (identity, texts) = texts.split_at(identity);
            let (text, after) = texts.split_at(text);
            rest = after;
            if number < skipped {
                continue;
            }
            let mut at = [0; 8];
            at.copy_from_slice(&header[..8]);
            let string = |bytes| String::from_utf8_lossy(bytes).into_owned();
            events.push(LogEvent {
                at: i64::from_le_bytes(at),
                room: string(room),
                identity: (lengths[1] != NOBODY).then(|| string(identity)),
                text: string(text),
            });
        }
        events
    }
}

fn lengths(header: &[u8]) -> [u32; 3] {
    let mut lengths = [0; 3];
    for (length, bytes) in lengths.iter_mut().zip(header[8..].chunks_exact(4)) {
        let bytes = bytes.try_into().unwrap_or_default();
        *length = u32::from_le_bytes(bytes);
    }
    lengths
}

fn text_length(length: u32) -> usize {
    if length == NOBODY { 0 } else { length as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_goes_first() {
        let log = EventLog::new(3);
        for at in 0..10 {
            log.push(&LogEvent {
                at,
                room: "room".repeat(at as usize),
                identity: (at % 2 == 0).then(|| "x".repeat(at as usize / 4)),
                text: format!("what happened at {at}"),
            });
        }
        assert_eq!(
            log.last(100)
                .iter()
                .map(|event| event.at)
                .collect::<Vec<_>>(),
            [7, 8, 9]
        );
        let last = log.last(2);
        assert_eq!(last[0].identity.as_deref(), Some("xx"));
        assert_eq!(last[1].at, 9);
        assert_eq!(last[1].room.len(), 36);
        assert_eq!(last[1].identity, None);
        assert_eq!(last[1].text, "what happened at 9");
    }
}
