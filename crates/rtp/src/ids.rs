//! The values that name things in RTP: sources, payload types, sequence numbers, media sections.

use std::fmt;

use crate::{Error, Result};

/// A synchronisation source (RFC 3550 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ssrc(pub u32);

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u32> for Ssrc {
    fn from(value: u32) -> Self {
        Self(value)
    }
}

/// A payload type, 0 to 127 (RFC 3551 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PayloadType(u8);

impl PayloadType {
    /// A payload type; `None` above 127.
    pub const fn new(value: u8) -> Option<Self> {
        if value < 128 { Some(Self(value)) } else { None }
    }

    /// The low seven bits of a header's second byte.
    pub(crate) const fn from_bits(value: u8) -> Self {
        Self(value & 0x7f)
    }

    /// The number, 0 to 127.
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u8> for PayloadType {
    type Error = Error;

    fn try_from(value: u8) -> Result<Self> {
        Self::new(value).ok_or(Error::NotRepresentable("payload type above 127"))
    }
}

/// A 16-bit sequence number with serial arithmetic (RFC 1982): no order operators, because the
/// numbers wrap around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SequenceNumber(pub u16);

impl SequenceNumber {
    /// The number that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// The number `count` further on.
    #[must_use]
    pub const fn add(self, count: u16) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// How far this number is ahead of `other`, -32768 to 32767.
    pub const fn distance(self, other: Self) -> i16 {
        self.0.wrapping_sub(other.0) as i16
    }

    /// Whether this number comes after `other`.
    pub const fn is_after(self, other: Self) -> bool {
        self.distance(other) > 0
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u16> for SequenceNumber {
    fn from(value: u16) -> Self {
        Self(value)
    }
}

/// Extends 16-bit sequence numbers to 64 bits that never wrap: each is taken as the nearest to the
/// highest seen so far.
///
/// The first number extends to itself plus 65536, so that packets from before the first one have a
/// place too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequenceExtender {
    highest: Option<u64>,
}

impl SequenceExtender {
    /// An extender that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// Extends `sequence` and remembers it if it is the highest.
    pub fn extend(&mut self, sequence: SequenceNumber) -> u64 {
        let extended = self.peek(sequence);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// Extends `sequence` without remembering it.
    pub fn peek(&self, sequence: SequenceNumber) -> u64 {
        match self.highest {
            None => 0x1_0000 + u64::from(sequence.0),
            Some(highest) => {
                let step = sequence.distance(SequenceNumber(highest as u16));
                // A source that goes back further than it began stays at the beginning's cycle.
                highest
                    .checked_add_signed(i64::from(step))
                    .unwrap_or(u64::from(sequence.0))
            }
        }
    }

    /// The highest extended number so far.
    pub const fn highest(&self) -> Option<u64> {
        self.highest
    }
}

/// Extends 32-bit RTP timestamps to 64 bits that never wrap, as [`SequenceExtender`] does.
///
/// The first timestamp extends to itself plus 2^32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimestampExtender {
    last: Option<u64>,
}

impl TimestampExtender {
    /// An extender that has seen nothing.
    pub const fn new() -> Self {
        Self { last: None }
    }

    /// Extends `timestamp`, nearest to the one before it.
    pub fn extend(&mut self, timestamp: u32) -> u64 {
        let extended = self.peek(timestamp);
        self.last = Some(extended);
        extended
    }

    /// Extends `timestamp` without remembering it.
    pub fn peek(&self, timestamp: u32) -> u64 {
        match self.last {
            None => (1 << 32) + u64::from(timestamp),
            Some(last) => {
                let step = timestamp.wrapping_sub(last as u32) as i32;
                last.checked_add_signed(i64::from(step))
                    .unwrap_or(u64::from(timestamp))
            }
        }
    }
}

/// Up to [`ShortText::MAX`] bytes of text, kept in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ShortText {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl ShortText {
    const MAX: usize = 32;

    fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > Self::MAX || !bytes.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut text = Self {
            len: bytes.len() as u8,
            bytes: [0; Self::MAX],
        };
        text.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(text)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(ShortText);

