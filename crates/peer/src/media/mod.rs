//! Media between the transport and the transceivers: whose packet it is, feedback, retransmission,
//! reports and pacing. Packets only; frames and jitter are `visavis-media`'s.

mod demux;
mod dtmf;
mod feedback;
mod inbound;
mod outbound;
mod reports;
mod source;

use std::time::{Duration, Instant};

use visavis_congestion::Target;
use visavis_datagram::{Ecn, Random};
use visavis_rtp::extension::ExtensionKind;
use visavis_rtp::rtcp::{Compound, Rtcp};
use visavis_rtp::{ExtensionMap, NtpTime, Ssrc};

use demux::Demux;
pub(crate) use demux::Route;
use feedback::ArrivalLog;
use inbound::Inbound;
pub use inbound::InboundStats;
use outbound::Outbound;
pub(crate) use outbound::Polled;
pub use outbound::{OutboundStats, OutgoingRtp};
use reports::Reports;

pub use source::{PacketSource, SourcePoll};

use crate::config::{Limits, MediaSettings};
use crate::error::Error;
use crate::events::Event;
use crate::transceiver::TransceiverId;

/// A received packet, after what the transport added to it was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Routed {
    pub(crate) transceiver: TransceiverId,
    pub(crate) encoding: Option<usize>,
    /// The media source.
    pub(crate) ssrc: u32,
    /// How many bytes the packet's beginning moved: 2 where a retransmission was unwrapped.
    pub(crate) moved: usize,
    pub(crate) recovered: bool,
}

/// Everything about media of one connection.
#[derive(Debug)]
pub(crate) struct Media {
    settings: MediaSettings,
    demux: Demux,
    inbound: Inbound,
    outbound: Outbound,
    arrivals: ArrivalLog,
    reports: Reports,
    /// Who feedback comes from while nothing is sent.
    local_ssrc: Ssrc,
    cname: String,
    reduced_size: bool,
    /// Transceivers whose track is not muted.
    unmuted: Vec<TransceiverId>,
    born: Instant,
    wall_clock: Duration,
    pub(crate) unroutable: u64,
}

impl Media {
    pub(crate) fn new(
        settings: MediaSettings,
        limits: Limits,
        wall_clock: Duration,
        cname: String,
        mut random: Random,
        now: Instant,
    ) -> Self {
        Self {
            demux: Demux::new(limits.incoming_streams),
            inbound: Inbound::new(settings),
            outbound: Outbound::new(&settings, limits.outgoing_packets, random.fork()),
            arrivals: ArrivalLog::default(),
            reports: Reports::new(random.fork()),
            local_ssrc: Ssrc(random.u32().max(1)),
            cname,
            reduced_size: false,
            unmuted: Vec::new(),
            born: now,
            wall_clock,
            unroutable: 0,
            settings,
        }
    }

    /// Follows what was negotiated.
    pub(crate) fn configure(&mut self, now: Instant, routes: Vec<Route>, reduced_size: bool) {
        self.reduced_size = reduced_size;
        let is_active = routes.iter().any(|route| route.sends || route.receives);
        self.outbound.configure(now, &routes);
        self.inbound
            .retain(|id| routes.iter().any(|route| route.id == id && route.receives));
        self.demux.configure(routes);
        if is_active {
            self.reports.start(now);
        }
    }

    /// The track is muted until the next packet.
    pub(crate) fn mute(&mut self, id: TransceiverId) {
        self.unmuted.retain(|&unmuted| unmuted != id);
    }

    fn ntp(&self, now: Instant) -> NtpTime {
        NtpTime::from_unix(self.wall_clock + now.saturating_duration_since(self.born))
    }

    // ---- in

