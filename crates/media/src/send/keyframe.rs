//! Requests for key frames, on their way to the encoder: many receivers ask, one key frame answers.

use std::time::{Duration, Instant};

use visavis_rtp::rtcp::FirEntry;

/// Passes on a request for a key frame at most once per interval, and each FIR command once.
#[derive(Debug, Clone)]
pub struct KeyframeGate {
    interval: Duration,
    last: Option<Instant>,
    waiting: bool,
    fir: Option<u8>,
}

impl KeyframeGate {
    /// A gate that lets one request through per `interval`; 300 ms is what browsers use.
    pub const fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: None,
            waiting: false,
            fir: None,
        }
    }

    /// A receiver sent a PLI.
    pub fn handle_pli(&mut self) {
        self.waiting = true;
    }

    /// A receiver sent a FIR; a command that was seen already is none (RFC 5104 section 4.3.1.2).
    pub fn handle_fir(&mut self, entry: FirEntry) {
        if self.fir != Some(entry.sequence) {
            self.fir = Some(entry.sequence);
            self.waiting = true;
        }
    }

    /// Whether the encoder is to make a key frame now.
    pub fn poll(&mut self, now: Instant) -> bool {
        let open = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        if self.waiting && open {
            self.waiting = false;
            self.last = Some(now);
            return true;
        }
        false
    }

    /// When [`poll`](Self::poll) has an answer that it does not have now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.last
            .filter(|_| self.waiting)
            .map(|last| last + self.interval)
    }

    /// A key frame was sent: it answers whoever asked before.
    pub fn keyframe_sent(&mut self, now: Instant) {
        self.waiting = false;
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use visavis_rtp::Ssrc;

    #[test]
    fn a_storm_of_requests_is_one_request_per_interval() {
        let start = Instant::now();
        let mut gate = KeyframeGate::new(Duration::from_millis(300));
        let mut count = 0;
        for ms in 0..1000 {
            gate.handle_pli();
            count += u32::from(gate.poll(start + Duration::from_millis(ms)));
        }
        assert_eq!(count, 4);
        assert!(gate.poll_timeout().is_some());
    }

    #[test]
    fn a_repeated_fir_command_asks_once() {
        let now = Instant::now();
        let mut gate = KeyframeGate::new(Duration::ZERO);
        let entry = FirEntry {
            ssrc: Ssrc(1),
            sequence: 7,
        };
        gate.handle_fir(entry);
        assert!(gate.poll(now));
        gate.handle_fir(entry);
        assert!(!gate.poll(now));
    }
}
