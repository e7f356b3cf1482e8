//! Writes a message into the caller's buffer.

use crate::attribute::{Attribute, AttributeType};
use crate::error::BuildError;
use crate::header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, message_type};
use crate::integrity::{self, IntegrityKey};
use crate::{fingerprint, message::Message};

/// Builds a message in a buffer, front to back, without allocating.
///
/// What goes wrong on the way is remembered and told by [`finish`](Self::finish), so that calls chain.
/// Integrity covers what stands before it: add attributes first, then
/// [`integrity`](Self::integrity), then [`fingerprint`](Self::fingerprint).
#[derive(Debug)]
pub struct MessageBuilder<'b> {
    buffer: &'b mut [u8],
    len: usize,
    transaction: TransactionId,
    error: Option<BuildError>,
}

impl<'b> MessageBuilder<'b> {
    /// Begins a message.
    pub fn new(
        buffer: &'b mut [u8],
        class: Class,
        method: Method,
        transaction: TransactionId,
    ) -> Self {
        Self::with_prefix(buffer, class, method, transaction, MAGIC_COOKIE)
    }

    /// Begins the response to a request: same method and transaction (and, for an RFC 3489 peer, the
    /// same 32 bits in place of the cookie).
    pub fn response(buffer: &'b mut [u8], class: Class, request: &Message<'_>) -> Self {
        Self::with_prefix(
            buffer,
            class,
            request.method(),
            request.transaction(),
            request.classic_prefix(),
        )
    }

    fn with_prefix(
        buffer: &'b mut [u8],
        class: Class,
        method: Method,
        transaction: TransactionId,
        prefix: u32,
    ) -> Self {
        let mut error = None;
        if let Some(header) = buffer.first_chunk_mut::<HEADER_LEN>() {
            header[..2].copy_from_slice(&message_type(class, method).to_be_bytes());
            header[2..4].fill(0);
            header[4..8].copy_from_slice(&prefix.to_be_bytes());
            header[8..].copy_from_slice(&transaction.0);
        } else {
            error = Some(BuildError::BufferTooSmall);
        }
        Self {
            buffer,
            len: HEADER_LEN,
            transaction,
            error,
        }
    }

    /// Adds a typed attribute.
    pub fn add<'a, A: Attribute<'a>>(&mut self, attribute: &A) -> &mut Self {
        let transaction = self.transaction;
        self.value(A::TYPE, attribute.encoded_len(), |value| {
            attribute.encode(value, &transaction);
        })
    }

    /// Adds a typed attribute if there is one.
    pub fn add_some<'a, A: Attribute<'a>>(&mut self, attribute: Option<&A>) -> &mut Self {
        match attribute {
            Some(attribute) => self.add(attribute),
            None => self,
        }
    }

    /// Adds an attribute by its bytes.
    pub fn add_raw(&mut self, kind: AttributeType, value: &[u8]) -> &mut Self {
        self.value(kind, value.len(), |out| out.copy_from_slice(value))
    }

    /// Adds MESSAGE-INTEGRITY: HMAC-SHA1 over what stands there (RFC 8489 section 14.5).
    pub fn integrity(&mut self, key: &IntegrityKey) -> &mut Self {
        self.digest(
            AttributeType::MESSAGE_INTEGRITY,
            integrity::SHA1_LEN,
            |b, at| integrity::sha1(b, at, key),
        )
    }

    /// Adds MESSAGE-INTEGRITY-SHA256: HMAC-SHA-256, not truncated (RFC 8489 section 14.6).
    pub fn integrity_sha256(&mut self, key: &IntegrityKey) -> &mut Self {
        let kind = AttributeType::MESSAGE_INTEGRITY_SHA256;
        self.digest(kind, integrity::SHA256_LEN, |b, at| {
            integrity::sha256(b, at, key)
        })
    }

    /// Adds libwebrtc's GOOG-MESSAGE-INTEGRITY-32, for GOOG-PING alone.
    pub fn integrity_32(&mut self, key: &IntegrityKey) -> &mut Self {
        self.digest(AttributeType::GOOG_MESSAGE_INTEGRITY_32, 4, |b, at| {
            integrity::sha1(b, at, key)
        })
    }

    /// Adds FINGERPRINT, as the last attribute (RFC 8489 section 14.7).
    pub fn fingerprint(&mut self) -> &mut Self {
        self.digest(AttributeType::FINGERPRINT, 4, |bytes, at| {
            fingerprint::value(bytes, at).to_be_bytes()
        })
    }

    /// How many bytes the message has so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no attribute yet.
    pub fn is_empty(&self) -> bool {
        self.len == HEADER_LEN
    }

    /// Ends the message: how many bytes of the buffer it takes.
    ///
    /// # Errors
    /// If an attribute did not fit or could not be written. The buffer's content is then worthless.
    pub fn finish(&mut self) -> Result<usize, BuildError> {
        match self.error {
            None => Ok(self.len),
            Some(error) => Err(error),
        }
    }

    /// Makes room for an attribute, lets `write` fill it, zeroes the padding (what stood in the
    /// buffer before is nobody's business) and updates the header's length.
    fn value(
        &mut self,
        kind: AttributeType,
        length: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> &mut Self {
        if self.error.is_some() {
            return self;
        }
        let Ok(short) = u16::try_from(length) else {
            self.error = Some(BuildError::Attribute(kind));
            return self;
        };
        let end = self.len + 4 + length.next_multiple_of(4);
        let (Some(room), Ok(total)) = (
            self.buffer.get_mut(self.len..end),
            u16::try_from(end - HEADER_LEN),
        ) else {
            self.error = Some(BuildError::BufferTooSmall);
            return self;
        };
        room[..2].copy_from_slice(&kind.0.to_be_bytes());
        room[2..4].copy_from_slice(&short.to_be_bytes());
        room[4..].fill(0);
        write(&mut room[4..4 + length]);
        self.buffer[2..4].copy_from_slice(&total.to_be_bytes());
        self.len = end;
        self
    }

    /// Adds an attribute whose value depends on all that stands before it, and on the header's
    /// length, which counts the attribute already. A longer digest is cut to `length`.
    fn digest<const N: usize>(
        &mut self,
        kind: AttributeType,
        length: usize,
        compute: impl FnOnce(&[u8], usize) -> [u8; N],
    ) -> &mut Self {
        let at = self.len;
        self.value(kind, length, |_| ());
        if self.error.is_none() {
            let digest = compute(&self.buffer[..self.len], at);
            self.buffer[at + 4..at + 4 + length].copy_from_slice(&digest[..length]);
        }
        self
    }
}
