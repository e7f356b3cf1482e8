//! Pebble, the ACME server that Let's Encrypt gives out for tests, as a process of a test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::authority::Authority;
use crate::free_port;

/// What is installed where there is none: a Go program.
const PACKAGE: &str = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3";

/// A running authority, which finds every name at 127.0.0.1 and checks it by tls-alpn-01 (RFC 8737).
pub struct Pebble {
    process: Child,
    /// Its directory (RFC 8555 section 7.1.1).
    pub directory: String,
    /// Where the root of the certificates that it issues is to be had, by HTTPS.
    pub management: SocketAddr,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pebble {
    /// Starts one, whose own certificate is of `authority`, and which looks for names' servers at a port. The program is kept in
    /// `programs`. `None`, and a word on it, where it cannot be had.
    pub fn start(authority: &Authority, programs: &Path, tls_port: u16) -> Option<Self> {
        let program = program(programs)?;
        let (certificate, key) = authority.issue(&["127.0.0.1"]);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let management = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = certificate.with_file_name("pebble.json");
        let text = format!(
            r#"{{"pebble": {{"listenAddress": "{address}", "managementListenAddress": "{management}",
            "certificate": {certificate:?}, "privateKey": {key:?}, "httpPort": 1, "tlsPort": {tls_port},
            "retryAfter": {{"authz": 1, "order": 1}},
            "profiles": {{"default": {{"description": "the only one", "validityPeriod": 7776000}}}}}}}}"#
        );
        std::fs::write(&config, text).expect("written");
        let process = Command::new(program)
            .arg("-config")
            .arg(&config)
            .args(["-dnsserver", &names().to_string()])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble starts");
        let pebble = Self {
            process,
            directory: format!("https://{address}/dir"),
            management,
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(pebble)
    }
}

/// The program: of the system, or built once.
fn program(folder: &Path) -> Option<PathBuf> {
    if let Some(found) = crate::installed("pebble") {
        return Some(found);
    }
    let program = folder.join("pebble");
    if !program.exists() {
        let _ = Command::new("go")
            .args(["install", PACKAGE])
            .env("GOBIN", folder)
            .status();
    }
    if program.exists() {
        return Some(program);
    }
    eprintln!("skipped: `go install {PACKAGE}` does not succeed");
    None
}

/// A name server that knows every name's address: 127.0.0.1. It serves, over UDP and TCP, for as long as the test lives.
fn names() -> SocketAddr {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("its address");
        if let Ok(udp) = UdpSocket::bind(address) {
            break (tcp, udp);
        }
    };
    let address = tcp.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..len]) {
                let _ = udp.send_to(&answer, from);
            }
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            std::thread::spawn(move || answer_stream(stream));
        }
    });
    address
}

/// Messages over TCP have their length in front (RFC 1035 section 4.2.2).
fn answer_stream(mut stream: TcpStream) -> Option<()> {
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len).ok()?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut question).ok()?;
        let answer = answer(&question)?;
        let mut message = (answer.len() as u16).to_be_bytes().to_vec();
        message.extend_from_slice(&answer);
        stream.write_all(&message).ok()?;
    }
}

/// The answer to a question of one name (RFC 1035 section 4).
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let name = question.get(12..)?.iter().position(|byte| *byte == 0)?;
    // The name's last byte, type, class. What follows (EDNS) is not answered.
    let end = 12 + name + 5;
    let is_a = question.get(end - 4..end)? == [0, 1, 0, 1];
    let mut answer = question.get(..end)?.to_vec();
    // A response, of an authority, without error; one question, and an answer for IPv4.
    answer[2..12].copy_from_slice(&[0x84, 0, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
