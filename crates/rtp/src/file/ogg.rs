//! Opus in Ogg (RFC 3533, RFC 7845): one logical stream per file.

use std::io::{Read, Write};

use super::{FileError, Result, read_frame, read_or_end};

/// The longest Opus packet that is read or written, in bytes: 48 frames of 1275 bytes and headers.
pub const MAX_PACKET: usize = 61_440;
/// Samples per page that a writer aims at: one second, as players expect.
const PAGE_SAMPLES: u64 = 48_000;

const CONTINUED: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// The identification header (RFC 7845 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusHead {
    /// Channels, 1 or 2 (channel mapping family 0).
    pub channels: u8,
    /// Samples at 48 kHz to drop from the decoder's output.
    pub pre_skip: u16,
    /// The encoder's input rate in Hz; says nothing about decoding.
    pub input_rate: u32,
    /// Gain to apply, in 1/256 dB.
    pub gain: i16,
}

impl OpusHead {
    const LEN: usize = 19;

    fn parse(packet: &[u8]) -> Result<Self> {
        let fault = FileError::Malformed("not an Opus stream");
        let Some(bytes) = packet.first_chunk::<{ Self::LEN }>() else {
            return Err(fault);
        };
        // Minor versions are compatible (section 5.1).
        if &bytes[..8] != b"OpusHead" || bytes[8] & 0xf0 != 0 || bytes[9] == 0 {
            return Err(fault);
        }
        Ok(Self {
            channels: bytes[9],
            pre_skip: u16::from_le_bytes([bytes[10], bytes[11]]),
            input_rate: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            gain: i16::from_le_bytes([bytes[16], bytes[17]]),
        })
    }

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(b"OpusHead");
        bytes[8] = 1;
        bytes[9] = self.channels;
        bytes[10..12].copy_from_slice(&self.pre_skip.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.input_rate.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.gain.to_le_bytes());
        bytes
    }
}

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 0x8000_0000 != 0 {
                value << 1 ^ 0x04c1_1db7
            } else {
                value << 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

static CRC_TABLE: [u32; 256] = crc_table();

fn crc(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, &byte| {
        sum << 8 ^ CRC_TABLE[usize::from((sum >> 24) as u8 ^ byte)]
    })
}

/// Reads an Ogg/Opus file.
#[derive(Debug)]
pub struct OggReader<R> {
    stream: R,
    head: OpusHead,
    serial: Option<u32>,
    /// The page: segment table, how much of it is used, body, how much of it is used.
    segments: Vec<u8>,
    next_segment: usize,
    body: Vec<u8>,
    used: usize,
    granule: u64,
    ended: bool,
    /// Pages whose checksum did not fit, which were passed over.
    damaged_pages: u64,
}

impl<R: Read> OggReader<R> {
    /// Reads the two header packets.
    ///
    /// # Errors
    /// [`FileError::Malformed`] if it is no Ogg/Opus file; [`FileError::Io`].
    pub fn new(stream: R) -> Result<Self> {
        let mut reader = Self {
            stream,
            head: OpusHead {
                channels: 0,
                pre_skip: 0,
                input_rate: 0,
                gain: 0,
            },
            serial: None,
            segments: Vec::new(),
            next_segment: 0,
            body: Vec::new(),
            used: 0,
            granule: 0,
            ended: false,
            damaged_pages: 0,
        };
        let mut packet = Vec::new();
        if !reader.next_packet(&mut packet, MAX_PACKET)? {
            return Err(FileError::Malformed("not an Opus stream"));
        }
        reader.head = OpusHead::parse(&packet)?;
        // Comments may hold pictures (RFC 7845 section 5.2 allows to refuse large ones).
        if !reader.next_packet(&mut packet, 1 << 24)? || !packet.starts_with(b"OpusTags") {
            return Err(FileError::Malformed("Opus stream without tags"));
        }
        Ok(reader)
    }

    /// The identification header.
    pub const fn head(&self) -> &OpusHead {
        &self.head
    }

    /// Samples at 48 kHz up to the end of the page that the last packet came from.
    pub const fn granule(&self) -> u64 {
        self.granule
    }

    /// Pages that were passed over because their checksum did not fit.
    pub const fn damaged_pages(&self) -> u64 {
        self.damaged_pages
    }

    /// Reads the next Opus packet; false at the end.
    ///
    /// # Errors
    /// As [`Self::new`], and [`FileError::Limit`].
    pub fn read_packet(&mut self, packet: &mut Vec<u8>) -> Result<bool> {
        self.next_packet(packet, MAX_PACKET)
    }

    fn next_packet(&mut self, packet: &mut Vec<u8>, limit: usize) -> Result<bool> {
        packet.clear();
        let mut within = false;
        loop {
            while self.next_segment < self.segments.len() {
                let len = self.segments[self.next_segment];
                self.next_segment += 1;
                let end = self.used + usize::from(len);
                packet.extend_from_slice(&self.body[self.used..end]);
                self.used = end;
                if packet.len() > limit {
                    return Err(FileError::Limit("Ogg packet size"));
                }
                within = true;
                if len < 255 {
                    return Ok(true);
                }
            }
            if self.ended || !self.read_page(within, packet)? {
                return Ok(false);
            }
        }
    }

