//! Recording: each track of a room into a file of its own, as it was sent, without transcoding. Opus, VP8
//! and VP9 go into WebM, H.264, H.265 and AV1 into MP4, G.711 into WAV. `recording.jsonl` says which file is
//! what, and when it began.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use visavis_rtp::{
    file::{
        mp4::{Mp4Codec, Mp4Writer},
        wav::{WavFormat, WavHeader, WavWriter},
        webm::{WebmFrame, WebmMedia, WebmTrack, WebmWriter},
    },
    payload::{Codec, Depacketizer, Received},
};
use visavis_sfu::{TapPacket, TapReceiver};

/// Packets that wait for one that is missing.
const MAX_WAITING: usize = 256;

/// For how long they wait.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// After so long without a picture a lower encoding takes over.
const SILENCE: Duration = Duration::from_secs(1);

/// What a file holds: a line of `recording.jsonl`.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// The file's name; what comes last is added when the first frame tells the format.
    pub file: String,
    /// The room, or what else the track was received from.
    pub room: String,
    /// Whose track it is.
    pub identity: String,
    /// The name that people see.
    pub name: String,
    /// `camera`, `microphone`, `screen_share`, ...
    pub source: String,
    /// The track's own name.
    pub track: String,
    /// When the first frame came, in milliseconds since 1970.
    pub started_at: i64,
    /// Width in pixels, if it is known; 0 if not.
    #[serde(skip)]
    pub width: u32,
    /// Height in pixels, if it is known; 0 if not.
    #[serde(skip)]
    pub height: u32,
}

impl Recorded {
    /// The beginning of a file's name: a number, whose track it is, and its source, safe to use in any directory.
    #[must_use]
    pub fn stem(number: usize, identity: &str, source: &str) -> String {
        format!("{number:03}-{}-{}", file_name(identity), file_name(source))
    }
}

/// A room's recording; ends when dropped.
#[derive(Debug)]
pub(crate) struct Recording {
    directory: PathBuf,
    stop: CancellationToken,
    files: usize,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A name that is safe as part of a file's: letters, digits and a few signs.
pub(crate) fn file_name(text: &str) -> String {
    let safe = |letter: char| {
        if letter.is_alphanumeric() || "-_".contains(letter) {
            letter
        } else {
            '_'
        }
    };
    text.chars().take(64).map(safe).collect()
}

impl Recording {
    /// Makes the folder of a recording.
    pub(crate) fn begin(root: &Path, room: &str, unix_millis: i64) -> io::Result<Self> {
        let directory = root.join(format!("{}-{unix_millis}", file_name(room)));
        std::fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            stop: CancellationToken::new(),
            files: 0,
        })
    }

    /// The folder.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How many files were begun.
    pub(crate) fn files(&self) -> usize {
        self.files
    }

    /// Records a track until it ends or the recording does.
    pub(crate) fn add(&mut self, tap: TapReceiver, mut recorded: Recorded) {
        self.files += 1;
        let number = self.files;
        recorded.file = Recorded::stem(number, &recorded.identity, &recorded.source);
        let (directory, stop) = (self.directory.clone(), self.stop.clone());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let track = recorded.track.clone();
            if let Err(error) = record(&runtime, tap, &directory, recorded, &stop) {
                tracing::error!("recording of {track}: {error}");
            }
        });
    }
}

fn record(
    runtime: &tokio::runtime::Handle,
    mut tap: TapReceiver,
    directory: &Path,
    recorded: Recorded,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut file = TrackFile::new(directory, recorded);
    let mut layers = Layers::default();
    let next = async |tap: &mut TapReceiver| {
        tokio::select! {
            packet = tap.next() => packet,
            () = stop.cancelled() => None,
        }
    };
    while let Some(packet) = runtime.block_on(next(&mut tap)) {
        layers.take(packet, &mut |frame| file.write(frame))?;
    }
    file.finish()
}

/// A frame on its way into a file.
#[derive(Debug, Clone, Copy)]
pub struct RecordedFrame<'a> {
    /// Its codec: that of the first frame decides the format.
    pub codec: Codec,
    /// Which of a track's encodings it belongs to: each has timestamps of its own.
    pub encoding: u8,
    /// The frame as a decoder wants it.
    pub data: &'a [u8],
    /// In ticks of the RTP clock.
    pub timestamp: u32,
    /// When it came.
    pub at: Instant,
    /// Whether it needs no other.
    pub keyframe: bool,
}

/// Puts packets in order: late ones have a while to come.
#[derive(Debug, Default)]
struct Order {
    next: Option<u64>,
    waiting: BTreeMap<u64, TapPacket>,
}

