//! How many bits per second arrive: the "robust" estimator of browsers, which forgives one gap.
//!
//! The window is not walked for an estimate: what it needs is kept up to date as packets come and go.

use std::collections::VecDeque;

/// Packets that a window holds at most, and from how many on it may shrink to its least duration.
const MAX_PACKETS: usize = 500;
const WINDOW_PACKETS: usize = 20;
/// Packets that an estimate needs.
const REQUIRED_PACKETS: usize = 10;
/// Bounds of the window's duration, in microseconds.
const MIN_WINDOW: i64 = 1_000_000;
const MAX_WINDOW: i64 = 5_000_000;
/// The length of the recent part, in microseconds.
const RECENT: i64 = 400_000;
/// The least duration to divide by, in microseconds.
const LEAST: i64 = 1_000;
/// Packets of one window were sent within this time of one another, in microseconds: a quarter of what their times can
/// tell apart.
const MAX_SENT: i64 = 1 << 30;

/// The low halves of two times in microseconds, as all of one window are near to one another. Five are a line of the
/// cache.
#[derive(Debug, Clone, Copy)]
struct Acked {
    sent: u32,
    arrival: u32,
    size: u32,
}

impl Acked {
    fn sent_after(&self, other: &Self) -> i64 {
        i64::from(self.sent.wrapping_sub(other.sent) as i32)
    }

    fn arrived_after(&self, other: &Self) -> i64 {
        i64::from(self.arrival.wrapping_sub(other.arrival) as i32)
    }
}

/// Times are microseconds: the sender's clock and the receiver's.
#[derive(Debug)]
pub(crate) struct Throughput {
    /// In the order of arrival.
    window: VecDeque<Acked>,
    /// When the packet that arrived last was sent, and when it arrived.
    last: (i64, i64),
    bytes: u64,
    /// Packets that were sent before the one that arrived before them. Without any, those sent first and last are those
    /// that arrived first and last.
    reordered: usize,
    gaps: Gaps,
    /// The number of the window's first packet.
    first: u32,
}

impl Throughput {
    pub(crate) fn new() -> Self {
        Self {
            window: VecDeque::with_capacity(MAX_PACKETS + 1),
            last: (0, 0),
            bytes: 0,
            reordered: 0,
            gaps: Gaps::default(),
            first: 0,
        }
    }

    pub(crate) fn packet(&mut self, sent: i64, arrival: i64, size: usize) {
        let acked = Acked {
            sent: sent as u32,
            arrival: arrival as u32,
            size: u32::try_from(size).unwrap_or(u32::MAX),
        };
        let (last_sent, last_arrival) = self.last;
        // The clock was set: what was measured before says nothing.
        if (arrival - last_arrival).abs() > MAX_WINDOW || (sent - last_sent).abs() > MAX_SENT {
            self.clear();
        }
        self.bytes += u64::from(acked.size);
        match self.window.back() {
            Some(back) if arrival < last_arrival => {
                debug_assert!(acked.arrived_after(back) < 0);
                self.insert(acked);
            }
            back => {
                if let Some(back) = back {
                    self.reordered += usize::from(acked.sent_after(back) < 0);
                    let number = self.first.wrapping_add(self.window.len() as u32);
                    self.gaps.push(number, acked.arrived_after(back) as u32);
                }
                self.window.push_back(acked);
                self.last = (sent, arrival);
            }
        }
        while self.is_first_too_old() {
            self.pop_front();
        }
        if self.gaps.lack(self.window.len()) {
            self.gaps.measure(self.first, &self.window);
        }
    }

    /// A packet that did not arrive last.
    #[cold]
    fn insert(&mut self, acked: Acked) {
        let before = self
            .window
            .iter()
            .rposition(|other| other.arrived_after(&acked) <= 0);
        self.window
            .insert(before.map_or(0, |index| index + 1), acked);
        let pairs = self.window.iter().zip(self.window.iter().skip(1));
        self.reordered = pairs.filter(|(one, next)| next.sent_after(one) < 0).count();
        self.gaps.measure(self.first, &self.window);
    }

