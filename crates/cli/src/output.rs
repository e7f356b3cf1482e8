//! Standard output and standard error, whose readers may have left: `visavis send file | head -3` sends the file all the same.
//! The standard library's macros would panic.

use std::fmt::Arguments;
use std::io::Write;

/// A line on standard output, for whoever reads it.
macro_rules! out {
    ($($words:tt)*) => { $crate::output::line(std::io::stdout(), format_args!($($words)*)) };
}

/// A line on standard error.
macro_rules! err {
    ($($words:tt)*) => { $crate::output::line(std::io::stderr(), format_args!($($words)*)) };
}

pub(crate) use {err, out};

pub(crate) fn line(mut to: impl Write, words: Arguments<'_>) {
    let _ = writeln!(to, "{words}").and_then(|()| to.flush());
}
