//! What the tests of several peers share: where they may run, how long they wait, and how they say what
//! was seen.
//!
//! A line `seen: PEER VERSION: WHAT: MARK` goes into `interop/RESULTS.md`, where `cargo xtask interop`
//! writes a table of them. A mark is `✓`, `✗` or `—`, and a reason may follow it.

mod built;

use std::sync::Mutex;
use std::time::Duration;

pub use built::{binary, target};

/// How long anything may take that a test waits for.
const LIMIT: Duration = Duration::from_secs(40);

/// Waits for something, not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// The test at hand cannot run here, for this reason, which is printed.
///
/// # Panics
/// When `CI` is set: there everything that a test needs is installed.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    eprintln!("skipped: {reason}");
}

/// Whether the test runs in a network namespace of its own, where it may use interface addresses.
/// False, with the reason printed, elsewhere; never when `CI` is set.
pub fn in_namespace() -> bool {
    let is_there = std::env::var_os("VISAVIS_NAMESPACE").is_some();
    if !is_there {
        skip("run it by `cargo xtask interop [PEER]`, which makes a network namespace");
    }
    is_there
}

/// What the test at hand meets, and why it does not.
static MET: Mutex<(String, String)> = Mutex::new((String::new(), String::new()));

/// The test meets this peer: its name and version.
pub fn meets(peer: &str) {
    MET.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .0 = peer.to_owned();
}

/// The peer cannot do what the test is about.
pub fn cannot(reason: &str) {
    MET.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .1 = reason.to_owned();
}

/// Says what was seen of a peer.
pub fn saw(peer: &str, what: &str, mark: &str) {
    println!("seen: {peer}: {what}: {mark}");
}

/// What is left of a description on a signalling path that knows nothing of BUNDLE.
pub fn without_bundle(sdp: &str) -> String {
    let is_known = |line: &&str| !line.starts_with("a=group:BUNDLE") && *line != "a=bundle-only";
    let lines = sdp.lines().filter(is_known);
    lines.flat_map(|line| [line, "\r\n"]).collect()
}

/// Says at its end what became of the test, if it met anybody. Tests run one at a time.
pub struct Seen(&'static str);

impl Seen {
    /// A test by its name.
    pub fn new(test: &'static str) -> Self {
        meets("");
        cannot("");
        Self(test)
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let (peer, reason) = MET
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        if peer.is_empty() {
            return;
        }
        let what = self.0.replace('_', " ");
        match (std::thread::panicking(), reason.as_str()) {
            (true, _) => saw(&peer, &what, "✗"),
            (false, "") => saw(&peer, &what, "✓"),
            (false, reason) => saw(&peer, &what, &format!("— {reason}")),
        }
    }
}

/// A test for each line: its name, and what it runs.
#[macro_export]
macro_rules! tests {
    ($($(#[$attribute:meta])* $name:ident: $run:expr;)*) => {
        $(
            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let _seen = $crate::Seen::new(stringify!($name));
                $run.await;
            }
        )*
    };
}
