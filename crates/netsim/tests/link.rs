//! Link models: what is measured agrees with what was configured.

mod common;

use std::time::{Duration, Instant};

use common::ms;
use visavis_datagram::Ecn;
use visavis_netsim::{
    CoDelConfig, DualQConfig, Jitter, Limit, LinkConfig, Loss, Pipe, Queue, RateTrace, Side,
};

/// Bytes of UDP and IPv4 headers.
const HEADERS: usize = 28;
const SEED: u64 = 11;

/// Sends `count` numbered datagrams of a size at an interval; answers what arrived: number, when
/// it was sent, when it arrived, ECN.
fn offer(
    pipe: &mut Pipe,
    count: u32,
    size: usize,
    every: Duration,
    ecn: Ecn,
) -> Vec<(u32, Duration, Duration, Ecn)> {
    let start = pipe.now();
    let mut got = Vec::new();
    let mut bytes = vec![0; size - HEADERS];
    let mut take = |pipe: &mut Pipe, until: Instant| {
        while let Some(arrived) = pipe.step(until) {
            let number = u32::from_be_bytes(arrived.payload[..4].try_into().unwrap());
            got.push((number, every * number, arrived.now - start, arrived.ecn));
            pipe.recycle(arrived.payload);
        }
    };
    for number in 0..count {
        take(pipe, start + every * number);
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        pipe.send(Side::A, ecn, &bytes);
    }
    take(pipe, start + every * count + Duration::from_secs(60));
    got
}

fn pipe(config: LinkConfig) -> Pipe {
    Pipe::new(Instant::now(), SEED, config)
}

#[test]
fn rate_and_delay_are_exact() {
    let mut pipe = pipe(LinkConfig::new().delay(ms(30)).rate(1_000_000));
    let got = offer(&mut pipe, 10, 1250, Duration::ZERO, Ecn::NotEct);
    for (number, _, arrived, _) in &got {
        // 1250 bytes take 10 ms.
        assert_eq!(*arrived, ms(30) + ms(10) * (number + 1));
    }
    assert_eq!(got.len(), 10);
}

#[test]
fn a_full_drop_tail_queue_drops_the_newest() {
    for (limit, holds) in [
        (Limit::Packets(5), 5),
        (Limit::Bytes(5 * 1250), 5),
        (Limit::Time(ms(70)), 7),
    ] {
        let link = LinkConfig::new()
            .rate(1_000_000)
            .queue(Queue::DropTail(limit));
        let mut pipe = pipe(link);
        let got = offer(&mut pipe, 20, 1250, Duration::ZERO, Ecn::NotEct);
        // One more is in service.
        let numbers: Vec<u32> = got.iter().map(|packet| packet.0).collect();
        assert_eq!(numbers, (0..=holds).collect::<Vec<_>>(), "{limit:?}");
        let dropped = pipe.link_stats(Side::A).overflowed;
        assert_eq!(dropped, 19 - u64::from(holds));
    }
}

#[test]
fn random_loss_has_its_mean() {
    let mut pipe = pipe(LinkConfig::new().random_loss(0.05));
    let got = offer(&mut pipe, 40_000, 100, ms(1), Ecn::NotEct).len();
    let lost = 1.0 - got as f64 / 40_000.0;
    assert!((lost - 0.05).abs() < 0.005, "{lost}, seed {SEED}");
}

#[test]
fn gilbert_elliott_loss_has_its_mean_and_its_bursts() {
    for (mean, burst) in [(0.01, 3.0), (0.05, 5.0), (0.10, 10.0)] {
        let mut pipe = pipe(LinkConfig::new().loss(Loss::bursts(mean, burst)));
        let got = offer(&mut pipe, 100_000, 100, ms(1), Ecn::NotEct);
        let lost = 1.0 - got.len() as f64 / 100_000.0;
        assert!((lost / mean - 1.0).abs() < 0.25, "{lost} for {mean}");
        let gaps: Vec<u32> = got
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0 - 1)
            .filter(|&gap| gap > 0)
            .collect();
        let length = f64::from(gaps.iter().sum::<u32>()) / gaps.len() as f64;
        assert!((length / burst - 1.0).abs() < 0.2, "{length} for {burst}");
    }
}

