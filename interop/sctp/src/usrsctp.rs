//! usrsctp, through a small C program (`usrsctp/peer.c`) that the tests build: packets and messages
//! go in and out on its standard input and output. It has timers and threads of its own, so that it
//! runs in real time.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::Delivery;

/// What the program says.
#[derive(Debug)]
pub enum Output {
    /// A packet to carry.
    Packet(Vec<u8>),
    /// A message that arrived, and its stream.
    Message(u16, Vec<u8>),
    /// The association is up.
    Up,
    /// Its peer has reset this stream.
    Reset(u16),
}

/// The program, running.
#[derive(Debug)]
pub struct Usrsctp {
    child: Child,
    input: ChildStdin,
    output: Receiver<Output>,
}

/// Builds the program in a folder. `None` where usrsctp is not installed.
///
/// # Panics
/// If it is installed and the program does not build.
pub fn build(folder: &Path) -> Option<PathBuf> {
    if !Path::new("/usr/include/usrsctp.h").exists() {
        eprintln!("usrsctp is not installed (libusrsctp-dev): skipped");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("usrsctp/peer.c");
    let program = folder.join(format!("usrsctp-peer-{}", std::process::id()));
    let status = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(source)
        .args(["-lusrsctp", "-lpthread"])
        .status()
        .expect("a C compiler");
    assert!(status.success(), "usrsctp/peer.c does not build");
    Some(program)
}

impl Usrsctp {
    /// Starts the program, with or without I-DATA, and with that least retransmission timeout.
    pub fn start(program: &Path, interleaving: bool, rto_min: Duration) -> Self {
        let mut child = Command::new(program)
            .arg(if interleaving { "1" } else { "0" })
            .arg(rto_min.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take().expect("its input");
        let mut stdout = std::io::BufReader::new(child.stdout.take().expect("its output"));
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut length = [0; 4];
            while stdout.read_exact(&mut length).is_ok() {
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                if stdout.read_exact(&mut frame).is_err() {
                    return;
                }
                let stream = |frame: &[u8]| u16::from_be_bytes([frame[1], frame[2]]);
                let item = match frame[0] {
                    0 => Output::Packet(frame.split_off(1)),
                    1 => Output::Message(stream(&frame), frame.split_off(3)),
                    2 => Output::Up,
                    _ => Output::Reset(stream(&frame)),
                };
                if sender.send(item).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            input,
            output,
        }
    }

    fn write(&mut self, kind: u8, head: &[u8], body: &[u8]) {
        let length = (1 + head.len() + body.len()) as u32;
        let mut frame = Vec::with_capacity(5 + head.len() + body.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.push(kind);
        frame.extend_from_slice(head);
        frame.extend_from_slice(body);
        self.input.write_all(&frame).expect("the program runs");
    }

    /// Carries a packet to it.
    pub fn packet(&mut self, packet: &[u8]) {
        self.write(0, &[], packet);
    }

    /// Makes it connect.
    pub fn connect(&mut self) {
        self.write(2, &[], &[]);
    }

    /// Makes it send.
    pub fn send(&mut self, stream: u16, data: &[u8], how: Delivery) {
        let limit = match how {
            Delivery::MaxRetransmits(limit) => limit,
            _ => u16::MAX,
        };
        let [a, b] = stream.to_be_bytes();
        let [c, d] = limit.to_be_bytes();
        let unordered = u8::from(how == Delivery::Unordered);
        self.write(1, &[a, b, unordered, c, d], data);
    }

    /// Makes it reset its side of a stream.
    pub fn reset(&mut self, stream: u16) {
        self.write(3, &stream.to_be_bytes(), &[]);
    }

    /// What it says next, if it does within `wait`.
    ///
    /// # Panics
    /// If the program has ended.
    pub fn next(&mut self, wait: Duration) -> Option<Output> {
        match self.output.recv_timeout(wait) {
            Ok(output) => Some(output),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the program has ended"),
        }
    }
}

impl Drop for Usrsctp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
