//! Which indexes were seen (RFC 3711 section 3.3.2).

/// A window of bits back from the highest index seen.
#[derive(Debug, Clone)]
pub(crate) struct ReplayWindow {
    highest: u64,
    words: Words,
}

/// A ring, a power of two long: index `i` has bit `i % 64` of word `i / 64 % len`.
#[derive(Debug, Clone)]
enum Words {
    /// For windows of up to 1024, whose bits are then no further cache miss away.
    Inline {
        words: [u64; INLINE],
        len: usize,
    },
    Boxed(Box<[u64]>),
}

const INLINE: usize = 16;

/// The longest window: behind it, a sequence number no longer tells its roll-over counter.
const MAX: u32 = 1 << 15;

impl Words {
    #[inline]
    fn as_slice(&self) -> &[u64] {
        match self {
            Self::Inline { words, len } => &words[..*len],
            Self::Boxed(words) => words,
        }
    }

    #[inline]
    fn as_mut_slice(&mut self) -> &mut [u64] {
        match self {
            Self::Inline { words, len } => &mut words[..*len],
            Self::Boxed(words) => words,
        }
    }
}

impl ReplayWindow {
    /// A window of `size` indexes, rounded up to a power of two from 64 to [`MAX`], in which nothing
    /// was seen yet and `first` is the highest.
    pub(crate) fn new(size: u32, first: u64) -> Self {
        let len = (size.clamp(64, MAX) as usize).next_power_of_two() / 64;
        let words = if len <= INLINE {
            Words::Inline {
                words: [0; INLINE],
                len,
            }
        } else {
            Words::Boxed(vec![0; len].into_boxed_slice())
        };
        Self {
            highest: first,
            words,
        }
    }

    /// The highest index seen.
    #[inline]
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `index` is new and not behind the window.
    #[inline]
    pub(crate) fn is_fresh(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        let words = self.words.as_slice();
        let size = words.len() as u64 * 64;
        self.highest - index < size && words[place(words, index)] >> (index % 64) & 1 == 0
    }

    /// Remembers a fresh `index`.
    #[inline]
    pub(crate) fn insert(&mut self, index: u64) {
        let words = self.words.as_mut_slice();
        if index > self.highest {
            // What lies between is now within the window, and not seen.
            if index - self.highest >= words.len() as u64 * 64 {
                words.fill(0);
            } else {
                let mut missing = self.highest + 1;
                while missing < index {
                    let end = (missing | 63).min(index - 1);
                    let bits = u64::MAX >> (63 - (end - missing)) << (missing % 64);
                    words[place(words, missing)] &= !bits;
                    missing = end + 1;
                }
            }
            self.highest = index;
        }
        words[place(words, index)] |= 1 << (index % 64);
    }
}

/// The word of an index.
#[inline]
fn place(words: &[u64], index: u64) -> usize {
    (index / 64) as usize & (words.len() - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set that forgets nothing.
        #[test]
        fn like_a_set(
            size in prop_oneof![1u32..300, 1000u32..1100],
            first in prop_oneof![0u64..10, 60_000u64..70_000, Just((1 << 48) - 2000)],
            steps in proptest::collection::vec((any::<bool>(), 0u64..400), 1..200),
        ) {
            let mut window = ReplayWindow::new(size, first);
            let mut seen = HashSet::new();
            let reach = u64::from(size.max(64).next_power_of_two());
            for (forward, distance) in steps {
                let index = if forward {
                    window.highest() + distance / 8
                } else {
                    window.highest().saturating_sub(distance)
                };
                let fresh = !seen.contains(&index) && window.highest().saturating_sub(index) < reach;
                prop_assert_eq!(window.is_fresh(index), fresh);
                if fresh {
                    window.insert(index);
                    seen.insert(index);
                }
            }
        }
    }

    #[test]
    fn no_window_is_longer_than_a_sequence_number_can_tell() {
        let window = ReplayWindow::new(u32::MAX, 1 << 20);
        assert!(window.is_fresh((1 << 20) - (1 << 15) + 1));
        assert!(!window.is_fresh((1 << 20) - (1 << 15)));
    }

    #[test]
    fn a_jump_beyond_the_window_forgets_all() {
        let mut window = ReplayWindow::new(64, 0);
        for index in 0..64 {
            window.insert(index);
        }
        window.insert(1_000_000);
        assert!(!window.is_fresh(63));
        assert!((1_000_000 - 63..1_000_000).all(|index| window.is_fresh(index)));
        assert!(!window.is_fresh(1_000_000));
    }
}
