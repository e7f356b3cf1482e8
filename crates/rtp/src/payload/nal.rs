//! NAL units in a byte stream with start codes: Annex B of H.264 and H.265.

use std::ops::Range;

/// The start code that is written before each NAL unit.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Where the next start code's three bytes stand, from `at` on.
fn find_start_code(bytes: &[u8], at: usize) -> Option<usize> {
    let mut index = at + 2;
    while let Some(&byte) = bytes.get(index) {
        // Steps by what the last byte rules out, as a Boyer-Moore search does.
        match byte {
            0 => index += 1,
            1 if bytes[index - 1] == 0 && bytes[index - 2] == 0 => return Some(index - 2),
            _ => index += 3,
        }
    }
    None
}

/// Iterates over the NAL units of a byte stream, without start codes and trailing zeros. Bytes
/// before the first start code are passed over.
#[derive(Debug, Clone)]
pub struct NalUnits<'a> {
    bytes: &'a [u8],
    /// Where the next unit begins, behind its start code.
    next: Option<usize>,
}

impl<'a> NalUnits<'a> {
    /// The units of a byte stream.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: find_start_code(bytes, 0).map(|at| at + 3),
        }
    }

    /// Where the next unit stands.
    pub fn next_range(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.next?;
            let following = find_start_code(self.bytes, start);
            self.next = following.map(|at| at + 3);
            let mut end = following.unwrap_or(self.bytes.len());
            while end > start && self.bytes[end - 1] == 0 {
                end -= 1;
            }
            if end > start {
                return Some(start..end);
            }
        }
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_range().map(|range| &self.bytes[range])
    }
}

/// Removes the emulation prevention bytes from the beginning of a NAL unit, as far as `out` goes, and
/// gives what was written.
pub fn unescape<'o>(nal: &[u8], out: &'o mut [u8]) -> &'o [u8] {
    let mut zeros = 0;
    let mut len = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        let Some(slot) = out.get_mut(len) else { break };
        *slot = byte;
        len += 1;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    &out[..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_stand_between_start_codes_of_both_lengths() {
        let stream = [
            9, 0, 0, 1, 5, 6, 0, 0, 0, 1, 7, 0, 0, 3, 1, 0, 0, 1, 0, 0, 1, 8, 0,
        ];
        let units: Vec<&[u8]> = NalUnits::new(&stream).collect();
        assert_eq!(units, [&[5, 6][..], &[7, 0, 0, 3, 1], &[8]]);
        assert_eq!(NalUnits::new(&[1, 2, 3]).count(), 0);
        assert_eq!(NalUnits::new(&[]).count(), 0);
    }

    #[test]
    fn emulation_prevention_is_removed() {
        let mut out = [0; 8];
        assert_eq!(unescape(&[0, 0, 3, 1, 0, 0, 3], &mut out), [0, 0, 1, 0, 0]);
        assert_eq!(unescape(&[1; 20], &mut out), [1; 8]);
    }
}
