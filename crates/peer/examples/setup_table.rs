//! How long a connection takes to come up, over simulated links: `cargo xtask setup-table`.
//!
//! Signalling takes no time here; what counts is what ICE, DTLS and SCTP need. Google published
//! 850, 750 and 650 ms to DTLS writable at 200 ms round trip, 220 kbit/s and no loss for DTLS 1.2, 1.3
//! and 1.3 in STUN.

#[path = "../tests/common/mod.rs"]
mod common;

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
}

const MODES: [Mode; 7] = [
    mode(
        "DTLS 1.2",
        Version::Dtls12,
        false,
        false,
        false,
        Some(850.0),
    ),
    mode(
        "DTLS 1.3",
        Version::Dtls13,
        false,
        false,
        false,
        Some(750.0),
    ),
    mode("DTLS 1.3 ML-KEM", Version::Dtls13, true, false, false, None),
    mode(
        "DTLS 1.3 SPED",
        Version::Dtls13,
        false,
        false,
        true,
        Some(650.0),
    ),
    mode(
        "DTLS 1.3 ML-KEM SPED",
        Version::Dtls13,
        true,
        false,
        true,
        None,
    ),
    mode("DTLS 1.3 SNAP", Version::Dtls13, false, true, false, None),
    mode(
        "DTLS 1.3 SPED SNAP",
        Version::Dtls13,
        false,
        true,
        true,
        None,
    ),
];

const fn mode(
    name: &'static str,
    version: Version,
    post_quantum: bool,
    snap: bool,
    sped: bool,
    published: Option<f64>,
) -> Mode {
    Mode {
        name,
        version,
        post_quantum,
        snap,
        sped,
        published,
    }
}

/// Milliseconds from the offer on.
#[derive(Clone, Copy)]
struct Times {
    writable: f64,
    message: f64,
    media: f64,
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
    let mut times = Times {
        writable: 0.0,
        message: 0.0,
        media: 0.0,
    };
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
        call.pc(ALICE).send_rtp(now, audio, 0, &packet).ok()?;
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

fn main() -> ExitCode {
    let (options, rest) = Options::from_arguments();
    let default = if options.quick { 5 } else { 100 };
    let seeds = rest.first().and_then(|n| n.parse().ok()).unwrap_or(default);
    let columns = [
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
                let all: Vec<_> = (1..=runs).map(|seed| run(mode, &link, seed)).collect();
                let failed = all.iter().filter(|times| times.is_none()).count();
                let pick = |which: fn(&Times) -> f64, q| {
                    let mut values: Vec<f64> = all.iter().flatten().map(which).collect();
                    quantile(&mut values, q).round()
                };
                let writable = pick(|times| times.writable, 0.5);
                table.row(vec![
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
                if let (Some(published), 200, 0.0) = (mode.published, trip, loss) {
                    let name = format!("{} to writable, ms", mode.name);
                    table.at_most(&name, writable, published);
                }
            }
        }
    }
    table.note(format!(
        "visavis-peer {}, seeds 1 to {seeds}; signalling takes no time",
        env!("CARGO_PKG_VERSION")
    ));
    table.finish(options)
}
