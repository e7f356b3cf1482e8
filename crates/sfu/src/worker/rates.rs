//! What each layer of an encoding brings, measured.

use std::time::{Duration, Instant};

/// Layers that are told apart.
const SPATIAL: usize = 4;
const TEMPORAL: usize = 4;
/// The span of one measurement.
const WINDOW: Duration = Duration::from_millis(500);

/// Bits per second of each layer.
#[derive(Debug, Clone)]
pub(super) struct LayerRates {
    begun: Instant,
    bytes: [[u32; TEMPORAL]; SPATIAL],
    rates: [[u32; TEMPORAL]; SPATIAL],
    /// The highest layers that were seen in the latest whole window, and in this one.
    max: (u8, u8),
    seen: (u8, u8),
    measured: bool,
}

impl LayerRates {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            bytes: Default::default(),
            rates: Default::default(),
            max: (0, 0),
            seen: (0, 0),
            measured: false,
        }
    }

    /// Counts a packet.
    pub(super) fn add(&mut self, now: Instant, spatial: u8, temporal: u8, bytes: usize) {
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed >= WINDOW {
            self.roll(now, elapsed);
        }
        let spatial = spatial.min(SPATIAL as u8 - 1);
        let temporal = temporal.min(TEMPORAL as u8 - 1);
        self.seen = (self.seen.0.max(spatial), self.seen.1.max(temporal));
        self.max = (self.max.0.max(spatial), self.max.1.max(temporal));
        self.bytes[usize::from(spatial)][usize::from(temporal)] += bytes as u32;
    }

    fn roll(&mut self, now: Instant, elapsed: Duration) {
        let seconds = elapsed.as_secs_f32();
        // After a silence the old rates say nothing.
        let weight = if self.measured && elapsed < 4 * WINDOW {
            0.5
        } else {
            1.0
        };
        for (rates, bytes) in self.rates.iter_mut().zip(&mut self.bytes) {
            for (rate, bytes) in rates.iter_mut().zip(bytes) {
                let measured = *bytes as f32 * 8.0 / seconds;
                *rate = (measured * weight + *rate as f32 * (1.0 - weight)) as u32;
                *bytes = 0;
            }
        }
        self.max = self.seen;
        self.seen = (0, 0);
        self.measured = true;
        self.begun = now;
    }

    /// What everything up to these layers brings; `None` before it was measured.
    pub(super) fn up_to(&self, spatial: u8, temporal: u8) -> Option<u64> {
        if !self.measured {
            return None;
        }
        let rows = self.rates.iter().take(usize::from(spatial) + 1);
        let sums = rows.map(|row| {
            let cells = row.iter().take(usize::from(temporal) + 1);
            cells.map(|&rate| u64::from(rate)).sum::<u64>()
        });
        Some(sums.sum())
    }

    /// What all layers bring; 0 before it was measured.
    pub(super) fn total(&self) -> u64 {
        self.up_to(u8::MAX, u8::MAX).unwrap_or(0)
    }

    pub(super) const fn max_spatial(&self) -> u8 {
        self.max.0
    }

    pub(super) const fn max_temporal(&self) -> u8 {
        self.max.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_measured_apart() {
        let start = Instant::now();
        let mut rates = LayerRates::new(start);
        assert_eq!(rates.up_to(0, 0), None);
        for ms in 0..2_000 {
            let now = start + Duration::from_millis(ms);
            rates.add(now, 0, (ms % 2) as u8, 125);
        }
        let base = rates.up_to(0, 0).unwrap();
        assert!((480_000..520_000).contains(&base), "{base}");
        let all = rates.total();
        assert!((960_000..1_040_000).contains(&all), "{all}");
        assert_eq!((rates.max_spatial(), rates.max_temporal()), (0, 1));
    }
}
