//! Reception statistics of one source: losses, jitter, report blocks (RFC 3550 section 6.4.1,
//! appendices A.1, A.3 and A.8), and which packets are new.

use std::time::Instant;

use visavis_rtp::rtcp::{ReportBlock, SenderInfo};
use visavis_rtp::{SequenceExtender, SequenceNumber, Ssrc};

/// How many packets back a duplicate is recognised.
const WINDOW: u64 = 1024;
/// A jump of more than this is a restart if the next packet confirms it (appendix A.1).
const MAX_DROPOUT: i32 = 3000;
/// Packets this much out of order are late rather than a restart.
const MAX_MISORDER: i32 = -1000;

/// How new a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It was not seen before; this is its extended sequence number.
    New(u64),
    /// It was seen before.
    Duplicate,
    /// It is so old that nobody knows.
    TooOld,
    /// It jumps far ahead or back, and no packet has confirmed that: not to be used.
    Suspect,
    /// It confirms a jump: the source has restarted, and what is known about it is void.
    Restarted(u64),
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceptionCounters {
    /// New packets.
    pub packets: u64,
    /// Bytes of new packets, header and all.
    pub bytes: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets too old to be judged.
    pub too_old: u64,
    /// Packets that jumped without another to confirm it.
    pub suspect: u64,
    /// Restarts of the source.
    pub restarts: u64,
}

/// Reception statistics of one source.
#[derive(Debug)]
pub struct ReceptionStats {
    ssrc: Ssrc,
    clock_rate: u32,
    extender: SequenceExtender,
    base: u64,
    seen: [u64; (WINDOW / 64) as usize],
    /// The number that would confirm a jump.
    suspect: Option<SequenceNumber>,
    counters: ReceptionCounters,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// Transit of the packet before: arrival minus timestamp, in ticks.
    transit: Option<(i64, u32)>,
    epoch: Option<Instant>,
    /// Jitter in sixteenths of a tick.
    jitter: u64,
    last_report: Option<(u32, Instant)>,
}

