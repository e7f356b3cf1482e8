//! The JSON messages of a transfer.

use serde::{Deserialize, Serialize};

/// The version spoken here.
pub(crate) const VERSION: u32 = 1;
/// The most entries of one transfer.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;
/// The most entries in one message: with the longest paths still below 256 KiB.
pub(crate) const ENTRIES_PER_MESSAGE: usize = 50;

/// One message. The arrows say who sends it: sender → receiver or back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Message {
    /// → What there is to have. The entries follow.
    Offer {
        version: u32,
        /// Number of entries.
        entries: u64,
        /// Bytes of all files; unknown for standard input.
        bytes: Option<u64>,
    },
    /// → Some entries, in order.
    Entries { entries: Vec<Entry> },
    /// ← The receiver has the beginning of an entry: `bytes` of it (whole pieces, or all) with this
    /// digest.
    Have {
        entry: u64,
        bytes: u64,
        digest: String,
    },
    /// ← Go on.
    Accept,
    /// ← No.
    Decline { reason: String },
    /// → The entry's bytes from `offset` on follow.
    Begin { entry: u64, offset: u64 },
    /// → They are through.
    End {
        entry: u64,
        bytes: u64,
        digest: String,
    },
    /// → The entry cannot be read (any more).
    Unreadable { entry: u64, reason: String },
    /// ← Bytes written so far, those that were there before included.
    Progress { bytes: u64 },
    /// ← The entry is whole.
    Verified { entry: u64 },
    /// ← Everything is in its place.
    Done,
    /// ← It ends here, for this reason.
    Failed { reason: String },
}

/// A file or an empty directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Relative, with `/` between components.
    pub(crate) path: String,
    /// Bytes of a file; unknown for standard input; absent for a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    /// A directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) directory: bool,
    /// A file that may be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) executable: bool,
}

impl Message {
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
