//! The project's own commands. `cargo xtask --help` lists them.
#![allow(clippy::print_stdout, reason = "commands print their tables")]

mod sans_io;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands: every table and figure named in a document has one.
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
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::SansIo => sans_io::run(),
    }
}

/// The repository's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
