//! rtpdump: RTP and RTCP packets with their times of arrival, as rtptools and Wireshark write them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{FileError, Result, read_frame, read_line, read_or_end};

/// One packet of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpedPacket {
    /// When it came, in milliseconds since the dump began.
    pub offset: u32,
    /// Whether it is RTCP.
    pub rtcp: bool,
    /// Its original length; more than what was kept if the dump was cut.
    pub original_len: usize,
}

/// Reads a dump.
#[derive(Debug)]
pub struct RtpDumpReader<R> {
    stream: R,
    source: SocketAddrV4,
    start: (u32, u32),
}

impl<R: Read> RtpDumpReader<R> {
    /// Reads the header. Pass a buffered stream: the first line is read by the byte.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it is no dump; [`FileError::Io`].
    pub fn new(mut stream: R) -> Result<Self> {
        let fault = || FileError::Malformed("not an rtpdump file");
        let line = read_line(&mut stream, 256)?.ok_or_else(fault)?;
        if !line.starts_with(b"#!rtpplay1.0 ") {
            return Err(fault());
        }
        let mut head = [0; 16];
        if !read_or_end(&mut stream, &mut head)? {
            return Err(fault());
        }
        let u32_at =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Ok(Self {
            source: SocketAddrV4::new(Ipv4Addr::from(u32_at(8)), (u32_at(12) >> 16) as u16),
            start: (u32_at(0), u32_at(4)),
            stream,
        })
    }

    /// Where the packets came from.
    pub const fn source(&self) -> SocketAddrV4 {
        self.source
    }

    /// When the dump began: seconds since 1970, and microseconds.
    pub const fn start(&self) -> (u32, u32) {
        self.start
    }

    /// Reads the next packet; `None` at the end.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn read_packet(&mut self, packet: &mut Vec<u8>) -> Result<Option<DumpedPacket>> {
        let mut head = [0; 8];
        if !read_or_end(&mut self.stream, &mut head)? {
            return Ok(None);
        }
        let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let original = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let kept = len
            .checked_sub(8)
            .ok_or(FileError::Malformed("rtpdump packet length"))?;
        read_frame(&mut self.stream, kept, packet)?;
        Ok(Some(DumpedPacket {
            offset: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            rtcp: original == 0,
            original_len: if original == 0 { kept } else { original },
        }))
    }
}

/// Writes a dump.
#[derive(Debug)]
pub struct RtpDumpWriter<W> {
    stream: W,
}

impl<W: Write> RtpDumpWriter<W> {
    /// Writes the header. `start`: seconds since 1970, and microseconds.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(mut stream: W, source: SocketAddrV4, start: (u32, u32)) -> Result<Self> {
        writeln!(stream, "#!rtpplay1.0 {}/{}", source.ip(), source.port())?;
        stream.write_all(&start.0.to_be_bytes())?;
        stream.write_all(&start.1.to_be_bytes())?;
        stream.write_all(&source.ip().octets())?;
        stream.write_all(&source.port().to_be_bytes())?;
        stream.write_all(&[0; 2])?;
        Ok(Self { stream })
    }

    /// Appends a packet that came `offset` milliseconds after the start.
    ///
    /// # Errors
    /// [`FileError::Limit`] above 65527 bytes; [`FileError::Io`].
    pub fn write_packet(&mut self, offset: u32, packet: &[u8]) -> Result<()> {
        let len = u16::try_from(packet.len() + 8).map_err(|_| FileError::Limit("packet length"))?;
        let original = match crate::is_rtcp(packet) {
            true => 0,
            false => packet.len() as u16,
        };
        self.stream.write_all(&len.to_be_bytes())?;
        self.stream.write_all(&original.to_be_bytes())?;
        self.stream.write_all(&offset.to_be_bytes())?;
        self.stream.write_all(packet)?;
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
