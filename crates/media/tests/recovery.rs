//! A sender, a bad link and a receiver: what arrives is what was sent, and a break is mended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use visavis_datagram::Random;
use visavis_media::receive::{AudioReceiver, AudioReceiverConfig};
use visavis_media::receive::{
    Feedback, KeyframeRequest, Playout, VideoReceiver, VideoReceiverConfig,
};
use visavis_media::send::{
    FecKind, FecSender, FecSenderConfig, FrameMeta, RedSender, RtxConfig, ScalabilityMode,
    SendStream, SendStreamConfig, SvcDescriptor, wrap_in_red,
};
use visavis_rtp::payload::{Codec, FrameParams};
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Header, Packet, PacketWriter, PayloadType, SequenceNumber, Ssrc,
};

const MEDIA: Ssrc = Ssrc(100);
const RTX: Ssrc = Ssrc(101);
const FEC: Ssrc = Ssrc(102);

fn pt(value: u8) -> PayloadType {
    PayloadType::new(value).unwrap()
}

/// What a run of the simulation does.
#[derive(Clone)]
struct Scenario {
    codec: Codec,
    loss: f64,
    jitter_ms: u64,
    duplicate: f64,
    one_way_ms: u64,
    nack: bool,
    fec: bool,
    /// Parity as ULPFEC inside RED, rather than FlexFEC.
    ulpfec: bool,
    /// Temporal layers by the codec's own numbers (VP8), or by dependency descriptors.
    mode: Option<ScalabilityMode>,
    frames: u32,
    seed: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            codec: Codec::Vp8,
            loss: 0.0,
            jitter_ms: 0,
            duplicate: 0.0,
            one_way_ms: 25,
            nack: true,
            fec: false,
            ulpfec: false,
            mode: None,
            frames: 600,
            seed: 1,
        }
    }
}

#[derive(Debug, Default)]
struct Outcome {
    received: u32,
    keyframe_requests: u64,
    retransmitted: u64,
    recovered: u64,
    skips: u64,
    worst_delay: Duration,
    /// The longest time between two frames.
    worst_gap: Duration,
    /// Number of the last frame that came.
    last: u32,
}

/// A frame that tells its number, so that every byte of it can be checked.
fn make_frame(codec: Codec, number: u32, keyframe: bool, len: usize) -> Vec<u8> {
    let body = |index: usize| (number as usize * 7 + index) as u8 | 1;
    let mut frame = match codec {
        Codec::H264 if keyframe => vec![0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65],
        Codec::H264 => vec![0, 0, 0, 1, 0x41],
        Codec::Av1 => {
            let mut frame = if keyframe { vec![0x0a, 1, 9] } else { vec![] };
            // An OBU with its size in two bytes.
            frame.extend([0x32, (len & 0x7f | 0x80) as u8, (len >> 7) as u8]);
            frame
        }
        _ => vec![u8::from(!keyframe)],
    };
    frame.extend((0..len).map(body));
    frame
}

