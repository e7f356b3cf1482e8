//! Files of encoded media, and pipes: frames with their times, whatever holds them.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::time::Duration;

use visavis::Kind;
use visavis_rtp::file::ivf::IvfReader;
use visavis_rtp::file::ogg::OggReader;
use visavis_rtp::file::webm::{WebmMedia, WebmReader};
use visavis_rtp::payload::Codec;
use visavis_rtp::payload::opus::OpusPacket;
use visavis_rtp::payload::vp8;

/// What is read: the formats are told apart by their first bytes.
const FORMATS: &str =
    "use IVF (VP8, VP9, AV1), Ogg (Opus) or WebM (VP8, VP9, AV1, Opus); ffmpeg makes each of them";

/// One track of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceTrack {
    pub(crate) codec: Codec,
    /// Width and height in pixels; 0 for sound.
    pub(crate) size: (u32, u32),
}

impl SourceTrack {
    pub(crate) fn kind(self) -> Kind {
        if self.codec.is_video() {
            Kind::Video
        } else {
            Kind::Audio
        }
    }

    /// Ticks of its RTP clock in a second.
    pub(crate) const fn clock_rate(self) -> u32 {
        if self.codec.is_video() {
            90_000
        } else {
            48_000
        }
    }

    /// A time on its RTP clock, which wraps.
    pub(crate) fn ticks(self, at: Duration) -> u32 {
        (at.as_nanos() * u128::from(self.clock_rate()) / 1_000_000_000) as u32
    }
}

/// What stands before a frame's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Index of its track.
    pub(crate) track: usize,
    /// Since the beginning.
    pub(crate) at: Duration,
    /// Whether it needs no other.
    pub(crate) key: bool,
}

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

enum Reader {
    Ivf(IvfReader<Box<dyn Read + Send>>),
    Ogg {
        reader: OggReader<Box<dyn Read + Send>>,
        samples: u64,
    },
    Webm {
        reader: Box<WebmReader<Box<dyn ReadSeek>>>,
        /// The numbers of the tracks that are played.
        numbers: Vec<u64>,
    },
}

/// A file or a pipe that is read frame by frame.
pub(crate) struct Source {
    reader: Reader,
    tracks: Vec<SourceTrack>,
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Source {
    /// Opens a file, or standard input if its name is `-`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::of_stream(io::stdin());
        }
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut file = BufReader::new(File::open(path)?);
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(|_| unknown())?;
        file.rewind()?;
        if magic == [0x1a, 0x45, 0xdf, 0xa3] {
            return Self::of_webm(Box::new(file));
        }
        Self::of_stream(file)
    }

    /// Reads what cannot be sought in.
    fn of_stream(mut stream: impl Read + Send + 'static) -> io::Result<Self> {
        let mut magic = [0; 4];
        stream.read_exact(&mut magic).map_err(|_| unknown())?;
        let whole: Box<dyn Read + Send> = Box::new(Cursor::new(magic).chain(stream));
        match &magic {
            b"DKIF" => {
                let reader = IvfReader::new(whole).map_err(failed)?;
                let header = reader.header();
                let codec = match &header.codec {
                    b"VP80" => Codec::Vp8,
                    b"VP90" => Codec::Vp9,
                    b"AV01" => Codec::Av1,
                    _ => return Err(unknown()),
                };
                let size = (header.width.into(), header.height.into());
                Ok(Self {
                    reader: Reader::Ivf(reader),
                    tracks: vec![SourceTrack { codec, size }],
                })
            }
            b"OggS" => Ok(Self {
                reader: Reader::Ogg {
                    reader: OggReader::new(whole).map_err(failed)?,
                    samples: 0,
                },
                tracks: vec![SourceTrack {
                    codec: Codec::Opus,
                    size: (0, 0),
                }],
            }),
            [0x1a, 0x45, 0xdf, 0xa3] => Err(io::Error::other(
                "WebM is read from files only: pipe IVF or Ogg",
            )),
            _ => Err(unknown()),
        }
    }

    fn of_webm(stream: Box<dyn ReadSeek>) -> io::Result<Self> {
        let reader = WebmReader::new(stream).map_err(failed)?;
        let mut numbers = Vec::new();
        let mut tracks = Vec::new();
        for track in reader.tracks() {
            let codec = match track.codec.as_str() {
                "V_VP8" => Codec::Vp8,
                "V_VP9" => Codec::Vp9,
                "V_AV1" => Codec::Av1,
                "A_OPUS" => Codec::Opus,
                _ => continue,
            };
            let size = match track.media {
                WebmMedia::Video { width, height } => (width, height),
                _ => (0, 0),
            };
            numbers.push(track.number);
            tracks.push(SourceTrack { codec, size });
        }
        if tracks.is_empty() {
            return Err(unknown());
        }
        Ok(Self {
            reader: Reader::Webm {
                reader: Box::new(reader),
                numbers,
            },
            tracks,
        })
    }

    pub(crate) fn tracks(&self) -> &[SourceTrack] {
        &self.tracks
    }

    /// Reads the next frame; `None` at the end.
    pub(crate) fn next(&mut self, data: &mut Vec<u8>) -> io::Result<Option<Unit>> {
        match &mut self.reader {
            Reader::Ivf(reader) => {
                let (numerator, denominator) = reader.header().timebase;
                let Some(timestamp) = reader.read_frame(data).map_err(failed)? else {
                    return Ok(None);
                };
                // The header says how many ticks a second has, above and below.
                let nanos = u128::from(timestamp) * u128::from(denominator) * 1_000_000_000
                    / u128::from(numerator.max(1));
                Ok(Some(Unit {
                    track: 0,
                    at: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
                    key: is_key(self.tracks[0].codec, data),
                }))
            }
            Reader::Ogg { reader, samples } => {
                if !reader.read_packet(data).map_err(failed)? {
                    return Ok(None);
                }
                let at = Duration::from_nanos(*samples * 1_000_000_000 / 48_000);
                *samples += u64::from(opus_samples(data));
                Ok(Some(Unit {
                    track: 0,
                    at,
                    key: true,
                }))
            }
            Reader::Webm { reader, numbers } => loop {
                let Some(frame) = reader.read_frame(data).map_err(failed)? else {
                    return Ok(None);
                };
                let Some(track) = numbers.iter().position(|number| *number == frame.track) else {
                    continue;
                };
                let codec = self.tracks[track].codec;
                return Ok(Some(Unit {
                    track,
                    at: Duration::from_nanos(frame.nanos),
                    key: frame.keyframe.unwrap_or_else(|| is_key(codec, data)),
                }));
            },
        }
    }
}

