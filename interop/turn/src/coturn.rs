//! coturn's server, as a process of a test.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{free_port, program};

/// A `turnserver` that ends with the test. Its user is `alice`, her password `correct horse`.
pub struct Coturn {
    process: Child,
    /// UDP and TCP.
    pub plain: SocketAddr,
    /// TLS, with a certificate that it signed itself.
    pub tls: SocketAddr,
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Coturn {
    /// Starts one that listens and relays on `ip`; `None`, and a word on it, where it is not installed.
    pub fn start(ip: IpAddr, extra: &[&str]) -> Option<Self> {
        let program = program("turnserver")?;
        let (port, tls_port) = (free_port(), free_port());
        let folder = std::env::temp_dir().join(format!("visavis-coturn-{port}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let key =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(folder.join("cert.pem"), key.cert.pem()).expect("write");
        std::fs::write(folder.join("key.pem"), key.signing_key.serialize_pem()).expect("write");
        let ip_text = ip.to_string();
        let process = Command::new(program)
            .current_dir(&folder)
            .args(["-n", "--no-cli", "--log-file=stdout", "--simple-log"])
            .args(["-L", &ip_text, "-E", &ip_text, "--allow-loopback-peers"])
            .args(["--lt-cred-mech", "-u", "alice:correct horse"])
            .args(["-r", "example.org", "--userdb", "turn.db"])
            .args(["--cert", "cert.pem", "--pkey", "key.pem"])
            .args(["--pidfile", "turn.pid"])
            .arg(format!("--listening-port={port}"))
            .arg(format!("--tls-listening-port={tls_port}"))
            .args(extra)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("turnserver starts");
        let coturn = Self {
            process,
            plain: SocketAddr::new(ip, port),
            tls: SocketAddr::new(ip, tls_port),
        };
        // It listens when it accepts a connection.
        let start = Instant::now();
        while std::net::TcpStream::connect(coturn.tls).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "turnserver does not listen"
            );
            std::thread::yield_now();
        }
        Some(coturn)
    }
}
