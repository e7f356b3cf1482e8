//! The other agent: a process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};

/// A process with an agent, which ends with the value.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Peer {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer starts");
        let output = child.stdout.take().expect("piped");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            input: child.stdin.take().expect("piped"),
            output: receiver,
            child,
        }
    }

    /// aioice; `None`, and a word on it, where it is not installed.
    pub fn aioice(arguments: &[&str]) -> Option<Self> {
        // Debian's own Python has Debian's packages.
        let python = Path::new("/usr/bin/python3");
        let mut probe = Command::new(python);
        probe.args(["-c", "import aioice"]).stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            interop_common::skip("aioice is not installed (Debian package python3-aioice)");
            return None;
        }
        let script = folder().join("peers/aioice_peer.py");
        Some(Self::start(
            Command::new(python).arg(script).args(arguments),
        ))
    }

    /// libnice; `None`, and a word on it, where it is not installed.
    pub fn libnice(arguments: &[&str]) -> Option<Self> {
        static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
        let program = BUILT.get_or_init(build_libnice).as_ref();
        if program.is_none() {
            interop_common::skip("libnice is not installed (Debian package libnice-dev)");
        }
        Some(Self::start(Command::new(program?).args(arguments)))
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the peer listens");
    }

    /// What it said, if anything.
    pub fn hear(&mut self) -> Option<String> {
        self.output.try_recv().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn build_libnice() -> Option<PathBuf> {
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "nice"])
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let flags = String::from_utf8(flags.stdout).expect("flags are text");
    let program = std::env::temp_dir().join(format!("visavis-libnice-{}", std::process::id()));
    let status = Command::new("cc")
        .arg("-o")
        .arg(&program)
        .arg(folder().join("peers/libnice.c"))
        .args(flags.split_whitespace())
        .status()
        .expect("a C compiler");
    assert!(status.success(), "peers/libnice.c compiles");
    Some(program)
}
