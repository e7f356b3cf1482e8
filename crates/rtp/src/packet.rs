//! An RTP packet as a view over bytes, and its writer over the caller's buffer (RFC 3550 section 5.1).

use crate::bytes::{u16_at, u32_at};
use crate::extension::{Extension, ExtensionKind, ExtensionMap, Extensions, ExtensionsMut};
use crate::extension::{Form, write_element};
use crate::{Error, PayloadType, Result, SequenceNumber, Ssrc};

/// Bytes of the fixed header.
pub const FIXED_HEADER: usize = 12;

/// Whether a datagram that is RTP or RTCP is RTCP (RFC 5761 section 4): the second byte, as a
/// packet type, lies in 192 to 223.
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.len() >= 2 && (192..=223).contains(&datagram[1])
}

/// The fields of the fixed header that a sender chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The marker bit; for video the last packet of a picture, for audio the first of a talk spurt.
    pub marker: bool,
    /// The payload type.
    pub payload_type: PayloadType,
    /// The sequence number.
    pub sequence: SequenceNumber,
    /// The sampling instant in ticks of the payload's clock.
    pub timestamp: u32,
    /// The source.
    pub ssrc: Ssrc,
}

/// Where the parts of a packet stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    csrcs: usize,
    /// The extension's profile value; the elements stand in `extension.0..extension.1`.
    profile: Option<u16>,
    extension: (usize, usize),
    payload: (usize, usize),
}

impl Layout {
    fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < FIXED_HEADER {
            return Err(Error::Truncated("RTP header"));
        }
        if bytes[0] >> 6 != 2 {
            return Err(Error::Version);
        }
        let csrcs = usize::from(bytes[0] & 0x0f);
        let mut offset = FIXED_HEADER + csrcs * 4;
        if offset > bytes.len() {
            return Err(Error::Truncated("CSRC list"));
        }
        let mut profile = None;
        let mut extension = (offset, offset);
        if bytes[0] & 0x10 != 0 {
            if offset + 4 > bytes.len() {
                return Err(Error::Truncated("RTP header extension"));
            }
            profile = Some(u16_at(bytes, offset));
            let len = usize::from(u16_at(bytes, offset + 2)) * 4;
            offset += 4;
            extension = (offset, offset + len);
            offset += len;
            if offset > bytes.len() {
                return Err(Error::Truncated("RTP header extension"));
            }
        }
        let mut end = bytes.len();
        if bytes[0] & 0x20 != 0 {
            let padding = usize::from(bytes[end - 1]);
            if padding == 0 || padding > end - offset {
                return Err(Error::Padding);
            }
            end -= padding;
        }
        Ok(Self {
            csrcs,
            profile,
            extension,
            payload: (offset, end),
        })
    }
}

fn header_of(bytes: &[u8]) -> Header {
    Header {
        marker: bytes[1] & 0x80 != 0,
        payload_type: PayloadType::from_bits(bytes[1]),
        sequence: SequenceNumber(u16_at(bytes, 2)),
        timestamp: u32_at(bytes, 4),
        ssrc: Ssrc(u32_at(bytes, 8)),
    }
}

