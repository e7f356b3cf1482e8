//! A message as a view over the bytes it came in.

use crate::attribute::{Attribute, AttributeType, RawAttribute};
use crate::error::{MalformedAttribute, ParseError};
use crate::header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, split_type};
use crate::integrity::IntegrityKey;
use crate::{fingerprint, integrity};

/// A parsed message: borrows the bytes, owns nothing.
///
/// Attributes after MESSAGE-INTEGRITY do not exist for the caller, but for MESSAGE-INTEGRITY-SHA256 and
/// FINGERPRINT (RFC 8489 sections 14.5 and 14.6): whoever appends them on the way gains nothing.
/// Of an attribute that stands twice, only the first counts (section 14).
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    method: Method,
    transaction: TransactionId,
    /// Where the attributes end that count: at the first integrity attribute or FINGERPRINT.
    end: usize,
    /// Where these attributes' headers stand; 0 where there is none.
    integrity: usize,
    integrity_sha256: usize,
    integrity_32: usize,
    fingerprint: usize,
}

/// The outcome of a check over a message's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The message does not carry what would be checked.
    Absent,
    /// It is there and right.
    Valid,
    /// It is there and wrong.
    Invalid,
}

impl Verdict {
    const fn of(valid: bool) -> Self {
        if valid { Self::Valid } else { Self::Invalid }
    }
}

