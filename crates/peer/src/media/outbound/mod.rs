//! Streams that leave: which packet goes when, under the negotiated numbers, and what reports and
//! feedback say of them.

mod control;
mod parity;
mod stream;
mod tones;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use visavis_congestion::{PacketKind, ProbeId, Queued, Release, Target};
use visavis_datagram::Random;
use visavis_media::send::{FrameMeta, OutgoingPacket, stamp};
use visavis_rtp::extension::{AbsSendTime, ExtensionKind};
use visavis_rtp::payload::FrameParams;
use visavis_rtp::rtcp::{ReportBlock, SenderInfo};
use visavis_rtp::{NtpTime, PayloadType, SequenceNumber, Ssrc};

use self::control::Control;
use self::stream::Stream;
use super::demux::Route;
use super::rtcp_queue::RtcpQueue;
use crate::codecs::{CCFB, Kind};
use crate::config::{CongestionControl, MediaSettings};
use crate::error::Error;
use crate::transceiver::TransceiverId;

/// A packet to send: what the sender decides. The source, the mid, the rid and the numbers of
/// header extensions are put in as they were negotiated.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutgoingRtp<'a> {
    /// One of the negotiated payload types ([`Sender::codecs`](crate::Sender)).
    pub payload_type: u8,
    /// The marker bit.
    pub marker: bool,
    /// The sequence number. Gaps and disorder are sent as they are.
    pub sequence: u16,
    /// The timestamp in ticks of the codec's clock.
    pub timestamp: u32,
    /// Contributing sources, at most 15.
    pub csrcs: &'a [u32],
    /// Header extensions; those that were not negotiated are left out.
    pub extensions: &'a [(ExtensionKind, &'a [u8])],
    /// The payload.
    pub payload: &'a [u8],
}

/// An encoded frame to send. It is cut into packets, which are numbered one after the other.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingFrame<'a> {
    /// One of the negotiated payload types; that of the encoding's codec if `None`
    /// ([`Encoding::codec`](crate::Encoding), or the first one that carries media).
    pub payload_type: Option<u8>,
    /// The frame as an encoder gives it (H.264 and H.265: Annex B; AV1: OBUs with sizes).
    pub data: &'a [u8],
    /// Whether it is a key frame, and its layers.
    pub params: FrameParams,
    /// Its timestamp in ticks of the codec's clock, and what goes into header extensions.
    pub meta: FrameMeta<'a>,
}

impl<'a> OutgoingFrame<'a> {
    /// A frame without layers.
    pub fn new(timestamp: u32, is_key_frame: bool, data: &'a [u8]) -> Self {
        Self {
            payload_type: None,
            data,
            params: FrameParams::plain(is_key_frame),
            meta: FrameMeta {
                timestamp,
                ..FrameMeta::default()
            },
        }
    }
}

/// Counters of one sent stream (webrtc-stats `RTCOutboundRtpStreamStats` and
/// `RTCRemoteInboundRtpStreamStats`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OutboundStats {
    /// Whose sender.
    pub transceiver: TransceiverId,
    /// Index of the encoding.
    pub encoding: usize,
    /// The rid; empty without simulcast.
    pub rid: String,
    /// The source.
    pub ssrc: u32,
    /// The source of retransmissions.
    pub rtx_ssrc: u32,
    /// The payload type in use.
    pub payload_type: u8,
    /// Whether it is being sent.
    pub active: bool,
    /// Packets, retransmissions left out.
    pub packets_sent: u64,
    /// Payload bytes, retransmissions left out.
    pub bytes_sent: u64,
    /// Bytes of headers.
    pub header_bytes_sent: u64,
    /// Frames that were cut into packets here.
    pub frames_sent: u64,
    /// Retransmitted packets.
    pub retransmitted_packets_sent: u64,
    /// Payload bytes of retransmitted packets.
    pub retransmitted_bytes_sent: u64,
    /// Packets that the peer asked for again.
    pub nacks_received: u64,
    /// Key frames that the application was asked for.
    pub key_frames_requested: u64,
    /// Its share of the estimate in bits per second.
    pub target_bitrate: u64,
    /// The latest report of the peer: when it came, what it said.
    pub report: Option<(Instant, ReportBlock)>,
    /// The latest round-trip time from a report.
    pub round_trip_time: Option<Duration>,
}

