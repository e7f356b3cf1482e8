//! A published track: its encodings as they come, and who wants them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use visavis_media::forward::{MAX_ENCODINGS, inspect};
use visavis_media::receive::{KeyframeRequester, KeyframeRequesterConfig};
use visavis_peer::TransceiverId;
use visavis_rtp::extension::{AudioLevel, DependencyStructure};
use visavis_rtp::payload::{Codec, PayloadInfo};
use visavis_rtp::rtcp::SenderInfo;
use visavis_rtp::{ExtensionKind, ExtensionMap, Packet, SequenceExtender};

use super::history::History;
use super::rates::LayerRates;
use super::speakers::Level;
use super::timers::Alarm;
use crate::config::{Forwarding, Limits};
use crate::ids::{ParticipantId, RoomId, TrackId, WorkerIndex};
use crate::options::PublishOptions;
use crate::tap::Tap;

/// Codecs in which one track can come.
pub(super) const MAX_VARIANTS: usize = 4;

/// A published track, or the image of another worker's.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) id: TrackId,
    /// The worker that has it, this one unless it is an image; as far as is known there.
    pub(super) home: WorkerIndex,
    /// How often it had moved when that was known.
    pub(super) moves: u32,
    pub(super) room: RoomId,
    pub(super) participant: ParticipantId,
    pub(super) options: PublishOptions,
    pub(super) muted: bool,
    /// One for each codec in which it comes.
    pub(super) variants: SmallVec<[Variant; 1]>,
    /// Connection and subscription of everybody who gets it.
    pub(super) subscribers: Vec<(usize, usize)>,
    /// Workers that have an image of it. Images have none.
    pub(super) followers: SmallVec<[Follower; 2]>,
    pub(super) taps: Vec<Tap>,
    pub(super) level: Level,
    /// What is wanted of it (dynacast), as it was told last.
    pub(super) wanted: Wanted,
    pub(super) alarm: Alarm,
}

/// A worker that has an image of a track.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follower {
    pub(super) worker: WorkerIndex,
    /// Somebody there wants the layers below this number.
    pub(super) wants: u8,
}

/// Which layers somebody wants.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// Layers below this number, as was told; `None` before anything was.
    pub(super) told: Option<u8>,
    /// Fewer than that are wanted since then.
    pub(super) fewer_since: Option<Instant>,
}

/// A track in one codec.
#[derive(Debug)]
pub(super) struct Variant {
    /// The connection and the receiver that it comes from; `None` for an image.
    pub(super) feed: Option<(usize, TransceiverId)>,
    /// Counts changes of what subscribers must know.
    pub(super) generation: u32,
    pub(super) codec: Option<VariantCodec>,
    /// The header extensions' numbers in its packets.
    pub(super) extensions: ExtensionMap,
    /// Names of the encodings in the order of the peer's description.
    pub(super) rids: Vec<String>,
    /// The encoding that each of them is, 0 the lowest.
    pub(super) order: SmallVec<[u8; MAX_ENCODINGS]>,
    pub(super) encodings: [Option<Box<Encoding>>; MAX_ENCODINGS],
}

/// What the packets of a variant hold.
#[derive(Debug, Clone)]
pub(super) struct VariantCodec {
    pub(super) peer: visavis_peer::Codec,
    pub(super) codec: Codec,
    pub(super) payload_type: u8,
    /// The payload type of the same within RED.
    pub(super) red: Option<u8>,
    pub(super) name: Arc<str>,
}

/// One encoding of a variant.
#[derive(Debug)]
pub(super) struct Encoding {
    pub(super) rid: String,
    pub(super) ssrc: u32,
    pub(super) extender: SequenceExtender,
    pub(super) history: History,
    pub(super) rates: LayerRates,
    pub(super) keyframe: KeyframeRequester,
    structure: Option<Box<DependencyStructure>>,
    pub(super) report: Option<SenderInfo>,
    pub(super) packets: u64,
    pub(super) last_packet: Instant,
}

/// An encoding that is silent for so long is not being sent.
pub(super) const SILENCE: Duration = Duration::from_millis(1500);

impl Track {
    pub(super) fn new(
        id: TrackId,
        home: WorkerIndex,
        room: RoomId,
        participant: ParticipantId,
        options: PublishOptions,
    ) -> Self {
        Self {
            id,
            home,
            moves: 0,
            room,
            participant,
            muted: options.muted,
            options,
            variants: SmallVec::new(),
            subscribers: Vec::new(),
            followers: SmallVec::new(),
            taps: Vec::new(),
            level: Level::default(),
            wanted: Wanted::default(),
            alarm: Alarm::default(),
        }
    }