impl ReceptionStats {
    /// Statistics of a source that sends with `clock_rate` ticks per second.
    pub fn new(ssrc: Ssrc, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate,
            extender: SequenceExtender::new(),
            base: 0,
            seen: [0; (WINDOW / 64) as usize],
            suspect: None,
            counters: ReceptionCounters::default(),
            received: 0,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            epoch: None,
            jitter: 0,
            last_report: None,
        }
    }

    /// The source.
    pub const fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// What was counted.
    pub const fn counters(&self) -> &ReceptionCounters {
        &self.counters
    }

    /// Inter-arrival jitter in ticks of the RTP clock.
    pub const fn jitter(&self) -> u32 {
        (self.jitter >> 4) as u32
    }

    /// The extended number of a packet that came another way (retransmitted, recovered); `None` before
    /// the first packet, or for a number far from the highest.
    pub fn extend(&self, sequence: SequenceNumber) -> Option<u64> {
        let highest = self.extender.highest()?;
        let extended = self.extender.peek(sequence);
        let step = extended as i64 - highest as i64;
        (i64::from(MAX_MISORDER) * 8..=MAX_DROPOUT.into())
            .contains(&step)
            .then_some(extended)
    }

    /// Takes a packet of the stream itself (not retransmitted) of `len` bytes.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        sequence: SequenceNumber,
        timestamp: u32,
        len: usize,
    ) -> Freshness {
        let Some(highest) = self.extender.highest() else {
            return self.restart(now, sequence, timestamp, len);
        };
        let extended = self.extender.peek(sequence);
        let step = extended as i64 - highest as i64;
        if step > MAX_DROPOUT.into() || step < MAX_MISORDER.into() {
            if self.suspect == Some(sequence) {
                self.counters.restarts += 1;
                let Freshness::New(extended) = self.restart(now, sequence, timestamp, len) else {
                    return Freshness::Suspect;
                };
                return Freshness::Restarted(extended);
            }
            self.suspect = Some(sequence.next());
            self.counters.suspect += 1;
            return Freshness::Suspect;
        }
        if step > 0 {
            for sequence in highest + 1..=extended {
                let bit = sequence % WINDOW;
                self.seen[(bit / 64) as usize] &= !(1 << (bit % 64));
            }
            self.extender.extend(sequence);
        } else if step <= -(WINDOW as i64) {
            self.counters.too_old += 1;
            return Freshness::TooOld;
        }
        let bit = extended % WINDOW;
        let word = &mut self.seen[(bit / 64) as usize];
        if *word >> (bit % 64) & 1 != 0 {
            self.counters.duplicates += 1;
            return Freshness::Duplicate;
        }
        *word |= 1 << (bit % 64);
        self.count(now, timestamp, len);
        Freshness::New(extended)
    }

    /// A packet came by retransmission on a source of its own: it counts neither as received nor for
    /// jitter (RFC 4588 section 6.2), and the original is a duplicate from now on. False if it was
    /// seen before, or is too old to tell.
    pub fn mark_recovered(&mut self, sequence: SequenceNumber) -> bool {
        let (Some(highest), Some(extended)) = (self.extender.highest(), self.extend(sequence))
        else {
            return false;
        };
        if extended > highest || extended + WINDOW <= highest {
            return false;
        }
        let bit = extended % WINDOW;
        let word = &mut self.seen[(bit / 64) as usize];
        let is_new = *word >> (bit % 64) & 1 == 0;
        *word |= 1 << (bit % 64);
        is_new
    }

    fn restart(
        &mut self,
        now: Instant,
        sequence: SequenceNumber,
        timestamp: u32,
        len: usize,
    ) -> Freshness {
        self.extender = SequenceExtender::new();
        let extended = self.extender.extend(sequence);
        self.base = extended;
        self.seen.fill(0);
        let bit = extended % WINDOW;
        self.seen[(bit / 64) as usize] |= 1 << (bit % 64);
        self.suspect = None;
        self.received = 0;
        self.expected_prior = 0;
        self.received_prior = 0;
        self.transit = None;
        self.count(now, timestamp, len);
        Freshness::New(extended)
    }

    fn count(&mut self, now: Instant, timestamp: u32, len: usize) {
        self.counters.packets += 1;
        self.counters.bytes += len as u64;
        self.received += 1;
        let epoch = *self.epoch.get_or_insert(now);
        let micros = now.saturating_duration_since(epoch).as_micros() as i64;
        let arrival = micros * i64::from(self.clock_rate) / 1_000_000;
        if let Some((before, last_timestamp)) = self.transit {
            // Appendix A.8, in 16ths; a packet of the same frame says nothing.
            if timestamp != last_timestamp {
                let step = i64::from(timestamp.wrapping_sub(last_timestamp) as i32);
                let difference = (arrival - before - step).unsigned_abs();
                // A jump of the timestamp is no jitter.
                if difference < 5 * u64::from(self.clock_rate) {
                    self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
                }
            } else {
                return;
            }
        }
        self.transit = Some((arrival, timestamp));
    }

    /// Takes a sender report of the source.
    pub fn handle_sender_report(&mut self, now: Instant, info: &SenderInfo) {
        self.last_report = Some((info.ntp.middle(), now));
    }

    /// Packets lost since the beginning; negative if duplicates outnumber losses.
    pub fn cumulative_lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    fn expected(&self) -> u64 {
        self.extender
            .highest()
            .map_or(0, |highest| highest + 1 - self.base)
    }

    /// The block of the next report; the fraction lost counts since the one before. `None` before the
    /// first packet.
    pub fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let highest = self.extender.highest()?;
        let expected = self.expected();
        let expected_interval = expected - self.expected_prior;
        let received_interval = self.received - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction_lost = (lost_interval * 256)
            .checked_div(expected_interval)
            .unwrap_or(0)
            .min(255) as u8;
        let (last_sr, delay_since_last_sr) = self.last_report.map_or((0, 0), |(middle, at)| {
            let delay = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
            (middle, delay.min(u32::MAX.into()) as u32)
        });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost,
            cumulative_lost: self.cumulative_lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            // The extension counts cycles from one; the wire counts from zero.
            highest_sequence: (highest - 0x1_0000) as u32,
            jitter: self.jitter(),
            last_sr,
            delay_since_last_sr,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use visavis_rtp::NtpTime;

    fn run(stats: &mut ReceptionStats, now: Instant, sequence: u16) -> Freshness {
        stats.handle_packet(
            now,
            SequenceNumber(sequence),
            u32::from(sequence) * 160,
            100,
        )
    }

    #[test]
    fn losses_duplicates_and_late_packets_are_told_apart() {
        let now = Instant::now();
        let mut stats = ReceptionStats::new(Ssrc(1), 8000);
        for sequence in [65_534, 65_535, 1, 2] {
            assert!(matches!(run(&mut stats, now, sequence), Freshness::New(_)));
        }
        assert_eq!(run(&mut stats, now, 1), Freshness::Duplicate);
        let block = stats.report_block(now).unwrap();
        assert_eq!(block.cumulative_lost, 1);
        assert_eq!(block.fraction_lost, 51);
        assert_eq!(block.highest_sequence, 0x1_0002);
        assert!(matches!(run(&mut stats, now, 0), Freshness::New(_)));
        let block = stats.report_block(now).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (0, 0));
        assert_eq!(stats.counters().duplicates, 1);
    }

    #[test]
    fn what_came_by_retransmission_stays_lost_and_is_not_taken_twice() {
        let now = Instant::now();
        let mut stats = ReceptionStats::new(Ssrc(1), 8000);
        assert!(!stats.mark_recovered(SequenceNumber(10)));
        run(&mut stats, now, 10);
        run(&mut stats, now, 13);
        assert!(stats.mark_recovered(SequenceNumber(12)));
        assert!(!stats.mark_recovered(SequenceNumber(12)));
        assert!(!stats.mark_recovered(SequenceNumber(14)));
        assert_eq!(run(&mut stats, now, 12), Freshness::Duplicate);
        assert_eq!(stats.cumulative_lost(), 2);
    }

    #[test]
    fn a_jump_counts_once_it_is_confirmed() {
        let now = Instant::now();
        let mut stats = ReceptionStats::new(Ssrc(1), 8000);
        run(&mut stats, now, 10);
        assert_eq!(run(&mut stats, now, 20_000), Freshness::Suspect);
        assert!(matches!(run(&mut stats, now, 11), Freshness::New(_)));
        assert_eq!(run(&mut stats, now, 40_000), Freshness::Suspect);
        assert!(matches!(
            run(&mut stats, now, 40_001),
            Freshness::Restarted(_)
        ));
        assert_eq!(stats.cumulative_lost(), 0);
    }

    #[test]
    fn jitter_is_that_of_the_arrivals() {
        let start = Instant::now();
        let mut even = ReceptionStats::new(Ssrc(1), 8000);
        let mut uneven = ReceptionStats::new(Ssrc(1), 8000);
        for sequence in 0..200u16 {
            let at = start + Duration::from_millis(20 * u64::from(sequence));
            run(&mut even, at, sequence);
            // Every other packet 10 ms late: differences of 80 ticks.
            let late = Duration::from_millis(u64::from(sequence % 2) * 10);
            run(&mut uneven, at + late, sequence);
        }
        assert_eq!(even.jitter(), 0);
        assert!((75..=80).contains(&uneven.jitter()), "{}", uneven.jitter());
    }

    #[test]
    fn the_report_answers_the_last_sender_report() {
        let now = Instant::now();
        let mut stats = ReceptionStats::new(Ssrc(1), 8000);
        run(&mut stats, now, 1);
        let info = SenderInfo {
            ntp: NtpTime(0x0123_4567_89ab_cdef),
            ..SenderInfo::default()
        };
        stats.handle_sender_report(now, &info);
        let block = stats
            .report_block(now + Duration::from_millis(500))
            .unwrap();
        assert_eq!(block.last_sr, 0x4567_89ab);
        assert_eq!(block.delay_since_last_sr, 32_768);
    }
}
