//! Streams that arrive: counters, reports, what is asked for again, and the frames that are put
//! together where they are wanted.

mod playout;
mod stream;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use visavis_datagram::Ecn;
use visavis_media::receive::{AudioStats, Playout, VideoStats};
use visavis_rtp::payload::flexfec;
use visavis_rtp::rtcp::{ReportBlock, SenderInfo};
use visavis_rtp::{Packet, Ssrc};

pub(super) use self::stream::Request;
use self::stream::Stream;
use super::demux::Route;
use super::frames::{EncodedFrame, FrameKind};
use crate::codecs::Codec;
use crate::config::MediaSettings;
use crate::transceiver::TransceiverId;

/// Counters of one received stream (webrtc-stats `RTCInboundRtpStreamStats` and
/// `RTCRemoteOutboundRtpStreamStats`).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct InboundStats {
    /// Whose receiver.
    pub transceiver: TransceiverId,
    /// Index into [`Receiver::rids`](crate::Receiver), with simulcast.
    pub encoding: Option<usize>,
    /// The source.
    pub ssrc: u32,
    /// The payload type of the latest media.
    pub payload_type: u8,
    /// Packets of the source itself.
    pub packets_received: u64,
    /// Their payload bytes.
    pub bytes_received: u64,
    /// Bytes of headers and padding.
    pub header_bytes_received: u64,
    /// Packets that came by retransmission.
    pub retransmitted_packets_received: u64,
    /// Their payload bytes.
    pub retransmitted_bytes_received: u64,
    /// Packets that did not come by themselves (RFC 3550 section 6.4.1); those that were
    /// retransmitted on a source of its own among them. Negative where duplicates came.
    pub packets_lost: i64,
    /// Packets that came twice.
    pub packets_duplicated: u64,
    /// Interarrival jitter in seconds (RFC 3550 section 6.4.1).
    pub jitter: f64,
    /// NACKs sent.
    pub nack_count: u64,
    /// Packets of parity on a source of its own (FlexFEC).
    pub fec_packets_received: u64,
    /// Their payload bytes.
    pub fec_bytes_received: u64,
    /// The source of that parity, once it was heard.
    pub fec_ssrc: Option<u32>,
    /// The source of retransmissions, once it was heard.
    pub rtx_ssrc: Option<u32>,
    /// PLIs sent.
    pub pli_count: u64,
    /// FIRs sent.
    pub fir_count: u64,
    /// Packets with the ECN mark "congestion experienced".
    pub packets_with_ce: u64,
    /// The latest sender report: when it came, what it said.
    pub sender_report: Option<(Instant, SenderInfo)>,
    /// When the latest packet came.
    pub last_packet: Instant,
    /// What the jitter buffer counted, where frames of video are received.
    pub video: Option<VideoStats>,
    /// What the jitter buffer counted, where frames of audio are received.
    pub audio: Option<AudioStats>,
}

/// A packet and what is known of it beside its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) route: &'a Route,
    pub(super) encoding: Option<usize>,
    /// The media source.
    pub(super) ssrc: u32,
    pub(super) is_rtx: bool,
    /// The codec; of what a retransmission brings again.
    pub(super) codec: Option<&'a Codec>,
    /// When it reached the host.
    pub(super) at: Instant,
    pub(super) ecn: Ecn,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is to be handed out; its beginning moved by so many bytes.
    Packet {
        /// How far.
        moved: usize,
    },
    /// It went into frames.
    Taken,
    /// It came before, or too late.
    Duplicate,
    /// It holds nothing.
    Nothing,
}

/// All received streams.
#[derive(Debug)]
pub(super) struct Inbound {
    settings: MediaSettings,
    streams: HashMap<u32, Stream>,
    /// Of whom frames are wanted.
    frames: Vec<TransceiverId>,
    round_trip: Option<Duration>,
}

impl Inbound {
    pub(super) fn new(settings: MediaSettings) -> Self {
        Self {
            settings,
            streams: HashMap::new(),
            frames: Vec::new(),
            round_trip: None,
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(TransceiverId) -> bool) {
        self.streams.retain(|_, stream| keep(stream.transceiver));
    }

    /// Whether packets or frames are made of a transceiver's streams, from now on.
    pub(super) fn set_frames(&mut self, id: TransceiverId, wanted: bool) {
        let before = self.frames.len();
        self.frames.retain(|&other| other != id);
        if wanted {
            self.frames.push(id);
        }
        if before != self.frames.len() {
            self.streams.retain(|_, stream| stream.transceiver != id);
        }
    }

    /// Whether frames are made of a transceiver's streams.
    pub(super) fn makes_frames(&self, id: TransceiverId) -> bool {
        self.frames.contains(&id)
    }

    /// Takes a packet.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        arrived: &Arrived<'_>,
        packet: &mut [u8],
    ) -> Outcome {
        let (settings, round_trip) = (&self.settings, self.round_trip);
        let frames = self.makes_frames(arrived.route.id);
        let stream = self.streams.entry(arrived.ssrc).or_insert_with(|| {
            let mut stream = Stream::new(now, arrived, frames, settings);
            if let Some(trip) = round_trip {
                stream.set_round_trip(trip);
            }
            stream
        });
        stream.receive(now, arrived, packet, settings)
    }

    /// Takes a packet of parity on a source of its own (FlexFEC). It is of use where frames are made; who
    /// takes packets asks for lost ones again.
    pub(super) fn parity(&mut self, now: Instant, packet: &Packet<'_>) {
        let protected = flexfec::parse(packet.payload()).ok();
        if let Some(ssrc) = protected.and_then(|parity| parity.ssrc)
            && let Some(stream) = self.streams.get_mut(&ssrc.0)
        {
            stream.parity(now, packet);
        }
    }

