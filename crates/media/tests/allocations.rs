//! No allocation per packet once buffers have grown: sending, answering NACKs, forwarding, receiving.

use std::time::{Duration, Instant};

use visavis_media::forward::{Decision, Forwarder, ForwarderConfig, LayerTarget, SourcePacket};
use visavis_media::receive::{VideoReceiver, VideoReceiverConfig};
use visavis_media::send::{FrameMeta, RtxConfig, SendStream, SendStreamConfig, stamp};
use visavis_rtp::payload::{Codec, FrameParams};
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Packet, PayloadType, SequenceExtender, SequenceNumber, Ssrc,
};

fn pt(value: u8) -> PayloadType {
    PayloadType::new(value).unwrap()
}

fn map() -> ExtensionMap {
    [
        (1, ExtensionKind::TransportSequence),
        (2, ExtensionKind::AbsSendTime),
    ]
    .into_iter()
    .collect()
}

/// One stream through everything, a frame at a time.
struct Way {
    sender: SendStream,
    forwarder: Forwarder,
    receiver: VideoReceiver,
    extender: SequenceExtender,
    frame: Vec<u8>,
    number: u32,
    start: Instant,
    received: u32,
}

impl Way {
    fn new(codec: Codec) -> Self {
        let config = SendStreamConfig {
            rtx: Some(RtxConfig {
                ssrc: Ssrc(2),
                payload_type: pt(97),
            }),
            extensions: map(),
            history: 128,
            ..SendStreamConfig::new(Ssrc(1), codec, pt(96), 90_000)
        };
        let mut forwarder = Forwarder::new(
            ForwarderConfig {
                codec,
                clock_rate: 90_000,
                ssrc: Ssrc(3),
                payload_type: pt(100),
                mid: None,
                rid: None,
                extensions: map(),
                history: 128,
            },
            SequenceNumber(1),
        );
        forwarder.set_target(Some(LayerTarget {
            encoding: 0,
            spatial_id: 0,
            temporal_id: 1,
        }));
        let receiving = VideoReceiverConfig {
            extensions: map(),
            max_packets: 128,
            ..VideoReceiverConfig::new(Ssrc(3), codec, pt(100))
        };
        let mut frame = vec![0, 0, 0, 1, 0x65];
        frame.extend((0..5000).map(|index| index as u8 | 1));
        Self {
            sender: SendStream::new(config, SequenceNumber(65_000), SequenceNumber(0)),
            forwarder,
            receiver: VideoReceiver::new(receiving).unwrap(),
            extender: SequenceExtender::new(),
            frame,
            number: 0,
            start: Instant::now(),
            received: 0,
        }
    }

    fn step(&mut self) {
        let now = self.start + Duration::from_millis(33) * self.number;
        let keyframe = self.number == 0;
        if self.frame[0] == 0 && self.frame[4] != 0 {
            // H.264: a parameter set begins the key frame, slices follow.
            self.frame[4] = if keyframe { 0x67 } else { 0x41 };
        }
        let params = FrameParams {
            temporal_id: Some((self.number % 3 % 2) as u8),
            switching_point: true,
            ..FrameParams::plain(keyframe)
        };
        let meta = FrameMeta {
            timestamp: self.number * 3000,
            ..FrameMeta::default()
        };
        let span = self
            .sender
            .send_frame(now, &self.frame, &params, &meta)
            .unwrap();
        for sequence in span.sequences() {
            let mut out = [0; 1500];
            let number = SequenceNumber(sequence as u16);
            stamp(
                self.sender.packet_mut(sequence).unwrap(),
                &map(),
                Some(number),
                None,
            );
            self.sender.mark_sent(now, sequence);
            if let Some(sequence) = self.sender.handle_nack(now, number) {
                self.sender
                    .write_retransmission(sequence, &mut out)
                    .unwrap();
            }
            let packet = Packet::parse(self.sender.packet(sequence).unwrap()).unwrap();
            let info = self
                .sender
                .config()
                .codec
                .inspect(packet.payload())
                .unwrap();
            let source = SourcePacket {
                encoding: 0,
                sequence: self.extender.extend(packet.sequence()),
                header: packet.header(),
                info: &info,
            };
            if let Decision::Forward(rewrite) = self.forwarder.handle_packet(now, &source) {
                let len = self
                    .forwarder
                    .write(&packet, &map(), &rewrite, &mut out)
                    .unwrap();
                // Every tenth comes late, so that requests are scheduled too.
                if sequence % 10 != 0 {
                    self.receiver
                        .handle_packet(now, &Packet::parse(&out[..len]).unwrap());
                    let _ = self.receiver.poll_feedback(now);
                }
                if sequence % 10 == 0 {
                    self.receiver
                        .handle_packet(now, &Packet::parse(&out[..len]).unwrap());
                }
            }
        }
        while self.receiver.take_frame(now).is_some() {
            self.received += 1;
        }
        self.number += 1;
    }
}

#[test]
fn packets_cost_no_allocation_once_buffers_have_grown() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264] {
        let mut way = Way::new(codec);
        if codec == Codec::Vp8 {
            // VP8 and VP9 take any bytes; the first bit tells a key frame.
            way.frame.drain(..4);
        }
        for _ in 0..200 {
            if codec == Codec::Vp8 {
                way.frame[0] = u8::from(way.number != 0);
            }
            way.step();
        }
        let before = way.received;
        let allocated = allocation_counter::measure(|| {
            for _ in 0..200 {
                way.step();
            }
        });
        assert_eq!(allocated.count_total, 0, "{codec:?}: {allocated:?}");
        assert!(
            way.received >= before + 190,
            "{codec:?}: {}",
            way.received - before
        );
    }
}

#[test]
fn sound_costs_no_allocation_once_buffers_have_grown() {
    use visavis_media::receive::{AudioReceiver, AudioReceiverConfig, Playout};
    use visavis_media::send::RedSender;
    use visavis_rtp::{Header, PacketWriter};

    let start = Instant::now();
    let config = AudioReceiverConfig::new(Ssrc(1), Codec::Opus, 48_000);
    let mut receiver = AudioReceiver::new(config);
    let mut sender = RedSender::new(pt(111));
    let mut number = 0u16;
    let mut played = 0;
    let mut step = || {
        let now = start + Duration::from_millis(20) * u32::from(number);
        let frame = [31 << 3, number as u8, 2, 3, 4];
        let mut buffer = [0; 500];
        let header = Header {
            payload_type: pt(63),
            sequence: SequenceNumber(number),
            timestamp: u32::from(number) * 960,
            ..Header::default()
        };
        let mut writer = PacketWriter::new(&mut buffer, header).unwrap();
        let len = sender
            .wrap(header.timestamp, &frame, writer.payload_slot())
            .unwrap();
        let len = writer.finish(len).unwrap();
        if !number.is_multiple_of(7) {
            receiver.handle_red(now, &Packet::parse(&buffer[..len]).unwrap());
        }
        if let Playout::Packet { .. } = receiver.pull(now) {
            played += 1;
        }
        number += 1;
    };
    (0..300).for_each(|_| step());
    let allocated = allocation_counter::measure(|| (0..300).for_each(|_| step()));
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    assert!(played > 550, "{played}");
}
