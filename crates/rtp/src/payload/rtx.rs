//! Retransmissions (RFC 4588 section 4): a packet again, under another source and payload type, with
//! its sequence number before its payload.

use crate::bytes::u16_at;
use crate::extension::ExtensionEdit;
use crate::{
    Error, ExtensionKind, ExtensionMap, Header, Packet, PacketMut, PacketWriter, PayloadType,
    Result, SequenceNumber, Ssrc,
};

/// Bytes that a retransmission is longer than the original.
pub const OVERHEAD: usize = 2;

/// Writes `original` as a retransmission and returns its length. Timestamp, marker, CSRCs and header
/// extensions stay; the rid goes out as repaired rid (RFC 8852 section 4.2). Padding is left out.
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn write(
    original: &Packet<'_>,
    ssrc: Ssrc,
    payload_type: PayloadType,
    sequence: SequenceNumber,
    map: &ExtensionMap,
    out: &mut [u8],
) -> Result<usize> {
    let header = Header {
        ssrc,
        payload_type,
        sequence,
        ..original.header()
    };
    let mut writer = PacketWriter::new(out, header)?;
    let mut csrcs = [Ssrc(0); 15];
    let count = original.csrcs().len();
    for (slot, csrc) in csrcs.iter_mut().zip(original.csrcs()) {
        *slot = csrc;
    }
    writer.csrcs(&csrcs[..count])?;
    if let Some((profile, data)) = original.raw_extension() {
        writer.raw_extension(profile, data)?;
    }
    let payload = original.payload();
    let slot = writer
        .payload_slot()
        .get_mut(..OVERHEAD + payload.len())
        .ok_or(Error::BufferTooSmall)?;
    slot[..OVERHEAD].copy_from_slice(&original.sequence().0.to_be_bytes());
    slot[OVERHEAD..].copy_from_slice(payload);
    let len = writer.finish(OVERHEAD + payload.len())?;
    swap_ids(
        &mut out[..len],
        map.id(ExtensionKind::Rid),
        map.id(ExtensionKind::RepairedRid),
    )?;
    Ok(len)
}

/// Turns a retransmission back into the original, in place, and gives its bytes: those of the packet
/// without its first two. The repaired rid becomes the rid.
///
/// # Errors
/// [`Error::Truncated`] for one without payload: a probe of a bandwidth estimator, to be dropped.
pub fn restore<'a>(
    packet: &'a mut [u8],
    ssrc: Ssrc,
    payload_type: PayloadType,
    map: &ExtensionMap,
) -> Result<&'a mut [u8]> {
    let view = Packet::parse(packet)?;
    if view.payload().len() <= OVERHEAD {
        return Err(Error::Truncated("retransmission"));
    }
    let header = Header {
        ssrc,
        payload_type,
        sequence: SequenceNumber(u16_at(view.payload(), 0)),
        ..view.header()
    };
    let header_len = view.header_len();
    packet.copy_within(..header_len, OVERHEAD);
    let original = &mut packet[OVERHEAD..];
    PacketMut::parse(original)?.set_header(header);
    swap_ids(
        original,
        map.id(ExtensionKind::RepairedRid),
        map.id(ExtensionKind::Rid),
    )?;
    Ok(original)
}

/// Renames the element `from` to `to`, or removes it if there is no such id.
fn swap_ids(packet: &mut [u8], from: Option<u8>, to: Option<u8>) -> Result<()> {
    let Some(from) = from else { return Ok(()) };
    let mut packet = PacketMut::parse(packet)?;
    packet.extensions_mut().rewrite(|id, _| match to {
        _ if id != from => ExtensionEdit::Keep(id),
        Some(to) => ExtensionEdit::Keep(to),
        None => ExtensionEdit::Remove,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retransmission_has_version_2_and_becomes_the_original_again() {
        let map: ExtensionMap = [
            (4, ExtensionKind::Mid),
            (10, ExtensionKind::Rid),
            (11, ExtensionKind::RepairedRid),
        ]
        .into_iter()
        .collect();
        let mut original = [0; 200];
        let header = Header {
            marker: true,
            payload_type: PayloadType::new(96).unwrap(),
            sequence: SequenceNumber(65_535),
            timestamp: 12_345,
            ssrc: Ssrc(7),
        };
        let mut writer = PacketWriter::new(&mut original, header).unwrap();
        writer.csrcs(&[Ssrc(1), Ssrc(2)]).unwrap();
        writer.extension(4, b"0").unwrap();
        writer.extension(10, b"hi").unwrap();
        let len = writer.finish_with(b"some payload").unwrap();
        let original = &original[..len];

        let mut out = [0; 200];
        let rtx = PayloadType::new(97).unwrap();
        let packet = Packet::parse(original).unwrap();
        let len = write(&packet, Ssrc(8), rtx, SequenceNumber(3), &map, &mut out).unwrap();
        assert_eq!(out[0] >> 6, 2);
        let again = Packet::parse(&out[..len]).unwrap();
        assert_eq!(again.ssrc(), Ssrc(8));
        assert_eq!(again.extensions().get(11), Some(&b"hi"[..]));
        assert_eq!(again.extensions().get(10), None);
        assert_eq!(again.payload()[..2], [0xff, 0xff]);
        let restored = restore(&mut out[..len], Ssrc(7), packet.payload_type(), &map).unwrap();
        assert_eq!(restored, original);
    }

    #[test]
    fn a_probe_without_payload_is_no_retransmission() {
        let mut probe = [0x80, 97, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 1, 2];
        let map = ExtensionMap::new();
        let pt = PayloadType::new(96).unwrap();
        assert!(restore(&mut probe[..12], Ssrc(7), pt, &map).is_err());
        assert!(restore(&mut probe, Ssrc(7), pt, &map).is_err());
    }
}
