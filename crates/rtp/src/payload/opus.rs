//! Opus (RFC 7587): a payload is one Opus packet, so what lives here is what can be read from its
//! first bytes (RFC 6716 section 3).

use crate::{Error, Result};

/// The RTP clock of Opus, whatever the encoder's rate (RFC 7587 section 4.1).
pub const CLOCK_RATE: u32 = 48_000;

/// The longest packet, 120 ms, in ticks of the clock.
pub const MAX_DURATION: u32 = 5_760;

/// Which of its coders Opus used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpusMode {
    /// Speech, narrow to wide band.
    Silk,
    /// Both at once.
    Hybrid,
    /// Music, or low delay.
    Celt,
}

/// What an Opus packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpusPacket {
    /// The coder.
    pub mode: OpusMode,
    /// Whether it has two channels.
    pub stereo: bool,
    /// Duration of one frame in ticks of 1/48000 s.
    pub frame_duration: u32,
    /// Frames in the packet, 1 to 48.
    pub frames: u32,
    /// Whether it carries the packet before once more at a lower rate (in-band FEC). `false` where
    /// that would take reading beyond the first frame's first byte.
    pub has_fec: bool,
}

impl OpusPacket {
    /// Reads an Opus packet's first bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`] for none, [`Error::Malformed`] for more than 120 ms.
    pub fn parse(packet: &[u8]) -> Result<Self> {
        let (&toc, rest) = packet
            .split_first()
            .ok_or(Error::Truncated("Opus packet"))?;
        // RFC 6716 table 2.
        let config = toc >> 3;
        let (mode, frame_duration) = match config {
            0..12 => (
                OpusMode::Silk,
                [480, 960, 1920, 2880][usize::from(config & 3)],
            ),
            12..16 => (OpusMode::Hybrid, [480, 960][usize::from(config & 1)]),
            _ => (
                OpusMode::Celt,
                [120, 240, 480, 960][usize::from(config & 3)],
            ),
        };
        let stereo = toc & 0x04 != 0;
        let (frames, first) = match toc & 0x03 {
            0 => (1, rest.first()),
            1 => (2, rest.first()),
            2 => (2, None),
            _ => {
                let count = rest.first().ok_or(Error::Truncated("Opus packet"))? & 0x3f;
                (u32::from(count), None)
            }
        };
        if frames == 0 || frames * frame_duration > MAX_DURATION {
            return Err(Error::Malformed("Opus packet duration"));
        }
        // The SILK layer begins with one activity flag per 20 ms and then the flag of redundancy,
        // for each channel (RFC 6716 section 4.2.3).
        let flags = frame_duration.div_ceil(960);
        let has_fec = mode != OpusMode::Celt
            && first.is_some_and(|&first| {
                first >> (7 - flags) & 1 != 0 || stereo && first >> (6 - 2 * flags).min(7) & 1 != 0
            });
        Ok(Self {
            mode,
            stereo,
            frame_duration,
            frames,
            has_fec,
        })
    }

    /// Duration of the packet in ticks of 1/48000 s, 120 to 5760.
    pub const fn duration(&self) -> u32 {
        self.frames * self.frame_duration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_contents_gives_mode_and_duration() {
        // Config 31: CELT, full band, 20 ms; code 0.
        let packet = OpusPacket::parse(&[31 << 3, 0xff]).unwrap();
        assert_eq!((packet.mode, packet.duration()), (OpusMode::Celt, 960));
        assert!(!packet.has_fec);
        // Config 3: SILK, narrow band, 60 ms, code 1: two frames.
        let packet = OpusPacket::parse(&[3 << 3 | 1, 0]).unwrap();
        assert_eq!((packet.mode, packet.duration()), (OpusMode::Silk, 5_760));
        // Config 1: SILK 20 ms, the flag behind one activity flag.
        assert!(OpusPacket::parse(&[1 << 3, 0b0100_0000]).unwrap().has_fec);
        assert!(!OpusPacket::parse(&[1 << 3, 0b1000_0000]).unwrap().has_fec);
    }

    #[test]
    fn too_long_or_empty_packets_are_errors() {
        assert!(OpusPacket::parse(&[]).is_err());
        assert!(OpusPacket::parse(&[31 << 3 | 3]).is_err());
        assert!(OpusPacket::parse(&[31 << 3 | 3, 0]).is_err());
        assert!(OpusPacket::parse(&[31 << 3 | 3, 7]).is_err());
        assert!(OpusPacket::parse(&[31 << 3 | 3, 6]).is_ok());
    }
}
