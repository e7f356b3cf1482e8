//! The server under test: `visavis serve` in a process of its own, and what it says of itself.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench_sfu::livekit;
use livekit_protocol as proto;
use prost::Message;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(20);

/// How long it may take to answer a call.
const ANSWER: Duration = Duration::from_secs(10);

/// Seconds that a room outlives its last participant.
const DEPARTURE_SECONDS: u32 = 5;

/// The lines of its log that are kept.
const KEPT_LINES: usize = 200;

/// What the log said.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) last: Vec<String>,
    pub(crate) warnings: u64,
    /// The first line that has no business in a log.
    pub(crate) bad: Option<String>,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) log: Arc<Mutex<Log>>,
    child: Child,
}

impl Server {
    pub(crate) async fn start() -> io::Result<Self> {
        let binary =
            std::env::var_os("VISAVIS_BINARY").map_or_else(|| "visavis".into(), PathBuf::from);
        let (port, turn) = (free_port()?, free_port()?);
        let mut child = Command::new(&binary)
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--key", &format!("{}={}", livekit::KEY, livekit::SECRET)])
            .args(["--turn-port", &turn.to_string()])
            // Another number of threads would be another test on another machine.
            .args(["--workers", "2", "--drain", "2"])
            .args(["--departure-timeout", &DEPARTURE_SECONDS.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", binary.display()))
            })?;
        let log = Arc::new(Mutex::new(Log::default()));
        if let Some(lines) = child.stderr.take() {
            tokio::spawn(read_log(BufReader::new(lines), Arc::clone(&log)));
        }
        let mut server = Self { port, log, child };
        let begun = Instant::now();
        while server.get("/readyz").await.is_err() {
            if let Some(status) = server.ended()? {
                return Err(io::Error::other(format!("the server ended: {status}")));
            }
            if begun.elapsed() > START {
                return Err(io::Error::other(format!(
                    "the server did not answer within {START:?}"
                )));
            }
            // Another's process: it says nowhere else that it listens.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    pub(crate) async fn rooms(&self) -> io::Result<Vec<String>> {
        let grants = json!({"roomList": true});
        let request = proto::ListRoomsRequest::default();
        let answer: proto::ListRoomsResponse = self.call("ListRooms", &grants, &request).await?;
        Ok(answer.rooms.into_iter().map(|room| room.name).collect())
    }

    pub(crate) async fn participants(&self, room: &str) -> io::Result<Vec<proto::ParticipantInfo>> {
        let grants = json!({"roomAdmin": true, "room": room});
        let request = proto::ListParticipantsRequest {
            room: room.to_owned(),
        };
        let answer: proto::ListParticipantsResponse =
            self.call("ListParticipants", &grants, &request).await?;
        Ok(answer.participants)
    }

    /// A call of RoomService.
    async fn call<A: Message + Default>(
        &self,
        method: &str,
        grants: &Value,
        request: &impl Message,
    ) -> io::Result<A> {
        let token = livekit::token("soak", grants)?;
        let head = format!(
            "POST /twirp/livekit.RoomService/{method} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/protobuf\r\n"
        );
        let body = self.http(&head, &request.encode_to_vec()).await?;
        A::decode(&body[..]).map_err(io::Error::other)
    }

    /// The sum of a metric over its labels.
    pub(crate) async fn metric(&self, name: &str) -> io::Result<f64> {
        let page = String::from_utf8_lossy(&self.get("/metrics").await?).into_owned();
        let of_it = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let values: Vec<f64> = page
            .lines()
            .filter(of_it)
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        if values.is_empty() {
            return Err(io::Error::other(format!("there is no metric {name}")));
        }
        Ok(values.iter().sum())
    }

    pub(crate) async fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        self.http(&format!("GET {path} HTTP/1.1\r\n"), &[]).await
    }

    async fn http(&self, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let head = format!(
                "{head}Host: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(&[head.as_bytes(), body].concat()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        let answer = tokio::time::timeout(ANSWER, exchange).await;
        let mut answer =
            answer.map_err(|_| io::Error::other(format!("no answer within {ANSWER:?}")))??;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = answer.split_off(head.map_or(answer.len(), |at| at + 4));
        let head = String::from_utf8_lossy(&answer).into_owned();
        if head.split(' ').nth(1) == Some("200") {
            return Ok(body);
        }
        let status = head.lines().next().unwrap_or("nothing");
        Err(io::Error::other(format!(
            "{status}: {}",
            String::from_utf8_lossy(&body)
        )))
    }

    /// Files that it has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }
}

async fn read_log(lines: impl tokio::io::AsyncBufRead + Unpin, log: Arc<Mutex<Log>>) {
    let mut lines = lines.lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut log = log.lock().expect("nobody panics with it");
        if log.bad.is_none() && (line.contains("ERROR") || line.contains("panicked")) {
            log.bad = Some(line.clone());
        }
        log.warnings += u64::from(line.contains("WARN"));
        if log.last.len() == KEPT_LINES {
            log.last.remove(0);
        }
        log.last.push(line);
    }
}

/// A port of loopback that nobody uses.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