impl<'a> Message<'a> {
    /// Parses one whole message: `bytes` is the datagram, or one frame of a stream.
    ///
    /// # Errors
    /// If `bytes` is not exactly one well-formed message with the magic cookie. Values of attributes are not
    /// looked at here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let message = Self::parse_classic(bytes)?;
        if message.is_classic() {
            return Err(ParseError::NoCookie);
        }
        Ok(message)
    }

    /// Like [`parse`](Self::parse), but also takes the messages of RFC 3489 peers, which have no magic
    /// cookie: [`is_classic`](Self::is_classic) tells them. Answer those with MAPPED-ADDRESS.
    ///
    /// # Errors
    /// If `bytes` is not exactly one well-formed message.
    pub fn parse_classic(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, _) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(ParseError::TooShort)?;
        let message_type = u16::from_be_bytes([header[0], header[1]]);
        if message_type & 0xc000 != 0 {
            return Err(ParseError::NotStun);
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !length.is_multiple_of(4) || HEADER_LEN + length != bytes.len() {
            return Err(ParseError::Length);
        }
        let (class, method) = split_type(message_type);
        let mut transaction = TransactionId([0; 12]);
        transaction.0.copy_from_slice(&header[8..]);
        let mut message = Self {
            bytes,
            class,
            method,
            transaction,
            end: bytes.len(),
            integrity: 0,
            integrity_sha256: 0,
            integrity_32: 0,
            fingerprint: 0,
        };
        message.index()?;
        Ok(message)
    }

    /// Walks the attributes once: checks their lengths, finds the ones that end the others.
    fn index(&mut self) -> Result<(), ParseError> {
        let mut at = HEADER_LEN;
        while at < self.bytes.len() {
            // Both the message's and each attribute's room are multiples of 4, so 4 bytes are there.
            let kind = AttributeType(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]));
            let length = u16::from_be_bytes([self.bytes[at + 2], self.bytes[at + 3]]);
            let next = at + 4 + usize::from(length).next_multiple_of(4);
            if next > self.bytes.len() {
                return Err(ParseError::Attribute);
            }
            // FINGERPRINT is last (section 14.7): behind it nothing counts.
            if self.fingerprint == 0 {
                let after_integrity = self.integrity != 0 || self.integrity_32 != 0;
                let after_sha256 = self.integrity_sha256 != 0;
                match kind {
                    AttributeType::FINGERPRINT => self.fingerprint = at,
                    AttributeType::MESSAGE_INTEGRITY if !after_integrity && !after_sha256 => {
                        self.integrity = at;
                    }
                    AttributeType::MESSAGE_INTEGRITY_SHA256 if !after_sha256 => {
                        self.integrity_sha256 = at;
                    }
                    AttributeType::GOOG_MESSAGE_INTEGRITY_32
                        if !after_integrity && !after_sha256 =>
                    {
                        self.integrity_32 = at;
                    }
                    _ => {
                        at = next;
                        continue;
                    }
                }
                self.end = self.end.min(at);
            }
            at = next;
        }
        Ok(())
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The transaction.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// Whether the message has no magic cookie: an RFC 3489 peer. Its transaction is 128 bits long,
    /// see [`classic_prefix`](Self::classic_prefix).
    pub fn is_classic(&self) -> bool {
        self.classic_prefix() != MAGIC_COOKIE
    }

    /// The 32 bits where the magic cookie stands, which an RFC 3489 peer wants back.
    pub fn classic_prefix(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    /// The bytes of the whole message.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes in their order, without those that come after an integrity attribute, and
    /// without the integrity attributes and FINGERPRINT themselves.
    pub fn attributes(&self) -> impl Iterator<Item = RawAttribute<'a>> + use<'a> {
        Attributes {
            bytes: &self.bytes[HEADER_LEN..self.end],
        }
    }

    /// The value of the first attribute of a type, without padding.
    pub fn raw(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.attributes()
            .find(|attribute| attribute.kind == kind)
            .map(|attribute| attribute.value)
    }

    /// Whether an attribute stands in the message.
    pub fn has(&self, kind: AttributeType) -> bool {
        self.raw(kind).is_some()
    }

    /// A typed attribute; `None` if it is absent or malformed.
    pub fn get<A: Attribute<'a>>(&self) -> Option<A> {
        A::decode(self.raw(A::TYPE)?, &self.transaction)
    }

    /// A typed attribute, telling absent from malformed.
    ///
    /// # Errors
    /// If the attribute is there and its value breaks the format: a server answers 400.
    pub fn try_get<A: Attribute<'a>>(&self) -> Result<Option<A>, MalformedAttribute> {
        match self.raw(A::TYPE) {
            None => Ok(None),
            Some(value) => A::decode(value, &self.transaction)
                .map(Some)
                .ok_or(MalformedAttribute(A::TYPE)),
        }
    }

    /// Every occurrence of an attribute that may stand several times (XOR-PEER-ADDRESS in
    /// CreatePermission, XOR-RELAYED-ADDRESS of a dual allocation). Malformed ones are `None`.
    pub fn all<A: Attribute<'a>>(&self) -> impl Iterator<Item = Option<A>> + use<'a, A> {
        let transaction = self.transaction;
        self.attributes()
            .filter(|attribute| attribute.kind == A::TYPE)
            .map(move |attribute| A::decode(attribute.value, &transaction))
    }

    /// The comprehension-required attributes that `understood` does not know: a request that has any
    /// is answered with 420 and their list (RFC 8489 section 6.3.1). A type that stands twice comes twice.
    ///
    /// ```
    /// # use visavis_stun::{AttributeType, Message};
    /// # let message = Message::parse(&[0, 1, 0, 4, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0]).unwrap();
    /// let unknown: Vec<_> = message.unknown_required(AttributeType::is_known).collect();
    /// assert_eq!(unknown, [AttributeType(0x7fff)]);
    /// ```
    pub fn unknown_required<F>(
        &self,
        understood: F,
    ) -> impl Iterator<Item = AttributeType> + use<'a, F>
    where
        F: Fn(AttributeType) -> bool,
    {
        self.attributes()
            .map(|attribute| attribute.kind)
            .filter(move |&kind| kind.is_comprehension_required() && !understood(kind))
    }

    /// Whether MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 stands in the message.
    pub fn has_integrity(&self) -> bool {
        self.integrity != 0 || self.integrity_sha256 != 0
    }

    /// Whether MESSAGE-INTEGRITY-SHA256 stands in the message.
    pub fn has_integrity_sha256(&self) -> bool {
        self.integrity_sha256 != 0
    }

    /// Whether FINGERPRINT stands in the message.
    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint != 0
    }

    /// Checks MESSAGE-INTEGRITY in constant time (RFC 8489 section 14.5).
    pub fn check_integrity(&self, key: &IntegrityKey) -> Verdict {
        match self.integrity {
            0 => Verdict::Absent,
            at => Verdict::of(integrity::check_sha1(self.bytes, at, key)),
        }
    }

    /// Checks MESSAGE-INTEGRITY-SHA256, of 16 to 32 bytes, in constant time (RFC 8489 section 14.6).
    pub fn check_integrity_sha256(&self, key: &IntegrityKey) -> Verdict {
        match self.integrity_sha256 {
            0 => Verdict::Absent,
            at => Verdict::of(integrity::check_sha256(self.bytes, at, key)),
        }
    }

    /// Checks libwebrtc's GOOG-MESSAGE-INTEGRITY-32: only 32 bits, only for GOOG-PING.
    pub fn check_integrity_32(&self, key: &IntegrityKey) -> Verdict {
        match self.integrity_32 {
            0 => Verdict::Absent,
            at => Verdict::of(integrity::check_sha1_32(self.bytes, at, key)),
        }
    }

    /// Checks the strongest integrity attribute that is there: SHA-256 before SHA-1
    /// (RFC 8489 section 9.2.4).
    pub fn authenticate(&self, key: &IntegrityKey) -> Verdict {
        match self.check_integrity_sha256(key) {
            Verdict::Absent => self.check_integrity(key),
            verdict => verdict,
        }
    }

    /// Checks FINGERPRINT (RFC 8489 section 14.7).
    pub fn check_fingerprint(&self) -> Verdict {
        match self.fingerprint {
            0 => Verdict::Absent,
            at => Verdict::of(fingerprint::check(self.bytes, at)),
        }
    }
}

/// Walks attributes whose lengths were checked before.
struct Attributes<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    fn next(&mut self) -> Option<RawAttribute<'a>> {
        let (&[k0, k1, l0, l1], rest) = self.bytes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = rest.get(..length)?;
        self.bytes = rest.get(length.next_multiple_of(4)..)?;
        Some(RawAttribute {
            kind: AttributeType(u16::from_be_bytes([k0, k1])),
            value,
        })
    }
}
