//! `visavis turn` as a process: coturn's client over every transport, aioice, and what an operator does to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use interop_turn::authority::Authority;
use interop_turn::program;
use interop_turn::service::{Service, USER};

fn client(service: &Service, arguments: &[&str]) -> Option<Command> {
    let program = program("turnutils_uclient")?;
    let secure = arguments.contains(&"-S");
    let port = if secure {
        service.secure
    } else {
        service.plain
    }
    .port();
    // It waits for ever for what does not come.
    let mut command = Command::new("timeout");
    command
        .arg("30")
        .arg(program)
        .args(["-u", USER.0, "-w", USER.1, "-p", &port.to_string()])
        .args(["-y", "-m", "4", "-n", "25", "-l", "171"])
        .args(arguments)
        .arg(service.plain.ip().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Some(command)
}

fn loses_nothing(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rev()
        .find(|line| line.contains("Total lost packets"))
        .unwrap_or_else(|| panic!("no summary: {text}"));
    assert!(last.contains("Total lost packets 0 "), "{text}");
}

fn run(arguments: &[&str]) {
    run_on(Ipv4Addr::LOCALHOST.into(), arguments);
}

fn run_on(ip: IpAddr, arguments: &[&str]) {
    let service = Service::start(ip, &["--tcp-relay"]);
    if let Some(mut command) = client(&service, arguments) {
        loses_nothing(&command.output().expect("turnutils_uclient starts"));
        let (made, left) = (
            service.metric("visavis_turn_allocations_made_total"),
            service.metric("visavis_turn_allocations"),
        );
        // Each pair of clients began with a probe for a better server, which coturn's client leaves to expire over UDP.
        assert_eq!(made, 6, "four clients and two probes");
        assert!(left <= 2, "{left} are left: clients gave back theirs");
    }
}

#[test]
fn channels_over_udp() {
    run(&["-c"]);
}

#[test]
fn indications_over_udp() {
    run(&["-c", "-s"]);
}

#[test]
fn channels_over_tcp() {
    run(&["-c", "-t"]);
}

#[test]
fn channels_over_tls() {
    run(&["-c", "-t", "-S"]);
}

#[test]
fn ipv4_asked_for_by_name() {
    run(&["-c", "-X"]);
}

#[test]
fn ipv6_over_udp() {
    run_on(Ipv6Addr::LOCALHOST.into(), &["-c", "-x"]);
}

#[test]
fn ipv6_over_tls() {
    run_on(Ipv6Addr::LOCALHOST.into(), &["-c", "-x", "-t", "-S"]);
}

#[test]
fn mobility_to_whichever_worker() {
    run(&["-c", "-M"]);
}

#[test]
fn dont_fragment() {
    run(&["-c", "-g"]);
}

#[test]
fn tcp_connections_to_peers_of_whichever_worker() {
    run(&["-T"]);
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The meeting server takes HTTPS, and TURN over TCP, at one port.
#[test]
fn channels_over_tcp_on_the_port_of_https() {
    let Some(program) = program("turnutils_uclient") else {
        return;
    };
    let port = interop_turn::free_port().to_string();
    let serving = Command::new(interop_turn::service::binary())
        .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--turn-port", "0", "--turn-secret", "north"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _serving = Serving(serving.expect("visavis starts"));
    let begins = |scheme: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--insecure", "--max-time", "5"])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
            .arg(format!("{scheme}://127.0.0.1:{port}/readyz"))
            .output()
            .expect("curl starts");
        output.stdout == b"200"
    };
    assert!(within(Duration::from_secs(20), || begins("https")));
    let output = Command::new("timeout")
        .arg("30")
        .arg(&program)
        .args(["-u", "ada", "-W", "north", "-p", &port])
        .args(["-y", "-c", "-t", "-m", "4", "-n", "25", "-l", "171"])
        .arg("127.0.0.1")
        .output()
        .expect("turnutils_uclient starts");
    loses_nothing(&output);
    assert!(begins("https"), "HTTPS is there as before");
}

/// coturn's client throws a die for each connection whether to speak DTLS 1.2, or 1.0, which RFC 8996 has ended and which is not
/// answered: a run in which it chose 1.0 says nothing, and is known by the connections that were made.
#[test]
fn channels_over_dtls() {
    let service = Service::start([127, 0, 0, 1].into(), &[]);
    for _ in 0..60 {
        let before = service.metric("visavis_turn_dtls_accepted_total");
        let Some(mut command) = client(&service, &["-c", "-S", "-m", "1"]) else {
            return;
        };
        let mut child = command.spawn().expect("turnutils_uclient starts");
        // Two clients, and the probe that goes before them.
        let all =
            |service: &Service| service.metric("visavis_turn_dtls_accepted_total") - before >= 3;
        if !within(Duration::from_secs(2), || all(&service)) {
            end(&mut child);
            continue;
        }
        return loses_nothing(&child.wait_with_output().expect("its output"));
    }
    panic!("60 runs without one over DTLS 1.2 alone");
}

/// Polls until something holds.
fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = std::time::Instant::now() + limit;
    while std::time::Instant::now() < deadline {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn end(child: &mut Child) {
    // `timeout` passes it on.
    let _ = Command::new("kill").arg(child.id().to_string()).status();
    let _ = child.wait();
}

/// A Python with aioice: the system's (Debian package python3-aioice), or a virtual environment made once; `None` where it
/// cannot be had.
fn aioice() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aioice");
    let python = folder.join("bin/python");
    let has_it = |python: &Path| {
        Command::new(python)
            .args(["-c", "import aioice"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let of_system = PathBuf::from("/usr/bin/python3");
    if has_it(&of_system) {
        return Some(of_system);
    }
    if !has_it(&python) {
        let _ = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&folder)
            .status();
        let _ = Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "aioice==0.10.1"])
            .status();
    }
    if has_it(&python) {
        return Some(python);
    }
    interop_common::skip("aioice cannot be installed");
    None
}

#[test]
fn aioice_over_udp_tcp_and_tls() {
    let Some(python) = aioice() else { return };
    let authority =
        Authority::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("aioice-authority"));
    let (certificate, key) = authority.issue(&["127.0.0.1"]);
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let service = Service::start(
        [127, 0, 0, 1].into(),
        &[
            "--certificate",
            &text(&certificate),
            "--private-key",
            &text(&key),
        ],
    );
    for transport in ["udp", "tcp", "tls"] {
        let address = if transport == "tls" {
            service.secure
        } else {
            service.plain
        };
        let output = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/relay.py"))
            .args([
                "127.0.0.1",
                &address.port().to_string(),
                USER.0,
                USER.1,
                transport,
            ])
            .env("SSL_CERT_FILE", authority.root())
            .output()
            .expect("python starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{transport}: {error}");
    }
    assert!(service.metric("visavis_turn_allocations_made_total") >= 6);
}

