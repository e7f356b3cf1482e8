//! Video on its way to the decoder: lost packets asked for and recovered, pictures put together, and
//! given in the order and at the time in which they are to be decoded.
//!
//! Packets go in and frames come out here; which packets make a picture, and which picture can be decoded
//! next, is [`pictures`].

mod pictures;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use visavis_rtp::extension::{AbsCaptureTime, DependencyStructure, PlayoutDelay, VideoOrientation};
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::payload::{Codec, DEFAULT_MAX_FRAME, Depacketizer, rtx};
use visavis_rtp::{ExtensionMap, Packet, PacketMut, PayloadType, Ssrc};

use super::delay::DelayTracker;
use super::fec::FecReceiver;
use super::keyframe::{KeyframeRequest, KeyframeRequester, KeyframeRequesterConfig};
use super::nack::{NackConfig, NackList, NackScheduler, NackStats};
use super::references::References;
use super::statistics::{Freshness, ReceptionStats};
use crate::PacketRing;
use crate::send::zero_mutable_extensions;

/// What a [`VideoReceiver`] does.
#[derive(Debug, Clone)]
pub struct VideoReceiverConfig {
    /// The source.
    pub ssrc: Ssrc,
    /// The codec.
    pub codec: Codec,
    /// The codec's payload type.
    pub payload_type: PayloadType,
    /// Ticks of the RTP clock per second.
    pub clock_rate: u32,
    /// The negotiated header extensions.
    pub extensions: ExtensionMap,
    /// Asking for lost packets; `None` if NACK was not negotiated.
    pub nack: Option<NackConfig>,
    /// Asking for key frames.
    pub keyframe: KeyframeRequesterConfig,
    /// The payload type of ULPFEC inside RED, if negotiated.
    pub ulpfec: Option<PayloadType>,
    /// Whether FlexFEC was negotiated.
    pub flexfec: bool,
    /// How many packets are kept. Default 2048.
    pub max_packets: usize,
    /// The longest frame in bytes. Default 8 MiB.
    pub max_frame: usize,
    /// How many frames wait for their time. Default 60.
    pub max_waiting: usize,
    /// How long a lost packet is waited for before what follows is tried without it. Default 500 ms.
    pub max_wait: Duration,
    /// The least delay of the buffer. Default 0.
    pub min_delay: Duration,
    /// The largest delay of the buffer. Default 2 s.
    pub max_delay: Duration,
}

impl VideoReceiverConfig {
    /// Default limits, NACK, no FEC.
    pub fn new(ssrc: Ssrc, codec: Codec, payload_type: PayloadType) -> Self {
        Self {
            ssrc,
            codec,
            payload_type,
            clock_rate: 90_000,
            extensions: ExtensionMap::new(),
            nack: Some(NackConfig::default()),
            keyframe: KeyframeRequesterConfig::default(),
            ulpfec: None,
            flexfec: false,
            max_packets: 2048,
            max_frame: DEFAULT_MAX_FRAME,
            max_waiting: 60,
            max_wait: Duration::from_millis(500),
            min_delay: Duration::ZERO,
            max_delay: Duration::from_secs(2),
        }
    }
}

/// How a packet came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// By the stream itself.
    #[default]
    Stream,
    /// By retransmission.
    Retransmitted,
    /// From parity.
    Recovered,
}

/// What to tell the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feedback {
    /// These packets are missing.
    Nack(NackList),
    /// A key frame is needed.
    Keyframe(KeyframeRequest),
}

/// A frame that is to be decoded now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoFrame<'a> {
    /// The encoded frame.
    pub data: &'a [u8],
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Whether it needs no other frame.
    pub keyframe: bool,
    /// Its temporal layer.
    pub temporal_id: u8,
    /// Its highest spatial layer.
    pub spatial_id: u8,
    /// When to show it.
    pub render_at: Instant,
    /// How the picture was held.
    pub orientation: Option<VideoOrientation>,
    /// When it was captured.
    pub captured: Option<AbsCaptureTime>,
}

