//! The path of a packet: from a publisher into its track's history, and to those who hand it on.

use std::time::Instant;

use bytes::Bytes;
use visavis_peer::{Kind, ReceivedRtp};
use visavis_rtp::Packet;
use visavis_rtp::payload::Codec;
use visavis_rtp::payload::red::RedBlocks;
use visavis_rtp::rtcp::SenderInfo;

use super::Worker;
use super::fanout::{Arrived, Origin};
use super::timers::Due;
use super::track::{Encoding, Variant, VariantCodec, audio_level};
use crate::events::Event;
use crate::tap::TapPacket;

impl Worker {
    /// A publisher's packet, unprotected.
    pub(super) fn receive_rtp(
        &mut self,
        now: Instant,
        slot: usize,
        rtp: &ReceivedRtp,
        datagram: &[u8],
    ) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let input = connection.inputs.get(rtp.transceiver.get() as usize);
        let Some(&Some((track, variant))) = input else {
            return;
        };
        let Some(bytes) = datagram.get(rtp.packet.clone()) else {
            return;
        };
        let Ok(packet) = Packet::parse(bytes) else {
            return;
        };
        self.stats.received += 1;
        let Some(found) = self
            .tracks
            .get_mut(track)
            .and_then(|track| track.variants.get_mut(variant))
        else {
            return;
        };
        let encoding = found.encoding_of(rtp.encoding);
        let payload_type = packet.payload_type().value();
        let known = found.codec.as_ref().is_some_and(|codec| {
            codec.payload_type == payload_type || codec.red == Some(payload_type)
        });
        if !known && !self.learn_codec(now, slot, rtp, track, variant, payload_type) {
            return;
        }
        self.ingest(now, track, variant, encoding, &packet, None);
    }

    /// A payload type that the variant did not bring before; false if nothing of it is forwarded.
    fn learn_codec(
        &mut self,
        now: Instant,
        slot: usize,
        rtp: &ReceivedRtp,
        track: usize,
        variant: usize,
        payload_type: u8,
    ) -> bool {
        let Some(connection) = self.connections.get(slot) else {
            return false;
        };
        let Some(transceiver) = connection.peer.transceiver(rtp.transceiver) else {
            return false;
        };
        let codecs = &transceiver.receiver.codecs;
        let Some(found) = codecs
            .iter()
            .find(|codec| codec.payload_type == payload_type)
        else {
            return false;
        };
        let red = codecs.iter().find(|codec| codec.is("red"));
        // Redundant sound says by its parameters what it holds.
        let (media, red) = if found.is("red") {
            let inner = found
                .fmtp
                .split('/')
                .next()
                .and_then(|inner| inner.trim().parse::<u8>().ok());
            let held = codecs
                .iter()
                .find(|codec| Some(codec.payload_type) == inner || codec.is("opus"));
            (held, Some(payload_type))
        } else {
            let red = red.filter(|_| found.is("opus"));
            (Some(found), red.map(|red| red.payload_type))
        };
        let Some(media) = media.filter(|media| !media.is_auxiliary()) else {
            return false;
        };
        let Some(codec) = Codec::from_name(&media.name) else {
            return false;
        };
        let codec = VariantCodec {
            codec,
            payload_type: media.payload_type,
            red,
            name: media.name.as_str().into(),
            peer: media.clone(),
        };
        let Some(found) = self
            .tracks
            .get_mut(track)
            .and_then(|track| track.variants.get_mut(variant))
        else {
            return false;
        };
        let same = found.codec.as_ref().is_some_and(|old| {
            old.peer.matches(&codec.peer) && old.payload_type == codec.payload_type
        });
        if same {
            // Only the payload type of redundancy was learned.
            found.codec = Some(codec);
            self.describe_to_followers(track, variant);
            return true;
        }
        found.codec = Some(codec);
        found.generation = found.generation.wrapping_add(1);
        self.describe_to_followers(track, variant);
        self.follow_variant(now, track);
        true
    }

    /// Takes a packet of an encoding: from its publisher, or from the worker that had it from there and counted it
    /// (`counted`), so that all workers know it by one number.
    pub(super) fn ingest(
        &mut self,
        now: Instant,
        track_slot: usize,
        variant_index: usize,
        encoding_index: u8,
        packet: &Packet<'_>,
        counted: Option<u64>,
    ) {
        let Some(track) = self.tracks.get_mut(track_slot) else {
            return;
        };
        let Some(variant) = track.variants.get_mut(variant_index) else {
            return;
        };
        let Some(codec) = &variant.codec else {
            return;
        };
        let (codec_kind, red) = (codec.codec, codec.red);
        let is_red = red == Some(packet.payload_type().value());
        let ssrc = packet.ssrc().0;
        let place = usize::from(encoding_index);
        if variant.encodings[place].is_none() {
            let made = Encoding::new(
                now,
                variant.rid_of(encoding_index),
                ssrc,
                &self.settings.limits,
                &self.settings.forwarding,
            );
            let event = Event::MediaFlowing {
                track: track.id,
                codec: codec.name.to_string(),
                encoding: encoding_index,
                rid: made.rid.clone(),
            };
            variant.encodings[place] = Some(Box::new(made));
            for &(connection, _) in &track.subscribers {
                if let Some(connection) = self.connections.get_mut(connection) {
                    connection.allocate_at = Some(now);
                    connection.needs_schedule = true;
                }
            }
            if variant.feed.is_some() {
                self.events.push_back(event);
            }
        }
        let Variant {
            encodings,
            extensions,
            generation,
            ..
        } = variant;
        let generation = *generation;
        let Some(encoding) = encodings[place].as_deref_mut() else {
            return;
        };
        if encoding.ssrc != ssrc {
            // The publisher began anew: its numbers have nothing in common with the old ones.
            let Some(variant) = track.variants.get_mut(variant_index) else {
                return;
            };
            variant.generation = variant.generation.wrapping_add(1);
            let made = Encoding::new(
                now,
                variant.rid_of(encoding_index),
                ssrc,
                &self.settings.limits,
                &self.settings.forwarding,
            );
            variant.encodings[place] = Some(Box::new(made));
            self.follow_variant(now, track_slot);
            return self.ingest(
                now,
                track_slot,
                variant_index,
                encoding_index,
                packet,
                counted,
            );
        }
        let Some(info) = encoding.inspect(packet, codec_kind, is_red, extensions) else {
            self.stats.malformed += 1;
            return;
        };
        let sequence = match counted {
            Some(counted) => counted,
            None => encoding.extender.extend(packet.sequence()),
        };
        // What another worker had before was measured, tapped and handed to followers there, even if the track is here now.
        let is_first = counted.is_none();
        let bytes = packet.as_bytes();
        encoding.history.insert(now, sequence, bytes);
        encoding.packets += 1;
        encoding.last_packet = now;
        let is_padding = packet.payload().is_empty();
        if !is_padding {
            encoding
                .rates
                .add(now, info.spatial_id, info.temporal_id, bytes.len());
        }
        let begins_key = info.keyframe && info.start_of_frame && info.spatial_id == 0;
        if begins_key {
            encoding.keyframe.satisfied();
        }
        let kind = track.id.kind();
        if kind == Kind::Audio
            && is_first
            && !track.muted
            && let Some(level) = audio_level(packet, extensions)
        {
            track.level.add(now, level.level, &self.settings.forwarding);
        }
        if is_first && !track.taps.is_empty() {
            let name = variant.codec.as_ref().map(|codec| &codec.name);
            let given = TapPacket {
                at: now,
                encoding: encoding_index,
                codec: name.cloned().unwrap_or_else(|| "".into()),
                sequence,
                timestamp: packet.timestamp(),
                marker: packet.marker(),
                ntp: encoding.report.as_ref().and_then(|report| {
                    let rate = variant.codec.as_ref()?.peer.clock_rate;
                    Some(wall_clock(report, packet.timestamp(), rate))
                }),
                payload: Bytes::copy_from_slice(plain_payload(packet, is_red)),
            };
            let stats = &mut self.stats;
            track.taps.retain(|tap| {
                if !tap.give(given.clone()) {
                    stats.tap_dropped += 1;
                }
                !tap.is_closed()
            });
        }
        if is_first && !track.followers.is_empty() {
            self.links.forward(
                &track.followers,
                track.id,
                (variant_index as u8, encoding_index),
                sequence,
                bytes,
            );
        }
        if track.muted {
            return;
        }
        self.arrived(Arrived {
            at: now,
            origin: Origin {
                track: track_slot,
                variant: variant_index as u8,
                generation,
            },
            encoding: encoding_index,
            sequence,
            header: packet.header(),
            size: bytes.len(),
            info,
            begins_key,
        });
    }

    /// Somebody needs a key frame of an encoding.
    pub(super) fn want_keyframe(
        &mut self,
        now: Instant,
        track_slot: usize,
        variant: usize,
        encoding: u8,
    ) {
        let Some(found) = self
            .tracks
            .get_mut(track_slot)
            .and_then(|track| track.variants.get_mut(variant))
            .and_then(|variant| variant.encoding_mut(encoding))
        else {
            return;
        };
        found.keyframe.want();
        self.chase_keyframes(now, track_slot);
    }

    /// Asks the publisher for the key frames that are due, and comes back for those that are not.
    pub(super) fn chase_keyframes(&mut self, now: Instant, track_slot: usize) {
        let Some(track) = self.tracks.get_mut(track_slot) else {
            return;
        };
        let mut again = None;
        let mut asked: smallvec::SmallVec<[usize; 4]> = smallvec::SmallVec::new();
        for (index, variant) in track.variants.iter_mut().enumerate() {
            let Variant {
                feed,
                order,
                encodings,
                rids,
                ..
            } = variant;
            for (at, encoding) in encodings.iter_mut().enumerate() {
                let Some(encoding) = encoding else {
                    continue;
                };
                if encoding.keyframe.poll(now).is_some() {
                    match *feed {
                        Some((connection_slot, transceiver)) => {
                            let rid = order.iter().position(|&found| usize::from(found) == at);
                            let rid = rid.filter(|_| !rids.is_empty());
                            if let Some(connection) = self.connections.get_mut(connection_slot) {
                                connection.peer.request_key_frame(now, transceiver, rid);
                                asked.push(connection_slot);
                            }
                        }
                        None => {
                            let (home, id) = (track.home, track.id);
                            self.links.want_keyframe(home, id, index as u8, at as u8);
                        }
                    }
                }
                again = [again, encoding.keyframe.poll_timeout()]
                    .into_iter()
                    .flatten()
                    .min();
            }
        }
        if let Some(again) = again {
            self.timers
                .set(&mut track.alarm, again, Due::Track(track_slot));
        }
        for slot in asked {
            self.touch(slot);
        }
    }

    /// A publisher's sender report: every subscriber gets its own.
    pub(super) fn source_report(
        &mut self,
        now: Instant,
        track_slot: usize,
        variant_index: usize,
        encoding_index: u8,
        info: &SenderInfo,
    ) {
        let Some(track) = self.tracks.get_mut(track_slot) else {
            return;
        };
        let Some(encoding) = track
            .variants
            .get_mut(variant_index)
            .and_then(|variant| variant.encoding_mut(encoding_index))
        else {
            return;
        };
        encoding.report = Some(*info);
        if !track.followers.is_empty() {
            self.links.report(
                &track.followers,
                track.id,
                variant_index as u8,
                encoding_index,
                info,
            );
        }
        let subscribers = std::mem::take(&mut track.subscribers);
        for &(slot, key) in &subscribers {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            let Some(subscription) = connection.subscriptions.get_mut(key) else {
                continue;
            };
            if usize::from(subscription.variant) != variant_index {
                continue;
            }
            let Some(outgoing) = subscription.sender_report(now, encoding_index, info) else {
                continue;
            };
            let mut buffer = [0; 256];
            let mut writer = visavis_rtp::rtcp::RtcpWriter::new(&mut buffer);
            let written = writer
                .sender_report(&outgoing, &[])
                .and_then(|()| writer.cname(outgoing.ssrc, subscription.cname.as_bytes()));
            if written.is_ok() {
                connection.peer.send_rtcp(now, writer.as_slice());
                connection.has_own = true;
                self.send_from(slot);
            }
        }
        if let Some(track) = self.tracks.get_mut(track_slot) {
            track.subscribers = subscribers;
        }
    }
}

/// The publisher's wall clock at an RTP timestamp.
fn wall_clock(report: &SenderInfo, timestamp: u32, rate: u32) -> visavis_rtp::NtpTime {
    let ticks = timestamp.wrapping_sub(report.rtp_timestamp) as i32;
    let step = (i128::from(ticks) << 32) / i128::from(rate.max(1));
    visavis_rtp::NtpTime(report.ntp.0.wrapping_add(step as u64))
}

/// The payload without redundancy.
fn plain_payload<'a>(packet: &Packet<'a>, is_red: bool) -> &'a [u8] {
    if !is_red {
        return packet.payload();
    }
    RedBlocks::parse(packet.payload())
        .ok()
        .and_then(RedBlocks::primary)
        .map_or(packet.payload(), |block| block.payload)
}
