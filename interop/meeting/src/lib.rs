//! Starts this repository's meeting server, and runs the driver's scenarios against the page it serves.
//!
//! `VISAVIS_MEETING_URL` names a page that is served already, of this server or of another
//! (`node web/dev/serve.mjs` in front of a LiveKit server): then none is started.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use interop_common::{binary, in_namespace, target};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(20);

/// A running server. It ends when this is dropped.
pub struct Server {
    /// The page's address, with a slash at the end.
    pub url: String,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts the server on free ports, with nothing configured.
    ///
    /// `None`, with the reason printed, where the browsers or their driver are not installed; never
    /// when `CI` is set: there, that is a failure.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same, with more of `visavis serve`'s arguments.
    pub fn start_with(more: &[&str]) -> Option<Self> {
        let missing = if !Path::new("/usr/bin/chromium").exists() {
            Some("/usr/bin/chromium is not installed")
        } else if !interop().join("node_modules").exists() {
            Some("run `npm ci --ignore-scripts` in interop/ first")
        } else {
            None
        };
        if let Some(reason) = missing {
            interop_common::skip(reason);
            return None;
        }
        if let Ok(url) = std::env::var("VISAVIS_MEETING_URL") {
            return Some(Self {
                url,
                arguments: Vec::new(),
                child: None,
            });
        }
        let port = free_port();
        let mut server = Self {
            // A secure context, which getUserMedia asks for.
            url: format!("http://localhost:{port}/"),
            // Keys that outlive a restart.
            arguments: vec![
                "--listen".into(),
                format!("127.0.0.1:{port}"),
                "--key".into(),
                "test=a-secret-of-the-meeting-tests-0123".into(),
                // Whoever is inside at the end is asked to come back.
                "--drain".into(),
                "2".into(),
                // Another server may run on this machine.
                "--turn-port".into(),
                free_port().to_string(),
            ]
            .into_iter()
            .chain(more.iter().map(|argument| (*argument).to_owned()))
            .collect(),
            child: None,
        };
        server.run();
        Some(server)
    }

    /// The same server by `https`, with the certificate that it made itself.
    pub fn secure(mut self) -> Self {
        self.url = self.url.replacen("http://", "https://", 1);
        self
    }

    /// Ends the server as an operator would, and starts it again on the same address.
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    fn run(&mut self) {
        let mut child = Command::new(binary())
            .arg("serve")
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server's binary runs");
        let log = child.stderr.take().expect("a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                eprintln!("server: {line}");
            }
        });
        self.child = Some(child);
        let address = self
            .url
            .trim_start_matches("https://localhost:")
            .trim_start_matches("http://localhost:")
            .trim_end_matches('/');
        let port: u16 = address.parse().expect("a port");
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(
                start.elapsed() < START,
                "the server did not listen within {START:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let start = Instant::now();
            while child.try_wait().expect("a child").is_none() {
                if start.elapsed() > Duration::from_secs(10) {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Runs a scenario of `driver/meeting.mjs` and fails if it fails. What it printed is printed.
    pub fn scenario(&mut self, name: &str) {
        self.scenario_with(name, |_, _| ());
    }

    /// Runs a scenario, and does what it asks for: `heard` is told each line that it prints.
    pub fn scenario_with(&mut self, name: &str, mut heard: impl FnMut(&mut Self, &str)) {
        let mut driver = self.spawn(name);
        let lines = BufReader::new(driver.stdout.take().expect("a pipe")).lines();
        for line in lines.map_while(Result::ok) {
            println!("{line}");
            heard(self, &line);
        }
        let status = driver.wait().expect("node runs");
        assert!(
            status.success(),
            "the scenario {name} failed: its lines are above, its pictures in {}",
            artefacts().display()
        );
    }

    fn spawn(&self, name: &str) -> Child {
        Command::new("node")
            .arg(interop().join("meeting/driver/meeting.mjs"))
            .args([name, &self.url])
            .arg(artefacts())
            .current_dir(interop())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The folder of the tests.
pub fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where pictures go.
pub fn artefacts() -> PathBuf {
    target().join("meeting")
}

/// A port of loopback that nobody uses.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("an address").port()
}