/// What [`Outbound::poll`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polled {
    /// Nothing is to be sent now.
    Nothing,
    /// The next packet does not fit what is left of the run.
    NoRoom,
    /// A plain packet of so many bytes was written.
    Packet {
        /// Bytes.
        len: usize,
        /// Whether it is RTCP.
        is_rtcp: bool,
    },
}

/// A packet that waits: its bytes stand in its stream's history, or with its parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    /// Index of the stream.
    stream: usize,
    /// The extended sequence number; of parity, its own.
    sequence: u64,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// It leaves for the first time.
    First,
    /// It leaves on the source for retransmissions.
    Again,
    /// It is parity, and leaves on the source for that.
    Parity,
}

/// All sent streams.
#[derive(Debug)]
pub(super) struct Outbound {
    settings: MediaSettings,
    streams: Vec<Option<Stream>>,
    /// Where the stream of a transceiver's encoding is; sorted.
    places: Vec<(TransceiverId, usize, usize)>,
    by_ssrc: HashMap<u32, usize>,
    pub(super) rtcp: RtcpQueue,
    control: Control,
    /// A release that did not fit the run.
    held: Option<Release<Token>>,
    /// Packets that leave without pacing, where there is no feedback.
    unpaced: VecDeque<Token>,
    max_packets: usize,
    random: Random,
    pub(super) dropped: u64,
}

/// Bytes of UDP and IP around a packet, for rates.
const OVERHEAD: usize = 28;

impl Outbound {
    pub(super) fn new(
        settings: &MediaSettings,
        congestion: CongestionControl,
        max_packets: usize,
        random: Random,
    ) -> Self {
        let control = Control::new(congestion, settings.bitrate, max_packets);
        Self::paced_by(control, *settings, max_packets, random)
    }

    fn paced_by(
        control: Control,
        settings: MediaSettings,
        max_packets: usize,
        random: Random,
    ) -> Self {
        Self {
            settings,
            streams: Vec::new(),
            places: Vec::new(),
            by_ssrc: HashMap::new(),
            rtcp: RtcpQueue::default(),
            control,
            held: None,
            unpaced: VecDeque::new(),
            max_packets,
            random,
            dropped: 0,
        }
    }

    /// What is sent by the same application over another transport.
    pub(super) fn sibling(&self, random: Random) -> Self {
        Self::paced_by(
            self.control.sibling(),
            self.settings,
            self.max_packets,
            random,
        )
    }

    /// Follows what was negotiated. Streams keep their place and their counters; those of
    /// transceivers that are over go.
    pub(super) fn configure(&mut self, now: Instant, routes: &[Route]) {
        if self.settings.congestion_control && routes.iter().any(|route| route.sends) {
            self.control.start(now);
        }
        for index in 0..self.streams.len() {
            let Some(stream) = &mut self.streams[index] else {
                continue;
            };
            stream.active = false;
            let id = stream.transceiver;
            if routes.iter().all(|route| route.id != id) {
                self.remove(index);
            }
        }
        self.places.clear();
        let mut by_ccfb = false;
        for route in routes.iter().filter(|route| route.sends) {
            let ccfb = route
                .send_codecs
                .iter()
                .any(|codec| codec.has_feedback(CCFB));
            by_ccfb |= ccfb;
            for (index, encoding) in route.encodings.iter().enumerate() {
                let at = match self.by_ssrc.get(&encoding.sources.ssrc) {
                    Some(&at) => at,
                    None => self.add(route, index),
                };
                self.places.push((route.id, index, at));
                if let Some(stream) = &mut self.streams[at] {
                    stream.configure(index, route);
                    let numbered = route.send_extensions.id(ExtensionKind::TransportSequence);
                    stream.is_told = ccfb || numbered.is_some();
                }
            }
        }
        self.places.sort_unstable();
        self.control.set_by_ccfb(by_ccfb);
        self.share();
    }

