//! Asking for key frames: at once, and then with back-off until one comes.

use std::time::{Duration, Instant};

/// The limits of a [`KeyframeRequester`].
#[derive(Debug, Clone, Copy)]
pub struct KeyframeRequesterConfig {
    /// The least time between two requests. Default 200 ms.
    pub min_interval: Duration,
    /// The most time between two requests. Default 1 s.
    pub max_interval: Duration,
    /// Whether to send FIR rather than PLI, where PLI was not negotiated.
    pub fir: bool,
}

impl Default for KeyframeRequesterConfig {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_millis(200),
            max_interval: Duration::from_secs(1),
            fir: false,
        }
    }
}

/// A request for a key frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyframeRequest {
    /// A picture loss indication.
    Pli,
    /// A full intra request with this command number.
    Fir(u8),
}

/// Asks for key frames of one stream.
#[derive(Debug, Clone)]
pub struct KeyframeRequester {
    config: KeyframeRequesterConfig,
    round_trip: Duration,
    wanted: bool,
    last: Option<Instant>,
    attempts: u32,
    command: u8,
    requests: u64,
}

impl KeyframeRequester {
    /// A requester that wants nothing yet.
    pub const fn new(config: KeyframeRequesterConfig) -> Self {
        Self {
            config,
            round_trip: Duration::from_millis(100),
            wanted: false,
            last: None,
            attempts: 0,
            command: 0,
            requests: 0,
        }
    }

    /// The smoothed round-trip time: an answer takes at least that.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// A key frame is wanted.
    pub fn want(&mut self) {
        if !self.wanted {
            self.wanted = true;
            self.attempts = 0;
            // A new command; its repetitions carry the same number (RFC 5104 section 4.3.1.2).
            self.command = self.command.wrapping_add(1);
        }
    }

    /// A key frame came.
    pub fn satisfied(&mut self) {
        self.wanted = false;
        self.attempts = 0;
    }

    /// Whether a key frame is wanted.
    pub const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Requests so far.
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    fn due(&self) -> Option<Instant> {
        let interval = self
            .round_trip
            .mul_f64(1.5)
            .max(self.config.min_interval)
            .saturating_mul(1 << self.attempts.saturating_sub(1).min(6))
            .min(self.config.max_interval);
        self.last.map(|last| last + interval)
    }

    /// When [`poll`](Self::poll) has a request that it does not have now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due().filter(|_| self.wanted)
    }

    /// The request to send now, if any.
    pub fn poll(&mut self, now: Instant) -> Option<KeyframeRequest> {
        if !self.wanted || self.due().is_some_and(|due| now < due) {
            return None;
        }
        self.last = Some(now);
        self.attempts += 1;
        self.requests += 1;
        Some(match self.config.fir {
            true => KeyframeRequest::Fir(self.command),
            false => KeyframeRequest::Pli,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_back_off_until_a_key_frame_comes() {
        let start = Instant::now();
        let mut requester = KeyframeRequester::new(KeyframeRequesterConfig::default());
        requester.want();
        let mut times = Vec::new();
        for ms in 0..5_000 {
            requester.want();
            if requester.poll(start + Duration::from_millis(ms)).is_some() {
                times.push(ms);
            }
        }
        assert_eq!(times, [0, 200, 600, 1400, 2400, 3400, 4400]);
        requester.satisfied();
        assert_eq!(requester.poll_timeout(), None);
        // A new loss right behind it still waits the least interval.
        requester.want();
        assert!(
            requester
                .poll(start + Duration::from_millis(4_500))
                .is_none()
        );
        assert!(
            requester
                .poll(start + Duration::from_millis(4_600))
                .is_some()
        );
    }
}
