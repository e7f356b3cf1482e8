//! What ULPFEC and FlexFEC share: the parity of RTP packets (RFC 5109 section 8, RFC 8627 section 6).

use crate::bytes::{u16_at, u32_at};
use crate::{Error, FIXED_HEADER, Result, SequenceNumber, Ssrc};

/// Parity of the header fields of the protected packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// P, X, CC; M and PT: the first two bytes without the version.
    pub head: [u8; 2],
    /// Length of what follows the fixed header.
    pub length: u16,
    /// The timestamp.
    pub timestamp: u32,
}

impl Recovery {
    /// Adds a packet, header and all, and its bytes behind the fixed header to `payload`, as far as
    /// they go.
    fn add(&mut self, packet: &[u8], payload: &mut [u8]) -> Result<()> {
        if packet.len() < FIXED_HEADER || packet.len() - FIXED_HEADER > 0xffff {
            return Err(Error::Truncated("protected packet"));
        }
        self.head[0] ^= packet[0] & 0x3f;
        self.head[1] ^= packet[1];
        self.length ^= (packet.len() - FIXED_HEADER) as u16;
        self.timestamp ^= u32_at(packet, 4);
        for (sum, byte) in payload.iter_mut().zip(&packet[FIXED_HEADER..]) {
            *sum ^= byte;
        }
        Ok(())
    }
}

/// A parity packet, read from its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FecPacket<'a> {
    /// The protected source, if the packet names it (FlexFEC).
    pub ssrc: Option<Ssrc>,
    /// The first protected packet.
    pub base: SequenceNumber,
    /// Bit `i` is set if packet `base + i` is protected.
    pub mask: u128,
    /// Parity of the headers.
    pub recovery: Recovery,
    /// Parity of what follows the fixed headers.
    pub payload: &'a [u8],
}

impl FecPacket<'_> {
    /// The protected packets.
    pub fn protected(&self) -> impl Iterator<Item = SequenceNumber> + use<> {
        let (base, mask) = (self.base, self.mask);
        (0..128)
            .filter(move |bit| mask >> bit & 1 != 0)
            .map(move |bit| base.add(bit))
    }

    /// Whether a packet is protected.
    pub const fn protects(&self, sequence: SequenceNumber) -> bool {
        let step = sequence.distance(self.base);
        step >= 0 && step < 128 && self.mask >> step & 1 != 0
    }

    /// Recovers the packet `missing` of `ssrc` into `out` from all other protected packets, and
    /// returns its length.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the parity does not make a packet, or does not cover all of it;
    /// [`Error::BufferTooSmall`].
    pub fn recover<'p>(
        &self,
        missing: SequenceNumber,
        ssrc: Ssrc,
        others: impl IntoIterator<Item = &'p [u8]>,
        out: &mut [u8],
    ) -> Result<usize> {
        let end = FIXED_HEADER + self.payload.len();
        let slot = out.get_mut(..end).ok_or(Error::BufferTooSmall)?;
        let (head, body) = slot.split_at_mut(FIXED_HEADER);
        body.copy_from_slice(self.payload);
        let mut recovery = self.recovery;
        for packet in others {
            recovery.add(packet, body)?;
        }
        let len = usize::from(recovery.length);
        if len > body.len() {
            return Err(Error::Malformed("parity does not cover the packet"));
        }
        head[0] = 0x80 | recovery.head[0] & 0x3f;
        head[1] = recovery.head[1];
        head[2..4].copy_from_slice(&missing.0.to_be_bytes());
        head[4..8].copy_from_slice(&recovery.timestamp.to_be_bytes());
        head[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
        let len = FIXED_HEADER + len;
        crate::Packet::parse(&out[..len])
            .map_err(|_| Error::Malformed("parity makes no packet"))?;
        Ok(len)
    }
}

/// The packets that a parity packet is to protect.
pub(super) struct Protected {
    pub(super) base: SequenceNumber,
    pub(super) mask: u128,
    pub(super) recovery: Recovery,
    /// Bytes of the longest packet behind the fixed header.
    pub(super) len: usize,
}

/// Adds packets of one source, within 109 numbers of each other, up; their parity goes to `payload`.
pub(super) fn protect<'p>(
    packets: impl Iterator<Item = &'p [u8]> + Clone,
    payload: &mut [u8],
) -> Result<Protected> {
    let mut base = None::<SequenceNumber>;
    let mut len = 0;
    for packet in packets.clone() {
        if packet.len() < FIXED_HEADER {
            return Err(Error::Truncated("protected packet"));
        }
        let sequence = SequenceNumber(u16_at(packet, 2));
        if base.is_none_or(|base| base.is_after(sequence)) {
            base = Some(sequence);
        }
        len = len.max(packet.len() - FIXED_HEADER);
    }
    let base = base.ok_or(Error::NotRepresentable("parity of no packet"))?;
    let payload = payload.get_mut(..len).ok_or(Error::BufferTooSmall)?;
    payload.fill(0);
    let mut protected = Protected {
        base,
        mask: 0,
        recovery: Recovery::default(),
        len,
    };
    for packet in packets {
        let step = SequenceNumber(u16_at(packet, 2)).distance(base);
        if !(0..109).contains(&step) {
            return Err(Error::NotRepresentable("parity over more than 109 packets"));
        }
        protected.mask |= 1 << step;
        protected.recovery.add(packet, payload)?;
    }
    Ok(protected)
}
