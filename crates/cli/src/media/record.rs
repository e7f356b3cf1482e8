//! Records received tracks into a directory, as `visavis serve` does: a file for each track, and `recording.jsonl` to say
//! which is what.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::JoinSet;
use visavis::{FrameKind, RtpReceiver};
use visavis_rtp::payload::Codec;
use visavis_server::{Recorded, RecordedFrame, TrackFile};

/// A directory that tracks are recorded into.
pub(crate) struct Recorder {
    directory: PathBuf,
    tracks: JoinSet<io::Result<Option<(Recorded, u64)>>>,
    count: usize,
}

impl Recorder {
    /// Makes the directory if need be.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            tracks: JoinSet::new(),
            count: 0,
        })
    }

    /// Records a track until it ends.
    pub(crate) fn add(&mut self, receiver: RtpReceiver, mut recorded: Recorded) {
        self.count += 1;
        recorded.file = Recorded::stem(self.count, &recorded.identity, &recorded.source);
        let file = TrackFile::new(&self.directory, recorded);
        self.tracks.spawn(record(receiver, file));
    }

    /// Waits until every track has ended: what was recorded, with the number of frames of each.
    pub(crate) async fn finish(mut self) -> io::Result<Vec<(Recorded, u64)>> {
        let mut all = Vec::new();
        while let Some(ended) = self.tracks.join_next().await {
            all.extend(ended.map_err(io::Error::other)??);
        }
        all.sort_by(|a, b| a.0.file.cmp(&b.0.file));
        Ok(all)
    }
}

async fn record(receiver: RtpReceiver, mut file: TrackFile) -> io::Result<Option<(Recorded, u64)>> {
    let mut count = 0;
    while let Some(frame) = receiver.recv_frame().await {
        let keyframe = match frame.kind {
            FrameKind::Key | FrameKind::Audio => true,
            FrameKind::Delta if count > 0 => false,
            // What cannot be decoded by itself is no beginning.
            FrameKind::Delta => {
                receiver.request_key_frame(None);
                continue;
            }
            _ => continue,
        };
        let codecs = receiver.codecs();
        let codec = codecs
            .iter()
            .find(|codec| codec.payload_type == frame.payload_type)
            .and_then(|codec| Codec::from_name(&codec.name));
        let Some(codec) = codec else { continue };
        file.write(RecordedFrame {
            codec,
            encoding: u8::try_from(frame.encoding.unwrap_or_default()).unwrap_or_default(),
            data: &frame.data,
            timestamp: frame.timestamp,
            at: Instant::now(),
            keyframe,
        })?;
        count += 1;
    }
    let recorded = file.recorded().clone();
    file.finish()?;
    Ok((count > 0).then_some((recorded, count)))
}
