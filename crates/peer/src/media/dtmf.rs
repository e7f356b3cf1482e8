//! Key presses as RTP events (RFC 4733), driven as W3C `RTCDTMFSender` has it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::Error;

/// How often an event's packet is repeated while it lasts (RFC 4733 section 2.5.1.2).
const STEP: Duration = Duration::from_millis(20);
/// Packets that say that an event is over (RFC 4733 section 2.5.1.4).
const END_PACKETS: u32 = 3;
/// A comma waits for so long.
const COMMA: Duration = Duration::from_secs(2);

/// Tones that wait to be played, and the one that plays.
#[derive(Debug)]
pub(super) struct Dtmf {
    tones: VecDeque<char>,
    duration: Duration,
    gap: Duration,
    next: Instant,
    playing: Option<Playing>,
    started: bool,
}

#[derive(Debug, Clone, Copy)]
struct Playing {
    event: u8,
    since: Instant,
    ends_sent: u32,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Tell the application of a tone; empty when all were played.
    Tell(String),
    /// Send an event's packet.
    Packet {
        event: u8,
        first: bool,
        end: bool,
        /// How long the event has lasted.
        lasted: Duration,
    },
    /// All tones were played.
    Done,
}

impl Dtmf {
    /// W3C `insertDTMF`: durations are brought into their ranges, tones are checked.
    pub(super) fn new(
        now: Instant,
        tones: &str,
        duration: Duration,
        gap: Duration,
    ) -> Result<Self, Error> {
        let tones: VecDeque<char> = tones
            .chars()
            .map(|tone| tone.to_ascii_uppercase())
            .collect();
        if !tones
            .iter()
            .all(|&tone| tone == ',' || event(tone).is_some())
        {
            return Err(Error::Syntax(
                "a tone is none of 0 to 9, A to D, `#`, `*` and `,`".into(),
            ));
        }
        let (least, most) = (Duration::from_millis(40), Duration::from_secs(6));
        Ok(Self {
            tones,
            duration: duration.clamp(least, most),
            gap: gap.clamp(Duration::from_millis(30), most),
            next: now,
            playing: None,
            started: false,
        })
    }

    pub(super) fn buffer(&self) -> String {
        self.tones.iter().collect()
    }

    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// The next step, if it is due.
    pub(super) fn step(&mut self, now: Instant) -> Option<Step> {
        if now < self.next {
            return None;
        }
        let Some(playing) = &mut self.playing else {
            return Some(self.start(now));
        };
        let lasted = now.saturating_duration_since(playing.since);
        if lasted >= self.duration {
            playing.ends_sent += 1;
            let packet = Step::Packet {
                event: playing.event,
                first: false,
                end: true,
                lasted: self.duration,
            };
            if playing.ends_sent == END_PACKETS {
                self.playing = None;
                self.next = now + self.gap;
            }
            return Some(packet);
        }
        let first = !std::mem::replace(&mut self.started, true);
        self.next = (now + STEP).min(playing.since + self.duration);
        Some(Step::Packet {
            event: playing.event,
            first,
            end: false,
            lasted: lasted.max(STEP),
        })
    }

    fn start(&mut self, now: Instant) -> Step {
        let Some(tone) = self.tones.pop_front() else {
            return Step::Done;
        };
        match event(tone) {
            Some(event) => {
                self.started = false;
                self.playing = Some(Playing {
                    event,
                    since: now,
                    ends_sent: 0,
                });
            }
            None => self.next = now + COMMA,
        }
        Step::Tell(tone.to_string())
    }
}

/// The number of an event (RFC 4733 section 3.2).
fn event(tone: char) -> Option<u8> {
    "0123456789*#ABCD".find(tone).map(|index| index as u8)
}

/// Four bytes: the event, whether it is over and how loud, how long it lasts in ticks (RFC 4733
/// section 2.3).
pub(super) fn payload(event: u8, end: bool, ticks: u16) -> [u8; 4] {
    const VOLUME: u8 = 10;
    let ticks = ticks.to_be_bytes();
    [event, u8::from(end) << 7 | VOLUME, ticks[0], ticks[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_are_told_played_and_ended_three_times() {
        let mut now = Instant::now();
        let mut dtmf = Dtmf::new(now, "1,#", Duration::from_millis(100), Duration::ZERO).unwrap();
        let (mut told, mut packets, begin) = (Vec::new(), Vec::new(), now);
        loop {
            match dtmf.step(now) {
                Some(Step::Tell(tone)) => told.push((tone, now - begin)),
                Some(Step::Packet { event, end, .. }) => packets.push((event, end)),
                Some(Step::Done) => break,
                None => now = dtmf.due(),
            }
        }
        let ms = Duration::from_millis;
        assert_eq!(
            told,
            [
                ("1".into(), ms(0)),
                (",".into(), ms(130)),
                ("#".into(), ms(2130))
            ]
        );
        let ends = packets.iter().filter(|(_, end)| *end).count();
        assert_eq!((packets.len(), ends), (16, 6));
        assert_eq!((packets[0].0, packets[15].0), (1, 11));
    }

    #[test]
    fn tones_and_times_are_judged_as_the_specification_asks() {
        let now = Instant::now();
        let error = Dtmf::new(now, "12x", Duration::ZERO, Duration::ZERO).unwrap_err();
        assert_eq!(error.name(), "SyntaxError");
        let dtmf = Dtmf::new(now, "ab,D", Duration::ZERO, Duration::from_secs(60)).unwrap();
        assert_eq!(dtmf.buffer(), "AB,D");
        assert_eq!(dtmf.duration, Duration::from_millis(40));
        assert_eq!(dtmf.gap, Duration::from_secs(6));
    }
}
