//! What Chromium and Firefox sent goes through receivers and forwarders, and comes out as streams that
//! ffmpeg decodes without a complaint: over losses, and over every switch of layers.
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

#[path = "../../rtp/tests/recordings/mod.rs"]
mod recordings;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use recordings::{Encoded, Folder, Recording, all, decode, has_ffmpeg};
use visavis_media::forward::{
    Decision, ForwardStats, Forwarder, ForwarderConfig, LayerTarget, SourcePacket, inspect,
};
use visavis_media::receive::{VideoReceiver, VideoReceiverConfig, VideoStats};
use visavis_rtp::extension::DependencyStructure;
use visavis_rtp::payload::Codec;
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::{ExtensionKind, Packet, PayloadType, SequenceNumber, Ssrc};

fn video_codec(recording: &Recording) -> Option<(PayloadType, Codec)> {
    recording.codecs.keys().find_map(|&number| {
        let payload_type = PayloadType::new(number)?;
        let codec = recording.codec(payload_type)?;
        (codec.is_video() && codec.depacketizer().is_some()).then_some((payload_type, codec))
    })
}

fn receiver(recording: &Recording, ssrc: Ssrc) -> (VideoReceiver, Codec) {
    let (payload_type, codec) = video_codec(recording).unwrap();
    let receiver = VideoReceiver::new(VideoReceiverConfig {
        extensions: recording.extensions.clone(),
        ulpfec: recording.payload_type("ulpfec"),
        flexfec: recording.payload_type("flexfec-03").is_some(),
        ..VideoReceiverConfig::new(ssrc, codec, payload_type)
    });
    (receiver.unwrap(), codec)
}

fn fetch(receiver: &mut VideoReceiver, now: Instant, frames: &mut Vec<Encoded>) {
    receiver.handle_timeout(now);
    while let Some(frame) = receiver.take_frame(now) {
        frames.push((frame.timestamp, frame.data.to_vec()));
    }
}

#[test]
fn each_stream_is_received_whole() {
    let has_ffmpeg = has_ffmpeg();
    let folder = Folder::new("received");
    for recording in all() {
        let name = &recording.name;
        // Parity's recordings are in the next test.
        if video_codec(&recording).is_none() || name.contains("fec") {
            continue;
        }
        for (ssrc, packets) in recording.sources() {
            let (mut receiver, codec) = receiver(&recording, ssrc);
            let start = Instant::now();
            let mut frames = Vec::new();
            for (at, bytes) in packets.values() {
                let now = start + Duration::from_millis((*at).into());
                receiver.handle_packet(now, &Packet::parse(bytes).unwrap());
                fetch(&mut receiver, now, &mut frames);
            }
            let stats = receiver.stats();
            // A picture whose beginning came before the recording is none.
            assert!(stats.undecodable <= 2, "{name}: {stats:?}");
            assert_eq!(
                (stats.corrupt, stats.malformed),
                (0, 0),
                "{name}: {stats:?}"
            );
            assert!(
                frames.len() >= 15,
                "{name}: {} frames, {stats:?}",
                frames.len()
            );
            if has_ffmpeg {
                let pictures = decode(&folder, &format!("{name}-{}", ssrc.0), codec, &frames);
                assert!(pictures.len() >= frames.len(), "{name}");
            }
        }
    }
}

