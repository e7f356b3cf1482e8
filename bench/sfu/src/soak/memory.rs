//! Resident memory over time, and whether it is flat.

/// The share of a run in which caches and pools fill: what is measured there does not count.
const WARM_UP: f64 = 1.0 / 6.0;

/// What memory may grow by over the rest of a run: a share of what it was, or so many bytes, whichever is more.
const SHARE: f64 = 0.05;
const BYTES: f64 = 4.0 * 1024.0 * 1024.0;

/// Samples of memory: seconds since the beginning, bytes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    samples: Vec<(f64, f64)>,
}

/// The line of least squares through the samples after the warm-up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// Bytes where it begins and where it ends.
    pub(crate) begin: f64,
    pub(crate) end: f64,
}

impl Line {
    pub(crate) fn growth(&self) -> f64 {
        self.end - self.begin
    }

    /// What the growth may be.
    pub(crate) fn bound(&self) -> f64 {
        BYTES.max(self.begin * SHARE)
    }
}

impl Memory {
    pub(crate) fn sample(&mut self, seconds: f64, bytes: u64) {
        self.samples.push((seconds, bytes as f64));
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
    fn what_grows_steadily_is_not_flat() {
        let line = run(|second| 50.0 * MIB + second * MIB / 100.0);
        assert!((line.growth() / MIB - 5.0).abs() < 0.1, "{line:?}");
        assert!(line.growth() > line.bound());
    }

    #[test]
    fn what_filled_while_it_warmed_up_and_swings_from_then_on_is_flat() {
        let line = run(|second| {
            50.0 * MIB + (second / 80.0).min(1.0) * 20.0 * MIB + (second / 7.0).sin() * 5.0 * MIB
        });
        assert!(line.growth().abs() < line.bound() / 4.0, "{line:?}");
    }

    #[test]
    fn one_sample_has_no_line() {
        let mut memory = Memory::default();
        memory.sample(1.0, 1);
        assert!(memory.line().is_none());
    }
}