fn run(scenario: &Scenario) -> Outcome {
    let Scenario { codec, seed, .. } = *scenario;
    let mut random = Random::from_u64(seed);
    let start = Instant::now();
    let mut extensions: ExtensionMap = [
        (3, ExtensionKind::TransportSequence),
        (4, ExtensionKind::Mid),
    ]
    .into_iter()
    .collect();
    if scenario.mode.is_some() && codec == Codec::Av1 {
        extensions
            .insert(12, ExtensionKind::DependencyDescriptor)
            .unwrap();
    }
    let config = SendStreamConfig {
        rtx: Some(RtxConfig {
            ssrc: RTX,
            payload_type: pt(97),
        }),
        extensions: extensions.clone(),
        ..SendStreamConfig::new(MEDIA, codec, pt(96), 90_000)
    };
    let first = SequenceNumber(random.u32() as u16);
    let mut sender = SendStream::new(config, first, SequenceNumber(random.u32() as u16));
    sender.set_round_trip(Duration::from_millis(2 * scenario.one_way_ms));
    let mut fec = FecSender::new(
        FecSenderConfig {
            kind: match scenario.ulpfec {
                true => FecKind::UlpFec {
                    red: pt(118),
                    payload_type: pt(119),
                },
                false => FecKind::FlexFec {
                    ssrc: FEC,
                    payload_type: pt(98),
                },
            },
            media: MEDIA,
            extensions: extensions.clone(),
            max_group: 24,
            max_rate: 0.5,
        },
        SequenceNumber(1),
    );
    fec.set_loss(scenario.loss, 0);
    let mut receiver = VideoReceiver::new(VideoReceiverConfig {
        extensions,
        nack: scenario.nack.then(Default::default),
        flexfec: scenario.fec && !scenario.ulpfec,
        ulpfec: scenario.ulpfec.then_some(pt(119)),
        ..VideoReceiverConfig::new(MEDIA, codec, pt(96))
    })
    .unwrap();
    receiver.set_round_trip(Duration::from_millis(2 * scenario.one_way_ms));

    let mut svc = scenario.mode.map(|mode| SvcDescriptor::new(mode, &[]));
    let mut known = None;
    // What is on its way, by time in microseconds: to the receiver, and back to the sender.
    let mut forth: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    let mut back: BTreeMap<(u64, u64), Feedback> = BTreeMap::new();
    let mut serial = 0u64;
    let mut sent: BTreeMap<u32, (Vec<u8>, u64)> = BTreeMap::new();
    let mut wants_keyframe = true;
    let mut outcome = Outcome::default();
    let mut last_frame = None::<(u32, u64)>;
    let end = u64::from(scenario.frames) * 33_333 + 3_000_000;
    let mut number = 0;
    let mut micros = 0;
    while micros < end {
        let now = start + Duration::from_micros(micros);
        let mut launch = |packet: Vec<u8>, random: &mut Random, forth: &mut BTreeMap<_, _>| {
            let copies = 1 + u64::from(random.chance(scenario.duplicate));
            for _ in 0..copies {
                if random.chance(scenario.loss) {
                    continue;
                }
                let delay =
                    scenario.one_way_ms * 1000 + random.below(scenario.jitter_ms * 1000 + 1);
                serial += 1;
                forth.insert((micros + delay, serial), packet.clone());
            }
        };
        if number < scenario.frames && micros >= u64::from(number) * 33_333 {
            let keyframe = std::mem::take(&mut wants_keyframe);
            let size = if keyframe {
                9000
            } else {
                500 + random.below(4000) as usize
            };
            let frame = make_frame(codec, number, keyframe, size);
            let mut params = FrameParams::plain(keyframe);
            let descriptor = svc.as_mut().map(|svc| svc.next_frame(keyframe, 0));
            if let Some(descriptor) = &descriptor {
                let layer = descriptor.dependencies.temporal_id;
                params.temporal_id = Some(layer);
                params.switching_point = layer > 0;
            }
            let dependency = descriptor.as_ref().map(|it| (it, known.as_ref()));
            let meta = FrameMeta {
                timestamp: number.wrapping_mul(3000),
                dependency,
                ..FrameMeta::default()
            };
            let span = sender.send_frame(now, &frame, &params, &meta).unwrap();
            if let Some(structure) = descriptor.and_then(|it| it.structure) {
                known = Some(*structure);
            }
            for sequence in span.sequences() {
                let packet = sender.packet(sequence).unwrap().to_vec();
                sender.mark_sent(now, sequence);
                if scenario.fec {
                    let last = sequence + 1 == span.first + span.count as u64;
                    fec.push(&packet, last);
                }
                if scenario.ulpfec {
                    let mut out = [0; 1500];
                    let packet = Packet::parse(&packet).unwrap();
                    let len = wrap_in_red(&packet, pt(118), &mut out).unwrap();
                    launch(out[..len].to_vec(), &mut random, &mut forth);
                } else {
                    launch(packet, &mut random, &mut forth);
                }
            }
            let mut buffer = [0; 1500];
            while let Some(len) = fec.poll_packet(|| sender.take_sequence(), &mut buffer) {
                launch(buffer[..len].to_vec(), &mut random, &mut forth);
            }
            sent.insert(number.wrapping_mul(3000), (frame, micros));
            number += 1;
        }
        while let Some(entry) = back.first_entry() {
            if entry.key().0 > micros {
                break;
            }
            match entry.remove() {
                Feedback::Keyframe(request) => {
                    assert_eq!(request, KeyframeRequest::Pli);
                    wants_keyframe = true;
                }
                Feedback::Nack(list) => {
                    for sequence in list {
                        let Some(sequence) = sender.handle_nack(now, sequence) else {
                            continue;
                        };
                        let mut buffer = [0; 1500];
                        let len = sender.write_retransmission(sequence, &mut buffer).unwrap();
                        launch(buffer[..len].to_vec(), &mut random, &mut forth);
                    }
                }
            }
        }
        while let Some(entry) = forth.first_entry() {
            if entry.key().0 > micros {
                break;
            }
            let mut bytes = entry.remove();
            let packet = Packet::parse(&bytes).unwrap();
            match packet.ssrc() {
                MEDIA if packet.payload_type() == pt(118) => receiver.handle_red(now, &packet),
                MEDIA => receiver.handle_packet(now, &packet),
                FEC => receiver.handle_flexfec(now, &packet),
                _ => receiver.handle_retransmission(now, &mut bytes, pt(96)),
            }
        }
        receiver.handle_timeout(now);
        while let Some(feedback) = receiver.poll_feedback(now) {
            if !random.chance(scenario.loss) {
                serial += 1;
                back.insert((micros + scenario.one_way_ms * 1000, serial), feedback);
            }
        }
        while let Some(frame) = receiver.poll_frame(now) {
            let (expected, at) = &sent[&frame.timestamp];
            assert!(
                frame.data == expected,
                "seed {seed}: frame {} is torn",
                frame.timestamp / 3000
            );
            if let Some((last, when)) = last_frame {
                assert!(frame.timestamp > last, "seed {seed}: order");
                outcome.worst_gap = outcome.worst_gap.max(Duration::from_micros(micros - when));
            }
            last_frame = Some((frame.timestamp, micros));
            outcome.received += 1;
            outcome.last = frame.timestamp / 3000;
            outcome.worst_delay = outcome.worst_delay.max(Duration::from_micros(micros - at));
        }
        micros += 1000;
    }
    outcome.keyframe_requests = receiver.keyframe_requests();
    outcome.retransmitted = receiver.stats().retransmitted;
    outcome.recovered = receiver.stats().recovered;
    outcome.skips = receiver.stats().skips;
    outcome
}