#[test]
fn jitter_keeps_order_unless_told_otherwise() {
    let ordered = |jitter| {
        let mut pipe = pipe(LinkConfig::new().delay(ms(50)).jitter(jitter));
        let got = offer(&mut pipe, 5_000, 100, ms(1), Ecn::NotEct);
        assert_eq!(got.len(), 5_000);
        let delays = got.iter().map(|packet| packet.2 - packet.1);
        assert!(
            delays
                .clone()
                .all(|delay| (ms(50)..=ms(65)).contains(&delay))
        );
        assert!(delays.max() > Some(ms(60)), "jitter reaches its width");
        got.windows(2).all(|pair| pair[0].0 < pair[1].0)
    };
    assert!(ordered(Jitter::Uniform(ms(15))));
    assert!(ordered(Jitter::Normal(ms(5))));
    assert!(!ordered(Jitter::Reordering(ms(15))));
}

#[test]
fn reordering_duplication_and_corruption_have_their_rates() {
    let link = LinkConfig::new()
        .delay(ms(10))
        .reorder(0.02, ms(5))
        .duplicate(0.03);
    let mut first = pipe(link);
    let got = offer(&mut first, 20_000, 100, ms(1), Ecn::NotEct);
    let late = got.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    let near = |count: f64, rate: f64| (count / 20_000.0 / rate - 1.0).abs() < 0.2;
    assert!(near(late as f64, 0.02), "{late} reordered");
    assert!(near(got.len() as f64 - 20_000.0, 0.03), "{}", got.len());
    let mut second = pipe(LinkConfig::new().corrupt(0.04));
    for _ in 0..20_000 {
        second.send(Side::A, Ecn::NotEct, &[0; 50]);
    }
    let until = second.now();
    let mut flipped = 0;
    while let Some(arrived) = second.step(until) {
        let ones: u32 = arrived.payload.iter().map(|byte| byte.count_ones()).sum();
        assert!(ones <= 1);
        flipped += ones;
    }
    assert!(near(f64::from(flipped), 0.04), "{flipped} corrupted");
}

#[test]
fn the_mtu_can_be_a_black_hole() {
    let mut pipe = pipe(LinkConfig::new().mtu(1000).black_hole());
    pipe.send(Side::A, Ecn::NotEct, &[0; 973]);
    assert!(pipe.step(pipe.now() + ms(100)).is_none());
    assert!(pipe.take_packet_too_big().is_empty());
    assert_eq!(pipe.link_stats(Side::A).too_big, 1);
}

#[test]
fn a_rate_trace_is_followed() {
    let trace = RateTrace::new([(ms(0), 1_000_000), (ms(1000), 4_000_000)]);
    let mut pipe = pipe(LinkConfig::new().rate_trace(trace));
    // 8 Mbit/s are offered for 2 s.
    let got = offer(&mut pipe, 2000, 1000, ms(1), Ecn::NotEct);
    let between = |from, to| {
        let inside = |packet: &&(u32, Duration, Duration, Ecn)| packet.2 > from && packet.2 <= to;
        got.iter().filter(inside).count()
    };
    let (slow, fast) = (between(ms(0), ms(1000)), between(ms(1000), ms(2000)));
    assert!((120..=130).contains(&slow), "{slow} KB at 1 Mbit/s");
    assert!((490..=510).contains(&fast), "{fast} KB at 4 Mbit/s");
}

