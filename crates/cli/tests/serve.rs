//! `visavis serve` as an operator runs it: signals, and what it says.
#![cfg(unix)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::visavis;
use visavis_server::token::{Claims, Keys, VideoGrant};

const KEY: &str = "test=a secret of thirty-two characters";

struct Serve {
    child: Child,
    port: u16,
}

impl Serve {
    fn start(directory: &std::path::Path, more: &[&str]) -> Self {
        let mut arguments = vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--no-tls",
            "--turn",
            "false",
        ];
        arguments.extend(more);
        let mut child = visavis(&arguments, directory).spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !line.contains("is ready") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended");
        }
        // Nobody else can have been given the port that it has chosen itself.
        let (_, port) = line.trim_end().rsplit_once(':').expect("an address");
        let port = port.parse().expect("a port");
        Self { child, port }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    fn url(&self, key: &str, secret: &str) -> String {
        let claims = Claims {
            identity: "ada".into(),
            video: Some(VideoGrant {
                room_join: true,
                room: "a".into(),
                ..VideoGrant::default()
            }),
            ..Claims::default()
        };
        let keys = Keys::new([(key.to_owned(), secret.to_owned())]);
        let token = keys.sign(key, &claims, 60).unwrap();
        format!(
            "ws://127.0.0.1:{}/rtc?access_token={token}&protocol=17",
            self.port
        )
    }

    /// The exit code, if it ends within that time.
    fn ends_within(&mut self, limit: Duration) -> Option<i32> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_that_waits() {
    let here = tempfile::tempdir().unwrap();
    let mut serve = Serve::start(here.path(), &["--key", KEY, "--drain", "600"]);
    let url = serve.url("test", "a secret of thirty-two characters");
    let _inside = tokio_tungstenite::connect_async(url).await.unwrap();
    serve.signal("-TERM");
    assert_eq!(
        serve.ends_within(Duration::from_millis(800)),
        None,
        "somebody is inside"
    );
    serve.signal("-TERM");
    assert_eq!(serve.ends_within(Duration::from_secs(10)), Some(0));
}

#[tokio::test]
async fn a_drain_ends_when_the_last_one_leaves() {
    let here = tempfile::tempdir().unwrap();
    let mut serve = Serve::start(here.path(), &["--key", KEY, "--drain", "600"]);
    let url = serve.url("test", "a secret of thirty-two characters");
    let inside = tokio_tungstenite::connect_async(url).await.unwrap();
    serve.signal("-INT");
    assert_eq!(
        serve.ends_within(Duration::from_millis(300)),
        None,
        "somebody is inside"
    );
    drop(inside);
    assert_eq!(serve.ends_within(Duration::from_secs(10)), Some(0));
}

#[tokio::test]
async fn a_hangup_reads_the_keys_again() {
    let here = tempfile::tempdir().unwrap();
    let file = here.path().join("visavis.toml");
    let secret = |letter: &str| letter.repeat(32);
    let write = |key: &str| {
        std::fs::write(&file, format!("[keys]\n{key} = \"{}\"\n", secret("s"))).unwrap();
    };
    write("first");
    let serve = Serve::start(here.path(), &["--config", file.to_str().unwrap()]);
    let opens = async |key: &str| {
        let connected = tokio_tungstenite::connect_async(serve.url(key, &secret("s"))).await;
        connected.is_ok()
    };
    assert!(opens("first").await && !opens("second").await);
    write("second");
    serve.signal("-HUP");
    let end = Instant::now() + Duration::from_secs(10);
    while !opens("second").await {
        assert!(Instant::now() < end, "the new key never opened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!opens("first").await);
}
