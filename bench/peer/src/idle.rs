//! What connections cost that do nothing: two ends in memory with ICE, DTLS, SCTP and one open data
//! channel, in a process of their own for each implementation. Time is simulated, so that a minute of
//! idling takes as long as its work.
//!
//! Memory is resident memory per end once all have been idle, processor time is the process's.
#![allow(clippy::print_stdout, reason = "benchmarks print")]

mod end;
mod node;
mod process;
mod sans_io;
mod webrtc_end;
mod webrtc_idle;

use std::process::{Command, ExitCode};
use std::time::Duration;

use process::{cpu_nanoseconds, cpu_seconds, resident};
use sans_io::Pair;
use serde_json::{Value, json};
use visavis_report::{Options, Table};

const IDLE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, stack, pairs] = &arguments[..]
        && flag == "--measure"
    {
        let pairs = pairs.parse().expect("a number of pairs");
        let figures = match stack.as_str() {
            "visavis" => measure::<sans_io::Ours>(pairs),
            "webrtc" => webrtc_idle::measure(pairs),
            _ => measure::<sans_io::Str0m>(pairs),
        };
        println!("{figures}");
        return ExitCode::SUCCESS;
    }
    let (options, _) = Options::from_arguments();
    let mut table = Table::new(
        "Idle connections: ICE, DTLS 1.3 or what the stack prefers, SCTP, one channel; both ends in one process",
        &[
            "stack",
            "ends",
            "KiB per end",
            "set-up of a pair, ms CPU",
            "us CPU per end and second",
        ],
    );
    let sizes: &[usize] = if options.quick { &[100] } else { &[500, 5000] };
    for &pairs in sizes {
        for stack in ["visavis", "str0m", "webrtc", "libdatachannel"] {
            // They have sockets and tasks or threads for each, and real time: not ten thousand of those.
            let is_real = matches!(stack, "webrtc" | "libdatachannel");
            let is_there = stack != "libdatachannel" || node::is_installed();
            if is_real && pairs > 500 || !is_there {
                continue;
            }
            let Some(figures) = child(stack, pairs) else {
                table.note(format!("{stack} with {pairs} pairs gave no figures"));
                continue;
            };
            let figure = |name: &str| figures[name].as_f64().unwrap_or(f64::NAN);
            let round = |value: f64| json!((value * 100.0).round() / 100.0);
            table.row(vec![
                json!(stack),
                json!(2 * pairs),
                round(figure("kib")),
                round(figure("setup")),
                round(figure("idle")),
            ]);
            if stack == "visavis" {
                let ends = 2 * pairs;
                table.at_most(&format!("KiB per end at {ends}"), figure("kib"), 24.0);
                table.at_most(&format!("ms per pair at {ends}"), figure("setup"), 2.0);
                table.at_most(
                    &format!("us per end and second at {ends}"),
                    figure("idle"),
                    2.0,
                );
            }
        }
    }
    table.note("in memory and simulated time; webrtc 0.21 and libdatachannel (node-datachannel 0.33) over loopback sockets for 10 s");
    if !node::is_installed() {
        table.note(node::HOW_TO);
    }
    table.note("measured elsewhere at 100 to 1,000 ends: libdatachannel 270 KiB; pion 275 to 300 KiB, 9 to 10 ms, 155 to 460 us");
    table.finish(options)
}

/// What one implementation takes; `None` if it failed.
fn child(stack: &str, pairs: usize) -> Option<Value> {
    let pairs = pairs.to_string();
    let mut command = if stack == "libdatachannel" {
        node::command("idle.mjs", &[&pairs])
    } else {
        let mut command = Command::new(std::env::current_exe().expect("a path of this program"));
        command.args(["--measure", stack, &pairs]);
        command
    };
    let output = command.output().expect("a child");
    serde_json::from_slice(&output.stdout).ok()
}

fn measure<P: Pair>(count: usize) -> Value {
    // One before, so that what all share is there.
    let mut first = P::connect(0);
    first.idle(Duration::from_secs(1));
    let memory = resident();
    let mut setup = 0.0;
    // They come one after the other, and what one gives back serves the next.
    let mut pairs: Vec<P> = Vec::with_capacity(count);
    for number in 1..=count as u64 {
        let cpu = cpu_nanoseconds();
        let mut pair = P::connect(number);
        setup += (cpu_nanoseconds() - cpu) as f64 / 1e6 / count as f64;
        // What a new connection still has to do is not idling.
        pair.idle(SETTLE);
        pairs.push(pair);
    }
    let cpu = cpu_seconds();
    for pair in &mut pairs {
        pair.idle(IDLE);
    }
    let spent = cpu_seconds() - cpu;
    let idle = spent * 1e6 / (2 * count) as f64 / IDLE.as_secs_f64();
    let kib = (resident() - memory) / 1024.0 / (2 * count) as f64;
    json!({ "kib": kib, "setup": setup, "idle": idle })
}
