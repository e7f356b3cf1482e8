//! `cargo xtask interop [--long] [PEER]...`: the tests against browsers and other implementations, in a
//! network namespace of their own, so that they talk to nobody but each other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::delegate;
use crate::results::{self, Seen};

/// Sets up a namespace: loopback, and one interface with an IPv4 and an IPv6 address, because browsers
/// offer no loopback candidates. The far end of the pair leads nowhere.
const NAMESPACE: &str = "
set -e
ip link set lo up
ip link add visavis0 type veth peer name visavis1
ip link set visavis1 up
ip addr add 198.51.100.1/24 dev visavis0
ip -6 addr add fd00:77::1/64 dev visavis0 nodad 2>/dev/null || true
ip link set visavis0 up
ip route add default via 198.51.100.254 dev visavis0
exec \"$@\"
";

pub(crate) fn run(long: bool, wanted: &[String]) -> ExitCode {
    let peers = peers();
    if let Some(unknown) = wanted.iter().find(|name| !peers.contains(name)) {
        println!("no peer named {unknown}; there are: {}", peers.join(", "));
        return ExitCode::FAILURE;
    }
    let mut failed = Vec::new();
    for peer in peers
        .iter()
        .filter(|peer| wanted.is_empty() || wanted.contains(peer))
    {
        println!("interop: {peer}");
        if !test(peer, long) {
            failed.push(peer.as_str());
        }
    }
    println!("interop: failed: {failed:?}");
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Builds a peer's tests here, where the network is, and runs them there, where it is not.
fn test(peer: &str, long: bool) -> bool {
    let manifest = format!("interop/{peer}/Cargo.toml");
    let mut build = delegate::cargo();
    build.args(["test", "--quiet", "--no-run", "--manifest-path", &manifest]);
    if delegate::run(&mut build) != ExitCode::SUCCESS {
        return false;
    }
    // Peers in Rust are packages of their own, dear to build.
    for program in packages(&crate::root().join("interop").join(peer)) {
        let manifest = format!("interop/{peer}/{program}/Cargo.toml");
        let mut build = delegate::cargo();
        build.args(["build", "--quiet", "--manifest-path", &manifest]);
        if long && delegate::run(&mut build) != ExitCode::SUCCESS {
            return false;
        }
    }
    let mut namespace = namespace();
    namespace.args(["test", "--offline", "--manifest-path", &manifest]);
    namespace.args(["--no-fail-fast", "--", "--test-threads=1", "--nocapture"]);
    if long {
        namespace.arg("--include-ignored");
    }
    let Some((passed, seen)) = watch(&mut namespace) else {
        println!("interop: {peer}: cargo did not start");
        return false;
    };
    if !seen.is_empty()
        && let Err(error) = results::write(peer, &seen)
    {
        println!("interop: results not written: {error}");
    }
    passed
}

/// Runs a command; whether it succeeded, and what its tests saw.
fn watch(command: &mut Command) -> Option<(bool, Vec<Seen>)> {
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let output = BufReader::new(child.stdout.take()?);
    let mut seen = Vec::new();
    for line in output.lines().map_while(Result::ok) {
        println!("{line}");
        seen.extend(Seen::parse(&line));
    }
    Some((child.wait().ok()?.success(), seen))
}

/// Records what browsers send, as fixtures in `folder`.
pub(crate) fn capture(folder: &str, names: &[String]) -> ExitCode {
    let example = ["--example", "capture"];
    let manifest = ["--manifest-path", "interop/browser/Cargo.toml"];
    let mut build = delegate::cargo();
    build
        .args(["build", "--quiet"])
        .args(manifest)
        .args(example);
    if delegate::run(&mut build) != ExitCode::SUCCESS {
        return ExitCode::FAILURE;
    }
    let mut namespace = namespace();
    namespace
        .args(["run", "--quiet", "--offline"])
        .args(manifest)
        .args(example);
    delegate::run(namespace.arg("--").arg(folder).args(names))
}

/// A cargo command inside a namespace.
fn namespace() -> Command {
    let mut namespace = Command::new("unshare");
    namespace.args(["--net", "--", "sh", "-c", NAMESPACE, "namespace"]);
    namespace.arg(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    namespace
        .env("VISAVIS_NAMESPACE", "1")
        .current_dir(crate::root());
    namespace
}

/// The folders of `interop/` that hold a package with tests.
fn peers() -> Vec<String> {
    let interop = crate::root().join("interop");
    let mut peers = packages(&interop);
    peers.retain(|name| interop.join(name).join("tests").exists());
    peers
}

/// The folders that hold a package.
fn packages(folder: &Path) -> Vec<String> {
    let mut packages: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    packages.sort();
    packages
}
