//! Who speaks, by the levels that publishers measure (RFC 6464).

use std::time::{Duration, Instant};

use crate::config::Forwarding;

/// A packet of sound lasts so long at most; a longer gap was silence.
const LONGEST_PACKET: Duration = Duration::from_millis(60);

/// How loud one track was in the interval that runs.
#[derive(Debug, Default)]
pub(super) struct Level {
    last: Option<Instant>,
    /// When the interval that runs began.
    since: Option<Instant>,
    /// How long there was speech.
    speech: Duration,
    /// Sum of the levels of speech, linear, weighted by time.
    loudness: f32,
    /// The smoothed level, 0.0 to 1.0.
    smoothed: f32,
}

impl Level {
    /// Counts a packet.
    pub(super) fn add(&mut self, now: Instant, level: u8, forwarding: &Forwarding) {
        let lasted = self.last.map_or(Duration::from_millis(20), |last| {
            now.saturating_duration_since(last).min(LONGEST_PACKET)
        });
        self.last = Some(now);
        self.since.get_or_insert(now);
        if level <= forwarding.speech_level {
            self.speech += lasted;
            self.loudness += 10f32.powf(-f32::from(level) / 20.0) * lasted.as_secs_f32();
        }
    }

    /// Ends the interval, unless it has only begun: how loud it was, 0.0 for silence.
    pub(super) fn end_interval(
        &mut self,
        now: Instant,
        interval: Duration,
        forwarding: &Forwarding,
    ) -> f32 {
        let lasted = self
            .since
            .map_or(interval, |since| now.saturating_duration_since(since));
        if lasted < interval / 2 {
            return self.told();
        }
        self.since = Some(now);
        let share = self.speech.as_secs_f32() / lasted.as_secs_f32().max(0.001);
        let measured = if share >= forwarding.speech_share && !self.speech.is_zero() {
            let mean = self.loudness / self.speech.as_secs_f32();
            // Loudness as ears hear it: the quietest speech that counts is near 0, the loudest 1.
            let decibels = 20.0 * mean.max(1e-6).log10();
            let span = f32::from(forwarding.speech_level.max(1));
            ((decibels + span) / span).clamp(0.02, 1.0)
        } else {
            0.0
        };
        self.speech = Duration::ZERO;
        self.loudness = 0.0;
        self.smoothed = if measured == 0.0 {
            0.0
        } else {
            0.5 * measured + 0.5 * self.smoothed.max(measured * 0.5)
        };
        self.told()
    }

    /// In steps of an eighth, so that who speaks evenly changes nothing.
    fn told(&self) -> f32 {
        (self.smoothed * 8.0).ceil() / 8.0
    }

    /// The track is muted or over.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_counts_and_a_cough_does_not() {
        let forwarding = Forwarding::default();
        let interval = forwarding.speaker_interval;
        let mut level = Level::default();
        let mut at = Instant::now();
        let mut say = |level: &mut Level, packets: u32, loud: u8| {
            for _ in 0..packets {
                at += Duration::from_millis(20);
                level.add(at, loud, &forwarding);
            }
            at
        };
        let now = say(&mut level, 20, 20);
        let speech = level.end_interval(now, interval, &forwarding);
        assert!(speech > 0.2, "{speech}");
        // Somebody looks too early: nothing has changed.
        let now = say(&mut level, 2, 90);
        assert_eq!(level.end_interval(now, interval, &forwarding), speech);
        say(&mut level, 3, 10);
        let now = say(&mut level, 17, 90);
        assert_eq!(level.end_interval(now, interval, &forwarding), 0.0);
    }
}
