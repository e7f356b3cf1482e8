//! `cargo xtask interop [--long] [PEER]...`: the tests against browsers and other implementations, in a
//! network namespace of their own, so that they talk to nobody but each other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
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
    let wanted: Vec<&str> = peers
        .iter()
        .map(String::as_str)
        .filter(|peer| wanted.is_empty() || wanted.iter().any(|name| name == peer))
        .collect();
    let Some(programs) = build(&wanted, long) else {
        return ExitCode::FAILURE;
    };
    let mut failed = Vec::new();
    for peer in wanted {
        println!("interop: {peer}");
        if !test(peer, &programs, long) {
            failed.push(peer);
        }
    }
    println!("interop: failed: {failed:?}");
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A program of tests, of the package in this folder.
struct Program {
    folder: PathBuf,
    path: PathBuf,
}

impl Program {
    /// Takes a line of what cargo says of its work in JSON; `None` for lines about other things.
    fn parse(line: &str) -> Option<Self> {
        let value = |key: &str| {
            let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
            Some(PathBuf::from(rest.split_once('"')?.0))
        };
        Some(Self {
            folder: value("manifest_path")?.parent()?.to_owned(),
            path: value("executable")?,
        })
    }
}

/// Builds the tests of peers, all at once, so that what they share is built once; here, where the network is, because
/// they run where it is not.
fn build(peers: &[&str], long: bool) -> Option<Vec<Program>> {
    let mut build = delegate::cargo();
    build.args([
        "test",
        "--quiet",
        "--no-run",
        "--manifest-path",
        "interop/Cargo.toml",
    ]);
    build.arg("--message-format=json-render-diagnostics");
    for peer in peers {
        build.args(["--package", &format!("interop-{peer}")]);
    }
    let mut programs = Vec::new();
    let built = watch(&mut build, |line| programs.extend(Program::parse(line)))?;
    // Cargo names them as they are ready; the rows of the results have one order.
    programs.sort_by(|one, other| one.path.file_name().cmp(&other.path.file_name()));
    // Peers in Rust are packages of their own, dear to build.
    for peer in peers.iter().filter(|_| long) {
        for program in packages(&crate::root().join("interop").join(peer)) {
            let manifest = format!("interop/{peer}/{program}/Cargo.toml");
            let mut build = delegate::cargo();
            build.args(["build", "--quiet", "--manifest-path", &manifest]);
            if delegate::run(&mut build) != ExitCode::SUCCESS {
                return None;
            }
        }
    }
    built.then_some(programs)
}

/// Runs a peer's tests.
fn test(peer: &str, programs: &[Program], long: bool) -> bool {
    let folder = crate::root().join("interop").join(peer);
    let mut passed = true;
    let mut seen = Vec::new();
    let own = Path::new("interop").join(peer);
    for program in programs
        .iter()
        .filter(|program| program.folder.ends_with(&own))
    {
        let mut namespace = namespace();
        namespace.arg(&program.path).current_dir(&folder);
        namespace.args(["--test-threads=1", "--nocapture"]);
        if long {
            namespace.arg("--include-ignored");
        }
        let succeeded = watch(&mut namespace, |line| {
            println!("{line}");
            seen.extend(Seen::parse(line));
        });
        passed &= succeeded == Some(true);
    }
    if !seen.is_empty()
        && let Err(error) = results::write(peer, &seen)
    {
        println!("interop: results not written: {error}");
    }
    passed
}

/// Runs a command and passes each line of its output on; whether it succeeded, `None` where it did not start.
fn watch(command: &mut Command, mut line: impl FnMut(&str)) -> Option<bool> {
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("cannot start {:?}: {error}", command.get_program());
            return None;
        }
    };
    let output = BufReader::new(child.stdout.take()?);
    for text in output.lines().map_while(Result::ok) {
        line(&text);
    }
    Some(child.wait().ok()?.success())
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
        .arg(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--offline"])
        .args(manifest)
        .args(example);
    delegate::run(namespace.arg("--").arg(folder).args(names))
}

/// A command inside a namespace, which wants the program and its arguments.
fn namespace() -> Command {
    let mut namespace = Command::new("unshare");
    namespace.args(["--net", "--", "sh", "-c", NAMESPACE, "namespace"]);
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