/// An RTP packet, parsed in place.
///
/// ```
/// use visavis_rtp::{Header, Packet, PacketWriter, PayloadType, SequenceNumber, Ssrc};
///
/// let mut buffer = [0; 100];
/// let header = Header {
///     marker: true,
///     payload_type: PayloadType::new(96).unwrap(),
///     sequence: SequenceNumber(7),
///     timestamp: 90_000,
///     ssrc: Ssrc(1),
/// };
/// let mut writer = PacketWriter::new(&mut buffer, header).unwrap();
/// writer.extension(3, b"0").unwrap();
/// let len = writer.finish_with(b"payload").unwrap();
///
/// let packet = Packet::parse(&buffer[..len]).unwrap();
/// assert_eq!(packet.header(), header);
/// assert_eq!(packet.extensions().get(3), Some(&b"0"[..]));
/// assert_eq!(packet.payload(), b"payload");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a> Packet<'a> {
    /// Reads the header; the payload is not looked at.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Version`] or [`Error::Padding`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let layout = Layout::parse(bytes)?;
        Ok(Self { bytes, layout })
    }

    /// The fixed header's fields.
    pub fn header(&self) -> Header {
        header_of(self.bytes)
    }

    /// The marker bit.
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// The payload type.
    pub fn payload_type(&self) -> PayloadType {
        PayloadType::from_bits(self.bytes[1])
    }

    /// The sequence number.
    pub fn sequence(&self) -> SequenceNumber {
        SequenceNumber(u16_at(self.bytes, 2))
    }

    /// The RTP timestamp in ticks of the payload's clock.
    pub fn timestamp(&self) -> u32 {
        u32_at(self.bytes, 4)
    }

    /// The source.
    pub fn ssrc(&self) -> Ssrc {
        Ssrc(u32_at(self.bytes, 8))
    }

    /// The contributing sources, up to 15.
    pub fn csrcs(&self) -> impl ExactSizeIterator<Item = Ssrc> + use<'a> {
        let bytes = self.bytes;
        (0..self.layout.csrcs).map(move |index| Ssrc(u32_at(bytes, FIXED_HEADER + index * 4)))
    }

    /// The header extension's elements; none if there is no extension or its form is not RFC 8285's.
    pub fn extensions(&self) -> Extensions<'a> {
        let (from, to) = self.layout.extension;
        Extensions::new(self.layout.profile.unwrap_or(0), &self.bytes[from..to])
    }

    /// The header extension's profile value and bytes, whatever their form; `None` without extension.
    pub fn raw_extension(&self) -> Option<(u16, &'a [u8])> {
        let (from, to) = self.layout.extension;
        self.layout
            .profile
            .map(|profile| (profile, &self.bytes[from..to]))
    }

    /// A typed header extension; `None` if it is not negotiated, absent or malformed.
    pub fn extension<E: Extension<'a>>(&self, map: &ExtensionMap) -> Option<E> {
        E::parse(self.extension_bytes(map, E::KIND)?).ok()
    }

    /// The bytes of a header extension; `None` if it is not negotiated or absent.
    pub fn extension_bytes(&self, map: &ExtensionMap, kind: ExtensionKind) -> Option<&'a [u8]> {
        self.extensions().get(map.id(kind)?)
    }

    /// The payload without padding.
    pub fn payload(&self) -> &'a [u8] {
        let (from, to) = self.layout.payload;
        &self.bytes[from..to]
    }

    /// Bytes before the payload: fixed header, CSRCs and extension.
    pub fn header_len(&self) -> usize {
        self.layout.payload.0
    }

    /// Bytes of padding behind the payload, with the count itself.
    pub fn padding_len(&self) -> usize {
        self.bytes.len() - self.layout.payload.1
    }

    /// The whole packet.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// An RTP packet whose fields change in place, for forwarding.
#[derive(Debug)]
pub struct PacketMut<'a> {
    bytes: &'a mut [u8],
    layout: Layout,
}

impl<'a> PacketMut<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// As [`Packet::parse`].
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self> {
        let layout = Layout::parse(bytes)?;
        Ok(Self { bytes, layout })
    }

    /// The packet as it stands.
    pub fn as_packet(&self) -> Packet<'_> {
        Packet {
            bytes: self.bytes,
            layout: self.layout,
        }
    }

    /// Replaces all fields of the fixed header.
    pub fn set_header(&mut self, header: Header) {
        self.bytes[1] = u8::from(header.marker) << 7 | header.payload_type.value();
        self.bytes[2..4].copy_from_slice(&header.sequence.0.to_be_bytes());
        self.bytes[4..8].copy_from_slice(&header.timestamp.to_be_bytes());
        self.bytes[8..12].copy_from_slice(&header.ssrc.0.to_be_bytes());
    }

    /// Changes the marker bit.
    pub fn set_marker(&mut self, marker: bool) {
        self.bytes[1] = self.bytes[1] & 0x7f | u8::from(marker) << 7;
    }

    /// Changes the payload type.
    pub fn set_payload_type(&mut self, payload_type: PayloadType) {
        self.bytes[1] = self.bytes[1] & 0x80 | payload_type.value();
    }

    /// Changes the sequence number.
    pub fn set_sequence(&mut self, sequence: SequenceNumber) {
        self.bytes[2..4].copy_from_slice(&sequence.0.to_be_bytes());
    }

    /// Changes the timestamp.
    pub fn set_timestamp(&mut self, timestamp: u32) {
        self.bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
    }

    /// Changes the source.
    pub fn set_ssrc(&mut self, ssrc: Ssrc) {
        self.bytes[8..12].copy_from_slice(&ssrc.0.to_be_bytes());
    }

    /// The header extension's elements, to be changed, renumbered or removed in place.
    pub fn extensions_mut(&mut self) -> ExtensionsMut<'_> {
        let (from, to) = self.layout.extension;
        ExtensionsMut::new(self.layout.profile.unwrap_or(0), &mut self.bytes[from..to])
    }

    /// The payload without padding.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (from, to) = self.layout.payload;
        &mut self.bytes[from..to]
    }
}

