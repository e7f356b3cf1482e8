//! One RTP stream that is sent: packetizing, the history of what was sent, retransmission.

use std::time::{Duration, Instant};

use visavis_rtp::extension::{
    AbsCaptureTime, AbsSendTime, AudioLevel, DependencyDescriptor, DependencyStructure, Extension,
    MidExtension, PlayoutDelay, RepairedRidExtension, RidExtension, TransportSequence,
    VideoOrientation,
};
use visavis_rtp::payload::{Codec, FrameParams, Packetizer, rtx};
use visavis_rtp::rtcp::SenderInfo;
use visavis_rtp::{
    Error, ExtensionKind, ExtensionMap, FIXED_HEADER, Header, Mid, NtpTime, Packet, PacketMut,
    PacketWriter, PayloadType, Rid, SequenceExtender, SequenceNumber, Ssrc,
};

use crate::PacketRing;

/// Why a frame cannot be sent.
pub type SendError = Error;

/// Where retransmissions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtxConfig {
    /// Their source.
    pub ssrc: Ssrc,
    /// Their payload type.
    pub payload_type: PayloadType,
}

/// What a [`SendStream`] is.
#[derive(Debug, Clone)]
pub struct SendStreamConfig {
    /// The source.
    pub ssrc: Ssrc,
    /// The codec.
    pub codec: Codec,
    /// The codec's payload type.
    pub payload_type: PayloadType,
    /// Ticks of the RTP clock per second.
    pub clock_rate: u32,
    /// Where retransmissions go; `None` sends them as they were, under the same number.
    pub rtx: Option<RtxConfig>,
    /// The media section, sent until the receiver is known to have seen the stream.
    pub mid: Option<Mid>,
    /// The simulcast encoding, sent likewise.
    pub rid: Option<Rid>,
    /// The negotiated header extensions.
    pub extensions: ExtensionMap,
    /// The longest packet in bytes, header and all, before encryption. Default 1200.
    pub max_packet: usize,
    /// How many packets are kept for retransmission; a frame may have half as many. Default 2048.
    pub history: usize,
    /// How long packets are kept for retransmission. Default 2 s.
    pub history_age: Duration,
    /// How often one packet is retransmitted. Default 10.
    pub max_retransmissions: u8,
}

impl SendStreamConfig {
    /// A stream with default limits, no retransmission stream and no names.
    pub fn new(ssrc: Ssrc, codec: Codec, payload_type: PayloadType, clock_rate: u32) -> Self {
        Self {
            ssrc,
            codec,
            payload_type,
            clock_rate,
            rtx: None,
            mid: None,
            rid: None,
            extensions: ExtensionMap::new(),
            max_packet: 1200,
            history: 2048,
            history_age: Duration::from_secs(2),
            max_retransmissions: 10,
        }
    }
}

/// What goes with a frame beside its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameMeta<'a> {
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The marker of an audio packet: it begins a talk spurt. Video sets markers by itself.
    pub marker: bool,
    /// When the frame was captured; sent if the extension is negotiated.
    pub captured: Option<AbsCaptureTime>,
    /// Audio level.
    pub audio_level: Option<AudioLevel>,
    /// How the picture was held; sent with the last packet of the frame.
    pub orientation: Option<VideoOrientation>,
    /// Limits of the delay until rendering.
    pub playout_delay: Option<PlayoutDelay>,
    /// The dependency descriptor, and the structure that the receiver has.
    pub dependency: Option<(&'a DependencyDescriptor, Option<&'a DependencyStructure>)>,
    /// Other elements, written as they are if negotiated.
    pub extensions: &'a [(ExtensionKind, &'a [u8])],
}

/// A packet whose payload others made: a forwarder, or a packetizer of the caller's. The source, the
/// names and what is stamped when it leaves are the stream's.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutgoingPacket<'a> {
    /// The payload type.
    pub payload_type: PayloadType,
    /// The marker bit.
    pub marker: bool,
    /// The sequence number.
    pub sequence: SequenceNumber,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// Contributing sources, at most 15.
    pub csrcs: &'a [u32],
    /// Elements, written as they are if negotiated; the stream's own (mid, rid, transport-wide
    /// number, send time) are left out.
    pub extensions: &'a [(ExtensionKind, &'a [u8])],
    /// The payload.
    pub payload: &'a [u8],
}

