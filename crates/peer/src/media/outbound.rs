//! Streams that leave: packets under the negotiated numbers, their history for retransmission,
//! pacing, and what reports and feedback say of them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use visavis_congestion::{
    Arrival, Controller as _, GoogCc, GoogCcConfig, PacerConfig, PacketKind, ProbeId, Queued,
    Release, Sender, SentPacket, Target,
};
use visavis_datagram::{Ecn, Random};
use visavis_rtp::extension::ExtensionKind;
use visavis_rtp::rtcp::{ReportBlock, SenderInfo, TransportFeedback};
use visavis_rtp::{
    ExtensionMap, Header, NtpTime, PacketMut, PacketWriter, PayloadType, SequenceNumber, Ssrc,
};

use super::demux::Route;
use super::dtmf::{self, Dtmf, Step};
use crate::codecs::{Codec, Kind};
use crate::config::MediaSettings;
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
    /// The sequence number.
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

/// Counters of one sent stream (webrtc-stats `RTCOutboundRtpStreamStats` and
/// `RTCRemoteInboundRtpStreamStats`).
#[derive(Debug, Clone, PartialEq)]
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
    /// The payload type of the latest packet.
    pub payload_type: u8,
    /// Packets, retransmissions left out.
    pub packets_sent: u64,
    /// Payload bytes, retransmissions left out.
    pub bytes_sent: u64,
    /// Bytes of headers.
    pub header_bytes_sent: u64,
    /// Retransmitted packets.
    pub retransmitted_packets_sent: u64,
    /// Payload bytes of retransmitted packets.
    pub retransmitted_bytes_sent: u64,
    /// Packets that the peer asked for again.
    pub nacks_received: u64,
    /// Key frames that the peer asked for.
    pub key_frames_requested: u64,
    /// The latest report of the peer: when it came, what it said.
    pub report: Option<(Instant, ReportBlock)>,
    /// The latest round-trip time from a report.
    pub round_trip_time: Option<Duration>,
}

#[derive(Debug)]
struct Stream {
    stats: OutboundStats,
    kind: Kind,
    mid: String,
    active: bool,
    codecs: Vec<Codec>,
    extensions: ExtensionMap,
    /// Whether the peer has shown that it knows the source: mid and rid need not be sent any more.
    known: bool,
    history: History,
    rtx_sequence: u16,
    /// Timestamp of the latest packet and when it was queued.
    clock: Option<(u32, Instant)>,
    fir_sequence: Option<u8>,
    dtmf: Option<Dtmf>,
    /// Packets that were put between those of the application.
    inserted: u16,
    last_sequence: u16,
    /// The timestamp of the event that plays.
    event_timestamp: u32,
}

/// Plain packets that may be asked for again, by sequence number.
#[derive(Debug)]
struct History {
    slots: Vec<Option<Kept>>,
    capacity: usize,
}

#[derive(Debug)]
struct Kept {
    sequence: u16,
    packet: Vec<u8>,
    resent: Option<Instant>,
}

impl History {
    fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            capacity: capacity.max(1),
        }
    }

    fn keep(&mut self, sequence: u16, packet: &[u8]) {
        if self.slots.is_empty() {
            self.slots.resize_with(self.capacity, || None);
        }
        let index = usize::from(sequence) % self.capacity;
        let slot = &mut self.slots[index];
        let mut bytes = slot.take().map(|old| old.packet).unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(packet);
        *slot = Some(Kept {
            sequence,
            packet: bytes,
            resent: None,
        });
    }

    fn get(&mut self, sequence: u16) -> Option<&mut Kept> {
        if self.slots.is_empty() {
            return None;
        }
        self.slots[usize::from(sequence) % self.capacity]
            .as_mut()
            .filter(|kept| kept.sequence == sequence)
    }
}

