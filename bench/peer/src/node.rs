//! Ends that run in Node.js: libdatachannel by `node-datachannel`.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::path::PathBuf;
use std::process::Command;

pub const HOW_TO: &str = "libdatachannel is left out: `npm ci --prefix bench/peer` installs it";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn is_installed() -> bool {
    folder().join("node_modules/node-datachannel").exists()
}

pub fn command(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command
        .arg(folder().join("node").join(script))
        .args(arguments);
    command
}
