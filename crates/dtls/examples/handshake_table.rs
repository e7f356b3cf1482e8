//! `cargo xtask handshake-table`: every version, group and certificate over every network, with many
//! seeds each; round trips without loss asserted exactly.

#[path = "../tests/common/network.rs"]
mod network;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use network::{Cookie, Network, Outcome, run};
use serde_json::json;
use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, Group, KeyAlgorithm};
use visavis_datagram::Random;
use visavis_dtls::{Config, Version};
use visavis_report::{Options, Table};

/// Seeds per row.
const SEEDS: u64 = 1000;
const QUICK_SEEDS: u64 = 25;

fn main() -> ExitCode {
    let (options, arguments) = Options::from_arguments();
    let seeds = match arguments.first().and_then(|seeds| seeds.parse().ok()) {
        Some(seeds) => seeds,
        None if options.quick => QUICK_SEEDS,
        None => SEEDS,
    };
    let mut table = Table::new(
        "DTLS handshakes, 50 ms each way",
        &[
            "version",
            "group",
            "cookie",
            "network",
            "complete",
            "round trips",
            "client p50 ms",
            "client p99 ms",
            "server p99 ms",
            "datagrams",
        ],
    );
    for version in [Version::Dtls13, Version::Dtls12] {
        for group in Group::ALL {
            if version == Version::Dtls12 && !group.is_for_tls12() {
                continue;
            }
            for cookie in [Cookie::No, Cookie::Yes] {
                let (client, server) = configs(version, group);
                for network in Network::ALL {
                    let outcomes: Vec<Outcome> = (0..seeds)
                        .map(|seed| run(&client, &server, network, cookie, seed))
                        .collect();
                    row(&mut table, version, group, cookie, network, &outcomes);
                }
            }
        }
    }
    table.note(format!(
        "{seeds} seeds per row, from 0; both ends are ours; retransmission timeout 400 ms, 1 s at most"
    ));
    table.finish(options)
}

fn row(
    table: &mut Table,
    version: Version,
    group: Group,
    cookie: Cookie,
    network: Network,
    outcomes: &[Outcome],
) {
    let name = format!("{version} {group:?} cookie {cookie:?} {network:?}");
    let complete = outcomes.iter().filter(|o| o.is_complete()).count();
    if let Some(seed) = outcomes.iter().position(|o| !o.is_complete()) {
        table.note(format!("{name}: seed {seed} did not complete"));
    }
    table.at_least(
        &format!("{name}: complete"),
        complete as f64,
        outcomes.len() as f64,
    );
    let trips = outcomes.first().map_or(f64::NAN, Outcome::round_trips);
    if network == Network::Clean {
        // RFC 9147 figure 7, RFC 6347 figure 1: until the client may send data.
        let exact = match (version, cookie) {
            (Version::Dtls13, Cookie::No) => 1.0,
            (Version::Dtls13, Cookie::Yes) | (Version::Dtls12, Cookie::No) => 2.0,
            (Version::Dtls12, Cookie::Yes) => 3.0,
        };
        table.at_least(&format!("{name}: round trips"), trips, exact);
        table.at_most(&format!("{name}: round trips"), trips, exact);
    }
    let percentile = |time: fn(&Outcome) -> Option<Duration>, part: f64| {
        let mut times: Vec<Duration> = outcomes.iter().filter_map(time).collect();
        times.sort();
        let index = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
        times
            .get(index)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
            .round()
    };
    let datagrams: u64 = outcomes.iter().map(|o| o.datagrams).sum();
    table.row(vec![
        json!(version.to_string()),
        json!(format!("{group:?}")),
        json!(format!("{cookie:?}")),
        json!(format!("{network:?}")),
        json!(format!("{complete}/{}", outcomes.len())),
        if network == Network::Clean {
            json!(trips)
        } else {
            json!("")
        },
        json!(percentile(|o| o.client, 0.5)),
        json!(percentile(|o| o.client, 0.99)),
        json!(percentile(|o| o.server, 0.99)),
        json!((datagrams as f64 / outcomes.len() as f64 * 10.0).round() / 10.0),
    ]);
}

fn configs(version: Version, group: Group) -> (Arc<Config>, Arc<Config>) {
    let config = |seed| {
        let options = SelfSigned {
            algorithm: KeyAlgorithm::EcdsaP256,
            ..SelfSigned::at(1_800_000_000)
        };
        let certificate =
            Certificate::self_signed(&options, &mut Random::from_u64(seed)).expect("a certificate");
        let mut config = Config::new(certificate);
        config.min_version = version;
        config.max_version = version;
        config.groups = vec![group];
        Arc::new(config)
    };
    (config(1), config(2))
}