#[test]
fn reloads_and_a_drain_under_load_lose_no_packet() {
    let service = Service::start([127, 0, 0, 1].into(), &["--drain", "20"]);
    let Some(mut command) = client(&service, &["-c", "-n", "300"]) else {
        return;
    };
    let child = command.spawn().expect("turnutils_uclient starts");
    let relays = || service.metric("visavis_turn_packets_to_clients_total") > 100;
    assert!(within(Duration::from_secs(20), relays), "traffic flows");
    for _ in 0..5 {
        service.signal("HUP");
        std::thread::sleep(Duration::from_millis(100));
    }
    service.signal("TERM");
    let draining = || service.get("/ready").contains("draining");
    assert!(within(Duration::from_secs(5), draining));
    loses_nothing(&child.wait_with_output().expect("its output"));
    assert!(
        service.wait().success(),
        "it ends when the last allocation has"
    );
}

/// Whether a TLS client that trusts this root alone takes the server's certificate.
fn trusts(service: &Service, root: &Path) -> bool {
    let mut client = Command::new("openssl");
    client
        .args(["s_client", "-verify_return_error", "-connect"])
        .arg(service.secure.to_string())
        .arg("-CAfile")
        .arg(root)
        .stdin(Stdio::null());
    client.output().expect("openssl starts").status.success()
}

