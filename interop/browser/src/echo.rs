//! What the page sends is received here as frames and sent back, so that the page must decode what was
//! taken apart and put together twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::task::AbortHandle;
use visavis::{
    BitrateLimits, Event, FrameKind, Kind, OutgoingFrame, PeerConnection, RtpReceiver, RtpSender,
};

/// Counts of what was received here as frames.
#[derive(Debug, Default)]
pub struct Counts {
    pictures: AtomicU64,
    keys: AtomicU64,
    sounds: AtomicU64,
    spatial: AtomicU8,
    temporal: AtomicU8,
}

/// Sends back what comes for as long as it lives.
pub struct Echo {
    counts: Arc<Counts>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Echo {
    /// Begins, with the transceivers that there are. The connection's events are read from now on.
    pub fn of(connection: &PeerConnection) -> Self {
        // What is sent back is as much as what came, whatever the estimate begins with.
        connection.set_bitrate_limits(BitrateLimits {
            start: 3_000_000,
            ..BitrateLimits::default()
        });
        let counts = Arc::<Counts>::default();
        let mut tasks = Vec::new();
        for transceiver in connection.transceivers() {
            let is_video = transceiver.kind() == Some(Kind::Video);
            let (receiver, sender) = (transceiver.receiver(), transceiver.sender());
            let task = send_back(receiver, sender, Arc::clone(&counts), is_video);
            tasks.push(tokio::spawn(task).abort_handle());
        }
        let requests = hand_on_requests(connection.clone());
        tasks.push(tokio::spawn(requests).abort_handle());
        Self { counts, tasks }
    }

    /// Frames of video that were put together.
    pub fn pictures(&self) -> u64 {
        self.counts.pictures.load(Ordering::Relaxed)
    }

    /// Key frames among them.
    pub fn keys(&self) -> u64 {
        self.counts.keys.load(Ordering::Relaxed)
    }

    /// The highest spatial and temporal layer that was in a frame.
    pub fn layers(&self) -> (u8, u8) {
        let Counts {
            spatial, temporal, ..
        } = &*self.counts;
        (
            spatial.load(Ordering::Relaxed),
            temporal.load(Ordering::Relaxed),
        )
    }

    /// Frames of audio.
    pub fn sounds(&self) -> u64 {
        self.counts.sounds.load(Ordering::Relaxed)
    }
}

async fn send_back(receiver: RtpReceiver, sender: RtpSender, counts: Arc<Counts>, is_video: bool) {
    while let Some(frame) = receiver.recv_frame().await {
        if matches!(frame.kind, FrameKind::Lost | FrameKind::Redundant) {
            continue;
        }
        let count = if is_video {
            &counts.pictures
        } else {
            &counts.sounds
        };
        count.fetch_add(1, Ordering::Relaxed);
        counts
            .keys
            .fetch_add(u64::from(frame.is_key()), Ordering::Relaxed);
        counts
            .spatial
            .fetch_max(frame.spatial_id, Ordering::Relaxed);
        counts
            .temporal
            .fetch_max(frame.temporal_id, Ordering::Relaxed);
        let frame = OutgoingFrame::new(frame.timestamp, frame.is_key(), &frame.data);
        // Not yet, or no more: what was negotiated decides.
        let _ = sender.send_frame(&frame);
    }
}

/// Hands requests for key frames on to whom the frames are from.
async fn hand_on_requests(connection: PeerConnection) {
    while let Some(event) = connection.next_event().await {
        if let Event::KeyFrameRequested { sender, .. } = event {
            sender.transceiver().receiver().request_key_frame(None);
        }
    }
}
