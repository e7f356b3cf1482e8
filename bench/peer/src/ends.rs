//! Two processes, one for each end: this one starts them, carries the descriptions between them over their
//! standard streams, and takes the time.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::end::Load;
use crate::{node, ours, str0m_end, webrtc_end};

/// Whose ends there are.
pub const STACKS: [&str; 4] = ["visavis", "str0m", "webrtc", "libdatachannel"];

/// Versions, and how each is driven.
pub const ABOUT: &str = "str0m 0.25 with a driver of its own for this (GSO, GRO); webrtc 0.21 on tokio; libdatachannel by node-datachannel 0.33, its own threads";

/// Is this end if the program was started for one.
pub fn serve(arguments: &[String]) -> bool {
    let [flag, role, stack, load @ ..] = arguments else {
        return false;
    };
    if flag != "--end" {
        return false;
    }
    let load = Load::from_arguments(load);
    match (role.as_str(), stack.as_str()) {
        ("send", "visavis") => ours::send(load),
        ("receive", "visavis") => ours::receive(load),
        ("send", "webrtc") => webrtc_end::send(load),
        ("receive", "webrtc") => webrtc_end::receive(load),
        ("send", _) => str0m_end::send(load),
        _ => str0m_end::receive(load),
    }
    true
}

/// Whether a stack's ends can be started.
pub fn is_there(stack: &str) -> bool {
    stack != "libdatachannel" || node::is_installed()
}

/// What a run took.
pub struct Took {
    /// Seconds from making the sender's connection until the channel is open.
    pub open: f64,
    /// Seconds from there until everything was received.
    pub seconds: f64,
    /// Processor seconds of both ends meanwhile.
    pub cpu: f64,
}

/// Sends a load from one process to another.
pub fn run(stack: &str, load: Load) -> Took {
    let mut sender = Process::start("send", stack, load);
    let mut receiver = Process::start("receive", stack, load);
    for end in [&mut sender, &mut receiver] {
        assert_eq!(end.line().trim(), "ready", "{stack}");
    }
    let made = Instant::now();
    sender.tell("start\n");
    let offer = sender.line();
    receiver.tell(&offer);
    let answer = receiver.line();
    sender.tell(&answer);
    let begin = sender.line();
    assert_eq!(begin.trim(), "begin", "{stack}");
    let began = Instant::now();
    let received: f64 = receiver.line().trim().parse().expect("seconds");
    let seconds = began.elapsed().as_secs_f64();
    sender.tell("end\n");
    let sent: f64 = sender.line().trim().parse().expect("seconds");
    Took {
        open: (began - made).as_secs_f64(),
        seconds,
        cpu: received + sent,
    }
}

/// One end.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, stack: &str, load: Load) -> Self {
        let mut command = if stack == "libdatachannel" {
            node::command("datachannel.mjs", &[role])
        } else {
            let mut command =
                Command::new(std::env::current_exe().expect("a path of this program"));
            command.args(["--end", role, stack]);
            command
        };
        let mut child = command
            .args(load.to_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        Self {
            input: child.stdin.take().expect("a pipe"),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    fn tell(&mut self, line: &str) {
        self.input
            .write_all(line.as_bytes())
            .expect("a child that listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("a child that answers");
        assert!(!line.is_empty(), "an end has ended");
        line
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
