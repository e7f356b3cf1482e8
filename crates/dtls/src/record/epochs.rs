//! The epochs of a connection in both directions.

use std::ops::Range;

use visavis_datagram::Framing;

use super::protection::OpenError;
use super::{
    ContentType, LEGACY_HEADER_LEN, MAX_PLAINTEXT, RecordHeader, RecordKeys, RecordNumber,
    ReplayWindow, header,
};
use crate::{Stats, Version};

/// What opens records of one epoch.
#[derive(Debug)]
pub(crate) struct ReadEpoch {
    pub(crate) epoch: u64,
    keys: RecordKeys,
    replay: ReplayWindow,
    /// Records that failed authentication.
    forged: u64,
}

/// What seals records of one epoch.
#[derive(Debug)]
pub(crate) struct WriteEpoch {
    pub(crate) epoch: u64,
    keys: RecordKeys,
    next: u64,
}

/// A record that opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) content_type: ContentType,
    pub(crate) number: RecordNumber,
    /// Where the content stands in the record.
    pub(crate) content: Range<usize>,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Opened(Opened),
    /// Counted and done with.
    Dropped,
    /// Its epoch has no keys (yet).
    NoKeys,
}

/// The epochs of a connection.
#[derive(Debug)]
pub(crate) struct RecordLayer {
    /// In ascending order; epoch 0 is not among them.
    read: Vec<ReadEpoch>,
    /// In ascending order; epoch 0 is not among them.
    write: Vec<WriteEpoch>,
    /// The next sequence number of epoch 0.
    plain_next: u64,
    /// What this end asked the peer's records to carry.
    pub(crate) local_id: Vec<u8>,
    /// What the peer asked this end's records to carry.
    pub(crate) remote_id: Vec<u8>,
    /// The longest content of a protected record that the peer takes.
    pub(crate) content_limit: usize,
    replay_window: u64,
}

impl RecordLayer {
    pub(crate) fn new(replay_window: u64) -> Self {
        Self {
            read: Vec::new(),
            write: Vec::new(),
            plain_next: 0,
            local_id: Vec::new(),
            remote_id: Vec::new(),
            content_limit: MAX_PLAINTEXT,
            replay_window,
        }
    }

    /// Continues the numbers of a stateless answer (RFC 6347 section 4.2.1).
    pub(crate) fn set_plain_sequence(&mut self, next: u64) {
        self.plain_next = next;
    }

    pub(crate) fn add_read(&mut self, epoch: u64, keys: RecordKeys) {
        self.read.push(ReadEpoch {
            epoch,
            keys,
            replay: ReplayWindow::new(self.replay_window),
            forged: 0,
        });
    }

    pub(crate) fn add_write(&mut self, epoch: u64, keys: RecordKeys) {
        self.write.push(WriteEpoch {
            epoch,
            keys,
            next: 0,
        });
    }

    /// Forgets the read keys of the epochs that `keep` refuses.
    pub(crate) fn retain_read(&mut self, keep: impl Fn(u64) -> bool) {
        self.read.retain(|read| keep(read.epoch));
        // An epoch takes a kilobyte and more, and most connections see no further one.
        self.read.shrink_to_fit();
    }

    /// Forgets the write keys of the epochs that `keep` refuses.
    pub(crate) fn retain_write(&mut self, keep: impl Fn(u64) -> bool) {
        self.write.retain(|write| keep(write.epoch));
        self.write.shrink_to_fit();
    }

    /// The highest epoch that this end can send in.
    pub(crate) fn write_epoch(&self) -> u64 {
        self.write.last().map_or(0, |write| write.epoch)
    }

    /// The highest epoch that this end can read.
    pub(crate) fn read_epoch(&self) -> u64 {
        self.read.last().map_or(0, |read| read.epoch)
    }

    /// Records sent in the highest epoch.
    pub(crate) fn written(&self) -> u64 {
        self.write.last().map_or(0, |write| write.next)
    }

    /// The most records that failed authentication in one epoch.
    pub(crate) fn forged(&self) -> u64 {
        self.read.iter().map(|read| read.forged).max().unwrap_or(0)
    }

    /// The room around the content of a record of `epoch`.
    pub(crate) fn framing(&self, epoch: u64) -> Framing {
        match self.write.iter().find(|write| write.epoch == epoch) {
            Some(write) => write.keys.framing(self.remote_id.len()),
            None => Framing {
                header: LEGACY_HEADER_LEN,
                trailer: 0,
            },
        }
    }

    /// The room around the content of a record of the highest epoch.
    pub(crate) fn current_framing(&self) -> Option<Framing> {
        self.write
            .last()
            .map(|write| write.keys.framing(self.remote_id.len()))
    }

    /// Seals a whole record of the highest epoch in place; the caller has checked its room.
    pub(crate) fn seal_current(&mut self, record: &mut [u8], content_len: usize) {
        if let Some(write) = self.write.last_mut() {
            write.keys.seal(
                write.epoch,
                write.next,
                &self.remote_id,
                ContentType::APPLICATION_DATA,
                record,
                content_len,
            );
            write.next += 1;
        }
    }

