//! Runs the scenarios of `driver/` against this repository's server: clients that others wrote.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

pub use interop_meeting::Server;

/// The API key that [`Server::start`] sets, and its secret.
pub const KEY: (&str, &str) = ("test", "a-secret-of-the-meeting-tests-0123");

/// Runs a scenario of `driver/FILE` against `server`, and fails if it fails. What it printed is printed.
pub fn scenario(server: &Server, file: &str, name: &str) {
    scenario_with(server, file, name, "");
}

/// The same, with one more argument for the driver.
pub fn scenario_with(server: &Server, file: &str, name: &str, more: &str) {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("driver")
        .join(file);
    run_with("node", &driver, name, server, more);
}

/// Runs a scenario of `driver` in `interpreter`, and fails if it fails.
pub fn run(interpreter: &str, driver: &Path, name: &str, server: &Server) {
    run_with(interpreter, driver, name, server, "");
}

/// The same, with one more argument for the driver.
pub fn run_with(interpreter: &str, driver: &Path, name: &str, server: &Server, more: &str) {
    let mut command = Command::new(interpreter);
    command
        .arg(driver)
        .args([name, &server.url, KEY.0, KEY.1, more])
        .current_dir(interop_meeting::interop());
    play(command, name);
}

/// How many of a scenario's lines a failure repeats.
const LAST_LINES: usize = 15;

/// Runs the program of a scenario, and prints its lines. If it fails, the last of them are the failure's words.
fn play(mut command: Command, name: &str) {
    let mut program = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(program.stdout.take().expect("piped")).lines();
    let mut last = VecDeque::new();
    for line in lines.map_while(Result::ok) {
        println!("{line}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = program.wait().expect("the program ends");
    let last = Vec::from(last).join("\n");
    assert!(
        status.success(),
        "the scenario {name} failed ({status}):\n{last}"
    );
}

/// The Python that has clients of PyPI: `VISAVIS_PYTHON`, or the system's.
pub fn python() -> String {
    std::env::var("VISAVIS_PYTHON").unwrap_or_else(|_| "python3".into())
}

/// Whether Python has a module; if not, how to get it is printed, and the test is to be skipped.
pub fn has_python_module(name: &str, how: &str) -> bool {
    // The bindings of the system's libraries belong to the system's Python.
    let interpreter = if name == "gi" {
        "/usr/bin/python3".into()
    } else {
        python()
    };
    let import = Command::new(&interpreter)
        .args(["-c", &format!("import {name}")])
        .stderr(Stdio::null())
        .status();
    let there = import.is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: {interpreter} has no module {name}: {how}");
    }
    there
}

/// Whether GStreamer has an element; if not, how to get it is printed, and the test is to be skipped.
pub fn has_element(name: &str, how: &str) -> bool {
    // `--exists` would ask for a plugin as new as GStreamer itself.
    let there = Command::new("gst-inspect-1.0")
        .arg(name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: GStreamer has no element {name}: {how}");
    }
    there
}

/// The Go program of `driver/pion`, built; `None`, with the reason printed, where there is no Go or its modules
/// are not there.
pub fn go_client() -> Option<std::path::PathBuf> {
    let program = interop_meeting::target().join("interop-pion");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("driver/pion"))
        .status();
    if built.is_ok_and(|status| status.success()) {
        Some(program)
    } else {
        eprintln!("skipped: `go build` in interop/livekit/driver/pion does not succeed");
        None
    }
}

/// Runs a scenario of the Go program.
pub fn run_go(program: &Path, name: &str, server: &Server) {
    let mut command = Command::new(program);
    command
        .args([name, &server.url, KEY.0, KEY.1])
        // Pion says a lot there.
        .stderr(Stdio::null());
    play(command, name);
}
