//! Media between the transport and the transceivers: whose packet it is, what goes out when, and what
//! both ends tell each other of it. What remembers packets is `visavis-media`'s, what decides rates
//! is `visavis-congestion`'s.

mod demux;
mod dtmf;
mod feedback;
mod frames;
mod inbound;
mod outbound;
mod reports;
mod rtcp_queue;
mod source;

use std::time::{Duration, Instant};

use visavis_congestion::Target;
use visavis_datagram::{Ecn, Random};
use visavis_media::receive::KeyframeRequest;
use visavis_media::send::ReportSchedule;
use visavis_rtp::extension::ExtensionKind;
use visavis_rtp::rtcp::{
    Compound, FirEntry, NackPair, Pli, ReportBlock, Rtcp, RtcpWriter, SenderInfo,
};
use visavis_rtp::{ExtensionMap, NtpTime, Ssrc};

use demux::Demux;
pub(crate) use demux::{EncodingRoute, Route};
use feedback::{ArrivalLog, SourceLog};
pub use frames::{EncodedFrame, FrameKind, ReceiveMode};
pub use inbound::InboundStats;
use inbound::{Arrived, Inbound, Outcome, Request};
use outbound::Outbound;
pub(crate) use outbound::Polled;
pub use outbound::{OutboundStats, OutgoingFrame, OutgoingRtp};
use reports::Reporter;
pub use source::{PacketSource, SourcePoll};

use crate::codecs::{CCFB, Kind};
use crate::config::{CongestionControl, Limits, MediaSettings};
use crate::error::Error;
use crate::events::Event;
use crate::sframe::FrameTransform;
use crate::transceiver::TransceiverId;

/// A received packet, after what the transport added to it was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) transceiver: TransceiverId,
    pub(crate) encoding: Option<usize>,
    /// The media source.
    pub(crate) ssrc: u32,
    /// How many bytes the packet's beginning moved, where something was unwrapped.
    pub(crate) moved: usize,
    pub(crate) recovered: bool,
}

/// What changes the frames of a transceiver.
#[derive(Debug, Default)]
struct Transforms {
    outgoing: Vec<(TransceiverId, Box<dyn FrameTransform>)>,
    incoming: Vec<(TransceiverId, Box<dyn FrameTransform>)>,
    sealed: Vec<u8>,
    opened: Vec<u8>,
}

impl Transforms {
    fn incoming(&mut self, id: TransceiverId) -> Option<(&mut dyn FrameTransform, &mut Vec<u8>)> {
        let (_, transform) = self.incoming.iter_mut().find(|(of, _)| *of == id)?;
        Some((transform.as_mut(), &mut self.opened))
    }
}

/// Opens a packet of sound: the packet with what is inside. `None` if the transform refuses.
fn open_sound<'a>(
    transform: &mut dyn FrameTransform,
    opened: &'a mut Vec<u8>,
    packet: &visavis_rtp::Packet<'_>,
) -> Option<&'a mut [u8]> {
    opened.clear();
    opened.extend_from_slice(packet.payload());
    transform.incoming(&[], opened).ok()?;
    let header = packet.header_len();
    let len = opened.len();
    opened.resize(header + len, 0);
    opened.copy_within(..len, header);
    opened[..header].copy_from_slice(&packet.as_bytes()[..header]);
    // Padding was left behind.
    opened[0] &= !0x20;
    Some(opened)
}

/// What was dropped of the media that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaStats {
    /// RTP packets that belong to no receiver.
    pub unroutable: u64,
    /// RTCP packets that could not be read; what stands behind one is lost with it where its header is at fault.
    pub malformed_rtcp: u64,
    /// Frames that a transform refused.
    pub refused_frames: u64,
}

/// Everything about media of one connection.
#[derive(Debug)]
pub(crate) struct Media {
    settings: MediaSettings,
    demux: Demux,
    inbound: Inbound,
    outbound: Outbound,
    arrivals: ArrivalLog,
    /// Arrivals by source, where RFC 8888 feedback was negotiated.
    sources: SourceLog,
    tells_sources: bool,
    reports: ReportSchedule,
    random: Random,
    /// Who feedback comes from while nothing is sent.
    local_ssrc: Ssrc,
    cname: String,
    reduced_size: bool,
    /// Transceivers whose track is not muted.
    unmuted: Vec<TransceiverId>,
    /// Transceivers of which the application knows that a frame waits.
    told_frames: Vec<TransceiverId>,
    transforms: Transforms,
    /// What reports are made of; kept for their memory.
    senders: Vec<SenderInfo>,
    blocks: Vec<ReportBlock>,
    born: Instant,
    wall_clock: Duration,
    stats: MediaStats,
}

