//! Key presses between the packets of the application (W3C `RTCDTMFSender`).

use std::time::{Duration, Instant};

use visavis_media::send::OutgoingPacket;
use visavis_rtp::PayloadType;

use super::Outbound;
use super::stream::{Stream, Tones};
use crate::error::Error;
use crate::media::dtmf::{self, Dtmf, Step};
use crate::transceiver::TransceiverId;

impl Tones {
    pub(super) fn due(&self) -> Option<Instant> {
        self.playing.as_ref().map(Dtmf::due)
    }
}

impl Outbound {
    /// W3C `canInsertDTMF` and `insertDTMF`.
    pub(in crate::media) fn insert_dtmf(
        &mut self,
        now: Instant,
        id: TransceiverId,
        tones: &str,
        duration: Duration,
        gap: Duration,
    ) -> Result<(), Error> {
        let stream = self
            .streams
            .iter_mut()
            .flatten()
            .find(|stream| stream.transceiver == id && stream.active)
            .filter(|stream| stream.event_codec().is_some() && stream.packets.latest().is_some())
            .ok_or_else(|| Error::state("tones cannot be sent"))?;
        let dtmf = Dtmf::new(now, tones, duration, gap)?;
        stream.tones.playing = (!tones.is_empty()).then_some(dtmf);
        Ok(())
    }

    /// W3C `toneBuffer`.
    pub(in crate::media) fn tone_buffer(&self, id: TransceiverId) -> String {
        self.streams
            .iter()
            .flatten()
            .filter(|stream| stream.transceiver == id)
            .find_map(|stream| stream.tones.playing.as_ref().map(Dtmf::buffer))
            .unwrap_or_default()
    }

    /// Plays what is due; tells each tone.
    pub(in crate::media) fn play_tones(
        &mut self,
        now: Instant,
        tell: &mut impl FnMut(TransceiverId, String),
    ) {
        for index in 0..self.streams.len() {
            while let Some(stream) = &mut self.streams[index] {
                let id = stream.transceiver;
                let playing = stream.tones.playing.as_mut();
                let Some(step) = playing.and_then(|dtmf| dtmf.step(now)) else {
                    break;
                };
                match step {
                    Step::Tell(tone) => tell(id, tone),
                    Step::Done => {
                        stream.tones.playing = None;
                        tell(id, String::new());
                    }
                    Step::Packet {
                        event,
                        first,
                        end,
                        lasted,
                    } => {
                        if let Some(sequence) = stream.send_event(now, event, first, end, lasted) {
                            self.queue(now, index, sequence);
                        }
                    }
                }
            }
        }
    }
}

impl Stream {
    /// Stores an event's packet; its extended number. What is not sent is said by the next packet.
    fn send_event(
        &mut self,
        now: Instant,
        event: u8,
        first: bool,
        end: bool,
        lasted: Duration,
    ) -> Option<u64> {
        let codec = self.event_codec()?;
        let payload_type = PayloadType::new(codec.payload_type)?;
        // Timestamps go on in the clock of the sound; an event counts its length in its own.
        let ticks = (lasted.as_secs_f64() * f64::from(codec.clock_rate)).min(65_535.0) as u16;
        let rate = f64::from(self.clock_rate());
        let (timestamp, at) = self.packets.latest()?;
        if first {
            let passed = now.saturating_duration_since(at).as_secs_f64() * rate;
            self.tones.timestamp = timestamp.wrapping_add(passed as u64 as u32);
        }
        let packet = OutgoingPacket {
            payload_type,
            marker: first,
            sequence: self.packets.next_sequence(),
            timestamp: self.tones.timestamp,
            payload: &dtmf::payload(event, end, ticks),
            ..OutgoingPacket::default()
        };
        let sequence = self.packets.send_packet(now, &packet).ok()?;
        self.tones.inserted = self.tones.inserted.wrapping_add(1);
        Some(sequence)
    }
}
