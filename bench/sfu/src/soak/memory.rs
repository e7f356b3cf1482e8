//! Resident memory over time, and whether it is flat: what there is while people come and go depends on who is there, so that
//! what is compared is what is left whenever all have gone.

/// The share of a run in which caches and pools fill: what is measured there does not count.
pub(crate) const WARM_UP: f64 = 1.0 / 6.0;

/// What memory may grow by over the rest of a run: a share of what it was, or so many bytes, whichever is more.
const SHARE: f64 = 0.05;
const BYTES: f64 = 4.0 * 1024.0 * 1024.0;

/// Samples of memory: seconds since the beginning, bytes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    samples: Vec<(f64, f64)>,
    /// Bytes whenever all had gone.
    empty: Vec<f64>,
}

/// The line of least squares through the samples after the warm-up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// Bytes where it begins and where it ends.
    pub(crate) begin: f64,
    pub(crate) end: f64,
}

impl Memory {
    pub(crate) fn sample(&mut self, seconds: f64, bytes: u64) {
        self.samples.push((seconds, bytes as f64));
    }

    /// All had gone, and what could be given back was.
    pub(crate) fn sample_empty(&mut self, bytes: u64) {
        self.empty.push(bytes as f64);
    }

    /// What was left the first and the last time that all had gone.
    pub(crate) fn empty(&self) -> Option<(f64, f64)> {
        match self.empty[..] {
            [first, .., last] => Some((first, last)),
            _ => None,
        }
    }

    /// How much more that was the last time, and how much it may be.
    pub(crate) fn growth(&self) -> Option<(f64, f64)> {
        let (first, last) = self.empty()?;
        Some((last - first, BYTES.max(first * SHARE)))
    }

    pub(crate) fn last(&self) -> f64 {
        self.samples.last().map_or(0.0, |sample| sample.1)
    }

    /// `None` for fewer than two samples after the warm-up.
    pub(crate) fn line(&self) -> Option<Line> {
        let whole = self.samples.last()?.0;
        let warm: Vec<(f64, f64)> = self
            .samples
            .iter()
            .copied()
            .filter(|sample| sample.0 >= whole * WARM_UP)
            .collect();
        let count = warm.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| warm.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let spread: f64 = warm.iter().map(|sample| (sample.0 - x).powi(2)).sum();
        if warm.len() < 2 || spread == 0.0 {
            return None;
        }
        let together: f64 = warm
            .iter()
            .map(|sample| (sample.0 - x) * (sample.1 - y))
            .sum();
        let slope = together / spread;
        let at = |seconds: f64| y + slope * (seconds - x);
        Some(Line {
            begin: at(warm[0].0),
            end: at(whole),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    fn run(bytes: impl Fn(f64) -> f64) -> Line {
        let mut memory = Memory::default();
        for second in 0..600 {
            memory.sample(second.into(), bytes(second.into()) as u64);
        }
        memory.line().expect("samples")
    }

    #[test]
    fn a_line_follows_what_grows_steadily() {
        let line = run(|second| 50.0 * MIB + second * MIB / 100.0);
        assert!(
            ((line.end - line.begin) / MIB - 5.0).abs() < 0.1,
            "{line:?}"
        );
    }

    #[test]
    fn a_line_is_flat_where_what_filled_while_it_warmed_up_swings_from_then_on() {
        let line = run(|second| {
            50.0 * MIB + (second / 80.0).min(1.0) * 20.0 * MIB + (second / 7.0).sin() * 5.0 * MIB
        });
        assert!((line.end - line.begin).abs() < MIB, "{line:?}");
    }

    #[test]
    fn what_is_left_of_all_who_went_may_grow_by_4_mib() {
        let mut memory = Memory::default();
        assert!(memory.growth().is_none());
        for mebibytes in [40.0, 60.0, 44.5] {
            memory.sample_empty((mebibytes * MIB) as u64);
        }
        assert_eq!(memory.growth(), Some((4.5 * MIB, 4.0 * MIB)));
    }

    #[test]
    fn one_sample_has_no_line() {
        let mut memory = Memory::default();
        memory.sample(1.0, 1);
        assert!(memory.line().is_none());
    }
}