impl Media {
    pub(crate) fn new(
        settings: MediaSettings,
        congestion: CongestionControl,
        limits: Limits,
        wall_clock: Duration,
        cname: String,
        mut random: Random,
        now: Instant,
    ) -> Self {
        let outgoing = limits.outgoing_packets;
        let demux = Demux::new(limits.incoming_streams);
        let outbound = Outbound::new(&settings, congestion, outgoing, random.fork());
        Self::of(settings, demux, outbound, cname, random, (now, wall_clock))
    }

    /// `born`: when the connection was, and the time since 1970 then.
    fn of(
        settings: MediaSettings,
        demux: Demux,
        outbound: Outbound,
        cname: String,
        mut random: Random,
        (born, wall_clock): (Instant, Duration),
    ) -> Self {
        Self {
            demux,
            inbound: Inbound::new(settings),
            outbound,
            arrivals: ArrivalLog::default(),
            sources: SourceLog::default(),
            tells_sources: false,
            reports: ReportSchedule::new(reports::interval(false)),
            local_ssrc: Ssrc(random.u32().max(1)),
            random,
            cname,
            reduced_size: false,
            unmuted: Vec::new(),
            told_frames: Vec::new(),
            transforms: Transforms::default(),
            senders: Vec::new(),
            blocks: Vec::new(),
            born,
            wall_clock,
            stats: MediaStats::default(),
            settings,
        }
    }

    /// Media of the same connection over another transport: nothing has come or gone there yet.
    pub(crate) fn sibling(&mut self) -> Self {
        let mut random = self.random.fork();
        let (demux, outbound) = (self.demux.sibling(), self.outbound.sibling(random.fork()));
        let born = (self.born, self.wall_clock);
        Self::of(
            self.settings,
            demux,
            outbound,
            self.cname.clone(),
            random,
            born,
        )
    }

    /// What the application chose for a transceiver goes where its section went.
    pub(crate) fn hand_over(&mut self, id: TransceiverId, to: &mut Self) {
        if self.inbound.makes_frames(id) {
            self.inbound.set_frames(id, false);
            to.inbound.set_frames(id, true);
        }
        self.told_frames.retain(|&told| told != id);
        if let Some(at) = self.unmuted.iter().position(|&found| found == id) {
            self.unmuted.swap_remove(at);
            to.unmuted.push(id);
        }
        let (from, to) = (&mut self.transforms, &mut to.transforms);
        to.outgoing
            .extend(from.outgoing.extract_if(.., |(of, _)| *of == id));
        to.incoming
            .extend(from.incoming.extract_if(.., |(of, _)| *of == id));
    }

    /// Gives back memory that only setting up needs.
    pub(crate) fn trim(&mut self) {
        self.random.rest();
    }

    /// Follows what was negotiated.
    pub(crate) fn configure(&mut self, now: Instant, routes: Vec<Route>, reduced_size: bool) {
        self.reduced_size = reduced_size;
        self.tells_sources = routes.iter().any(|route| {
            let codecs = &route.receive_codecs;
            route.receives && codecs.iter().any(|codec| codec.has_feedback(CCFB))
        });
        let is_active = routes.iter().any(|route| route.sends || route.receives);
        self.outbound.configure(now, &routes);
        self.inbound
            .retain(|id| routes.iter().any(|route| route.id == id && route.receives));
        self.demux.configure(routes);
        let has_video = self.outbound.sends_video();
        self.reports.set_interval(reports::interval(has_video));
        if is_active && self.reports.poll_timeout().is_none() {
            self.reports.start(now, &mut self.random);
        }
    }

    /// Whether packets or frames are made of what a transceiver receives.
    pub(crate) fn set_receive_mode(&mut self, id: TransceiverId, mode: ReceiveMode) {
        self.inbound.set_frames(id, mode == ReceiveMode::Frames);
        self.told_frames.retain(|&told| told != id);
    }