/// A packet that waits in the pacer.
#[derive(Debug, Default)]
struct Waiting {
    packet: Vec<u8>,
    stream: usize,
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

/// All sent streams.
#[derive(Debug)]
pub(super) struct Outbound {
    streams: Vec<Stream>,
    rtcp: VecDeque<Vec<u8>>,
    waiting: Vec<Waiting>,
    free: Vec<usize>,
    /// There once something is sent: pacer and history take memory.
    control: Option<Box<Sender<GoogCc, usize>>>,
    bitrate: visavis_congestion::Limits,
    /// A release that did not fit the run.
    held: Option<Release<usize>>,
    /// Packets that leave without pacing, where there is no feedback.
    unpaced: VecDeque<usize>,
    pacing: bool,
    congestion_control: bool,
    transport_sequence: u64,
    max_packets: usize,
    history_packets: usize,
    arrivals: Vec<Arrival>,
    random: Random,
    dropped: u64,
}

/// Room for the largest packet before protection, in bytes.
const LARGEST: usize = 1500;
/// Bytes of UDP and IP around a packet, for rates.
const OVERHEAD: usize = 28;
/// Compound packets that wait.
const MAX_RTCP: usize = 64;
/// The least time between two retransmissions of one packet.
const RESEND_INTERVAL: Duration = Duration::from_millis(10);

impl Outbound {
    pub(super) fn new(settings: &MediaSettings, max_packets: usize, random: Random) -> Self {
        Self {
            streams: Vec::new(),
            rtcp: VecDeque::new(),
            waiting: Vec::new(),
            free: Vec::new(),
            control: None,
            bitrate: settings.bitrate,
            held: None,
            unpaced: VecDeque::new(),
            pacing: settings.pacing,
            congestion_control: settings.congestion_control,
            transport_sequence: 0,
            max_packets,
            history_packets: settings.history_packets,
            arrivals: Vec::new(),
            random,
            dropped: 0,
        }
    }

    /// Follows what was negotiated. Streams keep their place and their counters.
    pub(super) fn configure(&mut self, now: Instant, routes: &[Route]) {
        let wanted = self.congestion_control && routes.iter().any(|route| route.sends);
        if self.control.is_none() && wanted {
            let config = GoogCcConfig {
                limits: self.bitrate,
                ..GoogCcConfig::default()
            };
            let pacer = PacerConfig {
                max_packets: self.max_packets,
                ..PacerConfig::default()
            };
            let control = Sender::new(GoogCc::new(now, config), pacer);
            self.control = Some(Box::new(control));
        }
        for stream in &mut self.streams {
            stream.active = false;
        }
        for route in routes.iter().filter(|route| route.sends) {
            for (index, (rid, sources, active)) in route.encodings.iter().enumerate() {
                let known = self
                    .streams
                    .iter()
                    .position(|stream| stream.stats.ssrc == sources.ssrc);
                let at = known.unwrap_or_else(|| {
                    self.streams.push(Stream {
                        stats: OutboundStats {
                            transceiver: route.id,
                            encoding: index,
                            rid: String::new(),
                            ssrc: sources.ssrc,
                            rtx_ssrc: sources.rtx,
                            payload_type: 0,
                            packets_sent: 0,
                            bytes_sent: 0,
                            header_bytes_sent: 0,
                            retransmitted_packets_sent: 0,
                            retransmitted_bytes_sent: 0,
                            nacks_received: 0,
                            key_frames_requested: 0,
                            report: None,
                            round_trip_time: None,
                        },
                        kind: route.kind,
                        mid: String::new(),
                        active: false,
                        codecs: Vec::new(),
                        extensions: ExtensionMap::new(),
                        known: false,
                        history: History::new(self.history_packets),
                        rtx_sequence: self.random.u32() as u16,
                        clock: None,
                        fir_sequence: None,
                        dtmf: None,
                        inserted: 0,
                        last_sequence: 0,
                        event_timestamp: 0,
                    });
                    self.streams.len() - 1
                });
                let stream = &mut self.streams[at];
                stream.stats.encoding = index;
                stream.stats.rid.clone_from(rid);
                stream.mid.clone_from(&route.mid);
                stream.active = *active;
                stream.codecs.clone_from(&route.send_codecs);
                stream.extensions = route.send_extensions.clone();
            }
        }
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        packet: &OutgoingRtp<'_>,
    ) -> Result<(), Error> {
        let index = self
            .streams
            .iter()
            .position(|stream| stream.stats.transceiver == id && stream.stats.encoding == encoding)
            .ok_or_else(|| Error::state("the encoding was not negotiated for sending"))?;
        let stream = &mut self.streams[index];
        if !stream.active {
            return Err(Error::state("the encoding is not being sent"));
        }
        let codec = stream
            .codecs
            .iter()
            .find(|codec| codec.payload_type == packet.payload_type)
            .ok_or_else(|| Error::access("the payload type was not negotiated"))?;
        let keep = codec.rtx.is_some() && codec.has_feedback("nack");
        let Some(slot) = take_slot(&mut self.waiting, &mut self.free, self.max_packets) else {
            self.dropped += 1;
            return Err(Error::Operation("too many packets wait to be sent".into()));
        };
        let waiting = &mut self.waiting[slot];
        let sequence = packet.sequence.wrapping_add(stream.inserted);
        stream.last_sequence = sequence;
        let Some(header) = stream.write(packet, sequence, &mut waiting.packet) else {
            self.free.push(slot);
            return Err(Error::Range("the packet is too large".into()));
        };
        waiting.stream = index;
        if keep {
            stream.history.keep(sequence, &waiting.packet);
        }
        stream.clock = Some((packet.timestamp, now));
        let stats = &mut stream.stats;
        stats.payload_type = packet.payload_type;
        stats.packets_sent += 1;
        stats.bytes_sent += packet.payload.len() as u64;
        stats.header_bytes_sent += header as u64;
        let kind = match stream.kind {
            Kind::Audio => PacketKind::Audio,
            Kind::Video => PacketKind::Video,
        };
        self.queue(now, slot, kind)
    }

