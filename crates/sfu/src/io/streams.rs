//! Media over TCP: streams of framed datagrams (RFC 4571), which a front listener accepted.

use std::collections::HashMap;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use visavis_datagram::{Path, Transmit};
use visavis_net::tcp::FrameReader;
use visavis_stun::StreamFraming;

use crate::handle::Stream;

/// Datagrams that wait from all streams.
const INCOMING: usize = 1024;
/// Runs that wait for one stream; what is beyond is lost, as on a full network.
const OUTGOING: usize = 256;

/// What a stream brings.
pub(super) enum FromStream {
    /// A datagram.
    Message(Path, Vec<u8>),
    /// It is over.
    Ended(Path),
}

/// The streams of one worker.
pub(super) struct Streams {
    open: HashMap<Path, Open>,
    sender: mpsc::Sender<FromStream>,
    receiver: mpsc::Receiver<FromStream>,
    limit: usize,
}

struct Open {
    runs: mpsc::Sender<Vec<u8>>,
    reader: tokio::task::AbortHandle,
    accepted: bool,
}

impl Streams {
    pub(super) fn new(limit: usize) -> Self {
        let (sender, receiver) = mpsc::channel(INCOMING);
        Self {
            open: HashMap::new(),
            sender,
            receiver,
            limit,
        }
    }

    /// Takes a stream, of which `first` was read already.
    pub(super) fn add(&mut self, stream: Box<dyn Stream>, first: Bytes, path: Path) {
        if self.open.len() >= self.limit || self.open.contains_key(&path) {
            return;
        }
        let (read, mut write) = tokio::io::split(stream);
        let (runs, mut queue) = mpsc::channel::<Vec<u8>>(OUTGOING);
        tokio::spawn(async move {
            while let Some(run) = queue.recv().await {
                if write.write_all(&run).await.is_err() || write.flush().await.is_err() {
                    return;
                }
            }
            // The other end sees the end; whether it was told makes no difference.
            let _ = write.shutdown().await;
        });
        let sender = self.sender.clone();
        let reader = tokio::spawn(async move {
            let bytes = tokio::io::AsyncReadExt::chain(std::io::Cursor::new(first), read);
            let mut frames = FrameReader::new(bytes, StreamFraming::Rfc4571);
            let mut frame = Vec::new();
            while let Ok(true) = frames.next(&mut frame).await {
                let message = FromStream::Message(path, std::mem::take(&mut frame));
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(FromStream::Ended(path)).await;
        });
        let open = Open {
            runs,
            reader: reader.abort_handle(),
            accepted: false,
        };
        self.open.insert(path, open);
    }

    pub(super) fn is_accepted(&self, path: Path) -> bool {
        self.open.get(&path).is_some_and(|open| open.accepted)
    }

    pub(super) fn accept(&mut self, path: Path) {
        if let Some(open) = self.open.get_mut(&path) {
            open.accepted = true;
        }
    }

    pub(super) fn close(&mut self, path: Path) {
        if let Some(open) = self.open.remove(&path) {
            open.reader.abort();
        }
    }

    /// Sends each datagram of a run as a frame.
    pub(super) fn send(&self, transmit: &Transmit, bytes: &[u8]) {
        let Some(open) = self.open.get(&transmit.path()) else {
            return;
        };
        let mut framed = Vec::with_capacity(bytes.len() + 64);
        for datagram in bytes.chunks(transmit.segment_size.max(1)) {
            // A datagram is shorter than 64 KiB.
            framed.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
            framed.extend_from_slice(datagram);
        }
        // A full queue loses it, as a full network would.
        let _ = open.runs.try_send(framed);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<FromStream> {
        match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(message),
            // This end holds a sender: the queue does not end.
            _ => Poll::Pending,
        }
    }
}
