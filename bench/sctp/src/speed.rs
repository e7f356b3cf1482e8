//! Association to association in one thread, without I/O: bytes per second for both ends together,
//! what a packet costs each of them, allocations per packet, the size of an idle association, and the
//! same with DTLS beneath.

mod over_dtls;

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bench_crypto::{cpu_nanoseconds, machine};
use bytes::Bytes;
use interop_sctp::{Dcsctp, Delivery, Ours, SctpProto, Stack, browser_options};
use serde_json::json;
use visavis_datagram::TransmitBuf;
use visavis_dtls::Version;
use visavis_report::{Options, Table};
use visavis_sctp::{Config, ControllerKind, PacketSizes};

/// Counts what is allocated.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: everything is passed on to the system's allocator as it came; the counters have no part
// in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(size as i64 - layout.size() as i64, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What one transfer gave.
struct Measured {
    /// Of payload, per second of CPU time of both ends together.
    bytes_per_second: f64,
    allocations_per_packet: f64,
}

fn connect<S: Stack>(a: &mut S, b: &mut S) {
    a.connect(Instant::now());
    for _ in 0..10_000 {
        let now = Instant::now();
        a.hand_over(now, b);
        b.hand_over(now, a);
        if a.is_connected() && b.is_connected() {
            return;
        }
        a.receive();
        b.receive();
    }
    panic!("{} did not connect", a.name());
}

/// Sends for `span`, and for a fifth of it before to warm up.
fn transfer<S: Stack>(a: &mut S, b: &mut S, size: usize, span: Duration) -> Measured {
    connect(a, b);
    let source = Bytes::from(vec![0x5a; 1 << 20]);
    let mut offset = 0;
    let start = Instant::now();
    let mut begun: Option<(Instant, f64, u64)> = None;
    let (mut bytes, mut packets) = (0u64, 0u64);
    loop {
        let now = Instant::now();
        if now >= start + span / 5 && begun.is_none() {
            begun = Some((now, cpu_nanoseconds(), ALLOCATIONS.load(Ordering::Relaxed)));
            (bytes, packets) = (0, 0);
        }
        if let Some((at, cpu, allocations)) = begun
            && now >= at + span
        {
            let allocated = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
            return Measured {
                bytes_per_second: bytes as f64 * 1e9 / (cpu_nanoseconds() - cpu),
                allocations_per_packet: allocated as f64 / packets.max(1) as f64,
            };
        }
        for _ in 0..(262_144 / size).max(1) {
            if offset + size > source.len() {
                offset = 0;
            }
            if !a.send(
                now,
                1,
                source.slice(offset..offset + size),
                Delivery::Reliable,
            ) {
                break;
            }
            offset += 64;
        }
        packets += a.hand_over(now, b) as u64;
        while let Some(got) = b.discard() {
            bytes += got as u64;
        }
        b.hand_over(now, a);
        for end in [&mut *a, &mut *b] {
            if end.poll_timeout().is_some_and(|at| at <= now) {
                end.handle_timeout(now);
            }
        }
    }
}

fn config(checksum: bool, interleaving: bool) -> Config {
    let mut config = Config {
        zero_checksum: !checksum,
        interleaving,
        // The size that the others have.
        packet_sizes: PacketSizes {
            base: 1188,
            max: 1188,
        },
        controller: ControllerKind::Model,
        ..Config::default()
    };
    config.limits.send_buffer = 1 << 20;
    config
}