    fn pop_front(&mut self) {
        let Some(gone) = self.window.pop_front() else {
            return;
        };
        self.bytes -= u64::from(gone.size);
        self.first = self.first.wrapping_add(1);
        if let Some(front) = self.window.front() {
            self.reordered -= usize::from(front.sent_after(&gone) < 0);
            // The gap before the first packet is none of the window's.
            self.gaps.forget(self.first);
        }
    }

    fn clear(&mut self) {
        self.window.clear();
        self.bytes = 0;
        self.reordered = 0;
        self.gaps = Gaps::default();
    }

    /// Bits per second, once there is enough to say.
    pub(crate) fn bitrate(&self) -> Option<f64> {
        if self.window.len() < REQUIRED_PACKETS {
            return None;
        }
        let (first, last) = (self.window.front()?, self.window.back()?);
        let (first_sent, last_sent) = self.ends()?;
        let (largest, second) = self.gaps.two_largest();
        // One gap is a stall of the receiver or of the radio, not a lack of packets.
        let received = last.arrived_after(first) - i64::from(largest) + i64::from(second);
        let sent = last_sent.sent_after(&first_sent);
        let receive_rate = rate(self.bytes - u64::from(first.size), received.max(LEAST));
        let send_rate = rate(self.bytes - u64::from(last_sent.size), sent.max(LEAST));
        Some(receive_rate.min(send_rate))
    }

    /// The packets that were sent first and last.
    fn ends(&self) -> Option<(Acked, Acked)> {
        let (first, last) = (*self.window.front()?, *self.window.back()?);
        if self.reordered == 0 {
            return Some((first, last));
        }
        let ends = self.window.iter().fold((first, first), |ends, packet| {
            let first = if packet.sent_after(&ends.0) < 0 {
                *packet
            } else {
                ends.0
            };
            let last = if packet.sent_after(&ends.1) >= 0 {
                *packet
            } else {
                ends.1
            };
            (first, last)
        });
        Some(ends)
    }

    /// Bits per second of the last part of the window: what arrives now.
    pub(crate) fn recent(&self) -> Option<f64> {
        let last = self.window.back()?;
        let mut bytes = 0;
        let mut first = last;
        let mut packets = 0;
        for packet in self.window.iter().rev() {
            if last.arrived_after(packet) > RECENT {
                break;
            }
            bytes += u64::from(packet.size);
            first = packet;
            packets += 1;
        }
        let duration = last.arrived_after(first);
        (packets >= REQUIRED_PACKETS && duration > RECENT / 2)
            .then(|| rate(bytes - u64::from(first.size), duration))
    }

    fn is_first_too_old(&self) -> bool {
        let (Some(first), Some(last)) = (self.window.front(), self.window.back()) else {
            return false;
        };
        let duration = last.arrived_after(first);
        self.window.len() > MAX_PACKETS
            || duration > MAX_WINDOW
            || (self.window.len() > WINDOW_PACKETS && duration > MIN_WINDOW)
    }
}

/// The longest times between two packets of a window that arrived one after the other: a few of them, so that the two
/// longest are known although others leave the window.
#[derive(Debug, Default)]
struct Gaps {
    /// The number of the packet behind the gap, and its length.
    longest: [(u32, u32); KEPT],
    kept: usize,
    /// None that is not kept is longer.
    bound: u32,
}

/// Gaps that are kept: a line of the cache.
const KEPT: usize = 7;

impl Gaps {
    fn push(&mut self, number: u32, gap: u32) {
        if gap < self.bound {
            return;
        }
        if self.kept < KEPT {
            self.longest[self.kept] = (number, gap);
            self.kept += 1;
            return;
        }
        let shortest = self.longest.iter_mut().min_by_key(|(_, gap)| *gap);
        if let Some(shortest) = shortest {
            self.bound = shortest.1.min(gap);
            if shortest.1 < gap {
                *shortest = (number, gap);
            }
        }
    }

    fn forget(&mut self, number: u32) {
        let longest = &self.longest[..self.kept];
        if let Some(at) = longest.iter().position(|(other, _)| *other == number) {
            self.kept -= 1;
            self.longest.swap(at, self.kept);
        }
    }

    /// Whether the two longest of a window of so many packets are not known any more.
    fn lack(&self, packets: usize) -> bool {
        self.kept < 2.min(packets.saturating_sub(1))
    }

