//! Messages over byte streams: STUN and ChannelData by their own lengths (RFC 8489 section 6.2.2, RFC 8656 section 12.5),
//! and RFC 4571 frames between ICE agents.

use crate::channel_data::{CHANNEL_HEADER_LEN, ChannelNumber};
use crate::error::StreamError;
use crate::header::{HEADER_LEN, MAGIC_COOKIE};

/// How frames stand in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamFraming {
    /// STUN messages and ChannelData, the latter padded to 4 bytes: towards a STUN or TURN server.
    Turn,
    /// A 16-bit length before each frame (RFC 4571): between ICE agents (RFC 6544 section 3).
    Rfc4571,
}

/// The length that ChannelData of `len` bytes (with its header) has on a stream: the next multiple of 4
/// (RFC 8656 section 12.5).
pub const fn pad_to_word(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Cuts a byte stream into frames, however it was split on the way.
///
/// One buffer, which never grows beyond the largest frame that is allowed: a peer that announces much
/// and sends little costs what it sent.
///
/// ```
/// use visavis_stun::{StreamDecoder, StreamFraming};
///
/// let mut decoder = StreamDecoder::new(StreamFraming::Rfc4571, 2000);
/// let mut bytes = &[0, 3, b'a', b'b', b'c', 0, 1, b'd'][..];
/// let mut frames = Vec::new();
/// while !bytes.is_empty() {
///     bytes = &bytes[decoder.push(bytes)..];
///     while let Some(frame) = decoder.next_frame().unwrap() {
///         frames.push(frame.to_vec());
///     }
/// }
/// assert_eq!(frames, [&b"abc"[..], b"d"]);
/// ```
#[derive(Debug)]
pub struct StreamDecoder {
    framing: StreamFraming,
    /// The largest frame, in bytes as they stand in the stream (header and padding included).
    limit: usize,
    buffer: Vec<u8>,
    /// Where the bytes begin that no frame has taken yet.
    start: usize,
    failed: Option<StreamError>,
}

impl StreamDecoder {
    /// A decoder for frames of up to `max_frame` bytes, headers not counted. 1500 suffices for media; the largest
    /// that the formats know is 65535.
    pub fn new(framing: StreamFraming, max_frame: usize) -> Self {
        Self {
            framing,
            limit: HEADER_LEN + max_frame.next_multiple_of(4),
            buffer: Vec::new(),
            start: 0,
            failed: None,
        }
    }

    /// Takes bytes from the stream, as many as there is room for, and says how many. 0 of a
    /// non-empty slice: call [`next_frame`](Self::next_frame) until it has none.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        if self.start != 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let taken = bytes.len().min(self.limit - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The next whole frame: a STUN message, ChannelData without its padding, or an RFC 4571 payload (never an
    /// empty one).
    ///
    /// # Errors
    /// If the stream cannot be followed: the connection has to be closed. Comes again at each call.
    pub fn next_frame(&mut self) -> Result<Option<&mut [u8]>, StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            let rest = &self.buffer[self.start..];
            let frame = match self.framing {
                StreamFraming::Turn => turn_frame(rest),
                StreamFraming::Rfc4571 => Ok(rfc4571_frame(rest)),
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error) => return Err(*self.failed.insert(error)),
            };
            if frame.whole > self.limit {
                let error = StreamError::FrameTooLong(frame.whole);
                return Err(*self.failed.insert(error));
            }
            if rest.len() < frame.whole {
                return Ok(None);
            }
            let begin = self.start + frame.skip;
            self.start += frame.whole;
            if frame.len != 0 {
                return Ok(Some(&mut self.buffer[begin..begin + frame.len]));
            }
        }
    }

    /// How many bytes wait for the rest of their frame.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.shrink_to_fit();
    }
}

/// How long the TURN frame is that `bytes` begin with: a STUN message, or ChannelData. First without, then with the
/// padding that stands behind ChannelData in a stream. `None` while too few bytes are there to tell.
///
/// For who reads a stream into memory of his own; [`StreamDecoder`] keeps the bytes itself.
///
/// # Errors
/// If the stream cannot be followed.
pub fn turn_frame_len(bytes: &[u8]) -> Result<Option<(usize, usize)>, StreamError> {
    Ok(turn_frame(bytes)?.map(|frame| (frame.len, frame.whole)))
}

/// Where a frame stands: `skip` bytes, then the frame's `len`, and `whole` bytes in all.
struct Frame {
    skip: usize,
    len: usize,
    whole: usize,
}

/// `None` while the length cannot be read yet.
fn turn_frame(bytes: &[u8]) -> Result<Option<Frame>, StreamError> {
    let Some(&[b0, b1, l0, l1]) = bytes.first_chunk() else {
        // A first byte that begins neither is told at once.
        return match bytes.first() {
            Some(0x80.. | 0x04..=0x3f) => Err(StreamError::Desynchronised),
            _ => Ok(None),
        };
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    // Numbers that RFC 8656 reserves are framed too: their frames are ignored, and the stream goes on.
    if ChannelNumber::new_rfc5766(u16::from_be_bytes([b0, b1])).is_some() {
        let len = CHANNEL_HEADER_LEN + length;
        return Ok(Some(Frame {
            skip: 0,
            len,
            whole: pad_to_word(len),
        }));
    }
    // Methods beyond 0x0ff (first byte above 3) exist nowhere, and RFC 7983 gives those bytes to others.
    let cookie = MAGIC_COOKIE.to_be_bytes();
    let seen = &bytes[4..bytes.len().min(8)];
    if b0 > 3 || !length.is_multiple_of(4) || *seen != cookie[..seen.len()] {
        return Err(StreamError::Desynchronised);
    }
    Ok(Some(Frame {
        skip: 0,
        len: HEADER_LEN + length,
        whole: HEADER_LEN + length,
    }))
}

fn rfc4571_frame(bytes: &[u8]) -> Option<Frame> {
    let len = usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    Some(Frame {
        skip: 2,
        len,
        whole: 2 + len,
    })
}