    /// Puts a written packet into the pacer, or into the plain queue where nobody tells arrivals.
    fn queue(&mut self, now: Instant, slot: usize, kind: PacketKind) -> Result<(), Error> {
        let waiting = &self.waiting[slot];
        let told = self.streams[waiting.stream]
            .extensions
            .id(ExtensionKind::TransportSequence)
            .is_some();
        let control = self.control.as_mut().filter(|_| self.pacing && told);
        let Some(control) = control else {
            self.unpaced.push_back(slot);
            return Ok(());
        };
        let queued = Queued {
            token: slot,
            size: waiting.packet.len() + OVERHEAD,
            kind,
        };
        if control.push(now, queued).is_err() {
            self.release(slot);
            self.dropped += 1;
            return Err(Error::Operation("too many packets wait to be sent".into()));
        }
        Ok(())
    }

    fn release(&mut self, slot: usize) {
        self.free.push(slot);
    }

    pub(super) fn send_rtcp(&mut self, compound: &[u8]) -> bool {
        if compound.is_empty() || self.rtcp.len() >= MAX_RTCP {
            return false;
        }
        self.rtcp.push_back(compound.to_vec());
        true
    }

    /// Writes the next plain packet into `slot`; without one it only says whether there is any.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        since_birth: Duration,
        slot: Option<&mut [u8]>,
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
        let release = match self.held.take() {
            Some(held) => held,
            None => match self.unpaced.pop_front() {
                Some(token) => Release::Packet {
                    packet: Queued {
                        token,
                        size: 0,
                        kind: PacketKind::Video,
                    },
                    waited: Duration::ZERO,
                    probe: None,
                },
                None => match self.control.as_mut().and_then(|control| control.poll(now)) {
                    Some(release) => release,
                    None => return Polled::Nothing,
                },
            },
        };
        match release {
            Release::Packet { packet, probe, .. } => {
                let len = self.waiting[packet.token].packet.len();
                let Some(slot) = slot.filter(|slot| slot.len() >= len + rtp_overhead) else {
                    self.held = Some(release);
                    return Polled::NoRoom;
                };
                slot[..len].copy_from_slice(&self.waiting[packet.token].packet);
                let stream = self.waiting[packet.token].stream;
                self.release(packet.token);
                let number = self.stamp(since_birth, stream, &mut slot[..len]);
                if let Some(sequence) = number {
                    self.sent(now, sequence, len, packet.kind, probe);
                }
                Polled::Packet {
                    len,
                    is_rtcp: false,
                }
            }
            Release::Padding { size, probe } => {
                let Some(slot) = slot.filter(|slot| slot.len() >= size + rtp_overhead) else {
                    self.held = Some(release);
                    return Polled::NoRoom;
                };
                self.write_padding(now, since_birth, size, probe, slot)
            }
        }
    }

