//! A network namespace for one test: where addresses can be added, and nobody else listens.
#![allow(clippy::print_stdout, reason = "a skipped test says why")]

use std::process::Command;

/// Runs a test on a thread with a network of its own: `lo` is up and has 10.77.0.1 beside its own address.
/// Needs root; without it, says so and does nothing.
pub(crate) fn alone<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: takes no pointers, and changes the namespace of this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            println!("skipped: no network namespace of one's own (not root?)");
            return;
        }
        ip("link set lo up");
        ip("addr add 10.77.0.1/32 dev lo");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip ...` in the namespace: a child starts where the thread that starts it is.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("there is `ip`").success(), "ip {arguments}");
}
