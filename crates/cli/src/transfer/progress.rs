//! What the user sees of transfers: a bar for each on a terminal, lines of JSON for programs, else nothing.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{
    HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use crate::output::{err, out};

/// In the 40 columns of a narrow terminal there is room for all of it but the bar itself.
const WITH_END: &str = "{wide_bar} {percent:>3}%  {decimal_bytes}  {decimal_bytes_per_sec}  {left}";
const WITHOUT_END: &str = "{spinner} {decimal_bytes}  {decimal_bytes_per_sec}";

/// How long the rest takes, once there is a rate to tell it by.
fn left(state: &ProgressState, to: &mut dyn Write) {
    if state.per_sec() >= 1.0 {
        let _ = write!(to, "{:#} left", HumanDuration(state.eta()));
    }
}

/// Where progress is shown.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bars: MultiProgress,
    json: bool,
    quiet: bool,
    begun: Arc<AtomicBool>,
}

impl Progress {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let target = if json || quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
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
    pub(crate) fn begin(&self, total: Option<u64>, done: u64) -> Bar {
        self.event(&serde_json::json!({ "event": "begin", "bytes": total, "have": done }));
        self.begun.store(true, Ordering::Relaxed);
        let (bar, style) = match total {
            Some(total) => (ProgressBar::new(total), WITH_END),
            None => (ProgressBar::no_length(), WITHOUT_END),
        };
        let bar = match ProgressStyle::with_template(style) {
            Ok(style) => bar.with_style(style.with_key("left", left)),
            Err(_) => bar,
        };
        let bar = self.bars.add(bar);
        bar.set_position(done);
        // What was there before says nothing of how fast the rest comes.
        bar.reset_eta();
        Bar(bar)
    }

    /// Tells the user something.
    pub(crate) fn say(&self, text: &str) {
        if !self.json && !self.quiet {
            self.bars.suspend(|| err!("{text}"));
        }
    }

    /// Tells the user why all of it ended, where the bars were. No bar is drawn after it.
    pub(crate) fn fail(&self, text: &str) {
        self.event(&serde_json::json!({ "event": "error", "message": text }));
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
        err!("{text}");
    }

    /// Tells a program something.
    pub(crate) fn event(&self, event: &serde_json::Value) {
        if self.json {
            out!("{event}");
        }
    }
}

/// One transfer that is under way; gone from the terminal when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// So many bytes are through.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
