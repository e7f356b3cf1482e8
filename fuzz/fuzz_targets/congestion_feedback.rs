//! Any calls with any values: both controllers, the history and the pacer stay within their bounds.
#![no_main]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use visavis_congestion::{
    Arrival, Controller, GoogCc, GoogCcConfig, Limits, PacerConfig, PacketKind, Queued, Release,
    Scream, ScreamConfig, Sender, SentPacket,
};
use visavis_datagram::Ecn;

/// Takes numbers from the front of the input; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// Small numbers mostly, any number sometimes.
    fn number(&mut self) -> u64 {
        match self.byte() {
            tag @ 0..=199 => u64::from(tag),
            200..=240 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }
}

fn run(controller: impl Controller, start: Instant, data: &[u8]) {
    let mut sender: Sender<_, u8> = Sender::new(controller, PacerConfig::default());
    let mut input = Input(data);
    let (mut now, mut sequence) = (start, 0u64);
    while !input.0.is_empty() {
        match input.byte() % 10 {
            0..=2 => {
                let kind = PacketKind::ALL[usize::from(input.byte()) % 5];
                let size = input.number() as usize;
                let _ = sender.push(
                    now,
                    Queued {
                        token: 0,
                        size,
                        kind,
                    },
                );
                for _ in 0..50 {
                    let Some(release) = sender.poll(now) else {
                        break;
                    };
                    let (size, probe) = match release {
                        Release::Packet { packet, probe, .. } => (packet.size, probe),
                        Release::Padding { size, probe } => (size, probe),
                    };
                    let packet = SentPacket {
                        sequence,
                        size,
                        kind,
                        probe,
                    };
                    sender.sent(now, &packet);
                    sequence = sequence.wrapping_add(1);
                }
            }
            3..=5 => {
                let count = input.byte() % 32;
                let base = sequence.wrapping_sub(input.number());
                let arrivals: Vec<Arrival> = (0..count)
                    .map(|index| {
                        let word = input.byte();
                        Arrival {
                            sequence: base.wrapping_add(u64::from(index)),
                            received_at: (word & 4 == 0)
                                .then(|| Duration::from_micros(input.number())),
                            ecn: Ecn::from_bits(word),
                        }
                    })
                    .collect();
                sender.feedback(now, &arrivals);
            }
            6 => {
                now += Duration::from_millis(input.number() % 10_000_000);
                sender.handle_timeout(now);
            }
            7 => sequence = input.number(),
            8 => {
                let (a, b, c) = (input.number(), input.number(), input.number());
                sender.controller.set_limits(
                    now,
                    Limits {
                        min: a.min(c),
                        start: b,
                        max: c,
                    },
                );
            }
            _ => match input.byte() % 4 {
                0 => sender.controller.remb(now, input.number()),
                1 => {
                    let loss = f64::from_bits(input.number());
                    let rtt = Some(Duration::from_micros(input.number()));
                    sender.controller.receiver_report(now, loss, rtt);
                }
                2 => sender.controller.set_demand(now, input.number()),
                _ => sender.controller.path_changed(now),
            },
        }
        let _ = (
            sender.target(),
            sender.controller.stats(),
            sender.poll_timeout(),
        );
    }
}

fuzz_target!(|data: &[u8]| {
    // One beginning for all inputs: a run depends on its input alone.
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    run(GoogCc::new(start, GoogCcConfig::default()), start, data);
    run(Scream::new(start, ScreamConfig::default()), start, data);
});
