//! How long a connection takes to come up, over simulated links, beside str0m on the same links, and
//! over loopback sockets beside others: `cargo xtask setup-table`.
//!
//! Signalling takes no time here; what counts is what ICE, DTLS and SCTP need. Google published
//! 850, 750 and 650 ms to DTLS writable at 200 ms round trip, 220 kbit/s and no loss for DTLS 1.2, 1.3
//! and 1.3 with the post-quantum group in STUN.

#[path = "../../../crates/peer/tests/common/mod.rs"]
mod common;
mod end;
mod ends;
mod node;
mod ours;
mod process;
mod str0m_end;
mod str0m_setup;
mod webrtc_end;

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use common::{ALICE, BOB, Call, End};
use serde_json::json;
use visavis_crypto::Group;
use visavis_dtls::Version;
use visavis_netsim::LinkConfig;
use visavis_peer::{
    ChannelOptions, Configuration, DtlsState, Event, Kind, MessageKind, OutgoingRtp,
};
use visavis_report::{Options, Table};

use self::str0m_setup::Str0mMode;

/// What the handshake is made of.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    version: Version,
    post_quantum: bool,
    snap: bool,
    sped: bool,
    /// Milliseconds to DTLS writable that Google gives at no loss.
    published: Option<f64>,
    /// What str0m calls it, where it has it.
    str0m: Option<Str0mMode>,
}

const PLAIN: Mode = Mode {
    name: "DTLS 1.3",
    version: Version::Dtls13,
    post_quantum: false,
    snap: false,
    sped: false,
    published: None,
    str0m: None,
};

const MODES: [Mode; 7] = [
    Mode {
        name: "DTLS 1.2",
        version: Version::Dtls12,
        published: Some(850.0),
        str0m: Some(Str0mMode {
            dtls13: false,
            snap: false,
        }),
        ..PLAIN
    },
    Mode {
        published: Some(750.0),
        str0m: Some(Str0mMode {
            dtls13: true,
            snap: false,
        }),
        ..PLAIN
    },
    Mode {
        name: "DTLS 1.3 ML-KEM",
        post_quantum: true,
        ..PLAIN
    },
    Mode {
        name: "DTLS 1.3 SPED",
        sped: true,
        ..PLAIN
    },
    Mode {
        name: "DTLS 1.3 ML-KEM SPED",
        post_quantum: true,
        sped: true,
        published: Some(650.0),
        ..PLAIN
    },
    Mode {
        name: "DTLS 1.3 SNAP",
        snap: true,
        str0m: Some(Str0mMode {
            dtls13: true,
            snap: true,
        }),
        ..PLAIN
    },
    Mode {
        name: "DTLS 1.3 SPED SNAP",
        snap: true,
        sped: true,
        ..PLAIN
    },
];

/// Milliseconds from the offer on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    pub writable: f64,
    pub message: f64,
    pub media: f64,
}

fn run(mode: Mode, link: &LinkConfig, seed: u64) -> Option<Times> {
    let mut configuration = Configuration::default();
    configuration.dtls.min_version = mode.version;
    configuration.dtls.max_version = mode.version;
    if !mode.post_quantum {
        configuration.dtls.groups = vec![Group::X25519, Group::Secp256r1];
    }
    (configuration.snap, configuration.sped) = (mode.snap, mode.sped);
    let mut call = Call::new(seed, link.clone(), [configuration.clone(), configuration]);
    let begin = call.now();
    let now = call.now();
    let channel = call
        .pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .ok()?;
    let audio = call.pc(ALICE).add_track(Kind::Audio, "a", &[]).ok()?;
    call.negotiate(ALICE);
    let mut times = Times::default();
    let since = |call: &Call| (call.now() - begin).as_secs_f64() * 1000.0;
    let writable = |end: &End| end.pc.dtls_state() == DtlsState::Connected;
    if !call.run(60.0, |alice, bob| writable(alice) && writable(bob)) {
        return None;
    }
    times.writable = since(&call);
    // A packet each 20 ms until one arrives, as a microphone gives them, and a message as soon as
    // the channel is open.
    let (mut sequence, mut sent) = (0u16, false);
    while times.message == 0.0 || times.media == 0.0 {
        let now = call.now();
        sequence = sequence.wrapping_add(1);
        let packet = OutgoingRtp {
            payload_type: 111,
            sequence,
            payload: &[0; 80],
            ..OutgoingRtp::default()
        };
        // Refused while too many wait for a path.
        let _ = call.pc(ALICE).send_rtp(now, audio, 0, &packet);
        if !sent {
            let hello = Bytes::from_static(b"hello");
            let result = call.pc(ALICE).send(now, channel, MessageKind::Text, hello);
            sent = result.is_ok();
        }
        let got = |end: &End| end.saw(|event| matches!(event, Event::Message { .. }));
        let (had, heard) = (got(call.end(BOB)), !call.end(BOB).rtp.is_empty());
        let open = |end: &End| end.saw(|event| matches!(event, Event::DataChannelOpen(_)));
        call.run(0.02, |alice, bob| {
            got(bob) != had || bob.rtp.is_empty() == heard || (!sent && open(alice))
        });
        if times.message == 0.0 && got(call.end(BOB)) {
            times.message = since(&call);
        }
        if times.media == 0.0 && !call.end(BOB).rtp.is_empty() {
            times.media = since(&call);
        }
        if since(&call) > 60_000.0 {
            return None;
        }
    }
    Some(times)
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 - 1.0) * q;
    values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

