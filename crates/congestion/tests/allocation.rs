//! Nothing is allocated per packet in steady state: queueing, pacing, sending, feedback.

use std::time::{Duration, Instant};

use allocation_counter::measure;
use visavis_congestion::{
    Arrival, Controller, GoogCc, GoogCcConfig, PacerConfig, PacketKind, Queued, Release, Scream,
    ScreamConfig, Sender, SentPacket,
};
use visavis_datagram::Ecn;

const STEP: Duration = Duration::from_millis(5);
const WAY: Duration = Duration::from_millis(40);
const SIZE: usize = 1000;

/// One connection that sends 1.6 Mbit/s and hears of it every 50 ms.
struct Call<C> {
    sender: Sender<C, u32>,
    now: Instant,
    start: Instant,
    sequence: u64,
    arrivals: Vec<Arrival>,
    sent: u64,
}

impl<C: Controller> Call<C> {
    fn new(controller: C, now: Instant) -> Self {
        Self {
            sender: Sender::new(controller, PacerConfig::default()),
            now,
            start: now,
            sequence: 0,
            arrivals: Vec::with_capacity(1000),
            sent: 0,
        }
    }

    fn run(&mut self, steps: u32) {
        for step in 0..steps {
            self.now += STEP;
            let now = self.now;
            let packet = Queued {
                token: step,
                size: SIZE,
                kind: PacketKind::Video,
            };
            assert!(self.sender.push(now, packet).is_ok());
            self.sender.handle_timeout(now);
            while let Some(release) = self.sender.poll(now) {
                let (size, kind, probe) = match release {
                    Release::Packet { packet, probe, .. } => (packet.size, packet.kind, probe),
                    Release::Padding { size, probe } => (size, PacketKind::Padding, probe),
                };
                let sequence = self.sequence;
                self.sequence += 1;
                self.sent += 1;
                self.sender.sent(
                    now,
                    &SentPacket {
                        sequence,
                        size,
                        kind,
                        probe,
                    },
                );
                let at = now - self.start + WAY;
                self.arrivals
                    .push(Arrival::received(sequence, at, Ecn::NotEct));
            }
            if step % 10 == 0 {
                self.sender.feedback(now, &self.arrivals);
                self.arrivals.clear();
            }
        }
    }
}

fn check(mut call: Call<impl Controller>) {
    // Buffers find their sizes.
    call.run(4_000);
    let before = call.sent;
    let allocations = measure(|| call.run(10_000)).count_total;
    assert!(call.sent - before >= 9_000);
    assert_eq!(allocations, 0, "over {} packets", call.sent - before);
}

#[test]
fn google_congestion_control_allocates_nothing_per_packet() {
    let now = Instant::now();
    check(Call::new(GoogCc::new(now, GoogCcConfig::default()), now));
}

#[test]
fn scream_allocates_nothing_per_packet() {
    let now = Instant::now();
    check(Call::new(Scream::new(now, ScreamConfig::default()), now));
}
