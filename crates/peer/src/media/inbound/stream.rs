//! One stream that arrives: what is counted of it, and whether packets or frames are made of it.

use std::time::{Duration, Instant};

use visavis_datagram::Ecn;
use visavis_media::receive::{
    AudioReceiver, AudioReceiverConfig, Feedback, Freshness, KeyframeRequest, NackConfig, NackList,
    NackScheduler, ReceptionStats, VideoFrame, VideoReceiver, VideoReceiverConfig,
};
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::payload::{Codec as PayloadCodec, rtx};
use visavis_rtp::rtcp::{ReportBlock, SenderInfo};
use visavis_rtp::{Packet, PacketMut, PayloadType, SequenceNumber, Ssrc};

use super::playout::AudioPlayout;
use super::{Arrived, InboundStats, Outcome};
use crate::codecs::{Codec, FLEXFEC, Kind};
use crate::config::MediaSettings;
use crate::media::demux::Route;
use crate::transceiver::TransceiverId;

/// A source that is quiet for so long is left out of reports (RFC 3550 section 6.3.5).
const QUIET: Duration = Duration::from_secs(25);

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) transceiver: TransceiverId,
    pub(super) encoding: Option<usize>,
    pub(super) ssrc: Ssrc,
    pub(super) last_packet: Instant,
    /// The codec in use, as negotiated.
    codec: Option<(u8, u32)>,
    reception: Reception,
    stats: Counters,
    sender_report: Option<(Instant, SenderInfo)>,
}

#[derive(Debug, Default)]
struct Counters {
    packets: u64,
    bytes: u64,
    header_bytes: u64,
    retransmitted_packets: u64,
    retransmitted_bytes: u64,
    duplicates: u64,
    nacks: u64,
    plis: u64,
    firs: u64,
    with_ce: u64,
    fec_packets: u64,
    fec_bytes: u64,
    rtx_ssrc: Option<u32>,
    fec_ssrc: Option<u32>,
}

/// What is made of the packets.
#[derive(Debug)]
pub(super) enum Reception {
    /// They are handed out as they come.
    Packets(Box<Packets>),
    /// Video frames.
    Video(Box<VideoReceiver>),
    /// Audio frames.
    Audio(Box<AudioPlayout>),
}

#[derive(Debug)]
pub(super) struct Packets {
    reception: ReceptionStats,
    nack: Option<NackScheduler>,
    /// Too much is missing to be asked for: a key frame is.
    overrun: bool,
}

/// What is to be told to the sender of a stream.
#[derive(Debug)]
pub(in crate::media) enum Request {
    Nack(NackList),
    KeyFrame(KeyframeRequest),
}

impl Stream {
    pub(super) fn new(
        now: Instant,
        arrived: &Arrived<'_>,
        frames: bool,
        settings: &MediaSettings,
    ) -> Self {
        let codec = arrived.codec;
        Self {
            transceiver: arrived.route.id,
            encoding: arrived.encoding,
            ssrc: Ssrc(arrived.ssrc),
            last_packet: now,
            codec: codec.map(|codec| (codec.payload_type, codec.clock_rate)),
            reception: Reception::new(arrived, frames, settings),
            stats: Counters::default(),
            sender_report: None,
        }
    }

