//! Two agents on one host, where loopback reaches every address: it is what is used last.

mod common;

use std::time::{Duration, Instant};

use common::script::{answer, drain, give, is_request};
use common::{address, agent};
use visavis_ice::{Config, Credentials, LocalAddress, RemoteParameters};

const LOOPBACK: &str = "127.0.0.1:5000";
const WIFI: &str = "192.0.2.1:5001";
const PEER_PWD: &str = "peerpasswordpeerpassword";

/// The pair that is in use after two seconds in which an honest peer on the same host, a browser perhaps, answered
/// every check.
fn selected(locals: &[(&str, u16)]) -> String {
    let start = Instant::now();
    let mut config = Config::default();
    config.filter.loopback = true;
    let mut agent = agent(config, 1, start);
    for (local, cost) in locals {
        let mut local = LocalAddress::udp(address(local));
        local.network.cost = *cost;
        agent.add_local_address(start, local).unwrap();
    }
    agent.gather(start);
    let peer = RemoteParameters::new(Credentials::new("peer", PEER_PWD));
    agent.set_remote(start, peer).unwrap();
    let line = "candidate:1 1 udp 2122187007 192.0.2.1 6000 typ host";
    agent.add_remote_candidate(start, line.parse().unwrap());
    for step in 0..400 {
        let now = start + Duration::from_millis(5) * step;
        agent.handle_timeout(now);
        for (path, bytes) in drain(&mut agent, now) {
            if is_request(&bytes) {
                give(&mut agent, now, path, &answer(&bytes, PEER_PWD, path.local));
            }
        }
    }
    let pair = agent.selected_pair().expect("a pair");
    pair.path.local.to_string()
}

#[test]
fn loopback_is_no_way_to_another_address_while_there_is_a_better_one() {
    // Wi-Fi is dearer than loopback, and still the way that the peer can use.
    assert_eq!(selected(&[(LOOPBACK, 0), (WIFI, 10)]), WIFI);
    assert_eq!(selected(&[(WIFI, 10), (LOOPBACK, 0)]), WIFI);
}

#[test]
fn loopback_alone_reaches_the_addresses_of_its_host() {
    assert_eq!(selected(&[(LOOPBACK, 0)]), LOOPBACK);
}

/// Each check takes a slot of the pace: what may lead to the peer comes before loopback, whatever the peer thinks of its own.
#[test]
fn the_first_check_leaves_the_host() {
    let start = Instant::now();
    let mut config = Config::default();
    config.filter.loopback = true;
    let mut agent = agent(config, 1, start);
    for local in ["[::1]:5000", LOOPBACK, WIFI] {
        let local = LocalAddress::udp(address(local));
        agent.add_local_address(start, local).unwrap();
    }
    agent.gather(start);
    let peer = RemoteParameters::new(Credentials::new("peer", PEER_PWD));
    agent.set_remote(start, peer).unwrap();
    for line in [
        "candidate:1 1 udp 2130706431 ::1 6000 typ host",
        "candidate:2 1 udp 2130706175 127.0.0.1 6000 typ host",
        "candidate:3 1 udp 2122187007 192.0.2.2 6000 typ host",
    ] {
        agent.add_remote_candidate(start, line.parse().unwrap());
    }
    let mut asked = Vec::new();
    for step in 0..80 {
        let now = start + Duration::from_millis(5) * step;
        agent.handle_timeout(now);
        let requests = drain(&mut agent, now);
        asked.extend(requests.iter().map(|(path, _)| path.remote.to_string()));
    }
    assert_eq!(asked[0], "192.0.2.2:6000", "{asked:?}");
    // Who is on this host after all is found too.
    assert!(asked.contains(&"[::1]:6000".to_owned()), "{asked:?}");
}
