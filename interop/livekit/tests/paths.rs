//! Networks that let only some ways through: media over TCP on the server's one port, and over its TURN service
//! by TCP and TLS. The first needs a network namespace (`cargo xtask interop livekit`).

use std::process::Command;

use interop_livekit::{Server, scenario_with};
use interop_meeting::{in_namespace, target};

/// No UDP leaves this machine's programs, as behind a firewall, until this is dropped.
struct NoUdp;

impl NoUdp {
    fn begin() -> Self {
        nft("add table inet paths");
        nft("add chain inet paths out { type filter hook output priority 0 ; }");
        nft("add rule inet paths out meta l4proto udp drop");
        Self
    }
}

impl Drop for NoUdp {
    fn drop(&mut self) {
        nft("delete table inet paths");
    }
}

fn nft(command: &str) {
    let status = Command::new("nft").args(command.split(' ')).status();
    assert!(status.expect("nft runs").success(), "nft {command}");
}

/// Without UDP, media goes over TCP to the port of the page.
#[test]
fn without_udp_media_goes_over_tcp_to_the_front_port() {
    if !in_namespace() {
        return;
    }
    if let Some(server) = Server::start() {
        let _wall = NoUdp::begin();
        scenario_with(&server, "browser.mjs", "path", "direct tcp");
    }
}

/// Over the relay by TCP on the same port.
#[test]
fn relayed_media_goes_over_turn_by_tcp() {
    if let Some(server) = Server::start() {
        scenario_with(&server, "browser.mjs", "path", "relay tcp");
    }
}

/// Over the relay by TLS on the same port, with a certificate from files.
#[test]
fn relayed_media_goes_over_turn_by_tls() {
    let (certificate, key) = certificate();
    if let Some(server) = Server::start_with(&["--tls-cert", &certificate, "--tls-key", &key]) {
        scenario_with(&server, "browser.mjs", "path", "relay tls");
    }
}

/// Files with a certificate for `localhost` and its key.
fn certificate() -> (String, String) {
    let file = |name: &str| {
        let path = target().join(name);
        path.to_str().expect("a path in Unicode").to_owned()
    };
    let (certificate, key) = (file("paths-cert.pem"), file("paths-key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args(["-out", &certificate, "-keyout", &key])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    (certificate, key)
}
