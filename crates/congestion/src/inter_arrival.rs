//! Groups packets that left together, and compares how far apart groups left and arrived.
//!
//! The method of draft-ietf-rmcat-gcc-02 section 5.2, with the burst rule that browsers add.

/// Packets that leave within this time of a group's first one belong to it (microseconds).
const GROUP_LENGTH: i64 = 5_000;
/// Packets that arrive so close to one another after a stall are one burst (microseconds).
const BURST_GAP: i64 = 5_000;
/// The longest burst (microseconds).
const MAX_BURST: i64 = 100_000;
/// A step of the receiver's clock against ours that means that it was set (microseconds).
const CLOCK_JUMP: i64 = 3_000_000;
/// So many groups in a row that arrive before their predecessor mean that the clock was set.
const MAX_REORDERED: u32 = 3;

/// Times are microseconds.
#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: i64,
    sent: i64,
    first_arrival: i64,
    arrival: i64,
    last_seen: i64,
}

/// How two groups in a row differ (microseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deltas {
    pub(crate) sent: i64,
    pub(crate) arrival: i64,
}

#[derive(Debug, Default)]
pub(crate) struct InterArrival {
    current: Option<Group>,
    previous: Option<Group>,
    reordered: u32,
}

impl InterArrival {
    /// Takes a packet; `seen` is our clock when its feedback came. Answers when a group is complete.
    pub(crate) fn packet(&mut self, sent: i64, arrival: i64, seen: i64) -> Option<Deltas> {
        let Some(group) = &mut self.current else {
            self.current = Some(Group::new(sent, arrival, seen));
            return None;
        };
        if sent < group.first_sent {
            return None;
        }
        if !group.is_left_by(sent, arrival) {
            group.sent = group.sent.max(sent);
            group.arrival = arrival;
            group.last_seen = seen;
            return None;
        }
        let complete = *group;
        let mut deltas = None;
        if let Some(previous) = self.previous {
            let sent = complete.sent - previous.sent;
            let arrival = complete.arrival - previous.arrival;
            let seen = complete.last_seen - previous.last_seen;
            if arrival - seen >= CLOCK_JUMP {
                self.reset();
                return None;
            }
            if arrival < 0 {
                self.reordered += 1;
                if self.reordered >= MAX_REORDERED {
                    self.reset();
                }
                return None;
            }
            self.reordered = 0;
            deltas = Some(Deltas { sent, arrival });
        }
        self.previous = Some(complete);
        self.current = Some(Group::new(sent, arrival, seen));
        deltas
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Group {
    fn new(sent: i64, arrival: i64, seen: i64) -> Self {
        Self {
            first_sent: sent,
            sent,
            first_arrival: arrival,
            arrival,
            last_seen: seen,
        }
    }

    /// Whether a packet begins a new group.
    fn is_left_by(&self, sent: i64, arrival: i64) -> bool {
        let arrival_delta = arrival - self.arrival;
        let sent_delta = sent - self.sent;
        if sent_delta == 0 {
            return false;
        }
        // What piled up on the way arrives faster than it left: its delay says nothing new.
        let catches_up = arrival_delta < sent_delta;
        if catches_up && arrival_delta <= BURST_GAP && arrival - self.first_arrival < MAX_BURST {
            return false;
        }
        sent - self.first_sent > GROUP_LENGTH
    }
}

#[cfg(test)]
mod tests {
    use super::{Deltas, InterArrival};

    #[test]
    fn packets_of_one_group_count_as_one() {
        let mut groups = InterArrival::default();
        for (sent, arrival) in [(0, 50_000), (2_000, 52_000), (33_000, 83_000)] {
            assert_eq!(groups.packet(sent, arrival, arrival), None);
        }
        let deltas = groups.packet(66_000, 126_000, 126_000);
        assert_eq!(
            deltas,
            Some(Deltas {
                sent: 31_000,
                arrival: 31_000
            })
        );
        let deltas = groups.packet(99_000, 149_000, 149_000);
        assert_eq!(
            deltas,
            Some(Deltas {
                sent: 33_000,
                arrival: 43_000
            })
        );
    }

    #[test]
    fn a_clock_that_was_set_starts_anew() {
        let mut groups = InterArrival::default();
        for step in 0..5 {
            groups.packet(step * 20_000, step * 20_000, step * 20_000);
        }
        let jump = 1 << 50;
        assert_eq!(
            groups.packet(100_000, jump, 100_000),
            Some(Deltas {
                sent: 20_000,
                arrival: 20_000
            })
        );
        assert_eq!(groups.packet(120_000, jump + 20_000, 120_000), None);
        assert_eq!(groups.packet(140_000, jump + 40_000, 140_000), None);
    }
}