/// The packets of a frame: extended sequence numbers, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketSpan {
    /// The first packet.
    pub first: u64,
    /// How many there are.
    pub count: usize,
}

impl PacketSpan {
    /// Each packet's number.
    pub fn sequences(self) -> impl Iterator<Item = u64> {
        self.first..self.first + self.count as u64
    }
}

/// What a stream has sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendStats {
    /// Media packets.
    pub packets: u64,
    /// Their payload bytes.
    pub octets: u64,
    /// Bytes of their headers.
    pub header_octets: u64,
    /// Frames.
    pub frames: u64,
    /// Retransmitted packets.
    pub retransmitted_packets: u64,
    /// Their payload bytes.
    pub retransmitted_octets: u64,
    /// Requests for packets that are no longer kept.
    pub nacks_too_late: u64,
    /// Requests that came again before an answer could have arrived, or too often.
    pub nacks_refused: u64,
}

/// What the history notes about a packet.
#[derive(Debug, Default, Clone, Copy)]
struct SentMeta {
    retransmissions: u8,
    first_sent: Option<Instant>,
    last_sent: Option<Instant>,
}

/// One RTP stream that is sent.
///
/// [`send_frame`](Self::send_frame) writes a frame's packets into the history, from which the driver
/// takes them when its pacer says so: [`packet_mut`](Self::packet_mut), [`stamp`], encrypt, send.
pub struct SendStream {
    config: SendStreamConfig,
    packetizer: Option<Box<dyn Packetizer + Send>>,
    history: PacketRing<SentMeta>,
    next: u64,
    next_rtx: SequenceNumber,
    extender: SequenceExtender,
    /// Whether the receiver is known to have seen the stream's names.
    announced: bool,
    round_trip: Duration,
    /// Timestamp of the latest frame, and when it came.
    latest: Option<(u32, Instant)>,
    stats: SendStats,
    descriptor: Vec<u8>,
}

