//! One stream that leaves: what the peer is told of it and says of it, around the packets and the
//! history that `visavis-media` keeps.

use std::time::{Duration, Instant};

use visavis_media::send::{KeyframeGate, RoundTrip, RtxConfig, SendStream, SendStreamConfig};
use visavis_rtp::payload::Codec as PayloadCodec;
use visavis_rtp::rtcp::{ReportBlock, SenderInfo};
use visavis_rtp::{Mid, NtpTime, PayloadType, Rid, SequenceNumber, Ssrc};

use super::OutboundStats;
use super::parity::Parity;
use crate::codecs::{Codec, Kind};
use crate::config::MediaSettings;
use crate::media::demux::{EncodingRoute, Route};
use crate::media::dtmf::Dtmf;
use crate::transceiver::TransceiverId;

/// Packets of sound, and of pictures, that are kept where nobody asks for them again: they wait for
/// the pacer there.
const SHORT_HISTORY: [usize; 2] = [128, 512];
/// The least time between two requests for key frames that the application is told of.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) transceiver: TransceiverId,
    pub(super) encoding: usize,
    pub(super) rid: String,
    pub(super) kind: Kind,
    pub(super) active: bool,
    pub(super) codecs: Vec<Codec>,
    pub(super) max_bitrate: Option<u64>,
    pub(super) weight: f64,
    /// What it may use of the target, in bits per second.
    pub(super) share: u64,
    pub(super) packets: SendStream,
    pub(super) parity: Option<Parity>,
    rtx_ssrc: u32,
    /// Packets that have not left yet. Their bytes stand in the history, which must not outrun them.
    pub(super) waiting: usize,
    /// Whether packets have a transport-wide number, so that the peer tells their arrival.
    pub(super) is_told: bool,
    retransmits: bool,
    trip: RoundTrip,
    report: Option<(Instant, ReportBlock)>,
    nacks_received: u64,
    key_frames_requested: u64,
    pub(super) key_frames: KeyframeGate,
    pub(super) tones: Tones,
}

/// Key presses between the packets of the application.
#[derive(Debug, Default)]
pub(super) struct Tones {
    pub(super) playing: Option<Dtmf>,
    /// Packets that were put between those of the application.
    pub(super) inserted: u16,
    /// The timestamp of the event that plays.
    pub(super) timestamp: u32,
}

impl Stream {
    pub(super) fn new(
        id: TransceiverId,
        kind: Kind,
        encoding: &EncodingRoute,
        settings: &MediaSettings,
        first: [u16; 2],
    ) -> Self {
        let history = match kind {
            Kind::Video if settings.answer_nacks => settings.history_packets,
            Kind::Video => SHORT_HISTORY[1],
            Kind::Audio => SHORT_HISTORY[0],
        };
        let config = SendStreamConfig {
            history,
            max_packet: settings.max_packet,
            // The codec follows with the negotiated ones.
            ..SendStreamConfig::new(
                Ssrc(encoding.sources.ssrc),
                PayloadCodec::Red,
                PayloadType::default(),
                90_000,
            )
        };
        let first = first.map(SequenceNumber);
        Self {
            transceiver: id,
            encoding: 0,
            rid: String::new(),
            kind,
            active: false,
            codecs: Vec::new(),
            max_bitrate: None,
            weight: 1.0,
            share: 0,
            packets: SendStream::new(config, first[0], first[1]),
            parity: None,
            rtx_ssrc: encoding.sources.rtx,
            waiting: 0,
            is_told: false,
            retransmits: settings.answer_nacks,
            trip: RoundTrip::default(),
            report: None,
            nacks_received: 0,
            key_frames_requested: 0,
            key_frames: KeyframeGate::new(KEY_FRAME_INTERVAL),
            tones: Tones::default(),
        }
    }

    /// Follows what was negotiated.
    pub(super) fn configure(&mut self, index: usize, route: &Route) {
        let encoding = &route.encodings[index];
        self.encoding = index;
        self.rid.clone_from(&encoding.rid);
        self.active = encoding.active;
        self.codecs.clone_from(&route.send_codecs);
        self.max_bitrate = encoding.max_bitrate;
        self.weight = encoding.weight;
        let config = self.packets.config_mut();
        config.mid = Mid::new(&route.mid);
        config.rid = Rid::new(&encoding.rid);
        config.extensions = route.send_extensions.clone();
        let ssrc = config.ssrc;
        let first = SequenceNumber(ssrc.0 as u16);
        let parity = Parity::of(route, ssrc, first);
        match (&self.parity, &parity) {
            (Some(_), Some(_)) => {}
            _ => self.parity = parity,
        }
        let wanted = encoding.codec.as_ref();
        let preferred = self
            .codecs
            .iter()
            .position(|codec| wanted.is_some_and(|wanted| wanted.matches(codec)));
        let plain = self.codecs.iter().position(|codec| !codec.is_auxiliary());
        if let Some(index) = preferred.or(plain) {
            self.use_codec(index);
        }
    }