    /// The track is muted until the next packet.
    pub(crate) fn mute(&mut self, id: TransceiverId) {
        self.unmuted.retain(|&unmuted| unmuted != id);
    }

    fn ntp(&self, now: Instant) -> NtpTime {
        NtpTime::from_unix(self.wall_clock + now.saturating_duration_since(self.born))
    }

    // ---- in

    /// Finds out whose packet it is, unwraps what was wrapped, and counts it. `None` for what is not
    /// to be handed out: it went into frames, came before, or belongs nowhere.
    pub(crate) fn receive_rtp(
        &mut self,
        now: Instant,
        (at, ecn): (Instant, Ecn),
        packet: &mut [u8],
        events: &mut impl FnMut(Event),
    ) -> Option<Routed> {
        let parsed = visavis_rtp::Packet::parse(packet).ok()?;
        if self.tells_sources {
            let (ssrc, sequence) = (parsed.ssrc(), parsed.sequence());
            self.sources.received(now, ssrc, sequence, (at, ecn));
        } else if let Some(sequence) =
            parsed.extension_bytes(&self.demux.extensions, ExtensionKind::TransportSequence)
            && let Ok(sequence) = <[u8; 2]>::try_from(sequence)
        {
            self.arrivals.received(
                now,
                u16::from_be_bytes(sequence),
                at.saturating_duration_since(self.born),
                parsed.ssrc(),
            );
        }
        if self.demux.is_parity(&parsed) {
            self.inbound.parity(now, &parsed);
            return None;
        }
        let Some(found) = self.demux.find(&parsed) else {
            self.stats.unroutable += 1;
            return None;
        };
        let route = self.demux.route(found.route)?;
        let id = route.id;
        let arrived = Arrived {
            route,
            encoding: found.encoding,
            ssrc: if found.is_rtx {
                found.base?
            } else {
                found.ssrc
            },
            is_rtx: found.is_rtx,
            codec: route.codec(parsed.payload_type().value()),
            at,
            ecn,
        };
        let (ssrc, encoding) = (arrived.ssrc, arrived.encoding);
        // A packet of sound is a frame: its buffer looks at what is inside, so it is opened before.
        let sealed = route.kind == Kind::Audio && self.inbound.makes_frames(id);
        let transform = sealed.then(|| self.transforms.incoming(id)).flatten();
        let outcome = match transform {
            Some((transform, opened)) => {
                let plain = open_sound(transform, opened, &parsed);
                if plain.is_none() {
                    self.stats.refused_frames += 1;
                }
                self.inbound.receive(now, &arrived, plain?)
            }
            None => self.inbound.receive(now, &arrived, packet),
        };
        let is_new = matches!(outcome, Outcome::Packet { .. } | Outcome::Taken);
        if is_new && !self.unmuted.contains(&id) {
            self.unmuted.push(id);
            events(Event::TrackUnmuted(id));
        }
        let Outcome::Packet { moved } = outcome else {
            return None;
        };
        Some(Routed {
            transceiver: id,
            encoding,
            ssrc,
            moved,
            recovered: found.is_rtx,
        })
    }