/// Every third media packet is lost, and parity brings back what it protects alone.
#[test]
fn chromium_s_parity_fills_gaps() {
    for name in ["chromium_vp8_ulpfec", "chromium_vp8_flexfec"] {
        let recording = Recording::read(name);
        let (media_type, _) = video_codec(&recording).unwrap();
        let [red, flexfec] = ["red", "flexfec-03"].map(|codec| recording.payload_type(codec));
        let is_media = |packet: &Packet<'_>| match packet.payload_type() {
            this if Some(this) == red => {
                let block = RedBlocks::parse(packet.payload()).unwrap().primary();
                block.is_some_and(|block| block.payload_type == media_type)
            }
            this => this == media_type,
        };
        let first = recording.rtp().find_map(|(_, bytes)| {
            let packet = Packet::parse(bytes).unwrap();
            is_media(&packet).then(|| packet.ssrc())
        });
        let (mut receiver, _) = receiver(&recording, first.unwrap());
        let start = Instant::now();
        let (mut count, mut lost) = (0, 0);
        for (at, bytes) in recording.rtp() {
            let now = start + Duration::from_millis(at.into());
            let packet = Packet::parse(bytes).unwrap();
            if is_media(&packet) {
                count += 1;
                if count % 3 == 0 {
                    lost += 1;
                    continue;
                }
            }
            match packet.payload_type() {
                this if Some(this) == red => receiver.handle_red(now, &packet),
                this if Some(this) == flexfec => receiver.handle_flexfec(now, &packet),
                _ => receiver.handle_packet(now, &packet),
            }
            receiver.handle_timeout(now);
        }
        let stats = receiver.stats();
        assert!(
            stats.recovered >= lost / 2 && stats.recovered > 3,
            "{name}: {lost} lost, {stats:?}"
        );
        assert_eq!(
            (stats.corrupt, stats.malformed),
            (0, 0),
            "{name}: {stats:?}"
        );
    }
}

/// What a forwarded stream became.
struct Forwarded {
    frames: Vec<Encoded>,
    stats: ForwardStats,
    received: VideoStats,
    keyframe_requests: u64,
    /// The size of each picture, if ffmpeg is here.
    sizes: Vec<(u32, u32)>,
}

/// How the packets of a recording are described to the forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Payloads and descriptors.
    Both,
    /// Descriptors alone: payloads are as if encrypted.
    Descriptors,
    /// Payloads alone.
    Payloads,
}

