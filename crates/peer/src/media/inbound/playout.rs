//! Audio frames at the pace at which they are to be played.

use std::time::{Duration, Instant};

use visavis_media::receive::{AudioReceiver, Playout};
use visavis_rtp::Packet;

/// While nothing can be played, it is tried again after so long.
const RETRY: Duration = Duration::from_millis(10);

/// A jitter buffer that gives its frames in real time.
#[derive(Debug)]
pub(in crate::media) struct AudioPlayout {
    pub(super) receiver: AudioReceiver,
    clock_rate: u32,
    /// When the next frame is to be played; `None` while nothing plays.
    next: Option<Instant>,
}

impl AudioPlayout {
    pub(super) fn new(receiver: AudioReceiver, clock_rate: u32) -> Self {
        Self {
            receiver,
            clock_rate,
            next: None,
        }
    }

    pub(super) fn receive(&mut self, now: Instant, packet: &Packet<'_>, is_red: bool) {
        match is_red {
            true => self.receiver.handle_red(now, packet),
            false => self.receiver.handle_packet(now, packet),
        }
        self.next.get_or_insert(now);
    }

    pub(super) fn next_frame(&self) -> Option<Instant> {
        self.next
    }

    /// What is to be played now, if it is time for something.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Playout<'_>> {
        let due = self.next.filter(|&due| due <= now)?;
        let waits = self.receiver.buffered() > Duration::ZERO;
        let playout = self.receiver.pull(now);
        let duration = match playout {
            // Nothing plays until the buffer has filled, or a pause is over.
            Playout::Silence { .. } => {
                self.next = waits.then(|| now + RETRY);
                return None;
            }
            Playout::Packet { duration, .. }
            | Playout::Redundant { duration, .. }
            | Playout::Conceal { duration, .. }
            | Playout::Noise { duration, .. } => duration,
        };
        let micros = u64::from(duration) * 1_000_000 / u64::from(self.clock_rate.max(1));
        let next = due + Duration::from_micros(micros);
        // Who fetches late goes on from here, and does not get all of it at once.
        self.next = Some(match now.saturating_duration_since(next) > RETRY * 10 {
            true => now,
            false => next,
        });
        Some(playout)
    }
}
