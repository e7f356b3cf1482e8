//! `cargo xtask bench rtp`: what a packet costs on its way through, what its loss costs, and what
//! feedback about it costs; in nanoseconds and in allocations, beside the crates `rtp` and `rtcp`.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench_crypto::{Contestant, compare, machine};
use bytes::Bytes;
use serde_json::{Value, json};
use visavis_media::forward::{Decision, Forwarder, ForwarderConfig, LayerTarget, SourcePacket};
use visavis_media::receive::{NackConfig, NackScheduler, VideoReceiver, VideoReceiverConfig};
use visavis_media::send::{FrameMeta, RtxConfig, SendStream, SendStreamConfig};
use visavis_report::{Options, Table};
use visavis_rtp::extension::{AbsSendTime, MidExtension, TransportSequence};
use visavis_rtp::payload::{Codec, FrameParams};
use visavis_rtp::rtcp::{Arrival, Compound, MetricBlock, Rtcp, RtcpWriter};
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Header, Mid, Packet, PacketWriter, PayloadType, SequenceNumber,
    Ssrc,
};
use webrtc_util::marshal::{Marshal, Unmarshal};

/// Packets that one feedback message is about.
const TOLD: u16 = 100;

/// One row: what it is, and who does it, per how many operations in one call.
struct Row<'a> {
    name: &'static str,
    operations: f64,
    ours: Box<dyn FnMut() + 'a>,
    peer: Option<Box<dyn FnMut() + 'a>>,
    /// The most nanoseconds per operation that are promised.
    goal: f64,
}

fn main() -> ExitCode {
    let (options, only) = Options::from_arguments();
    let rounds = if options.quick { 60 } else { 400 };
    let mut table = Table::new(
        "RTP: CPU time and allocations per packet",
        &[
            "work",
            "visavis ns",
            "rtp/rtcp crate ns",
            "ratio",
            "visavis allocations",
            "crate allocations",
        ],
    );
    for mut row in rows() {
        if !only.is_empty() && !only.iter().any(|word| row.name.contains(word.as_str())) {
            continue;
        }
        // Buffers grow in the first calls.
        for _ in 0..3000 {
            (row.ours)();
        }
        let allocations = |work: &mut dyn FnMut()| {
            let counted = allocation_counter::measure(|| (0..100).for_each(|_| work()));
            counted.count_total as f64 / 100.0 / row.operations
        };
        let our_allocations = allocations(&mut row.ours);
        let peer_allocations = row.peer.as_mut().map(|peer| allocations(peer));
        let mut contestants = vec![Contestant::new("visavis", row.ours)];
        contestants.extend(row.peer.map(|peer| Contestant::new("crate", peer)));
        let figures = compare(rounds, contestants);
        let ours = figures[0].1 / row.operations;
        let peer = figures.get(1).map(|figure| figure.1 / row.operations);
        let tenth = |value: f64| json!((value * 10.0).round() / 10.0);
        table.row(vec![
            json!(row.name),
            tenth(ours),
            peer.map_or(Value::Null, tenth),
            peer.map_or(Value::Null, |peer| {
                json!((ours / peer * 100.0).round() / 100.0)
            }),
            json!(our_allocations),
            peer_allocations.map_or(Value::Null, |count| json!((count * 100.0).round() / 100.0)),
        ]);
        table.at_most(&format!("{}: allocations", row.name), our_allocations, 0.0);
        table.at_most(&format!("{}: nanoseconds", row.name), ours, row.goal);
        if let Some(peer) = peer {
            table.at_most(
                &format!("{}: ratio to the crate", row.name),
                ours / peer,
                1.0,
            );
        }
    }
    table.note(format!(
        "{}; median of {rounds} interleaved rounds. rtp and rtcp 0.17 (webrtc-rs). Packets of 1200 \
         bytes with mid, transport-wide number and send time; feedback about {TOLD} packets.",
        machine()
    ));
    table.finish(options)
}

fn pt(value: u8) -> PayloadType {
    PayloadType::new(value).expect("below 128")
}

