//! coturn's client against our server's core, over real loopback UDP and TCP.

use std::process::Command;

use interop_turn::driver::Running;
use interop_turn::{address, free_port, program};
use visavis_turn::server::{Credentials, Realm, RelayAddress, ServerConfig, ServerStats};

/// Runs `turnutils_uclient` with two clients that talk to each other through their relayed addresses.
fn run(arguments: &[&str]) -> Option<ServerStats> {
    let program = program("turnutils_uclient")?;
    let port = free_port();
    let mut config = ServerConfig::default();
    let users = Credentials::new().user("alice", "correct horse");
    config.realms = vec![Realm::new("visavis", users)];
    config.relays = vec![RelayAddress::new([127, 0, 0, 1].into())];
    config.listening = vec![address(&format!("127.0.0.1:{port}"))];
    config.tcp_relay = true;
    let server = Running::start(config.listening[0], config);
    // It waits for ever for what does not come.
    let output = Command::new("timeout")
        .arg("20")
        .arg(program)
        .args([
            "-u",
            "alice",
            "-w",
            "correct horse",
            "-p",
            &port.to_string(),
        ])
        .args(["-y", "-m", "2", "-n", "25", "-l", "171"])
        .args(arguments)
        .arg("127.0.0.1")
        .output()
        .expect("turnutils_uclient starts");
    let stats = server.stop();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rev()
        .find(|line| line.contains("Total lost packets"))
        .unwrap_or_else(|| panic!("no summary: {text}\n{stats:?}"));
    assert!(last.contains("Total lost packets 0 "), "{text}\n{stats:?}");
    Some(stats)
}

#[test]
fn channels_over_udp() {
    if let Some(stats) = run(&["-c"]) {
        assert!(stats.packets_to_clients >= 50, "{stats:?}");
        assert_eq!(stats.malformed, 0);
    }
}

#[test]
fn indications_over_udp() {
    if let Some(stats) = run(&["-c", "-s"]) {
        assert!(stats.packets_to_clients >= 50, "{stats:?}");
        assert_eq!(stats.short_circuits, 0);
    }
}

#[test]
fn rtp_and_rtcp_pairs_with_even_ports() {
    if let Some(stats) = run(&[]) {
        assert!(stats.allocations >= 4, "{stats:?}");
    }
}

#[test]
fn channels_over_tcp() {
    if let Some(stats) = run(&["-c", "-t"]) {
        assert!(stats.packets_to_clients >= 50, "{stats:?}");
    }
}

#[test]
fn dont_fragment() {
    run(&["-c", "-g"]);
}

#[test]
fn mobility() {
    if let Some(stats) = run(&["-c", "-M"]) {
        assert!(stats.packets_to_clients >= 50, "{stats:?}");
    }
}