impl std::fmt::Debug for SendStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendStream")
            .field("ssrc", &self.config.ssrc)
            .field("next", &self.next)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl SendStream {
    /// A stream whose sequence numbers begin at random ones of the caller's.
    pub fn new(config: SendStreamConfig, first: SequenceNumber, first_rtx: SequenceNumber) -> Self {
        let mut extender = SequenceExtender::new();
        let next = extender.extend(first);
        Self {
            packetizer: config.codec.packetizer(),
            history: PacketRing::new(config.history),
            next,
            next_rtx: first_rtx,
            extender,
            announced: false,
            round_trip: Duration::from_millis(100),
            latest: None,
            stats: SendStats::default(),
            descriptor: vec![0; 1024],
            config,
        }
    }

    /// What the stream is.
    pub const fn config(&self) -> &SendStreamConfig {
        &self.config
    }

    /// Uses a packetizer of the caller's, e.g. VP9 with a structure.
    pub fn set_packetizer(&mut self, packetizer: Box<dyn Packetizer + Send>) {
        self.packetizer = Some(packetizer);
    }

    /// What the stream is, to be changed: a renegotiation may bring other names, numbers and sources
    /// of retransmissions. The codec is changed by [`set_codec`](Self::set_codec).
    pub fn config_mut(&mut self) -> &mut SendStreamConfig {
        &mut self.config
    }

    /// Another codec from the next frame on.
    pub fn set_codec(&mut self, codec: Codec, payload_type: PayloadType, clock_rate: u32) {
        if self.config.codec != codec {
            self.packetizer = codec.packetizer();
        }
        self.config.codec = codec;
        self.config.payload_type = payload_type;
        self.config.clock_rate = clock_rate;
    }

    /// The sequence number of the next packet.
    pub const fn next_sequence(&self) -> SequenceNumber {
        SequenceNumber(self.next as u16)
    }

    /// When the latest frame came, and its timestamp.
    pub const fn latest(&self) -> Option<(u32, Instant)> {
        self.latest
    }

    /// Changes the payload type, as a renegotiation may.
    pub fn set_payload_type(&mut self, payload_type: PayloadType, rtx: Option<RtxConfig>) {
        self.config.payload_type = payload_type;
        self.config.rtx = rtx;
    }

    /// The longest packet in bytes from now on, as a path's MTU changes.
    pub fn set_max_packet(&mut self, max_packet: usize) {
        self.config.max_packet = max_packet;
    }

    /// The smoothed round-trip time: a packet is not retransmitted again within it.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// The receiver has seen the stream (a report names it): its names need not be sent any more, unless it has
    /// retransmissions: those are a source of their own, which no report names, and a receiver that has learned a
    /// section's sources by their names (Firefox) drops one that it does not know.
    pub fn set_announced(&mut self) {
        self.announced = true;
    }

    /// What the stream has sent.
    pub const fn stats(&self) -> &SendStats {
        &self.stats
    }

    /// Cuts a frame into packets, which wait in the history.
    ///
    /// # Errors
    /// A frame that the payload format cannot carry, or header extensions that leave it no room.
    pub fn send_frame(
        &mut self,
        now: Instant,
        frame: &[u8],
        params: &FrameParams,
        meta: &FrameMeta<'_>,
    ) -> Result<PacketSpan, SendError> {
        let Some(mut packetizer) = self.packetizer.take() else {
            return Err(Error::NotRepresentable("codec without packetizer"));
        };
        let result = self.packetize(now, &mut *packetizer, frame, params, meta);
        self.packetizer = Some(packetizer);
        if result.is_ok() {
            self.latest = Some((meta.timestamp, now));
            self.stats.frames += 1;
        }
        result
    }

    /// Stores a packet under the caller's sequence number; its extended number. Numbers may come out of
    /// order and with gaps.
    ///
    /// # Errors
    /// A packet that is too large, or too old for the history.
    pub fn send_packet(
        &mut self,
        now: Instant,
        packet: &OutgoingPacket<'_>,
    ) -> Result<u64, SendError> {
        if self.stats.packets == 0 {
            // The first one decides where the stream begins.
            self.extender = SequenceExtender::new();
            self.next = self.extender.extend(packet.sequence);
        }
        let sequence = self.extender.extend(packet.sequence);
        let Some((buffer, _)) = self.history.store(now, sequence) else {
            return Err(Error::Limit("packet history"));
        };
        let mut buffer = std::mem::take(buffer);
        let written = self.write_outgoing(packet, &mut buffer);
        self.restore(sequence, buffer, written.is_ok());
        let header = written?;
        self.next = self.next.max(sequence + 1);
        self.latest = Some((packet.timestamp, now));
        self.stats.packets += 1;
        self.stats.octets += packet.payload.len() as u64;
        self.stats.header_octets += header as u64;
        Ok(sequence)
    }

    /// Writes a packet; the length of its header.
    fn write_outgoing(
        &self,
        packet: &OutgoingPacket<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let map = &self.config.extensions;
        // An element takes two bytes of form at most, and the whole is padded to four.
        let elements: usize = packet
            .extensions
            .iter()
            .map(|(_, data)| data.len() + 2)
            .sum();
        let room = FIXED_HEADER + 4 * packet.csrcs.len() + 4 + OWN_ELEMENTS + elements + 3;
        buffer.resize(room + packet.payload.len(), 0);
        let header = Header {
            marker: packet.marker,
            payload_type: packet.payload_type,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            ssrc: self.config.ssrc,
        };
        let mut writer = PacketWriter::new(buffer, header)?;
        let mut csrcs = [Ssrc(0); 15];
        let named = csrcs.iter_mut().zip(packet.csrcs);
        let count = named.map(|(slot, &csrc)| *slot = Ssrc(csrc)).count();
        writer.csrcs(&csrcs[..count])?;
        self.write_own(&mut writer)?;
        for &(kind, data) in packet.extensions {
            if let Some(id) = map.id(kind).filter(|_| !is_own(kind)) {
                writer.extension(id, data)?;
            }
        }
        let header = writer.header_len();
        let len = writer.finish_with(packet.payload)?;
        if len > MAX_OUTGOING {
            return Err(Error::Limit("packet size"));
        }
        buffer.truncate(len);
        Ok(header)
    }

    /// Writes the elements that are the stream's own.
    fn write_own(&self, writer: &mut PacketWriter<'_>) -> Result<(), Error> {
        let map = &self.config.extensions;
        // These two are filled in when the packet leaves.
        writer.typed(map, &TransportSequence(SequenceNumber(0)))?;
        writer.typed(map, &AbsSendTime(0))?;
        if !self.announced || self.config.rtx.is_some() {
            if let Some(mid) = self.config.mid {
                writer.typed(map, &MidExtension(mid))?;
            }
            if let Some(rid) = self.config.rid {
                writer.typed(map, &RidExtension(rid))?;
            }
        }
        Ok(())
    }

    fn packetize(
        &mut self,
        now: Instant,
        packetizer: &mut dyn Packetizer,
        frame: &[u8],
        params: &FrameParams,
        meta: &FrameMeta<'_>,
    ) -> Result<PacketSpan, SendError> {
        // The first packet's header is the largest: it may bring a dependency structure.
        let mut scratch = [0; 1500];
        let probe = Header::default();
        let mut writer = PacketWriter::new(&mut scratch, probe)?;
        self.write_extensions(&mut writer, meta, true, true)?;
        let room = self
            .config
            .max_packet
            .checked_sub(writer.header_len())
            .filter(|&room| room > 50)
            .ok_or(Error::NotRepresentable("header extensions leave no room"))?;
        // A frame that outgrows the history would push its own beginning out before it is sent.
        if frame.len() / room >= self.history.capacity() / 2 {
            return Err(Error::Limit("packets of a frame"));
        }
        packetizer.start(frame, params, room)?;
        let video = self.config.codec.is_video();
        let mut span = PacketSpan {
            first: self.next,
            count: 0,
        };
        let mut start = true;
        loop {
            // Whether a packet is the last of its frame shows once it is written: the descriptor's
            // flag and the orientation are set behind that.
            let sequence = self.next;
            let mut buffer = match self.history.store(now, sequence) {
                Some((buffer, _)) => std::mem::take(buffer),
                None => return Err(Error::Limit("packet history")),
            };
            buffer.resize(self.config.max_packet, 0);
            let header = Header {
                marker: false,
                payload_type: self.config.payload_type,
                sequence: SequenceNumber(sequence as u16),
                timestamp: meta.timestamp,
                ssrc: self.config.ssrc,
            };
            let written = self.write_packet(&mut buffer, header, packetizer, frame, meta, start);
            let (len, end, marker) = match written {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.restore(sequence, buffer, false);
                    break;
                }
                Err(error) => {
                    self.restore(sequence, buffer, false);
                    return Err(error);
                }
            };
            buffer.truncate(len);
            let mut packet = PacketMut::parse(&mut buffer)?;
            packet.set_marker(if video { marker } else { meta.marker });
            if end
                && meta.dependency.is_some()
                && let Some(id) = self
                    .config
                    .extensions
                    .id(ExtensionKind::DependencyDescriptor)
                && let Some(data) = packet.extensions_mut().get_mut(id)
            {
                data[0] |= 0x40;
            }
            self.stats.packets += 1;
            let view = packet.as_packet();
            self.stats.octets += view.payload().len() as u64;
            self.stats.header_octets += view.header_len() as u64;
            self.restore(sequence, buffer, true);
            self.next += 1;
            span.count += 1;
            start = false;
        }
        Ok(span)
    }

    /// Puts a buffer back into its slot of the history.
    fn restore(&mut self, sequence: u64, buffer: Vec<u8>, filled: bool) {
        if let Some(slot) = self.history.get_mut(sequence) {
            slot.replace_bytes(buffer);
        }
        if !filled {
            self.history.remove(sequence);
        }
    }

    /// Writes one packet: its length, whether it ends its frame, and its marker.
    fn write_packet(
        &mut self,
        buffer: &mut [u8],
        header: Header,
        packetizer: &mut dyn Packetizer,
        frame: &[u8],
        meta: &FrameMeta<'_>,
        start: bool,
    ) -> Result<Option<(usize, bool, bool)>, Error> {
        let mut writer = PacketWriter::new(buffer, header)?;
        self.write_extensions(&mut writer, meta, start, false)?;
        let Some(fragment) = packetizer.next_payload(frame, writer.payload_slot())? else {
            return Ok(None);
        };
        let len = writer.finish(fragment.len)?;
        Ok(Some((len, fragment.end_of_frame, fragment.marker)))
    }

    /// Writes the header extensions of a packet. `probe`: all that any packet of the frame may have.
    fn write_extensions(
        &mut self,
        writer: &mut PacketWriter<'_>,
        meta: &FrameMeta<'_>,
        start: bool,
        probe: bool,
    ) -> Result<(), Error> {
        self.write_own(writer)?;
        let map = &self.config.extensions;
        if let Some(level) = &meta.audio_level {
            writer.typed(map, level)?;
        }
        if let Some(captured) = &meta.captured
            && start
        {
            writer.typed(map, captured)?;
        }
        if let Some(delay) = &meta.playout_delay {
            writer.typed(map, delay)?;
        }
        // 3GPP TS 26.114 asks for the last packet; every one is as good, and survives losses.
        if let Some(orientation) = &meta.orientation {
            writer.typed(map, orientation)?;
        }
        for &(kind, data) in meta.extensions {
            if let Some(id) = map.id(kind) {
                writer.extension(id, data)?;
            }
        }
        if let Some((descriptor, known)) = meta.dependency
            && let Some(id) = map.id(ExtensionKind::DependencyDescriptor)
        {
            if start || probe {
                let len = descriptor.write(known, &mut self.descriptor)?;
                self.descriptor[0] = self.descriptor[0] & 0x3f | u8::from(start) << 7;
                writer.extension(id, &self.descriptor[..len])?;
            } else {
                // The packets behind the first need neither structure nor active targets again.
                let structure = descriptor.structure.as_deref().or(known);
                let rest = DependencyDescriptor {
                    head: descriptor.head,
                    structure: None,
                    active_targets: None,
                    dependencies: descriptor.dependencies.clone(),
                };
                let len = rest.write(structure, &mut self.descriptor)?;
                self.descriptor[0] &= 0x3f;
                writer.extension(id, &self.descriptor[..len])?;
            }
        }
        Ok(())
    }

    /// A packet of the history, to be stamped and sent. Its transport-wide number and send time are
    /// those of the last time it was sent, or zero.
    pub fn packet_mut(&mut self, sequence: u64) -> Option<&mut [u8]> {
        self.history
            .get_mut(sequence)
            .map(|stored| stored.bytes_mut())
    }

    /// A packet of the history.
    pub fn packet(&self, sequence: u64) -> Option<&[u8]> {
        self.history.get(sequence).map(|stored| stored.bytes())
    }

    /// Notes that a packet left: from now on it ages. One that is not told of ages from its beginning, also
    /// while it waits to be sent.
    pub fn mark_sent(&mut self, now: Instant, sequence: u64) {
        if let Some(stored) = self.history.get_mut(sequence) {
            stored.meta.first_sent.get_or_insert(now);
            stored.meta.last_sent = Some(now);
        }
    }

    /// The receiver asks for a packet: its extended number, if it is to be retransmitted now.
    pub fn handle_nack(&mut self, now: Instant, sequence: SequenceNumber) -> Option<u64> {
        let latest = SequenceNumber(self.next.saturating_sub(1) as u16);
        let _ = self.extender.extend(latest);
        let sequence = self.extender.peek(sequence);
        let (limit, age, trip) = (
            self.config.max_retransmissions,
            self.config.history_age,
            self.round_trip,
        );
        let fresh = |stored: &&mut crate::Stored<SentMeta>| {
            let sent = stored.meta.first_sent.or(stored.time());
            sent.is_some_and(|time| now.saturating_duration_since(time) <= age)
        };
        let Some(stored) = self.history.get_mut(sequence).filter(fresh) else {
            self.stats.nacks_too_late += 1;
            return None;
        };
        let early = stored.meta.retransmissions > 0
            && stored
                .meta
                .last_sent
                .is_some_and(|sent| now.saturating_duration_since(sent) < trip);
        if early || stored.meta.retransmissions >= limit {
            self.stats.nacks_refused += 1;
            return None;
        }
        stored.meta.retransmissions += 1;
        stored.meta.last_sent = Some(now);
        Some(sequence)
    }

    /// Writes a packet of the history once more, in the retransmission stream if there is one;
    /// returns its length. `None` if it is no longer kept, or `out` is too small.
    pub fn write_retransmission(&mut self, sequence: u64, out: &mut [u8]) -> Option<usize> {
        let stored = self.history.get(sequence)?;
        let packet = Packet::parse(stored.bytes()).ok()?;
        let octets = packet.payload().len() as u64;
        let len = match self.config.rtx {
            Some(RtxConfig { ssrc, payload_type }) => {
                let map = &self.config.extensions;
                let len = rtx::write(&packet, ssrc, payload_type, self.next_rtx, map, out).ok()?;
                self.next_rtx = self.next_rtx.next();
                len
            }
            None => {
                let bytes = packet.as_bytes();
                out.get_mut(..bytes.len())?.copy_from_slice(bytes);
                bytes.len()
            }
        };
        self.stats.retransmitted_packets += 1;
        self.stats.retransmitted_octets += octets;
        Some(len)
    }

    /// Writes a packet of padding alone into the retransmission stream, for a probe: up to 255 bytes
    /// of padding; returns its length. `None` without retransmission stream or room.
    pub fn write_padding(&mut self, padding: u8, out: &mut [u8]) -> Option<usize> {
        let RtxConfig { ssrc, payload_type } = self.config.rtx?;
        let header = Header {
            marker: false,
            payload_type,
            sequence: self.next_rtx,
            timestamp: self.latest.map_or(0, |(timestamp, _)| timestamp),
            ssrc,
        };
        let mut writer = PacketWriter::new(out, header).ok()?;
        let map = &self.config.extensions;
        writer
            .typed(map, &TransportSequence(SequenceNumber(0)))
            .ok()?;
        writer.typed(map, &AbsSendTime(0)).ok()?;
        if let Some(mid) = self.config.mid {
            writer.typed(map, &MidExtension(mid)).ok()?;
        }
        if let Some(rid) = self.config.rid {
            writer.typed(map, &RepairedRidExtension(rid)).ok()?;
        }
        let len = writer.finish_padded(&[], padding.max(1)).ok()?;
        self.next_rtx = self.next_rtx.next();
        Some(len)
    }

    /// Takes the next sequence number for a packet that others make (FEC inside RED).
    pub fn take_sequence(&mut self) -> SequenceNumber {
        let sequence = SequenceNumber(self.next as u16);
        self.next += 1;
        sequence
    }

    /// What a sender report says: the RTP timestamp of `now`, whose NTP time is `ntp`. `None` before
    /// the first frame.
    pub fn sender_info(&self, now: Instant, ntp: NtpTime) -> Option<SenderInfo> {
        let (timestamp, at) = self.latest?;
        let since = now.saturating_duration_since(at).as_micros();
        let ticks = since * u128::from(self.config.clock_rate) / 1_000_000;
        Some(SenderInfo {
            ssrc: self.config.ssrc,
            ntp,
            rtp_timestamp: timestamp.wrapping_add(ticks as u32),
            packets: self.stats.packets as u32,
            octets: self.stats.octets as u32,
        })
    }
}

