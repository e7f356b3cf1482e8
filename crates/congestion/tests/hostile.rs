//! Feedback that lies: packets never sent, sequence and time jumps, absurd values.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use visavis_congestion::{
    Arrival, Controller, GoogCc, GoogCcConfig, Limits, PacerConfig, PacketKind, Queued, Release,
    Scream, ScreamConfig, Sender, SentPacket,
};
use visavis_datagram::Ecn;

#[derive(Debug, Clone)]
enum Act {
    Send { sequence: u64, size: usize },
    Feedback(Vec<(u64, Option<u64>, u8)>),
    Wait(u64),
    Remb(u64),
    Report(f64, u64),
    Limits(u64, u64, u64),
    Demand(u64),
    Path,
}

fn act() -> impl Strategy<Value = Act> {
    let sequence = prop_oneof![0u64..200, Just(u64::MAX), Just(1 << 40), any::<u64>()];
    let time = prop_oneof![
        0u64..10_000_000,
        Just(u64::MAX),
        Just(u64::MAX / 1000),
        any::<u64>()
    ];
    let report = (sequence.clone(), proptest::option::of(time), any::<u8>());
    prop_oneof![
        4 => (sequence, prop_oneof![0usize..1500, Just(usize::MAX / 4)])
            .prop_map(|(sequence, size)| Act::Send { sequence, size }),
        4 => proptest::collection::vec(report, 0..40).prop_map(Act::Feedback),
        3 => prop_oneof![0u64..200, Just(3_600_000u64)].prop_map(Act::Wait),
        1 => any::<u64>().prop_map(Act::Remb),
        1 => (any::<f64>(), any::<u64>()).prop_map(|(loss, rtt)| Act::Report(loss, rtt)),
        1 => (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(a, b, c)| Act::Limits(a, b, c)),
        1 => any::<u64>().prop_map(Act::Demand),
        1 => Just(Act::Path),
    ]
}

fn survive(controller: impl Controller, start: Instant, acts: &[Act]) {
    let mut sender: Sender<_, u32> = Sender::new(controller, PacerConfig::default());
    let mut now = start;
    let (mut min, mut max) = (30_000, 100_000_000);
    for act in acts {
        match act {
            Act::Send { sequence, size } => {
                let packet = Queued {
                    token: 0,
                    size: *size,
                    kind: PacketKind::Video,
                };
                let _ = sender.push(now, packet);
                for _ in 0..100 {
                    let Some(release) = sender.poll(now) else {
                        break;
                    };
                    let probe = match release {
                        Release::Packet { probe, .. } | Release::Padding { probe, .. } => probe,
                    };
                    let sent = SentPacket {
                        sequence: *sequence,
                        size: *size,
                        kind: PacketKind::Video,
                        probe,
                    };
                    sender.sent(now, &sent);
                }
            }
            Act::Feedback(reports) => {
                let arrivals: Vec<Arrival> = reports
                    .iter()
                    .map(|&(sequence, at, ecn)| Arrival {
                        sequence,
                        received_at: at.map(Duration::from_micros),
                        ecn: Ecn::from_bits(ecn),
                    })
                    .collect();
                sender.feedback(now, &arrivals);
            }
            Act::Wait(milliseconds) => {
                now += Duration::from_millis(*milliseconds);
                sender.handle_timeout(now);
            }
            Act::Remb(bitrate) => sender.controller.remb(now, *bitrate),
            Act::Report(loss, rtt) => {
                let rtt = Some(Duration::from_micros(*rtt));
                sender.controller.receiver_report(now, *loss, rtt);
            }
            Act::Limits(a, b, c) => {
                (min, max) = ((*a).min(*c), *c);
                let limits = Limits {
                    min,
                    start: *b,
                    max,
                };
                sender.controller.set_limits(now, limits);
            }
            Act::Demand(bitrate) => sender.controller.set_demand(now, *bitrate),
            Act::Path => sender.controller.path_changed(now),
        }
        let target = sender.target();
        // Rates are floating point inside: beyond 2^53 they round.
        let slack = max / 1_000_000 + 1;
        assert!(
            target.bitrate <= max.saturating_add(slack),
            "{target:?} > {max}"
        );
        assert!(
            target.bitrate.saturating_add(slack) >= min,
            "{target:?} < {min}"
        );
        let stats = sender.controller.stats();
        assert!((0.0..=1.0).contains(&stats.loss), "{stats:?}");
        let _ = sender.poll_timeout();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn google_congestion_control_stays_within_its_limits_whatever_it_is_told(
        acts in proptest::collection::vec(act(), 0..60),
    ) {
        let now = Instant::now();
        survive(GoogCc::new(now, GoogCcConfig::default()), now, &acts);
    }

    #[test]
    fn scream_stays_within_its_limits_whatever_it_is_told(
        acts in proptest::collection::vec(act(), 0..60),
    ) {
        let now = Instant::now();
        survive(Scream::new(now, ScreamConfig::default()), now, &acts);
    }
}

#[test]
fn silence_brings_the_rate_down_and_an_idle_sender_asks_for_nothing() {
    let start = Instant::now();
    let mut sender: Sender<_, u32> = Sender::new(
        GoogCc::new(start, GoogCcConfig::default()),
        PacerConfig::default(),
    );
    let mut now = start;
    let sent = |sequence| SentPacket {
        sequence,
        size: 1200,
        kind: PacketKind::Video,
        probe: None,
    };
    for sequence in 0..200 {
        sender.sent(now, &sent(sequence));
        let at = now - start + Duration::from_millis(30);
        sender.feedback(now, &[Arrival::received(sequence, at, Ecn::NotEct)]);
        now += Duration::from_millis(10);
    }
    let before = sender.target().bitrate;
    // Packets leave, nothing comes back.
    for sequence in 200..500 {
        sender.sent(now, &sent(sequence));
        sender.handle_timeout(now);
        now += Duration::from_millis(10);
    }
    let after = sender.target().bitrate;
    assert!(after < before / 2, "{before} to {after}");
    assert!(sender.controller.stats().silences > 0);
    // Then nothing is sent: the timeouts come to an end.
    let mut rounds = 0;
    while let Some(due) = sender.poll_timeout() {
        now = now.max(due);
        sender.handle_timeout(now);
        while sender.poll(now).is_some() {}
        rounds += 1;
        assert!(rounds < 100, "an idle sender still asks for time");
    }
}
