//! Streams that arrive: what was received, what is missing, and what receiver reports say.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use visavis_datagram::Ecn;
use visavis_rtp::rtcp::{ReportBlock, SenderInfo};
use visavis_rtp::{NtpTime, Packet, SequenceExtender, SequenceNumber, Ssrc};

use crate::config::MediaSettings;
use crate::transceiver::TransceiverId;

/// Counters of one received stream (webrtc-stats `RTCInboundRtpStreamStats`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InboundStats {
    /// Whose receiver.
    pub transceiver: TransceiverId,
    /// Index of the rid, with simulcast.
    pub encoding: Option<usize>,
    /// The source.
    pub ssrc: u32,
    /// The payload type of the latest packet.
    pub payload_type: u8,
    /// Packets, retransmitted ones included.
    pub packets_received: u64,
    /// Payload bytes.
    pub bytes_received: u64,
    /// Bytes of headers and padding.
    pub header_bytes_received: u64,
    /// Packets that retransmission brought.
    pub retransmitted_packets_received: u64,
    /// Payload bytes that retransmission brought.
    pub retransmitted_bytes_received: u64,
    /// Packets expected and not received; negative with duplicates.
    pub packets_lost: i64,
    /// Packets that came twice.
    pub packets_duplicated: u64,
    /// Inter-arrival jitter in seconds.
    pub jitter: f64,
    /// NACK messages sent.
    pub nack_count: u64,
    /// PLI messages sent because too much was missing.
    pub pli_count: u64,
    /// Packets that arrived with a congestion mark.
    pub packets_with_ce: u64,
    /// The latest sender report: when it came, what it said.
    pub sender_report: Option<(Instant, SenderInfo)>,
    /// When the latest packet came.
    pub last_packet: Instant,
}

/// What `Inbound` needs to know of a packet beside its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) transceiver: TransceiverId,
    pub(super) encoding: Option<usize>,
    pub(super) ssrc: u32,
    pub(super) recovered: bool,
    /// Clock rate, and whether losses may be told.
    pub(super) codec: Option<(u32, bool)>,
    pub(super) ecn: Ecn,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    asked: u32,
    next: Instant,
}

#[derive(Debug)]
struct Stream {
    stats: InboundStats,
    sequence: SequenceExtender,
    /// Where arrival times are counted from.
    epoch: Instant,
    first: u64,
    /// The last 64 × 16 numbers below the highest that arrived, as bits.
    seen: Seen,
    /// RFC 3550 section 6.4.1, in ticks.
    jitter: f64,
    last_transit: Option<i64>,
    clock_rate: u32,
    can_nack: bool,
    missing: BTreeMap<u64, Missing>,
    overrun: bool,
    // At the latest report.
    expected_prior: u64,
    received_prior: u64,
    received: u64,
}

/// Which of the latest numbers arrived.
#[derive(Debug, Default)]
struct Seen {
    bits: [u64; 16],
    highest: u64,
}

impl Seen {
    const SPAN: u64 = 1024;

    /// Marks a number; false if it was there already or is too old to tell.
    fn mark(&mut self, sequence: u64) -> bool {
        if sequence > self.highest {
            let from = self.highest + 1;
            for skipped in from.max(sequence.saturating_sub(Self::SPAN - 1))..=sequence {
                self.clear(skipped);
            }
            self.highest = sequence;
        } else if self.highest - sequence >= Self::SPAN {
            return false;
        }
        let index = sequence % Self::SPAN;
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        new
    }

    fn clear(&mut self, sequence: u64) {
        let index = sequence % Self::SPAN;
        self.bits[(index / 64) as usize] &= !(1 << (index % 64));
    }
}

/// All received streams.
#[derive(Debug)]
pub(super) struct Inbound {
    settings: MediaSettings,
    streams: HashMap<u32, Stream>,
}

