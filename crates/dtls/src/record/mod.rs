//! The record layer of both versions: headers, protection, replay windows, epochs.

mod epochs;
mod header;
mod protection;
mod replay;

pub(crate) use epochs::{Opened, Outcome, RecordLayer};
pub(crate) use header::{ContentType, LEGACY_HEADER_LEN, RecordHeader, write_legacy};
pub(crate) use protection::RecordKeys;
pub(crate) use replay::ReplayWindow;

/// The longest plaintext of a record in bytes (RFC 8446 section 5.1).
pub(crate) const MAX_PLAINTEXT: usize = 1 << 14;

/// A record's epoch and sequence number (RFC 9147 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordNumber {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
}
