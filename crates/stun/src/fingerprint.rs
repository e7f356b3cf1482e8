//! FINGERPRINT: a CRC-32 that tells STUN from what else arrives on the port (RFC 8489 section 14.7).

/// What the CRC is XORed with.
const XOR: u32 = 0x5354_554e;

/// Bytes of the attribute with its header.
pub(crate) const ATTRIBUTE_LEN: usize = 8;

/// The value for a message whose attribute's header stands at `at`. The header's length field has to
/// count the attribute already.
pub(crate) fn value(bytes: &[u8], at: usize) -> u32 {
    crc32fast::hash(&bytes[..at]) ^ XOR
}

pub(crate) fn check(bytes: &[u8], at: usize) -> bool {
    // It has to be the last attribute: then the length field needs no adjusting.
    match bytes[at..].first_chunk::<ATTRIBUTE_LEN>() {
        Some(&[_, _, 0, 4, a, b, c, d]) if bytes.len() == at + ATTRIBUTE_LEN => {
            u32::from_be_bytes([a, b, c, d]) == value(bytes, at)
        }
        _ => false,
    }
}
