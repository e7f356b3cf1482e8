//! What peers say by RTCP: of what was sent to them, and of what they send.

use std::time::Instant;

use visavis_congestion::PacketKind;
use visavis_peer::Kind;
use visavis_rtp::SequenceNumber;
use visavis_rtp::rtcp::{Compound, ReportBlock, Rtcp, SenderInfo};

use super::Worker;
use super::egress::{Token, What};

/// Packets that one NACK message may ask for; what is beyond is a key frame's work.
const MOST_NACKED: usize = 256;

impl Worker {
    /// Reads a compound packet of a connection's peer.
    pub(super) fn receive_rtcp(&mut self, now: Instant, slot: usize, compound: &[u8]) {
        for packet in Compound::new(compound) {
            let Ok(packet) = packet else {
                self.stats.malformed_rtcp += 1;
                continue;
            };
            match packet {
                Rtcp::SenderReport(report) => {
                    self.publisher_report(now, slot, &report.info);
                    for block in report.blocks() {
                        self.report_block(now, slot, &block);
                    }
                }
                Rtcp::ReceiverReport(report) => {
                    for block in report.blocks() {
                        self.report_block(now, slot, &block);
                    }
                }
                Rtcp::Nack(nack) => {
                    let sequences = nack.sequences().take(MOST_NACKED);
                    self.resend(now, slot, nack.media.0, sequences);
                }
                Rtcp::Pli(pli) => self.picture_lost(now, slot, pli.media.0),
                Rtcp::Fir(fir) => {
                    for entry in fir.entries() {
                        self.picture_lost(now, slot, entry.ssrc.0);
                    }
                }
                Rtcp::TransportFeedback(feedback) => {
                    if let Some(connection) = self.connections.get_mut(slot) {
                        let results = &mut self.results;
                        connection.egress.feedback(now, &feedback, results);
                        connection.follow_estimate(now);
                    }
                }
                Rtcp::Remb(remb) => {
                    if let Some(connection) = self.connections.get_mut(slot) {
                        connection.egress.remb(now, remb.bitrate);
                        connection.follow_estimate(now);
                    }
                }
                _ => {}
            }
        }
    }

    /// A publisher's sender report.
    fn publisher_report(&mut self, now: Instant, slot: usize, info: &SenderInfo) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let found = connection
            .inputs
            .iter()
            .flatten()
            .find_map(|&(track, index)| {
                let variant = self.tracks.get(track)?.variants.get(index)?;
                let place = variant.encodings.iter().position(|encoding| {
                    encoding
                        .as_ref()
                        .is_some_and(|encoding| encoding.ssrc == info.ssrc.0)
                })?;
                Some((track, index, place as u8))
            });
        if let Some((track, variant, encoding)) = found {
            self.source_report(now, track, variant, encoding, info);
        }
    }

    fn report_block(&mut self, now: Instant, slot: usize, block: &ReportBlock) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let key = connection.sources.get(&block.ssrc.0).copied();
        let Some(subscription) = key.and_then(|key| connection.subscriptions.get_mut(key)) else {
            return;
        };
        if block.ssrc.0 != subscription.ssrc {
            return;
        }
        let trip = subscription.report_block(now, block);
        if let Some(trip) = trip {
            connection.round_trip = Some(trip);
        }
        let loss = f64::from(block.fraction_lost) / 256.0;
        connection.loss = 0.7 * connection.loss + 0.3 * loss;
        connection.egress.receiver_report(now, loss, trip);
    }

    /// A subscriber misses packets.
    fn resend(
        &mut self,
        now: Instant,
        slot: usize,
        ssrc: u32,
        sequences: impl Iterator<Item = SequenceNumber>,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(&key) = connection.sources.get(&ssrc) else {
            return;
        };
        let Some(subscription) = connection.subscriptions.get_mut(key) else {
            return;
        };
        if ssrc != subscription.ssrc || !subscription.can_resend() {
            return;
        }
        for sequence in sequences {
            let Some(forwarder) = &subscription.forwarder else {
                return;
            };
            let Some((encoding, source, rewrite)) = forwarder.handle_nack(sequence) else {
                continue;
            };
            if !subscription.may_resend(now, sequence.0) {
                continue;
            }
            let size = self
                .tracks
                .get(subscription.track)
                .and_then(|track| track.variants.get(usize::from(subscription.variant)))
                .and_then(|variant| variant.encoding(encoding))
                .and_then(|encoding| encoding.history.get(source))
                .map(<[u8]>::len);
            let Some(size) = size else {
                continue;
            };
            let token = Token {
                subscription: key as u32,
                generation: subscription.generation,
                variant: subscription.variant,
                encoding,
                what: What::Again,
                source,
                rewrite,
            };
            // A full queue drops it, and it is asked for again.
            connection
                .egress
                .push(now, token, size, PacketKind::Retransmission);
        }
    }

    /// A subscriber cannot go on without a key frame.
    fn picture_lost(&mut self, now: Instant, slot: usize, ssrc: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let key = connection.sources.get(&ssrc).copied();
        let Some(subscription) = key.and_then(|key| connection.subscriptions.get(key)) else {
            return;
        };
        let Some(forwarder) = &subscription.forwarder else {
            return;
        };
        let layer = forwarder.current().or(forwarder.target());
        let (track, variant) = (subscription.track, subscription.variant);
        if subscription.kind == Kind::Video
            && let Some(layer) = layer
        {
            self.want_keyframe(now, track, usize::from(variant), layer.encoding);
        }
    }
}
