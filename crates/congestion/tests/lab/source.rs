//! The media source of RFC 8867 section 4.3: video frames that follow a rate, and constant audio.

use std::time::{Duration, Instant};

use visavis_datagram::Random;

/// Bits per second of audio, and its packets' payload in bytes.
pub const AUDIO_RATE: u64 = 20_000;
pub const AUDIO_PAYLOAD: usize = 50;
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const FRAME_INTERVAL: Duration = Duration::from_micros(33_333);
/// The largest payload of a video packet.
pub const VIDEO_PAYLOAD: usize = 1160;
/// The encoder follows a new rate so late ("responsiveness").
const RESPONSE: Duration = Duration::from_millis(100);
/// The least that the encoder gives, in bits per second.
const LEAST: u64 = 150_000;
/// Variation of the frames' sizes.
const VARIATION: f64 = 0.05;

/// One packet of media.
#[derive(Debug, Clone, Copy)]
pub struct Media {
    pub audio: bool,
    pub payload: usize,
    /// Whether it is the last of its frame.
    pub last: bool,
}

#[derive(Debug)]
pub struct Source {
    max: u64,
    rate: u64,
    wanted: Vec<(Instant, u64)>,
    next_audio: Option<Instant>,
    next_frame: Option<Instant>,
    frame_left: usize,
    audio_due: bool,
    random: Random,
}

impl Source {
    pub fn new(seed: u64, max: u64) -> Self {
        Self {
            max,
            rate: LEAST,
            wanted: Vec::new(),
            next_audio: None,
            next_frame: None,
            frame_left: 0,
            audio_due: false,
            random: Random::from_u64(seed),
        }
    }

    pub fn set_active(&mut self, now: Instant, active: bool) {
        let next = active.then_some(now);
        self.next_audio = next;
        self.next_frame = next;
        self.frame_left = 0;
        self.audio_due = false;
    }

    /// Tells the encoder how much everything together may send.
    pub fn set_target(&mut self, now: Instant, target: u64) {
        let video = target
            .saturating_sub(AUDIO_RATE + 12_000)
            .max(LEAST)
            .min(self.max);
        if self.wanted.last().is_none_or(|last| last.1 != video) {
            self.wanted.push((now, video));
        }
    }

    /// Stops the video, or lets it go on, at its highest rate.
    pub fn set_video(&mut self, now: Instant, flows: bool) {
        if flows != self.next_frame.is_some() {
            self.next_frame = flows.then_some(now);
            self.rate = self.max;
            self.wanted.clear();
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.next_audio, self.next_frame]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let followed = self
            .wanted
            .iter()
            .take_while(|(since, _)| now.saturating_duration_since(*since) >= RESPONSE)
            .count();
        if followed > 0 {
            self.rate = self.wanted[followed - 1].1;
            self.wanted.drain(..followed);
        }
        if let Some(next) = self.next_audio
            && next <= now
        {
            self.audio_due = true;
            self.next_audio = Some(next + AUDIO_INTERVAL);
        }
        if let Some(next) = self.next_frame
            && next <= now
        {
            let variation = 1.0 + VARIATION * (2.0 * self.random.unit() - 1.0);
            let bytes = self.rate as f64 / 8.0 * FRAME_INTERVAL.as_secs_f64() * variation;
            self.frame_left += bytes as usize;
            self.next_frame = Some(next + FRAME_INTERVAL);
        }
    }

    /// The next packet of what is due.
    pub fn poll(&mut self) -> Option<Media> {
        if std::mem::take(&mut self.audio_due) {
            return Some(Media {
                audio: true,
                payload: AUDIO_PAYLOAD,
                last: true,
            });
        }
        if self.frame_left == 0 {
            return None;
        }
        let payload = self.frame_left.min(VIDEO_PAYLOAD);
        self.frame_left -= payload;
        Some(Media {
            audio: false,
            payload,
            last: self.frame_left == 0,
        })
    }
}
