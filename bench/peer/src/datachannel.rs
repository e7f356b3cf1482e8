//! Throughput of data channels over UDP sockets of the loopback interface, two processes: Mbit/s, and
//! processor seconds per GB of both ends together.
//!
//! The time is that from the first message to the last; each end tells what it used meanwhile.
#![allow(clippy::print_stdout, reason = "benchmarks print, and children signal")]

mod end;
mod ends;
mod node;
mod ours;
mod process;
mod str0m_end;
mod webrtc_end;

use std::process::ExitCode;

use serde_json::json;
use visavis_report::{Options, Table};

use self::end::Load;
use self::ends::STACKS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if ends::serve(&arguments) {
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
            if !ends::is_there(stack) {
                table.note(node::HOW_TO);
                continue;
            }
            // The slower ones are not waited for as long.
            let share = if stack == "visavis" { 1 } else { 4 };
            let load = Load {
                total: load.total / share,
                ..load
            };
            let took = ends::run(stack, load);
            let gigabytes = load.total as f64 / 1e9;
            let cost = took.cpu / gigabytes;
            if stack == "visavis" {
                ours[index] = cost;
            }
            let rate = load.total as f64 * 8.0 / 1e6 / took.seconds;
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
    table.note(format!("64 KiB ordered, 1 KiB unordered. {}", ends::ABOUT));
    table.note("measured elsewhere at 64 KiB: libwebrtc M106 26 to 38, pion 4.2 35 to 47");
    table.finish(options)
}
