//! Packets on their way from their publisher to the subscribers of their track.
//!
//! What came together is handed on together: all of a frame to one subscriber, who sends it, then to the next. So what
//! a subscriber's packets touch, which no cache holds for hundreds of subscribers, is fetched once for a frame.

use std::collections::VecDeque;
use std::time::Instant;

use visavis_congestion::PacketKind;
use visavis_media::forward::{Decision, SourcePacket};
use visavis_peer::Kind;
use visavis_rtp::Header;
use visavis_rtp::payload::PayloadInfo;

use super::Worker;
use super::connection::Connection;
use super::egress::{Token, What};

/// Bytes that an empty packet counts for.
const FILL: usize = 32;
/// Packets that wait for their subscribers to be asked what they can send; when one more comes they are handed on at once.
const MOST: usize = 256;

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// The track's slot.
    pub(super) track: usize,
    pub(super) variant: u8,
    /// The variant's generation.
    pub(super) generation: u32,
}

/// A packet that stands in the history of its encoding, and what forwarders must know of it.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) at: Instant,
    pub(super) origin: Origin,
    pub(super) encoding: u8,
    pub(super) sequence: u64,
    pub(super) header: Header,
    pub(super) size: usize,
    pub(super) info: PayloadInfo,
    /// Whether a key frame begins with it.
    pub(super) begins_key: bool,
}

/// Packets that were not handed on to everybody yet, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    arrived: VecDeque<Arrived>,
    /// How many of the first ones are being handed on; 0 between two groups.
    group: usize,
    /// The next subscriber of their track.
    next: usize,
    /// Encodings, as bits, for whose key frame somebody waits although one begins here.
    wants_key: u8,
}

impl Fanout {
    /// Where the packets of the group come from that is being handed on, or of the next one.
    fn origin(&mut self) -> Option<Origin> {
        let origin = self.arrived.front()?.origin;
        if self.group == 0 {
            let together = self.arrived.iter().take_while(|one| one.origin == origin);
            self.group = together.count();
        }
        Some(origin)
    }
}

impl Worker {
    /// A packet is to be handed to its subscribers.
    pub(super) fn arrived(&mut self, packet: Arrived) {
        if self.fanout.arrived.len() >= MOST {
            self.finish_fanout();
        }
        self.fanout.arrived.push_back(packet);
    }

    /// Hands the oldest packets to one more subscriber; false once everybody has them.
    pub(super) fn fan_out(&mut self) -> bool {
        let Some(origin) = self.fanout.origin() else {
            return false;
        };
        let Some(track) = self.tracks.get(origin.track) else {
            self.end_group(origin);
            return true;
        };
        let kind = match track.id.kind() {
            Kind::Audio => PacketKind::Audio,
            Kind::Video => PacketKind::Video,
        };
        while let Some(&(slot, key)) = track.subscribers.get(self.fanout.next) {
            self.fanout.next += 1;
            if let Some(&(slot, key)) = track.subscribers.get(self.fanout.next)
                && let Some(connection) = self.connections.get(slot)
            {
                connection.warm(key);
            }
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            let group = self.fanout.arrived.iter().take(self.fanout.group);
            let handed = connection.hand(key, origin, kind, group);
            self.fanout.wants_key |= handed.wants_key;
            self.stats.pacer_dropped += handed.refused;
            if handed.taken && !std::mem::replace(&mut connection.is_sending, true) {
                self.sending.push_back(slot);
                return true;
            }
        }
        self.end_group(origin);
        true
    }

    /// Hands everything to everybody: before tracks or their subscribers change.
    pub(super) fn finish_fanout(&mut self) {
        while self.fan_out() {}
    }

    /// Everybody has the group's packets.
    fn end_group(&mut self, origin: Origin) {
        let fanout = &mut self.fanout;
        let latest = fanout.arrived.drain(..fanout.group).next_back();
        let wants_key = std::mem::take(&mut fanout.wants_key);
        (fanout.group, fanout.next) = (0, 0);
        let Some(latest) = latest else {
            return;
        };
        for encoding in (0..8).filter(|encoding| wants_key >> encoding & 1 != 0) {
            self.want_keyframe(latest.at, origin.track, origin.variant.into(), encoding);
        }
    }
}

/// What became of packets that were handed to a connection.
#[derive(Debug, Default)]
struct Handed {
    /// Something waits in its pacer.
    taken: bool,
    /// Packets for which its pacer had no room.
    refused: u64,
    /// Encodings, as bits.
    wants_key: u8,
}

impl Connection {
    /// Takes packets for one of its subscriptions.
    fn hand<'a>(
        &mut self,
        key: usize,
        origin: Origin,
        kind: PacketKind,
        group: impl Iterator<Item = &'a Arrived>,
    ) -> Handed {
        let mut handed = Handed::default();
        let Some(subscription) = self.subscriptions.get_mut(key) else {
            return handed;
        };
        if subscription.variant != origin.variant
            || subscription.variant_generation != origin.generation
        {
            return handed;
        }
        let Some(forwarder) = &mut subscription.forwarder else {
            return handed;
        };
        for packet in group {
            let source = SourcePacket {
                encoding: packet.encoding,
                sequence: packet.sequence,
                header: packet.header,
                info: &packet.info,
            };
            let decision = forwarder.handle_packet(packet.at, &source);
            if packet.begins_key && forwarder.wants_keyframe() == Some(packet.encoding) {
                handed.wants_key |= 1 << packet.encoding;
            }
            let (what, rewrite, size) = match decision {
                Decision::Forward(rewrite) => (What::Media, rewrite, packet.size),
                Decision::Fill(rewrite) => (What::Fill, rewrite, FILL),
                Decision::Drop => continue,
            };
            let token = Token {
                subscription: key as u32,
                generation: subscription.generation,
                variant: origin.variant,
                encoding: packet.encoding,
                what,
                source: packet.sequence,
                rewrite,
            };
            match self.egress.push(packet.at, token, size, kind) {
                true => handed.taken = true,
                false => handed.refused += 1,
            }
        }
        handed
    }
}