/// Nanoseconds of CPU time per data packet at the sender (its SACKs included), and at the receiver.
fn per_packet(checksum: bool, span: Duration) -> (f64, f64) {
    let mut a = Ours::new(config(checksum, true), 1);
    let mut b = Ours::new(config(checksum, true), 2);
    connect(&mut a, &mut b);
    // One packet each: 12 + 20 + 1156 = 1188.
    let payload = Bytes::from(vec![1; 1156]);
    let mut out = TransmitBuf::new(48, 1500);
    let (mut sending, mut receiving) = (0.0, 0.0);
    let mut packets = 0u32;
    let start = Instant::now();
    let mut warm = false;
    loop {
        let now = Instant::now();
        if !warm && now > start + span / 5 {
            warm = true;
            (sending, receiving, packets) = (0.0, 0.0, 0);
        }
        if now > start + span {
            let count = f64::from(packets.max(1));
            return (sending / count, receiving / count);
        }
        let mut clock = cpu_nanoseconds();
        // What was spent since the last call.
        let mut lap = || {
            let before = std::mem::replace(&mut clock, cpu_nanoseconds());
            clock - before
        };
        for _ in 0..48 {
            if !a.send(now, 1, payload.clone(), Delivery::Reliable) {
                break;
            }
        }
        loop {
            out.clear();
            let any = a.association.poll_transmit(now, &mut out).is_some();
            sending += lap();
            if !any {
                break;
            }
            for (datagram, payload) in out.datagrams_mut() {
                b.association.handle_packet(now, &datagram[payload]);
                packets += 1;
            }
            while b.discard().is_some() {}
            receiving += lap();
        }
        out.clear();
        let any = b.association.poll_transmit(now, &mut out).is_some();
        receiving += lap();
        if any {
            for (datagram, payload) in out.datagrams_mut() {
                a.association.handle_packet(now, &datagram[payload]);
            }
        }
        if a.association.poll_timeout().is_some_and(|at| at <= now) {
            a.association.handle_timeout(now);
        }
        sending += lap();
    }
}

/// Heap and inline bytes of an association that is open and idle: fresh, and after a transfer.
fn idle_size() -> (f64, f64) {
    let epoch = Instant::now();
    let make = || {
        let a = Box::new(Ours::new(Config::default(), 1).association);
        let b = Box::new(Ours::new(Config::default(), 2).association);
        (a, b)
    };
    let before = LIVE.load(Ordering::Relaxed);
    let (mut a, mut b) = make();
    let mut out = TransmitBuf::new(48, 1500);
    let buffer = 48 * 1500;
    let mut exchange = |a: &mut visavis_sctp::Association,
                        b: &mut visavis_sctp::Association,
                        from: Instant,
                        steps: u32,
                        step: Duration| {
        for index in 0..steps {
            let now = from + step * index;
            a.handle_timeout(now);
            b.handle_timeout(now);
            for flip in [false, true] {
                let (x, y) = if flip {
                    (&mut *b, &mut *a)
                } else {
                    (&mut *a, &mut *b)
                };
                loop {
                    out.clear();
                    if x.poll_transmit(now, &mut out).is_none() {
                        break;
                    }
                    for (datagram, payload) in out.datagrams_mut() {
                        y.handle_packet(now, &datagram[payload]);
                    }
                }
                while x.recv().is_some() {}
                while x.poll_event().is_some() {}
            }
        }
        from + step * steps
    };
    a.connect(epoch).expect("not connected yet");
    let now = exchange(&mut a, &mut b, epoch, 1000, Duration::from_millis(1));
    let fresh = LIVE.load(Ordering::Relaxed) - before - buffer;
    for index in 0..100u16 {
        a.send(
            now,
            visavis_sctp::StreamId(index),
            visavis_sctp::Ppid::BINARY,
            Bytes::from(vec![1; 100_000]),
            visavis_sctp::SendOptions::default(),
        )
        .expect("room");
    }
    let now = exchange(&mut a, &mut b, now, 5000, Duration::from_millis(1));
    let streams: Vec<_> = (0..100).map(visavis_sctp::StreamId).collect();
    a.reset_streams(now, &streams).expect("open");
    exchange(&mut a, &mut b, now, 200, Duration::from_secs(1));
    let later = LIVE.load(Ordering::Relaxed) - before - buffer;
    drop((a, b, streams));
    (fresh as f64 / 2.0, later as f64 / 2.0)
}