impl Order {
    fn push(&mut self, packet: TapPacket) {
        if self.next.is_none_or(|next| packet.sequence >= next)
            && self.waiting.len() < 2 * MAX_WAITING
        {
            self.waiting.insert(packet.sequence, packet);
        }
    }

    fn pop(&mut self) -> Option<TapPacket> {
        let first = self.waiting.first_entry()?;
        let sequence = *first.key();
        if self.next.is_none_or(|next| next == sequence) {
            self.next = Some(sequence + 1);
            return Some(first.remove());
        }
        let (oldest, newest) = (first.get().at, self.waiting.last_key_value()?.1.at);
        if self.waiting.len() <= MAX_WAITING && newest.saturating_duration_since(oldest) <= MAX_WAIT
        {
            return None;
        }
        // What is missing will not come.
        self.next = Some(sequence + 1);
        self.waiting.pop_first().map(|(_, packet)| packet)
    }
}

struct Layer {
    order: Order,
    depacketizer: Box<dyn Depacketizer + Send>,
    codec: Codec,
}

/// The encodings of a track, of which the best one that flows is recorded.
#[derive(Default)]
struct Layers {
    layers: HashMap<u8, Layer>,
    current: Option<u8>,
    last_frame: Option<Instant>,
}

impl Layers {
    fn take(
        &mut self,
        packet: TapPacket,
        write: &mut dyn FnMut(RecordedFrame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(codec) = Codec::from_name(&packet.codec) else {
            return Ok(());
        };
        let encoding = packet.encoding;
        if self
            .layers
            .get(&encoding)
            .is_none_or(|layer| layer.codec != codec)
        {
            let Some(depacketizer) = codec.depacketizer() else {
                return Ok(());
            };
            self.layers.insert(
                encoding,
                Layer {
                    order: Order::default(),
                    depacketizer,
                    codec,
                },
            );
        }
        let Some(layer) = self.layers.get_mut(&encoding) else {
            return Ok(());
        };
        let at = packet.at;
        layer.order.push(packet);
        while let Some(packet) = layer.order.pop() {
            let received = Received {
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                marker: packet.marker,
                begins_picture: false,
                payload: &packet.payload,
            };
            // A frame that is torn is dropped by itself.
            let Ok(Some(frame)) = layer.depacketizer.push(received) else {
                continue;
            };
            let keyframe = frame.keyframe || !codec.is_video();
            let silent = self
                .last_frame
                .is_none_or(|last| at.saturating_duration_since(last) > SILENCE);
            if self
                .current
                .is_none_or(|current| encoding > current || silent)
                && keyframe
            {
                self.current = Some(encoding);
            }
            if self.current == Some(encoding) {
                self.last_frame = Some(at);
                write(RecordedFrame {
                    codec,
                    encoding,
                    data: frame.data,
                    timestamp: frame.timestamp,
                    at,
                    keyframe,
                })?;
            }
        }
        Ok(())
    }
}

enum Writer {
    Webm(WebmWriter<BufWriter<File>>),
    Mp4(Box<Mp4Writer<BufWriter<File>>>),
    Wav(WavWriter<BufWriter<File>>),
    /// Nothing but the frames.
    Plain(BufWriter<File>),
}

/// A track's file, which is made when the first frame shows what it holds.
pub struct TrackFile {
    directory: PathBuf,
    recorded: Recorded,
    writer: Option<(Writer, Clock)>,
}

/// Time since the first frame. Within an encoding it is that of its RTP timestamps, without wrapping; from one
/// encoding to another, whose timestamps begin anywhere (RFC 3550, section 5.1), that of the arrivals.
struct Clock {
    encoding: u8,
    last: u32,
    at: Instant,
    ticks: i64,
    rate: i64,
}

impl Clock {
    fn new(frame: &RecordedFrame<'_>, rate: i64) -> Self {
        Self {
            encoding: frame.encoding,
            last: frame.timestamp,
            at: frame.at,
            ticks: 0,
            rate,
        }
    }

    fn nanos(&mut self, frame: &RecordedFrame<'_>) -> u64 {
        let step = if frame.encoding == self.encoding {
            #[allow(clippy::cast_possible_wrap)] // The nearer way around.
            let step = frame.timestamp.wrapping_sub(self.last) as i32;
            i64::from(step)
        } else {
            let waited = frame.at.saturating_duration_since(self.at);
            let millis = i64::try_from(waited.as_millis()).unwrap_or(i64::MAX);
            // Files count in milliseconds, and no two pictures are shown at once.
            millis.max(1).saturating_mul(self.rate) / 1000
        };
        (self.encoding, self.last, self.at) = (frame.encoding, frame.timestamp, frame.at);
        self.ticks = self.ticks.saturating_add(step);
        u64::try_from(self.ticks.max(0).saturating_mul(1_000_000) / self.rate * 1000).unwrap_or(0)
    }
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl std::fmt::Debug for TrackFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackFile")
            .field("recorded", &self.recorded)
            .finish_non_exhaustive()
    }
}