/// Bytes of the largest packet that others made: what fits Ethernet.
const MAX_OUTGOING: usize = 1500;
/// Room for the elements that are the stream's own: numbers, time, mid and rid.
const OWN_ELEMENTS: usize = 4 + 5 + 18 + 18;

/// Elements that the stream writes itself.
const fn is_own(kind: ExtensionKind) -> bool {
    matches!(
        kind,
        ExtensionKind::Mid
            | ExtensionKind::Rid
            | ExtensionKind::RepairedRid
            | ExtensionKind::TransportSequence
            | ExtensionKind::AbsSendTime
    )
}

/// Writes the transport-wide number and the send time over those of a packet that is about to leave.
/// What was not negotiated, or is not in the packet, is left out. Whether the number was written.
pub fn stamp(
    packet: &mut [u8],
    map: &ExtensionMap,
    sequence: Option<SequenceNumber>,
    send_time: Option<AbsSendTime>,
) -> bool {
    if packet.len() < FIXED_HEADER {
        return false;
    }
    let Ok(mut packet) = PacketMut::parse(packet) else {
        return false;
    };
    let mut numbered = false;
    let mut extensions = packet.extensions_mut();
    if let (Some(sequence), Some(id)) = (sequence, map.id(ExtensionKind::TransportSequence))
        && let Some(slot) = extensions.get_mut(id)
        && slot.len() == 2
    {
        TransportSequence(sequence).write(slot);
        numbered = true;
    }
    if let (Some(time), Some(id)) = (send_time, map.id(ExtensionKind::AbsSendTime))
        && let Some(slot) = extensions.get_mut(id)
        && slot.len() == 3
    {
        time.write(slot);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What had to wait for the pacer is asked for no earlier than it could be missed.
    #[test]
    fn packets_age_from_when_they_left() {
        let pt = |value| PayloadType::new(value).unwrap();
        let config = SendStreamConfig::new(Ssrc(1), Codec::Vp8, pt(96), 90_000);
        let age = config.history_age;
        let mut stream = SendStream::new(config, SequenceNumber(7), SequenceNumber(9));
        let (params, meta) = (FrameParams::plain(true), FrameMeta::default());
        let start = Instant::now();
        let span = stream
            .send_frame(start, &[0, 1, 2], &params, &meta)
            .unwrap();
        let number = SequenceNumber(span.first as u16);
        let (left, second) = (start + 2 * age, Duration::from_secs(1));
        assert_eq!(stream.handle_nack(left, number), None);
        stream.mark_sent(left, span.first);
        assert_eq!(stream.handle_nack(left + age, number), Some(span.first));
        // A retransmission makes it no younger.
        stream.mark_sent(left + age, span.first);
        assert_eq!(stream.handle_nack(left + age + second, number), None);
        assert_eq!(stream.stats().nacks_too_late, 2);
    }

    /// Firefox drops sources of a section that it has not seen by name, once it has seen one.
    #[test]
    fn retransmissions_and_padding_have_the_names_of_the_stream_however_long_it_runs() {
        let map: ExtensionMap = [
            (4, ExtensionKind::Mid),
            (10, ExtensionKind::Rid),
            (11, ExtensionKind::RepairedRid),
        ]
        .into_iter()
        .collect();
        let pt = |value| PayloadType::new(value).unwrap();
        let mut config = SendStreamConfig {
            rtx: Some(RtxConfig {
                ssrc: Ssrc(2),
                payload_type: pt(97),
            }),
            extensions: map,
            mid: Mid::new("v"),
            rid: Rid::new("hi"),
            ..SendStreamConfig::new(Ssrc(1), Codec::Vp8, pt(96), 90_000)
        };
        let now = Instant::now();
        let send = |config: &SendStreamConfig| {
            let mut stream = SendStream::new(config.clone(), SequenceNumber(7), SequenceNumber(9));
            stream.set_announced();
            let params = FrameParams::plain(true);
            let meta = FrameMeta::default();
            let span = stream.send_frame(now, &[0, 1, 2], &params, &meta).unwrap();
            (stream, span.sequences().next().unwrap())
        };
        let (mut stream, sequence) = send(&config);
        let mut out = [0; 1500];
        let len = stream.write_retransmission(sequence, &mut out).unwrap();
        let padding = stream.write_padding(100, &mut out[len..]).unwrap() + len;
        for packet in [&out[..len], &out[len..padding]] {
            let packet = Packet::parse(packet).unwrap();
            assert_eq!(packet.ssrc(), Ssrc(2));
            assert_eq!(packet.extensions().get(4), Some(&b"v"[..]));
            assert_eq!(packet.extensions().get(11), Some(&b"hi"[..]));
            assert_eq!(packet.extensions().get(10), None);
        }
        // Without them, a report that names the stream is enough.
        config.rtx = None;
        let (stream, sequence) = send(&config);
        let packet = Packet::parse(stream.packet(sequence).unwrap()).unwrap();
        assert_eq!(packet.extensions().get(4), None);
    }
}
