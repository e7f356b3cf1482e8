//! Audio on its way to the decoder: a jitter buffer whose delay follows the network, and which says
//! what to do where a packet is missing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use visavis_rtp::payload::opus::OpusPacket;
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::payload::{Codec, comfort_noise::ComfortNoise};
use visavis_rtp::{Packet, PayloadType, Ssrc, TimestampExtender};

use super::delay::DelayTracker;
use super::statistics::{Freshness, ReceptionStats};

/// What an [`AudioReceiver`] does.
#[derive(Debug, Clone)]
pub struct AudioReceiverConfig {
    /// The source.
    pub ssrc: Ssrc,
    /// The codec.
    pub codec: Codec,
    /// Ticks of the RTP clock per second.
    pub clock_rate: u32,
    /// Ticks of a packet whose payload does not say how long it lasts. Default 20 ms.
    pub default_duration: u32,
    /// The payload type of comfort noise, if negotiated.
    pub comfort_noise: Option<PayloadType>,
    /// The least delay of the buffer. Default 0.
    pub min_delay: Duration,
    /// The largest delay of the buffer; sound beyond it is dropped. Default 2 s.
    pub max_delay: Duration,
    /// The most packets that wait. Default 200.
    pub max_packets: usize,
}

impl AudioReceiverConfig {
    /// Default limits.
    pub fn new(ssrc: Ssrc, codec: Codec, clock_rate: u32) -> Self {
        Self {
            ssrc,
            codec,
            clock_rate,
            default_duration: clock_rate / 50,
            comfort_noise: None,
            min_delay: Duration::ZERO,
            max_delay: Duration::from_secs(2),
            max_packets: 200,
        }
    }
}

/// Whether to play faster or slower than real time, by time stretching (or not at all, where the
/// decoder cannot: the buffer then only adapts in pauses).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speed {
    /// As recorded.
    Normal,
    /// A little faster: the buffer holds more than it needs.
    Faster,
    /// A little slower: the buffer holds less than it needs.
    Slower,
}

/// What to play next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Playout<'a> {
    /// Decode and play this.
    Packet {
        /// The payload.
        payload: &'a [u8],
        /// Its RTP timestamp.
        timestamp: u32,
        /// How long it lasts, in ticks of the RTP clock.
        duration: u32,
        /// How fast to play it.
        speed: Speed,
    },
    /// The packet is lost, but this one, which follows it, carries it once more at a lower rate: decode
    /// its redundancy (Opus in-band FEC), and keep it: it is given again as itself.
    Redundant {
        /// The payload of the following packet.
        payload: &'a [u8],
        /// How long the lost packet lasts, in ticks.
        duration: u32,
    },
    /// The packet is lost or late: let the decoder conceal it.
    Conceal {
        /// How long, in ticks.
        duration: u32,
        /// How many were concealed before it without a break.
        run: u32,
    },
    /// Background noise of this level, from a comfort noise packet (RFC 3389).
    Noise {
        /// The packet's payload.
        payload: &'a [u8],
        /// How long, in ticks.
        duration: u32,
    },
    /// Nothing: the stream has not begun, or pauses.
    Silence {
        /// How long, in ticks.
        duration: u32,
    },
}

/// What an [`AudioReceiver`] counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AudioStats {
    /// Packets that were played.
    pub played: u64,
    /// Packets that came when their time was over.
    pub late: u64,
    /// Packets that were dropped because the buffer was full, or too far behind.
    pub discarded: u64,
    /// Packets that were played from RED.
    pub redundant: u64,
    /// Packets that were played from in-band redundancy.
    pub in_band: u64,
    /// Packets that were concealed.
    pub concealed: u64,
    /// Times that concealment began.
    pub concealment_events: u64,
    /// Malformed packets.
    pub malformed: u64,
    /// Packets that came twice.
    pub duplicates: u64,
}

#[derive(Debug)]
struct Waiting {
    timestamp: u64,
    duration: u32,
    noise: bool,
    payload: Vec<u8>,
}

/// Receives one audio stream.
///
/// The player calls [`pull`](Self::pull) whenever it needs more sound; each answer says how long it lasts.
#[derive(Debug)]
pub struct AudioReceiver {
    config: AudioReceiverConfig,
    reception: ReceptionStats,
    extender: TimestampExtender,
    delay: DelayTracker,
    /// By timestamp.
    waiting: VecDeque<Waiting>,
    spare: Vec<Vec<u8>>,
    playing: Vec<u8>,
    /// Timestamp that is played next; `None` while the buffer fills.
    next: Option<u64>,
    /// When the buffer began to fill.
    filling_since: Option<Instant>,
    last_duration: u32,
    /// Whether the sender pauses on purpose.
    paused: bool,
    concealed: u32,
    extra_delay: Duration,
    stats: AudioStats,
}

impl AudioReceiver {
    /// The longest run of concealment; then silence, until the buffer has filled again.
    const MAX_CONCEALMENT: Duration = Duration::from_millis(200);

