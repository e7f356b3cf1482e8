//! The sender's side of a transfer.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use visavis::DataChannel;

use super::digest::{Digest, PIECE};
use super::message::{ENTRIES_PER_MESSAGE, Message, VERSION};
use super::progress::{Bar, Progress};
use super::rate::RateLimit;
use super::source::Source;
use super::store::read_into;
use super::{MESSAGE, finish, try_recv};

/// Pieces read ahead of the network.
const READ_AHEAD: usize = 32;
/// How long a receiver may take to decide, which may be a person.
const DECISION: Duration = Duration::from_secs(600);
/// How long a receiver may take to put everything in its place.
const FINISH: Duration = Duration::from_secs(300);

/// Why a transfer to one receiver ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the connection was lost")]
    Lost,
    #[error("the receiver declined: {0}")]
    Declined(String),
    #[error("the receiver gave up: {0}")]
    Failed(String),
    #[error("the receiver broke the rules of a transfer")]
    Protocol,
    #[error("{path}: {reason}")]
    Unreadable { path: String, reason: String },
}

impl From<visavis::Error> for SendError {
    fn from(_: visavis::Error) -> Self {
        Self::Lost
    }
}

/// What the reader of files hands to the network.
enum Piece {
    Message(Message),
    Data(Bytes),
}

/// Sends everything to one receiver.
pub(crate) async fn send(
    channel: &mut DataChannel,
    source: Arc<Source>,
    mut rate: Option<RateLimit>,
    progress: &Progress,
) -> Result<(), SendError> {
    offer(channel, &source).await?;
    let have = decision(channel, &source).await?;
    let done: u64 = have.values().map(|(bytes, _)| *bytes).sum();
    let bar = progress.begin(source.bytes(), done);
    let (sender, mut pieces) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking({
        let source = Arc::clone(&source);
        move || read(&source, &have, &sender)
    });
    let mut unreadable = None;
    while let Some(piece) = pieces.recv().await {
        let wait = match piece {
            Piece::Message(message) => {
                if let Message::Unreadable { entry, reason } = &message {
                    unreadable = Some(SendError::Unreadable {
                        path: source.entries[*entry as usize].path.clone(),
                        reason: reason.clone(),
                    });
                }
                let fed = channel.feed(message.to_text()).await;
                fed.map(|()| None)
            }
            Piece::Data(data) => {
                let wait = rate
                    .as_mut()
                    .map(|rate| rate.spend(Instant::now(), data.len()));
                channel.feed(data).await.map(|()| wait)
            }
        };
        match wait {
            Ok(Some(wait)) if !wait.is_zero() => tokio::time::sleep(wait).await,
            Ok(_) => {}
            Err(_) => return Err(last_words(channel, &bar).await),
        }
        while let Some(message) = try_recv(channel).await {
            if hear(message, &bar)? {
                return Err(SendError::Protocol);
            }
        }
    }
    // A reader that is gone before its end has lost its receiver.
    if reader.await.is_err() {
        return Err(SendError::Lost);
    }
    let done = async {
        loop {
            if hear(channel.recv().await, &bar)? {
                return Ok(());
            }
        }
    };
    let finished = tokio::time::timeout(FINISH, done).await;
    // The receiver closes, and wants to know that its last word has come.
    finish(channel).await;
    match (finished, unreadable) {
        (_, Some(unreadable)) => Err(unreadable),
        (Ok(result), None) => result,
        (Err(_), None) => Err(SendError::Lost),
    }
}

async fn offer(channel: &DataChannel, source: &Source) -> Result<(), SendError> {
    let offer = Message::Offer {
        version: VERSION,
        entries: source.entries.len() as u64,
        bytes: source.bytes(),
    };
    channel.feed(offer.to_text()).await?;
    for entries in source.entries.chunks(ENTRIES_PER_MESSAGE) {
        let entries = entries.to_vec();
        channel.feed(Message::Entries { entries }.to_text()).await?;
    }
    Ok(())
}

/// What the receiver has already, by entry: bytes and digest.
type Have = HashMap<u64, (u64, String)>;