    /// Takes a packet.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        arrived: &Arrived<'_>,
        packet: &mut [u8],
        settings: &MediaSettings,
    ) -> Outcome {
        let Ok(parsed) = Packet::parse(packet) else {
            return Outcome::Nothing;
        };
        self.encoding = arrived.encoding.or(self.encoding);
        self.last_packet = now;
        let stats = &mut self.stats;
        stats.with_ce += u64::from(arrived.ecn == Ecn::Ce);
        let payload = parsed.payload().len() as u64;
        stats.header_bytes += (parsed.header_len() + parsed.padding_len()) as u64;
        if arrived.is_rtx {
            stats.retransmitted_packets += 1;
            stats.retransmitted_bytes += payload;
            stats.rtx_ssrc = Some(parsed.ssrc().0);
        } else {
            stats.packets += 1;
            stats.bytes += payload;
        }
        if let Some(codec) = arrived.codec.filter(|codec| !codec.is_auxiliary()) {
            let known = (codec.payload_type, codec.clock_rate);
            if self.codec.replace(known) != Some(known) && !arrived.is_rtx {
                self.reception.follow(arrived, settings);
            }
        }
        match &mut self.reception {
            Reception::Packets(packets) => {
                let outcome = packets.receive(now, arrived, packet, self.ssrc);
                self.stats.duplicates += u64::from(outcome == Outcome::Duplicate);
                outcome
            }
            Reception::Video(receiver) => {
                receive_video(receiver, now, arrived, packet);
                Outcome::Taken
            }
            Reception::Audio(playout) => {
                let is_red = arrived.codec.is_some_and(|codec| codec.is("red"));
                playout.receive(now, &parsed, is_red);
                Outcome::Taken
            }
        }
    }

    /// Takes parity that protects this stream.
    pub(super) fn parity(&mut self, now: Instant, packet: &Packet<'_>) {
        self.stats.fec_packets += 1;
        self.stats.fec_bytes += packet.payload().len() as u64;
        self.stats.fec_ssrc = Some(packet.ssrc().0);
        if let Reception::Video(receiver) = &mut self.reception {
            receiver.handle_flexfec(now, packet);
        }
    }

    pub(super) fn sender_report(&mut self, now: Instant, info: &SenderInfo) {
        self.sender_report = Some((now, *info));
        self.reception().handle_sender_report(now, info);
    }

    pub(super) fn set_round_trip(&mut self, trip: Duration) {
        match &mut self.reception {
            Reception::Packets(packets) => {
                if let Some(nack) = &mut packets.nack {
                    nack.set_round_trip(trip);
                }
            }
            Reception::Video(receiver) => receiver.set_round_trip(trip),
            Reception::Audio(_) => {}
        }
    }

    /// The peer says that the source is gone: what is missing will not come.
    pub(super) fn goodbye(&mut self) {
        if let Reception::Packets(packets) = &mut self.reception
            && let Some(nack) = &mut packets.nack
        {
            nack.forget_before(u64::MAX);
        }
    }

    /// The application's decoder cannot go on.
    pub(super) fn want_key_frame(&mut self) -> bool {
        match &mut self.reception {
            Reception::Video(receiver) => {
                receiver.request_keyframe();
                true
            }
            _ => false,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Reception::Video(receiver) = &mut self.reception {
            receiver.handle_timeout(now);
        }
    }

    /// What is to be asked of the sender now; asked again until `None`.
    pub(super) fn poll_request(&mut self, now: Instant) -> Option<Request> {
        let request = match &mut self.reception {
            Reception::Packets(packets) => {
                if std::mem::take(&mut packets.overrun) {
                    Request::KeyFrame(KeyframeRequest::Pli)
                } else {
                    let list = packets.nack.as_mut()?.poll(now);
                    (!list.is_empty()).then_some(Request::Nack(list))?
                }
            }
            Reception::Video(receiver) => match receiver.poll_feedback(now)? {
                Feedback::Nack(list) => Request::Nack(list),
                Feedback::Keyframe(request) => Request::KeyFrame(request),
            },
            Reception::Audio(_) => return None,
        };
        match &request {
            Request::Nack(_) => self.stats.nacks += 1,
            Request::KeyFrame(KeyframeRequest::Pli) => self.stats.plis += 1,
            Request::KeyFrame(KeyframeRequest::Fir(_)) => self.stats.firs += 1,
        }
        Some(request)
    }

    /// A key frame was asked for by the application's own means.
    pub(super) fn count_pli(&mut self) {
        self.stats.plis += 1;
    }

    /// When something has to be asked or given up.
    pub(super) fn next_request(&self) -> Option<Instant> {
        match &self.reception {
            Reception::Packets(packets) if packets.overrun => Some(self.last_packet),
            Reception::Packets(packets) => packets.nack.as_ref()?.poll_timeout(),
            Reception::Video(receiver) => receiver.next_request(),
            Reception::Audio(_) => None,
        }
    }

    /// When a frame is due.
    pub(super) fn next_frame(&self) -> Option<Instant> {
        match &self.reception {
            Reception::Packets(_) => None,
            Reception::Video(receiver) => receiver.next_frame(),
            Reception::Audio(playout) => playout.next_frame(),
        }
    }

    pub(super) fn poll_video(&mut self, now: Instant) -> Option<VideoFrame<'_>> {
        match &mut self.reception {
            Reception::Video(receiver) => receiver.poll_frame(now),
            _ => None,
        }
    }

    pub(super) fn audio(&mut self) -> Option<&mut AudioPlayout> {
        match &mut self.reception {
            Reception::Audio(playout) => Some(playout),
            _ => None,
        }
    }

    pub(super) fn payload_type(&self) -> u8 {
        self.codec.map_or(0, |(payload_type, _)| payload_type)
    }

    fn reception(&mut self) -> &mut ReceptionStats {
        match &mut self.reception {
            Reception::Packets(packets) => &mut packets.reception,
            Reception::Video(receiver) => receiver.reception(),
            Reception::Audio(playout) => playout.receiver.reception(),
        }
    }

    /// What a receiver report says, unless the source has been quiet for long.
    pub(super) fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let quiet = now.saturating_duration_since(self.last_packet);
        (quiet < QUIET).then(|| self.reception().report_block(now))?
    }

    pub(super) fn stats(&self) -> InboundStats {
        let counters = &self.stats;
        let (reception, video, audio) = match &self.reception {
            Reception::Packets(packets) => (&packets.reception, None, None),
            Reception::Video(receiver) => (receiver.statistics(), Some(*receiver.stats()), None),
            Reception::Audio(playout) => {
                let receiver = &playout.receiver;
                (receiver.statistics(), None, Some(*receiver.stats()))
            }
        };
        let (payload_type, clock_rate) = self.codec.unwrap_or((0, 90_000));
        InboundStats {
            transceiver: self.transceiver,
            encoding: self.encoding,
            ssrc: self.ssrc.0,
            payload_type,
            packets_received: counters.packets,
            bytes_received: counters.bytes,
            header_bytes_received: counters.header_bytes,
            retransmitted_packets_received: counters.retransmitted_packets,
            retransmitted_bytes_received: counters.retransmitted_bytes,
            packets_lost: reception.cumulative_lost(),
            packets_duplicated: counters.duplicates,
            jitter: f64::from(reception.jitter()) / f64::from(clock_rate.max(1)),
            fec_packets_received: counters.fec_packets,
            fec_bytes_received: counters.fec_bytes,
            fec_ssrc: counters.fec_ssrc,
            rtx_ssrc: counters.rtx_ssrc,
            nack_count: counters.nacks,
            pli_count: counters.plis,
            fir_count: counters.firs,
            packets_with_ce: counters.with_ce,
            sender_report: self.sender_report,
            last_packet: self.last_packet,
            video,
            audio,
        }
    }
}

