//! Throughput of data channels over UDP sockets of the loopback interface, two processes: Mbit/s, and
//! processor seconds per GB of both ends together.
//!
//! This process starts both ends, carries the descriptions between them over their standard streams,
//! and takes the time from the first message to the last. Each end tells what it used meanwhile.
#![allow(clippy::print_stdout, reason = "benchmarks print, and children signal")]

mod end;
mod node;
mod ours;
mod process;
mod str0m_end;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use serde_json::json;
use visavis_report::{Options, Table};

use self::end::Load;

const STACKS: [&str; 3] = ["visavis", "str0m", "libdatachannel"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, role, stack, load @ ..] = &arguments[..]
        && flag == "--end"
    {
        let load = Load::from_arguments(load);
        match (role.as_str(), stack.as_str()) {
            ("send", "visavis") => ours::send(load),
            ("receive", "visavis") => ours::receive(load),
            ("send", _) => str0m_end::send(load),
            _ => str0m_end::receive(load),
        }
        return ExitCode::SUCCESS;
    }
    let (options, wanted) = Options::from_arguments();
    let scale = if options.quick { 1 } else { 4 };
    let mut table = Table::new(
        "Data channels over loopback sockets, two processes",
        &["stack", "message", "Mbit/s", "CPU s per GB"],
    );
    let loads = [
        Load {
            message: 65_536,
            total: scale * (256 << 20),
            ordered: true,
        },
        Load {
            message: 1024,
            total: scale * (64 << 20),
            ordered: false,
        },
    ];
    let mut ours = [f64::NAN; 2];
    for (index, load) in loads.into_iter().enumerate() {
        for stack in STACKS {
            if !wanted.is_empty() && !wanted.iter().any(|name| name == stack) {
                continue;
            }
            if stack == "libdatachannel" && !node::is_installed() {
                table.note(node::HOW_TO);
                continue;
            }
            // The slower ones are not waited for as long.
            let share = if stack == "visavis" { 1 } else { 4 };
            let load = Load {
                total: load.total / share,
                ..load
            };
            let (seconds, cpu) = measure(stack, load);
            let gigabytes = load.total as f64 / 1e9;
            let cost = cpu / gigabytes;
            if stack == "visavis" {
                ours[index] = cost;
            }
            let rate = load.total as f64 * 8.0 / 1e6 / seconds;
            table.row(vec![
                json!(stack),
                json!(load.message),
                json!(rate.round()),
                json!((cost * 100.0).round() / 100.0),
            ]);
        }
    }
    if ours.iter().all(|figure| figure.is_finite()) {
        table.at_most("CPU s per GB at 64 KiB", ours[0], 3.5);
        table.at_most("CPU at 1 KiB, in that of 64 KiB", ours[1] / ours[0], 1.5);
    }
    table.note("64 KiB ordered, 1 KiB unordered. str0m 0.25 with one system call per datagram; libdatachannel by node-datachannel 0.33, its own threads");
    table.note("measured elsewhere at 64 KiB: str0m with segmentation offload 15 to 18, webrtc 0.21 about 10, libwebrtc M106 26 to 38, pion 4.2 35 to 47");
    table.finish(options)
}

/// Sends a load from one process to another: seconds, and processor seconds of both.
fn measure(stack: &str, load: Load) -> (f64, f64) {
    let mut sender = Process::start("send", stack, load);
    let mut receiver = Process::start("receive", stack, load);
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
    (seconds, received + sent)
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