/// Sends a recording through a forwarder whose target is `target` at each time in milliseconds.
fn forward(
    recording: &Recording,
    by: By,
    with_descriptors: bool,
    target: impl Fn(u32) -> LayerTarget,
) -> Forwarded {
    let name = &recording.name;
    let (payload_type, codec) = video_codec(recording).unwrap();
    let mut extensions = recording.extensions.clone();
    if !with_descriptors {
        extensions.remove(ExtensionKind::DependencyDescriptor);
    }
    let config = ForwarderConfig {
        codec,
        clock_rate: 90_000,
        ssrc: Ssrc(77),
        payload_type,
        mid: None,
        rid: None,
        extensions: extensions.clone(),
        history: 512,
    };
    let mut forwarder = Forwarder::new(config, SequenceNumber(65_500));
    let mut receiver = VideoReceiver::new(VideoReceiverConfig {
        extensions,
        ..VideoReceiverConfig::new(Ssrc(77), codec, payload_type)
    })
    .unwrap();
    let mut rids: Vec<&str> = recording.rids.values().map(|rid| &rid[..]).collect();
    rids.sort_by_key(|rid| "qhf".find(rid));
    let encoding_of = |ssrc: Ssrc| {
        let rid = recording.rids.get(&ssrc.0);
        rid.map_or(0, |rid| rids.iter().position(|it| it == rid).unwrap() as u8)
    };
    let mut structures: BTreeMap<Ssrc, Option<Box<DependencyStructure>>> = BTreeMap::new();
    let mut extenders: BTreeMap<Ssrc, visavis_rtp::SequenceExtender> = BTreeMap::new();
    let start = Instant::now();
    let mut frames = Vec::new();
    let mut expected = None::<u16>;
    for (at, bytes) in recording.rtp() {
        let now = start + Duration::from_millis(at.into());
        forwarder.set_target(Some(target(at)));
        let packet = Packet::parse(bytes).unwrap();
        let ssrc = packet.ssrc();
        let sequence = extenders.entry(ssrc).or_default().extend(packet.sequence());
        let structure = structures.entry(ssrc).or_default();
        let kind = ExtensionKind::DependencyDescriptor;
        let descriptor = packet.extension_bytes(&recording.extensions, kind);
        let info = match by {
            By::Both => inspect(codec, packet.payload(), descriptor, structure),
            By::Payloads => inspect(codec, packet.payload(), None, structure),
            By::Descriptors => inspect(codec, &[], descriptor, structure),
        };
        let Ok(info) = info else {
            // Before the first structure.
            continue;
        };
        let source = SourcePacket {
            encoding: encoding_of(ssrc),
            sequence,
            header: packet.header(),
            info: &info,
        };
        let mut out = [0; 1500];
        let len = match forwarder.handle_packet(now, &source) {
            Decision::Forward(rewrite) => {
                forwarder.write(&packet, &recording.extensions, &rewrite, &mut out)
            }
            Decision::Fill(rewrite) => forwarder.write_empty(&rewrite, &mut out),
            Decision::Drop => continue,
        }
        .unwrap();
        let packet = Packet::parse(&out[..len]).unwrap();
        let sequence = packet.sequence().0;
        assert!(
            expected.is_none_or(|expected| expected == sequence),
            "{name}: a gap"
        );
        expected = Some(sequence.wrapping_add(1));
        receiver.handle_packet(now, &packet);
        fetch(&mut receiver, now, &mut frames);
    }
    for pair in frames.windows(2) {
        let step = pair[1].0.wrapping_sub(pair[0].0) as i32;
        // Adaptation of the encoder leaves pictures out now and then; a second is a break.
        assert!(
            (0..90_000).contains(&step),
            "{name}: {step} ticks between two pictures"
        );
    }
    let sizes = if has_ffmpeg() {
        let folder = Folder::new(&format!("forwarded-{name}-{by:?}-{with_descriptors}"));
        decode(&folder, name, codec, &frames)
    } else {
        Vec::new()
    };
    Forwarded {
        stats: *forwarder.stats(),
        received: *receiver.stats(),
        keyframe_requests: receiver.keyframe_requests(),
        frames,
        sizes,
    }
}

impl Forwarded {
    fn check(&self, what: &str, least: usize) {
        let Self {
            received,
            sizes,
            frames,
            ..
        } = self;
        assert_eq!(
            (received.undecodable, received.skips),
            (0, 0),
            "{what}: {received:?}"
        );
        assert_eq!(
            (received.corrupt, received.malformed),
            (0, 0),
            "{what}: {received:?}"
        );
        assert_eq!(self.keyframe_requests, 0, "{what}");
        assert!(frames.len() >= least, "{what}: {} frames", frames.len());
        // Of two IDR pictures of the same moment, out of either encoding, ffmpeg shows one.
        let shown = sizes.len() + self.stats.switches as usize;
        assert!(
            sizes.is_empty() || shown >= frames.len(),
            "{what}: {} pictures of {}",
            sizes.len(),
            frames.len()
        );
    }

