//! Sound and picture that belong together, played together: sender reports (or absolute capture times)
//! say when each was captured, and the one that is ahead is delayed.

use std::time::{Duration, Instant};

use visavis_rtp::NtpTime;
use visavis_rtp::rtcp::SenderInfo;

/// A stream's RTP clock against its sender's NTP clock, from sender reports.
#[derive(Debug, Clone, Copy)]
pub struct SenderClock {
    clock_rate: u32,
    anchor: Option<(NtpTime, u32)>,
}

impl SenderClock {
    /// For a clock of so many ticks per second.
    pub const fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            anchor: None,
        }
    }

    /// Takes a sender report.
    pub fn handle_sender_report(&mut self, info: &SenderInfo) {
        self.anchor = Some((info.ntp, info.rtp_timestamp));
    }

    /// Takes an absolute capture time, whose clock is that of sender reports once its offset is added.
    pub fn handle_capture_time(&mut self, captured: NtpTime, offset: i64, timestamp: u32) {
        let ntp = NtpTime(captured.0.wrapping_sub(offset as u64));
        self.anchor = Some((ntp, timestamp));
    }

    /// When something with this timestamp was captured; `None` before the first report.
    pub fn captured(&self, timestamp: u32) -> Option<NtpTime> {
        let (ntp, at) = self.anchor?;
        let ticks = i64::from(timestamp.wrapping_sub(at) as i32);
        let fraction = (i128::from(ticks) << 32) / i128::from(self.clock_rate.max(1));
        Some(NtpTime(ntp.0.wrapping_add(fraction as u64)))
    }
}

/// By how much to delay either stream beyond its own jitter buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncDelays {
    /// For the sound.
    pub audio: Duration,
    /// For the picture.
    pub video: Duration,
}

/// Keeps one audio and one video stream together.
#[derive(Debug)]
pub struct AvSync {
    audio: Option<(NtpTime, Instant)>,
    video: Option<(NtpTime, Instant)>,
    delays: SyncDelays,
    /// Smoothed microseconds by which the picture is later than the sound.
    apart: Option<i64>,
    last_change: Option<Instant>,
}

impl AvSync {
    /// The largest step in one change.
    const MAX_STEP: i64 = 80_000;
    /// Differences below this are let be: nobody sees them, and corrections are heard.
    const TOLERANCE: i64 = 30_000;
    /// The largest delay that is added to a stream; farther apart, they are not kept together.
    const MAX_DELAY: i64 = 1_500_000;
    /// The least time between changes.
    const INTERVAL: Duration = Duration::from_millis(500);

    /// Two streams of which nothing is known.
    pub const fn new() -> Self {
        Self {
            audio: None,
            video: None,
            delays: SyncDelays {
                audio: Duration::ZERO,
                video: Duration::ZERO,
            },
            apart: None,
            last_change: None,
        }
    }

    /// Sound that was captured then is played at `play`, with the delays as they are.
    pub fn audio(&mut self, captured: NtpTime, play: Instant) {
        self.audio = Some((captured, play));
    }

    /// A picture that was captured then is shown at `show`, with the delays as they are.
    pub fn video(&mut self, captured: NtpTime, show: Instant) {
        self.video = Some((captured, show));
    }

    /// Microseconds by which the picture is later than its sound; negative if it is earlier.
    pub fn apart(&self) -> Option<i64> {
        let ((audio_captured, play), (video_captured, show)) = (self.audio?, self.video?);
        let captured = video_captured.0.wrapping_sub(audio_captured.0) as i64;
        let captured = (i128::from(captured) * 1_000_000) >> 32;
        let shown = match show.checked_duration_since(play) {
            Some(later) => later.as_micros() as i128,
            None => -(play.saturating_duration_since(show).as_micros() as i128),
        };
        i64::try_from(shown - captured).ok()
    }

    /// The delays to use from now on. Call it when frames were played, as often as you like.
    pub fn update(&mut self, now: Instant) -> SyncDelays {
        let recently = self
            .last_change
            .is_some_and(|last| now.saturating_duration_since(last) < Self::INTERVAL);
        let Some(apart) = self.apart() else {
            return self.delays;
        };
        let smoothed = self.apart.map_or(apart, |before| (before * 3 + apart) / 4);
        self.apart = Some(smoothed);
        if recently || smoothed.abs() < Self::TOLERANCE || smoothed.abs() > Self::MAX_DELAY {
            return self.delays;
        }
        self.last_change = Some(now);
        self.apart = None;
        let step = (smoothed / 2).clamp(-Self::MAX_STEP, Self::MAX_STEP);
        let amount = Duration::from_micros(step.unsigned_abs());
        let limit = Duration::from_micros(Self::MAX_DELAY as u64);
        // First take back what the later stream was delayed, then delay the other.
        let (late, early) = match step > 0 {
            true => (&mut self.delays.video, &mut self.delays.audio),
            false => (&mut self.delays.audio, &mut self.delays.video),
        };
        let back = amount.min(*late);
        *late -= back;
        *early = (*early + (amount - back)).min(limit);
        self.delays
    }
}

impl Default for AvSync {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capture_times_follow_from_reports() {
        let mut clock = SenderClock::new(48_000);
        assert_eq!(clock.captured(5), None);
        clock.handle_sender_report(&SenderInfo {
            ntp: NtpTime(100 << 32),
            rtp_timestamp: 10,
            ..SenderInfo::default()
        });
        assert_eq!(clock.captured(24_010), Some(NtpTime(100 << 32 | 1 << 31)));
        let before = clock.captured(10u32.wrapping_sub(48_000));
        assert_eq!(before, Some(NtpTime(99 << 32)));
    }

    /// The picture is shown 200 ms after its sound: the sound is delayed, in steps that are not heard,
    /// until they are together; then the picture's delay shrinks, and the sound follows.
    #[test]
    fn streams_come_together() {
        let start = Instant::now();
        let mut sync = AvSync::new();
        let mut delays = SyncDelays::default();
        let mut run = |video_base: u64, seconds: std::ops::Range<u64>| {
            for second in seconds {
                let captured = NtpTime((1000 + second) << 32);
                let at = start + Duration::from_secs(second);
                sync.audio(captured, at + Duration::from_millis(50) + delays.audio);
                sync.video(
                    captured,
                    at + Duration::from_millis(video_base) + delays.video,
                );
                let before = delays;
                delays = sync.update(at);
                let step =
                    delays.audio.abs_diff(before.audio) + delays.video.abs_diff(before.video);
                assert!(step <= Duration::from_millis(80));
            }
            (sync.apart().unwrap(), delays)
        };
        let (apart, delays) = run(250, 0..20);
        assert!(apart.abs() <= 30_000, "{apart}");
        assert!(delays.audio >= Duration::from_millis(160) && delays.video.is_zero());
        let (apart, delays) = run(100, 20..60);
        assert!(apart.abs() <= 30_000, "{apart}");
        assert!(delays.audio <= Duration::from_millis(80), "{delays:?}");
        assert!(delays.video.is_zero());
    }
}