    fn add(&mut self, route: &Route, encoding: usize) -> usize {
        let first = [self.random.u32() as u16, self.random.u32() as u16];
        let encoding = &route.encodings[encoding];
        let stream = Stream::new(route.id, route.kind, encoding, &self.settings, first);
        let free = self.streams.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.streams.push(None);
            self.streams.len() - 1
        });
        self.streams[at] = Some(stream);
        self.by_ssrc.insert(encoding.sources.ssrc, at);
        at
    }

    fn remove(&mut self, index: usize) {
        if let Some(stream) = self.streams[index].take() {
            self.by_ssrc.remove(&stream.ssrc().0);
        }
        self.forget_waiting(index);
    }

    /// Nothing of a stream waits any more.
    fn forget_waiting(&mut self, index: usize) {
        self.unpaced.retain(|token| token.stream != index);
        self.control.retain(|token| token.stream != index);
        if let Some(Release::Packet { packet, .. }) = &self.held
            && packet.token.stream == index
        {
            self.held = None;
        }
        if let Some(stream) = &mut self.streams[index] {
            self.dropped += stream.waiting as u64;
            stream.waiting = 0;
        }
    }

    fn place(&self, id: TransceiverId, encoding: usize) -> Option<usize> {
        let key = |&(transceiver, index, _): &(TransceiverId, usize, usize)| (transceiver, index);
        let found = self
            .places
            .binary_search_by_key(&(id, encoding), key)
            .ok()?;
        Some(self.places[found].2)
    }

    fn sending(&mut self, id: TransceiverId, encoding: usize) -> Result<usize, Error> {
        let index = self
            .place(id, encoding)
            .ok_or_else(|| Error::state("the encoding was not negotiated for sending"))?;
        match &self.streams[index] {
            Some(stream) if stream.active => Ok(index),
            _ => Err(Error::state("the encoding is not being sent")),
        }
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        packet: &OutgoingRtp<'_>,
        has_path: bool,
    ) -> Result<(), Error> {
        let index = self.sending(id, encoding)?;
        self.check_room(index, 1, has_path)?;
        let Some(stream) = &mut self.streams[index] else {
            return Ok(());
        };
        let unknown = || Error::access("the payload type was not negotiated");
        let known = stream
            .codecs
            .iter()
            .position(|codec| codec.payload_type == packet.payload_type);
        let codec = known.ok_or_else(unknown)?;
        let current = stream.packets.config().payload_type.value();
        if current != packet.payload_type && !stream.codecs[codec].is_auxiliary() {
            stream.use_codec(codec);
        }
        let packet = OutgoingPacket {
            payload_type: PayloadType::new(packet.payload_type).ok_or_else(unknown)?,
            marker: packet.marker,
            sequence: SequenceNumber(packet.sequence.wrapping_add(stream.tones.inserted)),
            timestamp: packet.timestamp,
            csrcs: packet.csrcs,
            extensions: packet.extensions,
            payload: packet.payload,
        };
        let sequence = stream.packets.send_packet(now, &packet).map_err(range)?;
        self.queue(now, index, sequence);
        Ok(())
    }

    pub(super) fn send_frame(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        frame: &OutgoingFrame<'_>,
        data: &[u8],
        has_path: bool,
    ) -> Result<(), Error> {
        let index = self.sending(id, encoding)?;
        let packets = data.len() / (self.settings.max_packet / 2) + 1;
        self.check_room(index, packets, has_path)?;
        let Some(stream) = &mut self.streams[index] else {
            return Ok(());
        };
        if let Some(payload_type) = frame.payload_type {
            let known = stream
                .codecs
                .iter()
                .position(|codec| codec.payload_type == payload_type);
            let known =
                known.ok_or_else(|| Error::access("the payload type was not negotiated"))?;
            stream.use_codec(known);
        }
        if frame.params.keyframe && stream.kind == Kind::Video {
            stream.key_frames.keyframe_sent(now);
        }
        let span = stream
            .packets
            .send_frame(now, data, &frame.params, &frame.meta)
            .map_err(range)?;
        for sequence in span.sequences() {
            self.queue(now, index, sequence);
        }
        Ok(())
    }

    /// Whether so many packets more may wait. Without a path nothing of a stream leaves, and what waited
    /// longest is worth least: it gives way as a whole.
    fn check_room(&mut self, index: usize, packets: usize, has_path: bool) -> Result<(), Error> {
        if !self.has_room(index, packets) && !has_path {
            self.forget_waiting(index);
        }
        if self.has_room(index, packets) {
            return Ok(());
        }
        self.dropped += packets as u64;
        Err(Error::Operation("too many packets wait to be sent".into()))
    }

    fn has_room(&self, index: usize, packets: usize) -> bool {
        let waiting = self.unpaced.len() + self.control.queued();
        let outruns = self.streams[index].as_ref().is_some_and(|stream| {
            stream.waiting > 0 && stream.waiting + packets > stream.packets.config().history
        });
        !outruns && waiting + packets <= self.max_packets
    }

    /// Lets a packet of the history wait in the pacer, or in the plain queue where nobody tells
    /// arrivals.
    fn queue(&mut self, now: Instant, stream: usize, sequence: u64) {
        let token = |sequence, what| Token {
            stream,
            sequence,
            what,
        };
        self.queue_token(now, token(sequence, What::First));
        let parity = self.streams[stream].as_mut().and_then(|stream| {
            let packet = stream.packets.packet(sequence)?;
            let is_last = packet.get(1).is_some_and(|byte| byte & 0x80 != 0);
            Some(stream.parity.as_mut()?.follow(packet, is_last))
        });
        for number in parity.into_iter().flatten() {
            self.queue_token(now, token(number, What::Parity));
        }
    }

    fn queue_token(&mut self, now: Instant, token: Token) {
        let Some(stream) = &mut self.streams[token.stream] else {
            return;
        };
        stream.waiting += usize::from(token.what == What::First);
        if !(self.settings.pacing && stream.is_told && self.control.is_started()) {
            self.unpaced.push_back(token);
            return;
        }
        let len = match token.what {
            What::Parity => stream.parity_packet(token.sequence),
            _ => stream.packets.packet(token.sequence),
        }
        .map_or(0, <[u8]>::len);
        let kind = match (token.what, stream.kind) {
            (What::Again, _) => PacketKind::Retransmission,
            (What::Parity, _) => PacketKind::Fec,
            (What::First, Kind::Audio) => PacketKind::Audio,
            (What::First, Kind::Video) => PacketKind::Video,
        };
        let queued = Queued {
            token,
            size: len + OVERHEAD,
            kind,
        };
        if !self.control.push(now, queued) {
            stream.waiting -= usize::from(token.what == What::First);
            self.dropped += 1;
        }
    }

    /// Writes the next plain packet into `slot`; without one it only says whether there is any.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        since_birth: Duration,
        mut slot: Option<&mut [u8]>,
        rtp_overhead: usize,
        rtcp_overhead: usize,
    ) -> Polled {
        if let Some(compound) = self.rtcp.front() {
            let len = compound.len();
            let Some(slot) = slot.filter(|slot| slot.len() >= len + rtcp_overhead) else {
                return Polled::NoRoom;
            };
            slot[..len].copy_from_slice(compound);
            self.rtcp.pop_front();
            return Polled::Packet { len, is_rtcp: true };
        }
        loop {
            let Some(release) = self.next_release(now) else {
                return Polled::Nothing;
            };
            let room = slot
                .as_ref()
                .map_or(0, |slot| slot.len().saturating_sub(rtp_overhead));
            let needed = match &release {
                Release::Packet { packet, .. } => match self.len_of(packet.token) {
                    Some(len) => len,
                    // Its place in the history was taken, or its stream is over.
                    None => {
                        self.released(packet.token);
                        self.dropped += 1;
                        continue;
                    }
                },
                Release::Padding { size, .. } => *size,
            };
            let Some(slot) = slot.as_deref_mut().filter(|_| room >= needed) else {
                self.held = Some(release);
                return Polled::NoRoom;
            };
            let written = match release {
                Release::Packet { packet, probe, .. } => {
                    let len = self.write(now, packet.token, &mut slot[..room]);
                    self.released(packet.token);
                    len.map(|len| (packet.token.stream, len, packet.kind, probe))
                }
                Release::Padding { size, probe } => self
                    .write_padding(size, &mut slot[..room])
                    .map(|(stream, len)| (stream, len, PacketKind::Padding, probe)),
            };
            let Some((stream, len, kind, probe)) = written else {
                continue;
            };
            self.leaves(now, since_birth, stream, &mut slot[..len], kind, probe);
            let is_rtcp = false;
            return Polled::Packet { len, is_rtcp };
        }
    }

    fn next_release(&mut self, now: Instant) -> Option<Release<Token>> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        match self.unpaced.pop_front() {
            Some(token) => Some(Release::Packet {
                packet: Queued {
                    token,
                    size: 0,
                    kind: PacketKind::Video,
                },
                waited: Duration::ZERO,
                probe: None,
            }),
            None => self.control.poll(now),
        }
    }

    /// A packet leaves, or never will.
    fn released(&mut self, token: Token) {
        let Some(stream) = &mut self.streams[token.stream] else {
            return;
        };
        match (token.what, &mut stream.parity) {
            (What::First, _) => stream.waiting = stream.waiting.saturating_sub(1),
            (What::Parity, Some(parity)) => parity.release(token.sequence),
            _ => {}
        }
    }

    fn len_of(&self, token: Token) -> Option<usize> {
        let stream = self.streams[token.stream].as_ref()?;
        Some(match token.what {
            What::First => stream.packets.packet(token.sequence)?.len(),
            What::Again => {
                stream.packets.packet(token.sequence)?.len() + visavis_rtp::payload::rtx::OVERHEAD
            }
            What::Parity => stream.parity_packet(token.sequence)?.len(),
        })
    }

    fn write(&mut self, now: Instant, token: Token, slot: &mut [u8]) -> Option<usize> {
        let stream = self.streams[token.stream].as_mut()?;
        let packet = match token.what {
            What::First => {
                stream.packets.mark_sent(now, token.sequence);
                stream.packets.packet(token.sequence)?
            }
            What::Again => return stream.packets.write_retransmission(token.sequence, slot),
            What::Parity => stream.parity_packet(token.sequence)?,
        };
        slot.get_mut(..packet.len())?.copy_from_slice(packet);
        Some(packet.len())
    }

    /// Padding for a probe: a packet of a source for retransmissions that holds nothing else.
    fn write_padding(&mut self, size: usize, slot: &mut [u8]) -> Option<(usize, usize)> {
        /// Header and the elements that are stamped.
        const HEAD: usize = 24;
        let padding = size.saturating_sub(OVERHEAD + HEAD).clamp(1, 255) as u8;
        let (index, stream) = self
            .streams
            .iter_mut()
            .enumerate()
            .find_map(|(i, stream)| {
                let stream = stream.as_mut()?;
                let usable = stream.active && stream.is_told && stream.packets.latest().is_some();
                (usable && stream.packets.config().rtx.is_some()).then_some((i, stream))
            })?;
        Some((index, stream.packets.write_padding(padding, slot)?))
    }

    /// Writes what is known only when the packet leaves, and tells congestion control.
    fn leaves(
        &mut self,
        now: Instant,
        since_birth: Duration,
        stream: usize,
        packet: &mut [u8],
        kind: PacketKind,
        probe: Option<ProbeId>,
    ) {
        let Some(stream) = &self.streams[stream] else {
            return;
        };
        // 24 bits of seconds, 18 of them behind the point.
        let time = (since_birth.as_micros() << 18) / 1_000_000;
        let time = AbsSendTime(time as u32 & 0xff_ffff);
        let map = &stream.packets.config().extensions;
        let number = self.control.next_number();
        let numbered = stamp(packet, map, Some(SequenceNumber(number as u16)), Some(time));
        if numbered || (stream.is_told && self.control.is_by_ccfb()) {
            self.control
                .sent(now, packet, packet.len() + OVERHEAD, kind, probe);
        }
    }

    /// Drops what did not fit an empty run: it fits nowhere.
    pub(super) fn drop_held(&mut self) {
        match self.held.take() {
            Some(Release::Packet { packet, .. }) => self.released(packet.token),
            Some(Release::Padding { .. }) => {}
            None => self.rtcp.pop_front(),
        }
        self.dropped += 1;
    }

    // ---- what the peer says

    pub(super) fn report_block(&mut self, now: Instant, middle: u32, block: &ReportBlock) {
        let Some(stream) = self.stream_mut(block.ssrc.0) else {
            return;
        };
        let trip = stream.report_block(now, middle, block);
        self.control
            .receiver_report(now, f64::from(block.fraction_lost) / 256.0, trip);
    }

    /// The peer misses a packet: it is sent again on the source for retransmissions (RFC 4588).
    pub(super) fn nack(&mut self, now: Instant, ssrc: u32, sequence: SequenceNumber) {
        let Some(&index) = self.by_ssrc.get(&ssrc) else {
            return;
        };
        let stream = self.streams[index].as_mut();
        if let Some(sequence) = stream.and_then(|stream| stream.nack(now, sequence)) {
            // A full queue drops it, and it is asked for again.
            let token = Token {
                stream: index,
                sequence,
                what: What::Again,
            };
            self.queue_token(now, token);
        }
    }

    /// The peer wants a key frame. By PLI, or by FIR with its number: a repeated command has the
    /// same one (RFC 5104 section 4.3.1.2).
    pub(super) fn key_frame_requested(
        &mut self,
        ssrc: u32,
        fir: Option<visavis_rtp::rtcp::FirEntry>,
    ) {
        if let Some(stream) = self.stream_mut(ssrc).filter(|stream| stream.active) {
            match fir {
                Some(entry) => stream.key_frames.handle_fir(entry),
                None => stream.key_frames.handle_pli(),
            }
        }
    }

    /// Hands out whose key frame the application is to be asked for now.
    pub(super) fn poll_key_frames(
        &mut self,
        now: Instant,
        mut ask: impl FnMut(TransceiverId, usize),
    ) {
        for stream in self.streams.iter_mut().flatten() {
            if stream.poll_key_frame(now) {
                ask(stream.transceiver, stream.encoding);
            }
        }
    }

    // ---- time and sight

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.control.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let streams = self.streams.iter().flatten();
        streams
            .filter(|stream| stream.active)
            .flat_map(|stream| [stream.tones.due(), stream.key_frames.poll_timeout()])
            .chain([self.control.poll_timeout()])
            .flatten()
            .min()
    }

    pub(super) fn target(&self) -> Target {
        self.control.target()
    }

    /// Divides the target anew.
    pub(super) fn share(&mut self) {
        let target = self.control.target().bitrate;
        self.control
            .share(target, self.streams.iter_mut().flatten());
        for stream in self.streams.iter_mut().flatten() {
            if let Some(parity) = &stream.parity {
                stream.share = (stream.share as f64 * parity.media_share()) as u64;
            }
        }
    }

    /// What an encoding may use of the target, in bits per second.
    pub(super) fn share_of(&self, id: TransceiverId, encoding: usize) -> Option<u64> {
        let stream = self.streams[self.place(id, encoding)?].as_ref()?;
        Some(stream.share)
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    pub(super) fn control_mut(&mut self) -> &mut Control {
        &mut self.control
    }

    pub(super) fn first_ssrc(&self) -> Option<Ssrc> {
        let mut streams = self.streams.iter().flatten();
        streams.find(|stream| stream.active).map(Stream::ssrc)
    }

    /// Sources that have sent, as many as one goodbye holds.
    pub(super) fn ssrcs(&self) -> Vec<Ssrc> {
        self.streams
            .iter()
            .flatten()
            .filter(|stream| stream.packets.latest().is_some())
            .map(Stream::ssrc)
            .take(31)
            .collect()
    }

    pub(super) fn sends_video(&self) -> bool {
        let mut streams = self.streams.iter().flatten();
        streams.any(|stream| stream.active && stream.kind == Kind::Video)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.streams.iter().flatten().find_map(Stream::round_trip)
    }

    /// What sender reports say: of streams that have sent.
    pub(super) fn sender_infos(
        &self,
        now: Instant,
        ntp: NtpTime,
    ) -> impl Iterator<Item = SenderInfo> + '_ {
        let streams = self.streams.iter().flatten();
        streams.filter_map(move |stream| stream.sender_info(now, ntp))
    }

    pub(super) fn stats(&self) -> impl Iterator<Item = OutboundStats> + '_ {
        self.streams.iter().flatten().map(Stream::stats)
    }

    fn stream_mut(&mut self, ssrc: u32) -> Option<&mut Stream> {
        self.streams[*self.by_ssrc.get(&ssrc)?].as_mut()
    }
}

/// What a stream cannot carry.
fn range(error: visavis_rtp::Error) -> Error {
    Error::Range(format!("the frame or packet cannot be sent: {error}").into())
}
