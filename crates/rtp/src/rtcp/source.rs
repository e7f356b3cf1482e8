//! Who a source is, its goodbye, and application packets (RFC 3550 sections 6.5 to 6.7).

use crate::bytes::{Reader, u32_at};
use crate::{Error, Result, Ssrc};

/// The type of a source description item (RFC 3550 section 12.2, RFC 8843, RFC 8852).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SdesItem(pub u8);

impl SdesItem {
    /// Canonical name.
    pub const CNAME: Self = Self(1);
    /// User name.
    pub const NAME: Self = Self(2);
    /// E-mail address.
    pub const EMAIL: Self = Self(3);
    /// Phone number.
    pub const PHONE: Self = Self(4);
    /// Location.
    pub const LOC: Self = Self(5);
    /// Name of the tool.
    pub const TOOL: Self = Self(6);
    /// A note.
    pub const NOTE: Self = Self(7);
    /// Private extension.
    pub const PRIV: Self = Self(8);
    /// Stream identifier of RFC 8852.
    pub const RTP_STREAM_ID: Self = Self(12);
    /// Repaired stream's identifier of RFC 8852.
    pub const REPAIRED_RTP_STREAM_ID: Self = Self(13);
    /// Media section of RFC 9143.
    pub const MID: Self = Self(15);
}

/// A source description packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sdes<'a> {
    count: u8,
    body: &'a [u8],
}

impl<'a> Sdes<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self> {
        let mut rest = body;
        for _ in 0..count {
            rest = SdesChunk::split(rest)?.1;
        }
        if !rest.is_empty() {
            return Err(Error::Malformed("SDES chunk count"));
        }
        Ok(Self { count, body })
    }

    /// The chunks, one per source, up to 31.
    pub fn chunks(&self) -> impl Iterator<Item = SdesChunk<'a>> + use<'a> {
        let mut rest = self.body;
        (0..self.count).map_while(move |_| {
            let (chunk, tail) = SdesChunk::split(rest).ok()?;
            rest = tail;
            Some(chunk)
        })
    }

    /// The canonical name of a source.
    pub fn cname(&self, ssrc: Ssrc) -> Option<&'a [u8]> {
        self.chunks()
            .find(|chunk| chunk.ssrc == ssrc)?
            .item(SdesItem::CNAME)
    }
}

/// The items of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SdesChunk<'a> {
    /// The source.
    pub ssrc: Ssrc,
    items: &'a [u8],
}

impl<'a> SdesChunk<'a> {
    /// Splits the first chunk off `bytes`, and checks it.
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8])> {
        let mut reader = Reader::new(bytes, "SDES chunk");
        let ssrc = Ssrc(reader.u32()?);
        let items = reader.rest();
        while reader.u8()? != 0 {
            let len = reader.u8()?;
            reader.take(len.into())?;
        }
        // The terminating zero is followed by zeros up to the next word.
        let used = bytes.len() - reader.len();
        reader.take(used.next_multiple_of(4) - used)?;
        let end = items.len() - reader.len();
        let chunk = Self {
            ssrc,
            items: &items[..end],
        };
        Ok((chunk, reader.rest()))
    }

    /// Type and text of each item.
    pub fn items(&self) -> impl Iterator<Item = (SdesItem, &'a [u8])> + use<'a> {
        let mut rest = self.items;
        std::iter::from_fn(move || {
            let (&[kind, len], tail) = rest.split_first_chunk::<2>()?;
            if kind == 0 {
                return None;
            }
            let (text, tail) = tail.split_at_checked(len.into())?;
            rest = tail;
            Some((SdesItem(kind), text))
        })
    }

    /// The text of the first item of a type.
    pub fn item(&self, kind: SdesItem) -> Option<&'a [u8]> {
        self.items()
            .find(|&(found, _)| found == kind)
            .map(|(_, text)| text)
    }
}

/// A goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bye<'a> {
    sources: &'a [u8],
    /// Why, if it says so.
    pub reason: Option<&'a [u8]>,
}

impl<'a> Bye<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "BYE");
        let sources = reader.take(usize::from(count) * 4)?;
        let reason = match reader.is_empty() {
            true => None,
            false => {
                let len = reader.u8()?;
                Some(reader.take(len.into())?)
            }
        };
        Ok(Self { sources, reason })
    }

    /// The sources that leave, up to 31.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = Ssrc> + use<'a> {
        self.sources
            .chunks_exact(4)
            .map(|ssrc| Ssrc(u32_at(ssrc, 0)))
    }
}

/// An application-defined packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App<'a> {
    /// Five bits of the application's choice.
    pub subtype: u8,
    /// Who sends it.
    pub ssrc: Ssrc,
    /// Four ASCII letters.
    pub name: [u8; 4],
    /// Whole words of data.
    pub data: &'a [u8],
}

impl<'a> App<'a> {
    pub(super) fn parse(subtype: u8, body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, "APP");
        Ok(Self {
            subtype,
            ssrc: Ssrc(reader.u32()?),
            name: reader.array()?,
            data: reader.rest(),
        })
    }
}
