//! Handshakes over networks that lose, reorder, duplicate and cut off large datagrams.
//! `cargo xtask handshake-table` runs the same with a thousand seeds each.

mod common;
#[path = "common/network.rs"]
mod network;

use std::sync::Arc;

use common::config;
use network::{Cookie, Network, run};
use visavis_crypto::Group;
use visavis_dtls::{Config, Version};

/// Seeds per case; `VISAVIS_SEEDS` sets more.
fn seeds() -> u64 {
    std::env::var("VISAVIS_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(12)
}

fn configs(version: Version, group: Group) -> (Arc<Config>, Arc<Config>) {
    let (mut client, mut server) = (config(1), config(2));
    for config in [&mut client, &mut server] {
        config.min_version = version;
        config.max_version = version;
        config.groups = vec![group];
    }
    (Arc::new(client), Arc::new(server))
}

#[test]
fn every_network_lets_every_handshake_complete() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for group in [Group::X25519, Group::X25519MlKem768] {
            if version == Version::Dtls12 && !group.is_for_tls12() {
                continue;
            }
            let (client, server) = configs(version, group);
            for network in Network::ALL {
                for (seed, cookie) in (0..seeds()).zip([Cookie::No, Cookie::Yes].iter().cycle()) {
                    let outcome = run(&client, &server, network, *cookie, seed);
                    assert!(
                        outcome.is_complete(),
                        "{version} {group:?} {network:?} {cookie:?} seed {seed}: {outcome:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn round_trips_without_loss_are_exact() {
    for group in Group::ALL {
        let (client, server) = configs(Version::Dtls13, group);
        let outcome = run(&client, &server, Network::Clean, Cookie::No, 1);
        assert_eq!(outcome.round_trips(), 1.0, "DTLS 1.3 {group:?}");
        let outcome = run(&client, &server, Network::Clean, Cookie::Yes, 1);
        assert_eq!(outcome.round_trips(), 2.0, "DTLS 1.3 {group:?} with cookie");
        if group.is_for_tls12() {
            let (client, server) = configs(Version::Dtls12, group);
            let outcome = run(&client, &server, Network::Clean, Cookie::No, 1);
            assert_eq!(outcome.round_trips(), 2.0, "DTLS 1.2 {group:?}");
            let outcome = run(&client, &server, Network::Clean, Cookie::Yes, 1);
            assert_eq!(outcome.round_trips(), 3.0, "DTLS 1.2 {group:?} with cookie");
        }
    }
}
