//! Telephone events (RFC 4733): DTMF tones as names rather than sound.

use crate::{Error, Result};

/// How often the last packet of an event is sent (RFC 4733 section 2.5.1.4).
pub const END_REPETITIONS: u8 = 3;

/// A telephone event payload (section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TelephoneEvent {
    /// The event: 0 to 9 digits, 10 `*`, 11 `#`, 12 to 15 `A` to `D`, 16 flash.
    pub event: u8,
    /// Whether the event has ended.
    pub end: bool,
    /// Power below 0 dBm0 in dB, 0 to 63.
    pub volume: u8,
    /// How long the event has lasted since the packet's timestamp, in ticks of the RTP clock.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Bytes of a payload.
    pub const LEN: usize = 4;

    /// Reads a payload; of several events the first.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn parse(payload: &[u8]) -> Result<Self> {
        match *payload {
            [event, flags, high, low, ..] => Ok(Self {
                event,
                end: flags & 0x80 != 0,
                volume: flags & 0x3f,
                duration: u16::from_be_bytes([high, low]),
            }),
            _ => Err(Error::Truncated("telephone event")),
        }
    }

    /// The payload.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [high, low] = self.duration.to_be_bytes();
        let flags = (self.end as u8) << 7 | self.volume & 0x3f;
        [self.event, flags, high, low]
    }

    /// The event of a key: 0-9, `*`, `#`, A-D in either case.
    pub const fn from_key(key: char) -> Option<u8> {
        Some(match key {
            '0'..='9' => key as u8 - b'0',
            '*' => 10,
            '#' => 11,
            'A'..='D' => key as u8 - b'A' + 12,
            'a'..='d' => key as u8 - b'a' + 12,
            _ => return None,
        })
    }

    /// The key of an event.
    pub const fn to_key(event: u8) -> Option<char> {
        const KEYS: [char; 16] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D',
        ];
        if event < 16 {
            Some(KEYS[event as usize])
        } else {
            None
        }
    }
}

/// One packet of an event that is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPacket {
    /// The marker: set on the first packet of an event.
    pub marker: bool,
    /// The timestamp: that of the event's beginning, or of its current segment.
    pub timestamp: u32,
    /// The payload.
    pub payload: TelephoneEvent,
}

/// Makes the packets of one event: updates while it lasts, and its end three times.
#[derive(Debug, Clone)]
pub struct EventSender {
    event: u8,
    volume: u8,
    segment: u32,
    now: u32,
    end: u32,
    first: bool,
    ends_sent: u8,
}

impl EventSender {
    /// An event that begins at a timestamp and lasts `duration` ticks.
    pub const fn new(event: u8, volume: u8, timestamp: u32, duration: u32) -> Self {
        Self {
            event,
            volume,
            segment: timestamp,
            now: timestamp,
            end: timestamp.wrapping_add(duration),
            first: true,
            ends_sent: 0,
        }
    }

    /// The next packet, `interval` ticks after the one before; `None` when the event is over. The
    /// second and third end packet carry the same content: send them at once or an interval later.
    pub fn next_packet(&mut self, interval: u32) -> Option<EventPacket> {
        if self.ends_sent == END_REPETITIONS {
            return None;
        }
        if self.ends_sent == 0 {
            let left = self.end.wrapping_sub(self.now);
            self.now = self.now.wrapping_add(interval.min(left));
            // An event that outgrows the field goes on in another segment (section 2.5.1.3).
            if self.now.wrapping_sub(self.segment) > 0xffff {
                self.segment = self.segment.wrapping_add(0xffff);
            }
        }
        let end = self.now == self.end;
        self.ends_sent += u8::from(end);
        Some(EventPacket {
            marker: std::mem::take(&mut self.first),
            timestamp: self.segment,
            payload: TelephoneEvent {
                event: self.event,
                end,
                volume: self.volume,
                duration: self.now.wrapping_sub(self.segment).min(0xffff) as u16,
            },
        })
    }
}

/// Turns received packets into events, each reported once.
#[derive(Debug, Clone, Default)]
pub struct EventReceiver {
    last: Option<(u32, u8)>,
}

impl EventReceiver {
    /// Takes a packet; gives the event if it is a new one.
    pub fn push(&mut self, timestamp: u32, payload: TelephoneEvent) -> Option<u8> {
        let same = self.last.is_some_and(|(last, event)| {
            // Late packets of an event before this one are old too; a following segment is no new event.
            let step = timestamp.wrapping_sub(last) as i32;
            step <= 0 || event == payload.event && step == 0xffff
        });
        if !same
            || self
                .last
                .is_some_and(|(last, _)| timestamp.wrapping_sub(last) == 0xffff)
        {
            self.last = Some((timestamp, payload.event));
        }
        (!same).then_some(payload.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_updated_and_ends_three_times() {
        let mut sender = EventSender::new(5, 10, 1000, 800);
        let packets: Vec<_> = std::iter::from_fn(|| sender.next_packet(160)).collect();
        let durations: Vec<_> = packets
            .iter()
            .map(|packet| packet.payload.duration)
            .collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
        assert_eq!(
            packets.iter().filter(|packet| packet.payload.end).count(),
            3
        );
        assert!(packets[0].marker && !packets[1].marker);
        assert!(packets.iter().all(|packet| packet.timestamp == 1000));

        let mut receiver = EventReceiver::default();
        let events: Vec<_> = packets
            .iter()
            .filter_map(|packet| receiver.push(packet.timestamp, packet.payload))
            .collect();
        assert_eq!(events, [5]);
        assert_eq!(receiver.push(5000, packets[0].payload), Some(5));
    }

    #[test]
    fn keys_have_events() {
        for (event, key) in "0123456789*#ABCD".chars().enumerate() {
            assert_eq!(TelephoneEvent::from_key(key), Some(event as u8));
            assert_eq!(TelephoneEvent::to_key(event as u8), Some(key));
        }
    }
}