impl TrackFile {
    /// A file in a directory, which has to exist.
    #[must_use]
    pub fn new(directory: &Path, recorded: Recorded) -> Self {
        Self {
            directory: directory.to_owned(),
            recorded,
            writer: None,
        }
    }

    /// What it holds. Once there was a frame, with the name of the file.
    #[must_use]
    pub fn recorded(&self) -> &Recorded {
        &self.recorded
    }

    /// Adds a frame. The first one makes the file and a line in `recording.jsonl`.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, frame: RecordedFrame<'_>) -> io::Result<()> {
        if self.writer.is_none() {
            self.writer = Some(self.begin(&frame)?);
        }
        let Some((writer, clock)) = &mut self.writer else {
            return Ok(());
        };
        let nanos = clock.nanos(&frame);
        match writer {
            Writer::Webm(webm) => {
                let head = WebmFrame {
                    track: 1,
                    nanos,
                    keyframe: Some(frame.keyframe),
                };
                webm.write_frame(&head, frame.data).map_err(failed)
            }
            Writer::Mp4(mp4) => mp4
                .write_frame(nanos, frame.keyframe, frame.data)
                .map_err(failed),
            Writer::Wav(wav) => wav.write(frame.data).map_err(failed),
            Writer::Plain(stream) => stream.write_all(frame.data),
        }
    }

    fn begin(&mut self, frame: &RecordedFrame<'_>) -> io::Result<(Writer, Clock)> {
        let end = match frame.codec {
            Codec::Opus | Codec::Vp8 | Codec::Vp9 => "webm",
            Codec::H264 | Codec::H265 | Codec::Av1 => "mp4",
            Codec::Pcmu | Codec::Pcma => "wav",
            Codec::G722 => "g722",
            _ => "bin",
        };
        self.recorded.file.push('.');
        self.recorded.file.push_str(end);
        self.recorded.started_at = crate::room::Now::read().unix_millis;
        let mut list = File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("recording.jsonl"))?;
        writeln!(list, "{}", serde_json::to_string(&self.recorded)?)?;
        let stream = BufWriter::new(File::create(self.directory.join(&self.recorded.file))?);
        let webm = |stream, codec: &str, private, media| {
            let track = WebmTrack {
                number: 1,
                codec: codec.to_owned(),
                private,
                media,
            };
            WebmWriter::new(stream, &[track])
                .map(Writer::Webm)
                .map_err(failed)
        };
        let mp4 = |stream, codec| {
            Mp4Writer::new(stream, codec)
                .map(|mp4| Writer::Mp4(Box::new(mp4)))
                .map_err(failed)
        };
        let wav = |stream, format| {
            let header = WavHeader {
                format,
                channels: 1,
                rate: 8000,
            };
            WavWriter::new(stream, header)
                .map(Writer::Wav)
                .map_err(failed)
        };
        let (width, height) = self.size(frame);
        let video = WebmMedia::Video {
            width: width.into(),
            height: height.into(),
        };
        let audio = WebmMedia::Audio {
            rate: 48000.0,
            channels: 2,
        };
        let writer = match frame.codec {
            Codec::Vp8 => webm(stream, "V_VP8", Vec::new(), video)?,
            Codec::Vp9 => webm(stream, "V_VP9", Vec::new(), video)?,
            Codec::Opus => webm(stream, "A_OPUS", opus_head(), audio)?,
            Codec::H264 => mp4(stream, Mp4Codec::H264)?,
            Codec::H265 => mp4(stream, Mp4Codec::H265)?,
            Codec::Av1 => mp4(stream, Mp4Codec::Av1)?,
            Codec::Pcmu => wav(stream, WavFormat::Ulaw)?,
            Codec::Pcma => wav(stream, WavFormat::Alaw)?,
            _ => Writer::Plain(stream),
        };
        let rate = match frame.codec {
            codec if codec.is_video() => 90_000,
            Codec::Opus => 48_000,
            _ => 8_000,
        };
        Ok((writer, Clock::new(frame, rate)))
    }

    fn size(&self, frame: &RecordedFrame<'_>) -> (u16, u16) {
        // A VP8 key frame says its size (RFC 6386, section 9.1).
        if let (Codec::Vp8, [_, _, _, _, _, _, w0, w1, h0, h1, ..]) = (frame.codec, frame.data) {
            return (
                u16::from_le_bytes([*w0, *w1]) & 0x3fff,
                u16::from_le_bytes([*h0, *h1]) & 0x3fff,
            );
        }
        let or = |size: u32, usual: u16| {
            u16::try_from(size)
                .ok()
                .filter(|size| *size > 0)
                .unwrap_or(usual)
        };
        (or(self.recorded.width, 1280), or(self.recorded.height, 720))
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(self) -> io::Result<()> {
        match self.writer.map(|(writer, _)| writer) {
            Some(Writer::Webm(webm)) => webm.finish().map(drop).map_err(failed),
            Some(Writer::Mp4(mp4)) => mp4.finish().map(drop).map_err(failed),
            Some(Writer::Wav(wav)) => wav.finish().map(drop).map_err(failed),
            Some(Writer::Plain(mut stream)) => stream.flush(),
            None => Ok(()),
        }
    }
}

