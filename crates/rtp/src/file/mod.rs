//! Files of encoded or raw media, read and written frame by frame over [`std::io`] streams: memory is
//! bounded by the largest frame, whatever the file says.

pub mod annexb;
pub mod ivf;
#[cfg(feature = "mp4")]
pub mod mp4;
pub mod ogg;
pub mod rtpdump;
pub mod wav;
#[cfg(feature = "webm")]
pub mod webm;
pub mod y4m;

use std::io::{ErrorKind, Read};

/// The longest frame or packet in bytes that a reader takes from a file.
pub const MAX_FRAME: usize = 64 << 20;

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is no such file, or damaged.
    #[error("malformed file: {0}")]
    Malformed(&'static str),
    /// A documented bound was reached.
    #[error("over the limit: {0}")]
    Limit(&'static str),
}

/// The result of readers and writers of files.
pub type Result<T> = std::result::Result<T, FileError>;

/// Fills `buffer`; false if the stream ends before its first byte.
fn read_or_end(stream: &mut impl Read, buffer: &mut [u8]) -> Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(FileError::Malformed("the file ends early")),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Reads `len` bytes into `frame`. A length beyond the stream costs no more memory than the stream has.
fn read_frame(stream: &mut impl Read, len: usize, frame: &mut Vec<u8>) -> Result<()> {
    if len > MAX_FRAME {
        return Err(FileError::Limit("frame size"));
    }
    frame.clear();
    let read = stream.take(len as u64).read_to_end(frame)?;
    if read < len {
        return Err(FileError::Malformed("the file ends early"));
    }
    Ok(())
}

/// Reads a line up to `limit` bytes without its newline; `None` at the end of the stream.
fn read_line(stream: &mut impl Read, limit: usize) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        if !read_or_end(stream, &mut byte)? {
            return match line.is_empty() {
                true => Ok(None),
                false => Err(FileError::Malformed("the file ends early")),
            };
        }
        if byte[0] == b'\n' {
            return Ok(Some(line));
        }
        if line.len() == limit {
            return Err(FileError::Limit("line length"));
        }
        line.push(byte[0]);
    }
}
