//! One track on its way to one connection.

use std::hint::black_box;
use std::time::{Duration, Instant};

use visavis_media::forward::{Forwarder, ForwarderConfig, LayerTarget, Rewrite};
use visavis_peer::{Codec as PeerCodec, Kind, Transceiver, TransceiverId};
use visavis_rtp::extension::MidExtension;
use visavis_rtp::payload::Codec;
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::rtcp::SenderInfo;
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Header, Mid, NtpTime, Packet, PacketWriter, PayloadType,
    SequenceNumber, Ssrc,
};

use super::egress::{Token, Written};
use super::track::Variant;
use crate::ids::{SubscriptionId, TrackId};
use crate::options::Wish;

/// Packets that a subscriber may ask for again, in numbers behind the latest.
const VIDEO_HISTORY: usize = 512;
const AUDIO_HISTORY: usize = 64;
/// Retransmissions that are remembered, so that a hasty peer does not get each twice.
const RESENT: usize = 32;
/// The least time between two retransmissions of one packet.
const RESEND_INTERVAL: Duration = Duration::from_millis(10);

/// One track on its way to one connection.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    /// Slot of the track, and its name.
    pub(super) track: usize,
    pub(super) track_id: TrackId,
    pub(super) kind: Kind,
    /// `a=msid`: stream and track.
    pub(super) names: (String, String),
    /// Where it goes, once a section is found.
    pub(super) transceiver: Option<TransceiverId>,
    pub(super) mid: Option<String>,
    /// Whether the peer could know by a description of ours what comes on that section. Nothing comes before: the peer would take it for
    /// what the section brought last.
    pub(super) described: bool,
    pub(super) wish: Wish,
    /// There while the section is negotiated and the codec is one that the peer takes.
    pub(super) forwarder: Option<Forwarder>,
    /// The number with which the next forwarder begins, if there was one before.
    next: Option<SequenceNumber>,
    /// Changes with the forwarder.
    pub(super) generation: u32,
    /// The variant of the track that is forwarded, and that variant's generation.
    pub(super) variant: u8,
    pub(super) variant_generation: u32,
    pub(super) ssrc: u32,
    payload_type: u8,
    /// The payload type of redundant sound, if the peer takes it.
    red: Option<u8>,
    /// Payload type and source of retransmissions.
    rtx: Option<(u8, u32)>,
    rtx_sequence: u16,
    pub(super) extensions: ExtensionMap,
    pub(super) cname: String,
    /// The latest packet that went, for probes.
    pub(super) latest: Option<Token>,
    latest_timestamp: u32,
    resent: [Option<(u16, Instant)>; RESENT],
    /// Middle bits of the reports that were sent, and when.
    reports: [Option<(u32, Instant)>; 2],
    /// Whether it waits for bandwidth; as was told.
    pub(super) paused: bool,
    pub(super) packets: u64,
    pub(super) payload_bytes: u64,
    pub(super) bytes: u64,
    pub(super) retransmitted: u64,
    pub(super) loss: f64,
    pub(super) round_trip: Option<Duration>,
}

impl Subscription {
    pub(super) fn new(
        id: SubscriptionId,
        track: usize,
        track_id: TrackId,
        names: (String, String),
        wish: Wish,
    ) -> Self {
        Self {
            id,
            track,
            track_id,
            kind: track_id.kind(),
            names,
            transceiver: None,
            mid: None,
            described: false,
            wish,
            forwarder: None,
            next: None,
            generation: 0,
            variant: 0,
            variant_generation: 0,
            ssrc: 0,
            payload_type: 0,
            red: None,
            rtx: None,
            rtx_sequence: 0,
            extensions: ExtensionMap::new(),
            cname: String::new(),
            latest: None,
            latest_timestamp: 0,
            resent: [None; RESENT],
            reports: [None; 2],
            paused: false,
            packets: 0,
            payload_bytes: 0,
            bytes: 0,
            retransmitted: 0,
            loss: 0.0,
            round_trip: None,
        }
    }