    /// Reads the next page of the stream. `within`: the page before ended within a packet.
    fn read_page(&mut self, within: bool, packet: &mut Vec<u8>) -> Result<bool> {
        loop {
            let mut head = [0; 27];
            if !read_or_end(&mut self.stream, &mut head)? {
                return Ok(false);
            }
            if &head[..5] != b"OggS\0" {
                return Err(FileError::Malformed("not an Ogg page"));
            }
            let sum = u32::from_le_bytes([head[22], head[23], head[24], head[25]]);
            head[22..26].fill(0);
            read_frame(&mut self.stream, head[26].into(), &mut self.segments)?;
            let len = self.segments.iter().map(|&len| usize::from(len)).sum();
            read_frame(&mut self.stream, len, &mut self.body)?;
            self.next_segment = self.segments.len();
            self.used = 0;
            if crc(crc(crc(0, &head), &self.segments), &self.body) != sum {
                self.damaged_pages += 1;
                continue;
            }
            let serial = u32::from_le_bytes([head[14], head[15], head[16], head[17]]);
            if *self.serial.get_or_insert(serial) != serial {
                continue;
            }
            let flags = head[5];
            self.ended = flags & LAST != 0;
            let mut granule = [0; 8];
            granule.copy_from_slice(&head[6..14]);
            // All ones: no packet ends here.
            if granule != [0xff; 8] {
                self.granule = u64::from_le_bytes(granule);
            }
            self.next_segment = 0;
            if flags & CONTINUED != 0 && !within {
                // The packet's beginning was on a page that is lost: pass over its end.
                while let Some(&len) = self.segments.get(self.next_segment) {
                    self.next_segment += 1;
                    self.used += usize::from(len);
                    if len < 255 {
                        break;
                    }
                }
            } else if flags & CONTINUED == 0 && within {
                packet.clear();
            }
            return Ok(true);
        }
    }
}

/// Writes an Ogg/Opus file, a page per second.
#[derive(Debug)]
pub struct OggWriter<W: Write> {
    stream: W,
    serial: u32,
    page: u32,
    granule: u64,
    /// Samples of the packets that wait for their page.
    pending: u64,
    segments: Vec<u8>,
    body: Vec<u8>,
}

impl<W: Write> OggWriter<W> {
    /// Writes the two header packets. `serial` is a number of the caller's choice.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn new(stream: W, serial: u32, head: OpusHead) -> Result<Self> {
        let mut writer = Self {
            stream,
            serial,
            page: 0,
            granule: 0,
            pending: 0,
            segments: Vec::new(),
            body: Vec::new(),
        };
        writer.append(&head.to_bytes());
        writer.flush_page(FIRST)?;
        let vendor = b"visavis";
        let mut tags = b"OpusTags".to_vec();
        tags.extend_from_slice(&(vendor.len() as u32).to_le_bytes());
        tags.extend_from_slice(vendor);
        tags.extend_from_slice(&0u32.to_le_bytes());
        writer.append(&tags);
        writer.flush_page(0)?;
        Ok(writer)
    }

    /// Appends an Opus packet that lasts `samples` at 48 kHz.
    ///
    /// # Errors
    /// [`FileError::Io`], [`FileError::Limit`].
    pub fn write_packet(&mut self, packet: &[u8], samples: u32) -> Result<()> {
        if packet.len() > MAX_PACKET {
            return Err(FileError::Limit("Ogg packet size"));
        }
        let segments = packet.len() / 255 + 1;
        if self.segments.len() + segments > 255 || self.pending >= PAGE_SAMPLES {
            self.flush_page(0)?;
        }
        self.append(packet);
        self.pending += u64::from(samples);
        Ok(())
    }

    /// Writes the last page and gives the stream back.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<W> {
        self.flush_page(LAST)?;
        self.stream.flush()?;
        Ok(self.stream)
    }

    fn append(&mut self, packet: &[u8]) {
        let full = packet.len() / 255;
        self.segments.extend(std::iter::repeat_n(255, full));
        self.segments.push((packet.len() % 255) as u8);
        self.body.extend_from_slice(packet);
    }

    fn flush_page(&mut self, flags: u8) -> Result<()> {
        self.granule += std::mem::take(&mut self.pending);
        let mut head = [0; 27];
        head[..4].copy_from_slice(b"OggS");
        head[5] = flags;
        head[6..14].copy_from_slice(&self.granule.to_le_bytes());
        head[14..18].copy_from_slice(&self.serial.to_le_bytes());
        head[18..22].copy_from_slice(&self.page.to_le_bytes());
        head[26] = self.segments.len() as u8;
        let sum = crc(crc(crc(0, &head), &self.segments), &self.body);
        head[22..26].copy_from_slice(&sum.to_le_bytes());
        self.stream.write_all(&head)?;
        self.stream.write_all(&self.segments)?;
        self.stream.write_all(&self.body)?;
        self.segments.clear();
        self.body.clear();
        self.page = self.page.wrapping_add(1);
        Ok(())
    }
}
