//! A rendezvous server for the tests, and the binary as a user runs it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use visavis_server::rendezvous::{Limits, Rendezvous};

/// A rendezvous on a free port of loopback, for as long as the test runs.
pub(crate) fn rendezvous() -> String {
    let (sender, address) = std::sync::mpsc::channel::<SocketAddr>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            let rendezvous = Rendezvous::new(Limits::default(), Arc::new(|_| Vec::new()));
            axum::serve(listener, rendezvous.routes()).await.unwrap();
        });
    });
    format!("http://{}", address.recv().unwrap())
}

pub(crate) fn visavis(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visavis"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_remove("VISAVIS_SERVER")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A program of ours that runs, and the JSON lines that it prints. Killed with its owner.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads events until one of that name.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                let stderr = self.child.stderr.as_mut().unwrap();
                stderr.read_to_string(&mut errors).unwrap();
                panic!("no {name:?} came; events: {seen}; errors: {errors}");
            }
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == name {
                return event;
            }
            seen.push_str(&line);
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The exit code, once it has ended.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sender with its code.
pub(crate) fn send(
    server: &str,
    arguments: &[&str],
    directory: &Path,
) -> (Running, String, String) {
    let mut all = vec!["send", "--json", "--server", server];
    all.extend(arguments);
    let mut sender = Running::start(visavis(&all, directory));
    let waiting = sender.event("waiting");
    let text = |name: &str| waiting[name].as_str().unwrap().to_owned();
    let (code, link) = (text("code"), text("link"));
    (sender, code, link)
}

pub(crate) fn receive(server: &str, arguments: &[&str], directory: &Path) -> Output {
    let mut all = vec!["receive", "--json", "--server", server];
    all.extend(arguments);
    visavis(&all, directory).output().unwrap()
}

/// Bytes that do not repeat soon.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
