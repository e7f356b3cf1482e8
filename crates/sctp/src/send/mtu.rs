//! Path MTU discovery (RFC 8899 section 6.2: HEARTBEAT and PAD are the probe). Sizes are of SCTP
//! packets.

use std::time::Duration;

use crate::clock::Time;
use crate::config::PacketSizes;

/// Probes of one size before it is given up (MAX_PROBES, RFC 8899 section 5.1.2).
const MAX_PROBES: u8 = 3;
/// How close the search comes, in bytes.
const STEP: usize = 16;
/// When to search again after the search is complete (PMTU_RAISE_TIMER, RFC 8899 section 5.1.1).
const RAISE: Duration = Duration::from_secs(600);
/// Before the first probe, so that the start is not disturbed.
const FIRST: Duration = Duration::from_millis(200);

/// The search.
#[derive(Debug)]
pub(crate) struct MtuSearch {
    sizes: PacketSizes,
    /// Confirmed.
    current: usize,
    /// Least size known not to pass; above `max` at first.
    failed: usize,
    /// Size and count of the probe under way.
    probe: Option<(usize, u8)>,
    timer: Time,
}

impl MtuSearch {
    pub(crate) fn new(sizes: PacketSizes) -> Self {
        Self {
            sizes,
            current: sizes.base & !3,
            failed: (sizes.max & !3) + STEP,
            probe: None,
            timer: Time::NEVER,
        }
    }

    /// The size in use.
    pub(crate) fn current(&self) -> usize {
        self.current
    }

    /// The association is open.
    pub(crate) fn start(&mut self, now: Time) {
        if self.target().is_some() {
            self.timer = now + FIRST;
        }
    }

    pub(crate) fn timer(&self) -> Time {
        self.timer
    }

    /// Starts the probe that is due; answers its size.
    pub(crate) fn due(&mut self, now: Time, rto: Duration) -> Option<usize> {
        if self.timer > now {
            return None;
        }
        let (size, count) = match self.probe {
            Some((size, count)) if count < MAX_PROBES => (size, count + 1),
            Some((size, _)) => {
                self.failed = size;
                (self.next(now)?, 1)
            }
            None => {
                if self.failed <= self.current + STEP {
                    // The raise timer: the path may have changed.
                    self.failed = (self.sizes.max & !3) + STEP;
                }
                (self.next(now)?, 1)
            }
        };
        self.probe = Some((size, count));
        self.timer = now + rto;
        Some(size)
    }

    /// A probe of that size came back. Answers whether the size in use grew.
    pub(crate) fn confirmed(&mut self, now: Time, size: usize) -> bool {
        if self.probe.is_none_or(|(probe, _)| probe != size) || size <= self.current {
            return false;
        }
        self.current = size;
        self.probe = None;
        self.timer = now;
        if self.target().is_none() {
            self.timer = now + RAISE;
        }
        true
    }

    /// A probe of that size cannot even be sent by this host.
    pub(crate) fn too_large_here(&mut self, now: Time, size: usize) {
        self.failed = self.failed.min(size);
        self.probe = None;
        self.timer = now;
        if self.target().is_none() {
            self.timer = now + RAISE;
        }
    }

    /// Full-sized packets vanish (black hole, RFC 8899 section 4.3): back to the base.
    pub(crate) fn black_hole(&mut self, now: Time) -> bool {
        if self.current <= self.sizes.base {
            return false;
        }
        self.failed = self.current;
        self.current = self.sizes.base & !3;
        self.probe = None;
        self.timer = now + RAISE;
        true
    }

    /// Another path: what the old one carried tells nothing of it (RFC 8899 section 5.3). Answers whether the size in use shrank.
    pub(crate) fn path_changed(&mut self, now: Time) -> bool {
        let base = self.sizes.base & !3;
        let shrinks = self.current > base;
        self.current = base;
        self.failed = (self.sizes.max & !3) + STEP;
        self.probe = None;
        self.start(now);
        shrinks
    }

    fn next(&mut self, now: Time) -> Option<usize> {
        let target = self.target();
        if target.is_none() {
            self.probe = None;
            self.timer = now + RAISE;
        }
        target
    }

    /// The largest size first, as most paths carry it; then halves of the rest.
    fn target(&self) -> Option<usize> {
        if self.failed <= self.current + STEP {
            return None;
        }
        let max = self.sizes.max & !3;
        if self.failed > max {
            return (max > self.current).then_some(max);
        }
        Some((usize::midpoint(self.current, self.failed) & !3).max(self.current + 4))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::MtuSearch;
    use crate::clock::Time;
    use crate::config::PacketSizes;

    fn search(path: usize) -> (usize, u32) {
        let mut mtu = MtuSearch::new(PacketSizes {
            base: 1188,
            max: 1452,
        });
        let mut now = Time::from_nanos(1);
        mtu.start(now);
        let mut probes = 0;
        while mtu.timer() < now + Duration::from_secs(60) {
            now = mtu.timer();
            if let Some(size) = mtu.due(now, Duration::from_millis(300)) {
                probes += 1;
                if size <= path {
                    mtu.confirmed(now, size);
                }
            }
        }
        (mtu.current(), probes)
    }

    #[test]
    fn finds_what_the_path_carries() {
        assert_eq!(search(1500), (1452, 1));
        assert_eq!(search(1000).0, 1188);
        for path in [1200, 1252, 1300, 1400, 1448] {
            let (found, probes) = search(path);
            assert!(found <= path && found + 20 >= path, "{path}: {found}");
            assert!(probes < 25, "{path}: {probes} probes");
        }
    }

    #[test]
    fn another_path_is_searched_anew() {
        let mut mtu = MtuSearch::new(PacketSizes {
            base: 1188,
            max: 1400,
        });
        mtu.start(Time::ZERO);
        let mut now = mtu.timer();
        let size = mtu.due(now, Duration::from_secs(1)).unwrap();
        assert!(mtu.confirmed(now, size));
        now = now + Duration::from_secs(1);
        assert!(mtu.path_changed(now));
        assert_eq!(mtu.current(), 1188);
        assert!(mtu.timer() <= now + super::FIRST);
        assert_eq!(mtu.due(mtu.timer(), Duration::from_secs(1)), Some(1400));
        // Who does not search has nothing to begin.
        let mut fixed = MtuSearch::new(PacketSizes::default());
        assert!(!fixed.path_changed(now));
        assert_eq!(fixed.timer(), Time::NEVER);
    }

    #[test]
    fn a_black_hole_leads_back_to_the_base() {
        let mut mtu = MtuSearch::new(PacketSizes {
            base: 1188,
            max: 1400,
        });
        mtu.start(Time::ZERO);
        let now = mtu.timer();
        let size = mtu.due(now, Duration::from_secs(1)).unwrap();
        assert!(mtu.confirmed(now, size));
        assert!(mtu.black_hole(now));
        assert_eq!(mtu.current(), 1188);
        assert!(!mtu.black_hole(now));
    }
}