impl Inbound {
    pub(super) fn new(settings: MediaSettings) -> Self {
        Self {
            settings,
            streams: HashMap::new(),
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(TransceiverId) -> bool) {
        self.streams
            .retain(|_, stream| keep(stream.stats.transceiver));
    }

    /// Takes a packet; false if it came before.
    pub(super) fn received(&mut self, now: Instant, arrived: Arrived, packet: &Packet<'_>) -> bool {
        let stream = self.streams.entry(arrived.ssrc).or_insert_with(|| {
            let mut sequence = SequenceExtender::new();
            let first = sequence.extend(packet.sequence());
            Stream::new(now, &arrived, sequence, first)
        });
        stream.received(now, &arrived, packet, &self.settings)
    }

    pub(super) fn sender_report(&mut self, now: Instant, info: &SenderInfo) {
        if let Some(stream) = self.streams.get_mut(&info.ssrc.0) {
            stream.stats.sender_report = Some((now, *info));
        }
    }

    /// The peer says that a source is gone: whose it was.
    pub(super) fn goodbye(&mut self, ssrc: u32) -> Option<TransceiverId> {
        let stream = self.streams.get_mut(&ssrc)?;
        stream.missing.clear();
        Some(stream.stats.transceiver)
    }

    /// The source of a transceiver's encoding that was heard last.
    pub(super) fn stream_of(&self, id: TransceiverId, encoding: Option<usize>) -> Option<u32> {
        self.streams
            .values()
            .filter(|stream| {
                stream.stats.transceiver == id
                    && (encoding.is_none() || stream.stats.encoding == encoding)
            })
            .max_by_key(|stream| stream.stats.last_packet)
            .map(|stream| stream.stats.ssrc)
    }

    /// When a missing packet is to be asked for next.
    pub(super) fn next_nack(&self) -> Option<Instant> {
        let streams = self.streams.values();
        streams
            .flat_map(|stream| stream.missing.values().map(|missing| missing.next))
            .min()
    }

    /// Hands out what is to be asked for now, per source.
    pub(super) fn take_nacks(
        &mut self,
        now: Instant,
        round_trip: Option<Duration>,
        mut ask: impl FnMut(Ssrc, &[SequenceNumber]),
    ) {
        let again = round_trip
            .unwrap_or(self.settings.nack_interval)
            .max(self.settings.nack_interval);
        let mut lost = Vec::new();
        for stream in self.streams.values_mut() {
            lost.clear();
            let most = self.settings.nack_attempts;
            stream.missing.retain(|&sequence, missing| {
                if missing.next > now {
                    return true;
                }
                if missing.asked >= most {
                    return false;
                }
                missing.asked += 1;
                missing.next = now + again;
                lost.push(SequenceNumber(sequence as u16));
                true
            });
            if !lost.is_empty() {
                stream.stats.nack_count += 1;
                ask(Ssrc(stream.stats.ssrc), &lost);
            }
        }
    }

    /// Hands out the sources of which too much is missing to be asked for.
    pub(super) fn take_overruns(&mut self, mut ask: impl FnMut(Ssrc)) {
        for stream in self.streams.values_mut() {
            if std::mem::take(&mut stream.overrun) {
                stream.stats.pli_count += 1;
                ask(Ssrc(stream.stats.ssrc));
            }
        }
    }

    /// What receiver reports say, for sources that sent since the latest report or were announced.
    pub(super) fn report_blocks(&mut self, now: Instant) -> Vec<ReportBlock> {
        self.streams
            .values_mut()
            .filter(|stream| now.saturating_duration_since(stream.stats.last_packet) < QUIET)
            .map(|stream| stream.report_block(now))
            .collect()
    }

    pub(super) fn stats(&self) -> impl Iterator<Item = InboundStats> + '_ {
        self.streams.values().map(Stream::stats)
    }
}

/// A source that is quiet for so long is left out of reports (RFC 3550 section 6.3.5).
const QUIET: Duration = Duration::from_secs(25);

impl Stream {
    fn new(now: Instant, arrived: &Arrived, sequence: SequenceExtender, first: u64) -> Self {
        Self {
            stats: InboundStats {
                transceiver: arrived.transceiver,
                encoding: arrived.encoding,
                ssrc: arrived.ssrc,
                payload_type: 0,
                packets_received: 0,
                bytes_received: 0,
                header_bytes_received: 0,
                retransmitted_packets_received: 0,
                retransmitted_bytes_received: 0,
                packets_lost: 0,
                packets_duplicated: 0,
                jitter: 0.0,
                nack_count: 0,
                pli_count: 0,
                packets_with_ce: 0,
                sender_report: None,
                last_packet: now,
            },
            sequence,
            epoch: now,
            first,
            seen: Seen {
                bits: [0; 16],
                highest: first.saturating_sub(1),
            },
            jitter: 0.0,
            last_transit: None,
            clock_rate: 90_000,
            can_nack: false,
            missing: BTreeMap::new(),
            overrun: false,
            expected_prior: 0,
            received_prior: 0,
            received: 0,
        }
    }

