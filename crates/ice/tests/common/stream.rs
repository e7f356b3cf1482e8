//! Messages in byte streams: RFC 4571, and STUN's own lengths.

/// Cuts a stream into messages.
pub struct Deframer {
    rfc4571: bool,
    bytes: Vec<u8>,
}

impl Deframer {
    pub fn rfc4571() -> Self {
        Self {
            rfc4571: true,
            bytes: Vec::new(),
        }
    }

    pub fn turn() -> Self {
        Self {
            rfc4571: false,
            bytes: Vec::new(),
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        let at = |index: usize| self.bytes.get(index).copied().map(usize::from);
        let (start, len, whole) = if self.rfc4571 {
            let len = at(0)? << 8 | at(1)?;
            (2, len, 2 + len)
        } else {
            let body = at(2)? << 8 | at(3)?;
            if at(0)? >= 0x40 {
                (0, 4 + body, (4 + body).next_multiple_of(4))
            } else {
                (0, 20 + body, 20 + body)
            }
        };
        let frame = self.bytes.get(start..start + len)?.to_vec();
        if self.bytes.len() < whole {
            return None;
        }
        self.bytes.drain(..whole);
        Some(frame)
    }
}

/// Puts a message into a stream.
pub fn frame(rfc4571: bool, message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 4);
    if rfc4571 {
        bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
        bytes.extend_from_slice(message);
    } else {
        bytes.extend_from_slice(message);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}