    /// Reads a compound packet.
    pub(crate) fn receive_rtcp(
        &mut self,
        now: Instant,
        compound: &[u8],
        events: &mut impl FnMut(Event),
    ) {
        let middle = self.ntp(now).middle();
        for packet in Compound::new(compound) {
            let Ok(packet) = packet else {
                self.stats.malformed_rtcp += 1;
                continue;
            };
            match packet {
                Rtcp::SenderReport(report) => {
                    self.inbound.sender_report(now, &report.info);
                    for block in report.blocks() {
                        self.outbound.report_block(now, middle, &block);
                    }
                }
                Rtcp::ReceiverReport(report) => {
                    for block in report.blocks() {
                        self.outbound.report_block(now, middle, &block);
                    }
                }
                Rtcp::Nack(nack) if self.settings.answer_nacks => {
                    for sequence in nack.sequences() {
                        self.outbound.nack(now, nack.media.0, sequence);
                    }
                }
                Rtcp::Pli(pli) => self.outbound.key_frame_requested(pli.media.0, None),
                Rtcp::Fir(fir) => {
                    for entry in fir.entries() {
                        self.outbound.key_frame_requested(entry.ssrc.0, Some(entry));
                    }
                }
                Rtcp::TransportFeedback(feedback) => {
                    let control = self.outbound.control_mut();
                    control.transport_feedback(now, &feedback);
                }
                Rtcp::CongestionFeedback(feedback) => {
                    let control = self.outbound.control_mut();
                    control.congestion_feedback(now, &feedback);
                }
                Rtcp::Remb(remb) => self.outbound.control_mut().remb(now, remb.bitrate),
                Rtcp::Bye(bye) => {
                    for source in bye.sources() {
                        if let Some(id) = self.inbound.goodbye(source.0)
                            && let Some(at) = self.unmuted.iter().position(|&found| found == id)
                        {
                            self.unmuted.swap_remove(at);
                            events(Event::TrackMuted(id));
                        }
                    }
                }
                _ => {}
            }
        }
        self.tell_sender(now, events);
    }

    /// Tells the application what concerns its encoders: key frames, and the bit rate.
    fn tell_sender(&mut self, now: Instant, events: &mut impl FnMut(Event)) {
        self.outbound.poll_key_frames(now, |transceiver, encoding| {
            events(Event::KeyFrameRequested {
                transceiver,
                encoding,
            });
        });
        if let Some(bitrate) = self.outbound.control_mut().poll_target() {
            self.outbound.share();
            events(Event::TargetBitrate(bitrate));
        }
    }

    // ---- frames