        impl $name {
            /// The longest name in bytes.
            pub const MAX: usize = ShortText::MAX;

            /// The name with these bytes; `None` if there are none, more than [`Self::MAX`], or
            /// one that its grammar forbids.
            pub fn new(name: impl AsRef<[u8]>) -> Option<Self> {
                let valid: fn(&u8) -> bool = $valid;
                let bytes = name.as_ref();
                bytes.iter().all(valid).then(|| ShortText::new(bytes).map(Self)).flatten()
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The name as bytes.
            pub fn as_bytes(&self) -> &[u8] {
                self.as_str().as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                Self::new(name).ok_or(Error::Malformed(concat!("not a ", stringify!($name))))
            }
        }
    };
}

name!(
    /// A media section's identification tag (RFC 9143 section 15.1), as SDES item and header extension carry it.
    Mid,
    u8::is_ascii_graphic
);
name!(
    /// An RTP stream identifier (RFC 8852 section 3.1): letters, digits, and for the sake of
    /// deployed senders `-` and `_` (RFC 8851 section 10 allows them in SDP).
    Rid,
    |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
);

/// A 64-bit NTP timestamp: seconds since 1900 in the upper half, fractions in the lower
/// (RFC 3550 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// Seconds between the NTP and the Unix epoch.
    const UNIX_EPOCH: u64 = 2_208_988_800;

    /// From the time since the Unix epoch.
    pub const fn from_unix(since_epoch: std::time::Duration) -> Self {
        let seconds = since_epoch.as_secs().wrapping_add(Self::UNIX_EPOCH);
        let fraction = ((since_epoch.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self((seconds << 32) | fraction)
    }

    /// The time since the Unix epoch; zero for times before it.
    pub const fn to_unix(self) -> std::time::Duration {
        let seconds = (self.0 >> 32).saturating_sub(Self::UNIX_EPOCH);
        let nanos = ((self.0 & 0xffff_ffff) * 1_000_000_000) >> 32;
        std::time::Duration::new(seconds, nanos as u32)
    }

    /// The middle 32 bits, in units of 1/65536 s: what LSR, LRR and RFC 8888 reports carry.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_extend_over_the_wrap_both_ways() {
        let mut extender = SequenceExtender::new();
        let first = extender.extend(SequenceNumber(65_534));
        assert_eq!(extender.extend(SequenceNumber(1)), first + 3);
        assert_eq!(extender.extend(SequenceNumber(65_535)), first + 1);
        assert_eq!(extender.highest(), Some(first + 3));
    }

    #[test]
    fn packets_before_the_first_have_a_place() {
        let mut extender = SequenceExtender::new();
        let first = extender.extend(SequenceNumber(2));
        assert_eq!(extender.extend(SequenceNumber(65_535)), first - 3);
    }

    #[test]
    fn serial_order_is_circular() {
        assert!(SequenceNumber(0).is_after(SequenceNumber(65_535)));
        assert!(!SequenceNumber(65_535).is_after(SequenceNumber(0)));
        assert_eq!(SequenceNumber(5).distance(SequenceNumber(65_530)), 11);
    }

    #[test]
    fn names_are_bounded_and_graphic() {
        assert_eq!(Mid::new("0").unwrap().as_str(), "0");
        assert!(Mid::new("").is_none());
        assert!(Mid::new([b'a'; 33]).is_none());
        assert!(Mid::new("a b").is_none());
        assert!(Rid::new("hi-1_x").is_some());
        assert!(Rid::new("hi.1").is_none());
    }

    #[test]
    fn ntp_time_of_the_unix_epoch() {
        let time = NtpTime::from_unix(std::time::Duration::from_millis(1_500));
        assert_eq!(time.0, (2_208_988_801 << 32) | 0x8000_0000);
        assert_eq!(time.to_unix(), std::time::Duration::from_millis(1_500));
        assert_eq!(time.middle(), (2_208_988_801u64 << 16) as u32 | 0x8000);
    }
}
