//! IVF: frames of VP8, VP9, AV1 and others, each behind its size and timestamp.

use std::io::{Read, Seek, SeekFrom, Write};

use super::{FileError, Result, read_frame, read_or_end};

/// The file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IvfHeader {
    /// The codec: `VP80`, `VP90`, `AV01`, `H264`, ...
    pub codec: [u8; 4],
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// Ticks per second of timestamps, as `timebase.0 / timebase.1`.
    pub timebase: (u32, u32),
    /// Frames in the file; 0 if it was not known. Not to be relied on.
    pub frames: u32,
}

impl IvfHeader {
    const LEN: usize = 32;

    fn parse(bytes: &[u8; Self::LEN]) -> Result<(Self, u16)> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at + 2)) << 16 | u32::from(u16_at(at));
        if &bytes[..4] != b"DKIF" || u16_at(4) != 0 || u16_at(6) < Self::LEN as u16 {
            return Err(FileError::Malformed("not an IVF file"));
        }
        let header = Self {
            codec: [bytes[8], bytes[9], bytes[10], bytes[11]],
            width: u16_at(12),
            height: u16_at(14),
            timebase: (u32_at(16), u32_at(20)),
            frames: u32_at(24),
        };
        Ok((header, u16_at(6)))
    }

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(b"DKIF");
        bytes[6..8].copy_from_slice(&(Self::LEN as u16).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.codec);
        bytes[12..14].copy_from_slice(&self.width.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.height.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.timebase.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.timebase.1.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.frames.to_le_bytes());
        bytes
    }
}

/// Reads an IVF file.
#[derive(Debug)]
pub struct IvfReader<R> {
    stream: R,
    header: IvfHeader,
}

impl<R: Read> IvfReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it is no IVF file; [`FileError::Io`].
    pub fn new(mut stream: R) -> Result<Self> {
        let mut bytes = [0; IvfHeader::LEN];
        if !read_or_end(&mut stream, &mut bytes)? {
            return Err(FileError::Malformed("not an IVF file"));
        }
        let (header, len) = IvfHeader::parse(&bytes)?;
        let mut rest = Vec::new();
        read_frame(&mut stream, usize::from(len) - IvfHeader::LEN, &mut rest)?;
        Ok(Self { stream, header })
    }

    /// The file's header.
    pub const fn header(&self) -> &IvfHeader {
        &self.header
    }

    /// Reads the next frame into `frame` and gives its timestamp in ticks; `None` at the end.
    ///
    /// # Errors
    /// As [`Self::new`], and [`FileError::Limit`].
    pub fn read_frame(&mut self, frame: &mut Vec<u8>) -> Result<Option<u64>> {
        let mut head = [0; 12];
        if !read_or_end(&mut self.stream, &mut head)? {
            return Ok(None);
        }
        let [a, b, c, d, timestamp @ ..] = head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        read_frame(&mut self.stream, len, frame)?;
        Ok(Some(u64::from_le_bytes(timestamp)))
    }
}

/// Writes an IVF file.
#[derive(Debug)]
pub struct IvfWriter<W> {
    stream: W,
    header: IvfHeader,
}

impl<W: Write + Seek> IvfWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(mut stream: W, header: IvfHeader) -> Result<Self> {
        let header = IvfHeader {
            frames: 0,
            ..header
        };
        stream.write_all(&header.to_bytes())?;
        Ok(Self { stream, header })
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// [`FileError::Io`], [`FileError::Limit`].
    pub fn write_frame(&mut self, timestamp: u64, frame: &[u8]) -> Result<()> {
        let len = u32::try_from(frame.len()).map_err(|_| FileError::Limit("frame size"))?;
        self.stream.write_all(&len.to_le_bytes())?;
        self.stream.write_all(&timestamp.to_le_bytes())?;
        self.stream.write_all(frame)?;
        self.header.frames = self.header.frames.saturating_add(1);
        Ok(())
    }

    /// Writes the number of frames into the header and gives the stream back.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<W> {
        self.stream.seek(SeekFrom::Start(0))?;
        self.stream.write_all(&self.header.to_bytes())?;
        self.stream.seek(SeekFrom::End(0))?;
        self.stream.flush()?;
        Ok(self.stream)
    }
}