impl Reception {
    fn new(arrived: &Arrived<'_>, frames: bool, settings: &MediaSettings) -> Self {
        let made = frames
            .then(|| Self::for_frames(arrived, settings))
            .flatten();
        made.unwrap_or_else(|| Self::for_packets(arrived, settings))
    }

    fn for_packets(arrived: &Arrived<'_>, settings: &MediaSettings) -> Self {
        let clock_rate = arrived.codec.map_or(90_000, |codec| codec.clock_rate);
        Self::Packets(Box::new(Packets {
            reception: ReceptionStats::new(Ssrc(arrived.ssrc), clock_rate),
            nack: nack(arrived.codec, settings).map(NackScheduler::new),
            overrun: false,
        }))
    }

    /// `None` for a codec of which no frames can be made.
    fn for_frames(arrived: &Arrived<'_>, settings: &MediaSettings) -> Option<Self> {
        let (route, ssrc) = (arrived.route, Ssrc(arrived.ssrc));
        let is_media = |codec: &&Codec| !codec.is_auxiliary();
        // Behind RED, the first codec stands for what will be found inside.
        let first = route.receive_codecs.iter().find(is_media);
        let codec = arrived.codec.filter(is_media).or(first)?;
        let payload_codec = PayloadCodec::from_name(&codec.name)?;
        let payload_type = PayloadType::new(codec.payload_type)?;
        let pt_of = |name: &str| {
            let found = route.receive_codecs.iter().find(|codec| codec.is(name));
            found.and_then(|codec| PayloadType::new(codec.payload_type))
        };
        if route.kind == Kind::Video {
            let receiver = VideoReceiver::new(VideoReceiverConfig {
                clock_rate: codec.clock_rate,
                extensions: route.receive_extensions.clone(),
                nack: nack(Some(codec), settings),
                ulpfec: pt_of("ulpfec"),
                flexfec: pt_of(FLEXFEC).is_some(),
                min_delay: settings.min_delay,
                max_delay: settings.max_delay,
                ..VideoReceiverConfig::new(ssrc, payload_codec, payload_type)
            })?;
            return Some(Self::Video(Box::new(receiver)));
        }
        let receiver = AudioReceiver::new(AudioReceiverConfig {
            comfort_noise: pt_of("CN"),
            min_delay: settings.min_delay,
            max_delay: settings.max_delay,
            ..AudioReceiverConfig::new(ssrc, payload_codec, codec.clock_rate)
        });
        Some(Self::Audio(Box::new(AudioPlayout::new(
            receiver,
            codec.clock_rate,
        ))))
    }

    /// The sender changed the codec: what is made of frames begins anew.
    fn follow(&mut self, arrived: &Arrived<'_>, settings: &MediaSettings) {
        match self {
            Self::Packets(packets) => {
                let wanted = nack(arrived.codec, settings);
                if packets.nack.is_some() != wanted.is_some() {
                    packets.nack = wanted.map(NackScheduler::new);
                }
            }
            _ => {
                if let Some(anew) = Self::for_frames(arrived, settings) {
                    *self = anew;
                }
            }
        }
    }
}