/// What a [`VideoReceiver`] counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VideoStats {
    /// Frames that were put together.
    pub frames: u64,
    /// Key frames among them.
    pub keyframes: u64,
    /// Pictures that were whole, and could not be decoded for lack of others.
    pub undecodable: u64,
    /// Times that a lost packet was given up.
    pub skips: u64,
    /// Pictures whose payloads made no frame.
    pub corrupt: u64,
    /// Frames that were dropped because nobody fetched them.
    pub overflow: u64,
    /// Malformed packets and dependency descriptors.
    pub malformed: u64,
    /// Packets that came twice, by whatever way.
    pub duplicates: u64,
    /// Packets that came when their picture was over.
    pub late: u64,
    /// Packets that came by retransmission and were missing.
    pub retransmitted: u64,
    /// Packets that parity recovered.
    pub recovered: u64,
}

/// What the ring notes about a packet.
#[derive(Debug, Default, Clone, Copy)]
struct Meta {
    timestamp: u32,
    marker: bool,
    /// Its payload says that it begins a frame.
    start: bool,
    keyframe: bool,
    /// It holds no media: padding, or parity.
    empty: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    data: Vec<u8>,
    timestamp: u32,
    keyframe: bool,
    temporal_id: u8,
    spatial_id: u8,
    orientation: Option<VideoOrientation>,
    captured: Option<AbsCaptureTime>,
}

/// Receives one video stream.
///
/// Packets go in by [`handle_packet`](Self::handle_packet) and its relatives, frames come out of
/// [`poll_frame`](Self::poll_frame) when they are due, and [`poll_feedback`](Self::poll_feedback) says
/// what to tell the sender.
pub struct VideoReceiver {
    config: VideoReceiverConfig,
    reception: ReceptionStats,
    ring: PacketRing<Meta>,
    depacketizer: Box<dyn Depacketizer + Send>,
    /// Numbers for the depacketizer, which knows no gaps: those are judged here.
    fed: u64,
    nack: Option<NackScheduler>,
    keyframe: KeyframeRequester,
    fec: Option<FecReceiver>,
    references: References,
    structure: Option<DependencyStructure>,
    /// The packet that the next picture begins with; `None` before the first packet.
    next: Option<u64>,
    /// Up to where the packets from `next` on are known to be there.
    scanned: u64,
    /// Whether the picture at `next` follows the one that was decoded last without a gap.
    contiguous: bool,
    /// Since when `next` has been waited for although later packets are there.
    blocked: Option<Instant>,
    /// A packet of a key frame behind `next`.
    keyframe_ahead: Option<u64>,
    delay: DelayTracker,
    playout: Option<PlayoutDelay>,
    extra_delay: Duration,
    waiting: VecDeque<Waiting>,
    spare: Vec<Waiting>,
    given: Waiting,
    scratch: Vec<u8>,
    stats: VideoStats,
}

