//! The `visavis` binary: one subcommand per job.
//!
//! What lives here: the command line. What a subcommand does lives in the module of its name, and the
//! services themselves in `visavis-server`.

mod commands;
mod doctor;
mod exit;
mod pairing;
mod qr;
mod runtime;
mod stream;
mod tls;
mod transfer;

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
    /// Talk to somebody in lines of text, peer to peer.
    Chat(commands::chat::Args),
    /// Print a completion script for a shell.
    Completions(commands::completions::Args),
    /// Find out what this network lets WebRTC do, and explain it.
    Doctor(commands::doctor::Args),
    /// Make secrets for a server's configuration.
    Keygen(commands::keygen::Args),
    /// Write the manual pages into a directory.
    Manual(commands::completions::ManualArgs),
    /// Receive what `visavis send` offers.
    Receive(commands::receive::Args),
    /// Send files, directories or standard input to another machine.
    Send(commands::send::Args),
    /// Run a meeting server with its web page, signalling, media forwarding, STUN and TURN.
    Serve(Box<commands::serve::Args>),
    /// Run a STUN and TURN server.
    Turn(Box<commands::turn::Args>),
}

fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Chat(args) => commands::chat::run(args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Keygen(args) => commands::keygen::run(args),
        Command::Manual(args) => commands::completions::manual(args),
        Command::Receive(args) => commands::receive::run(args),
        Command::Send(args) => commands::send::run(args),
        Command::Serve(args) => commands::serve::run(*args),
        Command::Turn(args) => commands::turn::run(*args),
    }
}
