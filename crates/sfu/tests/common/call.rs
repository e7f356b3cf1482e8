//! A call in which the publisher's camera or microphone rests, for a recording to be sent in its place.

#[allow(clippy::print_stdout, reason = "the recordings' skipped tests say why")]
#[path = "../../../rtp/tests/recordings/mod.rs"]
mod recordings;

use std::time::Duration;

use visavis_media::forward::inspect;
use visavis_peer::{Kind, TransceiverId};
use visavis_rtp::extension::DependencyStructure;
use visavis_rtp::payload::{Codec, PayloadInfo};
use visavis_rtp::{ExtensionKind, ExtensionMap, Packet};
use visavis_sfu::{Bitrates, Forwarding, LayerSize, Limits, PublishOptions, SubscriptionId, Wish};

pub(crate) use self::recordings::Recording;
use crate::common::{Lab, Member, Replayed, VIEWER, Wants, wide};

/// One publisher, at the first worker, and viewers.
pub(crate) struct Call {
    pub(crate) lab: Lab,
    pub(crate) alice: Member,
    pub(crate) viewers: Vec<(Member, SubscriptionId)>,
    /// What each viewer was told of the layers last.
    structures: Vec<Option<Box<DependencyStructure>>>,
}

pub(crate) fn section(lab: &mut Lab, member: Member, kind: Kind) -> TransceiverId {
    let transceivers = lab.client(member).pc.transceivers();
    transceivers.iter().find(|t| t.kind == kind).unwrap().id
}

impl Call {
    /// What is published in `layers` layers goes to viewers, of whom each is at one of the workers and takes the codecs of these
    /// names, or all.
    pub(crate) fn new(
        seed: u64,
        workers: u16,
        publisher: Wants,
        (kind, layers): (Kind, usize),
        viewers: &[(u16, &[&str])],
    ) -> Self {
        // Layers are the matter here, not the estimate.
        let forwarding = Forwarding {
            bitrate: Bitrates {
                start: 8_000_000,
                ..Forwarding::default().bitrate
            },
            ..Forwarding::default()
        };
        let mut lab = Lab::with(seed, workers, Limits::default(), forwarding);
        let alice = lab.join(0, 1, wide(5), publisher);
        let members = viewers.iter().map(|&(worker, names)| {
            let viewer = lab.join(worker, 1, wide(5), VIEWER);
            if !names.is_empty() {
                let id = section(&mut lab, viewer, kind);
                lab.client(viewer).prefer(id, names);
            }
            viewer
        });
        let members: Vec<Member> = members.collect();
        let mut all = members.clone();
        all.push(alice);
        crate::common::stage::come_up(&mut lab, &all);
        lab.client(alice).sending.clear();
        let id = section(&mut lab, alice, kind);
        let mid = lab.client(alice).pc.transceiver(id).unwrap().mid.clone();
        let sizes = [(320, 180), (640, 360), (1280, 720)].map(|(width, height)| LayerSize {
            width,
            height,
            bitrate: 0,
        });
        let options = PublishOptions {
            layers: sizes[3 - layers..].to_vec(),
            ..PublishOptions::default()
        };
        let now = lab.now();
        let worker = lab.worker(alice.connection);
        let track = worker.publish(now, alice.connection, &mid.unwrap(), options);
        let track = track.unwrap();
        let viewers = members
            .iter()
            .map(|&viewer| {
                lab.client(viewer).packets = Some(Vec::new());
                let subscription = lab.subscribe(viewer, track);
                lab.negotiate(viewer);
                (viewer, subscription)
            })
            .collect();
        Self {
            lab,
            alice,
            structures: vec![None; members.len()],
            viewers,
        }
    }

    /// Lets the publisher send one source of a recording from its first key frame on.
    pub(crate) fn replay(&mut self, recording: &Recording, codec: Codec, name: &'static str) {
        let transceiver = section(&mut self.lab, self.alice, Kind::Video);
        let start = self.lab.now() + Duration::from_millis(10);
        let sources = recording.sources();
        let longest = sources
            .values()
            .max_by_key(|packets| packets.len())
            .unwrap();
        let mut structure = None;
        let mut first = None;
        for (at, bytes) in longest.values() {
            let packet = Packet::parse(bytes).unwrap();
            let kind = ExtensionKind::DependencyDescriptor;
            let descriptor = packet.extension_bytes(&recording.extensions, kind);
            let info = inspect(codec, packet.payload(), descriptor, &mut structure);
            if first.is_none() && !info.is_ok_and(|info| info.keyframe && info.start_of_frame) {
                continue;
            }
            let first = *first.get_or_insert(*at);
            let client = self.lab.client(self.alice);
            client.replay.push_back(Replayed {
                at: start + Duration::from_millis((at - first).into()),
                transceiver,
                codec: name,
                marker: packet.marker(),
                sequence: packet.sequence().0,
                timestamp: packet.timestamp(),
                descriptor: descriptor.map(<[u8]>::to_vec),
                payload: packet.payload().to_vec(),
            });
        }
    }

