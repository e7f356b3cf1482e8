//! One end of ours on a UDP socket, and foreign programs beside it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, HashAlgorithm, KeyAlgorithm};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config, Connected, Connection, Event, Front, FrontAnswer, FrontLimits};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A certificate that is valid today.
pub fn certificate(algorithm: KeyAlgorithm, seed: u64) -> Certificate {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let options = SelfSigned {
        algorithm,
        ..SelfSigned::at(now)
    };
    Certificate::self_signed(&options, &mut Random::from_u64(seed)).unwrap()
}

/// Settings with quick timeouts.
pub fn config(certificate: &Certificate) -> Config {
    let mut config = Config::new(certificate.clone());
    config.initial_retransmission_timeout = Duration::from_millis(100);
    config
}

/// A PEM file with a certificate and its key, for the foreign programs.
pub fn pem(certificate: &Certificate, name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = format!("visavis-{}-{count}-{name}.pem", std::process::id());
    let path = std::env::temp_dir().join(file);
    std::fs::write(&path, certificate.to_pem().unwrap().as_bytes()).unwrap();
    path
}

/// A UDP port that is free now.
pub fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .unwrap()
        .port()
}

/// One end of ours on a socket.
pub struct Ours {
    pub dtls: Connection,
    socket: UdpSocket,
    pub events: Vec<Event>,
    pub data: Vec<Vec<u8>>,
}

impl Ours {
    /// A client of the server at a local port.
    pub fn client(config: Config, port: u16, server: &Certificate) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        let now = Instant::now();
        let random = Random::from_u64(u64::from(port));
        let mut dtls = Connection::client(Arc::new(config), random, now).unwrap();
        dtls.set_remote_fingerprints(now, [server.fingerprint(HashAlgorithm::Sha256)]);
        Self::new(dtls, socket)
    }

    /// A server behind a front with cookies; waits for a client.
    pub fn behind_front(config: Config, socket: UdpSocket, client: &Certificate) -> Self {
        let start = Instant::now();
        let mut front = Front::new(
            Arc::new(config),
            FrontLimits::default(),
            Random::from_u64(1),
            start,
        )
        .unwrap();
        let mut buffer = [0; 2048];
        let mut reply = Vec::new();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            let (len, from) = socket.recv_from(&mut buffer).expect("a client that speaks");
            let now = Instant::now();
            match front.handle_datagram(now, from, &mut buffer[..len], &mut reply) {
                FrontAnswer::Reply => {
                    socket.send_to(&reply, from).unwrap();
                }
                FrontAnswer::Accepted(mut dtls) => {
                    socket.connect(from).unwrap();
                    dtls.set_remote_fingerprints(now, [client.fingerprint(HashAlgorithm::Sha256)]);
                    return Self::new(*dtls, socket);
                }
                _ => {}
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no cookie came back: {:?}",
                front.stats()
            );
        }
    }

    /// A server without cookies; waits for a client.
    pub fn server(config: Config, socket: UdpSocket, client: &Certificate) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let from = peek(&socket);
        socket.connect(from).unwrap();
        let now = Instant::now();
        let mut dtls = Connection::server(Arc::new(config), Random::from_u64(2), now).unwrap();
        dtls.set_remote_fingerprints(now, [client.fingerprint(HashAlgorithm::Sha256)]);
        Self::new(dtls, socket)
    }

    fn new(dtls: Connection, socket: UdpSocket) -> Self {
        Self {
            dtls,
            socket,
            events: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Drives this end until `done` says so; panics after [`PATIENCE`].
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        let mut buffer = [0; 2048];
        while !done(self) {
            let now = Instant::now();
            assert!(
                now - start < PATIENCE,
                "{what}: {:?} {:?}",
                self.events,
                self.dtls
            );
            self.flush();
            let wait = self
                .dtls
                .poll_timeout()
                .map_or(Duration::from_millis(20), |at| {
                    at.saturating_duration_since(now)
                })
                .clamp(Duration::from_millis(1), Duration::from_millis(20));
            self.socket.set_read_timeout(Some(wait)).unwrap();
            // A refused connection only says that the server is not there yet.
            if let Ok(len) = self.socket.recv(&mut buffer) {
                let received = self
                    .dtls
                    .handle_datagram(Instant::now(), &mut buffer[..len]);
                for range in received {
                    self.data.push(buffer[range].to_vec());
                }
            }
            self.dtls.handle_timeout(Instant::now());
            while let Some(event) = self.dtls.poll_event() {
                self.events.push(event);
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let mut out = TransmitBuf::new(10, 1500);
        while self.dtls.poll_transmit(Instant::now(), &mut out).is_some() {
            for (datagram, _) in out.datagrams_mut() {
                let _ = self.socket.send(datagram);
            }
            out.clear();
        }
    }

    /// Drives this end until the handshake is complete.
    pub fn connect(&mut self, what: &str) -> Connected {
        self.until(what, |ours| {
            ours.dtls.is_connected() || ours.dtls.is_closed()
        });
        self.events
            .iter()
            .find_map(|event| match event {
                Event::Connected(connected) => Some((**connected).clone()),
                _ => None,
            })
            .unwrap_or_else(|| panic!("{what}: {:?} {:?}", self.events, self.dtls))
    }

    /// Sends application data.
    pub fn send(&mut self, data: &[u8]) {
        let framing = self.dtls.framing();
        let mut datagram = vec![0; framing.header];
        datagram.extend_from_slice(data);
        datagram.resize(datagram.len() + framing.trailer, 0);
        let payload = framing.header..framing.header + data.len();
        self.dtls.seal(&mut datagram, payload).unwrap();
        self.socket.send(&datagram).unwrap();
    }

    /// What came, in one piece.
    pub fn text(&self) -> String {
        self.data
            .iter()
            .map(|data| String::from_utf8_lossy(data))
            .collect()
    }
}

/// The source of the next datagram, which stays.
fn peek(socket: &UdpSocket) -> SocketAddr {
    socket
        .peek_from(&mut [0; 2048])
        .expect("a client that speaks")
        .1
}

/// A program that speaks DTLS. It dies with this value.
pub struct Program {
    child: Child,
    pub input: ChildStdin,
    output: Receiver<String>,
    pub said: String,
}

impl Program {
    /// Starts a program of Debian's.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(name)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (sender, output) = channel();
        let pipes: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for pipe in pipes {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(pipe);
                let mut line = Vec::new();
                while reader
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|len| len != 0)
                {
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                    line.clear();
                }
            });
        }
        Self {
            input: child.stdin.take().unwrap(),
            child,
            output,
            said: String::new(),
        }
    }

    /// Whether the program has said `text` by now.
    pub fn has_said(&mut self, text: &str) -> bool {
        while let Ok(line) = self.output.try_recv() {
            self.said.push_str(&line);
        }
        self.said.contains(text)
    }

    /// Waits until the program has said `text`.
    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.has_said(text) {
            assert!(
                start.elapsed() < PATIENCE,
                "never said {text:?}:\n{}",
                self.said
            );
            if let Ok(line) = self.output.recv_timeout(Duration::from_millis(50)) {
                self.said.push_str(&line);
            }
        }
    }

    /// Types a line into the program.
    pub fn type_line(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        self.input.flush().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