    /// Finds out whose packet it is, unwraps a retransmission, and counts it.
    pub(crate) fn receive_rtp(
        &mut self,
        now: Instant,
        ecn: Ecn,
        packet: &mut [u8],
        events: &mut impl FnMut(Event),
    ) -> Option<Routed> {
        let parsed = visavis_rtp::Packet::parse(packet).ok()?;
        if let Some(sequence) =
            parsed.extension_bytes(&self.demux.extensions, ExtensionKind::TransportSequence)
            && let Ok(sequence) = <[u8; 2]>::try_from(sequence)
        {
            self.arrivals.received(
                now,
                u16::from_be_bytes(sequence),
                now.saturating_duration_since(self.born),
                parsed.ssrc(),
            );
        }
        let Some(found) = self.demux.find(&parsed) else {
            self.unroutable += 1;
            return None;
        };
        let route = self.demux.route(found.route)?;
        let id = route.id;
        let codec = route.codec(parsed.payload_type().value());
        let (mut moved, mut recovered) = (0, false);
        let mut ssrc = found.ssrc;
        if found.is_rtx {
            let (base, apt) = (found.base?, codec.map(|codec| codec.payload_type)?);
            // RFC 4588 section 4: two bytes of original sequence number before the payload.
            let header = parsed.header_len();
            let original = parsed.payload().first_chunk::<2>().copied();
            let original = original?;
            packet.copy_within(0..header, 2);
            let inner = &mut packet[2..];
            inner[1] = inner[1] & 0x80 | apt;
            inner[2..4].copy_from_slice(&original);
            inner[8..12].copy_from_slice(&base.to_be_bytes());
            (moved, recovered, ssrc) = (2, true, base);
        }
        let parsed = visavis_rtp::Packet::parse(&packet[moved..]).ok()?;
        let is_new = self.inbound.received(
            now,
            inbound::Arrived {
                transceiver: id,
                encoding: found.encoding,
                ssrc,
                recovered,
                codec: codec.map(|codec| (codec.clock_rate, codec.has_feedback("nack"))),
                ecn,
            },
            &parsed,
        );
        if !is_new {
            return None;
        }
        if !self.unmuted.contains(&id) {
            self.unmuted.push(id);
            events(Event::TrackUnmuted(id));
        }
        Some(Routed {
            transceiver: id,
            encoding: found.encoding,
            ssrc,
            moved,
            recovered,
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
        for packet in Compound::new(compound).flatten() {
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
                Rtcp::Pli(pli) => self.key_frame(pli.media.0, events),
                Rtcp::Fir(fir) => {
                    for entry in fir.entries() {
                        if self.outbound.is_new_fir(entry.ssrc.0, entry.sequence) {
                            self.key_frame(entry.ssrc.0, events);
                        }
                    }
                }
                Rtcp::TransportFeedback(feedback) => self.outbound.feedback(now, &feedback),
                Rtcp::Remb(remb) => self.outbound.remb(now, remb.bitrate),
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
    }

    fn key_frame(&mut self, ssrc: u32, events: &mut impl FnMut(Event)) {
        if let Some((transceiver, encoding)) = self.outbound.key_frame_requested(ssrc) {
            events(Event::KeyFrameRequested {
                transceiver,
                encoding,
            });
        }
    }

    // ---- out

    /// Queues a packet of an encoding.
    pub(crate) fn send_rtp(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        packet: &OutgoingRtp<'_>,
    ) -> Result<(), Error> {
        self.outbound.send(now, id, encoding, packet)
    }

    /// Queues a compound packet.
    pub(crate) fn send_rtcp(&mut self, compound: &[u8]) -> bool {
        self.outbound.send_rtcp(compound)
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
    pub(crate) fn request_key_frame(&mut self, id: TransceiverId, encoding: Option<usize>) -> bool {
        let Some(media) = self.inbound.stream_of(id, encoding) else {
            return false;
        };
        let sender = self.sender_ssrc();
        self.compound(|writer| {
            let media = Ssrc(media);
            writer.pli(visavis_rtp::rtcp::Pli { sender, media }).is_ok()
        })
    }

    /// Who feedback comes from.
    fn sender_ssrc(&self) -> Ssrc {
        self.outbound.first_ssrc().unwrap_or(self.local_ssrc)
    }

    /// Writes feedback, behind a report where RTCP of reduced size was not agreed on (RFC 5506).
    fn compound(
        &mut self,
        write: impl FnOnce(&mut visavis_rtp::rtcp::RtcpWriter<'_>) -> bool,
    ) -> bool {
        let mut buffer = [0; reports::COMPOUND];
        let sender = self.sender_ssrc();
        let mut writer = visavis_rtp::rtcp::RtcpWriter::new(&mut buffer);
        if !self.reduced_size {
            let head = writer
                .receiver_report(sender, &[])
                .and_then(|()| writer.cname(sender, self.cname.as_bytes()));
            if head.is_err() {
                return false;
            }
        }
        write(&mut writer) && self.outbound.send_rtcp(writer.as_slice())
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

    pub(crate) fn handle_timeout(&mut self, now: Instant, events: &mut impl FnMut(Event)) {
        self.outbound.handle_timeout(now);
        self.outbound.play_tones(now, &mut |transceiver, tone| {
            events(Event::ToneChange { transceiver, tone });
        });
        if self.settings.send_feedback && self.arrivals.is_due(now) {
            self.send_transport_feedback();
        }
        if self.settings.send_feedback {
            self.send_nacks(now);
        }
        if self.settings.send_reports && self.reports.is_due(now) {
            self.send_reports(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let feedback = self.settings.send_feedback;
        [
            self.outbound.poll_timeout(),
            self.arrivals.due().filter(|_| feedback),
            self.inbound.next_nack().filter(|_| feedback),
            self.reports.due().filter(|_| self.settings.send_reports),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn send_transport_feedback(&mut self) {
        let sender = self.sender_ssrc();
        let mut arrivals = std::mem::take(&mut self.arrivals);
        while let Some(feedback) = arrivals.next_feedback() {
            let mut written = 0;
            let sent = self.compound(|writer| {
                let result = writer.transport_feedback(
                    sender,
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
            arrivals.sent(written);
        }
        self.arrivals = arrivals;
    }

    fn send_nacks(&mut self, now: Instant) {
        let sender = self.sender_ssrc();
        let mut inbound = std::mem::replace(&mut self.inbound, Inbound::new(self.settings));
        inbound.take_nacks(now, self.outbound.round_trip(), |media, lost| {
            self.compound(|writer| {
                let pairs = visavis_rtp::rtcp::NackPair::fold(lost.iter().copied());
                writer.nack(sender, media, pairs).is_ok()
            });
        });
        inbound.take_overruns(|media| {
            self.compound(|writer| writer.pli(visavis_rtp::rtcp::Pli { sender, media }).is_ok());
        });
        self.inbound = inbound;
    }

    fn send_reports(&mut self, now: Instant) {
        let blocks = self.inbound.report_blocks(now);
        let senders = self.outbound.sender_infos(now, self.ntp(now));
        for compound in reports::compounds(&senders, &blocks, self.local_ssrc, &self.cname) {
            self.outbound.send_rtcp(&compound);
        }
        self.reports.sent(now, self.outbound.sends_video());
    }

    /// Says goodbye for all sources (RFC 3550 section 6.6).
    pub(crate) fn goodbye(&mut self) {
        let sources = self.outbound.ssrcs();
        if sources.is_empty() {
            return;
        }
        self.compound(|writer| writer.bye(&sources, None).is_ok());
    }

    // ---- what can be seen

    /// What may be sent, as congestion control sees it.
    pub(crate) fn target(&self) -> Target {
        self.outbound.target()
    }

    pub(crate) fn inbound_stats(&self) -> impl Iterator<Item = InboundStats> + '_ {
        self.inbound.stats()
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
        self.outbound.path_changed(now);
    }
}