#[test]
fn a_perfect_link_delivers_every_frame_at_once() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        let outcome = run(&Scenario {
            codec,
            ..Scenario::default()
        });
        assert_eq!(outcome.received, 600, "{codec:?}");
        assert_eq!(outcome.keyframe_requests, 0);
        assert!(
            outcome.worst_delay < Duration::from_millis(45),
            "{:?}",
            outcome.worst_delay
        );
    }
}

#[test]
fn losses_are_mended_by_retransmission() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        for seed in 0..5 {
            let outcome = run(&Scenario {
                codec,
                loss: 0.05,
                jitter_ms: 10,
                duplicate: 0.02,
                seed,
                ..Scenario::default()
            });
            // Feedback is lost too; what a key frame has to mend is rare.
            assert!(
                outcome.received >= 590,
                "{codec:?} seed {seed}: {outcome:?}"
            );
            assert!(
                outcome.retransmitted > 20,
                "{codec:?} seed {seed}: {outcome:?}"
            );
            assert!(
                outcome.worst_gap < Duration::from_millis(700),
                "{codec:?} seed {seed}: {outcome:?}"
            );
        }
    }
}

#[test]
fn losses_are_mended_by_parity_where_asking_is_not_possible() {
    for seed in 0..5 {
        let scenario = Scenario {
            loss: 0.02,
            nack: false,
            seed,
            ..Scenario::default()
        };
        let without = run(&scenario);
        for ulpfec in [false, true] {
            let with = run(&Scenario {
                fec: true,
                ulpfec,
                ..scenario.clone()
            });
            assert!(with.recovered > 5, "seed {seed}: {with:?}");
            assert!(
                with.keyframe_requests < without.keyframe_requests,
                "seed {seed}: {with:?}, without: {without:?}"
            );
            assert!(
                with.received > without.received,
                "seed {seed}: {with:?}, {without:?}"
            );
        }
    }
}

#[test]
fn without_any_recovery_key_frames_go_on() {
    for codec in [Codec::Vp8, Codec::H264, Codec::Av1] {
        let outcome = run(&Scenario {
            codec,
            loss: 0.02,
            nack: false,
            ..Scenario::default()
        });
        assert!(outcome.keyframe_requests > 3, "{codec:?}: {outcome:?}");
        assert!(outcome.received > 100, "{codec:?}: {outcome:?}");
    }
}

