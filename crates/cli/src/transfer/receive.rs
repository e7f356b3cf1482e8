//! The receiver's side of a transfer.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use visavis::DataChannel;

use super::finish;
use super::message::{Entry, MAX_ENTRIES, Message, VERSION};
use super::progress::{Bar, Progress};
use super::store::{Store, StoreError};

/// Messages that wait for the disk.
const WRITE_BEHIND: usize = 64;
/// How often the sender is told how far we are.
const REPORT: Duration = Duration::from_millis(250);
/// How long the offer may take.
const OFFER: Duration = Duration::from_secs(60);

/// Why a transfer did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("the connection was lost")]
    Lost,
    #[error("the other side speaks another version of this: update both")]
    Version,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} could not be sent: {reason}. Ask for it again")]
    Unreadable { path: String, reason: String },
    #[error("declined")]
    Declined,
}

impl From<visavis::Error> for ReceiveError {
    fn from(_: visavis::Error) -> Self {
        Self::Lost
    }
}

/// What is offered.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Files and empty directories.
    pub(crate) entries: Vec<Entry>,
    /// Bytes in all, if they are known.
    pub(crate) bytes: Option<u64>,
}

/// Waits for the offer.
pub(crate) async fn offer(channel: &mut DataChannel) -> Result<Offer, ReceiveError> {
    let offer = async {
        let Message::Offer {
            version,
            entries: count,
            bytes,
        } = parse(channel.recv().await)?
        else {
            return Err(ReceiveError::Version);
        };
        if version != VERSION {
            return Err(ReceiveError::Version);
        }
        let count = usize::try_from(count)
            .ok()
            .filter(|count| (1..=MAX_ENTRIES).contains(count))
            .ok_or(StoreError::Protocol("too many entries"))?;
        let mut all = Vec::new();
        while all.len() < count {
            let Message::Entries { entries } = parse(channel.recv().await)? else {
                return Err(ReceiveError::Version);
            };
            all.extend(entries);
        }
        if all.len() > count {
            return Err(StoreError::Protocol("more entries than were announced").into());
        }
        let sum = all.iter().filter(|entry| !entry.directory);
        let sum = sum
            .map(|entry| entry.size)
            .try_fold(0_u64, |sum, size| sum.checked_add(size?));
        if sum != bytes {
            return Err(StoreError::Protocol("the sizes do not add up").into());
        }
        Ok(Offer {
            entries: all,
            bytes,
        })
    };
    match tokio::time::timeout(OFFER, offer).await {
        Ok(offer) => offer,
        Err(_) => Err(ReceiveError::Lost),
    }
}

/// Tells the sender that nobody wants it.
pub(crate) async fn decline(channel: &DataChannel, reason: &str) {
    let reason = reason.to_owned();
    conclude(channel, Message::Decline { reason }).await;
}

/// Tells the sender that it cannot be taken, this time.
pub(crate) async fn give_up(channel: &DataChannel, reason: &str) {
    let reason = reason.to_owned();
    conclude(channel, Message::Failed { reason }).await;
}

async fn conclude(channel: &DataChannel, last: Message) {
    let _ = channel.feed(last.to_text()).await;
    finish(channel).await;
}

/// What goes to the disk.
enum Job {
    Begin {
        entry: u64,
        offset: u64,
    },
    Data(Bytes),
    End {
        entry: u64,
        bytes: u64,
        digest: String,
    },
}

/// What comes back from it.
enum Report {
    Written(u64),
    Verified(u64),
}

