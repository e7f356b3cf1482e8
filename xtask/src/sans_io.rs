//! The sans-IO rule of ARCHITECTURE.md: a crate below the third floor owns no clock, thread,
//! socket or source of randomness. Its sources are searched for the names of those things.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// The crates that the rule holds for. `crates/sfu` holds for its `core` folder.
const SANS_IO: &[&str] = &[
    "crates/datagram",
    "crates/stun",
    "crates/rtp",
    "crates/sdp",
    "crates/crypto",
    "crates/ice",
    "crates/turn",
    "crates/dtls",
    "crates/srtp",
    "crates/sctp",
    "crates/congestion",
    "crates/media",
    "crates/peer",
    "crates/netsim",
];

/// Folders of other crates under the same rule.
const PARTS: &[&str] = &["crates/sfu/src/worker"];

/// What no sans-IO source may name.
const FORBIDDEN: &[(&str, &str)] = &[
    ("Instant::now", "a clock: take `now` as an argument"),
    ("SystemTime::now", "a clock: take the time as an argument"),
    (".elapsed()", "a clock: take `now` as an argument"),
    ("std::thread", "a thread"),
    ("thread::", "a thread"),
    ("UdpSocket", "a socket"),
    ("TcpStream", "a socket"),
    ("TcpListener", "a socket"),
    ("tokio", "an async runtime"),
    ("getrandom", "the system's randomness: take a `Random`"),
    ("OsRng", "the system's randomness: take a `Random`"),
    ("SysRng", "the system's randomness: take a `Random`"),
    ("rand::rng()", "the system's randomness: take a `Random`"),
    ("thread_rng", "the system's randomness: take a `Random`"),
    ("SystemRandom", "the system's randomness: take a `Random`"),
    ("RandomState", "the system's randomness: seed the hasher"),
    ("static mut", "a global"),
    ("thread_local!", "a global"),
];

/// A line that names a forbidden thing may stand with this mark and a reason behind it.
const MARK: &str = "sans-io: ";

pub(crate) fn run() -> ExitCode {
    let root = crate::root();
    let mut files = 0;
    let mut faults = Vec::new();
    for krate in SANS_IO {
        search(&root.join(krate).join("src"), &mut files, &mut faults);
    }
    for part in PARTS {
        search(&root.join(part), &mut files, &mut faults);
    }
    for fault in &faults {
        println!("{fault}");
    }
    if files == 0 {
        println!("sans-io: found no source to check");
        return ExitCode::FAILURE;
    }
    println!("sans-io: {files} files checked, {} faults", faults.len());
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn search(folder: &Path, files: &mut usize, faults: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            search(&path, files, faults);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            *files += 1;
            for fault in check(&text) {
                faults.push(format!("{}:{fault}", path.display()));
            }
        }
    }
}

/// The faults of one source text, as `line: what`. Comments, and tests at the end of a file, are free.
fn check(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        if line.contains(MARK) {
            continue;
        }
        let code = line.split("//").next().unwrap_or("");
        for (name, what) in FORBIDDEN {
            if code.contains(name) {
                faults.push(format!("{}: `{name}` is {what}", index + 1));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_clock_is_a_fault() {
        assert_eq!(check("let now = Instant::now();").len(), 1);
    }

    #[test]
    fn comments_tests_and_marked_lines_are_free() {
        assert!(check("// Instant::now is forbidden").is_empty());
        assert!(check("#[cfg(test)]\nmod tests { fn now() { Instant::now(); } }").is_empty());
        assert!(check("let r = SystemRandom::new(); // sans-io: signing nonces only").is_empty());
    }
}
