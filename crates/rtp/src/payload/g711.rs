//! G.711 (RFC 3551 section 4.5.14): a payload is one byte per sample at 8000 Hz; and the companding
//! itself (ITU-T G.711), which needs no library.

/// The RTP clock, and the sampling rate.
pub const CLOCK_RATE: u32 = 8_000;

/// µ-law silence.
pub const ULAW_SILENCE: u8 = 0xff;
/// A-law silence.
pub const ALAW_SILENCE: u8 = 0xd5;

const ULAW_BIAS: i32 = 0x84;
const ULAW_CLIP: i32 = 32_635;

/// A 16-bit sample as µ-law.
pub const fn ulaw_encode(sample: i16) -> u8 {
    let negative = sample < 0;
    let mut magnitude = (sample as i32).abs();
    if magnitude > ULAW_CLIP {
        magnitude = ULAW_CLIP;
    }
    magnitude += ULAW_BIAS;
    // The segment is where the highest bit stands, above bit 7.
    let segment = 31 - 7 - magnitude.leading_zeros() as i32;
    let mantissa = magnitude >> (segment + 3) & 0x0f;
    let sign = if negative { 0x80 } else { 0 };
    !(sign | (segment as u8) << 4 | mantissa as u8)
}

/// A µ-law byte as a 16-bit sample.
pub const fn ulaw_decode(byte: u8) -> i16 {
    let byte = !byte;
    let segment = byte >> 4 & 0x07;
    let magnitude = (((byte & 0x0f) as i32) << 3) + ULAW_BIAS;
    let magnitude = (magnitude << segment) - ULAW_BIAS;
    if byte & 0x80 != 0 {
        -magnitude as i16
    } else {
        magnitude as i16
    }
}

/// A 16-bit sample as A-law.
pub const fn alaw_encode(sample: i16) -> u8 {
    // Thirteen bits; negative samples by one's complement, as the recommendation's tables have it.
    let (sign, magnitude) = if sample >= 0 {
        (0xd5, (sample >> 3) as i32)
    } else {
        (0x55, (!sample >> 3) as i32)
    };
    let code = if magnitude < 32 {
        magnitude >> 1
    } else {
        let segment = 31 - 4 - magnitude.leading_zeros() as i32;
        segment << 4 | (magnitude >> segment & 0x0f)
    };
    code as u8 ^ sign
}

/// An A-law byte as a 16-bit sample.
pub const fn alaw_decode(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let segment = byte >> 4 & 0x07;
    let mantissa = ((byte & 0x0f) as i32) << 4;
    let magnitude = match segment {
        0 => mantissa + 8,
        _ => (mantissa + 0x108) << (segment - 1),
    };
    if byte & 0x80 != 0 {
        magnitude as i16
    } else {
        -magnitude as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for byte in 0..=255 {
            assert_eq!(alaw_encode(alaw_decode(byte)), byte, "A-law {byte:#x}");
            // µ-law has two zeros.
            if byte != 0x7f {
                assert_eq!(ulaw_encode(ulaw_decode(byte)), byte, "µ-law {byte:#x}");
            }
        }
    }

    #[test]
    fn known_values_of_g711() {
        assert_eq!(ulaw_decode(0x00), -32_124);
        assert_eq!(ulaw_decode(0x80), 32_124);
        assert_eq!(ulaw_encode(0), ULAW_SILENCE);
        assert_eq!(alaw_encode(0), ALAW_SILENCE);
        assert_eq!(alaw_decode(0x2a), -32_256);
        assert_eq!(alaw_decode(0xaa), 32_256);
        assert_eq!(ulaw_encode(i16::MIN), 0x00);
        assert_eq!(alaw_encode(i16::MIN), 0x2a);
    }

    #[test]
    fn error_stays_below_a_step_of_the_segment() {
        for sample in (i16::MIN..=i16::MAX).step_by(7) {
            let limit = i32::from(sample).abs() / 16 + 16;
            for decoded in [
                ulaw_decode(ulaw_encode(sample)),
                alaw_decode(alaw_encode(sample)),
            ] {
                let error = (i32::from(decoded) - i32::from(sample)).abs();
                // Beyond the clipping level the error is that of clipping.
                assert!(error <= limit.max(644), "{sample} became {decoded}");
            }
        }
    }
}
