//! G.722 (RFC 3551 section 4.5.2): a payload is one byte per two samples of 16 kHz audio. What lives
//! here is the arithmetic; the codec itself is a library's.

/// The RTP clock: 8000 although the sampling rate is 16000. The error of RFC 1890 was never mended,
/// because it is everywhere.
pub const CLOCK_RATE: u32 = 8_000;

/// The sampling rate of the audio in Hz.
pub const SAMPLING_RATE: u32 = 16_000;

/// Ticks of the RTP clock that a payload lasts: one per byte at 64 kbit/s.
pub const fn duration(payload: &[u8]) -> u32 {
    payload.len() as u32
}

/// Bytes of a payload that lasts so many milliseconds.
pub const fn bytes_of(milliseconds: u32) -> usize {
    milliseconds as usize * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_milliseconds_are_160_bytes_and_ticks() {
        assert_eq!(bytes_of(20), 160);
        assert_eq!(duration(&[0; 160]), CLOCK_RATE / 50);
    }
}