fn map() -> ExtensionMap {
    [
        (2, ExtensionKind::AbsSendTime),
        (3, ExtensionKind::TransportSequence),
        (4, ExtensionKind::Mid),
    ]
    .into_iter()
    .collect()
}

/// A VP8 packet as a browser sends it.
fn packet() -> Vec<u8> {
    let mut buffer = vec![0; 1200];
    let header = Header {
        marker: true,
        payload_type: pt(96),
        sequence: SequenceNumber(1000),
        timestamp: 90_000,
        ssrc: Ssrc(1),
    };
    let mut writer = PacketWriter::new(&mut buffer, header).expect("room");
    let map = map();
    writer.typed(&map, &AbsSendTime(77)).expect("room");
    writer
        .typed(&map, &TransportSequence(SequenceNumber(5)))
        .expect("room");
    writer
        .typed(&map, &MidExtension(Mid::new("1").expect("a mid")))
        .expect("room");
    let payload = writer.payload_slot();
    let len = payload.len();
    // A key frame's first payload: 15-bit picture id, tl0 index, temporal layer 0.
    payload[..8].copy_from_slice(&[0x90, 0xe0, 0x80, 0x07, 0x05, 0x00, 0x00, 0x00]);
    let len = writer.finish(len).expect("room");
    buffer.truncate(len);
    buffer
}

fn rows() -> Vec<Row<'static>> {
    vec![
        parse(),
        forward(),
        retransmit(),
        notice_losses(),
        receive(),
        read_transport_feedback(),
        write_transport_feedback(),
        read_congestion_feedback(),
        write_congestion_feedback(),
    ]
}

fn parse() -> Row<'static> {
    let bytes = packet();
    let shared = Bytes::from(bytes.clone());
    let map = map();
    Row {
        name: "parse a packet, read three extensions",
        operations: 1.0,
        ours: Box::new(move || {
            let packet = Packet::parse(black_box(&bytes)).expect("a packet");
            black_box(packet.extension::<MidExtension>(&map));
            black_box(packet.extension::<TransportSequence>(&map));
            black_box(packet.extension::<AbsSendTime>(&map));
            black_box((packet.header(), packet.payload()));
        }),
        peer: Some(Box::new(move || {
            let mut raw = black_box(shared.clone());
            let packet = webrtc_rtp::packet::Packet::unmarshal(&mut raw).expect("a packet");
            for id in 2..=4 {
                black_box(packet.header.get_extension(id));
            }
            black_box(packet.payload);
        })),
        goal: 100.0,
    }
}

/// Parse, inspect, decide, and write under new numbers for another receiver.
fn forward() -> Row<'static> {
    let mut bytes = packet();
    let mut peer_bytes = bytes.clone();
    let map = map();
    let mut forwarder = Forwarder::new(
        ForwarderConfig {
            codec: Codec::Vp8,
            clock_rate: 90_000,
            ssrc: Ssrc(9),
            payload_type: pt(100),
            mid: Mid::new("7"),
            rid: None,
            extensions: map.clone(),
            history: 1024,
        },
        SequenceNumber(1),
    );
    forwarder.set_target(Some(LayerTarget {
        encoding: 0,
        spatial_id: 0,
        temporal_id: 2,
    }));
    let now = Instant::now();
    let mut sequence = 65_536u64;
    let mut out = [0; 1500];
    let mut peer_out = vec![0; 1500];
    let mut peer_sequence = 0u16;
    Row {
        name: "forward: parse, choose, rewrite into another buffer",
        operations: 1.0,
        ours: Box::new(move || {
            sequence += 1;
            bytes[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
            let packet = Packet::parse(black_box(&bytes)).expect("a packet");
            let info = Codec::Vp8.inspect(packet.payload()).expect("a payload");
            let source = SourcePacket {
                encoding: 0,
                sequence,
                header: packet.header(),
                info: &info,
            };
            if let Decision::Forward(rewrite) = forwarder.handle_packet(now, &source) {
                let len = forwarder
                    .write(&packet, &map, &rewrite, &mut out)
                    .expect("room");
                black_box(&out[..len]);
            }
        }),
        peer: Some(Box::new(move || {
            // Without choosing layers and without the payload's numbers: the least that anybody does.
            peer_sequence = peer_sequence.wrapping_add(1);
            peer_bytes[2..4].copy_from_slice(&peer_sequence.to_be_bytes());
            let mut raw = black_box(&peer_bytes[..]);
            let mut packet = webrtc_rtp::packet::Packet::unmarshal(&mut raw).expect("a packet");
            packet.header.ssrc = 9;
            packet.header.payload_type = 100;
            packet.header.sequence_number = peer_sequence.wrapping_add(77);
            packet.header.timestamp = packet.header.timestamp.wrapping_add(1234);
            packet
                .header
                .set_extension(4, Bytes::from_static(b"7"))
                .expect("an extension");
            let len = packet.marshal_to(&mut peer_out).expect("room");
            black_box(&peer_out[..len]);
        })),
        goal: 400.0,
    }
}

