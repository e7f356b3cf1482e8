//! Commands whose code lives beside what they measure: this starts them with the right folder,
//! profile and arguments.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Runs an example of a crate of this workspace, in release.
pub(crate) fn example(package: &str, example: &str, arguments: &[String]) -> ExitCode {
    run_example(package, example, &["--release"], arguments)
}

/// Runs an example whose figures are of virtual time: a quick run is spared the building in release.
pub(crate) fn simulation(package: &str, example: &str, arguments: &[String]) -> ExitCode {
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let profile: &[&str] = if quick { &[] } else { &["--release"] };
    run_example(package, example, profile, arguments)
}

fn run_example(package: &str, example: &str, profile: &[&str], arguments: &[String]) -> ExitCode {
    let mut command = cargo();
    command.args(["run", "--quiet"]).args(profile);
    command.args(["--package", package, "--example", example, "--"]);
    run(command.args(arguments))
}

/// Runs a binary of the `bench` workspace, in release.
pub(crate) fn bench(binary: &str, arguments: &[String]) -> ExitCode {
    run(bench_command(binary).args(arguments))
}

fn bench_command(binary: &str) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--manifest-path"]);
    command.arg(manifest_of(binary));
    command.args(["--bin", binary, "--"]);
    command
}

/// The manifest of the package that has a binary: from the workspace's own, cargo would build each benchmark's peers with the
/// features that all benchmarks together want of them.
fn manifest_of(binary: &str) -> PathBuf {
    let bench = crate::root().join("bench");
    let name = format!("name = \"{binary}\"");
    let manifests = std::fs::read_dir(&bench).into_iter().flatten().flatten();
    manifests
        .map(|entry| entry.path().join("Cargo.toml"))
        .find(|manifest| {
            let text = std::fs::read_to_string(manifest).unwrap_or_default();
            text.lines().any(|line| line == name)
        })
        .unwrap_or_else(|| bench.join("Cargo.toml"))
}

/// As [`bench()`], after building the `visavis` binary in release, which the benchmark runs as a process. `$VISAVIS_BINARY` names one
/// that is built already.
pub(crate) fn bench_of_binary(binary: &str, arguments: &[String]) -> ExitCode {
    const VARIABLE: &str = "VISAVIS_BINARY";
    let mut command = bench_command(binary);
    if std::env::var_os(VARIABLE).is_none() {
        let mut build = cargo();
        build.args(["build", "--quiet", "--release", "--package", "visavis-cli"]);
        if run(&mut build) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| crate::root().join("target"), PathBuf::from);
        command.env(VARIABLE, target.join("release/visavis"));
    }
    run(command.args(arguments))
}

/// A cargo command that starts in the repository's root. What cargo told this program about its own package is not for others:
/// build scripts that look at such variables, and all that depends on them, would be built again each time that they change.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end and passes its verdict on.
pub(crate) fn run(command: &mut Command) -> ExitCode {
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("cannot start {:?}: {error}", command.get_program());
            ExitCode::FAILURE
        }
    }
}