/// What decoders of Opus want beforehand (RFC 7845, section 5.1).
fn opus_head() -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.extend_from_slice(&[1, 2]);
    head.extend_from_slice(&312u16.to_le_bytes());
    head.extend_from_slice(&48_000u32.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u64, at: Instant) -> TapPacket {
        TapPacket {
            at,
            encoding: 0,
            codec: "opus".into(),
            sequence,
            timestamp: u32::try_from(sequence).unwrap() * 960,
            marker: false,
            ntp: None,
            payload: bytes::Bytes::from_static(&[0xfc, 1, 2]),
        }
    }

    #[test]
    fn late_packets_are_put_in_order_and_lost_ones_are_given_up() {
        let mut order = Order::default();
        let start = Instant::now();
        let mut out = Vec::new();
        for (sequence, millis) in [(1, 0), (3, 20), (2, 40), (6, 60), (7, 700), (8, 720)] {
            order.push(packet(sequence, start + Duration::from_millis(millis)));
            while let Some(packet) = order.pop() {
                out.push(packet.sequence);
            }
        }
        assert_eq!(out, [1, 2, 3, 6, 7, 8]);
    }

    #[test]
    fn a_recording_can_be_read_again() {
        let directory =
            std::env::temp_dir().join(format!("visavis-record-{}", crate::ids::random_text(8)));
        std::fs::create_dir_all(&directory).unwrap();
        let recorded = Recorded {
            file: "001-alice-microphone".into(),
            room: "atrium".into(),
            identity: "alice".into(),
            name: "Alice".into(),
            source: "microphone".into(),
            track: "TR_1".into(),
            started_at: 0,
            width: 0,
            height: 0,
        };
        let mut file = TrackFile {
            directory: directory.clone(),
            recorded,
            writer: None,
        };
        let mut layers = Layers::default();
        let start = Instant::now();
        for sequence in 1..=100 {
            layers
                .take(packet(sequence, start), &mut |frame| file.write(frame))
                .unwrap();
        }
        file.finish().unwrap();
        let written = File::open(directory.join("001-alice-microphone.webm")).unwrap();
        let mut webm =
            visavis_rtp::file::webm::WebmReader::new(io::BufReader::new(written)).unwrap();
        let (mut frames, mut last, mut data) = (0, 0, Vec::new());
        while let Some(frame) = webm.read_frame(&mut data).unwrap() {
            frames += 1;
            last = frame.nanos;
        }
        assert_eq!((frames, last), (100, 99 * 20_000_000));
        assert!(
            std::fs::read_to_string(directory.join("recording.jsonl"))
                .unwrap()
                .contains("\"alice\"")
        );
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn time_goes_on_when_another_encoding_takes_over() {
        let start = Instant::now();
        let frame = |encoding, timestamp, millis| RecordedFrame {
            codec: Codec::Vp8,
            encoding,
            data: &[],
            timestamp,
            at: start + Duration::from_millis(millis),
            keyframe: true,
        };
        let mut clock = Clock::new(&frame(0, u32::MAX, 0), 90_000);
        let mut millis = |frame| clock.nanos(&frame) / 1_000_000;
        assert_eq!(millis(frame(0, u32::MAX, 0)), 0);
        // Past the end of the 32 bits.
        assert_eq!(millis(frame(0, 89_999, 1000)), 1000);
        assert_eq!(millis(frame(1, 3_000_000_000, 1040)), 1040);
        assert_eq!(millis(frame(1, 3_000_090_000, 2040)), 2040);
        // Two encodings whose pictures come together.
        assert_eq!(millis(frame(2, 7, 2040)), 2041);
    }

    #[test]
    fn names_of_files_stay_within_their_folder() {
        assert_eq!(file_name("../etc/passwd"), "___etc_passwd");
        assert_eq!(file_name("Ада 1"), "Ада_1");
    }
}