    /// Follows what was negotiated and what the track brings; true if the forwarder is another one. It
    /// begins at `first` if there was none, and is known by `generation`.
    pub(super) fn follow(
        &mut self,
        transceiver: &Transceiver,
        variants: &[Variant],
        first: SequenceNumber,
        generation: u32,
    ) -> bool {
        let sends = self.described
            && transceiver
                .current_direction
                .and_then(visavis_peer::TransceiverDirection::to_sdp)
                .is_some_and(|direction| direction.sends());
        let sender = &transceiver.sender;
        let found = variants.iter().enumerate().find_map(|(index, variant)| {
            let codec = variant.codec.as_ref()?;
            let taken = sender
                .codecs
                .iter()
                .find(|taken| taken.matches(&codec.peer));
            // Some peers describe the same profile by other words: the name decides then.
            let taken = taken.or_else(|| {
                let mut same = sender.codecs.iter().filter(|taken| taken.is(&codec.name));
                same.next()
            });
            Some((index, variant, codec, taken?))
        });
        let sources = sender.sources.first();
        let (Some((index, variant, codec, taken)), Some(sources), true) = (found, sources, sends)
        else {
            let Some(former) = self.forwarder.take() else {
                return false;
            };
            self.generation = generation;
            self.next = Some(former.next_sequence());
            return true;
        };
        let same = self.forwarder.is_some()
            && self.variant == index as u8
            && self.variant_generation == variant.generation
            && self.ssrc == sources.ssrc
            && self.payload_type == taken.payload_type
            && self.mid == transceiver.mid;
        self.rtx = taken.rtx.map(|rtx| (rtx, sources.rtx));
        self.red = red_of(&sender.codecs, codec.codec);
        if same {
            return false;
        }
        let mut extensions = ExtensionMap::new();
        for extension in &sender.extensions {
            let kind = ExtensionKind::from_uri(&extension.uri);
            let goes = |kind: &ExtensionKind| {
                !matches!(kind, ExtensionKind::Rid | ExtensionKind::RepairedRid)
            };
            if let Some(kind) = kind.filter(goes) {
                // Numbers 0 and 15 were refused in negotiation.
                let _ = extensions.insert(extension.id, kind);
            }
        }
        let Some(payload_type) = PayloadType::new(taken.payload_type) else {
            return false;
        };
        let first = match &self.forwarder {
            Some(former) => former.next_sequence(),
            // A source that was sent before goes on (RFC 3711 section 3.3.1: its peer has counted the rounds).
            None => self.next.take().unwrap_or(first),
        };
        let config = ForwarderConfig {
            codec: codec.codec,
            clock_rate: taken.clock_rate,
            ssrc: Ssrc(sources.ssrc),
            payload_type,
            mid: transceiver.mid.as_deref().and_then(Mid::new),
            rid: None,
            extensions: extensions.clone(),
            history: match self.kind {
                Kind::Audio => AUDIO_HISTORY,
                Kind::Video => VIDEO_HISTORY,
            },
        };
        let mut forwarder = Forwarder::new(config, first);
        if self.kind == Kind::Audio {
            forwarder.set_target(Some(LOWEST).filter(|_| self.wish.enabled));
        }
        self.forwarder = Some(forwarder);
        self.generation = generation;
        self.variant = index as u8;
        self.variant_generation = variant.generation;
        self.ssrc = sources.ssrc;
        self.payload_type = taken.payload_type;
        self.extensions = extensions;
        self.mid.clone_from(&transceiver.mid);
        self.latest = None;
        true
    }