    /// A receiver that has seen nothing.
    pub fn new(config: AudioReceiverConfig) -> Self {
        Self {
            reception: ReceptionStats::new(config.ssrc, config.clock_rate),
            extender: TimestampExtender::new(),
            delay: DelayTracker::new(config.clock_rate, 50.0),
            waiting: VecDeque::with_capacity(config.max_packets + 1),
            spare: Vec::with_capacity(config.max_packets + 1),
            playing: Vec::new(),
            next: None,
            filling_since: None,
            last_duration: config.default_duration,
            paused: false,
            concealed: 0,
            extra_delay: Duration::ZERO,
            stats: AudioStats::default(),
            config,
        }
    }

    /// What was counted.
    pub const fn stats(&self) -> &AudioStats {
        &self.stats
    }

    /// Reception statistics, to look at.
    pub const fn statistics(&self) -> &ReceptionStats {
        &self.reception
    }

    /// Reception statistics, for reports.
    pub fn reception(&mut self) -> &mut ReceptionStats {
        &mut self.reception
    }

    /// A delay to add, so that sound and picture come together.
    pub fn set_extra_delay(&mut self, extra: Duration) {
        self.extra_delay = extra;
    }

    /// The delay that the buffer aims at: what 97 of 100 packets need.
    pub fn target_delay(&self) -> Duration {
        let packet = self.ticks(self.last_duration.into());
        let wanted = self
            .delay
            .quantile(0.97)
            .max(packet)
            .max(self.config.min_delay);
        (wanted + self.extra_delay).min(self.config.max_delay)
    }

    /// How much sound waits.
    pub fn buffered(&self) -> Duration {
        let (Some(first), Some(last)) = (self.waiting.front(), self.waiting.back()) else {
            return Duration::ZERO;
        };
        let from = self.next.unwrap_or(first.timestamp);
        self.ticks((last.timestamp + u64::from(last.duration)).saturating_sub(from))
    }

    fn ticks(&self, ticks: u64) -> Duration {
        Duration::from_micros(ticks * 1_000_000 / u64::from(self.config.clock_rate.max(1)))
    }

    fn duration_of(&self, payload: &[u8]) -> Option<u32> {
        match self.config.codec {
            Codec::Opus => OpusPacket::parse(payload)
                .ok()
                .map(|packet| packet.duration()),
            Codec::Pcmu | Codec::Pcma | Codec::G722 => Some(payload.len() as u32),
            _ => Some(self.config.default_duration),
        }
    }

