//! Parity for video: packets that let the receiver recover losses without asking, as many as losses
//! ask for.

use visavis_rtp::extension::{AbsSendTime, TransportSequence, VideoTiming};
use visavis_rtp::payload::{flexfec, red, ulpfec};
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Header, PacketMut, PacketWriter, PayloadType, SequenceNumber, Ssrc,
};

/// How parity is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FecKind {
    /// FlexFEC: a stream of its own.
    FlexFec {
        /// Its source.
        ssrc: Ssrc,
        /// Its payload type.
        payload_type: PayloadType,
    },
    /// ULPFEC inside RED, in the media stream itself, with its sequence numbers.
    UlpFec {
        /// RED's payload type.
        red: PayloadType,
        /// ULPFEC's payload type.
        payload_type: PayloadType,
    },
}

/// What a [`FecSender`] does.
#[derive(Debug, Clone)]
pub struct FecSenderConfig {
    /// How parity is sent.
    pub kind: FecKind,
    /// The protected source.
    pub media: Ssrc,
    /// The negotiated header extensions.
    pub extensions: ExtensionMap,
    /// The most packets that are protected together; a larger frame is protected in parts. 1 to 48,
    /// default 24.
    pub max_group: usize,
    /// The most parity packets per protected packet, 0.0 to 1.0. Default 0.5.
    pub max_rate: f64,
}

/// Makes parity packets of the media packets that pass by.
#[derive(Debug)]
pub struct FecSender {
    config: FecSenderConfig,
    rate: f64,
    group: Vec<Vec<u8>>,
    len: usize,
    next: SequenceNumber,
    timestamp: u32,
    /// Parity packets that are still to be written for the group: (next, of so many).
    due: (usize, usize),
    /// Fraction of a parity packet that earlier groups left over.
    owed: f64,
}

impl FecSender {
    /// A sender whose own sequence numbers begin at `first` (FlexFEC).
    pub fn new(config: FecSenderConfig, first: SequenceNumber) -> Self {
        Self {
            group: Vec::with_capacity(config.max_group.clamp(1, 48)),
            config,
            rate: 0.0,
            len: 0,
            next: first,
            timestamp: 0,
            due: (0, 0),
            owed: 0.0,
        }
    }

    /// Adapts to the fraction of packets that the receiver reports lost (0.0 to 1.0): parity for three
    /// times as many, a tenth at least, none below 0.5 %. `round_trip_ms` above 200 adds half again:
    /// retransmissions come late.
    pub fn set_loss(&mut self, loss: f64, round_trip_ms: u32) {
        let slow = if round_trip_ms > 200 { 1.5 } else { 1.0 };
        self.rate = if loss < 0.005 {
            0.0
        } else {
            ((loss * 3.0).max(0.1) * slow).min(self.config.max_rate)
        };
    }

    /// Parity packets per media packet.
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes a media packet. `end`: it is the last of its frame. The parity that is then due comes
    /// from [`poll_packet`](Self::poll_packet); what is not fetched before the next group is dropped.
    pub fn push(&mut self, packet: &[u8], end: bool) {
        if self.due.0 >= self.due.1 && self.due.1 > 0 {
            self.len = 0;
            self.due = (0, 0);
        }
        if self.rate == 0.0 {
            self.len = 0;
            return;
        }
        if self.len == self.group.len() {
            self.group.push(Vec::new());
        }
        let slot = &mut self.group[self.len];
        slot.clear();
        slot.extend_from_slice(packet);
        zero_mutable_extensions(slot, &self.config.extensions);
        if let Ok(packet) = PacketMut::parse(slot) {
            self.timestamp = packet.as_packet().timestamp();
            self.len += 1;
        }
        if end || self.len >= self.config.max_group.clamp(1, 48) {
            let wanted = self.len as f64 * self.rate + self.owed;
            let count = (wanted as usize).min(self.len);
            let full = self.len >= self.config.max_group.clamp(1, 48);
            if count > 0 || full {
                self.owed = (wanted - count as f64).clamp(0.0, 1.0);
                self.due = (0, count);
                self.len = if count == 0 { 0 } else { self.len };
            }
            // Otherwise the frame is too small for a packet of parity of its own: it waits for the next.
        }
    }

    /// Writes the next parity packet that is due, header and all; returns its length. `take_sequence`
    /// gives the media stream's next sequence number (ULPFEC).
    pub fn poll_packet(
        &mut self,
        take_sequence: impl FnOnce() -> SequenceNumber,
        out: &mut [u8],
    ) -> Option<usize> {
        let (index, count) = self.due;
        if index >= count {
            return None;
        }
        self.due.0 += 1;
        // Packets `index`, `index + count`, ...: a burst of up to `count` losses is recovered.
        let members = self.group[..self.len]
            .iter()
            .skip(index)
            .step_by(count)
            .map(Vec::as_slice);
        let (ssrc, payload_type) = match self.config.kind {
            FecKind::FlexFec { ssrc, payload_type } => (ssrc, payload_type),
            FecKind::UlpFec { red, .. } => (self.config.media, red),
        };
        let sequence = match self.config.kind {
            FecKind::FlexFec { .. } => self.next,
            FecKind::UlpFec { .. } => take_sequence(),
        };
        let header = Header {
            marker: false,
            payload_type,
            sequence,
            timestamp: self.timestamp,
            ssrc,
        };
        let map = &self.config.extensions;
        let mut writer = PacketWriter::new(out, header).ok()?;
        writer
            .typed(map, &TransportSequence(SequenceNumber(0)))
            .ok()?;
        writer.typed(map, &AbsSendTime(0)).ok()?;
        let slot = writer.payload_slot();
        let len = match self.config.kind {
            FecKind::FlexFec { .. } => {
                self.next = self.next.next();
                flexfec::write(self.config.media, members, slot).ok()?
            }
            FecKind::UlpFec { payload_type, .. } => {
                // A single RED block has a header of one byte.
                let (head, parity) = slot.split_at_mut_checked(1)?;
                let len = ulpfec::write(members, parity).ok()?;
                red::write(&[], payload_type, &[], head).ok()?;
                len + 1
            }
        };
        writer.finish(len).ok()
    }
}

/// Clears the header extensions that change on the way, so that parity does not depend on them, as
/// libwebrtc does on both sides.
pub(crate) fn zero_mutable_extensions(packet: &mut [u8], map: &ExtensionMap) {
    let Ok(mut packet) = PacketMut::parse(packet) else {
        return;
    };
    let mut extensions = packet.extensions_mut();
    for kind in [
        ExtensionKind::TransportSequence,
        ExtensionKind::TransportSequenceRequest,
        ExtensionKind::AbsSendTime,
        ExtensionKind::TimeOffset,
    ] {
        if let Some(id) = map.id(kind)
            && let Some(data) = extensions.get_mut(id)
        {
            data.fill(0);
        }
    }
    // The pacer, and forwarders, write the last entries of this one.
    if let Some(id) = map.id(ExtensionKind::VideoTiming)
        && let Some(data) = extensions.get_mut(id)
        && let Some(late) = data.get_mut(VideoTiming::PACER_OFFSET..)
    {
        late.fill(0);
    }
}