    /// The track's packets are counted by another worker from now on.
    pub(super) fn begin_anew(&mut self) {
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.begin_anew();
        }
        self.latest = None;
        self.resent = [None; RESENT];
    }

    /// The source of retransmissions.
    pub(super) fn rtx_ssrc(&self) -> Option<u32> {
        self.rtx.map(|(_, ssrc)| ssrc)
    }

    /// Whether lost packets can be sent again.
    pub(super) fn can_resend(&self) -> bool {
        self.rtx.is_some()
    }

    /// Whether probes may use its source.
    pub(super) fn can_pad(&self) -> bool {
        self.kind == Kind::Video
            && self.rtx.is_some()
            && self.forwarder.is_some()
            && self
                .extensions
                .id(ExtensionKind::TransportSequence)
                .is_some()
    }

    /// Reads what a packet will touch.
    pub(super) fn warm(&self) {
        black_box((
            self.variant,
            self.variant_generation,
            self.generation,
            self.track,
        ));
        black_box((
            self.latest.is_some(),
            self.latest_timestamp,
            self.red,
            self.ssrc,
        ));
        black_box((self.packets, self.payload_bytes, self.bytes));
        black_box(self.extensions.id(ExtensionKind::TransportSequence));
        if let Some(forwarder) = &self.forwarder {
            forwarder.warm();
        }
    }

    // ---- packets

    /// Writes a packet of the track under the subscriber's numbers.
    pub(super) fn write(
        &mut self,
        packet: &Packet<'_>,
        variant: &Variant,
        token: &Token,
        out: &mut [u8],
    ) -> Written {
        let written = self.write_plain(packet, variant, &token.rewrite, out);
        if let Written::Packet(len) = written {
            self.packets += 1;
            self.bytes += len as u64;
            self.payload_bytes += packet.payload().len() as u64;
            self.latest = Some(*token);
            self.latest_timestamp = token.rewrite.timestamp;
        }
        written
    }

    fn write_plain(
        &self,
        packet: &Packet<'_>,
        variant: &Variant,
        rewrite: &Rewrite,
        out: &mut [u8],
    ) -> Written {
        let Some(forwarder) = &self.forwarder else {
            return Written::Gone;
        };
        let len = match forwarder.write(packet, &variant.extensions, rewrite, out) {
            Ok(len) => len,
            Err(visavis_rtp::Error::BufferTooSmall) => return Written::NoRoom,
            Err(_) => return Written::Gone,
        };
        let is_red = variant
            .codec
            .as_ref()
            .is_some_and(|codec| codec.red == Some(packet.payload_type().value()));
        if !is_red {
            return Written::Packet(len);
        }
        let header = len - packet.payload().len();
        match self.red {
            Some(red) => {
                out[1] = out[1] & 0x80 | red;
                rename_blocks(&mut out[header..len], self.payload_type);
                Written::Packet(len)
            }
            // The primary block stands last.
            None => match primary_len(packet.payload()) {
                Some(primary) => {
                    out.copy_within(len - primary..len, header);
                    Written::Packet(header + primary)
                }
                None => Written::Gone,
            },
        }
    }

    /// Writes the empty packet that takes the place of one that was left out late.
    pub(super) fn write_fill(&mut self, rewrite: &Rewrite, out: &mut [u8]) -> Written {
        let Some(forwarder) = &self.forwarder else {
            return Written::Gone;
        };
        match forwarder.write_empty(rewrite, out) {
            Ok(len) => {
                self.packets += 1;
                Written::Packet(len)
            }
            Err(visavis_rtp::Error::BufferTooSmall) => Written::NoRoom,
            Err(_) => Written::Gone,
        }
    }

    /// Writes a packet as a retransmission (RFC 4588 section 4).
    pub(super) fn write_again(
        &mut self,
        packet: &Packet<'_>,
        variant: &Variant,
        rewrite: &Rewrite,
        out: &mut [u8],
    ) -> Written {
        let Some((payload_type, ssrc)) = self.rtx else {
            return Written::Gone;
        };
        let Some(room) = out.len().checked_sub(2) else {
            return Written::NoRoom;
        };
        let len = match self.write_plain(packet, variant, rewrite, &mut out[..room]) {
            Written::Packet(len) => len,
            other => return other,
        };
        let Ok(written) = Packet::parse(&out[..len]) else {
            return Written::Gone;
        };
        let header = written.header_len();
        out.copy_within(header..len, header + 2);
        out[header..header + 2].copy_from_slice(&(rewrite.sequence as u16).to_be_bytes());
        out[1] = out[1] & 0x80 | payload_type;
        out[2..4].copy_from_slice(&self.rtx_sequence.to_be_bytes());
        out[8..12].copy_from_slice(&ssrc.to_be_bytes());
        self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
        self.retransmitted += 1;
        Written::Packet(len + 2)
    }

    /// Writes a packet of the retransmission source that holds nothing but padding.
    pub(super) fn write_padding(&mut self, size: usize, out: &mut [u8]) -> Written {
        let Some((payload_type, ssrc)) = self.rtx else {
            return Written::Gone;
        };
        let Some(payload_type) = PayloadType::new(payload_type) else {
            return Written::Gone;
        };
        let header = Header {
            marker: false,
            payload_type,
            sequence: SequenceNumber(self.rtx_sequence),
            timestamp: self.latest_timestamp,
            ssrc: Ssrc(ssrc),
        };
        let len = (|| {
            let mut writer = PacketWriter::new(out, header).ok()?;
            for (kind, len) in [
                (ExtensionKind::TransportSequence, 2),
                (ExtensionKind::AbsSendTime, 3),
            ] {
                if let Some(id) = self.extensions.id(kind) {
                    writer.extension_slot(id, len).ok()?.fill(0);
                }
            }
            if let Some(mid) = self.mid.as_deref().and_then(Mid::new) {
                writer.typed(&self.extensions, &MidExtension(mid)).ok()?;
            }
            let padding = size.saturating_sub(writer.header_len()).clamp(1, 255) as u8;
            writer.finish_padded(&[], padding).ok()
        })();
        match len {
            Some(len) => {
                self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
                Written::Packet(len)
            }
            None => Written::NoRoom,
        }
    }

    // ---- what the peer says

    /// Whether a packet may be sent again now; notes that it is.
    pub(super) fn may_resend(&mut self, now: Instant, sequence: u16) -> bool {
        let slot = &mut self.resent[usize::from(sequence) % RESENT];
        let least = self.round_trip.map_or(RESEND_INTERVAL, |trip| {
            trip.clamp(RESEND_INTERVAL, Duration::from_millis(100)) / 2
        });
        if let Some((resent, at)) = *slot
            && resent == sequence
            && now.saturating_duration_since(at) < least
        {
            return false;
        }
        *slot = Some((sequence, now));
        true
    }

    /// What a sender report says of the stream as the subscriber sees it.
    pub(super) fn sender_report(
        &mut self,
        now: Instant,
        encoding: u8,
        info: &SenderInfo,
    ) -> Option<SenderInfo> {
        let (ntp, rtp_timestamp) = self
            .forwarder
            .as_mut()?
            .handle_sender_report(encoding, info)?;
        if self.packets == 0 {
            return None;
        }
        self.reports[0] = self.reports[1];
        self.reports[1] = Some((NtpTime::middle(ntp), now));
        Some(SenderInfo {
            ssrc: Ssrc(self.ssrc),
            ntp,
            rtp_timestamp,
            packets: self.packets as u32,
            octets: self.payload_bytes as u32,
        })
    }

    /// A report block about the stream: the round-trip time, if it tells.
    pub(super) fn report_block(
        &mut self,
        now: Instant,
        block: &visavis_rtp::rtcp::ReportBlock,
    ) -> Option<Duration> {
        // Retransmissions are a source of their own, which no report names: their names come from the stream's packets.
        if let Some(forwarder) = self.forwarder.as_mut().filter(|_| self.rtx.is_none()) {
            forwarder.set_announced();
        }
        let lost = f64::from(block.fraction_lost) / 256.0;
        self.loss = 0.5 * self.loss + 0.5 * lost;
        let mut latest = self.reports.iter().rev().flatten();
        let (_, sent) = latest.find(|(middle, _)| *middle == block.last_sr)?;
        let held = Duration::from_secs_f64(f64::from(block.delay_since_last_sr) / 65_536.0);
        let trip = now.saturating_duration_since(*sent).checked_sub(held)?;
        self.round_trip = Some(trip);
        Some(trip)
    }
}

/// The lowest layer of all.
pub(super) const LOWEST: LayerTarget = LayerTarget {
    encoding: 0,
    spatial_id: 0,
    temporal_id: 0,
};

/// The payload type under which a peer takes a codec within RED.
fn red_of(codecs: &[PeerCodec], codec: Codec) -> Option<u8> {
    if codec != Codec::Opus {
        return None;
    }
    let red = codecs.iter().find(|codec| codec.is("red"))?;
    Some(red.payload_type)
}

/// Gives every block of a RED payload (RFC 2198 section 3) another payload type.
fn rename_blocks(payload: &mut [u8], payload_type: u8) {
    let mut at = 0;
    while let Some(byte) = payload.get_mut(at) {
        let more = *byte & 0x80;
        *byte = more | payload_type & 0x7f;
        if more == 0 {
            return;
        }
        at += 4;
    }
}

/// Length of the primary block of a RED payload, which stands last.
fn primary_len(payload: &[u8]) -> Option<usize> {
    let primary = RedBlocks::parse(payload).ok()?.primary()?;
    Some(primary.payload.len())
}
