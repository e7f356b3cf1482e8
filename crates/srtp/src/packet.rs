//! Where things stand in a packet (RFC 3550 sections 5.1, 5.3.1 and 6.4, RFC 8285).

use std::ops::Range;

use crate::Error;

/// Length of the fixed RTP header.
pub(crate) const FIXED_HEADER: usize = 12;
/// Length of the start of an RTCP packet that is never encrypted.
pub(crate) const RTCP_HEADER: usize = 8;
/// Length of a header extension's own header: "defined by profile" and length.
pub(crate) const EXTENSION_HEADER: usize = 4;

/// Where the parts of an RTP header stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtpHeader {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    /// End of the contributing sources, where a header extension starts.
    pub(crate) csrc_end: usize,
    /// "Defined by profile", if there is an extension.
    pub(crate) extension: Option<u16>,
    /// Where the payload starts.
    pub(crate) len: usize,
}

impl RtpHeader {
    #[inline]
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, Error> {
        if packet.len() < FIXED_HEADER || packet[0] >> 6 != 2 {
            return Err(Error::Malformed);
        }
        let csrc_end = FIXED_HEADER + 4 * usize::from(packet[0] & 0x0f);
        let mut header = Self {
            ssrc: u32_at(packet, 8),
            sequence: u16_at(packet, 2),
            csrc_end,
            extension: None,
            len: csrc_end,
        };
        if packet[0] & 0x10 != 0 {
            if packet.len() < csrc_end + EXTENSION_HEADER {
                return Err(Error::Malformed);
            }
            header.extension = Some(u16_at(packet, csrc_end));
            header.len += EXTENSION_HEADER + 4 * usize::from(u16_at(packet, csrc_end + 2));
        }
        if packet.len() < header.len {
            return Err(Error::Malformed);
        }
        Ok(header)
    }

    /// Whether there are contributing sources.
    pub(crate) fn has_csrcs(&self) -> bool {
        self.csrc_end != FIXED_HEADER
    }

    /// The elements of a header extension; empty without one.
    pub(crate) fn elements(&self) -> Range<usize> {
        match self.extension {
            Some(_) => self.csrc_end + EXTENSION_HEADER..self.len,
            None => self.len..self.len,
        }
    }
}

/// The sender of an RTCP packet.
pub(crate) fn rtcp_ssrc(packet: &[u8]) -> Result<u32, Error> {
    if packet.len() < RTCP_HEADER || packet[0] >> 6 != 2 {
        return Err(Error::Malformed);
    }
    Ok(u32_at(packet, 4))
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_header_is_refused() {
        let packet = hex("920f1238decafbadcafebabe0001e2400000b26ebede000151000200");
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(
            header,
            RtpHeader {
                ssrc: 0xcafe_babe,
                sequence: 0x1238,
                csrc_end: 20,
                extension: Some(0xbede),
                len: 28
            }
        );
        assert_eq!(header.elements(), 24..28);
        for len in 0..packet.len() {
            assert_eq!(RtpHeader::parse(&packet[..len]), Err(Error::Malformed));
        }
        for version in [0x12, 0x52, 0xd2] {
            let mut other = packet.clone();
            other[0] = version;
            assert_eq!(RtpHeader::parse(&other), Err(Error::Malformed));
        }
    }
}
