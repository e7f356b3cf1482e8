//! Pictures out of packets: where they begin and end, which can be decoded, and where to go on when something
//! is missing.

use std::time::Instant;

use visavis_rtp::extension::{DependencyDescriptor, DescriptorHead};
use visavis_rtp::payload::{Codec, Received};
use visavis_rtp::{Error, ExtensionKind, Packet};

use super::super::references::Needs;
use super::{Meta, VideoReceiver};

/// The most packets of parity or padding between two pictures.
const MAX_FILLER: u64 = 64;

/// What stands at a place of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picture {
    /// A picture, up to this packet.
    Whole { last: u64 },
    /// A packet without media.
    Empty,
    /// Something is missing, or yet to come.
    Open,
}

impl VideoReceiver {
    /// Puts pictures together as far as that goes.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some(next) = self.next {
            match self.picture_at(next) {
                Picture::Empty => self.move_to(next + 1, self.contiguous),
                Picture::Whole { last } => {
                    let decoded = self.assemble(now, next, last);
                    self.move_to(last + 1, decoded);
                }
                Picture::Open => {
                    if !self.unblock(now, next) {
                        break;
                    }
                }
            }
        }
        if let (Some(nack), Some(next)) = (&mut self.nack, self.next) {
            nack.forget_before(next);
        }
    }

    pub(super) fn move_to(&mut self, next: u64, contiguous: bool) {
        self.next = Some(next);
        self.scanned = next;
        self.contiguous = contiguous;
        self.blocked = None;
        if self.keyframe_ahead.is_some_and(|ahead| ahead < next) {
            self.keyframe_ahead = None;
        }
    }

    /// What stands at `start`.
    fn picture_at(&mut self, start: u64) -> Picture {
        let Some(first) = self.ring.get(start) else {
            return Picture::Open;
        };
        if first.meta.empty {
            return Picture::Empty;
        }
        let timestamp = first.meta.timestamp;
        let mut at = self.scanned.max(start);
        while let Some(stored) = self.ring.get(at) {
            let meta = &stored.meta;
            if !meta.empty {
                if meta.timestamp != timestamp {
                    // Some senders do not mark the end.
                    return Picture::Whole { last: at - 1 };
                }
                if meta.marker {
                    return Picture::Whole { last: at };
                }
            }
            at += 1;
        }
        self.scanned = at;
        Picture::Open
    }

    /// Whether a packet begins a picture, as far as it and its neighbour tell.
    fn begins_picture(&self, sequence: u64) -> bool {
        let Some(stored) = self.ring.get(sequence) else {
            return false;
        };
        if stored.meta.empty {
            return false;
        }
        if stored.meta.start {
            return true;
        }
        self.ring.get(sequence - 1).is_some_and(|before| {
            before.meta.marker
                || !before.meta.empty && before.meta.timestamp != stored.meta.timestamp
        })
    }

    /// Something is missing at `next`: finds a place behind it where decoding can go on, once it has
    /// been waited for long enough. False if there is none yet.
    fn unblock(&mut self, now: Instant, next: u64) -> bool {
        let highest = self.ring.highest().unwrap_or(0);
        // A picture that is coming in blocks nothing.
        let begun = self.begins_picture(next) || self.contiguous && self.ring.contains(next);
        if highest < next || begun && self.scanned > highest {
            self.blocked = None;
            return false;
        }
        if let Some(start) = self.follower(next) {
            self.move_to(start, true);
            return true;
        }
        let since = *self.blocked.get_or_insert(now);
        let expired = now.saturating_duration_since(since) >= self.config.max_wait;
        if (self.keyframe.is_wanted() || expired)
            && let Some(start) = self.keyframe_start()
            && start > next
        {
            self.skip_to(start);
            return true;
        }
        if !self.references.is_alive() {
            // Nothing to go on from: only a key frame helps, unless what is missing comes soon.
            if expired || now.saturating_duration_since(since) >= Self::BEGINNING {
                self.keyframe.want();
            }
            return false;
        }
        if !expired {
            return false;
        }
        // Layers let pictures be left out; without them only a key frame helps.
        let lowest = self.ring.lowest();
        for start in (next + 1).max(lowest)..=highest {
            if !self.begins_picture(start) {
                continue;
            }
            self.scanned = start;
            if let Picture::Whole { last } = self.picture_at(start) {
                let needs = self.needs(start, last);
                if self.references.can_decode(&needs, false) {
                    self.skip_to(start);
                    return true;
                }
            }
        }
        self.scanned = next;
        self.references.broken();
        self.contiguous = false;
        self.keyframe.want();
        false
    }

    /// Where the picture begins that directly follows the one that was decoded last, by its own numbers:
    /// what is missing before it is then parity or padding, which nobody retransmits.
    fn follower(&self, next: u64) -> Option<u64> {
        if !self.contiguous || self.ring.contains(next) {
            return None;
        }
        let stored = (next + 1..next + 1 + MAX_FILLER)
            .find_map(|sequence| self.ring.get(sequence).filter(|it| !it.meta.empty))?;
        if !stored.meta.start {
            return None;
        }
        let packet = Packet::parse(stored.bytes()).ok()?;
        let info = self.config.codec.inspect(packet.payload()).ok()?;
        let id = self
            .config
            .extensions
            .id(ExtensionKind::DependencyDescriptor);
        let head = id
            .and_then(|id| packet.extensions().get(id))
            .and_then(|data| DescriptorHead::parse(data).ok());
        if head.is_some_and(|head| !head.start_of_frame) {
            return None;
        }
        let frame = head.map(|head| head.frame_number);
        self.references
            .follows(&info, frame)
            .then_some(stored.sequence())
    }

    fn skip_to(&mut self, start: u64) {
        self.stats.skips += 1;
        self.move_to(start, false);
    }

    /// Where the key frame ahead begins, if it is whole.
    fn keyframe_start(&mut self) -> Option<u64> {
        let mut start = self.keyframe_ahead?;
        let timestamp = self.ring.get(start)?.meta.timestamp;
        while !self.begins_picture(start) {
            start -= 1;
            let same = |meta: &Meta| meta.empty || meta.timestamp == timestamp;
            if !self
                .ring
                .get(start)
                .is_some_and(|stored| same(&stored.meta))
            {
                return None;
            }
        }
        let scanned = std::mem::replace(&mut self.scanned, start);
        let picture = self.picture_at(start);
        self.scanned = scanned;
        matches!(picture, Picture::Whole { .. }).then_some(start)
    }

    /// What a picture needs to be decoded.
    fn needs(&mut self, first: u64, last: u64) -> Needs {
        let mut needs = Needs::default();
        let descriptor_id = self
            .config
            .extensions
            .id(ExtensionKind::DependencyDescriptor);
        let mut begun = false;
        for sequence in first..=last {
            let Some(stored) = self.ring.get(sequence) else {
                continue;
            };
            let Ok(packet) = Packet::parse(stored.bytes()) else {
                continue;
            };
            if stored.meta.empty {
                continue;
            }
            if !begun {
                needs.info = self
                    .config
                    .codec
                    .inspect(packet.payload())
                    .unwrap_or_default();
                begun = true;
            }
            // In H.264 and H.265 the slices say so, not what comes first.
            needs.keyframe |= stored.meta.keyframe;
            let Some(data) = descriptor_id.and_then(|id| packet.extensions().get(id)) else {
                // Without descriptors the first packet has said it all.
                if descriptor_id.is_none()
                    && !matches!(self.config.codec, Codec::H264 | Codec::H265)
                {
                    break;
                }
                continue;
            };
            match DependencyDescriptor::parse(data, self.structure.as_ref()) {
                Ok(mut descriptor) => {
                    let number = self.references.extend(descriptor.head.frame_number);
                    needs.describe(number, &descriptor);
                    if let Some(structure) = descriptor.structure.take() {
                        self.structure = Some(*structure);
                    }
                }
                // The structure that it counts on has not come, or was lost.
                Err(Error::NoStructure) => {}
                Err(_) => self.stats.malformed += 1,
            }
        }
        if needs.described {
            needs.keyframe = needs.references.is_empty();
        }
        needs
    }

    /// Gives the picture of packets `first..=last` to the depacketizer, if it can be decoded. False if
    /// what follows cannot build on it.
    fn assemble(&mut self, now: Instant, first: u64, last: u64) -> bool {
        let needs = self.needs(first, last);
        if let Some(stored) = self.ring.get(last) {
            // The delay of a frame is that of its last packet, however it came.
            let arrived = stored.time().unwrap_or(now);
            self.delay.sample(arrived, stored.meta.timestamp);
        }
        let begins = self.contiguous || self.begins_picture(first);
        if !begins || !self.references.can_decode(&needs, self.contiguous) {
            self.stats.undecodable += 1;
            // The lowest layer goes on without pictures of the upper ones.
            if needs.info.temporal_id == 0 || !begins {
                self.keyframe.want();
            }
            return false;
        }
        let mut waiting = self.spare.pop().unwrap_or_default();
        waiting.orientation = None;
        waiting.captured = None;
        let mut whole = false;
        // A gap in what the depacketizer sees: nothing of before belongs to this picture.
        self.fed += 1;
        let end = (first..=last)
            .rev()
            .find(|&sequence| self.ring.get(sequence).is_some_and(|it| !it.meta.empty));
        for sequence in first..=last {
            let Some(stored) = self.ring.get(sequence).filter(|it| !it.meta.empty) else {
                continue;
            };
            let Ok(packet) = Packet::parse(stored.bytes()) else {
                continue;
            };
            let map = &self.config.extensions;
            waiting.orientation = packet.extension(map).or(waiting.orientation);
            waiting.captured = packet.extension(map).or(waiting.captured);
            self.fed += 1;
            let result = self.depacketizer.push(Received {
                sequence: self.fed,
                timestamp: packet.timestamp(),
                marker: Some(sequence) == end,
                begins_picture: sequence == first,
                payload: packet.payload(),
            });
            match result {
                Ok(Some(frame)) if frame.data.len() <= self.config.max_frame => {
                    waiting.data.clear();
                    waiting.data.extend_from_slice(frame.data);
                    waiting.timestamp = frame.timestamp;
                    waiting.keyframe = frame.keyframe && needs.keyframe;
                    waiting.temporal_id = frame.temporal_id.max(needs.info.temporal_id);
                    waiting.spatial_id = frame.spatial_id;
                    whole = true;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        if !whole {
            self.spare.push(waiting);
            self.stats.corrupt += 1;
            self.references.broken();
            self.keyframe.want();
            return false;
        }
        self.references.decoded(&needs, self.contiguous);
        self.stats.frames += 1;
        if waiting.keyframe {
            self.stats.keyframes += 1;
            self.keyframe.satisfied();
        }
        if self.waiting.len() >= self.config.max_waiting {
            // Nobody fetches them, and what follows needs what is dropped.
            self.stats.overflow += self.waiting.len() as u64 + 1;
            self.spare.extend(self.waiting.drain(..));
            self.spare.push(waiting);
            self.references.broken();
            self.keyframe.want();
            return false;
        }
        self.waiting.push_back(waiting);
        true
    }
}