    fn received(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        packet: &Packet<'_>,
        settings: &MediaSettings,
    ) -> bool {
        let before = self.seen.highest;
        let sequence = self.sequence.extend(packet.sequence());
        let new = self.seen.mark(sequence);
        self.missing.remove(&sequence);
        if let Some((clock_rate, can_nack)) = arrived.codec {
            (self.clock_rate, self.can_nack) = (clock_rate, can_nack);
        }
        let stats = &mut self.stats;
        stats.encoding = arrived.encoding.or(stats.encoding);
        stats.payload_type = packet.payload_type().value();
        stats.last_packet = now;
        stats.packets_with_ce += u64::from(arrived.ecn == Ecn::Ce);
        if !new {
            stats.packets_duplicated += 1;
            return false;
        }
        self.received += 1;
        stats.packets_received += 1;
        stats.bytes_received += packet.payload().len() as u64;
        let header = packet.header_len() + packet.padding_len();
        stats.header_bytes_received += header as u64;
        if arrived.recovered {
            stats.retransmitted_packets_received += 1;
            stats.retransmitted_bytes_received += packet.payload().len() as u64;
        } else {
            self.update_jitter(now, packet.timestamp());
        }
        if self.can_nack && sequence > before + 1 && self.received > 1 {
            self.note_missing(now, before + 1, sequence, settings);
        }
        true
    }

    fn note_missing(&mut self, now: Instant, from: u64, to: u64, settings: &MediaSettings) {
        if to - from > settings.max_missing as u64 {
            self.missing.clear();
            self.overrun = true;
            return;
        }
        for sequence in from..to {
            self.missing.insert(
                sequence,
                Missing {
                    asked: 0,
                    next: now,
                },
            );
        }
        while self.missing.len() > settings.max_missing {
            self.missing.pop_first();
            self.overrun = true;
        }
    }

    /// RFC 3550 appendix A.8, with arrival times since the first packet.
    fn update_jitter(&mut self, now: Instant, timestamp: u32) {
        let since = now.saturating_duration_since(self.epoch);
        let arrival = (since.as_secs_f64() * f64::from(self.clock_rate)) as i64;
        let transit = arrival.wrapping_sub(i64::from(timestamp));
        if let Some(last) = self.last_transit {
            // Timestamps wrap after 32 bits.
            let d = (transit.wrapping_sub(last) as i32).unsigned_abs();
            self.jitter += (f64::from(d) - self.jitter) / 16.0;
        }
        self.last_transit = Some(transit);
    }

    fn expected(&self) -> u64 {
        self.seen.highest.saturating_sub(self.first) + 1
    }

    /// RFC 3550 section 6.4.1 and appendix A.3.
    fn report_block(&mut self, now: Instant) -> ReportBlock {
        let expected = self.expected();
        let lost = expected as i64 - self.received as i64;
        let expected_interval = expected.saturating_sub(self.expected_prior);
        let received_interval = self.received.saturating_sub(self.received_prior);
        let lost_interval = expected_interval.saturating_sub(received_interval);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let fraction = (lost_interval * 256)
            .checked_div(expected_interval)
            .unwrap_or(0);
        let (last_sr, delay) = match self.stats.sender_report {
            Some((at, info)) => {
                let delay = now.saturating_duration_since(at).as_secs_f64() * 65_536.0;
                (NtpTime::middle(info.ntp), delay as u32)
            }
            None => (0, 0),
        };
        ReportBlock {
            ssrc: Ssrc(self.stats.ssrc),
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: i32::try_from(lost).unwrap_or(i32::MAX),
            highest_sequence: self.seen.highest as u32,
            jitter: self.jitter as u32,
            last_sr,
            delay_since_last_sr: delay,
        }
    }

    fn stats(&self) -> InboundStats {
        InboundStats {
            packets_lost: self.expected() as i64 - self.received as i64,
            jitter: self.jitter / f64::from(self.clock_rate.max(1)),
            ..self.stats
        }
    }
}
