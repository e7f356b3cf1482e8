//! Peers that send nonsense under a good stream's name: what they can make is bounded and counted, and the good stream goes on.

use std::time::{Duration, Instant};

use visavis_datagram::Random;
use visavis_media::receive::{
    AudioReceiver, AudioReceiverConfig, Playout, VideoReceiver, VideoReceiverConfig,
};
use visavis_rtp::payload::Codec;
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Header, Packet, PacketWriter, PayloadType, SequenceNumber, Ssrc,
};

const SSRC: Ssrc = Ssrc(100);
const FRAME: Duration = Duration::from_millis(33);
/// Where dependency descriptors are.
const DESCRIPTOR: u8 = 12;

fn receiver(max_packets: usize) -> VideoReceiver {
    let extensions: ExtensionMap = [(DESCRIPTOR, ExtensionKind::DependencyDescriptor)]
        .into_iter()
        .collect();
    VideoReceiver::new(VideoReceiverConfig {
        extensions,
        max_packets,
        ..VideoReceiverConfig::new(SSRC, Codec::Vp8, PayloadType::new(96).unwrap())
    })
    .unwrap()
}

struct Sent {
    sequence: u16,
    timestamp: u32,
    marker: bool,
    descriptor: Vec<u8>,
    payload: Vec<u8>,
}