    /// Tells congestion control of a packet that leaves.
    fn sent(
        &mut self,
        now: Instant,
        sequence: u64,
        len: usize,
        kind: PacketKind,
        probe: Option<ProbeId>,
    ) {
        let size = len + OVERHEAD;
        if let Some(control) = &mut self.control {
            control.sent(
                now,
                &SentPacket {
                    sequence,
                    size,
                    kind,
                    probe,
                },
            );
        }
    }

    /// Drops what did not fit an empty run: it fits nowhere.
    pub(super) fn drop_held(&mut self) {
        match self.held.take() {
            Some(Release::Packet { packet, .. }) => self.release(packet.token),
            Some(Release::Padding { .. }) => {}
            None => {
                self.rtcp.pop_front();
            }
        }
        self.dropped += 1;
    }

    /// Writes what is known only when the packet leaves: its transport-wide number and the time.
    fn stamp(&mut self, since_birth: Duration, stream: usize, packet: &mut [u8]) -> Option<u64> {
        let extensions = &self.streams[stream].extensions;
        let mut packet = PacketMut::parse(packet).ok()?;
        let mut elements = packet.extensions_mut();
        if let Some(id) = extensions.id(ExtensionKind::AbsSendTime)
            && let Some(place) = elements.get_mut(id)
            && place.len() == 3
        {
            // 24 bits of seconds, 18 of them behind the point.
            let time = (since_birth.as_micros() << 18) / 1_000_000;
            place.copy_from_slice(&(time as u32 & 0xff_ffff).to_be_bytes()[1..]);
        }
        let id = extensions.id(ExtensionKind::TransportSequence)?;
        let place = elements.get_mut(id).filter(|place| place.len() == 2)?;
        let number = self.transport_sequence;
        place.copy_from_slice(&(number as u16).to_be_bytes());
        self.transport_sequence += 1;
        Some(number)
    }

    /// Padding for a probe: a packet of the retransmission source that holds nothing but padding.
    fn write_padding(
        &mut self,
        now: Instant,
        since_birth: Duration,
        size: usize,
        probe: Option<ProbeId>,
        slot: &mut [u8],
    ) -> Polled {
        let found = self.streams.iter().position(|stream| {
            stream.active
                && stream.clock.is_some()
                && stream
                    .codecs
                    .first()
                    .is_some_and(|codec| codec.rtx.is_some())
                && stream
                    .extensions
                    .id(ExtensionKind::TransportSequence)
                    .is_some()
        });
        let Some(index) = found else {
            return Polled::Nothing;
        };
        let stream = &mut self.streams[index];
        let Some(len) = stream.write_padding(size.saturating_sub(OVERHEAD), slot) else {
            return Polled::Nothing;
        };
        if let Some(sequence) = self.stamp(since_birth, index, &mut slot[..len]) {
            self.sent(now, sequence, len, PacketKind::Padding, probe);
        }
        Polled::Packet {
            len,
            is_rtcp: false,
        }
    }

