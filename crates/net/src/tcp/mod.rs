//! Messages over byte streams: RFC 4571 frames between ICE agents (RFC 6544 section 3), and messages by
//! their own lengths towards TURN servers (RFC 8656 section 12.5); the port that agents share for connections
//! of their peers ([`TcpPort`]), and connections from a chosen port ([`connect`]).

mod port;

use std::io;
use std::ops::Range;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use visavis_datagram::Transmit;
use visavis_stun::{PacketKind, StreamDecoder, StreamFraming, classify, pad_to_word};

pub use port::{AcceptedStream, TcpPort, TcpPortOptions, TcpPortStats, connect};

/// The largest frame in bytes, its length prefix not counted.
pub const MAX_FRAME: usize = u16::MAX as usize;

/// Reads frames from a byte stream.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: StreamDecoder,
    scratch: Box<[u8]>,
    /// Bytes in `scratch` that the decoder had no room for.
    waiting: Range<usize>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader of frames of up to [`MAX_FRAME`] bytes.
    pub fn new(stream: R, framing: StreamFraming) -> Self {
        Self {
            stream,
            decoder: StreamDecoder::new(framing, MAX_FRAME),
            scratch: vec![0; 1 << 14].into_boxed_slice(),
            waiting: 0..0,
        }
    }

    /// Reads the next frame into `frame`, whose old content goes. False when the peer has closed the
    /// stream between two frames. Cancel-safe: no byte is lost when the future is dropped.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends inside a frame, `InvalidData` when it cannot be followed,
    /// and what the stream says.
    pub async fn next(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let taken = self.decoder.push(&self.scratch[self.waiting.clone()]);
            self.waiting.start += taken;
            let next = self.decoder.next_frame();
            if let Some(bytes) =
                next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            {
                frame.clear();
                frame.extend_from_slice(bytes);
                return Ok(true);
            }
            if !self.waiting.is_empty() {
                continue;
            }
            let received = self.stream.read(&mut self.scratch).await?;
            if received == 0 {
                let whole = self.decoder.buffered() == 0;
                return if whole {
                    Ok(false)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            self.waiting = 0..received;
        }
    }
}

/// Writes frames to a byte stream.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    framing: StreamFraming,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// A writer.
    pub fn new(stream: W, framing: StreamFraming) -> Self {
        Self {
            stream,
            framing,
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
            if self.framing == StreamFraming::Rfc4571 {
                let length =
                    u16::try_from(datagram.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
                self.buffer.extend_from_slice(&length.to_be_bytes());
            }
            self.buffer.extend_from_slice(datagram);
            if self.framing == StreamFraming::Turn && classify(datagram) == PacketKind::TurnChannel
            {
                let padding = pad_to_word(datagram.len()) - datagram.len();
                self.buffer.extend_from_slice(&[0; 3][..padding]);
            }
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
    use visavis_stun::StreamFraming;

    use super::{FrameReader, FrameWriter};

    fn transmit(segment_size: usize, len: usize) -> Transmit {
        let path = Path::tcp(
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
        );
        Transmit::new(path, Ecn::NotEct, Segments { segment_size, len })
    }

    #[tokio::test]
    async fn frames_survive_any_cut_of_the_stream() {
        let (mut near, far) = tokio::io::duplex(3);
        let frames: [&[u8]; 3] = [b"hello", b"x", &[7; 300]];
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
            let mut reader = FrameReader::new(far, StreamFraming::Rfc4571);
            let mut frame = Vec::new();
            for expected in frames {
                assert!(reader.next(&mut frame).await.unwrap());
                assert_eq!(frame, expected);
            }
            assert!(!reader.next(&mut frame).await.unwrap());
        };
        tokio::join!(write, read);
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(&[0, 5, 1, 2]).await.unwrap();
        drop(near);
        let mut reader = FrameReader::new(far, StreamFraming::Rfc4571);
        let error = reader.next(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_stream_that_cannot_be_followed_is_an_error() {
        let (mut near, far) = tokio::io::duplex(64);
        // What a TLS ClientHello begins with stands in neither STUN nor ChannelData.
        near.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).await.unwrap();
        drop(near);
        let mut reader = FrameReader::new(far, StreamFraming::Turn);
        let error = reader.next(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_run_is_written_as_one_frame_per_datagram() {
        for framing in [StreamFraming::Rfc4571, StreamFraming::Turn] {
            let (near, far) = tokio::io::duplex(1 << 20);
            // Two pieces of ChannelData, the second of a length that needs padding on a stream.
            let bytes = [0x40, 0, 0, 2, b'a', b'b', 0x40, 0, 0, 1, b'c'];
            FrameWriter::new(near, framing)
                .write(&transmit(6, 11), &bytes)
                .await
                .unwrap();
            let mut reader = FrameReader::new(far, framing);
            let mut frame = Vec::new();
            for expected in [&bytes[..6], &bytes[6..]] {
                assert!(reader.next(&mut frame).await.unwrap());
                assert_eq!(frame, expected);
            }
            assert!(!reader.next(&mut frame).await.unwrap());
        }
    }
}
