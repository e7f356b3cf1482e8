//! What the user sees of a transfer: a bar on a terminal, lines of JSON for programs, else nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress is shown.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    json: bool,
    quiet: bool,
    begun: Arc<AtomicBool>,
}

impl Progress {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        // Nothing is drawn before there is something to show.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self {
            bar,
            json,
            quiet,
            begun: Arc::default(),
        }
    }

    /// Whether a transfer has begun, be it over or not.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// A transfer of so many bytes begins, of which some are there.
    pub(crate) fn begin(&self, total: Option<u64>, done: u64) {
        self.event(&serde_json::json!({ "event": "begin", "bytes": total, "have": done }));
        if !self.begun.swap(true, Ordering::Relaxed) && !self.json && !self.quiet {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let style = if let Some(total) = total {
            self.bar.set_length(total);
            "{wide_bar} {percent:>3}%  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left"
        } else {
            "{spinner} {decimal_bytes}  {decimal_bytes_per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        self.bar.set_position(done);
        self.bar.reset_eta();
    }

    /// So many bytes are through.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// The transfer is over, one way or the other.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Tells the user something.
    pub(crate) fn say(&self, text: &str) {
        if !self.json && !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// Tells a program something.
    #[expect(clippy::print_stdout, reason = "programs read standard output")]
    pub(crate) fn event(&self, event: &serde_json::Value) {
        if self.json {
            println!("{event}");
        }
    }
}