    // ---- what the peer says

    pub(super) fn report_block(&mut self, now: Instant, middle: u32, block: &ReportBlock) {
        let Some(stream) = self.stream_mut(block.ssrc.0) else {
            return;
        };
        stream.known = true;
        let trip = block.round_trip(middle);
        let trip = trip.map(|trip| Duration::from_secs_f64(f64::from(trip) / 65_536.0));
        if trip.is_some() {
            stream.stats.round_trip_time = trip;
        }
        stream.stats.report = Some((now, *block));
        let loss = f64::from(block.fraction_lost) / 256.0;
        if let Some(control) = &mut self.control {
            control.controller.receiver_report(now, loss, trip);
        }
    }

    /// The peer misses a packet: it is sent again on the retransmission source (RFC 4588).
    pub(super) fn nack(&mut self, now: Instant, ssrc: u32, sequence: SequenceNumber) {
        let Some(index) = self.streams.iter().position(|s| s.stats.ssrc == ssrc) else {
            return;
        };
        self.streams[index].stats.nacks_received += 1;
        let Some(slot) = take_slot(&mut self.waiting, &mut self.free, self.max_packets) else {
            return;
        };
        let waiting = &mut self.waiting[slot];
        let stream = &mut self.streams[index];
        if !stream.active || !stream.write_rtx(now, sequence.0, &mut waiting.packet) {
            self.release(slot);
            return;
        }
        waiting.stream = index;
        // A full queue drops it, and it is asked for again.
        let _ = self.queue(now, slot, PacketKind::Retransmission);
    }