#[test]
fn temporal_layers_go_on_without_a_key_frame() {
    // Lost pictures of the upper layers are left out; without layers each costs a key frame.
    for codec in [Codec::Vp8, Codec::Av1] {
        let scenario = Scenario {
            codec,
            loss: 0.01,
            nack: false,
            seed: 9,
            ..Scenario::default()
        };
        let flat = run(&scenario);
        let layered = run(&Scenario {
            mode: ScalabilityMode::from_name("L1T3"),
            ..scenario
        });
        assert!(
            layered.received > flat.received && layered.keyframe_requests <= flat.keyframe_requests,
            "{codec:?}: {layered:?}, flat: {flat:?}"
        );
    }
}

#[test]
fn jitter_is_absorbed() {
    let outcome = run(&Scenario {
        jitter_ms: 40,
        frames: 900,
        ..Scenario::default()
    });
    assert_eq!(outcome.received, 900);
    assert_eq!(outcome.keyframe_requests, 0);
    assert!(
        outcome.worst_delay < Duration::from_millis(160),
        "{outcome:?}"
    );
}

/// Any mix of faults: no frame is torn, and the stream goes on to its end. `VISAVIS_SEEDS` says how many
/// histories to run.
#[test]
fn no_history_ends_in_a_frozen_picture() {
    let seeds = std::env::var("VISAVIS_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(25);
    for seed in 0..seeds {
        let mut random = Random::from_u64(seed);
        let codecs = [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];
        let modes = [None, Some("L1T2"), Some("L1T3")];
        let codec = codecs[random.below(4) as usize];
        let mode = modes[random.below(3) as usize].filter(|_| codec != Codec::H264);
        let nack = random.chance(0.7);
        let scenario = Scenario {
            codec,
            // Where losses can be asked for they may be many; else key frames have to come through.
            loss: random.unit() * if nack { 0.15 } else { 0.03 },
            jitter_ms: random.below(60),
            duplicate: random.unit() * 0.05,
            one_way_ms: random.below(150),
            nack,
            fec: random.chance(0.5),
            // As browsers do: parity among the media only where pictures have numbers.
            ulpfec: matches!(codec, Codec::Vp8 | Codec::Vp9) && random.chance(0.3),
            mode: mode.and_then(ScalabilityMode::from_name),
            frames: 300,
            seed,
        };
        let outcome = run(&scenario);
        assert!(
            outcome.last >= 240,
            "seed {seed}: {outcome:?}, loss {}, {codec:?} {mode:?}",
            scenario.loss
        );
    }
}

#[test]
fn a_frame_that_outgrows_the_history_is_refused() {
    let config = SendStreamConfig {
        history: 64,
        ..SendStreamConfig::new(MEDIA, Codec::Vp8, pt(96), 90_000)
    };
    let mut sender = SendStream::new(config, SequenceNumber(1), SequenceNumber(1));
    let (params, meta) = (FrameParams::plain(true), FrameMeta::default());
    let now = Instant::now();
    assert!(
        sender
            .send_frame(now, &[0; 60_000], &params, &meta)
            .is_err()
    );
    let span = sender
        .send_frame(now, &[0; 30_000], &params, &meta)
        .unwrap();
    assert!(
        span.sequences()
            .all(|sequence| sender.packet(sequence).is_some())
    );
}

fn opus_packet(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 600];
    let header = Header {
        marker: false,
        payload_type: pt(111),
        sequence: SequenceNumber(sequence),
        timestamp: u32::from(sequence) * 960,
        ssrc: MEDIA,
    };
    let writer = PacketWriter::new(&mut buffer, header).unwrap();
    let len = writer.finish_with(payload).unwrap();
    buffer.truncate(len);
    buffer
}

