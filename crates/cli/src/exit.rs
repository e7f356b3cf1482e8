//! Exit codes, for scripts: the same for every subcommand.

use std::process::ExitCode;

/// How a subcommand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what was asked.
    Success = 0,
    /// It failed, for a reason without a code of its own.
    Failure = 1,
    /// What was asked for makes no sense, whatever the network is like; as where an argument is missing.
    Usage = 2,
    /// The code is wrong, or nobody waits under it.
    Code = 3,
    /// The server or the other side cannot be reached.
    Unreachable = 4,
    /// The connection broke; the same command again goes on from there.
    Broken = 5,
    /// Something cannot be read or written: permissions, a full disk, a name that is taken.
    Files = 6,
    /// The other side said no.
    Declined = 7,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The table of exit codes, behind the help of a subcommand.
macro_rules! with_exit_codes {
    ($help:literal) => {
        concat!(
            $help,
            "Exit codes:
  0  done            3  wrong code                   6    files or disk
  1  other failure   4  server or peer unreachable   7    the other side declined
  2  wrong usage     5  broke off; run it again      130  interrupted"
        )
    };
}

pub(crate) use with_exit_codes;

/// The table alone, for short helps.
pub(crate) const HELP: &str = with_exit_codes!("");