    /// Makes one of the codecs the one of the next packets.
    pub(super) fn use_codec(&mut self, index: usize) {
        let codec = &self.codecs[index];
        let Some(payload_type) = PayloadType::new(codec.payload_type) else {
            return;
        };
        // What nothing here can cut into packets is sent as packets alone; RED has no packetizer.
        let known = PayloadCodec::from_name(&codec.name).unwrap_or(PayloadCodec::Red);
        let rtx = codec
            .rtx
            .filter(|_| self.retransmits && codec.has_feedback("nack"))
            .and_then(PayloadType::new);
        self.packets
            .set_codec(known, payload_type, codec.clock_rate);
        self.packets.config_mut().rtx = rtx.map(|payload_type| RtxConfig {
            ssrc: Ssrc(self.rtx_ssrc),
            payload_type,
        });
    }

    pub(super) fn ssrc(&self) -> Ssrc {
        self.packets.config().ssrc
    }

    pub(super) fn clock_rate(&self) -> u32 {
        self.packets.config().clock_rate
    }

    /// The format of key presses: the one that fits the codec's clock (RFC 4733 section 2.1), or, as
    /// Firefox and many gateways have no other than `telephone-event/8000`, any.
    pub(super) fn event_codec(&self) -> Option<&Codec> {
        let rate = self.clock_rate();
        let events = || {
            self.codecs
                .iter()
                .filter(|codec| codec.is("telephone-event"))
        };
        events()
            .find(|codec| codec.clock_rate == rate)
            .or(events().next())
    }

    /// A report of the peer: it knows the stream by now.
    pub(super) fn report_block(
        &mut self,
        now: Instant,
        middle: u32,
        block: &ReportBlock,
    ) -> Option<Duration> {
        self.packets.set_announced();
        let trip = self.trip.handle_block(middle, block);
        if let Some(smoothed) = self.trip.smoothed() {
            self.packets.set_round_trip(smoothed);
        }
        self.report = Some((now, *block));
        if let Some(parity) = &mut self.parity {
            parity.set_loss(f64::from(block.fraction_lost) / 256.0, self.trip.smoothed());
        }
        trip
    }

    pub(super) fn parity_packet(&self, number: u64) -> Option<&[u8]> {
        self.parity.as_ref()?.packet(number)
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.trip.smoothed()
    }

    /// The peer misses a packet: its extended number if it is to be sent again. Without a source for
    /// retransmissions it is not: SRTP allows no second packet under one number.
    pub(super) fn nack(&mut self, now: Instant, sequence: SequenceNumber) -> Option<u64> {
        self.nacks_received += 1;
        self.packets.config().rtx?;
        let sequence = self
            .packets
            .handle_nack(now, sequence)
            .filter(|_| self.active)?;
        // Retransmissions have a payload type for each codec: none fits the packets before a change.
        let packet = visavis_rtp::Packet::parse(self.packets.packet(sequence)?).ok()?;
        (packet.payload_type() == self.packets.config().payload_type).then_some(sequence)
    }

    /// Asks the application for a key frame, unless it was asked just now.
    pub(super) fn poll_key_frame(&mut self, now: Instant) -> bool {
        let due = self.active && self.key_frames.poll(now);
        self.key_frames_requested += u64::from(due);
        due
    }

    pub(super) fn sender_info(&self, now: Instant, ntp: NtpTime) -> Option<SenderInfo> {
        self.packets.sender_info(now, ntp).filter(|_| self.active)
    }

    pub(super) fn stats(&self) -> OutboundStats {
        let sent = self.packets.stats();
        let config = self.packets.config();
        OutboundStats {
            transceiver: self.transceiver,
            encoding: self.encoding,
            rid: self.rid.clone(),
            ssrc: config.ssrc.0,
            rtx_ssrc: self.rtx_ssrc,
            payload_type: config.payload_type.value(),
            active: self.active,
            packets_sent: sent.packets,
            bytes_sent: sent.octets,
            header_bytes_sent: sent.header_octets,
            frames_sent: sent.frames,
            retransmitted_packets_sent: sent.retransmitted_packets,
            retransmitted_bytes_sent: sent.retransmitted_octets,
            nacks_received: self.nacks_received,
            key_frames_requested: self.key_frames_requested,
            target_bitrate: self.share,
            report: self.report,
            round_trip_time: self.trip.latest(),
        }
    }
}
