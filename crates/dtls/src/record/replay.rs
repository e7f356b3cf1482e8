//! Replay protection (RFC 9147 section 4.5.1).

/// A window over the newest sequence numbers of an epoch.
#[derive(Debug, Clone)]
pub(crate) struct ReplayWindow {
    /// A ring of bits, one word more than the largest window needs.
    words: [u64; Self::WORDS],
    /// The highest sequence number seen, plus one.
    next: u64,
    size: u64,
}

impl ReplayWindow {
    const WORDS: usize = 17;
    /// The largest window.
    pub(crate) const MAX: u64 = 64 * (Self::WORDS as u64 - 1);

    /// A window of `size` records, cut to what the ring holds.
    pub(crate) fn new(size: u64) -> Self {
        Self {
            words: [0; Self::WORDS],
            next: 0,
            size: size.clamp(64, Self::MAX),
        }
    }

    /// What the next sequence number should be.
    pub(crate) fn expected(&self) -> u64 {
        self.next
    }

    /// Whether a record is new.
    pub(crate) fn is_new(&self, sequence: u64) -> bool {
        if sequence >= self.next {
            return true;
        }
        if self.next - sequence > self.size {
            return false;
        }
        self.words[Self::word(sequence)] & (1 << (sequence % 64)) == 0
    }

    /// Marks an authenticated record as seen.
    pub(crate) fn mark(&mut self, sequence: u64) {
        if sequence >= self.next {
            let newest = self.next.saturating_sub(1) / 64;
            let steps = (sequence / 64 - newest).min(Self::WORDS as u64);
            for step in 1..=steps {
                self.words[(newest + step) as usize % Self::WORDS] = 0;
            }
            self.next = sequence + 1;
        }
        self.words[Self::word(sequence)] |= 1 << (sequence % 64);
    }

    fn word(sequence: u64) -> usize {
        (sequence / 64) as usize % Self::WORDS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use visavis_datagram::Random;

    use super::ReplayWindow;

    #[test]
    fn the_window_agrees_with_a_set_of_all_that_was_seen() {
        for size in [64, 256, 1024] {
            let mut random = Random::from_u64(size);
            let mut window = ReplayWindow::new(size);
            let mut seen = HashSet::new();
            let mut highest = 0u64;
            for _ in 0..20_000 {
                let sequence = if random.chance(0.01) {
                    highest + random.below(5000)
                } else {
                    (highest + 5).saturating_sub(random.below(size + 70))
                };
                let too_old = !seen.is_empty() && sequence + size <= highest;
                let new = !seen.contains(&sequence) && !too_old;
                assert_eq!(window.is_new(sequence), new, "{sequence} of {highest}");
                if new {
                    window.mark(sequence);
                    seen.insert(sequence);
                    highest = highest.max(sequence);
                }
            }
        }
    }
}