/// Realm, users and certificate are others after a reload: newcomers need them, who is inside stays.
#[test]
fn a_reload_changes_the_locks_and_puts_nobody_out() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reload");
    let authorities = ["first", "second"].map(|name| Authority::new(&folder.join(name)));
    let config = folder.join("turn.toml");
    let write = |authority: &Authority, realm: &str, password: &str| {
        let (certificate, key) = authority.issue(&["127.0.0.1"]);
        let text = format!(
            "realm = {realm:?}\nuser = [\"{}:{password}\"]\ncertificate = {certificate:?}\nprivate-key = {key:?}\n",
            USER.0
        );
        std::fs::write(&config, text).expect("a file");
    };
    write(&authorities[0], "before", USER.1);
    let service = Service::start_with_config([127, 0, 0, 1].into(), &config);
    assert!(trusts(&service, &authorities[0].root()));
    let Some(mut command) = client(&service, &["-c", "-n", "300"]) else {
        return;
    };
    let child = command.spawn().expect("turnutils_uclient starts");
    let relays = || service.metric("visavis_turn_packets_to_clients_total") > 100;
    assert!(within(Duration::from_secs(20), relays), "traffic flows");
    let refused = || service.metric("visavis_turn_unauthenticated_total");
    let before = refused();

    write(&authorities[1], "after", "another-password");
    service.signal("HUP");
    let changed = || trusts(&service, &authorities[1].root());
    assert!(within(Duration::from_secs(5), changed), "the certificate");
    assert!(!trusts(&service, &authorities[0].root()), "the old one");
    let mut old = client(&service, &["-c"]).expect("it was there");
    let output = old.output().expect("turnutils_uclient starts");
    assert!(!output.status.success(), "the old password opens");
    assert!(refused() > before);
    let mut new = client(&service, &["-c", "-w", "another-password"]).expect("it was there");
    loses_nothing(&new.output().expect("turnutils_uclient starts"));

    loses_nothing(&child.wait_with_output().expect("its output"));
}

#[test]
fn after_kill_9_the_next_one_starts_at_once() {
    let service = Service::start([127, 0, 0, 1].into(), &[]);
    let (plain, secure) = (service.plain, service.secure);
    let Some(mut command) = client(&service, &["-c", "-n", "1000"]) else {
        return;
    };
    let mut child = command.spawn().expect("turnutils_uclient starts");
    let relays = || service.metric("visavis_turn_packets_to_clients_total") > 50;
    assert!(within(Duration::from_secs(20), relays), "traffic flows");
    service.signal("KILL");
    assert!(!service.wait().success());
    end(&mut child);
    let again = Service::start_at(plain, secure, &[]);
    // Nothing of the first is left: its relay ports are free.
    assert_eq!(again.metric("visavis_turn_relay_ports_free"), 16_384);
    if let Some(mut command) = client(&again, &["-c"]) {
        loses_nothing(&command.output().expect("turnutils_uclient starts"));
    }
}

/// A million requests from a million addresses cost no memory. (Sources are 127.0.0.0/8, for which loopback needs no
/// permission and no forging.)
#[test]
fn attack_12_a_million_sources_leave_nothing_behind() {
    let service = Service::start([127, 0, 0, 1].into(), &["--log", "error"]);
    let allocate = [
        0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0x19, 0, 4,
        17, 0, 0, 0,
    ];
    let from = |number: u32| -> std::net::SocketAddr {
        let [_, a, b, c] = number.to_be_bytes();
        ([127, a | 1, b, c.max(1)], 0).into()
    };
    let flood = |range: std::ops::Range<u32>| {
        for number in range {
            // A few addresses are not to be had (broadcast).
            if let Ok(socket) = UdpSocket::bind(from(number)) {
                let _ = socket.send_to(&allocate, service.plain);
            }
        }
    };
    flood(0..20_000);
    let before = service.resident();
    flood(20_000..1_000_000);
    let grown = service.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for a million sources");
    assert!(service.metric("visavis_turn_requests_total") > 500_000);
    // And it still answers.
    if let Some(mut command) = client(&service, &["-c"]) {
        loses_nothing(&command.output().expect("turnutils_uclient starts"));
    }
}

#[test]
fn a_second_server_on_the_same_ports_says_so() {
    let service = Service::start([127, 0, 0, 1].into(), &[]);
    let output = Command::new(interop_turn::service::binary())
        .args(["turn", "--listen", &service.plain.to_string()])
        .args([
            "--relay-ip",
            "127.0.0.1",
            "--tls-listen",
            "none",
            "--admin",
            "none",
        ])
        .output()
        .expect("visavis starts");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("does another server run"), "{error}");
}
