//! Whether the receiver was kept from reading its socket: a pause that the path does not explain.
//!
//! Receivers that take the time of arrival when they read (browsers among them) make a busy machine look like a
//! full queue. A queue fills packet by packet; a stall is a gap in the arrivals, many times as long as what lies
//! between other packets, into which packets had been sent. What waited meanwhile is read faster than it was sent;
//! where it is not, others filled the gap, and a queue with it.

use std::time::Duration;

/// The shortest stall (microseconds), and how many times as long it is as the usual time between packets.
const SHORTEST: i64 = 80_000;
const TIMES: i64 = 5;
/// Weight of the latest time between two packets, as a divisor.
const WEIGHT: i64 = 10;
/// Packets behind a gap that tell what it was, and how much faster than sent they come if it was a stall.
const TELLING: u32 = 8;
const FASTER: f64 = 0.85;
/// How long what waited meanwhile may take to be read.
const CATCHING_UP: Duration = Duration::from_millis(700);

/// Times are microseconds: the sender's clock and the receiver's.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    last: Option<(i64, i64)>,
    usual: Option<i64>,
    until: Duration,
    /// The packet behind the latest gap, and those since.
    gap: Option<((i64, i64), u32)>,
}

impl Stalls {
    /// Takes a packet; `now` is when its feedback came, since the controller's start.
    pub(crate) fn packet(&mut self, now: Duration, sent: i64, arrival: i64) {
        let Some((last_sent, last_arrival)) = self.last.replace((sent, arrival)) else {
            return;
        };
        let gap = arrival - last_arrival;
        let usual = *self.usual.get_or_insert(gap.max(0));
        if gap >= SHORTEST && sent - last_sent < gap / 2 && gap > TIMES * usual {
            self.until = now + CATCHING_UP;
            self.gap = Some(((sent, arrival), 0));
            return;
        }
        if (0..SHORTEST * TIMES).contains(&gap) {
            self.usual = Some(usual + (gap - usual) / WEIGHT);
        }
        if let Some((first, count)) = &mut self.gap {
            *count += 1;
            if *count == TELLING {
                let faster = ((arrival - first.1) as f64) < FASTER * (sent - first.0) as f64;
                if !faster {
                    self.until = now;
                }
                self.gap = None;
            }
        }
    }

    /// Whether it was kept from it a moment ago.
    pub(crate) fn is_recent(&self, now: Duration) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Stalls;

    fn run(arrivals: impl Iterator<Item = i64>) -> bool {
        let mut stalls = Stalls::default();
        let mut now = Duration::ZERO;
        for (packet, arrival) in arrivals.enumerate() {
            now = Duration::from_micros(arrival as u64);
            stalls.packet(now, packet as i64 * 10_000, arrival);
        }
        stalls.is_recent(now)
    }

    #[test]
    fn a_gap_is_a_stall_and_a_slow_link_is_not() {
        assert!(!run((0..50).map(|packet| packet * 10_000)));
        // From the 40th on all came at once, 200 ms late.
        let stall = |packet: i64| {
            if packet < 40 {
                packet * 10_000
            } else {
                600_000
            }
        };
        assert!(run((0..50).map(stall)));
        // Somebody else's packets came in between, and ours go on as they did.
        let filled = |packet: i64| packet * 10_000 + if packet < 40 { 0 } else { 100_000 };
        assert!(!run((0..50).map(filled)));
        // 100 ms for each packet, of which one is sent every 10 ms.
        assert!(!run((0..50).map(|packet| packet * 100_000)));
    }
}
