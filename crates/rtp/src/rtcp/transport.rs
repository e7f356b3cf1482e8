//! Transport-wide feedback: which packets of a transport arrived, and when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).

use super::feedback::RawFeedback;
use crate::bytes::{Reader, Writer};
use crate::{Error, Result, SequenceNumber, Ssrc};

/// What a feedback says about one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PacketStatus {
    /// The packet's transport-wide sequence number.
    pub sequence: SequenceNumber,
    /// When it arrived, in units of 250 µs since [`TransportFeedback::reference_time`]; `None` if it
    /// did not.
    pub arrival: Option<i64>,
}

/// A packet that arrived, for a feedback to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// The packet's transport-wide sequence number.
    pub sequence: SequenceNumber,
    /// When it arrived, in microseconds on the receiver's clock, any origin.
    pub micros: u64,
}

/// A transport-wide feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// Who sends it.
    pub sender: Ssrc,
    /// Any source of the transport.
    pub media: Ssrc,
    /// The first packet that it is about.
    pub base: SequenceNumber,
    /// How many packets it is about.
    pub count: u16,
    /// What arrival times count from, in units of 64 ms; wraps around after 24 bits.
    pub reference_time: u32,
    /// Counts feedbacks, so that lost ones are noticed.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// Two bits of a status symbol.
const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// Walks over the symbols of status chunks.
#[derive(Debug, Clone)]
struct Symbols<'a> {
    chunks: &'a [u8],
    chunk: u16,
    /// Symbols of `chunk` that are left.
    left: u16,
}

impl<'a> Symbols<'a> {
    const fn new(chunks: &'a [u8]) -> Self {
        Self {
            chunks,
            chunk: 0,
            left: 0,
        }
    }
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        while self.left == 0 {
            let (chunk, rest) = self.chunks.split_first_chunk::<2>()?;
            self.chunk = u16::from_be_bytes(*chunk);
            self.chunks = rest;
            self.left = match self.chunk >> 14 {
                0 | 1 => self.chunk & 0x1fff,
                2 => 14,
                _ => 7,
            };
        }
        self.left -= 1;
        Some(match self.chunk >> 14 {
            0 | 1 => (self.chunk >> 13 & 3) as u8,
            2 => (self.chunk >> self.left & 1) as u8,
            _ => (self.chunk >> (2 * self.left) & 3) as u8,
        })
    }
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(feedback: RawFeedback<'a>) -> Result<Self> {
        let mut reader = Reader::new(feedback.information, "transport-wide feedback");
        let base = SequenceNumber(reader.u16()?);
        let count = reader.u16()?;
        let reference_time = reader.u24()?;
        let feedback_count = reader.u8()?;
        if count == 0 {
            return Err(Error::Malformed("transport-wide feedback about no packet"));
        }
        let body = reader.rest();
        // Where the chunks end is known once their symbols cover the packets.
        let mut covered = 0u32;
        while covered < u32::from(count) {
            let chunk = reader.u16()?;
            covered += match chunk >> 14 {
                0 | 1 => u32::from(chunk & 0x1fff),
                2 => 14,
                _ => 7,
            };
        }
        let chunks = &body[..body.len() - reader.len()];
        let mut needed = 0;
        for symbol in Symbols::new(chunks).take(count.into()) {
            needed += match symbol {
                NOT_RECEIVED => 0,
                SMALL_DELTA => 1,
                LARGE_DELTA => 2,
                _ => return Err(Error::Malformed("reserved packet status")),
            };
        }
        let deltas = reader.take(needed)?;
        Ok(Self {
            sender: feedback.sender,
            media: feedback.media,
            base,
            count,
            reference_time,
            feedback_count,
            chunks,
            deltas,
        })
    }

    /// What it says about each packet, in order.
    pub fn packets(&self) -> impl Iterator<Item = PacketStatus> + use<'a> {
        let mut deltas = self.deltas;
        let mut arrival = 0i64;
        let mut sequence = self.base;
        Symbols::new(self.chunks)
            .take(self.count.into())
            .map_while(move |symbol| {
                let delta = match symbol {
                    SMALL_DELTA => {
                        let (&delta, rest) = deltas.split_first()?;
                        deltas = rest;
                        Some(i64::from(delta))
                    }
                    LARGE_DELTA => {
                        let (delta, rest) = deltas.split_first_chunk::<2>()?;
                        deltas = rest;
                        Some(i64::from(i16::from_be_bytes(*delta)))
                    }
                    _ => None,
                };
                let status = PacketStatus {
                    sequence,
                    arrival: delta.map(|delta| {
                        arrival += delta;
                        arrival
                    }),
                };
                sequence = sequence.next();
                Some(status)
            })
    }

    /// The reference time in microseconds, 0 to about 12.4 days.
    pub const fn reference_micros(&self) -> u64 {
        self.reference_time as u64 * 64_000
    }
}

/// Folds symbols into status chunks: a run while they are equal, a vector once they are not.
#[derive(Debug, Default)]
struct ChunkFolder {
    symbols: [u8; 14],
    len: usize,
    /// Length of the run, if all symbols so far are equal; they may be more than 14.
    run: u16,
    all_equal: bool,
    has_large: bool,
}

