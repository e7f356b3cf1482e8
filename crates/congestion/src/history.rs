//! The packets that were sent, in a ring, to join with what feedback says of them.

use std::time::{Duration, Instant};

use visavis_datagram::Ecn;

use crate::packet::{Arrival, MAX_PACKET, PacketResult, ProbeId, SentPacket};

/// How many packets a ring holds unless told otherwise: 8192 are 3 s at 30 Mbit/s.
pub const DEFAULT_HISTORY: usize = 8192;

/// What a growing ring begins with.
const FIRST_SLOTS: usize = 256;

/// Counters of a [`SentPackets`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryStats {
    /// Packets that were sent.
    pub sent: u64,
    /// Reports of packets that were never sent, or so long ago that they are forgotten.
    pub unknown: u64,
    /// Reports of packets that had been reported before, and said nothing new.
    pub repeated: u64,
    /// Packets reported as arrived that had been reported as missing: reordered.
    pub late: u64,
    /// Packets reported as missing (late ones not taken off).
    pub missing: u64,
}

/// A packet that was sent, or none. Four are a line of the cache.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Microseconds since the ring's beginning (45 bits: a year), its size ([`MAX_PACKET`] at most: 16 bits), whether it
    /// is in flight (one bit), and its state.
    word: u64,
    /// The low half of its number: all of a ring are within [`NEAR`] of the highest.
    sequence: u32,
    probe: u32,
}

/// Numbers of a ring are less than this apart; those that jump further begin anew.
const NEAR: u64 = 1 << 31;

/// No probe.
const NO_PROBE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Unreported,
    Missing,
    Received,
}

impl Slot {
    const STATE: u64 = 0b11;
    const IN_FLIGHT: u64 = 0b100;
    const SIZE: u32 = 3;
    const TIME: u32 = 19;

    fn new(sent_at: Duration, packet: &SentPacket) -> Self {
        let size = packet.size.min(MAX_PACKET) as u64;
        let micros = sent_at.as_secs() * 1_000_000 + u64::from(sent_at.subsec_micros());
        Self {
            word: micros << Self::TIME
                | size << Self::SIZE
                | Self::IN_FLIGHT
                | State::Unreported as u64,
            sequence: packet.sequence as u32,
            probe: packet.probe.map_or(NO_PROBE, |probe| probe.0),
        }
    }

    fn state(&self) -> State {
        match self.word & Self::STATE {
            0 => State::Empty,
            1 => State::Unreported,
            2 => State::Missing,
            _ => State::Received,
        }
    }

    fn set_state(&mut self, state: State) {
        self.word = self.word & !Self::STATE | state as u64;
    }

    fn is_in_flight(&self) -> bool {
        self.word & Self::IN_FLIGHT != 0
    }

    fn size(&self) -> usize {
        usize::from((self.word >> Self::SIZE) as u16)
    }

    fn sent_at(&self) -> Duration {
        Duration::from_micros(self.word >> Self::TIME)
    }

    fn probe(&self) -> Option<ProbeId> {
        (self.probe != NO_PROBE).then_some(ProbeId(self.probe))
    }
}

/// A ring of the packets that were sent. Sending and looking up cost the same however many there are.
#[derive(Debug)]
pub struct SentPackets {
    slots: Box<[Slot]>,
    /// The ring grows to so many slots.
    most: usize,
    /// When the first packet left.
    begun: Option<Instant>,
    /// The highest number sent, and the lowest that may be in flight.
    highest: Option<u64>,
    lowest_in_flight: u64,
    in_flight: usize,
    stats: HistoryStats,
}

impl SentPackets {
    /// A ring for `capacity` packets (rounded up to a power of two, at least 64).
    pub fn new(capacity: usize) -> Self {
        Self::with_slots(capacity, capacity)
    }

    /// A ring that grows up to `capacity` packets (rounded likewise) as long as packets whose feedback has not come
    /// would have to be forgotten.
    pub fn growing(capacity: usize) -> Self {
        Self::with_slots(FIRST_SLOTS.min(capacity), capacity)
    }

    fn with_slots(slots: usize, most: usize) -> Self {
        let round = |slots: usize| slots.clamp(64, 1 << 24).next_power_of_two();
        Self {
            slots: vec![Slot::default(); round(slots)].into_boxed_slice(),
            most: round(most),
            begun: None,
            highest: None,
            lowest_in_flight: 0,
            in_flight: 0,
            stats: HistoryStats::default(),
        }
    }

    /// The extended number of a 16-bit one: the nearest to the highest that was sent.
    pub fn extend(&self, sequence: u16) -> u64 {
        self.extender()(sequence)
    }