/// Plays a stream of 20 ms packets; `fate` gives each packet's delay, or loses it.
fn play(
    count: u16,
    red: bool,
    mut fate: impl FnMut(u16) -> Option<u64>,
) -> (AudioReceiver, Vec<u8>, Vec<Duration>) {
    let start = Instant::now();
    let mut receiver = AudioReceiver::new(AudioReceiverConfig::new(MEDIA, Codec::Opus, 48_000));
    let mut sender = RedSender::new(pt(111));
    let mut arrivals: BTreeMap<(u64, u16), Vec<u8>> = BTreeMap::new();
    for sequence in 0..count {
        // A CELT packet of 20 ms; its second byte tells its number.
        let payload = [31 << 3, sequence as u8, 0, 0];
        let mut wrapped = [0; 500];
        let bytes = if red {
            let len = sender
                .wrap(u32::from(sequence) * 960, &payload, &mut wrapped)
                .unwrap();
            opus_packet(sequence, &wrapped[..len])
        } else {
            opus_packet(sequence, &payload)
        };
        if let Some(delay) = fate(sequence) {
            arrivals.insert((u64::from(sequence) * 20 + delay, sequence), bytes);
        }
    }
    let mut played = Vec::new();
    let mut buffered = Vec::new();
    for tick in 0..u64::from(count) + 50 {
        let ms = tick * 20 + 7;
        let now = start + Duration::from_millis(ms);
        while let Some(entry) = arrivals.first_entry() {
            if entry.key().0 > ms {
                break;
            }
            let at = start + Duration::from_millis(entry.key().0);
            let bytes = entry.remove();
            let packet = Packet::parse(&bytes).unwrap();
            if red {
                receiver.handle_red(at, &packet);
            } else {
                receiver.handle_packet(at, &packet);
            }
        }
        if let Playout::Packet { payload, .. } = receiver.pull(now) {
            played.push(payload[1]);
        }
        buffered.push(receiver.buffered());
    }
    (receiver, played, buffered)
}

#[test]
fn sound_over_a_perfect_link_is_played_whole_and_soon() {
    let (receiver, played, _) = play(200, false, |_| Some(0));
    assert_eq!(played, (0..200).map(|n| n as u8).collect::<Vec<_>>());
    assert!(receiver.target_delay() <= Duration::from_millis(20));
    // At the end the stream runs dry: that is concealed, and then silent.
    assert!(receiver.stats().concealed <= 10);
}

#[test]
fn lost_sound_comes_back_from_redundancy() {
    let lossy = |sequence: u16| (sequence % 7 != 3).then_some(0);
    let (plain, _, _) = play(280, false, lossy);
    let (red, played, _) = play(280, true, lossy);
    assert_eq!(plain.stats().redundant, 0);
    assert!(plain.stats().concealed >= 39, "{:?}", plain.stats());
    assert!(red.stats().redundant >= 38, "{:?}", red.stats());
    assert!(played.len() > 275, "{}", played.len());
}

#[test]
fn the_buffer_follows_jitter_up_and_down() {
    let mut random = Random::from_u64(5);
    let (receiver, played, _) = play(1000, false, |sequence| {
        Some(if sequence < 500 { random.below(80) } else { 0 })
    });
    let stats = receiver.stats();
    assert!(stats.late < 40, "{stats:?}");
    assert!(played.len() > 940, "{} {stats:?}", played.len());
    let mut random = Random::from_u64(5);
    let (receiver, _, _) = play(400, false, |_| Some(random.below(80)));
    assert!(receiver.target_delay() >= Duration::from_millis(60));
}

#[test]
fn a_pause_of_the_sender_is_silence_and_not_concealment() {
    let start = Instant::now();
    let mut receiver = AudioReceiver::new(AudioReceiverConfig::new(MEDIA, Codec::Opus, 48_000));
    let mut kinds = Vec::new();
    for tick in 0..100u16 {
        let now = start + Duration::from_millis(u64::from(tick) * 20);
        // Ten packets, a pause of a second that a packet of one byte announces, ten packets.
        let payload: Option<&[u8]> = match tick {
            0..10 | 60..70 => Some(&[31 << 3, 1, 2, 3]),
            10 => Some(&[31 << 3]),
            _ => None,
        };
        if let Some(payload) = payload {
            let bytes = opus_packet(tick, payload);
            receiver.handle_packet(now, &Packet::parse(&bytes).unwrap());
        }
        if tick < 70 {
            kinds.push(match receiver.pull(now + Duration::from_millis(5)) {
                Playout::Packet { .. } => 'p',
                Playout::Silence { .. } => '.',
                Playout::Conceal { .. } => 'c',
                _ => '?',
            });
        }
    }
    let text: String = kinds.into_iter().collect();
    // Sequence numbers jump by the pause here, so that the packets after it are a gap of 49 packets.
    assert!(!text.contains('c'), "{text}");
    assert!(text.matches('p').count() >= 18, "{text}");
}