impl ChunkFolder {
    /// Whether a chunk with one more `symbol` is possible.
    fn fits(&self, symbol: u8) -> bool {
        if self.len < 7 {
            return true;
        }
        if self.len < 14 && !self.has_large && symbol != LARGE_DELTA {
            return true;
        }
        self.all_equal && self.run < 0x1fff && symbol == self.symbols[0]
    }

    fn push(&mut self, symbol: u8) {
        if self.run == 0 {
            self.all_equal = true;
            self.has_large = false;
        }
        if self.len < 14 {
            self.symbols[self.len] = symbol;
            self.len += 1;
        }
        self.all_equal &= symbol == self.symbols[0];
        self.has_large |= symbol == LARGE_DELTA;
        self.run += 1;
    }

    /// The chunk for as many symbols as one can hold; the rest stays.
    fn emit(&mut self) -> u16 {
        if self.all_equal {
            let chunk = u16::from(self.symbols[0]) << 13 | self.run;
            *self = Self::default();
            return chunk;
        }
        if !self.has_large && self.len == 14 {
            let bits = self
                .symbols
                .iter()
                .fold(0u16, |bits, &symbol| bits << 1 | u16::from(symbol));
            *self = Self::default();
            return 0x8000 | bits;
        }
        let taken = self.len.min(7);
        let chunk = self.vector(taken);
        let rest = self.symbols;
        let len = self.len;
        *self = Self::default();
        for &symbol in &rest[taken..len] {
            self.push(symbol);
        }
        chunk
    }

    /// The last chunk: what is missing counts as not received, and is beyond the count.
    fn last(&mut self) -> u16 {
        if self.all_equal || self.len <= 7 || self.has_large {
            return self.emit();
        }
        let mut bits = 0u16;
        for index in 0..14 {
            let symbol = self.symbols.get(index).filter(|_| index < self.len);
            bits = bits << 1 | u16::from(symbol.copied().unwrap_or(0));
        }
        *self = Self::default();
        0x8000 | bits
    }

    fn vector(&self, taken: usize) -> u16 {
        let mut bits = 0u16;
        for index in 0..7 {
            let symbol = self.symbols.get(index).filter(|_| index < taken);
            bits = bits << 2 | u16::from(symbol.copied().unwrap_or(0));
        }
        0xc000 | bits
    }
}

/// Writes the information of a feedback: as many arrivals as fit. Returns how many, at least one.
pub(super) fn write(
    writer: &mut Writer<'_>,
    base: SequenceNumber,
    feedback_count: u8,
    arrivals: &[Arrival],
) -> Result<usize> {
    let first = arrivals
        .first()
        .ok_or(Error::NotRepresentable("feedback about no packet"))?;
    let reference = first.micros / 64_000;
    let head_at = writer.len();
    let head = writer.slot(8)?;
    head[..2].copy_from_slice(&base.0.to_be_bytes());
    let bits = (reference as u32) << 8 | u32::from(feedback_count);
    head[4..8].copy_from_slice(&bits.to_be_bytes());
    let room = writer.available();

    // Chunks come first and then deltas: fold the chunks, then walk once more for the deltas.
    let mut folder = ChunkFolder::default();
    let mut chunk_bytes = 0;
    let mut delta_bytes = 0;
    let mut covered = 0u32;
    let mut taken = 0;
    let mut expected = base;
    let mut time = reference as i64 * 256;
    for arrival in arrivals {
        let gap = arrival.sequence.distance(expected);
        let ticks = (arrival.micros / 250) as i64;
        let delta = ticks - time;
        let (symbol, size) = match delta {
            0..=0xff => (SMALL_DELTA, 1),
            -0x8000..=0x7fff => (LARGE_DELTA, 2),
            _ => break,
        };
        if gap < 0 || covered + gap as u32 + 1 > 0xffff {
            break;
        }
        // The most that the gap and this symbol can add: what is folded so far (three chunks at
        // most), the gap (vectors up to its first 14, then runs), and the symbol.
        let gap_chunks = 3 + gap as usize / 0x1fff;
        let worst = chunk_bytes + (3 + gap_chunks) * 2 + delta_bytes + size;
        if worst.next_multiple_of(4) > room {
            break;
        }
        for index in 0..=gap {
            let symbol = if index == gap { symbol } else { NOT_RECEIVED };
            while !folder.fits(symbol) {
                writer.u16(folder.emit())?;
                chunk_bytes += 2;
            }
            folder.push(symbol);
        }
        covered += gap as u32 + 1;
        delta_bytes += size;
        expected = arrival.sequence.next();
        time = ticks;
        taken += 1;
    }
    if taken == 0 {
        return Err(Error::BufferTooSmall);
    }
    while folder.run != 0 {
        writer.u16(folder.last())?;
    }
    let mut time = reference as i64 * 256;
    for arrival in &arrivals[..taken] {
        let ticks = (arrival.micros / 250) as i64;
        let delta = ticks - time;
        time = ticks;
        match u8::try_from(delta) {
            Ok(delta) => writer.u8(delta)?,
            Err(_) => writer.u16(delta as i16 as u16)?,
        }
    }
    writer.written()[head_at + 2..head_at + 4].copy_from_slice(&(covered as u16).to_be_bytes());
    Ok(taken)
}