/// A whole VP8 frame in one packet; only the first is a key frame.
fn frame(number: u32) -> Sent {
    Sent {
        sequence: number as u16,
        timestamp: number * 2970,
        marker: true,
        descriptor: Vec::new(),
        // RFC 7741 section 4.2: S, partition 0; the frame's lowest bit is 0 in a key frame.
        payload: vec![0x10, u8::from(number > 0), 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
    }
}

fn give(receiver: &mut VideoReceiver, now: Instant, sent: &Sent) {
    let mut buffer = [0; 1500];
    let header = Header {
        sequence: SequenceNumber(sent.sequence),
        timestamp: sent.timestamp,
        marker: sent.marker,
        ssrc: SSRC,
        payload_type: PayloadType::new(96).unwrap(),
    };
    let mut writer = PacketWriter::new(&mut buffer, header).unwrap();
    if !sent.descriptor.is_empty() {
        writer.extension(DESCRIPTOR, &sent.descriptor).unwrap();
    }
    let len = writer.finish_with(&sent.payload).unwrap();
    receiver.handle_packet(now, &Packet::parse(&buffer[..len]).unwrap());
}

/// Sends good frames, and what `bad` adds before each; answers how many frames came out.
fn run(
    receiver: &mut VideoReceiver,
    frames: u32,
    mut bad: impl FnMut(&mut VideoReceiver, Instant, u32),
) -> u32 {
    let mut now = Instant::now();
    let mut shown = 0;
    for number in 0..frames {
        bad(receiver, now, number);
        give(receiver, now, &frame(number));
        now += FRAME;
        receiver.handle_timeout(now);
        while receiver.poll_feedback(now).is_some() {}
        while receiver.poll_frame(now).is_some() {
            shown += 1;
        }
        assert!(receiver.target_delay() <= Duration::from_secs(2));
    }
    shown
}

#[test]
fn single_jumps_of_the_sequence_number_are_counted_and_not_followed() {
    let mut receiver = receiver(256);
    let mut random = Random::from_u64(5);
    let shown = run(&mut receiver, 1000, |receiver, now, number| {
        // Far away from where the stream is, and never two in a row.
        let away = 5_000 + random.below(50_000) as u32;
        if number > 0 {
            give(receiver, now, &frame(number + away));
        }
    });
    let counters = *receiver.statistics().counters();
    assert!(shown > 980, "{shown} of 1000, {counters:?}");
    assert!(counters.suspect + counters.too_old >= 990, "{counters:?}");
    assert!(receiver.nack_stats().requests < 1000);
}

#[test]
fn jumps_of_the_timestamp_leave_the_buffer_within_its_delay() {
    let mut receiver = receiver(256);
    let mut random = Random::from_u64(6);
    let mut now = Instant::now();
    let mut shown = 0;
    for number in 0..2000 {
        let mut sent = frame(number);
        if number > 0 && random.chance(0.3) {
            sent.timestamp = random.u32();
        }
        give(&mut receiver, now, &sent);
        now += FRAME;
        receiver.handle_timeout(now);
        while receiver.poll_frame(now).is_some() {
            shown += 1;
        }
        assert!(receiver.target_delay() <= Duration::from_secs(2));
    }
    // What waits for a time that lies far ahead gives way to what is due.
    assert!(
        shown + receiver.stats().overflow >= 1900,
        "{shown}, {:?}",
        receiver.stats()
    );
}

#[test]
fn a_frame_without_an_end_takes_no_more_than_the_bound_of_packets() {
    let mut receiver = receiver(256);
    let begin = Instant::now();
    let fragment = |number: u32| Sent {
        sequence: number as u16,
        timestamp: 1,
        marker: false,
        descriptor: Vec::new(),
        payload: {
            let mut payload = vec![7; 1200];
            payload[0] = if number == 0 { 0x10 } else { 0 };
            payload[1] = 0;
            payload
        },
    };
    let mut feed = |range: std::ops::Range<u32>| {
        for number in range {
            let now = begin + Duration::from_millis(u64::from(number));
            give(&mut receiver, now, &fragment(number));
            receiver.handle_timeout(now);
            while receiver.poll_feedback(now).is_some() {}
        }
    };
    feed(0..1000);
    let memory = allocation_counter::measure(|| feed(1000..50_000));
    assert!(memory.bytes_max < 100_000, "{memory:?}");
    assert_eq!(receiver.stats().frames, 0);
    assert!(receiver.keyframe_requests() > 0);
}

#[test]
fn endless_dependency_structures_are_refused_and_counted_and_the_picture_goes_on() {
    let mut receiver = receiver(256);
    let shown = run(&mut receiver, 300, |receiver, now, number| {
        if number % 10 == 5 {
            // A new structure, of templates that add layer after layer.
            let mut sent = frame(number);
            sent.descriptor = vec![0xc0, 0, number as u8, 0x80, 0];
            sent.descriptor.extend([0b1010_1010; 60]);
            give(receiver, now, &sent);
        }
    });
    assert!(shown > 250, "{shown}");
    assert!(receiver.stats().malformed >= 30, "{:?}", receiver.stats());
}

#[test]
fn sound_with_random_timestamps_never_fills_more_than_its_buffer() {
    let mut config = AudioReceiverConfig::new(SSRC, Codec::Pcmu, 8000);
    config.max_packets = 50;
    let mut receiver = AudioReceiver::new(config);
    let mut random = Random::from_u64(8);
    let begin = Instant::now();
    let mut played = 0;
    let mut feed = |range: std::ops::Range<u32>, played: &mut u32| {
        for number in range {
            let now = begin + Duration::from_millis(20) * number;
            let header = Header {
                sequence: SequenceNumber(number as u16),
                timestamp: random.u32(),
                ssrc: SSRC,
                ..Header::default()
            };
            let mut buffer = [0; 300];
            let writer = PacketWriter::new(&mut buffer, header).unwrap();
            let len = writer.finish_with(&[0; 160]).unwrap();
            receiver.handle_packet(now, &Packet::parse(&buffer[..len]).unwrap());
            if let Playout::Packet { .. } = receiver.pull(now) {
                *played += 1;
            }
        }
    };
    feed(0..1000, &mut played);
    let memory = allocation_counter::measure(|| feed(1000..20_000, &mut played));
    assert!(memory.bytes_max < 50_000, "{memory:?}");
    let stats = receiver.stats();
    assert!(
        u64::from(played) + stats.discarded + stats.late > 0,
        "{stats:?}"
    );
}
