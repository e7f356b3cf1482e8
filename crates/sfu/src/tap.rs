//! A copy of a track, for recorders and bots.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use visavis_rtp::NtpTime;

/// One packet of a tapped track, unprotected, as its publisher sent it.
#[derive(Debug, Clone)]
pub struct TapPacket {
    /// When it came.
    pub at: Instant,
    /// Index of the encoding, 0 the lowest.
    pub encoding: u8,
    /// The codec's name (`opus`, `VP8` …); `red` is unwrapped.
    pub codec: Arc<str>,
    /// The extended sequence number within the encoding.
    pub sequence: u64,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The sender's wall clock at this timestamp, once a report told it.
    pub ntp: Option<NtpTime>,
    /// The payload.
    pub payload: Bytes,
}

/// Where a worker puts the packets.
#[derive(Debug)]
pub struct Tap {
    sender: mpsc::Sender<TapPacket>,
    dropped: Arc<AtomicU64>,
}

/// Where the packets come out; dropping it ends the tap.
#[derive(Debug)]
pub struct TapReceiver {
    receiver: mpsc::Receiver<TapPacket>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    /// A tap in which `capacity` packets may wait, for [`Worker::tap`](crate::worker::Worker::tap).
    pub fn new(capacity: usize) -> (Self, TapReceiver) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let dropped = Arc::<AtomicU64>::default();
        let tap = Self {
            sender,
            dropped: Arc::clone(&dropped),
        };
        (tap, TapReceiver { receiver, dropped })
    }

    /// Gives a packet; false if there was no room for it.
    pub(crate) fn give(&self, packet: TapPacket) -> bool {
        let given = self.sender.try_send(packet).is_ok();
        if !given {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        given
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl TapReceiver {
    /// The next packet; `None` when the track is over.
    pub async fn next(&mut self) -> Option<TapPacket> {
        self.receiver.recv().await
    }

    /// The next packet if one is there.
    pub fn try_next(&mut self) -> Option<TapPacket> {
        self.receiver.try_recv().ok()
    }

    /// Packets that were dropped because this reader was slow.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
