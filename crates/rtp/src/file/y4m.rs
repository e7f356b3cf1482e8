//! Y4M: raw pictures, YUV 4:2:0 and others, each behind a line.

use std::io::{Read, Write};

use super::{FileError, Result, read_frame, read_line};

/// Sampling of chroma, 8 bits per sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Chroma {
    /// 4:2:0.
    #[default]
    C420,
    /// 4:2:2.
    C422,
    /// 4:4:4.
    C444,
    /// Luma alone.
    Mono,
}

/// The file's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Y4mHeader {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second, as a fraction; (0, 0) if unknown.
    pub rate: (u32, u32),
    /// Sampling of chroma.
    pub chroma: Chroma,
}

impl Y4mHeader {
    /// Bytes of a picture.
    pub const fn frame_len(&self) -> usize {
        let luma = self.width as usize * self.height as usize;
        let half = self.width.div_ceil(2) as usize;
        match self.chroma {
            Chroma::C420 => luma + 2 * half * self.height.div_ceil(2) as usize,
            Chroma::C422 => luma + 2 * half * self.height as usize,
            Chroma::C444 => luma * 3,
            Chroma::Mono => luma,
        }
    }

    fn parse(line: &[u8]) -> Result<Self> {
        let fault = || FileError::Malformed("Y4M header");
        let line = std::str::from_utf8(line).map_err(|_| fault())?;
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("YUV4MPEG2") {
            return Err(FileError::Malformed("not a Y4M file"));
        }
        let mut header = Self {
            width: 0,
            height: 0,
            rate: (0, 0),
            chroma: Chroma::C420,
        };
        for word in words {
            let Some((tag, value)) = word.split_at_checked(1) else {
                continue;
            };
            match tag {
                "W" => header.width = value.parse().map_err(|_| fault())?,
                "H" => header.height = value.parse().map_err(|_| fault())?,
                "F" => {
                    let (rate, scale) = value.split_once(':').ok_or_else(fault)?;
                    header.rate = (
                        rate.parse().map_err(|_| fault())?,
                        scale.parse().map_err(|_| fault())?,
                    );
                }
                "C" => {
                    header.chroma = match value {
                        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Chroma::C420,
                        "422" => Chroma::C422,
                        "444" => Chroma::C444,
                        "mono" => Chroma::Mono,
                        _ => return Err(FileError::Malformed("Y4M colour space")),
                    };
                }
                _ => {}
            }
        }
        if !(1..=16_384).contains(&header.width) || !(1..=16_384).contains(&header.height) {
            return Err(FileError::Malformed("Y4M picture size"));
        }
        Ok(header)
    }
}

/// Reads a Y4M file.
#[derive(Debug)]
pub struct Y4mReader<R> {
    stream: R,
    header: Y4mHeader,
}

impl<R: Read> Y4mReader<R> {
    /// Reads the header. Pass a buffered stream: lines are read by the byte.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it is no Y4M file of 8 bits; [`FileError::Io`].
    pub fn new(mut stream: R) -> Result<Self> {
        let line = read_line(&mut stream, 1024)?.ok_or(FileError::Malformed("not a Y4M file"))?;
        let header = Y4mHeader::parse(&line)?;
        Ok(Self { stream, header })
    }

    /// The file's header.
    pub const fn header(&self) -> &Y4mHeader {
        &self.header
    }

    /// Reads the next picture: planes Y, U, V; false at the end.
    ///
    /// # Errors
    /// As [`Self::new`], and [`FileError::Limit`].
    pub fn read_frame(&mut self, frame: &mut Vec<u8>) -> Result<bool> {
        let Some(line) = read_line(&mut self.stream, 1024)? else {
            return Ok(false);
        };
        if !line.starts_with(b"FRAME") {
            return Err(FileError::Malformed("Y4M frame header"));
        }
        read_frame(&mut self.stream, self.header.frame_len(), frame)?;
        Ok(true)
    }
}

/// Writes a Y4M file.
#[derive(Debug)]
pub struct Y4mWriter<W> {
    stream: W,
    header: Y4mHeader,
}

impl<W: Write> Y4mWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(mut stream: W, header: Y4mHeader) -> Result<Self> {
        let chroma = match header.chroma {
            Chroma::C420 => "420jpeg",
            Chroma::C422 => "422",
            Chroma::C444 => "444",
            Chroma::Mono => "mono",
        };
        let (rate, scale) = header.rate;
        writeln!(
            stream,
            "YUV4MPEG2 W{} H{} F{rate}:{scale} Ip A1:1 C{chroma}",
            header.width, header.height
        )?;
        Ok(Self { stream, header })
    }

    /// Appends a picture of [`Y4mHeader::frame_len`] bytes.
    ///
    /// # Errors
    /// [`FileError::Malformed`] for another length; [`FileError::Io`].
    pub fn write_frame(&mut self, frame: &[u8]) -> Result<()> {
        if frame.len() != self.header.frame_len() {
            return Err(FileError::Malformed("picture of another size"));
        }
        self.stream.write_all(b"FRAME\n")?;
        self.stream.write_all(frame)?;
        Ok(())
    }

    /// Gives the stream back.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<W> {
        self.stream.flush()?;
        Ok(self.stream)
    }
}