/// How packets of a codec are asked for again, if that was negotiated.
fn nack(codec: Option<&Codec>, settings: &MediaSettings) -> Option<NackConfig> {
    let asks = settings.send_feedback && codec.is_some_and(|codec| codec.has_feedback("nack"));
    asks.then(|| NackConfig {
        max_tracked: settings.max_missing,
        max_requests: settings.nack_attempts,
        ..NackConfig::default()
    })
}

fn receive_video(
    receiver: &mut VideoReceiver,
    now: Instant,
    arrived: &Arrived<'_>,
    packet: &mut [u8],
) {
    let Some(codec) = arrived.codec else { return };
    if arrived.is_rtx {
        if let Some(original) = PayloadType::new(codec.payload_type) {
            receiver.handle_retransmission(now, packet, original);
        }
    } else if let Ok(packet) = Packet::parse(packet) {
        match codec.is("red") {
            true => receiver.handle_red(now, &packet),
            false => receiver.handle_packet(now, &packet),
        }
    }
}

impl Packets {
    /// Makes the packet the original one, in place, and notes it.
    fn receive(
        &mut self,
        now: Instant,
        arrived: &Arrived<'_>,
        packet: &mut [u8],
        ssrc: Ssrc,
    ) -> Outcome {
        let mut moved = 0;
        if arrived.is_rtx {
            let original = arrived
                .codec
                .and_then(|codec| PayloadType::new(codec.payload_type));
            let map = &arrived.route.receive_extensions;
            let restored = original.and_then(|pt| rtx::restore(packet, ssrc, pt, map).ok());
            // Without payload it is a probe for bandwidth.
            if restored.is_none() {
                return Outcome::Nothing;
            }
            moved = rtx::OVERHEAD;
        }
        let Ok(parsed) = Packet::parse(&packet[moved..]) else {
            return Outcome::Nothing;
        };
        let (sequence, len) = (parsed.sequence(), parsed.as_bytes().len());
        let is_new = match arrived.is_rtx {
            true => self.recovered(now, sequence),
            false => self.fresh((now, arrived.at), sequence, parsed.timestamp(), len),
        };
        if !is_new {
            return Outcome::Duplicate;
        }
        let is_video_red =
            arrived.route.kind == Kind::Video && arrived.codec.is_some_and(|codec| codec.is("red"));
        if is_video_red {
            match unwrap_red(&mut packet[moved..], arrived.route) {
                Some(more) => moved += more,
                None => return Outcome::Taken,
            }
        }
        Outcome::Packet { moved }
    }

    fn fresh(
        &mut self,
        (now, at): (Instant, Instant),
        sequence: SequenceNumber,
        timestamp: u32,
        len: usize,
    ) -> bool {
        let extended = match self.reception.handle_packet(at, sequence, timestamp, len) {
            Freshness::New(extended) => extended,
            Freshness::Restarted(extended) => {
                if let Some(nack) = &mut self.nack {
                    nack.forget_before(u64::MAX);
                }
                self.overrun = self.nack.is_some();
                extended
            }
            Freshness::Duplicate | Freshness::TooOld | Freshness::Suspect => return false,
        };
        if let Some(nack) = &mut self.nack {
            self.overrun |= !nack.handle_packet(now, extended, true);
        }
        true
    }

    fn recovered(&mut self, now: Instant, sequence: SequenceNumber) -> bool {
        let extended = self.reception.extend(sequence);
        if !self.reception.mark_recovered(sequence) {
            return false;
        }
        if let (Some(nack), Some(extended)) = (&mut self.nack, extended) {
            nack.handle_packet(now, extended, false);
        }
        true
    }
}

/// Takes the header of redundancy (RFC 2198) away, in place: how far the packet's beginning moved.
/// `None` for what holds no media, such as parity.
fn unwrap_red(packet: &mut [u8], route: &Route) -> Option<usize> {
    let parsed = Packet::parse(packet).ok()?;
    let block = RedBlocks::parse(parsed.payload()).ok()?.primary()?;
    let payload_type = block.payload_type;
    let codec = route.codec(payload_type.value())?;
    if codec.is_auxiliary() {
        return None;
    }
    // The primary block is the last one: what stands before it goes.
    let moved = parsed.payload().len() - block.payload.len();
    let header = parsed.header_len();
    packet.copy_within(..header, moved);
    let mut inner = PacketMut::parse(&mut packet[moved..]).ok()?;
    inner.set_payload_type(payload_type);
    Some(moved)
}