/// Takes everything that was offered. Says where it is.
pub(crate) async fn receive(
    channel: &mut DataChannel,
    bytes: Option<u64>,
    files: usize,
    paths: impl Fn(u64) -> String,
    mut store: Store,
    progress: &Progress,
) -> Result<Vec<PathBuf>, ReceiveError> {
    let joined = tokio::task::spawn_blocking(move || {
        let have = store.have();
        (store, have)
    });
    let (store, have) = joined.await.map_err(|_| ReceiveError::Lost)?;
    let mut done = 0;
    for (entry, bytes, digest) in have {
        done += bytes;
        let have = Message::Have {
            entry,
            bytes,
            digest,
        };
        channel.feed(have.to_text()).await?;
    }
    channel.feed(Message::Accept.to_text()).await?;
    let bar = progress.begin(bytes, done);
    let (jobs, queue) = mpsc::channel(WRITE_BEHIND);
    // Not bounded, or the two would wait for each other: two reports at most per job, and jobs are.
    let (reports, mut reported) = mpsc::unbounded_channel();
    let writer = tokio::task::spawn_blocking(move || write(store, queue, &reports));
    let result = transfer(channel, files, &paths, &jobs, &mut reported, &bar).await;
    drop(jobs);
    let store = writer.await.map_err(|_| ReceiveError::Lost)?;
    let result = match (result, store) {
        (_, Err(error)) => Err(error.into()),
        (Err(error), Ok(_)) => Err(error),
        (Ok(()), Ok(store)) => tokio::task::spawn_blocking(move || store.finish())
            .await
            .map_err(|_| ReceiveError::Lost)?
            .map_err(ReceiveError::from),
    };
    let last = match &result {
        Ok(_) => Message::Done,
        Err(error) => Message::Failed {
            reason: error.to_string(),
        },
    };
    conclude(channel, last).await;
    result
}

async fn transfer(
    channel: &mut DataChannel,
    files: usize,
    paths: &impl Fn(u64) -> String,
    jobs: &mpsc::Sender<Job>,
    reported: &mut mpsc::UnboundedReceiver<Report>,
    bar: &Bar,
) -> Result<(), ReceiveError> {
    let mut verified = 0;
    let mut told = Instant::now();
    let mut unreadable = None;
    let mut through = 0;
    while verified < files {
        tokio::select! {
            message = channel.recv(), if through < files => {
                let job = match message {
                    Some(visavis::Message::Binary(data)) => Job::Data(data),
                    message => match parse(message)? {
                        Message::Begin { entry, offset } => Job::Begin { entry, offset },
                        Message::End { entry, bytes, digest } => {
                            through += 1;
                            Job::End { entry, bytes, digest }
                        }
                        Message::Unreadable { entry, reason } => {
                            unreadable = Some(ReceiveError::Unreadable { path: paths(entry), reason });
                            break;
                        }
                        _ => return Err(StoreError::Protocol("an unexpected message").into()),
                    },
                };
                // A disk that failed takes no more; why is told by who waits for it.
                if jobs.send(job).await.is_err() {
                    break;
                }
            }
            report = reported.recv() => match report {
                Some(Report::Written(bytes)) => {
                    bar.set(bytes);
                    if told.elapsed() >= REPORT {
                        told = Instant::now();
                        channel.feed(Message::Progress { bytes }.to_text()).await?;
                    }
                }
                Some(Report::Verified(entry)) => {
                    verified += 1;
                    channel.feed(Message::Verified { entry }.to_text()).await?;
                }
                None => break,
            },
        }
    }
    match unreadable {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Does the jobs in a row; gives the store back for its last step.
fn write(
    mut store: Store,
    mut queue: mpsc::Receiver<Job>,
    reports: &mpsc::UnboundedSender<Report>,
) -> Result<Store, StoreError> {
    let mut written = 0;
    while let Some(job) = queue.blocking_recv() {
        match job {
            Job::Begin { entry, offset } => {
                store.begin(entry, offset)?;
                written += offset;
            }
            Job::Data(data) => {
                store.write(&data)?;
                written += data.len() as u64;
            }
            Job::End {
                entry,
                bytes,
                digest,
            } => {
                store.end(entry, bytes, &digest)?;
                let _ = reports.send(Report::Verified(entry));
            }
        }
        let _ = reports.send(Report::Written(written));
    }
    Ok(store)
}

fn parse(message: Option<visavis::Message>) -> Result<Message, ReceiveError> {
    match message {
        Some(visavis::Message::Text(text)) => {
            serde_json::from_str(&text).map_err(|_| ReceiveError::Version)
        }
        Some(visavis::Message::Binary(_)) => Err(StoreError::Protocol("bytes of no entry").into()),
        None => Err(ReceiveError::Lost),
    }
}
