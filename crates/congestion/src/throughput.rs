//! How many bits per second arrive: the "robust" estimator of browsers, which forgives one gap.

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

#[derive(Debug, Clone, Copy)]
struct Acked {
    sent: i64,
    arrival: i64,
    size: usize,
}

/// Times are microseconds: the sender's clock and the receiver's.
#[derive(Debug)]
pub(crate) struct Throughput {
    /// In the order of arrival.
    window: VecDeque<Acked>,
}

impl Throughput {
    pub(crate) fn new() -> Self {
        Self {
            window: VecDeque::with_capacity(MAX_PACKETS + 1),
        }
    }

    pub(crate) fn packet(&mut self, sent: i64, arrival: i64, size: usize) {
        let acked = Acked {
            sent,
            arrival,
            size,
        };
        // The clock was set: what was measured before says nothing.
        if self
            .window
            .back()
            .is_some_and(|last| (arrival - last.arrival).abs() > MAX_WINDOW)
        {
            self.window.clear();
        }
        let at = self
            .window
            .iter()
            .rposition(|other| other.arrival <= arrival)
            .map_or(0, |index| index + 1);
        self.window.insert(at, acked);
        while self.is_first_too_old() {
            self.window.pop_front();
        }
    }

    /// Bits per second, once there is enough to say.
    pub(crate) fn bitrate(&self) -> Option<f64> {
        if self.window.len() < REQUIRED_PACKETS {
            return None;
        }
        let (first, last) = (self.window.front()?, self.window.back()?);
        let (mut largest, mut second) = (0, 0);
        let mut previous = first.arrival;
        let (mut min_sent, mut max_sent) = (i64::MAX, i64::MIN);
        let mut last_sent_size = 0;
        let mut total = 0usize;
        for packet in &self.window {
            total += packet.size;
            min_sent = min_sent.min(packet.sent);
            if packet.sent >= max_sent {
                max_sent = packet.sent;
                last_sent_size = packet.size;
            }
            let gap = packet.arrival - previous;
            previous = packet.arrival;
            if gap > largest {
                second = largest;
                largest = gap;
            } else if gap > second {
                second = gap;
            }
        }
        // One gap is a stall of the receiver or of the radio, not a lack of packets.
        let received = (last.arrival - first.arrival - largest + second).max(LEAST);
        let sent = (max_sent - min_sent).max(LEAST);
        let receive_rate = rate(total - first.size, received);
        let send_rate = rate(total - last_sent_size, sent);
        Some(receive_rate.min(send_rate))
    }

    /// Bits per second of the last part of the window: what arrives now.
    pub(crate) fn recent(&self) -> Option<f64> {
        let last = self.window.back()?;
        let mut bytes = 0;
        let mut first = last.arrival;
        let mut packets = 0;
        for packet in self.window.iter().rev() {
            if last.arrival - packet.arrival > RECENT {
                break;
            }
            bytes += packet.size;
            first = packet.arrival;
            packets += 1;
        }
        let first_size = self.window[self.window.len() - packets].size;
        let duration = last.arrival - first;
        (packets >= REQUIRED_PACKETS && duration > RECENT / 2)
            .then(|| rate(bytes - first_size, duration))
    }

    fn is_first_too_old(&self) -> bool {
        let (Some(first), Some(last)) = (self.window.front(), self.window.back()) else {
            return false;
        };
        let duration = last.arrival - first.arrival;
        self.window.len() > MAX_PACKETS
            || duration > MAX_WINDOW
            || (self.window.len() > WINDOW_PACKETS && duration > MIN_WINDOW)
    }
}

fn rate(bytes: usize, micros: i64) -> f64 {
    bytes as f64 * 8e6 / micros as f64
}

#[cfg(test)]
mod tests {
    use super::Throughput;

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