    /// The workers that have to know what becomes of it: its followers, and the one that it was born on.
    pub(super) fn interested(&self) -> impl Iterator<Item = WorkerIndex> + '_ {
        let born = self.id.worker();
        let others = self.followers.iter().map(|found| found.worker);
        std::iter::once(born).chain(others.filter(move |&found| found != born))
    }

    /// What goes to another worker when the track does; what stays is an image. Histories stay, for those who get it here.
    pub(super) fn depart(&mut self, to: WorkerIndex, limits: &Limits) -> Self {
        self.moves += 1;
        self.home = to;
        let (room, participant) = (self.room, self.participant);
        let departing = |variant: &mut Variant| variant.depart(limits);
        Self {
            muted: self.muted,
            moves: self.moves,
            variants: self.variants.iter_mut().map(departing).collect(),
            followers: std::mem::take(&mut self.followers),
            taps: std::mem::take(&mut self.taps),
            level: std::mem::take(&mut self.level),
            wanted: std::mem::take(&mut self.wanted),
            ..Self::new(self.id, to, room, participant, self.options.clone())
        }
    }

    /// The image becomes the track. Those who get it here go on with the histories from which they are served.
    pub(super) fn arrive(&mut self, mut track: Self) {
        for (image, variant) in self.variants.iter_mut().zip(&mut track.variants) {
            if image.generation == variant.generation {
                variant.keep_histories(image);
            }
        }
        track.subscribers = std::mem::take(&mut self.subscribers);
        track.alarm = self.alarm;
        *self = track;
    }

    /// How many layers the track may have: those that were announced, or that were seen.
    pub(super) fn layers(&self) -> usize {
        let seen = self.variants.iter().map(Variant::layers).max();
        self.options.layers.len().max(seen.unwrap_or(0)).max(1)
    }
}

impl Variant {
    pub(super) fn new(
        feed: Option<(usize, TransceiverId)>,
        rids: Vec<String>,
        options: &PublishOptions,
        extensions: ExtensionMap,
    ) -> Self {
        let order = order(&rids, &options.rids);
        Self {
            feed,
            generation: 0,
            codec: None,
            extensions,
            rids,
            order,
            encodings: Default::default(),
        }
    }

    fn depart(&mut self, limits: &Limits) -> Self {
        let depart = |encoding: &Option<Box<Encoding>>| {
            let encoding = encoding.as_ref()?;
            Some(Box::new(encoding.without_history(limits)))
        };
        Self {
            feed: self.feed.take(),
            generation: self.generation,
            codec: self.codec.clone(),
            extensions: self.extensions.clone(),
            rids: self.rids.clone(),
            order: self.order.clone(),
            encodings: std::array::from_fn(|at| depart(&self.encodings[at])),
        }
    }

    fn keep_histories(&mut self, image: &mut Self) {
        for (own, image) in self.encodings.iter_mut().zip(&mut image.encodings) {
            if let (Some(own), Some(image)) = (own, image)
                && own.ssrc == image.ssrc
            {
                std::mem::swap(&mut own.history, &mut image.history);
            }
        }
    }

    /// The encoding of a rid of the peer's description.
    pub(super) fn encoding_of(&self, rid: Option<usize>) -> u8 {
        rid.and_then(|rid| self.order.get(rid).copied())
            .unwrap_or(0)
    }

    /// The rid of an encoding.
    pub(super) fn rid_of(&self, encoding: u8) -> &str {
        let at = self.order.iter().position(|&found| found == encoding);
        at.and_then(|at| self.rids.get(at))
            .map_or("", String::as_str)
    }

    pub(super) fn encoding(&self, encoding: u8) -> Option<&Encoding> {
        self.encodings.get(usize::from(encoding))?.as_deref()
    }

    pub(super) fn encoding_mut(&mut self, encoding: u8) -> Option<&mut Encoding> {
        self.encodings
            .get_mut(usize::from(encoding))?
            .as_deref_mut()
    }