#[test]
fn a_change_in_mid_run_holds_for_what_waits() {
    let mut pipe = pipe(LinkConfig::new().rate(100_000));
    // 1250 bytes take 100 ms; half of the first is through when the rate rises tenfold.
    for _ in 0..2 {
        pipe.send(Side::A, Ecn::NotEct, &[0; 1222]);
    }
    let start = pipe.now();
    assert!(pipe.step(start + ms(50)).is_none());
    pipe.set_link(Side::A, LinkConfig::new().rate(1_000_000));
    let until = start + ms(1000);
    assert_eq!(pipe.step(until).unwrap().now - start, ms(55));
    assert_eq!(pipe.step(until).unwrap().now - start, ms(65));
    // A stalled link goes on where it stood.
    pipe.set_link(Side::A, LinkConfig::new().rate(0));
    pipe.send(Side::A, Ecn::NotEct, &[0; 1222]);
    assert!(pipe.step(start + ms(1000)).is_none());
    pipe.set_link(Side::A, LinkConfig::new().rate(1_000_000));
    assert_eq!(pipe.step(start + ms(2000)).unwrap().now - start, ms(1010));
}

/// Mean sojourn over the second half of a 20 s overload by 10 %, and what the link counted.
fn overload(queue: Queue, ecn: Ecn) -> (Duration, visavis_netsim::LinkStats, Vec<Ecn>) {
    let mut pipe = pipe(LinkConfig::new().rate(1_000_000).queue(queue));
    let got = offer(&mut pipe, 2_200, 1250, Duration::from_micros(9_091), ecn);
    let half = &got[got.len() / 2..];
    let sum: Duration = half.iter().map(|packet| packet.2 - packet.1).sum();
    let ecn = got.iter().map(|packet| packet.3).collect();
    (sum / half.len() as u32, *pipe.link_stats(Side::A), ecn)
}

#[test]
fn codel_drops_until_an_overload_no_longer_stands() {
    let (tail, ..) = overload(Queue::DropTail(Limit::Packets(1000)), Ecn::NotEct);
    let (mean, stats, _) = overload(Queue::CoDel(CoDelConfig::default()), Ecn::NotEct);
    assert!(tail > ms(1000), "{tail:?}");
    assert!(mean < ms(300), "{mean:?}");
    assert!(stats.aqm_dropped > 50, "{stats:?}");
    assert_eq!(stats.marked, 0);
}

#[test]
fn codel_marks_instead_of_dropping_what_is_ecn_capable() {
    let (_, stats, ecn) = overload(Queue::CoDel(CoDelConfig::default()), Ecn::Ect0);
    assert_eq!(stats.aqm_dropped, 0);
    let marked = ecn.iter().filter(|ecn| **ecn == Ecn::Ce).count() as u64;
    assert!(marked > 50);
    assert_eq!(stats.marked, marked);
}

#[test]
fn the_dual_queue_marks_ect_1_at_once_and_drops_the_rest() {
    let queue = || Queue::DualQ(DualQConfig::default());
    let (_, stats, ecn) = overload(queue(), Ecn::Ect1);
    let first = ecn.iter().position(|ecn| *ecn == Ecn::Ce).unwrap();
    // The queue grows by 0.9 ms per packet: the ramp is crossed within the first few.
    assert!(first < 20, "{first}");
    assert!(stats.marked > 1000, "{stats:?}");
    let (mean, stats, _) = overload(queue(), Ecn::NotEct);
    assert_eq!(stats.marked, 0);
    assert!(stats.aqm_dropped > 100, "{stats:?}");
    assert!(mean < ms(100), "{mean:?}");
}

#[test]
fn low_latency_packets_do_not_wait_behind_classic_ones() {
    let link = LinkConfig::new()
        .rate(10_000_000)
        .queue(Queue::DualQ(DualQConfig::default()));
    let mut pipe = pipe(link);
    for _ in 0..50 {
        pipe.send(Side::A, Ecn::NotEct, &[0; 1222]);
    }
    let start = pipe.now();
    pipe.send(Side::A, Ecn::Ect1, &[1; 1222]);
    let until = start + ms(1000);
    let mut order = Vec::new();
    while let Some(arrived) = pipe.step(until) {
        order.push(arrived.payload[0]);
    }
    assert_eq!(order.iter().position(|&first| first == 1), Some(1));
}