    pub(super) fn feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        let Some(control) = &mut self.control else {
            return;
        };
        let arrivals = &mut self.arrivals;
        arrivals.clear();
        let reference = Duration::from_micros(feedback.reference_micros());
        arrivals.extend(feedback.packets().map(|status| Arrival {
            sequence: control.history().extend(status.sequence.0),
            received_at: status.arrival.map(|quarters| {
                let micros = quarters.saturating_mul(250);
                let ahead = Duration::from_micros(micros.unsigned_abs());
                match micros < 0 {
                    true => reference.saturating_sub(ahead),
                    false => reference + ahead,
                }
            }),
            ecn: Ecn::NotEct,
        }));
        control.feedback(now, arrivals);
    }

    pub(super) fn remb(&mut self, now: Instant, bitrate: u64) {
        if let Some(control) = &mut self.control {
            control.controller.remb(now, bitrate);
        }
    }

    /// Whose key frame is asked for.
    pub(super) fn key_frame_requested(&mut self, ssrc: u32) -> Option<(TransceiverId, usize)> {
        let stream = self.stream_mut(ssrc).filter(|stream| stream.active)?;
        stream.stats.key_frames_requested += 1;
        Some((stream.stats.transceiver, stream.stats.encoding))
    }

    /// RFC 5104 section 4.3.1.2: a repeated command has the same number.
    pub(super) fn is_new_fir(&mut self, ssrc: u32, sequence: u8) -> bool {
        match self.stream_mut(ssrc) {
            Some(stream) => stream.fir_sequence.replace(sequence) != Some(sequence),
            None => false,
        }
    }

    pub(super) fn path_changed(&mut self, now: Instant) {
        if let Some(control) = &mut self.control {
            control.controller.path_changed(now);
        }
    }

    // ---- key presses

    /// W3C `canInsertDTMF` and `insertDTMF`.
    pub(super) fn insert_dtmf(
        &mut self,
        now: Instant,
        id: TransceiverId,
        tones: &str,
        duration: Duration,
        gap: Duration,
    ) -> Result<(), Error> {
        let stream = self
            .streams
            .iter_mut()
            .find(|stream| stream.stats.transceiver == id && stream.active)
            .filter(|stream| stream.event_codec().is_some() && stream.clock.is_some())
            .ok_or_else(|| Error::state("tones cannot be sent"))?;
        let dtmf = Dtmf::new(now, tones, duration, gap)?;
        stream.dtmf = (!tones.is_empty()).then_some(dtmf);
        Ok(())
    }

    /// W3C `toneBuffer`.
    pub(super) fn tone_buffer(&self, id: TransceiverId) -> String {
        let streams = self.streams.iter();
        streams
            .filter(|stream| stream.stats.transceiver == id)
            .find_map(|stream| stream.dtmf.as_ref().map(Dtmf::buffer))
            .unwrap_or_default()
    }

    /// Plays what is due; tells each tone.
    pub(super) fn play_tones(
        &mut self,
        now: Instant,
        tell: &mut impl FnMut(TransceiverId, String),
    ) {
        for index in 0..self.streams.len() {
            loop {
                let stream = &mut self.streams[index];
                let id = stream.stats.transceiver;
                let Some(step) = stream.dtmf.as_mut().and_then(|dtmf| dtmf.step(now)) else {
                    break;
                };
                match step {
                    Step::Tell(tone) => tell(id, tone),
                    Step::Done => {
                        stream.dtmf = None;
                        tell(id, String::new());
                    }
                    Step::Packet {
                        event,
                        first,
                        end,
                        lasted,
                    } => self.send_event(now, index, event, first, end, lasted),
                }
            }
        }
    }

    fn send_event(
        &mut self,
        now: Instant,
        index: usize,
        event: u8,
        first: bool,
        end: bool,
        lasted: Duration,
    ) {
        let Some(slot) = take_slot(&mut self.waiting, &mut self.free, self.max_packets) else {
            return;
        };
        let stream = &mut self.streams[index];
        let codec = stream.event_codec().map(|c| (c.payload_type, c.clock_rate));
        let (Some((payload_type, rate)), Some((timestamp, at))) = (codec, stream.clock) else {
            self.release(slot);
            return;
        };
        if first {
            let passed = now.saturating_duration_since(at).as_secs_f64() * f64::from(rate);
            stream.event_timestamp = timestamp.wrapping_add(passed as u64 as u32);
        }
        let ticks = (lasted.as_secs_f64() * f64::from(rate)).min(65_535.0) as u16;
        let payload = dtmf::payload(event, end, ticks);
        let packet = OutgoingRtp {
            payload_type,
            marker: first,
            timestamp: stream.event_timestamp,
            payload: &payload,
            ..OutgoingRtp::default()
        };
        stream.inserted = stream.inserted.wrapping_add(1);
        stream.last_sequence = stream.last_sequence.wrapping_add(1);
        let sequence = stream.last_sequence;
        let waiting = &mut self.waiting[slot];
        waiting.stream = index;
        if stream
            .write(&packet, sequence, &mut waiting.packet)
            .is_none()
        {
            self.release(slot);
            return;
        }
        stream.stats.packets_sent += 1;
        stream.stats.bytes_sent += payload.len() as u64;
        // A full queue drops it; the next packet of the event says the same.
        let _ = self.queue(now, slot, PacketKind::Audio);
    }

    // ---- time and sight

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(control) = &mut self.control {
            control.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let tones = self.streams.iter().filter_map(|s| s.dtmf.as_ref());
        let control = self.control.as_ref().and_then(|c| c.poll_timeout());
        tones.map(Dtmf::due).chain(control).min()
    }

    pub(super) fn target(&self) -> Target {
        match &self.control {
            Some(control) => control.target(),
            None => Target {
                bitrate: self.bitrate.start,
                pacing: self.bitrate.start,
                window: None,
                ecn: Ecn::NotEct,
            },
        }
    }

    pub(super) fn first_ssrc(&self) -> Option<Ssrc> {
        let active = self.streams.iter().find(|stream| stream.active)?;
        Some(Ssrc(active.stats.ssrc))
    }

    pub(super) fn ssrcs(&self) -> Vec<Ssrc> {
        self.streams
            .iter()
            .filter(|stream| stream.clock.is_some())
            .map(|stream| Ssrc(stream.stats.ssrc))
            .take(31)
            .collect()
    }

    pub(super) fn sends_video(&self) -> bool {
        self.streams
            .iter()
            .any(|stream| stream.active && stream.kind == Kind::Video)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.streams
            .iter()
            .find_map(|stream| stream.stats.round_trip_time)
    }

    /// What sender reports say: of streams that have sent.
    pub(super) fn sender_infos(&self, now: Instant, ntp: NtpTime) -> Vec<SenderInfo> {
        self.streams
            .iter()
            .filter(|stream| stream.active)
            .filter_map(|stream| {
                let (timestamp, at) = stream.clock?;
                let rate = stream.clock_rate();
                let passed = now.saturating_duration_since(at).as_secs_f64() * f64::from(rate);
                Some(SenderInfo {
                    ssrc: Ssrc(stream.stats.ssrc),
                    ntp,
                    rtp_timestamp: timestamp.wrapping_add(passed as u64 as u32),
                    packets: stream.stats.packets_sent as u32,
                    octets: stream.stats.bytes_sent as u32,
                })
            })
            .collect()
    }

    pub(super) fn stats(&self) -> impl Iterator<Item = OutboundStats> + '_ {
        self.streams.iter().map(|stream| stream.stats.clone())
    }

    fn stream_mut(&mut self, ssrc: u32) -> Option<&mut Stream> {
        self.streams
            .iter_mut()
            .find(|stream| stream.stats.ssrc == ssrc)
    }
}