fn retransmit() -> Row<'static> {
    let config = SendStreamConfig {
        rtx: Some(RtxConfig {
            ssrc: Ssrc(2),
            payload_type: pt(97),
        }),
        extensions: map(),
        history_age: Duration::from_secs(1 << 20),
        max_retransmissions: u8::MAX,
        ..SendStreamConfig::new(Ssrc(1), Codec::Vp8, pt(96), 90_000)
    };
    let mut stream = SendStream::new(config, SequenceNumber(0), SequenceNumber(0));
    let mut now = Instant::now();
    let frame = vec![0; 1100];
    let mut out = [0; 1500];
    let mut number = 0u32;
    Row {
        name: "send a packet, answer one NACK for an earlier one",
        operations: 1.0,
        ours: Box::new(move || {
            number = number.wrapping_add(1);
            now += Duration::from_millis(1);
            let meta = FrameMeta {
                timestamp: number,
                ..FrameMeta::default()
            };
            let span = stream
                .send_frame(now, &frame, &FrameParams::plain(false), &meta)
                .expect("a frame");
            let asked = SequenceNumber(span.first.wrapping_sub(100) as u16);
            if let Some(sequence) = stream.handle_nack(now, asked) {
                let len = stream
                    .write_retransmission(sequence, &mut out)
                    .expect("room");
                black_box(&out[..len]);
            }
        }),
        peer: None,
        goal: 1500.0,
    }
}

fn notice_losses() -> Row<'static> {
    let mut nack = NackScheduler::new(NackConfig::default());
    nack.set_round_trip(Duration::from_millis(50));
    let mut now = Instant::now();
    let mut sequence = 0u64;
    Row {
        name: "notice losses, ask for them (2 % lost, back after 50 ms)",
        operations: 1.0,
        ours: Box::new(move || {
            // 1000 packets per second.
            now += Duration::from_millis(1);
            sequence += 1;
            if !sequence.is_multiple_of(50) {
                nack.handle_packet(now, sequence, true);
            }
            if sequence > 50 && sequence.is_multiple_of(50) {
                nack.handle_packet(now, sequence - 50, false);
            }
            black_box(nack.poll(now));
        }),
        peer: None,
        goal: 200.0,
    }
}

fn receive() -> Row<'static> {
    let mut receiver = VideoReceiver::new(VideoReceiverConfig {
        extensions: map(),
        ..VideoReceiverConfig::new(Ssrc(1), Codec::Vp8, pt(96))
    })
    .expect("a video codec");
    let mut bytes = packet();
    // One packet per picture, key frames all: everything but waiting for the rest of a picture.
    let mut now = Instant::now();
    let mut number = 0u32;
    Row {
        name: "receive a packet: statistics, losses, assembly, frame out",
        operations: 1.0,
        ours: Box::new(move || {
            number = number.wrapping_add(1);
            now += Duration::from_millis(33);
            bytes[2..4].copy_from_slice(&(number as u16).to_be_bytes());
            bytes[4..8].copy_from_slice(&number.wrapping_mul(2970).to_be_bytes());
            receiver.handle_packet(now, &Packet::parse(&bytes).expect("a packet"));
            black_box(receiver.poll_feedback(now));
            black_box(receiver.take_frame(now));
        }),
        peer: None,
        goal: 2000.0,
    }
}

