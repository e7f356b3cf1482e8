//! Plays sources to senders, at the pace of their timestamps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use visavis::{Codec, Direction, OutgoingFrame, PeerConnection, RtpSender, TransceiverInit};

use super::source::{Source, SourceTrack, Unit};
use crate::exit::Exit;

/// Frames that are read ahead.
const AHEAD: usize = 16;

/// A file that is about to be played, and where to.
pub(crate) struct Playback {
    path: PathBuf,
    source: Source,
    /// One for each of its tracks.
    senders: Vec<RtpSender>,
}

impl Playback {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn tracks(&self) -> impl Iterator<Item = (SourceTrack, &RtpSender)> {
        self.source.tracks().iter().copied().zip(&self.senders)
    }
}

/// Opens the files and adds their tracks to a connection.
pub(crate) fn prepare(
    connection: &PeerConnection,
    files: &[PathBuf],
) -> Result<Vec<Playback>, (Exit, String)> {
    let mut all = Vec::new();
    for (number, path) in files.iter().enumerate() {
        let source = Source::open(path)
            .map_err(|error| (Exit::Files, format!("{}: {error}", path.display())))?;
        let mut senders = Vec::new();
        for (index, track) in source.tracks().iter().enumerate() {
            let sender = add_track(connection, *track, &format!("track-{number}-{index}"))
                .map_err(|error| (Exit::Failure, error.to_string()))?;
            senders.push(sender);
        }
        all.push(Playback {
            path: path.clone(),
            source,
            senders,
        });
    }
    Ok(all)
}

/// A track of one codec, to be sent only.
fn add_track(
    connection: &PeerConnection,
    track: SourceTrack,
    name: &str,
) -> Result<RtpSender, visavis::Error> {
    let kind = track.kind();
    let init = TransceiverInit {
        direction: Direction::SendOnly,
        ..TransceiverInit::default()
    };
    let transceiver = connection.add_transceiver(kind, init)?;
    let mut codec = Codec::new(kind, track.codec.name(), track.clock_rate(), 0);
    codec.channels = (!track.codec.is_video()).then_some(2);
    let mut wanted = vec![codec];
    if track.codec.is_video() {
        wanted.push(Codec::new(kind, "rtx", track.clock_rate(), 0));
    }
    transceiver.set_codec_preferences(&wanted)?;
    let sender = transceiver.sender();
    sender.replace_track(Some(name))?;
    sender.set_streams(&["visavis".to_owned()])?;
    Ok(sender)
}

/// Plays all to their ends, files for ever if they are to be played `again`: how many frames were sent.
pub(crate) async fn play_all(all: Vec<Playback>, again: bool) -> Result<u64, (Exit, String)> {
    let mut playing = JoinSet::new();
    for playback in all {
        playing.spawn(async move {
            let path = playback.path.clone();
            play(playback, again)
                .await
                .map_err(|error| (Exit::Files, format!("{}: {error}", path.display())))
        });
    }
    let mut sent = 0;
    while let Some(ended) = playing.join_next().await {
        sent += ended.map_err(|error| (Exit::Failure, error.to_string()))??;
    }
    Ok(sent)
}

async fn play(playback: Playback, again: bool) -> Result<u64, String> {
    let Playback {
        path,
        source,
        senders,
    } = playback;
    let tracks = source.tracks().to_vec();
    let again = (again && path.as_os_str() != "-").then_some(path);
    let mut frames = read(source, again);
    let begin = tokio::time::Instant::now();
    let mut sent = 0;
    while let Some(frame) = frames.recv().await {
        let (unit, data) = frame.map_err(|error| error.to_string())?;
        tokio::time::sleep_until(begin + unit.at).await;
        let (Some(sender), Some(track)) = (senders.get(unit.track), tracks.get(unit.track)) else {
            continue;
        };
        let frame = OutgoingFrame::new(track.ticks(unit.at), unit.key, &data);
        sender
            .send_frame(&frame)
            .map_err(|error| error.to_string())?;
        sent += 1;
    }
    Ok(sent)
}

type Frames = mpsc::Receiver<std::io::Result<(Unit, Vec<u8>)>>;

/// Reads on a thread of its own: a pipe blocks.
fn read(mut source: Source, again: Option<PathBuf>) -> Frames {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let tracks: Vec<SourceTrack> = source.tracks().to_vec();
        let mut offset = Duration::ZERO;
        loop {
            let (mut last, mut step) = (Duration::ZERO, Duration::from_millis(33));
            loop {
                let mut data = Vec::new();
                let unit = match source.next(&mut data) {
                    Ok(Some(unit)) => unit,
                    Ok(None) => break,
                    Err(error) => return drop(sender.blocking_send(Err(error))),
                };
                if unit.at > last {
                    step = unit.at - last;
                    last = unit.at;
                }
                let at = offset + unit.at;
                if sender
                    .blocking_send(Ok((Unit { at, ..unit }, data)))
                    .is_err()
                {
                    return;
                }
            }
            let Some(path) = &again else { return };
            // The first frame again comes one step after the last.
            offset += last + step;
            match Source::open(path) {
                Ok(next) if next.tracks() == tracks => source = next,
                Ok(_) => return,
                Err(error) => return drop(sender.blocking_send(Err(error))),
            }
        }
    });
    receiver
}
