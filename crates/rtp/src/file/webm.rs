//! WebM and Matroska: tracks of frames with timestamps. Reading is a library's (`matroska-demuxer`);
//! the few elements that a recording needs are written here (RFC 9559).

use std::io::{Read, Seek, SeekFrom, Write};

use matroska_demuxer::{DemuxError, Frame, MatroskaFile, TrackType};

use super::{FileError, MAX_FRAME, Result};

/// What a track holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WebmMedia {
    /// Pictures.
    Video {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Sound.
    Audio {
        /// Samples per second.
        rate: f64,
        /// Channels.
        channels: u8,
    },
    /// Something else; cannot be written.
    Other,
}

/// One track of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct WebmTrack {
    /// Its number, from 1.
    pub number: u64,
    /// `V_VP8`, `V_VP9`, `V_AV1`, `V_MPEG4/ISO/AVC`, `A_OPUS`, ...
    pub codec: String,
    /// What the codec needs beforehand: `OpusHead`, `av1C`, `avcC`.
    pub private: Vec<u8>,
    /// What it holds.
    pub media: WebmMedia,
}

/// One frame of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebmFrame {
    /// The number of its track.
    pub track: u64,
    /// Its time in nanoseconds.
    pub nanos: u64,
    /// Whether it needs no other frame; `None` if the file does not say.
    pub keyframe: Option<bool>,
}

fn fault(error: DemuxError) -> FileError {
    match error {
        DemuxError::IoError(error) => FileError::Io(error),
        _ => FileError::Malformed("not a WebM file"),
    }
}

/// Reads a WebM or Matroska file.
pub struct WebmReader<R: Read + Seek> {
    file: MatroskaFile<R>,
    frame: Frame,
}

impl<R: Read + Seek> std::fmt::Debug for WebmReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebmReader").finish_non_exhaustive()
    }
}

impl<R: Read + Seek> WebmReader<R> {
    /// Reads the headers. Pass a buffered stream.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it is no such file; [`FileError::Io`].
    pub fn new(stream: R) -> Result<Self> {
        let file = MatroskaFile::open(stream).map_err(fault)?;
        Ok(Self {
            file,
            frame: Frame::default(),
        })
    }

    /// The tracks.
    pub fn tracks(&self) -> Vec<WebmTrack> {
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        self.file
            .tracks()
            .iter()
            .map(|track| WebmTrack {
                number: track.track_number().get(),
                codec: track.codec_id().to_owned(),
                private: track.codec_private().unwrap_or_default().to_vec(),
                media: match (track.track_type(), track.video(), track.audio()) {
                    (TrackType::Video, Some(video), _) => WebmMedia::Video {
                        width: short(video.pixel_width().get()),
                        height: short(video.pixel_height().get()),
                    },
                    (TrackType::Audio, _, Some(audio)) => WebmMedia::Audio {
                        rate: audio.sampling_frequency(),
                        channels: audio.channels().get().min(255) as u8,
                    },
                    _ => WebmMedia::Other,
                },
            })
            .collect()
    }

    /// Reads the next frame into `data`; `None` at the end.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn read_frame(&mut self, data: &mut Vec<u8>) -> Result<Option<WebmFrame>> {
        if !self.file.next_frame(&mut self.frame).map_err(fault)? {
            return Ok(None);
        }
        std::mem::swap(data, &mut self.frame.data);
        let scale = self.file.info().timestamp_scale().get();
        Ok(Some(WebmFrame {
            track: self.frame.track,
            nanos: self.frame.timestamp.saturating_mul(scale),
            keyframe: self.frame.is_keyframe,
        }))
    }
}

/// Element ids (RFC 9559 section 5), with their length markers.
mod id {
    pub(super) const EBML: u32 = 0x1a45_dfa3;
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const INFO: u32 = 0x1549_a966;
    pub(super) const TRACKS: u32 = 0x1654_ae6b;
    pub(super) const TRACK_ENTRY: u32 = 0xae;
    pub(super) const CLUSTER: u32 = 0x1f43_b675;
    pub(super) const TIMESTAMP: u32 = 0xe7;
    pub(super) const SIMPLE_BLOCK: u32 = 0xa3;
}

/// Appends an element: id, size in eight bytes, content.
fn element(out: &mut Vec<u8>, id: u32, content: &[u8]) {
    let bytes = id.to_be_bytes();
    out.extend_from_slice(&bytes[(id.leading_zeros() / 8) as usize..]);
    out.extend_from_slice(&(1 << 56 | content.len() as u64).to_be_bytes());
    out.extend_from_slice(content);
}

fn number(out: &mut Vec<u8>, id: u32, value: u64) {
    element(out, id, &value.to_be_bytes());
}

/// Writes a WebM (or Matroska) file. A file that was not finished can be played too.
#[derive(Debug)]
pub struct WebmWriter<W: Write + Seek> {
    stream: W,
    /// Where the segment's content begins.
    start: u64,
    tracks: u64,
    /// Milliseconds of the cluster that is being filled, and its blocks.
    cluster: Option<u64>,
    blocks: Vec<u8>,
}

impl<W: Write + Seek> WebmWriter<W> {
    /// A cluster is closed after so many milliseconds or bytes.
    const CLUSTER_MS: u64 = 2_000;
    const CLUSTER_BYTES: usize = 4 << 20;