impl Stream {
    /// The format of key presses that fits the codec's clock (RFC 4733 section 2.1).
    fn event_codec(&self) -> Option<&Codec> {
        let media = self.codecs.iter().find(|codec| !codec.is_auxiliary())?;
        self.codecs
            .iter()
            .find(|codec| codec.is("telephone-event") && codec.clock_rate == media.clock_rate)
    }

    fn clock_rate(&self) -> u32 {
        self.codecs
            .iter()
            .find(|codec| codec.payload_type == self.stats.payload_type)
            .map_or(90_000, |codec| codec.clock_rate)
    }

    /// Writes a packet; the length of its header.
    fn write(&self, packet: &OutgoingRtp<'_>, sequence: u16, out: &mut Vec<u8>) -> Option<usize> {
        out.resize(LARGEST, 0);
        let header = Header {
            marker: packet.marker,
            payload_type: PayloadType::new(packet.payload_type)?,
            sequence: SequenceNumber(sequence),
            timestamp: packet.timestamp,
            ssrc: Ssrc(self.stats.ssrc),
        };
        let mut writer = PacketWriter::new(out, header).ok()?;
        let csrcs: Vec<Ssrc> = packet.csrcs.iter().copied().map(Ssrc).collect();
        writer.csrcs(&csrcs).ok()?;
        self.write_identity(&mut writer, ExtensionKind::Rid)?;
        for &(kind, bytes) in packet.extensions {
            if is_ours(kind) {
                continue;
            }
            if let Some(id) = self.extensions.id(kind) {
                writer.extension(id, bytes).ok()?;
            }
        }
        let header_len = writer.header_len();
        let len = writer.finish_with(packet.payload).ok()?;
        out.truncate(len);
        Some(header_len)
    }

    /// Who the packet is from, and room for what is stamped when it leaves.
    fn write_identity(&self, writer: &mut PacketWriter<'_>, rid: ExtensionKind) -> Option<()> {
        for (kind, len) in [
            (ExtensionKind::TransportSequence, 2),
            (ExtensionKind::AbsSendTime, 3),
        ] {
            if let Some(id) = self.extensions.id(kind) {
                writer.extension_slot(id, len).ok()?.fill(0);
            }
        }
        if self.known {
            return Some(());
        }
        if let Some(id) = self.extensions.id(ExtensionKind::Mid) {
            writer.extension(id, self.mid.as_bytes()).ok()?;
        }
        if !self.stats.rid.is_empty()
            && let Some(id) = self.extensions.id(rid)
        {
            writer.extension(id, self.stats.rid.as_bytes()).ok()?;
        }
        Some(())
    }