fn main() -> ExitCode {
    let (options, _) = Options::from_arguments();
    let span = if options.quick {
        Duration::from_millis(700)
    } else {
        Duration::from_secs(4)
    };
    let mut table = Table::new(
        "SCTP association to association, one core, both ends, no I/O",
        &[
            "stack",
            "message bytes",
            "MB per CPU second",
            "allocations per packet",
        ],
    );
    let mut best = std::collections::HashMap::new();
    let mut ours = std::collections::HashMap::new();
    for size in [100, 1024, 16_384, 65_536] {
        let mut row = |name: &str, measured: &Measured| {
            table.row(vec![
                json!(name),
                json!(size),
                json!((measured.bytes_per_second / 1e6).round()),
                json!((measured.allocations_per_packet * 1000.0).round() / 1000.0),
            ]);
        };
        let epoch = Instant::now();
        let mut peers = Vec::new();
        let mut a = SctpProto::new(1160, 4 << 20);
        let mut b = SctpProto::new(1160, 4 << 20);
        let measured = transfer(&mut a, &mut b, size, span);
        row("sctp-proto 0.10.8", &measured);
        peers.push(measured.bytes_per_second);
        let mut a = Dcsctp::new(epoch, &browser_options(false));
        let mut b = Dcsctp::new(epoch, &browser_options(false));
        let measured = transfer(&mut a, &mut b, size, span);
        row(&a.name(), &measured);
        peers.push(measured.bytes_per_second);
        best.insert(size, peers.iter().copied().fold(0.0, f64::max));
        for (name, checksum, interleaving) in [
            ("visavis, CRC32c, DATA", true, false),
            ("visavis, CRC32c, I-DATA", true, true),
            ("visavis, zero checksum, I-DATA", false, true),
        ] {
            let mut a = Ours::new(config(checksum, interleaving), 1);
            let mut b = Ours::new(config(checksum, interleaving), 2);
            let measured = transfer(&mut a, &mut b, size, span);
            row(name, &measured);
            ours.insert((size, name), measured);
        }
        for (name, version, checksum) in [
            (
                "visavis over DTLS 1.3, zero checksum",
                Version::Dtls13,
                false,
            ),
            ("visavis over DTLS 1.3, CRC32c", Version::Dtls13, true),
            (
                "visavis over DTLS 1.2, zero checksum",
                Version::Dtls12,
                false,
            ),
        ] {
            let measured = over_dtls::transfer(version, checksum, size, span);
            row(name, &measured);
            ours.insert((size, name), measured);
        }
    }
    for size in [1024, 16_384, 65_536] {
        let measured = &ours[&(size, "visavis, CRC32c, DATA")];
        table.at_least(
            &format!("times the better peer, {size}-byte messages, with checksum"),
            measured.bytes_per_second / best[&size],
            3.0,
        );
        for name in [
            "visavis, CRC32c, DATA",
            "visavis over DTLS 1.3, zero checksum",
        ] {
            // A message beyond half a block has a buffer of its own: one in 57 packets here.
            let goal = if size == 65_536 { 0.02 } else { 0.001 };
            table.at_most(
                &format!("allocations per packet, {size}-byte messages, {name}"),
                ours[&(size, name)].allocations_per_packet,
                goal,
            );
        }
    }
    let measured = &ours[&(65_536, "visavis over DTLS 1.3, zero checksum")];
    table.note(format!(
        "over DTLS 1.3 (AES-128-GCM), 65536-byte messages: {:.2} CPU seconds per GB, both ends",
        1e9 / measured.bytes_per_second
    ));
    for (name, checksum) in [("CRC32c", true), ("zero checksum", false)] {
        let (sending, receiving) = per_packet(checksum, span);
        table.note(format!(
            "1188-byte packets, {name}: sender {sending:.0} ns, receiver {receiving:.0} ns each"
        ));
    }
    let (fresh, later) = idle_size();
    table.note(format!(
        "idle association: {fresh:.0} bytes fresh, {later:.0} bytes two minutes after 100 streams sent 10 MB"
    ));
    table.at_most("bytes of an idle association", fresh.max(later), 8192.0);
    table.note(machine());
    table.note("packets of 1188 (visavis), 1188 (sctp-proto), 1191 (dcsctp) bytes; dcsctp and sctp-proto verify CRC32c");
    table.finish(options)
}
