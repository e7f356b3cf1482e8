//! Messages over TCP: RFC 4571 frames between ICE agents (RFC 6544 section 3).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use visavis_datagram::Transmit;

/// The largest frame, its length prefix not counted.
pub const MAX_FRAME: usize = u16::MAX as usize;

/// Reads RFC 4571 frames from a byte stream: two bytes of length, then that many bytes.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: Box<[u8]>,
    /// Bytes before this were handed out.
    start: usize,
    /// Bytes before this were received.
    end: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader with room for one frame of the largest size and what comes with it.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: vec![0; 2 * (2 + MAX_FRAME)].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// The next frame, or `None` when the peer has closed the stream between two frames.
    /// Cancel-safe: no byte is lost when the future is dropped.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends inside a frame, and what the stream says.
    pub async fn next(&mut self) -> io::Result<Option<&mut [u8]>> {
        loop {
            if let Some((from, to)) = self.complete() {
                self.start = to;
                return Ok(Some(&mut self.buffer[from..to]));
            }
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let received = self.stream.read(&mut self.buffer[self.end..]).await?;
            if received == 0 {
                return if self.end == 0 {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            self.end += received;
        }
    }

    /// Where the next frame stands, if it is all there.
    fn complete(&self) -> Option<(usize, usize)> {
        let held = &self.buffer[self.start..self.end];
        let (length, rest) = held.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let from = self.start + 2;
        (rest.len() >= length).then_some((from, from + length))
    }
}

/// Writes RFC 4571 frames to a byte stream.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer.
    pub fn new(stream: W) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Writes each datagram of a run as a frame, in one go.
    ///
    /// # Errors
    /// What the stream says; the connection is then of no more use.
    pub async fn write(&mut self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        for datagram in bytes[..transmit.len.min(bytes.len())].chunks(transmit.segment_size.max(1))
        {
            let length = u16::try_from(datagram.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
            self.buffer.extend_from_slice(&length.to_be_bytes());
            self.buffer.extend_from_slice(datagram);
        }
        self.stream.write_all(&self.buffer).await?;
        self.stream.flush().await
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::AsyncWriteExt;
    use visavis_datagram::{Ecn, Path, Segments, Transmit};

    use super::{FrameReader, FrameWriter};

    #[tokio::test]
    async fn frames_survive_any_cut_of_the_stream() {
        let (mut near, far) = tokio::io::duplex(3);
        let frames: [&[u8]; 4] = [b"hello", b"", b"x", &[7; 300]];
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&(frame.len() as u16).to_be_bytes());
            bytes.extend_from_slice(frame);
        }
        let write = async move {
            for byte in bytes {
                near.write_all(&[byte]).await.unwrap();
            }
        };
        let read = async move {
            let mut reader = FrameReader::new(far);
            for frame in frames {
                assert_eq!(reader.next().await.unwrap().unwrap(), frame);
            }
            assert!(reader.next().await.unwrap().is_none());
        };
        tokio::join!(write, read);
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(&[0, 5, 1, 2]).await.unwrap();
        drop(near);
        let error = FrameReader::new(far).next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_run_is_written_as_one_frame_per_datagram() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let path = Path::tcp(
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        );
        let transmit = Transmit::new(
            path,
            Ecn::NotEct,
            Segments {
                segment_size: 4,
                len: 10,
            },
        );
        FrameWriter::new(near)
            .write(&transmit, b"aaaabbbbcc")
            .await
            .unwrap();
        let mut reader = FrameReader::new(far);
        for frame in [b"aaaa".as_slice(), b"bbbb", b"cc"] {
            assert_eq!(reader.next().await.unwrap().unwrap(), frame);
        }
        assert!(reader.next().await.unwrap().is_none());
    }
}
