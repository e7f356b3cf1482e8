//! The 48-bit index of an RTP packet, of which the header carries 16 (RFC 3711 section 3.3.1).

/// The first index that does not exist.
pub(crate) const END: u64 = 1 << 48;

/// The likely index of a packet with `sequence`, given the highest one seen: RFC 3711 appendix A.
/// It differs where that would be before the first packet: there it is a jump forward.
#[inline]
pub(crate) fn guess(highest: u64, sequence: u16) -> u64 {
    let rollover = highest >> 16;
    let (last, sequence) = (i32::from(highest as u16), i32::from(sequence));
    let rollover = if last < 0x8000 {
        if sequence - last > 0x8000 {
            rollover.saturating_sub(1)
        } else {
            rollover
        }
    } else if last - 0x8000 > sequence {
        rollover + 1
    } else {
        rollover
    };
    rollover << 16 | sequence as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3711_appendix_a() {
        for (highest, sequence, index) in [
            (0x0000_0000, 0x0000, 0x0000_0000),
            (0x0000_0000, 0x8000, 0x0000_8000),
            (0x0000_ffff, 0x0000, 0x0001_0000),
            (0x0000_ffff, 0x7ffe, 0x0001_7ffe),
            (0x0000_ffff, 0x7fff, 0x0000_7fff),
            (0x0000_8000, 0x0000, 0x0000_0000),
            (0x0000_8001, 0x0000, 0x0001_0000),
            (0x0001_0000, 0xffff, 0x0000_ffff),
            (0x0001_0000, 0x8001, 0x0000_8001),
            (0x0001_0000, 0x8000, 0x0001_8000),
            (0x0001_7fff, 0xffff, 0x0001_ffff),
            (0x0007_1234, 0x1235, 0x0007_1235),
            (0xffff_ffff_ffff, 0x0000, END),
        ] {
            assert_eq!(guess(highest, sequence), index, "{highest:x} {sequence:x}");
        }
    }

    #[test]
    fn before_the_first_rollover_nothing_lies_before_it() {
        assert_eq!(guess(0x0000_0005, 0xfff0), 0x0000_fff0);
    }

    #[test]
    fn a_stream_with_gaps_and_reordering_keeps_its_index() {
        let mut highest = 7;
        for step in 0..40_000u64 {
            let index = 7 + step * 97;
            for behind in [0, 1, 500, 90] {
                let index: u64 = index.saturating_sub(behind).max(7);
                assert_eq!(guess(highest, index as u16), index);
            }
            highest = index;
        }
    }
}