    /// Appends a record with `content` to `out`; gives its number. An epoch whose keys are gone
    /// gives `None`.
    pub(crate) fn append(
        &mut self,
        epoch: u64,
        content_type: ContentType,
        content: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Option<RecordNumber> {
        let framing = self.framing(epoch);
        let start = out.len();
        let content_len: usize = content.iter().map(|part| part.len()).sum();
        out.resize(start + framing.header, 0);
        for part in content {
            out.extend_from_slice(part);
        }
        out.resize(out.len() + framing.trailer, 0);
        let record = &mut out[start..];
        let sequence = if epoch == 0 {
            let sequence = self.plain_next;
            self.plain_next += 1;
            header::write_legacy(
                &mut record[..LEGACY_HEADER_LEN],
                content_type,
                0,
                sequence,
                &[],
                content_len,
            );
            sequence
        } else if let Some(write) = self.write.iter_mut().find(|write| write.epoch == epoch) {
            let sequence = write.next;
            write.next += 1;
            write.keys.seal(
                epoch,
                sequence,
                &self.remote_id,
                content_type,
                record,
                content_len,
            );
            sequence
        } else {
            out.truncate(start);
            return None;
        };
        Some(RecordNumber { epoch, sequence })
    }

    /// Opens one record in place.
    pub(crate) fn open(
        &mut self,
        header: RecordHeader,
        record: &mut [u8],
        stats: &mut Stats,
    ) -> Outcome {
        match header {
            RecordHeader::Legacy {
                content_type,
                epoch: 0,
                sequence,
                header_len,
                ..
            } => {
                if content_type == ContentType::APPLICATION_DATA {
                    stats.malformed += 1;
                    return Outcome::Dropped;
                }
                Outcome::Opened(Opened {
                    content_type,
                    number: RecordNumber { epoch: 0, sequence },
                    content: header_len..record.len(),
                })
            }
            RecordHeader::Legacy {
                content_type,
                epoch,
                sequence,
                header_len,
                ..
            } => {
                let Some(read) = self
                    .read
                    .iter_mut()
                    .find(|read| read.epoch == u64::from(epoch))
                else {
                    return Outcome::NoKeys;
                };
                if read.keys.version() != Version::Dtls12
                    // RFC 9146 section 3: once negotiated, all protected records carry it.
                    || (content_type == ContentType::TLS12_CID) == self.local_id.is_empty()
                {
                    stats.malformed += 1;
                    return Outcome::Dropped;
                }
                if !read.replay.is_new(sequence) {
                    stats.replayed += 1;
                    return Outcome::Dropped;
                }
                let opened = read.keys.open12(
                    content_type,
                    epoch,
                    sequence,
                    &self.local_id,
                    record,
                    header_len,
                );
                Self::finish(read, sequence, opened, stats)
            }
            RecordHeader::Unified {
                epoch_bits,
                sequence_at,
                sequence_len,
                header_len,
                ..
            } => {
                // The most recent epoch with these bits (RFC 9147 section 4.2.2).
                let Some(read) = self
                    .read
                    .iter_mut()
                    .rev()
                    .find(|read| read.epoch & 0b11 == u64::from(epoch_bits))
                else {
                    return Outcome::NoKeys;
                };
                let expected = read.replay.expected();
                let sequence =
                    match read
                        .keys
                        .uncover(record, sequence_at, sequence_len, header_len, expected)
                    {
                        Ok(sequence) => sequence,
                        Err(_) => {
                            stats.malformed += 1;
                            return Outcome::Dropped;
                        }
                    };
                let opened = read.keys.open13(sequence, record, header_len);
                // RFC 9147 section 4.5.1: looked up behind deprotection.
                if opened.is_ok() && !read.replay.is_new(sequence) {
                    stats.replayed += 1;
                    return Outcome::Dropped;
                }
                Self::finish(read, sequence, opened, stats)
            }
        }
    }

    fn finish(
        read: &mut ReadEpoch,
        sequence: u64,
        opened: Result<(ContentType, Range<usize>), OpenError>,
        stats: &mut Stats,
    ) -> Outcome {
        match opened {
            Ok((_, content)) if content.len() > MAX_PLAINTEXT => {
                stats.malformed += 1;
                Outcome::Dropped
            }
            Ok((content_type, content)) => {
                read.replay.mark(sequence);
                Outcome::Opened(Opened {
                    content_type,
                    number: RecordNumber {
                        epoch: read.epoch,
                        sequence,
                    },
                    content,
                })
            }
            Err(OpenError::Forged) => {
                read.forged += 1;
                stats.forged += 1;
                Outcome::Dropped
            }
            Err(OpenError::Malformed) => {
                stats.malformed += 1;
                Outcome::Dropped
            }
        }
    }
}
