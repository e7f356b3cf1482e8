//! Runs the scenarios of `driver/` against this repository's server: clients that others wrote.

use std::path::Path;
use std::process::Command;

pub use interop_meeting::Server;

/// The API key that [`Server::start`] sets, and its secret.
pub const KEY: (&str, &str) = ("test", "a-secret-of-the-meeting-tests-0123");

/// Runs a scenario of `driver/FILE` against `server`, and fails if it fails. What it printed is printed.
pub fn scenario(server: &Server, file: &str, name: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("node")
        .arg(here.join("driver").join(file))
        .args([name, &server.url, KEY.0, KEY.1])
        .current_dir(here.join(".."))
        .status()
        .expect("node runs");
    assert!(
        status.success(),
        "the scenario {name} failed: its lines are above"
    );
}