    fn measure(&mut self, first: u32, window: &VecDeque<Acked>) {
        *self = Self::default();
        let pairs = window.iter().zip(window.iter().skip(1));
        for (index, (one, next)) in pairs.enumerate() {
            let number = first.wrapping_add(index as u32 + 1);
            self.push(number, next.arrived_after(one) as u32);
        }
    }

    fn two_largest(&self) -> (u32, u32) {
        let longest = &self.longest[..self.kept];
        longest.iter().fold((0, 0), |(largest, second), &(_, gap)| {
            if gap > largest {
                (gap, largest)
            } else {
                (largest, second.max(gap))
            }
        })
    }
}

fn rate(bytes: u64, micros: i64) -> f64 {
    bytes as f64 * 8e6 / micros as f64
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{LEAST, MAX_PACKETS, MAX_WINDOW, MIN_WINDOW, REQUIRED_PACKETS, Throughput};
    use super::{WINDOW_PACKETS, rate};

    /// The same by walking the whole window: sent, arrival and size of each packet.
    #[derive(Default)]
    struct Walked(VecDeque<(i64, i64, u64)>);

    impl Walked {
        fn packet(&mut self, sent: i64, arrival: i64, size: u64) {
            let window = &mut self.0;
            if window
                .back()
                .is_some_and(|last| (arrival - last.1).abs() > MAX_WINDOW)
            {
                window.clear();
            }
            let at = window.iter().rposition(|other| other.1 <= arrival);
            window.insert(at.map_or(0, |index| index + 1), (sent, arrival, size));
            loop {
                let duration = window[window.len() - 1].1 - window[0].1;
                let is_old = window.len() > WINDOW_PACKETS && duration > MIN_WINDOW;
                if window.len() <= MAX_PACKETS && duration <= MAX_WINDOW && !is_old {
                    break;
                }
                window.pop_front();
            }
        }

        fn bitrate(&self) -> Option<f64> {
            let window = &self.0;
            if window.len() < REQUIRED_PACKETS {
                return None;
            }
            let (first, last) = (window.front()?, window.back()?);
            let mut gaps: Vec<i64> = window
                .iter()
                .zip(window.iter().skip(1))
                .map(|(one, next)| next.1 - one.1)
                .collect();
            gaps.sort_unstable();
            let [.., second, largest] = gaps[..] else {
                return None;
            };
            let total: u64 = window.iter().map(|packet| packet.2).sum();
            let earliest = window.iter().map(|packet| packet.0).min()?;
            let latest = window.iter().max_by_key(|packet| packet.0)?;
            let received = (last.1 - first.1 - largest + second).max(LEAST);
            let sent = (latest.0 - earliest).max(LEAST);
            Some(rate(total - first.2, received).min(rate(total - latest.2, sent)))
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_walking_the_window_finds(
            offset in -1i64 << 40..1 << 40,
            steps in proptest::collection::vec(
                (0i64..3, 0i64..60_000, -40_000i64..60_000, 0usize..1500), 1..900
            ),
        ) {
            let mut throughput = Throughput::new();
            let mut walked = Walked::default();
            let mut sent = 0;
            for (burst, step, jitter, size) in steps {
                sent += step * (burst / 2);
                let arrival = sent + offset + jitter;
                throughput.packet(sent, arrival, size);
                walked.packet(sent, arrival, size as u64);
                prop_assert_eq!(throughput.bitrate(), walked.bitrate());
            }
        }
    }

    #[test]
    fn a_steady_stream_is_measured_and_one_stall_forgiven() {
        let mut throughput = Throughput::new();
        let mut stall = 0;
        for packet in 0..100 {
            if packet == 60 {
                stall = 300_000;
            }
            throughput.packet(packet * 10_000, packet * 10_000 + stall, 1250);
        }
        let rate = throughput.bitrate().unwrap();
        assert!((rate / 1e6 - 1.0).abs() < 0.02, "{rate}");
    }

    #[test]
    fn a_clock_that_was_set_is_survived() {
        let mut throughput = Throughput::new();
        for packet in 0..30 {
            throughput.packet(
                packet * 10_000,
                packet * 10_000 + (1 << 60) * (packet % 2),
                1250,
            );
        }
        assert_eq!(throughput.bitrate(), None);
    }
}