impl std::fmt::Debug for VideoReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoReceiver")
            .field("ssrc", &self.config.ssrc)
            .field("next", &self.next)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl VideoReceiver {
    /// Time that decoding and rendering take, before which a frame is given.
    const DECODING: Duration = Duration::from_millis(10);
    /// How long the first picture is waited for before another key frame is asked for.
    const BEGINNING: Duration = Duration::from_millis(150);

    /// A receiver that has seen nothing; `None` for a codec that is not video.
    pub fn new(config: VideoReceiverConfig) -> Option<Self> {
        if !config.codec.is_video() {
            return None;
        }
        let fec = config.flexfec || config.ulpfec.is_some();
        Some(Self {
            reception: ReceptionStats::new(config.ssrc, config.clock_rate),
            ring: PacketRing::new(config.max_packets),
            depacketizer: config.codec.depacketizer()?,
            fed: 0,
            nack: config.nack.map(NackScheduler::new),
            keyframe: KeyframeRequester::new(config.keyframe),
            fec: fec.then(|| FecReceiver::new(config.ssrc)),
            references: References::new(config.codec),
            structure: None,
            next: None,
            scanned: 0,
            contiguous: false,
            blocked: None,
            keyframe_ahead: None,
            delay: DelayTracker::new(config.clock_rate, 30.0),
            playout: None,
            extra_delay: Duration::ZERO,
            waiting: VecDeque::with_capacity(config.max_waiting + 1),
            spare: Vec::new(),
            given: Waiting::default(),
            scratch: vec![0; 2048],
            stats: VideoStats::default(),
            config,
        })
    }

    /// What was counted.
    pub const fn stats(&self) -> &VideoStats {
        &self.stats
    }

    /// What was counted of lost packets.
    pub fn nack_stats(&self) -> NackStats {
        self.nack
            .as_ref()
            .map_or(NackStats::default(), |nack| *nack.stats())
    }

    /// Requests for key frames so far.
    pub const fn keyframe_requests(&self) -> u64 {
        self.keyframe.requests()
    }

    /// Reception statistics, to look at.
    pub const fn statistics(&self) -> &ReceptionStats {
        &self.reception
    }

    /// Reception statistics, for reports.
    pub fn reception(&mut self) -> &mut ReceptionStats {
        &mut self.reception
    }

    /// The smoothed round-trip time, which requests wait for.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.keyframe.set_round_trip(round_trip);
        if let Some(nack) = &mut self.nack {
            nack.set_round_trip(round_trip);
        }
    }

    /// A delay to add, so that sound and picture come together.
    pub fn set_extra_delay(&mut self, extra: Duration) {
        self.extra_delay = extra;
    }

    /// The application wants a key frame, e.g. because its decoder failed.
    pub fn request_keyframe(&mut self) {
        self.references.broken();
        self.contiguous = false;
        self.keyframe.want();
    }

    /// The delay that the buffer aims at: what 95 of 100 frames need, within the limits of the
    /// configuration and of the sender.
    pub fn target_delay(&self) -> Duration {
        let (mut least, mut most) = (self.config.min_delay, self.config.max_delay);
        if let Some(playout) = self.playout {
            least = least.max(Duration::from_millis(u64::from(playout.min) * 10));
            most = most.min(Duration::from_millis(u64::from(playout.max) * 10));
        }
        let wanted = self.delay.quantile(0.95) + Self::DECODING;
        wanted.max(least).min(most.max(least)) + self.extra_delay
    }

    /// Takes a packet of the stream.
    pub fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>) {
        if let Some(sequence) = self.fresh(now, packet) {
            self.accept(now, sequence, packet, Origin::Stream);
            self.recover(now);
            self.advance(now);
        }
    }

    /// Takes a packet of redundant data: media, or parity (ULPFEC), in a single block.
    pub fn handle_red(&mut self, now: Instant, packet: &Packet<'_>) {
        let Some(sequence) = self.fresh(now, packet) else {
            return;
        };
        self.accept_red(now, sequence, packet, Origin::Stream);
        self.recover(now);
        self.advance(now);
    }

    fn accept_red(&mut self, now: Instant, sequence: u64, packet: &Packet<'_>, origin: Origin) {
        let block = RedBlocks::parse(packet.payload())
            .ok()
            .and_then(RedBlocks::primary);
        let Some(block) = block else {
            self.stats.malformed += 1;
            return;
        };
        if Some(block.payload_type) == self.config.ulpfec {
            if let Some(fec) = &mut self.fec {
                fec.push_ulpfec(sequence, block.payload);
            }
            // Its number is the stream's: nothing is missing there.
            self.note(now, sequence, origin);
            self.ring.insert(
                now,
                sequence,
                &[],
                Meta {
                    empty: true,
                    ..Meta::default()
                },
            );
            return;
        }
        // The packet as it was before it was wrapped, which is what parity protects.
        let header_len = packet.header_len();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(&packet.as_bytes()[..header_len]);
        scratch.extend_from_slice(block.payload);
        // Padding was left behind.
        scratch[0] &= !0x20;
        if let Ok(mut inner) = PacketMut::parse(&mut scratch) {
            inner.set_payload_type(block.payload_type);
            self.accept(now, sequence, &inner.as_packet(), origin);
        }
        self.scratch = scratch;
    }

    /// Takes a retransmission (RFC 4588), which becomes the original in place. `payload_type`: the one
    /// that the retransmission stands for (`apt`).
    pub fn handle_retransmission(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        payload_type: PayloadType,
    ) {
        let map = &self.config.extensions;
        // Without payload it is a probe for bandwidth.
        let Ok(original) = rtx::restore(packet, self.config.ssrc, payload_type, map) else {
            return;
        };
        let Ok(packet) = Packet::parse(original) else {
            self.stats.malformed += 1;
            return;
        };
        let Some(sequence) = self.reception.extend(packet.sequence()) else {
            self.stats.late += 1;
            return;
        };
        if payload_type == self.config.payload_type {
            self.accept(now, sequence, &packet, Origin::Retransmitted);
        } else {
            self.accept_red(now, sequence, &packet, Origin::Retransmitted);
        }
        self.recover(now);
        self.advance(now);
    }

    /// Takes a FlexFEC packet.
    pub fn handle_flexfec(&mut self, now: Instant, packet: &Packet<'_>) {
        if let (Some(fec), Some(highest)) = (&mut self.fec, self.ring.highest()) {
            fec.push_flexfec(highest, packet.payload());
            self.recover(now);
            self.advance(now);
        }
    }

    fn fresh(&mut self, now: Instant, packet: &Packet<'_>) -> Option<u64> {
        let len = packet.as_bytes().len();
        let (sequence, timestamp) = (packet.sequence(), packet.timestamp());
        match self.reception.handle_packet(now, sequence, timestamp, len) {
            Freshness::New(sequence) => Some(sequence),
            Freshness::Restarted(sequence) => {
                self.restart();
                Some(sequence)
            }
            Freshness::Duplicate => {
                self.stats.duplicates += 1;
                None
            }
            Freshness::TooOld | Freshness::Suspect => None,
        }
    }

    fn restart(&mut self) {
        self.ring.clear();
        self.nack = self.config.nack.map(NackScheduler::new);
        if let Some(fec) = &mut self.fec {
            fec.clear();
        }
        self.next = None;
        self.contiguous = false;
        self.blocked = None;
        self.keyframe_ahead = None;
        self.delay.reset();
        self.references.broken();
        self.keyframe.want();
    }

    /// Tells the scheduler of NACKs that a packet came.
    fn note(&mut self, now: Instant, sequence: u64, origin: Origin) {
        if let Some(nack) = &mut self.nack
            && !nack.handle_packet(now, sequence, origin == Origin::Stream)
        {
            // Too much is lost to ask for: begin anew with the next key frame.
            self.references.broken();
            self.contiguous = false;
            self.keyframe.want();
        }
    }

    /// Stores a packet.
    fn accept(&mut self, now: Instant, sequence: u64, packet: &Packet<'_>, origin: Origin) {
        self.note(now, sequence, origin);
        if self.ring.contains(sequence) {
            self.stats.duplicates += 1;
            return;
        }
        if self.next.is_some_and(|next| sequence < next) {
            if self.stats.frames > 0 || sequence < self.ring.lowest() {
                self.stats.late += 1;
                return;
            }
            // The very first packets came out of order.
            self.move_to(sequence, false);
        }
        let payload = packet.payload();
        let mut meta = Meta {
            timestamp: packet.timestamp(),
            marker: packet.marker(),
            empty: payload.is_empty(),
            ..Meta::default()
        };
        if !meta.empty {
            match self.config.codec.inspect(payload) {
                Ok(info) => {
                    meta.start = info.start_of_frame && info.spatial_id == 0;
                    meta.keyframe = info.keyframe;
                }
                Err(_) => {
                    self.stats.malformed += 1;
                    meta.empty = true;
                }
            }
            if let Some(playout) = packet.extension::<PlayoutDelay>(&self.config.extensions) {
                self.playout = Some(playout);
            }
        }
        let Some((bytes, slot)) = self.ring.store(now, sequence) else {
            self.stats.late += 1;
            return;
        };
        bytes.clear();
        bytes.extend_from_slice(packet.as_bytes());
        *slot = meta;
        if self.fec.is_some() {
            zero_mutable_extensions(bytes, &self.config.extensions);
        }
        match origin {
            Origin::Stream => {}
            Origin::Retransmitted => self.stats.retransmitted += 1,
            Origin::Recovered => self.stats.recovered += 1,
        }
        self.next.get_or_insert(sequence);
        if meta.keyframe {
            // A newer key frame takes the place of one that has not become whole until now.
            let known = self.keyframe_ahead.and_then(|ahead| self.ring.get(ahead));
            let keep = known.is_some_and(|known| {
                known.meta.timestamp == meta.timestamp || known.sequence() > sequence
            });
            if !keep {
                self.keyframe_ahead = Some(sequence);
            }
        }
    }

    /// Lets parity recover what it can.
    fn recover(&mut self, now: Instant) {
        let Some(mut fec) = self.fec.take() else {
            return;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(2048, 0);
        while let Some((sequence, len)) = fec.recover(&self.ring, &mut scratch) {
            if let Ok(packet) = Packet::parse(&scratch[..len]) {
                self.accept(now, sequence, &packet, Origin::Recovered);
            }
            if !self.ring.contains(sequence) {
                // It was refused; parity would bring it again and again.
                break;
            }
        }
        self.scratch = scratch;
        self.fec = Some(fec);
    }

    /// Does what is due: gives up packets that do not come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// When something is due: a frame, a request, a packet to give up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.next_frame(), self.next_request()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When [`poll_frame`](Self::poll_frame) has a frame; `None` while none waits.
    pub fn next_frame(&self) -> Option<Instant> {
        self.waiting.front().and_then(|front| self.decode_at(front))
    }

    /// When something else than a frame is due: a request, a packet to give up.
    pub fn next_request(&self) -> Option<Instant> {
        let nack = self.nack.as_ref().and_then(NackScheduler::poll_timeout);
        let patience = match self.references.is_alive() {
            true => self.config.max_wait,
            false => self.config.max_wait.min(Self::BEGINNING),
        };
        // Once it has been given up, only a packet changes anything.
        let blocked = self
            .blocked
            .filter(|_| !self.keyframe.is_wanted())
            .map(|since| since + patience);
        [nack, self.keyframe.poll_timeout(), blocked]
            .into_iter()
            .flatten()
            .min()
    }

    /// What to tell the sender now.
    pub fn poll_feedback(&mut self, now: Instant) -> Option<Feedback> {
        if let Some(request) = self.keyframe.poll(now) {
            return Some(Feedback::Keyframe(request));
        }
        let list = self.nack.as_mut()?.poll(now);
        (!list.is_empty()).then_some(Feedback::Nack(list))
    }

    fn render_at(&self, waiting: &Waiting) -> Option<Instant> {
        Some(self.delay.earliest(waiting.timestamp)? + self.target_delay())
    }

    fn decode_at(&self, waiting: &Waiting) -> Option<Instant> {
        self.render_at(waiting)?.checked_sub(Self::DECODING)
    }

    /// The next frame, if it is time to decode it.
    pub fn poll_frame(&mut self, now: Instant) -> Option<VideoFrame<'_>> {
        let front = self.waiting.front()?;
        if self.decode_at(front).is_some_and(|due| now < due) {
            return None;
        }
        self.take_frame(now)
    }

    /// The next frame, whether it is time or not: for recorders.
    pub fn take_frame(&mut self, now: Instant) -> Option<VideoFrame<'_>> {
        let waiting = self.waiting.pop_front()?;
        let render_at = self.render_at(&waiting).unwrap_or(now).max(now);
        let before = std::mem::replace(&mut self.given, waiting);
        self.spare.push(before);
        let given = &self.given;
        Some(VideoFrame {
            data: &given.data,
            timestamp: given.timestamp,
            keyframe: given.keyframe,
            temporal_id: given.temporal_id,
            spatial_id: given.spatial_id,
            render_at,
            orientation: given.orientation,
            captured: given.captured,
        })
    }
}