async fn decision(channel: &mut DataChannel, source: &Source) -> Result<Have, SendError> {
    let mut have = Have::new();
    let decide = async {
        loop {
            match parse(channel.recv().await)? {
                Message::Have {
                    entry,
                    bytes,
                    digest,
                } => {
                    let size = source
                        .entries
                        .get(usize::try_from(entry).unwrap_or(usize::MAX))
                        .and_then(|entry| entry.size)
                        .ok_or(SendError::Protocol)?;
                    if bytes > size || (bytes != size && bytes % PIECE != 0) {
                        return Err(SendError::Protocol);
                    }
                    have.insert(entry, (bytes, digest));
                }
                Message::Accept => return Ok(have),
                Message::Decline { reason } => return Err(SendError::Declined(reason)),
                Message::Failed { reason } => return Err(SendError::Failed(reason)),
                _ => return Err(SendError::Protocol),
            }
        }
    };
    match tokio::time::timeout(DECISION, decide).await {
        Ok(decided) => decided,
        Err(_) => Err(SendError::Declined("no answer".into())),
    }
}

/// Why a receiver closed in the midst of it, if it said so.
async fn last_words(channel: &mut DataChannel, bar: &Bar) -> SendError {
    loop {
        if let Err(error) = hear(channel.recv().await, bar) {
            return error;
        }
    }
}

/// True at the end.
fn hear(message: Option<visavis::Message>, bar: &Bar) -> Result<bool, SendError> {
    match parse(message)? {
        Message::Progress { bytes } => bar.set(bytes),
        Message::Verified { .. } => {}
        Message::Done => return Ok(true),
        Message::Failed { reason } => return Err(SendError::Failed(reason)),
        _ => return Err(SendError::Protocol),
    }
    Ok(false)
}

fn parse(message: Option<visavis::Message>) -> Result<Message, SendError> {
    match message {
        Some(visavis::Message::Text(text)) => {
            serde_json::from_str(&text).map_err(|_| SendError::Protocol)
        }
        Some(visavis::Message::Binary(_)) => Err(SendError::Protocol),
        None => Err(SendError::Lost),
    }
}

/// Reads all entries in a row. Ends early when nobody takes the pieces.
fn read(source: &Source, have: &Have, out: &mpsc::Sender<Piece>) {
    for (number, entry) in source.entries.iter().enumerate() {
        if entry.directory {
            continue;
        }
        let number = number as u64;
        if let Err(error) = read_entry(source, number, have.get(&number), out) {
            let Some(reason) = error else { return };
            let message = Message::Unreadable {
                entry: number,
                reason,
            };
            if out.blocking_send(Piece::Message(message)).is_err() {
                return;
            }
        }
    }
}

/// `Err(None)` when nobody listens, `Err(Some)` with why the entry cannot be read.
fn read_entry(
    source: &Source,
    number: u64,
    have: Option<&(u64, String)>,
    out: &mpsc::Sender<Piece>,
) -> Result<(), Option<String>> {
    let say = |error: std::io::Error| Some(error.to_string());
    let give = |piece| out.blocking_send(piece).map_err(|_| None);
    let expected = source.entries[number as usize].size;
    let mut reader = source.open(number as usize).map_err(say)?;
    let mut digest = Digest::new();
    if let Some((bytes, claimed)) = have {
        let same = read_into(&mut reader, *bytes, |read| digest.update(read)).is_ok()
            && digest.current() == *claimed;
        if !same {
            // What the receiver has is of another file: from the beginning, then.
            digest = Digest::new();
            reader = source.open(number as usize).map_err(say)?;
        }
    }
    let offset = digest.len();
    give(Piece::Message(Message::Begin {
        entry: number,
        offset,
    }))?;
    loop {
        let mut buffer = vec![0; MESSAGE];
        let got = fill(&mut reader, &mut buffer).map_err(say)?;
        if got == 0 {
            break;
        }
        buffer.truncate(got);
        digest.update(&buffer);
        if expected.is_some_and(|size| digest.len() > size) {
            return Err(Some("it grew while it was sent".into()));
        }
        give(Piece::Data(buffer.into()))?;
    }
    if expected.is_some_and(|size| digest.len() != size) {
        return Err(Some("it shrank while it was sent".into()));
    }
    give(Piece::Message(Message::End {
        entry: number,
        bytes: digest.len(),
        digest: digest.current(),
    }))
}

/// Reads until the buffer is full or the file ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
