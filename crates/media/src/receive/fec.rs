//! Recovering lost packets from parity: ULPFEC and FlexFEC.

use visavis_rtp::payload::fec::FecPacket;
use visavis_rtp::payload::{flexfec, ulpfec};
use visavis_rtp::{SequenceNumber, Ssrc};

use crate::PacketRing;

/// The most parity packets that wait for media packets.
const MAX_WAITING: usize = 48;

/// What a [`FecReceiver`] counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FecStats {
    /// Parity packets.
    pub packets: u64,
    /// Media packets that were recovered.
    pub recovered: u64,
    /// Parity packets that could not be read, or whose recovery made no packet.
    pub malformed: u64,
}

/// How a parity packet's payload is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ulp,
    Flexible,
}

impl Format {
    fn parse(self, payload: &[u8]) -> Option<FecPacket<'_>> {
        match self {
            Self::Ulp => ulpfec::parse(payload).ok(),
            Self::Flexible => flexfec::parse(payload).ok(),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    format: Format,
    /// Extended number of the first protected packet.
    base: u64,
    mask: u128,
    payload: Vec<u8>,
}

/// Keeps parity packets of one media source until they recover something, or nothing is left to.
#[derive(Debug)]
pub struct FecReceiver {
    media: Ssrc,
    waiting: Vec<Waiting>,
    spare: Vec<Vec<u8>>,
    stats: FecStats,
}

impl FecReceiver {
    /// For the media source that is protected.
    pub fn new(media: Ssrc) -> Self {
        Self {
            media,
            waiting: Vec::with_capacity(MAX_WAITING),
            spare: Vec::with_capacity(MAX_WAITING),
            stats: FecStats::default(),
        }
    }

    /// What it counted.
    pub const fn stats(&self) -> &FecStats {
        &self.stats
    }

    /// Takes the payload of an ULPFEC packet. `near`: an extended media sequence number near by.
    pub fn push_ulpfec(&mut self, near: u64, payload: &[u8]) {
        self.push(Format::Ulp, near, payload);
    }

    /// Takes the payload of a FlexFEC packet. `near`: an extended media sequence number near by.
    pub fn push_flexfec(&mut self, near: u64, payload: &[u8]) {
        self.push(Format::Flexible, near, payload);
    }

    fn push(&mut self, format: Format, near: u64, payload: &[u8]) {
        self.stats.packets += 1;
        let fec = format
            .parse(payload)
            .filter(|fec| fec.ssrc.is_none_or(|ssrc| ssrc == self.media));
        let base = fec.and_then(|fec| {
            let step = fec.base.distance(SequenceNumber(near as u16));
            near.checked_add_signed(step.into())
        });
        let (Some(fec), Some(base)) = (fec, base) else {
            self.stats.malformed += 1;
            return;
        };
        let mut buffer = match self.waiting.len() == MAX_WAITING {
            true => self.waiting.remove(0).payload,
            false => self.spare.pop().unwrap_or_default(),
        };
        buffer.clear();
        buffer.extend_from_slice(payload);
        self.waiting.push(Waiting {
            format,
            base,
            mask: fec.mask,
            payload: buffer,
        });
    }

    /// Recovers one packet from parity and the packets of `ring`: its extended number; the packet is
    /// in `out[..len]`. Call again until there is none, storing each packet in the ring between.
    pub fn recover<M: Default>(
        &mut self,
        ring: &PacketRing<M>,
        out: &mut [u8],
    ) -> Option<(u64, usize)> {
        let mut index = 0;
        while index < self.waiting.len() {
            let waiting = &self.waiting[index];
            let mut missing = None;
            let mut lost = 0;
            let mut rest = waiting.mask;
            while rest != 0 {
                let sequence = waiting.base + u64::from(rest.trailing_zeros());
                rest &= rest - 1;
                if !ring.contains(sequence) {
                    lost += 1;
                    missing = Some(sequence);
                    if lost > 1 {
                        break;
                    }
                }
            }
            let too_old = waiting.base + 128 < ring.lowest();
            if lost > 1 && !too_old {
                index += 1;
                continue;
            }
            let recovered = missing.filter(|_| lost == 1).and_then(|missing| {
                let fec = waiting.format.parse(&waiting.payload)?;
                let others = (0..128)
                    .filter(|bit| waiting.mask >> bit & 1 != 0)
                    .filter_map(|bit| ring.get(waiting.base + bit))
                    .map(|stored| stored.bytes());
                let sequence = SequenceNumber(missing as u16);
                let len = fec.recover(sequence, self.media, others, out).ok();
                if len.is_none() {
                    self.stats.malformed += 1;
                }
                Some((missing, len?))
            });
            // Whatever became of it, this parity has nothing more to give.
            let done = self.waiting.remove(index);
            self.spare.push(done.payload);
            if recovered.is_some() {
                self.stats.recovered += 1;
                return recovered;
            }
        }
        None
    }

    /// Forgets all parity, as after a restart of the source.
    pub fn clear(&mut self) {
        self.spare
            .extend(self.waiting.drain(..).map(|waiting| waiting.payload));
        self.spare.truncate(MAX_WAITING);
    }
}