    /// The next frame of a transceiver that is due.
    pub(crate) fn poll_frame(
        &mut self,
        now: Instant,
        id: TransceiverId,
    ) -> Option<EncodedFrame<'_>> {
        let Some(mut frame) = self.inbound.poll_frame(now, id) else {
            self.told_frames.retain(|&told| told != id);
            return None;
        };
        let is_picture = matches!(frame.kind, FrameKind::Key | FrameKind::Delta);
        let transform = is_picture.then(|| self.transforms.incoming(id)).flatten();
        if let Some((transform, opened)) = transform {
            opened.clear();
            opened.extend_from_slice(frame.data);
            match transform.incoming(&[], opened) {
                Ok(()) => frame.data = opened,
                Err(_) => {
                    self.stats.refused_frames += 1;
                    (frame.kind, frame.data) = (FrameKind::Lost, &[]);
                }
            }
        }
        Some(frame)
    }

    pub(crate) fn next_frame_of(&self, id: TransceiverId) -> Option<Instant> {
        self.inbound.next_frame_of(id)
    }

    /// Puts a transform before the packetizer, or takes it away.
    pub(crate) fn set_sender_transform(
        &mut self,
        id: TransceiverId,
        transform: Option<Box<dyn FrameTransform>>,
    ) {
        self.transforms.outgoing.retain(|(of, _)| *of != id);
        self.transforms
            .outgoing
            .extend(transform.map(|transform| (id, transform)));
    }

    /// Puts a transform behind the depacketizer, or takes it away.
    pub(crate) fn set_receiver_transform(
        &mut self,
        id: TransceiverId,
        transform: Option<Box<dyn FrameTransform>>,
    ) {
        self.transforms.incoming.retain(|(of, _)| *of != id);
        self.transforms
            .incoming
            .extend(transform.map(|transform| (id, transform)));
    }

    // ---- out

    /// Queues a packet of an encoding.
    pub(crate) fn send_rtp(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        packet: &OutgoingRtp<'_>,
        has_path: bool,
    ) -> Result<(), Error> {
        self.outbound.send(now, id, encoding, packet, has_path)
    }

    /// Cuts a frame of an encoding into packets and queues them.
    pub(crate) fn send_frame(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        frame: &OutgoingFrame<'_>,
        has_path: bool,
    ) -> Result<(), Error> {
        let transforms = &mut self.transforms;
        let transform = transforms.outgoing.iter_mut().find(|(of, _)| *of == id);
        let data = match transform {
            Some((_, transform)) => {
                transforms.sealed.clear();
                transforms.sealed.extend_from_slice(frame.data);
                transform
                    .outgoing(&[], &mut transforms.sealed)
                    .map_err(|error| Error::Operation(error.to_string().into()))?;
                transforms.sealed.as_slice()
            }
            None => frame.data,
        };
        self.outbound
            .send_frame(now, id, encoding, frame, data, has_path)
    }

    /// Queues a compound packet.
    pub(crate) fn send_rtcp(&mut self, compound: &[u8]) -> bool {
        self.outbound.rtcp.push(compound)
    }

    /// Plays key presses on a sender.
    pub(crate) fn insert_dtmf(
        &mut self,
        now: Instant,
        id: TransceiverId,
        tones: &str,
        duration: Duration,
        gap: Duration,
    ) -> Result<(), Error> {
        self.outbound.insert_dtmf(now, id, tones, duration, gap)
    }

    /// Key presses that were not played yet.
    pub(crate) fn tone_buffer(&self, id: TransceiverId) -> String {
        self.outbound.tone_buffer(id)
    }

    /// Asks the sender of a stream for a key frame (RTCP PLI).
    pub(crate) fn request_key_frame(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: Option<usize>,
    ) -> bool {
        match self.inbound.want_key_frame(id, encoding) {
            Ok(Some(media)) => {
                let sender = self.reporter().sender;
                self.compound(|writer| writer.pli(Pli { sender, media }).is_ok())
            }
            Ok(None) => {
                self.send_requests(now);
                true
            }
            Err(()) => false,
        }
    }

    fn reporter(&self) -> Reporter {
        Reporter {
            sender: self.outbound.first_ssrc().unwrap_or(self.local_ssrc),
            reduced_size: self.reduced_size,
        }
    }

    fn compound(&mut self, write: impl FnOnce(&mut RtcpWriter<'_>) -> bool) -> bool {
        self.reporter()
            .write(&self.cname, &mut self.outbound.rtcp, write)
    }

    /// Writes the next plain packet into `slot`, if it fits with `overhead`. See
    /// [`Polled`].
    pub(crate) fn poll_packet(
        &mut self,
        now: Instant,
        slot: Option<&mut [u8]>,
        rtp_overhead: usize,
        rtcp_overhead: usize,
    ) -> Polled {
        let since_birth = now.saturating_duration_since(self.born);
        self.outbound
            .poll(now, since_birth, slot, rtp_overhead, rtcp_overhead)
    }

    /// Drops what did not fit an empty run.
    pub(crate) fn drop_held(&mut self) {
        self.outbound.drop_held();
    }

    // ---- time

    /// `path_trip`: the round-trip time that ICE measured, for who only receives.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        path_trip: Option<Duration>,
        events: &mut impl FnMut(Event),
    ) {
        self.outbound.handle_timeout(now);
        self.outbound.play_tones(now, &mut |transceiver, tone| {
            events(Event::ToneChange { transceiver, tone });
        });
        self.tell_sender(now, events);
        if let Some(trip) = self.outbound.round_trip().or(path_trip) {
            self.inbound.set_round_trip(trip);
        }
        self.inbound.handle_timeout(now);
        let told = &mut self.told_frames;
        self.inbound.due_frames(now, |id| {
            if !told.contains(&id) {
                told.push(id);
                events(Event::FrameReady(id));
            }
        });
        if self.settings.send_feedback {
            if self.arrivals.is_due(now) {
                self.send_transport_feedback();
            }
            if self.sources.is_due(now) {
                self.send_source_feedback(now);
            }
            self.send_requests(now);
        }
        if self.settings.send_reports && self.reports.poll(now, &mut self.random) {
            self.send_reports(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.settings.send_feedback;
        let reports = self.reports.poll_timeout();
        [
            self.outbound.poll_timeout(),
            self.arrivals.due().filter(|_| feedback),
            self.sources.due().filter(|_| feedback),
            self.inbound.next_request().filter(|_| feedback),
            self.inbound.next_frame(&self.told_frames),
            reports.filter(|_| self.settings.send_reports),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn send_transport_feedback(&mut self) {
        let reporter = self.reporter();
        while let Some(feedback) = self.arrivals.next_feedback() {
            let mut written = 0;
            let queue = &mut self.outbound.rtcp;
            let sent = reporter.write(&self.cname, queue, |writer| {
                let result = writer.transport_feedback(
                    reporter.sender,
                    feedback.media,
                    feedback.base,
                    feedback.count,
                    feedback.arrivals,
                );
                written = result.unwrap_or(0);
                written > 0
            });
            if !sent {
                break;
            }
            self.arrivals.sent(written);
        }
    }

    /// RFC 8888 section 3.1. What finds no room is told by nobody: the sender takes it for lost.
    fn send_source_feedback(&mut self, now: Instant) {
        let reporter = self.reporter();
        let middle = self.ntp(now).middle();
        let (sources, queue) = (&self.sources, &mut self.outbound.rtcp);
        reporter.write(&self.cname, queue, |writer| {
            writer
                .congestion_feedback(reporter.sender, sources.reports(now), middle)
                .is_ok()
        });
        self.sources.sent();
    }

    /// Asks for what is missing.
    fn send_requests(&mut self, now: Instant) {
        let reporter = self.reporter();
        let sender = reporter.sender;
        let (cname, queue) = (&self.cname, &mut self.outbound.rtcp);
        self.inbound.take_requests(now, |media, request| {
            reporter.write(cname, queue, |writer| match request {
                Request::Nack(lost) => {
                    let pairs = NackPair::fold(lost.iter().copied());
                    writer.nack(sender, media, pairs).is_ok()
                }
                Request::KeyFrame(KeyframeRequest::Pli) => {
                    writer.pli(Pli { sender, media }).is_ok()
                }
                Request::KeyFrame(KeyframeRequest::Fir(sequence)) => {
                    let ssrc = media;
                    writer.fir(sender, &[FirEntry { ssrc, sequence }]).is_ok()
                }
            });
        });
    }

    fn send_reports(&mut self, now: Instant) {
        let ntp = self.ntp(now);
        self.senders.clear();
        self.senders.extend(self.outbound.sender_infos(now, ntp));
        self.blocks.clear();
        self.blocks.extend(self.inbound.report_blocks(now));
        reports::write_reports(
            &self.senders,
            &self.blocks,
            self.local_ssrc,
            &self.cname,
            &mut self.outbound.rtcp,
        );
    }

    /// Says goodbye for all sources (RFC 3550 section 6.6).
    pub(crate) fn goodbye(&mut self) {
        let sources = self.outbound.ssrcs();
        if !sources.is_empty() {
            self.compound(|writer| writer.bye(&sources, None).is_ok());
        }
    }

    // ---- what can be seen

    /// What may be sent, as congestion control sees it.
    pub(crate) fn target(&self) -> Target {
        self.outbound.target()
    }

    /// What an encoding may use of it, in bits per second.
    pub(crate) fn encoding_target(&self, id: TransceiverId, encoding: usize) -> Option<u64> {
        self.outbound.share_of(id, encoding)
    }

    /// What congestion control sees and does, once something is sent.
    pub(crate) fn congestion_stats(&self) -> Option<visavis_congestion::Stats> {
        self.outbound.control().stats()
    }

    /// Other bounds of the bit rate.
    pub(crate) fn set_bitrate_limits(&mut self, now: Instant, limits: visavis_congestion::Limits) {
        self.outbound.control_mut().set_limits(now, limits);
        self.outbound.share();
    }

    /// How much the application would send if it might, in bits per second.
    pub(crate) fn set_demand(&mut self, now: Instant, bitrate: u64) {
        self.outbound.control_mut().set_demand(now, bitrate);
    }

    pub(crate) fn inbound_stats(&self) -> impl Iterator<Item = InboundStats> + '_ {
        self.inbound.stats()
    }

    pub(crate) const fn stats(&self) -> MediaStats {
        self.stats
    }

    pub(crate) fn outbound_stats(&self) -> impl Iterator<Item = OutboundStats> + '_ {
        self.outbound.stats()
    }

    /// The negotiated numbers of header extensions, for packets that come.
    pub(crate) fn extensions(&self) -> &ExtensionMap {
        &self.demux.extensions
    }

    /// Another candidate pair was selected.
    pub(crate) fn path_changed(&mut self, now: Instant) {
        self.outbound.control_mut().path_changed(now);
    }
}