    /// Layers that were seen: simulcast encodings, or spatial layers of the only one.
    fn layers(&self) -> usize {
        let highest = self
            .encodings
            .iter()
            .rposition(Option::is_some)
            .unwrap_or(0);
        match (highest, &self.encodings[0]) {
            (0, Some(only)) => usize::from(only.rates.max_spatial()) + 1,
            (highest, _) => highest + 1,
        }
    }

    /// Whether its layers are spatial layers of one encoding rather than encodings.
    pub(super) fn is_svc(&self) -> bool {
        self.encodings[1..].iter().all(Option::is_none)
            && self.encodings[0]
                .as_ref()
                .is_some_and(|encoding| encoding.rates.max_spatial() > 0)
    }
}

/// The order of encodings from the lowest: as the publisher says, or by the usual names, or as described.
fn order(rids: &[String], told: &[String]) -> SmallVec<[u8; MAX_ENCODINGS]> {
    let known = ["q", "h", "f"].map(str::to_owned);
    let names: &[String] = if !told.is_empty() { told } else { &known };
    let all_known = rids.iter().all(|rid| names.contains(rid));
    let mut order: SmallVec<[u8; MAX_ENCODINGS]> = SmallVec::new();
    for (index, rid) in rids.iter().enumerate().take(MAX_ENCODINGS) {
        let at = names.iter().position(|name| name == rid);
        // Names that stand for nothing here: those below in the description are below in size.
        let at = at.filter(|_| all_known).unwrap_or(index);
        order.push(at.min(MAX_ENCODINGS - 1) as u8);
    }
    // Without gaps: `h` alone is the lowest.
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    for place in &mut order {
        *place = sorted.iter().position(|found| found == place).unwrap_or(0) as u8;
    }
    order
}

impl Encoding {
    pub(super) fn new(
        now: Instant,
        rid: &str,
        ssrc: u32,
        limits: &Limits,
        forwarding: &Forwarding,
    ) -> Self {
        Self {
            rid: rid.into(),
            ssrc,
            extender: SequenceExtender::new(),
            history: History::new(limits.history, limits.history_bytes),
            rates: LayerRates::new(now),
            keyframe: KeyframeRequester::new(KeyframeRequesterConfig {
                min_interval: forwarding.keyframe_interval,
                max_interval: forwarding.keyframe_interval * 4,
                fir: false,
            }),
            structure: None,
            report: None,
            packets: 0,
            last_packet: now,
        }
    }

    /// The same as it goes on at another worker, where nobody has got anything of it yet.
    fn without_history(&self, limits: &Limits) -> Self {
        Self {
            rid: self.rid.clone(),
            ssrc: self.ssrc,
            extender: self.extender,
            history: History::new(limits.history, limits.history_bytes),
            rates: self.rates.clone(),
            keyframe: self.keyframe.clone(),
            structure: self.structure.clone(),
            report: self.report,
            packets: self.packets,
            last_packet: self.last_packet,
        }
    }

    pub(super) fn is_flowing(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_packet) < SILENCE
    }

    /// Reads what forwarding needs to know of a packet; `None` if it is malformed.
    pub(super) fn inspect(
        &mut self,
        packet: &Packet<'_>,
        codec: Codec,
        is_red: bool,
        extensions: &ExtensionMap,
    ) -> Option<PayloadInfo> {
        if packet.payload().is_empty() {
            // Padding, for probing: it is left out as if of a layer that nobody has.
            return Some(PayloadInfo {
                temporal_id: u8::MAX,
                ..PayloadInfo::default()
            });
        }
        let codec = if is_red { Codec::Opus } else { codec };
        let descriptor = packet.extension_bytes(extensions, ExtensionKind::DependencyDescriptor);
        inspect(codec, packet.payload(), descriptor, &mut self.structure).ok()
    }
}

/// The level that a packet's sender measured.
pub(super) fn audio_level(packet: &Packet<'_>, extensions: &ExtensionMap) -> Option<AudioLevel> {
    packet.extension(extensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn encodings_are_ordered_by_their_names_or_as_described() {
        assert_eq!(order(&names(&["f", "h", "q"]), &[])[..], [2, 1, 0]);
        assert_eq!(order(&names(&["h", "f"]), &[])[..], [0, 1]);
        assert_eq!(order(&names(&["1", "0"]), &[])[..], [0, 1]);
        let told = names(&["0", "1"]);
        assert_eq!(order(&names(&["1", "0"]), &told)[..], [1, 0]);
        assert!(order(&[], &[]).is_empty());
    }
}
