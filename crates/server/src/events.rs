//! The event log: what happened lately, for operators. Bounded; the oldest goes first.

use std::{collections::VecDeque, sync::Mutex};

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
    events: Mutex<VecDeque<LogEvent>>,
    capacity: usize,
}

impl EventLog {
    /// A log of at most `capacity` events.
    pub fn new(capacity: usize) -> Self {
        Self {
            events: Mutex::new(VecDeque::new()),
            capacity: capacity.max(1),
        }
    }

    /// Adds an event.
    pub fn push(&self, event: LogEvent) {
        tracing::info!(
            room = event.room,
            identity = event.identity.as_deref().unwrap_or(""),
            "{}",
            event.text
        );
        let mut events = self
            .events
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if events.len() == self.capacity {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The last `count` events, the newest last.
    pub fn last(&self, count: usize) -> Vec<LogEvent> {
        let events = self
            .events
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        events
            .iter()
            .skip(events.len().saturating_sub(count))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_goes_first() {
        let log = EventLog::new(3);
        for at in 0..10 {
            log.push(LogEvent {
                at,
                room: String::new(),
                identity: None,
                text: String::new(),
            });
        }
        assert_eq!(
            log.last(100)
                .iter()
                .map(|event| event.at)
                .collect::<Vec<_>>(),
            [7, 8, 9]
        );
        assert_eq!(log.last(1)[0].at, 9);
    }
}
