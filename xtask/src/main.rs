//! The project's own commands. `cargo xtask --help` lists them.
#![allow(clippy::print_stdout, reason = "commands print their tables")]

mod delegate;
mod fuzz;
mod interop;
mod results;
mod sans_io;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands: every table and figure named in a document has one.
///
/// Table commands take --check (exit non-zero where a goal is missed), --json and --quick.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fail if a sans-IO crate uses a clock, a thread, a socket or the system's randomness.
    SansIo,
    /// Fuzz every target (or those named) for so many minutes each.
    Fuzz {
        /// Minutes per target.
        minutes: f64,
        /// Targets; all of them if none is named.
        targets: Vec<String>,
    },
    /// Test against browsers and other implementations, in a network namespace (needs root).
    Interop {
        /// Also the tests that take long.
        #[arg(long)]
        long: bool,
        /// Folders of `interop/`; all of them if none is named.
        peers: Vec<String>,
    },
    /// Record what browsers send, in a network namespace (needs root): RTP and RTCP in the clear.
    Capture {
        /// Where to.
        folder: String,
        /// Recordings; all of them if none is named.
        names: Vec<String>,
    },
    /// Connect over every pair of NAT kinds, simulated: `[SEEDS]`, 20 by default.
    NatMatrix {
        /// Passed on: --check, --json, --quick and the number of seeds.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Shake hands by DTLS over simulated networks: `[SEEDS]`, 1000 by default.
    HandshakeTable {
        /// Passed on: --check, --json, --quick and the number of seeds.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Send over simulated links by SCTP: round trip x loss x rate x congestion controller, and two
    /// flows that share a link.
    SctpTable {
        /// Passed on: --check, --json, --quick and names of columns: model, cubic, newreno, sctp-proto.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Send media over simulated bottlenecks: RFC 8867's cases, loss, wireless links; beside str0m's estimator.
    CongestionTable {
        /// Passed on: --check, --json, --quick and parts of scenarios' names.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Time a connection's coming up over simulated links: DTLS versions, SPED, SNAP, loss. `[SEEDS]`,
    /// 100 by default.
    SetupTable {
        /// Passed on: --check, --json, --quick and the number of seeds.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// What an ICE agent costs: memory and processor of idle ones, time per datagram and check.
    AgentCost {
        /// Passed on: --check, --json, --quick.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Forward rooms: processor time per packet, delay and memory per subscriber, beside the bare loop and
    /// LiveKit's server (from PATH or LIVEKIT_SERVER).
    SfuBench {
        /// Passed on: --check, --json, --quick and parts of scenarios' names.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Let people come, go and publish in rooms of `visavis serve` at 5 % loss, and watch memory, subscribers and rooms: `[MINUTES]`,
    /// 60 by default. Anything stuck, lost or left behind fails.
    Soak {
        /// Passed on: --json, --quick (2 minutes), --seed N and the number of minutes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Load the TURN service beside other servers and bare relay loops, on two cores: the system's coturn, each `--coturn PATH`,
    /// and the crate turn-server from `--turn-server PATH`.
    TurnBench {
        /// Passed on: --check, --json, --quick, --runs N, the paths, and parts of rows' names.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Move files over an emulated link and kernel NATs, through interruptions, beside scp and rsync (needs root).
    TransferTable {
        /// Passed on: --check, --json, --quick and parts of rows' names.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Compare speed with other implementations: crypto, srtp, dtls, sctp, rtp, stun, ice, ...
    Bench {
        /// Which benchmark.
        name: String,
        /// Passed on: --check, --json, --quick and the benchmark's own.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::SansIo => sans_io::run(),
        Command::Fuzz { minutes, targets } => fuzz::run(minutes, &targets),
        Command::Interop { long, peers } => interop::run(long, &peers),
        Command::Capture { folder, names } => interop::capture(&folder, &names),
        Command::NatMatrix { arguments } => {
            delegate::simulation("visavis-ice", "nat_matrix", &arguments)
        }
        Command::HandshakeTable { arguments } => {
            delegate::example("visavis-dtls", "handshake_table", &arguments)
        }
        Command::SctpTable { arguments } => delegate::bench("sctp-table", &arguments),
        Command::CongestionTable { arguments } => delegate::bench("congestion-table", &arguments),
        Command::SetupTable { arguments } => delegate::bench("setup-table", &arguments),
        Command::AgentCost { arguments } => {
            delegate::example("visavis-ice", "agent_cost", &arguments)
        }
        // Its peers have no idle agents to compare with: a table of its own.
        Command::SfuBench { arguments } => delegate::bench("sfu-bench", &arguments),
        Command::Soak { arguments } => delegate::bench_of_binary("soak", &arguments),
        Command::TurnBench { arguments } => delegate::bench_of_binary("turn", &arguments),
        Command::TransferTable { arguments } => {
            delegate::bench_of_binary("transfer-table", &arguments)
        }
        Command::Bench { name, arguments } if name == "ice" => {
            delegate::example("visavis-ice", "agent_cost", &arguments)
        }
        Command::Bench { name, arguments } => delegate::bench(&name, &arguments),
    }
}

/// The repository's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
