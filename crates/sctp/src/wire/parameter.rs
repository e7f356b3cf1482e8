//! Parameters (RFC 9260 section 3.2.1) and error causes (section 3.3.10), which share a shape.

use super::packet::Malformed;
use super::{padded, u16_at};

/// Parameters of INIT and INIT ACK.
pub(crate) mod init_parameter {
    pub(crate) const HEARTBEAT_INFO: u16 = 1;
    pub(crate) const IPV4_ADDRESS: u16 = 5;
    pub(crate) const IPV6_ADDRESS: u16 = 6;
    pub(crate) const STATE_COOKIE: u16 = 7;
    pub(crate) const UNRECOGNIZED: u16 = 8;
    pub(crate) const COOKIE_PRESERVATIVE: u16 = 9;
    pub(crate) const HOST_NAME: u16 = 11;
    pub(crate) const SUPPORTED_ADDRESS_TYPES: u16 = 12;
    pub(crate) const ECN_CAPABLE: u16 = 0x8000;
    pub(crate) const ZERO_CHECKSUM: u16 = 0x8001;
    pub(crate) const SUPPORTED_EXTENSIONS: u16 = 0x8008;
    pub(crate) const FORWARD_TSN_SUPPORTED: u16 = 0xc000;
}

/// Parameters of RE-CONFIG (RFC 6525 section 4).
pub(crate) mod reconfig_parameter {
    pub(crate) const OUTGOING_RESET: u16 = 13;
    pub(crate) const INCOMING_RESET: u16 = 14;
    pub(crate) const TSN_RESET: u16 = 15;
    pub(crate) const RESPONSE: u16 = 16;
    pub(crate) const ADD_OUTGOING: u16 = 17;
    pub(crate) const ADD_INCOMING: u16 = 18;
}

/// Results of a re-configuration response (RFC 6525 section 4.4).
pub(crate) mod reconfig_result {
    pub(crate) const NOTHING_TO_DO: u32 = 0;
    pub(crate) const PERFORMED: u32 = 1;
    pub(crate) const DENIED: u32 = 2;
    pub(crate) const BAD_SEQUENCE: u32 = 5;
    pub(crate) const IN_PROGRESS: u32 = 6;
}

/// Error cause codes (RFC 9260 section 3.3.10).
pub(crate) mod cause_code {
    pub(crate) const INVALID_STREAM: u16 = 1;
    pub(crate) const MISSING_PARAMETER: u16 = 2;
    pub(crate) const STALE_COOKIE: u16 = 3;
    pub(crate) const OUT_OF_RESOURCE: u16 = 4;
    pub(crate) const UNRECOGNIZED_CHUNK: u16 = 6;
    pub(crate) const INVALID_MANDATORY_PARAMETER: u16 = 7;
    pub(crate) const NO_USER_DATA: u16 = 9;
    pub(crate) const COOKIE_WHILE_SHUTTING_DOWN: u16 = 10;
    pub(crate) const USER_ABORT: u16 = 12;
    pub(crate) const PROTOCOL_VIOLATION: u16 = 13;
}

/// The parameters in a chunk's body: kind and value of each. A length that does not add up (0
/// included) ends the walk with one `Err`.
#[derive(Debug, Clone)]
pub(crate) struct Parameters<'a> {
    rest: &'a [u8],
}

/// Error causes: the same shape.
pub(crate) type Causes<'a> = Parameters<'a>;

impl<'a> Parameters<'a> {
    /// The parameters that stand in `bytes`.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Parameters<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if self.rest.len() < 4 {
            self.rest = &[];
            return Some(Err(Malformed));
        }
        let length = usize::from(u16_at(self.rest, 2));
        if length < 4 || length > self.rest.len() {
            self.rest = &[];
            return Some(Err(Malformed));
        }
        let kind = u16_at(self.rest, 0);
        let value = &self.rest[4..length];
        self.rest = &self.rest[padded(length).min(self.rest.len())..];
        Some(Ok((kind, value)))
    }
}