    /// Writes the headers. Tracks are numbered from 1 in their order.
    ///
    /// # Errors
    /// [`FileError::Malformed`] for a track that is neither video nor audio; [`FileError::Io`].
    pub fn new(mut stream: W, tracks: &[WebmTrack]) -> Result<Self> {
        let webm = tracks.iter().all(|track| {
            matches!(
                track.codec.as_str(),
                "V_VP8" | "V_VP9" | "V_AV1" | "A_OPUS" | "A_VORBIS"
            )
        });
        let mut out = Vec::new();
        let mut content = Vec::new();
        number(&mut content, 0x4286, 1);
        number(&mut content, 0x42f7, 1);
        number(&mut content, 0x42f2, 4);
        number(&mut content, 0x42f3, 8);
        let kind: &[u8] = if webm { b"webm" } else { b"matroska" };
        element(&mut content, 0x4282, kind);
        number(&mut content, 0x4287, 4);
        number(&mut content, 0x4285, 2);
        element(&mut out, id::EBML, &content);
        // The segment's size is not known yet.
        out.extend_from_slice(&id::SEGMENT.to_be_bytes());
        out.extend_from_slice(&(u64::MAX >> 7).to_be_bytes());
        let start = out.len() as u64;
        content.clear();
        number(&mut content, 0x2ad7b1, 1_000_000);
        element(&mut content, 0x4d80, b"visavis");
        element(&mut content, 0x5741, b"visavis");
        element(&mut out, id::INFO, &content);
        content.clear();
        for (index, track) in tracks.iter().enumerate() {
            let entry = Self::entry(index as u64 + 1, track)?;
            element(&mut content, id::TRACK_ENTRY, &entry);
        }
        element(&mut out, id::TRACKS, &content);
        stream.write_all(&out)?;
        Ok(Self {
            stream,
            start,
            tracks: tracks.len() as u64,
            cluster: None,
            blocks: Vec::new(),
        })
    }

    fn entry(track_number: u64, track: &WebmTrack) -> Result<Vec<u8>> {
        let mut entry = Vec::new();
        let mut media = Vec::new();
        number(&mut entry, 0xd7, track_number);
        number(&mut entry, 0x73c5, track_number);
        // No lacing.
        number(&mut entry, 0x9c, 0);
        element(&mut entry, 0x86, track.codec.as_bytes());
        if !track.private.is_empty() {
            element(&mut entry, 0x63a2, &track.private);
        }
        match track.media {
            WebmMedia::Video { width, height } => {
                number(&mut entry, 0x83, 1);
                number(&mut media, 0xb0, width.into());
                number(&mut media, 0xba, height.into());
                element(&mut entry, 0xe0, &media);
            }
            WebmMedia::Audio { rate, channels } => {
                number(&mut entry, 0x83, 2);
                element(&mut media, 0xb5, &rate.to_be_bytes());
                number(&mut media, 0x9f, channels.into());
                element(&mut entry, 0xe1, &media);
            }
            WebmMedia::Other => return Err(FileError::Malformed("WebM track of no known kind")),
        }
        Ok(entry)
    }

    /// Appends a frame; times may go back a little between tracks.
    ///
    /// # Errors
    /// [`FileError::Malformed`] for a track that does not exist, [`FileError::Limit`], [`FileError::Io`].
    pub fn write_frame(&mut self, frame: &WebmFrame, data: &[u8]) -> Result<()> {
        if !(1..=self.tracks.min(126)).contains(&frame.track) {
            return Err(FileError::Malformed("WebM track number"));
        }
        if data.len() > MAX_FRAME {
            return Err(FileError::Limit("frame size"));
        }
        let ms = frame.nanos / 1_000_000;
        let full = self.cluster.is_some_and(|begin| {
            ms > begin + Self::CLUSTER_MS
                || ms + 30_000 < begin
                || self.blocks.len() > Self::CLUSTER_BYTES
        });
        if full {
            self.close_cluster()?;
        }
        let begin = *self.cluster.get_or_insert(ms);
        let step = (ms as i64 - begin as i64) as i16;
        let flags = if frame.keyframe == Some(true) {
            0x80
        } else {
            0
        };
        let mut head = [0x80 | frame.track as u8, 0, 0, flags];
        head[1..3].copy_from_slice(&step.to_be_bytes());
        let size = (head.len() + data.len()) as u64;
        self.blocks.push(id::SIMPLE_BLOCK as u8);
        self.blocks
            .extend_from_slice(&(1 << 56 | size).to_be_bytes());
        self.blocks.extend_from_slice(&head);
        self.blocks.extend_from_slice(data);
        Ok(())
    }

    fn close_cluster(&mut self) -> Result<()> {
        let Some(begin) = self.cluster.take() else {
            return Ok(());
        };
        let mut content = Vec::new();
        number(&mut content, id::TIMESTAMP, begin);
        let size = (content.len() + self.blocks.len()) as u64;
        self.stream.write_all(&id::CLUSTER.to_be_bytes())?;
        self.stream.write_all(&(1 << 56 | size).to_be_bytes())?;
        self.stream.write_all(&content)?;
        self.stream.write_all(&self.blocks)?;
        self.blocks.clear();
        Ok(())
    }

    /// Writes the last cluster and the segment's size, and gives the stream back.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<W> {
        self.close_cluster()?;
        let end = self.stream.stream_position()?;
        self.stream.seek(SeekFrom::Start(self.start - 8))?;
        let size = 1 << 56 | (end - self.start);
        self.stream.write_all(&size.to_be_bytes())?;
        self.stream.seek(SeekFrom::Start(end))?;
        self.stream.flush()?;
        Ok(self.stream)
    }
}