/// Writes an RTP packet into the caller's buffer: header, then CSRCs, extensions, payload, padding.
#[derive(Debug)]
pub struct PacketWriter<'b> {
    buffer: &'b mut [u8],
    form: Form,
    /// Where the elements begin; 0 while there are none.
    elements: usize,
    /// Whether the elements so far have two-byte headers.
    two_byte: bool,
    len: usize,
}

impl<'b> PacketWriter<'b> {
    /// Writes the fixed header.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn new(buffer: &'b mut [u8], header: Header) -> Result<Self> {
        if buffer.len() < FIXED_HEADER {
            return Err(Error::BufferTooSmall);
        }
        buffer[0] = 0x80;
        let mut packet = PacketMut {
            bytes: buffer,
            layout: Layout {
                csrcs: 0,
                profile: None,
                extension: (0, 0),
                payload: (0, 0),
            },
        };
        packet.set_header(header);
        Ok(Self {
            buffer: packet.bytes,
            form: Form::Auto,
            elements: 0,
            two_byte: false,
            len: FIXED_HEADER,
        })
    }

    /// Which element headers to write; [`Form::Auto`] unless told. Before the first extension.
    pub fn set_form(&mut self, form: Form) {
        self.form = form;
    }

    /// Writes the contributing sources, up to 15. Before the first extension, and once.
    ///
    /// # Errors
    /// [`Error::NotRepresentable`] for more than 15, or out of order; [`Error::BufferTooSmall`].
    pub fn csrcs(&mut self, csrcs: &[Ssrc]) -> Result<()> {
        if csrcs.len() > 15 || self.len != FIXED_HEADER {
            return Err(Error::NotRepresentable("CSRC list"));
        }
        let slot = self
            .buffer
            .get_mut(self.len..self.len + csrcs.len() * 4)
            .ok_or(Error::BufferTooSmall)?;
        for (slot, csrc) in slot.chunks_exact_mut(4).zip(csrcs) {
            slot.copy_from_slice(&csrc.0.to_be_bytes());
        }
        self.len += csrcs.len() * 4;
        self.buffer[0] |= csrcs.len() as u8;
        Ok(())
    }

    /// Adds a header extension element.
    ///
    /// # Errors
    /// [`Error::NotRepresentable`] if the form cannot carry this id or length (one-byte: id 1 to 14,
    /// 1 to 16 bytes; two-byte: id 1 to 255, 0 to 255 bytes); [`Error::BufferTooSmall`].
    pub fn extension(&mut self, id: u8, data: &[u8]) -> Result<()> {
        self.extension_slot(id, data.len())?.copy_from_slice(data);
        Ok(())
    }

    /// Adds a header extension element of `len` bytes and gives its place, to be filled.
    ///
    /// # Errors
    /// As [`Self::extension`].
    pub fn extension_slot(&mut self, id: u8, len: usize) -> Result<&mut [u8]> {
        let fits_one_byte = (1..=14).contains(&id) && (1..=16).contains(&len);
        let fits_two_byte = id != 0 && len <= 255;
        let fits = match self.form {
            Form::OneByte => fits_one_byte,
            Form::TwoByte | Form::Auto => fits_two_byte,
        };
        if !fits {
            return Err(Error::NotRepresentable("header extension element"));
        }
        if self.elements == 0 {
            if self.len + 4 > self.buffer.len() {
                return Err(Error::BufferTooSmall);
            }
            self.elements = self.len + 4;
            self.len += 4;
            self.two_byte = self.form == Form::TwoByte;
        }
        if self.form == Form::Auto && !self.two_byte && !fits_one_byte {
            self.widen()?;
        }
        let header = if self.two_byte { 2 } else { 1 };
        // Room for the padding to a word is checked too, so that finishing cannot fail for it.
        let end = self.len + header + len;
        let padded = self.elements + (end - self.elements).next_multiple_of(4);
        if padded > self.buffer.len() {
            return Err(Error::BufferTooSmall);
        }
        write_element(&mut self.buffer[self.len..], self.two_byte, id, len);
        let slot = self.len + header..end;
        self.len = end;
        Ok(&mut self.buffer[slot])
    }

    /// Adds a typed header extension if it is negotiated.
    ///
    /// # Errors
    /// As [`Self::extension`].
    pub fn typed<'e, E: Extension<'e>>(&mut self, map: &ExtensionMap, value: &E) -> Result<()> {
        match map.id(E::KIND) {
            Some(id) => {
                let slot = self.extension_slot(id, value.encoded_len())?;
                value.write(slot);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Copies a packet's whole extension as it stands, profile and all. Instead of other extensions.
    ///
    /// # Errors
    /// [`Error::NotRepresentable`] after another extension or for a length that is no multiple of
    /// four below 2^18; [`Error::BufferTooSmall`].
    pub fn raw_extension(&mut self, profile: u16, data: &[u8]) -> Result<()> {
        if self.elements != 0 || !data.len().is_multiple_of(4) || data.len() / 4 > 0xffff {
            return Err(Error::NotRepresentable("header extension"));
        }
        let start = self.len;
        let slot = self
            .buffer
            .get_mut(start..start + 4 + data.len())
            .ok_or(Error::BufferTooSmall)?;
        slot[..2].copy_from_slice(&profile.to_be_bytes());
        slot[2..4].copy_from_slice(&((data.len() / 4) as u16).to_be_bytes());
        slot[4..].copy_from_slice(data);
        self.len += 4 + data.len();
        self.buffer[0] |= 0x10;
        Ok(())
    }

    /// Bytes of header so far, with the extension's padding.
    pub fn header_len(&self) -> usize {
        match self.elements {
            0 => self.len,
            elements => elements + (self.len - elements).next_multiple_of(4),
        }
    }

    /// Closes the header and gives the rest of the buffer, to be filled with the payload; tell its
    /// length to [`finish`](Self::finish).
    pub fn payload_slot(&mut self) -> &mut [u8] {
        self.close_extension();
        &mut self.buffer[self.len..]
    }

    /// Ends a packet whose payload of `len` bytes stands in the [`payload_slot`](Self::payload_slot).
    /// Returns the packet's length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn finish(mut self, len: usize) -> Result<usize> {
        self.close_extension();
        let end = self.len + len;
        if end > self.buffer.len() {
            return Err(Error::BufferTooSmall);
        }
        Ok(end)
    }

    /// Ends the packet with a copy of `payload`. Returns the packet's length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn finish_with(mut self, payload: &[u8]) -> Result<usize> {
        self.payload_slot()
            .get_mut(..payload.len())
            .ok_or(Error::BufferTooSmall)?
            .copy_from_slice(payload);
        self.finish(payload.len())
    }

    /// Ends the packet with a copy of `payload` and `padding` bytes behind it. Returns the packet's
    /// length.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`].
    pub fn finish_padded(mut self, payload: &[u8], padding: u8) -> Result<usize> {
        if padding == 0 {
            return self.finish_with(payload);
        }
        let total = payload.len() + usize::from(padding);
        let slot = self
            .payload_slot()
            .get_mut(..total)
            .ok_or(Error::BufferTooSmall)?;
        slot[..payload.len()].copy_from_slice(payload);
        slot[payload.len()..total - 1].fill(0);
        slot[total - 1] = padding;
        self.buffer[0] |= 0x20;
        self.finish(total)
    }

    /// Writes the extension's length and pads it to a word.
    fn close_extension(&mut self) {
        if self.elements == 0 {
            return;
        }
        let end = self.header_len();
        self.buffer[self.len..end].fill(0);
        let profile: u16 = if self.two_byte { 0x1000 } else { 0xbede };
        let words = ((end - self.elements) / 4) as u16;
        let start = self.elements - 4;
        self.buffer[start..start + 2].copy_from_slice(&profile.to_be_bytes());
        self.buffer[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        self.buffer[0] |= 0x10;
        self.len = end;
        self.elements = 0;
    }

    /// Turns the elements so far into two-byte ones, from the last to the first.
    fn widen(&mut self) -> Result<()> {
        let elements = &self.buffer[self.elements..self.len];
        let count = Extensions::new(0xbede, elements).iter().count();
        if self.len + count > self.buffer.len() {
            return Err(Error::BufferTooSmall);
        }
        let mut target = self.len + count;
        for remaining in (0..count).rev() {
            // Elements are few: finding each from the front is cheaper than a list of them.
            let elements = &self.buffer[self.elements..self.len];
            let Some((id, data)) = Extensions::new(0xbede, elements).iter().nth(remaining) else {
                break;
            };
            let len = data.len();
            let offset = data.as_ptr() as usize - self.buffer.as_ptr() as usize;
            target -= len + 2;
            self.buffer.copy_within(offset..offset + len, target + 2);
            write_element(&mut self.buffer[target..], true, id, len);
        }
        self.len += count;
        self.two_byte = true;
        Ok(())
    }
}
