//! `cargo xtask fuzz MINUTES [TARGET]...`: each target for that long, with its corpus.

use std::process::{Command, ExitCode};

use crate::delegate;

pub(crate) fn run(minutes: f64, wanted: &[String]) -> ExitCode {
    let installed = Command::new("cargo-fuzz").arg("--version").output();
    if !installed.is_ok_and(|output| output.status.success()) {
        println!("installing cargo-fuzz");
        let code = delegate::run(delegate::cargo().args(["install", "--quiet", "cargo-fuzz"]));
        if code != ExitCode::SUCCESS {
            println!(
                "fuzz: cargo-fuzz cannot be installed from the registry; install it (`cargo install cargo-fuzz`, and a C++ \
                 compiler for libFuzzer) and try again"
            );
            return code;
        }
    }
    let targets = if wanted.is_empty() {
        targets()
    } else {
        wanted.to_vec()
    };
    let mut failed = Vec::new();
    for target in &targets {
        println!("fuzzing {target} for {minutes} minutes");
        let mut command = delegate::cargo();
        // libFuzzer's instrumentation is behind unstable flags of a stable compiler.
        command.env("RUSTC_BOOTSTRAP", "1");
        command.args([
            "fuzz",
            "run",
            target,
            "--",
            "-rss_limit_mb=2048",
            "-timeout=10",
        ]);
        command.arg(format!("-max_total_time={}", (minutes * 60.0).round()));
        if delegate::run(&mut command) != ExitCode::SUCCESS {
            failed.push(target.as_str());
        }
    }
    println!("fuzz: {} targets, failed: {failed:?}", targets.len());
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The names of the targets, as `fuzz/fuzz_targets` has them.
fn targets() -> Vec<String> {
    let folder = crate::root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}
