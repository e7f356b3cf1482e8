//! WAV: sound as 16-bit PCM or G.711.

use std::io::{Read, Seek, SeekFrom, Write};

use super::{FileError, Result, read_frame, read_or_end};

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WavFormat {
    /// 16-bit signed little-endian samples.
    Pcm16,
    /// G.711 A-law.
    Alaw,
    /// G.711 µ-law.
    Ulaw,
}

impl WavFormat {
    const fn tag(self) -> u16 {
        match self {
            Self::Pcm16 => 1,
            Self::Alaw => 6,
            Self::Ulaw => 7,
        }
    }

    /// Bytes of one sample of one channel.
    pub const fn sample_len(self) -> usize {
        match self {
            Self::Pcm16 => 2,
            Self::Alaw | Self::Ulaw => 1,
        }
    }
}

/// What the sound is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WavHeader {
    /// How samples are stored.
    pub format: WavFormat,
    /// Channels, interleaved.
    pub channels: u16,
    /// Samples per second of each channel.
    pub rate: u32,
}

impl WavHeader {
    fn parse(chunk: &[u8]) -> Result<Self> {
        let u16_at = |at: usize| {
            chunk
                .get(at..at + 2)
                .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
                .ok_or(FileError::Malformed("WAV format chunk"))
        };
        let mut tag = u16_at(0)?;
        // WAVE_FORMAT_EXTENSIBLE: the tag begins the sub-format's GUID.
        if tag == 0xfffe {
            tag = u16_at(24)?;
        }
        let (format, bits) = match tag {
            1 => (WavFormat::Pcm16, 16),
            6 => (WavFormat::Alaw, 8),
            7 => (WavFormat::Ulaw, 8),
            _ => return Err(FileError::Malformed("WAV sample format")),
        };
        let header = Self {
            format,
            channels: u16_at(2)?,
            rate: u32::from(u16_at(6)?) << 16 | u32::from(u16_at(4)?),
        };
        if u16_at(14)? != bits || header.channels == 0 || header.rate == 0 {
            return Err(FileError::Malformed("WAV sample format"));
        }
        Ok(header)
    }
}

/// Reads a WAV file.
#[derive(Debug)]
pub struct WavReader<R> {
    stream: R,
    header: WavHeader,
    left: u64,
}

impl<R: Read> WavReader<R> {
    /// Reads up to the sound.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it is no WAV file of these formats; [`FileError::Io`].
    pub fn new(mut stream: R) -> Result<Self> {
        let mut riff = [0; 12];
        let fault = FileError::Malformed("not a WAV file");
        if !read_or_end(&mut stream, &mut riff)? || &riff[..4] != b"RIFF" || &riff[8..] != b"WAVE" {
            return Err(fault);
        }
        let mut header = None;
        loop {
            let mut head = [0; 8];
            if !read_or_end(&mut stream, &mut head)? {
                return Err(FileError::Malformed("WAV file without sound"));
            }
            let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            match (&head[..4], header) {
                (b"fmt ", _) => {
                    let mut chunk = Vec::new();
                    read_frame(&mut stream, len.min(1024) as usize, &mut chunk)?;
                    header = Some(WavHeader::parse(&chunk)?);
                    skip(&mut stream, u64::from(len - len.min(1024) + len % 2))?;
                }
                (b"data", Some(header)) => {
                    return Ok(Self {
                        stream,
                        header,
                        left: len.into(),
                    });
                }
                _ => skip(&mut stream, u64::from(len) + u64::from(len % 2))?,
            }
        }
    }

    /// What the sound is.
    pub const fn header(&self) -> &WavHeader {
        &self.header
    }

    /// Reads up to `frames` samples of every channel, as they are stored; an empty buffer is the end.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn read(&mut self, frames: usize, samples: &mut Vec<u8>) -> Result<()> {
        samples.clear();
        let unit = self.header.format.sample_len() * usize::from(self.header.channels);
        let len = (frames.saturating_mul(unit) as u64)
            .min(self.left)
            .min(1 << 24);
        let len = len / unit as u64 * unit as u64;
        // A file that was cut short ends where it ends.
        let read = (&mut self.stream).take(len).read_to_end(samples)?;
        self.left -= read as u64;
        samples.truncate(read / unit * unit);
        Ok(())
    }
}

fn skip(stream: &mut impl Read, len: u64) -> Result<()> {
    std::io::copy(&mut stream.take(len), &mut std::io::sink())?;
    Ok(())
}

/// Writes a WAV file.
#[derive(Debug)]
pub struct WavWriter<W> {
    stream: W,
    header: WavHeader,
    len: u64,
}

impl<W: Write + Seek> WavWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(stream: W, header: WavHeader) -> Result<Self> {
        let mut writer = Self {
            stream,
            header,
            len: 0,
        };
        writer.write_header()?;
        Ok(writer)
    }

    /// Appends samples, as they are stored.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn write(&mut self, samples: &[u8]) -> Result<()> {
        self.stream.write_all(samples)?;
        self.len += samples.len() as u64;
        Ok(())
    }

    /// Writes the lengths into the header and gives the stream back.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<W> {
        if !self.len.is_multiple_of(2) {
            self.stream.write_all(&[0])?;
        }
        self.stream.seek(SeekFrom::Start(0))?;
        self.write_header()?;
        self.stream.seek(SeekFrom::End(0))?;
        self.stream.flush()?;
        Ok(self.stream)
    }

    fn write_header(&mut self) -> Result<()> {
        let WavHeader {
            format,
            channels,
            rate,
        } = self.header;
        let unit = format.sample_len() as u16 * channels;
        let len = u32::try_from(self.len).unwrap_or(u32::MAX);
        let mut head = [0; 44];
        head[..4].copy_from_slice(b"RIFF");
        head[4..8].copy_from_slice(&len.saturating_add(36 + len % 2).to_le_bytes());
        head[8..16].copy_from_slice(b"WAVEfmt ");
        head[16] = 16;
        head[20..22].copy_from_slice(&format.tag().to_le_bytes());
        head[22..24].copy_from_slice(&channels.to_le_bytes());
        head[24..28].copy_from_slice(&rate.to_le_bytes());
        head[28..32].copy_from_slice(&(rate * u32::from(unit)).to_le_bytes());
        head[32..34].copy_from_slice(&unit.to_le_bytes());
        head[34..36].copy_from_slice(&(format.sample_len() as u16 * 8).to_le_bytes());
        head[36..40].copy_from_slice(b"data");
        head[40..].copy_from_slice(&len.to_le_bytes());
        self.stream.write_all(&head)?;
        Ok(())
    }
}
