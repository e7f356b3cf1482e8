//! A rendezvous server for the tests, and the binary as a user runs it.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod lab;

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use visavis_rtp::file::ivf::{IvfHeader, IvfWriter};
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
        self.events(name).pop().unwrap()
    }

    /// Reads events until one of that name, which is the last.
    pub(crate) fn events(&mut self, name: &str) -> Vec<Value> {
        let mut seen: Vec<Value> = Vec::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                let mut errors = String::new();
                let stderr = self.child.stderr.as_mut().unwrap();
                stderr.read_to_string(&mut errors).unwrap();
                panic!("no {name:?} came; events: {seen:?}; errors: {errors}");
            }
            seen.push(serde_json::from_str(&line).unwrap());
            if seen.last().unwrap()["event"] == name {
                return seen;
            }
        }
    }

    /// As Ctrl-C does.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-INT", &id]).status();
        assert!(status.unwrap().success());
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

/// Pictures of VP8, as far as anybody looks who does not decode: 10 seconds of 25 a second, every tenth a key frame.
pub(crate) fn film(path: &Path) {
    let header = IvfHeader {
        codec: *b"VP80",
        width: 320,
        height: 240,
        timebase: (25, 1),
        frames: 0,
    };
    let mut writer = IvfWriter::new(Cursor::new(Vec::new()), header).unwrap();
    for number in 0..250_u32 {
        // RFC 6386 section 9.1: the frame tag, the start code, 320 x 240.
        let mut frame = match number % 10 {
            0 => vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00],
            _ => vec![0x11, 0, 0],
        };
        frame.extend((0..1500).map(|byte| (byte + number) as u8));
        writer.write_frame(number.into(), &frame).unwrap();
    }
    fs::write(path, writer.finish().unwrap().into_inner()).unwrap();
}

/// Bytes of the unfinished transfer of a file `big` in a directory.
pub(crate) fn partial(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let sizes = entries.filter_map(|entry| fs::metadata(entry.path().join("tree/big")).ok());
    sizes.map(|metadata| metadata.len()).sum()
}