/// Milliseconds from making the offerer's connection until its channel is open, two processes on this
/// machine: the median of several.
fn time_to_open(stack: &str, runs: usize) -> f64 {
    let load = end::Load {
        message: 1024,
        total: 0,
        ordered: true,
    };
    let mut all: Vec<f64> = (0..runs)
        .map(|_| ends::run(stack, load).open * 1000.0)
        .collect();
    quantile(&mut all, 0.5)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if ends::serve(&arguments) {
        return ExitCode::SUCCESS;
    }
    let (options, rest) = Options::from_arguments();
    let default = if options.quick { 5 } else { 100 };
    let seeds = rest.first().and_then(|n| n.parse().ok()).unwrap_or(default);
    let columns = [
        "stack",
        "handshake",
        "round trip",
        "kbit/s",
        "loss",
        "writable p50",
        "p95",
        "first message p50",
        "p95",
        "first media p50",
        "p95",
        "failed",
    ];
    let mut table = Table::new("Time to come up, ms from the offer", &columns);
    let links = [(100, None), (200, Some(220_000u64))];
    for mode in MODES {
        for (trip, rate) in links {
            for loss in [0.0, 0.05, 0.10, 0.25] {
                let mut link = LinkConfig::new()
                    .delay(Duration::from_millis(trip / 4))
                    // Two links in a row lose this together.
                    .random_loss(1.0 - (1.0f64 - loss).sqrt());
                if let Some(rate) = rate {
                    link = link.rate(rate);
                }
                let runs = if loss == 0.0 { 1 } else { seeds };
                let mut row = |stack: &str, all: &[Option<Times>]| {
                    let failed = all.iter().filter(|times| times.is_none()).count();
                    let pick = |which: fn(&Times) -> f64, q| {
                        let mut values: Vec<f64> = all.iter().flatten().map(which).collect();
                        quantile(&mut values, q).round()
                    };
                    let writable = pick(|times| times.writable, 0.5);
                    table.row(vec![
                        json!(stack),
                        json!(mode.name),
                        json!(trip),
                        json!(rate.map_or(0, |rate| rate / 1000)),
                        json!(format!("{:.0} %", loss * 100.0)),
                        json!(writable),
                        json!(pick(|times| times.writable, 0.95)),
                        json!(pick(|times| times.message, 0.5)),
                        json!(pick(|times| times.message, 0.95)),
                        json!(pick(|times| times.media, 0.5)),
                        json!(pick(|times| times.media, 0.95)),
                        json!(failed),
                    ]);
                    writable
                };
                let ours: Vec<_> = (1..=runs).map(|seed| run(mode, &link, seed)).collect();
                let writable = row("visavis", &ours);
                if let Some(theirs) = mode.str0m {
                    let all: Vec<_> = (1..=runs)
                        .map(|seed| str0m_setup::run(theirs, &link, seed))
                        .collect();
                    let theirs = row("str0m", &all);
                    if loss == 0.0 {
                        let name = format!("{}, {trip} ms: writable beside str0m", mode.name);
                        table.at_most(&name, writable, theirs);
                    }
                }
                if let (Some(published), 200, 0.0) = (mode.published, trip, loss) {
                    let name = format!("{} to writable, ms", mode.name);
                    table.at_most(&name, writable, published);
                }
            }
        }
    }
    let mut ours = f64::NAN;
    for stack in ends::STACKS
        .into_iter()
        .filter(|stack| ends::is_there(stack))
    {
        let took = time_to_open(stack, if options.quick { 3 } else { 21 });
        table.note(format!(
            "{stack}, loopback: channel open after {took:.1} ms"
        ));
        if stack == "visavis" {
            ours = took;
        } else {
            let name = format!("ms to an open channel on loopback beside {stack}");
            table.at_most(
                &name,
                (ours * 10.0).round() / 10.0,
                (took * 10.0).round() / 10.0,
            );
        }
    }
    table.note(format!("on loopback: median of new processes, from making the connection on, candidates in the descriptions; {}", ends::ABOUT));
    table.note(format!(
        "visavis-peer {}, str0m 0.25, seeds 1 to {seeds}; signalling takes no time",
        env!("CARGO_PKG_VERSION")
    ));
    table.finish(options)
}
