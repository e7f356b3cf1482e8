//! Serial number arithmetic (RFC 1982, RFC 9260 section 1.6): sequence numbers compare by their
//! distance, so that they may wrap.

/// Whether `a` comes after `b`.
pub(crate) const fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Whether `a` comes before `b`.
pub(crate) const fn before(a: u32, b: u32) -> bool {
    after(b, a)
}

/// Whether `a` is `b` or comes after it.
pub(crate) const fn at_or_after(a: u32, b: u32) -> bool {
    !after(b, a)
}

/// The 32-bit number nearest to `reference` whose low half is `low`.
pub(crate) const fn unwrap16(low: u16, reference: u32) -> u32 {
    reference.wrapping_add((low.wrapping_sub(reference as u16)) as i16 as u32)
}

#[cfg(test)]
mod tests {
    use super::{after, at_or_after, before, unwrap16};

    #[test]
    fn comparisons_hold_across_the_wrap() {
        assert!(after(0, u32::MAX));
        assert!(before(u32::MAX - 5, 3));
        assert!(at_or_after(7, 7));
        assert!(!after(7, 7));
    }

    #[test]
    fn sixteen_bits_unwrap_to_the_nearest() {
        assert_eq!(unwrap16(3, 0xffff), 0x1_0003);
        assert_eq!(unwrap16(0xfffe, 0x1_0001), 0xfffe);
        assert_eq!(unwrap16(0xffff, 0), u32::MAX);
        assert_eq!(unwrap16(9, 9), 9);
    }
}