/// Arrivals of a busy transport: small gaps in time, one packet in 25 lost.
fn arrivals() -> Vec<Arrival> {
    (0..TOLD)
        .filter(|number| number % 25 != 7)
        .map(|number| Arrival {
            sequence: SequenceNumber(number),
            micros: 5_000_000 + u64::from(number) * 900 + u64::from(number % 7) * 130,
        })
        .collect()
}

fn transport_feedback() -> Vec<u8> {
    let mut buffer = vec![0; 1200];
    let mut writer = RtcpWriter::new(&mut buffer);
    writer
        .transport_feedback(Ssrc(1), Ssrc(2), SequenceNumber(0), 1, &arrivals())
        .expect("room");
    let len = writer.len();
    buffer.truncate(len);
    buffer
}

fn read_transport_feedback() -> Row<'static> {
    let bytes = transport_feedback();
    let shared = Bytes::from(bytes.clone());
    Row {
        name: "read transport-wide feedback, per packet told",
        operations: f64::from(TOLD),
        ours: Box::new(move || {
            for packet in Compound::new(black_box(&bytes)) {
                if let Ok(Rtcp::TransportFeedback(feedback)) = packet {
                    for status in feedback.packets() {
                        black_box(status);
                    }
                }
            }
        }),
        peer: Some(Box::new(move || {
            use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
            let mut raw = black_box(shared.clone());
            let feedback = TransportLayerCc::unmarshal(&mut raw).expect("a feedback");
            black_box(feedback.recv_deltas.len());
        })),
        goal: 20.0,
    }
}

fn write_transport_feedback() -> Row<'static> {
    let arrivals = arrivals();
    let mut buffer = [0; 1200];
    Row {
        name: "write transport-wide feedback, per packet told",
        operations: f64::from(TOLD),
        ours: Box::new(move || {
            let mut writer = RtcpWriter::new(&mut buffer);
            writer
                .transport_feedback(Ssrc(1), Ssrc(2), SequenceNumber(0), 1, black_box(&arrivals))
                .expect("room");
            black_box(writer.len());
        }),
        peer: None,
        goal: 50.0,
    }
}

fn metric_blocks() -> impl Iterator<Item = Option<MetricBlock>> + Clone {
    (0..TOLD).map(|number| {
        (number % 25 != 7).then_some(MetricBlock {
            ecn: Default::default(),
            arrival_offset: 100 - number,
        })
    })
}

fn write_ccfb(buffer: &mut [u8]) -> usize {
    let mut writer = RtcpWriter::new(buffer);
    let report = (Ssrc(2), SequenceNumber(0), metric_blocks());
    writer
        .congestion_feedback(Ssrc(1), [report], 77)
        .expect("room");
    writer.len()
}

fn read_congestion_feedback() -> Row<'static> {
    let mut bytes = vec![0; 1200];
    let len = write_ccfb(&mut bytes);
    bytes.truncate(len);
    Row {
        name: "read RFC 8888 feedback, per packet told",
        operations: f64::from(TOLD),
        ours: Box::new(move || {
            for packet in Compound::new(black_box(&bytes)) {
                if let Ok(Rtcp::CongestionFeedback(feedback)) = packet {
                    for report in feedback.reports() {
                        for block in report.packets() {
                            black_box(block);
                        }
                    }
                }
            }
        }),
        peer: None,
        goal: 20.0,
    }
}

fn write_congestion_feedback() -> Row<'static> {
    let mut buffer = [0; 1200];
    Row {
        name: "write RFC 8888 feedback, per packet told",
        operations: f64::from(TOLD),
        ours: Box::new(move || {
            black_box(write_ccfb(&mut buffer));
        }),
        peer: None,
        goal: 20.0,
    }
}
