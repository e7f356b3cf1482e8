//! Which indexes were seen (RFC 3711 section 3.3.2).

/// A window of bits behind the highest index seen.
#[derive(Debug, Clone)]
pub(crate) struct ReplayWindow {
    /// A ring: index `i` has bit `i % 64` of word `i / 64 % words.len()`.
    words: Box<[u64]>,
    highest: u64,
}

impl ReplayWindow {
    /// A window in which nothing but `first` was seen, or is to be: for `size` indexes back from
    /// the highest.
    pub(crate) fn new(size: u32, first: u64) -> Self {
        // One word more than the size, because the highest word is only partly behind the highest.
        let words = size.max(64).div_ceil(64) as usize + 1;
        Self {
            words: vec![0; words].into_boxed_slice(),
            highest: first,
        }
    }

    /// The highest index seen.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether `index` is new and not behind the window.
    pub(crate) fn is_fresh(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        let size = (self.words.len() as u64 - 1) * 64;
        self.highest - index < size && self.words[self.word(index)] >> (index % 64) & 1 == 0
    }

    /// Remembers a fresh `index`.
    pub(crate) fn insert(&mut self, index: u64) {
        if index > self.highest {
            let newer = index / 64 - self.highest / 64;
            for step in 1..=newer.min(self.words.len() as u64) {
                let word = (self.highest / 64 + step) % self.words.len() as u64;
                self.words[word as usize] = 0;
            }
            if newer > self.words.len() as u64 {
                self.words.fill(0);
            }
            self.highest = index;
        }
        let word = self.word(index);
        self.words[word] |= 1 << (index % 64);
    }

    fn word(&self, index: u64) -> usize {
        (index / 64 % self.words.len() as u64) as usize
    }
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
            size in 1u32..300,
            first in prop_oneof![0u64..10, 60_000u64..70_000, Just((1 << 48) - 2000)],
            steps in proptest::collection::vec((any::<bool>(), 0u64..400), 1..200),
        ) {
            let mut window = ReplayWindow::new(size, first);
            let mut seen = HashSet::new();
            let reach = u64::from(size.max(64).div_ceil(64) * 64);
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