    /// Lets the publisher send so many sounds, of 20 ms each, redundantly (RFC 2198 section 3: a block of 20 ms ago with its
    /// offset and length, and the primary one) or not. Blocks hold their number: three times the former, five times the
    /// primary one.
    pub(crate) fn sound(&mut self, numbers: std::ops::Range<u16>, is_red: bool) {
        let transceiver = section(&mut self.lab, self.alice, Kind::Audio);
        let start = self.lab.now();
        let first = numbers.start;
        let client = self.lab.client(self.alice);
        let codecs = &client.pc.transceiver(transceiver).unwrap().sender.codecs;
        let opus = codecs.iter().find(|codec| codec.is("opus"));
        let opus = opus.unwrap().payload_type;
        for number in numbers {
            let mut payload = Vec::new();
            if is_red {
                let (high, low) = ((960 >> 6) as u8, ((960 & 0x3f) << 2) as u8);
                payload.extend_from_slice(&[0x80 | opus, high, low, 3, opus]);
                payload.extend_from_slice(&[number.wrapping_sub(1) as u8; 3]);
            }
            payload.extend_from_slice(&[number as u8; 5]);
            client.replay.push_back(Replayed {
                at: start + Duration::from_millis(20) * (number - first).into(),
                transceiver,
                codec: if is_red { "red" } else { "opus" },
                marker: false,
                sequence: number,
                timestamp: 960 * u32::from(number),
                descriptor: None,
                payload,
            });
        }
    }

    pub(crate) fn wish(&mut self, viewer: usize, wish: Wish) {
        let now = self.lab.now();
        let (viewer, subscription) = self.viewers[viewer];
        let worker = self.lab.worker(viewer.connection);
        worker.set_subscription(now, subscription, wish);
    }

    /// What a viewer got since it was asked last.
    pub(crate) fn packets(&mut self, viewer: usize) -> Vec<Vec<u8>> {
        let client = self.lab.client(self.viewers[viewer].0);
        let packets = std::mem::take(client.packets.as_mut().unwrap());
        packets.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// The payload type under which a viewer takes a codec.
    pub(crate) fn payload_type(&mut self, viewer: usize, kind: Kind, name: &str) -> Option<u8> {
        let viewer = self.viewers[viewer].0;
        let id = section(&mut self.lab, viewer, kind);
        let transceiver = self.lab.client(viewer).pc.transceiver(id).unwrap();
        let mut codecs = transceiver.receiver.codecs.iter();
        Some(codecs.find(|codec| codec.is(name))?.payload_type)
    }

    /// What a viewer got of pictures since it was asked last: of each packet, what it says of itself.
    pub(crate) fn got(&mut self, viewer: usize, codec: Codec) -> Vec<PayloadInfo> {
        let packets = self.packets(viewer);
        let structure = &mut self.structures[viewer];
        let viewer = self.viewers[viewer].0;
        let id = section(&mut self.lab, viewer, Kind::Video);
        let client = self.lab.client(viewer);
        let mut extensions = ExtensionMap::new();
        for extension in &client.pc.transceiver(id).unwrap().receiver.extensions {
            if let Some(kind) = ExtensionKind::from_uri(&extension.uri) {
                let _ = extensions.insert(extension.id, kind);
            }
        }
        let infos = packets.iter().filter_map(|bytes| {
            let packet = Packet::parse(bytes).ok()?;
            let kind = ExtensionKind::DependencyDescriptor;
            let descriptor = packet.extension_bytes(&extensions, kind);
            assert!(descriptor.is_some(), "descriptors go on");
            inspect(codec, packet.payload(), descriptor, structure).ok()
        });
        infos.collect()
    }

    pub(crate) fn gaps(&mut self, viewer: usize, kind: Kind) -> u64 {
        let viewer = self.viewers[viewer].0;
        let id = section(&mut self.lab, viewer, kind);
        self.lab.client(viewer).arrived[&id].gaps()
    }
}

/// The highest spatial and temporal layers.
pub(crate) fn highest(infos: &[PayloadInfo]) -> (u8, u8) {
    let spatial = infos.iter().map(|info| info.spatial_id).max();
    let temporal = infos.iter().map(|info| info.temporal_id).max();
    (spatial.unwrap_or(0), temporal.unwrap_or(0))
}

/// No more than so many lines.
pub(crate) fn lines(height: u32) -> Wish {
    Wish {
        max_width: height * 16 / 9,
        max_height: height,
        ..Wish::default()
    }
}