    /// What [`extend`](Self::extend) does, for the numbers of one feedback.
    pub fn extender(&self) -> impl Fn(u16) -> u64 + use<> {
        let highest = self.highest.unwrap_or(0);
        move |sequence| {
            let distance = sequence.wrapping_sub(highest as u16) as i16;
            highest.wrapping_add_signed(i64::from(distance))
        }
    }

    /// Notes a packet that leaves now.
    pub fn sent(&mut self, now: Instant, packet: &SentPacket) {
        self.stats.sent += 1;
        let begun = *self.begun.get_or_insert(now);
        let made = Slot::new(now.saturating_duration_since(begun), packet);
        if !self.is_near(packet.sequence) {
            self.slots.fill(Slot::default());
            (self.highest, self.in_flight) = (None, 0);
        }
        let mut index = self.index(packet.sequence);
        while self.slots.len() < self.most && self.slots[index].is_in_flight() {
            self.grow();
            index = self.index(packet.sequence);
        }
        let former = std::mem::replace(&mut self.slots[index], made);
        if former.is_in_flight() {
            self.in_flight = self.in_flight.saturating_sub(former.size());
        }
        if self.highest.is_none() || packet.sequence < self.lowest_in_flight {
            self.lowest_in_flight = packet.sequence;
        }
        self.in_flight += made.size();
        self.highest = Some(
            self.highest
                .map_or(packet.sequence, |highest| highest.max(packet.sequence)),
        );
    }

    /// Joins what feedback says with what was sent, in the order of the packets' numbers; `results` is cleared first.
    /// Reports of unknown packets are counted and left out; so are repeated ones.
    pub fn resolve(
        &mut self,
        arrivals: impl IntoIterator<Item = Arrival>,
        results: &mut Vec<PacketResult>,
    ) {
        results.clear();
        let begun = self.begun;
        let (mut newest, mut in_order) = (None, true);
        for arrival in arrivals {
            let index = self.index(arrival.sequence);
            let is_near = self.is_near(arrival.sequence);
            let slot = &mut self.slots[index];
            let is_known =
                is_near && slot.sequence == arrival.sequence as u32 && slot.state() != State::Empty;
            let (Some(begun), true) = (begun, is_known) else {
                self.stats.unknown += 1;
                continue;
            };
            in_order &= newest < Some(arrival.sequence);
            newest = newest.max(Some(arrival.sequence));
            let state = match arrival.received_at {
                Some(_) => State::Received,
                None => State::Missing,
            };
            match (slot.state(), state) {
                (State::Received, _) | (State::Missing, State::Missing) => {
                    self.stats.repeated += 1;
                    continue;
                }
                (State::Missing, State::Received) => self.stats.late += 1,
                (State::Unreported, State::Missing) => self.stats.missing += 1,
                _ => {}
            }
            slot.set_state(state);
            results.push(PacketResult {
                sequence: arrival.sequence,
                size: slot.size(),
                sent_at: begun + slot.sent_at(),
                received_at: arrival.received_at,
                ecn: arrival.ecn,
                probe: slot.probe(),
            });
        }
        if let Some(newest) = newest {
            self.land(newest);
        }
        if !in_order {
            results.sort_unstable_by_key(|result| result.sequence);
        }
    }

    /// Reads what the next packet will touch.
    pub(crate) fn warm(&self) {
        let next = self.highest.map_or(0, |highest| highest.wrapping_add(1));
        for ahead in [0, 4] {
            let slot = &self.slots[self.index(next.wrapping_add(ahead))];
            std::hint::black_box(slot.word);
        }
        std::hint::black_box((self.in_flight, self.lowest_in_flight, self.stats.sent));
    }

    /// Bytes that are on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Counters.
    pub fn stats(&self) -> &HistoryStats {
        &self.stats
    }

    /// Takes everything up to a number out of flight: arrived, lost, or its feedback was lost.
    fn land(&mut self, newest: u64) {
        let ring = self.slots.len() as u64;
        let from = self.lowest_in_flight.max(newest.saturating_sub(ring - 1));
        for sequence in from..=newest {
            let index = self.index(sequence);
            let slot = &mut self.slots[index];
            // What stands in its place was sent before it, or after the newest.
            if slot.is_in_flight() && slot.sequence.wrapping_sub(newest as u32) as i32 <= 0 {
                slot.word &= !Slot::IN_FLIGHT;
                self.in_flight = self.in_flight.saturating_sub(slot.size());
            }
        }
        self.lowest_in_flight = self.lowest_in_flight.max(newest.saturating_add(1));
    }

    /// Twice the slots.
    fn grow(&mut self) {
        let slots = vec![Slot::default(); self.slots.len() * 2].into_boxed_slice();
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.state() != State::Empty {
                let index = self.index(slot.sequence.into());
                self.slots[index] = slot;
            }
        }
    }

    fn is_near(&self, sequence: u64) -> bool {
        self.highest
            .is_none_or(|highest| highest.abs_diff(sequence) < NEAR)
    }

    fn index(&self, sequence: u64) -> usize {
        (sequence & (self.slots.len() as u64 - 1)) as usize
    }
}

