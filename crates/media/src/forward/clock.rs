//! Timestamps that go on over a switch from one encoding to another, whose clocks have nothing in common.

use std::time::Instant;

use visavis_rtp::rtcp::SenderInfo;

/// What an encoding's sender reports say about its RTP clock.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    ntp: u64,
    timestamp: u32,
}

/// The outgoing timestamps of a stream that switches between encodings.
#[derive(Debug)]
pub(super) struct ClockMap {
    clock_rate: u32,
    anchors: [Option<Anchor>; super::select::MAX_ENCODINGS],
    /// What is added to incoming timestamps.
    offset: u32,
    current: Option<usize>,
    /// The latest outgoing timestamp, and when it went.
    last: Option<(u32, Instant)>,
}

impl ClockMap {
    pub(super) fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            anchors: Default::default(),
            offset: 0,
            current: None,
            last: None,
        }
    }

    /// Takes a sender report of an encoding.
    pub(super) fn anchor(&mut self, encoding: usize, info: &SenderInfo) {
        if let Some(anchor) = self.anchors.get_mut(encoding) {
            *anchor = Some(Anchor {
                ntp: info.ntp.0,
                timestamp: info.rtp_timestamp,
            });
        }
    }

    /// Switches to an encoding, whose first frame has this timestamp.
    pub(super) fn switch(&mut self, now: Instant, encoding: usize, timestamp: u32) {
        if let Some((last, at)) = self.last {
            let elapsed = now.saturating_duration_since(at).as_micros();
            let ticks = (elapsed * u128::from(self.clock_rate) / 1_000_000) as u32;
            let by_arrival = last.wrapping_add(ticks.max(1));
            let wanted = self
                .by_reports(encoding, timestamp)
                // A report that leads far from the time that passed is wrong, or a step backwards.
                .filter(|&wanted| {
                    let step = wanted.wrapping_sub(last) as i32;
                    step > 0 && wanted.wrapping_sub(by_arrival) as i32 <= self.clock_rate as i32
                })
                .unwrap_or(by_arrival);
            self.offset = wanted.wrapping_sub(timestamp);
        }
        self.current = Some(encoding);
    }

    /// The outgoing timestamp that sender reports give a frame of another encoding.
    fn by_reports(&self, encoding: usize, timestamp: u32) -> Option<u32> {
        let from = self.anchors.get(self.current?)?.as_ref()?;
        let to = self.anchors.get(encoding)?.as_ref()?;
        // When the new encoding's clock showed what the old one's anchor shows.
        let apart = to.ntp.wrapping_sub(from.ntp) as i64;
        let ticks = (i128::from(apart) * i128::from(self.clock_rate)) >> 32;
        let since = timestamp.wrapping_sub(to.timestamp);
        let old = from
            .timestamp
            .wrapping_add(ticks as u32)
            .wrapping_add(since);
        Some(old.wrapping_add(self.offset))
    }

    /// Reads what [`map`](Self::map) will touch.
    pub(super) fn warm(&self) {
        std::hint::black_box((self.offset, self.last));
    }

    /// The outgoing timestamp of a packet of the current encoding.
    pub(super) fn map(&mut self, now: Instant, timestamp: u32) -> u32 {
        let out = timestamp.wrapping_add(self.offset);
        if self
            .last
            .is_none_or(|(last, _)| out.wrapping_sub(last) as i32 > 0)
        {
            self.last = Some((out, now));
        }
        out
    }

    /// A sender report of the current encoding, as the receiver of the outgoing stream needs it.
    pub(super) fn outgoing(&self, encoding: usize, timestamp: u32) -> Option<u32> {
        (self.current == Some(encoding)).then(|| timestamp.wrapping_add(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use visavis_rtp::{NtpTime, Ssrc};

    fn report(seconds: u64, timestamp: u32) -> SenderInfo {
        SenderInfo {
            ssrc: Ssrc(1),
            ntp: NtpTime(seconds << 32),
            rtp_timestamp: timestamp,
            ..SenderInfo::default()
        }
    }

    #[test]
    fn a_switch_goes_on_by_reports_or_by_the_time_that_passed() {
        let start = Instant::now();
        for with_reports in [false, true] {
            let mut clock = ClockMap::new(90_000);
            if with_reports {
                clock.anchor(0, &report(10, 1_000_000));
                clock.anchor(1, &report(12, 5_000_000));
            }
            clock.switch(start, 0, 1_000_000);
            assert_eq!(clock.map(start, 1_000_000), 1_000_000);
            // Half a second later on the first clock, 1.5 seconds before the second's anchor.
            let now = start + Duration::from_millis(510);
            clock.switch(now, 1, 5_000_000 - 135_000);
            let out = clock.map(now, 5_000_000 - 135_000);
            let expected = if with_reports { 1_045_000 } else { 1_045_900 };
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_report_that_leads_backwards_is_not_believed() {
        let start = Instant::now();
        let mut clock = ClockMap::new(90_000);
        clock.anchor(0, &report(10, 0));
        clock.anchor(1, &report(99, 0));
        clock.switch(start, 0, 0);
        clock.map(start, 0);
        clock.switch(start + Duration::from_secs(1), 1, 0);
        assert_eq!(clock.map(start + Duration::from_secs(1), 0), 90_000);
    }
}
