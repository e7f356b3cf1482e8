//! `visavis send` and `receive` while the network changes under them: the connection is not made anew, and data flows again within
//! seconds (`common/lab.rs`).
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "a test says what it measured")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::lab::{Lab, ROUTER, lab};
use common::{Running, noise, partial};
use tempfile::tempdir;

/// How long the data may stand still.
const STILL: Duration = Duration::from_secs(5);
/// Bytes that show that data flows.
const FLOW: u64 = 256 << 10;
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of each router before and after a change; different networks, so that the one does not go with the other.
const ROUTERS: (&str, &str) = ("198.51.100.1/24", "198.51.100.77/25");
const GATES: (&str, &str) = ("198.51.101.2/24", "198.51.101.77/25");

/// From the home to the one far away.
struct Transfer<'a> {
    lab: &'a Lab,
    to: &'a Path,
    sender: Running,
    receiver: Running,
}

fn program(lab: &Lab, namespace: &str, arguments: &[&str], directory: &Path) -> Command {
    let mut program = lab.inside(namespace, env!("CARGO_BIN_EXE_visavis"));
    program
        .args(arguments)
        .args(["--json", "--server", "http://198.51.100.10"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    program
}

impl<'a> Transfer<'a> {
    fn begin(lab: &'a Lab, from: &Path, to: &'a Path) -> Self {
        let arguments = ["send", "--rate", "1500k", "big"];
        let mut sender = Running::start(program(lab, "home", &arguments, from));
        let waiting = sender.event("waiting");
        let code = waiting["code"].as_str().unwrap();
        let receiver = Running::start(program(lab, "away", &["receive", code], to));
        let transfer = Self {
            lab,
            to,
            sender,
            receiver,
        };
        transfer.flows(2 << 20, PATIENCE);
        transfer
    }

    /// Waits until so many bytes have come: how long it took.
    fn flows(&self, bytes: u64, patience: Duration) -> Duration {
        let begun = Instant::now();
        while partial(self.to) < bytes {
            assert!(begun.elapsed() < patience, "data stands still");
            std::thread::sleep(Duration::from_millis(5));
        }
        begun.elapsed()
    }

    /// Does that to the network, and waits until data has gone on.
    fn through(&self, change: impl FnOnce(&Lab)) {
        change(self.lab);
        // What was under way still comes.
        let still = self.flows(partial(self.to) + FLOW, STILL);
        eprintln!("data stood still for {still:?} at most");
    }

    /// To its end.
    fn ends(mut self, data: &[u8]) {
        let events = self.receiver.events("received");
        let names: Vec<_> = events.iter().map(|event| &event["event"]).collect();
        assert!(!names.iter().any(|name| *name == "retrying"), "{names:?}");
        assert_eq!(self.receiver.code(), Some(0));
        assert_eq!(self.sender.code(), Some(0));
        assert!(fs::read(self.to.join("big")).unwrap() == data);
    }
}

fn through(change: impl FnOnce(&Lab)) {
    let Some(mut lab) = lab() else { return };
    // Both forget what they translated when their address goes.
    lab.nat("router", ROUTER, "oifname wan masquerade");
    lab.second_home("oifname wan masquerade");
    // Who relays wants to know which of its addresses leads away.
    lab.ip("server", "route add default dev eth0");
    lab.rendezvous(true);
    let (from, to, data) = (tempdir().unwrap(), tempdir().unwrap(), noise(12 << 20));
    fs::write(from.path().join("big"), &data).unwrap();
    let transfer = Transfer::begin(&lab, from.path(), to.path());
    transfer.through(change);
    transfer.ends(&data);
}

/// A host leaves its cable for the wireless network.
fn move_over(lab: &Lab, host: &str, router: &str, net: u8) {
    lab.wire(host, "wlan0", router, "wlan");
    lab.ip(router, &format!("addr add 192.168.{net}.1/24 dev wlan"));
    lab.ip(host, "link del eth0");
    lab.ip(host, &format!("addr add 192.168.{net}.10/24 dev wlan0"));
    lab.ip(host, &format!("route add default via 192.168.{net}.1"));
}

#[test]
fn the_sender_moves_to_another_interface() {
    through(|lab| move_over(lab, "home", "router", 3));
}

#[test]
fn the_receiver_moves_to_another_interface() {
    through(|lab| move_over(lab, "away", "gate", 4));
}

/// Drops what a namespace would forward, if it matches.
fn drops(lab: &Lab, name: &str, what: &str) {
    lab.rules(
        name,
        &format!(
            "table ip filter {{
                chain middle {{ type filter hook forward priority 0; {what} drop
                }}
            }}"
        ),
    );
}

/// What was in flight in packets for the direct way has to fit those of a relay.
#[test]
fn the_direct_way_closes_and_the_relay_goes_on() {
    through(|lab| drops(lab, "server", "meta l4proto udp"));
}

/// A router gets another address, of which nobody behind it is told. A strict one drops what belongs to no connection that it knows;
/// behind another one the server answers with a reset.
fn change_address(lab: &Lab, router: &str, (old, new): (&str, &str), strict: bool) {
    if strict {
        drops(lab, router, "ct state new tcp flags & (syn | ack) == ack");
    }
    lab.ip(router, &format!("addr add {new} dev wan"));
    lab.ip(router, &format!("addr del {old} dev wan"));
}

#[test]
fn the_sender_s_router_changes_its_address() {
    through(|lab| change_address(lab, "router", ROUTERS, false));
}

#[test]
fn the_sender_s_strict_router_changes_its_address() {
    through(|lab| change_address(lab, "router", ROUTERS, true));
}

#[test]
fn the_receiver_s_router_changes_its_address() {
    through(|lab| change_address(lab, "gate", GATES, false));
}

#[test]
fn the_receiver_s_strict_router_changes_its_address() {
    through(|lab| change_address(lab, "gate", GATES, true));
}