impl Default for SentPackets {
    fn default() -> Self {
        Self::new(DEFAULT_HISTORY)
    }
}

/// An arrival of a packet; for tests and for callers that build them one by one.
impl Arrival {
    /// The packet arrived at this time of the receiver's clock.
    pub const fn received(sequence: u64, at: Duration, ecn: Ecn) -> Self {
        Self {
            sequence,
            received_at: Some(at),
            ecn,
        }
    }

    /// The packet has not arrived.
    pub const fn missing(sequence: u64) -> Self {
        Self {
            sequence,
            received_at: None,
            ecn: Ecn::NotEct,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use visavis_datagram::Ecn;

    use super::SentPackets;
    use crate::packet::{Arrival, PacketKind, SentPacket};

    fn packet(sequence: u64) -> SentPacket {
        SentPacket {
            sequence,
            size: 100,
            kind: PacketKind::Video,
            probe: None,
        }
    }

    fn received(sequence: u64) -> Arrival {
        Arrival::received(
            sequence,
            Duration::from_millis(sequence % 1000),
            Ecn::NotEct,
        )
    }

    fn resolve(history: &mut SentPackets, arrivals: &[Arrival]) -> usize {
        let mut results = Vec::new();
        history.resolve(arrivals.iter().copied(), &mut results);
        results.len()
    }

    #[test]
    fn feedback_about_packets_never_sent_is_counted_and_left_out() {
        let mut history = SentPackets::new(64);
        let now = Instant::now();
        for sequence in 10..20 {
            history.sent(now, &packet(sequence));
        }
        let far = received(12 + (1 << 32));
        let resolved = resolve(
            &mut history,
            &[
                received(9),
                received(12),
                received(20),
                received(u64::MAX),
                far,
            ],
        );
        assert_eq!(resolved, 1);
        assert_eq!(history.stats().unknown, 4);
        assert_eq!(history.in_flight(), 700);
    }

    #[test]
    fn a_missing_packet_may_arrive_late_and_a_repeated_report_says_nothing() {
        let mut history = SentPackets::new(64);
        let now = Instant::now();
        for sequence in 0..4 {
            history.sent(now, &packet(sequence));
        }
        let first = [received(0), Arrival::missing(1), received(2)];
        assert_eq!(resolve(&mut history, &first), 3);
        assert_eq!(resolve(&mut history, &first), 0);
        assert_eq!(history.stats().repeated, 3);
        assert_eq!(resolve(&mut history, &[received(1)]), 1);
        assert_eq!(history.stats().late, 1);
    }

    #[test]
    fn what_the_ring_forgets_is_unknown_and_out_of_flight() {
        let mut history = SentPackets::new(64);
        let now = Instant::now();
        for sequence in 0..100 {
            history.sent(now, &packet(sequence));
        }
        assert_eq!(history.in_flight(), 6400);
        assert_eq!(resolve(&mut history, &[received(35)]), 0);
        assert_eq!(resolve(&mut history, &[received(36)]), 1);
        assert_eq!(history.in_flight(), 6300);
        // A jump of the numbers.
        history.sent(now, &packet(1 << 40));
        assert_eq!(resolve(&mut history, &[received(1 << 40)]), 1);
        assert_eq!(history.in_flight(), 0);
    }

    #[test]
    fn a_growing_ring_forgets_nothing_that_is_in_flight() {
        let mut history = SentPackets::growing(1000);
        let now = Instant::now();
        // Feedback comes for all that was sent: it need not grow.
        for sequence in 0..2000 {
            history.sent(now, &packet(sequence));
            assert_eq!(resolve(&mut history, &[received(sequence)]), 1);
        }
        assert_eq!(history.slots.len(), 256);
        // It stays away.
        for sequence in 2000..3024 {
            history.sent(now, &packet(sequence));
        }
        assert_eq!(history.in_flight(), 102_400);
        let arrivals: Vec<Arrival> = (2000..3024).map(received).collect();
        assert_eq!(resolve(&mut history, &arrivals), 1024);
        // And not beyond its bound.
        for sequence in 3024..5000 {
            history.sent(now, &packet(sequence));
        }
        assert_eq!(history.slots.len(), 1024);
        assert_eq!(history.in_flight(), 102_400);
    }

    #[test]
    fn sixteen_bit_numbers_extend_to_the_nearest() {
        let mut history = SentPackets::new(64);
        history.sent(Instant::now(), &packet(0x1_0005));
        assert_eq!(history.extend(0xfffe), 0xfffe);
        assert_eq!(history.extend(0x0004), 0x1_0004);
        assert_eq!(history.extend(0x7000), 0x1_7000);
    }
}