    /// Writes a kept packet as a retransmission; false if it is gone or was just sent.
    fn write_rtx(&mut self, now: Instant, sequence: u16, out: &mut Vec<u8>) -> bool {
        let Some(kept) = self.history.get(sequence) else {
            return false;
        };
        if kept
            .resent
            .is_some_and(|at| now.saturating_duration_since(at) < RESEND_INTERVAL)
        {
            return false;
        }
        kept.resent = Some(now);
        let packet = std::mem::take(&mut kept.packet);
        let written = self.write_rtx_of(&packet, out);
        if let Some(kept) = self.history.get(sequence) {
            kept.packet = packet;
        }
        written.is_some()
    }

    fn write_rtx_of(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let original = visavis_rtp::Packet::parse(packet).ok()?;
        let payload_type = original.payload_type().value();
        let codec = self
            .codecs
            .iter()
            .find(|c| c.payload_type == payload_type)?;
        let header = Header {
            payload_type: PayloadType::new(codec.rtx?)?,
            sequence: SequenceNumber(self.rtx_sequence),
            ssrc: Ssrc(self.stats.rtx_ssrc),
            ..original.header()
        };
        out.resize(LARGEST, 0);
        let mut writer = PacketWriter::new(out, header).ok()?;
        let csrcs: Vec<Ssrc> = original.csrcs().collect();
        writer.csrcs(&csrcs).ok()?;
        self.write_identity(&mut writer, ExtensionKind::RepairedRid)?;
        for (id, bytes) in original.extensions().iter() {
            if !self.extensions.kind(id).is_none_or(is_ours) {
                writer.extension(id, bytes).ok()?;
            }
        }
        let payload = original.payload();
        let place = writer.payload_slot();
        let place = place.get_mut(..payload.len() + 2)?;
        place[..2].copy_from_slice(&original.sequence().0.to_be_bytes());
        place[2..].copy_from_slice(payload);
        let len = writer.finish(payload.len() + 2).ok()?;
        out.truncate(len);
        self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
        self.stats.retransmitted_packets_sent += 1;
        self.stats.retransmitted_bytes_sent += payload.len() as u64;
        Some(())
    }

    fn write_padding(&mut self, size: usize, slot: &mut [u8]) -> Option<usize> {
        let codec = self.codecs.first()?;
        let header = Header {
            marker: false,
            payload_type: PayloadType::new(codec.rtx?)?,
            sequence: SequenceNumber(self.rtx_sequence),
            timestamp: self.clock?.0,
            ssrc: Ssrc(self.stats.rtx_ssrc),
        };
        let mut writer = PacketWriter::new(slot, header).ok()?;
        self.write_identity(&mut writer, ExtensionKind::RepairedRid)?;
        let padding = size.saturating_sub(writer.header_len()).clamp(1, 255) as u8;
        let len = writer.finish_padded(&[], padding).ok()?;
        self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
        Some(len)
    }
}

/// Extensions that the connection writes itself.
const fn is_ours(kind: ExtensionKind) -> bool {
    matches!(
        kind,
        ExtensionKind::Mid
            | ExtensionKind::Rid
            | ExtensionKind::RepairedRid
            | ExtensionKind::TransportSequence
            | ExtensionKind::AbsSendTime
    )
}

/// A place for one more packet; `None` if all are taken.
fn take_slot(waiting: &mut Vec<Waiting>, free: &mut Vec<usize>, most: usize) -> Option<usize> {
    match free.pop() {
        Some(slot) => Some(slot),
        None if waiting.len() < most => {
            waiting.push(Waiting::default());
            Some(waiting.len() - 1)
        }
        None => None,
    }
}
