//! The `visavis` binary: one subcommand per job.
//!
//! What lives here: the command line. What a subcommand does lives in the module of its name, and the
//! services themselves in `visavis-server`.

mod commands;

use clap::{Parser, Subcommand};

/// WebRTC in one binary: meetings, relays, and tools.
#[derive(Debug, Parser)]
#[command(name = "visavis", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a meeting server with its web page, signalling, media forwarding, STUN and TURN.
    Serve(commands::serve::Args),
    /// Run a STUN and TURN server.
    Turn(commands::turn::Args),
}

fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => commands::serve::run(args),
        Command::Turn(args) => commands::turn::run(args),
    }
}