    /// Takes a packet of the stream.
    pub fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        if self.fresh(now, packet) && !packet.payload().is_empty() {
            let noise = self.config.comfort_noise == Some(packet.payload_type());
            self.insert(packet.timestamp(), packet.payload(), noise);
        }
    }

    /// Takes a packet of redundant data (RFC 2198): what is missing of the earlier frames it repeats is
    /// put in its place.
    pub fn handle_red(&mut self, now: Instant, packet: &Packet<'_>) {
        if !self.fresh(now, packet) {
            return;
        }
        let Ok(blocks) = RedBlocks::parse(packet.payload()) else {
            self.stats.malformed += 1;
            return;
        };
        for block in blocks {
            if block.payload.is_empty() {
                continue;
            }
            let timestamp = packet.timestamp().wrapping_sub(block.timestamp_offset);
            let noise = self.config.comfort_noise == Some(block.payload_type);
            let inserted = self.insert(timestamp, block.payload, noise);
            self.stats.redundant += u64::from(inserted && block.timestamp_offset > 0);
        }
    }

    fn fresh(&mut self, now: Instant, packet: &Packet<'_>) -> bool {
        let len = packet.as_bytes().len();
        let (sequence, timestamp) = (packet.sequence(), packet.timestamp());
        match self.reception.handle_packet(now, sequence, timestamp, len) {
            Freshness::New(_) => {}
            Freshness::Restarted(_) => self.restart(),
            Freshness::Duplicate => {
                self.stats.duplicates += 1;
                return false;
            }
            Freshness::TooOld | Freshness::Suspect => return false,
        }
        if !packet.payload().is_empty() {
            self.delay.sample(now, timestamp);
            self.filling_since.get_or_insert(now);
        }
        true
    }

    /// Puts a frame in its place; false if its time is over, or it is there.
    fn insert(&mut self, timestamp: u32, payload: &[u8], noise: bool) -> bool {
        let Some(duration) = self.duration_of(payload) else {
            self.stats.malformed += 1;
            return false;
        };
        let extended = self.extender.extend(timestamp);
        if self.next.is_some_and(|next| extended < next) {
            // A timestamp that went back by seconds is a new stream.
            let behind = self.next.unwrap_or(0) - extended;
            if self.ticks(behind) > Duration::from_secs(5) {
                self.restart();
            } else {
                self.stats.late += 1;
                return false;
            }
        }
        let index = self
            .waiting
            .partition_point(|waiting| waiting.timestamp < extended);
        if self
            .waiting
            .get(index)
            .is_some_and(|waiting| waiting.timestamp == extended)
        {
            return false;
        }
        if self.waiting.len() >= self.config.max_packets {
            self.stats.discarded += 1;
            self.discard_front();
        }
        let index = index.min(self.waiting.len());
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(payload);
        self.waiting.insert(
            index,
            Waiting {
                timestamp: extended,
                duration,
                noise,
                payload: buffer,
            },
        );
        true
    }

    fn discard_front(&mut self) {
        if let Some(waiting) = self.waiting.pop_front() {
            if let Some(next) = &mut self.next {
                *next = (*next).max(waiting.timestamp + u64::from(waiting.duration));
            }
            self.spare.push(waiting.payload);
        }
    }

    fn restart(&mut self) {
        while let Some(waiting) = self.waiting.pop_front() {
            self.spare.push(waiting.payload);
        }
        self.next = None;
        self.filling_since = None;
        self.extender = TimestampExtender::new();
        self.delay.reset();
    }

    /// What to play next. Called when what was given before has been played.
    pub fn pull(&mut self, now: Instant) -> Playout<'_> {
        let target = self.target_delay();
        if self.next.is_none() && !self.begin(now, target) {
            return Playout::Silence {
                duration: self.last_duration,
            };
        }
        // Far behind: catch up at once rather than by playing faster.
        while self.buffered() > self.config.max_delay.max(target * 2) && self.waiting.len() > 1 {
            self.stats.discarded += 1;
            self.discard_front();
        }
        let next = self.next.unwrap_or(0);
        let duration = self.last_duration;
        let Some(first) = self.waiting.front() else {
            return self.empty(duration);
        };
        // A frame that overlaps what was played before is taken as what follows.
        if first.timestamp <= next {
            return self.play(target);
        }
        let ahead = first.timestamp - next;
        if self.paused || self.ticks(ahead) > Duration::from_secs(1) {
            // The sender paused (DTX), or lost its way: silence until the packet's own time comes.
            let due = self
                .delay
                .earliest(first.timestamp as u32)
                .is_none_or(|earliest| now >= earliest + target);
            if due {
                return self.play(target);
            }
            return Playout::Silence { duration };
        }
        let redundant = self.config.codec == Codec::Opus
            && ahead <= u64::from(duration)
            && OpusPacket::parse(&first.payload).is_ok_and(|packet| packet.has_fec);
        self.next = Some(next + u64::from(duration));
        if redundant {
            self.stats.in_band += 1;
            self.concealed = 0;
            return Playout::Redundant {
                payload: &self.waiting[0].payload,
                duration,
            };
        }
        self.conceal(duration)
    }

    /// Whether the buffer has filled; then playing begins.
    fn begin(&mut self, now: Instant, target: Duration) -> bool {
        let Some(first) = self.waiting.front() else {
            return false;
        };
        let since = self
            .filling_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if since < target && self.buffered() < target {
            return false;
        }
        self.next = Some(first.timestamp);
        true
    }

    fn empty(&mut self, duration: u32) -> Playout<'_> {
        if self.paused {
            return Playout::Silence { duration };
        }
        if self.ticks(u64::from(duration) * u64::from(self.concealed)) >= Self::MAX_CONCEALMENT {
            // Fill anew, with the delay that this has taught.
            self.next = None;
            self.filling_since = None;
            return Playout::Silence { duration };
        }
        // The timestamp stays: what comes late is played late, and the delay has grown.
        self.conceal(duration)
    }

    fn conceal(&mut self, duration: u32) -> Playout<'_> {
        let run = self.concealed;
        self.stats.concealed += 1;
        self.stats.concealment_events += u64::from(run == 0);
        self.concealed += 1;
        Playout::Conceal { duration, run }
    }

    fn play(&mut self, target: Duration) -> Playout<'_> {
        let buffered = self.buffered();
        let Some(first) = self.waiting.pop_front() else {
            return Playout::Silence {
                duration: self.last_duration,
            };
        };
        let before = std::mem::replace(&mut self.playing, first.payload);
        self.spare.push(before);
        self.next = Some(first.timestamp + u64::from(first.duration));
        self.last_duration = first.duration.max(1);
        self.concealed = 0;
        // Opus marks a pause by packets of one or two bytes (RFC 6716 section 2.1.9).
        self.paused = first.noise || self.config.codec == Codec::Opus && self.playing.len() <= 2;
        self.stats.played += 1;
        if first.noise && ComfortNoise::parse(&self.playing).is_ok() {
            return Playout::Noise {
                payload: &self.playing,
                duration: first.duration,
            };
        }
        let packet = self.ticks(first.duration.into());
        let speed = if buffered > target + target / 4 + packet {
            Speed::Faster
        } else if buffered + packet < target - target / 4 {
            Speed::Slower
        } else {
            Speed::Normal
        };
        Playout::Packet {
            payload: &self.playing,
            timestamp: first.timestamp as u32,
            duration: first.duration,
            speed,
        }
    }
}