    pub(super) fn sender_report(&mut self, now: Instant, info: &SenderInfo) {
        if let Some(stream) = self.streams.get_mut(&info.ssrc.0) {
            stream.sender_report(now, info);
        }
    }

    pub(super) fn set_round_trip(&mut self, trip: Duration) {
        if self.round_trip == Some(trip) {
            return;
        }
        self.round_trip = Some(trip);
        for stream in self.streams.values_mut() {
            stream.set_round_trip(trip);
        }
    }

    /// The peer says that a source is gone: whose it was.
    pub(super) fn goodbye(&mut self, ssrc: u32) -> Option<TransceiverId> {
        let stream = self.streams.get_mut(&ssrc)?;
        stream.goodbye();
        Some(stream.transceiver)
    }

    fn latest(&mut self, id: TransceiverId, encoding: Option<usize>) -> Option<&mut Stream> {
        self.streams
            .values_mut()
            .filter(|stream| {
                stream.transceiver == id && (encoding.is_none() || stream.encoding == encoding)
            })
            .max_by_key(|stream| stream.last_packet)
    }

    /// The application wants a key frame: the source to ask now, if it is not asked when feedback is
    /// sent next. `Err` if nothing was received of it.
    pub(super) fn want_key_frame(
        &mut self,
        id: TransceiverId,
        encoding: Option<usize>,
    ) -> Result<Option<Ssrc>, ()> {
        let stream = self.latest(id, encoding).ok_or(())?;
        if stream.want_key_frame() {
            return Ok(None);
        }
        stream.count_pli();
        Ok(Some(stream.ssrc))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for stream in self.streams.values_mut() {
            stream.handle_timeout(now);
        }
    }

    /// When something has to be asked or given up.
    pub(super) fn next_request(&self) -> Option<Instant> {
        self.streams.values().filter_map(Stream::next_request).min()
    }

    /// Hands out what is to be asked for now, per source.
    pub(super) fn take_requests(&mut self, now: Instant, mut ask: impl FnMut(Ssrc, Request)) {
        for stream in self.streams.values_mut() {
            while let Some(request) = stream.poll_request(now) {
                ask(stream.ssrc, request);
            }
        }
    }

    // ---- frames

    /// When a frame is due of a transceiver that is not in `told`.
    pub(super) fn next_frame(&self, told: &[TransceiverId]) -> Option<Instant> {
        self.streams
            .values()
            .filter(|stream| !told.contains(&stream.transceiver))
            .filter_map(Stream::next_frame)
            .min()
    }

    /// When a frame of a transceiver is due.
    pub(super) fn next_frame_of(&self, id: TransceiverId) -> Option<Instant> {
        let streams = self.streams.values();
        streams
            .filter(|stream| stream.transceiver == id)
            .filter_map(Stream::next_frame)
            .min()
    }

    /// Hands out the transceivers of which a frame is due.
    pub(super) fn due_frames(&self, now: Instant, mut tell: impl FnMut(TransceiverId)) {
        for stream in self.streams.values() {
            if stream.next_frame().is_some_and(|due| due <= now) {
                tell(stream.transceiver);
            }
        }
    }

    /// The next frame of a transceiver that is due.
    pub(super) fn poll_frame(
        &mut self,
        now: Instant,
        id: TransceiverId,
    ) -> Option<EncodedFrame<'_>> {
        for stream in self.streams.values_mut() {
            if stream.transceiver == id
                && let Some(frame) = Self::frame_of(now, stream)
            {
                return Some(frame);
            }
        }
        None
    }

    fn frame_of(now: Instant, stream: &mut Stream) -> Option<EncodedFrame<'_>> {
        let mut frame = EncodedFrame {
            kind: FrameKind::Audio,
            data: &[],
            timestamp: 0,
            duration: 0,
            payload_type: stream.payload_type(),
            encoding: stream.encoding,
            ssrc: stream.ssrc.0,
            temporal_id: 0,
            spatial_id: 0,
            render_at: now,
            orientation: None,
            captured: None,
        };
        if stream.audio().is_none() {
            let video = stream.poll_video(now)?;
            frame.kind = match video.keyframe {
                true => FrameKind::Key,
                false => FrameKind::Delta,
            };
            frame.data = video.data;
            frame.timestamp = video.timestamp;
            (frame.temporal_id, frame.spatial_id) = (video.temporal_id, video.spatial_id);
            frame.render_at = video.render_at;
            (frame.orientation, frame.captured) = (video.orientation, video.captured);
            return Some(frame);
        }
        match stream.audio()?.poll(now)? {
            Playout::Packet {
                payload,
                timestamp,
                duration,
                ..
            } => {
                (frame.data, frame.timestamp, frame.duration) = (payload, timestamp, duration);
            }
            Playout::Redundant { payload, duration } => {
                frame.kind = FrameKind::Redundant;
                (frame.data, frame.duration) = (payload, duration);
            }
            Playout::Noise { payload, duration } => {
                frame.kind = FrameKind::Noise;
                (frame.data, frame.duration) = (payload, duration);
            }
            Playout::Conceal { duration, .. } => {
                frame.kind = FrameKind::Lost;
                frame.duration = duration;
            }
            Playout::Silence { .. } => return None,
        }
        Some(frame)
    }

    // ---- reports and sight

    /// What receiver reports say of the sources that are heard.
    pub(super) fn report_blocks(&mut self, now: Instant) -> impl Iterator<Item = ReportBlock> + '_ {
        let streams = self.streams.values_mut();
        streams.filter_map(move |stream| stream.report_block(now))
    }

    pub(super) fn stats(&self) -> impl Iterator<Item = InboundStats> + '_ {
        self.streams.values().map(Stream::stats)
    }
}