    fn distinct_sizes(&self) -> Vec<(u32, u32)> {
        let mut sizes = self.sizes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

/// Up and down between encodings, and temporal layers within them.
#[test]
fn simulcast_is_switched_without_a_visible_break() {
    for name in [
        "chromium_vp8_simulcast",
        "chromium_h264_simulcast",
        "firefox_vp8_simulcast",
    ] {
        let recording = Recording::read(name);
        let target = |at: u32| LayerTarget {
            encoding: [0, 2, 1, 0, 2][(at / 500) as usize % 5],
            spatial_id: 0,
            temporal_id: [2, 2, 0, 1][(at / 300) as usize % 4],
        };
        for by in [By::Both, By::Payloads] {
            for with_descriptors in [false, true] {
                let what = format!("{name} by {by:?}, descriptors {with_descriptors}");
                let forwarded = forward(&recording, by, with_descriptors, target);
                forwarded.check(&what, 12);
                assert!(
                    forwarded.stats.switches >= 3,
                    "{what}: {:?}",
                    forwarded.stats
                );
                let sizes = forwarded.distinct_sizes();
                assert!(
                    forwarded.sizes.is_empty() || sizes.len() >= 2,
                    "{what}: {sizes:?}"
                );
            }
        }
    }
}

/// Whoever cannot read payloads chooses layers by descriptors: same packets, same bytes.
#[test]
fn encrypted_payloads_are_switched_by_descriptors() {
    for name in [
        "chromium_vp8_simulcast",
        "chromium_h264_simulcast",
        "chromium_vp9_l3t3_key",
        "chromium_av1_l3t3",
        "chromium_av1_l2t2_key",
        "chromium_av1_s2t1",
        "firefox_vp8_simulcast",
    ] {
        let recording = Recording::read(name);
        let target = |at: u32| LayerTarget {
            encoding: if recording.rids.is_empty() {
                0
            } else {
                (at / 700 % 3) as u8
            },
            spatial_id: if recording.rids.is_empty() {
                (at / 600 % 3) as u8
            } else {
                0
            },
            temporal_id: 2,
        };
        let open = forward(&recording, By::Both, true, target);
        let closed = forward(&recording, By::Descriptors, true, target);
        assert!(closed.stats.forwarded > 20, "{name}: {:?}", closed.stats);
        assert_eq!(closed.stats, open.stats, "{name}");
        assert_eq!(closed.frames.len(), open.frames.len(), "{name}");
        closed.check(name, 12);
    }
}

/// Spatial and temporal layers of one stream: down at any picture, up with the key pictures that were
/// asked for twice a second. (Of these recordings most have one spatial layer: Chromium had no bit rate
/// for more. `forwarding.rs` has three.)
#[test]
fn layers_of_one_stream_are_left_out_and_taken_up() {
    for (name, spatial) in [
        ("chromium_vp9_l3t3_key", 3),
        ("chromium_av1_l3t3", 3),
        ("chromium_av1_l2t2_key", 2),
    ] {
        let recording = Recording::read(name);
        let everything = |_| LayerTarget {
            encoding: 0,
            spatial_id: spatial as u8 - 1,
            temporal_id: 2,
        };
        // Each layer is there: taken up to each, pictures are of different sizes.
        let sizes: Vec<_> = (0..spatial as u8)
            .filter_map(|spatial_id| {
                let target = |at| LayerTarget {
                    spatial_id,
                    ..everything(at)
                };
                let forwarded = forward(&recording, By::Both, true, target);
                forwarded.check(&format!("{name} up to {spatial_id}"), 8);
                forwarded.sizes.iter().max().copied()
            })
            .collect();
        assert!(sizes.is_sorted_by(|a, b| a < b), "{name}: {sizes:?}");
        let target = |at: u32| LayerTarget {
            encoding: 0,
            spatial_id: (at / 600 % spatial) as u8,
            temporal_id: [2, 0, 1][(at / 450) as usize % 3],
        };
        for with_descriptors in [false, true] {
            let what = format!("{name}, descriptors {with_descriptors}");
            let forwarded = forward(&recording, By::Both, with_descriptors, target);
            forwarded.check(&what, 12);
            assert!(
                forwarded.stats.left_out > 5,
                "{what}: {:?}",
                forwarded.stats
            );
        }
        if name.contains("vp9") {
            let forwarded = forward(&recording, By::Payloads, false, target);
            forwarded.check("vp9 by its payload descriptors", 12);
        }
        // The lowest layer alone is a stream of its own.
        let lowest = |_| LayerTarget {
            encoding: 0,
            spatial_id: 0,
            temporal_id: 0,
        };
        let forwarded = forward(&recording, By::Both, true, lowest);
        forwarded.check(name, 5);
    }
}
