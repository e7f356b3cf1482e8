//! FlexFEC as browsers speak it (draft-ietf-payload-flexible-fec-scheme-03 section 4.2.2), with
//! flexible masks over one source. The masks of RFC 8627 differ in their last bit and are not read.

use super::fec::{FecPacket, Recovery, protect};
use crate::bytes::Reader;
use crate::{Error, Result, SequenceNumber, Ssrc};

/// The most bytes of headers.
pub const MAX_OVERHEAD: usize = 32;
/// Parity packets protect packets within so many numbers of each other.
pub const MAX_SPAN: u32 = 109;

/// Reads a payload.
///
/// # Errors
/// [`Error::Truncated`] or [`Error::Malformed`]; retransmissions (R), fixed masks (F) and more than
/// one source are malformed here.
pub fn parse(payload: &[u8]) -> Result<FecPacket<'_>> {
    let mut reader = Reader::new(payload, "FlexFEC header");
    let head: [u8; 2] = reader.array()?;
    if head[0] & 0xc0 != 0 {
        return Err(Error::Malformed("FlexFEC with R or F bit"));
    }
    let length = reader.u16()?;
    let timestamp = reader.u32()?;
    let [sources, ..] = reader.array::<4>()?;
    if sources != 1 {
        return Err(Error::Malformed("FlexFEC over more than one source"));
    }
    let ssrc = Ssrc(reader.u32()?);
    let base = SequenceNumber(reader.u16()?);
    // Masks of 15, 31 and 63 bits, each behind a bit that says whether it is the last.
    let first = reader.u16()?;
    let mut mask = u128::from(first.reverse_bits() >> 1);
    if first & 0x8000 == 0 {
        let second = reader.u32()?;
        mask |= u128::from(second.reverse_bits() >> 1) << 15;
        if second & 0x8000_0000 == 0 {
            let third = reader.u64()?;
            if third & 1 << 63 == 0 {
                return Err(Error::Malformed("FlexFEC mask"));
            }
            mask |= u128::from(third.reverse_bits() >> 1) << 46;
        }
    }
    if mask == 0 {
        return Err(Error::Malformed("parity of no packet"));
    }
    Ok(FecPacket {
        ssrc: Some(ssrc),
        base,
        mask,
        recovery: Recovery {
            head,
            length,
            timestamp,
        },
        payload: reader.rest(),
    })
}

/// Writes the payload that protects `packets` of `ssrc`, within [`MAX_SPAN`] numbers of each other,
/// and returns its length.
///
/// # Errors
/// [`Error::NotRepresentable`] or [`Error::BufferTooSmall`].
pub fn write<'p>(
    ssrc: Ssrc,
    packets: impl IntoIterator<Item = &'p [u8], IntoIter: Clone>,
    out: &mut [u8],
) -> Result<usize> {
    let body = out.get_mut(MAX_OVERHEAD..).ok_or(Error::BufferTooSmall)?;
    let protected = protect(packets.into_iter(), body)?;
    let recovery = protected.recovery;
    out[0] = recovery.head[0] & 0x3f;
    out[1] = recovery.head[1];
    out[2..4].copy_from_slice(&recovery.length.to_be_bytes());
    out[4..8].copy_from_slice(&recovery.timestamp.to_be_bytes());
    out[8..12].copy_from_slice(&[1, 0, 0, 0]);
    out[12..16].copy_from_slice(&ssrc.0.to_be_bytes());
    out[16..18].copy_from_slice(&protected.base.0.to_be_bytes());
    let mask = protected.mask;
    let first = (mask as u16 & 0x7fff).reverse_bits() >> 1;
    let second = ((mask >> 15) as u32 & 0x7fff_ffff).reverse_bits() >> 1;
    let third = ((mask >> 46) as u64 & (u64::MAX >> 1)).reverse_bits() >> 1;
    let first_last = u16::from(second == 0 && third == 0) << 15;
    out[18..20].copy_from_slice(&(first_last | first).to_be_bytes());
    let mut overhead = 20;
    if first_last == 0 {
        let second_last = u32::from(third == 0) << 31;
        out[20..24].copy_from_slice(&(second_last | second).to_be_bytes());
        overhead = 24;
        if second_last == 0 {
            out[24..32].copy_from_slice(&(1 << 63 | third).to_be_bytes());
            overhead = 32;
        }
    }
    out.copy_within(MAX_OVERHEAD..MAX_OVERHEAD + protected.len, overhead);
    Ok(overhead + protected.len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Header, PacketWriter};

    fn packet(sequence: u16) -> [u8; 14] {
        let mut buffer = [0; 14];
        let header = Header {
            sequence: SequenceNumber(sequence),
            ..Header::default()
        };
        let writer = PacketWriter::new(&mut buffer, header).expect("room");
        writer.finish_with(&[1, 2]).expect("room");
        buffer
    }

    /// libwebrtc's flexfec_header_reader_writer_unittest: packets 0, 4 and 8 behind the bit that says
    /// that no more mask follows are 0xC4 0x40.
    #[test]
    fn short_mask_of_libwebrtc() {
        let packets = [packet(8), packet(12), packet(16)];
        let mut out = [0; 100];
        let len = write(Ssrc(5), packets.iter().map(|it| &it[..]), &mut out).expect("room");
        assert_eq!(out[16..20], [0, 8, 0xc4, 0x40]);
        assert_eq!(len, 22);
    }

    #[test]
    fn masks_grow_with_their_span() {
        for (last, overhead) in [(14, 20), (15, 24), (45, 24), (46, 32), (108, 32)] {
            let packets = [packet(0), packet(last)];
            let mut out = [0; 100];
            let len = write(Ssrc(5), packets.iter().map(|it| &it[..]), &mut out).expect("room");
            assert_eq!(len, overhead + 2, "{last}");
            let fec = parse(&out[..len]).expect("parity");
            let protected: Vec<_> = fec.protected().map(|sequence| sequence.0).collect();
            assert_eq!(protected, [0, last]);
        }
        let packets = [packet(0), packet(109)];
        assert!(write(Ssrc(5), packets.iter().map(|it| &it[..]), &mut [0; 100]).is_err());
    }
}