fn unknown() -> io::Error {
    io::Error::other(format!("not a format that is known: {FORMATS}"))
}

/// Whether a picture needs no other.
fn is_key(codec: Codec, frame: &[u8]) -> bool {
    let Some(&first) = frame.first() else {
        return false;
    };
    match codec {
        Codec::Vp8 => vp8::is_keyframe(frame),
        // The uncompressed header (VP9 bitstream section 6.2): marker, profile, show_existing_frame, frame_type.
        Codec::Vp9 => {
            let bits = if first & 0x30 == 0x30 {
                first << 1
            } else {
                first
            };
            bits & 0x0c == 0
        }
        // A sequence header, behind a temporal delimiter (AV1 section 7.5).
        Codec::Av1 => match frame {
            [0x12, 0x00, next, ..] => next >> 3 & 15 == 1,
            _ => first >> 3 & 15 == 1,
        },
        _ => true,
    }
}

/// How long a packet of Opus lasts, in samples at 48 kHz (RFC 6716 section 3.1).
fn opus_samples(packet: &[u8]) -> u32 {
    OpusPacket::parse(packet).map_or(960, |packet| packet.duration())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::time::Duration;

    use visavis_rtp::file::ivf::{IvfHeader, IvfWriter};
    use visavis_rtp::payload::Codec;

    use super::{Source, is_key};

    #[test]
    fn a_pipe_of_ivf_is_read_frame_by_frame() {
        let header = IvfHeader {
            codec: *b"VP80",
            width: 320,
            height: 240,
            timebase: (30, 1),
            frames: 0,
        };
        let mut writer = IvfWriter::new(Cursor::new(Vec::new()), header).unwrap();
        writer.write_frame(0, &[0, 0, 0, 0x9d, 1, 0x2a]).unwrap();
        writer.write_frame(15, &[1, 0, 0]).unwrap();
        let file = writer.finish().unwrap().into_inner();
        let mut source = Source::of_stream(Cursor::new(file)).unwrap();
        assert_eq!(source.tracks()[0].codec, Codec::Vp8);
        assert_eq!(source.tracks()[0].size, (320, 240));
        let mut data = Vec::new();
        assert!(source.next(&mut data).unwrap().unwrap().key);
        let second = source.next(&mut data).unwrap().unwrap();
        assert_eq!((second.at, second.key), (Duration::from_millis(500), false));
        assert_eq!(source.tracks()[0].ticks(second.at), 45_000);
        assert_eq!(source.next(&mut data).unwrap(), None);
    }

    #[test]
    fn other_files_are_named_for_what_they_are_not() {
        for bytes in [&b""[..], b"RIFF....", b"DKIF", b"OggS and no more"] {
            assert!(Source::of_stream(Cursor::new(bytes.to_vec())).is_err());
        }
    }

    #[test]
    fn key_frames_are_known_by_their_first_bytes() {
        assert!(is_key(Codec::Vp9, &[0x82, 0x49, 0x83, 0x42]));
        assert!(!is_key(Codec::Vp9, &[0x86, 0]));
        assert!(is_key(Codec::Av1, &[0x12, 0, 0x0a, 0x0b]));
        assert!(!is_key(Codec::Av1, &[0x12, 0, 0x32, 0x10]));
        assert!(!is_key(Codec::Vp8, &[]));
    }
}
