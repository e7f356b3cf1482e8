//! Redundancy for audio: earlier frames once more in each packet (RFC 2198), as many as losses ask for.

use std::collections::VecDeque;

use visavis_rtp::payload::red::{self, MAX_BLOCK, MAX_OFFSET, RedBlock};
use visavis_rtp::{Error, Packet, PacketMut, PayloadType};

/// The most earlier frames that a packet repeats.
pub const MAX_REDUNDANCY: usize = 3;

/// Wraps audio frames together with the ones before them.
#[derive(Debug)]
pub struct RedSender {
    payload_type: PayloadType,
    redundancy: usize,
    earlier: VecDeque<(u32, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl RedSender {
    /// For frames of a codec's payload type; one earlier frame is repeated to begin with.
    pub fn new(payload_type: PayloadType) -> Self {
        Self {
            payload_type,
            redundancy: 1,
            earlier: VecDeque::with_capacity(MAX_REDUNDANCY + 1),
            spare: Vec::with_capacity(MAX_REDUNDANCY + 1),
        }
    }

    /// How many earlier frames are repeated, 0 to [`MAX_REDUNDANCY`].
    pub fn redundancy(&self) -> usize {
        self.redundancy
    }

    /// Adapts to the fraction of packets that the receiver reports lost (0.0 to 1.0): none below 1 %,
    /// one frame up to 10 %, two up to 20 %, three beyond. Steps down at half of that, so that it does
    /// not swing.
    pub fn set_loss(&mut self, loss: f64) {
        let wanted = |loss: f64| match loss {
            loss if loss < 0.01 => 0,
            loss if loss < 0.10 => 1,
            loss if loss < 0.20 => 2,
            _ => MAX_REDUNDANCY,
        };
        let (up, down) = (wanted(loss), wanted(loss * 2.0));
        self.redundancy = self.redundancy.clamp(up, down.max(up));
    }

    /// Writes the payload of a frame with the ones before it into `out`, as many as fit; returns its
    /// length. `None` if not even the frame itself fits.
    pub fn wrap(&mut self, timestamp: u32, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        const NO_BLOCK: RedBlock<'static> = RedBlock {
            payload_type: match PayloadType::new(0) {
                Some(payload_type) => payload_type,
                None => unreachable!(),
            },
            timestamp_offset: 0,
            payload: &[],
        };
        let mut blocks = [NO_BLOCK; MAX_REDUNDANCY];
        let mut first = blocks.len();
        let mut room = out.len().checked_sub(1 + frame.len())?;
        for (earlier, payload) in self.earlier.iter().rev().take(self.redundancy) {
            let offset = timestamp.wrapping_sub(*earlier);
            let cost = 4 + payload.len();
            if offset > MAX_OFFSET || payload.len() > MAX_BLOCK || cost > room {
                break;
            }
            room -= cost;
            first -= 1;
            blocks[first] = RedBlock {
                payload_type: self.payload_type,
                timestamp_offset: offset,
                payload,
            };
        }
        let len = red::write(&blocks[first..], self.payload_type, frame, out).ok()?;
        let mut buffer = match self.earlier.len() >= MAX_REDUNDANCY {
            true => self.earlier.pop_front().map(|(_, buffer)| buffer),
            false => self.spare.pop(),
        }
        .unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.earlier.push_back((timestamp, buffer));
        Some(len)
    }

    /// Forgets the earlier frames, e.g. after a pause.
    pub fn reset(&mut self) {
        self.spare
            .extend(self.earlier.drain(..).map(|(_, buffer)| buffer));
        self.spare.truncate(MAX_REDUNDANCY + 1);
    }
}

/// Writes a packet with its payload as the only block of redundant data, and returns its length:
/// receivers of ULPFEC look for media there. Padding is left out.
///
/// # Errors
/// [`Error::BufferTooSmall`].
pub fn wrap_in_red(packet: &Packet<'_>, red: PayloadType, out: &mut [u8]) -> Result<usize, Error> {
    let header = &packet.as_bytes()[..packet.header_len()];
    let payload = packet.payload();
    let len = header.len() + 1 + payload.len();
    let out = out.get_mut(..len).ok_or(Error::BufferTooSmall)?;
    out[..header.len()].copy_from_slice(header);
    out[0] &= !0x20;
    out[header.len()] = packet.payload_type().value();
    out[header.len() + 1..].copy_from_slice(payload);
    PacketMut::parse(out)?.set_payload_type(red);
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use visavis_rtp::payload::red::RedBlocks;

    #[test]
    fn each_packet_repeats_the_frames_before_it() {
        let mut sender = RedSender::new(PayloadType::new(111).unwrap());
        sender.set_loss(0.15);
        assert_eq!(sender.redundancy(), 2);
        let mut out = [0; 100];
        for number in 0..5u8 {
            let len = sender
                .wrap(u32::from(number) * 960, &[number; 10], &mut out)
                .unwrap();
            let blocks: Vec<_> = RedBlocks::parse(&out[..len])
                .unwrap()
                .map(|block| (block.timestamp_offset, block.payload[0]))
                .collect();
            let expected: Vec<_> = (number.saturating_sub(2)..=number)
                .map(|earlier| (u32::from(number - earlier) * 960, earlier))
                .collect();
            assert_eq!(blocks, expected);
        }
        // No room for the earlier ones.
        assert_eq!(sender.wrap(5 * 960, &[5; 10], &mut out[..11]), Some(11));
        assert_eq!(sender.wrap(6 * 960, &[5; 10], &mut out[..10]), None);
    }

    #[test]
    fn redundancy_follows_loss_without_swinging() {
        let mut sender = RedSender::new(PayloadType::new(111).unwrap());
        sender.set_loss(0.12);
        assert_eq!(sender.redundancy(), 2);
        sender.set_loss(0.08);
        assert_eq!(sender.redundancy(), 2);
        sender.set_loss(0.03);
        assert_eq!(sender.redundancy(), 1);
        sender.set_loss(0.006);
        assert_eq!(sender.redundancy(), 1);
        sender.set_loss(0.0);
        assert_eq!(sender.redundancy(), 0);
    }
}
